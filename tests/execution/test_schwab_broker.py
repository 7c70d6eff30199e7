"""Schwab through schwab-py over a real socket: what each answer means, and a send whose answer is lost."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from execution_support import CLOSE, EXECUTED, OPEN, SESSIONS, D, Desk, ManualClock, flat_feed, rows, store_plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schwab_venue import ACCOUNT, HASH, SchwabVenue

from octopus.core.errors import ConfigError
from octopus.core.ids import client_order_id
from octopus.core.orders import OrderType, Side
from octopus.execution.book import EntryKind
from octopus.execution.states import OrderState
from resources.brokers.base import (
    BrokerError,
    BrokerUnavailableError,
    Guarantee,
    OrderRejectedError,
    OrderRequest,
    RevisingBroker,
    TellingCosts,
    UncertainOutcomeError,
)
from resources.brokers.schwab import SchwabBroker, order_state, our_symbol, venue_symbol
from resources.execution_engine import EngineSettings
from resources.halt_file import Cancellation, cancel_at_broker
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.audit_log import verify
from resources.warehouse.order_store import OrderStore

NOON = OPEN + timedelta(hours=1)
QUICK = Patience(attempts=2, base_s=0.01, total_s=0.05)
TEN = D(10)
HOME = f"/trader/v1/accounts/{HASH}"


@pytest.fixture
def venue() -> Iterator[SchwabVenue]:
    with SchwabVenue(now=lambda: NOON, slow_s=2.5) as served:
        yield served


@pytest.fixture
def broker(venue: SchwabVenue, tmp_path: Path) -> SchwabBroker:
    """A broker whose records know every order that was sent through `send`."""
    return broker_at(venue, venue.write_token(tmp_path / "token.json"))


def broker_at(venue: SchwabVenue, token: Path, **changes: Any) -> SchwabBroker:
    access = Access(base_url=venue.url, timeout_s=2.0, patience=QUICK, sleep=lambda _s: None)
    ids: dict[str, str] = {}
    terms: dict[str, Any] = {"access": access, "now": lambda: NOON, **changes}
    return SchwabBroker("KEY", "SECRET", token, ACCOUNT, "acct", SESSIONS, lambda: ids, **terms)


def send(broker: SchwabBroker, order_id: str = "o-1", quantity: Any = TEN, instrument: str = "AAA", side=Side.BUY):
    sent = broker.submit(OrderRequest(order_id, instrument, side, quantity, OrderType.MARKET_ON_CLOSE, CLOSE))
    broker.known()[sent.broker_order_id] = order_id  # type: ignore[index]
    return sent


def only(venue: SchwabVenue) -> str:
    (order_id,) = venue.orders
    return order_id


# -- what each answer means --------------------------------------------------------------------------------------------


def test_an_accepted_order_bears_the_id_of_the_header(venue, broker):
    sent = send(broker)
    assert (sent.client_order_id, sent.broker_order_id, sent.state) == ("o-1", only(venue), OrderState.ACCEPTED)
    (told,) = venue.posts
    assert (told["orderType"], told["session"], told["duration"]) == ("MARKET_ON_CLOSE", "NORMAL", "DAY")
    leg = told["orderLegCollection"][0]
    assert (leg["instruction"], leg["quantity"], leg["instrument"]) == (
        "BUY", 10, {"assetType": "EQUITY", "symbol": "AAA"},
    )  # fmt: skip
    assert broker.guarantee is Guarantee.NOTHING


@pytest.mark.parametrize(
    ("order_type", "price", "told"),
    [
        (OrderType.MARKET_ON_OPEN, None, {"orderType": "MARKET"}), (OrderType.MARKET, None, {"orderType": "MARKET"}),
        (OrderType.LIMIT, D("10.5"), {"orderType": "LIMIT", "price": "10.5"}),
        (OrderType.STOP, D("0.1234"), {"orderType": "STOP", "stopPrice": "0.1234"}),
    ],
)  # fmt: skip
def test_other_orders_are_day_orders_with_their_price(venue, broker, order_type, price, told):
    broker.submit(OrderRequest("o-1", "AAA", Side.BUY, TEN, order_type, CLOSE, price))
    assert told.items() <= venue.posts[0].items()
    assert {"price", "stopPrice"} & venue.posts[0].keys() == {"price", "stopPrice"} & told.keys()


@pytest.mark.parametrize(
    ("held", "side", "word"),
    [
        (0, Side.BUY, "BUY"), (5, Side.BUY, "BUY"), (-10, Side.BUY, "BUY_TO_COVER"), (-4, Side.BUY, None),
        (10, Side.SELL, "SELL"), (0, Side.SELL, "SELL_SHORT"), (-3, Side.SELL, "SELL_SHORT"), (4, Side.SELL, None),
    ],
)  # fmt: skip
def test_the_word_for_an_order_follows_the_position_and_none_goes_through_zero(venue, broker, held, side, word):
    venue.positions["AAA"] = D(held)
    if word is None:
        with pytest.raises(OrderRejectedError, match="through zero"):
            send(broker, side=side)
        assert venue.posts == []
    else:
        send(broker, side=side)
        assert venue.posts[0]["orderLegCollection"][0]["instruction"] == word


@pytest.mark.parametrize(
    ("instrument", "quantity", "price", "now", "why"),
    [
        ("EUR/USD", TEN, None, NOON, "no symbol"), ("BTC-USD", TEN, None, NOON, "no symbol"),
        ("BRK/B", TEN, None, NOON, "no symbol"), ("AAA", D("1.5"), None, NOON, "whole shares"),
        ("AAA", TEN, D("10.001"), NOON, "2 decimal places"),
        ("AAA", TEN, None, CLOSE, "live on in the next session"),
    ],
)  # fmt: skip
def test_what_schwab_cannot_trade_is_refused_before_it_is_sent(venue, broker, instrument, quantity, price, now, why):
    order_type = OrderType.LIMIT if price else OrderType.MARKET
    with pytest.raises(OrderRejectedError, match=why):
        replace(broker, now=lambda: now).submit(
            OrderRequest("o-1", instrument, Side.BUY, quantity, order_type, CLOSE, price)
        )
    assert venue.posts == []


def test_classes_of_shares_are_spelled_both_ways():
    for ours, theirs in (("BRK-B", "BRK/B"), ("AAPL", "AAPL"), ("T", "T")):
        assert (venue_symbol(ours), our_symbol(theirs)) == (theirs, ours)


@pytest.mark.parametrize("fault", ["accept_504", "accept_drop", "accept_slow", "no_location"])
def test_the_order_whose_answer_was_lost_is_the_one_that_is_new_and_alike(venue, broker, fault):
    send(broker, "o-0", D(10))
    venue.orders[only(venue)]["enteredTime"] = "2022-12-28T15:29:59+0000"
    venue._enter(venue.posts[0])
    venue.script = [fault]
    sent = send(broker)
    assert sent.broker_order_id == list(venue.orders)[-1], "neither our earlier order nor the one of somebody else"
    assert (len(venue.posts), len(venue.orders)) == (2, 3)


@pytest.mark.parametrize(
    ("fault", "error", "why", "stands"),
    [
        ("drop", UncertainOutcomeError, "no new order is like it", 0),
        ("accept_late", UncertainOutcomeError, "no new order is like it", 1),
        ("twin", UncertainOutcomeError, "2 new orders are like it", 2),
        ("busy", BrokerUnavailableError, "not sent", 0), ("denied", BrokerUnavailableError, "log in again", 0),
        ("refuse", OrderRejectedError, "not permitted", 0),
    ],
)  # fmt: skip
def test_every_other_send_comes_to_exactly_one_outcome(venue, broker, fault, error, why, stands):
    venue.script = [fault]
    with pytest.raises(error, match=why):
        send(broker)
    assert len(venue.posts) == (0 if fault == "drop" else 1)
    assert len(venue.orders) == stands


@pytest.mark.parametrize(
    "other",
    [
        {"quantity": 9.0}, {"instruction": "SELL"}, {"instrument": {"symbol": "BBB", "assetType": "EQUITY"}},
        {"orderType": "MARKET"}, {"price": "10.5"},
    ],
)  # fmt: skip
def test_a_new_order_that_is_not_alike_is_not_taken_for_the_lost_one(venue, broker, other):
    def differs(body: dict[str, Any]) -> dict[str, Any]:
        (leg,) = body["orderLegCollection"]
        return body | other | {"orderLegCollection": [{name: other.get(name, told) for name, told in leg.items()}]}

    venue.script, venue.differs = ["twin"], differs
    sent = broker.submit(OrderRequest("o-1", "AAA", Side.BUY, TEN, OrderType.LIMIT, CLOSE, D("10.25")))
    ours, theirs = venue.orders
    assert sent.broker_order_id == ours, f"{theirs} is somebody else's"


def test_a_new_stop_order_at_another_price_is_not_taken_for_the_lost_one(venue, broker):
    venue.script, venue.differs = ["twin"], lambda body: body | {"stopPrice": "10.5"}
    sent = broker.submit(OrderRequest("o-1", "AAA", Side.BUY, TEN, OrderType.STOP, CLOSE, D("10.25")))
    assert sent.broker_order_id == next(iter(venue.orders))


def test_a_login_whose_file_went_away_hides_no_refusal(venue, broker, tmp_path):
    token = tmp_path / "token.json"
    venue.script = ["denied"]
    place = venue._placed

    def placed(body: dict[str, Any]) -> Any:
        token.unlink()
        return place(body)

    venue._placed = placed
    with pytest.raises(BrokerUnavailableError, match=r"not sent.*token"):
        send(broker)


def test_what_cannot_be_asked_before_a_send_is_definitely_not_sent(venue, broker, tmp_path):
    venue.refuse_busy = 9
    with pytest.raises(BrokerUnavailableError, match="not sent"):
        send(broker)
    for closed in (
        replace(broker, access=Access(base_url="http://127.0.0.1:9", patience=QUICK)),
        replace(broker, token_file=tmp_path / "none"),
    ):
        with pytest.raises(BrokerUnavailableError, match="not sent"):
            send(closed)
    assert venue.posts == []


# -- the login ---------------------------------------------------------------------------------------------------------


def test_an_expired_token_is_renewed_once_and_kept_for_its_owner_alone(venue, tmp_path):
    token = venue.write_token(tmp_path / "token.json", expired=True, age=timedelta(days=2))
    broker = broker_at(venue, token)
    before = json.loads(token.read_text())
    assert broker.account().number == ACCOUNT
    assert broker.snapshot().cash == D(100_000)
    kept = json.loads(token.read_text())
    assert (venue.renewals, kept["token"]["access_token"], kept["token"]["refresh_token"]) == (1, "access-1", "refresh")
    assert kept["creation_timestamp"] == before["creation_timestamp"]
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    left = broker.login_ends() - datetime.now(UTC)
    assert timedelta(days=4, hours=23) < left <= timedelta(days=5)


def test_a_login_that_has_ended_says_how_to_log_in_again_and_nothing_is_sent(venue, tmp_path):
    token = venue.write_token(tmp_path / "token.json", expired=True, age=timedelta(days=8))
    venue.login_expired = True
    broker = broker_at(venue, token)
    with pytest.raises(BrokerError, match=r"seven days.*log in again with `schwab-generate-token.py --token_file"):
        broker.snapshot()
    with pytest.raises(BrokerUnavailableError, match="log in again"):
        send(broker)
    assert venue.posts == []
    assert not any(part in f"{broker!r}" for part in ("SECRET", "KEY", ACCOUNT, "refresh"))


def test_a_token_that_only_our_clock_holds_for_good_is_renewed_once(venue, tmp_path):
    """Written by a computer whose clock is ahead, or here before the clock was set back."""
    token = venue.write_token(tmp_path / "token.json")
    venue.revoked.add("access-0")
    broker = broker_at(venue, token)
    broker.snapshot()
    assert json.loads(token.read_text())["token"]["expires_at"] > time.time()
    venue.revoked.add("access-1")
    send(broker)
    venue.revoked.add("access-2")
    broker.cancel("o-1")
    assert (venue.renewals, len(venue.posts)) == (3, 1)
    assert [order["status"] for order in venue.orders.values()] == ["CANCELED"]


def test_a_token_that_was_revoked_and_one_that_is_none_say_so(venue, broker, tmp_path):
    venue.revoked |= {f"access-{number}" for number in range(9)}
    with pytest.raises(BrokerError, match=r"HTTP 401.*log in again"):
        broker.snapshot()
    for content in ("", "{}", '{"creation_timestamp": 1, "token": {}}', "[]"):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ConfigError, match=r"SCHWAB_TOKEN_FILE.*log in with"):
            broker_at(venue, tmp_path / "bad.json").account()


def test_an_account_that_the_login_has_not_is_named(venue, broker):
    with pytest.raises(BrokerError, match="no account …999, but …678"):
        replace(broker, number="999").account()


# -- records -----------------------------------------------------------------------------------------------------------


def test_an_order_is_found_by_schwabs_id_alone(venue, broker):
    sent = send(broker)
    venue.fill(sent.broker_order_id, D(4))
    found = broker.order("o-1", sent.broker_order_id)
    assert found is not None
    assert (found.client_order_id, found.state, found.filled_quantity) == ("o-1", OrderState.PARTIALLY_FILLED, D(4))
    assert broker.order("o-1") == found
    assert broker.order("o-1", "4711") is None
    with pytest.raises(BrokerError, match="keeps no id of ours"):
        broker.order("o-2")


def test_what_is_left_of_an_order_is_cancelled_once(venue, broker):
    sent = send(broker)
    venue.fill(sent.broker_order_id, D(4))
    for order_id in ("o-1", "o-1"):
        broker.cancel(order_id)
    ended = broker.order("o-1")
    assert ended is not None
    assert (ended.state, ended.filled_quantity, ended.reason) == (OrderState.CANCELLED, D(4), "CANCELED")


def test_a_cancel_that_schwab_refuses_of_an_order_that_stands_is_an_error(venue, broker):
    sent = send(broker)
    venue.end(sent.broker_order_id, "AWAITING_MANUAL_REVIEW")
    with pytest.raises(BrokerError, match="cannot be canceled"):
        broker.cancel("o-1")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        *((status, OrderState.ACCEPTED) for status in (
            "NEW", "ACCEPTED", "WORKING", "QUEUED", "PENDING_ACTIVATION", "PENDING_ACKNOWLEDGEMENT", "PENDING_CANCEL",
            "PENDING_REPLACE", "PENDING_RECALL", "AWAITING_PARENT_ORDER", "AWAITING_CONDITION",
            "AWAITING_STOP_CONDITION", "AWAITING_MANUAL_REVIEW", "AWAITING_UR_OUT", "AWAITING_RELEASE_TIME",
        )),
        ("FILLED", OrderState.FILLED), ("CANCELED", OrderState.CANCELLED), ("REPLACED", OrderState.REPLACED),
        ("EXPIRED", OrderState.EXPIRED), ("REJECTED", OrderState.REJECTED),
    ],
)  # fmt: skip
def test_every_status_of_schwab_is_a_state_of_ours(status, state):
    assert order_state(status, D(0)) is state


def test_a_status_that_schwab_itself_calls_unknown_is_an_error_and_no_guess(venue, broker):
    venue.end(send(broker).broker_order_id, "UNKNOWN")
    with pytest.raises(BrokerError, match="'UNKNOWN'"):
        broker.order("o-1")


def test_the_snapshot_holds_shares_cash_prices_and_open_orders(venue, broker):
    sent = send(broker)
    venue.fill(sent.broker_order_id, D(4))
    venue.positions["BRK/B"] = D(-3)
    venue.quotes = {"CCC": {"quote": {"lastPrice": 7.25}}, "DDD": {"quote": {}}}
    seen = broker.snapshot(["AAA", "CCC", "DDD", "BTC-USD"])
    assert (seen.cash, seen.taken_at) == (D(100_000) - 400, NOON)
    assert dict(seen.positions) == {"AAA": D(4), "BRK-B": D(-3)}
    assert dict(seen.prices) == {"AAA": D(100), "BRK-B": D(100), "CCC": D("7.25")}
    assert [(o.client_order_id, o.remaining) for o in seen.open_orders] == [("o-1", D(6))]


def test_what_shares_cost_is_told_where_schwab_knows_it(venue, broker):
    venue.positions, venue.costs = {"AAA": D(10), "BRK/B": D(-2), "CCC": D(1)}, {"AAA": D("12.5"), "BRK/B": D(400)}
    assert isinstance(broker, TellingCosts)
    assert broker.average_costs() == {"AAA": D("12.5"), "BRK-B": D(400)}


def test_a_snapshot_is_never_made_of_two_moments(venue, broker):
    venue.moving = 1
    assert broker.snapshot().positions == {"MOVE": D(1)}
    venue.moving = 99
    with pytest.raises(BrokerError, match="changed"):
        broker.snapshot()


def test_prices_that_move_between_two_reads_are_no_fills(venue, broker):
    venue.tick, venue.positions = D("0.01"), {"AAA": D(10), "BBB": D(-4)}
    seen = broker.snapshot()
    assert dict(seen.positions) == venue.positions
    assert set(seen.prices.values()) == {D("100.03")}
    assert broker.statement().positions == venue.positions


def enter_by_hand(venue: SchwabVenue, broker: SchwabBroker, leg: dict[str, Any] | None = None, **terms: Any) -> str:
    """An order that our records do not know."""
    order_id = str(send(broker, "hand").broker_order_id)
    del broker.known()[order_id]  # type: ignore[attr-defined]
    venue.orders[order_id] |= terms
    venue.orders[order_id]["orderLegCollection"][0] |= leg or {}
    return order_id


FUND = {"instruction": "EXCHANGE", "instrument": {"assetType": "MUTUAL_FUND", "symbol": "SWPPX"}}
LONG_AGO = {"enteredTime": "2022-11-08T15:00:00+0000"}


@pytest.mark.parametrize(
    ("terms", "leg"),
    [
        ({"status": "FILLED"}, FUND), ({"status": "CANCELED"}, {"instruction": None}),
        ({"status": "UNKNOWN", **LONG_AGO}, {}),
        ({"status": "UNKNOWN", "duration": "GOOD_TILL_CANCEL", "closeTime": "2022-12-28T15:01:00+0000",
          "cancelable": False}, FUND),
    ],
)  # fmt: skip
def test_an_order_of_a_person_that_has_ended_blocks_nothing(venue, broker, terms, leg):
    send(broker)
    order_id = enter_by_hand(venue, broker, leg, **terms)
    if leg == FUND:
        part = {"legId": 1, "quantity": 10.0, "price": 50.0, "time": "2022-12-28T15:01:00+0000"}
        venue.orders[order_id]["orderActivityCollection"].append(
            {"activityType": "EXECUTION", "orderRemainingQuantity": 0.0, "executionLegs": [part]}
        )
    for told in (broker.snapshot().open_orders, broker.open_orders()):
        assert [one.client_order_id for one in told] == ["o-1"]
    assert broker.statement().fills == ()


@pytest.mark.parametrize(
    ("terms", "leg"), [({"status": "UNKNOWN"}, {}), ({}, FUND), ({"quantity": 0.0}, {}), ({"status": None}, {})]
)
def test_one_that_may_stand_and_cannot_be_read_is_named_and_a_kill_switch_passes_it_by(venue, broker, terms, leg):
    ours = client_order_id("b1-AAA")
    send(broker, ours)
    order_id = enter_by_hand(venue, broker, leg, **terms)
    for ask in (broker.snapshot, broker.statement):
        with pytest.raises(
            BrokerError, match=rf"open order {order_id} cannot be counted .*cancel it at schwab, or wait"
        ):
            ask()
    assert cancel_at_broker(broker) == Cancellation((ours,))
    assert [order["status"] == "CANCELED" for order in venue.orders.values()] == [True, False]


def test_a_kill_switch_says_which_of_our_orders_it_cannot_read(venue, broker):
    ours = [client_order_id(f"b1-{name}") for name in NAMES]
    for name in ours:
        send(broker, name)
    venue.orders[next(iter(venue.orders))]["status"] = "UNKNOWN"
    cancelled = cancel_at_broker(broker)
    assert cancelled.asked == (ours[1],)
    assert "'UNKNOWN'" in cancelled.failed[ours[0]]


AMOUNTS = st.one_of(st.just(D(0)), st.decimals(-(10**6), 10**6, places=2))


@given(
    told=st.tuples(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS),
    counts=st.tuples(*[st.booleans()] * 3),
    shares=st.integers(-9, 9),
)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cash_is_the_one_sum_of_balances_that_makes_up_the_accounts_worth(venue, broker, told, counts, shares):
    cash, *beside = told
    venue.positions, names = {"AAA": D(shares)}, ("marginBalance", "shortBalance", "moneyMarketFund")
    venue.cash = cash + sum((one for one, is_cash in zip(beside, counts, strict=True) if is_cash), D(0))
    venue.balances = {"cashBalance": float(cash), **{n: float(v) for n, v in zip(names, beside, strict=True)}}
    sums = {cash + sum(some) for size in range(4) for some in combinations([one for one in beside if one], size)}
    if not any(beside):
        assert broker.snapshot().cash == cash
    elif sum(abs(one - venue.cash) <= D("0.015") for one in sums) == 1:
        assert broker.snapshot().cash == venue.cash
    else:
        with pytest.raises(BrokerError, match="is not clear"):
            broker.snapshot()


def test_a_margin_loan_is_cash_owed_and_what_fits_no_sum_is_refused_with_every_amount(venue, broker):
    """As a program that reads Schwab's balances shows them: 55,493.41 in shares, 32,068.75 of worth."""
    venue.positions, venue.price, venue.cash = {"AAA": D(1)}, D("55493.41"), D("-23424.66")
    venue.balances = {"cashBalance": 0.0, "marginBalance": -23424.66}
    assert broker.snapshot().cash == D("-23424.66")
    venue.balances["liquidationValue"] = 32000.0
    with pytest.raises(
        BrokerError,
        match=r"cashBalance = 0, marginBalance = -23424.66 is cash is not clear: none of .*55493.41 are "
        r"liquidationValue = 32000; ask again .*settle marginBalance in the account until it is zero",
    ):
        broker.snapshot()


