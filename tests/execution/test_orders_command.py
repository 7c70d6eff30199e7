"""`octopus orders`: what a person sees of open orders, and what cancelling and replacing one by hand comes to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from execution_support import CLOSE, EXECUTED, OPEN, SESSIONS, Desk, ManualClock, flat_feed, order_ids, paper, rows
from rich.console import Console
from test_replacements import placed

import octopus_pipelines.cli.orders as command
from octopus.core.orders import Side, TradingState
from octopus.portfolio.units import TradingUnits
from octopus_pipelines.cli.story import print_story
from resources.execution_engine import EngineSettings, ExecutionEngine
from resources.warehouse.connection import Role
from resources.warehouse.execution_reports import ExecutionReports
from resources.warehouse.order_store import OrderStore
from resources.warehouse.order_story import OrderStories
from resources.warehouse.store import Warehouse

D = Decimal


@dataclass(frozen=True)
class OneDesk:
    """The order path of a desk, as the command opens it."""

    desk: Desk

    @property
    def account(self) -> str:
        return self.desk.account

    @property
    def clock(self) -> ManualClock:
        return self.desk.clock

    @contextmanager
    def engine(self) -> Iterator[ExecutionEngine]:
        with self.desk.engine() as engine:
            yield engine


@pytest.fixture
def desk(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    clock, feed = ManualClock(OPEN + timedelta(hours=1)), flat_feed(("AAA", "BBB"))
    broker = paper(database_url, "acct", clock, feed, allow_fractional=False)
    made = Desk(database_url, "acct", clock, feed, broker, tmp_path / "anchor", settings=EngineSettings(lot=D(1)))
    made.open()
    monkeypatch.setattr(command, "open_database", lambda: SimpleNamespace(database_url=database_url, account="acct"))
    monkeypatch.setattr(command, "trading_of", lambda _settings: OneDesk(made))
    return made


def say(*arguments: str) -> str:
    told = CliRunner().invoke(command.orders, list(arguments))
    return told.output if told.exception is None or told.exception.args == (1,) else f"{told.output}{told.exception}"


def test_an_order_is_listed_replaced_and_cancelled_by_hand(desk: Desk) -> None:
    batch = placed(desk)
    (old,) = order_ids(batch)
    assert "limit at 90  accepted" in say("list")
    told = say("replace", old[:12], "--limit", "95.5", "--quantity", "20", "--by", "Ann Example", "--wait", "0")
    assert "replaced: " in told
    (open_order,) = json.loads(say("list", "--json"))
    assert (D(open_order["price"]), D(open_order["quantity"])) == (D("95.5"), D(20))
    new = open_order["client_order_id"]
    assert f"order {new} was asked to be cancelled: cancelled, 0" in say("cancel", new, "--by", "Ann Example")
    assert "0 orders are approved or open" in say("list")
    ((asked,), (cancelled,)) = rows(
        desk.url, "select payload::jsonb ->> 'by' from audit.log where kind in ('replacement.asked', "
        "'order.pending_cancel') and subject = %s order by seq", new,
    )  # fmt: skip
    assert (asked, cancelled) == ("Ann Example", "Ann Example")
    # The replacement's story goes back to the planned order.
    story = OrderStories(Warehouse(desk.url, Role.TRADER), "sample", desk.anchor).story(new)
    assert (story["order"]["batch_id"], story["answer"]["sent"]) == (batch.batch_id, True)
    console = Console(record=True, width=120, file=StringIO())
    print_story(console, story)
    assert f"replaces {old}: Ann Example asked, by hand" in console.export_text()


def test_a_second_cancel_is_told_as_one_and_a_late_one_as_too_late(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = placed(desk)
    (order,) = order_ids(batch)
    cancel = type(desk.broker).cancel
    monkeypatch.setattr(type(desk.broker), "cancel", lambda _broker, _order: None)
    assert f"order {order} was asked to be cancelled: pending_cancel, 0 of 12 filled" in say("cancel", order)
    monkeypatch.setattr(type(desk.broker), "cancel", cancel)
    told = f"order {order} had been asked to be cancelled before, and was asked again: cancelled, 0 of 12 filled"
    assert told in say("cancel", order)
    told = f"order {order} was over already, and nothing of it was left to cancel: cancelled, 0 of 12 filled"
    assert told in say("cancel", order)
    kinds = "select kind from audit.log where kind = 'order.pending_cancel' or starts_with(kind, 'order.cancel_') "
    assert rows(desk.url, kinds + "order by seq") == [
        ("order.pending_cancel",), ("order.cancel_asked",), ("order.cancel_too_late",)
    ]  # fmt: skip
    assert "no open order" in say("replace", order, "--limit", "91")


def test_what_cannot_be_done_is_said_in_one_line(desk: Desk) -> None:
    (old,) = order_ids(placed(desk))
    assert "no open order of account acct" in say("cancel", "nothing")
    assert "is not positive" in say("replace", old, "--limit", "-1")
    assert "give --limit for limit orders alone" in say("replace", old, "--stop", "5")
    assert "nothing would change" in say("replace", old, "--limit", "90")
    with OrderStore.opened(desk.url) as store:
        store.set_trading_state("acct", TradingState.HALTED, "test", "by the test", desk.clock.now())
    assert "refused: " in say("replace", old, "--limit", "91", "--wait", "0")
    assert "cancelled, 0" in say("cancel", old)


def test_a_replacement_keeps_the_instruments_own_lot_and_tick(desk: Desk) -> None:
    desk.units = TradingUnits({"AAA": D(4)}, {"AAA": D("0.25")})
    (old,) = order_ids(placed(desk))
    assert f"order {old} cannot be replaced: quantity 10 is no multiple of the lot 4 of AAA; give 8 or 12" in say(
        "replace", old, "--quantity", "10"
    )
    assert "price 95.3 is no multiple of the tick 0.25 of AAA; give 95.25 or 95.5" in say(
        "replace", old, "--limit", "95.3"
    )
    assert rows(desk.url, "select count(*) from execution.replacements") == [(0,)]
    assert "replaced: " in say("replace", old, "--limit", "95.25", "--quantity", "8", "--wait", "0")


def test_while_a_run_holds_the_account_it_is_that_run_that_replaces(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = placed(desk)
    lock = OrderStore.account_lock
    monkeypatch.setattr(OrderStore, "account_lock", lambda self, account: lock(self, account, 0.0))
    with desk.engine() as running, running.store.account_lock("acct"):
        assert "not settled yet" in say("replace", order_ids(batch)[0], "--limit", "101", "--wait", "0")
        assert "will record what becomes of it" in say("cancel", order_ids(batch)[0])
    desk.execute(batch)
    assert desk.states(batch) == {"AAA": "cancelled"}


@pytest.mark.parametrize("side", list(Side))
def test_the_cost_of_a_replaced_order_counts_once(desk: Desk, side: Side) -> None:
    desk.broker = paper(desk.url, "acct", desk.clock, desk.feed, allow_short=True)
    batch = placed(desk, price=90 if side is Side.BUY else 110, side=side)
    say("replace", order_ids(batch)[0], "--limit", "95" if side is Side.BUY else "105", "--wait", "0")
    desk.execute(batch)
    assert desk.clock.now() >= CLOSE
    with OrderStore.opened(desk.url) as store:
        reports = ExecutionReports(store, Warehouse(desk.url, Role.TRADER), desk.feed, SESSIONS)
        assert reports.save_order_costs("acct", EXECUTED) == 1
    assert rows(desk.url, "select quantity, filled_quantity from execution.order_costs") == [(D(12), D(0))]
