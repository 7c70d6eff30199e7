"""What the order path asks of a broker, and what a broker must admit to.

Belongs here: the protocol, its value types and its errors. Does not: any one broker.

An adapter never retries a request that trades. It turns whatever happened to a send into exactly one of four outcomes:
the broker's order, `OrderRejectedError` (definitely refused), `BrokerUnavailableError` (definitely not sent) or
`UncertainOutcomeError` (everything else: a time-out, a dropped connection, a gateway's error page).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from octopus.core.errors import OctopusError
from octopus.core.orders import AccountSnapshot, Bracket, Fill, FillRevision, OrderType, Side
from octopus.execution.book import Book
from octopus.execution.states import OrderState


class Guarantee(StrEnum):
    """What the venue gives to find out whether a send arrived."""

    IDEMPOTENT_KEY = "idempotent_key"
    """A second order under the same client order id is the first one: sending again is safe."""
    SEARCHABLE_TAG = "searchable_tag"
    """Orders can be looked up by our id, yet a second send would be a second order."""
    NOTHING = "nothing"
    """Our id is not kept: an uncertain send can only be settled by a person."""


class BrokerError(OctopusError):
    """Anything that a broker did not do; the message names the broker and the remedy."""


class OrderRejectedError(BrokerError):
    """The broker definitely refused the order; it does not stand and never will."""


class BrokerUnavailableError(BrokerError):
    """The request definitely did not reach the broker."""


class UncertainOutcomeError(BrokerError):
    """The request may have reached the broker: the order may stand."""


class NotToldYetError(BrokerError):
    """The broker's records do not reach so far yet: they say nothing of the order, not that it is absent."""


@dataclass(frozen=True)
class BrokerAccount:
    """Who the broker says we are.

    Attributes:
        number: the broker's own account number, for the allowlist of live trading.
    """

    account: str
    number: str
    currency: str
    is_paper: bool


@dataclass(frozen=True)
class BrokerOrder:
    """An order as the broker's records have it.

    Attributes:
        state: accepted, partially_filled or a terminal state.
        reason: why it was rejected, cancelled or expired; empty otherwise.
    """

    client_order_id: str
    broker_order_id: str
    instrument: str
    side: Side
    quantity: Decimal
    state: OrderState
    filled_quantity: Decimal
    reason: str = ""


class Broker(Protocol):
    """One account at one broker."""

    @property
    def name(self) -> str: ...

    @property
    def guarantee(self) -> Guarantee: ...

    @property
    def keeps(self) -> timedelta | None:
        """How far back its records of fills and entries reach; None: to the account's beginning."""
        ...

    def account(self) -> BrokerAccount: ...

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        """What the account holds now, with prices of everything held and of ``quoted`` where the broker has one."""
        ...

    def submit(
        self,
        client_order_id: str,
        instrument: str,
        side: Side,
        quantity: Decimal,
        order_type: OrderType,
        expires_at: datetime,
        price: Decimal | None = None,
    ) -> BrokerOrder:
        """Send one order, once. It lapses at ``expires_at``.

        Args:
            price: the limit of a limit order, the trigger of a stop order.

        Raises:
            OrderRejectedError, BrokerUnavailableError, UncertainOutcomeError: see the module.
        """
        ...

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        """The order as the broker's records have it; None when they do not.

        Args:
            broker_order_id: its own id, if we have it: all that a broker without ids of ours can search.

        Raises:
            BrokerError: the broker could not be asked, or cannot search by what was given.
        """
        ...

    def cancel(self, client_order_id: str) -> None:
        """Ask to cancel what is left of the order; nothing happens when it is terminal. The order tells the outcome."""
        ...

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        """Fills of the account with ``at >= since``, oldest first, whoever caused them."""
        ...

    def statement(self, since: datetime | None = None) -> Book:
        """The broker's book: cash and positions now, fills and entries with ``at >= since``."""
        ...


@dataclass(frozen=True)
class SentOrder:
    """What we know of an order that we sent: enough to find it in records that do not name its terms.

    Attributes:
        broker_order_id: None where its acknowledgement never came.
    """

    client_order_id: str
    broker_order_id: str | None
    instrument: str
    side: Side
    quantity: Decimal
    expires_at: datetime


@runtime_checkable
class LateTellingBroker(Protocol):
    """A broker whose order records end with the day, and whose reports tell of it afterwards."""

    def past_order(self, sent: SentOrder) -> BrokerOrder | None:
        """What became of an order that `Broker.order` no longer finds; None where the reports show that it never was.

        Raises:
            NotToldYetError: the reports do not cover its session yet.
            BrokerError: the broker could not be asked.
        """
        ...


@runtime_checkable
class RevisingBroker(Protocol):
    """A broker that tells of busts and corrections one by one. Of another's, reconciliation finds what differs."""

    def revisions(self, since: datetime | None = None) -> tuple[FillRevision, ...]:
        """Every revision with ``at >= since``, oldest first; `Broker.fills` and the statement count them already."""
        ...


@runtime_checkable
class ReplacingBroker(Protocol):
    """A venue that puts one order in another's place in one step, and counts what the old one filled.

    At any other venue an order is cancelled and its end awaited before another is sent. So too where a replaced order
    leaves a new one of the full quantity behind, whatever the old one filled meanwhile: Alpaca's does.
    """

    def replace(
        self,
        client_order_id: str,
        new_client_order_id: str,
        quantity: Decimal,
        expires_at: datetime,
        price: Decimal | None = None,
    ) -> BrokerOrder:
        """Replace a working order; a second call under the same new id is the first one.

        Args:
            quantity: that both orders may fill together: the new one is of what the old one has not filled.
            price: the new one's limit or trigger.

        Returns:
            The new order, of the quantity that it may fill itself. The old one is told as replaced from then on.

        Raises:
            OrderRejectedError: the old order had ended or filled as much, or the new one is refused; the old one is as
                it was.
            BrokerUnavailableError, UncertainOutcomeError: as of `Broker.submit`.
        """
        ...


@runtime_checkable
class BracketBroker(Protocol):
    """A venue that takes an entry together with the exits that protect it, and sees to it that they are one another's
    end and never execute more than the entry did. The exits lapse when the entry would.

    An exit's client order id is `octopus.core.ids.exit_order_id` of the entry's, whatever the venue calls it: `order`,
    `cancel`, `fills` and `statement` speak of it under that id, from the entry's own record at the venue if need be.
    `Broker.snapshot` lists of exits at most one for each entry, and only what it may execute now: before the entry has
    executed they can do nothing.
    """

    @property
    def exits_are_messages(self) -> bool:
        """Whether each exit is a request of its own, or all go in one with the entry."""
        ...

    def submit_bracket(
        self,
        client_order_id: str,
        instrument: str,
        side: Side,
        quantity: Decimal,
        order_type: OrderType,
        expires_at: datetime,
        bracket: Bracket,
        price: Decimal | None = None,
    ) -> BrokerOrder:
        """Send an entry with its exits, once; as `Broker.submit`, of the entry. Where it is refused, so are they."""
        ...


@runtime_checkable
class TellingCosts(Protocol):
    """A broker that tells what a position cost."""

    def average_costs(self) -> Mapping[str, Decimal]:
        """Average cost of one share of each position, by instrument."""
        ...
