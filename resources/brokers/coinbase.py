"""Coinbase: its Advanced Trade API, spot products in one quote currency, through coinbase-advanced-py.

Belongs here: what Coinbase's answers mean to the order path. Does not: deciding when to send, or again.

What the venue gives: a client order id; where it is not unique, no order is created and the order under that id is
returned (documentation of "Create Order"): the guarantee is an idempotent key. The answer's product, side and size are
compared with what was sent, for the order under the id may be another's.

What it has not: auctions, a close, a plain stop (its stops become limit orders) and short sales. A market order lives
for an instant, so that an order for the close of a 24-hour day is a market order within the day's last hour, and is
refused before; where the exchange of the universe is not 24/7, orders for its open and close are refused.

An account is a portfolio: wallets by currency. What lies in the quote currency is cash, every other wallet a position.
Money and coins that came and went are told by the older API (``/v2/accounts/…/transactions``) under the same key.
Coinbase tells coins with up to 18 decimals, and commissions with as many; a ledger keeps 8 (`QUANTITY_STEP`). So every
amount is cut to that step here, wallets as well: never more coins are told than are there to be sold. An amount depends
on its own record alone, and stays the same whenever it is read; what is cut off several rewards adds up in the wallet
to a step now and then, of which there is no record: `trading.reconciliation.share_tolerance`
says how much of that is no break.

Coinbase's sandbox answers every request with one canned text, so that nothing can be traded there: every account here
is a live one, and Octopus's own paper broker is for paper trading.

A request is signed with the key for two minutes from the second at which this computer's clock says it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

from octopus.core.amounts import plain
from octopus.core.errors import ConfigError
from octopus.core.orders import AccountSnapshot, Fill, OpenOrder, OrderType
from octopus.execution.book import QUANTITY_STEP, Book, Entry, EntryKind
from octopus.execution.states import TERMINAL, OrderState
from octopus.execution.window import LEAD
from resources.brokers.answers import (
    Failure,
    Fields,
    RequestFailedError,
    VenueClock,
    asked,
    belonging_together,
    first_sent,
    in_order,
    not_accepted,
    not_there,
    not_told,
    state_of,
    statement_of,
    still_open,
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
from resources.sources.http import Access

NAME = "coinbase"
KEY_VARIABLE, SECRET_VARIABLE = "COINBASE_API_KEY", "COINBASE_API_SECRET"

_PAGE = 100
_WALLETS_PAGE = 250
_IDS = 50
_SPOT = "SPOT"
_ENDED = {
    "FILLED": OrderState.FILLED,
    "CANCELLED": OrderState.CANCELLED,
    "EXPIRED": OrderState.EXPIRED,
    "FAILED": OrderState.REJECTED,
}
_OPEN = "OPEN"
_QUEUED = ("PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED")
"""States before and after OPEN in which an order may still fill."""
_MOST_OPEN = 1000
"""Open orders that Coinbase tells of at most ("List Orders")."""
order_state = partial(state_of, NAME, _ENDED, (_OPEN, *_QUEUED))
_UNKNOWN_FAILURES = frozenset({"", "UNKNOWN_FAILURE_REASON", "UNKNOWN"})
_CASH_FLOWS = frozenset(
    {
        "fiat_deposit", "fiat_withdrawal", "exchange_deposit", "exchange_withdrawal", "pro_deposit", "pro_withdrawal",
        "transfer", "wire_deposit", "wire_withdrawal",
    }
)  # fmt: skip
_OF_FILLS = frozenset({"advanced_trade_fill", "trade_fill"})
"""Transactions that are the other face of a fill."""

_FIELDS = Fields(NAME)
_text, _number, _part, _instant = _FIELDS.text, _FIELDS.number, _FIELDS.part, _FIELDS.instant


@dataclass(frozen=True)
class Increments:
    """The steps of a product's sizes and prices, and its smallest and largest size."""

    size: Decimal
    price: Decimal
    least: Decimal
    most: Decimal


