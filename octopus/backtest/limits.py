"""Limit orders of a backtest: at which prices they stand, and what a backtest with them is not made for.

Belongs here: the limit of every possible order, and refusals. Does not: the rules of limit orders
(octopus/core/limit_orders.py, which the plan and the paper broker ask, too), executing them (the engines).

As the daily run has it: orders are sent before the open. Those whose limit the open meets execute there, sells before
buys, within cash; then those that the session reaches, likewise, at their limits.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from octopus.backtest.exits import require_sessions, to_tick
from octopus.core.errors import ConfigError
from octopus.core.limit_orders import limit_price
from octopus.core.orders import Side
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.portfolio.units import NO_UNITS, TradingUnits


def refuse_limits(panel: Panel) -> None:
    """See that limit orders can be simulated here.

    Raises:
        ConfigError: more than one currency. MissingDataError: no highs or lows, or trading that never ends, whose
            sessions open before they are decided.
    """
    if panel.rate is not None:
        raise ConfigError(
            where="config/strategies.yaml", field="execution.limit_bps", value="set",
            remedy="limits are for instruments in the account's currency: no others; or set null",
        )  # fmt: skip
    require_sessions(panel, "limit_bps", "sessions that open", panel.high, panel.low)


def limit_prices(panel: Panel, offset: Decimal, units: TradingUnits = NO_UNITS) -> tuple[FloatArray, FloatArray]:
    """Limits of a purchase and of a sale planned at each close, as `octopus.core.limit_orders.limit_price` has them, in
    whole ticks of the instruments' own where ``units`` has any.

    Returns:
        Both of shape (T, N) like the panel, NaN without a close.

    Raises:
        ConfigError: a purchase of a member would have no limit.
    """
    close, part = panel.close, float(offset)
    purchases, sales = to_tick(close * (1.0 - part), up=False), to_tick(close * (1.0 + part), up=True)
    if units.ticks:
        ticks = units.ticks_of(panel.symbols)
        purchases, sales = to_tick(purchases, up=False, own=ticks), to_tick(sales, up=True, own=ticks)
    for row, column in np.argwhere((purchases <= 0.0) & panel.member)[:1].tolist():
        limit = limit_price(Side.BUY, Decimal(repr(float(close[row, column]))), offset)
        units.limit(Side.BUY, panel.symbols[column], limit)
    return purchases, sales
