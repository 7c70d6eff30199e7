"""The pairs strategy: two instruments that moved together and have come apart are expected to meet again.

Belongs here: choosing pairs, their hedge ratio and z-score, when a position is open, and the scores that follow. Does
not: sizing and trading them (the optimiser hedges by its covariance).

Sources: Gatev, Goetzmann and Rouwenhorst, Pairs Trading (2006), for the distance, the formation and the trading period;
Engle and Granger, Co-integration and Error Correction (1987), for the regression and the test of its residual.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.types import BoolArray, DateArray, FloatArray, IntArray
from octopus.strategy import windows
from octopus.strategy.config import PairsConfig
from octopus.strategy.signals import CLIP

_MONTHS = {"month": 1, "quarter": 3, "half": 6, "year": 12}
_STILL = 1e-10
"""A deviation of logarithms up to here is rounding: the two are one."""


def pairs(panel: Panel, config: PairsConfig) -> FloatArray:
    """Scores of the instruments whose pair is open, shape (T, N); all others abstain.

    At the first session of each period pairs are chosen from the sessions up to it, and traded until the next. The
    first of a pair scores minus its z-score, the second the z-score times the hedge ratio; several pairs of one
    instrument are averaged. Row t uses rows up to t, and none before the formation window of its period.

    Raises:
        ConfigError: a configured pair names an instrument that is not in the panel.
    """
    steps, has_bar = windows.log_steps(panel.total_return), ~np.isnan(panel.close)
    given = _places(config, panel.symbols)
    formation = 0 if config.pairs else config.formation_sessions
    scores = np.full(panel.close.shape, np.nan)
    for first, stop in _periods(panel.sessions, _MONTHS[config.reform]):
        start = first + 1 - max(formation, config.hedge_sessions)
        if start < 0:
            continue
        chosen = given
        if not config.pairs:
            window = slice(first + 1 - formation, first + 1)
            usable = has_bar[window].all(axis=0) & panel.member[first]
            chosen = choose_pairs(np.cumsum(steps[window], axis=0), usable, config)
        if len(chosen):
            block = slice(first + 1 - config.hedge_sessions, stop)
            scores[first:stop] = _period(np.cumsum(steps[block], axis=0), has_bar[block], chosen, config)
    return np.where(panel.member, scores, np.nan)


def choose_pairs(levels: FloatArray, usable: BoolArray, config: PairsConfig) -> IntArray:
    """Columns of the best pairs, shape (pairs, 2), best first; the first is explained by the second.

    Args:
        levels: logarithms of the total-return index over the formation window, shape (sessions, N).
        usable: instruments that may be chosen, shape (N,).
    """
    columns = np.flatnonzero(usable)
    if len(columns) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    known = np.ascontiguousarray(levels[:, columns])
    value = distances(known) if config.choose == "distance" else dickey_fuller(known)
    # Of the two directions of a pair the better one stands; they are equally far apart, and the earlier name explains.
    turned = (value > value.T) | ((value == value.T) & (np.arange(len(columns))[:, None] > np.arange(len(columns))))
    limit = np.inf if config.choose == "distance" else config.dickey_fuller_max
    ranked = np.where(turned | ~(value <= limit), np.inf, value)
    np.fill_diagonal(ranked, np.inf)
    order = np.argsort(ranked, axis=None, kind="stable")[: config.pairs_max]
    order = order[np.isfinite(ranked.ravel()[order])]
    return np.stack([columns[order // len(columns)], columns[order % len(columns)]], axis=1)


def distances(levels: FloatArray) -> FloatArray:
    """Sum of squared differences of the indices that begin at 1, of every two columns, shape (N, N)."""
    index = np.exp(levels - levels[0])
    products = index.T @ index
    size = np.diagonal(products)
    return np.asarray(np.maximum(size[:, None] + size[None, :] - 2.0 * products, 0.0))


def dickey_fuller(levels: FloatArray) -> FloatArray:
    """Dickey–Fuller t-statistic, without lags, of the residual of each column's regression on each other one, (N, N).

    The row is explained by the column. Very negative: they are cointegrated. NaN where the slope is not positive, for
    then two instruments would be held the same way, or where a column does not move.
    """
    centred = levels - levels.mean(axis=0)
    moments = centred.T @ centred
    before, change = centred[:-1], np.diff(centred, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = moments / np.diagonal(moments)[None, :]

        def of_residual(products: FloatArray) -> FloatArray:
            own = np.diagonal(products)
            return np.asarray(own[:, None] - slope * (products + products.T) + slope**2 * own[None, :])

        lagged = of_residual(before.T @ before)
        crossed = of_residual(before.T @ change)
        speed = crossed / lagged
        left = of_residual(change.T @ change) - speed * crossed
        statistic = speed / np.sqrt(left / (len(change) - 1) / lagged)
    floor = _STILL * np.diagonal(moments)[:, None]
    return np.where((slope > 0) & (lagged > floor) & (left > 0), statistic, np.nan)


def hedged(first: FloatArray, second: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
    """Hedge ratio and z-score by least squares of ``first`` on ``second`` over the last ``window`` rows.

    Args:
        first, second: logarithms, shape (window - 1 + L, pairs).

    Returns:
        The slope, and the newest residual over the residuals' standard deviation (two degrees of freedom less), both of
        shape (L, pairs); NaN where either does not move or the slope is not positive.
    """
    views = [np.lib.stride_tricks.sliding_window_view(one, window, axis=0) for one in (first, second)]
    y, x = (view - view.mean(axis=-1, keepdims=True) for view in views)
    xx, xy, yy = (x * x).sum(axis=-1), (x * y).sum(axis=-1), (y * y).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = xy / xx
        spread = np.sqrt(np.maximum(yy - slope * xy, 0.0) / (window - 2))
        score = (y[..., -1] - slope * x[..., -1]) / spread
    known = (xx > 0) & (slope > 0) & (spread > _STILL)
    return np.where(known, slope, np.nan), np.where(known, score, np.nan)


def open_sides(score: FloatArray, config: PairsConfig) -> FloatArray:
    """Side of the spread that is held after each row, shape (L, pairs): 1 long, -1 short, 0 none.

    Opened at ``entry`` or beyond, closed within ``exit`` or on the other side; beyond ``stop`` it is given up, and not
    opened again until the spread has been back.
    """
    return _held(-score, config) - _held(score, config)


def _held(away: FloatArray, config: PairsConfig) -> FloatArray:
    """1 where the position that gains from a falling ``away`` is open."""
    # By the last row of each kind of event: a position's state is which of them was last, and needs no loop.
    entered = _last((away >= config.entry) & (away < config.stop))
    left, stopped = _last(away <= config.exit), _last(away >= config.stop)
    return ((entered > left) & (stopped <= left)).astype(np.float64)


def _last(event: BoolArray) -> IntArray:
    """Number of the last row with an event, from 1; 0 before the first."""
    rows = np.arange(1, len(event) + 1)[:, None]
    return np.asarray(np.maximum.accumulate(np.where(event, rows, 0), axis=0))


def _period(levels: FloatArray, has_bar: BoolArray, chosen: IntArray, config: PairsConfig) -> FloatArray:
    """Scores of one trading period, shape (L, N); the rows given begin a hedge window earlier."""
    back = config.hedge_sessions - 1
    one, other = chosen[:, 0], chosen[:, 1]
    slope, score = hedged(levels[:, one], levels[:, other], config.hedge_sessions)
    both = has_bar[:, one] & has_bar[:, other]
    # A bar at both ends: before an instrument's first one its index stands still, and means nothing.
    score = np.where(both[back:] & both[: len(score)], score, np.nan)
    is_open = (open_sides(score, config) != 0) & ~np.isnan(score)
    total, count = (np.zeros((levels.shape[1], len(score))) for _ in range(2))
    for columns, said in ((one, -score), (other, slope * score)):
        np.add.at(total, columns, np.where(is_open, said, 0.0).T)
        np.add.at(count, columns, is_open.astype(np.float64).T)
    return np.where(count > 0, np.clip(total / np.maximum(count, 1.0), -CLIP, CLIP), np.nan).T


def _periods(sessions: DateArray, months: int) -> Iterator[tuple[int, int]]:
    """First and last row, half-open, of the periods that begin inside the panel: the calendar's, wherever it starts."""
    number = sessions.astype("datetime64[M]").astype(np.int64) // months
    starts = np.flatnonzero(np.diff(number)) + 1
    yield from zip(starts.tolist(), [*starts[1:].tolist(), len(sessions)], strict=True)


def _places(config: PairsConfig, symbols: tuple[str, ...]) -> IntArray:
    place = {name: column for column, name in enumerate(symbols)}
    for name in (name for pair in config.pairs for name in pair):
        if name not in place:
            raise ConfigError(
                where="strategy", field="pairs.pairs", value=name,
                remedy="it is not in the universe: add it to config/universe.yaml or take the pair out",
            )  # fmt: skip
    found = [(place[one], place[other]) for one, other in config.pairs]
    return np.array(found, dtype=np.int64).reshape(-1, 2)
