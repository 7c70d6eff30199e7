"""Indexes by which a build finds what has arrived since the last one: a few pages each, for rows come in order."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INDEXED = {"bars": ("batch_id", "session"), "corporate_actions": ("batch_id",)}


def upgrade() -> None:
    for table, columns in _INDEXED.items():
        for column in columns:
            op.execute(
                f"create index {table}_{column}_brin on raw.{table} using brin ({column}) with (autosummarize = on)"
            )


def downgrade() -> None:
    for table, columns in _INDEXED.items():
        for column in columns:
            op.execute(f"drop index raw.{table}_{column}_brin")
