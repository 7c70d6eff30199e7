"""A model made of models.

Belongs here: weighing several models' scores. Does not: the ensemble of signals (octopus/strategy/ensemble.py).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np

from octopus.core.errors import ConfigError
from octopus.core.types import FloatArray
from octopus.models.base import Estimator, Rows, fitted
from octopus.models.config import EnsembleConfig


class Ensemble(Estimator):
    """The weighted mean of its members' scores, each in units of its own spread over what it learnt from.

    Members differ in how far they shrink; without the units the boldest alone would speak. A row is scored by those
    members that do not abstain on it.
    """

    name: ClassVar[str] = "ensemble"
    Settings = EnsembleConfig

    def __init__(self, settings: Any = None, seed: int = 0, members: tuple[Estimator, ...] = ()) -> None:
        super().__init__(settings, seed)
        self._members = members
        self.needs_places = any(member.needs_places for member in members)
        self.requirements = tuple(sorted({name for member in members for name in member.requirements}))
        self._spreads: FloatArray | None = None

    @classmethod
    def create(cls, settings: Any, seed: int, member: Callable[[str], Estimator]) -> Estimator:
        if cls.name in settings.members:
            raise ConfigError(
                where="models", field="ensemble.members", value=cls.name, remedy="an ensemble cannot be its own member"
            )
        return cls(settings, seed, tuple(member(name) for name in settings.members))

    def fit(self, rows: Rows) -> None:
        for member in self._members:
            member.fit(rows)
        said = [member.predict(rows) for member in self._members]
        spreads = np.array([np.nanstd(one) if np.isfinite(one).any() else 0.0 for one in said])
        # A member that says the same of everything has no unit, and nothing to say.
        self._spreads = np.where(spreads > 0, spreads, np.inf)

    def predict(self, rows: Rows) -> FloatArray:
        shares, unit = self._shares()
        said = np.stack([member.predict(rows) for member in self._members], axis=1)
        known = ~np.isnan(said)
        weights = np.array(list(self.settings.members.values()))
        speaking = (known * weights).sum(axis=1)
        total = np.where(known, said * shares, 0.0).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(speaking > 0, total / speaking * unit, np.nan)

    def contributions(self, rows: Rows) -> FloatArray | None:
        shares, unit = self._shares()
        parts = [member.contributions(rows) for member in self._members]
        if any(part is None for part in parts):
            return None
        weights = sum(self.settings.members.values())
        return np.asarray(sum(part * share for part, share in zip(parts, shares, strict=True)) / weights * unit)

    def _shares(self) -> tuple[FloatArray, float]:
        """Weight over spread of each member, and the mean spread that the blend is given back."""
        spreads: FloatArray = fitted(self.name, self._spreads)
        finite = spreads[np.isfinite(spreads)]
        return np.array(list(self.settings.members.values())) / spreads, float(finite.mean()) if len(finite) else 0.0

    def learnt(self) -> bytes:
        spreads = fitted(self.name, self._spreads)
        members = [base64.b64encode(member.to_bytes()).decode() for member in self._members]
        # JSON knows no infinity: a member without a unit has none here either.
        units = [None if np.isinf(spread) else float(spread) for spread in spreads]
        return json.dumps({"weights": dict(self.settings.members), "spreads": units, "members": members}).encode()

    @classmethod
    def restored(cls, learnt: bytes) -> Self:
        from octopus.models.estimators import estimator_from_bytes

        saved = json.loads(learnt)
        members = tuple(estimator_from_bytes(base64.b64decode(member)) for member in saved["members"])
        model = cls(EnsembleConfig(members=saved["weights"]), members=members)
        model._spreads = np.array([np.inf if spread is None else spread for spread in saved["spreads"]])
        return model
