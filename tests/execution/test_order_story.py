"""Why an order was allowed: told from the records, judged again from them, and seen through when they were altered."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    ROOT,
    D,
    Desk,
    ManualClock,
    flat_feed,
    order_ids,
    paper,
    rows,
    store_plan,
)
from power import Power, PowerCut
from rich.console import Console

from octopus.compliance import gate
from octopus.compliance.checks import ComplianceContext
from octopus.compliance.gate import judge as judge_compliance
from octopus.compliance.rules import CompliancePolicy
from octopus.core.ids import fingerprint
from octopus.core.orders import AccountSnapshot, Batch, GateReport, Side, TradingState
from octopus.risk.gate import judge as judge_risk
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory
from octopus.risk.signatures import Authority
from octopus_pipelines.cli.story import print_story
from resources.warehouse.connection import connect
from resources.warehouse.order_story import OrderStories, UnknownOrderError
from resources.warehouse.store import Role, Warehouse

NAMES = ["AAA", "BBB", "CCC"]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "config" / "compliance.yaml").read_text(encoding="utf-8"))


def policy(**changes: object) -> CompliancePolicy:
    document = dict(DOCUMENT)
    document["rules"] = [
        rule | {"parameters": {"entries": [changes["restricted"]]}}
        if rule["kind"] == "restricted_list" and "restricted" in changes
        else rule
        for rule in DOCUMENT["rules"]
    ]
    return CompliancePolicy.model_validate(document)


LIMITS = RiskLimits.model_validate(yaml.safe_load((ROOT / "config" / "risk.yaml").read_text(encoding="utf-8")))
DAYS = np.datetime64(DECIDED, "D") - np.arange(LIMITS.var_window_sessions + 20)[::-1]
MARKET = MarketContext(
    last_prices={name: LastPrice(D(100), OPEN) for name in NAMES},
    history=ReturnHistory(DAYS, tuple(NAMES), np.random.default_rng(7).normal(0, 0.01, (len(DAYS), len(NAMES)))),
    price_basis="raw", nav_peak=D(100_000), nav_previous=D(100_000), adv_shares=dict.fromkeys(NAMES, D(10**6)),
    sectors=dict.fromkeys(NAMES, "tech"), sent=(),
)  # fmt: skip


def judged(rules: CompliancePolicy):  # type: ignore[no-untyped-def]
    """Both gates, as `resources.gates` asks them."""
    context = ComplianceContext(
        trade_session=EXECUTED, session_open=OPEN, session_close=CLOSE, short_allowed=False, recent_intents=(),
        price_basis="raw", sending=True,
    )  # fmt: skip

    def judge(batch: Batch, snapshot: AccountSnapshot, now: datetime, state: TradingState) -> tuple[GateReport, ...]:
        report = judge_compliance(batch, snapshot, context, rules, now)
        left = replace(batch, orders=tuple(order for order in batch.orders if order.intent_id in report.approved))
        authority = Authority(live=False, problem="nobody signed")
        return report, judge_risk(left, snapshot, MARKET, LIMITS, state, authority, now)

    return judge


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Desk:
    clock, feed = ManualClock(OPEN), flat_feed(NAMES)
    rules = policy(restricted={"symbol": "CCC", "effective_from": "2022-01-01", "effective_to": None, "reason": "x"})
    made = Desk(
        database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed), tmp_path / "audit.anchor",
        judge=judged(rules),
    )  # fmt: skip
    made.open()
    return made


def plan(desk: Desk) -> Batch:
    batch = store_plan(desk.url, "acct", [(name, Side.BUY, D(10)) for name in NAMES])
    with connect(desk.url) as connection:
        connection.execute(
            "update compliance.approvals set risk_hash = %(none)s, compliance_hash = %(none)s",
            {"none": fingerprint([])},
        )
    return batch


def stories(desk: Desk) -> OrderStories:
    return OrderStories(Warehouse(desk.url, Role.TRADER), "sample", desk.anchor)


def test_an_allowed_and_a_denied_order_are_told_with_all_that_was_judged(desk: Desk) -> None:
    batch = plan(desk)
    desk.execute(batch)
    bought, _, restricted = order_ids(batch)
    story = stories(desk).story(bought[:20])
    assert story["order"]["state"] == "filled", story["answer"]
    assert story["answer"] == {
        "allowed": True, "sent": True, "sound": True, "because": story["answer"]["because"],
    }  # fmt: skip
    assert story["answer"]["because"].startswith("none of its")
    assert [check for check in story["checks"] if not check["ok"]] == []
    assert [event["to_state"] for event in story["events"]] == ["approved", "submitting", "accepted", "filled"]
    assert [(fill["quantity"], float(fill["rate"])) for fill in story["fills"]] == [("10", 1.0)]
    assert {entry["kind"] for entry in story["audit"]} >= {"batch.claimed", "order.submitting", "order.fill"}
    replayed = [check["message"] for check in story["checks"] if check["name"] == "replayed"]
    assert [message.split(" verdicts")[0] for message in replayed] == [
        f"the {gate} gate gives its {len([v for v in told if v == gate])}"
        for gate in ("compliance", "risk")
        for told in [[row[0] for row in rows(desk.url, "select gate from execution.verdicts")]]
    ]
    assert story["lineage"] == {"decision": None}
    denied = stories(desk).story(batch.orders[2].intent_id)
    assert denied["order"]["client_order_id"] == restricted
    assert (denied["answer"]["allowed"], denied["answer"]["sent"], denied["answer"]["sound"]) == (False, False, True)
    assert "denied by compliance rule restricted_list: CCC is on the restricted list" in denied["answer"]["because"]


def restricts(symbol: str) -> CompliancePolicy:
    return policy(restricted={"symbol": symbol, "effective_from": "2022-01-01", "effective_to": None, "reason": "x"})


def test_what_a_later_attempt_denied_is_not_allowed(desk: Desk) -> None:
    batch, power = plan(desk), Power()
    power.at = lambda _number, name: power.cut() if name == "submit: before asking" else None
    with pytest.raises(PowerCut):
        desk.execute(batch, power=power)
    replace(desk, judge=judged(restricts("BBB"))).execute(batch, run_id="second")
    denied = batch.orders[1].intent_id
    told = rows(desk.url, "select distinct attempt from execution.verdicts where intent_id = %s order by 1", denied)
    assert told == [(1,), (2,)], "approved by the first, and not sent"
    story = stories(desk).story(denied)
    assert (story["order"]["status"], story["answer"]["allowed"], story["answer"]["sent"]) == ("denied", False, False)
    assert "denied by compliance rule restricted_list: BBB" in story["answer"]["because"]
    assert stories(desk).story(batch.orders[0].intent_id)["answer"]["allowed"]


@pytest.mark.parametrize(("quantity", "says"), [(0, "broken"), (4, "corrected to 4")])
def test_a_fill_is_told_with_the_brokers_latest_revision(
    desk: Desk, quantity: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = plan(desk)
    desk.execute(batch)
    bought, kept, _ = order_ids(batch)
    ((fill,),) = rows(desk.url, "select fill_id from execution.fills where client_order_id = %s", bought)
    for number in (7, quantity):
        desk.broker.revise_fill(fill, D(number), reason="clearly erroneous")  # type: ignore[attr-defined]
    desk.clock.at = CLOSE + timedelta(hours=1)
    with desk.engine() as engine:
        engine.bookkeeper.compare_now("acct")
    (told,) = stories(desk).story(bought)["fills"]
    assert (told["quantity"], told["revision"]["quantity"], told["revision"]["reason"]) == (
        "10", str(quantity), "clearly erroneous"
    )  # fmt: skip
    assert stories(desk).story(kept)["fills"][0]["revision"] is None
    print_story(Console(width=200), stories(desk).story(bought))
    shown = capsys.readouterr().out
    assert says in shown
    assert "clearly erroneous" in shown


def test_an_order_sent_again_by_a_later_attempt_is_told_under_both_fences(desk: Desk) -> None:
    batch = plan(desk)

    power = Power()
    power.at = lambda _number, name: power.cut() if name == "submit: before asking" else None
    with pytest.raises(PowerCut):
        desk.execute(batch, power=power)
    desk.execute(batch, run_id="second")
    story = stories(desk).story(order_ids(batch)[0])
    assert story["answer"]["sound"], story["checks"]
    assert [attempt["fence"] for attempt in story["attempts"]] == [1, 2]
    assert [event["fence"] for event in story["events"] if event["to_state"] == "submitting"] == [1, 2]


def test_reasons_say_numbers_as_people_write_them_and_other_words_are_no_other_decision(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = plan(desk)
    desk.execute(batch)
    order = order_ids(batch)[0]
    assert ("buy 10 AAA at 100",) in rows(desk.url, "select reason from execution.verdicts")
    # As an earlier release said it.
    monkeypatch.setattr(gate, "plain", str)
    story = stories(desk).story(order)
    assert story["answer"]["sound"], story["checks"]
    assert story["attempts"][0]["snapshot"]["held"] == "0"
    monkeypatch.setattr(gate, "_terms_problem", lambda _order, _count: "another release denies it")
    assert "replayed" in {item["name"] for item in stories(desk).story(order)["checks"] if not item["ok"]}


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("update execution.evidence_contents set content = set_byte(content, 9, get_byte(content, 9) # 1)", "replayed"),
        ("update execution.evidence_contents set content = substr(content, 9)", "replayed"),
        ("delete from execution.evidence_contents", "replayed"),
        ("update execution.evidence set record = replace(record, 'gross_max\":1.02', 'gross_max\":1e-4')", "replayed"),
        ("update execution.evidence set record = replace(record, 'collar\":0.1', 'collar\":0.2')", "sealed"),
        ("delete from execution.evidence where gate = 'risk'", "replayed"),
        ("update execution.verdicts set reason = 'fine' where rule = 'restricted_list'", "sealed"),
        ("update execution.verdicts set outcome = 'pass' where outcome = 'deny'", "sealed"),
        ("update execution.verdicts set limit_value = limit_value + 1", "sealed"),
        ("delete from execution.verdicts where seq = 1", "sealed"),
        ("update execution.snapshots set snapshot = jsonb_set(snapshot, '{cash}', '\"1\"')", "sealed"),
        ("update execution.evidence set record = replace(record, 'orders\":100', 'orders\":1')", "replayed"),
        ("delete from execution.evidence", "replayed"),
        ("update compliance.approvals set risk_hash = 'another'", "approved"),
        ("update execution.order_events set fence = 7 where to_state = 'submitting'", "fence"),
        ("insert into execution.verdicts select batch_id, attempt, 900 + seq, gate, rule, intent_id, 'deny', value, "
         "limit_value, reason from execution.verdicts where rule = 'order_terms'", "allowed"),
        ("update audit.log set subject = 'x' where seq = 2", "log"),
    ],
)  # fmt: skip
def test_a_record_that_was_altered_is_seen_through(desk: Desk, statement: str, check: str) -> None:
    batch = plan(desk)
    desk.execute(batch)
    with connect(desk.url) as connection:
        connection.execute("set session_replication_role = replica")
        assert connection.execute(statement).rowcount > 0
    story = stories(desk).story(order_ids(batch)[0])
    assert not story["answer"]["sound"]
    assert check in {item["name"] for item in story["checks"] if not item["ok"]}


def test_only_one_order_is_meant(desk: Desk) -> None:
    plan(desk)
    store_plan(desk.url, "acct", [("AAA", Side.BUY, D(10))], name="other", session=DECIDED.replace(day=23))
    with pytest.raises(UnknownOrderError, match=r"begins several orders .* give more of it"):
        stories(desk).story("acct-")
    with pytest.raises(UnknownOrderError, match="no order is called 'oct-none'"):
        stories(desk).story("oct-none")
    with pytest.raises(UnknownOrderError, match="no order is called ''"):
        stories(desk).story("")
    waiting = stories(desk).story("acct-other")
    assert waiting["order"]["status"] == "planned"
    assert waiting["answer"]["because"] == "execution has not judged it"
    assert rows(desk.url, "select count(*) from execution.order_intents") == [(0,)]


def test_the_record_of_what_was_judged_gives_every_verdict_again(desk: Desk) -> None:
    """Also where no datum was there, an order was already open, and amounts have fractions."""
    from octopus.compliance.replay import judged_again
    from octopus.core.ids import canonical_json
    from octopus.core.orders import OpenOrder

    batch = plan(desk)
    odd = replace(batch, orders=tuple(replace(order, quantity=D("0.33333333")) for order in batch.orders))
    snapshot = AccountSnapshot(
        "acct", OPEN, D("1234.56"), {"AAA": D("-1.5")}, {"AAA": D("0.1")}, (OpenOrder("w", "BBB", Side.SELL, D(1)),)
    )
    context = ComplianceContext(EXECUTED, None, CLOSE, None, None, "total_return", {"AAA": D(3)}, sending=True)
    report = judge_compliance(odd, snapshot, context, policy(), OPEN)
    assert report.evidence is not None
    again = judged_again(canonical_json(report.evidence.record()), {})
    assert again.verdicts == report.verdicts
    assert again.approved == report.approved
