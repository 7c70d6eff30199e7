-- A view: rows for every session and instrument, read by people and by few of them at a time.
{{ config(materialized='view') }}
with bars as (
    select * from {{ ref('prices') }} where known_to is null
),

spans as (
    select b.source, b.instrument, i.exchange, min(b.session) as first_session, max(b.session) as last_session
    from bars b
    join {{ ref('int_instruments') }} i using (source, instrument)
    group by b.source, b.instrument, i.exchange
),

memberships as (
    select source, instrument, range_agg(daterange(member_from, member_to, '[]')) as member_days
    from {{ ref('universe') }}
    where known_to is null
    group by source, instrument
),

-- The model that scored last; several appear only where the setting was changed.
current_model as (
    select model from {{ ref('stg_sentiment_scores') }} order by batch_id desc, model limit 1
),

sentiment as (
    select d.instrument, d.session, d.model, d.decayed_score, d.decayed_score_clean
    from {{ ref('daily_sentiment') }} d
    join current_model using (model)
)

select
    spans.source,
    spans.instrument,
    s.session,
    b.session is not null as has_bar,
    coalesce(m.member_days @> s.session, false) as member,
    b.open,
    b.high,
    b.low,
    b.close,
    b.volume,
    b.split_ratio,
    b.dividend,
    b.spin_off,
    t.model as sentiment_model,
    t.decayed_score,
    t.decayed_score_clean
from spans
left join memberships m using (source, instrument)
join {{ ref('int_sessions') }} s
    on s.exchange = spans.exchange and s.session between spans.first_session and spans.last_session
left join bars b on b.source = spans.source and b.instrument = spans.instrument and b.session = s.session
left join sentiment t on t.instrument = spans.instrument and t.session = s.session
