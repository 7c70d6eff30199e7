"""The crash proof: one batch, workers that end or lose touch at any point, a venue with faults, and what must hold.

A seed chooses everything: the venue's faults, the point, and what happens there. `run_seed` lives through it, lets a
last worker finish on a sound line, and checks the invariants:

- never two orders for one intent, and exactly one once the venue answers (where its key is idempotent);
- filled quantities, cash, positions and every fill equal the venue's;
- no two orders of one intent stand at the venue at once, and an order and its replacement fill no more than the
  larger of their quantities;
- nothing lost: each intent is an order that ended or was denied; each event is in the audit log, once; each request to
  replace an order came to something;
- another run of the batch sends nothing.

The chain of the audit log is verified by the tests that call this, over all their seeds.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from execution_support import (
    CLOSE,
    NAMES,
    OPEN,
    D,
    Desk,
    ManualClock,
    auction_feed,
    handed_on,
    kept,
    opened,
    rows,
    store_plan,
)
from power import Power, PowerCut

from octopus.core.ids import entry_order_id
from octopus.core.orders import (
    AccountSnapshot,
    Batch,
    Fill,
    GateReport,
    OrderType,
    Outcome,
    Side,
    TradingState,
    Verdict,
)
from octopus.execution.book import Book
from octopus.execution.config import ScheduleConfig
from octopus.execution.reconcile import BreakKind
from octopus.execution.replacements import REPLACEABLE
from octopus.execution.states import IllegalTransitionError, OrderState
from octopus.execution.window import send_by
from resources.brokers import paper_ledger
from resources.brokers.base import (
    BrokerError,
    BrokerOrder,
    BrokerUnavailableError,
    Guarantee,
    OrderRejectedError,
    OrderRequest,
    UncertainOutcomeError,
)
from resources.execution_engine import EngineSettings
from resources.warehouse import order_store
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.audit_log import AnchorError, verify
from resources.warehouse.connection import WarehouseUnreachableError, connect
from resources.warehouse.order_store import (
    AccountBusyError,
    BatchRefusedError,
    FencedOutError,
    OrderActionError,
    OrderStore,
)

SEND_FAULTS = ("accept_504", "accept_drop", "accept_timeout", "timeout_before", "busy_429")
EVENTS = ("cut", "cut", "cut", "database_restart", "second_worker", "sensor_twice", "broker_restart", "late_hour")
SETTINGS = EngineSettings(
    settle_timeout=timedelta(seconds=90), poll_interval=timedelta(seconds=15), watch_interval=timedelta(hours=2)
)
_SURVIVED = (
    BatchRefusedError, FencedOutError, AccountBusyError, BrokerError, WarehouseUnreachableError, AnchorError,
    IllegalTransitionError, psycopg.OperationalError, psycopg.InterfaceError,
)  # fmt: skip
"""How a worker that lost its database, its venue or its account may end: with an error, and its work left undone."""


@dataclass
class Line:
    """The line to a venue, with faults; without any it is the venue.

    Attributes:
        script: what becomes of each send: ``ok``, or one of `SEND_FAULTS`.
        deaf_after_close: questions after the auction that are not answered. down: requests that find nobody listening.
        stale: how often the account is told as it was first seen. repeat, reverse: fills come twice, or newest first.
        withheld: how often the list of fills comes without its last one.
        live: (client order id, instrument) of what stands at the venue, asked with each send.
    """

    inner: Any
    clock: ManualClock
    script: list[str] = field(default_factory=list)
    deaf_after_close: int = 0
    down: int = 0
    stale: int = 0
    withheld: int = 0
    repeat: bool = False
    reverse: bool = False
    live: Callable[[], list[tuple[str, str]]] = list
    happened: Counter[str] = field(default_factory=Counter)
    arrived: Counter[str] = field(default_factory=Counter)
    _seen: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.inner.name)

    @property
    def guarantee(self) -> Guarantee:
        return self.inner.guarantee  # type: ignore[no-any-return]

    @property
    def keeps(self) -> timedelta | None:
        return self.inner.keeps  # type: ignore[no-any-return]

    def mend(self) -> None:
        self.deaf_after_close = self.down = self.stale = self.withheld = 0
        self.repeat = self.reverse = False

    def submit(self, request: OrderRequest) -> BrokerOrder:
        name = request.client_order_id
        rivals = [other for other, of in self.live() if of == request.instrument and other != name]
        assert not rivals, f"{name} is sent while {rivals} stand"
        return self._sent(name, lambda: self.inner.submit(request))

    def __getattr__(self, name: str) -> Any:
        # Only where the venue replaces in one step does the line.
        if name == "replace" and hasattr(self.inner, "replace"):
            return self._replace
        raise AttributeError(name)

    def _replace(self, replaced: str, request: OrderRequest) -> BrokerOrder:
        self.happened["replaced at once"] += 1
        return self._sent(request.client_order_id, lambda: self.inner.replace(replaced, request))

    def _sent(self, client_order_id: str, send: Callable[[], BrokerOrder]) -> BrokerOrder:
        """What a send comes to, with the next fault of the script."""
        self._connected()
        fault = self.script.pop(0) if self.script else "ok"
        self.happened[fault] += 1
        if fault == "busy_429":
            raise BrokerUnavailableError("line: HTTP 429, Retry-After 1")
        if fault == "timeout_before":
            raise UncertainOutcomeError("line: timed out")
        self.arrived[client_order_id] += 1
        try:
            answer = send()
        except BrokerUnavailableError:
            # It never arrived, if that is true: an order that stands twice is found at the venue.
            del self.arrived[client_order_id]
            raise
        except OrderRejectedError:
            self.happened["refused at once"] += 1
            raise
        if fault != "ok":
            getattr(self.inner, "acknowledged", set()).discard(client_order_id)
            raise UncertainOutcomeError(f"line: {fault}")
        return answer

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        self._asked()
        return self.inner.order(client_order_id, broker_order_id)  # type: ignore[no-any-return]

    def cancel(self, client_order_id: str) -> None:
        self._connected()
        self.inner.cancel(client_order_id)

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        self._asked()
        told = list(self.inner.fills(since))
        if self.withheld and told:
            self.withheld -= 1
            self.happened["late fill"] += 1
            told.pop()
        if self.repeat and told:
            self.happened["duplicate fill"] += 1
            told = [fill for fill in told for _ in range(2)]
        if self.reverse and len(told) > 1:
            self.happened["fills out of order"] += 1
            told.reverse()
        return tuple(told)

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        self._asked()
        told: AccountSnapshot = self._as_first_seen("snapshot", lambda: self.inner.snapshot(quoted))
        return replace(told, taken_at=self.clock.now())

    def statement(self, since: datetime | None = None) -> Book:
        self._asked()
        told: Book = self._as_first_seen("statement", lambda: self.inner.statement(since))
        return told

    def _as_first_seen(self, what: str, ask: Callable[[], Any]) -> Any:
        first = self._seen.get(what)
        if first is not None and self.stale:
            self.stale -= 1
            self.happened["stale positions"] += 1
            return first
        return self._seen.setdefault(what, ask()) if first is None else ask()

    def _connected(self) -> None:
        if self.down:
            self.down -= 1
            self.happened["broker down"] += 1
            raise BrokerUnavailableError("line: connection refused")

    def _asked(self) -> None:
        self._connected()
        if self.deaf_after_close and self.clock.now() >= CLOSE:
            self.deaf_after_close -= 1
            self.happened["disconnect after fills"] += 1
            raise UncertainOutcomeError("line: the connection dropped")


@dataclass
class Stand:
    """One account, its batch and its venue.

    Attributes:
        at_venue: (client order id, instrument) of every order that ever stood at the venue, repeated if it stood twice.
        script: what becomes of each send, drawn from ``faults``: the line's, or the venue's own.
    """

    desk: Desk
    line: Line
    batch: Batch
    at_venue: Callable[[], list[tuple[str, str]]]
    script: list[str]
    faults: tuple[str, ...] = SEND_FAULTS
    close: Callable[[], None] = lambda: None


Build = Callable[[str, str, Path | None, random.Random], Stand]
"""A stand for an account, from the database's URL, the account, the audit log's anchor and the draw."""


@dataclass
class Counts:
    """What a proof went through.

    Attributes:
        replacements: requests by what became of them.
        cut_at: workers that ended, by the name of the point.
        events: what happened at the chosen point. faults: what the line and the venue did.
    """

    seeds: int = 0
    orders: int = 0
    fills: int = 0
    replacements: Counter[str] = field(default_factory=Counter)
    cut_at: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def rows(self) -> dict[str, int]:
        """As a flat table, largest groups first told together."""
        cut = {f"cut at {name}": count for name, count in sorted(self.cut_at.items())}
        events = {f"event: {name}": count for name, count in sorted(self.events.items())}
        faults = {f"fault: {name}": count for name, count in sorted(self.faults.items()) if name != "ok"}
        asked = {f"replacement: {name}": count for name, count in sorted(self.replacements.items())}
        return {"seeds": self.seeds, "orders": self.orders, "fills": self.fills, **asked, **events, **faults, **cut}


def set_up(
    url: str,
    account: str,
    anchor: Path | None,
    rng: random.Random,
    venue: Any,
    clock: ManualClock,
    at_venue: Callable[[], list[tuple[str, str]]],
    schedule: ScheduleConfig | None = None,
    live: Callable[[], list[tuple[str, str]]] = list,
) -> Stand:
    """A stand whose line and gates have the faults that ``rng`` draws; its orders are worked by ``schedule``.

    Args:
        at_venue, live: every order that ever stood at the venue, and those that stand now.
    """
    line = Line(venue, clock, live=live)
    desk = Desk(url, account, clock, auction_feed(), line, anchor, judge=moody(rng), settings=SETTINGS)
    order_type = OrderType.MARKET_ON_CLOSE
    if schedule is not None:
        desk.settings, order_type = replace(SETTINGS, schedule=schedule, lot=D(1)), OrderType.MARKET
    desk.open()
    trades = [(name, rng.choice(list(Side)), D(rng.randint(1, 50))) for name in NAMES]
    return Stand(desk, line, store_plan(url, account, trades, order_type=order_type), at_venue, line.script)


def strain(stand: Stand, rng: random.Random) -> None:
    """Give the line faults for the workers that do not finish."""
    line = stand.line
    stand.script[:] = [rng.choice(("ok", "ok", *stand.faults)) for _ in range(10)]
    line.deaf_after_close = rng.choice((0, 0, 1, 4))
    line.stale = rng.choice((0, 0, 0, 1, 2))
    line.withheld = rng.choice((0, 0, 1, 2))
    line.repeat, line.reverse = rng.random() < 0.3, rng.random() < 0.3


def moody(rng: random.Random) -> Callable[..., tuple[GateReport, ...]]:
    """Gates that, for one account in three, deny an order now and then and let it pass the next time."""
    denies = rng.random() < 1 / 3

    def judge(batch: Batch, _snapshot: AccountSnapshot, _now: datetime, _state: TradingState) -> tuple[GateReport, ...]:
        denied = [o.intent_id for o in batch.orders if denies and rng.random() < 0.08]
        verdicts = tuple(Verdict("risk", "mood", name, Outcome.DENY, "denied by the draw") for name in denied)
        return (GateReport("risk", tuple(o.intent_id for o in batch.orders if o.intent_id not in denied), verdicts),)

    return judge


def attempt(stand: Stand, run_id: str, power: Power) -> bool:
    """Execute the batch; True if it came to its end, False if the worker ended or gave up."""
    try:
        with stand.desk.engine(power) as engine:
            engine.execute_batch(stand.batch.batch_id, run_id)
    except PowerCut:
        return False
    except _SURVIVED:
        # Whatever it ran into after the power was cut was on the way out.
        return False
    return not power.is_cut


@dataclass(frozen=True)
class ImpatientStore(OrderStore):
    """Does not wait for an account that another worker holds."""

    @contextmanager
    def account_lock(self, account: str, wait_seconds: float = 0.0) -> Iterator[None]:
        with super().account_lock(account, 0.0):
            yield


def impatiently(stand: Stand, run_id: str, *, send_only: bool) -> str:
    """What a second worker comes to at once: ``busy``, ``refused`` or ``done``."""
    with stand.desk.engine() as engine:
        mine = replace(engine, store=ImpatientStore(engine.store.url, engine.store.connection))
        try:
            if send_only:
                if mine.prepare(stand.batch.batch_id, run_id) is not None:
                    mine.send(stand.batch.batch_id, run_id)
            else:
                mine.execute_batch(stand.batch.batch_id, run_id)
        except AccountBusyError:
            return "busy"
        except (BatchRefusedError, BrokerError):
            return "refused"
    return "done"


def end_sessions(url: str, *, locks_only: bool) -> None:
    """End the database's sessions as its restart does, or only those that hold an account's lock."""
    holding = "and pid in (select pid from pg_locks where locktype = 'advisory')" if locks_only else ""
    with connect(url, autocommit=True) as connection:
        ended = connection.execute(
            "select pid, pg_terminate_backend(pid) from pg_stat_activity "  # type: ignore[arg-type]
            f"where datname = current_database() and pid <> pg_backend_pid() {holding}"
        ).fetchall()
        pids, left = [pid for pid, _ in ended], "select from pg_stat_activity where pid = any(%s)"
        # The server's own waiting looks ten times a second.
        while connection.execute(left, [pids]).fetchall():
            time.sleep(0.001)


def eventful(stand: Stand, event: str, number: int, rng: random.Random, counts: Counts) -> Power:
    """Power that lets ``event`` happen at the ``number``-th point (a second worker: at the next outside a commit)."""
    power, happened = Power(), [False]

    def at(reached: int, name: str) -> None:
        if reached < number or happened[0]:
            return
        if event in ("second_worker", "sensor_twice") and name.endswith("before commit"):
            return
        if event == "late_hour" and not is_begun(stand):
            return
        happened[0] = True
        if event == "cut":
            power.cut()
        counts.events[event] += 1
        if event == "late_hour":
            # The auction comes while something is on its way.
            stand.desk.clock.wait_until(CLOSE)
        elif event == "database_restart":
            end_sessions(stand.desk.url, locks_only=False)
        elif event == "broker_restart":
            stand.line.down = rng.randint(1, 6)
        elif event == "sensor_twice":
            assert impatiently(stand, "twice", send_only=False) == "busy"
        else:
            # The first worker lost its lock without noticing, and goes on when the second one is done.
            end_sessions(stand.desk.url, locks_only=True)
            impatiently(stand, "second", send_only=rng.random() < 0.7)

    power.at = at
    return power


def is_begun(stand: Stand) -> bool:
    """Whether anything of the batch was decided: before, its window must not pass."""
    return bool(rows(stand.desk.url, "select from execution.order_intents where account = %s", stand.desk.account))


def asking(stand: Stand, power: Power, rng: random.Random, points: int) -> None:
    """Let a person ask at some points that an order be replaced, and now and then that one be cancelled."""
    event, moments = power.at, {rng.randint(0, points) for _ in range(rng.choice((0, 3, 6)))}

    def at(reached: int, name: str) -> None:
        if reached in moments and not name.endswith("before commit"):
            ask_replacement(stand, rng)
        event(reached, name)

    power.at = at


def ask_replacement(stand: Stand, rng: random.Random) -> None:
    """As a person does, on a connection and with a broker of their own."""
    with opened(stand.desk.url) as store:
        open_orders = store.orders(stand.desk.account, REPLACEABLE)
        if not open_orders:
            return
        order_id = rng.choice(open_orders).client_order_id
        quantity, now = D(rng.randint(1, 60)), stand.desk.clock.now()
        # What goes wrong on the person's line is no answer to the worker.
        with suppress(OrderActionError, BrokerError):
            if rng.random() < 0.1:
                if store.ask_cancel(order_id, "ann", "by hand", now):
                    stand.line.inner.cancel(order_id)
            else:
                store.ask_replacement(order_id, quantity, None, "ann", "drawn", now, D(1))


def run_seed(stand: Stand, rng: random.Random, points: int, counts: Counts, cut: int | None = None) -> None:
    """Live through one seed and check what must hold.

    Args:
        points: how many points a worker passes on a sound line. cut: end the first worker there, and nothing else.
    """
    counts.seeds += 1
    if cut is None:
        strain(stand, rng)
        plan = [(rng.choice(EVENTS), rng.randint(0, points)) for _ in range(rng.randint(1, 3))]
    else:
        plan = [("cut", cut)]
    for number, (event, point) in enumerate(plan):
        power = eventful(stand, event, point, rng, counts)
        if cut is None:
            asking(stand, power, rng, points)
        attempt(stand, f"run-{number}", power)
        if power.is_cut:
            counts.events["cut"] += 1
            counts.cut_at[power.reached[-1]] += 1
        resume(stand)
    stand.line.mend()
    stand.script.clear()
    in_time = stand.desk.clock.now() < send_by(stand.batch.expires_at, OrderType.MARKET_ON_CLOSE)
    with stand.desk.engine() as engine:
        done = engine.execute_batch(stand.batch.batch_id, "last")
    check(stand, done.breaks, in_time=in_time, counts=counts)
    counts.faults += stand.line.happened


def resume(stand: Stand) -> None:
    """A person settles what halted trading: a statement that was stale."""
    with opened(stand.desk.url) as store:
        if store.trading_status(stand.desk.account).state is TradingState.HALTED:
            store.set_trading_state(stand.desk.account, TradingState.ACTIVE, "test", "seen", stand.desk.clock.now())


def check(stand: Stand, breaks: Any, *, in_time: bool, counts: Counts) -> None:
    """All invariants but the audit chain's."""
    venue, batch, url = stand.line.inner, stand.batch, stand.desk.url
    found = rows(
        url,
        "select o.client_order_id, i.instrument, o.state, o.filled_quantity, i.status, o.broker_order_id "
        "from execution.orders o "
        "join execution.order_intents i using (intent_id) where o.account = %s",
        stand.desk.account,
    )
    ours = {order_id: tuple(rest) for order_id, *rest in found}
    decided = {
        name
        for (name,) in rows(
            url, "select instrument from execution.order_intents where account = %s", stand.desk.account
        )
    }
    standing = stand.at_venue()
    assert len(set(standing)) == len(standing), f"an order stands twice: {standing}"
    assert {order_id for order_id, _ in standing} <= set(ours), "an order that nobody approved stands"
    assert decided == {order.instrument for order in batch.orders} or not in_time, "an intent was lost"
    if venue.guarantee is not Guarantee.IDEMPOTENT_KEY:
        assert all(count == 1 for count in stand.line.arrived.values()), "sent twice to a venue that books it twice"
    check_orders(stand, ours, standing, in_time=in_time)
    check_parents(stand)
    counts.replacements += check_replacements(stand)
    hand = check_books(stand)
    assert [item.kind for item in breaks] == [BreakKind.MANUAL_TRADE] * hand, breaks
    check_audit(url, list(ours))
    arrived = stand.line.arrived.total()
    with stand.desk.engine() as engine:
        assert engine.execute_batch(batch.batch_id, "again").placement.sent == ()
    assert stand.line.arrived.total() == arrived, "another run sent something"
    counts.orders += len(standing)
    counts.fills += len(venue.fills(None))


