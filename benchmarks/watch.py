"""Running one side of a measurement in a process of its own.

Belongs here: its last line and its memory. Does not: what is measured.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


def watched(command: list[str], environment: Mapping[str, str] | None = None) -> tuple[str, float]:
    """The last line that ``command`` prints, and the highest sum of resident memory of it and its children, MB.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, env={**os.environ, **(environment or {})}, cwd=ROOT)
        seen, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            peak = max(peak, _resident(seen))
            time.sleep(0.02)
        output.seek(0)
        lines = output.read().strip().split("\n")
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}: {' '.join(command)}")
    return lines[-1], peak / 1e6


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        # A child ended between being listed and being asked: the next sample counts the rest.
        return total
    return total
