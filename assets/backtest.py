"""M10 Backtester: the published backtest of the configured strategy, with costs, and its tear sheet.

Belongs here: simulating the decision function over the whole panel and showing it. Does not: the simulator
(octopus/backtest).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.backtest.analysis import Replay, analyse
from octopus.backtest.analysis_page import analysis_html, analysis_png, engines_html
from octopus.backtest.judges import Gating
from octopus.backtest.metrics import measure
from octopus.backtest.published import publish, warnings_of
from octopus.backtest.simulator import BacktestResult, period, portfolio_of, run_benchmarks
from octopus.backtest.sizing import Sizing
from octopus.backtest.tearsheet import fills_told, headline, standard_warnings, tearsheet_html, tearsheet_png
from octopus.core.ids import canonical_json, fingerprint
from octopus.core.panel import Panel
from octopus.core.trials import STRATEGIES, Trial
from octopus.core.types import DateArray, FloatArray
from resources.reference_files import read_reference
from resources.registry import ModelRegistry
from resources.settings import Settings
from resources.warehouse.store import Warehouse
from resources.warehouse.trials import TrialLedger

GROUP = "backtest"
OWNERS = ["team:backtest"]
TITLE = "Octopus · ensemble of the configured signals"


ENGINES_AGREE = "engines_agree"


@dg.asset(
    key=keys.BACKTEST_RUNS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.SIGNALS, keys.CHAMPION_HISTORY, keys.WALK_FORWARD], partitions_def=partitions.SESSIONS,
    check_specs=[
        dg.AssetCheckSpec(
            ENGINES_AGREE, asset=keys.BACKTEST_RUNS, blocking=True,
            description="The vectorised and the event-driven engine agree on every ledger to the cent.",
        )
    ],
)  # fmt: skip
def backtest_runs(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    registry: dg.ResourceParam[ModelRegistry],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """The decision function over all sessions, each with the model of that day, costs included; no hindsight text.

    What was published of the same inputs already is not simulated again.
    """
    session, config = partitions.session_of(context), settings.strategies.simulation
    panel = inputs.panel(settings, warehouse, session)
    prepared = inputs.prepared(panel, settings.decision)
    predictions = inputs.past_predictions(settings, warehouse, registry, prepared)
    delisting = inputs.delistings(warehouse, settings, panel, session)
    own = inputs.units(settings, warehouse, session)
    decision = inputs.decision_in(settings.decision, own)
    reference = read_reference(settings.compliance, settings.root, settings.universe.symbols)
    gating = Gating(settings.risk, settings.compliance, settings.universe.sectors, reference)
    mark = fingerprint(
        inputs.panel_fingerprint(panel), inputs.decision_record(settings.decision), config.model_dump(mode="json"),
        "none" if predictions is None else predictions, delisting, settings.risk.model_dump(mode="json"),
        settings.compliance.model_dump(mode="json"), settings.universe.sectors, repr(reference),
        _tried(warehouse, settings, panel), config.schedule.model_dump(mode="json"), *inputs.units_record(own),
    )  # fmt: skip
    page = settings.home / "tearsheets" / f"{session}.html"
    known = warehouse.rows("select metrics from backtest.runs where fingerprint = %s", [mark])
    if known and page.exists():
        # The same inputs give the same account: what was published of them stands.
        yield dg.MaterializeResult(metadata={"changed": False, **_figures(known[0]["metrics"], page)})
        yield _agreement(known[0]["metrics"])
        return
    published = publish(
        panel, config, decision, gating, predictions=predictions, prepared=prepared, delisting=delisting
    )
    result = published.result
    benchmark = run_benchmarks(panel, config, decision, delisting=delisting)["equal_weight"]
    metrics = measure(
        result, benchmark, trials=_trials(warehouse, settings, result), tried_before=config.trials,
        trial_sharpe_spread=config.trial_sharpe_spread,
    )  # fmt: skip
    told = standard_warnings(result, metrics, survivors_only=settings.recorded)
    warnings = [*warnings_of(published), *told]
    costs = config.costs or settings.decision.costs
    replay = Replay(panel, result, config, Sizing.of(portfolio_of(config, decision)), costs, delisting)
    analysis = analyse(replay, benchmark, settings.universe.sectors)
    second = analysis_png(analysis, TITLE)
    png = tearsheet_png(result, benchmark, metrics, TITLE)
    record = {
        **metrics.record(),
        **published.record(),
        "fill_prices": result.fill_prices,
        "headline": headline(metrics),
        "warnings": warnings,
    }
    changed = _store(warehouse, session, mark, result, record, settings)
    html = tearsheet_html(
        png, metrics, TITLE, warnings=warnings, sections=analysis_html(analysis, second) + engines_html(published),
        assumptions={**settings.strategies.costs.model_dump(), "fills": fills_told(result),
                     "initial cash": config.initial_cash, "model": "each session's own: its champion or its fold"},
    )  # fmt: skip
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")
    figures = {f"strategy.{name}": value for name, value in metrics.strategy.__dict__.items()}
    registry.log_report(
        "backtest", mark, figures, {"tearsheet.png": png, "analysis.png": second}, {"tearsheet.html": html}
    )
    pictures = {
        "tear_sheet": reporting.picture(png, "tear sheet"), "analysis": reporting.picture(second, "analysis")
    }  # fmt: skip
    yield dg.MaterializeResult(metadata={"changed": changed, **_figures(record, page), **pictures})
    yield _agreement(record)


def _figures(record: Mapping[str, Any], page: Path) -> dict[str, Any]:
    """What a person wants to see of a published run: of its record, as it is stored."""
    told = ("trades", "deflated_sharpe", "trials", "trials_clustered", "cost_drag", "turnover_annual")
    low, high = (float("nan") if record[name] is None else record[name] for name in ("sharpe_low", "sharpe_high"))
    return {
        "headline": record.get("headline", ""), "sharpe_95": f"{low:.2f} to {high:.2f}",
        **{name: record[name] for name in told}, "warnings": "; ".join(record["warnings"]) or "none",
        "denied by the gates": record["gates"]["denied"], "page": dg.MetadataValue.path(str(page)),
    }  # fmt: skip


def _agreement(record: Mapping[str, Any]) -> dg.AssetCheckResult:
    engines = record["engines"]
    told = {
        name: "; ".join(one["differences"])
        or f"both engines agree on {one['trades']:,} trades over {one['sessions']:,} sessions"
        for name, one in engines.items()
    }
    return dg.AssetCheckResult(
        check_name=ENGINES_AGREE, asset_key=keys.BACKTEST_RUNS, metadata=told,
        passed=all(one["agree"] for one in engines.values()),
    )  # fmt: skip


def _tried(warehouse: Warehouse, settings: Settings, panel: Panel) -> list[str]:
    """The other trials that deflate this one's Sharpe ratio, by their identity."""
    first, stop = period(panel, settings.strategies.simulation)
    days = panel.sessions[first:stop]
    own = _trial(settings, days, np.empty(0))
    found = TrialLedger(warehouse).identities(own.source, own.first_session, own.last_session, STRATEGIES)
    return sorted(set(found) - {own.trial_id})


