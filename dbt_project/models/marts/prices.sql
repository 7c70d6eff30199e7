-- depends_on: {{ ref('stg_instruments') }}, {{ ref('stg_bars') }}, {{ ref('stg_corporate_actions') }}
-- depends_on: {{ ref('int_bars') }}, {{ ref('int_session_actions') }}
{{ config(
    materialized='incremental',
    incremental_strategy='replace_keys',
    unique_key=['source', 'instrument', 'session'],
    on_schema_change='fail',
    pre_hook="{{ join_much_by_hashing() }}",
    indexes=[
        {'columns': ['source', 'instrument', 'session', 'known_from'], 'unique': true},
        {'columns': ['source', 'session']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{%- if is_incremental() %}
{%- set new = since_last_build('r') %}
{%- set arrived %}
        select r.source, r.instrument, r.session, r.batch_id from {{ source('raw', 'bars') }} r where {{ new }}
        union all
        select r.source, r.instrument, r.session, r.batch_id from {{ source('raw', 'bar_verdicts') }} r where {{ new }}
        union all
        select r.source, r.instrument, r.session, r.batch_id from {{ source('raw', 'corporate_actions') }} r where {{ new }}
        union all
        select r.source, r.instrument, r.session, r.batch_id from {{ source('raw', 'action_verdicts') }} r where {{ new }}
{%- for table in ('bars', 'bar_verdicts') %}
        union all
        {{- spin_offs_of("select * from " ~ source('raw', table) ~ " r where " ~ new) }}
{%- endfor %}
{%- endset %}
{%- set bounds = build_bounds(arrived) %}
{%- endif %}
with
{% if is_incremental() -%}
changed as materialized (
    {{- changed_from("select * from (" ~ arrived ~ ") arrived where batch_id <= " ~ bounds.last_batch) }}
),

{% endif -%}
bars as (
    {%- if is_incremental() %}
    select b.*
    from ({{ seen_bars(bounds.recent) }}) b
    join changed c on c.source = b.source and c.instrument = b.instrument and b.session >= c.from_session
    -- As arrays, the names reach the key of the raw table; as a join they would not.
    where b.source = any(array(select source from changed)) and b.instrument = any(array(select instrument from changed))
    {%- if bounds.since != bounds.recent %}
    union all
    select b.*
    from ({{ seen_bars(bounds.since) }}) b
    join changed c on c.source = b.source and c.instrument = b.instrument and b.session >= c.from_session
    where b.session < {{ bounds.recent }} and b.source = any(array(select source from changed))
        and b.instrument = any(array(select instrument from changed where from_session < {{ bounds.recent }}))
    {%- endif %}
    {%- else %}
    select * from {{ ref('int_bars') }}
    {%- endif %}
),

actions as (
    {%- if is_incremental() %}
    {{ session_actions(bounds.since, bounds.recent) }}
    {%- else %}
    select * from {{ ref('int_session_actions') }}
    {%- endif %}
)

select
    b.source,
    b.instrument,
    b.session,
    b.open,
    b.high,
    b.low,
    b.close,
    b.volume,
    coalesce(a.split_ratio, 1)::double precision as split_ratio,
    coalesce(a.dividend, 0)::double precision as dividend,
    case when a.instrument is null then 0 else a.spin_off end::double precision as spin_off,
    b.price_basis,
    greatest(b.known_from, a.known_from) as known_from,
    least(b.known_to, a.known_to) as known_to,
    greatest(b.batch_id, a.batch_id) as batch_id
from bars b
left join actions a
    on a.source = b.source and a.instrument = b.instrument and a.session = b.session
    and {{ seen_together('b', 'a') }}
{%- if is_incremental() %}
where greatest(b.batch_id, a.batch_id) <= {{ bounds.last_batch }}
{%- endif %}
