{{ config(
    materialized='incremental',
    incremental_strategy='replace_keys',
    unique_key=['source', 'instrument', 'session'],
    on_schema_change='fail',
    pre_hook=[
        "{{ drop_rows_kept_out('session') }}",
        "{{ drop_rows_kept_out('previous_session') }}",
        "{{ drop_returns_across() }}",
        "{{ join_by_hashing() }}",
    ],
    indexes=[
        {'columns': ['source', 'instrument', 'session'], 'unique': true},
        {'columns': ['source', 'session']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{%- if is_incremental() %}
{%- set arrived %}select * from {{ ref('prices') }} r where {{ since_last_build('r') }}{% endset %}
{%- set recent = build_bounds(arrived).recent %}
{%- endif %}
with
{% if is_incremental() -%}
changed as materialized (
    {{- changed_from(arrived) }}
),

-- Each instrument's own sessions, and the bar before the first changed one, to return from. Of an ordinary day, of which
-- most have a bar and had one the session before, both are read by their days, side by side, and not one by one.
of_most as materialized (
    select * from {{ ref('prices') }}
    where source = any(array(select distinct source from changed)) and session >= {{ recent }} and known_to is null
),

days_before as materialized (
    select s.source, max(b.session) as session
    from (select distinct source from changed) s
    cross join lateral (
        select * from {{ ref('prices') }} b
        where b.source = s.source and b.session < {{ recent }} order by b.session desc limit 1
    ) b
    group by s.source
),

day_before as materialized (
    select p.*
    from {{ ref('prices') }} p
    join days_before d on d.source = p.source and d.session = p.session
    where p.known_to is null
        -- As arrays, they reach the index; as a join they would not.
        and p.source = any(array(select source from days_before))
        and p.session = any(array(select session from days_before))
),

others as materialized (
    select c.*
    from changed c
    left join day_before p on p.source = c.source and p.instrument = c.instrument
    where c.from_session <> {{ recent }} or p.source is null
),

current_prices as (
    select p.*, c.from_session
    from of_most p
    join changed c on c.source = p.source and c.instrument = p.instrument and p.session >= c.from_session
    where c.from_session >= {{ recent }}
    union all
    select p.*, c.from_session
    from changed c
    cross join lateral (
        select * from {{ ref('prices') }} p
        where p.source = c.source and p.instrument = c.instrument and p.session >= c.from_session
            and p.known_to is null
        offset 0
    ) p
    where c.from_session < {{ recent }}
    union all
    select p.*, c.from_session
    from day_before p
    join changed c on c.source = p.source and c.instrument = p.instrument
    where c.from_session = {{ recent }}
    union all
    select p.*, c.from_session
    from others c
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
