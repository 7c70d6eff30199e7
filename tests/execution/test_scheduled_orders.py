"""Orders worked over a session: children of their own life, judged one by one, and what the window's end leaves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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
    approve_all,
    flat_feed,
    paper,
    rows,
    store_plan,
)
from pydantic import ValidationError
from rich.console import Console

from octopus.core.orders import AccountSnapshot, Batch, GateReport, OrderType, Outcome, Side, TradingState, Verdict
from octopus.execution.config import Kind, Remainder, ScheduleAtBars, ScheduleConfig
from octopus.execution.schedules import child_id, parent_of
from octopus.portfolio.units import TradingUnits
from octopus_pipelines.cli.story import print_story
from resources.brokers.base import BrokerOrder, Guarantee, OrderRequest
from resources.execution_engine import EngineSettings
from resources.warehouse.connection import Role
from resources.warehouse.execution_reports import ExecutionReports
from resources.warehouse.order_store import BatchRefusedError, OrderStore
from resources.warehouse.order_story import OrderStories, UnknownOrderError
from resources.warehouse.store import Warehouse

D = Decimal
TRADES = [("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(7))]
TWAP = ScheduleConfig(schedule=Kind.TWAP, slices=3)
END = CLOSE - timedelta(minutes=15)


def scheduled(url: str, tmp_path: Path, config: ScheduleConfig, judge: object = approve_all) -> tuple[Desk, Batch]:
    clock, feed = ManualClock(OPEN), flat_feed(("AAA", "BBB"))
    settings = EngineSettings(lot=D(1), schedule=ScheduleAtBars.of(config))
    broker = paper(url, "acct", clock, feed, allow_fractional=False)
    desk = Desk(url, "acct", clock, feed, broker, tmp_path / "anchor", judge=judge, settings=settings)  # type: ignore[arg-type]
    desk.open()
    return desk, store_plan(url, "acct", TRADES, order_type=OrderType.MARKET)


def children(url: str, instrument: str) -> list[tuple[object, ...]]:
    """Quantity, type, decision, state and when it was sent, of each child."""
    return rows(
        url,
        "select i.quantity, i.order_type, i.status, o.state, o.submitted_at from execution.order_intents i "
        "left join execution.orders o using (intent_id) where i.instrument = %s order by intent_id",
        instrument,
    )


def test_the_story_of_a_planned_order_names_its_slices(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its whole id, with which those of its slices begin."""
    desk, batch = scheduled(database_url, tmp_path, TWAP)
    stories, name = OrderStories(Warehouse(desk.url, Role.TRADER), "sample", desk.anchor), batch.orders[0].intent_id
    planned = stories.story(name)
    assert (planned["order"]["status"], planned["children"], planned["answer"]["allowed"]) == ("planned", [], False)
    desk.execute(batch)
    story = stories.story(name)
    assert (story["order"]["intent_id"], story["order"]["quantity"]) == (name, "10")
    assert [(child["quantity"], child["state"]) for child in story["children"]] == [
        (quantity, "filled") for quantity in ("3", "3", "4")
    ]
    assert (story["answer"]["allowed"], story["answer"]["sent"]) == (True, True)
    assert "3 of its 3 slices were approved" in story["answer"]["because"]
    for child in story["children"]:
        own = stories.story(child["intent_id"])
        assert (own["order"]["quantity"], own["children"]) == (child["quantity"], [])
    print_story(Console(width=200), story)
    shown = capsys.readouterr().out
    assert all(child["client_order_id"] in shown for child in story["children"])
    with pytest.raises(UnknownOrderError, match="begins several orders"):
        stories.find(name[:-1])


def begins(number: int) -> datetime:
    return OPEN + number * (END - OPEN) / 3


def test_each_slice_is_an_intent_of_its_own_and_sent_as_it_begins(database_url: str, tmp_path: Path) -> None:
    desk, batch = scheduled(database_url, tmp_path, TWAP)
    done = desk.execute(batch)
    market = "market", "approved", "filled"
    assert children(database_url, "AAA") == [
        (D(quantity), *market, begins(number)) for number, quantity in enumerate((3, 3, 4))
    ]
    assert [row[0] for row in children(database_url, "BBB")] == [D(2), D(2), D(3)]
    assert (len(done.placement.sent), done.placement.stopped, done.breaks) == (6, "", ())
    assert done.navs[EXECUTED].holdings.positions == {"AAA": D(10), "BBB": D(7)}
    progress = (
        "select instrument, quantity, children, denied, filled, working from execution.schedule_progress order by 1"
    )
    assert rows(database_url, progress) == [("AAA", D(10), 3, 0, D(10), D(0)), ("BBB", D(7), 3, 0, D(7), D(0))]
    # Each slice was judged from a snapshot of its own moment, and another run has nothing to do.
    assert rows(database_url, "select taken_at from execution.snapshots order by 1") == [(begins(n),) for n in range(3)]
    assert desk.execute(batch, "again").placement.sent == ()
    # A child is found by its name at the broker, with the plan that it is part of.
    story = OrderStories(Warehouse(desk.url, Role.TRADER), "sample", desk.anchor).story(done.placement.sent[0])
    assert story["order"]["intent_id"] == child_id(batch.orders[0].intent_id, 0)
    assert (story["answer"]["sent"], D(story["order"]["quantity"])) == (True, D(3))


