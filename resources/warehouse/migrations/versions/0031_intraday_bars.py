"""Bars within the day, and which sessions a source was asked for them, with how many intervals came."""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

COMPRESS_AFTER = "3 months"
"""Chunks that end before that are compressed in the background, where the server's licence has it: by then vendors have
restated what they restate."""


def upgrade() -> None:
    op.execute(
        """
        create table raw.intraday_bars (
            source text not null,
            instrument text not null,
            ts timestamptz not null,               -- beginning of the bar, UTC
            interval_minutes smallint not null,
            session date not null,
            open double precision,
            high double precision,
            low double precision,
            close double precision not null,
            volume double precision,
            vwap double precision,                 -- the vendor's own, of the trades in the bar
            known_at timestamptz not null,         -- end of the bar, or when it was first seen
            known_at_imputed boolean not null,
            ingested_at timestamptz not null,
            batch_id bigint not null,
            primary key (source, instrument, interval_minutes, ts, ingested_at)
        );
        create table ops.intraday_sessions (
            source text not null,
            instrument text not null,
            interval_minutes smallint not null,
            session date not null,
            closes_utc timestamptz not null,       -- from when all of it can be known
            bars_due int not null,                 -- intervals of the session by its exchange's calendar
            bars int not null,                     -- of those, how many have a bar
            found_at timestamptz not null,         -- when the source was first asked
            asked_at timestamptz not null,         -- when last
            primary key (source, instrument, interval_minutes, session)
        );
        grant select on raw.intraday_bars to octopus_research, octopus_trader, octopus_reader;
        grant insert on raw.intraday_bars to octopus_research;
        grant select on ops.intraday_sessions to octopus_research, octopus_trader;
        grant insert, update on ops.intraday_sessions to octopus_research;
        """
    )
    if _has("select count(*) from pg_extension where extname = 'timescaledb'"):
        # 500 instruments' five minutes are 0.8 million rows a month, a chunk that memory holds while it is written.
        op.execute(
            "select create_hypertable('raw.intraday_bars', by_range('ts', interval '1 month'), "
            "create_default_indexes => false)"
        )
    # One index for all columns by which many instruments' rows are found, as raw.bars has.
    op.execute(
        "create index intraday_bars_brin on raw.intraday_bars using brin (ts, batch_id, session) "
        "with (autosummarize = on)"
    )
    if _is_licensed():
        op.execute(
            """
            alter table raw.intraday_bars set (
                timescaledb.compress,
                timescaledb.compress_segmentby = 'source, instrument, interval_minutes',
                timescaledb.compress_orderby = 'ts, ingested_at'
            )
            """
        )
        op.execute(f"select add_compression_policy('raw.intraday_bars', interval '{COMPRESS_AFTER}')")


def downgrade() -> None:
    count = op.get_bind().exec_driver_sql("select count(*) from raw.intraday_bars").scalar_one()
    if count:
        raise RuntimeError(
            f"{count} intraday bars have no place in the revision before; back them up and delete them first"
        )
    op.execute("drop table ops.intraday_sessions")
    op.execute("drop table raw.intraday_bars")


def _has(count: str) -> bool:
    return bool(op.get_bind().exec_driver_sql(count).scalar_one())


def _is_licensed() -> bool:
    """The server is a TimescaleDB whose licence has compression."""
    return _has("select (current_setting('timescaledb.license', true) = 'timescale')::int")
