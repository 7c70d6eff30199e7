"""The order path against a real PostgreSQL: what is sent, what is refused, and what is left afterwards."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from crash_proof import end_sessions
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    VenueBroker,
    approve_all,
    flat_feed,
    order_ids,
    paper,
    rows,
    store_plan,
)
from power import Power, PowerCut, whenever

from octopus.core.orders import Batch, Fill, GateReport, OrderType, Outcome, Side, TradingState, Verdict
from octopus.execution.approval import Decision
from octopus.execution.book import CorporateAction, EntryKind
from octopus.execution.corrections import Told
from octopus.execution.reconcile import BreakKind
from octopus.execution.states import Event, IllegalTransitionError, OrderState
from resources.brokers.base import BrokerOrder, Guarantee, OrderRequest, UncertainOutcomeError
from resources.brokers.paper import PaperBehaviour
from resources.settling import Settler
from resources.warehouse.audit_log import verify
from resources.warehouse.connection import Role, connect
from resources.warehouse.order_store import (
    AccountBusyError,
    BatchRefusedError,
    FencedOutError,
    OrderStore,
    TradingHaltedError,
)

D = Decimal
NAMES = ("AAA", "BBB", "CCC")
BUYS = [(name, Side.BUY, D(10)) for name in NAMES]
NOON = OPEN + timedelta(hours=1)


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Desk:
    clock, feed = ManualClock(NOON), flat_feed(NAMES)
    desk = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed), tmp_path / "audit.anchor")
    desk.open()
    return desk


def venue_desk(url: str, guarantee: Guarantee, script: list[str]) -> tuple[Desk, VenueBroker]:
    clock = ManualClock(NOON)
    venue = VenueBroker("acct", clock, guarantee, script)
    desk = Desk(url, "acct", clock, flat_feed(NAMES), venue)
    desk.open()
    return desk, venue


def audit_kinds(url: str) -> list[str]:
    return [kind for (kind,) in rows(url, "select kind from audit.log order by seq")]


# -- the whole path ----------------------------------------------------------------------------------------------------


def test_a_batch_is_executed_booked_and_reconciled(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    done = desk.execute(batch)

    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert done.collection.new_fills == 3
    assert done.collection.open_orders == ()
    assert done.breaks == ()
    assert desk.clock.now() == CLOSE
    nav = done.navs[EXECUTED]
    assert nav.closing == D(100_000)
    assert nav.holdings.cash == D(97_000)
    assert nav.flows == D(100_000)
    assert rows(desk.url, "select instrument, quantity from execution.positions order by 1") == [
        (name, D(10)) for name in NAMES
    ]
    # Before anything was sent, and after it.
    assert rows(desk.url, "select session, kind from execution.reconciliation order by 1") == [
        (DECIDED, "ok"),
        (EXECUTED, "ok"),
    ]
    assert rows(desk.url, "select status from execution.attempts") == [("done",)]
    assert verify(desk.url, desk.anchor).ok


def test_running_every_step_again_changes_nothing(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    desk.execute(batch)
    tables = ("orders", "order_events", "order_intents", "fills", "entries", "positions", "nav", "reconciliation",
              "attempts", "verdicts", "snapshots", "outbox")  # fmt: skip
    before = {name: rows(desk.url, f"select * from execution.{name} order by 1, 2") for name in tables}
    audit = rows(desk.url, "select hash from audit.log order by seq")

    again = desk.execute(batch, "run-2")
    with desk.engine() as engine:
        assert engine.prepare(batch.batch_id, "run-3") is None
        assert engine.send(batch.batch_id, "run-3").sent == ()
        assert engine.collect_fills(batch.batch_id).new_fills == 0
        assert engine.update_positions("acct") == {}
        assert engine.reconcile("acct", EXECUTED) == ()

    assert again.placement.sent == ()
    assert {name: rows(desk.url, f"select * from execution.{name} order by 1, 2") for name in tables} == before
    assert rows(desk.url, "select hash from audit.log order by seq") == audit


def test_the_steps_as_separate_calls_give_the_same(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as engine:
        assert engine.prepare(batch.batch_id, "run") is not None
    with desk.engine() as engine:
        assert len(engine.send(batch.batch_id, "run").sent) == 3
    with desk.engine() as engine:
        assert engine.collect_fills(batch.batch_id).new_fills == 3
        assert set(engine.update_positions("acct")) == {EXECUTED}
        assert engine.reconcile("acct", EXECUTED) == ()


def test_sells_go_first_and_pay_for_the_buys_of_the_same_auction(desk: Desk) -> None:
    first = store_plan(desk.url, "acct", [("AAA", Side.BUY, D(1000))])
    desk.execute(first)
    later = SESSIONS.next(EXECUTED)
    desk.feed.bars.update(flat_feed(NAMES, days=[later]).bars)
    desk.clock.wait_until(SESSIONS.open_utc(later) + timedelta(hours=1))
    second = store_plan(
        desk.url, "acct", [("AAA", Side.SELL, D(500)), ("BBB", Side.BUY, D(500))], name="second", session=EXECUTED,
    )  # fmt: skip
    done = desk.execute(second)
    assert desk.states(second) == {"AAA": "filled", "BBB": "filled"}
    assert done.navs[later].holdings.positions == {"AAA": D(500), "BBB": D(500)}
    assert done.breaks == ()


def test_orders_at_the_open_fill_at_the_open_and_nav_waits_for_the_close(database_url: str) -> None:
    clock, feed = ManualClock(OPEN - timedelta(minutes=30)), flat_feed(NAMES)
    desk = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed))
    desk.open()
    batch = store_plan(database_url, "acct", BUYS, order_type=OrderType.MARKET_ON_OPEN)
    done = desk.execute(batch)
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert clock.now() == OPEN
    assert done.navs == {}
    clock.wait_until(CLOSE)
    with desk.engine() as engine:
        assert set(engine.update_positions("acct")) == {EXECUTED}


@pytest.mark.parametrize("order_type", [OrderType.MARKET_ON_OPEN, OrderType.MARKET_ON_CLOSE])
def test_what_was_planned_before_a_split_or_another_name_is_not_sent(database_url: str, order_type: OrderType) -> None:
    """Ten shares of before are forty of now, and the name may be another company's."""
    first = OPEN - timedelta(minutes=30) if order_type is OrderType.MARKET_ON_OPEN else NOON
    clock, feed = ManualClock(first), flat_feed(NAMES)
    feed.corporate_actions += [
        CorporateAction(EntryKind.SPLIT, "AAA", D(4), OPEN),
        CorporateAction(EntryKind.SYMBOL_CHANGE, "BBB", D(1), OPEN, "DDD"),
        # Of the session that was decided on: the plan knew it.
        CorporateAction(EntryKind.SPLIT, "CCC", D(2), SESSIONS.open_utc(DECIDED)),
    ]
    desk = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed))
    desk.open()
    batch = store_plan(desk.url, "acct", BUYS, order_type=order_type)
    done = desk.execute(batch)

    assert desk.states(batch) == {"CCC": "filled"}
    assert done.breaks == ()
    reasons = rows(desk.url, "select rule, reason from execution.verdicts where outcome = 'deny' order by reason")
    assert reasons == [
        ("corporate_action", "AAA split 4 for 1: plan it anew"),
        ("corporate_action", "BBB is DDD now: plan it anew"),
    ]


