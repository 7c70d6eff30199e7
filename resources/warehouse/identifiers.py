"""Which instrument had which ticker when, stored beside the instrument master.

Belongs here: reading the facts and storing what follows from them. Does not: what follows
(octopus/market_data/identifiers.py), or reading it for a panel (store.py).

The table follows wholly from raw rows and is replaced whenever they say otherwise; each row says when it was known.
"""

from __future__ import annotations

import polars as pl

from octopus.market_data.identifiers import REUSE_DAYS, known_spans
from resources.warehouse.store import Warehouse

TABLE = "ops.identifiers"

_FACTS = """
    select distinct on (instrument, ts, kind) instrument, session, kind, detail, known_at
    from raw.corporate_actions
    where source = $1 and kind in ('symbol_change', 'delisting')
    order by instrument, ts, kind, batch_id desc
"""


def refresh(warehouse: Warehouse, source: str) -> pl.DataFrame:
    """Store the identifier history that the rows of ``source`` give by now.

    Returns:
        `octopus.market_data.identifiers.IDENTIFIERS_SCHEMA`.

    Raises:
        IdentifierConflictError: the actions contradict each other; what is stored stays.
    """
    facts = warehouse.read(_FACTS, [source])
    instruments = warehouse.read("select distinct instrument from raw.instruments where source = $1", [source])
    reused = warehouse.read(
        f"""
        with facts as ({_FACTS})
        select distinct on (e.instrument, e.session) e.instrument, b.session as listed, b.known_at
        from facts e
        join raw.bars b on b.source = $1 and b.instrument = e.instrument and b.session > e.session + $2::int
        where not exists (
            select from facts c
            where c.kind = 'symbol_change' and c.detail = e.instrument and c.session between e.session and b.session
        )
        order by e.instrument, e.session, b.session, b.batch_id
        """,  # noqa: S608  # a constant
        [source, REUSE_DAYS],
    )
    found = known_spans(facts, instruments["instrument"].sort().to_list(), reused.unique(["instrument", "listed"]))
    warehouse.replace(TABLE, {"source": source}, found.with_columns(source=pl.lit(source)))
    return found
