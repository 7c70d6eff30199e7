"""The brokers that can be named in config/universe.yaml, section broker: one entry of one table for each.

Belongs here: a broker's settings, what it needs, and how it is opened; the adapter is imported by the function that
opens it. Does not: the adapters, and whether they may trade (resources/permission.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator

from resources.secrets import secret

if TYPE_CHECKING:
    from resources.brokers.base import Broker
    from resources.clock import Clock
    from resources.settings import Settings

PAPER = "paper"
_ACCOUNT = r"^[a-z0-9-]{1,32}$"
_VARIABLE = r"^[A-Z][A-Z0-9_]*$"


class BrokerConfig(BaseModel):
    """What every broker is told (config/universe.yaml, section broker).

    Attributes:
        name: of the table below.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = PAPER

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the environment variables that must be set."""
        return ()


class VenueConfig(BrokerConfig):
    """What every broker outside this house is told.

    Attributes:
        account: what we call the account in our own books; not the broker's number. Never give two accounts one name.
    """

    account: str = Field(pattern=_ACCOUNT)


class AlpacaConfig(VenueConfig):
    """Alpaca; `trading.mode` says which of its two end points.

    Attributes:
        key, secret: names of the variables that hold the account's key; its paper and live accounts have keys of
            their own.
    """

    name: str = "alpaca"
    account: str = Field(default="alpaca", pattern=_ACCOUNT)
    key: str = Field(default="ALPACA_API_KEY", pattern=_VARIABLE)
    secret: str = Field(default="ALPACA_API_SECRET", pattern=_VARIABLE)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.key, self.secret)


class CoinbaseConfig(VenueConfig):
    """Coinbase; every account there is a live one.

    Attributes:
        key, secret: names of the variables that hold the name of the API key and its private key.
    """

    name: str = "coinbase"
    account: str = Field(default="coinbase", pattern=_ACCOUNT)
    key: str = Field(default="COINBASE_API_KEY", pattern=_VARIABLE)
    secret: str = Field(default="COINBASE_API_SECRET", pattern=_VARIABLE)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.key, self.secret)


class SchwabConfig(VenueConfig):
    """Schwab; every account there is a live one.

    Attributes:
        key, secret: names of the variables that hold the key and the secret of the app registered with Schwab.
        number, token_file: names of the variables that hold the account's number, and the path of the login's token.
    """

    name: str = "schwab"
    account: str = Field(default="schwab", pattern=_ACCOUNT)
    key: str = Field(default="SCHWAB_API_KEY", pattern=_VARIABLE)
    secret: str = Field(default="SCHWAB_APP_SECRET", pattern=_VARIABLE)
    number: str = Field(default="SCHWAB_ACCOUNT_NUMBER", pattern=_VARIABLE)
    token_file: str = Field(default="SCHWAB_TOKEN_FILE", pattern=_VARIABLE)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.key, self.secret, self.number, self.token_file)


class IbContract(BaseModel):
    """A security by Interactive Brokers' own number, where its ticker does not name it alone.

    Attributes:
        id: its contract id (conId). exchange: where orders are routed. currency: it is traded in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int = Field(gt=0)
    exchange: str = Field(default="SMART", pattern=r"^[A-Z0-9.]{2,16}$")
    currency: Literal["USD"] = "USD"


class IbConfig(VenueConfig):
    """Interactive Brokers, through a TWS or an IB Gateway that a person has logged in.

    Attributes:
        host, port: of its API; no port: that of the Gateway for `trading.mode`. TWS listens on 7497 (paper) and 7496.
        client_id: of this program there; no other program may use it.
        time_zone: of TWS, whose day of records begins at midnight there.
        number, token, query: names of the variables that hold the account's number, the token of the Flex Web Service
            and the number of the Activity Flex Query.
        contracts: by our symbol, of what a ticker does not name alone.
    """

    name: str = "ib"
    account: str = Field(default="ib", pattern=_ACCOUNT)
    host: str = "127.0.0.1"
    port: int | None = Field(default=None, gt=0, lt=65536)
    client_id: int = Field(default=7, ge=0)
    time_zone: str = "America/New_York"
    number: str = Field(default="IB_ACCOUNT_NUMBER", pattern=_VARIABLE)
    token: str = Field(default="IB_FLEX_TOKEN", pattern=_VARIABLE)
    query: str = Field(default="IB_FLEX_QUERY", pattern=_VARIABLE)
    contracts: Mapping[str, IbContract] = Field(default_factory=dict)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"no time zone is called {value!r}: write one of the IANA's, such as America/New_York")
        return value

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.number, self.token, self.query)


@runtime_checkable
class HasLogin(Protocol):
    """A broker at which a person logs in from time to time."""

    def login_ends(self) -> datetime: ...


