"""Settings: what the user edits in config/*.yaml and names in environment variables, validated in one place.

Belongs here: reading and checking settings. Does not: secrets (they are read where they are used, through Dagster's
EnvVar) and what a setting means (the models stand beside the code that obeys them).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from octopus.alerts.alert import Severity
from octopus.alerts.watch import Patience
from octopus.alternative_data.schema import ItemKind
from octopus.backtest.config import BacktestConfig
from octopus.backtest.named_sweeps import SweepConfig
from octopus.compliance.rules import CompliancePolicy
from octopus.core.costs import CostModel
from octopus.core.currency import BASE, MINOR_UNITS
from octopus.core.errors import ConfigError
from octopus.core.sessions import EXCHANGE, FIRST_SESSION, Sessions, canonical
from octopus.decision import MODEL, DecisionConfig
from octopus.execution.config import ScheduleConfig
from octopus.execution.reconcile import CENT
from octopus.models.config import ModelConfig
from octopus.portfolio.config import PortfolioConfig
from octopus.risk.limits import RiskLimits
from octopus.strategy.catalogue import ALWAYS
from octopus.strategy.config import StrategyConfig
from octopus.strategy.feature_sets import chosen_features
from octopus.warehouse.quality import Kind
from octopus.warehouse.verdicts import Decision
from resources import plain_yaml
from resources.agreement import (
    Known,
    inside_limits,
    instruments,
    require_brokers,
    require_inside,
    require_jurisdictions,
    require_listed,
    require_shocked,
    require_traded,
)
from resources.brokers.table import BROKERS, PAPER, BrokerConfig, IbConfig, VenueConfig, broker_config
from resources.limit_signatures import SIGNERS_VARIABLE, LimitsDocument
from resources.reference_files import require_sources
from resources.runtime.postgres import EmbeddedPostgres
from resources.warehouse.budgets import SourceLimits

ROOT = Path(__file__).resolve().parent.parent
"""The repository: config/, dbt_project/ and workspace.yaml stand here."""

MarketDataName = Literal["sample", "yahoo", "alphavantage", "coingecko", "alpaca", "files"]
MARKET_DATA: tuple[MarketDataName, ...] = get_args(MarketDataName)
"""Every source of market data; all but the sample can be compared with the one that is traded on."""
NewsName = Literal["sample", "newsapi", "rss", "yahoo", "alpaca", "files"]
SocialName = Literal["sample", "reddit", "stocktwits", "x", "files"]
NEWS: tuple[NewsName, ...] = get_args(NewsName)
SOCIAL: tuple[SocialName, ...] = get_args(SocialName)
"""Every source of news, and of posts."""
ASKED = frozenset({*MARKET_DATA, *NEWS, *SOCIAL} - {"sample", "files"})
"""Every source that requests are sent to."""
IntradayName = Literal["alphavantage", "alpaca", "coingecko", "yahoo"]
"""Every source of bars within the day."""


LIVE_VARIABLE = "OCTOPUS_LIVE"
"""Names the broker at which live trading is switched on; the second of two settings that must agree."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FilesConfig(_Section):
    """Bars of the user's own (config/universe.yaml, section universe.files); the form is in resources/sources/files.py.

    Attributes:
        bars, actions, instruments: CSV or Parquet; a relative path counts from the repository.
    """

    bars: Path
    actions: Path | None = None
    instruments: Path | None = None
    price_basis: Literal["raw", "total_return"] = "raw"


class ReferenceConfig(_Section):
    """What the user knows of instruments beside their source (universe.reference); docs/data.md has the files' form.

    Attributes:
        members: who belonged to the universe when. actions: renames, delistings and the like. instruments: lots and
            ticks. CSV or Parquet; a relative path counts from the repository.
    """

    members: Path | None = None
    actions: Path | None = None
    instruments: Path | None = None


