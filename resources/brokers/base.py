"""What the order path asks of a broker, and what a broker must admit to.

Belongs here: the protocol, its value types and its errors. Does not: any one broker.

An adapter never retries a request that trades. It turns whatever happened to a send into exactly one of four outcomes:
the broker's order, `OrderRejectedError` (definitely refused), `BrokerUnavailableError` (definitely not sent) or
`UncertainOutcomeError` (everything else: a time-out, a dropped connection, a gateway's error page).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NoReturn, Protocol, runtime_checkable

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.ids import exit_order_id
from octopus.core.orders import AccountSnapshot, Bracket, Fill, FillRevision, OrderType, PlannedOrder, Side
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
class OrderRequest:
    """One order as a broker is asked for it; what no broker could take cannot be made.

    Attributes:
        client_order_id: ours, by which the order is known from then on; one that stands already is that order.
        quantity: shares or coins, positive; the direction is ``side``.
        expires_at: UTC; the order lapses then, and is not sent from then on.
        price: the limit of a limit order, the trigger of a stop order, in the instrument's own currency; None for the
            others.

    Raises:
        OrderRejectedError: it is no order.
    """

    client_order_id: str
    instrument: str
    side: Side
    quantity: Decimal
    order_type: OrderType
    expires_at: datetime
    price: Decimal | None = None

    def __post_init__(self) -> None:
        if not (self.quantity.is_finite() and self.quantity > 0):
            self._refuse(f"quantity {self.quantity} of {self.instrument} is not a positive number; plan it again")
        is_price = self.price is not None and self.price.is_finite() and self.price > 0
        if not (is_price if self.order_type.has_price else self.price is None):
            self._refuse(f"a {self.order_type.value} order cannot have the price {self.price}; plan it again")
        if self.expires_at.tzinfo is None:
            self._refuse(f"expires_at = {self.expires_at} has no time zone; give UTC")

    @classmethod
    def of(cls, order: PlannedOrder, client_order_id: str, expires_at: datetime) -> OrderRequest:
        """The request for a planned order; its bracket is not part of it (`BracketBroker.submit_bracket`)."""
        return cls(
            client_order_id, order.instrument, order.side, order.quantity, order.order_type, expires_at, order.price
        )

    def exits(self, bracket: Bracket) -> tuple[OrderRequest, ...]:
        """The exits of this entry as orders of their own, of all its shares.

        Raises:
            OrderRejectedError: an exit's price is none.
        """
        return tuple(
            replace(
                self, client_order_id=exit_order_id(self.client_order_id, exit_.value), side=self.side.opposite,
                order_type=exit_.order_type, price=price,
            )
            for exit_, price in bracket.exits.items()
        )  # fmt: skip

    def require_in_time(self, venue: str, now: datetime, ahead: timedelta = timedelta(0)) -> None:
        """An order is not sent after it should have lapsed: a worker that slept would send it into the next session,
        and so would one whose clock is behind the venue's.

        Args:
            ahead: how far the venue's clock is ahead of ours, if that is known.

        Raises:
            OrderRejectedError: it is late, by one of the two clocks.
        """
        there = now + max(ahead, timedelta(0))
        if there >= self.expires_at:
            behind = f"; this computer's clock is {ahead.total_seconds():.0f} s behind, set it" if there > now else ""
            raise OrderRejectedError(
                f"{venue}: an order until {self.expires_at:%Y-%m-%d %H:%M} UTC is not sent at {there:%Y-%m-%d %H:%M} "
                f"UTC: it would live on in the next session; plan it again{behind}"
            )

    def require_whole_shares(self, venue: str) -> None:
        """Raises:
        OrderRejectedError: the quantity has a fraction.
        """
        if self.quantity != self.quantity.to_integral_value():
            raise OrderRejectedError(
                f"{venue}: {plain(self.quantity)} {self.instrument}: orders here are in whole shares; set "
                "portfolio.fractional to false"
            )

    def require_entry_type(self, venue: str, entries: Collection[OrderType]) -> None:
        """Raises:
        OrderRejectedError: no order of this type can have exits; ``entries``: those that can.
        """
        if self.order_type not in entries:
            raise OrderRejectedError(
                f"{venue}: {self.client_order_id}: a {self.order_type.value} order cannot have exits here"
            )

    def _refuse(self, why: str) -> NoReturn:
        raise OrderRejectedError(f"{self.client_order_id} is not sent: {why}")


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

    def is_of(self, request: OrderRequest) -> bool:
        """Whether it is what was asked for: another order may stand under its id."""
        return (self.client_order_id, self.instrument, self.side, self.quantity) == (
            request.client_order_id, request.instrument, request.side, request.quantity
        )  # fmt: skip


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

    def submit(self, request: OrderRequest) -> BrokerOrder:
        """Send one order, once. It lapses at its ``expires_at``.

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
        """Ask to cancel what is left of the order; nothing happens when it is terminal. The order tells the outcome.

        Raises:
            BrokerError: the broker could not be asked, or has no such order as far as can be told: it may still arrive.
        """
        ...

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        """Fills of the account with ``at >= since``, oldest first, whoever caused them."""
        ...

    def statement(self, since: datetime | None = None) -> Book:
        """The broker's book: cash and positions now, fills and entries with ``at >= since``."""
        ...


