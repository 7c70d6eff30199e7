"""The model as MLflow serves it: features in, scores out.

Belongs here: MLflow's view of an estimator, run by MLflow itself (models from code). Does not: training or choosing
models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]

from octopus.models.base import Rows
from octopus.models.estimators import estimator_from_bytes


class EstimatorModel(PythonModel):
    """Wraps the bytes of one fitted estimator; a row of the frame is one instrument on one session."""

    def load_context(self, context: Any) -> None:
        self._estimator = estimator_from_bytes(Path(context.artifacts["estimator"]).read_bytes())

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.Series:
        return pd.Series(self._estimator.predict(_rows(model_input)), index=model_input.index)


def _rows(frame: pd.DataFrame) -> Rows:
    """Features by column; the columns ``session`` and ``instrument`` say where a row stands, if they are there."""
    features = frame.drop(columns=["session", "instrument"], errors="ignore").to_numpy(dtype="float64")
    if not {"session", "instrument"} <= set(frame.columns):
        return Rows(features)
    sessions = frame["session"].to_numpy(dtype="datetime64[D]")
    return Rows(features, sessions=sessions, instruments=frame["instrument"].to_numpy(dtype=str))


mlflow.models.set_model(EstimatorModel())
