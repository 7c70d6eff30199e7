"""The process that executes a batch until it is killed. Imported by the fork server, so it must stay light to start."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from coinbase_venue import KEY as COINBASE_KEY
from execution_broker_server import RemoteBroker
from execution_support import SESSIONS, FileClock, approve_all, auction_feed
from flex_venue import QUERY, TOKEN
from power import Power, powered
from schwab_venue import ACCOUNT as SCHWAB_ACCOUNT

from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import Broker, Guarantee
from resources.brokers.coinbase import CoinbaseBroker
from resources.brokers.flex import FlexReports
from resources.brokers.ib import IbBroker
from resources.brokers.schwab import SchwabBroker
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


@dataclass(frozen=True)
class Place:
    """Where a worker finds its venue.

    Attributes:
        address: a URL, or for the paper broker's process the guarantee that it gives.
        secret: Coinbase's private key, the file with Schwab's token, or TWS's port beside the address of the reports.
    """

    adapter: str
    address: str
    secret: str = ""


def broker_of(store: OrderStore, folder: Path, account: str, place: Place, clock: FileClock) -> Broker:
    """The adapter for the venue at ``place``."""
    access = Access(base_url=place.address, timeout_s=2.0, patience=Patience(attempts=2, base_s=0.0, total_s=0.05))
    match place.adapter:
        case "alpaca":
            return AlpacaBroker("KEY", "SECRET", account, SESSIONS, access=access, now=clock.now)
        case "coinbase":
            return CoinbaseBroker(COINBASE_KEY, place.secret, account, access=access, now=clock.now)
        case "schwab":
            return SchwabBroker(
                "KEY", "SECRET", Path(place.secret), SCHWAB_ACCOUNT, account, SESSIONS,
                lambda: store.client_ids(account), access=access, now=clock.now,
            )  # fmt: skip
        case "ib":
            reports = FlexReports(TOKEN, QUERY, SESSIONS, place.address, access, sleep=lambda _s: None, now=clock.now)
            return IbBroker(
                account, port=int(place.secret), connect_s=2.0, answer_s=0.5, reports=reports, now=clock.now
            )  # fmt: skip
    return RemoteBroker(folder / "socket", account, Guarantee(place.address))


def work(
    url: str, folder: Path, account: str, batch_id: str, place: Place, run_id: str, kill: tuple[str, int] | None = None
) -> int:
    """Execute the batch; returns the number of breaks."""
    clock = FileClock(folder / f"{account}.clock")
    with OrderStore.opened(url) as store:
        broker, log = broker_of(store, folder, account, place, clock), AuditLog(url, folder / "audit.anchor")
        engine = ExecutionEngine(store, broker, clock, approve_all, log, auction_feed(), SESSIONS)
        engine = powered(engine, Power() if kill is None else killed_at(*kill))
        return len(engine.execute_batch(batch_id, run_id).breaks)
