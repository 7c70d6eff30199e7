"""What the order path's tests share: a small market, clocks, stored plans, an engine, brokers with faults."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from select import select

import psycopg
from power import Power, powered

from octopus.core.costs import CostModel
from octopus.core.ids import client_order_id, intent_id
from octopus.core.orders import (
    AccountSnapshot,
    Batch,
    Bracket,
    Fill,
    GateReport,
    OpenOrder,
    OrderType,
    PlannedOrder,
    Side,
    TradingState,
)
from octopus.core.sessions import Sessions
from octopus.execution.book import Book, CorporateAction, EntryKind
from octopus.execution.states import OrderState
from octopus.execution.window import execution_window
from octopus.portfolio.units import NO_UNITS, TradingUnits
from resources.brokers.answers import not_there
from resources.brokers.base import (
    Broker,
    BrokerAccount,
    BrokerOrder,
    BrokerUnavailableError,
    Guarantee,
    OrderRejectedError,
    OrderRequest,
    UncertainOutcomeError,
)
from resources.brokers.paper import PaperBroker
from resources.execution_engine import EngineSettings, ExecutionEngine, Judge
from resources.halt_file import HaltFile
from resources.price_feed import HOME, Bar, Conversion
from resources.warehouse.audit_log import AuditLog
from resources.warehouse.connection import Role, connect
from resources.warehouse.order_store import OrderStore

ROOT = Path(__file__).parents[2]
SESSIONS = Sessions("XNYS")
DECIDED = date(2022, 12, 27)
EXECUTED = date(2022, 12, 28)
OPEN, CLOSE = SESSIONS.open_utc(EXECUTED), SESSIONS.close_utc(EXECUTED)
D = Decimal
HUNDRED = D(100)
NAMES = ("AAA", "BBB", "CCC", "DDD")


@dataclass
class ManualClock:
    """A clock that only the test and waiting move."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def wait_until(self, instant: datetime) -> None:
        self.at = max(self.at, instant)


@dataclass(frozen=True)
class FileClock:
    """A clock that several processes share; it only moves forward."""

    path: Path

    def now(self) -> datetime:
        return datetime.fromisoformat(self.path.read_text())

    def wait_until(self, instant: datetime) -> None:
        if instant > self.now():
            draft = self.path.with_suffix(f".{os.getpid()}")
            draft.write_text(instant.isoformat())
            draft.replace(self.path)


