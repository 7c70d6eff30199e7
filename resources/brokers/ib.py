"""Interactive Brokers: TWS's or IB Gateway's socket, through ib_async's client.

Belongs here: what TWS's messages mean to the order path, and putting them together with what the reports tell. Does
not: deciding when to send, or again; the reports (flex.py).

What the venue gives: `orderRef`, a text of ours that stands on open orders, completed orders and executions and is not
unique there: the guarantee is a searchable tag. Order ids are each client's own; a permanent id is the broker's. The
API tells executions and completed orders since midnight alone, in TWS's own time zone, and no movements of cash: what
is older, and every movement, comes from Flex reports (flex.py), which speak until yesterday. Without them a statement
that is asked for more is refused. Sources: IBKR Campus, "TWS API documentation", sections Order Placement (order
status, MOO and MOC), Executions ("corrections": the last part of an execution's id counts up), Account & Portfolio
Data, and the list of error codes.

A bracket is a parent and its children (`parentId`), of which TWS sends none before the last has come with the flag
`transmit`; until the parent has filled they wait. Here they are one group of which a fill reduces the other
(`ocaGroup`, `ocaType` 2, with protection against overfills). Each bears a reference of its own, as any order does
("Bracket Orders", "One Cancels All" in the documentation).

Each call is a connection of its own in a thread and loop of its own, and every wait has an end: nothing of an earlier
call can be taken for an answer, and no client id stays occupied.
"""
# ruff: noqa: N802  # ib_async calls its wrapper by these names

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_UP, Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from octopus.core.amounts import plain
from octopus.core.ids import CLIENT_ORDER_PREFIX, entry_order_id
from octopus.core.orders import AccountSnapshot, Bracket, Fill, FillRevision, OpenOrder, OrderType, Side
from octopus.execution.book import Book, Told
from octopus.execution.states import OrderState
from resources.brokers.answers import Fields, in_order, not_there, state_of
from resources.brokers.base import (
    BrokerAccount,
    BrokerError,
    BrokerOrder,
    BrokerUnavailableError,
    Guarantee,
    NotToldYetError,
    OrderRejectedError,
    OrderRequest,
    UncertainOutcomeError,
)
from resources.brokers.flex import NEW_YORK, PERIOD, FlexReport, FlexReports, ReportedFill
from resources.brokers.symbols import Spelling

NAME = "ib"
CURRENCY = "USD"
GATEWAY_PORT = {False: 4002, True: 4001}
"""On which IB Gateway listens for a paper and for a live login."""
TOLD_BY_TWS = timedelta(days=1)
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
order_state = partial(state_of, NAME, _ENDED, _STANDING)
_REFUSALS = frozenset(
    {103, 106, 107, 109, 110, 111, 113, 114, 116, 117, 118, 119, 120, 121, 122, 125, 126, 131, 132, 133, 134, 157, 158,
     160, 200, 201, 203, 321, 322, 328, 336, 337, 355, 387, 388, 391, 392, 393, 395, 396, 434, 436, 460, 10052}
)  # fmt: skip
"""Errors of an order that was never acknowledged that mean it does not stand; any other leaves that open."""
_CANCELLED, _LOST, _RESTORED = 202, 1100, frozenset({1101, 1102})
_TAKEN = 326
"""Another connection bears the client id: TWS lets one at a time."""
_SIDES = {"BOT": Side.BUY, "SLD": Side.SELL}
_ACTIONS = {"BUY": Side.BUY, "SELL": Side.SELL, "SSHORT": Side.SELL, "SLONG": Side.SELL}
"""Of orders; the last two are of institutions' accounts."""
_FIELDS = Fields(NAME)
_READS = 4
_AGAIN_S = 0.1
"""Between two tries for a client id that is taken, seconds."""
_REDUCE_WITH_BLOCK = 2
"""Of a group of orders: what one fills comes off the others, which cannot fill in the same moment."""


@dataclass(frozen=True)
class Security:
    """A security as IB numbers it: where a ticker does not name one alone, or is another there.

    Attributes:
        contract_id: its conId. exchange: where orders are routed. currency: that it is traded in.
    """

    contract_id: int
    exchange: str = "SMART"
    currency: str = CURRENCY


@dataclass(frozen=True)
class _Names:
    """Our names of IB's securities, by the contracts that were given, else by symbol."""

    contracts: Mapping[str, Security]

    def __call__(self, category: str, contract_id: int, symbol: str, currency: str) -> str:
        """Our name of a stock in dollars; anything else by its contract id, so that it is never taken for one."""
        for name, security in self.contracts.items():
            if security.contract_id == contract_id:
                return name
        name = our_symbol(symbol)
        is_ours = category == "STK" and currency == CURRENCY and name not in self.contracts
        return name if is_ours else f"{category}:{contract_id}"

    def of(self, contract: Any) -> str:
        """Of a contract as TWS tells it."""
        return self(contract.secType, contract.conId, contract.symbol, contract.currency)


