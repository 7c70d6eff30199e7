"""The signals: one score for each instrument and session, comparable among each other.

Belongs here: turning features into standardised scores. Does not: blending them (ensemble.py).

A score is in cross-sectional standard deviations among the session's members, clipped to ±3; NaN abstains.
"""

from __future__ import annotations

import numpy as np

from octopus.core.panel import Panel
from octopus.core.stats import standardised
from octopus.core.types import BoolArray, FloatArray
from octopus.strategy import windows
from octopus.strategy.config import MeanReversionConfig, MomentumConfig

CLIP = 3.0


def standardise(values: FloatArray, member: BoolArray) -> FloatArray:
    """Deviation from the members' mean in their standard deviation, clipped to ±3, shape (T, N).

    NaN for non-members, missing values, and on sessions where fewer than two members have a value or all have the same.
    """
    return np.clip(standardised(values, member), -CLIP, CLIP)


def momentum(panel: Panel, config: MomentumConfig) -> FloatArray:
    """Total return from ``lookback`` to ``skip`` sessions ago. Source: Jegadeesh and Titman (1993)."""
    steps, has_bar = windows.log_steps(panel.total_return), ~np.isnan(panel.close)
    past = windows.log_growth(steps, has_bar, config.lookback_sessions, config.skip_sessions)
    return standardise(past, panel.member)


def mean_reversion(panel: Panel, config: MeanReversionConfig) -> FloatArray:
    """Minus the latest return in units of its own volatility. Source: Lehmann (1990), Jegadeesh (1990)."""
    steps, has_bar = windows.log_steps(panel.total_return), ~np.isnan(panel.close)
    latest = windows.log_growth(steps, has_bar, config.window_sessions)
    spread = windows.std(panel.total_return, config.volatility_sessions)
    with np.errstate(divide="ignore", invalid="ignore"):
        return standardise(np.where(spread > 0, -latest / spread, np.nan), panel.member)


def sentiment(panel: Panel) -> FloatArray:
    """The decayed sentiment of texts known by the decision; abstains where there was none."""
    return standardise(panel.sentiment, panel.member)


def model(predictions: FloatArray, member: BoolArray) -> FloatArray:
    """The champion's predictions, standardised; shape (T, N) or, for one session, (1, N)."""
    return standardise(predictions, member)
