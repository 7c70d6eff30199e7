"""The command line as a user meets it: a command is a process; every refusal is one line that says what to do."""

from __future__ import annotations

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

from octopus_pipelines.cli.main import main
from resources.runtime.postgres import EmbeddedPostgres
from tests.conftest import copied_home, put_away

OCTOPUS = str(Path(sys.executable).parent / "octopus")


@pytest.fixture(scope="module")
def home(migrated_home: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="octopus-cli-"))
    copied_home(migrated_home, folder)
    yield folder
    put_away(folder)


def octopus(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCTOPUS_", "DAGSTER", "MLFLOW", "DBT"))}
    return subprocess.run(
        [OCTOPUS, *arguments], env={**clean, "OCTOPUS_HOME": str(home), **environment}, capture_output=True, text=True,
        timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


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
    @click.group()
    def interrupted() -> None: ...

    @interrupted.command()
    def sweep() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("octopus_pipelines.cli.main.cli", interrupted)
    monkeypatch.setattr(sys, "argv", ["octopus", "sweep"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert "run the same command again" in capsys.readouterr().err
