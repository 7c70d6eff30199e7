"""Splits in time: what trains and what tests, so that nothing that trains knows anything of what tests.

Belongs here: walk-forward, purged k-fold and combinatorial purged cross-validation. Does not: training.

A sample's window goes from its row to the row at whose close its label is known. Training and testing windows never
share a row, and at least ``embargo`` rows lie between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from octopus.core.errors import ConfigError, MissingDataError
from octopus.core.types import BoolArray, IntArray
from octopus.models.config import ModelConfig
from octopus.models.labels import known_after

Block = tuple[int, int]
"""Half-open rows."""


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
    the close of the first test row. A row trains with all its labels or with none: to take those of a barrier that was
    touched early, and leave the others, would be to choose by outcome.
    """
    gap = known_after(config.horizon_sessions) + config.embargo
    folds: list[Fold] = []
    start = config.train_min_sessions + gap
    while start < sessions:
        stop = min(start + config.test_sessions, sessions)
        train_stop = start - gap
        train_start = max(0, train_stop - config.train_min_sessions) if config.window == "rolling" else 0
        folds.append(Fold(len(folds), train_start, train_stop, start, stop))
        start = stop
    return folds


@dataclass(frozen=True)
class Split:
    """One way to test some groups of neighbouring sessions and to train on the others.

    Attributes:
        groups: numbers of those that test. tests: their half-open rows.
    """

    number: int
    groups: tuple[int, ...]
    tests: tuple[Block, ...]


def k_fold(sessions: int, folds: int) -> list[Split]:
    """Each of ``folds`` groups tests once; what trains is what `purged` leaves."""
    return combinatorial(sessions, folds, 1)


def combinatorial(sessions: int, groups: int, tested: int) -> list[Split]:
    """Every choice of ``tested`` of ``groups`` groups of sessions, C(groups, tested) of them.

    Raises:
        ConfigError: fewer than two groups, or none left to train on. MissingDataError: fewer sessions than groups.

    Source: López de Prado, Advances in Financial Machine Learning (2018), chapter 12.4.
    """
    if groups < 2 or not 1 <= tested < groups:
        raise ConfigError(
            where="splits", field="tested", value=tested, remedy=f"test at least 1 and fewer than groups = {groups} ≥ 2"
        )
    if sessions < groups:
        raise MissingDataError(f"{sessions} sessions are too few for {groups} groups; take fewer groups")
    edges = [int(edge) for edge in np.linspace(0, sessions, groups + 1).round()]
    blocks = list(pairwise(edges))
    return [
        Split(number, chosen, tuple(blocks[group] for group in chosen))
        for number, chosen in enumerate(combinations(range(groups), tested))
    ]


def paths(splits: Sequence[Split]) -> IntArray:
    """Which split tests each group on each path through all sessions, shape (paths, groups).

    Each group is tested by C(groups - 1, tested - 1) splits, and so many are the paths: the j-th takes of each group
    the j-th split that tests it, and every test of every split is on one path.

    Source: López de Prado, Advances in Financial Machine Learning (2018), chapter 12.4.
    """
    count = 1 + max(group for split in splits for group in split.groups)
    return np.array([[s.number for s in splits if group in s.groups] for group in range(count)], dtype=np.int64).T


def purged(known: IntArray, tests: Sequence[Block], embargo: int) -> BoolArray:
    """Samples that may train where ``tests`` test, shape (T, N).

    Args:
        known: row at whose close each sample's label is known (`octopus.models.labels.Labels.known`), shape (T, N).
        embargo: rows that lie at least between the windows of training and testing samples.
    """
    rows = np.arange(len(known))[:, None]
    free = known >= 0
    for start, stop in tests:
        last = max(stop - 1, int(known[start:stop].max(initial=-1)))
        free &= (known + embargo < start) | (rows > last + embargo)
    return np.asarray(free)
