"""`octopus status`: what stands in the warehouse.

Belongs here: printing the state. Does not: reading it (octopus_pipelines/overview.py).
"""

from __future__ import annotations

import json

import click
from rich.table import Table

from octopus_pipelines.cli.house import marked, new_console, open_database
from octopus_pipelines.overview import status as read_status


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
def status(as_json: bool) -> None:
    """Rows per table, last run, champion, audit chain, rows that nothing uses yet; of the account that the settings
    name: its trading state, orders and reconciliation."""
    state = read_status(open_database())
    if as_json:
        click.echo(json.dumps(state, indent=2, default=str))
        return
    console = new_console()
    table = Table("table", "rows", title="Warehouse")
    for name, count in state["tables"].items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    for name in _SHOWN:
        console.print(marked(f"[bold]{name:<15}[/bold]"), _plain(state[name]))
    for sentence in state["unjudged"]:
        console.print(marked(f"[bold]{'unjudged':<15}[/bold]"), sentence)


_SHOWN = (
    "last_run", "champion", "account", "trading", "orders", "reconciliation", "audit", "quality", "timescaledb",
)  # fmt: skip


def _plain(value: object) -> str:
    if value is None:
        return "none yet"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    return str(value)
