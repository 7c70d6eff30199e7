"""Whatever Alpaca's answers look like, each call ends in a value that makes sense or in an error of the order path.

The venue is sound and its answers are spoiled on their way: fields dropped, of other types and sizes, another status,
bytes cut off or changed. What was accepted is never taken for refused or for not sent.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alpaca_venue import AlpacaVenue
from execution_support import CLOSE, OPEN, SESSIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.orders import OrderType, Side
from octopus.execution.states import OrderState
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import BrokerError, BrokerUnavailableError, OrderRejectedError, UncertainOutcomeError
from resources.sources.http import Access
from resources.sources.patience import Patience

D = Decimal
TEN = D(10)
CALLS = ("submit", "submit", "submit", "order", "cancel", "account", "snapshot", "fills", "statement")

VALUES = (
    None, True, False, -2, 0, 2, 0.5, -1e308, float("nan"), float("inf"), "", " ", "0", "-10", "10.5", "1e999",
    "1e-400", "NaN", "-Infinity", "1e15", "9" * 30, 10**30, -(10**400), [], {}, [[]], {"a": 1}, "sell", "buy", "short",
    "hold", "new", "filled", "teleported", "2022-02-31", "0001-01-01", "9999-12-31T23:59:59-12:00", "2022-12-28",
    "1066-10-14", "DIV", "SSP", "CSD", "FILL", "BRK.B", "x" * 5000, "\x00", "\ud800",
)  # fmt: skip
STATUS = (200, 204, 301, 400, 401, 403, 404, 422, 500, 502, 503, 504, 599)
PAGES = (b"<html>Gateway</html>", b"", b"[]", b'{"error": 1}', b'{"message": {}}', b'{"mess')
NESTED = (b"[" * 100_000, b'{"id":' * 50_000, b"9" * 5000, b"\xff\xfe", b"nan")
WAYS = ("fields", "fields", "fields", "fields", "whole", "cut", "bytes", "nested", "status")


@dataclass
class Spoiler:
    """Spoils one of the answers to come, and remembers whether it did.

    Attributes:
        at: which of them. chance: how; the answers are made in the server's threads, where hypothesis draws nothing.
    """

    at: int
    chance: random.Random
    seen: int = 0
    said: list[Any] = field(default_factory=list)

    def __call__(self, status: int, content: bytes) -> tuple[int, bytes]:
        self.seen += 1
        if self.seen != self.at + 1:
            return status, content
        chance, how = self.chance, self.chance.choice(WAYS)
        if how == "status":
            status, content = chance.choice(STATUS), chance.choice((*PAGES, content[:9]))
        elif how == "cut":
            content = content[: chance.randrange(max(1, len(content)))]
        elif how == "bytes" and content:
            place = chance.randrange(len(content))
            content = content[:place] + chance.randbytes(chance.randint(1, 4)) + content[place + 1 :]
        elif how == "nested":
            content = chance.choice(NESTED)
        elif content:
            told = chance.choice(VALUES) if how == "whole" else self._spoiled(json.loads(content))
            content = json.dumps(told).encode()
        self.said.append((status, content))
        return status, content

    def _spoiled(self, told: Any) -> Any:
        told = copy.deepcopy(told)
        for _ in range(self.chance.randint(1, 2)):
            holder = self.chance.choice(told) if isinstance(told, list) and told else told
            if not isinstance(holder, dict) or not holder:
                return self.chance.choice(VALUES)
            name = self.chance.choice(sorted(holder))
            if self.chance.random() < 0.3:
                del holder[name]
            else:
                holder[name] = self.chance.choice(VALUES)
        return told


class SpoiledVenue(AlpacaVenue):
    """A venue whose answers pass through ``spoil``."""

    spoil: Callable[[int, bytes], tuple[int, bytes]] = staticmethod(lambda status, content: (status, content))

    def garbled(self, status: int, content: bytes) -> tuple[int, bytes]:
        return self.spoil(status, content)


def furnish(venue: AlpacaVenue, recorded: list[dict[str, Any]]) -> None:
    """An account with orders in every state, fills, positions and movements, and the recorded orders."""
    for number in range(3):
        venue.post_order({"client_order_id": f"o-{number}", "symbol": ("AAA", "BRK.B", "KO")[number], "side": "buy",
                          "qty": "10", "type": "market", "time_in_force": "cls"})  # fmt: skip
    venue.fill("o-0", D(4))
    venue.fill("o-1")
    for order in recorded:
        venue.orders[order["client_order_id"]] = copy.deepcopy(order)
    venue.announcements = [{"symbol": "KO", "payable_date": "2022-12-28", "ex_date": "2022-12-01"}]
    for kind, fields in (
        ("CSD", {"net_amount": "500"}), ("DIV", {"net_amount": "4.4", "symbol": "KO", "qty": "10"}),
        ("FEE", {"net_amount": "-0.02"}), ("SSP", {"symbol": "KO", "qty": "10", "net_amount": "0"}),
    ):  # fmt: skip
        venue.book(kind, date="2022-12-28", **fields)


def call(broker: AlpacaBroker, name: str) -> Any:
    if name == "submit":
        return broker.submit("new", "AAA", Side.BUY, TEN, OrderType.MARKET_ON_CLOSE, CLOSE)
    if name in ("order", "cancel"):
        return getattr(broker, name)("o-0")
    return getattr(broker, name)()


def require_sense(name: str, value: Any) -> None:
    if name == "submit":
        assert (value.client_order_id, value.instrument, value.side, value.quantity) == ("new", "AAA", Side.BUY, TEN)
    elif name == "order":
        # Gone only where the venue itself says so, which no spoiled answer does.
        assert value is not None
        assert value.client_order_id == "o-0"
        assert value.quantity > 0
        assert value.filled_quantity >= 0
    elif name in ("snapshot", "statement"):
        assert all(abs(number) < 10**16 for number in (value.cash, *value.positions.values()))
    elif name == "fills":
        assert all(fill.quantity > 0 and fill.price > 0 and fill.client_order_id for fill in value)


def require_an_outcome(venue: SpoiledVenue, name: str, spoiler: Spoiler) -> str:
    """Make the call with one answer spoiled; returns how it ended."""
    access = Access(base_url=venue.url, timeout_s=5.0, patience=Patience(attempts=1))
    broker = AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=access, now=lambda: OPEN)
    venue.orders.pop("new", None)
    venue.spoil = spoiler
    try:
        value = call(broker, name)
    except BrokerError as error:
        outcome: Any = error
    else:
        outcome = value
        require_sense(name, value)
    finally:
        venue.spoil = SpoiledVenue.spoil
    if name == "submit":
        assert "new" in venue.orders, "the venue took it"
        assert not isinstance(outcome, OrderRejectedError | BrokerUnavailableError), (outcome, spoiler.said)
        if not isinstance(outcome, UncertainOutcomeError):
            said_so = b'"rejected"' in spoiler.said[0][1] if spoiler.said else False
            assert outcome.state is not OrderState.REJECTED or said_so
        found = broker.order("new")
        assert found is not None
        assert found.quantity == TEN
    if isinstance(outcome, BrokerError):
        assert "\n" not in str(outcome)
        assert "SECRET" not in str(outcome)
    return f"{name}: {type(outcome).__name__ if isinstance(outcome, BrokerError) else 'answered'}"


@pytest.fixture(scope="module")
def recorded_orders() -> list[dict[str, Any]]:
    """Recorded orders where the recordings are at hand; the venue's own are spelled as they are."""
    import os

    folder = Path(os.environ.get("OCTOPUS_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = folder / "wire" / "alpaca" / "alpaca_py_mocks.json"
    told = json.loads(path.read_text()) if path.is_file() else []
    bodies = [one["body"] for one in told if "test_order_routes" in one["test"]]
    return [one for one in bodies if isinstance(one, dict) and "client_order_id" in one and one.get("qty")]


@pytest.mark.parametrize("examples", [80, pytest.param(6000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_spoiled_answer_is_a_value_that_makes_sense_or_an_error_of_the_order_path(
    examples: int, recorded_orders: list[dict[str, Any]], record_property: Callable[[str, object], None]
) -> None:
    ended: Counter[str] = Counter()
    with SpoiledVenue() as venue:
        furnish(venue, recorded_orders)

        @settings(max_examples=examples, deadline=None)
        @given(st.sampled_from(CALLS), st.integers(0, 4), st.integers(0, 2**32))
        def fuzz(name: str, at: int, seed: int) -> None:
            at = at if name in ("snapshot", "statement", "fills") else at % 2 if name == "cancel" else 0
            ended[require_an_outcome(venue, name, Spoiler(at, random.Random(seed)))] += 1

        fuzz()
    record_property("proof", {"Alpaca's answers, spoiled": dict(sorted(ended.items()))})


def test_a_gateways_page_refuses_no_order_and_loses_none() -> None:
    with SpoiledVenue() as venue:
        access = Access(base_url=venue.url, timeout_s=5.0, patience=Patience(attempts=1))
        broker = AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=access, now=lambda: OPEN)
        for status in (400, 401, 403, 404, 422):
            for page in PAGES:
                venue.orders.clear()
                venue.spoil = lambda _status, _content, said=(status, page): said
                with pytest.raises(UncertainOutcomeError):
                    call(broker, "submit")
                with pytest.raises(BrokerError):
                    broker.order("new")
                assert "new" in venue.orders
