"""The schedules: after the close of the exchange, by its calendar.

Belongs here: when the daily pipeline runs by itself. Does not: what it does.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from assets.partitions import CLOCK
from octopus.core.cadence import AFTER_CLOSE, AFTER_DAILY, BEFORE_DAILY, normal_tick
from octopus.core.sessions import Sessions
from octopus_pipelines.jobs import BOOK, DAILY, INTRADAY, RECONCILE
from resources.factories import current_settings
from resources.settings import Settings
from resources.trading import has_books
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

_DAY = timedelta(days=1)


def research_schedules() -> list[dg.ScheduleDefinition]:
    """Schedules of the research location."""
    return [daily_after_close, intraday_after_close]


def execution_schedules() -> list[dg.ScheduleDefinition]:
    """Schedules of the execution location."""
    return [books_before_daily, daily_reconciliation]


def due_comparison(settings: Settings, tick: datetime) -> dg.RunRequest | dg.SkipReason:
    """The run that compares the books after the session that ended before ``tick``, unless a batch's run does it."""
    session = _booked_session(settings, tick)
    if isinstance(session, dg.SkipReason):
        return session
    decided = settings.sessions.previous(session)
    if Warehouse(settings.database_url, Role.TRADER).scalar(_IS_BEGUN, [settings.account, decided]):
        return dg.SkipReason(f"the batch decided on {decided} was begun: its own run compares the books")
    return dg.RunRequest(run_key=f"reconcile:{session}", partition_key=decided.isoformat())


def due_booking(settings: Settings, tick: datetime) -> dg.RunRequest | dg.SkipReason:
    """The run that books what the broker tells before the session that ended before ``tick`` is planned."""
    session = _booked_session(settings, tick)
    return session if isinstance(session, dg.SkipReason) else dg.RunRequest(run_key=f"{BOOK}:{session}")


def _booked_session(settings: Settings, tick: datetime) -> date | dg.SkipReason:
    """The session that ended before ``tick``, where the account has books to keep."""
    if settings.recorded:
        return dg.SkipReason("the market data is a recording: `octopus run` keeps the books of its sessions")
    session = due_session(settings.sessions, tick)
    if session is None:
        return dg.SkipReason(f"no session of {settings.universe.exchange} ended in the day before {tick}")
    if not has_books(settings):
        return dg.SkipReason(f"nothing is booked in account {settings.account}: there is no book to compare")
    return session


_IS_BEGUN = """
    select exists (select from portfolio.batches b join execution.order_intents i using (batch_id)
                   where b.account = %s and b.session = %s)
"""


def after_close(clock: Sessions, delay: timedelta = AFTER_CLOSE) -> str:
    """Cron expression, in the exchange's zone, of ``delay`` after a normal close: ``0 17 * * 1-5`` of XNYS.

    Where a session ends with its day (24/7, 24/5), that is the next day: ``0 1 * * *``.
    """
    normal, tick = normal_tick(clock, delay)
    days = "1-5" if tick.date() == normal else "2-6"
    return f"{tick.minute} {tick.hour} * * {'*' if clock.on_weekends else days}"


def due_session(clock: Sessions, tick: datetime) -> date | None:
    """The session that was decided since the tick a day before; None on a holiday."""
    session = clock.last_decided(tick)
    # In local time: a day on which the clocks change is still one day.
    before = (tick.astimezone(ZoneInfo(clock.timezone)) - _DAY).astimezone(UTC)
    return session if clock.decision_utc(session) > before else None


@dg.schedule(
    job_name=DAILY,
    cron_schedule=after_close(CLOCK),
    execution_timezone=CLOCK.timezone,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="The daily pipeline, an hour after the close of every session.",
)
def daily_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for the session that has closed; holidays are skipped, and so is everything on recorded data."""
    return _run_of_the_session(current_settings(), DAILY, context.scheduled_execution_time)


@dg.schedule(
    job_name=INTRADAY,
    cron_schedule=after_close(CLOCK, AFTER_DAILY),
    execution_timezone=CLOCK.timezone,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Bars within the day, two hours after the close of every session.",
)
def intraday_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """As `daily_after_close`, where a source of bars within the day is named."""
    settings = current_settings()
    if settings.intraday.source is None:
        return dg.SkipReason("nobody is asked for bars within the day: name a source in intraday.source")
    return _run_of_the_session(settings, INTRADAY, context.scheduled_execution_time)


@dg.schedule(
    job_name=BOOK,
    cron_schedule=after_close(CLOCK, BEFORE_DAILY),
    execution_timezone=CLOCK.timezone,
    # As for the comparison below: it sends nothing.
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="What the broker tells of flows, booked before the daily run plans with the broker's account.",
)
def books_before_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run a quarter of an hour before the daily run; an account of which nothing is booked is skipped, and so is
    everything on recorded data, where `octopus run` does it."""
    return due_booking(current_settings(), context.scheduled_execution_time)


@dg.schedule(
    job_name=RECONCILE,
    cron_schedule=after_close(CLOCK, AFTER_DAILY),
    execution_timezone=CLOCK.timezone,
    # It sends nothing, and an account that holds something wants its NAV and its comparison on every session.
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Our book against the broker's and the day's NAV, after every session in which no batch was executed.",
)
def daily_reconciliation(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for a session without a batch, once the daily run has brought its bars; an account of which nothing is
    booked is skipped, and so is everything on recorded data."""
    return due_comparison(current_settings(), context.scheduled_execution_time)


def _run_of_the_session(settings: Settings, job: str, tick: datetime) -> dg.RunRequest | dg.SkipReason:
    """The run of ``job`` for the session that has closed before ``tick``, or why there is none."""
    if settings.recorded:
        return dg.SkipReason("the market data is a recording; use `octopus run`, or set OCTOPUS_MARKET_DATA=yahoo")
    if settings.sessions != CLOCK:
        return dg.SkipReason(
            f"universe.exchange is {settings.universe.exchange}, but the location was loaded with {CLOCK.exchange}: "
            "reload it"
        )
    session = due_session(CLOCK, tick)
    if session is None:
        day = tick.astimezone(ZoneInfo(CLOCK.timezone)).date()
        return dg.SkipReason(f"{day} is no session of {CLOCK.exchange}")
    return dg.RunRequest(run_key=f"{job}:{session}", partition_key=session.isoformat())
