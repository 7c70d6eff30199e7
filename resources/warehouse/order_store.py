"""An order's way to the broker and back, as our records have it, each step in one short transaction.

Belongs here: the kill switch, plans and releases, claims and fences, an order's states from approved to terminal, and
the queue of what the audit log must be told. Does not: what was executed and what the account holds for it
(account_books.py), talking to a broker (no transaction is open while one is asked), deciding (octopus/execution) and
the order of the steps (resources/execution_engine.py).

Who may send: the account's advisory lock keeps two workers apart while both can reach the database. The fence keeps
out a worker that lost the lock without noticing: each claim raises it, and `begin_send` refuses a lower one in the very
transaction that commits ``submitting``. The lease's expiry stops a worker that slept through it. What a broker reports
may be recorded by anyone: it is true whoever heard it, and recording it twice changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from octopus.compliance.replay import seal_of
from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.ids import canonical_json, client_order_id, entry_order_id
from octopus.core.orders import (
    AccountSnapshot,
    Batch,
    Bracket,
    OpenOrder,
    OrderType,
    Outcome,
    PlannedOrder,
    Side,
    TradingState,
    Verdict,
)
from octopus.execution.approval import Decision, content_hash
from octopus.execution.exits import exit_orders, follows
from octopus.execution.halts import reasons_together
from octopus.execution.replacements import Outcome as SwapOutcome
from octopus.execution.replacements import Request, Swap, replacement_id, why_not
from octopus.execution.schedules import parent_of
from octopus.execution.states import TERMINAL, UNRESOLVED, WORKING, Event, OrderState, OrderStatus, advance
from octopus.portfolio.units import NO_UNITS, TradingUnits
from resources.halt_file import Halt, HaltFile
from resources.warehouse.account_lock import lock_key
from resources.warehouse.audit_log import AuditLog, ChainEnd, Record, sealed
from resources.warehouse.connection import Role, connect
from resources.warehouse.order_records import OrderRecords, as_json

_LOCK_POLL_SECONDS = 0.05
_LIVE_STATES = sorted(state.value for state in WORKING | {OrderState.APPROVED})


class BatchRefusedError(OctopusError):
    """The batch may not be executed, now or ever; the message says why and what to do."""


class AwaitingReleaseError(BatchRefusedError):
    """Nobody has released the batch with the content that it has."""


class TradingHaltedError(BatchRefusedError):
    """The kill switch is on."""


class TradingStateChangedError(BatchRefusedError):
    """The kill switch was turned since it was judged what may be sent: that is to be judged anew."""


class OrderActionError(OctopusError):
    """An order cannot be cancelled or replaced as asked; the message says why and what to do."""


class OrderChangedError(OctopusError):
    """An order is not as it was read under the lock of its row."""


class AccountBusyError(OctopusError):
    """Another worker executes on the account."""


class FencedOutError(OctopusError):
    """This worker lost the account to another one, or slept past its lease: it may send nothing more."""


@dataclass(frozen=True)
class TradingStatus:
    """The kill switch as it counts: a database that was restored, or an account never opened, is halted."""

    state: TradingState
    reason: str

    def refusal(self, account: str) -> TradingHaltedError:
        """What is said of a halt where something was to be judged or sent."""
        return TradingHaltedError(f"trading in account {account} is halted: {self.reason}; see `octopus resume`")


@dataclass(frozen=True)
class StoredBatch:
    """A rebalance plan as research left it.

    Attributes:
        successor: the batch that replaces it, named as such or decided later for the same account; None if current.
        judged: both gates of research have spoken.
        research_denials: reason by intent id.
        swaps: replacements among the batch's orders, by intent id.
    """

    batch: Batch
    successor: str | None
    judged: bool
    research_denials: Mapping[str, str]
    swaps: Mapping[str, Swap] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredOrder:
    """An order of ours as our records have it.

    Attributes:
        exit_of: intent id of the entry that it protects; None of any other order.
    """

    client_order_id: str
    broker_order_id: str | None
    batch_id: str
    account: str
    order: PlannedOrder
    status: OrderStatus
    expires_at: datetime
    exit_of: str | None = None


@dataclass(frozen=True)
class LiveOrder:
    """An order that waits to be sent or may still fill, as far as the limits need to know it.

    Attributes:
        exit_of: intent id of the entry that it protects; None of any other order.
    """

    intent_id: str
    batch_id: str
    state: OrderState
    open: OpenOrder
    exit_of: str | None


class _Intent(NamedTuple):
    """What stays as it is of an order, in the order in which orders are told; ``quantity`` as text."""

    session: date
    instrument: str
    intent_id: str
    batch_id: str
    exit_of: str | None
    side: str
    quantity: str


@dataclass(frozen=True)
class Claim:
    """The right to send a batch's orders, until a higher fence ends it.

    Attributes:
        snapshot: the stored snapshot that the claim was judged with.
    """

    batch_id: str
    account: str
    attempt: int
    fence: int
    snapshot: AccountSnapshot


class _News(NamedTuple):
    """What a broker tells of an order once; None: nothing, or known before."""

    broker_order_id: str | None = None
    quantity: Decimal | None = None


_NO_NEWS = _News()


class _Sent(NamedTuple):
    """An order as it is since this worker sent it, unless somebody else has moved it."""

    status: OrderStatus
    fence: int


@dataclass(frozen=True)
class _HeldOrder:
    """An order whose row a transaction holds to its end.

    Attributes:
        exits: client order ids of the exits that went, or go, with it.
        fence: under which it was sent last; None before it was sent.
        news: what the broker told with a report and the row does not have yet.
    """

    status: OrderStatus
    exits: Sequence[str]
    fence: int | None
    news: _News


@dataclass(frozen=True)
class OrderStore(OrderRecords):
    """Orders, and who may send them, over one connection that commits each transaction at its end.

    Attributes:
        url: for the connections of their own that account locks need.
        lease_seconds: how long a worker may sleep between two sends and still send.
        halts: the kill switch's file, which counts beside the account's state; None: there is none.
    """

    url: str
    connection: psycopg.Connection
    lease_seconds: float = 300.0
    halts: HaltFile | None = None

    @classmethod
    @contextmanager
    def opened(cls, url: str, lease_seconds: float = 300.0, halts: HaltFile | None = None) -> Iterator[OrderStore]:
        """A store for the length of a ``with`` block, in the role of the trader."""
        with connect(url, Role.TRADER, autocommit=True) as connection:
            # What is asked twice is asked for each order of a batch.
            connection.prepare_threshold = 1
            yield cls(url, connection, lease_seconds, halts)

    # -- the account's lock and the kill switch ----------------------------------------------------------------------

    @contextmanager
    def account_lock(self, account: str, wait_seconds: float = 5.0) -> Iterator[None]:
        """Hold the account for this worker alone, on a connection of its own.

        Raises:
            AccountBusyError: another worker holds it for longer than ``wait_seconds``.
        """
        key = lock_key(account)
        with connect(self.url, Role.TRADER, autocommit=True) as holder:
            deadline = time.monotonic() + wait_seconds
            while not _scalar(holder, "select pg_try_advisory_lock(%s)", [key]):
                if time.monotonic() >= deadline:
                    raise AccountBusyError(
                        f"account {account} is being executed by another run; wait for it to end, then try again"
                    )
                time.sleep(_LOCK_POLL_SECONDS)
            yield

    def open_account(self, account: str, by: str, reason: str, now: datetime) -> bool:
        """Set trading to active for an account that has no state yet; False when it has one already."""
        with self.connection.transaction():
            opened = self.connection.execute(
                "insert into execution.trading_state (account, state, reason, changed_by, changed_at, database_id) "
                "values (%s, 'active', %s, %s, %s, execution.database_id()) on conflict (account) do nothing",
                [account, reason, by, now],
            )
            if opened.rowcount:
                self._note("trading.opened", account, {"by": by, "reason": reason, "trading_time": now})
        return bool(opened.rowcount)

    def set_trading_state(
        self, account: str, state: TradingState, by: str, reason: str, now: datetime, written: datetime | None = None
    ) -> None:
        """Turn the kill switch. Turning it for a restored database accepts that database from then on.

        Args:
            now: by the trading clock, which on recorded data stands in the past.
            written: of a halt that was written without the database: when, by the machine's clock; it is known again
                by that.
        """
        with self.connection.transaction():
            self.connection.execute(
                "insert into execution.trading_state (account, state, reason, changed_by, changed_at, database_id) "
                "values (%(account)s, %(state)s, %(reason)s, %(by)s, %(now)s, execution.database_id()) "
                "on conflict (account) do update set state = excluded.state, reason = excluded.reason, "
                "changed_by = excluded.changed_by, changed_at = excluded.changed_at, "
                "database_id = excluded.database_id",
                {"account": account, "state": state.value, "reason": reason, "by": by, "now": written or now},
            )
            self._note(f"trading.{state.value}", account, {"by": by, "reason": reason, "trading_time": now})

    def take_over_halt(self, account: str, now: datetime) -> Halt | None:
        """Make the halt file's halt the account's own, with a note of it for the audit log; None without one.

        It never loosens what stops more. The file stays until its orders are cancelled, too (`HaltFile.remove`).

        Args:
            now: by the trading clock. On recorded data it is long before the halt was written, and the halt is of now.
        """
        halt = self.halts and self.halts.read()
        if not halt:
            return None
        with self.connection.transaction():
            row = self._row(
                "select state, reason, changed_by, changed_at, database_id = execution.database_id() as here "
                "from execution.trading_state where account = %s for update",
                [account],
            )
            if row is not None and (row["changed_by"], row["changed_at"]) == (halt.by, halt.at):
                return halt
            detail = {"cancel": halt.cancel, "cancelled": list(halt.cancelled), "by": halt.by, "reason": halt.reason}
            self._note("trading.halt_file", account, {**detail, "halted_at": halt.at})
            # A restored database is halted as it is: to set its state would be to accept it.
            if row is None or row["here"]:
                state, reason = halt.state, halt.reason
                if row is not None and row["state"] == TradingState.HALTED:
                    # What it was halted for is not settled by another halt.
                    state, reason = TradingState.HALTED, reasons_together(row["reason"], halt.reason)
                self.set_trading_state(account, state, halt.by, reason, min(halt.at, now), written=halt.at)
        return halt

    def tell_uncancelled(self, account: str, why: str, now: datetime) -> None:
        """Note, for people to be told, that a halt cancelled not all that is open."""
        self._note("alert.not_cancelled", account, {"reason": why, "trading_time": now})

    def trading_status(self, account: str) -> TradingStatus:
        """The kill switch as it counts now: what stops more, the account's state or a halt that waits in the file."""
        return self._as_it_counts(account, self._row(_STATE, [self._database_id, account]))

    def resumed_at(self, batch_id: str) -> datetime | None:
        """When trading was turned on again since the batch was last claimed; None unless orders of it wait for that."""
        resumed: datetime | None = _scalar(
            self.connection,
            """
            select case when t.changed_at > a.claimed_at and t.state <> 'halted' and exists (
                select from execution.orders o join execution.order_intents i using (intent_id)
                where i.batch_id = a.batch_id and i.exit_of is null and o.state = 'approved') then t.changed_at end
            from execution.attempts a join execution.trading_state t using (account)
            where a.batch_id = %s order by a.attempt desc limit 1
            """,
            [batch_id],
        )
        return resumed

    def _as_it_counts(self, account: str, row: DictRow | None) -> TradingStatus:
        """``row`` of the account's state, together with the halt file."""
        return self._with_halt_file(self._stored_status(account, row))

    def _with_halt_file(self, stored: TradingStatus) -> TradingStatus:
        halt = self.halts and self.halts.read()
        if not halt or stored.state is TradingState.HALTED:
            return stored
        return TradingStatus(halt.state, f"{halt.reason} (by {halt.by}, in the halt file)")

    @cached_property
    def _database_id(self) -> str:
        """Which database this is, asked once: none is restored under a connection, and the server reads files for it.

        A standby can be promoted under a connection, and is another database from then on: a claim asks anew.
        """
        found: str = _scalar(self.connection, "select execution.database_id()")
        return found

    @staticmethod
    def _stored_status(account: str, row: DictRow | None) -> TradingStatus:
        if row is None:
            return TradingStatus(TradingState.HALTED, f"account {account} was never opened for trading")
        if not row["here"]:
            return TradingStatus(
                TradingState.HALTED, "this database was restored or moved; check the account, then `octopus resume`"
            )
        return TradingStatus(TradingState(row["state"]), row["reason"])

    # -- what there is to execute ------------------------------------------------------------------------------------

    def batch(self, batch_id: str) -> StoredBatch:
        """The plan; raises `BatchRefusedError` when there is none."""
        head = self._row(
            """
            select b.*, exists (select from compliance.approvals a where a.batch_id = b.batch_id) as judged
            from portfolio.batches b where b.batch_id = %s
            """,
            [batch_id],
        )
        if head is None:
            raise BatchRefusedError(f"batch {batch_id} does not exist; run the research job that plans it first")
        orders = tuple(
            _planned(row)
            for row in self._rows(
                "select * from portfolio.rebalance_plan where batch_id = %s order by instrument", [batch_id]
            )
        )
        batch = Batch(batch_id, head["account"], head["session"], head["not_before"], head["expires_at"], orders)
        return StoredBatch(batch, self.successor(batch_id), head["judged"], self._research_denials(batch))

    def latest_batch(self, account: str) -> str | None:
        """Id of the account's batch that nothing supersedes; None before the first."""
        latest: str | None = _scalar(
            self.connection,
            "select batch_id from portfolio.batches where account = %s and superseded_by is null "
            "order by session desc, created_at desc, batch_id desc limit 1",
            [account],
        )
        return latest

    def successor(self, batch_id: str) -> str | None:
        """The batch that replaces this one: named as such, or decided later for the same account."""
        successor: str | None = _scalar(self.connection, "select execution.successor(%s)", [batch_id])
        return successor

    def _research_denials(self, batch: Batch) -> dict[str, str]:
        rows = self._rows(
            """
            select intent_id, rule, reason from risk.limit_report where batch_id = %(batch)s and outcome = 'deny'
            union all
            select intent_id, rule, reason from compliance.pretrade_report where batch_id = %(batch)s and outcome =
            'deny'
            """,
            {"batch": batch.batch_id},
        )
        denials: dict[str, str] = {}
        for row in rows:
            # A gate denies the batch as a whole only where it approved none of it.
            names = [row["intent_id"]] if row["intent_id"] else [order.intent_id for order in batch.orders]
            for name in names:
                denials.setdefault(name, f"{row['rule']}: {row['reason']}")
        return denials

    def orders(
        self,
        account: str,
        states: Collection[OrderState] | None = None,
        batch_id: str | None = None,
        ids: Collection[str] | None = None,
    ) -> tuple[StoredOrder, ...]:
        """Orders of the account, by state, batch and client order id if given, oldest batch first."""
        rows = self._rows(
            """
            select o.client_order_id, o.broker_order_id, o.account, o.state, o.filled_quantity, o.revised_quantity,
                i.intent_id, i.batch_id, i.instrument, i.side, i.quantity, i.reference_price, i.order_type, i.price,
                i.exit_of, coalesce(o.quantity, i.quantity) as sent_quantity,
                b.expires_at, array(select f.fill_id from execution.fills f where f.client_order_id =
                o.client_order_id) as fill_ids
            from execution.orders o
            join execution.order_intents i using (intent_id)
            join portfolio.batches b using (batch_id)
            where o.account = %(account)s and (%(states)s::text[] is null or o.state = any(%(states)s))
              and (%(batch)s::text is null or i.batch_id = %(batch)s)
              and (%(ids)s::text[] is null or o.client_order_id = any(%(ids)s))
            order by i.session, i.instrument
            """,
            {
                "account": account,
                "states": None if states is None else [state.value for state in states],
                "batch": batch_id,
                "ids": None if ids is None else list(ids),
            },
        )
        return tuple(_stored_order(row) for row in rows)

    def unresolved(self, account: str) -> tuple[StoredOrder, ...]:
        """Orders that may or may not stand at the broker."""
        return self.orders(account, UNRESOLVED)

    def working(self, account: str) -> tuple[StoredOrder, ...]:
        """Orders that may still fill."""
        return self.orders(account, WORKING)

    def live(self, account: str) -> tuple[TradingStatus, tuple[LiveOrder, ...]]:
        """The kill switch as it counts now, and the account's orders that wait to be sent or may still fill, oldest
        batch first.

        Asked before each order: only what changes is read again, and all of it at once.
        """
        found = self.connection.execute(_LIVE, [self._database_id, _LIVE_STATES, account]).fetchall()
        switch = dict(zip(("state", "reason", "here"), found[0][:3], strict=True)) if found else None
        rows = [row[3:] for row in found if row[3] is not None]
        known = self._intents
        new = [row[0] for row in rows if row[0] not in known]
        if new:
            told = self.connection.execute(
                "select client_order_id, session, instrument, intent_id, batch_id, exit_of, side, quantity::text "
                "from execution.order_intents where client_order_id = any(%s)",
                [new],
            )
            known.update((row[0], _Intent(*row[1:])) for row in told)
        rows.sort(key=lambda row: known[row[0]])
        return self._as_it_counts(account, switch), tuple(self._live_order(row) for row in rows)

    def _live_order(self, row: tuple[Any, ...]) -> LiveOrder:
        # From one order to the next, most of what is read is as it was.
        found = self._live.get(row[0])
        if found is None or found[0] != row:
            found = self._live[row[0]] = row, _live_order(self._intents[row[0]], *row)
        return found[1]

    @cached_property
    def _live(self) -> dict[str, tuple[tuple[Any, ...], LiveOrder]]:
        """By client order id, live orders as they were read last, and what was read."""
        return {}

    @cached_property
    def _sent(self) -> dict[str, _Sent]:
        """By client order id, orders whose first send this store committed and whose answer it does not know yet."""
        return {}

    @cached_property
    def _intents(self) -> dict[str, _Intent]:
        """By client order id, intents of orders that were live once: of an intent nothing changes but its status."""
        return {}

    def decided(self, batch_id: str) -> dict[str, str]:
        """Status (approved, denied, void) of each intent of the batch that a claim has decided, by intent id."""
        rows = self._rows("select intent_id, status from execution.order_intents where batch_id = %s", [batch_id])
        return {row["intent_id"]: row["status"] for row in rows}

    def children(self, batch_id: str) -> dict[str, list[tuple[PlannedOrder, OrderStatus]]]:
        """Children that were cut of the batch's scheduled orders, by the parent's intent id, in order.

        One that a gate denied was never an order: it counts as cancelled.
        """
        rows = self._rows(
            """
            select i.*, coalesce(o.state, 'cancelled') as state, coalesce(o.filled_quantity, 0) as filled_quantity,
                coalesce(o.revised_quantity, 0) as revised_quantity, i.quantity as sent_quantity,
                array[]::text[] as fill_ids
            from execution.order_intents i left join execution.orders o using (intent_id)
            where i.batch_id = %s and i.parent_id is not null and i.replaces is null order by i.intent_id
            """,
            [batch_id],
        )
        found: dict[str, list[tuple[PlannedOrder, OrderStatus]]] = {}
        for row in rows:
            found.setdefault(row["parent_id"], []).append((_planned(row), _order_status(row)))
        return found

    def denied(self, account: str) -> frozenset[str]:
        """Intents of the account that a gate denied, at last."""
        rows = self._rows(
            "select intent_id from execution.order_intents where account = %s and status = 'denied'", [account]
        )
        return frozenset(row["intent_id"] for row in rows)

    def swapped(self, account: str) -> tuple[frozenset[str], frozenset[str]]:
        """Client order ids of orders that were replaced, and of replacements that never came into their place."""
        rows = self._rows(
            "select replaces, client_order_id, outcome from execution.replacements "
            "where account = %s and outcome is not null",
            [account],
        )
        done = [row for row in rows if row["outcome"] == SwapOutcome.REPLACED]
        return frozenset(row["replaces"] for row in done), frozenset(
            row["client_order_id"] for row in rows if row not in done
        )

    def sent_ids(self, account: str) -> frozenset[str]:
        """Client order ids of every order of the account."""
        rows = self._rows("select client_order_id from execution.orders where account = %s", [account])
        return frozenset(row["client_order_id"] for row in rows)

    def client_ids(self, account: str) -> dict[str, str]:
        """Client order id by the broker's id, of every order of the account whose id the broker told us."""
        rows = self._rows(
            "select broker_order_id, client_order_id from execution.orders "
            "where account = %s and broker_order_id is not null",
            [account],
        )
        return {row["broker_order_id"]: row["client_order_id"] for row in rows}

    def mark_when_sent(self, order_id: str) -> Decimal | None:
        """The broker's price of the order's instrument in the snapshot that it was judged with when it first left; of
        one that never left, in the latest of its batch."""
        price = _scalar(
            self.connection,
            """
            select s.snapshot -> 'prices' ->> i.instrument
            from execution.orders o join execution.order_intents i using (intent_id)
            join execution.attempts a using (batch_id) join execution.snapshots s using (batch_id, attempt)
            where o.client_order_id = %(order)s and a.claimed_at <= coalesce(o.submitted_at, 'infinity')
            order by a.attempt desc limit 1
            """,
            {"order": order_id},
        )
        return None if price is None else Decimal(price)

    # -- a person's release ------------------------------------------------------------------------------------------

    def release(self, batch: Batch, by: str, reason: str, now: datetime) -> bool:
        """Note a person's word that this batch, as it is, may be executed; False when it was given before."""
        content = content_hash(batch)
        with self.connection.transaction():
            added = self.connection.execute(
                "insert into execution.releases (batch_id, content_hash, released_by, reason, released_at, expires_at) "
                "values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
                [batch.batch_id, content, by, reason, now, batch.expires_at],
            )
            if added.rowcount:
                detail = {"by": by, "reason": reason, "content": content, "expires_at": batch.expires_at}
                self._note("batch.released", batch.batch_id, {**detail, "trading_time": now})
        return bool(added.rowcount)

    def is_released(self, batch: Batch, now: datetime) -> bool:
        """Whether a person released the batch with exactly this content, and its window is not over."""
        return bool(
            _scalar(
                self.connection,
                "select exists (select from execution.releases "
                "where batch_id = %s and content_hash = %s and expires_at > %s)",
                [batch.batch_id, content_hash(batch), now],
            )
        )

    # -- claiming and sending ----------------------------------------------------------------------------------------

    def claim(
        self, stored: StoredBatch, judged: Sequence[PlannedOrder], decision: Decision, snapshot: AccountSnapshot,
        run_id: str, now: datetime,
    ) -> Claim:  # fmt: skip
        """Take the account's lease and commit what the gates said, denials included, in one transaction.

        Args:
            judged: the orders that were judged; each of them is approved or denied from here on.

        Raises:
            TradingStateChangedError: trading is in another state than the decision was made under; nothing is stored.
            BatchRefusedError: the batch is no longer current, or trading is halted; nothing is stored.
        """
        batch = stored.batch
        with self.connection.transaction():
            fence = self._take_lease(batch.account, run_id)
            self._require_current(batch.batch_id, batch.account, None, decision.state)
            attempt = self._begin_attempt(batch, fence, run_id, now)
            claim = Claim(batch.batch_id, batch.account, attempt, fence, snapshot)
            self.connection.execute(
                "insert into execution.snapshots values (%s, %s, %s, %s, %s)",
                [batch.batch_id, attempt, batch.account, snapshot.taken_at, as_json(_snapshot_record(snapshot))],
            )
            self._add_verdicts(claim, decision.verdicts)
            evidence = {gate: canonical_json(item.record()) for gate, item in decision.evidence.items()}
            for gate, record in evidence.items():
                contents = decision.evidence[gate].contents()
                self.connection.execute(
                    "insert into execution.evidence (batch_id, attempt, gate, record, contents) "
                    "values (%s, %s, %s, %s, %s)",
                    [batch.batch_id, attempt, gate, record, list(contents)],
                )
                for name, content in contents.items():
                    self.connection.execute(
                        "insert into execution.evidence_contents (fingerprint, content) values (%s, %s) "
                        "on conflict do nothing",
                        [name, content],
                    )
            sealed = seal_of(_snapshot_record(snapshot), decision.verdicts, evidence)
            approved = set(decision.approved)
            for order in judged:
                swap = stored.swaps.get(order.intent_id)
                self._decide_intent(
                    claim, batch, order, order.intent_id in approved, now, None if swap is None else swap.replaces
                )
            denials = [v for v in decision.verdicts if v.outcome is Outcome.DENY]
            self._note(
                "batch.claimed",
                batch.batch_id,
                {
                    "attempt": attempt,
                    "fence": fence,
                    "run_id": run_id,
                    "trading_time": now,
                    "approved": list(decision.approved),
                    "denied": [
                        {"intent": v.intent_id, "gate": v.gate, "rule": v.rule, "reason": v.reason} for v in denials
                    ],
                    "sealed": {"verdicts": len(decision.verdicts), "fingerprint": sealed},
                },
            )
        return claim

    def claim_of(self, batch_id: str, run_id: str) -> Claim | None:
        """The claim that ``run_id`` holds on the batch; None when it has none or another attempt ended it."""
        row = self._row(
            "select * from execution.attempts where batch_id = %s and run_id = %s and status = 'claimed' "
            "order by attempt desc limit 1",
            [batch_id, run_id],
        )
        if row is None:
            return None
        judged_with = self._row(
            "select * from execution.snapshots where batch_id = %s and attempt = %s", [batch_id, row["attempt"]]
        )
        if judged_with is None:
            raise BatchRefusedError(f"attempt {row['attempt']} of batch {batch_id} has no snapshot; start another")
        return Claim(batch_id, row["account"], row["attempt"], row["fence"], _snapshot(judged_with))

    @contextmanager
    def planned_once(self) -> Iterator[None]:
        """While a batch's orders are sent: the server plans each statement once, whatever its parameters.

        All of them look rows up by their keys, so that no parameter asks for a plan of its own.
        """
        self.connection.execute("set plan_cache_mode = force_generic_plan")
        try:
            yield
        finally:
            self.connection.execute("reset plan_cache_mode")

    def begin_send(
        self, claim: Claim, order_id: str, event: Event, now: datetime, *,
        judged_under: TradingState = TradingState.ACTIVE, alone: bool = True, swaps: bool = False,
        exits_are_messages: bool = False,
    ) -> Decimal:  # fmt: skip
        """Commit ``submitting``: from here on the order, and its exits with it, may stand at the broker.

        Args:
            event: ``SEND``, or ``RESEND`` where the venue's key is idempotent.
            judged_under: the state of the kill switch under which the order may leave.
            alone: as far as is known it has no exits and takes no other's place: then it is one statement.
            exits_are_messages: each exit goes to the venue in a request of its own.
            swaps: of a replacement: the venue itself ends the order whose place it takes, in the same moment.

        Returns:
            The quantity to send; for a venue that swaps, what both orders may fill together.

        Raises:
            FencedOutError: a later claim took the account, or the lease ran out.
            TradingStateChangedError: trading is in another state than ``judged_under``; nothing is stored.
            BatchRefusedError: trading is halted, the batch was superseded, the instrument is frozen, or the order that
                this one replaces may still fill.
            IllegalTransitionError: the order was sent before.
        """
        self._outbox.clear()
        detail = {"attempt": claim.attempt, "fence": claim.fence}
        if exits_are_messages:
            detail["exits_are_messages"] = True
        if alone and event is Event.SEND:
            whole = self._send_at_once(claim, order_id, now, judged_under, detail)
            if whole is not None:
                return whole
        with self.connection.transaction():
            self._renew_lease(claim)
            replaces = self._require_current(claim.batch_id, claim.account, order_id, judged_under)
            together = None if replaces is None else self._take_place(order_id, replaces, swaps=swaps)
            sent = self._apply(order_id, event, now, detail, sent_under=claim.fence)
        return sent.quantity if together is None else together

    def _send_at_once(
        self, claim: Claim, order_id: str, now: datetime, judged_under: TradingState, detail: Mapping[str, object]
    ) -> Decimal | None:
        """Commit ``submitting`` in one statement, of an order without exits that takes no other's place; its quantity.

        None: it cannot leave so, or not at all, and is as it was; the steps one after the other tell which.
        """
        # The file counts beside the account's state, and is looked at here as there.
        if self._with_halt_file(TradingStatus(judged_under, "")).state is not judged_under:
            return None
        # Whatever its quantity: the server tells it.
        approved = OrderStatus(Decimal(1), OrderState.APPROVED)
        sent = advance(approved, Event.SEND)
        rows = self._all_at_once(
            "select * from execution.send_order(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [claim.account, claim.fence, self.lease_seconds, claim.batch_id, self._database_id, judged_under.value,
             order_id, approved.state.value, sent.state.value, now,
             *_told(approved, sent, now, {"event": Event.SEND.value, **detail})],
        )  # fmt: skip
        if not rows:
            return None
        quantity: Decimal = rows[0][0]
        self._sent[order_id] = _Sent(replace(sent, quantity=quantity), claim.fence)
        self._outbox.append([row[1:] for row in rows])
        return quantity

    def deny(
        self, claim: Claim, order: PlannedOrder, verdicts: Sequence[Verdict], now: datetime, *,
        judged_under: TradingState = TradingState.ACTIVE,
    ) -> None:  # fmt: skip
        """Take back the approval of an order that was not sent.

        Raises:
            FencedOutError: a later claim took the account, which may have sent it.
            TradingHaltedError, TradingStateChangedError: trading is in another state than ``judged_under``, in which
                the verdicts might be others; nothing is stored.
        """
        with self.connection.transaction():
            self._renew_lease(claim)
            row = self._row(_STATE + " for share", [self._database_id, claim.account])
            self._require_state(claim.account, row, judged_under)
            self._add_verdicts(claim, verdicts)
            self._deny_intent(order.intent_id)
            reasons = "; ".join(verdict.reason for verdict in verdicts)
            self._apply(client_order_id(order.intent_id), Event.CANCEL, now, {"reason": f"denied: {reasons}"})

    def void_unsent(self, account: str, now: datetime) -> int:
        """End approved orders that can no longer be sent: their window has passed, a newer batch is there, or the
        database is a restored copy. Returns how many.
        """
        restored = self._row(
            "select database_id <> execution.database_id() as moved from execution.trading_state where account = %s",
            [account],
        )
        moved = bool(restored and restored["moved"])
        voided = 0
        for order in self.orders(account, {OrderState.APPROVED}):
            reason = self._why_void(order, moved, now)
            if reason is None or order.exit_of is not None:
                # An exit ends with its entry.
                continue
            with self.connection.transaction():
                self.connection.execute(
                    "select from execution.order_intents where intent_id = %s for update", [order.order.intent_id]
                )
                # A worker that lost the account without noticing may be sending it at this moment.
                if self._status(order.client_order_id).state is not OrderState.APPROVED:
                    continue
                self.connection.execute(
                    "update execution.order_intents set status = 'void' where %s in (intent_id, exit_of)",
                    [order.order.intent_id],
                )
                self._apply(order.client_order_id, Event.EXPIRE, now, {"reason": reason})
            voided += 1
        return voided

    def _why_void(self, order: StoredOrder, moved: bool, now: datetime) -> str | None:
        if moved:
            return "the database was restored: approvals of before do not count"
        if now >= order.expires_at:
            return "not sent in its window"
        successor = self.successor(order.batch_id)
        return f"superseded by batch {successor}" if successor else None

    def finish(self, account: str, now: datetime) -> None:
        """Close the attempts whose orders are all terminal."""
        with self.connection.transaction():
            done = self._rows(
                """
                update execution.attempts a set status = 'done', finished_at = %(now)s
                where a.account = %(account)s and a.status = 'claimed' and not exists (
                    select from execution.orders o join execution.order_intents i using (intent_id)
                    where i.batch_id = a.batch_id
                      and o.state in ('approved', 'submitting', 'unknown', 'accepted', 'partially_filled',
                          'pending_cancel'))
                returning batch_id, attempt
                """,
                {"now": now, "account": account},
            )
            for row in done:
                self._note("batch.done", row["batch_id"], {"attempt": row["attempt"], "trading_time": now})

    def refuse(self, batch_id: str, reason: str, now: datetime) -> None:
        """Record that the batch was not executed, and why."""
        with self.connection.transaction():
            self._note("batch.refused", batch_id, {"reason": reason, "trading_time": now})

    # -- cancelling and replacing ------------------------------------------------------------------------------------

    def ask_cancel(self, order_id: str, by: str, reason: str, now: datetime) -> bool:
        """Commit that the order is to be cancelled for good, and whether the broker may have it.

        A request to replace it is withdrawn with that; a replacement that was not sent ends here. Each request is noted
        for the audit log, and one that goes to the broker is an event of its own, for it is a message: also a second
        one, and that of an order of which it is not known whether it stands. Neither changes the order's state.

        Raises:
            OrderActionError: it was not sent, and nothing of ours asked for it alone.
        """
        with self.connection.transaction():
            for row in self._rows(
                "select replaces from execution.replacements "
                "where outcome is null and %(order)s in (replaces, client_order_id) order by replaces",
                {"order": order_id},
            ):
                self._status(row["replaces"])
            # Read under the lock: nobody sends a replacement meanwhile.
            for swap in self._swaps(order_id=order_id):
                if swap.is_fresh:
                    self._settle(swap, SwapOutcome.WITHDRAWN, f"{order_id} is cancelled by {by}: {reason}", now)
            before = self._status(order_id)
            if before.state is OrderState.APPROVED:
                raise OrderActionError(
                    f"order {order_id} is approved and not sent; `octopus halt` keeps it from leaving"
                )
            asked: dict[str, object] = {"reason": f"{reason} ({by})", "by": by}
            if before.state in TERMINAL:
                self._note("order.cancel_too_late", order_id, {"state": before.state, "trading_time": now, **asked})
            elif self._apply(order_id, Event.ASK_CANCEL, now, asked) == before:
                again = {"event": Event.ASK_CANCEL.value, **asked}
                self.write_status(order_id, before, before, now, again, kind="order.cancel_asked")
        return before.state not in TERMINAL

    def ask_replacement(
        self, order_id: str, quantity: Decimal | None, price: Decimal | None, by: str, reason: str, now: datetime,
        lot: Decimal, units: TradingUnits = NO_UNITS,
    ) -> str:  # fmt: skip
        """Commit that the order is to be replaced, and return the client order id of its replacement.

        Args:
            quantity: that the order and its replacement may fill together; None: the order's.
            price: the new limit or trigger; None: it stays.
            lot: the portfolio's. units: lots and ticks of the instruments' own.

        Raises:
            OrderActionError: the order cannot be replaced so, or is being replaced already.
        """
        with self.connection.transaction():
            held = self._hold(order_id)
            status = held.status
            row = self._rows(
                "select i.*, o.account from execution.orders o join execution.order_intents i using (intent_id) "
                "where o.client_order_id = %s",
                [order_id],
            )[0]
            order, together = _planned(row), status.quantity if quantity is None else quantity
            sliced = row["parent_id"] is not None and row["replaces"] is None
            protects = row["exit_of"] is not None or bool(held.exits)
            step, tick = units.step(order.instrument, lot), units.ticks.get(order.instrument)
            problem = why_not(order, status, together, price, lot=step, tick=tick, sliced=sliced, bracketed=protects)
            origin = parent_of(order.intent_id) or order.intent_id
            open_id = _scalar(
                self.connection,
                "select client_order_id from execution.replacements where replaces = %s and outcome is null",
                [order_id],
            )
            if open_id:
                problem = f"it is being replaced by {open_id}; wait for what becomes of that"
            if problem:
                raise OrderActionError(f"order {order_id} cannot be replaced: {problem}")
            # The row of the order is locked: nobody else counts meanwhile.
            number: int = _scalar(
                self.connection,
                "select count(*) + 1 from execution.replacements where starts_with(intent_id, %s)",
                [f"{origin}-r"],
            )
            intent = replacement_id(origin, number)
            self.connection.execute(
                """
                insert into execution.replacements (intent_id, client_order_id, replaces, account, batch_id, quantity,
                                                    price, asked_by, reason, asked_at)
                values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
                """,
                [intent, client_order_id(intent), order_id, row["account"], row["batch_id"], together, price, by,
                 reason, now],
            )  # fmt: skip
            detail = {"replaces": order_id, "quantity": together, "price": price, "by": by, "reason": reason}
            self._note("replacement.asked", client_order_id(intent), {**detail, "trading_time": now})
        return client_order_id(intent)

    def swaps(self, account: str, batch_id: str | None = None) -> tuple[Swap, ...]:
        """Requests of the account (and batch, if given) that are not settled, in the order they were asked."""
        return self._swaps(account=account, batch_id=batch_id)

    def outcome_of(self, replacement: str) -> tuple[str | None, str]:
        """Outcome (None while it is open) and detail of a request, by the replacement's client order id."""
        row = self._row("select outcome, detail from execution.replacements where client_order_id = %s", [replacement])
        return (None, "") if row is None else (row["outcome"], row["detail"] or "")

    def begin_way(self, swap: Swap, now: datetime) -> bool:
        """Commit that the old order is cancelled for its replacement; False if the request was settled meanwhile."""
        with self.connection.transaction():
            self._status(swap.replaces)
            marked = self.connection.execute(
                "update execution.replacements set making_way_at = coalesce(making_way_at, %s) "
                "where intent_id = %s and outcome is null",
                [now, swap.request.intent_id],
            )
            if marked.rowcount:
                reason = f"makes way for {client_order_id(swap.request.intent_id)}"
                self._apply(swap.replaces, Event.ASK_CANCEL, now, {"reason": reason})
        return bool(marked.rowcount)

    def settle_swap(self, swap: Swap, outcome: SwapOutcome, detail: str, now: datetime) -> None:
        """Commit what became of a request, once; a replacement that was not sent ends with it, one that was sent
        meanwhile lets the request stand."""
        with self.connection.transaction():
            self._status(swap.replaces)
            now_fresh = [one.is_fresh for one in self._swaps(order_id=client_order_id(swap.request.intent_id))]
            if not swap.is_fresh or any(now_fresh):
                self._settle(swap, outcome, detail, now)

    def _settle(self, swap: Swap, outcome: SwapOutcome, detail: str, now: datetime) -> None:
        """Inside a transaction that holds the old order's row."""
        intent = swap.request.intent_id
        row = self._row(
            "update execution.replacements set outcome = %s, detail = %s, settled_at = %s "
            "where intent_id = %s and outcome is null returning client_order_id",
            [outcome.value, detail, now, intent],
        )
        if row is None:
            return
        self._note(
            f"replacement.{outcome.value}",
            row["client_order_id"],
            {"replaces": swap.replaces, "detail": detail, "trading_time": now},
        )
        if swap.new is not None and self._status(row["client_order_id"]).state is OrderState.APPROVED:
            self.connection.execute("update execution.order_intents set status = 'void' where intent_id = %s", [intent])
            self._apply(row["client_order_id"], Event.CANCEL, now, {"reason": f"{outcome.value}: {detail}"})

    def _swaps(
        self, *, account: str | None = None, batch_id: str | None = None, order_id: str | None = None
    ) -> tuple[Swap, ...]:
        """Requests that are not settled; of an order: that replace it, or are to be replaced by it."""
        rows = self._rows(
            """
            select r.*, i.status from execution.replacements r
            left join execution.order_intents i using (intent_id)
            where r.outcome is null and (%(account)s::text is null or r.account = %(account)s)
              and (%(batch)s::text is null or r.batch_id = %(batch)s)
              and (%(order)s::text is null or %(order)s in (r.replaces, r.client_order_id))
            order by r.asked_at, r.intent_id
            """,
            {"account": account, "batch": batch_id, "order": order_id},
        )
        if not rows:
            return ()
        names = [name for row in rows for name in (row["replaces"], row["client_order_id"])]
        orders = {one.client_order_id: one for one in self.orders(rows[0]["account"], ids=names)}
        decided = self._rows("select * from execution.order_intents where client_order_id = any(%s)", [names])
        intents = {row["client_order_id"]: _planned(row) for row in decided}
        return tuple(_swap(row, orders, intents) for row in rows)

    def _take_place(self, order_id: str, replaces: str, *, swaps: bool) -> Decimal | None:
        """Inside the transaction that sends: of a replacement, that its place is free; and what is left of it to send.

        Returns:
            None, but for a venue that swaps what both orders may fill together.
        """
        # The old order's row comes first everywhere, then the request's, then the new order's.
        old = self._status(replaces)
        row = self._rows(
            "select r.*, i.quantity as approved from execution.replacements r "
            "join execution.order_intents i using (intent_id) where r.client_order_id = %s for update of r",
            [order_id],
        )[0]
        if row["outcome"] is not None:
            raise BatchRefusedError(f"replacement {order_id} was settled before ({row['outcome']}); it is not sent")
        if swaps:
            together: Decimal = row["quantity"]
            return together
        if old.state not in TERMINAL:
            raise BatchRefusedError(
                f"order {row['replaces']} is {old.state.value} and may still fill: its replacement waits for its end"
            )
        rest = min(row["approved"], row["quantity"] - max(old.filled, old.net_filled))
        if rest <= 0:
            raise BatchRefusedError(f"order {row['replaces']} filled all of it: nothing is left to send")
        self.connection.execute(
            "update execution.orders set quantity = coalesce(quantity, %s) where client_order_id = %s", [rest, order_id]
        )
        return None

    # -- what the broker reports -------------------------------------------------------------------------------------

    def record(
        self, order_id: str, event: Event, now: datetime, reason: str = "", broker_order_id: str | None = None,
        taken: Decimal | None = None, *, of_send: int | None = None,
    ) -> OrderStatus:  # fmt: skip
        """Record a report on an order (or a person's settlement of it); one that says nothing new changes nothing.

        Args:
            taken: the quantity that the venue has of it; of a replacement it is what the order before it left.
            of_send: the fence of the send that the report is of alone: it says nothing of an order that a later worker
                has sent again, and then changes nothing.
        """
        sent = self._sent.pop(order_id, None)
        detail = {"reason": reason} if reason else {}
        if sent is not None and of_send in (None, sent.fence):
            after = advance(sent.status, event)
            # Where nobody else has touched it since, it need not be asked for.
            if after.state not in UNRESOLVED and self._at_once(*_move(
                order_id, sent.status, after, now, {"event": event.value, **detail}, held_under=sent.fence,
                news=_News(broker_order_id or None),
            )):  # fmt: skip
                return after
        with self.connection.transaction():
            held = self._hold(order_id, broker_order_id or None, taken)
            if of_send not in (None, held.fence):
                return held.status
            return self._advance(order_id, held, event, now, detail)

    def lock_status(self, order_id: str, account: str) -> OrderStatus | None:
        """Inside a transaction: the order's status, its row locked to the end; None if it is no order of the account.

        Every fill that was booked before is in it, also by a transaction that this one waited for.
        """
        ours = self._row(
            "select from execution.orders where client_order_id = %s and account = %s for update", [order_id, account]
        )
        return None if ours is None else self._status(order_id)

    def executed_by_other_exit(self, order_id: str) -> Decimal:
        """Shares that the other exit of the order's entry executed; zero where there is none."""
        if entry_order_id(order_id) is None:
            return Decimal(0)
        other: Decimal = _scalar(
            self.connection,
            """
            select coalesce(sum(o.filled_quantity), 0) from execution.order_intents i
            join execution.order_intents x on x.exit_of = i.exit_of and x.intent_id <> i.intent_id
            join execution.orders o on o.intent_id = x.intent_id where i.client_order_id = %s
            """,
            [order_id],
        )
        return other

    # -- the audit log -----------------------------------------------------------------------------------------------

    def drain_outbox(self, audit: AuditLog, *, just_sent: bool = False) -> int:
        """Move what the audit log must still be told into it, in a transaction of its own; returns how many entries.

        Whoever else tells it something meanwhile makes this look again: each look that was in vain was another's gain.

        Args:
            just_sent: nothing happened since `begin_send`, which has seen what waits.
        """
        seen = self._outbox.pop() if self._outbox else []
        rows = seen if seen and just_sent else self._waiting()
        while told := [Record(*row[4:]) for row in rows if row[3] is not None]:
            added = sealed(ChainEnd(*rows[0][:3]), told)
            if self._at_once(
                "select execution.tell_outbox(%s, %s, %s)", [rows[0][1], [row[3] for row in rows], added.as_json()]
            ):
                audit.remember(added)
                return len(told)
            rows = self._waiting()
        return 0

    def _waiting(self) -> list[tuple[Any, ...]]:
        """What the audit log must still be told, each beside the chain's end; the end alone if nothing waits."""
        return self.connection.execute("select * from execution.outbox_at_end()").fetchall()

    @cached_property
    def _outbox(self) -> list[list[tuple[Any, ...]]]:
        """At most one look at what waits: that of the send before."""
        return []

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take_lease(self, account: str, holder: str) -> int:
        fence: int = _scalar(
            self.connection,
            """
            insert into execution.leases (account, fence, holder, expires_at)
            values (%(account)s, 1, %(holder)s, clock_timestamp() + make_interval(secs => %(seconds)s))
            on conflict (account) do update set fence = execution.leases.fence + 1, holder = excluded.holder,
                expires_at = excluded.expires_at
            returning fence
            """,
            {"account": account, "holder": holder, "seconds": self.lease_seconds},
        )
        return fence

    def _renew_lease(self, claim: Claim) -> None:
        """Inside a transaction, to its end: no later claim took the account, and the lease had not run out.

        Raises:
            FencedOutError: one of both happened.
        """
        if not _scalar(
            self.connection,
            "select execution.renew_lease(%s, %s, %s)",
            [claim.account, claim.fence, self.lease_seconds],
        ):
            raise FencedOutError(self._why_fenced_out(claim))

    def _why_fenced_out(self, claim: Claim) -> str:
        fence, expired_at = self.connection.execute(
            "select fence, expires_at from execution.leases where account = %s", [claim.account]
        ).fetchall()[0]
        lost = f"batch {claim.batch_id}: attempt {claim.attempt} no longer holds account {claim.account}"
        if fence != claim.fence:
            return f"{lost} (fence {claim.fence}, now {fence}); the later attempt finishes the batch"
        return (
            f"{lost}: its lease ran out at {expired_at:%Y-%m-%d %H:%M:%S} UTC, {self.lease_seconds:.0f} s after its "
            "last send; it sends nothing more, and no other attempt has taken the account: run the batch again, which "
            "settles what was sent and judges the rest anew"
        )

    def _require_current(
        self, batch_id: str, account: str, order_id: str | None, judged_under: TradingState
    ) -> str | None:
        """Inside a transaction: trading is not halted and as it was when it was judged (and stays so to its end), no
        newer batch is there, and no other order in the instrument of ``order_id`` has an unknown outcome.

        Whoever sends holds the lease's row before: no order of the account is begun between this look and the commit.

        Returns:
            Client order id of the order whose place ``order_id`` is to take; None if it is no replacement.
        """
        # A claim asks the server anew which database this is; no order under it leaves from another.
        known = None if order_id is None else self._database_id
        look = self._row(
            "select * from execution.look_before_send(%s, %s, %s, %s)", [account, batch_id, order_id, known]
        )
        row = self._require_state(account, look if look and look["state"] else None, judged_under)
        if row["successor"]:
            raise BatchRefusedError(f"batch {batch_id} was superseded by {row['successor']}; execute that one")
        if row["freezing"]:
            instrument, other = row["freezing"]
            raise BatchRefusedError(f"{instrument} is frozen: order {other} has an unknown outcome; settle it first")
        replaces: str | None = row["replaces"]
        return replaces

    def _require_state(self, account: str, row: DictRow | None, judged_under: TradingState) -> DictRow:
        """``row`` of the account's state, if trading is not halted and as it was when orders were judged."""
        status = self._as_it_counts(account, row)
        if row is None or status.state is TradingState.HALTED:
            raise status.refusal(account)
        if status.state is not judged_under:
            raise TradingStateChangedError(
                f"trading in account {account} became {status.state.value} since its orders were judged: "
                f"{status.reason}; start another attempt, which judges them anew"
            )
        return row

    def _begin_attempt(self, batch: Batch, fence: int, run_id: str, now: datetime) -> int:
        self.connection.execute(
            "update execution.attempts set status = 'abandoned', finished_at = %s "
            "where account = %s and status = 'claimed'",
            [now, batch.account],
        )
        attempt: int = _scalar(
            self.connection,
            """
            insert into execution.attempts (batch_id, attempt, account, fence, status, run_id, claimed_at)
            select %(batch)s, coalesce(max(attempt), 0) + 1, %(account)s, %(fence)s, 'claimed', %(run)s, %(now)s
            from execution.attempts where batch_id = %(batch)s
            returning attempt
            """,
            {"batch": batch.batch_id, "account": batch.account, "fence": fence, "run": run_id, "now": now},
        )
        return attempt

    def _add_verdicts(self, claim: Claim, verdicts: Iterable[Verdict]) -> None:
        first: int = _scalar(
            self.connection,
            "select coalesce(max(seq), 0) + 1 from execution.verdicts where batch_id = %s and attempt = %s",
            [claim.batch_id, claim.attempt],
        )
        with self.connection.cursor() as cursor:
            cursor.executemany(
                "insert into execution.verdicts values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (claim.batch_id, claim.attempt, seq, v.gate, v.rule, v.intent_id, v.outcome.value, v.value, v.limit,
                     v.reason)
                    for seq, v in enumerate(verdicts, first)
                ],
            )  # fmt: skip

    def _decide_intent(
        self, claim: Claim, batch: Batch, order: PlannedOrder, approved: bool, now: datetime, replaces: str | None
    ) -> None:
        """The order's intent, and with an approved one those of its exits."""
        order_id = client_order_id(order.intent_id)
        known = self._row(
            "select status from execution.order_intents where intent_id = %s for update", [order.intent_id]
        )
        if known is None:
            self._add_intent(claim, batch, order, approved, now, replaces=replaces)
            if approved:
                for exit_ in exit_orders(order):
                    self._add_intent(claim, batch, exit_, approved, now, exit_of=order.intent_id)
        elif known["status"] == "approved" and not approved and self._status(order_id).state is OrderState.APPROVED:
            # Approved by an earlier attempt, not sent to this moment, and refused by the gates now.
            self._deny_intent(order.intent_id)
            self._apply(order_id, Event.CANCEL, now, {"reason": f"denied in attempt {claim.attempt}"})

    def _deny_intent(self, intent: str) -> None:
        """Take back an approval, and that of its exits with it."""
        self.connection.execute(
            "update execution.order_intents set status = 'denied' where %s in (intent_id, exit_of)", [intent]
        )

    def _add_intent(
        self, claim: Claim, batch: Batch, order: PlannedOrder, approved: bool, now: datetime, *,
        replaces: str | None = None, exit_of: str | None = None,
    ) -> None:  # fmt: skip
        order_id, status = client_order_id(order.intent_id), "approved" if approved else "denied"
        self.connection.execute(
            """
            insert into execution.order_intents (intent_id, batch_id, account, session, instrument, side, quantity,
                reference_price, order_type, price, client_order_id, status, created_at, parent_id, replaces, exit_of)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [order.intent_id, batch.batch_id, batch.account, batch.session, order.instrument, order.side.value,
             order.quantity, order.reference_price, order.order_type.value, order.price, order_id, status, now,
             parent_of(order.intent_id), replaces, exit_of],
        )  # fmt: skip
        if approved:
            self._add_order(claim, order, order_id, now)

    def _add_order(self, claim: Claim, order: PlannedOrder, order_id: str, now: datetime) -> None:
        self.connection.execute(
            "insert into execution.orders (client_order_id, intent_id, account, state, fence, updated_at) "
            "values (%s, %s, %s, %s, %s, %s)",
            [order_id, order.intent_id, claim.account, OrderState.APPROVED.value, claim.fence, now],
        )
        self._add_event(order_id, None, OrderState.APPROVED, now, claim.fence, {"attempt": claim.attempt})
        self._note(
            "order.approved",
            order_id,
            {"intent": order.intent_id, "batch": claim.batch_id, "attempt": claim.attempt, "trading_time": now,
             "instrument": order.instrument, "side": order.side.value, "quantity": order.quantity},
        )  # fmt: skip

    def _apply(
        self, order_id: str, event: Event, now: datetime, detail: Mapping[str, object], sent_under: int | None = None
    ) -> OrderStatus:
        """The order's status after ``event``, which its exits go through with it where they share it.

        Args:
            sent_under: the fence under which it is sent by this event.
        """
        return self._advance(order_id, self._hold(order_id), event, now, detail, sent_under)

    def _advance(
        self, order_id: str, held: _HeldOrder, event: Event, now: datetime, detail: Mapping[str, object],
        sent_under: int | None = None,
    ) -> OrderStatus:  # fmt: skip
        after = advance(held.status, event)
        # A second send changes no state and must be seen all the same.
        if after != held.status or event is Event.RESEND:
            self.write_status(
                order_id, held.status, after, now, {"event": event.value, **detail}, sent_under=sent_under,
                news=held.news,
            )  # fmt: skip
        elif held.news != _NO_NEWS:
            self.connection.execute(
                "update execution.orders set broker_order_id = coalesce(%s, broker_order_id), "
                "quantity = coalesce(%s, quantity) where client_order_id = %s",
                [*held.news, order_id],
            )
        for exit_id in held.exits:
            if follows(event, after, self._status(exit_id)):
                self._apply(exit_id, event, now, {**detail, "with": order_id}, sent_under)
        return after

    def _status(self, order_id: str) -> OrderStatus:
        return self._hold(order_id).status

    def _hold(self, order_id: str, broker_order_id: str | None = None, taken: Decimal | None = None) -> _HeldOrder:
        """The order as it stands, its row locked to the end of the transaction.

        Fills that another transaction books while this one waits for the row are in the quantity; whoever asks for
        their ids locks the row in a statement before.

        Args:
            broker_order_id, taken: what the broker tells; ``taken``, its quantity there, counts of a replacement alone.
        """
        row = self._row(_HOLD, {"order": order_id, "taken": taken})
        if row is None:
            raise BatchRefusedError(f"order {order_id} is not in our records; check the account and the batch")
        news = _News(
            None if row["broker_order_id"] else broker_order_id,
            row["sent_quantity"] if row["is_told_quantity"] else None,
        )
        return _HeldOrder(_order_status(row), row["exits"], row["fence"], news)

    def write_status(
        self, order_id: str, before: OrderStatus, after: OrderStatus, now: datetime, detail: Mapping[str, object],
        kind: str | None = None, sent_under: int | None = None, news: _News = _NO_NEWS,
    ) -> None:  # fmt: skip
        """Inside a transaction: the order's new status, the event that it came by and what the audit log is to be told,
        in one statement.

        Args:
            before: its status under the lock of its row. kind: of the entry in the audit log; None: the state's.
            sent_under: the fence under which it is sent by this event. news: what the broker told with it.
        """
        moved = self.connection.execute(
            *_move(order_id, before, after, now, detail, kind=kind, sent_under=sent_under, news=news)
        )
        if moved.fetchall() != [(True,)]:
            raise OrderChangedError(
                f"order {order_id} is no longer {before.state.value} with {plain(before.net_filled)} filled, as it was "
                "read under its lock; nothing is stored: run this again, and check the database if it comes back"
            )
        if after.state is OrderState.UNKNOWN and before.state is not OrderState.UNKNOWN:
            self._note("alert.unknown_order", order_id, {"remedy": "look it up; `octopus orders settle`", **detail})

    def _add_event(
        self, order_id: str, before: OrderState | None, after: OrderState, at: datetime, fence: int,
        detail: Mapping[str, object],
    ) -> None:  # fmt: skip
        self.connection.execute(
            "insert into execution.order_events (client_order_id, from_state, to_state, at, fence, detail) "
            "values (%s, %s, %s, %s, %s, %s)",
            [order_id, before and before.value, after.value, at, fence, as_json(detail)],
        )


def _move(
    order_id: str, before: OrderStatus, after: OrderStatus, now: datetime, detail: Mapping[str, object], *,
    kind: str | None = None, held_under: int | None = None, sent_under: int | None = None, news: _News = _NO_NEWS,
) -> tuple[LiteralString, Sequence[object]]:  # fmt: skip
    """The statement that moves an order which is as it was before, and answers whether it was; its parameters.

    Args:
        held_under: the fence under which it must have been sent last; None: any.
        kind, sent_under, news: see `OrderStore.write_status`.
    """
    return (
        "select execution.move_order(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [order_id, before.state.value, before.net_filled, before.revised, held_under, after.state.value,
         after.net_filled, after.revised, detail.get("reason"), now, sent_under, *news,
         kind or f"order.{after.state.value}", *_told(before, after, now, detail)],
    )  # fmt: skip


def _told(before: OrderStatus, after: OrderStatus, now: datetime, detail: Mapping[str, object]) -> tuple[Jsonb, Jsonb]:
    """What the audit log is told of an order's move, and what its event keeps."""
    record = {"from": before.state.value, "to": after.state.value, "trading_time": now, **detail}
    return as_json(record), as_json(detail)


_HOLD: LiteralString = """
    select o.state, o.fence, o.filled_quantity, o.revised_quantity, o.broker_order_id,
        coalesce(o.quantity, case when i.replaces is not null then %(taken)s::numeric end, i.quantity) as sent_quantity,
        o.quantity is null and i.replaces is not null and %(taken)s::numeric is not null as is_told_quantity,
        array(select f.fill_id from execution.fills f where f.client_order_id = o.client_order_id) as fill_ids,
        array(select x.client_order_id from execution.order_intents x
              where x.exit_of = i.intent_id order by x.client_order_id) as exits
    from execution.orders o join execution.order_intents i using (intent_id)
    where o.client_order_id = %(order)s for update of o
"""

_STATE: LiteralString = "select state, reason, database_id = %s as here from execution.trading_state where account = %s"

_LIVE: LiteralString = """
    select t.state, t.reason, t.database_id = %s,
        o.client_order_id, o.state, o.quantity::text, o.filled_quantity::text, o.revised_quantity::text
    from execution.trading_state t left join execution.orders o on o.account = t.account and o.state = any(%s)
    where t.account = %s
"""


def _planned(row: Mapping[str, Any]) -> PlannedOrder:
    return PlannedOrder(
        intent_id=row["intent_id"],
        instrument=row["instrument"],
        side=Side(row["side"]),
        quantity=row["quantity"],
        reference_price=row["reference_price"],
        order_type=OrderType(row["order_type"]),
        price=row["price"],
        bracket=Bracket.of(row.get("stop_price"), row.get("target_price")),
    )


def _swap(row: Mapping[str, Any], orders: Mapping[str, StoredOrder], intents: Mapping[str, PlannedOrder]) -> Swap:
    old, new = orders[row["replaces"]], orders.get(row["client_order_id"])
    return Swap(
        request=Request(row["intent_id"], row["quantity"], row["price"]),
        replaces=row["replaces"],
        old_order=old.order,
        old=old.status,
        intent=intents.get(row["client_order_id"]),
        status=row["status"],
        new=None if new is None else new.status,
        arrived=new is not None and new.broker_order_id is not None,
        making_way=row["making_way_at"] is not None,
    )


def _stored_order(row: Mapping[str, Any]) -> StoredOrder:
    return StoredOrder(
        client_order_id=row["client_order_id"],
        broker_order_id=row["broker_order_id"],
        batch_id=row["batch_id"],
        account=row["account"],
        order=_planned(row),
        status=_order_status(row),
        expires_at=row["expires_at"],
        exit_of=row["exit_of"],
    )


def _live_order(
    intent: _Intent, order_id: str, state: str, quantity: str | None, filled: str, revised: str
) -> LiveOrder:
    taken_back = Decimal(revised)
    sent = Decimal(intent.quantity if quantity is None else quantity)
    status = OrderStatus(sent, OrderState(state), Decimal(filled) - taken_back, revised=taken_back)
    standing = OpenOrder(order_id, intent.instrument, Side(intent.side), status.remaining)
    return LiveOrder(intent.intent_id, intent.batch_id, status.state, standing, intent.exit_of)


def _order_status(row: Mapping[str, Any]) -> OrderStatus:
    return OrderStatus(
        quantity=row["sent_quantity"],
        state=OrderState(row["state"]),
        filled=row["filled_quantity"] - row["revised_quantity"],
        fill_ids=frozenset(row["fill_ids"]),
        revised=row["revised_quantity"],
    )


def _snapshot_record(snapshot: AccountSnapshot) -> dict[str, object]:
    return {
        "cash": snapshot.cash,
        "positions": snapshot.positions,
        "prices": snapshot.prices,
        "open_orders": [
            {
                "client_order_id": o.client_order_id,
                "instrument": o.instrument,
                "side": o.side.value,
                "remaining": o.remaining,
            }
            for o in snapshot.open_orders
        ],
    }


def _snapshot(row: Mapping[str, Any]) -> AccountSnapshot:
    record = row["snapshot"]
    return AccountSnapshot(
        account=row["account"],
        taken_at=row["taken_at"],
        cash=Decimal(record["cash"]),
        positions={name: Decimal(shares) for name, shares in record["positions"].items()},
        prices={name: Decimal(price) for name, price in record["prices"].items()},
        open_orders=tuple(
            OpenOrder(item["client_order_id"], item["instrument"], Side(item["side"]), Decimal(item["remaining"]))
            for item in record["open_orders"]
        ),
    )


def _scalar(
    connection: psycopg.Connection, query: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()
) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None
