"""A severe finding keeps its row out of the marts until the policy, a person or the vendor decides otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from assets.market_data import market_data
from assets.warehouse import quality_findings, session_rows, verdicts
from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions
from resources.warehouse.verdicts import decide, decisions
from tests.pipelines.conftest import House, make_house

SESSION = "2022-06-30"
XNYS = Sessions()
DAYS = [day.item() for day in XNYS.between(date(2022, 1, 3), date(2022, 6, 30))]
BAD = date(2022, 5, 4)
FACTOR = 100.0
READ = ("prices", "returns")
"""The marts that are read between the first build and the last, which build and check all of them."""


def write_bars(path: Path, factor: float) -> None:
    """Three instruments that move a little each day; on `BAD` one of them stands in another unit."""
    random = np.random.default_rng(3)
    lines = ["instrument,session,open,high,low,close,volume"]
    for name in ("AAPL", "KO", "MSFT"):
        closes = 100 * np.exp(np.cumsum(random.normal(0, 0.01, len(DAYS))))
        for place, (day, close) in enumerate(zip(DAYS, closes, strict=True)):
            unit = factor if (name, day) == ("KO", BAD) else 1.0
            opened = closes[place - 1] if place else close
            prices = (opened, max(opened, close) * 1.003, min(opened, close) * 0.997, close)
            told = ",".join(f"{price * unit:.4f}" for price in prices)
            lines.append(f"{name},{day},{told},{random.integers(900_000, 1_100_000)}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory, manifest: None) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("kept-out")
    write_bars(folder / "bars.csv", FACTOR)
    changes = {
        "universe.universe.market_data": "files", "universe.universe.files": {"bars": str(folder / "bars.csv")},
        "universe.universe.symbols": {"AAPL": "Apple", "KO": "Coca-Cola", "MSFT": "Microsoft"},
        "universe.universe.history_start": "2022-01-03", "universe.universe.refetch_sessions": 60,
    }  # fmt: skip
    for made in make_house(server_url, folder, **changes):
        made.warehouse.insert_new("ops.sessions", session_rows(made.settings.sessions))
        yield made


def build(house: House, *marts: str) -> None:
    house.call(market_data, SESSION)
    house.call(verdicts, SESSION)
    house.dbt(*marts)


def stored(house: House) -> list[float]:
    """The close of the bad bar as the marts have it now; nothing where it is kept out."""
    rows = house.warehouse.rows(
        "select close from marts.prices where instrument = 'KO' and session = %s and known_to is null", [BAD]
    )
    return [row["close"] for row in rows]


def returns_of(house: House) -> dict[date, float]:
    """Returns of the bad bar's instrument around it, by session."""
    rows = house.warehouse.rows(
        "select session, total_return from marts.returns where instrument = 'KO' and session between %s and %s",
        [DAYS[DAYS.index(BAD) - 1], DAYS[DAYS.index(BAD) + 1]],
    )
    return {row["session"]: row["total_return"] for row in rows}


def finding(house: House) -> str:
    house.call(quality_findings, SESSION)
    (row,) = house.warehouse.rows("select finding_id from ops.quality_findings where kind = 'unit_error'")
    return str(row["finding_id"])


def decided(house: House, name: str, decision: str) -> list[float]:
    decide(house.warehouse, name, decision, XNYS, by="me", reason="tested", now=datetime.now(UTC))  # type: ignore[arg-type]
    house.dbt(*READ)
    return stored(house)


def test_a_row_under_a_severe_finding_is_kept_out_until_somebody_decides(house: House) -> None:
    build(house)
    count = house.warehouse.scalar("select count(*) from marts.prices where known_to is null")
    assert stored(house) == []
    assert count == 3 * len(DAYS) - 1, "one bar alone"
    before, after = DAYS[DAYS.index(BAD) - 1], DAYS[DAYS.index(BAD) + 1]
    assert set(returns_of(house)) == {before, after}
    assert abs(returns_of(house)[after]) < 0.1, "from the last bar that counts"
    name = finding(house)
    build(house, *READ)
    assert stored(house) == []
    assert finding(house) == name, "what is kept out is still found"
    assert len(decisions(house.warehouse)) == 1, "the policy decides once"

    (kept,) = decided(house, name, "keep")
    assert returns_of(house)[BAD] > 50
    (mended,) = decided(house, name[:12], "repair")
    assert mended == pytest.approx(kept / FACTOR)
    decide(house.warehouse, name, "take_back", XNYS, by="me", reason="tested", now=datetime.now(UTC))
    build(house, *READ)
    assert stored(house) == [kept], "what was taken back the policy leaves alone"
    with pytest.raises(MissingDataError, match="none to take back"):
        decided(house, name, "take_back")
    assert decided(house, name, "hold") == []
    assert set(returns_of(house)) == {before, after}, "what was built on it goes with it"
    said = decisions(house.warehouse)["decision"].to_list()
    assert said == ["hold", "take_back", "repair", "keep", "hold"], "nothing that was decided is forgotten"

    assert house.settings.universe.files is not None
    write_bars(Path(house.settings.universe.files.bars), 1.0)
    build(house)
    assert stored(house) == [pytest.approx(mended, abs=1e-3)], "what the vendor mends counts again"
    seen = house.warehouse.rows(
        """
        select close, known_from from marts.prices
        where instrument = 'KO' and session = %s and (known_to is null or known_to > known_from) order by known_from
        """,
        [BAD],
    )
    assert len(seen) == 5, "sent (until the next day showed it), kept, repaired, taken back, mended: each for its time"


def test_an_unknown_finding_is_refused(house: House) -> None:
    with pytest.raises(MissingDataError, match="octopus quality list"):
        decide(house.warehouse, "nothing", "hold", XNYS, by="me", reason="r", now=datetime.now(UTC))
