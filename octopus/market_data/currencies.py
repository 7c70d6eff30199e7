"""Instruments of several currencies in one base currency: what a unit of each was worth at every decision.

Belongs here: rates from the bars of currency pairs, and the panel that carries them. Does not: reading bars
(resources/warehouse), what a conversion costs (octopus/backtest, resources/brokers).

A rate is market data like any other: the close of a pair's last bar that was complete by a session's decision
(octopus/market_data/clock.py). So the rate that a decision uses was known by then, and a fill, a dividend and a mark
of a session use that session's. A rate is never assumed: before the first one an instrument cannot be traded, a gap of
up to `PATIENCE_SESSIONS` is bridged by the last one, and a longer gap is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from octopus.core.currency import RATE_DECIMALS, major_unit
from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel
from octopus.core.types import BoolArray, FloatArray
from octopus.market_data.returns import total_returns

PATIENCE_SESSIONS = 5
"""Sessions for which a rate stands when no newer one is known: a week of holidays at either place."""


def in_base(panel: Panel, base: str, pairs: Mapping[str, str], currencies: Mapping[str, str]) -> Panel:
    """``panel`` without its currency pairs, with rates, and with total returns in the base currency.

    Args:
        panel: in each instrument's own currency; the pairs are columns of it.
        base: the account's currency. pairs: by currency the instrument whose price is that currency's in the base, or
            the base's in that currency.
        currencies: what each instrument is quoted in.

    Returns:
        The panel itself where no instrument needs a rate and there is no pair.

    Raises:
        MissingDataError: a currency without a pair, a pair without bars or of other currencies, or a rate that is
            older than `PATIENCE_SESSIONS` on a session on which an instrument needs it.
    """
    used = set(pairs.values())
    rest = np.array([name not in used for name in panel.symbols], dtype=bool)
    if not rest.any():
        raise MissingDataError("no instrument but currency pairs has a bar; ingest what is traded, too")
    own = panel if rest.all() else _trimmed(panel.only(rest))
    quoted = tuple(_quoted(name, currencies, base, own, column) for column, name in enumerate(own.symbols))
    if all(unit == base for unit in quoted):
        return own
    first = int(np.searchsorted(panel.sessions, own.sessions[0]))
    rows = slice(first, first + len(own.sessions))
    rate = np.ones(own.close.shape)
    for unit in sorted(set(quoted) - {base}):
        columns = np.array([one == unit for one in quoted], dtype=bool)
        rate[:, columns] = _rates(panel, unit, base, pairs, currencies, own, rows, columns)[:, None]
    return replace(
        own,
        base=base,
        currency=quoted,
        rate=rate,
        total_return=_converted(own, rate),
        member=own.member & np.isfinite(rate),
    )


def worths(closes: FloatArray, unit: str, base: str, pair: str, quote: str) -> FloatArray:
    """What one ``unit`` is worth in ``base`` at closes of a pair, to `RATE_DECIMALS` places; NaN where there is none.

    Args:
        closes: of any shape. pair, quote: the pair's name, and what its price is told in.

    Raises:
        MissingDataError: the pair is quoted in neither currency.
    """
    major, part = major_unit(unit)
    if quote not in (base, major):
        raise MissingDataError(
            f"universe.rates: {major}: {pair} is quoted in {quote or 'an unknown currency'}, which is neither {base} "
            f"nor {major}; name the pair of the two"
        )
    sound = np.where(closes > 0.0, closes, np.nan)
    return np.asarray(np.round((sound if quote == base else 1.0 / sound) * part, RATE_DECIMALS))


def as_printed(panel: Panel) -> Panel:
    """``panel`` with every figure in its instrument's own currency, as it was before `in_base`."""
    if panel.rate is None:
        return panel
    own = total_returns(panel.close, panel.split, panel.dividend, panel.spin_off)
    return replace(panel, base="", currency=(), rate=None, total_return=own)


def _quoted(name: str, currencies: Mapping[str, str], base: str, own: Panel, column: int) -> str:
    unit = currencies.get(name)
    if unit is not None:
        return unit
    if not own.member[:, column].any():
        # Without a description it is never a member, and never traded.
        return base
    raise MissingDataError(f"{name} is traded, and no description says in which currency; ingest raw/instruments")


def _trimmed(panel: Panel) -> Panel:
    """Without the sessions before and after all bars, on which there were only rates."""
    has_bar = np.flatnonzero(np.isfinite(panel.close).any(axis=1))
    return panel.rows(int(has_bar[0]), int(has_bar[-1]) + 1)


def _rates(
    panel: Panel,
    unit: str,
    base: str,
    pairs: Mapping[str, str],
    currencies: Mapping[str, str],
    own: Panel,
    rows: slice,
    columns: BoolArray,
) -> FloatArray:
    """Worth of one ``unit``, on the sessions of ``own``, shape (T,); NaN before the first."""
    major, part = major_unit(unit)
    needed = np.isfinite(own.close[:, columns]).any(axis=1)
    if major == base:
        return np.full(len(own.sessions), part)
    names = ", ".join(np.array(own.symbols)[columns][:3])
    pair = pairs.get(major)
    if pair is None:
        raise MissingDataError(
            f"{names}: quoted in {unit}, the account counts in {base}, and universe.rates has no pair of {major}; name "
            f"one, e.g. {{{major}: {major}{base}=X}} for Yahoo"
        )
    if pair not in panel.symbols:
        raise MissingDataError(
            f"universe.rates: {major}: {pair} has no bar yet, and {names} cannot be valued without it; ingest it"
        )
    closes = panel.close[:, panel.symbols.index(pair)]
    rate, age = _carried(worths(closes, unit, base, pair, currencies.get(pair, "")))
    stale = needed & (age[rows] > PATIENCE_SESSIONS)
    if stale.any():
        row = int(np.argmax(stale))
        raise MissingDataError(
            f"universe.rates: {pair} has no bar for the {int(age[rows][row])} sessions up to {own.sessions[row]}, and "
            f"{names} would be valued at a rate older than {PATIENCE_SESSIONS}; ingest the pair's bars again"
        )
    return np.asarray(rate[rows])


def _carried(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The last known of ``values``, shape (T,), and how many rows ago it was known; NaN and 0 before the first."""
    rows = np.arange(len(values))
    last = np.maximum.accumulate(np.where(np.isfinite(values), rows, -1))
    return np.where(last >= 0, values[np.maximum(last, 0)], np.nan), np.where(last >= 0, rows - last, 0).astype(float)


def _converted(own: Panel, rate: FloatArray) -> FloatArray:
    """Total returns in the base currency: those of the instrument times the move of the rate between its bars."""
    rows = np.arange(len(rate))[:, None]
    last = np.maximum.accumulate(np.where(np.isfinite(own.close), rows, -1), axis=0)
    before = np.vstack([np.full((1, rate.shape[1]), -1), last[:-1]])
    earlier = np.where(before >= 0, np.take_along_axis(rate, np.maximum(before, 0), axis=0), np.nan)
    # Where the rate stood still the return is the instrument's own, bit for bit.
    moved = rate / earlier
    return np.where(moved == 1.0, own.total_return, (1.0 + own.total_return) * moved - 1.0)
