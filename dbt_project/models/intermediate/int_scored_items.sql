-- Each version of a score, with its sessions: the one it belongs to, and the first and the last that decide with it.
with exchanges as (
    select instrument, min(exchange) as exchange
    from {{ ref('int_instruments') }}
    group by instrument
),

versions as (
    select
        *,
        -- A corrected score is as old as its text: a correction is no news.
        min(known_from) over (partition by source, instrument, text_utc, item_kind, item_id, model) as first_known
    from {{ ref('stg_sentiment_scores') }}
    where {{ was_ever_seen() }}
)

select
    v.source,
    v.instrument,
    v.item_kind,
    v.item_id,
    v.model,
    v.score,
    -- A text that is not marked (yet) counts as new.
    coalesce(m.weight, 1) as weight,
    not (v.synthetic or v.hindsight) as clean,
    v.known_from,
    v.known_to,
    e.exchange,
    item.session,
    item.seq,
    seen.seq as first_seq,
    replaced.seq - 1 as last_seq
from versions v
join exchanges e using (instrument)
left join {{ source('raw', 'text_marks') }} m
    on m.source = v.source and m.instrument = v.instrument and m.ts = v.text_utc and m.item_kind = v.item_kind
    and m.item_id = v.item_id and m.text_hash = v.text_hash
cross join lateral (
    select session, seq from {{ ref('int_sessions') }} s
    where s.exchange = e.exchange and s.decision_utc >= v.first_known
    order by s.decision_utc limit 1
) item
cross join lateral (
    select seq from {{ ref('int_sessions') }} s
    where s.exchange = e.exchange and s.decision_utc >= v.known_from
    order by s.decision_utc limit 1
) seen
left join lateral (
    select seq from {{ ref('int_sessions') }} s
    where s.exchange = e.exchange and s.decision_utc >= v.known_to
    order by s.decision_utc limit 1
) replaced on true
