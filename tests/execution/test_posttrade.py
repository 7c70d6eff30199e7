"""After the trade: what execution recorded is looked through and reported, once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    D,
    Desk,
    ManualClock,
    flat_feed,
    paper,
    rows,
    store_plan,
)
from test_execution_reports import DeskTrading

from assets import compliance, execution
from octopus.compliance.surveillance import Pattern, SurveillanceTerms, blind, watch
from octopus.core.orders import Side
from octopus.core.sessions import Sessions
from resources.settings import load_settings
from resources.warehouse import posttrade
from resources.warehouse.connection import Role, connect
from resources.warehouse.order_store import TradingHaltedError
from resources.warehouse.store import Warehouse

LATER = SESSIONS.next(EXECUTED)
NAMES = ["AAA", "BBB"]
POLICY = load_settings({}).compliance


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Desk:
    clock, feed = ManualClock(OPEN), flat_feed(NAMES)
    made = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed), tmp_path / "audit.anchor")
    made.open()
    batch = store_plan(database_url, "acct", [("AAA", Side.BUY, D(100)), ("BBB", Side.BUY, D(10))])
    made.execute(batch)
    return made


def bars(url: str, basis: str = "raw") -> None:
    """AAA closes 1 % higher on a thin day."""
    with connect(url) as connection:
        for name in NAMES:
            connection.execute(
                "insert into raw.instruments (source, instrument, ts, exchange, currency, asset_class, price_basis, "
                "known_at, known_at_imputed, ingested_at, batch_id) "
                "values ('s', %s, '2000-01-01', 'XNYS', 'USD', 'equity', %s, now(), false, now(), 1)",
                [name, basis],
            )
            for day, close in ((DECIDED, 100.0), (EXECUTED, 101.0)):
                connection.execute(
                    "insert into raw.bars (source, instrument, ts, session, close, volume, known_at, known_at_imputed, "
                    "ingested_at, batch_id) values ('s', %s, %s, %s, %s, 1000, now(), false, now(), 1)",
                    [name, SESSIONS.close_utc(day), day, close],
                )


def test_what_execution_recorded_is_looked_through(desk: Desk) -> None:
    bars(desk.url)
    warehouse = Warehouse(desk.url, Role.TRADER)
    record = posttrade.sent(warehouse, SESSIONS, "s", "acct", EXECUTED)
    assert {order.order_type for order in record.orders} == {"market_on_close"}
    assert {fill.at for fill in record.fills} == {CLOSE}
    (finding,) = watch(record.orders, record.fills, record.market, SurveillanceTerms())
    assert (finding.pattern, finding.instrument, finding.value) == (Pattern.MARKING_THE_CLOSE, "AAA", 0.1)
    assert posttrade.save_findings(warehouse, "acct", EXECUTED, [finding])
    assert not posttrade.save_findings(warehouse, "acct", EXECUTED, [finding])
    assert len(rows(desk.url, "select from compliance.surveillance")) == 1
    reports = posttrade.reports(warehouse, SESSIONS, "s", "acct", DECIDED, EXECUTED, POLICY)
    assert reports["exceptions"]["what"].to_list() == ["marking_the_close"]
    assert posttrade.sent(warehouse, SESSIONS, "s", "acct", DECIDED).orders == ()


@pytest.mark.parametrize("exchange", ["24/7", "XNYS"])
def test_each_fill_and_its_order_are_of_the_session_that_they_belong_to(desk: Desk, exchange: str) -> None:
    """Also where one session opens at the close of another: what is filled after it did not mark that close."""
    sessions, warehouse = Sessions(exchange), Warehouse(desk.url, Role.TRADER)
    days = [DECIDED, EXECUTED, LATER]
    bars(desk.url)
    for minutes in (-700, -5, 0, 1, 300, 390, 500, 1200):
        at = sessions.close_utc(EXECUTED) + timedelta(minutes=minutes)
        with connect(desk.url) as connection:
            connection.execute("update execution.fills set at = %s", [at])
            connection.execute("update execution.orders set submitted_at = %s", [at])
        seen = {day: posttrade.sent(warehouse, sessions, "s", "acct", day) for day in days}
        own = sessions.trade_date(at)
        assert {day: len(record.fills) for day, record in seen.items()} == {day: 2 * (day == own) for day in days}
        assert {day: len(record.orders) for day, record in seen.items()} == {day: 2 * (day == own) for day in days}
        marking = [
            day for day, record in seen.items()
            if watch(record.orders, record.fills, record.market, SurveillanceTerms())
        ]  # fmt: skip
        late = own == EXECUTED and minutes >= -10
        assert marking == ([EXECUTED] if late else []), minutes


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize(("before", "ratio"), [(200.0, 2.0), (10.0, 0.1), (201.5, 2.0)])
def test_a_split_is_no_move_into_the_close(desk: Desk, before: float, ratio: float, removed: bool) -> None:
    """AAA closes at 101; the close before is in the shares of before: at 100 in those of the day, or at 100.75."""
    bars(desk.url)
    told = {
        "source": "s", "instrument": "AAA", "ts": SESSIONS.open_utc(EXECUTED), "session": EXECUTED, "kind": "split",
        "value": ratio, "known_at": OPEN, "known_at_imputed": False, "ingested_at": OPEN, "batch_id": 1,
    }  # fmt: skip
    verdict = {
        "excluded": True, "decision": "repair", "finding_id": "0123456789abcdef", "decided_by": "policy",
        "reason": "a test", "batch_id": 2,
    }  # fmt: skip
    with connect(desk.url) as connection:
        connection.execute("update raw.bars set close = %s where session = %s", [before, DECIDED])
        for table, row in (("corporate_actions", told), ("action_verdicts", told | verdict))[: 1 + removed]:
            marks = ", ".join(["%s"] * len(row))
            insert = f"insert into raw.{table} ({', '.join(row)}) values ({marks})"
            connection.execute(insert, list(row.values()))  # type: ignore[arg-type]
    record = posttrade.sent(Warehouse(desk.url, Role.TRADER), SESSIONS, "s", "acct", EXECUTED)
    adjusted = before if removed else before / ratio
    assert record.market["AAA"].price_before == pytest.approx(adjusted)
    assert record.market["BBB"].price_before == before, "only what was split"
    found = watch(record.orders, record.fills, record.market, SurveillanceTerms(close_move_bps=80))
    marked = [one.instrument for one in found if one.pattern is Pattern.MARKING_THE_CLOSE]
    assert ("AAA" in marked) is (101.0 / adjusted - 1 >= 0.008)


def test_the_limits_report_is_nearest_to_floors_from_above(desk: Desk) -> None:
    """Of a ceiling the highest value counts, of a floor the lowest: used is all of a limit that is just kept."""
    verdicts = [
        ("risk", "equity_min_usd", None, "pass", 50_000.0, 25_000.0),
        ("risk", "name_weight", None, "pass", 0.1, 0.2),
        ("risk", "net_min", None, "pass", 0.9, 0.0),
        ("compliance", "minimum_price", "a", "pass", 400.0, 5.0),
        ("compliance", "minimum_price", "b", "pass", 6.25, 5.0),
        ("compliance", "order_count", None, "pass", 2.0, 100.0),
        ("compliance", "initial_margin", "a", "pass", 300.0, 0.0),
        ("compliance", "initial_margin", "b", "warn", -1.0, 0.0),
        ("compliance", "position_limit_fraction", "a", "pass", 0.05, 0.2),
        ("compliance", "position_limit_fraction", "b", "deny", 0.3, 0.2),
        ("compliance", "watch_list", "a", "pass", None, None),
    ]
    with connect(desk.url) as connection:
        batch, attempt = connection.execute("select batch_id, attempt from execution.attempts").fetchall()[0]
        connection.execute("delete from execution.verdicts")
        for seq, (gate, rule, intent, outcome, value, limit) in enumerate(verdicts, 1):
            row = [batch, attempt, seq, gate, rule, intent, outcome, value, limit, ""]
            connection.execute("insert into execution.verdicts values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", row)
    made = posttrade.reports(Warehouse(desk.url, Role.TRADER), SESSIONS, "s", "acct", DECIDED, EXECUTED, POLICY)
    columns = ("rule", "verdicts", "denied", "warned", "nearest", "limit_value", "bound", "used")
    assert made["limits"].select(columns).rows() == [
        ("position_limit_fraction", 2, 1, 0, 0.3, 0.2, "at most", pytest.approx(1.5)),
        ("minimum_price", 2, 0, 0, 6.25, 5.0, "at least", 0.8),
        ("equity_min_usd", 1, 0, 0, 50_000.0, 25_000.0, "at least", 0.5),
        ("name_weight", 1, 0, 0, 0.1, 0.2, "at most", 0.5),
        ("order_count", 1, 0, 0, 2.0, 100.0, "at most", 0.02),
        ("initial_margin", 2, 0, 1, -1.0, 0.0, "at least", None),
        ("watch_list", 1, 0, 0, None, None, "at most", None),
        ("net_min", 1, 0, 0, 0.9, 0.0, "at least", None),
    ]


def test_of_a_total_return_index_nothing_is_told_about_the_close(desk: Desk) -> None:
    bars(desk.url, "total_return")
    record = posttrade.sent(Warehouse(desk.url, Role.TRADER), SESSIONS, "s", "acct", EXECUTED)
    assert blind(record.fills, record.market) == NAMES


def test_the_reports_say_what_was_done_and_at_what_price(desk: Desk) -> None:
    bars(desk.url)
    warehouse = Warehouse(desk.url, Role.TRADER)
    reports = posttrade.reports(warehouse, SESSIONS, "s", "acct", DECIDED, EXECUTED, POLICY)
    blotter = reports["blotter"]
    assert blotter.select("instrument", "ordered", "filled", "price", "rate", "state").rows() == [
        ("AAA", 100, 100, 100, 1, "filled"), ("BBB", 10, 10, 100, 1, "filled"),
    ]  # fmt: skip
    best = reports["best_execution"]
    assert best["shortfall_bps"].to_list() == [0, 0]
    assert best["against_close_bps"].to_list() == pytest.approx([-99.0099] * 2)
    assert reports["exceptions"].is_empty()
    assert posttrade.save_reports(warehouse, "acct", EXECUTED, reports)
    assert not posttrade.save_reports(warehouse, "acct", EXECUTED, reports)
    assert len(rows(desk.url, "select from compliance.daily_reports")) == 5


def test_what_kept_a_batch_from_being_sent_is_in_the_report_of_its_day(desk: Desk) -> None:
    """A trade by hand, found before the batch's orders: the run that compares the books tells of it."""
    with connect(desk.url) as connection:
        connection.execute("update paper.fills set quantity = quantity + 3 where instrument = 'BBB'")
    desk.feed.bars.update(flat_feed(NAMES, days=[LATER]).bars)
    desk.clock.at = SESSIONS.open_utc(LATER)
    batch = store_plan(
        desk.url,
        "acct",
        [("AAA", Side.BUY, D(1))],
        name="later",
        session=EXECUTED,
        created_at=CLOSE + timedelta(hours=1),
    )
    with pytest.raises(TradingHaltedError):
        desk.execute(batch)
    desk.clock.at = SESSIONS.decision_utc(LATER)
    assets = (execution.positions, execution.reconciliation, *compliance.POSTTRADE_ASSETS)
    resources = {"warehouse": Warehouse(desk.url, Role.TRADER), "trading": DeskTrading(desk)}
    for _ in range(2):
        assert dg.materialize(
            assets, partition_key=EXECUTED.isoformat(), resources=resources, instance=dg.DagsterInstance.ephemeral()
        ).success
    ((exceptions,),) = rows(
        desk.url, "select rows::jsonb from compliance.daily_reports where session = %s and report = 'exceptions'", LATER
    )
    told = {(one["kind"], one["what"], one["subject"]) for one in exceptions}
    assert {("refusal", "refused", batch.batch_id), ("halt", "halted", "acct")} <= told
    breaks = [one["detail"] for one in exceptions if one["kind"] == "reconciliation"]
    before = [detail for detail in breaks if detail.startswith("before the batch: ")]
    assert before
    assert len(breaks) == 2 * len(before), "the day's own comparison found the same again"
