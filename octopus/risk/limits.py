"""How much risk an account may take: the keys of config/risk.yaml.

Belongs here: limits, their units and which side of a limit is the safe one. Does not: measuring (measures.py, book.py)
and judging (gate.py).
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octopus.core.limits import AGAINST_BENCHMARK
from octopus.risk.stress import StressConfig

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PositiveFraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
WindowSeconds = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]
"""How far a limit looks back: a year at most, so that there is an instant to look back to."""

PART_FILLED = "_part_filled"
"""How the names end of rules that look at whatever part of the orders fills."""
LOWER_BOUNDS = frozenset({
    "net_min", "net_min_part_filled", "cash", "cash_part_filled", "equity_min_usd", "long_only", "name_weight_min",
    "beta_min", "beta_min_part_filled",
})  # fmt: skip
"""Rules whose limit is a floor; every other limit is a ceiling. A value equal to its limit is within it."""

_AMOUNTS = {
    "order_notional_usd": "{:,.0f} USD", "position_notional_usd": "{:,.0f} USD", "capital_threshold_usd": "{:,.0f} USD",
    "equity_min_usd": "{:,.0f} USD", "snapshot_age": "{:,.0f} s", "stale_data": "{:,.0f} s",
    "message_rate": "{:,.0f} messages", "repeated_execution": "{:,.0f} orders", "leverage": "{:.4g} times",
    "leverage_part_filled": "{:.4g} times", "beta_max": "{:.4g}", "beta_max_part_filled": "{:.4g}",
    "beta_min": "{:.4g}", "beta_min_part_filled": "{:.4g}",
}  # fmt: skip

_OPTIONAL = {
    "sector": ("sector_weight_max", "sectors"), "long_only": ("long_only", "shorts as such"),
    "name_weight_min": ("name_weight_min", "single shorts"), "beta_max": ("beta_max", "the largest beta"),
    "beta_min": ("beta_min", "the least beta"),
    "tracking_error": ("tracking_error_max_annual", "the tracking error"),
}  # fmt: skip
"""By rule the limit that may be left off, and what there is no rule on then."""


def amount(rule: str, number: float) -> str:
    """A rule's value or limit as a person reads it."""
    return _AMOUNTS.get(rule, "{:.2%}").format(number)


