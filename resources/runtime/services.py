"""The services of `octopus up`: Dagster's webserver and daemon and MLflow's server, started, watched and stopped
together.

Belongs here: child processes on the loopback address. Does not: what they serve.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from octopus.core.errors import OctopusError
from resources import lock_file

LOOPBACK = "127.0.0.1"
"""Neither Dagster's open-source webserver nor MLflow has a login: they are never bound to another address."""
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 20
LOCK = "services.lock"
"""In the data folder: held by the `octopus up` whose services run, with its process id."""


class ServiceError(OctopusError):
    """A service did not come up or ended by itself; the message names its log."""


@dataclass(frozen=True)
class Service:
    """One child process.

    Attributes:
        command: argument list; every user of the machine can read it. environment: of this service alone, secrets
            included. url: answers with HTTP once the service is up; None for one without a page.
    """

    name: str
    command: Sequence[str]
    url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Services:
    """A family of child processes that live and end together; who starts one is its `sole_owner`.

    Attributes:
        home: Octopus's data folder: logs go to ``home/logs``, process ids to ``home/services.json``.
    """

    home: Path
    environment: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, services: Sequence[Service]) -> None:
        """Start all and return when each page answers; on any failure stop what was started."""
        self._stop_leftovers()
        try:
            for service in services:
                self._spawn(service)
            for service in services:
                self._await(service)
        except BaseException:
            self.stop()
            raise

    def watch(self, poll_seconds: float = 1.0) -> None:
        """Return when a service has ended by itself: an error that names its log. Ctrl-C passes through."""
        while True:
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise ServiceError(f"{name} ended (exit {process.returncode}); see {self._log(name)}")
            time.sleep(poll_seconds)

    def stop(self) -> None:
        """Ask every service to end, wait, and end by force what is left, with all that it started."""
        families = [_family(process.pid) for process in self.running.values()]
        _end([process for family in families for process in family])
        for process in self.running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
        self.running.clear()
        self._pid_file.unlink(missing_ok=True)

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _pid_file(self) -> Path:
        return self.home / "services.json"

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _spawn(self, service: Service) -> None:
        log = self._log(service.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(service.command),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment, **service.environment},
                start_new_session=True,  # Ctrl-C reaches us alone; we end them in order
            )
        self.running[service.name] = process
        pids = {name: [child.pid, psutil.Process(child.pid).create_time()] for name, child in self.running.items()}
        self._pid_file.write_text(json.dumps(pids))

    def _await(self, service: Service) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while service.url is not None and not _answers(service.url):
            if self.running[service.name].poll() is not None or time.monotonic() > deadline:
                raise ServiceError(f"{service.name} did not come up; see {self._log(service.name)}")
            time.sleep(0.2)

    def _stop_leftovers(self) -> None:
        """End what an `octopus up` that was killed has left behind; a recycled process id is told by its start time.

        The one that wrote the ids is dead, or it would hold the lock that this process holds.
        """
        with suppress(FileNotFoundError, ValueError):
            for pid, created in json.loads(self._pid_file.read_text()).values():
                with suppress(psutil.NoSuchProcess):
                    if abs(psutil.Process(pid).create_time() - created) < 1.0:
                        _end(_family(pid))
        self._pid_file.unlink(missing_ok=True)


@contextmanager
def sole_owner(home: Path) -> Iterator[None]:
    """Be the one that runs the services of ``home``, its embedded database included, to the end of the ``with`` block.

    Raises:
        ServiceError: another process is.
    """
    path = home / LOCK
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(lock_file.held(path, wait_seconds=0))
        except OSError as error:
            raise ServiceError(
                f"{path} cannot be opened ({error.strerror}): run `octopus up` as the owner of {home}"
            ) from None
        if descriptor is None:
            whose = path.read_text(errors="replace").strip() or "unknown"
            raise ServiceError(f"octopus up runs already on {home} (pid {whose}): end that first, then try again")
        with suppress(OSError):  # a file of another user may be locked and not written
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


def free_port(preferred: int) -> int:
    """``preferred`` if nobody listens on it at the loopback address, else the next free one."""
    for port in range(preferred, preferred + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((LOOPBACK, port))
                return port
    raise ServiceError(f"no free port between {preferred} and {preferred + 199}; stop something that listens there")


def python_program(name: str) -> str:
    """Path of a console script that is installed beside the running interpreter."""
    return str(Path(sys.executable).parent / name)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # our own loopback address
            return bool(answer.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def _family(pid: int) -> list[psutil.Process]:
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _end(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT_SECONDS)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
