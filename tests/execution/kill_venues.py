"""Venues that outlive the workers which are killed: how each is set up, where a worker finds it, and what it holds.

Belongs here: one class for each adapter. Does not: whom a test kills, and when (test_execution_kills.py).
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from alpaca_venue import AlpacaVenue
from coinbase_venue import CoinbaseVenue, secret
from execution_broker_server import RemoteBroker
from execution_support import CLOSE, NAMES, OPEN, D, FileClock, rows
from execution_worker import Place
from flex_venue import FlexVenue
from ib_venue import IbVenue
from schwab_venue import SchwabVenue
from served_venue import ENDS, auction_of

from resources.brokers.base import Guarantee


class Standing(NamedTuple):
    """An order as the venue has it; ``client_order_id`` and ``state`` are None where nothing says which is ours."""

    client_order_id: str | None
    instrument: str
    side: str
    quantity: Decimal
    filled: Decimal
    state: str | None


class Executed(NamedTuple):
    """A fill as the venue has it; ``fill_id`` is None where the adapter makes one."""

    fill_id: str | None
    instrument: str
    side: str
    quantity: Decimal
    price: Decimal


class House(ABC):
    """One account's venue, its books open to the test.

    Attributes:
        place: what a worker is told.
        venue: the served one, if it is.
        resendable: whether an order that may not have arrived is sent again.
        keeps_ids: whether it can be asked for an order whose send had no answer; else that one is unknown until a
            person settles it, and its fills are nobody's.
        begins: when its batch may be sent.
    """

    place: Place
    venue: Any = None
    resendable: bool = True
    keeps_ids: bool = True
    begins: datetime = OPEN

    @abstractmethod
    def __init__(self, url: str, folder: Path, account: str, clock: FileClock, rng: random.Random) -> None: ...

    @abstractmethod
    def orders(self) -> list[Standing]: ...

    @abstractmethod
    def fills(self) -> list[Executed]: ...

    def close(self) -> None:
        """End what is served."""
        if self.venue is not None:
            self.venue.__exit__()


def drawn_fates(rng: random.Random) -> dict[str, str]:
    """What the auction does to each order; the first fills, so that every effect of booking a fill happens."""
    return {name: rng.choice(ENDS) for name in NAMES} | {NAMES[0]: "fill in two"}


def drawn_script(rng: random.Random) -> list[str]:
    """What becomes of the first sends."""
    return [rng.choice(("ok", "ok", "accept_504", "accept_drop", "drop")) for _ in range(6)]


class PaperHouse(House):
    """The paper broker in a process of its own, sometimes as a venue that keeps a tag and no key."""

    def __init__(self, url: str, folder: Path, account: str, _clock: FileClock, rng: random.Random) -> None:
        self.url, self.account = url, account
        guarantee = rng.choice([Guarantee.IDEMPOTENT_KEY, Guarantee.SEARCHABLE_TAG])
        self.place = Place("paper", guarantee.value)
        self.resendable = guarantee is Guarantee.IDEMPOTENT_KEY
        self.broker = RemoteBroker(folder / "socket", account, guarantee)

    def orders(self) -> list[Standing]:
        if not self.resendable:
            assert max(self.broker.arrived().values(), default=0) <= 1, "sent twice to a venue that books it twice"
        asked = "select client_order_id, instrument, side, quantity, filled_quantity, state from paper.orders"
        return [Standing(*row) for row in rows(self.url, f"{asked} where account = %s", self.account)]

    def fills(self) -> list[Executed]:
        asked = "select fill_id, instrument, side, quantity, price from paper.fills where account = %s"
        return [Executed(*row) for row in rows(self.url, asked, self.account)]


def _ours(status: str) -> str:
    return "cancelled" if status == "canceled" else status


class AlpacaHouse(House):
    """Alpaca's API."""

    def __init__(self, _url: str, _folder: Path, _account: str, clock: FileClock, rng: random.Random) -> None:
        self.venue = AlpacaVenue(
            cash=D(0), auction=auction_of(drawn_fates(rng), lambda: clock.now() >= CLOSE)
        ).__enter__()
        self.venue.script = drawn_script(rng)
        self.venue.book("CSD", net_amount="100000", date="2022-12-27")
        self.place = Place("alpaca", self.venue.url)

    def orders(self) -> list[Standing]:
        return [
            Standing(name, one["symbol"], one["side"], D(one["qty"]), D(one["filled_qty"]), _ours(one["status"]))
            for name, one in self.venue.orders.items()
        ]

    def fills(self) -> list[Executed]:
        return [
            Executed(one["id"], one["symbol"], one["side"], D(one["qty"]), D(one["price"]))
            for one in self.venue.activities if one["activity_type"] == "FILL"
        ]  # fmt: skip


