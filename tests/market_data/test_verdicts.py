"""What becomes of rows under a finding: held, repaired, kept, taken back; by policy and by a person."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions
from octopus.warehouse.defects import repair
from octopus.warehouse.quality import Kind
from octopus.warehouse.verdicts import Case, Verdicts, personal_verdict, policy_verdicts, taken_back

XNYS = Sessions()
DAYS = [day.item() for day in XNYS.between(date(2022, 3, 1), date(2022, 3, 10))]
NOW = datetime(2022, 4, 1, tzinfo=UTC)


def bars(*decided: date) -> pl.DataFrame:
    """Eight bars at 100, the third a hundred times too high."""
    closes = [10_000.0 if place == 2 else 100.0 for place in range(len(DAYS))]
    stamps = [XNYS.close_utc(day) for day in DAYS]
    return pl.DataFrame(
        {
            "source": "s", "instrument": "A", "ts": stamps, "session": DAYS,
            **dict.fromkeys(("open", "high", "low", "close"), closes), "volume": 1e6, "adj_close": closes,
            "known_at": [stamp + timedelta(minutes=15) for stamp in stamps], "known_at_imputed": True,
            "decided": [day in decided for day in DAYS],
        }
    )  # fmt: skip


def actions(*rows: tuple[date, str, float], decided: bool = False) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"source": "s", "instrument": "A", "ts": XNYS.open_utc(day), "session": day, "kind": kind, "value": value,
             "detail": None, "known_at": XNYS.open_utc(day), "known_at_imputed": True, "decided": decided}
            for day, kind, value in rows
        ],
        schema={"source": pl.String, "instrument": pl.String, "ts": pl.Datetime("us", "UTC"), "session": pl.Date,
                "kind": pl.String, "value": pl.Float64, "detail": pl.String, "known_at": pl.Datetime("us", "UTC"),
                "known_at_imputed": pl.Boolean, "decided": pl.Boolean},
    )  # fmt: skip


def case(kind: Kind, first: date, mended: repair.Repair | None, known: date | None = None) -> Case:
    proposal = None if mended is None else {**mended, "instrument": "A"}
    return Case("f" * 32, kind, "A", first, first, proposal, XNYS.close_utc(known or first) + timedelta(minutes=15))


PRICES = ("open", "high", "low", "close")
UNIT = case(Kind.UNIT_ERROR, DAYS[2], repair.multiply(PRICES, 0.01, str(DAYS[2]), str(DAYS[2])), known=DAYS[3])


def test_the_policy_holds_a_severe_row_from_when_its_evidence_was_complete():
    found = policy_verdicts([(UNIT, "hold")], bars(), actions(), XNYS)
    (row,) = found.bars.iter_rows(named=True)
    assert (row["session"], row["excluded"], row["decision"], row["decided_by"]) == (DAYS[2], True, "hold", "policy")
    assert row["close"] == 10_000.0, "held as it was sent"
    assert row["known_at"] == XNYS.close_utc(DAYS[3]) + timedelta(minutes=15)
    assert row["known_at_imputed"]
    assert found.actions.is_empty()


def test_a_row_that_somebody_decided_about_is_left_alone():
    assert policy_verdicts([(UNIT, "hold")], bars(DAYS[2]), actions(), XNYS).bars.is_empty()


def test_the_policy_may_keep_and_may_repair():
    assert policy_verdicts([(UNIT, "keep")], bars(), actions(), XNYS).bars.is_empty()
    (row,) = policy_verdicts([(UNIT, "repair")], bars(), actions(), XNYS).bars.iter_rows(named=True)
    assert (row["open"], row["close"], row["volume"], row["excluded"]) == (100.0, 100.0, 1e6, False)


def test_a_repair_that_is_not_proposed_is_held_by_the_policy_and_refused_to_a_person():
    spike = case(Kind.PRICE_SPIKE, DAYS[2], None)
    (row,) = policy_verdicts([(spike, "repair")], bars(), actions(), XNYS).bars.iter_rows(named=True)
    assert (row["session"], row["excluded"], row["decision"]) == (DAYS[2], True, "hold")
    with pytest.raises(MissingDataError, match="proposes no repair"):
        personal_verdict(spike, "repair", bars(), actions(), XNYS, by="me", reason="r", now=NOW)


def test_before_a_missing_split_every_bar_is_held_and_a_repair_adds_the_split():
    split = case(Kind.MISSING_SPLIT, DAYS[4], repair.add_action("split", str(DAYS[4]), 2.0))
    held = policy_verdicts([(split, "hold")], bars(), actions(), XNYS)
    assert held.bars["session"].to_list() == DAYS[:4]
    assert held.actions.is_empty()
    mended = policy_verdicts([(split, "repair")], bars(), actions(), XNYS)
    assert mended.bars.is_empty()
    (added,) = mended.actions.iter_rows(named=True)
    assert (added["session"], added["kind"], added["value"], added["excluded"]) == (DAYS[4], "split", 2.0, False)
    assert (added["source"], added["ts"]) == ("s", XNYS.open_utc(DAYS[4]))


def test_a_phantom_action_is_held_itself_and_no_bar():
    phantom = case(Kind.PHANTOM_SPLIT, DAYS[4], repair.remove_action("split", str(DAYS[4]), 2.0))
    sent = actions((DAYS[4], "split", 2.0), (DAYS[4], "dividend", 0.5))
    for decision in ("hold", "repair"):
        found = policy_verdicts([(phantom, decision)], bars(), sent, XNYS)
        assert found.bars.is_empty()
        assert found.actions.select("kind", "excluded").rows() == [("split", True)]


def test_a_moved_action_leaves_one_day_and_comes_to_the_other():
    moved = case(Kind.MISDATED_SPLIT, DAYS[3], repair.move_action("split", str(DAYS[3]), 2.0, str(DAYS[5])))
    found = policy_verdicts([(moved, "repair")], bars(), actions((DAYS[3], "split", 2.0)), XNYS).actions
    assert sorted(found.select("session", "value", "excluded").rows()) == [(DAYS[3], 2.0, True), (DAYS[5], 2.0, False)]


def test_a_history_in_another_unit_is_held_up_to_where_it_ends():
    level = case(Kind.UNIT_ERROR, DAYS[3], repair.multiply(PRICES, 100.0, None, str(DAYS[2])))
    assert policy_verdicts([(level, "hold")], bars(), actions(), XNYS).bars["session"].to_list() == DAYS[:3]


def test_where_two_findings_decide_being_kept_out_wins():
    held = case(Kind.IMPOSSIBLE_BAR, DAYS[2], None)
    for order in ([(UNIT, "repair"), (held, "hold")], [(held, "hold"), (UNIT, "repair")]):
        (row,) = policy_verdicts(order, bars(), actions(), XNYS).bars.iter_rows(named=True)
        assert row["excluded"]


def test_what_a_person_decides_is_known_from_then_on():
    (row,) = personal_verdict(
        UNIT, "keep", bars(DAYS[2]), actions(), XNYS, by="me", reason="it is so", now=NOW
    ).bars.rows(named=True)
    assert (row["known_at"], row["known_at_imputed"], row["excluded"]) == (NOW, False, False)
    assert (row["decided_by"], row["reason"]) == ("me", "it is so")
    nowhere = case(Kind.PRICE_SPIKE, date(2022, 5, 2), None)
    with pytest.raises(MissingDataError, match="no stored row"):
        personal_verdict(nowhere, "hold", bars(), actions(), XNYS, by="me", reason="r", now=NOW)


def test_taking_back_gives_the_vendors_rows_back_and_takes_an_added_action_away():
    split = case(Kind.MISSING_SPLIT, DAYS[4], repair.add_action("split", str(DAYS[4]), 2.0))
    for one, sent in ((UNIT, bars(DAYS[2])), (split, bars())):
        in_force = personal_verdict(one, "repair", bars(), actions(), XNYS, by="me", reason="r", now=NOW)
        back = taken_back(one, in_force, sent, actions(), by="me", reason="wrong", now=NOW + timedelta(days=1))
        assert back.bars.select("close", "excluded").rows() == ([(10_000.0, False)] if one is UNIT else [])
        assert back.actions.select("value", "excluded").rows() == ([] if one is UNIT else [(2.0, True)])
        assert set(back.bars["decision"]) | set(back.actions["decision"]) == {"take_back"}
    nothing = Verdicts(back.bars.clear(), back.actions.clear())
    with pytest.raises(MissingDataError, match="none to take back"):
        taken_back(UNIT, nothing, bars(), actions(), by="me", reason="r", now=NOW)


def test_a_finding_about_the_source_as_a_whole_has_no_rows_to_decide_on():
    with pytest.raises(MissingDataError, match="whole source"):
        Case.from_row({"finding_id": "x", "instrument": None})
