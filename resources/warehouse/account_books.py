"""The account's books: what was executed, deposited and held, each booked once in one short transaction.

Belongs here: fills and their revisions, entries, positions, struck NAVs, and what reconciliation found. Does not: an
order's way to the broker and its states (order_store.py; a fill advances its order there, in the transaction that books
it), which movements there are to book and when a NAV is struck (resources/bookkeeping.py), the arithmetic of books
(octopus/execution).

A session whose NAV is struck is closed: what is told of it later is booked in the first session after. What a broker
reports may be booked by anyone: it is true whoever heard it, and booking it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any

from psycopg.rows import DictRow

from octopus.core.orders import Fill, FillRevision, Side, TradingState
from octopus.execution.book import Book, Entry, EntryKind
from octopus.execution.corrections import Correction, CorrectionError, FillChange
from octopus.execution.nav import Holdings, NavStatement
from octopus.execution.reconcile import Break, BreakKind, break_id_in
from octopus.execution.states import WORKING, Event, Execution, OrderState, OrderStatus, advance
from resources.warehouse.order_records import OrderRecords
from resources.warehouse.order_store import OrderStore

BREAK_BOOKED = "settled.break"
"""Kind of the audit log's entries on breaks that persons booked."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class NavRecord:
    """A struck NAV: final; what is heard of later belongs to the next."""

    session: date
    closing: Decimal
    holdings: Holdings


