"""Fees, taxes and interest that a broker books beside any trade, as entries of their own kind."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_KINDS = ("deposit", "withdrawal", "dividend", "split", "manual", "symbol_change", "spin_off", "delisting")


def upgrade() -> None:
    _allow((*_KINDS, "charge"))


def downgrade() -> None:
    tables = ("execution.entries", "paper.entries")
    counted = [f"select count(*) as n from {table} where kind = 'charge'" for table in tables]  # noqa: S608
    total = sum(op.get_bind().exec_driver_sql(one).scalar_one() for one in counted)
    if total:
        raise RuntimeError(f"{total} charges have no place in revision 0016; back them up and delete them first")
    _allow(_KINDS)


def _allow(kinds: tuple[str, ...]) -> None:
    for table in ("execution.entries", "paper.entries"):
        op.execute(f"alter table {table} drop constraint entries_kind_check")
        op.execute(f"alter table {table} add constraint entries_kind_check check (kind in {kinds})")
