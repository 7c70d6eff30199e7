"""Dagster resources of research: sources, sentiment and MLflow, with their secrets.

Belongs here: joining settings and secrets to the sources, the sentiment models and the registry; each library is
imported by the function that needs it. Does not: what execution uses too (factories.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from octopus.core.errors import ConfigError
from resources.secrets import secret
from resources.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from octopus.alternative_data.schema import ItemKind
    from resources.registry import ModelRegistry
    from resources.sentiment.base import SentimentModel
    from resources.sources.alpaca import AlpacaMarketData
    from resources.sources.alphavantage import AlphaVantageMarketData
    from resources.sources.base import IntradaySource, MarketDataSource, NewsSource, SocialSource
    from resources.sources.coingecko import CoinGeckoMarketData
    from resources.sources.http import Access


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

    def intraday(self, name: str) -> IntradaySource:
        """The source of bars within the day of that name in the settings. Raises `ConfigError` likewise."""
        makers: dict[str, Callable[[Settings], IntradaySource]] = {
            "alpaca": _alpaca,
            "alphavantage": _alphavantage,
            "coingecko": _coingecko,
            "yahoo": _yahoo_intraday,
        }
        return makers[name](self.settings)


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


def _yahoo_intraday(settings: Settings) -> IntradaySource:
    from resources.sources.yahoo_intraday import YahooIntraday

    return YahooIntraday(access("yahoo", settings), cache_dir=settings.home / "yfinance")


def _alphavantage(settings: Settings) -> AlphaVantageMarketData:
    from resources.sources.alphavantage import AlphaVantageMarketData

    return AlphaVantageMarketData(secret("ALPHAVANTAGE_API_KEY"), access("alphavantage", settings))


def _coingecko(settings: Settings) -> CoinGeckoMarketData:
    from resources.sources.coingecko import CoinGeckoMarketData

    chosen = settings.plans.coingecko
    return CoinGeckoMarketData(
        secret("COINGECKO_API_KEY"), access("coingecko", settings),
        plan=chosen.plan, quote=chosen.quote, coins=chosen.coins,
    )  # fmt: skip


def _alpaca(settings: Settings) -> AlpacaMarketData:
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


@dataclass(frozen=True)
class TextCatalogue:
    """Every source of texts by kind and name; each is made when it is asked for."""

    settings: Settings

    def source(self, kind: ItemKind, name: str) -> NewsSource | SocialSource:
        """One source by its name in the settings.

        Raises:
            ConfigError: its key, its feeds or its file are not set.
        """
        makers: Mapping[str, Callable[[Settings], NewsSource | SocialSource]]
        makers = _news_makers() if kind == "news" else _post_makers()
        return makers[name](self.settings)


def _news_makers() -> Mapping[str, Callable[[Settings], NewsSource]]:
    return {
        "alpaca": _alpaca_news,
        "files": _file_news,
        "newsapi": _newsapi,
        "rss": _rss,
        "sample": _sample_news,
        "yahoo": _yahoo_news,
    }


def _post_makers() -> Mapping[str, Callable[[Settings], SocialSource]]:
    return {
        "files": _file_posts,
        "reddit": _reddit,
        "sample": _sample_posts,
        "stocktwits": _stocktwits,
        "x": _x,
    }


def _sample_news(settings: Settings) -> NewsSource:
    from resources.sources.sample import SampleNews

    return SampleNews(sessions=settings.sessions)


def _newsapi(settings: Settings) -> NewsSource:
    from resources.sources.newsapi import NewsApiNews

    plan = settings.alternative_data.newsapi
    return NewsApiNews(
        secret("NEWSAPI_API_KEY"),
        access("newsapi", settings),
        delay=timedelta(hours=plan.delay_hours),
        reach=timedelta(days=plan.reach_days),
    )


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
