"""Replacing an open order by another: which order may be replaced, what the gates judge, and what became of it.

Belongs here: those rules, as pure functions. Does not: asking the venue (resources/execution_engine.py), keeping
requests (resources/warehouse/order_store.py).

A replacement is an intent of its own with a client order id of its own: nothing is ever sent twice under one id. Its
request names the quantity that the order and its replacement may fill *together*, so what the order still fills on its
way out is taken off the replacement, and the two never fill more than the larger of the two quantities.

A venue may replace at once, counting the old order's fills (`resources.brokers.base.ReplacingBroker`). At any other one
the old order is asked to make way: it is cancelled, its definite end is awaited, and the rest is sent as a new order.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from octopus.core.amounts import plain
from octopus.core.brackets import tick_size
from octopus.core.orders import AccountSnapshot, PlannedOrder
from octopus.execution.states import TERMINAL, UNRESOLVED, OrderState, OrderStatus

REPLACEABLE = frozenset({OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED})
"""The venue is known to have the order, and nobody has asked to cancel it."""


class Outcome(StrEnum):
    """What became of a request to replace an order."""

    REPLACED = "replaced"
    """The replacement stands, or stood, in the order's place."""
    TOO_LATE = "too_late"
    """The order had ended, or filled all that was asked for, before."""
    DENIED = "denied"
    """A gate denied the replacement."""
    REFUSED = "refused"
    """The venue refused the replacement, or nothing may be sent now."""
    VOID = "void"
    """The replacement was approved and can no longer be sent."""
    WITHDRAWN = "withdrawn"
    """The order was cancelled for good meanwhile."""


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        intent_id: of the replacement.
        quantity: shares that the order and its replacement may fill together.
        price: the new limit or trigger; None: it stays.
    """

    intent_id: str
    quantity: Decimal
    price: Decimal | None


@dataclass(frozen=True)
class Swap:
    """A request that is not settled, with both of its orders as they stand.

    Attributes:
        replaces: client order id of the old order. old_order: what was ordered with it.
        intent: of the replacement, once the gates have decided it. status: of that intent.
        new: the replacement's state, once it was approved. arrived: the venue has told of it.
        making_way: the old order has been asked to end for it.
    """

    request: Request
    replaces: str
    old_order: PlannedOrder
    old: OrderStatus
    intent: PlannedOrder | None = None
    status: str | None = None
    new: OrderStatus | None = None
    arrived: bool = False
    making_way: bool = False

    @property
    def has_way(self) -> bool:
        """Whether the old order has ended, so that what it left may be sent as a new one."""
        return self.old.state in TERMINAL

    @property
    def rest(self) -> Decimal:
        """Shares that the replacement may fill at most, as far as the old order's fills are known."""
        return max(self.request.quantity - _executed(self.old), Decimal(0))

    @property
    def is_fresh(self) -> bool:
        """Whether there is something to do: nothing was sent, and the old order stands or has made way."""
        return self.outcome() is None and (self.new is None or self.new.state is OrderState.APPROVED)

    @property
    def order(self) -> PlannedOrder:
        """The replacement: as it was decided, less what has filled since; or as it would be decided now."""
        if self.intent is not None:
            return replace(self.intent, quantity=min(self.intent.quantity, self.rest))
        price = self.request.price if self.request.price is not None else self.old_order.price
        return replace(self.old_order, intent_id=self.request.intent_id, quantity=self.rest, price=price)

    def outcome(self) -> Outcome | None:
        """What the orders' states say became of it; None while it is open."""
        if self.status == "denied":
            return Outcome.DENIED
        if self.new is None or self.new.state is OrderState.APPROVED:
            ended = self.has_way and not self.making_way
            return Outcome.TOO_LATE if ended or not self.rest else None
        if self.new.state in UNRESOLVED:
            return None
        if self.status == "void":
            return Outcome.VOID if self.rest else Outcome.TOO_LATE
        if self.new.state in TERMINAL and not self.arrived and not self.new.filled:
            # Refused at once, or found nowhere when it could no longer arrive.
            return Outcome.TOO_LATE if self.has_way and not self.making_way else Outcome.REFUSED
        if self.new.state is OrderState.REJECTED:
            return Outcome.TOO_LATE if self.has_way and not self.making_way else Outcome.REFUSED
        return Outcome.REPLACED


