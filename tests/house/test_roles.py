"""Who may do what: the privileges of each role on each table, sequence and function, exactly as declared here.

The catalog is the other side of the comparison: what is not declared, a new table included, fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from resources.warehouse.connection import Role, connect
from resources.warehouse.store import Warehouse
from tests.command_line import octopus

READ, RECORD, STATE, SET = "r", "ra", "raw", "rad"
"""Read; add (never changed nor deleted); add and change in place; add and delete whole sets of rows."""
PRIVILEGES = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}

# Of each table: what research, the trader and the reader may. Nobody else may anything.
DECLARED: dict[str, tuple[str, str, str]] = {
    "raw.instruments": (RECORD, READ, READ),
    "raw.bars": (RECORD, READ, READ),
    "raw.intraday_bars": (RECORD, READ, READ),
    "raw.corporate_actions": (RECORD, READ, READ),
    "raw.adjusted_closes": (RECORD, READ, READ),
    "raw.news": (RECORD, READ, READ),
    "raw.social_posts": (RECORD, READ, READ),
    "raw.sentiment_scores": (RECORD, READ, READ),
    "raw.text_marks": (RECORD, READ, READ),
    "raw.bar_verdicts": (RECORD, READ, READ),
    "raw.action_verdicts": (RECORD, READ, READ),
    "raw.withdrawals": (RECORD, READ, READ),
    "raw.quarantine": (RECORD, READ, READ),
    "ops.batch_counter": ("rw", READ, ""),
    "ops.batches": (RECORD, READ, ""),
    "ops.fetches": (RECORD, READ, ""),
    "ops.coverage": (STATE, READ, ""),
    "ops.holes": ("rawd", READ, ""),
    "ops.intraday_sessions": (STATE, READ, ""),
    "ops.runs": (READ, READ, ""),
    "ops.replay_clock": (READ, STATE, ""),
    "ops.sessions": (RECORD, READ, ""),
    "ops.quality_findings": (SET, READ, ""),
    "ops.quality_audits": (SET, READ, ""),
    "ops.checked_builds": (SET, READ, ""),
    "ops.judged": ("rawd", READ, ""),
    "ops.unjudged": (READ, READ, ""),
    "ops.identifiers": (SET, READ, ""),
    "ops.text_fetches": (RECORD, READ, ""),
    "ops.text_source_reports": (SET, READ, ""),
    "ops.source_budgets": (STATE, STATE, ""),
    "ops.ingested_weekly": (READ, READ, ""),
    "ops.alerts": (READ, RECORD, ""),
    "ops.alert_deliveries": (READ, RECORD, ""),
    "ops.alert_cursor": (READ, STATE, ""),
    "execution.releases": (READ, RECORD, ""),
    "ops.weekly_gaps": (READ, READ, ""),
    "strategy.features": (SET, READ, ""),
    "strategy.signals": (SET, READ, ""),
    "models.training_sets": (RECORD, READ, ""),
    "models.walk_forward_folds": (SET, READ, ""),
    "models.reviews": (RECORD, READ, ""),
    "models.champion_history": (RECORD, READ, ""),
    "models.predictions": (SET, READ, ""),
    "models.fold_models": (RECORD, READ, ""),
    "models.drift": (SET, READ, ""),
    "models.shadow": (SET, READ, ""),
    "backtest.runs": (RECORD, READ, ""),
    "backtest.daily": (SET, READ, ""),
    "backtest.targets": (SET, READ, ""),
    "backtest.trials": (RECORD, READ, ""),
    "portfolio.target_weights": (SET, READ, ""),
    "portfolio.decisions": (RECORD, READ, ""),
    "portfolio.opening_positions": (SET, READ, ""),
    "portfolio.batches": (STATE, READ, ""),
    "portfolio.rebalance_plan": (RECORD, READ, ""),
    "risk.limit_report": (SET, READ, ""),
    "risk.measures": (SET, READ, ""),
    "compliance.pretrade_report": (SET, READ, ""),
    "compliance.approvals": (SET, READ, ""),
    "compliance.surveillance": (READ, SET, ""),
    "compliance.daily_reports": (READ, SET, ""),
    "execution.trading_state": (READ, STATE, ""),
    "execution.leases": (READ, STATE, ""),
    "execution.attempts": (READ, STATE, ""),
    "execution.snapshots": (READ, RECORD, ""),
    "execution.evidence": (READ, RECORD, ""),
    "execution.evidence_contents": (READ, RECORD, ""),
    "execution.launches": (READ, STATE, ""),
    "execution.verdicts": (READ, RECORD, ""),
    "execution.order_intents": (READ, STATE, ""),
    "execution.orders": (READ, STATE, ""),
    "execution.replacements": (READ, STATE, ""),
    "execution.lot_identifications": (READ, RECORD, ""),
    "execution.order_events": (READ, RECORD, ""),
    "execution.fills": (READ, RECORD, ""),
    "execution.fill_revisions": (READ, RECORD, ""),
    "execution.schedule_progress": (READ, READ, ""),
    "execution.current_fills": (READ, READ, ""),
    "execution.fill_movements": (READ, READ, ""),
    "execution.entries": (READ, RECORD, ""),
    "execution.positions": (READ, RECORD, ""),
    "execution.nav": (READ, RECORD, ""),
    "execution.reconciliation": (READ, SET, ""),
    "execution.order_costs": (READ, SET, ""),
    "execution.tax_lots": (READ, SET, ""),
    "execution.realised_gains": (READ, SET, ""),
    "execution.outbox": (READ, SET, ""),
    "audit.log": (RECORD, RECORD, ""),
    "paper.accounts": ("", STATE, ""),
    "paper.orders": ("", STATE, ""),
    "paper.fills": ("", RECORD, ""),
    "paper.fill_revisions": ("", RECORD, ""),
    "paper.current_fills": ("", READ, ""),
    "paper.fill_movements": ("", READ, ""),
    "paper.entries": ("", RECORD, ""),
    "public.alembic_version": ("", "", ""),
}
SEQUENCES = (
    "execution.order_events_event_id_seq", "execution.outbox_outbox_id_seq", "ops.alerts_alert_id_seq",
    "ops.alert_deliveries_delivery_id_seq", "ops.fetches_fetch_id_seq",
)  # fmt: skip
FUNCTIONS = {
    "ops.refuse_change": set[str](),
    "backtest.trials_are_kept": set(),
    "execution.database_id": {"octopus_trader"},
    "audit.refuse_change": set[str](),
    "audit.lock_chain": {"octopus_research", "octopus_trader"},
    **{
        f"execution.{name}": {"octopus_trader"}
        for name in (
            "renew_lease",
            "successor",
            "look_before_send",
            "move_order",
            "send_order",
            "outbox_at_end",
            "tell_outbox",
        )
    },
}
SCHEMAS = {
    **{
        name: {"octopus_research", "octopus_trader"}
        for name in ("ops", "strategy", "models", "backtest", "portfolio", "risk", "compliance", "execution", "audit")
    },
    "raw": {"octopus_research", "octopus_trader", "octopus_reader"},
    "paper": {"octopus_trader"},
    # PostgreSQL's own: whoever connects may look into it, and finds nothing that they may read.
    "public": {"PUBLIC"},
}
ROLES = ("octopus_research", "octopus_trader", "octopus_reader")

OURS = """
    nspname !~ '^(pg_|information_schema|_?timescaledb)'
    and not exists (select from pg_depend where objid = o.oid and deptype = 'e')
