"""How much risk an account may take: the keys of config/risk.yaml.

Belongs here: limits, their units and which side of a limit is the safe one. Does not: measuring (measures.py, book.py)
and judging (gate.py).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PositiveFraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]

LOWER_BOUNDS = frozenset({"net_min", "net_min_part_filled", "cash", "cash_part_filled"})
"""Rules whose limit is a floor; every other limit is a ceiling. A value equal to its limit is within it."""


class RiskLimits(BaseModel):
    """All limits of the pre-trade gate; none has a default, so that a limit nobody chose cannot exist.

    Fractions are of the account's equity (cash plus marked positions) unless said otherwise. The kill switch has no
    limit here: its state is an argument of the gate. ``halted`` denies every order, ``reducing`` every order that does
    not make an existing position smaller, and so does an unknown state with every order.

    Attributes:
        gross_max: sum of absolute position values.
        net_min, net_max: sum of signed position values.
        name_weight_max: absolute value of one position.
        turnover_max: traded value of one batch, buys plus sells, open orders included.
        turnover_max_initial: the same, for an account that holds no position: it must be possible to invest it.
        partial_fill_allowance: by how much gross, net and cash may be beyond their limit while only a part of the
            orders has filled; volatility and VaR limits grow by the same proportion. 0 asks that a batch be harmless
            whatever part of it fills, which an account without spare cash can only meet by not trading.
        order_notional_max_usd: quantity × price of one order, account currency.
        order_notional_max_fraction: the same as a fraction of equity.
        price_collar: distance of an order's reference price from the last price, as a fraction of the last price.
        price_age_max_seconds: a last price older than this counts as missing.
        adv_participation_max: order quantity as a fraction of the average daily volume; off on a total-return basis.
        volatility_max_annual: standard deviation of the portfolio's daily returns, annualised.
        var_95_max: one-day historical loss at 95 % confidence.
        var_window_sessions: sessions of history behind volatility and VaR.
        drawdown_stop: fall of equity from its highest value; beyond it only reducing orders pass.
        loss_per_day_max: fall of equity from yesterday's; beyond it only reducing orders pass.
        snapshot_age_max_seconds: age of the broker's account snapshot.
        cash_min_fraction: cash left when all orders have filled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gross_max: float = Field(gt=0, le=10, allow_inf_nan=False)
    net_min: float = Field(ge=-10, le=10, allow_inf_nan=False)
    net_max: float = Field(ge=-10, le=10, allow_inf_nan=False)
    name_weight_max: PositiveFraction
    turnover_max: float = Field(gt=0, le=10, allow_inf_nan=False)
    turnover_max_initial: float = Field(gt=0, le=10, allow_inf_nan=False)
    partial_fill_allowance: Fraction
    order_notional_max_usd: Decimal = Field(gt=0, allow_inf_nan=False)
    order_notional_max_fraction: PositiveFraction
    price_collar: PositiveFraction
    price_age_max_seconds: float = Field(gt=0, allow_inf_nan=False)
    adv_participation_max: PositiveFraction
    volatility_max_annual: float = Field(gt=0, le=10, allow_inf_nan=False)
    var_95_max: PositiveFraction
    var_window_sessions: int = Field(ge=20, le=10_000)
    drawdown_stop: PositiveFraction
    loss_per_day_max: PositiveFraction
    snapshot_age_max_seconds: float = Field(gt=0, allow_inf_nan=False)
    cash_min_fraction: float = Field(ge=-1, le=1, allow_inf_nan=False)

    @model_validator(mode="after")
    def _net_is_a_range(self) -> RiskLimits:
        if self.net_min > self.net_max:
            raise ValueError(f"net_min = {self.net_min} is above net_max = {self.net_max}: swap them")
        return self
