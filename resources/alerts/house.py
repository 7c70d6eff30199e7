"""One look at everything that people should be told of, and one round of telling them.

Belongs here: joining facts, records and channels, with the database or without. Does not: any of them; how often
(Dagster's sensor, `octopus watchdog`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg

from octopus.alerts.alert import Alert
from octopus.alerts.watch import assess, database_down
from resources.alerts.channels import Channel, channels_of
from resources.alerts.courier import Round, deliver
from resources.alerts.facts import facts
from resources.alerts.spool import FOLDER, Spool
from resources.alerts.store import AlertStore
from resources.settings import Settings
from resources.trading import audit_log
from resources.warehouse.connection import WarehouseUnreachableError
from resources.warehouse.order_store import OrderStore


@dataclass
class AlertHouse:
    """Alerts of one installation.

    Attributes:
        watches_daemon: a dead daemon is told of; Dagster's own sensor cannot see that.
        down_since: when the database was first found down; None while it answers.
    """

    settings: Settings
    channels: Sequence[Channel]
    watches_daemon: bool = False
    down_since: datetime | None = field(default=None, init=False)

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

    def tell(self, alert: Alert) -> None:
        """Record an alert of now, in the database or without it; it is delivered by the next round."""
        try:
            with AlertStore.opened(self.settings.database_url) as store:
                store.record(alert)
        except (WarehouseUnreachableError, psycopg.OperationalError):
            self.spool.record(alert)

    def look(self) -> tuple[list[Alert], Round]:
        """Find what people should know, record it once, and deliver what is due."""
        now = datetime.now(UTC)
        try:
            found = self._look_inside(now)
        except (WarehouseUnreachableError, psycopg.OperationalError) as error:
            self.down_since = self.down_since or now
            reason = str(error) if isinstance(error, WarehouseUnreachableError) else "the database ended the connection"
            down = database_down(self.down_since, reason)
            self.spool.record(down)
            return [down], deliver(self.spool, self.channels, self.settings.alerts.least, now)
        self.down_since = None
        return found, self._deliver(now)

    def _look_inside(self, now: datetime) -> list[Alert]:
        url = self.settings.database_url
        with OrderStore.opened(url) as orders:
            # What a dead run left is told without waiting for the next one.
            orders.drain_outbox(audit_log(self.settings))
        seen = facts(self.settings, now, watches_daemon=self.watches_daemon)
        found = assess(seen, self.settings.sessions, self.settings.alerts.patience)
        with AlertStore.opened(url) as store:
            self.spool.merge_into(store)
            store.read_audit_log()
            for alert in found:
                store.record(alert)
        return found

    def _deliver(self, now: datetime) -> Round:
        with AlertStore.opened(self.settings.database_url) as store, store.alone() as mine:
            return deliver(store, self.channels, self.settings.alerts.least, now) if mine else Round(0, {})
