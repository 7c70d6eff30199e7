"""Entries with exits at the paper broker, from the stored plan to the books."""

from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal

import pytest
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    HUNDRED,
    OPEN,
    Desk,
    ManualClock,
    TableFeed,
    VenueBroker,
    flat_feed,
    paper,
    rows,
    store_plan,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octopus.core.costs import CostModel
from octopus.core.ids import client_order_id, exit_order_id
from octopus.core.orders import Bracket, Fill, OrderType, Side
from octopus.execution.states import Event, OrderState
from resources.brokers.base import BracketBroker, Guarantee, OrderRejectedError, OrderRequest
from resources.brokers.paper import PaperBehaviour, PaperBroker
from resources.price_feed import Bar
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.connection import Role
from resources.warehouse.execution_reports import ExecutionReports
from resources.warehouse.order_store import BatchRefusedError, OrderActionError, OrderStore
from resources.warehouse.order_story import OrderStories
from resources.warehouse.store import Warehouse

D = Decimal
BOTH = Bracket(D(95), D(110))
BEFORE = OPEN - timedelta(minutes=30)
numbers = itertools.count()


def market(opening: int = 100, high: int = 101, low: int = 99, close: int = 100) -> TableFeed:
    feed = flat_feed(("AAA",), days=(DECIDED,))
    feed.bars["AAA", EXECUTED] = Bar(D(opening), D(close), high=D(high), low=D(low))
    return feed


def desk_of(url: str, feed: TableFeed, **options: object) -> Desk:
    account, clock = f"bracket{next(numbers)}", ManualClock(BEFORE)
    desk = Desk(url, account, clock, feed, paper(url, account, clock, feed, **options))
    desk.open()
    return desk


def states_of(desk: Desk) -> dict[str, tuple[str, Decimal]]:
    """State and shares filled of the entry and of its exits."""
    with OrderStore.opened(desk.url) as store:
        found = {}
        for one in store.orders(desk.account):
            found[one.order.intent_id.rpartition("-x-")[2] if one.exit_of else "entry"] = (
                one.status.state.value, one.status.filled
            )  # fmt: skip
        return found


@pytest.mark.parametrize(
    ("bar", "bracket", "expected", "price"),
    [
        ((100, 101, 99), BOTH, {"stop": "expired", "target": "expired"}, None),
        ((100, 101, 95), BOTH, {"stop": "filled", "target": "cancelled"}, D(95)),
        ((100, 111, 99), BOTH, {"stop": "cancelled", "target": "filled"}, D(110)),
        ((100, 111, 94), BOTH, {"stop": "filled", "target": "cancelled"}, D(95)),
        ((93, 101, 92), BOTH, {"stop": "filled", "target": "cancelled"}, D(93)),
        ((100, 111, 95), Bracket(D(95), None), {"stop": "filled"}, D(95)),
        ((100, 111, 94), Bracket(None, D(110)), {"target": "filled"}, D(110)),
    ],
    ids=["neither", "stop", "target", "both", "gap", "stop alone", "target alone"],
)
def test_an_entry_and_its_exits_go_through_the_whole_path(
    database_url: str, bar: tuple[int, int, int], bracket: Bracket, expected: dict[str, str], price: Decimal | None
) -> None:
    desk = desk_of(database_url, market(*bar))
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=bracket)
    done = desk.execute(batch)
    assert done.breaks == ()
    assert done.collection.open_orders == ()
    found = states_of(desk)
    assert found.pop("entry") == ("filled", D(10))
    assert {name: state for name, (state, _) in found.items()} == expected
    fills = [(f.side, f.quantity, f.price) for f in desk.broker.fills()]
    assert fills == [(Side.BUY, D(10), D(bar[0]))] + ([] if price is None else [(Side.SELL, D(10), price)])
    with OrderStore.opened(desk.url) as store:
        assert AccountBooks(store).positions(desk.account) == ({"AAA": D(10)} if price is None else {})


