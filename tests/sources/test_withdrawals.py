"""Rows that a vendor takes back or moves after the fact, through a collection and into a real warehouse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from octopus.core.errors import MissingDataError
from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from octopus.market_data.coverage import Window
from octopus.market_data.schema import INSTRUMENTS_SCHEMA
from octopus.market_data.settle import settle_actions, settle_bars
from octopus.warehouse.quality import Finding, Kind, Severity, finding_rows
from octopus.warehouse.verdicts import JUDGED_ACTIONS, policy_verdicts, severe_cases
from octopus.warehouse.withdrawals import MOST_AT_ONCE, findings
from resources.collection import Collected, collect
from resources.sources.base import MarketData
from resources.warehouse import coverage, verdicts, withdrawals
from resources.warehouse.connection import Role
from resources.warehouse.prices import WarehousePrices
from resources.warehouse.revisions import revisions
from resources.warehouse.store import Warehouse
from resources.warehouse.verdicts import vendor_actions

XNYS = Sessions()
DAYS = [day.item() for day in XNYS.between(date(2022, 11, 1), date(2022, 12, 30))]
FIRST = DAYS[0]
MONDAY, TUESDAY, WEDNESDAY, THURSDAY = date(2022, 12, 19), date(2022, 12, 20), date(2022, 12, 21), date(2022, 12, 22)


@dataclass
class Vendor:
    """A source that sends the sessions and dividends that it has.

    Attributes:
        bars: sessions by instrument. paid: cash by instrument and session. spun: shares of another company likewise,
            and its name; a ratio of 1 to a name is a change of name. refuses: what of an answer is malformed.
    """

    bars: dict[str, list[date]]
    paid: dict[str, dict[date, float]] = field(default_factory=dict)
    spun: dict[str, dict[date, tuple[str, float, str]]] = field(default_factory=dict)
    refuses: list[Reject] = field(default_factory=list)
    closes: dict[date, float] = field(default_factory=dict)
    name: str = "vendor"
    needs: tuple[str, ...] = ()

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: object = ()
    ) -> Iterator[MarketData]:
        bars = [
            pl.DataFrame({"session": self.bars[symbol]}, schema={"session": pl.Date}).select(
                source=pl.lit(self.name), instrument=pl.lit(symbol), session="session", open=pl.lit(None, pl.Float64),
                high=pl.lit(None, pl.Float64), low=pl.lit(None, pl.Float64), volume=pl.lit(1e6),
                close=pl.Series(
                    [self.closes.get(day, 100.0 + day.toordinal() % 97) for day in self.bars[symbol]], dtype=pl.Float64
                ),
            )
            for symbol in symbols
        ]  # fmt: skip
        acts = [
            pl.DataFrame({"session": list(paid), "value": list(paid.values())}).select(
                source=pl.lit(self.name), instrument=pl.lit(symbol), session="session", kind=pl.lit("dividend"),
                value="value",
            )
            for symbol in symbols if (paid := self.paid.get(symbol))
        ]  # fmt: skip
        acts += [
            pl.DataFrame({"session": list(told)}).select(
                source=pl.lit(self.name), instrument=pl.lit(symbol), session="session",
                kind=pl.Series([kind for kind, _, _ in told.values()]),
                value=pl.Series([value for _, value, _ in told.values()]),
                detail=pl.Series([detail for _, _, detail in told.values()]),
            )
            for symbol in symbols if (told := self.spun.get(symbol))
        ]  # fmt: skip
        settled = settle_bars(bars, start, end, sessions, datetime(2026, 1, 1, tzinfo=UTC))
        actions, _ = settle_actions(acts, start, end, sessions)
        yield MarketData(tuple(symbols), INSTRUMENTS_SCHEMA.to_frame(), settled.bars, actions, self.refuses, "hash")


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    return Warehouse(database_url, Role.RESEARCH)


def run(
    warehouse: Warehouse, vendor: Vendor, session: date, since: date = FIRST, now: datetime | None = None
) -> Collected:
    """Ask for sessions ``since`` to ``session``, half an hour after the latter's decision."""
    now = now or at(session)
    asked = coverage.read(warehouse, vendor.name, list(vendor.bars), XNYS, now)
    windows = [Window(since, tuple(sorted(vendor.bars)))]
    return collect(warehouse, vendor, windows, session, asked, XNYS, now=now)


