"""Both code locations: they load, are complete, have no cycle, start nothing by themselves and stay apart."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import MissingDataError
from octopus.core.orders import OrderType
from octopus.core.sessions import Sessions
from octopus.execution.window import execution_window
from octopus_pipelines import dbt_manifest
from octopus_pipelines.jobs import MAX_RUNTIME, execution_jobs
from resources.execution_engine import EngineSettings
from resources.runtime.dagster_home import BROKER_POOL, MAX_RUNTIME_SECONDS, SOURCE_POOLS
from resources.trading import SETTLE_TIMEOUT

GROUPS = {
    "market_data", "alternative_data", "warehouse", "strategy", "models", "backtest", "portfolio", "risk", "compliance",
    "execution",
}  # fmt: skip
HEAVY = ("mlflow", "xgboost", "lightgbm", "prophet", "optuna", "sklearn", "skfolio", "dbt", "dagster_dbt",
         "transformers", "torch", "yfinance", "praw")  # fmt: skip


@pytest.fixture(scope="module")
def locations(manifest: None) -> dict[str, dg.Definitions]:
    from octopus_pipelines import execution, research

    return {"research": research.defs, "execution": execution.defs}


def _specs(locations: dict[str, dg.Definitions]) -> dict[dg.AssetKey, dg.AssetSpec]:
    """Every asset once: a location names those of the other as stubs, without a group of ours."""
    found: dict[dg.AssetKey, dg.AssetSpec] = {}
    for defs in locations.values():
        for spec in defs.resolve_all_asset_specs():
            if spec.key not in found or spec.group_name in GROUPS:
                found[spec.key] = spec
    return found


def test_both_locations_load(locations: dict[str, dg.Definitions]) -> None:
    for defs in locations.values():
        dg.Definitions.validate_loadable(defs)


def test_every_asset_says_whose_it_is_and_what(locations: dict[str, dg.Definitions]) -> None:
    made = {key: spec for key, spec in _specs(locations).items() if spec.group_name in GROUPS}
    assert {spec.group_name for spec in made.values()} == GROUPS
    for key, spec in made.items():
        assert len(key.path) == 2, key
        assert list(spec.owners) == [f"team:{spec.group_name}"], key
        assert spec.kinds, key
        assert spec.description, key


def test_the_joined_graph_has_no_cycle(locations: dict[str, dg.Definitions]) -> None:
    specs = _specs(locations)
    order = list(TopologicalSorter({k: {d.asset_key for d in s.deps} for k, s in specs.items()}).static_order())
    place = {key: index for index, key in enumerate(order)}
    path = [("raw", "bars"), ("marts", "prices"), ("portfolio", "target_weights"), ("risk", "limit_report"),
            ("compliance", "pretrade_report"), ("execution", "orders"), ("execution", "reconciliation")]  # fmt: skip
    places = [place[dg.AssetKey(list(key))] for key in path]
    assert places == sorted(places)


def test_dbt_builds_once_a_day_and_its_tests_of_models_stop_what_follows(locations: dict[str, dg.Definitions]) -> None:
    daily = locations["research"].resolve_job_def("daily")
    assert [node.name for node in daily.nodes if "dbt" in node.name] == ["dbt_models"]
    dbt = locations["research"].resolve_asset_graph().assets_def_for_key(dg.AssetKey(["marts", "prices"]))
    blocking = {check.name: check.blocking for check in dbt.check_specs}
    assert blocking["prices_known_times_disjoint"]
    assert blocking["returns_one_row_per_session"]
    assert not blocking["raw_instruments_one_price_basis_per_source"]


def test_of_several_that_start_at_once_one_makes_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def parse(environment: Mapping[str, str]) -> None:
        made.append(time.sleep(0.1))
        dbt_manifest.MANIFEST.write_text("{}")

    (tmp_path / "dbt_project.yml").touch()
    monkeypatch.setattr(dbt_manifest, "PROJECT", tmp_path)
    monkeypatch.setattr(dbt_manifest, "MANIFEST", tmp_path / "target" / "manifest.json")
    monkeypatch.setattr(dbt_manifest, "_parse", parse)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: dbt_manifest.ensure(), range(4)))
    assert len(made) == 1


def test_nothing_but_the_keeping_of_the_books_starts_by_itself_and_nothing_that_trades_is_retried(
    locations: dict[str, dg.Definitions],
) -> None:
    for defs in locations.values():
        for sensor in defs.sensors or ():
            assert sensor.default_status is dg.DefaultSensorStatus.STOPPED  # type: ignore[union-attr]
    running = {
        schedule.name
        for defs in locations.values()
        for schedule in defs.schedules or ()
        if schedule.default_status is dg.DefaultScheduleStatus.RUNNING  # type: ignore[union-attr]
    }
    assert running == {"books_before_daily", "daily_reconciliation"}
    execute = locations["execution"].resolve_job_def("execute")
    assert execute.tags["dagster/max_retries"] == "0"
    assert all(node.definition.retry_policy is None for node in execute.graph.nodes)  # type: ignore[attr-defined]


@given(
    exchange=st.sampled_from(["XNYS", "XLON", "XTKS", "24/5", "24/7"]), order_type=st.sampled_from(OrderType),
    from_open=st.booleans(), day=st.dates(date(2015, 1, 5), date(2030, 12, 27)),
)  # fmt: skip
@settings(deadline=None)
def test_no_run_that_follows_its_orders_to_their_end_is_taken_for_one_that_hangs(
    exchange: str, order_type: OrderType, from_open: bool, day: date
) -> None:
    sessions = Sessions(exchange)
    try:
        window = execution_window(sessions, sessions.previous(day), order_type, from_open=from_open)
    except MissingDataError:
        return
    least = window.expires_at - window.not_before + SETTLE_TIMEOUT + EngineSettings.absent_grace
    for job in _execution_jobs(exchange):
        assert least < timedelta(seconds=int(job.tags[MAX_RUNTIME]))


@lru_cache
def _execution_jobs(exchange: str) -> list[Any]:
    return list(execution_jobs(Sessions(exchange)))


def test_a_run_of_the_longest_day_at_new_york_has_the_patience_of_any_other_beside_its_window(
    locations: dict[str, dg.Definitions],
) -> None:
    """An hour before the open, six and a half of the session, and sixteen minutes for the broker's last answers."""
    for name in ("book", "execute", "reconcile"):
        tags = locations["execution"].resolve_job_def(name).tags
        assert int(tags[MAX_RUNTIME]) == MAX_RUNTIME_SECONDS + timedelta(hours=7, minutes=46).total_seconds()
    assert locations["research"].resolve_job_def("daily").tags[MAX_RUNTIME] == str(MAX_RUNTIME_SECONDS)


