"""`octopus halt` and `octopus resume`: the kill switch.

Belongs here: turning it and saying so. Does not: what it does to orders (resources/kill_switch.py).
"""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from octopus.core.orders import TradingState
from octopus_pipelines.cli.house import open_database, settings
from resources.halt_file import Halt
from resources.kill_switch import Pulled, pull
from resources.trading import audit_log, trading_clock, trading_of
from resources.trading_state import halt_file
from resources.warehouse.order_store import OrderStore


@click.command()
@click.option("--reason", default="by hand", show_default=True, help="Goes into the audit log.")
@click.option("--reducing", is_flag=True, help="Still let orders pass that only make a position smaller.")
@click.option("--cancel", is_flag=True, help="Also cancel every open order of ours at the broker.")
def halt(reason: str, reducing: bool, cancel: bool) -> None:
    """Stop trading: no further order leaves, from the next one on. Works with the database down, too.

    A halt only ever tightens: an account that is halted stays so under --reducing, until `octopus resume`.
    """
    current = settings()
    state = TradingState.REDUCING if reducing else TradingState.HALTED
    pulled = pull(trading_of(current), Halt(state, getpass.getuser(), reason, datetime.now(UTC), cancel))
    click.echo(f"account {current.account} is {state.value}: {_ADVICE[state]}")
    say(pulled, halt_file(current).path, cancel=cancel)
    if not pulled.done:
        sys.exit(1)


@click.command()
@click.option("--reason", default="by hand", show_default=True, help="Goes into the audit log.")
@click.option("--reducing", is_flag=True, help="Only orders that make a position smaller.")
def resume(reason: str, reducing: bool) -> None:
    """Let orders pass again."""
    state = TradingState.REDUCING if reducing else TradingState.ACTIVE
    current = open_database()
    halts, now = halt_file(current), trading_clock(current).now()
    with OrderStore.opened(current.database_url, halts=halts) as store:
        # What the file says is noted before it is lifted.
        waiting = store.take_over_halt(current.account, now)
        store.set_trading_state(current.account, state, getpass.getuser(), reason, now)
        store.drain_outbox(audit_log(current))
    if waiting is not None:
        halts.remove(waiting)
    click.echo(f"account {current.account} is {state.value}: {_ADVICE[state]}")


_ADVICE = {
    TradingState.HALTED: "no order leaves; `octopus resume` lets them pass again",
    TradingState.REDUCING: "only orders that reduce a position leave; `octopus resume` lifts that",
    TradingState.ACTIVE: "orders may leave again; `octopus halt` stops them",
}


def say(pulled: Pulled, path: Path, *, cancel: bool) -> None:
    """Tell what became of orders and records."""
    if cancel:
        click.echo(f"{len(pulled.cancellation.asked)} open orders cancelled at the broker")
    for subject, reason in pulled.cancellation.failed.items():
        click.secho(f"not cancelled: {subject}: {reason}", fg="red", err=True)
    if pulled.problem:
        click.secho(f"halted by {path} alone: {pulled.problem}", fg="red", err=True)
    elif not pulled.recorded:
        click.echo(f"the database is down: {path} halts until it is back, and is audited then")
