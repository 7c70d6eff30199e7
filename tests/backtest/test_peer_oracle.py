"""backtesting.py's own test by our engines, on the bars that its package brings; skipped where it is not at hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.crossover import crossed
from benchmarks.peers.environments import interpreter, run

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    if interpreter("backtesting") is None:
        pytest.skip("its bars come with backtesting.py, which is no dependency: `make peers` brings it")
    folder = tmp_path_factory.mktemp("oracle")
    np.savez(folder / "nothing.npz")
    run("backtesting", "by_backtesting", "crossover", folder / "nothing.npz", folder / "told.npz")
    with np.load(folder / "told.npz") as archive:
        return {name: archive[name] for name in archive.files}


def test_backtesting_py_still_says_what_its_own_test_says(told):
    assert told["final"] == pytest.approx(51_422.99, abs=0.005)
    assert len(told["entry"]) == 66
    assert told["max_drawdown"] == pytest.approx(-0.4798013, abs=5e-8)


def test_both_engines_reproduce_its_equity_its_positions_and_its_figures(told):
    held = np.zeros(len(told["equity"]))
    for entry, end, size in zip(told["entry"], told["exit"], told["size"], strict=True):
        held[entry:end] += size
    for name, ours in crossed(told).items():
        assert ours.equity[-1] == pytest.approx(51_422.99, abs=0.005), name
        np.testing.assert_allclose(ours.equity, told["equity"], atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(ours.shares, held, err_msg=name)
        assert ours.trades == 66
        assert ours.max_drawdown == pytest.approx(-0.4798013, abs=5e-8)
        assert ours.sharpe == pytest.approx(0.580623, abs=5e-7)
        assert ours.sortino == pytest.approx(1.085343, abs=5e-7)