def test_a_cash_accounts_worth_is_told_beside_it(venue, broker):
    account = {"type": "CASH", "currentBalances": {"totalCash": 100.0, "moneyMarketFund": 40.0}}
    venue.told[HOME] = {"securitiesAccount": account, "aggregatedBalance": {"currentLiquidationValue": 140.0}}
    assert broker.snapshot().cash == D(140)
    venue.told[HOME]["aggregatedBalance"] = None
    with pytest.raises(BrokerError, match="lacks currentLiquidationValue"):
        broker.snapshot()


def test_a_restricted_account_says_so(venue, broker):
    venue.restricted = True
    with pytest.raises(BrokerError, match="closing orders"):
        broker.snapshot()


def test_fills_come_once_in_order_with_our_ids_and_fees_whatever_the_order_they_are_told_in(venue, broker):
    venue.trade_fees = D("0.02")
    for number in range(3):
        sent = send(broker, f"o-{number}")
        venue.fill(sent.broker_order_id, D(4))
        venue.fill(sent.broker_order_id)
    plain = broker.fills()
    assert sorted((fill.client_order_id, fill.quantity, fill.fees) for fill in plain) == [
        (f"o-{number}", quantity, D("0.02")) for number in range(3) for quantity in (D(4), D(6))
    ]
    venue.repeat_fills = venue.reverse_fills = True
    assert broker.fills() == plain
    assert broker.fills(NOON) == plain
    assert broker.fills(NOON + timedelta(seconds=1)) == ()


