"""What is left of an approved batch, judged anew before each send, is what the standing approval says it is."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from octopus.compliance.catalogue import CHECKS, LASTING, lasts
from octopus.compliance.rules import InitialMargin, IntradayMargin, PatternDayTrader
from octopus.core.ids import client_order_id
from octopus.core.orders import OpenOrder, PlannedOrder
from octopus.execution.standing import Standing
from octopus.risk.market import SentMessage
from resources.gates import stands
from tests.risk.test_gates_fuzz import NOW, POLICY, World, judged, world_of

LATER = NOW + timedelta(minutes=1)


def approved_world(seed: int) -> World:
    """The world of that seed, with the orders alone that both gates approve."""
    world = world_of(seed)
    while True:
        passed = set.intersection(*(set(report.approved) for report in judged(world)))
        left = tuple(order for order in world.batch.orders if order.intent_id in passed)
        if len(left) == len(world.batch.orders):
            return world
        world = replace(world, batch=replace(world.batch, orders=left))


def with_sent(world: World, order: PlannedOrder) -> World:
    """Once the order has left."""
    working = OpenOrder(client_order_id(order.intent_id), order.instrument, order.side, order.quantity)
    left = tuple(one for one in world.batch.orders if one is not order)
    message = SentMessage(NOW, order.instrument, order.side)
    return replace(
        world,
        batch=replace(world.batch, orders=left),
        snapshot=replace(world.snapshot, open_orders=(*world.snapshot.open_orders, working)),
        market=replace(world.market, sent=(*(world.market.sent or ()), message)),
    )


def standing_of(world: World) -> Standing:
    return Standing(world.batch, world.snapshot, judged(world), NOW, LATER)


@pytest.mark.parametrize("worlds", [150, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_the_gates_approve_what_is_left_of_an_approved_batch_in_whatever_order_it_is_sent(worlds: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(worlds):
        world = approved_world(seed)
        if len(world.batch.orders) < 2 or not stands(world.batch, judged(world), POLICY):
            continue
        standing, chance = standing_of(world), random.Random(seed)
        for order in chance.sample(world.batch.orders, len(world.batch.orders) - 1):
            world = with_sent(world, order)
            reports = standing.after_sending(world.batch, world.snapshot, NOW)
            assert reports is not None
            assert [report.approved for report in reports] == [report.approved for report in judged(world)]
            told = {verdict.intent_id for report in reports for verdict in report.verdicts}
            assert told == {None, *(one.intent_id for one in world.batch.orders)}
            counts["judged again"] += 1
        counts["batches"] += 1
    assert counts["batches"] > worlds // 25
    assert counts["judged again"] > worlds // 15


def test_it_stands_for_nothing_else() -> None:
    world = next(w for seed in range(99) if len((w := approved_world(seed)).batch.orders) > 2)
    standing, first = standing_of(world), world.batch.orders[0]
    sent = with_sent(world, first)
    batch, snapshot = sent.batch, sent.snapshot
    assert standing.after_sending(batch, snapshot, NOW)
    assert standing.after_sending(batch, snapshot, LATER) is None, "time may have changed something"
    assert standing.after_sending(batch, snapshot, NOW - timedelta(seconds=1)) is None
    assert standing.after_sending(batch, world.snapshot, NOW) is None, "it was refused: what it weighed is not there"
    assert standing.after_sending(world.batch, snapshot, NOW) is None, "it is open, and to be sent again"
    assert standing.after_sending(batch, replace(snapshot, cash=snapshot.cash - 1), NOW) is None
    assert standing.after_sending(replace(batch, orders=batch.orders[::-1]), snapshot, NOW) is None
    larger = replace(batch.orders[0], quantity=batch.orders[0].quantity + 1)
    assert standing.after_sending(replace(batch, orders=(larger, *batch.orders[1:])), snapshot, NOW) is None
    working = snapshot.open_orders[-1]
    for other in (replace(working, remaining=working.remaining - Decimal("0.5")), replace(working, instrument="ZZZ")):
        partly = replace(snapshot, open_orders=(*world.snapshot.open_orders, other))
        assert standing.after_sending(batch, partly, NOW) is None
    twice = replace(snapshot, open_orders=(*snapshot.open_orders, working))
    assert standing.after_sending(batch, twice, NOW) is None


def test_no_batch_with_a_denial_stands() -> None:
    kinds = Counter[bool]()
    for seed in range(60):
        world = world_of(seed)
        reports = judged(world)
        whole = all(len(report.approved) == len(world.batch.orders) for report in reports)
        assert whole or not stands(world.batch, reports, POLICY)
        kinds[stands(world.batch, reports, POLICY)] += 1
    assert min(kinds[True], kinds[False]) > 0


def test_every_rule_of_compliance_is_known_to_last_or_not() -> None:
    assert frozenset(CHECKS) - LASTING == {InitialMargin, IntradayMargin, PatternDayTrader}
    margin = POLICY.account.model_copy(update={"margin": True})
    enforced = {rule.id for rule in POLICY.rules if not lasts(rule, margin)}
    assert enforced == {"intraday_margin", "pattern_day_trader"}
    assert all(lasts(rule, POLICY.account) for rule in POLICY.rules)
