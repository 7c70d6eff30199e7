"""Real processes, really killed: a worker gets SIGKILL at each of its effects, or at any moment, and another finishes.

The venues outlive the workers: the paper broker is a third process with a ledger of its own, which drops connections
before and after it accepts orders; Alpaca's API is served over a real socket, with the faults of `alpaca_venue.py`.
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
from alpaca_venue import AlpacaVenue
from crash_proof import count_points
from execution_broker_server import RemoteBroker
from execution_support import CLOSE, NAMES, OPEN, ROOT, D, FileClock, order_ids, rows, store_plan
from execution_worker import work
from served_venue import ENDS, auction_of
from test_execution_crashes import paper_stand

from octopus.core.orders import Batch, Side
from octopus.execution.replacements import REPLACEABLE
from resources.brokers.base import Guarantee
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
REPLACING = {
    "paper": [
        f"{name}: {side}" for name in ("claim", "begin_send", "record", "settle_swap")
        for side in ("before commit", "committed")
    ] + ["replace: before asking", "replace: answered"],
    "alpaca": [
        f"{name}: {side}" for name in ("claim", "begin_way", "record", "begin_send", "settle_swap")
        for side in ("before commit", "committed")
    ] + [f"{name}: {side}" for name in ("cancel", "submit") for side in ("before asking", "answered")],
}  # fmt: skip
"""Effects of replacing an order, at a venue that does it in one step and at one where an order is cancelled first."""
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Stage:
    url: str
    folder: Path
    alpaca: dict[str, AlpacaVenue] = field(default_factory=dict)


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
        for venue in stage.alpaca.values():
            venue.__exit__()
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
    venue: str

    def start(self, run_id: str, kill: tuple[str, int] | None):  # type: ignore[no-untyped-def]
        arguments = (self.stage.url, self.stage.folder, self.account, self.batch.batch_id, self.venue, run_id, kill)
        process = PROCESSES.Process(target=work, args=arguments)
        process.start()
        return process


def begin(stage: Stage, adapter: str, seed: int) -> Case:
    rng = random.Random(seed)
    account = f"kill-{adapter}-{seed}"
    clock = FileClock(stage.folder / f"{account}.clock")
    clock.path.write_text(OPEN.isoformat())
    with OrderStore.opened(stage.url) as store:
        store.open_account(account, "test", "opened for a test", OPEN)
    batch = store_plan(stage.url, account, [(n, rng.choice(list(Side)), D(rng.randint(1, 50))) for n in NAMES])
    if adapter == "paper":
        return Case(stage, account, batch, rng, rng.choice([Guarantee.IDEMPOTENT_KEY, Guarantee.SEARCHABLE_TAG]).value)
    # The first order fills, so that every effect of booking a fill happens.
    fates = {name: rng.choice(ENDS) for name in NAMES} | {NAMES[0]: "fill in two"}
    venue = AlpacaVenue(cash=D(0), auction=auction_of(fates, lambda: clock.now() >= CLOSE)).__enter__()
    venue.script = [rng.choice(("ok", "ok", "accept_504", "accept_drop", "drop")) for _ in range(6)]
    venue.book("CSD", net_amount="100000", date="2022-12-27")
    stage.alpaca[account] = venue
    return Case(stage, account, batch, rng, venue.url)


def finish_and_check(case: Case, replacements: Sequence[str] = ()) -> None:
    """Another process ends the batch; then both ledgers, the orders and the audit log must agree."""
    stage, account = case.stage, case.account
    wanted = [*order_ids(case.batch), *replacements]
    last = case.start("last", None)
    last.join(60)
    assert last.exitcode == 0
    ours = rows(
        stage.url,
        "select o.client_order_id, i.instrument, i.side, coalesce(o.quantity, i.quantity), o.state, o.filled_quantity "
        "from execution.orders o join execution.order_intents i using (intent_id) where o.account = %s order by 1",
        account,
    )
    assert {row[0] for row in ours} == set(wanted), "an order was lost"
    theirs, their_fills, resendable = (at_paper if account not in stage.alpaca else at_alpaca)(case)
    assert {row[0] for row in theirs} <= set(wanted), "an order that nobody planned"
    assert len(theirs) == len({row[0] for row in theirs}), "an order stands twice"
    ordered = Counter(row[1] for row in theirs if row[4] not in ("replaced", "cancelled"))
    assert max(ordered.values(), default=0) <= 1, "an instrument was ordered twice"
    never_arrived = [row for row in ours if row[0] not in {row[0] for row in theirs}]
    assert [row for row in ours if row not in never_arrived] == theirs
    assert all(row[4] == "expired" and row[5] == 0 for row in never_arrived)
    assert not (resendable and never_arrived), "a venue that may be asked again was not"

    our_fills = rows(
        stage.url, "select fill_id, client_order_id, instrument, side, quantity, price from execution.fills "
        "where account = %s order by 1", account,
    )  # fmt: skip
    assert our_fills == their_fills, "our fills are not the venue's"
    assert rows(stage.url, "select kind from execution.reconciliation where account = %s", account) == [("ok",)]
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


def at_paper(case: Case):  # type: ignore[no-untyped-def]
    """The ledger's orders and fills, and whether the venue may be sent an order again."""
    theirs = rows(
        case.stage.url,
        "select client_order_id, instrument, side, quantity, state, filled_quantity from paper.orders "
        "where account = %s order by 1",
        case.account,
    )
    fills = rows(
        case.stage.url, "select fill_id, client_order_id, instrument, side, quantity, price from paper.fills "
        "where account = %s order by 1", case.account,
    )  # fmt: skip
    guarantee = Guarantee(case.venue)
    arrived = RemoteBroker(case.stage.folder / "socket", case.account, guarantee).arrived()
    if guarantee is Guarantee.SEARCHABLE_TAG:
        assert max(arrived.values(), default=0) <= 1, "sent twice to a venue that books it twice"
    return theirs, fills, guarantee is Guarantee.IDEMPOTENT_KEY


def _ours(status: str) -> str:
    return "cancelled" if status == "canceled" else status


def at_alpaca(case: Case):  # type: ignore[no-untyped-def]
    """As `at_paper`."""
    venue = case.stage.alpaca[case.account]
    ids = {order["id"]: name for name, order in venue.orders.items()}
    theirs = sorted(
        (name, one["symbol"], one["side"], D(one["qty"]), _ours(one["status"]), D(one["filled_qty"]))
        for name, one in venue.orders.items()
    )
    fills = sorted(
        (one["id"], ids[one["order_id"]], one["symbol"], one["side"], D(one["qty"]), D(one["price"]))
        for one in venue.activities if one["activity_type"] == "FILL"
    )  # fmt: skip
    return theirs, fills, True


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
    if adapter == "alpaca":
        stage.alpaca[case.account].script.clear()
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
    outcomes = rows(
        stage.url, "select distinct outcome from execution.replacements where account = %s", case.account
    )  # fmt: skip
    assert outcomes
    assert (None,) not in outcomes, "a request was forgotten"


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
@pytest.mark.parametrize("adapter", ["paper", "alpaca"])
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
@pytest.mark.parametrize("adapter", ["paper", "alpaca"])
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
