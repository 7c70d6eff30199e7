"""A batch around its day: books compared before it, a halt while it was planned, nobody who begins it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
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
    flat_feed,
    paper,
    rows,
    store_plan,
)
from execution_support import opened as store_of
from power import whenever
from test_execution_reports import DeskTrading

from assets import execution
from octopus.alerts.alert import Kind
from octopus.alerts.watch import Patience, assess
from octopus.core.orders import AccountSnapshot, Batch, GateReport, Side, TradingState
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory
from octopus_pipelines.sensors.execution import TRIES, next_execution
from resources.alerts.facts import facts
from resources.execution_engine import EngineSettings
from resources.gates import Gates
from resources.halt_file import Halt
from resources.settings import Settings, load_settings
from resources.trading_state import halt_file
from resources.warehouse import launches
from resources.warehouse.connection import Role, connect
from resources.warehouse.order_store import TradingHaltedError
from resources.warehouse.plans import Plans
from resources.warehouse.store import Warehouse

NOON = OPEN + timedelta(hours=1)
NAMES = ("AAA", "BBB")
BUYS = [(name, Side.BUY, D(10)) for name in NAMES]


@pytest.fixture
def desk(database_url: str) -> Desk:
    clock, feed = ManualClock(NOON), flat_feed(NAMES)
    made = Desk(database_url, "paper", clock, feed, paper(database_url, "paper", clock, feed))
    made.open()
    return made


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    names = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    made = load_settings({**names, "OCTOPUS_HOME": str(tmp_path)})
    return replace(made, universe=made.universe.model_copy(update={"market_data": "yahoo"}))


def plan(desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """A batch with the limit report that research makes of it now, on a quiet market."""
    batch, days = store_plan(desk.url, "paper", BUYS), SESSIONS.between(date(2020, 1, 2), DECIDED)
    closes = dict.fromkeys(NAMES, LastPrice(D(100), SESSIONS.close_utc(DECIDED)))
    returns = np.random.default_rng(7).normal(0, 0.01, (len(days), len(NAMES)))
    market = MarketContext(
        closes, ReturnHistory(np.array(days, "datetime64[D]"), NAMES, returns), "total_return", D(100_000), D(100_000),
        sectors=dict(zip(NAMES, ("energy", "utilities"), strict=True)), sent=(),
    )  # fmt: skip
    monkeypatch.setattr(Gates, "market", lambda *_arguments: market)
    decided = SESSIONS.decision_utc(DECIDED)
    snapshot = AccountSnapshot("paper", decided, D(100_000), {}, dict.fromkeys(NAMES, D(100)))
    research = Warehouse(desk.url, Role.RESEARCH)
    report = Gates(settings, research).risk(batch, snapshot, decided)
    Plans(research).save_report("risk.limit_report", batch.batch_id, report)
    return batch


def turn(desk: Desk, state: TradingState) -> None:
    with store_of(desk.url) as store:
        store.set_trading_state("paper", state, "Ann Example", "the cause is looked for", NOON)


def told(desk: Desk) -> list[tuple[str, str]]:
    """What the limit report says of the kill switch."""
    return rows(desk.url, "select outcome, reason from risk.limit_report where rule = 'kill_switch'")


def materialise(desk: Desk, settings: Settings, *assets: dg.AssetsDefinition) -> None:
    """As a person does it in Dagster, for the batch's partition."""
    trading, warehouse = DeskTrading(desk, "paper", settings), Warehouse(desk.url, Role.TRADER)
    assert dg.materialize(
        assets, partition_key=DECIDED.isoformat(), instance=dg.DagsterInstance.ephemeral(),
        resources={"trading": trading, "warehouse": warehouse},
    ).success  # fmt: skip


def asked(settings: Settings, now: datetime) -> str:
    """What the sensor says at ``now``: the batch that it has executed, or why none."""
    answer = next_execution(settings, now)
    return answer.tags["octopus/batch"] if isinstance(answer, dg.RunRequest) else str(answer.skip_message)


def missed(settings: Settings, now: datetime) -> list[str]:
    """What the watchdog says of batches at ``now``."""
    known = replace(facts(settings, datetime.now(UTC), watches_daemon=False), now=now, due=None)
    return [alert.happened for alert in assess(known, SESSIONS, Patience()) if alert.kind is Kind.MISSED_RUN]


def end_of_runs(desk: Desk) -> None:
    """The runs so far were seen long ago."""
    with connect(desk.url) as connection:
        connection.execute("update execution.launches set last_seen = last_seen - interval '1 hour'")


