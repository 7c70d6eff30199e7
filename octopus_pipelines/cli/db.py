"""`octopus db`: the database's address, schema and shell.

Belongs here: administration by hand. Does not: SQL.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import click

from octopus_pipelines.cli.house import settings
from resources.runtime.postgres import binary
from resources.warehouse import backup as archive
from resources.warehouse.migrate import migrate as migrate_to_head


@click.group()
def db() -> None:
    """The warehouse: url, migrate, psql, backup, restore."""


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


@db.command()
@click.argument("target", type=click.Path(path_type=Path))
def backup(target: Path) -> None:
    """Write the three databases, MLflow's artifacts and the audit log's anchor to TARGET, one archive."""
    click.echo(f"writing {target} ...")
    made = archive.backup(_place(), target, datetime.now(UTC))
    rows = sum(made.tables.values())
    click.echo(f"{target}: {rows:,} rows of {len(made.tables)} tables, {target.stat().st_size / 2**20:.1f} MiB")
    click.echo(f"`octopus db restore {target}` brings it back; keep a copy on another machine")


@db.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace what the target holds.")
def restore(source: Path, force: bool) -> None:
    """Bring the archive SOURCE back. Trading starts halted, and approvals of before are void."""
    click.echo(f"restoring {source} ...")
    made = archive.restore(_place(), source, force=force)
    migrate_to_head(settings().database_url)
    click.echo(f"restored the state of {made.made_at}: {sum(made.tables.values()):,} rows, counted again")
    click.echo("trading is halted: compare the account with the broker's, then `octopus resume`")


def _place() -> archive.Place:
    """What is backed up and restored; the embedded server runs afterwards."""
    current = settings()
    if current.embedded is not None:
        current.embedded.start()
    urls = {"octopus": current.database_url, "dagster": current.dagster_url, "mlflow": current.mlflow_url}
    return archive.Place(urls, current.home)


@db.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the warehouse; further arguments go to psql."""
    current = settings()
    if current.embedded is not None:
        current.embedded.start()
    program = shutil.which("psql") or str(binary("psql"))
    os.execv(program, [program, current.database_url, *arguments])  # noqa: S606  # a program we found ourselves
