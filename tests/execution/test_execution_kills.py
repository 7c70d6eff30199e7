"""Real processes, really killed: a worker gets SIGKILL at a failpoint or at any moment, another one finishes its batch.

The venue is a third process with a ledger of its own, which drops connections before and after it accepts orders.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path

import pytest
from execution_broker_server import NAMES, RemoteBroker
from execution_support import OPEN, ROOT, D, FileClock, order_ids, rows, store_plan
from execution_worker import work

from octopus.core.orders import Batch, Side
from resources.brokers.base import Guarantee
from resources.execution_engine import FAILPOINTS
from resources.warehouse.audit_log import verify
from resources.warehouse.order_store import OrderStore

HERE = Path(__file__).parent
REPEATED = {"after_fill_commit", "after_submitting_commit", "after_submitting_audit", "after_broker_submit",
            "after_result_commit"}  # fmt: skip
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Stage:
    url: str
    folder: Path


@pytest.fixture
def stage(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The venue's process, running, and workers that start from a process with everything imported."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE)]))
    PROCESSES.set_forkserver_preload(["execution_worker"])
    command = [sys.executable, str(HERE / "execution_broker_server.py"), database_url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready"
        yield Stage(database_url, tmp_path)
        with Client(str(tmp_path / "socket"), "AF_UNIX") as connection:
            connection.send(("", "stop", ()))
        server.wait(10)


def begin(stage: Stage, seed: int) -> tuple[str, Batch, random.Random, Guarantee]:
    rng = random.Random(seed)
    account = f"kill-{seed}"
    (stage.folder / f"{account}.clock").write_text(OPEN.isoformat())
    with OrderStore.opened(stage.url) as store:
        store.open_account(account, "test", "opened for a test", OPEN)
    batch = store_plan(stage.url, account, [(n, rng.choice(list(Side)), D(rng.randint(1, 50))) for n in NAMES])
    return account, batch, rng, rng.choice([Guarantee.IDEMPOTENT_KEY, Guarantee.SEARCHABLE_TAG])


def start(stage: Stage, account: str, batch: Batch, guarantee: Guarantee, run_id: str, kill: tuple[str, int] | None):  # type: ignore[no-untyped-def]
    arguments = (stage.url, stage.folder, account, batch.batch_id, guarantee.value, run_id, kill)
    process = PROCESSES.Process(target=work, args=arguments)
    process.start()
    return process


def finish_and_check(stage: Stage, account: str, batch: Batch, guarantee: Guarantee) -> None:
    """Another process ends the batch; then both ledgers, the orders and the audit log must agree."""
    last = start(stage, account, batch, guarantee, "last", None)
    last.join(60)
    assert last.exitcode == 0
    broker = RemoteBroker(stage.folder / "socket", account, guarantee)

    theirs = rows(
        stage.url,
        "select client_order_id, instrument, side, quantity, state, filled_quantity from paper.orders "
        "where account = %s order by 1",
        account,
    )
    ours = rows(
        stage.url,
        "select o.client_order_id, i.instrument, i.side, i.quantity, o.state, o.filled_quantity "
        "from execution.orders o join execution.order_intents i using (intent_id) where o.account = %s order by 1",
        account,
    )
    assert len(ours) == len(batch.orders), "an order was lost"
    assert {row[0] for row in theirs} <= set(order_ids(batch)), "an order that nobody planned"
    assert len(theirs) == len({row[1] for row in theirs}), "an instrument was ordered twice"
    never_arrived = [row for row in ours if row[0] not in {row[0] for row in theirs}]
    assert [row for row in ours if row not in never_arrived] == theirs
    assert all(row[4] == "expired" and row[5] == 0 for row in never_arrived)
    if guarantee is Guarantee.IDEMPOTENT_KEY:
        assert not never_arrived, "a venue that may be asked again was not"
    else:
        assert max(broker.arrived().values(), default=0) <= 1, "sent twice to a venue that books it twice"

    columns = "fill_id, client_order_id, instrument, side, quantity, price, fees, at"
    books = [rows(stage.url, f"select {columns} from {schema}.fills where account = %s order by 1", account)
             for schema in ("execution", "paper")]  # fmt: skip
    assert books[0] == books[1], "our fills are not the venue's"
    assert rows(stage.url, "select kind from execution.reconciliation where account = %s", account) == [("ok",)]
    events = rows(
        stage.url,
        "select client_order_id, count(*) from execution.order_events where client_order_id = any(%s) group by 1",
        order_ids(batch),
    )
    told = rows(
        stage.url,
        "select subject, count(*) from audit.log where kind like 'order.%%' and subject = any(%s) group by 1",
        order_ids(batch),
    )
    assert dict(events) == dict(told), "the audit log misses an event or has it twice"


def kill_at_failpoint(stage: Stage, seed: int, hit: Counter[str]) -> int:
    """Kill one or two workers; returns how many were."""
    account, batch, rng, guarantee = begin(stage, seed)
    killed = 0
    names = [FAILPOINTS[seed % len(FAILPOINTS)], *rng.sample(FAILPOINTS, rng.randint(0, 1))]
    for number, name in enumerate(names):
        kill = (name, rng.randint(1, 3) if name in REPEATED else 1)
        worker = start(stage, account, batch, guarantee, f"run-{number}", kill)
        worker.join(60)
        assert worker.exitcode in (0, -signal.SIGKILL), worker.exitcode
        if worker.exitcode:
            hit[name] += 1
            killed += 1
    finish_and_check(stage, account, batch, guarantee)
    return killed


def kill_at_any_moment(stage: Stage, seed: int) -> int:
    account, batch, rng, guarantee = begin(stage, seed)
    worker = start(stage, account, batch, guarantee, "run-0", None)
    worker.join(rng.uniform(0.0, 0.6))
    worker.kill()
    worker.join(60)
    finish_and_check(stage, account, batch, guarantee)
    return int(worker.exitcode == -signal.SIGKILL)


def test_a_killed_workers_batch_is_finished_by_the_next(stage: Stage) -> None:
    hit: Counter[str] = Counter()
    killed = sum(kill_at_failpoint(stage, seed, hit) for seed in range(len(FAILPOINTS)))
    killed += sum(kill_at_any_moment(stage, seed) for seed in range(100, 106))
    assert set(hit) == set(FAILPOINTS), set(FAILPOINTS) - set(hit)
    assert killed >= 20
    assert verify(stage.url, stage.folder / "audit.anchor").ok


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(1000, 1400, 40))
def test_many_more_killed_workers(stage: Stage, first: int) -> None:
    hit: Counter[str] = Counter()
    killed = sum(kill_at_failpoint(stage, seed, hit) for seed in range(first, first + 30))
    killed += sum(kill_at_any_moment(stage, seed) for seed in range(first + 30, first + 40))
    assert set(hit) == set(FAILPOINTS), set(FAILPOINTS) - set(hit)
    assert killed >= 35
    assert verify(stage.url, stage.folder / "audit.anchor").ok


def test_the_clock_that_processes_share_only_moves_forward(tmp_path: Path) -> None:
    (tmp_path / "clock").write_text(OPEN.isoformat())
    clock = FileClock(tmp_path / "clock")
    clock.wait_until(OPEN.replace(year=2021))
    assert clock.now() == OPEN