@dataclass(frozen=True)
class CoinbaseBroker:
    """One portfolio at Coinbase.

    Attributes:
        key, secret: name of the API key (``organizations/…/apiKeys/…``) and its private key, a PEM.
        account_name: what we call the account.
        quote: the currency of the account.
        universe: names of our instruments: a coin is ``BTC``, or ``BTC-USD`` where that is in here.
        access: where requests go and how long they may take; its patience is for reads alone.
        now: what time it is.
    """

    key: str = field(repr=False)
    secret: str = field(repr=False)
    account_name: str
    quote: str = "USD"
    universe: Collection[str] = ()
    access: Access = field(default_factory=Access)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    name: str = NAME
    guarantee: Guarantee = Guarantee.IDEMPOTENT_KEY
    keeps: timedelta | None = None
    _known: dict[str, Increments] = field(default_factory=dict, init=False, repr=False, compare=False)
    _clock: VenueClock = field(default_factory=VenueClock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        twice = sorted(name for name in self.universe if f"{name}-{self.quote}" in self.universe)
        if twice:
            raise ConfigError(
                where="config/universe.yaml", field="universe.symbols", value=twice[0],
                remedy=f"it is {twice[0]}-{self.quote} too: keep one of the two names",
            )  # fmt: skip

    def account(self) -> BrokerAccount:
        """As `Broker.account`; the number is the portfolio's id, and no account is a paper one."""
        told = self._permissions()
        return BrokerAccount(self.account_name, _text(told, "portfolio_uuid"), self.quote, is_paper=False)

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        """As `Broker.snapshot`: cash, positions and open orders that belong together.

        Raises:
            BrokerError: Coinbase could not be asked, the key may not trade, or orders filled each time it was read.
        """
        taken = self.now()
        if not self._permissions().get("can_trade"):
            raise BrokerError(f"coinbase: the key may not trade; give {KEY_VARIABLE} the permission to trade")
        held, orders = belonging_together(NAME, self._wallets, self._all_open_orders)
        cash = held.pop(self.quote, Decimal(0))
        positions = {self._instrument(currency): amount for currency, amount in held.items() if amount}
        listed = self._prices()
        prices = {name: price for name in {*positions, *quoted} if (price := listed.get(self._listed_as(name)))}
        return AccountSnapshot(self.account_name, taken, cash, positions, prices, still_open(orders))

    def submit(self, request: OrderRequest) -> BrokerOrder:
        """As `Broker.submit`. Sent once; a second send under the same id gives the first order."""
        product = self.product(request.instrument)
        self._require_type(request)
        try:
            self._require_steps(product, request.quantity, request.price)
        except ConfigError as error:
            raise BrokerUnavailableError(f"coinbase: not sent: {error}") from error
        request.require_in_time(NAME, self.now(), self._clock.ahead)
        terms = (request.client_order_id, product, request.side.name)
        size = {"base_size": f"{request.quantity.normalize():f}"}
        with self._client() as client:
            try:
                if request.price is None:
                    told = _asked(lambda: client.market_order(*terms, **size))
                else:
                    limit, until = f"{request.price.normalize():f}", _stamp(request.expires_at)
                    told = _asked(lambda: client.limit_order_gtd(*terms, **size, limit_price=limit, end_time=until))
            except RequestFailedError as error:
                raise not_accepted(NAME, error.failure) from error
        try:
            return self._accepted(told, request)
        except (OrderRejectedError, UncertainOutcomeError):
            raise
        except BrokerError as error:
            # It was answered, and may have been accepted, whatever else the answer says.
            raise UncertainOutcomeError(str(error)) from error

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        """As `Broker.order`: by Coinbase's id where we have it, else through the list of orders, from the newest."""
        if broker_order_id is not None:
            with self._client() as client:
                try:
                    found = self._order(_part(_asked(lambda: client.get_order(broker_order_id)), "order"))
                except RequestFailedError as error:
                    if error.failure.status == 404 and error.failure.own:
                        return None
                    raise not_told(NAME, error.failure) from error
            if found.broker_order_id != broker_order_id:
                raise BrokerError(
                    f"coinbase: asked for order {broker_order_id} it told of {found.broker_order_id}; ask again"
                )
            return found
        for told in self._orders():
            if told.get("client_order_id") == client_order_id:
                return self._order(told)
        return None

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """As `ListsOpenOrders.open_orders`, whatever else the key may do; the first of more than Coinbase tells."""
        return still_open(self._open_orders())

    def cancel(self, client_order_id: str) -> None:
        """As `Broker.cancel`."""
        found = self.order(client_order_id)
        if found is None:
            raise not_there(NAME, client_order_id)
        if found.state in TERMINAL:
            return
        with self._client() as client:
            try:
                told = _asked(lambda: client.cancel_orders([found.broker_order_id]))
            except RequestFailedError as error:
                raise not_told(NAME, error.failure) from error
        for result in _FIELDS.parts(told, "results"):
            reason = str(result.get("failure_reason") or "no reason given")
            if result.get("success") or reason == "DUPLICATE_CANCEL_REQUEST":
                continue
            # It may have ended meanwhile.
            after = self.order(client_order_id, found.broker_order_id)
            if after is not None and after.state not in TERMINAL:
                raise BrokerError(f"coinbase: {client_order_id} is not cancelled: {reason}; try again")

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        """As `Broker.fills`; a fill that Coinbase tells twice is one."""
        told = [one for one in self._executions(since) if self._is_fill(one)]
        ids = self._client_ids({_text(one, "order_id") for one in told})
        # One of less than a step moves nothing that a ledger keeps.
        return in_order((fill for one in told if (fill := self._fill(one, ids)).quantity), since)

    def statement(self, since: datetime | None = None) -> Book:
        """As `Broker.statement`. What was traded against another currency than the account's, and a fill that Coinbase
        took back or corrected, are entries."""
        snapshot = self.snapshot()
        entries = list(self._entries(since))
        return statement_of(snapshot, self.fills(since), entries, since)

    def average_costs(self) -> Mapping[str, Decimal]:
        """As `TellingCosts.average_costs`: the ``average_entry_price`` of a spot position in the portfolio's breakdown
        (Advanced Trade API, "Get Portfolio Breakdown"; of its costs the client's types name ``cost_basis`` alone).

        Coins without one, or with one in another currency or of zero (that were sent in), are left out.
        """
        portfolio = _text(self._permissions(), "portfolio_uuid")
        told = self._read(lambda client: client.get_portfolio_breakdown(portfolio, currency=self.quote))
        costs = {}
        for one in _FIELDS.parts(_part(told, "breakdown"), "spot_positions"):
            price = _FIELDS.part_or_nothing(one, "average_entry_price")
            if price.get("currency") == self.quote and (paid := _FIELDS.number_or_zero(price, "value")):
                costs[self._instrument(_text(one, "asset"))] = paid
        return {name: paid for name, paid in costs.items() if name != self.quote}

    def product(self, instrument: str) -> str:
        """Coinbase's name of what ``instrument`` is in the account's currency: ``BTC-USD`` of ``BTC``.

        Raises:
            OrderRejectedError: it is no coin in that currency.
        """
        base = instrument.removesuffix(f"-{self.quote}")
        if not (base.isascii() and base.isalnum() and base == base.upper()) or base == self.quote:
            raise OrderRejectedError(
                f"coinbase: {instrument} is no coin in {self.quote}; name it like BTC or BTC-{self.quote} in "
                "config/universe.yaml"
            )
        return f"{base}-{self.quote}"

    # -- inside: requests --------------------------------------------------------------------------------------------

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """coinbase-advanced-py's client on a session of ours, which alone decides what is sent again."""
        from coinbase.rest import RESTClient

        client = RESTClient(api_key=self.key, api_secret=self.secret)
        with self.access.session(NAME) as session:
            client.session.close()
            session.hooks["response"].append(lambda told, **_: self._clock.heard(told.headers.get("Date"), self.now()))
            client.session = session
            _require_key(client.api_secret)
            yield client

    def _read(self, ask: Callable[[Any], Any]) -> dict[str, Any]:
        with self._client() as client:
            try:
                return _asked(lambda: ask(client))
            except RequestFailedError as error:
                raise not_told(NAME, error.failure) from error

    def _pages(self, ask: Callable[..., Any], name: str) -> Iterator[Mapping[str, Any]]:
        """What a list holds, page by page."""
        cursor: str | None = None
        while True:
            page = self._read(partial(ask, at=cursor))
            told = _FIELDS.parts(page, name)
            yield from told
            before, cursor = cursor, page.get("cursor") or None
            if cursor in (None, before) or not told or page.get("has_next") is False:
                return

    def _permissions(self) -> dict[str, Any]:
        return self._read(lambda client: client.get_api_key_permissions())

    def _wallets(self) -> dict[str, Decimal]:
        """Amount by currency, what orders hold included; empty wallets are absent, and those of less than a step."""
        amounts: dict[str, Decimal] = {}
        for told in self._accounts():
            amount = sum(
                (_number(told[part], "value") for part in ("available_balance", "hold") if told.get(part)), _NIL
            )
            if amount:
                currency = _text(told, "currency")
                amounts[currency] = amounts.get(currency, _NIL) + amount
        cut = {currency: _in_steps(amount) for currency, amount in amounts.items()}
        return {currency: amount for currency, amount in cut.items() if amount}

    def _accounts(self) -> Iterator[Mapping[str, Any]]:
        return self._pages(lambda client, at: client.get_accounts(limit=_WALLETS_PAGE, cursor=at), "accounts")

    def _orders(self, **wanted: object) -> Iterator[Mapping[str, Any]]:
        """Orders from the newest."""
        terms = {"product_type": _SPOT, "limit": _PAGE, **wanted}
        return self._pages(lambda client, at: client.list_orders(**terms, cursor=at), "orders")

    def _open_orders(self) -> list[BrokerOrder]:
        """Orders that may still fill, each as it was told last.

        OPEN cannot be asked for together with another state: that is an error ("List Orders"). So an order may change
        its state between two requests: from one that is queued to OPEN, or from OPEN to one whose cancel or edit is
        queued. Asked for before OPEN and after it, the queued ones lose neither.
        """
        asked_for = (list(_QUEUED), [_OPEN], list(_QUEUED))
        told = [self._order(one) for states in asked_for for one in self._orders(order_status=states)]
        return list({one.broker_order_id: one for one in told}.values())

    def _all_open_orders(self) -> list[BrokerOrder]:
        """As `_open_orders`; raises `BrokerError` where there may be more than Coinbase tells."""
        orders = self._open_orders()
        if len(orders) >= _MOST_OPEN:
            raise BrokerError(
                f"coinbase: {len(orders)} orders are open, and it tells of {_MOST_OPEN} at most: cancel some of them"
            )
        return orders

    def _executions(self, since: datetime | None) -> Iterator[Mapping[str, Any]]:
        begins = None if since is None else _stamp(since)
        return self._pages(
            lambda client, at: client.get_fills(start_sequence_timestamp=begins, limit=_PAGE, cursor=at), "fills"
        )

    def _client_ids(self, order_ids: set[str]) -> dict[str, str]:
        """Our ids of Coinbase's orders, which alone are named by fills; empty for an order without one."""
        found: dict[str, str] = {}
        ids = sorted(order_ids)
        for first in range(0, len(ids), _IDS):
            for told in self._orders(order_ids=ids[first : first + _IDS]):
                found[_text(told, "order_id")] = str(told.get("client_order_id") or "")
        for order_id in sorted(order_ids - found.keys()):
            told = self._read(lambda client: client.get_order(order_id))  # noqa: B023  # asked at once
            found[order_id] = str(_part(told, "order").get("client_order_id") or "")
        return found

    def _prices(self) -> dict[str, Decimal]:
        """The last price of each product; what was not traded yet has none."""
        prices = {}
        for told in _FIELDS.parts(self._read(lambda client: client.get_products(product_type=_SPOT)), "products"):
            name = _text(told, "product_id")
            self._known[name] = _increments(told)
            if told.get("price"):
                prices[name] = _number(told, "price")
        return prices

    # -- inside: what may be sent ------------------------------------------------------------------------------------

    def _require_type(self, request: OrderRequest) -> None:
        """Raises:
        OrderRejectedError: Coinbase has no such order, or has it only later in the day.
        """
        order_type, expires_at = request.order_type, request.expires_at
        if order_type in (OrderType.MARKET_ON_OPEN, OrderType.STOP):
            why = "there is no opening auction" if order_type is OrderType.MARKET_ON_OPEN else "its stops become limits"
            raise OrderRejectedError(
                f"coinbase: no {order_type.value} orders here, {why}; use market or limit, and exchange 24/7 in "
                "config/universe.yaml"
            )
        if order_type is OrderType.MARKET_ON_CLOSE and self.now() < expires_at - LEAD:
            raise OrderRejectedError(
                f"coinbase: an order for the close at {expires_at:%Y-%m-%d %H:%M} UTC would execute now, for there is "
                "no closing auction; send it in the last hour before: set exchange to 24/7 in config/universe.yaml"
            )

    def _require_steps(self, product: str, quantity: Decimal, price: Decimal | None) -> None:
        """Raises:
        OrderRejectedError: Coinbase has no such product, or the size or price is not one of its steps.
        BrokerUnavailableError: Coinbase could not be asked; nothing was sent.
        """
        steps = self._steps(product)
        if min(steps.size, steps.price) < QUANTITY_STEP:
            raise OrderRejectedError(
                f"coinbase: {product} trades in steps of {plain(steps.size)} and prices in steps of "
                f"{plain(steps.price)}, finer than our books keep ({plain(QUANTITY_STEP)}): take it out of "
                "config/universe.yaml"
            )
        if quantity % steps.size:
            raise OrderRejectedError(
                f"coinbase: {quantity} of {product} is not in steps of {steps.size}; set portfolio.fractional and "
                "portfolio.lot_size in config/strategies.yaml"
            )
        if not steps.least <= quantity <= steps.most:
            raise OrderRejectedError(
                f"coinbase: {quantity} of {product} is not between {steps.least} and {steps.most}; plan it again"
            )
        if price is not None and price % steps.price:
            raise OrderRejectedError(f"coinbase: {price} of {product} is not in steps of {steps.price}; plan it again")

    def _steps(self, product: str) -> Increments:
        if product not in self._known:
            with self._client() as client:
                try:
                    self._known[product] = _increments(_asked(lambda: client.get_product(product)))
                except RequestFailedError as error:
                    if error.failure.status in (400, 404):
                        raise OrderRejectedError(
                            f"coinbase: it has no product {product}; take it out of config/universe.yaml"
                        ) from error
                    raise BrokerUnavailableError(f"coinbase: not sent: {error.failure.message}") from error
                except BrokerError as error:
                    raise BrokerUnavailableError(f"coinbase: not sent: {error}") from error
        return self._known[product]

    # -- inside: what was told ---------------------------------------------------------------------------------------

    def _accepted(self, told: Mapping[str, Any], request: OrderRequest) -> BrokerOrder:
        """The order that a send brought, which is that of an earlier send where there was one.

        Raises:
            OrderRejectedError: Coinbase refused it, or has another order under the id.
            BrokerError: the answer does not say.
        """
        if not told.get("success"):
            raise _refused(_FIELDS.part_or_nothing(told, "error_response"))
        answer = _FIELDS.part_or_nothing(told, "success_response")
        order_id, size = _text(answer, "order_id"), _size(told)
        there = (answer.get("client_order_id"), answer.get("product_id"), answer.get("side"))
        sent = (request.client_order_id, self.product(request.instrument), request.side.name)
        if there != sent or (size is not None and size != request.quantity):
            return first_sent(NAME, request, self.order, f"the answer to {request.client_order_id} is of another order")
        return BrokerOrder(
            request.client_order_id, order_id, request.instrument, request.side, request.quantity,
            OrderState.ACCEPTED, _NIL,
        )  # fmt: skip

    def _order(self, told: Mapping[str, Any]) -> BrokerOrder:
        """An order of Coinbase's.

        Raises:
            BrokerError: a field is missing or unreadable, or its size is not known yet.
        """
        filled = _in_steps(_FIELDS.filled(told, "filled_size"))
        state = order_state(_text(told, "status"), filled)
        reasons = (told.get(part) for part in ("reject_message", "reject_reason", "cancel_message", "status"))
        spoken = (str(reason) for reason in reasons if reason and reason != "REJECT_REASON_UNSPECIFIED")
        quiet = state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.FILLED)
        return BrokerOrder(
            str(told.get("client_order_id") or ""), _text(told, "order_id"), self._name_of(_text(told, "product_id")),
            _FIELDS.side(_text(told, "side")), _ordered(told, state, filled), state, filled,
            "" if quiet else next(spoken),
        )  # fmt: skip

    def _is_fill(self, told: Mapping[str, Any]) -> bool:
        plain = told.get("trade_type", "FILL") in ("FILL", "SYNTHETIC")
        return plain and _text(told, "product_id").endswith(f"-{self.quote}")

    def _fill(self, told: Mapping[str, Any], client_ids: Mapping[str, str]) -> Fill:
        price = _FIELDS.positive(told, "price")
        _FIELDS.positive(told, "size")
        return Fill(
            _text(told, "entry_id"), client_ids[_text(told, "order_id")], self._name_of(_text(told, "product_id")),
            _FIELDS.side(_text(told, "side")), _base_size(told, price), price,
            _in_steps(_FIELDS.number_or_zero(told, "commission")), _instant(_text(told, "trade_time")),
        )  # fmt: skip

    def _entries(self, since: datetime | None) -> Iterator[Entry]:
        for told in self._executions(since):
            if not self._is_fill(told):
                yield from self._legs(told)
        for wallet in self._accounts():
            for told in self._transactions(_text(wallet, "uuid"), since):
                if told.get("status") == "completed" and str(told.get("type")) not in _OF_FILLS:
                    yield self._moved(told)

    def _legs(self, told: Mapping[str, Any]) -> Iterator[Entry]:
        """Both sides of an execution that is no fill in the account's currency.

        "Adjusted fills have a REVERSAL followed by a CORRECTION" (documentation of "List Fills"): the first undoes
        what was told before on the same side.
        """
        base, _, quote = _text(told, "product_id").partition("-")
        price, kind = _FIELDS.positive(told, "price"), str(told.get("trade_type"))
        sign = _FIELDS.side(_text(told, "side")).sign * (-1 if kind == "REVERSAL" else 1)
        size, fee = _base_size(told, price), _FIELDS.number_or_zero(told, "commission")
        at, entry_id = _instant(_text(told, "trade_time")), _text(told, "entry_id")
        note = f"{kind.lower()} of {told['product_id']} at {price}"
        paid = -sign * size * price - (-fee if kind == "REVERSAL" else fee)
        for currency, amount in ((base, sign * size), (quote, paid)):
            yield self._change(f"{entry_id}:{currency}", currency, amount, at, note)

    def _moved(self, told: Mapping[str, Any]) -> Entry:
        """A transaction of a wallet that is no fill."""
        money, kind, at = _part(told, "amount"), _text(told, "type"), _instant(_text(told, "created_at"))
        amount, currency = _number(money, "amount"), _text(money, "currency")
        note = " ".join(str(part) for part in (kind, told.get("description")) if part)
        if currency == self.quote and kind in _CASH_FLOWS:
            flow = EntryKind.DEPOSIT if amount >= 0 else EntryKind.WITHDRAWAL
            return Entry(_text(told, "id"), flow, None, _NIL, _in_steps(amount), at, note)
        # Coins that came or went, rewards, interest, conversions: nobody but Coinbase can tell of them.
        return self._change(_text(told, "id"), currency, amount, at, note)

    def _change(self, entry_id: str, currency: str, amount: Decimal, at: datetime, note: str) -> Entry:
        amount = _in_steps(amount)
        if currency == self.quote:
            return Entry(entry_id, EntryKind.MANUAL, None, _NIL, amount, at, note)
        return Entry(entry_id, EntryKind.MANUAL, self._instrument(currency), amount, _NIL, at, note)

    def _transactions(self, wallet: str, since: datetime | None) -> Iterator[Mapping[str, Any]]:
        """A wallet's transactions from the newest, as far back as ``since``."""
        wanted: dict[str, object] = {"limit": _PAGE}
        path = f"/v2/accounts/{wallet}/transactions"
        while True:
            page = self._read(lambda client: client.get(path, dict(wanted)))
            told = _FIELDS.parts(page, "data")
            yield from told
            more = _FIELDS.part_or_nothing(page, "pagination").get("next_uri")
            if not told or not more or (since is not None and _instant(_text(told[-1], "created_at")) < since):
                return
            wanted["starting_after"] = _text(told[-1], "id")

    def _instrument(self, currency: str) -> str:
        """Our name of a coin."""
        paired = f"{currency}-{self.quote}"
        return paired if paired in self.universe else currency

    def _name_of(self, product: str) -> str:
        """Our name of a product; one in another currency keeps Coinbase's."""
        return self._instrument(product.removesuffix(f"-{self.quote}"))

    def _listed_as(self, instrument: str) -> str:
        return f"{instrument.removesuffix(f'-{self.quote}')}-{self.quote}"


