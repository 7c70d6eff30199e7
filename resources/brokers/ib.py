"""Interactive Brokers: TWS's or IB Gateway's socket, through ib_async's client.

Belongs here: what TWS's messages mean to the order path. Does not: deciding when to send, or again.

What the venue gives: `orderRef`, a text of ours that stands on open orders, completed orders and executions and is not
unique there: the guarantee is a searchable tag. Order ids are each client's own; a permanent id is the broker's. The
API tells executions and completed orders of the day alone, and no movements of cash (these are in Flex reports): a
statement that is asked for more is refused, and `movements` must be given. Sources: IBKR Campus, "TWS API
documentation", sections Order Placement (order status, MOO and MOC), Executions ("corrections": the last part of an
execution's id counts up), Account & Portfolio Data, and the list of error codes.

Each call is a connection of its own in a thread and loop of its own, and every wait has an end: nothing of an earlier
call can be taken for an answer, and no client id stays occupied.
"""
# ruff: noqa: N802  # ib_async calls its wrapper by these names

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, TypeVar

from octopus.core.orders import AccountSnapshot, Fill, OpenOrder, OrderType, Side
from octopus.execution.book import Book, Entry
from octopus.execution.states import OrderState
from resources.brokers.base import (
    BrokerAccount,
    BrokerError,
    BrokerOrder,
    BrokerUnavailableError,
    Guarantee,
    OrderRejectedError,
    UncertainOutcomeError,
)
from resources.brokers.symbols import Spelling

NAME = "ib"
T = TypeVar("T")
_SPELLING = Spelling(NAME, " ")
venue_symbol, our_symbol = _SPELLING.theirs, _SPELLING.ours
_TERMS = {
    OrderType.MARKET_ON_OPEN: ("MKT", "OPG"),
    OrderType.MARKET_ON_CLOSE: ("MOC", "DAY"),
    OrderType.MARKET: ("MKT", "DAY"),
    OrderType.LIMIT: ("LMT", "DAY"),
    OrderType.STOP: ("STP", "DAY"),
}
_STANDING = frozenset({"ApiPending", "PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel"})
_ACKNOWLEDGED = frozenset({"PreSubmitted", "Submitted", "Filled", "Inactive", "Cancelled", "ApiCancelled"})
"""PendingSubmit says that TWS has the order and its destination has not confirmed it."""
_ENDED = {
    "Filled": OrderState.FILLED,
    "Cancelled": OrderState.CANCELLED,
    "ApiCancelled": OrderState.CANCELLED,
    "Inactive": OrderState.REJECTED,
}
_REFUSALS = frozenset(
    {103, 106, 107, 109, 110, 111, 113, 114, 116, 117, 118, 119, 120, 121, 122, 125, 126, 131, 132, 133, 134, 157, 158,
     160, 200, 201, 203, 321, 322, 328, 336, 337, 355, 387, 388, 391, 392, 393, 395, 396, 434, 436, 460, 10052}
)  # fmt: skip
"""Errors of an order that was never acknowledged that mean it does not stand; any other leaves that open."""
_CANCELLED, _LOST, _RESTORED, _NO_SECURITY = 202, 1100, frozenset({1101, 1102}), 200
_READS = 4


