"""Executing one approved batch: from the stored plan to terminal orders, booked and reconciled.

Belongs here: the order of the steps, the way of an order to the broker, and what happens between a commit and a
broker's answer. Does not: keeping the account's books (resources/bookkeeping.py), statements
(resources/warehouse/order_store.py), rules and states (octopus/execution), the gates (passed in as `judge`).

The steps are functions of their own, because each is an asset: `prepare` (order_intents), `send` (orders),
`collect_fills` (fills), `update_positions` (positions), `reconcile` (reconciliation). Each can be run again at any
time, by another process, after a crash at any point: what is done is not done again.

Sending one order is: commit ``submitting`` under the fence → tell the audit log → ask the broker, with no transaction
open → commit the answer. That commit also holds what the log is to be told of it, which it is before the next order
leaves, or at the end. A crash anywhere in between leaves ``submitting``, and what the next worker does about it depends
on what the venue guarantees:

- an idempotent key: look the order up; if the venue does not have it, send it again under the same id;
- a searchable tag: look it up; if the venue does not have it (yet), the order is ``unknown``;
- nothing: the order is ``unknown``.

An unknown order counts as filled, freezes its instrument and raises an alert. It is settled by the venue's records:
found, or still absent well after its expiry, when it can no longer arrive; where nothing can be searched, by a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

from octopus.core.amounts import plain
from octopus.core.ids import client_order_id
from octopus.core.orders import (
    AccountSnapshot,
    Batch,
    GateReport,
    OpenOrder,
    OrderType,
    Outcome,
    PlannedOrder,
    TradingState,
    Verdict,
    reducing_orders,
)
from octopus.execution.approval import GATE, Decision, decide, in_sending_order, with_open_orders
from octopus.execution.book import ends_orders
from octopus.execution.config import Remainder, ScheduleConfig
from octopus.execution.nav import NavStatement
from octopus.execution.reconcile import Break
from octopus.execution.replacements import Outcome as SwapOutcome
from octopus.execution.replacements import Swap, in_judgement
from octopus.execution.schedules import Schedule, closing_child, next_child
from octopus.execution.states import UNRESOLVED, Event, OrderState, OrderStatus
from octopus.execution.window import send_by
from octopus.portfolio.units import NO_UNITS, TradingUnits
from resources.bookkeeping import Bookkeeper, BookSettings
from resources.brokers.base import (
    BracketBroker,
    Broker,
    BrokerError,
    BrokerOrder,
    BrokerUnavailableError,
    Guarantee,
    LateTellingBroker,
    NotToldYetError,
    OrderRejectedError,
    OrderRequest,
    ReplacingBroker,
    UncertainOutcomeError,
)
from resources.price_feed import PriceFeed
from resources.warehouse.audit_log import AuditLog
from resources.warehouse.order_store import (
    AwaitingReleaseError,
    BatchRefusedError,
    Claim,
    OrderStore,
    StoredBatch,
    StoredOrder,
    TradingHaltedError,
    TradingStateChangedError,
    TradingStatus,
)

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions
    from resources.clock import Clock

Judge = Callable[[Batch, AccountSnapshot, datetime, TradingState], Sequence[GateReport]]
"""All gates over a batch: every report must approve an order. It reads limits and market anew each time it is asked.
The kill switch's state is given: all is judged under one, and committed under no other."""


_Done = TypeVar("_Done")


@dataclass(frozen=True)
class EngineSettings(BookSettings):
    """How patient the engine is, with what keeping its books needs.

    Attributes:
        max_snapshot_age: no order is sent on an older snapshot than this.
        max_sends: sends of one order, the first included, where the venue's key is idempotent.
        poll_interval, settle_timeout: how often and how long after the auction orders are asked for.
        absent_grace: how long after its expiry an order that the venue does not know is held to have never arrived.
        require_release: a batch is executed only once a person has released it.
        watch_interval: how often, while orders wait for their auction, it is seen whether a person asked to replace
            one; None: once, for a clock that jumps.
        retry_interval: how long after orders could not be sent the rest is tried again by the run that follows those
            that were: a venue that says "too many requests" is left alone for so long.
        schedule: how orders are worked over their session.
    """

    max_snapshot_age: timedelta = timedelta(minutes=5)
    max_sends: int = 3
    poll_interval: timedelta = timedelta(seconds=5)
    settle_timeout: timedelta = timedelta(minutes=15)
    absent_grace: timedelta = timedelta(minutes=1)
    require_release: bool = False
    watch_interval: timedelta | None = None
    retry_interval: timedelta = timedelta(seconds=30)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass(frozen=True)
class Placement:
    """What placing a batch's orders came to.

    Attributes:
        claim: None when there was nothing left to place.
        sent: client order ids of which this call sent the broker a request, as far as is known; not of those that the
            last judgement before sending denied, nor where the broker could not be reached.
        stopped: why the rest was not sent; empty when nothing is left.
    """

    claim: Claim | None
    sent: tuple[str, ...] = ()
    stopped: str = ""

    def then(self, later: Placement) -> Placement:
        """Both, of which ``later`` took up what this one had left."""
        return replace(later, sent=(*self.sent, *(order for order in later.sent if order not in self.sent)))


@dataclass(frozen=True)
class Collection:
    """What the broker reported.

    Attributes:
        new_fills: fills booked by this call.
        open_orders: orders still not terminal when patience ended.
    """

    new_fills: int
    open_orders: tuple[str, ...]


@dataclass(frozen=True)
class BatchExecution:
    """A batch, executed."""

    placement: Placement
    collection: Collection
    navs: Mapping[date, NavStatement]
    breaks: tuple[Break, ...]


