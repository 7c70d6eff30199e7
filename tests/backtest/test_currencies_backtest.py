"""An account of one currency that trades in several: by hand, its books from its trades alone, where profit is from."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from conftest import PAIRS, in_currencies, make_panel, on_clock, random_panel, with_pairs

from octopus.backtest.analysis import by_group, by_instrument
from octopus.backtest.config import BacktestConfig
from octopus.backtest.events import simulate_events
from octopus.backtest.reconcile import compare
from octopus.backtest.simulator import run_benchmarks, simulate, simulate_targets
from octopus.backtest.sizing import Sizing
from octopus.core.costs import CostModel
from octopus.core.errors import ConfigError
from octopus.decision import DecisionConfig, decide, prepare
from octopus.execution.config import ScheduleConfig
from octopus.market_data.currencies import in_base
from octopus.portfolio.config import PortfolioConfig

FREE = {"commission_bps": 0.0, "half_spread_bps": 0.0, "slippage_bps": 0.0}
START = date(2015, 1, 5)
PORTFOLIO = PortfolioConfig(fractional=True, trade_min_fraction=0.0, trade_min_notional=Decimal(0), cash_buffer=0.0)


def both(panel, targets, costs, delisting=None, portfolio=PORTFOLIO, **changes):
    """The account by both engines, which agree; the event-driven one's."""
    config = BacktestConfig.model_validate({"start": START, "initial_cash": 1000, "execution": "close", **changes})
    fast = simulate(panel, lambda row, _: targets[row], config, Sizing.of(portfolio), costs, delisting=delisting)
    told = simulate_events(panel, lambda row, _: targets[row], config, portfolio, costs, delisting=delisting).result
    assert compare(fast, told).agree, str(compare(fast, told))
    return told


def dollars_and_euros(rates, **fields):
    """A share of 50 dollars and one of 100 euros, whose prices stand still."""
    close = np.tile([50.0, 100.0, 0.0], (len(rates), 1))
    close[:, 2] = rates
    panel = make_panel(close, **{name: np.hstack([values, values[:, :1] * 0]) for name, values in fields.items()})
    panel = replace(panel, symbols=("KO", "SAP", "EURUSD=X"))
    return in_base(panel, "USD", PAIRS, {"KO": "USD", "SAP": "EUR", "EURUSD=X": "USD"})


def test_a_trade_a_dividend_and_a_mark_are_each_converted_at_the_sessions_rate():
    dividend = np.zeros((4, 2))
    dividend[2, 1] = 2.0
    panel = dollars_and_euros([1.0, 1.1, 1.2, 1.2], dividend=dividend)
    targets = np.tile([np.nan, np.nan], (4, 1))
    targets[0, 1], targets[2, 1] = 0.5, 0.0
    told = both(panel, targets, CostModel(**FREE, fx_spread_bps=100))
    # Five shares of 100 euros, paid at 1.1 and a hundredth, sold at 1.2 less a hundredth.
    assert told.trades.shares.tolist() == [5.0, 5.0]
    assert told.trades.price.tolist() == [100.0, 100.0]
    assert told.trades.rate.tolist() == pytest.approx([1.111, 1.188])
    assert told.cash.tolist() == pytest.approx([1000.0, 444.5, 456.5, 1050.5])
    assert told.equity.tolist() == pytest.approx([1000.0, 994.5, 1056.5, 1050.5])
    assert told.currency_pnl.tolist() == pytest.approx([0.0, 0.0, 50.0, 0.0])
    assert told.dividends.tolist() == pytest.approx([0.0, 0.0, 12.0, 0.0])
    assert told.costs["conversion"].tolist() == pytest.approx([0.0, 5.5, 0.0, 6.0])
    assert told.price_pnl.tolist() == [0.0] * 4


def test_nothing_is_converted_for_an_instrument_of_the_accounts_own_currency():
    panel = dollars_and_euros([1.0, 1.1, 1.2])
    told = both(panel, np.tile([0.5, np.nan], (3, 1)), CostModel(**FREE, fx_spread_bps=100))
    assert told.equity.tolist() == [1000.0] * 3
    assert set(told.trades.rate.tolist()) == {1.0}
    assert not told.costs["conversion"].any()


def test_limits_are_for_instruments_in_the_accounts_currency():
    panel = dollars_and_euros([1.2, 0.8, 0.8])
    with pytest.raises(ConfigError, match=r"execution\.limit_bps.*account's currency"):
        both(panel, np.tile([np.nan, 0.5], (3, 1)), CostModel(**FREE), schedule=ScheduleConfig(limit_bps=100))


