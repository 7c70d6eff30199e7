"""The features: declared expressions over a point-in-time panel.

Belongs here: what each feature is, and computing all of them. Does not: window arithmetic (windows.py), signals.

Row t of every feature uses rows up to t and no others, bit for bit the same whether or not the panel goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.types import BoolArray, DateArray, FloatArray
from octopus.strategy import windows


@dataclass(frozen=True, eq=False)
class FeatureCube:
    """Features of every instrument on every session.

    Attributes:
        values: shape (T, N, F), float64; NaN where a feature cannot be computed.
    """

    sessions: DateArray
    symbols: tuple[str, ...]
    names: tuple[str, ...]
    values: FloatArray

    def of(self, name: str) -> FloatArray:
        """One feature, shape (T, N)."""
        return np.asarray(self.values[:, :, self.names.index(name)])

    def until_row(self, stop: int) -> FeatureCube:
        """The first ``stop`` sessions."""
        return FeatureCube(self.sessions[:stop], self.symbols, self.names, self.values[:stop])


class _Inputs:
    """What several features are made of, computed once for a panel."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    @cached_property
    def returns(self) -> FloatArray:
        return np.asarray(self.panel.total_return)

    @cached_property
    def log_index(self) -> FloatArray:
        """Logarithm of the total-return index, 0 at an instrument's first bar; NaN where there is no bar."""
        has_bar = ~np.isnan(self.panel.close)
        steps = np.where(np.isnan(self.returns), 0.0, np.log1p(np.where(np.isnan(self.returns), 0.0, self.returns)))
        return np.where(has_bar, np.cumsum(steps, axis=0), np.nan)

    @cached_property
    def market(self) -> FloatArray:
        """Mean return of the members, shape (T, 1)."""
        inside = self.panel.member & ~np.isnan(self.returns)
        count = inside.sum(axis=1, keepdims=True)
        total = np.where(inside, self.returns, 0.0).sum(axis=1, keepdims=True)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def total_return(self, sessions: int) -> FloatArray:
        """Total return over the last ``sessions`` sessions."""
        return np.expm1(self.log_index - windows.lagged(self.log_index, sessions))

    def beta(self, window: int) -> FloatArray:
        """Slope of returns on the market's over the window."""
        product = windows.mean(self.returns * self.market, window)
        market_mean, own_mean = windows.mean(self.market, window), windows.mean(self.returns, window)
        variance = windows.mean(self.market**2, window) - market_mean**2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(variance > 0, (product - own_mean * market_mean) / variance, np.nan)


@dataclass(frozen=True)
class Feature:
    """One declared expression.

    Attributes:
        inputs: panel fields it reads. window: sessions it looks back, the current one included.
    """

    name: str
    inputs: tuple[str, ...]
    window: int
    description: str
    compute: Callable[[_Inputs], FloatArray]


def _returns(sessions: int) -> Feature:
    return Feature(
        f"return_{sessions}", ("total_return",), sessions + 1, f"total return over {sessions} sessions",
        lambda x: x.total_return(sessions),
    )  # fmt: skip


def cross_sectional_rank(values: FloatArray, member: BoolArray) -> FloatArray:
    """Rank among the session's members with a value, from -0.5 to 0.5, ties averaged; NaN elsewhere. Shape (T, N)."""
    from scipy.stats import rankdata

    inside = np.where(member, values, np.nan)
    ranks = rankdata(inside, axis=1, nan_policy="omit")
    count = (~np.isnan(inside)).sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isnan(inside) | (count < 2), np.nan, (ranks - 1) / (count - 1) - 0.5)


def _reversal(x: _Inputs) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-x.total_return(5) / (windows.std(x.returns, 63) * np.sqrt(5.0)))


def _idiosyncratic(x: _Inputs) -> FloatArray:
    residual = windows.std(x.returns, 63) ** 2 - x.beta(63) ** 2 * windows.std(x.market, 63) ** 2
    return np.sqrt(np.maximum(residual, 0.0))


