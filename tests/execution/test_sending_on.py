"""A batch that could not be sent in one go: a venue takes no more for now, or is slower than a snapshot is fresh. The
run that follows what was sent sends the rest, and asks no oftener than it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from execution_support import CLOSE, OPEN, D, Desk, ManualClock, VenueBroker, flat_feed, rows, store_plan
from power import whenever

from octopus.core.orders import AccountSnapshot, OrderType, Side, TradingState
from octopus.execution.config import Kind, ScheduleConfig
from resources.brokers.base import BrokerOrder, BrokerUnavailableError, Guarantee, OrderRequest
from resources.execution_engine import EngineSettings

NOON = OPEN + timedelta(hours=1)
NAMES = tuple(first + second for first in "ABCDE" for second in "ABCDE")
STEP = timedelta(seconds=30)


@dataclass
class Venue(VenueBroker):
    """Takes ``pace`` for each order, fills it at once or in the auction, and tells when it was asked."""

    pace: timedelta = timedelta(0)
    at_once: bool = False
    asked_at: list[object] = field(default_factory=list)
    on_ask: Callable[[], None] = lambda: None
    gone_until: datetime | None = None

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        if self.gone_until is not None and self.clock.now() < self.gone_until:
            raise BrokerUnavailableError("venue: connection refused")
        return super().snapshot(quoted)

    def submit(self, request: OrderRequest) -> BrokerOrder:
        self.asked_at.append(self.clock.now())
        self.on_ask()
        self.clock.at = self.clock.now() + self.pace
        answer = super().submit(request)
        if self.at_once:
            self.fill_all()
        return answer


def desk_at(url: str, folder: Path, venue: Venue, **terms: object) -> Desk:
    settings = EngineSettings(
        lot=D(1), settle_timeout=timedelta(0), watch_interval=timedelta(seconds=5), retry_interval=STEP, **terms
    )
    desk = Desk(url, "acct", venue.clock, flat_feed(NAMES), venue, folder / "anchor", settings=settings)
    desk.open()
    return desk


def venue_at(at: object = NOON, **changes: object) -> Venue:
    return Venue("acct", ManualClock(at), Guarantee.SEARCHABLE_TAG, fills_at=CLOSE, **changes)


def sent_once(venue: Venue, count: int) -> bool:
    """Each of ``count`` orders stands once."""
    return len(venue.orders) == count and all(len(standing) == 1 for standing in venue.orders.values())


@pytest.mark.parametrize("fails", [["ok", "down"], ["ok", "down", "down", "ok", "down"]])
def test_what_a_venue_did_not_take_is_sent_while_the_run_waits_for_the_auction(
    database_url: str, tmp_path: Path, fails: list[str]
) -> None:
    venue = venue_at(script=list(fails))
    desk = desk_at(database_url, tmp_path, venue)
    batch = store_plan(database_url, "acct", [(name, Side.BUY, D(1)) for name in NAMES[:6]])
    desk.execute(batch)
    assert Counter(desk.states(batch).values()) == {"filled": 6}
    assert sent_once(venue, 6)
    # The first time is at once: the run has just come to wait for the auction.
    after = [venue.asked_at[place + 1] for place, fault in enumerate(fails) if fault == "down"]
    assert after == [NOON + STEP * number for number in range(len(after))]


def test_orders_that_are_sent_longer_than_a_snapshot_is_fresh_all_leave_by_fresh_judgements(
    database_url: str, tmp_path: Path
) -> None:
    venue = venue_at(pace=timedelta(seconds=20))
    desk = desk_at(database_url, tmp_path, venue, max_snapshot_age=timedelta(minutes=2))
    batch = store_plan(database_url, "acct", [(name, Side.BUY, D(1)) for name in NAMES])
    placement = desk.execute(batch).placement
    assert (len(placement.sent), placement.stopped) == (len(NAMES), "")
    assert Counter(desk.states(batch).values()) == {"filled": len(NAMES)}
    assert sent_once(venue, len(NAMES))
    (claims,) = rows(database_url, "select count(*), count(distinct run_id) from execution.attempts")
    assert claims == (4, 1), "25 orders of 20 seconds each, seven to a snapshot"


def test_snapshots_that_are_too_old_before_an_order_leaves_are_not_taken_again_and_again(
    database_url: str, tmp_path: Path
) -> None:
    venue = venue_at(pace=timedelta(minutes=1), snapshot_age=timedelta(minutes=2))
    desk = desk_at(database_url, tmp_path, venue, max_snapshot_age=timedelta(minutes=2, seconds=30))
    batch = store_plan(database_url, "acct", [(name, Side.BUY, D(1)) for name in NAMES[:4]])
    with desk.engine(
        whenever("claim: committed", lambda: venue.clock.wait_until(venue.clock.now() + STEP * 2))
    ) as engine:
        engine.prepare(batch.batch_id, "run")
        placed = engine.send(batch.batch_id, "run")
    assert (placed.sent, venue.asked_at) == ((), [])
    assert "old" in placed.stopped
    (claims,) = rows(database_url, "select count(*) from execution.attempts")[0]
    assert claims == 1


def test_a_venue_that_takes_nothing_more_is_asked_twice_in_a_minute_until_the_window_closes(
    database_url: str, tmp_path: Path
) -> None:
    venue = venue_at(CLOSE - timedelta(minutes=20), script=["ok", *["down"] * 500])
    desk = desk_at(database_url, tmp_path, venue)
    batch = store_plan(database_url, "acct", [(name, Side.BUY, D(1)) for name in NAMES[:4]])
    desk.execute(batch)
    assert Counter(desk.states(batch).values()) == {"filled": 1, "expired": 3}
    # Market-on-close orders leave until ten minutes before the close.
    assert 20 <= len(venue.asked_at) - 1 <= 22
    (told,) = rows(database_url, "select count(*) from audit.log where kind = 'batch.refused'")[0]
    assert told == len(venue.asked_at) - 1


def test_what_a_halt_keeps_back_is_not_tried_again_by_itself(database_url: str, tmp_path: Path) -> None:
    venue = venue_at(script=["ok", "down", *["ok"] * 9])
    desk = desk_at(database_url, tmp_path, venue)
    batch = store_plan(database_url, "acct", [(name, Side.BUY, D(1)) for name in NAMES[:4]])

    def halt() -> None:
        if len(venue.asked_at) == 2:
            with desk.engine() as engine:
                engine.store.set_trading_state("acct", TradingState.HALTED, "a person", "looking", venue.clock.now())

    venue.on_ask = halt
    desk.execute(batch)
    assert Counter(desk.states(batch).values()) == {"filled": 1, "expired": 3}
    assert len(venue.asked_at) == 2
    refused = rows(database_url, "select payload::json ->> 'reason' from audit.log where kind = 'batch.refused'")
    assert refused == [("venue: connection refused",)], "and nobody is told every half minute that trading is halted"


@pytest.mark.parametrize("gone_for", [timedelta(0), 3 * STEP])
def test_a_slice_that_was_not_taken_leaves_half_a_minute_later_or_once_the_venue_is_back(
    database_url: str, tmp_path: Path, gone_for: timedelta
) -> None:
    slice_of = (CLOSE - timedelta(minutes=15) - OPEN) / 3
    venue = venue_at(OPEN, script=["ok", "ok", "down"], at_once=True)

    def go() -> None:
        if len(venue.asked_at) == 3:
            venue.gone_until = venue.clock.now() + gone_for

    venue.on_ask = go
    desk = desk_at(database_url, tmp_path, venue, schedule=ScheduleConfig(schedule=Kind.TWAP, slices=3))
    planned = [(name, Side.BUY, D(9)) for name in NAMES[:2]]
    batch = store_plan(database_url, "acct", planned, order_type=OrderType.MARKET)
    desk.execute(batch)
    filled = rows(
        database_url,
        "select i.instrument, sum(o.filled_quantity) from execution.orders o join execution.order_intents i "
        "using (intent_id) group by 1 order by 1",
    )
    assert filled == [(name, D(9)) for name in NAMES[:2]]
    refused, again = venue.asked_at[2:4]
    assert (refused, again) == (OPEN + slice_of, OPEN + slice_of + max(STEP, gone_for))
