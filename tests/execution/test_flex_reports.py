"""Interactive Brokers' Flex reports over a real socket: patience, what each record means, and IB's book with them."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    D,
    Desk,
    ManualClock,
    flat_feed,
    order_ids,
    rows,
    store_plan,
)
from flex_venue import QUERY, TOKEN, FlexVenue
from ib_venue import NUMBER, OPTION, IbVenue, Order

from octopus.core.orders import OrderType, Side, TradingState
from octopus.execution.book import EntryKind
from octopus.execution.reconcile import BreakKind
from octopus.execution.states import OrderState
from resources.brokers.base import BrokerError, BrokerUnavailableError, LateTellingBroker, NotToldYetError, OrderRequest
from resources.brokers.flex import PERIOD, FlexReport, FlexReports, read_report
from resources.brokers.ib import IbBroker, Security
from resources.execution_engine import EngineSettings
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.order_store import OrderStore

NOON = OPEN + timedelta(hours=1)
MONTH = timedelta(days=30)
NEXT = SESSIONS.next(EXECUTED)
SOLD = "20221227;101500"


@pytest.fixture
def flex() -> Iterator[FlexVenue]:
    with FlexVenue() as served:
        yield served


@pytest.fixture
def venue() -> Iterator[IbVenue]:
    with IbVenue() as served:
        yield served


def reports_of(flex: FlexVenue, **changes: Any) -> FlexReports:
    access = Access(timeout_s=1.0, patience=Patience(attempts=1, total_s=0))
    terms: dict[str, Any] = {"address": flex.url, "access": access, "sleep": lambda _s: None, "now": lambda: NOON}
    return FlexReports(TOKEN, QUERY, SESSIONS, **{**terms, **changes})


def broker_at(venue: IbVenue, flex: FlexVenue, **changes: Any) -> IbBroker:
    now = changes.pop("now", lambda: NOON)
    broker = IbBroker("acct", port=venue.port, connect_s=1.0, answer_s=0.4, reports=reports_of(flex, now=now), now=now)
    return replace(broker, **changes)


def names(category: str, contract_id: int, symbol: str, _currency: str) -> str:
    return symbol if category == "STK" else f"{category}:{contract_id}"


def read(flex: FlexVenue) -> FlexReport:
    return read_report(ElementTree.fromstring(flex.report()), NUMBER, SESSIONS, names)


# -- the service -------------------------------------------------------------------------------------------------------


def test_a_report_is_waited_for_as_the_service_asks_and_asked_for_once_a_day(flex):
    waits: list[float] = []
    flex.script = ["1001", "1018", "drop", "ok", "1019", "cut", "html", "doctype", "ok"]
    now = ManualClock(NOON)
    reports = reports_of(flex, sleep=waits.append, now=now.now)
    assert reports.latest(NUMBER, names).cash == D(100_000)
    assert waits == [6, 60, 6, 6, 6, 6, 6, 6]
    assert (flex.asked["/SendRequest"], flex.asked["/GetStatement"]) == (4, 5)
    assert flex.seen["User-Agent"].startswith("Octopus/")
    reports.latest(NUMBER, names)
    assert flex.asked.total() == 9
    # The next day its newest day is not yesterday: it is asked for again, yet not at once each time.
    now.at += timedelta(days=1)
    reports.latest(NUMBER, names)
    reports.latest(NUMBER, names)
    assert flex.asked.total() == 11


@pytest.mark.parametrize("fault", ["1019", "1018", "html", "cut", "drop"])
def test_patience_with_a_report_ends(flex, fault):
    flex.script = ["ok", *[fault] * 100]
    with pytest.raises(BrokerUnavailableError, match="no Flex report after 30 s") as caught:
        reports_of(flex, patience_s=30.0).latest(NUMBER, names)
    assert TOKEN not in str(caught.value) + repr(caught.value.__cause__) + repr(reports_of(flex))


def test_no_log_ever_holds_the_token(flex, caplog):
    """It stands in the address of each request, which urllib3 logs."""
    caplog.set_level(logging.DEBUG)
    flex.script = ["drop", "1019", "ok", "ok"]
    reports_of(flex).latest(NUMBER, names)
    assert "/SendRequest?t=(hidden)&q=" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("changes", "script", "words"),
    [
        ({"token": "FLEX-TOKEN-2"}, [], "1015: Token is invalid.; give the token"),
        ({"query": "1"}, [], "1014: Query is invalid.; give the number"),
        ({}, ["1012"], "1012: Token has expired.; make a new token"),
        ({}, ["ok", "1017"], "1017: Invalid request"),
    ],
)
def test_what_no_wait_mends_is_said_at_once(flex, changes, script, words):
    flex.script = list(script)
    with pytest.raises(BrokerError, match=words) as caught:
        replace(reports_of(flex), **changes).latest(NUMBER, names)
    assert not isinstance(caught.value, BrokerUnavailableError)
    assert flex.asked.total() == max(1, len(script))
    assert "FLEX-TOKEN" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lacking": frozenset({"Transfers"})}, "lacks the section Transfers"),
        ({"lacking": frozenset({"CashReport"})}, "lacks the section CashReport"),
        ({"number": "U999"}, "0 statements of account DU1234567"),
    ],
)
def test_a_query_that_would_lose_records_is_refused(flex, changes, words):
    with pytest.raises(BrokerError, match=words):
        read(replace(flex, **changes))


# -- what its records mean ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "amount", "told", "expected"),
    [
        ("Deposits/Withdrawals", "500", {}, (EntryKind.DEPOSIT, None, D(500), "2022-12-27T12:00")),
        ("Deposits & Withdrawals", "-50", {}, (EntryKind.WITHDRAWAL, None, D(-50), "2022-12-27T12:00")),
        ("Dividends", "12", {"symbol": "AAA", "exDate": "20221220"}, (EntryKind.DIVIDEND, "AAA", D(12), "20T14:30")),
        ("Payment In Lieu Of Dividends", "3", {"symbol": "AAA"}, (EntryKind.DIVIDEND, "AAA", D(3), "27T14:30")),
        ("Withholding Tax", "-1.8", {"symbol": "AAA"}, (EntryKind.CHARGE, "AAA", D("-1.8"), "27T12:00")),
        ("Broker Interest Paid", "-7", {}, (EntryKind.CHARGE, None, D(-7), "27T12:00")),
        ("Other Fees", "-10", {}, (EntryKind.CHARGE, None, D(-10), "27T12:00")),
        ("A Kind Of Next Year", "4", {}, (EntryKind.MANUAL, None, D(4), "27T12:00")),
        ("Other Fees", "-10", {"currency": "EUR", "fxRateToBase": "1.1"}, (EntryKind.MANUAL, None, D(-11), "27T12")),
    ],
)  # fmt: skip
def test_movements_of_cash(flex, kind, amount, told, expected):
    about = {"assetCategory": "STK", "conid": 1001} if "symbol" in told else {}
    flex.move(kind, amount, **about, **told)
    flex.move(kind, amount, **about, **told, levelOfDetail="SUMMARY")
    (entry,) = read(flex).entries
    assert (entry.kind, entry.instrument, entry.cash) == expected[:3]
    assert expected[3] in entry.at.isoformat()
    assert kind in entry.note


def test_corporate_actions_and_transfers(flex):
    flex.act("FS", "AAA", "10", "20221227", actionDescription="AAA SPLIT 2 FOR 1")
    flex.act("IC", "BBB", "-5", "20221227")
    flex.act("IC", "CCC", "5", "20221227")
    flex.act("TC", "DDD", "-5", "20221227", proceeds="250")
    flex.transfer("AAA", "7", "0", "2022-12-26")
    flex.transfer("", "0", "1000", "2022-12-26")
    told = {(one.kind, one.instrument, one.quantity, one.cash) for one in read(flex).entries}
    assert told == {
        (EntryKind.SPLIT, "AAA", D(10), D(0)), (EntryKind.SYMBOL_CHANGE, "BBB", D(-5), D(0)),
        (EntryKind.SYMBOL_CHANGE, "CCC", D(5), D(0)), (EntryKind.MANUAL, "DDD", D(-5), D(250)),
        (EntryKind.MANUAL, "AAA", D(7), D(0)), (EntryKind.DEPOSIT, None, D(0), D(1000)),
    }  # fmt: skip
    assert {one.at for one in read(flex).entries if one.kind is EntryKind.SPLIT} == {SESSIONS.open_utc(DECIDED)}


def test_trades_count_in_their_last_version_and_a_cancelled_one_does_not(flex):
    flex.trade("o-1", "AAA", "10", "100", "0a.1.01.01", SOLD, ibCommission="-1", taxes="-0.2")
    flex.trade("o-2", "BBB", "-4", "50", "0a.2.01.01", SOLD, ibCommission="-1")
    cancel = {"transactionType": "TradeCancel", "ibExecID": "", "tradeID": "", "netCash": "-199"}
    flex.trade("o-2", "BBB", "4", "50", "x.x", SOLD, **{**cancel, "origTradeID": "t-0a.2.01", "ibCommission": "1"})
    # Corrected: cancelled, and told again under the same trade with the next number.
    flex.trade("o-3", "CCC", "6", "20", "0a.3.01.01", SOLD, ibCommission="-1")
    flex.trade("o-3", "CCC", "-6", "20", "x.x", SOLD, **{**cancel, "origTradeID": "t-0a.3.01"})
    flex.trade("o-3", "CCC", "6", "21", "0a.3.01.02", SOLD)
    flex.trade("", "DDD", "1", "5", "x.x", SOLD, **{**cancel, "origTradeID": "t-before"})
    flex.trade("", "DDD", "-2", "5", "x.x", SOLD, ibExecID="", transactionType="BookTrade", netCash="10")
    flex.trade("o-1", "AAA", "10", "100", "0a.1.01.01", SOLD, levelOfDetail="ORDER")
    report = read(flex)
    told = {key: (one.fill.quantity, one.fill.price, one.fill.fees, one.number) for key, one in report.fills.items()}
    assert told == {
        "0a.1.01": (D(10), D(100), D("1.2"), 0), "0a.2.01": (D(0), D(50), D(0), 1), "0a.3.01": (D(6), D(21), D(1), 1)
    }  # fmt: skip
    assert report.fills["0a.1.01"].fill.at == datetime(2022, 12, 27, 15, 15, tzinfo=UTC)
    assert [(one.kind, one.instrument, one.quantity, one.cash) for one in report.entries] == [
        (EntryKind.MANUAL, "DDD", D(1), D(-199)), (EntryKind.MANUAL, "DDD", D(-2), D(10))
    ]  # fmt: skip


def test_an_option_trades_at_the_price_of_all_its_shares(flex):
    flex.trade("", OPTION, "-10", "2.5", "0a.1.01.01", SOLD)
    flex.trade("o-1", "AAA", "10", "100", "0a.2.01.01", SOLD)
    told = {one.fill.instrument: (one.fill.price, one.number) for one in read(flex).fills.values()}
    assert told == {"OPT:5001": (D(250), 0), "AAA": (D(100), 0)}


def test_a_report_of_any_content_is_read_or_refused(flex):
    """Attributes lost, emptied or overwritten: a report, or one error of the adapter's; nothing else."""
    flex.trade("o-1", "AAA", "10", "100", "0a.1.01.01", SOLD)
    flex.move("Dividends", "12", assetCategory="STK", symbol="AAA", conid=1001, exDate="20221220")
    flex.act("FS", "AAA", "10", "20221227")
    flex.transfer("AAA", "7", "0", "2022-12-26")
    rng, text, refusals = random.Random(7), flex.report(), []
    fields = list(re.finditer(r'(\w+)="([^"]*)"', text))
    for _ in range(600):
        field = rng.choice(fields)
        wrong = rng.choice(["", "x", "-1", "1e999", "20229999", "2022-12-27;25:61:00", "NaN", "999999999999999999999"])
        changed = text[: field.start(2)] + wrong + text[field.end(2) :]
        try:
            read_report(ElementTree.fromstring(changed), NUMBER, SESSIONS, names)
        except BrokerError as error:
            refusals.append(str(error))
    assert 50 < len(refusals) < 600
    assert not any("\n" in told for told in refusals)


