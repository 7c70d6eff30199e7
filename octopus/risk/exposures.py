"""What a portfolio is exposed to: the market, factors, sectors, few names, and its own size.

Belongs here: exposures of a set of weights or positions. Does not: losses (measures.py), scenarios (stress.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from octopus.core.types import FloatArray
from octopus.risk.measures import InsufficientHistoryError, InvalidReturnsError

UNKNOWN_SECTOR = "unknown"


def betas(instrument_returns: FloatArray, market_returns: FloatArray) -> FloatArray:
    """Covariance with the market over its variance, for each instrument, over the days that it has.

    Args:
        instrument_returns: simple returns, shape (T, N), NaN where there is none. market_returns: shape (T,), finite.

    Returns:
        Shape (N,); NaN for an instrument with fewer than 20 days.

    Source: Sharpe (1964); least squares with a constant.
    """
    if not np.isfinite(market_returns).all():
        raise InvalidReturnsError("a return of the market is missing: choose a window in which it is complete")
    known = np.isfinite(instrument_returns)
    count = known.sum(axis=0)
    days = np.maximum(count, 1)
    ours, market = np.where(known, instrument_returns, 0.0), np.where(known, market_returns[:, None], 0.0)
    market_mean = market.sum(axis=0) / days
    covariance = (ours * market).sum(axis=0) / days - ours.sum(axis=0) / days * market_mean
    variance = (market**2).sum(axis=0) / days - market_mean**2
    usable = (count >= 20) & (variance > 0)
    return np.where(usable, covariance / np.where(usable, variance, 1.0), np.nan)


@dataclass(frozen=True, eq=False)
class FactorExposures:
    """Statistical factors: the principal components of the instruments' daily returns.

    Attributes:
        exposures: one-sigma daily move of the portfolio with each factor, fractions of equity, shape (k,); signed so
            that most instruments rise with a factor.
        variance_shares: part of the portfolio's variance that each factor explains, shape (k,).
        specific_share: the part that none of the k explains.
        loadings: daily return of each instrument for one sigma of each factor, shape (N, k).
    """

    exposures: FloatArray
    variance_shares: FloatArray
    specific_share: float
    loadings: FloatArray


def factor_exposures(weights: FloatArray, instrument_returns: FloatArray, count: int = 3) -> FactorExposures:
    """Exposure of a portfolio to the first ``count`` principal components of the covariance.

    Args:
        weights: shape (N,). instrument_returns: shape (T, N), finite.

    Raises:
        InsufficientHistoryError: fewer instruments or days than factors. InvalidReturnsError: a missing return.

    Source: Connor & Korajczyk (1986), Performance measurement with the arbitrage pricing theory.
    """
    if not np.isfinite(instrument_returns).all():
        raise InvalidReturnsError("a return is missing: leave instruments without a full window out")
    if not 1 <= count <= min(len(weights), len(instrument_returns) - 1):
        raise InsufficientHistoryError(
            f"{count} factors need as many instruments and more days than that, got {instrument_returns.shape[::-1]}"
        )
    covariance = np.atleast_2d(np.cov(instrument_returns, rowvar=False))
    values, vectors = np.linalg.eigh(covariance)
    loadings = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1][:, :count]
    signs = np.where(loadings.sum(axis=0) < 0, -1.0, 1.0)
    loadings = loadings * signs
    exposures = weights @ loadings
    variance = float(weights @ covariance @ weights)
    shares = exposures**2 / variance if variance > 0 else np.zeros(count)
    return FactorExposures(exposures, shares, float(max(0.0, 1 - shares.sum())) if variance > 0 else 0.0, loadings)


@dataclass(frozen=True)
class SectorExposure:
    """Fractions of equity in one sector."""

    sector: str
    gross: float
    net: float


def sector_exposures(
    weights: FloatArray, symbols: Sequence[str], sectors: Mapping[str, str]
) -> tuple[SectorExposure, ...]:
    """Gross and net weight by sector, largest gross first; names without a sector stand under ``unknown``."""
    found: dict[str, list[float]] = {}
    for name, weight in zip(symbols, weights.tolist(), strict=True):
        if weight != 0:
            found.setdefault(sectors.get(name, UNKNOWN_SECTOR), []).append(weight)
    exposures = [SectorExposure(s, sum(abs(w) for w in parts), sum(parts)) for s, parts in found.items()]
    return tuple(sorted(exposures, key=lambda e: (-e.gross, e.sector)))


@dataclass(frozen=True)
class Concentration:
    """How much stands in few names.

    Attributes:
        hhi: Herfindahl–Hirschman index of the names' shares of gross exposure: 1/N for N equal names, 1 for one.
        effective_names: its inverse.
        top: share of gross exposure in the largest ``top_count`` names.
    """

    hhi: float
    effective_names: float
    top: float
    top_count: int


def concentration(weights: FloatArray, top_count: int = 5) -> Concentration:
    """Concentration of a portfolio; all zero without a position.

    Source: Hirschman (1964), The Paternity of an Index.
    """
    gross = np.abs(weights).sum()
    if gross == 0:
        return Concentration(0.0, 0.0, 0.0, top_count)
    shares = np.sort(np.abs(weights) / gross)[::-1]
    hhi = float((shares**2).sum())
    return Concentration(hhi, 1 / hhi, float(shares[:top_count].sum()), top_count)


@dataclass(frozen=True, eq=False)
class Liquidity:
    """How long it takes to sell everything.

    Attributes:
        days: by name, shape (N,): sessions at the participation; 0.0 without a position, infinite without volume.
        days_all: the slowest name. days_95: until 95 % of the gross value is sold, all names sold side by side.
    """

    days: FloatArray
    days_all: float
    days_95: float


def liquidity(shares: FloatArray, prices: FloatArray, adv_shares: FloatArray, participation: float) -> Liquidity:
    """Sessions to liquidate at a fraction of the average daily volume.

    Args:
        shares: signed positions, shape (N,). prices, adv_shares: shape (N,); a volume that is NaN or zero is unknown.
        participation: fraction of a day's volume that may be ours, in (0, 1].

    Source: Jorion, Value at Risk, 3rd ed., section 13.3 (the liquidation horizon without its cost).
    """
    if not 0 < participation <= 1:
        raise InvalidReturnsError(f"participation = {participation!r}: give a fraction of volume in (0, 1]")
    held = np.abs(shares) > 0
    capacity = np.where(np.isfinite(adv_shares), adv_shares, 0.0) * participation
    with np.errstate(divide="ignore", invalid="ignore"):
        days = np.where(held, np.abs(shares) / capacity, 0.0)
    if not held.any():
        return Liquidity(days, 0.0, 0.0)
    return Liquidity(days, float(days.max()), _days_until(0.95, np.abs(shares * prices)[held], days[held]))


def _days_until(part: float, values: FloatArray, days: FloatArray) -> float:
    """When ``part`` of the summed values is sold, each name at its own steady pace: linear between its ends."""
    wanted = part * values.sum()
    ends = np.unique(days)
    with np.errstate(invalid="ignore"):
        sold = np.minimum(ends[:, None] / days, 1.0)
    sold = np.where(np.isinf(days), 0.0, np.where(days == 0, 1.0, sold)) @ values
    if sold[np.isfinite(ends)].max(initial=0.0) < wanted * (1 - 1e-12):
        return float("inf")
    return float(np.interp(wanted, np.concatenate(([0.0], sold)), np.concatenate(([0.0], ends))))
