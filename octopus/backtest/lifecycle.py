"""Production's order state machine for a whole batch at once: a table made of `octopus.execution.states.advance`.

Belongs here: asking `advance` about every state and event once, and looking the answers up for many orders. Does not:
what the states and events are, or which moves are legal (octopus/execution/states.py).
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import numpy as np
from numpy.typing import NDArray

from octopus.core.types import BoolArray, IntArray
from octopus.execution.states import Event, Execution, IllegalTransitionError, OrderState, OrderStatus, advance

States = NDArray[np.int8]
"""One place in `STATES` for each order of a batch."""

STATES = tuple(OrderState)
_PLACES = {state: place for place, state in enumerate(STATES)}
_EVENTS = tuple(Event)
_PART, _WHOLE = len(_EVENTS), len(_EVENTS) + 1
_ILLEGAL = -1


def approved(count: int) -> States:
    """``count`` orders that were judged and not sent."""
    return np.full(count, _PLACES[OrderState.APPROVED], dtype=np.int8)


def happens(states: States, event: Event, which: BoolArray | None = None) -> None:
    """``event`` to all orders, or to those of ``which``, in place.

    Raises:
        IllegalTransitionError: it cannot happen to one of them; nothing was changed.
    """
    _move(states, np.full(len(states), _EVENTS.index(event)), np.ones(len(states), bool) if which is None else which)


def execute(states: States, is_whole: BoolArray, which: BoolArray) -> None:
    """One execution of each order of ``which``, of all its shares or of a part of them, in place; raises as
    `happens`."""
    _move(states, np.where(is_whole, _WHOLE, _PART), which)


def ends(states: States) -> dict[OrderState, int]:
    """How many orders are in each state, those of none left out."""
    places, counts = np.unique(states, return_counts=True)
    return {STATES[place]: count for place, count in zip(places.tolist(), counts.tolist(), strict=True)}


def _move(states: States, events: IntArray, which: BoolArray) -> None:
    after = _table()[states[which], events[which]]
    if np.any(after == _ILLEGAL):
        first = int(np.flatnonzero(which)[np.argmax(after == _ILLEGAL)])
        _ask(STATES[states[first]], int(events[first]))
    states[which] = after


@cache
def _table() -> States:
    """The state after each event, shape (states, events and both kinds of execution)."""
    table = np.full((len(STATES), len(_EVENTS) + 2), _ILLEGAL, dtype=np.int8)
    for place, state in enumerate(STATES):
        for event in range(table.shape[1]):
            try:
                table[place, event] = _PLACES[_ask(state, event)]
            except IllegalTransitionError:
                continue
    return table


def _ask(state: OrderState, event: int) -> OrderState:
    """What `advance` says of an order of two shares; an execution is of one or of both."""
    done = OrderState.FILLED is state
    status = OrderStatus(Decimal(2), state, Decimal(2) if done else Decimal(0))
    if event < len(_EVENTS):
        return advance(status, _EVENTS[event]).state
    return advance(status, Execution("this", Decimal(1 if event == _PART else 2))).state
