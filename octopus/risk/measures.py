"""Loss measures: from a history of returns to one number.

Belongs here: VaR, CVaR, volatility, drawdown of a return series, and the return series of a portfolio.
Does not: measures that assume a distribution (var_models.py), limits (limits.py) and verdicts (gate.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from octopus.core.errors import OctopusError
from octopus.core.stats import SESSIONS_PER_YEAR
from octopus.core.types import FloatArray, IntArray

# 1 - 0.95 is a little more than 0.05 in binary: without this slack the worst of 20 days would become the second worst.
_RANK_SLACK = 1e-9

LEVEL = 0.95
"""Confidence of VaR and CVaR, unless another is asked for; that of the limits."""


class InsufficientHistoryError(OctopusError):
    """Fewer returns than the measure needs."""


class InvalidReturnsError(OctopusError):
    """A return is NaN or infinite, or the arrays do not fit together."""


def historical_var(returns: FloatArray, level: float = LEVEL) -> float:
    """One-day loss exceeded on at most a fraction ``1 - level`` of past days.

    The empirical quantile without interpolation (NumPy's "inverted_cdf"), so the answer is a loss that happened.

    Args:
        returns: simple daily returns of the portfolio, shape (days,), as fractions.
        level: confidence, in [0.5, 1).

    Returns:
        The loss as a positive fraction of equity; 0.0 if that quantile is a gain.

    Raises:
        InsufficientHistoryError: fewer than ``1 / (1 - level)`` days.
        InvalidReturnsError: a NaN or infinite return; the message says how many and where the first is.

    Source: Jorion, Value at Risk, 3rd ed., ch. 10 (historical simulation); Hyndman & Fan (1996), definition 1.
    """
    rank, _ = tail(require_returns(returns, 0), level)
    return float(_var_of_rows(returns, rank))


def historical_cvar(returns: FloatArray, level: float = LEVEL) -> float:
    """Mean one-day loss over the worst fraction ``1 - level`` of past days (expected shortfall).

    Where that fraction is not a whole number of days, the last day counts in part, so that the measure is coherent and
    never less than `historical_var`.

    Args, Raises: as `historical_var`.

    Returns:
        The loss as a positive fraction of equity; 0.0 if that mean is a gain.

    Source: Acerbi & Tasche (2002), On the coherence of expected shortfall, definition 2.6.
    """
    rank, days = tail(require_returns(returns, 0), level)
    return float(_cvar_of_rows(returns, rank, days))


def historical_var_each(returns: FloatArray, level: float = LEVEL) -> FloatArray:
    """`historical_var` of many series at once: shape (series, days) to (series,). Its series must be finite."""
    rank, _ = tail(returns[0], level)
    return np.asarray(_var_of_rows(returns, rank))


def historical_var_without_each(
    returns: FloatArray,
    parts: Callable[[IntArray], FloatArray],
    bounds: tuple[FloatArray, FloatArray],
    level: float = LEVEL,
) -> FloatArray:
    """`historical_var_each` of ``returns`` less parts, bit for bit, without asking for days that are in no tail.

    Args:
        returns: of one series, shape (days,). parts: what is taken away from it on some days, shape (series, some).
        bounds: no part is below the first or above the second on any day, shape (days,); tight ones spare days.

    Returns:
        Shape (series,).
    """
    rank, _ = tail(returns, level)
    # No series is above `highest` on any day, so none has its loss above what `highest` has.
    highest, lowest = returns - bounds[0], returns - bounds[1]
    days = np.flatnonzero(lowest <= np.partition(highest, rank - 1)[rank - 1])
    return np.asarray(_var_of_rows(returns[days] - parts(days), rank))


def historical_cvar_each(returns: FloatArray, level: float = LEVEL) -> FloatArray:
    """`historical_cvar` of many series at once: shape (series, days) to (series,). Its series must be finite."""
    rank, days = tail(returns[0], level)
    return np.asarray(_cvar_of_rows(returns, rank, days))


def volatility_annual_each(returns: FloatArray, sessions_per_year: float = SESSIONS_PER_YEAR) -> FloatArray:
    """`volatility_annual` of many series at once: shape (series, days) to (series,). Its series must be finite."""
    return np.asarray(np.std(returns, axis=-1, ddof=1)) * math.sqrt(sessions_per_year)


def _var_of_rows(returns: FloatArray, rank: int) -> FloatArray:
    return np.asarray(np.maximum(0.0, -np.partition(returns, rank - 1, axis=-1)[..., rank - 1]))


def _cvar_of_rows(returns: FloatArray, rank: int, days: float) -> FloatArray:
    worst = np.partition(returns, rank - 1, axis=-1)[..., :rank]
    sums = worst[..., :-1].sum(axis=-1) + (days - (rank - 1)) * worst[..., -1]
    return np.asarray(np.maximum(0.0, -sums / days))


def volatility_annual(returns: FloatArray, sessions_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Standard deviation of daily returns (one degree of freedom less) times the root of the sessions in a year.

    Returns:
        A fraction per year.

    Raises:
        InsufficientHistoryError: fewer than two days. InvalidReturnsError: as `historical_var`.

    Source: Hull, Options, Futures, and Other Derivatives, 10th ed., section 15.4.
    """
    require_returns(returns, 2)
    return float(np.std(returns, ddof=1)) * math.sqrt(sessions_per_year)


def max_drawdown(returns: FloatArray) -> float:
    """Deepest fall of compounded wealth from its highest point so far, the start included.

    Returns:
        A positive fraction of the peak; 0.0 if wealth never fell.

    Raises:
        InsufficientHistoryError: no day. InvalidReturnsError: as `historical_var`.

    Source: Magdon-Ismail & Atiya (2004), Maximum drawdown.
    """
    require_returns(returns, 1)
    wealth = np.concatenate(([1.0], np.cumprod(1.0 + returns)))
    return float(np.max(1.0 - wealth / np.maximum.accumulate(wealth)))


def portfolio_returns(weights: FloatArray, instrument_returns: FloatArray) -> FloatArray:
    """What a portfolio held at constant ``weights`` would have returned each session.

    Args:
        weights: fraction of equity in each instrument, shape (N,), negative for a short; the rest is cash at no return.
        instrument_returns: simple returns, shape (T, N). An instrument of weight zero may lack returns.

    Returns:
        Simple portfolio returns, shape (T,).

    Raises:
        InvalidReturnsError: the shapes do not fit, or a held instrument has a NaN or infinite return.
    """
    if instrument_returns.ndim != 2 or weights.shape != instrument_returns.shape[1:]:
        raise InvalidReturnsError(
            f"weights of shape {weights.shape} do not fit returns of shape {instrument_returns.shape}: "
            "give one weight for each column"
        )
    held = weights != 0
    returns = (instrument_returns[:, held] * weights[held]).sum(axis=-1)
    return require_returns(returns, 0)


def tail(returns: FloatArray, level: float) -> tuple[int, float]:
    """The worst fraction ``1 - level`` of days: how many of them count at all, and their possibly broken number.

    Raises:
        InsufficientHistoryError: fewer than ``1 / (1 - level)`` days. InvalidReturnsError: a level out of [0.5, 1).
    """
    if not 0.5 <= level < 1:
        raise InvalidReturnsError(f"level = {level!r} is not a confidence: give a number in [0.5, 1), such as 0.95")
    least = math.ceil(1 / (1 - level) - _RANK_SLACK)
    if len(returns) < least:
        raise InsufficientHistoryError(f"{len(returns)} returns, but {least} are needed: ingest a longer history")
    days = len(returns) * (1 - level)
    return max(1, math.ceil(days - _RANK_SLACK)), days


def require_returns(returns: FloatArray, days: int) -> FloatArray:
    """One finite series of at least ``days`` returns, or the error that says what is wrong with it."""
    if returns.ndim != 1:
        raise InvalidReturnsError(f"returns have shape {returns.shape}: give one series, shape (days,)")
    bad = np.flatnonzero(~np.isfinite(returns))
    if len(bad):
        raise InvalidReturnsError(
            f"{len(bad)} of {len(returns)} returns are NaN or infinite, the first in row {bad[0]}: "
            "shorten the window or ingest the missing sessions"
        )
    if len(returns) < days:
        raise InsufficientHistoryError(f"{len(returns)} returns, but {days} are needed: ingest a longer history")
    return returns
