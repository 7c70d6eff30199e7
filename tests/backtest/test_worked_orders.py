"""Orders at the session's average price, and orders worked over the session: by hand, and by both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from conftest import make_panel, on_clock
from pydantic import ValidationError

from octopus.backtest.config import BacktestConfig
from octopus.backtest.events import simulate_events
from octopus.backtest.kernel import REST
from octopus.backtest.reconcile import compare
from octopus.backtest.simulator import BacktestResult, simulate
from octopus.backtest.sizing import Sizing
from octopus.backtest.working import expected_volume, work_of
from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel, average_volume
from octopus.execution.config import ScheduleConfig
from octopus.execution.schedules import ScheduleError
from octopus.portfolio.config import PortfolioConfig

FREE = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)
PLAIN = PortfolioConfig(trade_min_fraction=0.0, cash_buffer=0.0)
PARTICIPATION = {"schedule": "participation", "rate": 0.1, "slices": 2}


def session_of_prices(**changes: Any) -> Panel:
    """Three instruments at 100, whose second session has a range; of the first a VWAP is told, of the last no range."""
    close = np.array([[100.0, 100.0, 100.0], [104.0, 104.0, 104.0], [104.0, 104.0, 104.0]])
    high, low = close + 5.0, close - 3.0
    high[:, 2] = low[:, 2] = np.nan
    vwap = np.full(close.shape, np.nan)
    vwap[1, 0] = 103.25
    panel = on_clock(make_panel(close, high=high, low=low, volume=np.full(close.shape, 1000.0)))
    return replace(panel, **{"vwap": vwap, **changes})


def by_both(panel: Panel, costs: CostModel = FREE, weights: float = 0.25, **changes: Any) -> BacktestResult:
    """The same weight in each, once, by both engines, which agree."""
    config = BacktestConfig.model_validate(
        {"start": date(2015, 1, 5), "initial_cash": 40_000, "rebalance_sessions": 10, "round_as_venue": True, **changes}
    )

    def decider(_row: int, held: np.ndarray) -> np.ndarray:
        return np.full(held.shape, weights)

    fast = simulate(panel, decider, config, Sizing.of(PLAIN), costs)
    slow = simulate_events(panel, decider, config, PLAIN, costs).result
    told = compare(fast, slow)
    assert told.agree, str(told)
    assert fast.fill_prices == slow.fill_prices
    assert fast.trades.kind.tolist() == slow.trades.kind.tolist()
    return fast


def test_a_fill_at_the_vwap_says_where_it_had_to_be_something_else() -> None:
    result = by_both(session_of_prices(), execution="vwap")
    assert result.trades.reference_price.tolist() == [103.25, pytest.approx((109 + 101 + 104) / 3), 104.0]
    assert result.fill_prices == {"vwap": 1, "typical": 1, "close": 1}
    assert by_both(session_of_prices(vwap=None), execution="vwap").fill_prices == {"typical": 2, "close": 1}


def test_every_child_pays_its_own_commission() -> None:
    panel = session_of_prices()
    whole = by_both(panel, CostModel(commission_bps=0, commission_min=1.25), execution="vwap")
    assert whole.trades.fees.tolist() == [1.25] * 3
    thirds = by_both(
        panel, CostModel(commission_bps=0, commission_min=1.25), schedule={"schedule": "twap", "slices": 3}
    )
    assert thirds.trades.fees.tolist() == [3.75] * 3
    assert (thirds.schedule, thirds.execution) == ("twap", "vwap")
    np.testing.assert_array_equal(thirds.trades.price, whole.trades.price)
    twap = {"schedule": "twap", "slices": 3}
    # Two shares are two children at most, and a profile may leave the first slices nothing.
    few = by_both(panel, CostModel(commission_min=1.0), weights=0.005, schedule=twap)
    assert (few.trades.shares.tolist(), few.trades.fees.tolist()) == ([2.0] * 3, [2.0] * 3)
    late = {"schedule": "vwap", "slices": 3, "profile": (1, 1, 8)}
    last = by_both(panel, CostModel(commission_min=1.0), weights=0.005, schedule=late)
    assert last.trades.fees.tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("remainder", "shares", "at_close"), [("cancel", [48.0] * 3, 0), ("close", [48.0] * 3 + [52.0] * 3, 3)]
)
def test_participation_is_of_the_expected_volume_and_the_rest_is_left_or_meets_the_close(
    remainder: str, shares: list[float], at_close: int
) -> None:
    result = by_both(session_of_prices(), schedule={**PARTICIPATION, "remainder": remainder})
    # Nothing more is cut after the second slice begins: a tenth of 1,000 × 187.5 of the session's 390 minutes.
    assert result.trades.shares.tolist() == shares
    assert int((result.trades.kind == REST).sum()) == at_close
    assert set(result.trades.reference_price[result.trades.kind == REST].tolist()) <= {104.0}


def test_half_a_day_is_expected_to_trade_half_of_an_average_day() -> None:
    """The Friday after Thanksgiving closes at 13:00 in New York: 210 of 390 minutes."""
    days = np.array(["2015-11-25", "2015-11-27", "2015-11-30"], dtype="datetime64[D]")
    schedule = ScheduleConfig(schedule="participation", rate=0.1, slices=2)
    panel = replace(session_of_prices(), sessions=days)
    whole, half, after = work_of(panel, schedule).due[:, 1]
    assert whole == after == pytest.approx(0.1 * 187.5 / 390, rel=1e-12)
    assert half == pytest.approx(0.1 * 97.5 / 390, rel=1e-12)


def test_the_rest_moves_the_price_by_all_that_trades() -> None:
    generator = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(generator.normal(scale=0.02, size=(80, 1)), axis=0))
    panel = on_clock(make_panel(close, volume=np.full(close.shape, 900.0)))
    start, impact = panel.sessions[70].item(), 1.0
    closing = {**PARTICIPATION, "remainder": "close"}
    result = by_both(panel, weights=0.9, start=start, impact=impact, schedule=closing, round_as_venue=False)
    own = result.trades.price / result.trades.reference_price - 1
    assert len(own) == 2
    assert own[0] == pytest.approx(own[1], rel=1e-9)
    alone = by_both(panel, weights=0.9, start=start, impact=impact, schedule=PARTICIPATION, round_as_venue=False)
    bought = float(result.trades.shares.sum())
    assert own[0] / (alone.trades.price[0] / alone.trades.reference_price[0] - 1) == pytest.approx(
        np.sqrt(bought / alone.trades.shares[0]), rel=1e-6
    )


def test_where_trading_never_ends_the_children_have_the_close() -> None:
    result = by_both(on_clock(session_of_prices(), "24/7"), schedule={"schedule": "twap"})
    assert result.execution == "close"
    assert result.fill_prices == {"close": 3}


def test_what_cannot_be_worked_is_refused_by_name() -> None:
    panel = session_of_prices()
    with pytest.raises(ValidationError, match=r"execution\.limit_bps = 5\.0 with schedule twap"):
        by_both(panel, schedule={"schedule": "twap", "limit_bps": 5.0})
    silent = replace(panel, volume=np.full(panel.close.shape, np.nan))
    with pytest.raises(MissingDataError, match=r"execution.schedule = participation needs volumes"):
        by_both(silent, schedule=PARTICIPATION)
    weekends = replace(on_clock(make_panel(np.full((9, 1), 100.0), volume=np.ones((9, 1))), "24/7"), exchange="XNYS")
    with pytest.raises(MissingDataError, match="2015-01-10, which is no session of XNYS"):
        by_both(weekends, schedule=PARTICIPATION)
    with pytest.raises(ScheduleError, match="give a later end"):
        by_both(session_of_prices(), schedule={**PARTICIPATION, "ends_before_close_minutes": 400})


def test_the_expected_volume_is_the_average_of_the_sessions_that_have_one() -> None:
    generator = np.random.default_rng(3)
    volume = np.where(generator.random((60, 4)) < 0.3, np.nan, generator.integers(1, 1000, (60, 4)))
    volume[:25, 3] = np.nan
    split = np.where(generator.random((60, 4)) < 0.05, 2.0, 1.0)
    expected = expected_volume(volume, split)
    for row in range(60):
        np.testing.assert_allclose(expected[row], average_volume(volume[: row + 1], split[: row + 1]), rtol=1e-14)


def test_a_schedule_of_one_slice_is_one_order_at_the_same_price() -> None:
    panel = session_of_prices()
    one = by_both(panel, CostModel(), schedule=ScheduleConfig.model_validate({"schedule": "twap", "slices": 1}))
    plain = by_both(panel, CostModel(), execution="vwap")
    np.testing.assert_array_equal(one.equity, plain.equity)