@dataclass(frozen=True)
class ExecutionEngine:
    """Everything that executing a batch needs.

    Attributes:
        judge: the gates; see `Judge`.
        permit: raises where the account at the broker may not be traded: asked before our book follows it.
        volume: shares of an instrument that the market traded between two instants, for participation.
        units: lots and ticks of the instruments' own, as known by an instant.
        feed: closing prices and expected corporate actions for our own book, never the broker's word for them.
        sessions: the exchange's calendar.
    """

    store: OrderStore
    broker: Broker
    clock: Clock
    judge: Judge
    audit: AuditLog
    feed: PriceFeed
    sessions: Sessions
    settings: EngineSettings = field(default_factory=EngineSettings)
    permit: Callable[[], None] = lambda: None
    volume: Callable[[str, datetime, datetime], Decimal] = lambda _name, _since, _until: Decimal(0)
    units: Callable[[datetime], TradingUnits] = lambda _as_of: NO_UNITS

    @property
    def bookkeeper(self) -> Bookkeeper:
        """Who keeps the account's books, over the engine's own store, broker and clock; needs the account's lock."""
        return Bookkeeper(self.store, self.broker, self.clock, self.audit, self.feed, self.sessions, self.settings)

    def execute_batch(self, batch_id: str, run_id: str) -> BatchExecution:
        """All steps under one hold of the account's lock.

        Raises:
            BatchRefusedError: the batch may not be executed and never was begun.
            AccountBusyError: another run executes on the account.
            FencedOutError: another run took the account over.
            BrokerError: the broker could not be asked; the next attempt takes up from here.
        """
        batch = self.store.batch(batch_id).batch
        with self._account(batch.account):
            planned = self.store.batch(batch_id)
            claim = self._prepare(planned, run_id)
            placement = self._send_slices(planned, run_id, claim)
            collection = self._collect(batch, run_id)
            navs = self.bookkeeper.update_positions(batch.account)
            breaks = self.bookkeeper.reconcile(batch.account, self.bookkeeper.session_at(batch.expires_at))
        return BatchExecution(placement, collection, navs, breaks)

    def prepare(self, batch_id: str, run_id: str) -> Claim | None:
        """Settle what earlier attempts left, compare the books, judge from a fresh snapshot and claim.

        Returns:
            None when nothing is left to send.
        """
        with self._account(self.store.batch(batch_id).batch.account):
            return self._prepare(self.store.batch(batch_id), run_id)

    def send(self, batch_id: str, run_id: str) -> Placement:
        """Send what ``run_id`` claimed; of scheduled orders every slice as it falls due, to the window's end."""
        with self._account(self.store.batch(batch_id).batch.account):
            return self._send_slices(self.store.batch(batch_id), run_id, self.store.claim_of(batch_id, run_id))

    def collect_fills(self, batch_id: str, run_id: str = "") -> Collection:
        """Wait for the batch's auction and follow the account's orders until they are terminal.

        Args:
            run_id: under which orders are replaced meanwhile, if a person asks for it.
        """
        batch = self.store.batch(batch_id).batch
        with self._account(batch.account):
            return self._collect(batch, run_id)

    def replace_orders(self, batch_id: str, run_id: str) -> None:
        """Carry out, as far as it goes now, what persons asked of the batch's open orders.

        A run that follows the orders does the same as it waits.
        """
        batch = self.store.batch(batch_id).batch
        with self._account(batch.account):
            self._replace_orders(batch, run_id)

    def update_positions(self, account: str) -> Mapping[date, NavStatement]:
        """Book late fills, flows and corporate actions, and strike the NAV of every session that is over and has none
        yet."""
        self.permit()
        with self._account(account):
            return self.bookkeeper.update_positions(account)

    def reconcile(self, account: str, session: date) -> tuple[Break, ...]:
        """Compare our book with the broker's, store what differs, and halt trading where it must."""
        self.permit()
        with self._account(account):
            return self.bookkeeper.reconcile(account, session)

    def cancel_open(self, account: str) -> tuple[str, ...]:
        """Ask the broker to cancel every working order, for the kill switch; whoever follows them records the end.

        Needs no lock: a run that waits for an auction holds it for hours.

        Raises:
            BrokerError: some could not be cancelled; all were tried.
        """
        for swap in self.store.swaps(account):
            if swap.is_fresh:
                self.store.settle_swap(swap, SwapOutcome.WITHDRAWN, "everything is cancelled", self.clock.now())
        ids = tuple(o.client_order_id for o in self.store.working(account))
        failed = []
        for order_id in ids:
            try:
                self.cancel_order(order_id, "the kill switch", "asked to cancel")
            except BrokerError as error:
                failed.append(f"{order_id}: {error}")
        if failed:
            raise BrokerError(f"not cancelled: {'; '.join(failed)}; ask again with `octopus halt --cancel`")
        return ids

    def poll(self, account: str) -> None:
        """Record what the broker has filled, and what became of open orders.

        Raises:
            AccountBusyError: a run does that already.
        """
        with self._account(account):
            self._poll(account)

    def still_told(self, order: StoredOrder) -> BrokerOrder | None:
        """What the broker says of an order; None where it has no more of it, or not yet."""
        with suppress(NotToldYetError):
            return self._found(order)
        return None

    def ask_replacement(
        self, order_id: str, quantity: Decimal | None, price: Decimal | None, by: str, reason: str
    ) -> str:
        """Commit that an order is to be replaced, in the lots and ticks that are known now; see
        `OrderStore.ask_replacement`. Needs no lock."""
        now = self.clock.now()
        return self.store.ask_replacement(
            order_id, quantity, price, by, reason, now, self.settings.lot, self.units(now)
        )  # fmt: skip

    def cancel_order(self, order_id: str, by: str, reason: str) -> None:
        """Ask the broker to cancel one order for good; whoever follows it records the end. Needs no lock.

        Raises:
            OrderActionError: it was not sent yet.
            BrokerError: the broker could not be asked; ask again.
        """
        if self.store.ask_cancel(order_id, by, reason, self.clock.now()):
            self.broker.cancel(order_id)

    def take_over_halt(self, account: str) -> None:
        """A halt that was written without the database becomes the account's own, and its open orders are cancelled."""
        halts = self.store.halts
        if halts is None or halts.read() is None:
            return
        halt = self.store.take_over_halt(account, self.clock.now())
        if halt is not None:
            if halt.cancel:
                self.cancel_open(account)
            self.store.drain_outbox(self.audit)
            halts.remove(halt)

    # -- inside: before sending --------------------------------------------------------------------------------------

    @contextmanager
    def _account(self, account: str) -> Iterator[None]:
        with self.store.account_lock(account):
            self.store.drain_outbox(self.audit)
            try:
                self.take_over_halt(account)
            except BrokerError as error:
                # The halt stands, and its file: nothing is sent, cancels are asked for again with the next step, and
                # what the broker does not cancel is followed to its end all the same.
                self.store.tell_uncancelled(account, str(error), self.clock.now())
            try:
                yield
            finally:
                self.store.drain_outbox(self.audit)

    def _prepare(self, planned: StoredBatch, run_id: str, *, compares: bool = True) -> Claim | None:
        """``compares``: whether the books must agree before anything is sent; once in a run is enough."""
        batch_id, account = planned.batch.batch_id, planned.batch.account
        self._recover(account)
        self.store.void_unsent(account, self.clock.now())
        try:
            return self._take_up(planned, run_id, compares=compares)
        except BatchRefusedError as refusal:
            self.store.refuse(batch_id, str(refusal), self.clock.now())
            if self.store.decided(batch_id):
                # Begun before: its orders are still followed to their end.
                return None
            raise

    def _take_up(self, planned: StoredBatch, run_id: str, *, compares: bool = False) -> Claim | None:
        """Judge and claim what is to be sent now; None when nothing is."""
        stored, batch_id = self._worked(planned), planned.batch.batch_id
        decided = self.store.decided(batch_id)
        open_states = {OrderState.APPROVED, *(UNRESOLVED if self._may_resend else ())}
        open_orders = self.store.orders(stored.batch.account, open_states, batch_id)
        left = {o.order.intent_id for o in open_orders if o.exit_of is None}
        if decided.keys() >= {order.intent_id for order in stored.batch.orders} and not left:
            if not decided:
                # Of a schedule nothing is due yet, if this is its session at all.
                self._require_executable(planned, planned.batch.orders)
            return None
        self._require_executable(planned, stored.batch.orders)
        if compares:
            self._compare_books(planned.batch)
            self._require_executable(planned, stored.batch.orders)
        return self._judge_and_claim(stored, decided, run_id)

    def _compare_books(self, batch: Batch) -> None:
        """Compare the books before anything of the batch is sent; a break of before halts trading.

        While orders stand, a fill may fall between two answers of the broker: what differs is looked at again.
        """
        self.permit()
        for look in range(_LOOKS):
            if look:
                self.clock.wait_until(self.clock.now() + self.settings.poll_interval)
            compared = self.bookkeeper.compare_now(batch.account)
            if not compared.breaks or not self.store.working(batch.account):
                break
        self.bookkeeper.conclude(batch.account, batch.session, compared, f"reconciliation before {batch.batch_id}")

    def _worked(self, planned: StoredBatch) -> StoredBatch:
        """The batch as it is to be sent at this moment: with replacements, and of scheduled orders the children that
        were cut or are due."""
        sliced = self._sliced(planned) if self._is_scheduled(planned.batch) else planned
        open_swaps = self.store.swaps(planned.batch.account, planned.batch.batch_id)
        swaps = {swap.request.intent_id: swap for swap in open_swaps if swap.outcome() is None}
        orders = (*sliced.batch.orders, *(swap.order for swap in swaps.values()))
        return replace(sliced, batch=replace(sliced.batch, orders=orders), swaps=swaps)

    def _sliced(self, planned: StoredBatch) -> StoredBatch:
        """A scheduled batch with its orders' children in their place."""
        terms, batch = self.settings.schedule, planned.batch
        schedule, now = terms.over(batch.not_before, batch.expires_at), self.clock.now()
        # As the plan had them: the children of an order are cut alike, whenever and by whom.
        units = self.units(self.sessions.decision_utc(batch.session))
        cut = self.store.children(batch.batch_id)
        orders: list[PlannedOrder] = []
        for parent in batch.orders:
            if parent.intent_id in planned.research_denials:
                orders.append(parent)
                continue
            children = cut.get(parent.intent_id, [])
            orders += [child for child, _ in children]
            lot = units.step(parent.instrument, self.settings.lot)
            if (fresh := self._cut(parent, schedule, children, now, lot)) is not None:
                orders.append(fresh)
        return replace(planned, batch=replace(batch, orders=tuple(orders)))

    def _is_scheduled(self, batch: Batch) -> bool:
        """Whether the batch was planned to be worked over its session: one for an auction, or with exits, is sent as it
        is."""
        whole = any(o.order_type is not OrderType.MARKET or o.bracket is not None for o in batch.orders)
        return self.settings.schedule.is_scheduled and not whole

    def _cut(
        self,
        parent: PlannedOrder,
        schedule: Schedule,
        children: Sequence[tuple[PlannedOrder, OrderStatus]],
        now: datetime,
        lot: Decimal,
    ) -> PlannedOrder | None:
        """The child of a scheduled order that is due now."""
        if now < schedule.window.end:
            traded = self.volume(parent.instrument, schedule.window.start, now)
            statuses = [status for _, status in children]
            return next_child(parent, schedule, statuses, now, lot=lot, market_volume=traded)
        return closing_child(parent, children, lot=lot) if self.settings.schedule.remainder is Remainder.CLOSE else None

    def _send_slices(self, planned: StoredBatch, run_id: str, claim: Claim | None) -> Placement:
        """Send what is claimed; of scheduled orders also each later slice, judged and claimed anew as it falls due.

        What a slice could not send is tried again until the next one is due, and then with it.
        """
        batch = planned.batch
        placement = self._send_all(claim, planned, run_id) if claim else Placement(None)
        if not self._is_scheduled(batch):
            return placement
        schedule, compared = self.settings.schedule.over(batch.not_before, batch.expires_at), claim is not None
        for look in self.settings.schedule.looks(schedule):
            if look <= self.clock.now():
                continue
            placement = self._tried_again(placement, batch, run_id, look)
            self.clock.wait_until(look)
            self._poll(batch.account)
            planned = self.store.batch(batch.batch_id)
            later = self._prepare(planned, run_id, compares=not compared)
            if later is not None:
                compared = True
                placement = placement.then(self._send_all(later, planned, run_id))
        return placement

    def _tried_again(self, placement: Placement, batch: Batch, run_id: str, until: datetime) -> Placement:
        """Send what was kept back, asked for at each `EngineSettings.retry_interval` before ``until``."""
        while (again := self.clock.now() + self.settings.retry_interval) < until and self._is_kept_back(batch):
            self.clock.wait_until(again)
            planned = self.store.batch(batch.batch_id)
            # Only questions end so: what is sent has its own outcomes.
            with suppress(BrokerUnavailableError):
                claim = self._prepare(planned, run_id, compares=False)
                if claim is None:
                    break
                placement = placement.then(self._send_all(claim, planned, run_id))
        return placement

    def _send_all(self, claim: Claim, planned: StoredBatch, run_id: str) -> Placement:
        """Send what is claimed. Where that takes longer than a snapshot is fresh, as of many orders or at a slow venue,
        the rest is judged and claimed anew."""
        sent = placement = self._send(claim, planned)
        # A snapshot that is too old before anything left on it would be so again.
        while sent.sent and sent.stopped and self._is_old(claim):
            later = self._prepare(self.store.batch(planned.batch.batch_id), run_id, compares=False)
            if later is None:
                break
            claim, sent = later, self._send(later, planned)
            placement = placement.then(sent)
        return placement

    def _judge_and_claim(self, stored: StoredBatch, decided: dict[str, str], run_id: str) -> Claim:
        claim = _in_one_state(lambda: self._claim_judged(stored, decided, run_id))
        self.store.drain_outbox(self.audit)
        return claim

    def _claim_judged(self, stored: StoredBatch, decided: dict[str, str], run_id: str) -> Claim:
        batch = stored.batch
        snapshot = self._snapshot(batch)
        state = self._state(batch.account)
        unresolved = self.store.unresolved(batch.account)
        unsent = {o.order.intent_id for o in self.store.orders(batch.account, {OrderState.APPROVED}, batch.batch_id)}
        fresh = tuple(o for o in batch.orders if o.intent_id not in decided or o.intent_id in unsent)
        if fresh:
            seen = with_open_orders(snapshot, _open_orders(unresolved))
            frozen = {order.order.instrument for order in unresolved}
            decision = self._decide(stored, replace(batch, orders=fresh), seen, frozen, state)
        else:
            decision = Decision((), (), state=state)
        return self.store.claim(stored, fresh, decision, snapshot, run_id, self.clock.now())

    def _decide(
        self, stored: StoredBatch, judged: Batch, seen: AccountSnapshot, frozen: set[str], state: TradingState
    ) -> Decision:
        """What the gates and the order path's own rules say of ``judged`` now, under one state of the kill switch."""
        orders, seen = in_judgement(judged.orders, seen, stored.swaps.values())
        judged = replace(judged, orders=orders)
        reports = self.judge(judged, seen, self.clock.now(), state)
        return decide(
            judged,
            seen,
            reports,
            state=state,
            research_denials=stored.research_denials,
            frozen=frozen,
            changed=self._changed(judged),
        )

    def _state(self, account: str) -> TradingState:
        return _not_halted(account, self.store.trading_status(account))

    def _changed(self, batch: Batch) -> dict[str, str]:
        """What the next session's open does to shares that were planned before it, by instrument."""
        names = sorted({order.instrument for order in batch.orders})
        actions = self.feed.actions(names, *_overnight(self.sessions, batch.session))
        return {action.instrument: reason for action in actions if (reason := ends_orders(action))}

    def _require_executable(self, stored: StoredBatch, orders: Sequence[PlannedOrder]) -> None:
        """That the planned batch may be executed now, and ``orders`` of it be sent."""
        batch, now = stored.batch, self.clock.now()
        name = f"batch {batch.batch_id}"
        status = self.store.trading_status(batch.account)
        if status.state is TradingState.HALTED:
            raise TradingHaltedError(
                f"{name}: trading is halted: {status.reason}; `octopus resume` when that is settled"
            )
        if not stored.judged:
            raise BatchRefusedError(f"{name} was not judged by both gates of research; run the research job to its end")
        if stored.successor:
            raise BatchRefusedError(f"{name} was superseded by {stored.successor}; execute that one")
        if self.settings.require_release and not self.store.is_released(batch, now):
            raise AwaitingReleaseError(f"{name} awaits a person's release: `octopus release {batch.batch_id}`")
        if any(order.bracket for order in orders) and not isinstance(self.broker, BracketBroker):
            raise BatchRefusedError(
                f"{name} has entries with exits, and {self.broker.name} takes none; set execution.bracket: null in "
                "config/strategies.yaml and plan anew"
            )
        closes = min(send_by(batch.expires_at, order.order_type) for order in orders)
        if not batch.not_before <= now < closes:
            raise BatchRefusedError(
                f"{name} may be sent from {batch.not_before} to {closes}, and it is {now}; plan a new batch"
            )

    def _snapshot(self, batch: Batch) -> AccountSnapshot:
        snapshot = self.broker.snapshot(tuple(order.instrument for order in batch.orders))
        age = self.clock.now() - snapshot.taken_at
        if snapshot.account != batch.account:
            raise BatchRefusedError(
                f"the broker answered for account {snapshot.account!r}, the batch is for {batch.account!r}; "
                "check the settings"
            )
        if age > self.settings.max_snapshot_age:
            raise BatchRefusedError(
                f"the broker's snapshot of {snapshot.taken_at} is {age} old, more than "
                f"{self.settings.max_snapshot_age}; try again when it is fresh"
            )
        return snapshot

    def _recover(self, account: str) -> None:
        """Settle what can be settled of sends whose answer was never stored."""
        for order in _entries_first(self.store.unresolved(account)):
            self._resolve(order)
        self.store.drain_outbox(self.audit)

    def _resolve_all(self, account: str) -> None:
        for order in self.store.working(account):
            if order.status.state in UNRESOLVED:
                self._resolve(order)

    def _resolve(self, order: StoredOrder) -> None:
        now, order_id = self.clock.now(), order.client_order_id
        if order.exit_of is not None and self._shares_fate(order):
            return
        try:
            found = self._found(order) if self._may_search else None
        except NotToldYetError as not_yet:
            self.store.record(order_id, Event.UNCERTAIN, now, str(not_yet))
            return
        if found is not None:
            self._record_report(order.status, found)
        elif self._may_search and self._cannot_arrive(order):
            self.store.record(order_id, Event.EXPIRE, now, "the broker's records never had it")
        elif not self._may_resend:
            self.store.record(order_id, Event.UNCERTAIN, now, "sent, and not found at the broker")

    def _shares_fate(self, exit_: StoredOrder) -> bool:
        """Whether nothing is to be asked of an unresolved exit: its entry, which went in the same request, is as
        unresolved, or has settled it by now."""
        both = self.store.orders(exit_.account, UNRESOLVED, exit_.batch_id)
        return exit_.client_order_id not in {one.client_order_id for one in both} or exit_.exit_of in {
            one.order.intent_id for one in both
        }

    def _found(self, order: StoredOrder) -> BrokerOrder | None:
        """The order as the broker's records have it: those of the day, or the reports that come after it."""
        found = self.broker.order(order.client_order_id, order.broker_order_id)
        if found is not None or not isinstance(self.broker, LateTellingBroker):
            return found
        planned = replace(order.order, quantity=order.status.quantity)
        sent = OrderRequest.of(planned, order.client_order_id, order.expires_at)
        return self.broker.past_order(sent, order.broker_order_id)

    @property
    def _may_search(self) -> bool:
        return self.broker.guarantee is not Guarantee.NOTHING

    @property
    def _may_resend(self) -> bool:
        return self.broker.guarantee is Guarantee.IDEMPOTENT_KEY

    def _cannot_arrive(self, order: StoredOrder) -> bool:
        return self.clock.now() >= order.expires_at + self.settings.absent_grace

    # -- inside: sending ---------------------------------------------------------------------------------------------

    def _send(self, claim: Claim, planned: StoredBatch) -> Placement:
        stored = self._worked(planned)
        _, live = self.store.live(claim.account)
        orders = [order for order in live if order.batch_id == claim.batch_id]
        again = {o.intent_id for o in orders if o.state in UNRESOLVED and self._may_resend}
        waiting = {name for name, swap in stored.swaps.items() if not (self._swaps_at_once or swap.has_way)}
        first = {o.intent_id for o in orders if o.state is OrderState.APPROVED} - waiting
        queue = in_sending_order(o for o in stored.batch.orders if o.intent_id in again | first)
        sent: list[str] = []
        stopped = ""
        with self.store.planned_once():
            for order in sorted(queue, key=lambda o: o.intent_id not in again):
                try:
                    stopped = self._send_one(claim, stored, order, sent, resend=order.intent_id in again)
                except BatchRefusedError as refusal:
                    stopped = str(refusal)
                if stopped:
                    self.store.refuse(claim.batch_id, stopped, self.clock.now())
                    break
        self.store.drain_outbox(self.audit)
        return Placement(claim, tuple(sent), stopped)

    def _send_one(
        self, claim: Claim, stored: StoredBatch, order: PlannedOrder, sent: list[str], *, resend: bool
    ) -> str:
        """Send one order; returns why nothing more must be sent, or nothing.

        Args:
            sent: gets its id as soon as a request may have left, whatever comes after.
        """
        self._require_sendable(claim, stored.batch, order)
        answer: BrokerOrder | BrokerError | None = None
        for _ in range(self.settings.max_sends):
            again = _in_one_state(partial(self._submit_judged, claim, stored, order, resend=resend))
            if again is None:
                break
            answer, order_id = again, client_order_id(order.intent_id)
            if not isinstance(answer, BrokerUnavailableError) and order_id not in sent:
                sent.append(order_id)
            if not (isinstance(answer, UncertainOutcomeError) and self._may_resend):
                break
            resend = True
        if answer is None:
            return ""
        return self._record_answer(claim, client_order_id(order.intent_id), answer, resent=resend)

    def _submit_judged(
        self, claim: Claim, stored: StoredBatch, order: PlannedOrder, *, resend: bool
    ) -> BrokerOrder | BrokerError | None:
        """Send an order that may leave now; None: it may not."""
        state = self._resends_under(claim, order) if resend else self._approved_under(claim, stored, order)
        return None if state is None else self._submit(claim, stored, order, state, resend=resend)

    def _submit(
        self, claim: Claim, stored: StoredBatch, order: PlannedOrder, state: TradingState, *, resend: bool
    ) -> BrokerOrder | BrokerError:
        order_id, event = client_order_id(order.intent_id), Event.RESEND if resend else Event.SEND
        in_many = (
            order.bracket is not None and isinstance(self.broker, BracketBroker) and self.broker.exits_are_messages
        )
        quantity = self.store.begin_send(
            claim, order_id, event, self.clock.now(), judged_under=state, swaps=self._swaps_at_once,
            alone=order.bracket is None and order.intent_id not in stored.swaps, exits_are_messages=in_many,
        )  # fmt: skip
        self.store.drain_outbox(self.audit, just_sent=True)
        return self._ask(order_id, replace(order, quantity=quantity), stored)

    def _ask(self, order_id: str, order: PlannedOrder, stored: StoredBatch) -> BrokerOrder | BrokerError:
        swap = stored.swaps.get(order.intent_id)
        try:
            request = OrderRequest.of(order, order_id, stored.batch.expires_at)
            if swap is not None and isinstance(self.broker, ReplacingBroker):
                return self.broker.replace(swap.replaces, request)
            if order.bracket is not None and isinstance(self.broker, BracketBroker):
                return self.broker.submit_bracket(request, order.bracket)
            return self.broker.submit(request)
        except (OrderRejectedError, BrokerUnavailableError, UncertainOutcomeError) as error:
            return error

    def _record_answer(self, claim: Claim, order_id: str, answer: BrokerOrder | BrokerError, *, resent: bool) -> str:
        """Record what a send came to; returns why nothing more must be sent, or nothing."""
        # Only of a first send do we know that the order does not stand, and only while nobody has sent it again: a
        # worker that was overtaken as it waited for the answer may come with it after the later one's was accepted.
        now, alone = self.clock.now(), None if resent else claim.fence
        if isinstance(answer, BrokerOrder):
            self._record_found(order_id, answer)
        elif isinstance(answer, OrderRejectedError) and not resent:
            self.store.record(order_id, Event.REJECT, now, str(answer), of_send=alone)
        elif isinstance(answer, BrokerUnavailableError):
            event = Event.UNCERTAIN if resent else Event.NOT_SENT
            self.store.record(order_id, event, now, str(answer), of_send=alone)
            return str(answer)
        else:
            # A second send that is refused (the first one took the buying power) says nothing of the first.
            self._look_up(order_id, answer)
        return ""

    def _record_found(self, order_id: str, found: BrokerOrder) -> None:
        """Record that the order stands, or was refused. What else became of it is recorded once its fills are."""
        event = Event.REJECT if found.state is OrderState.REJECTED else Event.ACCEPT
        self.store.record(order_id, event, self.clock.now(), found.reason, found.broker_order_id, found.quantity)

    def _look_up(self, order_id: str, uncertain: BrokerError) -> None:
        """After an uncertain send: the broker's records, if they can be searched, else ``unknown``."""
        found = None
        if self._may_search:
            try:
                found = self.broker.order(order_id)
            except BrokerError as error:
                uncertain = error
        if found is not None:
            self._record_found(order_id, found)
        else:
            self.store.record(order_id, Event.UNCERTAIN, self.clock.now(), str(uncertain))

    def _require_sendable(self, claim: Claim, batch: Batch, order: PlannedOrder) -> None:
        now = self.clock.now()
        closes = send_by(batch.expires_at, order.order_type)
        if not batch.not_before <= now < closes:
            raise BatchRefusedError(f"the window of batch {batch.batch_id} closed at {closes}; plan a new batch")
        if self._is_old(claim):
            age = now - claim.snapshot.taken_at
            raise BatchRefusedError(
                f"the snapshot that batch {batch.batch_id} was judged with is {age} old, more than "
                f"{self.settings.max_snapshot_age}; start another attempt"
            )

    def _is_old(self, claim: Claim) -> bool:
        return self.clock.now() - claim.snapshot.taken_at > self.settings.max_snapshot_age

    def _resends_under(self, claim: Claim, order: PlannedOrder) -> TradingState | None:
        """The state in which an order that may stand at the broker or not may be sent again; None: it waits, for it may
        open risk, and trading only reduces."""
        status, orders = self.store.live(claim.account)
        state, order_id = _not_halted(claim.account, status), client_order_id(order.intent_id)
        if state is TradingState.ACTIVE:
            return state
        others = tuple(one for one in claim.snapshot.open_orders if one.client_order_id != order_id)
        unresolved = (o.open for o in orders if o.state in UNRESOLVED and o.exit_of is None)
        seen = with_open_orders(
            replace(claim.snapshot, open_orders=others), (o for o in unresolved if o.client_order_id != order_id)
        )
        return state if reducing_orders([order], seen) else None

    def _approved_under(self, claim: Claim, stored: StoredBatch, order: PlannedOrder) -> TradingState | None:
        """Judge what is left once more, with what was sent counted as filled: the state of the kill switch under which
        the order is still approved; None: it is denied, which is committed."""
        now = self.clock.now()
        status, orders = self.store.live(claim.account)
        state = _not_halted(claim.account, status)
        left = {o.intent_id for o in orders if o.state is OrderState.APPROVED}
        judged = replace(stored.batch, orders=tuple(o for o in stored.batch.orders if o.intent_id in left))
        # As of the snapshot, what was sent since has not moved the account: all of it counts as open.
        seen = with_open_orders(
            claim.snapshot,
            (o.open for o in orders if (o.state in UNRESOLVED or o.batch_id == claim.batch_id) and o.exit_of is None),
        )
        frozen = {o.open.instrument for o in orders if o.state in UNRESOLVED}
        decision = self._decide(stored, judged, seen, frozen, state)
        if order.intent_id in decision.approved:
            return state
        denials = [v for v in decision.verdicts if v.outcome is Outcome.DENY and v.intent_id == order.intent_id]
        reason = "a gate no longer approves it and names no rule"
        verdicts = denials or [Verdict(GATE, "remaining_limits", order.intent_id, Outcome.DENY, reason)]
        self.store.deny(claim, order, verdicts, now, judged_under=state)
        return None

    # -- inside: after sending ---------------------------------------------------------------------------------------

    def _collect(self, batch: Batch, run_id: str) -> Collection:
        account = batch.account
        self._watch(batch, run_id)
        new_fills = self._follow(batch)
        now = self.clock.now()
        self.store.void_unsent(account, now)
        self._settle_swaps(account)
        self.store.finish(account, now)
        self.store.drain_outbox(self.audit)
        return Collection(new_fills, tuple(o.client_order_id for o in self.store.working(account)))

    def _watch(self, batch: Batch, run_id: str) -> None:
        """Wait for the auction; meanwhile send what a halt kept back once trading is resumed, and what a venue did not
        take that could not be reached or takes no more for now; and replace what persons ask for."""
        gone_on: datetime | None = None
        tried: datetime | None = None
        while (now := self.clock.now()) < batch.expires_at and (self._awaited(batch) or self._is_asked(batch)):
            # What is sent has its own outcomes: only questions and cancels end so, and are asked again.
            with suppress(BrokerError):
                resumed = self.store.resumed_at(batch.batch_id)
                is_resumed = resumed not in (None, gone_on)
                is_due = tried is None or now >= tried + self.settings.retry_interval
                if is_resumed or (is_due and self._is_kept_back(batch)):
                    tried = now
                    # While orders stand, fills may come between two answers: nothing is compared for a mere retry.
                    self._go_on(batch, run_id, compares=is_resumed)
                    gone_on = resumed or gone_on
                self._replace_orders(batch, run_id)
            step = self.settings.watch_interval
            self.clock.wait_until(batch.expires_at if step is None else min(batch.expires_at, now + step))

    def _is_kept_back(self, batch: Batch) -> bool:
        """Whether approved orders of the batch did not leave and may leave now; replacements go their own way."""
        now, account = self.clock.now(), batch.account
        if not now < min(send_by(batch.expires_at, order.order_type) for order in batch.orders):
            return False
        unsent = self.store.orders(account, {OrderState.APPROVED}, batch.batch_id)
        replacing = {swap.request.intent_id for swap in self.store.swaps(account, batch.batch_id)} if unsent else set()
        left = any(o.exit_of is None and o.order.intent_id not in replacing for o in unsent)
        return left and self.store.trading_status(account).state is not TradingState.HALTED

    def _go_on(self, batch: Batch, run_id: str, *, compares: bool) -> None:
        """Judge and send what waits, as another attempt would; a run that waits for the auction keeps others out."""
        planned = self.store.batch(batch.batch_id)
        claim = self._prepare(planned, run_id, compares=compares)
        if claim is not None:
            self._send_slices(planned, run_id, claim)

    def _is_asked(self, batch: Batch) -> bool:
        return bool(self.store.swaps(batch.account, batch.batch_id))

    def _replace_orders(self, batch: Batch, run_id: str) -> None:
        """Carry out requests to replace orders of the batch, as far as it goes now."""
        account = batch.account
        if not self._is_asked(batch):
            return
        # What has filled meanwhile is known first.
        self._poll(account)
        self._settle_swaps(account)
        if any(swap.is_fresh for swap in self.store.swaps(account, batch.batch_id)):
            try:
                self._swap_orders(self.store.batch(batch.batch_id), run_id)
            except BatchRefusedError as refusal:
                self._refuse_swaps(batch, str(refusal))
            self._poll(account)
            self._settle_swaps(account)
        self.store.drain_outbox(self.audit)

    def _swap_orders(self, planned: StoredBatch, run_id: str) -> None:
        """Judge and send replacements; where the venue does not swap, the old orders are cancelled in between."""
        account, batch_id = planned.batch.account, planned.batch.batch_id
        if self._swaps_at_once:
            claim = self._take_up(planned, run_id)
        else:
            # Judged before anything is cancelled for it, and again with what the old order filled on its way out.
            if any(swap.intent is None for swap in self.store.swaps(account, batch_id)):
                self._take_up(planned, run_id)
            for swap in self.store.swaps(account, batch_id):
                if swap.new is not None and swap.is_fresh and not swap.has_way:
                    self._make_way(swap)
            self._poll(account)
            self._settle_swaps(account)
            ready = [s for s in self.store.swaps(account, batch_id) if s.new is not None and s.is_fresh and s.has_way]
            claim = self._take_up(planned, run_id) if ready else None
        if claim is not None:
            self._send(claim, planned)

    def _make_way(self, swap: Swap) -> None:
        """Cancel the old order; asked twice, it is asked once."""
        if self.store.begin_way(swap, self.clock.now()):
            self.store.drain_outbox(self.audit)
            self.broker.cancel(swap.replaces)

    def _refuse_swaps(self, batch: Batch, reason: str) -> None:
        """Settle requests that nothing was done about yet; the others wait for what becomes of the refusal."""
        for swap in self.store.swaps(batch.account, batch.batch_id):
            if swap.is_fresh and not swap.making_way:
                self.store.settle_swap(swap, SwapOutcome.REFUSED, reason, self.clock.now())

    def _settle_swaps(self, account: str) -> None:
        for swap in self.store.swaps(account):
            if (outcome := swap.outcome()) is not None:
                self.store.settle_swap(swap, outcome, _why(swap), self.clock.now())

    @property
    def _swaps_at_once(self) -> bool:
        return isinstance(self.broker, ReplacingBroker)

    def _follow(self, batch: Batch) -> int:
        """Ask until the batch's orders are terminal or patience ends; a broker that does not answer is asked again."""
        deadline = max(batch.expires_at, self.clock.now()) + self.settings.settle_timeout
        booked = 0
        while True:
            is_last = self.clock.now() >= deadline
            try:
                booked += self._poll(batch.account)
                if is_last or not self._awaited(batch):
                    return booked
            except (BrokerUnavailableError, UncertainOutcomeError):
                # Only questions were asked: asking again moves nothing.
                if is_last:
                    raise
            self.clock.wait_until(self.clock.now() + self.settings.poll_interval)

    def _awaited(self, batch: Batch) -> bool:
        """Whether the broker may still tell us something of the batch's orders."""
        return any(
            order.batch_id == batch.batch_id and (self._may_search or order.status.state not in UNRESOLVED)
            for order in self.store.working(batch.account)
        )

    def _poll(self, account: str) -> int:
        """Book new fills, then what became of each order; fills first, so that a terminal order has all of them."""
        if self._swaps_at_once:
            # What the venue took of a replacement is known before its fills are: they may be all of it.
            self._resolve_all(account)
        booked = self.bookkeeper.take_fills(account)
        for order in _entries_first(self.store.working(account)):
            if order.status.state in UNRESOLVED:
                self._resolve(order)
                continue
            with suppress(NotToldYetError):
                report = self._found(order)
                if report is not None:
                    self._record_report(order.status, report)
                elif order.exit_of is not None and self._cannot_arrive(order):
                    self.store.record(
                        order.client_order_id, Event.EXPIRE, self.clock.now(), "the broker has no more of it"
                    )
        self.store.drain_outbox(self.audit)
        return booked

    def _record_report(self, status: OrderStatus, report: BrokerOrder) -> None:
        """Record what the broker's records say of an order."""
        now, order_id = self.clock.now(), report.client_order_id
        if status.state in UNRESOLVED:
            self._record_found(order_id, report)
        # The end is recorded only once all its fills are: an order that ended is not asked for again.
        if report.state in _ENDS and report.filled_quantity <= max(status.filled, status.net_filled):
            event, reason = _ENDS[report.state], report.reason
            if report.state is OrderState.FILLED and report.quantity < status.quantity:
                event, reason = Event.CANCEL, reason or "the other exit took the rest"
            self.store.record(order_id, event, now, reason, report.broker_order_id)


