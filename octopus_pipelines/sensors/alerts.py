"""The sensors that tell people: one hears of failed runs, one reads what happened since it last looked.

Belongs here: calling resources/alerts when Dagster says so. Does not: what is told (octopus/alerts). A dead daemon
evaluates no sensor: `octopus watchdog` is for that.
"""

import os
from datetime import UTC, datetime

import dagster as dg

from octopus.alerts.alert import Alert, Kind
from resources import factories
from resources.alerts.house import AlertHouse

_SHOWN = 300


def alert_sensors(*, running: bool) -> list[dg.SensorDefinition]:
    """The sensors; ``running``: switched on from the start."""
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name="failed_run", monitor_all_code_locations=True, default_status=status,
        description="Tells of every run that failed, in either code location.",
    )  # fmt: skip
    def failed_run(context: dg.RunFailureSensorContext) -> None:
        house = AlertHouse.of(factories.current_settings(), os.environ)
        house.tell(failure(context.dagster_run, context.failure_event.message or ""))

    @dg.sensor(
        name="alerts", minimum_interval_seconds=30, default_status=status,
        description="Tells of denials, halts, breaks, unknown, late and unsent orders, stale data and missed runs.",
    )  # fmt: skip
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        house = AlertHouse.of(factories.current_settings(), os.environ)
        found, told = house.look()
        failing = "; ".join(f"{channel} takes none: {why}" for channel, why in told.failing.items())
        return dg.SkipReason(
            f"{len(found)} states amiss, {told.sent} alerts sent" + (f"; {failing}" if failing else "")
        )

    return [failed_run, alerts]


def failure(run: dg.DagsterRun, message: str) -> Alert:
    """The alert of a failed run."""
    session = run.tags.get("dagster/partition", "no session")
    first = message.strip().splitlines()[0][:_SHOWN] if message.strip() else "no reason was recorded"
    happened = f"run {run.run_id} of {run.job_name} ({session}) failed: {first}"
    return Alert(Kind.FAILED_RUN, run.job_name, happened, datetime.now(UTC), f"failed_run:{run.run_id}")
