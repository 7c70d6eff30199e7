"""Limit orders of a plan: at which prices they stand, and whether a session reaches them.

Belongs here: those rules, as the plan, the paper broker and both engines of the backtest share them. Does not: sending
(resources/brokers), exits (brackets.py), what a fill costs (costs.py).

A limit order stands from its session's open to its close. Where it opens at the limit or better, the order executes at
the open, less what the market takes, and never at a worse price than the limit. Where the session reaches the limit
later, it executes at the limit: it waited there, and the market came to it. A daily bar tells that the limit was
reached, not how much traded there: that all of it filled is an assumption.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from octopus.core.amounts import plain
from octopus.core.brackets import tick_size
from octopus.core.errors import ConfigError
from octopus.core.orders import OrderType, PlannedOrder, Side


def limit_price(side: Side, reference: Decimal, offset: Decimal) -> Decimal:
    """The limit of a passive order: ``offset`` from ``reference`` to the trader's advantage, rounded to the tick away
    from it.

    Args:
        reference: price of one share, in the instrument's own currency. offset: fraction, at least zero.

    Raises:
        ConfigError: a purchase's limit would be nothing.
    """
    moved = reference * (1 - side.sign * offset)
    tick = tick_size(moved)
    limit = (moved / tick).to_integral_value(ROUND_FLOOR if side is Side.BUY else ROUND_CEILING) * tick
    if limit <= 0:
        raise _refused(
            offset * 10_000, f"a {side.value} at {plain(reference)} would have the limit {plain(limit)}: set a smaller"
        )
    return limit


def with_limits(
    orders: Sequence[PlannedOrder], offset: Decimal, foreign: Collection[str] = ()
) -> tuple[PlannedOrder, ...]:
    """``orders`` as limit orders, each ``offset`` from its reference price.

    Args:
        foreign: instruments whose reference prices are not in their own currency.

    Raises:
        ConfigError: an order is in a foreign instrument, or has no limit.
    """
    for order in orders:
        if order.instrument in foreign:
            raise _refused(
                offset * 10_000, f"{order.instrument} is quoted in another currency than the account's: set null"
            )
    return tuple(
        replace(order, order_type=OrderType.LIMIT, price=limit_price(order.side, order.reference_price, offset))
        for order in orders
    )


def is_reached(sign: float, limit: float, high: float, low: float, close: float) -> bool:
    """Whether a session's range goes to the limit or beyond. Plain arithmetic, so that the simulator compiles it.

    Args:
        sign: of the order: 1 of a purchase, -1 of a sale.
        limit: NaN is never reached. high, low: NaN where the bar has none: then only the close is known.
    """
    extreme = low if sign > 0 else high
    # A comparison with NaN is false.
    if not sign * extreme <= sign * close:
        extreme = close
    return sign * extreme <= sign * limit


def _refused(value: Decimal, remedy: str) -> ConfigError:
    return ConfigError(where="config/strategies.yaml", field="execution.limit_bps", value=plain(value), remedy=remedy)
