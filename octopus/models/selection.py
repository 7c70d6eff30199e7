"""Which model speaks for a session: the one that was champion then, or a fold that had only seen the past.

Belongs here: that choice, from dated records. Does not: loading models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class Appointment:
    """One move of the champion's alias; ``version`` is None when it was taken away.

    Attributes:
        passed: every gate of its review. trained_to: last session it knows of; None: nobody can say.
    """

    name: str
    version: int | None
    effective_from: datetime
    passed: bool
    trained_to: date | None


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
    block holds the session. A model appointed later never speaks for an earlier session. A champion whose review did
    not pass every gate, or that was trained on the session itself, is silent, whoever appointed it.

    Args:
        folds: of reviewed models that passed; of no other.
    """
    effective = [a for a in appointments if a.effective_from <= decided_at]
    if effective:
        latest = max(effective, key=lambda a: a.effective_from)
        if latest.version is None or silenced(latest, session) is not None:
            return None
        return Speaker(latest.name, latest.version)
    for fold in folds:
        if fold.test_from <= session <= fold.test_to and fold.train_to < fold.test_from:
            return Speaker(fold.model, fold=fold)
    return None


def silenced(appointment: Appointment, session: date) -> str | None:
    """Why an appointed model may not speak for ``session``, and what to do about it; None: it may."""
    who = f"{appointment.name} version {appointment.version}"
    if appointment.version is None:
        return None
    if not appointment.passed:
        return f"{who} did not pass its gates: move the alias champion back to a version that did"
    if appointment.trained_to is None or session <= appointment.trained_to:
        return f"{who} was trained up to {appointment.trained_to}: it cannot speak for {session}"
    return None
