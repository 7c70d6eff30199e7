"""The vocabulary of the order path: what is planned, judged, approved, sent, filled and held.

Belongs here: value types that the portfolio, risk, compliance, execution and backtest groups all speak. Does not:
state transitions (octopus/execution/states.py), rules (octopus/risk, octopus/compliance), ids (core/ids.py).

Money is `Decimal` in the account's currency; quantities are `Decimal` shares (fractional where the broker allows it);
instants are timezone-aware UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

from pydantic import ConfigDict


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class TradingState(StrEnum):
    """The kill switch of one account (table execution.trading_state).

    ``reducing`` lets only those orders through that make a position smaller; ``halted`` lets none through.
    """

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class OrderType(StrEnum):
    MARKET_ON_OPEN = "market_on_open"
    MARKET_ON_CLOSE = "market_on_close"
    MARKET = "market"
    LIMIT = "limit"
    """At its price or a better one, or not at all."""
    STOP = "stop"
    """A market order from when the market has reached its price: at or above it for a buy, at or below for a sale."""

    @property
    def has_price(self) -> bool:
        """Whether an order of this type carries a price of its own."""
        return self in (OrderType.LIMIT, OrderType.STOP)


@dataclass(frozen=True)
class Bracket:
    """The exits that protect an entry for its session: whichever executes ends the other.

    Attributes:
        stop: trigger of the stop-loss. target: limit of the take-profit. At least one, in the instrument's currency.
    """

    stop: Decimal | None
    target: Decimal | None

    @classmethod
    def of(cls, stop: Decimal | None, target: Decimal | None) -> Bracket | None:
        """The bracket of both prices; None where there is neither."""
        return None if stop is None and target is None else cls(stop, target)

    @property
    def exits(self) -> dict[Exit, Decimal]:
        """Price by exit, of those that there are."""
        prices = {Exit.STOP: self.stop, Exit.TARGET: self.target}
        return {exit_: price for exit_, price in prices.items() if price is not None}


class Exit(StrEnum):
    """Which exit of a bracketed entry; each is an order of its own, of the other side."""

    STOP = "stop"
    TARGET = "target"

    @property
    def order_type(self) -> OrderType:
        return OrderType.STOP if self is Exit.STOP else OrderType.LIMIT


@dataclass(frozen=True)
class PlannedOrder:
    """One order of a rebalance plan, before any gate has seen it.

    Attributes:
        intent_id: deterministic (`octopus.core.ids.intent_id`).
        quantity: shares, always positive; the direction is ``side``.
        reference_price: the price the plan was made with (the decision session's close), account currency.
        price: the limit of a limit order, the trigger of a stop order; None for the others. In the instrument's own
            currency, which is the account's: no other instrument is planned with a price.
        bracket: the exits that go to the venue with it; None: it has none.
    """

    intent_id: str
    instrument: str
    side: Side
    quantity: Decimal
    reference_price: Decimal
    order_type: OrderType = OrderType.MARKET_ON_CLOSE
    price: Decimal | None = None
    bracket: Bracket | None = None

    # A gate's evidence also holds, and gives back, an order that the gate denied because a number of it is none.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=True)

    @property
    def notional(self) -> Decimal:
        """Quantity × `dearer_price`, positive, account currency."""
        return self.quantity * self.dearer_price

    @property
    def dearer_price(self) -> Decimal:
        """The reference price, or the order's own where that is higher, as the limit of a sale is."""
        return self.reference_price if self.price is None else max(self.reference_price, self.price)

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity * self.side.sign


@dataclass(frozen=True)
class Batch:
    """A rebalance plan: all orders decided for one account in one session.

    Attributes:
        session: the decision session T.
        not_before, expires_at: the execution window in T+1; executed only while ``not_before <= now < expires_at``.
    """

    batch_id: str
    account: str
    session: date
    not_before: datetime
    expires_at: datetime
    orders: tuple[PlannedOrder, ...]


@dataclass(frozen=True)
class OpenOrder:
    """An order at the broker that may still fill: it counts as filled for every limit."""

    client_order_id: str
    instrument: str
    side: Side
    remaining: Decimal

    # As in a `PlannedOrder`: evidence gives back what the gate denied because it is no number.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=True)


@dataclass(frozen=True)
class AccountSnapshot:
    """What the broker says the account holds, at one instant.

    Attributes:
        positions: shares by instrument, negative for a short; zero positions are absent.
        prices: the latest price the broker marks each held or quoted instrument at.
        cash: settled plus unsettled cash.
    """

    account: str
    taken_at: datetime
    cash: Decimal
    positions: Mapping[str, Decimal]
    prices: Mapping[str, Decimal]
    open_orders: tuple[OpenOrder, ...] = ()

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=True)

    def working(self, instrument: str, side: Side) -> Decimal:
        """Shares that open orders may still buy (or sell) of ``instrument``, positive."""
        return self._working.get((instrument, side), Decimal(0))

    @cached_property
    def _working(self) -> Mapping[tuple[str, Side], Decimal]:
        # Asked for each order of a batch, while hundreds of others may be working.
        total: dict[tuple[str, Side], Decimal] = {}
        for order in self.open_orders:
            key = (order.instrument, order.side)
            total[key] = total.get(key, Decimal(0)) + order.remaining
        return total

    @property
    def unsound(self) -> tuple[str, ...]:
        """Instruments of which the quantity held or working is not a number; sorted."""
        counts = [*self.positions.items(), *((order.instrument, order.remaining) for order in self.open_orders)]
        return tuple(sorted({name for name, quantity in counts if not quantity.is_finite()}))

    @property
    def equity(self) -> Decimal:
        """Cash plus the marked value of all positions."""
        return self.cash + sum((self.prices[name] * shares for name, shares in self.positions.items()), Decimal(0))


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105  # a verdict, not a password
    WARN = "warn"
    DENY = "deny"
    OFF = "off"
    """The rule does not apply to this data (said, never silent), e.g. raw-price rules on a total-return basis."""


