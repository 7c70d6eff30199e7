"""What companies do to their shares: the paper account, our own book and the simulator, one beside the other."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    FREE,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    TableFeed,
    flat_feed,
    paper,
    rows,
    store_plan,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octopus.backtest.config import BacktestConfig
from octopus.backtest.simulator import BacktestResult, simulate
from octopus.backtest.sizing import Sizing
from octopus.core.orders import OrderType, Side
from octopus.core.panel import Panel
from octopus.execution.book import CorporateAction, EntryKind
from octopus.execution.window import execution_window
from octopus.market_data.returns import total_returns
from resources.brokers.base import OrderRejectedError, OrderRequest
from resources.brokers.paper import PaperBroker
from resources.execution_engine import EngineSettings
from resources.price_feed import Bar
from resources.warehouse.connection import Role, connect
from resources.warehouse.prices import WarehousePrices
from resources.warehouse.store import Warehouse

D = Decimal
NEXT = SESSIONS.next(EXECUTED)
AFTER = SESSIONS.next(NEXT)
MOC, MOO = OrderType.MARKET_ON_CLOSE, OrderType.MARKET_ON_OPEN
ONE = D(1)
numbers = itertools.count()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(OPEN + timedelta(hours=1))


@pytest.fixture
def feed() -> TableFeed:
    return flat_feed(("AAA", "BBB"), days=(DECIDED, EXECUTED, NEXT, AFTER))


@pytest.fixture
def broker(database_url: str, clock: ManualClock, feed: TableFeed) -> PaperBroker:
    """An account that holds ten AAA and five BBB at the close of `EXECUTED`."""
    broker = paper(database_url, "acct", clock, feed)
    for name, quantity in (("AAA", 10), ("BBB", 5)):
        broker.submit(OrderRequest(f"first {name}", name, Side.BUY, D(quantity), MOC, CLOSE))
    clock.wait_until(CLOSE)
    assert broker.snapshot().cash == D(98_500)
    return broker


def order_state(broker: PaperBroker, order_id: str) -> tuple[str, str]:
    order = broker.order(order_id)
    assert order is not None
    return order.state.value, order.reason


def test_a_delisting_pays_its_last_cash_and_ends_the_instrument(broker: PaperBroker, clock, feed) -> None:  # type: ignore[no-untyped-def]
    end = SESSIONS.close_utc(NEXT)
    feed.corporate_actions.append(CorporateAction(EntryKind.DELISTING, "AAA", D(104), end, "cash_mergers"))
    clock.at = SESSIONS.open_utc(NEXT)
    broker.submit(OrderRequest("later", "AAA", Side.SELL, D(3), MOO, SESSIONS.open_utc(AFTER)))
    clock.at = end - timedelta(seconds=1)
    assert broker.snapshot().positions == {"AAA": D(10), "BBB": D(5)}
    clock.at = end
    assert broker.snapshot().positions == {"BBB": D(5)}
    assert broker.snapshot().cash == D(98_500) + 1040
    (entry,) = broker.statement(end).entries
    assert (entry.kind, entry.quantity, entry.note) == (
        EntryKind.DELISTING, D(-10), "delisted at 104 a share: cash_mergers",
    )  # fmt: skip
    assert order_state(broker, "later") == ("cancelled", "AAA is delisted")
    with pytest.raises(OrderRejectedError, match=f"AAA was delisted on {NEXT}"):
        broker.submit(OrderRequest("again", "AAA", Side.BUY, ONE, MOO, SESSIONS.open_utc(AFTER)))


def test_a_name_passes_on_while_its_bearer_takes_another(broker: PaperBroker, clock, feed) -> None:  # type: ignore[no-untyped-def]
    """AAA is CCC from the next session on, and BBB is AAA, as Google's two classes changed theirs."""
    opened = SESSIONS.open_utc(NEXT)
    feed.corporate_actions += [
        CorporateAction(EntryKind.SYMBOL_CHANGE, "BBB", ONE, opened, "AAA"),
        CorporateAction(EntryKind.SYMBOL_CHANGE, "AAA", ONE, opened, "CCC"),
        # Told of who bears the name on the day.
        CorporateAction(EntryKind.SPLIT, "AAA", D(2), opened),
    ]
    feed.bars["BBB", EXECUTED] = Bar(D(40), D(40))
    feed.bars["AAA", NEXT] = Bar(D(21), D(22))
    del feed.bars["BBB", NEXT]
    broker.submit(OrderRequest("old name", "AAA", Side.SELL, D(10), MOO, opened))
    clock.at = opened
    snapshot = broker.snapshot()
    assert snapshot.positions == {"AAA": D(10), "CCC": D(10)}
    assert snapshot.prices == {"AAA": D(20), "CCC": D(100)}
    assert order_state(broker, "old name") == ("cancelled", "AAA is CCC now")
    assert broker.statement().cash == D(98_500)
    clock.at = SESSIONS.close_utc(NEXT)
    assert broker.snapshot().prices == {"AAA": D(22), "CCC": D(100)}


