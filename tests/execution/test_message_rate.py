"""What counts as a message to the broker for both gates: submissions, modifications and cancellations."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from execution_support import CLOSE, DECIDED, OPEN, D, Desk, approve_all, order_ids, rows
from test_replacements import ask, carry_out, paper_desk, placed, venue_desk
from test_scheduled_orders import scheduled

from octopus.compliance.replay import judged_again
from octopus.compliance.rules import CompliancePolicy
from octopus.core.orders import AccountSnapshot, Batch, GateReport, Outcome, PlannedOrder, Side, TradingState
from octopus.execution.config import Kind, ScheduleConfig
from resources.brokers.base import Guarantee
from resources.gates import Gates
from resources.settings import Settings, load_settings
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse


@pytest.fixture(autouse=True)
def no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is judged by prices, for which dbt would have to build the marts."""
    monkeypatch.setattr(Gates, "window", lambda *_arguments: None)


def settings(url: str, most: int = 500) -> Settings:
    given = load_settings({})
    policy = given.compliance.model_dump(mode="json")
    policy["account"]["jurisdictions"] = ["US", "EU"]
    (rate,) = [rule for rule in policy["rules"] if rule["kind"] == "message_rate"]
    rate["parameters"]["max_messages"] = most
    return replace(given, database_url=url, compliance=CompliancePolicy.model_validate(policy))


def judged(desk: Desk, most: int = 500, batch_id: str = "next") -> tuple[list[tuple[bool, bool]], float, Outcome]:
    """Messages as the risk gate has them (again, cancels), and what compliance counts with one order more."""
    gates, now = Gates(settings(desk.url, most), Warehouse(desk.url, Role.TRADER)), desk.clock.now()
    one_more = PlannedOrder("one-more", "BBB", Side.BUY, D(1), D(100))
    batch = Batch(batch_id, "acct", DECIDED, now, now + timedelta(hours=1), (one_more,))
    snapshot = AccountSnapshot("acct", now, D(1_000_000), {}, {"AAA": D(100), "BBB": D(100)})
    sent = gates.market(batch, snapshot, now).sent
    report = gates.compliance(batch, snapshot, now, sending=True)
    assert judged_again(json.dumps(report.evidence.record()), {}) == report  # type: ignore[union-attr]
    verdict = next(one for one in report.verdicts if one.rule == "message_rate")
    assert sent is not None
    assert verdict.value is not None
    return sorted((one.again, one.cancels) for one in sent), verdict.value, verdict.outcome


def test_a_cancellation_is_a_message_to_both_gates(database_url: str) -> None:
    desk, _ = venue_desk(database_url)
    (order,) = order_ids(placed(desk))
    assert judged(desk) == ([(False, False)], 2.0, Outcome.PASS)
    with desk.engine() as engine:
        engine.cancel_order(order, "ann", "no longer wanted")
    assert judged(desk) == ([(False, False), (False, True)], 3.0, Outcome.PASS)
    assert judged(desk, 3)[2] is Outcome.PASS
    assert judged(desk, 2)[2] is Outcome.DENY


def audited(desk: Desk) -> list[tuple[str, str, str]]:
    """What the audit log has of requests to cancel, of whom and why."""
    return rows(
        desk.url, "select kind, payload::jsonb ->> 'by', payload::jsonb ->> 'reason' from audit.log "
        "where kind = 'order.pending_cancel' or starts_with(kind, 'order.cancel_') order by seq"
    )  # fmt: skip


def test_a_cancellation_that_is_asked_again_is_a_message_again_and_one_that_comes_too_late_is_none(
    database_url: str,
) -> None:
    desk, venue = venue_desk(database_url)
    (order,) = order_ids(placed(desk))
    arrived: list[str] = []
    venue.on_cancel, venue.slow_cancels = arrived.append, 1
    with desk.engine() as engine:
        engine.cancel_order(order, "ann", "no longer wanted")
        engine.cancel_order(order, "bob", "again")
        assert (arrived, judged(desk)[:2]) == ([order] * 2, ([(False, False), (False, True), (False, True)], 4.0))
        assert judged(desk, 3)[2] is Outcome.DENY
        engine.poll("acct")
        engine.cancel_order(order, "cid", "once more")
        engine.store.drain_outbox(engine.audit)
    assert (len(arrived), judged(desk)[1]) == (2, 4.0)
    assert audited(desk) == [
        ("order.pending_cancel", "ann", "no longer wanted (ann)"), ("order.cancel_asked", "bob", "again (bob)"),
        ("order.cancel_too_late", "cid", "once more (cid)"),
    ]  # fmt: skip


