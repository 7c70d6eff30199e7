"""Getting the house ready before a command works in it: server, schema, Dagster's home and dbt's manifest.

Belongs here: what several commands need first. Does not: the commands.
"""

from __future__ import annotations

import os
import sys

import click
from rich.console import Console
from rich.text import Text

from octopus_pipelines import dbt_manifest
from resources.agreement import likely_misspelt
from resources.reference_files import doubtful_rows
from resources.runtime import dagster_home
from resources.settings import Settings, load_settings
from resources.warehouse.connection import dbt_environment
from resources.warehouse.migrate import migrate, require_current_schema, revision_of

LOG_WIDTH = 120
"""Characters of a line where output goes to a file or a pipe."""


def settings() -> Settings:
    """Settings as the files and variables are now; what is likely a mistake in them is told on stderr."""
    current = load_settings(os.environ)
    policy, symbols = current.compliance, current.universe.symbols
    for warning in (*likely_misspelt(policy, symbols), *doubtful_rows(policy, current.root, symbols)):
        click.secho(warning, fg="yellow", err=True)
    return current


def open_database(*, in_any_revision: bool = False) -> Settings:
    """Start the embedded server if it is ours, and make the schema where there is none: enough to read and to resume.

    Args:
        in_any_revision: for who looks at the database by hand.

    Raises:
        SchemaError: the schema is of another release.
    """
    current = settings()
    if current.embedded is not None:
        current.embedded.start()
    if revision_of(current.database_url) is None:
        migrate(current.database_url, tell=tell)
    elif not in_any_revision:
        require_current_schema(current.database_url)
    return current


def open_house() -> Settings:
    """Start the embedded server if it is ours, migrate, and prepare Dagster; all of it does nothing the second time."""
    current = settings()
    current.home.mkdir(parents=True, exist_ok=True)
    if current.embedded is not None:
        current.embedded.start()
    migrate(current.database_url, tell=tell)
    dagster_home.prepare(current)
    dbt_manifest.ensure(dbt_environment(current.database_url))
    dagster_home.set_pools()
    return current


def tell(words: str) -> None:
    """What a command waits for."""
    click.secho(words, fg="yellow", err=True)


def new_console() -> Console:
    """Where a command prints: as wide as the terminal, and wide enough for a line of a log where there is none.

    It prints words as they are, brackets included: a broker's or a vendor's may look like markup. Ours is `marked`.
    """
    # The stream is named, because steps that print are redirected to a log.
    width = None if sys.stdout.isatty() else LOG_WIDTH
    return Console(highlight=False, markup=False, emoji=False, file=sys.stdout, width=width)


def marked(words: str) -> Text:
    """Words of our own with rich's markup in them; nothing that anybody else said belongs into them."""
    return Text.from_markup(words, emoji=False)