def _executed(old: OrderStatus) -> Decimal:
    """Shares that the old order took of the request. A trade that was broken is not done again by itself."""
    return max(old.filled, old.net_filled)


def replacement_id(origin: str, number: int) -> str:
    """Id of the ``number``-th replacement, from 1, of the orders that go back to the planned intent ``origin``."""
    return f"{origin}-r{number:04d}"


def why_not(
    order: PlannedOrder,
    status: OrderStatus,
    quantity: Decimal,
    price: Decimal | None,
    *,
    lot: Decimal,
    tick: Decimal | None = None,
    sliced: bool,
    bracketed: bool = False,
) -> str:
    """Why an order may not be replaced so, with what to do; empty where it may be asked.

    Args:
        quantity: that the order and its replacement may fill together.
        lot: of which a new quantity is to be a multiple. tick: the instrument's own, of which a new price is; None: the
            market's.
        sliced: the order is a slice of a scheduled one.
        bracketed: it has exits at the venue, or is one.
    """
    state = status.state.value
    if sliced:
        return "it is a slice of a scheduled order, whose next slice takes up what this one leaves: cancel it"
    if bracketed:
        return "its bracket's orders stand and fall together at the venue: cancel it, and plan a new order"
    if status.state in UNRESOLVED:
        return f"it is {state}: whether it stands at the broker is not known; settle it first"
    if status.state in TERMINAL:
        return f"it ended before ({state}); plan a new order"
    if status.state not in REPLACEABLE:
        return f"it is {state}; wait for what becomes of it"
    if price is not None and (not order.order_type.has_price or price <= 0):
        return f"price {plain(price)}: a {order.order_type.value} order has none, or it is not positive; leave it out"
    if problem := _between_steps(order, status, quantity, price, lot, tick):
        return problem
    if quantity <= _executed(status):
        return f"quantity {plain(quantity)}: {plain(status.filled)} of it are filled; give more, or cancel the order"
    if quantity == status.quantity and price in (None, order.price):
        return "nothing would change; give another quantity or price"
    return ""


def _between_steps(
    order: PlannedOrder,
    status: OrderStatus,
    quantity: Decimal,
    price: Decimal | None,
    lot: Decimal,
    tick: Decimal | None,
) -> str:
    """Why what is new of quantity or price is none of the instrument's, and which are next to it; empty where it is."""
    if price is not None and price != order.price and price % (step := tick or tick_size(price)):
        near = _near(order, price, step)
        return f"price {plain(price)} is no multiple of the tick {near}, or correct it in the reference file"
    if quantity != status.quantity and quantity % lot:
        return f"quantity {plain(quantity)} is no multiple of the lot {_near(order, quantity, lot)}"
    return ""


def _near(order: PlannedOrder, value: Decimal, step: Decimal) -> str:
    below = value - value % step
    near = " or ".join(plain(one) for one in (below, below + step) if one > 0)
    return f"{plain(step)} of {order.instrument}; give {near}"


def in_judgement(
    orders: Collection[PlannedOrder], snapshot: AccountSnapshot, swaps: Collection[Swap]
) -> tuple[tuple[PlannedOrder, ...], AccountSnapshot]:
    """Orders and account as the gates are to see them where some orders would replace open ones.

    The old order is taken out of what is open, and its replacement stands for the worse of the two: whichever of them
    fills, no more is filled than was judged.
    """
    live = {swap.request.intent_id: swap for swap in swaps if not swap.has_way}
    gone = {live[order.intent_id].replaces for order in orders if order.intent_id in live}
    judged = tuple(
        replace(order, quantity=max(order.quantity, live[order.intent_id].old.remaining))
        if order.intent_id in live
        else order
        for order in orders
    )
    left = tuple(one for one in snapshot.open_orders if one.client_order_id not in gone)
    return judged, replace(snapshot, open_orders=left)
