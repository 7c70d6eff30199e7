"""A worker's power supply: every effect of the engine passes a point before and after it, where the power may fail.

The engine itself knows nothing of it. What it touches is wrapped: each transaction of its store (before and after the
commit), each question to the broker (before and after the answer), each wait, and the file that anchors the audit log.
So a point that is added to the engine tomorrow is a point here without anybody having to remember it.

`PowerCut` is no `Exception`, and once the power is gone nothing more of the worker takes effect, not even what it does
in a ``finally``: to the database and the venue that is a SIGKILL. `test_execution_kills.py` sends real ones at the same
points.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from resources.execution_engine import ExecutionEngine
from resources.warehouse.audit_log import AuditLog
from resources.warehouse.order_records import OrderRecords

ASKED = (
    "account",
    "snapshot",
    "submit",
    "submit_bracket",
    "replace",
    "order",
    "cancel",
    "fills",
    "revisions",
    "statement",
)


class PowerCut(BaseException):  # not an error that anything may handle
    """The worker is gone."""


def steady(_number: int, _name: str) -> None:
    """Nothing happens at any point."""


@dataclass
class Power:
    """Counts the points that a worker passes.

    Attributes:
        at: what happens at a point, told its number (from 0) and name; it may call `cut`.
        reached: names of the points passed, in order.
    """

    at: Callable[[int, str], None] = steady
    reached: list[str] = field(default_factory=list)
    is_cut: bool = False
    connections: list[psycopg.Connection] = field(default_factory=list)

    def point(self, name: str) -> None:
        if self.is_cut:
            raise PowerCut(name)
        self.reached.append(name)
        self.at(len(self.reached) - 1, name)

    def cut(self) -> None:
        """End the worker here: its connections drop, and nothing of it takes effect any more."""
        self.is_cut = True
        for connection in self.connections:
            connection.close()
        raise PowerCut(self.reached[-1])

    def alive(self) -> None:
        if self.is_cut:
            raise PowerCut("gone")


@dataclass(frozen=True)
class PoweredConnection:
    """The store's connection: a point before and after each commit, named by the method that commits."""

    inner: psycopg.Connection
    power: Power

    def transaction(self) -> AbstractContextManager[None]:
        return self._transaction(sys._getframe(1).f_code.co_name)

    @contextmanager
    def _transaction(self, name: str) -> Iterator[None]:
        self.power.alive()
        with self.inner.transaction():
            yield
            self.power.point(f"{name}: before commit")
        self.power.point(f"{name}: committed")

    def execute(self, *arguments: Any, **named: Any) -> Any:
        """A statement; one that is a transaction of its own is named by the public method that asks for it."""
        self.power.alive()
        caller = sys._getframe(1)
        if caller.f_code is not OrderRecords._all_at_once.__code__:
            return self.inner.execute(*arguments, **named)
        while caller.f_back is not None and caller.f_code.co_name.startswith("_"):
            caller = caller.f_back
        name = caller.f_code.co_name
        self.power.point(f"{name}: before commit")
        done = self.inner.execute(*arguments, **named)
        self.power.point(f"{name}: committed")
        return done

    def __getattr__(self, name: str) -> Any:
        self.power.alive()
        return getattr(self.inner, name)


@dataclass(frozen=True)
class PoweredBroker:
    """A broker: a point before each request leaves and after its answer is in, failures too."""

    inner: Any
    power: Power

    def __getattr__(self, name: str) -> Any:
        self.power.alive()
        found = getattr(self.inner, name)
        if name not in ASKED:
            return found

        def ask(*arguments: Any, **named: Any) -> Any:
            self.power.point(f"{name}: before asking")
            try:
                return found(*arguments, **named)
            finally:
                self.power.point(f"{name}: answered")

        return ask


@dataclass(frozen=True)
class PoweredClock:
    """A clock: a point before and after each wait that takes time."""

    inner: Any
    power: Power

    def now(self) -> datetime:
        self.power.alive()
        return self.inner.now()  # type: ignore[no-any-return]

    def wait_until(self, instant: datetime) -> None:
        self.power.point("wait: begun")
        self.inner.wait_until(instant)
        self.power.point("wait: over")


@dataclass(frozen=True)
class PoweredAudit(AuditLog):
    """The audit log: a point before and after its anchor moves."""

    power: Power = field(default_factory=Power)

    def remember(self, head: Any) -> None:
        self.power.point("anchor: before")
        super().remember(head)
        self.power.point("anchor: moved")


def powered(engine: ExecutionEngine, power: Power) -> ExecutionEngine:
    """The engine with every effect of its passing through ``power``."""
    power.connections.append(engine.store.connection)
    return replace(
        engine,
        store=replace(engine.store, connection=PoweredConnection(engine.store.connection, power)),  # type: ignore[arg-type]
        broker=PoweredBroker(engine.broker, power),  # type: ignore[arg-type]
        clock=PoweredClock(engine.clock, power),
        audit=PoweredAudit(engine.audit.url, engine.audit.anchor, power),
    )


def whenever(name: str, act: Callable[[], None]) -> Power:
    """Power that never fails; ``act`` is called each time the point ``name`` is passed."""
    return Power(lambda _number, reached: act() if reached == name else None)
