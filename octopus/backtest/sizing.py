"""The rebalance plan's rules in floats, over all instruments at once.

Belongs here: what octopus/portfolio/rebalance.py does in Decimal, fast enough for thousands of sessions; a test holds
the two together. Does not: any rule of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octopus.core.costs import CostModel
from octopus.core.types import FloatArray
from octopus.portfolio.config import PortfolioConfig

_ROUNDING_DIGITS = 9


@dataclass(frozen=True)
class Sizing:
    """What turns weights into shares.

    Attributes:
        lot: shares. band: least change, fraction of equity. least_notional: account currency.
        cash_buffer: fraction of equity that a plan leaves in cash.
    """

    lot: float
    fractional: bool
    band: float
    least_notional: float
    cash_buffer: float
    long_only: bool

    @classmethod
    def of(cls, portfolio: PortfolioConfig) -> Sizing:
        return cls(
            lot=float(portfolio.lot),
            fractional=portfolio.fractional,
            band=portfolio.trade_min_fraction,
            least_notional=float(portfolio.trade_min_notional),
            cash_buffer=portfolio.cash_buffer,
            long_only=portfolio.constraints.long_only,
        )


def planned_changes(
    targets: FloatArray,
    held: FloatArray,
    prices: FloatArray,
    cash: float,
    equity: float,
    sizing: Sizing,
    costs: CostModel,
) -> FloatArray:
    """Shares to buy (positive) or sell, shape (N,): see `octopus.portfolio.rebalance.plan_orders`.

    Args:
        targets: weights; NaN leaves the position alone.
        prices: NaN where there is none: that instrument is not traded.
    """
    known = np.isfinite(targets) & (prices > 0)
    price = np.where(known, prices, 1.0)
    wanted = np.where(known, targets, 0.0) * equity / price - held
    change = floor_to_lot(wanted, sizing.lot)
    least = max(sizing.band * equity, sizing.least_notional)
    closing = known & (targets == 0)
    change = np.where(np.abs(change) * price < least, 0.0, change)
    change = np.where(closing, -held if sizing.fractional else floor_to_lot(-held, sizing.lot), change)
    change = np.where(known, change, 0.0)
    if sizing.long_only:
        change = np.maximum(change, -np.maximum(held, 0.0))
    return affordable(change, price, cash - sizing.cash_buffer * equity, costs, sizing.lot)


def affordable(changes: FloatArray, prices: FloatArray, cash: float, costs: CostModel, lot: float) -> FloatArray:
    """All purchases scaled down by one factor to what cash can pay: see `octopus.portfolio.rebalance.affordable`."""
    value = changes * prices * (1.0 + np.sign(changes) * costs.price_move)
    paid = np.where(changes != 0, np.maximum(np.abs(value) * costs.commission_rate, costs.commission_min), 0.0)
    buying = changes > 0
    power = cash - (value + paid)[~buying].sum()
    if not buying.any() or (value + paid)[buying].sum() <= power:
        return changes
    power -= costs.commission_min * int(buying.sum())
    part = max(power, 0.0) / (value[buying].sum() * (1.0 + costs.commission_rate))
    return np.where(buying, np.trunc(changes * part / lot) * lot, changes)


def floor_to_lot(shares: FloatArray, lot: float) -> FloatArray:
    """Cut towards zero to a multiple of ``lot``."""
    return np.asarray(np.trunc(np.round(shares / lot, _ROUNDING_DIGITS)) * lot)
