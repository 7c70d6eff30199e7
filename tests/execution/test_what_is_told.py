"""What people are told of the order path, from its records to a channel: orders that never left, books that differ."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

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
    VenueBroker,
    flat_feed,
    rows,
    store_plan,
)

from octopus.alerts.alert import Alert, Kind, Severity
from octopus.core.orders import Batch, Fill, OrderType, Side, TradingState
from octopus.execution.book import Book, CorporateAction, Entry, EntryKind
from octopus.execution.config import Kind as Schedule
from octopus.execution.config import ScheduleConfig
from octopus.execution.states import OrderState
from resources.alerts.channels import Outcome
from resources.alerts.house import AlertHouse
from resources.brokers.base import Guarantee, OrderRequest
from resources.clock import ReplayClock
from resources.execution_engine import EngineSettings
from resources.settings import Settings, load_settings

NAMES = ("AAA", "BBB")
AFTER = CLOSE + timedelta(minutes=30)
DAYS = tuple(SESSIONS.next(EXECUTED, number) for number in range(1, 7))


class Died(BaseException):
    """The end of a worker: nothing of ours catches it."""


class Taken:
    """A channel that takes every alert."""

    name = "taken"

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def send(self, alert: Alert) -> Outcome:
        self.alerts.append(alert)
        return Outcome(delivered=True, detail="taken")


@dataclass
class Paying(VenueBroker):
    """A venue that pays dividends when it likes, and whose account others trade in, too."""

    paid: list[Entry] = field(default_factory=list)
    foreign: list[Fill] = field(default_factory=list)

    def statement(self, since: datetime | None = None) -> Book:
        told = super().statement(since)
        positions = dict(told.positions)
        for fill in self.foreign:
            positions[fill.instrument] = positions.get(fill.instrument, D(0)) + fill.quantity
        moved = sum((one.cash for one in self.paid), D(0)) + sum((one.cash_flow for one in self.foreign), D(0))
        fills, entries = (*told.fills, *self.foreign), (*told.entries, *self.paid)
        return replace(told, cash=told.cash + moved, positions=positions, fills=fills, entries=entries)


class DiesAfterOne(VenueBroker):
    """The worker dies while its second order is on the way, which never arrives."""

    def submit(self, request: OrderRequest):  # type: ignore[no-untyped-def]
        if self.orders:
            raise Died
        return super().submit(request)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    names = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    return load_settings({**names, "OCTOPUS_HOME": str(tmp_path)})


class Office:
    """An account with a batch of two orders, and who is told of it."""

    def __init__(self, settings: Settings, kind: type[VenueBroker] = VenueBroker) -> None:
        self.settings, self.clock, self.channel = settings, ManualClock(OPEN), Taken()
        url, account = settings.database_url, settings.account
        self.broker = kind(account, self.clock, Guarantee.SEARCHABLE_TAG, fills_at=CLOSE)
        patience = EngineSettings(lot=D(1), settle_timeout=timedelta(0))
        self.feed = flat_feed(NAMES, days=(DECIDED, EXECUTED, *DAYS))
        self.desk = Desk(url, account, self.clock, self.feed, self.broker, settings.home / "anchor",
                         settings=patience)  # fmt: skip
        self.desk.open()

    def plan(self, *names: str) -> Batch:
        trades = [(name, Side.BUY, D(9)) for name in names]
        return store_plan(self.settings.database_url, self.settings.account, trades)

    def close(self, session: date) -> list[Alert]:
        """The books after a session, and what was delivered then."""
        self.clock.wait_until(SESSIONS.close_utc(session) + timedelta(hours=2))
        with self.desk.engine() as engine:
            engine.update_positions(self.settings.account)
            engine.reconcile(self.settings.account, session)
        return self.look()

    def look(self) -> list[Alert]:
        """One look at the clock's time; what was delivered by it."""
        ReplayClock(self.settings.database_url, SESSIONS).wait_until(self.clock.now())
        before = len(self.channel.alerts)
        AlertHouse(self.settings, [self.channel]).look()
        return self.channel.alerts[before:]


def test_a_batch_that_was_approved_and_never_sent_is_told_once_whoever_ends_it(settings: Settings) -> None:
    office = Office(settings)
    batch = office.plan(*NAMES)
    with office.desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
    # Nobody is left to send them.
    assert office.look() == []
    office.clock.wait_until(AFTER)
    (told,) = office.look()
    assert (told.kind, told.subject) == (Kind.UNSENT_ORDERS, batch.batch_id)
    assert "2 approved orders" in told.happened
    assert "buy 9 AAA, buy 9 BBB (no run has taken them up since)" in told.happened
    assert office.look() == []
    office.desk.execute(batch, "another run")
    assert office.desk.states(batch) == dict.fromkeys(NAMES, "expired")
    assert office.look() == []


