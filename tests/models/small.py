"""Small panels for tests of models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from octopus.core.panel import Panel
from octopus.core.types import DateArray, FloatArray


def panel_of(returns: FloatArray) -> Panel:
    nan, ones = np.full(returns.shape, np.nan), np.ones(returns.shape)
    return Panel(
        sessions=np.arange(np.datetime64("2015-01-01"), np.datetime64("2015-01-01") + len(returns)),
        symbols=tuple(f"S{i:02d}" for i in range(returns.shape[1])),
        close=np.cumprod(1 + returns, axis=0), total_return=returns, open=nan, high=nan, low=nan, volume=nan,
        member=np.ones(returns.shape, dtype=bool), sentiment=nan, split=ones, dividend=np.zeros(returns.shape),
        price_basis="total_return",
    )  # fmt: skip


TINY = '''
"""A model that another package brings: it believes in one feature."""

import json

import numpy as np
from pydantic import BaseModel

from octopus.models.base import Estimator


class Settings(BaseModel):
    feature: int = 0
    scale: float = 1.0


class Tiny(Estimator):
    name = "tiny"
    Settings = Settings

    def fit(self, rows):
        column = rows.features[:, self.settings.feature]
        self._slope = float(column @ rows.taught / (column @ column + 1e-9)) * self.settings.scale

    def predict(self, rows):
        return rows.features[:, self.settings.feature] * self._slope

    def learnt(self):
        return json.dumps([self.settings.model_dump(), self._slope]).encode()

    @classmethod
    def restored(cls, learnt):
        settings, slope = json.loads(learnt)
        model = cls(Settings(**settings))
        model._slope = slope
        return model


class Other:
    pass
'''


def install_package(folder: Path, points: str) -> None:
    """A package as pip would leave it: a module, and its metadata with entry points."""
    (folder / "tiny_models.py").write_text(TINY)
    metadata = folder / "tiny_models-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-models\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[octopus.models]\n{points}\n")


def persistent_panel(sessions: DateArray, columns: int = 12, seed: int = 5) -> Panel:
    """Instruments whose drift lasts for months: what rose lately goes on rising, so that momentum knows something."""
    random = np.random.default_rng(seed)
    months = random.normal(0, 0.004, (len(sessions) // 60 + 1, columns))
    returns = np.repeat(months, 60, axis=0)[: len(sessions)] + random.normal(0, 0.01, (len(sessions), columns))
    return replace(panel_of(returns), sessions=sessions)
