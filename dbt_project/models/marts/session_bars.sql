-- depends_on: {{ ref('stg_intraday_bars') }}
{{ config(
    materialized='incremental',
    incremental_strategy='replace_keys',
    unique_key=['source', 'instrument', 'interval_minutes', 'session'],
    on_schema_change='fail',
    tags=['intraday'],
    indexes=[
        {'columns': ['source', 'instrument', 'interval_minutes', 'session', 'known_from'], 'unique': true},
        {'columns': ['source', 'session']},
        {'columns': ['batch_id']},
    ],
) }}
{#- Batches are numbered in commit order, so what is above the greatest one in here is new. A session that was not over
    when its bars came has no row until it is. -#}
{%- if is_incremental() %}
{%- set last_batch = run_query("select coalesce(max(batch_id), 0) from " ~ this).rows[0][0] %}
{%- set changed %}
    select distinct r.source, r.instrument, r.interval_minutes, r.session
    from {{ source('raw', 'intraday_bars') }} r
    where r.batch_id > {{ last_batch }}
    union
    select a.source, a.instrument, a.interval_minutes, a.session
    from ops.intraday_sessions a
    where a.bars > 0 and not exists (
        select from {{ this }} t
        where t.source = a.source and t.instrument = a.instrument
            and t.interval_minutes = a.interval_minutes and t.session = a.session
    )
{%- endset %}
{%- set since = "'" ~ run_query(
    "select coalesce(min(session), 'infinity')::text from (" ~ changed ~ ") changed"
).rows[0][0] ~ "'::date" %}
{%- endif %}
with {% if is_incremental() -%}
changed as materialized (
    {{- changed }}
),

{% endif -%}
bars as (
    select v.*
    from {% if is_incremental() %}({{ intraday_versions(since) }}){% else %}{{ ref('stg_intraday_bars') }}{% endif %} v
    {%- if is_incremental() %}
    join changed using (source, instrument, interval_minutes, session)
    {%- endif %}
    where {{ was_ever_seen() }}
),

-- All of a session can be known when it closes; afterwards with each restated or late bar.
instants as (
    select distinct
        b.source, b.instrument, b.interval_minutes, b.session, a.bars_due,
        greatest(edge.instant, a.closes_utc) as instant
    from bars b
    join ops.intraday_sessions a
        on a.source = b.source and a.instrument = b.instrument
        and a.interval_minutes = b.interval_minutes and a.session = b.session
    cross join lateral (values (b.known_from), (b.known_to)) as edge (instant)
    where edge.instant is not null
),

states as (
    select
        *,
        lead(instant) over (
            partition by source, instrument, interval_minutes, session order by instant
        ) as next_instant
    from instants
)

select
    s.source,
    s.instrument,
    s.interval_minutes,
    s.session,
    (array_agg(b.open order by b.ts))[1] as open,
    -- Of a range that is known in part nothing is known.
    case when count(b.high) = count(*) then max(b.high) end as high,
    case when count(b.low) = count(*) then min(b.low) end as low,
    (array_agg(b.close order by b.ts desc))[1] as close,
    case when count(b.volume) = count(*) then sum(b.volume order by b.ts) end as volume,
    case when count(b.volume) = count(*) then
        sum(coalesce(b.vwap, (b.high + b.low + b.close) / 3, b.close) * b.volume order by b.ts)
        / nullif(sum(b.volume order by b.ts), 0)
    end as vwap,
    count(b.vwap) = count(*) as is_vwap_told,
    count(*)::int as bars,
    s.bars_due,
    s.instant as known_from,
    s.next_instant as known_to,
    max(b.batch_id) as batch_id
from states s
join bars b
    on b.source = s.source and b.instrument = s.instrument and b.interval_minutes = s.interval_minutes
    and b.session = s.session and {{ seen_at('b', 's.instant') }}
group by s.source, s.instrument, s.interval_minutes, s.session, s.bars_due, s.instant, s.next_instant