def test_ended_by_a_run_before_anybody_looked_they_are_told_with_the_reason_and_not_for_ever(
    settings: Settings,
) -> None:
    office = Office(settings)
    batch = office.plan(*NAMES)
    with office.desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
    office.clock.wait_until(AFTER)
    office.desk.execute(batch, "another run")
    (told,) = office.look()
    assert told.kind is Kind.UNSENT_ORDERS
    assert "(not sent in its window)" in told.happened
    office.clock.wait_until(AFTER + timedelta(days=8))
    found = AlertHouse(settings, [])
    ReplayClock(settings.database_url, SESSIONS).wait_until(office.clock.now())
    assert Kind.UNSENT_ORDERS not in {one.kind for one in found.look()[0]}, "it is history after a week"


def test_an_order_that_died_on_its_way_is_told_and_the_one_that_arrived_is_not(settings: Settings) -> None:
    office = Office(settings, DiesAfterOne)
    batch = office.plan(*NAMES)
    with office.desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        with pytest.raises(Died):
            engine.send(batch.batch_id, "run")
    office.clock.wait_until(AFTER)
    office.desk.execute(batch, "another run")
    states = office.desk.states(batch)
    assert sorted(states.values()) == ["expired", "filled"]
    (lost,) = (name for name, state in states.items() if state == "expired")
    told = [one for one in office.look() if one.kind is Kind.UNSENT_ORDERS]
    assert [one.happened.partition(": ")[2] for one in told] == [f"buy 9 {lost} (the broker's records never had it)"]


def sliced(settings: Settings, kind: type[VenueBroker] = VenueBroker) -> tuple[Office, Batch]:
    """Two orders of nine, worked in three slices."""
    office = Office(settings, kind)
    office.desk.settings = replace(office.desk.settings, schedule=ScheduleConfig(schedule=Schedule.TWAP, slices=3))
    office.clock.at = OPEN
    trades = [(name, Side.BUY, D(9)) for name in NAMES]
    return office, store_plan(settings.database_url, settings.account, trades, order_type=OrderType.MARKET)


def test_what_no_slice_was_cut_for_is_told_with_what_died_on_its_way(settings: Settings) -> None:
    office, batch = sliced(settings, DiesAfterOne)
    with office.desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        with pytest.raises(Died):
            engine.send(batch.batch_id, "run")
    office.clock.wait_until(AFTER)
    office.desk.execute(batch, "another run")
    (told,) = [one for one in office.look() if one.kind is Kind.UNSENT_ORDERS]
    assert told.happened.startswith(f"1 approved orders and the rest of 2 scheduled orders of batch {batch.batch_id} ")
    assert "buy 6 AAA, buy 6 BBB" in told.happened
    assert "no slice was cut for it" in told.happened
    assert Kind.UNSENT_ORDERS not in {one.kind for one in office.look()}


def test_a_slice_that_stands_past_its_time_is_told_once_and_what_it_kept_back_at_the_end(settings: Settings) -> None:
    """At a venue that tells fills within the session; at the paper broker a slice that stands says nothing."""
    terms = settings.strategies.model_copy(update={"execution": ScheduleConfig(schedule=Schedule.TWAP, slices=3)})
    paper = replace(settings, strategies=terms)
    venue = replace(paper, broker=settings.broker.model_copy(update={"name": "alpaca"}))
    office, batch = sliced(venue)
    office.broker.fills_at = None
    seen: list[list[Alert]] = []

    class Looking(ManualClock):
        def wait_until(self, instant: datetime) -> None:
            super().wait_until(instant)
            for each in (paper, venue):
                office.settings = each
                seen.append([one for one in office.look() if one.kind is Kind.STANDING_SLICE])

    office.desk.clock = office.broker.clock = office.clock = Looking(OPEN)
    with office.desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    # In the middle of the first slice, as the second begins, and after that; the paper broker's looks between.
    assert [len(one) for one in seen[:4]] == [0, 0, 0, 2]
    assert not any(seen[4:])
    assert "buy 9 AAA" not in seen[3][0].happened
    assert "buy 3 AAA, is accepted since 2022-12-28T14:30:00+00:00" in seen[3][0].happened
    assert "none of the 6 shares that are left" in seen[3][0].happened
    assert len(office.broker.sends) == 2
    office.clock.at = AFTER
    (unsent,) = [one for one in office.look() if one.kind is Kind.UNSENT_ORDERS]
    assert "the rest of 2 scheduled orders" in unsent.happened
    assert "a slice before it stood" in unsent.happened


