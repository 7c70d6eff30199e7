"""Bad configuration gives one clear error: the file, the field, the value, the remedy, and never a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from octopus.compliance.rules import HOUSES_OWN, CompliancePolicy
from octopus.core.errors import ConfigError
from octopus.core.limits import AGAINST_BENCHMARK, SHARED, allows_more
from octopus.portfolio.config import Constraints, PortfolioConfig
from octopus.risk.limits import RiskLimits
from octopus_pipelines.cli import doctor
from resources.agreement import inside_limits, likely_misspelt, require_inside, require_listed
from resources.settings import (
    ROOT,
    AskedSources,
    MarketDataName,
    configured_exchange,
    configured_sources,
    load_settings,
    read_section,
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
        ("universe.yaml", "  source: null", "  source: rss", ["intraday.source", "rss", "alpaca"]),
        ("universe.yaml", "  interval: 5 ", "  interval: 7 ", ["intraday.interval", "7", "60"]),
        ("universe.yaml", "  symbols: []", "  symbols: [TSLA]", ["intraday.symbols", "TSLA", "universe.symbols"]),
        ("universe.yaml", "history_sessions: 20", "history_sessions: 0", ["intraday.history_sessions", "0", "greater"]),
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
        ("strategies.yaml", "gates: report ", "limit_bps: 5\n  gates: report ", ["backtest", "execution.limit_bps"]),
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


def test_bars_within_the_day_are_off_until_a_source_is_named(config: Path) -> None:
    environment = {"OCTOPUS_CONFIG": str(config), "OCTOPUS_HOME": str(config.parent / "home")}
    assert load_settings(environment).intraday.source is None
    assert configured_sources(environment).intraday is None
    edit(config, "universe.yaml", "  source: null", "  source: alpaca")
    edit(config, "universe.yaml", "  symbols: []", "  symbols: [KO, AAPL]")
    found = load_settings(environment)
    assert (found.asked.intraday, found.intraday_symbols) == ("alpaca", ("AAPL", "KO"))
    assert configured_sources(environment).intraday == "alpaca", "its pool"


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
    # Five names of 12 % are the most that one sector has: the gate's 65 % ask nothing of them.
    assert load(config).decision.portfolio.sectors == {}
    edit(config, "risk.yaml", "sector_weight_max: 0.65", "sector_weight_max: 0.5")
    settings = load(config)
    assert settings.decision.portfolio.sectors == settings.universe.sectors != {}
    assert settings.decision.portfolio.constraints.sector_weight_max == 0.5
    edit(config, "strategies.yaml", "    long_only: true", "    long_only: true\n    sector_weight_max: 0.4")
    settings = load(config)
    assert settings.decision.portfolio.sectors == settings.universe.sectors != {}
    assert settings.decision.portfolio.constraints.sector_weight_max == 0.4
    edit(config, "strategies.yaml", "\nportfolio:", "\nportfolio:\n  sectors: {KO: staples}\n  #")
    with pytest.raises(ConfigError, match=r"universe\.sectors"):
        load(config)


@pytest.mark.parametrize("field", ["benchmark", "risk_budgets"])
def test_a_benchmark_or_budget_of_an_unknown_instrument_is_refused(config: Path, field: str) -> None:
    edit(config, "strategies.yaml", "\nportfolio:", f"\nportfolio:\n  {field}: {{AAPL: 1.0, KOO: 1.0}}\n  #")
    with pytest.raises(ConfigError, match=rf"portfolio\.{field} = 'KOO': no instrument of universe.*: write KO"):
        load(config)
    edit(config, "strategies.yaml", "KOO", "KO")
    load(config)


def listing(symbol: str, kind: str = "restricted_list") -> dict[str, object]:
    content = yaml.safe_load((ROOT / "config" / "compliance.yaml").read_text())
    for rule in content["rules"]:
        if rule["kind"] == kind:
            entry = {"symbol": symbol, "effective_from": "2022-01-01", "effective_to": None, "reason": "a mandate"}
            rule["parameters"]["entries"] = [entry]
    return content


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("universe", "reject: []", "reject: [APPL]", r"paper\.reject = 'APPL': no instrument.*: write AAPL,"),
        ("universe", "  XOM: energy", "  XXOM: energy", r"universe\.sectors = 'XXOM': .*: write XOM, or add"),
        ("universe", "request_limits: {}", "request_limits: {newsap: {}}", r"request_limits = 'newsap'.*write newsapi"),
        ("universe", "name: paper", "name: ib\n  contracts: {mstf: {id: 1}}", r"contracts = 'mstf'.*write MSFT"),
        ("risk", "{technology:", "{tecnology:", r"shocks\.technology .*\.sectors = 'tecnology'.*write technology"),
        ("risk", "{sectors: {energy", "{instruments: {APPL", r"shocks\.energy .*\.instruments = 'APPL'.*write AAPL"),
    ],
)  # fmt: skip
def test_a_name_that_would_do_nothing_is_refused(config: Path, file: str, old: str, new: str, words: str) -> None:
    edit(config, f"{file}.yaml", old, new)
    with pytest.raises(ConfigError, match=words):
        load(config)


def test_what_is_left_of_another_universe_may_stand_and_is_told(config: Path) -> None:
    change(config / "universe.yaml", {"symbols": {"AAPL": "Apple"}}, "universe")
    change(config / "universe.yaml", {"broker": {"name": "ib", "contracts": {"KO": {"id": 1}}}})
    stress, contract = doctor._idle(load(config))
    assert (stress.mark, "'energy -30 %' of risk.yaml is of sector energy" in stress.text) == ("!", True)
    assert (contract.mark, contract.text.split(":")[0]) == ("!", "KO is no instrument of universe.symbols")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("binds: firm", "brokers: [papr]\n    binds: firm", r"rules\.restricted_list\.brokers = 'papr'.*write paper,"),
        ("binds: firm", "brokers: [Alpaca]\n    binds: firm", r"'Alpaca': no broker.*write alpaca, or choose one of"),
        ("binds: firm", "brokers: []\n    binds: firm", r"restricted_list\.brokers .*name one, leave brokers out"),
        ("  broker: paper", "  broker: papper", r"account\.broker = 'papper': no broker has this name: write paper"),
        ("jurisdictions: [US]", "jurisdictions: [USA]", r"account\.jurisdictions.* = 'USA'"),
    ],
)  # fmt: skip
def test_a_broker_that_nobody_is_does_not_switch_a_rule_off(config: Path, old: str, new: str, words: str) -> None:
    edit(config, "compliance.yaml", old, new)
    with pytest.raises(ConfigError, match=words):
        load(config)


@pytest.mark.parametrize("states", ["[]", "[house]"])
def test_an_account_is_under_some_states_rules(config: Path, states: str) -> None:
    edit(config, "compliance.yaml", "jurisdictions: [US]", f"jurisdictions: {states}")
    with pytest.raises(ConfigError, match=r"account\.jurisdictions = .*name whose rules bind the account.*\(US, EU\)"):
        load(config)


@pytest.mark.parametrize("kind", sorted(HOUSES_OWN, key=lambda one: one.__name__))
@pytest.mark.parametrize("state", ["US", "EU"])
def test_a_control_of_the_house_cannot_be_labelled_away(config: Path, kind: type, state: str) -> None:
    (name,) = get_args(kind.model_fields["kind"].annotation)  # type: ignore[attr-defined]
    document = yaml.safe_load((config / "compliance.yaml").read_text())
    (rule,) = [rule for rule in document["rules"] if rule["kind"] == name]
    assert rule["jurisdiction"] == "house"
    rule["jurisdiction"] = state
    (config / "compliance.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=rf"rules\.{name}\.jurisdiction = '?{state}.*write house"):
        load(config)


@pytest.mark.parametrize("kind", ["restricted_list", "watch_list"])
def test_a_listed_name_that_the_universe_writes_otherwise_is_refused(config: Path, kind: str) -> None:
    (config / "compliance.yaml").write_text(yaml.safe_dump(listing("aapl", kind)))
    with pytest.raises(ConfigError, match=rf"rules\.{kind}\.entries\.symbol = 'aapl': the universe writes it AAPL"):
        load(config)
    policy = CompliancePolicy.model_validate(listing("BRK-B", kind))
    with pytest.raises(ConfigError, match=r"the universe writes it BRK\.B"):
        require_listed(policy, ["BRK.B"], Path())
    require_listed(policy, ["BRK-B"], Path())


def test_what_is_likely_misspelt_in_a_list_is_told_and_what_is_not_traded_is_not(config: Path) -> None:
    symbols = load(config).universe.symbols
    for entry, told in (("aapll", "is AAPL meant?"), ("TSLA", None), ("AAPL", None)):
        policy = CompliancePolicy.model_validate(listing(entry))
        require_listed(policy, symbols, Path())
        found = likely_misspelt(policy, symbols)
        assert len(found) == (told is not None)
        assert all(f"restricted_list of compliance.yaml lists {entry}, which is no" in one for one in found)
        assert all(told in one for one in found)


def test_constraints_and_limits_have_one_vocabulary() -> None:
    assert set(SHARED) == set(Constraints.model_fields)
    assert set(SHARED) <= set(RiskLimits.model_fields)


LIMITED = {
    "long_only": (True, False), "name_weight_max": (0.15, 0.151), "name_weight_min": (-0.05, -0.06),
    "gross_max": (1.02, 1.03), "net_min": (0.0, -0.01), "net_max": (1.02, 1.03), "turnover_max": (0.35, 0.36),
    "turnover_max_initial": (1.02, 1.03), "cash_min_fraction": (0.0, -0.01), "sector_weight_max": (0.65, 0.66),
    "adv_participation_max": (0.05, 0.06), "beta_min": (0.5, 0.4), "beta_max": (1.1, 1.2),
    "tracking_error_max_annual": (0.1, 0.2),
}  # fmt: skip
"""By name a limit, and a constraint that allows more."""


@pytest.mark.parametrize("name", sorted(SHARED))
def test_no_constraint_may_allow_more_than_its_limit(name: str) -> None:
    limit, wider = LIMITED[name]
    shorts = name == "name_weight_min"
    shipped = read_section(ROOT / "config" / "risk.yaml", RiskLimits).model_dump(mode="json")
    limits = RiskLimits.model_validate(shipped | {"long_only": not shorts, name: limit, "benchmark": {"A": 1.0}})

    def portfolio(**constraints: object) -> PortfolioConfig:
        # What is set beside them keeps the ranges in order.
        wide = {"name_weight_max": 0.1, "net_max": 1.0, "long_only": not shorts}
        return PortfolioConfig(constraints=Constraints.model_validate(wide | constraints))

    sectors = {f"S{number}": "one" for number in range(9)}
    require_inside(portfolio(**{name: limit}), limits, sectors, Path())
    told = rf"portfolio\.constraints\.{name} = {wider}: it allows more than {name} = {limit} of risk\.yaml"
    with pytest.raises(ConfigError, match=told):
        require_inside(portfolio(**{name: wider}), limits, sectors, Path())
    # And without one of its own the optimiser has the limit, or is inside it by default.
    made = inside_limits(portfolio(), limits, sectors)
    assert not allows_more(name, getattr(made.constraints, name), limit)
    assert made.benchmark == {"A": 1.0}
    if name in {*AGAINST_BENCHMARK, "sector_weight_max", "adv_participation_max"}:
        assert getattr(made.constraints, name) == limit


def test_a_default_gives_way_to_a_tighter_limit_and_a_choice_does_not(config: Path) -> None:
    change(config / "risk.yaml", {"name_weight_max": 0.1})
    with pytest.raises(ConfigError, match=r"name_weight_max = 0\.12: it allows more than name_weight_max = 0\.1 of"):
        load(config)
    change(config / "strategies.yaml", {"name_weight_max": None}, "portfolio", "constraints")
    assert load(config).decision.portfolio.constraints.name_weight_max == 0.1


def change(path: Path, changes: dict[str, object], *section: str) -> None:
    """Set values in a section of a file; None takes one out."""
    content = yaml.safe_load(path.read_text())
    place = content
    for name in section:
        place = place[name]
    place.update(changes)
    for name in [name for name, value in changes.items() if value is None]:
        del place[name]
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def test_the_optimiser_and_the_gate_are_measured_against_one_benchmark(config: Path) -> None:
    change(config / "risk.yaml", {"beta_max": 0.9, "benchmark": {"AAPL": 1.0}})
    change(config / "strategies.yaml", {"benchmark": {"KO": 1.0}}, "portfolio")
    with pytest.raises(ConfigError, match=r"portfolio\.benchmark = .*are measured against .*AAPL.*: leave it out"):
        load(config)
    change(config / "risk.yaml", {"benchmark": {"APPL": 1.0}})
    with pytest.raises(ConfigError, match=r"risk.yaml: benchmark = 'APPL': no instrument of universe.*write AAPL"):
        load(config)


def test_limits_that_cross_a_constraint_are_told(config: Path) -> None:
    change(config / "risk.yaml", {"beta_max": 0.9, "benchmark": {"AAPL": 1.0}})
    change(config / "strategies.yaml", {"beta_min": 1.0}, "portfolio", "constraints")
    with pytest.raises(ConfigError, match=r"limits of risk.yaml for what is left out: .*beta_min = 1.0 is above"):
        load(config)


def test_a_benchmark_of_nothing_is_refused(config: Path) -> None:
    edit(config, "strategies.yaml", "\nportfolio:", "\nportfolio:\n  benchmark: {KO: 0.0}\n  #")
    with pytest.raises(ConfigError, match="benchmark holds nothing"):
        load(config)


@pytest.mark.parametrize(
    ("file", "changes", "section", "told"),
    [
        ("strategies", {"execution": {"schedule": "vwap", "slices": 3}}, (),
         "execution = {schedule, slices}: execution.profile has 0 figures: vwap needs one for each slice"),
        ("universe", {"symbols": {}}, ("universe",), "universe.symbols = {}: name at least one instrument, "),
        ("universe", {"news": [["rss"]]}, ("alternative_data",), "alternative_data.news.0 = [1 in all]: Input should"),
    ],
)  # fmt: skip
def test_an_error_of_a_whole_section_is_told_by_its_keys(
    config: Path, file: str, changes: dict[str, object], section: tuple[str, ...], told: str
) -> None:
    change(config / f"{file}.yaml", changes, *section)
    with pytest.raises(ConfigError) as raised:
        load(config)
    assert str(raised.value).startswith(f"{config / file}.yaml: {told}")


def test_the_documented_defaults_of_the_optimiser_are_its_defaults() -> None:
    text = " ".join((ROOT / "docs" / "risk.md").read_text().split())
    defaults = {name: value for name, value in Constraints().model_dump().items() if value is not None}
    for name, value in defaults.items():
        assert f"`{name}` {str(value).lower() if value is True else f'{value:g}'}" in text


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
