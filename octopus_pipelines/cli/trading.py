"""`octopus halt` and `octopus resume`: the kill switch.

Belongs here: turning it. Does not: what it does to orders (resources/kill_switch.py), what is said of that (pulled.py).
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

import click

from octopus.core.errors import OctopusError
from octopus.core.orders import TradingState
from octopus_pipelines.cli.house import open_database, settings
from octopus_pipelines.cli.pulled import ADVICE, say, say_written
from octopus_pipelines.cli.words import login, reason_option
from resources.halt_file import Halt, HaltFile
from resources.kill_switch import carry_out, pull
from resources.settings import Settings, home_of
from resources.trading import Trading, audit_log, trading_clock, trading_of
from resources.trading_state import halt_file
from resources.warehouse.order_store import OrderStore


class ResumeError(OctopusError):
    """Trading stays as it is, because what a halt asked for is not done; the message says what to do."""


@click.command()
@reason_option("by hand")
@click.option("--reducing", is_flag=True, help="Still let orders pass that only make a position smaller.")
@click.option("--cancel", is_flag=True, help="Also cancel every open order of ours at the broker.")
def halt(reason: str, reducing: bool, cancel: bool) -> None:
    """Stop trading: no further order leaves, from the next one on. Works with the database down or the settings wrong.

    A halt only ever tightens: an account that is halted stays so under --reducing, until `octopus resume`. Fails if
    anything that was asked for could not be done, and says what; a halt that is said to stand does.
    """
    # Of the settings nothing but the folder is needed: no file of theirs keeps the halt from being written.
    home = home_of(os.environ)
    halts, is_new = HaltFile.in_home(home), not home.exists()
    asked = TradingState.REDUCING if reducing else TradingState.HALTED
    said = Halt(asked, login(), reason, datetime.now(UTC), cancel)
    pulled = pull(halts, said, _open_trading, lambda written: say_written(written, halts.path))
    say(pulled, halts.path, asked)
    if is_new and pulled.status is None:
        click.secho(
            f"{home} was not there before: nothing is traded from it. If orders are sent from another folder, set "
            "OCTOPUS_HOME to that and halt again", fg="red", err=True,
        )  # fmt: skip
    if not pulled.done or (is_new and pulled.status is None):
        sys.exit(1)


@click.command()
@reason_option("by hand")
@click.option("--reducing", is_flag=True, help="Only orders that make a position smaller.")
@click.option("--keep-orders", is_flag=True, help="Resume although a halt's cancel of open orders is not carried out.")
def resume(reason: str, reducing: bool, keep_orders: bool) -> None:
    """Let orders pass again; a cancel that waits in the halt file is carried out first."""
    state = TradingState.REDUCING if reducing else TradingState.ACTIVE
    current = open_database()
    halts, now = halt_file(current), trading_clock(current).now()
    standing = halts.read()
    if standing is not None and standing.cancel and not keep_orders:
        _cancel_first(current, standing)
    with OrderStore.opened(current.database_url, halts=halts) as store:
        # What the file says is noted before it is lifted.
        waiting = store.take_over_halt(current.account, now)
        if waiting is not None and waiting.cancel:
            if not keep_orders:
                raise ResumeError(f"not resumed: {waiting.by} halted meanwhile ({waiting.reason}); ask why first")
            reason = f"{reason}; open orders that a halt asked to cancel were left, by --keep-orders"
        store.set_trading_state(current.account, state, login(), reason, now)
        store.drain_outbox(audit_log(current))
    if waiting is not None:
        halts.remove(waiting)
    click.echo(f"account {current.account} is {state.value}: {ADVICE[state]}")


def _cancel_first(current: Settings, standing: Halt) -> None:
    """Carry out the cancel that waits in the halt file.

    Raises:
        ResumeError: it could not be done, as far as anybody knows.
    """
    try:
        pulled = carry_out(trading_of(current), standing)
    except OctopusError as error:
        reasons = [str(error)]
    else:
        reasons = [f"{subject}: {reason}" for subject, reason in pulled.cancellation.failed.items()]
        reasons += [pulled.problem] if pulled.problem else []
    if reasons:
        raise ResumeError(
            f"not resumed: a halt by {standing.by} ({standing.reason}) asked for open orders to be cancelled, and they "
            f"are not: {'; '.join(reasons)}. Mend that and resume again; or cancel them at {current.broker.name} "
            "yourself, or decide that they stand, then `octopus resume --keep-orders`"
        )
    click.echo(f"{len(pulled.cancellation.asked)} open orders cancelled at the broker, as the halt had asked")


def _open_trading() -> Trading:
    return trading_of(settings())
