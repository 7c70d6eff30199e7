"""Workers that end at any point with Schwab's adapter, over a real socket and through its own client."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from crash_proof import NAMES, Stand, noon, prove, set_up
from execution_support import CLOSE, SESSIONS, D, opened, order_ids, rows
from schwab_venue import ACCOUNT, SchwabVenue
from served_venue import ENDS, auction_of

from resources.brokers.schwab import SchwabBroker
from resources.sources.http import Access
from resources.sources.patience import Patience

FAULTS = (
    "accept_504", "accept_504", "accept_drop", "accept_drop", "drop", "drop", "busy", "html", "refuse", "accept_slow",
    "denied", "no_location", "accept_late", "twin",
)  # fmt: skip
QUICK = Patience(attempts=2, base_s=0.0, total_s=0.05)


def schwab_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    clock = noon()
    fates = {name: rng.choice(ENDS) for name in NAMES}
    over = auction_of(fates, lambda: clock.now() >= CLOSE)

    def auction(venue: SchwabVenue) -> None:
        if clock.now() >= CLOSE:
            venue.hidden.clear()
        over(venue)

    venue = SchwabVenue(
        now=clock.now, cash=D(0), slow_s=0.6, repeat_fills=rng.random() < 0.3, reverse_fills=rng.random() < 0.3,
        trade_fees=rng.choice((D(0), D("0.02"))), auction=auction,
    ).__enter__()  # fmt: skip
    venue.book("ACH_RECEIPT", D(100_000), time="2022-12-27T12:00:00+0000")
    folder = tempfile.TemporaryDirectory()
    token = venue.write_token(Path(folder.name) / "token.json", expired=rng.random() < 0.2)

    def known() -> dict[str, str]:
        with opened(url) as store:
            return store.client_ids(account)

    access = Access(base_url=venue.url, timeout_s=0.4, patience=QUICK, sleep=lambda _s: None)
    broker = SchwabBroker("KEY", "SECRET", token, ACCOUNT, account, SESSIONS, known, access=access, now=clock.now)

    def at_venue() -> list[tuple[str, str]]:
        mine = dict(zip((order.instrument for order in stand.batch.orders), order_ids(stand.batch), strict=True))
        twins = venue.faults["twin"]
        symbols = [order["orderLegCollection"][0]["instrument"]["symbol"] for order in venue.orders.values()]
        assert len(symbols) <= len(venue.posts) + twins
        if twins:
            # Somebody else's order is like ours, and stands once more than ours does.
            return [(mine[symbol], symbol) for symbol in dict.fromkeys(symbols)]
        ours, nameless = known(), sent_without_a_name(url, account)
        return [
            (ours.get(theirs) or nameless.get(symbol, mine[symbol]), symbol)
            for theirs, symbol in zip(venue.orders, symbols, strict=True)
        ]

    stand = set_up(url, account, anchor, rng, broker, clock, at_venue)
    stand.script, stand.faults = venue.script, FAULTS
    stand.line.happened = venue.faults

    def close() -> None:
        venue.__exit__()
        folder.cleanup()

    stand.close = close
    return stand


def sent_without_a_name(url: str, account: str) -> dict[str, str]:
    """By instrument: the order of ours that may stand under an id that Schwab did not tell; one at a time is sent."""
    asked = (
        "select i.instrument, o.client_order_id from execution.orders o join execution.order_intents i "
        "using (intent_id) where o.account = %s and o.broker_order_id is null and o.state in ('submitting', 'unknown')"
    )
    return dict(rows(url, asked, account))


def test_no_order_is_lost_or_doubled_at_schwab(database_url: str, tmp_path: Path) -> None:
    counts = prove(database_url, tmp_path / "anchor", schwab_stand, "schwab", range(10_000, 10_003))
    assert counts.events.total()
    assert counts.fills
