"""Shares that a person identified for a sale, instead of first in, first out."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


_REPORTS = ("blotter", "limits", "exceptions", "best_execution")


def upgrade() -> None:
    _allow((*_REPORTS, "lot_identifications"))
    op.execute(
        """
        create table execution.lot_identifications (
            account text not null,
            fill_id text not null,                               -- the sale, or the purchase that covers a short
            number integer not null check (number > 0),          -- of the sale's identifications the last one counts
            lot_id text not null,
            quantity numeric(28, 8) not null check (quantity > 0),   -- positive, of a short's lot too
            identified_by text not null,
            reason text not null,
            identified_at timestamptz not null,
            session date not null,                               -- in whose reports it stands
            primary key (account, fill_id, number, lot_id)
        );
        grant select on execution.lot_identifications to octopus_research, octopus_trader;
        grant insert on execution.lot_identifications to octopus_trader;
        """
    )


def downgrade() -> None:
    told = op.get_bind().exec_driver_sql("select count(*) from execution.lot_identifications").scalar_one()
    if told:
        raise RuntimeError(f"{told} identified lots have no place before 0027; back them up and delete them first")
    op.execute("drop table execution.lot_identifications")
    # Reports are reckoned anew from the records.
    op.execute("delete from compliance.daily_reports where report = 'lot_identifications'")
    _allow(_REPORTS)


def _allow(reports: tuple[str, ...]) -> None:
    name = "daily_reports_report_check"
    op.execute(f"alter table compliance.daily_reports drop constraint {name}")
    op.execute(f"alter table compliance.daily_reports add constraint {name} check (report in {reports})")
