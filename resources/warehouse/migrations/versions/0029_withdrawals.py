"""What a vendor once sent and no longer sends: a version beside the row, which stays as it is."""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table raw.withdrawals (
            source text not null,
            instrument text not null,
            ts timestamptz not null,               -- of the row, of several the first one's
            session date not null,                 -- likewise
            -- One bar or action; many of either, told as one.
            kind text not null check (
                kind in ('bar', 'split', 'dividend', 'spin_off', 'symbol_change', 'delisting', 'bars', 'actions')),
            session_to date not null,              -- of the last one
            rows bigint not null,                  -- that are not sent any more; 0: sent again
            known_at timestamptz not null,
            known_at_imputed boolean not null,
            ingested_at timestamptz not null,
            batch_id bigint not null,
            primary key (source, instrument, ts, kind, ingested_at)
        );
        grant select on raw.withdrawals to octopus_research, octopus_trader, octopus_reader;
        grant insert on raw.withdrawals to octopus_research;
        """
    )


def downgrade() -> None:
    count = op.get_bind().exec_driver_sql("select count(*) from raw.withdrawals").scalar_one()
    if count:
        raise RuntimeError(
            f"{count} withdrawals of vendors' rows have no place in revision 0028; back them up and delete them first"
        )
    op.execute("drop table raw.withdrawals")
