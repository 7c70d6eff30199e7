"""When each source of texts was asked, for what, and whether it answered: what was missed is caught up from there."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table ops.text_fetches (
            item_kind text not null check (item_kind in ('news', 'post')),
            source text not null,
            asked_at timestamptz not null,
            session date not null,              -- the session whose decision the texts were fetched for
            window_from timestamptz not null,   -- texts of [window_from, window_to) were asked for
            window_to timestamptz not null,
            problem text,                       -- why nothing came; null: it answered
            items bigint not null,
            run_id text not null,
            primary key (item_kind, source, asked_at)
        );
        grant select on ops.text_fetches to octopus_research, octopus_trader;
        grant insert on ops.text_fetches to octopus_research;
        """
    )


def downgrade() -> None:
    op.execute("drop table ops.text_fetches")
