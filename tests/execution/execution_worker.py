"""The process that executes a batch until it is killed. Imported by the fork server, so it must stay light to start."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from execution_broker_server import RemoteBroker
from execution_support import SESSIONS, FileClock, approve_all, auction_feed
from power import Power, powered

from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import Broker, Guarantee
from resources.execution_engine import ExecutionEngine
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.audit_log import AuditLog
from resources.warehouse.order_store import OrderStore


def killed_at(name: str, occurrence: int) -> Power:
    """Power that ends the process as a power cut would, the ``occurrence``-th time it gets to the point ``name``."""
    left = [occurrence]

    def at(_number: int, reached: str) -> None:
        if reached == name:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return Power(at)


def broker_of(folder: Path, account: str, venue: str, clock: FileClock) -> Broker:
    """The broker named: Alpaca at an address, or the paper broker's process with a guarantee."""
    if venue.startswith("http"):
        access = Access(base_url=venue, timeout_s=2.0, patience=Patience(attempts=2, base_s=0.0, total_s=0.05))
        return AlpacaBroker("KEY", "SECRET", account, SESSIONS, access=access, now=clock.now)
    return RemoteBroker(folder / "socket", account, Guarantee(venue))


def work(
    url: str, folder: Path, account: str, batch_id: str, venue: str, run_id: str, kill: tuple[str, int] | None = None
) -> int:
    """Execute the batch; returns the number of breaks."""
    clock = FileClock(folder / f"{account}.clock")
    with OrderStore.opened(url) as store:
        engine = ExecutionEngine(
            store, broker_of(folder, account, venue, clock), clock, approve_all, AuditLog(url, folder / "audit.anchor"),
            auction_feed(), SESSIONS,
        )  # fmt: skip
        engine = powered(engine, Power() if kill is None else killed_at(*kill))
        return len(engine.execute_batch(batch_id, run_id).breaks)
