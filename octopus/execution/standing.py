"""An approval of a whole batch that still stands while its orders are sent one after the other.

Belongs here: whether what is left of a batch, with what was sent counted as open, is the case that was judged. Does
not: the gates' rules, and which of them say the same of an order before and after others of its batch were sent
(octopus/risk, octopus/compliance), reading what they judge by (resources/gates.py).

Judging all that is left before each send is quadratic in the batch. But an order that is sent and counts as open weighs
on every limit as it did within the batch: where every order was approved, and no limit was beyond its bound, judging
what is left again could only approve it again, until time or data have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise

from octopus.core.ids import client_order_id
from octopus.core.orders import AccountSnapshot, Batch, GateReport, OpenOrder, PlannedOrder


@dataclass(frozen=True, eq=False)
class Standing:
    """Reports that approve every order of a batch.

    Attributes:
        since, until: when they were made, and from when on time alone may change them.
    """

    batch: Batch
    snapshot: AccountSnapshot
    reports: tuple[GateReport, ...]
    since: datetime
    until: datetime

    def after_sending(self, batch: Batch, snapshot: AccountSnapshot, now: datetime) -> tuple[GateReport, ...] | None:
        """The reports on ``batch``, if it is what is left of the one that was judged, on the same account with the rest
        counted as open; None: judge it."""
        if not self.since <= now < self.until:
            return None
        if replace(batch, orders=()) != replace(self.batch, orders=()) or not self._holds(batch.orders):
            return None
        left = {order.intent_id for order in batch.orders}
        if not self._is_open(snapshot, [order for order in self.batch.orders if order.intent_id not in left]):
            return None
        return tuple(_of(report, left) for report in self.reports)

    def _holds(self, orders: Sequence[PlannedOrder]) -> bool:
        """Whether ``orders`` are some of those that were judged, in the same order."""
        places = [self._places.get(order.intent_id, -1) for order in orders]
        if any(place < 0 or self.batch.orders[place] != order for place, order in zip(places, orders, strict=True)):
            return False
        return all(first < second for first, second in pairwise(places))

    def _is_open(self, snapshot: AccountSnapshot, sent: Sequence[PlannedOrder]) -> bool:
        """Whether ``snapshot`` is the account that was judged, with ``sent`` open, all of each, and nothing else."""
        if replace(snapshot, open_orders=()) != replace(self.snapshot, open_orders=()):
            return False
        names = [self._client_ids[order.intent_id] for order in sent]
        added = [
            OpenOrder(name, order.instrument, order.side, order.quantity)
            for name, order in zip(names, sent, strict=True)
        ]
        expected = {order.client_order_id: order for order in (*self.snapshot.open_orders, *added)}
        found = {order.client_order_id: order for order in snapshot.open_orders}
        return found == expected and len(found) == len(snapshot.open_orders)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {order.intent_id: place for place, order in enumerate(self.batch.orders)}

    @cached_property
    def _client_ids(self) -> dict[str, str]:
        return {order.intent_id: client_order_id(order.intent_id) for order in self.batch.orders}


def _of(report: GateReport, left: set[str]) -> GateReport:
    approved = tuple(intent for intent in report.approved if intent in left)
    verdicts = tuple(v for v in report.verdicts if v.intent_id is None or v.intent_id in left)
    return replace(report, approved=approved, verdicts=verdicts)
