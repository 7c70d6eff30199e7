"""From a setting to a sentiment model.

Belongs here: choosing. Does not: the models.
"""

from __future__ import annotations

from pathlib import Path

from octopus.core.errors import ConfigError
from resources.sentiment.base import SentimentModel
from resources.sentiment.finance import FinanceSentiment
from resources.sentiment.finbert import DEFAULT_MODEL, FinBertSentiment
from resources.sentiment.lexicon import LexiconSentiment


def sentiment_model(
    kind: str = "finance", model: str | Path | None = None, batch_size: int = 32, revision: str | None = None
) -> SentimentModel:
    """The model that ``kind`` names.

    Args:
        kind: ``finance`` (rules for business news) or ``vader`` (a lexicon for social media), both light and always
            there, or ``finbert`` (needs the extra ``nlp`` and its weights).
        model, batch_size, revision: of `FinBertSentiment`; not used by the others.

    Raises:
        ConfigError: any other kind.
    """
    if kind == "finance":
        return FinanceSentiment()
    if kind == "vader":
        return LexiconSentiment()
    if kind == "finbert":
        return FinBertSentiment(model or DEFAULT_MODEL, batch_size, revision)
    raise ConfigError(where="sentiment", field="kind", value=kind, remedy="use finance, vader or finbert")
