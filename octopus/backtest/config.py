"""What a user sets about backtests (config/strategies.yaml, section backtest).

Belongs here: period, money and execution. Does not: what is decided (octopus/decision.py); costs and lots are the
strategy's own unless this section names others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octopus.core.costs import CostModel
from octopus.execution.config import ScheduleConfig

Execution = Literal["open", "close", "typical", "vwap"]


class BacktestConfig(BaseModel):
    """Period, money and execution of a simulation.

    Attributes:
        start, end: first and last session that may be decided; no end means the last of the panel.
        initial_cash: account currency.
        execution: what of the next session fills the orders: its open, its close, its typical price, the mean of high,
            low and close, or its volume-weighted average price (vwap). Where the panel does not know that of a bar, the
            typical price stands in for it, and where a bar has neither high nor low, its close; the result counts the
            fills at each (`octopus.backtest.simulator.BacktestResult.fill_prices`). Where the panel has no opening
            prices at all, open means the close; so it does where trading never ends (24/7), for a session opens there
            before the one before it is decided.
        schedule: how orders are worked over the session (octopus/backtest/working.py), their exits (exits.py) or their
            limits (limits.py); each takes the place of ``execution``. From the files it is the section execution, whose
            orders the daily run works the same way, and it is no part of what is written of this section.
        rebalance_sessions: a decision is made on every so many sessions; the daily run decides on every one.
        participation_max: of a session's volume that one order may be, as a fraction; the rest expires. None: no cap.
        impact: coefficient of the square-root law: a fill is worse by impact × daily volatility × √(shares / mean
            daily volume), both as known at the decision. Source: Almgren, Thum, Hauptmann and Li, Direct Estimation of
            Equity Market Impact (2005), whose exponent 0.6 is taken for a half. 0: none.
        borrow_bps_year, financing_bps_year, interest_bps_year: paid on short positions and on debt, received on cash,
            in basis points a year of the clock's sessions, of what stood at the close before.
        costs: of trading; none means those that the decision itself expects.
        round_as_venue: prices, actions and prices of fills are exact to a millionth and commissions to the cent, as the
            paper broker books them; otherwise nothing is rounded.
        gates: what the risk and the compliance gate deny, with today's limits and policy, is not sent (``enforce``) or
            is reported beside the account that they did not touch (``report``).
        fractional: fractions of a share may be traded; none means as the portfolio's setting.
        benchmark_sessions: how often the equal-weight benchmark is rebalanced.
        trials: how many strategies were tried by hand before this one, besides those of the trial ledger; they deflate
            the Sharpe ratio.
        trial_sharpe_spread: standard deviation of their annual Sharpe ratios.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    start: date = date(2010, 1, 4)
    end: date | None = None
    initial_cash: float = Field(default=1_000_000, gt=0)
    execution: Execution = "open"
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, exclude=True)
    participation_max: float | None = Field(default=None, gt=0, le=1)
    impact: float = Field(default=0.0, ge=0, le=10)
    borrow_bps_year: float = Field(default=0.0, ge=0, le=100_000)
    financing_bps_year: float = Field(default=0.0, ge=0, le=100_000)
    interest_bps_year: float = Field(default=0.0, ge=0, le=100_000)
    rebalance_sessions: int = Field(default=1, ge=1, le=252)
    costs: CostModel | None = None
    round_as_venue: bool = False
    gates: Literal["report", "enforce"] = "report"
    fractional: bool | None = None
    benchmark_sessions: int = Field(default=21, ge=1, le=252)
    trials: int = Field(default=0, ge=0)
    trial_sharpe_spread: float = Field(default=0.5, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _limits_are_of_orders(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "limit_bps" in given:
            raise ValueError(
                f"limit_bps = {given['limit_bps']} is of the daily run's orders, too: give it as execution.limit_bps"
            )
        return given

    @model_validator(mode="after")
    def _start_before_end(self) -> BacktestConfig:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end = {self.end} is not after start = {self.start}: choose a later end")
        return self
