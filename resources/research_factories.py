"""Dagster resources of research: sources, sentiment and MLflow, with their secrets.

Belongs here: joining settings and secrets to the sources, the sentiment models and the registry; each library is
imported by the function that needs it. Does not: what execution uses too (factories.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from octopus.core.errors import ConfigError
from resources.secrets import secret
from resources.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from resources.registry import ModelRegistry
    from resources.sentiment.base import SentimentModel
    from resources.sources.base import MarketDataSource, NewsSource, SocialSource
    from resources.sources.http import Access

T = TypeVar("T")


@dataclass
class Feeds(Generic[T]):
    """The configured sources of one kind.

    Attributes:
        sources: those that can be asked.
        skipped: why each of the others cannot, naming the variable to set.
    """

    sources: list[T] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, name: str, make: Callable[[], T]) -> None:
        """Make one source; without its key it is skipped, and said to be."""
        try:
            self.sources.append(make())
        except ConfigError as error:
            self.skipped.append(f"{name} is skipped: {error}")


def access(source: str, settings: Settings) -> Access:
    """How ``source`` is reached: at OCTOPUS_<SOURCE>_URL where that is set, within the budget that its limits allow."""
    from resources.sources.http import Access
    from resources.warehouse.budgets import SourceBudget, limits_of

    limits = limits_of(source, settings.request_limits)
    budget = SourceBudget(settings.database_url, source, limits) if limits.requests_by_window else None
    return Access(base_url=os.environ.get(f"OCTOPUS_{source.upper()}_URL"), budget=budget)


def market_data_source(settings: Settings) -> MarketDataSource:
    """The configured source of bars and corporate actions."""
    return market_data_of(settings.universe.market_data, settings)


@dataclass(frozen=True)
class MarketDataCatalogue:
    """Every source of market data by name; each is made when it is asked for."""

    settings: Settings

    def source(self, name: str) -> MarketDataSource:
        """As `market_data_of`."""
        return market_data_of(name, self.settings)


def market_data_of(name: str, settings: Settings) -> MarketDataSource:
    """One source of market data by its name in the settings.

    Raises:
        ConfigError: its key or its files are not set.
    """
    makers: dict[str, Callable[[Settings], MarketDataSource]] = {
        "alpaca": _alpaca,
        "alphavantage": _alphavantage,
        "coingecko": _coingecko,
        "files": _files,
        "sample": _sample,
        "yahoo": _yahoo,
    }
    return makers[name](settings)


def _sample(_settings: Settings) -> MarketDataSource:
    from resources.sources.sample import SampleMarketData

    return SampleMarketData()


def _yahoo(settings: Settings) -> MarketDataSource:
    from resources.sources.yahoo import YahooMarketData

    return YahooMarketData(access("yahoo", settings), cache_dir=settings.home / "yfinance")


def _alphavantage(settings: Settings) -> MarketDataSource:
    from resources.sources.alphavantage import AlphaVantageMarketData

    return AlphaVantageMarketData(secret("ALPHAVANTAGE_API_KEY"), access("alphavantage", settings))


def _coingecko(settings: Settings) -> MarketDataSource:
    from resources.sources.coingecko import CoinGeckoMarketData

    chosen = settings.plans.coingecko
    return CoinGeckoMarketData(
        secret("COINGECKO_API_KEY"), access("coingecko", settings),
        plan=chosen.plan, quote=chosen.quote, coins=chosen.coins,
    )  # fmt: skip


def _alpaca(settings: Settings) -> MarketDataSource:
    from resources.sources.alpaca import AlpacaMarketData

    return AlpacaMarketData(
        secret("ALPACA_API_KEY"), secret("ALPACA_API_SECRET"), access("alpaca", settings),
        feed=settings.plans.alpaca.feed,
    )  # fmt: skip


def _files(settings: Settings) -> MarketDataSource:
    from resources.sources.files import FileMarketData

    paths = settings.universe.files
    if paths is None:
        raise ConfigError(
            where="config/universe.yaml", field="universe.files", value=None,
            remedy="name the file of bars there, e.g. {bars: data/bars.parquet}, to use the source files",
        )  # fmt: skip
    root = settings.root
    return FileMarketData(
        root / paths.bars,
        root / paths.actions if paths.actions else None,
        root / paths.instruments if paths.instruments else None,
        price_basis=paths.price_basis,
    )


def news_sources(settings: Settings) -> Feeds[NewsSource]:
    """The configured news sources. The sample's events belong to the sample's prices and are left out of live data."""
    feeds: Feeds[NewsSource] = Feeds()
    makers: dict[str, Callable[[Settings], NewsSource]] = {
        "alpaca": _alpaca_news,
        "files": _file_news,
        "newsapi": _newsapi,
        "rss": _rss,
        "sample": _sample_news,
        "yahoo": _yahoo_news,
    }
    for name in settings.alternative_data.news:
        if name == "sample" and not settings.recorded:
            feeds.skipped.append("sample news are skipped: they belong to the sample's prices")
        else:
            feeds.add(name, partial(makers[name], settings))
    return feeds


def _sample_news(settings: Settings) -> NewsSource:
    from resources.sources.sample import SampleNews

    return SampleNews(sessions=settings.sessions)


def _newsapi(settings: Settings) -> NewsSource:
    from resources.sources.newsapi import NewsApiNews

    return NewsApiNews(secret("NEWSAPI_API_KEY"), access("newsapi", settings))


def _rss(settings: Settings) -> NewsSource:
    from resources.sources.rss import RssNews

    return RssNews(settings.alternative_data.feeds, access("rss", settings))


def _yahoo_news(settings: Settings) -> NewsSource:
    from resources.sources.yahoo_news import YahooNews

    return YahooNews(access("yahoo", settings), cache_dir=settings.home / "yfinance")


def _alpaca_news(settings: Settings) -> NewsSource:
    from resources.sources.alpaca_news import AlpacaNews

    return AlpacaNews(secret("ALPACA_API_KEY"), secret("ALPACA_API_SECRET"), access("alpaca", settings))


def _file_news(settings: Settings) -> NewsSource:
    from resources.sources.text_files import FileNews

    return FileNews(_named(settings, "news_file", settings.alternative_data.news_file))


def _named(settings: Settings, field: str, path: Path | None) -> Path:
    """Where a file of texts is; relative paths count from the repository."""
    if path is None:
        raise ConfigError(
            where="config/universe.yaml", field=f"alternative_data.{field}", value=None,
            remedy="name the file of texts there to use the source files",
        )  # fmt: skip
    return settings.root / path


def social_sources(settings: Settings) -> Feeds[SocialSource]:
    """The configured social sources; the sample's synthetic posts likewise."""
    feeds: Feeds[SocialSource] = Feeds()
    makers: dict[str, Callable[[Settings], SocialSource]] = {
        "files": _file_posts,
        "reddit": _reddit,
        "sample": _sample_posts,
        "stocktwits": _stocktwits,
        "x": _x,
    }
    for name in settings.alternative_data.social:
        if name == "sample" and not settings.recorded:
            feeds.skipped.append("sample posts are skipped: they are synthetic")
        else:
            feeds.add(name, partial(makers[name], settings))
    return feeds


