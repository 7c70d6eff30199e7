"""`python -m benchmarks.features`: Alpha158 on 1000 instruments and 2520 sessions, ours and Qlib's.

Belongs here: making the bars, timing both sides on them, each in a process of its own, and printing. Does not:
comparing their values (tests/strategy/test_alpha158.py), asserting.

Seconds are those of computing, without starting, without making the bars, and without Qlib's writing of its store.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.peers.environments import absent, interpreter, run
from benchmarks.peers.timing import Answer, Given, report
from benchmarks.watch import ROOT, Side, load, side
from octopus.core.types import FloatArray

SYMBOLS, SESSIONS, KERNELS = 1000, 2520, 2


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


def alpha158(given: Given, last: int | None) -> Callable[[], Answer]:
    """All columns, of every session or of the last ones."""
    from octopus.strategy.alpha158 import ALPHA158
    from octopus.strategy.expressions import compute_columns

    bars = {name: given[name] for name in ("open", "high", "low", "close", "volume", "vwap")}

    def work() -> Answer:
        compute_columns(ALPHA158, bars, dtype=np.float32, last=last)
        return {}

    return work


def sides(folder: Path, instruments: int) -> Iterator[tuple[str, Side]]:
    """Ours, whole and the last session alone, then Qlib where it is at hand."""
    source, target = folder / "bars.npz", folder / "answer.npz"
    days = np.datetime64("2010-01-04") + np.arange(SESSIONS)
    symbols = np.array([f"S{number:04d}" for number in range(instruments)])
    bars = random_bars(SESSIONS, instruments)
    np.savez(source, sessions=days, symbols=symbols, kernels=np.array(KERNELS), **bars)  # type: ignore[arg-type]
    for job, who in (("all", "ours, all sessions"), ("last", "ours, the last session")):
        yield who, side([sys.executable, "-m", "benchmarks.features", job, str(source), str(target)])
    if interpreter("qlib"):
        yield f"Qlib, {KERNELS} kernels", run("qlib", "by_qlib", "timed", source, target)


def main() -> None:
    """Measure and print; a number on the command line is of instruments."""
    if len(sys.argv) == 4:
        report({"all": (partial(alpha158, last=None), 0), "last": (partial(alpha158, last=1), 0)})
        return
    console, instruments = Console(width=160), int(sys.argv[1]) if len(sys.argv) > 1 else SYMBOLS
    console.print(f"{instruments} instruments × {SESSIONS} sessions × 158 columns, float32; {os.cpu_count()} cores")
    mine: Side | None = None
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for who, took in sides(Path(folder), instruments):
            mine = mine or took
            found.append({"instruments": instruments, "side": who, "load": load(), **asdict(took)})
            console.print(
                f"  {who}: {took.first_s:.2f} s ({took.first_s / mine.first_s:.1f} times ours), "
                f"of the processor {took.first_cpu_s:.2f} s ({took.first_cpu_s / mine.first_cpu_s:.1f} times), "
                f"{took.megabytes:,.0f} MB; {load()}"
            )
    out = ROOT / "benchmarks" / "out"
    out.mkdir(exist_ok=True)
    (out / "features.json").write_text(json.dumps(found, indent=2))
    console.print(absent(["qlib"]))


if __name__ == "__main__":
    main()
