"""Studies: one strategy with settings of its own, simulated beside the published one, and many of them.

Belongs here: which settings a study has, running it on what is in the warehouse, and putting it on record as a trial.
Does not: simulating (octopus/backtest), the published backtest (assets/backtest.py), printing (cli).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from octopus.backtest.metrics import Metrics, measure
from octopus.backtest.simulator import BacktestResult, run_backtest, run_benchmarks
from octopus.backtest.tearsheet import standard_warnings, tearsheet_html, tearsheet_png
from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.trials import Kind, Trial
from octopus.core.types import FloatArray
from octopus.decision import MODEL, prepare
from resources.settings import Settings, StrategiesFile
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse
from resources.warehouse.trials import TrialLedger

ENSEMBLE = "ensemble"
SECTIONS = ("strategy", "portfolio", "costs", "backtest")
"""Sections of config/strategies.yaml that a study may change; a model is another one only after a review."""
_KINDS: tuple[Kind, ...] = ("backtest", "sweep")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What every study of one session reads, once.

    Attributes:
        predictions: of each session's own model, shape (T, N); None: no model ever spoke.
        delisting: as `octopus.backtest.simulator.simulate` takes it.
    """

    panel: Panel
    predictions: FloatArray | None
    delisting: FloatArray


@dataclass(frozen=True, eq=False)
class Study:
    """One strategy with its settings.

    Attributes:
        strategy: a signal alone, or the ensemble. changed: settings that differ from the files', by dotted name.
    """

    strategy: str
    changed: Mapping[str, Any]
    settings: StrategiesFile

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that makes it what it is."""
        from assets import inputs

        return inputs.trial_parameters(self.settings)


def study(current: Settings, strategy: str, changes: Mapping[str, Any]) -> Study:
    """``strategy`` with ``changes`` to the settings of the files.

    Args:
        strategy: ``ensemble`` or one of its signals, which then speaks alone.
        changes: by dotted name; without a section's name they are the strategy's own (``lookback_sessions``), or those
            of the section ``strategy`` for the ensemble.

    Raises:
        ConfigError: no such strategy or setting, or a value that it cannot have.
    """
    content = current.strategies.model_dump(mode="json")
    signals = list(content["strategy"])
    if strategy not in (ENSEMBLE, *signals):
        raise ConfigError(
            where="strategy", field="name", value=strategy, remedy=f"use one of {', '.join((ENSEMBLE, *signals))}"
        )
    if strategy != ENSEMBLE:
        for name in signals:
            content["strategy"][name]["weight"] = 1.0 if name == strategy else 0.0
    for name, value in changes.items():
        _set(content, strategy, name, value)
    try:
        return Study(strategy, dict(changes), StrategiesFile.model_validate(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            where="--set", field=".".join(map(str, first["loc"])), value=first.get("input"), remedy=first["msg"]
        ) from None


def _set(content: dict[str, Any], strategy: str, name: str, value: Any) -> None:
    parts = name.split(".")
    if parts[0] not in SECTIONS:
        parts = ["strategy", *([] if strategy == ENSEMBLE else [strategy]), *parts]
    place: Any = content
    for part in parts[:-1]:
        place = place.get(part) if isinstance(place, dict) else None
    if not isinstance(place, dict) or parts[-1] not in place:
        known = ", ".join(sorted(place)) if isinstance(place, dict) else ", ".join(SECTIONS)
        raise ConfigError(where="--set", field=name, value=value, remedy=f"there is no such setting; there are {known}")
    place[parts[-1]] = value


def parsed(text: str) -> Any:
    """A value as YAML reads it: 5, 0.5, true, open.

    Raises:
        ConfigError: it is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(where="--set", field="value", value=text, remedy="write it as in the YAML files") from None


def read_inputs(current: Settings, session: date, *, with_model: bool) -> Inputs:
    """What was known at the decision of ``session``; the models' past predictions only if asked for."""
    from assets import inputs
    from resources.research_factories import registry

    warehouse = Warehouse(current.database_url, Role.RESEARCH)
    panel = inputs.panel(current, warehouse, session)
    predictions = None
    if with_model:
        ready = inputs.prepared(panel, current.decision)
        predictions = inputs.past_predictions(current, warehouse, registry(current), ready)
    return Inputs(panel, predictions, inputs.delistings(warehouse, current, panel, session))


def speaks(of: Study) -> bool:
    """Whether the model's signal has a weight in it."""
    return bool(of.settings.strategy.weights()[MODEL])


def simulate(of: Study, read: Inputs) -> tuple[BacktestResult, BacktestResult]:
    """The study and its equal-weight benchmark."""
    decision = of.settings.decision
    config = of.settings.backtest
    ready = prepare(read.panel, decision)
    result = run_backtest(read.panel, config, decision, read.predictions, ready, delisting=read.delisting)
    return result, run_benchmarks(read.panel, config, decision, delisting=read.delisting)["equal_weight"]


