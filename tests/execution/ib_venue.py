"""TWS's socket over a real socket: an account, its orders and executions, and the ways in which it may fail.

Frames and the order of their fields are those of server version 173, of which real frames are recorded (`wire/ib` of
the recorded data); what each message means is in IBKR Campus, "TWS API documentation" (its address is in
docs/brokers.md).

Faults, taken one for each order that arrives: ``ok``; ``accept_drop`` (it stands, the connection ends); ``silent`` (it
stands, no acknowledgement comes); ``drop`` (the connection ends before it stands); ``refuse`` (error 201);
``late_reject`` (acknowledged, then Inactive); ``fill_drop`` (a part fills, then the connection ends); ``refuse_exit``
(of a bracket the last exit alone, error 110). A bracket is one order that arrives with the last of its family.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

VERSION = 173
NEW_YORK = ZoneInfo("America/New_York")
NUMBER = "DU1234567"
AT = "20221228 16:00:00 US/Eastern"
OPTION = "AAA   240119C00100000"
SECURITIES = {
    OPTION: [5001],
    "AAA": [1001],
    "BBB": [1002],
    "CCC": [1003],
    "DDD": [1004],
    "BRK B": [1005],
    "TWIN": [1006, 1007],
}


@dataclass
class Order:
    """An order as the venue keeps it."""

    order_id: int
    perm_id: int
    client_id: int
    symbol: str
    action: str
    quantity: Decimal
    kind: str
    tif: str
    ref: str
    limit: str = ""
    trigger: str = ""
    parent: int = 0
    group: str = ""
    status: str = "PreSubmitted"
    filled: Decimal = Decimal(0)
    entered: int = 0
    money: Decimal = Decimal(0)

    @property
    def stands(self) -> bool:
        return self.status in ("PreSubmitted", "Submitted")


@dataclass
class IbVenue:
    """One account; every method may be called by the test while TWS serves it.

    Attributes:
        now: TWS's clock; None: it is never ahead of a test's, and executions are at the auction.
        script: faults to come. posts: references of every order that arrived, whether it stands or not.
        repeat, reverse: tell each execution twice, or the newest first. stale: how often account values lag behind.
        no_commission: executions whose commission is not told.
        master: the client that hears of commissions of others' orders ("Executions and Commissions").
        slow_s: how long it takes until a connection is ready.
        taken: client ids of connections; a second one under the same is refused with error 326.
        auction: called before each question. refuse: connections are closed before they are ready.
        lost: TWS says that it lost IB (1100). told: answers by the number of the request instead of its own.
    """

    now: Callable[[], datetime] | None = None
    cash: Decimal = Decimal(100_000)
    script: list[str] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    executions: list[dict[str, Any]] = field(default_factory=list)
    positions: dict[str, Decimal] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    accounts: str = NUMBER
    currency: str = "USD"
    price: Decimal = Decimal(100)
    commission: Decimal = Decimal(0)
    repeat: bool = False
    reverse: bool = False
    stale: int = 0
    refuse: int = 0
    lost: bool = False
    told: dict[str, Callable[[list[str]], Iterable[list[Any]]]] = field(default_factory=dict)
    no_commission: set[str] = field(default_factory=set)
    master: int | None = None
    slow_s: float = 0.0
    taken: set[int] = field(default_factory=set)
    auction: Callable[[IbVenue], None] = lambda _venue: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    _held: list[Order] = field(default_factory=list)
    _fault: str = "ok"

    def __enter__(self) -> IbVenue:
        venue = self

        class Handler(_Session):
            house = venue

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def seconds(self) -> int:
        """What TWS says the time is."""
        return int((datetime(2022, 12, 1, tzinfo=UTC) if self.now is None else self.now()).timestamp())

    def garbled(self, status: int, frame: bytes) -> tuple[int, bytes]:
        """What leaves in place of a frame; as of `served_venue.ServedVenue`."""
        return status, frame

    def order(self, ref: str) -> Order:
        return next(order for order in self.orders if order.ref == ref)

    def fill(self, ref: str, quantity: Decimal | None = None) -> None:
        """Execute an order, or a part of it."""
        with self.lock:
            order = self.order(ref)
            part = order.quantity - order.filled if quantity is None else quantity
            sign = 1 if order.action == "BUY" else -1
            order.filled += part
            order.status = "Filled" if order.filled == order.quantity else "Submitted"
            self._after_fill(order, part)
            self.cash -= sign * part * self.price * multiplier(order.symbol) + self.commission
            self.positions[order.symbol] = self.positions.get(order.symbol, Decimal(0)) + sign * part
            told = {"id": f"0000e0d5.{len(self.executions):08x}.01.01", "order": order, "shares": part}
            told["at"] = AT if self.now is None else f"{self.now().astimezone(NEW_YORK):%Y%m%d %H:%M:%S} US/Eastern"
            self.executions.append({**told, "price": self.price})

    def _after_fill(self, order: Order, part: Decimal) -> None:
        """A parent that is filled lets its children go; of a group of two the other is reduced by what was filled."""
        for one in self.orders:
            if one.parent == order.order_id and one.client_id == order.client_id and order.status == "Filled":
                one.status = "Submitted"
            if order.group and one.group == order.group and one is not order:
                one.quantity -= part
                one.status = "Cancelled" if not one.quantity else one.status

    def _cancel(self, order: Order) -> None:
        order.status = "Cancelled"
        for one in self.orders:
            if one.parent == order.order_id and one.client_id == order.client_id and one.stands:
                one.status = "Cancelled"

    def correct(self, place: int, price: Decimal, shares: Decimal | None = None) -> None:
        """Tell an execution again under the next number, at another price and of other shares; of none: broken."""
        with self.lock:
            wrong = self.executions[place]
            order, shares = wrong["order"], wrong["shares"] if shares is None else shares
            sign = 1 if order.action == "BUY" else -1
            self.cash -= sign * (shares * price - wrong["shares"] * wrong["price"]) * multiplier(order.symbol)
            self.positions[order.symbol] += sign * (shares - wrong["shares"])
            self.executions.append({**wrong, "id": wrong["id"][:-2] + "02", "price": price, "shares": shares})

    def forget(self) -> None:
        """The next day: TWS tells neither executions nor completed orders of the one before."""
        with self.lock:
            self.executions.clear()
            self.orders = [order for order in self.orders if order.stands]

    def waiting(self) -> list[tuple[str, str, Decimal]]:
        plain = [one for one in self.orders if not one.parent]
        return [(one.ref, one.symbol, one.quantity - one.filled) for one in plain if one.stands]

    def end(self, ref: str, status: str) -> None:
        """``status`` is TWS's, or as of `served_venue.Auctioned`; what filled in part is cancelled, never rejected."""
        with self.lock:
            order = self.order(ref)
            rejected = "Cancelled" if order.filled else "Inactive"
            self._cancel(order)
            order.status = {"rejected": rejected, "expired": "Cancelled"}.get(status, status)

    # -- frames ------------------------------------------------------------------------------------------------------

    def place(self, body: list[str], client_id: int) -> Iterator[list[Any] | None]:
        """What an order comes to: frames, and None where the connection ends."""
        with self.lock:
            order = Order(
                int(body[1]), 900_000 + len(self.orders) + len(self._held), client_id, body[3], body[16],
                Decimal(body[17]), body[18], body[21], body[26], body[19], body[20], int(body[28]), body[22],
                entered=self.seconds(),
            )  # fmt: skip
            if not order.parent:
                self._fault = self.script.pop(0) if self.script else "ok"
                self.faults[self._fault] += 1
            fault = self._fault
            if fault == "drop":
                yield None
                return
            if body[27] == "0":
                # TWS keeps it until the last of its family has come.
                self._held.append(order)
                return
            if self._held:
                yield from self._place_family(order, fault)
                return
            self.posts.append(order.ref)
            if fault == "refuse":
                yield error(order.order_id, 201, "Order rejected - reason:The account lacks the funds")
                return
            self.orders.append(order)
            if fault == "fill_drop":
                self.fill(order.ref, max(order.quantity // 2, Decimal(1)))
            if fault in ("accept_drop", "fill_drop"):
                yield None
            if fault in ("accept_drop", "fill_drop", "silent"):
                return
            if fault == "late_reject":
                order.status = "Inactive"
                yield error(order.order_id, 201, "Order rejected - reason:Not available for this account")
            yield open_order(order)
            yield status(order)

    def _place_family(self, last: Order, fault: str) -> Iterator[list[Any] | None]:
        """A parent and its children, which stand or fall together."""
        family, self._held = [*self._held, last], []
        entry = family[0]
        self.posts.append(entry.ref)
        if fault == "refuse":
            for one in family:
                yield error(one.order_id, 201, "Order rejected - reason:The account lacks the funds")
            return
        self.orders += family
        if fault == "refuse_exit":
            self.orders.remove(last)
        if fault == "fill_drop":
            self.fill(entry.ref, max(entry.quantity // 2, Decimal(1)))
        if fault in ("accept_drop", "fill_drop"):
            yield None
        elif fault != "silent":
            yield from self._told_family(family, fault)

    def _told_family(self, family: list[Order], fault: str) -> Iterator[list[Any]]:
        for one in family:
            if fault == "late_reject":
                one.status = "Inactive"
                yield error(one.order_id, 201, "Order rejected - reason:Not available for this account")
            if one in self.orders:
                yield open_order(one)
                yield status(one)
            else:
                yield error(one.order_id, 110, "The price does not conform to the minimum price variation")

    def cancel(self, order_id: int, client_id: int) -> Iterator[list[Any]]:
        with self.lock:
            found = [o for o in self.orders if (o.order_id, o.client_id) == (order_id, client_id)]
            if not found:
                yield error(order_id, 10147, f"OrderId {order_id} that needs to be cancelled is not found.")
            elif not found[0].stands:
                yield error(order_id, 10148, f"OrderId {order_id} that needs to be cancelled can not be cancelled.")
            else:
                self._cancel(found[0])
                yield status(found[0])
                yield error(order_id, 202, "Order Canceled - reason:")

    def account_values(self) -> Iterator[list[Any]]:
        with self.lock:
            self.auction(self)
            lagging = self.stale > 0
            self.stale -= lagging
            yield [6, 2, "AccountType", "INDIVIDUAL", "", NUMBER]
            yield [6, 2, "TotalCashValue", self.cash, self.currency, NUMBER]
            for symbol, held in self.positions.items():
                shares = held + 1 if lagging else held
                worth = self.price * multiplier(symbol)
                numbers = [shares, self.price, shares * worth, worth, 0, 0]
                yield [7, 8, *security(symbol)[:7], "NASDAQ", "USD", symbol, "NMS", *numbers, NUMBER]
            yield [54, 1, NUMBER]

    def told_positions(self) -> Iterator[list[Any]]:
        with self.lock:
            for symbol, held in self.positions.items():
                yield [61, 3, NUMBER, *security(symbol), held, self.price * multiplier(symbol)]
            yield [62, 1]

    def told_executions(self, request: str, client_id: int) -> Iterator[list[Any]]:
        with self.lock:
            self.auction(self)
            told = [one for one in self.executions for _ in range(2 if self.repeat else 1)]
            for one in reversed(told) if self.reverse else told:
                order = one["order"]
                yield [
                    11, request, order.order_id, *security(order.symbol), one["id"], one["at"], NUMBER, "NYSE",
                    "BOT" if order.action == "BUY" else "SLD", one["shares"], one["price"], order.perm_id,
                    order.client_id, 0, one["shares"], one["price"], order.ref, "", "", "", 2,
                ]  # fmt: skip
                if self.reverse and self._tells_commission(one, client_id):
                    yield [59, 1, one["id"], self.commission, "USD", "", "", ""]
            yield [55, 1, request]
            for one in [] if self.reverse else told:
                if self._tells_commission(one, client_id):
                    yield [59, 1, one["id"], self.commission, "USD", "", "", ""]

    def _tells_commission(self, execution: dict[str, Any], client_id: int) -> bool:
        hears = client_id in (execution["order"].client_id, self.master)
        return hears and execution["id"] not in self.no_commission

    def standing(self) -> Iterator[list[Any]]:
        with self.lock:
            self.auction(self)
            for order in self.orders:
                if order.stands:
                    yield open_order(order)
                    yield status(order)
            yield [53, 1]

    def completed(self) -> Iterator[list[Any]]:
        with self.lock:
            yield from (completed_order(order) for order in self.orders if not order.stands)
            yield [102]


def security(symbol: str) -> list[Any]:
    """A contract's fields, as most messages have them."""
    if symbol == OPTION:
        return [SECURITIES[symbol][0], "AAA", "OPT", "20240119", "100", "C", "100", "SMART", "USD", symbol, "AAA"]
    return [SECURITIES[symbol][0], symbol, "STK", "", "0", "", "", "SMART", "USD", symbol, "NMS"]


def multiplier(symbol: str) -> int:
    """Of how many shares one is."""
    return 100 if symbol == OPTION else 1


def error(number: int, code: int, text: str) -> list[Any]:
    return [4, 2, number, code, text, ""]


def status(order: Order) -> list[Any]:
    left = order.quantity - order.filled
    return [3, order.order_id, order.status, order.filled, left, 0, order.perm_id, 0, 0, order.client_id, "", 0]


def open_order(order: Order) -> list[Any]:
    return [
        5, order.order_id, *security(order.symbol), order.action, order.quantity, order.kind, order.limit,
        order.trigger, order.tif, "", NUMBER, "", 0, order.ref, order.client_id, order.perm_id, 0, 0, 0, "", "", "", "",
        "", "", *[""] * 29, *[""] * 7, 0, 0, 0, "", "", "", "", "", "", "", "", 0, "", 0, 0, order.status, *[""] * 16,
        0, *[""] * 11, order.money or "", *[""] * 4, *[""] * 3, *[""] * 5,
    ]  # fmt: skip


def completed_order(order: Order) -> list[Any]:
    """Of one that filled TWS tells no quantity (hadrianl/ibapi, issue 18)."""
    size = 0 if order.status == "Filled" else order.quantity
    return [
        101, *security(order.symbol), order.action, size, order.kind, order.limit, order.trigger, order.tif,
        "", NUMBER, "", 0, order.ref, order.perm_id, 0, 0, 0, "", "", "", "", "", *[""] * 23, *[""] * 5, 0, 0, 0, "",
        "", "", "", "", "", "", 0, "", 0, order.status, 0, 0, 0, *[""] * 6, order.filled, *[""] * 6, AT,
        f"{order.status} by the venue", *[""] * 5,
    ]  # fmt: skip


def details(request: str, symbol: str, contract_id: int) -> list[Any]:
    return [
        10, request, symbol, "STK", "", "0", "", "SMART", "USD", symbol, "NMS", "NMS", contract_id, "0.01", "", "MKT",
        "SMART", 1, 0, symbol, "NASDAQ", "", "", "", "", "US/Eastern", "", "", "", 0, 0, 1, "", "", "26", "", "COMMON",
        "0.0001", "0.0001", "100",
    ]  # fmt: skip


class _Session(socketserver.BaseRequestHandler):
    house: IbVenue
    client_id: int = -1

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        venue, wire = self.house, self.request.makefile("rb")
        if wire.read(4) != b"API\0" or not self._frame(wire):
            return
        if venue.refuse:
            venue.refuse -= 1
            return
        self._send([VERSION, AT])
        client_id = 0
        while body := self._frame(wire):
            if body[0] == "71":
                client_id = int(body[2])
                answers: Any = self._started(client_id)
            else:
                answers = self._answers(body, client_id)
            for frame in answers:
                if frame is None:
                    return
                self._send(frame)

    def _started(self, client_id: int) -> Iterator[list[Any] | None]:
        venue = self.house
        with venue.lock:
            if client_id in venue.taken:
                yield error(-1, 326, "Unable to connect as the client id is already in use. Retry with a unique id.")
                yield None
                return
            venue.taken.add(client_id)
            self.client_id = client_id
        time.sleep(venue.slow_s)
        yield from self._ready(client_id)

    def finish(self) -> None:
        with self.house.lock:
            self.house.taken.discard(self.client_id)

    def _ready(self, client_id: int) -> Iterator[list[Any]]:
        venue = self.house
        yield [15, 1, venue.accounts]
        yield [9, 1, 1 + max((o.order_id for o in venue.orders if o.client_id == client_id), default=0)]
        yield error(-1, 1100, "lost") if venue.lost else error(-1, 2104, "Market data farm connection is OK:usfarm")

    def _answers(self, body: list[str], client_id: int) -> Any:
        venue = self.house
        if body[0] in venue.told:
            return venue.told[body[0]](body)
        if body[0] == "6":
            return venue.account_values() if body[2] == "1" else ()
        if body[0] == "9":
            return self._securities(body)
        ask: dict[str, Callable[[], Any]] = {
            "3": lambda: venue.place(body, client_id), "4": lambda: venue.cancel(int(body[2]), client_id),
            "7": lambda: venue.told_executions(body[2], client_id), "16": venue.standing, "61": venue.told_positions,
            "99": venue.completed, "64": lambda: (), "49": lambda: [[49, 1, venue.seconds()]],
        }  # fmt: skip
        return ask[body[0]]()

    def _securities(self, body: list[str]) -> Iterator[list[Any]]:
        request, contract_id, symbol = body[2], int(body[3]), body[4]
        found = [(n, i) for n, ids in SECURITIES.items() for i in ids if contract_id in (0, i) and symbol in ("", n)]
        if not found:
            yield error(int(request), 200, "No security definition has been found for the request")
            return
        yield from (details(request, name, number) for name, number in found)
        yield [52, 1, request]

    @staticmethod
    def _frame(wire: Any) -> list[str]:
        head = wire.read(4)
        if len(head) < 4:
            return []
        return str(wire.read(struct.unpack(">I", head)[0]).decode()).split("\0")

    def _send(self, fields: list[Any]) -> None:
        _, body = self.house.garbled(0, "".join(f"{one}\0" for one in fields).encode())
        try:
            self.request.sendall(struct.pack(">I", len(body)) + body)
        except OSError:
            return