CurrencyName = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class UniverseConfig(_Section):
    """Which instruments, from where, since when (config/universe.yaml).

    Attributes:
        market_data: source of bars that is traded on; the variable OCTOPUS_MARKET_DATA overrides it.
        compare_with: further sources, ingested beside it and compared with it, never traded on.
        files: where the source ``files`` finds its bars.
        reference: what is told of instruments beside the source that is traded on, whatever that is.
        exchange: the calendar that everything is decided by, as `exchange_calendars` names it: an ISO 10383 code
            (XNYS), or 24/7 for a universe of coins, 24/5 for one of currency pairs.
        currency: that the account counts in (ISO 4217).
        rates: currency → the instrument of the same source whose price is its rate in ``currency`` (or the other way
            round); what is quoted in another currency needs one. Pairs are ingested and never traded.
        symbols: instrument → company name (the name is what news is searched for).
        sectors: instrument → sector, for the limit on sectors and the risk report.
        history_start: first session to ingest.
        refetch_sessions: how many past sessions each run asks for again to see restatements.
    """

    market_data: MarketDataName = "sample"
    compare_with: tuple[MarketDataName, ...] = ()
    files: FilesConfig | None = None
    reference: ReferenceConfig = ReferenceConfig()
    exchange: str = EXCHANGE
    currency: CurrencyName = BASE
    rates: dict[CurrencyName, str] = Field(default_factory=dict)
    symbols: dict[str, str]
    sectors: dict[str, str] = Field(default_factory=dict)
    history_start: date = date.fromisoformat(FIRST_SESSION)
    refetch_sessions: int = Field(default=10, ge=0)

    @field_validator("exchange")
    @classmethod
    def _has_a_calendar(cls, value: str) -> str:
        known = canonical(value)
        if known is None:
            raise ValueError(
                "no calendar has this name: write an ISO 10383 code such as XNYS or XLON, or 24/7 for coins"
            )
        return known

    @field_validator("symbols")
    @classmethod
    def _at_least_one(cls, value: dict[str, str]) -> dict[str, str]:
        if not value:
            raise ValueError("name at least one instrument, e.g. {AAPL: Apple}")
        return value

    @model_validator(mode="after")
    def _rates_are_no_positions(self) -> UniverseConfig:
        traded = sorted(set(self.rates.values()) & set(self.symbols))
        if traded:
            raise ValueError(f"rates: {traded[0]} is in symbols, too: a pair is a rate or is traded, not both")
        if self.currency in self.rates:
            raise ValueError(f"rates: {self.currency} is the account's own currency; leave it out")
        unit = next((name for name in (self.currency, *self.rates) if name in MINOR_UNITS), None)
        if unit is not None:
            raise ValueError(f"{unit} is a part of {MINOR_UNITS[unit][0]}: name that currency")
        return self


class SentimentConfig(_Section):
    """Which model scores texts.

    Attributes:
        model: ``finance`` (rules for business news) or ``vader`` (a lexicon for social media), both without a
            download, or ``finbert`` (needs the extra nlp).
        finbert: hub name or local folder of the FinBERT weights.
    """

    model: Literal["finance", "vader", "finbert"] = "finance"
    finbert: str = "ProsusAI/finbert"


class NewsApiPlan(_Section):
    """What the user's plan of NewsAPI gives; the defaults are its Developer plan (newsapi.org/pricing).

    Attributes:
        delay_hours: after so long it shows an article: it counts as known from then.
        reach_days: how far back it can be searched.
    """

    delay_hours: float = Field(default=24.0, ge=0)
    reach_days: int = Field(default=28, ge=1)


class AlternativeDataConfig(_Section):
    """News and social posts (config/universe.yaml, section alternative_data).

    Attributes:
        feeds: RSS and Atom feeds, name → address; the name becomes the publisher of its items.
        subreddits: where Reddit is searched.
        news_file, posts_file: CSV or Parquet of the source ``files``; a relative path counts from the repository; the
            form is in resources/sources/text_files.py.
        newsapi: what the plan gives that NEWSAPI_API_KEY belongs to.
        lookback_days: how far back a run asks the services for texts that it may have; further where a source has not
            answered since.
    """

    news: tuple[NewsName, ...] = ("sample",)
    social: tuple[SocialName, ...] = ("sample",)
    feeds: dict[str, str] = Field(default_factory=dict)
    subreddits: tuple[str, ...] = ("stocks", "investing", "wallstreetbets")
    news_file: Path | None = None
    posts_file: Path | None = None
    newsapi: NewsApiPlan = NewsApiPlan()
    lookback_days: int = Field(default=3, ge=1, le=30)
    sentiment: SentimentConfig = SentimentConfig()


