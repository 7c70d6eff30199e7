"""The 158 columns of Qlib's Alpha158, declared as expressions, and the bars that they are computed of.

Belongs here: what each column is. Does not: operators and evaluation (expressions.py).

Names, order and definitions are those of Qlib 0.9.7 (Alpha158DL with its default configuration), and so are the values,
up to the rounding of Qlib's float32, where no bar is missing in the window (tests/strategy/data/README.md has the
figures). Where one is missing, Qlib counts the session: as neither up nor down in CNTP, CNTN and CNTD, as the position
of the extreme itself in IMAX, IMIN and IMXD. Here it is no observation, as in the other columns; and on the session
itself all columns are missing, where Qlib goes on with some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.strategy import expressions as e
from octopus.strategy.expressions import Expression, Feature, compute_columns
from octopus.strategy.features import FeatureCube

WINDOWS = (5, 10, 20, 30, 60)
_TINY = 1e-12
"""Keeps a denominator from 0."""

_open, _high, _low, _close, _volume, _vwap = map(e.bar, ("open", "high", "low", "close", "volume", "vwap"))
_range = _high - _low + _TINY
_before, _volume_before = e.ref(_close, 1), e.ref(_volume, 1)
_turnover_move = e.absolute(_close / _before - 1.0) * _volume

_CANDLE: tuple[Feature, ...] = (
    Feature("KMID", "body over open", (_close - _open) / _open),
    Feature("KLEN", "range over open", (_high - _low) / _open),
    Feature("KMID2", "body over range", (_close - _open) / _range),
    Feature("KUP", "upper shadow over open", (_high - e.greater(_open, _close)) / _open),
    Feature("KUP2", "upper shadow over range", (_high - e.greater(_open, _close)) / _range),
    Feature("KLOW", "lower shadow over open", (e.less(_open, _close) - _low) / _open),
    Feature("KLOW2", "lower shadow over range", (e.less(_open, _close) - _low) / _range),
    Feature("KSFT", "close above the middle of the range, twice, over open", (2.0 * _close - _high - _low) / _open),
    Feature("KSFT2", "close above the middle of the range, twice, over range", (2.0 * _close - _high - _low) / _range),
)

_PRICES: tuple[Feature, ...] = (
    Feature("OPEN0", "open over close", _open / _close),
    Feature("HIGH0", "high over close", _high / _close),
    Feature("LOW0", "low over close", _low / _close),
    Feature("VWAP0", "volume-weighted average price over close", _vwap / _close),
)


def _moves(x: Expression, before: Expression, window: int) -> tuple[Expression, Expression, Expression]:
    """Sums of rises, of falls, and of both, the last with a tiny number added."""
    rises = e.total(e.greater(x - before, 0.0), window)
    falls = e.total(e.greater(before - x, 0.0), window)
    return rises, falls, e.total(e.absolute(x - before), window) + _TINY


def _share(x: Expression, before: Expression, kind: str) -> Callable[[int], Expression]:
    def of(window: int) -> Expression:
        rises, falls, both = _moves(x, before, window)
        return {"rises": rises, "falls": falls, "net": rises - falls}[kind] / both

    return of


_ROLLING: tuple[tuple[str, str, Callable[[int], Expression]], ...] = (
    ("ROC", "close of {} rows ago over close", lambda w: e.ref(_close, w) / _close),
    ("MA", "mean close over close", lambda w: e.mean(_close, w) / _close),
    ("STD", "standard deviation of close over close", lambda w: e.std(_close, w) / _close),
    ("BETA", "slope of close on time over close", lambda w: e.slope(_close, w) / _close),
    ("RSQR", "squared correlation of close with time", lambda w: e.r_squared(_close, w)),
    ("RESI", "close less its line over time, over close", lambda w: e.residual(_close, w) / _close),
    ("MAX", "highest high over close", lambda w: e.highest(_high, w) / _close),
    ("MIN", "lowest low over close", lambda w: e.lowest(_low, w) / _close),
    ("QTLU", "80 % quantile of close over close", lambda w: e.quantile(_close, w, 0.8) / _close),
    ("QTLD", "20 % quantile of close over close", lambda w: e.quantile(_close, w, 0.2) / _close),
    ("RANK", "rank of close", lambda w: e.rank(_close, w)),
    ("RSV", "close between lowest low and highest high",
     lambda w: (_close - e.lowest(_low, w)) / (e.highest(_high, w) - e.lowest(_low, w) + _TINY)),
    ("IMAX", "place of the highest high, 1 being now", lambda w: e.highest_place(_high, w) / w),
    ("IMIN", "place of the lowest low, 1 being now", lambda w: e.lowest_place(_low, w) / w),
    ("IMXD", "place of the highest high less that of the lowest low",
     lambda w: (e.highest_place(_high, w) - e.lowest_place(_low, w)) / w),
    ("CORR", "correlation of close with log volume", lambda w: e.correlation(_close, e.log(_volume + 1.0), w)),
    ("CORD", "correlation of the changes of close with those of log volume",
     lambda w: e.correlation(_close / _before, e.log(_volume / _volume_before + 1.0), w)),
    ("CNTP", "share of rises among sessions", lambda w: e.mean(_close > _before, w)),
    ("CNTN", "share of falls among sessions", lambda w: e.mean(_close < _before, w)),
    ("CNTD", "share of rises less that of falls", lambda w: e.mean(_close > _before, w) - e.mean(_close < _before, w)),
    ("SUMP", "rises over all moves of close", _share(_close, _before, "rises")),
    ("SUMN", "falls over all moves of close", _share(_close, _before, "falls")),
    ("SUMD", "rises less falls over all moves of close", _share(_close, _before, "net")),
    ("VMA", "mean volume over volume", lambda w: e.mean(_volume, w) / (_volume + _TINY)),
    ("VSTD", "standard deviation of volume over volume", lambda w: e.std(_volume, w) / (_volume + _TINY)),
    ("WVMA", "variation of absolute returns weighted by volume",
     lambda w: e.std(_turnover_move, w) / (e.mean(_turnover_move, w) + _TINY)),
    ("VSUMP", "rises over all moves of volume", _share(_volume, _volume_before, "rises")),
    ("VSUMN", "falls over all moves of volume", _share(_volume, _volume_before, "falls")),
    ("VSUMD", "rises less falls over all moves of volume", _share(_volume, _volume_before, "net")),
)  # fmt: skip

ALPHA158: tuple[Feature, ...] = (
    *_CANDLE,
    *_PRICES,
    *(
        Feature(f"{name}{window}", f"{words.format(window)}, {window} rows", expression(window))
        for name, words, expression in _ROLLING
        for window in WINDOWS
    ),
)
"""Every column, in Qlib's order."""

