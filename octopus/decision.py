"""The one decision function: from a point-in-time panel to target weights.

Belongs here: composing features, signals, the ensemble and the optimiser. Does not: their maths, reading and writing.

The backtest, the replay and today's run call the same two steps: `prepare`, vectorised over all sessions, and
`decide` for one row. Row t of what `prepare` gives depends on rows up to t alone, so today's decision is the
backtest's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel, average_volume
from octopus.core.types import BoolArray, FloatArray
from octopus.portfolio.config import PortfolioConfig
from octopus.portfolio.covariance import Covariance, estimate_covariance, scenarios_of
from octopus.portfolio.optimiser import optimise
from octopus.portfolio.problem import (
    Certificate,
    InfeasibleError,
    Problem,
    Solution,
    SolverError,
    gone_to_cash,
    only_reduced,
    reduced_to_limits,
)
from octopus.risk.market import ReturnHistory
from octopus.risk.return_window import LOOK_BACK, Window
from octopus.strategy import signals as signal_functions
from octopus.strategy.catalogue import rule_signals
from octopus.strategy.config import StrategyConfig
from octopus.strategy.ensemble import blend, out_of_sample_weights
from octopus.strategy.feature_sets import STANDARD, chosen_features, compute_chosen, continued, goes_on_from
from octopus.strategy.features import FeatureCube

MODEL = "model"
IMPACT_POWER = {"square_root": 1.5, "quadratic": 2.0}
WEIGHT_DECIMALS = 9
"""Weights held are known to a billionth of equity: ledgers of floats and of decimals then decide alike, bit for bit."""


class DecisionConfig(BaseModel):
    """Everything that the decision depends on besides data.

    Attributes:
        features: sets and single features that models are given (`octopus.strategy.feature_sets`).
        var_window_sessions: returns that the risk gate asks of what is bought, as in risk.yaml; None: no gate follows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: StrategyConfig = StrategyConfig()
    portfolio: PortfolioConfig = PortfolioConfig()
    costs: CostModel = CostModel()
    features: tuple[str, ...] = STANDARD
    var_window_sessions: int | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """What can be computed for all sessions at once.

    Attributes:
        signals: rule-based signals by name, each of shape (T, N).
        weights: of those signals on each session, by name, shape (T,), where the settings do not fix them.
    """

    panel: Panel
    features: FeatureCube
    signals: Mapping[str, FloatArray]
    weights: Mapping[str, FloatArray] = field(default_factory=dict)

    def weights_at(self, row: int, config: StrategyConfig) -> dict[str, float]:
        """Weight by name of the signals, the model's among them, at the decision of one row."""
        return config.weights() | {name: float(values[row]) for name, values in self.weights.items()}

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.panel.symbols


@dataclass(frozen=True, eq=False)
class Decision:
    """Target weights of one session and how they came about.

    Attributes:
        target_weights, alpha: shape (N,); alpha is the ensemble's score, in cross-sectional standard deviations.
        signals: each signal's scores, shape (N,), NaN where it abstains.
        solution: of the optimiser; None when a fallback was taken. fallback: which and why, or None.
        problem: what the optimiser was asked. seen: what of data it was asked about.
    """

    session: date
    target_weights: FloatArray
    alpha: FloatArray
    signals: Mapping[str, FloatArray]
    solution: Solution | None
    fallback: str | None
    problem: Problem
    seen: View

    @property
    def certificate(self) -> Certificate | None:
        """Of the optimiser; None when a fallback was taken."""
        return None if self.solution is None else self.solution.certificate

    def certificate_record(self) -> dict[str, object]:
        """The certificate as plain values."""
        if self.certificate is None:
            return {"status": "fallback", "reason": self.fallback}
        return asdict(self.certificate)

    def unbuyable(self, config: DecisionConfig) -> dict[str, str]:
        """The members of the universe that may be reduced at most, and why, by name; ``config`` is the decision's."""
        problem, seen = self.problem, self.seen
        reduced = only_reduced(problem)
        barred = ~problem.tradable if reduced is None else ~problem.tradable | reduced
        held = seen.barring(problem.previous)
        found = {}
        for column in np.flatnonzero(barred & seen.panel.member[seen.row]).tolist():
            own = seen.problem(column, config.portfolio)
            why = (
                f"nothing may be bought while {held[0]} is held: {held[1]}" if own is None and held is not None else own
            )
            found[seen.panel.symbols[column]] = why or "its volume is not known: ingest it"
        return found


def known_weights(weights: FloatArray) -> FloatArray:
    """Weights held as the decision knows them, to `WEIGHT_DECIMALS`."""
    return np.asarray(np.round(weights, WEIGHT_DECIMALS))


