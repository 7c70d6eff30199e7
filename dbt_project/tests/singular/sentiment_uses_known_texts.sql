{{ config(meta={'dagster': {'ref': {'name': 'daily_sentiment'}}}) }}
-- The items counted for a session are those first known after the decision before and by its own.
with counted as (
    select instrument, model, session, n_items, n_items_clean, known_from from {{ ref('daily_sentiment') }}
),

known as (
    select i.instrument, i.model, i.session, count(*) as n_items, count(*) filter (where i.clean) as n_items_clean
    from {{ ref('int_scored_items') }} i
    join {{ ref('int_sessions') }} s on s.exchange = i.exchange and s.session = i.session
    where s.in_history and i.known_from <= s.decision_utc and (i.known_to is null or i.known_to > s.decision_utc)
    group by i.instrument, i.model, i.session
)

select instrument, model, session, counted.n_items, known.n_items as n_items_known
from counted
full join known using (instrument, model, session)
where coalesce(counted.n_items, 0) <> coalesce(known.n_items, 0)
    or coalesce(counted.n_items_clean, 0) <> coalesce(known.n_items_clean, 0)
