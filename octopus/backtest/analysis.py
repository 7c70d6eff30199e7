"""Where a backtest's money came from, how sure that is, and what would have taken it away.

Belongs here: pure functions from an account (and the panel it ran on) to tables: confidence intervals, attribution,
sensitivity to costs, capacity, named crises. Does not: measures of one return series (metrics.py), drawing
(analysis_page.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from octopus.backtest.config import BacktestConfig
from octopus.backtest.metrics import drawdowns, performance
from octopus.backtest.simulator import BacktestResult, RuinError, simulate_targets
from octopus.backtest.sizing import Sizing
from octopus.core.costs import CostModel
from octopus.core.panel import Panel
from octopus.core.stats import SESSIONS_PER_YEAR
from octopus.core.types import FloatArray, IntArray

COST_MULTIPLES = (0.0, 0.5, 1.0, 2.0, 4.0)
CAPITALS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
"""Of the capacity curve, in multiples of the initial cash."""
STANDARD_IMPACT = 1.0
"""Coefficient of the square-root law where the settings have none: a day's volume moves the price by its volatility."""


# How sure -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A measure with its 95 % interval; NaN where it has none."""

    measure: str
    value: float
    low: float
    high: float


def stationary_draws(count: int, draws: int, block: float, seed: int) -> IntArray:
    """Rows of resampled series: blocks of geometric length, on average ``block``, from anywhere, around the end.

    Returns:
        Indices into the series, shape (draws, count).

    Source: Politis and Romano, The Stationary Bootstrap, JASA 89 (1994).
    """
    generator = np.random.default_rng(seed)
    begins = generator.random((draws, count)) < 1.0 / block
    begins[:, 0] = True
    place = np.arange(count)
    latest = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    starts = np.take_along_axis(generator.integers(0, count, (draws, count)), latest, axis=1)
    return np.asarray((starts + place - latest) % count)


