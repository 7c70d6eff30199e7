"""What turns weights into shares.

Belongs here: the portfolio's settings of size as numbers. Does not: sizing (kernel.py does in floats what
octopus/portfolio/rebalance.py does in Decimal; a test holds the two together).
"""

from __future__ import annotations

from dataclasses import dataclass

from octopus.portfolio.config import PortfolioConfig
from octopus.portfolio.units import NO_UNITS, TradingUnits


@dataclass(frozen=True)
class Sizing:
    """What turns weights into shares.

    Attributes:
        lot: shares; 0.0 trades any fraction of one. band: least change, fraction of equity. least_notional: account
        currency. cash_buffer: fraction of equity that a plan leaves in cash. units: lots and ticks of the instruments'
        own.
    """

    lot: float
    fractional: bool
    band: float
    least_notional: float
    cash_buffer: float
    long_only: bool
    units: TradingUnits = NO_UNITS

    @classmethod
    def of(cls, portfolio: PortfolioConfig) -> Sizing:
        return cls(
            lot=float(portfolio.lot),
            fractional=portfolio.fractional,
            band=portfolio.trade_min_fraction,
            least_notional=float(portfolio.trade_min_notional),
            cash_buffer=portfolio.cash_buffer,
            long_only=portfolio.constraints.long_only,
            units=portfolio.units,
        )
