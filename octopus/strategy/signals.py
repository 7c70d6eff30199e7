"""The signals: one score for each instrument and session, comparable among each other.

Belongs here: turning features into standardised scores. Does not: blending them (ensemble.py).

A score is in cross-sectional standard deviations among the session's members, clipped to ±3; NaN abstains.
"""

from __future__ import annotations

import numpy as np

from octopus.core.panel import Panel
from octopus.core.types import BoolArray, FloatArray
from octopus.strategy import windows
from octopus.strategy.config import StrategyConfig

CLIP = 3.0


def standardise(values: FloatArray, member: BoolArray) -> FloatArray:
    """Deviation from the members' mean in their standard deviation, clipped to ±3, shape (T, N).

    NaN for non-members, missing values, and on sessions where fewer than two members have a value or all have the same.
    """
    inside = member & ~np.isnan(values)
    count = inside.sum(axis=1, keepdims=True)
    known = np.where(inside, values, 0.0)
    centre = known.sum(axis=1, keepdims=True) / np.maximum(count, 1)
    deviation = np.where(inside, values - centre, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1))
    usable = inside & (count >= 2) & (spread > 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(usable, np.clip(deviation / spread, -CLIP, CLIP), np.nan)


def momentum(panel: Panel, config: StrategyConfig, log_index: FloatArray) -> FloatArray:
    """Total return from ``lookback`` to ``skip`` sessions ago. Source: Jegadeesh and Titman (1993)."""
    section = config.momentum
    past = windows.lagged(log_index, section.skip_sessions) - windows.lagged(log_index, section.lookback_sessions)
    return standardise(past, panel.member)


def mean_reversion(panel: Panel, config: StrategyConfig, log_index: FloatArray) -> FloatArray:
    """Minus the latest return in units of its own volatility. Source: Lehmann (1990), Jegadeesh (1990)."""
    section = config.mean_reversion
    latest = log_index - windows.lagged(log_index, section.window_sessions)
    spread = windows.std(panel.total_return, section.volatility_sessions)
    with np.errstate(divide="ignore", invalid="ignore"):
        return standardise(np.where(spread > 0, -latest / spread, np.nan), panel.member)


def sentiment(panel: Panel) -> FloatArray:
    """The decayed sentiment of texts known by the decision; abstains where there was none."""
    return standardise(panel.sentiment, panel.member)


def model(predictions: FloatArray, member: BoolArray) -> FloatArray:
    """The champion's predictions, standardised; shape (T, N) or, for one session, (1, N)."""
    return standardise(predictions, member)


def rule_signals(panel: Panel, config: StrategyConfig) -> dict[str, FloatArray]:
    """The signals that need no model, by name, each of shape (T, N)."""
    has_bar = ~np.isnan(panel.close)
    known = np.where(np.isnan(panel.total_return), 0.0, panel.total_return)
    log_index = np.where(has_bar, np.cumsum(np.log1p(known), axis=0), np.nan)
    return {
        "momentum": momentum(panel, config, log_index),
        "mean_reversion": mean_reversion(panel, config, log_index),
        "sentiment": sentiment(panel),
    }
