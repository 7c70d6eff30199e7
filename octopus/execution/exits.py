"""The exits of a bracketed entry: the orders that they are, and when they share their entry's fate.

Belongs here: those rules, as pure functions. Does not: at which prices exits stand (octopus/core/brackets.py), sending
them (resources/execution_engine.py), keeping them (resources/warehouse/order_store.py).

Each exit is an intent and an order of its own, with the entry's quantity and the other side. One request carries all to
the venue, so what becomes of that request becomes of each; afterwards the venue tells of each alone. The venue sees to
it that the exits together execute no more than the entry did: they count for no limit as long as they stand, since they
only reduce, and the worst case is the entry filled and neither of them.
"""

from __future__ import annotations

from dataclasses import replace

from octopus.core.ids import exit_intent_id
from octopus.core.orders import PlannedOrder
from octopus.execution.states import TERMINAL, UNRESOLVED, Event, OrderState, OrderStatus

_OF_THE_REQUEST = frozenset({Event.RESEND, Event.NOT_SENT, Event.UNCERTAIN, Event.ACCEPT, Event.REJECT})


def exit_orders(entry: PlannedOrder) -> tuple[PlannedOrder, ...]:
    """The exits of ``entry`` as orders; none where it has no bracket. Costs of each are measured from its own price."""
    if entry.bracket is None:
        return ()
    return tuple(
        replace(
            entry, intent_id=exit_intent_id(entry.intent_id, exit_.value), side=entry.side.opposite,
            reference_price=price, order_type=exit_.order_type, price=price, bracket=None,
        )
        for exit_, price in entry.bracket.exits.items()
    )  # fmt: skip


def follows(event: Event, entry: OrderStatus, exit_: OrderStatus) -> bool:
    """Whether an exit goes with its entry through ``event``.

    Args:
        entry: after the event. exit_: before it.
    """
    if exit_.state in TERMINAL:
        return False
    if exit_.state is OrderState.APPROVED:
        return event in (Event.SEND, Event.CANCEL, Event.EXPIRE)
    if exit_.state in UNRESOLVED and event in _OF_THE_REQUEST:
        return True
    # Of an entry that ended with nothing filled there is nothing to protect, and no venue keeps its exits.
    return entry.state in TERMINAL and not entry.filled
