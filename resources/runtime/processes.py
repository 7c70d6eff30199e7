"""Which process a run is in, and whether that process is alive.

Belongs here: telling a process from another that was given its number. Does not: starting and stopping processes
(services.py), what becomes of a run whose process is gone (octopus_pipelines/launch.py).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from dagster import DagsterInstance

PROCESS_TAG = "octopus/process"
"""Tag of a run: host, number and start of the process that it is in."""


def this_process() -> str:
    """This process, in the form of `PROCESS_TAG`."""
    return _named(os.getpid())


def note(instance: DagsterInstance, run_id: str) -> None:
    """Tag a run that is under way in this process with it: all steps of a run are in one process here."""
    instance.add_run_tags(run_id, {PROCESS_TAG: this_process()})


def is_gone(process: str) -> bool:
    """Whether ``process`` (`PROCESS_TAG`) was one of this machine and has ended; of another's nothing is known."""
    host, _, number = process.partition("/")
    if host != socket.gethostname():
        return False
    try:
        return process != _named(int(number.partition(".")[0]))
    except (psutil.NoSuchProcess, ValueError):
        return True


def _named(pid: int) -> str:
    # A number is given again, its start is not.
    return f"{socket.gethostname()}/{pid}.{psutil.Process(pid).create_time():.2f}"
