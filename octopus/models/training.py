"""Training sets: features as a model sees them, with their labels.

Belongs here: the transformation of features, the same for training and serving. Does not: estimators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.ids import fingerprint
from octopus.core.panel import Panel
from octopus.core.stats import centred_ranks
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.models.base import Rows
from octopus.models.config import ModelConfig
from octopus.models.labels import Barriers, Labels, average_uniqueness, forward_return, meta_labels, triple_barrier
from octopus.models.meta import bets


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Everything a model is trained and tested on.

    Attributes:
        features: as the model sees them, shape (T, N, F). labels: shape (T, N), NaN where not known or excluded.
        known: row at whose close the label is known, shape (T, N), -1 without one.
        weights: how much a label counts, shape (T, N), 1 on average; None: all the same.
        usable: member with a bar, not excluded, shape (T, N): where a prediction counts.
        side: what the signal says whose paying is predicted, shape (T, N); None: the prediction is the opinion.
    """

    panel: Panel
    names: tuple[str, ...]
    features: FloatArray
    labels: FloatArray
    known: IntArray
    usable: BoolArray
    weights: FloatArray | None = None
    side: FloatArray | None = None

    @property
    def fingerprint(self) -> str:
        """Of features, labels, their places and weights."""
        weights = () if self.weights is None else (self.weights,)
        return fingerprint(self.names, self.panel.symbols, self.panel.sessions, self.features, self.labels, *weights)

    def rows(self, start: int, stop: int) -> Rows:
        """What is labelled in the sessions ``start`` to ``stop``."""
        inside = np.zeros(self.labels.shape, dtype=bool)
        inside[start:stop] = True
        return self.samples(inside)

    def samples(self, chosen: BoolArray) -> Rows:
        """What is labelled of the ``chosen`` cells, shape (T, N)."""
        chosen = chosen & ~np.isnan(self.labels)
        rows, columns = np.nonzero(chosen)
        return Rows(
            self.features[chosen],
            self.labels[chosen],
            None if self.weights is None else self.weights[chosen],
            self.panel.sessions[rows],
            np.array(self.panel.symbols)[columns],
        )

    def between(self, start: int, stop: int) -> TrainingSet:
        """The sessions ``start`` to ``stop`` alone; labels stay that were known later than ``stop``."""
        part = slice(start, stop)
        known = np.where(self.known[part] >= 0, self.known[part] - start, -1)
        weights = None if self.weights is None else self.weights[part]
        return TrainingSet(
            self.panel.rows(start, stop), self.names, self.features[part], self.labels[part], known, self.usable[part],
            weights, None if self.side is None else self.side[part],
        )  # fmt: skip

    def opinions(self, predictions: FloatArray) -> FloatArray:
        """What follows from predictions of every cell, shape (T, N): themselves, or bets on the signal."""
        return predictions if self.side is None else bets(predictions, self.side)

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
    panel: Panel,
    names: tuple[str, ...],
    values: FloatArray,
    config: ModelConfig,
    excluded: BoolArray,
    signals: Mapping[str, FloatArray] = MappingProxyType({}),
) -> TrainingSet:
    """The training set of a panel.

    Args:
        values: features, shape (T, N, F). excluded: instrument-days no model should learn from, shape (T, N).
        signals: by name, shape (T, N); needed for meta-labels, which are about one of them.

    Raises:
        MissingDataError: the signal that meta-labels are about is not among ``signals``.
    """
    usable = panel.member & ~np.isnan(panel.close) & ~excluded
    side = side_of(config.label.primary, signals)
    labels = make_labels(panel, config, side).where(usable)
    weights = None
    if config.sample_weights == "uniqueness":
        shares = average_uniqueness(labels)
        weights = shares / np.nanmean(shares) if np.isfinite(shares).any() else shares
    features = as_model_sees(values, panel.member)
    return TrainingSet(panel, names, features, labels.values, labels.known, usable, weights, side)


def unlabelled(panel: Panel, names: tuple[str, ...], values: FloatArray) -> TrainingSet:
    """A panel as models see it, to ask them and not to teach them."""
    nothing = np.full(panel.close.shape, np.nan)
    usable = panel.member & ~np.isnan(panel.close)
    known = np.full(panel.close.shape, -1, dtype=np.int64)
    return TrainingSet(panel, names, as_model_sees(values, panel.member), nothing, known, usable)


def side_of(primary: str | None, signals: Mapping[str, FloatArray]) -> FloatArray | None:
    """What the signal ``primary`` says; None without one.

    Raises:
        MissingDataError: it is not among ``signals``.
    """
    if primary is None:
        return None
    if primary not in signals:
        raise MissingDataError(
            f"the model predicts whether {primary} pays, which is not among the signals {', '.join(sorted(signals))}: "
            "give it a weight in strategies.yaml"
        )
    return signals[primary]


def make_labels(panel: Panel, config: ModelConfig, side: FloatArray | None = None) -> Labels:
    """The configured labels of every cell of ``panel``; meta-labels are about ``side``."""
    chosen = config.label
    barriers = Barriers(config.horizon_sessions, chosen.profit, chosen.stop, chosen.volatility_sessions)
    if side is not None:
        return meta_labels(panel, side, barriers)
    if chosen.kind == "triple_barrier":
        return triple_barrier(panel, barriers)
    return forward_return(panel, config.horizon_sessions, chosen.form)


def training_session(session: date, retrain: str) -> date:
    """The last day of the month, quarter or year before ``session``: until when the training set reaches."""
    months = {"month": 1, "quarter": 3, "year": 12}[retrain]
    first = date(session.year, (session.month - 1) // months * months + 1, 1)
    return date.fromordinal(first.toordinal() - 1)
