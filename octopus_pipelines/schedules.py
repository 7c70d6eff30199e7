"""The schedules: after the close of the exchange, by its calendar.

Belongs here: when the daily pipeline runs by itself. Does not: what it does.
"""

from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import dagster as dg

from assets.partitions import TIMEZONE
from octopus_pipelines.jobs import DAILY
from resources.factories import current_settings

AFTER_CLOSE = time(17, 0)
"""Exchange time: an hour after a normal close, when vendors have published the day's bar."""


def research_schedules() -> list[dg.ScheduleDefinition]:
    """Schedules of the research location."""
    return [daily_after_close]


@dg.schedule(
    job_name=DAILY,
    cron_schedule=f"{AFTER_CLOSE.minute} {AFTER_CLOSE.hour} * * 1-5",
    execution_timezone=TIMEZONE,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="The daily pipeline, an hour after the close of every session.",
)
def daily_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for today's session; holidays are skipped, and so is everything on recorded data."""
    settings = current_settings()
    if settings.recorded:
        return dg.SkipReason("the market data is a recording; use `octopus run`, or set OCTOPUS_MARKET_DATA=yahoo")
    today = session_date(context.scheduled_execution_time)
    if not settings.sessions.is_session(today):
        return dg.SkipReason(f"{today} is no session of {settings.sessions.exchange}")
    return dg.RunRequest(run_key=f"daily:{today}", partition_key=today.isoformat())


def session_date(instant: datetime) -> date:
    """The exchange-local date of an instant."""
    return instant.astimezone(ZoneInfo(TIMEZONE)).date()