# -- IB's book ---------------------------------------------------------------------------------------------------------


def test_the_book_is_tws_now_and_the_report_until_yesterday(venue, flex):
    broker = broker_at(venue, flex)
    assert isinstance(broker, LateTellingBroker)
    assert (broker.keeps, broker_at(venue, flex, reports=None).keeps) == (PERIOD, timedelta(days=1))
    flex.trade("o-0", "AAA", "3", "90", "0a.1.01.01", SOLD)
    flex.move("Other Fees", "-10")
    flex.move("Other Fees", "-10", "20221101")
    broker.submit(OrderRequest("o-1", "BBB", Side.BUY, D(4), OrderType.MARKET_ON_CLOSE, CLOSE))
    venue.fill("o-1")
    book = broker.statement(NOON - MONTH)
    assert (book.cash, dict(book.positions)) == (D(100_000) - 400, {"BBB": D(4)})
    assert [fill.client_order_id for fill in book.fills] == ["o-0", "o-1"]
    assert [entry.cash for entry in book.entries] == [D(-10)]
    assert (book.told.cash, book.told.until) == (
        D(100_000),
        datetime(2022, 12, 28, 5, tzinfo=UTC) - timedelta.resolution,
    )
    # Of today alone TWS knows everything: the report is not asked for.
    asked = flex.asked.total()
    assert [fill.client_order_id for fill in broker_at(venue, flex).fills(NOON - timedelta(hours=3))] == ["o-1"]
    assert flex.asked.total() == asked


