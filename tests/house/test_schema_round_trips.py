"""Every revision goes back to exactly what was before it: the whole catalog is compared, on both kinds of server."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from alembic.script import ScriptDirectory

from resources.warehouse.connection import connect
from resources.warehouse.migrate import _MIGRATIONS, downgrade, migrate

REVISIONS = [script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()][::-1]

OURS = """
    ours as (
        select oid, nspname from pg_namespace
        where nspname !~ '^(pg_|information_schema|_?timescaledb)'
    ),
    relations as (
        select c.*, nspname from pg_class c join ours on ours.oid = relnamespace
        where relname !~ '^alembic_version' and not exists (
            select from pg_depend where classid = 'pg_class'::regclass and objid = c.oid and deptype = 'e'
        )
    ),
    functions as (
        select p.*, nspname from pg_proc p join ours on ours.oid = pronamespace
        where not exists (select from pg_depend where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e')
    )
"""
PARTS = {
    "schemas": "select nspname from ours where nspname <> 'public'",
    "relations": """
        select nspname, relname, relkind::text, relpersistence::text, reloptions, obj_description(oid, 'pg_class'),
               case when relkind in ('v', 'm') then pg_get_viewdef(oid) end
        from relations where relkind <> 'i'
    """,
    "columns": """
        select nspname, relname, row_number() over (partition by relations.oid order by attnum), attname,
               format_type(atttypid, atttypmod), attnotnull, attidentity::text, attgenerated::text,
               pg_get_expr(adbin, adrelid), col_description(relations.oid, attnum)
        from relations join pg_attribute on attrelid = relations.oid
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attnum > 0 and not attisdropped and relkind <> 'i'
    """,
    "constraints": """
        select nspname, relname, conname, pg_get_constraintdef(c.oid), convalidated
        from pg_constraint c join relations on relations.oid = conrelid
    """,
    "indexes": "select pg_get_indexdef(oid) from relations where relkind = 'i'",
    "triggers": """
        select nspname, relname, pg_get_triggerdef(t.oid) from pg_trigger t join relations on relations.oid = tgrelid
        where not tgisinternal
    """,
    "functions": "select nspname, pg_get_functiondef(oid) from functions",
    "grants": """
        select nspname, relname, grantee::regrole::text, privilege_type, is_grantable
        from relations cross join lateral
            aclexplode(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner)))
        where relkind <> 'i'
        union all
        select nspname, proname, grantee::regrole::text, privilege_type, is_grantable
        from functions cross join lateral aclexplode(coalesce(proacl, acldefault('f', proowner)))
        union all
        select ours.nspname, null, grantee::regrole::text, privilege_type, is_grantable
        from ours join pg_namespace n using (oid)
        cross join lateral aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
        union all
        select nspname, 'default ' || defaclobjtype::text, grantee::regrole::text, privilege_type, is_grantable
        from pg_default_acl join ours on ours.oid = defaclnamespace cross join lateral aclexplode(defaclacl)
    """,
}
HYPERTABLES = {
    "dimensions": """
        select hypertable_schema, hypertable_name, column_name, time_interval::text
        from timescaledb_information.dimensions where hypertable_schema !~ '^_timescaledb'
    """,
    "compression": """
        select hypertable_schema, hypertable_name, attname, segmentby_column_index, orderby_column_index, orderby_asc
        from timescaledb_information.compression_settings where hypertable_schema !~ '^_timescaledb'
    """,
    "aggregates": """
        select view_schema, view_name, materialized_only, view_definition
        from timescaledb_information.continuous_aggregates
    """,
    "policies": """
        select hypertable_schema, hypertable_name, proc_name, schedule_interval::text, config - 'hypertable_id'
        from timescaledb_information.jobs where hypertable_name is not null
    """,
}

Schema = dict[str, list[str]]


def schema(url: str) -> Schema:
    """The catalog of the database, part by part; numbers that TimescaleDB gives to its own tables are left out."""
    with connect(url, autocommit=True) as connection:
        found = {name: _rows(connection, f"with {OURS} {query}") for name, query in PARTS.items()}
        if connection.execute("select from pg_extension where extname = 'timescaledb'").fetchone():
            found |= {name: _rows(connection, query) for name, query in HYPERTABLES.items()}
    return found


def _rows(connection: psycopg.Connection[Any], query: str) -> list[str]:
    rows = connection.execute(query).fetchall()  # type: ignore[arg-type]
    return sorted(
        re.sub(r"hypertable_\d+|(cagg_watermark|invalidation_trigger)\('?\d+'?\)", "n", repr(row)) for row in rows
    )


@pytest.mark.parametrize(("lower", "upper"), list(pairwise(REVISIONS)))
def test_a_revision_goes_back_to_what_was_before_it(climbed: str, lower: str, upper: str) -> None:
    migrate(climbed, lower)
    before = schema(climbed)
    migrate(climbed, upper)
    assert schema(climbed) != before
    downgrade(climbed, lower)
    assert schema(climbed) == before


def test_down_to_nothing_and_up_again_is_a_fresh_schema(new_database: Callable[[], str]) -> None:
    url = new_database()
    migrate(url)
    fresh = schema(url)
    assert len(fresh["columns"]) > 300
    assert len(fresh["grants"]) > 100
    downgrade(url)
    assert all(not schema(url)[part] for part in ("schemas", "relations", "columns", "functions"))
    migrate(url)
    assert schema(url) == fresh
