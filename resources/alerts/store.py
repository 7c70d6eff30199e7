"""Alerts and their deliveries in the database, and the audit log read for them.

Belongs here: every statement on ``ops.alerts``, ``ops.alert_deliveries`` and the cursor. Does not: what is worth an
alert (octopus/alerts).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg
from psycopg.rows import dict_row

from octopus.alerts.alert import Alert, Kind
from octopus.alerts.events import Entry, alert_of
from octopus.execution.reconcile import AMOUNTS
from resources.alerts.courier import Delivery, Pending
from resources.warehouse.connection import Role, connect

_LOCK_KEY = 0x0C709_0016
"""Advisory lock: one process delivers at a time."""
_PART = 1_000
_BREAKS, _NO_BREAKS = "reconciliation.breaks", "reconciliation.ok"


@dataclass(frozen=True)
class Told:
    """An alert and the channels that took it."""

    alert: Alert
    delivered: tuple[str, ...]


@dataclass(frozen=True)
class AlertStore:
    """The alerts' tables over one connection; `resources.alerts.courier.Records`."""

    connection: psycopg.Connection

    @classmethod
    @contextmanager
    def opened(cls, url: str) -> Iterator[AlertStore]:
        """A store for the length of a ``with`` block."""
        with connect(url, Role.TRADER, autocommit=True) as connection:
            yield cls(connection)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this process may deliver now: another one that does keeps the lock to its end, or its death."""
        row = self.connection.execute("select pg_try_advisory_lock(%s)", [_LOCK_KEY]).fetchone()
        mine = bool(row and row[0])
        try:
            yield mine
        finally:
            if mine:
                self.connection.execute("select pg_advisory_unlock(%s)", [_LOCK_KEY])

    def record(self, alert: Alert) -> bool:
        """As `Records.record`."""
        added = self.connection.execute(
            "insert into ops.alerts (dedup_key, kind, severity, subject, happened, at) values (%s, %s, %s, %s, %s, %s) "
            "on conflict (dedup_key) do nothing",
            [alert.key, alert.kind.value, alert.kind.severity.value, alert.subject, alert.happened, alert.at],
        )
        return bool(added.rowcount)

    def note(self, key: str, delivery: Delivery) -> None:
        """As `Records.note`; the same attempt twice is one."""
        self.connection.execute(
            "insert into ops.alert_deliveries (dedup_key, channel, at, delivered, detail) values (%s, %s, %s, %s, %s) "
            "on conflict do nothing",
            [key, delivery.channel, delivery.at, delivery.delivered, delivery.detail],
        )

    def pending(self, channel: str, since: datetime) -> list[Pending]:
        """As `Records.pending`."""
        query = """
            select a.dedup_key, a.kind, a.subject, a.happened, a.at, count(d.at) as failures, max(d.at) as last
            from ops.alerts a
            left join ops.alert_deliveries d on d.dedup_key = a.dedup_key and d.channel = %(channel)s
            where a.at >= %(since)s
            group by a.alert_id having not coalesce(bool_or(d.delivered), false)
            order by a.alert_id
        """
        with self.connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query, {"channel": channel, "since": since}).fetchall()
        return [
            Pending(
                Alert(Kind(r["kind"]), r["subject"], r["happened"], r["at"], r["dedup_key"]), r["failures"], r["last"]
            )
            for r in rows
        ]

    def latest(self, limit: int) -> list[Told]:
        """The latest alerts, newest first."""
        rows = self.connection.execute(
            """
            select a.dedup_key, a.kind, a.subject, a.happened, a.at,
                   coalesce(array_agg(distinct d.channel) filter (where d.delivered), '{}')
            from ops.alerts a left join ops.alert_deliveries d using (dedup_key)
            group by a.alert_id order by a.alert_id desc limit %s
            """,
            [limit],
        ).fetchall()
        return [
            Told(Alert(Kind(kind), subject, happened, at, key), tuple(channels))
            for key, kind, subject, happened, at, channels in rows
        ]

    def read_audit_log(self) -> int:
        """Record an alert for each entry since the last look that is worth one; returns how many were new.

        Entries are numbered in the order of their commits, so none can appear behind the cursor.
        """
        new = 0
        while True:
            with self.connection.transaction():
                entries = self._unread()
                alerts = [alert for entry in entries if (alert := alert_of(entry)) is not None]
                new += sum(self.record(alert) for alert in alerts)
                if entries:
                    self.connection.execute("update ops.alert_cursor set seq = %s", [entries[-1].seq])
            if len(entries) < _PART:
                return new

    def _unread(self) -> list[Entry]:
        self.connection.execute("insert into ops.alert_cursor (seq) values (0) on conflict do nothing")
        row = self.connection.execute("select seq from ops.alert_cursor for update").fetchone()
        rows = self.connection.execute(
            "select seq, at, kind, subject, payload from audit.log where seq > %s order by seq limit %s",
            [row[0] if row else 0, _PART],
        ).fetchall()
        entries = (Entry(seq, at, kind, subject, json.loads(payload)) for seq, at, kind, subject, payload in rows)
        return [self._beside_the_one_before(entry) if entry.kind == _BREAKS else entry for entry in entries]

    def _beside_the_one_before(self, entry: Entry) -> Entry:
        """A comparison of the books with what the account's last one before it found, and what its breaks are of."""
        before = self.connection.execute(
            "select payload from audit.log where subject = %s and kind = any(%s) and seq < %s "
            "order by seq desc limit 1",
            [entry.subject, [_BREAKS, _NO_BREAKS], entry.seq],
        ).fetchone()
        # A later comparison of the same session takes the place of this one: what it does not find again is not known
        # to be of an amount.
        stored = self.connection.execute(
            "select detail from execution.reconciliation where account = %s and session = %s and kind = any(%s)",
            [entry.subject, entry.payload.get("session"), sorted(kind.value for kind in AMOUNTS)],
        ).fetchall()
        breaks = entry.payload.get("breaks", ())
        amounts = {told for told in breaks if any(detail.startswith(f"{told}; ") for (detail,) in stored)}
        return replace(entry, known=json.loads(before[0]).get("breaks", ()) if before else (), amounts=amounts)
