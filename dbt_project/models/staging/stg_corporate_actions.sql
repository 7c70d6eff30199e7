with versions as (
    select
        source, instrument, session, ts, kind, value, detail, known_at, known_at_imputed, ingested_at, batch_id,
        false as excluded
    from {{ source('raw', 'corporate_actions') }} as sent
    where {{ judged('sent', in_view=true) }}
    union all
    select
        source, instrument, session, ts, kind, value, detail, known_at, known_at_imputed, ingested_at, batch_id, excluded
    from {{ source('raw', 'action_verdicts') }} as sent
    where {{ judged('sent', in_view=true) }}
)

select
    source,
    instrument,
    session as ex_session,
    ts as effective_utc,
    kind,
    value,
    detail,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'session', 'kind']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id,
    excluded
from versions