class AccountBooks(OrderRecords):
    """The books of accounts, over the connection of the orders that were executed for them."""

    def __init__(self, orders: OrderStore) -> None:
        self.orders = orders
        self.connection = orders.connection

    # -- booking -----------------------------------------------------------------------------------------------------

    def record_fill(self, account: str, fill: Fill, session: date, now: datetime) -> bool:
        """Book a fill of one of our orders, once; False when we have it, or when the order is not ours.

        Args:
            session: the exchange's date of the fill; one that comes after that session's NAV is booked in the next.
        """
        with self.connection.transaction():
            status = self.orders.lock_status(fill.client_order_id, account)
            if status is None:
                return False
            booked = self._booking_session(account, session)
            added = self.connection.execute(
                """
                insert into execution.fills (account, fill_id, client_order_id, instrument, side, quantity, price, fees,
                                             at, session, rate)
                values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (account, fill_id) do nothing
                """,
                [account, fill.fill_id, fill.client_order_id, fill.instrument, fill.side.value, fill.quantity,
                 fill.price, fill.fees, fill.at, booked, fill.rate],
            )  # fmt: skip
            if not added.rowcount:
                return False
            detail = {
                "fill_id": fill.fill_id, "quantity": fill.quantity, "price": fill.price, "fees": fill.fees,
                "instrument": fill.instrument, "side": fill.side.value, "at": fill.at,
            }  # fmt: skip
            after = advance(status, Execution(fill.fill_id, fill.quantity))
            counting = self._counting(account, fill.fill_id)
            if counting is not None:
                # A revision may have been told before the fill itself.
                after = replace(after, revised=after.revised + counting["quantity"] - fill.quantity)
            self.orders.write_status(fill.client_order_id, status, after, now, detail, kind="order.fill")
            if status.state is OrderState.APPROVED:
                self._note(
                    "alert.unexpected_fill", fill.client_order_id, {"remedy": "the broker filled an unsent order"}
                )
            executed = after.filled + self.orders.executed_by_other_exit(fill.client_order_id)
            if executed > after.quantity or after.overfilled:
                self._note("alert.overfilled", fill.client_order_id, {"ordered": after.quantity, "filled": executed})
        return True

    def record_revision(self, account: str, revision: FillRevision, session: date, now: datetime) -> bool:
        """Book what the broker changed of a fill, once; False when we have it, or when the order is not ours.

        The fill stays as it was told. Of several revisions the highest number counts, in whatever order they and the
        fill are told; one that comes after its session's NAV is booked in the next. A bust is booked at the price of
        the version that counted, whatever price it was told with; of a fill that was not told here one without any
        price breaks nothing, and is booked once it is told again after the fill.
        """
        with self.connection.transaction():
            status = self.orders.lock_status(revision.client_order_id, account)
            if status is None:
                return False
            before = self._counting(account, revision.fill_id)
            if revision.is_bust and before is not None:
                revision = replace(revision, price=before["price"])
            if not revision.price:
                return False
            same_trade = before is not None and (before["quantity"], before["price"]) == (
                revision.quantity, revision.price,
            )  # fmt: skip
            overtaken = before is not None and before["number"] > revision.number
            booked = self._booking_session(account, session if before is None else max(session, before["session"]))
            added = self.connection.execute(
                """
                insert into execution.fill_revisions (account, fill_id, number, client_order_id, quantity, price, fees,
                                                      at, session, replaces, reason)
                values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (account, fill_id, number) do nothing
                """,
                [account, revision.fill_id, revision.number, revision.client_order_id, revision.quantity,
                 revision.price, revision.fees, revision.at, booked,
                 None if overtaken else 0 if before is None else before["number"], revision.reason],
            )  # fmt: skip
            if not added.rowcount or (before is not None and same_trade and before["fees"] == revision.fees):
                # Known, or the same under another number, as a venue tells it that numbers its bookings.
                return False
            after = status
            if before is not None and not overtaken and revision.fill_id in status.fill_ids:
                after = replace(status, revised=status.revised + revision.quantity - before["quantity"])
            detail = {
                "fill_id": revision.fill_id, "number": revision.number, "quantity": revision.quantity,
                "price": revision.price, "fees": revision.fees, "at": revision.at, "why": revision.reason,
                "overtaken": overtaken,
            }  # fmt: skip
            corrected = "order.fees_corrected" if same_trade else "order.fill_corrected"
            kind = "order.fill_broken" if revision.is_bust else corrected
            self.orders.write_status(revision.client_order_id, status, after, now, detail, kind=kind)
        return True

    def recognise(self, account: str, entry: Entry, session: date, now: datetime) -> bool:
        """Book a flow, an expected corporate action, or a correction that a person accepts, once; False if known."""
        with self.connection.transaction():
            added = self.connection.execute(
                """
                insert into execution.entries (account, entry_id, kind, instrument, quantity, cash, at, session, note,
                                               basis, acquired)
                values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (account, entry_id) do nothing
                """,
                [account, entry.entry_id, entry.kind.value, entry.instrument, entry.quantity, entry.cash, entry.at,
                 self._booking_session(account, session), entry.note, entry.basis, entry.acquired],
            )  # fmt: skip
            if added.rowcount:
                detail: dict[str, object] = {
                    "entry_id": entry.entry_id, "instrument": entry.instrument, "quantity": entry.quantity,
                    "cash": entry.cash, "note": entry.note, "trading_time": now,
                }  # fmt: skip
                if entry.basis is not None:
                    detail["basis"] = entry.basis
                if entry.acquired is not None:
                    detail["acquired"] = entry.acquired
                self._note(f"book.{entry.kind.value}", account, detail)
        return bool(added.rowcount)

    def correct(
        self, account: str, found: Break, booked: Correction, session: date, by: str, reason: str, now: datetime
    ) -> bool:
        """Book what a person says about a break, all of it or nothing, once; False if it is booked already.

        Args:
            session: the exchange's date of a missed fill; for everything else the session it is booked in.
        """
        with self.connection.transaction():
            done = [self.recognise(account, entry, session, now) for entry in booked.entries]
            if booked.change is not None:
                done.append(self._revise(account, booked.change, session, f"{by}: {reason}", now))
            if booked.fill is not None:
                done.append(self._book_missed(account, booked.fill, session, f"{by}: {reason}", now))
            if not all(done):
                if any(done):
                    raise CorrectionError(f"break {found.break_id} was booked in part already; list the breaks anew")
                return False
            detail = {"by": by, "reason": reason, "kind": found.kind.value, "detail": found.detail}
            self._note(
                BREAK_BOOKED, account,
                {**detail, "break": found.break_id, "booked": list(booked.described), "trading_time": now},
            )  # fmt: skip
        return True

    def was_booked(self, account: str, break_id: str) -> bool:
        """Whether a person booked a break of this id; of those that the audit log has been told."""
        found = self._row(
            "select from audit.log where kind = %s and subject = %s and payload::jsonb ->> 'break' = %s limit 1",
            [BREAK_BOOKED, account, break_id],
        )
        return found is not None

    def _revise(self, account: str, change: FillChange, session: date, reason: str, now: datetime) -> bool:
        before = self._counting(account, change.fill.fill_id)
        revision = FillRevision(
            change.fill.fill_id, (before["number"] if before else 0) + 1, change.fill.client_order_id, change.quantity,
            change.price, change.fees, now, reason,
        )  # fmt: skip
        return self.record_revision(account, revision, session, now)

    def _book_missed(self, account: str, fill: Fill, session: date, reason: str, now: datetime) -> bool:
        """Book a fill that the broker has and our book has not: one that was taken back here counts again."""
        if self.record_fill(account, fill, session, now):
            return True
        return self._revise(account, FillChange(fill, fill.quantity, fill.price, fill.fees), session, reason, now)

    def settle_order(
        self, account: str, order_id: str, seen: OrderStatus, event: Event | None,
        fills: Mapping[date, Sequence[Fill]], by: str, reason: str, now: datetime,
    ) -> bool:  # fmt: skip
        """Record a person's word on an order that no record tells the end of; False if more is known meanwhile.

        Args:
            seen: where the order stood when the person was asked.
            event: how it ended; None: its fills fill it. fills: by session, those of the broker's that are the order's.
        """
        with self.connection.transaction():
            status = self.orders.lock_status(order_id, account)
            if status is None or status.state not in WORKING or status.filled != seen.filled:
                return False
            for session, executed in fills.items():
                for fill in executed:
                    self.record_fill(account, replace(fill, client_order_id=order_id), session, now)
            if event is not None:
                self.orders.record(order_id, event, now, f"{reason} ({by})")
            names = [fill.fill_id for executed in fills.values() for fill in executed]
            ended = "filled" if event is None else event.value
            detail = {"order": order_id, "by": by, "reason": reason, "as": ended, "fills": names}
            self._note("settled.order", order_id, {**detail, "trading_time": now})
        return True

    def last_compared(self, account: str) -> date | None:
        """The session after which the books were compared last."""
        query = "select session from execution.reconciliation where account = %s order by at desc, session desc limit 1"
        found = self._row(query, [account])
        return found["session"] if found else None

    # -- the book ----------------------------------------------------------------------------------------------------

    def fills(self, account: str, since: datetime | None = None) -> tuple[Fill, ...]:
        """Our fills with ``at >= since``, oldest first, as they count now: busts and corrections are in them."""
        rows = self._rows(
            "select * from execution.current_fills where account = %s and at >= %s order by at, fill_id",
            [account, since or _EPOCH],
        )
        return tuple(_fill(row) for row in rows)

    def fills_of(self, order_id: str) -> tuple[Fill, ...]:
        """Fills of one order as they count now, oldest first."""
        rows = self._rows(
            "select * from execution.current_fills where client_order_id = %s order by at, fill_id", [order_id]
        )
        return tuple(_fill(row) for row in rows)

    def movements(self, account: str, after: date | None, until: date) -> tuple[tuple[Fill, ...], tuple[Entry, ...]]:
        """Fills and entries booked in sessions with ``after < session <= until``.

        A bust or correction takes back what it replaces, as a fill of the other side in the session that books it.
        """
        parameters = {"account": account, "after": after or date.min, "until": until}
        fills = self._rows(
            "select * from execution.fill_movements where account = %(account)s and session > %(after)s "
            "and session <= %(until)s order by at, fill_id, number",
            parameters,
        )
        entries = self._rows(
            "select * from execution.entries where account = %(account)s and session > %(after)s "
            "and session <= %(until)s order by at, entry_id",
            parameters,
        )
        return tuple(_fill(row) for row in fills), tuple(_entry(row) for row in entries)

    def book(self, account: str, since: datetime | None = None) -> Book:
        """Our book: cash and positions from everything booked, fills and entries with ``at >= since``."""
        entries = self._rows(
            "select * from execution.entries where account = %s and at >= %s order by at, entry_id",
            [account, since or _EPOCH],
        )
        balance = self._rows(
            """
            select coalesce((select sum(cash) from execution.entries where account = %(account)s), 0)
                + coalesce((select sum(case side when 'buy' then -quantity * price else quantity * price end - fees)
                            from execution.current_fills where account = %(account)s), 0) as cash
            """,
            {"account": account},
        )[0]
        movements = self.fills(account, since), tuple(_entry(row) for row in entries)
        return Book(account, balance["cash"], self.positions(account), *movements)

    def positions(self, account: str, before: date | None = None, opened: datetime | None = None) -> dict[str, Decimal]:
        """Shares by instrument from everything booked; zero positions are absent.

        Args:
            before: only what is booked in sessions before it, and what was booked later and moved before ``opened``.
        """
        rows = self._rows(
            """
            select instrument, sum(quantity) as quantity from (
                select instrument, session, at, case side when 'buy' then quantity else -quantity end as quantity
                from execution.fill_movements where account = %(account)s
                union all
                select instrument, session, at, quantity from execution.entries
                where account = %(account)s and instrument is not null
            ) as movements
            where %(before)s::date is null or session < %(before)s or at < %(opened)s::timestamptz
            group by instrument having sum(quantity) <> 0 order by instrument
            """,
            {"account": account, "before": before, "opened": opened},
        )
        return {row["instrument"]: row["quantity"] for row in rows}

    def first_session(self, account: str) -> date | None:
        """The session of the account's first movement; None when nothing was booked."""
        found = self._rows(
            """
            select min(session) as first from (
                select session from execution.fills where account = %(account)s
                union all select session from execution.entries where account = %(account)s) as movements
            """,
            {"account": account},
        )
        first: date | None = found[0]["first"]
        return first

    def last_nav(self, account: str) -> NavRecord | None:
        """The latest struck NAV; None before the first."""
        row = self._row("select * from execution.nav where account = %s order by session desc limit 1", [account])
        if row is None:
            return None
        held = self._rows(
            "select * from execution.positions where account = %s and session = %s order by instrument",
            [account, row["session"]],
        )
        holdings = Holdings(
            cash=row["cash"],
            positions={item["instrument"]: item["quantity"] for item in held},
            prices={item["instrument"]: item["price"] for item in held if item["price"] is not None},
        )
        return NavRecord(row["session"], row["closing"], holdings)

    def save_nav(self, account: str, session: date, nav: NavStatement, now: datetime) -> None:
        """Store a NAV with its positions, once."""
        with self.connection.transaction():
            struck = self.connection.execute(
                "insert into execution.nav "
                "(account, session, opening, price_pnl, fees, dividends, flows, closing, cash) "
                "values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (account, session) do nothing",
                [account, session, nav.opening, nav.price_pnl, nav.fees, nav.dividends, nav.flows, nav.closing,
                 nav.holdings.cash],
            )  # fmt: skip
            if not struck.rowcount:
                return
            with self.connection.cursor() as cursor:
                cursor.executemany(
                    "insert into execution.positions (account, session, instrument, quantity, price) "
                    "values (%s, %s, %s, %s, %s)",
                    [
                        (account, session, name, shares, nav.holdings.prices[name])
                        for name, shares in nav.holdings.positions.items()
                    ],
                )
            self._note("nav.struck", account, {"session": session, "closing": nav.closing, "trading_time": now})

    def save_reconciliation(
        self, account: str, session: date, breaks: Sequence[Break], now: datetime, told_until: datetime | None = None,
        *, halts: str = "",
    ) -> None:  # fmt: skip
        """Store what the latest comparison after ``session`` found, in the place of what one before it did.

        Args:
            told_until: how far the broker's records reach; None: to now.
            halts: why it halts trading; empty: it does not.
        """
        summary = f"{len(breaks)} breaks" if breaks else "books agree"
        if told_until is not None:
            summary += f"; the broker's records reach to {told_until:%Y-%m-%d %H:%M} UTC"
        none = (None, None, None, None)
        rows: list[tuple[object, ...]] = [(0, "breaks" if breaks else "ok", None, None, None, summary, *none)]
        rows += [
            (seq, item.kind.value, item.instrument, _stored(item.ours), _stored(item.brokers),
             f"{item.detail}; {item.remedy}", item.reference, item.quantity_effect, item.cash_effect, item.at)
            for seq, item in enumerate(breaks, 1)
        ]  # fmt: skip
        with self.connection.transaction():
            known = self.connection.execute(
                "select seq, kind, instrument, ours, brokers, detail from execution.reconciliation "
                "where account = %s and session = %s order by seq",
                [account, session],
            ).fetchall()
            self.connection.execute(
                "delete from execution.reconciliation where account = %s and session = %s", [account, session]
            )
            with self.connection.cursor() as cursor:
                cursor.executemany(
                    "insert into execution.reconciliation (account, session, at, seq, kind, instrument, ours, brokers, "
                    "detail, reference, quantity_effect, cash_effect, happened_at) "
                    "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    [(account, session, now, *row) for row in rows],
                )
            if known != [row[:6] for row in rows]:
                self._note(
                    "reconciliation.breaks" if breaks else "reconciliation.ok",
                    account,
                    {"session": session, "breaks": [item.detail for item in breaks], "trading_time": now},
                )
            if halts:
                self.orders.set_trading_state(account, TradingState.HALTED, "reconciliation", halts, now)

    def known_breaks(self, account: str) -> frozenset[str]:
        """Ids of the breaks that the latest comparison found."""
        rows = self._latest_comparison(account)
        return frozenset(found for row in rows if (found := break_id_in(row["detail"])))

    def recorded_breaks(self, account: str) -> tuple[Break, ...]:
        """Of the breaks that the latest comparison found, those of a record."""
        return tuple(map(_break, filter(itemgetter("reference"), self._latest_comparison(account))))

    def _latest_comparison(self, account: str) -> list[DictRow]:
        return self._rows(
            """
            select * from execution.reconciliation
            where account = %(account)s and seq > 0 and (at, session) = (
                select at, session from execution.reconciliation
                where account = %(account)s order by at desc, session desc limit 1)
            order by seq
            """,
            {"account": account},
        )

    def last_reconciled(self, account: str) -> datetime | None:
        """When the books were last compared, whatever that found."""
        query = "select max(at) as at from execution.reconciliation where account = %s"
        found = self._row(query, [account])
        return found["at"] if found else None

    def adopted_at(self, account: str) -> datetime | None:
        """When the account was taken over with what it held: the broker's records before are no part of our book."""
        query = "select max(at) as at from execution.entries where account = %s and kind = 'adopted'"
        found = self._row(query, [account])
        return found["at"] if found else None

    # -- inside

    def _counting(self, account: str, fill_id: str) -> DictRow | None:
        """Inside a transaction: the version of a fill that counts; None where neither it nor a revision was told."""
        return self._row(
            """
            select number, quantity, price, fees, session from execution.fill_revisions
            where account = %(account)s and fill_id = %(fill)s
            union all
            select 0, quantity, price, fees, session from execution.fills
            where account = %(account)s and fill_id = %(fill)s
            order by number desc limit 1
            """,
            {"account": account, "fill": fill_id},
        )

    def _booking_session(self, account: str, session: date) -> date:
        """``session``, or the first day after the latest struck NAV if that is later."""
        query = "select max(session) as last from execution.nav where account = %s"
        struck: date | None = self._rows(query, [account])[0]["last"]
        return session if struck is None else max(session, struck + timedelta(days=1))


def _fill(row: Mapping[str, Any]) -> Fill:
    return Fill(
        fill_id=row["fill_id"],
        client_order_id=row["client_order_id"],
        instrument=row["instrument"],
        side=Side(row["side"]),
        quantity=row["quantity"],
        price=row["price"],
        fees=row["fees"],
        at=row["at"],
    )


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        entry_id=row["entry_id"],
        kind=EntryKind(row["kind"]),
        instrument=row["instrument"],
        quantity=row["quantity"],
        cash=row["cash"],
        at=row["at"],
        note=row["note"],
        basis=row["basis"],
        acquired=row["acquired"],
    )


def _break(row: DictRow) -> Break:
    found = Break(
        BreakKind(row["kind"]), row["instrument"], row["reference"], row["ours"], row["brokers"], row["detail"],
        row["quantity_effect"], row["cash_effect"], row["happened_at"],
    )  # fmt: skip
    return replace(found, detail=found.detail.removesuffix(f"; {found.remedy}"))


def _stored(value: Decimal | None) -> Decimal | None:
    """As the column keeps it, so that a second look compares equal."""
    return None if value is None else value.quantize(Decimal("0.00000001"))