def test_an_execution_of_nobody_we_know_has_no_id_of_ours(venue, broker):
    sent = send(broker)
    venue.fill(sent.broker_order_id)
    assert [fill.client_order_id for fill in replace(broker, known=dict).fills()] == [""]


def test_thousands_of_orders_come_page_by_page(venue, broker, monkeypatch):
    monkeypatch.setattr("resources.brokers.schwab._PAGE", 3)
    for number in range(8):
        venue._enter({"orderLegCollection": [{"instruction": "BUY", "quantity": 1, "instrument": {"symbol": "AAA"}}]})
        last = venue.orders[str(1_000_000_001 + number)]
        last["enteredTime"] = f"2022-12-28T15:00:{number:02d}+0000"
    venue.fill_all()
    assert len(broker.fills()) == 8


def test_the_statement_tells_flows_dividends_at_their_ex_session_and_the_rest(venue, broker):
    stock = [{"instrument": {"assetType": "EQUITY", "symbol": "KO"}, "amount": 3.0}]
    venue.quotes = {"KO": {"fundamental": {"divPayDate": "2022-12-28T00:00:00Z", "divExDate": "2022-12-01T00:00:00Z"}}}
    venue.book("ACH_RECEIPT", D(500), time="2022-12-20T10:00:00+0000")
    venue.book("WIRE_OUT", D(-200), time="2022-12-21T10:00:00+0000")
    venue.book("ACH_RECEIPT", D(9), status="PENDING")
    venue.book("DIVIDEND_OR_INTEREST", D("4.5"), transferItems=stock)
    venue.book("DIVIDEND_OR_INTEREST", D("0.25"), time="2022-12-22T10:00:00+0000")
    venue.book("RECEIVE_AND_DELIVER", D(0), time="2022-12-23T10:00:00+0000", transferItems=stock)
    venue.book("MEMORANDUM", D(0))
    venue.fill(send(broker).broker_order_id)
    book = broker.statement()
    assert [(e.kind, e.instrument, e.quantity, e.cash, e.at.date()) for e in book.entries] == [
        (EntryKind.DIVIDEND, "KO", D(0), D("4.5"), date(2022, 12, 1)),
        (EntryKind.DEPOSIT, None, D(0), D(500), date(2022, 12, 20)),
        (EntryKind.WITHDRAWAL, None, D(0), D(-200), date(2022, 12, 21)),
        (EntryKind.CHARGE, None, D(0), D("0.25"), date(2022, 12, 22)),
        (EntryKind.MANUAL, "KO", D(3), D(0), date(2022, 12, 23)),
    ]
    assert [fill.client_order_id for fill in book.fills] == ["o-1"]
    assert broker.statement(datetime(2022, 12, 22, tzinfo=UTC)).entries == book.entries[3:]


