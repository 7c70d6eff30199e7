"""Whatever a venue's answers look like, each call ends in a value that makes sense or in an error of the order path.

Every adapter through its own client, on a socket, with one answer of a sound venue spoiled (spoiled.py).
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from alpaca_venue import AlpacaVenue
from coinbase_venue import KEY, CoinbaseVenue, secret
from execution_support import CLOSE, OPEN, SESSIONS
from flex_venue import NUMBER, QUERY, TOKEN, FlexVenue
from hypothesis import given, settings
from hypothesis import strategies as st
from ib_venue import IbVenue
from proof_counts import Record
from schwab_venue import ACCOUNT, SchwabVenue
from spoiled import PAGES, Spoilable, Spoiler, in_frame, in_xml, require_an_outcome

from octopus.core.orders import OrderType, Side
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import Broker, BrokerError, OrderRequest, UncertainOutcomeError
from resources.brokers.coinbase import CoinbaseBroker
from resources.brokers.flex import FlexReports
from resources.brokers.ib import IbBroker
from resources.brokers.schwab import SchwabBroker
from resources.sources.http import Access
from resources.sources.patience import Patience

D = Decimal
NOON = OPEN + timedelta(hours=1)
QUESTIONS = ("account", "snapshot", "fills", "statement")


def calls_of(broker: Callable[[], Broker], instrument: str = "AAA", theirs: str | None = None) -> dict[str, Any]:
    """Each question, a send of ten, and the cancel of an order that stands; ``theirs`` is the venue's id of it."""
    order_type = OrderType.MARKET_ON_CLOSE
    asked: dict[str, Any] = {name: (lambda name=name: getattr(broker(), name)()) for name in QUESTIONS}
    return asked | {
        "submit": lambda: broker().submit(OrderRequest("new", instrument, Side.BUY, D(10), order_type, CLOSE)),
        "order": lambda: broker().order("o-0", theirs),
        "cancel": lambda: broker().cancel("o-0"),
    }


def access_to(venue: Any) -> Access:
    return Access(base_url=venue.url, timeout_s=5.0, patience=Patience(attempts=1), sleep=lambda _s: None)


@contextmanager
def alpaca(_folder: Path) -> Iterator[Spoilable]:
    """An account with orders in every state, fills, positions and movements, and the recorded orders."""
    with AlpacaVenue() as venue:
        for number in range(3):
            venue.post_order({"client_order_id": f"o-{number}", "symbol": ("AAA", "BRK.B", "KO")[number], "side": "buy",
                              "qty": "10", "type": "market", "time_in_force": "cls"})  # fmt: skip
        venue.fill("o-0", D(4))
        venue.fill("o-1")
        for order in recorded_orders():
            venue.orders[order["client_order_id"]] = copy.deepcopy(order)
        venue.announcements = [{"symbol": "KO", "payable_date": "2022-12-28", "ex_date": "2022-12-01"}]
        for kind, fields in (
            ("CSD", {"net_amount": "500"}), ("DIV", {"net_amount": "4.4", "symbol": "KO", "qty": "10"}),
            ("FEE", {"net_amount": "-0.02"}), ("SSP", {"symbol": "KO", "qty": "10", "net_amount": "0"}),
        ):  # fmt: skip
            venue.book(kind, date="2022-12-28", **fields)
        access = access_to(venue)
        yield Spoilable(
            venue,
            calls_of(lambda: AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=access, now=lambda: OPEN)),
            stands=lambda: "new" in venue.orders,
            forget=lambda: venue.orders.pop("new", None),
        )


