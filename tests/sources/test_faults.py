"""The fault table: whatever one source meets, the others bring what they would have brought."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from stands import SIDES, Stand, stands

from octopus.core.errors import ConfigError, OctopusError, SourceUnavailableError
from resources import research_factories
from resources.settings import load_settings
from resources.sources.alpaca import AlpacaMarketData
from resources.sources.alpaca_news import AlpacaNews
from resources.sources.alphavantage import AlphaVantageMarketData
from resources.sources.base import missing_variables, rebased
from resources.sources.coingecko import CoinGeckoMarketData
from resources.sources.http import Access
from resources.sources.newsapi import NewsApiNews
from resources.sources.patience import Refusal, TryLaterError
from resources.sources.reddit import RedditPosts
from resources.sources.sample import SampleMarketData
from resources.sources.stocktwits import StockTwitsPosts
from resources.sources.x import XPosts
from resources.sources.yahoo import YahooMarketData
from resources.sources.yahoo_news import YahooNews

ROUNDS = {"yahoo": 2, "yahoo news": 2}
"""How often a client begins anew: yfinance meets a refusal once with a fresh cookie."""
ON_SOCKETS = sorted(name for name, stand in stands(Path(), Path()).items() if stand.path is None)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def every(tmp_path, yfinance_cache) -> dict[str, Stand]:
    return {name: stand for name, stand in stands(tmp_path, yfinance_cache).items() if stand.path is None}


@pytest.fixture
def calm(vendor, every) -> Callable[[], None]:
    """Let every vendor answer as it should, where no answer was told it before."""

    def answer() -> None:
        for route, (body, kind) in SIDES.items():
            vendor.answer(route, body, kind=kind)
        for stand in every.values():
            vendor.answer(stand.route, stand.body(stand.records), kind=stand.kind)

    return answer


def brought(stand: Stand, access: Access) -> int:
    """How many of its records a stand brings when asked."""
    return sum(delivery.frame.height for delivery in stand.fetch(access) if delivery.table == stand.table)


@pytest.mark.parametrize("failing", ON_SOCKETS)
@pytest.mark.parametrize(("status", "body"), [(429, b"{}"), (418, b"{}"), (200, b"<html>")])
def test_one_source_failing_leaves_the_others_untouched(vendor, every, calm, failing, status, body):
    vendor.answer(every[failing].route, body, status=status)
    calm()
    counts: dict[str, int | type[OctopusError]] = {}
    said: dict[str, str] = {}
    for name, stand in every.items():
        try:
            counts[name] = brought(stand, vendor.access())
        except OctopusError as error:
            counts[name] = type(error)
            said[name] = str(error)
    assert [message.split(": ")[0] for message in said.values()] == [every[failing].source], "an error names its source"
    assert counts == dict.fromkeys(every, 5) | {failing: SourceUnavailableError}


def test_a_source_without_its_keys_is_named_before_it_is_made():
    assert missing_variables(SampleMarketData(), {}) == []
    assert missing_variables(YahooMarketData(), {}) == []
    assert missing_variables(CoinGeckoMarketData(), {}) == []
    assert missing_variables(AlphaVantageMarketData("key"), {}) == ["ALPHAVANTAGE_API_KEY"]
    assert missing_variables(AlpacaMarketData("a", "b"), {"ALPACA_API_KEY": "x"}) == ["ALPACA_API_SECRET"]
    assert missing_variables(AlpacaNews("a", "b"), {"ALPACA_API_SECRET": "x"}) == ["ALPACA_API_KEY"]
    assert missing_variables(XPosts("token"), {}) == ["X_BEARER_TOKEN"]
    assert [missing_variables(source, {}) for source in (YahooNews(), StockTwitsPosts())] == [[], []]
    keyed = NewsApiNews("key")
    assert missing_variables(keyed, {"NEWSAPI_API_KEY": ""}) == ["NEWSAPI_API_KEY"]
    assert missing_variables(RedditPosts("a", "b", "c"), {"REDDIT_CLIENT_ID": "x"}) == [
        "REDDIT_CLIENT_SECRET", "REDDIT_USER_AGENT",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="set it to use the source newsapi"):
        NewsApiNews("")


def test_an_address_is_moved_with_its_path_and_query():
    assert rebased("https://a.example/v1/x?y=1", None) == "https://a.example/v1/x?y=1"
    assert rebased("https://a.example/v1/x?y=1", "http://127.0.0.1:8/mirror/") == "http://127.0.0.1:8/mirror/v1/x?y=1"


class Spent:
    """A budget of which nothing is left."""

    def spend(self) -> Refusal:
        return Refusal(25, 86_400, datetime(2022, 12, 29, tzinfo=UTC))


@pytest.mark.parametrize("name", ON_SOCKETS)
def test_patience_and_budget_reach_the_vendors_client(vendor, every, calm, name):
    stand = every[name]
    calm()
    assert brought(stand, vendor.access()) == 5
    asked = len(vendor.paths(stand.route))
    vendor.routes.insert(0, (stand.route, 503, b"oops", {"X-Once": "True"}, False))
    assert brought(stand, vendor.access()) == 5, "one failure passes"
    assert len(vendor.paths(stand.route)) == 2 * asked + 1, "and nobody but us sends again"
    vendor.routes.insert(0, (stand.route, 503, b"oops", {}, False))
    with pytest.raises(OctopusError):
        stand.fetch(vendor.access())
    assert len(vendor.paths(stand.route)) <= 2 * asked + 1 + 2 * ROUNDS.get(name, 1)
    vendor.asked.clear()
    with pytest.raises(TryLaterError, match=f"^{stand.source}: .*our budget of 25 requests in a day is spent"):
        stand.fetch(Access(vendor.url, budget=Spent()))
    assert vendor.asked == []


@pytest.mark.parametrize(
    ("kind", "name", "variables"),
    [
        ("news", "alpaca", ("ALPACA_API_KEY", "ALPACA_API_SECRET")),
        ("news", "newsapi", ("NEWSAPI_API_KEY",)),
        ("news", "yahoo", ()),
        ("post", "stocktwits", ()),
        ("post", "x", ("X_BEARER_TOKEN",)),
    ],
)
def test_a_source_is_made_or_names_its_variable(kind, name, variables, monkeypatch, tmp_path):
    catalogue = research_factories.TextCatalogue(load_settings({"OCTOPUS_HOME": str(tmp_path)}))
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    if variables:
        with pytest.raises(ConfigError, match=variables[0]):
            catalogue.source(kind, name)
    for variable in variables:
        monkeypatch.setenv(variable, "value")
    source = catalogue.source(kind, name)
    assert (source.name, source.needs) == (name, variables)
