"""The simulator and the universe: nobody is bought outside it, who leaves is sold, and a delisting pays its value."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from conftest import make_panel, random_panel
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.backtest.config import BacktestConfig
from octopus.backtest.simulator import BacktestResult, run_backtest, run_benchmarks, simulate
from octopus.backtest.sizing import Sizing
from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.decision import DecisionConfig
from octopus.market_data.membership import delisting_values

NONE = float("nan")
FREE = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)
FRACTIONS = Sizing(lot=1e-6, fractional=True, band=0.0, least_notional=0.0, cash_buffer=0.0, long_only=True)
CLOSE = BacktestConfig(start=date(2015, 1, 5), execution="close", initial_cash=1000)
OPEN = CLOSE.model_copy(update={"execution": "open"})


def fixed(*targets: float):
    return lambda row, weights: np.array(targets)


def ending(panel: Panel, row: int, column: int, value: float) -> FloatArray:
    told = pl.DataFrame(
        {"instrument": [panel.symbols[column]], "session": [panel.sessions[row].item()], "value": [value]}
    )
    return delisting_values(told, panel.sessions, panel.symbols)


def assert_identity(result: BacktestResult) -> None:
    """Every cent: equity moves by prices, dividends and costs; cash by fills, dividends and redemptions."""
    explained = result.price_pnl + result.dividends - result.total_costs
    np.testing.assert_allclose(np.diff(result.equity), explained[1:], rtol=0, atol=1e-6)
    held = np.where(result.shares != 0, result.shares * result.marks, 0.0).sum(axis=1)
    np.testing.assert_allclose(result.equity, result.cash + held, rtol=0, atol=1e-6)
    trades = result.trades
    spent = (trades.side * trades.shares * trades.price + trades.fees).sum()
    received = result.dividends.sum() + result.redemptions.sum()
    assert result.cash[-1] == pytest.approx(result.cash[0] - spent + received, abs=1e-6)


# delisting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_bar", "value", "equity"),
    [(10.0, 4.0, 700.0), (NONE, 4.0, 700.0), (12.0, 12.0, 1100.0), (9.0, 0.0, 500.0)],
    ids=["less than its last price", "no bar on its last session", "a cash merger", "worthless"],
)
def test_a_delisted_position_is_closed_at_its_delisting_value(last_bar: float, value: float, equity: float) -> None:
    """50 shares bought at 10 on the second session, delisted on the fourth: cash from there on, not a frozen mark."""
    close = np.array([[10, 20], [10, 20], [10, 20], [last_bar, 20], [NONE, 20], [NONE, 20]])
    panel = make_panel(close)
    result = simulate(panel, fixed(0.5, 0.0), CLOSE, FRACTIONS, FREE, delisting=ending(panel, 3, 0, value))
    assert result.shares[:, 0].tolist() == [0, 50, 50, 0, 0, 0]
    assert result.equity[2:].tolist() == [1000, equity, equity, equity]
    assert result.cash[3:].tolist() == [equity] * 3
    assert result.redemptions.tolist() == [0, 0, 0, 50 * value, 0, 0]
    assert len(result.trades) == 1
    assert_identity(result)


def test_without_a_known_delisting_the_last_mark_stays() -> None:
    """What is not told cannot be simulated: this is why the delisting belongs to the data."""
    panel = make_panel(np.array([[10.0], [10.0], [8.0], [NONE], [NONE]]))
    result = simulate(panel, fixed(0.5), CLOSE, FRACTIONS, FREE)
    assert result.shares[-1, 0] > 0
    assert result.equity[-1] == result.equity[2]


def test_the_money_of_a_delisting_is_invested_again() -> None:
    close = np.array([[10.0, 20.0], [10.0, 20.0], [10.0, 20.0], [NONE, 20.0], [NONE, 20.0]])
    panel = make_panel(close)
    result = simulate(panel, lambda row, w: np.array([0.5, 0.5] if row < 2 else [0.0, 1.0]), CLOSE, FRACTIONS, FREE,
                      delisting=ending(panel, 2, 0, 6.0))  # fmt: skip
    assert result.equity[2] == 800
    assert result.shares[-1].tolist() == [0, 40]
    assert_identity(result)


@pytest.mark.parametrize("config", [CLOSE, OPEN])
def test_a_name_that_trades_on_after_its_delisting_is_never_touched(config: BacktestConfig) -> None:
    """The vendor gives the symbol to another company on the next day, and the strategy still wants it."""
    close = np.array([[10.0, 20.0]] * 3 + [[55.0, 20.0]] * 4)
    panel = make_panel(close, open=close)
    delisting = ending(panel, 2, 0, 9.0)
    result = simulate(panel, fixed(0.5, 0.5), config, FRACTIONS, FREE, delisting=delisting)
    assert result.shares[2:, 0].tolist() == [0] * 5
    assert result.trades.session[result.trades.instrument == 0].max() <= panel.sessions[2]
    assert result.equity[-1] == 950
    assert_identity(result)


def test_a_short_position_is_bought_back_at_the_delisting_value() -> None:
    panel = make_panel(np.array([[10.0], [10.0], [10.0], [NONE]]))
    sizing = replace(FRACTIONS, long_only=False)
    result = simulate(panel, fixed(-0.5), CLOSE, sizing, FREE, delisting=ending(panel, 2, 0, 1.0))
    assert result.equity[1:].tolist() == [1000, 1450, 1450]
    assert result.redemptions[2] == -50
    assert_identity(result)


def test_delistings_of_another_shape_are_refused() -> None:
    with pytest.raises(MissingDataError, match=r"delisting has shape \(2, 2\)"):
        simulate(make_panel(np.full((3, 1), 5.0)), fixed(0.5), CLOSE, FRACTIONS, FREE, delisting=np.zeros((2, 2)))


# membership ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CLOSE, OPEN])
def test_nobody_is_bought_on_the_day_after_leaving(config: BacktestConfig) -> None:
    """Decided while it was a member, filled when it was none: the purchase expires, a sale does not."""
    close = np.full((6, 2), 10.0)
    member = np.ones((6, 2), dtype=bool)
    member[2:4, 0] = False
    panel = make_panel(close, open=close, member=member)
    wanted = [[0.0, 0.5], [0.5, 0.5], [0.0, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    result = simulate(panel, lambda row, w: np.array(wanted[row]), config, FRACTIONS, FREE)
    assert result.shares[:, 0].tolist() == [0, 0, 0, 0, 50, 50]
    held = make_panel(close, open=close, member=member[:, ::-1])
    sold = simulate(held, lambda row, w: np.array([0.5, 0.5 if row < 1 else 0.2]), config, FRACTIONS, FREE)
    assert sold.shares[:, 1].tolist() == [0, 50, 20, 20, 20, 20]


@pytest.mark.parametrize("execution", ["open", "close"])
def test_the_strategy_holds_members_only(execution: str) -> None:
    """Two instruments leave, one comes back, a third is delisted: with the decision function itself.

    Decided after the first close without membership, sold in the session after it: at that close nothing is left.
    """
    panel = random_panel(5, 420, 6)
    rows = np.arange(420)[:, None]
    close = np.where(np.isnan(panel.close), panel.close[0], panel.close)
    member = np.ones(close.shape, dtype=bool)
    member[340:, 0] = False
    member[320:360, 1] = False
    close[381:, 2] = NONE
    member[381:, 2] = False
    opening = np.where(np.isnan(close), NONE, close)
    panel = make_panel(close, open=opening, member=member)
    delisting = ending(panel, 380, 2, 0.5 * float(close[380, 2]))
    config = BacktestConfig(start=panel.sessions[0].item(), execution=execution, initial_cash=1e6)
    decision = DecisionConfig()
    predictions = np.tile(np.linspace(2.0, 1.0, 6), (420, 1))
    result = run_backtest(panel, config, decision, predictions, delisting=delisting)
    assert_identity_of_whole_shares(result)
    held = result.shares != 0
    assert held[339, 0]
    assert held[319, 1]
    assert held[379, 2]
    # Never bought: no purchase in a session without membership.
    trades = result.trades
    filled = np.searchsorted(panel.sessions, trades.session)
    assert (member[filled, trades.instrument] | (trades.side < 0)).all()
    # Never held for longer than the session that sells.
    out = ~member & (rows > 0) & ~np.vstack([np.ones((1, 6), dtype=bool), member[:-1]])
    assert not (held & out).any()
    assert held[340, 0]
    assert not held[341:, 0].any()
    assert held[362:, 1].any()
    assert not held[380:, 2].any()
    paid_for = result.redemptions[380] / delisting[380, 2]
    assert paid_for > 0
    assert paid_for == pytest.approx(round(paid_for))
    assert filled[trades.instrument == 2].max() <= 380


def assert_identity_of_whole_shares(result: BacktestResult) -> None:
    explained = result.price_pnl + result.dividends - result.total_costs
    np.testing.assert_allclose(np.diff(result.equity), explained[1:], rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), execution=st.sampled_from(["open", "close"]))
def test_any_wishes_any_membership_any_delistings(seed: int, execution: str) -> None:
    """Whatever is decided: no purchase by a non-member, nothing after a delisting, and every cent accounted for."""
    generator = np.random.default_rng(seed)
    panel = random_panel(seed, 40, 5, actions=True)
    member = (generator.random(panel.close.shape) < 0.8) & np.isfinite(panel.close)
    panel = replace(panel, member=member)
    delisting = np.full(panel.close.shape, NONE)
    for column in range(3):
        delisting[generator.integers(5, 39), column] = generator.choice([0.0, 50.0, 120.0])
    config = BacktestConfig(start=panel.sessions[0].item(), execution=execution, initial_cash=1e6)
    wishes = generator.dirichlet(np.ones(5), size=40) * 0.95
    result = simulate(panel, lambda row, w: wishes[row], config, FRACTIONS, CostModel(), delisting=delisting)
    assert_identity(result)
    trades = result.trades
    filled = np.searchsorted(panel.sessions, trades.session)
    assert len(trades) > 0
    assert (member[filled, trades.instrument] | (trades.side < 0)).all()
    last = np.where(np.isfinite(delisting).any(axis=0), np.isfinite(delisting).argmax(axis=0), 40)
    assert (filled <= last[trades.instrument]).all()
    rows = np.arange(40)[:, None]
    assert not (result.shares[np.broadcast_to(rows >= last, result.shares.shape)] != 0).any()


def test_benchmarks_take_delistings_too() -> None:
    panel = make_panel(np.array([[10.0, 20.0]] * 4 + [[NONE, 20.0]] * 3))
    config = BacktestConfig(start=date(2015, 1, 5), execution="close", initial_cash=1000, costs=FREE)
    results = run_benchmarks(panel, config, DecisionConfig(), delisting=ending(panel, 3, 0, 5.0))
    for result in results.values():
        assert result.equity[-1] == pytest.approx(750)
        assert not result.shares[3:, 0].any()


def test_no_delisting_changes_nothing() -> None:
    panel = random_panel(3, 60, 4, actions=True)
    plain = simulate(panel, fixed(0.2, 0.2, 0.2, 0.2), OPEN, FRACTIONS, CostModel())
    none = simulate(
        panel, fixed(0.2, 0.2, 0.2, 0.2), OPEN, FRACTIONS, CostModel(), delisting=np.full(panel.close.shape, NONE)
    )
    assert np.array_equal(plain.equity, none.equity)
    assert np.array_equal(plain.shares, none.shares)
