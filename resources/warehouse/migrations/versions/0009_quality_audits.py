"""How far the last audit of each source and the last data tests went: the next ones read what has changed since."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table ops.quality_audits (
            source text primary key,
            session date not null,          -- as of whose decision it was made
            batch_id bigint not null,       -- every row up to this batch was known to it
            whole_on date not null,         -- session of the last audit that read all of history
            settings text not null,         -- fingerprint of what was asked of it
            audited_at timestamptz not null
        );
        create table ops.checked_builds (
            project text not null,          -- fingerprint of the dbt project whose data tests passed
            selection text not null,        -- of what was built and tested
            batch_id bigint not null,       -- every row up to this batch was in the build
            whole_on date not null,         -- newest session when everything was last tested
            checked_at timestamptz not null,
            primary key (project, selection)
        );
        grant select on ops.quality_audits, ops.checked_builds to octopus_research, octopus_trader;
        grant insert, delete on ops.quality_audits, ops.checked_builds to octopus_research;
        """
    )


def downgrade() -> None:
    op.execute("drop table ops.quality_audits, ops.checked_builds")
