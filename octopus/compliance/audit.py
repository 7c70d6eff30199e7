"""The audit log's hash chain: a record whose alteration is found and located.

Belongs here: sealing entries and verifying a chain. Does not: storing it (table audit.log) and choosing what is
recorded.

Each entry's hash covers all its fields and the hash before it (Haber & Stornetta 1991, How to time-stamp a digital
document). A change, gap, insertion or swap inside the chain is found from the chain alone. Who can write the whole
table can also cut its end off or seal everything anew: that is found, and where it begins, only by comparing with what
signed checkpoints keep elsewhere (checkpoints.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from octopus.core.errors import OctopusError
from octopus.core.ids import canonical_json

GENESIS_HASH = "0" * 64
"""What the first entry has for its previous hash."""

MARK_DIGITS = 16
"""So many hex digits of each entry's hash are kept outside, to say which entry was altered."""

# Part of what is hashed, so that a later encoding can never give the hash of this one.
_ENCODING = "octopus-audit-1"


class InvalidEntryError(OctopusError):
    """A field of an audit entry cannot be recorded without ambiguity."""


@dataclass(frozen=True)
class AuditEntry:
    """One sealed record.

    Attributes:
        seq: 1, 2, 3, … without gaps. at: timezone-aware, microseconds.
        kind: what happened. subject: to what (a batch, an intent, an account).
        payload: canonical JSON (`octopus.core.ids.canonical_json`), exactly the text that was hashed.
        prev_hash, hash: SHA-256, 64 lower-case hex digits.
    """

    seq: int
    at: datetime
    kind: str
    subject: str
    payload: str
    prev_hash: str
    hash: str


@dataclass(frozen=True)
class AuditHead:
    """The end of a chain: its last entry's number and hash."""

    seq: int
    hash: str


GENESIS = AuditHead(0, GENESIS_HASH)
"""The end of the empty chain."""


class ProblemKind(StrEnum):
    CHANGED = "changed"
    """A field is not what was sealed."""
    GAP = "gap"
    """Entries are missing."""
    INSERTED = "inserted"
    """Two entries claim one number, or an entry stands before the chain begins."""
    SWAPPED = "swapped"
    """An entry stands before one that was recorded earlier."""
    RELINKED = "relinked"
    """An entry does not follow from the one before it, although both are sealed: one of them was replaced."""
    TRUNCATED = "truncated"
    """The chain ends before the expected head."""
    WRONG_HEAD = "wrong_head"
    """An entry is sealed with another hash than the one kept outside: the log was sealed anew from there on."""
    CHECKPOINT = "checkpoint"
    """What is kept outside of the log was altered itself."""


@dataclass(frozen=True)
class AuditProblem:
    """The first problem of a chain; ``seq`` is the number of the entry where it shows (of a gap, the first missing)."""

    kind: ProblemKind
    seq: int
    message: str


@dataclass(frozen=True)
class AuditResult:
    """What a chain is worth.

    Attributes:
        entries: how many were given. head: end of the sound beginning. problem: None if all is sound.
        covered: entries that signed checkpoints vouch for.
    """

    ok: bool
    entries: int
    head: AuditHead
    problem: AuditProblem | None
    covered: int = 0


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def seal(prev_hash: str, seq: int, at: datetime, kind: str, subject: str, payload: str) -> AuditEntry:
    """Make the entry that follows the one whose hash is ``prev_hash`` (`GENESIS_HASH` for the first).

    Raises:
        InvalidEntryError: ``at`` has no time zone, ``seq`` is below 1, or a text holds a NUL character or half a
            surrogate pair, which PostgreSQL would not give back.
    """
    if at.utcoffset() is None:
        raise InvalidEntryError(f"audit entry {seq}: at = {at.isoformat()} has no time zone: give UTC")
    if seq < 1:
        raise InvalidEntryError(f"audit entry: seq = {seq}: the first entry is 1")
    for name, text in (("kind", kind), ("subject", subject), ("payload", payload)):
        if _UNSTORABLE.search(text):
            raise InvalidEntryError(
                f"audit entry {seq}: {name} = {text!r} holds a character no database stores: drop it"
            )
    digest = _digest(prev_hash, seq, at, kind, subject, payload)
    return AuditEntry(seq, at.astimezone(UTC), kind, subject, payload, prev_hash, digest)


