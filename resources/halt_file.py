"""The kill switch's file: a halt that needs no database, beside Octopus's other files in its home.

Belongs here: reading and writing it, and cancelling our orders at the broker by nothing but its own records. Does not:
the account's state in the database (resources/warehouse/order_store.py), which the file's halt becomes as soon as the
database is there; the audit log then tells of it.

Who sends reads the file before each order, so the file stops trading by itself. A file that cannot be read halts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import psycopg

from octopus.core.errors import OctopusError
from octopus.core.ids import CLIENT_ORDER_PREFIX
from octopus.core.orders import OpenOrder, TradingState
from octopus.core.text import storable
from octopus.execution.halts import reasons_together
from resources import lock_file
from resources.brokers.base import Broker
from resources.warehouse.connection import WarehouseUnreachableError

NAME = "halt.json"
"""In the data folder, which the processes that execute must share with whoever halts."""
_LOCK_SECONDS = 5.0
"""Another process needs milliseconds; one that keeps the lock for longer hangs."""
_FOR_ALL = 0o644
"""Of the file: who executes reads what another user wrote."""
_LOOSEST_FIRST = (TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED)


@dataclass(frozen=True)
class Halt:
    """A turn of the kill switch, or several of which nobody has taken one over yet.

    Attributes:
        by, reason: of the first of them; the reason goes on with those that followed, each with its author if that is
            another.
        at: of the last, by the machine's clock, which is there without the database.
        cancel: open orders are to be cancelled, too, and again by whoever takes the halt over.
        cancelled: client order ids that the broker was asked to cancel without the database.
    """

    state: TradingState
    by: str
    reason: str
    at: datetime
    cancel: bool = False
    cancelled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Whoever takes the halt over has to store what was said, also by a file that was written before.
        object.__setattr__(self, "by", storable(self.by))
        object.__setattr__(self, "reason", storable(self.reason))

    def tightened(self, later: Halt) -> Halt:
        """This halt and a ``later`` one: the tighter state, every cancel, and all that was said."""
        told = later.reason if later.by == self.by else f"{later.reason} (by {later.by})"
        return Halt(
            max(self.state, later.state, key=_LOOSEST_FIRST.index),
            self.by,
            reasons_together(self.reason, told),
            # By its instant whoever has taken the first over knows that there is more.
            later.at,
            self.cancel or later.cancel,
            tuple(dict.fromkeys((*self.cancelled, *later.cancelled))),
        )


class HaltFileBusyError(OctopusError):
    """The halt file cannot be removed: nobody could make sure that another halt is not being written."""


@dataclass(frozen=True)
class HaltFile:
    """The file at ``path``; it names no account and halts every one that is traded from its folder."""

    path: Path

    @classmethod
    def in_home(cls, home: Path) -> HaltFile:
        """That of the data folder ``home``."""
        return cls(home / NAME)

    def read(self) -> Halt | None:
        """The halt that nobody has taken over yet; None without a file. What cannot be read is a halt, too."""
        try:
            told = json.loads(self.path.read_bytes())
            return Halt(
                TradingState(told["state"]), told["by"], told["reason"], datetime.fromisoformat(told["at"]),
                told["cancel"], tuple(told["cancelled"]),
            )  # fmt: skip
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{self.path} cannot be read ({type(error).__name__}): look at it, then `octopus resume`"
            return Halt(TradingState.HALTED, "halt file", reason, self._written())

    def write(self, halt: Halt) -> Halt:
        """Halt from now on: the file is on the disk when this returns, with its lock or without.

        Returns:
            what the file says: the halt, together with one that waits in it (`Halt.tightened`).
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            before = self.read()
            after = halt if before is None else before.tightened(halt)
            self._put(after)
        return after

    def note_cancelled(self, ids: tuple[str, ...]) -> None:
        """Add what the broker was asked to cancel; where the halt was taken over meanwhile, nothing is left to say."""
        with self._locked():
            if ids and (halt := self.read()) is not None:
                self._put(replace(halt, cancelled=tuple(dict.fromkeys((*halt.cancelled, *ids)))))

    def _put(self, halt: Halt) -> None:
        content = {
            "state": halt.state.value, "by": halt.by, "reason": halt.reason, "at": halt.at.isoformat(),
            "cancel": halt.cancel, "cancelled": list(halt.cancelled),
        }  # fmt: skip
        draft = self.path.with_suffix(".draft")
        draft.unlink(missing_ok=True)  # one that another user's crash left could not be written
        with draft.open("w", encoding="utf-8") as handle:
            os.fchmod(handle.fileno(), _FOR_ALL)
            json.dump(content, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, halt: Halt) -> None:
        """The database has this halt now; one that was written meanwhile stays.

        Raises:
            HaltFileBusyError: the lock is not to be had.
        """
        with self._locked() as is_mine:
            if not is_mine:
                raise HaltFileBusyError(
                    f"{self.path} halts still: {self.lock} cannot be locked; end what holds it, or make it readable "
                    "(chmod 666), then `octopus resume`"
                )
            if self.read() == halt:
                self.path.unlink(missing_ok=True)

    def _written(self) -> datetime:
        try:
            return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        except OSError:
            return datetime(1970, 1, 1, tzinfo=UTC)

    @property
    def lock(self) -> Path:
        return self.path.with_suffix(".lock")

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Alone with the file, or, where that is not to be had, not: a halt must never fail for its lock."""
        with ExitStack() as stack:
            is_mine = False
            with suppress(OSError):
                is_mine = stack.enter_context(lock_file.held(self.lock, _LOCK_SECONDS)) is not None
            yield is_mine


@runtime_checkable
class ListsOpenOrders(Protocol):
    """A broker that can list open orders without reading the rest of the account."""

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """What may still fill, whoever sent it: a kill switch must not wait for the rest, nor fail with it."""
        ...


@dataclass(frozen=True)
class Cancellation:
    """What became of asking the broker.

    Attributes:
        asked: client order ids that the broker took a cancel for.
        failed: why it could not be asked, by client order id; under the broker's name when not even its list of open
            orders could be had.
        needs_database: that list could not be had because our database says which of the orders are ours.
    """

    asked: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    needs_database: bool = False


def cancel_at_broker(broker: Broker) -> Cancellation:
    """Ask the broker to cancel every open order of ours, one after the other, whatever happens to the one before.

    Ours are those that bear an id of ours: what a person entered by hand is the person's.
    """
    try:
        listed = broker.open_orders() if isinstance(broker, ListsOpenOrders) else broker.snapshot().open_orders
    except (WarehouseUnreachableError, psycopg.Error) as error:
        return Cancellation(failed={broker.name: in_one_line(error)}, needs_database=True)
    except Exception as error:  # noqa: BLE001  # a halt says what it could not do, whatever that was
        return Cancellation(failed={broker.name: in_one_line(error)})
    asked, failed = [], {}
    for order in listed:
        if not order.client_order_id.startswith(CLIENT_ORDER_PREFIX):
            continue
        try:
            broker.cancel(order.client_order_id)
            asked.append(order.client_order_id)
        except Exception as error:  # noqa: BLE001  # whatever an adapter stumbles over in one, the others must go
            failed[order.client_order_id] = in_one_line(error)
    return Cancellation(tuple(asked), failed)


def in_one_line(error: Exception) -> str:
    """What went wrong: an error of ours says it, any other is named."""
    if isinstance(error, OctopusError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
