"""A model of each instrument by itself: level, trend and season of its own label.

Belongs here: Prophet, fitted by its library and evaluated here. Does not: models of features.

It learns the labels and not prices: they are what is to be predicted, each is known when the splits say so, and the
trend of a price is the level of its return.
"""

from __future__ import annotations

import json
import logging
from typing import Any, ClassVar, Self

import numpy as np

from octopus.core.types import DateArray, FloatArray
from octopus.models.base import Estimator, Rows, fitted
from octopus.models.config import ProphetConfig

_YEAR_DAYS = 365.25


class Prophet(Estimator):
    """Prophet for each instrument alone; it abstains on one that it has seen too little of.

    What was fitted is a dozen numbers, so that serving needs NumPy alone, and one session gets the bits of a batch.

    Source: Taylor and Letham, Forecasting at Scale, The American Statistician 72 (2018).
    """

    name: ClassVar[str] = "prophet"
    Settings = ProphetConfig
    needs_places = True

    def __init__(self, settings: Any = None, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self._curves: dict[str, dict[str, Any]] | None = None

    def fit(self, rows: Rows) -> None:
        sessions, instruments = rows.places
        self._curves = {}
        for name in np.unique(instruments).tolist():
            own = instruments == name
            if own.sum() >= self.settings.sessions_min:
                self._curves[name] = self._curve(sessions[own], rows.taught[own])

    def _curve(self, sessions: DateArray, labels: FloatArray) -> dict[str, Any]:
        """The fitted numbers of one instrument."""
        import pandas as pd

        logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
        import prophet

        chosen = self.settings
        model: Any = prophet.Prophet(
            growth=chosen.growth, changepoint_prior_scale=chosen.changepoint_scale,
            seasonality_prior_scale=chosen.seasonality_scale, yearly_seasonality=chosen.yearly_order,
            weekly_seasonality=False, daily_seasonality=False, uncertainty_samples=0,
        )  # fmt: skip
        model.fit(pd.DataFrame({"ds": sessions.astype("datetime64[ns]"), "y": labels}), seed=self.seed)
        found = {key: np.ravel(values) for key, values in model.params.items()}
        return {
            "start": model.start.timestamp() / 86400, "days": model.t_scale / pd.Timedelta(days=1),
            "scale": float(model.y_scale), "growth": chosen.growth, "rate": float(found["k"][0]),
            "level": float(found["m"][0]), "changes": found["delta"].tolist(),
            "change_times": np.ravel(model.changepoints_t).tolist(), "season": found["beta"].tolist(),
        }  # fmt: skip

    def predict(self, rows: Rows) -> FloatArray:
        curves = fitted(self.name, self._curves)
        sessions, instruments = rows.places
        result = np.full(len(rows), np.nan)
        for name in np.unique(instruments).tolist():
            if name in curves:
                own = instruments == name
                result[own] = _evaluated(curves[name], sessions[own].astype("datetime64[D]").astype(np.float64))
        return result

    def learnt(self) -> bytes:
        return json.dumps(fitted(self.name, self._curves)).encode()

    @classmethod
    def restored(cls, learnt: bytes) -> Self:
        model = cls()
        model._curves = json.loads(learnt)
        return model


def _evaluated(curve: dict[str, Any], days: FloatArray) -> FloatArray:
    """Trend and season at ``days`` since 1970, as the library adds them up."""
    time = (days - curve["start"]) / curve["days"]
    trend = np.full(len(time), curve["level"])
    if curve["growth"] == "linear":
        since = np.array(curve["change_times"])
        changed = (since <= time[:, None]) * np.array(curve["changes"])
        trend = (changed.sum(axis=1) + curve["rate"]) * time + (changed * -since).sum(axis=1) + curve["level"]
    season = np.array(curve["season"])
    angle = 2 * np.pi * days[:, None] / _YEAR_DAYS * np.arange(1, len(season) // 2 + 1)
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(len(days), -1)
    return np.asarray((trend + (waves * season).sum(axis=1)) * curve["scale"])