def test_a_limit_order_reaches_the_broker_with_its_limit(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS, order_type=OrderType.LIMIT, own_price=D("99.5"))
    done = desk.execute(batch)
    assert rows(desk.url, "select distinct order_type, price from paper.orders") == [("limit", D("99.5"))]
    assert desk.states(batch) == dict.fromkeys(NAMES, "expired")
    assert done.breaks == ()


def test_partial_fills_are_followed_to_their_end(database_url: str) -> None:
    clock, feed = ManualClock(NOON), flat_feed(NAMES)
    behaviour = PaperBehaviour(fill_fraction=D("0.5"), fills_per_order=2, reject=frozenset({"CCC"}))
    broker = paper(database_url, "acct", clock, feed, behaviour=behaviour)
    desk = Desk(database_url, "acct", clock, feed, broker)
    desk.open()
    batch = store_plan(database_url, "acct", BUYS)
    done = desk.execute(batch)
    assert desk.states(batch) == {"AAA": "cancelled", "BBB": "cancelled", "CCC": "rejected"}
    assert done.collection.new_fills == 4
    assert done.navs[EXECUTED].holdings.positions == {"AAA": D(5), "BBB": D(5)}
    assert done.breaks == ()


def test_without_a_bar_orders_expire_and_nothing_is_held(desk: Desk) -> None:
    for name in NAMES:
        del desk.feed.bars[name, EXECUTED]
    batch = store_plan(desk.url, "acct", BUYS)
    done = desk.execute(batch)
    assert desk.states(batch) == dict.fromkeys(NAMES, "expired")
    assert done.navs[EXECUTED].holdings.positions == {}
    assert done.breaks == ()


# -- what is refused ---------------------------------------------------------------------------------------------------


def nothing_was_sent(desk: Desk) -> bool:
    return rows(desk.url, "select 1 from paper.orders") == [] and rows(desk.url, "select 1 from execution.orders") == []


def test_outside_its_window_a_batch_is_refused(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    for now in (OPEN - timedelta(seconds=1), CLOSE - timedelta(minutes=10), CLOSE, CLOSE + timedelta(days=1)):
        desk.clock.at = now
        with pytest.raises(BatchRefusedError, match="may be sent from"):
            desk.execute(batch)
    assert nothing_was_sent(desk)
    assert "batch.refused" in audit_kinds(desk.url)


def test_a_backfill_of_past_days_never_trades(desk: Desk) -> None:
    past = store_plan(desk.url, "acct", BUYS, session=date(2022, 12, 20))
    with pytest.raises(BatchRefusedError, match="may be sent from"):
        desk.execute(past)
    assert nothing_was_sent(desk)


def test_a_superseded_batch_is_refused(desk: Desk) -> None:
    old = store_plan(desk.url, "acct", BUYS)
    store_plan(desk.url, "acct", BUYS, name="newer", created_at=NOON)
    with pytest.raises(BatchRefusedError, match="superseded by acct-newer"):
        desk.execute(old)
    assert nothing_was_sent(desk)


def test_a_batch_that_research_did_not_judge_is_refused(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS, judged=False)
    with pytest.raises(BatchRefusedError, match="not judged by both gates"):
        desk.execute(batch)
    with pytest.raises(BatchRefusedError, match="does not exist"):
        desk.execute(replace(batch, batch_id="nobody"))
    assert nothing_was_sent(desk)


def test_what_research_denied_stays_denied(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with connect(desk.url, Role.RESEARCH) as connection:
        connection.execute(
            "insert into risk.limit_report values (%s, 1, 'name_weight', %s, 'deny', 1, 0.1, 'too much of AAA')",
            [batch.batch_id, batch.orders[0].intent_id],
        )
    desk.execute(batch)
    assert desk.states(batch) == {"BBB": "filled", "CCC": "filled"}
    denied = rows(desk.url, "select reason from execution.verdicts where rule = 'research_denial'")
    assert denied == [("name_weight: too much of AAA",)]


def test_denials_are_stored_and_no_gate_at_all_approves_nothing(desk: Desk) -> None:
    def deny_bbb(batch, snapshot, now, _state):  # type: ignore[no-untyped-def]
        denied = {order.intent_id for order in batch.orders if order.instrument == "BBB"}
        verdicts = tuple(Verdict("risk", "gross", name, Outcome.DENY, "too much", 2.0, 1.0) for name in denied)
        risk, compliance = approve_all(batch, snapshot, now)
        return (GateReport("risk", tuple(i for i in risk.approved if i not in denied), verdicts), compliance)

    batch = store_plan(desk.url, "acct", BUYS)
    desk.execute(batch, judge=deny_bbb)
    assert desk.states(batch) == {"AAA": "filled", "CCC": "filled"}
    assert rows(desk.url, "select instrument, status from execution.order_intents order by 1") == [
        ("AAA", "approved"),
        ("BBB", "denied"),
        ("CCC", "approved"),
    ]
    assert rows(desk.url, "select rule, outcome, reason, value, limit_value from execution.verdicts") == [
        ("gross", "deny", "too much", 2.0, 1.0)
    ]
    other = store_plan(desk.url, "acct", BUYS, name="other", created_at=NOON)
    desk.clock.at = NOON
    desk.execute(other, judge=lambda *_: ())
    assert desk.states(other) == {}


def test_a_stale_snapshot_is_refused(database_url: str) -> None:
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, [])
    venue.snapshot_age = timedelta(minutes=6)
    with pytest.raises(BatchRefusedError, match="is 0:06:00 old"):
        desk.execute(store_plan(database_url, "acct", BUYS))
    assert venue.sends == []


def test_a_snapshot_of_another_account_is_refused(database_url: str) -> None:
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, [])
    venue.account_name = "another"
    with pytest.raises(BatchRefusedError, match="answered for account 'another'"):
        desk.execute(store_plan(database_url, "acct", BUYS))
    assert venue.sends == []


