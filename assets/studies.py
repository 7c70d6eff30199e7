"""Studies: one strategy with settings of its own, simulated beside the published one, and many of them.

Belongs here: which settings a study has, running it on what is in the warehouse, and putting it on record as a trial.
Does not: simulating (octopus/backtest), the published backtest (assets/backtest.py), printing (cli).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from assets import inputs
from octopus.backtest.analysis import Replay, analyse
from octopus.backtest.analysis_page import analysis_html, analysis_png
from octopus.backtest.judges import Gating
from octopus.backtest.metrics import Metrics, measure
from octopus.backtest.published import run_configured
from octopus.backtest.simulator import BacktestResult, period, portfolio_of, run_benchmarks
from octopus.backtest.sizing import Sizing
from octopus.backtest.tearsheet import fills_told, standard_warnings, tearsheet_html, tearsheet_png
from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.trials import STRATEGIES, Deflation, Kind, Trial, deflate
from octopus.core.types import FloatArray
from octopus.decision import MODEL, prepare
from octopus.portfolio.units import NO_UNITS, TradingUnits
from octopus.strategy.catalogue import known_strategies, settings_of, speaking_extensions
from octopus.strategy.config import StrategyConfig
from octopus.strategy.probe import refuse_look_ahead
from resources.plain_yaml import remedy_of, shown
from resources.reference_files import read_reference
from resources.settings import Settings, StrategiesFile
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse
from resources.warehouse.trials import TrialLedger

ENSEMBLE = "ensemble"
SECTIONS = ("strategy", "portfolio", "costs", "execution", "backtest")
"""Sections of config/strategies.yaml that a study may change; a model is another one only after a review."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What every study of one session reads, once.

    Attributes:
        predictions: of each session's own model, shape (T, N); None: no model ever spoke.
        delisting: as `octopus.backtest.simulator.simulate` takes it.
        gating: the gates, for studies that enforce them.
        units: lots and ticks of the instruments' own.
    """

    panel: Panel
    predictions: FloatArray | None
    delisting: FloatArray
    gating: Gating
    units: TradingUnits = NO_UNITS


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
        return inputs.trial_parameters(self.settings)


def study(
    current: Settings, strategy: str, changes: Mapping[str, Any], first: date | None = None, last: date | None = None
) -> Study:
    """``strategy`` with ``changes`` to the settings of the files.

    Args:
        strategy: ``ensemble`` or a signal, also one that an installed package offers, which then speaks alone.
        changes: by dotted name; without a section's name they are the strategy's own (``lookback_sessions``), or those
            of the section ``strategy`` for the ensemble.
        first, last: sessions that are decided, instead of the files'.

    Raises:
        ConfigError: no such strategy or setting, or a value that it cannot have.
    """
    content = current.strategies.model_dump(mode="json")
    content["strategy"] = sections = current.strategies.strategy.sections()
    for name in speaking_extensions(current.strategies.strategy):
        sections["extensions"][name] |= settings_of(name, current.strategies.strategy).model_dump(mode="json")
    named = (ENSEMBLE, *signals_of(current.strategies.strategy))
    if strategy not in named:
        raise ConfigError(where="strategy", field="name", value=strategy, remedy=f"use one of {', '.join(named)}")
    if strategy != ENSEMBLE:
        _alone(sections, strategy, current.strategies.strategy)
    for name, value in changes.items():
        _set(content, strategy, name, value)
    content["backtest"] |= {name: day for name, day in (("start", first), ("end", last)) if day is not None}
    try:
        return Study(strategy, dict(changes), StrategiesFile.model_validate(content))
    except ValidationError as error:
        told = error.errors(include_url=False)[0]
        raise ConfigError(
            where="settings",
            field=".".join(map(str, told["loc"])),
            value=shown(told.get("input")),
            remedy=remedy_of(told),
        ) from None


def signals_of(config: StrategyConfig) -> tuple[str, ...]:
    """Every signal that can be studied alone, those of installed packages among them."""
    return (*known_strategies(config), MODEL)


def _alone(sections: dict[str, Any], strategy: str, config: StrategyConfig) -> None:
    """Every weight but that of ``strategy`` made 0; its settings are all there to be changed."""
    own = [one for one in sections.values() if "weight" in one]
    for section in [*own, *sections["extensions"].values()]:
        section["weight"] = 0.0
    if strategy not in sections:
        sections["extensions"][strategy] = settings_of(strategy, config).model_dump(mode="json")
    _section_of(sections, strategy)["weight"] = 1.0


def _section_of(sections: dict[str, Any], strategy: str) -> dict[str, Any]:
    section: dict[str, Any] = sections[strategy] if strategy in sections else sections["extensions"][strategy]
    return section


def _set(content: dict[str, Any], strategy: str, name: str, value: Any) -> None:
    parts = name.split(".")
    place: Any = content
    if parts[0] not in SECTIONS:
        place = content["strategy"] if strategy == ENSEMBLE else _section_of(content["strategy"], strategy)
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
    from resources.research_factories import registry

    warehouse = Warehouse(current.database_url, Role.RESEARCH)
    panel = inputs.panel(current, warehouse, session)
    predictions = None
    if with_model:
        ready = inputs.prepared(panel, current.decision)
        predictions = inputs.past_predictions(current, warehouse, registry(current), ready)
    reference = read_reference(current.compliance, current.root, current.universe.symbols)
    gating = Gating(current.risk, current.compliance, current.universe.sectors, reference)
    delisting, units = inputs.delistings(warehouse, current, panel, session), inputs.units(current, warehouse, session)
    return Inputs(panel, predictions, delisting, gating, units)


def speaks(of: Study) -> bool:
    """Whether the model's signal has a weight in it."""
    return bool(of.settings.strategy.weights()[MODEL])