def test_a_delisting_pays_at_its_sessions_rate_and_cash_of_a_split_too():
    split = np.ones((4, 2))
    split[2, 1] = 0.4
    panel = dollars_and_euros([1.0, 1.0, 1.5, 2.0], split=split)
    delisting = np.full((4, 2), np.nan)
    delisting[3, 1] = 80.0
    targets = np.full((4, 2), np.nan)
    targets[0, 1] = 0.3
    told = both(panel, targets, CostModel(**FREE, fx_spread_bps=0), delisting, PORTFOLIO.model_copy(
        update={"fractional": False}))  # fmt: skip
    # Of 3 shares 1.2 are left: a fifth is paid at 100 / 0.4 euros and 1.5 dollars, the whole one at 80 euros and 2.
    assert told.cash.tolist() == pytest.approx([1000.0, 700.0, 775.0, 935.0])
    assert told.redemptions[-1] == pytest.approx(160.0)


@pytest.mark.parametrize("rounds", [False, True])
def test_the_books_follow_from_the_trades_to_the_cent(rounds):
    panel = in_currencies(on_clock(random_panel(5, 200)), 5, late=4)
    targets = np.random.default_rng(5).dirichlet(np.ones(6), 200) * 0.95
    told = both(panel, targets, CostModel(fx_spread_bps=30), initial_cash=250_000, round_as_venue=rounds)
    trades, cash = told.trades, Decimal(250_000)
    for side, shares, price, rate, fee in zip(
        trades.side, trades.shares, trades.price, trades.rate, trades.fees, strict=True
    ):
        cash -= Decimal(int(side)) * Decimal(repr(float(shares))) * Decimal(repr(float(price))) * Decimal(
            repr(float(rate))) + Decimal(repr(float(fee)))  # fmt: skip
    assert abs(cash - Decimal(repr(float(told.cash[-1])))) < Decimal("0.005")
    worth = np.where(told.shares != 0, told.shares * panel.worth, 0.0)
    held = np.isfinite(panel.close).all(axis=1)
    assert (told.cash + worth.sum(axis=1))[held] == pytest.approx(told.equity[held], abs=0.005)


def test_rates_before_their_first_bar_and_a_foreign_share_cannot_be_bought():
    panel = in_currencies(on_clock(random_panel(5, 60)), 5, late=20)
    told = both(panel, np.full((60, 6), 1 / 7), CostModel())
    early = told.trades.instrument[told.trades.session <= panel.sessions[20]]
    assert set(early.tolist()) == {0, 4}
    assert set(told.trades.instrument.tolist()) == set(range(6))


def test_attribution_adds_up_by_instrument_and_by_currency():
    panel = in_currencies(on_clock(random_panel(7, 250, actions=True)), 7)
    config = BacktestConfig(start=START, initial_cash=250_000)
    targets = np.random.default_rng(7).dirichlet(np.ones(6), 250) * 0.95
    told = simulate_targets(panel, targets, config, Sizing.of(PORTFOLIO), CostModel(fx_spread_bps=30))
    parts = by_instrument(told, panel)
    assert sum(one.profit for one in parts) == pytest.approx(told.equity[-1] - told.equity[0])
    assert sum(one.currency for one in parts) == pytest.approx(told.currency_pnl.sum())
    of_trades = sum(told.costs[kind].sum() for kind in ("spread_slippage", "commission", "conversion"))
    assert sum(one.costs for one in parts) == pytest.approx(of_trades)
    grouped = {one.name: one for one in by_group(parts, dict(zip(panel.symbols, panel.currency, strict=True)))}
    assert {"USD", "EUR", "GBp", "JPY"} < set(grouped)
    assert grouped["USD"].currency == 0.0
    assert sum(one.profit for one in grouped.values()) == pytest.approx(told.equity[-1] - told.equity[0])


def test_the_decision_and_the_benchmark_count_in_the_base_currency():
    joined, units = with_pairs(on_clock(random_panel(9, 300)), 9)
    panel = in_base(joined, "USD", PAIRS, units)
    # The same instruments told in dollars to begin with: what is decided is the same.
    dollars = replace(panel, rate=None, currency=(), base="", close=panel.worth, open=panel.open * panel.rate)
    config = DecisionConfig(costs=CostModel(fx_spread_bps=0))
    for row in (280, 299):
        made, other = (decide(prepare(one, config), row, None, np.zeros(6), config) for one in (panel, dollars))
        assert made.target_weights == pytest.approx(other.target_weights, abs=1e-9)
        dear = DecisionConfig(costs=CostModel(fx_spread_bps=200))
        told = decide(prepare(panel, dear), row, None, np.zeros(6), dear).target_weights
        assert np.abs(told[panel.foreign]).sum() < np.abs(made.target_weights[panel.foreign]).sum() - 0.01
    free = BacktestConfig(start=START, costs=CostModel(**FREE, fx_spread_bps=0))
    for name, own in run_benchmarks(panel, free, config).items():
        same = run_benchmarks(dollars, free, config)[name]
        # A hole in the bars is another: an instrument without one moves with its rate.
        assert own.equity[-1] == pytest.approx(same.equity[-1], rel=2e-3)
