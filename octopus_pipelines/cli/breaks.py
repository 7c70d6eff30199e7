"""`octopus breaks`: what our book and the broker's differ by, and a person's word that books one difference.

Belongs here: showing breaks and taking the word. Does not: finding them (octopus/execution/reconcile.py), what is
booked (octopus/execution/corrections.py), holdings of before our first order (`octopus adopt`).
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

import click

from octopus.execution.corrections import CashKind, CorrectionError, Told
from octopus.execution.reconcile import Break
from octopus_pipelines.cli.house import open_database
from octopus_pipelines.cli.orders import Amount
from octopus_pipelines.cli.words import by_option, reason_option
from resources.bookkeeping import Comparison
from resources.settling import Settler, named_break
from resources.trading import trading_of


@click.group()
def breaks() -> None:
    """Differences between our book and the broker's: list them, book one."""


@breaks.command("list")
@click.option("--json", "as_json", is_flag=True, help="Stable machine-readable form.")
def list_breaks(as_json: bool) -> None:
    """Compare the books now and list what differs, with what would be booked about it."""
    trading = trading_of(open_database())
    with trading.engine() as engine:
        settler = Settler(engine, trading.account)
        found = settler.open_breaks()
        lines = {item.break_id: _proposal(settler, item, found) for item in found.breaks}
    if as_json:
        click.echo(json.dumps([_row(item, lines[item.break_id]) for item in found.breaks]))
        return
    for item in found.breaks:
        click.echo(f"{item.break_id}  {item.kind.value}: {item.detail}")
        click.echo(f"    do: {item.remedy}")
        for line in lines[item.break_id]:
            click.echo(f"    books {line}")
    _say_rest(found, trading.account)


@breaks.command()
@click.argument("name", metavar="BREAK")
@by_option
@reason_option(told="Why our book is the one to change; goes into the audit log.")
@click.option(
    "--price", type=Amount(),
    help="Of one share that no record explains; of shares that came by a transfer, what one had cost.",
)  # fmt: skip
@click.option(
    "--acquired", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE",
    help="When shares that came by a transfer had been acquired: a transfer keeps their holding period.",
)  # fmt: skip
@click.option(
    "--cash", type=click.Choice([kind.value for kind in CashKind]), default=CashKind.CHARGE.value, show_default=True,
    help="What cash that no record explains is: a fee or interest, or the owner's money.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
def book(
    name: str, by: str, reason: str, price: Decimal | None, acquired: datetime | None, cash: str, yes: bool
) -> None:  # fmt: skip
    """Make our book the broker's as to BREAK (its id, or the beginning of it). A second time it does nothing."""
    current = open_database()
    trading = trading_of(current)
    told = Told(f"{by}: {reason}", price, CashKind(cash), acquired and acquired.date())
    with trading.engine() as engine:
        settler = Settler(engine, trading.account)
        found = settler.open_breaks()
        item = named_break(name, found.breaks)
        lines: tuple[str, ...] = ()
        if item is not None:
            click.echo(item.detail)
            lines = settler.proposed(item, found, told).described
            for line in lines:
                click.echo(f"  books {line}")
            if not yes:
                click.confirm(f"book this in account {trading.account}, by {by}?", abort=True)
        after = settler.book(name if item is None else item.break_id, told, current.symbols, by, reason, lines)
    if after is None:
        click.echo(f"{name} was booked before")
    else:
        _say_rest(after, trading.account)


def _proposal(settler: Settler, item: Break, found: Comparison) -> tuple[str, ...]:
    try:
        return settler.proposed(item, found, Told("")).described
    except CorrectionError as missing:
        return (f"nothing yet: {missing}",)


def _say_rest(found: Comparison, account: str) -> None:
    if found.breaks:
        click.echo(f"{len(found.breaks)} breaks in account {account}; `octopus breaks book BREAK --reason …` books one")
    else:
        click.echo(f"the books of account {account} agree; if trading is halted: `octopus resume`")


def _row(item: Break, proposal: tuple[str, ...]) -> dict[str, object]:
    return {
        "break": item.break_id, "kind": item.kind.value, "instrument": item.instrument, "reference": item.reference,
        "detail": item.detail, "remedy": item.remedy, "books": list(proposal),
    }  # fmt: skip
