-- The key is the session, not ts: a calendar that corrects a closing time must not make two bars of one day.
-- A verdict is a version as any other: it holds until the vendor sends other content, or until a later verdict.
with versions as (
    select
        source, instrument, session, ts, open, high, low, close, volume, known_at, known_at_imputed, ingested_at,
        batch_id, false as excluded
    from {{ source('raw', 'bars') }}
    union all
    select
        source, instrument, session, ts, open, high, low, close, volume, known_at, known_at_imputed, ingested_at,
        batch_id, excluded
    from {{ source('raw', 'bar_verdicts') }}
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
