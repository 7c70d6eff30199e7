"""Trials: every strategy, model or parameter set that was looked at on some data, and how far they deflate the best.

Belongs here: what a trial is, how many different ones there were, and the deflated Sharpe ratio that follows. Does not:
remembering them (resources/warehouse/trials.py), the ratio's formula (stats.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import numpy as np

from octopus.core.ids import fingerprint
from octopus.core.stats import SESSIONS_PER_YEAR, deflated_sharpe, moments, overfitting_probability, sharpe
from octopus.core.types import FloatArray, IntArray

Kind = Literal["model", "search", "backtest", "sweep"]
MODELS: tuple[Kind, ...] = ("model", "search")
STRATEGIES: tuple[Kind, ...] = ("backtest", "sweep")
"""Kinds that luck chooses among together: models by their spread, strategies by their net returns."""

ALIKE = 0.5
"""Trials whose returns correlate at least so much on average are one."""
CLUSTERED_AT_MOST = 2000
PBO_LEAST_TRIALS = 10
PBO_BLOCKS = 16


@dataclass(frozen=True, eq=False)
class Trial:
    """One parameter set that was measured on one stretch of data.

    Attributes:
        name: as its user calls it; it is no part of the trial's identity.
        parameters: everything that was chosen. source: of the market data.
        returns: of each session that was measured, up to ``last_session``, fractions, shape (sessions,), finite.
    """

    kind: Kind
    name: str
    parameters: Mapping[str, Any]
    source: str
    first_session: date
    last_session: date
    returns: FloatArray = field(repr=False)

    @property
    def trial_id(self) -> str:
        """The same for the same parameters on data from the same source and day on: neither another name, nor another
        day at the end, nor whether it was one of many makes a new trial of it."""
        return fingerprint(self.parameters, self.source, self.first_session)

    @property
    def sharpe(self) -> float:
        """Per session; NaN where it has none."""
        return sharpe(self.returns, 1.0)


@dataclass(frozen=True)
class Deflation:
    """How a chosen strategy looks among all that were tried.

    Attributes:
        raw, clustered: trials, and trials that differ from each other; both at least 1.
        by_raw, by_clustered: probability that the Sharpe ratio is not luck, given so many; NaN where it has none.
        pbo: probability that the best of them inside is below their middle outside; NaN below `PBO_LEAST_TRIALS`.
    """

    raw: int
    clustered: int
    by_raw: float
    by_clustered: float
    pbo: float

    @property
    def deflated_sharpe(self) -> float:
        """The less favourable of the two: many kindred trials have little spread, few different ones little number."""
        return min(self.by_raw, self.by_clustered) if not math.isnan(self.by_raw) else math.nan


def deflate(
    chosen: FloatArray,
    trials: Sequence[Trial],
    tried_before: int = 0,
    spread_before: float = 0.0,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> Deflation:
    """The deflated Sharpe ratio of ``chosen`` among ``trials``, the chosen one among them.

    Of the clusters, each stands with the mean of its returns: the variance of their Sharpe ratios is what luck had to
    choose from. A variance is never taken for less than that of estimates by chance, 1 / sessions.

    Args:
        chosen: net returns, shape (sessions,). tried_before: trials whose returns nobody kept; spread_before: standard
            deviation of their annual Sharpe ratios, as far as anybody remembers. sessions_per_year: of the calendar.

    Source: Bailey and López de Prado, The Deflated Sharpe Ratio (2014); López de Prado and Lewis, Detection of False
    Investment Strategies Using Unsupervised Learning Methods (2019), for counting by clusters of correlation.
    """
    known = chosen[np.isfinite(chosen)]
    matrix = aligned(trials)
    labels = clusters(matrix)
    raw, clustered = max(len(trials), 1) + tried_before, max(len(set(labels.tolist())), 1) + tried_before
    observed = sharpe(known, 1.0)
    if math.isnan(observed):
        return Deflation(raw, clustered, math.nan, math.nan, _pbo(matrix))
    skewness, kurtosis = moments(known)

    def against(sharpes: list[float], count: int) -> float:
        finite = [value for value in sharpes if math.isfinite(value)]
        remembered = spread_before**2 / sessions_per_year if tried_before else 0.0
        variance = max(float(np.var(finite)) if finite else 0.0, 1.0 / len(known), remembered)
        return deflated_sharpe(observed, len(known), skewness, kurtosis, variance, count)

    means = [_mean_of_days(matrix[labels == label]) for label in sorted(set(labels.tolist()))]
    return Deflation(
        raw,
        clustered,
        against([trial.sharpe for trial in trials], raw),
        against([sharpe(mean, 1.0) for mean in means], clustered),
        _pbo(matrix),
    )


def aligned(trials: Sequence[Trial]) -> FloatArray:
    """Returns of all trials on a common run of days, shape (trials, days); NaN where one has none.

    A trial's sessions end on its last one and have no gap, so that only the distance of the last ones must be known: it
    is counted in weekdays, which is right up to holidays, or in days where a trial has more sessions than weekdays.
    """
    if not trials:
        return np.zeros((0, 0))
    last = max(trial.last_session for trial in trials)
    week = "1111111" if any(_is_daily(trial) for trial in trials) else "1111100"
    back = [int(np.busday_count(trial.last_session, last, weekmask=week)) for trial in trials]
    length = max(len(trial.returns) + late for trial, late in zip(trials, back, strict=True))
    matrix = np.full((len(trials), length), np.nan)
    for row, (trial, late) in enumerate(zip(trials, back, strict=True)):
        matrix[row, length - late - len(trial.returns) : length - late] = trial.returns
    return matrix


def _is_daily(trial: Trial) -> bool:
    """Whether a trial's sessions must lie on weekends too; what it has returns of, its first session may not count."""
    return len(trial.returns) > int(np.busday_count(trial.first_session, trial.last_session)) + 1


def clusters(matrix: FloatArray) -> IntArray:
    """The cluster of each row of returns, shape (rows,): average linkage over 1 − correlation, cut at `ALIKE`.

    Beyond `CLUSTERED_AT_MOST` rows the rest stand alone, so that their number is never taken for too small.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    count = len(matrix)
    if count < 2:
        return np.zeros(count, dtype=np.int64)
    part = matrix[:CLUSTERED_AT_MOST]
    centred = np.nan_to_num(part - np.nanmean(part, axis=1, keepdims=True))
    size = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = centred / np.where(size > 0, size, 1.0)
    distance = np.clip(1.0 - unit @ unit.T, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average")
    found = fcluster(tree, 1.0 - ALIKE, criterion="distance").astype(np.int64)
    alone = np.arange(count - len(part), dtype=np.int64) + int(found.max()) + 1
    return np.concatenate([found, alone])


def _pbo(matrix: FloatArray) -> float:
    """Over the days that all trials have."""
    whole = matrix[:, np.isfinite(matrix).all(axis=0)] if matrix.size else matrix
    if len(whole) < PBO_LEAST_TRIALS or whole.shape[1] < 2 * PBO_BLOCKS:
        return math.nan
    return overfitting_probability(whole.T, PBO_BLOCKS)


def _mean_of_days(rows: FloatArray) -> FloatArray:
    """Mean over the rows that have a day, of the days that any has."""
    known = np.isfinite(rows)
    days = known.any(axis=0)
    total = np.where(known, rows, 0.0).sum(axis=0)[days]
    return np.asarray(total / known.sum(axis=0)[days])