class QualityConfig(_Section):
    """What becomes of rows under a severe finding (config/universe.yaml, section quality).

    Attributes:
        severe: ``hold`` keeps them out of the marts until a person decides, ``repair`` applies what the finding
            proposes (and holds where it proposes nothing), ``keep`` uses them as they are.
        by_kind: the same for single kinds of findings, e.g. {missing_dividend: repair}.
    """

    severe: Literal["hold", "repair", "keep"] = "hold"
    by_kind: dict[Kind, Literal["hold", "repair", "keep"]] = Field(default_factory=dict)

    def decision(self, kind: Kind) -> Decision:
        """What the policy says of a severe finding of ``kind``."""
        return self.by_kind.get(kind, self.severe)


class PaperConfig(_Section):
    """The paper broker's account (config/universe.yaml, section paper).

    Attributes:
        deposit_usd: cash it is opened with, once.
        fill_fraction: part of each order that fills; the rest is cancelled after the auction. 1: all of it.
        fills_per_order: into how many executions each fill is cut.
        reject: instruments whose orders the broker refuses, to rehearse a rejection.
    """

    account: str = Field(default="paper", pattern=r"^[a-z0-9-]{1,32}$")
    deposit_usd: Decimal = Field(default=Decimal(1_000_000), gt=0)
    fill_fraction: Decimal = Field(default=Decimal(1), gt=0, le=1)
    fills_per_order: int = Field(default=1, ge=1, le=10)
    reject: tuple[str, ...] = ()


class ReconciliationConfig(_Section):
    """When our book and the broker's differ (config/universe.yaml, section trading.reconciliation).

    Attributes:
        cash_tolerance: a difference in cash from which on it is a break, in the account's currency.
        share_tolerance: a difference in shares, without a record that explains it, from which on it is a break; zero:
            any difference.
        amount_tolerance: prices, fees and payments that both have, and with different amounts, halt trading once these
            differ by so much in all, in the account's currency.
        halt: whether a break in shares, cash or fills halts trading until a person resumes it.
    """

    cash_tolerance: Decimal = Field(default=CENT, gt=0, allow_inf_nan=False)
    share_tolerance: Decimal = Field(default=Decimal(0), ge=0, allow_inf_nan=False)
    amount_tolerance: Decimal = Field(default=Decimal(100), gt=0, allow_inf_nan=False)
    halt: bool = True


class TradingConfig(_Section):
    """Whether money may move (config/universe.yaml, section trading).

    Attributes:
        mode: ``live`` needs more than this one setting (resources/permission.py).
        live_accounts: account numbers that may trade live, as the broker itself tells them.
        execution_sensor: whether `octopus up` starts with the sensor on that executes approved batches.
        release: which batches wait for a person (`octopus release`) before they are executed.
        reconciliation: what a break is and does.
    """

    mode: Literal["paper", "live"] = "paper"
    live_accounts: tuple[str, ...] = ()
    execution_sensor: bool = False
    release: Literal["none", "live", "all"] = "none"
    reconciliation: ReconciliationConfig = ReconciliationConfig()

    @property
    def needs_release(self) -> bool:
        """Whether a batch waits for a person before it is executed."""
        return self.release == "all" or (self.release == "live" and self.mode == "live")