"""


def granted(url: str, kinds: str) -> dict[str, dict[str, set[str]]]:
    """Relations of ``kinds`` with the privileges of everyone but the owner on them."""
    query = f"""
        select nspname || '.' || relname, coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC'), privilege_type
        from pg_class o join pg_namespace n on n.oid = relnamespace
        left join lateral aclexplode(relacl) on grantee <> relowner
        where relkind = any(string_to_array('{kinds}', null)::"char"[]) and {OURS}
    """
    return _by_object(url, query)


def _by_object(url: str, query: str) -> dict[str, dict[str, set[str]]]:
    found: dict[str, dict[str, set[str]]] = {}
    with connect(url) as connection:
        rows: list[Any] = connection.execute(query).fetchall()  # type: ignore[arg-type]
    for name, grantee, privilege in rows:
        who = found.setdefault(name, {})
        if privilege is not None:
            who.setdefault(grantee, set()).add(privilege)
    return found


def test_each_role_has_the_declared_privileges_on_each_table_and_no_other(database_url: str) -> None:
    declared = {
        table: {
            role: {PRIVILEGES[letter] for letter in letters}
            for role, letters in zip(ROLES, may, strict=True)
            if letters
        }
        for table, may in DECLARED.items()
    }
    assert granted(database_url, "rpvmf") == declared


def test_nobody_has_a_privilege_on_a_single_column(database_url: str) -> None:
    query = f"""
        select nspname, relname, attname from pg_attribute a join pg_class o on o.oid = attrelid
        join pg_namespace n on n.oid = relnamespace where attacl is not null and {OURS}
    """
    with connect(database_url) as connection:
        assert connection.execute(query).fetchall() == []  # type: ignore[arg-type]


def test_nobody_needs_a_sequence(database_url: str) -> None:
    assert granted(database_url, "S") == {name: {} for name in SEQUENCES}


def test_functions_run_for_the_role_that_calls_them_alone(database_url: str) -> None:
    query = f"""
        select nspname || '.' || proname, coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC'), privilege_type
        from pg_proc o join pg_namespace n on n.oid = pronamespace
        left join lateral aclexplode(coalesce(proacl, acldefault('f', proowner))) on grantee <> proowner
        where {OURS}
    """
    assert {name: set(who) for name, who in _by_object(database_url, query).items()} == FUNCTIONS


def test_schemas_are_open_to_those_who_read_in_them_and_nobody_makes_anything_there(database_url: str) -> None:
    query = f"""
        select nspname, coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC'), privilege_type
        from pg_namespace o
        left join lateral aclexplode(nspacl) on grantee <> nspowner and grantee <> 'pg_database_owner'::regrole
        where {OURS}
    """
    found = _by_object(database_url, query)
    assert {name: set(who) for name, who in found.items()} == SCHEMAS
    assert {privilege for who in found.values() for some in who.values() for privilege in some} == {"USAGE"}


def test_the_roles_are_nobody_special(database_url: str) -> None:
    """No login, no way past the privileges, and no membership that would bring others'."""
    with connect(database_url) as connection:
        rows = connection.execute(
            """
            select rolname from pg_roles r where rolname like 'octopus%%' and (
                rolsuper or rolcreaterole or rolcreatedb or rolcanlogin or rolreplication or rolbypassrls
                or exists (select from pg_auth_members m where m.member = r.oid)
            )
            """
        ).fetchall()
    assert rows == []


