"""Which features a model is given: the standard ones, Alpha158, or some of both.

Belongs here: names of sets, computing a choice of features for a whole panel or for its new sessions alone. Does not:
the features (features.py, alpha158.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np

from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.strategy.alpha158 import ALPHA158, adjusted_bars
from octopus.strategy.expressions import compute_columns
from octopus.strategy.features import FEATURES, LONGEST_WINDOW, FeatureCube, compute_features

_ALPHA158 = {feature.name: feature for feature in ALPHA158}
SETS: Mapping[str, tuple[str, ...]] = {
    "standard": tuple(feature.name for feature in FEATURES),
    "alpha158": tuple(_ALPHA158),
}
STANDARD = ("standard",)


def chosen_features(selection: Sequence[str]) -> tuple[str, ...]:
    """Names of the features of a selection of sets and single features, each once, in the order they are named.

    Raises:
        ConfigError: a name that is neither.
    """
    single = {name for names in SETS.values() for name in names}
    for name in selection:
        if name not in SETS and name not in single:
            raise ConfigError(
                where="models", field="features", value=name,
                remedy=f"use {', '.join(SETS)}, or names of single features such as {FEATURES[0].name} or KMID",
            )  # fmt: skip
    return tuple(dict.fromkeys(one for name in selection for one in SETS.get(name, (name,))))


def compute_chosen(panel: Panel, names: Sequence[str], last: int | None = None) -> FeatureCube:
    """The features ``names`` on every session of ``panel``, or on the ``last`` ones with the bits that they have then.

    Alpha158's adjustment of prices goes back to an instrument's first bar, so that a panel must not begin later than
    the one that its values are compared with. VWAP0 is missing: a panel's volume-weighted prices may have become known
    after the decision.
    """
    count = len(panel.sessions)
    rows = count if last is None else min(last, count)
    standard = [name for name in names if name not in _ALPHA158]
    alpha = [name for name in names if name in _ALPHA158]
    part = panel.rows(max(count - rows + 1 - LONGEST_WINDOW, 0), count)
    ours = compute_features(part, standard).values[len(part.sessions) - rows :]
    if not alpha:
        return FeatureCube(panel.sessions[count - rows :], panel.symbols, tuple(names), ours)
    values = np.empty((rows, len(panel.symbols), len(names)))
    places = {name: index for index, name in enumerate(names)}
    values[:, :, [places[name] for name in standard]] = ours
    columns = compute_columns([_ALPHA158[name] for name in alpha], adjusted_bars(panel), last=rows)
    values[:, :, [places[name] for name in alpha]] = np.moveaxis(columns, 0, -1)
    return FeatureCube(panel.sessions[count - rows :], panel.symbols, tuple(names), values)


def continued(before: FeatureCube, panel: Panel) -> FeatureCube:
    """``before``, of a panel that ``panel`` goes on from (`goes_on_from`), and what its new sessions add."""
    new = len(panel.sessions) - len(before.sessions)
    if new == 0:
        return before
    added = compute_chosen(panel, before.names, new).values
    return FeatureCube(panel.sessions, panel.symbols, before.names, np.concatenate([before.values, added]))


def goes_on_from(panel: Panel, before: Panel) -> bool:
    """Whether ``panel`` begins with every bit of ``before``."""
    count = len(before.sessions)
    if not 0 < count <= len(panel.sessions) or before.symbols != panel.symbols:
        return False
    known = panel.rows(0, count)
    for item in fields(Panel):
        one, other = getattr(known, item.name), getattr(before, item.name)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
                return False
        elif one is not other and one != other:
            return False
    return True
