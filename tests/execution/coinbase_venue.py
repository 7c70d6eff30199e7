"""Coinbase's Advanced Trade API over a real socket: a portfolio, its orders, fills and transactions, and its faults.

Fields and their spelling are those of Coinbase's recorded answers and its documentation ("Create Order", "List Orders",
"List Fills", "List Accounts", "List Products", "Get API Key Permissions", "Cancel Orders", and "Transactions" of the
older API; their addresses are in docs/brokers.md). An order under a client order id that is taken is not created, and
the first one is returned. Every request must bear a token that the key signed for this method, host and path, and that
is valid at the venue's own clock.

Faults of a send: those of `served_venue`, ``busy`` (429 with Retry-After), ``refuse`` (not created: HTTP 200, success
false), ``unclear`` (created, and said to have failed for an unknown reason), ``denied`` (HTTP 401).
"""

from __future__ import annotations

import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from served_venue import NEVER, Answer, Request, ServedVenue

KEY = "organizations/11111111-2222-3333-4444-555555555555/apiKeys/66666666-7777-8888-9999-000000000000"
PREFIX = "/api/v3/brokerage"
STANDING = ("OPEN", "PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED")
EXECUTED_AT = "2022-12-28T21:00:00.123456789Z"
PAIRED = Answer(400, {"error": "INVALID_ARGUMENT", "message": "cannot pair OPEN orders with other order types"})
BUSY = Answer(429, {"error": "RESOURCE_EXHAUSTED", "message": "rate limit exceeded"}, {"Retry-After": "1"}, "busy")


@cache
def signing_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def secret() -> str:
    """The private key as Coinbase hands it out."""
    form, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    return signing_key().private_bytes(serialization.Encoding.PEM, form, plain).decode()


