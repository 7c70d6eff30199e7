"""The search for a model's settings, inside what it may learn from.

Belongs here: proposing settings, measuring them by purged folds of the training window, choosing. Does not: the trial
ledger, which hears of every one of them (resources/warehouse/trials.py).

A search is given the training window alone: no session that tests later is in what it is handed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.stats import rank_correlation
from octopus.core.types import FloatArray
from octopus.models.base import Estimator
from octopus.models.config import ModelConfig, Range
from octopus.models.crossval import tested
from octopus.models.estimators import make
from octopus.models.evaluation import spread_returns
from octopus.models.splits import k_fold, walk_forward
from octopus.models.training import TrainingSet


@dataclass(frozen=True, eq=False)
class Tried:
    """One set of settings as measured.

    Attributes:
        settings: all of the model's. rank_ic: mean rank correlation over the folds that did not train.
        returns: of the spread there, shape (sessions,), finite. first_session, last_session: of the training window.
    """

    estimator: str
    settings: Mapping[str, Any]
    rank_ic: float
    returns: FloatArray
    first_session: date
    last_session: date


class Chooser:
    """Makes one model again and again, each with settings that are chosen in what it may learn from.

    Without a search, or for a model without a space to search in, the settings are the configured ones.

    Args:
        training: its first training window is where ``search.every: first`` chooses, whichever fold asks first.
        on_trial: told of every set of settings as soon as it was measured.
    """

    def __init__(
        self, name: str, config: ModelConfig, training: TrainingSet, on_trial: Callable[[Tried], None]
    ) -> None:
        self._name, self._config, self._training, self._on_trial = name, config, training, on_trial
        self._chosen: dict[str, Any] | None = None

    def __call__(self, past: TrainingSet) -> Estimator:
        if self._config.search.trials > 0 and self._name in self._config.search.space:
            self._choose(past)
        return make(self._name, self._config, self._chosen)

    def _choose(self, past: TrainingSet) -> None:
        every = self._config.search.every == "fold"
        if self._chosen is not None and not every:
            return
        folds = walk_forward(len(self._training.panel.sessions), self._config)
        first = self._training.between(folds[0].train_start, folds[0].train_stop) if folds else past
        self._chosen = search(past if every else first, self._name, self._config, self._on_trial)


def search(past: TrainingSet, name: str, config: ModelConfig, on_trial: Callable[[Tried], None]) -> dict[str, Any]:
    """The settings with the highest rank correlation over purged folds of ``past``; the same for the same seed.

    The configured settings are the first trial where they lie inside the space.

    Raises:
        MissingDataError: no trial could be measured.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization (2011), by Optuna's sampler.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = config.search.space[name]
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=config.seed))
    usual = {key: value for key, value in config.settings_of(name).items() if key in space}
    if len(usual) == len(space) and all(space[key].low <= value <= space[key].high for key, value in usual.items()):
        study.enqueue_trial(usual)
    for _ in range(config.search.trials):
        trial = study.ask()
        tried = measure(past, name, config, {key: _suggested(trial, key, limits) for key, limits in space.items()})
        on_trial(tried)
        state = optuna.trial.TrialState
        known = np.isfinite(tried.rank_ic)
        study.tell(trial, tried.rank_ic if known else None, state.COMPLETE if known else state.FAIL)
    if not any(trial.value is not None for trial in study.trials):
        raise MissingDataError(
            f"search of {name}: {len(past.panel.sessions)} sessions with {past.labelled} labels are too few for "
            f"{config.search.folds} purged folds; raise train_min_sessions or lower search.folds"
        )
    return dict(study.best_params)


def measure(past: TrainingSet, name: str, config: ModelConfig, chosen: Mapping[str, Any]) -> Tried:
    """One set of settings by purged k-fold of ``past``."""
    sessions, predictions = past.panel.sessions, np.full(past.labels.shape, np.nan)
    for split in k_fold(len(sessions), config.search.folds):
        said = tested(past, split, config.embargo, lambda: make(name, config, chosen))
        predictions = np.where(np.isnan(said), predictions, said)
    skill = rank_correlation(np.where(past.usable, predictions, np.nan), past.labels)
    spread = spread_returns(past, predictions)
    known = skill[np.isfinite(skill)]
    return Tried(
        name,
        make(name, config, chosen).settings.model_dump(mode="json"),
        float(known.mean()) if len(known) else float("nan"),
        np.asarray(spread[np.isfinite(spread)]),
        sessions[0].item(),
        sessions[-1].item(),
    )


def _suggested(trial: Any, name: str, limits: Range) -> float | int:
    if limits.whole:
        return int(trial.suggest_int(name, int(limits.low), int(limits.high), log=limits.log))
    return float(trial.suggest_float(name, limits.low, limits.high, log=limits.log))