def test_a_report_that_begins_too_late_is_refused_unless_the_account_is_younger(venue, flex):
    flex.begins = date(2022, 12, 20)
    with pytest.raises(BrokerError, match=r"begins on 2022-12-20.*365"):
        broker_at(venue, flex).statement(NOON - MONTH)
    flex.opened = "20221220"
    assert broker_at(venue, flex).statement(NOON - MONTH).told.cash == D(100_000)


def test_the_later_version_counts_whoever_tells_it(venue, flex):
    broker = broker_at(venue, flex)
    broker.submit(OrderRequest("o-1", "AAA", Side.BUY, D(4), OrderType.MARKET_ON_CLOSE, CLOSE))
    venue.fill("o-1")
    assert broker.revisions(NOON - MONTH) == ()
    venue.correct(0, D(101))
    (told,) = broker.revisions(NOON - MONTH)
    assert (told.number, told.quantity, told.price, told.reason) == (1, D(4), D(101), "corrected by IB")
    fill_id = told.fill_id
    flex.trade("o-1", "AAA", "4", "100", f"{fill_id}.01", SOLD)
    assert [fill.price for fill in broker.fills(NOON - MONTH)] == [D(101)]
    flex.trade("o-1", "AAA", "4", "102", f"{fill_id}.03", SOLD)
    late = broker_at(venue, flex)
    assert [fill.price for fill in late.fills(NOON - MONTH)] == [D(102)]
    assert [one.number for one in late.revisions(NOON - MONTH)] == [2]


