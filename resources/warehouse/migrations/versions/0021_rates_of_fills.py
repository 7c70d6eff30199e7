"""At which rate a fill was converted into the account's currency, in both books; 1 where it was not."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_TABLES = ("execution.fills", "paper.fills")


def upgrade() -> None:
    for table in _TABLES:
        op.execute(f"alter table {table} add column rate numeric(28, 12) not null default 1 check (rate > 0)")


def downgrade() -> None:
    counted = [f"select count(*) as n from {table} where rate <> 1" for table in _TABLES]  # noqa: S608
    total = sum(op.get_bind().exec_driver_sql(one).scalar_one() for one in counted)
    if total:
        raise RuntimeError(
            f"{total} converted fills have no place in revision 0017; back them up and delete them first"
        )
    for table in _TABLES:
        op.execute(f"alter table {table} drop column rate")
