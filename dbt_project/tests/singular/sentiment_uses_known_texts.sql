{{ config(meta={'dagster': {'ref': {'name': 'daily_sentiment'}}}) }}
-- The items counted for a session are those first known after the decision before and by its own.
-- depends_on: {{ ref('int_scored_items') }}, {{ ref('int_instruments') }}, {{ ref('stg_sentiment_scores') }}
with counted as (
    select instrument, model, session, n_items, n_items_clean, known_from
    from {{ checked(ref('daily_sentiment')) }} of_checked
),

known as (
    select i.instrument, i.model, i.session, count(*) as n_items, count(*) filter (where i.clean) as n_items_clean
    {%- if checked_since() %}
    -- Between two sessions lie days, never weeks: no text of a checked one was first known so long before.
    from ({{ scored_items("('" ~ checked_since() ~ "'::date - 30)::timestamptz") }}) i
    {%- else %}
    from {{ ref('int_scored_items') }} i
    {%- endif %}
    join {{ ref('int_sessions') }} s on s.exchange = i.exchange and s.session = i.session
    where s.in_history {%- if checked_since() %} and s.session >= '{{ checked_since() }}' {%- endif %} and i.known_from <= s.decision_utc and (i.known_to is null or i.known_to > s.decision_utc)
    group by i.instrument, i.model, i.session
)

select instrument, model, session, counted.n_items, known.n_items as n_items_known
from counted
full join known using (instrument, model, session)
where coalesce(counted.n_items, 0) <> coalesce(known.n_items, 0)
    or coalesce(counted.n_items_clean, 0) <> coalesce(known.n_items_clean, 0)
