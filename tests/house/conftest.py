"""Fixtures of the house's tests: empty databases on both kinds of server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

SERVERS = ["postgresql", pytest.param("timescaledb", marks=pytest.mark.timescale)]


@contextmanager
def _databases(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes empty databases on the server that ``request`` names, and drops them in the end."""
    if request.param == "postgresql":
        server = request.getfixturevalue("server_url")
    else:
        server = os.environ.get("OCTOPUS_TEST_TIMESCALE_URL")
        if not server:
            pytest.skip("no TimescaleDB: `make timescaledb`, start it, and set OCTOPUS_TEST_TIMESCALE_URL")
    with psycopg.connect(server, autocommit=True) as connection, ExitStack() as stack:

        def make() -> str:
            name = f"octopus_empty_{uuid.uuid4().hex[:10]}"
            connection.execute(f'create database "{name}"')
            stack.callback(connection.execute, f'drop database if exists "{name}" with (force)')
            return urlsplit(server)._replace(path=f"/{name}").geturl()

        yield make


@pytest.fixture(params=SERVERS)
def new_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes an empty database and gives its URL, once on the suite's server and once on a TimescaleDB."""
    with _databases(request) as make:
        yield make


@pytest.fixture(scope="module", params=SERVERS)
def climbed(request: pytest.FixtureRequest) -> Iterator[str]:
    """One database of a file, which its tests take up from revision to revision."""
    with _databases(request) as make:
        yield make()
