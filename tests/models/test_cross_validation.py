"""Each path tests every session once, by a model that shares no session with it; noise has skill on no path."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from octopus.models.base import Rows
from octopus.models.config import CrossValidationConfig
from octopus.models.crossval import along_paths, score
from octopus.models.linear import Ridge
from octopus.models.pictures import paths_picture
from tests.models.test_walk_forward_models import SMALL, training_set

CONFIG = SMALL.model_copy(update={"cross_validation": CrossValidationConfig(groups=5, tested=2)})


class Noting(Ridge):
    """A ridge that says, of every row, how near the nearest session lies that it learnt from."""

    def fit(self, rows: Rows) -> None:
        self._learnt = np.unique(rows.places[0])

    def predict(self, rows: Rows) -> np.ndarray:
        apart = np.abs((rows.places[0][:, None] - self._learnt[None, :]).astype(int))
        return apart.min(axis=1).astype(float)


def test_every_session_is_tested_on_every_path_by_a_model_that_did_not_know_it() -> None:
    training = training_set(0.0, rows=300, columns=6)
    apart = along_paths(training, CONFIG, Noting)
    assert apart.shape == (4, 300, 6)
    assert np.isfinite(apart[:, :-6]).all()
    assert apart[np.isfinite(apart)].min() > CONFIG.embargo, "neither its label's window nor the embargo was learnt"


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_skill_shows_on_every_path_and_noise_on_none(skill: float) -> None:
    training = training_set(skill)
    scores = score(training, along_paths(training, CONFIG, Ridge))
    assert len(scores.rank_ic) == 4
    assert all((abs(ic) < 0.05) if skill == 0 else (ic > 0.4) for ic in scores.rank_ic)
    metrics = scores.metrics()
    assert metrics["cpcv_rank_ic_worst"] <= metrics["cpcv_rank_ic_mean"]
    assert paths_picture(scores.spread_sharpe).startswith(b"\x89PNG")


def test_a_choice_that_leaves_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValidationError, match="tested = 3 leaves none of groups = 3 to train on: lower it"):
        CrossValidationConfig(groups=3, tested=3)
