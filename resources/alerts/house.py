"""One look at everything that people should be told of, and one round of telling them.

Belongs here: joining facts, records and channels, with the database or without. Does not: any of them; how often
(Dagster's sensor, `octopus watchdog`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from queue import Empty, Queue
from threading import Thread
from typing import TypeVar

import psycopg

from octopus.alerts.alert import Alert, Kind
from octopus.alerts.watch import assess, database_back, database_down, watchdog_blind
from octopus.core.errors import OctopusError
from resources.alerts.channels import Channel, channels_of
from resources.alerts.courier import Round, deliver
from resources.alerts.facts import facts
from resources.alerts.kept import Kept
from resources.alerts.outage import NAME as OUTAGE
from resources.alerts.outage import Outage
from resources.alerts.spool import FOLDER, Spool
from resources.alerts.store import AlertStore
from resources.halt_file import in_one_line
from resources.settings import Settings
from resources.trading import audit_log
from resources.warehouse.connection import WarehouseUnreachableError, bounded
from resources.warehouse.order_store import OrderStore

STATEMENT_SECONDS = 20
"""Of one statement of a look, waiting for a lock included."""
LOOK_SECONDS, DELIVERY_SECONDS = 60.0, 300.0
"""Of a look, and of a round of deliveries, in which each of many alerts may wait for its receiver."""
_T = TypeVar("_T")


class LookTimeoutError(OctopusError):
    """The databases did not answer in time; the message says for how long was waited."""


@dataclass
class AlertHouse:
    """Alerts of one installation.

    Attributes:
        watches_daemon: a dead daemon is told of; Dagster's own sensor cannot see that.
    """

    settings: Settings
    channels: Sequence[Channel]
    watches_daemon: bool = False
    _late: Thread | None = field(default=None, init=False)
    _recorded: set[str] = field(default_factory=set, init=False)

    @classmethod
    def of(cls, settings: Settings, environment: Mapping[str, str], *, watches_daemon: bool = False) -> AlertHouse:
        """With the channels that the settings name.

        Raises:
            ConfigError: as `channels_of`.
        """
        return cls(settings, channels_of(settings.alerts, environment), watches_daemon)

    @property
    def spool(self) -> Spool:
        return Spool(self.settings.home / FOLDER)

    @cached_property
    def outage(self) -> Outage:
        return Outage(self.settings.home / OUTAGE)

    @cached_property
    def kept(self) -> Kept:
        """Alerts that the database has not taken."""
        return Kept(self.spool)

    @cached_property
    def bounded(self) -> Settings:
        """The settings with databases that answer in time, or whose statements end with an error."""
        database, dagster = (
            bounded(url, STATEMENT_SECONDS) for url in (self.settings.database_url, self.settings.dagster_url)
        )
        return replace(self.settings, database_url=database, dagster_url=dagster)

    def tell(self, alert: Alert) -> None:
        """Record an alert of now, in the database or without it; it is delivered by the next round."""
        try:
            with AlertStore.opened(self.bounded.database_url) as store:
                store.record(alert)
        except Exception:  # noqa: BLE001  # whatever keeps the database from taking it, people are to be told
            self.kept.record(alert)
            if self.kept.holds(alert):
                self._deliver_kept(datetime.now(UTC))

    def look(self) -> tuple[list[Alert], Round]:
        """Find what people should know, record it once, and deliver what is due."""
        found = self.find()
        return found, self.deliver(found)

    def find(self) -> list[Alert]:
        """What is amiss now. A look that fails, whyever, or is not through in time, is itself what is amiss."""
        now = datetime.now(UTC)
        seen: list[Alert] = []
        try:
            self._in_time(lambda: self._look_inside(now, seen), LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001  # a watchdog that sees nothing must not be silent
            # What was seen, and could not be recorded, is amiss all the same.
            return [self._trouble(error, now), *list(seen)]
        self.outage.end()
        return seen

    def deliver(self, found: Sequence[Alert]) -> Round:
        """Deliver what is due, ``found`` included, with the database or without it."""
        now = datetime.now(UTC)
        if not self.outage.since:
            try:
                return self._in_time(lambda: self._deliver_recorded(now), DELIVERY_SECONDS)
            except Exception as error:  # noqa: BLE001  # as above
                found = [*found, self._trouble(error, now)]
        for alert in found:
            # What the database had before is delivered when it is back, and not twice.
            if alert.key not in self._recorded:
                self.kept.record(alert)
        return self._deliver_kept(now)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _trouble(self, error: Exception, now: datetime) -> Alert:
        """The alert of a look that failed with ``error``; one for each time without sight, however many looks."""
        # Some say nothing on the line, others say why: a statement that waited too long, a database that is read-only.
        is_gone = isinstance(error, psycopg.OperationalError) and error.sqlstate in _GONE
        kind = Kind.DATABASE_DOWN if is_gone or isinstance(error, WarehouseUnreachableError) else Kind.WATCHDOG_BLIND
        since = self.outage.go_on(kind, now)
        if kind is Kind.WATCHDOG_BLIND:
            return watchdog_blind(since, in_one_line(error))
        return database_down(since, "the database ended the connection" if is_gone else str(error))

    def _look_inside(self, now: datetime, seen: list[Alert]) -> None:
        """Add to ``seen`` what is amiss, and record it.

        What the database was not seen for is recorded as over, too.
        """
        settings, since = self.bounded, self.outage.over(now)
        state = facts(settings, now, watches_daemon=self.watches_daemon)
        seen += assess(state, settings.sessions, settings.alerts.patience)
        with OrderStore.opened(settings.database_url) as orders:
            # What a dead run left is told without waiting for the next one.
            orders.drain_outbox(audit_log(settings))
        with AlertStore.opened(settings.database_url) as store:
            self.kept.merge_into(store)
            store.read_audit_log()
            for alert in [*seen, *([database_back(since, now)] if since else [])]:
                store.record(alert)
                self._recorded.add(alert.key)

    def _deliver_recorded(self, now: datetime) -> Round:
        with AlertStore.opened(self.bounded.database_url) as store, store.alone() as mine:
            return deliver(store, self.channels, self.settings.alerts.least, now) if mine else Round(0, {})

    def _deliver_kept(self, now: datetime) -> Round:
        return deliver(self.kept, self.channels, self.settings.alerts.least, now)

    def _in_time(self, work: Callable[[], _T], seconds: float) -> _T:
        """What ``work`` returns or raises within ``seconds``: no timeout of libpq ends each wait for a hung server.

        Raises:
            LookTimeoutError: it is not through; until it is, nothing else is begun.
        """
        if self._late is not None and self._late.is_alive():
            raise LookTimeoutError("a look of before hangs in the database still")
        ends: Queue[tuple[_T | None, Exception | None]] = Queue()

        def done() -> None:
            try:
                ends.put((work(), None))
            except Exception as error:  # noqa: BLE001  # raised again, where it was asked for
                ends.put((None, error))

        self._late = Thread(target=done, name="look", daemon=True)
        self._late.start()
        try:
            result, error = ends.get(timeout=seconds)
        except Empty:
            raise LookTimeoutError(f"the databases did not answer within {seconds:g} s") from None
        self._late.join()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only where the work returns it


_GONE = frozenset({None, "57P01", "57P02", "57P03", "08000", "08003", "08006"})
"""SQLSTATE of a connection that ended: by itself, by an administrator, by a crash, while the server starts."""