@dataclass(frozen=True)
class IbBroker:
    """One account at Interactive Brokers, behind a TWS or an IB Gateway that a person has logged in.

    Attributes:
        account_name: what we call the account. number: the broker's; None: the only one that the login manages.
        client_id: of this program at that TWS; only its own orders can be cancelled.
        contracts: contract ids (conId) of instruments whose ticker does not name one security alone.
        connect_s, answer_s: time limits of a connection and of each answer.
        keeps: how far back TWS tells executions and completed orders; None: as far as anybody asks.
        movements: dividends, deposits and fees since an instant, which the API does not tell.
        quotes: latest prices of instruments that are not held. now: what time it is.
    """

    account_name: str
    host: str = "127.0.0.1"
    port: int = 4002
    client_id: int = 7
    number: str | None = None
    contracts: Mapping[str, int] = field(default_factory=dict)
    connect_s: float = 10.0
    answer_s: float = 15.0
    keeps: timedelta | None = timedelta(days=1)
    movements: Callable[[datetime | None], Sequence[Entry]] = lambda _since: ()
    quotes: Callable[[Collection[str]], Mapping[str, Decimal]] = lambda _names: {}
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    name: str = NAME
    guarantee: Guarantee = Guarantee.SEARCHABLE_TAG

    def account(self) -> BrokerAccount:
        """As `Broker.account`; numbers of paper accounts begin with D."""

        async def ask(desk: _Desk) -> BrokerAccount:
            await desk.account_values()
            _, currency = desk.cash()
            return BrokerAccount(self.account_name, desk.number, currency, desk.number.startswith("D"))

        return self._with(ask)

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        """As `Broker.snapshot`.

        Raises:
            BrokerError: TWS could not be asked, or its positions and its account values never belonged together.
        """

        async def ask(desk: _Desk) -> tuple[datetime, Decimal, dict[str, Decimal], dict[str, Decimal], list[_Order]]:
            for _ in range(_READS):
                taken = self.now()
                await desk.account_values()
                held = await desk.positions()
                orders = await desk.open_orders()
                if held == {name: shares for name, (shares, _) in desk.portfolio.items() if shares}:
                    prices = {name: price for name, (_, price) in desk.portfolio.items() if price > 0}
                    return taken, desk.cash()[0], held, prices, orders
                await asyncio.sleep(min(1.0, self.answer_s / 10))
            raise BrokerUnavailableError(
                f"ib: positions and account values differed in each of {_READS} reads; TWS renews the latter every "
                "three minutes, try again then"
            )

        taken, cash, held, prices, orders = self._with(ask)
        wanted = [name for name in quoted if name not in prices]
        prices |= self.quotes(wanted) if wanted else {}
        still_open = tuple(
            OpenOrder(one.ref, one.instrument, one.side, one.quantity - one.filled)
            for one in orders
            if one.quantity > one.filled and one.status in _STANDING
        )
        return AccountSnapshot(self.account_name, taken, cash, held, prices, still_open)

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
        """As `Broker.submit`. Nothing is sent until the instrument names one security; then it is sent once."""
        if quantity != quantity.to_integral_value():
            raise OrderRejectedError(
                f"ib: {quantity} {instrument}: orders here are in whole shares; set portfolio.fractional to false"
            )
        if order_type not in _TERMS or order_type.has_price is not (price is not None and price > 0):
            raise OrderRejectedError(f"ib: a {order_type.value} order cannot have the price {price}; plan it again")
        symbol = venue_symbol(instrument)

        async def ask(desk: _Desk) -> BrokerOrder:
            desk.require_link()
            contract = await desk.contract(symbol, self.contracts.get(instrument))
            order = _order_of(desk.number, client_order_id, side, quantity, order_type, price)
            return await desk.place(contract, order, instrument)

        return self._with(ask)

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        """As `Broker.order`, from the open orders, the completed ones and the executions of the day."""

        async def ask(desk: _Desk) -> BrokerOrder | None:
            found = [one for one in await desk.all_orders() if one.ref == client_order_id]
            executed = [one for one in await desk.executions(None) if one.ref == client_order_id]
            if len({one.perm_id for one in found}) > 1:
                raise BrokerError(f"ib: {len(found)} orders bear the reference {client_order_id}; look at them in TWS")
            if not found:
                if executed:
                    raise BrokerUnavailableError(f"ib: {client_order_id} was executed and is not told yet; ask again")
                return None
            return found[-1].told(sum((one.quantity for one in executed), Decimal(0)))

        return self._with(ask)

    def cancel(self, client_order_id: str) -> None:
        """As `Broker.cancel`."""

        async def ask(desk: _Desk) -> None:
            for one in await desk.open_orders():
                if one.ref == client_order_id and one.status in _STANDING:
                    await desk.cancel(one)

        self._with(ask)

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        """As `Broker.fills`: each execution in its latest correction, with its commission.

        Raises:
            BrokerError: TWS could not be asked, or has not told a commission yet.
        """

        async def ask(desk: _Desk) -> tuple[Fill, ...]:
            told = await desk.executions(self.answer_s)
            return tuple(one.fill(desk.commissions[one.full_id]) for one in told)

        kept = [fill for fill in self._with(ask) if since is None or fill.at >= since]
        return tuple(sorted(kept, key=lambda fill: (fill.at, fill.fill_id)))

    def statement(self, since: datetime | None = None) -> Book:
        """As `Broker.statement`.

        Raises:
            BrokerError: also where ``since`` lies before what TWS keeps.
        """
        if self.keeps is not None and (since is None or since < self.now() - self.keeps):
            raise BrokerError(f"ib: TWS keeps executions for {self.keeps}; compare from no earlier than that")
        snapshot = self.snapshot()
        return Book(
            self.account_name, snapshot.cash, snapshot.positions, self.fills(since), tuple(self.movements(since))
        )

    # -- inside ------------------------------------------------------------------------------------------------------

    def _with(self, work: Callable[[_Desk], Awaitable[T]]) -> T:
        """Do ``work`` on a connection of its own, in a thread that has no other loop."""

        async def on_a_connection() -> T:
            desk = await self._connected()
            try:
                return await work(desk)
            finally:
                desk.client.disconnect()

        with ThreadPoolExecutor(1, thread_name_prefix="ib") as pool:
            return pool.submit(lambda: asyncio.run(on_a_connection())).result()

    async def _connected(self) -> _Desk:
        desk = _Desk(self.answer_s)
        try:
            await desk.client.connectAsync(self.host, self.port, self.client_id, self.connect_s)
        except (OSError, TimeoutError) as error:
            why = "; ".join(text for _, _, text in desk.errors) or type(error).__name__
            raise BrokerUnavailableError(
                f"ib: not sent: no session at {self.host}:{self.port} ({why}); is TWS or the Gateway logged in, "
                f"its API switched on, and client id {self.client_id} free?"
            ) from error
        managed = desk.client.getAccounts()
        if self.number is None and len(managed) != 1:
            raise BrokerError(f"ib: the login manages {len(managed)} accounts; name one in broker.number")
        desk.number = self.number or managed[0]
        if desk.number not in managed:
            raise BrokerError(f"ib: the login does not manage account {desk.number}; correct broker.number")
        return desk


