"""The foundation: raw, research, order-path, audit and paper tables, roles, and hypertables where TimescaleDB is."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SCHEMAS = (
    "paper", "audit", "execution", "compliance", "risk", "portfolio", "backtest", "models", "strategy", "raw", "ops",
)  # fmt: skip
_TIME_TABLES = ("bars", "corporate_actions", "news", "social_posts", "sentiment_scores")


def upgrade() -> None:
    connection = op.get_bind()
    connection.exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))
    available = "select count(*) from pg_available_extensions where name = 'timescaledb'"
    if connection.exec_driver_sql(available).scalar_one():
        connection.exec_driver_sql("create extension if not exists timescaledb")
        for table in _TIME_TABLES:
            # A year of daily rows to a chunk: a few thousand instruments stay well under a quarter of memory.
            connection.exec_driver_sql(
                f"select create_hypertable('raw.{table}', by_range('ts', interval '1 year'), migrate_data => true)"
            )
    else:
        for table in _TIME_TABLES:
            connection.exec_driver_sql(f"create index {table}_ts_brin on raw.{table} using brin (ts)")


def downgrade() -> None:
    for schema in _SCHEMAS:
        op.execute(f"drop schema {schema} cascade")