class AlertsConfig(_Section):
    """Who is told (config/universe.yaml, section alerts); without an address and a webhook, alerts are only recorded.

    The webhook's URL is a secret: it comes from OCTOPUS_ALERT_WEBHOOK_URL, the mail password from
    OCTOPUS_SMTP_PASSWORD.

    Attributes:
        email_to, email_from: addresses. smtp_host, smtp_port, smtp_user: the server that takes the mail.
        smtp_security: ``tls`` from the first byte, ``starttls``, or ``none`` (a server on this machine).
        least: the least severity that is sent; all are recorded.
        run_minutes: from the start of a session's daily pipeline (its decision, or its schedule's tick if that is
            later) to its end; later is late.
        heartbeat_minutes: silence of Dagster's daemon after which it is held to be dead.
        order_minutes: from the end of an order's window to its end at the broker.
        database_minutes: how long the database is down, or the watchdog blind, before it halts for that.
    """

    email_to: tuple[str, ...] = ()
    email_from: str = "octopus@localhost"
    smtp_host: str = "localhost"
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str = ""
    smtp_security: Literal["tls", "starttls", "none"] = "starttls"
    least: Severity = Severity.WARNING
    run_minutes: int = Field(default=180, ge=1)
    heartbeat_minutes: int = Field(default=5, ge=1)
    order_minutes: int = Field(default=30, ge=1)
    database_minutes: int = Field(default=2, ge=0)

    @field_validator("email_to", "email_from")
    @classmethod
    def _addresses(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        for address in (value,) if isinstance(value, str) else value:
            if not re.fullmatch(r"[^@\s,<>]+@[^@\s,<>]+", address):
                raise ValueError(f"{address!r} is no plain address: write one as ops@example.com")
        return value

    @property
    def patience(self) -> Patience:
        """How long things may take."""
        return Patience(
            run=timedelta(minutes=self.run_minutes),
            heartbeat=timedelta(minutes=self.heartbeat_minutes),
            order=timedelta(minutes=self.order_minutes),
            database=timedelta(minutes=self.database_minutes),
        )


class AlpacaPlan(_Section):
    """What the user's plan at Alpaca serves.

    Attributes:
        feed: ``iex`` is one venue's few per cent of the volume, on every plan; ``sip`` the whole market's, on a paid
            one, or ``delayed_sip``; ``otc`` is over the counter.
    """

    feed: Literal["iex", "sip", "delayed_sip", "otc"] = "iex"


class CoinGeckoPlan(_Section):
    """What the user's plan at CoinGecko serves.

    Attributes:
        plan: ``demo``, with or without a key: the past year; ``pro``: a paid key, all of history.
        quote: currency of prices, as CoinGecko writes it.
        coins: CoinGecko's id of an instrument whose symbol is not well known, e.g. {PEPE: pepe}.
    """

    plan: Literal["demo", "pro"] = "demo"
    quote: Annotated[str, Field(pattern=r"^[a-z]{3,5}$")] = "usd"
    coins: dict[str, str] = Field(default_factory=dict)


class PlansConfig(_Section):
    """What vendors serve on the user's plans, where that differs by plan (config/universe.yaml, section plans)."""

    alpaca: AlpacaPlan = AlpacaPlan()
    coingecko: CoinGeckoPlan = CoinGeckoPlan()


class IntradayConfig(_Section):
    """Bars within the day (config/universe.yaml, section intraday): collected by the job `intraday`, never traded on.

    Attributes:
        source: who is asked; None: nobody.
        interval: length of a bar, minutes.
        symbols: whose bars; none named: those of universe.symbols.
        history_sessions: how many sessions up to the run's there are to be.
        refetch_sessions: how many of them each run asks for again to see restatements.
    """

    source: IntradayName | None = None
    interval: Literal[1, 5, 15, 30, 60] = 5
    symbols: tuple[str, ...] = ()
    history_sessions: int = Field(default=20, ge=1, le=5040)
    refetch_sessions: int = Field(default=1, ge=0)


class UniverseFile(_Section):
    """config/universe.yaml.

    Attributes:
        plans: what vendors serve on the user's plans.
        request_limits: requests that a source may be sent, where the user's plan differs from the vendor's free one.
    """

    universe: UniverseConfig
    alternative_data: AlternativeDataConfig = AlternativeDataConfig()
    quality: QualityConfig = QualityConfig()
    intraday: IntradayConfig = IntradayConfig()
    plans: PlansConfig = PlansConfig()
    request_limits: dict[str, SourceLimits] = Field(default_factory=dict)
    paper: PaperConfig = PaperConfig()
    trading: TradingConfig = TradingConfig()
    alerts: AlertsConfig = AlertsConfig()
    broker: Annotated[SerializeAsAny[BrokerConfig], BeforeValidator(broker_config)] = BrokerConfig()


class StrategiesFile(_Section):
    """config/strategies.yaml."""

    strategy: StrategyConfig
    models: ModelConfig
    portfolio: PortfolioConfig
    costs: CostModel
    execution: ScheduleConfig = ScheduleConfig()
    backtest: BacktestConfig
    sweeps: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], SweepConfig] = Field(default_factory=dict)

    @field_validator("models")
    @classmethod
    def _known_features(cls, value: ModelConfig) -> ModelConfig:
        chosen_features(value.features)
        return value

    @field_validator("portfolio")
    @classmethod
    def _sectors_of_the_universe(cls, value: PortfolioConfig) -> PortfolioConfig:
        if value.sectors:
            raise ValueError("sectors belong to the instruments: set universe.sectors in universe.yaml")
        return value

    @field_validator("backtest")
    @classmethod
    def _schedule_of_execution(cls, value: BacktestConfig) -> BacktestConfig:
        if value.schedule.is_scheduled or value.schedule.from_open:
            told = value.schedule.model_dump(mode="json", exclude_defaults=True)
            raise ValueError(
                f"schedule = {told}: a backtest works orders as the daily run does; set it in the section execution"
            )
        return value

    @model_validator(mode="after")
    def _meta_labels_of_a_signal(self) -> StrategiesFile:
        asked = {*ALWAYS, *(name for name, weight in self.strategy.weights().items() if weight > 0)} - {MODEL}
        primary = self.models.label.primary
        if primary is not None and primary not in asked:
            raise ValueError(
                f"models.label.primary = {primary!r}: name a signal that speaks: {', '.join(sorted(asked))}"
            )
        return self

    @property
    def simulation(self) -> BacktestConfig:
        """The section backtest, its orders worked as the section execution says."""
        return self.backtest.model_copy(update={"schedule": self.execution})

    @property
    def decision(self) -> DecisionConfig:
        """What the one decision function needs but the universe's sectors, see `Settings.decision`."""
        return DecisionConfig(
            strategy=self.strategy, portfolio=self.portfolio, costs=self.costs, features=self.models.features
        )