def check_orders(
    stand: Stand, ours: dict[str, tuple[Any, ...]], standing: list[tuple[str, str]], *, in_time: bool
) -> None:
    """Each order of ours is what the venue has of it."""
    venue = stand.line.inner
    at_venue = {order_id for order_id, _ in standing}
    for order_id, (instrument, state, filled, status, broker_order_id) in ours.items():
        # A venue that keeps no id of ours can only be asked for an order whose id it told us, if only with a fill.
        may_ask = venue.guarantee is not Guarantee.NOTHING or broker_order_id is not None or filled
        found: BrokerOrder | None = venue.order(order_id, broker_order_id) if may_ask else None
        if venue.guarantee is Guarantee.NOTHING and state == "unknown":
            continue
        if found is None:
            # A venue keeps nothing of an order that it refused at once.
            refused = state == "rejected" and stand.line.happened["refused at once"] > 0
            assert refused or state in ("expired", "cancelled"), (instrument, state)
            assert not filled, (instrument, state, filled)
            may_be_absent = refused or status in ("denied", "void") or not in_time
            assert venue.guarantee is not Guarantee.IDEMPOTENT_KEY or may_be_absent, f"{instrument} was never sent"
            assert order_id not in at_venue
        else:
            # An exit that the other one reduced to what it had filled is full there, and for us it was cancelled.
            reduced = entry_order_id(order_id) is not None and (state, filled) == ("cancelled", found.quantity)
            ended = OrderState.CANCELLED if reduced and found.state is OrderState.FILLED else found.state
            assert (ended.value, found.filled_quantity) == (state, filled), (instrument, state, filled, found)