@runtime_checkable
class LateTellingBroker(Protocol):
    """A broker whose order records end with the day, and whose reports tell of it afterwards."""

    def past_order(self, sent: OrderRequest, broker_order_id: str | None) -> BrokerOrder | None:
        """What became of an order that `Broker.order` no longer finds; None where the reports show that it never was.

        Args:
            broker_order_id: None where its acknowledgement never came.

        Raises:
            NotToldYetError: the reports do not cover its session yet.
            BrokerError: the broker could not be asked.
        """
        ...


@runtime_checkable
class RevisingBroker(Protocol):
    """A broker that tells of busts and corrections one by one. Of another's, reconciliation finds what differs."""

    def revisions(self, since: datetime | None = None) -> tuple[FillRevision, ...]:
        """Every revision with ``at >= since``, oldest first; `Broker.fills` and the statement count them already.

        The price of a trade that was broken is zero where the broker tells none.
        """
        ...


@runtime_checkable
class ReplacingBroker(Protocol):
    """A venue that puts one order in another's place in one step, and counts what the old one filled.

    At any other venue an order is cancelled and its end awaited before another is sent. So too where a replaced order
    leaves a new one of the full quantity behind, whatever the old one filled meanwhile: Alpaca's does.
    """

    def replace(self, replaced: str, request: OrderRequest) -> BrokerOrder:
        """Put an order in the place of a working one; a second call under the same new id is the first one.

        Args:
            replaced: client order id of the working order.
            request: the new one, in the same instrument, on the same side and of the same type. Its quantity is what
                both orders may fill together: the new one is of what the old one has not filled.

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

    Cancelling an entry cancels its exits, and cancelling an exit the other one.

    An exit's client order id is `octopus.core.ids.exit_order_id` of the entry's, whatever the venue calls it: `order`,
    `cancel`, `fills` and `statement` speak of it under that id, from the entry's own record at the venue if need be.
    `Broker.snapshot` lists of exits at most one for each entry, and only what it may execute now: before the entry has
    executed they can do nothing.
    """

    @property
    def exits_are_messages(self) -> bool:
        """Whether each exit is a request of its own, or all go in one with the entry."""
        ...

    def submit_bracket(self, entry: OrderRequest, bracket: Bracket) -> BrokerOrder:
        """Send an entry with its exits, once; as `Broker.submit`, of the entry. Where it is refused, so are they."""
        ...


@runtime_checkable
class TellingCosts(Protocol):
    """A broker that tells what a position cost."""

    def average_costs(self) -> Mapping[str, Decimal]:
        """Average cost of one share of each position, by instrument."""
        ...
