"""Venues' answers: what adapters that speak HTTP do alike with them, whatever the venue.

Belongs here: what became of a request, reading fields, reads that belong together, putting fills and entries in order.
Does not: what any one venue's answer means, or what may be asked of it at all (base.py).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar

from octopus.core.errors import SourceUnavailableError
from octopus.core.orders import AccountSnapshot, Fill, OpenOrder, Side
from octopus.execution.book import Book, Entry
from octopus.execution.states import OrderState
from resources.brokers.base import (
    BrokerError,
    BrokerOrder,
    BrokerUnavailableError,
    OrderRejectedError,
    OrderRequest,
    UncertainOutcomeError,
)

READS = 4
"""How often positions and cash are read until nothing moved in between."""

_SMALLEST, _LARGEST = Decimal("1e-18"), Decimal("1e15")
"""Of amounts, zero apart: a ledger's digits end there, and so does anybody's account."""

T = TypeVar("T")
P = TypeVar("P")


@dataclass(frozen=True)
class Failure:
    """A request that did not succeed.

    Attributes:
        status: of the answer; None where none came.
        sent: whether the request may have reached the venue.
        own: whether the venue itself spoke; a gateway's page says nothing of what stands behind it.
    """

    status: int | None
    message: str
    sent: bool
    own: bool = True


class RequestFailedError(Exception):
    """Of an adapter's own: it never leaves it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def asked(ask: Callable[[], T], refused: tuple[type[Exception], ...], told: Callable[[Any], Failure]) -> T:
    """What a client that sends through `requests` was answered.

    Args:
        refused: what the client raises where the venue answered with an error; ``told`` reads it.

    Raises:
        RequestFailedError: the venue refused, or no whole answer came; it tells whether the request may have arrived.
    """
    import requests

    try:
        return ask()
    except refused as error:
        raise RequestFailedError(told(error)) from error
    except SourceUnavailableError as error:
        # Of our own patience: a wait that is too long, before or instead of an answer.
        raise RequestFailedError(Failure(429, str(error), sent=True)) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise RequestFailedError(Failure(None, f"its address is wrong: {error}", sent=False)) from error
    except (ValueError, RecursionError) as error:
        raise RequestFailedError(Failure(None, "the answer cannot be read (no JSON?)", sent=True)) from error
    except requests.exceptions.RequestException as error:
        kind = type(error).__name__
        failure = Failure(None, f"no answer ({kind}); check the network", sent=_may_have_left(error))
        raise RequestFailedError(failure) from error


def _may_have_left(error: Exception) -> bool:
    """Whether the request may have reached the venue: not where no connection came about.

    A broken TLS connection is one of the same class as a refused certificate, and may break after the request.
    """
    import requests
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NameResolutionError, NewConnectionError

    reason = error.args[0] if error.args else None
    cause = reason.reason if isinstance(reason, MaxRetryError) else reason
    if isinstance(error, requests.exceptions.SSLError):
        inner = cause.args[0] if isinstance(cause, Exception) and cause.args else None
        return not isinstance(inner, ssl.SSLCertVerificationError)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return False
    return not isinstance(cause, NewConnectionError | NameResolutionError | ConnectTimeoutError)


@dataclass
class VenueClock:
    """A venue's clock beside ours, by the ``Date`` of its answers (RFC 9110, section 6.6.1), to the second.

    Attributes:
        ahead: how far it is ahead of ours, as last heard; until then they are taken to agree.
    """

    ahead: timedelta = timedelta(0)

    def heard(self, date: str | None, now: datetime) -> None:
        """Take the ``Date`` of an answer that came ``now``; without one nothing changes."""
        try:
            theirs = parsedate_to_datetime(date or "")
        except (ValueError, TypeError):
            return
        self.ahead = (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) - now


def not_told(venue: str, failure: Failure) -> BrokerError:
    """The error of a question, which moves nothing: one that may pass can be asked again."""
    passing = failure.status is None or failure.status == 429 or failure.status >= 500
    return (BrokerUnavailableError if passing else BrokerError)(f"{venue}: {failure.message}")


def not_there(venue: str, client_order_id: str) -> BrokerError:
    """The error of a cancel of an order that cannot be found: silence would say that nothing of it fills any more."""
    return BrokerError(
        f"{venue}: {client_order_id} is not cancelled: no such order is found there; look for it in the account and "
        "cancel it there, or ask again if its send has just left"
    )