class Verdict(NamedTuple):
    """What one rule said of one order, or of the whole batch (``intent_id`` is None).

    A tuple, because a batch of hundreds of orders has thousands: one is made in a third of a frozen dataclass's time.

    Attributes:
        gate: ``risk`` or ``compliance``.
        value, limit: the measured figure and its limit, in the unit of the rule's name; None where the rule has none.
        reason: one sentence a person can act on; for a denial it names the marginal cause.
        marginal: what the order adds to ``value``, where the rule measures the batch.
        contributors: the instruments that make most of ``value``, each with its part, largest first.
    """

    gate: str
    rule: str
    intent_id: str | None
    outcome: Outcome
    reason: str
    value: float | None = None
    limit: float | None = None
    marginal: float | None = None
    contributors: tuple[tuple[str, float], ...] = ()


class Evidence(Protocol):
    """All that a gate judged by."""

    def record(self) -> Mapping[str, object]:
        """As plain JSON values, from which, with `contents`, the gate's own group can judge again."""
        ...

    def contents(self) -> Mapping[str, bytes]:
        """What is too large for the record and the same in many, by its fingerprint, which the record has."""
        ...


@dataclass(frozen=True)
class GateReport:
    """All verdicts of one gate over one batch.

    Attributes:
        approved: ids of the intents that no rule denied, in plan order.
        verdicts: one for each rule and order, and one for each rule on the batch.
        evidence: what it was judged by; None where the gate keeps nothing.
    """

    gate: str
    approved: tuple[str, ...]
    verdicts: tuple[Verdict, ...] = field(default=())
    evidence: Evidence | None = field(default=None, compare=False, repr=False)

    @property
    def denials(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.outcome is Outcome.DENY)


@dataclass(frozen=True)
class Fill:
    """One execution as the broker reports it.

    Attributes:
        fill_id: the broker's own id, unique within the account.
        price: per share, before fees. fees: commission and charges, positive. Both in the account's currency.
        rate: account currency for one unit of the instrument's, as the broker converted it: what was printed is
            ``price / rate``.
    """

    fill_id: str
    client_order_id: str
    instrument: str
    side: Side
    quantity: Decimal
    price: Decimal
    fees: Decimal
    at: datetime
    rate: Decimal = Decimal(1)

    @property
    def cash_flow(self) -> Decimal:
        """Change of cash: negative for a buy."""
        return -self.side.sign * self.quantity * self.price - self.fees


@dataclass(frozen=True)
class FillRevision:
    """What a broker changed of a fill after the fact: it broke the trade, or corrected it.

    Attributes:
        number: from 1; of two revisions of a fill the higher one counts, in whatever order they are heard of.
        quantity: zero where the trade was broken; then there are no ``fees`` either.
        price: what the trade was done at, in truth.
        at: when the broker changed it.
    """

    fill_id: str
    number: int
    client_order_id: str
    quantity: Decimal
    price: Decimal
    fees: Decimal
    at: datetime
    reason: str

    @property
    def is_bust(self) -> bool:
        return not self.quantity


def reducing_orders(orders: Iterable[PlannedOrder], snapshot: AccountSnapshot) -> frozenset[str]:
    """Ids of the orders that can only make an existing position smaller, whatever else fills.

    A sell counts against the shares held that neither an open sell nor an earlier sell of ``orders`` may take away;
    shares that a working buy may add do not count. A cover of a short likewise. Of a position that is not a number
    nothing is known to reduce it.
    """
    used: dict[tuple[str, Side], Decimal] = {}
    reducing, nothing = set(), Decimal(0)
    signs = {side: side.sign for side in Side}
    for order in orders:
        key = (order.instrument, order.side)
        taken = used.get(key, snapshot.working(*key)) + order.quantity
        used[key] = taken
        held = -signs[order.side] * snapshot.positions.get(order.instrument, nothing)
        if held.is_finite() and taken.is_finite() and taken <= held:
            reducing.add(order.intent_id)
    return frozenset(reducing)
