"""Exits of entries (execution.bracket): by hand, where they cannot be simulated, and both engines on any panel."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from conftest import make_panel, on_clock, random_panel
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from octopus.backtest.config import BacktestConfig
from octopus.backtest.events import simulate_events
from octopus.backtest.exits import exit_prices
from octopus.backtest.kernel import ORDERED, STOPPED, TARGETED
from octopus.backtest.reconcile import compare
from octopus.backtest.simulator import BacktestResult, simulate
from octopus.backtest.sizing import Sizing
from octopus.core.brackets import bracket_at
from octopus.core.costs import CostModel
from octopus.core.errors import ConfigError, MissingDataError
from octopus.core.orders import Side
from octopus.core.panel import Panel
from octopus.execution.config import BracketConfig, ScheduleConfig
from octopus.portfolio.config import Constraints, PortfolioConfig
from octopus.portfolio.units import TradingUnits

COSTS = CostModel(commission_bps=0, half_spread_bps=10, slippage_bps=0)
PLAIN = PortfolioConfig(trade_min_fraction=0.0, cash_buffer=0.0)
BOTH = {"stop_loss": 0.05, "take_profit": 0.1}
NARROW = {"stop_loss": 0.02, "take_profit": 0.01}


def one_session(opening: float, high: float, low: float, close: float = 100.0) -> Panel:
    """A close at 100, and a session with that range after it."""
    values = {name: np.array([[100.0], [value]]) for name, value in
              (("open", opening), ("high", high), ("low", low))}  # fmt: skip
    return on_clock(make_panel(np.array([[100.0], [close]]), **values))


def by_both(panel: Panel, bracket: dict[str, float], wanted: Any = 0.5, **changes: Any) -> BacktestResult:
    """By both engines, which agree; the same weights after each close, or those of a table."""
    portfolio, costs = changes.pop("portfolio", PLAIN), changes.pop("costs", COSTS)
    terms = {"start": panel.sessions[0].item(), "initial_cash": 100_000, "round_as_venue": True, **changes}
    config = BacktestConfig.model_validate({**terms, "schedule": {"bracket": bracket}})

    def decider(row: int, held: np.ndarray) -> np.ndarray:
        return np.broadcast_to(wanted, (len(panel.sessions), len(held)))[row]

    fast = simulate(panel, decider, config, Sizing.of(portfolio), costs)
    slow = simulate_events(panel, decider, config, portfolio, costs).result
    told = compare(fast, slow)
    assert told.agree, str(told)
    assert (fast.fill_prices, fast.trades.kind.tolist()) == (slow.fill_prices, slow.trades.kind.tolist())
    return fast


@pytest.mark.parametrize(
    ("opening", "high", "low", "kind", "reference"),
    [
        (101.0, 104.0, 96.0, None, None),
        (101.0, 104.0, 94.0, STOPPED, 95.0),
        (101.0, 111.0, 96.0, TARGETED, 110.0),
        # Which came first is not known: the worse one.
        (101.0, 111.0, 94.0, STOPPED, 95.0),
        # The open is beyond the stop already, or beyond the target.
        (94.0, 96.0, 93.0, STOPPED, 94.0),
        (112.0, 113.0, 111.0, TARGETED, 110.0),
        # Without a range only the open is known, and without an open the entry meets the close.
        (94.0, np.nan, np.nan, STOPPED, 94.0),
        (np.nan, 111.0, 94.0, None, None),
    ],
)
def test_an_exit_is_what_the_bar_says_in_doubt_the_stop(
    opening: float, high: float, low: float, kind: int | None, reference: float | None
) -> None:
    panel = one_session(opening, high, low)
    # Highs and lows are known of some session, or nothing of this kind would be simulated at all.
    panel = replace(panel, high=np.where([[True], [False]], 100.0, panel.high), low=panel.low)
    result = by_both(panel, BOTH)
    assert result.trades.kind[0] == ORDERED
    assert result.trades.kind[1:].tolist() == ([] if kind is None else [kind])
    if kind is not None:
        # A stop sells at the market, a target at its own price.
        moved = 0.999 if kind == STOPPED else 1.0
        assert result.trades.reference_price[1] == reference
        assert result.trades.price[1] == pytest.approx(float(reference or 0.0) * moved, abs=1e-9)
        assert result.shares[1].tolist() == [0.0]


def test_only_what_was_bought_has_exits_and_only_in_its_session() -> None:
    close = np.array([[100.0], [100.0], [100.0], [80.0]])
    panel = on_clock(make_panel(close, open=close, high=close + 1, low=close - np.array([[0.0], [1], [9], [1]])))
    held = by_both(panel, BOTH, np.array([[0.4], [np.nan], [np.nan], [np.nan]]))
    assert len(held.trades) == 1
    enlarged = by_both(panel, BOTH, np.array([[0.4], [0.6], [np.nan], [np.nan]]))
    assert enlarged.trades.side.tolist() == [1, 1, -1]
    assert enlarged.trades.shares[2] == enlarged.trades.shares[1]
    assert enlarged.shares[2] == enlarged.trades.shares[0]


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bracket=st.sampled_from([BOTH, {"stop_loss": 0.015}, {"take_profit": 0.01}, NARROW]),
    impact=st.sampled_from([0.0, 1.0]),
    rounds=st.booleans(),
    fractional=st.booleans(),
    least=st.sampled_from([0.0, 1.5]),
    tick=st.sampled_from([None, "0.05", "0.125"]),
)  # fmt: skip
def test_both_engines_agree_to_the_cent_with_exits_on_any_panel(
    seed: int, bracket: dict[str, float], impact: float, rounds: bool, fractional: bool, least: float, tick: str | None
) -> None:
    generator = np.random.default_rng(seed)
    panel = on_clock(random_panel(seed, 110, 5, actions=True))
    shape = panel.close.shape
    high, low = np.fmax(panel.close, panel.open), np.fmin(panel.close, panel.open)
    panel = replace(
        panel, high=high * (1 + 0.02 * generator.random(shape)), low=low * (1 - 0.02 * generator.random(shape)),
        open=np.where(generator.random(shape) < 0.03, np.nan, panel.open), member=generator.random(shape) < 0.97,
        volume=np.where(np.isnan(panel.close), np.nan, generator.integers(50, 50_000, shape)),
    )  # fmt: skip
    wanted = generator.dirichlet(np.ones(5), len(panel.sessions)) * 0.97
    wanted[generator.random(wanted.shape) < 0.1] = 0.0
    units = TradingUnits(ticks={} if tick is None else dict.fromkeys(panel.symbols[:3], Decimal(tick)))
    portfolio = PortfolioConfig(fractional=fractional, trade_min_fraction=0.001, cash_buffer=0.004, units=units)
    result = by_both(
        panel, bracket, wanted, portfolio=portfolio, costs=CostModel(commission_min=least), impact=impact,
        round_as_venue=rounds, start=panel.sessions[70].item(),
    )  # fmt: skip
    # Exits as far away as those of BOTH may never be hit.
    assert bracket == BOTH or (result.trades.kind != ORDERED).any()
    hit = (result.trades.kind == TARGETED) & (result.trades.instrument < 3)
    steps = result.trades.reference_price[hit] / float(tick or "0.01")
    # Prices by chance have more digits than a market has, and are in its ticks all the same.
    assert np.abs(steps - np.round(steps)).max(initial=0.0) < 1e-6 or tick is None


@settings(max_examples=200, deadline=None)
@given(
    price=st.decimals("0.02", "5000", places=4, allow_nan=False),
    stop=st.none() | st.integers(20, 900).map(lambda value: value / 1000),
    target=st.integers(20, 900).map(lambda value: value / 1000),
    tick=st.sampled_from([None, *map(Decimal, ("0.0005", "0.01", "0.05", "0.125"))]),
)  # fmt: skip
def test_the_prices_of_exits_are_those_of_the_order_path(
    price: Decimal, stop: float | None, target: float, tick: Decimal | None
) -> None:
    bracket = BracketConfig(stop_loss=stop, take_profit=target)
    panel = make_panel(np.array([[float(price)]]))
    units = TradingUnits(ticks={} if tick is None else {panel.symbols[0]: tick})
    try:
        theirs = bracket_at(Side.BUY, price, *bracket.fractions, tick=tick)
    except ConfigError:
        with pytest.raises(ConfigError, match="give larger fractions"):
            exit_prices(panel, bracket, units)
        assert tick is not None
        return
    stops, targets = exit_prices(panel, bracket, units)
    assert targets[0, 0] == float(theirs.target or 0)
    assert np.isnan(stops[0, 0]) if theirs.stop is None else stops[0, 0] == float(theirs.stop)


def test_what_has_no_exits_in_a_backtest_is_refused_by_name() -> None:
    panel = one_session(101.0, 104.0, 96.0)
    shorts = PLAIN.model_copy(update={"constraints": Constraints(long_only=False)})
    with pytest.raises(ConfigError, match=r"execution\.bracket.*without short sales.*bracket: null"):
        by_both(panel, BOTH, portfolio=shorts)
    with pytest.raises(ValidationError, match=r"execution\.limit_bps = 5\.0 with a bracket"):
        ScheduleConfig.model_validate({"bracket": BOTH, "limit_bps": 5})
    rated = replace(panel, rate=np.ones(panel.close.shape), currency=("USD",), base="USD")
    with pytest.raises(ConfigError, match="account's currency"):
        by_both(rated, BOTH)
    with pytest.raises(MissingDataError, match=r"execution\.bracket needs opening prices"):
        by_both(replace(panel, low=np.full(panel.close.shape, np.nan)), BOTH)
    with pytest.raises(MissingDataError, match=r"execution\.bracket needs opening prices"):
        by_both(replace(panel, sessions=np.array(["2015-01-05", "2015-01-06"], "datetime64[D]"), exchange="24/7"), BOTH)
    with pytest.raises(ConfigError, match=r"execution\.bracket.*give larger fractions"):
        by_both(one_session(101.0, 104.0, 96.0, close=0.0003), BOTH)
    assert by_both(panel, BOTH, start=date(2015, 1, 5)).fill_prices == {"open": 1}
