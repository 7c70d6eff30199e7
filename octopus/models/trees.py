"""Gradient-boosted trees.

Belongs here: the boosters, with fixed seeds, and what their own exact SHAP values say. Does not: linear models.

Source of the SHAP values: Lundberg, Erion and Lee, Consistent Individualized Feature Attribution for Tree Ensembles
(2018), as both libraries implement it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import FloatArray
from octopus.models.base import Estimator, Rows, fitted
from octopus.models.config import LightGBMConfig, XGBoostConfig

_THREADS = 2
_SMALL = 20_000


def _threads(rows: Rows) -> int:
    """Over a few rows threads wait for each other longer than they work."""
    return _THREADS if len(rows) > _SMALL else 1


class XGBoost(Estimator):
    """Gradient-boosted trees of the library xgboost, with a fixed seed."""

    name: ClassVar[str] = "xgboost"
    Settings = XGBoostConfig
    requirements = ("xgboost-cpu",)

    def __init__(self, settings: Any = None, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self._booster: Any = None

    def fit(self, rows: Rows) -> None:
        import xgboost

        chosen = self.settings
        parameters = {
            "objective": "reg:squarederror", "tree_method": "hist", "max_bin": 64, "max_depth": chosen.depth,
            "eta": chosen.learning_rate, "min_child_weight": chosen.min_child_weight, "subsample": chosen.subsample,
            "colsample_bytree": chosen.column_share, "seed": self.seed, "nthread": _threads(rows), "base_score": 0.0,
        }  # fmt: skip
        data = xgboost.QuantileDMatrix(rows.features, rows.taught, weight=rows.weights, max_bin=64)
        self._booster = xgboost.train(parameters, data, chosen.trees)

    def predict(self, rows: Rows) -> FloatArray:
        return np.asarray(fitted(self.name, self._booster).inplace_predict(rows.features), dtype=np.float64)

    def contributions(self, rows: Rows) -> FloatArray:
        import xgboost

        booster = fitted(self.name, self._booster)
        return np.asarray(booster.predict(xgboost.DMatrix(rows.features), pred_contribs=True), dtype=np.float64)

    def learnt(self) -> bytes:
        return bytes(fitted(self.name, self._booster).save_raw("ubj"))

    @classmethod
    def restored(cls, learnt: bytes) -> Self:
        import xgboost

        model = cls()
        model._booster = xgboost.Booster()
        model._booster.load_model(bytearray(learnt))
        return model


class LightGBM(Estimator):
    """Gradient-boosted trees of the library LightGBM, grown leaf by leaf, with a fixed seed."""

    name: ClassVar[str] = "lightgbm"
    Settings = LightGBMConfig
    requirements = ("lightgbm",)

    def __init__(self, settings: Any = None, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self._booster: Any = None

    def fit(self, rows: Rows) -> None:
        lightgbm = _lightgbm()
        chosen = self.settings
        parameters = {
            "objective": "regression", "num_leaves": chosen.leaves, "learning_rate": chosen.learning_rate,
            "min_data_in_leaf": chosen.min_rows_in_leaf, "bagging_fraction": chosen.subsample, "bagging_freq": 1,
            "feature_fraction": chosen.column_share, "lambda_l2": chosen.penalty, "max_bin": 63, "seed": self.seed,
            "deterministic": True, "force_row_wise": True, "num_threads": _threads(rows), "verbosity": -1,
            "boost_from_average": False,
        }  # fmt: skip
        data = lightgbm.Dataset(rows.features, rows.taught, weight=rows.weights, params={"verbosity": -1})
        self._booster = lightgbm.train(parameters, data, chosen.trees)

    def predict(self, rows: Rows) -> FloatArray:
        booster = fitted(self.name, self._booster)
        return np.asarray(booster.predict(np.ascontiguousarray(rows.features), num_threads=1), dtype=np.float64)

    def contributions(self, rows: Rows) -> FloatArray:
        booster = fitted(self.name, self._booster)
        return np.asarray(
            booster.predict(np.ascontiguousarray(rows.features), pred_contrib=True, num_threads=1), dtype=np.float64
        )

    def learnt(self) -> bytes:
        return str(fitted(self.name, self._booster).model_to_string()).encode()

    @classmethod
    def restored(cls, learnt: bytes) -> Self:
        model = cls()
        model._booster = _lightgbm().Booster(model_str=learnt.decode())
        return model


def _lightgbm() -> Any:
    try:
        import lightgbm
    except OSError as error:  # its library is there, what it is linked with is not
        raise MissingDataError(f"lightgbm: {error}; install the system's libgomp (Debian: libgomp1)") from error
    return lightgbm
