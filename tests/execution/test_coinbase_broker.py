"""Coinbase through its own client over a real socket: what each answer means, one order for one intent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from coinbase_venue import KEY, PREFIX, CoinbaseVenue, secret
from execution_support import CLOSE, D, Desk, ManualClock, flat_feed, order_ids, rows, store_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import ConfigError
from octopus.core.orders import OrderType, Side
from octopus.execution.book import EntryKind, cash_of, positions_of
from octopus.execution.corrections import Told
from octopus.execution.reconcile import BreakKind
from octopus.execution.states import OrderState
from resources.brokers import coinbase
from resources.brokers.base import (
    BrokerError,
    BrokerUnavailableError,
    OrderRejectedError,
    OrderRequest,
    TellingCosts,
    UncertainOutcomeError,
)
from resources.brokers.coinbase import CoinbaseBroker, order_state
from resources.execution_engine import EngineSettings
from resources.settling import Settler
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.audit_log import verify

LATE = CLOSE - timedelta(minutes=40)
QUICK = Patience(attempts=2, base_s=0.01, total_s=0.05)
HALF = D("0.5")


@pytest.fixture
def venue() -> Iterator[CoinbaseVenue]:
    with CoinbaseVenue(slow_s=2.5) as served:
        yield served


def broker_at(venue: CoinbaseVenue, **changes: Any) -> CoinbaseBroker:
    access = Access(base_url=venue.url, timeout_s=2.0, patience=QUICK)
    return replace(CoinbaseBroker(KEY, secret(), "acct", access=access, now=lambda: LATE), **changes)


def send(broker: CoinbaseBroker, order_id: str = "o-1", quantity: Any = HALF, instrument: str = "BTC"):
    return broker.submit(OrderRequest(order_id, instrument, Side.BUY, quantity, OrderType.MARKET, CLOSE))


# -- what each answer means --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order_type", [OrderType.MARKET, OrderType.MARKET_ON_CLOSE])
def test_a_market_order_and_one_for_the_close_go_out_at_once_under_our_id(venue, order_type):
    sent = broker_at(venue).submit(OrderRequest("o-1", "BTC", Side.SELL, HALF, order_type, CLOSE))
    told = venue.orders["o-1"]
    assert (sent.client_order_id, sent.broker_order_id, sent.state) == ("o-1", told["order_id"], OrderState.ACCEPTED)
    assert (told["product_id"], told["side"]) == ("BTC-USD", "SELL")
    assert told["order_configuration"] == {"market_market_ioc": {"base_size": "0.5"}}


def test_a_limit_order_lapses_when_its_session_ends(venue):
    broker_at(venue).submit(OrderRequest("o-1", "BTC", Side.BUY, D("1E+1"), OrderType.LIMIT, CLOSE, D("101.50")))
    (terms,) = venue.orders["o-1"]["order_configuration"].values()
    assert terms == {"base_size": "10", "limit_price": "101.5", "end_time": "2022-12-28T21:00:00Z", "post_only": False}


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ((OrderType.MARKET_ON_OPEN, CLOSE, None), "no opening auction"),
        ((OrderType.STOP, CLOSE, D(9)), "its stops become limits"),
        ((OrderType.MARKET_ON_CLOSE, CLOSE + timedelta(minutes=21), None), "exchange to 24/7"),
        ((OrderType.MARKET, LATE, None), "live on in the next session"),
        ((OrderType.LIMIT, CLOSE, D("9.999")), "steps of 0.01"),
    ],
)
def test_orders_that_the_venue_has_not_are_refused_before_they_are_sent(venue, terms, why):
    order_type, expires_at, price = terms
    with pytest.raises(OrderRejectedError, match=why):
        broker_at(venue).submit(OrderRequest("o-1", "BTC", Side.BUY, HALF, order_type, expires_at, price))
    assert venue.posts == []


def test_an_order_is_known_by_its_own_id_though_its_answer_named_another(venue):
    def of_another(status, content):
        if b"success_response" in content:
            content = content.replace(venue.orders["o-1"]["order_id"].encode(), b"x" * 36).replace(b"o-1", b"o-9")
        return status, content

    venue.garbled = of_another
    sent = send(broker_at(venue))
    assert (sent.client_order_id, sent.broker_order_id) == ("o-1", venue.orders["o-1"]["order_id"])


def test_an_answer_about_another_order_is_none(venue):
    sent = send(broker_at(venue))
    assert broker_at(venue).order("o-1", sent.broker_order_id).client_order_id == "o-1"
    theirs = sent.broker_order_id.encode()
    venue.garbled = lambda status, content: (status, content.replace(theirs, theirs[::-1]))
    with pytest.raises(BrokerError, match=r"asked for order .* it told of"):
        broker_at(venue).order("o-1", sent.broker_order_id)


@pytest.mark.parametrize(
    ("instrument", "quantity", "why"),
    [
        ("BRK-B", D(1), "no coin in USD"), ("BTC-EUR", D(1), "no coin in USD"), ("USD", D(1), "no coin in USD"),
        ("btc", D(1), "no coin in USD"), ("KO", D(1), "no product KO-USD"), ("BTC", D("0.000000001"), "steps of"),
        ("BTC", D(3401), "not between"),
    ],
)  # fmt: skip
def test_what_is_no_product_or_no_size_is_refused_before_it_is_sent(venue, instrument, quantity, why):
    with pytest.raises(OrderRejectedError, match=why):
        send(broker_at(venue), quantity=quantity, instrument=instrument)
    assert venue.posts == []


@pytest.mark.parametrize("finer", ["base_increment", "price_increment"])
def test_a_product_finer_than_our_books_is_refused_before_it_is_sent(venue, finer):
    told = venue._product("BTC") | {finer: "0.0000000001"}
    venue.told = {f"{PREFIX}/products/BTC-USD": told}
    with pytest.raises(OrderRejectedError, match=r"0\.0000000001.* finer than our books keep \(0\.00000001\)"):
        send(broker_at(venue))
    assert venue.posts == []


@pytest.mark.parametrize(
    ("fault", "error", "stands"),
    [
        ("accept_504", UncertainOutcomeError, 1), ("accept_drop", UncertainOutcomeError, 1),
        ("accept_slow", UncertainOutcomeError, 1), ("html", UncertainOutcomeError, 1),
        ("unclear", UncertainOutcomeError, 1), ("drop", UncertainOutcomeError, 0),
        ("busy", BrokerUnavailableError, 0), ("denied", BrokerUnavailableError, 0),
        ("refuse", OrderRejectedError, 0),
    ],
)  # fmt: skip
def test_a_send_is_made_once_and_comes_to_exactly_one_outcome(venue, fault, error, stands):
    venue.script = [fault]
    with pytest.raises(error, match="coinbase"):
        send(broker_at(venue))
    assert len(venue.posts) == (0 if fault == "drop" else 1)
    assert len(venue.orders) == stands


def test_a_product_that_cannot_be_asked_for_is_definitely_not_sent(venue):
    venue.refuse_busy = 9
    with pytest.raises(BrokerUnavailableError, match="not sent"):
        send(broker_at(venue))
    closed = broker_at(venue, access=Access(base_url="http://127.0.0.1:9", patience=QUICK))
    with pytest.raises(BrokerUnavailableError, match="not sent"):
        send(closed)
    assert venue.posts == []


def test_a_second_send_under_one_id_gives_the_first_order(venue):
    first, second = send(broker_at(venue)), send(broker_at(venue))
    assert second == first
    assert len(venue.orders) == 1
    for other in ({"quantity": D(1)}, {"instrument": "ETH"}):
        with pytest.raises(OrderRejectedError, match="another order"):
            send(broker_at(venue), **other)


@pytest.mark.parametrize("ahead", [timedelta(minutes=3), timedelta(minutes=-1)])
def test_a_clock_that_is_wrong_is_named_and_nothing_is_sent(venue, ahead):
    venue.ahead = ahead
    way = "behind" if ahead > timedelta(0) else "ahead of"
    with pytest.raises(BrokerError, match=rf"set this computer's clock: it is \d+ s {way} Coinbase's"):
        broker_at(venue).snapshot()
    with pytest.raises(BrokerUnavailableError, match=r"not sent.*clock"):
        send(broker_at(venue))
    assert (venue.posts, venue.unsigned) == ([], 2)


def test_a_wrong_key_says_so_and_no_key_is_ever_told(venue, caplog):
    other = secret().replace(secret()[60:80], "A" * 20)
    for wrong in (other, "no key", ""):
        with pytest.raises(ConfigError, match="COINBASE_API_SECRET") as told:
            broker_at(venue, secret=wrong).account()
        assert not wrong or wrong not in str(told.value)
    with pytest.raises(BrokerError, match="check COINBASE_API_KEY") as told:
        broker_at(venue, key="organizations/other/apiKeys/other").account()
    broker = broker_at(venue)
    broker.account()
    everything = f"{told.value}{broker!r}{caplog.text}"
    assert not any(part in everything for part in (KEY, secret(), "BEGIN", "other/apiKeys"))


def test_a_key_with_escaped_line_ends_signs_too(venue):
    told = broker_at(venue, secret=secret().replace("\n", "\\n")).account()
    assert (told.account, told.number, told.currency, told.is_paper) == ("acct", "P-1", "USD", False)


def test_an_order_is_found_by_our_id_or_by_coinbases_or_is_not_there(venue):
    broker = broker_at(venue)
    assert broker.order("o-1") is None
    assert broker.order("o-1", "nobody's") is None
    venue.page = 1
    for number in range(3):
        send(broker, f"o-{number}")
    venue.fill("o-0", D("0.2"))
    found = broker.order("o-0")
    assert found is not None
    assert (found.state, found.filled_quantity) == (OrderState.PARTIALLY_FILLED, D("0.2"))
    assert broker.order("o-0", found.broker_order_id) == found


def test_what_is_left_of_an_order_is_cancelled_once(venue):
    broker = broker_at(venue)
    send(broker)
    venue.fill("o-1", D("0.2"))
    for order_id in ("o-1", "o-1"):
        broker.cancel(order_id)
    ended = broker.order("o-1")
    assert ended is not None
    assert (ended.state, ended.filled_quantity, ended.reason) == (OrderState.CANCELLED, D("0.2"), "CANCELLED")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PENDING", OrderState.ACCEPTED), ("QUEUED", OrderState.ACCEPTED), ("CANCEL_QUEUED", OrderState.ACCEPTED),
        ("EDIT_QUEUED", OrderState.ACCEPTED), ("EXPIRED", OrderState.EXPIRED), ("FAILED", OrderState.REJECTED),
        ("CANCELLED", OrderState.CANCELLED), ("FILLED", OrderState.FILLED),
    ],
)  # fmt: skip
def test_every_status_of_coinbase_is_a_state_of_ours(venue, status, state):
    send(broker_at(venue))
    venue.end("o-1", status)
    found = broker_at(venue).order("o-1")
    assert found is not None
    assert found.state is state


def test_a_status_that_nobody_knows_is_an_error_and_no_guess(venue):
    send(broker_at(venue))
    venue.end("o-1", "UNKNOWN_ORDER_STATUS")
    with pytest.raises(BrokerError, match="UNKNOWN_ORDER_STATUS"):
        broker_at(venue).order("o-1")


def test_the_snapshot_holds_wallets_prices_and_open_orders(venue):
    broker = broker_at(venue)
    send(broker)
    venue.fill("o-1", D("0.2"))
    venue.amounts |= {"EUR": D(7), "DDD": D(0)}
    venue.page = 1
    seen = broker.snapshot(["ETH", "KO"])
    assert (seen.cash, seen.taken_at) == (D(100_000) - 20, LATE)
    assert dict(seen.positions) == {"BTC": D("0.2"), "EUR": D(7)}
    assert dict(seen.prices) == {"BTC": D(100), "ETH": D(100)}
    assert [(o.client_order_id, o.instrument, o.remaining) for o in seen.open_orders] == [("o-1", "BTC", D("0.3"))]


@pytest.mark.parametrize("begin", ["PENDING", "QUEUED", "OPEN", "EDIT_QUEUED", "CANCEL_QUEUED"])
@pytest.mark.parametrize("after", range(7))
def test_an_open_order_is_told_once_whatever_state_it_moves_to_between_two_requests(venue, begin, after):
    """OPEN cannot be asked for together with another state; the cancel of an order that is open may be queued."""
    broker = broker_at(venue)
    send(broker)
    venue.end("o-1", begin)
    asked: list[int] = []

    def move(served: CoinbaseVenue) -> None:
        asked.append(1)
        if len(asked) == after:
            served.end("o-1", "CANCEL_QUEUED" if begin == "OPEN" else "OPEN")

    venue.auction = move
    assert [(one.client_order_id, one.remaining) for one in broker.open_orders()] == [("o-1", HALF)]
    asked.clear()
    venue.end("o-1", begin)
    assert len(broker.snapshot().open_orders) == 1


def test_of_as_many_open_orders_as_coinbase_tells_there_may_be_more(venue, monkeypatch):
    """A kill switch cancels those that it is told of all the same."""
    monkeypatch.setattr(coinbase, "_MOST_OPEN", 2)
    for order_id in ("o-1", "o-2"):
        send(broker_at(venue), order_id)
    with pytest.raises(BrokerError, match="2 orders are open, and it tells of 2 at most: cancel some"):
        broker_at(venue).snapshot()
    assert len(broker_at(venue).open_orders()) == 2


def test_what_coins_cost_is_told_where_coinbase_knows_it(venue):
    venue.amounts, venue.costs = {"USD": D(5), "BTC": D(1), "ETH": D(2)}, {"USD": D(1), "BTC": D("30000.5")}
    broker = broker_at(venue, universe=("BTC-USD",))
    assert isinstance(broker, TellingCosts)
    assert broker.average_costs() == {"BTC-USD": D("30000.5")}


def test_coins_are_named_as_the_universe_names_them(venue):
    broker = broker_at(venue, universe=("BTC-USD", "ETH"))
    for number, instrument in enumerate(("BTC-USD", "ETH")):
        send(broker, f"o-{number}", instrument=instrument)
        venue.fill(f"o-{number}")
    assert set(broker.snapshot().positions) == {fill.instrument for fill in broker.fills()} == {"BTC-USD", "ETH"}
    assert set(broker.snapshot().prices) == {"BTC-USD", "ETH"}
    with pytest.raises(ConfigError, match="BTC-USD too"):
        broker_at(venue, universe=("BTC", "BTC-USD"))


def test_a_snapshot_is_never_made_of_two_moments(venue):
    venue.moving = 1
    assert broker_at(venue).snapshot().positions == {"ETH": D(1)}
    venue.moving = 99
    with pytest.raises(BrokerError, match="changed"):
        broker_at(venue).snapshot()


def test_a_key_that_may_not_trade_says_so(venue):
    venue.can_trade = False
    with pytest.raises(BrokerError, match="permission to trade"):
        broker_at(venue).snapshot()


def test_fills_come_once_in_order_with_our_ids_and_fees_whatever_the_order_they_are_told_in(venue):
    venue.fee = D("0.006")
    broker = broker_at(venue)
    for number in range(3):
        send(broker, f"o-{number}")
        venue.fill(f"o-{number}", D("0.2"))
        venue.fill(f"o-{number}")
    plain = broker.fills()
    assert sorted((fill.client_order_id, fill.quantity, fill.fees) for fill in plain) == [
        (f"o-{number}", size, size * D("0.6")) for number in range(3) for size in (D("0.2"), D("0.3"))
    ]
    assert {fill.at for fill in plain} == {datetime(2022, 12, 28, 21, 0, 0, 123456, UTC)}
    venue.page = 2
    venue.repeat_fills = venue.reverse_fills = True
    assert broker.fills() == plain
    assert broker.fills(datetime(2022, 12, 28, 21, tzinfo=UTC)) == plain
    assert broker.fills(datetime(2022, 12, 29, tzinfo=UTC)) == ()


def test_a_fill_of_more_money_than_there_is_is_an_error(venue):
    broker = broker_at(venue)
    send(broker)
    venue.fill("o-1")
    venue.executions[0]["size"] = "1e15"
    with pytest.raises(BrokerError, match="is no amount"):
        broker.fills()


def test_the_statement_tells_flows_coins_and_what_was_corrected(venue):
    broker = broker_at(venue)
    venue.book("USD", "fiat_deposit", D(500), created_at="2022-12-20T10:00:00Z")
    venue.book("USD", "fiat_withdrawal", D(-200), created_at="2022-12-21T10:00:00Z")
    venue.book("USD", "fiat_deposit", D(9), status="pending")
    venue.book("BTC", "send", D("0.25"), created_at="2022-12-22T10:00:00Z")
    venue.book("USD", "interest", D("0.02"), created_at="2022-12-23T10:00:00Z")
    send(broker)
    venue.fill("o-1")
    busted = venue.executions[0] | {"commission": "1", "trade_time": "2022-12-29T10:00:00Z"}
    venue.executions += [
        busted | {"entry_id": "e-1", "trade_type": "REVERSAL"},
        busted | {"entry_id": "e-2", "trade_type": "CORRECTION", "price": "99", "commission": "0"},
        busted | {"entry_id": "e-3", "product_id": "ETH-BTC", "price": "0.05", "side": "SELL", "commission": "0"},
    ]
    venue.page = 1
    book = broker.statement()
    assert [fill.client_order_id for fill in book.fills] == ["o-1"]
    assert [(e.kind, e.instrument, e.quantity, e.cash, e.at.date()) for e in book.entries] == [
        (EntryKind.DEPOSIT, None, D(0), D(500), date(2022, 12, 20)),
        (EntryKind.WITHDRAWAL, None, D(0), D(-200), date(2022, 12, 21)),
        (EntryKind.MANUAL, "BTC", D("0.25"), D(0), date(2022, 12, 22)),
        (EntryKind.MANUAL, None, D(0), D("0.02"), date(2022, 12, 23)),
        (EntryKind.MANUAL, "BTC", D("-0.5"), D(0), date(2022, 12, 29)),
        (EntryKind.MANUAL, None, D(0), D(51), date(2022, 12, 29)),
        (EntryKind.MANUAL, "BTC", D("0.5"), D(0), date(2022, 12, 29)),
        (EntryKind.MANUAL, None, D(0), D("-49.5"), date(2022, 12, 29)),
        (EntryKind.MANUAL, "BTC", D("0.025"), D(0), date(2022, 12, 29)),
        (EntryKind.MANUAL, "ETH", D("-0.5"), D(0), date(2022, 12, 29)),
    ]
    since = datetime(2022, 12, 23, tzinfo=UTC)
    assert [e for e in book.entries if e.at >= since] == list(broker.statement(since).entries)


ATTO = D("1e-18")
"""The last decimal that Coinbase tells."""
STEP = D("1e-8")


@settings(max_examples=25, deadline=None)
@given(
    moved=st.lists(st.integers(-(10**17), 10**18).map(lambda number: number * ATTO), max_size=6),
    sizes=st.lists(st.integers(1, 10**9).map(lambda number: number * STEP), max_size=4),
    fee=st.integers(0, 10**6).map(lambda number: D(number) / 10**8),
    price=st.integers(1, 10**7).map(lambda cents: D(cents) / 100),
)
def test_every_amount_is_one_that_a_ledger_keeps_and_wallets_are_their_sum(moved, sizes, fee, price):
    with CoinbaseVenue(fee=fee, price=price) as venue:
        broker = broker_at(venue)
        venue.amounts = {"USD": D(0)}
        venue.book("USD", "fiat_deposit", D(10**9))
        for number, size in enumerate(sizes):
            send(broker, f"o-{number}", size, "ETH")
            venue.fill(f"o-{number}")
        for amount in (*moved, max(D(0), -sum(moved))):
            venue.book("ETH", "staking_reward", amount)
        book = broker.statement()
        whole = venue.amounts["ETH"]
        commissions = {one["entry_id"]: D(one["commission"]) for one in venue.executions}
    amounts = [book.cash, *book.positions.values(), *(fill.fees for fill in book.fills)]
    amounts += [number for entry in book.entries for number in (entry.quantity, entry.cash)]
    assert all(not number % STEP for number in amounts)
    assert all(0 <= commissions[fill.fill_id] - fill.fees < STEP for fill in book.fills)
    held = book.positions.get("ETH", D(0))
    # Never more than is there, and of each record less than a step is left over.
    assert 0 <= whole - held < STEP
    assert abs(positions_of(book.fills, book.entries).get("ETH", D(0)) - held) < (len(moved) + 2) * STEP
    assert abs(cash_of(book.fills, book.entries) - book.cash) < (len(sizes) + 1) * STEP


def test_coins_finer_than_a_ledger_are_booked_once_and_leave_no_break(database_url, venue, tmp_path):
    """A commission of nine decimals is none; a reward of eighteen is a person's to book, and then the books agree."""
    venue.fee, venue.amounts = D("0.006"), {}
    venue.book("USD", "fiat_deposit", D(100_000), created_at="2022-12-27T12:00:00Z")
    clock = ManualClock(LATE)
    desk = Desk(
        database_url, "acct", clock, flat_feed(("BTC", "ETH")), broker_at(venue, now=clock.now), tmp_path / "anchor",
        settings=EngineSettings(settle_timeout=timedelta(0)),
    )  # fmt: skip
    desk.open()
    batch = store_plan(database_url, "acct", [("BTC", Side.BUY, D("0.12345678")), ("ETH", Side.BUY, D("1.5"))])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        venue.fill_all()
        engine.collect_fills(batch.batch_id)
        engine.update_positions("acct")
        assert engine.reconcile("acct", date(2022, 12, 28)) == ()
        venue.book("ETH", "staking_reward", D("0.000123456789012345"))
        settler = Settler(engine, "acct")
        (reward,) = settler.open_breaks().breaks
        assert (reward.kind, reward.quantity_effect) == (BreakKind.MANUAL_TRADE, D("0.00012345"))
        after = settler.book(reward.break_id, Told("staked", D(100)), ("BTC", "ETH"), "Ann", "staked")
        assert after is not None
        assert after.breaks == ()
        assert engine.bookkeeper.books.book("acct").positions["ETH"] == D("1.50012345")