def test_the_cancellation_of_an_order_of_unknown_outcome_is_a_message_and_the_order_stays_unknown(
    database_url: str,
) -> None:
    desk, venue = venue_desk(database_url, Guarantee.SEARCHABLE_TAG)
    venue.script.append("late")
    batch = placed(desk)
    (order,) = order_ids(batch)
    with desk.engine() as engine:
        engine.cancel_order(order, "ann", "no longer wanted")
        engine.store.drain_outbox(engine.audit)
    assert (desk.states(batch), judged(desk)[1]) == ({"AAA": "unknown"}, 3.0)
    assert [kind for kind, *_ in audited(desk)] == ["order.cancel_asked"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_replacement_is_one_message_where_the_venue_swaps_and_else_two(
    database_url: str, tmp_path: Path, at_once: bool
) -> None:
    desk = paper_desk(database_url, tmp_path) if at_once else venue_desk(database_url)[0]
    batch = placed(desk)
    ask(desk, order_ids(batch)[0], quantity=15)
    carry_out(desk, batch)
    cancelled = [] if at_once else [(False, True)]
    sent, value, _ = judged(desk)
    assert sent == [(False, False)] * 2 + cancelled
    assert value == 3 + len(cancelled)


def test_what_a_batch_has_sent_counts_when_the_rest_of_it_is_judged(database_url: str) -> None:
    """Replacements bear the batch of what they replace: it counts the same as any other's messages."""
    desk, _ = venue_desk(database_url)
    batch = placed(desk)
    for quantity in (15, 16, 17):
        ((live,),) = rows(desk.url, "select client_order_id from execution.orders where state = 'accepted'")
        ask(desk, live, quantity=quantity)
        carry_out(desk, batch)
    sent = 4 + 3  # orders and cancellations
    assert judged(desk) == ([(False, False)] * 4 + [(False, True)] * 3, sent + 1, Outcome.PASS)
    assert judged(desk, batch_id=batch.batch_id)[1:] == (sent + 1, Outcome.PASS)
    assert judged(desk, sent + 1, batch_id=batch.batch_id)[2] is Outcome.PASS
    assert judged(desk, sent, batch_id=batch.batch_id)[2] is Outcome.DENY
    desk.clock.at += timedelta(minutes=10)
    assert judged(desk, batch_id=batch.batch_id)[1] == 1, "the window is over"


def test_each_slice_of_a_schedule_is_judged_with_those_before_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two orders in three slices each: the rate is what was sent and what is about to be, slice after slice."""
    told: list[tuple[int, float]] = []

    def judge(batch: Batch, snapshot: AccountSnapshot, now: datetime, state: TradingState) -> tuple[GateReport, ...]:
        gates = Gates(settings(database_url), Warehouse(database_url, Role.TRADER))
        report = gates.compliance(batch, snapshot, now, sending=True)
        (rate,) = [verdict.value for verdict in report.verdicts if verdict.rule == "message_rate"]
        told.append((len(gates.market(batch, snapshot, now).sent or ()) + len(batch.orders), rate or 0.0))
        return approve_all(batch, snapshot, now, state)

    # All of the window in the minutes that the rule looks back.
    ends = int((CLOSE - OPEN) / timedelta(minutes=1)) - 9
    schedule = ScheduleConfig(schedule=Kind.TWAP, slices=3, ends_before_close_minutes=ends)
    window = {rule.kind: rule for rule in settings(database_url).compliance.rules}["message_rate"].parameters
    seconds = settings(database_url).risk.model_copy(update={"messages_window_seconds": window.window_minutes * 60})
    plain = settings
    monkeypatch.setattr(f"{__name__}.settings", lambda url: replace(plain(url), risk=seconds))
    desk, batch = scheduled(database_url, tmp_path, schedule, judge)
    desk.execute(batch)
    assert max(told) == (6, 6.0)
    assert all(sent == count for sent, count in told)


def test_an_approval_does_not_outlive_a_cancellation(database_url: str) -> None:
    """What is left of a batch is judged anew once another message than its own orders went out."""
    desk, _ = venue_desk(database_url)
    batch, gates = placed(desk), Gates(settings(database_url), Warehouse(database_url, Role.TRADER))
    now = desk.clock.now()

    def fits(judged_at: datetime) -> bool:
        return gates._fit_the_message_rate(batch, now, judged_at)

    assert fits(now - timedelta(seconds=1))
    with desk.engine() as engine:
        engine.cancel_order(order_ids(batch)[0], "ann", "no longer wanted")
    assert not fits(now - timedelta(seconds=1))
    assert fits(now), "what was judged since knows of it"
