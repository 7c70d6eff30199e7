"""How good the predictions were, out of sample.

Belongs here: scores of predictions against labels. Does not: what is good enough (gates.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octopus.core.stats import deflated_sharpe, hac_t_statistic, moments, rank_correlation, sharpe
from octopus.core.types import FloatArray
from octopus.models.labels import entered
from octopus.models.splits import Fold
from octopus.models.training import TrainingSet

BUCKETS = 5


@dataclass(frozen=True, eq=False)
class Scores:
    """Out-of-sample scores.

    Attributes:
        rank_ic: mean of the sessions' rank correlations; icir: over their standard deviation; t_stat: with Newey-West
        errors.
        hit_rate: share of sessions with a positive one. fold_rank_ic: mean of each fold.
        spread_sharpe: annualised, of the top fifth less the bottom fifth, next session's return, before costs.
        deflated_sharpe: probability that it is not luck, given the trials.
        calibration: mean label by fifth of the predictions, ascending.
        sessions: with a score. trials: how many models luck could choose from.
    """

    rank_ic: float
    icir: float
    t_stat: float
    hit_rate: float
    spread_sharpe: float
    deflated_sharpe: float
    fold_rank_ic: tuple[float, ...]
    calibration: tuple[float, ...]
    sessions: int
    trials: int

    def record(self) -> dict[str, object]:
        """Plain values; numbers that could not be computed are None."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: _plain(value) for name, value in plain.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def evaluate(
    training: TrainingSet,
    predictions: FloatArray,
    folds: Sequence[Fold],
    horizon: int,
    trials: Sequence[float],
    tried_before: int = 0,
) -> Scores:
    """Score ``predictions`` (T, N) against the labels of the training set.

    Args:
        trials: Sharpe ratios per session of every trial made on this data, this one included: what luck is measured by.
        tried_before: further trials on this data whose Sharpe ratios are not known, such as parameters tried by hand.
    """
    counted = np.where(training.usable, predictions, np.nan)
    ic = rank_correlation(counted, training.labels)
    tested = ic[~np.isnan(ic)]
    spread = spread_returns(training, predictions)
    known = spread[~np.isnan(spread)]
    skewness, kurtosis = moments(known) if len(known) > 2 else (0.0, 3.0)
    per_session = sharpe(known, 1.0)
    # A few trials of kindred models look alike: their spread is not taken for less than that of estimates by chance.
    variance = max(float(np.var(list(trials))), 1.0 / max(len(known), 1)) if len(trials) else 0.0
    count = len(trials) + tried_before
    return Scores(
        rank_ic=_mean(tested),
        icir=sharpe(tested, 1.0),
        t_stat=hac_t_statistic(tested, horizon),
        hit_rate=float((tested > 0).mean()) if len(tested) else float("nan"),
        spread_sharpe=sharpe(known),
        deflated_sharpe=deflated_sharpe(per_session, len(known), skewness, kurtosis, variance, count)
        if len(known) > 2
        else float("nan"),
        fold_rank_ic=tuple(_mean(_known(ic[fold.test_start : fold.test_stop])) for fold in folds),
        calibration=calibration(counted, training.labels),
        sessions=len(tested),
        trials=count,
    )


def spread_returns(training: TrainingSet, predictions: FloatArray) -> FloatArray:
    """Return of the top fifth less the bottom fifth, entered at the close of T+1, held one session, shape (T,)."""
    counted = np.where(training.usable, predictions, np.nan)
    returns = np.full(counted.shape, np.nan)
    returns[:-2] = training.panel.total_return[2:] * entered(training.panel)[:-2]
    both = ~np.isnan(counted) & ~np.isnan(returns)
    count = both.sum(axis=1)
    order = np.argsort(np.argsort(np.where(both, counted, np.inf), axis=1, kind="stable"), axis=1)
    size = np.maximum(count // BUCKETS, 1)[:, None]
    bottom = both & (order < size)
    top = both & (order >= count[:, None] - size) & (order < count[:, None])
    values = np.where(both, returns, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (values * top).sum(axis=1) / top.sum(axis=1) - (values * bottom).sum(axis=1) / bottom.sum(axis=1)
    return np.where(count >= 2 * BUCKETS, spread, np.nan)


def calibration(predictions: FloatArray, labels: FloatArray) -> tuple[float, ...]:
    """Mean label of each fifth of the predictions, from the lowest to the highest."""
    known = ~np.isnan(predictions) & ~np.isnan(labels)
    if known.sum() < BUCKETS:
        return ()
    scores, outcomes = predictions[known], labels[known]
    edges = np.quantile(scores, np.linspace(0, 1, BUCKETS + 1)[1:-1])
    places = np.searchsorted(edges, scores, side="right")
    return tuple(_mean(outcomes[places == place]) for place in range(BUCKETS))


def _known(values: FloatArray) -> FloatArray:
    return np.asarray(values[~np.isnan(values)])


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