@pytest.mark.parametrize(
    ("remainder", "left"),
    [(Remainder.CANCEL, []), (Remainder.CLOSE, [(D(4), "market_on_close", "approved", "filled")])],
)
def test_what_the_last_slice_was_denied_is_left_or_goes_into_the_close(
    database_url: str, tmp_path: Path, remainder: Remainder, left: list[object]
) -> None:
    def judge(batch: Batch, _snapshot: AccountSnapshot, now: datetime, _state: TradingState) -> tuple[GateReport, ...]:
        barred = {o.intent_id for o in batch.orders if o.instrument == "AAA" and begins(2) <= now < END}
        verdicts = tuple(Verdict("risk", "mood", name, Outcome.DENY, "not now") for name in barred)
        return (GateReport("risk", tuple(o.intent_id for o in batch.orders if o.intent_id not in barred), verdicts),)

    desk, batch = scheduled(database_url, tmp_path, TWAP.model_copy(update={"remainder": remainder}), judge)
    desk.execute(batch)
    told = children(database_url, "AAA")
    # It is asked again in the middle of the slice.
    assert [row[:4] for row in told[2:4]] == [(D(4), "market", "denied", None)] * 2
    assert [row[:4] for row in told[4:]] == left
    assert [row[0] for row in children(database_url, "BBB")] == [D(2), D(2), D(3)]


def test_children_are_whole_lots_of_the_instruments_own(database_url: str, tmp_path: Path) -> None:
    """Of 28 AAA in lots of four and seven BBB in lots of three; these were planned before they had any."""
    desk, _ = scheduled(database_url, tmp_path, TWAP)
    trades = [("AAA", Side.BUY, D(28)), ("BBB", Side.BUY, D(7))]
    batch = store_plan(database_url, "acct", trades, order_type=OrderType.MARKET, name="own", created_at=OPEN)
    asked = []

    def units(as_of: datetime) -> TradingUnits:
        asked.append(as_of)
        return TradingUnits({"AAA": D(4), "BBB": D(3)})

    done = desk.execute(batch, units=units)
    assert [row[0] for row in children(database_url, "AAA")] == [D(8), D(8), D(12)]
    # The child that is cut once all is due takes what is no whole lot.
    assert [row[0] for row in children(database_url, "BBB")] == [D(3), D(4)]
    assert done.navs[EXECUTED].holdings.positions == {"AAA": D(28), "BBB": D(7)}
    assert set(asked) == {SESSIONS.decision_utc(DECIDED)}, "as the plan had them"


def test_a_worker_that_dies_between_two_slices_is_followed_by_one_that_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    desk, batch = scheduled(database_url, tmp_path, TWAP)
    with desk.engine() as engine:
        assert engine.prepare(batch.batch_id, "dies") is not None
    desk.clock.wait_until(begins(1))
    desk.execute(batch, "goes on")
    # The first slice was approved and not sent: it is judged again, and what is due since waits for the next looks.
    assert [(row[0], row[4]) for row in children(database_url, "AAA")] == [
        (D(3), begins(1)), (D(3), begins(1) + (END - OPEN) / 6), (D(4), begins(2)),
    ]  # fmt: skip


def test_a_halt_stops_the_slices_and_resuming_lets_the_next_ones_catch_up(database_url: str, tmp_path: Path) -> None:
    desk, batch = scheduled(database_url, tmp_path, TWAP)

    def turn(state: TradingState) -> None:
        with OrderStore.opened(desk.url) as store:
            store.set_trading_state("acct", state, "test", "by the test", desk.clock.now())

    class Clock(ManualClock):
        def wait_until(self, instant: datetime) -> None:
            super().wait_until(instant)
            if instant in (begins(1), begins(2)):
                turn(TradingState.HALTED if instant == begins(1) else TradingState.ACTIVE)

    desk.clock = Clock(OPEN)
    desk.broker = replace(desk.broker, clock=desk.clock)  # type: ignore[type-var]
    desk.execute(batch)
    assert [(row[0], row[4]) for row in children(database_url, "AAA")] == [
        (D(3), begins(0)), (D(4), begins(2)), (D(3), begins(2) + (END - OPEN) / 6),
    ]  # fmt: skip