@dataclass(frozen=True)
class _Order:
    """An order as TWS tells it."""

    ref: str
    order_id: int
    perm_id: int
    client_id: int
    instrument: str
    side: Side
    quantity: Decimal
    status: str
    filled: Decimal
    reason: str = ""

    def told(self, executed: Decimal = Decimal(0)) -> BrokerOrder:
        filled = max(self.filled, executed)
        if self.status in _ENDED:
            state = _ENDED[self.status]
        elif self.status in _STANDING:
            state = OrderState.PARTIALLY_FILLED if filled else OrderState.ACCEPTED
        else:
            raise BrokerError(f"ib: order status {self.status!r} is not known; update the adapter")
        if filled >= self.quantity:
            state = OrderState.FILLED
        reason = "" if state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.FILLED) else self.status
        return BrokerOrder(
            self.ref, str(self.perm_id), self.instrument, self.side, self.quantity, state, filled, self.reason or reason
        )


@dataclass(frozen=True)
class _Execution:
    """An execution; ``fill_id`` is the part of its id that corrections share."""

    fill_id: str
    correction: int
    ref: str
    instrument: str
    side: Side
    quantity: Decimal
    price: Decimal
    at: datetime

    @property
    def full_id(self) -> str:
        return f"{self.fill_id}.{self.correction:02d}"

    def fill(self, commission: Decimal) -> Fill:
        return Fill(self.fill_id, self.ref, self.instrument, self.side, self.quantity, self.price, commission, self.at)


