"""Spin-offs, changes of symbol and delistings in the account's books; spin-offs in the marts; who had which ticker."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KINDS = ("deposit", "withdrawal", "dividend", "split", "manual")
_NEW = ("symbol_change", "spin_off", "delisting")
_MARTS = ("prices", "returns", "bars_weekly", "bars_monthly", "adjustment_factors")
"""Built by dbt out of raw rows, before and after with other columns: dropped, for the next run to build anew."""


def upgrade() -> None:
    _allow((*_KINDS, *_NEW))
    op.execute(
        "create index corporate_actions_by_detail on raw.corporate_actions (source, detail) "
        "where kind in ('spin_off', 'symbol_change')"
    )
    op.execute(
        """
        create table ops.identifiers (
            source text not null,
            permanent_id text not null,     -- its first ticker; with its first day where another had that before
            ticker text not null,
            valid_from date,                -- null: since ever
            valid_to date,                  -- null: open
            known_at timestamptz,           -- when the beginning was known; null: since ever
            end_known_at timestamptz,       -- when the end was known; null: open
            unique nulls not distinct (source, permanent_id, valid_from)
        );
        grant select on ops.identifiers to octopus_research, octopus_trader;
        grant insert, delete on ops.identifiers to octopus_research;
        """
    )
    _drop_marts()


def downgrade() -> None:
    counts = [
        op.get_bind().exec_driver_sql(f"select count(*) from {table} where kind in {_NEW}").scalar_one()  # noqa: S608
        for table in ("execution.entries", "paper.entries")
    ]
    if sum(counts):
        raise RuntimeError(
            f"{sum(counts)} entries of changes of symbol, spin-offs or delistings have no place in revision 0009; back "
            "them up and delete them first"
        )
    _allow(_KINDS)
    op.execute("drop index raw.corporate_actions_by_detail")
    op.execute("drop table ops.identifiers")
    _drop_marts()


def _allow(kinds: tuple[str, ...]) -> None:
    for table in ("execution.entries", "paper.entries"):
        op.execute(f"alter table {table} drop constraint entries_kind_check")
        op.execute(f"alter table {table} add constraint entries_kind_check check (kind in {kinds})")


def _drop_marts() -> None:
    for mart in _MARTS:
        op.execute(f"drop table if exists marts.{mart} cascade")