def test_a_stop_is_moved_against_the_trader_and_a_target_is_not(database_url: str) -> None:
    costs = CostModel(commission_bps=0, half_spread_bps=10, slippage_bps=0)
    for bar, price in (((100, 101, 95), D("94.905")), ((100, 111, 99), D(110))):
        desk = desk_of(database_url, market(*bar), costs=costs)
        store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
        desk.broker.submit_bracket(OrderRequest("e", "AAA", Side.BUY, D(10), OrderType.MARKET, CLOSE), BOTH)  # type: ignore[attr-defined]
        desk.clock.wait_until(CLOSE)
        assert [f.price for f in desk.broker.fills()] == [D("100.1"), price]


@pytest.mark.parametrize("bracket", [None, BOTH], ids=["alone", "with exits"])
def test_the_log_is_told_of_a_send_before_the_broker_hears_of_the_order(
    database_url: str, bracket: Bracket | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, told = desk_of(database_url, market()), []
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=bracket)
    name = "submit" if bracket is None else "submit_bracket"
    ask = getattr(desk.broker, name)

    def asked(*arguments: object) -> object:
        told.extend(rows(desk.url, "select subject from audit.log where kind = 'order.submitting' order by subject"))
        return ask(*arguments)

    monkeypatch.setattr(type(desk.broker), name, lambda _, *arguments: asked(*arguments))
    desk.clock.wait_until(batch.not_before)
    desk.execute(batch)
    order = client_order_id(batch.orders[0].intent_id)
    exits = [] if bracket is None else [exit_order_id(order, leg) for leg in ("stop", "target")]
    assert told == [(one,) for one in (order, *exits)]


def test_the_store_sends_exits_with_their_entry_whoever_asks_it(database_url: str) -> None:
    desk = desk_of(database_url, market())
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, "run")
        assert claim is not None
        order = client_order_id(batch.orders[0].intent_id)
        assert engine.store.begin_send(claim, order, Event.SEND, desk.clock.now(), alone=True) == 10
    assert {state for state, _ in states_of(desk).values()} == {"submitting"}


def test_exits_are_children_of_their_entry_and_one_message(database_url: str) -> None:
    desk = desk_of(database_url, market())
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    desk.execute(batch)
    (entry,) = (order.intent_id for order in batch.orders)
    found = rows(
        desk.url,
        "select intent_id, client_order_id, side, quantity, order_type, price, exit_of, parent_id, status "
        "from execution.order_intents where account = %s and exit_of is not null order by intent_id",
        desk.account,
    )
    name = client_order_id(entry)
    assert found == [
        (f"{entry}-x-stop", exit_order_id(name, "stop"), "sell", 10, "stop", 95, entry, None, "approved"),
        (f"{entry}-x-target", exit_order_id(name, "target"), "sell", 10, "limit", 110, entry, None, "approved"),
    ]
    sent = rows(
        desk.url,
        "select count(*) from execution.order_events e join execution.order_intents i using (client_order_id) "
        "where i.account = %s and e.detail ->> 'event' = 'send' and e.detail ->> 'with' is null",
        desk.account,
    )
    assert sent == [(1,)]


def test_exits_stand_as_one_open_order_once_there_is_something_to_protect(database_url: str) -> None:
    desk = desk_of(database_url, market())
    broker = desk.broker
    assert isinstance(broker, PaperBroker)
    assert isinstance(broker, BracketBroker)
    broker.submit_bracket(OrderRequest("e", "AAA", Side.BUY, D(10), OrderType.MARKET, CLOSE), BOTH)
    assert [(o.side, o.remaining) for o in broker.snapshot().open_orders] == [(Side.BUY, D(10))]
    desk.clock.wait_until(OPEN)
    assert [(o.side, o.remaining) for o in broker.snapshot().open_orders] == [(Side.SELL, D(10))]
    # Sending it again is the same order.
    broker.submit_bracket(OrderRequest("e", "AAA", Side.BUY, D(10), OrderType.MARKET, CLOSE), BOTH)
    # A sale of the whole position meanwhile: together they sell no more than is held.
    broker.submit(OrderRequest("s", "AAA", Side.SELL, D(10), OrderType.MARKET_ON_CLOSE, CLOSE))
    desk.feed.bars["AAA", EXECUTED] = Bar(D(100), D(100), high=D(101), low=D(90))
    desk.clock.wait_until(CLOSE)
    assert broker.snapshot().positions == {}
    assert sum(f.quantity for f in broker.fills() if f.side is Side.SELL) == 10


