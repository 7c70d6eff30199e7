"""`octopus backtest STRATEGY` and `octopus sweep`: settings of one's own, every trial on record, none run twice."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from click.testing import CliRunner

import assets.backtest
from assets import inputs, studies
from assets.backtest import backtest_runs
from assets.sweeps import SweepRun
from assets.sweeps import sweep as sweep_chunks
from octopus.backtest.named_sweeps import SweepConfig
from octopus.core.errors import ConfigError
from octopus.strategy.probe import LookAheadError
from octopus_pipelines.cli.backtest import backtest
from octopus_pipelines.cli.sweep import sweep
from resources.settings import ROOT, load_settings
from tests.strategy.packages import install, install_documented

CURRENT = load_settings({"OCTOPUS_HOME": "/nowhere"})


def test_a_signal_alone_keeps_its_settings_and_silences_the_others():
    alone = studies.study(CURRENT, "momentum", {"lookback_sessions": 126, "portfolio.risk_aversion": 8})
    weights = alone.settings.strategy.weights()
    assert {name for name, weight in weights.items() if weight} == {"momentum"}
    assert alone.settings.strategy.momentum.lookback_sessions == 126
    assert alone.settings.portfolio.risk_aversion == 8
    assert alone.settings.models == CURRENT.strategies.models


def test_the_ensemble_as_configured_is_the_published_strategy():
    assert studies.study(CURRENT, "ensemble", {}).parameters == inputs.trial_parameters(CURRENT.strategies)


def test_a_study_works_its_orders_as_the_section_execution_says_and_is_another_trial_then():
    worked = studies.study(CURRENT, "ensemble", {"execution.schedule": "twap", "execution.slices": 4})
    assert worked.settings.simulation.schedule == worked.settings.execution
    assert worked.settings.simulation.schedule.slices == 4
    assert worked.parameters["execution"]["schedule"] == "twap"
    plain = inputs.trial_parameters(CURRENT.strategies)
    assert {name: worked.parameters[name] for name in plain} == plain
    assert "execution" not in plain


@pytest.mark.parametrize(
    ("strategy", "changes", "words"),
    [
        ("nope", {}, ("nope", "momentum")),
        ("momentum", {"lookbak": 3}, ("lookbak", "lookback_sessions")),
        ("momentum", {"lookback_sessions": 3}, ("lookback_sessions", "21")),
        ("ensemble", {"portfolio.nope.x": 3}, ("portfolio.nope.x", "no such setting")),
        ("ensemble", {"models.seed": 3}, ("models.seed",)),
    ],
)
def test_a_wrong_name_or_value_is_told_with_what_there_is(strategy, changes, words):
    with pytest.raises(ConfigError) as told:
        studies.study(CURRENT, strategy, changes)
    assert all(word in str(told.value) for word in words)


@pytest.mark.parametrize(
    "options",
    [[], ["--random", "3"], ["--grid", "skip_sessions=1", "--random", "3"], ["--space", "skip_sessions=1:5"],
     ["--grid", "skip_sessions"], ["--random", "2", "--space", "skip_sessions=a:b"],
     ["--random", "2", "--space", "skip_sessions=5:1"]],
)  # fmt: skip
def test_a_sweep_says_what_it_needs(options):
    result = CliRunner().invoke(sweep, ["momentum", *options])
    assert isinstance(result.exception, ConfigError)


@pytest.fixture
def run(house, monkeypatch):
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)

    def call(command, *options):
        result = CliRunner().invoke(command, list(options), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return call


def recorded(house) -> list[dict]:
    return house.warehouse.rows("select name, parameters, returns from backtest.trials order by recorded_at")


def test_a_study_is_simulated_recorded_and_shown(house, run):
    told = json.loads(run(backtest, "momentum", "--from", "2022-08-01", "--set", "lookback_sessions=63", "--json"))
    assert (told["strategy_name"], told["first"]) == ("momentum", "2022-08-01")
    assert told["changed"] == {"lookback_sessions": 63}
    assert Path(told["page"]).read_text().count("<html") == 1
    assert told["strategy"]["sharpe"] is not None
    kept = recorded(house)
    assert [row["name"] for row in kept] == ["momentum"]
    growth = np.prod(1 + np.array(kept[0]["returns"])) - 1
    assert growth == pytest.approx(told["strategy"]["total_return"], abs=1e-5)
    run(backtest, "momentum", "--from", "2022-08-01", "--set", "lookback_sessions=63")
    assert len(recorded(house)) == 1, "the same study again is no new trial"


CHEAT = """
import numpy as np
from octopus.strategy.base import Strategy

