"""Migrations: they apply, they are repeatable, they go back, and the roles hold."""

from datetime import UTC, datetime

import polars as pl
import psycopg
import pytest

from resources.warehouse.connection import Role, WarehouseUnreachableError, connect
from resources.warehouse.migrate import downgrade, migrate
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
