"""The ensemble: several signals, one alpha.

Belongs here: blending by weight, and the weights that follow from what signals earned. Does not: the signals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.strategy import windows
from octopus.strategy.config import EnsembleConfig

_STILL = 1e-12
"""A standard deviation of returns up to here is none."""
_EARNED_AFTER = 2
"""A decision of T is executed in T+1: the first return that it earns is that of T+2."""


def blend(signals: Mapping[str, FloatArray], weights: Mapping[str, float]) -> FloatArray:
    """Weighted mean of the signals that speak, for each instrument.

    An abstaining signal's weight goes to those that speak of the same instrument, in proportion; where none speaks the
    score is 0. A score of 1 is one cross-sectional standard deviation.

    Args:
        signals: by name, all of one shape; NaN abstains. weights: by name, non-negative; a name without one counts 0.

    Returns:
        Scores of the signals' shape, without NaN.
    """
    names = sorted(name for name in signals if weights.get(name, 0.0) > 0)
    if not names:
        return np.zeros_like(next(iter(signals.values())))
    total = np.zeros_like(signals[names[0]])
    spoken = np.zeros_like(total)
    for name in names:
        speaks = ~np.isnan(signals[name])
        total += np.where(speaks, weights[name] * np.where(speaks, signals[name], 0.0), 0.0)
        spoken += np.where(speaks, weights[name], 0.0)
    return np.where(spoken > 0, total / np.where(spoken > 0, spoken, 1.0), 0.0)


def own_returns(signals: Mapping[str, FloatArray], panel: Panel) -> dict[str, FloatArray]:
    """What each signal alone earned on each session, as a portfolio of its scores, long and short, that sum to 1 in
    size; by name, shape (T,), before costs; NaN where it said nothing.

    Row t is known at its close: scores of T, return of T+2.
    """
    moved = np.nan_to_num(panel.total_return)
    return {name: _earned(scores, moved) for name, scores in signals.items()}


def _earned(scores: FloatArray, moved: FloatArray) -> FloatArray:
    held = windows.lagged(scores, _EARNED_AFTER)
    size = np.nansum(np.abs(held), axis=1)
    gain = np.where(np.isnan(held), 0.0, held * moved).sum(axis=1)
    return np.where(size > 0, gain / np.where(size > 0, size, 1.0), np.nan)


def out_of_sample_weights(
    signals: Mapping[str, FloatArray], panel: Panel, configured: Mapping[str, float], config: EnsembleConfig
) -> dict[str, FloatArray]:
    """Weights of each session, by name, shape (T,); together what the signals with a weight have in the settings.

    Those of row t follow from returns up to row t. Signals that have shown too little for a judgement count like the
    mean of those that have; where none has, or none has a positive information ratio, all are equal.

    Args:
        signals: by name, each of shape (T, N). configured: weight by name; signals without one stay without.
    """
    names = sorted(name for name in signals if configured.get(name, 0.0) > 0)
    if not names:
        return {}
    earned = own_returns({name: signals[name] for name in names}, panel)
    merit = _merit(np.stack([earned[name] for name in names], axis=1), config)
    known = ~np.isnan(merit)
    count = known.sum(axis=1, keepdims=True)
    usual = np.where(known, merit, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    merit = np.where(known, merit, usual)
    total = merit.sum(axis=1, keepdims=True)
    equal = 1.0 / len(names)
    shares = np.where(total > 0, merit / np.where(total > 0, total, 1.0), equal)
    shares = (1.0 - config.shrinkage) * shares + config.shrinkage * equal
    whole = sum(configured[name] for name in names)
    return {name: whole * shares[:, column] for column, name in enumerate(names)}


def _merit(returns: FloatArray, config: EnsembleConfig) -> FloatArray:
    """Information ratio, 0 for a negative one, or inverse variance, of the window up to each row; NaN: not known."""
    window = config.window_sessions
    before = np.full((window - 1, returns.shape[1]), np.nan)

    def judge(w: FloatArray) -> FloatArray:
        known = ~np.isnan(w)
        count = known.sum(axis=-1)
        mean = np.where(known, w, 0.0).sum(axis=-1) / np.maximum(count, 1)
        apart = np.where(known, w - mean[..., None], 0.0)
        spread = np.sqrt((apart * apart).sum(axis=-1) / np.maximum(count - 1, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.maximum(mean, 0.0) / spread if config.by == "information_ratio" else spread**-2.0
        return np.where((count >= config.sessions_min) & (spread > _STILL), value, np.nan)

    # With rows of nothing before the first one, a window that is not full yet is one with few observations.
    return windows.rolling(np.concatenate([before, returns]), window, judge)[window - 1 :]
