"""Every recording of a broker's API is replayed by a test that is named here, or listed with the reason why not.

The ones that have no better home are replayed here: Alpaca's stream of trade updates and what a TWS told another
program of account values, bars and ticks.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from alpaca_venue import AlpacaVenue
from execution_support import OPEN, SESSIONS, D
from ib_venue import IbVenue

from octopus.core.orders import Side
from octopus.execution.states import OrderState
from resources.brokers.alpaca import AlpacaBroker, _said
from resources.brokers.base import BrokerError
from resources.brokers.ib import IbBroker
from resources.sources.http import Access

pytestmark = pytest.mark.testdata

TESTS = Path(__file__).parents[1]
COINBASE, SCHWAB = "execution/test_coinbase_broker.py", "execution/test_schwab_broker.py"
THE_ACCOUNT = f"{COINBASE}::test_the_recorded_account_is_understood"
THE_REST = f"{COINBASE}::test_every_other_recording_is_what_the_venues_client_reads"
ADVANCED = "coinbase/advanced_trade_nautilus"
REPLAYED = {
    "alpaca/alpaca_py_mocks.json": "execution/test_recordings.py::test_every_recorded_order_of_alpaca_is_read",
    "alpaca/docs_streaming_examples.json": "execution/test_recordings.py::test_alpacas_stream_and_its_orders_agree",
    "ib/nautilus_responses/account_values.json": "execution/test_recordings.py::test_account_values_of_a_real_tws",
    "ib/nautilus_responses/account_values_fa.json": "execution/test_recordings.py::test_account_values_of_a_real_tws",
    "ib/nautilus_responses/bars.json.gz": "execution/test_recordings.py::test_bars_and_ticks_of_a_real_tws",
    "ib/nautilus_responses/bid_ask_ticks.json.gz": "execution/test_recordings.py::test_bars_and_ticks_of_a_real_tws",
    "ib/nautilus_responses/trade_ticks.json.gz": "execution/test_recordings.py::test_bars_and_ticks_of_a_real_tws",
    "ib/rust_ibapi_recorded/tws_interactions.yaml": (
        "execution/test_ib_broker.py::test_recorded_frames_of_tws_are_understood"
    ),
    "schwab/lean_mock_responses.json": f"{SCHWAB}::test_the_recorded_account_login_and_numbers_are_understood",
    "schwab/schwab_py_historical_orders.json": f"{SCHWAB}::test_recorded_orders_are_understood",
    "schwab/schwab_py_stream_messages.json": (
        f"{SCHWAB}::test_recorded_stream_messages_are_labelled_by_the_venues_client"
    ),
    **{
        f"{ADVANCED}/http_{name}.json": THE_ACCOUNT
        for name in ("accounts", "products", "orders_list", "fills", "order")
    },
    **{
        f"{ADVANCED}/http_{name}.json": THE_REST
        for name in (
            "product", "product_book", "ticker", "products_future", "candles", "cfm_balance_summary", "cfm_positions",
            "cfm_position",
        )
    },
    **{
        f"{ADVANCED}/ws_{name}.json": f"{COINBASE}::test_the_streams_are_read_and_their_orders_statuses_are_known"
        for name in (
            "candles", "heartbeats", "l2_data_snapshot", "l2_data_update", "market_trades", "subscriptions", "ticker",
            "user",
        )
    },
}  # fmt: skip
"""By file, the test that replays it."""

OF_OTHER_APIS = {
    "ib/ibind_client_portal/": "Client Portal is IB's web API; the adapter speaks TWS's socket and Flex",
    "coinbase/exchange_pricehist/": "Coinbase Exchange is another venue's API; the adapter speaks Advanced Trade",
}
"""By folder, why its recordings are replayed by none."""


@pytest.mark.parametrize("broker", ["alpaca", "coinbase", "ib", "schwab"])
def test_every_recording_of_a_broker_is_replayed_or_of_another_api(test_data: Path, broker: str) -> None:
    folder = test_data / "wire"
    found = {str(path.relative_to(folder)) for path in (folder / broker).rglob("*") if path.is_file()}
    left_out = {name for name in found if name.startswith(tuple(OF_OTHER_APIS))}
    listed = {name for name in REPLAYED if name.startswith(f"{broker}/")}
    assert found - left_out == listed
    for name in sorted(listed):
        module, _, test = REPLAYED[name].partition("::")
        assert f"def {test}(" in (TESTS / module).read_text(), f"{name}: {REPLAYED[name]} is no test"


# -- Alpaca ---------------------------------------------------------------------------------------------------


def test_every_recorded_order_of_alpaca_is_read(test_data: Path) -> None:
    """Beside the orders the account, the dividends and the refusals of its APIs; other market data, option
    contracts, assets and settings are for `tests/sources`, or nothing of theirs is asked for."""
    told = json.loads((test_data / "wire" / "alpaca" / "alpaca_py_mocks.json").read_text())
    bodies: dict[str, list[Any]] = {}
    for one in told:
        listed = one["body"] if isinstance(one["body"], list) else [one["body"]]
        bodies.setdefault(one["test"].rsplit("::", 1)[1], []).extend(body.get("body", body) for body in listed)
    orders = [body for some in bodies.values() for body in some if "client_order_id" in body]
    assert len(orders) == 11
    with AlpacaVenue() as venue:
        broker = AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=Access(base_url=venue.url, timeout_s=2.0))
        for number, body in enumerate(orders):
            # One of them ends with a stray sign.
            order = {**body, "client_order_id": f"o-{number}", "symbol": body["symbol"].strip("`")}
            venue.orders = {order["client_order_id"]: order}
            if body["qty"] is None:
                with pytest.raises(BrokerError, match="for an amount of money and has not ended"):
                    broker.snapshot()
                order |= {"status": "filled", "filled_qty": "2.5"}
            found = broker.order(order["client_order_id"])
            assert found is not None
            assert found.quantity == D(body["qty"] or "2.5")
            assert (found.side.value, found.broker_order_id) == (body["side"], body["id"])
        (account,) = bodies["test_get_account"]
        venue.number, venue.cash, venue.orders = account["account_number"], D(account["cash"]), {}
        assert broker.account().number == account["account_number"]
        assert broker.snapshot().cash == D("-23140.2")
        venue.announcements = [{**one, "symbol": one["initiating_symbol"]} for one in bodies["test_get_announcements"]]
        paid = [body["corporate_actions"]["cash_dividends"] for body in bodies["test_get_corporate_actions"]]
        for list_of, refused in ((venue.announcements, True), ([one for some in paid for one in some], False)):
            venue.announcements, venue.data_refused = list_of, refused
            dated = next(one for one in list_of if one["payable_date"])
            ex_date = broker._ex_session(dated["symbol"], date.fromisoformat(dated["payable_date"]))
            assert str(ex_date) == dated["ex_date"]
    refused = [body for some in bodies.values() for body in some if "code" in body]
    assert [_said(json.dumps(body)) for body in refused] == [body["message"] for body in refused]
    assert len(refused) == 3


def test_alpacas_stream_and_its_orders_agree(test_data: Path) -> None:
    """alpaca-py's stream, against a server that says what is recorded; its fill is the order that the adapter is told.

    The adapter asks and does not listen: a stream tells nothing of what happened while nobody did. Source:
    https://docs.alpaca.markets/docs/websocket-streaming (in binary frames on paper).
    """
    told = json.loads((test_data / "wire" / "alpaca" / "docs_streaming_examples.json").read_text())
    updates = asyncio.run(_streamed(told))
    (update,) = updates
    assert (str(update.event), update.qty, update.price) == ("fill", 1790.86, 105.8988475)
    recorded = told[-1]["data"]["order"]
    with AlpacaVenue() as venue:
        venue.orders[recorded["client_order_id"]] = recorded
        broker = AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=Access(base_url=venue.url, timeout_s=2.0))
        found = broker.order(recorded["client_order_id"])
    assert found is not None
    assert (found.state, found.side, found.instrument) == (OrderState.FILLED, Side.SELL, "SOLUSD")
    assert found.filled_quantity == found.quantity == D("1790.86")
    assert (found.client_order_id, found.broker_order_id) == (update.order.client_order_id, str(update.order.id))


def test_a_stream_that_is_not_authorised_tells_nothing(test_data: Path) -> None:
    told = json.loads((test_data / "wire" / "alpaca" / "docs_streaming_examples.json").read_text())
    refused = [one for one in told if one.get("data", {}).get("status") == "unauthorized"]
    assert {one["data"]["action"] for one in refused} == {"authenticate", "listen"}
    with pytest.raises(ValueError, match="failed to authenticate"):
        asyncio.run(_streamed(told, refused[0]))


async def _streamed(told: list[dict[str, Any]], greeting: dict[str, Any] | None = None) -> list[Any]:
    """What alpaca-py's stream hands over until it is stopped, from a server that says what was recorded.

    Args:
        greeting: the answer to the login; None: the recorded one that lets it in.
    """
    from alpaca.trading.stream import TradingStream
    from websockets.legacy.server import serve

    authenticate, listen = (
        next(one for one in told if one.get("action") == name) for name in ("authenticate", "listen")
    )
    authorised, listening = (
        next(one for one in told if one.get("stream") == name) for name in ("authorization", "listening")
    )
    received: list[Any] = []

    async def venue(socket: Any) -> None:
        login = json.loads(await socket.recv())
        assert (login["action"], login["data"].keys()) == (authenticate["action"], authenticate["data"].keys())
        await socket.send(json.dumps(greeting or authorised).encode())
        assert json.loads(await socket.recv()) == listen
        for one in (listening, told[-1]):
            await socket.send(json.dumps(one).encode())
        await socket.wait_closed()

    async with serve(venue, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        stream = TradingStream("KEY", "SECRET", url_override=f"ws://127.0.0.1:{port}")

        async def keep(update: Any) -> None:
            received.append(update)
            await stream.stop_ws()

        stream.subscribe_trade_updates(keep)
        if greeting is not None:
            try:
                await stream._start_ws()
            finally:
                await stream.close()
        await asyncio.wait_for(stream._run_forever(), 10)
    return received


# -- what a TWS told another program -----------------------------------------------------------------------------------


def test_account_values_of_a_real_tws(test_data: Path) -> None:
    """A joint account in Australian dollars with four currencies, and one of an adviser's without its own cash."""
    folder = test_data / "wire" / "ib" / "nautilus_responses"
    told, of_adviser = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("account_values", "account_values_fa")
    )
    with IbVenue(accounts="DU123456", told={"6": lambda body: _account_values(body, told)}) as venue:
        broker = IbBroker("acct", port=venue.port, connect_s=2.0, answer_s=2.0, now=lambda: OPEN)
        account = broker.account()
        assert (account.number, account.currency, account.is_paper) == ("DU123456", "AUD", True)
        assert broker.snapshot().cash == D("51463.78")
    with IbVenue(accounts="DU1xxxxxx", told={"6": lambda body: _account_values(body, of_adviser)}) as venue:
        broker = IbBroker("acct", port=venue.port, connect_s=2.0, answer_s=2.0, now=lambda: OPEN)
        with pytest.raises(BrokerError, match="lack TotalCashValue"):
            broker.snapshot()


