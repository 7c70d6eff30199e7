"""The ensemble: several signals, one alpha.

Belongs here: blending by weight. Does not: choosing the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from octopus.core.types import FloatArray


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
