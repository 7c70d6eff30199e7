"""Shares that came by a transfer, with what they had cost and when they had been acquired."""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table execution.entries add column acquired date, drop constraint entries_basis_check, "
        "add constraint entries_basis_check check ("
        "case kind when 'adopted' then (basis is not null) = (instrument is not null) "
        "when 'manual' then basis is null or (instrument is not null and cash = 0) else basis is null end), "
        "add constraint entries_acquired_check check (acquired is null or (kind = 'manual' and basis is not null))"
    )


def downgrade() -> None:
    query = "select count(*) from execution.entries where kind = 'manual' and basis is not null"
    count = op.get_bind().exec_driver_sql(query).scalar_one()
    if count:
        raise RuntimeError(f"the cost of {count} transfers has no place before this revision; delete them first")
    op.execute(
        "alter table execution.entries drop column acquired, drop constraint entries_basis_check, "
        "add constraint entries_basis_check check ((basis is not null) = (kind = 'adopted' and instrument is not null))"
    )
