"""What the books differ by stays one difference with one name, however long it stands and however little is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    VenueBroker,
    flat_feed,
    store_plan,
)
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.orders import Side, TradingState
from octopus.execution.book import Book, CorporateAction, Entry, EntryKind
from octopus.execution.corrections import Told
from octopus.execution.reconcile import Break, BreakKind, reconcile
from resources.brokers.base import Guarantee
from resources.execution_engine import EngineSettings
from resources.settling import Settler

D = Decimal
NOTHING = D(0)
DAYS = [DECIDED, EXECUTED]
while len(DAYS) < 30:
    DAYS.append(SESSIONS.next(DAYS[-1]))
EX = DAYS[2]
DIVIDEND = Entry("theirs", EntryKind.DIVIDEND, "AAA", D(0), D(9), SESSIONS.open_utc(EX))


@dataclass
class TellingBroker(VenueBroker):
    """Tells what it has since an instant, a fee for each fill and what it paid."""

    fee: Decimal = NOTHING
    paid: list[Entry] = field(default_factory=list)

    def statement(self, since: datetime | None = None) -> Book:
        whole = super().statement(since)
        fills = [replace(fill, fees=self.fee) for fill in whole.fills]
        money = sum((one.cash for one in self.paid), D(0)) - self.fee * len(fills)
        return replace(
            whole, cash=whole.cash + money,
            fills=[one for one in fills if since is None or one.at >= since],
            entries=[one for one in self.paid if since is None or one.at >= since],
        )  # fmt: skip


def desk_with(url: str, folder: Path, broker: TellingBroker, *, dividend: bool = False) -> Desk:
    """It bought nine shares on the first day."""
    feed = flat_feed(("AAA",), days=DAYS)
    if dividend:
        feed.corporate_actions.append(CorporateAction(EntryKind.DIVIDEND, "AAA", D(1), SESSIONS.open_utc(EX)))
    assert isinstance(broker.clock, ManualClock)
    settings = EngineSettings(lot=D(1), settle_timeout=timedelta(0))
    desk = Desk(url, "acct", broker.clock, feed, broker, folder / "anchor", settings=settings)
    desk.open()
    desk.execute(store_plan(url, "acct", [("AAA", Side.BUY, D(9))]))
    return desk


def broker(keeps: timedelta | None, **options: object) -> TellingBroker:
    made = TellingBroker("acct", ManualClock(OPEN), Guarantee.SEARCHABLE_TAG, cash=D(0), fills_at=CLOSE, keeps=keeps)
    return replace(made, **options)  # type: ignore[arg-type]


def after(desk: Desk, day: date) -> tuple[list[Break], TradingState]:
    """What the comparison of a session's evening finds, and what it does to trading."""
    desk.clock.wait_until(SESSIONS.close_utc(day) + timedelta(hours=2))
    with desk.engine() as engine:
        engine.update_positions("acct")
        return list(engine.reconcile("acct", day)), engine.store.trading_status("acct").state


@contextmanager
def settling(desk: Desk) -> Iterator[Settler]:
    with desk.engine() as engine:
        yield Settler(engine, "acct")


KEEPS = pytest.mark.parametrize(
    "keeps", [None, timedelta(days=60), timedelta(days=5)], ids=["all", "60 days", "5 days"]
)


@KEEPS
def test_a_dividend_that_is_paid_weeks_later_halts_nothing(
    database_url: str, tmp_path: Path, keeps: timedelta | None
) -> None:
    venue = broker(keeps)
    desk = desk_with(database_url, tmp_path, venue, dividend=True)
    ids = set()
    for day in DAYS[2:28]:
        breaks, state = after(desk, day)
        assert [item.kind for item in breaks] == [BreakKind.DIVIDEND], day
        assert (breaks[0].instrument, breaks[0].cash_effect) == ("AAA", D(-9))
        assert "without a record" not in breaks[0].detail
        assert state is TradingState.ACTIVE, day
        ids.add(breaks[0].break_id)
    assert len(ids) == 1, "one difference has one name"
    venue.paid.append(DIVIDEND)
    assert after(desk, DAYS[28]) == ([], TradingState.ACTIVE)


