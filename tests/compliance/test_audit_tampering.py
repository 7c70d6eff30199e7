"""A real chain in PostgreSQL, altered at a random place in every way: found, and the altered entry named."""

from __future__ import annotations

import random
import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from octopus.compliance.audit import GENESIS_HASH, AuditEntry, ProblemKind, seal
from octopus.core.orders import TradingState
from resources.warehouse.audit_log import AuditLog, Record, verify
from resources.warehouse.connection import connect
from resources.warehouse.order_store import OrderStore

LENGTH = 40
ROUNDS = 40
COLUMNS = "seq, at, kind, subject, payload, prev_hash, hash"


@dataclass(frozen=True)
class Log:
    """A real log, its checkpoints, and how to put other entries in its place."""

    url: str
    anchor: Path
    entries: tuple[AuditEntry, ...]

    def store(self, entries: list[AuditEntry] | tuple[AuditEntry, ...]) -> None:
        """Replace the table's rows as its owner could, past the trigger."""
        with connect(self.url) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("delete from audit.log")
            with connection.cursor() as cursor, cursor.copy(f"copy audit.log ({COLUMNS}) from stdin") as copy:
                for e in entries:
                    copy.write_row((e.seq, e.at, e.kind, e.subject, e.payload, e.prev_hash, e.hash))

    def found(self) -> tuple[ProblemKind, int] | None:
        problem = verify(self.url, self.anchor).problem
        return None if problem is None else (problem.kind, problem.seq)


@pytest.fixture
def log(database_url: str, tmp_path: Path) -> Log:
    chain = AuditLog(database_url, tmp_path / "audit.anchor")
    with OrderStore.opened(database_url) as store:
        for number in range(5):
            state = TradingState.HALTED if number % 2 else TradingState.ACTIVE
            store.set_trading_state("acct", state, "tester", f"turn {number}", datetime(2026, 1, 2, tzinfo=UTC))
            store.drain_outbox(chain)
    number = 0
    while len(entries := _stored(database_url)) < LENGTH:
        size = min(1 + number % 4, LENGTH - len(entries))
        chain.append([Record("order.filled", f"order-{number}", {"n": k, "price": "101.50"}) for k in range(size)])
        number += 1
    return Log(database_url, tmp_path / "audit.anchor", tuple(entries))


def _stored(url: str) -> list[AuditEntry]:
    with connect(url) as connection:
        return [AuditEntry(*row) for row in connection.execute(f"select {COLUMNS} from audit.log order by seq")]


def flipped(entry: AuditEntry, chance: random.Random) -> AuditEntry:
    """One bit of one field, the number of the entry apart, is another."""
    field = chance.choice(["at", "kind", "subject", "payload", "prev_hash", "hash"])
    if field == "at":
        return replace(entry, at=entry.at + timedelta(microseconds=1 << chance.randrange(40)))
    text = getattr(entry, field)
    while True:
        place, bit = chance.randrange(len(text)), chance.randrange(7)
        changed = chr(ord(text[place]) ^ (1 << bit))
        if changed != "\0":
            return replace(entry, **{field: text[:place] + changed + text[place + 1 :]})


def resealed(entries: list[AuditEntry], first: int) -> list[AuditEntry]:
    """The entries with numbers and hashes made anew from place ``first`` on, as one who writes the whole table can."""
    made = entries[:first]
    for entry in entries[first:]:
        previous = made[-1].hash if made else GENESIS_HASH
        made.append(seal(previous, len(made) + 1, entry.at, entry.kind, entry.subject, entry.payload))
    return made


def test_every_single_bit_flip_is_found_at_its_entry(log: Log) -> None:
    chance = random.Random(1)
    for _ in range(ROUNDS):
        place, entries = chance.randrange(LENGTH), list(log.entries)
        entries[place] = flipped(entries[place], chance)
        log.store(entries)
        assert log.found() == (ProblemKind.CHANGED, place + 1)
    log.store(log.entries)
    assert log.found() is None


def test_a_flipped_number_is_found_where_the_entry_is_missing_or_stands_twice(log: Log) -> None:
    chance = random.Random(2)
    for _ in range(ROUNDS):
        place, bit = chance.randrange(LENGTH), chance.randrange(6, 30)
        entries = list(log.entries)
        entries[place] = replace(entries[place], seq=entries[place].seq ^ (1 << bit))
        log.store(entries)
        # The last entry under a higher number is still the last row: there it is found changed.
        missing = ProblemKind.CHANGED if place == LENGTH - 1 else ProblemKind.GAP
        number = entries[place].seq if place == LENGTH - 1 else place + 1
        assert log.found() == (missing, number)


