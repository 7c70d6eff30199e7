{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['source', 'instrument', 'session'],
    on_schema_change='fail',
    pre_hook=[
        "{{ join_by_hashing() }}",
        "{{ drop_rows_kept_out('session') }}",
        "{{ drop_rows_kept_out('previous_session') }}",
    ],
    indexes=[
        {'columns': ['source', 'instrument', 'session'], 'unique': true},
        {'columns': ['source', 'session']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{%- if is_incremental() %}
{%- set arrived %}
        select r.source, r.instrument, r.session, r.batch_id from {{ ref('prices') }} r where {{ since_last_build('r') }}
{%- endset %}
{%- set bounds = build_bounds(arrived) %}
{%- endif %}
with
{% if is_incremental() -%}
changed as materialized (
    {{- changed_from(arrived) }}
),

-- The bar before the first changed one is needed too, to return from.
current_prices as (
    select p.*, c.from_session
    from changed c
    join {{ ref('prices') }} p
        on p.source = c.source and p.instrument = c.instrument and p.session >= c.from_session
    where p.known_to is null and p.session >= {{ bounds.since }}
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
{%- if is_incremental() %} and session >= from_session {%- endif %}
