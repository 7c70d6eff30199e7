"""The sensor that goes on with an ingestion that was cut short: by a spent budget, a vendor's wait, an outage, a kill.

Belongs here: which runs ended before their source was asked for all of it, when it may be asked again, and one run for
what is left. Does not: what is missing of a source (octopus/market_data/coverage.py, which that run asks), sources of
texts: no decision waits for them, and the next session's run asks from where they last answered.

Only the latest decided session is gone on with: its run asks for all that earlier ones left, and no decision of the
past is made by itself. Each run that was cut short has one successor at most, under a run key of its own; the longer
they fail, the longer is the wait between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster import DagsterEventType

from assets import keys
from assets.partitions import CLOCK
from assets.reporting import RETRY_AT, STOPPED_BY
from octopus_pipelines.jobs import COMPARE, DAILY, INGEST, INTRADAY
from octopus_pipelines.launch import innermost, release_dead
from resources import factories
from resources.collection import Stop
from resources.settings import Settings
from resources.warehouse import coverage
from resources.warehouse.budgets import SourceBudget, limits_of
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

JOBS = (DAILY, INGEST, COMPARE, INTRADAY)
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=5), timedelta(hours=4)
"""From a run's end to its successor at least; where nobody told how long, it doubles from run to run."""

_PARTITION_TAG = "dagster/partition"
_GOES_ON_TAG = "octopus/goes_on_from"
_RUNS_SEEN = 100


@dataclass(frozen=True)
class Ingestion:
    """What a source is asked for with each session.

    Attributes:
        asset: what its step makes. jobs: those that have this step.
    """

    source: str
    asset: dg.AssetKey
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class Cut:
    """How a run ended before its source was asked for all of it.

    Attributes:
        stop: None: it was killed. told_at: when it is worth going on, where somebody tells. why: in its own words.
    """

    stop: Stop | None
    told_at: datetime | None
    why: str


def ingestion_sensor(jobs: Sequence[dg.UnresolvedAssetJobDefinition], *, running: bool) -> dg.SensorDefinition:
    """The sensor; ``running``: switched on from the start, else a person switches it on in Dagster."""
    return dg.SensorDefinition(
        name="cut_short_ingestion",
        evaluation_fn=cut_short_ingestion,
        jobs=[job for job in jobs if job.name in JOBS],
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Goes on with the latest session's ingestion that was cut short, once the source may be asked.",
    )