def _is_ours(ref: str) -> bool:
    return ref.startswith(CLIENT_ORDER_PREFIX)


def _price_of_one(contract: Any, price: Decimal) -> Decimal:
    """What one contract is worth at ``price``, which TWS tells of one share: an option is of a hundred."""
    return price * (_FIELDS.number_or_zero(vars(contract), "multiplier") or 1)


@dataclass(frozen=True)
class IbBroker:
    """One account at Interactive Brokers, behind a TWS or an IB Gateway that a person has logged in.

    Attributes:
        account_name: what we call the account. number: the broker's; None: the only one that the login manages.
        client_id: of this program at that TWS; only its own orders can be cancelled.
        contracts: of instruments whose ticker does not name one security alone, or that has another one there.
        connect_s, answer_s: time limits of a connection and of each answer.
        busy_s, halting_s: how long to wait for a client id that another process of ours has, which it has for a few
            answers; the latter where open orders are to be cancelled. Seconds.
        reports: what happened before today, and every movement of cash; None: neither is known.
        zone: of TWS, whose day begins at midnight there.
        quotes: latest prices of instruments that are not held. now: what time it is.
    """

    account_name: str
    host: str = "127.0.0.1"
    port: int = 4002
    client_id: int = 7
    number: str | None = None
    contracts: Mapping[str, Security] = field(default_factory=dict)
    connect_s: float = 10.0
    answer_s: float = 15.0
    busy_s: float = 15.0
    halting_s: float = 60.0
    reports: FlexReports | None = None
    zone: str = "America/New_York"
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
            BrokerError: TWS could not be asked, or its positions and its account values never belonged together, or
                an order is of an amount of money and nobody knows a price of what it buys.
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
        asked_for = {*quoted, *(one.instrument for one in orders if one.is_of_money)}
        wanted = sorted(name for name in asked_for if name not in prices)
        prices |= self.quotes(wanted) if wanted else {}
        counted = [one.in_shares(prices) for one in orders]
        return AccountSnapshot(self.account_name, taken, cash, held, prices, _still_open(counted))

    def submit(self, request: OrderRequest) -> BrokerOrder:
        """As `Broker.submit`. Nothing is sent until the instrument names one security; then it is sent once."""
        return self._send(request, None)

    @property
    def exits_are_messages(self) -> bool:
        """As `BracketBroker.exits_are_messages`: each is placed by itself."""
        return True

    def submit_bracket(self, entry: OrderRequest, bracket: Bracket) -> BrokerOrder:
        """As `BracketBroker.submit_bracket`, of an order for the day."""
        entry.require_entry_type(NAME, (OrderType.MARKET, OrderType.LIMIT, OrderType.STOP))
        return self._send(entry, bracket)

    def _send(self, request: OrderRequest, bracket: Bracket | None) -> BrokerOrder:
        request.require_whole_shares(NAME)
        given = self.contracts.get(request.instrument)
        symbol = request.instrument if given else venue_symbol(request.instrument)

        async def ask(desk: _Desk) -> BrokerOrder:
            desk.require_link()
            try:
                contract = await desk.contract(symbol, given)
                there = await desk.time()
            except (OrderRejectedError, BrokerUnavailableError):
                raise
            except BrokerError as error:
                raise BrokerUnavailableError(f"{error}; {request.client_order_id} is not sent") from error
            entry, exits = _message(request, desk.number), _exits(request, bracket, desk.number)
            # Only now: the security may have been found after the close, and TWS keeps a day order for the next one;
            # and the link may have been lost meanwhile.
            now = self.now()
            request.require_in_time(NAME, now, there - now)
            desk.require_link()
            return await desk.place(contract, entry, request.instrument, exits)

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
                if other := desk.elsewhere.get(client_order_id):
                    raise BrokerError(
                        f"ib: {client_order_id} is an order of account {other!r}, not of {desk.number!r}; see which of "
                        "them TWS is logged in to"
                    )
                return None
            return found[-1].told(sum((one.quantity for one in executed), Decimal(0)))

        return self._with(ask)

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """As `ListsOpenOrders.open_orders`: neither account values nor positions are asked for, nor a quote.

        What a person entered never keeps ours from being told: an order of an amount of money is left out, and so is
        one that cannot be read and does not bear an id of ours.
        """

        async def ask(desk: _Desk) -> list[_Order]:
            desk.reads_ours_alone = True
            return await desk.open_orders()

        return _still_open(self._with(ask, self.halting_s))

    def cancel(self, client_order_id: str) -> None:
        """As `Broker.cancel`; TWS cancels an entry's exits with it, and of two exits we see to both."""
        entry = entry_order_id(client_order_id)

        async def ask(desk: _Desk) -> bool:
            asked, desk.reads_ours_alone = False, True
            for one in await desk.open_orders():
                is_meant = one.ref == client_order_id or (entry is not None and entry_order_id(one.ref) == entry)
                if is_meant and one.status in _STANDING:
                    await desk.cancel(one)
                    asked = True
            return asked

        # What is not open has ended today, or is not there.
        if not self._with(ask, self.halting_s) and self.order(client_order_id) is None:
            raise not_there(NAME, client_order_id)

    @property
    def keeps(self) -> timedelta | None:
        """As `Broker.keeps`."""
        return PERIOD if self.reports is not None else TOLD_BY_TWS

    def told_until(self) -> datetime:
        """Until when movements are told.

        Raises:
            BrokerError: the report could not be had.
        """
        report = self._report()
        return self._midnight().astimezone(UTC) if report is None else report.until

    def past_order(self, sent: OrderRequest, broker_order_id: str | None) -> BrokerOrder | None:
        """As `LateTellingBroker.past_order`: of an order from before today, by its executions in the report.

        The report tells no orders. One that IB had acknowledged and that did not fill has lapsed: each is good for its
        session alone.
        """
        if sent.expires_at >= self._midnight(self._with(_Desk.time)):
            return None
        report = self._report()
        if report is None or report.until < sent.expires_at:
            reach = f"until {report.until:%Y-%m-%d %H:%M} UTC" if report else "nothing: there is no Flex query"
            raise NotToldYetError(
                f"ib: {sent.client_order_id} was good until {sent.expires_at:%Y-%m-%d %H:%M} UTC; TWS tells today's "
                f"orders alone, and the Flex report {reach}"
            )
        told = [one for one in report.fills.values() if one.fill.client_order_id == sent.client_order_id]
        order_id = next((one.order_id for one in told), broker_order_id)
        if order_id is None:
            return None
        filled = sum((one.fill.quantity for one in told), Decimal(0))
        state = OrderState.FILLED if filled >= sent.quantity else OrderState.EXPIRED
        return BrokerOrder(
            sent.client_order_id, order_id, sent.instrument, sent.side, sent.quantity, state, filled,
            "" if state is OrderState.FILLED else "lapsed at its session's close",
        )  # fmt: skip

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        """As `Broker.fills`: each execution in its latest correction, with its commission.

        TWS tells commissions of another client's orders, and of a person's, to its master client alone: where it does
        not, such a fill is without any until the report of its day.

        Raises:
            BrokerError: TWS or the report could not be asked, or TWS has not told a commission of an order of ours yet.
        """
        return in_order((one.fill for one in self._executed(since) if one.fill.quantity), since)

    def revisions(self, since: datetime | None = None) -> tuple[FillRevision, ...]:
        """As `RevisingBroker.revisions`; each bears its trade's time, for IB does not tell when it was changed."""
        changed = [one for one in self._executed(since) if one.number]
        return tuple(
            FillRevision(
                one.fill.fill_id, one.number, one.fill.client_order_id, one.fill.quantity, one.fill.price,
                one.fill.fees if one.fill.quantity else Decimal(0), one.fill.at,
                "broken by IB" if not one.fill.quantity else "corrected by IB",
            )
            for one in sorted(changed, key=lambda one: (one.fill.at, one.fill.fill_id))
            if since is None or one.fill.at >= since
        )  # fmt: skip

    def statement(self, since: datetime | None = None) -> Book:
        """As `Broker.statement`; its records reach to the end of the newest report, and today's fills.

        Raises:
            BrokerError: also where ``since`` lies before what TWS or the report tells.
        """
        report = self._report()
        self._require_told(since, report)
        snapshot, fills = self.snapshot(), self.fills(since)
        if report is None:
            return Book(self.account_name, snapshot.cash, snapshot.positions, fills)
        entries = tuple(entry for entry in report.entries if since is None or entry.at >= since)
        told_late = Told(report.until, report.cash)
        return Book(self.account_name, snapshot.cash, snapshot.positions, fills, entries, told_late)

    def average_costs(self) -> Mapping[str, Decimal]:
        """As `TellingCosts.average_costs`, commissions included, as IB keeps them."""

        async def ask(desk: _Desk) -> dict[str, Decimal]:
            await desk.positions()
            return dict(desk.costs)

        return self._with(ask)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _midnight(self, there: datetime | None = None) -> datetime:
        """The begin of TWS's day, by the later of our clock and ``there``, TWS's."""
        now = max(self.now(), there or self.now()).astimezone(ZoneInfo(self.zone))
        return now.replace(hour=0, minute=0, second=0, microsecond=0)

    def _report(self) -> FlexReport | None:
        return None if self.reports is None else self.reports.latest(self._account_number(), _Names(self.contracts))

    def _require_told(self, since: datetime | None, report: FlexReport | None) -> None:
        """Raises BrokerError: there are no records since ``since``."""
        if report is None and (since is None or since < self._midnight()):
            raise BrokerError("ib: TWS keeps today's records alone; give the Flex query of docs/brokers.md")
        if report is not None and since is not None and since.astimezone(NEW_YORK).date() < report.begins:
            raise BrokerError(
                f"ib: the Flex report begins on {report.begins}, and records since {since:%Y-%m-%d} are needed; set "
                "the query's period to Last 365 Calendar Days"
            )

    def _account_number(self) -> str:
        return self.number or self.account().number

    def _executed(self, since: datetime | None) -> list[ReportedFill]:
        """Every execution in its latest version: TWS's of today, and the report's where older ones are asked for."""

        async def ask(desk: _Desk) -> list[ReportedFill]:
            told = await desk.executions(self.answer_s)
            return [one.reported(desk.commissions.get(one.full_id, Decimal(0))) for one in told]

        found = {one.fill.fill_id: one for one in self._with(ask)}
        report = self._report() if since is None or since < self._midnight() else None
        for fill_id, one in (report.fills if report else {}).items():
            if fill_id not in found or one.number >= found[fill_id].number:
                found[fill_id] = one
        return list(found.values())

    def _with(self, work: Callable[[_Desk], Awaitable[T]], busy_s: float | None = None) -> T:
        """Do ``work`` on a connection of its own, in a thread that has no other loop.

        Args:
            busy_s: how long to wait for the client id; None: as usual.
        """

        async def on_a_connection() -> T:
            desk = await self._connected(self.busy_s if busy_s is None else busy_s)
            try:
                return await work(desk)
            except ConnectionError as error:
                # Of ib_async: nothing can be written any more.
                raise BrokerUnavailableError("ib: the connection to TWS ended; look at it and try again") from error
            finally:
                desk.client.disconnect()

        with ThreadPoolExecutor(1, thread_name_prefix="ib") as pool:
            return pool.submit(lambda: asyncio.run(on_a_connection())).result()

    async def _connected(self, busy_s: float) -> _Desk:
        loop = asyncio.get_running_loop()
        end, desk = loop.time() + busy_s, self._desk()
        while not await desk.connect(self.host, self.port, self.client_id, self.connect_s):
            if not any(code == _TAKEN for _, code, _ in desk.errors):
                why = "; ".join(text for _, _, text in desk.errors) or desk.failure
                raise BrokerUnavailableError(
                    f"ib: not sent: no session at {self.host}:{self.port} ({why}); is TWS or the Gateway logged in, "
                    "and its API switched on?"
                )
            if loop.time() >= end:
                raise BrokerUnavailableError(
                    f"ib: not sent: client id {self.client_id} was in use at {self.host}:{self.port} for {busy_s:g} s "
                    "(326): try again once what Octopus does there is done; if nothing is, another program has it: "
                    "give broker.client_id a number of its own"
                )
            await asyncio.sleep(_AGAIN_S)
            desk = self._desk()
        managed = desk.client.getAccounts()
        if self.number is None and len(managed) != 1:
            raise BrokerUnavailableError(
                f"ib: not sent: the login manages {len(managed)} accounts; name one in broker.number"
            )
        desk.number = self.number or managed[0]
        if desk.number not in managed:
            raise BrokerUnavailableError(
                f"ib: not sent: the login does not manage account {desk.number}; correct broker.number"
            )
        return desk

    def _desk(self) -> _Desk:
        return _Desk(self.answer_s, _Names(self.contracts), self.zone)


