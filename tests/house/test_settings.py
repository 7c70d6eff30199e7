"""Bad configuration gives one clear error: the file, the field, the value, the remedy, and never a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from octopus.core.errors import ConfigError
from resources.settings import (
    ROOT,
    AskedSources,
    MarketDataName,
    configured_exchange,
    configured_sources,
    load_settings,
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path / "config"


def load(config: Path, **environment: str) -> object:
    return load_settings({"OCTOPUS_CONFIG": str(config), "OCTOPUS_HOME": str(config.parent / "home"), **environment})


def edit(config: Path, file: str, old: str, new: str) -> None:
    path = config / file
    text = path.read_text()
    assert old in text, f"{file} has no {old!r} to change"
    path.write_text(text.replace(old, new, 1))


def test_what_ships_is_valid(config: Path) -> None:
    load(config)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("universe.yaml", "market_data: sample", "market_data: bloomberg", ["universe.market_data", "bloomberg"]),
        ("universe.yaml", "\n  exchange: XNYS", "\n  exchange: MOON", ["universe.exchange", "MOON", "XNYS", "24/7"]),
        ("universe.yaml", "currency: USD", "currency: dollars", ["universe.currency", "dollars"]),
        ("universe.yaml", "currency: USD", "currency: GBX", ["GBX is a part of GBP"]),
        ("universe.yaml", "rates: {}", "rates: {USD: EURUSD=X}", ["USD is the account's own currency"]),
        ("universe.yaml", "rates: {}", "rates: {EUR: KO}", ["rates: KO is in symbols, too"]),
        ("universe.yaml", "mode: paper", "mode: maybe", ["trading.mode", "maybe", "paper"]),
        ("universe.yaml", "cash_tolerance: 0.01", "cash_tolerance: 0", ["reconciliation.cash_tolerance", "greater"]),
        ("universe.yaml", "share_tolerance: 0 ", "share_tolerance: -1 ", ["reconciliation.share_tolerance", "-1"]),
        ("universe.yaml", "deposit_usd: 1000000", "deposit_usd: -5", ["paper.deposit_usd", "-5", "greater"]),
        (
            "strategies.yaml",
            "  start: 2005-01-03",
            "  schedule: {schedule: twap}\n  start: 2005-01-03",
            ["backtest", "twap", "section execution"],
        ),
        ("strategies.yaml", "horizon_sessions: 5", "horizon: 5", ["models.horizon", "not permitted"]),
        ("strategies.yaml", "net_max: 0.98", "net_max: -1", ["constraints", "net_min"]),
        ("risk.yaml", "gross_max: 1.02", "gross_max: lots", ["gross_max", "lots", "number"]),
        ("risk.yaml", "gross_max: 1.02", "# gone", ["gross_max", "required"]),
        ("compliance.yaml", "mode: enforce", "mode: perhaps", ["perhaps"]),
        ("risk.yaml", "gross_max: 1.02", "gross_max: [1.02", ["YAML", "mend"]),
    ],
)
def test_a_wrong_value_names_file_field_value_and_remedy(
    config: Path, file: str, old: str, new: str, words: list[str]
) -> None:
    edit(config, file, old, new)
    with pytest.raises(ConfigError) as caught:
        load(config)
    message = str(caught.value)
    assert file in message
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_missing_file_is_named(config: Path) -> None:
    (config / "risk.yaml").unlink()
    with pytest.raises(ConfigError, match=r"risk\.yaml.*restore"):
        load(config)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OCTOPUS_MARKET_DATA": "foo"}, ["OCTOPUS_MARKET_DATA", "foo", "yahoo"]),
        ({"OCTOPUS_DATABASE_URL": "postgresql://u:secret@h/d"}, ["OCTOPUS_DAGSTER_URL", "all three"]),
        (
            {
                "OCTOPUS_DATABASE_URL": "mysql://u:secret@h/d",
                "OCTOPUS_DAGSTER_URL": "postgresql://h/d",
                "OCTOPUS_MLFLOW_URL": "postgresql://h/m",
            },
            ["OCTOPUS_DATABASE_URL", "postgresql://"],
        ),
    ],
)
def test_a_wrong_variable_is_named_and_no_password_is_told(
    config: Path, variables: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config, **variables)
    for word in words:
        assert word in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("written", "name"), [("24/7", "24/7"), ("XNAS", "XNYS"), ("XLON", "XLON")])
def test_the_exchange_is_the_calendars_name_for_settings_and_partitions_alike(
    config: Path, written: str, name: str
) -> None:
    edit(config, "universe.yaml", "\n  exchange: XNYS", f"\n  exchange: {written}")
    environment = {"OCTOPUS_CONFIG": str(config), "OCTOPUS_HOME": str(config.parent / "home")}
    assert load_settings(environment).sessions.exchange == name
    assert configured_exchange(environment) == name


def test_definitions_load_although_the_file_is_broken(config: Path) -> None:
    """The run then says what is wrong with it; a location that does not load would show nothing."""
    (config / "universe.yaml").write_text("universe: [")
    assert configured_exchange({"OCTOPUS_CONFIG": str(config)}) == "XNYS"
    assert configured_sources({"OCTOPUS_CONFIG": str(config)}).market_data == "sample"
    with pytest.raises(ConfigError, match=r"universe\.yaml"):
        load(config)


@pytest.mark.parametrize("source", ["sample", "yahoo"])
def test_the_samples_texts_are_asked_for_with_its_prices_alone(config: Path, source: MarketDataName) -> None:
    edit(config, "universe.yaml", "news: [sample]", "news: [newsapi, sample, newsapi]")
    environment = {
        "OCTOPUS_CONFIG": str(config), "OCTOPUS_HOME": str(config.parent / "home"), "OCTOPUS_MARKET_DATA": source,
    }  # fmt: skip
    sample = ("sample",) if source == "sample" else ()
    asked = configured_sources(environment)
    assert asked == AskedSources(source, {"news": ("newsapi", *sample), "post": sample})
    assert load_settings(environment).asked == asked


def test_pairs_are_ingested_and_not_traded(config: Path) -> None:
    edit(config, "universe.yaml", "rates: {}", "rates: {EUR: EURUSD=X}")
    settings = load_settings({"OCTOPUS_CONFIG": str(config), "OCTOPUS_HOME": str(config.parent / "home")})
    assert "EURUSD=X" in settings.watched
    assert "EURUSD=X" not in settings.symbols


@pytest.mark.parametrize("broker", ["alpaca", "coinbase", "schwab", "ib"])
@pytest.mark.parametrize(
    ("old", "new", "field"),
    [("currency: USD", "currency: EUR", "currency"), ("rates: {}", "rates: {EUR: EURUSD=X}", "rates")],
)
def test_a_broker_that_settles_in_dollars_refuses_other_currencies(
    config: Path, broker: str, old: str, new: str, field: str
) -> None:
    edit(config, "universe.yaml", "name: paper", f"name: {broker}")
    load(config)
    edit(config, "universe.yaml", old, new)
    with pytest.raises(ConfigError, match=rf"universe\.{field} = .*{broker} settles in USD alone.*broker.name: paper"):
        load(config)


def test_sectors_have_one_home_and_reach_the_optimiser_where_a_limit_asks(config: Path) -> None:
    assert load(config).decision.portfolio.sectors == {}
    edit(config, "strategies.yaml", "    long_only: true", "    long_only: true\n    sector_max: 0.4")
    settings = load(config)
    assert settings.decision.portfolio.sectors == settings.universe.sectors != {}
    edit(config, "strategies.yaml", "\nportfolio:", "\nportfolio:\n  sectors: {KO: staples}\n  #")
    with pytest.raises(ConfigError, match=r"universe\.sectors"):
        load(config)


def test_settings_have_one_record_in_every_process() -> None:
    code = (
        "import os; from octopus.core.ids import fingerprint; from resources.settings import load_settings;"
        "s = load_settings({'OCTOPUS_HOME': os.devnull}); parts = (s.universe, s.strategies, s.risk, s.compliance);"
        "print(*(fingerprint(part.model_dump(mode='json')) for part in parts))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True,
            text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(told) == 1
