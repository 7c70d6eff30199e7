"""Where a portfolio's risk comes from: the part of each name, and what a little more of it would change.

Belongs here: marginal and component volatility, VaR and CVaR. Does not: the measures of the whole (measures.py).

Volatility, VaR and CVaR are homogeneous of degree one in the weights, so that by Euler's theorem the components (weight
times marginal) sum to the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from octopus.core.stats import SESSIONS_PER_YEAR
from octopus.core.types import FloatArray
from octopus.risk.measures import portfolio_returns, tail


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A measure by name.

    Attributes:
        total: the measure as a fraction of equity, signed: a negative VaR or CVaR is a gain (`measures` says 0.0 then).
        marginal: change of the measure for one unit more weight in the name, shape (N,).
        component: weight × marginal, shape (N,); sums to ``total``.
    """

    total: float
    marginal: FloatArray
    component: FloatArray


def volatility_components(
    weights: FloatArray,
    instrument_returns: FloatArray,
    sessions_per_year: float = SESSIONS_PER_YEAR,
    *,
    portfolio: FloatArray | None = None,
) -> Decomposition:
    """Annual volatility: the marginal is the covariance with the portfolio over its volatility.

    Args:
        weights: fractions of equity, shape (N,). instrument_returns: shape (T, N), finite where a weight is not zero.
        portfolio: `portfolio_returns` of both, where the caller has it.

    Source: Litterman (1996), Hot Spots and Hedges.
    """
    if portfolio is None:
        portfolio = portfolio_returns(weights, instrument_returns)
    held = weights != 0
    centred = portfolio - portfolio.mean()
    covariances = np.zeros(len(weights))
    # The returns themselves need no centring beside a centred series.
    covariances[held] = centred @ instrument_returns[:, held] / (len(portfolio) - 1)
    spread = math.sqrt(float(centred @ centred) / (len(portfolio) - 1))
    marginal = (covariances / spread if spread > 0 else np.zeros(len(weights))) * math.sqrt(sessions_per_year)
    return Decomposition(spread * math.sqrt(sessions_per_year), marginal, weights * marginal)


def var_components(
    weights: FloatArray, instrument_returns: FloatArray, level: float = 0.95, *, portfolio: FloatArray | None = None
) -> Decomposition:
    """Historical VaR: what each name lost on the day that is the VaR.

    One day decides, so the parts jump from date to date; `cvar_components` averages over the tail and is steadier.

    Source: Hallerbach (2003), Decomposing portfolio value-at-risk, section 4.
    """
    if portfolio is None:
        portfolio = portfolio_returns(weights, instrument_returns)
    rank, _ = tail(portfolio, level)
    day = int(np.argsort(portfolio, kind="stable")[rank - 1])
    return _losses(weights, np.where(weights != 0, instrument_returns[day], 0.0))


def cvar_components(
    weights: FloatArray, instrument_returns: FloatArray, level: float = 0.95, *, portfolio: FloatArray | None = None
) -> Decomposition:
    """Historical CVaR: what each name lost on average over the worst days, the last of them counted in part.

    Source: Tasche (1999), Risk contributions and performance measurement.
    """
    if portfolio is None:
        portfolio = portfolio_returns(weights, instrument_returns)
    rank, days = tail(portfolio, level)
    worst = np.argsort(portfolio, kind="stable")[:rank]
    parts = np.ones(rank)
    parts[-1] = days - (rank - 1)
    losses = parts @ np.where(weights != 0, instrument_returns[worst], 0.0) / days
    return _losses(weights, losses)


def _losses(weights: FloatArray, returns: FloatArray) -> Decomposition:
    component = -weights * returns
    return Decomposition(float(component.sum()), -returns, component)
