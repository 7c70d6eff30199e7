{{ config(meta={'dagster': {'ref': {'name': 'stg_bars'}}}) }}
-- A bar on a day that is no session of its exchange would be missing in the panel. Days are looked at before bars: joined
-- to every bar, the planner, which guesses few of them, would loop over the instruments for each.
with days as materialized (
    select distinct source, session from {{ checked(ref('stg_bars')) }} versions
),

exchanges as materialized (
    select distinct source, exchange from {{ ref('int_instruments') }}
),

closed as materialized (
    select days.source, days.session, exchanges.exchange
    from days
    join exchanges using (source)
    left join {{ ref('int_sessions') }} s on s.exchange = exchanges.exchange and s.session = days.session
    where s.session is null
)

select b.source, b.instrument, b.session
from closed
join {{ ref('int_instruments') }} i on i.source = closed.source and i.exchange = closed.exchange
join {{ checked(ref('stg_bars')) }} b
    on b.source = closed.source and b.instrument = i.instrument and b.session = closed.session
