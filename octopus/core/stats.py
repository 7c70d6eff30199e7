"""Statistics that several groups need: Sharpe ratios and how far to believe them, rank correlations, t-statistics.

Belongs here: measures of a return or score series. Does not: portfolio accounting, limits.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, FloatArray

SESSIONS_PER_YEAR = 252
"""Of XNYS, where no calendar is at hand; whoever has one passes its `octopus.core.sessions.Sessions.per_year`."""
EULER_MASCHERONI = 0.5772156649015329


def sharpe(returns: FloatArray, sessions_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Annualised Sharpe ratio of excess returns: mean over sample standard deviation (ddof 1) times √sessions.

    NaN for fewer than two returns or without variation.
    """
    if len(returns) < 2:
        return math.nan
    spread = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / spread * math.sqrt(sessions_per_year) if spread > 0 else math.nan


def probabilistic_sharpe(observed: float, benchmark: float, count: int, skewness: float, kurtosis: float) -> float:
    """Probability that the true Sharpe ratio is above ``benchmark``.

    Args:
        observed, benchmark: Sharpe ratios per observation (not annualised). count: observations.
        kurtosis: not in excess; 3 for a normal distribution.

    Source: Bailey and López de Prado, The Sharpe Ratio Efficient Frontier, Journal of Risk 15 (2012).
    """
    from scipy.stats import norm

    variance = 1 - skewness * observed + (kurtosis - 1) / 4 * observed**2
    return float(norm.cdf((observed - benchmark) * math.sqrt(count - 1) / math.sqrt(variance)))


def minimum_track_record(
    observed: float, benchmark: float, skewness: float, kurtosis: float, confidence: float = 0.95
) -> float:
    """Observations needed for `probabilistic_sharpe` to reach ``confidence``; same source and units."""
    from scipy.stats import norm

    variance = 1 - skewness * observed + (kurtosis - 1) / 4 * observed**2
    return float(1 + variance * (norm.ppf(confidence) / (observed - benchmark)) ** 2)


def expected_maximum_sharpe(variance: float, trials: int) -> float:
    """Sharpe ratio that the best of ``trials`` strategies without skill is expected to show.

    Args:
        variance: of the trials' Sharpe ratios, per observation.

    Source: Bailey and López de Prado, The Deflated Sharpe Ratio, Journal of Portfolio Management 40 (2014).
    """
    from scipy.stats import norm

    if trials < 2:
        return 0.0
    first, second = norm.ppf(1 - 1 / trials), norm.ppf(1 - 1 / (trials * math.e))
    return float(math.sqrt(variance) * ((1 - EULER_MASCHERONI) * first + EULER_MASCHERONI * second))


def deflated_sharpe(
    observed: float, count: int, skewness: float, kurtosis: float, variance: float, trials: int
) -> float:
    """`probabilistic_sharpe` against what the best of so many trials would show by luck; same source and units."""
    benchmark = expected_maximum_sharpe(variance, trials)
    return probabilistic_sharpe(observed, benchmark, count, skewness, kurtosis)