def at(session: date) -> datetime:
    """When a session is collected here."""
    return XNYS.decision_utc(session) + timedelta(minutes=30)


def found(warehouse: Warehouse, session: date) -> list[Finding]:
    """What is said as of the decision of a session."""
    return findings(withdrawals.read(warehouse, "vendor", XNYS.decision_utc(session)), XNYS)


def gone(collected: Collected) -> tuple[int, int]:
    return collected.tables["bars"].withdrawn, collected.tables["corporate_actions"].withdrawn


def until(last: date, *without: date) -> list[date]:
    return [day for day in DAYS if day <= last and day not in without]


def test_a_dividend_that_moves_is_withdrawn_where_it_stood_and_known_where_it_stands_from_then_on(
    warehouse: Warehouse,
) -> None:
    vendor = Vendor({"KO": until(WEDNESDAY)}, {"KO": {TUESDAY: 0.44}})
    assert gone(run(warehouse, vendor, WEDNESDAY)) == (0, 0)
    vendor.bars["KO"].append(THURSDAY)
    vendor.paid["KO"] = {WEDNESDAY: 0.44}
    assert gone(run(warehouse, vendor, THURSDAY, MONDAY)) == (0, 1)

    assert found(warehouse, WEDNESDAY) == [], "Wednesday's decision saw what was sent by then"
    (told,) = found(warehouse, THURSDAY)
    assert (told.kind, told.severity, told.instrument) == (Kind.WITHDRAWN_DIVIDEND, Severity.SEVERE, "KO")
    assert told.evidence["moved_to"] == str(WEDNESDAY)
    assert told.evidence["stood"] == {"value": 0.44, "detail": None}
    assert told.evidence["stored"] == at(WEDNESDAY).isoformat()
    assert told.repair == {
        "action": "remove_action", "kind": "dividend", "session": str(TUESDAY), "value": 0.44, "instrument": "KO",
    }  # fmt: skip
    seen = [
        vendor_actions(warehouse, "vendor", XNYS.decision_utc(day))["session"].to_list()
        for day in (WEDNESDAY, THURSDAY)
    ]
    assert seen == [[TUESDAY], [TUESDAY, WEDNESDAY]], "nothing is deleted, and the new one is not known before it came"
    changes = revisions(warehouse, "vendor", FIRST, THURSDAY).select("session", "row", "change", "field", "before")
    assert changes.rows() == [(TUESDAY, "dividend", f"moved to {WEDNESDAY}", "value", "0.44")]
    assert gone(run(warehouse, vendor, THURSDAY, MONDAY)) == (0, 0), "it is withdrawn once"


def test_what_is_sent_again_is_a_version_of_its_own_and_ends_the_finding(warehouse: Warehouse) -> None:
    vendor = Vendor({"KO": until(WEDNESDAY)}, {"KO": {TUESDAY: 0.44}})
    run(warehouse, vendor, WEDNESDAY)
    vendor.bars["KO"], vendor.paid["KO"] = until(THURSDAY, MONDAY), {}
    assert gone(run(warehouse, vendor, THURSDAY, MONDAY)) == (1, 1)
    assert [one.kind for one in found(warehouse, THURSDAY)] == [Kind.WITHDRAWN_BAR, Kind.WITHDRAWN_DIVIDEND]
    friday, tuesday = date(2022, 12, 23), date(2022, 12, 27)
    vendor.bars["KO"], vendor.paid["KO"] = until(friday), {TUESDAY: 0.44}
    again = run(warehouse, vendor, friday, MONDAY)
    assert (again.tables["bars"].restated, again.tables["corporate_actions"].restated) == (1, 1)
    assert found(warehouse, tuesday) == []
    assert len(found(warehouse, THURSDAY)) == 2, "as of Thursday it stood"
    versions = warehouse.rows("select known_at, batch_id from raw.corporate_actions order by batch_id")
    assert [row["known_at"] for row in versions] == [XNYS.open_utc(TUESDAY), at(friday)]
    told = revisions(warehouse, "vendor", MONDAY, TUESDAY).filter(pl.col("field").is_in(["close", "value"]))
    assert told.select("row", "change", "before", "after").rows() == [
        ("bar", "withdrawn", "147.0", None), ("bar", "sent again", None, "147.0"),
        ("dividend", "withdrawn", "0.44", None), ("dividend", "sent again", None, "0.44"),
    ]  # fmt: skip
    vendor.paid["KO"] = {}
    assert gone(run(warehouse, vendor, tuesday, MONDAY)) == (0, 1), "and it may be withdrawn once more"
    assert [one.kind for one in found(warehouse, tuesday)] == [Kind.WITHDRAWN_DIVIDEND]


