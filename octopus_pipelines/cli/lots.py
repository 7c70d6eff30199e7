"""`octopus lots`: open tax lots, and a person's word on which of them a sale closed.

Belongs here: showing lots and sales, taking the word. Does not: whether it may be given
(resources/warehouse/execution_reports.py), what follows for lots and gains (octopus/execution/lots.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation

import click

from octopus.core.amounts import plain
from octopus.execution.lots import LotSelectionError, Selection
from octopus_pipelines.cli.house import open_database
from octopus_pipelines.cli.words import by_option, reason_option
from resources.execution_engine import ExecutionEngine
from resources.trading import trading_of
from resources.warehouse.connection import Role
from resources.warehouse.execution_reports import ExecutionReports
from resources.warehouse.store import Warehouse


@click.group()
def lots() -> None:
    """Tax lots: list them, say which of them a sale closed."""


@lots.command("list")
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
def list_lots(as_json: bool) -> None:
    """List open lots, before any wash sale, and the sales whose lots may still be identified."""
    with _opened() as (account, engine, reports):
        book = reports.lot_book(account)
        sales = reports.open_sales(account, engine.clock.now())
    if as_json:
        told = {
            "lots": [
                {"lot_id": lot.lot_id, "instrument": lot.instrument, "quantity": plain(lot.quantity),
                 "cost": plain(lot.cost), "acquired": lot.acquired.isoformat()}
                for lot in book.lots
            ],
            "sales": [
                {"fill_id": sale.fill_id, "instrument": sale.instrument, "quantity": plain(sale.quantity),
                 "until": sale.until.isoformat(), "identified": sale.identified,
                 "lots": {part.lot_id: plain(part.quantity) for part in sale.parts}}
                for sale in sales
            ],
        }  # fmt: skip
        click.echo(json.dumps(told))
        return
    for lot in book.lots:
        click.echo(
            f"lot {lot.lot_id}  {lot.instrument:<8} {plain(lot.quantity):>14}  cost {lot.cost:,.2f}, "
            f"acquired {lot.acquired}"
        )
    for sale in sales:
        how = "identified" if sale.identified else "first in, first out"
        parts = ", ".join(f"{plain(part.quantity)} of {part.lot_id}" for part in sale.parts)
        click.echo(
            f"sale {sale.fill_id}  {sale.instrument:<8} {plain(sale.quantity):>14}  closes {parts} ({how}); may be "
            f"identified until {sale.until:%Y-%m-%d %H:%M} UTC"
        )
    click.echo(f"{len(book.lots)} open lots in account {account}; {len(sales)} sales may still be identified")


@lots.command()
@click.argument("sale")
@click.argument("chosen", nargs=-1, required=True, metavar="LOT=SHARES...")
@by_option
@reason_option("by hand")
def identify(sale: str, chosen: tuple[str, ...], by: str, reason: str) -> None:
    """Say that SALE (a fill's id) closed SHARES of each LOT; what is left of it goes first in, first out.

    Possible until the sale settles (26 CFR 1.1012-1(c)). A second word on a sale takes the place of the first. Tell
    your broker the same: these are our books.
    """
    selections = [_selection(one) for one in chosen]
    with _opened() as (account, engine, reports):
        now = engine.clock.now()
        try:
            reports.identify(account, sale, selections, by, reason, engine.bookkeeper.session_at(now), now)
        finally:
            engine.store.drain_outbox(engine.audit)
        reports.save_tax_lots(account)
        reports.save_realised_gains(account)
        gains = [one for one in reports.reported(account).disposals if one.fill_id == sale]
    for one in gains:
        click.echo(
            f"{plain(one.quantity)} {one.instrument} of lot {one.lot_id}: basis {one.basis:.2f}, proceeds "
            f"{one.proceeds:.2f}, gain {one.gain:.2f}"
        )


@contextmanager
def _opened() -> Iterator[tuple[str, ExecutionEngine, ExecutionReports]]:
    settings = open_database()
    trading = trading_of(settings)
    with trading.engine() as engine:
        warehouse = Warehouse(settings.database_url, Role.TRADER)
        yield (
            trading.account,
            engine,
            ExecutionReports.of(engine.store, warehouse, engine.feed, settings, engine.clock.now()),
        )


def _selection(written: str) -> Selection:
    lot, _, shares = written.rpartition("=")
    try:
        quantity = Decimal(shares)
    except InvalidOperation:
        quantity = Decimal(0)
    if not lot or not quantity.is_finite() or quantity <= 0:
        raise LotSelectionError(f"{written}: write LOT=SHARES, such as a lot's id from `octopus lots list` and =100")
    return Selection(lot, quantity)