@dataclass
class CoinbaseVenue(ServedVenue):
    """One portfolio in US dollars; every method may be called by the test while the API serves it.

    Attributes:
        now: its clock for orders; None: fills are at the close, whenever they are told.
        script: faults to come. posts: client order ids of every POST of an order that was read.
        coins: the currencies that have a product in dollars. amounts: what each wallet holds, dollars included.
        costs: average price of entry, by coin.
        fee: commission of each fill as a fraction of its value.
        repeat_fills, reverse_fills: tell each fill twice, or the newest last. page: the longest page.
        moving: how often a wallet changes between two reads. refuse_busy: questions answered 429.
        ahead: how far the venue's clock is ahead of this computer's. told: answers by path instead of its own.
        auction: called before each question. faults: how often each fault happened. unsigned: requests it refused.
    """

    now: Callable[[], datetime] | None = None
    script: list[str] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: list[dict[str, Any]] = field(default_factory=list)
    transactions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    amounts: dict[str, Decimal] = field(default_factory=lambda: {"USD": Decimal(100_000)})
    costs: dict[str, Decimal] = field(default_factory=dict)
    coins: tuple[str, ...] = ("AAA", "BBB", "CCC", "DDD", "BTC", "ETH")
    price: Decimal = Decimal(100)
    fee: Decimal = Decimal(0)
    slow_s: float = 1.0
    can_trade: bool = True
    repeat_fills: bool = False
    reverse_fills: bool = False
    page: int = 250
    moving: int = 0
    refuse_busy: int = 0
    ahead: timedelta = timedelta(0)
    told: dict[str, Any] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    unsigned: int = 0
    auction: Callable[[CoinbaseVenue], None] = lambda _venue: None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # -- what the test does to it ------------------------------------------------------------------------------------

    def waiting(self) -> list[tuple[str, str, Decimal]]:
        found = [order for order in self.orders.values() if order["status"] in STANDING]
        return [
            (order["client_order_id"], order["product_id"].removesuffix("-USD"), _size(order))
            for order in found
            if not Decimal(order["filled_size"])
        ]

    def fill(self, client_order_id: str, quantity: Decimal | None = None) -> None:
        """Execute an order, or a part of it."""
        with self._lock:
            order = self.orders[client_order_id]
            left = _size(order) - Decimal(order["filled_size"])
            part = left if quantity is None else quantity
            sign, coin = (1 if order["side"] == "BUY" else -1), order["product_id"].removesuffix("-USD")
            value = part * self.price
            fee = value * self.fee
            order["filled_size"] = str(Decimal(order["filled_size"]) + part)
            if part == left:
                order["status"] = "FILLED"
            self._move(coin, sign * part)
            self._move("USD", -sign * value - fee)
            self.executions.append(
                {
                    "entry_id": str(uuid.uuid4()), "trade_id": str(uuid.uuid4()), "order_id": order["order_id"],
                    "trade_time": self._stamp(EXECUTED_AT), "sequence_timestamp": self._stamp(EXECUTED_AT),
                    "trade_type": "FILL", "price": str(self.price), "size": str(part),
                    "commission": str(fee), "product_id": order["product_id"],
                    "liquidity_indicator": "TAKER", "size_in_quote": False, "user_id": "u", "side": order["side"],
                }
            )  # fmt: skip
            self._transact(coin, "advanced_trade_fill", sign * part)
            self._transact("USD", "advanced_trade_fill", -sign * value - fee)

    def fill_all(self) -> None:
        for name, order in list(self.orders.items()):
            if order["status"] in STANDING:
                self.fill(name)

    def end(self, client_order_id: str, status: str) -> None:
        """``rejected``: after it was accepted. ``expired``: what is left of a market order is cancelled."""
        with self._lock:
            self.orders[client_order_id]["status"] = {"rejected": "FAILED", "expired": "CANCELLED"}.get(status, status)

    def book(self, currency: str, kind: str, amount: Decimal, **changes: Any) -> None:
        """Money or coins that came or went otherwise than by a fill."""
        with self._lock:
            self._transact(currency, kind, amount, **changes)
            self._move(currency, amount)

    def _transact(self, currency: str, kind: str, amount: Decimal, **changes: Any) -> None:
        told = {
            "id": str(uuid.uuid4()), "type": kind, "status": "completed", "created_at": "2022-12-28T12:00:00Z",
            "amount": {"amount": str(amount), "currency": currency}, "resource": "transaction", "description": None,
        }  # fmt: skip
        self.transactions.setdefault(currency, []).append(told | changes)

    def _stamp(self, otherwise: str) -> str:
        return otherwise if self.now is None else self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _move(self, currency: str, amount: Decimal) -> None:
        self.amounts[currency] = self.amounts.get(currency, Decimal(0)) + amount

    # -- the API -----------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        with self._lock:
            if not self._is_signed(request):
                self.unsigned += 1
                date = (datetime.now(UTC) + self.ahead).strftime("%a, %d %b %Y %H:%M:%S GMT")
                return Answer(401, {"error": "unauthorized", "message": "Unauthorized"}, {"Date": date})
            if request.method == "POST":
                if request.path == f"{PREFIX}/orders":
                    return self.post_order(request.body)
                if request.path == f"{PREFIX}/orders/batch_cancel":
                    return Answer(200, {"results": [self._cancelled(name) for name in request.body["order_ids"]]})
                return Answer(404, {"error": "NOT_FOUND", "message": "no such resource"})
            self.auction(self)
            if self.refuse_busy:
                self.refuse_busy -= 1
                return BUSY
            states = request.query.get("order_status", [])
            if "OPEN" in states and len(states) > 1:
                # "List Orders": OPEN is asked for by itself.
                return PAIRED
            found = self.told.get(request.path) or self._get(request.path, request.query)
            return Answer(200, found) if found is not None else Answer(404, {"error": "NOT_FOUND", "message": "?"})

    def _is_signed(self, request: Request) -> bool:
        """Signed by the key for this request, and valid now by the venue's clock (an API gateway allows no leeway)."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(
                token, signing_key().public_key(), algorithms=["ES256"],
                options={"verify_exp": False, "verify_nbf": False},
            )  # fmt: skip
        except jwt.InvalidTokenError:
            return False
        now = (datetime.now(UTC) + self.ahead).timestamp()
        named = (claims["sub"], claims["iss"], claims["uri"])
        return named == (KEY, "cdp", f"{request.method} api.coinbase.com{request.path}") and (
            claims["nbf"] <= now < claims["exp"]
        )

    def post_order(self, body: dict[str, Any]) -> Answer:
        fault = self.script.pop(0) if self.script else "ok"
        self.faults[fault] += 1
        if fault in NEVER:
            return Answer(0, fault=fault)
        client_id = body["client_order_id"]
        self.posts.append(client_id)
        if fault == "busy":
            return BUSY
        if fault == "denied":
            return Answer(401, {"error": "unauthorized"})
        if fault == "refuse":
            told = {"error": "INSUFFICIENT_FUND", "message": "Insufficient balance in source account"}
            return Answer(200, {"success": False, "error_response": told, "order_configuration": {}})
        if client_id not in self.orders:
            self.orders[client_id] = {
                "order_id": str(uuid.uuid4()), "client_order_id": client_id, "product_id": body["product_id"],
                "side": body["side"], "order_configuration": body["order_configuration"], "status": "OPEN",
                "filled_size": "0", "created_time": self._stamp(f"2022-12-28T15:00:00.{len(self.orders):06d}Z"),
                "product_type": "SPOT", "reject_reason": "REJECT_REASON_UNSPECIFIED", "size_in_quote": False,
            }  # fmt: skip
        order = self.orders[client_id]
        if fault == "unclear":
            told = {"error": "UNKNOWN_FAILURE_REASON", "message": ""}
            return Answer(200, {"success": False, "error_response": told, "order_configuration": {}})
        named = {name: order[name] for name in ("order_id", "product_id", "side", "client_order_id")}
        told = {"success": True, "success_response": named, "order_configuration": order["order_configuration"]}
        return Answer(200, told, fault=fault)

    def _cancelled(self, order_id: str) -> dict[str, Any]:
        found = self._by_id(order_id)
        if found is None or found["status"] not in STANDING:
            return {"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": order_id}
        found["status"] = "CANCELLED"
        return {"success": True, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": order_id}

    def _by_id(self, order_id: str) -> dict[str, Any] | None:
        return next((order for order in self.orders.values() if order["order_id"] == order_id), None)

    def _get(self, path: str, query: Any) -> Any:
        if path.startswith("/v2/accounts/"):
            return self._told_transactions(path.split("/")[3], query)
        lists = {
            "/accounts": lambda: self._paged("accounts", self._told_wallets(), query),
            "/orders/historical/batch": lambda: self._paged("orders", self._told_orders(query), query),
            "/orders/historical/fills": lambda: self._paged("fills", self._told_fills(query), query),
            "/products": lambda: {"products": [self._product(coin) for coin in self.coins]},
            "/key_permissions": lambda: {
                "can_view": True, "can_trade": self.can_trade, "can_transfer": False, "portfolio_uuid": "P-1",
                "portfolio_type": "DEFAULT",
            },
        }  # fmt: skip
        resource = path.removeprefix(PREFIX)
        if resource in lists:
            return lists[resource]()
        if resource == "/portfolios/P-1":
            return {"breakdown": {"spot_positions": [self._position(*one) for one in self.amounts.items()]}}
        if resource.startswith("/orders/historical/"):
            found = self._by_id(resource.rsplit("/", 1)[1])
            return found and {"order": found}
        coin, _, quote = resource.removeprefix("/products/").partition("-")
        return self._product(coin) if coin in self.coins and quote == "USD" else None

    def _position(self, coin: str, amount: Decimal) -> dict[str, Any]:
        """As in "Get Portfolio Breakdown"; what was sent in has no price of entry."""
        cost = self.costs.get(coin, Decimal(0))
        return {
            "asset": coin, "is_cash": coin == "USD", "total_balance_crypto": float(amount),
            "average_entry_price": {"value": str(cost), "currency": "USD"},
            "cost_basis": {"value": str(cost * amount), "currency": "USD"},
        }  # fmt: skip

    def _paged(self, name: str, told: list[dict[str, Any]], query: Any) -> dict[str, Any]:
        first = int(query.get("cursor", ["0"])[0])
        last = first + min(int(query.get("limit", ["100"])[0]), self.page)
        more = last < len(told)
        return {name: told[first:last], "has_next": more, "cursor": str(last) if more else ""}

    def _told_wallets(self) -> list[dict[str, Any]]:
        if self.moving:
            self.moving -= 1
            self._move("ETH", Decimal(1))
        return [
            {"uuid": currency, "name": f"{currency} Wallet", "currency": currency, "active": True, "ready": True,
             "available_balance": {"value": str(amount), "currency": currency},
             "hold": {"value": "0", "currency": currency}}
            for currency, amount in sorted(self.amounts.items())
        ]  # fmt: skip

    def _told_orders(self, query: Any) -> list[dict[str, Any]]:
        wanted, states = query.get("order_ids"), query.get("order_status")
        found = [
            order for order in self.orders.values()
            if (wanted is None or order["order_id"] in wanted) and (states is None or order["status"] in states)
        ]  # fmt: skip
        return sorted(found, key=lambda order: order["created_time"], reverse=True)

    def _told_fills(self, query: Any) -> list[dict[str, Any]]:
        begins = datetime.fromisoformat(query.get("start_sequence_timestamp", ["1970-01-01T00:00:00Z"])[0])
        told = [one for one in self.executions[::-1] if _instant(one["sequence_timestamp"]) >= begins]
        if self.repeat_fills:
            told = [one for one in told for _ in range(2)]
        return told[::-1] if self.reverse_fills else told

    def _told_transactions(self, currency: str, query: Any) -> dict[str, Any]:
        told = self.transactions.get(currency, [])[::-1]
        after = query.get("starting_after", [None])[0]
        first = 0 if after is None else 1 + next(at for at, one in enumerate(told) if one["id"] == after)
        last = first + min(int(query.get("limit", ["25"])[0]), self.page)
        more = f"/v2/accounts/{currency}/transactions" if last < len(told) else None
        return {"pagination": {"next_uri": more, "limit": 25, "order": "desc"}, "data": told[first:last]}

    def _product(self, coin: str) -> dict[str, Any]:
        return {
            "product_id": f"{coin}-USD", "price": str(self.price), "base_increment": "0.00000001",
            "quote_increment": "0.01", "price_increment": "0.01", "base_min_size": "0.00000001",
            "base_max_size": "3400", "quote_currency_id": "USD", "base_currency_id": coin, "product_type": "SPOT",
        }  # fmt: skip


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def _size(order: dict[str, Any]) -> Decimal:
    (terms,) = order["order_configuration"].values()
    return Decimal(terms["base_size"])
