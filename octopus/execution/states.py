"""The life of one order: which states there are and how events move it between them.

Belongs here: states, events and `advance`. Does not: who causes the events (resources/execution_engine.py) or where
states are kept (resources/warehouse/order_store.py).

A broker's reports may come twice, late or in any order. So every report that a venue can make is accepted in every
state that the venue can know of, and the same reports give the same end in whatever order they arrive. What only we
can cause (sending) is strict: a second send of the same order is an error here, before it can be one at the venue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from octopus.core.errors import OctopusError


class OrderState(StrEnum):
    APPROVED = "approved"
    """Judged and stored; nothing was sent."""
    SUBMITTING = "submitting"
    """A send was begun and its answer is not stored: the order may stand at the venue."""
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    PENDING_CANCEL = "pending_cancel"
    """We asked the venue to cancel what is left of it; until the venue says so it may still fill."""
    FILLED = "filled"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    """The venue put another order in its place, which is an order of its own: nothing more of this one fills."""
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    """A send whose outcome the venue could not tell us: counts as filled and freezes the instrument until settled."""


TERMINAL = frozenset(
    {OrderState.FILLED, OrderState.REJECTED, OrderState.CANCELLED, OrderState.REPLACED, OrderState.EXPIRED}
)
"""No more of the order can fill, as far as is known; a late fill is counted all the same."""

UNRESOLVED = frozenset({OrderState.SUBMITTING, OrderState.UNKNOWN})
"""The order may or may not stand at the venue."""

WORKING = UNRESOLVED | {OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL}
"""The order may still fill: its remaining quantity counts as filled for every limit."""


class Event(StrEnum):
    """What happens to an order, executions apart."""

    SEND = "send"
    """We are about to send it for the first time."""
    RESEND = "resend"
    """We are about to send it again under the same id; only to a venue whose key is idempotent."""
    NOT_SENT = "not_sent"
    """The send of this moment, the first, definitely did not reach the venue."""
    UNCERTAIN = "uncertain"
    """The send may or may not have reached the venue."""
    ACCEPT = "accept"
    REJECT = "reject"
    ASK_CANCEL = "ask_cancel"
    """We are about to ask the venue to cancel what is left; asking twice changes nothing."""
    CANCEL = "cancel"
    REPLACE = "replace"
    EXPIRE = "expire"
    """The venue let it lapse, or it can no longer arrive there."""


@dataclass(frozen=True)
class Execution:
    """A fill of ``quantity`` shares, told apart from other fills by the venue's ``fill_id``."""

    fill_id: str
    quantity: Decimal


@dataclass(frozen=True)
class OrderStatus:
    """Where an order stands.

    Attributes:
        quantity: shares ordered, positive.
        filled: shares executed, as first told; more than ``quantity`` only if the venue overfilled, which is recorded
            and never hidden.
        fill_ids: the executions counted in ``filled``.
        revised: what busts (negative) and corrections added to ``filled`` since. They end no order and open none: what
            was executed is executed, and a trade that is broken is not done again by itself.
    """

    quantity: Decimal
    state: OrderState = OrderState.APPROVED
    filled: Decimal = Decimal(0)
    fill_ids: frozenset[str] = frozenset()
    revised: Decimal = Decimal(0)

    @property
    def net_filled(self) -> Decimal:
        """Shares that the order brought, busts and corrections counted."""
        return self.filled + self.revised

    @property
    def remaining(self) -> Decimal:
        """Shares that may still fill; zero once the order is terminal.

        Whether the venue fills a broken part of a working order again it does not say: it is counted.
        """
        least = min(self.filled, self.net_filled)
        return max(self.quantity - least, Decimal(0)) if self.state in WORKING else Decimal(0)

    @property
    def overfilled(self) -> bool:
        return max(self.filled, self.net_filled) > self.quantity


class IllegalTransitionError(OctopusError):
    """An event that cannot happen in this state, such as sending an order twice."""