def test_a_dividend_keeps_its_date_when_the_next_one_is_declared(venue, tmp_path):
    """For another process, too: each run of the books opens a broker of its own."""
    token = venue.write_token(tmp_path / "token.json")
    stock = [{"instrument": {"assetType": "EQUITY", "symbol": "KO"}, "amount": 3.0}]
    venue.book("DIVIDEND_OR_INTEREST", D("4.5"), transferItems=stock, time="2022-12-15T17:00:00+0000")

    def told(pay: str, ex: str) -> list[date]:
        venue.quotes = {"KO": {"fundamental": {"divPayDate": f"{pay}T00:00:00Z", "divExDate": f"{ex}T00:00:00Z"}}}
        return [entry.at.date() for entry in broker_at(venue, token).statement().entries]

    assert told("2022-12-15", "2022-12-01") == [date(2022, 12, 1)]
    assert told("2023-01-13", "2022-12-28") == [date(2022, 12, 1)]
    venue.book("DIVIDEND_OR_INTEREST", D("4.6"), transferItems=stock, time="2022-12-27T17:00:00+0000")
    assert told("2023-01-13", "2022-12-28") == [date(2022, 12, 1), date(2022, 12, 27)]
    assert told("2022-12-27", "2022-12-20") == [date(2022, 12, 1), date(2022, 12, 20)]
    assert told("2023-01-13", "2022-12-28") == [date(2022, 12, 1), date(2022, 12, 20)]
    assert stat.S_IMODE((tmp_path / "token.dividends").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("described", "amount", "kind"),
    [
        ("NRA Tax Adj", "-0.75", EntryKind.CHARGE), ("Foreign Tax Paid", "-0.75", EntryKind.CHARGE),
        ("NRA WITHHOLDING REFUND", "0.2", EntryKind.CHARGE), ("Tax withheld", "-1", EntryKind.CHARGE),
        ("Tax-exempt dividend", "4.5", EntryKind.DIVIDEND), ("Payment in lieu, short sale", "-4.5", EntryKind.DIVIDEND),
        (None, "4.5", EntryKind.DIVIDEND),
    ],
)  # fmt: skip
def test_tax_withheld_from_a_dividend_is_a_charge_and_no_smaller_dividend(venue, broker, described, amount, kind):
    stock = [{"instrument": {"assetType": "EQUITY", "symbol": "KO"}, "amount": 3.0}]
    venue.book("DIVIDEND_OR_INTEREST", D(amount), description=described, transferItems=stock)
    (entry,) = broker.statement().entries
    assert (entry.kind, entry.instrument, entry.quantity, entry.cash) == (kind, "KO", D(0), D(amount))