def known_equity(equity: float) -> float:
    """The account's equity as the decision knows it: to the cent."""
    # What is exact to a millionth is never half-way between two cents then, where floats and decimals would part.
    return round(equity + 3e-7, 2)


def asks_for_equity(panel: Panel, portfolio: PortfolioConfig) -> bool:
    """Whether decisions on ``panel`` depend on the account's equity: volumes limit its trades or make them dearer."""
    return portfolio.needs_volumes and panel.price_basis == "raw"


def prepare(panel: Panel, config: DecisionConfig, before: Prepared | None = None) -> Prepared:
    """Features, rule-based signals and, where they follow from what was earned, their weights, for every session.

    Args:
        before: what was prepared of an earlier day: where ``panel`` goes on from its panel, features are computed for
            the new sessions alone, with the same bits.
    """
    names = chosen_features(config.features)
    if before is not None and before.features.names == names and goes_on_from(panel, before.panel):
        features = continued(before.features, panel)
    else:
        features = compute_chosen(panel, names)
    chosen = config.strategy
    signals = rule_signals(panel, chosen)
    weights: dict[str, FloatArray] = {}
    if chosen.ensemble.weights == "out_of_sample":
        weights = out_of_sample_weights(signals, panel, chosen.weights(), chosen.ensemble)
    return Prepared(panel, features, signals, weights)


def decide(
    prepared: Prepared,
    row: int,
    predictions: FloatArray | None,
    previous_weights: FloatArray,
    config: DecisionConfig,
    equity: float | None = None,
) -> Decision:
    """Target weights after the close of the session in ``row``.

    Args:
        row: of the panel; negative ones count from its end.
        predictions: of the model that was champion then, shape (N,), NaN where it has none; None: the signal abstains.
        previous_weights: what the account holds, fractions of equity, shape (N,).
        equity: of the account, in its currency; needed where volumes limit trades or make them dearer.

    Raises:
        MissingDataError: ``row`` is not in the panel, a shape is not (N,), or equity is missing where it is needed.
        SolverError: a weight held, or a target, is no finite number.
    """
    return decide_on(view(prepared, row, predictions, config), previous_weights, config, equity)


@dataclass(frozen=True, eq=False)
class View:
    """What a decision takes from data: nothing of it depends on the account.

    Attributes:
        row: of the panel, not negative. signals, scores, spoken: each signal's and the ensemble's, and of which
            instruments any signal says something, shape (N,).
        covariance: of daily returns.
        window: the returns that the risk gate will tell losses from, or why there is none; None where no gate follows.
        whole: of which instruments it is complete, shape (N,).
    """

    panel: Panel
    row: int
    signals: Mapping[str, FloatArray]
    scores: FloatArray
    spoken: BoolArray
    covariance: Covariance
    window: Window | MissingDataError | None
    whole: BoolArray

    def barring(self, previous: FloatArray) -> tuple[str, str] | None:
        """The first instrument held that keeps the risk gate from passing any purchase, and why."""
        for column in np.flatnonzero((previous != 0.0) & ~self.whole).tolist():
            return self.panel.symbols[column], self._hole(column)
        return None

    def problem(self, column: int, portfolio: PortfolioConfig) -> str | None:
        """Why that instrument itself is not bought, as far as data says."""
        if not np.isfinite(self.panel.worth_at(self.row)[column]):
            return f"it has no bar on {self.panel.sessions[self.row]}: ingest it"
        if not self.spoken[column]:
            return "no signal says anything of it"
        if not self.whole[column]:
            return self._hole(column)
        if not self.covariance.known[column]:
            returns = _window(self.panel, self.row, portfolio)[:, column]
            return (
                f"{int(np.isfinite(returns).sum())} of the last {portfolio.covariance_sessions} sessions have a "
                f"return, covariance_sessions_min = {portfolio.covariance_sessions_min}: ingest a longer history, or "
                "wait until it is long enough"
            )
        return None

    def _hole(self, column: int) -> str:
        told = self.window.problem(self.panel.symbols[column]) if isinstance(self.window, Window) else self.window
        return str(told)


def view(prepared: Prepared, row: int, predictions: FloatArray | None, config: DecisionConfig) -> View:
    """The first half of `decide`, for as many accounts as want it; arguments and errors as there."""
    panel, portfolio = prepared.panel, config.portfolio
    row = _checked_row(panel, row, predictions)
    member = panel.member[row]
    signals = {name: values[row] for name, values in prepared.signals.items()}
    if predictions is not None:
        signals[MODEL] = signal_functions.model(predictions[None, :], member[None, :])[0]
    weights = prepared.weights_at(row, config.strategy)
    scores = blend(signals, weights)
    spoken = _spoken([values for name, values in signals.items() if weights.get(name, 0.0) > 0], len(scores))
    covariance = estimate_covariance(
        _window(panel, row, portfolio),
        least=portfolio.covariance_sessions_min,
        estimator=portfolio.covariance_estimator,
        half_life=portfolio.covariance_half_life,
        factors=portfolio.covariance_factors,
    )
    window, whole = _told_from(panel, row, config.var_window_sessions)
    return View(panel, row, signals, scores, spoken, covariance, window, whole)


