"""`make bench-order-path`: from a committed intent to the broker's call, beside the bare commits that it makes.

Belongs here: one order and a batch through the engine on a server that waits for its disk, the same rows written bare
in as many commits on the same server, and the ratio. Does not: the gates' own time (gates.py), a venue's.

An order's way to the broker has two commits: ``submitting`` under the fence, and the audit log's entry of it, whose
checkpoint is a file that is on the disk, too. Before the first order the log is told of the claim, and between two
orders the answer to the one before is committed. They are counted by the transaction ids that the server gave out, and
made again bare: the same rows, one statement each, in a transaction, and the same bytes appended to a file.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import psycopg
from rich.console import Console
from rich.table import Table

from octopus.core.ids import intent_id
from octopus.core.orders import AccountSnapshot, Batch, Fill, GateReport, OrderType, PlannedOrder, Side, TradingState
from octopus.core.sessions import Sessions
from octopus.execution.approval import Decision
from octopus.execution.book import Book, CorporateAction
from octopus.execution.states import OrderState
from octopus.execution.window import execution_window
from resources.brokers.base import BrokerAccount, BrokerOrder, Guarantee, OrderRequest
from resources.execution_engine import ExecutionEngine
from resources.price_feed import HOME, Bar, Conversion
from resources.runtime.postgres import EmbeddedPostgres
from resources.warehouse.audit_log import AuditLog
from resources.warehouse.connection import Role, connect
from resources.warehouse.migrate import migrate
from resources.warehouse.order_store import Claim, OrderStore, StoredBatch

SINGLES, BATCH, BATCHES = 30, 50, 9
DECIDED, ACCOUNT = date(2022, 12, 27), "bench"
SESSIONS = Sessions()
WINDOW = execution_window(SESSIONS, DECIDED, OrderType.MARKET_ON_CLOSE)
PRICE = Decimal(100)


@dataclass
class Stopwatch:
    """Adds up the time between an intent, or a broker's answer, and the broker's call, and the commits made in it.

    Attributes:
        counter: a connection that is asked for the next transaction id, while the watch stands.
        statements: of the store, those that begin and end transactions not counted.
    """

    counter: psycopg.Connection
    seconds: float = 0.0
    commits: int = 0
    statements: int = 0
    _since: float = 0.0
    _next_id: int = 0
    _executed: int = 0
    _had: int = 0

    def watch(self, connection: psycopg.Connection) -> None:
        """Count the statements of ``connection``."""
        watch = self

        class Counting(psycopg.Cursor[Any]):
            def execute(self, *arguments: Any, **named: Any) -> Self:
                watch._executed += 1
                return super().execute(*arguments, **named)

        connection.cursor_factory = Counting

    def start(self) -> None:
        self._next_id = self._asked()
        self._had = self._executed
        self._since = time.perf_counter()

    def stop(self) -> None:
        self.seconds += time.perf_counter() - self._since
        self.statements += self._executed - self._had
        self.commits += self._asked() - self._next_id

    def _asked(self) -> int:
        row = self.counter.execute("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
        return int(row[0]) if row else 0


@dataclass(frozen=True)
class TimedStore(OrderStore):
    """Starts the watch when the intents are committed."""

    watch: list[Stopwatch] = field(default_factory=list)

    def claim(
        self, stored: StoredBatch, judged: Sequence[PlannedOrder], decision: Decision, snapshot: AccountSnapshot,
        run_id: str, now: datetime,
    ) -> Claim:  # fmt: skip
        claimed = super().claim(stored, judged, decision, snapshot, run_id, now)
        self.watch[0].start()
        return claimed


@dataclass
class Venue:
    """Takes every order at once and lets it lapse; stops the watch at its call and starts it at its answer."""

    watch: Stopwatch
    name: str = "bench"
    guarantee: Guarantee = Guarantee.IDEMPOTENT_KEY
    keeps: timedelta | None = None

    def account(self) -> BrokerAccount:
        return BrokerAccount(ACCOUNT, "B1", "USD", is_paper=True)

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        return AccountSnapshot(ACCOUNT, WINDOW.not_before, Decimal(10**7), {}, dict.fromkeys(quoted, PRICE), ())

    def submit(self, request: OrderRequest) -> BrokerOrder:
        self.watch.stop()
        taken = BrokerOrder(
            request.client_order_id, f"B-{request.client_order_id}", request.instrument, request.side,
            request.quantity, OrderState.ACCEPTED, Decimal(0),
        )  # fmt: skip
        self.watch.start()
        return taken

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        return BrokerOrder(
            client_order_id, f"B-{client_order_id}", "", Side.BUY, Decimal(1), OrderState.EXPIRED, Decimal(0), "lapsed"
        )

    def cancel(self, client_order_id: str) -> None:
        """Nothing stands."""

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        return ()

    def statement(self, since: datetime | None = None) -> Book:
        return Book(ACCOUNT, Decimal(0), {})


class NoPrices:
    """A feed of nothing: no NAV is struck."""

    def bar(self, instrument: str, session: date) -> Bar | None:
        return None

    def kept_out(self, instrument: str, session: date) -> str:
        return ""

    def conversion(self, instrument: str, session: date) -> Conversion | None:
        return HOME

    def last_session(self) -> date | None:
        return None

    def last_close(self, instrument: str, session: date, named: date | None = None) -> Decimal | None:
        return None

    def refusal(self, instrument: str, session: date) -> str:
        return ""

    def actions(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        return ()

    def exchanges(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        return ()


class Clock:
    """Stands at the window's beginning and jumps where it is waited for."""

    def __init__(self) -> None:
        self.at = WINDOW.not_before

    def now(self) -> datetime:
        return self.at

    def wait_until(self, instant: datetime) -> None:
        self.at = max(self.at, instant)


