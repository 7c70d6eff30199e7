"""What a user sets about the portfolio (config/strategies.yaml, section portfolio).

Belongs here: the objective's parameters, the constraints, how weights become orders. Does not: limits of the risk gate
(config/risk.yaml), which are as wide or wider: the optimiser stays inside them on purpose, so that prices may drift
before the orders are sent.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from octopus.core.limits import AGAINST_BENCHMARK
from octopus.portfolio.units import NO_UNITS, TradingUnits

Estimator = Literal["ledoit_wolf", "sample", "oas", "ewma", "factor"]
Fallback = Literal["keep", "cash"]
Linkage = Literal["ward", "single", "average", "complete"]
ImpactLaw = Literal["square_root", "quadratic"]
Method = Literal[
    "mean_variance",
    "minimum_variance",
    "maximum_sharpe",
    "minimum_cvar",
    "risk_parity",
    "hierarchical_risk_parity",
    "black_litterman",
    "equal_weight",
    "inverse_volatility",
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Constraints(_Section):
    """Bounds on target weights, as fractions of equity before the rebalance.

    Every name is one of config/risk.yaml too and means the same there (octopus/core/limits.py). None may allow more
    than its limit; one that nobody sets is taken from there where it is tighter (`Settings.decision`).

    Attributes:
        long_only: no weight below zero.
        name_weight_max: of one position. name_weight_min: of one position; below zero it is the largest short, and
            needs ``long_only`` off.
        gross_max: sum of absolute weights. net_min, net_max: sum of weights.
        turnover_max: sum of absolute changes in one rebalance; turnover_max_initial: for an account without positions.
        cash_min_fraction: cash left after the rebalance and its proportional costs.
        sector_weight_max: sum of absolute weights in one sector.
        adv_participation_max: of one trade, as a fraction of the instrument's average daily volume; off on a
            total-return price basis.
        beta_min, beta_max: sum of weights times their betas to the benchmark.
        tracking_error_max_annual: standard deviation of the difference to the benchmark's return, annualised.
    """

    long_only: bool = True
    name_weight_max: float = Field(default=0.12, gt=0, le=1)
    name_weight_min: float = Field(default=0.0, ge=-1, le=1)
    gross_max: float = Field(default=0.98, gt=0, le=10)
    net_min: float = Field(default=0.0, ge=-10, le=10)
    net_max: float = Field(default=0.98, ge=-10, le=10)
    turnover_max: float = Field(default=0.25, gt=0, le=10)
    turnover_max_initial: float = Field(default=1.0, gt=0, le=10)
    cash_min_fraction: float = Field(default=0.015, ge=-10, le=1)
    sector_weight_max: float | None = Field(default=None, gt=0, le=10)
    adv_participation_max: float | None = Field(default=None, gt=0, le=1)
    beta_min: float | None = Field(default=None, ge=-10, le=10)
    beta_max: float | None = Field(default=None, ge=-10, le=10)
    tracking_error_max_annual: float | None = Field(default=None, gt=0, le=10)

    @property
    def floor(self) -> float:
        """Least weight of one position."""
        return max(self.name_weight_min, 0.0) if self.long_only else self.name_weight_min

    @property
    def needs_benchmark(self) -> bool:
        """Whether a limit is measured against the benchmark."""
        return any(getattr(self, name) is not None for name in AGAINST_BENCHMARK)

    @property
    def chosen(self) -> frozenset[str]:
        """Names of those that somebody set."""
        return frozenset(name for name in self.model_fields_set if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _ranges(self) -> Constraints:
        if self.net_min > self.net_max:
            raise ValueError(f"net_min = {self.net_min} is above net_max = {self.net_max}: swap them")
        if self.name_weight_min > self.name_weight_max:
            raise ValueError(
                f"name_weight_min = {self.name_weight_min} is above name_weight_max = {self.name_weight_max}: lower it"
            )
        if self.beta_min is not None and self.beta_max is not None and self.beta_min > self.beta_max:
            raise ValueError(f"beta_min = {self.beta_min} is above beta_max = {self.beta_max}: swap them")
        if self.long_only and self.name_weight_min < 0:
            raise ValueError(f"name_weight_min = {self.name_weight_min} allows shorts: set long_only to false")
        return self


class PortfolioConfig(_Section):
    """How weights are chosen, and how they become orders.

    The objective of ``mean_variance``, in expected return over ``horizon_sessions`` as a fraction of equity::

        maximise    alpha·w − risk_aversion/2 · w'Σw − cost · Σ|w − previous|
        alpha       base_return + alpha_per_score × score
        Σ           daily covariance × horizon_sessions

    All terms have one unit, so a trade is made when its gain over the horizon pays for its cost.

    Attributes:
        method: how weights are chosen (octopus/portfolio/optimiser.py says what each one optimises).
        net_target: sum of weights that every method but ``mean_variance`` and ``black_litterman`` aims at; where the
            constraints do not allow it, the nearest sum they allow.
        cvar_level: confidence of ``minimum_cvar``, whose scenarios are the returns behind the covariance: of the window
            from where its youngest instrument begins, so at least ``covariance_sessions_min``.
        risk_budgets: share of risk by instrument, up to a common factor, for ``risk_parity``; who is absent has 1.
        linkage: of the tree behind ``hierarchical_risk_parity``.
        view_confidence, view_tau: of ``black_litterman``: how much a view of the model weighs (1: it is certain), and
            the uncertainty of the equilibrium returns that it moves. Beta and tracking error are limited as measured by
            the estimated covariance, not by the one after the views.
        impact: coefficient of what a trade costs besides proportional costs, a fraction of its own value: ``impact ×
            daily volatility × (value / average daily value)^½``, or to the power of 1 for ``quadratic``. 0: nothing. A
            total-return price basis, whose volumes mean nothing, refuses another.
        impact_law: ``square_root`` or ``quadratic``.
        benchmark: weights by instrument that beta and tracking error are measured against, and that equilibrium
            returns come from; none means that of config/risk.yaml, else equal weights of all that may be held.
        sectors: sector by instrument; who is absent is in the sector ``unknown``. In the files of config/ they are the
            universe's.
        horizon_sessions: over which alpha, Σ and costs are compared: how long a score is expected to hold. Longer than
            the fastest signal lives, and the costs of following it look too small.
        base_return: expected return over the horizon, in excess of cash, of an instrument with score 0, as a fraction:
            scores only compare instruments with each other.
        alpha_per_score: expected excess return over the horizon for a score of 1, as a fraction.
        covariance_sessions: window of daily returns behind the covariance.
        covariance_sessions_min: with fewer returns in the window an instrument may be reduced but not bought; nor may
            what the risk gate asks a longer history of (`octopus.decision.DecisionConfig.var_window_sessions`).
        covariance_estimator: ``ledoit_wolf`` and ``oas`` (shrunk towards a multiple of the identity), ``sample``,
            ``ewma`` (recent returns count more) or ``factor`` (principal components and each one's own variance).
        covariance_half_life: sessions after which a return counts half; of ``ewma``.
        covariance_factors: principal components; of ``factor``.
        fallback: when the constraints clash: ``keep`` what is held, made smaller where a limit asks for it, or go to
            ``cash``; never a silent third thing.
        fractional: shares may be fractions; else whole.
        lot_size: quantities are multiples of it, shares; none means 1, or a millionth where shares may be fractions.
        trade_min_fraction: the no-trade band: changes smaller than this fraction of equity are not traded.
        trade_min_notional: nor are orders smaller than this, account currency. Closing a position is exempt from both.
        units: lots and ticks of the instruments' own. They are data: whoever reads for a session puts them in, and no
            record of the settings holds them.
        cash_buffer: cash the plan leaves for prices that move before the orders fill, fraction of equity.
    """

    method: Method = "mean_variance"
    net_target: float = Field(default=0.97, gt=0, le=10)
    cvar_level: float = Field(default=0.95, ge=0.5, lt=1)
    risk_budgets: dict[str, PositiveFloat] = Field(default_factory=dict)
    linkage: Linkage = "ward"
    view_confidence: float = Field(default=0.5, gt=0, le=1)
    view_tau: float = Field(default=0.05, gt=0, le=1)
    impact: float = Field(default=0.0, ge=0, le=10)
    impact_law: ImpactLaw = "square_root"
    benchmark: dict[str, float] | None = None
    sectors: dict[str, str] = Field(default_factory=dict)
    risk_aversion: float = Field(default=4.0, gt=0)
    horizon_sessions: int = Field(default=5, ge=1, le=252)
    base_return: float = Field(default=0.001, ge=-1, le=1)
    alpha_per_score: float = Field(default=0.0015, gt=0, le=1)
    covariance_sessions: int = Field(default=252, ge=60, le=1260)
    covariance_sessions_min: int = Field(default=126, ge=20, le=1260)
    covariance_estimator: Estimator = "ledoit_wolf"
    covariance_half_life: float = Field(default=63.0, gt=0, le=1260)
    covariance_factors: int = Field(default=5, ge=1, le=50)
    constraints: Constraints = Constraints()
    fallback: Fallback = "keep"
    fractional: bool = False
    lot_size: Decimal | None = Field(default=None, gt=0)
    trade_min_fraction: float = Field(default=0.002, ge=0, le=0.1)
    trade_min_notional: Decimal = Field(default=Decimal(0), ge=0)
    units: TradingUnits = Field(default=NO_UNITS, exclude=True)
    cash_buffer: float = Field(default=0.005, ge=0, le=1)

    @property
    def needs_volumes(self) -> bool:
        """Whether choosing weights asks for average daily values traded, and so for the account's equity."""
        return self.impact > 0 or self.constraints.adv_participation_max is not None

    @property
    def lot(self) -> Decimal:
        """The smallest quantity that is traded, shares."""
        if self.lot_size is not None:
            return self.lot_size
        return Decimal("0.000001") if self.fractional else Decimal(1)

    @model_validator(mode="after")
    def _agree(self) -> PortfolioConfig:
        if self.covariance_sessions_min > self.covariance_sessions:
            raise ValueError(
                f"covariance_sessions_min = {self.covariance_sessions_min} is above "
                f"covariance_sessions = {self.covariance_sessions}: lower it"
            )
        least = ceil(1.0 / (1.0 - self.cvar_level) - 1e-9)
        if self.method == "minimum_cvar" and self.covariance_sessions_min < least:
            raise ValueError(
                f"covariance_sessions_min = {self.covariance_sessions_min} is below the {least} scenarios that "
                f"cvar_level = {self.cvar_level} needs: raise it or lower cvar_level"
            )
        if self.benchmark is not None and not any(self.benchmark.values()):
            raise ValueError("benchmark holds nothing: give weights by instrument, or null for equal weights of all")
        if self.method == "maximum_sharpe" and self.impact > 0 and self.impact_law == "quadratic":
            raise ValueError("impact_law = quadratic is not available for maximum_sharpe: use square_root")
        if not self.fractional and self.lot_size is not None and self.lot_size % 1:
            raise ValueError(f"lot_size = {self.lot_size} is not whole: set fractional to true or use a whole number")
        return self