@dataclass(frozen=True)
class Settings:
    """Everything a run needs to know, secrets excepted.

    Attributes:
        home: data folder. database_url, dagster_url, mlflow_url: libpq URLs (they may hold a password: never print
        them).
        embedded: the server that Octopus runs itself; None when OCTOPUS_DATABASE_URL names another.
        live_variable: what OCTOPUS_LIVE says; empty where it is not set.
        broker_url: where the chosen broker is instead of at its own address; None: at its own.
        limits_document, policy_document: what ``risk`` and ``compliance`` were read from, byte for byte, for their
            signatures.
    """

    root: Path
    home: Path
    database_url: str
    dagster_url: str
    mlflow_url: str
    embedded: EmbeddedPostgres | None
    universe: UniverseConfig
    alternative_data: AlternativeDataConfig
    quality: QualityConfig
    intraday: IntradayConfig
    plans: PlansConfig
    request_limits: Mapping[str, SourceLimits]
    paper: PaperConfig
    trading: TradingConfig
    alerts: AlertsConfig
    broker: BrokerConfig
    live_variable: str
    broker_url: str | None
    strategies: StrategiesFile
    risk: RiskLimits
    limits_document: LimitsDocument
    compliance: CompliancePolicy
    policy_document: LimitsDocument

    @property
    def limits_documents(self) -> tuple[LimitsDocument, ...]:
        """What two people sign: all that can loosen what the account may do."""
        return self.limits_document, self.policy_document, self.basis_document

    @cached_property
    def basis_document(self) -> LimitsDocument:
        """What limits rest on in universe.yaml, as it is in force, in a form that comments and order do not change."""
        signed = {
            "universe": self.universe.model_dump(mode="json", include={"currency", "rates", "sectors"}),
            "trading": self.trading.model_dump(mode="json", include={"live_accounts", "release", "reconciliation"}),
        }
        content = json.dumps(signed, indent=1, sort_keys=True) + "\n"
        path = self.limits_document.path.with_name("universe.yaml")
        return replace(self.limits_document, path=path, content=content.encode(), is_excerpt=True)

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.universe.exchange)

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(sorted(self.universe.symbols))

    @property
    def watched(self) -> tuple[str, ...]:
        """Instruments that bars are ingested of: those that are traded, and the pairs that convert their money."""
        return tuple(sorted({*self.universe.symbols, *self.universe.rates.values()}))

    @property
    def intraday_symbols(self) -> tuple[str, ...]:
        """Instruments that bars within the day are collected of."""
        return tuple(sorted(set(self.intraday.symbols or self.universe.symbols)))

    @property
    def decision(self) -> DecisionConfig:
        """What the one decision function needs: inside the risk gate's limits and of its history, with sectors where
        one asks for them."""
        chosen = self.strategies.decision
        portfolio = inside_limits(chosen.portfolio, self.risk, self.universe.sectors)
        if portfolio.constraints.sector_weight_max is not None:
            portfolio = portfolio.model_copy(update={"sectors": self.universe.sectors})
        return chosen.model_copy(update={"portfolio": portfolio, "var_window_sessions": self.risk.var_window_sessions})

    @property
    def sentiment_family(self) -> str:
        """What the stored name of the configured sentiment model begins with; its version follows."""
        chosen = self.alternative_data.sentiment
        return Path(chosen.finbert).name.lower() if chosen.model == "finbert" else chosen.model

    @property
    def account(self) -> str:
        """What we call the account that is traded."""
        return self.broker.account if isinstance(self.broker, VenueConfig) else self.paper.account

    @property
    def is_live(self) -> bool:
        """The settings ask for real money; whether they get it is in resources/permission.py."""
        return self.trading.mode != PAPER

    @property
    def asked(self) -> AskedSources:
        """Who is asked for market data and texts."""
        return AskedSources.of(self.universe.market_data, self.alternative_data, self.intraday)

    @property
    def recorded(self) -> bool:
        """The market data is a recording: the replay clock rules instead of the wall clock."""
        return self.universe.market_data == "sample"


