"""Reference data of the user's own: what is in force when, bad rows, and policies whose data nobody brings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from octopus.compliance.market_checks import price_tests_next
from octopus.compliance.reference import Halt, InvalidReferenceError, Locate, Reference, SharesOutstanding
from octopus.compliance.rules import CompliancePolicy
from octopus.core.errors import ConfigError
from resources.reference_files import doubtful_rows, read_reference, require_sources
from resources.settings import ROOT, load_settings

D = Decimal
NOON = datetime(2022, 12, 28, 17, tzinfo=UTC)
SYMBOLS = ("AAPL", "BRK.B", "MSFT")
HALTS = "instrument,halted_at,resumed_at,reason\n"
SHIPPED = yaml.safe_load((ROOT / "config" / "compliance.yaml").read_text(encoding="utf-8"))


def policy(data: Mapping[str, str], short: bool = False, **modes: str) -> CompliancePolicy:
    rules = [rule | {"mode": modes.get(rule["kind"], rule["mode"])} for rule in SHIPPED["rules"]]
    changed = {"data": dict(data), "account": SHIPPED["account"] | {"short": short}, "rules": rules}
    return CompliancePolicy.model_validate(SHIPPED | changed)


def test_a_halt_holds_from_its_instant_until_before_its_end() -> None:
    hour = timedelta(hours=1)
    reference = Reference(halts=(Halt("AAA", NOON, NOON + hour, "news"), Halt("BBB", NOON, None, "SEC")))
    assert reference.halted(NOON - timedelta(seconds=1)) == frozenset()
    assert reference.halted(NOON) == {"AAA", "BBB"}
    assert reference.halted(NOON + hour) == {"BBB"}
    assert Reference().halted(NOON) is None


@given(quantities=st.lists(st.integers(1, 500), min_size=1, max_size=5), shift=st.integers(-2, 7))
def test_locates_of_a_session_add_up_from_their_first_day_to_their_last(quantities: list[int], shift: int) -> None:
    day = date(2022, 12, 28)
    locates = tuple(
        Locate("AAA", D(quantity), day, day + timedelta(days=place)) for place, quantity in enumerate(quantities)
    )
    found = Reference(locates=locates).located(day + timedelta(days=shift))
    expected = sum(quantities[max(shift, 0) :]) if shift >= 0 else 0
    assert found == ({"AAA": D(expected)} if expected else {})


def test_shares_outstanding_are_those_told_last() -> None:
    shares = (SharesOutstanding("AAA", date(2022, 6, 1), D(90)), SharesOutstanding("AAA", date(2022, 1, 3), D(100)))
    reference = Reference(shares=shares)
    assert reference.issued(date(2021, 12, 31)) == {}
    assert reference.issued(date(2022, 5, 31)) == {"AAA": D(100)}
    assert reference.issued(date(2022, 6, 1)) == {"AAA": D(90)}


def test_files_are_read_and_every_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "halts.csv"
    path.write_text(HALTS + "AAA,2022-12-28T15:00:00+00:00,,pending news\n", encoding="utf-8")
    chosen = policy({"halts": "halts.csv"})
    assert read_reference(chosen, tmp_path, SYMBOLS).halts == (
        Halt("AAA", datetime(2022, 12, 28, 15, tzinfo=UTC), None, "pending news"),
    )
    path.write_text(
        HALTS + "AAA,2022-12-28 15:00,,no zone\n,2022-12-28T15:00Z,,no name\nBBB,2022-12-28T15:00Z,,sound\n"
        "CCC,2022-12-28T15:00Z,2022-12-28T14:00Z,backwards\n",
        encoding="utf-8",
    )
    with pytest.raises(InvalidReferenceError) as raised:
        read_reference(chosen, tmp_path, SYMBOLS)
    lines = str(raised.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "3", "5"]
    assert "halted_at = '2022-12-28 15:00': write an instant with its zone" in lines[0]
    assert "resumed_at = '2022-12-28T14:00Z' is not after halted_at" in lines[2]


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("locates", "instrument,quantity,valid_from,expires\nAAA,-5,2022-12-28,2022-12-28\n", "quantity = '-5'"),
        ("locates", "instrument,quantity,valid_from,expires\nAAA,5,2022-12-28,2022-12-27\n", "expires = '2022-12-27'"),
        ("locates", "instrument,quantity,valid_from,expires\nAAA,1,000,2022-12-28,2022-12-28\n", "more values"),
        ("shares_outstanding", "instrument,known_from,shares\nAAA,28.12.2022,5\n", "known_from = '28.12.2022'"),
        ("shares_outstanding", "instrument,known_from,shares\nAAA,2022-12-28,many\n", "shares = 'many'"),
    ],
)
def test_a_bad_value_is_named_with_its_line(tmp_path: Path, field: str, text: str, words: str) -> None:
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidReferenceError, match=f"rows.csv:2: .*{words}"):
        read_reference(policy({field: "rows.csv"}), tmp_path, SYMBOLS)


@pytest.mark.parametrize(
    ("field", "columns", "rest"),
    [
        ("halts", "instrument,halted_at,resumed_at,reason", "2022-12-28T14:00:00+00:00,,news"),
        ("locates", "instrument,quantity,valid_from,expires", "5,2022-12-28,2022-12-28"),
        ("shares_outstanding", "instrument,known_from,shares", "2022-12-28,5"),
    ],
)
def test_a_name_that_the_universe_writes_otherwise_is_refused_with_its_line(
    tmp_path: Path, field: str, columns: str, rest: str
) -> None:
    names = ("MSFT", "aapl", "BRK-B", " AAPL", "ZZZZ", "brk b")
    (tmp_path / "rows.csv").write_text("\n".join([columns, *(f"{name},{rest}" for name in names)]), encoding="utf-8")
    with pytest.raises(InvalidReferenceError) as raised:
        read_reference(policy({field: "rows.csv"}), tmp_path, SYMBOLS)
    assert [line.split("rows.csv:")[1] for line in str(raised.value).splitlines()] == [
        "3: instrument = 'aapl': the universe writes it AAPL: write it so",
        "4: instrument = 'BRK-B': the universe writes it BRK.B: write it so",
        "7: instrument = 'brk b': the universe writes it BRK.B: write it so",
    ]
    assert len(doubtful_rows(policy({field: "rows.csv"}), tmp_path, SYMBOLS)) == 3


def test_names_of_what_is_not_traded_may_stand_and_what_is_likely_misspelt_is_told(tmp_path: Path) -> None:
    row = "2022-12-28T14:00:00+00:00,,news\n"
    (tmp_path / "halts.csv").write_text(HALTS + f"AAPL,{row}TSLA,{row}AAPLL,{row}", encoding="utf-8")
    chosen = policy({"halts": "halts.csv"})
    assert read_reference(chosen, tmp_path, SYMBOLS).halted(NOON) == {"AAPL", "TSLA", "AAPLL"}
    (told,) = doubtful_rows(chosen, tmp_path, SYMBOLS)
    assert "data.halts of compliance.yaml names AAPLL, which is no instrument of universe.yaml: is AAPL meant?" in told
    assert doubtful_rows(policy({}), tmp_path, SYMBOLS) == ()


def test_a_file_with_other_columns_or_none_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("symbol,when\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="the first line must be instrument,halted_at,resumed_at,reason"):
        read_reference(policy({"halts": "rows.csv"}), tmp_path, SYMBOLS)
    with pytest.raises(ConfigError, match=r"data\.halts"):
        read_reference(policy({"halts": "none.csv"}), tmp_path, SYMBOLS)


@pytest.mark.parametrize(
    ("short", "modes", "field"),
    [
        (False, {"trading_halt": "enforce"}, "data.halts"),
        (False, {"trading_halt": "warn"}, "data.halts"),
        (False, {"ownership_threshold": "enforce"}, "data.shares_outstanding"),
        (True, {}, "data.locates"),
    ],
)
def test_a_policy_whose_data_nobody_brings_is_a_configuration_error(
    short: bool, modes: dict[str, str], field: str
) -> None:
    with pytest.raises(ConfigError, match=f"{field} = None: rule .* needs it: name a CSV file"):
        require_sources(policy({}, short, **modes), "compliance.yaml")
    require_sources(policy({field.removeprefix("data."): "rows.csv"}, short, **modes), "compliance.yaml")
    require_sources(policy({}), "compliance.yaml")


def test_settings_refuse_it_when_they_are_read(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config" / "compliance.yaml"
    text = path.read_text(encoding="utf-8")
    start = text.index("kind: trading_halt")
    text = text[:start] + text[start:].replace("mode: broker", "mode: enforce", 1)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data\.halts"):
        load_settings({"OCTOPUS_CONFIG": str(tmp_path / "config"), "OCTOPUS_HOME": str(tmp_path)})


def test_a_fall_of_a_tenth_restricts_the_next_session_and_a_split_is_none() -> None:
    closes = np.array([[100.0, 100.0, 100.0, 100.0, np.nan], [95.0, 91.0, 50.0, 90.0, 90.0]])
    lows = np.array([[99.0] * 5, [90.0, 90.01, 46.0, np.nan, 80.0]])
    splits = np.array([[1.0] * 5, [1.0, 1.0, 2.0, 1.0, 1.0]])
    found = price_tests_next(("FELL", "LESS", "SPLIT", "NOLOW", "NEW"), closes, lows, splits)
    assert found == {"FELL": True, "LESS": False, "SPLIT": False}
    assert price_tests_next(("FELL",), closes[1:, :1], lows[1:, :1], splits[1:, :1]) == {}
