"""Which instruments a text is about.

Belongs here: matching cashtags, tickers and company names, pure and repeatable. Does not: tone, the tables of names
(company_names.py), and no entity model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from octopus.alternative_data.company_names import (
    ALIASES,
    AMBIGUOUS,
    COINED,
    DESCRIPTORS,
    ENTITY_NOUNS,
    FOREIGN_NAMESAKES,
    ORDINARY_FIRST_WORDS,
    ORDINARY_TICKERS,
    OTHER_MEANINGS,
    STRICT,
)
from octopus.alternative_data.texts import clean_text

_LEGAL_WORDS = r"incorporated|inc|corporation|corp|company|co|limited|ltd|plc|llc|lp|l\.p|nv|n\.v|sa|s\.a|ag|se|p\.l\.c"
_LEGAL_FORMS = re.compile(rf"(?i)[\s,]+(?:{_LEGAL_WORDS}|sa/nv|holdings?|group)\.?$")
_SYMBOL = r"[A-Z]{1,5}(?:[./\-][A-Z]{1,2})?"
# After a currency sign or a letter ("LO$T", "U$D", "€$T") it is no cashtag, nor where the text breaks off ("$V…").
_CASHTAG = re.compile(r"(?<![\w$€£¥�])\$([A-Za-z]{1,5}(?:[./\-][A-Za-z]{1,2})?)(?![\w$€£¥�^{\\…]|\s_)")
_TICKER = re.compile(r"(?<![\w$.&'’/-])([A-Z]{3,5}(?:[.\-][A-Z]{1,2})?)(?![\w'’&/]|[.-]\w)")
_LISTED = re.compile(rf"(?i:\b(?:NYSE|NASDAQ|AMEX|NYSE ?Arca|NYSE ?MKT|Nasdaq ?GS))\s*:\s*({_SYMBOL})(?!\w)")
_IN_BRACKETS = re.compile(rf"\(({_SYMBOL}(?:\s*[,;/]\s*{_SYMBOL})*)\)")
_MARKET_WORDS = re.compile(
    r"(?i)\b(?:shares?|stocks?|earnings|revenues?|profits?|sales|eps|dividends?|analysts?|price target|pt|upgrade[sd]?|"
    r"downgrade[sd]?|initiate[sd]?|coverage|guidance|quarter(?:ly)?|q[1-4]|ceo|cfo|ipo|mergers?|acqui(?:re[sd]?|sition)|"
    r"offering|outlook|investors?|trad(?:es?|ing)|calls|puts|options|nasdaq|nyse|bullish|bearish|reports?|stake|deal|"
    r"estimates?|buyback|fy\d*|billion|million|bn|antitrust|nasdaq|dow|market ?cap)\b|\$[A-Za-z]{1,5}\b"
)
_LEGAL_AFTER = re.compile(rf"(?i)[\s,]+(?:{_LEGAL_WORDS})\b")
_POSSESSIVE_AFTER = re.compile(r"['’]s\b")
_SHARES_BEFORE = re.compile(r"(?i)\b(?:shares|stock|stake) (?:of|in) $")
_WORD_AFTER = re.compile(r"\s+([A-Z][a-z]+)")
_OTHER = re.compile("(?i)(?<!\\w)(?:" + "|".join(OTHER_MEANINGS) + r")(?!\w)")
_SHORTEST_SMALL = 4


def core_name(company: str) -> str:
    """``company`` without its legal form: "Apple Inc." and "The Coca-Cola Company" become "Apple" and "Coca-Cola"."""
    name = re.sub(r"^(?i:the)\s+", "", company.strip())
    while (shorter := _LEGAL_FORMS.sub("", name).rstrip(" ,&")) != name and shorter:
        name = shorter
    return name


@dataclass(frozen=True)
class _Name:
    """One spelling: whose it is, and whether it is a short form that stands for the company only in market talk."""

    symbols: tuple[str, ...]
    short: bool


@dataclass(frozen=True)
class Linker:
    """Finds the instruments that a text names.

    - A cashtag ($F) counts, unless it is part of a word (LO$T), cut off ($V…) or another exchange's ($T beside Telus).
    - A bare ticker counts in capitals, from three letters on, unless it is an ordinary word or the whole text is in
      capitals; shorter and ordinary ones count after an exchange (NYSE: T), and in brackets: from two letters on
      alone, and any in a list (KO, T).
    - A company's name counts as whole words in its own spelling or in capitals, with the aliases of
      `company_names.ALIASES` and its first word where only a descriptor follows ("Agilent" Technologies). In small
      letters a name counts if it means nothing else, or is not ambiguous beside words of the market.
    - A name that is also a word ("Apple", "Visa") does not count in a phrase that means something else, or as part of
      another name.

    A name that several instruments share, as share classes do, counts for all of them.

    Attributes:
        names: for each instrument its company name, or an empty text where it is not known.
        aliases: further names for an instrument; with a $, its other or former tickers.
    """

    names: Mapping[str, str]
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def link(self, text: str) -> tuple[str, ...]:
        """Instruments named in ``text``, sorted, each once."""
        text = clean_text(text)
        found = set(self._cashtags(text))
        for ticker in self._tickers(text):
            found.update(self._by_ticker.get(_plain(ticker), ()))
        found.update(self._companies(text))
        return tuple(sorted(found))

    def link_all(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        return [self.link(text) for text in texts]

    def _cashtags(self, text: str) -> Iterator[str]:
        for tag in _CASHTAG.findall(text):
            namesake = FOREIGN_NAMESAKES.get(tag.upper())
            if namesake is None or not re.search(namesake, text):
                yield from self._by_ticker.get(_plain(tag), ())

    def _tickers(self, text: str) -> Iterator[str]:
        yield from _LISTED.findall(text)
        for listed in _IN_BRACKETS.findall(text):
            tickers = re.split(r"\s*[,;/]\s*", listed) if "," in listed or ";" in listed else [listed]
            if len(tickers) > 1:
                yield from tickers
            elif len(listed) > 1 and listed not in ORDINARY_TICKERS:
                yield listed
        if not (text.isupper() and len(text.split()) > 1):
            yield from (ticker for ticker in _TICKER.findall(text) if ticker not in ORDINARY_TICKERS)

    def _companies(self, text: str) -> Iterator[str]:
        matches = list(self._company.finditer(text)) if self._company is not None else []
        if not matches:
            return
        elsewhere = [match.span() for match in _OTHER.finditer(text)]
        in_market = _MARKET_WORDS.search(text) is not None
        for match in matches:
            name = self._by_name[match[0].casefold()]
            meant_otherwise = any(low <= match.start() < high for low, high in elsewhere)
            if not meant_otherwise and _counts(match, name.short, in_market):
                yield from name.symbols

    @cached_property
    def _by_ticker(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {_plain(symbol): (symbol,) for symbol in self.names}
        for symbol in sorted(self.names):
            for alias in self._spoken(symbol):
                if alias.startswith("$"):
                    # A ticker that is an instrument here means that one.
                    found.setdefault(_plain(alias[1:]), (symbol,))
        return found

    def _spoken(self, symbol: str) -> tuple[str, ...]:
        core = core_name(self.names[symbol])
        return (*ALIASES.get(core, ()), *self.aliases.get(symbol, ()))

    @cached_property
    def _by_name(self) -> dict[str, _Name]:
        full: defaultdict[str, set[str]] = defaultdict(set)
        short: defaultdict[str, set[str]] = defaultdict(set)
        for symbol, company in self.names.items():
            core = core_name(company)
            for name in (core, *self._spoken(symbol)):
                if len(name) > 1 and not name.startswith("$"):
                    full[name.casefold()].add(symbol)
            if first := _short_form(core):
                short[first.casefold()].add(symbol)
        names = {name: _Name(tuple(sorted(symbols)), True) for name, symbols in short.items()}
        return names | {name: _Name(tuple(sorted(symbols)), False) for name, symbols in full.items()}

    @cached_property
    def _company(self) -> re.Pattern[str] | None:
        if not self._by_name:
            return None
        # The longest first, so that "Bank of America" is not read as a shorter name inside it.
        ordered = sorted(self._by_name, key=lambda name: (-len(name), name))
        return re.compile(r"(?i)(?<![\w$])(?:" + "|".join(map(re.escape, ordered)) + r")(?!\w)")


def _plain(ticker: str) -> str:
    """One spelling of a ticker with a share class: BRK.B, BRK/B and BRK-B are one."""
    return re.sub(r"[./]", "-", ticker.upper())


def _short_form(core: str) -> str:
    """The first word of a name whose other words are mere descriptors; empty where there is none, or it is ordinary."""
    first, *rest = core.split()[:3] or [""]
    descriptive = bool(rest) and len(core.split()) <= 3 and all(word.casefold() in DESCRIPTORS for word in rest)
    return first if descriptive and len(first) > 4 and first.casefold() not in ORDINARY_FIRST_WORDS else ""


def _counts(match: re.Match[str], short: bool, in_market: bool) -> bool:
    """Whether a match of a company's name means the company."""
    found, folded, text = match[0], match[0].casefold(), match.string
    if folded in COINED:
        return True
    before, after = text[: match.start()], text[match.end() :]
    if folded in STRICT:
        return found[0].isupper() and _stands_out(before, after)
    if not (found[0].isupper() or found[0].isdigit()):
        return in_market and not short and len(found) >= _SHORTEST_SMALL and " " not in found and folded in AMBIGUOUS
    if len(found) < _SHORTEST_SMALL:
        return found.isupper()
    if folded in AMBIGUOUS or short:
        following = _WORD_AFTER.match(after)
        part = before.endswith("-") or (following is not None and following[1].casefold() in ENTITY_NOUNS)
        return not part and (in_market or not short)
    return True


def _stands_out(before: str, after: str) -> bool:
    return bool(_LEGAL_AFTER.match(after) or _POSSESSIVE_AFTER.match(after) or _SHARES_BEFORE.search(before))


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
