"""Fixtures that every test may use: the recorded data, and fresh databases on a real PostgreSQL.

The server is the embedded one, or the TimescaleDB that OCTOPUS_TEST_DATABASE_URL points at. A migrated template is
made once for each worker; a test's database is a copy of it.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psutil
import psycopg
import pytest
from hypothesis import settings
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from resources.runtime.postgres import EmbeddedPostgres
from resources.warehouse.migrate import migrate

ROOT = Path(__file__).parent.parent
GIVEN_SERVER = os.environ.get("OCTOPUS_TEST_DATABASE_URL")

# Read once, when a model's library is loaded: two workers on two processors would spin against each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# No test asserts a time: on a busy machine an example may take as long as it likes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without looking for garbage, and never look through what stays until the end.

    Millions of objects are made, and all but a few are kept: looking for garbage among them takes a third of
    collecting's time, and later half a second whenever Python looks through all there is.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of recorded market, news and API data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("OCTOPUS_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}: set OCTOPUS_TEST_DATA")
    return folder


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate of 127.0.0.1, signed by itself, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = serialization.Encoding.PEM
    told = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(told + signed.public_bytes(form))
    return path


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """URL of a maintenance database on a real server, where databases may be created."""
    if GIVEN_SERVER:
        yield GIVEN_SERVER
        return
    home = Path(tempfile.mkdtemp(prefix="octopus-test-"))
    server = EmbeddedPostgres(home)
    server.start()
    let_sync_go(server)
    try:
        yield server.url("postgres")
    finally:
        put_away(home)


def let_sync_go(server: EmbeddedPostgres) -> None:
    """No test takes the machine's power away: to wait for the disk proves nothing, and takes long."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("alter system set fsync = off")
        # The log of a copied template is written, never read.
        connection.execute("alter system set wal_compression = off")
        connection.execute("select pg_reload_conf()")


def put_away(home: Path) -> None:
    """End the server of a home that is needed no more, without a last word to the disk (SIGQUIT), and delete it."""
    server = EmbeddedPostgres(home)
    if server.is_running():
        postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(60)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_home() -> Iterator[Path]:
    """The home of an embedded server that was made, migrated and stopped, to be copied: see `copied_home`."""
    server = EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="octopus-made-")))
    server.start()
    let_sync_go(server)
    migrate(server.url())
    server.stop()
    yield server.home
    put_away(server.home)


def copied_home(made: Path, home: Path) -> EmbeddedPostgres:
    """A server of ``home`` with the databases of another that is stopped: to make them takes longer than most tests."""
    home.mkdir(parents=True, exist_ok=True)
    # As they are: whose each file is, too, because PostgreSQL does not run as root.
    subprocess.run(["cp", "-a", str(made / "postgres"), str(home)], check=True)
    return EmbeddedPostgres(home)


def _url_of(server: str, database: str) -> str:
    parts = conninfo_to_dict(make_conninfo(server, dbname=database))
    host, port = parts.get("host", "localhost"), parts.get("port", "5432")
    user, password = parts.get("user", "postgres"), parts.get("password")
    identity = f"{user}:{password}" if password else str(user)
    if str(host).startswith("/"):
        return f"postgresql://{identity}@/{database}?host={str(host).replace('/', '%2F')}"
    return f"postgresql://{identity}@{host}:{port}/{database}"


@pytest.fixture(scope="session")
def template_database(server_url: str) -> Iterator[str]:
    name = f"octopus_template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
        migrate(_url_of(server_url, name))
        # A template must have no session on it, and TimescaleDB's scheduler opens one wherever it may.
        connection.execute(f'alter database "{name}" with allow_connections false')
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        yield name
        connection.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def database_url(server_url: str, template_database: str) -> Iterator[str]:
    """A fresh, migrated database of the test's own."""
    name = f"octopus_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{template_database}"')
        yield _url_of(server_url, name)
        leave(connection, name)


def leave(connection: psycopg.Connection, name: str) -> None:
    """End what a test still does in a database that is needed no more, and on a server that is not ours drop it.

    Of our own server all go with it in the end: where a thousand files were deleted a moment ago, a file system looks
    long for places for the next thousand, and a copy takes ten times as long.
    """
    connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
    if GIVEN_SERVER:
        connection.execute(f'drop database if exists "{name}" with (force)')


LONGEST_FIRST = ("test_main_job", "test_rows_kept_out", "test_live_data_paper", "test_replay", "test_dbt_project")
"""Files of few tests that take minutes: begun last, one worker would wait for the other."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole houses before single functions, the longest of them first."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: (places.get(item.path.stem, len(places)), "pipelines" not in item.path.parts))


REQUIRED = frozenset(os.environ.get("OCTOPUS_TEST_REQUIRE", "").split())
"""Markers whose tests may not be skipped, e.g. ``timescale nlp`` where continuous integration provides both."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn a skip of a required kind into a failure: a green run that tested nothing would be a lie."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    kinds = REQUIRED & {marker.name for marker in item.iter_markers()}
    if report.skipped and kinds and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although OCTOPUS_TEST_REQUIRE names {', '.join(sorted(kinds))}: {report.longrepr}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts that proofs recorded (``record_property("proof", {title: {row: count}})``), added up."""
    tables: dict[str, Counter[str]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            for title, counts in value.items() if name == "proof" else ():
                tables.setdefault(title, Counter()).update(counts)
    for title, counts in tables.items():
        terminalreporter.section(f"proof: {title}")
        for row, count in counts.items():
            terminalreporter.line(f"{count:>9,}  {row}")