def test_the_commission_of_a_trade_by_hand_is_the_reports(venue, flex):
    """TWS tells it to its master client alone."""
    venue.orders.append(Order(0, 1, 0, "BBB", "BUY", D(4), "LMT", "DAY", "", status="Submitted"))
    venue.commission = D("1.25")
    venue.fill("")
    broker = broker_at(venue, flex)
    (fill,) = broker.fills(NOON - MONTH)
    assert fill.fees == 0
    flex.trade("", "BBB", "4", "100", f"{fill.fill_id}.01", SOLD, ibCommission="-1.25")
    assert broker_at(venue, flex).fills(NOON - MONTH)[0].fees == D("1.25")


def test_securities_are_named_by_their_contract_where_it_was_given(venue, flex):
    broker = broker_at(venue, flex, contracts={"TWINS": Security(1007), "AAA": Security(77)})
    broker.submit(OrderRequest("o-1", "TWINS", Side.BUY, D(4), OrderType.MARKET_ON_CLOSE, CLOSE))
    assert venue.order("o-1").symbol == "TWIN"
    # AAA is contract 77 to us: what TWS calls AAA, contract 1001, is another security.
    venue.positions = {"AAA": D(2), "BBB": D(1)}
    assert dict(broker.snapshot().positions) == {"STK:1001": D(2), "BBB": D(1)}


