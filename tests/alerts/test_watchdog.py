"""What a watchdog sees amiss, by the calendar, from real tables, and without a database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from octopus.alerts.alert import Kind
from octopus.alerts.watch import Facts, LateOrder, Patience, PlannedBatch, RunState, UnsentOrder, assess
from octopus.core.orders import OpenOrder, Side, TradingState
from octopus.core.sessions import Sessions
from octopus_pipelines.cli.watchdog import Watchdog, watchdog
from resources.alerts.facts import facts, heartbeat, run_state
from resources.alerts.house import AlertHouse
from resources.brokers.base import BrokerUnavailableError
from resources.clock import WallClock
from resources.settings import Settings, load_settings
from resources.trading import Trading
from resources.trading_state import halt_file
from resources.warehouse.connection import Role, sqlalchemy_url
from resources.warehouse.store import Warehouse

XNYS = Sessions("XNYS")
DUE = date(2026, 3, 2)
DECIDED = XNYS.decision_utc(DUE)
LATE = DECIDED + timedelta(hours=3, seconds=1)
PATIENCE = Patience()
FINE = Facts(now=LATE, seen_at=LATE, source="yahoo", last_bar=DUE, due=DUE, run=RunState.DONE)


def kinds(told: Facts) -> list[Kind]:
    return [alert.kind for alert in assess(told, XNYS, PATIENCE)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"run": RunState.ABSENT}, [Kind.MISSED_RUN]),
        ({"run": RunState.RUNNING}, [Kind.MISSED_RUN]),
        ({"run": RunState.FAILED}, [Kind.MISSED_RUN]),
        ({"run": RunState.ABSENT, "now": LATE - timedelta(seconds=2)}, []),
        ({"last_bar": date(2026, 2, 27)}, [Kind.STALE_DATA]),
        ({"last_bar": None, "run": RunState.ABSENT}, [Kind.STALE_DATA, Kind.MISSED_RUN]),
        ({"last_bar": None, "due": None}, []),
        ({"keeps_books": True, "compared": DUE}, []),
        ({"keeps_books": True, "compared": date(2026, 2, 27)}, [Kind.MISSED_RUN]),
        ({"keeps_books": True}, [Kind.MISSED_RUN]),
        ({"keeps_books": True, "now": LATE - timedelta(seconds=2)}, []),
        ({"watches_daemon": True}, [Kind.DEAD_DAEMON]),
        ({"watches_daemon": True, "heartbeat": LATE - timedelta(minutes=4)}, []),
        ({"watches_daemon": True, "heartbeat": LATE - timedelta(minutes=6)}, [Kind.DEAD_DAEMON]),
    ],
)
def test_runs_data_and_daemon(change: dict[str, object], found: list[Kind]) -> None:
    assert kinds(replace(FINE, **change)) == found  # type: ignore[arg-type]


@given(minutes=st.integers(-600, 600))
def test_an_order_is_late_from_its_patience_on_and_has_one_key(minutes: int) -> None:
    order = LateOrder("oct-1", "AAA", "accepted", LATE - timedelta(minutes=minutes))
    told = replace(FINE, open_orders=(order,))
    assert kinds(told) == ([Kind.OPEN_ORDER] if minutes > 30 else [])
    later = replace(told, now=LATE + timedelta(hours=1), seen_at=LATE + timedelta(hours=1))
    assert {a.key for a in assess(told, XNYS, PATIENCE)} <= {a.key for a in assess(later, XNYS, PATIENCE)}


def test_a_batch_waits_for_its_release_and_a_window_that_nobody_used_is_told() -> None:
    batch = PlannedBatch("b", LATE - timedelta(hours=1), LATE + timedelta(hours=1), awaits_release=True, executed=False)
    assert kinds(replace(FINE, batch=batch)) == [Kind.AWAITING_RELEASE]
    assert kinds(replace(FINE, batch=replace(batch, awaits_release=False))) == []
    closed = replace(FINE, now=batch.expires_at)
    (missed,) = assess(replace(closed, batch=batch), XNYS, PATIENCE)
    assert missed.kind is Kind.MISSED_RUN
    assert "nobody released it" in missed.happened
    (untaken,) = assess(replace(closed, batch=replace(batch, awaits_release=False)), XNYS, PATIENCE)
    assert "no run took it up" in untaken.happened
    assert kinds(replace(closed, batch=replace(batch, executed=True))) == []


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4), ended=st.booleans())
def test_unsent_orders_are_one_alert_a_batch_and_the_same_once_a_run_has_ended_them(
    sizes: list[int], ended: bool
) -> None:
    waiting = tuple(
        UnsentOrder(f"b{batch}", f"oct-{batch}-{number}", f"buy 1 A{number:02}", LATE)
        for batch, size in enumerate(sizes)
        for number in range(size)
    )
    told = assess(replace(FINE, unsent=waiting), XNYS, PATIENCE)
    assert [(one.kind, one.subject) for one in told] == [(Kind.UNSENT_ORDERS, f"b{n}") for n in range(len(sizes))]
    for size, one in zip(sizes, told, strict=True):
        assert f"{size} approved orders" in one.happened
        assert one.happened.count("buy 1 A") == min(size, 10)
        assert (f"and {size - 10} more" in one.happened) is (size > 10)
    later = tuple(replace(one, reason="not sent in its window") for one in waiting) if ended else waiting
    assert [one.key for one in assess(replace(FINE, unsent=later), XNYS, PATIENCE)] == [one.key for one in told]
    fewer = assess(replace(FINE, unsent=waiting[1:]), XNYS, PATIENCE)
    assert told[0].key not in {one.key for one in fewer}, "other orders of the same batch are told"


# -- from real tables --------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    names = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    return load_settings({**names, "OCTOPUS_HOME": str(tmp_path)})


@pytest.fixture
def live(settings: Settings) -> Settings:
    return replace(settings, universe=settings.universe.model_copy(update={"market_data": "yahoo"}))


@pytest.fixture
def dagster_url(server_url: str) -> Iterator[str]:
    """An empty database: Dagster keeps its tables apart from ours."""
    name = f"octopus_dagster_{uuid.uuid4().hex[:12]}"
    shared = str(conninfo_to_dict(server_url)["dbname"])
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
        try:
            yield re.sub(rf"/{shared}(?=\?|$)", f"/{name}", server_url)
        finally:
            connection.execute(f'drop database if exists "{name}" with (force)')


def test_dagsters_own_tables_tell_of_its_daemon_and_of_a_run(live: Settings, dagster_url: str) -> None:
    from dagster import DagsterRun, DagsterRunStatus
    from dagster._daemon.types import DaemonHeartbeat
    from dagster_postgres.run_storage import PostgresRunStorage

    live = replace(live, dagster_url=dagster_url)
    warehouse = Warehouse(live.database_url, Role.TRADER)
    assert heartbeat(live.dagster_url) is None
    assert run_state(live, warehouse, DUE) is RunState.ABSENT
    storage = PostgresRunStorage(sqlalchemy_url(live.dagster_url), should_autocreate_tables=True)
    try:
        beat = datetime(2026, 3, 2, 15, 0, 1, 500000, tzinfo=UTC)
        storage.add_daemon_heartbeat(DaemonHeartbeat(beat.timestamp(), "SENSOR", "id", []))
        storage.add_daemon_heartbeat(DaemonHeartbeat(beat.timestamp() - 60, "SCHEDULER", "id", []))
        assert heartbeat(live.dagster_url) == beat
        tags = {"dagster/partition": DUE.isoformat()}
        storage.add_run(DagsterRun(job_name="daily", run_id="r1", tags=tags, status=DagsterRunStatus.STARTED))
        assert run_state(live, warehouse, DUE) is RunState.RUNNING
        storage.add_run(DagsterRun(job_name="daily", run_id="r2", tags=tags, status=DagsterRunStatus.FAILURE))
        assert run_state(live, warehouse, DUE) is RunState.FAILED
    finally:
        storage.dispose()
    told = facts(live, datetime.now(UTC), watches_daemon=True)
    assert {alert.kind for alert in assess(replace(told, now=LATE, due=DUE), XNYS, PATIENCE)} == {
        Kind.STALE_DATA, Kind.MISSED_RUN, Kind.DEAD_DAEMON,
    }  # fmt: skip


def test_a_judged_plan_ends_the_run_and_its_batch_is_seen(live: Settings) -> None:
    warehouse = Warehouse(live.database_url, Role.OWNER)
    with warehouse.connect() as connection:
        connection.execute(
            "insert into ops.runs (run_id, as_of, status, started_at) values ('x', %s, 'failed', now())", [DUE]
        )
    assert run_state(live, warehouse, DUE) is RunState.FAILED
    with warehouse.connect() as connection:
        connection.execute(
            "insert into portfolio.batches values ('b', 'paper', %s, 'd', 's', now(), now() + interval '1h', "
            "null, now())",
            [DUE],
        )
        connection.execute(
            "insert into portfolio.rebalance_plan values ('b', 'i', 'AAA', 'buy', 1, 1, 'market_on_close')"
        )
        connection.execute("insert into compliance.approvals values ('b', 1, 0, 'r', 'c', now())")
    assert run_state(live, warehouse, DUE) is RunState.DONE
    waits = replace(live, trading=live.trading.model_copy(update={"release": "all"}))
    for chosen, waiting in ((live, False), (waits, True)):
        batch = facts(chosen, datetime.now(UTC), watches_daemon=False).batch
        assert batch is not None
        assert (batch.batch_id, batch.awaits_release, batch.executed) == ("b", waiting, False)


def test_whether_the_books_were_compared_is_read_from_the_account(live: Settings) -> None:
    told = facts(live, datetime.now(UTC), watches_daemon=False)
    assert (told.keeps_books, told.compared) == (False, None)
    with Warehouse(live.database_url, Role.OWNER).connect() as connection:
        connection.execute(
            "insert into execution.entries values ('paper', 'd', 'deposit', null, 0, 100, now(), %s, '')", [DUE]
        )
        connection.execute(
            "insert into execution.reconciliation values ('paper', %s, 0, 'ok', null, null, null, 'agree', now())",
            [DUE],
        )
    told = facts(live, datetime.now(UTC), watches_daemon=False)
    assert (told.keeps_books, told.compared) == (True, DUE)


# -- the process -------------------------------------------------------------------------------------------------------


class Venue:
    """A broker that keeps its orders elsewhere."""

    name = "venue"

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.broken = False

    def open_orders(self) -> tuple[OpenOrder, ...]:
        if self.broken:
            raise BrokerUnavailableError("venue: not now")
        return (OpenOrder("oct-1", "AAA", Side.BUY, Decimal(1)), OpenOrder("theirs", "AAA", Side.BUY, Decimal(1)))

    def cancel(self, client_order_id: str) -> None:
        self.cancelled.append(client_order_id)


@pytest.fixture
def down(settings: Settings) -> Settings:
    return replace(settings, database_url="postgresql://postgres@127.0.0.1:1/octopus")


def test_with_the_database_down_it_halts_and_cancels_once_and_the_halt_is_taken_over_later(
    settings: Settings, down: Settings
) -> None:
    venue = Venue()
    dog = Watchdog(AlertHouse(down, []), lambda: Trading(down, WallClock(), venue), {Kind.DATABASE_DOWN})  # type: ignore[arg-type]
    for _ in range(2):
        assert [alert.kind for alert in dog.look()] == [Kind.DATABASE_DOWN]
    assert venue.cancelled == ["oct-1"]
    halt = halt_file(settings).read()
    assert halt is not None
    assert (halt.by, halt.state, halt.cancelled) == ("watchdog", TradingState.HALTED, ("oct-1",))
    diary = json.loads((settings.home / "watchdog.json").read_text())
    assert len(diary["halted_on"]) == 1

    back = Watchdog(AlertHouse(settings, []), lambda: Trading(settings, WallClock(), venue))  # type: ignore[arg-type]
    back.look()
    assert halt_file(settings).read() is None
    rows = Warehouse(settings.database_url, Role.OWNER).rows("select kind, payload from audit.log order by seq")
    assert [row["kind"] for row in rows] == ["trading.halt_file", "trading.halted"]
    assert "oct-1" in rows[0]["payload"]


def test_a_broker_that_is_down_too_leaves_the_halt_standing(down: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    venue = Venue()
    venue.broken = True
    Watchdog(AlertHouse(down, []), lambda: Trading(down, WallClock(), venue), {Kind.DATABASE_DOWN}).look()  # type: ignore[arg-type]
    assert "not cancelled: venue: venue: not now" in capsys.readouterr().err
    assert halt_file(down).read() is not None


def test_it_starts_without_database_and_without_dagster(tmp_path: Path) -> None:
    code = (
        "import sys; from octopus_pipelines.cli.watchdog import watchdog\n"
        "try: watchdog(['--once'])\n"
        "except SystemExit as end: print(end.code, 'dagster' in sys.modules, 'mlflow' in sys.modules)"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCTOPUS_", "DAGSTER"))}
    told = subprocess.run(
        [sys.executable, "-c", code], env={**clean, "OCTOPUS_HOME": str(tmp_path)}, capture_output=True, text=True,
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert told.stdout.strip().splitlines()[-1] == "1 False False", told.stderr
    assert "The database is down" in told.stdout
    assert list((tmp_path / "alerts").glob("*.json"))
    assert not (tmp_path / "postgres").exists()


def test_a_kind_that_it_cannot_see_is_no_reason_to_halt() -> None:
    assert "is not one of" in CliRunner().invoke(watchdog, ["--halt-on", "denial"]).output
