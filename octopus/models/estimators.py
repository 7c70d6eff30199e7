"""The estimators: small classes that learn from rows and predict rows.

Belongs here: fitting, predicting, and turning a fitted estimator into bytes and back. Does not: splits, scores.

A prediction for one session's rows is bit for bit the one that the same rows get in a larger batch.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

import numpy as np

from octopus.core.errors import ConfigError, MissingDataError
from octopus.core.types import FloatArray
from octopus.models.config import ModelConfig


class Estimator(Protocol):
    """What a model is made of."""

    @property
    def name(self) -> str: ...

    def fit(self, features: FloatArray, labels: FloatArray) -> None:
        """Learn from X (rows, F) and y (rows,)."""
        ...

    def predict(self, features: FloatArray) -> FloatArray:
        """Scores of X (rows, F), shape (rows,)."""
        ...

    def to_bytes(self) -> bytes: ...

    def importance(self) -> FloatArray:
        """Share of each feature in what was learnt, shape (F,), summing to 1."""
        ...


class Ridge:
    """Least squares with an L2 penalty, in closed form; features are centred already."""

    name = "ridge"

    def __init__(self, penalty: float, weights: FloatArray | None = None) -> None:
        self._penalty, self._weights = penalty, weights

    def fit(self, features: FloatArray, labels: FloatArray) -> None:
        gram = features.T @ features + self._penalty * np.eye(features.shape[1])
        self._weights = np.asarray(np.linalg.solve(gram, features.T @ labels), dtype=np.float64)

    def predict(self, features: FloatArray) -> FloatArray:
        # Row by row sums: a matrix product may round differently for another number of rows, and a sum for another
        # order in memory (a pandas frame gives its columns one after the other).
        return np.asarray((np.ascontiguousarray(features) * self._fitted()).sum(axis=1))

    def importance(self) -> FloatArray:
        size = np.abs(self._fitted())
        return np.asarray(size / size.sum()) if size.sum() > 0 else size

    def to_bytes(self) -> bytes:
        return json.dumps({"kind": self.name, "penalty": self._penalty, "weights": self._fitted().tolist()}).encode()

    def _fitted(self) -> FloatArray:
        if self._weights is None:
            raise MissingDataError("ridge was asked to predict before it was fitted; fit it first")
        return self._weights


class XGBoost:
    """Gradient-boosted trees of the library xgboost, with a fixed seed."""

    name = "xgboost"

    def __init__(self, config: ModelConfig, booster: Any = None) -> None:
        self._config, self._booster = config, booster

    def fit(self, features: FloatArray, labels: FloatArray) -> None:
        import xgboost

        section = self._config.xgboost
        parameters = {
            "objective": "reg:squarederror", "tree_method": "hist", "max_bin": 64, "max_depth": section.depth,
            "eta": section.learning_rate, "min_child_weight": section.min_child_weight, "subsample": section.subsample,
            "colsample_bytree": section.column_share, "seed": self._config.seed, "nthread": 2, "base_score": 0.0,
        }  # fmt: skip
        self._booster = xgboost.train(parameters, xgboost.QuantileDMatrix(features, labels, max_bin=64), section.trees)

    def predict(self, features: FloatArray) -> FloatArray:
        return np.asarray(self._fitted().inplace_predict(features), dtype=np.float64)

    def importance(self) -> FloatArray:
        booster = self._fitted()
        gains = booster.get_score(importance_type="total_gain")
        size = np.array([gains.get(f"f{index}", 0.0) for index in range(booster.num_features())])
        return np.asarray(size / size.sum()) if size.sum() > 0 else size

    def to_bytes(self) -> bytes:
        return b"xgboost\n" + bytes(self._fitted().save_raw("ubj"))

    def _fitted(self) -> Any:
        if self._booster is None:
            raise MissingDataError("xgboost was asked to predict before it was fitted; fit it first")
        return self._booster


def make(name: str, config: ModelConfig) -> Estimator:
    """A new estimator by name."""
    if name == "ridge":
        return Ridge(config.ridge.penalty)
    if name == "xgboost":
        return XGBoost(config)
    raise ConfigError(where="models", field="estimator", value=name, remedy=f"use one of {', '.join(ESTIMATORS)}")


ESTIMATORS = ("ridge", "xgboost")


def estimator_from_bytes(content: bytes) -> Estimator:
    """The fitted estimator that `Estimator.to_bytes` wrote."""
    if content.startswith(b"xgboost\n"):
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(bytearray(content.removeprefix(b"xgboost\n")))
        return XGBoost(ModelConfig(), booster)
    saved = json.loads(content)
    return Ridge(saved["penalty"], np.array(saved["weights"]))
