"""What a strategy is: a name, settings, and a pure function from a point-in-time panel to scores.

Belongs here: the form that Octopus' own strategies and those of other packages share. Does not: particular strategies,
finding them (catalogue.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from octopus.core.panel import Panel
from octopus.core.types import FloatArray


class NoSettings(BaseModel):
    """Of a strategy that has nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Strategy:
    """A strategy, described so that the settings can name it.

    Attributes:
        name: what the settings call it, and its entry point where another package brings it.
        scores: a pure function of the panel and the settings; shape (T, N) like the panel: how far each instrument
            should do better (above 0) or worse than the others, in cross-sectional standard deviations
            (`octopus.strategy.signals.standardise` makes them of any numbers); NaN abstains. Row t may use rows up to
            t alone: the look-ahead probe cuts the later ones off, and replaces them by noise, and compares.
        Settings: a pydantic model of what can be set, with a default for each.
    """

    name: str
    scores: Callable[[Panel, Any], FloatArray]
    Settings: type[BaseModel] = NoSettings
