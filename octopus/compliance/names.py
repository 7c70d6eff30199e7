"""By which other names an instrument may stand in a list or a file: tickers that it had, or has by now.

Belongs here: what a ticker that somebody wrote means of the instruments that are ordered. Does not: who had which
ticker (octopus/market_data/identifiers.py), the lists (checks.py) and files (reference.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class OtherName:
    """A ticker that means an instrument which is ordered under another name.

    Attributes:
        until: the last day before another instrument took the ticker; None: nobody has taken it.
    """

    ticker: str
    until: date | None

    def may_mean_it(self, since: date) -> bool:
        """Whether one who writes the ticker of days from ``since`` on may mean the instrument."""
        return self.until is None or since <= self.until


OtherNames = Mapping[str, tuple[OtherName, ...]]
"""Of instruments, by the name that orders have; those that have no other name are left out."""


def other_names(names: Collection[str], spans: Iterable[Mapping[str, Any]]) -> dict[str, tuple[OtherName, ...]]:
    """The other tickers of each of ``names``.

    A ticker means who bears it or, until another takes it, who bore it last.

    Args:
        spans: permanent_id, ticker, valid_from and name, oldest first, of the instruments whose ticker changed or had
            another bearer (`octopus.market_data.identifiers.moved_spans`).
    """
    told = list(spans)
    bearers: dict[str, str] = {row["ticker"]: row["permanent_id"] for row in told}
    bearers |= {row["name"]: row["permanent_id"] for row in told}
    found: dict[str, tuple[OtherName, ...]] = {}
    for name in sorted(set(names) & bearers.keys()):
        own = bearers[name]
        others = {
            row["ticker"]: OtherName(row["ticker"], _until(place, told))
            for place, row in enumerate(told)
            if row["permanent_id"] == own and row["ticker"] != name
        }
        if others:
            found[name] = tuple(others.values())
    return found


def _until(place: int, told: list[Mapping[str, Any]]) -> date | None:
    own = told[place]
    taken = (
        row["valid_from"]
        for row in told[place + 1 :]
        if row["ticker"] == own["ticker"] and row["permanent_id"] != own["permanent_id"]
    )
    first: date | None = min((day for day in taken if day is not None), default=None)
    return None if first is None else first - timedelta(days=1)


def halted_as(halted: frozenset[str] | None, others: OtherNames) -> frozenset[str] | None:
    """``halted`` with the instruments that stand there by another name. Who took the ticker since is halted, too: which
    of both is meant is not for a gate to guess."""
    if halted is None:
        return None
    return halted.union(name for name, known in others.items() if any(other.ticker in halted for other in known))


def located_as(located: Mapping[str, Decimal] | None, others: OtherNames) -> dict[str, Decimal] | None:
    """``located`` with what stands there by a ticker that can mean nobody else."""
    if located is None:
        return None
    added = {
        name: sum((located.get(other.ticker, Decimal(0)) for other in known if other.until is None), Decimal(0))
        for name, known in others.items()
    }
    return dict(located) | {name: located.get(name, Decimal(0)) + more for name, more in added.items() if more}


def issued_as(issued: Mapping[str, Decimal] | None, others: OtherNames) -> dict[str, Decimal] | None:
    """``issued`` with what stands there by a ticker that can mean nobody else, where the own name does not."""
    if issued is None:
        return None
    told = {
        name: issued[other.ticker]
        for name, known in others.items()
        for other in known
        if other.until is None and other.ticker in issued
    }
    return told | dict(issued)
