"""The code location `research`: everything up to the approved rebalance.

Belongs here: joining assets, jobs, schedules, sensors and resources. Does not: their bodies. Nothing does I/O here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import dagster as dg

from assets import (
    alternative_data,
    backtest,
    compliance,
    intraday,
    market_data,
    model_watch,
    models,
    partitions,
    portfolio,
    risk,
    strategy,
    sweeps,
    warehouse,
)  # fmt: skip
from octopus_pipelines.jobs import research_jobs
from octopus_pipelines.schedules import research_schedules
from octopus_pipelines.sensors.champion import champion_moved
from octopus_pipelines.sensors.ingestion import ingestion_sensor
from resources import factories, research_factories
from resources.runtime.dagster_home import INGESTION_SENSOR
from resources.warehouse.connection import Role


def build_defs(resource_overrides: Mapping[str, object] | None = None, *, goes_on: bool = False) -> dg.Definitions:
    """The definitions of the location; a test swaps any resource by its key.

    Args:
        goes_on: the sensor that goes on with an ingestion that was cut short starts switched on.
    """
    resources: dict[str, object] = {
        "settings": factories.lazily(lambda settings: settings, "config/*.yaml and OCTOPUS_* variables"),
        "warehouse": factories.warehouse_as(Role.RESEARCH),
        "clock": factories.lazily(factories.trading_clock, "Wall clock, or replay clock on recorded data"),
        "market_data_source": factories.lazily(research_factories.market_data_source, "Bars and corporate actions"),
        "market_data_catalogue": factories.lazily(
            research_factories.MarketDataCatalogue, "Every source of market data, for comparison"
        ),
        "text_catalogue": factories.lazily(research_factories.TextCatalogue, "Every source of news and posts"),
        "sentiment_model": factories.lazily(research_factories.sentiment, "Scores texts"),
        "registry": factories.lazily(research_factories.registry, "MLflow"),
        "broker": factories.lazily(factories.broker, "The account's broker, read only here"),
        "dbt": warehouse.dbt_resource(),
    }
    jobs = research_jobs()
    return dg.Definitions(
        assets=[
            *market_data.ASSETS, *intraday.ASSETS,
            *alternative_data.build_assets(partitions.SOURCES.texts), *warehouse.build_assets(),
            *strategy.ASSETS, *models.ASSETS, *model_watch.ASSETS, *backtest.ASSETS, *sweeps.ASSETS, *portfolio.ASSETS,
            *risk.ASSETS, *compliance.ASSETS,
        ],
        jobs=jobs,
        schedules=research_schedules(),
        sensors=[champion_moved, ingestion_sensor(jobs, running=goes_on)],
        resources={**resources, **(resource_overrides or {})},
        executor=dg.in_process_executor,
    )  # fmt: skip


defs = build_defs(goes_on=os.environ.get(INGESTION_SENSOR) == "on")