def test_a_spin_off_pays_at_the_first_close_who_held_at_the_open(broker: PaperBroker, clock, feed) -> None:  # type: ignore[no-untyped-def]
    """All is sold at the open of the ex-session; the new company first trades a session later."""
    opened, priced = SESSIONS.open_utc(NEXT), SESSIONS.close_utc(AFTER)
    feed.corporate_actions.append(CorporateAction(EntryKind.SPIN_OFF, "AAA", D("2.5"), priced, "NEW", opened))
    broker.submit(OrderRequest("sold", "AAA", Side.SELL, D(10), MOO, opened))
    clock.at = SESSIONS.close_utc(NEXT)
    assert broker.snapshot().positions == {"BBB": D(5)}
    assert broker.snapshot().cash == D(99_500)
    clock.at = priced
    assert broker.snapshot().cash == D(99_525)
    (entry,) = broker.statement(priced).entries
    assert (entry.kind, entry.note) == (EntryKind.SPIN_OFF, "2.5 a share, of NEW")


def test_who_is_no_member_at_the_fill_is_not_bought(broker: PaperBroker, clock, feed) -> None:  # type: ignore[no-untyped-def]
    opened = SESSIONS.open_utc(NEXT)
    broker.submit(OrderRequest("too late", "AAA", Side.BUY, ONE, MOO, opened))
    feed.outsiders = {("AAA", NEXT), ("BBB", NEXT)}
    why = f"BBB is no member of the universe on {NEXT}"
    with pytest.raises(OrderRejectedError, match=why):
        broker.submit(OrderRequest("refused", "BBB", Side.BUY, ONE, MOO, opened))
    broker.submit(OrderRequest("less", "BBB", Side.SELL, ONE, MOO, opened))
    clock.at = opened
    assert broker.snapshot().positions == {"AAA": D(10), "BBB": D(4)}
    assert order_state(broker, "refused") == ("rejected", why)
    assert order_state(broker, "too late") == ("cancelled", f"AAA is no member of the universe on {NEXT}")


# -- what the warehouse tells the account ------------------------------------------------------------------------------


