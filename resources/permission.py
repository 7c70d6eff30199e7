"""Whether orders may go to the chosen broker: what the settings say of it, and what the broker says of the account.

Belongs here: what must agree before an order leaves. Does not: the limits of orders (octopus/risk), the signatures of
these limits (limit_signatures.py), opening brokers (brokers/table.py).

Nothing is live by one setting: `trading.mode: live` and the variable OCTOPUS_LIVE, which names the broker, must agree,
and the account number that the broker itself tells must stand in `trading.live_accounts`. Whatever is not live must be
an account of which the broker says that it is a paper account.
"""

from __future__ import annotations

from collections.abc import Iterator

from octopus.core.errors import ConfigError
from resources.brokers.base import BrokerAccount
from resources.brokers.table import BROKERS, PAPER
from resources.secrets import secret
from resources.settings import LIVE_VARIABLE, Settings
from resources.warehouse.order_store import BatchRefusedError

FILE = "config/universe.yaml"


class AccountRefusedError(BatchRefusedError):
    """The account at the broker may not be traded under these settings; the message says what would allow it."""


def problems(settings: Settings) -> tuple[ConfigError, ...]:
    """Everything in the settings that keeps the chosen broker from being opened, each with its remedy."""
    found = [*_switch(settings), *_fit(settings), *_brackets(settings)]
    lacking = [_variable(settings, name) for name in settings.broker.secrets if not secret(name)]
    return (*found, *lacking)


def require_usable(settings: Settings) -> None:
    """Raises ConfigError: the first of `problems`."""
    for error in problems(settings):
        raise error


def require_permitted(settings: Settings, account: BrokerAccount) -> None:
    """That the account, as the broker tells it, is one that these settings allow to trade.

    Raises:
        AccountRefusedError: it is not.
    """
    if reason := refusal(settings, account):
        raise AccountRefusedError(reason)


def refusal(settings: Settings, account: BrokerAccount) -> str:
    """Why the account may not trade; empty where it may."""
    name, live = settings.broker.name, settings.is_live
    if account.account != settings.account:
        return f"{name}: the broker was opened for {account.account!r}, the settings name {settings.account!r}"
    if account.currency != settings.universe.currency:
        return (
            f"{name}: the account is kept in {account.currency} and universe.currency in {FILE} is "
            f"{settings.universe.currency}: set it to {account.currency}, or use an account of that currency"
        )
    if reason := live_alone(settings):
        return reason
    if not live and not account.is_paper:
        return (
            f"{name}: account {account.number} is no paper account and trading.mode is paper; use the paper account's "
            "key and address, or switch live trading on (docs/brokers.md)"
        )
    if live and account.is_paper:
        return f"{name}: account {account.number} is a paper account and trading.mode is live; set it to paper"
    if live and account.number not in settings.trading.live_accounts:
        return (
            f"{name}: account {account.number} is not among trading.live_accounts in {FILE}; if it is yours and may "
            "trade, write it there"
        )
    return ""


def live_alone(settings: Settings) -> str:
    """Why no account at the broker may trade in this mode; empty where one may."""
    name = settings.broker.name
    if settings.is_live or BROKERS[name].has_paper:
        return ""
    others = ", ".join(other for other, entry in BROKERS.items() if entry.has_paper)
    return (
        f"{name} has no paper accounts and trading.mode is paper: it takes no order; choose broker.name of "
        f"{others}, or switch live trading on (docs/brokers.md)"
    )


# -- inside ------------------------------------------------------------------------------------------------------------


def _switch(settings: Settings) -> Iterator[ConfigError]:
    """What is wrong with the switch between paper and live."""
    chosen, mode, variable = settings.broker.name, settings.trading.mode, settings.live_variable
    if mode == PAPER and variable:
        yield _error(
            "environment", LIVE_VARIABLE, variable,
            f"unset it to trade on paper; to trade live, set trading.mode in {FILE} to live as well",
        )  # fmt: skip
    if mode == PAPER:
        return
    if not BROKERS[chosen].can_be_live:
        yield _error(FILE, "broker.name", chosen, "name a broker that can trade live, or set trading.mode to paper")
    if variable != chosen:
        yield _error(
            "environment", LIVE_VARIABLE, variable or None,
            f"set it to {chosen} to trade live there, or set trading.mode in {FILE} to paper",
        )  # fmt: skip
    if not settings.trading.live_accounts:
        yield _error(FILE, "trading.live_accounts", [], "write the account number that may trade, as the broker has it")
    if settings.broker_url:
        yield _error(
            "environment", BROKERS[chosen].url_variable, "set", "unset it: live orders go to the broker's own address"
        )


def _fit(settings: Settings) -> Iterator[ConfigError]:
    """What of the other settings does not go with the broker."""
    chosen = settings.broker.name
    if chosen == PAPER:
        return
    if settings.recorded:
        yield _error(
            FILE, "universe.market_data", settings.universe.market_data,
            f"{chosen} trades by the wall clock: choose a live source of bars, or broker.name: {PAPER}",
        )  # fmt: skip
    if (exchange := BROKERS[chosen].exchange) not in ("", settings.universe.exchange):
        yield _error(
            FILE, "universe.exchange", settings.universe.exchange, f"set it to {exchange}: {chosen} never closes"
        )
    if settings.compliance.account.broker != chosen:
        yield _error(
            "config/compliance.yaml", "account.broker", settings.compliance.account.broker,
            f"set it to {chosen}, so that the rules of that broker are judged",
        )  # fmt: skip
    if BROKERS[chosen].whole_shares and settings.strategies.portfolio.fractional:
        yield _error(
            "config/strategies.yaml", "portfolio.fractional", True, f"set it to false: {chosen} takes whole shares here"
        )


def _brackets(settings: Settings) -> Iterator[ConfigError]:
    """Exits need a venue that takes them, and a session after their entry's fill."""
    if settings.strategies.execution.bracket is None:
        return
    chosen, reason = settings.broker.name, ""
    if not BROKERS[chosen].brackets:
        able = ", ".join(name for name, entry in BROKERS.items() if entry.brackets)
        reason = f"{chosen} takes no brackets here: choose one of {able}"
    elif settings.recorded:
        reason = "a recording executes at the close, after which there is no session: choose a live source of bars"
    elif settings.sessions.continuous:
        reason = "where trading never ends, decisions execute at the close, after which there is no session"
    if reason:
        written = settings.strategies.execution.bracket.model_dump(exclude_none=True)
        yield _error("config/strategies.yaml", "execution.bracket", written, f"{reason}; or set bracket: null")


def _error(where: str, field: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(where=where, field=field, value=value, remedy=remedy)


def _variable(settings: Settings, name: str) -> ConfigError:
    chosen = settings.broker.name
    remedy = f"set it to what {chosen} gave you (docs/brokers.md), or choose broker.name: {PAPER}"
    return _error("environment", name, None, remedy)
