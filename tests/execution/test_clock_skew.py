"""Venues whose clock is minutes ahead of ours or behind it, through their own clients over real sockets.

Orders, fills and the windows of questions bear the venue's time there, and the window of a batch is ours: nothing may
be lost or doubled by that, and nothing left at a venue after its close.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alpaca_venue import AlpacaVenue
from coinbase_venue import KEY, CoinbaseVenue, secret
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    NAMES,
    OPEN,
    SESSIONS,
    D,
    Desk,
    ManualClock,
    auction_feed,
    opened,
    order_ids,
    paper,
    rows,
    store_plan,
)
from flex_venue import QUERY, TOKEN, FlexVenue
from ib_venue import IbVenue
from schwab_venue import ACCOUNT, SchwabVenue

from octopus.core.orders import OrderType, Side
from octopus.execution.reconcile import BreakKind
from octopus_pipelines.cli.adopt import adopt_holdings
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import Broker, NotToldYetError, OrderRequest
from resources.brokers.coinbase import CoinbaseBroker
from resources.brokers.flex import FlexReports
from resources.brokers.ib import IbBroker
from resources.brokers.schwab import SchwabBroker
from resources.execution_engine import EngineSettings
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.order_store import BatchRefusedError

ACCESS = Access(timeout_s=2.0, patience=Patience(attempts=1, total_s=0), sleep=lambda _s: None)
MINUTE = timedelta(minutes=1)
AHEAD, BEHIND, FAR_BEHIND = 7 * MINUTE, -7 * MINUTE, -20 * MINUTE
"""Of the venue; the last one is more than the 15 minutes for which orders are asked for after their auction."""
SETTINGS = EngineSettings(poll_interval=MINUTE, watch_interval=timedelta(hours=2))
TRADES = (("AAA", Side.BUY, D(10)), ("BBB", Side.BUY, D(3)), ("CCC", Side.BUY, D(7)))


class House(ABC):
    """A venue with a clock of its own, in which orders fill at its close, and our adapter for it."""

    begins = OPEN + timedelta(hours=1)

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
    @contextmanager
    def opened(self, url: str, folder: Path, account: str) -> Iterator[Broker]:
        with IbVenue(now=self.now, auction=self.trade) as self.venue, FlexVenue() as self.flex:
            self.flex.move("Deposits/Withdrawals", "100000")
            reports = FlexReports(
                TOKEN, QUERY, SESSIONS, self.flex.url, ACCESS, sleep=lambda _s: None, now=self.clock.now
            )
            yield IbBroker(
                account, port=self.venue.port, connect_s=2.0, answer_s=2.0, reports=reports, now=self.clock.now
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

    @contextmanager
    def opened(self, url: str, folder: Path, account: str) -> Iterator[Broker]:
        self.url, self.account = url, account
        yield paper(url, account, VenueTime(self), auction_feed())

    def entered(self) -> list[datetime]:
        return [at for (at,) in rows(self.url, "select accepted_at from paper.orders where state <> 'rejected'")]


HOUSES: dict[str, type[House]] = {
    "alpaca": AlpacaHouse, "coinbase": CoinbaseHouse, "schwab": SchwabHouse, "ib": IbHouse, "paper": PaperHouse,
}  # fmt: skip
APART = [
    *((venue, skew) for venue in ("alpaca", "schwab", "ib") for skew in (AHEAD, BEHIND, FAR_BEHIND)),
    ("coinbase", 1.5 * MINUTE), ("paper", -4 * MINUTE), ("paper", AHEAD),
]  # fmt: skip
"""Venues and how far their clock is ahead of ours."""


@contextmanager
def desk_at(url: str, folder: Path, venue: str, skew: timedelta, begins: datetime | None = None) -> Iterator[Any]:
    """A desk at a venue whose clock is ``skew`` ahead of ours, and the venue."""
    clock = ManualClock(begins or HOUSES[venue].begins)
    house = HOUSES[venue](clock, skew)
    with house.opened(url, folder, "acct") as broker:
        desk = Desk(url, "acct", clock, auction_feed(), broker, folder / "anchor", settings=SETTINGS)
        desk.open()
        yield desk, house


@pytest.mark.parametrize(("venue", "skew"), APART)
def test_no_order_or_fill_is_lost_or_doubled_between_two_clocks(
    database_url: str, tmp_path: Path, venue: str, skew: timedelta
) -> None:
    with desk_at(database_url, tmp_path, venue, skew) as (desk, house):
        batch = store_plan(database_url, "acct", TRADES)
        desk.execute(batch)
        # Where its close is later than we wait for it, the next run finds what became of the orders.
        desk.clock.wait_until(CLOSE + timedelta(minutes=30))
        done = desk.execute(batch, "again")
        assert (done.placement.sent, done.breaks) == ((), ())
        theirs = desk.broker.statement(None)
        assert sorted(fill.client_order_id for fill in theirs.fills) == sorted(order_ids(batch))
        assert len(house.entered()) == len(TRADES)
        assert set(desk.states(batch).values()) == {"filled"}
        with desk.engine() as engine:
            book = engine.bookkeeper.books.book("acct")
        assert (book.cash, dict(book.positions)) == (theirs.cash, dict(theirs.positions))
        assert set(book.fills) == set(theirs.fills)
        assert set(done.navs) <= {DECIDED, EXECUTED}


@pytest.mark.parametrize(
    ("venue", "skew"), [("alpaca", AHEAD), ("schwab", AHEAD), ("ib", AHEAD), ("coinbase", 1.5 * MINUTE)]
)
def test_nothing_comes_to_a_venue_after_its_close(
    database_url: str, tmp_path: Path, venue: str, skew: timedelta
) -> None:
    """The window is open by our clock, and the venue has closed: it would keep the orders for its next session."""
    with desk_at(database_url, tmp_path, venue, skew, CLOSE - 1.2 * MINUTE) as (desk, house):
        batch = store_plan(database_url, "acct", TRADES, order_type=OrderType.MARKET)
        desk.execute(batch)
        assert house.entered() == []
        assert set(desk.states(batch).values()) == {"rejected"}
        (reason, *_), *_ = rows(database_url, "select payload from audit.log where kind = 'order.rejected'")
        assert "this computer's clock is" in str(reason)


def test_an_account_as_the_paper_broker_had_it_too_long_ago_is_not_traded(database_url: str, tmp_path: Path) -> None:
    """Its snapshot bears its own time; one from after now is denied by the gates (tests/risk/test_risk_gate.py)."""
    with desk_at(database_url, tmp_path, "paper", BEHIND) as (desk, house):
        with pytest.raises(BatchRefusedError, match=r"is 0:07:00 old"):
            desk.execute(store_plan(database_url, "acct", TRADES))
        assert house.entered() == []


@pytest.mark.parametrize("venue", ["alpaca", "schwab", "ib"])
def test_what_fills_right_after_an_adoption_is_booked_though_the_venue_dates_it_before(
    database_url: str, tmp_path: Path, venue: str
) -> None:
    with desk_at(database_url, tmp_path, venue, BEHIND) as (desk, house):
        with desk.engine() as engine:
            assert adopt_holdings(engine, "acct", NAMES, {}, "ann: opened before", ask=False) == 1

        def at_once(served: Any) -> None:
            house.skew = house.begins + BEHIND - desk.clock.now()
            for name, *_ in served.waiting():
                served.fill(name)

        house.venue.auction = at_once
        batch = store_plan(database_url, "acct", TRADES)
        done = desk.execute(batch)
        assert set(desk.states(batch).values()) == {"filled"}
        # Cash as of IB's report, which is of yesterday, is worked out from the fills after the adoption alone.
        assert done.breaks == () or (venue, [item.kind for item in done.breaks]) == ("ib", [BreakKind.CASH])


def test_an_order_of_a_day_that_tws_has_ended_is_awaited_and_not_called_absent(tmp_path: Path) -> None:
    """TWS tells the orders of its day alone, and by our clock that day still is."""
    clock = ManualClock(datetime(2022, 12, 29, 4, 55, tzinfo=UTC))
    sent = OrderRequest("oct-1", "AAA", Side.BUY, D(1), OrderType.MARKET_ON_CLOSE, CLOSE)
    with IbHouse(clock, BEHIND).opened("", tmp_path, "acct") as broker:
        assert broker.order("oct-1") is None
        assert broker.past_order(sent, None) is None
    with IbHouse(clock, AHEAD).opened("", tmp_path, "acct") as broker, pytest.raises(NotToldYetError):
        broker.past_order(sent, None)