def recorded_orders() -> list[dict[str, Any]]:
    """Recorded orders where the recordings are at hand; the venue's own are spelled as they are."""
    folder = Path(os.environ.get("OCTOPUS_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = folder / "wire" / "alpaca" / "alpaca_py_mocks.json"
    told = json.loads(path.read_text()) if path.is_file() else []
    bodies = [one["body"] for one in told if "test_order_routes" in one["test"]]
    return [one for one in bodies if isinstance(one, dict) and "client_order_id" in one and one.get("qty")]


@contextmanager
def coinbase(_folder: Path) -> Iterator[Spoilable]:
    with CoinbaseVenue(fee=D("0.006")) as venue:
        now = CLOSE - timedelta(minutes=40)
        broker = CoinbaseBroker(KEY, secret(), "acct", access=access_to(venue), now=lambda: now)
        for number, coin in enumerate(("AAA", "BBB", "BTC")):
            broker.submit(OrderRequest(f"o-{number}", coin, Side.BUY, D(10), OrderType.MARKET, CLOSE))
        venue.fill("o-0", D(4))
        venue.fill("o-1")
        venue.book("USD", "fiat_deposit", D(500))
        venue.book("ETH", "send", D("0.5"))
        yield Spoilable(
            venue,
            calls_of(lambda: CoinbaseBroker(KEY, secret(), "acct", access=access_to(venue), now=lambda: now), "CCC"),
            stands=lambda: "new" in venue.orders,
            forget=lambda: venue.orders.pop("new", None),
            refuses=(b'"FAILED"',),
            secret=secret()[40:80],
            searched=True,
        )


@contextmanager
def schwab(folder: Path) -> Iterator[Spoilable]:
    with SchwabVenue(now=lambda: NOON) as venue:
        token, known = venue.write_token(folder / "token.json"), dict[str, str]()

        def broker() -> SchwabBroker:
            return SchwabBroker("KEY", "SECRET", token, ACCOUNT, "acct", SESSIONS, lambda: known,
                                access=access_to(venue), now=lambda: NOON)  # fmt: skip

        for number, symbol in enumerate(("AAA", "BBB", "KO")):
            order_type = OrderType.MARKET_ON_CLOSE
            sent = broker().submit(OrderRequest(f"o-{number}", symbol, Side.BUY, D(10), order_type, CLOSE))
            known[str(sent.broker_order_id)] = f"o-{number}"
        mine = {ours: theirs for theirs, ours in known.items()}
        venue.fill(mine["o-0"], D(4))
        venue.fill(mine["o-1"])
        venue.book("ACH_RECEIPT", D(500))
        venue.book("DIVIDEND_OR_INTEREST", D("4.4"))

        def forget() -> None:
            for theirs in [one for one in venue.orders if one not in known]:
                del venue.orders[theirs]

        yield Spoilable(
            venue,
            calls_of(broker, "CCC", mine["o-0"]),
            stands=lambda: len(venue.orders) > len(known),
            forget=forget,
            refuses=(b'"REJECTED"',),
        )


@contextmanager
def ib(_folder: Path) -> Iterator[Spoilable]:
    with IbVenue() as venue:

        def broker() -> IbBroker:
            return IbBroker("acct", port=venue.port, connect_s=0.3, answer_s=0.1, now=lambda: NOON)

        for number, symbol in enumerate(("AAA", "BBB", "BRK-B")):
            broker().submit(OrderRequest(f"o-{number}", symbol, Side.BUY, D(10), OrderType.MARKET_ON_CLOSE, CLOSE))
        venue.fill("o-0", D(4))
        venue.fill("o-1")

        def forget() -> None:
            venue.orders[:] = [one for one in venue.orders if one.ref != "new"]

        calls = calls_of(broker, "CCC")
        # TWS tells nothing of the days before.
        calls["statement"] = lambda: broker().statement(OPEN)
        yield Spoilable(
            venue, calls, lambda: any(one.ref == "new" for one in venue.orders), forget, in_frame, (b"Inactive",)
        )


@contextmanager
def flex(_folder: Path) -> Iterator[Spoilable]:
    with FlexVenue() as venue:
        venue.move("Deposits/Withdrawals", "500")
        venue.move("Dividends", "4.4")
        venue.trade("o-0", "AAA", "4", "100", "0000e0d5.00000001.01.01", "20221227;101500")
        venue.act("FS", "AAA", "4", "20221227")
        venue.transfer("BBB", "3", "0", "20221227")

        def latest() -> Any:
            reports = FlexReports(TOKEN, QUERY, SESSIONS, venue.url, access_to(venue), pause_s=1.0, patience_s=3.0,
                                  sleep=lambda _s: None, now=lambda: NOON)  # fmt: skip
            told = reports.latest(NUMBER, lambda _category, _contract, symbol, _currency: symbol)
            assert abs(told.cash) < 10**16
            assert all(one.fill.quantity >= 0 and one.fill.price >= 0 for one in told.fills.values())
            return told

        yield Spoilable(venue, {"latest": latest}, form=in_xml, secret=TOKEN)


ADAPTERS = {"alpaca": alpaca, "coinbase": coinbase, "schwab": schwab, "ib": ib, "flex": flex}
SHORT = {"alpaca": 80, "coinbase": 40, "schwab": 40, "ib": 10, "flex": 80}
"""Spoiled calls of a short run; at TWS each waits for its end."""


@pytest.mark.parametrize(
    ("adapter", "examples"),
    [
        *SHORT.items(),
        *(
            pytest.param(name, 6000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)], id=f"{name}-long")
            for name in ADAPTERS
        ),
    ],
)
def test_a_spoiled_answer_is_a_value_that_makes_sense_or_an_error_of_the_order_path(
    tmp_path: Path, adapter: str, examples: int, record_property: Record
) -> None:
    ended: Counter[str] = Counter()
    with ADAPTERS[adapter](tmp_path) as spoilable:
        answers = {name: spoilable.answers(name) for name in spoilable.calls}
        names = [*answers, *["submit"] * (2 if "submit" in answers else 0)]

        @settings(max_examples=examples, deadline=None)
        @given(st.data(), st.sampled_from(names), st.integers(0, 2**32))
        def fuzz(data: st.DataObject, name: str, seed: int) -> None:
            at = data.draw(st.integers(0, answers[name] - 1))
            ended[require_an_outcome(spoilable, name, Spoiler(at, random.Random(seed), spoilable.form))] += 1

        fuzz()
    record_property("proof", {f"answers of {adapter}, spoiled": dict(sorted(ended.items()))})


