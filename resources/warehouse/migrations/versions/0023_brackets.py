"""Entries with exits at the venue: what is planned, the exits' intents, and the paper broker's."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- In the instrument's own currency; both null: the order has no exits.
        alter table portfolio.rebalance_plan
            add column stop_price numeric(28, 8) check (stop_price > 0),
            add column target_price numeric(28, 8) check (target_price > 0);
        -- Of an exit: the intent that it protects.
        alter table execution.order_intents add column exit_of text references execution.order_intents;
        create index order_intents_by_entry on execution.order_intents (exit_of) where exit_of is not null;
        alter table paper.orders add column exit_of text;    -- client order id of the entry
        """
    )


def downgrade() -> None:
    count = (
        op.get_bind()
        .exec_driver_sql(
            "select (select count(*) from portfolio.rebalance_plan where stop_price > 0 or target_price > 0) + "
            "(select count(*) from execution.order_intents where exit_of is not null) + "
            "(select count(*) from paper.orders where exit_of is not null)"
        )
        .scalar_one()
    )
    if count:
        raise RuntimeError(f"{count} bracketed orders have no place in revision 0021; back them up, delete them first")
    op.execute(
        """
        alter table paper.orders drop column exit_of;
        alter table execution.order_intents drop column exit_of;
        alter table portfolio.rebalance_plan drop column stop_price, drop column target_price;
        """
    )