def test_slices_that_a_halt_kept_from_being_cut_are_told_and_a_schedule_that_ended_is_not(settings: Settings) -> None:
    office, batch = sliced(settings)
    office.broker.fills_at = OPEN
    office.desk.execute(batch)
    office.clock.wait_until(AFTER)
    assert Kind.UNSENT_ORDERS not in {one.kind for one in office.look()}
    office.clock.at = OPEN
    later = store_plan(
        settings.database_url, settings.account, [("AAA", Side.BUY, D(9))], order_type=OrderType.MARKET, name="later",
        created_at=datetime(2022, 12, 27, 23, tzinfo=UTC),
    )  # fmt: skip
    with office.desk.engine() as engine:
        engine.prepare(later.batch_id, "run")
        engine.store.set_trading_state(settings.account, TradingState.HALTED, "ann", "smoke", office.clock.now())
        engine.send(later.batch_id, "run")
    office.clock.wait_until(AFTER)
    (told,) = [one for one in office.look() if one.kind is Kind.UNSENT_ORDERS]
    assert told.happened.startswith("1 approved orders and the rest of 1 scheduled orders of batch")
    assert "buy 3 AAA, buy 6 AAA" in told.happened


def test_kept_back_by_a_halt_to_the_end_of_the_window_they_are_told_too(settings: Settings) -> None:
    office = Office(settings)
    batch = office.plan(*NAMES)
    with office.desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.store.set_trading_state(settings.account, TradingState.HALTED, "ann", "smoke", office.clock.now())
        engine.send(batch.batch_id, "run")
    office.clock.wait_until(AFTER)
    office.desk.execute(batch, "another run")
    assert [one.kind for one in office.look()].count(Kind.UNSENT_ORDERS) == 1
    assert office.broker.sends == []


def test_what_lapsed_at_the_venue_or_was_planned_anew_is_not_told_as_unsent(settings: Settings) -> None:
    office = Office(settings)
    first = office.plan("AAA")
    with office.desk.engine() as engine:
        engine.prepare(first.batch_id, "run")
    second = store_plan(
        settings.database_url, settings.account, [("BBB", Side.BUY, D(9))], name="newer",
        created_at=datetime(2022, 12, 28, 15, tzinfo=UTC),
    )  # fmt: skip
    office.broker.fills_at = None
    with office.desk.engine() as engine:
        engine.prepare(second.batch_id, "run")
        engine.send(second.batch_id, "run")
    office.clock.wait_until(AFTER)
    (standing,) = office.broker.standing()
    office.broker._end(standing, OrderState.EXPIRED, D(0))
    office.desk.execute(second, "another run")
    assert office.desk.states(first) == {"AAA": "expired"}
    assert office.desk.states(second) == {"BBB": "expired"}
    assert Kind.UNSENT_ORDERS not in {one.kind for one in office.look()}


# -- books that differ -------------------------------------------------------------------------------------------------


def held(settings: Settings) -> Office:
    """An account with nine AAA, which pays a dividend of one a share at the open of the session after."""
    office = Office(settings, Paying)
    ex = SESSIONS.open_utc(DAYS[0])
    office.feed.corporate_actions.append(CorporateAction(EntryKind.DIVIDEND, "AAA", D(1), ex))
    assert office.desk.execute(office.plan("AAA")).breaks == ()
    assert office.look() == []
    return office


def test_a_dividend_that_is_not_paid_yet_is_one_warning_until_it_is(settings: Settings) -> None:
    office = held(settings)
    told = [office.close(day) for day in DAYS[:4]]
    assert [len(each) for each in told] == [1, 0, 0, 0]
    (alert,) = told[0]
    assert (alert.kind, alert.kind.severity) == (Kind.UNSETTLED_AMOUNT, Severity.WARNING)
    assert "dividend of AAA on 2022-12-29: our book has 0 shares and 9 cash, the broker 0 shares" in alert.happened
    office.broker.paid.append(Entry("theirs", EntryKind.DIVIDEND, "AAA", D(0), D(9), SESSIONS.open_utc(DAYS[0])))
    assert office.close(DAYS[4]) == []
    assert rows(settings.database_url, "select count(*) from execution.reconciliation where seq > 0") == [(4,)]
    # What ended and comes again is told again.
    del office.broker.paid[:]
    (again,) = office.close(DAYS[5])
    assert (again.kind, again.happened.partition(": ")[2]) == (alert.kind, alert.happened.partition(": ")[2])


def test_shares_that_differ_are_critical_whatever_else_is_awaited_and_a_change_is_told(settings: Settings) -> None:
    office = held(settings)
    assert [one.kind for one in office.close(DAYS[0])] == [Kind.UNSETTLED_AMOUNT]
    by_hand = Fill("hand-1", "", "BBB", Side.BUY, D(2), D(100), D(0), SESSIONS.open_utc(DAYS[1]))
    office.broker.foreign.append(by_hand)
    told = {one.kind: one for one in office.close(DAYS[1])}
    assert set(told) == {Kind.RECONCILIATION_BREAK, Kind.HALT}
    differs = told[Kind.RECONCILIATION_BREAK].happened
    assert "1 breaks" in differs
    assert "fill hand-1" in differs
    assert "1 of before stand" in differs
    assert office.close(DAYS[2]) == []
    office.broker.foreign[:] = [replace(by_hand, quantity=D(3))]
    changed = [one for one in office.close(DAYS[3]) if one.kind is Kind.RECONCILIATION_BREAK]
    assert ["buy 3 BBB" in one.happened for one in changed] == [True]