def not_accepted(
    venue: str, failure: Failure, *, barred: Collection[int] = (401, 403), refused: Collection[int] = (400, 404, 422)
) -> BrokerError:
    """The error of a send that brought no order.

    Args:
        barred, refused: statuses by which the venue says that it did not read the request, or that it read and refused
            it. Of a page that is not the venue's own they say nothing.
    """
    if not failure.sent or failure.status == 429 or (failure.status in barred and failure.own):
        return BrokerUnavailableError(f"{venue}: not sent: {failure.message}")
    if failure.status in refused and failure.own:
        return OrderRejectedError(f"{venue}: refused: {failure.message}")
    return UncertainOutcomeError(f"{venue}: {failure.message}")


def first_sent(
    venue: str, request: OrderRequest, look_up: Callable[[str], BrokerOrder | None], absent: str
) -> BrokerOrder:
    """The order of an earlier send, where the venue says that the request's id is taken.

    Args:
        absent: what it means that there is none under that id.

    Raises:
        OrderRejectedError: another order stands under the id.
        UncertainOutcomeError: there is none yet, or the venue does not say.
    """
    try:
        found = look_up(request.client_order_id)
    except BrokerError as error:
        raise UncertainOutcomeError(str(error)) from error
    if found is None:
        raise UncertainOutcomeError(f"{venue}: {absent}; look it up again")
    if not found.is_of(request):
        raise OrderRejectedError(
            f"{venue}: {request.client_order_id} is another order there ({found.side.value} {found.quantity} "
            f"{found.instrument}); find out who sent it"
        )
    return found


def state_of(
    venue: str, ended: Mapping[str, OrderState], standing: Collection[str], status: str, filled: Decimal
) -> OrderState:
    """Our state of an order that a venue reports as ``status``.

    Raises:
        BrokerError: nobody knows that status.
    """
    if status in ended:
        return ended[status]
    if status not in standing:
        raise BrokerError(f"{venue}: order status {status!r} is not known; update the adapter")
    return OrderState.PARTIALLY_FILLED if filled else OrderState.ACCEPTED


@dataclass(frozen=True)
class Held:
    """A position, as one read of it.

    Attributes:
        shares: negative for a short.
        price: of one, None where the venue told none. Of two reads it says nothing: prices move while nothing fills.
    """

    shares: Decimal
    price: Decimal | None = field(default=None, compare=False)


def shares_and_prices(held: Mapping[str, Held]) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """Signed shares, and prices where they were told, by instrument."""
    prices = {name: one.price for name, one in held.items() if one.price is not None}
    return {name: one.shares for name, one in held.items()}, prices


def belonging_together(venue: str, positions: Callable[[], P], others: Callable[[], T]) -> tuple[P, T]:
    """The last read of positions, and what else was read between two equal ones.

    Raises:
        BrokerError: they changed each time.
    """
    for _ in range(READS):
        before, rest, after = positions(), others(), positions()
        if before == after:
            return after, rest
    raise BrokerError(f"{venue}: positions changed in each of {READS} reads; try again when orders have filled")


def still_open(orders: Iterable[BrokerOrder]) -> tuple[OpenOrder, ...]:
    """What is left of orders that stand."""
    return tuple(
        OpenOrder(one.client_order_id, one.instrument, one.side, one.quantity - one.filled_quantity)
        for one in orders
        if one.quantity > one.filled_quantity
    )


def counted(
    venue: str, told: Iterable[Mapping[str, Any]], id_field: str, read: Callable[[Any], Iterable[BrokerOrder]]
) -> tuple[OpenOrder, ...]:
    """What is left of orders that stand, whoever sent them: a limit counts all of them as filled.

    Raises:
        BrokerError: one of them cannot be read; it is named.
    """
    found: list[BrokerOrder] = []
    for one in told:
        try:
            found += read(one)
        except BrokerError as error:
            raise BrokerError(
                f"{venue}: open order {one.get(id_field)} cannot be counted ({error}); cancel it at {venue}, or wait "
                "until it has ended"
            ) from error
    return still_open(found)


def cancellable(
    told: Iterable[Mapping[str, Any]], read: Callable[[Any], Iterable[BrokerOrder]], ours: Callable[[Any], str]
) -> tuple[OpenOrder, ...]:
    """What is left of orders that stand, for a kill switch: it stops at nothing that others entered.

    Args:
        ours: our id of an order, empty where it is somebody else's.

    Returns:
        Others' orders where they can be read, and every one of ours; one that cannot be read without its size: its
        cancel then says what is wrong with it.
    """
    found: list[OpenOrder] = []
    for one in told:
        try:
            found += still_open(read(one))
        except BrokerError:
            if name := ours(one):
                found.append(OpenOrder(name, "", Side.BUY, Decimal(0)))
    return tuple(found)


