"""The tamper-evident log: appending entries one after the other, and proving that none was changed, dropped or swapped.

Belongs here: storing and streaming the chain, and keeping its end outside the database. Does not: hashing and the
chain's rules (octopus/compliance/audit.py), nor what is worth an entry.

An entry is committed in a transaction of its own, never in the one of the change it reports. The order path leaves what
it did in ``execution.outbox``, in the commit of the change itself, and moves it here afterwards
(`OrderStore.drain_outbox`): so nothing that happened is missing from the log for longer than until the next drain, and
nothing is in it twice.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from octopus.compliance.audit import GENESIS, AuditEntry, AuditHead, AuditResult, seal
from octopus.compliance.audit import verify as verify_part
from octopus.core.errors import OctopusError
from octopus.core.ids import canonical_json
from resources.warehouse.connection import Role, connect

_LOCK_KEY = 0x0C709_0002
"""Advisory lock: one writer extends the chain at a time."""
_PART = 10_000


class AnchorError(OctopusError):
    """The file that keeps the chain's end cannot be read; the message names it."""


@dataclass(frozen=True)
class Record:
    """What is to be logged: ``kind`` says what happened, ``subject`` to what."""

    kind: str
    subject: str
    payload: Mapping[str, object]


@dataclass(frozen=True)
class AuditLog:
    """The chain in ``audit.log``.

    Attributes:
        url: the warehouse.
        anchor: a file, best on another machine's disk, that keeps the end of the chain: who rewrites the table cannot
            make it agree. None keeps no end, and a log cut at its end looks sound.
    """

    url: str
    anchor: Path | None = None

    def append(self, records: Iterable[Record], role: Role = Role.TRADER) -> AuditHead:
        """Append entries in one transaction of their own; returns the chain's new end."""
        with connect(self.url, role) as connection:
            self.lock(connection)
            head = self.extend(connection, records)
        self.remember(head)
        return head

    def lock(self, connection: psycopg.Connection) -> None:
        """Keep other writers off the chain to the end of ``connection``'s transaction."""
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK_KEY])

    def extend(self, connection: psycopg.Connection, records: Iterable[Record]) -> AuditHead:
        """Append entries in ``connection``'s transaction, which holds the lock; `remember` the result once it is in."""
        last = connection.execute("select seq, hash from audit.log order by seq desc limit 1").fetchone()
        head = AuditHead(*last) if last else GENESIS
        now: datetime = _scalar(connection, "select clock_timestamp()")
        rows = []
        for record in records:
            entry = seal(head.hash, head.seq + 1, now, record.kind, record.subject, canonical_json(record.payload))
            rows.append((entry.seq, entry.at, entry.kind, entry.subject, entry.payload, entry.prev_hash, entry.hash))
            head = AuditHead(entry.seq, entry.hash)
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into audit.log (seq, at, kind, subject, payload, prev_hash, hash) "
                "values (%s, %s, %s, %s, %s, %s, %s)",
                rows,
            )
        return head

    def remember(self, head: AuditHead) -> None:
        """Keep the chain's end in the anchor; it only moves on, whichever process writes last."""
        if self.anchor is None or head.seq == 0:
            return
        self.anchor.parent.mkdir(parents=True, exist_ok=True)
        with self.anchor.with_suffix(".lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            known = self.anchored()
            if known is not None and known.seq >= head.seq:
                return
            draft = self.anchor.with_suffix(".new")
            with draft.open("w", encoding="utf-8") as handle:
                handle.write(json.dumps({"seq": head.seq, "hash": head.hash}))
                handle.flush()
                os.fsync(handle.fileno())
            draft.replace(self.anchor)

    def anchored(self) -> AuditHead | None:
        """The end that the anchor keeps; None without an anchor, or before the first entry.

        Raises:
            AnchorError: the file is not what `remember` wrote.
        """
        if self.anchor is None or not self.anchor.exists():
            return None
        try:
            content = json.loads(self.anchor.read_text(encoding="utf-8"))
            return AuditHead(int(content["seq"]), str(content["hash"]))
        except (ValueError, KeyError, TypeError) as error:
            raise AnchorError(
                f"{self.anchor}: not the end of an audit log ({error}); "
                "restore it from a backup, or delete it to start over"
            ) from None


def verify(url: str, anchor: Path | None = None) -> AuditResult:
    """Check the whole chain, a part at a time, by its own hashes and by the anchor; stop at the first problem.

    Raises:
        AnchorError: the anchor cannot be read.
    """
    kept = AuditLog(url, anchor).anchored()
    head, entries = GENESIS, 0
    for part, is_last in _parts(url):
        reached = kept is not None and kept.seq > head.seq and (is_last or part[-1].seq >= kept.seq)
        result = verify_part(part, after=head, expected_head=kept if reached else None)
        head, entries = result.head, entries + result.entries
        if not result.ok:
            return AuditResult(ok=False, entries=entries, head=head, problem=result.problem)
    return AuditResult(ok=True, entries=entries, head=head, problem=None)


def _parts(url: str) -> Iterator[tuple[list[AuditEntry], bool]]:
    """The stored entries by number, in parts; the last part, which may be empty, is marked."""
    with connect(url) as connection, connection.cursor(name="audit_chain") as cursor:
        cursor.execute("select seq, at, kind, subject, payload, prev_hash, hash from audit.log order by seq")
        part = cursor.fetchmany(_PART)
        while True:
            following = cursor.fetchmany(_PART) if part else []
            yield [AuditEntry(*row) for row in part], not following
            if not following:
                return
            part = following


def _scalar(connection: psycopg.Connection, query: str) -> datetime:
    row = connection.execute(query).fetchone()
    if row is None:
        raise LookupError("the database did not tell the time")
    value: datetime = row[0]
    return value
