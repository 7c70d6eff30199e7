"""What the decision's assets read: the panel as of a session, and what is prepared from it.

Belongs here: reading and preparing once for several assets of a run. Does not: anything that one asset alone needs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from octopus.core.currency import major_unit
from octopus.core.errors import MissingDataError
from octopus.core.ids import fingerprint
from octopus.core.panel import Panel
from octopus.core.sessions import Calendars
from octopus.core.types import FloatArray, IntArray
from octopus.decision import MODEL, DecisionConfig, Prepared, prepare
from octopus.market_data.clock import place_on_clock
from octopus.market_data.currencies import as_printed, in_base
from octopus.market_data.identifiers import one_history
from octopus.market_data.membership import delisting_values
from octopus.models.base import Estimator
from octopus.models.config import ModelConfig
from octopus.models.estimators import estimator_from_bytes
from octopus.models.meta import bets
from octopus.models.selection import Appointment, FoldRecord, Speaker, model_for
from octopus.models.training import TrainingSet, as_model_sees, build, side_of, training_session
from octopus.models.walkforward import predict
from octopus.portfolio.config import PortfolioConfig
from octopus.portfolio.units import TradingUnits
from octopus.strategy.catalogue import record as strategy_record
from octopus.warehouse.quality import find_all, training_exclusions
from resources.registry import ModelRegistry
from resources.settings import Settings, StrategiesFile
from resources.warehouse import instruments
from resources.warehouse.store import Warehouse

_KEPT = 2
_prepared: OrderedDict[str, Prepared] = OrderedDict()


def panel(settings: Settings, warehouse: Warehouse, session: date) -> Panel:
    """What was known at the decision of ``session``, from the configured source, in the account's currency."""
    as_of = settings.sessions.decision_utc(session)
    return panel_as_of(settings, warehouse, as_of, warehouse.sentiment_model(settings.sentiment_family))


def panel_as_of(settings: Settings, warehouse: Warehouse, as_of: datetime, sentiment_model: str | None = None) -> Panel:
    """What was known at an instant; total returns are in the account's currency (`octopus.market_data.currencies`)."""
    universe, intraday = settings.universe, settings.intraday
    known = warehouse.panel(
        universe.market_data, as_of, settings.sessions, sentiment_model,
        within_the_day=None if intraday.source is None else (intraday.source, intraday.interval),
    )  # fmt: skip
    currencies = warehouse.currencies(universe.market_data, as_of, warehouse.moved(universe.market_data, as_of))
    return in_base(known, universe.currency, universe.rates, currencies)


def foreign(settings: Settings, warehouse: Warehouse, session: date) -> frozenset[str]:
    """Instruments whose money is converted, by their descriptions as known by the decision of ``session``."""
    universe, as_of = settings.universe, settings.sessions.decision_utc(session)
    if not universe.rates:
        return frozenset()
    units = warehouse.currencies(universe.market_data, as_of, warehouse.moved(universe.market_data, as_of))
    return frozenset(name for name, unit in units.items() if major_unit(unit)[0] != universe.currency)


def units(settings: Settings, warehouse: Warehouse, session: date) -> TradingUnits:
    """Lots and ticks of the instruments' own, as known by the decision of ``session``."""
    source, as_of = settings.universe.market_data, settings.sessions.decision_utc(session)
    return instruments.trading_units(warehouse, source, as_of)


def in_units(portfolio: PortfolioConfig, own: TradingUnits) -> PortfolioConfig:
    """The settings of sizes with ``own`` lots and ticks."""
    return portfolio.model_copy(update={"units": own}) if own else portfolio


def decision_in(config: DecisionConfig, own: TradingUnits) -> DecisionConfig:
    """What decides and sizes, with ``own`` lots and ticks."""
    return config.model_copy(update={"portfolio": in_units(config.portfolio, own)}) if own else config


def units_record(own: TradingUnits) -> list[object]:
    """What a fingerprint takes in of lots and ticks: nothing where there are none, as it was before they were known."""
    return [own.record()] if own else []