@pytest.mark.parametrize("adapter", ["alpaca", "coinbase", "schwab"])
def test_a_gateways_page_refuses_no_order_and_loses_none(tmp_path: Path, adapter: str) -> None:
    with ADAPTERS[adapter](tmp_path) as spoilable:
        last = spoilable.answers("submit") - 1
        for status in (400, 401, 403, 404, 422):
            for page in PAGES:
                spoilable.forget()
                garble(spoilable.venue, last, status, page)
                with pytest.raises(UncertainOutcomeError):
                    spoilable.calls["submit"]()
                assert spoilable.stands()
                garble(spoilable.venue, 0, status, page)
                with pytest.raises(BrokerError):
                    spoilable.calls["order"]()


@pytest.mark.parametrize("adapter", ["coinbase", "schwab"])
def test_an_error_of_our_own_code_is_not_taken_for_an_answer_of_the_venue(tmp_path: Path, adapter: str) -> None:
    """It is told as what it is, where it is; of a send, nothing has left yet."""
    with ADAPTERS[adapter](tmp_path) as spoilable:
        for name, function in (("submit", "base.OrderRequest.require_in_time"), ("fills", f"{adapter}.in_order")):
            broken = f"resources.brokers.{function}"
            with patch(broken, side_effect=TypeError("a bug")), pytest.raises(TypeError, match="a bug"):
                spoilable.calls[name]()
        assert not spoilable.stands()


def garble(venue: Any, first: int, status: int, page: bytes) -> None:
    """Let the venue give the page in the place of its answers from the ``first`` on."""
    told = [0]

    def garbled(said: int, content: bytes) -> tuple[int, bytes]:
        told[0] += 1
        return (status, page) if told[0] > first else (said, content)

    venue.garbled = garbled
