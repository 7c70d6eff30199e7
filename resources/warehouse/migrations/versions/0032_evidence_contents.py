"""What records of evidence name and many share: the returns that the risk gate judged by, each kept once."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table execution.evidence_contents (
            fingerprint text primary key,   -- of the content; records of evidence, which the audit log seals, name it
            content bytea not null
        );
        alter table execution.evidence add column contents text[] not null default '{}';
        grant select on execution.evidence_contents to octopus_research, octopus_trader;
        grant insert on execution.evidence_contents to octopus_trader;
        """
    )


def downgrade() -> None:
    op.execute("alter table execution.evidence drop column contents")
    op.execute("drop table execution.evidence_contents")