def simulate(of: Study, read: Inputs) -> BacktestResult:
    """The study on what was read.

    Raises:
        LookAheadError: a strategy of another package knows the future.
    """
    decision = inputs.decision_in(of.settings.decision, read.units)
    refuse_look_ahead(read.panel, decision.strategy)
    return run_configured(
        read.panel, of.settings.simulation, decision, read.gating, predictions=read.predictions,
        prepared=prepare(read.panel, decision), delisting=read.delisting,
    )  # fmt: skip


def trial(current: Settings, of: Study, kind: Kind, returns: FloatArray, first: date, last: date) -> Trial:
    """A study as a trial; a sweep's set and the same settings simulated alone are one."""
    return Trial(kind, of.strategy, of.parameters, current.universe.market_data, first, last, returns)


def measured(current: Settings, of: Study, read: Inputs) -> tuple[BacktestResult, BacktestResult, Metrics]:
    """Simulate, record and measure one study; it, its equal-weight benchmark, and the figures of both."""
    result, config = simulate(of, read), of.settings.simulation
    benchmark = run_benchmarks(read.panel, config, of.settings.decision, delisting=read.delisting)["equal_weight"]
    first, last = result.sessions[0].item(), result.sessions[-1].item()
    made = trial(current, of, "backtest", result.net_return[1:], first, last)
    metrics = measure(
        result, benchmark, trials=_ledger(current).among(made, STRATEGIES), tried_before=config.trials,
        trial_sharpe_spread=config.trial_sharpe_spread,
    )  # fmt: skip
    return result, benchmark, metrics


def deflation(current: Settings, chosen: Trial) -> Deflation:
    """What a trial's Sharpe ratio is worth among every trial on its days."""
    config = current.strategies.backtest
    trials = _ledger(current).among(chosen, STRATEGIES)
    return deflate(chosen.returns, trials, config.trials, config.trial_sharpe_spread, current.sessions.per_year)


def _ledger(current: Settings) -> TrialLedger:
    return TrialLedger(Warehouse(current.database_url, Role.RESEARCH))


