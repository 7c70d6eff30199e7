"""Reference files beside a source: Yahoo's answers over a socket, files in a folder, into a real warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from chaos_server import ChaosVendor, says
from stands import FIVE, stands, vendors

from octopus.core.errors import ConfigError
from octopus.core.sessions import Sessions
from octopus.market_data.coverage import Window
from octopus.market_data.identifiers import IdentifierConflictError
from resources.collection import Collected, collect
from resources.settings import ReferenceConfig
from resources.sources.http import Access
from resources.sources.reference import ReferenceFileError, read_reference
from resources.warehouse import coverage, identifiers
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

XNYS = Sessions()
BEFORE, SECOND, THIRD, LAST = date(2022, 6, 1), FIVE[1], FIVE[2], FIVE[4]
SYMBOLS = ("AAPL", "GONE", "META", "NEVER")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    return Warehouse(database_url, Role.RESEARCH)


@pytest.fixture
def vendor() -> Iterator[ChaosVendor]:
    with vendors() as running:
        yield running


def brought(folder: Path, **files: str) -> ReferenceConfig:
    """Reference files of the given content, each with its lines apart by a blank."""
    for name, content in files.items():
        (folder / f"{name}.csv").write_text("\n".join([*content.split(), ""]))
    return ReferenceConfig(**{name: Path(f"{name}.csv") for name in files})


def collected(
    warehouse: Warehouse, vendor: ChaosVendor, folder: Path, files: ReferenceConfig, now: datetime
) -> Collected:
    stand = stands(folder, folder)["yahoo"]
    vendor.plays(stand.route, [], says(stand.body(stand.records)))
    source = stand.make(Access(vendor.url, 2.0))
    asked = coverage.read(warehouse, "yahoo", SYMBOLS, XNYS, now)
    reference = read_reference(files, folder, XNYS)
    found = collect(warehouse, source, [Window(FIVE[0], SYMBOLS)], LAST, asked, XNYS, now=now, reference=reference)
    assert found.stopped is None
    identifiers.refresh(warehouse, "yahoo")
    return found


def stays(warehouse: Warehouse) -> dict[str, list[tuple[date | None, date | None]]]:
    """Current stays; those that end before they begin are none."""
    rows = warehouse.rows(
        "select distinct on (instrument, ts) instrument, member_from, member_to from raw.instruments "
        "where source = 'yahoo' order by instrument, ts, batch_id desc"
    )
    held: dict[str, list[tuple[date | None, date | None]]] = {row["instrument"]: [] for row in rows}
    for row in rows:
        if not (row["member_from"] and row["member_to"] and row["member_to"] < row["member_from"]):
            held[row["instrument"]].append((row["member_from"], row["member_to"]))
    return held


def test_a_source_that_knows_no_members_gets_them_from_the_users_files(
    warehouse: Warehouse, vendor: ChaosVendor, tmp_path: Path
) -> None:
    now = datetime.fromisoformat("2022-12-28T12:00+00:00")
    files = brought(
        tmp_path,
        members=f"session,instrument {BEFORE},AAPL {BEFORE},FB {BEFORE},GONE {THIRD},META {THIRD},GONE",
        actions=f"instrument,session,kind,value,detail FB,{SECOND},symbol_change,1,META GONE,{LAST},delisting,3.5,",
        instruments="instrument,lot_size,tick_size AAPL,100,0.05",
    )
    collected(warehouse, vendor, tmp_path, files, now)
    assert stays(warehouse) == {
        "AAPL": [(BEFORE, SECOND)], "FB": [(BEFORE, SECOND)], "GONE": [(BEFORE, LAST)], "META": [(THIRD, None)],
        "NEVER": [],
    }  # fmt: skip
    actions = warehouse.rows(
        "select source, instrument, session, kind, value, detail, known_at_imputed from raw.corporate_actions "
        "where kind <> 'dividend' order by instrument"
    )
    assert [tuple(row.values()) for row in actions] == [
        ("yahoo", "FB", SECOND, "symbol_change", 1.0, "META", True),
        ("yahoo", "GONE", LAST, "delisting", 3.5, None, True),
    ]
    moved = warehouse.moved("yahoo", now)
    assert set(moved["name"]) == {"META"}
    assert set(moved["ticker"]) == {"FB", "META"}
    units = warehouse.rows("select instrument, lot_size, tick_size from raw.instruments where instrument = 'AAPL'")
    assert [tuple(row.values()) for row in units] == [("AAPL", 100.0, 0.05)]
    again = collected(warehouse, vendor, tmp_path, files, now)
    assert {made.new + made.restated for made in again.tables.values()} == {0}


def test_files_that_come_later_or_are_mended_withdraw_what_was_said_before(
    warehouse: Warehouse, vendor: ChaosVendor, tmp_path: Path
) -> None:
    first, second, third = (datetime.fromisoformat(f"2022-12-{day}T12:00+00:00") for day in (28, 29, 30))
    collected(warehouse, vendor, tmp_path, ReferenceConfig(), first)
    assert {name: len(held) for name, held in stays(warehouse).items()} == dict.fromkeys(SYMBOLS, 1)
    files = brought(tmp_path, members=f"instrument,member_from,member_to AAPL,{BEFORE}, AAPL,2020-01-02,2020-03-02")
    collected(warehouse, vendor, tmp_path, files, second)
    none: dict[str, list[tuple[date | None, date | None]]] = {name: [] for name in SYMBOLS}
    assert stays(warehouse) == none | {"AAPL": [(date(2020, 1, 2), date(2020, 3, 2)), (BEFORE, None)]}
    brought(tmp_path, members=f"instrument,member_from,member_to AAPL,{SECOND},")
    collected(warehouse, vendor, tmp_path, files, third)
    assert stays(warehouse) == none | {"AAPL": [(SECOND, None)]}
    late = warehouse.scalar("select min(known_at) from raw.instruments where member_to < member_from")
    assert late == second, "a stay that was said is withdrawn when that is told, not before"


def test_a_users_fact_counts_from_its_own_day_although_the_days_were_collected_before(
    warehouse: Warehouse, vendor: ChaosVendor, tmp_path: Path
) -> None:
    first, second = (datetime.fromisoformat(f"2022-12-{day}T12:00+00:00") for day in (28, 29))
    collected(warehouse, vendor, tmp_path, ReferenceConfig(), first)
    fact = f"instrument,session,kind,value,detail GONE,{LAST},delisting,3.5,"
    collected(warehouse, vendor, tmp_path, brought(tmp_path, actions=fact), second)
    known = warehouse.scalar("select known_at from raw.corporate_actions where kind = 'delisting'")
    assert known == XNYS.open_utc(LAST), "a vendor's row that came as late would count from now on"


def test_the_users_action_counts_and_the_sources_is_kept_in_quarantine(
    warehouse: Warehouse, vendor: ChaosVendor, tmp_path: Path
) -> None:
    now = datetime.fromisoformat("2022-12-28T12:00+00:00")
    files = brought(tmp_path, actions=f"instrument,session,kind,value AAPL,{THIRD},dividend,0.46")
    collected(warehouse, vendor, tmp_path, files, now)
    paid = warehouse.rows("select instrument, value from raw.corporate_actions order by instrument")
    assert [(row["instrument"], row["value"]) for row in paid] == [
        ("AAPL", 0.46), ("GONE", 0.23), ("META", 0.23), ("NEVER", 0.23),
    ]  # fmt: skip
    refused = warehouse.rows("select instrument, reason from raw.quarantine")
    assert [row["instrument"] for row in refused] == ["AAPL"]
    assert refused[0]["reason"] == (
        f"the reference file tells this dividend otherwise, and counts: session {THIRD}, value 0.46, detail None"
    )


STAYS, ACTS, UNITS = "instrument,member_from,member_to", "instrument,session,kind,value,detail", "instrument,lot_size"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("members", f"{STAYS} A,2022-13-01,", "members.csv line 2: member_from 2022-13-01 is not a date"),
        ("members", f"{STAYS} A,2022-02-01,2022-01-03", "members.csv line 2: member_to 2022-01-03 is before"),
        (
            "members",
            f"{STAYS} A,2022-01-03, A,2022-05-02,",
            "line 3: member_from 2022-05-02 is within the stay of line 2",
        ),
        ("members", "session,instrument ,A", "members.csv line 2: session is missing"),
        ("actions", f"{ACTS} A,2022-05-02,merger,1,", "actions.csv line 2: kind merger is none of split"),
        ("actions", f"{ACTS} A,2022-05-02,symbol_change,1,", "line 2: symbol_change names no new symbol"),
        ("actions", f"{ACTS} A,2022-05-02,delisting,,", "actions.csv line 2: value is missing"),
        ("instruments", f"{UNITS} A,0", "instruments.csv line 2: lot_size 0.0 is not above 0"),
        ("instruments", f"{UNITS} A,1 A,2", "instruments.csv line 3: a second record for the same"),
    ],
)
def test_a_wrong_line_is_one_error_with_its_place(name: str, content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ReferenceFileError) as caught:
        read_reference(brought(tmp_path, **{name: content}), tmp_path, XNYS)
    assert said in str(caught.value)


def test_files_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    both = brought(tmp_path, members="instrument,session,member_from A,2022-01-03,2022-01-03")
    with pytest.raises(ConfigError, match=r"give stays .* or lists of constituents .* and not both"):
        read_reference(both, tmp_path, XNYS)
    with pytest.raises(ConfigError, match="it cannot be read"):
        read_reference(ReferenceConfig(actions=Path("absent.csv")), tmp_path, XNYS)
    twice = brought(tmp_path, actions=f"{ACTS} A,2022-05-02,symbol_change,1,C B,2022-06-01,symbol_change,1,C")
    with pytest.raises(IdentifierConflictError, match="ticker 'C' begins on 2022-06-01"):
        read_reference(twice, tmp_path, XNYS)
    assert read_reference(ReferenceConfig(), tmp_path, XNYS) is None
    pl.DataFrame({"instrument": ["A"], "lot_size": [10.0]}).write_parquet(tmp_path / "units.parquet")
    read = read_reference(ReferenceConfig(instruments=tmp_path / "units.parquet"), tmp_path, XNYS)
    assert read is not None
    assert read.units.rows() == [("A", 10.0, None)]
