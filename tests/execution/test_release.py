"""A batch that waits for a person: neither the sensor nor the engine takes it up before, nor after it was changed."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from execution_support import OPEN, SESSIONS, Desk, ManualClock, flat_feed, paper, rows, store_plan
from hypothesis import given
from hypothesis import strategies as st

import octopus_pipelines.cli.release as command
from octopus.core.orders import Batch, OrderType, PlannedOrder, Side
from octopus.execution.approval import content_hash
from octopus_pipelines.sensors.execution import next_execution
from resources.execution_engine import EngineSettings
from resources.settings import Settings, load_settings
from resources.warehouse.connection import connect
from resources.warehouse.order_store import AwaitingReleaseError

D = Decimal
NOON = OPEN + timedelta(hours=1)
BUYS = [(name, Side.BUY, D(10)) for name in ("AAA", "BBB")]
DECISION = SESSIONS.decision_utc(datetime(2022, 12, 27, tzinfo=UTC).date())


@pytest.fixture
def desk(database_url: str) -> Desk:
    clock, feed = ManualClock(NOON), flat_feed(["AAA", "BBB"])
    broker = paper(database_url, "paper", clock, feed)
    made = Desk(database_url, "paper", clock, feed, broker, settings=EngineSettings(require_release=True))
    made.open()
    return made


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    names = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    made = load_settings({**names, "OCTOPUS_HOME": str(tmp_path)})
    made = replace(made, trading=made.trading.model_copy(update={"release": "all"}))
    monkeypatch.setattr(command, "open_database", lambda: made)
    monkeypatch.setattr(command, "trading_clock", lambda _settings: ManualClock(DECISION))
    return made


def say(*arguments: str, answer: str | None = None) -> str:
    told = CliRunner().invoke(command.release, list(arguments), input=answer)
    return told.output if told.exception is None else f"{told.output}{told.exception}"


def test_an_unreleased_batch_is_neither_asked_for_nor_executed_and_a_released_one_is(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = store_plan(desk.url, "paper", BUYS)
    waiting = next_execution(settings, DECISION)
    assert isinstance(waiting, dg.SkipReason)
    assert f"octopus release {batch.batch_id}" in str(waiting.skip_message)
    with pytest.raises(AwaitingReleaseError, match="awaits a person's release"):
        desk.execute(batch)
    assert rows(desk.url, "select 1 from paper.orders") == []
    assert rows(desk.url, "select 1 from audit.log where kind = 'batch.refused'") == [(1,)]

    assert "waits for its release" in say()
    paper_is_free = replace(settings, trading=settings.trading.model_copy(update={"release": "live"}))
    monkeypatch.setattr(command, "open_database", lambda: paper_is_free)
    assert "needs no release: trading.release is live, trading.mode paper" in say()
    assert "waits" not in say()
    monkeypatch.setattr(command, "open_database", lambda: settings)
    assert "Aborted" in say(batch.batch_id, answer="n\n")
    assert isinstance(next_execution(settings, DECISION), dg.SkipReason)
    shown = say(batch.batch_id, "--by", "Ann Example", "--reason", "read it", answer="y\n")
    assert "released by Ann Example" in shown
    assert re.search(r"buy +10 AAA", shown)
    assert "is released" in say()

    asked = next_execution(settings, DECISION)
    assert isinstance(asked, dg.RunRequest)
    assert asked.tags["octopus/batch"] == batch.batch_id
    desk.execute(batch, "run-2")
    assert desk.states(batch) == {"AAA": "filled", "BBB": "filled"}
    ((payload,),) = rows(desk.url, "select payload::jsonb from audit.log where kind = 'batch.released'")
    assert (payload["by"], payload["reason"], payload["content"]) == ("Ann Example", "read it", content_hash(batch))


def test_a_batch_that_was_changed_after_its_release_waits_again(desk: Desk, settings: Settings) -> None:
    batch = store_plan(desk.url, "paper", BUYS)
    say(batch.batch_id, "--yes")
    with connect(desk.url) as connection:
        connection.execute("update portfolio.rebalance_plan set quantity = 11 where instrument = 'AAA'")
    assert isinstance(next_execution(settings, DECISION), dg.SkipReason)
    with pytest.raises(AwaitingReleaseError):
        desk.execute(batch)
    assert rows(desk.url, "select 1 from paper.orders") == []


def test_only_the_current_judged_batch_is_released_and_never_after_its_window(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no batch" in say()
    early = {"created_at": NOON - timedelta(days=1)}
    unjudged = store_plan(desk.url, "paper", BUYS, name="unjudged", judged=False, **early)
    assert "not judged" in say(unjudged.batch_id, "--yes")
    batch = store_plan(desk.url, "paper", BUYS, created_at=NOON)
    assert f"superseded by {batch.batch_id}" in say(unjudged.batch_id, "--yes")
    monkeypatch.setattr(command, "trading_clock", lambda _settings: ManualClock(batch.expires_at))
    assert "closed at" in say(batch.batch_id, "--yes")
    with desk.engine() as engine:
        engine.store.release(batch, "someone", "in time", NOON)
        assert engine.store.is_released(batch, NOON)
        assert not engine.store.is_released(batch, batch.expires_at)
    with pytest.raises(Exception, match="append-only"), connect(desk.url) as connection:
        connection.execute("update execution.releases set expires_at = expires_at + interval '1 day'")


def test_live_batches_alone_wait_where_the_settings_say_so(settings: Settings) -> None:
    trading = settings.trading
    assert trading.needs_release
    assert not trading.model_copy(update={"release": "live"}).needs_release
    assert trading.model_copy(update={"release": "live", "mode": "live"}).needs_release
    assert not trading.model_copy(update={"release": "none", "mode": "live"}).needs_release


ORDER = PlannedOrder("i", "AAA", Side.BUY, D("10"), D("99.50"), OrderType.LIMIT, D("99"))
BATCH = Batch("b", "paper", DECISION.date(), NOON, NOON + timedelta(hours=5), (ORDER,))
OTHERS = [
    replace(BATCH, account="other"), replace(BATCH, expires_at=NOON + timedelta(hours=6)), replace(BATCH, orders=()),
    *(
        replace(BATCH, orders=(replace(ORDER, **change),))
        for change in (
            {"instrument": "BBB"}, {"side": Side.SELL}, {"quantity": D("10.00000001")}, {"price": D("99.01")},
            {"price": None}, {"order_type": OrderType.STOP}, {"reference_price": D(100)},
        )
    ),
]  # fmt: skip


def test_whatever_differs_has_another_content() -> None:
    assert len({content_hash(other) for other in (BATCH, *OTHERS)}) == 1 + len(OTHERS)


@given(zeros=st.integers(0, 8), hours=st.integers(-12, 12))
def test_zeros_and_time_zones_make_no_other_content(zeros: int, hours: int) -> None:
    from datetime import timezone

    padded = replace(ORDER, quantity=D("10." + "0" * zeros) if zeros else D(10))
    moved = NOON.astimezone(timezone(timedelta(hours=hours)))
    assert content_hash(replace(BATCH, not_before=moved, orders=(padded,))) == content_hash(BATCH)
