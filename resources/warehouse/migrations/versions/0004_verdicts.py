"""Verdicts on rows under a finding: versions that stand beside the vendor's own, and end when the vendor restates."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES = ("bar_verdicts", "action_verdicts")


def upgrade() -> None:
    op.execute(
        """
        create table raw.bar_verdicts (
            source text not null,
            instrument text not null,
            ts timestamptz not null,               -- of the vendor's row
            session date not null,
            open double precision,
            high double precision,
            low double precision,
            close double precision,
            volume double precision,
            known_at timestamptz not null,
            known_at_imputed boolean not null,
            excluded boolean not null,             -- the row is kept out of the marts
            decision text not null check (decision in ('hold', 'repair', 'keep', 'take_back')),
            finding_id text not null,
            decided_by text not null,              -- a person, or 'policy'
            reason text not null,
            ingested_at timestamptz not null,
            batch_id bigint not null,
            primary key (source, instrument, ts, ingested_at)
        );
        create table raw.action_verdicts (
            source text not null,
            instrument text not null,
            ts timestamptz not null,
            session date not null,
            kind text not null,
            value double precision not null,
            detail text,
            known_at timestamptz not null,
            known_at_imputed boolean not null,
            excluded boolean not null,
            decision text not null check (decision in ('hold', 'repair', 'keep', 'take_back')),
            finding_id text not null,
            decided_by text not null,
            reason text not null,
            ingested_at timestamptz not null,
            batch_id bigint not null,
            primary key (source, instrument, ts, kind, ingested_at)
        );
        """
    )
    for table in _TABLES:
        op.execute(f"grant select on raw.{table} to octopus_research, octopus_trader")
        op.execute(f"grant insert on raw.{table} to octopus_research")


def downgrade() -> None:
    counts = "select (select count(*) from raw.bar_verdicts) + (select count(*) from raw.action_verdicts)"
    count = op.get_bind().exec_driver_sql(counts).scalar_one()
    if count:
        raise RuntimeError(
            f"{count} verdicts on rows under a finding have no place in revision 0003; back them up and "
            "delete them first"
        )
    for table in _TABLES:
        op.execute(f"drop table raw.{table}")
