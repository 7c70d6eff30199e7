"""What became of pulling the kill switch, in the words of whoever pulled it.

Belongs here: the sentences, and what a person does next. Does not: pulling (resources/kill_switch.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from octopus.core.orders import TradingState
from resources.brokers.table import PAPER
from resources.halt_file import Halt
from resources.kill_switch import Pulled

ADVICE = {
    TradingState.HALTED: "no order leaves; `octopus resume` lets them pass again",
    TradingState.REDUCING: "only orders that reduce a position leave; `octopus resume` lifts that",
    TradingState.ACTIVE: "orders may leave again; `octopus halt` stops them",
}
_AGAIN = "`octopus halt --cancel` asks again"
_BY_ITSELF = f"{_AGAIN}, and so do the next job, the watchdog and `octopus resume`"


def say_written(halt: Halt, path: Path) -> None:
    """What the file stops, as soon as it does."""
    whose = f"in every account that is traded from {path.parent}"
    click.echo(f"{halt.state.value} by {path}, {whose}: {ADVICE[halt.state]}")


def say(pulled: Pulled, path: Path, asked: TradingState) -> None:
    """What became of orders and records, and what is left to do."""
    if pulled.unwritten:
        _alarm(f"{path.parent} does not halt: {pulled.unwritten}; mend the folder and halt again")
        if pulled.status is None:
            _alarm("NOTHING IS HALTED: end what trades (`octopus up`), and cancel open orders at the broker yourself")
    if pulled.status is not None:
        state = pulled.status.state
        tighter = "" if state is asked else f" (asked for was {asked.value}: a halt only tightens)"
        click.echo(f"account {pulled.account} is {state.value}: {ADVICE[state]}{tighter}")
    _say_orders(pulled, path)
    if pulled.problem and not pulled.unwritten:
        _alarm(f"{pulled.halt.state.value} by {path} alone: {pulled.problem}")
    elif pulled.problem:
        _alarm(pulled.problem)
    elif pulled.status is None and not pulled.unwritten:
        click.echo(f"the database is down or empty: {path} halts until it is back, and is audited then")


def _say_orders(pulled: Pulled, path: Path) -> None:
    """What became of open orders, if they were to be cancelled."""
    if not pulled.halt.cancel:
        return
    name, cancellation = pulled.broker, pulled.cancellation
    # Without the file nobody else knows that there is something to cancel.
    again = _AGAIN if pulled.unwritten else _BY_ITSELF
    if name is None:
        _alarm(
            "NO OPEN ORDER IS CANCELLED: nobody could ask the broker; they may still fill. Cancel them there yourself, "
            f"or mend what is said below; then {again}"
        )
        return
    if name not in cancellation.failed:
        click.echo(f"{len(cancellation.asked)} open orders cancelled at the broker")
    for subject, reason in cancellation.failed.items():
        _alarm(f"not cancelled: {subject}: {reason}")
    if cancellation.needs_database and name == PAPER:
        _alarm(
            f"the paper broker keeps its orders in the database, "
            f"and none fills before that is back; {_AGAIN if pulled.unwritten else f'the cancel waits in {path}'}"
        )
    elif cancellation.needs_database:
        _alarm(
            f"NO OPEN ORDER IS CANCELLED: which of them are ours is in the database alone. Cancel them at {name} "
            f"yourself, they may still fill; {again}"
        )
    elif cancellation.failed:
        _alarm(f"they may still fill: cancel them at {name} yourself; {again}")


def _alarm(sentence: str) -> None:
    click.secho(sentence, fg="red", err=True)
