"""Exits of a backtest's entries: where they stand, and what a backtest with them is not made for.

Belongs here: the prices of every possible entry's exits, and refusals. Does not: the rules of brackets
(octopus/core/brackets.py, which the order path and the paper broker ask, too), executing them (the engines).

As the daily run has it: the plan's orders are sent before the open as market orders and meet it, or the close where a
bar has no open. What then opened or enlarged a position has its exits for the rest of the session. A daily bar does not
tell which of two prices came first: in doubt it was the stop.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from octopus.core.brackets import bracket_at
from octopus.core.errors import ConfigError, MissingDataError
from octopus.core.orders import Side
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.execution.config import BracketConfig
from octopus.portfolio.units import NO_UNITS, TradingUnits

_PART_OF_A_TICK, _PART_OF_A_PRICE = 1e-8, 1e-14
"""As near as this to whole ticks, a price is them: 9499.9999999999 ticks are 9500, and so are those of a price of which
floats have no more digits."""


def refuse_brackets(panel: Panel, *, long_only: bool) -> None:
    """See that exits can be simulated here.

    Args:
        long_only: whether no position is ever short.

    Raises:
        ConfigError: short sales, or more than one currency. MissingDataError: no opening prices, highs or
            lows, or trading that never ends, whose sessions open before they are decided.
    """
    for problem, found in (
        ("are simulated for portfolios without short sales: set portfolio.constraints.long_only", not long_only),
        ("are for instruments in the account's currency: no others", panel.rate is not None),
    ):
        if found:
            raise ConfigError(
                where="config/strategies.yaml", field="execution.bracket", value="set",
                remedy=f"exits {problem}; or set bracket: null",
            )  # fmt: skip
    require_sessions(panel, "bracket", "opening prices", panel.open, panel.high, panel.low)


def require_sessions(panel: Panel, setting: str, asked: str, *values: FloatArray) -> None:
    """See that sessions open after each decision, and that each of ``values`` is known of some.

    Args:
        setting: of the section execution. asked: what it needs besides highs and lows.

    Raises:
        MissingDataError: they do not, or one is not.
    """
    if panel.clock.continuous or not all(np.isfinite(one).any() for one in values):
        raise MissingDataError(
            f"execution.{setting} needs {asked} after each decision, highs and lows, and the panel has none of one of "
            f"them; set {setting}: null, or take a source that has them"
        )


def exit_prices(panel: Panel, bracket: BracketConfig, units: TradingUnits = NO_UNITS) -> tuple[FloatArray, FloatArray]:
    """Stop and target of a purchase planned at each close, as `octopus.core.brackets.bracket_at` has them, in whole
    ticks of the instruments' own where ``units`` has any.

    Returns:
        Both of shape (T, N) like the panel, NaN where there is none.

    Raises:
        ConfigError: an exit would not stand beyond the close of a member.
    """
    close, nothing = panel.close, np.full(panel.close.shape, np.nan)
    stops = nothing if bracket.stop_loss is None else to_tick(close * (1.0 - bracket.stop_loss), up=True)
    targets = nothing if bracket.take_profit is None else to_tick(close * (1.0 + bracket.take_profit), up=False)
    if units.ticks:
        ticks = units.ticks_of(panel.symbols)
        stops, targets = to_tick(stops, up=True, own=ticks), to_tick(targets, up=False, own=ticks)
    beyond = (stops <= 0.0) | (stops >= close) | (targets <= close)
    for row, column in np.argwhere(beyond & panel.member)[:1].tolist():
        price, own = Decimal(repr(float(close[row, column]))), units.ticks.get(panel.symbols[column])
        bracket_at(Side.BUY, price, *bracket.fractions, tick=own)
    return stops, targets


def to_tick(price: FloatArray, *, up: bool, own: FloatArray | None = None) -> FloatArray:
    """Prices in whole ticks (`octopus.core.brackets.tick_size`), shape unchanged.

    Args:
        own: ticks of the instruments', shape (N,), instead; NaN leaves a price as it is.
    """
    tick = np.where(price >= 1.0, 0.01, 0.0001) if own is None else own
    ticks = price / tick
    nearest = np.rint(ticks)
    is_whole = np.abs(ticks - nearest) <= np.maximum(_PART_OF_A_TICK, _PART_OF_A_PRICE * np.abs(ticks))
    ticks = np.where(is_whole, nearest, ticks)
    whole = np.round((np.ceil(ticks) if up else np.floor(ticks)) * tick, 4 if own is None else 9)
    return np.asarray(whole if own is None else np.where(np.isnan(own), price, whole))