@pytest.mark.parametrize(
    ("moved", "cash", "kind"),
    [(-10.0, "1050", EntryKind.DELISTING), (10.0, "-1050", EntryKind.DELISTING), (5.0, "12.5", EntryKind.MANUAL)],
)
def test_shares_that_were_paid_out_are_the_delisting_of_our_book(venue, broker, moved, cash, kind):
    stock = [{"instrument": {"assetType": "EQUITY", "symbol": "KO"}, "amount": moved}]
    venue.book("RECEIVE_AND_DELIVER", D(cash), time="2022-12-28T22:00:00+0000", transferItems=stock)
    (entry,) = broker.statement().entries
    assert (entry.kind, entry.quantity, entry.cash) == (kind, D(moved), D(cash))
    assert (entry.at == SESSIONS.close_utc(date(2022, 12, 28))) == (kind is EntryKind.DELISTING)


# -- recordings --------------------------------------------------------------------------------------------------------


def recorded(test_data: Path, name: str) -> Any:
    return json.loads((test_data / "wire" / "schwab" / f"{name}.json").read_text())


@pytest.mark.testdata
def test_the_recorded_account_login_and_numbers_are_understood(venue, broker, test_data: Path):
    account, orders, numbers, token = recorded(test_data, "lean_mock_responses")
    numbers[0]["hashValue"] = HASH
    venue.told = {"/trader/v1/accounts/accountNumbers": numbers, HOME: account, f"{HOME}/orders": orders}
    assert broker.account().number == account["securitiesAccount"]["accountNumber"]
    seen = broker.snapshot()
    assert (seen.cash, dict(seen.positions), dict(seen.prices)) == (D("121.58"), {"ABC": D(2)}, {})
    assert [(f.fill_id, f.quantity, f.price) for f in broker.fills()] == [("123:2:0", D(1), D("22.22"))]
    assert token.keys() >= {"access_token", "refresh_token", "expires_in"}