def _told_from(panel: Panel, row: int, sessions: int | None) -> tuple[Window | MissingDataError | None, BoolArray]:
    """The risk gate's window at that row, and of whom it is complete: without ``sessions`` nothing is asked."""
    if sessions is None:
        return None, np.ones(len(panel.symbols), dtype=bool)
    rows = slice(max(row + 1 - sessions - LOOK_BACK, 0), row + 1)
    history = ReturnHistory(panel.sessions[rows], panel.symbols, panel.total_return[rows], panel.clock.per_year)
    try:
        window = Window.of(history, sessions)
    except MissingDataError as missing:
        return missing, np.zeros(len(panel.symbols), dtype=bool)
    return window, window.whole


def _window(panel: Panel, row: int, portfolio: PortfolioConfig) -> FloatArray:
    """Total returns that risk is told from, shape (sessions, N)."""
    return panel.total_return[max(row + 1 - portfolio.covariance_sessions, 0) : row + 1]


def decide_on(
    seen: View, previous_weights: FloatArray, config: DecisionConfig, equity: float | None = None
) -> Decision:
    """The second half of `decide`: the account's; arguments and errors as there, ``config`` that of the `view`."""
    _require_finite("previous_weights", previous_weights, seen, "check the shares, prices and equity that give them")
    posed = _pose(seen, previous_weights, config, equity)
    session: date = seen.panel.sessions[seen.row].item()
    solution, fallback = None, None
    try:
        solution = optimise(posed, config.portfolio.method)
        weights = solution.weights
    except (InfeasibleError, SolverError) as error:
        chosen = config.portfolio.fallback
        weights, fallback = _fall_back(posed, chosen), f"{chosen}: {error}"
    # A simulated account would take one that is none for "leave the position", and a plan cannot be made of it.
    _require_finite("target_weights", weights, seen, f"choose another portfolio.method than {config.portfolio.method}")
    return Decision(session, weights, seen.scores, seen.signals, solution, fallback, posed, seen)


def _require_finite(name: str, weights: FloatArray, seen: View, remedy: str) -> None:
    """Raises `SolverError` for weights that are no finite numbers, naming their instruments."""
    _require_one_each(name, weights, seen.panel)
    bad = [symbol for symbol, known in zip(seen.panel.symbols, np.isfinite(weights), strict=True) if not known]
    if bad:
        raise SolverError(
            f"{name} of {', '.join(bad)} on {seen.panel.sessions[seen.row]} are not finite numbers: {remedy}"
        )


def _pose(seen: View, previous_weights: FloatArray, config: DecisionConfig, equity: float | None) -> Problem:
    """What the optimiser is asked."""
    problem = _problem(seen, known_weights(previous_weights), config)
    return replace(problem, **_extras(seen, problem, config, equity))


def _checked_row(panel: Panel, row: int, predictions: FloatArray | None) -> int:
    sessions = len(panel.sessions)
    if not -sessions <= row < sessions:
        raise MissingDataError(f"row {row} is not in the panel of {sessions} sessions; ingest that day first")
    if predictions is not None:
        _require_one_each("predictions", predictions, panel)
    return int(row % sessions)


def _require_one_each(name: str, values: FloatArray, panel: Panel) -> None:
    count = len(panel.symbols)
    if values.shape != (count,):
        raise MissingDataError(f"{name} has shape {values.shape}, expected ({count},): one for each instrument")


def _spoken(signals: list[FloatArray], count: int) -> BoolArray:
    """Instruments of which at least one signal says something, shape (N,)."""
    if not signals:
        return np.zeros(count, dtype=bool)
    return np.asarray(~np.isnan(signals).all(axis=0))


def _problem(seen: View, previous: FloatArray, config: DecisionConfig) -> Problem:
    """What the optimiser may do with each instrument.

    Without a bar today it cannot be traded and stays. A non-member is sold. Where no signal speaks, or the history is
    too short to know the risk, it may be reduced but not bought; nor may anything while such an instrument is held,
    for the gate passes no purchase then.
    """
    portfolio, panel, row = config.portfolio, seen.panel, seen.row
    return Problem(
        alpha=np.where(seen.spoken, portfolio.base_return + portfolio.alpha_per_score * seen.scores, 0.0),
        covariance=seen.covariance.daily * portfolio.horizon_sessions,
        previous=previous,
        tradable=np.isfinite(panel.worth_at(row)),
        risk_aversion=portfolio.risk_aversion,
        cost=config.costs.linear_rate,
        conversion=np.where(panel.foreign, config.costs.conversion_move, 0.0) if panel.foreign.any() else None,
        constraints=portfolio.constraints,
        reduce_only=~(seen.spoken & seen.covariance.known & seen.whole),
        no_purchases=seen.barring(previous) is not None,
        must_exit=~panel.member[row],
        names=panel.symbols,
    )


