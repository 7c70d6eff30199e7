"""A worker dies at any failpoint, over and over, at a venue with faults of its own: nothing is lost or doubled.

The worker's connections are closed under it and an exception carries it out; the next one has only the database and
the venue. `test_execution_kills.py` does the same with real processes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from execution_support import CLOSE, OPEN, D, Desk, ManualClock, VenueBroker, flat_feed, order_ids, rows, store_plan

from octopus.core.orders import Batch, Side
from octopus.execution.reconcile import BreakKind
from resources.brokers.base import Guarantee
from resources.execution_engine import FAILPOINTS, ExecutionEngine
from resources.warehouse.audit_log import verify

NAMES = ("AAA", "BBB", "CCC")
FAULTS = ("ok", "ok", "ok", "lost", "dropped", "late", "down")


class CrashError(Exception):
    """The worker is gone."""


def crash_at(engine_of: Callable[[], ExecutionEngine], name: str, occurrence: int, hit: Counter[str]):  # type: ignore[no-untyped-def]
    left = [occurrence]

    def failpoint(reached: str) -> None:
        if reached == name:
            left[0] -= 1
            if left[0] == 0:
                hit[name] += 1
                engine_of().store.connection.close()
                raise CrashError(name)

    return failpoint


def attempt(desk: Desk, batch: Batch, run_id: str, name: str, occurrence: int, hit: Counter[str]) -> bool:
    """Execute until the end (True) or the crash (False)."""
    holder: list[ExecutionEngine] = []
    with desk.engine(failpoint=crash_at(lambda: holder[0], name, occurrence, hit)) as engine:
        holder.append(engine)
        try:
            engine.execute_batch(batch.batch_id, run_id)
        except (CrashError, psycopg.OperationalError):
            assert engine.store.connection.closed
            return False
    return True


def run_seed(url: str, seed: int, hit: Counter[str]) -> None:
    rng = random.Random(seed)
    account = f"crash-{seed}"
    clock = ManualClock(OPEN + timedelta(hours=1))
    guarantee = rng.choice(list(Guarantee))
    venue = VenueBroker(account, clock, guarantee, rng.choices(FAULTS, k=8), fills_at=CLOSE)
    desk = Desk(url, account, clock, flat_feed(NAMES), venue)
    desk.open()
    batch = store_plan(url, account, [(n, rng.choice(list(Side)), D(rng.randint(1, 50))) for n in NAMES])

    first = FAILPOINTS[seed % len(FAILPOINTS)]
    often = first in ("after_fill_commit", *(name for name in FAILPOINTS if "submit" in name or "result" in name))
    attempt(desk, batch, "run-1", first, rng.randint(1, 3) if often else 1, hit)
    for number in range(rng.randint(0, 2)):
        attempt(desk, batch, f"run-{number + 2}", rng.choice(FAILPOINTS), rng.randint(1, 3), hit)
    venue.script.clear()
    done = desk.execute(batch, "last")
    check(desk, venue, batch, done.breaks)


def check(desk: Desk, venue: VenueBroker, batch: Batch, breaks: tuple) -> None:  # type: ignore[type-arg]
    account = desk.account
    assert all(len(standing) == 1 for standing in venue.orders.values()), "an order stands twice"
    if venue.guarantee is not Guarantee.IDEMPOTENT_KEY:
        assert_sent_once_unless_known_unsent(venue)

    states = desk.states(batch)
    assert set(states) == set(NAMES), "an order was lost"
    ends = {"filled", "expired", "cancelled", "rejected"}
    unknown_allowed = {"unknown"} if venue.guarantee is Guarantee.NOTHING else set()
    assert set(states.values()) <= ends | unknown_allowed, states

    filled = dict(
        rows(desk.url, "select instrument, sum(quantity) from execution.fills where account = %s group by 1", account)
    )
    theirs = {f.instrument: f.quantity for f in venue.executed if f.client_order_id}
    assert filled == theirs
    assert {name for name, state in states.items() if state == "filled"} == set(theirs)
    ended = {o.instrument: o.state.value for (o,) in venue.orders.values()}
    assert all(states[name] in (state, "unknown") for name, state in ended.items()), (states, ended)
    hand = [f for f in venue.executed if not f.client_order_id]
    assert [item.kind for item in breaks] == [BreakKind.MANUAL_TRADE] * len(hand), breaks

    events = rows(
        desk.url,
        "select e.client_order_id, count(*) from execution.order_events e "
        "join execution.orders o using (client_order_id) where o.account = %s group by 1",
        account,
    )
    told = rows(
        desk.url,
        "select subject, count(*) from audit.log where kind like 'order.%%' and subject = any(%s) group by 1",
        order_ids(batch),
    )
    assert dict(events) == dict(told), "the audit log misses an event or has it twice"
    assert rows(desk.url, "select 1 from execution.outbox") == []


def assert_sent_once_unless_known_unsent(venue: VenueBroker) -> None:
    """Sent again only after the venue said ``down``: that send definitely did not arrive."""
    assert all(count == 1 for count in Counter(venue.arrived).values()), venue.arrived


def test_no_order_is_lost_or_doubled_whenever_a_worker_dies(database_url: str) -> None:
    hit: Counter[str] = Counter()
    for seed in range(4 * len(FAILPOINTS)):
        run_seed(database_url, seed, hit)
    assert set(hit) == set(FAILPOINTS), set(FAILPOINTS) - set(hit)
    assert verify(database_url).ok


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1600, 60))
def test_no_order_is_lost_or_doubled_over_many_more_seeds(database_url: str, start: int) -> None:
    hit: Counter[str] = Counter()
    for seed in range(start, start + 60):
        run_seed(database_url, seed, hit)
    assert len(hit) >= len(FAILPOINTS) - 2, set(FAILPOINTS) - set(hit)
    assert verify(database_url).ok
