"""What a watchdog sees amiss: missed and late runs, stale data, a dead daemon, orders beyond their window, sent or not,
and slices that keep their schedule waiting.

Belongs here: from facts to alerts, by the exchange's calendar. Does not: finding the facts (resources/alerts/facts.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from octopus.alerts.alert import Alert, Kind
from octopus.core.cadence import tick_of
from octopus.core.ids import fingerprint

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions

_NAMED = 10
"""Orders in one sentence; the rest is counted."""


class RunState(StrEnum):
    """How far the daily pipeline of a session is."""

    ABSENT = "absent"
    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Patience:
    """How long things may take.

    Attributes:
        run: from the start of a session's daily pipeline, which is its decision or its schedule's tick if that is
            later, to its end, data included.
        heartbeat: the daemon beats every few seconds.
        order: from the end of an order's window to its end at the broker.
        database: from the first look that came to nothing to a halt for it: a restart takes seconds.
    """

    run: timedelta = timedelta(hours=3)
    heartbeat: timedelta = timedelta(minutes=5)
    order: timedelta = timedelta(minutes=30)
    database: timedelta = timedelta(minutes=2)


@dataclass(frozen=True)
class LateOrder:
    """An order that may still fill."""

    client_order_id: str
    instrument: str
    state: str
    expires_at: datetime


@dataclass(frozen=True)
class UnsentOrder:
    """An order that was approved and has not reached the broker, as far as is known, though its window is over.

    Attributes:
        client_order_id: its id; of the rest of a scheduled order, for which there is none, what tells it apart.
        told: side, quantity and instrument.
        reason: why it ended; empty where no run has ended it.
        is_rest: it is what no slice was cut for of a scheduled order.
    """

    batch_id: str
    client_order_id: str
    told: str
    expires_at: datetime
    reason: str = ""
    is_rest: bool = False


@dataclass(frozen=True)
class StandingSlice:
    """A slice of a scheduled order that has not filled although the next one's time has come.

    Attributes:
        told: side, what is left of it and instrument.
        rest: what no slice was cut for of the order, a number of shares.
    """

    client_order_id: str
    told: str
    state: str
    sent_at: datetime
    rest: str


@dataclass(frozen=True)
class PlannedBatch:
    """The current batch of the account.

    Attributes:
        awaits_release: a person has to release it first.
        executed: its orders were decided, sent or denied, or it plans none. A run that took it up and got no further
            has executed nothing.
    """

    batch_id: str
    not_before: datetime
    expires_at: datetime
    awaits_release: bool
    executed: bool


@dataclass(frozen=True)
class Facts:
    """What is known at ``now`` (of the trading clock).

    Attributes:
        source: of the bars that are traded on. last_bar: its latest session.
        due: the latest session whose decision is past; None on a recording, where no run is due and no bar will come.
        run: of that session.
        heartbeat: the daemon's last one, wall clock; None: it never ran. seen_at: when that was read, wall clock.
        watches_daemon: whether a daemon should run at all.
        keeps_books: whether anything is booked in the account. compared: the latest session after which our book was
            compared with the broker's.
    """

    now: datetime
    seen_at: datetime
    source: str
    last_bar: date | None
    due: date | None
    run: RunState = RunState.ABSENT
    open_orders: tuple[LateOrder, ...] = ()
    unsent: tuple[UnsentOrder, ...] = ()
    standing: tuple[StandingSlice, ...] = ()
    batch: PlannedBatch | None = None
    watches_daemon: bool = False
    heartbeat: datetime | None = None
    keeps_books: bool = False
    compared: date | None = None


def assess(facts: Facts, sessions: Sessions, patience: Patience) -> list[Alert]:
    """What people should be told of ``facts``, worst first of each kind; the same state gives the same keys."""
    found = [*_orders(facts, patience), *_unsent(facts), *_standing(facts), *_batch(facts), *_daemon(facts, patience)]
    if facts.due is not None and facts.now > _begins(facts.due, sessions) + patience.run:
        found += [*_data(facts, facts.due), *_run(facts, facts.due, sessions), *_books(facts, facts.due)]
    return found


def _begins(session: date, sessions: Sessions) -> datetime:
    """When the daily pipeline of ``session`` begins by itself; a short session is decided hours before that."""
    return max(sessions.decision_utc(session), tick_of(sessions, session))


def halts_from(alert: Alert, patience: Patience) -> datetime:
    """From when on trading may be halted for ``alert``."""
    is_passing = alert.kind in (Kind.DATABASE_DOWN, Kind.WATCHDOG_BLIND)
    return alert.at + (patience.database if is_passing else timedelta(0))


def database_down(since: datetime, reason: str) -> Alert:
    """The database has not answered since ``since``."""
    happened = f"{reason}; nothing is sent without it, and orders that stand at the broker may still fill"
    return Alert(Kind.DATABASE_DOWN, "database", happened, since, f"database_down:{since.isoformat()}")


def watchdog_blind(since: datetime, reason: str) -> Alert:
    """The database answers, and no look at it has come to an end since ``since``."""
    happened = f"{reason}; runs, data and orders are watched by nobody until a look succeeds"
    return Alert(Kind.WATCHDOG_BLIND, "watchdog", happened, since, f"watchdog_blind:{since.isoformat()}")


def database_back(since: Mapping[Kind, datetime], now: datetime) -> Alert:
    """A look has succeeded at ``now``; ``since``, by kind of failure, none had."""
    first = min(since.values())
    what = "the database did not answer" if Kind.DATABASE_DOWN in since else "no look at the database succeeded"
    lasted = timedelta(seconds=round((now - first).total_seconds()))
    happened = f"{what} from {first.isoformat(timespec='seconds')} on, for {lasted}"
    return Alert(Kind.DATABASE_BACK, "database", happened, now, f"database_back:{first.isoformat()}")


def _orders(facts: Facts, patience: Patience) -> Iterator[Alert]:
    for order in facts.open_orders:
        if facts.now > order.expires_at + patience.order:
            happened = (
                f"order {order.client_order_id} in {order.instrument} is {order.state}, although its window ended at "
                f"{order.expires_at.isoformat()}"
            )
            key = f"open_order:{order.client_order_id}"
            yield Alert(Kind.OPEN_ORDER, order.client_order_id, happened, facts.seen_at, key)


def _unsent(facts: Facts) -> Iterator[Alert]:
    batches: dict[str, list[UnsentOrder]] = {}
    for order in facts.unsent:
        batches.setdefault(order.batch_id, []).append(order)
    for name, orders in batches.items():
        listed = ", ".join(order.told for order in orders[:_NAMED])
        more = f" and {len(orders) - _NAMED} more" if len(orders) > _NAMED else ""
        why = "; ".join(sorted({order.reason or "no run has taken them up since" for order in orders}))
        happened = (
            f"{' and '.join(_kinds(orders))} of batch {name} did not reach the broker before its window closed at "
            f"{orders[0].expires_at.isoformat()}: {listed}{more} ({why})"
        )
        # Ended by a run or not, they are the same orders; one whose send is settled only later is told then.
        which = fingerprint(sorted(order.client_order_id for order in orders))
        yield Alert(Kind.UNSENT_ORDERS, name, happened, facts.seen_at, f"unsent_orders:{name}:{which}")


def _standing(facts: Facts) -> Iterator[Alert]:
    for one in facts.standing:
        happened = (
            f"order {one.client_order_id}, {one.told}, is {one.state} since {one.sent_at.isoformat()}, and the next "
            f"slice's time has come: none of the {one.rest} shares that are left is sent until it has filled or ended"
        )
        key = f"standing_slice:{one.client_order_id}"
        yield Alert(Kind.STANDING_SLICE, one.client_order_id, happened, facts.seen_at, key)


def _kinds(orders: Sequence[UnsentOrder]) -> Iterator[str]:
    rests = sum(order.is_rest for order in orders)
    if len(orders) > rests:
        yield f"{len(orders) - rests} approved orders"
    if rests:
        yield f"the rest of {rests} scheduled orders"


def _batch(facts: Facts) -> Iterator[Alert]:
    batch = facts.batch
    if batch is None or batch.executed:
        return
    name = batch.batch_id
    if batch.awaits_release and facts.now < batch.expires_at:
        happened = f"batch {name} may be sent from {batch.not_before.isoformat()} and awaits `octopus release {name}`"
        yield Alert(Kind.AWAITING_RELEASE, name, happened, facts.seen_at, f"awaiting_release:{name}")
    elif facts.now >= batch.expires_at:
        why = "nobody released it" if batch.awaits_release else "no run took it up, or none got as far as its orders"
        happened = f"the window of batch {name} closed at {batch.expires_at.isoformat()} and {why}"
        yield Alert(Kind.MISSED_RUN, name, happened, facts.seen_at, f"missed_run:execute:{name}")


def _daemon(facts: Facts, patience: Patience) -> Iterator[Alert]:
    if not facts.watches_daemon:
        return
    beat = facts.heartbeat
    if beat is None or facts.seen_at - beat > patience.heartbeat:
        since = "ever" if beat is None else f"since {beat.isoformat(timespec='seconds')}"
        happened = f"Dagster's daemon has not been heard of {since}: no schedule and no sensor runs"
        yield Alert(Kind.DEAD_DAEMON, "Dagster daemon", happened, facts.seen_at, f"dead_daemon:{since}")


def _data(facts: Facts, due: date) -> Iterator[Alert]:
    if facts.last_bar is None or facts.last_bar < due:
        happened = f"the last bar of {facts.source} is of {facts.last_bar}, and session {due} is over"
        yield Alert(Kind.STALE_DATA, facts.source, happened, facts.seen_at, f"stale_data:{facts.source}:{due}")


def _run(facts: Facts, due: date, sessions: Sessions) -> Iterator[Alert]:
    if facts.run is RunState.DONE:
        return
    told = {
        RunState.ABSENT: "was never started",
        RunState.RUNNING: "is not through",
        RunState.FAILED: "failed and was not made up for",
    }[facts.run]
    happened = f"the daily pipeline of {due} (decided at {sessions.decision_utc(due).isoformat()}) {told}"
    # A late run that dies later is said again.
    yield Alert(Kind.MISSED_RUN, str(due), happened, facts.seen_at, f"missed_run:{due}:{facts.run.value}")


def _books(facts: Facts, due: date) -> Iterator[Alert]:
    if facts.keeps_books and (facts.compared is None or facts.compared < due):
        last = "never" if facts.compared is None else f"last after {facts.compared}"
        happened = (
            f"session {due} is over and our book was not compared with the broker's ({last}): run the job `reconcile`, "
            "and see that its schedule `daily_reconciliation` is on"
        )
        yield Alert(Kind.MISSED_RUN, f"books of {due}", happened, facts.seen_at, f"missed_run:reconcile:{due}")