# -- recordings --------------------------------------------------------------------------------------------------------


def recorded(test_data: Path, name: str) -> Any:
    return json.loads((test_data / "wire" / "coinbase" / "advanced_trade_nautilus" / f"{name}.json").read_text())


@pytest.mark.testdata
def test_the_recorded_account_is_understood(venue, test_data: Path):
    venue.told = {
        f"{PREFIX}/accounts": recorded(test_data, "http_accounts"),
        f"{PREFIX}/products": recorded(test_data, "http_products"),
        f"{PREFIX}/orders/historical/batch": recorded(test_data, "http_orders_list"),
        f"{PREFIX}/orders/historical/fills": recorded(test_data, "http_fills"),
        f"{PREFIX}/orders/historical/0000-000000-000000": recorded(test_data, "http_order"),
    }
    broker = broker_at(venue)
    seen = broker.snapshot(["ETH"])
    assert (seen.cash, dict(seen.positions)) == (D("10450.50"), {"BTC": D("1.23956789")})
    assert seen.prices["BTC"] == D("68925.98")
    assert [(o.client_order_id, o.remaining) for o in seen.open_orders] == [("11111-000000-000001", D("0.01"))]
    assert [(f.client_order_id, f.side, f.quantity, f.fees) for f in broker.fills()] == [
        ("11111-000000-000002", Side.SELL, D("0.0325"), D("0.50")),
        ("11111-000000-000000", Side.BUY, D("0.005"), D("1.14")),
    ]
    ended = broker.order("11111-000000-000002")
    assert ended is not None
    assert (ended.state, ended.quantity, ended.instrument) == (OrderState.FILLED, D("0.0325"), "ETH")
    standing = broker.order("11111-000000-000000", "0000-000000-000000")
    assert standing is not None
    assert (standing.state, standing.quantity) == (OrderState.PARTIALLY_FILLED, D("0.001"))