def intervals(
    returns: FloatArray,
    block: float = 21.0,
    draws: int = 500,
    seed: int = 7,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> list[Interval]:
    """95 % intervals of the measures of simple returns, shape (T,), by the stationary bootstrap, seeded.

    A drawdown depends on the order of days: its interval says what other orders of the same blocks would have shown.
    """
    known = returns[np.isfinite(returns)]
    own = performance(known, sessions_per_year=sessions_per_year)
    names = ("cagr", "volatility", "sharpe", "sortino", "max_drawdown", "calmar")
    if len(known) < 3 * block:
        return [Interval(name, getattr(own, name), math.nan, math.nan) for name in names]
    samples = known[stationary_draws(len(known), draws, block, seed)]
    found = []
    for name, values in _measures(samples, sessions_per_year).items():
        finite = values[np.isfinite(values)]
        low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (math.nan, math.nan)
        found.append(Interval(name, getattr(own, name), float(low), float(high)))
    return found


def _measures(samples: FloatArray, sessions_per_year: float) -> dict[str, FloatArray]:
    """`octopus.backtest.metrics.Performance` of each row at once."""
    annual = math.sqrt(sessions_per_year)
    wealth = np.cumprod(1.0 + samples, axis=1)
    peaks = np.maximum(np.maximum.accumulate(wealth, axis=1), 1.0)
    mean, spread = samples.mean(axis=1), samples.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cagr = np.maximum(wealth[:, -1], 0.0) ** (sessions_per_year / samples.shape[1]) - 1.0
        depth = (wealth / peaks - 1.0).min(axis=1)
        downside = np.sqrt((np.minimum(samples, 0.0) ** 2).mean(axis=1))
        return {
            "cagr": cagr, "volatility": spread * annual, "sharpe": mean / spread * annual,
            "sortino": mean / downside * annual, "max_drawdown": depth, "calmar": cagr / -depth,
        }  # fmt: skip


# Where from -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contribution:
    """What one instrument (or group) brought, account currency.

    Attributes:
        profit: after its costs, dividends included. costs: spread, slippage, impact and commission of its trades.
        turnover: traded value.
        currency: of the profit, what rates moving brought.
    """

    name: str
    profit: float
    costs: float
    turnover: float
    currency: float = 0.0


REST = "interest, financing and fractions"


def by_instrument(result: BacktestResult, panel: Panel) -> list[Contribution]:
    """Profit of each instrument that was ever held, largest first; then what belongs to none.

    The profits add up to the change of equity. Of one instrument and session: the change of the position's value, less
    what was paid for it and its costs, plus dividends, spin-offs and what was paid for shares that ended.
    """
    first = panel.at(result.sessions[0].item())
    rows = slice(first, first + len(result.sessions))
    count = len(result.symbols)
    trades = result.trades
    at = np.searchsorted(result.sessions, trades.session)
    signed = trades.side * trades.shares
    bought, paid = np.zeros(result.shares.shape), np.zeros(count)
    np.add.at(bought, (at, trades.instrument), signed)
    np.add.at(paid, trades.instrument, signed * trades.price * trades.rate + trades.fees)
    rate = np.ones(result.shares.shape) if panel.rate is None else panel.rate[rows]
    traded_at = trades.reference_price * rate[at, trades.instrument]
    marks = np.where(np.isfinite(result.marks), result.marks, 0.0)
    before = np.vstack([np.zeros((1, count)), result.shares[:-1]]) * panel.split[rows]
    paid_out = (
        panel.dividend[rows] if panel.spin_off is None else panel.dividend[rows] + np.nan_to_num(panel.spin_off[rows])
    )
    dividends = (before * np.where(paid_out != 0.0, paid_out * rate, 0.0)).sum(axis=0)
    # Shares that went without a trade: a delisting's, paid at the last mark; a split's fractions nearly so.
    gone = ((before + bought - result.shares) * marks).sum(axis=0)
    profit = result.shares[-1] * marks[-1] - paid + dividends + gone
    costs = np.zeros(count)
    np.add.at(costs, trades.instrument, signed * (trades.price * trades.rate - traded_at) + trades.fees)
    turnover = np.zeros(count)
    np.add.at(turnover, trades.instrument, trades.shares * traded_at)
    # What stood at the close before, at the rate of the day.
    moved = np.nan_to_num(rate[1:] / rate[:-1] - 1.0)
    currency = (result.shares[:-1] * marks[:-1] * moved).sum(axis=0)
    found = [
        Contribution(result.symbols[place], *(float(of[place]) for of in (profit, costs, turnover, currency)))
        for place in np.argsort(-profit, kind="stable").tolist()
        if turnover[place] > 0
    ]
    rest = float(result.equity[-1] - result.equity[0]) - float(profit.sum())
    return [*found, Contribution(REST, rest, 0.0, 0.0)]


def by_group(contributions: Sequence[Contribution], groups: Mapping[str, str]) -> list[Contribution]:
    """The same summed by group (a sector, say), largest first; an instrument without a group stands for itself."""
    sums: dict[str, FloatArray] = {}
    for one in contributions:
        values = np.array([one.profit, one.costs, one.turnover, one.currency])
        name = groups.get(one.name, one.name)
        sums[name] = sums.get(name, np.zeros(4)) + values
    ordered = sorted(sums.items(), key=lambda item: -item[1][0])
    return [Contribution(name, *map(float, values)) for name, values in ordered]


@dataclass(frozen=True)
class FactorLoad:
    """How much of the returns a factor explains.

    Attributes:
        beta: of net returns on the factor's, all factors together. t: with autocorrelation over a week allowed for.
        annual: beta × the factor's mean return × sessions in a year, a fraction; of the intercept, alpha.
    """

    name: str
    beta: float
    t: float
    annual: float


@dataclass(frozen=True)
class FactorReport:
    """Loads, the intercept first, and the share of the variance of daily returns that they explain."""

    loads: tuple[FactorLoad, ...]
    explained: float


def factor_returns(panel: Panel) -> dict[str, FloatArray]:
    """Returns of factors made of the panel itself, each known a day before, shape (T,).

    market: members, equally weighted. momentum: the third of the members that rose most from a year to a month ago,
    less the third that rose least. low_volatility: the third with the least volatility of the last quarter less the
    third with the most. size: the third with the least traded value in the last quarter less the third with the most,
    where the panel has volumes on raw prices. Year, quarter and month are those of the panel's clock.
    """
    from octopus.strategy import windows

    year = panel.clock.per_year
    month, quarter = year // 12, year // 4
    growth = np.nan_to_num(np.log1p(panel.total_return))
    total = np.cumsum(growth, axis=0)
    shifted = _later(total, month) - _later(total, year)
    shifted[:year] = np.nan
    scores = {"momentum": shifted, "low_volatility": -windows.std(panel.total_return, quarter)}
    if panel.price_basis == "raw" and np.isfinite(panel.volume).any():
        scores["size"] = -windows.mean(panel.worth * panel.volume, quarter)
    factors = {"market": _spread(np.where(panel.member, 1.0, np.nan), panel, whole=True)}
    return factors | {name: _spread(_later(score, 1), panel, whole=False) for name, score in scores.items()}


def _later(values: FloatArray, sessions: int) -> FloatArray:
    """Each row's value of so many sessions before; NaN where there is none."""
    shifted = np.full(values.shape, np.nan)
    shifted[sessions:] = values[:-sessions]
    return shifted


def _spread(scores: FloatArray, panel: Panel, *, whole: bool) -> FloatArray:
    """Mean return of the top third by score less that of the bottom third, or of all; zero where there is none."""
    from octopus.core.stats import centred_ranks

    known = np.isfinite(panel.total_return) & panel.member & np.isfinite(scores)
    returns = np.where(known, panel.total_return, 0.0)
    if whole:
        return np.asarray(returns.sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    ranks = centred_ranks(np.where(known, scores, np.nan))
    top, bottom = ranks >= 1 / 6, ranks <= -1 / 6
    means = [np.where(side, returns, 0.0).sum(axis=1) / np.maximum(side.sum(axis=1), 1) for side in (top, bottom)]
    return np.asarray(means[0] - means[1])


def by_factor(result: BacktestResult, panel: Panel, lags: int = 5) -> FactorReport:
    """Net returns regressed on `factor_returns`, by least squares.

    Source of the t-statistics: Newey and West, A Simple, Positive Semi-Definite, Heteroskedasticity and Autocorrelation
    Consistent Covariance Matrix, Econometrica 55 (1987).
    """
    first = panel.at(result.sessions[0].item()) + 1
    own = result.net_return[1:]
    factors = {name: values[first : first + len(own)] for name, values in factor_returns(panel).items()}
    chosen = {name: values for name, values in factors.items() if values.std() > 0}
    design = np.column_stack([np.ones(len(own)), *chosen.values()])
    inverse = np.linalg.pinv(design.T @ design)
    betas = inverse @ design.T @ own
    rest = own - design @ betas
    scores = design * rest[:, None]
    middle = scores.T @ scores
    for lag in range(1, lags + 1):
        step = scores[lag:].T @ scores[:-lag] * (1.0 - lag / (lags + 1))
        middle += step + step.T
    errors = np.sqrt(np.maximum(np.diag(inverse @ middle @ inverse), 0.0))
    means = design.mean(axis=0)
    loads = tuple(
        FactorLoad(
            name,
            float(beta),
            float(beta / error) if error > 0 else math.nan,
            float(beta * mean) * result.sessions_per_year,
        )
        for name, beta, error, mean in zip(("alpha", *chosen), betas, errors, means, strict=True)
    )
    spread = float(own.var())
    return FactorReport(loads, 1.0 - float(rest.var()) / spread if spread > 0 else math.nan)


# What would have taken it away ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """The same targets under another assumption.

    Attributes:
        size: a multiple of the costs, or the initial capital. cagr, sharpe, costs_annual: after costs; the last is of
            mean equity. NaN where the account was ruined.
    """

    size: float
    cagr: float
    sharpe: float
    costs_annual: float


@dataclass(frozen=True, eq=False)
class Replay:
    """What repeats a backtest with other costs: its targets as they were decided, which the new costs do not change.

    The gates are left out: orders that they denied are sent here.
    """

    panel: Panel
    result: BacktestResult
    config: BacktestConfig
    sizing: Sizing
    costs: CostModel
    delisting: FloatArray | None = None

    def run(self, config: BacktestConfig, costs: CostModel) -> BacktestResult:
        """The account under ``config`` and ``costs``."""
        first = self.panel.at(self.result.sessions[0].item())
        targets = np.full(self.panel.close.shape, np.nan)
        targets[first : first + len(self.result.sessions)] = self.result.targets
        return simulate_targets(self.panel, targets, config, self.sizing, costs, self.delisting)


def cost_sensitivity(of: Replay, multiples: Sequence[float] = COST_MULTIPLES) -> list[Variant]:
    """The backtest at multiples of all its costs, impact, borrowing and financing included."""
    found = []
    for multiple in multiples:
        rates = {
            name: getattr(of.config, name) * multiple for name in ("impact", "borrow_bps_year", "financing_bps_year")
        }
        costs = CostModel(**{name: value * multiple for name, value in of.costs.model_dump().items()})
        found.append(_variant(of, multiple, of.config.model_copy(update=rates), costs))
    return found


def capacity(of: Replay, multiples: Sequence[float] = CAPITALS) -> list[Variant]:
    """The backtest with more and more capital under square-root impact; empty where the panel has no volumes.

    Where the settings have no impact, `STANDARD_IMPACT` is taken; volumes of a total-return basis mean nothing.
    """
    if of.panel.price_basis != "raw" or not np.isfinite(of.panel.volume).any():
        return []
    impact = of.config.impact or STANDARD_IMPACT
    return [
        _variant(
            of, capital, of.config.model_copy(update={"initial_cash": capital, "impact": impact}), of.costs
        )
        for capital in (of.config.initial_cash * multiple for multiple in multiples)
    ]  # fmt: skip


def _variant(of: Replay, size: float, config: BacktestConfig, costs: CostModel) -> Variant:
    try:
        made = of.run(config, costs)
    except RuinError:
        return Variant(size, math.nan, math.nan, math.nan)
    year = made.sessions_per_year
    years = max(len(made.sessions) - 1, 1) / year
    paid = float(made.total_costs.sum()) / float(made.equity.mean()) / years
    own = performance(made.net_return[1:], sessions_per_year=year)
    return Variant(size, own.cagr, own.sharpe, paid)


@dataclass(frozen=True)
class Crisis:
    """A stretch of days that has a name."""

    name: str
    first: date
    last: date


CRISES = (
    Crisis("Crash of 1987", date(1987, 8, 25), date(1987, 12, 4)),
    Crisis("Russia and LTCM", date(1998, 7, 17), date(1998, 10, 8)),
    Crisis("End of the dot-com boom", date(2000, 3, 24), date(2002, 10, 9)),
    Crisis("Quant crisis of August 2007", date(2007, 8, 6), date(2007, 8, 10)),
    Crisis("Financial crisis", date(2007, 10, 9), date(2009, 3, 9)),
    Crisis("Flash crash and Greece", date(2010, 4, 23), date(2010, 7, 2)),
    Crisis("Downgrade of the United States", date(2011, 7, 22), date(2011, 10, 3)),
    Crisis("China and oil", date(2015, 7, 20), date(2016, 2, 11)),
    Crisis("Fourth quarter of 2018", date(2018, 9, 20), date(2018, 12, 24)),
    Crisis("Pandemic", date(2020, 2, 19), date(2020, 3, 23)),
    Crisis("Rates of 2022", date(2022, 1, 3), date(2022, 10, 12)),
)
"""Peak to trough of the S&P 500 by its closes, but for August 2007, which was one of long-short books."""


@dataclass(frozen=True)
class Stress:
    """What a crisis did to the strategy and to its benchmark, fractions; ``worst``: deepest fall within it."""

    crisis: Crisis
    strategy: float
    benchmark: float
    worst: float


def stress(result: BacktestResult, benchmark: BacktestResult, crises: Sequence[Crisis] = CRISES) -> list[Stress]:
    """Each named stretch that lies within the backtest."""
    found = []
    for crisis in crises:
        inside = (result.sessions >= np.datetime64(crisis.first)) & (result.sessions <= np.datetime64(crisis.last))
        begins = result.sessions[0] < np.datetime64(crisis.first)
        if not begins or result.sessions[-1] < np.datetime64(crisis.last) or not inside.any():
            continue
        own, other = (np.prod(1.0 + one.net_return[inside]) - 1.0 for one in (result, benchmark))
        path = np.concatenate([[1.0], np.cumprod(1.0 + result.net_return[inside])])
        found.append(Stress(crisis, float(own), float(other), float(drawdowns(path).min())))
    return found


@dataclass(frozen=True)
class Analysis:
    """All of it, for the tear sheet."""

    intervals: Sequence[Interval]
    instruments: Sequence[Contribution]
    groups: Sequence[Contribution]
    currencies: Sequence[Contribution]
    factors: FactorReport
    costs: Sequence[Variant]
    capacity: Sequence[Variant]
    stress: Sequence[Stress]


def analyse(of: Replay, benchmark: BacktestResult, groups: Mapping[str, str] | None = None) -> Analysis:
    """Everything above.

    Args:
        groups: the group of each instrument (its sector), where one is known.
    """
    instruments = by_instrument(of.result, of.panel)
    return Analysis(
        intervals=intervals(of.result.net_return[1:], sessions_per_year=of.result.sessions_per_year),
        instruments=instruments,
        groups=by_group(instruments, groups) if groups else (),
        currencies=by_group(instruments, dict(zip(of.panel.symbols, of.panel.currency, strict=True)))
        if of.panel.rate is not None
        else (),
        factors=by_factor(of.result, of.panel),
        costs=cost_sensitivity(of),
        capacity=capacity(of),
        stress=stress(of.result, benchmark),
    )
