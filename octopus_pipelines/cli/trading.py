"""`octopus halt` and `octopus resume`: the kill switch.

Belongs here: turning it and saying so. Does not: what it does to orders (resources/execution_engine.py), the file that
halts without a database (resources/halt_file.py).
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import replace
from datetime import UTC, datetime

import click

from octopus.core.errors import OctopusError
from octopus.core.orders import TradingState
from octopus_pipelines.cli.house import has_schema, open_database, settings
from resources.halt_file import Halt, cancel_at_broker
from resources.settings import Settings
from resources.trading import Trading, audit_log, halt_file, trading_of
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
    said = Halt(state, getpass.getuser(), reason, datetime.now(UTC), cancel)
    # The file comes first: it stops trading at once, whatever becomes of the rest.
    halt_file(current).write(said)
    click.echo(f"account {current.paper.account} is {state.value}: {_ADVICE[state]}")
    trading = trading_of(current)
    done = _cancel(trading, said) if cancel else True
    if not (_record(trading) and done):
        sys.exit(1)


@click.command()
@click.option("--reason", default="by hand", show_default=True, help="Goes into the audit log.")
@click.option("--reducing", is_flag=True, help="Only orders that make a position smaller.")
def resume(reason: str, reducing: bool) -> None:
    """Let orders pass again."""
    state = TradingState.REDUCING if reducing else TradingState.ACTIVE
    current = open_database()
    halts = halt_file(current)
    with OrderStore.opened(current.database_url, halts=halts) as store:
        # What the file says is noted before it is lifted.
        waiting = store.take_over_halt(current.paper.account)
        store.set_trading_state(current.paper.account, state, getpass.getuser(), reason, datetime.now(UTC))
        store.drain_outbox(audit_log(current))
    if waiting is not None:
        halts.remove(waiting)
    click.echo(f"account {current.paper.account} is {state.value}: {_ADVICE[state]}")


_ADVICE = {
    TradingState.HALTED: "no order leaves; `octopus resume` lets them pass again",
    TradingState.REDUCING: "only orders that reduce a position leave; `octopus resume` lifts that",
    TradingState.ACTIVE: "orders may leave again; `octopus halt` stops them",
}


def _cancel(trading: Trading, said: Halt) -> bool:
    """Cancel by the broker's own records; False when something is still open."""
    result = cancel_at_broker(trading.broker)
    halt_file(trading.settings).write(replace(said, cancelled=result.asked))
    click.echo(f"{len(result.asked)} open orders cancelled at {trading.broker.name}")
    for subject, reason in result.failed.items():
        click.secho(f"not cancelled: {subject}: {reason}", fg="red", err=True)
    return not result.failed


def _record(trading: Trading) -> bool:
    """Hand the halt to the database where it is there; False where it is there and refused."""
    if not _is_up(trading.settings):
        click.echo(
            f"the database is down: {halt_file(trading.settings).path} halts until it is back, and is audited then"
        )
        return True
    try:
        with trading.engine() as engine:
            engine.take_over_halt(trading.account)
    except OctopusError as error:
        click.secho(f"halted by the file alone: {error}", fg="red", err=True)
        return False
    return True


def _is_up(current: Settings) -> bool:
    # An embedded server that is down is not started: nothing can be sent without it, and it may need minutes.
    if current.embedded is not None and not current.embedded.is_running():
        return False
    try:
        return has_schema(current.database_url)
    except OctopusError:
        return False
