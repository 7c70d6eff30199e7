"""`octopus db`: the database's address, schema, shell and documentation.

Belongs here: administration by hand. Does not: SQL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from octopus.core.errors import OctopusError
from octopus_pipelines.cli.house import open_database, settings, tell
from resources.runtime.postgres import binary
from resources.settings import ROOT
from resources.warehouse import backup as archive
from resources.warehouse.connection import Role, acting_as, dbt_environment, without_password
from resources.warehouse.migrate import migrate as migrate_to_head


class DocumentationError(OctopusError):
    """dbt could not document the project; the message carries dbt's own words."""


@click.group()
def db() -> None:
    """The warehouse: url, migrate, psql, docs, backup, restore."""


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
    migrate_to_head(current.database_url, tell=tell)
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
    migrate_to_head(settings().database_url, tell=tell)
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
@click.option(
    "--role",
    type=click.Choice([role.name.lower() for role in Role]),
    default=Role.OWNER.name.lower(),
    show_default=True,
    help="Who you act as; `reader` sees raw and marts and changes nothing.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(role: str, arguments: tuple[str, ...]) -> None:
    """Open psql on the warehouse; further arguments go to psql."""
    current = open_database(in_any_revision=True)
    program = shutil.which("psql") or str(binary("psql"))
    address, secret = without_password(acting_as(current.database_url, Role[role.upper()]))
    os.execve(program, [program, address, *arguments], {**os.environ, **secret})  # noqa: S606  # one that we found


@db.command()
def docs() -> None:
    """Write dbt's documentation, every model with its columns, SQL and lineage, to one page, and print its path."""
    current = open_database()
    target = current.home / "dbt-docs"
    project = str(ROOT / "dbt_project")
    command = [
        str(Path(sys.executable).parent / "dbt"), "--no-use-colors", "docs", "generate", "--static",
        "--project-dir", project, "--profiles-dir", project,
        "--target-path", str(target), "--log-path", str(target / "logs"),
    ]  # fmt: skip
    environment = {**os.environ, **dbt_environment(current.database_url), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        raise DocumentationError(f"dbt made no documentation: {result.stdout.strip()[-800:]}; mend dbt_project/")
    # The page that carries everything in itself; dbt's own index.html needs a web server beside it.
    page = (target / "static_index.html").replace(target / "index.html")
    click.echo(f"{page}: open it in a browser; models that were never built show no column types")
