"""What the files of config/ say of each other: names that must be known, limits that must agree.

Belongs here: checks that need more than one of them. Does not: reading them (settings.py), what one file alone must be
(the models beside the code that obeys them).
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

from octopus.core.errors import ConfigError
from octopus.portfolio.config import PortfolioConfig


def require_traded(portfolio: PortfolioConfig, symbols: Collection[str], path: Path) -> None:
    """That the portfolio's benchmark and risk budgets are of instruments of the universe.

    A name that nothing is known of would weigh nothing: beta zero, and a tracking error against cash.

    Raises:
        ConfigError: naming the field and the instrument.
    """
    for field, names in (("benchmark", portfolio.benchmark or {}), ("risk_budgets", portfolio.risk_budgets)):
        for name in sorted(set(names) - set(symbols)):
            raise ConfigError(
                where=str(path), field=f"portfolio.{field}", value=name,
                remedy=f"no instrument of universe.symbols has this name: {meant(name, symbols)}",
            )  # fmt: skip


def meant(name: str, symbols: Collection[str]) -> str:
    """The remedy for a name that is not in the universe."""
    near = get_close_matches(name.upper(), symbols, n=1, cutoff=0.6)
    return f"write {near[0]}, or add it to universe.yaml" if near else "correct it, or add it to universe.yaml"