def _sample_posts(_settings: Settings) -> SocialSource:
    from resources.sources.sample import SamplePosts

    return SamplePosts()


def _file_posts(settings: Settings) -> SocialSource:
    from resources.sources.text_files import FilePosts

    return FilePosts(_named(settings, "posts_file", settings.alternative_data.posts_file))


def _stocktwits(settings: Settings) -> SocialSource:
    from resources.sources.stocktwits import StockTwitsPosts

    return StockTwitsPosts(access("stocktwits", settings))


def _x(settings: Settings) -> SocialSource:
    from resources.sources.x import XPosts

    return XPosts(secret("X_BEARER_TOKEN"), access("x", settings))


def _reddit(settings: Settings) -> SocialSource:
    from resources.sources.reddit import RedditPosts

    return RedditPosts(
        secret("REDDIT_CLIENT_ID"),
        secret("REDDIT_CLIENT_SECRET"),
        secret("REDDIT_USER_AGENT"),
        subreddits=settings.alternative_data.subreddits,
        access=access("reddit", settings),
    )


def sentiment(settings: Settings) -> SentimentModel:
    """The configured sentiment model."""
    from resources.sentiment.factory import sentiment_model

    chosen = settings.alternative_data.sentiment
    return sentiment_model(chosen.model, chosen.finbert)


def registry(settings: Settings) -> ModelRegistry:
    """MLflow."""
    from resources.registry import ModelRegistry

    return ModelRegistry(settings.mlflow_url, settings.home / "mlflow")
