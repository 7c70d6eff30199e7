"""`octopus orders`: open orders, and a person's word on one of them.

Belongs here: showing orders, taking the word and telling what came of it. Does not: which order may be replaced
(octopus/execution/replacements.py), cancelling and replacing (resources/execution_engine.py), cancelling everything
(`octopus halt --cancel`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation

import click

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.ids import entry_order_id
from octopus.core.orders import OrderType
from octopus.execution.replacements import Outcome
from octopus.execution.states import TERMINAL, WORKING, OrderState
from octopus_pipelines.cli.house import open_database
from octopus_pipelines.cli.words import by_option, reason_option
from resources.execution_engine import ExecutionEngine
from resources.settling import End, Settler
from resources.trading import trading_of
from resources.warehouse.order_store import AccountBusyError, OrderStore, StoredOrder


class OrderCommandError(OctopusError):
    """What was asked names no open order, or does not go with it; the message says what to do."""


class Amount(click.ParamType[Decimal]):
    """A positive decimal number, exactly as it is written."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r} is no number", param, ctx)
        if not (amount.is_finite() and amount > 0):
            self.fail(f"{value!r} is not positive", param, ctx)
        return amount


@click.group()
def orders() -> None:
    """Open orders: list them, cancel one, replace one, settle one that the broker tells nothing of."""


@orders.command("list")
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
def list_orders(as_json: bool) -> None:
    """List orders that are approved or open, as our records have them."""
    current = open_database()
    with OrderStore.opened(current.database_url) as store:
        found = _open(store, current.account)
        asked = {swap.replaces for swap in store.swaps(current.account)}
    if as_json:
        click.echo(json.dumps([_row(one, one.client_order_id in asked) for one in found]))
        return
    for one in found:
        price = "" if one.order.price is None else f" at {plain(one.order.price)}"
        replaced = "  to be replaced" if one.client_order_id in asked else ""
        quantity, filled = plain(one.status.quantity), plain(one.status.filled)
        click.echo(
            f"{one.client_order_id}  {one.order.side.value:<4} {quantity:>14} {one.order.instrument:<8} "
            f"{one.order.order_type.value}{price}  {one.status.state.value}, {filled} filled{replaced}"
        )
    click.echo(f"{len(found)} orders are approved or open in account {current.account}")


@orders.command()
@click.argument("order")
@by_option
@reason_option("by hand")
def cancel(order: str, by: str, reason: str) -> None:
    """Cancel what is left of ORDER (its id, or the beginning of it), also while trading is halted."""
    trading = trading_of(open_database())
    with trading.engine() as engine:
        wanted = _find(engine.store, trading.account, order, or_ended=True)
        try:
            engine.cancel_order(wanted.client_order_id, by, reason)
        finally:
            engine.store.drain_outbox(engine.audit)
        try:
            engine.poll(trading.account)
        except AccountBusyError:
            click.echo("a run follows the account's orders and will record what becomes of it")
        (after,) = engine.store.orders(trading.account, ids=[wanted.client_order_id])
    said = {
        OrderState.PENDING_CANCEL: "had been asked to be cancelled before, and was asked again",
        **dict.fromkeys(TERMINAL, "was over already, and nothing of it was left to cancel"),
    }.get(wanted.status.state, "was asked to be cancelled")
    click.echo(
        f"order {wanted.client_order_id} {said}: {after.status.state.value}, "
        f"{plain(after.status.filled)} of {plain(after.status.quantity)} filled"
    )


@orders.command()
@click.argument("order")
@click.option("--limit", type=Amount(), help="The new limit of a limit order.")
@click.option("--stop", type=Amount(), help="The new trigger of a stop order.")
@click.option("--quantity", type=Amount(), help="Shares that the order and its replacement may fill together.")
@by_option
@reason_option("by hand")
@click.option(
    "--wait", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to wait for what becomes of it."
)
def replace(
    order: str, limit: Decimal | None, stop: Decimal | None, quantity: Decimal | None, by: str, reason: str, wait: float
) -> None:
    """Replace ORDER (its id, or the beginning of it) by one of another price or quantity.

    Both gates judge the replacement; while they deny it, or trading is halted, the order stands as it is.
    """
    current = open_database()
    trading = trading_of(current)
    with trading.engine() as engine:
        wanted = _find(engine.store, trading.account, order)
        price = _price(wanted, limit, stop)
        new = engine.ask_replacement(wanted.client_order_id, quantity, price, by, reason)
        engine.store.drain_outbox(engine.audit)
        click.echo(f"order {wanted.client_order_id} is to be replaced by {new}")
        outcome, detail = _carried_out(engine, wanted, new, wait)
    if outcome is None:
        click.echo("not settled yet: the run that follows the orders goes on; `octopus orders list` shows them")
        return
    done = outcome == Outcome.REPLACED
    click.secho(f"{outcome.replace('_', ' ')}: {detail}", fg="green" if done else "red", err=not done)
    if not done:
        sys.exit(1)


