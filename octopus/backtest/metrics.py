"""Performance measures, each by one named convention.

Belongs here: numbers from return and equity series. Does not: simulating, drawing, statistics that other groups need
too (octopus/core/stats.py).

Conventions: returns are simple, of one session, net of costs unless said otherwise; a year has as many sessions as its
calendar (`octopus.core.sessions.Sessions.per_year`: 252 of XNYS, 365 of 24/7), here called Y; the risk-free rate is
zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np

from octopus.backtest.simulator import BacktestResult
from octopus.core.errors import MissingDataError
from octopus.core.stats import SESSIONS_PER_YEAR, sharpe, sharpe_interval
from octopus.core.trials import Trial, deflate
from octopus.core.types import DateArray, FloatArray


@dataclass(frozen=True)
class Drawdown:
    """The largest fall of equity from its highest value so far.

    Attributes:
        depth: negative fraction; 0.0 without a fall.
        peak, trough, recovery: sessions; ``recovery`` is None where the peak was not reached again.
    """

    depth: float
    peak: date | None
    trough: date | None
    recovery: date | None


@dataclass(frozen=True)
class Performance:
    """Measures of one equity curve; NaN where a measure has no value.

    Attributes:
        total_return: fraction over the whole period.
        cagr: growth factor to the power of Y / (number of returns), minus one.
        volatility: standard deviation (ddof 1) × √Y.
        sharpe: mean / standard deviation (ddof 1) × √Y.
        sortino: mean / root mean square of the negative returns (over all returns) × √Y.
        max_drawdown: negative fraction. calmar: cagr / −max_drawdown.
        omega: sum of the returns above a required one / sum of those below it, as distances from it (Keating and
            Shadwick, A Universal Performance Measure, 2002).
        hit_rate: fraction of returns above zero. best, worst: returns of one session.
    """

    total_return: float
    cagr: float
    volatility: float
    sharpe: float
    sortino: float
    max_drawdown: float
    calmar: float
    omega: float
    hit_rate: float
    best: float
    worst: float


@dataclass(frozen=True)
class Metrics:
    """A backtest against its benchmark.

    Attributes:
        sessions_per_year: Y.
        sharpe_low, sharpe_high: 95 % interval of the Sharpe ratio (circular block bootstrap).
        deflated_sharpe: probability that the true Sharpe ratio is above what the best of so many trials shows by luck.
        pbo: probability that the best of the trials is below their middle out of sample; NaN with fewer than ten.
        trials: how many strategies were tried; trials_clustered: how many different ones.
        active_return: cagr less the benchmark's. tracking_error: standard deviation (ddof 1) of the difference of
            returns × √Y. information_ratio: Sharpe ratio of that difference. beta: slope on the benchmark's returns.
        turnover_annual: buys plus sells as a fraction of equity, in a year.
        cost_drag: cagr before costs less cagr after them. costs: by kind, account currency.
        exposure: mean gross exposure, fraction of equity.
    """

    first: date
    last: date
    sessions_per_year: int
    strategy: Performance
    benchmark: Performance
    drawdown: Drawdown
    sharpe_low: float
    sharpe_high: float
    deflated_sharpe: float
    pbo: float
    trials: int
    trials_clustered: int
    active_return: float
    tracking_error: float
    information_ratio: float
    beta: float
    turnover_annual: float
    cost_drag: float
    costs: Mapping[str, float]
    exposure: float
    trades: int
    fallbacks: int

    def record(self) -> dict[str, object]:
        """As plain values for JSON: dates as ISO strings, a measure without a value as None."""
        plain = _plain(asdict(self))
        if not isinstance(plain, dict):
            raise TypeError("a dataclass becomes a dict")
        return plain


def performance(
    returns: FloatArray,
    periods: float | None = None,
    sessions_per_year: float = SESSIONS_PER_YEAR,
    required: float = 0.0,
) -> Performance:
    """Measures of simple returns, shape (T,), in order of time; NaN returns are left out.

    Args:
        periods: sessions that the returns span, for the cagr; by default their number. sessions_per_year: of their
            calendar. required: return of a year, compounded, that the omega ratio measures from.

    Raises:
        MissingDataError: no return is known.
    """
    known = returns[np.isfinite(returns)]
    if not len(known):
        raise MissingDataError("performance of no returns; simulate at least two sessions")
    growth = float(np.prod(1.0 + known))
    span = periods or len(known)
    cagr = growth ** (sessions_per_year / span) - 1.0 if growth > 0 else -1.0
    depth = float(_depths(np.concatenate([[1.0], np.cumprod(1.0 + known)])).min())
    downside = math.sqrt(float((np.minimum(known, 0.0) ** 2).mean()))
    annual = math.sqrt(sessions_per_year)
    return Performance(
        total_return=growth - 1.0,
        cagr=cagr,
        volatility=float(known.std(ddof=1)) * annual if len(known) > 1 else math.nan,
        sharpe=sharpe(known, sessions_per_year),
        sortino=float(known.mean()) / downside * annual if downside > 0 else math.nan,
        max_drawdown=depth,
        calmar=cagr / -depth if depth < 0 else math.nan,
        omega=_omega(known - ((1.0 + required) ** (1.0 / sessions_per_year) - 1.0)),
        hit_rate=float((known > 0).mean()),
        best=float(known.max()),
        worst=float(known.min()),
    )


def max_drawdown(sessions: DateArray, equity: FloatArray) -> Drawdown:
    """The largest fall of ``equity``, shape (T,), with its dates."""
    depths = _depths(equity)
    trough = int(depths.argmin())
    if depths[trough] >= 0:
        return Drawdown(0.0, None, None, None)
    peak = int(equity[: trough + 1].argmax())
    later = np.flatnonzero(equity[trough:] >= equity[peak])
    recovery = sessions[trough + int(later[0])].item() if len(later) else None
    return Drawdown(float(depths[trough]), sessions[peak].item(), sessions[trough].item(), recovery)


def drawdowns(equity: FloatArray) -> FloatArray:
    """Distance of each value from the highest so far, non-positive fractions, shape (T,)."""
    return _depths(equity)


def yearly_returns(sessions: DateArray, returns: FloatArray) -> dict[int, float]:
    """Compounded return of each calendar year in the series, fractions; the first and last may be incomplete."""
    years = sessions.astype("datetime64[Y]").astype(int) + 1970
    return {int(year): float(np.prod(1.0 + returns[years == year]) - 1.0) for year in np.unique(years)}


def measure(
    result: BacktestResult,
    benchmark: BacktestResult,
    *,
    trials: Sequence[Trial] = (),
    tried_before: int = 0,
    trial_sharpe_spread: float = 0.5,
) -> Metrics:
    """Everything the tear sheet tells.

    Args:
        benchmark: over the same sessions.
        trials: every strategy tried on these days, this one included. tried_before, trial_sharpe_spread: those whose
            returns nobody kept, and the standard deviation of their annual Sharpe ratios.

    Raises:
        MissingDataError: the benchmark is of other sessions.
    """
    if not np.array_equal(result.sessions, benchmark.sessions):
        raise MissingDataError("strategy and benchmark are of different sessions; simulate both with one config")
    # The first row is the opening day: nothing was held, so it is no return.
    net, other = result.net_return[1:], benchmark.net_return[1:]
    year = result.sessions_per_year
    own, theirs = performance(net, sessions_per_year=year), performance(other, sessions_per_year=year)
    low, high = sharpe_interval(net, sessions_per_year=year)
    difference = net - other
    deflation = deflate(net, trials, tried_before, trial_sharpe_spread, year)
    spread = float(other.var())
    return Metrics(
        first=result.sessions[0].item(),
        last=result.sessions[-1].item(),
        sessions_per_year=year,
        strategy=own,
        benchmark=theirs,
        drawdown=max_drawdown(result.sessions, result.equity),
        sharpe_low=low,
        sharpe_high=high,
        deflated_sharpe=deflation.deflated_sharpe,
        pbo=deflation.pbo,
        trials=deflation.raw,
        trials_clustered=deflation.clustered,
        active_return=own.cagr - theirs.cagr,
        tracking_error=float(difference.std(ddof=1)) * math.sqrt(year) if len(net) > 1 else math.nan,
        information_ratio=sharpe(difference, year),
        beta=float(((net - net.mean()) * (other - other.mean())).mean()) / spread if spread > 0 else math.nan,
        turnover_annual=float(result.turnover[1:].mean()) * year,
        cost_drag=performance(result.gross_return[1:], sessions_per_year=year).cagr - own.cagr,
        costs={kind: float(values.sum()) for kind, values in result.costs.items()},
        exposure=float(result.gross_exposure[1:].mean()),
        trades=len(result.trades),
        fallbacks=len(result.fallbacks),
    )


def _omega(beyond: FloatArray) -> float:
    below = -float(np.minimum(beyond, 0.0).sum())
    return float(np.maximum(beyond, 0.0).sum()) / below if below > 0 else math.nan


def _depths(equity: FloatArray) -> FloatArray:
    return np.asarray(equity / np.maximum.accumulate(equity) - 1.0)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
