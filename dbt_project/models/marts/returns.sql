{{ config(
    materialized='incremental',
    incremental_strategy='replace_keys',
    unique_key=['source', 'instrument', 'session'],
    on_schema_change='fail',
    pre_hook=[
        "{{ drop_rows_kept_out('session') }}",
        "{{ drop_rows_kept_out('previous_session') }}",
        "{{ drop_returns_across() }}",
    ],
    indexes=[
        {'columns': ['source', 'instrument', 'session'], 'unique': true},
        {'columns': ['source', 'session']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
with
{% if is_incremental() -%}
changed as materialized (
    {{- changed_from("select * from " ~ ref('prices') ~ " r where " ~ since_last_build('r')) }}
),

-- Each instrument's own sessions, and the bar before the first changed one, to return from.
current_prices as (
    select p.*, c.from_session
    from changed c
    cross join lateral (
        select * from {{ ref('prices') }} p
        where p.source = c.source and p.instrument = c.instrument and p.session >= c.from_session
            and p.known_to is null
        offset 0
    ) p
    union all
    select p.*, c.from_session
    from changed c
    cross join lateral (
        select * from {{ ref('prices') }} p
        where p.source = c.source and p.instrument = c.instrument and p.session < c.from_session
            and p.known_to is null
        order by p.session desc
        limit 1
    ) p
),

{% else -%}
current_prices as (
    select * from {{ ref('prices') }} where known_to is null
),

{% endif -%}
bars as (
    select
        *,
        lag(session) over bar as previous_session,
        lag(close) over bar as previous_close,
        lag(known_from) over bar as previous_known_from,
        lag(batch_id) over bar as previous_batch_id
    from current_prices
    window bar as (partition by source, instrument order by session)
),

passed_on as (
    {{- passed_on() }}
)

select
    source,
    instrument,
    session,
    previous_session,
    (close + dividend + spin_off) * split_ratio / previous_close - 1 as total_return,
    greatest(known_from, previous_known_from) as known_from,
    greatest(batch_id, previous_batch_id) as batch_id
from bars
where previous_close is not null
    and not exists (select from passed_on p where {{ returns_across('bars', 'p') }})
{%- if is_incremental() %} and session >= from_session {%- endif %}
