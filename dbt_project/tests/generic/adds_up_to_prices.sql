{#- Each current price is in exactly one current bar of its period, and the period closes where its last price does. A ticker
    that passed from one instrument to another in it has a bar of each. -#}
{% test adds_up_to_prices(model, period) %}
with expected as (
    select
        source,
        instrument,
        date_trunc('{{ period }}', session::timestamp)::date as {{ period }},
        count(*) as sessions,
        max(session) as last_session
    from {{ checked(ref('prices'), period) }} versions
    where known_to is null
    group by 1, 2, 3
),

found as (
    select
        source,
        instrument,
        {{ period }},
        sum(sessions) as sessions,
        max(last_session) as last_session,
        (array_agg(close order by last_session desc))[1] as close
    from {{ model }}
    where known_to is null
    group by 1, 2, 3
)

select e.*, f.sessions as sessions_found, f.close
from expected e
full join found f using (source, instrument, {{ period }})
-- Looked up, one for each bar: joined, the planner would read all of history for it.
left join lateral (
    select p.close from {{ ref('prices') }} p
    where p.source = e.source and p.instrument = e.instrument and p.session = e.last_session and p.known_to is null
    limit 1
) p on true
where f.sessions is distinct from e.sessions
    or f.last_session is distinct from e.last_session
    or f.close is distinct from p.close
{% endtest %}
