"""The code location `execution`: intents, orders, fills, positions, reconciliation, and what compliance asks after.

Belongs here: joining them with their sensors, schedule and resources. Does not: research; dbt and machine learning are
not loaded here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import dagster as dg

from assets import compliance, execution
from assets.partitions import CLOCK
from octopus_pipelines.jobs import execution_jobs
from octopus_pipelines.schedules import execution_schedules
from octopus_pipelines.sensors.alerts import alert_sensors
from octopus_pipelines.sensors.execution import execution_sensor
from resources import factories
from resources.runtime.dagster_home import ALERT_SENSORS, EXECUTION_SENSOR
from resources.warehouse.connection import Role


def build_defs(
    resource_overrides: Mapping[str, object] | None = None, *, executes: bool = False, alerts: bool = False
) -> dg.Definitions:
    """The definitions of the location; a test swaps any resource by its key.

    Args:
        executes: the sensor that executes approved batches starts switched on.
        alerts: the sensors that tell people start switched on.
    """
    resources: dict[str, object] = {
        "warehouse": factories.warehouse_as(Role.TRADER),
        "trading": factories.lazily(factories.trading, "Broker, clock, gates and records of the account"),
    }
    return dg.Definitions(
        assets=[execution.entries, *execution.ASSETS, *compliance.POSTTRADE_ASSETS],
        jobs=execution_jobs(CLOCK),
        schedules=execution_schedules(),
        sensors=[execution_sensor(running=executes), *alert_sensors(running=alerts)],
        resources={**resources, **(resource_overrides or {})},
        executor=dg.in_process_executor,
    )


defs = build_defs(executes=os.environ.get(EXECUTION_SENSOR) == "on", alerts=os.environ.get(ALERT_SENSORS) == "on")