_NIL = Decimal(0)


def _terms(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """An order's own configuration, whatever its type."""
    configuration = _FIELDS.part_or_nothing(told, "order_configuration")
    return next((terms for terms in configuration.values() if isinstance(terms, Mapping)), {})


def _size(told: Mapping[str, Any]) -> Decimal | None:
    terms = _terms(told)
    return _FIELDS.positive(terms, "base_size") if terms.get("base_size") else None


def _ordered(told: Mapping[str, Any], state: OrderState, filled: Decimal) -> Decimal:
    """How much of the coin an order is for, where it may be for an amount of money."""
    size, terms = _size(told), _terms(told)
    if size is not None:
        return size
    if state in TERMINAL:
        return filled
    if terms.get("quote_size") and terms.get("limit_price"):
        return _in_steps(_number(terms, "quote_size") / _FIELDS.positive(terms, "limit_price"))
    raise BrokerError(
        f"coinbase: order {told.get('order_id')} is for an amount of money and has not ended; try again when it has"
    )


def _base_size(told: Mapping[str, Any], price: Decimal) -> Decimal:
    size = _number(told, "size")
    return _in_steps(size / price if told.get("size_in_quote") else size)


def _in_steps(amount: Decimal) -> Decimal:
    """Of coins or money, what a ledger keeps."""
    return _FIELDS.steps(amount, QUANTITY_STEP)


def _increments(told: Mapping[str, Any]) -> Increments:
    tick = "price_increment" if told.get("price_increment") else "quote_increment"
    return Increments(
        _FIELDS.positive(told, "base_increment"), _FIELDS.positive(told, tick), _number(told, "base_min_size"),
        _number(told, "base_max_size"),
    )  # fmt: skip


def _refused(told: Mapping[str, Any]) -> BrokerError:
    """The error of an order that Coinbase says it has not created."""
    reasons = (told.get(part) for part in ("error", "preview_failure_reason", "new_order_failure_reason"))
    codes = [str(code) for code in reasons if code and not str(code).startswith("UNKNOWN")]
    said = ": ".join(str(part) for part in (*codes[:1], told.get("message"), told.get("error_details")) if part)
    if str(told.get("error") or "") in _UNKNOWN_FAILURES and not codes:
        return UncertainOutcomeError(f"coinbase: it failed for a reason that it does not know: {said or 'none given'}")
    return OrderRejectedError(f"coinbase: refused: {said}")


def _asked(ask: Callable[[], Any]) -> dict[str, Any]:
    """As `answers.asked`, of coinbase-advanced-py, as plain values."""
    from requests.exceptions import HTTPError

    def ask_readably() -> Any:
        try:
            return _plain(ask())
        except (TypeError, AttributeError, KeyError) as error:
            # The client takes an answer apart before it hands it over.
            raise ValueError("an answer that its client cannot read") from error

    told = asked(ask_readably, (HTTPError,), _refusal)
    if not isinstance(told, dict):
        raise RequestFailedError(Failure(None, "the answer is no object", sent=True))
    return told


def _plain(told: Any) -> Any:
    """The client's objects as what the answer held."""
    if hasattr(told, "to_dict"):
        return _plain(told.to_dict())
    if isinstance(told, dict):
        return {name: _plain(value) for name, value in told.items()}
    return [_plain(value) for value in told] if isinstance(told, list) else told


def _refusal(error: Any) -> Failure:
    response = error.response
    said = _said(response)
    words = said or "an answer that is not Coinbase's (a gateway's page?)"
    message = f"HTTP {response.status_code}: {words}"
    if response.status_code == 401:
        message += f"; check {KEY_VARIABLE} and {SECRET_VARIABLE}{_skew(response.headers.get('Date'))}"
    return Failure(response.status_code, message, sent=True, own=said is not None)


def _said(response: Any) -> str | None:
    """Coinbase's own words in an error's body; None where it is not Coinbase's."""
    try:
        told = response.json()
    except (ValueError, RecursionError):
        return None
    parts = [told.get(part) for part in ("error", "message", "error_details")] if isinstance(told, dict) else []
    return ": ".join(part for part in parts if isinstance(part, str) and part)[:300] or None


def _stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _skew(date: str | None) -> str:
    """How far this computer's clock, by which requests are signed, is from Coinbase's; nothing where it is right."""
    theirs = VenueClock()
    theirs.heard(date, datetime.now(UTC))
    if abs(theirs.ahead) < timedelta(seconds=5):
        return ""
    way = "behind" if theirs.ahead > timedelta(0) else "ahead of"
    return f", and set this computer's clock: it is {abs(theirs.ahead).total_seconds():.0f} s {way} Coinbase's"


@lru_cache(maxsize=4)
def _require_key(secret: str) -> None:
    """Once for each key, because signing takes longer than the rest of a request.

    Raises:
        ConfigError: no request can be signed with it; nothing of it is told.
    """
    from coinbase.jwt_generator import build_rest_jwt

    try:
        build_rest_jwt("", "", secret)
    except Exception:  # noqa: BLE001  # the client raises Exception itself
        raise ConfigError(
            where="environment", field=SECRET_VARIABLE, value="(not shown)",
            remedy="give the private key of the API key as Coinbase handed it out, with its BEGIN and END lines",
        ) from None  # fmt: skip
