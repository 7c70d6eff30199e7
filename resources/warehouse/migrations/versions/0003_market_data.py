"""More of market data: lots and ticks, further kinds of corporate actions, and vendors' own adjusted closes.

New columns change the fingerprint of a row's content. Stored rows get the new fingerprint, for otherwise the next fetch
would take every one of them for a restatement, known from that day on only.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ACTIONS = "source, instrument, ts, session, kind, value"
_DESCRIBED = "source, instrument, ts, name, exchange, currency, asset_class, price_basis"


def upgrade() -> None:
    op.execute(
        """
        alter table raw.instruments
            add column lot_size double precision not null default 1,  -- smallest tradable quantity
            add column tick_size double precision                     -- smallest step of the price; null: unknown
        """
    )
    op.execute("alter table raw.corporate_actions add column detail text")
    _kinds("'split', 'dividend', 'spin_off', 'symbol_change', 'delisting'")
    op.execute(
        """
        create table raw.adjusted_closes (
            source text not null,
            instrument text not null,
            ts timestamptz not null,               -- close of the session, UTC
            session date not null,
            adj_close double precision not null,   -- never a price: what the vendor's own adjustment gives
            known_at timestamptz not null,
            known_at_imputed boolean not null,
            ingested_at timestamptz not null,
            batch_id bigint not null,
            row_hash text not null,
            primary key (source, instrument, ts, ingested_at)
        )
        """
    )
    op.execute("grant select on raw.adjusted_closes to octopus_research, octopus_trader")
    op.execute("grant insert on raw.adjusted_closes to octopus_research")
    if _has_timescale():
        op.execute("select create_hypertable('raw.adjusted_closes', by_range('ts', interval '1 year'))")
    else:
        op.execute("create index adjusted_closes_ts_brin on raw.adjusted_closes using brin (ts)")
    _rehash("raw.corporate_actions", f"{_ACTIONS}, detail")
    _rehash("raw.instruments", f"{_DESCRIBED}, lot_size, tick_size, member_from, member_to")


def downgrade() -> None:
    lost = "select count(*) from raw.corporate_actions where kind not in ('split', 'dividend')"
    count = op.get_bind().exec_driver_sql(lost).scalar_one() + op.get_bind().exec_driver_sql(
        "select count(*) from raw.adjusted_closes"
    ).scalar_one()  # fmt: skip
    if count:
        raise RuntimeError(
            f"{count} rows of spin-offs, symbol changes, delistings or adjusted closes have no place in revision 0002; "
            "back them up and delete them first"
        )
    op.execute("drop table raw.adjusted_closes")
    _kinds("'split', 'dividend'")
    op.execute("alter table raw.corporate_actions drop column detail")
    op.execute("alter table raw.instruments drop column lot_size, drop column tick_size")
    _rehash("raw.corporate_actions", _ACTIONS)
    _rehash("raw.instruments", f"{_DESCRIBED}, member_from, member_to")


def _kinds(allowed: str) -> None:
    op.execute("alter table raw.corporate_actions drop constraint corporate_actions_kind_check")
    op.execute(
        f"alter table raw.corporate_actions add constraint corporate_actions_kind_check check (kind in ({allowed}))"
    )


def _rehash(table: str, content: str) -> None:
    """As `Warehouse.append` does it: of the row of its content as text, times in UTC."""
    op.execute("set local timezone to 'UTC'")
    op.execute(f"update {table} set row_hash = md5(row({content})::text)")  # noqa: S608  # constants


def _has_timescale() -> bool:
    found = "select count(*) from pg_extension where extname = 'timescaledb'"
    return bool(op.get_bind().exec_driver_sql(found).scalar_one())
