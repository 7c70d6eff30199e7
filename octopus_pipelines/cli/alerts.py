"""`octopus alerts`: rehearse them, and see which were sent.

Belongs here: the commands and what they print. Does not: finding and delivering (resources/alerts).
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

import click

from octopus.alerts.alert import Kind, rehearsal
from octopus_pipelines.cli.house import open_database, settings
from resources.alerts.channels import PASSWORD_VARIABLE, WEBHOOK_VARIABLE, channels_of
from resources.alerts.store import AlertStore


@click.group()
def alerts() -> None:
    """What people are told: rehearse it, list it."""


@alerts.command()
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]), help="Only this kind; else one of each.")
def test(kind: str | None) -> None:
    """Send one alert of each kind through every channel, now; needs no database and records nothing."""
    channels = channels_of(settings().alerts, os.environ)
    if not channels:
        raise click.ClickException(
            f"no channel: set {WEBHOOK_VARIABLE}, or alerts.email_to in config/universe.yaml (and {PASSWORD_VARIABLE} "
            "where smtp_user is set)"
        )
    now, failed = datetime.now(UTC), False
    for one in [Kind(kind)] if kind else Kind:
        for channel in channels:
            outcome = channel.send(rehearsal(one, now))
            failed |= not outcome.delivered
            colour = "green" if outcome.delivered else "red"
            click.secho(f"{channel.name:<8} {one.value:<22} {outcome.detail}", fg=colour, err=not outcome.delivered)
    if failed:
        sys.exit(1)


@alerts.command(name="list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The latest so many.")
def show(limit: int) -> None:
    """The latest alerts, and which channel took each."""
    with AlertStore.opened(open_database().database_url) as store:
        for one in store.latest(limit):
            taken = ", ".join(one.delivered) or "not delivered"
            click.echo(f"{one.alert.at:%Y-%m-%d %H:%M:%S} {one.alert.kind.value:<22} {one.alert.happened}  ({taken})")
