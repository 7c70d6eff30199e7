"""A model of whether following another signal pays, and the opinion that follows from both.

Belongs here: carrying the signal's name with the model, and the size of a bet. Does not: the labels (labels.py), which
signal it is (section models, label.primary).
"""

from __future__ import annotations

import base64
import json
from typing import Any, ClassVar, Self

import numpy as np

from octopus.core.types import FloatArray
from octopus.models.base import Estimator, Rows, fitted


class Meta(Estimator):
    """Any model, taught with meta-labels: it predicts how likely it pays to follow ``primary``.

    The signal's name stays with the model: a champion goes on speaking of the signal that it learnt about, whatever the
    settings say by then.
    """

    name: ClassVar[str] = "meta"

    def __init__(
        self, settings: Any = None, seed: int = 0, *, model: Estimator | None = None, primary: str = ""
    ) -> None:
        super().__init__(settings, seed)
        self._model = model
        self.primary = primary
        if model is not None:
            self.settings, self.needs_places, self.requirements = model.settings, model.needs_places, model.requirements

    def fit(self, rows: Rows) -> None:
        self._inner.fit(rows)

    def predict(self, rows: Rows) -> FloatArray:
        return self._inner.predict(rows)

    def contributions(self, rows: Rows) -> FloatArray | None:
        return self._inner.contributions(rows)

    @property
    def _inner(self) -> Estimator:
        model: Estimator = fitted(self.name, self._model)
        return model

    def learnt(self) -> bytes:
        return json.dumps(
            {"primary": self.primary, "model": base64.b64encode(self._inner.to_bytes()).decode()}
        ).encode()

    @classmethod
    def restored(cls, learnt: bytes) -> Self:
        from octopus.models.estimators import estimator_from_bytes

        saved = json.loads(learnt)
        return cls(model=estimator_from_bytes(base64.b64decode(saved["model"])), primary=saved["primary"])


def bets(likely: FloatArray, side: FloatArray) -> FloatArray:
    """The opinion of a signal that is believed as far as it is likely to pay, of the arguments' shape.

    The side of the signal times the size of the bet, 2 Φ((p - ½) / √(p (1 - p))) - 1, and 0 where it is not more likely
    to pay than not: a meta-model passes, it does not turn a signal round.

    Args:
        likely: predicted probability that following pays; what is outside 0 to 1 counts as the end it is beyond.
        side: what the signal says; 0 or NaN is nothing, and then there is no opinion.

    Source: López de Prado, Advances in Financial Machine Learning (2018), chapter 10.3.
    """
    from scipy.special import ndtr

    share = np.clip(likely, 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = 2.0 * ndtr((share - 0.5) / np.sqrt(share * (1.0 - share))) - 1.0
    direction = np.sign(side)
    return np.where((direction != 0) & ~np.isnan(direction), direction * np.maximum(size, 0.0), np.nan)