_Model = TypeVar("_Model", bound=BaseModel)


def configured_exchange(environment: Mapping[str, str], root: Path = ROOT) -> str:
    """``universe.exchange`` alone, for definitions that need it when a code location loads.

    Where the file cannot be read it is the default: whatever runs then says what is wrong with the file, and the
    location is there to show it.
    """
    try:
        return read_section(_config_folder(environment, root) / "universe.yaml", UniverseFile).universe.exchange
    except ConfigError:
        return EXCHANGE


@dataclass(frozen=True)
class AskedSources:
    """Who is asked day by day, for definitions that need it when a code location loads.

    Attributes:
        market_data: the source that is traded on.
        texts: sources of news and of posts. Those of the sample belong to its prices: with any other they are left out.
        intraday: the source of bars within the day, if any.
    """

    market_data: MarketDataName
    texts: Mapping[ItemKind, tuple[str, ...]]
    intraday: IntradayName | None = None

    @classmethod
    def of(cls, market_data: MarketDataName, texts: AlternativeDataConfig, intraday: IntradayConfig) -> AskedSources:
        """As the sections universe, alternative_data and intraday of config/universe.yaml say."""
        named: dict[ItemKind, tuple[str, ...]] = {"news": texts.news, "post": texts.social}
        left_out = () if market_data == "sample" else ("sample",)
        asked = {kind: tuple(dict.fromkeys(n for n in names if n not in left_out)) for kind, names in named.items()}
        return cls(market_data, asked, intraday.source)


def configured_sources(environment: Mapping[str, str], root: Path = ROOT) -> AskedSources:
    """Who is asked, alone; the defaults where the file cannot be read, as in `configured_exchange`."""
    try:
        file = read_section(_config_folder(environment, root) / "universe.yaml", UniverseFile)
        named = _market_data(environment, file.universe).market_data
        return AskedSources.of(named, file.alternative_data, file.intraday)
    except ConfigError:
        return AskedSources.of("sample", AlternativeDataConfig(), IntradayConfig())


def configured_sweeps(environment: Mapping[str, str], root: Path = ROOT) -> Mapping[str, SweepConfig]:
    """The sweeps alone, for their partitions; none where the file cannot be read, as in `configured_exchange`."""
    try:
        return read_section(_config_folder(environment, root) / "strategies.yaml", StrategiesFile).sweeps
    except ConfigError:
        return {}