@pytest.mark.parametrize(
    ("ends", "filled", "acknowledged", "expected"),
    [
        (date(2022, 12, 27), "", "9", NotToldYetError), (date(2022, 12, 28), "", None, None),
        (date(2022, 12, 28), "", "9", (OrderState.EXPIRED, D(0))),
        (date(2022, 12, 28), "4", None, (OrderState.EXPIRED, D(4))),
        (date(2022, 12, 28), "10", "9", (OrderState.FILLED, D(10))),
    ],
)  # fmt: skip
def test_what_became_of_an_order_of_the_day_before(venue, flex, ends, filled, acknowledged, expected):
    flex.ends = ends
    if filled:
        flex.trade("o-1", "AAA", filled, "100", "0a.1.01.01", "20221228;160000")
    broker = broker_at(venue, flex, now=lambda: NOON + timedelta(days=1))
    sent = OrderRequest("o-1", "AAA", Side.BUY, D(10), OrderType.MARKET_ON_CLOSE, CLOSE)
    if expected is NotToldYetError:
        with pytest.raises(NotToldYetError, match="TWS tells today's orders alone"):
            broker.past_order(sent, acknowledged)
        return
    found = broker.past_order(sent, acknowledged)
    assert (None if found is None else (found.state, found.filled_quantity)) == expected
    # On the day itself TWS's silence is an answer.
    assert broker_at(venue, flex).past_order(sent, acknowledged) is None


# -- the order path over days ------------------------------------------------------------------------------------------


def desk_at(url: str, venue: IbVenue, flex: FlexVenue, folder: Path) -> Desk:
    clock = ManualClock(NOON)
    feed = flat_feed(("AAA", "BBB"), days=(DECIDED, EXECUTED, NEXT))
    settings = EngineSettings(settle_timeout=timedelta(seconds=30), poll_interval=timedelta(seconds=15))
    desk = Desk(url, "acct", clock, feed, broker_at(venue, flex, now=clock.now), folder / "anchor", settings=settings)
    desk.open()
    flex.move("Deposits/Withdrawals", "100000")
    return desk


