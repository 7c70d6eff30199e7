"""The features: declared expressions over a point-in-time panel.

Belongs here: what each feature is, and computing all of them. Does not: window arithmetic (windows.py), signals.

Row t of every feature uses the ``window`` rows up to t and no others: it has the same bits whether or not the panel
goes on, and wherever it starts. A missing bar inside a window gives NaN, except for returns, which need both ends only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.stats import centred_ranks
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
        self._volatility: dict[int, FloatArray] = {}

    @cached_property
    def returns(self) -> FloatArray:
        return np.ascontiguousarray(self.panel.total_return)

    @cached_property
    def has_bar(self) -> BoolArray:
        return np.asarray(~np.isnan(self.panel.close))

    @cached_property
    def steps(self) -> FloatArray:
        return windows.log_steps(self.returns)

    @cached_property
    def market(self) -> FloatArray:
        """Mean return of the members, shape (T, 1)."""
        inside = np.ascontiguousarray(self.panel.member & ~np.isnan(self.returns))
        count = inside.sum(axis=1, keepdims=True)
        total = np.where(inside, self.returns, 0.0).sum(axis=1, keepdims=True)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    @cached_property
    def beta(self) -> FloatArray:
        """Slope on the market over a quarter."""
        return windows.slope(self.returns, self.market, _QUARTER)

    @cached_property
    def momentum(self) -> FloatArray:
        """Logarithm of the growth from 252 to 21 sessions ago."""
        return windows.log_growth(self.steps, self.has_bar, 252, 21)

    @cached_property
    def traded(self) -> FloatArray:
        """Close times volume: unlike shares, not moved by a split."""
        return np.asarray(self.panel.worth * self.panel.volume)

    def total_return(self, sessions: int) -> FloatArray:
        """Total return over the last ``sessions`` sessions."""
        return np.expm1(windows.log_growth(self.steps, self.has_bar, sessions))

    def volatility(self, window: int) -> FloatArray:
        """Standard deviation of daily returns."""
        if window not in self._volatility:
            self._volatility[window] = windows.std(self.returns, window)
        return self._volatility[window]


@dataclass(frozen=True)
class Feature:
    """One declared expression.

    Attributes:
        inputs: panel fields it reads. window: rows it looks back, the current one included.
        lag: the newest row it reads, in rows before the current one.
    """

    name: str
    inputs: tuple[str, ...]
    window: int
    description: str
    compute: Callable[[_Inputs], FloatArray]
    lag: int = 0


_RETURNS = ("close", "total_return")
_AMONG = (*_RETURNS, "member")
_QUARTER = 63


def _returns(sessions: int) -> Feature:
    return Feature(
        f"return_{sessions}", _RETURNS, sessions + 1, f"total return over {sessions} sessions",
        lambda x: x.total_return(sessions),
    )  # fmt: skip


def cross_sectional_rank(values: FloatArray, member: BoolArray) -> FloatArray:
    """Rank among the session's members with a value, from -0.5 to 0.5, ties averaged; NaN elsewhere. Shape (T, N)."""
    return centred_ranks(np.where(member, values, np.nan))


def _reversal(x: _Inputs) -> FloatArray:
    spread = x.volatility(_QUARTER) * np.sqrt(5.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, -x.total_return(5) / spread, np.nan)


def _idiosyncratic(x: _Inputs) -> FloatArray:
    residual = x.volatility(_QUARTER) ** 2 - x.beta**2 * windows.std(x.market, _QUARTER) ** 2
    return np.sqrt(np.maximum(residual, 0.0))


def _month_turn(x: _Inputs) -> FloatArray:
    """1 on a month's first three sessions and 0 otherwise, NaN on the first rows: known without looking ahead."""
    month = x.panel.sessions.astype("datetime64[M]").astype(np.float64)[:, None]
    before = windows.lagged(month, 3)
    flag = np.where(np.isnan(before), np.nan, (month != before).astype(np.float64))
    return np.repeat(flag, len(x.panel.symbols), axis=1)


def _volume_ratio(x: _Inputs) -> FloatArray:
    usual = windows.mean(x.traded, _QUARTER)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(usual > 0, windows.mean(x.traded, 5) / usual, np.nan)


FEATURES: tuple[Feature, ...] = (
    *(_returns(sessions) for sessions in (1, 5, 10, 21, 63, 126, 252)),
    Feature("momentum_12_1", _RETURNS, 253, "total return from 252 to 21 sessions ago",
            lambda x: np.expm1(x.momentum), lag=21),
    Feature("volatility_21", ("total_return",), 21, "standard deviation of daily returns, 21 sessions",
            lambda x: x.volatility(21)),
    Feature("volatility_63", ("total_return",), 63, "standard deviation of daily returns, 63 sessions",
            lambda x: x.volatility(63)),
    Feature("downside_63", ("total_return",), 63, "root mean square of negative daily returns, 63 sessions",
            lambda x: windows.downside_std(x.returns, 63)),
    Feature("skewness_63", ("total_return",), 63, "skewness of daily returns, 63 sessions",
            lambda x: windows.skewness(x.returns, 63)),
    Feature("autocorrelation_63", ("total_return",), 63, "first-order autocorrelation of daily returns, 63 sessions",
            lambda x: windows.autocorrelation(x.returns, 63)),
    Feature("from_high_252", _RETURNS, 252, "distance from the highest index of 252 sessions",
            lambda x: np.expm1(windows.log_below_high(x.steps, x.has_bar, 252))),
    Feature("reversal_5", _RETURNS, 63, "minus the 5-session return over its volatility", _reversal),
    Feature("beta_63", ("total_return", "member"), 63, "slope on the members' mean return, 63 sessions",
            lambda x: x.beta),
    Feature("idiosyncratic_63", ("total_return", "member"), 63, "volatility that the slope leaves over",
            _idiosyncratic),
    Feature("rank_momentum", _AMONG, 253, "rank of momentum_12_1 among the members",
            lambda x: cross_sectional_rank(x.momentum, x.panel.member)),
    Feature("rank_return_5", _AMONG, 6, "rank of return_5 among the members",
            lambda x: cross_sectional_rank(x.total_return(5), x.panel.member)),
    Feature("rank_volatility", ("total_return", "member"), 63, "rank of volatility_63 among the members",
            lambda x: cross_sectional_rank(x.volatility(63), x.panel.member)),
    Feature("turn_of_month", (), 4, "1 on a month's first three sessions", _month_turn),
    Feature("volume_ratio", ("close", "volume"), 63, "mean traded value of 5 sessions over that of 63", _volume_ratio),
    Feature("dollar_volume_21", ("close", "volume"), 21, "mean traded value of 21 sessions, in the base currency",
            lambda x: windows.mean(x.traded, 21)),
    Feature("sentiment", ("sentiment",), 1, "decayed sentiment of texts known by the decision",
            lambda x: np.asarray(x.panel.sentiment)),
    Feature("sentiment_change_5", ("sentiment",), 6, "sentiment less that of 5 sessions ago",
            lambda x: x.panel.sentiment - windows.lagged(x.panel.sentiment, 5)),
)  # fmt: skip
"""Every feature, in the order of the cube."""

LONGEST_WINDOW = max(feature.window for feature in FEATURES)


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
