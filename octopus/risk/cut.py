"""Which orders to leave out until every limit on the batch holds.

Belongs here: the choice. Does not: what an order adds to a limit (constraints.py), verdicts (gate.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from octopus.core.orders import PlannedOrder
from octopus.risk.constraints import Constraint, Contribution, Proposal, Rule, ranked


@dataclass(frozen=True)
class Removal:
    """An order left out for a constraint.

    Attributes:
        value: what the constraint's value was with it. marginal: what the order added to that.
        contributors: the instruments that made most of the value.
    """

    constraint: Constraint
    order: PlannedOrder
    value: float
    marginal: float
    contributors: tuple[Contribution, ...]


def cut(proposal: Proposal, rules: Sequence[Rule], reducing: frozenset[str]) -> list[Removal]:
    """Leave orders out of ``proposal`` until every constraint holds, or is no worse than without the batch.

    Only orders that raise a breach are left out, and orders that reduce a position last of all. Among them the choice
    is the smallest whose absence alone cures the breach, otherwise the largest; ties fall to the one that the
    constraint names first. What is left is judged again from the first constraint until nothing changes, for leaving
    out a sell may undo what another constraint had accepted.

    Returns:
        The removals in the order made; ``proposal`` holds what stays.
    """
    removals: list[Removal] = []
    settled = False
    while not settled:
        settled = True
        for constraint in (each for rule in rules for each in rule.beyond()):
            while (excess := constraint.excess()) > 0 and (
                removal := _next_removal(proposal, constraint, excess, reducing)
            ):
                proposal.leave_out(removal.order)
                removals.append(removal)
                settled = False
    return removals


def _next_removal(
    proposal: Proposal, constraint: Constraint, excess: Decimal, reducing: frozenset[str]
) -> Removal | None:
    """What to leave out for a constraint that is breached; None: no order of the batch adds to the breach."""
    if not len(proposal):
        return None
    choice = constraint.choice(excess, reducing)
    if choice is None:
        if excess <= constraint.opening():
            return None
        choice = _alone(proposal, constraint, excess, reducing)
    added, order = choice
    return Removal(
        constraint, order, constraint.value(), constraint.added_value(order, added), constraint.contributors()
    )


def _alone(
    proposal: Proposal, constraint: Constraint, excess: Decimal, reducing: frozenset[str]
) -> tuple[Decimal, PlannedOrder]:
    """Together they breach although each, given the others, does not: the choice by what each adds without them."""
    orders = proposal.orders
    eager = [order for order in orders if order.intent_id not in reducing]
    ranking = sorted((constraint.alone(order), place) for place, order in enumerate(eager or orders))
    added, place = ranked(ranking, excess)
    return added, (eager or orders)[place]
