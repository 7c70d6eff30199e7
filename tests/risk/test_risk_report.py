"""The risk report: its rows agree with each other, repeat, and its pictures can be drawn of any portfolio."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from octopus.core.errors import MissingDataError
from octopus.risk.pictures import backtest_picture, drawdown_picture, exposure_picture, stress_picture
from octopus.risk.report import Portfolio, RiskReport, risk_report
from octopus.risk.stress import StressConfig, StressShock, StressWindow
from tests.risk.test_risk_gate import BASE

NAMES = ("AAA", "BBB", "CCC", "DDD")
DAYS = np.datetime64("2022-12-27", "D") - np.arange(900)[::-1]
LIMITS = BASE.model_copy(
    update={
        "stress": StressConfig(
            windows={"last winter": StressWindow(start=date(2022, 11, 1), end=date(2022, 12, 1))},
            shocks={"market": StressShock(market=-0.1)},
        )
    }
)


def portfolio(**changes: object) -> Portfolio:
    generator = np.random.default_rng(9)
    market = generator.standard_t(4, 900) * 0.006
    returns = np.outer(market, [1.0, 0.7, 1.3, 0.4]) + generator.normal(0, 0.005, (900, 4))
    made = Portfolio(
        NAMES, np.array([0.3, 0.2, 0.0, 0.4]), np.array([300.0, 400, 0, 200]), np.array([100.0, 50, 10, 200]), DAYS,
        returns, {"AAA": "tech", "BBB": "tech", "DDD": "energy"}, np.array([1e5, 1e4, np.nan, 1e5]),
    )  # fmt: skip
    return replace(made, **changes)


def value(report: RiskReport, measure: str, subject: str = "") -> float | None:
    (found,) = [m for m in report.measures if (m.measure, m.subject) == (measure, subject)]
    return found.value


def test_the_rows_agree_with_each_other_and_repeat() -> None:
    report = risk_report(portfolio(), LIMITS)
    keys = Counter((m.measure, m.subject) for m in report.measures)
    assert max(keys.values()) == 1
    assert report.measures == risk_report(portfolio(), LIMITS).measures
    for measure, whole in (("cvar_95", "historical"), ("var_95", "historical"), ("volatility", None)):
        parts = [m.value for m in report.measures if m.measure == f"component_{measure}"]
        total = value(report, measure, whole) if whole else value(report, "volatility_annual")
        assert sum(parts) == pytest.approx(total)
        assert len(parts) == 3
    assert value(report, "gross") == pytest.approx(0.9)
    assert value(report, "sector_gross", "tech") == pytest.approx(0.5)
    beta = value(report, "beta", "equal-weighted universe")
    assert value(report, "stress_loss", "market") == pytest.approx(0.1 * beta)
    assert value(report, "days_to_liquidate", "BBB") == pytest.approx(400 / (1e4 * LIMITS.adv_participation_max))
    methods = {m.subject: m.value for m in report.measures if m.measure == "var_95"}
    assert len(methods) == 6
    for told in (
        "backtest_days",
        "backtest_p_coverage",
        "backtest_p_conditional",
        "backtest_p_cvar",
        "backtest_cvar_z",
    ):
        backtested = {m.subject for m in report.measures if m.measure == told and m.value is not None}
        assert backtested >= set(methods) - {"Cornish-Fisher"}
    known = [v for v in methods.values() if v is not None]
    assert max(known) < 2.5 * min(known)


def test_a_name_without_a_full_window_is_left_out_and_said() -> None:
    returns = portfolio().returns.copy()
    returns[-3, 0] = np.nan
    report = risk_report(portfolio(returns=returns), LIMITS)
    assert report.uncovered == ("AAA",)
    assert value(report, "gross") == pytest.approx(0.9), "it is held all the same"
    assert {m.subject for m in report.measures if m.measure == "component_cvar_95"} == {"BBB", "DDD"}


def test_volumes_of_pseudo_shares_mean_nothing() -> None:
    (row,) = [m for m in risk_report(portfolio(adv_shares=None), LIMITS).measures if m.measure == "days_to_liquidate"]
    assert row.value is None
    assert "pseudo-shares" in row.note


@pytest.mark.parametrize("kept", [505, 500, 30, 2, 1])
def test_any_history_and_any_portfolio_can_be_reported(kept: int) -> None:
    whole = portfolio()
    short = replace(whole, sessions=whole.sessions[-kept:], returns=whole.returns[-kept:])
    for made in (short, replace(short, weights=np.zeros(4), shares=np.zeros(4))):
        report = risk_report(made, LIMITS)
        assert all(m.value is None or np.isfinite(m.value) for m in report.measures)


def test_the_pictures_are_drawn_of_much_and_of_nothing() -> None:
    whole = portfolio()
    nothing = replace(whole, sessions=whole.sessions[-1:], returns=whole.returns[-1:], weights=np.zeros(4))
    navs = [(date(2022, 12, 27), 1.0), (date(2022, 12, 28), 0.9)]
    for made, seen in ((whole, navs), (nothing, [])):
        report = risk_report(made, LIMITS)
        pictures = exposure_picture(report), backtest_picture(report), stress_picture(report)
        for picture in (*pictures, drawdown_picture(report, seen, 0.25)):
            assert picture.startswith(b"\x89PNG")


def test_no_session_at_all_is_refused() -> None:
    whole = portfolio()
    with pytest.raises(MissingDataError, match="no session"):
        risk_report(replace(whole, sessions=whole.sessions[:0], returns=whole.returns[:0]), LIMITS)
