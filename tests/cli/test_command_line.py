"""The command line as a user meets it: a command is a process; every refusal is one line that says what to do."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg
import pytest
import sqlalchemy.exc

from octopus_pipelines.cli import summary
from octopus_pipelines.cli.house import new_console
from octopus_pipelines.cli.main import main
from octopus_pipelines.cli.run import Outcome, Progress
from octopus_pipelines.cli.summary import print_figures
from octopus_pipelines.launch import StepReport
from resources.runtime.postgres import EmbeddedPostgres
from tests.command_line import octopus
from tests.conftest import copied_home, put_away


@pytest.fixture(scope="module")
def home(migrated_home: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="octopus-cli-"))
    copied_home(migrated_home, folder)
    yield folder
    put_away(folder)


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The last line of standard error, of a command that failed without a traceback."""
    assert result.returncode not in (0, -9), result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--as-of", "2023-05-05"), ("2023-05-05", "2022-12-28", "recording ends")),
        (("run", "--as-of", "tomorrow"), ("--as-of", "tomorrow")),
        (("run", "--from", "2022-12-01"), ("--from and --to together",)),
        (("run", "--from", "2022-12-05", "--to", "2022-12-01"), ("widen the range",)),
        (("run", "--from", "2022-12-27", "--to", "2023-01-04"), ("--to", "2022-12-29", "recording ends")),
        (("prune",), ("No such command 'prune'",)),
    ],
)
def test_what_is_asked_wrongly_is_one_line_with_its_remedy(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:  # type: ignore[no-untyped-def]
    """Nothing is opened before it is refused: no process of its own is needed to tell."""
    for name in [name for name in os.environ if name.startswith("OCTOPUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OCTOPUS_HOME", str(tmp_path))
    monkeypatch.setattr("octopus_pipelines.cli.main.ROOT", tmp_path)  # where no file .env is
    monkeypatch.setattr(sys, "argv", ["octopus", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code not in (0, None)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--as-of", "2022-12-25"), ("--as-of", "no session of XNYS", "2022-12-23")),
        (("backtest", "--as-of", "2022-12-26"), ("no session",)),
        (("db", "restore", "/nowhere.tar"), ("/nowhere.tar", "name the right file")),
    ],
)
def test_what_cannot_be_done_is_one_line_with_its_remedy(
    home: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    line = refusal(octopus(home, *arguments))
    for word in words:
        assert word in line


def test_a_broken_setting_is_named_before_anything_starts(tmp_path: Path) -> None:
    line = refusal(octopus(tmp_path, "status", OCTOPUS_MARKET_DATA="bloomberg"))
    assert "OCTOPUS_MARKET_DATA" in line
    assert "sample" in line
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize("arguments", [("alerts", "list", "--limit", "-1"), ("orders", "replace", "x", "--wait", "-1")])
def test_a_number_below_what_there_can_be_is_refused(home: Path, arguments: tuple[str, ...]) -> None:
    assert f"Invalid value for '{arguments[-2]}'" in refusal(octopus(home, *arguments))


def test_what_others_said_is_printed_as_it_is(home: Path) -> None:
    """A broker's words may look like markup, or end it."""
    reason = "broker answered [/api/orders] 500 [red] :boom: \\"
    assert octopus(home, "halt", "--reason", reason).returncode == 0
    told = octopus(home, "status")
    assert told.returncode == 0, told.stderr
    assert reason in " ".join(told.stdout.split())
    assert octopus(home, "resume").returncode == 0


def test_progress_and_summary_print_others_words_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    words = "broker answered [/api/orders] 500 [red] \\"
    step = StepReport("execution__orders", "failed", 1.5, error=words)
    console = new_console()
    Progress(console).ended(step)
    outcome = Outcome([], skipped=[words], failure=words)
    summary._changes(console, outcome)
    summary._next(console, outcome)
    summary._gate(console, "risk", [{"outcome": "deny", "rule": "snapshot", "reason": words}])
    barred = {"status": "fallback", "reason": words, "unbuyable": {f"S{n:02}": words for n in range(10)}}
    summary._reservations(console, barred)
    print_figures(
        console, {**dict.fromkeys(_FIGURES, 0.5), "trades": 1, "strategy": {}, "benchmark": {}, "warnings": [words]}
    )
    told = capsys.readouterr().out
    assert told.count(words) == 5 + 1 + 8
    assert f"the optimiser fell back to {words}" in told
    assert f"may not be bought: S07: {words}" in told
    assert "and 2 more: see the metadata of portfolio/target_weights" in told


_FIGURES = ("sharpe_low", "sharpe_high", "deflated_sharpe", "turnover_annual", "cost_drag")


def test_no_password_stands_on_a_command_line(home: Path, tmp_path: Path) -> None:
    """Every user of the machine reads the arguments of a process, and none but its own its environment."""
    program = tmp_path / "psql"
    program.write_text('#!/bin/sh\necho "$@"; echo "password in the environment: $PGPASSWORD"\n')
    program.chmod(0o755)
    EmbeddedPostgres(home).start()
    address = EmbeddedPostgres(home).url().replace("postgres@", "postgres:hush@", 1)
    assert "hush" in address
    for role in ("owner", "reader"):
        told = octopus(
            home, "db", "psql", "--role", role, "-c", "select 1", OCTOPUS_DATABASE_URL=address,
            OCTOPUS_DAGSTER_URL=address, OCTOPUS_MLFLOW_URL=address, PATH=f"{tmp_path}:{os.environ['PATH']}",
        )  # fmt: skip
        arguments, environment = told.stdout.strip().splitlines()
        assert arguments.endswith("-c select 1")
        assert ("role=octopus_reader" in arguments) == (role == "reader")
        assert "hush" not in arguments
        assert environment == "password in the environment: hush"


def test_a_home_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refusal(octopus(tmp_path / "file", "status"))
    assert str(tmp_path / "file") in line
    assert "see `octopus doctor`" in line
    assert "Traceback" in octopus(tmp_path / "file", "status", OCTOPUS_DEBUG="1").stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "/srv/logs"), "/srv/logs: Read-only file system"),
        (psycopg.errors.UndefinedTable('relation "a" does not exist\nLINE 1: select'),
         'the database refused: UndefinedTable: relation "a" does not exist;'),
        (sqlalchemy.exc.OperationalError("select 1", {}, Exception("the server ended")),
         "the database refused: OperationalError: (builtins.Exception) the server ended;"),
        (psycopg.OperationalError(), "OperationalError;"),
        (UnicodeDecodeError("utf-8", b"\xe4", 0, 1, "invalid start byte"),
         "a text cannot be read: UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe4"),
    ],
)  # fmt: skip
def test_what_the_surroundings_do_is_one_line_and_a_fault_of_ours_a_traceback(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends_with(monkeypatch, error)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"octopus: {said}")
    assert "see `octopus doctor` (OCTOPUS_DEBUG=1" in line
    monkeypatch.setenv("OCTOPUS_DEBUG", "1")
    with pytest.raises(type(error)):
        main()
    monkeypatch.delenv("OCTOPUS_DEBUG")
    ends_with(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        main()


def ends_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A command line whose one command ends in ``error``."""

    @click.group()
    def line() -> None: ...

    @line.command()
    def status() -> None:
        raise error

    monkeypatch.setattr("octopus_pipelines.cli.main.cli", line)
    monkeypatch.setattr(sys, "argv", ["octopus", "status"])


def test_a_key_that_is_mistyped_is_not_a_broken_log(home: Path) -> None:
    assert octopus(home, "halt").returncode == 0
    assert octopus(home, "resume").returncode == 0
    (key,) = json.loads(octopus(home, "audit", "verify", "--json").stdout)["keys"]
    assert "whole" in octopus(home, "audit", "verify", "--key", key.upper()).stdout
    for wrong in (key[:-1], key + "0", "x" + key[1:]):
        assert "is no public key: 64 hexadecimal digits" in refusal(octopus(home, "audit", "verify", "--key", wrong))
    other = ("0" if key[0] != "0" else "1") + key[1:]
    line = refusal(octopus(home, "audit", "verify", "--key", other))
    assert "broken" not in line
    assert "the log itself is whole" in line
    assert key in line
    assert "Where a digit of --key is wrong" in line


def test_the_kill_switch_and_the_audit_log(home: Path) -> None:
    assert octopus(home, "db", "migrate").returncode == 0
    assert octopus(home, "halt", "--help").returncode == 0
    assert octopus(home, "halt").returncode == 0
    state = json.loads(octopus(home, "status", "--json").stdout)
    assert state["trading"]["state"] == "halted"
    assert state["audit"]["ok"] is True
    assert state["orders"] == {}
    assert octopus(home, "resume").returncode == 0
    assert json.loads(octopus(home, "status", "--json").stdout)["trading"]["state"] == "active"
    assert "whole" in octopus(home, "audit", "verify").stdout
    with psycopg.connect(EmbeddedPostgres(home).url(), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # past the trigger that forbids it
        connection.execute("update audit.log set subject = 'another' where seq = 1")
    assert "1" in refusal(octopus(home, "audit", "verify"))
    assert json.loads(octopus(home, "status", "--json").stdout)["audit"]["ok"] is False


def test_status_says_what_waits_for_its_verdict(home: Path) -> None:
    with psycopg.connect(EmbeddedPostgres(home).url(), autocommit=True) as connection:
        connection.execute("insert into ops.judged values ('s', 1, now())")
        connection.execute("insert into ops.batches values (2, 'raw.bars', 's', now(), null, null, 2, 0, 0, 0)")
        connection.execute(
            """
            insert into raw.bars
                (source, instrument, ts, session, close, known_at, known_at_imputed, ingested_at, batch_id)
            select 's', 'A', day + interval '21 hours', day, 1, now(), true, now(), 2
            from unnest('{2024-01-04,2024-01-05}'::date[]) as day
            """
        )
        told = " ".join(octopus(home, "status").stdout.split())
        assert "2 bars and 0 actions of s wait for their verdict, of 2 sessions from 2024-01-04 to 2024-01-05" in told
        assert "`octopus run`" in told


def test_a_backup_comes_back_halted(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.tar"
    assert octopus(home, "db", "backup", str(target)).returncode == 0
    assert "holds" in refusal(octopus(home, "db", "restore", str(target)))
    elsewhere = Path(tempfile.mkdtemp(prefix="octopus-cli2-"))
    try:
        restored = octopus(elsewhere, "db", "restore", str(target))
        assert restored.returncode == 0, restored.stderr
        assert "trading is halted" in restored.stdout
        state = json.loads(octopus(elsewhere, "status", "--json").stdout)["trading"]
        assert state["state"] == "halted"
        assert "restored" in state["reason"]
    finally:
        put_away(elsewhere)


def test_an_interruption_says_that_the_same_command_goes_on(monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    ends_with(monkeypatch, KeyboardInterrupt())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert "run the same command again" in capsys.readouterr().err