@KEEPS
def test_a_fee_that_nobody_booked_stays_that_and_can_be_booked(
    database_url: str, tmp_path: Path, keeps: timedelta | None
) -> None:
    desk = desk_with(database_url, tmp_path, broker(keeps, fee=D(5)))
    for day in DAYS[2:28]:
        breaks, state = after(desk, day)
        assert [(item.kind, item.cash_effect) for item in breaks] == [(BreakKind.FEE, D(-5))], day
        assert state is TradingState.ACTIVE
    with settling(desk) as settler:
        (item,) = settler.open_breaks().breaks
        left = settler.book(item.break_id, Told("it is so"), {"AAA"}, "ann", "the schedule says so")
        assert left is not None
        assert left.breaks == ()
    assert after(desk, DAYS[28]) == ([], TradingState.ACTIVE)


def test_another_difference_beside_one_that_lasts_is_told_alone(database_url: str, tmp_path: Path) -> None:
    venue = broker(timedelta(days=5))
    desk = desk_with(database_url, tmp_path, venue, dividend=True)
    for day in DAYS[2:6]:
        after(desk, day)
    # It comes without a record that is told.
    venue.paid.append(Entry("fee", EntryKind.CHARGE, None, D(0), D(-2), SESSIONS.open_utc(EX)))
    breaks, state = after(desk, DAYS[6])
    assert [(item.kind, item.cash_effect) for item in breaks] == [(BreakKind.CASH, D(-2)), (BreakKind.DIVIDEND, D(-9))]
    assert state is TradingState.HALTED


def test_what_the_broker_told_once_and_tells_no_more_is_booked_as_it_was(database_url: str, tmp_path: Path) -> None:
    venue = broker(timedelta(days=5))
    desk = desk_with(database_url, tmp_path, venue)
    venue.paid.append(replace(DIVIDEND, at=SESSIONS.open_utc(DAYS[3]) + timedelta(hours=1)))
    for day in DAYS[2:8]:
        breaks, _ = after(desk, day)
    assert [(item.kind, item.cash_effect) for item in breaks] == [(BreakKind.DIVIDEND, D(9))]
    with settling(desk) as settler:
        left = settler.book(breaks[0].break_id, Told("paid"), {"AAA"}, "ann", "its confirmation says so")
        assert left is not None
        assert left.breaks == ()
    assert after(desk, DAYS[8]) == ([], TradingState.ACTIVE)


def lasting(number: int, shares: int) -> Break:
    """Each of another size, so that a sum is of one selection alone."""
    return Break(
        BreakKind.MANUAL_TRADE if shares else BreakKind.FEE, f"N{number % 3}" if shares else None, f"r{number}", None,
        D(1), "", D(shares * 3**number), D(2**number), OPEN,
    )  # fmt: skip


@given(st.lists(st.integers(0, 1), max_size=8), st.integers(0, 2**8), st.sampled_from([D(0), D(1000)]))
def test_of_what_differed_before_what_still_explains_the_books_stands_and_the_rest_is_new(
    shares: list[int], standing: int, fresh: Decimal
) -> None:
    before = [lasting(number, one) for number, one in enumerate(shares)]
    still = [item for number, item in enumerate(before) if standing >> number & 1]
    held: dict[str, Decimal] = {}
    for item in still:
        if item.instrument is not None:
            held[item.instrument] = held.get(item.instrument, D(0)) + item.quantity_effect
    theirs = Book("a", sum((item.cash_effect for item in still), fresh), held)
    found = reconcile(Book("a", D(0), {}), theirs, (), before=before)
    assert sum((item.cash_effect for item in found), D(0)) == theirs.cash
    if not fresh:
        assert {item.reference for item in found} == {item.reference for item in still}
    elif still == before:
        assert [item.cash_effect for item in found if item.reference is None] == [fresh]
