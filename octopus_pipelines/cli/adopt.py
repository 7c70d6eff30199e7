"""`octopus adopt`: a person's word that what the account holds already is the opening of our book.

Belongs here: showing the holdings and taking the word. Does not: what may be adopted (octopus/execution/adoption.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation

import click

from octopus.execution.adoption import AdoptionError, HeldBefore, adoption_entries, described
from octopus_pipelines.cli.house import open_database
from octopus_pipelines.cli.words import by_option, reason_option
from resources.brokers.base import TellingCosts
from resources.execution_engine import ExecutionEngine
from resources.permission import require_permitted
from resources.trading import trading_of


@click.command()
@click.option("--cost", "costs", multiple=True, metavar="SYMBOL=PRICE", help="What a share cost, if no broker tells.")
@by_option
@reason_option("held before")
@click.option("--yes", is_flag=True, help="Do not ask.")
def adopt(costs: tuple[str, ...], by: str, reason: str, yes: bool) -> None:
    """Take over what the broker's account holds before our first order. What differs after it is a break."""
    current = open_database()
    trading = trading_of(current)
    require_permitted(current, trading.broker.account())
    with trading.engine() as engine:
        given = dict(_cost(one) for one in costs)
        booked = adopt_holdings(engine, trading.account, current.symbols, given, f"{by}: {reason}", ask=not yes)
    click.echo(
        f"account {trading.account}: {booked} entries adopted" if booked else "nothing to adopt: the books agree"
    )


def adopt_holdings(
    engine: ExecutionEngine,
    account: str,
    tradable: Collection[str],
    costs: Mapping[str, Decimal],
    why: str,
    *,
    ask: bool,
) -> int:
    """Show and book what `adoption_entries` finds; how many entries that were.

    Args:
        costs: of a share, where the broker does not tell it or is wrong. why: who adopts, and the reason.

    Raises:
        AdoptionError: see there; also where orders are open, or what differs was adopted before.
        BrokerError: the broker could not be asked.
    """
    store, broker, now = engine.store, engine.broker, engine.clock.now()
    books, session = engine.bookkeeper.books, engine.bookkeeper.session_at(now)
    with store.account_lock(account):
        held = broker.snapshot()
        if held.open_orders or store.working(account):
            raise AdoptionError(f"account {account} has open orders; cancel them, or wait for their end")
        known = broker.average_costs() if isinstance(broker, TellingCosts) else {}
        theirs, ours = HeldBefore(held.cash, held.positions, {**known, **costs}), books.book(account)
        entries = adoption_entries(ours, theirs, tradable, now, f"adopted by {why}")
        # A name whose entry stands already has moved since; of an adoption that died halfway none is left over here.
        adopted = {entry.entry_id for entry in ours.entries}
        if moved := [described(entry) for entry in entries if entry.entry_id in adopted]:
            raise AdoptionError(
                f"account {account} was adopted before, and what the broker holds has changed since "
                f"({'; '.join(moved)}): that is a break and no opening; `octopus breaks list` says what to do about it"
            )
        for entry in entries:
            click.echo(f"  {described(entry)}")
        if entries and ask:
            click.confirm(f"adopt these into account {account}, by {why}?", abort=True)
        # One that died in between is made whole by the next.
        booked = sum(books.recognise(account, entry, session, now) for entry in entries)
        store.drain_outbox(engine.audit)
    return booked


def _cost(written: str) -> tuple[str, Decimal]:
    name, _, price = written.partition("=")
    try:
        cost = Decimal(price)
    except InvalidOperation:
        cost = Decimal(-1)
    if not name or not cost.is_finite() or cost < 0:
        raise AdoptionError(f"--cost {written}: write SYMBOL=PRICE, such as AAPL=182.5")
    return name, cost
