"""`octopus doctor`: what is configured, reachable and missing, and what to do about it.

Belongs here: checks a user can act on. Does not: repairs.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import click

from octopus.core.errors import OctopusError
from octopus_pipelines import dbt_manifest
from octopus_pipelines.cli.house import settings
from resources.agreement import idle_shocks
from resources.alerts.channels import WEBHOOK_VARIABLE, channels_of
from resources.alerts.store import AlertStore
from resources.brokers.base import Guarantee
from resources.brokers.table import PAPER, HasLogin, HasReports, IbConfig
from resources.halt_file import HaltFile
from resources.limit_signatures import limits_authority
from resources.permission import live_alone, problems, refusal
from resources.settings import Settings
from resources.trading import open_broker, trading_clock
from resources.trading_state import halt_file
from resources.warehouse.connection import WarehouseUnreachableError, connect, safe_address
from resources.warehouse.migrate import revision_of, schema_problem

LEAST_FREE_BYTES = 2 * 1024**3
UNDELIVERED_SINCE = timedelta(days=30)


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``bad`` makes the command end with status 1."""

    mark: str
    subject: str
    text: str

    @property
    def bad(self) -> bool:
        return self.mark == "✗"


@click.command()
def doctor() -> None:
    """Check configuration, databases, keys and disk; say what to do about each problem."""
    findings = list(_examine())
    colours = {"✓": "green", "!": "yellow", "✗": "red"}
    for finding in findings:
        click.secho(f"{finding.mark} {finding.subject:<22} {finding.text}", fg=colours[finding.mark])
    if any(finding.bad for finding in findings):
        sys.exit(1)


def _examine() -> Iterator[Finding]:
    yield Finding("✓", "Python", sys.version.split()[0])
    try:
        current = settings()
    except OctopusError as error:
        yield Finding("✗", "configuration", str(error))
        return
    yield Finding("✓", "configuration", f"{len(current.symbols)} instruments from {current.universe.market_data}")
    yield from _idle(current)
    yield from _databases(current)
    yield from _broker(current)
    yield from _sources(current)
    yield _sentiment(current)
    yield from _watch(current)
    free = shutil.disk_usage(current.home if current.home.exists() else current.root).free
    enough = free >= LEAST_FREE_BYTES
    yield Finding("✓" if enough else "!", "disk", f"{free / 1024**3:.1f} GiB free at {current.home}")
    made = dbt_manifest.is_current()
    yield Finding("✓" if made else "!", "dbt manifest", "current" if made else "not made yet: `octopus run` makes it")


def _idle(current: Settings) -> Iterator[Finding]:
    """What names something that is not traded: it may be meant for another universe, or for what is still held."""
    for told in idle_shocks(current.risk, current.universe.symbols, current.universe.sectors):
        yield Finding("!", "stress", f"{told}; name another sector, or leave it out")
    if isinstance(current.broker, IbConfig):
        for name in sorted(set(current.broker.contracts) - set(current.symbols)):
            yield Finding(
                "!", "broker.contracts", f"{name} is no instrument of universe.symbols: leave it out unless it is held"
            )


def _databases(current: Settings) -> Iterator[Finding]:
    if current.embedded is not None and not current.embedded.is_running():
        yield Finding("!", "database", f"embedded, not running ({current.embedded.data}): `octopus up` starts it")
        return
    urls = {"octopus": current.database_url, "dagster": current.dagster_url, "mlflow": current.mlflow_url}
    reached = set()
    for name, url in urls.items():
        try:
            with connect(url, autocommit=True) as connection:
                version, read_only = connection.execute(
                    "select current_setting('server_version'), current_setting('transaction_read_only') = 'on'"
                ).fetchone() or ("?", False)
            reached.add(name)
            where = f"PostgreSQL {version} at {safe_address(url)}"
            if read_only:
                remedy = "name the primary, or take default_transaction_read_only back from server, database or user"
                yield Finding("✗", f"database {name}", f"{where} takes no writes: {remedy}")
            else:
                yield Finding("✓", f"database {name}", where)
        except OctopusError as error:
            yield Finding("✗", f"database {name}", str(error))
    if "octopus" in reached:
        yield _schema(current)


def _schema(current: Settings) -> Finding:
    problem = schema_problem(current.database_url)
    if not problem:
        return Finding("✓", "schema", "migrated")
    return Finding("!" if revision_of(current.database_url) is None else "✗", "schema", problem)


def _broker(current: Settings) -> Iterator[Finding]:
    """What the settings say of the broker, and where they may be used what `_account` finds."""
    subject = f"broker {current.broker.name}"
    wrong = problems(current)
    yield from (Finding("✗", subject, str(error)) for error in wrong)
    if current.is_live and (unsigned := limits_authority(current, datetime.now(UTC)).problem):
        yield Finding("✗", "limits", f"live orders are denied while the limits are unsigned: {unsigned}")
    if reason := live_alone(current):
        yield Finding("✗", subject, reason)
    if not wrong:
        yield from _account(current, subject)


