"""Schwab: its Trader API, through schwab-py.

Belongs here: what Schwab's answers mean to the order path. Does not: deciding when to send, or again.

What the venue gives: nothing. An order has no id of ours; Schwab's own comes in the Location header of the answer to
its send, and nowhere else if that answer is lost. So every send is made once, after the ids of the orders that exist
already were read; where its answer is lost, the one order that is new since, for the same instrument, instruction and
quantity, is ours. Where there is none yet, or more than one, the outcome is uncertain and a person settles it. Which
order is which is then what our own records say (``known``).

Sales and short sales, purchases and covering are orders of different kinds here, so that the position is read before
each send; an order through zero is refused. There are no orders for the opening auction: one for the open is a day's
market order that is entered before it, and executes when the market opens or, if the stock opens late, then. Orders are
in whole shares and live for the day.

Schwab tells orders and transactions of 60 days. Fills bear the fees that Schwab has booked for them so far; each
booking is a revision of its fill. A dividend is told on the day it is paid, and dated here to its ex-session where
Schwab's quotes tell it. They tell one dividend alone, the latest that was declared, and books match payments by that
date: once told it is kept in a file beside the token's.

A login lasts seven days from the browser in which a person gave it; within them schwab-py renews its token by itself.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octopus.core.amounts import plain
from octopus.core.errors import ConfigError, OctopusError, SourceUnavailableError
from octopus.core.orders import AccountSnapshot, Fill, FillRevision, OpenOrder, OrderType, Side
from octopus.execution.book import Book, Entry, EntryKind
from octopus.execution.states import TERMINAL, OrderState
from resources.brokers.answers import (
    Failure,
    Fields,
    Held,
    RequestFailedError,
    VenueClock,
    belonging_together,
    cancellable,
    counted,
    in_order,
    noon,
    not_accepted,
    not_there,
    not_told,
    shares_and_prices,
    state_of,
    statement_of,
)
from resources.brokers.base import (
    BrokerAccount,
    BrokerError,
    BrokerOrder,
    BrokerUnavailableError,
    Guarantee,
    OrderRejectedError,
    OrderRequest,
    UncertainOutcomeError,
)
from resources.brokers.symbols import Spelling
from resources.sources.base import rebased
from resources.sources.http import Access

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions

NAME = "schwab"
TOKEN_URL = "https://api.schwabapi.com/v1/oauth/token"  # noqa: S105  # an address
LOGIN_LASTS = timedelta(days=7)
LOGIN_PROGRAM = "schwab-generate-token.py"
"""Of schwab-py: asks for a login in a browser and writes the token's file."""
TOLD = timedelta(days=60)
"""How far back Schwab tells orders and transactions."""

_PAGE = 3000
_LOOKS = 3
_LOOK_S = 1.0
"""How often a lost order is looked for, and how long in between, seconds."""
_DAY_IS_OVER = timedelta(days=7)
"""An order for the day that was entered longer ago has ended, holidays included."""
_KEPT = timedelta(days=366)
"""How long the date of a dividend is kept; Schwab tells the payment for `TOLD`."""
_HUNDRED = Decimal(100)
_NIL = Decimal(0)
_CENT = Decimal("0.01")

_ORDER_TYPES = {
    OrderType.MARKET_ON_OPEN: "MARKET",
    OrderType.MARKET_ON_CLOSE: "MARKET_ON_CLOSE",
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP: "STOP",
}
_ENDED = {
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELLED,
    "REPLACED": OrderState.REPLACED,
    "EXPIRED": OrderState.EXPIRED,
    "REJECTED": OrderState.REJECTED,
}
_STANDING = frozenset(
    {
        "NEW", "ACCEPTED", "WORKING", "QUEUED", "PENDING_ACTIVATION", "PENDING_ACKNOWLEDGEMENT", "PENDING_CANCEL",
        "PENDING_REPLACE", "PENDING_RECALL", "AWAITING_PARENT_ORDER", "AWAITING_CONDITION", "AWAITING_STOP_CONDITION",
        "AWAITING_MANUAL_REVIEW", "AWAITING_UR_OUT", "AWAITING_RELEASE_TIME",
    }
)  # fmt: skip
order_state = partial(state_of, NAME, _ENDED, _STANDING)
_BESIDE = ("marginBalance", "shortBalance", "moneyMarketFund")
"""Balances beside ``cashBalance`` that may be cash, too, or the same once more: no documentation says which."""
_CASH_FLOWS = frozenset(
    {
        "ACH_RECEIPT", "ACH_DISBURSEMENT", "CASH_RECEIPT", "CASH_DISBURSEMENT", "ELECTRONIC_FUND", "WIRE_IN",
        "WIRE_OUT",
    }
)  # fmt: skip
_WITHHELD = re.compile(r"\bNRA\b|\bwithh(e|o)ld|\bforeign tax\b|\btax (adj|paid)", re.IGNORECASE)
"""How Schwab describes tax that it withholds from dividends or gives back ("NRA Tax Adj", "NRA Withholding", "Foreign
Tax Paid" of its exported histories): its type is a dividend's, and what a short sale owes is a negative one, too."""
_SPELLING = Spelling(NAME, "/")
venue_symbol, our_symbol = _SPELLING.theirs, _SPELLING.ours