class _Desk:
    """One connection: requests, and what was told since. The methods in camel case are ib_async's wrapper."""

    def __init__(self, answer_s: float) -> None:
        from ib_async.client import Client

        self.unreadable: list[str] = []
        self.client: Any = Client(self)  # type: ignore[no-untyped-call]
        # ib_async reads the time zone of stamps that have none from here.
        self.ib = SimpleNamespace(TimezoneTWS="America/New_York")
        self.defaultTimezone = UTC
        # It logs a message that it cannot read and goes on: here an execution would be lost in silence.
        decoder: Any = self.client.decoder
        decoder.logger = SimpleNamespace(exception=self.unreadable.append)
        self.number = ""
        self.errors: list[tuple[int, int, str]] = []
        self.portfolio: dict[str, tuple[Decimal, Decimal]] = {}
        self.commissions: dict[str, Decimal] = {}
        self._answer_s = answer_s
        self._lost = self._link_lost = False
        self._changed = asyncio.Event()
        self._ends: set[tuple[str, int]] = set()
        self._values: dict[tuple[str, str], str] = {}
        self._held: dict[str, Decimal] = {}
        self._details: dict[int, list[Any]] = {}
        self._open: dict[tuple[int, int], _Order] = {}
        self._completed: list[_Order] = []
        self._executed: dict[str, _Execution] = {}
        self._statuses: dict[tuple[int, int], tuple[str, Decimal]] = {}

    # -- questions ---------------------------------------------------------------------------------------------------

    async def wait(self, is_so: Callable[[], bool], *, needed: bool = True, limit_s: float | None = None) -> bool:
        """Until ``is_so``.

        Raises:
            BrokerUnavailableError: the connection ended, or (if ``needed``) time did.
            BrokerError: a message could not be read.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + (self._answer_s if limit_s is None else limit_s)
        while not is_so():
            if self._lost:
                raise BrokerUnavailableError("ib: the connection to TWS ended; look at it and try again")
            left = end - loop.time()
            if left <= 0:
                if needed:
                    raise BrokerUnavailableError(f"ib: TWS did not answer within {self._answer_s:g} s; try again")
                break
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        if self.unreadable:
            raise BrokerError(f"ib: a message could not be read; update the adapter: {self.unreadable[0][:200]}")
        return is_so()

    async def _ended(self, what: str, number: int = 0) -> None:
        await self.wait(lambda: (what, number) in self._ends)
        self._ends.discard((what, number))

    def require_link(self) -> None:
        if self._link_lost:
            raise BrokerUnavailableError("ib: not sent: TWS has lost its connection to IB (1100); wait for 1102")

    async def account_values(self) -> None:
        self._values.clear()
        self.portfolio.clear()
        self.client.reqAccountUpdates(True, self.number)
        await self._ended("account")
        self.client.reqAccountUpdates(False, self.number)

    def cash(self) -> tuple[Decimal, str]:
        """Cash in the account's own currency, and which that is."""
        for (tag, currency), value in self._values.items():
            if tag == "TotalCashValue":
                return _number(value, tag), currency
        raise BrokerError("ib: the account values lack TotalCashValue; the API may have changed, update the adapter")

    async def positions(self) -> dict[str, Decimal]:
        self._held.clear()
        self.client.reqPositions()
        await self._ended("positions")
        self.client.cancelPositions()
        return {name: shares for name, shares in self._held.items() if shares}

    async def open_orders(self) -> list[_Order]:
        self._open.clear()
        self.client.reqAllOpenOrders()
        await self._ended("open")
        return [self._current(one) for one in self._open.values()]

    async def all_orders(self) -> list[_Order]:
        """Open orders, then completed ones: one that ends in between is in both, and the latter is the later word."""
        standing = await self.open_orders()
        self._completed.clear()
        self.client.reqCompletedOrders(False)
        await self._ended("completed")
        return [*standing, *self._completed]

    def _current(self, one: _Order) -> _Order:
        status, filled = self._statuses.get((one.client_id, one.order_id), (one.status, one.filled))
        return _Order(**{**vars(one), "status": status, "filled": filled})

    async def executions(self, commissions_s: float | None) -> list[_Execution]:
        """The latest correction of each execution, once its commission is told; None: without waiting for these."""
        from ib_async.objects import ExecutionFilter

        self._executed.clear()
        request = self.client.getReqId()
        self.client.reqExecutions(request, ExecutionFilter(acctCode=self.number))
        await self._ended("executions", request)
        found = [one for one in self._executed.values() if one.quantity]
        if commissions_s is not None:
            paid = await self.wait(
                lambda: all(one.full_id in self.commissions for one in found), needed=False, limit_s=commissions_s
            )
            if not paid:
                late = [one.full_id for one in found if one.full_id not in self.commissions]
                raise BrokerUnavailableError(f"ib: the commission of {late[0]} is not told yet; ask again")
        return found

    async def contract(self, symbol: str, contract_id: int | None) -> Any:
        """The one security of that name.

        Raises:
            OrderRejectedError: there is none, or more than one.
        """
        from ib_async.contract import Contract

        request = self.client.getReqId()
        wanted = Contract(conId=contract_id, exchange="SMART") if contract_id else Contract(
            symbol=symbol, secType="STK", exchange="SMART", currency="USD"
        )  # fmt: skip
        self._details[request] = []
        self.client.reqContractDetails(request, wanted)
        await self.wait(lambda: ("details", request) in self._ends or bool(self._errors_of(request)))
        ids = {detail.contract.conId for detail in self._details[request]}
        if len(ids) != 1:
            said = f"{len(ids)} securities bear that ticker" if ids else "no security bears that ticker"
            raise OrderRejectedError(
                f"ib: {symbol}: {said} at SMART in USD; give its contract id in the broker's contracts"
            )
        found = self._details[request][0].contract
        if found.secType != "STK" or found.currency != "USD":
            raise OrderRejectedError(f"ib: {symbol} is {found.secType} in {found.currency} there; stocks in USD alone")
        return found

    async def place(self, contract: Any, order: Any, instrument: str) -> BrokerOrder:
        """Send the order and wait for its acknowledgement; whatever else happens is uncertain."""
        order_id = self.client.getReqId()
        key = (self.client.clientId, order_id)
        self.client.placeOrder(order_id, contract, order)
        try:
            await self.wait(lambda: self._is_settled(key))
        except BrokerError as error:
            raise UncertainOutcomeError(f"{error} ({order.orderRef} may stand)") from error
        for code, text in self._errors_of(order_id):
            if code in _REFUSALS and key not in self._acknowledged():
                raise OrderRejectedError(f"ib: refused ({code}): {text}")
        if key not in self._open:
            side, size = Side(order.action.lower()), Decimal(str(order.totalQuantity))
            status, filled = self._statuses.get(key, ("Cancelled", Decimal(0)))
            return _Order(order.orderRef, order_id, 0, key[0], instrument, side, size, status, filled).told()
        placed = self._current(self._open[key])
        if placed.status == "Inactive":
            raise OrderRejectedError(f"ib: refused: {self._said(order_id) or 'the order is inactive'}")
        return placed.told()

    def _is_settled(self, key: tuple[int, int]) -> bool:
        codes = {code for code, _ in self._errors_of(key[1])}
        return bool(codes & (_REFUSALS | {_CANCELLED})) or key in self._acknowledged()

    def _acknowledged(self) -> set[tuple[int, int]]:
        by_status = {key for key, (status, _) in self._statuses.items() if status in _ACKNOWLEDGED}
        return by_status | {key for key, one in self._open.items() if one.status in _ACKNOWLEDGED}

    async def cancel(self, one: _Order) -> None:
        """Ask to cancel; what became of it is for `order` to tell, here the request only has to have left."""
        if one.client_id != self.client.clientId:
            raise BrokerError(f"ib: {one.ref} was sent by client {one.client_id}; cancel it in TWS")
        self.client.cancelOrder(one.order_id)
        await self.wait(lambda: self.was_told_of(one), needed=False)

    def was_told_of(self, one: _Order) -> bool:
        """Whether the order ended, or TWS said why it cannot be cancelled."""
        status, _ = self._statuses.get((one.client_id, one.order_id), ("", Decimal(0)))
        return status in _ENDED or bool(self._errors_of(one.order_id))

    def _errors_of(self, number: int) -> list[tuple[int, str]]:
        return [(code, text) for of, code, text in self.errors if of == number]

    def _said(self, number: int) -> str:
        return "; ".join(text for _, text in self._errors_of(number))

    # -- ib_async's wrapper ------------------------------------------------------------------------------------------

    def tcpDataProcessed(self) -> None:
        self._changed.set()

    def connectAck(self) -> None:
        return

    def setEventsDone(self) -> None:
        self._lost = True
        self._changed.set()

    def connectionClosed(self) -> None:
        self._lost = True
        self._changed.set()

    def error(self, number: int, code: int, text: str, _advanced: str = "") -> None:
        if code == _LOST:
            self._link_lost = True
        elif code in _RESTORED:
            self._link_lost = False
        self.errors.append((number, code, text))

    def updateAccountValue(self, tag: str, value: str, currency: str, number: str) -> None:
        if number == self.number:
            self._values[tag, currency] = value

    def updatePortfolio(
        self, contract: Any, shares: float, price: float, _v: float, _c: float, _u: float, _r: float, number: str
    ) -> None:
        if number == self.number:
            self.portfolio[_named(contract)] = (Decimal(str(shares)), Decimal(str(price)))

    def accountDownloadEnd(self, _number: str) -> None:
        self._ends.add(("account", 0))

    def position(self, number: str, contract: Any, shares: float, _cost: float) -> None:
        if number == self.number:
            self._held[_named(contract)] = Decimal(str(shares))

    def positionEnd(self) -> None:
        self._ends.add(("positions", 0))

    def contractDetails(self, request: int, details: Any) -> None:
        self._details.setdefault(request, []).append(details)

    def contractDetailsEnd(self, request: int) -> None:
        self._ends.add(("details", request))

    def openOrder(self, order_id: int, contract: Any, order: Any, state: Any) -> None:
        if order.account == self.number:
            self._open[order.clientId, order_id] = _order(contract, order, state.status, order_id)

    def openOrderEnd(self) -> None:
        self._ends.add(("open", 0))

    def orderStatus(
        self, order_id: int, status: str, filled: float, _r: float, _a: float, _perm: int, _parent: int, _last: float,
        client_id: int, _why: str, _cap: float = 0.0,
    ) -> None:  # fmt: skip
        self._statuses[client_id, order_id] = (status, Decimal(str(filled)))

    def completedOrder(self, contract: Any, order: Any, state: Any) -> None:
        if order.account == self.number:
            self._completed.append(_order(contract, order, state.status, 0, state.completedStatus))

    def completedOrdersEnd(self) -> None:
        self._ends.add(("completed", 0))

    def execDetails(self, _request: int, contract: Any, told: Any) -> None:
        if told.acctNumber != self.number:
            return
        fill_id, _, correction = told.execId.rpartition(".")
        side = Side.BUY if told.side == "BOT" else Side.SELL
        one = _Execution(
            fill_id, int(correction), told.orderRef, _named(contract), side, Decimal(str(told.shares)),
            Decimal(str(told.price)), told.time,
        )  # fmt: skip
        known = self._executed.get(fill_id)
        if known is None or known.correction <= one.correction:
            self._executed[fill_id] = one

    def execDetailsEnd(self, request: int) -> None:
        self._ends.add(("executions", request))

    def commissionReport(self, report: Any) -> None:
        self.commissions[report.execId] = Decimal(str(report.commission))


