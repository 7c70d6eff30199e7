"""How far a source's rows were judged, so that nothing uses a row before its verdict; bars of weeks and months by who
bore the ticker."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_MARTS = ("bars_weekly", "bars_monthly")
"""Built by dbt, before and after with other columns: dropped, for the next run to build anew."""


def upgrade() -> None:
    op.execute(
        """
        create table ops.judged (
            source text primary key,        -- the one whose rows are judged before they are used
            batch_id bigint not null,       -- every row up to this batch has been looked at
            judged_at timestamptz not null
        );
        create view ops.unjudged as
        select j.source, min(b.batch_id) as batch_id
        from ops.judged j
        join ops.batches b on b.source = j.source and b.batch_id > j.batch_id
        where b.table_name in ('raw.bars', 'raw.corporate_actions')
        group by j.source;
        grant select on ops.judged, ops.unjudged to octopus_research, octopus_trader;
        grant insert, update, delete on ops.judged to octopus_research;
        """
    )
    _drop_marts()


def downgrade() -> None:
    op.execute("drop view ops.unjudged")
    op.execute("drop table ops.judged")
    _drop_marts()


def _drop_marts() -> None:
    for mart in _MARTS:
        op.execute(f"drop table if exists marts.{mart} cascade")
