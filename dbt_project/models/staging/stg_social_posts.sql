select
    source,
    instrument,
    ts as created_utc,
    item_id,
    author,
    body,
    url,
    upvotes,
    synthetic,
    text_hash,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'ts', 'item_id']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id
from {{ source('raw', 'social_posts') }}
