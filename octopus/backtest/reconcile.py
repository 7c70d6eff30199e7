"""Two engines' accounts of one backtest, compared ledger by ledger to the cent; the first difference is named.

Belongs here: comparing. Does not: running either engine (simulator.py, events.py), or comparing an account with a
broker's (octopus/execution/reconcile.py).

Figures in account currency may differ by less than half a cent, prices by a ten-millionth of themselves, shares by what
is worth less than half a cent: one engine counts in binary floats and the other in decimals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from octopus.backtest.simulator import BacktestResult, Trades
from octopus.core.types import BoolArray, FloatArray

HALF_A_CENT = 0.005
PRICE_TOLERANCE = 1e-7
WEIGHT_TOLERANCE = 1e-9
LEDGERS = (
    "sessions", "targets", "trades", "positions", "marks", "cash", "price_pnl", "currency_pnl", "dividends",
    "redemptions", "interest", "costs", "equity",
)  # fmt: skip
"""In the order in which a session makes them: what differs first is nearest to the cause."""


@dataclass(frozen=True)
class Difference:
    """One figure that the engines do not agree on.

    Attributes:
        ledger: of `LEDGERS`. vectorised, event_driven: what each says, in words.
    """

    ledger: str
    session: date
    instrument: str | None
    vectorised: str
    event_driven: str

    def __str__(self) -> str:
        where = f"{self.ledger} of {self.session}" + (f", {self.instrument}" if self.instrument else "")
        return f"{where}: the vectorised engine has {self.vectorised}, the event-driven {self.event_driven}"


@dataclass(frozen=True)
class Comparison:
    """Two accounts of one backtest.

    Attributes:
        differences: at most one for each ledger, its first; in order of time, then of `LEDGERS`.
        sessions, trades: that were compared. largest: the largest difference in account currency of any figure.
    """

    differences: tuple[Difference, ...]
    sessions: int
    trades: int
    largest: float

    @property
    def agree(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        compared = f"{self.trades:,} trades over {self.sessions:,} sessions"
        if self.agree:
            return f"both engines agree on {compared}; no figure differs by more than {self.largest:.6f}"
        return f"of {compared}, {len(self.differences)} ledgers differ; first {self.differences[0]}"


def compare(vectorised: BacktestResult, event_driven: BacktestResult) -> Comparison:
    """Every ledger of both engines."""
    left, right = vectorised, event_driven
    if not np.array_equal(left.sessions, right.sessions) or left.symbols != right.symbols:
        told = [f"{one.sessions[0]}..{one.sessions[-1]} of {len(one.symbols)} instruments" for one in (left, right)]
        gap = Difference("sessions", min(one.sessions[0] for one in (left, right)).item(), None, *told)
        return Comparison((gap,), 0, 0, float("inf"))
    found = [gap for gap in _gaps(left, right) if gap is not None]
    ordered = sorted(found, key=lambda gap: (gap.session, LEDGERS.index(gap.ledger)))
    amounts = [np.abs(ours - theirs).max(initial=0.0) for _, ours, theirs in _amounts(left, right)]
    return Comparison(tuple(ordered), len(left.sessions), len(left.trades), float(max(amounts)))


def _gaps(left: BacktestResult, right: BacktestResult) -> Iterator[Difference | None]:
    worth = np.where(np.isfinite(left.marks), np.maximum(left.marks, 1e-12), 1.0)
    yield _cell("targets", left, left.targets, right.targets, np.full(left.targets.shape, WEIGHT_TOLERANCE))
    yield _trade(left, right)
    yield _cell("positions", left, left.shares, right.shares, np.minimum(HALF_A_CENT / worth, 0.5))
    yield _cell("marks", left, left.marks, right.marks, worth * PRICE_TOLERANCE)
    seen: set[str] = set()
    for ledger, ours, theirs in _amounts(left, right):
        gap = _amount(ledger, left, ours, theirs)
        if gap is not None and ledger not in seen:
            seen.add(ledger)
            yield gap


def _amounts(left: BacktestResult, right: BacktestResult) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Ledgers of one figure a session, account currency."""
    for name in ("cash", "price_pnl", "currency_pnl", "dividends", "redemptions", "interest", "equity"):
        yield name, getattr(left, name), getattr(right, name)
    for kind, values in left.costs.items():
        yield "costs", values, right.costs[kind]


def _amount(ledger: str, of: BacktestResult, ours: FloatArray, theirs: FloatArray) -> Difference | None:
    wrong = ~(np.abs(ours - theirs) < HALF_A_CENT)
    if not wrong.any():
        return None
    row = int(np.argmax(wrong))
    return Difference(ledger, of.sessions[row].item(), None, f"{ours[row]:.4f}", f"{theirs[row]:.4f}")


def _cell(
    ledger: str, of: BacktestResult, ours: FloatArray, theirs: FloatArray, tolerance: FloatArray
) -> Difference | None:
    both_missing = np.isnan(ours) & np.isnan(theirs)
    wrong: BoolArray = ~(np.abs(ours - theirs) <= tolerance) & ~both_missing
    if not wrong.any():
        return None
    row, column = divmod(int(np.argmax(wrong)), wrong.shape[1])
    values = f"{ours[row, column]:.10g}", f"{theirs[row, column]:.10g}"
    return Difference(ledger, of.sessions[row].item(), of.symbols[column], *values)


def _trade(left: BacktestResult, right: BacktestResult) -> Difference | None:
    """The first trade that is not the same: who, which side, how many, at what price, with what commission."""
    ours, theirs = left.trades, right.trades
    count = min(len(ours), len(theirs))
    same = _alike(ours, theirs, count) & _priced_alike(ours, theirs, count)
    if same.all() and len(ours) == len(theirs):
        return None
    place = int(np.argmin(same)) if not same.all() else count
    first = min((one for one in (ours, theirs) if place < len(one)), key=lambda one: one.session[place])
    told = _told(ours, place, left), _told(theirs, place, right)
    return Difference("trades", first.session[place].item(), left.symbols[int(first.instrument[place])], *told)


def _alike(ours: Trades, theirs: Trades, count: int) -> BoolArray:
    return np.asarray(
        (ours.session[:count] == theirs.session[:count])
        & (ours.instrument[:count] == theirs.instrument[:count])
        & (ours.side[:count] == theirs.side[:count])
        & (
            np.abs(ours.shares[:count] - theirs.shares[:count]) * theirs.price[:count] * theirs.rate[:count]
            < HALF_A_CENT
        )
    )


def _priced_alike(ours: Trades, theirs: Trades, count: int) -> BoolArray:
    price, other = ours.price[:count], theirs.price[:count]
    is_priced = np.abs(price - other) <= PRICE_TOLERANCE * np.abs(other)
    is_priced &= np.abs(ours.rate[:count] - theirs.rate[:count]) <= PRICE_TOLERANCE * theirs.rate[:count]
    return np.asarray(is_priced & (np.abs(ours.fees[:count] - theirs.fees[:count]) < HALF_A_CENT))


def _told(trades: Trades, place: int, of: BacktestResult) -> str:
    if place >= len(trades):
        return "no more trades"
    side = "buys" if trades.side[place] > 0 else "sells"
    name, rate = of.symbols[int(trades.instrument[place])], trades.rate[place]
    return (
        f"{side} {trades.shares[place]:.10g} {name} at {trades.price[place]:.10g} with {trades.fees[place]:.4f} "
        f"commission on {trades.session[place]}" + (f", at a rate of {rate:.12g}" if rate != 1.0 else "")
    )
