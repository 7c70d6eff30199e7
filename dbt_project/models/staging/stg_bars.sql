-- The key is the session, not ts: a calendar that corrects a closing time must not make two bars of one day.
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
    batch_id
from {{ source('raw', 'bars') }}