@pytest.mark.parametrize(
    "statement",
    [
        "insert into raw.quarantine values ('q', 's', 't', null, 'r', '{}', now(), 1)",
        "select * from execution.orders",
        "select * from ops.batches",
        "create table raw.mine (x int)",
        "create table public.mine (x int)",
    ],
)
def test_a_reader_reads_raw_and_nothing_else(database_url: str, statement: str) -> None:
    assert Warehouse(database_url, Role.READER).read("select count(*) from raw.bars").item() == 0
    with connect(database_url, Role.READER) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", [Role.RESEARCH, Role.TRADER, Role.READER])
def test_a_record_is_neither_changed_nor_deleted(database_url: str, role: Role) -> None:
    records = [table for table, may in DECLARED.items() if RECORD in may and STATE not in may]
    assert len(records) > 20
    with connect(database_url, role, autocommit=True) as connection:
        for table in records:
            for statement in (f"delete from {table}", f"truncate {table}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)  # type: ignore[arg-type]


def test_a_person_acts_as_a_reader_in_the_shell(database_url: str, tmp_path: Path) -> None:
    urls = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    result = octopus(
        tmp_path, "db", "psql", "--role", "reader", "-XAt",
        "-c", "select current_user", "-c", "select count(*) from raw.news", "-c", "select * from ops.batches", **urls,
    )  # fmt: skip
    assert result.stdout.split() == ["octopus_reader", "0"]
    assert "permission denied for schema ops" in result.stderr
