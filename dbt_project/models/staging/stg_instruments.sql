select
    source,
    instrument,
    ts as valid_from,
    name,
    exchange,
    currency,
    asset_class,
    price_basis,
    lot_size,
    tick_size,
    member_from,
    member_to,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'ts']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id
from {{ source('raw', 'instruments') }}