def in_order(fills: Iterable[Fill], since: datetime | None) -> tuple[Fill, ...]:
    """Fills from ``since`` on, oldest first; one that was told twice is one.

    Raises:
        BrokerError: one moved more money than there is in anybody's account.
    """
    kept = {fill.fill_id: fill for fill in fills if since is None or fill.at >= since}
    for fill in kept.values():
        if fill.quantity * fill.price > _LARGEST:
            raise BrokerError(
                f"fill {fill.fill_id} of {fill.quantity} {fill.instrument} at {fill.price} is no amount; ask again, "
                "and look at it at the broker if it stays so"
            )
    return tuple(sorted(kept.values(), key=lambda fill: (fill.at, fill.fill_id)))


def statement_of(
    snapshot: AccountSnapshot, fills: Sequence[Fill], entries: Iterable[Entry], since: datetime | None
) -> Book:
    """An account's book, with entries from ``since`` on, oldest first; one that was told twice is one."""
    kept = {entry.entry_id: entry for entry in entries if since is None or entry.at >= since}
    ordered = sorted(kept.values(), key=lambda entry: (entry.at, entry.entry_id))
    return Book(snapshot.account, snapshot.cash, snapshot.positions, tuple(fills), tuple(ordered))


@dataclass(frozen=True)
class Fields:
    """Reads fields of one venue's answers; each raises `BrokerError` where it cannot."""

    venue: str

    def text(self, told: Any, name: str) -> str:
        """A text or number, as text."""
        value = self.object(told).get(name)
        if value is None or value == "":
            self._unreadable(f"an answer lacks {name}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self._unreadable(f"{name} is of type {type(value).__name__}")
        return str(value)

    def number(self, told: Any, name: str) -> Decimal:
        text = self.text(told, name)
        try:
            number = Decimal(text)
        except InvalidOperation:
            self._unreadable(f"{name} = {text[:40]!r} is no number")
        if not number.is_finite() or (number and not _SMALLEST <= number.copy_abs() <= _LARGEST):
            self._unreadable(f"{name} = {text[:40]!r} is no amount")
        return number

    def number_or_zero(self, told: Any, name: str) -> Decimal:
        """Zero where the field is absent or empty."""
        return Decimal(0) if self.object(told).get(name) in (None, "") else self.number(told, name)

    def filled(self, told: Any, name: str) -> Decimal:
        """How much of an order was filled: zero where the field is absent, and never less."""
        number = self.number_or_zero(told, name)
        if number < 0:
            raise BrokerError(f"{self.venue}: {name} = {number} is negative; look the order up again")
        return number

    def positive(self, told: Any, name: str) -> Decimal:
        number = self.number(told, name)
        if number <= 0:
            self._unreadable(f"{name} = {number} is not positive")
        return number

    def object(self, told: Any) -> Mapping[str, Any]:
        if not isinstance(told, Mapping):
            self._unreadable(f"an answer of type {type(told).__name__} stands where an object should")
        return told

    def objects(self, told: Any) -> list[Mapping[str, Any]]:
        if not isinstance(told, list):
            self._unreadable(f"an answer of type {type(told).__name__} stands where a list should")
        return [self.object(one) for one in told]

    def part(self, told: Any, name: str) -> Mapping[str, Any]:
        """An object within an object."""
        if self.object(told).get(name) is None:
            self._unreadable(f"an answer lacks {name}")
        return self.object(told[name])

    def part_or_nothing(self, told: Any, name: str) -> Mapping[str, Any]:
        """An empty object where the field is absent or empty."""
        return self.object(self.object(told).get(name) or {})

    def parts(self, told: Any, name: str) -> list[Mapping[str, Any]]:
        """The objects of a list within an object; none where the field is absent or empty."""
        return self.objects(self.object(told).get(name) or [])

    def side(self, text: str) -> Side:
        try:
            return Side(text.lower())
        except ValueError:
            self._unreadable(f"the side {text[:40]!r} is not known")

    def steps(self, number: Decimal, step: Decimal) -> Decimal:
        """``number`` in whole steps; what is left of it is cut off."""
        try:
            return number.quantize(step, ROUND_DOWN)
        except InvalidOperation:
            self._unreadable(f"{number} is no amount")

    def instant(self, text: str) -> datetime:
        """An instant with up to nanoseconds, cut to microseconds; without a zone it is UTC."""
        try:
            instant = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
            return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self._unreadable(f"{text[:40]!r} is no time")

    def day(self, text: str) -> date:
        """The date that ``text`` begins with."""
        try:
            return date.fromisoformat(text[:10])
        except ValueError:
            self._unreadable(f"{text[:40]!r} is no date")

    def _unreadable(self, what: str) -> NoReturn:
        raise BrokerError(f"{self.venue}: {what}; the API may have changed, update the adapter")


def noon(day: date) -> datetime:
    """An instant of a day of which no time is told: the same day in New York."""
    return datetime.combine(day, time(12), UTC)