def _account_values(body: list[str], told: list[dict[str, str]]) -> Iterator[list[Any]]:
    """The frames of recorded values, as `IbVenue.account_values` has them."""
    if body[2] == "1":
        for one in told:
            yield [6, 2, one["tag"], one["value"], one["currency"], one["account"]]
        yield [54, 1, told[0]["account"]]


def test_bars_and_ticks_of_a_real_tws(test_data: Path) -> None:
    """Asked for by ib_async's client over a socket; the adapter itself takes prices from our own data."""
    folder = test_data / "wire" / "ib" / "nautilus_responses"
    bars, quotes, trades = (_lines(folder / f"{name}.json.gz") for name in ("bars", "bid_ask_ticks", "trade_ticks"))
    told = {
        "20": lambda body: [[17, body[1], "", "", len(bars), *(value for one in bars for value in one.values())]],
        "96": lambda body: [_ticks(body, quotes if "BID_ASK" in body else trades)],
    }
    with IbVenue(told=told) as venue:
        heard = asyncio.run(_asked_of(venue.port))
    assert [(bar.date, bar.close, bar.barCount) for bar in heard["bars"]] == [
        (one["date"], one["close"], one["barCount"]) for one in bars
    ]
    assert [(tick.time, tick.priceBid, tick.priceAsk, tick.sizeAsk) for tick in heard["quotes"]] == [
        (_at(one), one["priceBid"], one["priceAsk"], one["sizeAsk"]) for one in quotes
    ]
    assert [(tick.time, tick.price, tick.size) for tick in heard["trades"]] == [
        (_at(one), one["price"], one["size"]) for one in trades
    ]
    assert {name: len(some) for name, some in heard.items()} == {"bars": 405, "quotes": 1003, "trades": 6}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines() if line.strip()]