_Key = tuple[int, int]


def _key(client_id: int, order_id: int, perm_id: int) -> _Key:
    """What tells an order from every other: its client and number, or the permanent id of a person's, without one."""
    return (client_id, order_id) if order_id > 0 else (-1, perm_id)


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
    money: Decimal = Decimal(0)

    @property
    def key(self) -> _Key:
        return _key(self.client_id, self.order_id, self.perm_id)

    @property
    def is_of_money(self) -> bool:
        """Whether it is of an amount of money and of no number of shares, as a person may enter one."""
        return self.money > 0 and not self.quantity

    def in_shares(self, prices: Mapping[str, Decimal]) -> _Order:
        """This order, of as many shares as all its money buys, rounded up: what filled already may have been cheaper.

        Raises:
            BrokerError: there is no price.
        """
        if not self.is_of_money or self.status not in _STANDING:
            return self
        if self.instrument not in prices:
            raise BrokerError(
                f"ib: an open order of {plain(self.money)} in money (permanent id {self.perm_id}) is in "
                f"{self.instrument}, of which nobody knows a price: cancel it in TWS, or enter it in shares"
            )
        shares = (self.money / prices[self.instrument]).to_integral_value(ROUND_UP)
        return replace(self, quantity=shares + self.filled)

    def told(self, executed: Decimal = Decimal(0)) -> BrokerOrder:
        filled = max(self.filled, executed)
        state = order_state(self.status, filled)
        # Of a completed order that filled TWS tells no quantity (hadrianl/ibapi, issue 18).
        quantity = filled if state is OrderState.FILLED and not self.quantity else self.quantity
        if 0 < quantity <= filled:
            state = OrderState.FILLED
        reason = "" if state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.FILLED) else self.status
        return BrokerOrder(
            self.ref, str(self.perm_id), self.instrument, self.side, quantity, state, filled, self.reason or reason
        )