_S = OrderState
_SAME_WHEN_TERMINAL = {state: state for state in TERMINAL}

_OPEN_AT_VENUE = WORKING - UNRESOLVED

_MOVES: dict[Event, dict[OrderState, OrderState]] = {
    Event.SEND: {_S.APPROVED: _S.SUBMITTING},
    Event.RESEND: {_S.SUBMITTING: _S.SUBMITTING, _S.UNKNOWN: _S.SUBMITTING},
    Event.NOT_SENT: {_S.SUBMITTING: _S.APPROVED},
    Event.UNCERTAIN: {_S.SUBMITTING: _S.UNKNOWN, _S.UNKNOWN: _S.UNKNOWN},
    Event.ACCEPT: {
        _S.SUBMITTING: _S.ACCEPTED,
        _S.UNKNOWN: _S.ACCEPTED,
        _S.ACCEPTED: _S.ACCEPTED,
        _S.PARTIALLY_FILLED: _S.PARTIALLY_FILLED,
        _S.PENDING_CANCEL: _S.PENDING_CANCEL,
        **_SAME_WHEN_TERMINAL,
    },
    Event.REJECT: {**dict.fromkeys(WORKING, _S.REJECTED), **_SAME_WHEN_TERMINAL},
    Event.ASK_CANCEL: {
        _S.ACCEPTED: _S.PENDING_CANCEL,
        _S.PARTIALLY_FILLED: _S.PENDING_CANCEL,
        _S.PENDING_CANCEL: _S.PENDING_CANCEL,
        # Whether there is anything to cancel is what is not known.
        _S.SUBMITTING: _S.SUBMITTING,
        _S.UNKNOWN: _S.UNKNOWN,
        **_SAME_WHEN_TERMINAL,
    },
    Event.REPLACE: {**dict.fromkeys(WORKING, _S.REPLACED), **_SAME_WHEN_TERMINAL},
    Event.CANCEL: {**dict.fromkeys(WORKING | {_S.APPROVED}, _S.CANCELLED), **_SAME_WHEN_TERMINAL},
    Event.EXPIRE: {**dict.fromkeys(WORKING | {_S.APPROVED}, _S.EXPIRED), **_SAME_WHEN_TERMINAL},
}


def advance(status: OrderStatus, event: Event | Execution) -> OrderStatus:
    """The status after ``event``; the same object's equal when the event says nothing new.

    Raises:
        IllegalTransitionError: the event cannot happen in this state; nothing was changed.
    """
    if isinstance(event, Execution):
        return _executed(status, event)
    target = _MOVES[event].get(status.state)
    if target is None:
        raise IllegalTransitionError(
            f"order state {status.state.value} does not allow {event.value}; "
            "settle the order from the broker's records first"
        )
    if target is _S.REJECTED and status.filled:
        # A refusal after a partial fill refuses the rest.
        target = _S.CANCELLED
    if target in _OPEN_AT_VENUE and status.filled >= status.quantity:
        # Of a replacement the venue told its fills first, and how much of it there is only now.
        target = _S.FILLED
    return replace(status, state=target)


def _executed(status: OrderStatus, execution: Execution) -> OrderStatus:
    if execution.fill_id in status.fill_ids:
        return status
    if execution.quantity <= 0:
        raise IllegalTransitionError(
            f"fill {execution.fill_id} has quantity {execution.quantity}; "
            "it must be positive: check the broker's adapter"
        )
    filled = status.filled + execution.quantity
    state = status.state
    if filled >= status.quantity:
        state = OrderState.FILLED
    elif state is not OrderState.PENDING_CANCEL and (state in WORKING or state is OrderState.APPROVED):
        # Filled although we hold it unsent: the venue knows better, and it must not be sent now.
        state = OrderState.PARTIALLY_FILLED
    elif state is OrderState.REJECTED:
        state = OrderState.CANCELLED
    return replace(status, state=state, filled=filled, fill_ids=status.fill_ids | {execution.fill_id})