def told_by_warehouse(url: str) -> WarehousePrices:
    """Google's classes in April 2014, News Corp and a merger, as raw rows; the universe of one day."""
    closes = [
        ("GOOG", "2014-04-02", 1135.10), ("GOOCV", "2014-04-01", 567.57), ("GOOCV", "2014-04-02", 567.0),
        ("GOOG", "2014-04-03", 569.74), ("GOOGL", "2014-04-03", 571.5), ("NWSA", "2013-07-01", 15.0),
        ("NWSA", "2013-07-02", 16.0),
    ]  # fmt: skip
    actions = [
        ("GOOG", "2014-04-03", "symbol_change", 1.0, "GOOGL"), ("GOOCV", "2014-04-03", "symbol_change", 1.0, "GOOG"),
        ("GOOGL", "2014-04-03", "dividend", 0.25, None), ("FOXA", "2013-06-28", "spin_off", 0.25, "NWSA"),
        ("FOXA", "2013-06-28", "dividend", 0.1, None), ("OLD", "2014-04-02", "delisting", 12.5, "cash_mergers"),
    ]  # fmt: skip
    with connect(url) as connection:
        for number, (name, day, close) in enumerate(closes, start=1):
            ts = SESSIONS.close_utc(date.fromisoformat(day))
            connection.execute(
                "insert into raw.bars (source, instrument, ts, session, close, known_at, known_at_imputed, ingested_at,"
                " batch_id) values ('s', %s, %s, %s, %s, %s, false, now(), %s)", [name, ts, day, close, ts, number],
            )  # fmt: skip
        for number, (name, day, kind, value, detail) in enumerate(actions, start=100):
            ts = SESSIONS.open_utc(date.fromisoformat(day))
            connection.execute(
                "insert into raw.corporate_actions (source, instrument, ts, session, kind, value, detail, known_at,"
                " known_at_imputed, ingested_at, batch_id) values ('s', %s, %s, %s, %s, %s, %s, %s, false, now(), %s)",
                [name, ts, day, kind, value, detail, ts, number],
            )
        connection.execute("create schema if not exists marts")
        connection.execute(
            "create table if not exists marts.universe (source text, instrument text, member_from date, member_to date,"
            " known_to timestamptz)"
        )
        connection.execute("insert into marts.universe values ('s', 'GOOGL', null, '2014-04-03', null)")
    return WarehousePrices(Warehouse(url, Role.OWNER), "s", SESSIONS)


def test_the_warehouse_tells_names_worths_and_ends(database_url: str) -> None:
    feed = told_by_warehouse(database_url)
    day, before = date(2014, 4, 3), date(2014, 4, 2)
    opened = SESSIONS.open_utc(day)
    # Whoever is called GOOG on the day: class C from then on, class A until then.
    assert feed.last_close("GOOG", before) == D("1135.1")
    assert feed.last_close("GOOG", before, day) == D("567")
    assert feed.last_close("GOOGL", before, day) == D("1135.1")
    assert (feed.last_close("GOOG", day), feed.last_close("GOOGL", day)) == (D("569.74"), D("571.5"))
    assert feed.last_close("GOOCV", date(2014, 3, 31)) is None
    told = feed.actions(["GOOG"], SESSIONS.open_utc(before), opened)
    assert [(a.kind, a.instrument, a.detail) for a in told] == [
        (EntryKind.SYMBOL_CHANGE, "GOOG", "GOOGL"), (EntryKind.DIVIDEND, "GOOGL", ""),
    ]  # fmt: skip
    # A spin-off takes effect with the first close of the new company, a delisting with its session.
    ex, priced = date(2013, 6, 28), SESSIONS.close_utc(date(2013, 7, 1))
    (spin_off,) = feed.actions(["FOXA"], SESSIONS.open_utc(ex), priced)
    assert (spin_off.kind, spin_off.value, spin_off.detail) == (EntryKind.SPIN_OFF, D("3.75"), "NWSA")
    assert (spin_off.at, spin_off.ex_at) == (priced, SESSIONS.open_utc(ex))
    assert feed.actions(["FOXA"], priced, priced + timedelta(days=30)) == []
    (ended,) = feed.actions(["OLD"], SESSIONS.open_utc(before), SESSIONS.close_utc(before))
    assert (ended.value, ended.at) == (D("12.5"), SESSIONS.close_utc(before))
    assert feed.refusal("OLD", before) == f"OLD is no member of the universe on {before}"
    assert feed.refusal("OLD", day) == f"OLD was delisted on {before} (cash_mergers)"
    assert feed.refusal("GOOGL", day) == ""
    assert feed.refusal("GOOGL", date(2014, 4, 4)) == "GOOGL is no member of the universe on 2014-04-04"


