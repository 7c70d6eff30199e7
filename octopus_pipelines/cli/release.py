"""`octopus release`: a person's word that a batch may be executed.

Belongs here: showing the batch and taking the word. Does not: what waits for it (resources/execution_engine.py), what
it is bound to (octopus/execution/approval.py).
"""

from __future__ import annotations

from datetime import datetime

import click

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.execution.approval import content_hash, in_sending_order
from octopus_pipelines.cli.house import open_database
from octopus_pipelines.cli.words import by_option, reason_option
from resources.trading import audit_log, trading_clock
from resources.warehouse.order_store import OrderStore, StoredBatch


class ReleaseError(OctopusError):
    """The batch cannot be released; the message says why and what to do."""


@click.command()
@click.argument("batch", required=False)
@by_option
@reason_option("reviewed")
@click.option("--yes", is_flag=True, help="Do not ask.")
def release(batch: str | None, by: str, reason: str, yes: bool) -> None:
    """Release a batch for execution: exactly what it says now, until its window closes. Without BATCH: which waits."""
    current = open_database()
    now = trading_clock(current).now()
    with OrderStore.opened(current.database_url) as store:
        name = batch or _current(store, current.account)
        stored = store.batch(name)
        _require_releasable(stored, now)
        released = store.is_released(stored.batch, now)
        _show(stored)
        if released:
            click.echo(f"batch {name} is released")
            return
        if not current.trading.needs_release:
            asked, mode = current.trading.release, current.trading.mode
            click.echo(f"batch {name} needs no release: trading.release is {asked}, trading.mode {mode}")
        elif batch is None:
            click.echo(f"batch {name} waits for its release")
        if batch is None:
            return
        if not yes:
            click.confirm(f"release batch {name} as {by}?", abort=True)
        # What was shown is what is released: a batch that was changed meanwhile has another content.
        store.release(stored.batch, by, reason, now)
        store.drain_outbox(audit_log(current))
    click.echo(f"batch {name} is released by {by} until {stored.batch.expires_at}")


def _current(store: OrderStore, account: str) -> str:
    name = store.latest_batch(account)
    if name is None:
        raise ReleaseError(f"account {account} has no batch; `octopus run` plans one")
    return name


def _require_releasable(stored: StoredBatch, now: datetime) -> None:
    batch = stored.batch
    if stored.successor:
        raise ReleaseError(f"batch {batch.batch_id} was superseded by {stored.successor}; release that one")
    if not stored.judged:
        raise ReleaseError(f"batch {batch.batch_id} was not judged by both gates; run the research job to its end")
    if now >= batch.expires_at:
        raise ReleaseError(f"the window of batch {batch.batch_id} closed at {batch.expires_at}; plan a new one")


def _show(stored: StoredBatch) -> None:
    batch = stored.batch
    click.echo(f"batch {batch.batch_id} of account {batch.account}, decided after {batch.session}")
    click.echo(f"may be sent from {batch.not_before} to {batch.expires_at}; content {content_hash(batch)}")
    for order in in_sending_order(batch.orders):
        price = "" if order.price is None else f" at {plain(order.price)}"
        denied = stored.research_denials.get(order.intent_id)
        click.echo(
            f"  {order.side.value:<4} {plain(order.quantity):>14} {order.instrument:<8} "
            f"{order.order_type.value}{price} {order.notional:>16,.2f}" + (f"  denied: {denied}" if denied else "")
        )
    click.echo(
        f"  {len(batch.orders)} orders of {sum(order.notional for order in batch.orders):,.2f} at reference prices"
    )
