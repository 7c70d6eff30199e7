"""Tone of business news by rules: what goes up or down, whether that is good, and how it compares with the past.

Belongs here: reading a text by the tables of finance_words.py. Does not: the words, choosing the model (factory.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from typing import Final

import numpy as np

from octopus.core.types import FloatArray
from resources.sentiment import finance_words as words

VERSION: Final = "1"
"""Raised with any change of words or rules: scores of one name must be comparable."""

_NOISE = re.compile(r"https?\S*|@\w+|^rt\b|[#\"“”]")
_TOKEN = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)|n't\b|[a-z_&]+(?:[-'’][a-z_]+)*|\$[a-z]+|[.,;:!?()%$€£]")
_CLAUSE = re.compile(r"\s*(?:[;!?]|\.(?=\s|$)|\b(?:but|however|although|though|whereas|while|even though)\b)\s*")
_NUMBER = re.compile(r"[-+]?(?:\d|\.\d)")
_SCALES = {
    "k": 1e3,
    "thousand": 1e3,
    "m": 1e6,
    "mn": 1e6,
    "mln": 1e6,
    "million": 1e6,
    "b": 1e9,
    "bn": 1e9,
    "bln": 1e9,
    "billion": 1e9,
}
_YARDSTICK = frozenset({"a", "an", "the", "eur", "usd", "$", "€", "last", "previous", "year-earlier", "same", "q"})
_BEFORE, _AFTER = 8, 5
"""How far from a direction its subject may stand, in words."""
_MOVED, _UNSAID, _COMPARED = 2.0, 0.8, 2.0
"""Weights of a direction with its subject, of one without, and of two figures side by side."""


@dataclass(frozen=True)
class _Clause:
    """Words of one clause; ``past`` is where its yardstick begins."""

    tokens: list[str]
    past: int


class FinanceSentiment:
    """Tone of a statement on a business, in (-1, 1): the sum of what its words say, squashed.

    - A direction ("rose", "lower", "halved") counts by what it is said of: profit up is good, costs up is bad.
    - Words and phrases that are good or bad by themselves count by their weight ("beats estimates", "lay-offs").
    - Where no direction is said, two figures are compared: "EPS $1.28 vs $1.10", "profit of 5 mn compared to 7 mn".
    - What follows "compared with" or "from" is the past and says nothing; a negation turns a word round and weakens it.

    A text that says none of this is 0.
    """

    @property
    def name(self) -> str:
        return f"finance-{VERSION}"

    def score(self, texts: Sequence[str]) -> FloatArray:
        """As `SentimentModel.score`."""
        sums = np.fromiter((self._tone(text) for text in texts), np.float64, count=len(texts))
        return np.round(sums / np.sqrt(sums**2 + 6.0), 6)

    def _tone(self, text: str) -> float:
        plain = self._phrases(_NOISE.sub(" ", unescape(text).lower().replace("’", "'")))
        return sum(_clause_tone(_clause(part)) for part in _CLAUSE.split(plain) if part)

    def _phrases(self, text: str) -> str:
        for pattern, code in self._patterns:
            text = pattern.sub(code, text)
        return text

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        return [(re.compile(rf"\b(?:{pattern})(?![\w])"), code) for pattern, code in words.PHRASES.items()]


def _clause(text: str) -> _Clause:
    tokens = _TOKEN.findall(text)
    for place, word in enumerate(tokens):
        following = tokens[place + 1] if place + 1 < len(tokens) else ""
        if word in words.BEFORE and (word != "from" or following in _YARDSTICK or _NUMBER.match(following)):
            return _Clause(tokens, place)
    return _Clause(tokens, len(tokens))


def _clause_tone(clause: _Clause) -> float:
    """The clause's directions and tone words; two figures side by side where no direction is said."""
    tokens = clause.tokens[: clause.past]
    used: set[int] = set()
    moves = [weight for place, token in enumerate(tokens) for weight in _moved(tokens, place, _way(token), used)]
    if not moves:
        moves = list(_figures(clause, used))
    words_said = (
        (words.GOOD.get(token, 0.0) - words.BAD.get(token, 0.0)) * _turned(tokens, place)
        for place, token in enumerate(tokens)
        if place not in used
    )
    return sum(moves) + sum(words_said)


def _way(token: str) -> int:
    if token in words.UP or token in words.WIDEN:
        return 1
    return -1 if token in words.DOWN or token in words.NARROW else 0


def _moved(tokens: Sequence[str], place: int, way: int, used: set[int]) -> Iterator[float]:
    """Weight of a direction, by the nearest thing that it may be said of."""
    if not way:
        return
    token = tokens[place]
    measured = _measured(tokens, place)
    reach = len(tokens) if measured and token in ("up", "down") else _BEFORE
    subjects = sorted(
        (abs(other - place) + 0.5 * (other < place), other)
        for other in range(max(0, place - reach), min(len(tokens), place + _AFTER + 1))
        if other != place and _sign(tokens[other])
    )
    turned = _turned(tokens, place)
    if subjects:
        subject = subjects[0][1]
        used |= {place, subject}
        yield _MOVED * way * _sign(tokens[subject]) * turned
    elif measured or token not in words.LEVELS:
        yield _UNSAID * way * turned


def _measured(tokens: Sequence[str], place: int) -> bool:
    """Whether a share in per cent stands beside the direction."""
    return "%" in tokens[max(0, place - 3) : place + 5] or "pct" in tokens[max(0, place - 3) : place + 5]


def _sign(word: str) -> int:
    """Whether more of it is better; a cashtag stands for its price."""
    if word in words.GOOD_WHEN_UP or (len(word) > 1 and word[0] == "$"):
        return 1
    return -1 if word in words.BAD_WHEN_UP else 0


def _turned(tokens: Sequence[str], place: int) -> float:
    """1, or the opposite at less than full weight after a negation."""
    return -0.6 if any(token in words.NEGATIONS for token in tokens[max(0, place - 3) : place]) else 1.0


def _figures(clause: _Clause, used: set[int]) -> Iterator[float]:
    """Weight of "<measure> … 5.2 mn compared with … 4.1 mn", and of a profit beside a past loss."""
    tokens, past = clause.tokens[: clause.past], clause.tokens[clause.past + 1 :]
    if not past:
        return
    place = next((other for other in reversed(range(len(tokens))) if _sign(tokens[other])), -1)
    if place < 0:
        return
    sign, before = _sign(tokens[place]), next((_sign(token) for token in past if _sign(token)), 0)
    now, then = _first_number(tokens[place + 1 :]), _first_number(past)
    if now is None or then is None:
        return
    used.add(place)
    if before and before != sign:
        yield _COMPARED * sign
    elif now != then:
        yield _COMPARED * sign * (1 if now > then else -1)


def _first_number(tokens: Sequence[str]) -> float | None:
    """The first figure that is not a year, in its scale ("5.2 mn")."""
    for place, token in enumerate(tokens):
        if _NUMBER.match(token) and not re.fullmatch(r"(?:19|20)\d\d", token):
            beside = tokens[place + 1] if place + 1 < len(tokens) else ""
            return float(token.replace(",", "")) * _SCALES.get(beside, 1.0)
    return None
