"""Sources beside the traded one: each is an asset of its own, and one that fails leaves the others alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import dagster as dg
import pytest

from assets.keys import COMPARED, compared_bars
from assets.market_data import build_comparison
from octopus.core.errors import ConfigError
from resources.research_factories import MarketDataCatalogue
from tests.pipelines.conftest import House, make_house

SESSION = "2022-12-27"


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory, manifest: None) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("compared")
    (folder / "bars.csv").write_text(
        "instrument,session,open,high,low,close,volume\n"
        "AAPL,2022-12-23,130.92,132.42,129.64,131.86,63814900\n"
        "AAPL,2022-12-27,131.38,131.41,128.72,130.03,69007800\n"
        "KO,2022-12-27,63.93,64.14,63.52,not a price,7320700\n"
    )
    changes = {
        "universe.universe.compare_with": ["files", "yahoo", "alpaca"],
        "universe.universe.files": {"bars": str(folder / "bars.csv")},
    }
    yield from make_house(server_url, folder, **changes)


def test_what_answers_is_stored_and_what_does_not_fails_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTOPUS_YAHOO_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("ALPACA_API_KEY", raising=False)
    resources = {name: house.resources[name] for name in ("settings", "warehouse")}
    resources["market_data_catalogue"] = MarketDataCatalogue(house.settings)
    result = dg.materialize(
        [build_comparison(name) for name in COMPARED], partition_key=SESSION, resources=resources, raise_on_error=False,
        instance=dg.DagsterInstance.ephemeral(),
    )  # fmt: skip
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    failed = {event.step_key for event in result.get_step_failure_events()}
    assert made == {compared_bars("files")}
    assert failed == {"compared__yahoo"}
    rows = house.warehouse.rows("select source, instrument, session, close from raw.bars order by session")
    assert [tuple(row.values()) for row in rows] == [
        ("files", "AAPL", date(2022, 12, 23), 131.86), ("files", "AAPL", date(2022, 12, 27), 130.03),
    ]  # fmt: skip
    rejects = house.warehouse.rows("select payload from raw.quarantine where instrument = 'KO'")
    assert any("not a price" in str(reject["payload"]) for reject in rejects)


def test_without_its_file_the_source_says_what_to_set(house: House) -> None:
    universe = house.settings.universe.model_copy(update={"files": None})
    with pytest.raises(ConfigError, match=r"universe\.files"):
        MarketDataCatalogue(replace(house.settings, universe=universe)).source("files")
