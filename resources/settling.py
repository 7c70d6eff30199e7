"""What a person settles by hand: a break between the books, an order whose outcome nobody can find.

Belongs here: what is shown of both, and booking a person's word under the account's lock. Does not: asking the person
(octopus_pipelines/cli), what is booked about a break (octopus/execution/corrections.py), statements
(resources/warehouse/account_books.py).

The broker is asked anew for each word: what is booked is what it says now, and what it has settled by itself needs
nobody. One statement of it serves everything that is shown or booked at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.orders import Fill
from octopus.execution.book import OF_FILL
from octopus.execution.corrections import Correction, Told, correction
from octopus.execution.reconcile import Break
from octopus.execution.states import UNRESOLVED, WORKING, Event
from resources.bookkeeping import Comparison
from resources.execution_engine import ExecutionEngine
from resources.warehouse.order_store import StoredOrder


class SettlingError(OctopusError):
    """What a person asked to be settled cannot be settled so; the message says why and what to do."""


class End(StrEnum):
    """How an order ended, by a person's word."""

    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


_EVENTS = {
    End.FILLED: None, End.CANCELLED: Event.CANCEL, End.EXPIRED: Event.EXPIRE, End.REJECTED: Event.REJECT,
}  # fmt: skip


def named_break(name: str, breaks: Sequence[Break]) -> Break | None:
    """The one of ``breaks`` whose id begins with ``name``.

    Raises:
        SettlingError: several do.
    """
    found = [item for item in breaks if name and item.break_id.startswith(name)]
    if len(found) > 1:
        raise SettlingError(f"{len(found)} breaks begin with {name!r}: give the whole id")
    return found[0] if found else None


@dataclass(frozen=True)
class Settler:
    """A person's words on the account of an engine. Each method holds the account's lock."""

    engine: ExecutionEngine
    account: str

    def open_breaks(self) -> Comparison:
        """Every break there is once everything that needs nobody is booked."""
        self.engine.permit()
        with self.engine.store.account_lock(self.account):
            return self.engine.bookkeeper.compare_now(self.account)

    def proposed(self, item: Break, found: Comparison, told: Told) -> Correction:
        """What would be booked about a break; see `correction` for what it raises."""
        at = found.told_until or self.engine.clock.now()
        whole = self.engine.bookkeeper.books.book(self.account)
        return correction(item, found.breaks, whole, found.theirs, at, told)

    def book(
        self, break_id: str, told: Told, tradable: Collection[str], by: str, reason: str, shown: Sequence[str] = ()
    ) -> Comparison | None:
        """Book what is proposed about a break, if it still is one, and what the books differ by afterwards.

        Args:
            shown: what the person saw would be booked, as `Correction.described`; empty: nobody was shown anything.

        Returns:
            None where a break of this id was booked before.

        Raises:
            SettlingError: there is no such break, its instrument is none of ``tradable``, or what would be booked is
                not what was shown.
        """
        engine, keeper = self.engine, self.engine.bookkeeper
        engine.permit()
        with engine.store.account_lock(self.account):
            found = keeper.compare_now(self.account)
            item = named_break(break_id, found.breaks)
            if item is None:
                engine.store.drain_outbox(engine.audit)
                if keeper.books.was_booked(self.account, break_id):
                    return None
                raise SettlingError(f"no open break begins with {break_id!r}: see `octopus breaks list`")
            if item.instrument is not None and item.instrument not in tradable:
                raise SettlingError(
                    f"{item.instrument} is no symbol of universe.symbols, and nothing prices it: add it there and "
                    "ingest its bars, then book the break"
                )
            now = engine.clock.now()
            booked = self.proposed(item, found, told)
            missed = booked.fill
            session = keeper.session_at(now) if missed is None else keeper.sessions.trade_date(missed.at)
            if shown and booked.described != tuple(shown):
                raise SettlingError(
                    f"the broker's statement changed meanwhile, and nothing was booked: break {item.break_id} would "
                    f"now book {'; '.join(booked.described)}. Give the command again"
                )
            keeper.books.correct(self.account, item, booked, session, by, reason, now)
            if missed is not None:
                # It may have been what its batch waited for.
                engine.store.finish(self.account, now)
            engine.store.drain_outbox(engine.audit)
            last, after = keeper.books.last_compared(self.account), keeper.compare_again(self.account, found)
            if last is not None:
                keeper.conclude(self.account, last, after, f"break {item.break_id}")
            return after

    def look_up(self, order_id: str) -> StoredOrder:
        """The order after one more look into the broker's records.

        Raises:
            SettlingError: its outcome is known, or the broker may still tell it.
        """
        self.engine.permit()
        self.engine.poll(self.account)
        (order,) = self.engine.store.orders(self.account, ids=[order_id])
        state = order.status.state
        if state not in WORKING:
            raise SettlingError(f"order {order_id} is {state.value} by the broker's records: nobody has to settle it")
        if state in UNRESOLVED:
            return order
        if self.engine.clock.now() < order.expires_at:
            raise SettlingError(
                f"order {order_id} is {state.value} and may fill until {order.expires_at}: cancel it with `octopus "
                "orders cancel`, or settle it after that"
            )
        if (says := self.engine.still_told(order)) is not None:
            raise SettlingError(
                f"order {order_id} is {says.state.value} by what the broker says of it, {plain(says.filled_quantity)} "
                f"of {plain(says.quantity)} filled: nobody has to settle it; see `octopus orders list`"
            )
        return order

    def ownerless(self, order: StoredOrder) -> tuple[Fill, ...]:
        """The broker's fills that may be the order's: of its instrument and side, and of no order of ours."""
        compared, known = self.engine.bookkeeper.compare(self.account), self.engine.store.sent_ids(self.account)
        booked = {entry.entry_id for entry in compared.ours.entries}
        return tuple(
            fill
            for fill in compared.theirs.fills
            if (fill.instrument, fill.side) == (order.order.instrument, order.order.side)
            and fill.client_order_id not in known
            and f"{OF_FILL}{fill.fill_id}" not in booked
        )

    def settle(self, order: StoredOrder, end: End, fills: Sequence[Fill], by: str, reason: str) -> None:
        """Record how an order ended that `look_up` gave, with those of the broker's fills that were its.

        Raises:
            SettlingError: the fills do not go with that end, or the outcome is known meanwhile.
        """
        filled, quantity = sum((fill.quantity for fill in fills), Decimal(0)), order.status.remaining
        if (end is End.FILLED) is not (filled == quantity) or (end is End.REJECTED and fills):
            raise SettlingError(
                f"order {order.client_order_id} waits for {plain(quantity)} shares, and the given fills have "
                f"{plain(filled)}: all of them make it filled, some cancelled or expired, none rejected; name the "
                "broker's fills with --fill"
            )
        engine, by_session = self.engine, defaultdict[date, list[Fill]](list)
        for fill in fills:
            by_session[engine.sessions.trade_date(fill.at)].append(fill)
        now: datetime = engine.clock.now()
        with engine.store.account_lock(self.account):
            books = engine.bookkeeper.books
            settled = books.settle_order(
                self.account, order.client_order_id, order.status, _EVENTS[end], by_session, by, reason, now
            )
            engine.store.finish(self.account, now)
            engine.store.drain_outbox(engine.audit)
        if not settled:
            raise SettlingError(f"order {order.client_order_id} was settled meanwhile: see `octopus orders list`")