def approve(batch: Batch, _snapshot: AccountSnapshot, _now: datetime, _state: TradingState) -> tuple[GateReport, ...]:
    ids = tuple(order.intent_id for order in batch.orders)
    return GateReport("risk", ids), GateReport("compliance", ids)


def store_plan(url: str, number: int, count: int) -> str:
    """A judged plan of ``count`` orders, newer than those before it."""
    batch_id = f"{ACCOUNT}-{number:04d}"
    created = datetime(2022, 12, 27, 22, number // 60, number % 60, tzinfo=UTC)
    with connect(url, Role.RESEARCH) as connection:
        connection.execute(
            "insert into portfolio.batches values (%s, %s, %s, 'decision', 'snapshot', %s, %s, null, %s)",
            [batch_id, ACCOUNT, DECIDED, WINDOW.not_before, WINDOW.expires_at, created],
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into portfolio.rebalance_plan values (%s, %s, %s, 'buy', 10, %s, 'market_on_close', null)",
                [(batch_id, intent_id(batch_id, name), name, PRICE) for name in (f"N{n:03d}" for n in range(count))],
            )
        connection.execute(
            "insert into compliance.approvals values (%s, %s, 0, 'r', 'c', %s)", [batch_id, count, created]
        )
    return batch_id


def run(url: str, anchor: Path, number: int, count: int) -> Stopwatch:
    """Execute a batch of ``count`` orders and time its ways to the broker."""
    batch_id = store_plan(url, number, count)
    with connect(url, autocommit=True) as counter, TimedStore.opened(url) as store:
        watch = Stopwatch(counter)
        watch.watch(store.connection)
        assert isinstance(store, TimedStore)
        store.watch.append(watch)
        engine = ExecutionEngine(store, Venue(watch), Clock(), approve, AuditLog(url, anchor), NoPrices(), SESSIONS)
        sent = engine.execute_batch(batch_id, "bench").placement.sent
    if len(sent) != count:
        raise SystemExit(f"{len(sent)} of {count} orders were sent: nothing is measured")
    return watch


class Bare:
    """The same rows in as many commits, and nothing else: copies of the tables, and a file beside the anchor.

    An order's rows are taken as the engine left them. The commits go over a connection as new as the engine's: on both
    sides the server plans each statement for the first time.
    """

    TABLES = ("execution.orders", "execution.order_events", "execution.outbox", "execution.leases", "audit.log")

    def __init__(self, url: str, anchor: Path) -> None:
        self.connection = connect(url, autocommit=True)
        self._file = anchor.with_suffix(".bare")
        self._line = anchor.read_bytes().splitlines(keepends=True)[-1]
        self.connection.execute("drop schema if exists bare cascade")
        self.connection.execute("create schema bare")
        for name in self.TABLES:
            copy = f"bare.{name.rsplit('.', maxsplit=1)[-1]}"
            self.connection.execute(f"create table {copy} (like {name} including all)")
        self.connection.execute("insert into bare.orders select * from execution.orders")
        self.connection.execute("insert into bare.leases select * from execution.leases")
        ids = self.connection.execute("select client_order_id from execution.orders").fetchall()
        self.orders = [str(row[0]) for row in ids]
        self.event = (
            self.connection.execute(
                "select from_state, to_state, at, fence, detail from execution.order_events "
                "where to_state = 'submitting' limit 1"
            ).fetchone()
            or ()
        )
        self.entry = (
            self.connection.execute(
                "select at, kind, subject, payload, prev_hash, hash from audit.log "
                "where kind = 'order.submitting' limit 1"
            ).fetchone()
            or ()
        )
        self._seq = 0
        self.connection.close()
        self.connection = connect(url, autocommit=True)

    def change(self, order_id: str) -> None:
        """An order's new state, its event and what the audit log is to be told."""
        with self.connection.transaction():
            self.connection.execute("update bare.leases set expires_at = clock_timestamp()")
            self.connection.execute(
                "update bare.orders set updated_at = clock_timestamp() where client_order_id = %s", [order_id]
            )
            self.connection.execute(
                "insert into bare.order_events (client_order_id, from_state, to_state, at, fence, detail) "
                "values (%s, %s, %s, %s, %s, %s)",
                [order_id, *self.event[:4], psycopg.types.json.Jsonb(self.event[4])],
            )
            self.connection.execute(
                "insert into bare.outbox (kind, subject, payload) values (%s, %s, %s)",
                [*self.entry[1:3], psycopg.types.json.Jsonb({"payload": self.entry[3]})],
            )

    def tell(self, entries: int) -> None:
        """The audit log's entries, in place of what waited to be told, and their checkpoint on the disk."""
        numbers = range(self._seq + 1, self._seq + entries + 1)
        self._seq += entries
        with self.connection.transaction():
            self.connection.execute("delete from bare.outbox")
            self.connection.execute(
                "insert into bare.log (seq, at, kind, subject, payload, prev_hash, hash) values "
                + ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * entries),
                [value for number in numbers for value in (number, *self.entry)],
            )
        with self._file.open("ab") as handle:
            handle.write(self._line)
            handle.flush()
            os.fsync(handle.fileno())

    def seconds(self, commits: int, orders: int) -> float:
        """So many commits, as the engine makes them.

        The log is told of the claim and its approvals, then of each order that leaves and of the answer before it.
        """
        told = [1 + orders, 1, *[2] * (orders - 1)]
        started = time.perf_counter()
        for entries in told:
            self.tell(entries)
        for number in range(commits - len(told)):
            self.change(self.orders[number % len(self.orders)])
        return time.perf_counter() - started