def calendars(settings: Settings, warehouse: Warehouse) -> Calendars:
    """The universe's clock and the calendar of each instrument that is traded on."""
    return warehouse.calendars(settings.universe.market_data, settings.sessions)


def delistings(warehouse: Warehouse, settings: Settings, of: Panel, session: date) -> FloatArray:
    """What was paid for a share at its last session, as known by the decision; NaN where nothing was delisted."""
    source, as_of = settings.universe.market_data, settings.sessions.decision_utc(session)
    own = calendars(settings, warehouse)
    rows = warehouse.read(
        """
        select distinct on (instrument, ts) instrument, session, value from raw.corporate_actions
        where source = $1 and kind = 'delisting' and known_at <= $2 order by instrument, ts, batch_id desc
        """,
        [source, as_of],
    )
    places = [place_on_clock(day, own.of(name), own.clock) for name, day in rows["instrument", "session"].iter_rows()]
    placed = rows.with_columns(session=pl.Series(places, dtype=pl.Date))
    return delisting_values(one_history(placed, warehouse.moved(source, as_of)), of.sessions, of.symbols)


def trial_parameters(file: StrategiesFile) -> dict[str, Any]:
    """Everything that makes a strategy what it is: what tells its trials from others'."""
    execution = file.execution
    backtest = file.backtest.model_dump(mode="json", exclude={"trials", "trial_sharpe_spread"})
    # It stands where the trials of before have it, or each of them would count as another.
    backtest["limit_bps"] = execution.limit_bps
    models = model_parameters(file.models) if file.strategy.weights()[MODEL] else None
    is_worked = execution.is_scheduled or execution.bracket is not None
    worked = execution.model_dump(mode="json", exclude={"limit_bps"}) if is_worked else None
    record = {"decision": decision_record(file.decision), "backtest": backtest, "models": models}
    return record if worked is None else record | {"execution": worked}


def decision_record(config: DecisionConfig) -> dict[str, Any]:
    """Everything that a decision depends on besides data, as plain values; features speak through predictions alone."""
    return config.model_dump(mode="json", exclude={"strategy", "features"}) | {
        "strategy": strategy_record(config.strategy)
    }


def model_parameters(config: ModelConfig) -> dict[str, Any]:
    """Everything that shapes a model: neither its name nor how it is judged."""
    return config.shape()


def panel_fingerprint(of: Panel) -> str:
    """Of every value in the panel."""
    return fingerprint(*(getattr(of, item.name) for item in fields(of)))


def prepared(of: Panel, config: DecisionConfig) -> Prepared:
    """Features and signals of a panel; the last few are kept, told apart by content: several assets need
    them, and the next day goes on from them."""
    key = fingerprint(panel_fingerprint(of), config.model_dump(mode="json"))
    if key not in _prepared:
        before = [one for one in _prepared.values() if len(one.panel.sessions) <= len(of.sessions)]
        _prepared[key] = prepare(of, config, max(before, key=lambda one: len(one.panel.sessions), default=None))
        while len(_prepared) > _KEPT:
            _prepared.popitem(last=False)
    _prepared.move_to_end(key)
    return _prepared[key]


def sessions_until(of: Panel, day: date) -> int:
    """How many sessions of a panel there are up to ``day``, itself included."""
    return int(np.searchsorted(of.sessions, np.datetime64(day, "D"), side="right"))


def training_set(settings: Settings, warehouse: Warehouse, session: date) -> TrainingSet:
    """What models are trained on for ``session``: the panel up to the end of the last training period.

    The same for every session of a period, so that its models are trained once.
    """
    config = settings.strategies.models
    known = panel(settings, warehouse, session)
    last = training_session(session, config.retrain)
    cut = known.rows(0, sessions_until(known, last))
    ready = prepared(cut, settings.decision)
    cube = ready.features
    excluded = training_exclusions(cut, find_all(as_printed(cut)))
    return build(cut, cube.names, cube.values, config, excluded, ready.signals)


