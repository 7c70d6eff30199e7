"""The order path's tests are many and small: they share one database for each file and empty it between tests."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from resources.runtime.postgres import EmbeddedPostgres
from resources.warehouse.connection import connect
from tests.conftest import copied_home, leave, put_away

_EMPTY = """
set session_replication_role = replica;
do $$
declare name text;
begin
    for name in select format('%I.%I', schemaname, tablename) from pg_tables
        where schemaname in ('execution', 'paper', 'audit', 'portfolio', 'compliance', 'risk', 'ops', 'raw')
          and tablename <> 'batch_counter' loop
        execute 'delete from ' || name;
    end loop;
end $$;
"""


@pytest.fixture(scope="module")
def module_database(server_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for all tests of one file."""
    name = f"octopus_execution_{uuid.uuid4().hex[:12]}"
    shared = str(conninfo_to_dict(server_url)["dbname"])
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{template_database}"')
        # These tests end clients, never the server: nothing they prove needs the disk to have answered.
        connection.execute(f'alter database "{name}" set synchronous_commit = off')
        try:
            yield re.sub(rf"/{shared}(?=\?|$)", f"/{name}", server_url)
        finally:
            leave(connection, name)


@pytest.fixture(scope="module")
def empty(module_database: str) -> Iterator[Callable[[], None]]:
    """Empties the file's database over a connection that is kept: a new one first reads the catalogue of 70 tables."""
    kept = connect(module_database, autocommit=True)

    def run() -> None:
        nonlocal kept
        try:
            kept.execute(_EMPTY)
        except psycopg.OperationalError:  # the test has ended every session of the database
            kept.close()
            kept = connect(module_database, autocommit=True)
            kept.execute(_EMPTY)

    yield run
    kept.close()


@pytest.fixture
def database_url(module_database: str, empty: Callable[[], None]) -> Iterator[str]:
    """The file's database, emptied after the test."""
    yield module_database
    empty()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, migrated_home: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, which it may kill."""
    home = Path(tempfile.mkdtemp(prefix="octopus-halt-"))
    for name in ("OCTOPUS_DATABASE_URL", "OCTOPUS_DAGSTER_URL", "OCTOPUS_MLFLOW_URL", "OCTOPUS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OCTOPUS_HOME", str(home))
    server = copied_home(migrated_home, home)
    server.start()
    try:
        yield server
    finally:
        put_away(home)
