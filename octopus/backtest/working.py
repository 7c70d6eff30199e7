"""How a schedule works an order over one session, as far as daily bars tell.

Belongs here: what is due of an order as each slice of the window begins, the price of a session, and which price each
fill had. Does not: cutting children (octopus/execution/schedules.py, which the daily run asks), their costs (the
engines).

Daily bars know no hour of a session. So every child of an order trades at one price, the session's average (`average`):
what a schedule is meant to come near to. What participation is due follows the volume that the market is *expected* to
trade, the average day's, evenly over a session of normal length (`octopus.market_data.clock.normal_lengths`), for that
is all that the daily run knows while it works the order (`resources.warehouse.prices.WarehousePrices.expected_volume`).
Where trading never ends (24/7), the window is the last hour before the close, and the close is the price of the
children.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import pandas as pd

from octopus.backtest.config import Execution
from octopus.backtest.kernel import REST, STOPPED, TARGETED
from octopus.core.errors import MissingDataError
from octopus.core.panel import ADV_SESSIONS, Panel
from octopus.core.types import DateArray, FloatArray, IntArray
from octopus.execution.config import Kind, Remainder, ScheduleConfig
from octopus.execution.schedules import Weighted
from octopus.execution.window import LEAD
from octopus.market_data.clock import normal_lengths

_MICROSECOND = np.timedelta64(1, "us")
_NOTHING_DUE = np.zeros((1, 0))


@dataclass(frozen=True, eq=False)
class Work:
    """What is due of an order, session by session.

    Attributes:
        due: as each slice begins and with those before it, shape (T, slices): a fraction of the order or, where
            ``expected`` is told, of the expected volume. No slices: an order meets one auction.
        expected: shares that a session is expected to trade, as known at its decision before, in the row of the
            decision, shape (T, N); NaN where none is known, and then nothing is due. None: what is due follows no
            volume.
        in_close: whether what is never due goes into the close; otherwise it is not traded.
    """

    due: FloatArray
    expected: FloatArray | None
    in_close: bool

    @property
    def slices(self) -> int:
        return int(self.due.shape[1])


def work_of(panel: Panel, schedule: ScheduleConfig) -> Work:
    """The schedule over each session of ``panel``.

    Raises:
        ScheduleError: a session is no longer than what the schedule keeps free before its close.
        MissingDataError: participation, and a session of the panel is none of its calendar, or no volume is known.
    """
    if not schedule.is_scheduled:
        return Work(_NOTHING_DUE, None, in_close=False)
    if schedule.schedule is Kind.PARTICIPATION:
        if not np.isfinite(panel.volume).any():
            raise MissingDataError(
                "execution.schedule = participation needs volumes, and the panel has none: nothing would ever be due; "
                "take twap, or a source that has volumes"
            )
        due = schedule.rate * _elapsed(panel, schedule)
        return Work(due, expected_volume(panel.volume, panel.split), schedule.remainder is Remainder.CLOSE)
    day = pd.Timestamp("2000-01-03", tz="UTC").to_pydatetime()
    worked = schedule.over(day, day + timedelta(days=1))
    if not isinstance(worked, Weighted):
        raise TypeError(f"{schedule.schedule} has no weights")
    shares = [float(sum(worked.weights[: number + 1])) for number in range(len(worked.weights))]
    return Work(np.tile(shares, (len(panel.sessions), 1)), None, in_close=False)


def expected_volume(volume: FloatArray, split: FloatArray) -> FloatArray:
    """Of each row `octopus.core.panel.average_volume`, in the shares of that row. Shape (T, N)."""
    known = np.isfinite(volume)
    values, count, total = np.where(known, volume, 0.0), np.zeros(volume.shape), np.zeros(volume.shape)
    shares = np.cumprod(split, axis=0)
    for lag in range(min(ADV_SESSIONS, len(volume)) - 1, -1, -1):
        earlier = slice(len(values) - lag)
        total[lag:] += values[earlier] * (shares[lag:] / shares[earlier])
        count[lag:] += known[: len(known) - lag]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def average(panel: Panel) -> FloatArray:
    """The average price of each session, as printed, shape (T, N); NaN without a bar.

    The volume-weighted one where it is known; else the mean of high, low and close; else the close.
    """
    typical = (panel.high + panel.low + panel.close) / 3.0
    found = np.where(np.isfinite(typical), typical, panel.close)
    if panel.vwap is not None:
        found = np.where(np.isfinite(panel.vwap), panel.vwap, found)
    return np.where(np.isfinite(panel.close), found, np.nan)


PriceOfFill = Execution | Literal["limit"]


def prices_of_fills(
    panel: Panel, asked: PriceOfFill, session: DateArray, instrument: IntArray, kind: IntArray
) -> dict[str, int]:
    """How many fills had which price of their session, the most frequent first.

    Args:
        asked: what the settings say. session, instrument, kind: of each fill, shape (fills,).
    """
    names = (asked, "close", "vwap", "typical", "stop", "target")
    code = np.zeros(len(session), dtype=np.int8)
    if asked in ("open", "vwap"):
        rows = np.searchsorted(panel.sessions, session)
    if asked == "open":
        # Orders with exits meet the close where there is no open.
        code[~np.isfinite(panel.open[rows, instrument])] = names.index("close")
    if asked == "vwap":
        vwap, high, low = (
            np.zeros(len(rows), dtype=bool) if values is None else np.isfinite(values[rows, instrument])
            for values in (panel.vwap, panel.high, panel.low)
        )
        code[:] = np.select([vwap, high & low], [names.index("vwap"), names.index("typical")], names.index("close"))
    for which, name in ((REST, "close"), (STOPPED, "stop"), (TARGETED, "target")):
        code[kind == which] = names.index(name)
    counted: Counter[str] = Counter()
    for name, count in zip(names, np.bincount(code, minlength=len(names)).tolist(), strict=True):
        counted[name] += count
    return {name: count for name, count in counted.most_common() if count}


def _elapsed(panel: Panel, schedule: ScheduleConfig) -> FloatArray:
    """What has passed of each session since the window began as each slice begins, as a part of the session that an
    average volume is of, shape (T, slices)."""
    clock, days = panel.clock, panel.sessions
    strange = days[~np.isin(days, clock.between(days[0].item(), days[-1].item()))]
    if len(strange):
        raise MissingDataError(
            f"panel.sessions has {strange[0]}, which is no session of {panel.exchange}: participation asks for its "
            "hours; name the panel's own calendar in panel.exchange"
        )
    opens, closes = clock.opens_utc(days), clock.closes_utc(days)
    begins = closes - LEAD if clock.continuous else opens
    shortest = int(np.argmin(closes - begins))
    schedule.over(begins[shortest].to_pydatetime(), closes[shortest].to_pydatetime())
    window = (closes - begins - timedelta(minutes=schedule.ends_before_close_minutes)).to_numpy() / _MICROSECOND
    whole = normal_lengths(clock, days) / _MICROSECOND
    passed = np.rint(window[:, None] * np.arange(schedule.slices) / schedule.slices)
    return np.asarray(passed / whole[:, None])
