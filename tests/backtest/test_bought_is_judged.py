"""What the risk gate would deny for want of returns is not planned, and a person is told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from conftest import make_panel, on_clock, random_panel

from octopus.backtest.config import BacktestConfig
from octopus.backtest.judges import Gating
from octopus.backtest.published import WITH, WITHOUT, publish
from octopus.compliance.rules import CompliancePolicy
from octopus.core.panel import Panel
from octopus.decision import Decision, DecisionConfig, decide, prepare
from octopus.portfolio.config import Constraints, Method, PortfolioConfig
from octopus.portfolio.problem import benchmark_weights
from octopus.risk.limits import RiskLimits

CONFIG = Path(__file__).parents[2] / "config"
WINDOW, BEGUN = 200, 240
FREE = DecisionConfig()
BOUND = DecisionConfig(var_window_sessions=WINDOW)
EVEN = DecisionConfig(
    var_window_sessions=WINDOW,
    portfolio=PortfolioConfig(method="equal_weight", constraints=Constraints(name_weight_max=0.3)),
)


def young_panel(seed: int, *, whole: bool = False) -> Panel:
    """Sessions without a bar here and there unless ``whole``, and an instrument that is listed late."""
    panel = random_panel(seed, 500, 6)
    close = panel.close.copy()
    if whole:
        rows = np.where(np.isfinite(close), np.arange(len(close))[:, None], 0)
        close = np.take_along_axis(close, np.maximum.accumulate(rows, axis=0), axis=0)
        close[0] = 100.0
        close[np.isnan(close)] = 100.0
    close[:BEGUN, 0] = np.nan
    return replace(on_clock(make_panel(close, open=close)), price_basis="total_return")


def gating(panel: Panel) -> Gating:
    limits = yaml.safe_load((CONFIG / "risk.yaml").read_text()) | {"var_window_sessions": WINDOW}
    policy = CompliancePolicy.model_validate(yaml.safe_load((CONFIG / "compliance.yaml").read_text()))
    return Gating(RiskLimits.model_validate(limits), policy, dict.fromkeys(panel.symbols, "any"))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_planned_that_the_gate_denies_for_want_of_returns(seed: int) -> None:
    panel = young_panel(seed)
    config = BacktestConfig(start=panel.sessions[300].item(), round_as_venue=True, gates="enforce")
    free, bound = (publish(panel, config, decision, gating(panel)) for decision in (FREE, BOUND))
    denied = [one for one in free.gated.denials if one.rule == "return_history"]
    assert {one.instrument for one in denied} > {"S00"}, "the young one, and others while a hole is held"
    assert not [one for one in bound.gated.denials if one.rule == "return_history"]
    assert bound.comparisons[WITH].agree
    assert bound.comparisons[WITHOUT].agree
    traded = bound.gated.result.targets[:, 0]
    assert not traded[: BEGUN + WINDOW // 2 - 300].any()


def decided(panel: Panel, row: int, held: np.ndarray, config: DecisionConfig = EVEN) -> Decision:
    return decide(prepare(panel, config), row, np.arange(6) / 10.0, held, config)


def test_what_is_too_young_for_the_gate_is_unbuyable_and_its_part_goes_to_the_others() -> None:
    panel, cash = young_panel(1, whole=True), np.zeros(6)
    first_whole = BEGUN + WINDOW - 1
    # The first bar has no return, and a return of zero stands for it: the bar before it is looked for in vain.
    young = decided(panel, first_whole, cash)
    np.testing.assert_allclose(young.target_weights, [0, *[0.97 / 5] * 5], atol=1e-6)
    assert young.unbuyable(EVEN) == {
        "S00": "1 of the last 200 returns of S00 are missing, from the first on: ingest a longer history, or wait "
        "until it is long enough"
    }
    old = decided(panel, first_whole + 1, cash)
    np.testing.assert_allclose(old.target_weights, [0.97 / 6] * 6, atol=1e-6)
    assert old.unbuyable(EVEN) == {}
    unbound = EVEN.model_copy(update={"var_window_sessions": None})
    np.testing.assert_allclose(decided(panel, first_whole, cash, unbound).target_weights, [0.97 / 6] * 6, atol=1e-6)


def test_while_a_young_one_is_held_nothing_is_bought_and_it_may_be_sold() -> None:
    panel = young_panel(1, whole=True)
    held = np.array([0.4, 0.1, 0.1, 0.0, 0.0, 0.0])
    made = decided(panel, BEGUN + 150, held)
    assert (made.target_weights <= held + 1e-9).all()
    assert made.target_weights[0] <= 0.3 + 1e-6
    told = made.unbuyable(EVEN)
    assert told.keys() == set(panel.symbols)
    assert told["S03"].startswith(
        "nothing may be bought while S00 is held: 50 of the last 200 returns of S00 are missing, from"
    )
    assert told["S00"].startswith("50 of the last 200 returns of S00 are missing")


METHODS: tuple[Method, ...] = get_args(Method)


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_may_be_bought_no_method_sells_all(method: Method) -> None:
    """What is held stays, but for what the method would not hold; and what it goes by is not changed by the hole."""
    panel = young_panel(1, whole=True)
    held = np.array([0.05, 0.16, 0.16, 0.16, 0.16, 0.16])
    config = EVEN.model_copy(update={"portfolio": EVEN.portfolio.model_copy(update={"method": method})})
    bound = decided(panel, BEGUN + 150, held, config)
    assert (bound.target_weights <= held + 1e-6).all()
    assert bound.target_weights.sum() >= 0.97 / 2
    assert bound.fallback is None
    problem = decided(panel, BEGUN + 150, np.zeros(6), config).problem
    assert not problem.no_purchases
    assert bound.problem.no_purchases
    np.testing.assert_array_equal(benchmark_weights(bound.problem), benchmark_weights(problem))


def test_a_history_too_short_for_the_gate_buys_nothing_and_says_so() -> None:
    panel = young_panel(1, whole=True).rows(0, WINDOW - 1)
    made = decided(panel, -1, np.zeros(6))
    assert not made.target_weights.any()
    told = made.unbuyable(EVEN)
    assert told.keys() == set(panel.symbols)
    assert told["S01"] == ("the return history has 199 sessions, var_window_sessions = 200: ingest a longer history")


def test_why_one_is_unbuyable_is_told_of_each() -> None:
    panel = young_panel(1, whole=True)
    close = panel.close.copy()
    close[-1, 1] = np.nan
    close[-180:-75, 2] = np.nan
    member = np.ones(close.shape, dtype=bool)
    member[-1, 5] = False
    holed = replace(on_clock(make_panel(close, open=close)), member=member)
    opinions = np.full(6, np.nan)
    made = decide(prepare(holed, EVEN), -1, opinions, np.zeros(6), EVEN)
    told = made.unbuyable(EVEN)
    assert told["S01"] == f"it has no bar on {holed.sessions[-1]}: ingest it"
    assert told["S02"] == "105 of the last 200 returns of S02 are missing, more than 10%: ingest these sessions"
    assert "S05" not in told, "who is no member is not missed"
    free = EVEN.model_copy(update={"var_window_sessions": None})
    assert decide(prepare(panel, free), BEGUN + 80, opinions, np.zeros(6), free).unbuyable(free)["S00"] == (
        "80 of the last 252 sessions have a return, covariance_sessions_min = 126: ingest a longer history, or wait "
        "until it is long enough"
    )
