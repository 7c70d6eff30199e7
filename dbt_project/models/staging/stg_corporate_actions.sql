select
    source,
    instrument,
    session as ex_session,
    ts as effective_utc,
    kind,
    value,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'session', 'kind']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id
from {{ source('raw', 'corporate_actions') }}
