"""The NAVs of our book, and what the owner moved in and since them, as the loss stops measure from them.

Belongs here: reading NAVs and flows, and for what part of a session a flow was there. Does not: striking a NAV
(octopus/execution/nav.py), what a stop makes of them (octopus/risk/drawdown.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot
from octopus.core.sessions import Sessions
from octopus.execution.book import Entry, EntryKind
from octopus.execution.nav import Holdings, moved_by_owner, strike_nav
from octopus.risk.drawdown import Flows, Nav
from resources.warehouse.store import Warehouse

_MAY_BE_FLOWS = [kind.value for kind in EntryKind if not kind.is_action]
"""Kinds of entries among which are what the owner moved: no corporate action is."""
_NOTHING_HELD = Holdings(Decimal(0), {}, {})


@dataclass(frozen=True)
class NavHistory:
    """An account's NAVs.

    Attributes:
        warehouse: in any role that may read execution. sessions: the calendar that NAVs are struck by.
    """

    warehouse: Warehouse
    sessions: Sessions

    def navs(self, account: str, session: date) -> tuple[Nav, ...]:
        """Our book's, by session until ``session``, with what the owner moved and when."""
        rows = self.warehouse.rows(
            "select session, opening, closing, flows from execution.nav where account = %s and session <= %s "
            "order by session",
            [account, session],
        )
        moved = [row["session"] for row in rows if row["flows"]]
        entries = self._flow_entries(account, moved) if moved else {}
        return tuple(
            Nav(
                row["session"], row["opening"], row["closing"], row["flows"],
                self._weighed(row["session"], row["flows"], entries.get(row["session"], [])),
            )
            for row in rows
        )  # fmt: skip

    def known(self, account: str, session: date, snapshot: AccountSnapshot) -> tuple[tuple[Nav, ...], Flows] | None:
        """NAVs until ``session``, and what the owner moved since the last and ``snapshot`` has; without any the account
        is new.

        None where the NAV of the session before ``session`` is missing: an old one would hide what was lost since; and
        where shares moved since of which no price is known.
        """
        navs = self.navs(account, session)
        due = self.sessions.previous(session)
        if (not navs or navs[-1].session < due) and self._was_invested(account, due):
            return None
        if not navs:
            return navs, Flows()
        since = self._flows_since(account, navs[-1].session, snapshot)
        return None if since is None else (navs, since)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _flow_entries(self, account: str, days: Sequence[date]) -> dict[date, list[Entry]]:
        """By session, of ``days``, entries that may be flows."""
        rows = self.warehouse.rows(
            "select session, entry_id, kind, instrument, quantity, cash, at from execution.entries where account = %s "
            "and session = any(%s) and kind = any(%s)",
            [account, list(days), _MAY_BE_FLOWS],
        )
        found: dict[date, list[Entry]] = {}
        for row in rows:
            found.setdefault(row.pop("session"), []).append(Entry(**(row | {"kind": EntryKind(row["kind"])})))
        return found

    def _weighed(self, session: date, flows: Decimal, entries: Sequence[Entry]) -> Decimal:
        """``flows`` of ``session``, each times the part of it for which it was there; shares, whose worth of then is
        only known in sum, at the mean of theirs."""
        hours = [(self.sessions.open_utc(session), self.sessions.close_utc(session))]
        moved = [(entry, _part_there(hours, entry.at, hours[0][1])) for entry in moved_by_owner(entries)]
        if all(part == 1 for _, part in moved):
            return flows
        cash = sum((entry.cash for entry, _ in moved), Decimal(0))
        of_shares = [part for entry, part in moved if entry.instrument is not None]
        mean = sum(of_shares, Decimal(0)) / len(of_shares) if of_shares else Decimal(1)
        return sum((entry.cash * part for entry, part in moved), Decimal(0)) + (flows - cash) * mean

    def _flows_since(self, account: str, session: date, snapshot: AccountSnapshot) -> Flows | None:
        """Flows that ``snapshot`` has and the NAV of ``session`` has not, as the next NAV will tell them, but shares at
        the snapshot's prices (at that NAV's where it has none); None where one of them has no price."""
        sessions, last = self.sessions, self._runs_at(snapshot.taken_at)
        rows = self.warehouse.rows(
            "select entry_id, kind, instrument, quantity, cash, at from execution.entries where account = %s "
            "and session > %s and session <= %s and kind = any(%s)",
            [account, session, last, _MAY_BE_FLOWS],
        )
        if not rows:
            return Flows()
        struck = self.warehouse.rows(
            "select instrument, price from execution.positions where account = %s and session = %s and price is not "
            "null", [account, session],
        )  # fmt: skip
        prices = {row["instrument"]: row["price"] for row in struck}
        prices |= {name: price for name, price in snapshot.prices.items() if price}
        entries = [Entry(**(row | {"kind": EntryKind(row["kind"])})) for row in rows]
        days = sessions.between(sessions.next(session), last).tolist()
        hours, moved = [(sessions.open_utc(day), sessions.close_utc(day)) for day in days], Flows()
        for entry in entries:
            try:
                worth = strike_nav(_NOTHING_HELD, (), [entry], prices).flows
            except MissingDataError:
                return None
            part = _part_there(hours, entry.at, snapshot.taken_at)
            moved = Flows(moved.moved + worth, moved.weighed + worth * part)
        return moved

    def _runs_at(self, instant: datetime) -> date:
        """The session in which money that moves at ``instant`` is booked: the first that closes no earlier."""
        sessions = self.sessions
        day = sessions.trade_date(instant)
        return day if instant <= sessions.close_utc(day) else sessions.next(day)

    def _was_invested(self, account: str, session: date) -> bool:
        """Whether the account's NAV may have moved since its last one, by the close of ``session``: it had traded, had
        got shares otherwise (it was taken over with them), or held something at that NAV."""
        moved: bool | None = self.warehouse.scalar(
            "select exists (select from execution.fills where account = %(account)s and session <= %(session)s) "
            "or exists (select from execution.entries where account = %(account)s and session <= %(session)s "
            "and quantity <> 0) or (select closing <> cash from execution.nav where account = %(account)s "
            "and session <= %(session)s order by session desc limit 1)",
            {"account": account, "session": session},
        )
        return bool(moved)


def _part_there(hours: Sequence[tuple[datetime, datetime]], at: datetime, until: datetime) -> Decimal:
    """Of the trading in ``hours`` (opens, closes) until an instant, the part that came after ``at``; 1 before any."""
    tick, none = timedelta(microseconds=1), timedelta(0)
    whole = sum((max(min(close, until) - begin, none) for begin, close in hours), none)
    left = sum((max(min(close, until) - max(begin, at), none) for begin, close in hours), none)
    return Decimal(left // tick) / Decimal(whole // tick) if whole else Decimal(1)