@pytest.mark.testdata
def test_every_other_recording_is_what_the_venues_client_reads(venue, test_data: Path):
    product, book, ticker = (recorded(test_data, f"http_{name}") for name in ("product", "product_book", "ticker"))
    future = recorded(test_data, "http_products_future")
    venue.told = {
        f"{PREFIX}/products/BTC-USD": product, f"{PREFIX}/product_book": book,
        f"{PREFIX}/products/BTC-USD/ticker": ticker, f"{PREFIX}/products": future,
        f"{PREFIX}/products/BTC-USD/candles": recorded(test_data, "http_candles"),
        f"{PREFIX}/cfm/balance_summary": recorded(test_data, "http_cfm_balance_summary"),
        f"{PREFIX}/cfm/positions": recorded(test_data, "http_cfm_positions"),
        f"{PREFIX}/cfm/positions/BIP-20DEC30-CDE": recorded(test_data, "http_cfm_position"),
    }  # fmt: skip
    broker = broker_at(venue)
    send(broker)
    with pytest.raises(OrderRejectedError, match="not between"):
        send(broker, quantity=D(product["base_max_size"]) + 1)
    assert not set(broker.snapshot(["BTC"]).prices), "a future is no spot product"
    with broker._client() as client:
        assert client.get_product_book("BTC-USD").to_dict()["pricebook"]["bids"][0] == book["pricebook"]["bids"][0]
        assert client.get_market_trades("BTC-USD", 10).to_dict()["best_bid"] == ticker["best_bid"]
        assert len(client.get_candles("BTC-USD", "0", "1", "ONE_HOUR").candles) == len(
            venue.told[f"{PREFIX}/products/BTC-USD/candles"]["candles"]
        )
        assert client.get_futures_balance_summary().to_dict()
        assert client.list_futures_positions().positions[0].product_id == "BIP-20DEC30-CDE"
        assert client.get_futures_position("BIP-20DEC30-CDE").position.side == "SHORT"


