"""The order's life: duplicate, late and reordered reports of a venue give one end; what only we do is strict."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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

D = Decimal
SENT = advance(OrderStatus(D(10)), Event.SEND)


@st.composite
def venue_histories(draw: st.DrawFn) -> list[Event | Execution]:
    """What a venue truthfully reports of an order for 10 shares: accepted, some fills, and perhaps an end."""
    sizes, filled = draw(st.lists(st.integers(1, 3), max_size=3)), draw(st.booleans())
    sizes += [10 - sum(sizes)] if filled else []
    fills = [Execution(f"f{number}", D(size)) for number, size in enumerate(sizes)]
    if filled:
        return [Event.ACCEPT, *fills]
    end = draw(st.sampled_from([Event.CANCEL, Event.EXPIRE, Event.REJECT, Event.REPLACE]))
    return [Event.ACCEPT, *fills, end]


@given(venue_histories(), st.data())
def test_reports_in_any_order_and_any_number_give_one_end(
    history: list[Event | Execution], data: st.DataObject
) -> None:
    straight = SENT
    for event in history:
        straight = advance(straight, event)
    doubled = history + data.draw(st.lists(st.sampled_from(history), max_size=5))
    shuffled = SENT
    for event in data.draw(st.permutations(doubled)):
        shuffled = advance(shuffled, event)
    assert shuffled == straight
    assert straight.state in TERMINAL
    assert straight.filled == sum((e.quantity for e in history if isinstance(e, Execution)), D(0))


@given(venue_histories(), st.data())
def test_asking_to_cancel_changes_no_end(history: list[Event | Execution], data: st.DataObject) -> None:
    straight, asked = SENT, SENT
    at = data.draw(st.integers(0, len(history)))
    for number, event in enumerate(history):
        straight = advance(straight, event)
        asked = advance(advance(asked, Event.ASK_CANCEL) if number == at else asked, event)
    assert asked == straight


def test_an_order_that_is_being_cancelled_still_works() -> None:
    asked = advance(advance(SENT, Event.ACCEPT), Event.ASK_CANCEL)
    assert (asked.state, asked.remaining) == (OrderState.PENDING_CANCEL, D(10))
    part = advance(asked, Execution("f", D(4)))
    assert (part.state, part.remaining) == (OrderState.PENDING_CANCEL, D(6))
    assert advance(part, Event.CANCEL).state is OrderState.CANCELLED
    assert advance(part, Execution("g", D(6))).state is OrderState.FILLED
    assert advance(part, Event.ASK_CANCEL) == part
    with pytest.raises(IllegalTransitionError):
        advance(OrderStatus(D(10)), Event.ASK_CANCEL)


def test_nothing_of_a_replaced_order_fills_and_what_had_filled_counts() -> None:
    part = advance(advance(SENT, Event.ACCEPT), Execution("f", D(4)))
    replaced = advance(part, Event.REPLACE)
    assert (replaced.state, replaced.filled, replaced.remaining) == (OrderState.REPLACED, D(4), D(0))


@pytest.mark.parametrize("state", [s for s in OrderState if s is not OrderState.APPROVED])
def test_an_order_is_sent_once(state: OrderState) -> None:
    with pytest.raises(IllegalTransitionError, match="does not allow send"):
        advance(OrderStatus(D(1), state), Event.SEND)


@pytest.mark.parametrize("state", [s for s in OrderState if s not in UNRESOLVED])
@pytest.mark.parametrize("event", [Event.RESEND, Event.UNCERTAIN])
def test_only_an_unresolved_send_can_be_repeated_or_doubted(state: OrderState, event: Event) -> None:
    with pytest.raises(IllegalTransitionError):
        advance(OrderStatus(D(1), state), event)


def test_only_a_send_in_progress_can_turn_out_not_to_have_happened() -> None:
    assert advance(SENT, Event.NOT_SENT).state is OrderState.APPROVED
    for state in set(OrderState) - {OrderState.SUBMITTING}:
        with pytest.raises(IllegalTransitionError):
            advance(OrderStatus(D(1), state), Event.NOT_SENT)


@pytest.mark.parametrize("event", [Event.ACCEPT, Event.REJECT])
def test_a_venue_cannot_answer_what_was_never_sent(event: Event) -> None:
    with pytest.raises(IllegalTransitionError):
        advance(OrderStatus(D(1)), event)


def test_a_fill_after_the_cancel_counts_and_a_fill_of_an_unsent_order_is_not_lost() -> None:
    cancelled = advance(advance(SENT, Event.ACCEPT), Event.CANCEL)
    late = advance(cancelled, Execution("f", D(4)))
    assert (late.state, late.filled, late.remaining) == (OrderState.CANCELLED, D(4), D(0))
    assert advance(late, Execution("g", D(6))).state is OrderState.FILLED
    unsent = advance(OrderStatus(D(10)), Execution("f", D(4)))
    assert unsent.state is OrderState.PARTIALLY_FILLED
    with pytest.raises(IllegalTransitionError):
        advance(unsent, Event.SEND)


def test_an_overfill_is_counted_and_said() -> None:
    over = advance(SENT, Execution("f", D(11)))
    assert over.overfilled
    assert over.filled == D(11)
    assert over.remaining == D(0)
    with pytest.raises(IllegalTransitionError, match="must be positive"):
        advance(SENT, Execution("f", D(0)))


class OrderLife(RuleBasedStateMachine):
    """Our side and a venue with one order, in any interleaving: we never contradict what the venue did."""

    @initialize(idempotent=st.booleans())
    def begin(self, idempotent: bool) -> None:
        self.status = OrderStatus(D(10))
        self.idempotent = idempotent
        self.standing = 0
        self.reports: list[Event | Execution] = []
        self.executed: Counter[str] = Counter()
        self.closed = False
        self.arrived_unseen = False

    @precondition(lambda self: self.status.state is OrderState.APPROVED)
    @rule(outcome=st.sampled_from(["answered", "lost", "dropped", "down"]))
    def send(self, outcome: str) -> None:
        self.status = advance(self.status, Event.SEND)
        self._outcome(outcome, first=True)

    @precondition(lambda self: self.idempotent and self.status.state in UNRESOLVED)
    @rule(outcome=st.sampled_from(["answered", "lost", "dropped"]))
    def send_again(self, outcome: str) -> None:
        self.status = advance(self.status, Event.RESEND)
        self._outcome(outcome, first=False)

    def _outcome(self, outcome: str, first: bool) -> None:
        if outcome == "down" and first:
            self.status = advance(self.status, Event.NOT_SENT)
            return
        if outcome in ("answered", "lost") and not (self.idempotent and self.standing):
            self.standing += 1
            self.reports.append(Event.ACCEPT)
        if outcome == "answered":
            self.status = advance(self.status, Event.ACCEPT)
        elif outcome == "dropped" or not first:
            self.status = advance(self.status, Event.UNCERTAIN)

    @precondition(lambda self: self.standing and not self.closed)
    @rule(size=st.integers(1, 10))
    def venue_fills(self, size: int) -> None:
        room = 10 - sum(self.executed.values())
        size = min(size, room)
        fill = f"f{len(self.executed)}"
        self.executed[fill] = size
        self.reports.append(Execution(fill, D(size)))
        self.closed = size == room

    @precondition(lambda self: self.status.state is not OrderState.APPROVED)
    @rule()
    def we_ask_to_cancel(self) -> None:
        self.status = advance(self.status, Event.ASK_CANCEL)

    @precondition(lambda self: self.standing and not self.closed)
    @rule(end=st.sampled_from([Event.CANCEL, Event.EXPIRE, Event.REPLACE]))
    def venue_ends(self, end: Event) -> None:
        self.reports.append(end)
        self.closed = True

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def a_report_arrives(self, data: st.DataObject) -> None:
        self.status = advance(self.status, data.draw(st.sampled_from(self.reports)))

    @rule()
    def nothing_happens(self) -> None:
        """Time passes."""

    @invariant()
    def never_two_orders_and_never_more_than_the_venue_filled(self) -> None:
        if not hasattr(self, "status"):
            return
        assert self.standing <= 1
        assert self.status.filled <= sum(self.executed.values())
        assert self.status.filled + self.status.remaining <= 10
        if self.standing and not self.closed:
            # What still works at the venue counts as working here: no limit forgets it.
            assert self.status.state in WORKING

    def teardown(self) -> None:
        for report in self.reports:
            self.status = advance(self.status, report)
        assert self.status.filled == sum(self.executed.values())
        if self.closed:
            assert self.status.state in TERMINAL


TestOrderLife = OrderLife.TestCase
TestOrderLife.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)
