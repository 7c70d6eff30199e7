"""Yahoo, which knows neither members nor renames nor delistings, with the user's files beside it: from the socket
through the asset and dbt to what is decided on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from assets import inputs
from assets.market_data import market_data
from assets.warehouse import session_rows
from octopus.core.sessions import Sessions
from resources.sources.http import Access
from resources.sources.yahoo import YahooMarketData
from tests.pipelines.conftest import House, make_house
from tests.pipelines.yahoo_stand import serving

XNYS = Sessions()
DAYS = [day.item() for day in XNYS.between(date(2022, 5, 31), date(2022, 6, 14))]
FIRST, RENAMED, GONE, LAST = DAYS[0], date(2022, 6, 9), DAYS[4], DAYS[-1]
SYMBOLS = {"GONE": "Gone", "META": "Meta Platforms", "OUT": "Out", "STAY": "Stay"}
FILES = {
    "members": [
        "session,instrument", *(f"{FIRST},{name}" for name in ("FB", "GONE", "OUT", "STAY")),
        *(f"{RENAMED},{name}" for name in ("META", "STAY")),
    ],
    "actions": [
        "instrument,session,kind,value,detail", f"FB,{RENAMED},symbol_change,1,META",
        f"GONE,{GONE},delisting,4.5,bought",
    ],
    "instruments": ["instrument,lot_size,tick_size", "META,10,0.05", "STAY,100,"],
}  # fmt: skip


def chart(symbol: str) -> bytes:
    days = [day for day in DAYS if symbol != "GONE" or day <= GONE]
    stamps = [int(datetime(day.year, day.month, day.day, 13, 30, tzinfo=UTC).timestamp()) for day in days]
    prices = [100.0 + number for number in range(len(days))]
    quote = dict.fromkeys(("open", "high", "low", "close"), prices) | {"volume": [1000] * len(days)}
    meta = {
        "currency": "USD", "symbol": symbol, "exchangeName": "NYQ", "instrumentType": "EQUITY",
        "firstTradeDate": stamps[0], "exchangeTimezoneName": "America/New_York", "validRanges": ["1d"],
    }  # fmt: skip
    result = {"meta": meta, "timestamp": stamps, "indicators": {"quote": [quote]}}
    return json.dumps({"chart": {"error": None, "result": [result]}}).encode()


@pytest.fixture
def yahoo_url() -> Iterator[str]:
    with serving(chart) as url:
        yield url


@pytest.fixture
def house(server_url: str, tmp_path: Path, manifest: None, yahoo_url: str) -> Iterator[House]:
    for name, lines in FILES.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([*lines, ""]))
    changes = {
        "universe.universe.market_data": "yahoo", "universe.universe.symbols": SYMBOLS,
        "universe.universe.history_start": FIRST.isoformat(), "universe.universe.sectors": {},
        "universe.universe.reference": {name: str(tmp_path / f"{name}.csv") for name in FILES},
    }  # fmt: skip
    for made in make_house(server_url, tmp_path / "house", **changes):
        now = XNYS.decision_utc(LAST) + timedelta(hours=1)
        source = YahooMarketData(Access(yahoo_url), cache_dir=tmp_path / "yfinance", now=lambda now=now: now)
        made.resources["market_data_source"] = source
        made.resources["warehouse"].insert_new("ops.sessions", session_rows(made.settings.sessions))
        yield made


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_users_files_bind_what_is_decided_on(house: House, tmp_path: Path) -> None:
    house.call(market_data, LAST.isoformat())
    house.dbt("panel", "universe", "prices")
    panel = inputs.panel(house.settings, house.warehouse, LAST)
    assert panel.symbols == ("GONE", "META", "OUT", "STAY"), "of FB and META is one history"
    day = {session.item(): row for row, session in enumerate(panel.sessions)}
    before = slice(0, day[RENAMED])
    assert np.isfinite(panel.close[:, 1:]).all()
    assert panel.member[before, 1:].all(), "META was a member as FB before it was called so"
    assert panel.member[day[RENAMED] :, [1, 3]].all()
    assert not panel.member[day[RENAMED] :, 2].any(), "who left is no member, though its bars go on"
    assert panel.member[: day[GONE] + 1, 0].all()
    assert not panel.member[day[GONE] + 1 :, 0].any()
    paid = inputs.delistings(house.warehouse, house.settings, panel, LAST)
    assert paid[day[GONE], 0] == 4.5
    assert np.isfinite(paid).sum() == 1
    own = inputs.units(house.settings, house.warehouse, LAST)
    assert (own.lots, own.ticks) == ({"META": Decimal(10), "STAY": Decimal(100)}, {"META": Decimal("0.05")})
    mart = house.warehouse.rows(
        "select instrument, lot_size, tick_size from marts.universe where known_to is null and lot_size is not null "
        "order by 1"
    )
    assert [tuple(row.values()) for row in mart] == [("META", 10.0, 0.05), ("STAY", 100.0, None)]
    shown = house.warehouse.rows("select instrument, member from marts.panel where session = %s order by 1", [LAST])
    assert [row["instrument"] for row in shown if row["member"]] == ["META", "STAY"]

    (tmp_path / "members.csv").write_text("instrument,member_from,member_to\nSTAY,2022-13-01,\n")
    result = dg.materialize(
        [market_data], partition_key=LAST.isoformat(), resources=house._needed(market_data), raise_on_error=False,
        instance=dg.DagsterInstance.ephemeral(),
    )  # fmt: skip
    (failed,) = result.get_step_failure_events()
    assert "members.csv line 2: member_from 2022-13-01 is not a date" in str(failed.step_failure_data.error)
