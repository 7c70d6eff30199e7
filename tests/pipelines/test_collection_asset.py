"""The asset that collects market data: a symbol added later, and a day that a limit cuts short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import keys
from assets.market_data import EVERYONE_ASKED, market_data
from octopus.core.sessions import Sessions
from resources.sources.base import MarketData, MarketDataSource
from resources.sources.files import FileMarketData
from resources.sources.patience import BudgetExhaustedError
from tests.pipelines.conftest import House, make_house

XNYS = Sessions()
HISTORY, FIRST, SECOND = date(2022, 11, 1), date(2022, 12, 22), date(2022, 12, 23)
NAMES = ("AAPL", "KO", "NEW")


@pytest.fixture
def house(server_url: str, tmp_path: Path) -> Iterator[House]:
    lines = [
        f"{name},{day},10,11,9,10.5,1000" for name in NAMES for day in XNYS.between(HISTORY, date(2022, 12, 28))
    ]  # fmt: skip
    (tmp_path / "bars.csv").write_text("\n".join(["instrument,session,open,high,low,close,volume", *lines, ""]))
    changes = {
        "universe.universe.market_data": "files", "universe.universe.files": {"bars": str(tmp_path / "bars.csv")},
        "universe.universe.history_start": HISTORY.isoformat(), "universe.universe.refetch_sessions": 3,
        "universe.universe.symbols": {name: name for name in NAMES[:2]},
    }  # fmt: skip
    yield from make_house(server_url, tmp_path / "house", **changes)


def collected(house: House, session: date, *, stopped: bool = False) -> dict[str, Any]:
    """Run the asset; what it shows of the bars."""
    result = dg.materialize(
        [market_data], partition_key=session.isoformat(), resources=house._needed(market_data),
        instance=dg.DagsterInstance.ephemeral(), raise_on_error=False,
    )  # fmt: skip
    assert result.success is not stopped
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == (EVERYONE_ASKED, not stopped)
    (bars,) = [
        event.materialization
        for event in (one.step_materialization_data for one in result.get_asset_materialization_events())
        if event.materialization.asset_key == keys.BARS
    ]
    failed = [event.step_failure_data.user_failure_data for event in result.get_step_failure_events()]
    said = {"failure": failed[0].description} if failed and failed[0] else {}
    return {name: value.value for name, value in (bars.metadata | check.metadata).items()} | said


def widened(house: House, *names: str) -> House:
    universe = house.settings.universe.model_copy(update={"symbols": {name: name for name in names}})
    return replace(house, resources=house.resources | {"settings": replace(house.settings, universe=universe)})


def counts(house: House) -> dict[str, int]:
    rows = house.warehouse.rows("select instrument, count(*)::int as n from raw.bars group by 1")
    return {row["instrument"]: row["n"] for row in rows}


def due(session: date) -> int:
    return len(XNYS.between(HISTORY, session))


@dataclass(frozen=True)
class Limited:
    """A source that hands over one instrument after the other, and may be asked for ``limit`` of them."""

    source: MarketDataSource
    limit: int
    name: str = "files"
    needs: tuple[str, ...] = ()

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: Sequence[str] = ()
    ) -> Iterator[MarketData]:
        for number, symbol in enumerate(symbols):
            if number == self.limit:
                raise BudgetExhaustedError("files: our budget is spent", datetime(2022, 12, 24, tzinfo=UTC))
            yield from self.source.fetch([symbol], start, end, sessions, described)


def test_a_symbol_added_later_comes_with_its_history_and_the_others_with_what_is_new(house: House) -> None:
    shown = collected(house, FIRST)
    assert counts(house) == {"AAPL": due(FIRST), "KO": due(FIRST)}
    assert "it was never asked for" in shown["asked"]
    shown = collected(widened(house, *NAMES), SECOND)
    assert counts(house) == dict.fromkeys(NAMES, due(SECOND))
    assert shown["rows_unchanged"] == 2 * 3
    told = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown["asked"].splitlines()]
    assert [str(HISTORY), "it was never asked for", "1", "NEW"] in [line[1:] for line in told]
    assert ["2022-12-20", "what came since 2022-12-22, and 3 sessions again", "2", "AAPL, KO"] in [
        line[1:] for line in told
    ]


def test_a_day_that_a_limit_cuts_short_keeps_what_came_says_who_is_left_and_is_not_decided(house: House) -> None:
    whole = house.resources["market_data_source"]
    assert isinstance(whole, FileMarketData)
    asked = widened(house, *NAMES)
    cut = replace(asked, resources=asked.resources | {"market_data_source": Limited(whole, 2)})
    shown = collected(cut, FIRST, stopped=True)
    assert counts(house) == dict.fromkeys(NAMES[:2], due(FIRST))
    assert (shown["parts"], shown["not_asked"], shown["left"]) == (2, 1, "NEW")
    assert shown["retry_at"] == "2022-12-24T00:00:00+00:00"
    assert "1 instruments were not asked for (NEW)" in shown["failure"]
    assert "our budget is spent" in shown["failure"]
    again = collected(asked, FIRST)
    assert counts(house) == dict.fromkeys(NAMES, due(FIRST))
    assert (again["rows_new"], again["rows_restated"], again["not_asked"]) == (due(FIRST), 0, 0)