def write_page(
    current: Settings, of: Study, read: Inputs, result: BacktestResult, benchmark: BacktestResult, metrics: Metrics
) -> tuple[Path, list[str]]:
    """The study's tear sheet as a file, and what must be known before it is believed."""
    title = f"Octopus · {of.strategy}"
    warnings = standard_warnings(result, metrics, survivors_only=current.recorded)
    config, decision = of.settings.simulation, inputs.decision_in(of.settings.decision, read.units)
    sizing = Sizing.of(portfolio_of(config, decision))
    replay = Replay(read.panel, result, config, sizing, config.costs or decision.costs, read.delisting)
    analysis = analyse(replay, benchmark, current.universe.sectors)
    html = tearsheet_html(
        tearsheet_png(result, benchmark, metrics, title), metrics, title, warnings=warnings,
        sections=analysis_html(analysis, analysis_png(analysis, title)),
        assumptions={**of.settings.costs.model_dump(), "fills": fills_told(result),
                     "initial cash": of.settings.simulation.initial_cash, **of.changed},
    )  # fmt: skip
    mark = trial(current, of, "backtest", result.net_return, metrics.first, metrics.last).trial_id[:8]
    page = current.home / "tearsheets" / f"{of.strategy}-{mark}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")
    return page, warnings


# Many ----------------------------------------------------------------------------------------------------------------


def known_studies(current: Settings, studies: Sequence[Study], read: Inputs) -> dict[int, Trial]:
    """Those of ``studies`` that are on record already, up to the last session of now, by their place."""
    wanted = [trial(current, one, "sweep", _NOTHING, *_span(one, read.panel)) for one in studies]
    first, last = min(one.first_session for one in wanted), max(one.last_session for one in wanted)
    recorded = _ledger(current).overlapping(current.universe.market_data, first, last, STRATEGIES)
    by_id = {(one.trial_id, one.last_session): one for one in recorded}
    marks = [(one.trial_id, one.last_session) for one in wanted]
    return {place: by_id[mark] for place, mark in enumerate(marks) if mark in by_id}


_NOTHING: FloatArray = np.zeros(0)


def _span(of: Study, panel: Panel) -> tuple[date, date]:
    """First and last session that a study simulates."""
    first, stop = period(panel, of.settings.simulation)
    return panel.sessions[first].item(), panel.sessions[stop - 1].item()


def run_many(
    current: Settings, studies: Sequence[Study], read: Inputs, workers: int, skip: Collection[int] = ()
) -> Iterator[tuple[int, Trial]]:
    """Simulate every study, in processes of their own where there are several, and record each as it ends; its place
    and its trial.

    Ending the iteration ends what has not begun; what was yielded is on record.
    """
    ledger = _ledger(current)
    waiting = {place: one for place, one in enumerate(studies) if place not in skip}
    # A process takes longer to begin than many a study.
    apart = min(workers, len(waiting)) > 1
    for place, (first, last, returns) in _in_processes(waiting, read, workers) if apart else _here(waiting, read):
        made = trial(current, studies[place], "sweep", returns, first, last)
        ledger.record([made])
        yield place, made


_Simulated = tuple[date, date, FloatArray]
"""First and last session, and the returns between."""


def _here(studies: Mapping[int, Study], read: Inputs) -> Iterator[tuple[int, _Simulated]]:
    for place, one in studies.items():
        yield place, _returns(one, read)


def _in_processes(studies: Mapping[int, Study], read: Inputs, workers: int) -> Iterator[tuple[int, _Simulated]]:
    # A process that is forked from one with threads may hang; a fresh one reads the panel once.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_receive, initargs=(read,)) as pool:
        waiting = {pool.submit(_returns_there, one): place for place, one in studies.items()}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_read: list[Inputs] = []


def _receive(read: Inputs) -> None:
    _read[:] = [read]


def _returns_there(of: Study) -> _Simulated:
    return _returns(of, _read[0])


def _returns(of: Study, read: Inputs) -> _Simulated:
    result = simulate(of, read)
    return result.sessions[0].item(), result.sessions[-1].item(), result.net_return[1:]
