"""A strategy of a user's own: found by its entry point, asked with its settings, never believed blindly."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from octopus.core.errors import ConfigError, OctopusError
from octopus.decision import DecisionConfig, decide, prepare
from octopus.strategy.catalogue import find, known_strategies, record, rule_signals
from octopus.strategy.config import StrategyConfig
from octopus.strategy.probe import LookAheadError, probed_rows, refuse_look_ahead, strategies_that_look_ahead
from tests.strategy.packages import install, install_documented
from tests.strategy.test_truncation import random_panel

ODD = """
import numpy as np
from octopus.strategy.base import Strategy

def peek(panel, settings):
    tomorrow = np.roll(panel.total_return, -1, axis=0)
    tomorrow[-1] = 0.0
    return tomorrow

def whole(panel, settings):
    return panel.total_return - np.nanmean(panel.total_return, axis=0)

def patient(panel, settings):
    # Looks at the next session unless that is the last one: where the panel ends, nothing changes.
    return np.where(np.isnan(panel.volume[-1:]), panel.total_return, panel.total_return * panel.volume[-1:])

def writes(panel, settings):
    panel.close[0] = 1.0
    return panel.close

PEEK, WHOLE, PATIENT = Strategy("peek", peek), Strategy("whole", whole), Strategy("patient", patient)
WRITES, FLAT = Strategy("writes", writes), Strategy("flat", lambda panel, _: panel.close[0])
ENDLESS = Strategy("endless", lambda panel, _: np.full(panel.close.shape, np.inf))
LOUD = Strategy("loud", lambda panel, _: np.full(panel.close.shape, 9.0))
PLAIN = 5
"""
POINTS = "\n".join(
    f"{name} = odd_strategies:{name.upper()}"
    for name in ("peek", "whole", "patient", "writes", "flat", "endless", "loud", "plain")
)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_documented(tmp_path)
    install(tmp_path, "odd_strategies", ODD, f"{POINTS}\ngone = odd_strategies:GONE\nsmall = odd_strategies:LOUD")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("breakout", "odd_strategies"):
        monkeypatch.delitem(sys.modules, module, raising=False)


def config_of(**extensions: object) -> StrategyConfig:
    return StrategyConfig.model_validate({"extensions": extensions})


@pytest.mark.usefixtures("packages")
def test_the_documented_strategy_decides_with_its_settings() -> None:
    panel = random_panel(3)
    chosen = DecisionConfig(strategy=config_of(breakout={"weight": 2.0, "window_sessions": 20}))
    made = decide(prepare(panel, chosen), -1, None, np.zeros(6), chosen)
    index = np.cumprod(1 + np.nan_to_num(panel.total_return), axis=0)
    place = index[-1] / index[-20:].max(axis=0)
    inside = panel.member[-1]
    expected = (place - place[inside].mean()) / place[inside].std(ddof=1)
    np.testing.assert_allclose(made.signals["breakout"][inside], np.clip(expected[inside], -3, 3))
    other = config_of(breakout={"weight": 2.0})
    assert (rule_signals(panel, other)["breakout"][-1] != made.signals["breakout"])[inside].any()
    assert strategies_that_look_ahead(panel, other, rule_signals(panel, other), probed_rows(panel)) == ()
    refuse_look_ahead(panel, other)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("name", ["peek", "whole", "patient"])
def test_one_that_looks_ahead_is_named(name: str) -> None:
    panel = random_panel(4)
    config = config_of(breakout={"weight": 1.0}, **{name: {"weight": 1.0}})
    found = strategies_that_look_ahead(panel, config, rule_signals(panel, config), probed_rows(panel))
    assert found == (name,)
    with pytest.raises(LookAheadError, match=f"strategy {name} looks ahead"):
        refuse_look_ahead(panel, config)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("writes", r"strategy writes \(odd_strategies 1.0\) broke off: ValueError: .*read-only; mend it"),
        ("flat", r"shape \(6,\), expected \(330, 6\)"),
        ("endless", "infinite scores"),
        ("plain", "odd_strategies:PLAIN is no octopus.strategy.base.Strategy"),
        ("gone", "cannot be imported"),
        ("small", "is called 'loud'; give it the name of its entry point"),
        ("never", "use one of .*breakout.*momentum.* or install the package"),
    ],
)
def test_a_broken_one_is_told_by_name(name: str, said: str) -> None:
    panel = random_panel(5)
    with pytest.raises(OctopusError, match=said):
        rule_signals(panel, config_of(**{name: {"weight": 1.0}}))
    assert name not in rule_signals(panel, config_of(**{name: {"weight": 0.0}})), "without a weight nobody asks it"


@pytest.mark.usefixtures("packages")
def test_scores_are_clipped_and_only_members_count() -> None:
    panel = random_panel(6)
    loud = rule_signals(panel, config_of(loud={"weight": 1.0}))["loud"]
    assert (loud[panel.member] == 3.0).all()
    assert np.isnan(loud[~panel.member]).all()


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"window": 3}, "extensions.breakout: window = 3: there is no such setting; there are window_sessions"),
        ({"window_sessions": 3}, "extensions.breakout: window_sessions = 3: .*greater than or equal to 5"),
    ],
)
def test_a_wrong_setting_is_named(section: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rule_signals(random_panel(1), config_of(breakout={"weight": 1.0, **section}))


def test_a_name_of_octopus_own_is_taken() -> None:
    with pytest.raises(ValueError, match=r"extensions\.momentum is a name of Octopus' own"):
        config_of(momentum={"weight": 1.0})


@pytest.mark.usefixtures("packages")
def test_the_record_holds_every_setting_and_the_version() -> None:
    short, long = (record(config_of(breakout={"weight": 1, **more})) for more in ({}, {"window_sessions": 55}))
    assert short == long
    assert short["extensions"]["breakout"] == {"weight": 1.0, "window_sessions": 55, "package": "breakout 1.0"}
    assert record(StrategyConfig()) == StrategyConfig().model_dump(mode="json")
    assert "extensions" not in StrategyConfig().model_dump()
    assert known_strategies(StrategyConfig())[:3] == ("momentum", "mean_reversion", "sentiment")
    assert find("breakout").name == "breakout"
