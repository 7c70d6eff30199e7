"""What a gate judged by, beside its verdicts: so that an order's approval can be judged again from the record."""

from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table execution.evidence (
            batch_id text not null,
            attempt integer not null,
            gate text not null,
            record text not null,           -- canonical JSON, exactly the text that the audit log's entry seals
            primary key (batch_id, attempt, gate)
        );
        grant select on execution.evidence to octopus_research, octopus_trader;
        grant insert on execution.evidence to octopus_trader;
        """
    )


def downgrade() -> None:
    op.execute("drop table execution.evidence")
