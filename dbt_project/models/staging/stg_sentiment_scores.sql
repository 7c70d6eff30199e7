select
    source,
    instrument,
    ts as text_utc,
    item_kind,
    item_id,
    model,
    text_hash,
    score,
    synthetic,
    hindsight,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'ts', 'item_kind', 'item_id', 'model']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id
from {{ source('raw', 'sentiment_scores') }}