def _extras(seen: View, problem: Problem, config: DecisionConfig, equity: float | None) -> dict[str, Any]:
    """What only some methods and limits read."""
    panel, row, opinions = seen.panel, seen.row, seen.signals.get(MODEL)
    portfolio, symbols = config.portfolio, panel.symbols
    horizon = portfolio.horizon_sessions
    if portfolio.constraints.sector_weight_max is not None and not portfolio.sectors:
        raise MissingDataError("constraints.sector_weight_max limits sectors, and none is known: set universe.sectors")
    if portfolio.impact > 0 and not asks_for_equity(panel, portfolio):
        raise MissingDataError(
            f"portfolio.impact = {portfolio.impact} makes trades dearer by their part of the volume, and prices on a "
            "total-return basis have pseudo-volumes: set it to 0, or take a source of raw prices"
        )
    given: dict[str, Any] = {
        "net_target": portfolio.net_target,
        "cvar_level": portfolio.cvar_level,
        "linkage": portfolio.linkage,
        "view_confidence": portfolio.view_confidence,
        "tau": portfolio.view_tau,
        "sectors": tuple(portfolio.sectors.get(name, "") for name in symbols),
        "periods_per_year": panel.clock.per_year / horizon,
    }
    if portfolio.risk_budgets:
        given["risk_budgets"] = np.array([portfolio.risk_budgets.get(name, 1.0) for name in symbols])
    if portfolio.benchmark is not None:
        given["benchmark"] = _benchmark(portfolio.benchmark, seen, portfolio)
    if opinions is not None:
        given["views"] = portfolio.base_return + portfolio.alpha_per_score * opinions
    if portfolio.method == "minimum_cvar":
        # Losses over the horizon are told from single sessions by the square root of time.
        given["scenarios"] = scenarios_of(_window(panel, row, portfolio), seen.covariance) * np.sqrt(horizon)
    if asks_for_equity(panel, portfolio):
        given |= _liquidity(panel, row, problem, portfolio, equity)
    elif portfolio.needs_volumes:
        # Shares are pseudo-shares, so volumes mean nothing: as in the risk gate the limit is off.
        off = portfolio.constraints.model_copy(update={"adv_participation_max": None})
        given["constraints"] = off
    return given


def _benchmark(weights: Mapping[str, float], seen: View, portfolio: PortfolioConfig) -> FloatArray:
    """The benchmark, shape (N,); where a limit is measured against it, the risk of all of it must be known."""
    symbols, known = seen.panel.symbols, seen.covariance.known
    strangers = sorted(set(weights) - set(symbols))
    if portfolio.constraints.needs_benchmark:
        strangers += [name for name, is_known in zip(symbols, known, strict=True) if weights.get(name) and not is_known]
    if strangers:
        raise MissingDataError(
            f"the returns of {', '.join(strangers)}, of portfolio.benchmark, are missing on "
            f"{seen.panel.sessions[seen.row]}: ingest them, name another benchmark, or begin later"
        )
    return np.array([weights.get(name, 0.0) for name in symbols])


def _liquidity(
    panel: Panel, row: int, problem: Problem, portfolio: PortfolioConfig, equity: float | None
) -> dict[str, Any]:
    """Average daily value traded and the impact's rates; nothing is bought whose volume is not known."""
    if equity is None or not equity > 0:
        raise MissingDataError(f"equity = {equity}: volumes limit trades or make them dearer, so pass the account's")
    adv = average_volume(panel.volume[: row + 1], panel.split[: row + 1]) * panel.worth_at(row) / known_equity(equity)
    traded = np.nan_to_num(adv, nan=0.0) > 0
    given: dict[str, Any] = {"adv": np.where(traded, adv, np.nan)}
    if portfolio.impact > 0:
        daily = np.sqrt(problem.covariance.diagonal() / portfolio.horizon_sessions)
        power = IMPACT_POWER[portfolio.impact_law]
        rates = portfolio.impact * daily / np.where(traded, adv, 1.0) ** (power - 1.0)
        given |= {"impact": np.where(traded, rates, 0.0), "impact_power": power}
        given["reduce_only"] = ~traded if problem.reduce_only is None else problem.reduce_only | ~traded
    return given


def _fall_back(problem: Problem, chosen: str) -> FloatArray:
    return gone_to_cash(problem) if chosen == "cash" else reduced_to_limits(problem)
