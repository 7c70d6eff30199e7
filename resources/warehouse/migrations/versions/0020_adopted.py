"""What an account held before we traded it, adopted into our book with what it had cost."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_KINDS = ("deposit", "withdrawal", "dividend", "split", "manual", "symbol_change", "spin_off", "delisting", "charge")


def upgrade() -> None:
    _allow((*_KINDS, "adopted"))
    op.execute(
        "alter table execution.entries add column basis numeric(28, 8), "
        "add constraint entries_basis_check check ((basis is not null) = (kind = 'adopted' and instrument is not null))"
    )


def downgrade() -> None:
    count = op.get_bind().exec_driver_sql("select count(*) from execution.entries where kind = 'adopted'").scalar_one()
    if count:
        raise RuntimeError(f"{count} adopted holdings have no place before 0020; back them up and delete them first")
    op.execute("alter table execution.entries drop column basis")
    _allow(_KINDS)


def _allow(kinds: tuple[str, ...]) -> None:
    op.execute("alter table execution.entries drop constraint entries_kind_check")
    op.execute(f"alter table execution.entries add constraint entries_kind_check check (kind in {kinds})")
