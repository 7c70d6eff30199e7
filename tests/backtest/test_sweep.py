"""Sweeps: the outcome of a set is that of its own simulation, however many run beside it."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from conftest import make_panel, random_panel

from octopus.backtest.config import BacktestConfig
from octopus.backtest.simulator import simulate_targets
from octopus.backtest.sizing import Sizing
from octopus.backtest.sweep import Range, draws, grid, parameter_key, sweep
from octopus.core.costs import CostModel
from octopus.core.errors import ConfigError, MissingDataError

CONFIG = BacktestConfig(start=date(2015, 1, 5), execution="close", initial_cash=100_000)
ANY = Sizing(lot=0.0, fractional=True, band=0.0, least_notional=0.0, cash_buffer=0.0, long_only=False)
PANEL = random_panel(3, actions=True)


def targets(parameters):
    mean = np.cumsum(np.nan_to_num(PANEL.total_return), axis=0)
    past = np.roll(mean, parameters["window"], axis=0)
    return np.where(mean > past, parameters["weight"], 0.0)


def test_every_set_has_the_figures_of_its_own_simulation():
    sets = grid({"window": [5, 10, 20], "weight": [0.05, 0.15]})
    found = {one.key: one for one in sweep(PANEL, sets, targets, CONFIG, ANY, CostModel(), workers=3)}
    assert len(found) == 6
    for chosen in sets:
        alone = simulate_targets(PANEL, targets(chosen), CONFIG, ANY, CostModel())
        outcome = found[parameter_key(chosen)]
        assert outcome.parameters == chosen
        assert outcome.final_equity == alone.equity[-1]
        assert np.array_equal(outcome.returns, alone.net_return[1:])
        assert outcome.costs == pytest.approx(float(alone.total_costs.sum()))


def test_what_is_done_is_not_done_again():
    sets = grid({"window": [5, 10], "weight": [0.1]})
    left = [
        one.parameters for one in sweep(PANEL, sets, targets, CONFIG, ANY, CostModel(), done=[parameter_key(sets[0])])
    ]
    assert left == [sets[1]]


def test_a_ruined_account_is_an_outcome_and_no_end_of_the_sweep():
    panel = make_panel(np.array([[10.0], [10.0], [40.0], [40.0]]))
    sets = [{"weight": -1.0}, {"weight": 0.5}]
    found = {one.parameters["weight"]: one for one in sweep(
        panel, sets, lambda p: np.full((4, 1), p["weight"]), CONFIG, ANY, CostModel())}  # fmt: skip
    assert (found[-1.0].final_equity, found[-1.0].max_drawdown) == (0.0, -1.0)
    assert found[0.5].final_equity > 100_000


def test_keys_do_not_depend_on_the_order_of_names():
    assert parameter_key({"a": 1, "b": 2.5}) == parameter_key({"b": 2.5, "a": 1}) != parameter_key({"a": 1, "b": 2})


def test_random_sets_are_those_of_the_seed_and_stay_in_their_range():
    space = {"days": Range(5, 250, logarithmic=True), "weight": Range(0.1, 0.9)}
    first, more = draws(space, 20), draws(space, 50)
    assert more[:20] == first
    assert draws(space, 20, seed=8) != first
    assert all(isinstance(one["days"], int) and 5 <= one["days"] <= 250 and 0.1 <= one["weight"] <= 0.9 for one in more)
    assert len(draws({"days": Range(1, 3)}, 10)) == 3


def test_bad_spaces_and_targets_are_refused():
    with pytest.raises(ConfigError, match="window"):
        grid({"window": []})
    with pytest.raises(ConfigError, match="lower end"):
        Range(3, 1)
    with pytest.raises(MissingDataError, match="shape"):
        list(sweep(PANEL, [{"a": 1}], lambda _: np.zeros((2, 2)), CONFIG, ANY, CostModel()))