def test_exits_that_cannot_stand_take_their_entry_with_them(database_url: str) -> None:
    desk = desk_of(database_url, market())
    bracket = Bracket(D(101), None)
    with pytest.raises(OrderRejectedError, match="stop 101 of a buy is not below"):
        desk.broker.submit_bracket(OrderRequest("e", "AAA", Side.BUY, D(1), OrderType.MARKET, CLOSE), bracket)  # type: ignore[attr-defined]
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=bracket)
    desk.execute(batch)
    assert {state for state, _ in states_of(desk).values()} == {"rejected"}


def test_a_broker_without_brackets_refuses_the_batch_with_the_remedy(database_url: str) -> None:
    desk = desk_of(database_url, market())
    desk.broker = VenueBroker(desk.account, desk.clock, Guarantee.IDEMPOTENT_KEY)
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    with pytest.raises(BatchRefusedError, match=r"takes none; set execution.bracket: null"):
        desk.execute(batch)
    assert desk.broker.sends == []


def test_what_protects_is_cancelled_with_the_rest_and_never_replaced(database_url: str) -> None:
    desk = desk_of(database_url, market())
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    entry = client_order_id(batch.orders[0].intent_id)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        for order in (entry, exit_order_id(entry, "stop")):
            with pytest.raises(OrderActionError, match="cancel it"):
                engine.store.ask_replacement(order, D(5), None, "me", "test", desk.clock.now(), D(1))
        assert set(engine.cancel_open(desk.account)) == {entry, f"{entry}-s", f"{entry}-t"}
        engine.collect_fills(batch.batch_id)
    assert {state for state, _ in states_of(desk).values()} == {"cancelled"}


def test_a_denied_entry_has_no_exits_and_an_unsent_one_takes_them_along(database_url: str) -> None:
    desk = desk_of(database_url, market())
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        desk.clock.wait_until(CLOSE)
        engine.store.void_unsent(desk.account, desk.clock.now())
    assert {state for state, _ in states_of(desk).values()} == {"expired"}
    assert rows(desk.url, "select distinct status from execution.order_intents where account = %s", desk.account) == [
        ("void",)
    ]
    assert desk.broker.fills() == ()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(*(st.integers(min_value=85, max_value=120) for _ in range(4))),
    st.sampled_from([BOTH, Bracket(D(95), None), Bracket(None, D(110))]),
    st.fractions(min_value="1/10", max_value=1),
    st.sampled_from([None, "entry", "stop", "target"]),
    st.booleans(),
)
def test_exits_never_sell_more_than_their_entry_bought_and_the_books_agree(
    database_url: str, prices: tuple[int, ...], bracket: Bracket, part: object, cancelled: str | None, late: bool
) -> None:
    opening, close, *_ = prices
    feed = market(opening, max(prices), min(prices), close)
    behaviour = PaperBehaviour(fill_fraction=D(str(round(float(part), 2))), fills_per_order=2)  # type: ignore[arg-type]
    desk = desk_of(database_url, feed, behaviour=behaviour)
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=bracket)
    entry = client_order_id(batch.orders[0].intent_id)
    named = {"entry": entry, "stop": f"{entry}-s", "target": f"{entry}-t"}
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        if late:
            desk.clock.wait_until(OPEN)
        if cancelled is not None and engine.store.orders(desk.account, ids=[named[cancelled]]):
            engine.cancel_order(named[cancelled], "me", "test")
    done = desk.execute(batch)
    assert done.breaks == ()
    assert done.collection.open_orders == ()
    filled = {name: quantity for name, (_, quantity) in states_of(desk).items()}
    assert filled.get("stop", 0) * filled.get("target", 0) == 0
    assert filled.get("stop", 0) + filled.get("target", 0) in (0, filled["entry"])


FILLS = {"entry part": ("entry", 4), "entry rest": ("entry", 6), "stop": ("stop", 6), "target": ("target", 4)}
EVENTS = {"accept": Event.ACCEPT, "cancel stop": Event.CANCEL, "cancel target": Event.CANCEL}


