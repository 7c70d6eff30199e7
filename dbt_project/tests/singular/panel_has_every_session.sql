{{ config(meta={'dagster': {'ref': {'name': 'panel'}}}) }}
-- Between an instrument's first and last bar there is one row for each session of its exchange, and each bar is in it.
with spans as (
    select
        source,
        instrument,
        min(session) as first_session,
        max(session) as last_session,
        count(*) as n_sessions,
        count(*) filter (where has_bar) as n_bars
    from {{ checked(ref('panel')) }} days
    group by source, instrument
),

bars as (
    select source, instrument, count(*) as n_bars from {{ ref('prices') }}
    where known_to is null and exists (select from spans)
    group by source, instrument
)

select *
from spans
join {{ ref('int_instruments') }} i using (source, instrument)
join bars using (source, instrument)
where spans.n_bars <> bars.n_bars
    or spans.n_sessions <> (
        select count(*) from {{ ref('int_sessions') }} s
        where s.exchange = i.exchange and s.session between spans.first_session and spans.last_session
    )