def test_an_answer_that_is_not_whole_withdraws_nothing(warehouse: Warehouse) -> None:
    vendor = Vendor({"KO": until(THURSDAY), "MSFT": until(THURSDAY)}, {"KO": {TUESDAY: 0.44}})
    run(warehouse, vendor, THURSDAY)
    vendor.bars["KO"], vendor.paid = [], {}
    assert gone(run(warehouse, vendor, THURSDAY, MONDAY)) == (0, 0), "nothing is no answer"
    vendor.bars["KO"] = until(THURSDAY, MONDAY)
    for refused, expected in (("KO", (0, 0)), (None, (0, 0)), ("MSFT", (1, 1))):
        vendor.refuses = [Reject(table, refused, "no number", {}) for table in ("bars", "corporate_actions")]
        assert gone(run(warehouse, vendor, THURSDAY, MONDAY)) == expected, f"a row of {refused} was refused"


def test_a_history_that_shrinks_is_one_finding_and_keeps_nothing_out(warehouse: Warehouse) -> None:
    paid = dict.fromkeys(DAYS[:12], 0.1)
    vendor = Vendor({"KO": until(THURSDAY)}, {"KO": dict(paid)})
    run(warehouse, vendor, THURSDAY)
    vendor.bars["KO"], vendor.paid = until(THURSDAY)[15:], {}
    assert gone(run(warehouse, vendor, THURSDAY)) == (15, 12)
    told = found(warehouse, date(2022, 12, 23))
    assert [(one.kind, one.severity, one.session_from, one.session_to, one.repair) for one in told] == [
        (Kind.WITHDRAWN_HISTORY, Severity.WARN, FIRST, DAYS[14], None),
        (Kind.WITHDRAWN_HISTORY, Severity.WARN, FIRST, DAYS[11], None),
    ]
    assert [one.evidence["rows"] for one in told] == [15, 12]
    assert len({one.finding_id("vendor") for one in told}) == 2
    assert warehouse.scalar("select count(*) from raw.withdrawals") == 2
    assert gone(run(warehouse, vendor, THURSDAY)) == (0, 0)
    changes = revisions(warehouse, "vendor", FIRST, THURSDAY).select("row", "change", "field", "before", "after")
    assert ("bars", f"withdrawn up to {DAYS[14]}", "rows", "15", None) in changes.rows()
    vendor.bars["KO"], vendor.paid = until(THURSDAY), {"KO": paid}
    again = run(warehouse, vendor, date(2022, 12, 23))
    assert again.tables["bars"].restated == 0, "rows that were never kept out need no new version"
    assert found(warehouse, date(2022, 12, 27)) == []


def test_a_feed_that_falls_silent_for_many_is_one_finding_about_the_source(warehouse: Warehouse) -> None:
    names = [f"S{number:02d}" for number in range(MOST_AT_ONCE + 3)]
    vendor = Vendor({name: until(THURSDAY) for name in names}, {name: {TUESDAY: 0.2} for name in names[:-1]})
    run(warehouse, vendor, THURSDAY)
    vendor.paid = {}
    vendor.bars["S00"] = until(THURSDAY, MONDAY)
    assert gone(run(warehouse, vendor, THURSDAY, MONDAY)) == (1, len(names) - 1)
    history, bar = sorted(found(warehouse, date(2022, 12, 23)), key=lambda one: one.instrument or "")
    assert (history.kind, history.severity, history.instrument) == (Kind.WITHDRAWN_HISTORY, Severity.SEVERE, None)
    assert history.evidence["instruments"] == len(names) - 1
    assert (bar.kind, bar.severity, bar.instrument) == (Kind.WITHDRAWN_BAR, Severity.WARN, "S00")