def _account(current: Settings, subject: str) -> Iterator[Finding]:
    """What the broker says of the account that the settings open."""
    if current.broker.name == PAPER:
        yield Finding("✓", subject, f"account {current.account}, our own simulation: no order leaves this house")
        return
    try:
        opened = open_broker(current, trading_clock(current))
        told = opened.account()
    except OctopusError as error:
        yield Finding("✗", subject, str(error))
        return
    reason = refusal(current, told)
    if reason and reason != live_alone(current):
        yield Finding("✗", subject, reason)
    if not reason:
        kind = "paper" if told.is_paper else "LIVE"
        yield Finding("✓", subject, f"account {told.number} ({kind}), {_GUARANTEES[opened.guarantee]}")
    if isinstance(opened, HasLogin):
        yield _login(subject, opened.login_ends(), datetime.now(UTC))
    if isinstance(opened, HasReports):
        yield _reports(subject, opened)


def _login(subject: str, ends: datetime, now: datetime) -> Finding:
    mark = "✓" if ends - now > timedelta(days=1) else "!"
    return Finding(mark, subject, f"the login ends on {ends:%Y-%m-%d %H:%M} UTC; log in again before (docs/brokers.md)")


def _reports(subject: str, broker: HasReports) -> Finding:
    try:
        return Finding("✓", subject, f"its reports tell of movements until {broker.told_until():%Y-%m-%d %H:%M} UTC")
    except OctopusError as error:
        return Finding("✗", subject, str(error))


_GUARANTEES = {
    Guarantee.IDEMPOTENT_KEY: "an uncertain send is sent again under the same id",
    Guarantee.SEARCHABLE_TAG: "an uncertain send is looked up there and never sent again",
    Guarantee.NOTHING: "an uncertain send waits for a person",
}


def _sources(current: Settings) -> Iterator[Finding]:
    needed = {
        "newsapi": ("NEWSAPI_API_KEY",),
        "alphavantage": ("ALPHAVANTAGE_API_KEY",),
        "alpaca": ("ALPACA_API_KEY", "ALPACA_API_SECRET"),
        "reddit": ("REDDIT_CLIENT_ID", "REDDIT_CLIENT_SECRET", "REDDIT_USER_AGENT"),
        "x": ("X_BEARER_TOKEN",),
    }
    intraday = current.intraday
    bars = (
        current.universe.market_data,
        *current.universe.compare_with,
        *([intraday.source] if intraday.source else ()),
    )
    # A vendor of bars may be one of news too, under the same name and key.
    for name in dict.fromkeys((*bars, *current.alternative_data.news, *current.alternative_data.social)):
        missing = [variable for variable in needed.get(name, ()) if not os.environ.get(variable)]
        if missing:
            yield Finding("!", f"source {name}", f"it fails until {', '.join(missing)} is set (see .env.example)")
        else:
            yield Finding("✓", f"source {name}", "needs no key" if name not in needed else "key is set")
    if intraday.source:
        whose = f"bars of {intraday.interval} min of {len(current.intraday_symbols)} instruments from {intraday.source}"
        yield Finding("✓", "intraday", f"{whose}: the job `intraday` collects them")


def _watch(current: Settings) -> Iterator[Finding]:
    """Alerts and the kill switch's file: what works without the database, and what waits in it."""
    try:
        names = ", ".join(channel.name for channel in channels_of(current.alerts, os.environ))
        unset = f"recorded only: set {WEBHOOK_VARIABLE} or alerts.email_to, then `octopus alerts test`"
        yield Finding("✓" if names else "!", "alerts", f"sent by {names}" if names else unset)
    except OctopusError as error:
        yield Finding("✗", "alerts", str(error))
        return
    if current.embedded is None or current.embedded.is_running():
        with suppress(WarehouseUnreachableError):
            yield from _undelivered(current)
    yield from _halting(current.home)
    if (halt := halt_file(current).read()) is not None:
        yield Finding("!", "halt file", f"{halt.state.value} by {halt.by}: {halt.reason}; `octopus resume` lifts it")


def _halting(home: Path) -> Iterator[Finding]:
    """Whether `octopus halt` of this user, and then of any other, can write its file."""
    lock = HaltFile.in_home(home).lock
    if home.exists() and not os.access(home, os.W_OK | os.X_OK):
        yield Finding("✗", "halt file", f"this user cannot halt: {home} is not writable for it")
    if lock.exists() and not lock.stat().st_mode & stat.S_IROTH:
        yield Finding("!", "halt file", f"{lock} shuts other users out: chmod 666 {lock}")


def _undelivered(current: Settings) -> Iterator[Finding]:
    if schema_problem(current.database_url):
        return
    now = datetime.now(UTC)
    with AlertStore.opened(current.database_url) as store:
        for channel in channels_of(current.alerts, os.environ):
            left = [one for one in store.pending(channel.name, now - UNDELIVERED_SINCE) if one.failures]
            if left:
                text = f"{len(left)} alerts not taken, the oldest of {left[0].alert.at:%Y-%m-%d %H:%M}: "
                yield Finding("✗", f"alerts {channel.name}", text + "try it with `octopus alerts test`")


def _sentiment(current: Settings) -> Finding:
    chosen = current.alternative_data.sentiment.model
    lacking = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if chosen == "finbert" and lacking:
        return Finding("✗", "sentiment finbert", f"{', '.join(lacking)} is not installed: run `make nlp`")
    return Finding("✓", f"sentiment {chosen}", "ready")
