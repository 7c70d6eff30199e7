"""The one decision function: from a point-in-time panel to target weights.

Belongs here: composing features, signals, the ensemble and the optimiser. Does not: their maths, reading and writing.

The backtest, the replay and today's run call the same two steps: `prepare`, vectorised over all sessions, and
`decide` for one row. Row t of what `prepare` gives depends on rows up to t alone, so today's decision is the
backtest's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np
from pydantic import BaseModel, ConfigDict

from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel
from octopus.core.types import BoolArray, FloatArray
from octopus.portfolio.config import PortfolioConfig
from octopus.portfolio.covariance import estimate_covariance
from octopus.portfolio.optimiser import (
    Certificate,
    InfeasibleError,
    Problem,
    SolverError,
    optimise,
    reduced_to_limits,
)
from octopus.strategy import signals as signal_functions
from octopus.strategy.config import StrategyConfig
from octopus.strategy.ensemble import blend
from octopus.strategy.features import FeatureCube, compute_features

MODEL = "model"
WEIGHT_DECIMALS = 9
"""Weights held are known to a billionth of equity: ledgers of floats and of decimals then decide alike, bit for bit."""


class DecisionConfig(BaseModel):
    """Everything that the decision depends on besides data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: StrategyConfig = StrategyConfig()
    portfolio: PortfolioConfig = PortfolioConfig()
    costs: CostModel = CostModel()


@dataclass(frozen=True, eq=False)
class Prepared:
    """What can be computed for all sessions at once.

    Attributes:
        signals: rule-based signals by name, each of shape (T, N).
    """

    panel: Panel
    features: FeatureCube
    signals: Mapping[str, FloatArray]

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.panel.symbols


@dataclass(frozen=True, eq=False)
class Decision:
    """Target weights of one session and how they came about.

    Attributes:
        target_weights, alpha: shape (N,); alpha is the ensemble's score, in cross-sectional standard deviations.
        signals: each signal's scores, shape (N,), NaN where it abstains.
        certificate: of the optimiser; None when a fallback was taken.
        fallback: which and why, or None.
    """

    session: date
    target_weights: FloatArray
    alpha: FloatArray
    signals: Mapping[str, FloatArray]
    certificate: Certificate | None
    fallback: str | None

    def certificate_record(self) -> dict[str, object]:
        """The certificate as plain values."""
        if self.certificate is None:
            return {"status": "fallback", "reason": self.fallback}
        return asdict(self.certificate)


def prepare(panel: Panel, config: DecisionConfig) -> Prepared:
    """Features and rule-based signals for every session of ``panel``."""
    return Prepared(panel, compute_features(panel), signal_functions.rule_signals(panel, config.strategy))


def decide(
    prepared: Prepared,
    row: int,
    predictions: FloatArray | None,
    previous_weights: FloatArray,
    config: DecisionConfig,
) -> Decision:
    """Target weights after the close of the session in ``row``.

    Args:
        row: of the panel; negative ones count from its end.
        predictions: of the model that was champion then, shape (N,), NaN where it has none; None: the signal abstains.
        previous_weights: what the account holds, fractions of equity, shape (N,).

    Raises:
        MissingDataError: ``row`` is not in the panel, or a shape is not (N,).
    """
    panel = prepared.panel
    row = _checked_row(panel, row, predictions, previous_weights)
    previous_weights = np.round(previous_weights, WEIGHT_DECIMALS)
    member = panel.member[row]
    signals = {name: values[row] for name, values in prepared.signals.items()}
    if predictions is not None:
        signals[MODEL] = signal_functions.model(predictions[None, :], member[None, :])[0]
    weights = config.strategy.weights()
    scores = blend(signals, weights)
    spoken = _spoken([values for name, values in signals.items() if weights.get(name, 0.0) > 0], len(scores))
    problem = _problem(panel, row, scores, spoken, previous_weights, config)
    session: date = panel.sessions[row].item()
    try:
        solution = optimise(problem)
    except (InfeasibleError, SolverError) as error:
        chosen = config.portfolio.fallback
        return Decision(session, _fall_back(problem, chosen), scores, signals, None, f"{chosen}: {error}")
    return Decision(session, solution.weights, scores, signals, solution.certificate, None)


def _checked_row(panel: Panel, row: int, predictions: FloatArray | None, previous: FloatArray) -> int:
    sessions, count = panel.close.shape
    if not -sessions <= row < sessions:
        raise MissingDataError(f"row {row} is not in the panel of {sessions} sessions; ingest that day first")
    for name, values in (("predictions", predictions), ("previous_weights", previous)):
        if values is not None and values.shape != (count,):
            raise MissingDataError(f"{name} has shape {values.shape}, expected ({count},): one for each instrument")
    return int(row % sessions)


def _spoken(signals: list[FloatArray], count: int) -> BoolArray:
    """Instruments of which at least one signal says something, shape (N,)."""
    if not signals:
        return np.zeros(count, dtype=bool)
    return np.asarray(~np.isnan(signals).all(axis=0))


def _problem(
    panel: Panel, row: int, scores: FloatArray, spoken: BoolArray, previous: FloatArray, config: DecisionConfig
) -> Problem:
    """What the optimiser may do with each instrument.

    Without a bar today it cannot be traded and stays. A non-member is sold. Where no signal speaks, or the history is
    too short to know the risk, it may be reduced but not bought.
    """
    portfolio = config.portfolio
    start = max(row + 1 - portfolio.covariance_sessions, 0)
    covariance = estimate_covariance(
        panel.total_return[start : row + 1],
        least=portfolio.covariance_sessions_min,
        estimator=portfolio.covariance_estimator,
    )
    return Problem(
        alpha=np.where(spoken, portfolio.base_return + portfolio.alpha_per_score * scores, 0.0),
        covariance=covariance.daily * portfolio.horizon_sessions,
        previous=previous,
        tradable=np.isfinite(panel.close[row]),
        risk_aversion=portfolio.risk_aversion,
        cost=config.costs.linear_rate,
        constraints=portfolio.constraints,
        reduce_only=~(spoken & covariance.known),
        must_exit=~panel.member[row],
        names=panel.symbols,
    )


def _fall_back(problem: Problem, chosen: str) -> FloatArray:
    if chosen == "cash":
        return np.where(problem.tradable, 0.0, problem.previous)
    return reduced_to_limits(problem.previous, problem.tradable, problem.constraints)
