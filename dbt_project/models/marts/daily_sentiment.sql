-- depends_on: {{ ref('int_scored_items') }}, {{ ref('int_instruments') }}, {{ ref('stg_sentiment_scores') }}
{{ config(
    materialized='incremental',
    incremental_strategy='replace_keys',
    unique_key=['model', 'instrument', 'session'],
    on_schema_change='fail',
    indexes=[
        {'columns': ['model', 'instrument', 'session'], 'unique': true},
        {'columns': ['model', 'session']},
        {'columns': ['known_from']},
        {'columns': ['batch_id']},
    ],
) }}
{%- set half_life = var('sentiment_half_life_sessions') %}
{%- set window_sessions = var('sentiment_window_sessions') %}
{%- if is_incremental() %}
{%- set bounds = sentiment_bounds() %}
{%- endif %}
-- A text weighs its novelty, and nothing where it is a copy, part of a burst or in a language that is not read.
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
        sum(weight::numeric) as mass,
        sum(score::numeric * weight::numeric) as total,
        count(*) filter (where clean) as n_clean,
        coalesce(sum(weight::numeric) filter (where clean), 0) as mass_clean,
        coalesce(sum(score::numeric * weight::numeric) filter (where clean), 0) as total_clean,
        max(batch_id) as batch_id
    {%- if is_incremental() %}
    from ({{ scored_items(bounds.known_after) }}) of_texts
    {%- else %}
    from {{ ref('int_scored_items') }}
    {%- endif %}
    group by instrument, model, exchange, seq, first_seq, last_seq
),

-- Session numbers first, materialized, so that sessions are joined by equality: on a range all meet all.
decided as materialized (
    select i.*, decided.seq as decided_seq
    from items i
    cross join lateral generate_series(
        i.first_seq, least(i.seq + {{ window_sessions }} - 1, i.last_seq)
    ) as decided (seq)
),

by_age as (
    select
        d.instrument,
        d.model,
        s.session,
        s.decision_utc,
        s.seq - d.seq as age,
        power(0.5::double precision, (s.seq - d.seq) / {{ half_life }}::double precision) as weight,
        sum(d.n) as n,
        sum(d.mass) as mass,
        sum(d.total) as total,
        sum(d.n_clean) as n_clean,
        sum(d.mass_clean) as mass_clean,
        sum(d.total_clean) as total_clean,
        max(d.batch_id) as batch_id
    from decided d
    join {{ ref('int_sessions') }} s on s.exchange = d.exchange and s.seq = d.decided_seq and s.in_history
    {%- if is_incremental() %}
        and s.decision_utc >= {{ bounds.since }}
    {%- endif %}
    group by d.instrument, d.model, s.session, s.decision_utc, s.seq, d.seq
)

select
    instrument,
    session,
    model,
    coalesce(sum(n) filter (where age = 0), 0)::bigint as n_items,
    coalesce(sum(n_clean) filter (where age = 0), 0)::bigint as n_items_clean,
    coalesce(sum(mass) filter (where age = 0), 0)::double precision as volume,
    coalesce(sum(total) filter (where age = 0), 0)::double precision as score_sum,
    (sum(total) filter (where age = 0) / nullif(sum(mass) filter (where age = 0), 0))::double precision as score_mean,
    sum(weight * total::double precision order by age)
        / nullif(sum(weight * mass::double precision order by age), 0) as decayed_score,
    sum(weight * total_clean::double precision order by age)
        / nullif(sum(weight * mass_clean::double precision order by age), 0) as decayed_score_clean,
    decision_utc as known_from,
    max(batch_id) as batch_id
from by_age
group by instrument, session, model, decision_utc
