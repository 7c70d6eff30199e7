"""Interactive Brokers through ib_async's client over a real socket: what each message means."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from execution_support import CLOSE, OPEN, D
from ib_venue import NUMBER, OPTION, IbVenue, Order

from octopus.core.ids import client_order_id
from octopus.core.orders import Bracket, OrderType, Side
from octopus.execution.states import OrderState
from resources.brokers.base import (
    BrokerError,
    BrokerUnavailableError,
    Guarantee,
    OrderRejectedError,
    OrderRequest,
    UncertainOutcomeError,
)
from resources.brokers.ib import IbBroker, Security, _Desk, our_symbol, venue_symbol
from resources.halt_file import cancel_at_broker

TEN = D(10)
OURS, OTHER = client_order_id("one"), client_order_id("another")
NOON = OPEN + timedelta(hours=1)


@pytest.fixture
def venue() -> Iterator[IbVenue]:
    with IbVenue() as served:
        yield served


def broker_at(venue: IbVenue, **changes: Any) -> IbBroker:
    broker = IbBroker("acct", port=venue.port, connect_s=1.0, answer_s=0.3, now=lambda: NOON)
    return replace(broker, **changes)


def send(broker: IbBroker, order_id: str = "o-1", quantity: Any = TEN, instrument: str = "AAA") -> Any:
    return broker.submit(OrderRequest(order_id, instrument, Side.BUY, quantity, OrderType.MARKET_ON_CLOSE, CLOSE))


def by_hand(perm_id: int, symbol: str, action: str, quantity: int, **changes: Any) -> Order:
    """An order that a person entered in TWS."""
    return Order(0, perm_id, 0, symbol, action, D(quantity), "LMT", "DAY", "", status="Submitted", **changes)


def test_nothing_is_sent_after_the_close_for_which_it_is_meant(venue):
    """TWS would keep a day order for the next session."""
    broker = broker_at(venue, now=lambda: CLOSE)
    with pytest.raises(OrderRejectedError, match="is not sent at"):
        send(broker)
    with pytest.raises(OrderRejectedError, match="is not sent at"):
        broker.submit_bracket(OrderRequest("o-1", "AAA", Side.BUY, TEN, OrderType.MARKET, CLOSE), Bracket(D(95), None))
    assert venue.posts == []


@pytest.mark.parametrize(
    ("order_type", "price", "told"),
    [
        (OrderType.MARKET_ON_OPEN, None, ("MKT", "OPG", "", "")),
        (OrderType.MARKET_ON_CLOSE, None, ("MOC", "DAY", "", "")),
        (OrderType.MARKET, None, ("MKT", "DAY", "", "")), (OrderType.LIMIT, D("10.5"), ("LMT", "DAY", "10.5", "")),
        (OrderType.STOP, D(9), ("STP", "DAY", "", "9.0")),
    ],
)  # fmt: skip
def test_an_accepted_order_bears_our_id_and_its_terms(venue, order_type, price, told):
    broker = broker_at(venue)
    assert broker.guarantee is Guarantee.SEARCHABLE_TAG
    sent = broker.submit(OrderRequest("o-1", "BRK-B", Side.SELL, TEN, order_type, CLOSE, price))
    assert (sent.client_order_id, sent.instrument, sent.side, sent.quantity) == ("o-1", "BRK-B", Side.SELL, TEN)
    assert sent.state is OrderState.ACCEPTED
    (order,) = venue.orders
    assert (order.kind, order.tif, order.limit, order.trigger) == told
    assert (order.symbol, order.action, order.ref) == ("BRK B", "SELL", "o-1")


@pytest.mark.parametrize(
    ("fault", "error", "stands"),
    [
        ("accept_drop", UncertainOutcomeError, 1), ("silent", UncertainOutcomeError, 1),
        ("fill_drop", UncertainOutcomeError, 1), ("drop", UncertainOutcomeError, 0), ("refuse", OrderRejectedError, 0),
        ("late_reject", OrderRejectedError, 1),
    ],
)  # fmt: skip
def test_a_send_is_made_once_and_comes_to_exactly_one_outcome(venue, fault, error, stands):
    venue.script = [fault]
    with pytest.raises(error, match="ib: "):
        send(broker_at(venue))
    assert len(venue.posts) == (0 if fault == "drop" else 1)
    assert len(venue.orders) == stands
    found = broker_at(venue).order("o-1")
    assert (found is not None) is bool(stands)
    if fault == "fill_drop":
        assert (found.state, found.filled_quantity) == (OrderState.PARTIALLY_FILLED, D(5))


@pytest.mark.parametrize(
    ("after_side", "told"), [(0, b""), (0, b"BUY"), (1, b"-10"), (1, b"nan"), (2, b"-100.0"), (2, b"0"), (2, b"inf")]
)
def test_an_execution_that_makes_no_sense_is_an_error_and_no_fill(venue, after_side, told):
    """Its side, shares and price follow each other."""
    send(broker_at(venue))
    venue.fill("o-1")
    assert len(broker_at(venue).fills()) == 1

    def spoil(status: int, frame: bytes) -> tuple[int, bytes]:
        fields = frame.split(b"\0")
        if b"BOT" in fields:
            fields[fields.index(b"BOT") + after_side] = told
        return status, b"\0".join(fields)

    venue.garbled = spoil
    with pytest.raises(BrokerError, match="could not be read"):
        broker_at(venue).fills()


def test_an_answer_that_names_another_order_leaves_ours_open(venue):
    venue.garbled = lambda status, frame: (status, frame.replace(b"\0o-1\0", b"\0o-2\0"))
    with pytest.raises(UncertainOutcomeError, match="o-1 was sent, and TWS tells of"):
        send(broker_at(venue))
    assert len(venue.posts) == 1


def test_what_was_never_sent_says_so(venue):
    venue.lost = True
    with pytest.raises(BrokerUnavailableError, match="1100"):
        send(broker_at(venue))
    venue.lost, venue.refuse = False, 1
    with pytest.raises(BrokerUnavailableError, match="not sent"):
        send(broker_at(venue, connect_s=0.2))
    with pytest.raises(BrokerUnavailableError, match="logged in"):
        send(broker_at(venue, port=9))
    assert venue.posts == []


def test_a_question_that_is_too_much_for_tws_refuses_no_order(venue):
    """Only an error about the security says that there is none."""
    venue.garbled = lambda status, frame: (status, frame.replace(b"\x00200\x00No security", b"\x00100\x00Max rate: no"))
    with pytest.raises(BrokerUnavailableError, match="not sent: TWS does not say what ZZZ is: Max rate"):
        send(broker_at(venue), instrument="ZZZ")
    assert venue.posts == []


def test_an_order_whose_answer_nobody_understands_may_stand(venue, monkeypatch):
    def unknown(_desk, _order):
        raise BrokerError("ib: order status 'Elsewhere' is not known")

    with monkeypatch.context() as patch:
        patch.setattr(_Desk, "_current", unknown)
        with pytest.raises(UncertainOutcomeError, match="o-1 may stand"):
            send(broker_at(venue))
    assert venue.posts == ["o-1"]


def test_what_cannot_be_read_before_an_order_leaves_is_not_sent(venue):
    def cut(status, frame):
        return status, frame[: len(frame) // 2] if frame.startswith(b"10\x00") else frame

    venue.garbled = cut
    with pytest.raises(BrokerUnavailableError, match=r"could not be read.*o-1 is not sent"):
        send(broker_at(venue))
    venue.garbled = lambda status, frame: (status, frame)
    with pytest.raises(BrokerUnavailableError, match="not sent: the login does not manage account DU7"):
        send(broker_at(venue, number="DU7"))
    assert venue.posts == []


def test_what_names_no_single_security_is_refused_before_it_is_sent(venue):
    for instrument, words in (("ZZZ", "no security"), ("TWIN", "2 securities"), ("EUR/USD", "no symbol")):
        with pytest.raises(OrderRejectedError, match=words):
            send(broker_at(venue), instrument=instrument)
    with pytest.raises(OrderRejectedError, match="whole shares"):
        send(broker_at(venue), quantity=D("1.5"))
    assert venue.posts == []
    assert send(broker_at(venue, contracts={"TWIN": Security(1007)}), instrument="TWIN").state is OrderState.ACCEPTED


def test_classes_of_shares_are_spelled_both_ways():
    for ours, theirs in (("BRK-B", "BRK B"), ("AAPL", "AAPL"), ("T", "T")):
        assert (venue_symbol(ours), our_symbol(theirs)) == (theirs, ours)


def test_an_order_of_ours_in_another_account_is_not_taken_for_absent(venue):
    send(broker_at(venue))
    venue.garbled = lambda status, frame: (status, frame.replace(b"15\x001\x00DU1234567", b"15\x001\x00DU9999999"))
    broker = broker_at(venue)
    with pytest.raises(BrokerError, match="is an order of account 'DU1234567', not of 'DU9999999'"):
        broker.order("o-1")
    assert broker.order("o-2") is None


def test_an_order_is_followed_to_its_end_and_cancelled_once(venue):
    broker = broker_at(venue)
    assert broker.order("o-1") is None
    send(broker)
    venue.fill("o-1", D(4))
    found = broker.order("o-1")
    assert (found.state, found.filled_quantity) == (OrderState.PARTIALLY_FILLED, D(4))
    for name in ("o-1", "o-1"):
        broker.cancel(name)
    ended = broker.order("o-1")
    assert (ended.state, ended.filled_quantity) == (OrderState.CANCELLED, D(4))
    assert "Cancelled" in ended.reason


def test_two_orders_under_one_reference_are_a_persons_to_look_at(venue):
    for _ in range(2):
        send(broker_at(venue))
    with pytest.raises(BrokerError, match="bear the reference"):
        broker_at(venue).order("o-1")


@pytest.mark.parametrize(("repeat", "reverse"), [(False, False), (True, False), (True, True)])
def test_fills_come_once_in_their_latest_correction_with_their_commission(venue, repeat, reverse):
    broker = broker_at(venue)
    venue.commission, venue.repeat, venue.reverse = D("1.25"), repeat, reverse
    send(broker, OURS)
    venue.fill(OURS, D(4))
    venue.fill(OURS)
    venue.correct(0, D(101))
    told = broker.fills()
    assert [(f.client_order_id, f.quantity, f.price, f.fees) for f in told] == [
        (OURS, D(4), D(101), D("1.25")), (OURS, D(6), D(100), D("1.25"))
    ]  # fmt: skip
    assert {fill.at for fill in told} == {CLOSE}
    assert broker.order(OURS).filled_quantity == TEN
    venue.no_commission = {venue.executions[1]["id"]}
    with pytest.raises(BrokerUnavailableError, match=f"commission of .*, of {OURS}, is not told yet"):
        broker.fills()


@pytest.mark.parametrize("reverse", [False, True])
def test_a_trade_by_hand_in_tws_does_not_keep_ours_from_being_told(venue, reverse):
    """Its commission is told to the master client alone; with a combination come executions of its legs."""
    venue.commission, venue.reverse = D("1.25"), reverse
    send(broker_at(venue), OURS)
    venue.fill(OURS)
    venue.orders.append(by_hand(1, "BBB", "BUY", 1))
    venue.fill("")
    told = broker_at(venue).fills()
    assert sorted((f.client_order_id, f.instrument, f.fees) for f in told) == [("", "BBB", 0), (OURS, "AAA", D("1.25"))]
    assert broker_at(venue).revisions() == ()
    venue.master = broker_at(venue).client_id
    assert [fill.fees for fill in broker_at(venue).fills()] == [D("1.25")] * 2
    venue.garbled = lambda status, frame: (status, frame.replace(b"\x00BBB\x00STK\x00", b"\x00BBB\x00BAG\x00"))
    assert [fill.client_order_id for fill in broker_at(venue).fills()] == [OURS]


def test_every_order_that_was_entered_by_hand_is_told(venue):
    """TWS tells them all with order id 0 of client 0."""
    venue.positions = {"AAA": D(100), "BBB": D(500)}
    venue.orders = [
        by_hand(1, "AAA", "SELL", 100), by_hand(2, "BBB", "SELL", 500, filled=D(499)), by_hand(3, "AAA", "BUY", 50),
    ]  # fmt: skip
    told = [(Side.SELL, "AAA", D(100)), (Side.SELL, "BBB", D(1)), (Side.BUY, "AAA", D(50))]
    broker = broker_at(venue)
    for found in (broker.open_orders(), broker.snapshot().open_orders):
        assert [(one.side, one.instrument, one.remaining) for one in found] == told


def test_an_order_of_an_amount_of_money_counts_in_shares_where_there_is_a_price(venue):
    send(broker_at(venue), OURS)
    venue.orders.append(by_hand(1, "BBB", "BUY", 0, money=D(1050)))
    priced = broker_at(venue, quotes=lambda names: {name: D(100) for name in names if name == "BBB"})
    told = [(one.instrument, one.remaining) for one in priced.snapshot().open_orders]
    assert told == [("AAA", TEN), ("BBB", D(11))]
    with pytest.raises(BrokerError, match=r"1050 in money \(permanent id 1\) is in BBB, .*cancel it in TWS"):
        broker_at(venue).snapshot()
    assert cancel_at_broker(broker_at(venue)).asked == (OURS,)


def test_what_nobody_can_read_of_a_stranger_does_not_stop_a_kill_switch(venue):
    def unreadable(symbol: bytes) -> Any:
        told, spoiled = b"\0%b\0NMS\0BUY\0" % symbol, b"\0%b\0NMS\0LEND\0" % symbol
        return lambda status, frame: (status, frame.replace(told, spoiled))

    send(broker_at(venue), OURS)
    venue.orders.insert(0, by_hand(1, "BBB", "BUY", 1))
    venue.garbled = unreadable(b"BBB")
    with pytest.raises(BrokerError, match="could not be read"):
        broker_at(venue).snapshot()
    assert cancel_at_broker(broker_at(venue)).asked == (OURS,)
    assert venue.order(OURS).status == "Cancelled"
    # One of ours that cannot be read may stand.
    send(broker_at(venue), OTHER)
    venue.garbled = unreadable(b"AAA")
    assert "could not be read" in cancel_at_broker(broker_at(venue)).failed["ib"]


def test_a_filled_order_that_tws_tells_without_a_quantity_is_the_one_that_was_sent(venue):
    request = OrderRequest("o-1", "AAA", Side.BUY, TEN, OrderType.MARKET_ON_CLOSE, CLOSE)
    broker_at(venue).submit(request)
    venue.fill("o-1")
    found = broker_at(venue).order("o-1")
    assert (found.state, found.filled_quantity, found.is_of(request)) == (OrderState.FILLED, TEN, True)


def test_an_option_is_worth_its_multiplier(venue):
    venue.orders.append(by_hand(1, OPTION, "SELL", 10))
    venue.price = D("2.5")
    venue.fill("")
    broker = broker_at(venue)
    seen = broker.snapshot()
    assert (dict(seen.positions), dict(seen.prices)) == ({"OPT:5001": D(-10)}, {"OPT:5001": D(250)})
    assert broker.average_costs() == seen.prices
    (fill,) = broker.fills()
    assert (fill.instrument, fill.quantity * fill.price) == ("OPT:5001", seen.cash - 100_000)


def test_one_connection_at_a_time_bears_our_client_id_and_the_next_waits_for_it(venue, caplog):
    venue.taken.add(7)
    with pytest.raises(BrokerUnavailableError, match=r"not sent: client id 7 was in use .*\(326\).*broker.client_id"):
        send(broker_at(venue, busy_s=0.2))
    assert venue.posts == []
    threading.Timer(0.3, venue.taken.discard, [7]).start()
    assert send(broker_at(venue)).state is OrderState.ACCEPTED
    assert caplog.text == ""


def test_a_halt_cancels_beside_a_run_that_goes_on_asking(venue):
    for name in (OURS, OTHER):
        send(broker_at(venue), name)
    venue.slow_s, ended, failed = 0.05, threading.Event(), []

    def run() -> None:
        while not ended.is_set():
            try:
                broker_at(venue).order(OURS)
            except BrokerError as error:
                failed.append(str(error))

    worker = threading.Thread(target=run)
    worker.start()
    try:
        assert cancel_at_broker(broker_at(venue)).asked == (OURS, OTHER)
    finally:
        ended.set()
        worker.join()
    assert failed == []


def test_the_snapshot_waits_until_values_and_positions_belong_together(venue):
    broker = broker_at(venue, quotes=lambda names: {name: D(7) for name in names if name == "CCC"})
    send(broker)
    venue.fill("o-1", D(4))
    venue.stale = 2
    seen = broker.snapshot(["AAA", "CCC", "DDD"])
    assert (seen.cash, dict(seen.positions)) == (D(100_000) - 400, {"AAA": D(4)})
    assert dict(seen.prices) == {"AAA": D(100), "CCC": D(7)}
    assert [(o.client_order_id, o.remaining) for o in seen.open_orders] == [("o-1", D(6))]
    venue.stale = 99
    with pytest.raises(BrokerUnavailableError, match="differed"):
        broker.snapshot()


def test_the_account_is_the_one_that_was_named(venue):
    told = broker_at(venue).account()
    assert (told.number, told.currency, told.is_paper) == (NUMBER, "USD", True)
    venue.accounts = f"U7654321,{NUMBER}"
    with pytest.raises(BrokerError, match="name one"):
        broker_at(venue).account()
    with pytest.raises(BrokerError, match="does not manage"):
        broker_at(venue, number="U1").account()


def test_a_statement_never_claims_more_than_tws_keeps(venue):
    broker = broker_at(venue)
    assert broker.statement(NOON - timedelta(hours=3)).cash == D(100_000)
    with pytest.raises(BrokerError, match="keeps"):
        broker.statement(NOON - timedelta(days=30))


def test_a_message_that_cannot_be_read_is_an_error_and_no_silence(venue):
    broker = broker_at(venue)
    send(broker)
    venue.fill("o-1")
    venue.executions[0]["shares"] = "many"
    with pytest.raises(BrokerError, match="could not be read"):
        broker.fills()


def test_recorded_frames_of_tws_are_understood(test_data: Path):
    """Every frame that was recorded of a real TWS, decoded by ib_async into what the adapter makes of it."""
    import asyncio

    from resources.brokers.ib import _Desk, _Names

    recorded = yaml.safe_load((test_data / "wire" / "ib" / "rust_ibapi_recorded" / "tws_interactions.yaml").read_text())

    async def replay() -> tuple[int, _Desk]:
        desk = _Desk(0.1, _Names({}), "America/New_York")
        desk.number = "ACCOUNT_ID"
        desk.client.decoder.serverVersion = recorded["header"]["server_version"]
        frames = [frame["raw"] for one in recorded["interactions"] for frame in one["responses"]]
        for frame in frames:
            desk.client.decoder.interpret(frame.split("\0")[:-1])
        return len(frames), desk

    count, desk = asyncio.run(replay())
    assert count == sum(len(one["responses"]) for one in recorded["interactions"]) > 5
    assert desk.unreadable == []
    assert desk._held["AAPL"] == D(-110)
    assert desk._held["FUT:637533641"] == D(1)
    assert ("positions", 0) in desk._ends
