"""The last sessions of some instruments, as the pre-trade gates need them: the same numbers as a panel's, read sooner.

Belongs here: reading them in statements that send numbers packed. Does not: whole histories (store.py), what the
gates make of them (resources/gates.py).

An instrument that changed its ticker or keeps another calendar than the clock is read through `Warehouse.panel`, which
knows how; the others need neither, and 500 of them over two years arrive in a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from psycopg import Cursor, IsolationLevel
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL

from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel, PriceBasis
from octopus.core.sessions import Sessions
from octopus.core.types import DateArray, FloatArray, IntArray
from octopus.market_data.currencies import in_base
from octopus.market_data.returns import total_returns
from resources.warehouse.store import Warehouse

_EPOCH = np.datetime64("2000-01-01", "D")
"""PostgreSQL's dates count from here."""
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


_DAILY: Mapping[str, np.dtype[np.void]] = {
    "closes": np.dtype([("day", ">i4"), ("close", ">f8")]),
    "actions": np.dtype([("day", ">i4"), ("split", ">f8"), ("paid", ">f8")]),
    "details": np.dtype([("day", ">i4"), ("volume", ">f8"), ("low", ">f8")]),
}
"""What the statements send of each day, packed: days since `_EPOCH`, and numbers."""


_VERSION = """source = %(source)s and known_from <= %(as_of)s and (known_to is null or known_to > %(as_of)s)"""
_CLOSES = f"""
    select instrument,
        string_agg(date_send(session) || float8send(coalesce(close, 'NaN')), '') as closes,
        string_agg(
            date_send(session) || float8send(coalesce(split_ratio, 'NaN'))
            || float8send(coalesce(dividend + spin_off, 'NaN')), ''
        ) filter (where split_ratio <> 1 or dividend <> 0 or spin_off is distinct from 0) as actions,
        count(*) filter (where price_basis = 'raw') as raw
    from marts.prices
    where {_VERSION} and session >= %(since)s and session < %(until)s {{named}}
    group by instrument
"""  # noqa: S608  # constants
"""Packed bytes and no arrays: they take the server a quarter less of its processor."""
_DETAILS = f"""
    select instrument,
        string_agg(
            date_send(session) || float8send(coalesce(volume, 'NaN')) || float8send(coalesce(low, 'NaN')), ''
        ) as details
    from marts.prices
    where {_VERSION} and session >= %(details)s {{named}}
    group by instrument
"""  # noqa: S608  # constants
"""On its own: few sessions, which the index finds, and each filtered aggregate is asked of every row."""
_NAMED = "and instrument = any(%(names)s)"
_PLANNED = "set local work_mem = '64MB'; set local max_parallel_workers_per_gather = 0"
"""So that hundreds of strings grow side by side in memory; PostgreSQL's own 4 MB sort all rows on disk before. Its
parallel plan takes 1.6 times the processor: each worker's are packed, sent and joined; halves need none of that.
"""
MANY = 100
"""Closes of so many instruments are read as two halves at once."""


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
    condition = _NAMED if named else ""
    wanted = {"source": source, "as_of": as_of, "details": details_since, "names": list(names)}
    middle = since + (as_of.date() - since) // 2
    spans = [(since, middle), (middle, date.max)] if len(names) >= MANY else [(since, date.max)]
    with _one_state(warehouse, len(spans)) as cursors, ThreadPoolExecutor(max_workers=len(spans)) as beside:
        reads = [
            beside.submit(_rows, cursor, _CLOSES.format(named=condition), {**wanted, "since": first, "until": until})
            for cursor, (first, until) in zip(cursors, spans, strict=True)
        ]
        details = _rows(cursors[0], _DETAILS.format(named=condition), wanted)
        closes = [row for read in reads for row in read.result()]
    asked = set(names)
    closes, details = ([row for row in rows if row["instrument"] in asked] for rows in (closes, details))
    if not closes:
        return None
    told = _packed(closes, "closes")
    days = told["day"]
    raw = sum(row["raw"] for row in closes)
    if raw not in (0, len(days)):
        raise _mixed(source)
    symbols = tuple(sorted({row["instrument"] for row in closes}))
    grid = _Grid(clock.between((_EPOCH + int(days.min())).item(), (_EPOCH + int(days.max())).item()), symbols)
    (close,) = grid.scattered(closes, "closes", told, close=np.nan)
    acted = [row for row in closes if row["actions"]]
    splits, paid = grid.scattered(acted, "actions", _packed(acted, "actions"), split=1.0, paid=0.0)
    volume, low = grid.scattered(details, "details", _packed(details, "details"), volume=np.nan, low=np.nan)
    return PriceWindow(
        sessions=grid.days,
        symbols=symbols,
        close=close,
        total_return=total_returns(close, splits, paid),
        split=splits,
        volume=volume,
        low=low,
        price_basis="raw" if raw else "total_return",
    )


@contextmanager
def _one_state(warehouse: Warehouse, count: int) -> Iterator[list[Cursor[DictRow]]]:
    """Cursors that read at once and all see one state of the warehouse."""
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=count) as beside:
        connections = beside.map(lambda _: stack.enter_context(warehouse.connect()), range(count))
        cursors: list[Cursor[DictRow]] = []
        snapshot: str | None = None
        for connection in connections:
            connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
            if snapshot is not None:
                connection.execute(SQL("set transaction snapshot {}").format(snapshot))
            connection.execute(_PLANNED)
            if snapshot is None and count > 1:
                ((snapshot,),) = connection.execute("select pg_export_snapshot()").fetchall()
            cursors.append(connection.cursor(row_factory=dict_row, binary=True))
        yield cursors


def _rows(cursor: Cursor[DictRow], statement: str, wanted: Mapping[str, object]) -> list[DictRow]:
    return cursor.execute(statement, wanted).fetchall()


def _packed(rows: Iterable[DictRow], field: str) -> np.ndarray[Any, Any]:
    """The days of all rows, one row after the other, as `_DAILY` has them."""
    return np.frombuffer(b"".join(row[field] for row in rows), dtype=_DAILY[field])


class _Grid:
    """Dense arrays, sessions × instruments, of the numbers that each row holds for its days."""

    def __init__(self, days: DateArray, symbols: Sequence[str]) -> None:
        self.days, self._columns = days, {name: column for column, name in enumerate(symbols)}
        numbers = (days - _EPOCH).astype(np.int64)
        self._first = int(numbers[0])
        self._place = np.full(int(numbers[-1]) - self._first + 1, -1)
        self._place[numbers - self._first] = np.arange(len(days))

    def scattered(
        self, rows: Sequence[DictRow], field: str, told: np.ndarray[Any, Any], **empty: float
    ) -> list[FloatArray]:
        """Numbers at their session, each in an array of its own. Days that are no session are left out.

        Args:
            told: `_packed` of ``field`` of ``rows``. empty: by number, what stands elsewhere.
        """
        columns: IntArray = np.repeat(
            np.array([self._columns[row["instrument"]] for row in rows], dtype=np.int64),
            [len(row[field]) // _DAILY[field].itemsize for row in rows],
        )
        places = self._place[told["day"].astype(np.int64) - self._first]
        held = places >= 0
        if not held.all():
            places, columns, told = places[held], columns[held], told[held]
        found = []
        for number, elsewhere in empty.items():
            whole = np.full((len(self.days), len(self._columns)), elsewhere)
            whole[places, columns] = told[number]
            found.append(whole)
        return found


def _mixed(source: str) -> MissingDataError:
    return MissingDataError(
        f"source {source!r} mixes price bases ['raw', 'total_return']; give each its own source name and ingest again"
    )
