"""`octopus halt` and `octopus resume`: the kill switch.

Belongs here: turning it and saying so. Does not: what it does to orders (resources/execution_engine.py).
"""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

import click

from octopus.core.orders import TradingState
from octopus_pipelines.cli.house import open_database
from resources.trading import audit_log
from resources.warehouse.order_store import OrderStore


@click.command()
@click.option("--reason", default="by hand", show_default=True, help="Goes into the audit log.")
@click.option("--reducing", is_flag=True, help="Still let orders pass that only make a position smaller.")
def halt(reason: str, reducing: bool) -> None:
    """Stop trading: no further order leaves, from the next one on."""
    _turn(TradingState.REDUCING if reducing else TradingState.HALTED, reason)


@click.command()
@click.option("--reason", default="by hand", show_default=True, help="Goes into the audit log.")
def resume(reason: str) -> None:
    """Let orders pass again."""
    _turn(TradingState.ACTIVE, reason)


def _turn(state: TradingState, reason: str) -> None:
    current = open_database()
    with OrderStore.opened(current.database_url) as store:
        store.set_trading_state(current.account, state, getpass.getuser(), reason, datetime.now(UTC))
        store.drain_outbox(audit_log(current))
    advice = {
        TradingState.HALTED: "no order leaves; `octopus resume` lets them pass again",
        TradingState.REDUCING: "only orders that reduce a position leave; `octopus resume` lifts that",
        TradingState.ACTIVE: "orders may leave again; `octopus halt` stops them",
    }
    click.echo(f"account {current.account} is {state.value}: {advice[state]}")
