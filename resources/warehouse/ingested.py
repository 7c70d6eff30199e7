"""What of raw.bars was ingested in each week: keeping ``ops.ingested_weekly`` up to date, and the weeks with gaps.

Belongs here: refreshing and reading these counts. Does not: their definition (migrations), judging them
(octopus/warehouse).

Where TimescaleDB's licence has continuous aggregates it is one, and a refresh counts again only the weeks that rows
came for; elsewhere it is a materialised view, counted anew as a whole while it stays readable: the more there is the
longer it takes.
"""

from __future__ import annotations

import polars as pl

from resources.warehouse.connection import connect
from resources.warehouse.store import Warehouse


def refresh(url: str, *, whole: bool = True) -> None:
    """Count what was ingested since the last refresh, as the owner of the schema.

    Args:
        whole: also where that means to count all of history.
    """
    # Neither kind of refresh may run inside a transaction together with others.
    with connect(url, autocommit=True) as connection:
        row = connection.execute("select relkind = 'm' from pg_class where oid = 'ops.ingested_weekly'::regclass")
        (is_materialised_view,) = row.fetchone() or (False,)
        if is_materialised_view and not whole:
            return
        if is_materialised_view:
            connection.execute("refresh materialized view concurrently ops.ingested_weekly")
            # Without statistics the weeks are compared with the calendar row by row.
            connection.execute("analyze ops.ingested_weekly")
            connection.execute("analyze ops.sessions")
        else:
            connection.execute("call refresh_continuous_aggregate('ops.ingested_weekly', null, null)")


def weekly_gaps(warehouse: Warehouse, source: str) -> pl.DataFrame:
    """Weeks in which ``source`` has fewer sessions of an instrument than the exchange's calendar.

    From an instrument's first bar to its last, of instruments whose exchange has a calendar; as of the last refresh.

    Returns:
        Columns instrument, week (its Monday), sessions_due, sessions; by instrument and week.
    """
    return warehouse.read(
        """
        select instrument, week, sessions_due, sessions from ops.weekly_gaps
        where source = $1 order by instrument, week
        """,
        [source],
    )
