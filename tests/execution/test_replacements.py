"""Cancelling and replacing open orders: what a person may ask, what is sent, and what both orders may fill together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from alpaca_venue import AlpacaVenue
from execution_support import (
    CLOSE,
    EXECUTED,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    VenueBroker,
    approve_all,
    flat_feed,
    order_ids,
    paper,
    rows,
    store_plan,
)
from hypothesis import given
from hypothesis import strategies as st
from served_venue import auction_of

from octopus.core.orders import (
    AccountSnapshot,
    Batch,
    GateReport,
    OpenOrder,
    OrderType,
    Outcome,
    PlannedOrder,
    Side,
    TradingState,
    Verdict,
)
from octopus.execution.replacements import Outcome as SwapOutcome
from octopus.execution.replacements import Request, Swap, in_judgement, why_not
from octopus.execution.states import TERMINAL, WORKING, Event, OrderState, OrderStatus, advance
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import BrokerError, Guarantee, UncertainOutcomeError
from resources.execution_engine import EngineSettings
from resources.sources.http import Access
from resources.warehouse import posttrade
from resources.warehouse.connection import Role
from resources.warehouse.order_store import BatchRefusedError, OrderActionError, OrderStore
from resources.warehouse.store import Warehouse

D = Decimal
NOON = OPEN + timedelta(hours=1)
WATCHED = EngineSettings(lot=D(1), watch_interval=timedelta(hours=1))


@dataclass(frozen=True)
class Line:
    """A line to a broker on which replacing has other outcomes."""

    inner: object
    replace: Callable[..., object]

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def paper_desk(url: str, tmp_path: Path, judge: object = approve_all) -> Desk:
    """At the paper broker, which replaces in one step; prices are 100 all day."""
    clock, feed = ManualClock(NOON), flat_feed(("AAA", "BBB"))
    broker = paper(url, "acct", clock, feed, allow_fractional=False)
    desk = Desk(url, "acct", clock, feed, broker, tmp_path / "anchor", judge=judge, settings=WATCHED)  # type: ignore[arg-type]
    desk.open()
    return desk


def venue_desk(
    url: str, guarantee: Guarantee = Guarantee.IDEMPOTENT_KEY, judge: object = approve_all
) -> tuple[Desk, VenueBroker]:
    """At a venue where an order is cancelled before another takes its place."""
    clock = ManualClock(NOON)
    venue = VenueBroker("acct", clock, guarantee, fills_at=CLOSE)
    desk = Desk(url, "acct", clock, flat_feed(("AAA", "BBB")), venue, judge=judge, settings=WATCHED)  # type: ignore[arg-type]
    desk.open()
    return desk, venue


def placed(desk: Desk, quantity: int = 12, price: int | None = 90, side: Side = Side.BUY) -> Batch:
    """A batch of one order that stands."""
    order_type, own = (OrderType.LIMIT, D(price)) if price else (OrderType.MARKET_ON_CLOSE, None)
    batch = store_plan(desk.url, "acct", [("AAA", side, D(quantity))], order_type=order_type, own_price=own)
    with desk.engine() as engine:
        assert engine.prepare(batch.batch_id, "first") is not None
        assert len(engine.send(batch.batch_id, "first").sent) == 1
    return batch


def ask(desk: Desk, order_id: str, quantity: int | None = None, price: int | None = None) -> str:
    with OrderStore.opened(desk.url) as store:
        return store.ask_replacement(
            order_id, None if quantity is None else D(quantity), None if price is None else D(price),
            "ann", "the market moved", desk.clock.now(), D(1),
        )  # fmt: skip


def carry_out(desk: Desk, batch: Batch) -> None:
    with desk.engine() as engine:
        engine.replace_orders(batch.batch_id, "person")


def told(desk: Desk) -> dict[str, tuple[str, Decimal]]:
    """State and filled quantity of every order of ours, by client order id."""
    found = rows(desk.url, "select client_order_id, state, filled_quantity from execution.orders")
    return {name: (state, filled) for name, state, filled in found}


def outcome(desk: Desk, replacement: str) -> tuple[str | None, str]:
    with OrderStore.opened(desk.url) as store:
        return store.outcome_of(replacement)


# -- at a venue that replaces in one step ------------------------------------------------------------------------------


def test_a_limit_is_moved_and_the_replacement_fills_at_the_close(database_url: str, tmp_path: Path) -> None:
    desk = paper_desk(database_url, tmp_path)
    batch = placed(desk)
    (old,) = order_ids(batch)
    new = ask(desk, old, quantity=15, price=101)
    with desk.engine() as engine:
        engine.collect_fills(batch.batch_id, "run")
        assert engine.update_positions("acct")[EXECUTED].holdings.positions == {"AAA": D(15)}
        assert engine.reconcile("acct", EXECUTED) == ()
    assert told(desk) == {old: ("replaced", D(0)), new: ("filled", D(15))}
    assert outcome(desk, new)[0] == "replaced"
    seen = posttrade.sent(Warehouse(database_url, Role.TRADER), SESSIONS, "none", "acct", EXECUTED)
    assert {one.order_id: one.cancelled_at for one in seen.orders} == {old: NOON, new: None}
    intent = batch.orders[0].intent_id
    assert rows(desk.url, "select intent_id, parent_id, replaces, price from execution.order_intents order by 1") == [
        (intent, None, None, D(90)), (f"{intent}-r0001", intent, old, D(101)),
    ]  # fmt: skip
    kinds = [kind for (kind,) in rows(desk.url, "select kind from audit.log where subject = %s order by seq", new)]
    assert (kinds[0], kinds[1]) == ("replacement.asked", "order.approved")
    assert "replacement.replaced" in kinds
    # It is no slice of a scheduled order, and another run has nothing to do.
    assert rows(desk.url, "select * from execution.schedule_progress") == []
    assert desk.execute(batch, "again").placement.sent == ()


def test_a_run_that_waits_for_the_auction_takes_up_what_is_asked_meanwhile(database_url: str, tmp_path: Path) -> None:
    desk = paper_desk(database_url, tmp_path)
    batch = placed(desk)
    asked: list[str] = []

    class Clock(ManualClock):
        def wait_until(self, instant):  # type: ignore[no-untyped-def]
            if not asked:
                asked.append(ask(desk, order_ids(batch)[0], price=101))
            super().wait_until(instant)

    desk.clock = Clock(NOON)
    desk.broker = replace(desk.broker, clock=desk.clock)  # type: ignore[type-var]
    desk.execute(batch)
    assert told(desk)[asked[0]] == ("filled", D(12))
    assert rows(desk.url, "select min(submitted_at) from execution.orders where client_order_id = %s", asked[0]) == [
        (NOON + timedelta(hours=1),)
    ]


def test_a_replacement_can_be_replaced_and_its_fills_count(database_url: str, tmp_path: Path) -> None:
    desk = paper_desk(database_url, tmp_path)
    batch = placed(desk)
    first = ask(desk, order_ids(batch)[0], price=91)
    carry_out(desk, batch)
    second = ask(desk, first, quantity=8, price=101)
    desk.execute(batch)
    assert [told(desk)[name][0] for name in (*order_ids(batch), first, second)] == ["replaced", "replaced", "filled"]
    assert told(desk)[second][1] == D(8)


def test_where_the_venue_refuses_the_old_order_stands(database_url: str, tmp_path: Path) -> None:
    desk = paper_desk(database_url, tmp_path)
    batch = placed(desk)
    (old,) = order_ids(batch)
    new = ask(desk, old, quantity=100_000)
    carry_out(desk, batch)
    assert told(desk) == {old: ("accepted", D(0)), new: ("rejected", D(0))}
    assert outcome(desk, new)[0] == "refused"
    assert rows(desk.url, "select client_order_id, state from paper.orders where state = 'accepted'") == [
        (old, "accepted")
    ]


@pytest.mark.parametrize("arrives", [True, False])
def test_a_lost_answer_is_asked_for_again_under_the_same_id(database_url: str, tmp_path: Path, arrives: bool) -> None:
    desk = paper_desk(database_url, tmp_path)
    batch = placed(desk)
    asked = []

    def lossy(*arguments: object) -> object:
        replaced, request = arguments
        asked.append((replaced, request.client_order_id))  # type: ignore[attr-defined]
        if arrives or len(asked) > 2:
            answer = inner.replace(*arguments)  # type: ignore[attr-defined]
            if len(asked) > 2:
                return answer
        raise UncertainOutcomeError("line: HTTP 504")

    inner, desk.broker = desk.broker, Line(desk.broker, lossy)  # type: ignore[assignment]
    (old,) = order_ids(batch)
    new = ask(desk, old, price=101)
    desk.execute(batch)
    assert asked == [(old, new)] * 3
    assert told(desk) == {old: ("replaced", D(0)), new: ("filled", D(12))}
    assert rows(desk.url, "select count(*) from paper.orders") == [(2,)]


def test_a_replacement_that_comes_after_the_fill_is_too_late(database_url: str, tmp_path: Path) -> None:
    desk = paper_desk(database_url, tmp_path)
    batch = placed(desk, price=101)
    (old,) = order_ids(batch)
    new = ask(desk, old, price=102)

    def late(*arguments: object) -> object:
        desk.clock.wait_until(CLOSE)
        return inner.replace(*arguments)  # type: ignore[attr-defined]

    inner, desk.broker = desk.broker, Line(desk.broker, late)  # type: ignore[assignment]
    desk.execute(batch)
    assert told(desk) == {old: ("filled", D(12)), new: ("rejected", D(0))}
    assert outcome(desk, new)[0] == "too_late"


# -- at other venues ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarantee", list(Guarantee))
def test_elsewhere_the_old_order_ends_before_the_rest_is_sent(database_url: str, guarantee: Guarantee) -> None:
    judged: list[Decimal] = []

    def judge(batch: Batch, _snapshot: AccountSnapshot, _now: object, _state: object) -> tuple[GateReport, ...]:
        judged.extend(order.quantity for order in batch.orders)
        return (GateReport("risk", tuple(order.intent_id for order in batch.orders)),)

    desk, venue = venue_desk(database_url, guarantee, judge)
    batch = placed(desk)
    (old,) = order_ids(batch)
    judged.clear()
    # Three fill before anybody asks, and two more while the cancel is on its way.
    venue.fill(old, D(3))
    venue.on_cancel = lambda name: venue.fill(name, D(2))
    new = ask(desk, old, quantity=16, price=101)
    carry_out(desk, batch)
    assert [one.client_order_id for one in venue.standing()] == [new]
    # As much as both may fill from here on, then what is left of it.
    assert judged == [D(13), D(11), D(11)]
    assert (venue.orders[new][0].quantity, told(desk)[old]) == (D(11), ("cancelled", D(5)))
    venue.on_cancel = lambda _name: None
    desk.execute(batch)
    assert told(desk)[new] == ("filled", D(11))
    assert sum(fill.quantity for fill in venue.executed) == D(16)


def test_at_alpaca_the_rest_is_sent_once_the_order_is_cancelled(database_url: str) -> None:
    """Through alpaca-py over a socket; a part fills before, one share more before the cancel arrives."""
    clock = ManualClock(NOON)
    with AlpacaVenue(cash=D(0), auction=auction_of({"AAA": "fill"}, lambda: clock.now() >= CLOSE)) as venue:
        venue.book("CSD", net_amount="100000", date="2022-12-27")
        access = Access(base_url=venue.url, timeout_s=2.0)
        broker = AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=access, now=clock.now)
        desk = Desk(database_url, "acct", clock, flat_feed(("AAA",)), broker, settings=WATCHED)
        desk.open()
        batch = placed(desk)
        (old,) = order_ids(batch)
        venue.fill(old, D(3))
        venue.cancels = ["part"]
        new = ask(desk, old, quantity=20, price=101)
        desk.execute(batch)
        sent = {name: (D(one["qty"]), D(one["limit_price"]), one["status"]) for name, one in venue.orders.items()}
        assert sent == {old: (D(12), D(90), "canceled"), new: (D(16), D(101), "filled")}
        assert venue.positions == {"AAA": D(20)}
        assert venue.posts == [old, new]
    assert told(desk) == {old: ("cancelled", D(4)), new: ("filled", D(16))}


def test_what_fills_wholly_on_its_way_out_is_not_sent_again(database_url: str) -> None:
    desk, venue = venue_desk(database_url)
    batch = placed(desk)
    (old,) = order_ids(batch)
    venue.on_cancel = lambda name: venue.fill(name, D(12))
    new = ask(desk, old, price=101)
    carry_out(desk, batch)
    assert venue.sends == [old]
    assert told(desk) == {old: ("filled", D(12)), new: ("cancelled", D(0))}
    assert outcome(desk, new)[0] == "too_late"


def test_an_order_that_does_not_end_keeps_its_replacement_waiting(database_url: str) -> None:
    desk, venue = venue_desk(database_url)
    batch = placed(desk)
    (old,) = order_ids(batch)
    venue.slow_cancels = 2
    new = ask(desk, old, price=101)
    for _ in range(2):
        carry_out(desk, batch)
        assert venue.sends == [old]
        assert told(desk) == {old: ("pending_cancel", D(0)), new: ("approved", D(0))}
    # It was claimed once: waiting judges nothing anew.
    assert rows(desk.url, "select count(*) from execution.attempts") == [(2,)]
    carry_out(desk, batch)
    assert told(desk) == {old: ("cancelled", D(0)), new: ("accepted", D(0))}


def test_one_that_never_makes_way_is_followed_to_its_end(database_url: str) -> None:
    desk, venue = venue_desk(database_url)
    batch = placed(desk)
    venue.slow_cancels = 1000
    new = ask(desk, order_ids(batch)[0], price=101)
    desk.execute(batch)
    assert told(desk) == {order_ids(batch)[0]: ("filled", D(12)), new: ("expired", D(0))}
    assert outcome(desk, new)[0] == "too_late"
    assert rows(desk.url, "select status from execution.attempts where status = 'claimed'") == []


def test_the_store_sends_no_replacement_while_the_order_may_fill(database_url: str) -> None:
    desk, _ = venue_desk(database_url)
    batch = placed(desk)
    new = ask(desk, order_ids(batch)[0], price=101)
    with desk.engine() as engine:
        claim = engine._take_up(engine.store.batch(batch.batch_id), "run")
        assert claim is not None
        with pytest.raises(BatchRefusedError, match="may still fill"):
            engine.store.begin_send(claim, new, Event.SEND, NOON)
    assert told(desk)[new] == ("approved", D(0))


# -- gates, halts and cancels ------------------------------------------------------------------------------------------


def test_the_gates_judge_the_worse_of_the_two_in_the_old_ones_place(database_url: str) -> None:
    seen: list[tuple[Decimal, tuple[OpenOrder, ...]]] = []

    def judge(batch: Batch, snapshot: AccountSnapshot, _now: object, _state: object) -> tuple[GateReport, ...]:
        seen.extend((order.quantity, snapshot.open_orders) for order in batch.orders)
        return (GateReport("risk", tuple(order.intent_id for order in batch.orders)),)

    desk, venue = venue_desk(database_url, judge=judge)
    batch = placed(desk)
    venue.slow_cancels = 1
    seen.clear()
    new = ask(desk, order_ids(batch)[0], quantity=5)
    carry_out(desk, batch)
    # While the old order may fill twelve, twelve are judged; then what is sent.
    assert seen == [(D(12), ())]
    carry_out(desk, batch)
    assert seen[1:] == [(D(5), ())] * 2
    assert venue.orders[new][0].quantity == D(5)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_a_gate_denies_leaves_the_old_order_alone(database_url: str, tmp_path: Path, at_once: bool) -> None:
    def judge(batch: Batch, _snapshot: AccountSnapshot, _now: object, _state: object) -> tuple[GateReport, ...]:
        barred = {order.intent_id for order in batch.orders if order.quantity > 12}
        verdicts = tuple(Verdict("risk", "size", name, Outcome.DENY, "too large") for name in barred)
        return (GateReport("risk", tuple(o.intent_id for o in batch.orders if o.intent_id not in barred), verdicts),)

    desk = paper_desk(database_url, tmp_path, judge) if at_once else venue_desk(database_url, judge=judge)[0]
    batch = placed(desk)
    new = ask(desk, order_ids(batch)[0], quantity=13)
    carry_out(desk, batch)
    assert told(desk) == {order_ids(batch)[0]: ("accepted", D(0))}
    assert outcome(desk, new)[0] == "denied"
    # It may be asked otherwise.
    assert ask(desk, order_ids(batch)[0], quantity=11) != new


def test_nothing_is_replaced_while_trading_is_halted(database_url: str) -> None:
    desk, venue = venue_desk(database_url)
    batch = placed(desk)
    new = ask(desk, order_ids(batch)[0], price=101)
    with OrderStore.opened(desk.url) as store:
        store.set_trading_state("acct", TradingState.HALTED, "test", "by the test", NOON)
    carry_out(desk, batch)
    assert (outcome(desk, new)[0], len(venue.standing()), len(venue.sends)) == ("refused", 1, 1)
    assert "halted" in outcome(desk, new)[1]


def test_cancelling_an_order_withdraws_what_was_to_take_its_place(database_url: str) -> None:
    desk, venue = venue_desk(database_url)
    batch = placed(desk)
    (old,) = order_ids(batch)
    venue.slow_cancels = 1
    new = ask(desk, old, price=101)
    carry_out(desk, batch)
    with desk.engine() as engine:
        # Of the two the person names the one that waits: it ends here, and its predecessor is on its way out.
        engine.cancel_order(new, "ann", "changed my mind")
        engine.cancel_order(old, "ann", "changed my mind")
    desk.execute(batch)
    assert told(desk) == {old: ("cancelled", D(0)), new: ("cancelled", D(0))}
    assert (outcome(desk, new)[0], venue.sends) == ("withdrawn", [old])
    with desk.engine() as engine:
        engine.cancel_order(old, "ann", "again")
    assert told(desk)[old] == ("cancelled", D(0))


def test_the_kill_switch_cancels_and_withdraws_everything(database_url: str) -> None:
    desk, venue = venue_desk(database_url)
    batch = placed(desk)
    new = ask(desk, order_ids(batch)[0], price=101)
    with desk.engine() as engine:
        assert engine.cancel_open("acct") == tuple(order_ids(batch))
    desk.execute(batch)
    assert (outcome(desk, new)[0], venue.sends) == ("withdrawn", order_ids(batch))


def test_a_broker_that_cannot_be_asked_is_asked_again(database_url: str) -> None:
    desk, venue = venue_desk(database_url)
    batch = placed(desk)
    new = ask(desk, order_ids(batch)[0], price=101)
    failed = []

    def once(_name: str) -> None:
        if not failed:
            failed.append(1)
            raise BrokerError("venue: HTTP 403")

    venue.on_cancel = once
    desk.execute(batch)
    assert (failed, told(desk)[new]) == ([1], ("filled", D(12)))


def test_a_database_says_what_may_be_replaced(database_url: str) -> None:
    desk, _ = venue_desk(database_url)
    batch = placed(desk)
    (old,) = order_ids(batch)
    new = ask(desk, old, price=101)
    with pytest.raises(OrderActionError, match=f"being replaced by {new}"):
        ask(desk, old, price=102)
    other = store_plan(desk.url, "acct", [("BBB", Side.BUY, D(1))], name="other", created_at=NOON)
    with desk.engine() as engine:
        assert engine.prepare(other.batch_id, "run") is not None
        with pytest.raises(OrderActionError, match="approved and not sent"):
            engine.cancel_order(order_ids(other)[0], "ann", "no")


# -- the rules ---------------------------------------------------------------------------------------------------------

LIMIT = PlannedOrder("b-1", "AAA", Side.BUY, D(10), D(100), OrderType.LIMIT, D(99))
QUANTITIES = st.integers(1, 30).map(Decimal)


@st.composite
def swaps(draw: st.DrawFn) -> Swap:
    old = OrderStatus(D(10), draw(st.sampled_from(sorted(WORKING | TERMINAL))), D(draw(st.integers(0, 9))))
    if old.state is OrderState.FILLED:
        old = replace(old, filled=D(10))
    new = draw(st.none() | st.builds(OrderStatus, st.just(D(10)), st.sampled_from(list(OrderState))))
    status = None if new is None else draw(st.sampled_from(["approved", "denied", "void"]))
    request = Request("b-1-r0001", draw(QUANTITIES), draw(st.none() | QUANTITIES))
    return Swap(request, "old", LIMIT, old, None, status, new, draw(st.booleans()), draw(st.booleans()))


@given(swaps())
def test_both_orders_never_may_fill_more_than_the_larger_quantity(swap: Swap) -> None:
    assert swap.old.filled + swap.rest <= max(swap.request.quantity, swap.old.quantity)
    assert not (swap.is_fresh and swap.outcome() is not None)
    if swap.new is not None and swap.new.state in WORKING and swap.status == "approved":
        assert swap.outcome() in (None, SwapOutcome.REPLACED)
        assert (swap.outcome() is None) == (swap.new.state in (OrderState.SUBMITTING, OrderState.UNKNOWN))


@given(swaps())
def test_what_is_judged_is_never_less_than_either_order(swap: Swap) -> None:
    account = AccountSnapshot("a", NOON, D(0), {}, {}, (OpenOrder("old", "AAA", Side.BUY, swap.old.remaining),))
    (judged,), seen = in_judgement([swap.order], account, [swap])
    counted = judged.quantity + seen.working("AAA", Side.BUY)
    assert counted >= max(swap.old.remaining, swap.rest)
    assert counted == max(swap.old.remaining, swap.rest) or swap.has_way


@pytest.mark.parametrize(
    ("state", "quantity", "price", "sliced", "says"),
    [
        ("accepted", 10, 98, False, ""),
        ("partially_filled", 5, None, False, ""),
        ("partially_filled", 3, None, False, "3 of it are filled"),
        ("accepted", 10, None, False, "nothing would change"),
        ("accepted", 10, 99, False, "nothing would change"),
        ("accepted", 10, -1, False, "not positive"),
        ("accepted", D("2.5"), None, False, "no multiple of the lot 1"),
        ("unknown", 5, None, False, "settle it first"),
        ("pending_cancel", 5, None, False, "wait for what becomes of it"),
        ("filled", 5, None, False, "ended before"),
        ("accepted", 5, None, True, "slice of a scheduled order"),
    ],
)
def test_why_an_order_may_not_be_replaced(
    state: str, quantity: int, price: int | None, sliced: bool, says: str
) -> None:
    status = OrderStatus(D(10), OrderState(state), D(3) if state == "partially_filled" else D(0))
    found = why_not(LIMIT, status, D(quantity), None if price is None else D(price), lot=D(1), sliced=sliced)
    assert says in found
    assert bool(says) == bool(found)


@pytest.mark.parametrize(
    ("quantity", "price", "tick", "says"),
    [
        (45, None, None, "quantity 45 is no multiple of the lot 20 of AAA; give 40 or 60"),
        (5, None, None, "quantity 5 is no multiple of the lot 20 of AAA; give 20"),
        (40, "98.03", "0.05", "price 98.03 is no multiple of the tick 0.05 of AAA; give 98 or 98.05, or correct"),
        (40, "98.005", None, "price 98.005 is no multiple of the tick 0.01 of AAA; give 98 or 98.01, or correct"),
        (40, "98.005", "0.005", ""),
        (40, "98.125", "0.125", ""),
        # What stays as it is was planned so.
        (10, "98.05", "0.05", ""),
        (40, "99", "2", ""),
    ],
)
def test_a_new_quantity_or_price_keeps_the_instruments_lot_and_tick(
    quantity: int, price: str | None, tick: str | None, says: str
) -> None:
    found = why_not(
        LIMIT, OrderStatus(D(10), OrderState.ACCEPTED), D(quantity), None if price is None else D(price), lot=D(20),
        tick=None if tick is None else D(tick), sliced=False,
    )  # fmt: skip
    assert found.startswith(says)
    assert bool(says) == bool(found)


def test_a_market_order_has_no_price_to_change() -> None:
    market = replace(LIMIT, order_type=OrderType.MARKET, price=None)
    status = OrderStatus(D(10), OrderState.ACCEPTED)
    assert "has none" in why_not(market, status, D(10), D(5), lot=D(1), sliced=False)


@pytest.mark.parametrize("state", [OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL])
def test_a_replacements_fills_may_be_told_before_its_quantity(state: OrderState) -> None:
    """The venue took four of the ten that were approved: with four filled it is done."""
    assert advance(OrderStatus(D(10), state, D(4)), Event.ACCEPT).state is state
    assert advance(OrderStatus(D(4), state, D(4)), Event.ACCEPT).state is OrderState.FILLED
