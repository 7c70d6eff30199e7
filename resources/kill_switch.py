"""Pulling the kill switch: the file first, then the broker, then the database as far as it is there.

Belongs here: that order, and what came of each. Does not: the file (halt_file.py), the account's state
(warehouse/order_store.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from octopus.core.errors import OctopusError
from resources.halt_file import Cancellation, Halt, cancel_at_broker
from resources.settings import Settings
from resources.trading import Trading
from resources.trading_state import halt_file
from resources.warehouse.connection import connect


@dataclass(frozen=True)
class Pulled:
    """What pulling the switch came to; the halt itself stands in any case.

    Attributes:
        recorded: the database has it; else the file halts until then.
        problem: why a database that is there did not take it.
    """

    cancellation: Cancellation
    recorded: bool
    problem: str = ""

    @property
    def done(self) -> bool:
        """Everything that was asked for and could be done is done."""
        return not (self.cancellation.failed or self.problem)


def pull(trading: Trading, halt: Halt) -> Pulled:
    """Halt, and cancel open orders if ``halt`` says so; needs no database."""
    halts = halt_file(trading.settings)
    # The file comes first: it stops trading at once, whatever becomes of the rest.
    halts.write(halt)
    cancellation = Cancellation()
    if halt.cancel:
        cancellation = cancel_at_broker(trading.broker)
        halts.write(replace(halt, cancelled=cancellation.asked))
    if not _is_up(trading.settings):
        return Pulled(cancellation, recorded=False)
    try:
        with trading.engine() as engine:
            engine.take_over_halt(trading.account)
    except OctopusError as error:
        return Pulled(cancellation, recorded=False, problem=str(error))
    return Pulled(cancellation, recorded=True)


def _is_up(settings: Settings) -> bool:
    # An embedded server that is down is not started: nothing can be sent without it, and it may need minutes.
    if settings.embedded is not None and not settings.embedded.is_running():
        return False
    try:
        with connect(settings.database_url, autocommit=True) as connection:
            row = connection.execute("select to_regclass('execution.trading_state') is not null").fetchone()
    except OctopusError:
        return False
    return bool(row and row[0])
