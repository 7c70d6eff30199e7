"""`octopus run`: the daily pipeline of one session or of several, with progress and a summary.

Belongs here: which sessions run, in which order, and what is printed meanwhile. Does not: the jobs
(octopus_pipelines/jobs.py) and what the summary says (cli/summary.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from octopus.core.errors import ConfigError, OctopusError
from octopus_pipelines.cli import house
from resources.settings import Settings
from resources.sources.sample import RECORDED_TO

if TYPE_CHECKING:
    import dagster as dg

    from octopus_pipelines.launch import JobReport, StepReport

SAMPLE_DECISION_DAY = date(2022, 12, 27)
"""The recording ends on 2022-12-28: what is decided the day before can still be executed."""


class RunFailedError(OctopusError):
    """A step failed; the message is the step's own, and says what to do next."""


@dataclass
class Progress:
    """Prints one line for each step as it ends."""

    console: Console
    steps: list[StepReport] = field(default_factory=list)

    def started(self, step: str) -> None:
        if self.console.is_terminal:
            self.console.print(f"  … {_plain(step)}", end="\r", style="dim")

    def ended(self, report: StepReport) -> None:
        self.steps.append(report)
        mark = {"done": "[green]✓[/green]", "skipped": "[dim]-[/dim]"}.get(report.status, "[red]✗[/red]")
        took = f"{_plain(report.name):<34}{report.seconds:7.1f} s "
        self.console.print(house.marked(f"  {mark}"), took, Text(_headline(report), style="dim"))


@click.command()
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Decision session; default: the latest one.")
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="First of several sessions, with --to.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last of several sessions.")
def run(as_of: datetime | None, first: datetime | None, last: datetime | None) -> None:
    """Run the daily pipeline: data, research, risk, compliance, paper orders, reconciliation."""
    sessions = wanted_sessions(house.settings(), as_of, first, last)
    console = house.new_console()
    console.print(house.marked("[bold]Octopus[/bold] · opening the house: database, schema, Dagster, dbt ..."))
    opened = time.monotonic()
    settings = house.open_house()
    console.print(f"  ready in {time.monotonic() - opened:.1f} s · {settings.universe.market_data} · {settings.home}")
    from octopus_pipelines.cli.summary import print_summary

    outcome = run_sessions(settings, sessions, console)
    print_summary(console, settings, outcome)
    if outcome.failure:
        raise RunFailedError(f"{outcome.failure}; mend it and run `octopus run` again, what is done is not done twice")


def wanted_sessions(
    settings: Settings, as_of: datetime | None, first: datetime | None, last: datetime | None
) -> list[date]:
    """The sessions to run, in order.

    Raises:
        ConfigError: a day is no session, or the options contradict each other.
    """
    calendar = settings.sessions
    latest = RECORDED_TO if settings.recorded else calendar.last_decided(datetime.now(UTC))
    if (first is None) != (last is None) or (as_of and first):
        raise ConfigError(
            where="octopus run", field="--as-of/--from/--to", value="mixed",
            remedy="give --as-of alone, or --from and --to together",
        )  # fmt: skip
    if first is not None and last is not None:
        days = [day.astype(object) for day in calendar.between(first.date(), last.date())]
        if not days:
            raise ConfigError(
                where="octopus run", field="--from/--to", value=f"{first:%Y-%m-%d}..{last:%Y-%m-%d}",
                remedy=f"no session of {calendar.exchange} lies between them; widen the range",
            )  # fmt: skip
        return [_not_after(day, latest, "--to") for day in days]
    if as_of is None:
        return [SAMPLE_DECISION_DAY if settings.recorded else latest]
    if not calendar.is_session(as_of.date()):
        raise ConfigError(
            where="octopus run", field="--as-of", value=f"{as_of:%Y-%m-%d}",
            remedy=f"that is no session of {calendar.exchange}; the one before it is "
            f"{calendar.previous(as_of.date())}",
        )  # fmt: skip
    return [_not_after(as_of.date(), latest, "--as-of")]


def _not_after(day: date, latest: date, option: str) -> date:
    if day > latest:
        raise ConfigError(
            where="octopus run", field=option, value=str(day),
            remedy=f"the last session that can be decided is {latest}: the recording ends there, or the market has not "
            "closed since",
        )  # fmt: skip
    return day


@dataclass
class Outcome:
    """What `octopus run` did.

    Attributes:
        changed: tables whose content differs from before; empty when everything was there already.
        traded: the sessions whose batch was executed in this run.
    """

    sessions: list[date]
    seconds: float = 0.0
    research: list[JobReport] = field(default_factory=list)
    execution: list[JobReport] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failure: str | None = None

    @property
    def reports(self) -> list[JobReport]:
        return [*self.research, *self.execution]


