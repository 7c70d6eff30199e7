"""Keeping an account's books: what the broker and our own data tell of it, booked, valued and compared.

Belongs here: which fills, revisions, flows and corporate actions are booked, in which session, when a NAV is struck,
the comparison with the broker's book, and when it halts trading. Does not: an order's way to the broker and what became
of it (resources/execution_engine.py, which also holds the account's lock meanwhile), statements
(resources/warehouse/account_books.py), the arithmetic of books, NAVs and breaks (octopus/execution).

Each step can be run again at any time, by another process, after a crash at any point: what is booked is not booked
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from octopus.execution.book import QUANTITY_STEP, Book, closing_entries, held_at, opening_entries, positions_of
from octopus.execution.corrections import Told, correction
from octopus.execution.nav import Holdings, NavStatement, strike_nav
from octopus.execution.reconcile import AMOUNTS, CENT, Break, BreakKind, roundings, standing_breaks
from octopus.execution.reconcile import reconcile as compare_books
from resources.brokers.base import Broker, RevisingBroker
from resources.price_feed import PriceFeed
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.audit_log import AuditLog
from resources.warehouse.order_store import OrderStore

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions
    from resources.clock import Clock


@dataclass(frozen=True)
class BookSettings:
    """How the books are kept.

    Attributes:
        lookback: how far back the books' fills and entries are compared, and late fills looked for.
        data_patience: how long after a session's close its bars may still arrive; until then no NAV is struck for it.
        lot: smallest quantity the account may hold, for fractions that a split leaves over.
        cash_tolerance: a difference in cash from which on it is a break.
        share_tolerance: a difference in shares, without a record that explains it, from which on it is a break; zero:
            any.
        amount_tolerance: prices, fees and payments that both books have, and with different amounts, halt once these
            differ by so much in all, in the account's currency.
        halt_on_breaks: whether a break in shares, cash or fills halts trading until a person resumes it.
    """

    lookback: timedelta = timedelta(days=30)
    data_patience: timedelta = timedelta(0)
    lot: Decimal = QUANTITY_STEP
    cash_tolerance: Decimal = CENT
    share_tolerance: Decimal = Decimal(0)
    amount_tolerance: Decimal = Decimal(100)
    halt_on_breaks: bool = True


@dataclass(frozen=True)
class Comparison:
    """Our book against one statement of the broker.

    Attributes:
        since: from when on both have their fills and entries.
        unseen: why a person must look at what happened since the comparison before; empty where the broker tells.
    """

    breaks: tuple[Break, ...]
    ours: Book
    theirs: Book
    since: datetime
    unseen: str

    @property
    def told_until(self) -> datetime | None:
        """How far the broker's records reach; None: to now."""
        return self.theirs.told.until if self.theirs.told else None


