{{ config(indexes=[
    {'columns': ['model', 'instrument', 'session'], 'unique': true},
    {'columns': ['model', 'session']},
]) }}
{%- set half_life = var('sentiment_half_life_sessions') %}
{%- set window_sessions = var('sentiment_window_sessions') %}
-- Sums are numeric (15 digits of each score), hence exact: no order of rows, and no later text, changes a last bit.
with items as (
    select
        instrument,
        model,
        exchange,
        seq,
        first_seq,
        last_seq,
        count(*) as n,
        sum(score::numeric) as total,
        count(*) filter (where clean) as n_clean,
        coalesce(sum(score::numeric) filter (where clean), 0) as total_clean
    from {{ ref('int_scored_items') }}
    group by instrument, model, exchange, seq, first_seq, last_seq
),

by_age as (
    select
        i.instrument,
        i.model,
        s.session,
        s.decision_utc,
        s.seq - i.seq as age,
        power(0.5::double precision, (s.seq - i.seq) / {{ half_life }}::double precision) as weight,
        sum(i.n) as n,
        sum(i.total) as total,
        sum(i.n_clean) as n_clean,
        sum(i.total_clean) as total_clean
    from items i
    join {{ ref('int_sessions') }} s
        on s.exchange = i.exchange and s.in_history
        and s.seq between i.first_seq and least(i.seq + {{ window_sessions }} - 1, i.last_seq)
    group by i.instrument, i.model, s.session, s.decision_utc, s.seq, i.seq
)

select
    instrument,
    session,
    model,
    coalesce(sum(n) filter (where age = 0), 0)::bigint as n_items,
    coalesce(sum(n_clean) filter (where age = 0), 0)::bigint as n_items_clean,
    coalesce(sum(total) filter (where age = 0), 0)::double precision as score_sum,
    (sum(total) filter (where age = 0) / nullif(sum(n) filter (where age = 0), 0))::double precision as score_mean,
    sum(weight * total::double precision order by age) / sum(weight * n::double precision order by age)
        as decayed_score,
    sum(weight * total_clean::double precision order by age)
        / nullif(sum(weight * n_clean::double precision order by age), 0) as decayed_score_clean,
    decision_utc as known_from
from by_age
group by instrument, session, model, decision_utc