def _trial(settings: Settings, days: DateArray, returns: FloatArray) -> Trial:
    """The published strategy, measured on those days."""
    chosen, source = inputs.trial_parameters(settings.strategies), settings.universe.market_data
    return Trial("backtest", "ensemble", chosen, source, days[0].item(), days[-1].item(), returns)


def _trials(warehouse: Warehouse, settings: Settings, result: BacktestResult) -> list[Trial]:
    """Every strategy ever simulated on these days, whatever it was called; this one is put on record."""
    return TrialLedger(warehouse).among(_trial(settings, result.sessions, result.net_return[1:]), STRATEGIES)


def _store(
    warehouse: Warehouse,
    session: date,
    mark: str,
    result: BacktestResult,
    record: dict[str, object],
    settings: Settings,
) -> bool:
    """Store one run and its series under its fingerprint; False when they are stored already."""
    chosen = inputs.trial_parameters(settings.strategies)
    run = pl.DataFrame(
        {
            "fingerprint": [mark], "as_of": [session], "strategy": ["ensemble"],
            "first_session": [result.sessions[0].item()], "last_session": [result.sessions[-1].item()],
            "metrics": [canonical_json(record)], "settings": [canonical_json(chosen)],
            "created_at": [datetime.now(UTC)],
        }
    )  # fmt: skip
    added = warehouse.insert_new("backtest.runs", run)
    days = result.sessions
    daily = pl.DataFrame(
        {
            "session": days, "equity": result.equity, "cash": result.cash, "gross_return": result.gross_return,
            "net_return": result.net_return, "turnover": result.turnover, "costs": result.total_costs,
        }
    ).with_columns(pl.lit(mark).alias("fingerprint"))  # fmt: skip
    warehouse.replace("backtest.daily", {"fingerprint": mark}, daily)
    decided = ~np.isnan(result.targets)
    rows, columns = np.nonzero(decided & (result.targets != 0))
    targets = pl.DataFrame(
        {
            "session": days[rows], "instrument": np.array(result.symbols)[columns],
            "weight": result.targets[rows, columns],
        }
    ).with_columns(pl.lit(mark).alias("fingerprint"))  # fmt: skip
    return warehouse.replace("backtest.targets", {"fingerprint": mark}, targets) or bool(added)


ASSETS = (backtest_runs,)
