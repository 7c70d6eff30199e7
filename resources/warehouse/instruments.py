"""Instruments on record: their current descriptions, what ended or renamed them, and in which units they trade.

Belongs here: reading those. Does not: calendars, currencies and panels (store.py), who had which ticker
(identifiers.py).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import polars as pl
from psycopg import sql

from octopus.market_data.schema import INSTRUMENTS_SCHEMA
from octopus.portfolio.units import NO_UNITS, TradingUnits
from resources.warehouse.store import Warehouse

TURNS_SCHEMA = pl.Schema({"instrument": pl.String(), "session": pl.Date(), "kind": pl.String(), "detail": pl.String()})
"""Renames and delistings."""


def descriptions(warehouse: Warehouse, source: str) -> pl.DataFrame:
    """The current version of each description of ``source``, as `octopus.market_data.schema.INSTRUMENTS_SCHEMA`."""
    columns = sql.SQL(", ").join(map(sql.Identifier, INSTRUMENTS_SCHEMA))
    with warehouse.connect(autocommit=True) as connection:
        rows = connection.execute(
            sql.SQL(
                "select distinct on (instrument, ts) {} from raw.instruments where source = %s "
                "order by instrument, ts, batch_id desc"
            ).format(columns),
            [source],
        ).fetchall()
    return pl.DataFrame(rows, schema=INSTRUMENTS_SCHEMA, orient="row")


def trading_units(warehouse: Warehouse, source: str, as_of: datetime) -> TradingUnits:
    """Lots and ticks of the instruments of ``source``, by their latest descriptions as known by ``as_of``, under the
    names of the panel of that instant: of one that was renamed, those of its latest ticker count."""
    rows = warehouse.rows(
        """
        select * from (
            select distinct on (instrument) instrument, lot_size, tick_size from raw.instruments
            where source = %s and known_at <= %s order by instrument, ts desc, batch_id desc
        ) as described where lot_size is not null or tick_size is not null
        """,
        [source, as_of],
    )
    if not rows:
        return NO_UNITS
    moved = warehouse.moved(source, as_of)
    names = dict(moved.sort("valid_from", nulls_last=False).select("ticker", "name").iter_rows())
    steps: dict[str, dict[str, Decimal]] = {"lot_size": {}, "tick_size": {}}
    for row in rows:
        for kind, found in steps.items():
            if row[kind] is not None:
                found[names.get(row["instrument"], row["instrument"])] = Decimal(repr(row[kind]))
    return TradingUnits(steps["lot_size"], steps["tick_size"])


def turns(warehouse: Warehouse, source: str) -> pl.DataFrame:
    """Renames and delistings of ``source`` on record, `TURNS_SCHEMA`."""
    rows = warehouse.rows(
        """
        select distinct on (instrument, ts, kind) instrument, session, kind, detail from raw.corporate_actions
        where source = %s and kind in ('symbol_change', 'delisting') order by instrument, ts, kind, batch_id desc
        """,
        [source],
    )
    return pl.DataFrame(rows, schema=TURNS_SCHEMA)