def test_a_window_that_closes_between_two_orders_stops_the_rest(desk: Desk) -> None:
    def slow() -> None:
        desk.clock.at += timedelta(minutes=3)

    batch = store_plan(desk.url, "acct", BUYS)
    desk.clock.at = CLOSE - timedelta(minutes=12)
    with desk.engine(whenever("record: committed", slow)) as engine:
        engine.prepare(batch.batch_id, "run")
        placed = engine.send(batch.batch_id, "run")
    assert len(placed.sent) == 1
    assert "closed at" in placed.stopped


def test_a_batch_that_is_superseded_while_it_is_sent_stops(desk: Desk) -> None:
    def plan_anew() -> None:
        if len(rows(desk.url, "select 1 from portfolio.batches")) == 1:
            store_plan(desk.url, "acct", BUYS, name="newer", created_at=NOON)

    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine(whenever("record: committed", plan_anew)) as engine:
        engine.prepare(batch.batch_id, "run")
        placed = engine.send(batch.batch_id, "run")
    assert len(placed.sent) == 1
    assert "superseded" in placed.stopped


def test_a_frozen_instrument_is_refused_in_the_transaction_that_sends(database_url: str) -> None:
    """It froze after the gates had looked: an earlier batch's send is found to be uncertain."""
    desk, _ = venue_desk(database_url, Guarantee.SEARCHABLE_TAG, [])
    first = store_plan(database_url, "acct", BUYS[:1])
    second = store_plan(database_url, "acct", BUYS[:1], name="second", created_at=NOON)
    with desk.engine() as engine:
        claim = engine.prepare(second.batch_id, "run")
        with connect(database_url) as connection:
            connection.execute(
                "insert into execution.order_intents select 'other', %s, account, session, instrument, side, quantity, "
                "reference_price, order_type, 'other', status, created_at from execution.order_intents",
                [first.batch_id],
            )
            connection.execute(
                "insert into execution.orders (client_order_id, intent_id, account, state, fence, updated_at) "
                "values ('other', 'other', 'acct', 'unknown', 1, %s)",
                [NOON],
            )
        with pytest.raises(BatchRefusedError, match="AAA is frozen"):
            engine.store.begin_send(claim, order_ids(second)[0], Event.SEND, NOON)


def test_no_order_leaves_on_a_snapshot_that_grew_old_the_rest_is_judged_on_a_fresh_one(desk: Desk) -> None:
    def slow() -> None:
        desk.clock.at += timedelta(minutes=3)

    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine(whenever("record: committed", slow)) as engine:
        engine.prepare(batch.batch_id, "run")
        placed = engine.send(batch.batch_id, "run")
    assert (len(placed.sent), placed.stopped) == (3, "")
    ages = rows(
        desk.url,
        "select e.at - a.claimed_at from execution.order_events e join execution.attempts a "
        "on a.fence = (e.detail ->> 'fence')::bigint where e.detail ->> 'event' = 'send' order by e.at",
    )
    assert [age for (age,) in ages] == [timedelta(0), timedelta(minutes=3), timedelta(0)]
    desk.execute(batch, "run-2")
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")


# -- the kill switch ---------------------------------------------------------------------------------------------------


def test_an_account_that_was_never_opened_or_is_halted_is_refused(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with OrderStore.opened(desk.url) as store:
        store.set_trading_state("acct", TradingState.HALTED, "tester", "a test", NOON)
        assert store.trading_status("nobody").state is TradingState.HALTED
    with pytest.raises(TradingHaltedError, match="a test"):
        desk.execute(batch)
    assert nothing_was_sent(desk)


def test_the_kill_switch_between_two_orders_stops_the_rest_and_resuming_sends_it(desk: Desk) -> None:
    def halt() -> None:
        with OrderStore.opened(desk.url) as other:
            other.set_trading_state("acct", TradingState.HALTED, "tester", "stop", NOON)

    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine(whenever("record: committed", halt)) as engine:
        engine.prepare(batch.batch_id, "run")
        placed = engine.send(batch.batch_id, "run")
    assert len(placed.sent) == 1
    assert "halted" in placed.stopped
    assert sorted(desk.states(batch).values()) == ["accepted", "approved", "approved"]
    with OrderStore.opened(desk.url) as store:
        store.set_trading_state("acct", TradingState.ACTIVE, "tester", "go on", NOON)
    desk.execute(batch, "run-2")
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert len(rows(desk.url, "select 1 from paper.orders")) == 3


def test_a_halt_that_comes_while_the_gates_judge_denies_nothing(desk: Desk) -> None:
    judged: list[str] = []

    def judge(batch, snapshot, now, _state):  # type: ignore[no-untyped-def]
        judged.append(batch.batch_id)
        if len(judged) == 3:
            with OrderStore.opened(desk.url) as other:
                other.set_trading_state("acct", TradingState.HALTED, "tester", "stop", NOON)
            return (GateReport("risk", ()),)
        return approve_all(batch, snapshot, now)

    batch = store_plan(desk.url, "acct", BUYS)
    placed = desk.execute(batch, judge=judge).placement
    assert len(placed.sent) == 1
    assert "halted: stop" in placed.stopped
    assert rows(desk.url, "select distinct status from execution.order_intents where instrument <> 'AAA'") == [
        ("void",)
    ]
    assert sorted(desk.states(batch).values()) == ["expired", "expired", "filled"]


def test_a_halted_batch_is_void_when_its_window_has_passed(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
    desk.clock.at = CLOSE
    done = desk.execute(batch, "run-2")
    assert desk.states(batch) == dict.fromkeys(NAMES, "expired")
    assert done.placement.sent == ()
    assert rows(desk.url, "select distinct status from execution.order_intents") == [("void",)]
    assert rows(desk.url, "select 1 from paper.orders") == []


def test_reducing_lets_only_smaller_positions_through(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))]))
    later = SESSIONS.next(EXECUTED)
    desk.feed.bars.update(flat_feed(NAMES, days=[later]).bars)
    desk.clock.wait_until(SESSIONS.open_utc(later))
    with OrderStore.opened(desk.url) as store:
        store.set_trading_state("acct", TradingState.REDUCING, "tester", "wind down", desk.clock.now())
    second = store_plan(
        desk.url, "acct", [("AAA", Side.SELL, D(4)), ("BBB", Side.BUY, D(1))], name="second", session=EXECUTED
    )
    desk.execute(second)
    assert desk.states(second) == {"AAA": "filled"}