def run_sessions(settings: Settings, sessions: Sequence[date], console: Console) -> Outcome:
    """Run each session's research, then let the sensor decide about its orders."""
    from octopus_pipelines import execution, research
    from octopus_pipelines.diary import finish_run, start_run
    from octopus_pipelines.jobs import DAILY
    from octopus_pipelines.launch import execute
    from octopus_pipelines.overview import changed, checksums
    from resources.runtime import dagster_home
    from resources.trading import has_books, open_paper_account
    from resources.warehouse.connection import Role
    from resources.warehouse.store import Warehouse

    open_paper_account(settings)
    owner = Warehouse(settings.database_url, Role.OWNER)
    before = checksums(owner)
    started = time.monotonic()
    outcome = Outcome(list(sessions))
    progress = Progress(console)
    log = settings.home / "logs" / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    daily = research.defs.resolve_job_def(DAILY)
    with dagster_home.opened() as instance:
        for number, session in enumerate(sessions, start=1):
            console.print(house.marked(f"\n[bold]{session}[/bold] ({number} of {len(sessions)})"))
            current = begin(settings, session)
            if current and has_books(settings):
                _book_flows(instance, execution.defs, progress, outcome, log)
            diary = start_run(owner, session)
            report = execute(
                daily, instance, partition_key=session.isoformat(), log=log,
                on_start=progress.started, on_end=progress.ended,
                selection=_selection(daily, is_last=session == sessions[-1]),
            )  # fmt: skip
            outcome.research.append(report)
            outcome.failure = report.first_error
            if outcome.failure is None and current:
                _execute_orders(instance, execution.defs, progress, outcome, log)
            elif outcome.failure is None:
                outcome.skipped.append(f"{session}: the clock is past this session, so it cannot trade")
            finish_run(owner, diary, failed=outcome.failure is not None)
            if outcome.failure is not None:
                break
    outcome.seconds = time.monotonic() - started
    outcome.changed = changed(before, checksums(owner))
    return outcome


def begin(settings: Settings, session: date) -> bool:
    """Move the replay clock to the decision of ``session``; False when it is past that session already."""
    from resources.clock import ReplayClock
    from resources.factories import trading_clock

    clock = trading_clock(settings)
    if isinstance(clock, ReplayClock):
        return clock.begin_session(session)
    return session == settings.sessions.last_decided(clock.now())


def _selection(job: dg.JobDefinition, *, is_last: bool) -> list[dg.AssetKey] | None:
    """The published backtest is made once, for the last of several sessions."""
    from assets import keys

    if is_last:
        return None
    return [key for key in job.asset_layer.executable_asset_keys if key != keys.BACKTEST_RUNS]


def _book_flows(
    instance: dg.DagsterInstance, defs: dg.Definitions, progress: Progress, outcome: Outcome, log: Path
) -> None:
    """Book what the broker tells of flows before research plans with its account, which has them already.

    Where that fails, its own line says so, and research goes on: a plan from flows that nobody booked may be denied.
    """
    from octopus_pipelines.jobs import BOOK
    from octopus_pipelines.launch import execute

    outcome.execution.append(
        execute(defs.resolve_job_def(BOOK), instance, on_start=progress.started, on_end=progress.ended, log=log)
    )


def _execute_orders(
    instance: dg.DagsterInstance, defs: dg.Definitions, progress: Progress, outcome: Outcome, log: Path
) -> None:
    """Evaluate the very sensor that the daemon evaluates, and run what it asks for under its name and run key."""
    import dagster as dg

    from octopus_pipelines.jobs import EXECUTE
    from octopus_pipelines.launch import RUN_KEY_TAG, SENSOR_NAME_TAG, execute
    from octopus_pipelines.sensors.execution import execution_sensor

    sensor = execution_sensor(running=False)
    tick = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, sensor_name=sensor.name, definitions=defs))
    if tick.skip_message:
        outcome.skipped.append(tick.skip_message)
    for request in tick.run_requests or ():
        tags = {**request.tags, SENSOR_NAME_TAG: sensor.name, RUN_KEY_TAG: str(request.run_key)}
        report = execute(
            defs.resolve_job_def(EXECUTE), instance, partition_key=request.partition_key, tags=tags,
            on_start=progress.started, on_end=progress.ended, log=log,
        )  # fmt: skip
        outcome.execution.append(report)
        outcome.failure = outcome.failure or report.first_error


def _plain(step: str) -> str:
    return step.replace("__", ".")


_HEADLINES = ("rows_new", "rows_restated", "rows_quarantined", "findings", "orders", "fills", "denied", "model")


def _headline(report: StepReport) -> str:
    """The few figures of a step that a person wants to see while it runs."""
    if report.error:
        return report.error
    shown = [f"{report.assets} tables"] if report.assets > 1 else []
    for name in _HEADLINES:
        value: Any = report.metadata.get(name)
        if value not in (None, 0, "none"):
            shown.append(f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name} {value}")
    return ", ".join(shown)