@dataclass
class TableFeed:
    """Prices by instrument and session."""

    bars: dict[tuple[str, date], Bar]
    corporate_actions: list[CorporateAction] = field(default_factory=list)
    outsiders: set[tuple[str, date]] = field(default_factory=set)
    held: dict[tuple[str, date], str] = field(default_factory=dict)

    def kept_out(self, instrument: str, session: date) -> str:
        return self.held.get((instrument, session), "")

    def conversion(self, instrument: str, session: date) -> Conversion | None:
        days = [day for name, day in self.bars if name == instrument and day <= session]
        return self.bars[instrument, max(days)].conversion if days else HOME

    def bar(self, instrument: str, session: date) -> Bar | None:
        return self.bars.get((instrument, session))

    def last_session(self) -> date | None:
        return max((day for _, day in self.bars), default=None)

    def last_close(self, instrument: str, session: date, named: date | None = None) -> Decimal | None:
        known = [a for a in self.corporate_actions if a.kind is EntryKind.SYMBOL_CHANGE and a.detail == instrument]
        changes = [a for a in known if a.at.date() <= (named or session)]
        change = max(changes, key=lambda a: a.at) if changes else None
        first = change.at.date() if change else date.min
        days = [day for name, day in self.bars if name == instrument and first <= day <= session]
        if days or change is None:
            if not days:
                return None
            bar = self.bars[instrument, max(days)]
            return bar.close * bar.conversion.rate
        return self.last_close(change.instrument, min(session, first - timedelta(days=1)), first - timedelta(days=1))

    def refusal(self, instrument: str, session: date) -> str:
        for action in self.corporate_actions:
            if (action.kind, action.instrument) == (EntryKind.DELISTING, instrument) and action.at.date() < session:
                return f"{instrument} was delisted on {action.at.date()}"
        outside = (instrument, session) in self.outsiders
        return f"{instrument} is no member of the universe on {session}" if outside else ""

    def actions(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        due = [a for a in self.corporate_actions if after < a.at <= until]
        names = {*instruments, *(a.detail for a in due if a.instrument in instruments and a.kind in _CHANGES)}
        return [a for a in due if a.instrument in names]

    def exchanges(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        return [a for a in self.corporate_actions if after < a.at <= until and a.kind in _EXCHANGES]


_CHANGES = (EntryKind.SYMBOL_CHANGE,)
_EXCHANGES = (EntryKind.SYMBOL_CHANGE, EntryKind.SPLIT)


def flat_feed(names: Sequence[str], price: Decimal = HUNDRED, days: Sequence[date] = (DECIDED, EXECUTED)) -> TableFeed:
    return TableFeed({(name, day): Bar(price, price) for name in names for day in days})


def auction_feed() -> TableFeed:
    """Prices of both days; DDD has no bar on the day of execution, so that its orders expire."""
    bars = {(name, DECIDED): Bar(D(100), D(100)) for name in NAMES}
    bars |= {(name, EXECUTED): Bar(D(100), D(100 + number)) for number, name in enumerate(NAMES) if name != "DDD"}
    return TableFeed(bars)


def approve_all(
    batch: Batch, _snapshot: AccountSnapshot, _now: datetime, _state: TradingState = TradingState.ACTIVE
) -> tuple[GateReport, ...]:
    ids = tuple(order.intent_id for order in batch.orders)
    return (GateReport("risk", ids), GateReport("compliance", ids))


FREE = CostModel(commission_bps=0, half_spread_bps=0, slippage_bps=0)


def store_plan(
    url: str,
    account: str,
    trades: Sequence[tuple[str, Side, Decimal]],
    *,
    name: str = "batch",
    session: date = DECIDED,
    order_type: OrderType = OrderType.MARKET_ON_CLOSE,
    judged: bool = True,
    created_at: datetime = datetime(2022, 12, 27, 22, tzinfo=UTC),
    price: Decimal = HUNDRED,
    own_price: Decimal | None = None,
    limits: Mapping[str, Decimal] | None = None,
    bracket: Bracket | None = None,
) -> Batch:
    """Store a plan as the research job leaves it; with ``limits`` its orders have those, from the open."""
    window = execution_window(SESSIONS, session, order_type, from_open=bracket is not None or limits is not None)
    own = limits or {}
    batch_id = f"{account}-{name}"
    orders = tuple(
        PlannedOrder(
            intent_id(batch_id, instrument),
            instrument,
            side,
            quantity,
            price,
            order_type,
            own.get(instrument, own_price),
            bracket,
        )
        for instrument, side, quantity in trades
    )
    with kept(url, Role.RESEARCH) as connection:
        connection.execute(
            "insert into portfolio.batches values (%s, %s, %s, 'decision', 'snapshot', %s, %s, null, %s)",
            [batch_id, account, session, window.not_before, window.expires_at, created_at],
        )
        for order in orders:
            connection.execute(
                "insert into portfolio.rebalance_plan values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    batch_id,
                    order.intent_id,
                    order.instrument,
                    order.side.value,
                    order.quantity,
                    order.reference_price,
                    order.order_type.value,
                    order.price,
                    order.bracket and order.bracket.stop,
                    order.bracket and order.bracket.target,
                ],
            )
        if judged:
            connection.execute(
                "insert into compliance.approvals values (%s, %s, 0, 'r', 'c', %s)", [batch_id, len(orders), created_at]
            )
    return Batch(batch_id, account, session, window.not_before, window.expires_at, orders)


def paper(url: str, account: str, clock: object, feed: TableFeed, **options: object) -> PaperBroker:
    """A paper broker without costs, unless told otherwise."""
    terms: dict[str, object] = {"costs": FREE, "deposit": D(100_000), **options}
    return PaperBroker(url, account, clock, SESSIONS, feed, **terms)  # type: ignore[arg-type]


@dataclass
class Desk:
    """An engine with its parts at hand."""

    url: str
    account: str
    clock: ManualClock
    feed: TableFeed
    broker: Broker
    anchor: Path | None = None
    judge: Judge = approve_all
    settings: EngineSettings = field(default_factory=EngineSettings)
    halts: HaltFile | None = None
    units: TradingUnits = NO_UNITS

    @contextmanager
    def engine(self, power: Power | None = None, **changes: object) -> Iterator[ExecutionEngine]:
        """A new engine over new connections, as a new process would have; its effects pass through ``power``."""
        with ExitStack() as stack:
            store = stack.enter_context(OrderStore.opened(self.url, halts=self.halts))
            engine = ExecutionEngine(
                store, self.broker, self.clock, self.judge, AuditLog(self.url, self.anchor), self.feed, SESSIONS,
                self.settings, units=lambda _as_of: self.units,
            )  # fmt: skip
            engine = replace(engine, **changes)  # type: ignore[arg-type]
            yield engine if power is None else powered(engine, power)

    def open(self) -> None:
        with opened(self.url) as store:
            store.open_account(self.account, "test", "opened for a test", self.clock.now())

    def execute(self, batch: Batch, run_id: str = "run", power: Power | None = None, **changes: object):  # type: ignore[no-untyped-def]
        with self.engine(power, **changes) as engine:
            return engine.execute_batch(batch.batch_id, run_id)

    def states(self, batch: Batch) -> dict[str, str]:
        """State of each order by instrument."""
        with opened(self.url) as store:
            orders = store.orders(self.account, batch_id=batch.batch_id)
            return {order.order.instrument: order.status.state.value for order in orders}


_IDLE: defaultdict[tuple[str, Role, bool], list[psycopg.Connection]] = defaultdict(list)


@contextmanager
def kept(url: str, role: Role = Role.OWNER, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """As `connect`, over a session that is kept for the next one who asks, unless it was ended meanwhile.

    For the test's own questions and for a venue's ledger: new sessions were half of the time of a crash's seed.
    """
    idle = _IDLE[url, role, autocommit]
    connection = None
    while idle and connection is None:
        connection = idle.pop()
        # A session that waits is told nothing but its end.
        if select([connection], [], [], 0)[0]:
            connection.close()
            connection = None
    connection = connection or connect(url, role, autocommit=autocommit)
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    if not autocommit:
        connection.commit()
    if not connection.closed:
        idle.append(connection)


@contextmanager
def handed_on(url: str, role: Role = Role.OWNER, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """As `kept`, for a worker: what a session holds is released as its end would; one that fails ends with it."""
    with kept(url, role, autocommit=autocommit) as connection:
        yield connection
        # One that was ended meanwhile, unnoticed, holds nothing any more.
        with suppress(psycopg.OperationalError):
            connection.execute("select pg_advisory_unlock_all()")


@contextmanager
def opened(url: str) -> Iterator[OrderStore]:
    """The store as a person's command opens it, over a session that is kept."""
    with kept(url, Role.TRADER, autocommit=True) as connection:
        yield OrderStore(url, connection)


def rows(url: str, query: str, *parameters: object) -> list[tuple]:  # type: ignore[type-arg]
    with kept(url, autocommit=True) as connection:
        return connection.execute(query, parameters).fetchall()


@dataclass
class VenueBroker:
    """A venue in memory with any guarantee and scripted faults: each submit takes the next fault of ``script``.

    Faults: ``ok``; ``lost`` (the order stands, the answer does not come); ``dropped`` (it never arrived, and we cannot
    know); ``down`` (definitely not sent); ``late`` (it stands, is found only after a while);
    ``refused`` (this send is, whatever became of an earlier one).

    Attributes:
        refuses_late: instruments whose orders are accepted, and rejected in the auction.
        on_cancel: called with an order's id as its cancel arrives. slow_cancels: how many cancels wait for the auction.
    """

    account_name: str
    clock: ManualClock
    guarantee: Guarantee
    script: list[str] = field(default_factory=list)
    prices: dict[str, Decimal] = field(default_factory=dict)
    orders: dict[str, list[BrokerOrder]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    sends: list[str] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)
    snapshot_age: object = None
    acknowledged: set[str] = field(default_factory=set)
    executed: list[Fill] = field(default_factory=list)
    fills_at: datetime | None = None
    cash: Decimal = 10_000 * HUNDRED
    deaf: int = 0
    refuses_late: set[str] = field(default_factory=set)
    fills_late: int = 0
    on_cancel: Callable[[str], None] = lambda _order: None
    slow_cancels: int = 0
    name: str = "venue"
    keeps: timedelta | None = None

    def account(self) -> BrokerAccount:
        return BrokerAccount(self.account_name, "V1", "USD", is_paper=True)

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        taken = self.clock.now() - self.snapshot_age if self.snapshot_age else self.clock.now()  # type: ignore[operator]
        working = tuple(
            OpenOrder(o.client_order_id, o.instrument, o.side, o.quantity - o.filled_quantity)
            for o in self.standing()
            if o.client_order_id not in self.hidden
        )
        return AccountSnapshot(self.account_name, taken, self.cash, {}, dict.fromkeys(quoted, D(100)), working)

    def submit(self, request: OrderRequest) -> BrokerOrder:
        request.require_in_time(self.name, self.clock.now())
        client_order_id = request.client_order_id
        fault = self.script.pop(0) if self.script else "ok"
        self.sends.append(client_order_id)
        if fault == "down":
            raise BrokerUnavailableError("venue: connection refused")
        self.arrived.append(client_order_id)
        if fault == "refused":
            raise OrderRejectedError("venue: insufficient buying power")
        if fault != "dropped":
            standing = self.orders.setdefault(client_order_id, [])
            if not standing or self.guarantee is not Guarantee.IDEMPOTENT_KEY:
                number = f"V{sum(map(len, self.orders.values()))}"
                standing.append(
                    BrokerOrder(
                        client_order_id, number, request.instrument, request.side, request.quantity,
                        OrderState.ACCEPTED, D(0),
                    )
                )  # fmt: skip
        if fault == "late":
            self.hidden.add(client_order_id)
        if fault != "ok":
            raise UncertainOutcomeError("venue: timed out")
        self.acknowledged.add(client_order_id)
        return self.orders[client_order_id][0]

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        self._auction()
        known = client_order_id in self.orders and client_order_id not in self.hidden
        return self.orders[client_order_id][0] if known else None

    def cancel(self, client_order_id: str) -> None:
        if client_order_id not in self.orders:
            raise not_there(self.name, client_order_id)
        self.on_cancel(client_order_id)
        if self.slow_cancels:
            self.slow_cancels -= 1
            return
        for order in self.standing():
            if order.client_order_id == client_order_id:
                self._end(order, OrderState.CANCELLED, order.filled_quantity)

    def standing(self) -> list[BrokerOrder]:
        """Every order that may still fill."""
        every = [order for standing in self.orders.values() for order in standing]
        return [order for order in every if order.state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)]

    def fill(self, client_order_id: str, quantity: Decimal) -> None:
        """Execute a part of an order, or what is left of it."""
        order = next(one for one in self.standing() if one.client_order_id == client_order_id)
        self._execute(order, quantity)

    def _execute(self, order: BrokerOrder, quantity: Decimal) -> None:
        number = sum(fill.fill_id.startswith(f"{order.broker_order_id}-") for fill in self.executed)
        kept = self.guarantee is not Guarantee.NOTHING or order.client_order_id in self.acknowledged
        self.executed.append(
            Fill(
                fill_id=f"{order.broker_order_id}-{number}",
                client_order_id=order.client_order_id if kept else "",
                instrument=order.instrument,
                side=order.side,
                quantity=quantity,
                price=HUNDRED,
                fees=D(0),
                at=self.clock.now(),
            )
        )
        filled = order.filled_quantity + quantity
        state = OrderState.FILLED if filled == order.quantity else OrderState.PARTIALLY_FILLED
        self._end(order, state, filled)

    def fill_all(self) -> None:
        """Execute what stands, as an auction would, and cancel orders for a multiple of five shares."""
        for order in self.standing():
            if order.instrument in self.refuses_late:
                self._end(order, OrderState.REJECTED, order.filled_quantity)
            elif order.quantity % 5 == 0:
                self._end(order, OrderState.CANCELLED, order.filled_quantity)
            else:
                self._execute(order, order.quantity - order.filled_quantity)

    def _end(self, order: BrokerOrder, state: OrderState, filled: Decimal) -> None:
        standing = self.orders[order.client_order_id]
        standing[standing.index(order)] = replace(order, state=state, filled_quantity=filled)

    def _auction(self) -> None:
        """Before every answer; ``deaf`` questions are not answered."""
        if self.deaf:
            self.deaf -= 1
            raise UncertainOutcomeError("venue: timed out")
        if self.fills_at is not None and self.clock.now() >= self.fills_at:
            self.hidden.clear()
            self.fill_all()

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        self._auction()
        if self.fills_late:
            self.fills_late -= 1
            return ()
        return tuple(self.executed)

    def statement(self, since: datetime | None = None) -> Book:
        self._auction()
        positions: dict[str, Decimal] = {}
        for fill in self.executed:
            positions[fill.instrument] = positions.get(fill.instrument, D(0)) + fill.side.sign * fill.quantity
        cash = sum((fill.cash_flow for fill in self.executed), D(0))
        return Book(self.account_name, cash, {k: v for k, v in positions.items() if v}, tuple(self.executed))


def order_ids(batch: Batch) -> list[str]:
    return [client_order_id(order.intent_id) for order in batch.orders]