LOOKBACK = max(feature.window for feature in ALPHA158) - 1
"""Rows before the first wanted one that the bars must hold for its values to be final."""

_SAME = 1e-9
"""A close times its return differs from the last close by more than this only where there was a split or dividend."""


def adjusted_bars(panel: Panel, vwap: FloatArray | None = None) -> dict[str, FloatArray]:
    """Bars in which splits and dividends are no moves, each of shape (T, N).

    Prices are multiplied by a factor that is 1 on an instrument's first bar and changes on the sessions of its actions;
    volumes are divided by it, so that price times volume stays the value traded. It is built forward: no later session
    changes a bar. A panel that starts later has other factors, and features equal up to rounding.

    Args:
        vwap: as printed; without one VWAP0 is missing everywhere.
    """
    factor = _factors(panel)
    prices = {name: getattr(panel, name) * factor for name in ("open", "high", "low", "close")}
    average = np.full_like(factor, np.nan) if vwap is None else vwap * factor
    return prices | {"volume": panel.volume / factor, "vwap": average}


def _factors(panel: Panel) -> FloatArray:
    """What a price is multiplied by; 1.0 until an instrument's first action, shape (T, N)."""
    close = panel.close
    rows = np.arange(len(close))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(close), -1, rows), axis=0)
    row_before = np.vstack([np.full((1, close.shape[1]), -1), last[:-1]])[: len(close)]
    before = np.where(row_before >= 0, np.take_along_axis(close, np.maximum(row_before, 0), axis=0), np.nan)
    step = (1.0 + panel.total_return) * before / close
    # Rounding is no action: a factor that moved with it would give a panel that starts later other bits.
    return np.asarray(np.cumprod(np.where(np.abs(step - 1.0) > _SAME, step, 1.0), axis=0), dtype=np.float64)


def compute_alpha158(
    panel: Panel,
    vwap: FloatArray | None = None,
    *,
    last: int | None = None,
    dtype: DTypeLike = np.float64,
    threads: int = 2,
) -> FeatureCube:
    """All 158 columns of every instrument, on all sessions of a panel or the last ones, of `adjusted_bars`.

    The values are a view, shape (T, N, 158), of columns that lie in one piece each. On 1000 instruments and 2520
    sessions they take 3.2 GB as float64, half of it as float32; `octopus.strategy.expressions.column_blocks` hands out
    few at a time.
    """
    bars: Mapping[str, FloatArray] = adjusted_bars(panel, vwap)
    columns: Any = compute_columns(ALPHA158, bars, last=last, dtype=dtype, threads=threads)
    names = tuple(feature.name for feature in ALPHA158)
    sessions = panel.sessions[len(panel.sessions) - columns.shape[1] :]
    return FeatureCube(sessions, panel.symbols, names, cast(FloatArray, np.moveaxis(columns, 0, -1)))
