"""Alpaca: its trading API, through alpaca-py.

Belongs here: what Alpaca's answers mean to the order path. Does not: deciding when to send, or again.

What the venue gives: a client order id that must be unique in the account for ever (HTTP 422 "client_order_id must be
unique", also after the first order ended), so a second send of an order is refused, and the first one is looked up: the
guarantee is an idempotent key. Orders for an auction are market orders in whole shares with time in force ``opg`` (the
open) or ``cls`` (the close); they lapse by themselves. A trade that is broken or corrected is an activity of its own:
execution types ``trade_bust`` and ``trade_correct``, with the id of what it changes. Sources: Alpaca's documentation,
"Placing Orders", "Account Activities" and "Trade updates" (the events of these names), and the changelog of its
activity events of 2026-11-06 (their schema of a trade, ``execution_type``: fill, partial_fill, trade_correct,
trade_bust); the field names of its recorded answers. Of the list of activities that is read here only the types fill
and partial_fill are documented; a revision that came in another form (the changelog of the same day has a type CORR
that cannot be asked for) is an entry that our book lacks, and reconciliation halts for a person.

A bracket is one request: order class ``bracket`` (both exits) or ``oto`` (one), for day orders alone. Its exits come
back as ``legs`` with ids and client order ids of Alpaca's own making (alpacahq/Alpaca-API issue 115: it ignores ours),
so that a leg is told by the order it is nested in; a flat list does not name that. Legs are ``held`` until the entry
has filled completely, then the target is ``new`` and the stop ``held`` till it is triggered; a target that fills in
part takes as much off the stop; a leg or an entry that is cancelled takes the rest of the group with it ("Bracket
Orders", "OTO Orders" in the documentation). So an entry that fills in part and ends is left without exits.

alpaca-py sends a request again up to three times after HTTP 429 and 504, without a time limit, POSTs included: here it
sends each request once (`_client`), and what may be asked again (reads) is asked by our own patience.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from octopus.core.ids import CLIENT_ORDER_PREFIX, entry_order_id, exit_order_id
from octopus.core.orders import AccountSnapshot, Bracket, Exit, Fill, FillRevision, OpenOrder, OrderType, Side
from octopus.execution.book import Book, Entry, EntryKind
from octopus.execution.states import TERMINAL, OrderState
from resources.brokers.answers import (
    Failure,
    Fields,
    Held,
    RequestFailedError,
    VenueClock,
    asked,
    belonging_together,
    cancellable,
    counted,
    first_sent,
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
    Guarantee,
    OrderRequest,
    UncertainOutcomeError,
)
from resources.brokers.symbols import Spelling
from resources.sources.http import Access

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions

NAME = "alpaca"
PAPER_URL, LIVE_URL = "https://paper-api.alpaca.markets", "https://api.alpaca.markets"

_SPELLING = Spelling(NAME, ".")
venue_symbol, our_symbol = _SPELLING.theirs, _SPELLING.ours
_TIME_IN_FORCE = {OrderType.MARKET_ON_OPEN: "opg", OrderType.MARKET_ON_CLOSE: "cls"}
_DAY = "day"
"""Other orders lapse at the close."""
_PAGE = 100
_ORDERS_PAGE = 500
_AROUND = timedelta(days=14)
"""How far from its payable date a dividend may be processed: its interval is asked for by the latter."""
_OPTION = re.compile(r"[A-Z0-9]{1,6}\d{6}[CP]\d{8}")
"""Symbols of options (OCC): root, expiry, call or put, strike."""
_ENDED = {
    "filled": OrderState.FILLED,
    "canceled": OrderState.CANCELLED,
    "replaced": OrderState.REPLACED,
    "expired": OrderState.EXPIRED,
    "done_for_day": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}
_STANDING = frozenset(
    {
        "new", "accepted", "pending_new", "accepted_for_bidding", "held", "calculated", "stopped", "suspended",
        "pending_cancel", "pending_replace", "pending_review", "partially_filled",
    }
)  # fmt: skip
order_state = partial(state_of, NAME, _ENDED, _STANDING)
_DIVIDENDS = frozenset({"DIV", "DIVCGL", "DIVCGS", "DIVROC", "DIVTXEX"})
_CHARGES = frozenset(
    {
        "FEE", "CFEE", "INT", "INTNRA", "INTTW", "DIVFEE", "DIVFT", "DIVNRA", "DIVTW", "DIVWH", "WH", "PTC", "PTR"
    }
)  # fmt: skip
"""Fees, interest, and tax withheld from either ("Account Activities", Alpaca's documentation)."""
_MERGERS = frozenset({"MA", "REORG"})
_DEPOSITS = frozenset({"CSD", "CSW", "JNLC", "ACATC", "TRANS"})
_REVISED = {"trade_bust": "broken by Alpaca", "trade_correct": "corrected by Alpaca"}
"""Of a trade's activities the types that change an earlier one instead of adding to it."""
_AT_THE_OPEN = {"SSP": EntryKind.SPLIT, "SPLIT": EntryKind.SPLIT, "NC": EntryKind.SYMBOL_CHANGE}
"""Of a change of symbol Alpaca books the old name's shares away and the new one's in, as our book does."""


_FIELDS = Fields(NAME)
_text, _number, _instant = _FIELDS.text, _FIELDS.number, _FIELDS.instant


@dataclass(frozen=True)
class AlpacaBroker:
    """One account at Alpaca.

    Attributes:
        key, secret: of the account. paper: Alpaca's paper trading instead of its live one.
        account_name: what we call the account.
        sessions: the exchange's calendar, for when a corporate action took effect.
        access: where requests go and how long they may take; its patience is for reads alone.
        quotes: latest prices of instruments that are not held, by instrument; what it does not know stays out.
        now: what time it is.
    """

    key: str = field(repr=False)
    secret: str = field(repr=False)
    account_name: str
    sessions: Sessions
    paper: bool = True
    access: Access = field(default_factory=Access)
    quotes: Callable[[Collection[str]], Mapping[str, Decimal]] = lambda _names: {}
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    name: str = NAME
    guarantee: Guarantee = Guarantee.IDEMPOTENT_KEY
    keeps: timedelta | None = None
    _clock: VenueClock = field(default_factory=VenueClock, init=False, repr=False, compare=False)
    _ex_dates: dict[tuple[str, date], date] = field(default_factory=dict, init=False, repr=False, compare=False)

    def account(self) -> BrokerAccount:
        """As `Broker.account`."""
        told = self._read("/account")
        return BrokerAccount(self.account_name, _text(told, "account_number"), _text(told, "currency"), self.paper)

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        """As `Broker.snapshot`: cash, positions and open orders that belong together.

        Raises:
            BrokerError: Alpaca could not be asked, has blocked the account, an open order cannot be counted, or orders
                filled each time it was read.
        """
        taken = self.now()
        held, (standing, told) = belonging_together(
            NAME, self._positions, lambda: (self._single_orders(), self._read("/account"))
        )
        _require_tradable(told)
        positions, prices = shares_and_prices(held)
        bought = (our_symbol(str(one.get("symbol"))) for one in standing if _is_for_money(one))
        wanted = [name for name in dict.fromkeys((*quoted, *bought)) if name not in prices]
        prices |= self.quotes(wanted) if wanted else {}
        names = self._names(standing)
        orders = counted(NAME, standing, "id", lambda one: [_order(one, names, prices)])
        return AccountSnapshot(self.account_name, taken, _number(told, "cash"), positions, prices, orders)

    def submit(self, request: OrderRequest) -> BrokerOrder:
        """As `Broker.submit`. Sent once; a second send under the same id gives the first order."""
        return self._send(request, None)

    @property
    def exits_are_messages(self) -> bool:
        """As `BracketBroker.exits_are_messages`: all go in one request."""
        return False

    def submit_bracket(self, entry: OrderRequest, bracket: Bracket) -> BrokerOrder:
        """As `BracketBroker.submit_bracket`, of a market or limit order for the day."""
        entry.require_entry_type(NAME, (OrderType.MARKET, OrderType.LIMIT))
        return self._send(entry, bracket)

    def _send(self, request: OrderRequest, bracket: Bracket | None) -> BrokerOrder:
        request.require_whole_shares(NAME)
        request.require_in_time(NAME, self.now(), self._clock.ahead)
        message = _message(request, bracket)
        try:
            with self._client() as client:
                told = _asked(lambda: client.submit_order(message))
        except RequestFailedError as error:
            return self._not_accepted(error.failure, request)
        try:
            stands = _order(told)
        except BrokerError as error:
            # It was accepted, whatever else the answer says.
            raise UncertainOutcomeError(str(error)) from error
        if not stands.is_of(request):
            raise UncertainOutcomeError(
                f"alpaca: the answer to {request.client_order_id} is of another order; look it up"
            )
        return stands

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        """As `Broker.order`; an exit is looked up in its entry."""
        entry = entry_order_id(client_order_id)
        return self._own_order(client_order_id) if entry is None else self._leg(entry, client_order_id)

    def _leg(self, entry: str, client_order_id: str) -> BrokerOrder | None:
        """One of the exits nested in the order ``entry``; None where it has no such exit."""
        parent = self._own_order(entry)
        if parent is None:
            return None
        told = _FIELDS.object(self._read(f"/orders/{parent.broker_order_id}", {"nested": "true"}))
        # A leg that another one has replaced says nothing of it any more.
        by_age = sorted(_legs(told), key=lambda leg: leg.get("status") != "replaced")
        legs = {_leg_id(entry, leg): leg for leg in by_age}
        found = legs.get(client_order_id)
        return None if found is None else replace(_order(found), client_order_id=client_order_id)

    def _own_order(self, client_order_id: str) -> BrokerOrder | None:
        with self._client() as client:
            try:
                found = _order(_asked(lambda: client.get_order_by_client_id(client_order_id)))
            except RequestFailedError as error:
                if error.failure.status == 404 and error.failure.own:
                    return None
                raise not_told(NAME, error.failure) from error
        if found.client_order_id != client_order_id:
            raise BrokerError(f"alpaca: asked for {client_order_id} it told of {found.client_order_id}; ask again")
        return found

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """As `ListsOpenOrders.open_orders`; of others' orders those that tell shares of one symbol."""
        standing = self._standing()
        names = self._names(standing)
        return cancellable(standing, lambda one: [_order(one, names)], lambda one: _our_id(one, names))

    def cancel(self, client_order_id: str) -> None:
        """As `Broker.cancel`."""
        found = self.order(client_order_id)
        if found is None:
            raise not_there(NAME, client_order_id)
        with self._client() as client:
            try:
                _asked(lambda: client.cancel_order_by_id(found.broker_order_id))
            except RequestFailedError as error:
                if error.failure.status not in (404, 422) or not error.failure.own:
                    raise not_told(NAME, error.failure) from error
                # It ended meanwhile, or is about to.
                after = _FIELDS.object(self._read(f"/orders/{found.broker_order_id}"))
                if _order(after).state not in TERMINAL and after.get("status") != "pending_cancel":
                    raise BrokerError(
                        f"alpaca: {client_order_id} is not cancelled: {error.failure.message}; try again"
                    ) from error

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        """As `Broker.fills`; a fill that Alpaca tells twice is one, a broken one is none."""
        fills, revisions = self._trades(since)
        counting = {fill.fill_id: fill for fill in fills}
        for one in revisions:
            if (fill := counting.get(one.fill_id)) is not None:
                counting[one.fill_id] = replace(fill, quantity=one.quantity, price=one.price)
        return in_order((fill for fill in counting.values() if fill.quantity), since)

    def revisions(self, since: datetime | None = None) -> tuple[FillRevision, ...]:
        """As `RevisingBroker.revisions`, of the trades that Alpaca's activities tell as broken or corrected."""
        return tuple(one for one in self._trades(since)[1] if since is None or one.at >= since)

    def statement(self, since: datetime | None = None) -> Book:
        """As `Broker.statement`. A dividend is booked by Alpaca on the day it is paid, and dated here to its ex-session
        where its corporate actions tell it."""
        snapshot = self.snapshot()
        told = [one for one in self._activities(None, since) if one.get("activity_type") != "FILL"]
        entries = [entry for one in told if (entry := self._entry(one)) is not None]
        return statement_of(snapshot, self.fills(since), entries, since)

    def average_costs(self) -> Mapping[str, Decimal]:
        """As `TellingCosts.average_costs`."""
        told = _FIELDS.objects(self._read("/positions"))
        return {our_symbol(_text(one, "symbol")): _number(one, "avg_entry_price") * _multiplier(one) for one in told}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _trades(self, since: datetime | None) -> tuple[list[Fill], list[FillRevision]]:
        """Fills as they were first told, and what was changed of them since, oldest first."""
        told = {_text(one, "id"): one for one in self._activities("FILL", since)}
        ids = self._client_ids({_text(one, "order_id") for one in told.values()}, since)
        first = {key: one for key, one in told.items() if str(one.get("type")) not in _REVISED}
        root, revisions, counts = {key: key for key in first}, [], Counter[str]()
        for key in sorted(told.keys() - first.keys()):
            one = told[key]
            of = _changed_by(one, first, root)
            if of is not None:
                root[key] = of
                counts[of] += 1
                revisions.append(_revision(one, of, counts[of], ids))
        return [_fill(one, ids) for one in first.values()], revisions

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """alpaca-py's client of the trading API."""
        from alpaca.trading.client import TradingClient

        base = self.access.base_url or (PAPER_URL if self.paper else LIVE_URL)
        client = TradingClient(self.key, self.secret, paper=self.paper, raw_data=True, url_override=base)
        with self._session(client) as session:
            session.hooks["response"].append(lambda told, **_: self._clock.heard(told.headers.get("Date"), self.now()))
            yield client

    @contextmanager
    def _data_client(self) -> Iterator[Any]:
        """alpaca-py's client of the corporate actions of the market data API."""
        from alpaca.data.historical.corporate_actions import CorporateActionsClient

        client = CorporateActionsClient(self.key, self.secret, raw_data=True, url_override=self.access.base_url)
        with self._session(client):
            yield client

    @contextmanager
    def _session(self, client: Any) -> Iterator[Any]:
        """A session of ours under a client, which alone decides what is sent again."""
        # The URL is given to the client itself, so that the session rewrites nothing. Its patience never sends a POST
        # or a DELETE again.
        with replace(self.access, base_url=None).session(NAME) as session:
            client._session = session
            client._retry = 0
            yield session

    def _read(self, path: str, parameters: Mapping[str, object] | None = None, *, data: bool = False) -> Any:
        """What an API tells; ``data``: the market data API."""
        with self._data_client() if data else self._client() as client:
            try:
                return _asked(lambda: client.get(path, dict(parameters or {})))
            except RequestFailedError as error:
                raise not_told(NAME, error.failure) from error

    def _not_accepted(self, failure: Failure, request: OrderRequest) -> BrokerOrder:
        """What a send that brought no order came to."""
        if failure.status == 422 and "client_order_id" in failure.message and "unique" in failure.message:
            return first_sent(NAME, request, self.order, f"{request.client_order_id} is taken and not found")
        raise not_accepted(NAME, failure, barred=(401,), refused=(400, 403, 404, 422))

    def _positions(self) -> dict[str, Held]:
        """Positions by instrument."""
        found = {}
        for told in _FIELDS.objects(self._read("/positions")):
            size = abs(_number(told, "qty"))
            shares = -size if _text(told, "side") == "short" else size
            price = _number(told, "current_price") if told.get("current_price") is not None else None
            marked = None if price is None else price * _multiplier(told)
            found[our_symbol(_text(told, "symbol"))] = Held(shares, marked)
        return found

    def _standing(self) -> list[Mapping[str, Any]]:
        """Orders that may execute, as they are listed."""
        return [one for one in self._orders({"status": "open"}) if _is_ours(one) or one.get("status") != "held"]

    def _single_orders(self) -> list[Mapping[str, Any]]:
        """Orders that may execute, with the legs of an order of several symbols (``mleg``) in its place."""
        found: dict[str, Mapping[str, Any]] = {}
        for one in self._standing():
            legs = [] if one.get("symbol") else self._combined(one)
            found |= {_text(leg, "id"): leg for leg in legs or [one]}
        return list(found.values())

    def _combined(self, told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The legs of an order of several symbols, which bear no state of their own while it stands."""
        nested = told if told.get("legs") else self._read(f"/orders/{_text(told, 'id')}", {"nested": "true"})
        return [{**leg, "status": told.get("status")} for leg in _legs(_FIELDS.object(nested))]

    def _names(self, told: Collection[Mapping[str, Any]]) -> dict[str, str]:
        """Our ids of exits, which are listed under names of Alpaca's own, by Alpaca's ids."""
        strangers = {_text(one, "id") for one in told if not _is_ours(one)}
        return self._nested_ids(strangers, self.now()) if strangers else {}

    def _orders(self, wanted: Mapping[str, object]) -> Iterator[Mapping[str, Any]]:
        """Orders from the newest, page by page; of nested ones a page's length says nothing."""
        until: str | None = None
        seen: set[str] = set()
        while True:
            asked_for = {**wanted, "limit": _ORDERS_PAGE} | ({"until": until} if until else {})
            page = _FIELDS.objects(self._read("/orders", asked_for))
            fresh = [one for one in page if _text(one, "id") not in seen]
            yield from fresh
            seen |= {_text(one, "id") for one in fresh}
            if (len(page) < _ORDERS_PAGE and "nested" not in wanted) or not fresh:
                return
            until = _text(page[-1], "submitted_at")

    def _client_ids(self, order_ids: set[str], since: datetime | None) -> dict[str, str]:
        """Our ids of Alpaca's orders: activities name Alpaca's alone."""
        found = self._nested_ids(order_ids, since)
        for order_id in sorted(order_ids - found.keys()):
            found[order_id] = _text(self._read(f"/orders/{order_id}"), "client_order_id")
        return found

    def _nested_ids(self, order_ids: Collection[str], since: datetime | None) -> dict[str, str]:
        """Our ids of those of Alpaca's orders that it lists, exits by the entries that they are nested in."""
        left, found = set(order_ids), dict[str, str]()
        after = {} if since is None else {"after": (since - timedelta(days=5)).isoformat()}
        for told in self._orders({"status": "all", "nested": "true", **after}) if left else ():
            own = str(told.get("client_order_id") or "")
            group = {_text(told, "id"): own} | {_text(leg, "id"): _leg_id(own, leg) for leg in _legs(told)}
            found |= {order_id: name for order_id, name in group.items() if order_id in left}
            left -= group.keys()
            if not left:
                break
        return found

    def _activities(self, kind: str | None, since: datetime | None) -> Iterator[Mapping[str, Any]]:
        """Activities from the oldest, page by page; from a day before ``since``, as some bear only a date."""
        wanted: dict[str, object] = {"direction": "asc", "page_size": _PAGE}
        if kind is not None:
            wanted["activity_types"] = kind
        if since is not None:
            wanted["after"] = (since - timedelta(days=1)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        seen: set[str] = set()
        while True:
            page = _FIELDS.objects(self._read("/account/activities", wanted))
            fresh = [one for one in page if _text(one, "id") not in seen]
            yield from fresh
            seen |= {_text(one, "id") for one in fresh}
            if len(page) < _PAGE or not fresh:
                return
            wanted["page_token"] = _text(page[-1], "id")

    def _entry(self, told: Mapping[str, Any]) -> Entry | None:
        """A movement that is no fill; None where Alpaca has not executed it, or has taken it back."""
        if told.get("status") in ("canceled", "pending"):
            return None
        kind, symbol = _text(told, "activity_type"), _text(told, "symbol") if told.get("symbol") else None
        cash, shares = _FIELDS.number_or_zero(told, "net_amount"), _FIELDS.number_or_zero(told, "qty")
        paid = _FIELDS.day(_text(told, "date"))
        note = " ".join(str(part) for part in (kind, told.get("description")) if part)
        instrument = our_symbol(symbol) if symbol else None
        if kind in _DIVIDENDS and instrument:
            ex_session = self._ex_session(symbol or instrument, paid) or paid
            at = self.sessions.open_utc(ex_session) if self.sessions.is_session(ex_session) else noon(ex_session)
            return Entry(_text(told, "id"), EntryKind.DIVIDEND, instrument, Decimal(0), cash, at, note)
        if kind in _AT_THE_OPEN and instrument:
            at = self.sessions.open_utc(paid) if self.sessions.is_session(paid) else noon(paid)
            return Entry(_text(told, "id"), _AT_THE_OPEN[kind], instrument, shares, cash, at, note)
        if kind in _DEPOSITS and not instrument:
            flow = EntryKind.DEPOSIT if cash >= 0 else EntryKind.WITHDRAWAL
            return Entry(_text(told, "id"), flow, None, Decimal(0), cash, noon(paid), note)
        if kind in _CHARGES and (cash or not shares):
            # Of what was charged or withheld the shares are those it was counted by; a fee in coins takes them.
            return Entry(_text(told, "id"), EntryKind.CHARGE, instrument, Decimal(0), cash, noon(paid), note)
        if kind in _MERGERS and instrument and shares * cash < 0:
            # Paid out in cash: in our book the delisting, at its session's close.
            at = self.sessions.close_utc(paid) if self.sessions.is_session(paid) else noon(paid)
            return Entry(_text(told, "id"), EntryKind.DELISTING, instrument, shares, cash, at, note)
        # Transfers of shares, other mergers, cash in lieu: a person has to look.
        moved = shares if instrument and (kind in _MERGERS or not cash) else Decimal(0)
        return Entry(_text(told, "id"), EntryKind.MANUAL, instrument, moved, cash, noon(paid), note)

    def _ex_session(self, symbol: str, paid: date) -> date | None:
        """The ex-date of the dividend that was paid on a day; None where Alpaca tells of none.

        Books match dividends by this date, so that one cannot be dated otherwise for once: where neither of Alpaca's
        lists can be read, that is an error.
        """
        if (symbol, paid) not in self._ex_dates:
            try:
                told = self._dividends(symbol, paid)
            except BrokerError:
                told = self._announcements(symbol, paid)
            for one in told:
                if one.get("payable_date") == paid.isoformat() and one.get("ex_date"):
                    self._ex_dates[symbol, paid] = _FIELDS.day(_text(one, "ex_date"))
        return self._ex_dates.get((symbol, paid))

    def _dividends(self, symbol: str, paid: date) -> list[Mapping[str, Any]]:
        """Cash dividends processed around a day ("Corporate actions", Alpaca's market data API)."""
        around = {"start": (paid - _AROUND).isoformat(), "end": (paid + _AROUND).isoformat()}
        told = self._read("/corporate-actions", {"symbols": symbol, "types": "cash_dividend", **around}, data=True)
        return _FIELDS.parts(_FIELDS.part(told, "corporate_actions"), "cash_dividends")

    def _announcements(self, symbol: str, paid: date) -> list[Mapping[str, Any]]:
        """Dividends payable on a day by the trading API, whose list alpaca-py calls deprecated, and which needs no
        market data."""
        wanted = {
            "ca_types": "dividend", "symbol": symbol, "date_type": "payable_date",
            "since": paid.isoformat(), "until": paid.isoformat(),
        }  # fmt: skip
        return _FIELDS.objects(self._read("/corporate_actions/announcements", wanted))


def _message(request: OrderRequest, bracket: Bracket | None) -> Any:
    """alpaca-py's request for an order, with its exits if it has a bracket."""
    from alpaca.trading.enums import OrderSide, TimeInForce
    from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest, StopOrderRequest

    terms: dict[str, Any] = {
        "symbol": venue_symbol(request.instrument), "qty": float(request.quantity),
        "side": OrderSide(request.side.value), "client_order_id": request.client_order_id,
        "time_in_force": TimeInForce(_TIME_IN_FORCE.get(request.order_type, _DAY)),
    }  # fmt: skip
    if bracket is not None:
        terms |= _exit_terms(bracket)
    if request.order_type is OrderType.LIMIT:
        return LimitOrderRequest(**terms, limit_price=float(request.price or 0))
    if request.order_type is OrderType.STOP:
        return StopOrderRequest(**terms, stop_price=float(request.price or 0))
    return MarketOrderRequest(**terms)


def _exit_terms(bracket: Bracket) -> dict[str, Any]:
    from alpaca.trading.enums import OrderClass
    from alpaca.trading.requests import StopLossRequest, TakeProfitRequest

    terms: dict[str, Any] = {"order_class": OrderClass.BRACKET if len(bracket.exits) == len(Exit) else OrderClass.OTO}
    if bracket.stop is not None:
        terms["stop_loss"] = StopLossRequest(stop_price=float(bracket.stop))
    if bracket.target is not None:
        terms["take_profit"] = TakeProfitRequest(limit_price=float(bracket.target))
    return terms


def _legs(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What is nested in an order."""
    return _FIELDS.objects(told.get("legs") or [])


def _leg_id(entry: str, leg: Mapping[str, Any]) -> str:
    """Our id of an exit; a leg of a person's own order keeps Alpaca's."""
    if not entry.startswith(CLIENT_ORDER_PREFIX):
        return str(leg.get("client_order_id") or "")
    return exit_order_id(entry, (Exit.TARGET if _text(leg, "type") == "limit" else Exit.STOP).value)


def _is_ours(told: Mapping[str, Any]) -> bool:
    return str(told.get("client_order_id") or "").startswith(CLIENT_ORDER_PREFIX)


def _our_id(told: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Our id of an order that is listed; empty where it is not ours."""
    name = names.get(str(told.get("id"))) or str(told.get("client_order_id") or "")
    return name if name.startswith(CLIENT_ORDER_PREFIX) else ""


def _is_for_money(told: Mapping[str, Any]) -> bool:
    """Whether a person's order is for an amount of money instead of shares."""
    return told.get("qty") is None and told.get("notional") is not None


def _multiplier(told: Mapping[str, Any]) -> Decimal:
    """Of a contract, so that its price is that of one contract: options are quoted for one of a hundred shares.
    Activities tell no class of asset."""
    is_option = told.get("asset_class") == "us_option" or _OPTION.fullmatch(str(told.get("symbol")))
    return Decimal(100 if is_option else 1)


def _require_tradable(answer: Any) -> None:
    told = _FIELDS.object(answer)
    blocked = [name for name in ("account_blocked", "trading_blocked", "trade_suspended_by_user") if told.get(name)]
    if blocked or told.get("status") != "ACTIVE":
        why = ", ".join(blocked) or f"status {told.get('status')}"
        raise BrokerError(f"alpaca: the account cannot trade: {why}; settle that with Alpaca")


def _asked(ask: Callable[[], Any]) -> Any:
    """As `answers.asked`, of alpaca-py."""
    from alpaca.common.exceptions import APIError

    return asked(ask, (APIError,), _refusal)


def _refusal(error: Any) -> Failure:
    said = _said(str(error))
    words = said or "an answer that is not Alpaca's (a gateway's page?)"
    return Failure(error.status_code, f"HTTP {error.status_code}: {words}", sent=True, own=said is not None)


def _said(body: str) -> str | None:
    """Alpaca's own words in an error's body; None where it is not Alpaca's."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    message = told.get("message") if isinstance(told, dict) else None
    return message[:300] if isinstance(message, str) and message else None


_NOTHING: Mapping[str, Any] = {}


def _order(told: Any, names: Mapping[str, str] = _NOTHING, prices: Mapping[str, Decimal] = _NOTHING) -> BrokerOrder:
    """An order of Alpaca's.

    Args:
        names: our ids of exits, by Alpaca's. prices: by which an order for an amount of money is counted.

    Raises:
        BrokerError: a field is missing or unreadable.
    """
    status, filled = _text(told, "status"), _FIELDS.filled(told, "filled_qty")
    state, order_id = order_state(status, filled), _text(told, "id")
    quantity = filled if _is_for_money(told) and state in TERMINAL else _ordered(told, filled, prices)
    reason = "" if state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.FILLED) else status
    if told.get("replaced_by"):
        reason = f"replaced by {told['replaced_by']}"
    return BrokerOrder(
        names.get(order_id) or _text(told, "client_order_id"), order_id, our_symbol(_text(told, "symbol")),
        _side(told), quantity, state, filled, reason,
    )  # fmt: skip


def _ordered(told: Mapping[str, Any], filled: Decimal, prices: Mapping[str, Decimal]) -> Decimal:
    """How many shares an order is for: of one for an amount of money (``notional``) what it has filled, and whole
    shares for the rest of the money."""
    if not _is_for_money(told):
        return _FIELDS.positive(told, "qty")
    instrument = our_symbol(_text(told, "symbol"))
    price = prices.get(instrument)
    if not price:
        raise BrokerError(f"it is for an amount of money and has not ended, and {instrument} has no price")
    left = _FIELDS.positive(told, "notional") - filled * _FIELDS.number_or_zero(told, "filled_avg_price")
    return filled + max(left / price, Decimal(0)).to_integral_value(ROUND_CEILING)


def _side(told: Mapping[str, Any]) -> Side:
    """Alpaca tells a short sale apart from another one in its activities."""
    text = _text(told, "side")
    if text in ("buy", "sell", "sell_short"):
        return Side.BUY if text == "buy" else Side.SELL
    raise BrokerError(f"alpaca: side {text[:40]!r} is not known; update the adapter")


def _changed_by(told: Mapping[str, Any], fills: Mapping[str, Mapping[str, Any]], root: Mapping[str, str]) -> str | None:
    """The fill that an activity breaks or corrects, by the id it names, else the one fill like it of its order; None
    where that is not clear: then positions differ, and reconciliation halts for a person."""
    if told.get("previous_id"):
        named = _text(told, "previous_id")
        return root.get(named, named)
    like = [
        key for key, one in fills.items()
        if one.get("order_id") == told.get("order_id") and _number(one, "qty") == _FIELDS.number_or_zero(told, "qty")
    ]  # fmt: skip
    return like[0] if len(like) == 1 else None


def _revision(told: Mapping[str, Any], fill_id: str, number: int, client_ids: Mapping[str, str]) -> FillRevision:
    if told.get("type") == "trade_bust":
        # Of a trade that is broken its own amounts say nothing.
        quantity, price = Decimal(0), max(_FIELDS.number_or_zero(told, "price"), Decimal(0))
    else:
        quantity, price = _FIELDS.positive(told, "qty"), _FIELDS.positive(told, "price")
    return FillRevision(
        fill_id, number, client_ids[_text(told, "order_id")], quantity, price * _multiplier(told), Decimal(0),
        _instant(_text(told, "transaction_time")), str(told.get("reason") or _REVISED[str(told.get("type"))]),
    )  # fmt: skip


def _fill(told: Mapping[str, Any], client_ids: Mapping[str, str]) -> Fill:
    # Alpaca charges no commission on stocks; its other fees come as activities of their own.
    return Fill(
        _text(told, "id"), client_ids[_text(told, "order_id")], our_symbol(_text(told, "symbol")), _side(told),
        _FIELDS.positive(told, "qty"), _FIELDS.positive(told, "price") * _multiplier(told), Decimal(0),
        _instant(_text(told, "transaction_time")),
    )  # fmt: skip
