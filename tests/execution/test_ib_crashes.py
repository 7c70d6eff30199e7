"""Workers that end at any point with IB's adapter, over a real socket through ib_async (crash_proof.py)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crash_proof import NAMES, Stand, noon, prove, set_up
from execution_support import CLOSE, SESSIONS, ManualClock
from flex_venue import QUERY, TOKEN, FlexVenue
from ib_venue import IbVenue
from served_venue import ENDS, Answer, Request, auction_of

from resources.brokers.flex import FlexReports
from resources.brokers.ib import IbBroker
from resources.sources.http import Access
from resources.sources.patience import Patience

FAULTS = ("accept_drop", "accept_drop", "drop", "drop", "silent", "refuse", "fill_drop", "late_reject")
FLEX_FAULTS = ("1019", "1018", "1001", "html", "cut", "drop")


@dataclass
class Strained(FlexVenue):
    """Flex reports with the faults that ``troubled`` names, one of them for each request."""

    troubled: Callable[[], tuple[str, ...]] = tuple

    def answer(self, request: Request) -> Answer:
        faults = self.troubled()
        self.script = [faults[self.asked.total() % len(faults)]] if faults else []
        return super().answer(request)


def ib_house(
    account: str, clock: ManualClock, rng: random.Random, auction: Callable[[IbVenue], None]
) -> tuple[IbVenue, FlexVenue, IbBroker]:
    """TWS and the reports, both served, and the adapter that asks them."""
    venue = IbVenue(repeat=rng.random() < 0.3, reverse=rng.random() < 0.3, auction=auction).__enter__()
    # The deposit was yesterday: TWS does not tell it, and the report does.
    flex = Strained(troubled=lambda: FLEX_FAULTS if venue.script and rng.random() < 0.3 else ())
    flex.move("Deposits/Withdrawals", "100000")
    flex.__enter__()
    access = Access(timeout_s=1.0, patience=Patience(attempts=1, total_s=0))
    reports = FlexReports(
        TOKEN, QUERY, SESSIONS, flex.url, access, patience_s=rng.choice((8, 600)), sleep=lambda _s: None, now=clock.now
    )
    broker = IbBroker(account, port=venue.port, connect_s=1.0, answer_s=0.3, reports=reports, now=clock.now)
    flex.happened = venue.faults
    return venue, flex, broker


def ib_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    clock = noon()
    fates = {name: rng.choice(ENDS) for name in NAMES}
    venue, flex, broker = ib_house(account, clock, rng, auction_of(fates, lambda: clock.now() >= CLOSE))

    def at_venue() -> list[tuple[str, str]]:
        return [(order.ref, order.symbol) for order in venue.orders]

    stand = set_up(url, account, anchor, rng, broker, clock, at_venue)
    stand.script, stand.faults = venue.script, FAULTS
    stand.line.happened = venue.faults
    stand.close = lambda: (venue.__exit__(), flex.__exit__())
    return stand


def test_no_order_is_lost_or_doubled_at_ib(database_url: str, tmp_path: Path) -> None:
    counts = prove(database_url, tmp_path / "anchor", ib_stand, "ib", range(20_000, 20_002))
    assert counts.events.total()
