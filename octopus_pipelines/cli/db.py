"""`octopus db`: the database's address, schema and shell.

Belongs here: administration by hand. Does not: SQL.
"""

from __future__ import annotations

import os
import shutil

import click

from octopus_pipelines.cli.house import settings
from resources.runtime.postgres import binary
from resources.warehouse.migrate import migrate as migrate_to_head


@click.group()
def db() -> None:
    """The warehouse: url, migrate, psql."""


@db.command()
def url() -> None:
    """Print the warehouse's URL."""
    click.echo(settings().database_url)


@db.command()
def migrate() -> None:
    """Bring the schema up to date."""
    current = settings()
    if current.embedded is not None:
        current.embedded.start()
    migrate_to_head(current.database_url)
    click.echo("the schema is current")


@db.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the warehouse; further arguments go to psql."""
    current = settings()
    if current.embedded is not None:
        current.embedded.start()
    program = shutil.which("psql") or str(binary("psql"))
    os.execv(program, [program, current.database_url, *arguments])  # noqa: S606  # a program we found ourselves