@orders.command()
@click.argument("order")
@click.option(
    "--as", "end", type=click.Choice([end.value for end in End]), required=True, help="How it ended at the broker.",
)  # fmt: skip
@click.option("--fill", "fills", multiple=True, metavar="ID", help="A fill of the broker's that was this order's.")
@by_option
@reason_option(told="What says so, such as the broker's statement; goes into the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def settle(order: str, end: str, fills: tuple[str, ...], by: str, reason: str, yes: bool) -> None:
    """Say how ORDER ended that no search finds (its id, or the beginning of it).

    Its outcome is unknown, or it is past its end and the broker tells no more of it.
    Fills of the broker that no order of ours caused are shown; those that were this order's become its own.
    """
    trading = trading_of(open_database())
    with trading.engine() as engine:
        settler = Settler(engine, trading.account)
        wanted = settler.look_up(_find(engine.store, trading.account, order).client_order_id)
        there = {fill.fill_id: fill for fill in settler.ownerless(wanted)}
        click.echo(
            f"order {wanted.client_order_id}: {wanted.order.side.value} {plain(wanted.status.remaining)} "
            f"{wanted.order.instrument}, until {wanted.expires_at}, {wanted.status.state.value}"
        )
        for fill in there.values():
            shares = f"{plain(fill.quantity)} at {plain(fill.price)}"
            click.echo(f"  the broker's fill {fill.fill_id}: {shares} on {fill.at}")
        if foreign := [name for name in fills if name not in there]:
            raise OrderCommandError(f"{', '.join(foreign)}: no such fill may be this order's; the list above is whole")
        if not yes:
            click.confirm(f"{end}, with {len(fills)} fills, by {by}?", abort=True)
        settler.settle(wanted, End(end), [there[name] for name in dict.fromkeys(fills)], by, reason)
    click.echo(f"order {wanted.client_order_id} is {end}: {wanted.order.instrument} may be traded again")


def _carried_out(engine: ExecutionEngine, wanted: StoredOrder, new: str, wait: float) -> tuple[str | None, str]:
    """What became of a request within ``wait`` seconds; carried out here, or by the run that holds the account."""
    until = time.monotonic() + wait
    while True:
        # A run that holds the account waits for the auction, and looks for requests meanwhile.
        with suppress(AccountBusyError):
            engine.replace_orders(wanted.batch_id, f"replace-{new}")
        outcome, detail = engine.store.outcome_of(new)
        if outcome is not None or time.monotonic() >= until:
            return outcome, detail
        time.sleep(min(1.0, wait))


def _price(wanted: StoredOrder, limit: Decimal | None, stop: Decimal | None) -> Decimal | None:
    """The new price, under the name that the order's own has."""
    own = {OrderType.LIMIT: limit, OrderType.STOP: stop}
    price = own.get(wanted.order.order_type)
    if any(value is not None for value in (limit, stop) if value is not price):
        raise OrderCommandError(
            f"order {wanted.client_order_id} is a {wanted.order.order_type.value} order: give --limit for limit orders "
            "alone and --stop for stop orders"
        )
    return price


def _open(store: OrderStore, account: str) -> Sequence[StoredOrder]:
    return store.orders(account, WORKING | {OrderState.APPROVED})


def _find(store: OrderStore, account: str, name: str, *, or_ended: bool = False) -> StoredOrder:
    """The open order whose id begins with ``name``; ``or_ended``: where none does, one that is over."""
    found = [one for one in _open(store, account) if name and one.client_order_id.startswith(name)]
    if or_ended and not found:
        found = [one for one in store.orders(account, TERMINAL) if name and one.client_order_id.startswith(name)]
    if len(found) > 1:
        # What begins an entry's id begins its exits' too, and means the entry.
        ids = {one.client_order_id for one in found}
        found = [one for one in found if entry_order_id(one.client_order_id) not in ids]
    if len(found) != 1:
        what = "no open order" if not found else f"{len(found)} open orders"
        raise OrderCommandError(f"{what} of account {account} begin with {name!r}: see `octopus orders list`")
    return found[0]


def _row(one: StoredOrder, asked: bool) -> dict[str, object]:
    order, status = one.order, one.status
    return {
        "client_order_id": one.client_order_id, "batch_id": one.batch_id, "instrument": order.instrument,
        "side": order.side.value, "type": order.order_type.value, "quantity": plain(status.quantity),
        "filled": plain(status.filled), "price": None if order.price is None else plain(order.price),
        "state": status.state.value, "to_be_replaced": asked,
    }  # fmt: skip
