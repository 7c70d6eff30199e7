"""Walk-forward splits: train on the past, test on the block after it, never the other way.

Belongs here: which rows train and which test. Does not: training.
"""

from __future__ import annotations

from dataclasses import dataclass

from octopus.models.config import ModelConfig
from octopus.models.labels import known_after


@dataclass(frozen=True)
class Fold:
    """One step of the walk.

    Attributes:
        train_start, train_stop: half-open rows whose labels train. test_start, test_stop: half-open rows that test.
    """

    number: int
    train_start: int
    train_stop: int
    test_start: int
    test_stop: int


def walk_forward(sessions: int, config: ModelConfig) -> list[Fold]:
    """Folds over ``sessions`` rows.

    The purge follows from the label itself: row t trains only if its label was known, and the embargo has passed, at
    the close of the first test row.
    """
    gap = known_after(config.horizon_sessions) + config.embargo_sessions
    folds: list[Fold] = []
    start = config.train_min_sessions + gap
    while start < sessions:
        stop = min(start + config.test_sessions, sessions)
        train_stop = start - gap
        train_start = max(0, train_stop - config.train_min_sessions) if config.window == "rolling" else 0
        folds.append(Fold(len(folds), train_start, train_stop, start, stop))
        start = stop
    return folds
