"""What trading costs: one model for the simulator, the paper broker and the optimiser's turnover penalty.

Belongs here: commission, spread and slippage as functions of an order. Does not: market impact curves fitted from data.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CostModel(BaseModel):
    """Costs of one fill.

    The fill price is the reference price moved against the trader by half the spread plus slippage; the commission is
    charged on top.

    Attributes:
        commission_bps: of the traded notional, in basis points.
        commission_min: least commission of an order, account currency.
        half_spread_bps, slippage_bps: of the reference price, in basis points.
        fx_spread_bps: by which the rate of a conversion is worse than the session's, in basis points; of trades in an
            instrument of another currency alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    commission_bps: float = Field(default=1.0, ge=0, le=1000)
    commission_min: float = Field(default=0.0, ge=0)
    half_spread_bps: float = Field(default=2.0, ge=0, le=1000)
    slippage_bps: float = Field(default=2.0, ge=0, le=1000)
    fx_spread_bps: float = Field(default=10.0, ge=0, le=1000)

    @property
    def price_move(self) -> float:
        """Fraction by which a fill is worse than the reference price."""
        return (self.half_spread_bps + self.slippage_bps) / 1e4

    @property
    def conversion_move(self) -> float:
        """Fraction by which the rate of a conversion is worse than the session's."""
        return self.fx_spread_bps / 1e4

    @property
    def commission_rate(self) -> float:
        """Commission as a fraction of the notional."""
        return self.commission_bps / 1e4

    @property
    def linear_rate(self) -> float:
        """All proportional costs of trading one unit of notional, as a fraction."""
        return self.price_move + self.commission_rate
