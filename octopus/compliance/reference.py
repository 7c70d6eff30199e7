"""Reference data that a user brings for the rules: trading halts, locates, shares outstanding.

Belongs here: the rows' form, their checks, and what is in force at an instant or in a session. Does not: reading files
(resources/reference_files.py), the rules that ask (checks.py, market_checks.py).

Every row says from when it is known or holds, so that a past session sees what could be known then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from octopus.core.errors import OctopusError

Row = Mapping[str, str]
"""One line of a table: text by column."""
Spelling = Callable[[str], str | None]
"""The traded instrument that a name writes in another way; None: it is written as traded, or is not traded."""


class InvalidReferenceError(OctopusError):
    """Rows of a user's reference data are wrong; the message has one line for each of them."""


@dataclass(frozen=True)
class Halt:
    """No trading in an instrument from ``halted_at`` until before ``resumed_at`` (None: until further notice)."""

    instrument: str
    halted_at: datetime
    resumed_at: datetime | None
    reason: str


@dataclass(frozen=True)
class Locate:
    """Shares that a lender has promised, for the sessions ``valid_from`` to ``expires``, both inclusive."""

    instrument: str
    quantity: Decimal
    valid_from: date
    expires: date


@dataclass(frozen=True)
class SharesOutstanding:
    """An issuer's shares, as known from the session ``known_from`` on."""

    instrument: str
    known_from: date
    shares: Decimal


@dataclass(frozen=True)
class Reference:
    """All reference data of the user's own; None: none was configured, which no rule takes for "nothing"."""

    halts: tuple[Halt, ...] | None = None
    locates: tuple[Locate, ...] | None = None
    shares: tuple[SharesOutstanding, ...] | None = None

    def halted(self, now: datetime) -> frozenset[str] | None:
        """Instruments that are halted at ``now``."""
        if self.halts is None:
            return None
        return frozenset(
            halt.instrument
            for halt in self.halts
            if halt.halted_at <= now and (halt.resumed_at is None or now < halt.resumed_at)
        )

    def located(self, session: date) -> dict[str, Decimal] | None:
        """Shares located in ``session``, by instrument; several locates of one add up."""
        if self.locates is None:
            return None
        total: dict[str, Decimal] = {}
        for locate in self.locates:
            if locate.valid_from <= session <= locate.expires:
                total[locate.instrument] = total.get(locate.instrument, Decimal(0)) + locate.quantity
        return total

    def issued(self, session: date) -> dict[str, Decimal] | None:
        """Shares outstanding as last told by ``session``, by instrument."""
        if self.shares is None:
            return None
        told = sorted((one for one in self.shares if one.known_from <= session), key=lambda one: one.known_from)
        return {one.instrument: one.shares for one in told}


HALT_COLUMNS = ("instrument", "halted_at", "resumed_at", "reason")
LOCATE_COLUMNS = ("instrument", "quantity", "valid_from", "expires")
SHARES_COLUMNS = ("instrument", "known_from", "shares")

_Parsed = TypeVar("_Parsed")


def parse_halts(rows: Sequence[Row], where: str, spelling: Spelling) -> tuple[Halt, ...]:
    """Rows of `HALT_COLUMNS`; an empty ``resumed_at`` means until further notice.

    Raises:
        InvalidReferenceError: naming every row that is wrong, its column, value and remedy: also one whose instrument
            is written otherwise than it is traded, which would be of nothing.
    """
    return _parse(rows, where, spelling, _halt)


def parse_locates(rows: Sequence[Row], where: str, spelling: Spelling) -> tuple[Locate, ...]:
    """Rows of `LOCATE_COLUMNS`. Raises `InvalidReferenceError` likewise."""
    return _parse(rows, where, spelling, _locate)


def parse_shares(rows: Sequence[Row], where: str, spelling: Spelling) -> tuple[SharesOutstanding, ...]:
    """Rows of `SHARES_COLUMNS`. Raises `InvalidReferenceError` likewise."""
    return _parse(rows, where, spelling, _shares)


def _parse(rows: Sequence[Row], where: str, spelling: Spelling, read: Callable[[Row], _Parsed]) -> tuple[_Parsed, ...]:
    parsed: list[_Parsed] = []
    problems: list[str] = []
    for line, row in enumerate(rows, 2):
        try:
            if (traded := spelling(name := _name(row))) is not None:
                raise ValueError(f"instrument = {name!r}: the universe writes it {traded}: write it so")
            parsed.append(read(row))
        except ValueError as problem:
            problems.append(f"{where}:{line}: {problem}")
    if problems:
        raise InvalidReferenceError("\n".join(problems))
    return tuple(parsed)


def _halt(row: Row) -> Halt:
    halted, resumed = _instant(row, "halted_at"), _instant(row, "resumed_at") if row["resumed_at"] else None
    if resumed is not None and resumed <= halted:
        raise ValueError(f"resumed_at = {row['resumed_at']!r} is not after halted_at: swap them, or leave it empty")
    return Halt(_name(row), halted, resumed, row["reason"])


def _locate(row: Row) -> Locate:
    first, last = _day(row, "valid_from"), _day(row, "expires")
    if last < first:
        raise ValueError(f"expires = {row['expires']!r} is before valid_from = {row['valid_from']!r}: swap them")
    return Locate(_name(row), _number(row, "quantity"), first, last)


def _shares(row: Row) -> SharesOutstanding:
    return SharesOutstanding(_name(row), _day(row, "known_from"), _number(row, "shares"))


def _name(row: Row) -> str:
    name = row["instrument"].strip()
    if not name:
        raise ValueError("instrument = '': name the instrument as config/universe.yaml does")
    return name


def _instant(row: Row, column: str) -> datetime:
    text = row[column]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.utcoffset() is None:
        raise ValueError(f"{column} = {text!r}: write an instant with its zone, e.g. 2022-12-28T15:00:00+00:00")
    return at


def _day(row: Row, column: str) -> date:
    try:
        return date.fromisoformat(row[column])
    except ValueError:
        raise ValueError(f"{column} = {row[column]!r}: write a session date, e.g. 2022-12-28") from None


def _number(row: Row, column: str) -> Decimal:
    try:
        number = Decimal(row[column])
    except InvalidOperation:
        number = Decimal("nan")
    if not (number.is_finite() and number > 0):
        raise ValueError(f"{column} = {row[column]!r}: write a positive number of shares")
    return number
