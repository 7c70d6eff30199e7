-- A source has one price basis (a check holds it to that), so a bar needs no description of its own instrument.
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
from {{ ref('stg_bars') }} b
join bases using (source)
where {{ was_ever_seen() }}