def _month_turn(x: _Inputs) -> FloatArray:
    """1 on a month's first three sessions and 0 otherwise: known without looking ahead."""
    month = x.panel.sessions.astype("datetime64[M]").astype(np.int64)
    starts = np.flatnonzero(np.r_[True, month[1:] != month[:-1]]) if len(month) else np.array([], dtype=np.int64)
    since = np.arange(len(month)) - starts[np.searchsorted(starts, np.arange(len(month)), side="right") - 1]
    return np.repeat((since < 3).astype(float)[:, None], len(x.panel.symbols), axis=1)


def _volume_ratio(x: _Inputs) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return windows.mean(x.panel.volume, 5) / windows.mean(x.panel.volume, 63)


FEATURES: tuple[Feature, ...] = (
    *(_returns(sessions) for sessions in (1, 5, 10, 21, 63, 126, 252)),
    Feature("momentum_12_1", ("total_return",), 253, "total return from 252 to 21 sessions ago",
            lambda x: np.expm1(windows.lagged(x.log_index, 21) - windows.lagged(x.log_index, 252))),
    Feature("volatility_21", ("total_return",), 22, "standard deviation of daily returns, 21 sessions",
            lambda x: windows.std(x.returns, 21)),
    Feature("volatility_63", ("total_return",), 64, "standard deviation of daily returns, 63 sessions",
            lambda x: windows.std(x.returns, 63)),
    Feature("downside_63", ("total_return",), 64, "root mean square of negative daily returns, 63 sessions",
            lambda x: windows.downside_std(x.returns, 63)),
    Feature("skewness_63", ("total_return",), 64, "skewness of daily returns, 63 sessions",
            lambda x: windows.skewness(x.returns, 63)),
    Feature("autocorrelation_63", ("total_return",), 64, "first-order autocorrelation of daily returns, 63 sessions",
            lambda x: windows.autocorrelation(x.returns, 63)),
    Feature("from_high_252", ("total_return",), 252, "distance from the highest index of 252 sessions",
            lambda x: np.expm1(x.log_index - windows.maximum(x.log_index, 252))),
    Feature("reversal_5", ("total_return",), 64, "minus the 5-session return over its volatility",
    _reversal), Feature("beta_63", ("total_return", "member"), 64, "slope on the members' mean return, 63 sessions",
            lambda x: x.beta(63)),
    Feature("idiosyncratic_63", ("total_return", "member"), 64, "volatility that the slope leaves over",
    _idiosyncratic), Feature("rank_momentum", ("total_return", "member"), 253, "rank of momentum_12_1 among members",
            lambda x: cross_sectional_rank(
                windows.lagged(x.log_index, 21) - windows.lagged(x.log_index, 252), x.panel.member)),
    Feature("rank_return_5", ("total_return", "member"), 6, "rank of return_5 among the members",
            lambda x: cross_sectional_rank(x.total_return(5), x.panel.member)),
    Feature("rank_volatility", ("total_return", "member"), 64, "rank of volatility_63 among the members",
            lambda x: cross_sectional_rank(windows.std(x.returns, 63), x.panel.member)),
    Feature("turn_of_month", (), 3, "1 on a month's first three sessions", _month_turn),
    Feature("volume_ratio", ("volume",), 63, "mean volume of 5 sessions over that of 63", _volume_ratio),
    Feature("sentiment", ("sentiment",), 1, "decayed sentiment of texts known by the decision",
            lambda x: np.asarray(x.panel.sentiment)),
)  # fmt: skip
"""Every feature, in the order of the cube."""


def compute_features(panel: Panel, names: Sequence[str] | None = None) -> FeatureCube:
    """All features, or those named, of every instrument on every session of ``panel``.

    Raises:
        ConfigError: a name that is no feature.
    """
    by_name = {feature.name: feature for feature in FEATURES}
    chosen = list(names) if names is not None else list(by_name)
    for name in chosen:
        if name not in by_name:
            raise ConfigError(
                where="features", field="name", value=name, remedy=f"use one of {', '.join(sorted(by_name))}"
            )
    inputs = _Inputs(panel)
    values = np.empty((len(panel.sessions), len(panel.symbols), len(chosen)))
    for index, name in enumerate(chosen):
        values[:, :, index] = by_name[name].compute(inputs)
    return FeatureCube(panel.sessions, panel.symbols, tuple(chosen), values)
