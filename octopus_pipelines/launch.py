"""Running jobs in this process, exactly as the daemon would run them.

Belongs here: executing a job of a code location with progress, and evaluating the execution sensor by hand. Does not:
what the user sees of it (cli/).
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType, EventLogEntry
from dagster_shared.error import SerializableErrorInfo

from resources.runtime.processes import PROCESS_TAG, is_gone, this_process

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Events go to Dagster's storage; the terminal shows progress instead."""

SENSOR_NAME_TAG = "dagster/sensor_name"
RUN_KEY_TAG = "dagster/run_key"


@dataclass(frozen=True)
class StepReport:
    """What one step did, as its events told it.

    Attributes:
        assets: how many assets it made. metadata: theirs; counts of several assets are added up.
    """

    name: str
    status: str
    seconds: float
    assets: int = 0
    metadata: Mapping[str, object] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class JobReport:
    """What one job run did."""

    run_id: str
    success: bool
    seconds: float
    steps: tuple[StepReport, ...]
    run_error: str | None = None

    @property
    def first_error(self) -> str | None:
        """The failure's own words, without a traceback; None when all went well."""
        if self.success:
            return None
        in_step = next((step.error for step in self.steps if step.error), None)
        return in_step or self.run_error or "the run failed before its first step; see it in Dagster"


class _Steps:
    """Collects step reports from the event stream and tells a listener of each start and end."""

    def __init__(self, on_start: Callable[[str], None], on_end: Callable[[StepReport], None]) -> None:
        self._on_start, self._on_end = on_start, on_end
        self._started: dict[str, float] = {}
        self._metadata: dict[str, dict[str, object]] = {}
        self._assets: Counter[str] = Counter()
        self.reports: list[StepReport] = []
        self.run_error: str | None = None

    def __call__(self, entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            return
        if event.event_type is DagsterEventType.RUN_FAILURE and event.job_failure_data.error is not None:
            self.run_error = innermost(event.job_failure_data.error)
        if event.step_key is None:
            return
        kind, step = event.event_type, event.step_key
        if kind is DagsterEventType.STEP_START:
            self._started[step] = time.monotonic()
            self._on_start(step)
        elif kind is DagsterEventType.ASSET_MATERIALIZATION:
            self._note(step, event)
        elif kind in (DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_SKIPPED):
            self._finish(step, kind, _failure_text(event) if kind is DagsterEventType.STEP_FAILURE else None)

    def _note(self, step: str, event: dg.DagsterEvent) -> None:
        self._assets[step] += 1
        known = self._metadata.setdefault(step, {})
        for name, told in event.step_materialization_data.materialization.metadata.items():
            before, value = known.get(name), told.value
            known[name] = value + before if type(value) is int and type(before) is int else value

    def _finish(self, step: str, kind: DagsterEventType, error: str | None) -> None:
        seconds = time.monotonic() - self._started.get(step, time.monotonic())
        status = {DagsterEventType.STEP_SUCCESS: "done", DagsterEventType.STEP_SKIPPED: "skipped"}.get(kind, "failed")
        report = StepReport(step, status, seconds, self._assets[step], self._metadata.get(step, {}), error)
        self.reports.append(report)
        self._on_end(report)


def execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    *,
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
    selection: list[dg.AssetKey] | None = None,
    on_start: Callable[[str], None] = lambda step: None,
    on_end: Callable[[StepReport], None] = lambda report: None,
    log: Path | None = None,
) -> JobReport:
    """Run ``job`` here and now; a failing step fails the run, never the caller.

    Args:
        log: file that takes what the steps print.
    """
    release_dead(instance)
    run_id = str(uuid.uuid4())
    steps = _Steps(on_start, on_end)
    instance.add_event_listener(run_id, steps)
    started = time.monotonic()
    # dbt and others print as they go; the terminal belongs to the progress.
    with (log or Path(os.devnull)).open("a", encoding="utf-8") as output, redirect_stdout(output):
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            partition_key=partition_key,
            tags={**(tags or {}), PROCESS_TAG: this_process()},
            asset_selection=selection,
            run_config=QUIET,
            raise_on_error=False,
        )
    return JobReport(run_id, result.success, time.monotonic() - started, tuple(steps.reports), steps.run_error)


def release_dead(instance: dg.DagsterInstance) -> None:
    """End runs of this machine whose process was killed, and give back the pool slots that they hold.

    Without a daemon nobody else would, and with one it takes hours: the next run would wait for a slot meanwhile.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        process = run.tags.get(PROCESS_TAG)
        if process is None or not is_gone(process):
            continue
        instance.report_run_failed(run, "its process was killed; what it had done is not done twice")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _failure_text(event: dg.DagsterEvent) -> str:
    """The innermost message: a `dagster.Failure`'s description, else the exception's own line."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    return innermost(data.error) if data.error is not None else "failed without a message"


def innermost(error: SerializableErrorInfo) -> str:
    """The message of what caused it first."""
    while error.cause is not None:
        error = error.cause
    # An error of ours is a sentence for the user: the class's path before it says nothing to him.
    return re.sub(r"^(octopus|resources|assets)[.\w]*: ", "", error.message.strip())
