"""The audit log's writers take turns by one function, and the outbox is taken out by another; a batch's successor is
found by an index; breaks of records are kept whole."""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- To the transaction's end nobody else extends the chain. Each statement of a volatile function has a snapshot
        -- of its own: the second sees what whoever held the lock before has committed.
        create function audit.lock_chain(out now timestamptz, out seq bigint, out hash text) language plpgsql as $$
        begin
            perform pg_advisory_xact_lock(3339255810);
            select clock_timestamp(), last.seq, last.hash into now, seq, hash
            from (values (1)) as clock
            left join (select l.seq, l.hash from audit.log l order by l.seq desc limit 1) as last on true;
        end $$;

        -- All that waits to be told, in its order, each beside the chain's end; the end alone if nothing waits.
        create function execution.take_outbox()
        returns table (now timestamptz, seq bigint, hash text, kind text, subject text, payload jsonb)
        language plpgsql as $$
        declare
            chain record;
        begin
            select * into chain from audit.lock_chain();
            return query
            with gone as (delete from execution.outbox returning *)
            select chain.now, chain.seq, chain.hash, gone.kind, gone.subject, gone.payload
            from (values (1)) as chain_end left join gone on true order by gone.outbox_id;
        end $$;

        revoke all on function audit.lock_chain(), execution.take_outbox() from public;
        grant execute on function audit.lock_chain() to octopus_research, octopus_trader;
        grant execute on function execution.take_outbox() to octopus_trader;

        -- Of a break: the fill or entry that differs, how much of the books' difference it explains, and when it was.
        alter table execution.reconciliation add column reference text, add column quantity_effect numeric,
            add column cash_effect numeric, add column happened_at timestamptz;

        create index batches_in_order on portfolio.batches (account, session, created_at, batch_id);
        """
    )


def downgrade() -> None:
    op.execute(
        "alter table execution.reconciliation drop column reference, drop column quantity_effect, "
        "drop column cash_effect, drop column happened_at"
    )
    op.execute("drop index portfolio.batches_in_order")
    op.execute("drop function execution.take_outbox()")
    op.execute("drop function audit.lock_chain()")
