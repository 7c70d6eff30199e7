"""What a model is taught to predict.

Belongs here: labels, when each is known, and how much of it no other label says. Does not: features, splits.

A decision of T is executed in T+1, so the return of T to T+1 is nobody's: every label begins at the close of T+1 and
its first return is that of T+2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel
from octopus.core.stats import centred_ranks, standardised
from octopus.core.types import FloatArray, IntArray

Form = Literal["standardised", "raw", "excess", "rank"]
LEAST_MEMBERS = 5
"""Members that a session needs before one is compared with the others."""
_FIRST = 2
"""Sessions from a label's row to its first return."""
_STILL = 1e-12
"""A deviation of returns up to here is rounding, and no measure of anything."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Outcomes and when each of them was known.

    Attributes:
        values: shape (T, N), NaN where there is none.
        known: row at whose close the outcome is known, shape (T, N); -1 where there is none.
    """

    values: FloatArray
    known: IntArray

    def where(self, usable: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Labels:
        """Without the cells that are not ``usable``."""
        return Labels(np.where(usable, self.values, np.nan), np.where(usable, self.known, -1))

    def until(self, row: int) -> Labels:
        """What was known at the close of ``row``: the rows up to it, without the outcomes that came later."""
        part = Labels(self.values[: row + 1], self.known[: row + 1])
        return part.where(part.known <= row)


def forward_return(panel: Panel, horizon: int, form: Form = "standardised") -> Labels:
    """Total return from the close of T+1 to the close of T+1+horizon.

    The label of row t is known at row t+1+horizon; there is none where the panel does not reach that far or a bar is
    missing.

    Args:
        horizon: sessions, at least 1.
        form: ``raw`` as a fraction, for every instrument; the others among the members of the session, of which at
            least `LEAST_MEMBERS` must have one: ``excess`` less their mean, ``standardised`` that in their standard
            deviation, ``rank`` from -0.5 to 0.5.
    """
    steps = panel.total_return
    forward = entered(panel)
    reach = len(steps) - 1 - horizon
    if reach > 0:
        growth = np.ones((reach, steps.shape[1]))
        for step in range(horizon):
            growth = growth * (1.0 + steps[_FIRST + step : _FIRST + step + reach])
        forward[:reach] *= growth - 1.0
    forward[max(reach, 0) :] = np.nan
    values = _formed(forward, panel, form)
    rows = np.broadcast_to(np.arange(len(steps))[:, None], values.shape)
    return Labels(values, np.where(np.isnan(values), -1, rows + known_after(horizon)))


def _formed(forward: FloatArray, panel: Panel, form: Form) -> FloatArray:
    if form == "raw":
        return forward
    if form == "standardised":
        return standardised(forward, panel.member, least=LEAST_MEMBERS)
    inside = np.where(panel.member, forward, np.nan)
    count = (~np.isnan(inside)).sum(axis=1, keepdims=True)
    if form == "rank":
        return np.where(count >= LEAST_MEMBERS, centred_ranks(inside), np.nan)
    total = np.where(np.isnan(inside), 0.0, inside).sum(axis=1, keepdims=True)
    return np.where(count >= LEAST_MEMBERS, inside - total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Barriers:
    """Where a position is closed.

    Attributes:
        limit: sessions after which it is closed whatever it has earned.
        profit, stop: distance of the barriers in standard deviations of a return over ``limit`` sessions.
        volatility_sessions: of the returns up to the decision that the deviation is measured on.
    """

    limit: int
    profit: float = 1.0
    stop: float = 1.0
    volatility_sessions: int = 63


def triple_barrier(panel: Panel, barriers: Barriers) -> Labels:
    """Which barrier a long position entered at the close of T+1 touches first: 1 profit, -1 stop, 0 the limit.

    Closes are what is compared with the barriers: intraday extremes are not in every source. The outcome is known at
    the touch, so that labels differ in length. A session without a bar touches nothing; without one at the limit there
    is no label.

    Source: López de Prado, Advances in Financial Machine Learning (2018), chapter 3.2.
    """
    exit_return, known = _exit(panel, barriers, np.ones(panel.close.shape))
    width = _width(panel, barriers)
    touched = np.where(
        exit_return >= barriers.profit * width, 1.0, np.where(exit_return <= -barriers.stop * width, -1.0, 0.0)
    )
    return Labels(np.where(known >= 0, touched, np.nan), known)


def meta_labels(panel: Panel, side: FloatArray, barriers: Barriers) -> Labels:
    """1 where following ``side`` between the barriers paid, 0 where it did not: what a second model learns, that says
    how far to believe the first.

    Args:
        side: what the first model says at each row, shape (T, N): positive is long, negative is short, 0 or NaN is
            nothing, and then there is no label. The profit barrier stands on its side.

    Raises:
        MissingDataError: ``side`` has another shape than the panel.

    Source: López de Prado, Advances in Financial Machine Learning (2018), chapter 3.6.
    """
    if side.shape != panel.close.shape:
        raise MissingDataError(f"side has shape {side.shape}, expected {panel.close.shape}: one for each cell")
    direction = np.sign(np.where(np.isnan(side), 0.0, side))
    earned, known = _exit(panel, barriers, direction)
    spoken = (known >= 0) & (direction != 0)
    return Labels(np.where(spoken, (earned > 0).astype(np.float64), np.nan), np.where(spoken, known, -1))


def _width(panel: Panel, barriers: Barriers) -> FloatArray:
    """Standard deviation of a return over the limit, from the returns up to each row, shape (T, N)."""
    window, returns = barriers.volatility_sessions, panel.total_return
    result = np.full(returns.shape, np.nan)
    if len(returns) >= window:
        views = np.lib.stride_tricks.sliding_window_view(returns, window, axis=0)
        result[window - 1 :] = views.std(axis=-1, ddof=1)
    return np.where(result > _STILL, result * np.sqrt(barriers.limit), np.nan)


def _exit(panel: Panel, barriers: Barriers, side: FloatArray) -> tuple[FloatArray, IntArray]:
    """What the position on ``side`` earned when it was closed, and the row at which it was; NaN and -1: not yet."""
    count = len(panel.total_return)
    width, rows = _width(panel, barriers), np.arange(count)[:, None]
    growth = entered(panel)
    earned, known = np.full(growth.shape, np.nan), np.full(growth.shape, -1, dtype=np.int64)
    for step in range(1, barriers.limit + 1):
        day = np.full(growth.shape, np.nan)
        day[: max(count - 1 - step, 0)] = panel.total_return[1 + step :]
        growth = growth * (1.0 + np.where(np.isnan(day), 0.0, day))
        now = side * (growth - 1.0)
        # Comparisons with NaN are false: without entry, volatility or bar nothing is touched.
        closes = (now >= barriers.profit * width) | (now <= -barriers.stop * width)
        if step == barriers.limit:
            closes |= ~np.isnan(now) & ~np.isnan(width)
        closes &= ~np.isnan(day) & (known < 0)
        earned = np.where(closes, now, earned)
        known = np.where(closes, rows + known_after(step), known)
    return earned, known


def entered(panel: Panel) -> FloatArray:
    """1 where a decision of the row could be executed at the close of T+1, NaN where there is no bar, shape (T, N).

    Without a bar in T+1 the return of T+2 spans the gap and holds a part that nobody could earn.
    """
    result = np.full(panel.close.shape, np.nan)
    result[:-1] = np.where(np.isnan(panel.close[1:]), np.nan, 1.0)
    return result


def known_after(horizon: int) -> int:
    """Sessions from a label's row to the one at whose close it is known."""
    return 1 + horizon


def average_uniqueness(labels: Labels) -> FloatArray:
    """How much of a label's outcome no other label of the same instrument shares, shape (T, N), in (0, 1].

    The mean, over the sessions whose returns make up the label, of 1 / labels that are made of that session too; NaN
    where there is no label. Labels of five sessions on every session have 1/5.

    Source: López de Prado, Advances in Financial Machine Learning (2018), chapter 4.3 and 4.4.
    """
    known = labels.known
    count, width = known.shape
    has, rows = known >= 0, np.arange(count)[:, None]
    first = np.broadcast_to(rows + _FIRST, known.shape)
    columns = np.broadcast_to(np.arange(width), known.shape)
    after = np.where(has, known + 1, 0)
    size = (count + 1) * width
    opened = np.bincount((first * width + columns)[has], minlength=size)[:size]
    closed = np.bincount((after * width + columns)[has], minlength=size)[:size]
    alive = np.cumsum((opened - closed).reshape(count + 1, width), axis=0)[:count]
    shares = np.zeros((count + 1, width))
    np.cumsum(np.where(alive > 0, 1.0 / np.maximum(alive, 1), 0.0), axis=0, out=shares[1:])
    begin = np.minimum(first, count)
    span = np.where(has, after - first, 1)
    total = np.take_along_axis(shares, after, axis=0) - np.take_along_axis(shares, begin, axis=0)
    return np.where(has, total / span, np.nan)
