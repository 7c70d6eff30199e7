"""Getting the house ready before a command works in it: server, schema, Dagster's home and dbt's manifest.

Belongs here: what several commands need first. Does not: the commands.
"""

from __future__ import annotations

import os

from octopus_pipelines import dbt_manifest
from resources.runtime import dagster_home
from resources.settings import Settings, load_settings
from resources.warehouse.migrate import migrate


def settings() -> Settings:
    """Settings as the files and variables are now."""
    return load_settings(os.environ)


def open_house() -> Settings:
    """Start the embedded server if it is ours, migrate, and prepare Dagster; all of it does nothing the second time."""
    current = settings()
    current.home.mkdir(parents=True, exist_ok=True)
    if current.embedded is not None:
        current.embedded.start()
    migrate(current.database_url)
    dagster_home.prepare(current)
    dbt_manifest.ensure()
    dagster_home.set_pools()
    return current
