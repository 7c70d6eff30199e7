"""The tamper-evident log: appending entries one after the other, and proving that none was changed, dropped or swapped.

Belongs here: storing and streaming the chain, and the signed checkpoints outside the database with their key. Does not:
hashing and the chain's rules (octopus/compliance/audit.py), what a checkpoint is (octopus/compliance/checkpoints.py),
nor what is worth an entry.

An entry is committed in a transaction of its own, never in the one of the change it reports. The order path leaves what
it did in ``execution.outbox``, in the commit of the change itself, and moves it here afterwards
(`OrderStore.drain_outbox`): so nothing that happened is missing from the log for longer than until the next drain, and
nothing is in it twice.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import psycopg
from psycopg.types.json import Json

from octopus.compliance import checkpoints
from octopus.compliance.audit import (
    GENESIS,
    AuditEntry,
    AuditHead,
    AuditProblem,
    AuditResult,
    ProblemKind,
    seal,
)
from octopus.compliance.audit import verify as verify_part
from octopus.core.errors import OctopusError
from octopus.core.ids import canonical_json
from resources.warehouse.connection import Role, connect

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PART = 10_000
_LINE_ENTRIES = 1_000
"""So many entries one checkpoint covers at most: its line stays short enough to be read from the file's end."""
_TAIL_BYTES = 64 * 1024
_LAST: dict[Path, checkpoints.Checkpoint] = {}
"""The last line that this process wrote to a file: where it still is the last one, it need not be read anew."""


class AnchorError(OctopusError):
    """The file of checkpoints, or the key that signs them, cannot be read; the message names it."""


@dataclass(frozen=True)
class Record:
    """What is to be logged: ``kind`` says what happened, ``subject`` to what."""

    kind: str
    subject: str
    payload: Mapping[str, object]


@dataclass(frozen=True)
class ChainEnd:
    """Where the chain ends, and the database's time: `AuditLog.lock` asks for it.

    Attributes:
        seq, hash: of the last entry; None before the first.
    """

    now: datetime
    seq: int | None
    hash: str | None

    @property
    def head(self) -> AuditHead:
        """The last entry, or where a chain begins."""
        return GENESIS if self.seq is None or self.hash is None else AuditHead(self.seq, self.hash)


@dataclass(frozen=True)
class Extension:
    """What was appended to the chain, and its new end."""

    head: AuditHead
    entries: Sequence[AuditEntry] = ()

    def as_json(self) -> Json:
        """The entries as the statements that insert them read them."""
        return Json([vars(entry) for entry in self.entries], dumps=canonical_json)


@dataclass(frozen=True)
class AuditLog:
    """The chain in ``audit.log``.

    Attributes:
        url: the warehouse.
        anchor: a file, best on another machine's disk, that keeps signed checkpoints of the chain, one a line: who
            rewrites the table cannot make it agree. None keeps nothing, and a log cut at its end looks sound. Beside it
            stand the key that signs (suffix .key, for its owner alone) and the public keys that are trusted (.pub).
    """

    url: str
    anchor: Path | None = None

    def append(self, records: Iterable[Record], role: Role = Role.TRADER) -> AuditHead:
        """Append entries in one transaction of their own; returns the chain's new end."""
        with connect(self.url, role) as connection:
            added = self.extend(connection, self.lock(connection), records)
        self.remember(added)
        return added.head

    def lock(self, connection: psycopg.Connection) -> ChainEnd:
        """Keep other writers off the chain to the end of ``connection``'s transaction."""
        return ChainEnd(*connection.execute("select now, seq, hash from audit.lock_chain()").fetchall()[0])

    def extend(self, connection: psycopg.Connection, end: ChainEnd, records: Iterable[Record]) -> Extension:
        """Append entries in ``connection``'s transaction, which holds the lock; `remember` the result once it is in.

        Args:
            end: as it was found under the lock.
        """
        added = sealed(end, records)
        connection.execute(
            "insert into audit.log (seq, at, kind, subject, payload, prev_hash, hash) "
            "select seq, at, kind, subject, payload, prev_hash, hash from json_to_recordset(%s) as entry "
            "(seq bigint, at timestamptz, kind text, subject text, payload text, prev_hash text, hash text)",
            [added.as_json()],
        )
        return added

    def remember(self, added: Extension) -> None:
        """Write a checkpoint of what was appended; entries that a crash left without one are covered with it.

        Raises:
            AnchorError: the file's end is no checkpoint, or the key is none.
        """
        if self.anchor is None or added.head.seq == 0:
            return
        if not self.anchor.exists():
            self.anchor.parent.mkdir(parents=True, exist_ok=True)
        with self.anchor.open("a+b") as file:
            # To the file's closing nobody else appends.
            fcntl.flock(file, fcntl.LOCK_EX)
            last, size = _last_checkpoint(file, self.anchor)
            first = last.seq + 1 if last else 1
            if added.head.seq < first:
                return
            entries = [(e.seq, e.hash, e.at) for e in added.entries]
            if not entries or entries[0][0] > first:
                entries = self._stored(first, added.head.seq)
            entries = [entry for entry in entries if entry[0] >= first]
            key, lines = _signing_key(self.anchor), []
            for start in range(0, len(entries), _LINE_ENTRIES):
                part = entries[start : start + _LINE_ENTRIES]
                last = checkpoints.sign(last, [digest for _, digest, _ in part], part[0][0], part[-1][2], key)
                lines.append(last.line + "\n")
            _append(file, size, "".join(lines))
            if last is not None:
                _LAST[self.anchor] = last

    def anchored(self) -> AuditHead | None:
        """The end that the last checkpoint names; None without an anchor, or before the first entry.

        Raises:
            AnchorError: the file's end is no checkpoint.
        """
        if self.anchor is None or not self.anchor.exists():
            return None
        with self.anchor.open("rb") as file:
            last, _ = _last_checkpoint(file, self.anchor)
        return None if last is None else AuditHead(last.seq, last.hash)

    def public_keys(self) -> tuple[str, ...]:
        """The public keys, hex, that this house trusts: its own, and those of houses it was restored from."""
        path = None if self.anchor is None else self.anchor.with_suffix(".pub")
        return tuple(path.read_text(encoding="ascii").split()) if path is not None and path.exists() else ()

    def check_anchor(self, trusted: Collection[str]) -> checkpoints.CheckpointResult:
        """What the checkpoints are worth; no file is as good as an empty one, unless a key says that there was one."""
        if self.anchor is None:
            return checkpoints.CheckpointResult(None, "")
        if not self.anchor.exists():
            lost = bool(self.public_keys())
            message = "the file is gone, although checkpoints were signed" if lost else ""
            return checkpoints.CheckpointResult(None, "", 1 if lost else None, message)
        text = self.anchor.read_bytes().decode(errors="surrogateescape")
        # What follows the last line's end was being written when its writer died; `remember` writes it again.
        return checkpoints.check(text.split("\n")[:-1], trusted)

    def _stored(self, first: int, last: int) -> list[tuple[int, str, datetime]]:
        with connect(self.url) as connection:
            query = "select seq, hash, at from audit.log where seq between %s and %s order by seq"
            return connection.execute(query, [first, last]).fetchall()