def record(current: Settings, of: Study, kind: Kind, returns: FloatArray, first: date, last: date) -> list[Trial]:
    """Put a study on record; every trial on its days, whatever it was called."""
    ledger = TrialLedger(Warehouse(current.database_url, Role.RESEARCH))
    ledger.record([trial(current, of, kind, returns, first, last)])
    return ledger.overlapping(current.universe.market_data, first, last, _KINDS)


def trial(current: Settings, of: Study, kind: Kind, returns: FloatArray, first: date, last: date) -> Trial:
    """A study as a trial; a sweep's set and the same settings simulated alone are one."""
    return Trial(kind, of.strategy, of.parameters, current.universe.market_data, first, last, returns)


def measured(current: Settings, of: Study, read: Inputs) -> tuple[BacktestResult, BacktestResult, Metrics]:
    """Simulate, record and measure one study."""
    result, benchmark = simulate(of, read)
    first, last = result.sessions[0].item(), result.sessions[-1].item()
    trials = record(current, of, "backtest", result.net_return[1:], first, last)
    config = of.settings.backtest
    metrics = measure(
        result, benchmark, trials=trials, tried_before=config.trials, trial_sharpe_spread=config.trial_sharpe_spread
    )
    return result, benchmark, metrics


def write_page(
    current: Settings, of: Study, result: BacktestResult, benchmark: BacktestResult, metrics: Metrics
) -> tuple[Path, list[str]]:
    """The study's tear sheet as a file, and what must be known before it is believed."""
    title = f"Octopus · {of.strategy}"
    warnings = standard_warnings(result, metrics, survivors_only=current.recorded)
    html = tearsheet_html(
        tearsheet_png(result, benchmark, metrics, title), metrics, title, warnings=warnings,
        assumptions={**of.settings.costs.model_dump(), "fills": f"next session's {result.execution}",
                     "initial cash": of.settings.backtest.initial_cash, **of.changed},
    )  # fmt: skip
    mark = trial(current, of, "backtest", result.net_return, metrics.first, metrics.last).trial_id[:8]
    page = current.home / "tearsheets" / f"{of.strategy}-{mark}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")
    return page, warnings


# Many ----------------------------------------------------------------------------------------------------------------


def known_studies(current: Settings, studies: Sequence[Study], read: Inputs) -> dict[int, Trial]:
    """Those of ``studies`` that are on record already, by their place."""
    found = {}
    spans = [span(one, read.panel) for one in studies]
    if not spans:
        return {}
    ledger = TrialLedger(Warehouse(current.database_url, Role.RESEARCH))
    first, last = min(a for a, _ in spans), max(b for _, b in spans)
    by_id = {one.trial_id: one for one in ledger.overlapping(current.universe.market_data, first, last, _KINDS)}
    for place, (one, (start, end)) in enumerate(zip(studies, spans, strict=True)):
        mark = trial(current, one, "sweep", read.panel.close[:0, 0], start, end).trial_id
        if mark in by_id:
            found[place] = by_id[mark]
    return found


def span(of: Study, panel: Panel) -> tuple[date, date]:
    """First and last session that a study simulates."""
    from octopus.backtest.simulator import period

    first, stop = period(panel, of.settings.backtest)
    return panel.sessions[first].item(), panel.sessions[stop - 1].item()


def run_many(
    current: Settings, studies: Sequence[Study], read: Inputs, workers: int, skip: Collection[int] = ()
) -> Iterator[tuple[int, Trial]]:
    """Simulate every study in processes of their own and record each as it ends; its place and its trial.

    Ending the iteration ends what has not begun; what was yielded is on record.
    """
    ledger = TrialLedger(Warehouse(current.database_url, Role.RESEARCH))
    # A process that is forked from one with threads may hang; a fresh one reads the panel once.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_receive, initargs=(read,)) as pool:
        waiting = {pool.submit(_returns, one): place for place, one in enumerate(studies) if place not in skip}
        try:
            for future in as_completed(waiting):
                place = waiting[future]
                first, last, returns = future.result()
                made = trial(current, studies[place], "sweep", returns, first, last)
                ledger.record([made])
                yield place, made
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_read: list[Inputs] = []


def _receive(read: Inputs) -> None:
    _read[:] = [read]


def _returns(of: Study) -> tuple[date, date, FloatArray]:
    read = _read[0]
    decision = of.settings.decision
    result = run_backtest(
        read.panel, of.settings.backtest, decision, read.predictions, prepare(read.panel, decision),
        delisting=read.delisting,
    )  # fmt: skip
    return result.sessions[0].item(), result.sessions[-1].item(), result.net_return[1:]


def within(of: Study, first: date | None, last: date | None) -> Study:
    """The study over other days."""
    if first is None and last is None:
        return of
    dates = {name: day.isoformat() for name, day in (("start", first), ("end", last)) if day is not None}
    content = of.settings.model_dump(mode="json")
    content["backtest"] |= dates
    try:
        return replace(of, settings=StrategiesFile.model_validate(content))
    except ValidationError as error:
        told = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(where="octopus backtest", field="--from/--to", value=dates, remedy=told) from None
