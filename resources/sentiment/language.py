"""In which language a text is written, as far as can be told: a mark, by which nothing is dropped.

Belongs here: asking the language model, which ships in its wheel. Does not: deciding what to do with the mark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

_NO_LANGUAGE = re.compile(r"https?\S*|[@#$]\w+|\bRT\b|\b[A-Z]{2,5}\b|[\d_]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
LEAST_WORDS = 3
LEAST_CONFIDENCE = 0.5
LANGUAGES = (
    "en", "es", "fr", "de", "it", "pt", "nl", "sv", "da", "no", "fi", "pl", "cs", "el", "ru", "uk", "tr", "ar", "he",
    "hi", "id", "ms", "ja", "ko", "zh",
)  # fmt: skip
"""Those in which markets are written about: among all 97 a headline resembles a rare one too often."""


class LanguageMarker:
    """ISO 639-1 codes by py3langid (BSD; byte n-grams and naive Bayes), among `LANGUAGES`.

    Source: Lui and Baldwin, langid.py: An Off-the-shelf Language Identification Tool, 2012.
    """

    def mark(self, texts: Sequence[str]) -> list[str | None]:
        """The language of each text; None where there are too few words to tell, or the model is not sure.

        Links, user names, hashtags, tickers and numbers are no words.
        """
        # In small letters: the model takes the capitals of headlines for another language.
        return [self._language(_NO_LANGUAGE.sub(" ", text).lower()) for text in texts]

    def _language(self, text: str) -> str | None:
        # Scripts without spaces write a sentence as one word.
        if len(_WORD.findall(text)) < LEAST_WORDS and text.isascii():
            return None
        if not text.strip():
            return None
        language, confidence = self._identifier.classify(text)
        return str(language) if confidence >= LEAST_CONFIDENCE else None

    @cached_property
    def _identifier(self) -> Any:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        identifier.set_languages(LANGUAGES)
        return identifier
