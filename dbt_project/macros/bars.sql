{#- Versions of bars, all of them or of the sessions from ``since`` on (a date in SQL, or none): what is built of a day
    reads a day. -#}

{#- The key is the session, not ts: a calendar that corrects a closing time must not make two bars of one day.
    A verdict is a version as any other: it holds until the vendor sends other content, or until a later verdict.
    Not ``declared``: in a test of the view, which depends on the view alone. -#}
{% macro bar_versions(since=none, declared=true) %}
with versions as (
    {%- for table in ('bars', 'bar_verdicts') %}
    select
        source, instrument, session, ts, open, high, low, close, volume, known_at, known_at_imputed, ingested_at,
        batch_id, {{ 'false as excluded' if table == 'bars' else 'excluded' }}
    from {{ source('raw', table) if declared else api.Relation.create(schema='raw', identifier=table) }} as sent
    where {{ judged('sent', in_view=not since) }}
    {%- if since %}
    -- By ts too, which chunks and keys go by: a session closes no earlier than its own day begins anywhere.
        and session >= {{ since }} and ts >= ({{ since }} - 1)::timestamp at time zone 'UTC'
    {%- endif %}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
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
