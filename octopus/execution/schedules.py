"""Schedules: how a parent intent is worked over a window in child intents.

Belongs here: TWAP, VWAP and participation, and the one rule by which the next child is cut. Does not: sending children,
which are intents of their own (`PlannedOrder`) with states of their own, or telling the time and the volume.

A schedule says how many shares should have been ordered by now. A child is what is missing to that, and never more
than the parent has left: every child's fills, and whatever of it works or is not known, count as ordered
(`committed`). So filled + working + unknown never exceeds the parent, whatever becomes of the children; what a
child leaves unfilled when it ends falls to the next ones.

At most one child of a parent stands. An instrument that is halted or does not trade leaves a child unfilled at the
venue, and children that were cut all the same would stand beside it and execute together when it trades again. So the
next child waits until the last one has filled or ended. And no child of a schedule of fixed slices is larger than the
largest that it cuts when all goes well: whatever was missed, by a halt of ours, by a denial, behind a child that stood,
is caught up by later children of that size, as far as the window has looks for them (`ScheduleConfig.looks`). What they
do not reach is the remainder. Participation is bounded by the market's volume alone.

Children are whole lots. Where the parent is none itself (the whole of a position with a fraction, a lot that is larger
since it was planned), the child that is cut once all is due takes the rest, whatever it is. Of a parent in whole lots
a rest of less than a lot, which an odd fill leaves, is not sent: no venue of such lots takes it.

Sources: A. Madhavan, VWAP Strategies, Institutional Investor Journals, Transaction Performance (2002); R. Kissell, The
Science of Algorithmic Trading and Portfolio Management (2013), chapter 1.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

import numpy as np

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.orders import OrderType, PlannedOrder
from octopus.core.types import FloatArray
from octopus.execution.states import UNRESOLVED, OrderState, OrderStatus


class ScheduleError(OctopusError):
    """A schedule that cannot be worked; the message names the field, its value and the remedy."""


@dataclass(frozen=True)
class Window:
    """When children may be sent: ``start <= now < end``."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise ScheduleError(f"window: start {self.start} is not before end {self.end}; give a later end")

    def contains(self, now: datetime) -> bool:
        return self.start <= now < self.end


@dataclass(frozen=True)
class Weighted:
    """A schedule of fixed slices: TWAP with equal weights, VWAP with those of the volume.

    Attributes:
        weights: of the slices, which divide the window evenly; positive, summing to one.
        awaits_fills: no child is cut while one stands unfilled. False where no fill is told within the session.
    """

    window: Window
    weights: tuple[Decimal, ...]
    awaits_fills: bool = True

    def __post_init__(self) -> None:
        if not self.weights or any(weight < 0 for weight in self.weights) or sum(self.weights) != 1:
            raise ScheduleError(f"weights = {self.weights}: give one or more, none negative, that sum to 1")

    @property
    def begins(self) -> tuple[datetime, ...]:
        """When each slice begins, to the microsecond."""
        length = self.window.end - self.window.start
        return tuple(self.window.start + number * length / len(self.weights) for number in range(len(self.weights)))

    def due(self, quantity: Decimal, now: datetime, market_volume: Decimal) -> Decimal:
        """Shares of ``quantity`` to have been ordered by ``now``: each slice is due as it begins."""
        return self._due(quantity, bisect_right(self.begins, now))

    def largest(self, quantity: Decimal, lot: Decimal) -> Decimal:
        """Shares of the largest child of an order of ``quantity`` whose children are all sent, each in its turn."""
        due = (self._due(quantity, begun) for begun in range(1, len(self.weights) + 1))
        return max(quantities(quantity, due, lot), default=Decimal(0))

    def _due(self, quantity: Decimal, begun: int) -> Decimal:
        return quantity * sum(self.weights[:begun], Decimal(0))


@dataclass(frozen=True)
class Participation:
    """A schedule that follows the market: a fraction of the volume traded since the window's start.

    Attributes:
        rate: of the market's volume, our own trades included, in (0, 1).
        awaits_fills: as of `Weighted`.
    """

    window: Window
    rate: Decimal
    awaits_fills: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ScheduleError(f"rate = {self.rate}: give a fraction of the market's volume above 0 and below 1")

    def due(self, quantity: Decimal, now: datetime, market_volume: Decimal) -> Decimal:
        """Shares of ``quantity`` to have been ordered by ``now``: ``rate`` of the volume, at most all of them."""
        if now < self.window.start:
            return Decimal(0)
        return min(quantity, self.rate * market_volume)

    def largest(self, quantity: Decimal, lot: Decimal) -> Decimal:
        """All of it: what is due is a part of what the market traded, and so is a child."""
        return quantity


Schedule = Weighted | Participation


def twap(window: Window, slices: int) -> Weighted:
    """Equal slices over equal times (time-weighted average price).

    Raises:
        ScheduleError: fewer than one slice.
    """
    if slices < 1:
        raise ScheduleError(f"slices = {slices}: give at least 1")
    return Weighted(window, _weights([1.0] * slices))


def vwap(window: Window, volumes: FloatArray) -> Weighted:
    """Slices in proportion to when the market usually trades (volume-weighted average price).

    Args:
        volumes: shares traded in past sessions, shape (sessions, slices); a session without volume is left out.

    Raises:
        ScheduleError: no session has volume, or a volume is negative or not a number.
    """
    if volumes.ndim != 2 or not np.isfinite(volumes).all() or (volumes < 0).any():  # sessions, slices
        raise ScheduleError(f"volumes of shape {volumes.shape}: give finite, non-negative sessions × slices")
    traded = volumes[volumes.sum(axis=1) > 0]
    if not len(traded):
        raise ScheduleError("volumes: no session has any; use twap")
    # The mean of each day's fractions, so that one heavy day does not decide the profile.
    profile = (traded / traded.sum(axis=1, keepdims=True)).mean(axis=0)
    return Weighted(window, _weights(profile.tolist()))


