{{ config(
    materialized='table',
    indexes=[
        {'columns': ['exchange', 'session'], 'unique': true},
        {'columns': ['exchange', 'seq'], 'unique': true},
        {'columns': ['exchange', 'decision_utc'], 'unique': true},
    ],
    post_hook='analyze {{ this }}',
) }}
{%- set ends = {'first': ('min', 'asc'), 'last': ('max', 'desc')} %}
with exchanges as materialized (
    select source, exchange, array_agg(instrument) as instruments from {{ ref('int_instruments') }} group by source, exchange
),

-- The first and the last bars of a source tell of most exchanges when they begin and end. Materialised, or they would be
-- looked for again for each instrument.
{% for end, (extreme, direction) in ends.items() -%}
{{ end }}_prices as materialized (
    select s.source, p.instrument, p.session
    from (select distinct source from exchanges) s
    cross join lateral (
        select * from {{ ref('prices') }} p where p.source = s.source order by p.session {{ direction }} limit 100
    ) p
),

{{ end }}_bars as materialized (
    select i.source, i.exchange, {{ extreme }}(p.session) as session
    from {{ end }}_prices p
    join {{ ref('int_instruments') }} i using (source, instrument)
    group by i.source, i.exchange
),

{% endfor -%}
-- Of an exchange that has none among them two looks into an index for each instrument do, however long its history.
recorded as (
    select
        e.exchange,
        {%- for end, (extreme, direction) in ends.items() %}
        {{ extreme }}(coalesce({{ end }}_bars.session, (
            select {{ extreme }}(bar.session)
            from unnest(e.instruments) i (instrument)
            cross join lateral (
                select p.session from {{ ref('prices') }} p
                where p.source = e.source and p.instrument = i.instrument
                order by p.session {{ direction }} limit 1
            ) bar
        ))) as {{ end }}_session {{- ',' if not loop.last }}
        {%- endfor %}
    from exchanges e
    left join first_bars using (source, exchange)
    left join last_bars using (source, exchange)
    group by e.exchange
)

select
    s.exchange,
    s.session,
    row_number() over (partition by s.exchange order by s.session) as seq,
    s.open_utc,
    s.close_utc,
    s.decision_utc,
    coalesce(s.session between r.first_session and r.last_session, false) as in_history
from {{ source('ops', 'sessions') }} s
left join recorded r using (exchange)