def _not_halted(account: str, status: TradingStatus) -> TradingState:
    """The kill switch's state, under which orders may be judged. Whoever commits what comes of it asks again.

    Raises:
        TradingHaltedError: the kill switch is on, which denies no order: it waits.
    """
    if status.state is TradingState.HALTED:
        raise status.refusal(account)
    return status.state


def _in_one_state(step: Callable[[], _Done]) -> _Done:
    """``step``, and again where the kill switch was turned between its judgement and the commit that rests on it."""
    for _ in range(_LOOKS - 1):
        with suppress(TradingStateChangedError):
            return step()
    return step()


_LOOKS = 3
"""How often the books are compared while orders stand, before what differs is a break; and how often what is to be sent
is judged while persons turn the kill switch, before it waits for the next attempt."""

_ENDS = {
    OrderState.FILLED: Event.ACCEPT,
    OrderState.REJECTED: Event.REJECT,
    OrderState.CANCELLED: Event.CANCEL,
    OrderState.REPLACED: Event.REPLACE,
    OrderState.EXPIRED: Event.EXPIRE,
}
"""How a broker's terminal state is recorded. Fills make an order filled; the report itself adds nothing."""


@lru_cache(maxsize=16)
def _overnight(sessions: Sessions, session: date) -> tuple[datetime, datetime]:
    """From the close of ``session`` to the next one's open; asked again before each order of a batch."""
    return sessions.close_utc(session), sessions.open_utc(sessions.next(session))


def _why(swap: Swap) -> str:
    """The states of both orders, in words."""
    new = "was not sent" if swap.new is None else f"is {swap.new.state.value}"
    return f"{swap.replaces} is {swap.old.state.value} with {plain(swap.old.filled)} filled, its replacement {new}"


def _entries_first(orders: Iterable[StoredOrder]) -> list[StoredOrder]:
    """What becomes of an entry may settle its exits."""
    return sorted(orders, key=lambda one: one.exit_of is not None)


def _open_orders(orders: Iterable[StoredOrder]) -> tuple[OpenOrder, ...]:
    """As they count for the limits: all that is left of each; exits only reduce what their entries open."""
    return tuple(
        OpenOrder(one.client_order_id, one.order.instrument, one.order.side, one.status.remaining)
        for one in orders
        if one.exit_of is None
    )