@dataclass(frozen=True)
class _Execution:
    """An execution; ``fill_id`` is the part of its id that corrections share.

    How corrections are numbered is documented (reference of the class Execution: only the digits after the last period
    differ); that one replaces what it corrects, and that a broken trade is one of zero shares, is not. If TWS tells
    nothing of a broken trade, positions differ, reconciliation halts, and the report of the next day names it.
    """

    fill_id: str
    correction: int
    ref: str
    instrument: str
    side: Side
    quantity: Decimal
    price: Decimal
    at: datetime
    order_id: str

    @property
    def full_id(self) -> str:
        return f"{self.fill_id}.{self.correction:02d}"

    def reported(self, commission: Decimal) -> ReportedFill:
        fill = Fill(self.fill_id, self.ref, self.instrument, self.side, self.quantity, self.price, commission, self.at)
        return ReportedFill(fill, self.correction - 1, self.order_id)


class _Desk:
    """One connection: requests, and what was told since. The methods in camel case are ib_async's wrapper."""

    def __init__(self, answer_s: float, names: _Names, zone: str) -> None:
        from ib_async.client import Client

        # Each try for a client id that is taken would be two lines of its own; what fails is said by our errors.
        logging.getLogger("ib_async.client").setLevel(logging.CRITICAL)
        self.names = names
        self.unreadable: list[str] = []
        self.reads_ours_alone = False
        """Whether a message may be skipped that cannot be read and bears no id of ours."""
        self.client: Any = Client(self)  # type: ignore[no-untyped-call]
        # ib_async reads the time zone of stamps that have none from here.
        self.ib = SimpleNamespace(TimezoneTWS=zone)
        self.defaultTimezone = UTC
        # It logs a message that it cannot read and goes on: here an execution would be lost in silence.
        decoder: Any = self.client.decoder
        decoder.logger = SimpleNamespace(exception=self._cannot_read)
        self.number = ""
        self.errors: list[tuple[int, int, str]] = []
        self.portfolio: dict[str, tuple[Decimal, Decimal]] = {}
        self.commissions: dict[str, Decimal] = {}
        self._answer_s = answer_s
        self._lost = self._link_lost = False
        self._changed, self._closed = asyncio.Event(), asyncio.Event()
        self.failure = ""
        self._ends: set[tuple[str, int]] = set()
        self._values: dict[tuple[str, str], str] = {}
        self._held: dict[str, Decimal] = {}
        self.costs: dict[str, Decimal] = {}
        self._details: dict[int, list[Any]] = {}
        self._open: dict[_Key, _Order] = {}
        self._completed: list[_Order] = []
        self._executed: dict[str, _Execution] = {}
        self._statuses: dict[_Key, tuple[str, Decimal]] = {}
        self._times: list[datetime] = []
        self.elsewhere: dict[str, str] = {}
        """Accounts of orders that are not of ours, by reference."""

    async def connect(self, host: str, port: int, client_id: int, limit_s: float) -> bool:
        """Whether there is a session; if not, `errors` and ``failure`` say why.

        ib_async waits for the whole of its time limit where TWS closes the connection, as it does after error 326.
        """
        connecting = asyncio.ensure_future(self.client.connectAsync(host, port, client_id, limit_s))
        closed = asyncio.ensure_future(self._closed.wait())
        await asyncio.wait((connecting, closed), return_when=asyncio.FIRST_COMPLETED)
        for one in (connecting, closed):
            one.cancel()
        outcome: list[object] = await asyncio.gather(connecting, closed, return_exceptions=True)
        if outcome[0] is not None:
            self.failure = "it closed the connection" if self._closed.is_set() else type(outcome[0]).__name__
        return outcome[0] is None

    def _cannot_read(self, told: str) -> None:
        if not self.reads_ours_alone or CLIENT_ORDER_PREFIX in told:
            self.unreadable.append(told)

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
        if self._lost:
            raise BrokerUnavailableError("ib: not sent: the connection to TWS ended; look at it and try again")
        if self._link_lost:
            raise BrokerUnavailableError("ib: not sent: TWS has lost its connection to IB (1100); wait for 1102")

    async def time(self) -> datetime:
        """TWS's time, which it keeps by IB's and not by its computer's (reference of EWrapper, currentTime)."""
        self._times.clear()
        self.client.reqCurrentTime()
        await self.wait(lambda: bool(self._times))
        return self._times[-1]

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
                return _amount(value, tag), currency
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
        status, filled = self._statuses.get(one.key, (one.status, one.filled))
        return replace(one, status=status, filled=filled)

    async def executions(self, commissions_s: float | None) -> list[_Execution]:
        """The latest correction of each execution, once its commission is told; None: without waiting for these.

        Those of other clients' orders, and of a person's, are told to TWS's master client alone ("Executions and
        Commissions"): they follow the others at once, or never come.
        """
        from ib_async.objects import ExecutionFilter

        self._executed.clear()
        request = self.client.getReqId()
        self.client.reqExecutions(request, ExecutionFilter(acctCode=self.number))
        await self._ended("executions", request)
        found = list(self._executed.values())
        if commissions_s is not None:
            # One that was broken has none.
            paid = [one for one in found if one.quantity]
            if late := await self._unpaid([one for one in paid if _is_ours(one.ref)], commissions_s):
                raise BrokerUnavailableError(
                    f"ib: the commission of {late[0].full_id}, of {late[0].ref}, is not told yet; ask again (of an "
                    "order of another client id TWS tells it where broker.client_id is its Master API client ID)"
                )
            await self._unpaid(paid, min(1.0, commissions_s / 10))
        return found

    async def _unpaid(self, executed: Sequence[_Execution], limit_s: float) -> list[_Execution]:
        """Of which no commission was told within a time."""

        def late() -> list[_Execution]:
            return [one for one in executed if one.full_id not in self.commissions]

        await self.wait(lambda: not late(), needed=False, limit_s=limit_s)
        return late()

    async def contract(self, symbol: str, given: Security | None) -> Any:
        """The one security of that name, or the one that was given for it.

        Raises:
            OrderRejectedError: there is none, or more than one, or it is no stock in dollars.
            BrokerUnavailableError: TWS does not say: a request that is too much for it tells nothing of a security.
        """
        from ib_async.contract import Contract

        request = self.client.getReqId()
        if given is not None:
            wanted = Contract(conId=given.contract_id, exchange=given.exchange, currency=given.currency)
        else:
            wanted = Contract(symbol=symbol, secType="STK", exchange="SMART", currency=CURRENCY)
        self._details[request] = []
        self.client.reqContractDetails(request, wanted)
        await self.wait(lambda: ("details", request) in self._ends or bool(self._errors_of(request)))
        ids = {detail.contract.conId for detail in self._details[request]}
        if not ids and (unsaid := [text for code, text in self._errors_of(request) if code not in _REFUSALS]):
            raise BrokerUnavailableError(f"ib: not sent: TWS does not say what {symbol} is: {unsaid[0]}; try again")
        if len(ids) != 1:
            said = f"{len(ids)} securities bear that ticker" if ids else "no security bears that ticker"
            raise OrderRejectedError(
                f"ib: {symbol}: {said} at {wanted.exchange} in {wanted.currency}; give its contract id in "
                "broker.contracts"
            )
        found = self._details[request][0].contract
        if found.secType != "STK" or found.currency != CURRENCY:
            raise OrderRejectedError(f"ib: {symbol} is {found.secType} in {found.currency} there; stocks in USD alone")
        return found

    async def place(self, contract: Any, order: Any, instrument: str, exits: Sequence[Any] = ()) -> BrokerOrder:
        """Send the order, with its exits, and wait for its acknowledgement; whatever else happens is uncertain."""
        try:
            return await self._placed(contract, order, instrument, exits)
        except (OrderRejectedError, UncertainOutcomeError):
            raise
        except (BrokerError, ConnectionError) as error:
            raise UncertainOutcomeError(f"{error} ({order.orderRef} may stand)") from error

    async def _placed(self, contract: Any, order: Any, instrument: str, exits: Sequence[Any]) -> BrokerOrder:
        order_id = self.client.getReqId()
        key, keys = (self.client.clientId, order_id), []
        for one in (order, *exits):
            number = order_id if one is order else self.client.getReqId()
            one.parentId, one.transmit = (0 if one is order else order_id), one is (exits or (order,))[-1]
            keys.append((self.client.clientId, number))
            self.client.placeOrder(number, contract, one)
        await self.wait(lambda: self._is_settled(key) and all(map(self._is_settled, keys)))
        for code, text in self._errors_of(order_id):
            if code in _REFUSALS and key not in self._acknowledged():
                raise OrderRejectedError(f"ib: refused ({code}): {text}")
        if unprotected := [number for _, number in keys[1:] if self._is_refused(number)]:
            # Its entry may stand by now, and must not without it.
            self.client.cancelOrder(order_id)
            raise UncertainOutcomeError(
                f"ib: an exit of {order.orderRef} was refused ({self._said(unprotected[0])}); it is being cancelled"
            )
        if key not in self._open:
            side, size = Side(order.action.lower()), Decimal(str(order.totalQuantity))
            status, filled = self._statuses.get(key, ("Cancelled", Decimal(0)))
            return _Order(order.orderRef, order_id, 0, key[0], instrument, side, size, status, filled).told()
        placed = self._current(self._open[key])
        sent = (order.orderRef, Side(order.action.lower()), Decimal(str(order.totalQuantity)))
        if (placed.ref, placed.side, placed.quantity) != sent:
            raise UncertainOutcomeError(f"ib: {order.orderRef} was sent, and TWS tells of {placed}; look it up")
        if placed.status == "Inactive":
            raise OrderRejectedError(f"ib: refused: {self._said(order_id) or 'the order is inactive'}")
        return placed.told()

    def _is_settled(self, key: _Key) -> bool:
        codes = {code for code, _ in self._errors_of(key[1])}
        return bool(codes & (_REFUSALS | {_CANCELLED})) or key in self._acknowledged()

    def _is_refused(self, number: int) -> bool:
        key = (self.client.clientId, number)
        inactive = key in self._open and self._current(self._open[key]).status == "Inactive"
        return inactive or any(code in _REFUSALS for code, _ in self._errors_of(number))

    def _acknowledged(self) -> set[_Key]:
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
        status, _ = self._statuses.get(one.key, ("", Decimal(0)))
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
        self._closed.set()

    def connectionClosed(self) -> None:
        self.setEventsDone()

    def error(self, number: int, code: int, text: str, _advanced: str = "") -> None:
        if code == _LOST:
            self._link_lost = True
        elif code in _RESTORED:
            self._link_lost = False
        self.errors.append((number, code, text))

    def currentTime(self, seconds: int) -> None:
        self._times.append(datetime.fromtimestamp(seconds, UTC))

    def updateAccountValue(self, tag: str, value: str, currency: str, number: str) -> None:
        if number == self.number:
            self._values[tag, currency] = value

    def updatePortfolio(
        self, contract: Any, shares: float, price: float, _v: float, _c: float, _u: float, _r: float, number: str
    ) -> None:
        if number == self.number:
            told = _amount(shares, "shares"), _price_of_one(contract, _known(price, "price"))
            self.portfolio[self.names.of(contract)] = told

    def accountDownloadEnd(self, _number: str) -> None:
        self._ends.add(("account", 0))

    def position(self, number: str, contract: Any, shares: float, cost: float) -> None:
        if number == self.number:
            self.costs[self.names.of(contract)] = _amount(cost, "average cost")
            self._held[self.names.of(contract)] = _amount(shares, "shares")

    def positionEnd(self) -> None:
        self._ends.add(("positions", 0))

    def contractDetails(self, request: int, details: Any) -> None:
        self._details.setdefault(request, []).append(details)

    def contractDetailsEnd(self, request: int) -> None:
        self._ends.add(("details", request))

    def openOrder(self, order_id: int, contract: Any, order: Any, state: Any) -> None:
        if self._is_of_the_account(order):
            one = _order(self.names.of(contract), order, state.status, order_id)
            self._open[one.key] = one

    def _is_of_the_account(self, order: Any) -> bool:
        if order.account != self.number:
            self.elsewhere[order.orderRef] = order.account
        return bool(order.account == self.number)

    def openOrderEnd(self) -> None:
        self._ends.add(("open", 0))

    def orderStatus(
        self, order_id: int, status: str, filled: float, _r: float, _a: float, perm_id: int, _parent: int, _last: float,
        client_id: int, _why: str, _cap: float = 0.0,
    ) -> None:  # fmt: skip
        told = status, _FIELDS.filled({"filled": filled}, "filled")
        self._statuses[_key(client_id, order_id, perm_id)] = told

    def completedOrder(self, contract: Any, order: Any, state: Any) -> None:
        if self._is_of_the_account(order):
            instrument = self.names.of(contract)
            self._completed.append(_order(instrument, order, state.status, 0, state.completedStatus))

    def completedOrdersEnd(self) -> None:
        self._ends.add(("completed", 0))

    def execDetails(self, _request: int, contract: Any, told: Any) -> None:
        if told.acctNumber != self.number or contract.secType == "BAG":
            # A combination is no security: each of its legs is an execution of its own beside it.
            return
        fill_id, _, correction = told.execId.rpartition(".")
        shares = _FIELDS.filled(vars(told), "shares")
        # One that was broken is of no shares, and its price says nothing.
        price = _price_of_one(contract, _FIELDS.positive(vars(told), "price")) if shares else Decimal(0)
        one = _Execution(
            fill_id, int(correction), told.orderRef, self.names.of(contract), _SIDES[told.side], shares, price,
            told.time, str(told.permId),
        )  # fmt: skip
        known = self._executed.get(fill_id)
        if known is None or known.correction <= one.correction:
            self._executed[fill_id] = one

    def execDetailsEnd(self, request: int) -> None:
        self._ends.add(("executions", request))

    def commissionReport(self, report: Any) -> None:
        self.commissions[report.execId] = _amount(report.commission, "commission")


