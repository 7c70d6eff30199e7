{#- Versions of bars, all of them or of the sessions from ``since`` on (a date in SQL, or none). The key is the session, not
    ts: a calendar that corrects a closing time must not make two bars of one day. A verdict is a version as any other: it
    holds until the vendor sends other content, or until a later verdict. -#}
{% macro bar_versions(since=none, declared=true) %}
with versions as (
    {{- sent_and_judged(
        'bars', 'bar_verdicts', 'source, instrument, session, ts, open, high, low, close, volume', since, declared
    ) }}
)

select
    source,
    instrument,
    session,
    ts,
    open,
    high,
    low,
    close,
    volume,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'session']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id,
    excluded
from versions
{% endmacro %}

{#- Bars that were ever seen, with their price basis. A source has one (a check holds it to that), so a bar needs no
    description of its own instrument. -#}
{% macro seen_bars(since=none) %}
with bases as (
    select source, min(price_basis) as price_basis
    from {{ ref('stg_instruments') }}
    group by source
)

select
    b.source,
    b.instrument,
    b.session,
    b.open,
    b.high,
    b.low,
    b.close,
    b.volume,
    bases.price_basis,
    b.known_from,
    -- A bar that is kept out stands for no time: as of no instant it is seen, and what is built on it is told.
    case when b.excluded then b.known_from else b.known_to end as known_to,
    b.batch_id
from {% if since %}({{ bar_versions(since) }}){% else %}{{ ref('stg_bars') }}{% endif %} b
join bases using (source)
where {{ was_ever_seen() }}
{% endmacro %}