@pytest.mark.parametrize("from_fills", [True, False], ids=["fills to reconciliation", "the job reconcile"])
def test_books_that_were_compared_before_a_batch_was_begun_do_not_make_it_an_executed_one(
    desk: Desk, settings: Settings, *, from_fills: bool
) -> None:
    batch = store_plan(desk.url, "paper", BUYS)
    compared = (execution.positions, execution.reconciliation)
    materialise(desk, settings, *((execution.fills, *compared) if from_fills else compared))
    assert rows(desk.url, "select session, kind from execution.reconciliation") == [(EXECUTED, "ok")]
    assert launches.of(Warehouse(desk.url, Role.TRADER), batch.batch_id).count == 0
    assert asked(settings, NOON) == batch.batch_id
    after = batch.expires_at + timedelta(hours=1)
    assert "a past day cannot trade" in asked(settings, after)
    (happened,) = missed(settings, after)
    assert "paper-batch" in happened

    desk.execute(batch)
    assert desk.states(batch) == {"AAA": "filled", "BBB": "filled"}
    assert "executed and reconciled already" in asked(settings, NOON)
    assert missed(settings, after) == []


def test_a_run_that_was_refused_is_followed_by_another_while_the_window_is_open_and_reported_after_it(
    desk: Desk, settings: Settings
) -> None:
    batch, trader = store_plan(desk.url, "paper", BUYS), Warehouse(desk.url, Role.TRADER)
    turn(desk, TradingState.HALTED)
    with pytest.raises(Exception, match="trading is halted"):
        materialise(desk, settings, execution.order_intents)
    assert launches.of(trader, batch.batch_id).count == 1
    assert "is being executed" in asked(settings, NOON)
    end_of_runs(desk)
    turn(desk, TradingState.ACTIVE)
    request = next_execution(settings, NOON)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == f"{batch.batch_id}:2"
    assert "closed" in asked(settings, batch.expires_at), "a run that came so late would be refused for ever"
    (happened,) = missed(settings, CLOSE + timedelta(hours=1))
    assert "none got as far as its orders" in happened


@pytest.mark.parametrize("file_alone", [False, True], ids=["in the database", "in the file alone"])
def test_while_trading_is_halted_no_run_is_asked_for_and_once_it_is_resumed_one_is(
    desk: Desk, settings: Settings, *, file_alone: bool
) -> None:
    batch, halts = store_plan(desk.url, "paper", BUYS), halt_file(settings)
    if file_alone:
        halts.write(Halt(TradingState.HALTED, "Ann Example", "the cause is looked for", datetime.now(UTC)))
    else:
        turn(desk, TradingState.HALTED)
    for _ in range(2):
        told = asked(settings, NOON)
        for word in (batch.batch_id, "the cause is looked for", "octopus resume", str(batch.expires_at)):
            assert word in told
    assert "closed" in asked(settings, batch.expires_at)
    halts.path.unlink(missing_ok=True)
    turn(desk, TradingState.REDUCING)
    assert asked(settings, NOON) == batch.batch_id, "what only reduces may be sent"
    turn(desk, TradingState.ACTIVE)
    request = next_execution(settings, NOON)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == f"{batch.batch_id}:1", "no key was spent"


def test_a_halt_lets_a_batch_that_was_begun_be_followed_and_keeps_what_was_not_sent(
    desk: Desk, settings: Settings
) -> None:
    batch, sent = store_plan(desk.url, "paper", BUYS), []
    with desk.engine(
        whenever("record: committed", lambda: sent or sent.append(turn(desk, TradingState.HALTED)))
    ) as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    assert desk.states(batch) == {"AAA": "accepted", "BBB": "approved"}
    assert asked(settings, NOON) == batch.batch_id, "what is open at the broker is followed"
    with desk.engine() as engine:
        engine.cancel_open("paper")
        engine.poll("paper")
    assert desk.states(batch) == {"AAA": "cancelled", "BBB": "approved"}
    assert "octopus resume" in asked(settings, NOON)
    # A run that came in between had nothing to wait for.
    materialise(desk, settings, execution.positions, execution.reconciliation)
    assert "octopus resume" in asked(settings, NOON)
    turn(desk, TradingState.ACTIVE)
    assert asked(settings, NOON) == batch.batch_id, "what waits is sent, though the books were compared"
    assert "executed and reconciled already" in asked(settings, batch.expires_at)
    desk.execute(batch, "resumed")
    assert desk.states(batch) == {"AAA": "cancelled", "BBB": "filled"}
    assert "executed and reconciled already" in asked(settings, NOON)