def _order(contract: Any, order: Any, status: str, order_id: int, reason: str = "") -> _Order:
    filled = Decimal(str(order.filledQuantity)) if 0 < order.filledQuantity < 1e100 else Decimal(0)
    return _Order(
        order.orderRef, order_id, order.permId, order.clientId, _named(contract), Side(order.action.lower()),
        Decimal(str(order.totalQuantity)), status, filled, reason,
    )  # fmt: skip


def _order_of(
    number: str, client_order_id: str, side: Side, quantity: Decimal, order_type: OrderType, price: Decimal | None
) -> Any:
    from ib_async.order import Order

    kind, lasts = _TERMS[order_type]
    order = Order(
        action=side.value.upper(), totalQuantity=float(quantity), orderType=kind, tif=lasts, account=number,
        orderRef=client_order_id, transmit=True,
    )  # fmt: skip
    if order_type is OrderType.LIMIT:
        order.lmtPrice = float(price or 0)
    if order_type is OrderType.STOP:
        order.auxPrice = float(price or 0)
    return order


def _named(contract: Any) -> str:
    """Our name of a stock; anything else by its contract id, so that it is never taken for one."""
    return our_symbol(contract.symbol) if contract.secType == "STK" else f"{contract.secType}:{contract.conId}"


def _number(text: str, tag: str) -> Decimal:
    number = Decimal(text) if re.fullmatch(r"-?\d+(\.\d+)?(E-?\d+)?", text) else None
    if number is None:
        raise BrokerError(f"ib: {tag} = {text!r} is no amount; the API may have changed")
    return number