@runtime_checkable
class HasReports(Protocol):
    """A broker whose reports tell of the days before."""

    def told_until(self) -> datetime: ...


Opener = Callable[["Settings", Any, "Clock"], "Broker"]
"""From the settings, the broker's own section of them and the clock to its one account; sends nothing."""


@dataclass(frozen=True)
class BrokerEntry:
    """One broker.

    Attributes:
        settings: its section. open: makes the adapter.
        can_be_live: whether it can move money. has_paper: whether it has accounts that move none.
        whole_shares: it takes no fractions. brackets: it takes entries with exits
            (`resources.brokers.base.BracketBroker`).
        url_variable: variable that moves its end point, for rehearsals against a simulator; empty where there is none.
        exchange: the one calendar (universe.exchange) by which it takes orders; empty: any.
    """

    settings: type[BrokerConfig]
    open: Opener
    can_be_live: bool = True
    has_paper: bool = True
    whole_shares: bool = True
    brackets: bool = False
    url_variable: str = ""
    exchange: str = ""


def _paper(settings: Settings, _chosen: BrokerConfig, clock: Clock) -> Broker:
    from resources.trading import paper_broker

    return paper_broker(settings, clock)


def _alpaca(settings: Settings, chosen: AlpacaConfig, clock: Clock) -> Broker:
    from resources.brokers.alpaca import AlpacaBroker
    from resources.sources.http import Access
    from resources.trading import latest_prices

    return AlpacaBroker(
        secret(chosen.key) or "",
        secret(chosen.secret) or "",
        chosen.account,
        settings.sessions,
        paper=not settings.is_live,
        access=Access(base_url=settings.broker_url),
        quotes=latest_prices(settings, clock),
        now=clock.now,
    )


def _coinbase(settings: Settings, chosen: CoinbaseConfig, clock: Clock) -> Broker:
    from resources.brokers.coinbase import CoinbaseBroker

    key, private = (secret(name) or "" for name in chosen.secrets)
    return CoinbaseBroker(key, private, chosen.account, universe=settings.symbols, now=clock.now)


def _schwab(settings: Settings, chosen: SchwabConfig, clock: Clock) -> Broker:
    from resources.brokers.schwab import SchwabBroker
    from resources.warehouse.order_store import OrderStore

    def known() -> Mapping[str, str]:
        with OrderStore.opened(settings.database_url) as store:
            return store.client_ids(chosen.account)

    key, app_secret, number, token_file = (secret(name) or "" for name in chosen.secrets)
    return SchwabBroker(
        key, app_secret, Path(token_file), number, chosen.account, settings.sessions, known, now=clock.now
    )


def _ib(settings: Settings, chosen: IbConfig, clock: Clock) -> Broker:
    from resources.brokers.flex import ADDRESS, FlexReports
    from resources.brokers.ib import GATEWAY_PORT, IbBroker, Security
    from resources.trading import latest_prices

    number, token, query = (secret(name) or "" for name in chosen.secrets)
    reports = FlexReports(token, query, settings.sessions, address=settings.broker_url or ADDRESS, now=clock.now)
    return IbBroker(
        chosen.account,
        chosen.host,
        chosen.port or GATEWAY_PORT[settings.is_live],
        chosen.client_id,
        number,
        {name: Security(one.id, one.exchange, one.currency) for name, one in chosen.contracts.items()},
        reports=reports,
        zone=chosen.time_zone,
        quotes=latest_prices(settings, clock),
        now=clock.now,
    )


BROKERS: Mapping[str, BrokerEntry] = {
    PAPER: BrokerEntry(BrokerConfig, _paper, can_be_live=False, whole_shares=False, brackets=True),
    "alpaca": BrokerEntry(AlpacaConfig, _alpaca, brackets=True, url_variable="OCTOPUS_ALPACA_TRADING_URL"),
    "coinbase": BrokerEntry(CoinbaseConfig, _coinbase, has_paper=False, whole_shares=False, exchange="24/7"),
    "schwab": BrokerEntry(SchwabConfig, _schwab, has_paper=False),
    "ib": BrokerEntry(IbConfig, _ib, brackets=True, url_variable="OCTOPUS_IB_FLEX_URL"),
}


def broker_config(written: object) -> BrokerConfig:
    """The section broker, read by the settings of the broker that it names.

    Raises:
        ValueError: no such broker, or (a ValidationError) a field of its settings is wrong.
    """
    if isinstance(written, BrokerConfig):
        return written
    name = written.get("name", PAPER) if isinstance(written, Mapping) else written
    if not isinstance(name, str) or name not in BROKERS:
        raise ValueError(f"no broker is called {name!r}: write name: and one of {', '.join(BROKERS)}")
    return BROKERS[name].settings.model_validate(written)