def check_parents(stand: Stand) -> None:
    """Of no scheduled order did the children fill, or may they still fill, more than it."""
    ordered = {order.intent_id: order.quantity for order in stand.batch.orders}
    query = "select intent_id, filled + working from execution.schedule_progress where batch_id = %s"
    for parent, quantity in rows(stand.desk.url, query, stand.batch.batch_id):
        assert quantity <= ordered[parent], (parent, quantity)


def check_replacements(stand: Stand) -> Counter[str]:
    """An order and its replacement filled no more than the larger of their quantities, and each request came to
    something; returns what, but for venues where that is not known."""
    found = rows(
        stand.desk.url,
        "select r.outcome, r.quantity, coalesce(o.quantity, oi.quantity), o.filled_quantity, "
        "coalesce(n.filled_quantity, 0), n.state, n.quantity from execution.replacements r "
        "join execution.orders o on o.client_order_id = r.replaces "
        "join execution.order_intents oi on oi.intent_id = o.intent_id "
        "left join execution.orders n on n.client_order_id = r.client_order_id where r.account = %s",
        stand.desk.account,
    )
    for outcome, together, before, filled, of_new, state, taken in found:
        assert outcome is not None or state == "unknown", "a request was forgotten"
        assert filled + of_new <= max(together, before), (together, before, filled, of_new)
        assert outcome != "replaced" or taken is not None
    return Counter(str(row[0]) for row in found)


