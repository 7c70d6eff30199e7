"""The kill switch turned at every moment around a send: what is judged under one state is committed under no other.
What a halt keeps back waits, and goes once trading is resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
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
    approve_all,
    flat_feed,
    order_ids,
    paper,
    rows,
    store_plan,
)
from execution_support import opened as store_of
from power import whenever

import octopus_pipelines.cli.trading as commands
from octopus.core.orders import AccountSnapshot, Batch, GateReport, OrderType, Side, TradingState
from octopus.execution.config import Kind, ScheduleAtBars
from octopus.execution.states import Event
from octopus_pipelines.overview import status as overview
from resources.brokers.base import BrokerOrder, Guarantee, OrderRequest
from resources.clock import ReplayClock
from resources.execution_engine import EngineSettings
from resources.halt_file import Halt, HaltFile
from resources.settings import Settings, load_settings
from resources.trading_state import halt_file
from resources.warehouse import posttrade
from resources.warehouse.connection import Role
from resources.warehouse.order_store import OrderStore, TradingHaltedError
from resources.warehouse.store import Warehouse

NOON = OPEN + timedelta(hours=1)
NAMES = ("AAA", "BBB", "CCC")
BUYS = [(name, Side.BUY, D(10)) for name in NAMES]
ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED
LATER = SESSIONS.next(EXECUTED)


@pytest.fixture
def desk(database_url: str) -> Desk:
    clock, feed = ManualClock(NOON), flat_feed(NAMES)
    made = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed))
    made.open()
    return made


def turn(desk: Desk, state: TradingState, after: timedelta = timedelta(0)) -> None:
    with store_of(desk.url) as store:
        store.set_trading_state(desk.account, state, "Ann Example", "the cause", desk.clock.now() + after)


@dataclass
class Person:
    """Gates that approve all, behind which somebody turns the kill switch while they judge.

    Attributes:
        turns: to which state at which judgement, counted from 0. judged: the states that were judged under.
    """

    desk: Desk
    turns: dict[int, Sequence[TradingState]]
    judged: list[TradingState] = field(default_factory=list)

    def __call__(
        self, batch: Batch, snapshot: AccountSnapshot, now: datetime, state: TradingState
    ) -> tuple[GateReport, ...]:
        self.judged.append(state)
        for other in self.turns.get(len(self.judged) - 1, ()):
            turn(self.desk, other)
        return approve_all(batch, snapshot, now)


# -- judged under one state, committed under no other ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "judged"),
    [
        ({0: [HALTED, ACTIVE]}, [ACTIVE] * 4),
        ({0: [REDUCING, ACTIVE]}, [ACTIVE] * 4),
        # Turned back after it was judged what may be sent: before the claim, and before an order's own commit.
        ({-1: [REDUCING], 0: [ACTIVE]}, [REDUCING] + [ACTIVE] * 4),
        ({0: [], 1: [REDUCING], 2: [ACTIVE]}, [ACTIVE, ACTIVE, REDUCING] + [ACTIVE] * 3),
    ],
    ids=["halted and resumed", "reducing and resumed", "resumed before the claim", "resumed before a denial"],
)
def test_a_state_that_is_over_denies_no_order(
    desk: Desk, turns: dict[int, Sequence[TradingState]], judged: list[TradingState]
) -> None:
    person, batch = Person(desk, turns), store_plan(desk.url, "acct", BUYS)
    for state in turns.get(-1, ()):
        turn(desk, state)
    desk.execute(batch, judge=person)
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert person.judged == judged
    assert rows(desk.url, "select 1 from execution.verdicts where outcome = 'deny'") == []


@pytest.mark.parametrize("state", [HALTED, REDUCING])
def test_what_opens_risk_stays_back_when_the_switch_is_turned_between_its_judgement_and_its_commit(
    desk: Desk, state: TradingState
) -> None:
    person, batch = Person(desk, {2: [state]}), store_plan(desk.url, "acct", BUYS)
    desk.execute(batch, judge=person)
    assert rows(desk.url, "select instrument from paper.orders") == [("AAA",)], (
        "the second was judged as trading stopped"
    )
    # A halt lets the rest wait for its window's end, trading that only reduces denies it.
    left = "expired" if state is HALTED else "cancelled"
    assert desk.states(batch) == {"AAA": "filled", "BBB": left, "CCC": left}
    denials = rows(desk.url, "select distinct rule from execution.verdicts where outcome = 'deny'")
    assert denials == ([] if state is HALTED else [("trading_state",)])


def test_a_halt_file_that_is_written_after_an_order_was_judged_keeps_it_back(desk: Desk, tmp_path: Path) -> None:
    batch, halts = store_plan(desk.url, "acct", BUYS), HaltFile(tmp_path / "halt.json")
    first, second, _ = order_ids(batch)
    with desk.engine() as engine, OrderStore.opened(desk.url, halts=halts) as store:
        claim = engine.prepare(batch.batch_id, "run")
        store.begin_send(claim, first, Event.SEND, desk.clock.now())
        halts.write(Halt(HALTED, "Ann Example", "the line is gone", desk.clock.now()))
        with pytest.raises(TradingHaltedError, match="the line is gone"):
            store.begin_send(claim, second, Event.SEND, desk.clock.now())
    assert sorted(desk.states(batch).values()) == ["approved", "approved", "submitting"]


def test_a_sale_of_what_is_held_still_leaves_when_trading_turns_to_reducing_before_its_commit(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", [("BBB", Side.BUY, D(10))]))
    desk.feed.bars.update(flat_feed(NAMES, days=[LATER]).bars)
    desk.clock.wait_until(SESSIONS.open_utc(LATER))
    trades = [("AAA", Side.BUY, D(1)), ("BBB", Side.SELL, D(4))]
    second = store_plan(desk.url, "acct", trades, name="second", session=EXECUTED, created_at=CLOSE)
    person = Person(desk, {1: [REDUCING]})
    desk.execute(second, judge=person)
    assert desk.states(second) == {"AAA": "cancelled", "BBB": "filled"}
    assert person.judged == [ACTIVE, ACTIVE, REDUCING, REDUCING]


@dataclass
class Losing(VenueBroker):
    """A venue that does ``on_arrival`` as each order comes, and holds ``held``."""

    on_arrival: Callable[[], None] = lambda: None
    held: dict[str, D] = field(default_factory=dict)  # type: ignore[valid-type]

    def submit(self, request: OrderRequest) -> BrokerOrder:
        self.on_arrival()
        return super().submit(request)

    def snapshot(self, quoted: Sequence[str] = ()) -> AccountSnapshot:  # type: ignore[override]
        return replace(super().snapshot(quoted), positions=dict(self.held))


@pytest.mark.parametrize(("side", "sends"), [(Side.BUY, 1), (Side.SELL, 2)])
def test_an_order_of_unknown_outcome_is_sent_again_while_trading_only_reduces_if_it_reduces(
    database_url: str, side: Side, sends: int
) -> None:
    clock = ManualClock(NOON)
    venue = Losing("acct", clock, Guarantee.IDEMPOTENT_KEY, ["dropped"], held={"AAA": D(10)})
    terms = EngineSettings(halt_on_breaks=False)
    desk = Desk(database_url, "acct", clock, flat_feed(NAMES), venue, settings=terms)
    desk.open()
    venue.on_arrival = lambda: turn(desk, REDUCING)
    batch = store_plan(database_url, "acct", [("AAA", side, D(10))])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        assert len(venue.sends) == sends
        assert desk.states(batch) == {"AAA": "unknown" if side is Side.BUY else "accepted"}
        engine.prepare(batch.batch_id, "again")
        engine.send(batch.batch_id, "again")
        assert len(venue.sends) == sends, "an order that may open risk waits"
        venue.on_arrival = lambda: None
        turn(desk, ACTIVE)
        engine.prepare(batch.batch_id, "resumed")
        engine.send(batch.batch_id, "resumed")
    assert len(venue.sends) == 2
    assert len(venue.standing()) == 1
    assert desk.states(batch) == {"AAA": "accepted"}


# -- what a halt kept back goes once trading is resumed ----------------------------------------------------------------


@dataclass
class Day(ManualClock):
    """A clock with what happens at its instants."""

    events: dict[datetime, Callable[[], None]] = field(default_factory=dict)

    def wait_until(self, instant: datetime) -> None:
        super().wait_until(instant)
        for due in sorted(at for at in self.events if at <= self.at):
            self.events.pop(due)()


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_that_waits_for_its_auction_sends_what_a_halt_kept_back(database_url: str, times: int) -> None:
    clock, hour = Day(NOON), timedelta(hours=1)
    feed = flat_feed(NAMES)
    terms = EngineSettings(watch_interval=hour / 2)
    desk = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed), settings=terms)
    desk.open()
    stops = [True] * times

    def stop() -> None:
        if stops:
            stops.pop()
            turn(desk, HALTED)

    for number in range(times):
        clock.events[NOON + hour * (number + 1)] = lambda: turn(desk, ACTIVE)
    batch = store_plan(database_url, "acct", BUYS)
    desk.execute(batch, "run", whenever("record: committed", stop))
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    claims = rows(database_url, "select run_id, count(*) from execution.attempts group by 1")
    assert claims == [("run", 1 + times)], "one attempt for each time that trading was resumed"
    assert len(rows(database_url, "select 1 from paper.orders")) == 3


def test_a_halt_within_a_slice_keeps_back_no_later_slice_once_trading_is_resumed(
    database_url: str, tmp_path: Path
) -> None:
    slices = ScheduleAtBars(schedule=Kind.TWAP, slices=3)
    clock, feed = Day(OPEN), flat_feed(NAMES)
    terms = EngineSettings(lot=D(1), schedule=slices, watch_interval=timedelta(minutes=10))
    broker = paper(database_url, "acct", clock, feed, allow_fractional=False)
    desk = Desk(database_url, "acct", clock, feed, broker, tmp_path / "anchor", settings=terms)
    desk.open()
    batch = store_plan(
        database_url, "acct", [("AAA", Side.BUY, D(9)), ("BBB", Side.BUY, D(9))], order_type=OrderType.MARKET
    )
    stops = [True]
    clock.events[OPEN + timedelta(minutes=30)] = lambda: turn(desk, ACTIVE)
    desk.execute(batch, "run", whenever("record: committed", lambda: stops and stops.pop() and turn(desk, HALTED)))
    filled = rows(
        database_url,
        "select i.instrument, sum(o.filled_quantity) from execution.orders o join execution.order_intents i "
        "using (intent_id) group by 1 order by 1",
    )
    assert filled == [("AAA", D(9)), ("BBB", D(9))]


# -- told --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of recorded data, the trading clock at the decision of `DECIDED`; commands see the same."""
    names = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    for name, value in {**names, "OCTOPUS_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OCTOPUS_CONFIG", raising=False)
    made = load_settings({**names, "OCTOPUS_HOME": str(tmp_path)})
    assert made.recorded
    assert ReplayClock(database_url, SESSIONS).begin_session(DECIDED)
    return made


