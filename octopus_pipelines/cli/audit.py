"""`octopus audit`: proving that the log of what happened is whole, and telling one order's story from the records.

Belongs here: the commands. Does not: the chain (octopus/compliance/audit.py), the story (resources/warehouse/
order_story.py) and its print (story.py).
"""

from __future__ import annotations

import json
import sys
from string import hexdigits
from typing import Any

import click

from octopus_pipelines.cli.house import new_console, open_database
from octopus_pipelines.cli.story import print_story
from resources.trading import anchor_file, audit_log
from resources.warehouse.audit_log import verify as verify_log
from resources.warehouse.connection import Role
from resources.warehouse.order_story import OrderStories
from resources.warehouse.store import Warehouse


@click.group()
def audit() -> None:
    """The tamper-evident audit log and the records of orders: verify, orders, why."""


class PublicKey(click.ParamType[str]):
    """An Ed25519 public key in hex, as `octopus audit verify` prints it."""

    name = "public key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        written = str(value).strip().lower()
        if len(written) != _KEY_DIGITS or set(written) - set(hexdigits):
            self.fail(f"{value!r} is no public key: {_KEY_DIGITS} hexadecimal digits, not {len(written)}", param, ctx)
        return written


_KEY_DIGITS = 64


@audit.command()
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
@click.option(
    "--key", "keys", type=PublicKey(), multiple=True, metavar="HEX",
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
    elif keys and verify_log(current.database_url, anchor_file(current)).ok:
        trusted = ", ".join(audit_log(current).public_keys())
        click.secho(
            f"{problem.message}. By the key that this house itself trusts ({trusted}) log and checkpoints are whole: "
            "compare it with your note. Where a digit of --key is wrong, give the right one; where your note is right, "
            "another key than yours signed: halt trading with `octopus halt`, and compare with a backup",
            fg="red", err=True,
        )  # fmt: skip
    else:
        click.secho(
            f"the audit log is broken at entry {problem.seq} ({problem.kind.value}): {problem.message}; "
            "halt trading with `octopus halt`, and compare with a backup",
            fg="red", err=True,
        )  # fmt: skip
    sys.exit(0 if result.ok else 1)


@audit.command()
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
def orders(as_json: bool) -> None:
    """List the latest orders with the ids that `octopus audit why` takes."""
    found = _stories().recent()
    if as_json:
        click.echo(json.dumps(found))
        return
    for row in found:
        click.echo(
            f"{row['client_order_id']}  {row['session']}  {row['side']:4} {row['quantity']:>12} {row['instrument']:8} "
            f"{row['state'] or row['status']}"
        )


@audit.command()
@click.argument("order")
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
def why(order: str, as_json: bool) -> None:
    """Say why ORDER was allowed (or not), from what was recorded then, and what it was decided from.

    ORDER is an intent id, a client order id, or the beginning of one. Fails where the records contradict each other.
    """
    story = _stories().story(order)
    if as_json:
        click.echo(json.dumps(story))
    else:
        print_story(new_console(), story)
    sys.exit(0 if story["answer"]["sound"] else 1)


def _stories() -> OrderStories:
    current = open_database()
    warehouse = Warehouse(current.database_url, Role.OWNER)
    return OrderStories(warehouse, current.universe.market_data, anchor_file(current))
