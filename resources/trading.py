"""The order path, put together: broker, clock, gates, audit log and records for one account.

Belongs here: which parts the execution engine is made of. Does not: the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from octopus.core.orders import AccountSnapshot, Batch, GateReport, TradingState
from octopus.execution.config import ScheduleAtBars, ScheduleConfig
from resources.brokers.base import Broker
from resources.brokers.paper import PaperBehaviour, PaperBroker
from resources.brokers.table import BROKERS, PAPER
from resources.clock import Clock, ReplayClock, WallClock
from resources.execution_engine import EngineSettings, ExecutionEngine, Judge
from resources.gates import Gates
from resources.permission import require_permitted, require_usable
from resources.settings import Settings
from resources.trading_state import halt_file
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.audit_log import AuditLog
from resources.warehouse.connection import Role
from resources.warehouse.instruments import trading_units
from resources.warehouse.order_store import OrderStore
from resources.warehouse.prices import recorded_prices
from resources.warehouse.store import Warehouse

SETTLE_TIMEOUT = timedelta(minutes=15)
"""How long after an auction a broker is asked for what became of the orders."""

WATCH_INTERVAL = timedelta(seconds=5)
"""How often a run that waits for an auction looks whether a person asked to replace an order."""


@dataclass(frozen=True)
class Trading:
    """Everything that acts on the account."""

    settings: Settings
    clock: Clock
    broker: Broker

    @property
    def account(self) -> str:
        return self.settings.account

    def execution_session(self, decided: date) -> date:
        """The session in which the batch of ``decided`` is executed."""
        return self.settings.sessions.next(decided)

    @contextmanager
    def engine(self) -> Iterator[ExecutionEngine]:
        """The engine, with a connection of its own for as long as the block lasts."""
        warehouse = Warehouse(self.settings.database_url, Role.TRADER)
        feed, terms = recorded_prices(self.settings, warehouse), self.settings.trading.reconciliation
        permit = self._permission()
        with OrderStore.opened(self.settings.database_url, halts=halt_file(self.settings)) as store:
            yield ExecutionEngine(
                store=store,
                broker=self.broker,
                clock=self.clock,
                sessions=self.settings.sessions,
                permit=permit,
                judge=_behind(permit, Gates(self.settings, warehouse).judge_at_execution),
                audit=audit_log(self.settings),
                feed=feed,
                settings=EngineSettings(
                    lot=self.settings.strategies.portfolio.lot,
                    # The paper broker's answer changes with new bars, not with waiting.
                    settle_timeout=timedelta(0) if self.settings.broker.name == PAPER else SETTLE_TIMEOUT,
                    data_patience=data_patience(self.settings),
                    cash_tolerance=terms.cash_tolerance,
                    share_tolerance=terms.share_tolerance,
                    amount_tolerance=terms.amount_tolerance,
                    halt_on_breaks=terms.halt,
                    require_release=self.settings.trading.needs_release,
                    watch_interval=None if self.settings.recorded else WATCH_INTERVAL,
                    schedule=schedule_of(self.settings),
                ),
                volume=feed.expected_volume,
                units=lambda as_of: trading_units(warehouse, self.settings.universe.market_data, as_of),
            )

    def _permission(self) -> Callable[[], None]:
        """The question whether the account may trade at all, which the broker is asked once."""
        permitted = False

        def require() -> None:
            nonlocal permitted
            if not permitted:
                require_usable(self.settings)
                require_permitted(self.settings, self.broker.account())
                permitted = True

        return require


def _behind(permit: Callable[[], None], judge: Judge) -> Judge:
    """The gates behind a permission."""

    def ask_and_judge(
        batch: Batch, snapshot: AccountSnapshot, now: datetime, state: TradingState
    ) -> Sequence[GateReport]:
        permit()
        return judge(batch, snapshot, now, state)

    return ask_and_judge


def trading_clock(settings: Settings) -> Clock:
    """Replay on a recording, the wall clock on live data."""
    return ReplayClock(settings.database_url, settings.sessions) if settings.recorded else WallClock()


def trading_of(settings: Settings) -> Trading:
    """Everything that acts on the account of the settings."""
    clock = trading_clock(settings)
    return Trading(settings, clock, open_broker(settings, clock))


def schedule_of(settings: Settings) -> ScheduleConfig:
    """How orders are worked at the broker of the settings."""
    execution = settings.strategies.execution
    return ScheduleAtBars.of(execution) if settings.broker.name == PAPER else execution


def data_patience(settings: Settings) -> timedelta:
    """How long after a session's close its daily bars may still arrive: a recording has all that there will ever be."""
    return timedelta(0) if settings.recorded else timedelta(days=3)


def open_paper_account(settings: Settings) -> bool:
    """Switch trading on for a paper account that never traded; a halted or restored one stays as it is.

    A live account is switched on by a person (`octopus resume`) alone.
    """
    if settings.is_live:
        return False
    with OrderStore.opened(settings.database_url) as store:
        now = trading_clock(settings).now()
        opened = store.open_account(settings.account, "octopus", "paper account opened", now)
        store.drain_outbox(audit_log(settings))
    return opened


def has_books(settings: Settings) -> bool:
    """Whether anything is booked in the account."""
    with OrderStore.opened(settings.database_url) as store:
        return AccountBooks(store).first_session(settings.account) is not None


def anchor_file(settings: Settings) -> Path:
    """Where the audit log's head is kept, outside the database."""
    return settings.home / "audit.anchor"


def audit_log(settings: Settings) -> AuditLog:
    """The audit log, anchored outside the database."""
    return AuditLog(settings.database_url, anchor_file(settings))


def open_broker(settings: Settings, clock: Clock) -> Broker:
    """The account that the settings name, at its broker; nothing is sent.

    Raises:
        ConfigError: the settings do not allow it, see `permission.problems`.
    """
    require_usable(settings)
    return BROKERS[settings.broker.name].open(settings, settings.broker, clock)


def latest_prices(settings: Settings, clock: Clock) -> Callable[[Collection[str]], Mapping[str, Decimal]]:
    """Our own latest closes by instrument, for what a broker has no price of; what we do not know stays out."""
    feed = recorded_prices(settings, Warehouse(settings.database_url, Role.TRADER))

    def quotes(names: Collection[str]) -> Mapping[str, Decimal]:
        session = settings.sessions.last_decided(clock.now())
        found = {name: feed.last_close(name, session) for name in names}
        return {name: price for name, price in found.items() if price is not None}

    return quotes


def paper_broker(settings: Settings, clock: Clock) -> PaperBroker:
    """The paper account of the settings; it is opened at the first use."""
    warehouse = Warehouse(settings.database_url, Role.TRADER)
    return PaperBroker(
        url=settings.database_url,
        paper_account=settings.paper.account,
        clock=clock,
        sessions=settings.sessions,
        feed=recorded_prices(settings, warehouse),
        costs=settings.strategies.costs,
        deposit=settings.paper.deposit_usd,
        currency=settings.universe.currency,
        allow_fractional=settings.strategies.portfolio.fractional,
        data_patience=data_patience(settings),
        units=lambda now: trading_units(warehouse, settings.universe.market_data, now),
        behaviour=PaperBehaviour(
            settings.paper.fill_fraction, settings.paper.fills_per_order, frozenset(settings.paper.reject)
        ),
    )