STRATEGY = Strategy("cheat", lambda panel, settings: np.roll(panel.total_return, -2, axis=0) * 50)
"""


def test_a_strategy_of_ones_own_is_studied_and_one_that_looks_ahead_is_not(house, run, tmp_path, monkeypatch):
    install_documented(tmp_path)
    install(tmp_path, "cheat", CHEAT, "cheat = cheat:STRATEGY")
    monkeypatch.syspath_prepend(tmp_path)
    told = json.loads(run(backtest, "breakout", "--from", "2022-10-03", "--set", "window_sessions=20", "--json"))
    assert (told["strategy_name"], told["changed"]) == ("breakout", {"window_sessions": 20})
    kept = recorded(house)
    alone = kept[-1]["parameters"]["decision"]["strategy"]["extensions"]
    assert alone == {"breakout": {"weight": 1.0, "window_sessions": 20, "package": "breakout 1.0"}}
    with pytest.raises(ConfigError, match="there is no such setting; there are weight, window_sessions"):
        run(backtest, "breakout", "--set", "window=20")
    with pytest.raises(LookAheadError, match="strategy cheat looks ahead"):
        run(backtest, "cheat", "--from", "2022-10-03")
    assert len(recorded(house)) == len(kept), "what cannot be believed is no trial"


def test_the_published_backtest_is_reconciled_and_its_page_tells_of_the_gates(house):
    house.call(backtest_runs, "2022-12-27")
    (row,) = house.warehouse.rows("select metrics from backtest.runs")
    assert {name: one["agree"] for name, one in row["metrics"]["engines"].items()} == {
        "without gates": True, "with gates": True,
    }  # fmt: skip
    assert row["metrics"]["engines"]["without gates"]["trades"] > 50
    page = (house.settings.home / "tearsheets" / "2022-12-27.html").read_text()
    assert "both engines agree" in page


def test_what_was_published_of_the_same_inputs_is_not_simulated_again(house, monkeypatch):
    simulated = []
    publish = assets.backtest.publish
    monkeypatch.setattr(
        assets.backtest, "publish", lambda *told, **given: simulated.append(1) or publish(*told, **given)
    )
    page = house.settings.home / "tearsheets" / "2022-12-27.html"
    page.unlink(missing_ok=True)
    house.call(backtest_runs, "2022-12-27")
    assert simulated == [1], "its page was lost"
    house.call(backtest_runs, "2022-12-27")
    assert simulated == [1]
    assert page.exists()


def test_a_sweep_runs_every_set_once_and_counts_it_for_everybody(house, run):
    before = len(recorded(house))
    options = ("mean_reversion", "--from", "2022-08-01", "--grid", "window_sessions=3,5", "--workers", "2", "--json")
    first = json.loads(run(sweep, *options))
    assert {row["parameters"]["window_sessions"] for row in first["sets"]} == {3, 5}
    assert len(recorded(house)) == before + 2
    again = json.loads(run(sweep, *options[:3], "--grid", "window_sessions=3,5,8", *options[5:]))
    assert len(recorded(house)) == before + 3, "only the set that was not there was run"
    assert {row["trial"] for row in first["sets"]} < {row["trial"] for row in again["sets"]}
    alone = json.loads(run(backtest, "mean_reversion", "--from", "2022-08-01", "--set", "window_sessions=8", "--json"))
    assert alone["trials"] == again["trials"], "a set of the sweep simulated alone is the same trial"
    best = again["sets"][0]
    assert best["sharpe_annual"] == max(row["sharpe_annual"] for row in again["sets"])
    assert "kept for good" in run(backtest, "mean_reversion", "--from", "2022-08-01")


def test_a_chunk_of_a_named_sweep_lands_where_octopus_sweep_puts_it_and_goes_on(house, run):
    section = {"strategy": "mean_reversion", "grid": {"window_sessions": [4, 6, 7]}, "chunk": 2, "start": "2022-10-03"}
    sweeps = {"windows": SweepConfig.model_validate(section)}
    settings = replace(house.settings, strategies=house.settings.strategies.model_copy(update={"sweeps": sweeps}))
    before = len(recorded(house))

    def materialise(chunk: int) -> dict:
        context = dg.build_asset_context(partition_key=f"windows.{chunk:04d}")
        chosen = SweepRun(as_of="2022-12-27", workers=1)
        return sweep_chunks(context, chosen, settings, house.resources["clock"]).metadata

    first = materialise(0)
    assert (first["sets"], first["ready_before"]) == (2, 0)
    assert len(recorded(house)) == before + 2
    assert materialise(0)["ready_before"] == 2, "what is on record is not run again"
    options = ("mean_reversion", "--from", "2022-10-03", "--grid", "window_sessions=4,6", "--json")
    told = json.loads(run(sweep, *options))
    assert len(recorded(house)) == before + 2, "octopus sweep finds the same trials"
    assert str(told["sets"][0]["parameters"]) == first["best"]
    with pytest.raises(ConfigError, match=r"sweeps\.windows = 'chunk 7': it has no such chunk now"):
        materialise(7)


def test_a_sweep_of_a_later_day_is_simulated_up_to_that_day(house, run):
    options = ("momentum", "--from", "2022-08-01", "--grid", "skip_sessions=7", "--workers", "1", "--json")
    early, late = (json.loads(run(sweep, *options, *more)) for more in (["--as-of", "2022-12-20"], []))
    assert early["sets"][0]["trial"] == late["sets"][0]["trial"]
    assert late["sets"][0]["sessions"] > early["sets"][0]["sessions"]


def test_another_model_makes_another_ensemble_and_the_same_momentum():
    models = CURRENT.strategies.models.model_copy(update={"seed": 8, "registered_name": "other"})
    other = replace(CURRENT, strategies=CURRENT.strategies.model_copy(update={"models": models}))
    renamed = CURRENT.strategies.models.model_copy(update={"registered_name": "other"})
    same = replace(CURRENT, strategies=CURRENT.strategies.model_copy(update={"models": renamed}))

    def parameters(settings, strategy):
        return studies.study(settings, strategy, {}).parameters

    assert parameters(CURRENT, "ensemble") == parameters(same, "ensemble") != parameters(other, "ensemble")
    assert parameters(CURRENT, "momentum") == parameters(other, "momentum")


def documented() -> list[list[str]]:
    """The studies that the tutorial tells its reader to run."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = "\n".join(part for part in text.split("```")[1::2] if not part.startswith("python"))
    lines = [shlex.split(line)[1:] for line in blocks.splitlines() if line.startswith("octopus ")]
    return [line for line in lines if line[0] in ("backtest", "sweep") and len(line) > 1]


def test_the_tutorials_commands_do_what_it_says(house, run):
    wanted = documented()
    assert len(wanted) == 3
    for name, *options in wanted:
        # By itself a sweep takes a process for each core, which take longer to begin than these few sets.
        output = run(backtest, *options) if name == "backtest" else run(sweep, *options, "--workers", "1")
        assert "deflated" in output
        assert "kept for good" in output or "on record for good" in output


def test_the_tutorials_python_runs(house, run, capsys):
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    said: dict = {}
    exec(compile(code, "tutorial.md", "exec"), said)  # what the document tells its reader to run
    assert len(said["outcomes"]) == 6
    assert "window" in capsys.readouterr().out
