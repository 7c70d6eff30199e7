"""`octopus limits`: signing the limits, and what execution will find of their signatures.

Belongs here: the commands and what they print. Does not: files (resources/limit_signatures.py) and formats
(octopus/risk/signatures.py).
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from octopus_pipelines.cli.house import settings
from resources.limit_signatures import add_signatures, limits_authority, signatures_now, what_to_do


@click.group()
def limits() -> None:
    """The signed limits, config/risk.yaml, compliance.yaml and what they rest on in universe.yaml: sign, verify."""


@limits.command()
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Your private SSH key.")
def sign(key: Path) -> None:
    """Sign config/risk.yaml, config/compliance.yaml and what `text` prints of universe.yaml with an Ed25519 key.

    For any other key it names ssh-keygen's commands.
    """
    current, now = settings(), datetime.now(UTC)
    signed = add_signatures(current.limits_documents, key.expanduser(), now)
    for document, made in zip(current.limits_documents, signed, strict=True):
        click.echo(f"signed {document.path} with {made.fingerprint}")
        if made.problem is not None:
            click.secho(f"it does not count: {made.problem}", fg="yellow")
    found = limits_authority(current, now)
    click.echo("the limits are signed" if found.problem is None else f"not yet signed: {found.problem}")


@limits.command()
def text() -> None:
    """Print what is signed of config/universe.yaml: sectors, currencies, live accounts, release, reconciliation."""
    click.echo(settings().basis_document.content, nl=False)


@limits.command()
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
def verify(as_json: bool) -> None:
    """Say whether the limits are signed as execution will see it; exit status 1 if not."""
    current, now = settings(), datetime.now(UTC)
    found = limits_authority(current, now)
    if as_json:
        click.echo(json.dumps({"signed": found.problem is None, "signers": found.signers, "problem": found.problem}))
    elif found.problem is None:
        for document in current.limits_documents:
            click.echo(f"{document.path}")
            for checked in signatures_now(document, now):
                click.echo(f"  {checked.fingerprint}: {checked.name or checked.problem}")
        until = current.risk.valid_until
        click.secho(f"the limits are signed by {' and '.join(found.signers)}, until {until}", fg="green")
    else:
        remedy = what_to_do(current.limits_documents[0])
        click.secho(f"limits unsigned: paper only: {found.problem}; {remedy}", fg="yellow", err=True)
    sys.exit(0 if found.problem is None else 1)
