"""What a gate judged by, beside its verdicts: so that an order's approval can be judged again from the record.

And what compliance looks at after the trade: findings of surveillance, and the day's reports.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
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

        create table compliance.surveillance (
            account text not null,
            session date not null,          -- in which the orders were executed
            finding_id text not null,
            pattern text not null,
            instrument text not null,
            orders jsonb not null,          -- client order ids
            first_at timestamptz not null,
            last_at timestamptz not null,
            value double precision not null,
            limit_value double precision not null,
            message text not null,
            primary key (account, session, finding_id)
        );
        create table compliance.daily_reports (
            account text not null,
            session date not null,
            report text not null check (report in ('blotter', 'limits', 'exceptions', 'best_execution')),
            rows jsonb not null,
            primary key (account, session, report)
        );
        grant select on compliance.surveillance, compliance.daily_reports to octopus_research, octopus_trader;
        grant insert, delete on compliance.surveillance, compliance.daily_reports to octopus_trader;
        """
    )


def downgrade() -> None:
    op.execute("drop table execution.evidence, compliance.surveillance, compliance.daily_reports")
