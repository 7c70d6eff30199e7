"""What every sentiment model is.

Belongs here: the protocol and its error. Does not: any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from octopus.core.errors import OctopusError
from octopus.core.types import FloatArray


class SentimentModelError(OctopusError):
    """A model cannot be loaded; the message names the model and what to install or set."""


class SentimentModel(Protocol):
    """Scores texts one by one: a text's score does not depend on the texts beside it."""

    @property
    def name(self) -> str:
        """Model and version: scores of different names are never mixed."""
        ...

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Tone of each text, -1 (negative) to 1 (positive), shape (len(texts),); an empty text is 0."""
        ...
