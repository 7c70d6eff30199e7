"""M6 Risk Manager: each limit against the plan, and how much the planned portfolio could lose.

Belongs here: running the risk gate and the risk report on the plan and showing them. Does not: the gate's rules and the
measures (octopus/risk); execution judges again with the same code.
"""

from collections.abc import Collection
from decimal import Decimal

import dagster as dg
import numpy as np
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.core.orders import AccountSnapshot, Batch
from octopus.core.panel import Panel, average_volume
from octopus.risk.drawdown import levels
from octopus.risk.pictures import (
    backtest_picture,
    drawdown_picture,
    exposure_picture,
    risk_picture,
    stress_picture,
)
from octopus.risk.report import Measure, Portfolio, risk_report
from resources.gates import Gates
from resources.nav_history import NavHistory
from resources.settings import Settings
from resources.warehouse.plans import Plans, verdict_rows
from resources.warehouse.store import Warehouse

GROUP = "risk"
OWNERS = ["team:risk"]


@dg.asset(
    key=keys.LIMIT_REPORT, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.REBALANCE_PLAN],
    partitions_def=partitions.SESSIONS,
)  # fmt: skip
def limit_report(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> dg.MaterializeResult[None]:
    """Each limit against the plan: value, limit, verdict, and for a denial the order that causes it."""
    session, account, plans = partitions.session_of(context), settings.account, Plans(warehouse)
    batch, (_, snapshot) = plans.require(account, session)
    if plans.is_settled(account, session):
        return dg.MaterializeResult(metadata={"batch_id": batch.batch_id, "changed": False, "settled": True})
    # Judged as of the decision, so that planning the same session again gives the same verdicts.
    report = Gates(settings, warehouse).risk(batch, snapshot, snapshot.taken_at)
    changed = plans.save_report("risk.limit_report", batch.batch_id, report)
    whole = verdict_rows(report).filter(verdict_rows(report)["intent_id"].is_null())
    return dg.MaterializeResult(
        metadata={
            "batch_id": batch.batch_id, "changed": changed, "approved": len(report.approved),
            "denied": len(batch.orders) - len(report.approved),
            "picture": reporting.picture(risk_picture(report), "limit usage"),
            "denials": reporting.denials(report, batch),
            "table": reporting.table(whole.select("rule", "outcome", "value", "limit_value", "reason"), limit=50),
        }
    )  # fmt: skip


@dg.asset(
    key=keys.RISK_MEASURES, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.LIMIT_REPORT],
    partitions_def=partitions.SESSIONS,
)  # fmt: skip
def measures(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> dg.MaterializeResult[None]:
    """How much the planned portfolio could lose, by what and in which scenario, from what was known at the decision."""
    session, account = partitions.session_of(context), settings.account
    batch, (_, snapshot) = Plans(warehouse).require(account, session)
    panel = inputs.panel_as_of(settings, warehouse, snapshot.taken_at)
    denied = _denied(warehouse, batch.batch_id)
    report = risk_report(_portfolio(panel, snapshot, batch, denied, settings), settings.risk)
    frame = _rows(report.measures).with_columns(pl.lit(account).alias("account"), pl.lit(session).alias("session"))
    changed = warehouse.replace("risk.measures", {"account": account, "session": session}, frame)
    history = NavHistory(warehouse, settings.sessions).navs(account, session)
    navs = [(day, float(level)) for day, level in levels(history)]
    whole = frame.filter(~pl.col("measure").str.contains("component_|marginal_"))
    return dg.MaterializeResult(
        metadata={
            "batch_id": batch.batch_id, "changed": changed,
            "uncovered": ", ".join(report.uncovered) or "none",
            "exposure": reporting.picture(exposure_picture(report), "exposure and components"),
            "var_backtest": reporting.picture(backtest_picture(report), "VaR backtest"),
            "drawdown": reporting.picture(drawdown_picture(report, navs, settings.risk.drawdown_stop), "drawdown"),
            "stress": reporting.picture(stress_picture(report), "stress"),
            "table": reporting.table(whole.select("measure", "subject", "value", "note"), limit=200),
        }
    )  # fmt: skip


def _portfolio(
    panel: Panel, snapshot: AccountSnapshot, batch: Batch, denied: Collection[str], settings: Settings
) -> Portfolio:
    """The account when every order that risk let through has filled, at the last prices."""
    shares = dict(snapshot.positions)
    for order in batch.orders:
        if order.intent_id not in denied:
            shares[order.instrument] = shares.get(order.instrument, Decimal(0)) + order.signed_quantity
    symbols = tuple(sorted({*panel.symbols, *(name for name, number in shares.items() if number)}))
    column = {name: number for number, name in enumerate(panel.symbols)}
    rows = [column.get(name) for name in symbols]
    returns = np.full((len(panel.sessions), len(symbols)), np.nan)
    known = [place for place, row in enumerate(rows) if row is not None]
    returns[:, known] = panel.total_return[:, [row for row in rows if row is not None]]
    prices = np.array([float(snapshot.prices.get(name, Decimal(0))) for name in symbols])
    held = np.array([float(shares.get(name, Decimal(0))) for name in symbols])
    volumes = np.full(len(symbols), np.nan)
    volumes[known] = average_volume(panel.volume, panel.split)[[row for row in rows if row is not None]]
    return Portfolio(
        symbols=symbols, weights=held * prices / float(snapshot.equity), shares=held, prices=prices,
        sessions=panel.sessions, returns=returns, sectors=settings.universe.sectors,
        sessions_per_year=panel.clock.per_year,
        adv_shares=None if panel.price_basis == "total_return" else volumes,
    )  # fmt: skip


def _denied(warehouse: Warehouse, batch_id: str) -> set[str]:
    rows = warehouse.rows(
        "select distinct intent_id from risk.limit_report "
        "where batch_id = %s and outcome = 'deny' and intent_id is not null",
        [batch_id],
    )
    return {row["intent_id"] for row in rows}


def _rows(found: Collection[Measure]) -> pl.DataFrame:
    # Twelve digits say all that there is to know, and the last bits may differ from machine to machine.
    values = [None if m.value is None else float(f"{m.value:.12g}") for m in found]
    return pl.DataFrame(
        {
            "measure": [m.measure for m in found], "subject": [m.subject for m in found], "value": values,
            "note": [m.note for m in found],
        },
        schema={"measure": pl.String, "subject": pl.String, "value": pl.Float64, "note": pl.String},
    )  # fmt: skip


ASSETS = (limit_report, measures)
