"""Cross-validation: every session tested by models whose training shares none with it.

Belongs here: fitting the splits and joining their tests to paths. Does not: the splits (splits.py), the walk that a
model is judged by (walkforward.py): what comes after a session trains here, too, so that no path is a history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from octopus.core.stats import rank_correlation, sharpe
from octopus.core.types import FloatArray
from octopus.models.base import Estimator
from octopus.models.config import ModelConfig
from octopus.models.evaluation import spread_returns
from octopus.models.splits import Split, combinatorial, paths, purged
from octopus.models.training import TrainingSet
from octopus.models.walkforward import predict


@dataclass(frozen=True)
class PathScores:
    """How skill and spread vary over the paths: one lucky history is one of many.

    Attributes:
        rank_ic: mean of each path's sessions. spread_sharpe: annualised, of each path, before costs.
    """

    rank_ic: tuple[float, ...]
    spread_sharpe: tuple[float, ...]

    def metrics(self) -> dict[str, float]:
        """Mean and worst path."""
        return {
            f"cpcv_{name}_{kind}": float(of(values))
            for name, values in (("rank_ic", self.rank_ic), ("spread_sharpe", self.spread_sharpe))
            for kind, of in (("mean", np.mean), ("worst", np.min))
        }


def tested(training: TrainingSet, split: Split, embargo: int, make: Callable[[], Estimator]) -> FloatArray:
    """Predictions of what ``split`` tests, shape (T, N), NaN elsewhere and where nothing was left to learn from."""
    predictions = np.full(training.labels.shape, np.nan)
    rows = training.samples(purged(training.known, split.tests, embargo))
    if not len(rows):
        return predictions
    estimator = make()
    estimator.fit(rows)
    for start, stop in split.tests:
        predictions[start:stop] = predict(
            estimator, training.features[start:stop], training.panel.sessions[start:stop], training.panel.symbols
        )
    return predictions


def along_paths(training: TrainingSet, config: ModelConfig, make: Callable[[], Estimator]) -> FloatArray:
    """Predictions of every session on every path of combinatorial purged cross-validation, shape (paths, T, N)."""
    chosen = config.cross_validation
    splits = combinatorial(len(training.panel.sessions), chosen.groups, chosen.tested)
    found = [tested(training, split, config.embargo, make) for split in splits]
    blocks = {group: block for split in splits for group, block in zip(split.groups, split.tests, strict=True)}
    routes = paths(splits)
    result = np.full((len(routes), *training.labels.shape), np.nan)
    for path, route in enumerate(routes.tolist()):
        for group, number in enumerate(route):
            start, stop = blocks[group]
            result[path, start:stop] = found[number][start:stop]
    return np.where(training.usable, result, np.nan)


def score(training: TrainingSet, predictions: FloatArray) -> PathScores:
    """Scores of each path of `along_paths`."""
    skill = [rank_correlation(path, training.labels) for path in predictions]
    spreads = [spread_returns(training, path) for path in predictions]
    return PathScores(
        tuple(float(np.nanmean(one)) if np.isfinite(one).any() else float("nan") for one in skill),
        tuple(sharpe(one[np.isfinite(one)]) for one in spreads),
    )
