"""VADER: a lexicon with rules for negation, emphasis and capitals. Light, and its words ship in the package.

Belongs here: scoring with vaderSentiment. Does not: choosing the model (factory.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from octopus.core.types import FloatArray


class LexiconSentiment:
    """VADER's compound score.

    Source: Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, 2014.
    """

    @cached_property
    def name(self) -> str:
        return f"vader-{version('vaderSentiment')}"

    def score(self, texts: Sequence[str]) -> FloatArray:
        """As `SentimentModel.score`."""
        return np.fromiter((self._tone(text) for text in texts), np.float64, count=len(texts))

    def _tone(self, text: str) -> float:
        return float(self._analyzer.polarity_scores(text)["compound"])

    @cached_property
    def _analyzer(self) -> Any:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        return SentimentIntensityAnalyzer()
