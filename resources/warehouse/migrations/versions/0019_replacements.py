"""Orders that take the place of others: what was asked for, by whom, and what became of it."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table execution.replacements (
            intent_id text primary key,                          -- of the replacement, which is an intent of its own
            client_order_id text not null unique,                -- of the replacement
            replaces text not null references execution.orders,  -- client order id
            account text not null,
            batch_id text not null,
            quantity numeric(28, 8) not null check (quantity > 0),   -- that the two orders may fill together
            price numeric(28, 8) check (price > 0),              -- null: the price stays
            asked_by text not null,
            reason text not null,
            asked_at timestamptz not null,
            making_way_at timestamptz,                           -- since when the order is cancelled for it
            outcome text check (outcome in ('replaced', 'too_late', 'denied', 'refused', 'void', 'withdrawn')),
            detail text,
            settled_at timestamptz,
            check ((outcome is null) = (settled_at is null))
        );
        create unique index one_open_replacement on execution.replacements (replaces) where outcome is null;
        create index replacements_by_batch on execution.replacements (batch_id);

        alter table execution.order_intents add column replaces text;    -- client order id; null: of no replacement
        -- What a replacement was sent with or the venue took of it: the intent's less what the order before it had
        -- filled meanwhile. Null: the intent's.
        alter table execution.orders add column quantity numeric(28, 8) check (quantity > 0);

        grant select on execution.replacements to octopus_research, octopus_trader;
        grant insert, update on execution.replacements to octopus_trader;
        """
    )
    op.execute(_progress("and i.replaces is null"))


def downgrade() -> None:
    asked = op.get_bind().exec_driver_sql("select count(*) from execution.replacements").scalar_one()
    if asked:
        raise RuntimeError(f"{asked} replacements have no place in revision 0018; back them up and delete them first")
    op.execute(_progress(""))
    op.execute(
        """
        alter table execution.orders drop column quantity;
        alter table execution.order_intents drop column replaces;
        drop table execution.replacements;
        """
    )


def _progress(condition: str) -> str:
    """How far each scheduled order is. A replacement has a parent too and is no slice of it."""
    return f"""
        create or replace view execution.schedule_progress as
        select p.batch_id, p.intent_id, p.instrument, p.side, p.quantity, count(*) as children,
            count(*) filter (where i.status = 'denied') as denied,
            coalesce(sum(o.filled_quantity), 0) as filled,
            coalesce(sum(i.quantity - o.filled_quantity) filter (where o.state in (
                'submitting', 'unknown', 'accepted', 'partially_filled', 'pending_cancel')), 0) as working
        from portfolio.rebalance_plan p
        join execution.order_intents i on i.parent_id = p.intent_id {condition}
        left join execution.orders o on o.intent_id = i.intent_id
        group by p.batch_id, p.intent_id, p.instrument, p.side, p.quantity;
    """  # noqa: S608  # a condition of ours alone
