"""The last sessions of some instruments, as the pre-trade gates need them: the same numbers as a panel's, read sooner.

Belongs here: reading them in one statement that sends numbers in arrays. Does not: whole histories (store.py), what the
gates make of them (resources/gates.py).

An instrument that changed its ticker or keeps another calendar than the clock is read through `Warehouse.panel`, which
knows how; the others need neither, and 500 of them over two years arrive in a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from psycopg.adapt import Buffer, Loader
from psycopg.pq import Format
from psycopg.rows import dict_row

from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel, PriceBasis
from octopus.core.sessions import Sessions
from octopus.core.types import DateArray, FloatArray, IntArray
from octopus.market_data.currencies import in_base
from octopus.market_data.returns import total_returns
from resources.warehouse.store import Warehouse

_EPOCH = np.datetime64("2000-01-01", "D")
"""PostgreSQL's dates count from here."""
_ARRAY_HEAD = 20
"""Bytes of a binary array of one dimension before its elements (dimensions, nulls, type, length, lower bound)."""
_FLOAT8_ARRAY, _DATE_ARRAY = 1022, 1182
_FEW = 4
"""Instruments are named in the query where they are fewer than one in so many of the source's."""


@dataclass(frozen=True, eq=False)
class PriceWindow:
    """Fields as `octopus.core.panel.Panel` has them, over the last sessions, shape (T, N).

    Attributes:
        close, low: in the account's currency as `read_window_in_base` reads them, else in the instrument's.
        volume, low: NaN before the day from which they were asked for, and where unknown.
    """

    sessions: DateArray
    symbols: tuple[str, ...]
    close: FloatArray
    total_return: FloatArray
    split: FloatArray
    volume: FloatArray
    low: FloatArray
    price_basis: PriceBasis


def read_window(
    warehouse: Warehouse,
    source: str,
    as_of: datetime,
    clock: Sessions,
    names: Collection[str],
    *,
    since: date,
    details_since: date,
) -> PriceWindow | None:
    """What is known by ``as_of`` of the instruments ``names`` from session ``since`` on; None: no bar of any.

    Args:
        details_since: from this session on with volumes and lows.

    Raises:
        MissingDataError: the source mixes price bases.
    """
    moved, calendars = warehouse.moved(source, as_of), warehouse.calendars(source, clock, as_of)
    told = {*moved["ticker"], *moved["name"], *calendars.elsewhere()}
    special = told.intersection(names)
    parts = [_plain(warehouse, source, as_of, clock, sorted(set(names) - special), since, details_since,
                    named=_FEW * len(names) < len(calendars.exchanges))]  # fmt: skip
    if special:
        parts.append(_through_panel(warehouse, source, as_of, clock, special, since, details_since))
    return _side_by_side([part for part in parts if part is not None], clock, source)


def read_window_in_base(
    warehouse: Warehouse,
    source: str,
    as_of: datetime,
    clock: Sessions,
    names: Collection[str],
    base: str,
    pairs: Mapping[str, str],
    *,
    since: date,
    details_since: date,
) -> PriceWindow | None:
    """As `read_window`, in the account's currency; where all of ``source`` is quoted in it they are the same.

    Args:
        base, pairs: as `octopus.market_data.currencies.in_base` takes them.

    Raises:
        MissingDataError: as `read_window`; a rate is missing or too old.
    """
    units = warehouse.scalar(
        "select array_agg(distinct currency) from raw.instruments where source = %s and currency <> %s", [source, base]
    )
    if not units:
        return read_window(warehouse, source, as_of, clock, names, since=since, details_since=details_since)
    read = {*names, *pairs.values()}
    panel = warehouse.panel(source, as_of, clock, instruments=read, since=since)
    currencies = warehouse.currencies(source, as_of, warehouse.moved(source, as_of))
    return window_of(in_base(panel, base, pairs, currencies), details_since)


def _through_panel(
    warehouse: Warehouse,
    source: str,
    as_of: datetime,
    clock: Sessions,
    names: Collection[str],
    since: date,
    details_since: date,
) -> PriceWindow | None:
    try:
        panel = warehouse.panel(source, as_of, clock, instruments=names, since=since)
    except MissingDataError:
        return None
    return window_of(panel, details_since)


def window_of(panel: Panel, details_since: date) -> PriceWindow:
    """The panel as a window."""
    early = (panel.sessions < np.datetime64(details_since, "D"))[:, None]
    lows = panel.low if panel.rate is None else panel.low * panel.rate
    volume, low = (np.where(early, np.nan, field) for field in (panel.volume, lows))
    return PriceWindow(
        panel.sessions, panel.symbols, panel.worth, panel.total_return, panel.split, volume, low, panel.price_basis
    )


def _side_by_side(parts: Sequence[PriceWindow], clock: Sessions, source: str) -> PriceWindow | None:
    """All parts on the sessions from the first to the last that any of them has."""
    if not parts:
        return None
    if len({part.price_basis for part in parts}) > 1:
        raise _mixed(source)
    if len(parts) == 1:
        return parts[0]
    first, last = min(part.sessions[0] for part in parts), max(part.sessions[-1] for part in parts)
    days = clock.between(first.item(), last.item())
    symbols = [name for part in parts for name in part.symbols]
    order = sorted(range(len(symbols)), key=symbols.__getitem__)

    def joined(field: str, empty: float) -> FloatArray:
        whole = np.full((len(days), len(symbols)), empty)
        column = 0
        for part in parts:
            row = int(np.searchsorted(days, part.sessions[0]))
            whole[row : row + len(part.sessions), column : column + len(part.symbols)] = getattr(part, field)
            column += len(part.symbols)
        return whole[:, order]

    fields = {name: joined(name, np.nan) for name in ("close", "total_return", "volume", "low")}
    return PriceWindow(
        days, tuple(symbols[place] for place in order), split=joined("split", 1.0), price_basis=parts[0].price_basis,
        **fields,
    )  # fmt: skip


