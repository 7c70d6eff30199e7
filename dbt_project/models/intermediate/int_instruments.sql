-- One row for each instrument of a source, as described by the latest description known.
select distinct on (source, instrument)
    source,
    instrument,
    name,
    exchange,
    currency,
    asset_class
from {{ ref('stg_instruments') }}
where known_to is null
order by source, instrument, valid_from desc
