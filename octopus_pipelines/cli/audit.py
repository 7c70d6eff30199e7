"""`octopus audit`: proving that the log of what happened is whole.

Belongs here: printing the proof. Does not: the chain (octopus/compliance/audit.py).
"""

from __future__ import annotations

import json
import sys

import click

from octopus_pipelines.cli.house import open_database
from resources.trading import anchor_file
from resources.warehouse.audit_log import verify as verify_log


@click.group()
def audit() -> None:
    """The tamper-evident audit log: verify."""


@audit.command()
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
def verify(as_json: bool) -> None:
    """Check every entry's hash and the chain; say where it is broken."""
    current = open_database()
    result = verify_log(current.database_url, anchor_file(current))
    problem = result.problem
    if as_json:
        found = (
            None if problem is None else {"kind": problem.kind.value, "seq": problem.seq, "message": problem.message}
        )
        click.echo(json.dumps({"ok": result.ok, "entries": result.entries, "problem": found}))
    elif problem is None:
        click.secho(f"the audit log is whole: {result.entries} entries", fg="green")
    else:
        click.secho(
            f"the audit log is broken at entry {problem.seq} ({problem.kind.value}): {problem.message}; "
            "halt trading with `octopus halt`, and compare with a backup",
            fg="red", err=True,
        )  # fmt: skip
    sys.exit(0 if result.ok else 1)
