"""The audit log's hash chain: whatever is done to it is found, and where."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.compliance.audit import (
    GENESIS_HASH,
    AuditEntry,
    AuditHead,
    InvalidEntryError,
    ProblemKind,
    seal,
    verify,
)

START = datetime(2022, 12, 28, 14, 30, 0, 123456, tzinfo=UTC)


def chain(length: int, *, kind: str = "order") -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    previous = GENESIS_HASH
    for seq in range(1, length + 1):
        at = START + timedelta(seconds=seq)
        entries.append(seal(previous, seq, at, kind, f"intent-{seq}", f'{{"quantity":"{seq}"}}'))
        previous = entries[-1].hash
    return entries


def head(entries: list[AuditEntry]) -> AuditHead:
    return AuditHead(entries[-1].seq, entries[-1].hash)


def flip(entry: AuditEntry, field: str, bit: int) -> AuditEntry:
    """The entry with one bit of one field changed."""
    value = getattr(entry, field)
    if isinstance(value, int):
        return replace(entry, **{field: value ^ (1 << bit % 40)})
    if isinstance(value, datetime):
        return replace(entry, at=value + timedelta(microseconds=1 << bit % 40))
    place = bit // 7 % len(value)
    changed = chr(ord(value[place]) ^ (1 << bit % 7))
    return replace(entry, **{field: value[:place] + changed + value[place + 1 :]})


lengths = st.integers(2, 8)


def test_the_encoding_is_what_it_was() -> None:
    first = chain(1)[0]
    text = (
        '["octopus-audit-1","' + "0" * 64 + '",1,"2022-12-28T14:30:01.123456+00:00","order","intent-1",'
        '"{\\"quantity\\":\\"1\\"}"]'
    )
    assert first.hash == hashlib.sha256(text.encode()).hexdigest()


@given(length=st.integers(0, 8))
def test_an_untouched_chain_is_sound(length: int) -> None:
    entries = chain(length)
    result = verify(entries, expected_head=head(entries) if entries else AuditHead(0, GENESIS_HASH))
    assert (result.ok, result.entries, result.problem) == (True, length, None)
    assert result.head.seq == length


@settings(max_examples=400)
@given(
    length=lengths,
    place=st.integers(0, 7),
    field=st.sampled_from([f.name for f in fields(AuditEntry)]),
    bit=st.integers(0, 500),
)
def test_one_changed_bit_is_found_where_it_is(length: int, place: int, field: str, bit: int) -> None:
    entries = chain(length)
    place %= length
    entries[place] = flip(entries[place], field, bit)
    result = verify(entries)
    assert not result.ok
    assert result.problem is not None
    assert result.problem.kind is ProblemKind.CHANGED
    assert result.problem.seq == entries[place].seq
    assert result.head.seq == place


@given(length=lengths, place=st.integers(0, 7), count=st.integers(1, 3))
def test_a_deletion_is_found_where_it_is(length: int, place: int, count: int) -> None:
    entries, place = chain(length), place % length
    rest = entries[:place] + entries[place + count :]
    result = verify(rest, expected_head=head(entries))
    assert result.problem is not None
    assert result.problem.kind is (ProblemKind.TRUNCATED if place + count >= length else ProblemKind.GAP)
    assert result.problem.seq == place + 1


def test_a_lost_end_is_found_by_the_head_that_was_kept_and_only_by_it() -> None:
    entries = chain(5)
    assert verify(entries[:4]).ok
    result = verify(entries[:4], expected_head=head(entries))
    assert result.problem is not None
    assert result.problem.message == "the log ends with entry 4, but entry 5 was recorded"
    assert verify([], expected_head=head(entries)).problem is not None


@given(length=lengths, one=st.integers(0, 7), other=st.integers(0, 7))
def test_a_swap_is_found_where_it_begins(length: int, one: int, other: int) -> None:
    one, other = sorted((one % length, other % length))
    entries = chain(length)
    entries[one], entries[other] = entries[other], entries[one]
    result = verify(entries)
    if one == other:
        assert result.ok
    else:
        assert result.problem is not None
        assert (result.problem.kind, result.problem.seq) == (ProblemKind.SWAPPED, one + 1)


@given(data=st.data(), length=lengths)
def test_any_reordering_is_found_at_the_first_entry_out_of_place(data: st.DataObject, length: int) -> None:
    entries = chain(length)
    shuffled = data.draw(st.permutations(entries))
    first = next((place for place in range(length) if shuffled[place] != entries[place]), None)
    result = verify(shuffled)
    assert result.ok == (first is None)
    if first is not None:
        assert result.problem is not None
        assert (result.problem.kind, result.problem.seq) == (ProblemKind.SWAPPED, first + 1)


@given(length=lengths, source=st.integers(0, 7), place=st.integers(0, 8))
def test_a_copied_entry_is_found(length: int, source: int, place: int) -> None:
    entries = chain(length)
    copy, place = entries[source % length], place % (length + 1)
    result = verify([*entries[:place], copy, *entries[place:]])
    assert result.problem is not None
    assert result.problem.kind in (ProblemKind.INSERTED, ProblemKind.SWAPPED)


@given(length=lengths, place=st.integers(0, 7))
def test_a_forged_entry_pushed_in_is_found(length: int, place: int) -> None:
    entries, place = chain(length), place % length
    previous = entries[place - 1].hash if place else GENESIS_HASH
    forged = seal(previous, place + 1, START, "order", "forged", "{}")
    result = verify([*entries[:place], forged, *entries[place:]])
    assert result.problem is not None
    assert (result.problem.kind, result.problem.seq) == (ProblemKind.INSERTED, place + 1)


@given(length=lengths, place=st.integers(0, 7))
def test_a_replaced_entry_that_was_sealed_again_breaks_the_link_or_the_head(length: int, place: int) -> None:
    entries, place = chain(length), place % length
    kept = head(entries)
    old = entries[place]
    entries[place] = seal(old.prev_hash, old.seq, old.at, old.kind, old.subject, '{"quantity":"999"}')
    result = verify(entries, expected_head=kept)
    assert result.problem is not None
    last = place == length - 1
    expected = (ProblemKind.WRONG_HEAD, place + 1) if last else (ProblemKind.RELINKED, place + 2)
    assert (result.problem.kind, result.problem.seq) == expected


def test_a_log_sealed_anew_is_found_by_the_head_that_was_kept() -> None:
    kept = head(chain(5))
    anew = chain(6, kind="other")
    assert verify(anew).ok
    result = verify(anew, expected_head=kept)
    assert result.problem is not None
    assert (result.problem.kind, result.problem.seq) == (ProblemKind.WRONG_HEAD, 5)


def test_the_end_of_a_log_is_verified_after_a_known_head() -> None:
    entries = chain(6)
    assert verify(entries[3:], after=head(entries[:3]), expected_head=head(entries)).ok
    result = verify(entries[3:])
    assert result.problem is not None
    assert (result.problem.kind, result.problem.seq) == (ProblemKind.GAP, 1)


@given(
    kind=st.text(max_size=8),
    subject=st.text(max_size=8),
    payload=st.text(max_size=12),
    cut=st.integers(1, 4),
)
def test_moving_a_character_between_fields_changes_the_hash(kind: str, subject: str, payload: str, cut: int) -> None:
    moved_kind, moved_subject = (kind + subject)[: len(kind) + cut], (kind + subject)[len(kind) + cut :]
    if (moved_kind, moved_subject) == (kind, subject) or any("\0" in t for t in (kind, subject, payload)):
        return
    one = seal(GENESIS_HASH, 1, START, kind, subject, payload)
    other = seal(GENESIS_HASH, 1, START, moved_kind, moved_subject, payload)
    assert one.hash != other.hash


def test_the_same_instant_in_another_zone_is_the_same_record() -> None:
    entry = chain(1)[0]
    elsewhere = replace(entry, at=entry.at.astimezone(timezone(timedelta(hours=-5))))
    assert verify([elsewhere]).ok
    assert not verify([replace(entry, at=entry.at.replace(tzinfo=None))]).ok


def test_what_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(InvalidEntryError, match="has no time zone"):
        seal(GENESIS_HASH, 1, START.replace(tzinfo=None), "order", "x", "{}")
    with pytest.raises(InvalidEntryError, match="the first entry is 1"):
        seal(GENESIS_HASH, 0, START, "order", "x", "{}")
    for text in ("a\0b", "\ud800"):
        with pytest.raises(InvalidEntryError, match="payload"):
            seal(GENESIS_HASH, 1, START, "order", "x", text)