def _at(tick: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(tick["time"])


def _ticks(body: list[str], told: Iterable[dict[str, Any]]) -> list[Any]:
    """One frame of recorded ticks: quotes if they have a bid, else trades."""
    fields: list[Any] = []
    found = list(told)
    for one in found:
        fields += [int(_at(one).timestamp()), 0]
        fields += [value for name, value in one.items() if name not in ("time", "tickAttribBidAsk", "tickAttribLast")]
    return [97 if "priceBid" in found[0] else 98, body[1], len(found), *fields, 1]


async def _asked_of(port: int) -> dict[str, list[Any]]:
    """Bars, quotes and trades as ib_async's client hands them over."""
    from ib_async.client import Client
    from ib_async.contract import Contract

    heard: dict[str, list[Any]] = {"bars": [], "quotes": [], "trades": []}
    ended = asyncio.Event()

    class Wrapper:
        defaultTimezone = UTC  # noqa: N815  # names of ib_async's

        def historicalData(self, _request: int, bar: Any) -> None:  # noqa: N802
            heard["bars"].append(bar)

        def historicalDataEnd(self, *_: Any) -> None:  # noqa: N802
            ended.set()

        def historicalTicksBidAsk(self, _request: int, ticks: list[Any], _done: bool) -> None:  # noqa: N802
            heard["quotes"] += ticks
            ended.set()

        def historicalTicksLast(self, _request: int, ticks: list[Any], _done: bool) -> None:  # noqa: N802
            heard["trades"] += ticks
            ended.set()

        def __getattr__(self, _name: str) -> Any:
            return lambda *_: None

    client = Client(Wrapper())
    await client.connectAsync("127.0.0.1", port, 1)
    stock = Contract(symbol="AAA", secType="STK", exchange="SMART", currency="USD")
    asked = (
        lambda: client.reqHistoricalData(client.getReqId(), stock, "", "1 D", "1 min", "TRADES", True, 1, False, []),
        lambda: client.reqHistoricalTicks(client.getReqId(), stock, "", "", 1000, "BID_ASK", 1, False, []),
        lambda: client.reqHistoricalTicks(client.getReqId(), stock, "", "", 1000, "TRADES", 1, False, []),
    )
    for ask in asked:
        ended.clear()
        ask()
        await asyncio.wait_for(ended.wait(), 10)
    client.disconnect()
    return heard