# -- instruments with one ticker and the clock's calendar --------------------------------------------------------------


class _Numbers(Loader):
    """A binary array without nulls, as its numbers: each element is its length and its bytes."""

    format = Format.BINARY
    kind = ""

    def load(self, data: Buffer) -> np.ndarray[Any, Any]:
        if len(data) <= _ARRAY_HEAD:
            return np.empty(0, dtype=self.kind[1:])
        elements = np.frombuffer(data, dtype=[("length", ">i4"), ("value", self.kind)], offset=_ARRAY_HEAD)
        return elements["value"].astype(self.kind[1:])


class _Floats(_Numbers):
    kind = ">f8"


class _Days(_Numbers):
    """Days since `_EPOCH`."""

    kind = ">i4"


_STATEMENT = """
    select instrument,
        array_agg(session) as days,
        array_agg(coalesce(close, 'NaN')) as close,
        array_agg(session) filter (where session >= %(details)s) as detailed,
        array_agg(coalesce(volume, 'NaN')) filter (where session >= %(details)s) as volume,
        array_agg(coalesce(low, 'NaN')) filter (where session >= %(details)s) as low,
        array_agg(session) filter (where split_ratio <> 1 or dividend <> 0 or spin_off is distinct from 0) as acted,
        array_agg(split_ratio) filter (where split_ratio <> 1 or dividend <> 0 or spin_off is distinct from 0)
            as split,
        array_agg(dividend + coalesce(spin_off, 'NaN'))
            filter (where split_ratio <> 1 or dividend <> 0 or spin_off is distinct from 0) as paid,
        bool_and(price_basis = 'raw') as only_raw,
        bool_or(price_basis = 'raw') as any_raw
    from marts.prices
    where source = %(source)s and known_from <= %(as_of)s and (known_to is null or known_to > %(as_of)s)
        and session >= %(since)s {named}
    group by instrument
"""
_NAMED = "and instrument = any(%(names)s)"


def _plain(
    warehouse: Warehouse,
    source: str,
    as_of: datetime,
    clock: Sessions,
    names: Sequence[str],
    since: date,
    details_since: date,
    *,
    named: bool,
) -> PriceWindow | None:
    if not names:
        return None
    with warehouse.connect(autocommit=True) as connection:
        connection.adapters.register_loader(_FLOAT8_ARRAY, _Floats)
        connection.adapters.register_loader(_DATE_ARRAY, _Days)
        cursor = connection.cursor(row_factory=dict_row, binary=True)
        wanted = {"source": source, "as_of": as_of, "since": since, "details": details_since, "names": list(names)}
        statement = _STATEMENT.replace("{named}", _NAMED if named else "")
        rows = cursor.execute(statement, wanted).fetchall()
    asked = set(names)
    rows = sorted((row for row in rows if row["instrument"] in asked), key=lambda row: row["instrument"])
    if not rows:
        return None
    if any(row["any_raw"] for row in rows) and not all(row["only_raw"] for row in rows):
        raise _mixed(source)
    last = (_EPOCH + int(max(row["days"].max() for row in rows))).item()
    first = (_EPOCH + int(min(row["days"].min() for row in rows))).item()
    grid = _Grid(clock.between(first, last), rows)
    close = grid.scattered("days", "close", np.nan)
    split = grid.scattered("acted", "split", 1.0)
    return PriceWindow(
        sessions=grid.days,
        symbols=tuple(row["instrument"] for row in rows),
        close=close,
        total_return=total_returns(close, split, grid.scattered("acted", "paid", 0.0)),
        split=split,
        volume=grid.scattered("detailed", "volume", np.nan),
        low=grid.scattered("detailed", "low", np.nan),
        price_basis="raw" if rows[0]["any_raw"] else "total_return",
    )


class _Grid:
    """Dense arrays, sessions × instruments, of the numbers that each row holds for its days."""

    def __init__(self, days: DateArray, rows: Sequence[dict[str, Any]]) -> None:
        self.days, self._rows = days, rows
        numbers = (days - _EPOCH).astype(np.int64)
        self._first = int(numbers[0])
        self._place = np.full(int(numbers[-1]) - self._first + 1, -1)
        self._place[numbers - self._first] = np.arange(len(days))

    def scattered(self, days: str, values: str, empty: float) -> FloatArray:
        """Values at their session; ``empty`` elsewhere. Days that are no session are left out."""
        whole = np.full((len(self.days), len(self._rows)), empty)
        given = [(column, row) for column, row in enumerate(self._rows) if row[days] is not None]
        if not given:
            return whole
        columns: IntArray = np.repeat([column for column, _ in given], [len(row[days]) for _, row in given])
        places = self._place[np.concatenate([row[days] for _, row in given]).astype(np.int64) - self._first]
        numbers = np.concatenate([row[values] for _, row in given])
        held = places >= 0
        whole[places[held], columns[held]] = numbers[held]
        return whole


def _mixed(source: str) -> MissingDataError:
    return MissingDataError(
        f"source {source!r} mixes price bases ['raw', 'total_return']; give each its own source name and ingest again"
    )