def test_a_restored_database_starts_halted_and_its_approvals_are_void(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
    with connect(desk.url) as connection:
        connection.execute("update execution.trading_state set database_id = 'elsewhere'")
    desk.execute(batch, "run-2")
    assert desk.states(batch) == dict.fromkeys(NAMES, "expired")
    with OrderStore.opened(desk.url) as store:
        assert "restored" in store.trading_status("acct").reason
        store.set_trading_state("acct", TradingState.ACTIVE, "tester", "checked", NOON)
        assert store.trading_status("acct").state is TradingState.ACTIVE


def test_a_database_that_was_restored_since_an_order_was_judged_sends_nothing(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    first, second, _ = order_ids(batch)
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, "run")
        engine.store.begin_send(claim, first, Event.SEND, NOON)
        with connect(desk.url) as connection:
            connection.execute("update execution.trading_state set database_id = 'elsewhere'")
        with pytest.raises(TradingHaltedError, match="restored"):
            engine.store.begin_send(claim, second, Event.SEND, NOON)
    assert sorted(desk.states(batch).values()) == ["approved", "approved", "submitting"]


def test_the_kill_switch_can_cancel_what_works_while_a_run_waits(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as waiting, desk.engine() as killer:
        waiting.prepare(batch.batch_id, "run")
        waiting.send(batch.batch_id, "run")
        with waiting.store.account_lock("acct"):
            assert len(killer.cancel_open("acct")) == 3
            assert desk.states(batch) == dict.fromkeys(NAMES, "pending_cancel")
        waiting.collect_fills(batch.batch_id)
    assert desk.states(batch) == dict.fromkeys(NAMES, "cancelled")


def test_a_kill_switch_that_dies_before_it_asks_leaves_orders_that_still_work(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as sender:
        sender.prepare(batch.batch_id, "run")
        sender.send(batch.batch_id, "run")
    power = Power()
    power.at = lambda _number, name: power.cut() if name == "cancel: before asking" else None
    with pytest.raises(PowerCut), desk.engine(power) as killer:
        killer.cancel_open("acct")
    assert sorted(desk.states(batch).values()) == ["accepted", "accepted", "pending_cancel"]
    done = desk.execute(batch, "run-2")
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert done.breaks == ()


def test_an_order_that_a_person_replaced_at_the_venue_ends_and_its_fills_count(database_url: str) -> None:
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, [])
    batch = store_plan(database_url, "acct", BUYS[:1])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        (order_id,) = order_ids(batch)
        venue.executed.append(Fill("V0-0", order_id, "AAA", Side.BUY, D(4), D(100), D(0), CLOSE))
        venue.orders[order_id] = [
            replace(venue.orders[order_id][0], state=OrderState.REPLACED, filled_quantity=D(4), reason="replaced by V9")
        ]
        engine.collect_fills(batch.batch_id)
    assert rows(database_url, "select state, filled_quantity, reason from execution.orders") == [
        ("replaced", D(4), "replaced by V9")
    ]


# -- two workers -------------------------------------------------------------------------------------------------------


def test_a_sensor_that_fires_twice_sends_once(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    outcomes: list[object] = []
    clocks = [ManualClock(NOON), ManualClock(NOON)]

    def work(number: int) -> None:
        broker = paper(desk.url, "acct", clocks[number], desk.feed)
        mine = replace(desk, clock=clocks[number], broker=broker)
        try:
            outcomes.append(len(mine.execute(batch, f"run-{number}").placement.sent))
        except (AccountBusyError, BatchRefusedError) as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent for sent in outcomes if isinstance(sent, int)) == 3, outcomes
    assert len(rows(desk.url, "select 1 from paper.orders")) == 3
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")


def test_while_one_worker_holds_the_account_another_is_told_so(desk: Desk) -> None:
    with (
        OrderStore.opened(desk.url) as one,
        OrderStore.opened(desk.url) as two,
        one.account_lock("acct"),
        two.account_lock("another"),
        pytest.raises(AccountBusyError, match="another run"),
        two.account_lock("acct", wait_seconds=0.1),
    ):
        pass


def test_a_worker_with_an_old_fence_or_an_expired_lease_cannot_send(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    ids = order_ids(batch)
    with desk.engine() as old, desk.engine() as new:
        # The old worker's lock is lost without its noticing: it holds its claim and goes on.
        claim = old.prepare(batch.batch_id, "old")
        newer = new.prepare(batch.batch_id, "new")
        assert newer.fence > claim.fence
        with pytest.raises(FencedOutError, match=r"\(fence 1, now 2\); the later attempt finishes the batch"):
            old.store.begin_send(claim, ids[0], Event.SEND, NOON)
        assert old.store.claim_of(batch.batch_id, "old") is None
        rows_before = desk.states(batch)
        with connect(desk.url) as connection:
            connection.execute("update execution.leases set expires_at = '2026-03-04 10:05:06 UTC'")
        with pytest.raises(FencedOutError, match=r"ran out at 2026-03-04 10:05:06 UTC, .* run the batch again"):
            new.store.begin_send(newer, ids[0], Event.SEND, NOON)
    assert desk.states(batch) == rows_before == dict.fromkeys(NAMES, "approved")


def test_a_worker_that_was_overtaken_takes_no_approval_back(desk: Desk) -> None:
    """It lost the account's lock without noticing; what it would deny or void, the later one may be sending."""
    batch = store_plan(desk.url, "acct", BUYS)
    first_id = order_ids(batch)[0]
    with desk.engine() as old, desk.engine() as new:
        claim = old.prepare(batch.batch_id, "old")
        stored = old.store.batch(batch.batch_id)
        newer = new.prepare(batch.batch_id, "new")
        new.store.begin_send(newer, first_id, Event.SEND, NOON)
        with pytest.raises(FencedOutError):
            old.store.deny(claim, batch.orders[0], [], NOON)
        # Claiming anew, with a judgement of before that first order was sent.
        old.store.claim(stored, batch.orders, Decision((), ()), desk.broker.snapshot(), "old-2", NOON)
    assert sorted(desk.states(batch).values()) == ["cancelled", "cancelled", "submitting"]
    assert rows(desk.url, "select status, count(*) from execution.order_intents group by 1 order by 1") == [
        ("approved", 1),
        ("denied", 2),
    ]


@pytest.mark.parametrize("fault", ["refused", "down"])
def test_an_answer_that_an_overtaken_worker_hears_late_ends_no_order_that_was_sent_again(
    database_url: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first send came to nothing; as its worker waits for the answer, a later one sends it, and it stands."""
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, [fault])
    batch = store_plan(desk.url, "acct", BUYS[:1])
    (order_id,) = order_ids(batch)
    submit = venue.submit

    def overtaken(request: OrderRequest) -> BrokerOrder:
        monkeypatch.setattr(venue, "submit", submit)
        try:
            return submit(request)
        finally:
            end_sessions(desk.url, locks_only=True)
            with desk.engine() as new:
                assert new.prepare(batch.batch_id, "new") is not None
                assert new.send(batch.batch_id, "new").sent == (order_id,)

    monkeypatch.setattr(venue, "submit", overtaken)
    with desk.engine() as old:
        assert old.prepare(batch.batch_id, "old") is not None
        # It finds out that it lost the account at the next thing that it does.
        with suppress(FencedOutError, BatchRefusedError, psycopg.OperationalError):
            old.send(batch.batch_id, "old")
    assert venue.sends == [order_id, order_id]
    assert desk.states(batch) == {"AAA": "accepted"}
    course = [state for (state,) in rows(desk.url, "select to_state from execution.order_events order by event_id")]
    assert course == ["approved", "submitting", "submitting", "accepted"]


def test_a_late_refusal_says_nothing_of_the_second_send_that_is_on_its_way(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    order_id = order_ids(batch)[0]
    with desk.engine() as old, desk.engine() as new:
        claim = old.prepare(batch.batch_id, "old")
        old.store.begin_send(claim, order_id, Event.SEND, NOON)
        newer = new.prepare(batch.batch_id, "new")
        new.store.begin_send(newer, order_id, Event.RESEND, NOON)
        heard = old.store.record(order_id, Event.REJECT, NOON, "no buying power", of_send=claim.fence)
    assert heard.state is OrderState.SUBMITTING
    assert sorted(desk.states(batch).values()) == ["approved", "approved", "submitting"]


def test_nothing_is_voided_while_it_is_being_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as sender, desk.engine() as other:
        claim = sender.prepare(batch.batch_id, "run")
        seen = other.store.orders("acct", {OrderState.APPROVED})
        sender.store.begin_send(claim, order_ids(batch)[0], Event.SEND, NOON)
        monkeypatch.setattr(OrderStore, "orders", lambda *_: seen)
        assert other.store.void_unsent("acct", CLOSE) == 2
        monkeypatch.undo()
    assert sorted(desk.states(batch).values()) == ["expired", "expired", "submitting"]


def test_an_order_is_never_sent_twice_even_under_a_valid_fence(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, "run")
        engine.store.begin_send(claim, order_ids(batch)[0], Event.SEND, NOON)
        with pytest.raises(IllegalTransitionError):
            engine.store.begin_send(claim, order_ids(batch)[0], Event.SEND, NOON)


# -- what a venue does -------------------------------------------------------------------------------------------------


def test_an_idempotent_venue_is_asked_again_and_has_one_order(database_url: str) -> None:
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, ["lost", "ok", "dropped", "dropped", "ok"])
    batch = store_plan(database_url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    assert desk.states(batch) == dict.fromkeys(NAMES, "accepted")
    assert all(len(standing) == 1 for standing in venue.orders.values())
    assert len(venue.sends) == 6


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [("lost", "refused", "accepted"), ("dropped", "refused", "unknown"), ("lost", "down", "unknown")],
)
def test_a_second_send_that_is_refused_does_not_hide_the_first(
    database_url: str, first: str, second: str, state: str
) -> None:
    """The first one may have taken the buying power: only the venue's records tell whether it stands."""
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, [first, second])
    batch = store_plan(database_url, "acct", BUYS[:1])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        placed = engine.send(batch.batch_id, "run")
    assert placed.sent == tuple(order_ids(batch)), "the first request left, whatever stops the second"
    assert desk.states(batch) == {"AAA": state}
    assert len(venue.orders) == (first == "lost")


@pytest.mark.parametrize("guarantee", [Guarantee.SEARCHABLE_TAG, Guarantee.NOTHING])
def test_another_venue_is_never_sent_an_order_twice(database_url: str, guarantee: Guarantee) -> None:
    desk, venue = venue_desk(database_url, guarantee, ["late", "ok", "ok"])
    batch = store_plan(database_url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    assert desk.states(batch) == {"AAA": "unknown", "BBB": "accepted", "CCC": "accepted"}
    assert "alert.unknown_order" in audit_kinds(database_url)
    for number in range(3):
        with desk.engine() as engine:
            engine.prepare(batch.batch_id, f"again-{number}")
            engine.send(batch.batch_id, f"again-{number}")
    assert len(venue.sends) == len(set(venue.sends)) == 3
    assert desk.states(batch) == {"AAA": "unknown", "BBB": "accepted", "CCC": "accepted"}


def test_a_searchable_venue_settles_what_it_finds_and_what_can_no_longer_arrive(database_url: str) -> None:
    desk, venue = venue_desk(database_url, Guarantee.SEARCHABLE_TAG, ["late", "dropped", "lost"])
    batch = store_plan(database_url, "acct", [(name, Side.BUY, D(11)) for name in NAMES])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    assert desk.states(batch) == {"AAA": "unknown", "BBB": "unknown", "CCC": "accepted"}
    venue.hidden.clear()
    desk.clock.at = CLOSE
    venue.fill_all()
    with desk.engine() as engine:
        assert engine.collect_fills(batch.batch_id).open_orders == ()
    assert desk.states(batch) == {"AAA": "filled", "BBB": "expired", "CCC": "filled"}


def test_an_unknown_order_freezes_its_instrument_and_counts_as_filled(database_url: str) -> None:
    desk, venue = venue_desk(database_url, Guarantee.NOTHING, ["late"])
    first = store_plan(database_url, "acct", [("AAA", Side.BUY, D(10))])
    with desk.engine() as engine:
        engine.prepare(first.batch_id, "run")
        engine.send(first.batch_id, "run")
    seen = []

    def watch(batch, snapshot, now, _state):  # type: ignore[no-untyped-def]
        seen.append(snapshot.working("AAA", Side.BUY))
        return approve_all(batch, snapshot, now)

    second = store_plan(
        database_url, "acct", [("AAA", Side.BUY, D(5)), ("BBB", Side.BUY, D(5))], name="second", created_at=NOON
    )
    with desk.engine(judge=watch) as engine:
        engine.prepare(second.batch_id, "run-2")
        engine.send(second.batch_id, "run-2")
        assert set(seen) == {D(10)}
        assert desk.states(second) == {"BBB": "accepted"}
        # A person finds at the venue that it never arrived.
        engine.store.record(order_ids(first)[0], Event.CANCEL, NOON, "settled by telephone")
        assert desk.states(first) == {"AAA": "cancelled"}
    assert rows(
        database_url, "select rule from execution.verdicts where intent_id = %s", second.orders[0].intent_id
    ) == [("unknown_order",)]
    assert len(venue.sends) == 2


def test_a_venue_that_is_down_leaves_orders_unsent_for_the_next_attempt(database_url: str) -> None:
    desk, venue = venue_desk(database_url, Guarantee.SEARCHABLE_TAG, ["ok", "down"])
    batch = store_plan(database_url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        placed = engine.send(batch.batch_id, "run")
    assert "refused" in placed.stopped
    assert placed.sent == tuple(order_ids(batch)[:1])
    assert desk.states(batch) == {"AAA": "accepted", "BBB": "approved", "CCC": "approved"}
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run-2")
        engine.send(batch.batch_id, "run-2")
    assert desk.states(batch) == dict.fromkeys(NAMES, "accepted")
    assert all(len(standing) == 1 for standing in venue.orders.values())


@pytest.mark.parametrize(("deaf", "minutes"), [(7, 1), (10_000, 20)])
def test_a_venue_that_does_not_answer_questions_is_asked_again_for_a_while(
    database_url: str, deaf: int, minutes: int
) -> None:
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, [])
    venue.fills_at = CLOSE
    batch = store_plan(database_url, "acct", [(name, Side.BUY, D(11)) for name in NAMES])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        venue.deaf = deaf
        if deaf == 7:
            assert engine.collect_fills(batch.batch_id).open_orders == ()
        else:
            with pytest.raises(UncertainOutcomeError, match="timed out"):
                engine.collect_fills(batch.batch_id)
            assert desk.states(batch) == dict.fromkeys(NAMES, "accepted")
            venue.deaf = 0
            engine.collect_fills(batch.batch_id)
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert desk.clock.now() <= CLOSE + timedelta(minutes=minutes)


def test_an_order_does_not_end_before_all_its_fills_are_booked(database_url: str) -> None:
    """The venue cancels the rest of a part-filled order, and its list of fills lags behind its list of orders."""
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, [])
    batch = store_plan(database_url, "acct", [("AAA", Side.BUY, D(11))])
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        (order_id,) = order_ids(batch)
        standing = venue.orders[order_id][0]
        venue.orders[order_id] = [replace(standing, state=OrderState.CANCELLED, filled_quantity=D(4))]
        venue.executed.append(Fill("V0-0", order_id, "AAA", Side.BUY, D(4), D(100), D(0), CLOSE))
        venue.fills_late = 2
        assert engine.collect_fills(batch.batch_id).new_fills == 1
        assert engine.reconcile("acct", EXECUTED) == ()
    assert rows(database_url, "select state, filled_quantity from execution.orders") == [("cancelled", D(4))]


def test_a_fill_is_booked_once_and_only_for_an_order_of_ours(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    order_id = order_ids(batch)[0]
    fill = Fill("f", order_id, "AAA", Side.BUY, D(4), D(100), D(1), CLOSE)
    with desk.engine() as engine:
        books = engine.bookkeeper.books
        claim = engine.prepare(batch.batch_id, "run")
        engine.store.begin_send(claim, order_id, Event.SEND, NOON)
        assert books.record_fill("acct", fill, EXECUTED, CLOSE)
        events = rows(desk.url, "select count(*) from execution.order_events")
        assert not books.record_fill("acct", fill, EXECUTED, CLOSE)
        assert not books.record_fill("acct", replace(fill, client_order_id="by-hand"), EXECUTED, CLOSE)
        assert rows(desk.url, "select count(*) from execution.order_events") == events
        assert books.positions("acct") == {"AAA": D(4)}


def test_a_fill_that_is_booked_before_the_answer_to_its_send_stays(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    order_id = order_ids(batch)[0]
    fill = Fill("f", order_id, "AAA", Side.BUY, D(4), D(100), D(1), CLOSE)
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, "run")
        engine.store.begin_send(claim, order_id, Event.SEND, NOON)
        assert engine.bookkeeper.books.record_fill("acct", fill, EXECUTED, CLOSE)
        after = engine.store.record(order_id, Event.ACCEPT, CLOSE, "", "B-1")
    assert (after.state, after.filled, after.fill_ids) == (OrderState.PARTIALLY_FILLED, 4, {"f"})
    assert rows(desk.url, "select state, filled_quantity, broker_order_id from execution.orders where fence = 1 "
                          "and submitted_at is not null") == [("partially_filled", 4, "B-1")]  # fmt: skip


def test_a_fill_that_comes_after_its_sessions_nav_is_booked_in_the_next(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    desk.execute(batch)
    late = Fill("late", order_ids(batch)[0], "AAA", Side.BUY, D(1), D(100), D(0), CLOSE)
    with desk.engine() as engine:
        engine.bookkeeper.books.record_fill("acct", late, EXECUTED, CLOSE)
        assert engine.update_positions("acct") == {}
        later = SESSIONS.next(EXECUTED)
        desk.clock.wait_until(SESSIONS.close_utc(later))
        nav = engine.update_positions("acct")[later]
    assert nav.holdings.positions["AAA"] == D(11)
    assert "alert.overfilled" in audit_kinds(desk.url)


def test_the_kill_switch_counts_in_the_transaction_that_claims_or_sends(desk: Desk) -> None:
    """Turned between the engine's own look at it and the commit."""
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as engine:
        claim = engine.prepare(batch.batch_id, "run")
        stored = engine.store.batch(batch.batch_id)
        engine.store.set_trading_state("acct", TradingState.HALTED, "tester", "stop", NOON)
        with pytest.raises(TradingHaltedError, match="stop"):
            engine.store.begin_send(claim, order_ids(batch)[0], Event.SEND, NOON)
        with pytest.raises(TradingHaltedError, match="stop"):
            engine.store.claim(stored, (), Decision((), ()), desk.broker.snapshot(), "run-2", NOON)
    assert desk.states(batch) == dict.fromkeys(NAMES, "approved")
    assert rows(desk.url, "select max(attempt), max(fence) from execution.attempts") == [(1, 1)]


def test_limits_are_judged_again_before_each_order(desk: Desk) -> None:
    """A limit that is lowered while orders go out stops those that no longer fit."""
    limit = [D(5000)]

    def gross(batch, snapshot, now, _state):  # type: ignore[no-untyped-def]
        used = sum((o.remaining * 100 for o in snapshot.open_orders), D(0))
        approved, verdicts = [], []
        for order in batch.orders:
            if used + order.notional <= limit[0]:
                used += order.notional
                approved.append(order.intent_id)
            else:
                verdicts.append(Verdict("risk", "gross", order.intent_id, Outcome.DENY, "gross limit"))
        return (GateReport("risk", tuple(approved), tuple(verdicts)),)

    def lower() -> None:
        limit[0] = D(1500)

    batch = store_plan(desk.url, "acct", BUYS)
    placed = desk.execute(batch, "run", whenever("record: committed", lower), judge=gross).placement
    assert (placed.sent, placed.stopped) == ((order_ids(batch)[0],), ""), "what is denied at last is not sent"
    assert desk.states(batch) == {"AAA": "filled", "BBB": "cancelled", "CCC": "cancelled"}
    assert rows(desk.url, "select instrument from execution.order_intents where status = 'denied' order by 1") == [
        ("BBB",),
        ("CCC",),
    ]


# -- reconciliation finds what was planted -----------------------------------------------------------------------------


PLANTED = {
    BreakKind.QUANTITY: "update paper.fills set quantity = quantity + 1 where instrument = 'AAA'",
    BreakKind.PRICE: "update paper.fills set price = price + 1 where instrument = 'AAA'",
    BreakKind.FEE: "update paper.fills set fees = fees + 1 where instrument = 'AAA'",
    BreakKind.CASH: "update paper.entries set cash = cash - 10 where kind = 'deposit'",
    BreakKind.SPLIT: "insert into paper.entries select 'x', account, 'split', 'AAA', 10, 0, max(at), '' "
    "from paper.entries group by account",
    BreakKind.MANUAL_TRADE: "insert into paper.fills select 'hand', broker_order_id, account, 'by-hand', 'BBB', 'buy', "
    "3, 100, 0, at from paper.fills where instrument = 'BBB'",
    BreakKind.UNKNOWN_FILL: "delete from paper.fills where instrument = 'CCC'",
}


def test_a_brokers_own_charge_is_booked_and_no_break(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    assert desk.execute(batch).breaks == ()
    with connect(desk.url) as connection:
        connection.execute(
            "insert into paper.entries select 'taf', account, 'charge', null, 0, -0.37, max(at), 'fee of the exchange' "
            "from paper.entries group by account"
        )
    with desk.engine() as engine:
        engine.update_positions("acct")
        assert engine.reconcile("acct", EXECUTED) == ()
        assert engine.store.trading_status("acct").state is TradingState.ACTIVE
    assert rows(desk.url, "select kind, cash from execution.entries where kind = 'charge'") == [("charge", D("-0.37"))]


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_break_is_found_classified_and_halts_what_it_must(desk: Desk, kind: BreakKind) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    assert desk.execute(batch).breaks == ()
    with connect(desk.url) as connection:
        connection.execute(PLANTED[kind])
    with desk.engine() as engine:
        found = engine.reconcile("acct", EXECUTED)
        assert [item.kind for item in found] == [kind]
        halted = engine.store.trading_status("acct").state is TradingState.HALTED
    assert halted is (kind not in {BreakKind.PRICE, BreakKind.FEE})
    stored = rows(desk.url, "select seq, kind from execution.reconciliation where session = %s order by seq", EXECUTED)
    assert stored == [(0, "breaks"), (1, kind.value)]
    assert "reconciliation.breaks" in audit_kinds(desk.url)


def test_a_fill_we_did_not_collect_is_a_missing_fill(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
        engine.update_positions("acct")
        desk.clock.at = CLOSE
        assert [item.kind for item in engine.reconcile("acct", EXECUTED)] == [BreakKind.MISSING_FILL] * 3
        engine.collect_fills(batch.batch_id)
        assert engine.reconcile("acct", EXECUTED) == ()


def next_day(desk: Desk) -> Batch:
    """A batch of the next session, with the clock in its window."""
    later = SESSIONS.next(EXECUTED)
    desk.feed.bars.update(flat_feed(NAMES, days=[later]).bars)
    desk.clock.at = SESSIONS.open_utc(later) + timedelta(hours=1)
    decided, trades = CLOSE + timedelta(hours=1), [("AAA", Side.BUY, D(1))]
    return store_plan(desk.url, "acct", trades, name="later", session=EXECUTED, created_at=decided)


@pytest.mark.parametrize("halts", [True, False])
def test_what_differs_before_a_batch_keeps_it_from_being_sent(desk: Desk, halts: bool) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    with connect(desk.url) as connection:
        connection.execute(PLANTED[BreakKind.MANUAL_TRADE])
    desk.settings = replace(desk.settings, halt_on_breaks=halts)
    batch = next_day(desk)
    with desk.engine() as engine:
        if halts:
            with pytest.raises(TradingHaltedError, match=r"buy 3 BBB.*`octopus breaks list`"):
                engine.prepare(batch.batch_id, "run")
        else:
            assert engine.prepare(batch.batch_id, "run") is not None
        assert engine.store.trading_status("acct").state is (TradingState.HALTED if halts else TradingState.ACTIVE)
    assert desk.states(batch) == ({} if halts else {"AAA": "approved"})
    found = rows(desk.url, "select kind from execution.reconciliation where session = %s order by seq", EXECUTED)
    assert found == [("breaks",), ("manual_trade",)]


def test_a_break_that_a_person_resumed_after_does_not_halt_again_and_another_does(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    with connect(desk.url) as connection:
        connection.execute(PLANTED[BreakKind.MANUAL_TRADE])
    batch = next_day(desk)
    with pytest.raises(TradingHaltedError):
        desk.execute(batch)
    with desk.engine() as engine:
        engine.store.set_trading_state("acct", TradingState.ACTIVE, "tester", "seen", desk.clock.now())
        done = engine.execute_batch(batch.batch_id, "again")
        assert [one.kind for one in done.breaks] == [BreakKind.MANUAL_TRADE]
        assert desk.states(batch) == {"AAA": "filled"}
        assert engine.store.trading_status("acct").state is TradingState.ACTIVE
    with connect(desk.url) as connection:
        connection.execute("update paper.fills set quantity = 4 where fill_id = 'hand'")
    with desk.engine() as engine:
        engine.reconcile("acct", SESSIONS.next(EXECUTED))
        assert engine.store.trading_status("acct").state is TradingState.HALTED


@pytest.mark.parametrize(("fees", "halts"), [(D("99.99"), False), (D(100), True)])
def test_amounts_that_differ_by_the_tolerance_in_all_halt(desk: Desk, fees: Decimal, halts: bool) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    with connect(desk.url) as connection:
        connection.execute("update paper.fills set fees = fees + %s where instrument = 'AAA'", [fees / 2])
        connection.execute("update paper.fills set price = price + %s / quantity where instrument = 'BBB'", [fees / 2])
    with desk.engine() as engine:
        found = engine.reconcile("acct", EXECUTED)
        assert {item.kind for item in found} == {BreakKind.FEE, BreakKind.PRICE}
        assert engine.store.trading_status("acct").state is (TradingState.HALTED if halts else TradingState.ACTIVE)


@pytest.mark.parametrize(
    ("told", "halts"),
    [("delete from paper.entries where kind = 'dividend'", False),
     ("update paper.entries set cash = cash - 150 where kind = 'dividend'", True)],
)  # fmt: skip
def test_a_payment_that_is_not_there_yet_halts_nothing_and_one_of_another_amount_does(
    desk: Desk, told: str, halts: bool
) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    later = SESSIONS.next(EXECUTED)
    desk.feed.corporate_actions.append(CorporateAction(EntryKind.DIVIDEND, "BBB", D(50), SESSIONS.open_utc(later)))
    desk.execute(next_day(desk))
    with connect(desk.url) as connection:
        assert connection.execute(told).rowcount == 1
    with desk.engine() as engine:
        assert [item.kind for item in engine.reconcile("acct", later)] == [BreakKind.DIVIDEND]
        assert engine.store.trading_status("acct").state is (TradingState.HALTED if halts else TradingState.ACTIVE)


def test_fills_flows_and_actions_not_booked_yet_are_no_breaks_before_a_batch(desk: Desk) -> None:
    """Yesterday's worker died before it asked for its fills; a deposit, a charge and a split came overnight."""
    with desk.engine() as engine:
        first = store_plan(desk.url, "acct", BUYS)
        engine.prepare(first.batch_id, "run")
        engine.send(first.batch_id, "run")
    desk.clock.at = CLOSE + timedelta(minutes=1)
    desk.broker.transfer("more", EntryKind.DEPOSIT, D(500), "")
    desk.broker.transfer("fee", EntryKind.CHARGE, D("-1.50"), "data")
    opens = SESSIONS.open_utc(SESSIONS.next(EXECUTED))
    desk.feed.corporate_actions.append(CorporateAction(EntryKind.SPLIT, "BBB", D(2), opens))
    batch = next_day(desk)
    done = desk.execute(batch)
    assert desk.states(batch) == {"AAA": "filled"}
    assert done.breaks == ()
    assert rows(desk.url, "select session, kind from execution.reconciliation order by 1") == [
        (DECIDED, "ok"), (EXECUTED, "ok"), (SESSIONS.next(EXECUTED), "ok"),
    ]  # fmt: skip


def test_the_books_are_compared_once_before_a_batch_and_never_for_each_order(desk: Desk) -> None:
    batch = store_plan(desk.url, "acct", BUYS)
    power = Power()
    desk.execute(batch, power=power)
    before = power.reached[: power.reached.index("claim: committed")]
    assert {name: before.count(f"{name}: answered") for name in ("fills", "statement", "snapshot", "order")} == {
        "fills": 1, "statement": 1, "snapshot": 1, "order": 0,
    }  # fmt: skip


def test_a_fill_that_falls_into_the_comparison_is_no_break(database_url: str) -> None:
    """A batch is resumed while one of its orders fills: the list of fills is a moment older than the account."""
    desk, venue = venue_desk(database_url, Guarantee.IDEMPOTENT_KEY, [])
    sevens = [(name, Side.BUY, D(7)) for name in NAMES]
    batch = store_plan(desk.url, "acct", sevens, order_type=OrderType.MARKET)
    power = Power()
    power.at = lambda _number, name: power.cut() if name == "submit: answered" else None
    with pytest.raises(PowerCut):
        desk.execute(batch, power=power)
    venue.fill_all()
    venue.fills_late, venue.fills_at = 1, CLOSE
    done = desk.execute(batch, "again")
    assert desk.states(batch) == dict.fromkeys(NAMES, "filled")
    assert (len(venue.arrived), done.placement.stopped, done.breaks) == (3, "", ())


def test_a_break_that_a_person_adopts_is_gone(desk: Desk) -> None:
    desk.execute(store_plan(desk.url, "acct", BUYS))
    with connect(desk.url) as connection:
        connection.execute(
            "insert into paper.entries select account_number || ':fix', account, 'manual', 'AAA', 2, -200, %s, 'fix' "
            "from paper.accounts",
            [CLOSE],
        )
    with desk.engine() as engine:
        assert [item.kind for item in engine.reconcile("acct", EXECUTED)] == [BreakKind.MANUAL_TRADE]
        settler = Settler(engine, "acct")
        (found,) = settler.open_breaks().breaks
        for _ in range(2):
            settler.book(found.break_id, Told("ann: the broker's fix"), NAMES, "ann", "the broker's fix")
        assert engine.reconcile("acct", EXECUTED) == ()
    assert rows(desk.url, "select quantity, cash from execution.entries where kind = 'manual'") == [(D(2), D(-200))]