@dataclass(frozen=True)
class Bookkeeper:
    """Keeps the books of accounts whose lock the caller holds.

    Attributes:
        store: the orders that fills are of, and the kill switch.
        feed: closing prices and expected corporate actions, never the broker's word for them.
        sessions: the exchange's calendar.
    """

    store: OrderStore
    broker: Broker
    clock: Clock
    audit: AuditLog
    feed: PriceFeed
    sessions: Sessions
    settings: BookSettings

    @property
    def books(self) -> AccountBooks:
        """The books that are kept."""
        return AccountBooks(self.store)

    def session_at(self, instant: datetime) -> date:
        """The session running at ``instant``, or the next one: money that comes after a close is not in its NAV."""
        session = self.sessions.previous(instant.date())
        while self.sessions.close_utc(session) < instant:
            session = self.sessions.next(session)
        return session

    def take_fills(self, account: str) -> int:
        """Book fills of ours that the broker tells and we do not have, and what it revised; how many are new."""
        # Only fills of our orders are booked, so that asking for more is harmless: by a clock that is behind ours the
        # first ones were before the account was adopted.
        booked, since = 0, self._since(account) - _CLOCKS_APART
        known = {fill.fill_id for fill in self.books.fills(account, since)}
        for fill in self.broker.fills(since):
            if fill.fill_id not in known and self.books.record_fill(
                account, fill, self.sessions.trade_date(fill.at), self.clock.now()
            ):
                booked += 1
        self._take_revisions(account, since)
        return booked

    def update_positions(self, account: str) -> Mapping[date, NavStatement]:
        """Book late fills, flows and corporate actions, and strike the NAV of every session that is over and has none
        yet."""
        self.take_fills(account)
        since, theirs = self._recognise_flows(account)
        struck: dict[date, NavStatement] = {}
        for session in self._recognised_sessions(account, self.clock.now()):
            self._take_roundings(account, since, theirs)
            struck[session] = self._strike(account, session)
            self.store.drain_outbox(self.audit)
        return struck

    def reconcile(self, account: str, session: date) -> tuple[Break, ...]:
        """Compare our book with the broker's, store what differs, and halt trading where it must."""
        since = self._since(account)
        theirs = self.broker.statement(since)
        self._take_roundings(account, since, theirs)
        compared = self._compared(account, since, theirs)
        self.conclude(account, session, compared, f"reconciliation of {session}")
        return compared.breaks

    def compare_now(self, account: str) -> Comparison:
        """Book what is known by now (fills, flows, actions), strike nothing, and compare.

        What the running session's open did by our own data and the broker has yet to book is no break before its close;
        nor is what an order may explain whose outcome is unknown: that is told, and frozen, as such.
        """
        self.take_fills(account)
        return self._compared_now(account, *self._recognise_flows(account))

    def compare_again(self, account: str, before: Comparison) -> Comparison:
        """As `compare_now`, after a person booked something: against the same statement of the broker."""
        return self._compared_now(account, before.since, before.theirs)

    def compare(self, account: str) -> Comparison:
        """Our book against the broker's as both are."""
        since = self._since(account)
        return self._compared(account, since, self.broker.statement(since))

    def conclude(self, account: str, session: date, compared: Comparison, what: str) -> None:
        """Store a comparison, and halt trading for a break that nobody knew of.

        One that the comparison before had found as it is halted trading then: a person who resumed since has seen it.

        Args:
            session: whose orders were the last before it. what: names it, in the reason of a halt.
        """
        halting = self._halting(compared.breaks)
        reason = compared.unseen
        if halting and self.settings.halt_on_breaks:
            known = self.books.known_breaks(account)
            if fresh := [item for item in halting if item.break_id not in known]:
                more = f" and {len(fresh) - 1} more" if len(fresh) > 1 else ""
                reason = f"{what} found {fresh[0].detail}{more}; `octopus breaks list` shows what to do"
        self.books.save_reconciliation(
            account, session, compared.breaks, self.clock.now(), compared.told_until, halts=reason
        )
        self.store.drain_outbox(self.audit)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _halting(self, breaks: Sequence[Break]) -> list[Break]:
        """Those of ``breaks`` that halt trading where nobody has seen them."""
        halting = [item for item in breaks if item.kind in _HALTING]
        # A payment that the broker does not have yet is none of these: it may still come.
        amounts = [item for item in breaks if item.kind in AMOUNTS and None not in (item.ours, item.brokers)]
        differ = sum((abs(item.cash_effect) for item in amounts), Decimal(0))
        return halting + amounts if differ >= self.settings.amount_tolerance else halting

    def _compared(self, account: str, since: datetime, theirs: Book) -> Comparison:
        ours, sent = self.books.book(account, since), self.store.sent_ids(account)
        tolerances = self.settings.cash_tolerance, self.settings.share_tolerance
        breaks = compare_books(ours, theirs, sent, *tolerances, self._carried(account, since))
        return Comparison(breaks, ours, theirs, since, self._unseen(account))

    def _carried(self, account: str, since: datetime) -> list[Break]:
        """What the comparison before found of records from before ``since``, unless a person booked it."""
        known = self.books.recorded_breaks(account)
        earlier = [item for item in known if item.at is not None and item.at < since]
        return [item for item in earlier if not self.books.was_booked(account, item.break_id)]

    def _compared_now(self, account: str, since: datetime, theirs: Book) -> Comparison:
        """Once what our own data expects is booked, with those breaks alone that stand while the session runs."""
        for _ in self._recognised_sessions(account, self.clock.now()):
            pass
        self._take_roundings(account, since, theirs)
        self.store.drain_outbox(self.audit)
        compared = self._compared(account, since, theirs)
        opened = self.sessions.open_utc(self.session_at(self.clock.now()))
        frozen = {order.order.instrument for order in self.store.unresolved(account)}
        known = self.books.known_breaks(account)
        return replace(compared, breaks=standing_breaks(compared.breaks, opened, frozen, known))

    def _take_revisions(self, account: str, since: datetime) -> None:
        """Book what the broker broke or corrected of our fills, whenever the trades were."""
        if isinstance(self.broker, RevisingBroker):
            for revision in self.broker.revisions(since):
                session = self.sessions.trade_date(revision.at)
                self.books.record_revision(account, revision, session, self.clock.now())

    def _take_roundings(self, account: str, since: datetime, theirs: Book) -> None:
        """Book by how little the broker's payments differ from ours, so that it never adds up to a break in cash."""
        ours = self.books.book(account, since)
        found, now = roundings(ours, theirs, self.settings.cash_tolerance), self.clock.now()
        for item in found:
            for entry in correction(item, found, ours, theirs, now, Told("the broker's rounding")).entries:
                self.books.recognise(account, entry, self.session_at(entry.at), now)

    def _sessions_without_nav(self, account: str, now: datetime) -> Iterator[date]:
        """Sessions that have opened, from the one after the last NAV (or of the first movement), ascending."""
        last = self.books.last_nav(account)
        first = self.books.first_session(account) if last is None else self.sessions.next(last.session)
        while first is not None and self.sessions.open_utc(first) <= now:
            yield first
            first = self.sessions.next(first)

    def _recognised_sessions(self, account: str, now: datetime) -> Iterator[date]:
        """Sessions without a NAV whose bars are in, each with its actions booked; of one that runs, the opening's."""
        self._recognise_late(account, now)
        last_bar = self.feed.last_session()
        for session in self._sessions_without_nav(account, now):
            self._recognise_actions(account, session)
            has_bars = last_bar is not None and session <= last_bar
            if now < self.sessions.close_utc(session) + (timedelta(0) if has_bars else self.settings.data_patience):
                return
            self._recognise_closings(account, session)
            yield session

    def _recognise_flows(self, account: str) -> tuple[datetime, Book]:
        """Deposits, withdrawals and charges: only the broker can tell us of them.

        Returns:
            its statement that told them, cut to what the books are compared by, and since when that is.
        """
        since = self._since(account)
        began = self.books.last_nav(account) or self.books.adopted_at(account)
        told = self.broker.statement(since if began else None)
        for entry in told.entries:
            if entry.kind.is_told:
                self.books.recognise(account, entry, self.session_at(entry.at), self.clock.now())
        return since, told.cut(since)

    def _recognise_actions(self, account: str, session: date) -> None:
        """Changes of symbol, splits and dividends that our own data expects of what our own book held before."""
        # What was heard of late belongs to this session, and was held before it all the same.
        positions = self.books.positions(account, session, self.sessions.open_utc(session))
        if not positions:
            return
        before = self.sessions.previous(session)
        actions = self.feed.actions(sorted(positions), self.sessions.open_utc(before), self.sessions.open_utc(session))
        for entry in opening_entries(
            actions, positions, lambda name: self.feed.last_close(name, before, session), self.settings.lot
        ):
            self.books.recognise(account, entry, session, self.clock.now())

    def _recognise_late(self, account: str, now: datetime) -> None:
        """Actions of sessions with a NAV, as far as the lookback reaches, that our own data heard of since: by what was
        held then, in the first session without one."""
        last, first = self.books.last_nav(account), self.books.first_session(account)
        if last is None or first is None:
            return
        fills, entries = self.books.movements(account, None, last.session)
        names = {fill.instrument for fill in fills} | {one.instrument for one in entries if one.instrument is not None}
        start = max(first, self.session_at(now - self.settings.lookback))
        if not names or start > last.session:
            return
        since, until = self.sessions.close_utc(self.sessions.previous(start)), self.sessions.close_utc(last.session)
        actions = self.feed.actions(sorted(names), since, until)
        for session in sorted({self.session_at(action.at) for action in actions}):
            self._recognise_actions(account, session)
            self._recognise_closings(account, session)

    def _recognise_closings(self, account: str, session: date) -> None:
        """Worths of spun-off shares and delistings that our own data expects at the session's close."""
        fills, entries = self.books.movements(account, None, session)
        names = {fill.instrument for fill in fills} | {one.instrument for one in entries if one.instrument is not None}
        if not names:
            return
        before = self.sessions.previous(session)
        actions = self.feed.actions(sorted(names), self.sessions.close_utc(before), self.sessions.close_utc(session))
        for entry in closing_entries(
            actions,
            positions_of(fills, entries),
            lambda opened, name: held_at(fills, entries, opened).get(name, Decimal(0)),
        ):
            self.books.recognise(account, entry, session, self.clock.now())

    def _strike(self, account: str, session: date) -> NavStatement:
        last = self.books.last_nav(account)
        opening = last.holdings if last else Holdings(Decimal(0), {}, {})
        fills, entries = self.books.movements(account, last.session if last else None, session)
        names = {*opening.positions, *(fill.instrument for fill in fills)}
        names |= {entry.instrument for entry in entries if entry.instrument is not None}
        closes = {name: self.feed.last_close(name, session) for name in sorted(names)}
        nav = strike_nav(opening, fills, entries, {name: price for name, price in closes.items() if price is not None})
        self.books.save_nav(account, session, nav, self.clock.now())
        return nav

    def _since(self, account: str) -> datetime:
        """Since when the broker is asked: back to the last comparison of the books and, for half a year, to what still
        differed then, as far as its records reach."""
        now, last = self.clock.now(), self.books.last_reconciled(account)
        standing = [item.at - _OVERLAP for item in self.books.recorded_breaks(account) if item.at is not None]
        wanted = min([now - self.settings.lookback, *(at for at in standing if at >= now - _OPEN_FOR)])
        if last is not None:
            wanted = min(wanted, last - _OVERLAP)
        adopted = self.books.adopted_at(account)
        if adopted is not None:
            wanted = max(wanted, adopted)
        return wanted if self.broker.keeps is None else max(wanted, now - self.broker.keeps)

    def _unseen(self, account: str) -> str:
        """Why a person must look at what happened since the books were last compared; empty where the broker tells."""
        last, keeps = self.books.last_reconciled(account), self.broker.keeps
        if keeps is None or last is None or last >= self.clock.now() - keeps:
            return ""
        return (
            f"the books were last compared on {last:%Y-%m-%d}, and {self.broker.name} keeps records of {keeps.days} "
            "days: go through its statements of the time between, settle what `octopus breaks list` shows, then "
            "`octopus resume`"
        )


_OVERLAP = timedelta(days=1)
"""How much of what was compared before is asked for again: some venues date by the day."""

_OPEN_FOR = timedelta(days=180)
"""So long a record that differs is asked for again; then it is known by what it explained."""

_CLOCKS_APART = timedelta(hours=1)
"""No venue's clock is further from ours."""

_HALTING = frozenset(
    {
        BreakKind.QUANTITY,
        BreakKind.CASH,
        BreakKind.SPLIT,
        BreakKind.SYMBOL_CHANGE,
        BreakKind.DELISTING,
        BreakKind.MANUAL_TRADE,
        BreakKind.MISSING_FILL,
        BreakKind.UNKNOWN_FILL,
    }
)
"""Breaks after which our book may not be what we hold."""
