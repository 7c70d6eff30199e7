"""What a watchdog sees amiss, by the calendar, from real tables, and without a database."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from time import sleep
from zoneinfo import ZoneInfo

import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from octopus.alerts.alert import Alert, Kind
from octopus.alerts.watch import Facts, LateOrder, Patience, PlannedBatch, RunState, UnsentOrder, assess
from octopus.core.cadence import tick_of
from octopus.core.orders import OpenOrder, Side, TradingState
from octopus.core.sessions import Sessions
from octopus_pipelines.cli.watchdog import Watchdog, watchdog
from resources.alerts.channels import Outcome
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
LATE = tick_of(XNYS, DUE) + timedelta(hours=3, seconds=1)
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


@pytest.mark.parametrize("half_day", [date(2026, 11, 27), date(2026, 12, 24)])
def test_on_a_half_day_nothing_is_late_before_the_schedule_had_its_time(half_day: date) -> None:
    """Decided at 13:30 in New York, and the schedule ticks at 17:00 as on every day."""
    tick = tick_of(XNYS, half_day)
    assert tick.astimezone(ZoneInfo("America/New_York")).time() == time(17)
    assert XNYS.decision_utc(half_day) + PATIENCE.run < tick
    nothing = replace(FINE, due=half_day, last_bar=date(2026, 11, 25), run=RunState.ABSENT, keeps_books=True)
    for minutes, found in ((0, 0), (179, 0), (181, 3)):
        now = tick + timedelta(minutes=minutes)
        assert len(kinds(replace(nothing, now=now, seen_at=now))) == found


@given(
    day=st.dates(date(2022, 1, 3), date(2026, 6, 30)),
    exchange=st.sampled_from(["XNYS", "XLON", "XHKG", "24/7", "24/5"]),
)
def test_the_tick_of_a_session_is_that_of_its_schedule(day: date, exchange: str) -> None:
    from octopus_pipelines.schedules import after_close, due_session

    clock = Sessions(exchange)
    session = clock.next(day)
    tick = tick_of(clock, session)
    assert due_session(clock, tick) == session
    local = tick.astimezone(ZoneInfo(clock.timezone))
    assert after_close(clock).startswith(f"{local.minute} {local.hour} * * ")


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


def impatient(settings: Settings, minutes: int = 0) -> Settings:
    return replace(settings, alerts=settings.alerts.model_copy(update={"database_minutes": minutes}))


def a_while_later(house: AlertHouse) -> None:
    """Two minutes of the outage have passed."""
    house.outage.since = {kind: at - timedelta(minutes=2) for kind, at in house.outage.since.items()}


@pytest.fixture
def down(settings: Settings) -> Settings:
    return replace(impatient(settings), database_url="postgresql://postgres@127.0.0.1:1/octopus")


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


class Phone:
    """A channel that takes everything."""

    name = "phone"

    def __init__(self) -> None:
        self.taken: list[Kind] = []

    def send(self, alert: Alert) -> Outcome:
        self.taken.append(alert.kind)
        return Outcome(delivered=True, detail="taken")


def dog_of(settings: Settings, phone: Phone, venue: Venue, *halt_on: Kind) -> Watchdog:
    house = AlertHouse(settings, [phone])
    return Watchdog(house, lambda: Trading(house.bounded, WallClock(), venue), halt_on)  # type: ignore[arg-type]


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_with_the_disk_full_too_people_are_told_once_and_it_halts_once(
    down: Settings, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, venue = Phone(), Venue()
    dog = dog_of(down, phone, venue, Kind.DATABASE_DOWN)
    for place in ("resources.alerts.spool.Spool._save", "octopus_pipelines.cli.watchdog.Watchdog._write_diary"):
        monkeypatch.setattr(place, no_space)
    monkeypatch.setattr("click.secho", no_space)
    monkeypatch.setattr("click.echo", no_space)
    for _ in range(3):
        dog.look()
    assert phone.taken == [Kind.DATABASE_DOWN]
    assert venue.cancelled == ["oct-1"]
    halts = halt_file(down)
    halt = halts.read()
    assert halt is not None
    halts.remove(halt)  # a person resumes
    dog.look()
    assert halts.read() is None, "who resumed is not overruled"
    monkeypatch.undo()
    dog.house.settings = settings
    del dog.house.bounded
    dog.look()
    assert phone.taken == [Kind.DATABASE_DOWN]
    told = Warehouse(settings.database_url, Role.OWNER).rows(
        "select a.kind, bool_or(d.delivered) as taken from ops.alerts a left join ops.alert_deliveries d "
        "using (dedup_key) group by a.alert_id order by a.alert_id"
    )
    assert {row["kind"]: row["taken"] for row in told} == {"database_down": True, "database_back": None}


def test_where_the_halt_cannot_be_written_the_orders_are_cancelled_and_no_file_is_named(
    down: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    phone, venue = Phone(), Venue()
    monkeypatch.setattr("resources.halt_file.HaltFile._put", no_space)
    dog = dog_of(down, phone, venue, Kind.DATABASE_DOWN)
    dog.look()
    assert venue.cancelled == ["oct-1"]
    assert phone.taken == [Kind.DATABASE_DOWN]
    venue.name = "paper"
    monkeypatch.setattr(venue, "open_orders", lambda: psycopg.connect(down.database_url))
    dog.look()
    said = capsys.readouterr().err
    assert "NOTHING IS HALTED" in said
    assert "keeps its orders in the database" in said
    assert "waits in" not in said
    monkeypatch.undo()
    dog.look()
    assert halt_file(down).read() is not None, "it tries again until the halt stands"


@pytest.mark.parametrize("fault", ["read only", "locked", "not migrated", "hanging"])
def test_a_look_that_fails_whyever_is_told_and_may_halt(
    fault: str, settings: Settings, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.alerts.house.STATEMENT_SECONDS", 1)
    monkeypatch.setattr("resources.alerts.house.LOOK_SECONDS", 5.0)
    phone, venue = Phone(), Venue()
    dog = dog_of(settings, phone, venue, Kind.WATCHDOG_BLIND)
    with psycopg.connect(settings.database_url) as other, other.transaction():
        if fault == "read only":
            monkeypatch.setitem(
                dog.house.__dict__, "bounded",
                replace(settings, database_url=make_conninfo(
                    settings.database_url, options="-c default_transaction_read_only=on"
                )),
            )  # fmt: skip
        elif fault == "locked":
            other.execute("lock table execution.orders in access exclusive mode")
        elif fault == "not migrated":
            monkeypatch.setitem(dog.house.__dict__, "bounded", replace(settings, database_url=server_url))
        else:
            monkeypatch.setattr("resources.alerts.house.facts", lambda *_, **__: sleep(8))
        (blind,) = dog.look()
        assert blind.kind is Kind.WATCHDOG_BLIND
        assert {"read only": "read-only", "locked": "timeout", "not migrated": "does not exist", "hanging": "5 s"}[
            fault
        ] in blind.happened
        assert phone.taken == [Kind.WATCHDOG_BLIND]
        assert venue.cancelled == [], "it may be over in a moment"
        a_while_later(dog.house)
        dog.look()
        assert venue.cancelled == ["oct-1"]


def test_a_restart_of_the_database_is_told_and_halts_nothing(settings: Settings, down: Settings) -> None:
    phone, venue = Phone(), Venue()
    patient = impatient(down, 2)
    assert dog_of(patient, phone, venue, Kind.DATABASE_DOWN).look()
    # Another process, as of `octopus watchdog --once`: it is the same outage.
    again = dog_of(patient, phone, venue, Kind.DATABASE_DOWN)
    again.look()
    assert phone.taken == [Kind.DATABASE_DOWN]
    assert halt_file(down).read() is None
    back = dog_of(settings, phone, venue, Kind.DATABASE_DOWN)
    assert back.look() == []
    back.look()
    told = Warehouse(settings.database_url, Role.OWNER).rows("select kind, severity, happened from ops.alerts")
    assert {row["kind"]: row["severity"] for row in told} == {"database_down": "critical", "database_back": "info"}
    assert len(told) == 2
    assert any(re.search(r"the database did not answer from .* on, for 0:00:\d\d", row["happened"]) for row in told)
    assert not (settings.home / "outage.json").exists()
    a_long_one = dog_of(patient, phone, venue, Kind.DATABASE_DOWN)
    a_long_one.look()
    a_while_later(a_long_one.house)
    a_long_one.look()
    assert halt_file(down).read() is not None
    assert venue.cancelled == ["oct-1"]


def test_a_kind_that_it_cannot_see_is_no_reason_to_halt() -> None:
    assert "is not one of" in CliRunner().invoke(watchdog, ["--halt-on", "denial"]).output