def test_a_spin_off_that_is_withdrawn_is_held_by_a_decision_and_taken_back_by_another(warehouse: Warehouse) -> None:
    vendor = Vendor({"T": until(WEDNESDAY), "WBD": until(WEDNESDAY)}, {"T": {MONDAY: 0.5}})
    vendor.spun = {"T": {TUESDAY: ("spin_off", 0.24, "WBD")}}
    run(warehouse, vendor, WEDNESDAY)
    vendor.spun = {}
    run(warehouse, vendor, THURSDAY, MONDAY)
    (told,) = found(warehouse, THURSDAY)
    assert (told.kind, told.severity) == (Kind.WITHDRAWN_SPIN_OFF, Severity.SEVERE)
    assert told.evidence["stood"] == {"value": 0.24, "detail": "WBD"}

    calendars = warehouse.calendars("vendor", XNYS)
    warehouse.insert_new(
        "ops.quality_findings",
        finding_rows([told], "vendor", calendars).with_columns(ingested_at=pl.lit(at(THURSDAY))),
    )
    verdicts.judged(warehouse, "vendor", verdicts.last_batch(warehouse))
    prices = WarehousePrices(warehouse, "vendor", XNYS)
    after, by = XNYS.close_utc(THURSDAY), XNYS.close_utc(date(2022, 12, 30))

    def counts() -> list[tuple[str, str]]:
        told = prices.actions(["T"], XNYS.close_utc(FIRST), by)
        return [(action.kind.value, action.detail) for action in told]

    def decide(decision: verdicts.Decision, hours: int) -> tuple[str, int, int]:
        return verdicts.decide(
            warehouse, told.finding_id("vendor"), decision, XNYS, by="me", reason="no other has it",
            now=after + timedelta(hours=hours),
        )  # fmt: skip

    assert counts() == [("dividend", ""), ("spin_off", "WBD")], "it stays in use until somebody decides"
    for hours, decision, left in ((1, "hold", 1), (2, "take_back", 2), (3, "repair", 1), (4, "keep", 2)):
        assert decide(decision, hours) == ("vendor", 0, 1), decision
        assert len(counts()) == left, decision
    versions = warehouse.rows(
        "select kind, value, detail, excluded, decision, known_at from raw.action_verdicts order by batch_id"
    )
    assert [tuple(row.values()) for row in versions] == [
        ("spin_off", 0.24, "WBD", excluded, decision, after + timedelta(hours=hours))
        for hours, decision, excluded in (
            (1, "hold", True), (2, "take_back", False), (3, "repair", True), (4, "keep", False)
        )
    ]  # fmt: skip
    case, bars = severe_cases([told], "vendor", calendars), verdicts.vendor_bars(warehouse, "vendor", by, ["T"])
    held = vendor_actions(warehouse, "vendor", by, kinds=JUDGED_ACTIONS).filter(pl.col("kind") == "spin_off")
    assert held["decided"].to_list() == [True], "the policy leaves it alone"
    assert policy_verdicts([(case[0], "hold")], bars, held, calendars).actions.is_empty()
    undecided = held.with_columns(decided=pl.lit(value=False))
    policy = policy_verdicts([(case[0], "hold")], bars, undecided, calendars).actions
    assert policy.select("kind", "detail", "excluded", "known_at").rows() == [
        ("spin_off", "WBD", True, XNYS.decision_utc(THURSDAY))
    ], "and would have kept it out from the decision on that first saw it gone"


