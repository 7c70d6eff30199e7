"""Signed checkpoints of the audit log: what is kept outside of the database, so that a rewritten log is found.

Belongs here: making, signing and checking the lines of the checkpoint file. Does not: the chain they are about
(audit.py), the file and the key's file (resources/warehouse/audit_log.py).

A checkpoint names the log's end and keeps the beginning of every entry's hash since the checkpoint before: a log that
was cut, or sealed anew, disagrees, and the first entry that disagrees is the one that was altered. Each line holds the
digest of the whole line before it and is signed with Ed25519 (RFC 8032), so that one signature, the last, vouches for
all lines. Cutting lines off the file's end is seen only as entries that no checkpoint covers: who wants more keeps a
copy of the file where nobody of this machine can write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from octopus.compliance.audit import GENESIS_HASH, MARK_DIGITS, AuditHead
from octopus.core.errors import OctopusError
from octopus.core.ids import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# Part of what is signed, so that a signature of this form is never taken for one of another.
_ENCODING = "octopus-checkpoint-1"


class InvalidCheckpointError(OctopusError):
    """A line is no signed checkpoint; the message says what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """One line of the checkpoint file.

    Attributes:
        number: 1, 2, 3, … the line.
        first, seq: the entries it covers, from ``first`` to the log's end ``seq``, both inclusive.
        hash: of entry ``seq``. at: of entry ``seq``, ISO 8601 in UTC.
        trail: of each covered entry the first `MARK_DIGITS` digits of its hash, one after the other.
        previous: SHA-256 of the text of the line before; `GENESIS_HASH` for the first.
        key, signature: Ed25519, hex.
    """

    number: int
    first: int
    seq: int
    hash: str
    at: str
    trail: str
    previous: str
    key: str
    signature: str

    @cached_property
    def line(self) -> str:
        """The one text that this checkpoint is written as, without the line's end."""
        return canonical_json(self.content)

    @property
    def content(self) -> dict[str, object]:
        """Its fields by name."""
        own = vars(self)
        return {name: own[name] for name in _FIELDS}


_FIELDS = tuple(item.name for item in fields(Checkpoint))


@dataclass(frozen=True)
class CheckpointResult:
    """What the lines of a file are worth.

    Attributes:
        head: the last entry that sound lines vouch for; None without any.
        trail: of every entry from 1 to ``head``.
        bad_line: number of the first line that is not what was signed; None if all are. message: what is wrong with it.
    """

    head: AuditHead | None
    trail: str
    bad_line: int | None = None
    message: str = ""


def sign(
    previous: Checkpoint | None, hashes: Sequence[str], first: int, at: datetime, key: Ed25519PrivateKey
) -> Checkpoint:
    """Make the checkpoint that follows ``previous`` and covers the entries ``first``, ``first + 1``, ….

    Args:
        hashes: of those entries, at least one. at: of the last of them, in UTC.
    """
    unsigned = Checkpoint(
        number=previous.number + 1 if previous else 1,
        first=first,
        seq=first + len(hashes) - 1,
        hash=hashes[-1],
        at=at.isoformat(),
        trail="".join(digest[:MARK_DIGITS] for digest in hashes),
        previous=_digest(previous.line) if previous else GENESIS_HASH,
        key=_public_hex(key),
        signature="",
    )
    return replace(unsigned, signature=key.sign(_signed_text(unsigned)).hex())


@lru_cache(maxsize=1)
def _public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def parse(text: str, number: int) -> Checkpoint:
    """The checkpoint that line ``number`` holds; its signature is not looked at.

    Raises:
        InvalidCheckpointError: the line is not the text that a checkpoint is written as.
    """
    try:
        content = json.loads(text)
        found = Checkpoint(**content)
        marks, rest = divmod(len(found.trail), MARK_DIGITS)
        is_exact = found.line == text and (marks, rest) == (found.seq - found.first + 1, 0)
        is_exact = is_exact and str(found.trail).endswith(str(found.hash)[:MARK_DIGITS])
    except (ValueError, TypeError) as error:
        raise InvalidCheckpointError(f"line {number} is no signed checkpoint ({error})") from None
    if not is_exact:
        raise InvalidCheckpointError(f"line {number} is no signed checkpoint (its text is not what is written)")
    return found


def check(lines: Sequence[str], trusted: Collection[str]) -> CheckpointResult:
    """Check all lines of a checkpoint file; stops at the first that is not what was signed.

    Args:
        trusted: public keys, hex, whose signatures count.
    """
    sound: list[Checkpoint] = []
    message = ""
    for number, text in enumerate(lines, 1):
        try:
            found = parse(text, number)
        except InvalidCheckpointError as error:
            message = str(error)
            break
        following = lines[number] if number < len(lines) else ""
        message = _misfit(found, sound[-1] if sound else None, number, following, trusted)
        if message:
            break
        sound.append(found)
    if message:
        # Who altered a line and mended all after it is found out by the last; the first that is not signed is meant.
        altered = next((number for number, item in enumerate(sound) if not is_signed(item)), None)
        if altered is not None:
            sound, message = sound[:altered], f"line {altered + 1} is not what was signed"
    head = AuditHead(sound[-1].seq, sound[-1].hash) if sound else None
    bad_line = len(sound) + 1 if message else None
    return CheckpointResult(head, "".join(item.trail for item in sound), bad_line, message)


def _misfit(found: Checkpoint, before: Checkpoint | None, number: int, following: str, trusted: Collection[str]) -> str:
    """What is wrong with a line beside its neighbours; empty if nothing is."""
    first = before.seq + 1 if before else 1
    previous = _digest(before.line) if before else GENESIS_HASH
    if (found.number, found.first) != (number, first) or found.previous != previous:
        return f"line {number} does not follow from the line before: a line was removed, added or moved"
    # The line after vouches for this one, so that its own signature need not be looked at: a file of a hundred
    # thousand lines is checked in a second.
    if found.key not in trusted:
        return f"line {number} is signed with key {found.key[:16]}…, which is not trusted here: name it with --key"
    if f'"previous":"{_digest(found.line)}"' in following:
        return ""
    return "" if is_signed(found) else f"line {number} is not what was signed"


def is_signed(checkpoint: Checkpoint) -> bool:
    """Whether the signature is that of the key the checkpoint names, over all its other fields."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(checkpoint.key))
        signature = bytes.fromhex(checkpoint.signature)
        public.verify(signature, _signed_text(checkpoint))
    except (InvalidSignature, ValueError):
        return False
    # Hex has capitals and spaces, too: one text for one signature.
    return signature.hex() == checkpoint.signature


def _signed_text(checkpoint: Checkpoint) -> bytes:
    unsigned = {name: value for name, value in checkpoint.content.items() if name != "signature"}
    return canonical_json([_ENCODING, unsigned]).encode(errors="surrogatepass")


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode(errors="surrogatepass")).hexdigest()
