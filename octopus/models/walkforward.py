"""Walk-forward training: a model for each fold, and its predictions of what it had not seen.

Belongs here: running the folds. Does not: scoring them (evaluation.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from octopus.core.types import FloatArray
from octopus.models.config import ModelConfig
from octopus.models.estimators import Estimator
from octopus.models.splits import Fold, walk_forward
from octopus.models.training import TrainingSet


@dataclass(frozen=True, eq=False)
class WalkForward:
    """The outcome of all folds.

    Attributes:
        estimators: one for each fold. predictions: out of sample, shape (T, N), NaN before the first test block.
    """

    folds: tuple[Fold, ...]
    estimators: tuple[Estimator, ...]
    predictions: FloatArray


def run(
    training: TrainingSet,
    config: ModelConfig,
    make: Callable[[], Estimator],
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> WalkForward:
    """Fit and test every fold.

    Args:
        on_fold: told after each fold how many are done, and of how many.
    """
    folds = walk_forward(len(training.panel.sessions), config)
    predictions = np.full(training.labels.shape, np.nan)
    estimators: list[Estimator] = []
    for fold in folds:
        estimator = make()
        estimator.fit(*training.rows(fold.train_start, fold.train_stop))
        predictions[fold.test_start : fold.test_stop] = predict(
            estimator, training.features[fold.test_start : fold.test_stop]
        )
        estimators.append(estimator)
        on_fold(len(estimators), len(folds))
    usable = training.panel.member & ~np.isnan(training.panel.close)
    return WalkForward(tuple(folds), tuple(estimators), np.where(usable, predictions, np.nan))


def predict(estimator: Estimator, features: FloatArray) -> FloatArray:
    """Predictions of a block of features, (T, N, F) to (T, N)."""
    rows = features.reshape(-1, features.shape[-1])
    return estimator.predict(rows).reshape(features.shape[:-1])


def fit_final(training: TrainingSet, make: Callable[[], Estimator]) -> Estimator:
    """A model of every label that is known."""
    estimator = make()
    estimator.fit(*training.rows(0, len(training.panel.sessions)))
    return estimator
