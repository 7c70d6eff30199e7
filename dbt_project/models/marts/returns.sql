{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['source', 'instrument', 'session'],
    on_schema_change='fail',
    pre_hook="{{ drop_rows_kept_out('session') }}",
    indexes=[
        {'columns': ['source', 'instrument', 'session'], 'unique': true},
        {'columns': ['source', 'session']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{%- if is_incremental() %}
{%- set arrived %}
        select r.source, r.instrument, r.session from {{ ref('prices') }} r where {{ since_last_build('r') }}
{%- endset %}
{%- endif %}
with
{% if is_incremental() -%}
changed as (
    select source, instrument, min(session) as from_session
    from ({{ arrived }}
    ) arrived
    group by source, instrument
),

-- The bar before the first changed one is needed too, to return from.
slices as materialized (
    select
        c.source,
        c.instrument,
        c.from_session,
        coalesce((
            select max(p.session) from {{ ref('prices') }} p
            where p.source = c.source and p.instrument = c.instrument and p.session < c.from_session
        ), c.from_session) as read_from
    from changed c
),

{% endif -%}
bars as (
    select
        p.*,
        lag(p.session) over bar as previous_session,
        lag(p.close) over bar as previous_close,
        lag(p.known_from) over bar as previous_known_from,
        lag(p.batch_id) over bar as previous_batch_id
        {%- if is_incremental() %},
        s.from_session
        {%- endif %}
    from {{ ref('prices') }} p
    {%- if is_incremental() %}
    join slices s on s.source = p.source and s.instrument = p.instrument and p.session >= s.read_from
    {%- endif %}
    where p.known_to is null
    window bar as (partition by p.source, p.instrument order by p.session)
)

select
    source,
    instrument,
    session,
    previous_session,
    (close + dividend) * split_ratio / previous_close - 1 as total_return,
    greatest(known_from, previous_known_from) as known_from,
    greatest(batch_id, previous_batch_id) as batch_id
from bars
where previous_close is not null
{%- if is_incremental() %} and session >= from_session {%- endif %}