def test_a_slice_that_does_not_fill_keeps_the_next_ones_back_and_they_follow_when_it_does(
    database_url: str, tmp_path: Path
) -> None:
    """The instrument is halted at the venue to the last third of the window; a real order path, three slices."""

    class Halting(ManualClock):
        def wait_until(self, instant: datetime) -> None:
            super().wait_until(instant)
            for order in list(broker.standing()) if instant >= begins(2) else ():
                broker.fill(order.client_order_id, order.quantity)

    clock = Halting(OPEN)
    broker = VenueBroker("acct", clock, Guarantee.IDEMPOTENT_KEY)
    settings = EngineSettings(lot=D(1), halt_on_breaks=False, schedule=TWAP)
    desk = Desk(database_url, "acct", clock, flat_feed(("AAA",)), broker, tmp_path / "anchor", settings=settings)
    desk.open()
    desk.execute(store_plan(database_url, "acct", [("AAA", Side.SELL, D(9))], order_type=OrderType.MARKET))
    assert [(row[0], row[4]) for row in children(database_url, "AAA")] == [
        (D(3), begins(0)), (D(3), begins(2)), (D(3), begins(2) + (END - OPEN) / 6),
    ]  # fmt: skip


def test_participation_follows_the_volume_and_vwap_its_profile(database_url: str, tmp_path: Path) -> None:
    follows = ScheduleConfig(schedule=Kind.PARTICIPATION, slices=3, rate=0.1)
    desk, batch = scheduled(database_url, tmp_path, follows)
    desk.execute(batch, volume=lambda _name, since, until: D(60) * int((until - since) / (begins(1) - OPEN)))
    assert [(row[0], row[4]) for row in children(database_url, "AAA")] == [(D(6), begins(1)), (D(4), begins(2))]
    profile = ScheduleConfig(schedule=Kind.VWAP, slices=3, profile=(2, 1, 1)).over(OPEN, CLOSE)
    assert [profile.due(D(8), begins(number), D(0)) for number in range(3)] == [D(4), D(6), D(8)]


def test_a_persons_release_of_the_plan_is_one_of_its_slices(database_url: str, tmp_path: Path) -> None:
    desk, batch = scheduled(database_url, tmp_path, TWAP)
    desk.settings = replace(desk.settings, require_release=True)
    with desk.engine() as engine, pytest.raises(BatchRefusedError, match="awaits a person's release"):
        engine.execute_batch(batch.batch_id, "too early")
    with OrderStore.opened(desk.url) as store:
        store.release(batch, "ann", "read it", desk.clock.now())
    assert len(desk.execute(batch).placement.sent) == 6


def test_outside_its_session_a_scheduled_batch_is_refused(database_url: str, tmp_path: Path) -> None:
    desk, batch = scheduled(database_url, tmp_path, TWAP)
    desk.clock.wait_until(CLOSE)
    with pytest.raises(BatchRefusedError, match="may be sent from"):
        desk.execute(batch)


def test_a_batch_for_an_auction_is_sent_as_it_is(database_url: str, tmp_path: Path) -> None:
    desk, _ = scheduled(database_url, tmp_path, TWAP)
    batch = store_plan(database_url, "acct", TRADES, name="close", created_at=CLOSE - timedelta(hours=12))
    desk.execute(batch)
    assert [row[:3] for row in children(database_url, "AAA")] == [(D(10), "market_on_close", "approved")]


def test_a_child_names_its_parent_and_vwap_needs_its_profile() -> None:
    assert parent_of(child_id("20221227-ab-cd", 12)) == "20221227-ab-cd"
    assert parent_of("20221227-ab-cd") is None
    with pytest.raises(ValidationError, match="vwap needs one for each slice"):
        ScheduleConfig(schedule=Kind.VWAP, slices=3, profile=(1, 2))


@dataclass
class RisingBroker(VenueBroker):
    """Fills at once, at a price that rises by one each hour; so does the one that it tells in snapshots."""

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        return replace(super().snapshot(quoted), prices=dict.fromkeys(quoted, self._price()))

    def submit(self, request: OrderRequest) -> BrokerOrder:
        sent = super().submit(request)
        self.fill(request.client_order_id, request.quantity)
        self.executed[-1] = replace(self.executed[-1], price=self._price())
        return sent

    def _price(self) -> Decimal:
        return D(100) + (self.clock.now() - OPEN) // timedelta(hours=1)


def test_each_child_arrives_at_the_price_of_its_own_moment(database_url: str, tmp_path: Path) -> None:
    clock, feed = ManualClock(OPEN), flat_feed(("AAA",))
    settings = EngineSettings(lot=D(1), halt_on_breaks=False, schedule=TWAP)
    broker = RisingBroker("acct", clock, Guarantee.IDEMPOTENT_KEY)
    desk = Desk(database_url, "acct", clock, feed, broker, tmp_path / "anchor", settings=settings)
    desk.open()
    desk.execute(store_plan(database_url, "acct", [("AAA", Side.BUY, D(9))], order_type=OrderType.MARKET))
    with desk.engine() as engine:
        reports = ExecutionReports(engine.store, Warehouse(database_url, Role.TRADER), feed, SESSIONS)
        assert reports.save_order_costs("acct", EXECUTED) == 3
    costs = "select arrival_price, average_price, slippage_bps from execution.order_costs order by average_price"
    assert rows(database_url, costs) == [(price, price, 0) for price in (D(100), D(102), D(104))]
