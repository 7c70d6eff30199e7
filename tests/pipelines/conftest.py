"""A small house for tests of the pipelines: the sample since 2018 in real databases, dbt's marts built."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from octopus_pipelines import dbt_manifest
from resources import factories, research_factories
from resources.registry import ModelRegistry
from resources.settings import ROOT, Settings, load_settings
from resources.trading import Trading, open_paper_account, paper_broker
from resources.warehouse.connection import Role
from resources.warehouse.migrate import migrate
from resources.warehouse.store import Warehouse
from tests.conftest import leave
from tests.dbt_server import DATABASE, run_dbt

HISTORY_START = "2018-01-02"


@pytest.fixture(scope="session")
def manifest() -> None:
    """dbt's manifest, made before the definitions are imported."""
    dbt_manifest.ensure()


def edited_config(folder: Path, **changes: Any) -> Path:
    """A copy of config/ with dotted keys changed, e.g. ``{"universe.universe.history_start": "2018-01-02"}``."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "config").glob("*.yaml")}
    for dotted, value in changes.items():
        node: Any = files
        *parents, last = dotted.split(".")
        for name in parents:
            node = node[name]
        node[last] = value
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def url_of(server: str, database: str) -> str:
    """URL of another database on the same server."""
    parts = conninfo_to_dict(make_conninfo(server, dbname=database))
    host = str(parts.get("host", "localhost"))
    identity = str(parts.get("user", "postgres")) + (f":{parts['password']}" if parts.get("password") else "")
    if host.startswith("/"):
        return f"postgresql://{identity}@/{database}?host={host.replace('/', '%2F')}"
    return f"postgresql://{identity}@{host}:{parts.get('port', 5432)}/{database}"


@dataclass(frozen=True)
class House:
    """One house: its settings, its environment and what the assets talk to."""

    settings: Settings
    environment: dict[str, str]
    resources: dict[str, Any]
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.database_url, Role.OWNER)

    def call(self, asset: dg.AssetsDefinition, session: str) -> None:
        """Materialise one asset for a session; its own error is raised."""
        assert dg.materialize(
            [asset], partition_key=session, resources=self._needed(asset), instance=self.instance
        ).success

    def call_body(self, asset: dg.AssetsDefinition, session: str) -> None:
        """The same without an engine around it, which takes longer than some bodies: for days by the dozen."""
        assert asset(dg.build_asset_context(partition_key=session), **self._needed(asset)) is not None

    def _needed(self, asset: dg.AssetsDefinition) -> dict[str, Any]:
        return {name: self.resources[name] for name in asset.required_resource_keys if name in self.resources}

    def dbt(self, *marts: str) -> None:
        """Build the marts as the daily job does, their checks included; or some alone, for which it takes a quarter."""
        chosen = ("run", "--select", *(f"+{mart}" for mart in marts))
        every = ("build", "--exclude-resource-type", "unit_test")
        run_dbt(self.settings.database_url, self.settings.home / "dbt", *(chosen if marts else every))


def make_house(server: str, folder: Path, **changes: Any) -> Iterator[House]:
    """A house in fresh databases of ``server``."""
    config = edited_config(folder / "config", **changes)
    names = {name: f"octopus_{name}_{uuid.uuid4().hex[:10]}" for name in ("warehouse", "dagster", "mlflow")}
    with psycopg.connect(server, autocommit=True) as connection:
        if connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone() is None:
            names["warehouse"] = DATABASE
        for name in names.values():
            connection.execute(f'create database "{name}"')
        environment = {
            "OCTOPUS_CONFIG": str(config),
            "OCTOPUS_HOME": str(folder / "home"),
            "OCTOPUS_DATABASE_URL": url_of(server, names["warehouse"]),
            "OCTOPUS_DAGSTER_URL": url_of(server, names["dagster"]),
            "OCTOPUS_MLFLOW_URL": url_of(server, names["mlflow"]),
        }
        settings = load_settings(environment)
        settings.home.mkdir(parents=True)
        migrate(settings.database_url)
        open_paper_account(settings)
        clock = factories.trading_clock(settings)
        broker = paper_broker(settings, clock)
        resources = {
            "settings": settings,
            "warehouse": Warehouse(settings.database_url, Role.RESEARCH),
            "clock": clock,
            "broker": broker,
            "trading": Trading(settings, clock, broker),
            "registry": ModelRegistry(settings.mlflow_url, settings.home / "mlflow"),
            "market_data_source": research_factories.market_data_source(settings),
            "text_catalogue": research_factories.TextCatalogue(settings),
            "sentiment_model": research_factories.sentiment(settings),
        }
        try:
            yield House(settings, environment, resources)
        finally:
            for name in names.values():
                leave(connection, name)
            # The next house's warehouse has its name.
            if names["warehouse"] == DATABASE:
                connection.execute(f'drop database if exists "{DATABASE}" with (force)')


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory, manifest: None) -> Iterator[House]:
    """The sample since 2018, models on short folds that may speak whatever their scores, marts built."""
    from assets.alternative_data import build_source, sentiment_scores
    from assets.market_data import market_data
    from assets.warehouse import session_rows

    changes = {
        "universe.universe.history_start": HISTORY_START,
        "strategies.models.train_min_sessions": 504,
        "strategies.models.test_sessions": 63,
        "strategies.models.auto_champion": False,
        "strategies.models.xgboost.trees": 20,
        "strategies.models.gates": {
            "rank_ic_min": 0.0, "net_spread_min": -1.0, "t_min": 0.0, "deflated_sharpe_min": 0.0,
            "positive_folds_min": 0.0,
        },
        "strategies.backtest.start": "2022-05-02",
    }  # fmt: skip
    for made in make_house(server_url, tmp_path_factory.mktemp("house"), **changes):
        made.resources["warehouse"].insert_new("ops.sessions", session_rows(made.settings.sessions))
        for asset in (market_data, build_source("news", "sample"), build_source("post", "sample"), sentiment_scores):
            made.call(asset, "2022-12-27")
        made.dbt()
        yield made
