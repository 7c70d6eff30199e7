"""Labels say what could be earned and when it was known; what trains never shares a session with what tests."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from octopus.core.errors import ConfigError, MissingDataError
from octopus.core.types import FloatArray
from octopus.models.config import LabelConfig, ModelConfig
from octopus.models.labels import (
    Barriers,
    Labels,
    average_uniqueness,
    forward_return,
    known_after,
    meta_labels,
    triple_barrier,
)
from octopus.models.splits import combinatorial, k_fold, paths, purged, walk_forward
from octopus.models.training import build, make_labels
from tests.models.small import panel_of

WILD = arrays(np.float64, (40, 6), elements=st.integers(-2500, 2500).map(lambda bps: bps / 1e4))
BARRIERS = Barriers(limit=4, profit=0.7, stop=0.5, volatility_sessions=10)


def spans(known: np.ndarray) -> list[tuple[int, int]]:
    """Row and row of knowledge of every sample."""
    return [(int(row), int(known[row, column])) for row, column in np.argwhere(known >= 0)]


def test_the_forms_of_a_forward_return() -> None:
    returns = np.zeros((8, 5))
    returns[2:4] = [[0.1, 0.2, 0.3, 0.4, 0.5]]
    panel = panel_of(returns)
    expected = (1 + returns[2]) ** 2 - 1
    raw, excess, rank, standard = (
        forward_return(panel, 2, form).values[0] for form in ("raw", "excess", "rank", "standardised")
    )
    np.testing.assert_allclose(raw, expected)
    np.testing.assert_allclose(excess, expected - expected.mean())
    np.testing.assert_allclose(rank, [-0.5, -0.25, 0, 0.25, 0.5])
    np.testing.assert_allclose(standard, (expected - expected.mean()) / expected.std(ddof=1))
    assert forward_return(panel, 2).known[0].tolist() == [3] * 5
    assert np.isnan(forward_return(panel, 2, "raw").values[5:]).all(), "the panel ends before"
    few = panel_of(returns[:, :4])
    assert np.isfinite(forward_return(few, 2, "raw").values[0]).all()
    assert np.isnan(forward_return(few, 2, "excess").values).all(), "four are too few to compare with"


def barrier_by_hand(returns: FloatArray, side: FloatArray, barriers: Barriers) -> tuple[FloatArray, np.ndarray]:
    """Cell by cell: what was earned at the exit and the row of it."""
    earned, known = np.full(returns.shape, np.nan), np.full(returns.shape, -1)
    for row, column in np.ndindex(returns.shape):
        if row + 1 < barriers.volatility_sessions or row + 1 >= len(returns):
            continue
        past = returns[row + 1 - barriers.volatility_sessions : row + 1, column]
        width = past.std(ddof=1) * barriers.limit**0.5
        value = 1.0
        for step in range(1, barriers.limit + 1):
            day = row + 1 + step
            if day >= len(returns) or not width > 1e-11:
                break
            value *= 1 + returns[day, column]
            now = side[row, column] * (value - 1)
            if now >= barriers.profit * width or now <= -barriers.stop * width or step == barriers.limit:
                earned[row, column], known[row, column] = now, day
                break
    return earned, known


@given(returns=WILD)
@settings(max_examples=25, deadline=None)
def test_barriers_are_touched_where_a_walk_along_the_path_touches_them(returns: FloatArray) -> None:
    labels = triple_barrier(panel_of(returns), BARRIERS)
    earned, known = barrier_by_hand(returns, np.ones(returns.shape), BARRIERS)
    np.testing.assert_array_equal(labels.known, known)
    assert set(np.unique(labels.values[known >= 0])) <= {-1.0, 0.0, 1.0}
    assert (np.isnan(labels.values) == (known < 0)).all()
    assert (earned[labels.values == 1] > 0).all()
    assert (earned[labels.values == -1] < 0).all()
    side = np.sign(np.roll(returns, 3, axis=1))
    meta = meta_labels(panel_of(returns), side, BARRIERS)
    followed, closed = barrier_by_hand(returns, side, BARRIERS)
    spoken = (closed >= 0) & (side != 0)
    np.testing.assert_array_equal(meta.known, np.where(spoken, closed, -1))
    np.testing.assert_array_equal(meta.values[spoken], followed[spoken] > 0)


@given(returns=WILD, noise=WILD, row=st.integers(12, 38))
@settings(max_examples=25, deadline=None)
def test_no_label_depends_on_a_session_after_it_is_known(returns: FloatArray, noise: FloatArray, row: int) -> None:
    other = np.vstack([returns[: row + 1], noise[row + 1 :]])
    for config in (ModelConfig(), ModelConfig(label=LabelConfig(kind="triple_barrier", volatility_sessions=10))):
        whole, cut, noisy = (make_labels(panel_of(r), config) for r in (returns, returns[: row + 1], other))
        for seen in (cut, noisy.until(row)):
            np.testing.assert_array_equal(seen.known, whole.until(row).known)
            np.testing.assert_array_equal(seen.values, whole.until(row).values)


def test_a_side_of_another_shape_is_refused() -> None:
    with pytest.raises(MissingDataError, match=r"side has shape \(2, 2\), expected \(40, 6\)"):
        meta_labels(panel_of(np.zeros((40, 6))), np.zeros((2, 2)), BARRIERS)


lengths = st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=8, max_size=30)


def labels_of(lengths: list[list[int]]) -> Labels:
    """Label (t, n) is made of so many returns from row t+2 on; none where that is 0 or beyond the end."""
    sizes = np.array(lengths)
    known = np.arange(len(sizes))[:, None] + 1 + sizes
    known = np.where((sizes > 0) & (known < len(sizes)), known, -1)
    return Labels(np.where(known >= 0, 1.0, np.nan), known)


@given(lengths=lengths)
@settings(max_examples=50, deadline=None)
def test_uniqueness_is_the_mean_share_of_the_sessions_of_a_label(lengths: list[list[int]]) -> None:
    labels = labels_of(lengths)
    known = labels.known
    expected = np.full(known.shape, np.nan)
    for column in range(known.shape[1]):
        alive = [set(range(row + 2, int(end) + 1)) for row, end in enumerate(known[:, column])]
        for row, own in enumerate(alive):
            if known[row, column] >= 0:
                expected[row, column] = np.mean([1 / sum(day in other for other in alive) for day in own])
    np.testing.assert_allclose(average_uniqueness(labels), expected, rtol=1e-12)


def test_weekly_labels_of_every_session_are_a_fifth_unique_and_weigh_the_training() -> None:
    returns = np.random.default_rng(1).normal(0, 0.01, (120, 6))
    uniqueness = average_uniqueness(forward_return(panel_of(returns), 5))
    assert uniqueness[50] == pytest.approx(0.2)
    assert (uniqueness[0] > 0.4).all(), "nothing came before"
    config = ModelConfig(sample_weights="uniqueness")
    values, nothing = np.zeros((120, 6, 1)), np.zeros((120, 6), dtype=bool)
    training = build(panel_of(returns), ("a",), values, config, nothing)
    assert training.weights is not None
    assert np.nanmean(training.weights) == pytest.approx(1)
    assert training.fingerprint != build(panel_of(returns), ("a",), values, ModelConfig(), nothing).fingerprint


@given(
    lengths=lengths, groups=st.integers(2, 6), tested=st.integers(1, 3), embargo=st.integers(0, 4)
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_training_window_meets_a_test_window_and_the_embargo_lies_between(
    lengths: list[list[int]], groups: int, tested: int, embargo: int
) -> None:
    known = labels_of(lengths).known
    tested = min(tested, groups - 1)
    for split in combinatorial(len(known), groups, tested):
        free = purged(known, split.tests, embargo)
        trains = spans(np.where(free, known, -1))
        inside = np.zeros(len(known), dtype=bool)
        for start, stop in split.tests:
            inside[start:stop] = True
            windows = spans(np.where(np.arange(len(known))[:, None] >= start, known, -1)[:stop])
            windows += [(row, row) for row in range(start, stop)]
            first, last = start, max(end for _, end in windows)
            for row, end in trains:
                assert end + embargo < first or row > last + embargo
        assert not free[inside].any()
        assert not free[known < 0].any()


def test_nothing_more_than_needed_is_purged() -> None:
    known = np.arange(30)[:, None] + known_after(3)
    (split,) = [one for one in k_fold(30, 3) if one.groups == (1,)]
    assert split.tests == ((10, 20),)
    free = np.flatnonzero(purged(known, split.tests, 2)[:, 0])
    # Row 3 is known at 7, and 8 and 9 are the embargo; the last test label is known at 23, and 24 and 25 are.
    assert free.tolist() == [*range(4), *range(26, 30)]


@given(groups=st.integers(2, 8), tested=st.integers(1, 4), extra=st.integers(0, 20))
def test_paths_are_as_many_as_the_formula_says_and_each_test_is_on_one(groups: int, tested: int, extra: int) -> None:
    tested = min(tested, groups - 1)
    splits = combinatorial(groups + extra, groups, tested)
    assert len(splits) == comb(groups, tested)
    found = paths(splits)
    assert found.shape == (comb(groups, tested) * tested // groups, groups) == (comb(groups - 1, tested - 1), groups)
    on_paths = [(int(split), group) for path in found for group, split in enumerate(path)]
    assert sorted(on_paths) == sorted((split.number, group) for split in splits for group in split.groups)
    blocks = [one.tests[0] for one in k_fold(groups + extra, groups)]
    assert blocks[0][0] == 0
    assert blocks[-1][1] == groups + extra
    assert all(before[1] == after[0] for before, after in pairwise(blocks))


@pytest.mark.parametrize(("groups", "tested"), [(1, 1), (4, 4), (4, 0)])
def test_splits_that_leave_nothing_to_train_are_refused(groups: int, tested: int) -> None:
    with pytest.raises(ConfigError, match="test at least 1 and fewer than groups"):
        combinatorial(100, groups, tested)
    with pytest.raises(MissingDataError, match="3 sessions are too few for 5 groups"):
        k_fold(3, 5)


def test_an_embargo_that_is_not_set_is_as_long_as_the_label() -> None:
    config = ModelConfig(train_min_sessions=300, test_sessions=60, horizon_sessions=9, embargo_sessions=None)
    fold = walk_forward(600, config)[1]
    assert fold.test_start - (fold.train_stop - 1 + known_after(9)) - 1 == 9