def appointments(warehouse: Warehouse, name: str) -> list[Appointment]:
    """Every move of the champion's alias, oldest first."""
    rows = warehouse.rows(
        """
        select h.name, h.version, h.effective_from, coalesce(r.passed, false) as passed, r.as_of as trained_to
        from models.champion_history h
        left join lateral (
            select passed, as_of from models.reviews
            where version = h.version and coalesce(registered_name, h.name) = h.name order by as_of desc limit 1
        ) r on true
        where h.name = %s and h.alias = 'champion' order by h.effective_from
        """,
        [name],
    )
    return [Appointment(**row) for row in rows]


def fold_records(warehouse: Warehouse) -> list[FoldRecord]:
    """Folds of the best reviewed model that passed, of the latest review that has one."""
    rows = warehouse.rows(
        """
        with best as (
            select model, fingerprint from models.reviews
            where passed order by as_of desc, (scores ->> 'rank_ic')::float8 desc limit 1
        )
        select f.model, f.fold, f.train_to, f.test_from, f.test_to, f.artifact
        from models.walk_forward_folds f join best using (model, fingerprint) order by f.fold
        """
    )
    return [FoldRecord(**row) for row in rows]


def speaker(settings: Settings, warehouse: Warehouse, session: date) -> Speaker | None:
    """Which model speaks for ``session``."""
    moves = appointments(warehouse, settings.strategies.models.registered_name)
    return model_for(session, settings.sessions.decision_utc(session), moves, fold_records(warehouse))


def estimator(registry: ModelRegistry, chosen: Speaker) -> Estimator:
    """The fitted estimator of a speaker, from MLflow."""
    if chosen.fold is None:
        if chosen.version is None:
            raise MissingDataError(
                f"model {chosen.name} has neither a version nor a fold; appoint a champion in MLflow"
            )
        return estimator_from_bytes(registry.estimator(chosen.name, chosen.version))
    folder, name = chosen.fold.artifact.rsplit("/folds/", 1)
    return estimator_from_bytes(registry.artifact(folder, f"folds/{name}"))


def predictions(warehouse: Warehouse, of: Panel, session: date) -> tuple[FloatArray | None, str | None]:
    """Stored predictions of ``session``, shape (N,), and whose they are; (None, None): it abstains."""
    rows = warehouse.rows("select instrument, model, value from models.predictions where session = %s", [session])
    if not rows:
        return None, None
    by_name = {row["instrument"]: row["value"] for row in rows}
    return np.array([by_name.get(name, np.nan) for name in of.symbols]), rows[0]["model"]


def past_predictions(
    settings: Settings, warehouse: Warehouse, registry: ModelRegistry, of: Prepared
) -> FloatArray | None:
    """For every session the prediction of the model that spoke then, shape (T, N); None when none ever did."""
    panel = of.panel
    moves = appointments(warehouse, settings.strategies.models.registered_name)
    folds = fold_records(warehouse)
    decided = settings.sessions.decisions_utc(panel.sessions).to_pydatetime()
    speakers = [
        model_for(day, instant, moves, folds)
        for day, instant in zip(panel.sessions.astype(object), decided, strict=True)
    ]
    known: dict[str, Speaker] = {speaker.label: speaker for speaker in speakers if speaker is not None}
    if not known:
        return None
    predictions = np.full(panel.close.shape, np.nan)
    labels = np.array([speaker.label if speaker else "" for speaker in speakers])
    for label, chosen in known.items():
        rows = np.flatnonzero(labels == label)
        predictions[rows] = opinions(estimator(registry, chosen), of, rows)
    return predictions


def opinions(model: Estimator, of: Prepared, rows: IntArray) -> FloatArray:
    """What a model says of each member on some rows, shape (rows, N): its predictions, or, where it was taught whether
    a signal pays, its bets on that signal.

    Raises:
        MissingDataError: the signal is not among those that are prepared.
    """
    panel = of.panel
    features = as_model_sees(of.features.values[rows], panel.member[rows])
    said = predict(model, features, panel.sessions[rows], panel.symbols)
    side = side_of(model.primary, of.signals)
    return np.where(panel.member[rows], said if side is None else bets(said, side[rows]), np.nan)
