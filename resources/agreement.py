"""What the files of config/ say of each other: names that must be known, limits that must agree.

Belongs here: checks that need more than one of them. Does not: reading them (settings.py), what one file alone must be
(the models beside the code that obeys them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from octopus.compliance.rules import CompliancePolicy, Mode, RestrictedList, WatchList
from octopus.core.errors import ConfigError
from octopus.core.limits import SHARED, allows_more, taken
from octopus.portfolio.config import Constraints, PortfolioConfig
from octopus.risk.limits import RiskLimits


def require_traded(portfolio: PortfolioConfig, limits: RiskLimits, symbols: Collection[str], folder: Path) -> None:
    """That benchmarks and risk budgets are of instruments of the universe.

    A name that nothing is known of would weigh nothing: beta zero, and a tracking error against cash.

    Raises:
        ConfigError: naming the file, the field and the instrument.
    """
    named = (
        ("strategies.yaml", "portfolio.benchmark", portfolio.benchmark or {}),
        ("strategies.yaml", "portfolio.risk_budgets", portfolio.risk_budgets),
        ("risk.yaml", "benchmark", limits.benchmark or {}),
    )
    for file, field, names in named:
        for name in sorted(set(names) - set(symbols)):
            raise ConfigError(
                where=str(folder / file), field=field, value=name,
                remedy=f"no instrument of universe.symbols has this name: {meant(name, symbols)}",
            )  # fmt: skip


def meant(name: str, symbols: Collection[str]) -> str:
    """The remedy for a name that is not in the universe."""
    near = get_close_matches(name.upper(), symbols, n=1, cutoff=0.6)
    return f"write {near[0]}, or add it to universe.yaml" if near else "correct it, or add it to universe.yaml"


def require_listed(policy: CompliancePolicy, symbols: Collection[str], path: Path) -> None:
    """That no list of the policy writes an instrument of the universe in another way: its orders would pass.

    Raises:
        ConfigError: naming the rule, what it lists, and what it means.
    """
    plain = {_plain(symbol): symbol for symbol in symbols}
    for rule, entry in _strangers(policy, symbols):
        if (same := plain.get(_plain(entry))) is not None:
            raise ConfigError(
                where=str(path), field=f"rules.{rule}.entries.symbol", value=entry,
                remedy=f"the universe writes it {same}: write it so, or its orders pass",
            )  # fmt: skip


def likely_misspelt(policy: CompliancePolicy, symbols: Collection[str]) -> tuple[str, ...]:
    """What the policy lists, the universe does not have, and is much like something that it has: one line for each.

    Lists name what is not traded here, too: other names are no matter.
    """
    return tuple(
        f"{rule} of compliance.yaml lists {entry}, which is no instrument of universe.yaml: is {near[0]} meant? "
        f"Until then orders of {near[0]} pass the rule"
        for rule, entry in _strangers(policy, symbols)
        if (near := get_close_matches(_plain(entry), symbols, n=1, cutoff=0.75))
    )


def _strangers(policy: CompliancePolicy, symbols: Collection[str]) -> Iterator[tuple[str, str]]:
    """Rule and name of each entry of a list that is no instrument of the universe."""
    for rule in policy.rules:
        if isinstance(rule, RestrictedList | WatchList) and rule.mode is not Mode.OFF:
            yield from ((rule.id, entry.symbol) for entry in rule.parameters.entries if entry.symbol not in symbols)


def _plain(symbol: str) -> str:
    """Without case, spaces and signs: BRK.B and brk-b are one."""
    return "".join(letter for letter in symbol.upper() if letter.isalnum())


def require_inside(portfolio: PortfolioConfig, limits: RiskLimits, sectors: Mapping[str, str], folder: Path) -> None:
    """That no constraint of the optimiser allows more than the limit of the same name: the gate would deny its orders.

    Raises:
        ConfigError: naming the constraint, both values and the remedy.
    """
    where, constraints = str(folder / "strategies.yaml"), portfolio.constraints
    for name in sorted(constraints.chosen):
        value, limit = getattr(constraints, name), getattr(limits, name)
        if allows_more(name, value, limit):
            raise ConfigError(
                where=where, field=f"portfolio.constraints.{name}", value=value,
                remedy=f"it allows more than {name} = {limit} of risk.yaml, and the gate would deny the orders: set it "
                f"{SHARED[name]} {limit}, or change the limit (docs/risk.md)",
            )  # fmt: skip
    if portfolio.benchmark is not None and limits.benchmark is not None and portfolio.benchmark != limits.benchmark:
        raise ConfigError(
            where=where, field="portfolio.benchmark", value=portfolio.benchmark,
            remedy=f"the limits of risk.yaml are measured against {limits.benchmark}: leave it out to use that one",
        )  # fmt: skip
    try:
        Constraints.model_validate(inside_limits(portfolio, limits, sectors).constraints.model_dump())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(
            where=where, field="portfolio.constraints", value=", ".join(sorted(constraints.chosen)),
            remedy=f"with the limits of risk.yaml for what is left out: {problem}",
        ) from None  # fmt: skip


def inside_limits(portfolio: PortfolioConfig, limits: RiskLimits, sectors: Mapping[str, str]) -> PortfolioConfig:
    """The portfolio with the gate's limits and benchmark where it has none of its own."""
    constraints = portfolio.constraints
    found = taken(constraints.model_dump(), constraints.chosen, limits.model_dump(include=set(SHARED)))
    largest = max(found.get("name_weight_max", constraints.name_weight_max), -constraints.floor)
    most = found.get("sector_weight_max")
    # A limit that names alone keep is none: without its rows the programme is smaller.
    if most is not None and max(Counter(sectors.values()).values(), default=0) * largest <= most:
        del found["sector_weight_max"]
    changes: dict[str, object] = {"constraints": constraints.model_copy(update=found)} if found else {}
    if portfolio.benchmark is None and limits.benchmark is not None:
        changes["benchmark"] = limits.benchmark
    return portfolio.model_copy(update=changes) if changes else portfolio
