"""Which instruments a text is about.

Belongs here: matching cashtags, tickers and company names, pure and repeatable. Does not: tone, and no entity model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

_LEGAL_FORMS = re.compile(
    r"(?i)[\s,]+(?:incorporated|inc|corporation|corp|company|co|limited|ltd|plc|llc|lp|nv|sa|ag|se|holdings?|group)\.?$"
)
_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z]{1,5}(?:[.\-][A-Za-z]{1,2})?)(?!\w)")
_TICKER = re.compile(r"(?<![\w$.&'’-])([A-Z]{3,5}(?:[.\-][A-Z]{1,2})?)(?![\w'’&])")

# fmt: off
ORDINARY_WORDS = frozenset((
    "ALL", "ANY", "ARE", "BIG", "BUY", "CAN", "CAR", "CAT", "CEO", "COST", "DAY", "DOW", "EAT", "EDIT", "EPS", "ETF",
    "EVER", "FAST", "FOR", "FUN", "GDP", "HAS", "HOPE", "IPO", "JOB", "KEY", "LIFE", "LOVE", "LOW", "MAIN", "MAN",
    "NEW", "NICE", "NOW", "ODD", "OPEN", "OUT", "PAY", "PEAK", "PLAY", "POST", "REAL", "RUN", "SAFE", "SEE", "STAY",
    "SUN", "TEAM", "TRUE", "TWO", "USA", "WELL", "WORK", "YOU",
))
# fmt: on
"""Tickers that are also words or common abbreviations: in capitals they mean the word, so only a cashtag counts."""


def core_name(company: str) -> str:
    """``company`` without its legal form: "Apple Inc." and "The Coca-Cola Company" become "Apple" and "Coca-Cola"."""
    name = re.sub(r"^(?i:the)\s+", "", company.strip())
    while (shorter := _LEGAL_FORMS.sub("", name).rstrip(" ,&")) != name and shorter:
        name = shorter
    return name


@dataclass(frozen=True)
class Linker:
    """Finds the instruments that a text names.

    A cashtag ($F) always counts. A bare ticker counts in capitals, from three letters on, unless it is an ordinary word
    or the whole text is in capitals. A company's name counts as whole words in its own spelling or in capitals.

    Attributes:
        names: for each instrument its company name, or an empty text where it is not known.
    """

    names: Mapping[str, str]

    def link(self, text: str) -> tuple[str, ...]:
        """Instruments named in ``text``, sorted, each once."""
        found = {tag.upper() for tag in _CASHTAG.findall(text)}
        if not (text.isupper() and len(text.split()) > 1):
            found |= {tag for tag in _TICKER.findall(text) if tag not in ORDINARY_WORDS}
        found &= self.names.keys()
        if self._company is not None:
            found |= {self._by_name[match.upper()] for match in self._company.findall(text)}
        return tuple(sorted(found))

    def link_all(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        return [self.link(text) for text in texts]

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {core_name(name).upper(): symbol for symbol, name in self.names.items() if len(core_name(name)) > 1}

    @cached_property
    def _company(self) -> re.Pattern[str] | None:
        spellings = {core_name(name) for name in self.names.values() if len(core_name(name)) > 1}
        if not spellings:
            return None
        # The longest first, so that "Bank of America" is not read as a shorter name inside it.
        ordered = sorted(spellings | {name.upper() for name in spellings}, key=lambda name: (-len(name), name))
        return re.compile(r"(?<!\w)(" + "|".join(map(re.escape, ordered)) + r")(?!\w)")


def search_terms(names: Mapping[str, str], longest: int) -> list[str]:
    """Queries of at most ``longest`` characters that together ask for every instrument.

    Each instrument is asked for by its company name in quotes, or by its cashtag where it has none; terms are joined
    by OR, as many as fit.
    """
    terms = [f'"{core_name(name)}"' if name else f'"${symbol}"' for symbol, name in sorted(names.items())]
    queries: list[str] = []
    for term in terms:
        joined = f"{queries[-1]} OR {term}" if queries else ""
        if joined and len(joined) <= longest:
            queries[-1] = joined
        else:
            queries.append(term)
    return queries
