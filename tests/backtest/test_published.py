"""What is published: both engines with and without the gates, said on the page and kept as plain values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import on_clock, random_panel

from octopus.backtest.analysis import Replay, analyse
from octopus.backtest.analysis_page import analysis_html, analysis_png, engines_html
from octopus.backtest.config import BacktestConfig
from octopus.backtest.judges import Gating
from octopus.backtest.metrics import measure
from octopus.backtest.published import WITH, WITHOUT, publish, run_configured, warnings_of
from octopus.backtest.reconcile import Comparison, Difference
from octopus.backtest.simulator import run_benchmarks
from octopus.backtest.sizing import Sizing
from octopus.backtest.tearsheet import tearsheet_html, tearsheet_png
from octopus.compliance.rules import CompliancePolicy
from octopus.decision import DecisionConfig
from octopus.risk.limits import RiskLimits

CONFIG = Path(__file__).parents[2] / "config"
DECISION = DecisionConfig()


@pytest.fixture(scope="module")
def made():
    panel = on_clock(random_panel(5, 320, 10))
    panel = replace(panel, total_return=np.nan_to_num(panel.total_return), price_basis="total_return")
    limits = yaml.safe_load((CONFIG / "risk.yaml").read_text()) | {"var_window_sessions": 100, "turnover_max": 0.1}
    policy = CompliancePolicy.model_validate(yaml.safe_load((CONFIG / "compliance.yaml").read_text()))
    sectors = {name: f"sector {place % 3}" for place, name in enumerate(panel.symbols)}
    gating = Gating(RiskLimits.model_validate(limits), policy, sectors)
    config = BacktestConfig(start=panel.sessions[270].item(), round_as_venue=True)
    return panel, config, gating, publish(panel, config, DECISION, gating)


def test_both_engines_agree_with_and_without_the_gates(made):
    panel, config, gating, published = made
    assert published.agree, [str(one) for one in published.comparisons.values()]
    assert {name: one.sessions for name, one in published.comparisons.items()} == {WITHOUT: 50, WITH: 50}
    assert {denial.rule for denial in published.gated.denials} >= {"turnover"}
    assert not np.array_equal(published.result.equity, published.gated.result.equity)
    strict = config.model_copy(update={"gates": "enforce"})
    enforced = publish(panel, strict, DECISION, gating)
    assert enforced.comparisons[WITH].agree
    np.testing.assert_allclose(enforced.result.equity, published.gated.result.equity, rtol=0, atol=0.005)
    alone = run_configured(panel, strict, DECISION, gating)
    assert np.array_equal(alone.equity, published.gated.result.equity)
    assert np.array_equal(run_configured(panel, config, DECISION, gating).equity, published.result.equity)


def test_the_page_tells_of_engines_gates_and_the_analysis(made):
    panel, config, _gating, published = made
    benchmark = run_benchmarks(panel, config, DECISION)["equal_weight"]
    metrics = measure(published.result, benchmark)
    replay = Replay(panel, published.result, config, Sizing.of(DECISION.portfolio), DECISION.costs)
    analysis = analyse(replay, benchmark, groups={"S00": "energy <1>"})
    png = analysis_png(analysis, "test")
    assert png.startswith(b"\x89PNG")
    sections = analysis_html(analysis, png) + engines_html(published)
    page = tearsheet_html(
        tearsheet_png(published.result, benchmark, metrics, "test"), metrics, "test", assumptions={},
        warnings=warnings_of(published), sections=sections,
    )  # fmt: skip
    for word in ("Two engines", "both engines agree", "turnover", "95 % intervals", "market", "energy &lt;1&gt;",
                 "raw prices and volumes", "would have denied"):  # fmt: skip
        assert word in page, word
    assert "energy <1>" not in page
    kept = json.loads(json.dumps(published.record()))
    assert kept["engines"][WITH]["agree"]
    assert kept["gates"]["denied"] == len(published.gated.denials)
    assert sum(one["orders"] for one in kept["gates"]["by_rule"]) == kept["gates"]["denied"]


def test_a_disagreement_is_the_first_thing_said(made):
    *_, published = made
    gap = Difference("cash", published.result.sessions[3].item(), None, "1.00", "2.00")
    wrong = Comparison((gap,), 50, 10, 1.0)
    broken = replace(published, comparisons={WITHOUT: wrong})
    assert not broken.agree
    assert "Do not use these figures" in warnings_of(broken)[0]
    assert str(gap) in engines_html(broken)
