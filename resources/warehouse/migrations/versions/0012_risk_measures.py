"""The measures of the planned portfolio: losses by several methods, exposures, components, backtests and stress."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table risk.measures (
            account text not null,
            session date not null,          -- decision session of the plan
            measure text not null,
            subject text not null,          -- a method, an instrument, a sector, a scenario; empty: the whole portfolio
            value double precision,
            note text not null,             -- why there is no value, or what it leaves out
            primary key (account, session, measure, subject)
        );
        grant select on risk.measures to octopus_research, octopus_trader;
        grant insert, delete on risk.measures to octopus_research;
        """
    )


def downgrade() -> None:
    op.execute("drop table risk.measures")
