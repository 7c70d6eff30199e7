"""Schedules: by hand, and a parent worked by children that end in every way, never beyond its quantity."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from octopus.core.ids import client_order_id
from octopus.core.orders import OrderType, PlannedOrder, Side
from octopus.execution.config import Kind, ScheduleAtBars, ScheduleConfig
from octopus.execution.schedules import (
    Participation,
    Schedule,
    ScheduleError,
    Weighted,
    Window,
    child_id,
    closing_child,
    committed,
    next_child,
    quantities,
    twap,
    vwap,
)
from octopus.execution.states import UNRESOLVED, WORKING, Event, Execution, OrderState, OrderStatus, advance

D = Decimal
START = datetime(2022, 12, 28, 14, 30, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=1))
ONE = D(1)


def parent(quantity: Decimal) -> PlannedOrder:
    return PlannedOrder("p", "AAA", Side.BUY, quantity, D(100), OrderType.MARKET)


def filled(quantity: Decimal) -> OrderStatus:
    return OrderStatus(quantity, OrderState.FILLED, quantity)


def worked(
    schedule: Schedule, quantity: Decimal, minutes: list[int], volumes: list[int] | None = None
) -> list[Decimal]:
    """Sizes of the children when each fills at once; zero where nothing is due."""
    children: list[OrderStatus] = []
    sizes = []
    for place, minute in enumerate(minutes):
        volume = D(volumes[place]) if volumes else D(0)
        now = START + timedelta(minutes=minute)
        child = next_child(parent(quantity), schedule, children, now, lot=ONE, market_volume=volume)
        sizes.append(child.quantity if child else D(0))
        children += [filled(child.quantity)] if child else []
    return sizes


def test_twap_sends_equal_slices_as_they_begin_and_rounding_goes_to_the_last() -> None:
    assert worked(twap(WINDOW, 4), D(10), [0, 14, 15, 30, 45, 59]) == [D(2), D(0), D(3), D(2), D(3), D(0)]


def test_vwap_follows_the_usual_volume_and_no_single_heavy_day() -> None:
    volumes = np.array([[50.0, 30.0, 20.0], [5000.0, 3000.0, 2000.0], [0.0, 0.0, 0.0]])
    assert worked(vwap(WINDOW, volumes), D(100), [0, 20, 40]) == [D(50), D(30), D(20)]


def test_participation_follows_the_market_and_stops_at_the_parent() -> None:
    schedule = Participation(WINDOW, D("0.1"))
    assert worked(schedule, D(100), [0, 10, 20, 30], [0, 255, 255, 5000]) == [D(0), D(25), D(0), D(75)]


def test_nothing_is_sent_outside_the_window_or_while_a_child_is_unknown() -> None:
    schedule = twap(WINDOW, 1)
    for minute in (-1, 60):
        assert next_child(parent(D(5)), schedule, [], START + timedelta(minutes=minute), lot=ONE) is None
    for state in UNRESOLVED:
        children = [OrderStatus(D(1), state)]
        assert next_child(parent(D(5)), schedule, children, START, lot=ONE) is None


def test_what_a_child_left_unfilled_falls_to_the_next_ones_in_children_of_a_slices_size() -> None:
    children = [OrderStatus(D(5), OrderState.CANCELLED, D(2))]
    for name, quantity in (("p-c0001", D(5)), ("p-c0002", D(3))):
        child = next_child(parent(D(10)), twap(WINDOW, 2), children, START + timedelta(minutes=30), lot=ONE)
        assert child is not None
        assert (child.intent_id, child.quantity) == (name, quantity)
        children.append(filled(quantity))


def test_a_schedule_waits_behind_a_child_that_stands_and_catches_up_at_twice_its_pace() -> None:
    """The instrument is halted from the first child to the middle of the third of six slices."""
    terms = ScheduleConfig(schedule=Kind.TWAP, slices=6, ends_before_close_minutes=15)
    schedule = terms.over(START, START + timedelta(minutes=75))
    children: list[OrderStatus] = []
    sent: list[tuple[int, Decimal]] = []
    for look in terms.looks(schedule)[:-1]:
        minute = (look - START) // timedelta(minutes=1)
        if minute >= 25:
            children = [filled(one.quantity) for one in children]
        child = next_child(parent(D(6000)), schedule, children, look, lot=ONE)
        if child is not None:
            sent.append((minute, child.quantity))
            children.append(OrderStatus(child.quantity, OrderState.ACCEPTED))
        assert sum(one.remaining for one in children) <= 1000
    assert sent == [(minute, D(1000)) for minute in (0, 25, 30, 35, 40, 50)]


def test_where_no_fill_is_told_within_the_session_none_is_awaited() -> None:
    terms = ScheduleConfig(schedule=Kind.TWAP, slices=2)
    standing = [OrderStatus(D(5), OrderState.ACCEPTED)]
    for told, cut in ((terms, None), (ScheduleAtBars.of(terms), D(5))):
        schedule = told.over(START, START + timedelta(hours=2))
        child = next_child(parent(D(10)), schedule, standing, schedule.window.end - timedelta(minutes=1), lot=ONE)
        assert (child and child.quantity) == cut


@given(
    shares=st.integers(1, 5000), lot=st.sampled_from([D(1), D(7), D("0.5")]), slices=st.integers(1, 9),
    kind=st.integers(0, 2), fills=st.lists(st.sampled_from([0, 0, 1, 3, 4]), min_size=18, max_size=18),
    volume=st.integers(0, 3000),
)  # fmt: skip
@settings(deadline=None)
def test_whatever_fills_and_stops_filling_one_child_stands_at_most_and_is_no_larger_than_a_slice(
    shares: int, lot: Decimal, slices: int, kind: int, fills: list[int], volume: int
) -> None:
    """``fills``: quarters of what stands that the venue fills before each look."""
    whole = shares * D("0.5")
    made: tuple[Schedule, ...] = (
        twap(WINDOW, slices), vwap(WINDOW, np.arange(1.0, slices + 1)[None, :]), Participation(WINDOW, D("0.1")),
    )  # fmt: skip
    schedule = made[kind]
    undisturbed = [schedule.due(whole, now, D(volume)) for now in twap(WINDOW, slices).begins]
    size = max(quantities(whole, undisturbed, lot), default=D(0))
    children: list[OrderStatus] = []
    for number, (now, part) in enumerate(zip(twap(WINDOW, len(fills)).begins, fills, strict=True)):
        for at, one in enumerate(children):
            if part and one.remaining:
                children[at] = advance(one, Execution(f"{number}", one.remaining * part / 4))
        child = next_child(parent(whole), schedule, children, now, lot=lot, market_volume=D(volume))
        if child is not None:
            assert not any(one.remaining for one in children)
            children.append(advance(advance(OrderStatus(child.quantity), Event.SEND), Event.ACCEPT))
        assert sum((one.remaining for one in children), D(0)) <= size
        assert committed(children) <= whole


def test_children_have_ids_of_their_own() -> None:
    ids = {client_order_id(child_id(name, number)) for name in ("p", "q") for number in range(50)}
    assert len(ids) == 100
    assert all(len(one) <= 32 for one in ids)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Window(START, START), "not before end"),
        (lambda: twap(WINDOW, 0), "slices = 0"),
        (lambda: Participation(WINDOW, D(1)), "rate = 1"),
        (lambda: Weighted(WINDOW, (D("0.5"),)), "sum to 1"),
        (lambda: vwap(WINDOW, np.zeros((2, 3))), "no session"),
        (lambda: vwap(WINDOW, np.array([[1.0, np.nan]])), "finite"),
        (lambda: next_child(parent(D(5)), twap(WINDOW, 1), [], START, lot=D(0)), "lot = 0 of AAA"),
    ],
)  # fmt: skip
def test_what_cannot_be_worked_is_refused(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ScheduleError, match=words):
        make()


@given(
    quantity=st.integers(1, 10**6), slices=st.integers(1, 30), lot=st.sampled_from([D(1), D(10), D("0.001")]),
)  # fmt: skip
def test_slices_that_fill_make_the_parent_exactly(quantity: int, slices: int, lot: Decimal) -> None:
    whole, schedule, children = quantity * lot, twap(WINDOW, slices), []
    for now in schedule.begins:
        child = next_child(parent(whole), schedule, children, now, lot=lot)
        children += [filled(child.quantity)] if child else []
    assert committed(children) == whole
    assert all(child.quantity % lot == 0 for child in children)
    due = [schedule.due(whole, now, D(0)) for now in schedule.begins]
    assert quantities(whole, due, lot) == [child.quantity for child in children]
    if quantity % slices == 0:
        assert quantities(whole, due, lot) == [whole / slices] * slices


@given(
    quantity=st.integers(1, 5000), lot=st.sampled_from([D(1), D("0.001")]),
    volumes=st.lists(st.integers(0, 10_000), min_size=1, max_size=10),
)  # fmt: skip
def test_what_will_be_cut_is_what_is_cut_as_the_volume_comes(quantity: int, lot: Decimal, volumes: list[int]) -> None:
    whole, schedule, children = quantity * lot, Participation(WINDOW, D("0.17")), []
    traded = [sum(volumes[: number + 1]) * lot for number in range(len(volumes))]
    for number, volume in enumerate(traded):
        now = START + timedelta(minutes=number)
        child = next_child(parent(whole), schedule, children, now, lot=lot, market_volume=volume)
        children += [filled(child.quantity)] if child else []
    due = [schedule.due(whole, START, volume) for volume in traded]
    assert quantities(whole, due, lot) == [child.quantity for child in children]


def test_a_part_of_a_lot_goes_with_the_child_that_takes_the_rest() -> None:
    schedule, whole, lot = twap(WINDOW, 3), D("250.5"), D(100)
    children: list[OrderStatus] = []
    for now in schedule.begins:
        child = next_child(parent(whole), schedule, children, now, lot=lot)
        children += [filled(child.quantity)] if child else []
    assert [child.quantity for child in children] == [D(100), D("150.5")]
    assert quantities(whole, [schedule.due(whole, now, D(0)) for now in schedule.begins], lot) == [D(100), D("150.5")]
    assert quantities(D(40), [D(20), D(40)], lot) == [D(40)], "all of it is less than a lot"


@pytest.mark.parametrize(
    ("whole", "done", "left"),
    [(300, 137, D(100)), (300, 237, None), (263, 137, D(126)), (300, 300, None), (63, 0, D(63))],
)
def test_the_close_takes_whole_lots_unless_the_parent_is_none(whole: int, done: int, left: Decimal | None) -> None:
    first = replace(parent(D(done)), intent_id="p-c0000")
    children = [(first, OrderStatus(D(max(done, 1)), OrderState.CANCELLED, D(done)))]
    child = closing_child(parent(D(whole)), children, lot=D(100))
    assert (child and (child.quantity, child.order_type)) == (left and (left, OrderType.MARKET_ON_CLOSE))


class Working(RuleBasedStateMachine):
    """A parent, its schedule, and a venue that accepts, fills, ends, loses and forgets children as it likes."""

    @initialize(
        lots=st.integers(1, 200).map(D) | st.integers(0, 200).map(lambda whole: whole + D("0.3")),
        lot=st.sampled_from([D(1), D(5), D("0.5"), D(7)]), kind=st.integers(0, 2), slices=st.integers(1, 8),
    )  # fmt: skip
    def begin(self, lots: Decimal, lot: Decimal, kind: int, slices: int) -> None:
        self.lot, self.parent = lot, parent(lots * lot)
        self.schedule: Schedule = (
            twap(WINDOW, slices),
            vwap(WINDOW, np.arange(1.0, slices + 1)[None, :]),
            Participation(WINDOW, D("0.2")),
        )[kind]
        self.now, self.volume = START - timedelta(minutes=5), D(0)
        self.children: list[OrderStatus] = []
        self.sent_at: list[datetime] = []
        self.at_venue: list[bool] = []

    @rule(minutes=st.integers(0, 15), volume=st.integers(0, 400))
    def time_passes(self, minutes: int, volume: int) -> None:
        self.now += timedelta(minutes=minutes)
        self.volume += D(volume) * self.lot

    @rule(arrives=st.booleans(), answered=st.booleans())
    def a_child_is_sent(self, arrives: bool, answered: bool) -> None:
        child = next_child(self.parent, self.schedule, self.children, self.now, lot=self.lot, market_volume=self.volume)
        if child is None:
            return
        self.is_in_lots_or_the_last(child, self.children)
        status = advance(OrderStatus(child.quantity), Event.SEND)
        status = advance(status, Event.ACCEPT if arrives and answered else Event.UNCERTAIN)
        self.children.append(status)
        self.sent_at.append(self.now)
        self.at_venue.append(arrives)

    def is_in_lots_or_the_last(self, child: PlannedOrder, before: list[OrderStatus]) -> None:
        left = self.parent.quantity - committed(before)
        assert child.quantity % self.lot == 0 or (self.parent.quantity % self.lot and child.quantity == left)

    @precondition(lambda self: self.children)
    @rule(data=st.data(), share=st.integers(1, 4))
    def the_venue_fills(self, data: st.DataObject, share: int) -> None:
        at = data.draw(st.integers(0, len(self.children) - 1))
        status = self.children[at]
        if self.at_venue[at] and status.state in WORKING and status.remaining:
            part = max(status.remaining * share / 4, D("0.125"))
            self.children[at] = advance(status, Execution(f"{at}-{len(status.fill_ids)}", min(part, status.remaining)))

    @precondition(lambda self: self.children)
    @rule(data=st.data(), end=st.sampled_from([Event.CANCEL, Event.EXPIRE, Event.REJECT]))
    def a_child_ends(self, data: st.DataObject, end: Event) -> None:
        """The venue tells the end of it, or that it never had it."""
        at = data.draw(st.integers(0, len(self.children) - 1))
        if self.children[at].state in WORKING:
            self.children[at] = advance(self.children[at], end)

    @invariant()
    def never_more_than_the_parent(self) -> None:
        if not hasattr(self, "children"):
            return
        assert committed(self.children) <= self.parent.quantity
        standing = [child.remaining for child in self.children if child.remaining]
        assert len(standing) <= 1
        assert sum(standing) <= self.schedule.largest(self.parent.quantity, self.lot)
        assert all(WINDOW.contains(at) for at in self.sent_at)

    def teardown(self) -> None:
        """At the window's end a venue that fills what it is sent completes a parent that is due, child after child."""
        if not hasattr(self, "children") or any(child.state in UNRESOLVED for child in self.children):
            return
        left = self.parent.quantity - committed(self.children)
        of_lots = left if self.parent.quantity % self.lot else left - left % self.lot
        named = [(replace(self.parent, intent_id=f"p-c{place}"), one) for place, one in enumerate(self.children)]
        closing = closing_child(self.parent, named, lot=self.lot)
        assert (closing.quantity if closing else D(0)) == of_lots
        last, sent = WINDOW.end - timedelta(seconds=1), list(self.children)
        if any(child.remaining for child in sent):
            assert next_child(self.parent, self.schedule, sent, last, lot=self.lot, market_volume=D(10**9)) is None
            sent = [replace(one, state=OrderState.FILLED, filled=one.filled + one.remaining) for one in sent]
        while child := next_child(self.parent, self.schedule, sent, last, lot=self.lot, market_volume=D(10**9)):
            self.is_in_lots_or_the_last(child, sent)
            sent.append(filled(child.quantity))
        assert committed(sent) - committed(self.children) == of_lots


TestWorking = Working.TestCase
TestWorking.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)
