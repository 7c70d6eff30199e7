select
    source,
    instrument,
    ts as published_utc,
    item_id,
    title,
    body,
    url,
    publisher,
    synthetic,
    hindsight,
    text_hash,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'ts', 'item_id']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id
from {{ source('raw', 'news') }}
