"""Which model speaks for a session: the one that was champion then, or a fold that had only seen the past.

Belongs here: that choice, from dated records. Does not: loading models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class Appointment:
    """One move of the champion's alias; ``version`` is None when it was taken away."""

    name: str
    version: int | None
    effective_from: datetime


@dataclass(frozen=True)
class FoldRecord:
    """A walk-forward model as recorded: it may speak for its own test block alone.

    Attributes:
        train_to: last session whose label it learnt from, known before ``test_from``.
    """

    model: str
    fold: int
    train_to: date
    test_from: date
    test_to: date
    artifact: str


@dataclass(frozen=True)
class Speaker:
    """The model that speaks: a registered ``version``, or a ``fold``."""

    name: str
    version: int | None = None
    fold: FoldRecord | None = None

    @property
    def label(self) -> str:
        """As stored beside a prediction."""
        return f"{self.name}:{self.version}" if self.fold is None else f"{self.name}:fold-{self.fold.fold}"


def model_for(
    session: date, decided_at: datetime, appointments: Sequence[Appointment], folds: Sequence[FoldRecord]
) -> Speaker | None:
    """The model whose predictions session ``session`` may use; None: the model signal abstains.

    The champion as of ``decided_at``; before any appointment, the fold of a model that passed its review and whose test
    block holds the session. A model appointed later never speaks for an earlier session.

    Args:
        folds: of reviewed models that passed; of no other.
    """
    effective = [a for a in appointments if a.effective_from <= decided_at]
    if effective:
        latest = max(effective, key=lambda a: a.effective_from)
        return None if latest.version is None else Speaker(latest.name, latest.version)
    for fold in folds:
        if fold.test_from <= session <= fold.test_to and fold.train_to < fold.test_from:
            return Speaker(fold.model, fold=fold)
    return None
