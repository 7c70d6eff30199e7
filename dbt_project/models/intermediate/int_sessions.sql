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
    select i.exchange, min(b.session) as first_session, max(b.session) as last_session
    from {{ ref('int_instruments') }} i
    join (
        select source, instrument, min(session) as first_session, max(session) as last_session
        from {{ ref('stg_bars') }}
        group by source, instrument
    ) spans using (source, instrument)
    cross join lateral (values (spans.first_session), (spans.last_session)) as b (session)
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