def insert(url: str, table: str, batch: int, at: datetime, row: dict[str, object]) -> None:
    told = {"source": "v", "known_at": at, "known_at_imputed": False, "ingested_at": at, "batch_id": batch, "ts": at}
    of_verdict = {"finding_id": "0123456789abcdef", "decided_by": "policy", "reason": "a test"}
    values = told | row | (of_verdict if table.endswith("verdicts") else {})
    with connect(url) as connection:
        names = ", ".join(values)
        marks = ", ".join(["%s"] * len(values))
        connection.execute(f"insert into raw.{table} ({names}) values ({marks})", list(values.values()))  # type: ignore[arg-type]


def test_no_verdict_is_traded_against(database_url: str) -> None:
    """Bars kept out price no fill and no position, repaired ones count as repaired, and so do actions; on PostgreSQL.

    The third session's bar is a hundred times too high and held, the fourth's was and is repaired; the fourth has a
    dividend that a verdict reduces to a hundredth and a split that it removes.
    """
    told_by_warehouse(database_url)
    feed = WarehousePrices(Warehouse(database_url, Role.OWNER), "v", SESSIONS)
    days, closes = DAYS[:5], [50.0, 50.0, 5000.0, 5100.0, 52.0]
    for number, (day, close) in enumerate(zip(days, closes, strict=True), start=1):
        bar = {"instrument": "AAA", "session": day, "open": close, "close": close}
        insert(database_url, "bars", number, SESSIONS.close_utc(day), bar)
    held = {
        "instrument": "AAA",
        "session": days[2],
        "open": 5000.0,
        "close": 5000.0,
        "excluded": True,
        "decision": "hold",
    }
    insert(database_url, "bar_verdicts", 11, SESSIONS.close_utc(days[2]), held)
    mended = held | {"session": days[3], "open": 51.0, "close": 51.0, "excluded": False, "decision": "repair"}
    insert(database_url, "bar_verdicts", 12, SESSIONS.close_utc(days[3]), mended)
    for batch, kind, sent, counted, excluded in ((13, "dividend", 100.0, 1.0, False), (14, "split", 2.0, 2.0, True)):
        at = SESSIONS.open_utc(days[3])
        row = {"instrument": "AAA", "session": days[3], "kind": kind, "value": sent}
        insert(database_url, "corporate_actions", batch, at, row)
        verdict = row | {"value": counted, "excluded": excluded, "decision": "repair"}
        insert(database_url, "action_verdicts", batch + 10, at, verdict)
    with connect(database_url) as connection:
        connection.execute("insert into marts.universe values ('v', 'AAA', null, null, null)")

    clock = ManualClock(SESSIONS.close_utc(days[0]))
    broker = paper(database_url, "verdicts", clock, feed)
    ends = [SESSIONS.close_utc(day) for day in days]
    broker.submit(OrderRequest("first", "AAA", Side.BUY, D(10), OrderType.MARKET_ON_CLOSE, ends[1]))
    clock.at = ends[1]
    broker.submit(OrderRequest("held", "AAA", Side.BUY, D(10), OrderType.MARKET_ON_CLOSE, ends[2]))
    clock.at = ends[2]
    assert order_state(broker, "first") == ("filled", "")
    state, why = order_state(broker, "held")
    assert state == "expired"
    assert why == (
        f"expired unfilled: the bar of AAA on {days[2]} is kept out by finding 0123456789ab (policy: hold); "
        "`octopus quality decide 0123456789ab keep|repair --reason ...` decides otherwise"
    )
    assert broker.snapshot().prices == {"AAA": D(50)}
    broker.submit(OrderRequest("mended", "AAA", Side.SELL, D(4), OrderType.MARKET_ON_CLOSE, ends[3]))
    clock.at = ends[3]
    assert [(fill.client_order_id, fill.price) for fill in broker.fills()] == [("first", D(50)), ("mended", D(51))]
    snapshot = broker.snapshot()
    assert snapshot.positions == {"AAA": D(6)}
    # 10 at 50 bought, 1 a share paid on 10, 4 at 51 sold.
    assert snapshot.cash == D(100_000) - 500 + 10 + 204
    assert snapshot.prices == {"AAA": D(51)}
    # The vendor sends the held bar again with other content: it counts, and no verdict is left to name.
    insert(database_url, "bars", 30, ends[2] + timedelta(hours=1),
           {"instrument": "AAA", "session": days[2], "open": 50.5, "close": 50.5})  # fmt: skip
    assert (feed.last_close("AAA", days[2]), feed.kept_out("AAA", days[2])) == (D("50.5"), "")


