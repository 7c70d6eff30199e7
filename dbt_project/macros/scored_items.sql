{#- Each version of a score, with its sessions: the one it belongs to, and the first and the last that decide with it.
    Of all texts, or of those with a version known after an instant (an expression in SQL). -#}
{% macro scored_items(known_after=none) %}
with exchanges as (
    select instrument, min(exchange) as exchange
    from {{ ref('int_instruments') }}
    group by instrument
),

{% if known_after -%}
-- A version's sessions follow from all versions of its text.
wanted as materialized (
    select distinct source, instrument, ts as text_utc, item_kind, item_id, model
    from {{ source('raw', 'sentiment_scores') }}
    where known_at > {{ known_after }}
),

{% endif -%}
versions as (
    select
        s.*,
        -- A corrected score is as old as its text: a correction is no news.
        min(known_from) over (partition by source, instrument, text_utc, item_kind, item_id, model) as first_known
    from {{ ref('stg_sentiment_scores') }} s
    where {{ was_ever_seen() }}
    {%- if known_after %}
        and (source, instrument, text_utc, item_kind, item_id, model) in (select * from wanted)
    {%- endif %}
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
    v.batch_id,
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
{% endmacro %}

{#- From which decision on daily sentiment is built again, and after which instant texts must have been known to count
    there, as literals.

    A text, a correction and a mark change nothing before the text was first known. Sessions that were not built yet come
    after the last row, or, when older bars were filled in, before the first one. -#}
{% macro sentiment_bounds() -%}
    {%- set scores, marks = source('raw', 'sentiment_scores'), source('raw', 'text_marks') %}
    {%- set found = run_query(
        "with built as (
            select max(batch_id) as batch_id, min(known_from) as first_built, max(known_from) as last_built from " ~ this ~ "
        ),
        stored as (
            select max(ingested_at) as ingested_at from " ~ scores ~ " where batch_id <= (select batch_id from built)
        ),
        texts as (
            select source, instrument, ts, item_kind, item_id from " ~ scores ~ "
            where batch_id > (select batch_id from built)
            union
            select source, instrument, ts, item_kind, item_id from " ~ marks ~ "
            where ingested_at > (select ingested_at from stored)
            union
            select source, instrument, ts, item_kind, item_id from " ~ scores ~ "
            where instrument in (
                select instrument from " ~ source('raw', 'instruments') ~ "
                group by instrument having min(batch_id) > (select batch_id from built)
            )
        ),
        sessions as (
            select exchange, seq, decision_utc from " ~ ref('int_sessions') ~ " where in_history
        ),
        begun as (
            select least(
                (select min(known_at) from " ~ scores ~ " join texts using (source, instrument, ts, item_kind, item_id)),
                (select min(s.decision_utc) from sessions s where s.decision_utc > (select last_built from built)),
                (
                    select min(s.decision_utc) from sessions s
                    where s.decision_utc < (select first_built from built) and exists (
                        select from " ~ scores ~ " where known_at <= s.decision_utc
                            and known_at > s.decision_utc - interval '" ~ var('sentiment_window_sessions') ~ " days'
                    )
                )
            ) as instant
        ),
        starts as (
            select exchange, min(seq) as seq from sessions where decision_utc >= (select instant from begun) group by exchange
        )
        select coalesce((select instant from begun), 'infinity')::text, coalesce(min(coalesce(before.decision_utc, '-infinity')), '-infinity')::text
        from starts
        left join " ~ ref('int_sessions') ~ " before
            on before.exchange = starts.exchange
            and before.seq = starts.seq - " ~ var('sentiment_window_sessions')
    ) -%}
    {{ return({
        "since": "'" ~ found.rows[0][0] ~ "'::timestamptz", "known_after": "'" ~ found.rows[0][1] ~ "'::timestamptz"
    }) }}
{%- endmacro %}
