"""The risk report of a portfolio: every measure, from one window of point-in-time returns.

Belongs here: joining the measures of this package into rows and what the pictures draw. Does not: the formulas (the
modules named in the imports), drawing (pictures.py), limits (gate.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.stats import SESSIONS_PER_YEAR
from octopus.core.types import DateArray, FloatArray
from octopus.risk.components import Decomposition, cvar_components, var_components, volatility_components
from octopus.risk.exposures import (
    SectorExposure,
    betas,
    concentration,
    factor_exposures,
    liquidity,
    sector_exposures,
)
from octopus.risk.limits import RiskLimits
from octopus.risk.measures import (
    InsufficientHistoryError,
    InvalidReturnsError,
    historical_cvar,
    historical_var,
    max_drawdown,
    portfolio_returns,
    volatility_annual,
)
from octopus.risk.stress import StressResult, historical_stress, shock_stress
from octopus.risk.var_backtest import FORECASTS, VarBacktest, backtest_var
from octopus.risk.var_models import DRAWS, SEED, Loss, cornish_fisher_loss, ewma_loss, normal_loss, simulated_returns

LEVEL = 0.95
BACKTEST_DAYS = 1000
FACTORS = 3


@dataclass(frozen=True, eq=False)
class Portfolio:
    """What is judged: positions and the history of the instruments, as known at one instant.

    Attributes:
        weights: fractions of equity, shape (N,). shares: signed, shape (N,). prices: last known, shape (N,).
        sessions: shape (T,). returns: simple total returns, shape (T, N), NaN where there is none.
        adv_shares: average daily volume, shape (N,); None on a total-return basis.
        sessions_per_year: of the calendar.
    """

    symbols: tuple[str, ...]
    weights: FloatArray
    shares: FloatArray
    prices: FloatArray
    sessions: DateArray
    returns: FloatArray
    sectors: Mapping[str, str]
    adv_shares: FloatArray | None
    sessions_per_year: float = SESSIONS_PER_YEAR


@dataclass(frozen=True)
class Measure:
    """One number.

    Attributes:
        subject: what it is of: a method, an instrument, a sector, a scenario; empty for the whole portfolio.
        value: in the unit of the measure's name, otherwise a fraction of equity; None where ``note`` says why.
    """

    measure: str
    subject: str
    value: float | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class RiskReport:
    """All measures, and what the pictures need besides.

    Attributes:
        weights: by symbol, those of names without every return of the window zero; such that are held stand in
            ``uncovered``.
        history: returns of the portfolio with today's weights, shape (days,); sessions: their dates.
    """

    measures: tuple[Measure, ...]
    symbols: tuple[str, ...]
    weights: FloatArray
    uncovered: tuple[str, ...]
    sectors: tuple[SectorExposure, ...]
    components: Mapping[str, Decomposition]
    backtests: Mapping[str, VarBacktest]
    stress: tuple[StressResult, ...]
    sessions: DateArray
    history: FloatArray


def risk_report(portfolio: Portfolio, limits: RiskLimits) -> RiskReport:
    """Measure a portfolio over the window of the limits; names without all of it are left out of losses and named.

    Raises:
        MissingDataError: no session at all.
    """
    if not len(portfolio.sessions):
        raise MissingDataError("the risk report has no session of returns: ingest bars")
    window = limits.var_window_sessions
    held = portfolio.weights != 0
    known = np.isfinite(portfolio.returns[-window:]).all(axis=0) & (len(portfolio.sessions) >= window)
    weights = np.where(known, portfolio.weights, 0.0)
    history, sessions = _history(portfolio, weights, window + BACKTEST_DAYS)
    recent = history[-window:]
    year = portfolio.sessions_per_year
    components = _components(weights, portfolio.returns[-window:], year) if len(recent) else {}
    backtests = _backtests(history, window)
    market = _market(portfolio.returns[-window:])
    beta = betas(portfolio.returns[-window:], market)
    stress = _stress(portfolio, limits, beta)
    found_sectors = sector_exposures(portfolio.weights, portfolio.symbols, portfolio.sectors)
    measures = [
        *_losses(recent, weights, portfolio.returns[-window:], year),
        *_shape(portfolio, weights, beta, window, limits),
        *(Measure("sector_gross", s.sector, s.gross) for s in found_sectors),
        *(Measure("sector_net", s.sector, s.net) for s in found_sectors),
        *_by_name(portfolio.symbols, weights, components),
        *_tests(backtests),
        *_scenarios(stress),
    ]
    return RiskReport(
        tuple(measures), portfolio.symbols, weights,
        tuple(np.array(portfolio.symbols)[held & ~known].tolist()), found_sectors, components, backtests, stress,
        sessions, history,
    )  # fmt: skip


def _history(portfolio: Portfolio, weights: FloatArray, days: int) -> tuple[FloatArray, DateArray]:
    """Returns of today's weights over the last sessions in which every name has one."""
    held = weights != 0
    returns = portfolio.returns[-days:]
    holes = np.flatnonzero(~np.isfinite(returns[:, held]).all(axis=1))
    first = int(holes[-1]) + 1 if len(holes) else 0
    return portfolio_returns(weights, returns[first:]), portfolio.sessions[-days:][first:]