@pytest.mark.testdata
def test_recorded_orders_are_understood(venue, broker, test_data: Path):
    told = {one["test"]: one["body"] for one in recorded(test_data, "schwab_py_historical_orders")}
    assert len(told) == 8
    for number, body in enumerate(told.values()):
        body["orderId"] = number * 100
        venue.orders[str(number * 100)] = body
    stock, options, three, bracket = (
        told[f"test_{name}"]
        for name in ("market_equity_order", "limit_options_order", "complex_options_order", "oco_inside_oto")
    )
    filled = broker.order("o-1", str(stock["orderId"]))
    assert filled is not None
    assert (filled.instrument, filled.state, filled.quantity) == ("FAKE", OrderState.FILLED, D(1))
    venue.told[f"{HOME}/orders"] = [*told.values()]
    by_order: dict[str, list[Any]] = {}
    for fill in broker.fills():
        by_order.setdefault(fill.fill_id.partition(":")[0], []).append(fill)
    assert [(f.price, f.quantity, f.at) for f in by_order[str(stock["orderId"])]] == [
        (D("999.99"), D(1), datetime(2021, 1, 1, 12, 1, 1, tzinfo=UTC))
    ]
    assert [(f.side, f.price) for f in by_order[str(options["orderId"])]] == [(Side.SELL, D(21))]
    assert [(f.side, f.quantity) for f in by_order[str(three["orderId"])]] == [
        (Side.BUY, D(1)), (Side.SELL, D(2)), (Side.BUY, D(1)),
    ]  # fmt: skip
    venue.told[f"{HOME}/orders"] = [bracket]
    assert [(o.instrument, o.side, o.remaining) for o in broker.snapshot().open_orders] == [
        ("BIGC_101521C60", Side.BUY, D(1)), ("BIGC_101521C60", Side.SELL, D(1)), ("BIGC_101521C60", Side.SELL, D(1)),
    ]  # fmt: skip


