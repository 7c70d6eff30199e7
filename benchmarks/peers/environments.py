"""The peers' environments: ``.peers/NAME`` made of ``locks/NAME.lock``, and running a side in one.

Belongs here: making, finding, running. Does not: what a side does (``by_*.py``).

A lock holds versions and hashes and no address. It is made anew by, for each NAME::

    uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
        --override benchmarks/peers/locks/dropped.txt benchmarks/peers/locks/NAME.in -o benchmarks/peers/locks/NAME.lock

``dropped.txt`` names what Qlib asks for and its expressions do not use (notebooks, models, plots).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.watch import ROOT, Side, side

LOCKS = Path(__file__).parent / "locks"
FOLDER = ROOT / ".peers"
NAMES = tuple(sorted(lock.stem for lock in LOCKS.glob("*.lock")))


def interpreter(name: str) -> Path | None:
    """Python of a peer's environment; None where there is none, or one of another lock."""
    stamp = FOLDER / name / "lock.sha256"
    python = FOLDER / name / "bin" / "python"
    return python if stamp.exists() and stamp.read_text() == _digest(name) and python.exists() else None


def run(environment: str | None, module: str, job: str, source: Path, target: Path) -> Side:
    """A job by ``benchmarks.peers.MODULE`` in an environment that is there; None is our own.

    Raises:
        SystemExit: the environment is not there, or the side failed.
    """
    python = Path(sys.executable) if environment is None else interpreter(environment)
    if python is None:
        raise SystemExit(absent([environment or ""]))
    quiet = ["-W", "ignore::FutureWarning"]
    return side([str(python), *quiet, "-m", f"benchmarks.peers.{module}", job, str(source), str(target)])


def absent(names: Iterable[str]) -> str:
    """Which of these environments are not here, and the remedy; empty where all are."""
    missing = [name for name in names if interpreter(name) is None]
    return f"not here, so not measured: {', '.join(missing)}; `make peers` makes .peers/NAME" if missing else ""


def make(name: str) -> str:
    """Make an environment, or leave one of the same lock as it is; what went wrong, empty if nothing did."""
    if interpreter(name):
        return ""
    folder = FOLDER / name
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, "--no-deps", "--require-hashes", "-r", str(LOCKS / f"{name}.lock")],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            last = done.stderr.strip().split("\n")[-1]
            return f"{name}: {last} (Python {sys.version.split()[0]}; the locks were made for 3.11)"
    (folder / "lock.sha256").write_text(_digest(name))
    return ""


def _digest(name: str) -> str:
    return hashlib.sha256((LOCKS / f"{name}.lock").read_bytes()).hexdigest()