class RiskLimits(BaseModel):
    """All limits of the pre-trade gate; none has a default, so that a limit nobody chose cannot exist.

    The names that the optimiser's constraints have too are those of octopus/core/limits.py. Fractions are of the
    account's equity (cash plus marked positions, octopus/risk/book.py) unless said otherwise. The kill switch has no
    limit here: its state is an argument of the gate. ``halted`` denies every order, ``reducing`` every order that does
    not make an existing position smaller, and so does an unknown state with every order.

    Attributes:
        valid_until: last day on which signatures of these limits count (resources/limit_signatures.py).
        gross_max: sum of absolute position values.
        net_min, net_max: sum of signed position values.
        leverage_max: assets (what is long, and cash that is not owed) over equity; 1 without debt and shorts.
        long_only: no position below zero, whatever part of the orders fills; false: the rule is off.
        name_weight_max: absolute value of one position, and position_notional_max_usd: the same in money.
        name_weight_min: signed value of one position, the largest short below zero; None: the rule is off.
        sector_weight_max: sum of absolute position values in one sector; None: the rule is off.
        capital_threshold_usd: sum of absolute position values in money, whatever part of the orders fills.
        equity_min_usd: below it only reducing orders pass.
        turnover_max: sum of absolute order values in one batch, open orders included; turnover_max_initial: the same
            while the account holds no position, so that a funded account can be invested in one session. Where only
            reducing orders pass, it binds none, as net_min, beta_min, tracking_error_max_annual and
            repeated_executions_max do not.
        partial_fill_allowance: by how much gross, net, leverage, sectors, cash and beta may pass their limit while only
            a part of the batch has filled; the limits on volatility, VaR, CVaR and tracking error grow by the factor
            1 + allowance then.
        order_notional_max_usd, order_notional_max_fraction: of one order, in account currency and of equity.
        price_collar: distance of an order's reference price, and of its limit, from the last price and from the
            broker's of now, a fraction of each; a position of which the two differ by more counts at the worse.
        price_age_max_seconds: a last price older than this counts as missing.
        adv_participation_max: shares ordered and working in an instrument as a fraction of its average daily volume;
            off on a total-return basis.
        messages_max, messages_window_seconds: messages to the broker in a stretch of time: orders that were sent, again
            too, cancellations, and the batch.
        repeated_executions_max, repeated_executions_window_seconds: orders on one side of one instrument in a stretch
            of time; the count begins anew when a person resumes trading.
        volatility_max_annual: standard deviation of the portfolio's daily returns, annualised.
        var_95_max, cvar_95_max: one-day historical loss at 95 % confidence, and the mean of the losses beyond it.
        beta_min, beta_max: sum of positions times their betas to the benchmark: covariance over variance; None: off.
        tracking_error_max_annual: standard deviation of the daily difference to the benchmark's return, annualised;
            None: the rule is off.
        benchmark: weights by instrument that beta and tracking error are measured against; None where neither is.
        var_window_sessions: sessions of history behind volatility, VaR, CVaR, beta and tracking error; which may be
            missing, `octopus.risk.return_window.Window` says.
        drawdown_stop: fall of equity from its highest value; beyond it only reducing orders pass.
        drawdown_since: first session whose NAV counts for that highest value; None: all. A new date ends a stop.
        drawdown_resume_sessions: in a backtest alone, closes beyond the stop after which the peak begins anew; None:
            never.
        loss_per_day_max: fall of equity from yesterday's; beyond it only reducing orders pass.
        snapshot_age_max_seconds: age of the broker's account snapshot.
        cash_min_fraction: cash left when all orders have filled.
        stress: scenarios of the risk report; no limit hangs on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    valid_until: date
    gross_max: float = Field(gt=0, le=10, allow_inf_nan=False)
    net_min: float = Field(ge=-10, le=10, allow_inf_nan=False)
    net_max: float = Field(ge=-10, le=10, allow_inf_nan=False)
    leverage_max: float = Field(ge=1, le=10, allow_inf_nan=False)
    long_only: bool
    name_weight_max: PositiveFraction
    name_weight_min: Annotated[float, Field(ge=-1, le=0, allow_inf_nan=False)] | None
    position_notional_max_usd: Decimal = Field(gt=0, allow_inf_nan=False)
    sector_weight_max: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None
    capital_threshold_usd: Decimal = Field(gt=0, allow_inf_nan=False)
    equity_min_usd: Decimal = Field(ge=0, allow_inf_nan=False)
    turnover_max: float = Field(gt=0, le=10, allow_inf_nan=False)
    turnover_max_initial: float = Field(gt=0, le=10, allow_inf_nan=False)
    partial_fill_allowance: Fraction
    order_notional_max_usd: Decimal = Field(gt=0, allow_inf_nan=False)
    order_notional_max_fraction: PositiveFraction
    price_collar: PositiveFraction
    price_age_max_seconds: float = Field(gt=0, allow_inf_nan=False)
    adv_participation_max: PositiveFraction
    messages_max: int = Field(ge=1)
    messages_window_seconds: WindowSeconds
    repeated_executions_max: int = Field(ge=1)
    repeated_executions_window_seconds: WindowSeconds
    volatility_max_annual: float = Field(gt=0, le=10, allow_inf_nan=False)
    var_95_max: PositiveFraction
    cvar_95_max: PositiveFraction
    beta_min: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] | None
    beta_max: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] | None
    tracking_error_max_annual: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None
    benchmark: dict[str, Annotated[float, Field(allow_inf_nan=False)]] | None
    var_window_sessions: int = Field(ge=20, le=10_000)
    drawdown_stop: PositiveFraction
    drawdown_since: date | None
    drawdown_resume_sessions: Annotated[int, Field(ge=1, le=10_000)] | None
    loss_per_day_max: PositiveFraction
    snapshot_age_max_seconds: float = Field(gt=0, allow_inf_nan=False)
    cash_min_fraction: float = Field(ge=-1, le=1, allow_inf_nan=False)
    stress: StressConfig

    @model_validator(mode="after")
    def _net_is_a_range(self) -> RiskLimits:
        if self.net_min > self.net_max:
            raise ValueError(f"net_min = {self.net_min} is above net_max = {self.net_max}: swap them")
        if self.beta_min is not None and self.beta_max is not None and self.beta_min > self.beta_max:
            raise ValueError(f"beta_min = {self.beta_min} is above beta_max = {self.beta_max}: swap them")
        return self

    @model_validator(mode="after")
    def _benchmark_where_one_is_asked_for(self) -> RiskLimits:
        asked = [name for name in AGAINST_BENCHMARK if getattr(self, name) is not None]
        if asked and not any((self.benchmark or {}).values()):
            raise ValueError(f"{asked[0]} is measured against the benchmark, and benchmark names none: give weights")
        return self

    def off_reason(self, rule: str) -> str | None:
        """Why there is no such rule; None where there is."""
        field, what = _OPTIONAL.get(rule.removesuffix(PART_FILLED), (None, ""))
        if field is None:
            return None
        value = getattr(self, field)
        if value is not None and value is not False:  # a limit of zero is one
            return None
        return f"{field} is {'false' if field == 'long_only' else 'null'}: there is no rule on {what}"