_FIELDS = Fields(NAME)
_text, _number, _instant = _FIELDS.text, _FIELDS.number, _FIELDS.instant


@dataclass(frozen=True)
class SchwabBroker:
    """One account at Schwab.

    Attributes:
        key, secret: of the app that was registered with Schwab.
        token_file: where schwab-py's token is kept; it is written anew whenever the token is renewed.
        number: Schwab's account number.
        account_name: what we call the account.
        sessions: the exchange's calendar, for when a dividend took effect.
        known: our client order ids by Schwab's order ids, as our own records have them.
        access: where requests go and how long they may take; its patience is for reads alone.
        now: what time it is.
    """

    key: str = field(repr=False)
    secret: str = field(repr=False)
    token_file: Path
    number: str = field(repr=False)
    account_name: str
    sessions: Sessions
    known: Callable[[], Mapping[str, str]]
    access: Access = field(default_factory=Access)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    name: str = NAME
    guarantee: Guarantee = Guarantee.NOTHING
    keeps: timedelta | None = TOLD
    _hashes: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _clock: VenueClock = field(default_factory=VenueClock, init=False, repr=False, compare=False)

    def account(self) -> BrokerAccount:
        """As `Broker.account`; no account here is a paper one."""
        told = self._account()
        return BrokerAccount(self.account_name, _text(told, "accountNumber"), "USD", is_paper=False)

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        """As `Broker.snapshot`: cash, positions and open orders that belong together.

        Raises:
            BrokerError: Schwab could not be asked, has restricted the account, does not say what its cash is, an open
                order cannot be counted, or orders filled each time it was read.
        """
        taken = self.now()
        held, (standing, told) = belonging_together(NAME, self._positions, lambda: (self._standing(), self._account()))
        if told.get("isClosingOnlyRestricted"):
            raise BrokerError("schwab: the account is restricted to closing orders; settle that with Schwab")
        positions, prices = shares_and_prices(held)
        prices |= self._quotes([name for name in quoted if name not in prices])
        ids = self.known()
        orders = counted(NAME, standing, "orderId", lambda one: _legs(one, ids))
        return AccountSnapshot(self.account_name, taken, _cash(told), positions, prices, orders)

    def submit(self, request: OrderRequest) -> BrokerOrder:
        """As `Broker.submit`. Sent once; a second call is a second order."""
        symbol = venue_symbol(request.instrument)
        _require_sendable(request)
        try:
            held = self._positions().get(request.instrument, Held(_NIL))
            instruction = _instruction(request, held.shares)
            before = {_text(told, "orderId") for told in self._orders(timedelta(days=1))}
        except OrderRejectedError:
            raise
        except OctopusError as error:
            raise BrokerUnavailableError(f"schwab: not sent: {error}") from error
        request.require_in_time(NAME, self.now(), self._clock.ahead)
        order_id = self._sent(_message(request, symbol, instruction), before)
        return BrokerOrder(
            request.client_order_id, order_id, request.instrument, request.side, request.quantity,
            OrderState.ACCEPTED, _NIL,
        )  # fmt: skip

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        """As `Broker.order`, by Schwab's id: as given, or as our records have it.

        Raises:
            BrokerError: neither has it, or Schwab could not be asked.
        """
        order_id = broker_order_id or self._id_of(client_order_id)
        if order_id is None:
            raise BrokerError(
                f"schwab: {client_order_id} cannot be looked up: Schwab keeps no id of ours; find the order in the "
                "account and settle it by hand"
            )
        try:
            told = self._json(lambda client, account: client.get_order(order_id, account))
        except RequestFailedError as error:
            if error.failure.status == 404 and error.failure.own:
                return None
            raise not_told(NAME, error.failure) from error
        legs = list(_legs(told, {order_id: client_order_id}))
        if not legs or _text(told, "orderId") != order_id:
            raise BrokerError(f"schwab: the answer about order {order_id} is of another, or of none; ask again")
        return legs[0]

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """As `ListsOpenOrders.open_orders`, also while the account is restricted to closing orders."""
        ids = self.known()
        return cancellable(
            self._standing(), lambda one: _legs(one, ids), lambda one: ids.get(str(one.get("orderId")), "")
        )

    def cancel(self, client_order_id: str) -> None:
        """As `Broker.cancel`; the order of a send that is not settled cannot be named, for nobody knows its id."""
        order_id = self._id_of(client_order_id)
        found = None if order_id is None else self.order(client_order_id, order_id)
        if order_id is None or found is None:
            raise not_there(NAME, client_order_id)
        if found.state in TERMINAL:
            return
        try:
            self._answer(lambda client, account: client.cancel_order(order_id, account))
        except RequestFailedError as error:
            if error.failure.status not in (400, 404, 422) or not error.failure.own:
                raise not_told(NAME, error.failure) from error
            # It ended meanwhile, or is about to.
            after = self.order(client_order_id, order_id)
            if after is not None and after.state not in TERMINAL:
                raise not_told(NAME, error.failure) from error

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        """As `Broker.fills`, of the last 60 days; a fill that Schwab tells twice is one."""
        return in_order((one.fill for one in self._executed()), since)

    def revisions(self, since: datetime | None = None) -> tuple[FillRevision, ...]:
        """As `RevisingBroker.revisions`: the fees of fills, which Schwab books after them, numbered by its bookings.
        Each bears its trade's time, as the booking does."""
        bookings = {one.fill.fill_id: one for one in self._executed() if one.bookings}
        return tuple(
            FillRevision(
                one.fill_id, bookings[one.fill_id].bookings, one.client_order_id, one.quantity, one.price, one.fees,
                one.at, "fees booked by Schwab",
            )
            for one in in_order((one.fill for one in bookings.values()), since)
        )  # fmt: skip

    def _executed(self) -> Iterator[_Executed]:
        ids = self.known()
        charges = _charges_by_order(self._transactions(["TRADE"]))
        for order in self._orders(TOLD):
            yield from _executions(order, ids, charges.get(_text(order, "orderId"), ()))

    def statement(self, since: datetime | None = None) -> Book:
        """As `Broker.statement`, of the last 60 days."""
        snapshot = self.snapshot()
        told = (one for one in self._transactions(None) if one.get("type") != "TRADE")
        entries = [entry for one in told if (entry := self._entry(one)) is not None]
        return statement_of(snapshot, self.fills(since), entries, since)

    def average_costs(self) -> Mapping[str, Decimal]:
        """As `TellingCosts.average_costs`: ``averagePrice`` of a position (Trader API, "Accounts and Trading", schema
        Position). Whether fees are in it is not documented; a position where it is zero or absent is left out."""
        costs = {}
        for told in _FIELDS.parts(self._account(), "positions"):
            if price := _FIELDS.number_or_zero(told, "averagePrice"):
                costs[_instrument_of(told)] = price * _multiplier(told)
        return costs

    def login_ends(self) -> datetime:
        """When Schwab will ask for another login in a browser.

        Raises:
            ConfigError: there was none yet.
        """
        return datetime.fromtimestamp(self._token()["creation_timestamp"], UTC) + LOGIN_LASTS

    # -- inside: sending ---------------------------------------------------------------------------------------------

    def _sent(self, request: Any, before: Collection[str]) -> str:
        """Schwab's id of the order, after one send.

        Raises:
            OrderRejectedError, BrokerUnavailableError, UncertainOutcomeError: see `resources.brokers.base`.
        """
        from schwab.utils import Utils

        lost = "accepted, and its id was not told"
        try:
            with self._client() as (client, account):
                told = _answered(lambda: client.place_order(account, request))
                order_id = Utils(client, account).extract_order_id(told)
            if order_id is not None:
                return str(order_id)
        except ValueError as error:
            # Of schwab-py: the order is in another account.
            raise UncertainOutcomeError(f"schwab: {error}; look for the order in your accounts") from error
        except RequestFailedError as error:
            lost = error.failure.message
            login = self._login_told() if error.failure.status == 401 else ""
            refusal = not_accepted(NAME, replace(error.failure, message=f"{lost}{login}"))
            if not isinstance(refusal, UncertainOutcomeError):
                raise refusal from error
        return self._found(request.build(), before, lost)

    def _found(self, request: Mapping[str, Any], before: Collection[str], lost: str) -> str:
        """The id of the one order that is new and is like the one whose answer was lost.

        Raises:
            UncertainOutcomeError: there is none yet, or more than one.
        """
        fresh: list[str] = []
        for look in range(_LOOKS):
            if look:
                self.access.sleep(_LOOK_S)
            try:
                known = self.known()
                fresh = [
                    order_id
                    for told in self._orders(timedelta(days=1))
                    if (order_id := _text(told, "orderId")) not in before
                    and order_id not in known
                    and _is_alike(told, request)
                ]
            except BrokerError as error:
                lost = f"{lost}; {error}"
            if len(fresh) == 1:
                return fresh[0]
        many = f"{len(fresh)} new orders are like it: {', '.join(fresh)}" if fresh else "no new order is like it so far"
        raise UncertainOutcomeError(f"schwab: {lost}; {many}; look for it in the account")

    # -- inside: requests --------------------------------------------------------------------------------------------

    @contextmanager
    def _client(self) -> Iterator[tuple[Any, str]]:
        """schwab-py's client on a session of ours, which alone decides what is sent again; and the account's hash."""
        with self._login() as client:
            if self.number not in self._hashes:
                told = _FIELDS.objects(_read(_answered(client.get_account_numbers)))
                self._hashes.update((_text(one, "accountNumber"), _text(one, "hashValue")) for one in told)
            if self.number not in self._hashes:
                raise BrokerError(
                    f"schwab: this login has no account …{self.number[-3:]}, but "
                    f"{', '.join(f'…{one[-3:]}' for one in sorted(self._hashes)) or 'none'}; check the account number"
                )
            yield client, self._hashes[self.number]

    @contextmanager
    def _login(self) -> Iterator[Any]:
        from schwab.auth import TokenMetadata
        from schwab.client import Client
        from schwab.debug import register_redactions

        token = self._token()
        register_redactions(token)
        metadata = TokenMetadata.from_loaded_token(token, self._keep_token)
        session = _session_class()(
            self.access, self.key, client_secret=self.secret, token=metadata.token, token_endpoint=TOKEN_URL,
            update_token=metadata.wrapped_token_write_func(), leeway=300, verify=_trusted(),
        )  # fmt: skip
        session.event_hooks = {"response": [lambda told: self._clock.heard(told.headers.get("Date"), self.now())]}
        with session:
            yield Client(self.key, session, token_metadata=metadata)

    def _token(self) -> dict[str, Any]:
        """Raises:
        ConfigError: there is no token, or it cannot be read.
        """
        try:
            told = json.loads(self.token_file.read_text())
            if {"creation_timestamp", "token"} <= told.keys() and told["token"].get("refresh_token"):
                return dict(told)
        except (OSError, ValueError, AttributeError):
            pass
        raise ConfigError(
            where="environment", field="SCHWAB_TOKEN_FILE", value=str(self.token_file),
            remedy=f"no login there: log in with `{LOGIN_PROGRAM} --token_file {self.token_file} …`",
        )  # fmt: skip

    def _keep_token(self, token: Mapping[str, Any], *_args: object, **_kwargs: object) -> None:
        """Write the renewed token in place of the old one."""
        _write(self.token_file, token)

    def _answer(self, ask: Callable[[Any, str], Any]) -> Any:
        """Schwab's answer to a question or a cancel; after HTTP 401 it is asked again, once, with a new token."""
        try:
            try:
                return self._asked_once(ask)
            except RequestFailedError as error:
                refused = error.failure
                if refused.status != 401 or not (refused.own and refused.sent):
                    raise
                self._distrust_token()
                return self._asked_once(ask)
        except RequestFailedError as error:
            if error.failure.status == 401:
                raise BrokerError(f"schwab: {error.failure.message}{self._login_told()}") from error
            raise

    def _asked_once(self, ask: Callable[[Any, str], Any]) -> Any:
        with self._client() as (client, account):
            return _answered(lambda: ask(client, account))

    def _distrust_token(self) -> None:
        """Have it renewed before the next request: by the clock it was dated with, another computer's perhaps, it may
        seem to last longer than it does."""
        token = self._token()
        token["token"] = {**token["token"], "expires_at": 1}
        self._keep_token(token)

    def _login_told(self) -> str:
        try:
            ends = self.login_ends()
        except ConfigError as error:
            # The token's file went away meanwhile: that explains the refusal, and must not hide it.
            return f"; {error}"
        return (
            f"; a login lasts seven days, and this one is of {ends - LOGIN_LASTS:%Y-%m-%d %H:%M} UTC: log in again "
            f"with `{LOGIN_PROGRAM} --token_file {self.token_file} …`"
        )

    def _json(self, ask: Callable[[Any, str], Any]) -> Any:
        return _read(self._answer(ask))

    def _asked(self, ask: Callable[[Any, str], Any]) -> Any:
        try:
            return self._json(ask)
        except RequestFailedError as error:
            raise not_told(NAME, error.failure) from error

    def _account(self) -> Mapping[str, Any]:
        def ask(client: Any, account: str) -> Any:
            return client.get_account(account, fields=[client.Account.Fields.POSITIONS])

        told = self._asked(ask)
        # A cash account's own balances may lack what it is worth.
        return {"aggregatedBalance": _FIELDS.object(told).get("aggregatedBalance")} | dict(
            _FIELDS.part(told, "securitiesAccount")
        )

    def _positions(self) -> dict[str, Held]:
        """Positions by instrument."""
        found = {}
        for told in _FIELDS.parts(self._account(), "positions"):
            longs, shorts = (_FIELDS.number_or_zero(told, name) for name in ("longQuantity", "shortQuantity"))
            shares, worth = longs - shorts, _FIELDS.number_or_zero(told, "marketValue")
            if shares:
                found[_instrument_of(told)] = Held(shares, abs(worth / shares) if worth else None)
        return found

    def _standing(self) -> list[Mapping[str, Any]]:
        """Orders that may execute, as far as can be told."""
        return [one for one in self._orders(TOLD) if not _has_ended(one, self.now())]

    def _orders(self, back: timedelta) -> Iterator[Mapping[str, Any]]:
        """Orders entered in the time before now, and those that belong to them, from the newest."""
        now = self.now().astimezone(UTC)
        until, seen = now + timedelta(days=1), set[str]()
        while True:
            terms = {
                "max_results": _PAGE, "from_entered_datetime": now - back, "to_entered_datetime": until,
            }  # fmt: skip
            page = _FIELDS.objects(
                self._asked(lambda client, account: client.get_orders_for_account(account, **terms))  # noqa: B023  # asked at once
            )
            fresh = [one for one in page if _text(one, "orderId") not in seen]
            for one in fresh:
                seen.add(_text(one, "orderId"))
                yield from _family(one)
            if len(page) < _PAGE or not fresh:
                return
            until = min(_instant(_text(one, "enteredTime")) for one in fresh) + timedelta(seconds=1)

    def _transactions(self, kinds: Collection[str] | None) -> list[Mapping[str, Any]]:
        now = self.now()

        def ask(client: Any, account: str) -> Any:
            types = None if kinds is None else [client.Transactions.TransactionType(kind) for kind in kinds]
            begins, ends = (now - TOLD).astimezone(UTC), (now + timedelta(days=1)).astimezone(UTC)
            return client.get_transactions(account, start_date=begins, end_date=ends, transaction_types=types)

        return [one for one in _FIELDS.objects(self._asked(ask)) if one.get("status", "VALID") == "VALID"]

    def _quotes(self, instruments: Collection[str]) -> dict[str, Decimal]:
        """Latest prices of what Schwab quotes."""
        symbols = {symbol: name for name in instruments if (symbol := _SPELLING.spelled(name)) is not None}
        if not symbols:
            return {}
        told = self._asked(
            lambda client, _account: client.get_quotes(list(symbols), fields=[client.Quote.Fields.QUOTE])
        )
        prices = {symbol: _FIELDS.part_or_nothing(_FIELDS.part_or_nothing(told, symbol), "quote") for symbol in symbols}
        return {symbols[one]: _number(quote, "lastPrice") for one, quote in prices.items() if quote.get("lastPrice")}

    def _ex_session(self, payment: str, symbol: str, paid: date) -> date:
        """The ex-date of the dividend that was paid on a day, as Schwab's quotes tell it; else that day.

        Args:
            payment: Schwab's id of it: what its date was once is its date for good.
        """
        kept = self._kept_dates()
        if payment in kept:
            return kept[payment]
        asked = self._asked(
            lambda client, _account: client.get_quotes([symbol], fields=[client.Quote.Fields.FUNDAMENTAL])
        )
        told = _FIELDS.part_or_nothing(_FIELDS.part_or_nothing(asked, symbol), "fundamental")
        if str(told.get("divPayDate", ""))[:10] != paid.isoformat() or not told.get("divExDate"):
            return paid
        found = _FIELDS.day(_text(told, "divExDate"))
        recent = {one: day.isoformat() for one, day in kept.items() if day > paid - _KEPT}
        # Where nothing can be written no token is renewed either; until then the quotes are asked again.
        with suppress(OSError):
            _write(self._dates_file, {**recent, payment: found.isoformat()})
        return found

    @property
    def _dates_file(self) -> Path:
        return self.token_file.with_suffix(".dividends")

    def _kept_dates(self) -> dict[str, date]:
        """Ex-dates by payment."""
        try:
            return {str(one): date.fromisoformat(day) for one, day in json.loads(self._dates_file.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _entry(self, told: Mapping[str, Any]) -> Entry | None:
        """A movement that is no trade; None where nothing moved."""
        kind, cash = _text(told, "type"), _FIELDS.number_or_zero(told, "netAmount")
        items = [item for item in _FIELDS.parts(told, "transferItems") if not _is_money(item)]
        instrument = _instrument_of(items[0]) if items else None
        shares = _FIELDS.number_or_zero(items[0], "amount") if items else _NIL
        at, entry_id = _instant(_text(told, "time")), _text(told, "activityId")
        note = " ".join(str(part) for part in (kind, told.get("description")) if part)
        withheld = bool(_WITHHELD.search(str(told.get("description") or "")))
        if kind == "DIVIDEND_OR_INTEREST" and instrument is not None and cash and not withheld:
            ex_session = self._ex_session(entry_id, venue_symbol(instrument), at.date())
            on = self.sessions.open_utc(ex_session) if self.sessions.is_session(ex_session) else noon(ex_session)
            return Entry(entry_id, EntryKind.DIVIDEND, instrument, _NIL, cash, on, note)
        if kind in _CASH_FLOWS and instrument is None:
            flow = EntryKind.DEPOSIT if cash >= 0 else EntryKind.WITHDRAWAL
            return Entry(entry_id, flow, None, _NIL, cash, at, note)
        if kind == "DIVIDEND_OR_INTEREST" and cash:
            return Entry(entry_id, EntryKind.CHARGE, instrument, _NIL, cash, at, note)
        received = kind == "RECEIVE_AND_DELIVER"
        if received and instrument is not None and shares * cash < 0:
            # Paid out in cash: in our book the delisting, at its session's close.
            on = self.sessions.close_utc(at.date()) if self.sessions.is_session(at.date()) else at
            return Entry(entry_id, EntryKind.DELISTING, instrument, shares, cash, on, note)
        moved = shares if instrument is not None and (received or not cash) else _NIL
        # Journals, shares received: a person has to look.
        return Entry(entry_id, EntryKind.MANUAL, instrument, moved, cash, at, note) if cash or moved else None

    def _id_of(self, client_order_id: str) -> str | None:
        return next((theirs for theirs, ours in self.known().items() if ours == client_order_id), None)


# -- what may be sent --------------------------------------------------------------------------------------------------


def _require_sendable(request: OrderRequest) -> None:
    request.require_whole_shares(NAME)
    price = request.price
    places = 2 if price is None or price >= 1 else 4
    if price is not None and price != round(price, places):
        raise OrderRejectedError(
            f"schwab: {price} of {request.instrument}: prices have {places} decimal places; plan it again"
        )


def _instruction(request: OrderRequest, held: Decimal) -> str:
    """Schwab's word for the order, which depends on the position.

    Raises:
        OrderRejectedError: it would turn a long position into a short one, or the other way round.
    """
    side, quantity = request.side, request.quantity
    if side is Side.BUY:
        opens, closes, plain, other = held >= 0, held <= -quantity, "BUY", "BUY_TO_COVER"
    else:
        opens, closes, plain, other = held >= quantity, held <= 0, "SELL", "SELL_SHORT"
    if opens or closes:
        return plain if opens else other
    raise OrderRejectedError(
        f"schwab: {side.value} {quantity} {request.instrument} with {held} held goes through zero, which is two orders "
        "here; close the position first"
    )


def _message(request: OrderRequest, symbol: str, instruction: str) -> Any:
    """schwab-py's builder of the order."""
    from schwab.orders import common
    from schwab.orders.generic import OrderBuilder

    built = (
        OrderBuilder()
        .set_order_type(common.OrderType(_ORDER_TYPES[request.order_type]))
        .set_session(common.Session.NORMAL)
        .set_duration(common.Duration.DAY)
        .set_order_strategy_type(common.OrderStrategyType.SINGLE)
        .add_equity_leg(common.EquityInstruction(instruction), symbol, int(request.quantity))
    )
    if request.order_type is OrderType.LIMIT:
        built.set_price(f"{request.price:f}")
    if request.order_type is OrderType.STOP:
        built.set_stop_price(f"{request.price:f}")
    return built


def _is_alike(told: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether an order of Schwab's is of the instrument, instruction, quantity, type and prices that were sent."""
    (ours,), theirs = request["orderLegCollection"], _FIELDS.parts(told, "orderLegCollection")
    if len(theirs) != 1:
        return False
    leg = theirs[0]
    same = _text(_part(leg), "symbol"), leg.get("instruction"), told.get("orderType")
    if same != (ours["instrument"]["symbol"], ours["instruction"], request["orderType"]):
        return False
    priced = [name for name in ("price", "stopPrice") if name in request]
    return _number(leg, "quantity") == ours["quantity"] and all(
        _FIELDS.number_or_zero(told, name) == Decimal(request[name]) for name in priced
    )


# -- what was told -----------------------------------------------------------------------------------------------------


def _family(told: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """An order and those that it triggers or that cancel one another; a mere bracket of orders is none itself."""
    if told.get("orderLegCollection"):
        yield told
    children = told.get("childOrderStrategies") or []
    if isinstance(children, list):
        # Schwab's own example has a word where a child may stand.
        children = [child for child in children if not isinstance(child, str)]
    for child in _FIELDS.objects(children):
        yield from _family(child)


def _legs(told: Mapping[str, Any], client_ids: Mapping[str, str]) -> Iterator[BrokerOrder]:
    """An order of Schwab's, one for each of its legs.

    Raises:
        BrokerError: a field is missing or unreadable.
    """
    order_id, done = _text(told, "orderId"), _FIELDS.filled(told, "filledQuantity")
    state = order_state(_text(told, "status"), done)
    whole = _FIELDS.positive(told, "quantity")
    quiet = state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.FILLED)
    reason = "" if quiet else str(told.get("statusDescription") or told["status"])
    for leg in _FIELDS.parts(told, "orderLegCollection"):
        size = _FIELDS.positive(leg, "quantity")
        filled = done * size / whole
        yield BrokerOrder(
            client_ids.get(order_id, ""), order_id, _instrument_of(leg), _side(leg), size, state, filled, reason
        )


def _has_ended(told: Mapping[str, Any], now: datetime) -> bool:
    """Whether an order has ended, also where nobody knows its status: ``closeTime`` is told then, and ``cancelable`` is
    false (of every recorded order), and one for the day is over days later."""
    status = str(told.get("status"))
    if status in _ENDED or status in _STANDING:
        return status in _ENDED
    if told.get("closeTime") and told.get("cancelable") is False:
        return True
    return told.get("duration") == "DAY" and _instant(_text(told, "enteredTime")) < now - _DAY_IS_OVER


@dataclass(frozen=True)
class _Executed:
    """An execution with the fees that Schwab booked for it so far, in so many bookings."""

    fill: Fill
    bookings: int = 0

    def with_fees(self, fees: Decimal) -> _Executed:
        return _Executed(replace(self.fill, fees=self.fill.fees + fees), self.bookings + 1)


def _executions(
    told: Mapping[str, Any], client_ids: Mapping[str, str], booked: Iterable[_Charge]
) -> Iterator[_Executed]:
    """An order's executions, which bear no id: what was left of the order after each tells them apart.

    What somebody else did otherwise than buying or selling, as exchanging a fund for another, is none: positions then
    differ, and reconciliation halts for a person.
    """
    order_id, legs = _text(told, "orderId"), _FIELDS.parts(told, "orderLegCollection")
    by_id = {str(leg.get("legId")): leg for leg in legs}
    found: dict[str, Fill] = {}
    for activity in _FIELDS.parts(told, "orderActivityCollection"):
        if activity.get("activityType") != "EXECUTION":
            continue
        left = _number(activity, "orderRemainingQuantity").normalize()
        for number, part in enumerate(_FIELDS.parts(activity, "executionLegs")):
            leg = by_id.get(str(part.get("legId")), legs[0])
            if order_id not in client_ids and not _is_trade(leg):
                continue
            fill_id = f"{order_id}:{left:f}:{number}"
            found[fill_id] = Fill(
                fill_id, client_ids.get(order_id, ""), _instrument_of(leg), _side(leg),
                _FIELDS.positive(part, "quantity"), _FIELDS.positive(part, "price") * _multiplier(leg), _NIL,
                _instant(_text(part, "time")),
            )  # fmt: skip
    yield from _charged(sorted(found.values(), key=lambda fill: (fill.at, fill.fill_id)), booked)


@dataclass(frozen=True)
class _Charge:
    """The fees that Schwab booked for an execution, or for all of an order's."""

    quantity: Decimal
    price: Decimal
    fees: Decimal


def _charged(fills: Iterable[Fill], booked: Iterable[_Charge]) -> list[_Executed]:
    """Fills with their fees: those booked for an execution of that size and price, else those of the last one."""
    found = [_Executed(fill) for fill in fills]
    taken: set[int] = set()
    for charge in booked:
        same = (charge.quantity, charge.price)
        free = (n for n, one in enumerate(found) if n not in taken and (one.fill.quantity, one.fill.price) == same)
        at = next(free, len(found) - 1)
        if at >= 0:
            taken.add(at)
            found[at] = found[at].with_fees(charge.fees)
    return found


def _charges_by_order(told: Iterable[Mapping[str, Any]]) -> dict[str, list[_Charge]]:
    """Fees by Schwab's id of the order, in the order in which they were booked."""
    found: dict[str, list[_Charge]] = {}
    for one in sorted(told, key=lambda one: (_instant(_text(one, "time")), _number(one, "activityId"))):
        items = _FIELDS.parts(one, "transferItems")
        fees = -sum((_FIELDS.number_or_zero(item, "cost") for item in items if item.get("feeType")), _NIL)
        traded: Mapping[str, Any] = next(
            (item for item in items if not item.get("feeType") and not _is_money(item)), {}
        )
        size, price = abs(_FIELDS.number_or_zero(traded, "amount")), _FIELDS.number_or_zero(traded, "price")
        if fees and one.get("orderId"):
            charge = _Charge(size, price * _multiplier(traded), fees)
            found.setdefault(_text(one, "orderId"), []).append(charge)
    return found


def _cash(told: Mapping[str, Any]) -> Decimal:
    """An account's cash: ``cashBalance`` (of a cash account ``totalCash``), with those of the other balances that make
    up what the account is worth, together with the positions.

    Raises:
        BrokerError: there are other balances, and none of their sums makes that up, to half a cent for each amount, or
            more than one does.
    """
    balances = _FIELDS.part_or_nothing(told, "currentBalances")
    # A margin account's cash and a cash account's go by two names.
    name = "cashBalance" if balances.get("cashBalance") is not None else "totalCash"
    cash = _number(balances, name)
    beside = {one: amount for one in _BESIDE if (amount := _FIELDS.number_or_zero(balances, one))}
    if not beside:
        return cash
    if balances.get("liquidationValue") is not None:
        worth = _number(balances, "liquidationValue")
    else:
        worth = _number(_FIELDS.part_or_nothing(told, "aggregatedBalance"), "currentLiquidationValue")
    positions = [_FIELDS.number_or_zero(one, "marketValue") for one in _FIELDS.parts(told, "positions")]
    held, rounding = sum(positions, _NIL), _CENT / 2 * (len(positions) + 2)
    sums = {cash + sum(some) for size in range(len(beside) + 1) for some in combinations(beside.values(), size)}
    right = [one for one in sums if abs(one + held - worth) <= rounding]
    if len(right) != 1:
        amounts = ", ".join(f"{one} = {plain(amount)}" for one, amount in {name: cash, **beside}.items())
        raise BrokerError(
            f"schwab: what of {amounts} is cash is not clear: {len(right) or 'none'} of their sums and the positions' "
            f"{plain(held)} are liquidationValue = {plain(worth)}; ask again when prices stand still; if it stays so, "
            f"settle {', '.join(beside)} in the account until it is zero"
        )
    return right[0]


def _part(told: Mapping[str, Any]) -> Mapping[str, Any]:
    return _FIELDS.part_or_nothing(told, "instrument")


def _instrument_of(told: Mapping[str, Any]) -> str:
    return our_symbol(_text(_part(told), "symbol"))


def _is_money(told: Mapping[str, Any]) -> bool:
    return "CURRENCY" in (_part(told).get("assetType"), _part(told).get("type"))


def _multiplier(told: Mapping[str, Any]) -> Decimal:
    """Of a contract, so that its price is that of one contract: options are on a hundred shares."""
    return _HUNDRED if _part(told).get("assetType") == "OPTION" else Decimal(1)


def _is_trade(leg: Mapping[str, Any]) -> bool:
    return str(leg.get("instruction")).startswith(("BUY", "SELL"))


def _side(leg: Mapping[str, Any]) -> Side:
    instruction = _text(leg, "instruction")
    if not _is_trade(leg):
        raise BrokerError(f"schwab: the instruction {instruction!r} is not known; look at the order in the account")
    return Side.BUY if instruction.startswith("BUY") else Side.SELL


def _write(path: Path, told: Mapping[str, Any]) -> None:
    """Write a file in place of another, for its owner alone to read."""
    draft = path.with_suffix(f"{path.suffix}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR), "w") as file:
        json.dump(told, file)
    draft.replace(path)


def _read(response: Any) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise RequestFailedError(Failure(None, "the answer is no JSON", sent=True)) from error


def _answered(ask: Callable[[], Any]) -> Any:
    """Schwab's answer.

    Raises:
        RequestFailedError: it refused, or no whole answer came; it tells whether the request may have arrived.
    """
    from authlib.common.errors import AuthlibBaseError

    http = _http()
    unreached = (http.ConnectError, http.ConnectTimeout, http.PoolTimeout, http.ProxyError, http.UnsupportedProtocol)
    try:
        response = ask()
    except AuthlibBaseError as error:
        # The token is renewed before a request is sent.
        raise RequestFailedError(Failure(401, f"the login is not renewed ({error.error})", sent=False)) from error
    except http.HTTPStatusError as error:
        status = error.response.status_code
        raise RequestFailedError(Failure(status, f"HTTP {status} of its login server", sent=False)) from error
    except SourceUnavailableError as error:
        raise RequestFailedError(Failure(429, str(error), sent=True)) from error
    except (*unreached, http.InvalidURL) as error:
        failure = Failure(None, f"no connection ({type(error).__name__}); check the network", sent=False)
        raise RequestFailedError(failure) from error
    except http.HTTPError as error:
        failure = Failure(None, f"no answer ({type(error).__name__}); check the network", sent=True)
        raise RequestFailedError(failure) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        # The client takes some answers apart before it hands them over.
        raise RequestFailedError(Failure(None, "an answer that its client cannot read", sent=True)) from error
    if response.is_error:
        status, said = response.status_code, _said(response)
        words = said or "an answer that is not Schwab's (a gateway's page?)"
        raise RequestFailedError(Failure(status, f"HTTP {status}: {words}", sent=True, own=said is not None))
    return response


def _said(response: Any) -> str | None:
    """Schwab's own words in an error's body; None where it is not Schwab's."""
    try:
        told = response.json()
    except (ValueError, RecursionError):
        return None
    told = told if isinstance(told, dict) else {}
    several = told.get("errors")
    errors = [_words(one) for one in several] if isinstance(several, list) else []
    parts = [told.get("message"), told.get("error"), *errors]
    return ": ".join(part for part in parts if isinstance(part, str) and part)[:300] or None


def _words(error: Any) -> Any:
    """One of several errors: its text, or an object's detail or title."""
    return error.get("detail") or error.get("title") if isinstance(error, dict) else error


def _http() -> Any:
    """The library of requests that authlib, on which schwab-py is built, uses: httpx2, or httpx before it."""
    from authlib.integrations.httpx_client import OAuth2Client

    base = next(one for one in OAuth2Client.__mro__ if one.__name__ == "Client")
    return import_module(base.__module__.partition(".")[0])


@cache
def _trusted() -> Any:
    """The certificates that are trusted, read once: reading them takes longer than a request."""
    return _http().create_ssl_context()


@cache
def _session_class() -> Any:
    """authlib's session with our addresses, time-outs and patience: see `resources.sources.httpx_client`."""
    from authlib.integrations.httpx_client import OAuth2Client

    http = _http()
    passing = (http.TimeoutException, http.NetworkError, http.RemoteProtocolError, http.ProxyError)

    class PatientSession(OAuth2Client):  # type: ignore[misc]
        def __init__(self, access: Access, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._access, self._persistence = access, access.persistence(NAME)

        def send(self, request: Any, **options: Any) -> Any:
            request.url = http.URL(rebased(str(request.url), self._access.base_url))
            request.headers["Host"] = request.url.netloc.decode("ascii")
            request.extensions["timeout"] = http.Timeout(self._access.timeout_s).as_dict()
            return self._persistence.send(
                request.method, lambda: super(PatientSession, self).send(request, **options), passing
            )

    return PatientSession
