"""The embedded server: started by several at once, killed, recovered, stopped."""

from __future__ import annotations

import multiprocessing
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from resources.runtime.postgres import EmbeddedPostgres
from tests.conftest import copied_home, put_away


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="octopus-pg-"))
    yield folder
    put_away(folder)


def _start(home: Path) -> None:
    EmbeddedPostgres(home).start()


def test_what_was_committed_survives_a_kill(home: Path, migrated_home: Path) -> None:
    server = copied_home(migrated_home, home)
    server.start()
    with psycopg.connect(server.url()) as connection:
        connection.execute("create table kept (n int)")
        connection.execute("insert into kept values (7)")
    server.kill()
    assert not server.is_running()
    server.start()
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("select n from kept").fetchone() == (7,)


def test_several_processes_may_start_it_at_once(home: Path) -> None:
    starters = [multiprocessing.get_context("spawn").Process(target=_start, args=(home,)) for _ in range(3)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(timeout=60)
    assert [starter.exitcode for starter in starters] == [0, 0, 0]
    assert EmbeddedPostgres(home).is_running()


def test_a_half_made_folder_is_made_anew(home: Path) -> None:
    (home / "postgres.making").mkdir()
    (home / "postgres.making" / "PG_VERSION").write_text("18")
    server = EmbeddedPostgres(home)
    server.start()
    with psycopg.connect(server.url("mlflow")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_nobody_else_may_enter_the_socket_folder(home: Path, migrated_home: Path) -> None:
    server = copied_home(migrated_home, home)
    server.start()
    assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["with a blank", "long-" + "x" * 120])
def test_a_path_that_a_socket_cannot_have_is_no_obstacle(home: Path, name: str, migrated_home: Path) -> None:
    server = copied_home(migrated_home, home / name)
    server.start()
    try:
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        server.stop()
    assert not server.is_running()


def test_stopping_twice_is_no_error(home: Path, migrated_home: Path) -> None:
    server = copied_home(migrated_home, home)
    server.start()
    server.stop()
    server.stop()
    assert not server.is_running()
