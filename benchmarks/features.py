"""`python -m benchmarks.features`: Alpha158 on 1000 instruments and 2520 sessions, ours and Qlib's.

Belongs here: making the bars, timing both sides on them, each in a process of its own, and printing. Does not:
comparing their values (tests/strategy/test_alpha158.py), asserting.

Qlib is no dependency: `pip install --target FOLDER pyqlib "pandas<3"`, and OCTOPUS_BENCH_QLIB=FOLDER. Seconds are those
of computing, without starting, without making the bars, and without Qlib's writing of its store. Memory is the highest
sum over the process and its children, sampled; pages that they share count for each.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.watch import watched
from octopus.core.types import FloatArray

SYMBOLS, SESSIONS = 1000, 2520
ROOT = Path(__file__).parent.parent
HOW = 'pip install --target FOLDER pyqlib "pandas<3", and set OCTOPUS_BENCH_QLIB=FOLDER'


@dataclass(frozen=True)
class Run:
    """One measurement: seconds of computing, and the peak of resident memory in MB."""

    work: str
    seconds: float
    megabytes: float


def random_bars(sessions: int, symbols: int) -> dict[str, FloatArray]:
    """Random walks with a range around them, shape (T, N); none is missing."""
    random = np.random.default_rng(0)
    shape = (sessions, symbols)
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.02, shape), axis=0))
    first = close * np.exp(random.normal(0, 0.01, shape))
    high = np.maximum(first, close) * (1 + random.exponential(0.005, shape))
    low = np.minimum(first, close) * (1 - random.exponential(0.005, shape))
    volume = np.floor(random.lognormal(13, 1, shape))
    return {"open": first, "high": high, "low": low, "close": close, "volume": volume, "vwap": (high + low + close) / 3}


def measured(work: str, command: list[str], environment: dict[str, str]) -> Run:
    """Run a command whose last line is its seconds, and watch its memory."""
    last, megabytes = watched(command, environment)
    return Run(work, float(last), megabytes)


def ours(source: str, last: int | None) -> None:
    """Compute all columns and print the seconds: the process that is measured."""
    from octopus.strategy.alpha158 import ALPHA158
    from octopus.strategy.expressions import compute_columns

    with np.load(source) as archive:
        bars = {name: archive[name] for name in ("open", "high", "low", "close", "volume", "vwap")}
    started = time.perf_counter()
    compute_columns(ALPHA158, bars, dtype=np.float32, last=last)
    print(time.perf_counter() - started)


def runs(folder: Path, kernels: int) -> Iterator[Run]:
    """Ours, whole and the last session alone, then Qlib where it is at hand."""
    source = folder / "bars.npz"
    days = np.datetime64("2010-01-04") + np.arange(SESSIONS)
    symbols = np.array([f"S{number:04d}" for number in range(SYMBOLS)])
    np.savez(source, sessions=days, symbols=symbols, **random_bars(SESSIONS, SYMBOLS))  # type: ignore[arg-type]
    us = [sys.executable, "-m", "benchmarks.features", "ours", str(source)]
    yield measured("ours, all sessions", us, {})
    yield measured("ours, the last session", [*us, "1"], {})
    path = qlib_path()
    if path is not None:
        peer = [sys.executable, str(ROOT / "benchmarks" / "qlib_peer.py"), str(source), "-", str(kernels), "stored"]
        yield measured(f"Qlib, {kernels} kernels", peer, {"PYTHONPATH": path} if path else {})


def qlib_path() -> str | None:
    """Folder of Qlib, empty if it is installed; None where there is none."""
    if os.environ.get("OCTOPUS_BENCH_QLIB"):
        return os.environ["OCTOPUS_BENCH_QLIB"]
    return "" if importlib.util.find_spec("qlib") else None


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["ours"]:
        ours(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
        return
    console = Console()
    console.print(f"{SYMBOLS} instruments × {SESSIONS} sessions × 158 columns, float32; {os.cpu_count()} cores")
    table = Table("work", "seconds", "peak, MB", "times ours")
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for run in runs(Path(folder), kernels=2):
            found.append(run)
            console.print(f"  {run.work}: {run.seconds:.2f} s")
            table.add_row(
                run.work, f"{run.seconds:.2f}", f"{run.megabytes:,.0f}", f"{run.seconds / found[0].seconds:.1f}"
            )
    console.print(table)
    if qlib_path() is None:
        console.print(f"Qlib is not here: {HOW}")


if __name__ == "__main__":
    main()