def said(settings: Settings, command: str, *arguments: str) -> None:
    told = CliRunner().invoke(getattr(commands, command), list(arguments))
    assert told.exit_code == 0, told.output


def halts_told(settings: Settings, decided: object = DECIDED, executed: object = EXECUTED) -> list[tuple[str, str]]:
    warehouse = Warehouse(settings.database_url, Role.TRADER)
    made = posttrade.reports(
        warehouse,
        SESSIONS,
        "s",
        settings.account,
        decided,
        executed,
        settings.compliance,  # type: ignore[arg-type]
    )["exceptions"]
    return [(one["what"], one["detail"].partition(" (by ")[0]) for one in made.to_dicts() if one["kind"] == "halt"]


@pytest.mark.parametrize("file_alone", [False, True])
def test_a_halt_on_recorded_data_is_in_the_report_of_the_session_that_was_current(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, *, file_alone: bool
) -> None:
    if file_alone:
        # As with the database down; `octopus resume` takes it over.
        halt_file(settings).write(Halt(HALTED, "Ann Example", "smoke", datetime.now(UTC)))
    else:
        said(settings, "halt", "--reason", "smoke")
        said(settings, "halt", "--reducing", "--reason", "never looser")
    said(settings, "resume", "--reducing", "--reason", "wind down")
    again = [] if file_alone else [("halted", "smoke; and never looser")]
    assert halts_told(settings) == [("halted", "smoke"), *again, ("reducing", "wind down")]
    ReplayClock(settings.database_url, SESSIONS).wait_until(SESSIONS.open_utc(EXECUTED))
    said(settings, "halt", "--reason", "in the session")
    assert ("halted", "in the session") in halts_told(settings)
    assert halts_told(settings, EXECUTED, LATER) == [("halted", "still in force: in the session")]
    ReplayClock(settings.database_url, SESSIONS).begin_session(EXECUTED)
    said(settings, "halt", "--reason", "as the next is decided")
    both = ("halted", "in the session; and as the next is decided")
    assert both not in halts_told(settings)
    assert both in halts_told(settings, EXECUTED, LATER)
    said(settings, "resume")
    ReplayClock(settings.database_url, SESSIONS).begin_session(LATER)
    assert halts_told(settings, LATER, SESSIONS.next(LATER)) == []


def test_the_status_counts_the_orders_of_the_account_that_the_settings_name(desk: Desk, settings: Settings) -> None:
    desk.clock.at = NOON
    desk.execute(store_plan(desk.url, "acct", BUYS))
    assert overview(settings)["orders"] == {}
    other = replace(settings, paper=settings.paper.model_copy(update={"account": "acct"}))
    told = overview(other)
    assert (told["account"], told["orders"]) == ("acct", {"filled": 3})
