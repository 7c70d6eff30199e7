"""Real processes, really killed: a worker gets SIGKILL at each of its effects, or at any moment, and another finishes.

The venues outlive the workers (kill_venues.py): the paper broker is a third process with a ledger of its own, which
drops connections before and after it accepts orders; the others' APIs are served over real sockets, with their faults.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Client
from pathlib import Path

import pytest
from crash_proof import count_points
from execution_support import NAMES, OPEN, ROOT, D, FileClock, order_ids, rows, store_plan
from execution_worker import work
from kill_venues import HOUSES, Executed, House, Standing
from test_execution_crashes import paper_stand

from octopus.core.orders import Batch, Side
from octopus.execution.replacements import REPLACEABLE
from octopus.execution.states import TERMINAL
from resources.warehouse.audit_log import verify
from resources.warehouse.order_store import OrderStore

HERE = Path(__file__).parent
COMMITS = (
    "drain_outbox", "claim", "begin_send", "record", "record_fill", "finish", "recognise", "save_nav",
    "save_reconciliation",
)  # fmt: skip
QUESTIONS = ("snapshot", "submit", "order", "fills", "statement")
POINTS = (
    *(f"{name}: {side}" for name in COMMITS for side in ("before commit", "committed")),
    *(f"{name}: {side}" for name in QUESTIONS for side in ("before asking", "answered")),
    "anchor: before", "anchor: moved", "wait: begun", "wait: over",
)  # fmt: skip
"""Every effect of an engine that executes a batch, before and after: `test_the_points_are_those_of_the_engine`."""
REPEATED = ("record_fill", "begin_send", "submit", "record", "drain_outbox", "anchor")
_CANCELLED_FIRST = [
    *(
        f"{name}: {side}" for name in ("claim", "begin_way", "record", "begin_send", "settle_swap")
        for side in ("before commit", "committed")
    ),
    *(f"{name}: {side}" for name in ("cancel", "submit") for side in ("before asking", "answered")),
]  # fmt: skip
REPLACING = {
    "paper": [
        f"{name}: {side}" for name in ("claim", "begin_send", "record", "settle_swap")
        for side in ("before commit", "committed")
    ] + ["replace: before asking", "replace: answered"],
} | dict.fromkeys(("alpaca", "coinbase", "schwab", "ib"), _CANCELLED_FIRST)  # fmt: skip
"""Effects of replacing an order, at a venue that does it in one step and at one where an order is cancelled first."""
_LAST_COMPARED = """
    select kind from execution.reconciliation r where account = %s and session = (
        select max(l.session) from execution.reconciliation l where l.account = r.account)