def _python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCTOPUS_", "DAGSTER"))}
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code], cwd=folder, env={**clean, **environment}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip


def test_execution_loads_without_dbt_and_machine_learning(tmp_path: Path) -> None:
    code = "import octopus_pipelines.execution, sys; print([m for m in sys.modules])"
    loaded = _python(code, tmp_path).stdout
    assert [name for name in HEAVY if f"'{name}'" in loaded] == []


@dataclass(frozen=True)
class LoadedApart:
    """Both locations, loaded by a process of its own that knows a secret and has a home that nobody made.

    Attributes:
        files: where the packages were found.
        snapshot: what Dagster is told of the research location.
        warned: what the process wrote on standard error.
    """

    home: Path
    files: list[str]
    snapshot: str
    warned: str


@pytest.fixture(scope="module")
def loaded_apart(manifest: Any, tmp_path_factory: pytest.TempPathFactory) -> LoadedApart:
    folder = tmp_path_factory.mktemp("apart")
    home = folder / "never-made"
    code = (
        "import octopus_pipelines.execution, octopus_pipelines.research as research, assets, resources; "
        "print(assets.__file__, resources.__file__); "
        "from dagster._serdes import serialize_value; "
        "from dagster._core.remote_representation.external_data import RepositorySnap; "
        "print(serialize_value(RepositorySnap.from_def(research.defs.get_repository_def())))"
    )
    done = _python(
        code, folder, OCTOPUS_HOME=str(home), OCTOPUS_DATABASE_URL="postgresql://nobody@127.0.0.1:1/x",
        NEWSAPI_API_KEY="s3cr3t-value",
    )  # fmt: skip
    files, snapshot = done.stdout.split("\n", 1)
    return LoadedApart(home, files.split(), snapshot, done.stderr)


def test_importing_does_no_input_or_output_and_warns_of_nothing_but_backfills(loaded_apart: LoadedApart) -> None:
    assert not loaded_apart.home.exists()
    from resources.settings import ROOT

    assert len(loaded_apart.files) == 2
    assert all(Path(name).is_relative_to(ROOT) for name in loaded_apart.files)
    ours = [line for line in loaded_apart.warned.splitlines() if "BetaWarning" in line or "PreviewWarning" in line]
    assert [line for line in ours if "backfill_policy" not in line] == []


def test_a_secret_is_in_no_snapshot(loaded_apart: LoadedApart) -> None:
    assert "target_weights" in loaded_apart.snapshot
    assert "s3cr3t-value" not in loaded_apart.snapshot


def test_partitions_are_the_exchanges_sessions() -> None:
    from datetime import UTC, date, datetime

    from assets.partitions import SESSIONS
    from octopus.core.sessions import Sessions

    saturday = datetime(2022, 12, 24, 12, tzinfo=UTC)
    keys = SESSIONS.get_partition_keys(current_time=saturday)
    expected = [str(day) for day in Sessions().between(date(1990, 1, 2), date(2022, 12, 23))]
    assert keys == expected, "Friday's key exists on Saturday, and no holiday has one"


def test_each_pool_has_its_slot(locations: dict[str, dg.Definitions]) -> None:
    pools = {
        node.pool
        for defs in locations.values()
        for asset in defs.assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for node in [asset.node_def]
        if isinstance(node, dg.OpDefinition) and node.pool
    }
    assert pools <= {BROKER_POOL, *SOURCE_POOLS}, "a pool without slots is unlimited: name it in dagster_home"
    assert BROKER_POOL in pools
