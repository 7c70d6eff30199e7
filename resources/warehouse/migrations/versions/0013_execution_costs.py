"""What executing cost, order by order, and the tax lots of each account with what closing them brought; the states of
orders that are being cancelled or were replaced, and prices of limit and stop orders."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        alter table execution.orders drop constraint orders_state_check;
        alter table execution.orders add constraint orders_state_check check (state in (
            'approved', 'submitting', 'accepted', 'partially_filled', 'pending_cancel', 'filled', 'rejected',
            'cancelled', 'replaced', 'expired', 'unknown'));

        -- The limit of a limit order, the trigger of a stop order.
        alter table portfolio.rebalance_plan add column price numeric(28, 8) check (price > 0);
        alter table execution.order_intents add column price numeric(28, 8) check (price > 0);
        alter table paper.orders add column price numeric(28, 8);

        create table execution.order_costs (
            client_order_id text primary key references execution.orders,
            account text not null,
            session date not null,                  -- of execution
            instrument text not null,
            side text not null,
            quantity numeric(28, 8) not null,
            filled_quantity numeric(28, 8) not null,
            decision_price numeric(28, 8) not null,
            arrival_price numeric(28, 8) not null,
            arrival_source text not null,           -- open, mark (of the broker, when the order was judged) or decision
            average_price numeric(28, 8),           -- null where nothing was filled
            end_price numeric(28, 8) not null,
            delay_usd numeric(28, 8) not null,
            trading_usd numeric(28, 8) not null,
            opportunity_usd numeric(28, 8) not null,
            fees_usd numeric(28, 8) not null,
            shortfall_usd numeric(28, 8) not null,
            shortfall_bps double precision not null,
            slippage_bps double precision
        );
        create index order_costs_by_session on execution.order_costs (account, session);

        create table execution.tax_lots (
            account text not null,
            seq integer not null,                   -- by instrument and acquisition
            lot_id text not null,                   -- the fill that opened it; more than one where a part was adjusted
            instrument text not null,
            quantity numeric(28, 8) not null,
            cost_usd numeric(28, 8) not null,
            wash_sale_usd numeric(28, 8) not null,
            acquired date not null,
            held_from date not null,
            primary key (account, seq)
        );

        create table execution.realised_gains (
            account text not null,
            seq integer not null,                   -- in the order of the trades
            fill_id text not null,
            lot_id text not null,
            instrument text not null,
            quantity numeric(28, 8) not null,
            proceeds_usd numeric(28, 8) not null,
            basis_usd numeric(28, 8) not null,
            disallowed_usd numeric(28, 8) not null,
            gain_usd numeric(28, 8) not null,
            acquired date not null,
            held_from date not null,
            disposed date not null,
            settles date not null,
            long_term boolean not null,
            primary key (account, seq)
        );

        grant select on execution.order_costs, execution.tax_lots, execution.realised_gains
            to octopus_research, octopus_trader;
        grant insert, delete on execution.order_costs, execution.tax_lots, execution.realised_gains to octopus_trader;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        drop table execution.realised_gains;
        drop table execution.tax_lots;
        drop table execution.order_costs;
        alter table paper.orders drop column price;
        alter table execution.order_intents drop column price;
        alter table portfolio.rebalance_plan drop column price;
        update execution.orders set state = 'cancelled' where state = 'replaced';
        update execution.orders set state = 'accepted' where state = 'pending_cancel';
        alter table execution.orders drop constraint orders_state_check;
        alter table execution.orders add constraint orders_state_check check (state in (
            'approved', 'submitting', 'accepted', 'partially_filled', 'filled', 'rejected', 'cancelled', 'expired',
            'unknown'));
        """
    )
