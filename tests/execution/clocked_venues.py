"""Every venue with a clock of its own, in which orders fill at its close, our adapter for it and a desk.

What the tests of clocks and of faults share; the venues themselves are each in a module of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alpaca_venue import AlpacaVenue
from coinbase_venue import KEY, CoinbaseVenue, secret
from execution_support import (
    CLOSE,
    OPEN,
    SESSIONS,
    D,
    Desk,
    ManualClock,
    auction_feed,
    opened,
    paper,
    rows,
)
from flex_venue import QUERY, TOKEN, FlexVenue
from ib_venue import IbVenue
from schwab_venue import ACCOUNT, SchwabVenue

from octopus.core.orders import Side
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import Broker
from resources.brokers.coinbase import CoinbaseBroker
from resources.brokers.flex import FlexReports
from resources.brokers.ib import IbBroker
from resources.brokers.schwab import SchwabBroker
from resources.execution_engine import EngineSettings
from resources.sources.http import Access
from resources.sources.patience import Patience

ACCESS = Access(timeout_s=0.8, patience=Patience(attempts=2, base_s=0.0, total_s=0.05), sleep=lambda _s: None)
MINUTE = timedelta(minutes=1)
SETTINGS = EngineSettings(poll_interval=MINUTE, watch_interval=timedelta(hours=2))
TRADES = (("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(3)), ("CCC", Side.BUY, D(7)))


class House(ABC):
    """A venue with a clock of its own, in which orders fill at its close, and our adapter for it."""

    begins = OPEN + timedelta(hours=1)
    name: str
    venue: Any

    def __init__(self, clock: ManualClock, skew: timedelta) -> None:
        self.clock, self.skew = clock, skew

    def now(self) -> datetime:
        """The venue's time."""
        return self.clock.now() + self.skew

    def trade(self, venue: Any) -> None:
        """What stands at the venue fills at its close."""
        if self.now() >= CLOSE:
            for name, *_ in venue.waiting():
                venue.fill(name)

    @abstractmethod
    def opened(self, url: str, folder: Path, account: str) -> Any:
        """A context in which the venue is served; gives the adapter."""

    @abstractmethod
    def entered(self) -> list[datetime]:
        """When each order came to the venue, by its clock."""


class AlpacaHouse(House):
    name = "alpaca"

    @contextmanager
    def opened(self, url: str, folder: Path, account: str) -> Iterator[Broker]:
        with AlpacaVenue(now=self.now, cash=D(0), auction=self.trade) as self.venue:
            self.venue.book("CSD", net_amount="100000", date="2022-12-27")
            access = replace(ACCESS, base_url=self.venue.url)
            yield AlpacaBroker("KEY", "SECRET", account, SESSIONS, access=access, now=self.clock.now)

    def entered(self) -> list[datetime]:
        return [datetime.fromisoformat(order["submitted_at"]) for order in self.venue.orders.values()]


class CoinbaseHouse(House):
    """Its clock is this computer's, too, for the signatures: no request is answered that is two minutes old."""

    name = "coinbase"
    begins = CLOSE - timedelta(minutes=40)

    @contextmanager
    def opened(self, url: str, folder: Path, account: str) -> Iterator[Broker]:
        with CoinbaseVenue(now=self.now, amounts={}, ahead=self.skew, auction=self.trade) as self.venue:
            self.venue.book("USD", "fiat_deposit", D(100_000), created_at="2022-12-27T12:00:00Z")
            access = replace(ACCESS, base_url=self.venue.url)
            yield CoinbaseBroker(KEY, secret(), account, access=access, now=self.clock.now)

    def entered(self) -> list[datetime]:
        return [datetime.fromisoformat(order["created_time"]) for order in self.venue.orders.values()]


class SchwabHouse(House):
    name = "schwab"

    @contextmanager
    def opened(self, url: str, folder: Path, account: str) -> Iterator[Broker]:
        def known() -> dict[str, str]:
            with opened(url) as store:
                return store.client_ids(account)

        with SchwabVenue(now=self.now, cash=D(0), auction=self.trade) as self.venue:
            self.venue.book("ACH_RECEIPT", D(100_000), time="2022-12-27T12:00:00+0000")
            token = self.venue.write_token(folder / "token.json")
            access = replace(ACCESS, base_url=self.venue.url)
            yield SchwabBroker(
                "KEY", "SECRET", token, ACCOUNT, account, SESSIONS, known, access=access, now=self.clock.now
            )

    def entered(self) -> list[datetime]:
        return [datetime.fromisoformat(order["enteredTime"]) for order in self.venue.orders.values()]


class IbHouse(House):
    name = "ib"

    @contextmanager
    def opened(self, url: str, folder: Path, account: str) -> Iterator[Broker]:
        with IbVenue(now=self.now, auction=self.trade) as self.venue, FlexVenue() as self.flex:
            self.flex.move("Deposits/Withdrawals", "100000")
            reports = FlexReports(
                TOKEN, QUERY, SESSIONS, self.flex.url, ACCESS, sleep=lambda _s: None, now=self.clock.now
            )
            yield IbBroker(
                account, port=self.venue.port, connect_s=0.6, answer_s=2.0, reports=reports, now=self.clock.now
            )

    def entered(self) -> list[datetime]:
        return [datetime.fromtimestamp(order.entered, UTC) for order in self.venue.orders]


class VenueTime:
    """A house's clock as a clock."""

    def __init__(self, house: House) -> None:
        self.house = house

    def now(self) -> datetime:
        return self.house.now()


class PaperHouse(House):
    """As a process of its own on another computer would be."""

    name = "paper"

    @contextmanager
    def opened(self, url: str, folder: Path, account: str) -> Iterator[Broker]:
        self.url, self.account = url, account
        yield paper(url, account, VenueTime(self), auction_feed())

    def entered(self) -> list[datetime]:
        return [at for (at,) in rows(self.url, "select accepted_at from paper.orders where state <> 'rejected'")]


HOUSES: dict[str, type[House]] = {
    "alpaca": AlpacaHouse, "coinbase": CoinbaseHouse, "schwab": SchwabHouse, "ib": IbHouse, "paper": PaperHouse,
}  # fmt: skip


@contextmanager
def desk_at(url: str, folder: Path, venue: str, skew: timedelta, begins: datetime | None = None) -> Iterator[Any]:
    """A desk at a venue whose clock is ``skew`` ahead of ours, and the venue."""
    clock = ManualClock(begins or HOUSES[venue].begins)
    house = HOUSES[venue](clock, skew)
    with house.opened(url, folder, "acct") as broker:
        desk = Desk(url, "acct", clock, auction_feed(), broker, folder / "anchor", settings=SETTINGS)
        desk.open()
        yield desk, house


def require_equal_books(desk: Desk) -> None:
    """Cash, positions and fills are the venue's."""
    theirs = desk.broker.statement(None)
    with desk.engine() as engine:
        book = engine.bookkeeper.books.book("acct")
    assert set(book.fills) == set(theirs.fills)
    assert (book.cash, dict(book.positions)) == (theirs.cash, dict(theirs.positions))