@pytest.mark.testdata
def test_the_streams_are_read_and_their_orders_statuses_are_known(test_data: Path):
    from coinbase.websocket import WebsocketResponse

    folder = test_data / "wire" / "coinbase" / "advanced_trade_nautilus"
    told = {path.stem: WebsocketResponse(json.loads(path.read_text())) for path in sorted(folder.glob("ws_*.json"))}
    assert len(told) == 8
    assert {name for name, message in told.items() if not message.channel} == set()
    (order,) = told["ws_user"].events[0].orders
    assert order_state(order.status, D(order.cumulative_quantity)) is OrderState.ACCEPTED


# -- the order path ----------------------------------------------------------------------------------------------------

NAMES = ("AAA", "BBB")
BUYS = [(name, Side.BUY, D("0.25")) for name in NAMES]


@pytest.mark.parametrize(
    "script",
    [[], ["accept_504", "accept_drop"], ["drop", "accept_slow", "unclear"], ["html", "ok", "accept_504", "drop"]],
)
def test_one_order_for_each_intent_and_equal_books_whatever_becomes_of_the_sends(database_url, venue, tmp_path, script):
    venue.script, venue.fee, venue.amounts = list(script), D("0.006"), {}
    venue.book("USD", "fiat_deposit", D(100_000), created_at="2022-12-27T12:00:00Z")
    clock = ManualClock(LATE)
    settings = EngineSettings(settle_timeout=timedelta(0))
    broker = broker_at(venue, now=clock.now)
    desk = Desk(database_url, "acct", clock, flat_feed(NAMES), broker, tmp_path / "anchor", settings=settings)
    desk.open()
    batch = store_plan(database_url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    assert sorted(venue.orders) == sorted(order_ids(batch))
    first, second = order_ids(batch)
    venue.fill(first, D("0.1"))
    venue.end(first, "expired")
    venue.end(second, "rejected")
    with desk.engine() as engine:
        assert engine.collect_fills(batch.batch_id).open_orders == ()
        engine.update_positions("acct")
        assert engine.reconcile("acct", date(2022, 12, 28)) == ()
    assert sorted(desk.states(batch).values()) == ["cancelled", "rejected"]
    assert rows(database_url, "select quantity from execution.positions") == [(D("0.1"),)]
    assert broker.statement().cash == D(100_000) - 10 - D("0.06")
    assert verify(database_url, desk.anchor).ok
