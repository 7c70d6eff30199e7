"""One side of a measurement times itself: ours in our interpreter, a peer's in its own.

Belongs here: reading what it is given, timing, keeping what it answers, one line of figures. Does not: what is timed,
memory (benchmarks/watch.py). Needs NumPy and nothing else.
"""

from __future__ import annotations

import importlib
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Given = Mapping[str, Any]
"""The arrays of a job, by name."""
Answer = Mapping[str, Any]
Job = tuple[Callable[[Given], Callable[[], Answer]], int]
"""From what is given to the work that is timed, and how many warm runs follow the first."""


def processor_seconds() -> float:
    """Of this process and of its children that ended, all threads, user and system."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def report(jobs: Mapping[str, Job], *libraries: str) -> None:
    """Do the job of the command line, ``JOB INPUT OUTPUT``: both are NumPy archives.

    Prints one line of JSON: seconds of importing ``libraries``, of the first run, the median of the warm ones (the
    first where there are none), and the processor's seconds of both.
    """
    name, source, target = sys.argv[-3:]
    started = time.perf_counter()
    for library in libraries:
        importlib.import_module(library)
    imported = time.perf_counter() - started
    with np.load(source) as archive:
        given = {key: archive[key] for key in archive.files}
    prepare, warm = jobs[name]
    work, walls, busy = prepare(given), [], []
    answer: Answer = {}
    for _ in range(warm + 1):
        started, worked = time.perf_counter(), processor_seconds()
        answer = work()
        walls.append(time.perf_counter() - started)
        busy.append(processor_seconds() - worked)
    np.savez(target, **answer)
    print(
        json.dumps(
            {
                "imported_s": imported, "first_s": walls[0], "warm_s": statistics.median(walls[1:] or walls),
                "first_cpu_s": busy[0], "warm_cpu_s": statistics.median(busy[1:] or busy),
            }
        )
    )  # fmt: skip