def _market(returns: FloatArray) -> FloatArray:
    """Equal weight of what has a return that day: the market that betas are measured against."""
    known = np.isfinite(returns)
    return np.asarray(np.where(known, returns, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1))


def _components(weights: FloatArray, returns: FloatArray, sessions_per_year: float) -> dict[str, Decomposition]:
    if len(returns) < 1 / (1 - LEVEL):
        return {}
    return {
        "volatility": volatility_components(weights, returns, sessions_per_year),
        "var_95": var_components(weights, returns, LEVEL),
        "cvar_95": cvar_components(weights, returns, LEVEL),
    }


def _backtests(history: FloatArray, window: int) -> dict[str, VarBacktest]:
    if len(history) <= window + 1:
        return {}
    found = {}
    for name, forecast in FORECASTS.items():
        # A method that refuses nearly every window has no backtest; `_tests` says so.
        with suppress(InsufficientHistoryError):
            found[name] = backtest_var(history, forecast, window=window, level=LEVEL)
    return found


def _losses(
    recent: FloatArray, weights: FloatArray, returns: FloatArray, sessions_per_year: float
) -> Iterator[Measure]:
    def simulated(distribution: str) -> Loss:
        held = weights != 0
        if not held.any():
            return Loss(0.0, 0.0)
        known = returns[:, held]
        draws = simulated_returns(
            known.mean(axis=0), np.atleast_2d(np.cov(known, rowvar=False)), draws=DRAWS, seed=SEED,
            distribution="t" if distribution == "t" else "normal",
        )  # fmt: skip
        outcome = draws @ weights[held]
        return Loss(historical_var(outcome, LEVEL), historical_cvar(outcome, LEVEL))

    methods: dict[str, Callable[[], Loss]] = {
        "historical": lambda: Loss(historical_var(recent, LEVEL), historical_cvar(recent, LEVEL)),
        "normal": lambda: normal_loss(recent, LEVEL),
        "Cornish-Fisher": lambda: cornish_fisher_loss(recent, LEVEL),
        "EWMA": lambda: ewma_loss(recent, LEVEL),
        "simulated, normal": lambda: simulated("normal"),
        "simulated, t with 5 degrees": lambda: simulated("t"),
    }
    for name, method in methods.items():
        try:
            loss = method()
        except (InvalidReturnsError, InsufficientHistoryError) as error:
            yield Measure("var_95", name, None, str(error))
            yield Measure("cvar_95", name, None, str(error))
        else:
            yield Measure("var_95", name, loss.var)
            yield Measure("cvar_95", name, loss.cvar)
    if len(recent) > 1:
        yield Measure("volatility_annual", "", volatility_annual(recent, sessions_per_year))
        yield Measure("max_drawdown", "today's weights over the window", max_drawdown(recent))