NEXT = SESSIONS.next(EXECUTED)


def bars_come_in(url: str, session: date) -> None:
    """A vendor's bars of ``session``, now."""
    bar = {"session": session, "ts": SESSIONS.close_utc(session), "known_at": SESSIONS.close_utc(session)}
    frame = pl.DataFrame([bar]).with_columns(
        source=pl.lit("yahoo"), instrument=pl.lit("AAA"), known_at_imputed=pl.lit(value=True),
        **{name: pl.lit(100.0) for name in ("open", "high", "low", "close", "volume")},
    )  # fmt: skip
    Warehouse(url, Role.RESEARCH).append("bars", frame, source="yahoo")


@pytest.fixture
def left_open(desk: Desk) -> Batch:
    """A batch whose session is over and compared; its order is open, for no bar has ended it, and no run is alive."""
    batch = store_plan(desk.url, "paper", [("AAA", Side.BUY, D(10))])
    execute_without_bars(desk, batch)
    return batch


def execute_without_bars(desk: Desk, batch: Batch) -> None:
    late, patience = flat_feed(NAMES, days=(DECIDED,)), timedelta(days=9)
    broker = paper(desk.url, "paper", desk.clock, late, data_patience=patience)
    patient = EngineSettings(settle_timeout=timedelta(0), data_patience=patience)
    waiting = replace(desk, feed=late, broker=broker, settings=patient)
    waiting.execute(batch)
    launches.note(Warehouse(desk.url, Role.TRADER), batch.batch_id, "in its session")
    end_of_runs(desk)
    assert set(waiting.states(batch).values()) == {"accepted"}


def test_an_earlier_order_that_does_not_end_keeps_no_later_batch_from_starting(
    desk: Desk, settings: Settings, left_open: Batch
) -> None:
    trader, evening = Warehouse(desk.url, Role.TRADER), SESSIONS.close_utc(EXECUTED) + timedelta(hours=4)
    assert "executed and reconciled" in asked(settings, evening), "nothing that could end it is known"
    bars_come_in(desk.url, EXECUTED)
    second = store_plan(
        desk.url, "paper", [("BBB", Side.BUY, D(5))], name="second", session=EXECUTED, created_at=evening
    )  # fmt: skip
    assert asked(settings, evening) == left_open.batch_id, "before the next window"
    for hours in (0.1, 1, 3):
        request = next_execution(settings, SESSIONS.open_utc(NEXT) + timedelta(hours=hours))
        assert isinstance(request, dg.RunRequest)
        assert (request.tags["octopus/batch"], request.run_key) == (second.batch_id, f"{second.batch_id}:1")
    launches.note(trader, second.batch_id, "at it")
    assert "is being executed" in asked(settings, SESSIONS.open_utc(NEXT) + timedelta(hours=1)), "one at a time"


def test_a_run_that_failed_to_end_an_order_is_followed_by_another_and_no_more_than_a_few(
    desk: Desk, settings: Settings, left_open: Batch
) -> None:
    """Dagster launches a run key once: each is asked for under one of its own."""
    trader, evening, keys = Warehouse(desk.url, Role.TRADER), SESSIONS.close_utc(EXECUTED) + timedelta(hours=4), set()
    for day in (EXECUTED, NEXT):
        bars_come_in(desk.url, day)
        for number in range(TRIES):
            request = next_execution(settings, evening)
            assert isinstance(request, dg.RunRequest)
            assert request.tags["octopus/batch"] == left_open.batch_id
            assert next_execution(settings, evening) == request, "a tick alone is no new run"
            keys.add(request.run_key)
            launches.note(trader, left_open.batch_id, f"fails {day} {number}")
            assert "executed and reconciled" in asked(settings, evening), "it is alive, or rests"
            end_of_runs(desk)
        assert "executed and reconciled" in asked(settings, evening), "a person has to look it up"
    assert len(keys) == 2 * TRIES


