"""Dagster's home: its dagster.yaml and the environment that every Dagster process of ours runs in.

Belongs here: instance configuration. Does not: definitions (octopus_pipelines).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import yaml

from resources.settings import MARKET_DATA, NEWS, SOCIAL, Settings
from resources.warehouse.connection import sqlalchemy_url

if TYPE_CHECKING:
    from dagster import DagsterInstance

BROKER_POOL = "broker"
"""Pool of everything that speaks to a broker: one run at a time."""
SOURCE_POOLS = tuple(dict.fromkeys((*MARKET_DATA, *NEWS, *SOCIAL)))
"""A pool for each vendor, whatever it is asked for: its bars and its news are asked for by one run at a time, and raw
tables have one writer per source."""

MAX_RUNTIME_SECONDS = 4 * 3600
"""A run that works for longer than this hangs, and Dagster ends it; what it waits for a session is counted beside it
(octopus_pipelines/jobs.py)."""
_CONNECTIONS = 20
"""Of one storage at once, above the one that is kept: as many as Dagster's webserver allows itself."""

EXECUTION_SENSOR = "OCTOPUS_EXECUTION_SENSOR"
"""Set to ``on`` by `octopus up` where the settings or its user say that approved batches are executed by themselves."""

INGESTION_SENSOR = "OCTOPUS_INGESTION_SENSOR"
"""Set to ``on`` by `octopus up`: an ingestion that was cut short is gone on with."""

ALERT_SENSORS = "OCTOPUS_ALERT_SENSORS"
"""Set to ``on`` by `octopus up`: alerts are recorded, and sent where a channel is configured."""


def environment(settings: Settings) -> dict[str, str]:
    """Variables for every process: where Dagster's home and databases are, and no telemetry from anything."""
    return {
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "OCTOPUS_HOME": str(settings.home),
        "OCTOPUS_DAGSTER_STORAGE_URL": sqlalchemy_url(settings.dagster_url),
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_TRACKING_URI": sqlalchemy_url(settings.mlflow_url),
        "PYTHONUNBUFFERED": "1",
        # Threads of OpenMP that wait for each other let go of the processor: on a machine that does something else,
        # too, training takes up to a hundred times longer where they spin.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),  # noqa: PTH120
    }


def instance_configuration() -> Mapping[str, object]:
    """The content of dagster.yaml; addresses come from the environment, so that no secret is written to a file."""
    return {
        "storage": {"postgres": {"postgres_url": {"env": "OCTOPUS_DAGSTER_STORAGE_URL"}}},
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "run_monitoring": {
            "enabled": True,
            # A killed worker would keep its pool slot, and the broker's pool has only one.
            "free_slots_after_run_end_seconds": 60,
            "max_runtime_seconds": MAX_RUNTIME_SECONDS,
        },
        "concurrency": {"pools": {"granularity": "op"}},
        "retention": {"schedule": {"purge_after_days": 90}, "sensor": {"purge_after_days": {"skipped": 7}}},
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": {"env": "DAGSTER_HOME"}},
        },
    }


def prepare(settings: Settings) -> None:
    """Write dagster.yaml and set the environment of this process; the instance can be used afterwards."""
    variables = environment(settings)
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_dump(dict(instance_configuration()), sort_keys=False)
    path = folder / "dagster.yaml"
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
    os.environ.update(variables)


@contextmanager
def opened() -> Iterator[DagsterInstance]:
    """Dagster's instance for what runs in this process: it keeps its connections.

    Of itself Dagster opens one for each statement, a thousand in a run: the server spends more on opening them than on
    the statements.
    """
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(
            statement_timeout=1000 * MAX_RUNTIME_SECONDS, pool_recycle=MAX_RUNTIME_SECONDS, max_overflow=_CONNECTIONS
        )
        yield instance


def set_pools() -> None:
    """Give the pools of the broker and of the sources their single slot: they are unlimited unless told otherwise."""
    with opened() as instance:
        for pool in (BROKER_POOL, *SOURCE_POOLS):
            instance.event_log_storage.set_concurrency_slots(pool, 1)
