"""Linear models: the baseline, exact to explain.

Belongs here: least squares with penalties. Does not: trees.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from octopus.core.types import FloatArray
from octopus.models.base import Estimator, Rows, fitted
from octopus.models.config import ElasticNetConfig, RidgeConfig


class _Linear(Estimator):
    """A weight for each feature, and no intercept: features and labels are centred already."""

    def __init__(self, settings: Any = None, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self._weights: FloatArray | None = None

    @abstractmethod
    def _solve(self, rows: Rows) -> FloatArray:
        """Weights of the features, shape (F,)."""

    def fit(self, rows: Rows) -> None:
        self._weights = self._solve(rows)

    def predict(self, rows: Rows) -> FloatArray:
        # Row by row sums: a matrix product may round differently for another number of rows, and a sum for another
        # order in memory (a pandas frame gives its columns one after the other).
        return np.asarray((np.ascontiguousarray(rows.features) * fitted(self.name, self._weights)).sum(axis=1))

    def contributions(self, rows: Rows) -> FloatArray:
        """Weight times feature: exact, for features that say nothing are 0."""
        parts = rows.features * fitted(self.name, self._weights)
        return np.column_stack([parts, np.zeros(len(parts))])

    def learnt(self) -> bytes:
        weights = fitted(self.name, self._weights)
        return json.dumps({"settings": self.settings.model_dump(), "weights": weights.tolist()}).encode()

    @classmethod
    def restored(cls, learnt: bytes) -> Self:
        saved = json.loads(learnt)
        model = cls(cls.Settings.model_validate(saved["settings"]))
        model._weights = np.array(saved["weights"])
        return model


class Ridge(_Linear):
    """Least squares with an L2 penalty, in closed form."""

    name: ClassVar[str] = "ridge"
    Settings = RidgeConfig

    def _solve(self, rows: Rows) -> FloatArray:
        features, labels = rows.features, rows.taught
        weighted = features if rows.weights is None else features * rows.weights[:, None]
        gram = features.T @ weighted + self.settings.penalty * np.eye(features.shape[1])
        return np.asarray(np.linalg.solve(gram, weighted.T @ labels), dtype=np.float64)


class ElasticNet(_Linear):
    """Least squares with an L1 and an L2 penalty: features that say little get no weight at all.

    Minimises |y - Xw|² / (2 rows) + penalty · l1_share · |w|₁ + penalty · (1 - l1_share) / 2 · |w|².

    Source: Zou and Hastie, Journal of the Royal Statistical Society B 67 (2005); scikit-learn's coordinate descent.
    """

    name: ClassVar[str] = "elastic_net"
    Settings = ElasticNetConfig

    def _solve(self, rows: Rows) -> FloatArray:
        from sklearn.linear_model import ElasticNet as CoordinateDescent

        solver = CoordinateDescent(
            alpha=self.settings.penalty, l1_ratio=self.settings.l1_share, fit_intercept=False, max_iter=5000
        )
        return np.asarray(solver.fit(rows.features, rows.taught, sample_weight=rows.weights).coef_, dtype=np.float64)
