"""Bars of weeks and months by who bore the ticker."""

from alembic import op

revision = "0025"
down_revision = "0023"
branch_labels = None
depends_on = None

_MARTS = ("bars_weekly", "bars_monthly")
"""Built by dbt, before and after with other columns: dropped, for the next run to build anew."""


def upgrade() -> None:
    _drop_marts()


def downgrade() -> None:
    _drop_marts()


def _drop_marts() -> None:
    for mart in _MARTS:
        op.execute(f"drop table if exists marts.{mart} cascade")
