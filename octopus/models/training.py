"""Training sets: features as a model sees them, with their labels.

Belongs here: the transformation of features, the same for training and serving. Does not: estimators.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from octopus.core.ids import fingerprint
from octopus.core.panel import Panel
from octopus.core.stats import centred_ranks
from octopus.core.types import BoolArray, FloatArray
from octopus.models.config import ModelConfig
from octopus.models.labels import forward_excess_return


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Everything a model is trained and tested on.

    Attributes:
        features: as the model sees them, shape (T, N, F). labels: shape (T, N), NaN where not known or excluded.
        usable: member with a bar, not excluded, shape (T, N): where a prediction counts.
    """

    panel: Panel
    names: tuple[str, ...]
    features: FloatArray
    labels: FloatArray
    usable: BoolArray

    @property
    def fingerprint(self) -> str:
        """Of features, labels and their places."""
        return fingerprint(self.names, self.panel.symbols, self.panel.sessions, self.features, self.labels)

    def rows(self, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
        """X (rows, F) and y (rows,) of sessions ``start`` to ``stop`` with a label."""
        labels = self.labels[start:stop]
        known = ~np.isnan(labels)
        return self.features[start:stop][known], labels[known]

    @property
    def labelled(self) -> int:
        """Rows with a label."""
        return int((~np.isnan(self.labels)).sum())


def as_model_sees(values: FloatArray, member: BoolArray) -> FloatArray:
    """Features scaled among the members of the same session, so that a crash and a calm day look alike.

    Each feature becomes its rank among the session's members, from -0.5 to 0.5; a missing value becomes 0, the
    middle, which says nothing; a feature that all share (a calendar flag) becomes 0 too. Session by session: serving
    one session gives the bits that training saw.

    Args:
        values: shape (T, N, F). member: shape (T, N).
    """
    ranks = centred_ranks(np.where(member[:, :, None], values, np.nan))
    return np.where(np.isnan(ranks), 0.0, ranks)


def build(
    panel: Panel, names: tuple[str, ...], values: FloatArray, config: ModelConfig, excluded: BoolArray
) -> TrainingSet:
    """The training set of a panel.

    Args:
        values: features, shape (T, N, F). excluded: instrument-days no model should learn from, shape (T, N).
    """
    usable = panel.member & ~np.isnan(panel.close) & ~excluded
    labels = np.where(usable, forward_excess_return(panel, config.horizon_sessions), np.nan)
    return TrainingSet(panel, names, as_model_sees(values, panel.member), labels, usable)


def training_session(session: date, retrain: str) -> date:
    """The last day of the month, quarter or year before ``session``: until when the training set reaches."""
    months = {"month": 1, "quarter": 3, "year": 12}[retrain]
    first = date(session.year, (session.month - 1) // months * months + 1, 1)
    return date.fromordinal(first.toordinal() - 1)