def test_a_deletion_an_insertion_and_a_reordering_are_found_at_their_place(log: Log) -> None:
    chance = random.Random(3)
    for _ in range(ROUNDS // 2):
        place = chance.randrange(LENGTH)
        entries = list(log.entries)
        del entries[place]
        log.store(entries)
        expected = (ProblemKind.TRUNCATED if place == LENGTH - 1 else ProblemKind.GAP, place + 1)
        assert log.found() == expected
        # … and with the numbers after it closed up, without and with new seals.
        log.store([replace(e, seq=number) for number, e in enumerate(entries, 1)])
        assert log.found() == (expected if place == LENGTH - 1 else (ProblemKind.CHANGED, place + 1))
        log.store(resealed(entries, place))
        assert log.found() == ((ProblemKind.TRUNCATED if place == LENGTH - 1 else ProblemKind.WRONG_HEAD), place + 1)
        entries = list(log.entries)
        entries.insert(place, replace(entries[place], subject="pushed in"))
        log.store(resealed(entries, place))
        assert log.found() == (ProblemKind.WRONG_HEAD, place + 1)
        one, other = sorted(chance.sample(range(LENGTH), 2))
        entries = list(log.entries)
        entries[one], entries[other] = replace(entries[other], seq=one + 1), replace(entries[one], seq=other + 1)
        log.store(entries)
        assert log.found() == (ProblemKind.CHANGED, one + 1)
        log.store(resealed(entries, one))
        assert log.found() == (ProblemKind.WRONG_HEAD, one + 1)


def test_a_cut_tail_and_a_rewritten_chain_are_found_through_the_checkpoints(log: Log) -> None:
    chance = random.Random(4)
    for _ in range(ROUNDS):
        kept = chance.randrange(LENGTH)
        log.store(log.entries[:kept])
        assert log.found() == (ProblemKind.TRUNCATED, kept + 1)
        entries = list(log.entries)
        entries[kept] = replace(entries[kept], payload='{"price":"1.00"}')
        log.store(resealed(entries, kept))
        assert verify(log.url).ok, "without the checkpoints a rewritten chain looks sound"
        assert log.found() == (ProblemKind.WRONG_HEAD, kept + 1)
        # Sealed anew alone, its successor does not follow; the checkpoint says which of the two it was.
        alone = list(log.entries)
        alone[kept] = resealed(entries, kept)[kept]
        log.store(alone)
        assert log.found() == (ProblemKind.WRONG_HEAD, kept + 1)
    # One whole other chain, longer than ours.
    log.store(resealed([replace(e, subject="other") for e in (*log.entries, *log.entries)], 0))
    assert log.found() == (ProblemKind.WRONG_HEAD, 1)


# The checkpoints themselves ------------------------------------------------------------------------------------------


def test_every_bit_of_the_checkpoints_counts(log: Log) -> None:
    chance, whole = random.Random(5), log.anchor.read_bytes()
    lines = whole.split(b"\n")[:-1]
    for _ in range(ROUNDS):
        number = chance.randrange(len(lines))
        place = sum(len(line) + 1 for line in lines[:number]) + chance.randrange(len(lines[number]))
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(7)
        if changed[place] == ord("\n"):
            continue
        log.anchor.write_bytes(bytes(changed))
        problem = verify(log.url, log.anchor).problem
        assert problem is not None
        # A line that names the one before wrongly is found itself; any other is found as what it is.
        assert problem.kind is ProblemKind.CHECKPOINT
        assert f" line {number + 1} " in problem.message, problem.message


def test_a_signature_has_one_spelling(log: Log) -> None:
    whole = log.anchor.read_text()
    signature = whole.rstrip().rsplit('"signature":"', 1)[1].removesuffix('"}')
    log.anchor.write_text(whole.replace(signature, signature.upper()))
    problem = verify(log.url, log.anchor).problem
    assert problem is not None
    assert problem.kind is ProblemKind.CHECKPOINT


def test_checkpoints_cannot_be_removed_moved_or_forged(log: Log) -> None:
    lines = log.anchor.read_text().splitlines(keepends=True)
    entries = list(log.entries)
    rewritten = resealed([replace(e, subject="other") for e in entries], 0)

    def problem(content: str) -> str:
        log.anchor.write_text(content)
        found = verify(log.url, log.anchor).problem
        assert found is not None
        assert found.kind is ProblemKind.CHECKPOINT
        return found.message

    assert "line 4 does not follow" in problem("".join(lines[:3] + lines[4:]))
    assert "line 2 does not follow" in problem("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    log.anchor.unlink()
    assert verify(log.url, log.anchor).problem is not None, "the file is gone"
    # Who has the table and the file but not the key signs with one of his own.
    log.store(rewritten)
    forger = AuditLog(log.url, log.anchor.with_name("forged.anchor"))
    forger.append([Record("order.filled", "one more", {})])
    message = problem(log.anchor.with_name("forged.anchor").read_text())
    assert "not trusted here: name it with --key" in message
    foreign = forger.public_keys()
    assert verify(log.url, log.anchor, foreign).ok


def test_the_key_is_its_owners_alone_and_a_crash_before_a_checkpoint_is_made_up_for(log: Log) -> None:
    assert stat.S_IMODE(log.anchor.with_suffix(".key").stat().st_mode) == 0o600
    without = AuditLog(log.url)
    without.append([Record("test", "committed, then killed", {}) for _ in range(2500)])
    result = verify(log.url, log.anchor)
    assert (result.ok, result.entries, result.covered) == (True, LENGTH + 2500, LENGTH)
    with log.anchor.open("a") as torn:
        torn.write('{"at":"2026')
    AuditLog(log.url, log.anchor).append([Record("test", "next", {})])
    result = verify(log.url, log.anchor)
    assert (result.ok, result.covered) == (True, LENGTH + 2501)


def test_a_house_without_its_key_makes_another_and_both_are_trusted(log: Log) -> None:
    first = log.anchor.with_suffix(".pub").read_text().split()
    log.anchor.with_suffix(".key").unlink()
    AuditLog(log.url, log.anchor).append([Record("test", "after the restore", {})])
    assert verify(log.url, log.anchor).ok
    result = verify(log.url, log.anchor, first)
    assert result.problem is not None
    assert result.covered == LENGTH
    assert "not trusted" in result.problem.message
