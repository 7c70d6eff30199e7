"""The code location `execution`: intents, orders, fills, positions, reconciliation.

Belongs here: joining them with their sensor and resources. Does not: research; dbt and machine learning are not
loaded here.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from assets import execution
from octopus_pipelines.jobs import execution_jobs
from octopus_pipelines.sensors.execution import approved_batch
from resources import factories
from resources.warehouse.connection import Role


def build_defs(resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """The definitions of the location; a test swaps any resource by its key."""
    resources: dict[str, object] = {
        "warehouse": factories.warehouse_as(Role.TRADER),
        "trading": factories.lazily(factories.trading, "Broker, clock, gates and records of the account"),
    }
    return dg.Definitions(
        assets=list(execution.ASSETS),
        jobs=execution_jobs(),
        sensors=[approved_batch],
        resources={**resources, **(resource_overrides or {})},
        executor=dg.in_process_executor,
    )


defs = build_defs()