def test_changes_of_symbol_and_their_splits_are_followed_however_often(database_url: str) -> None:
    told_by_warehouse(database_url)
    feed, at = WarehousePrices(Warehouse(database_url, Role.OWNER), "v", SESSIONS), SESSIONS.open_utc
    chain = ("FB", "META"), ("META", "MVRS"), ("MVRS", "ZUCK"), ("XXX", "YYY"), ("ZUCK", "NONE")
    for number, (old, new) in enumerate(chain):
        row = {"instrument": old, "session": DAYS[number], "kind": "symbol_change", "value": 1.0, "detail": new}
        insert(database_url, "corporate_actions", number + 1, at(DAYS[number]), row)
    insert(database_url, "corporate_actions", 9, at(DAYS[1]),
           {"instrument": "META", "session": DAYS[1], "kind": "dividend", "value": 1.0})  # fmt: skip
    insert(database_url, "corporate_actions", 10, at(DAYS[2]),
           {"instrument": "MVRS", "session": DAYS[2], "kind": "split", "value": 2.0})  # fmt: skip
    told = feed.exchanges(["FB"], at(DAYS[0]) - timedelta(days=30), at(DAYS[2]))
    assert [(one.instrument, one.detail, one.at) for one in told if one.kind is EntryKind.SYMBOL_CHANGE] == [
        (old, new, at(day)) for (old, new), day in zip(chain[:3], DAYS, strict=False)
    ]
    assert [(one.instrument, one.value) for one in told if one.kind is not EntryKind.SYMBOL_CHANGE] == [("MVRS", 2)]
    # The verdict on one is that it never was.
    verdict = {"instrument": "META", "session": DAYS[1], "kind": "symbol_change", "value": 1.0, "detail": "MVRS",
               "excluded": True, "decision": "repair"}  # fmt: skip
    insert(database_url, "action_verdicts", 20, at(DAYS[1]), verdict)
    assert [one.detail for one in feed.exchanges(["FB"], at(DAYS[0]) - timedelta(days=30), at(DAYS[4]))] == ["META"]
    assert feed.exchanges(["FB"], at(DAYS[0]), at(DAYS[4])) == []


def test_a_close_that_stands_for_a_later_session_is_in_its_shares(database_url: str) -> None:
    told_by_warehouse(database_url)
    feed = WarehousePrices(Warehouse(database_url, Role.OWNER), "v", SESSIONS)
    bar = {"instrument": "AAA", "session": DAYS[0], "close": 50.0}
    insert(database_url, "bars", 1, SESSIONS.close_utc(DAYS[0]), bar)
    split = {"instrument": "AAA", "session": DAYS[1], "kind": "split", "value": 2.0}
    insert(database_url, "corporate_actions", 2, SESSIONS.open_utc(DAYS[1]), split)
    assert [feed.last_close("AAA", day) for day in DAYS[:3]] == [D(50), D(25), D(25)]


# -- the simulator, the paper account and our own book over one history ------------------------------------------------

DAYS = [day.item() for day in SESSIONS.between(date(2022, 12, 1), date(2022, 12, 12))]
COUNT = 3


