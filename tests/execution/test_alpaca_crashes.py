"""Workers that end at any point with Alpaca's adapter, over a real socket and through alpaca-py (crash_proof.py)."""

from __future__ import annotations

import random
from pathlib import Path

from alpaca_venue import AlpacaVenue
from crash_proof import NAMES, Stand, noon, prove, set_up
from execution_support import CLOSE, SESSIONS, D
from served_venue import ENDS, auction_of

from resources.brokers.alpaca import AlpacaBroker
from resources.sources.http import Access
from resources.sources.patience import Patience

FAULTS = (
    "accept_504",
    "accept_504",
    "accept_drop",
    "accept_drop",
    "drop",
    "drop",
    "busy",
    "html",
    "refuse",
    "accept_slow",
)
CANCELS = ("ok", "ok", "part", "all", "wait", "drop", "accept_drop")
QUICK = Patience(attempts=2, base_s=0.0, total_s=0.05)


def alpaca_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    clock = noon()
    fates = {name: rng.choice(ENDS) for name in NAMES}
    venue = AlpacaVenue(
        cash=D(0), slow_s=0.6, repeat_fills=rng.random() < 0.3, reverse_fills=rng.random() < 0.3,
        auction=auction_of(fates, lambda: clock.now() >= CLOSE),
    ).__enter__()  # fmt: skip
    venue.book("CSD", net_amount="100000", date="2022-12-27")
    access = Access(base_url=venue.url, timeout_s=0.4, patience=QUICK)
    broker = AlpacaBroker("KEY", "SECRET", account, SESSIONS, access=access, now=clock.now)

    def at_venue() -> list[tuple[str, str]]:
        return [(name, order["symbol"]) for name, order in venue.orders.items()]

    def live() -> list[tuple[str, str]]:
        ended = ("filled", "canceled", "rejected", "expired")
        return [(name, order["symbol"]) for name, order in venue.orders.items() if order["status"] not in ended]

    venue.cancels = [rng.choice(CANCELS) for _ in range(8)]
    stand = set_up(url, account, anchor, rng, broker, clock, at_venue, live=live)
    stand.script, stand.faults = venue.script, FAULTS
    stand.line.happened = venue.faults
    stand.close = lambda: venue.__exit__()
    return stand


def test_no_order_is_lost_or_doubled_at_alpaca(database_url: str, tmp_path: Path) -> None:
    counts = prove(database_url, tmp_path / "anchor", alpaca_stand, "alpaca", range(10_000, 10_005))
    assert counts.events.total()
    assert counts.fills
