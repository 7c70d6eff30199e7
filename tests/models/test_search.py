"""A search sees its training window and nothing else, every trial is told of, and the same seed finds the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from octopus.core.errors import MissingDataError
from octopus.core.types import FloatArray
from octopus.models import estimators, walkforward
from octopus.models.base import Estimator, Rows
from octopus.models.config import ModelConfig, Range, SearchConfig
from octopus.models.linear import Ridge
from octopus.models.search import Chooser, Tried, search
from octopus.models.splits import walk_forward
from tests.models.test_walk_forward_models import SMALL, training_set

SEARCH = SearchConfig(trials=4, folds=3, every="fold", space={"ridge": {"penalty": Range(low=1, high=1e6, log=True)}})
SEARCHING = SMALL.model_copy(update={"search": SEARCH, "test_sessions": 200})


class Spy(Ridge):
    """A ridge that notes the sessions it is shown, each with the labels that came along."""

    shown: list[np.datetime64]

    def fit(self, rows: Rows) -> None:
        Spy.shown.append(rows.places[0].max())
        super().fit(rows)

    def predict(self, rows: Rows) -> FloatArray:
        Spy.shown.append(rows.places[0].max())
        return super().predict(rows)


def walked(training_with: float, config: ModelConfig, poison: int | None = None) -> tuple[list[Tried], list[Estimator]]:
    training = training_set(training_with, columns=12)
    if poison is not None:
        features, labels = training.features.copy(), training.labels.copy()
        noise = np.random.default_rng(1).normal(0, 100, (2, *features.shape))[:, poison:]
        features[poison:], labels[poison:] = noise[0], noise[1][:, :, 0]
        training = replace(training, features=features, labels=labels)
    tried: list[Tried] = []
    walk = walkforward.run(training, config, Chooser("ridge", config, training, tried.append))
    return tried, list(walk.estimators)


def test_what_is_tested_never_reaches_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    training = training_set(0.5, columns=12)
    folds = walk_forward(len(training.panel.sessions), SEARCHING)
    # All rows from the first test block on are spoiled: the first window's search does not notice.
    clean, spoiled = walked(0.5, SEARCHING)[0], walked(0.5, SEARCHING, poison=folds[0].test_start)[0]
    for one, other in zip(clean[:4], spoiled[:4], strict=True):
        assert one.settings == other.settings
        assert one.rank_ic == other.rank_ic
        assert np.array_equal(one.returns, other.returns)
    assert any(a.rank_ic != b.rank_ic for a, b in zip(clean[4:], spoiled[4:], strict=True)), "the poison is strong"
    monkeypatch.setitem(estimators.BUILT_IN, "ridge", Spy)  # type: ignore[arg-type]
    for fold in folds:
        Spy.shown = []
        search(training.between(fold.train_start, fold.train_stop), "ridge", SEARCHING, lambda tried: None)
        assert len(Spy.shown) == 4 * 3 * 2
        last = training.panel.sessions[fold.test_start] - np.timedelta64(SEARCHING.embargo + 6, "D")
        assert max(Spy.shown) < last, "neither the test block, nor the embargo, nor a label that was not known"


def test_the_same_seed_tries_the_same_and_every_fold_searches_anew() -> None:
    first, second = walked(0.5, SEARCHING)[0], walked(0.5, SEARCHING)[0]
    assert [one.settings for one in first] == [one.settings for one in second]
    assert first[0].settings["penalty"] == 1000.0, "the configured settings are tried first"
    folds = len(walk_forward(700, SEARCHING))
    assert len(first) == 4 * folds
    once = SEARCHING.model_copy(update={"search": SEARCH.model_copy(update={"every": "first"})})
    tried, models = walked(0.5, once)
    assert len(tried) == 4
    assert len({model.settings.penalty for model in models}) == 1
    best = max(tried, key=lambda one: one.rank_ic)
    assert models[0].settings.penalty == best.settings["penalty"]


def test_a_fold_that_is_fitted_alone_is_the_one_of_the_walk() -> None:
    once = SEARCHING.model_copy(update={"search": SEARCH.model_copy(update={"every": "first"})})
    models = walked(0.5, once)[1]
    training = training_set(0.5, columns=12)
    fold = walk_forward(700, once)[1]
    alone = walkforward.fit_fold(training, fold, Chooser("ridge", once, training, lambda tried: None))
    assert alone.to_bytes() == models[1].to_bytes()

    def refuse(past: object) -> Estimator:
        raise AssertionError("what is ready is not fitted again")

    walk = walkforward.run(training, once, refuse, ready=dict(enumerate(models)))
    assert walk.estimators == tuple(models)


def test_without_a_search_the_configured_settings_stand() -> None:
    tried, models = walked(0.5, SMALL)
    assert tried == []
    assert {model.settings.penalty for model in models} == {1000.0}


def test_a_window_too_short_to_search_says_so() -> None:
    with pytest.raises(MissingDataError, match=r"raise train_min_sessions or lower search\.folds"):
        search(training_set(0.5).between(0, 9), "ridge", SEARCHING, lambda tried: None)


@pytest.mark.parametrize(("low", "high"), [(2.0, 1.0), (0.0, 1.0)])
def test_a_space_that_is_none_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="must be below high"):
        Range(low=low, high=high, log=True)
