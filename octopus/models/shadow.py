"""A challenger beside the champion: what it would have said and earned on days that neither had learnt from.

Belongs here: comparing two models' scores. Does not: choosing (a person moves the alias in MLflow).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octopus.core.stats import hac_t_statistic, rank_correlation
from octopus.core.types import DateArray, FloatArray
from octopus.models.evaluation import spread_returns
from octopus.models.training import TrainingSet

_LAGS = 5


@dataclass(frozen=True, eq=False)
class Shadow:
    """Two models on the same sessions.

    Attributes:
        rank_correlation: of the two models' scores, by session, shape (T,), NaN below five instruments.
        champion, challenger: hypothetical return of the top fifth less the bottom fifth, by session, before costs,
            shape (T,), NaN where it is not known yet.
    """

    sessions: DateArray
    rank_correlation: FloatArray
    champion: FloatArray
    challenger: FloatArray

    @property
    def agreement(self) -> float:
        """Mean rank correlation."""
        return _mean(self.rank_correlation)

    @property
    def spreads(self) -> tuple[float, float]:
        """Mean of a session, champion's and challenger's."""
        return _mean(self.champion), _mean(self.challenger)

    @property
    def difference_t(self) -> float:
        """t-statistic of challenger less champion, with Newey–West errors; NaN below three sessions."""
        difference = self.challenger - self.champion
        return hac_t_statistic(difference[np.isfinite(difference)], _LAGS)


def compare(on: TrainingSet, champion: FloatArray, challenger: FloatArray) -> Shadow:
    """Compare two models' predictions, each of shape (T, N), over all sessions of ``on``."""
    said = [np.where(on.usable, one, np.nan) for one in (champion, challenger)]
    return Shadow(
        on.panel.sessions,
        rank_correlation(said[0], said[1]),
        spread_returns(on, champion),
        spread_returns(on, challenger),
    )


def _mean(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