def test_a_change_of_name_that_is_withdrawn_is_told_and_nothing_is_decided_about_it(warehouse: Warehouse) -> None:
    vendor = Vendor({"FB": until(WEDNESDAY)})
    vendor.spun = {"FB": {TUESDAY: ("symbol_change", 1.0, "META")}}
    run(warehouse, vendor, WEDNESDAY)
    vendor.spun = {}
    run(warehouse, vendor, THURSDAY, MONDAY)
    (told,) = found(warehouse, THURSDAY)
    assert (told.kind, told.severity, told.repair) == (Kind.WITHDRAWN_ACTION, Severity.WARN, None)
    rows = finding_rows([told], "vendor", warehouse.calendars("vendor", XNYS))
    warehouse.insert_new("ops.quality_findings", rows.with_columns(ingested_at=pl.lit(at(THURSDAY))))
    for decision in ("hold", "keep"):
        with pytest.raises(MissingDataError, match="who an instrument is"):
            verdicts.decide(
                warehouse, told.finding_id("vendor"), decision, XNYS, by="me", reason="a test", now=at(THURSDAY)
            )
    assert warehouse.scalar("select count(*) from raw.action_verdicts") == 0


def test_a_bar_that_moves_is_told_with_its_new_day_and_a_frozen_price_is_not(warehouse: Warehouse) -> None:
    vendor = Vendor({"KO": until(THURSDAY, WEDNESDAY)}, closes={DAYS[30]: 7.0, DAYS[31]: 7.0, TUESDAY: 9.0})
    run(warehouse, vendor, THURSDAY)
    vendor.bars["KO"] = until(THURSDAY, TUESDAY, DAYS[30])
    vendor.closes[WEDNESDAY] = 9.0
    run(warehouse, vendor, THURSDAY)
    told = {one.session_from: one.evidence["moved_to"] for one in found(warehouse, date(2022, 12, 23))}
    assert told == {TUESDAY: str(WEDNESDAY), DAYS[30]: None}


def test_a_bar_that_comes_days_late_is_known_from_the_first_decision_that_could_use_it(warehouse: Warehouse) -> None:
    vendor = Vendor({"KO": until(WEDNESDAY, TUESDAY)}, {"KO": {}})
    run(warehouse, vendor, WEDNESDAY)
    vendor.bars["KO"], vendor.paid["KO"] = until(THURSDAY), {MONDAY: 0.3}
    run(warehouse, vendor, THURSDAY, MONDAY)
    known = {
        row["session"]: row["known_at"]
        for row in warehouse.rows("select session, known_at from raw.bars where session >= %s", [MONDAY])
    }
    assert known[TUESDAY] == XNYS.decision_utc(THURSDAY), "Wednesday's decision was made without it"
    assert known[WEDNESDAY] < XNYS.decision_utc(WEDNESDAY)
    assert known[THURSDAY] < XNYS.decision_utc(THURSDAY), "what was never asked for before is in time"
    assert warehouse.scalar("select known_at from raw.corporate_actions") == XNYS.decision_utc(THURSDAY)


@pytest.mark.parametrize(("session", "after"), [(WEDNESDAY, 0), (TUESDAY, 1)])
def test_what_comes_when_a_session_is_asked_for_again_counts_for_it_or_after_a_later_decision(
    session: date, after: int, warehouse: Warehouse
) -> None:
    vendor = Vendor({"KO": until(WEDNESDAY, TUESDAY)})
    run(warehouse, vendor, WEDNESDAY)
    vendor.bars["KO"] = until(WEDNESDAY)
    run(warehouse, vendor, session, MONDAY, at(WEDNESDAY) + timedelta(hours=1))
    known = warehouse.scalar("select known_at from raw.bars where session = %s", [TUESDAY])
    assert known == XNYS.decision_utc(WEDNESDAY) + timedelta(microseconds=after)


def test_history_that_was_never_asked_for_is_known_as_ever(warehouse: Warehouse) -> None:
    vendor = Vendor({"KO": until(WEDNESDAY)[20:], "NEW": []})
    run(warehouse, vendor, WEDNESDAY)
    vendor.bars = {"KO": until(THURSDAY), "NEW": until(THURSDAY)}
    run(warehouse, vendor, THURSDAY)
    late = warehouse.scalar("select count(*) from raw.bars where known_at > ts + interval '1 hour'")
    assert late == 0, "older than its first bar, or of an instrument that the vendor did not know"