def check_books(stand: Stand) -> int:
    """Cash, positions and fills are the venue's; returns how many fills of theirs no order of ours explains."""
    theirs = stand.line.inner.statement(None)
    hand = [fill for fill in theirs.fills if not fill.client_order_id]
    with opened(stand.desk.url) as store:
        book = AccountBooks(store).book(stand.desk.account)
    assert set(book.fills) == set(theirs.fills) - set(hand), "our fills are not the venue's"
    if not hand:
        assert (book.cash, dict(book.positions)) == (theirs.cash, dict(theirs.positions)), "our book is not the venue's"
    return len(hand)


def check_audit(url: str, order_ids: list[str]) -> None:
    """Every event of an order is in the audit log, once, and nothing waits to be told."""
    events = rows(
        url,
        "select client_order_id, count(*) from execution.order_events where client_order_id = any(%s) group by 1",
        order_ids,
    )
    told = rows(
        url, "select subject, count(*) from audit.log where kind like 'order.%%' and subject = any(%s) group by 1",
        order_ids,
    )  # fmt: skip
    assert dict(events) == dict(told), "the audit log misses an event or has it twice"
    assert rows(url, "select 1 from execution.outbox") == []


def count_points(stand: Stand) -> list[str]:
    """Names of the points that a worker passes on a sound line, in order."""
    power = Power()
    assert attempt(stand, "sound", power)
    return power.reached


