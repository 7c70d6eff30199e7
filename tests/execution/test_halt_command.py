"""`octopus halt`, `resume` and `watchdog` as a person paged at night meets them: processes of their own, with settings,
an environment, a broker or a schema that are not right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from alpaca_venue import AlpacaVenue
from execution_support import OPEN, SESSIONS, D, Desk, ManualClock, flat_feed, rows, store_plan
from schwab_venue import ACCOUNT, SchwabVenue

import octopus_pipelines.cli.trading as commands
from octopus.core.orders import Side, TradingState
from octopus_pipelines.cli.main import main
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.schwab import SchwabBroker
from resources.halt_file import NAME, Halt, HaltFile
from resources.runtime.postgres import EmbeddedPostgres
from resources.settings import ROOT
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.trading import Trading
from resources.warehouse import migrate as migrations
from resources.warehouse.connection import connect
from resources.warehouse.migrate import downgrade, newest_revision, schema_problem
from resources.warehouse.order_store import OrderStore, TradingStatus
from tests import command_line

NOON = OPEN + timedelta(hours=1)
KEYS = {"ALPACA_API_KEY": "KEY", "ALPACA_API_SECRET": "SECRET"}


def octopus(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = command_line.octopus(home, *arguments, **environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done


Edits = Sequence[tuple[str, str, str]]
TO_ALPACA = ("universe.yaml", "broker:\n  name: paper ", "broker:\n  name: alpaca\n  account: paper ")
BY_ALPACAS_RULES = ("compliance.yaml", "broker: paper ", "broker: alpaca ")
AT_ALPACA: Edits = (TO_ALPACA, BY_ALPACAS_RULES)


def config(folder: Path, edits: Edits) -> str:
    """A copy of config/ with the old text of a file made the new one."""
    shutil.copytree(ROOT / "config", folder)
    for name, old, new in edits:
        text = (folder / name).read_text()
        assert old in text, (name, old)
        (folder / name).write_text(text.replace(old, new, 1))
    return str(folder)


def status(url: str, account: str, home: Path) -> TradingStatus:
    with OrderStore.opened(url, halts=HaltFile.in_home(home)) as store:
        return store.trading_status(account)


# -- settings that are not right ---------------------------------------------------------------------------------------

YAHOO = {"OCTOPUS_MARKET_DATA": "yahoo"}
BROKEN: dict[str, tuple[Edits, dict[str, str], str]] = {
    "syntax": ([("strategies.yaml", "portfolio:", "portfolio: [")], {}, "strategies.yaml"),
    "unknown key": ([("risk.yaml", "gross_max:", "grossest:")], {}, "risk.yaml"),
    "no key": (AT_ALPACA, YAHOO, "ALPACA_API_KEY"),
    "rules of another broker": ([TO_ALPACA], {**YAHOO, **KEYS}, "account.broker"),
    "live without its variable": (
        [*AT_ALPACA, ("universe.yaml", "mode: paper ", "mode: live ")], {**YAHOO, **KEYS}, "OCTOPUS_LIVE",
    ),
    "a variable": ([], {"OCTOPUS_MARKET_DATA": "bloomberg"}, "OCTOPUS_MARKET_DATA"),
    "one database of three": ([], {"OCTOPUS_DATABASE_URL": "postgresql://x@127.0.0.1:1/o"}, "OCTOPUS_DAGSTER_URL"),
}  # fmt: skip


QUICK = ("syntax", "no key", "live without its variable")


@pytest.mark.parametrize(
    "broken",
    [pytest.param(one, id=name, marks=[] if name in QUICK else pytest.mark.slow) for name, one in BROKEN.items()],
)
def test_whatever_is_wrong_with_the_settings_it_halts_and_says_what_is_not_done(
    broken: tuple[Edits, dict[str, str], str], tmp_path: Path, database_url: str
) -> None:
    edits, environment, word = broken
    home = tmp_path / "home"
    home.mkdir()
    environment = {"OCTOPUS_CONFIG": config(tmp_path / "config", edits), **environment}
    told = octopus(home, "halt", "--cancel", "--reason", "rogue orders", **environment)
    halt = HaltFile(home / NAME).read()
    assert halt is not None
    assert (halt.state, halt.reason, halt.cancel) == (TradingState.HALTED, "rogue orders", True)
    assert told.returncode == 1
    assert f"halted by {home / NAME}" in told.stdout
    assert "NO OPEN ORDER IS CANCELLED" in told.stderr
    assert f"halted by {home / NAME} alone: " in told.stderr
    assert word in told.stderr
    # Whatever account the settings will name: the file halts it.
    with OrderStore.opened(database_url) as store:
        for account in ("one", "another"):
            store.open_account(account, "test", "opened for a test", NOON)
            assert "rogue orders" in status(database_url, account, home).reason


def test_an_env_file_that_cannot_be_read_stops_every_command_but_the_halt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("OCTOPUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OCTOPUS_HOME", str(tmp_path))
    (tmp_path / ".env").write_bytes(b"OCTOPUS_LIVE=\xff\n")
    monkeypatch.setattr("octopus_pipelines.cli.main.ROOT", tmp_path)
    for command in ("resume", "halt"):
        monkeypatch.setattr(sys, "argv", ["octopus", command])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        assert f"{tmp_path / '.env'} cannot be read" in capsys.readouterr().err
        assert (HaltFile.in_home(tmp_path).read() is not None) is (command == "halt")


def test_what_one_shell_cannot_store_the_next_one_stores(house: EmbeddedPostgres) -> None:
    assert octopus(house.home, "halt", "--reason", "smoke", OCTOPUS_LIVE="alpaca").returncode == 1
    assert (house.home / NAME).exists()
    assert octopus(house.home, "halt", "--reducing", "--reason", "still").returncode == 0
    assert not (house.home / NAME).exists()
    assert status(house.url(), "paper", house.home).state is TradingState.HALTED


def test_a_reason_that_is_no_utf8_is_stored_as_far_as_it_can_be_read(house: EmbeddedPostgres) -> None:
    said = b"Pr\xe9cision".decode("utf-8", "surrogateescape")  # a shell of another encoding
    house.stop()
    assert octopus(house.home, "halt", "--reason", said, LOGNAME="Ren\udce9").returncode == 0
    halt = HaltFile.in_home(house.home).read()
    assert halt is not None
    assert (halt.by, halt.reason) == ("Ren\ufffd", "Pr\ufffdcision")
    # A file that another release wrote says it as it was typed.
    text = (house.home / NAME).read_text(encoding="utf-8")
    (house.home / NAME).write_text(text.replace("\\ufffd", "\\udce9"), encoding="utf-8")
    assert "udce9" in (house.home / NAME).read_text(encoding="utf-8")
    house.start()
    assert octopus(house.home, "resume", "--reason", said, LOGNAME="Ren\udce9").returncode == 0
    assert not (house.home / NAME).exists()
    told = rows(house.url(), "select subject, payload from audit.log where kind like 'trading.%%' order by seq")
    assert [("Pr\\ufffdcision" in payload or "Pr\ufffdcision" in payload) for _, payload in told] == [True] * 3


def test_a_folder_that_was_not_there_is_most_likely_the_wrong_one(tmp_path: Path) -> None:
    told = octopus(tmp_path / "elsewhere", "halt")
    assert told.returncode == 1
    assert "set OCTOPUS_HOME" in told.stderr
    assert HaltFile.in_home(tmp_path / "elsewhere").read() is not None


@pytest.mark.parametrize("is_up", [True, False])
def test_a_file_that_cannot_be_written_is_told_and_the_database_halts_where_it_can(
    house: EmbeddedPostgres, *, is_up: bool
) -> None:
    (house.home / "halt.draft").mkdir()
    if not is_up:
        house.stop()
    told = octopus(house.home, "halt", "--reason", "smoke")
    assert told.returncode == 1
    assert "cannot be written" in told.stderr
    assert ("NOTHING IS HALTED" in told.stderr) is not is_up
    assert ("account paper is halted" in told.stdout) is is_up
    if is_up:
        octopus(house.home, "halt", "--reason", "smoke")
        assert rows(house.url(), "select state, reason from execution.trading_state") == [
            ("halted", "account paper was never opened for trading; and smoke")
        ]


def test_the_watchdog_watches_and_halts_without_a_broker_that_can_be_opened(tmp_path: Path) -> None:
    home = tmp_path / "home"
    at_once = ("universe.yaml", "database_minutes: 2 ", "database_minutes: 0 ")
    edits = config(tmp_path / "config", [*AT_ALPACA, at_once])
    environment = {"OCTOPUS_CONFIG": edits, "OCTOPUS_MARKET_DATA": "yahoo"}
    watched = octopus(home, "watchdog", "--once", "--halt-on", "database_down", **environment)
    assert watched.returncode == 1
    assert "The database is down" in watched.stdout
    assert "NO OPEN ORDER IS CANCELLED" in watched.stderr
    assert "ALPACA_API_KEY" in watched.stderr
    halt = HaltFile(home / NAME).read()
    assert halt is not None
    assert (halt.by, halt.state, halt.cancel) == ("watchdog", TradingState.HALTED, True)


# -- one halt after another --------------------------------------------------------------------------------------------


def test_with_the_database_down_a_second_halt_loosens_nothing(tmp_path: Path) -> None:
    octopus(tmp_path, "halt", "--cancel", "--reason", "rogue orders")
    told = octopus(tmp_path, "halt", "--reducing", "--reason", "second thought")
    halt = HaltFile.in_home(tmp_path).read()
    assert halt is not None
    assert (halt.state, halt.cancel) == (TradingState.HALTED, True)
    assert halt.reason == "rogue orders; and second thought"
    assert told.stdout.startswith("halted by ")
    assert "reducing" not in told.stdout


def test_a_halt_says_the_state_that_counts_afterwards(house: EmbeddedPostgres) -> None:
    assert octopus(house.home, "halt").returncode == 0
    told = octopus(house.home, "halt", "--reducing")
    assert told.returncode == 0
    assert "account paper is halted: no order leaves" in told.stdout
    assert "asked for was reducing: a halt only tightens" in told.stdout
    assert json.loads(octopus(house.home, "status", "--json").stdout)["trading"]["state"] == "halted"


# -- a cancel that waits -----------------------------------------------------------------------------------------------


@pytest.fixture
def venue() -> Iterator[AlpacaVenue]:
    with AlpacaVenue() as served:
        served.book("CSD", net_amount="0", date="2022-12-01")
        served.deposit()
        yield served


def test_resuming_carries_out_the_cancel_that_waits_or_refuses(
    house: EmbeddedPostgres, venue: AlpacaVenue, tmp_path: Path
) -> None:
    halts = HaltFile.in_home(house.home)
    access = Access(base_url=venue.url, timeout_s=5, patience=Patience(attempts=1))
    broker = AlpacaBroker("KEY", "SECRET", "paper", SESSIONS, access=access, now=lambda: NOON)
    desk = Desk(house.url(), "paper", ManualClock(NOON), flat_feed(["AAA", "BBB"]), broker, halts=halts)
    desk.open()
    batch = store_plan(house.url(), "paper", [(name, Side.BUY, D(10)) for name in ("AAA", "BBB")])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        assert len(engine.send(batch.batch_id, "run").sent) == 2
    environment = {
        "OCTOPUS_CONFIG": config(tmp_path / "config", AT_ALPACA), "OCTOPUS_MARKET_DATA": "yahoo",
        "OCTOPUS_ALPACA_TRADING_URL": venue.url, **KEYS,
    }  # fmt: skip

    def cancelled() -> list[bool]:
        return [one["status"] == "canceled" for one in venue.orders.values()]

    # As with the database down.
    halts.write(Halt(TradingState.HALTED, "Ann Example", "rogue orders", datetime.now(UTC), cancel=True))
    venue.unauthorised = True
    refused = octopus(house.home, "resume", **environment)
    assert refused.returncode == 1
    assert "not resumed: a halt by Ann Example (rogue orders)" in refused.stderr
    assert "--keep-orders" in refused.stderr
    waiting = halts.read()
    assert waiting is not None
    assert waiting.cancel
    assert status(house.url(), "paper", house.home).state is TradingState.HALTED

    venue.unauthorised = False
    lacking = {name: value for name, value in environment.items() if name not in KEYS}
    assert "ALPACA_API_KEY" in octopus(house.home, "resume", **lacking).stderr
    assert cancelled() == [False, False]
    resumed = octopus(house.home, "resume", **environment)
    assert resumed.returncode == 0, resumed.stderr
    assert "2 open orders cancelled at the broker" in resumed.stdout
    assert cancelled() == [True, True]
    assert halts.read() is None
    assert status(house.url(), "paper", house.home).state is TradingState.ACTIVE
    assert set(desk.states(batch).values()) <= {"pending_cancel", "cancelled"}

    halts.write(Halt(TradingState.HALTED, "Ann Example", "again", datetime.now(UTC), cancel=True))
    venue.unauthorised = True
    assert octopus(house.home, "resume", "--keep-orders", "--reason", "they stand", **environment).returncode == 0
    assert halts.read() is None
    said = "they stand; open orders that a halt asked to cancel were left, by --keep-orders"
    assert status(house.url(), "paper", house.home) == TradingStatus(TradingState.ACTIVE, said)


def test_a_cancel_that_failed_at_the_broker_waits_for_the_next_who_asks(
    house: EmbeddedPostgres, venue: AlpacaVenue, tmp_path: Path
) -> None:
    environment = {
        "OCTOPUS_CONFIG": config(tmp_path / "config", AT_ALPACA), "OCTOPUS_MARKET_DATA": "yahoo",
        "OCTOPUS_ALPACA_TRADING_URL": venue.url, **KEYS,
    }  # fmt: skip
    venue.unauthorised = True
    told = octopus(house.home, "halt", "--cancel", **environment)
    assert told.returncode == 1
    assert "cancel them at alpaca yourself" in told.stderr
    assert "account paper is halted" in told.stdout
    assert HaltFile.in_home(house.home).read() is not None
    assert "not resumed" in octopus(house.home, "resume", **environment).stderr
    venue.unauthorised = False
    assert octopus(house.home, "halt", "--cancel", **environment).returncode == 0
    assert HaltFile.in_home(house.home).read() is None


def test_at_schwab_with_the_database_down_a_person_is_told_to_cancel_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(settings) -> Trading:  # type: ignore[no-untyped-def]
        def known() -> Mapping[str, str]:
            with OrderStore.opened(settings.database_url) as store:
                return store.client_ids("schwab")

        access = Access(base_url=venue.url, timeout_s=5, patience=Patience(attempts=1))
        token = venue.write_token(tmp_path / "token.json")
        broker = SchwabBroker("KEY", "SECRET", token, ACCOUNT, "schwab", SESSIONS, known, access=access)
        return Trading(settings, ManualClock(NOON), broker)

    for name in [name for name in os.environ if name.startswith("OCTOPUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OCTOPUS_HOME", str(tmp_path))
    monkeypatch.setattr(commands, "trading_of", opened)
    monkeypatch.setattr(sys, "argv", ["octopus", "halt", "--cancel"])
    with SchwabVenue(now=lambda: NOON) as venue, pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert "Cancel them at schwab yourself" in told.err
    assert "0 open orders cancelled" not in told.out


# -- a schema of another release ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param([("resume",), ("breaks", "list")], id="some"),
        pytest.param([("adopt", "--yes"), ("orders", "list"), ("status",)], id="others", marks=pytest.mark.slow),
    ],
)
def test_on_a_schema_behind_a_halt_stands_and_every_command_names_the_remedy(
    house: EmbeddedPostgres, asked: list[tuple[str, ...]]
) -> None:
    downgrade(house.url(), "0032")
    told = octopus(house.home, "halt", "--reason", "smoke")
    assert told.returncode == 1
    assert "halted by" in told.stdout
    assert f"{house.home / NAME} alone: the database's schema is revision 0032" in told.stderr
    assert "`octopus db migrate`" in told.stderr
    for command in asked:
        refused = octopus(house.home, *command)
        assert refused.returncode == 1, command
        assert f"revision 0032 and this release needs {newest_revision()}" in refused.stderr, command
        assert "`octopus db migrate`" in refused.stderr, command
    assert (house.home / NAME).exists()
    assert "✗ schema" in octopus(house.home, "doctor").stdout
    assert octopus(house.home, "db", "psql", "-c", "select 1").returncode == 0
    assert octopus(house.home, "db", "migrate").returncode == 0
    assert octopus(house.home, "resume").returncode == 0
    assert not (house.home / NAME).exists()


def test_the_newest_revision_is_alembics_head_and_a_later_one_is_told(database_url: str) -> None:
    assert newest_revision() == ScriptDirectory(str(migrations._MIGRATIONS)).get_current_head()
    assert schema_problem(database_url) == ""
    with connect(database_url) as connection:
        connection.execute("update public.alembic_version set version_num = '9999'")
        connection.commit()
        try:
            assert "revision 9999, of a later release" in schema_problem(database_url)
        finally:
            connection.execute("update public.alembic_version set version_num = %s", [newest_revision()])
            connection.commit()
