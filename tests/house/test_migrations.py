"""Migrations: they apply, they are repeatable, they go back, and the roles hold."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from subprocess import PIPE

import polars as pl
import psycopg
import pytest
from alembic import command
from alembic.config import Config

from resources.warehouse.connection import Role, WarehouseUnreachableError, connect
from resources.warehouse.migrate import AccountInUseError, downgrade, migrate, newest_revision, revision_of
from resources.warehouse.order_store import AccountBusyError, OrderStore
from resources.warehouse.store import Warehouse

SCHEMAS = "select count(*) from information_schema.schemata where schema_name in ('raw', 'execution', 'audit', 'paper')"


def test_migrating_twice_changes_nothing_and_back_leaves_nothing(database_url: str) -> None:
    migrate(database_url)
    with connect(database_url) as connection:
        assert connection.execute(SCHEMAS).fetchone() == (4,)
    downgrade(database_url)
    with connect(database_url) as connection:
        assert connection.execute(SCHEMAS).fetchone() == (0,)
    migrate(database_url)
    with connect(database_url) as connection:
        assert connection.execute(SCHEMAS).fetchone() == (4,)


HOLDER = """
import sys, time
from datetime import UTC, datetime
from resources.warehouse.order_store import OrderStore
with OrderStore.opened(sys.argv[1]) as store:
    store.open_account("acct", "test", "opened", datetime.now(UTC))
    with store.account_lock("acct"):
        store._take_lease("acct", "run-17")
        print("held", flush=True)
        sys.stdin.readline()
"""


@contextmanager
def a_run(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the account ``acct`` as a run does while it sends, until a line is written to it."""
    run = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdin=PIPE, stdout=PIPE, text=True)
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "held\n"
        yield run
    finally:
        run.communicate("\n", timeout=30)


def test_no_schema_is_changed_under_a_run_that_acts_on_an_account(database_url: str) -> None:
    """Neither way, and the refusal says whose run it is; what waits for it is told."""
    newest = newest_revision()
    told: list[str] = []
    words = r"account acct is in use .*database session \d+ since .*lease is of run run-17 \(fence \d\).*octopus halt"
    with a_run(database_url):
        migrate(database_url, wait_seconds=0.0)  # Nothing is to be done, and nobody is in the way.
        with pytest.raises(AccountInUseError, match=words):
            downgrade(database_url, "0033", wait_seconds=0.5, tell=told.append)
        assert revision_of(database_url) == newest
    assert ["account acct" in one for one in told] == [True]
    downgrade(database_url, "0033", wait_seconds=5.0)
    with a_run(database_url), pytest.raises(AccountInUseError, match=words):
        migrate(database_url, wait_seconds=0.5)
    assert revision_of(database_url) == "0033"
    migrate(database_url, wait_seconds=5.0)
    assert revision_of(database_url) == newest


def test_a_migration_waits_for_the_run_and_no_run_begins_meanwhile(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    downgrade(database_url, "0033")
    upgrade, busy = command.upgrade, []

    def watched(config: Config, revision: str) -> None:
        with (
            OrderStore.opened(database_url) as store,
            pytest.raises(AccountBusyError),
            store.account_lock("acct", wait_seconds=0),
        ):
            pass
        busy.append(revision)
        upgrade(config, revision)

    monkeypatch.setattr(command, "upgrade", watched)
    with a_run(database_url) as run:

        def let_go(_: str) -> None:
            assert run.stdin is not None
            run.stdin.write("\n")
            run.stdin.flush()

        migrate(database_url, wait_seconds=30.0, tell=let_go)
    assert (busy, revision_of(database_url)) == (["head"], newest_revision())
    with OrderStore.opened(database_url) as store, store.account_lock("acct", wait_seconds=0):
        pass
    migrate(database_url)
    assert len(busy) == 1


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (Role.RESEARCH, "insert into execution.trading_state values ('a', 'active', 'x', 'y', now())"),
        (Role.RESEARCH, "delete from raw.bars"),
        (Role.RESEARCH, "select * from paper.orders"),
        (Role.TRADER, "delete from portfolio.rebalance_plan"),
        (Role.TRADER, "update audit.log set kind = 'x'"),
    ],
)
def test_a_role_may_not_write_what_is_not_its_own(database_url: str, role: Role, statement: str) -> None:
    with connect(database_url, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_audit_log_refuses_change_even_from_the_owner(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("insert into audit.log values (1, now(), 'k', 's', '{}', '', 'h')")
        connection.commit()
        for statement in ("update audit.log set kind = 'x'", "delete from audit.log", "truncate audit.log"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(statement)
            connection.rollback()


def test_an_unreachable_database_gives_one_clear_line_without_the_password() -> None:
    with pytest.raises(WarehouseUnreachableError, match="OCTOPUS_DATABASE_URL") as caught:
        connect("postgresql://u:secret@127.0.0.1:1/octopus")
    assert "secret" not in str(caught.value)


def test_a_revision_up_or_down_restates_nothing(database_url: str) -> None:
    ts = datetime(2020, 8, 31, 13, 30, tzinfo=UTC)
    stamps = {"known_at": ts, "known_at_imputed": True}
    split = {"source": "s", "instrument": "AAPL", "ts": ts, "session": ts.date(), "kind": "split", "value": 4.0}
    actions = pl.DataFrame([split | {"detail": None} | stamps], schema_overrides={"detail": pl.String})
    described = {"source": "s", "instrument": "AAPL", "ts": ts, "name": "Apple", "exchange": "XNAS", "currency": "USD",
                 "asset_class": "equity", "price_basis": "raw", "lot_size": None, "tick_size": None,
                 "member_from": ts.date(), "member_to": None}  # fmt: skip
    kinds = {"lot_size": pl.Float64, "tick_size": pl.Float64, "member_to": pl.Date}
    instruments = pl.DataFrame([described | stamps], schema_overrides=kinds)
    warehouse = Warehouse(database_url, Role.RESEARCH)
    warehouse.append("corporate_actions", actions, source="s")
    warehouse.append("instruments", instruments, source="s")
    downgrade(database_url, "0002")
    fingerprint = warehouse.scalar(
        "select row_hash = md5(row(source, instrument, ts, session, kind, value)::text) from raw.corporate_actions"
    )
    assert fingerprint is True
    migrate(database_url)
    assert warehouse.append("corporate_actions", actions, source="s").batch_id is None
    assert warehouse.append("instruments", instruments, source="s").batch_id is None
    later = pl.DataFrame([split | {"kind": "delisting", "value": 0.0, "detail": "bankrupt"} | stamps])
    warehouse.append("corporate_actions", later, source="s")
    with pytest.raises(RuntimeError, match=r"1 rows of spin-offs.*delete them first"):
        downgrade(database_url, "0002")
