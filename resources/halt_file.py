"""The kill switch's file: a halt that needs no database, beside Octopus's other files in its home.

Belongs here: reading and writing it, and cancelling our orders at the broker by nothing but its own records. Does not:
the account's state in the database (resources/warehouse/order_store.py), which the file's halt becomes as soon as the
database is there; the audit log then tells of it.

Who sends reads the file before each order, so the file stops trading by itself. A file that cannot be read halts.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from octopus.core.errors import OctopusError
from octopus.core.ids import CLIENT_ORDER_PREFIX
from octopus.core.orders import OpenOrder, TradingState
from resources.brokers.base import Broker

NAME = "halt.json"
"""In the data folder, which the processes that execute must share with whoever halts."""


@dataclass(frozen=True)
class Halt:
    """A turn of the kill switch.

    Attributes:
        at: by the machine's clock, which is there without the database.
        cancel: open orders are to be cancelled, too, and again by whoever takes the halt over.
        cancelled: client order ids that the broker was asked to cancel without the database.
    """

    state: TradingState
    by: str
    reason: str
    at: datetime
    cancel: bool = False
    cancelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class HaltFile:
    """The file at ``path``; it halts every account that is traded from its folder."""

    path: Path

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

    def write(self, halt: Halt) -> None:
        """Halt from now on: the file is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "state": halt.state.value, "by": halt.by, "reason": halt.reason, "at": halt.at.isoformat(),
            "cancel": halt.cancel, "cancelled": list(halt.cancelled),
        }  # fmt: skip
        with self._locked():
            draft = self.path.with_suffix(".draft")
            with draft.open("w", encoding="utf-8") as handle:
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
        """The database has this halt now; one that was written meanwhile stays."""
        with self._locked():
            if self.read() == halt:
                self.path.unlink(missing_ok=True)

    def _written(self) -> datetime:
        try:
            return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        except OSError:
            return datetime(1970, 1, 1, tzinfo=UTC)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.path.with_suffix(".lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield


@runtime_checkable
class ListsOpenOrders(Protocol):
    """A broker that can list open orders without reading the rest of the account."""

    def open_orders(self) -> tuple[OpenOrder, ...]: ...


@dataclass(frozen=True)
class Cancellation:
    """What became of asking the broker.

    Attributes:
        asked: client order ids that the broker took a cancel for.
        failed: why it could not be asked, by client order id; under the broker's name when not even its list of open
            orders could be had.
    """

    asked: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


def cancel_at_broker(broker: Broker) -> Cancellation:
    """Ask the broker to cancel every open order of ours, one after the other, whatever happens to the one before.

    Ours are those that bear an id of ours: what a person entered by hand is the person's.
    """
    try:
        listed = broker.open_orders() if isinstance(broker, ListsOpenOrders) else broker.snapshot().open_orders
    except OctopusError as error:
        return Cancellation(failed={broker.name: str(error)})
    asked, failed = [], {}
    for order in listed:
        if not order.client_order_id.startswith(CLIENT_ORDER_PREFIX):
            continue
        try:
            broker.cancel(order.client_order_id)
            asked.append(order.client_order_id)
        except OctopusError as error:
            failed[order.client_order_id] = str(error)
    return Cancellation(tuple(asked), failed)
