"""The order path through PostgreSQL and the paper broker has, day after day, the account of both simulators."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from execution_support import SESSIONS, Desk, ManualClock, TableFeed, paper, rows, store_plan

from octopus.backtest.config import BacktestConfig
from octopus.backtest.events import simulate_events
from octopus.backtest.kernel import REST
from octopus.backtest.reconcile import compare
from octopus.backtest.simulator import simulate
from octopus.backtest.sizing import Sizing
from octopus.backtest.working import expected_volume
from octopus.core.costs import CostModel
from octopus.core.limit_orders import with_limits
from octopus.core.orders import OrderType
from octopus.core.panel import Panel
from octopus.execution.book import CorporateAction, EntryKind
from octopus.execution.config import Kind, Remainder, ScheduleAtBars, ScheduleConfig
from octopus.execution.window import execution_window
from octopus.market_data.returns import total_returns
from octopus.portfolio.config import PortfolioConfig
from octopus.portfolio.rebalance import plan_orders
from octopus.portfolio.units import NO_UNITS, TradingUnits
from resources.execution_engine import EngineSettings
from resources.price_feed import Bar
from resources.warehouse.prices import decimal_price

CASH = Decimal(250_000)
COSTS = CostModel(commission_min=1.0)
PORTFOLIO = PortfolioConfig(cash_buffer=0.02, trade_min_fraction=0.002)
NONE = ScheduleConfig()
NAMES = ("AAA", "BBB", "CCC", "DDD", "EEE")
OWN = TradingUnits({"AAA": Decimal(10), "BBB": Decimal(7)}, {"BBB": Decimal("0.05"), "CCC": Decimal("0.125")})


LIMITS = ScheduleConfig(limit_bps=40.0)
WORKED = [
    ScheduleAtBars(schedule=Kind.TWAP, slices=3),
    ScheduleAtBars(schedule=Kind.PARTICIPATION, slices=3, rate=0.2, remainder=Remainder.CANCEL),
    ScheduleAtBars(schedule=Kind.PARTICIPATION, slices=3, rate=0.2, remainder=Remainder.CLOSE),
]


def market(days: int, *, opens: bool, ranges: bool = False, seed: int = 7) -> Panel:
    """Opens (or none) and closes to the cent with splits, dividends, spin-offs and missing bars, on New York's
    sessions; highs, lows and volumes only with ranges.
    """
    generator = np.random.default_rng(seed)
    sessions = SESSIONS.between(date(2021, 1, 4), date(2022, 12, 28))[: days + 1]
    shape = (len(sessions), len(NAMES))
    close = 80 * np.exp(np.cumsum(generator.normal(scale=0.015, size=shape), axis=0))
    opening = close * np.exp(generator.normal(scale=0.004, size=shape))
    split = np.where(generator.random(shape) < 0.01, generator.choice([2.0, 0.5], shape), 1.0)
    close, opening = (np.round(values / np.cumprod(split, axis=0), 2) for values in (close, opening))
    dividend = np.where(generator.random(shape) < 0.02, np.round(close * 0.01, 2), 0.0)
    spun = np.random.default_rng(seed + 1).random(shape) < 0.03
    spin_off = np.where(spun, np.round(close * 0.05, 2), 0.0)
    halted = generator.random(shape) < 0.01
    halted[0] = False
    close, opening = np.where(halted, np.nan, close), np.where(halted, np.nan, opening)
    empty = np.full(shape, np.nan)
    opening = opening if opens else empty
    high = low = volume = empty
    if ranges:
        drawn = np.random.default_rng(seed + 2)
        high, low = (np.round(close * (1 + sign * drawn.uniform(0, 0.02, shape)), 2) for sign in (1, -1))
        volume = np.where(halted, np.nan, drawn.integers(200, 4000, shape))
    return Panel(
        sessions=sessions, symbols=NAMES, close=close, total_return=total_returns(close, split, dividend, spin_off),
        open=opening, high=high, low=low, volume=volume, member=np.ones(shape, dtype=bool), sentiment=empty,
        split=split, dividend=dividend, spin_off=spin_off, price_basis="raw",
    )  # fmt: skip


def feed_of(panel: Panel) -> TableFeed:
    """The same market as the order path reads it."""
    days = panel.sessions.astype(object)
    bars = {
        (name, day): Bar(
            _price(panel.open[row, column]),
            decimal_price(float(panel.close[row, column])),
            high=_price(panel.high[row, column]),
            low=_price(panel.low[row, column]),
        )
        for row, day in enumerate(days)
        for column, name in enumerate(NAMES)
        if np.isfinite(panel.close[row, column])
    }
    kinds = ((EntryKind.SPLIT, panel.split, 1.0), (EntryKind.DIVIDEND, panel.dividend, 0.0))
    actions = [
        CorporateAction(kind, NAMES[column], decimal_price(float(values[row, column])), SESSIONS.open_utc(days[row]))
        for kind, values, nothing in kinds
        for row, column in np.argwhere(values != nothing).tolist()
    ]
    actions += [
        CorporateAction(
            EntryKind.SPIN_OFF, NAMES[column], decimal_price(float(panel.spin_off[row, column])),
            SESSIONS.close_utc(days[row]), "NEW", SESSIONS.open_utc(days[row]),
        )
        for row, column in np.argwhere(panel.spin_off != 0.0).tolist()
    ]  # fmt: skip
    return TableFeed(bars, actions)


def _price(value: float) -> Decimal | None:
    return decimal_price(float(value)) if np.isfinite(value) else None


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("order_type", "days", "schedule", "units"),
    [
        (OrderType.MARKET_ON_OPEN, 12, NONE, NO_UNITS),
        (OrderType.MARKET_ON_CLOSE, 15, NONE, NO_UNITS),
        (OrderType.MARKET, 6, WORKED[2], OWN),
        (OrderType.LIMIT, 12, LIMITS, OWN),
        pytest.param(OrderType.LIMIT, 250, LIMITS, NO_UNITS, marks=pytest.mark.slow),
        pytest.param(OrderType.MARKET_ON_OPEN, 250, NONE, NO_UNITS, marks=pytest.mark.slow),
        pytest.param(OrderType.MARKET_ON_CLOSE, 250, NONE, NO_UNITS, marks=pytest.mark.slow),
        *(pytest.param(OrderType.MARKET, 60, schedule, NO_UNITS, marks=pytest.mark.slow) for schedule in WORKED),
        *(pytest.param(OrderType.MARKET, 60, schedule, OWN, marks=pytest.mark.slow) for schedule in WORKED),
    ],
)
def test_the_order_path_has_the_account_of_both_engines_every_day_to_the_cent(
    database_url, days, order_type, schedule, units
):
    is_simple = schedule is NONE
    panel = market(days, opens=order_type is not OrderType.MARKET_ON_CLOSE, ranges=not is_simple)
    # What follows the volume, or waits at a limit, may buy before all that pays for it is sold.
    portfolio = PORTFOLIO if is_simple else PORTFOLIO.model_copy(update={"cash_buffer": 0.25})
    portfolio = portfolio.model_copy(update={"units": units})
    wanted = np.random.default_rng(3).dirichlet(np.ones(len(NAMES)), len(panel.sessions)) * 0.95

    def decider(row, weights):
        # Without a bar a position stays what it is, as the decision function has it.
        chosen = 0.85 * np.round(weights, 9) + 0.15 * wanted[row]
        return np.where(np.isfinite(panel.close[row]), chosen, weights)

    config = BacktestConfig(start=panel.sessions[0].item(), initial_cash=float(CASH), round_as_venue=True)
    config = config.model_copy(update={"schedule": schedule})
    event_driven = simulate_events(panel, decider, config, portfolio, COSTS).result
    vectorised = simulate(panel, decider, config, Sizing.of(portfolio), COSTS)
    told = compare(vectorised, event_driven)
    assert told.agree, str(told)
    assert (panel.spin_off[1 : days + 1] != 0.0).any()

    clock = ManualClock(SESSIONS.decision_utc(panel.sessions[0].item()))
    feed = feed_of(panel)
    broker = paper(database_url, "parity", clock, feed, costs=COSTS, deposit=CASH, allow_fractional=False)
    patience = EngineSettings(lot=Decimal(1), settle_timeout=EngineSettings().data_patience, schedule=schedule)
    expected = expected_volume(panel.volume, panel.split)
    desk = Desk(database_url, "parity", clock, feed, broker, settings=patience, units=units)
    desk.open()
    for row in range(days):
        session = panel.sessions[row].item()
        clock.wait_until(SESSIONS.decision_utc(session))
        snapshot = broker.snapshot(NAMES)
        held = np.array([float(snapshot.positions.get(name, 0)) for name in NAMES])
        assert held.tolist() == event_driven.shares[row].tolist(), session
        assert float(snapshot.cash) == pytest.approx(event_driven.cash[row], abs=0.005), session
        assert float(snapshot.equity) == pytest.approx(event_driven.equity[row], abs=0.005), session
        values = [float(snapshot.positions.get(name, 0) * snapshot.prices[name]) for name in NAMES]
        targets = decider(row, np.array(values) / float(snapshot.equity))
        orders = plan_orders(
            f"parity-{session}", dict(zip(NAMES, targets.tolist(), strict=True)), snapshot, portfolio, COSTS
        )
        if not orders:
            continue
        if schedule.limit_offset is not None:
            orders = units.with_ticks(with_limits(orders, schedule.limit_offset))
        batch = store_plan(
            database_url, "parity", [(o.instrument, o.side, o.quantity) for o in orders], name=str(session),
            session=session, order_type=order_type, created_at=clock.now(),
            limits={o.instrument: o.price for o in orders} if schedule.limit_offset is not None else None,
        )  # fmt: skip
        clock.wait_until(execution_window(SESSIONS, session, order_type, from_open=schedule.from_open).not_before)
        following = SESSIONS.next(session)
        whole = SESSIONS.close_utc(following) - SESSIONS.open_utc(following)
        volumes = dict(zip(NAMES, map(repr, expected[row].tolist()), strict=True))
        done = desk.execute(
            batch,
            volume=lambda name, since, until, known=volumes, hours=whole: (
                Decimal(known[name]) * Decimal(repr((until - since) / hours))
            ),
        )
        assert not done.breaks
        in_lots = "select instrument, quantity from execution.order_intents where batch_id = %s"
        sent = rows(database_url, in_lots, batch.batch_id)
        assert [name for name, quantity in sent if quantity % units.step(name, Decimal(1))] == []
        assert not done.collection.open_orders
    clock.wait_until(SESSIONS.decision_utc(panel.sessions[days].item()))
    fills = rows(database_url, "select count(*) from execution.fills where account = 'parity'")[0][0]
    assert len(event_driven.trades) == told.trades
    assert fills > 2 * days
    if schedule.is_scheduled:
        assert fills > told.trades
        assert (event_driven.trades.kind == REST).any() == (schedule.remainder is Remainder.CLOSE)
        assert event_driven.fill_prices["typical"] > days
    else:
        assert fills == told.trades
    with desk.engine() as engine:
        engine.update_positions("parity")
    for session, closing in rows(database_url, "select session, closing from execution.nav where account = 'parity'"):
        assert float(closing) == pytest.approx(event_driven.equity[panel.at(session)], abs=0.005), session