@contextmanager
def served() -> Iterator[tuple[str, Path]]:
    """A migrated database on an embedded server that waits for its disk, and where the audit log is anchored."""
    home = Path(tempfile.mkdtemp(prefix="octopus-bench-"))
    server = EmbeddedPostgres(home)
    server.start()
    try:
        url = server.url()
        migrate(url)
        with connect(url) as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                row = connection.execute("select current_setting(%s)", [setting]).fetchone()
                if row is None or row[0] != "on":
                    raise SystemExit(f"{setting} is {row and row[0]}: a commit would not wait for the disk")
        with OrderStore.opened(url) as store:
            store.open_account(ACCOUNT, "bench", "opened to be measured", WINDOW.not_before)
        yield url, home / "audit.anchor"
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    table = Table("orders", "statements", "commits", "intent to broker call, ms", "bare commits, ms", "ratio")
    with served() as (url, anchor):
        run(url, anchor, 0, 2)
        number = 0
        for size, times in ((1, SINGLES), (BATCH, BATCHES)):
            ours, bare, commits, statements = [], [], [], []
            for _ in range(times):
                number += 1
                watch = run(url, anchor, number, size)
                floor = Bare(url, anchor)
                commits.append(watch.commits)
                statements.append(watch.statements)
                ours.append(1000 * watch.seconds)
                bare.append(1000 * floor.seconds(watch.commits, size))
                floor.connection.close()
            mine, theirs = statistics.median(ours), statistics.median(bare)
            counts = (f"{statistics.median(statements):.0f}", f"{statistics.median(commits):.0f}")
            table.add_row(str(size), *counts, f"{mine:.2f}", f"{theirs:.2f}", f"{mine / theirs:.2f}")
    console = Console()
    console.print(
        f"an order's way to the broker, fsync on; medians of {SINGLES} single orders and {BATCHES} batches of {BATCH}"
    )
    console.print(table)


if __name__ == "__main__":
    main()
