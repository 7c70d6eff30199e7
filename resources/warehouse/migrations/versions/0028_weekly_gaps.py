"""Weeks with gaps, from the weeks of the calendar and no longer from each session of each instrument.

Joined by its range with every session there is, an instrument met thousands, and 5,000 instruments the whole calendar
thousands of times. Now it meets the weeks of its own time; only in its first and its last one sessions are counted.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_DESCRIBED = """
    create or replace view ops.weekly_gaps as
    with described as (
        select distinct on (source, instrument) source, instrument, exchange
        from raw.instruments
        order by source, instrument, ts desc, batch_id desc
    ),
    spans as {materialized} (
        select source, instrument, min(first_session) as first_session, max(last_session) as last_session
        from ops.ingested_weekly
        group by source, instrument
    ),
"""

_FOUND = """
    select due.source, due.instrument, due.week, due.sessions_due, coalesce(w.sessions, 0) as sessions
    from due
    left join ops.ingested_weekly w on w.source = due.source and w.instrument = due.instrument and {week}
    where coalesce(w.sessions, 0) < due.sessions_due
"""

_BY_WEEK = """
    weeks as materialized (
        select exchange, date_trunc('week', session::timestamp)::date as week, count(*) as sessions
        from ops.sessions
        where session >= (select date_trunc('week', min(first_session)::timestamp) from spans)
            and session < (select date_trunc('week', max(last_session)::timestamp) + interval '1 week' from spans)
        group by 1, 2
    ),
    own_weeks as (
        select s.source, s.instrument, w.week,
            case
                when w.week >= s.first_session and w.week + 6 <= s.last_session then w.sessions
                else (
                    select count(*) from ops.sessions c
                    where c.exchange = d.exchange
                        and c.session between greatest(w.week, s.first_session) and least(w.week + 6, s.last_session)
                )
            end as sessions_due
        from spans s
        join described d using (source, instrument)
        join weeks w on w.exchange = d.exchange and w.week between s.first_session - 6 and s.last_session
    ),
    due as materialized (
        select * from own_weeks where sessions_due > 0
    )
"""

_BY_SESSION = """
    due as (
        select
            s.source,
            s.instrument,
            date_trunc('week', c.session::timestamp)::date as week,
            count(*) as sessions_due
        from spans s
        join described d using (source, instrument)
        join ops.sessions c on c.exchange = d.exchange and c.session between s.first_session and s.last_session
        group by 1, 2, 3
    )
"""


def upgrade() -> None:
    # In the form of the index's last column: each week is looked up, and not all of the instrument's.
    op.execute(_view("materialized", _BY_WEEK, "w.week = due.week::timestamp at time zone 'UTC'"))


def downgrade() -> None:
    op.execute(_view("", _BY_SESSION, "(w.week at time zone 'UTC')::date = due.week"))


def _view(materialized: str, due: str, week: str) -> str:
    return _DESCRIBED.format(materialized=materialized) + due + _FOUND.format(week=week)
