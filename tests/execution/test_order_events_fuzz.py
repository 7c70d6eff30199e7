"""Any events in any order, however often: an order's record never says less, more or other than what was reported.

The states alone are given events at random; the store is given the same sends, answers and fills, doubled and shuffled,
and must end where the states do, with each fill once and each change once in what the audit log is told.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from execution_support import (
    CLOSE,
    EXECUTED,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    VenueBroker,
    flat_feed,
    rows,
    store_plan,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.orders import Fill, Side
from octopus.execution.states import (
    TERMINAL,
    UNRESOLVED,
    WORKING,
    Event,
    Execution,
    IllegalTransitionError,
    OrderState,
    OrderStatus,
    advance,
)
from resources.brokers.base import Guarantee
from resources.execution_engine import EngineSettings
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.audit_log import verify
from resources.warehouse.order_store import OrderStore

D = Decimal
QUANTITY = D(10)
EVENTS = st.one_of(
    st.sampled_from(list(Event)),
    st.builds(
        Execution, st.sampled_from(["a", "b", "c", "d"]), st.sampled_from([D(n) for n in (-1, 0, 1, 3, 6, 10, 25)])
    ),
)


def require_truth(before: OrderStatus, event: Event | Execution, after: OrderStatus, fills: dict[str, Decimal]) -> None:
    """What holds after any one event."""
    assert after.filled == sum(fills.values(), D(0)), "each fill once, and none is lost"
    assert after.fill_ids == frozenset(fills)
    assert 0 <= after.remaining <= QUANTITY
    assert after.remaining == (max(QUANTITY - after.filled, D(0)) if after.state in WORKING else 0)
    assert (after.filled >= QUANTITY) <= (after.state is OrderState.FILLED or after.filled == before.filled)
    if before.state in TERMINAL:
        assert after.state in TERMINAL, "an end is an end"
        assert after.state is before.state or isinstance(event, Execution)
    if after.state is OrderState.APPROVED:
        assert not after.filled
        assert before.state is OrderState.APPROVED or event is Event.NOT_SENT
    if after.state in UNRESOLVED and before.state not in UNRESOLVED:
        assert event is Event.SEND, "nothing but a send makes an order doubtful"
    assert after.overfilled == (after.filled > QUANTITY)


@pytest.mark.parametrize("examples", [300, pytest.param(50_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_states_tell_the_truth_after_any_events(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(st.lists(EVENTS, max_size=25))
    def fuzz(events: list[Event | Execution]) -> None:
        status, fills = OrderStatus(QUANTITY), dict[str, Decimal]()
        for event in events:
            try:
                after = advance(status, event)
            except IllegalTransitionError:
                continue
            if isinstance(event, Execution) and event.fill_id not in fills:
                fills[event.fill_id] = event.quantity
            require_truth(status, event, after, fills)
            if event not in (Event.SEND, Event.NOT_SENT):
                assert advance(after, event) == after, "told twice is told once"
            status = after

    fuzz()


NAMES = ("AAA", "BBB")


def send_and_report(desk: Desk, chance: random.Random, name: str) -> Counter[str]:
    """One batch whose sends, answers and fills reach the store at random; it must end as the states alone do."""
    batch = store_plan(desk.url, "acct", [(instrument, Side.BUY, QUANTITY) for instrument in NAMES], name=name)
    counts: Counter[str] = Counter()
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, name)
        assert claim is not None
        ids = [order.client_order_id for order in engine.store.orders("acct", batch_id=batch.batch_id)]
        expected = {order_id: OrderStatus(QUANTITY) for order_id in ids}
        for order_id in ids:
            for _ in range(chance.randint(3, 14)):
                event = _drawn(chance, order_id)
                expected[order_id] = _happens(engine.store, claim, order_id, event, expected[order_id], counts)
        stored = {order.client_order_id: order.status for order in engine.store.orders("acct", batch_id=batch.batch_id)}
        assert stored == expected
        for order_id, status in expected.items():
            booked = engine.bookkeeper.books.fills_of(order_id)
            assert sum((fill.quantity for fill in booked), D(0)) == status.filled
            # What stands is ended, so that no batch hangs on another's orders.
            if status.state is not OrderState.APPROVED:
                engine.store.record(order_id, Event.EXPIRE, desk.clock.now())
        engine.store.void_unsent("acct", CLOSE + timedelta(hours=1))
        engine.store.finish("acct", desk.clock.now())
        engine.store.drain_outbox(engine.audit)
    return counts


def _drawn(chance: random.Random, order_id: str) -> Event | Fill:
    if chance.random() < 0.6:
        return chance.choice([*Event, Event.SEND, Event.ACCEPT])
    number = chance.choice("abcd")
    size = D(chance.choice([1, 3, 6, 10, 25]))
    return Fill(f"{order_id}-{number}", order_id, "AAA", Side.BUY, size, D(100), D(0), OPEN)


def _happens(
    store: OrderStore, claim: object, order_id: str, event: Event | Fill, before: OrderStatus, counts: Counter[str]
) -> OrderStatus:
    told = Execution(event.fill_id, event.quantity) if isinstance(event, Fill) else event
    try:
        after = advance(before, told)
    except IllegalTransitionError:
        after = None
    try:
        if isinstance(event, Fill):
            is_new = AccountBooks(store).record_fill("acct", event, EXECUTED, OPEN)
            assert is_new is (event.fill_id not in before.fill_ids)
        elif event in (Event.SEND, Event.RESEND):
            store.begin_send(claim, order_id, event, OPEN)  # type: ignore[arg-type]
        else:
            store.record(order_id, event, OPEN, "fuzz")
    except IllegalTransitionError:
        counts["events refused"] += 1
        assert after is None, (before, event)
        return before
    counts["events recorded"] += 1
    assert after is not None, (before, event)
    return after


@pytest.mark.parametrize("batches", [6, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_the_store_ends_where_the_states_do(
    database_url: str, tmp_path, batches: int, record_property: Callable[[str, object], None]
) -> None:
    clock = ManualClock(OPEN)
    broker = VenueBroker("acct", clock, Guarantee.IDEMPOTENT_KEY)
    # The reports are invented: no venue has these fills, and no books are to agree.
    terms = EngineSettings(halt_on_breaks=False)
    desk = Desk(database_url, "acct", clock, flat_feed(NAMES), broker, tmp_path / "audit.anchor", settings=terms)
    desk.open()
    assert SESSIONS.close_utc(EXECUTED) == CLOSE
    counts: Counter[str] = Counter()
    for seed in range(batches):
        counts += send_and_report(desk, random.Random(seed), f"b{seed:05d}")
    told = verify(database_url, desk.anchor)
    assert told.ok
    events = rows(database_url, "select count(*) from execution.order_events")[0][0]
    entries = rows(database_url, "select count(*) from audit.log where kind like 'order.%%'")[0][0]
    assert events == entries, "each change is told once"
    assert rows(database_url, "select count(*) from execution.outbox")[0][0] == 0
    record_property("proof", {"order events in the store": dict(counts)})