def sealed(end: ChainEnd, records: Iterable[Record]) -> Extension:
    """What ``records`` are at the chain's end; nothing is stored."""
    head, entries = end.head, []
    for record in records:
        entry = seal(head.hash, head.seq + 1, end.now, record.kind, record.subject, canonical_json(record.payload))
        entries.append(entry)
        head = AuditHead(entry.seq, entry.hash)
    return Extension(head, entries)


_NO_CHECKPOINT = (
    "its end is no signed checkpoint; restore the file from a backup, or move it away (a file of an earlier release, "
    "too) and the log is anchored anew"
)


def _signing_key(anchor: Path) -> Ed25519PrivateKey:
    """The key that signs; made on first use, readable by its owner alone."""
    path = anchor.with_suffix(".key")
    if not path.exists():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with anchor.with_suffix(".pub").open("a", encoding="ascii") as public:
            public.write(made.public_key().public_bytes_raw().hex() + "\n")
        draft = path.with_suffix(".newkey")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(pem)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
    return _parsed(path, path.read_bytes())


@lru_cache(maxsize=1)
def _parsed(path: Path, pem: bytes) -> Ed25519PrivateKey:
    """The key that ``path`` holds. Reading the file again is quick, understanding it is not."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise AnchorError(f"{path}: no private key in PEM ({error}); restore it from a backup") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise AnchorError(f"{path}: not an Ed25519 key; move it away and a new one is made")
    return key


def _last_checkpoint(file: BinaryIO, path: Path) -> tuple[checkpoints.Checkpoint | None, int]:
    """The last whole line, and how many bytes of the file are whole lines."""
    size = file.seek(0, os.SEEK_END)
    # Most lines are of one order, and a thirtieth of the longest.
    for length in (_TAIL_BYTES // 16, _TAIL_BYTES):
        file.seek(max(0, size - length))
        tail = file.read()
        whole = tail.rfind(b"\n") + 1
        if tail.count(b"\n") > 1:
            break
    if whole == 0 and size <= _TAIL_BYTES:
        # A first line that was not written to its end, or a file that is none of ours.
        if tail and not tail.startswith(b'{"at":'):
            raise AnchorError(f"{path}: {_NO_CHECKPOINT}")
        return None, 0
    text = tail[:whole].rsplit(b"\n", 2)[-2].decode(errors="surrogateescape") if whole else ""
    known = _LAST.get(path)
    if known is not None and known.line == text:
        return known, size - len(tail) + whole
    try:
        return checkpoints.parse(text, -1), size - len(tail) + whole
    except checkpoints.InvalidCheckpointError:
        raise AnchorError(f"{path}: {_NO_CHECKPOINT}") from None


def _append(file: BinaryIO, size: int, text: str) -> None:
    """Write ``text`` after the first ``size`` bytes, and see it on the disk."""
    if file.seek(0, os.SEEK_END) > size:
        file.truncate(size)
    file.write(text.encode())
    file.flush()
    os.fsync(file.fileno())


def verify(url: str, anchor: Path | None = None, trusted: Collection[str] = ()) -> AuditResult:
    """Check the whole chain, a part at a time, by its own hashes and by the checkpoints; stop at the first problem.

    Args:
        trusted: public keys, hex, whose checkpoints count; without any, those that stand beside the anchor.
    """
    log = AuditLog(url, anchor)
    kept = log.check_anchor(trusted or log.public_keys())
    covered = 0 if kept.head is None else kept.head.seq
    head, entries = GENESIS, 0
    for part, is_last in _parts(url):
        reached = kept.head is not None and covered > head.seq and (is_last or part[-1].seq >= covered)
        result = verify_part(part, after=head, expected_head=kept.head if reached else None, trail=kept.trail)
        head, entries = result.head, entries + result.entries
        if not result.ok:
            return AuditResult(ok=False, entries=entries, head=head, problem=result.problem, covered=covered)
    problem = None
    if kept.bad_line is not None:
        message = f"the log itself is whole, but of its checkpoints in {anchor} {kept.message}"
        problem = AuditProblem(ProblemKind.CHECKPOINT, covered + 1, message)
    return AuditResult(ok=problem is None, entries=entries, head=head, problem=problem, covered=min(covered, head.seq))


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
