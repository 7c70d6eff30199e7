"""Walk-forward training: a model for each fold, and its predictions of what it had not seen.

Belongs here: running the folds. Does not: scoring them (evaluation.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from octopus.core.types import DateArray, FloatArray
from octopus.models.base import Estimator, Rows
from octopus.models.config import ModelConfig
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
    make: Callable[[TrainingSet], Estimator],
    on_fold: Callable[[int, int], None] = lambda done, total: None,
    ready: Mapping[int, Estimator] = MappingProxyType({}),
) -> WalkForward:
    """Fit and test every fold.

    Args:
        make: a new model for what may be learnt from: it is given nothing of the test block, nor of later ones.
        on_fold: told after each fold how many are done, and of how many.
        ready: models of folds that were fitted elsewhere, by the fold's number.
    """
    folds = walk_forward(len(training.panel.sessions), config)
    predictions = np.full(training.labels.shape, np.nan)
    estimators: list[Estimator] = []
    for fold in folds:
        estimator = ready[fold.number] if fold.number in ready else fit_fold(training, fold, make)
        block = slice(fold.test_start, fold.test_stop)
        predictions[block] = predict(
            estimator, training.features[block], training.panel.sessions[block], training.panel.symbols
        )
        estimators.append(estimator)
        on_fold(len(estimators), len(folds))
    usable = training.panel.member & ~np.isnan(training.panel.close)
    return WalkForward(tuple(folds), tuple(estimators), np.where(usable, predictions, np.nan))


def predict(estimator: Estimator, features: FloatArray, sessions: DateArray, symbols: tuple[str, ...]) -> FloatArray:
    """Predictions of a block of features, (T, N, F) to (T, N)."""
    return estimator.predict(Rows.of(features, sessions, symbols)).reshape(features.shape[:-1])


def fit_fold(training: TrainingSet, fold: Fold, make: Callable[[TrainingSet], Estimator]) -> Estimator:
    """The model of one fold, of what was known before its test block."""
    return fit(training.between(fold.train_start, fold.train_stop), make)


def fit(training: TrainingSet, make: Callable[[TrainingSet], Estimator]) -> Estimator:
    """A model of every label of ``training``."""
    estimator = make(training)
    estimator.fit(training.rows(0, len(training.panel.sessions)))
    return estimator
