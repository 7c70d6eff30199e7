"""What was ingested in each week, compressed old bars, a reader's role, and no more privileges than are used.

The server says what it can do: columnar compression and continuous aggregates need TimescaleDB's Timescale licence
(``timescaledb.license``). Under its Apache licence, and on plain PostgreSQL, bars stay as rows and
``ops.ingested_weekly`` is a materialised view of the same columns. A server that is licensed later gets both by
migrating down to 0006 and up again.

No table has a retention policy, on purpose. Raw rows and all that explains an order are the record and are kept for
ever. What means nothing once it is old does not pile up either: ``ops.source_budgets`` has one row for each window of
a source, overwritten by the next window.

The chunks of raw.bars stay a year long, measured with 5,000 symbols over four years, three times on a machine in use: a
day is appended in 0.14 to 0.20 s. Quarters append and read as fast and make dbt's scans of all versions 30 to 50 %
slower, months make everything slower, and three years make restatements half again as slow.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COMPRESS_AFTER = "2 years"
"""Chunks that end before that are compressed in the background. On a server, another age is set with
``select remove_compression_policy('raw.bars')`` and ``select add_compression_policy('raw.bars', interval '5 years')``,
and so for raw.adjusted_closes; it is no matter of the schema and needs no migration."""

_COMPRESSED = ("bars", "adjusted_closes")

# Who may write what, by how a table is used. RECORDS are only added to, STATES are changed in place, and of SETS all
# rows of one scope are replaced.
_RESEARCH_RECORDS = (
    "ops.batches", "ops.sessions", "models.training_sets", "models.reviews", "models.champion_history",
    "portfolio.decisions", "portfolio.rebalance_plan", "backtest.runs",
)  # fmt: skip
_RESEARCH_STATES = ("portfolio.batches", "ops.source_budgets")
_RESEARCH_SETS = (
    "ops.quality_findings", "ops.text_source_reports", "strategy.features", "strategy.signals",
    "models.walk_forward_folds", "models.predictions",
    "backtest.daily", "backtest.targets", "portfolio.target_weights", "portfolio.opening_positions",
    "risk.limit_report", "compliance.pretrade_report", "compliance.approvals",
)  # fmt: skip
_TRADER_RECORDS = (
    "execution.snapshots", "execution.verdicts", "execution.order_events", "execution.fills", "execution.entries",
    "execution.positions", "execution.nav", "paper.fills", "paper.entries",
)  # fmt: skip
_TRADER_STATES = (
    "execution.trading_state", "execution.leases", "execution.attempts", "execution.launches",
    "execution.order_intents", "execution.orders", "paper.accounts", "paper.orders",
)  # fmt: skip
_TRADER_SETS = ("execution.reconciliation", "execution.outbox")
_RESEARCH_SCHEMAS = "ops, strategy, models, backtest, portfolio, risk, compliance"


def upgrade() -> None:
    _least_privilege()
    _reader()
    if _is_licensed():
        for table in _COMPRESSED:
            _compress(table)
    _count_weeks()


def downgrade() -> None:
    op.execute("drop view ops.weekly_gaps")
    op.execute("drop materialized view ops.ingested_weekly")
    if _is_licensed():
        for table in _COMPRESSED:
            _decompress(table)
    # All that the role may in this database; the role itself belongs to the server, where other databases know it too.
    op.execute("drop owned by octopus_reader")
    op.execute(f"grant insert, update, delete on all tables in schema {_RESEARCH_SCHEMAS} to octopus_research")
    op.execute("grant insert, update, delete on all tables in schema execution, paper to octopus_trader")
    op.execute("grant usage on all sequences in schema execution to octopus_trader")
    op.execute("revoke execute on function execution.database_id() from octopus_trader")
    op.execute("grant execute on function execution.database_id(), audit.refuse_change() to public")


def _least_privilege() -> None:
    """What a statement of ours needs, and no more; reading stays as it was."""
    op.execute(f"revoke insert, update, delete on all tables in schema {_RESEARCH_SCHEMAS} from octopus_research")
    op.execute("revoke insert, update, delete on all tables in schema execution, paper from octopus_trader")
    for role, records, states, sets in (
        ("octopus_research", _RESEARCH_RECORDS, _RESEARCH_STATES, _RESEARCH_SETS),
        ("octopus_trader", _TRADER_RECORDS, _TRADER_STATES, _TRADER_SETS),
    ):
        op.execute(f"grant insert on {', '.join((*records, *states, *sets))} to {role}")
        op.execute(f"grant update on {', '.join(states)} to {role}")
        op.execute(f"grant delete on {', '.join(sets)} to {role}")
    op.execute("grant update on ops.batch_counter to octopus_research")
    # An identity column needs no privilege on its sequence, and a trigger none on its function.
    op.execute("revoke usage on all sequences in schema execution from octopus_trader")
    op.execute("revoke execute on function execution.database_id(), audit.refuse_change() from public")
    op.execute("grant execute on function execution.database_id() to octopus_trader")


def _reader() -> None:
    """A role for people and dashboards: it reads raw and marts, and nothing else."""
    op.execute(
        """
        do $$
        begin
            if not exists (select from pg_roles where rolname = 'octopus_reader') then
                create role octopus_reader nologin;
            end if;
            -- dbt opens the marts that it builds from now on; those that stand are opened here.
            if to_regnamespace('marts') is not null then
                grant usage on schema marts to octopus_reader;
                grant select on all tables in schema marts to octopus_reader;
            end if;
        end $$
        """
    )
    op.execute("grant usage on schema raw to octopus_reader")
    op.execute("grant select on all tables in schema raw to octopus_reader")


def _compress(table: str) -> None:
    """Old chunks become columns, in the order of the key's times.

    With ingested_at in the order each compressed batch knows its latest: a restatement is later than all of them, so
    that checking the primary key decompresses nothing.
    """
    op.execute(
        f"""
        alter table raw.{table} set (
            timescaledb.compress,
            timescaledb.compress_segmentby = 'source, instrument',
            timescaledb.compress_orderby = 'ts, ingested_at'
        )
        """
    )
    op.execute(f"select add_compression_policy('raw.{table}', interval '{COMPRESS_AFTER}')")


def _decompress(table: str) -> None:
    op.execute(f"select remove_compression_policy('raw.{table}')")
    op.execute(f"select decompress_chunk(chunk, true) from show_chunks('raw.{table}') chunk")  # noqa: S608  # constants
    op.execute(f"alter table raw.{table} set (timescaledb.compress = false)")


def _count_weeks() -> None:
    """Rows and sessions of raw.bars by source, instrument and week: counts, which versions of a bar do not falsify."""
    is_licensed = _is_licensed()
    week = "time_bucket('1 week', ts)" if is_licensed else "date_trunc('week', ts, 'UTC')"
    op.execute(
        f"""
        create materialized view ops.ingested_weekly {_CONTINUOUS if is_licensed else ""} as
        select
            source,
            instrument,
            {week} as week,                        -- Monday, 00:00 UTC
            count(*) as rows,                      -- all versions
            count(distinct session) as sessions,
            min(session) as first_session,
            max(session) as last_session,
            max(batch_id) as last_batch_id,
            max(ingested_at) as last_ingested_at
        from raw.bars
        group by 1, 2, 3
        with no data
        """  # noqa: S608  # constants
    )
    if not is_licensed:
        op.execute("create unique index on ops.ingested_weekly (source, instrument, week)")
        op.execute("refresh materialized view ops.ingested_weekly")
    op.execute(_GAPS)
    op.execute("grant select on ops.ingested_weekly, ops.weekly_gaps to octopus_research, octopus_trader")


# Weeks that nothing materialised yet are counted as they are read.
_CONTINUOUS = "with (timescaledb.continuous, timescaledb.materialized_only = false)"

_GAPS = """
    create view ops.weekly_gaps as
    with described as (
        select distinct on (source, instrument) source, instrument, exchange
        from raw.instruments
        order by source, instrument, ts desc, batch_id desc
    ),
    spans as (
        select source, instrument, min(first_session) as first_session, max(last_session) as last_session
        from ops.ingested_weekly
        group by source, instrument
    ),
    due as (
        select
            s.source,
            s.instrument,
            date_trunc('week', c.session::timestamp)::date as week,
            count(*) as sessions_due
        from spans s
        join described d using (source, instrument)
        join ops.sessions c on c.exchange = d.exchange and c.session between s.first_session and s.last_session
        group by 1, 2, 3
    )
    select due.source, due.instrument, due.week, due.sessions_due, coalesce(w.sessions, 0) as sessions
    from due
    left join ops.ingested_weekly w
        on w.source = due.source and w.instrument = due.instrument and (w.week at time zone 'UTC')::date = due.week
    where coalesce(w.sessions, 0) < due.sessions_due
"""


def _is_licensed() -> bool:
    """The server is a TimescaleDB whose licence has compression and continuous aggregates."""
    licence = op.get_bind().exec_driver_sql("select current_setting('timescaledb.license', true)").scalar_one()
    return bool(licence == "timescale")