def committed(children: Sequence[OrderStatus]) -> Decimal:
    """Shares that the children have filled, or may still fill."""
    return sum((child.filled + child.remaining for child in children), Decimal(0))


def next_child(
    parent: PlannedOrder,
    schedule: Schedule,
    children: Sequence[OrderStatus],
    now: datetime,
    *,
    lot: Decimal,
    market_volume: Decimal = Decimal(0),
) -> PlannedOrder | None:
    """The child intent to send now; None when nothing is due.

    Nothing is cut outside the window, nor while a child is still to be sent, its outcome is unknown (its instrument is
    frozen), or it stands unfilled where fills are awaited.

    Args:
        children: every child cut so far, in order, whatever became of it.
        lot: of which every child is a multiple, but the one that takes the rest of a parent that is none.
        market_volume: shares traded since the window's start, for participation.

    Raises:
        ScheduleError: the lot is not positive.
    """
    if not lot > 0:
        raise ScheduleError(f"lot = {plain(lot)} of {parent.instrument}: give a positive number of shares")
    if not schedule.window.contains(now) or _is_open(children) or (schedule.awaits_fills and _stands(children)):
        return None
    missing = _cut(parent.quantity, schedule.due(parent.quantity, now, market_volume), committed(children), lot)
    largest = schedule.largest(parent.quantity, lot)
    quantity = missing if missing <= largest else _whole_lots(largest, lot)
    if quantity <= 0:
        return None
    return replace(parent, intent_id=child_id(parent.intent_id, len(children)), quantity=quantity)


def quantities(quantity: Decimal, due: Iterable[Decimal], lot: Decimal) -> list[Decimal]:
    """What `next_child` cuts, look after look, of an order whose children are all sent, and none of which ends early.

    Args:
        due: shares that should have been ordered at each look, not falling.
    """
    cut: list[Decimal] = []
    ordered = Decimal(0)
    for wanted in due:
        child = _cut(quantity, wanted, ordered, lot)
        if child > 0:
            cut.append(child)
            ordered += child
    return cut


def _cut(quantity: Decimal, due: Decimal, ordered: Decimal, lot: Decimal) -> Decimal:
    """Whole lots that are missing to what is due; a part of a billion of a lot that rounding took is no lot less."""
    if quantity - due <= lot * _LOT_ROUNDING:
        return _rest(quantity, ordered, lot)
    return _whole_lots(due - ordered, lot)


def _rest(quantity: Decimal, ordered: Decimal, lot: Decimal) -> Decimal:
    """What is left to order, in whole lots where the order as a whole is."""
    left = quantity - ordered
    return left if quantity % lot else _whole_lots(left, lot)


def _whole_lots(shares: Decimal, lot: Decimal) -> Decimal:
    return (shares / lot).quantize(_LOT_ROUNDING).to_integral_value(ROUND_DOWN) * lot


def closing_child(
    parent: PlannedOrder, children: Sequence[tuple[PlannedOrder, OrderStatus]], *, lot: Decimal
) -> PlannedOrder | None:
    """After the window: one market-on-close child of what no child has filled and none may still fill.

    None while a child is still to be sent or its outcome is unknown, once there was such a child, and where less than a
    lot is left of a parent in whole lots. A child that stands unfilled keeps it from nothing: it meets the closing
    auction alone.

    Args:
        lot: as of `next_child`.
    """
    statuses = [status for _, status in children]
    was_cut = any(child.order_type is OrderType.MARKET_ON_CLOSE for child, _ in children)
    quantity = _rest(parent.quantity, committed(statuses), lot)
    if was_cut or _is_open(statuses) or quantity <= 0:
        return None
    name = child_id(parent.intent_id, len(children))
    return replace(parent, intent_id=name, quantity=quantity, order_type=OrderType.MARKET_ON_CLOSE)


def _is_open(children: Sequence[OrderStatus]) -> bool:
    return any(child.state in _OPEN for child in children)


def _stands(children: Sequence[OrderStatus]) -> bool:
    return any(child.remaining for child in children)


_OPEN = UNRESOLVED | {OrderState.APPROVED}
"""States of children that may yet become an order which is not counted as one."""


def child_id(parent: str, number: int) -> str:
    """Id of the ``number``-th child intent, from 0: the same child always has the same id."""
    return f"{parent}-c{number:04d}"


def parent_of(intent_id: str) -> str | None:
    """The planned intent's id of a slice's or a replacement's; None of a planned intent."""
    found = _CHILD.fullmatch(intent_id)
    return found[1] if found else None


_LOT_ROUNDING = Decimal("1e-9")
_WEIGHT_STEP = Decimal("1e-20")
"""Fine enough that a third of 3,000 shares is 1,000, and coarse enough that products with shares are exact."""
_CHILD = re.compile(r"(.+)-[cr]\d{4,}")


def _weights(parts: Sequence[float]) -> tuple[Decimal, ...]:
    """Exact weights that sum to one: the last one takes what rounding leaves."""
    total = sum(parts)
    rounded = [(Decimal(repr(part)) / Decimal(repr(total))).quantize(_WEIGHT_STEP) for part in parts[:-1]]
    return (*rounded, 1 - sum(rounded, Decimal(0)))