def test_an_order_lost_overnight_is_settled_by_the_report(
    database_url: str, venue: IbVenue, flex: FlexVenue, tmp_path: Path
) -> None:
    """Sent, the line dropped, filled in the auction, and asked for only after TWS forgot it."""
    desk = desk_at(database_url, venue, flex, tmp_path)
    batch = store_plan(database_url, "acct", [("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(4))])
    venue.script = ["accept_drop", "ok"]
    with desk.engine() as engine:
        assert engine.prepare(batch.batch_id, "run")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(IbBroker, "order", lambda *_: None)
            engine.send(batch.batch_id, "run")
    assert desk.states(batch) == {"AAA": "unknown", "BBB": "accepted"}
    ids = dict(zip(("AAA", "BBB"), order_ids(batch), strict=True))
    venue.fill(ids["AAA"])
    venue.forget()
    venue.end(ids["BBB"], "Cancelled")
    venue.forget()
    desk.clock.at = SESSIONS.open_utc(NEXT)
    with desk.engine() as engine:
        engine.collect_fills(batch.batch_id)
    assert desk.states(batch) == {"AAA": "unknown", "BBB": "accepted"}
    flex.ends, flex.cash = EXECUTED, D(99_000)
    flex.trade(ids["AAA"], "AAA", "10", "100", "0a.1.01.01", "20221228;160000")
    desk.clock.at += timedelta(hours=1)
    with desk.engine() as engine:
        engine.collect_fills(batch.batch_id)
        engine.update_positions("acct")
        assert engine.reconcile("acct", NEXT) == ()
        assert engine.bookkeeper.books.book("acct").cash == D(99_000)
    assert desk.states(batch) == {"AAA": "filled", "BBB": "expired"}
    assert venue.posts == [ids["AAA"], ids["BBB"]]


def test_a_movement_of_today_is_no_break_until_the_report_tells_of_the_day(
    database_url: str, venue: IbVenue, flex: FlexVenue, tmp_path: Path
) -> None:
    desk = desk_at(database_url, venue, flex, tmp_path)
    batch = store_plan(database_url, "acct", [("AAA", Side.BUY, D(10))])
    venue.auction = lambda at: [at.fill(o.ref) for o in at.orders if o.stands and desk.clock.now() >= CLOSE]
    venue.cash += 500
    assert desk.execute(batch).breaks == ()
    told = rows(database_url, "select session, detail from execution.reconciliation where seq = 0 order by session")
    agree = "books agree; the broker's records reach to 2022-12-28 04:59 UTC"
    assert told == [(batch.session, agree), (EXECUTED, agree)], "before the batch was sent, and after"
    # A day later it is told, and so is a fee of which the report has no record.
    flex.ends, flex.cash = EXECUTED, D(99_000) + 500 - 7
    flex.move("Deposits/Withdrawals", "500", "20221228")
    flex.trade(order_ids(batch)[0], "AAA", "10", "100", "0000e0d5.00000000.01.01", "20221228;160000")
    venue.forget()
    desk.clock.at = SESSIONS.open_utc(NEXT)
    with desk.engine() as engine:
        engine.update_positions("acct")
        (found,) = engine.reconcile("acct", NEXT)
        assert (found.kind, found.cash_effect) == (BreakKind.CASH, D(-7))
        assert "cash of 2022-12-29 04:59 UTC" in found.detail
        assert engine.bookkeeper.books.book("acct").cash == D(99_500)


@pytest.mark.parametrize("booked", [True, False])
def test_a_trade_that_ib_breaks_is_taken_back_whether_it_was_booked_or_not(
    database_url: str, venue: IbVenue, flex: FlexVenue, tmp_path: Path, booked: bool
) -> None:
    """Told again as ``.02`` of zero shares at price zero; the day after, the report cancels the trade."""
    desk = desk_at(database_url, venue, flex, tmp_path)
    batch = store_plan(database_url, "acct", [("AAA", Side.BUY, D(10))])
    (order_id,) = order_ids(batch)
    with desk.engine() as engine:
        assert engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        venue.fill(order_id)
        if booked:
            engine.poll("acct")
        venue.correct(0, D(0), D(0))
        engine.poll("acct")
        engine.update_positions("acct")
        assert engine.reconcile("acct", EXECUTED) == ()
        book = engine.bookkeeper.books.book("acct")
        assert (book.cash, dict(book.positions)) == (D(100_000), {})
    venue.forget()
    flex.ends = EXECUTED
    flex.trade(order_id, "AAA", "10", "100", "0000e0d5.00000000.01.01", "20221228;160000")
    cancel = {"transactionType": "TradeCancel", "ibExecID": "", "tradeID": "", "origTradeID": "t-0000e0d5.00000000.01"}
    flex.trade(order_id, "AAA", "-10", "100", "x.x", "20221228;160000", **cancel)
    desk.clock.at = SESSIONS.open_utc(NEXT)
    with desk.engine() as engine:
        engine.update_positions("acct")
        assert engine.reconcile("acct", NEXT) == ()
    assert rows(database_url, "select quantity, price from execution.fill_revisions") == [(D(0), D(100))]


def test_shares_that_moved_unseen_are_a_break_at_once(
    database_url: str, venue: IbVenue, flex: FlexVenue, tmp_path: Path
) -> None:
    desk = desk_at(database_url, venue, flex, tmp_path)
    venue.positions["BBB"] = D(3)
    with desk.engine() as engine:
        engine.update_positions("acct")
        (found,) = engine.reconcile("acct", EXECUTED)
        assert (found.kind, found.instrument) == (BreakKind.QUANTITY, "BBB")


def test_after_an_absence_longer_than_a_broker_keeps_a_person_looks(
    database_url: str, venue: IbVenue, flex: FlexVenue, tmp_path: Path
) -> None:
    """Back to the last comparison the broker is asked; what lies before its records halts trading, once."""
    desk = desk_at(database_url, venue, flex, tmp_path)
    asked: list[datetime] = []
    inner = desk.broker.statement

    class Watched(IbBroker):
        def statement(self, since: datetime | None = None) -> Any:
            asked.append(since)  # type: ignore[arg-type]
            return inner(since)

    desk.broker = Watched(**{**vars(desk.broker), "account_name": "acct"})
    with desk.engine() as engine:
        engine.update_positions("acct")
        assert engine.reconcile("acct", EXECUTED) == ()
    first = desk.clock.at
    for days, since in ((100, first - timedelta(days=1)), (600, None)):
        desk.clock.at = first + timedelta(days=days)
        flex.begins, flex.ends = desk.clock.at.date() - timedelta(days=365), desk.clock.at.date() - timedelta(days=1)
        with desk.engine() as engine:
            assert engine.reconcile("acct", SESSIONS.previous(desk.clock.at.date())) == ()
        assert asked[-1] == (since or desk.clock.at - PERIOD)
        with OrderStore.opened(database_url) as store:
            status = store.trading_status("acct")
        assert (status.state is TradingState.HALTED) is (since is None)
    assert "keeps records of 364 days" in status.reason
