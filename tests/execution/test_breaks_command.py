"""`octopus breaks` and `octopus orders settle`: the way out of a halt that a paged person goes, command by command."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    VenueBroker,
    flat_feed,
    order_ids,
    paper,
    rows,
    store_plan,
)
from power import Power, PoweredBroker
from test_orders_command import OneDesk

import octopus_pipelines.cli.breaks as breaks_command
import octopus_pipelines.cli.orders as orders_command
import octopus_pipelines.cli.trading as trading_command
from octopus.core.orders import Batch, Fill, OrderType, Side, TradingState
from octopus.execution.book import Book, CorporateAction, EntryKind
from octopus.execution.lots import LotBook, lot_book
from octopus.execution.settlement import settlement_date
from resources.brokers.base import Broker, BrokerOrder, Guarantee, NotToldYetError
from resources.execution_engine import EngineSettings
from resources.warehouse.audit_log import verify
from resources.warehouse.connection import connect
from resources.warehouse.order_store import TradingHaltedError

D = Decimal
NAMES = ("AAA", "BBB", "CCC")
NEXT = SESSIONS.next(EXECUTED)
BUYS = [(name, Side.BUY, D(10)) for name in NAMES]
HAND = (
    "insert into paper.fills select 'hand', broker_order_id, account, 'by-hand', 'BBB', 'buy', 3, 95, 0.5, at "
    "from paper.fills where instrument = 'BBB'"
)


def desk_of(url: str, folder: Path, patch: pytest.MonkeyPatch, broker: Broker | None = None) -> Desk:
    clock, feed = ManualClock(OPEN + timedelta(hours=1)), flat_feed(NAMES, days=(DECIDED, EXECUTED, NEXT))
    settings = EngineSettings(settle_timeout=timedelta(0))
    chosen = broker or paper(url, "acct", clock, feed)
    made = Desk(url, "acct", clock, feed, chosen, folder / "audit.anchor", settings=settings)
    made.open()
    config = SimpleNamespace(database_url=url, account="acct", symbols=NAMES, home=folder)
    for module in (breaks_command, orders_command, trading_command):
        patch.setattr(module, "open_database", lambda: config)
    patch.setattr(trading_command, "trading_clock", lambda _settings: clock)
    for module in (breaks_command, orders_command):
        patch.setattr(module, "trading_of", lambda _settings: OneDesk(made))
    return made


@pytest.fixture
def desk(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return desk_of(database_url, tmp_path, monkeypatch)


def say(command: click.Command, *arguments: str) -> str:
    told = CliRunner().invoke(command, list(arguments))
    return told.output if told.exception is None else f"{told.output}{told.exception}"


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(say(breaks_command.breaks, "list", "--json"))
    return found


def booked(name: str, *more: str) -> str:
    return say(breaks_command.breaks, "book", name, "--by", "Ann Example", "--reason", "as seen", "--yes", *more)


def planted(desk: Desk, *statements: str) -> None:
    with connect(desk.url) as connection:
        for statement in statements:
            connection.execute(statement)


def lots_of(desk: Desk) -> LotBook:
    with desk.engine() as engine:
        book = engine.bookkeeper.books.book("acct")
    return lot_book(
        book.fills, book.entries, dates=lambda at, _name: (at.date(), settlement_date(SESSIONS, at.date()))
    )  # fmt: skip


def morning_of(desk: Desk, session: Any, name: str) -> Batch:
    desk.clock.at = SESSIONS.open_utc(session) + timedelta(hours=1)
    decided = SESSIONS.previous(session)
    made = SESSIONS.close_utc(decided) + timedelta(hours=1)
    return store_plan(desk.url, "acct", [("CCC", Side.BUY, D(1))], name=name, session=decided, created_at=made)


def test_a_hand_trade_halts_is_booked_by_command_and_trading_goes_on(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    planted(desk, HAND)
    batch = morning_of(desk, NEXT, "second")
    with pytest.raises(TradingHaltedError, match="`octopus breaks list`"):
        desk.execute(batch)
    assert desk.states(batch) == {}

    (found,) = listed()
    assert (found["kind"], found["reference"]) == ("manual_trade", "hand")
    assert found["break"] in found["remedy"]
    assert found["books"] == ["manual fill:hand: +3 BBB, cash -285.5"]
    assert "find who traded" in say(breaks_command.breaks, "list")
    assert "the books of account acct agree; if trading is halted: `octopus resume`" in booked(found["break"][:8])
    assert "was booked before" in booked(found["break"])
    assert "no open break begins with 'brk-none'" in booked("brk-none")
    assert listed() == []
    assert "acct is active" in say(trading_command.resume, "--reason", "booked")

    done = desk.execute(batch, "again")
    assert (desk.states(batch), done.breaks) == ({"CCC": "filled"}, ())
    # Position, cash, lots and NAV have the trade, once; the log says whose word it was.
    holdings = done.navs[NEXT].holdings
    assert holdings.positions == {"AAA": D(10), "BBB": D(13), "CCC": D(11)}
    assert (holdings.cash, done.navs[NEXT].closing) == (D("96614.5"), D("100014.5"))
    with desk.engine() as engine:
        assert engine.store.trading_status("acct").state is TradingState.ACTIVE
    of_bbb = {(lot.quantity, lot.cost) for lot in lots_of(desk).lots if lot.instrument == "BBB"}
    assert of_bbb == {(D(10), D(1000)), (D(3), D("285.5"))}
    told = rows(desk.url, "select payload::jsonb ->> 'by' from audit.log where kind = 'settled.break'")
    assert told == [("Ann Example",)]
    assert verify(desk.url, desk.anchor).ok


PLANTED = {
    "quantity of a fill": "update paper.fills set quantity = quantity + 1 where instrument = 'AAA'",
    "price of a fill": "update paper.fills set price = price + 1 where instrument = 'AAA'",
    "fees of a fill": "update paper.fills set fees = fees + 1 where instrument = 'AAA'",
    "a fill that never was": "delete from paper.fills where instrument = 'CCC'",
    "cash without a record": "update paper.entries set cash = cash - 10 where kind = 'deposit'",
    "a correction by the broker": "insert into paper.entries select 'fix', account, 'manual', 'AAA', 2, -200, "
    "max(at), '' from paper.entries group by account",
    "a split that we never heard of": "insert into paper.entries select 'x', account, 'split', 'AAA', 10, 0, "
    "max(at), '' from paper.entries group by account",
    "a dividend that we never heard of": "insert into paper.entries select 'x', account, 'dividend', 'AAA', 0, 7, "
    "max(at), '' from paper.entries group by account",
}


@pytest.mark.parametrize("what", PLANTED)
def test_every_break_has_a_way_out(desk: Desk, what: str) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    planted(desk, PLANTED[what])
    for _ in range(2):
        for item in listed():
            assert "`octopus breaks book" in item["remedy"]
            booked(item["break"])
    assert listed() == []
    with desk.engine() as engine:
        assert engine.reconcile("acct", EXECUTED) == ()
        assert engine.bookkeeper.compare("acct").breaks == ()
    batch = morning_of(desk, NEXT, "second")
    say(trading_command.resume)
    done = desk.execute(batch)
    assert (desk.states(batch), done.breaks) == ({"CCC": "filled"}, ())
    assert set(done.navs) == {NEXT}


def test_the_broker_is_asked_for_its_statement_once_for_all_that_is_shown_and_once_for_what_is_booked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    planted(desk, HAND, PLANTED["a dividend that we never heard of"])
    power = Power()
    monkeypatch.setattr(desk, "broker", PoweredBroker(desk.broker, power))
    hand, _ = sorted(listed(), key=lambda item: item["kind"] != "manual_trade")
    assert power.reached.count("statement: answered") == 1
    assert "1 breaks in account acct" in booked(hand["break"])
    assert power.reached.count("statement: answered") == 3


CENTS = "update paper.entries set cash = round(cash, 2) where kind = 'dividend'"


def test_what_the_broker_rounds_to_the_cent_never_adds_up_to_a_break(desk: Desk) -> None:
    """Two dozen dividends of fractions of a cent; each day's NAV has what the broker paid."""
    rates = {"AAA": D("0.2425"), "BBB": D("0.1875"), "CCC": D("0.3125")}
    desk.execute(store_plan(desk.url, "acct", [(n, Side.BUY, D(q)) for n, q in zip(NAMES, (37, 13, 29), strict=True)]))
    day = EXECUTED
    for number in range(24):
        day = SESSIONS.next(day)
        name = NAMES[number % 3]
        desk.feed.bars.update(flat_feed(NAMES, days=[day]).bars)
        desk.feed.corporate_actions.append(
            CorporateAction(EntryKind.DIVIDEND, name, rates[name], SESSIONS.open_utc(day))
        )
        desk.clock.at = SESSIONS.close_utc(day) + timedelta(hours=1)
        desk.broker.snapshot()
        planted(desk, CENTS)
        with desk.engine() as engine:
            struck = engine.update_positions("acct")
            assert engine.reconcile("acct", day) == ()
            assert engine.store.trading_status("acct").state is TradingState.ACTIVE
            assert struck[day].holdings.cash == engine.broker.statement().cash
    ((paid, entries),) = rows(desk.url, "select sum(cash), count(*) from paper.entries where kind = 'dividend'")
    assert rows(desk.url, "select sum(cash) from execution.entries where kind = 'dividend'") == [(paid,)]
    assert (entries, paid) == (24, paid.quantize(D("0.01")))
    notes = rows(desk.url, "select distinct note from execution.entries where entry_id like '%%~1'")
    assert notes == [("the broker's rounding",)]
    assert rows(desk.url, "select count(*) from execution.entries where entry_id like '%%~2'") == [(0,)]
    assert verify(desk.url, desk.anchor).ok


