"""Running one side of a measurement in a process of its own.

Belongs here: its figures and its memory. Does not: what is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Side:
    """What one side took, as it says itself (benchmarks/peers/timing.py), and its memory.

    Attributes:
        imported_s, first_s, warm_s: to import, of the first run (compiling where it must), of a warm one.
        first_cpu_s, warm_cpu_s: of the processor, children and all threads included; on a machine with other work they
            are the fairer numbers.
        megabytes: highest sum of resident memory of the process and its children; pages that they share count for each.
    """

    imported_s: float
    first_s: float
    warm_s: float
    first_cpu_s: float
    warm_cpu_s: float
    megabytes: float


def side(command: list[str]) -> Side:
    """Run ``command``, whose last line is its figures, and watch its memory.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, cwd=ROOT)
        seen, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            peak = max(peak, _resident(seen))
            time.sleep(0.02)
        output.seek(0)
        lines = output.read().strip().split("\n")
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}: {' '.join(command)}")
    return Side(**json.loads(lines[-1]), megabytes=peak / 1e6)


def load() -> str:
    """How busy the machine is, to be said beside every time."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        # A child ended between being listed and being asked: the next sample counts the rest.
        return total
    return total
