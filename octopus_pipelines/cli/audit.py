"""`octopus audit`: proving that the log of what happened is whole.

Belongs here: printing the proof. Does not: the chain (octopus/compliance/audit.py).
"""

from __future__ import annotations

import json
import sys

import click

from octopus_pipelines.cli.house import open_database
from resources.trading import anchor_file, audit_log
from resources.warehouse.audit_log import verify as verify_log


@click.group()
def audit() -> None:
    """The tamper-evident audit log: verify."""


@audit.command()
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
@click.option(
    "--key", "keys", multiple=True, metavar="HEX",
    help="A public key that you noted elsewhere: only its checkpoints count. Several may be given.",
)  # fmt: skip
def verify(as_json: bool, keys: tuple[str, ...]) -> None:
    """Check every entry's hash, the chain, and the signed checkpoints outside the database; say where it is broken."""
    current = open_database()
    result = verify_log(current.database_url, anchor_file(current), keys)
    problem = result.problem
    if as_json:
        found = (
            None if problem is None else {"kind": problem.kind.value, "seq": problem.seq, "message": problem.message}
        )
        known = audit_log(current).public_keys()
        click.echo(
            json.dumps(
                {"ok": result.ok, "entries": result.entries, "covered": result.covered, "keys": known, "problem": found}
            )
        )
    elif problem is None:
        covered = f"{result.covered} of them under signed checkpoints in {anchor_file(current)}"
        click.secho(f"the audit log is whole: {result.entries} entries, {covered}", fg="green")
        for key in audit_log(current).public_keys():
            click.echo(f"checkpoints are signed with key {key}: note it elsewhere, and name it with --key")
    else:
        click.secho(
            f"the audit log is broken at entry {problem.seq} ({problem.kind.value}): {problem.message}; "
            "halt trading with `octopus halt`, and compare with a backup",
            fg="red", err=True,
        )  # fmt: skip
    sys.exit(0 if result.ok else 1)
