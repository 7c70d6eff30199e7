"""Transaction cost analysis: what it cost to turn a decision into a position, order by order.

Belongs here: the implementation shortfall of one order and its parts. Does not: expected costs, with which portfolios
are planned and backtests run (octopus/core/costs.py), drawing (pictures.py).

The yardstick is Perold's paper portfolio: all shares of the order, bought (or sold) at the price of the decision, at
once and for nothing. Shortfall is what it gained more than the real order did, both valued at the same end price; it is
positive when executing cost something. All arithmetic is exact `Decimal`: the parts add up with no residual.

Source: A. Perold, The Implementation Shortfall: Paper versus Reality, Journal of Portfolio Management 14 (1988); the
split of the executed part into delay and trading is that of W. Wagner and M. Edwards, Best Execution, Financial
Analysts Journal 49 (1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from octopus.core.errors import OctopusError
from octopus.core.orders import Fill, PlannedOrder

_EXACT = Context(prec=60)
_BPS = Decimal(10_000)


class InvalidPriceError(OctopusError):
    """A price of the analysis is not positive; the message names it."""


@dataclass(frozen=True)
class OrderCosts:
    """The cost of one order, in the account's currency (``_usd``) or basis points of the named notional (``_bps``).

    Attributes:
        filled: shares filled, positive.
        average_price: of the fills, before fees; None if nothing was filled.
        delay_usd: the price's move against us from the decision to the order's arrival at the market, on what was
            filled.
        trading_usd: from arrival to the fills (spread, impact, timing).
        opportunity_usd: what the shares that were never filled would have gained from the decision to the end;
            negative where not trading them was luck.
        fees_usd: commissions and charges.
    """

    filled: Decimal
    average_price: Decimal | None
    decision_notional_usd: Decimal
    arrival_notional_usd: Decimal
    delay_usd: Decimal
    trading_usd: Decimal
    opportunity_usd: Decimal
    fees_usd: Decimal

    @property
    def shortfall_usd(self) -> Decimal:
        """Implementation shortfall: the sum of the four parts."""
        with localcontext(_EXACT):
            return self.delay_usd + self.trading_usd + self.opportunity_usd + self.fees_usd

    @property
    def shortfall_bps(self) -> Decimal:
        """Shortfall in basis points of the whole order at the decision's price."""
        return _BPS * self.shortfall_usd / self.decision_notional_usd

    @property
    def slippage_bps(self) -> Decimal | None:
        """Average fill against the arrival price, against us positive, without fees; None if nothing was filled."""
        return _BPS * self.trading_usd / self.arrival_notional_usd if self.filled else None


def order_costs(
    order: PlannedOrder, fills: Sequence[Fill], *, decision_price: Decimal, arrival_price: Decimal, end_price: Decimal
) -> OrderCosts:
    """The cost of an order that has ended.

    Args:
        fills: all executions of the order, in the units of ``order`` (no split in between).
        decision_price: of the paper portfolio: the close with which the order was planned.
        arrival_price: of the market when the order could first be sent.
        end_price: at which both portfolios are valued: the close of the session of execution.

    Raises:
        InvalidPriceError: a price is not positive.
    """
    for name, price in (("decision", decision_price), ("arrival", arrival_price), ("end", end_price)):
        if not price > 0:
            raise InvalidPriceError(
                f"{name} price of {order.instrument} is {price}: it must be positive; check its bars"
            )
    with localcontext(_EXACT):
        sign = order.side.sign
        filled = sum((fill.quantity for fill in fills), Decimal(0))
        value = sum((fill.quantity * fill.price for fill in fills), Decimal(0))
        return OrderCosts(
            filled=filled,
            average_price=value / filled if filled else None,
            decision_notional_usd=order.quantity * decision_price,
            arrival_notional_usd=filled * arrival_price,
            delay_usd=sign * filled * (arrival_price - decision_price),
            trading_usd=sign * (value - filled * arrival_price),
            opportunity_usd=sign * (order.quantity - filled) * (end_price - decision_price),
            fees_usd=sum((fill.fees for fill in fills), Decimal(0)),
        )