def test_an_order_that_bars_do_not_end_hides_no_other(desk: Desk, settings: Settings, left_open: Batch) -> None:
    bars_come_in(desk.url, EXECUTED)
    trader, evening = Warehouse(desk.url, Role.TRADER), SESSIONS.close_utc(EXECUTED) + timedelta(hours=4)
    for number in range(TRIES):
        launches.note(trader, left_open.batch_id, f"ends nothing {number}")
    second = store_plan(
        desk.url, "paper", [("BBB", Side.BUY, D(5))], name="second", session=EXECUTED, created_at=evening
    )  # fmt: skip
    desk.clock.at = SESSIONS.open_utc(NEXT) + timedelta(hours=1)
    execute_without_bars(desk, second)
    evening = SESSIONS.close_utc(NEXT) + timedelta(hours=4)
    assert "executed and reconciled" in asked(settings, evening)
    bars_come_in(desk.url, NEXT)
    for number in range(TRIES):
        assert asked(settings, evening) == left_open.batch_id
        launches.note(trader, left_open.batch_id, f"still ends nothing {number}")
        end_of_runs(desk)
    assert asked(settings, evening) == second.batch_id


def test_the_real_gates_do_not_look_at_the_switch_again(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned on and off again while they judge."""
    batch, gates = plan(desk, settings, monkeypatch), Gates(settings, Warehouse(desk.url, Role.TRADER))
    monkeypatch.setattr(Gates, "_price_basis", lambda _gates: "total_return")
    monkeypatch.setattr(Gates, "window", lambda *_arguments: None)

    def judge(*case: object) -> tuple[GateReport, ...]:
        turn(desk, TradingState.HALTED)
        reports = gates.judge_at_execution(*case)  # type: ignore[arg-type]
        turn(desk, TradingState.ACTIVE)
        return reports

    desk.execute(batch, judge=judge)
    assert desk.states(batch) == {"AAA": "filled", "BBB": "filled"}


def test_a_batch_without_orders_is_executed_once_the_books_were_compared(desk: Desk, settings: Settings) -> None:
    batch = store_plan(desk.url, "paper", [])
    assert asked(settings, NOON) == batch.batch_id
    materialise(desk, settings, execution.order_intents, execution.positions, execution.reconciliation)
    assert "executed and reconciled already" in asked(settings, NOON)
    assert missed(settings, CLOSE + timedelta(hours=1)) == []


def test_the_plan_tells_of_a_halt_that_is_in_the_file_alone(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    halt_file(settings).write(Halt(TradingState.HALTED, "Ann Example", "the desk is on fire", datetime.now(UTC)))
    plan(desk, settings, monkeypatch)
    ((outcome, reason),) = told(desk)
    assert outcome == "warn"
    assert "the desk is on fire" in reason


@pytest.mark.parametrize(
    ("state", "says"),
    [(TradingState.HALTED, "no order leaves"), (TradingState.REDUCING, "only orders that make a position smaller")],
)
def test_a_batch_that_was_planned_while_trading_was_stopped_is_sent_once_it_is_resumed(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch, state: TradingState, says: str
) -> None:
    turn(desk, state)
    batch = plan(desk, settings, monkeypatch)
    ((outcome, reason),) = told(desk)
    assert outcome == "warn"
    for word in ("the cause is looked for", says, "octopus resume"):
        assert word in reason
    turn(desk, TradingState.ACTIVE)
    desk.execute(batch)
    assert desk.states(batch) == {"AAA": "filled", "BBB": "filled"}


def test_an_account_that_is_opened_after_its_first_plan_loses_no_batch(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, feed = ManualClock(NOON), flat_feed(NAMES)
    desk = Desk(database_url, "paper", clock, feed, paper(database_url, "paper", clock, feed))
    batch = plan(desk, settings, monkeypatch)
    assert "never opened" in told(desk)[0][1]
    with pytest.raises(TradingHaltedError, match="never opened"):
        desk.execute(batch)
    desk.open()
    desk.execute(batch, "again")
    assert desk.states(batch) == {"AAA": "filled", "BBB": "filled"}


def test_a_batch_that_was_planned_before_trading_stopped_is_not_sent(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = plan(desk, settings, monkeypatch)
    assert told(desk) == [("pass", "trading is active")]
    turn(desk, TradingState.HALTED)
    with pytest.raises(TradingHaltedError):
        desk.execute(batch)
    turn(desk, TradingState.REDUCING)
    desk.execute(batch, "again")
    assert rows(desk.url, "select 1 from paper.orders") == []
    assert rows(desk.url, "select distinct status from execution.order_intents") == [("denied",)]
    assert rows(desk.url, "select distinct rule from execution.verdicts where outcome = 'deny'") == [("trading_state",)]