def verify(
    entries: Sequence[AuditEntry],
    *,
    after: AuditHead = GENESIS,
    expected_head: AuditHead | None = None,
    trail: str = "",
) -> AuditResult:
    """Check a chain entry by entry and stop at the first problem.

    Args:
        entries: in stored order. after: head of the part before, where only the end of a log is checked.
        expected_head: a head kept outside of the log, which the chain must contain; without it a chain that was cut
            at its end, or sealed anew from some entry on, looks sound.
        trail: what was kept outside of each entry's hash, `MARK_DIGITS` digits each, from entry 1 on: with it the
            problem of a log that was sealed anew is the first entry that was.
    """
    head = after
    present = {entry.seq for entry in entries}
    for entry in entries:
        problem = _problem(entry, head, present, _kept(entry.seq, expected_head, trail))
        if problem is not None:
            return AuditResult(ok=False, entries=len(entries), head=head, problem=problem)
        head = AuditHead(entry.seq, entry.hash)
    problem = None
    if expected_head is not None and head.seq < expected_head.seq:
        message = f"the log ends with entry {head.seq}, but entry {expected_head.seq} was recorded"
        problem = AuditProblem(ProblemKind.TRUNCATED, head.seq + 1, message)
    return AuditResult(ok=problem is None, entries=len(entries), head=head, problem=problem)


def _kept(seq: int, expected: AuditHead | None, trail: str) -> str:
    """The beginning of entry ``seq``'s hash as it was kept outside; empty where nothing was."""
    if expected is not None and seq == expected.seq:
        return expected.hash
    return trail[MARK_DIGITS * (seq - 1) : MARK_DIGITS * seq] if seq > 0 else ""


def _problem(entry: AuditEntry, head: AuditHead, present: set[int], kept: str) -> AuditProblem | None:
    if not _is_sealed(entry):
        return AuditProblem(ProblemKind.CHANGED, entry.seq, f"entry {entry.seq} is not what was sealed")
    due = head.seq + 1
    if entry.seq < due:
        message = f"an entry numbered {entry.seq} stands where entry {due} is due"
        return AuditProblem(ProblemKind.INSERTED, entry.seq, message)
    if entry.seq > due:
        if due in present:
            return AuditProblem(ProblemKind.SWAPPED, due, f"entry {entry.seq} stands before entry {due}")
        return AuditProblem(ProblemKind.GAP, due, f"entry {due} is missing: entry {entry.seq} follows {head.seq}")
    if not entry.hash.startswith(kept):
        message = f"entry {entry.seq} is sealed, but not with the hash that was kept for it: the log was sealed anew"
        return AuditProblem(ProblemKind.WRONG_HEAD, entry.seq, message)
    if entry.prev_hash != head.hash:
        message = f"entry {entry.seq} does not follow from entry {head.seq}: one of them was replaced"
        return AuditProblem(ProblemKind.RELINKED, entry.seq, message)
    return None


def _is_sealed(entry: AuditEntry) -> bool:
    if entry.at.utcoffset() is None:
        return False
    return entry.hash == _digest(entry.prev_hash, entry.seq, entry.at, entry.kind, entry.subject, entry.payload)


def _digest(prev_hash: str, seq: int, at: datetime, kind: str, subject: str, payload: str) -> str:
    instant = at.astimezone(UTC).isoformat(timespec="microseconds")
    # A JSON array quotes every field, so that no two different entries have the same text.
    text = canonical_json([_ENCODING, prev_hash, seq, instant, kind, subject, payload])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