def tell(store: OrderStore, account: str, entry: str, step: str) -> None:
    """Record one report on an entry or one of its exits."""
    name = FILLS[step][0] if step in FILLS else step.removeprefix("cancel ") if "cancel" in step else "entry"
    order_id = entry if name == "entry" else f"{entry}-{name[0]}"
    if step in FILLS:
        side, quantity = Side.BUY if name == "entry" else Side.SELL, D(FILLS[step][1])
        fill = Fill(f"{account} {step}", order_id, "AAA", side, quantity, HUNDRED, D(0), BEFORE)
        AccountBooks(store).record_fill(account, fill, EXECUTED, BEFORE)
    else:
        store.record(order_id, EVENTS[step], BEFORE)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*FILLS, *EVENTS]), min_size=1, max_size=14))
def test_reports_in_any_order_and_however_often_end_as_the_venue_has_it(database_url: str, told: list[str]) -> None:
    """What a venue may report of a bracket, shuffled and repeated: each fill counts once, no exit is sent alone."""
    desk = desk_of(database_url, market())
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    (order,) = batch.orders
    with desk.engine() as engine:
        store, claim = engine.store, engine.prepare(batch.batch_id, "run")
        assert claim is not None
        store.begin_send(claim, client_order_id(order.intent_id), Event.SEND, BEFORE)
        for step in told:
            tell(store, desk.account, client_order_id(order.intent_id), step)
        found, heard = states_of(desk), {step for step in told if step in FILLS}
        for name, (_, filled) in found.items():
            assert filled == sum(FILLS[step][1] for step in heard if FILLS[step][0] == name)
        bought = found["entry"][1]
        held = AccountBooks(store).positions(desk.account).get("AAA", D(0))
        assert held == bought - found["stop"][1] - found["target"][1]
        assert found["stop"][1] + found["target"][1] <= order.quantity
        # Exits are never among what is to be sent.
        assert [one.intent_id for one in engine._worked(store.batch(batch.batch_id)).batch.orders] == [order.intent_id]
        assert store.orders(desk.account, {OrderState.APPROVED}) == ()


def test_two_exits_that_sold_more_than_was_ordered_raise_an_alert(database_url: str) -> None:
    desk = desk_of(database_url, market())
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    entry, now = client_order_id(batch.orders[0].intent_id), desk.clock.now()
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        for leg, quantity in (("s", 6), ("t", 6)):
            fill = Fill(leg, f"{entry}-{leg}", "AAA", Side.SELL, D(quantity), D(100), D(0), now)
            engine.bookkeeper.books.record_fill(desk.account, fill, EXECUTED, now)
        engine.store.drain_outbox(engine.audit)
    alerts = rows(desk.url, "select subject from audit.log where kind = 'alert.overfilled'")
    assert (f"{entry}-t",) in alerts


def test_the_story_of_an_exit_is_its_entrys_until_it_was_sent(database_url: str) -> None:
    desk = desk_of(database_url, market(100, 101, 94))
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    desk.execute(batch)
    entry = client_order_id(batch.orders[0].intent_id)
    stories = OrderStories(Warehouse(desk.url, Role.TRADER), "sample")
    assert stories.find(entry[:-2]) == batch.orders[0].intent_id
    told = stories.story(f"{entry}-s")
    assert (told["order"]["side"], told["order"]["exit_of"]) == ("sell", batch.orders[0].intent_id)
    assert [D(fill["quantity"]) for fill in told["fills"]] == [D(10)]
    assert [event["to_state"] for event in told["events"]][-1] == "filled"


def test_an_exit_costs_what_it_brought_less_than_its_own_price(database_url: str) -> None:
    costs = CostModel(commission_bps=0, half_spread_bps=10, slippage_bps=0)
    desk = desk_of(database_url, market(100, 101, 94), costs=costs)
    batch = store_plan(desk.url, desk.account, [("AAA", Side.BUY, D(10))], order_type=OrderType.MARKET, bracket=BOTH)
    desk.execute(batch)
    with desk.engine() as engine:
        warehouse = Warehouse(desk.url, Role.TRADER)
        reports = ExecutionReports(engine.store, warehouse, engine.feed, engine.sessions)
        # The target was not executed, and has missed nothing.
        assert reports.save_order_costs(desk.account, EXECUTED) == 2
    measured = "select side, shortfall_usd, opportunity_usd from execution.order_costs where account = %s order by side"
    assert rows(desk.url, measured, desk.account) == [("buy", D(1), 0), ("sell", D("0.95"), 0)]