def overfitting_probability(returns: FloatArray, splits: int = 16) -> float:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    Args:
        returns: shape (sessions, strategies). splits: even number of blocks of sessions; a remainder at the end is cut.

    Source: Bailey, Borwein, López de Prado and Zhu, Journal of Computational Finance 20 (2016).
    """
    from scipy.stats import rankdata

    length = len(returns) // splits
    if length < 2 or returns.shape[1] < 2:
        raise MissingDataError(f"overfitting: {returns.shape} is too little for {splits} blocks and two strategies")
    blocks = returns[: length * splits].reshape(splits, length, -1)
    sums, squares = blocks.sum(axis=1), (blocks**2).sum(axis=1)
    everything = frozenset(range(splits))
    below = 0
    chosen_sets = list(combinations(range(splits), splits // 2))
    for chosen in chosen_sets:
        rest = sorted(everything.difference(chosen))
        inside, outside = _sharpes(sums, squares, list(chosen), length), _sharpes(sums, squares, rest, length)
        rank = rankdata(outside)[int(np.argmax(inside))] / (returns.shape[1] + 1)
        below += math.log(rank / (1 - rank)) <= 0
    return below / len(chosen_sets)


def _sharpes(sums: FloatArray, squares: FloatArray, chosen: list[int], length: int) -> FloatArray:
    count = len(chosen) * length
    mean = sums[chosen].sum(axis=0) / count
    variance = (squares[chosen].sum(axis=0) - count * mean**2) / (count - 1)
    # A strategy that stays in cash has no Sharpe ratio; as 0 it is neither chosen as the best nor hidden from the rank.
    return np.where(variance > 0, mean / np.sqrt(np.where(variance > 0, variance, 1.0)), 0.0)


def hac_t_statistic(values: FloatArray, lags: int) -> float:
    """t-statistic of the mean with Newey–West standard errors (Bartlett kernel, ``lags`` lags).

    Source: Newey and West, Econometrica 55 (1987). NaN for fewer than three values or without variation.
    """
    count = len(values)
    if count < 3:
        return math.nan
    centred = values - values.mean()
    variance = float(centred @ centred) / count
    for lag in range(1, min(lags, count - 1) + 1):
        weight = 1 - lag / (lags + 1)
        variance += 2 * weight * float(centred[lag:] @ centred[:-lag]) / count
    return float(values.mean()) / math.sqrt(variance / count) if variance > 0 else math.nan


def rank_correlation(left: FloatArray, right: FloatArray, least: int = 5) -> FloatArray:
    """Spearman correlation of each row, shape (T,); NaN below ``least`` known pairs or where a side is flat."""
    from scipy.stats import rankdata

    known = ~np.isnan(left) & ~np.isnan(right)
    ranks = [rankdata(np.where(known, side, np.nan), axis=1, nan_policy="omit") for side in (left, right)]
    count = known.sum(axis=1, keepdims=True)
    centred = [np.where(known, rank - (count + 1) / 2, 0.0) for rank in ranks]
    product = (centred[0] * centred[1]).sum(axis=1)
    scale = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((count[:, 0] >= least) & (scale > 0), product / scale, np.nan)


def standardised(values: FloatArray, inside: BoolArray, least: int = 2) -> FloatArray:
    """Deviation from the row's mean in the row's standard deviation (ddof 1), over the cells that are ``inside``.

    A row's result depends on that row alone, bit for bit, whatever the number of rows or their order in memory.

    Args:
        values, inside: shape (T, N). least: cells that a row needs.

    Returns:
        shape (T, N); NaN outside, where missing, and in rows with fewer than ``least`` values or without variation.
    """
    counted = np.ascontiguousarray(inside & ~np.isnan(values))
    count = counted.sum(axis=1, keepdims=True)
    # Contiguous rows: NumPy adds a row in another order, and rounds otherwise, when columns are contiguous.
    known = np.ascontiguousarray(np.where(counted, values, 0.0))
    deviation = np.where(counted, known - known.sum(axis=1, keepdims=True) / np.maximum(count, 1), 0.0)
    spread = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counted & (count >= least) & (spread > 1e-12), deviation / spread, np.nan)


def centred_ranks(values: FloatArray) -> FloatArray:
    """Ranks along axis 1 from -0.5 to 0.5, ties averaged; NaN where missing, or where fewer than two values are known.

    Args:
        values: shape (T, N) or (T, N, F); NaN is left out.
    """
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=1, nan_policy="omit")
    count = (~np.isnan(values)).sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isnan(values) | (count < 2), np.nan, (ranks - 1.0) / (count - 1.0) - 0.5)


def moments(returns: FloatArray) -> tuple[float, float]:
    """Skewness and kurtosis (not in excess) of a return series, population moments."""
    centred = returns - returns.mean()
    variance = float((centred**2).mean())
    if variance <= 0:
        return 0.0, 3.0
    return float((centred**3).mean()) / variance**1.5, float((centred**4).mean()) / variance**2


def sharpe_interval(
    returns: FloatArray,
    block: int = 21,
    draws: int = 500,
    seed: int = 7,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> tuple[float, float]:
    """95 % interval of the annualised Sharpe ratio by circular blocks of ``block`` sessions, seeded.

    Source: Politis and Romano, A circular block-resampling procedure for stationary data (1992).
    """
    count = len(returns)
    if count < 2 * block:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, count, size=(draws, math.ceil(count / block)))
    rows = (starts[:, :, None] + np.arange(block)) % count
    samples = returns[rows.reshape(draws, -1)[:, :count]]
    values = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * math.sqrt(sessions_per_year)
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
