"""Workers that end at any point with Coinbase's adapter, over a real socket and through its own client."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

from coinbase_venue import KEY, CoinbaseVenue, secret
from crash_proof import NAMES, Stand, prove, set_up
from execution_support import CLOSE, D, ManualClock
from served_venue import ENDS, auction_of

from resources.brokers.coinbase import CoinbaseBroker
from resources.sources.http import Access
from resources.sources.patience import Patience

FAULTS = (
    "accept_504", "accept_504", "accept_drop", "accept_drop", "drop", "drop", "busy", "html", "refuse", "accept_slow",
    "unclear", "denied",
)  # fmt: skip
QUICK = Patience(attempts=2, base_s=0.0, total_s=0.05)


def coinbase_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    clock = ManualClock(CLOSE - timedelta(minutes=40))
    fates = {name: rng.choice(ENDS) for name in NAMES}
    # A market order is executed at once, or at the latest in the next moment; here also as late as a worker may see it.
    late = rng.random() < 0.5
    venue = CoinbaseVenue(
        amounts={}, slow_s=0.6, repeat_fills=rng.random() < 0.3, reverse_fills=rng.random() < 0.3, fee=D("0.006"),
        page=rng.choice((1, 2, 100)), auction=auction_of(fates, lambda: not late or clock.now() >= CLOSE),
    ).__enter__()  # fmt: skip
    venue.book("USD", "fiat_deposit", D(100_000), created_at="2022-12-27T12:00:00Z")
    access = Access(base_url=venue.url, timeout_s=0.4, patience=QUICK)
    broker = CoinbaseBroker(KEY, secret(), account, access=access, now=clock.now)

    def at_venue() -> list[tuple[str, str]]:
        return [(name, order["product_id"]) for name, order in venue.orders.items()]

    stand = set_up(url, account, anchor, rng, broker, clock, at_venue)
    stand.script, stand.faults = venue.script, FAULTS
    stand.line.happened = venue.faults
    stand.close = lambda: venue.__exit__()
    return stand


def test_no_order_is_lost_or_doubled_at_coinbase(database_url: str, tmp_path: Path) -> None:
    counts = prove(database_url, tmp_path / "anchor", coinbase_stand, "coinbase", range(10_000, 10_004))
    assert counts.events.total()
    assert counts.fills
