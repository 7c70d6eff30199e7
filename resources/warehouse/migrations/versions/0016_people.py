"""What people are told and what they release: alerts with their deliveries, and releases of batches; append-only."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create function ops.refuse_change() returns trigger language plpgsql as $$
        begin
            raise exception '%.% is append-only: % refused', tg_table_schema, tg_table_name, tg_op;
        end $$;
        revoke all on function ops.refuse_change() from public;

        create table ops.alerts (
            alert_id bigint generated always as identity primary key,
            dedup_key text not null unique,         -- what is said once: the same event has the same key
            kind text not null,
            severity text not null,
            subject text not null,
            happened text not null,
            at timestamptz not null,                -- of the event
            recorded_at timestamptz not null default clock_timestamp()
        );

        create table ops.alert_deliveries (
            delivery_id bigint generated always as identity primary key,
            dedup_key text not null references ops.alerts (dedup_key),
            channel text not null,
            at timestamptz not null,
            delivered boolean not null,
            detail text not null,                   -- what the receiver answered; never an address or a secret
            unique (dedup_key, channel, at)
        );
        create index alerts_delivered on ops.alert_deliveries (channel, dedup_key) where delivered;

        -- How far the audit log was read for alerts. One row.
        create table ops.alert_cursor (
            one boolean primary key default true check (one),
            seq bigint not null
        );

        -- A person's word that a batch may be executed: for this content and no other, until its window closes.
        create table execution.releases (
            batch_id text not null references portfolio.batches,
            content_hash text not null,
            released_by text not null,
            reason text not null,
            released_at timestamptz not null,
            expires_at timestamptz not null,
            primary key (batch_id, content_hash)
        );

        create trigger alerts_are_append_only before update or delete or truncate on ops.alerts
            for each statement execute function ops.refuse_change();
        create trigger deliveries_are_append_only before update or delete or truncate on ops.alert_deliveries
            for each statement execute function ops.refuse_change();
        create trigger releases_are_append_only before update or delete or truncate on execution.releases
            for each statement execute function ops.refuse_change();

        grant select on ops.alerts, ops.alert_deliveries, ops.alert_cursor, execution.releases
            to octopus_research, octopus_trader;
        grant insert on ops.alerts, ops.alert_deliveries, execution.releases to octopus_trader;
        grant insert, update on ops.alert_cursor to octopus_trader;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        drop table execution.releases;
        drop table ops.alert_cursor;
        drop table ops.alert_deliveries;
        drop table ops.alerts;
        drop function ops.refuse_change();
        """
    )