@dataclass(frozen=True)
class Scenario:
    """One history, as the simulator's panel and as the paper account's feed; instruments change names in between."""

    panel: Panel
    delisting: np.ndarray
    names: list[list[str]]
    feed: TableFeed
    wanted: np.ndarray


def scenario(seed: int) -> Scenario:
    dice = np.random.default_rng(seed)
    shape = len(DAYS), COUNT
    split = np.where(dice.random(shape) < 0.1, dice.choice([2.0, 3.0, 0.5, 1.5], shape), 1.0)
    dividend, spin_off = (np.where(dice.random(shape) < 0.15, dice.integers(1, 300, shape) / 100, 0.0) for _ in "ab")
    member = dice.random(shape) < 0.8
    # No wilder than the cash that is left over bears: the venue's buying power is another test's matter.
    opening, close = (np.round(dice.uniform(45, 55, shape), 2) for _ in "ab")
    split[0], dividend[0], spin_off[0] = 1.0, 0.0, 0.0
    delisting = np.full(shape, np.nan)
    renamed = int(dice.integers(2, len(DAYS) - 2))
    first, second = dice.choice(COUNT, 2, replace=False).tolist()
    if dice.random() < 0.7:
        # Only who keeps its name: another's may be borrowed.
        gone = ({0, 1, 2} - {first, second}).pop()
        row = int(dice.integers(2, len(DAYS)))
        delisting[row, gone] = round(float(dice.choice([0.0, 12.34, 77.0])), 2)
        for array, empty in ((opening, np.nan), (close, np.nan), (split, 1.0), (dividend, 0.0), (spin_off, 0.0)):
            array[row + 1 :, gone] = empty
    names = [["AAA", "BBB", "CCC"] for _ in DAYS]
    for row in range(renamed, len(DAYS)):
        names[row][first], names[row][second] = names[0][second], "DDD"
    wanted = dice.dirichlet(np.ones(COUNT), len(DAYS)) * 0.6
    # An order under the old name is cancelled when the name changes.
    wanted[renamed - 1, [first, second]] = np.nan
    panel = Panel(
        sessions=np.array(DAYS, dtype="datetime64[D]"), symbols=("I0", "I1", "I2"), close=close,
        total_return=total_returns(close, split, dividend, spin_off), open=opening, high=opening, low=opening,
        volume=opening, member=member & ~np.isnan(close), sentiment=np.full(shape, np.nan), split=split,
        dividend=dividend, price_basis="raw", spin_off=spin_off,
    )  # fmt: skip
    feed = TableFeed({}, outsiders={(names[r][c], DAYS[r]) for r, c in np.argwhere(~panel.member).tolist()})
    for row, day in enumerate(DAYS):
        at, end = SESSIONS.open_utc(day), SESSIONS.close_utc(day)
        for column, name in enumerate(names[row]):
            if not np.isnan(close[row, column]):
                feed.bars[name, day] = Bar(money(opening[row, column]), money(close[row, column]))
            before = names[max(row - 1, 0)][column]
            told = [
                (before != name, EntryKind.SYMBOL_CHANGE, before, 1.0, at, name),
                (split[row, column] != 1.0, EntryKind.SPLIT, name, split[row, column], at, ""),
                (dividend[row, column] != 0.0, EntryKind.DIVIDEND, name, dividend[row, column], at, ""),
                (spin_off[row, column] != 0.0, EntryKind.SPIN_OFF, name, spin_off[row, column], end, "NEW"),
                (np.isfinite(delisting[row, column]), EntryKind.DELISTING, name, delisting[row, column], end, "merger"),
            ]
            feed.corporate_actions += [
                CorporateAction(kind, who, money(value), when, detail, at)
                for happened, kind, who, value, when, detail in told
                if happened
            ]
    return Scenario(panel, delisting, names, feed, wanted)


def money(value: float) -> Decimal:
    return Decimal(str(round(float(value), 2)))


