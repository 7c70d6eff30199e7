"""Pulling the kill switch: the file first, then the broker, then the database as far as it is there.

Belongs here: that order, and what came of each. Does not: the file (halt_file.py), the account's state
(warehouse/order_store.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from octopus.core.errors import OctopusError
from octopus.core.orders import TradingState
from octopus.execution.halts import reasons_together
from resources.halt_file import Cancellation, Halt, HaltFile, cancel_at_broker, in_one_line
from resources.settings import Settings
from resources.trading import Trading
from resources.trading_state import halt_file, trading_status
from resources.warehouse.connection import WarehouseUnreachableError, connect
from resources.warehouse.migrate import schema_problem
from resources.warehouse.order_store import TradingStatus


@dataclass(frozen=True)
class Pulled:
    """What pulling the switch came to; the halt itself stands in any case, unless it is ``unwritten``.

    Attributes:
        halt: as the file says it, with what waited there before.
        account, broker: that the settings name; None where these could not be read, or the broker not be opened.
        status: of the account as it counts afterwards; None: the database does not have the halt.
        problem: why nobody could be asked, or a database that is there did not take it; empty while it is down.
        unwritten: why there is no file; empty: there is.
    """

    halt: Halt
    account: str | None = None
    broker: str | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    status: TradingStatus | None = None
    problem: str = ""
    unwritten: str = ""

    @property
    def done(self) -> bool:
        """Everything that was asked for and could be done is done."""
        return not (self.cancellation.failed or self.problem or self.unwritten)


def pull(
    halts: HaltFile,
    halt: Halt,
    open_trading: Callable[[], Trading],
    written: Callable[[Halt], None] = lambda _: None,
) -> Pulled:
    """Halt, and cancel open orders if the file says so then; needs no database, and the file needs no settings.

    Args:
        open_trading: reads settings and opens the broker; whatever it raises is told.
        written: told what the file says, before anything else is tried.
    """
    unwritten = ""
    # The file comes first: it stops trading at once, whatever becomes of the rest.
    try:
        halt = halts.write(halt)
    except OSError as error:
        unwritten = f"{halts.path} cannot be written ({error.strerror or error})"
    else:
        with suppress(OSError):  # a log on a full disk takes no words, and the halt stands
            written(halt)
    try:
        trading = open_trading()
    except Exception as error:  # noqa: BLE001  # whatever is wrong with the settings, the halt is to say so
        return Pulled(halt, problem=in_one_line(error), unwritten=unwritten)
    return carry_out(trading, halt, unwritten)


def carry_out(trading: Trading, halt: Halt, unwritten: str = "") -> Pulled:
    """Cancel open orders if the ``halt`` of the file says so, and make it the account's own.

    Args:
        unwritten: why no file says it: then the account is halted in the database, however little was asked for.
    """
    settings, cancellation = trading.settings, Cancellation()
    if halt.cancel:
        cancellation = cancel_at_broker(trading.broker)
        with suppress(OSError):
            halt_file(settings).note_cancelled(cancellation.asked)
    status, problem = None, ""
    try:
        if _is_up(settings):
            _record(trading, halt, is_written=not unwritten, is_cancelled=not cancellation.failed)
            status = trading_status(settings, trading.account)
    except Exception as error:  # noqa: BLE001  # the file halts; why the database does not is to be told
        problem = _schema_problem(settings) or in_one_line(error)
    return Pulled(halt, trading.account, trading.broker.name, cancellation, status, problem, unwritten)


def _record(trading: Trading, halt: Halt, *, is_written: bool, is_cancelled: bool) -> None:
    account = trading.account
    with trading.engine() as engine:
        if is_written and is_cancelled:
            engine.take_over_halt(account)
            return
        now = engine.clock.now()
        if is_written:
            # The file stays, so that whoever comes next asks the broker again.
            engine.store.take_over_halt(account, now)
        else:
            before = engine.store.trading_status(account)
            # What it was halted for is not settled by another halt; one that was never opened must not open by itself.
            known = before.reason if before.state is TradingState.HALTED else ""
            reason = reasons_together(known, halt.reason)
            engine.store.set_trading_state(account, TradingState.HALTED, halt.by, reason, now)
        if halt.cancel:
            engine.cancel_open(account)
        engine.store.drain_outbox(engine.audit)


def _schema_problem(settings: Settings) -> str:
    """Empty also where the database does not say: then the error that led here is told."""
    with suppress(OctopusError, psycopg.Error):
        return schema_problem(settings.database_url)
    return ""


def _is_up(settings: Settings) -> bool:
    # An embedded server that is down is not started: nothing can be sent without it, and it may need minutes.
    if settings.embedded is not None and not settings.embedded.is_running():
        return False
    try:
        with connect(settings.database_url, autocommit=True) as connection:
            row = connection.execute("select to_regclass('execution.trading_state') is not null").fetchone()
    except WarehouseUnreachableError:
        return False
    return bool(row and row[0])
