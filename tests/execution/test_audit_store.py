"""The stored audit log: a whole chain under many writers, and every tampering found."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from execution_support import rows

from octopus.compliance.audit import AuditHead, ProblemKind
from octopus.core.orders import TradingState
from resources.warehouse import audit_log
from resources.warehouse.audit_log import AnchorError, AuditLog, Extension, Record, verify
from resources.warehouse.connection import connect
from resources.warehouse.order_store import OrderStore


def fill_log(url: str, count: int, anchor: Path | None = None) -> AuditLog:
    log = AuditLog(url, anchor)
    for number in range(count):
        log.append([Record("test", f"subject-{number}", {"n": number})])
    return log


def tamper(url: str, statement: str) -> None:
    with connect(url) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(statement)


def test_an_empty_log_is_sound(database_url: str, tmp_path: Path) -> None:
    result = verify(database_url, tmp_path / "anchor")
    assert (result.ok, result.entries) == (True, 0)


def test_many_writers_make_one_chain(database_url: str, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fill_log, args=(database_url, 10, tmp_path / "anchor")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = verify(database_url, tmp_path / "anchor")
    assert (result.ok, result.entries) == (True, 40)
    assert AuditLog(database_url, tmp_path / "anchor").anchored() == result.head


@pytest.mark.parametrize("part", [2, 3, 10_000])
@pytest.mark.parametrize(
    ("statement", "kind", "seq"),
    [
        ("update audit.log set payload = '{\"n\":99}' where seq = 5", ProblemKind.CHANGED, 5),
        ("delete from audit.log where seq = 5", ProblemKind.GAP, 5),
        ("update audit.log set at = at + interval '1 microsecond' where seq = 1", ProblemKind.CHANGED, 1),
        ("delete from audit.log where seq > 6", ProblemKind.TRUNCATED, 7),
        ("delete from audit.log", ProblemKind.TRUNCATED, 1),
    ],
)
def test_tampering_is_found_and_located(database_url, tmp_path, monkeypatch, part, statement, kind, seq) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(audit_log, "_PART", part)
    fill_log(database_url, 9, tmp_path / "anchor")
    assert verify(database_url, tmp_path / "anchor").ok
    tamper(database_url, statement)
    result = verify(database_url, tmp_path / "anchor")
    assert not result.ok
    assert result.problem is not None
    assert (result.problem.kind, result.problem.seq) == (kind, seq)


def test_a_log_written_anew_is_found_by_the_anchor_alone(database_url: str, tmp_path: Path) -> None:
    fill_log(database_url, 5, tmp_path / "anchor")
    tamper(database_url, "delete from audit.log where seq >= 3")
    fill_log(database_url, 4)
    assert verify(database_url).ok
    result = verify(database_url, tmp_path / "anchor")
    assert result.problem is not None
    assert (result.problem.kind, result.problem.seq) == (ProblemKind.WRONG_HEAD, 3)


def test_the_anchor_only_moves_on_and_a_broken_one_is_named(database_url: str, tmp_path: Path) -> None:
    log = fill_log(database_url, 3, tmp_path / "anchor")
    newest = log.anchored()
    older = rows(database_url, "select hash from audit.log where seq = 1")[0][0]
    log.remember(Extension(AuditHead(1, older)))
    assert log.anchored() == newest
    (tmp_path / "anchor").write_text("not json\n")
    with pytest.raises(AnchorError, match="no signed checkpoint"):
        log.append([Record("test", "more", {})])
    result = verify(database_url, tmp_path / "anchor")
    assert result.problem is not None
    assert result.problem.kind is ProblemKind.CHECKPOINT
    assert "line 1 is no signed checkpoint" in result.problem.message


def test_what_happened_is_told_once_and_separately_from_the_change(database_url: str) -> None:
    """The change is committed though the log cannot be written; it is told later, once."""
    with OrderStore.opened(database_url) as store, connect(database_url) as writer:
        log = AuditLog(database_url)
        log.lock(writer)
        now = rows(database_url, "select now()")[0][0]
        store.set_trading_state("acct", TradingState.HALTED, "tester", "stop", now)
        assert store.trading_status("acct").state is TradingState.HALTED
        assert rows(database_url, "select count(*) from audit.log") == [(0,)]
        writer.rollback()
        assert store.drain_outbox(log) == 1
        assert store.drain_outbox(log) == 0
    assert rows(database_url, "select kind, subject from audit.log") == [("trading.halted", "acct")]


@pytest.mark.parametrize("other", ["tells what waited", "tells of something else"])
def test_what_waits_is_told_once_though_another_tells_meanwhile(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    log, look = AuditLog(database_url, tmp_path / "anchor"), OrderStore._waiting
    with OrderStore.opened(database_url) as store, OrderStore.opened(database_url) as second:
        now = rows(database_url, "select now()")[0][0]
        store.set_trading_state("acct", TradingState.HALTED, "tester", "stop", now)

        def overtaken(self: OrderStore) -> list[tuple[Any, ...]]:
            monkeypatch.setattr(OrderStore, "_waiting", look)
            seen = look(self)
            if other == "tells what waited":
                assert second.drain_outbox(log) == 1
            else:
                log.append([Record("test", "in between", {})])
            return seen

        monkeypatch.setattr(OrderStore, "_waiting", overtaken)
        assert store.drain_outbox(log) == (0 if other == "tells what waited" else 1)
    told = rows(database_url, "select kind from audit.log order by seq")
    before = [] if other == "tells what waited" else [("test",)]
    assert told == [*before, ("trading.halted",)]
    assert rows(database_url, "select count(*) from execution.outbox") == [(0,)]
    result = verify(database_url, tmp_path / "anchor")
    assert (result.ok, result.entries, result.covered) == (True, len(told), len(told))