"""
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Stage:
    url: str
    folder: Path
    houses: list[House] = field(default_factory=list)


@pytest.fixture
def stage(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The venue's process, running, and workers that start from a process with everything imported."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE)]))
    PROCESSES.set_forkserver_preload(["execution_worker"])
    command = [sys.executable, str(HERE / "execution_broker_server.py"), database_url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready"
        stage = Stage(database_url, tmp_path)
        yield stage
        for house in stage.houses:
            house.close()
        with Client(str(tmp_path / "socket"), "AF_UNIX") as connection:
            connection.send(("", "stop", ()))
        server.wait(10)


@dataclass(frozen=True)
class Case:
    """One account and its batch at one venue."""

    stage: Stage
    account: str
    batch: Batch
    rng: random.Random
    house: House

    def start(self, run_id: str, kill: tuple[str, int] | None):  # type: ignore[no-untyped-def]
        arguments = (
            self.stage.url,
            self.stage.folder,
            self.account,
            self.batch.batch_id,
            self.house.place,
            run_id,
            kill,
        )
        process = PROCESSES.Process(target=work, args=arguments)
        process.start()
        return process


def begin(stage: Stage, adapter: str, seed: int) -> Case:
    rng = random.Random(seed)
    account = f"kill-{adapter}-{seed}"
    clock = FileClock(stage.folder / f"{account}.clock")
    clock.path.write_text(HOUSES[adapter].begins.isoformat())
    with OrderStore.opened(stage.url) as store:
        store.open_account(account, "test", "opened for a test", OPEN)
    batch = store_plan(stage.url, account, [(n, rng.choice(list(Side)), D(rng.randint(1, 50))) for n in NAMES])
    house = HOUSES[adapter](stage.url, stage.folder, account, clock, rng)
    stage.houses.append(house)
    return Case(stage, account, batch, rng, house)


def finish_and_check(case: Case, replacements: Sequence[str] = ()) -> None:
    """Another process ends the batch; then both ledgers, the orders and the audit log must agree."""
    stage, account = case.stage, case.account
    wanted = [*order_ids(case.batch), *replacements]
    last = case.start("last", None)
    last.join(60)
    assert last.exitcode == 0
    asked = (
        "select o.client_order_id, i.instrument, i.side, coalesce(o.quantity, i.quantity), o.filled_quantity, o.state "
        "from execution.orders o join execution.order_intents i using (intent_id) where o.account = %s"
    )
    ours = {row[0]: Standing(*row) for row in rows(stage.url, asked, account)}
    assert set(ours) == set(wanted), "an order was lost"
    theirs = case.house.orders()
    told_of = {one.client_order_id for one in theirs}
    # One whose id the venue never told us.
    named = {one.instrument: name for name, one in ours.items() if name not in told_of}
    standing: Counter[str] = Counter()
    unknown = {one.instrument for one in ours.values() if one.state == "unknown"}
    assert not unknown or not case.house.keeps_ids, "a venue that can be asked for an order was not"
    for one in theirs:
        mine = ours.pop(one.client_order_id or named[one.instrument], None)
        assert mine is not None, "an order that nobody planned, or one that stands twice"
        known = {name: value for name, value in one._asdict().items() if value is not None}
        assert one.instrument in unknown or mine._replace(**known) == mine, "an order is another at the venue"
        assert mine.state in TERMINAL or mine.state == "unknown"
        standing[one.instrument] += mine.state not in ("replaced", "cancelled")
    assert max(standing.values(), default=0) <= 1, "an instrument was ordered twice"
    assert all(one.state in ("expired", "unknown") and one.filled == 0 for one in ours.values()), f"no order: {ours}"
    assert not (case.house.resendable and ours), "a venue that may be asked again was not"

    asked = "select fill_id, instrument, side, quantity, price from execution.fills where account = %s"
    our_fills, their_fills = [Executed(*row) for row in rows(stage.url, asked, account)], case.house.fills()
    if any(fill.fill_id is None for fill in their_fills):
        our_fills = [fill._replace(fill_id=None) for fill in our_fills]
    ownerless = [fill for fill in their_fills if fill.instrument in unknown]
    assert Counter(our_fills) + Counter(ownerless) == Counter(their_fills), "our fills are not the venue's"
    kinds = {kind for (kind,) in rows(stage.url, _LAST_COMPARED, account)}
    assert kinds == ({"breaks", "manual_trade"} if ownerless else {"ok"})
    events = rows(
        stage.url,
        "select client_order_id, count(*) from execution.order_events where client_order_id = any(%s) group by 1",
        wanted,
    )
    told = rows(
        stage.url,
        "select subject, count(*) from audit.log where kind like 'order.%%' and subject = any(%s) group by 1",
        wanted,
    )
    assert dict(events) == dict(told), "the audit log misses an event or has it twice"


def kill_at(stage: Stage, adapter: str, seed: int, point: str, occurrence: int, hit: Counter[str]) -> None:
    """Kill a worker at the point, perhaps a second one at another, and let a third finish."""
    case = begin(stage, adapter, seed)
    first = case.start("run-0", (point, occurrence))
    first.join(60)
    assert first.exitcode == -signal.SIGKILL, f"{point} was not reached {occurrence} times"
    hit[point] += 1
    if case.rng.random() < 0.3:
        second = case.start("run-1", (case.rng.choice(POINTS), 1))
        second.join(60)
        hit["a second worker"] += second.exitcode == -signal.SIGKILL
    finish_and_check(case)


def kill_at_any_moment(stage: Stage, adapter: str, seed: int) -> int:
    case = begin(stage, adapter, seed)
    worker = case.start("run-0", None)
    worker.join(case.rng.uniform(0.0, 0.6))
    worker.kill()
    worker.join(60)
    finish_and_check(case)
    return int(worker.exitcode == -signal.SIGKILL)


def kill_while_replacing(stage: Stage, adapter: str, seed: int, point: str, hit: Counter[str]) -> None:
    """Orders stand, a person asks to replace them, and the worker that does so is killed at the point."""
    case = begin(stage, adapter, seed)
    if case.house.venue is not None:
        case.house.venue.script.clear()
    first = case.start("run-0", ("wait: begun", 1))
    first.join(60)
    with OrderStore.opened(stage.url) as store:
        asked = [
            store.ask_replacement(one.client_order_id, D(60), None, "ann", "drawn", OPEN, D(1))
            for one in store.orders(case.account, REPLACEABLE)
        ]
    assert asked
    second = case.start("run-1", (point, 1))
    second.join(60)
    assert second.exitcode == -signal.SIGKILL, f"{point} was not reached"
    hit[point] += 1
    finish_and_check(case, asked)
    unsettled = rows(
        stage.url,
        "select state from execution.replacements join execution.orders using (client_order_id) "
        "where execution.replacements.account = %s and outcome is null",
        case.account,
    )
    assert not unsettled or (not case.house.keeps_ids and set(unsettled) == {("unknown",)}), "a request was forgotten"


@pytest.mark.parametrize(("adapter", "share"), [("paper", 0), ("alpaca", 1)])
def test_a_killed_workers_batch_is_finished_by_the_next(stage: Stage, adapter: str, share: int) -> None:
    """A fifth of the effect points, others for each adapter; the slow test kills at all of them."""
    hit: Counter[str] = Counter()
    for seed, point in enumerate(POINTS[share::5]):
        kill_at(stage, adapter, seed, point, 1, hit)
    kill_at_any_moment(stage, adapter, 100)
    assert verify(stage.url, stage.folder / "audit.anchor").ok


@pytest.mark.parametrize(("adapter", "point"), [("paper", "replace: answered"), ("alpaca", "cancel: answered")])
def test_a_replacement_survives_the_worker(stage: Stage, adapter: str, point: str) -> None:
    """At one point for each adapter; the slow test kills at all of them."""
    kill_while_replacing(stage, adapter, 3000, point, Counter())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("adapter", REPLACING)
def test_a_worker_is_killed_at_every_effect_of_replacing(
    stage: Stage, adapter: str, record_property: Callable[[str, object], None]
) -> None:
    hit: Counter[str] = Counter()
    for seed, point in enumerate(REPLACING[adapter], 3001):
        kill_while_replacing(stage, adapter, seed, point, hit)
    assert set(REPLACING[adapter]) <= set(hit)
    assert verify(stage.url, stage.folder / "audit.anchor").ok
    table = {f"SIGKILL at {point}": count for point, count in sorted(hit.items())}
    record_property("proof", {f"{adapter}, replacing, real processes": table})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("adapter", HOUSES)
def test_a_worker_is_killed_at_every_effect_point(
    stage: Stage, adapter: str, record_property: Callable[[str, object], None]
) -> None:
    hit: Counter[str] = Counter()
    for seed, point in enumerate(POINTS, 1000):
        kill_at(stage, adapter, seed, point, 1, hit)
        if point.startswith(REPEATED):
            kill_at(stage, adapter, seed + 500, point, 2, hit)
    moments = sum(kill_at_any_moment(stage, adapter, seed) for seed in range(2000, 2060))
    assert set(POINTS) <= set(hit)
    assert moments
    assert verify(stage.url, stage.folder / "audit.anchor").ok
    table = {f"SIGKILL at {point}": count for point, count in sorted(hit.items())}
    record_property("proof", {f"{adapter}, real processes": {**table, "SIGKILL at any moment": moments}})


def test_the_points_are_those_of_the_engine(database_url: str) -> None:
    """A new commit or question in the engine must be killed at, too."""
    rng = random.Random(0)
    passed = set(count_points(paper_stand(database_url, "points", None, rng)))
    rare = {f"{name}: {side}" for name in ("refuse", "void_unsent", "deny") for side in ("before commit", "committed")}
    assert passed - rare == set(POINTS)


def test_the_clock_that_processes_share_only_moves_forward(tmp_path: Path) -> None:
    (tmp_path / "clock").write_text(OPEN.isoformat())
    clock = FileClock(tmp_path / "clock")
    clock.wait_until(OPEN.replace(year=2021))
    assert clock.now() == OPEN