@dataclass
class Unexplained:
    """A broker with shares of BBB more (or fewer) than it has records of, and ``cash``."""

    inner: Any
    cash: Decimal
    shares: Decimal = Decimal(5)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def statement(self, since: datetime | None = None) -> Book:
        told = self.inner.statement(since)
        return replace(
            told, cash=told.cash + self.cash, positions={**told.positions, "BBB": told.positions["BBB"] + self.shares}
        )


@dataclass
class Forgetful:
    """A broker whose list of fills lacks what its statement has."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def fills(self, since: datetime | None = None) -> list[Fill]:
        return [fill for fill in self.inner.fills(since) if fill.instrument != "AAA"]


def test_a_missed_fill_is_booked_as_the_fill_of_its_order_and_once_however_it_is_told_later(desk: Desk) -> None:
    desk.broker, whole = Forgetful(desk.broker), desk.broker
    batch = store_plan(desk.url, "acct", BUYS)
    desk.execute(batch)
    (found,) = [item for item in listed() if item["kind"] == "missing_fill"]
    (order_id, told) = rows(desk.url, "select client_order_id, fill_id from paper.fills where instrument = 'AAA'")[0]
    assert found["books"] == [f"fill {told} of order {order_id}: buy 10 AAA at 100, fees 0"]
    booked(found["break"])
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert "was booked before" in booked(found["break"])
    desk.broker = whole
    assert listed() == []
    counted = rows(desk.url, "select client_order_id, count(*), sum(quantity) from execution.fills group by 1")
    assert (order_id, 1, D(10)) in counted
    assert rows(desk.url, "select count(*) from execution.entries where kind = 'manual'") == [(0,)]
    told_log = rows(desk.url, "select kind from audit.log where subject = %s and kind = 'order.fill'", order_id)
    assert told_log == [("order.fill",)]
    assert rows(desk.url, "select count(*) from execution.attempts where status <> 'done'") == [(0,)]
    assert verify(desk.url, desk.anchor).ok


def test_a_fill_that_was_taken_back_and_is_told_again_counts_again(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    planted(
        desk, "create table paper.kept as select * from paper.fills where instrument = 'CCC'",
        "delete from paper.fills where instrument = 'CCC'",
    )  # fmt: skip
    (gone,) = listed()
    assert "the books of account acct agree" in booked(gone["break"])
    planted(desk, "insert into paper.fills select * from paper.kept")
    (back,) = listed()
    assert back["kind"] == "missing_fill"
    assert "the books of account acct agree" in booked(back["break"])
    assert rows(desk.url, "select sum(quantity) from execution.current_fills where instrument = 'CCC'") == [(D(10),)]


def test_what_a_person_was_shown_is_booked_or_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """While she looks at shares and what they cost, the broker takes the cash back."""
    desk.execute(store_plan(desk.url, "acct", BUYS))
    broker = Unexplained(desk.broker, D(-480))
    desk.broker = broker
    of_shares = next(item["break"] for item in listed() if item["instrument"] == "BBB")
    word = ("book", of_shares, "--reason", "as seen", "--price", "96")
    monkeypatch.setattr(breaks_command.click, "confirm", lambda *_, **__: setattr(broker, "cash", D(0)))
    told = say(breaks_command.breaks, *word)
    assert "books manual unrecorded:BBB: +5 BBB, cash -480" in told
    assert "nothing was booked" in told
    assert "would now book manual unrecorded:BBB: +5 BBB, cash +0, cost 480. Give" in told
    assert rows(desk.url, "select count(*) from audit.log where kind = 'settled.break'") == [(0,)]
    assert "the books of account acct agree" in say(breaks_command.breaks, *word)


TRANSFER = (
    "insert into paper.entries select split_part(max(entry_id), ':', 1) || ':{name}', account, 'manual', '{of}', "
    "{shares}, 0, (select max(at) + interval '1 s' from paper.fills), 'ACATS' from paper.entries group by account"
)


def test_shares_that_a_transfer_brings_keep_what_they_cost_and_since_when_they_are_held(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    planted(desk, TRANSFER.format(name="in", of="AAA", shares=100))
    (found,) = listed()
    assert found["books"] == [
        "nothing yet: +100 AAA came without cash, and no record tells what they had cost; give what one had cost "
        "with --price, and with --acquired since when they were held"
    ]
    assert "give what one had cost with --price" in booked(found["break"])
    assert "--acquired 2023-06-01 is after" in booked(found["break"], "--price", "80", "--acquired", "2023-06-01")
    told = booked(found["break"], "--price", "80.25", "--acquired", "2021-03-01")
    assert "books manual in: +100 AAA, cash +0, cost 8025, acquired 2021-03-01" in told
    assert listed() == []
    # Sold, the earliest go first: those held for longer than a year, at what they had cost.
    sale = [("AAA", Side.SELL, D(105))]
    desk.clock.at = SESSIONS.open_utc(NEXT) + timedelta(hours=1)
    made = SESSIONS.close_utc(EXECUTED) + timedelta(hours=1)
    say(trading_command.resume)
    done = desk.execute(store_plan(desk.url, "acct", sale, name="second", session=EXECUTED, created_at=made))
    assert (done.breaks, done.navs[NEXT].flows, done.navs[NEXT].price_pnl) == ((), D(10000), D(0))
    kept = lots_of(desk)
    assert [(one.quantity, one.proceeds, one.basis, one.is_long_term) for one in kept.disposals] == [
        (D(100), D(10000), D(8025), True), (D(5), D(500), D(500), False),
    ]  # fmt: skip
    assert [(lot.quantity, lot.cost, lot.acquired) for lot in kept.lots] == [(D(5), D(500), EXECUTED)]
    noted = rows(desk.url, "select payload::jsonb ->> 'basis', payload::jsonb ->> 'acquired' from audit.log "
                 "where kind = 'book.manual'")  # fmt: skip
    assert noted == [("8025.00000000", "2021-03-01")]
    assert verify(desk.url, desk.anchor).ok


def test_shares_that_a_transfer_takes_away_are_not_sold(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    planted(desk, TRANSFER.format(name="out", of="AAA", shares=-4))
    (found,) = listed()
    assert found["books"] == ["manual out: -4 AAA, cash +0, no trade"]
    assert "which is no sale: --price 80 has no place there" in booked(found["break"], "--price", "80")
    booked(found["break"])
    desk.clock.at = CLOSE + timedelta(hours=2)
    desk.broker = Unexplained(desk.broker, D(0), D(-3))
    (found,) = listed()
    assert found["books"] == ["manual unrecorded:BBB: -3 BBB, cash +0, no trade"]
    booked(found["break"])
    assert listed() == []
    kept = lots_of(desk)
    assert kept.disposals == ()
    assert {lot.instrument: (lot.quantity, lot.cost) for lot in kept.lots} == {
        "AAA": (D(6), D(600)), "BBB": (D(7), D(700)), "CCC": (D(10), D(1000)),
    }  # fmt: skip


def test_what_is_taken_back_of_a_transfer_takes_back_what_it_cost(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    planted(desk, TRANSFER.format(name="in", of="AAA", shares=100))
    booked(listed()[0]["break"], "--price", "80", "--acquired", "2021-03-01")
    planted(desk, "update paper.entries set quantity = 60 where entry_id like '%:in'")
    (less,) = listed()
    assert less["books"] == ["manual in~1: -40 AAA, cash +0, cost -3200"]
    booked(less["break"])
    held = [(lot.quantity, lot.cost) for lot in lots_of(desk).lots if lot.instrument == "AAA"]
    assert held == [(D(60), D(4800)), (D(10), D(1000))]
    planted(desk, "delete from paper.entries where entry_id like '%:in'")
    booked(listed()[0]["break"])
    assert listed() == []
    kept = lots_of(desk)
    assert [(lot.quantity, lot.cost) for lot in kept.lots if lot.instrument == "AAA"] == [(D(10), D(1000))]
    assert kept.disposals == ()


def test_a_price_that_nothing_needs_is_refused(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    planted(desk, HAND)
    (found,) = listed()
    for option, value in (("--price", "80"), ("--acquired", "2021-03-01")):
        assert f"{option} {value} has no place there; book it without" in booked(found["break"], option, value)
    assert len(listed()) == 1


def test_an_expected_action_that_never_came_is_reversed_and_an_amendment_amended(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    desk.clock.at = CLOSE + timedelta(minutes=1)
    planted(
        desk,
        "insert into execution.entries select 'acct', 'dividend:AAA:20221228', 'dividend', 'AAA', 0, 12, max(at), "
        "max(session), '' from execution.entries",
    )
    (found,) = listed()
    assert (found["kind"], found["books"]) == ("dividend", ["dividend dividend:AAA:20221228~1: +0 AAA, cash -12"])
    booked(found["break"])
    assert listed() == []
    planted(
        desk, "insert into paper.entries select 'late', account, 'dividend', 'AAA', 0, 11, max(at), '' "
        "from paper.entries group by account",
    )  # fmt: skip
    (late,) = listed()
    booked(late["break"])
    assert listed() == []
    cash = rows(desk.url, "select sum(cash) from execution.entries where kind = 'dividend'")
    assert cash == [(D(11),)]


def test_a_split_that_a_person_booked_is_not_booked_again(desk: Desk) -> None:
    """The broker knew of it first; our own data hears of it while the session runs."""
    desk.execute(store_plan(desk.url, "acct", BUYS))
    batch, opens = morning_of(desk, NEXT, "second"), SESSIONS.open_utc(NEXT)
    desk.broker.snapshot()
    with connect(desk.url) as connection:
        connection.execute(
            "insert into paper.entries select 'x', account, 'split', 'AAA', 10, 0, %s, '' "
            "from paper.entries group by account",
            [opens],
        )
    (found,) = listed()
    booked(found["break"])
    desk.feed.corporate_actions.append(CorporateAction(EntryKind.SPLIT, "AAA", D(2), opens))
    done = desk.execute(batch)
    assert (desk.states(batch), done.breaks) == ({"CCC": "filled"}, ())
    assert done.navs[NEXT].holdings.positions["AAA"] == D(20)


@pytest.mark.parametrize(
    ("kind", "value", "shares", "cash", "remedy"),
    [
        (EntryKind.SPLIT, D(2), D(20), D(97000), "ingest it"),
        (EntryKind.DIVIDEND, D("0.5"), D(10), D(97005), "check the corporate action"),
        (EntryKind.DELISTING, D(99), D(0), D(97990), "ingest the delisting"),
    ],
)
def test_an_action_that_is_ingested_after_its_sessions_nav_is_booked_once_in_the_next(
    desk: Desk, kind: EntryKind, value: Decimal, shares: Decimal, cash: Decimal, remedy: str
) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    desk.clock.at = SESSIONS.close_utc(NEXT) + timedelta(hours=1)
    desk.broker.snapshot()
    with desk.engine() as engine:
        assert set(engine.update_positions("acct")) == {NEXT}
        assert engine.reconcile("acct", NEXT) == ()
    struck = rows(desk.url, "select * from execution.nav order by session")
    at = SESSIONS.close_utc(NEXT) if kind is EntryKind.DELISTING else SESSIONS.open_utc(NEXT)
    moved = (
        f"insert into paper.entries select 'x', account, '{kind.value}', 'AAA', {shares - 10}, {cash - 97000}, '{at}', "
        "'' from paper.entries group by account"
    )
    planted(desk, moved)
    (found,) = listed()
    assert found["kind"] == kind.value
    assert remedy in found["remedy"]
    desk.feed.corporate_actions.append(CorporateAction(kind, "AAA", value, at))
    for _ in range(2):
        assert listed() == []
    later = SESSIONS.next(NEXT)
    desk.feed.bars.update(flat_feed(NAMES, days=[later]).bars)
    desk.clock.at = SESSIONS.close_utc(later) + timedelta(hours=1)
    with desk.engine() as engine:
        (nav,) = engine.update_positions("acct").values()
        assert engine.reconcile("acct", later) == ()
    assert (nav.holdings.positions.get("AAA", D(0)), nav.holdings.cash) == (shares, cash)
    assert rows(desk.url, "select * from execution.nav order by session")[:-1] == struck
    assert rows(desk.url, "select count(*) from execution.entries where kind = %s", kind.value) == [(1,)]


def test_an_order_that_no_search_can_find_is_settled_by_a_person(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(OPEN + timedelta(hours=1))
    venue = VenueBroker("acct", clock, Guarantee.NOTHING, ["lost", "dropped"])
    desk = desk_of(database_url, tmp_path, monkeypatch, venue)
    desk.clock = clock
    batch = store_plan(
        desk.url, "acct", [("AAA", Side.BUY, D(7)), ("BBB", Side.BUY, D(7))], order_type=OrderType.MARKET
    )
    venue.hidden.update(order_ids(batch))
    desk.execute(batch)
    assert set(desk.states(batch).values()) == {"unknown"}
    venue.executed = [Fill("f1", "", "AAA", Side.BUY, D(7), D(100), D(0), CLOSE - timedelta(hours=2))]
    first, second = (order_ids(batch)[number] for number in (0, 1))
    settle = ("settle", first, "--by", "Ann Example", "--reason", "statement of the day", "--yes", "--as")
    assert "name the broker's fills with --fill" in say(orders_command.orders, *settle, "filled")
    assert "no such fill" in say(orders_command.orders, *settle, "filled", "--fill", "f2")
    told = say(orders_command.orders, *settle, "filled", "--fill", "f1")
    assert "the broker's fill f1: 7 at 100" in told
    assert "AAA may be traded again" in told
    assert "no open order" in say(orders_command.orders, *settle, "filled", "--fill", "f1")
    again = ("settle", second, "--as", "expired", "--reason", "not on the statement", "--yes")
    assert "BBB may be traded again" in say(orders_command.orders, *again)
    assert desk.states(batch) == {"AAA": "filled", "BBB": "expired"}
    assert rows(desk.url, "select fill_id, client_order_id from execution.fills") == [("f1", first)]
    with desk.engine() as engine:
        assert engine.reconcile("acct", EXECUTED) == ()
    assert rows(desk.url, "select count(*) from audit.log where kind = 'settled.order'") == [(2,)]


@dataclass
class Forgotten:
    """A venue that tells no more of any order once its day is over; by ``late``, nothing yet."""

    inner: VenueBroker
    late: bool
    is_over: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        if self.is_over and self.late:
            raise NotToldYetError("the reports do not cover it")
        return None if self.is_over else self.inner.orders[client_order_id][0]

    def fills(self, since: datetime | None = None) -> list[Fill]:
        return list(self.inner.executed)

    def statement(self, since: datetime | None = None) -> Book:
        return Book("acct", D(0), {}, tuple(self.inner.executed), ())


@pytest.mark.parametrize("late", [False, True])
def test_an_accepted_order_that_the_venue_tells_no_more_of_is_settled_once_it_is_past_its_end(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    clock = ManualClock(OPEN + timedelta(hours=1))
    venue = VenueBroker("acct", clock, Guarantee.SEARCHABLE_TAG)
    broker: Any = Forgotten(venue, late)
    desk = desk_of(database_url, tmp_path, monkeypatch, broker)
    desk.clock = clock
    batch = store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(4))])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "r")
        engine.send(batch.batch_id, "r")
    assert desk.states(batch) == {"AAA": "accepted", "BBB": "accepted"}
    first, second = order_ids(batch)
    settle = ("--by", "Ann Example", "--reason", "not on the statement", "--yes", "--as", "expired")
    assert "may fill until" in say(orders_command.orders, "settle", first, *settle)
    clock.at = SESSIONS.open_utc(NEXT) + timedelta(hours=1)
    told = say(orders_command.orders, "settle", first, *settle)
    assert "is accepted by what the broker says of it, 0 of 10 filled" in told
    broker.is_over = True
    part = Fill("f1", first, "AAA", Side.BUY, D(3), D(100), D(0), CLOSE - timedelta(hours=2))
    venue.executed = [part, replace(part, fill_id="f2", client_order_id="", quantity=D(7))]
    say(orders_command.orders, "cancel", second)
    filled = (*settle[:-1], "filled")
    assert "waits for 7 shares" in say(orders_command.orders, "settle", first, *filled)
    assert desk.states(batch) == {"AAA": "partially_filled", "BBB": "pending_cancel"}
    assert "AAA may be traded again" in say(orders_command.orders, "settle", first, *filled, "--fill", "f2")
    assert "BBB may be traded again" in say(orders_command.orders, "settle", second, *settle)
    assert desk.states(batch) == {"AAA": "filled", "BBB": "expired"}
    assert "no open order" in say(orders_command.orders, "settle", second, *settle)
    noted = rows(desk.url, "select subject, payload::jsonb ->> 'by', payload::jsonb ->> 'reason' from audit.log "
                 "where kind = 'settled.order' order by seq")  # fmt: skip
    assert noted == [(name, "Ann Example", "not on the statement") for name in (first, second)]
    assert rows(desk.url, "select count(*) from execution.attempts where status <> 'done'") == [(0,)]
    assert verify(desk.url, desk.anchor).ok