@pytest.mark.testdata
def test_recorded_stream_messages_are_labelled_by_the_venues_client(test_data: Path):
    from schwab.streaming import StreamClient

    fields = {
        name: getattr(StreamClient, kind) for name, kind in (
            ("CHART_EQUITY", "ChartEquityFields"), ("CHART_FUTURES", "ChartFuturesFields"),
            ("LEVELONE_EQUITIES", "LevelOneEquityFields"), ("LEVELONE_OPTIONS", "LevelOneOptionFields"),
            ("LEVELONE_FUTURES", "LevelOneFuturesFields"), ("LEVELONE_FOREX", "LevelOneForexFields"),
            ("LEVELONE_FUTURES_OPTIONS", "LevelOneFuturesOptionsFields"),
            ("SCREENER_EQUITY", "ScreenerFields"), ("SCREENER_OPTION", "ScreenerFields"),
        )
    }  # fmt: skip
    seen = set()
    for message in recorded(test_data, "schwab_py_stream_messages"):
        for service in message["body"]["data"]:
            seen.add(service["service"])
            for content in service["content"]:
                before = set(content)
                fields[service["service"]].relabel_message(content, content)
                assert before & {"key"} <= content.keys()
                assert len(content.keys() - before) >= len({name for name in before if name.isdigit()}) // 2
    assert seen == set(fields)


