"""Schwab's Trader API over a real socket: a login, an account, its orders and transactions, and its faults.

Fields and their spelling are those of Schwab's recorded answers and its documentation ("Accounts and Trading
Production", "Market Data Production", "OAuth 2 with Refresh Tokens": behind a login, see docs/brokers.md): an order's
id is told in the Location header alone, and orders keep no id of ours. An access token lives 30 minutes; a renewal
needs a refresh token, which lives seven days from the login.

Faults of a send: those of `served_venue`, ``busy`` (429 with Retry-After), ``refuse`` (400), ``denied`` (401),
``no_location`` (accepted, and the header is missing), ``accept_late`` (no answer, and the order is in no list before
its auction), ``twin`` (no answer, and somebody else entered an order as we did at that time, but for `differs`).
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from served_venue import NEVER, Answer, Request, ServedVenue

ACCOUNT, HASH = "12345678", "A1B2C3D4E5F6"
STANDING = ("WORKING", "QUEUED", "PENDING_ACTIVATION", "AWAITING_RELEASE_TIME")
BUSY = Answer(429, {"message": "Too many requests"}, {"Retry-After": "1"}, "busy")
LOST = {"no_location", "accept_late", "twin"}


@dataclass
class SchwabVenue(ServedVenue):
    """One margin account; every method may be called by the test while the API serves it.

    Attributes:
        now: the venue's clock for orders. script: faults to come. posts: orders that were read.
        hidden: ids of orders that no list tells yet. positions: signed shares by symbol.
        costs: of a share, by symbol.
        trade_fees: what is booked for each execution. repeat_fills, reverse_fills: executions twice, or newest first.
        books_late: executions and their fees are booked when `settle` is called; ``unbooked``: those to come.
        balances: told in place of the cash. moving: how often a position changes between two reads.
        tick: by how much prices rise with each read of the account. refuse_busy: questions answered 429.
        told: answers by path instead of its own. auction: called before each question.
        login_expired: a refresh token is refused. revoked: access tokens that are. renewals: how often one was given.
        faults: how often each fault happened. differs: makes the order of somebody else (``twin``) of ours.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    script: list[str] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    transactions: list[dict[str, Any]] = field(default_factory=list)
    positions: dict[str, Decimal] = field(default_factory=dict)
    costs: dict[str, Decimal] = field(default_factory=dict)
    quotes: dict[str, dict[str, Any]] = field(default_factory=dict)
    cash: Decimal = Decimal(100_000)
    price: Decimal = Decimal(100)
    trade_fees: Decimal = Decimal(0)
    slow_s: float = 1.0
    books_late: bool = False
    unbooked: list[dict[str, Any]] = field(default_factory=list)
    balances: dict[str, Any] = field(default_factory=dict)
    tick: Decimal = Decimal(0)
    repeat_fills: bool = False
    reverse_fills: bool = False
    moving: int = 0
    refuse_busy: int = 0
    restricted: bool = False
    login_expired: bool = False
    revoked: set[str] = field(default_factory=set)
    renewals: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    auction: Callable[[SchwabVenue], None] = lambda _venue: None
    differs: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _risen: Decimal = Decimal(0)

    def write_token(self, path: Path, *, expired: bool = False, age: timedelta = timedelta(0)) -> Path:
        """A file as schwab-py leaves it after a login of ``age`` ago."""
        access = {
            "access_token": "access-0", "refresh_token": "refresh", "token_type": "Bearer", "scope": "api",
            "expires_in": 1800, "expires_at": int(time.time()) + (-1 if expired else 1800),
        }  # fmt: skip
        path.write_text(json.dumps({"creation_timestamp": int(time.time() - age.total_seconds()), "token": access}))
        return path

    # -- what the test does to it ------------------------------------------------------------------------------------

    def waiting(self) -> list[tuple[str, str, Decimal]]:
        return [
            (order_id, _symbol(order), Decimal(order["quantity"]))
            for order_id, order in self.orders.items()
            if order["status"] in STANDING and not order["filledQuantity"]
        ]

    def fill(self, order_id: str, quantity: Decimal | None = None) -> None:
        """Execute an order, or a part of it."""
        with self._lock:
            order = self.orders[order_id]
            left = Decimal(order["quantity"]) - Decimal(order["filledQuantity"])
            part = left if quantity is None else quantity
            sign = 1 if order["orderLegCollection"][0]["instruction"].startswith("BUY") else -1
            order["filledQuantity"] = float(Decimal(order["filledQuantity"]) + part)
            order["remainingQuantity"] = float(left - part)
            if part == left:
                order["status"] = "FILLED"
            self.positions[_symbol(order)] = self.positions.get(_symbol(order), Decimal(0)) + sign * part
            self.cash -= sign * part * self.price
            moment = self.now().strftime("%Y-%m-%dT%H:%M:%S+0000")
            leg = {
                "legId": 1,
                "quantity": float(part),
                "mismarkedQuantity": 0.0,
                "price": float(self.price),
                "time": moment,
            }
            order["orderActivityCollection"].append(
                {
                    "activityType": "EXECUTION", "executionType": "FILL", "quantity": float(part),
                    "orderRemainingQuantity": float(left - part), "executionLegs": [leg],
                }
            )  # fmt: skip
            money = {"instrument": {"assetType": "CURRENCY", "symbol": "CURRENCY_USD"}}
            stock = {"instrument": {"assetType": "EQUITY", "symbol": _symbol(order)}}
            items = [
                money | {"amount": float(self.trade_fees), "cost": -float(self.trade_fees), "feeType": "SEC_FEE"},
                stock
                | {"amount": float(sign * part), "cost": float(-sign * part * self.price), "price": float(self.price)},
            ]
            told = {"orderId": int(order_id), "transferItems": items, "time": moment}
            self.unbooked.append({"amount": -sign * part * self.price - self.trade_fees, **told})
            if not self.books_late:
                self.settle()

    def settle(self) -> None:
        """Book what was executed, with its fees."""
        with self._lock:
            for told in self.unbooked:
                self.transact("TRADE", **told)
                self.cash -= self.trade_fees
            self.unbooked.clear()

    def fill_all(self) -> None:
        for order_id, order in list(self.orders.items()):
            if order["status"] in STANDING:
                self.fill(order_id)

    def end(self, order_id: str, status: str) -> None:
        """``rejected`` after it was accepted, ``expired``, or any of Schwab's own words."""
        with self._lock:
            self.orders[order_id]["status"] = status.upper()

    def book(self, kind: str, amount: Decimal, **changes: Any) -> None:
        """Money that came or went otherwise than by a trade."""
        with self._lock:
            self.transact(kind, amount, **changes)
            self.cash += amount

    def transact(self, kind: str, amount: Decimal, **changes: Any) -> None:
        told = {
            "activityId": len(self.transactions) + 1, "time": self.now().strftime("%Y-%m-%dT%H:%M:%S+0000"),
            "type": kind, "status": "VALID", "netAmount": float(amount), "transferItems": [], "description": kind,
            "accountNumber": ACCOUNT,
        }  # fmt: skip
        self.transactions.append(told | changes)

    # -- the API -----------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        with self._lock:
            if request.path == "/v1/oauth/token":
                return self._renewed(request.body)
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not token.startswith("access-") or token in self.revoked:
                return Answer(401, {"errors": [{"status": 401, "title": "Unauthorized"}]})
            path = unquote(request.path)
            orders = f"/trader/v1/accounts/{HASH}/orders"
            if request.method == "POST" and path == orders:
                return self._placed(request.body)
            if request.method == "DELETE" and path.startswith(orders):
                return self._cancelled(path.rsplit("/", 1)[1])
            self.auction(self)
            if self.refuse_busy:
                self.refuse_busy -= 1
                return BUSY
            found = self.told.get(path) if path in self.told else self._get(path, request.query)
            return Answer(404, {"message": "not found"}) if found is None else Answer(200, found)

    def _renewed(self, form: dict[str, list[str]]) -> Answer:
        if self.login_expired or form["refresh_token"] != ["refresh"]:
            told = '400 Bad Request: "{"error":"refresh_token_authentication_error"}"'
            return Answer(400, {"error": "unsupported_token_type", "error_description": told})
        self.renewals += 1
        return Answer(
            200,
            {"expires_in": 1800, "token_type": "Bearer", "scope": "api", "refresh_token": "refresh",
             "access_token": f"access-{self.renewals}", "id_token": "i"},
        )  # fmt: skip

    def _placed(self, body: dict[str, Any]) -> Answer:
        fault = self.script.pop(0) if self.script else "ok"
        self.faults[fault] += 1
        if fault in NEVER:
            return Answer(0, fault=fault)
        self.posts.append(body)
        if fault == "busy":
            return BUSY
        if fault == "denied":
            return Answer(401, {"errors": [{"status": 401, "title": "Unauthorized"}]})
        leg = body["orderLegCollection"][0]
        held = self.positions.get(leg["instrument"]["symbol"], Decimal(0))
        through = {"SELL": leg["quantity"] <= held, "SELL_SHORT": held <= 0, "BUY": held >= 0,
                   "BUY_TO_COVER": leg["quantity"] <= -held}  # fmt: skip
        if fault == "refuse" or not through[leg["instruction"]]:
            return Answer(400, {"message": "This order is not permitted", "errors": ["buying power"]})
        order_id = self._enter(body)
        if fault == "accept_late":
            self.hidden.add(order_id)
        if fault == "twin":
            self._enter(self.differs(copy.deepcopy(body)))
        place = f"https://api.schwabapi.com/trader/v1/accounts/{HASH}/orders/{order_id}"
        headers = {} if fault in LOST else {"Location": place}
        return Answer(201, None, headers, "accept_drop" if fault in ("accept_late", "twin") else fault)

    def _enter(self, body: dict[str, Any]) -> str:
        order_id = str(1_000_000_001 + len(self.orders))
        leg = {**body["orderLegCollection"][0], "legId": 1, "orderLegType": "EQUITY", "positionEffect": "AUTOMATIC"}
        self.orders[order_id] = {
            **body, "orderId": int(order_id), "orderLegCollection": [leg], "quantity": float(leg["quantity"]),
            "filledQuantity": 0.0, "remainingQuantity": float(leg["quantity"]), "status": "PENDING_ACTIVATION",
            "enteredTime": self.now().strftime("%Y-%m-%dT%H:%M:%S+0000"), "cancelable": True,
            "accountNumber": int(ACCOUNT), "orderActivityCollection": [],
        }  # fmt: skip
        return order_id

    def _cancelled(self, order_id: str) -> Answer:
        found = self.orders.get(order_id)
        if found is None:
            return Answer(404, {"message": "Order not found"})
        if found["status"] not in STANDING:
            return Answer(400, {"message": "Order cannot be canceled"})
        found["status"] = "CANCELED"
        return Answer(200)

    def _get(self, path: str, query: Any) -> Any:
        home = f"/trader/v1/accounts/{HASH}"
        if path == "/trader/v1/accounts/accountNumbers":
            return [{"accountNumber": ACCOUNT, "hashValue": HASH}]
        if path == home:
            return {"securitiesAccount": self._told_account(query)}
        if path == f"{home}/orders":
            return self._told_orders(query)
        if path.startswith(f"{home}/orders/"):
            order = self.orders.get(path.rsplit("/", 1)[1])
            return order and self._told_order(order)
        if path == f"{home}/transactions":
            kinds = query["types"][0].split(",")
            return [one for one in self.transactions if one["type"] in kinds]
        if path == "/marketdata/v1/quotes":
            return {name: self.quotes[name] for name in query["symbols"][0].split(",") if name in self.quotes}
        return None

    def _told_account(self, query: Any) -> dict[str, Any]:
        if self.moving:
            self.moving -= 1
            self.positions["MOVE"] = self.positions.get("MOVE", Decimal(0)) + 1
        self._risen += self.tick
        price = self.price + self._risen
        positions = [
            {"longQuantity": float(max(held, Decimal(0))), "shortQuantity": float(max(-held, Decimal(0))),
             "instrument": {"assetType": "EQUITY", "symbol": name}, "marketValue": float(held * price),
             "averagePrice": float(self.costs.get(name, Decimal(0)))}
            for name, held in sorted(self.positions.items()) if held
        ]  # fmt: skip
        return {
            "type": "MARGIN", "accountNumber": ACCOUNT, "isClosingOnlyRestricted": self.restricted,
            "currentBalances": {
                "cashBalance": float(self.cash),
                "liquidationValue": float(self.cash + sum(self.positions.values(), Decimal(0)) * price),
                **self.balances,
            },
            **({"positions": positions} if "positions" in query.get("fields", [""])[0] else {}),
        }  # fmt: skip

    def _told_orders(self, query: Any) -> list[dict[str, Any]]:
        begins, ends = (datetime.fromisoformat(query[name][0]) for name in ("fromEnteredTime", "toEnteredTime"))
        found = [
            self._told_order(order) for order_id, order in self.orders.items()
            if order_id not in self.hidden and begins <= datetime.fromisoformat(order["enteredTime"]) <= ends
        ]  # fmt: skip
        newest = sorted(found, key=lambda order: (order["enteredTime"], order["orderId"]), reverse=True)
        return newest[: int(query.get("maxResults", ["3000"])[0])]

    def _told_order(self, order: dict[str, Any]) -> dict[str, Any]:
        told = list(order["orderActivityCollection"]) if "orderActivityCollection" in order else []
        if self.repeat_fills:
            told = [one for one in told for _ in range(2)]
        return order | {"orderActivityCollection": told[::-1] if self.reverse_fills else told}


def _symbol(order: dict[str, Any]) -> str:
    return str(order["orderLegCollection"][0]["instrument"]["symbol"])
