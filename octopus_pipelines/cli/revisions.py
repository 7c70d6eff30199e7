"""`octopus revisions`: what a vendor changed after the fact.

Belongs here: printing. Does not: finding the changes (resources/warehouse/revisions.py).
"""

from __future__ import annotations

import csv
import sys
from datetime import date, datetime

import click
from rich.table import Table

from octopus_pipelines.cli.house import new_console, open_database

SHOWN = 50


@click.command()
@click.option("--source", help="Default: the source that is traded on.")
@click.option("--instrument", help="Default: all of them.")
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="First session; default: the first there is.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last session; default: the last there is.")
@click.option("--csv", "as_csv", is_flag=True, help="Every change as CSV, instead of a table of the first ones.")
def revisions(
    source: str | None, instrument: str | None, first: datetime | None, last: datetime | None, as_csv: bool
) -> None:
    """Bars and corporate actions that a vendor changed, moved or withdrew after they were stored.

    Field by field, before and after, and when it was seen.
    """
    from resources.warehouse.connection import Role
    from resources.warehouse.revisions import revisions as changes
    from resources.warehouse.store import Warehouse

    current = open_database()
    name = source or current.universe.market_data
    found = changes(
        Warehouse(current.database_url, Role.RESEARCH), name, first.date() if first else date.min,
        last.date() if last else date.max, instrument,
    )  # fmt: skip
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(found.columns)
        writer.writerows(found.iter_rows())
        return
    if found.is_empty():
        click.echo(f"{name} changed and withdrew nothing that is stored; ingest a range again to ask it anew")
        return
    table = Table(*found.columns, title=f"{name}: {len(found):,} changes")
    for row in found.head(SHOWN).iter_rows():
        table.add_row(*map(_shown, row))
    new_console().print(table)
    if len(found) > SHOWN:
        click.echo(f"{len(found) - SHOWN:,} more: narrow the range, or say --csv")


def _shown(value: object) -> str:
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value)
