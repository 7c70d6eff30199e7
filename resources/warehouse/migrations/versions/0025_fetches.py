"""What each source was asked for and when, whatever it answered: fetches, sessions asked for, gaps that stay empty."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- Every answer that was stored, one that changed nothing included.
        create table ops.fetches (
            fetch_id bigint generated always as identity primary key,
            source text not null,
            tables text[] not null,
            fetched_at timestamptz not null,
            run_id text,
            payload_hash text not null,
            rows_new bigint not null,
            rows_restated bigint not null,
            rows_unchanged bigint not null,
            rows_quarantined bigint not null
        );
        create index fetches_by_source on ops.fetches (source, fetched_at);
        create table ops.coverage (
            source text not null,
            instrument text not null,
            asked_from date not null,       -- sessions that it was asked for without a break, both inclusive
            asked_to date not null,
            asked_at timestamptz,           -- when last; null: before this was recorded
            first_bar date,                 -- of all bars that the source has sent
            last_bar date,
            described_at timestamptz,       -- when the source last described the instrument
            primary key (source, instrument)
        );
        create table ops.holes (
            source text not null,
            instrument text not null,
            session date not null,          -- without a bar, between bars; the first one asked for where there is none
            found_at timestamptz not null,
            asked_at timestamptz,           -- when it was last asked for; null: not yet
            primary key (source, instrument, session)
        );
        grant select on ops.fetches, ops.coverage, ops.holes to octopus_research, octopus_trader;
        grant insert on ops.fetches, ops.coverage, ops.holes to octopus_research;
        grant update on ops.coverage, ops.holes to octopus_research;
        grant delete on ops.holes to octopus_research;
        """
    )


def downgrade() -> None:
    op.execute("drop table ops.holes")
    op.execute("drop table ops.coverage")
    op.execute("drop table ops.fetches")
