"""What time it is for trading: the wall clock on live data, a replay clock on recorded data.

Belongs here: telling and awaiting the time. Does not: what a time means (octopus/core/sessions.py).

The replay clock is a row in the warehouse that only moves forward: running a past day again, or a backfill of past
days, cannot move it, so it can never bring an old batch back into its execution window. Live trading knows no clock
but the wall clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

from octopus.core.sessions import Sessions
from resources.warehouse.connection import Role, connect


class Clock(Protocol):
    """Tells and awaits timezone-aware UTC instants."""

    def now(self) -> datetime: ...

    def wait_until(self, instant: datetime) -> None:
        """Return when ``now() >= instant``; at once if that is already so."""
        ...


@dataclass(frozen=True)
class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def wait_until(self, instant: datetime) -> None:
        while (left := (instant - self.now()).total_seconds()) > 0:
            time.sleep(min(left, 30.0))


@dataclass(frozen=True)
class ReplayClock:
    """The clock of recorded data, kept in ``ops.replay_clock``.

    Attributes:
        url: the warehouse.
        sessions: the exchange's calendar.
    """

    url: str
    sessions: Sessions

    def now(self) -> datetime:
        """The replayed instant; the epoch while no session has begun, so that nothing is current yet."""
        with connect(self.url, Role.TRADER, autocommit=True) as connection:
            row = connection.execute("select now_utc from ops.replay_clock").fetchone()
        return row[0] if row else datetime(1970, 1, 1, tzinfo=UTC)

    def session(self) -> date | None:
        """The decision session that has begun last; None before the first."""
        with connect(self.url, Role.TRADER, autocommit=True) as connection:
            row = connection.execute("select session from ops.replay_clock").fetchone()
        return row[0] if row else None

    def begin_session(self, session: date) -> bool:
        """Move to the decision time of ``session``; False (and no move) when the clock is already past that."""
        self.wait_until(self.sessions.decision_utc(session), session)
        return self.session() == session

    def wait_until(self, instant: datetime, session: date | None = None) -> None:
        """Move the clock forward to ``instant``; it never goes back."""
        session = session or self.sessions.last_decided(instant)
        with connect(self.url, Role.TRADER, autocommit=True) as connection:
            connection.execute(
                """
                insert into ops.replay_clock (session, now_utc) values (%(session)s, %(now)s)
                on conflict (one) do update
                set session = greatest(ops.replay_clock.session, excluded.session),
                    now_utc = greatest(ops.replay_clock.now_utc, excluded.now_utc)
                """,
                {"session": session, "now": instant},
            )