def _config_folder(environment: Mapping[str, str], root: Path) -> Path:
    return Path(environment.get("OCTOPUS_CONFIG") or root / "config")


def _market_data(environment: Mapping[str, str], universe: UniverseConfig) -> UniverseConfig:
    """``universe`` with the source that OCTOPUS_MARKET_DATA names, where it is set."""
    chosen = environment.get("OCTOPUS_MARKET_DATA")
    if not chosen:
        return universe
    if chosen not in MARKET_DATA:
        raise ConfigError(
            where="environment", field="OCTOPUS_MARKET_DATA", value=chosen,
            remedy=f"use one of {', '.join(MARKET_DATA)}",
        )  # fmt: skip
    return universe.model_copy(update={"market_data": chosen})


def load_settings(environment: Mapping[str, str], root: Path = ROOT) -> Settings:
    """Read config/*.yaml below ``root`` (or OCTOPUS_CONFIG) and the variables OCTOPUS_*.

    Raises:
        ConfigError: a file, field or variable is missing or wrong; the message names it, its value and the remedy.
    """
    folder = _config_folder(environment, root)
    file = read_section(folder / "universe.yaml", UniverseFile)
    universe = _market_data(environment, file.universe)
    home = home_of(environment, root)
    embedded, urls = _databases(environment, home)
    limits, rules = (_limits_document(environment, folder, name) for name in ("risk.yaml", "compliance.yaml"))
    _settles(file, folder / "universe.yaml")
    _within_the_universe(file, folder / "universe.yaml")
    policy = policy_of(rules)
    require_sources(policy, str(rules.path))
    require_brokers(policy, BROKERS, rules.path)
    require_jurisdictions(policy, rules.path)
    require_listed(policy, universe.symbols, rules.path)
    strategies = read_section(folder / "strategies.yaml", StrategiesFile)
    risk = limits_of(limits)
    require_traded(strategies.portfolio, risk, universe.symbols, folder)
    require_shocked(risk, universe.symbols, universe.sectors, limits.path)
    require_inside(strategies.portfolio, risk, universe.sectors, folder)
    return Settings(
        root=root,
        home=home,
        database_url=urls["octopus"],
        dagster_url=urls["dagster"],
        mlflow_url=urls["mlflow"],
        embedded=embedded,
        universe=universe,
        alternative_data=file.alternative_data,
        quality=file.quality,
        intraday=file.intraday,
        plans=file.plans,
        request_limits=file.request_limits,
        paper=file.paper,
        trading=file.trading,
        alerts=file.alerts,
        broker=file.broker,
        live_variable=environment.get(LIVE_VARIABLE, ""),
        broker_url=environment.get(BROKERS[file.broker.name].url_variable) or None,
        strategies=strategies,
        risk=risk,
        limits_document=limits,
        compliance=policy,
        policy_document=rules,
    )


def _settles(file: UniverseFile, path: Path) -> None:
    """That the broker settles what the universe is quoted in: those outside this house are asked for dollars alone."""
    if not isinstance(file.broker, VenueConfig):
        return
    settles = f"{file.broker.name} settles in {BASE} alone"
    wrong = {
        "currency": (file.universe.currency != BASE, f"set it to {BASE}"),
        "rates": (bool(file.universe.rates), "leave out what is quoted in another currency, and its pair"),
    }
    for name, (is_wrong, remedy) in wrong.items():
        if is_wrong:
            raise ConfigError(
                where=str(path), field=f"universe.{name}", value=getattr(file.universe, name),
                remedy=f"{settles}: {remedy}, or choose broker.name: {PAPER} (docs/currencies.md)",
            )  # fmt: skip


def _within_the_universe(file: UniverseFile, path: Path) -> None:
    """That what the file says of single instruments and sources is of some that there are: else it does nothing.

    What may be left of instruments that were traded once, a sector and a contract, is an error only where it is much
    like one that is traded and has none.
    """
    traded = instruments(file.universe.symbols)
    traded.require(file.intraday.symbols, path, "intraday.symbols")
    traded.require(file.paper.reject, path, "paper.reject")
    traded.require_meant(file.universe.sectors, path, "universe.sectors")
    if isinstance(file.broker, IbConfig):
        traded.require_meant(file.broker.contracts, path, "broker.contracts")
    asked = Known("source that is asked over the network", ASKED, f"choose one of {', '.join(sorted(ASKED))}")
    asked.require(file.request_limits, path, "request_limits")


