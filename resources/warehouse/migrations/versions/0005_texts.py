"""Marks of texts (copies, bursts, novelty, language) and reports of their sources."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table raw.text_marks (
            source text not null,
            instrument text not null,
            ts timestamptz not null,               -- of the text
            item_kind text not null check (item_kind in ('news', 'post')),
            item_id text not null,
            text_hash text not null,
            known_at timestamptz not null,         -- of the text: a mark is made of texts known before it
            repeats text not null,                 -- the first text that says this
            copy boolean not null,
            alike bigint not null,                 -- texts of one form within the hour
            by_author bigint not null,             -- texts of its author within the hour; 0: unknown
            burst boolean not null,
            novelty double precision not null check (novelty between 0 and 1),
            language text,                         -- ISO 639-1; null: cannot be told
            weight double precision not null check (weight between 0 and 1),
            ingested_at timestamptz not null,
            primary key (source, instrument, ts, item_kind, item_id, text_hash)
        );
        grant select on raw.text_marks to octopus_research, octopus_trader;
        grant insert on raw.text_marks to octopus_research;

        create table ops.text_source_reports (
            source text not null,
            item_kind text not null,
            session date not null,                 -- up to which it was measured
            items bigint not null,
            share_covered double precision,        -- of member instruments x sessions
            copies double precision,               -- share of items that repeat another
            bursts double precision,
            known_after_s double precision,        -- median seconds from the text to when it could be known
            stored_after_s double precision,       -- median seconds from then to when it was stored
            ic jsonb not null,                     -- rank correlation of tone and later return, by horizon
            measured_at timestamptz not null,
            primary key (source, item_kind)
        );
        grant select on ops.text_source_reports to octopus_research, octopus_trader;
        grant insert, update, delete on ops.text_source_reports to octopus_research;
        """
    )


def downgrade() -> None:
    op.execute("drop table ops.text_source_reports")
    # Marks can be made again from the texts.
    op.execute("drop table raw.text_marks")