def _order(instrument: str, order: Any, status: str, order_id: int, reason: str = "") -> _Order:
    return _Order(
        order.orderRef, order_id, order.permId, order.clientId, instrument, _ACTIONS[order.action],
        _known(order.totalQuantity, "totalQuantity"), status, _known(order.filledQuantity, "filledQuantity"), reason,
        _known(order.cashQty, "cashQty"),
    )  # fmt: skip


def _message(request: OrderRequest, number: str) -> Any:
    """ib_async's order, of the account ``number``."""
    from ib_async.order import Order

    kind, lasts = _TERMS[request.order_type]
    order = Order(
        action=request.side.value.upper(), totalQuantity=float(request.quantity), orderType=kind, tif=lasts,
        account=number, orderRef=request.client_order_id, transmit=True,
    )  # fmt: skip
    if request.order_type is OrderType.LIMIT:
        order.lmtPrice = float(request.price or 0)
    if request.order_type is OrderType.STOP:
        order.auxPrice = float(request.price or 0)
    return order


def _exits(entry: OrderRequest, bracket: Bracket | None, number: str) -> list[Any]:
    """An entry's exits: children, of which what one fills comes off the other."""
    orders = [] if bracket is None else [_message(one, number) for one in entry.exits(bracket)]
    if len(orders) > 1:
        for order in orders:
            order.ocaGroup, order.ocaType = entry.client_order_id, _REDUCE_WITH_BLOCK
    return orders


def _still_open(orders: Sequence[_Order]) -> tuple[OpenOrder, ...]:
    """Orders that may still fill; of an entry's exits the one that may sell most, and no more than the entry bought."""
    standing = [one for one in orders if one.quantity > one.filled and one.status in _STANDING]
    filled = {one.ref: one.filled for one in standing}
    found, exits = [], dict[str, OpenOrder]()
    for one in standing:
        entry, left = entry_order_id(one.ref), one.quantity - one.filled
        if entry is None:
            found.append(OpenOrder(one.ref, one.instrument, one.side, left))
            continue
        # An entry that no longer stands has filled, or its exits would not stand either.
        most = min(left, filled.get(entry, left))
        if most > 0 and (entry not in exits or most > exits[entry].remaining):
            exits[entry] = OpenOrder(one.ref, one.instrument, one.side, most)
    return (*found, *exits.values())


def _known(value: float, name: str) -> Decimal:
    """A number that is never negative; zero where TWS does not know it, for which it sends the largest double."""
    return Decimal(0) if value <= 0 or value == sys.float_info.max else _amount(value, name)


def _amount(value: float | str, name: str) -> Decimal:
    """A number of TWS's; raises `BrokerError` where it is none."""
    return _FIELDS.number({name: value}, name)
