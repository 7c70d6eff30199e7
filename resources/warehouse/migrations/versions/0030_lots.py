"""Lots that nobody told are unknown, no longer 1: a lot of an instrument's own is cut to.

Until now no lot was read, and vendors, who tell none, were said to tell 1. Rewritten in place, so that a description
that comes again as it was is no new version of it.
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table raw.instruments alter column lot_size drop default, alter column lot_size drop not null")
    op.execute("update raw.instruments set lot_size = null where lot_size = 1")


def downgrade() -> None:
    op.execute("update raw.instruments set lot_size = 1 where lot_size is null")
    op.execute("alter table raw.instruments alter column lot_size set default 1, alter column lot_size set not null")
