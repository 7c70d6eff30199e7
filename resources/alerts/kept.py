"""Alerts without the database: in files, and in this process's memory while the disk takes none.

Belongs here: which of the two. Does not: the files (spool.py), delivering (courier.py).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from octopus.alerts.alert import Alert
from resources.alerts.courier import Delivery, Pending, Records
from resources.alerts.spool import Spool

_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""What a file comes to that cannot be read, or not written."""


@dataclass
class Kept:
    """`resources.alerts.courier.Records` that takes every alert."""

    spool: Spool
    _alerts: dict[str, Alert] = field(default_factory=dict, init=False)
    _deliveries: dict[str, list[Delivery]] = field(default_factory=dict, init=False)

    def record(self, alert: Alert) -> bool:
        """As `Records.record`."""
        if alert.key in self._alerts:
            return False
        try:
            return self.spool.record(alert)
        except _UNREADABLE:
            self._alerts[alert.key] = alert
            return True

    def holds(self, alert: Alert) -> bool:
        """Whether it is in memory alone, and lost with the process."""
        return alert.key in self._alerts

    def note(self, key: str, delivery: Delivery) -> None:
        """As `Records.note`."""
        if key not in self._alerts:
            with suppress(*_UNREADABLE):
                self.spool.note(key, delivery)
                return
        self._deliveries.setdefault(key, []).append(delivery)

    def pending(self, channel: str, since: datetime) -> list[Pending]:
        """As `Records.pending`."""
        waiting: list[Pending] = []
        with suppress(*_UNREADABLE):
            waiting = list(self.spool.pending(channel, since))
        filed = {one.alert.key for one in waiting}
        waiting += [Pending(a) for a in list(self._alerts.values()) if a.at >= since and a.key not in filed]
        found = []
        for one in sorted(waiting, key=lambda one: one.alert.at):
            own = [each for each in self._deliveries.get(one.alert.key, ()) if each.channel == channel]
            if not any(each.delivered for each in own):
                last = max((at for at in (one.last, *(each.at for each in own)) if at is not None), default=None)
                found.append(Pending(one.alert, one.failures + len(own), last))
        return found

    def merge_into(self, records: Records) -> None:
        """Move everything there, with what was delivered; what a crash leaves is moved again and changes nothing."""
        self.spool.merge_into(records)
        for alert in list(self._alerts.values()):
            records.record(alert)
        for key, deliveries in list(self._deliveries.items()):
            for delivery in list(deliveries):
                records.note(key, delivery)
        self._alerts.clear()
        self._deliveries.clear()
