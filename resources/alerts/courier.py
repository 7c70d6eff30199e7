"""Delivering what is recorded: each alert to each channel until it was taken once.

Belongs here: which alert is due, patience with a receiver that is down, and what is noted of each attempt. Does not:
sending (channels.py), where alerts are kept (store.py, spool.py).

At least once: an attempt is noted after it was made, so a process that dies in between sends again, under the same key.
Every alert is tried for three days; what was not taken by then stays in the records as undelivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from octopus.alerts.alert import Alert, Kind, Severity
from resources.alerts.channels import Channel

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=15)
GIVE_UP = timedelta(days=3)
TELL_OTHERS = timedelta(minutes=10)
"""When one channel has not taken an alert for so long, the others are told that it does not work."""


@dataclass(frozen=True)
class Delivery:
    """One attempt."""

    channel: str
    at: datetime
    delivered: bool
    detail: str


@dataclass(frozen=True)
class Pending:
    """An alert that a channel has not taken.

    Attributes:
        failures: attempts so far. last: when the last one was made.
    """

    alert: Alert
    failures: int = 0
    last: datetime | None = None

    @property
    def due(self) -> datetime | None:
        """When it is tried again; None: at once."""
        if self.last is None:
            return None
        # 2^16 times the first wait is far beyond the longest.
        wait: timedelta = min(FIRST_WAIT * 2 ** min(self.failures - 1, 16), LONGEST_WAIT)
        return self.last + wait


class Records(Protocol):
    """Where alerts and their deliveries are kept."""

    def record(self, alert: Alert) -> bool:
        """Keep the alert; False when its key is known."""
        ...

    def pending(self, channel: str, since: datetime) -> Sequence[Pending]:
        """Alerts of ``since`` and later that the channel has not taken, oldest first."""
        ...

    def note(self, key: str, delivery: Delivery) -> None:
        """Keep what an attempt at the alert with ``key`` came to."""
        ...


@dataclass(frozen=True)
class Round:
    """What one round of deliveries came to.

    Attributes:
        failing: channel → what its receiver answered last.
    """

    sent: int
    failing: dict[str, str]


def deliver(records: Records, channels: Sequence[Channel], least: Severity, now: datetime) -> Round:
    """Send what is due. A receiver that is down is tried with one alert a round and holds up no other channel."""
    sent = 0
    failing: dict[str, str] = {}
    for channel in channels:
        waiting = [p for p in records.pending(channel.name, now - GIVE_UP) if p.alert.kind.severity.rank >= least.rank]
        for pending in waiting:
            if pending.due is not None and now < pending.due:
                failing.setdefault(channel.name, "waiting before the next attempt")
                continue
            outcome = channel.send(pending.alert)
            records.note(pending.alert.key, Delivery(channel.name, now, outcome.delivered, outcome.detail))
            sent += outcome.delivered
            if not outcome.delivered:
                failing[channel.name] = outcome.detail
                _tell_others(records, channel, pending, outcome.detail, now)
            if outcome.down:
                break
    return Round(sent, failing)


def _tell_others(records: Records, channel: Channel, pending: Pending, detail: str, now: datetime) -> None:
    if now - pending.alert.at < TELL_OTHERS or pending.alert.kind is Kind.UNDELIVERED:
        return
    happened = f"{channel.name} has not taken the alert of {pending.alert.at.isoformat()} yet: {detail}"
    # Once a day is enough for a channel that stays broken.
    key = f"undelivered:{channel.name}:{now.date()}"
    records.record(Alert(Kind.UNDELIVERED, channel.name, happened, now, key))
