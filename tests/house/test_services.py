"""`octopus up` runs once on a home: a second one changes nothing, and what a killed one left is ended by the next."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from octopus_pipelines.cli.up import _family
from resources import lock_file
from resources.runtime.services import LOCK, Service, ServiceError, Services, sole_owner
from resources.settings import load_settings
from tests.command_line import octopus

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
OWNER = f"""
import sys, time
from pathlib import Path
from resources.runtime.services import Service, Services, sole_owner
home = Path(sys.argv[1])
with sole_owner(home):
    Services(home, {{}}).start([Service("sleeper", {SLEEPS!r})])
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that serves the home ``tmp_path``."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    children = psutil.Process(process.pid).children(recursive=True)
    yield process
    process.kill()
    process.communicate()
    for child in children:
        if child.is_running():
            child.kill()


def served(home: Path) -> psutil.Process:
    (told,) = json.loads((home / "services.json").read_text()).values()
    return psutil.Process(told[0])


def test_a_second_octopus_up_touches_nothing_and_names_the_first(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    sleeper, before = served(tmp_path), set(tmp_path.iterdir())
    second = octopus(tmp_path, "up")
    assert second.returncode == 1
    assert f"octopus up runs already on {tmp_path} (pid {owner.pid})" in second.stderr
    assert sleeper.is_running()
    assert sleeper.status() != psutil.STATUS_ZOMBIE
    assert set(tmp_path.iterdir()) == before, "no database was made or started"


def test_what_a_killed_one_left_is_ended_by_the_next(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    left = served(tmp_path)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert left.is_running()
    services = Services(tmp_path, {})
    with sole_owner(tmp_path):
        services.start([Service("sleeper", SLEEPS)])
        try:
            left.wait(timeout=20)
            assert served(tmp_path).pid != left.pid
            assert (tmp_path / LOCK).read_text() == str(os.getpid())
            with pytest.raises(ServiceError, match="runs already"), sole_owner(tmp_path):
                pass
        finally:
            services.stop()


def test_a_lock_is_open_to_every_user_and_no_link_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    before = os.umask(0o077)
    try:
        with lock_file.held(path, 0) as first, lock_file.held(path, 0) as second:
            assert first is not None
            assert second is None
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    other = tmp_path / "other"
    other.write_text("")
    other.chmod(0o600)
    (tmp_path / "link.lock").symlink_to(other)
    with pytest.raises(OSError, match="symbolic"), lock_file.held(tmp_path / "link.lock", 0):
        pass
    assert stat.S_IMODE(other.stat().st_mode) == 0o600


def test_no_password_is_on_the_command_line_of_a_service(tmp_path: Path) -> None:
    urls = {f"OCTOPUS_{name}_URL": f"postgresql://u:S3CRET@db/{name}" for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    family = _family(load_settings({**urls, "OCTOPUS_HOME": str(tmp_path)}), 3000, 5000)
    assert not any("S3CRET" in word for service in family for word in service.command)
    services = Services(tmp_path, {})
    says = [sys.executable, "-c", "import os; print(os.environ['MLFLOW_BACKEND_STORE_URI'], flush=True)"]
    services.start([Service("MLflow", says, environment=family[-1].environment)])
    log, until = tmp_path / "logs" / "MLflow.log", time.monotonic() + 20
    while not log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    services.stop()
    assert log.read_text() == "postgresql+psycopg2://u:S3CRET@db/MLFLOW\n"
