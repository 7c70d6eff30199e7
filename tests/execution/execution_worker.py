"""The process that executes a batch until it is killed. Imported by the fork server, so it must stay light to start."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from execution_broker_server import RemoteBroker, venue_feed
from execution_support import SESSIONS, FileClock, approve_all

from resources.brokers.base import Guarantee
from resources.execution_engine import ExecutionEngine, no_failpoint
from resources.warehouse.audit_log import AuditLog
from resources.warehouse.order_store import OrderStore


def killer(name: str, occurrence: int) -> Callable[[str], None]:
    """A failpoint that ends the process as a power cut would, the ``occurrence``-th time it gets to ``name``."""
    left = [occurrence]

    def failpoint(reached: str) -> None:
        if reached == name:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return failpoint


def work(
    url: str,
    folder: Path,
    account: str,
    batch_id: str,
    guarantee: str,
    run_id: str,
    kill: tuple[str, int] | None = None,
) -> int:
    """Execute the batch; returns the number of breaks."""
    broker = RemoteBroker(folder / "socket", account, Guarantee(guarantee))
    with OrderStore.opened(url) as store:
        engine = ExecutionEngine(
            store,
            broker,
            FileClock(folder / f"{account}.clock"),
            approve_all,
            AuditLog(url, folder / "audit.anchor"),
            venue_feed(),
            SESSIONS,
            failpoint=no_failpoint if kill is None else killer(*kill),
        )
        return len(engine.execute_batch(batch_id, run_id).breaks)
