"""Alpaca's trading API over a real socket: an account, its orders and activities, and the ways in which it may fail.

Fields and their spelling are those of Alpaca's recorded answers and its documentation ("Placing Orders", "Account
Activities", "Bracket Orders", "OTO Orders"; their addresses are in docs/brokers.md); client order ids are unique for
ever, and a second one is refused with HTTP 422.

Faults, taken one for each POST of an order: ``ok``; ``accept_504`` and ``accept_drop`` (it stands, and the answer is a
gateway's page, or none); ``accept_slow`` (it stands, the answer comes after our patience); ``drop`` and ``hang`` (it
never arrived, and the connection drops or nothing comes); ``busy`` (429 with Retry-After, not accepted); ``refuse``
(403); ``html`` (accepted, answered with a web page).
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from served_venue import NEVER, Answer, Request, ServedVenue

_OPEN = ("accepted", "new", "partially_filled")
_ENDED = ("filled", "canceled", "expired", "replaced", "rejected", "done_for_day")
AUCTION = "2022-12-28T21:00:00.123456789Z"


@dataclass
class AlpacaVenue(ServedVenue):
    """One account; every method may be called by the test while the API serves it.

    Attributes:
        now: its clock; None: fills are at the auction, whenever they are told.
        script: faults to come. posts: client order ids of every POST that arrived, accepted or not.
        cancels: what becomes of each cancel: ``ok``; ``part`` or ``all`` (so much of the order fills before it
            arrives); ``wait`` (it is pending for some questions); ``drop`` and ``accept_drop``.
        repeat_fills, reverse_fills: tell each fill twice, or the newest first whatever was asked.
        moving: how often positions change between two reads. tick: by how much prices rise with each read of them.
        data_refused: the market data API answers 403; announcements_gone: the trading API's list is no more.
        refuse_busy: how many questions (GET) are answered 429 with Retry-After. auction: called before each question.
        on_post: called when an order has arrived.
        faults: how often each fault of the script happened. asked: how often each path was.
    """

    now: Callable[[], datetime] | None = None
    cash: Decimal = Decimal(100_000)
    script: list[str] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    activities: list[dict[str, Any]] = field(default_factory=list)
    positions: dict[str, Decimal] = field(default_factory=dict)
    announcements: list[dict[str, Any]] = field(default_factory=list)
    price: Decimal = Decimal(100)
    cost: Decimal = Decimal(80)
    slow_s: float = 1.0
    status: str = "ACTIVE"
    number: str = "PA123"
    repeat_fills: bool = False
    reverse_fills: bool = False
    moving: int = 0
    tick: Decimal = Decimal(0)
    data_refused: bool = False
    announcements_gone: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    unauthorised: bool = False
    refuse_busy: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    auction: Callable[[AlpacaVenue], None] = lambda _venue: None
    on_post: Callable[[], None] = lambda: None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _leaving: dict[str, int] = field(default_factory=dict)
    _at: int = 0
    _risen: Decimal = Decimal(0)

    def waiting(self) -> list[tuple[str, str, Decimal]]:
        found = [(name, order) for name, order in self.orders.items() if order["status"] == "accepted"]
        return [(name, order["symbol"], Decimal(order["qty"])) for name, order in found]

    def standing(self) -> list[dict[str, Any]]:
        return list(self.orders.values())

    def fill(self, client_order_id: str, quantity: Decimal | None = None) -> None:
        """Execute an order, or a part of it."""
        with self._lock:
            order = self.orders[client_order_id]
            left = Decimal(order["qty"]) - Decimal(order["filled_qty"])
            part = left if quantity is None else quantity
            sign = 1 if order["side"] == "buy" else -1
            order["filled_qty"] = str(Decimal(order["filled_qty"]) + part)
            done = part == left
            order["status"] = "filled" if done else "partially_filled"
            self._after_fill(order, part, done)
            self.cash -= sign * part * self.price * _contract(order["symbol"])
            self.positions[order["symbol"]] = self.positions.get(order["symbol"], Decimal(0)) + sign * part
            self.activities.append(
                {
                    "id": f"{self._next()}::{uuid.uuid4()}", "activity_type": "FILL", "order_id": order["id"],
                    "type": "fill" if done else "partial_fill", "price": str(self.price), "qty": str(part),
                    "side": order["side"], "symbol": order["symbol"], "transaction_time": self._stamp(AUCTION),
                    "leaves_qty": str(left - part), "cum_qty": order["filled_qty"], "order_status": order["status"],
                }
            )  # fmt: skip

    def _after_fill(self, order: dict[str, Any], part: Decimal, done: bool) -> None:
        """An entry that is filled lets its target stand, or its one exit; of an exit the other gives way."""
        if order["legs"] and done:
            order["legs"][0]["status"] = "new"
        for other in self._other_legs(order):
            if done:
                other["status"] = "canceled"
            else:
                other["qty"] = str(Decimal(other["qty"]) - part)

    def _other_legs(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        entry = next((one for one in self.orders.values() if order in (one["legs"] or ())), None)
        return [] if entry is None else [leg for leg in entry["legs"] if leg is not order]

    def leg(self, client_order_id: str, kind: str) -> dict[str, Any]:
        """The exit ``kind`` (stop or limit) of an entry."""
        return next(one for one in self.orders[client_order_id]["legs"] if one["type"] == kind)

    def _add_legs(self, entry: dict[str, Any], body: dict[str, Any]) -> None:
        """Exits under names of Alpaca's own, whatever was sent."""
        terms = [("limit", "limit_price", body.get("take_profit")), ("stop", "stop_price", body.get("stop_loss"))]
        entry["legs"] = []
        for kind, field_name, wanted in terms:
            if wanted:
                name = str(uuid.uuid4())
                leg = {
                    **entry, "id": str(uuid.uuid4()), "client_order_id": name, "type": kind, "status": "held",
                    "side": "sell" if entry["side"] == "buy" else "buy", "limit_price": None, "stop_price": None,
                    field_name: str(wanted[field_name]), "legs": None,
                }  # fmt: skip
                self.orders[name] = leg
                entry["legs"].append(leg)

    def revise(self, place: int, quantity: Decimal, price: Decimal, *, names: bool = True) -> None:
        """Break (``quantity`` zero) or correct the trade of an activity; ``names``: tell which one."""
        with self._lock:
            was = next(one for one in self.activities[place::-1] if one["activity_type"] == "FILL")
            order = next(one for one in self.orders.values() if one["id"] == was["order_id"])
            sign, shares = (1 if was["side"] == "buy" else -1), Decimal(was["qty"])
            self.cash -= sign * (quantity * price - shares * Decimal(was["price"]))
            self.positions[was["symbol"]] += sign * (quantity - shares)
            order["filled_qty"] = str(Decimal(order["filled_qty"]) + quantity - shares)
            told = {**was, "id": f"{self._next()}::{uuid.uuid4()}", "type": "trade_correct", "price": str(price)}
            told["qty"] = str(quantity or shares)
            if not quantity:
                told |= {"type": "trade_bust", "reason": "TRADE_BUST"}
            if names:
                told["previous_id"] = was["id"]
            self.activities.append(told)

    def fill_all(self) -> None:
        for name, order in list(self.orders.items()):
            if order["status"] in _OPEN:
                self.fill(name)

    def end(self, client_order_id: str, status: str) -> None:
        with self._lock:
            self.orders[client_order_id]["status"] = status
            for leg in self.orders[client_order_id]["legs"] or ():
                leg["status"] = "rejected" if status == "rejected" else "canceled"

    def book(self, kind: str, **fields: Any) -> None:
        """An activity that is no fill."""
        with self._lock:
            told = {"id": f"{self._next()}::{uuid.uuid4()}", "activity_type": kind, "status": "executed", **fields}
            self.activities.append(told)
            self.cash += Decimal(str(fields.get("net_amount", 0)))

    def combine(self, client_order_id: str, *legs: tuple[str, str, int]) -> None:
        """An order of several symbols (order class ``mleg``) that a person entered: symbol, side and quantity of each.

        As in the example of Alpaca's documentation ("Get order by ID", multi-leg options): the order itself has none of
        these, and tells its legs where it is asked for them.
        """
        self.post_order({"client_order_id": client_order_id, "symbol": "", "side": "", "qty": "1", "type": "limit",
                         "time_in_force": "day"})  # fmt: skip
        order = self.orders[client_order_id]
        order |= {"asset_class": "", "order_class": "mleg"}
        order["legs"] = [
            {**order, "id": str(uuid.uuid4()), "client_order_id": str(uuid.uuid4()), "symbol": symbol, "side": side,
             "qty": str(quantity), "ratio_qty": str(quantity), "asset_class": "us_option", "type": "", "legs": None}
            for symbol, side, quantity in legs
        ]  # fmt: skip

    def deposit(self) -> None:
        """The account's money came by a movement that is told."""
        amount, self.cash = self.cash, Decimal(0)
        self.book("CSD", net_amount=str(amount), date="2022-12-27")

    def _stamp(self, otherwise: str) -> str:
        return otherwise if self.now is None else self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _next(self) -> str:
        self._at += 1
        return f"20221228{self._at:09d}"

    # -- the API -----------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        fault, status, told = "ok", 404, None
        if request.method == "GET":
            status, told = self.get(request.path, {name: values[0] for name, values in request.query.items()})
        elif request.method == "DELETE":
            fault, status, told = self.delete(request.path)
        else:
            fault, status, told = self.post_order(request.body)
        return Answer(status, told, {"Retry-After": "1"} if status == 429 else {}, fault)

    def post_order(self, body: dict[str, Any]) -> tuple[str, int, Any]:
        """The fault, the status and the answer."""
        with self._lock:
            fault = self.script.pop(0) if self.script else "ok"
            self.faults[fault] += 1
            client_id = body["client_order_id"]
            if fault in NEVER:
                return fault, 0, None
            self.posts.append(client_id)
            self.on_post()
            if fault == "busy":
                return fault, 429, {"code": 42910000, "message": "rate limit exceeded"}
            if fault == "refuse":
                return fault, 403, {"code": 40310000, "message": "insufficient buying power"}
            if client_id in self.orders:
                return fault, 422, {"code": 40010001, "message": "client_order_id must be unique"}
            self.orders[client_id] = order = {
                "id": str(uuid.uuid4()), "client_order_id": client_id, "symbol": body["symbol"], "side": body["side"],
                "qty": str(body["qty"]), "filled_qty": "0", "type": body["type"], "status": "accepted",
                "time_in_force": body["time_in_force"], "asset_class": "us_equity", "replaced_by": None,
                "submitted_at": self._stamp(f"2022-12-28T15:00:{len(self.orders):02d}.000000001Z"),
                "filled_avg_price": None,
            }  # fmt: skip
            order |= {name: body.get(name) for name in ("limit_price", "stop_price")} | {"legs": None}
            if body.get("order_class") in ("bracket", "oto"):
                if body["time_in_force"] not in ("day", "gtc"):
                    del self.orders[client_id]
                    return fault, 422, {"code": 42210000, "message": "bracket orders must be DAY or GTC"}
                self._add_legs(order, body)
            return fault, 200, order

    def get(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        with self._lock:
            self._let_go()
            self.auction(self)
            self.asked[path] += 1
            if self.refuse_busy:
                self.refuse_busy -= 1
                return 429, {"code": 42910000, "message": "rate limit exceeded"}
            if self.unauthorised:
                return 401, {"code": 40110000, "message": "request is not authorized"}
            if path == "/v2/account":
                blocks = dict.fromkeys(("account_blocked", "trading_blocked", "trade_suspended_by_user"), False)
                told = {"account_number": self.number, "currency": "USD", "cash": str(self.cash), "status": self.status}
                return 200, told | blocks
            if path == "/v2/positions":
                return 200, self._told_positions()
            if path == "/v2/orders":
                return 200, self._told_orders(query)
            if path == "/v2/orders:by_client_order_id":
                found = _flat(self.orders.get(query["client_order_id"]))
                return (200, found) if found else (404, {"code": 40410000, "message": "order not found"})
            if path.startswith("/v2/orders/"):
                found = next((o for o in self.orders.values() if o["id"] == path.rsplit("/", 1)[1]), None)
                told = found if "nested" in query else _flat(found)
                return (200, told) if told else (404, {"code": 40410000, "message": "order not found"})
            if path == "/v2/account/activities":
                return 200, self._told_activities(query)
            return self._told_actions(path, query)

    def _told_actions(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        """Corporate actions; by the market data API those that were processed in an interval, on their payable date
        unless another is told."""
        if path == "/v2/corporate_actions/announcements" and not self.announcements_gone:
            return 200, [one for one in self.announcements if one["symbol"] == query["symbol"]]
        if path != "/v1/corporate-actions":
            return 404, {"message": "endpoint not found"}
        if self.data_refused:
            return 403, {"message": "subscription does not permit"}
        told = [
            one for one in self.announcements
            if one["symbol"] == query["symbols"]
            and query["start"] <= (one.get("process_date") or one.get("payable_date") or "") <= query["end"]
        ]  # fmt: skip
        return 200, {"corporate_actions": {"cash_dividends": told} if told else {}, "next_page_token": None}

    def delete(self, path: str) -> tuple[str, int, Any]:
        """The fault, the status and the answer."""
        with self._lock:
            fault = self.cancels.pop(0) if self.cancels else "ok"
            if fault != "ok":
                self.faults[f"cancel: {fault}"] += 1
            found = next((o for o in self.orders.values() if o["id"] == path.rsplit("/", 1)[1]), None)
            if fault == "drop":
                return fault, 0, None
            if found is None:
                return "ok", 404, {"message": "order not found"}
            if found["status"] in _OPEN and fault in ("part", "all"):
                left = Decimal(found["qty"]) - Decimal(found["filled_qty"])
                self.fill(found["client_order_id"], left if fault == "all" or left == 1 else Decimal(1))
            if found["status"] not in (*_OPEN, "held"):
                return "ok", 422, {"code": 42210000, "message": "order is not cancelable"}
            self._leaving[found["client_order_id"]] = 5 if fault == "wait" else 0
            found["status"] = "pending_cancel" if fault == "wait" else "canceled"
            for other in [*(found["legs"] or ()), *self._other_legs(found)]:
                if other["status"] in ("held", *_OPEN):
                    other["status"] = "canceled"
            return fault if fault == "accept_drop" else "ok", 204, None

    def _let_go(self) -> None:
        """Cancels that were pending take effect after a few questions."""
        for name in self._leaving:
            if (order := self.orders[name])["status"] == "pending_cancel":
                self._leaving[name] -= 1
                if self._leaving[name] <= 0:
                    order["status"] = "canceled"

    def _told_positions(self) -> list[dict[str, Any]]:
        if self.moving:
            self.moving -= 1
            self.positions["MOVE"] = self.positions.get("MOVE", Decimal(0)) + 1
        self._risen += self.tick
        price = self.price + self._risen
        return [
            {"symbol": name, "qty": str(held), "side": "long" if held > 0 else "short",
             "asset_class": "us_equity" if _contract(name) == 1 else "us_option", "current_price": str(price),
             "avg_entry_price": str(self.cost), "market_value": str(held * price * _contract(name))}
            for name, held in sorted(self.positions.items()) if held
        ]  # fmt: skip

    def _told_orders(self, query: dict[str, str]) -> list[dict[str, Any]]:
        newest = sorted(self.orders.values(), key=lambda o: o["submitted_at"], reverse=True)
        if query.get("status", "open") == "open":
            newest = [o for o in newest if o["status"] not in _ENDED]
        if "after" in query:
            newest = [o for o in newest if datetime.fromisoformat(o["submitted_at"][:26]) > _plain(query["after"])]
        if "until" in query:
            newest = [o for o in newest if o["submitted_at"] < query["until"]]
        page = newest[: int(query.get("limit", 50))]
        if "nested" not in query:
            return [told for one in page if (told := _flat(one))]
        # What is nested is told within its entry alone, and after the page was cut.
        nested = {leg["id"] for one in self.orders.values() for leg in one["legs"] or ()}
        return [one for one in page if one["id"] not in nested]

    def _told_activities(self, query: dict[str, str]) -> list[dict[str, Any]]:
        told = [one for one in self.activities if query.get("activity_types") in (None, one["activity_type"])]
        # What bears a date alone begins with its day.
        told = [one for one in told if one.get("transaction_time", one.get("date", "9")) >= query.get("after", "")[:19]]
        if self.repeat_fills:
            told = [one for one in told for _ in range(2)]
        if self.reverse_fills:
            told = told[::-1]
        if "page_token" in query:
            at = max(place for place, one in enumerate(told) if one["id"] == query["page_token"])
            told = told[at + 1 :]
        return told[: int(query["page_size"])]


def _contract(symbol: str) -> int:
    """Shares of what is traded: an option's symbol is long."""
    return 100 if len(symbol) > 12 else 1


def _flat(order: dict[str, Any] | None) -> dict[str, Any] | None:
    """An order without what is nested in it: that it has an entry, or exits, is not told."""
    return None if order is None else {**order, "legs": None}


def _plain(instant: str) -> datetime:
    return datetime.fromisoformat(instant).astimezone(UTC).replace(tzinfo=None)
