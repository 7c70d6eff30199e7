"""The review's gates: what a model must show before it may speak.

Belongs here: comparing scores with limits, with a reason for each. Does not: appointing (a person does, in MLflow).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from octopus.models.config import GateLimits
from octopus.models.evaluation import Scores


@dataclass(frozen=True)
class GateResult:
    """One gate: passed when ``value`` is at least ``limit``, or at most where the gate is an upper bound."""

    name: str
    value: float
    limit: float
    passed: bool
    reason: str


@dataclass(frozen=True)
class Review:
    """All gates of one model."""

    gates: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    def record(self) -> list[dict[str, object]]:
        """Plain values; a figure that could not be computed is None."""
        return [
            {name: None if isinstance(value, float) and not np.isfinite(value) else value
             for name, value in asdict(gate).items()}
            for gate in self.gates
        ]  # fmt: skip


def review(scores: Scores, limits: GateLimits, *, parity: bool, truncation: bool | None = None) -> Review:
    """Judge a model by its out-of-sample scores; a figure that cannot be computed fails its gate.

    Args:
        parity: serving one session gives the bits that the walk-forward gave.
        truncation: no feature changed when the future was cut off; None: not measured here, the gate is left out.
    """
    folds = [value for value in scores.fold_rank_ic if np.isfinite(value)]
    positive = sum(value > 0 for value in folds) / len(folds) if folds else float("nan")
    slope = _slope(scores.calibration)
    measured = () if truncation is None else (
        _gate("truncation", float(truncation), 1.0, "features keep their bits without the future"),
    )  # fmt: skip
    # Of a few trials nobody can say how the best inside ranks outside: the gate is left out, not passed.
    overfit = () if not np.isfinite(scores.pbo) else (
        _gate("pbo", scores.pbo, limits.pbo_max, f"probability of overfitting over {scores.trials} trials", upper=True),
    )  # fmt: skip
    return Review(
        (
            _gate("rank_ic", scores.rank_ic, limits.rank_ic_min, "mean rank correlation out of sample"),
            _gate("no_leak", scores.rank_ic, limits.rank_ic_max, "rank correlation too good to be true", upper=True),
            _gate("t_stat", scores.t_stat, limits.t_min, "t-statistic of the rank correlation"),
            _gate(
                "deflated_sharpe", scores.deflated_sharpe, limits.deflated_sharpe_min, "deflated Sharpe of the spread"
            ),
            _gate(
                "turnover",
                scores.net_spread_annual,
                limits.net_spread_min,
                f"spread a year, less the costs of a turnover of {scores.turnover_annual:.0f}",
            ),
            *overfit,
            _gate("positive_folds", positive, limits.positive_folds_min, "share of test blocks with skill"),
            _gate("calibration_slope", slope, 0.0, "outcome by fifth of the prediction rises", strict=True),
            _gate("train_serve_parity", float(parity), 1.0, "serving gives what training gave"),
            *measured,
        )
    )


def _gate(name: str, value: float, limit: float, what: str, *, strict: bool = False, upper: bool = False) -> GateResult:
    beyond = value <= limit if upper else value > limit if strict else value >= limit
    passed = bool(np.isfinite(value) and beyond)
    sign = "≤" if upper else ">" if strict else "≥"
    verdict = "passes" if passed else "fails"
    return GateResult(name, value, limit, passed, f"{what}: {value:.3f}, wanted {sign} {limit:g}: {verdict}")


def _slope(buckets: tuple[float, ...]) -> float:
    if len(buckets) < 2 or not np.isfinite(buckets).all():
        return float("nan")
    return float(np.polyfit(np.arange(len(buckets)), np.array(buckets), 1)[0])
