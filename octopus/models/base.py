"""What a model is: a small class that learns from rows and speaks about rows.

Belongs here: the class that every model derives from, Octopus' own and those of other packages, and the rows it is
given. Does not: models themselves (linear.py, trees.py, seasonal.py, blend.py), finding them (estimators.py).

A package adds a model by deriving a class from `Estimator` and naming it in its entry points, under the group
``octopus.models``; the entry point's name is what config/strategies.yaml calls it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, DateArray, FloatArray


class NoSettings(BaseModel):
    """Of a model that has nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, eq=False)
class Rows:
    """What a model learns from, or is asked about; a row is one instrument on one session.

    Attributes:
        features: shape (rows, F), finite, as `octopus.models.training.as_model_sees` gives them.
        labels: what is to be learnt, shape (rows,), finite; None when the model is asked.
        weights: how much each row counts, shape (rows,), 1 on average; None: all the same.
        sessions, instruments: where each row stands, shape (rows,); None where nobody said, and a model that needs
            them refuses.
    """

    features: FloatArray
    labels: FloatArray | None = None
    weights: FloatArray | None = None
    sessions: DateArray | None = None
    instruments: NDArray[np.str_] | None = None

    @classmethod
    def of(cls, features: FloatArray, sessions: DateArray, symbols: tuple[str, ...]) -> Rows:
        """Every cell of a block of features (T, N, F), session by session."""
        flat = features.reshape(-1, features.shape[-1])
        return cls(flat, sessions=np.repeat(sessions, len(symbols)), instruments=np.tile(symbols, len(sessions)))

    def __len__(self) -> int:
        return len(self.features)

    @property
    def taught(self) -> FloatArray:
        """The labels; raises `MissingDataError` where there are none."""
        if self.labels is None:
            raise MissingDataError("these rows have no labels to learn from; fit a model on rows of a training set")
        return self.labels

    @property
    def places(self) -> tuple[DateArray, NDArray[np.str_]]:
        """Sessions and instruments; raises `MissingDataError` where nobody said."""
        if self.sessions is None or self.instruments is None:
            raise MissingDataError("this model speaks by instrument and session; give the columns session, instrument")
        return self.sessions, self.instruments

    def where(self, chosen: BoolArray) -> Rows:
        """The chosen rows, shape (rows,)."""
        return Rows(
            self.features[chosen],
            None if self.labels is None else self.labels[chosen],
            None if self.weights is None else self.weights[chosen],
            None if self.sessions is None else self.sessions[chosen],
            None if self.instruments is None else self.instruments[chosen],
        )


class Estimator(ABC):
    """A model.

    A prediction for one session's rows must be bit for bit the one that the same rows get in a larger batch, whatever
    their order in memory: the review serves a session alone and compares.

    Attributes:
        name: as settings and stored bytes call it; of another package's model: its entry point's name.
        Settings: what a user can set, as a pydantic model with defaults.
        needs_places: the model reads ``sessions`` and ``instruments``.
        requirements: packages that serving needs beside NumPy and pandas.
        primary: the signal whose paying it predicts, of a model that was taught with meta-labels.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[BaseModel]] = NoSettings
    needs_places: bool = False
    requirements: tuple[str, ...] = ()
    primary: str | None = None

    def __init__(self, settings: Any = None, seed: int = 0) -> None:
        self.settings: Any = self.Settings() if settings is None else settings
        self.seed = seed

    @classmethod
    def create(cls, settings: BaseModel, seed: int, member: Callable[[str], Estimator]) -> Estimator:
        """A new model; ``member`` makes another one by name, for models that are made of others."""
        del member
        return cls(settings, seed)

    @abstractmethod
    def fit(self, rows: Rows) -> None:
        """Learn from rows with labels."""

    @abstractmethod
    def predict(self, rows: Rows) -> FloatArray:
        """Scores, shape (rows,); NaN where the model abstains."""

    @abstractmethod
    def learnt(self) -> bytes:
        """All that `predict` needs."""

    @classmethod
    @abstractmethod
    def restored(cls, learnt: bytes) -> Self:
        """The fitted model that `learnt` wrote."""

    def contributions(self, rows: Rows) -> FloatArray | None:
        """What each feature adds to each prediction, shape (rows, F + 1), the last column what is said anyway; rows
        sum to the prediction. None: the model cannot say."""
        del rows
        return None

    def to_bytes(self) -> bytes:
        """The model with its name, for `octopus.models.estimators.estimator_from_bytes`."""
        return self.name.encode() + b"\n" + self.learnt()


def fitted(name: str, learnt: Any) -> Any:
    """``learnt``; raises `MissingDataError` when it is None."""
    if learnt is None:
        raise MissingDataError(f"{name} was asked to predict before it was fitted; fit it first")
    return learnt
