"""A named sweep is divided into chunks, a partition each: every set once, always in the same one."""

from __future__ import annotations

import pytest

from assets.partitions import sweep_chunk, sweep_partitions
from assets.sweeps import sets_of
from octopus.backtest.named_sweeps import SweepConfig


def test_every_set_is_in_one_chunk() -> None:
    grid = {"lookback_sessions": [63, 126], "skip_sessions": [0, 5, 21]}
    sweep = SweepConfig.model_validate({"strategy": "momentum", "grid": grid, "chunk": 4})
    assert len(sets_of(sweep)) == 6
    assert sets_of(sweep)[-1] == {"lookback_sessions": 126, "skip_sessions": 21}
    keys = sweep_partitions({"lookbacks": sweep}).get_partition_keys()
    assert keys == ["lookbacks.0000", "lookbacks.0001"]
    assert sweep_chunk(keys[1]) == ("lookbacks", 1)


def test_drawn_sets_are_the_same_each_time_and_keep_their_chunk_in_a_larger_sweep() -> None:
    space = {"window_sessions": [2, 21], "portfolio.risk_aversion": [1, 9.5, "log"]}
    section = {"strategy": "mean_reversion", "space": space, "chunk": 3}
    small, large = (SweepConfig.model_validate({**section, "random": count}) for count in (6, 9))
    assert (small.chunks, large.chunks) == (2, 3)
    assert sets_of(small) == sets_of(large)[:6]
    assert all(isinstance(one["window_sessions"], int) for one in sets_of(small))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "give a grid, or random with a space"),
        ({"grid": {"a": [1]}, "random": 3}, "give a grid, or random with a space"),
        ({"random": 3}, "give a grid, or random with a space"),
        ({"grid": {"a": []}}, r"grid\.a has no value"),
        ({"random": 3, "space": {"a": [3, 1]}}, r"space holds \[3, 1\]"),
        ({"random": 3, "space": {"a": [1, 3, "lin"]}}, "or .0.1, 10, log."),
    ],
)
def test_a_sweep_that_says_nothing_or_too_much_is_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SweepConfig.model_validate({"strategy": "momentum", **section})
