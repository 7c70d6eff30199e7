"""Alpaca through alpaca-py over a real socket: what each answer means, and one order for one intent whatever fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alpaca_venue import AlpacaVenue
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    flat_feed,
    order_ids,
    rows,
    store_plan,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octopus.core.ids import client_order_id
from octopus.core.orders import OrderType, Side, TradingState
from octopus.execution.book import Book, CorporateAction, EntryKind, opening_entries
from octopus.execution.reconcile import reconcile
from octopus.execution.states import OrderState
from resources.brokers.alpaca import AlpacaBroker, our_symbol, venue_symbol
from resources.brokers.base import (
    BrokerError,
    BrokerUnavailableError,
    OrderRejectedError,
    OrderRequest,
    UncertainOutcomeError,
)
from resources.execution_engine import EngineSettings
from resources.halt_file import Cancellation, cancel_at_broker
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.audit_log import verify

D = Decimal
TEN = D(10)
NOON = OPEN + timedelta(hours=1)
NEXT = SESSIONS.next(EXECUTED)
QUICK = Patience(attempts=2, base_s=0.01, total_s=0.05)


@pytest.fixture
def venue() -> Iterator[AlpacaVenue]:
    with AlpacaVenue(slow_s=2.5) as served:
        served.book("CSD", net_amount="0", date="2022-12-01")
        yield served


def broker_at(venue: AlpacaVenue, **changes: Any) -> AlpacaBroker:
    access = Access(base_url=venue.url, timeout_s=2.0, patience=QUICK)
    return replace(AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=access, now=lambda: NOON), **changes)


def send(broker: AlpacaBroker, order_id: str = "o-1", quantity: Decimal = TEN, instrument: str = "AAA"):
    return broker.submit(OrderRequest(order_id, instrument, Side.BUY, quantity, OrderType.MARKET_ON_CLOSE, CLOSE))


# -- what each answer means --------------------------------------------------------------------------------------------


def test_an_accepted_order_is_an_auction_order_under_our_id(venue):
    sent = send(broker_at(venue))
    assert (sent.client_order_id, sent.state, sent.quantity) == ("o-1", OrderState.ACCEPTED, D(10))
    told = venue.orders["o-1"]
    assert (told["type"], told["time_in_force"], told["side"], D(told["qty"])) == ("market", "cls", "buy", D(10))
    early = broker_at(venue, now=lambda: OPEN - timedelta(minutes=30))
    early.submit(OrderRequest("o-2", "BRK-B", Side.SELL, D(1), OrderType.MARKET_ON_OPEN, OPEN))
    assert (venue.orders["o-2"]["time_in_force"], venue.orders["o-2"]["symbol"]) == ("opg", "BRK.B")


@pytest.mark.parametrize(
    ("order_type", "price", "field"),
    [(OrderType.MARKET, None, None), (OrderType.LIMIT, D("10.5"), "limit_price"), (OrderType.STOP, D(9), "stop_price")],
)
def test_other_orders_are_day_orders_with_their_price(venue, order_type, price, field):
    broker_at(venue).submit(OrderRequest("o-1", "AAA", Side.BUY, TEN, order_type, CLOSE, price))
    told = venue.orders["o-1"]
    assert (told["type"], told["time_in_force"]) == (order_type.value, "day")
    assert {name: D(str(told[name])) for name in ("limit_price", "stop_price") if told[name]} == (
        {field: price} if field else {}
    )


@pytest.mark.parametrize(
    ("fault", "error", "stands"),
    [
        ("accept_504", UncertainOutcomeError, 1),
        ("accept_drop", UncertainOutcomeError, 1),
        ("accept_slow", UncertainOutcomeError, 1),
        ("html", UncertainOutcomeError, 1),
        ("drop", UncertainOutcomeError, 0),
        ("busy", BrokerUnavailableError, 0),
        ("refuse", OrderRejectedError, 0),
    ],
)
def test_a_send_is_made_once_and_comes_to_exactly_one_outcome(venue, fault, error, stands):
    venue.script = [fault]
    with pytest.raises(error, match="alpaca"):
        send(broker_at(venue))
    assert len(venue.posts) == (0 if fault == "drop" else 1)
    assert len(venue.standing()) == stands


def test_nobody_listening_is_definitely_not_sent(venue):
    broker = broker_at(venue)
    closed = replace(broker, access=replace(broker.access, base_url="http://127.0.0.1:9"))
    with pytest.raises(BrokerUnavailableError, match="not sent"):
        send(closed)


def test_a_second_send_under_one_id_gives_the_first_order(venue):
    first, second = send(broker_at(venue)), send(broker_at(venue))
    assert second == first
    assert len(venue.standing()) == 1
    with pytest.raises(OrderRejectedError, match="another order"):
        send(broker_at(venue), quantity=D(11))


def test_what_alpaca_cannot_trade_is_refused_before_it_is_sent(venue):
    with pytest.raises(OrderRejectedError, match="whole shares"):
        send(broker_at(venue), quantity=D("1.5"))
    with pytest.raises(OrderRejectedError, match="no symbol"):
        send(broker_at(venue), instrument="EUR/USD")
    with pytest.raises(OrderRejectedError, match="live on in the next session"):
        send(broker_at(venue, now=lambda: CLOSE))
    assert venue.posts == []


def test_classes_of_shares_are_spelled_both_ways():
    for ours, theirs in (("BRK-B", "BRK.B"), ("AAPL", "AAPL"), ("T", "T")):
        assert (venue_symbol(ours), our_symbol(theirs)) == (theirs, ours)


def test_an_order_is_found_by_our_id_or_is_not_there(venue):
    broker = broker_at(venue)
    assert broker.order("o-1") is None
    send(broker)
    venue.fill("o-1", D(4))
    found = broker.order("o-1")
    assert found is not None
    assert (found.state, found.filled_quantity) == (OrderState.PARTIALLY_FILLED, D(4))
    broker.cancel("o-1")
    broker.cancel("o-1")
    ended = broker.order("o-1")
    assert ended is not None
    assert (ended.state, ended.filled_quantity) == (OrderState.CANCELLED, D(4))


def test_a_cancel_that_is_refused_while_the_order_stands_is_an_error(venue, monkeypatch):
    broker = broker_at(venue)
    send(broker)
    refusal = ("ok", 422, {"code": 42210000, "message": "order is not cancelable"})
    monkeypatch.setattr(AlpacaVenue, "delete", lambda _venue, *_asked: refusal)
    with pytest.raises(BrokerError, match=r"o-1 is not cancelled: .*not cancelable; try again"):
        broker.cancel("o-1")
    for status in ("pending_cancel", "filled"):
        venue.orders["o-1"]["status"] = status
        broker.cancel("o-1")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending_new", OrderState.ACCEPTED), ("pending_cancel", OrderState.ACCEPTED), ("held", OrderState.ACCEPTED),
        ("expired", OrderState.EXPIRED), ("done_for_day", OrderState.EXPIRED), ("rejected", OrderState.REJECTED),
        ("replaced", OrderState.REPLACED), ("filled", OrderState.FILLED),
    ],
)  # fmt: skip
def test_every_status_of_alpaca_is_a_state_of_ours(venue, status, state):
    send(broker_at(venue))
    venue.end("o-1", status)
    found = broker_at(venue).order("o-1")
    assert found is not None
    assert found.state is state


def test_a_status_that_nobody_knows_is_an_error_and_no_guess(venue):
    send(broker_at(venue))
    venue.end("o-1", "teleported")
    with pytest.raises(BrokerError, match="teleported"):
        broker_at(venue).order("o-1")


def test_the_snapshot_holds_shares_cash_prices_and_open_orders(venue):
    broker = broker_at(venue, quotes=lambda names: {name: D(7) for name in names if name == "CCC"})
    send(broker, "o-1", D(10))
    venue.fill("o-1", D(4))
    venue.positions["SHRT"] = D(-3)
    seen = broker.snapshot(["AAA", "CCC", "DDD"])
    assert seen.cash == D(100_000) - 4 * 100
    assert dict(seen.positions) == {"AAA": D(4), "SHRT": D(-3)}
    assert dict(seen.prices) == {"AAA": D(100), "SHRT": D(100), "CCC": D(7)}
    assert [(o.client_order_id, o.remaining) for o in seen.open_orders] == [("o-1", D(6))]
    assert seen.taken_at == NOON


def test_a_snapshot_is_never_made_of_two_moments(venue):
    venue.moving = 1
    assert broker_at(venue).snapshot().positions == {"MOVE": D(1)}
    venue.moving = 99
    with pytest.raises(BrokerError, match="changed"):
        broker_at(venue).snapshot()


def test_prices_that_move_between_two_reads_are_no_fills(venue):
    venue.tick, venue.positions = D("0.01"), {"AAA": D(10), "BBB": D(-4)}
    seen = broker_at(venue).snapshot()
    assert (dict(seen.positions), dict(seen.prices)) == (venue.positions, dict.fromkeys(venue.positions, D("100.02")))
    assert broker_at(venue).statement().positions == venue.positions


def enter_by_hand(venue: AlpacaVenue, name: str = "by-hand", **terms: Any) -> None:
    send(broker_at(venue), name)
    venue.orders[name] |= terms


FOR_MONEY = {"qty": None, "notional": "500"}
UNREADABLE = ({"status": "teleported"}, {"symbol": None, "side": None}, {"side": "borrow"}, {"qty": "many"}, FOR_MONEY)


@pytest.mark.parametrize("terms", [*UNREADABLE, {"client_order_id": None}])
def test_a_kill_switch_cancels_ours_whatever_a_person_has_entered(venue, terms):
    ours = client_order_id("b1-AAA")
    send(broker_at(venue), ours)
    enter_by_hand(venue, **terms)
    venue.combine("spread", ("AAPL241213C00250000", "buy", 3), ("AAPL241213C00260000", "sell", 1))
    assert cancel_at_broker(broker_at(venue)) == Cancellation((ours,))
    assert [venue.orders[name]["status"] == "canceled" for name in (ours, "by-hand")] == [True, False]


def test_a_kill_switch_says_which_of_our_orders_it_cannot_read(venue):
    ours = [client_order_id(f"b1-{name}") for name in NAMES]
    for name in ours:
        send(broker_at(venue), name)
    venue.orders[ours[0]]["side"] = "borrow"
    cancelled = cancel_at_broker(broker_at(venue))
    assert cancelled.asked == (ours[1],)
    assert "borrow" in cancelled.failed[ours[0]]


@pytest.mark.parametrize("terms", UNREADABLE)
def test_an_open_order_that_cannot_be_counted_is_named_with_what_to_do(venue, terms):
    enter_by_hand(venue, **terms)
    order_id = venue.orders["by-hand"]["id"]
    for ask in (broker_at(venue).snapshot, broker_at(venue).statement):
        with pytest.raises(
            BrokerError, match=rf"open order {order_id} cannot be counted .*cancel it at alpaca, or wait"
        ):
            ask()
    venue.orders["by-hand"] |= {"status": "expired"}
    assert broker_at(venue).snapshot().open_orders == ()


@given(
    cents=st.integers(1, 10**7), price=st.decimals("0.01", "5000", places=2), done=st.integers(0, 20),
    held=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_order_for_money_counts_as_the_whole_shares_that_what_is_left_of_it_buys(venue, cents, price, done, held):
    money, filled = D(cents) / 100, D(done) / 8
    venue.orders.clear()
    venue.positions, venue.price = {"AAA": D(5)} if held else {}, price
    spent = D(80) if filled else D(0)
    enter_by_hand(venue, qty=None, notional=str(money), filled_qty=str(filled), filled_avg_price=str(spent))
    seen = broker_at(venue, quotes=lambda names: dict.fromkeys(names, price)).snapshot()
    left = money - filled * spent
    shares = sum(one.remaining for one in seen.open_orders)
    assert shares == shares.to_integral_value() if seen.open_orders else left <= 0
    assert (shares - 1) * price < max(left, D("0.000001"))
    assert shares * price >= left


def test_legs_of_an_order_of_several_symbols_are_open_orders_of_their_own_symbols(venue):
    call, put = "AAPL241213C00250000", "AAPL241213P00260000"
    venue.combine("spread", (call, "buy", 3), (put, "sell", 1))
    assert [(one.instrument, one.side, one.remaining) for one in broker_at(venue).snapshot().open_orders] == [
        (call, Side.BUY, D(3)), (put, Side.SELL, D(1)),
    ]  # fmt: skip
    venue.orders["spread"]["legs"] = None
    with pytest.raises(BrokerError, match=f"open order {venue.orders['spread']['id']} cannot be counted"):
        broker_at(venue).snapshot()


def test_an_options_price_is_that_of_its_hundred_shares(venue):
    """In positions, costs, fills and what was corrected of them, so that cash is what they moved."""
    call = "AAPL241213C00250000"
    venue.positions, venue.price, venue.cost = {call: D(-10), "AAA": D(4)}, D("2.5"), D("2.4")
    seen = broker_at(venue).snapshot()
    assert {name: seen.positions[name] * seen.prices[name] for name in seen.positions} == {
        one["symbol"]: D(one["market_value"]) for one in venue._told_positions()
    }
    assert broker_at(venue).average_costs() == {call: D(240), "AAA": D("2.4")}
    before = venue.cash
    enter_by_hand(venue, symbol=call, qty="2", asset_class="us_option")
    venue.fill("by-hand")
    (fill,) = broker_at(venue).fills()
    assert (fill.instrument, fill.quantity, fill.price, fill.cash_flow) == (call, D(2), D(250), venue.cash - before)
    venue.activities.append({**venue.activities[-1], "id": "z", "type": "trade_correct", "price": "2.6",
                             "previous_id": fill.fill_id})  # fmt: skip
    assert (
        [one.price for one in broker_at(venue).revisions()] == [one.price for one in broker_at(venue).fills()] == [260]
    )


def test_a_blocked_account_and_a_wrong_key_say_so(venue):
    venue.status = "ACCOUNT_CLOSED"
    with pytest.raises(BrokerError, match="ACCOUNT_CLOSED"):
        broker_at(venue).snapshot()
    venue.unauthorised = True
    with pytest.raises(BrokerError, match="not authorized") as told:
        broker_at(venue).account()
    assert "SECRET" not in f"{told.value}{broker_at(venue)!r}"


def test_fills_come_once_in_order_with_our_ids_whatever_the_order_they_are_told_in(venue):
    broker = broker_at(venue)
    for number in range(3):
        send(broker, f"o-{number}", D(10))
        venue.fill(f"o-{number}", D(4))
        venue.fill(f"o-{number}")
    plain = broker.fills()
    assert [(fill.client_order_id, fill.quantity) for fill in plain] == [
        (f"o-{number}", quantity) for number in range(3) for quantity in (D(4), D(6))
    ]
    assert {fill.at for fill in plain} == {datetime(2022, 12, 28, 21, 0, 0, 123456, UTC)}
    venue.repeat_fills = venue.reverse_fills = True
    assert broker.fills() == plain


def test_hundreds_of_fills_and_orders_come_page_by_page(venue):
    broker = broker_at(venue)
    for number in range(260):
        venue.post_order({"client_order_id": f"o-{number}", "symbol": "AAA", "side": "buy", "qty": "1",
                          "type": "market", "time_in_force": "cls"})  # fmt: skip
        venue.orders[f"o-{number}"]["submitted_at"] = f"2022-12-28T15:{number // 60:02d}:{number % 60:02d}Z"
        venue.fill(f"o-{number}")
    assert {fill.client_order_id for fill in broker.fills()} == {f"o-{number}" for number in range(260)}


def test_the_statement_tells_flows_dividends_at_their_ex_session_and_fees(venue):
    venue.announcements = [{"symbol": "KO", "payable_date": "2022-12-28", "ex_date": "2022-12-01"}]
    venue.book("CSD", net_amount="500", date="2022-12-20")
    venue.book("CSW", net_amount="-200", date="2022-12-21")
    venue.book("DIV", net_amount="4.4", symbol="KO", qty="10", per_share_amount="0.44", date="2022-12-28")
    venue.book("FEE", net_amount="-0.02", date="2022-12-28", description="TAF fee")
    venue.book("SSP", symbol="KO", qty="10", net_amount="0", date="2022-12-28")
    venue.activities.append({**venue.activities[-1], "id": "x", "status": "canceled"})
    told = [(e.kind, e.instrument, e.quantity, e.cash, e.at.date()) for e in broker_at(venue).statement().entries]
    assert told[1:] == [
        (EntryKind.DIVIDEND, "KO", D(0), D("4.4"), date(2022, 12, 1)),
        (EntryKind.DEPOSIT, None, D(0), D(500), date(2022, 12, 20)),
        (EntryKind.WITHDRAWAL, None, D(0), D(-200), date(2022, 12, 21)),
        (EntryKind.CHARGE, None, D(0), D("-0.02"), date(2022, 12, 28)),
        (EntryKind.SPLIT, "KO", D(10), D(0), date(2022, 12, 28)),
    ]
    # A dividend that took effect before is no movement of the time asked for, though it was paid in it.
    since = datetime(2022, 12, 21, tzinfo=UTC)
    assert [entry.kind for entry in broker_at(venue).statement(since).entries] == [e[0] for e in told[3:]]


DIVIDEND = {"net_amount": "4.4", "symbol": "KO", "qty": "10", "per_share_amount": "0.44", "date": "2022-12-28"}
LISTS = ("/v1/corporate-actions", "/v2/corporate_actions/announcements")


def dividends(broker: AlpacaBroker) -> list[date]:
    return [entry.at.date() for entry in broker.statement().entries if entry.kind is EntryKind.DIVIDEND]


def test_the_ex_date_of_a_dividend_is_asked_for_once_and_by_another_list_where_the_first_refuses(venue):
    venue.announcements = [
        {"symbol": "KO", "payable_date": "2022-12-15", "ex_date": "2022-11-28"},
        {"symbol": "KO", "payable_date": "2022-12-28", "ex_date": "2022-12-01", "process_date": "2022-12-30"},
    ]
    venue.book("DIV", **DIVIDEND)
    broker = broker_at(venue)
    assert dividends(broker) == dividends(broker) == [date(2022, 12, 1)]
    assert [venue.asked[path] for path in LISTS] == [1, 0]
    venue.data_refused = True
    assert dividends(broker_at(venue)) == [date(2022, 12, 1)]
    venue.announcements_gone = True
    assert dividends(broker) == [date(2022, 12, 1)]
    # Dated otherwise for once it would be a break that halts trading.
    with pytest.raises(BrokerError, match="endpoint not found"):
        dividends(broker_at(venue))


def test_a_dividend_that_alpaca_has_not_announced_yet_is_looked_up_again(venue):
    venue.book("DIV", **DIVIDEND)
    broker = broker_at(venue)
    assert dividends(broker) == [date(2022, 12, 28)]
    venue.announcements = [{"symbol": "KO", "payable_date": "2022-12-28", "ex_date": "2022-12-01"}]
    assert dividends(broker) == [date(2022, 12, 1)]


@pytest.mark.parametrize("kind", ["DIVNRA", "DIVFT", "DIVTW", "DIVFEE", "DIVWH", "WH", "INTNRA", "FEE"])
def test_what_is_withheld_or_charged_is_a_charge_whatever_shares_it_was_counted_by(venue, kind):
    venue.book(kind, net_amount="-0.75", symbol="AAA", qty="10", per_share_amount="-0.075", date="2022-12-28")
    *_, entry = (one for one in broker_at(venue).statement().entries if one.instrument)
    assert (entry.kind, entry.instrument, entry.quantity, entry.cash) == (EntryKind.CHARGE, "AAA", D(0), D("-0.75"))


@pytest.mark.parametrize(
    ("kind", "quantity", "cash", "expected"),
    [
        ("MA", "-10", "1050", (EntryKind.DELISTING, D(-10), D(1050))),
        ("REORG", "10", "-1050", (EntryKind.DELISTING, D(10), D(-1050))),
        ("MA", "-10", "0", (EntryKind.MANUAL, D(-10), D(0))), ("MA", "5", "0", (EntryKind.MANUAL, D(5), D(0))),
        ("MA", "5", "12.5", (EntryKind.MANUAL, D(5), D("12.5"))),
        ("CFEE", "-0.01", "0", (EntryKind.MANUAL, D("-0.01"), D(0))),
        ("CIL", "0.5", "12.5", (EntryKind.MANUAL, D(0), D("12.5"))),
    ],
)  # fmt: skip
def test_shares_and_cash_of_mergers_move_together(venue, kind, quantity, cash, expected):
    venue.book(kind, net_amount=cash, symbol="AAA", qty=quantity, date="2022-12-28")
    *_, entry = (one for one in broker_at(venue).statement().entries if one.instrument)
    assert (entry.kind, entry.quantity, entry.cash, entry.at.date()) == (*expected, EXECUTED)


def test_a_change_of_symbol_is_one_in_both_books_and_shares_of_a_new_company_are_for_a_person(venue):
    venue.book("NC", symbol="FB", qty="-10", date="2022-06-09", description="FB is META")
    venue.book("NC", symbol="META", qty="10", date="2022-06-09", description="FB is META")
    venue.book("SPIN", symbol="GEHC", qty="3", date="2023-01-04")
    entries = [entry for entry in broker_at(venue).statement().entries if entry.instrument is not None]
    changed, named, spun = sorted(entries, key=lambda entry: (entry.at.date(), entry.quantity))
    change = CorporateAction(EntryKind.SYMBOL_CHANGE, "FB", D(1), SESSIONS.open_utc(date(2022, 6, 9)), "META")
    ours = opening_entries([change], {"FB": D(10)}, lambda _name: None, D(1))
    assert [(e.kind, e.instrument, e.quantity, e.cash, e.at) for e in (changed, named)] == [
        (e.kind, e.instrument, e.quantity, e.cash, e.at) for e in ours
    ]
    books = [Book("acct", D(0), {"META": D(10)}, (), entries) for entries in (ours, [changed, named])]
    assert reconcile(*books, ()) == ()
    assert (spun.kind, spun.instrument, spun.quantity) == (EntryKind.MANUAL, "GEHC", D(3))


def test_recorded_answers_are_understood(venue, test_data: Path):
    recorded = json.loads((test_data / "wire" / "alpaca" / "alpaca_py_mocks.json").read_text())
    by_test = {one["test"].rsplit("::", 1)[1]: one["body"] for one in recorded if "trading_client" in one["test"]}
    order = by_test["test_get_order_by_client_id"]
    venue.orders[order["client_order_id"]] = order
    found = broker_at(venue).order(order["client_order_id"])
    assert found is not None
    assert (found.state, found.quantity, found.broker_order_id) == (OrderState.ACCEPTED, D(1), order["id"])
    position = by_test["test_get_all_positions"][0]
    venue.positions[position["symbol"]] = D(position["qty"])
    assert broker_at(venue).snapshot().positions == {"AAPL": D(5)}


# -- the order path ----------------------------------------------------------------------------------------------------

NAMES = ("AAA", "BBB")
BUYS = [(name, Side.BUY, D(10)) for name in NAMES]


def desk_at(url: str, venue: AlpacaVenue, tmp_path: Path) -> Desk:
    clock = ManualClock(NOON)
    broker = broker_at(venue, now=clock.now)
    patience = EngineSettings(settle_timeout=timedelta(0))
    desk = Desk(url, "acct", clock, flat_feed(NAMES), broker, tmp_path / "audit.anchor", settings=patience)
    desk.open()
    venue.deposit()
    return desk


@pytest.mark.parametrize(
    "script",
    [
        [], ["accept_504"], ["accept_drop"], ["accept_slow"], ["html"], ["drop"], ["accept_504", "ok", "drop"],
        ["drop", "accept_drop", "accept_504"],
    ],
)  # fmt: skip
def test_one_order_for_each_intent_whatever_becomes_of_the_sends(database_url, venue, tmp_path, script):
    venue.script = list(script)
    desk = desk_at(database_url, venue, tmp_path)
    batch = store_plan(database_url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    assert sorted(venue.orders) == sorted(order_ids(batch))
    venue.fill_all()
    with desk.engine() as engine:
        assert engine.collect_fills(batch.batch_id).open_orders == ()
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert {name: D(10) for name in NAMES} == venue.positions
    assert verify(database_url, desk.anchor).ok


def test_a_busy_venue_stops_the_batch_and_the_next_attempt_sends_the_rest_once(database_url, venue, tmp_path):
    venue.script = ["ok", "busy"]
    desk = desk_at(database_url, venue, tmp_path)
    batch = store_plan(database_url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        assert "429" in engine.send(batch.batch_id, "run").stopped
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run-2")
        engine.send(batch.batch_id, "run-2")
    assert sorted(venue.orders) == sorted(order_ids(batch))


def test_orders_are_sent_and_booked_while_prices_move(database_url, venue, tmp_path):
    """Positions of the first batch are there, and each read of them tells another price."""
    venue.tick = D("0.01")
    desk = desk_at(database_url, venue, tmp_path)
    for number, (name, *_) in enumerate(BUYS):
        desk.clock.at = NOON + timedelta(minutes=number)
        made = datetime(2022, 12, 27, 22 + number, tzinfo=UTC)
        batch = store_plan(database_url, "acct", [(name, Side.BUY, D(10))], name=f"b{number}", created_at=made)
        with desk.engine() as engine:
            engine.prepare(batch.batch_id, "run")
            assert len(engine.send(batch.batch_id, "run").sent) == 1
        venue.fill_all()
        with desk.engine() as engine:
            assert engine.collect_fills(batch.batch_id).open_orders == ()
            engine.update_positions("acct")
            assert engine.reconcile("acct", EXECUTED) == ()
    assert venue.positions == dict.fromkeys(NAMES, D(10))


def test_a_partial_fill_a_rejection_after_acceptance_and_the_books_agree(database_url, venue, tmp_path):
    desk = desk_at(database_url, venue, tmp_path)
    batch = store_plan(database_url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    first, second = order_ids(batch)
    venue.fill(first, D(4))
    venue.end(first, "expired")
    venue.end(second, "rejected")
    with desk.engine() as engine:
        engine.collect_fills(batch.batch_id)
        navs = engine.update_positions("acct")
        assert engine.reconcile("acct", EXECUTED) == ()
    assert sorted(desk.states(batch).values()) == ["expired", "rejected"]
    assert navs[EXECUTED].closing == D(100_000)
    assert rows(database_url, "select instrument, quantity from execution.positions") == [
        (venue.orders[first]["symbol"], D(4))
    ]


def bought(database_url: str, venue: AlpacaVenue, tmp_path: Path) -> Desk:
    """Ten AAA, and books that agree."""
    clock = ManualClock(OPEN + timedelta(hours=1))
    venue.now = clock.now
    venue.auction = lambda at: at.fill_all() if clock.now() >= CLOSE else None
    venue.deposit()
    feed = flat_feed(("AAA",), days=(DECIDED, EXECUTED, NEXT))
    desk = Desk(database_url, "acct", clock, feed, broker_at(venue, now=clock.now), tmp_path / "anchor")
    desk.open()
    assert desk.execute(store_plan(database_url, "acct", [("AAA", Side.BUY, D(10))])).breaks == ()
    clock.at = SESSIONS.close_utc(NEXT) + timedelta(hours=1)
    return desk


def test_a_dividend_with_its_tax_withheld_halts_nothing(database_url: str, venue: AlpacaVenue, tmp_path: Path) -> None:
    desk = bought(database_url, venue, tmp_path)
    desk.feed.corporate_actions.append(CorporateAction(EntryKind.DIVIDEND, "AAA", D("0.5"), SESSIONS.open_utc(NEXT)))
    on = NEXT.isoformat()
    venue.book("DIV", net_amount="5.00", symbol="AAA", qty="10", per_share_amount="0.50", date=on)
    venue.book("DIVNRA", net_amount="-0.75", symbol="AAA", qty="10", per_share_amount="-0.075", date=on)
    with desk.engine() as engine:
        navs = engine.update_positions("acct")
        assert engine.reconcile("acct", NEXT) == ()
        assert engine.store.trading_status("acct").state is TradingState.ACTIVE
    assert (navs[NEXT].dividends, navs[NEXT].fees) == (D(5), D("0.75"))


def test_a_merger_for_cash_is_the_delisting_of_our_book(database_url: str, venue: AlpacaVenue, tmp_path: Path) -> None:
    desk = bought(database_url, venue, tmp_path)
    gone = CorporateAction(EntryKind.DELISTING, "AAA", D(105), SESSIONS.close_utc(NEXT), "merger")
    desk.feed.corporate_actions.append(gone)
    venue.book("MA", net_amount="1050.00", symbol="AAA", qty="-10", date=NEXT.isoformat(), description="cash merger")
    venue.positions["AAA"] -= 10
    with desk.engine() as engine:
        engine.update_positions("acct")
        assert engine.reconcile("acct", NEXT) == ()
        book = engine.bookkeeper.books.book("acct")
    assert (book.cash, dict(book.positions)) == (D(100_050), {})


# -- trades that are broken or corrected -------------------------------------------------------------------------------


def test_a_trade_whose_type_is_no_word_changes_none(venue):
    send(broker_at(venue))
    venue.fill("o-1")
    venue.activities[-1]["type"] = ["fill"]
    assert [fill.quantity for fill in broker_at(venue).fills()] == [TEN]


@pytest.mark.parametrize("repeat", [False, True])
def test_broken_and_corrected_trades_are_revisions_and_no_further_fills(venue, repeat):
    broker = broker_at(venue)
    for name, instrument in (("o-1", "AAA"), ("o-2", "BBB"), ("o-3", "CCC")):
        broker.submit(OrderRequest(name, instrument, Side.BUY, D(10), OrderType.MARKET_ON_CLOSE, CLOSE))
        venue.fill(name)
    ids = {fill.client_order_id: fill.fill_id for fill in broker.fills()}
    venue.repeat_fills = repeat
    venue.revise(1, D(0), D(100))
    venue.revise(2, D(10), D(98), names=False)
    venue.revise(3, D(9), D(99))
    venue.revise(6, D(8), D(97))
    told = [(one.fill_id, one.number, one.quantity, one.price, one.reason) for one in broker.revisions()]
    assert told == [
        (ids["o-1"], 1, D(0), D(100), "TRADE_BUST"), (ids["o-2"], 1, D(10), D(98), "corrected by Alpaca"),
        (ids["o-3"], 1, D(9), D(99), "corrected by Alpaca"), (ids["o-3"], 2, D(8), D(97), "corrected by Alpaca"),
    ]  # fmt: skip
    assert {(fill.client_order_id, fill.quantity, fill.price) for fill in broker.fills()} == {
        ("o-2", D(10), D(98)), ("o-3", D(8), D(97))
    }  # fmt: skip
    book = broker.statement()
    assert dict(book.positions) == {"BBB": D(10), "CCC": D(8)}
    assert book.cash == D(100_000) + sum(fill.cash_flow for fill in book.fills)
    # One that names no trade and is like two is nobody's: positions then differ, and reconciliation halts.
    broker.submit(OrderRequest("o-4", "DDD", Side.BUY, D(10), OrderType.MARKET_ON_CLOSE, CLOSE))
    venue.fill("o-4", D(5))
    venue.fill("o-4", D(5))
    venue.revise(len(venue.activities) - 1, D(0), D(100), names=False)
    assert len(broker.revisions()) == 4


@pytest.mark.parametrize("price", ["100", "0", None])
def test_the_engine_books_what_alpaca_broke(database_url: str, venue: AlpacaVenue, price: str | None) -> None:
    clock = ManualClock(OPEN + timedelta(hours=1))
    venue.auction = lambda at: at.fill_all() if clock.now() >= CLOSE else None
    desk = Desk(database_url, "acct", clock, flat_feed(("AAA", "BBB")), broker_at(venue, now=clock.now))
    desk.open()
    venue.deposit()
    batch = store_plan(database_url, "acct", [("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(4))])
    assert desk.execute(batch).breaks == ()
    place = next(n for n, one in enumerate(venue.activities) if one.get("symbol") == "AAA")
    venue.revise(place, D(0), D(100))
    venue.activities[-1]["price"] = price
    with desk.engine() as engine:
        engine.update_positions("acct")
        assert engine.reconcile("acct", EXECUTED) == ()
        assert dict(engine.bookkeeper.books.book("acct").positions) == {"BBB": D(4)}
    assert rows(database_url, "select kind from audit.log where kind like 'order.fill\\_%%'") == [
        ("order.fill_broken",)
    ]
    assert rows(database_url, "select price from execution.fill_revisions") == [(D(100),)]
