{{ config(
    materialized='table',
    indexes=[
        {'columns': ['exchange', 'session'], 'unique': true},
        {'columns': ['exchange', 'seq'], 'unique': true},
        {'columns': ['exchange', 'decision_utc'], 'unique': true},
    ],
    post_hook='analyze {{ this }}',
) }}
with recorded as (
    -- Two looks into an index for each instrument, however long its history.
    select i.exchange, min(first_bar.session) as first_session, max(last_bar.session) as last_session
    from {{ ref('int_instruments') }} i
    cross join lateral (
        select p.session from {{ ref('prices') }} p
        where p.source = i.source and p.instrument = i.instrument
        order by p.session limit 1
    ) first_bar
    cross join lateral (
        select p.session from {{ ref('prices') }} p
        where p.source = i.source and p.instrument = i.instrument
        order by p.session desc limit 1
    ) last_bar
    group by i.exchange
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