def _shape(
    portfolio: Portfolio, weights: FloatArray, beta: FloatArray, window: int, limits: RiskLimits
) -> Iterator[Measure]:
    yield Measure("gross", "", float(np.abs(portfolio.weights).sum()))
    yield Measure("net", "", float(portfolio.weights.sum()))
    held = portfolio.weights != 0
    known = held & np.isfinite(beta)
    without = held & ~known
    note = f"{int(without.sum())} names have too short a history" if without.any() else ""
    yield Measure("beta", "equal-weighted universe", float(portfolio.weights[known] @ beta[known]), note)
    shape = concentration(portfolio.weights)
    yield Measure("hhi", "", shape.hhi)
    yield Measure("effective_names", "", shape.effective_names)
    yield Measure("top_names", f"largest {shape.top_count}", shape.top)
    yield from _factors(portfolio, weights, window)
    if portfolio.adv_shares is None:
        yield Measure("days_to_liquidate", "", None, "total-return prices make pseudo-shares: volumes mean nothing")
        return
    found = liquidity(portfolio.shares, portfolio.prices, portfolio.adv_shares, limits.adv_participation_max)
    yield _finite("days_to_liquidate", "", found.days_all)
    yield _finite("days_to_liquidate", "95 % of the value", found.days_95)
    for name, days in zip(np.array(portfolio.symbols)[held].tolist(), found.days[held].tolist(), strict=True):
        yield _finite("days_to_liquidate", name, days)


def _finite(measure: str, subject: str, value: float) -> Measure:
    if math.isfinite(value):
        return Measure(measure, subject, value)
    return Measure(measure, subject, None, "there is no volume to sell into")


def _factors(portfolio: Portfolio, weights: FloatArray, window: int) -> Iterator[Measure]:
    returns = portfolio.returns[-window:]
    known = np.isfinite(returns).all(axis=0)
    if known.sum() < FACTORS or len(returns) <= FACTORS:
        return
    found = factor_exposures(weights[known], returns[:, known], FACTORS)
    for number in range(FACTORS):
        yield Measure("factor_exposure_daily", f"factor {number + 1}", float(found.exposures[number]))
        yield Measure("factor_variance_share", f"factor {number + 1}", float(found.variance_shares[number]))
    yield Measure("factor_variance_share", "specific", found.specific_share)


def _by_name(
    symbols: tuple[str, ...], weights: FloatArray, components: Mapping[str, Decomposition]
) -> Iterator[Measure]:
    for measure, parts in components.items():
        for row in np.flatnonzero(weights).tolist():
            yield Measure(f"component_{measure}", symbols[row], float(parts.component[row]))
            yield Measure(f"marginal_{measure}", symbols[row], float(parts.marginal[row]))


def _tests(backtests: Mapping[str, VarBacktest]) -> Iterator[Measure]:
    for name, test in backtests.items():
        days, refused = int(test.forecast.sum()), int((~test.forecast).sum())
        note = f"on {refused} days more the method gives no forecast" if refused else ""
        yield Measure("backtest_days", name, float(days), note)
        yield Measure("backtest_exceedances", name, float(test.exceeded.sum()))
        yield Measure("backtest_expected", name, test.expected)
        yield Measure("backtest_p_coverage", name, test.coverage.p_value)
        yield Measure("backtest_p_independence", name, test.independence.p_value)
        yield Measure("backtest_p_conditional", name, test.conditional.p_value)
        known = math.isfinite(test.tail.statistic)
        yield Measure(
            "backtest_cvar_z", name, test.tail.statistic if known else None,
            "" if known else "a day of loss was forecast to bring none",
        )  # fmt: skip
        yield Measure("backtest_p_cvar", name, test.tail.p_value)
    for name in FORECASTS:
        if backtests and name not in backtests:
            yield Measure("backtest_days", name, 0.0, "the method gives a forecast on no two days")


def _stress(portfolio: Portfolio, limits: RiskLimits, beta: FloatArray) -> tuple[StressResult, ...]:
    weights, symbols = portfolio.weights, portfolio.symbols
    return (
        *(
            historical_stress(name, window, weights, symbols, portfolio.sessions, portfolio.returns)
            for name, window in limits.stress.windows.items()
        ),
        *(
            shock_stress(name, shock, weights, symbols, portfolio.sectors, beta)
            for name, shock in limits.stress.shocks.items()
        ),
    )


def _scenarios(results: tuple[StressResult, ...]) -> Iterator[Measure]:
    for result in results:
        note = f"without {', '.join(result.uncovered)}" if result.uncovered else ""
        known = math.isfinite(result.loss)
        yield Measure("stress_loss", result.name, result.loss if known else None, note)
        yield Measure("stress_worst", result.name, result.worst if known else None, note)