def simulated(told: Scenario) -> BacktestResult:
    sizing = Sizing(lot=1.0, fractional=False, band=0.0, least_notional=0.0, cash_buffer=0.0, long_only=True)
    config = BacktestConfig(start=DAYS[0], execution="open", initial_cash=100_000)
    return simulate(told.panel, lambda row, _: told.wanted[row], config, sizing, FREE, delisting=told.delisting)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_the_paper_account_has_the_simulators_cash_to_the_cent(module_database: str, seed: int) -> None:
    """Splits, payments, spin-offs, delistings, names that pass on, membership: one history, three accounts.

    What the simulator traded is ordered before each open, and with it one share of everybody who is no member. After
    every close the paper account's cash and shares are the simulator's, our own book reconciles with it, and its NAV is
    the simulator's equity.
    """
    told = scenario(seed)
    result = simulated(told)
    account = f"h{next(numbers)}"
    clock = ManualClock(SESSIONS.close_utc(DAYS[0]))
    broker = paper(module_database, account, clock, told.feed, allow_fractional=False)
    desk = Desk(module_database, account, clock, told.feed, broker, settings=EngineSettings(lot=ONE))
    desk.open()
    broker.snapshot()
    for row, day in enumerate(DAYS[1:], start=1):
        traded = np.flatnonzero(result.trades.session == np.datetime64(day))
        trades = [
            (told.names[row][result.trades.instrument[i]], Side.BUY if result.trades.side[i] > 0 else Side.SELL,
             D(round(result.trades.shares[i])))
            for i in traded.tolist()
        ]  # fmt: skip
        ordered = {name for name, _, _ in trades}
        barred = [
            name for column, name in enumerate(told.names[row])
            if not told.panel.member[row, column] and name == told.names[row - 1][column] and name not in ordered
        ]  # fmt: skip
        clock.wait_until(execution_window(SESSIONS, DAYS[row - 1], MOO).not_before)
        batch = store_plan(
            module_database, account, [*trades, *((name, Side.BUY, ONE) for name in barred)], name=f"b{row}",
            session=DAYS[row - 1], order_type=MOO,
        )  # fmt: skip
        if batch.orders:
            desk.execute(batch, run_id=f"run {row}")
            states = desk.states(batch)
            # Who splits or changes its name besides is not even sent.
            assert {states[name] for name in barred if name in states} <= {"rejected"}
            assert {states[name] for name in ordered} <= {"filled"}
        clock.wait_until(SESSIONS.close_utc(day))
        with desk.engine() as engine:
            navs = engine.update_positions(account)
            assert engine.reconcile(account, day) == ()
        statement = broker.statement()
        assert abs(float(statement.cash) - result.cash[row]) < 0.005, (seed, day)
        shares = {n: D(round(q)) for n, q in zip(told.names[row], result.shares[row], strict=True) if q}
        assert statement.positions == shares
        assert abs(float(navs[day].closing) - result.equity[row]) < 0.005


def test_the_scenarios_have_all_that_they_are_about() -> None:
    kinds = {action.kind for seed in range(20) for action in scenario(seed).feed.corporate_actions}
    assert kinds == {kind for kind in EntryKind if kind.is_action}
    assert sum(simulated(scenario(seed)).redemptions.any() for seed in range(20)) > 5


def test_a_barred_order_says_why(module_database: str) -> None:
    told = next(made for seed in range(50) if not (made := scenario(seed)).panel.member[1, 0])
    clock = ManualClock(execution_window(SESSIONS, DAYS[0], MOO).not_before)
    broker = paper(module_database, "barred", clock, told.feed)
    desk = Desk(module_database, "barred", clock, told.feed, broker)
    desk.open()
    batch = store_plan(module_database, "barred", [("AAA", Side.BUY, ONE)], session=DAYS[0], order_type=MOO)
    desk.execute(batch)
    ((reason,),) = rows(module_database, "select reason from execution.orders where account = 'barred'")
    assert f"AAA is no member of the universe on {DAYS[1]}" in reason
