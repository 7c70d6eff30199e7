"""M10 Backtester: the published backtest of the configured strategy, with costs, and its tear sheet.

Belongs here: simulating the decision function over the whole panel and showing it. Does not: the simulator
(octopus/backtest).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import numpy as np
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.backtest.analysis import Replay, analyse
from octopus.backtest.analysis_page import analysis_html, analysis_png, engines_html
from octopus.backtest.judges import Gating
from octopus.backtest.metrics import measure
from octopus.backtest.published import Published, publish, warnings_of
from octopus.backtest.simulator import BacktestResult, portfolio_of, run_benchmarks
from octopus.backtest.sizing import Sizing
from octopus.backtest.tearsheet import headline, standard_warnings, tearsheet_html, tearsheet_png
from octopus.core.ids import canonical_json, fingerprint
from octopus.core.trials import STRATEGIES, Trial
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
    """The decision function over all sessions, each with the model of that day, costs included; no hindsight text."""
    session, config = partitions.session_of(context), settings.strategies.backtest
    panel = inputs.panel(settings, warehouse, session)
    prepared = inputs.prepared(panel, settings.decision)
    predictions = inputs.past_predictions(settings, warehouse, registry, prepared)
    delisting = inputs.delistings(warehouse, settings, panel, session)
    reference = read_reference(settings.compliance, settings.root)
    gating = Gating(settings.risk, settings.compliance, settings.universe.sectors, reference)
    published = publish(panel, config, settings.decision, gating, predictions, prepared, delisting)
    result = published.result
    benchmark = run_benchmarks(panel, config, settings.decision, delisting=delisting)["equal_weight"]
    metrics = measure(
        result, benchmark, trials=_trials(warehouse, settings, result), tried_before=config.trials,
        trial_sharpe_spread=config.trial_sharpe_spread,
    )  # fmt: skip
    warnings = [*warnings_of(published), *standard_warnings(result, metrics, survivors_only=settings.recorded)]
    costs = config.costs or settings.decision.costs
    replay = Replay(panel, result, config, Sizing.of(portfolio_of(config, settings.decision)), costs, delisting)
    analysis = analyse(replay, benchmark, settings.universe.sectors)
    second = analysis_png(analysis, TITLE)
    png = tearsheet_png(result, benchmark, metrics, TITLE)
    mark = fingerprint(
        inputs.panel_fingerprint(panel), inputs.decision_record(settings.decision), config.model_dump(mode="json"),
        "none" if predictions is None else predictions, delisting, settings.risk.model_dump(mode="json"),
        settings.compliance.model_dump(mode="json"), settings.universe.sectors,
    )  # fmt: skip
    record = {**metrics.record(), **published.record(), "warnings": warnings}
    changed = _store(warehouse, session, mark, result, record, settings)
    html = tearsheet_html(
        png, metrics, TITLE, warnings=warnings, sections=analysis_html(analysis, second) + engines_html(published),
        assumptions={**settings.strategies.costs.model_dump(), "fills": f"next session's {result.execution}",
                     "initial cash": config.initial_cash, "model": "each session's own: its champion or its fold"},
    )  # fmt: skip
    page = settings.home / "tearsheets" / f"{session}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")
    figures = {f"strategy.{name}": value for name, value in metrics.strategy.__dict__.items()}
    registry.log_report(
        "backtest", mark, figures, {"tearsheet.png": png, "analysis.png": second}, {"tearsheet.html": html}
    )
    yield dg.MaterializeResult(
        metadata={
            "changed": changed, "headline": headline(metrics), "trades": metrics.trades,
            "sharpe_95": f"{metrics.sharpe_low:.2f} to {metrics.sharpe_high:.2f}",
            "deflated_sharpe": metrics.deflated_sharpe, "trials": metrics.trials,
            "trials_clustered": metrics.trials_clustered, "cost_drag": metrics.cost_drag,
            "turnover_annual": metrics.turnover_annual, "warnings": "; ".join(warnings) or "none",
            "tear_sheet": reporting.picture(png, "tear sheet"), "page": dg.MetadataValue.path(str(page)),
            "analysis": reporting.picture(second, "analysis"), "denied by the gates": len(published.gated.denials),
        }
    )  # fmt: skip
    yield _agreement(published)


def _agreement(published: Published) -> dg.AssetCheckResult:
    told = {name: str(comparison) for name, comparison in published.comparisons.items()}
    return dg.AssetCheckResult(
        check_name=ENGINES_AGREE, asset_key=keys.BACKTEST_RUNS, passed=published.agree, metadata=told
    )


def _trials(warehouse: Warehouse, settings: Settings, result: BacktestResult) -> list[Trial]:
    """Every strategy ever simulated on these days, whatever it was called; this one is put on record."""
    published = Trial(
        "backtest", "ensemble", inputs.trial_parameters(settings.strategies), settings.universe.market_data,
        result.sessions[0].item(), result.sessions[-1].item(), result.net_return[1:],
    )  # fmt: skip
    return TrialLedger(warehouse).among(published, STRATEGIES)


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
