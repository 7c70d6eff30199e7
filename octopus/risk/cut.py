"""Which orders to leave out until every limit on the batch holds.

Belongs here: the choice. Does not: what an order adds to a limit (constraints.py), verdicts (gate.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from octopus.core.orders import PlannedOrder
from octopus.risk.constraints import Constraint, Contribution, Proposal, Scenario


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


def cut(
    proposal: Proposal, constraints: Sequence[Constraint], scenarios: Sequence[Scenario], reducing: frozenset[str]
) -> list[Removal]:
    """Leave orders out of ``proposal`` until every constraint holds, or is no worse than without the batch.

    Only orders that raise a breach are left out, and orders that reduce a position last of all. Among them the choice
    is the smallest whose absence alone cures the breach, otherwise the largest; ties fall to the one that the
    constraint names first. What is left is judged again from the first constraint until nothing changes, for leaving
    out a sell may undo what another constraint had accepted.

    Returns:
        The removals in the order made; ``proposal`` holds what stays.
    """
    removals: list[Removal] = []
    everywhere = [constraint for constraint in constraints if constraint.instruments is None]
    at: dict[str, list[Constraint]] = {}
    for constraint in constraints:
        for name in constraint.instruments or ():
            at.setdefault(name, []).append(constraint)
    settled = False
    while not settled:
        settled = True
        for constraint in constraints:
            while removal := _next_removal(proposal, constraint, reducing):
                proposal.leave_out(removal.order)
                for scenario in scenarios:
                    scenario.left_out(removal.order)
                for other in (*everywhere, *at.get(removal.order.instrument, ())):
                    other.left_out(removal.order)
                removals.append(removal)
                settled = False
    return removals


def _next_removal(proposal: Proposal, constraint: Constraint, reducing: frozenset[str]) -> Removal | None:
    excess = constraint.excess()
    if excess <= 0 or not len(proposal):
        return None
    rising = [(added, order) for added, order in constraint.marginals() if added > 0]
    if not rising:
        if excess <= constraint.opening():
            return None
        # Together they breach although each alone, given the others, does not: measure each without the others.
        rising = [(constraint.alone(order), order) for order in proposal.orders]
    eager = [(added, order) for added, order in rising if order.intent_id not in reducing]
    candidates = eager or rising
    curing = [item for item in candidates if item[0] >= excess]
    added, order = min(curing, key=_added) if curing else max(candidates, key=_added)
    return Removal(
        constraint, order, constraint.value(), constraint.added_value(order, added), constraint.contributors()
    )


def _added(item: tuple[Decimal, PlannedOrder]) -> Decimal:
    return item[0]
