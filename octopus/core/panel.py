"""The point-in-time panel: what was known of every instrument at every session, as dense arrays.

Belongs here: the panel type and slicing it in time. Does not: reading it (resources/warehouse) or computing on it
(octopus/strategy).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any, Literal

import numpy as np

from octopus.core.currency import major_unit
from octopus.core.errors import MissingDataError
from octopus.core.sessions import EXCHANGE, Sessions
from octopus.core.types import BoolArray, DateArray, FloatArray

PriceBasis = Literal["raw", "total_return"]


ADV_SESSIONS = 21
"""Sessions behind an average daily volume."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Daily data of N instruments over T sessions, ascending, without a gap in the calendar.

    Attributes:
        sessions: dates of the clock's sessions, ``datetime64[D]``, shape (T,), ascending.
        symbols: instrument names, length N, sorted.
        close: closing price in the instrument's currency as printed that day, shape (T, N); NaN where no bar is known.
        total_return: simple return from the instrument's previous bar to this one, splits, dividends and spin-offs of
            the day included, in the base currency, shape (T, N); NaN on the first bar, where no bar is known, and where
            the worth of what was spun off is not. It is built forward from each day's own actions, so that cutting the
            future off never changes the past.
        open, high, low, volume: like ``close``; all NaN where the source has none.
        member: in the universe on that session, shape (T, N).
        sentiment: decayed daily sentiment known by the session's decision time, in [-1, 1]; NaN where there is none.
        split: the split ratio effective on that session (2.0 for two new for one), 1.0 on ordinary days.
        dividend: cash per share going ex on that session, 0.0 on ordinary days.
        spin_off: worth of the shares of another company that one share brought on that session, at their first close;
            0.0 on ordinary days, NaN where that is not known. None: nothing was spun off.
        vwap: volume-weighted average price of the session, as printed, like ``close``; NaN where it is not known. None:
            no source told it. It may be known later than the decision: orders fill at it, and no feature reads it.
        price_basis: ``total_return`` when ``close`` is itself an index of total return: shares are then
            pseudo-shares and rules on raw prices and volumes do not apply.
        base: the currency that money is counted in; empty where nothing is converted.
        currency: what each instrument's prices, dividends and spin-offs are told in, length N; empty: the base
            currency, of all.
        rate: worth of one unit of it in the base currency, the last that was known at that session's decision, shape
            (T, N); NaN before the first one is. None: everything is in the base currency.
        exchange: whose sessions are the clock. An instrument with a calendar of its own (a coin beside shares) has in
            each row what was complete of it by that session's decision (`octopus.market_data.clock.on_clock`).
    """

    sessions: DateArray
    symbols: tuple[str, ...]
    close: FloatArray
    total_return: FloatArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    volume: FloatArray
    member: BoolArray
    sentiment: FloatArray
    split: FloatArray
    dividend: FloatArray
    price_basis: PriceBasis
    spin_off: FloatArray | None = None
    vwap: FloatArray | None = None
    exchange: str = EXCHANGE
    base: str = ""
    currency: tuple[str, ...] = ()
    rate: FloatArray | None = None

    @property
    def clock(self) -> Sessions:
        """The calendar of the panel's rows."""
        return Sessions(self.exchange)

    @property
    def worth(self) -> FloatArray:
        """Closing price in the base currency, shape (T, N); NaN without a bar or without a rate."""
        return self.close if self.rate is None else self.close * self.rate

    def worth_at(self, row: int) -> FloatArray:
        """One row of `worth`, shape (N,)."""
        return np.asarray(self.close[row] if self.rate is None else self.close[row] * self.rate[row])

    @property
    def foreign(self) -> BoolArray:
        """Which instruments trade for another currency than the base, shape (N,); pence are pounds."""
        if self.rate is None:
            return np.zeros(len(self.symbols), dtype=bool)
        return np.array([major_unit(name)[0] != self.base for name in self.currency], dtype=bool)

    def __post_init__(self) -> None:
        shape = (len(self.sessions), len(self.symbols))
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray) and item.name != "sessions" and value.shape != shape:
                raise MissingDataError(
                    f"panel.{item.name} has shape {value.shape}, expected {shape} (sessions × symbols)"
                )
        if self.rate is not None and len(self.currency) != len(self.symbols):
            raise MissingDataError(
                f"panel.currency names {len(self.currency)} currencies for {len(self.symbols)} instruments with a rate"
            )

    def at(self, session: date) -> int:
        """Row of ``session``; raises `MissingDataError` when it is not in the panel."""
        day = np.datetime64(session, "D")
        row = int(np.searchsorted(self.sessions, day))
        if row == len(self.sessions) or self.sessions[row] != day:
            span = f"{self.sessions[0]}..{self.sessions[-1]}" if len(self.sessions) else "empty"
            raise MissingDataError(f"no session {session} in the panel ({span}); ingest that day first")
        return row

    def until(self, session: date) -> Panel:
        """The panel cut after ``session`` (inclusive)."""
        return self.rows(0, self.at(session) + 1)

    def rows(self, start: int, stop: int) -> Panel:
        """Sessions ``start`` to ``stop`` (half-open row numbers)."""
        arrays: dict[str, Any] = {
            item.name: value[start:stop]
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), np.ndarray)
        }
        return replace(self, **arrays)

    def only(self, chosen: BoolArray) -> Panel:
        """The instruments of ``chosen``, shape (N,)."""
        parts: dict[str, Any] = {
            item.name: value[:, chosen]
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), np.ndarray) and item.name != "sessions"
        }
        for name in ("symbols", "currency"):
            told = getattr(self, name)
            parts[name] = (
                tuple(value for value, kept in zip(told, chosen.tolist(), strict=True) if kept) if told else ()
            )
        return replace(self, **parts)


def average_volume(volume: FloatArray, split: FloatArray) -> FloatArray:
    """Mean of the known volumes of the last `ADV_SESSIONS` rows, in shares of the last one.

    A share of before a split is as many of today's as the split made of it; so is a volume that was printed then.

    Args:
        volume, split: as `Panel` has them, shape (T, N).

    Returns:
        Shape (N,); NaN where none is known.
    """
    shares = np.cumprod(split[-ADV_SESSIONS:], axis=0)
    recent = volume[-ADV_SESSIONS:] * (shares[-1:] / shares)
    known = np.isfinite(recent)
    count = known.sum(axis=0)
    return np.asarray(np.where(count > 0, np.where(known, recent, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan))
