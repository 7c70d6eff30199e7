"""The steps of an order's way to the broker that need no thought in between are functions, each one statement.

A step that stands alone commits by itself: where an order is as its worker knows it, ``submitting`` and the answer to
it are a round trip each. What makes an order's next state is still decided in octopus/execution/states.py.
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

TAKE_OUTBOX = """
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
        revoke all on function execution.take_outbox() from public;
        grant execute on function execution.take_outbox() to octopus_trader;
"""
"""What `execution.outbox_at_end` and `execution.tell_outbox` are instead of."""


def upgrade() -> None:
    op.execute(
        """
        -- Whether no later claim took the account and the lease had not run out: then it runs anew, and nobody else
        -- begins to send in the account before the transaction ends.
        create function execution.renew_lease(of_account text, under bigint, seconds float8) returns boolean
        language plpgsql as $$
        begin
            update execution.leases set expires_at = clock_timestamp() + make_interval(secs => seconds)
            where account = of_account and fence = under and expires_at > clock_timestamp();
            return found;
        end $$;

        -- The batch that replaces another one, named as such or decided later for the same account, if any.
        create function execution.successor(of_batch text) returns text language plpgsql stable as $$
        begin
            return (
                select coalesce(b.superseded_by, (
                    select n.batch_id from portfolio.batches n
                    where n.account = b.account
                      and (n.session, n.created_at, n.batch_id) > (b.session, b.created_at, b.batch_id)
                    order by n.session desc, n.created_at desc limit 1))
                from portfolio.batches b where b.batch_id = of_batch);
        end $$;

        -- What decides whether an order of a batch may leave: the kill switch, which stays as it is to the end of the
        -- transaction (no state: the account was never opened), the order whose place it takes, another order in its
        -- instrument that may or may not stand at the broker (never the entry that it protects), a newer batch.
        create function execution.look_before_send(
            of_account text, of_batch text, sending text, known_database text,
            out state text, out reason text, out here boolean, out replaces text, out freezing text[],
            out successor text)
        language plpgsql as $$
        begin
            select t.state, t.reason, t.database_id = coalesce(known_database, execution.database_id()),
                (select r.replaces from execution.replacements r where r.client_order_id = sending),
                (select array[ui.instrument, u.client_order_id] from execution.orders u
                 join execution.order_intents ui using (intent_id)
                 where u.account = of_account and u.state in ('submitting', 'unknown') and u.client_order_id <> sending
                   and (select o.instrument = ui.instrument and o.intent_id is distinct from ui.exit_of
                        from execution.order_intents o where o.client_order_id = sending)
                 limit 1),
                execution.successor(of_batch)
            into state, reason, here, replaces, freezing, successor
            from execution.trading_state t where t.account = of_account for share of t;
        end $$;

        -- An order's new status, the event that it came by and what the audit log is to be told. False, and nothing
        -- is written: the order is not, or no longer, as it was before.
        create function execution.move_order(
            moving text, state_before text, filled_before numeric, revised_before numeric, sent_under bigint,
            state_after text, filled_after numeric, revised_after numeric, why text, at timestamptz,
            sending_under bigint, broker_id text, told_quantity numeric, kind text, record jsonb, detail jsonb)
        returns boolean language plpgsql as $$
        declare
            moved_under bigint;
        begin
            update execution.orders o set state = state_after, filled_quantity = filled_after,
                revised_quantity = revised_after, reason = coalesce(why, o.reason), updated_at = at,
                fence = coalesce(sending_under, o.fence), broker_order_id = coalesce(broker_id, o.broker_order_id),
                quantity = coalesce(told_quantity, o.quantity),
                submitted_at = coalesce(o.submitted_at, case when sending_under is not null then at end)
            where o.client_order_id = moving and o.state = state_before and o.filled_quantity = filled_before
                and o.revised_quantity = revised_before and o.fence = coalesce(sent_under, o.fence)
            returning o.fence into moved_under;
            if not found then
                return false;
            end if;
            insert into execution.order_events (client_order_id, from_state, to_state, at, fence, detail)
            values (moving, state_before, state_after, at, moved_under, detail);
            insert into execution.outbox (kind, subject, payload) values (kind, moving, record);
            return true;
        end $$;

        -- All that waits to be told to the audit log, in its order, each beside the chain's end; the end alone if
        -- nothing waits. One statement, so that what waits is not in the chain yet.
        create function execution.outbox_at_end()
        returns table (now timestamptz, seq bigint, hash text, waiting bigint, kind text, subject text, payload jsonb)
        language plpgsql stable as $$
        begin
            return query
            select clock_timestamp(), last.seq, last.hash, o.outbox_id, o.kind, o.subject, o.payload
            from (values (1)) as clock
            left join (select l.seq, l.hash from audit.log l order by l.seq desc limit 1) as last on true
            left join execution.outbox o on true order by o.outbox_id;
        end $$;

        -- Put entries at the chain's end, in place of what waited. False, and nothing is written: it ends elsewhere by
        -- now, and somebody else has told what waited, or they are to be sealed anew.
        create function execution.tell_outbox(at_end bigint, waited bigint[], entries json) returns boolean
        language plpgsql as $$
        declare
            gone bigint;
        begin
            if (select chain.seq from audit.lock_chain() as chain) is distinct from at_end then
                return false;
            end if;
            delete from execution.outbox where outbox_id = any(waited);
            get diagnostics gone = row_count;
            if gone <> cardinality(waited) then
                raise exception 'the outbox has % of the % entries that are to be told', gone, cardinality(waited);
            end if;
            insert into audit.log (seq, at, kind, subject, payload, prev_hash, hash)
            select e.seq, e.at, e.kind, e.subject, e.payload, e.prev_hash, e.hash from json_to_recordset(entries) as e
                (seq bigint, at timestamptz, kind text, subject text, payload text, prev_hash text, hash text);
            return true;
        end $$;

        drop function execution.take_outbox();

        -- Commit that an order is about to be sent for the first time, if it has no exits and takes no other's place,
        -- and nothing stands against it; its quantity, and what waits to be told with it. No row: it is to be looked at
        -- more closely, and is not moved.
        create function execution.send_order(
            of_account text, under bigint, seconds float8, of_batch text, known_database text, judged_under text,
            sending text, state_before text, state_after text, at timestamptz, record jsonb, detail jsonb)
        returns table (shares numeric, now timestamptz, seq bigint, hash text, waiting bigint, kind text, subject text,
            payload jsonb)
        language plpgsql as $$
        declare
            look record;
        begin
            if not execution.renew_lease(of_account, under, seconds) then
                return;
            end if;
            look := execution.look_before_send(of_account, of_batch, sending, known_database);
            if look.state is distinct from judged_under or not look.here or look.replaces is not null
                or look.freezing is not null or look.successor is not null then
                return;
            end if;
            select i.quantity into shares from execution.order_intents i where i.client_order_id = sending
                and not exists (select from execution.order_intents x where x.exit_of = i.intent_id);
            if shares is null or not execution.move_order(
                sending, state_before, 0, 0, null, state_after, 0, 0, null, at, under, null, null,
                'order.' || state_after, record, detail) then
                return;
            end if;
            return query select shares, o.* from execution.outbox_at_end() o;
        end $$;

        revoke all on function execution.renew_lease, execution.successor, execution.look_before_send,
            execution.move_order, execution.outbox_at_end, execution.tell_outbox, execution.send_order
            from public;
        grant execute on function execution.renew_lease, execution.successor, execution.look_before_send,
            execution.move_order, execution.outbox_at_end, execution.tell_outbox, execution.send_order
            to octopus_trader;
        """
    )


def downgrade() -> None:
    op.execute(
        "drop function execution.send_order, execution.tell_outbox, execution.outbox_at_end, execution.move_order, "
        "execution.look_before_send, execution.successor, execution.renew_lease"
    )
    op.execute(TAKE_OUTBOX)