def home_of(environment: Mapping[str, str], root: Path = ROOT) -> Path:
    """The data folder (OCTOPUS_HOME), whatever the files in config/ say.

    Raises:
        ConfigError: OCTOPUS_HOME names no folder.
    """
    try:
        return Path(environment.get("OCTOPUS_HOME") or root / ".octopus").expanduser().resolve()
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            where="environment", field="OCTOPUS_HOME", value=environment.get("OCTOPUS_HOME"),
            remedy=f"name a folder of yours ({error})",
        ) from None  # fmt: skip


def _limits_document(environment: Mapping[str, str], folder: Path, name: str) -> LimitsDocument:
    path = folder / name
    return LimitsDocument(path, _content(path), Path(environment.get(SIGNERS_VARIABLE) or folder / "limit_signers"))


def limits_of(document: LimitsDocument) -> RiskLimits:
    """The limits that the document's bytes say.

    Raises:
        ConfigError: as `read_section`.
    """
    return _parse(document.path, document.content, RiskLimits)


def policy_of(document: LimitsDocument) -> CompliancePolicy:
    """The compliance policy that the document's bytes say. Raises `ConfigError` likewise."""
    return _parse(document.path, document.content, CompliancePolicy)


def says(document: LimitsDocument, settings: Settings) -> bool:
    """Whether what is in force is what one of the settings' documents says."""
    if document is settings.limits_document:
        return limits_of(document) == settings.risk
    if document is settings.policy_document:
        return policy_of(document) == settings.compliance
    return document == settings.basis_document


def _databases(environment: Mapping[str, str], home: Path) -> tuple[EmbeddedPostgres | None, dict[str, str]]:
    """The embedded server and its URLs, or the URLs of a server of the user's own: then all three must be named."""
    variables = {name: f"OCTOPUS_{suffix}_URL" for name, suffix in
                 (("octopus", "DATABASE"), ("dagster", "DAGSTER"), ("mlflow", "MLFLOW"))}  # fmt: skip
    given = {name: environment[variable] for name, variable in variables.items() if environment.get(variable)}
    if not given:
        server = EmbeddedPostgres(home)
        return server, {name: server.url(name) for name in variables}
    for name, variable in variables.items():
        if name not in given:
            raise ConfigError(
                where="environment", field=variable, value=None,
                remedy=f"name all three of {', '.join(variables.values())}, or none for the embedded server",
            )  # fmt: skip
        if not given[name].startswith(("postgresql://", "postgres://")):
            raise ConfigError(
                where="environment", field=variable, value=given[name].split("@")[-1],
                remedy="use a URL of the form postgresql://user:password@host:port/database",
            )  # fmt: skip
    return None, given


def read_section(path: Path, model: type[_Model]) -> _Model:
    """Parse one YAML file into its model.

    Raises:
        ConfigError: naming the file, the field, its value and the remedy.
    """
    return _parse(path, _content(path), model)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        value = "missing" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(
            where=str(path), field="file", value=value, remedy="restore it from the repository's config folder"
        ) from None


def _parse(path: Path, text: bytes, model: type[_Model]) -> _Model:
    try:
        content: Any = plain_yaml.load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(where=f"{path}:{line}", field="YAML", value=problem, remedy="mend the syntax") from None
    try:
        read = model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise _wrong(path, first["loc"], first.get("input"), plain_yaml.remedy_of(first) + more) from None
    for name, value, remedy in plain_yaml.misread(content, read):
        raise _wrong(path, (name,), value, remedy)
    return read


def _wrong(path: Path, loc: Sequence[str | int], value: object, remedy: str) -> ConfigError:
    name = " ".join(".".join(str(plain_yaml.shown(part)) for part in loc).split()) or "(whole file)"
    return ConfigError(where=str(path), field=name, value=plain_yaml.shown(value), remedy=" ".join(remedy.split()))