class CoinbaseHouse(House):
    """Coinbase's API: orders for the close are market orders of the last hour; here they execute at its end."""

    begins = CLOSE - timedelta(minutes=40)

    def __init__(self, _url: str, _folder: Path, _account: str, clock: FileClock, rng: random.Random) -> None:
        auction: Callable[[Any], None] = auction_of(drawn_fates(rng), lambda: clock.now() >= CLOSE)
        self.venue = CoinbaseVenue(amounts={}, fee=D("0.006"), auction=auction).__enter__()
        self.venue.script = drawn_script(rng)
        self.venue.book("USD", "fiat_deposit", D(100_000), created_at="2022-12-27T12:00:00Z")
        self.place = Place("coinbase", self.venue.url, secret())

    def orders(self) -> list[Standing]:
        found = []
        for name, one in self.venue.orders.items():
            coin, (size,) = one["product_id"].removesuffix("-USD"), one["order_configuration"].values()
            quantity, filled = D(size["base_size"]), D(one["filled_size"])
            found.append(Standing(name, coin, one["side"].lower(), quantity, filled, None))
        return found

    def fills(self) -> list[Executed]:
        return [
            Executed(None, one["product_id"].removesuffix("-USD"), one["side"].lower(), D(one["size"]), D(one["price"]))
            for one in self.venue.executions
        ]


class SchwabHouse(House):
    """Schwab's API, which keeps no id of ours: an order that may stand is never sent again."""

    resendable = keeps_ids = False

    def __init__(self, url: str, folder: Path, account: str, clock: FileClock, rng: random.Random) -> None:
        self.url, self.account = url, account
        auction: Callable[[Any], None] = auction_of(drawn_fates(rng), lambda: clock.now() >= CLOSE)
        self.venue = SchwabVenue(now=clock.now, cash=D(0), auction=auction).__enter__()
        self.venue.script = drawn_script(rng)
        self.venue.book("ACH_RECEIPT", D(100_000), time="2022-12-27T12:00:00+0000")
        token = self.venue.write_token(folder / f"{account}.token.json")
        self.place = Place("schwab", self.venue.url, str(token))

    def orders(self) -> list[Standing]:
        assert len(self.venue.orders) <= len(self.venue.posts)
        asked = "select broker_order_id, client_order_id from execution.orders where account = %s"
        ours = dict(rows(self.url, asked, self.account))
        return [
            Standing(ours.get(name), symbol, side, D(str(one["quantity"])), D(str(one["filledQuantity"])), None)
            for name, one in self.venue.orders.items()
            for symbol, side in [self._leg(one)]
        ]

    def fills(self) -> list[Executed]:
        return [
            Executed(None, *self._leg(one), D(str(leg["quantity"])), D(str(leg["price"])))
            for one in self.venue.orders.values()
            for activity in one["orderActivityCollection"]
            for leg in activity["executionLegs"]
        ]

    def _leg(self, order: dict[str, Any]) -> tuple[str, str]:
        (leg,) = order["orderLegCollection"]
        return leg["instrument"]["symbol"], "buy" if leg["instruction"].startswith("BUY") else "sell"


class IbHouse(House):
    """TWS, and the Flex Web Service with yesterday's deposit: an order is looked up by its tag, never resent."""

    resendable = False

    def __init__(self, _url: str, _folder: Path, _account: str, clock: FileClock, rng: random.Random) -> None:
        auction: Callable[[Any], None] = auction_of(drawn_fates(rng), lambda: clock.now() >= CLOSE)
        self.venue = IbVenue(auction=auction).__enter__()
        self.venue.script = [rng.choice(("ok", "ok", "accept_drop", "drop")) for _ in range(6)]
        self.flex = FlexVenue().__enter__()
        self.flex.move("Deposits/Withdrawals", "100000")
        self.place = Place("ib", self.flex.url, str(self.venue.port))

    def orders(self) -> list[Standing]:
        return [
            Standing(one.ref, one.symbol, one.action.lower(), one.quantity, one.filled, None)
            for one in self.venue.orders
        ]

    def fills(self) -> list[Executed]:
        return [
            Executed(None, one["order"].symbol, one["order"].action.lower(), one["shares"], one["price"])
            for one in self.venue.executions
        ]

    def close(self) -> None:
        super().close()
        self.flex.__exit__()


HOUSES: dict[str, type[House]] = {
    "paper": PaperHouse,
    "alpaca": AlpacaHouse,
    "coinbase": CoinbaseHouse,
    "schwab": SchwabHouse,
    "ib": IbHouse,
}