# -- the order path ----------------------------------------------------------------------------------------------------

NAMES = ("AAA", "BBB")


def desk_at(url: str, venue: SchwabVenue, tmp_path: Path) -> Desk:
    clock = ManualClock(NOON)
    venue.now, venue.cash = clock.now, D(0)
    venue.book("ACH_RECEIPT", D(100_000), time="2022-12-27T12:00:00+0000")

    def known() -> dict[str, str]:
        with OrderStore.opened(url) as store:
            return store.client_ids("acct")

    broker = replace(broker_at(venue, venue.write_token(tmp_path / "token.json"), now=clock.now), known=known)
    patience = EngineSettings(settle_timeout=timedelta(0))
    desk = Desk(url, "acct", clock, flat_feed(NAMES), broker, tmp_path / "anchor", settings=patience)
    desk.open()
    return desk


@pytest.mark.parametrize(
    ("script", "states"),
    [
        (["accept_504", "accept_drop"], ["expired", "rejected"]), (["no_location"], ["expired", "rejected"]),
        (["drop"], ["rejected", "unknown"]),
    ],
)  # fmt: skip
def test_what_was_found_is_booked_and_what_was_not_waits_for_a_person(database_url, venue, tmp_path, script, states):
    venue.script = list(script)
    desk = desk_at(database_url, venue, tmp_path)
    batch = store_plan(database_url, "acct", [(name, Side.BUY, TEN) for name in NAMES])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    standing = list(venue.orders)
    assert len(standing) == len(venue.posts) == (1 if script == ["drop"] else 2)
    if len(standing) == 2:
        venue.fill(standing[0], D(4))
        venue.end(standing[0], "expired")
    venue.end(standing[-1], "rejected")
    with desk.engine() as engine:
        engine.collect_fills(batch.batch_id)
        engine.update_positions("acct")
        assert engine.reconcile("acct", EXECUTED) == ()
    assert sorted(desk.states(batch).values()) == states
    assert rows(database_url, "select quantity from execution.positions") == [(D(4),)][: len(standing) - 1]
    assert verify(database_url, desk.anchor).ok


def test_orders_are_sent_and_booked_while_prices_move_and_fees_come_late(database_url, venue, tmp_path):
    venue.tick, venue.trade_fees, venue.books_late = D("0.01"), D("0.46"), True
    desk = desk_at(database_url, venue, tmp_path)
    for number, name in enumerate(NAMES):
        desk.clock.at = NOON + timedelta(minutes=number)
        made = datetime(2022, 12, 27, 22 + number, tzinfo=UTC)
        batch = store_plan(database_url, "acct", [(name, Side.BUY, TEN)], name=f"b{number}", created_at=made)
        with desk.engine() as engine:
            engine.prepare(batch.batch_id, "run")
            assert len(engine.send(batch.batch_id, "run").sent) == 1
        (order_id, *_), *_ = venue.waiting()
        venue.fill(order_id, D(4))
        venue.fill(order_id)
        with desk.engine() as engine:
            assert engine.collect_fills(batch.batch_id).open_orders == ()
    assert rows(database_url, "select distinct fees from execution.fills") == [(D(0),)]
    desk.clock.at = CLOSE + timedelta(minutes=1)
    with desk.engine() as engine:
        navs = engine.update_positions("acct")
        assert engine.reconcile("acct", EXECUTED) == ()
    venue.settle()
    for day in range(2):
        desk.clock.at = CLOSE + timedelta(hours=3, days=day)
        with desk.engine() as engine:
            navs |= engine.update_positions("acct")
            assert engine.reconcile("acct", EXECUTED) == ()
    assert rows(database_url, "select distinct number, fees from execution.fill_revisions") == [(1, D("0.46"))]
    assert rows(database_url, "select sum(fees) from execution.current_fills") == [(4 * D("0.46"),)]
    assert verify(database_url, desk.anchor).ok


def test_each_booking_of_fees_is_a_revision_of_its_fill(venue, broker):
    venue.trade_fees = D("0.02")
    sent = send(broker)
    venue.fill(sent.broker_order_id, D(4))
    venue.fill(sent.broker_order_id)
    assert isinstance(broker, RevisingBroker)
    assert [(one.number, one.fees) for one in broker.revisions()] == [(1, D("0.02"))] * 2
    venue.transactions.append({**venue.transactions[0], "activityId": 99})
    venue.transactions.reverse()
    told = {(one.fill_id, one.quantity, one.price, one.fees) for one in broker.revisions()}
    assert told == {(one.fill_id, one.quantity, one.price, one.fees) for one in broker.fills()}
    assert sorted((one.number, one.quantity, one.fees) for one in broker.revisions()) == [
        (1, D(6), D("0.02")), (2, D(4), D("0.04")),
    ]  # fmt: skip
    assert broker.revisions(NOON + timedelta(seconds=1)) == ()
