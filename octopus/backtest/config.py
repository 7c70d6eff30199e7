"""What a user sets about backtests (config/strategies.yaml, section backtest).

Belongs here: period, money and execution. Does not: what is decided (octopus/decision.py); costs and lots are the
strategy's own unless this section names others.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octopus.core.costs import CostModel


class BacktestConfig(BaseModel):
    """Period, money and execution of a simulation.

    Attributes:
        start, end: first and last session that may be decided; no end means the last of the panel.
        initial_cash: account currency.
        execution: auction of the next session that fills the orders. Where the panel has no opening prices at all it
            is the close.
        rebalance_sessions: a decision is made on every so many sessions; the daily run decides on every one.
        costs: of trading; none means those that the decision itself expects.
        fractional: fractions of a share may be traded; none means as the portfolio's setting.
        benchmark_sessions: how often the equal-weight benchmark is rebalanced.
        trials: how many strategies were tried before this one; it deflates the Sharpe ratio.
        trial_sharpe_spread: standard deviation of their annual Sharpe ratios.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    start: date = date(2010, 1, 4)
    end: date | None = None
    initial_cash: float = Field(default=1_000_000, gt=0)
    execution: Literal["open", "close"] = "open"
    rebalance_sessions: int = Field(default=1, ge=1, le=252)
    costs: CostModel | None = None
    fractional: bool | None = None
    benchmark_sessions: int = Field(default=21, ge=1, le=252)
    trials: int = Field(default=1, ge=1)
    trial_sharpe_spread: float = Field(default=0.5, ge=0)

    @model_validator(mode="after")
    def _start_before_end(self) -> BacktestConfig:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end = {self.end} is not after start = {self.start}: choose a later end")
        return self