def prove(url: str, anchor: Path | None, build: Build, name: str, seeds: range) -> Counts:
    """Live through the seeds: first those that end a worker at each point of a sound run in turn, then drawn ones.

    Seeds from 10,000 on are all drawn. The audit chain is whole at the end.

    Raises:
        ExceptionGroup: of the seeds in which something did not hold; the others were lived through.
    """
    counts, broken = Counts(), []
    with patch.object(paper_ledger, "connect", kept), patch.object(order_store, "connect", handed_on):
        sound = build(url, f"{name}-sound-{seeds.start}", anchor, random.Random(seeds.start))
        points = len(count_points(sound))
        sound.close()
        for seed in seeds:
            try:
                live_through(build, url, name, anchor, seed, points, counts)
            except Exception as error:  # noqa: BLE001  # raised below, with the others
                broken.append(error)
    if broken:
        raise ExceptionGroup(f"{name}: {len(broken)} of {len(seeds)} seeds", broken)
    assert verify(url, anchor).ok
    return counts


def live_through(
    build: Build, url: str, name: str, anchor: Path | None, seed: int, points: int, counts: Counts
) -> None:
    """One seed at a stand of its own."""
    rng = random.Random(seed)
    stand = build(url, f"{name}-{seed}", anchor, rng)
    try:
        run_seed(stand, rng, points, counts, cut=seed if seed < points else None)
    except Exception as error:
        error.add_note(f"{name}, seed {seed}")
        raise
    finally:
        stand.close()


def noon() -> ManualClock:
    return ManualClock(OPEN + timedelta(hours=1))