def cut_short_ingestion(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """One run for each source whose ingestion was cut short and that may be asked again; why there is none."""
    repository = context.repository_def
    if repository is None:
        return dg.SkipReason("it was evaluated outside of its code location, whose jobs it asks for")
    return next_ingestions(factories.current_settings(), context.instance, repository, datetime.now(UTC))


def next_ingestions(
    settings: Settings, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, now: datetime
) -> list[dg.RunRequest] | dg.SkipReason:
    """What the sensor asks for at ``now``."""
    if settings.recorded:
        return dg.SkipReason("the market data is a recording: it is always there whole")
    if settings.sessions != CLOCK:
        return dg.SkipReason(f"the location was loaded with {CLOCK.exchange}, not {settings.universe.exchange}: reload")
    release_dead(instance)
    session = settings.sessions.last_decided(now)
    answers = [_next(one, session, settings, instance, repository, now) for one in ingestions(settings)]
    requests = [answer for answer in answers if isinstance(answer, dg.RunRequest)]
    return requests or dg.SkipReason("; ".join(answer for answer in answers if isinstance(answer, str)))


def ingestions(settings: Settings) -> list[Ingestion]:
    """Everything that sources of market data are asked for with each session."""
    universe, within_the_day = settings.universe, settings.intraday.source
    compared = [name for name in universe.compare_with if name in keys.COMPARED and name != universe.market_data]
    return [
        Ingestion(universe.market_data, keys.BARS, (DAILY, INGEST)),
        *(Ingestion(name, keys.compared_bars(name), (COMPARE,)) for name in compared),
        *([] if within_the_day is None else [Ingestion(within_the_day, keys.INTRADAY_BARS, (INTRADAY,))]),
    ]


def _next(
    ingestion: Ingestion, session: date, settings: Settings, instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition, now: datetime,
) -> dg.RunRequest | str:  # fmt: skip
    """The run that goes on with one ingestion of ``session``, or why there is none."""
    what = f"{ingestion.source} {session} ({ingestion.jobs[0]})"
    runs = _runs(ingestion, session, instance)
    active = next((record.dagster_run for record in runs if not record.dagster_run.is_finished), None)
    if active is not None:
        return f"{what}: run {active.run_id} is at it"
    if not runs or runs[0].dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return f"{what}: " + (_ended(runs[0].dagster_run) if runs else "no run was begun")
    run = runs[0].dagster_run
    cut = _cut(instance, run.run_id, repository.assets_defs_by_key[ingestion.asset].op.name)
    if cut is None:
        return f"{what}: complete; what run {run.run_id} failed of came later"
    if cut.stop is Stop.MISTAKE:
        return f"{what}: run {run.run_id} failed of what a person has to mend: {cut.why}"
    fruitless = sum(record.dagster_run.status is dg.DagsterRunStatus.FAILURE for record in runs)
    due = due_again(cut, datetime.fromtimestamp(runs[0].end_time or now.timestamp(), UTC), fruitless)
    if now < due:
        return f"{what}: {_left(ingestion, session, settings)}; goes on after {due:%Y-%m-%d %H:%M:%S} UTC: {cut.why}"
    budget = SourceBudget(
        settings.database_url, ingestion.source, limits_of(ingestion.source, settings.request_limits), now=lambda: now
    )
    if (refusal := budget.refusal()) is not None:
        return (
            f"{what}: {_left(ingestion, session, settings)}; its budget of {refusal.requests} requests is spent until "
            f"{refusal.resets_at:%Y-%m-%d %H:%M:%S} UTC"
        )
    return dg.RunRequest(
        run_key=f"{ingestion.source}:{run.job_name}:{session}:{run.run_id}",
        job_name=run.job_name,
        partition_key=session.isoformat(),
        tags={_GOES_ON_TAG: run.run_id},
        asset_selection=_unmade(ingestion, runs, settings, instance, repository),
    )


def due_again(cut: Cut, ended: datetime, fruitless: int) -> datetime:
    """From when on a run that was cut short is gone on with.

    Args:
        ended: when it ended. fruitless: how many runs of the session have failed, that one included.
    """
    if cut.stop is Stop.WAIT and cut.told_at is not None:
        return max(cut.told_at, ended + FIRST_WAIT)
    # What we may ask is asked of the budget itself: it may have been raised since, or spent by somebody else.
    doubled = 1 if cut.stop is Stop.BUDGET else 2 ** min(fruitless - 1, 10)
    return ended + min(FIRST_WAIT * doubled, LONGEST_WAIT)


def _runs(ingestion: Ingestion, session: date, instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """The runs of the session that have the ingestion's step, the latest first."""
    found = [
        record
        for job in ingestion.jobs
        for record in instance.get_run_records(
            dg.RunsFilter(job_name=job, tags={_PARTITION_TAG: session.isoformat()}), limit=_RUNS_SEEN
        )
        if ingestion.asset in (record.dagster_run.asset_selection or {ingestion.asset})  # empty: all of the job
    ]
    return sorted(found, key=lambda record: record.create_timestamp, reverse=True)


def _ended(run: dg.DagsterRun) -> str:
    return "complete" if run.is_success else f"run {run.run_id} was ended by a person"


def _cut(instance: dg.DagsterInstance, run_id: str, step: str) -> Cut | None:
    """How a failed run ended before ``step`` had succeeded; None where it had."""
    told = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}
    of_run: dg.DagsterEvent | None = None
    for record in instance.get_records_for_run(run_id, of_type=told).records:
        event = record.event_log_entry.get_dagster_event()
        if event.event_type is DagsterEventType.RUN_FAILURE:
            of_run = event
        elif event.step_key == step:
            return None if event.event_type is DagsterEventType.STEP_SUCCESS else _failure(event)
    # A run that was reported dead carries no error of its own; one that could not begin, for want of a key, does.
    if of_run is not None and of_run.event_specific_data is not None and of_run.job_failure_data.error is not None:
        return Cut(Stop.MISTAKE, None, innermost(of_run.job_failure_data.error))
    return Cut(None, None, (of_run.message if of_run else None) or "it was killed")


def _failure(event: dg.DagsterEvent) -> Cut:
    data = event.step_failure_data
    told = data.user_failure_data
    if told is None or STOPPED_BY not in told.metadata:
        message = innermost(data.error) if data.error else "it says no reason"
        return Cut(Stop.MISTAKE, None, (told.description if told else None) or message)
    at = told.metadata.get(RETRY_AT)
    return Cut(
        Stop(str(told.metadata[STOPPED_BY].value)),
        None if at is None else datetime.fromisoformat(str(at.value)),
        str(told.description),
    )


def _unmade(
    ingestion: Ingestion, runs: Sequence[dg.RunRecord], settings: Settings, instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
) -> list[dg.AssetKey]:  # fmt: skip
    """Of what the run that was cut short was to make: the ingestion, what follows from it, and what was not made.

    Other sources' ingestions are gone on with by themselves.
    """
    run = runs[0].dagster_run
    job = repository.get_job(run.job_name)
    node = repository.assets_defs_by_key[ingestion.asset]
    following = dg.AssetSelection.assets(*node.keys).downstream().resolve(repository.asset_graph)
    succeeded: set[str] = set()
    for record in runs:
        if record.dagster_run.job_name == run.job_name:
            succeeded |= _succeeded(instance, record.dagster_run.run_id)
    wanted = set(job.asset_layer.executable_asset_keys)
    made = {key for key in wanted if repository.assets_defs_by_key[key].op.name in succeeded}
    others = {one.asset for one in ingestions(settings)} - {ingestion.asset}
    return sorted(wanted & _selected(runs, run, wanted) - (made - following) - others)


def _selected(runs: Sequence[dg.RunRecord], run: dg.DagsterRun, wanted: set[dg.AssetKey]) -> set[dg.AssetKey]:
    """What was to be made in the end: a run that goes on was itself asked for what was left."""
    if not run.asset_selection:
        return wanted
    before = next((one.dagster_run for one in runs if one.dagster_run.run_id == run.tags.get(_GOES_ON_TAG)), None)
    return set(run.asset_selection) if before is None else _selected(runs, before, wanted)


def _succeeded(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    """The steps that succeeded in the run, whether or not they had anything to make."""
    records = instance.get_records_for_run(run_id, of_type=DagsterEventType.STEP_SUCCESS).records
    return {str(record.event_log_entry.get_dagster_event().step_key) for record in records}


def _left(ingestion: Ingestion, session: date, settings: Settings) -> str:
    """How far the ingestion has come."""
    if ingestion.asset == keys.INTRADAY_BARS:
        return "cut short"
    warehouse = Warehouse(settings.database_url, Role.RESEARCH)
    come = coverage.asked_up_to(warehouse, ingestion.source, session, settings.watched)
    return f"{come} of {len(settings.watched)} instruments were asked for up to it"
