"""FinBERT, or any other text classifier of the transformers library with a positive and a negative label.

Belongs here: running such a classifier. Does not: training one, choosing it (factory.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from octopus.core.types import FloatArray
from resources.sentiment.base import SentimentModelError

DEFAULT_MODEL = "ProsusAI/finbert"
MAX_TOKENS = 512


@dataclass(frozen=True)
class _Loaded:
    tokenizer: Any
    classifier: Any
    positive: int
    negative: int
    revision: str


class FinBertSentiment:
    """P(positive) − P(negative) of a text classifier.

    Args:
        model: a folder with a saved model, or its id on the hub (then downloaded once, by transformers).
        batch_size: texts run at once; it changes the speed and not the scores.
        revision: commit or tag on the hub; None: the newest.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, batch_size: int = 32, revision: str | None = None) -> None:
        self._model = str(model)
        self._batch_size = batch_size
        self._revision = revision

    @cached_property
    def name(self) -> str:
        """Last part of the model's name, and the commit it was loaded from or a fingerprint of its weights."""
        return f"{Path(self._model).name.lower()}-{self._loaded.revision}"

    def score(self, texts: Sequence[str]) -> FloatArray:
        """As `SentimentModel.score`; texts beyond the model's length are cut at their end.

        Raises:
            SentimentModelError: transformers or torch is not installed, or the model cannot be loaded.
        """
        scores = np.zeros(len(texts))
        filled = [row for row, text in enumerate(texts) if text.strip()]
        # Texts of like length share a batch, which keeps the padding short.
        filled.sort(key=lambda row: (len(texts[row]), row))
        for rows in _batches(filled, self._batch_size):
            scores[rows] = self._score_batch([texts[row] for row in rows])
        return scores

    def _score_batch(self, texts: list[str]) -> FloatArray:
        loaded = self._loaded  # first: it says in one line what is missing

        import torch

        longest = min(MAX_TOKENS, int(loaded.classifier.config.max_position_embeddings))
        tokens = loaded.tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.no_grad():
            shares = torch.softmax(loaded.classifier(**tokens).logits.double(), dim=-1).numpy()
        difference: FloatArray = shares[:, loaded.positive] - shares[:, loaded.negative]
        # Padding moves the last digits; scores of one text must be equal whatever stood beside it.
        return np.round(difference, 4)

    @cached_property
    def _loaded(self) -> _Loaded:
        try:
            import torch  # noqa: F401
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise SentimentModelError(
                f"sentiment model {self._model}: the package {error.name} is missing: run `make nlp`, or set the "
                "sentiment model to finance"
            ) from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._model, revision=self._revision)
            classifier = AutoModelForSequenceClassification.from_pretrained(self._model, revision=self._revision).eval()
        except (OSError, ValueError) as error:
            raise SentimentModelError(
                f"sentiment model {self._model}: cannot be loaded ({type(error).__name__}): name a folder with a saved "
                "model, or let this machine reach the hub once; or set the sentiment model to finance"
            ) from error
        positive, negative = _labels(self._model, classifier.config.id2label)
        return _Loaded(tokenizer, classifier, positive, negative, _revision(self._model, classifier))


def _labels(model: str, id2label: Mapping[int, str]) -> tuple[int, int]:
    """Columns of the positive and of the negative label, whatever their order."""
    found = {str(label).lower(): int(column) for column, label in id2label.items()}
    if "positive" not in found or "negative" not in found:
        raise SentimentModelError(
            f"sentiment model {model}: its labels are {', '.join(sorted(found))}, expected positive and negative among "
            "them: choose a classifier of tone"
        )
    return found["positive"], found["negative"]


def _revision(model: str, classifier: Any) -> str:
    """Eight digits that change when the weights do."""
    commit = getattr(classifier.config, "_commit_hash", None)
    if commit:
        return str(commit)[:8]
    digest = hashlib.sha256()
    for key, value in sorted(classifier.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def _batches(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])
