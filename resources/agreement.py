"""What the files of config/ say of each other: names that must be known, limits that must agree.

Belongs here: checks that need more than one of them. Does not: reading them (settings.py), what one file alone must be
(the models beside the code that obeys them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from octopus.compliance.rules import HOUSES_OWN, CompliancePolicy, Jurisdiction, Mode, RestrictedList, WatchList
from octopus.core.errors import ConfigError
from octopus.core.limits import SHARED, allows_more, taken
from octopus.portfolio.config import Constraints, PortfolioConfig
from octopus.risk.limits import RiskLimits
from resources.plain_yaml import remedy_of

MISSPELT = 0.75
"""So much alike are a name that may be another's and the one that is likely meant (`nearest`)."""


@dataclass(frozen=True)
class Known:
    """The names that a field may write; any other would do nothing, and nobody would know.

    Attributes:
        kind: what bears them, as a message says it. names: all of them.
        otherwise: what to do where none of them is meant.
    """

    kind: str
    names: Collection[str]
    otherwise: str

    def require(self, written: Iterable[str], where: Path, field: str) -> None:
        """That each name written in ``field`` of the file ``where`` is one of them.

        Raises:
            ConfigError: naming the file, the field, the name, the nearest one and the remedy.
        """
        for name in sorted(set(written) - set(self.names)):
            near = nearest(name, self.names)
            remedy = f"write {near}" if near else "correct it"
            raise ConfigError(
                where=str(where), field=field, value=name,
                remedy=f"no {self.kind} has this name: {remedy}, or {self.otherwise}",
            )  # fmt: skip

    def require_meant(self, written: Iterable[str], where: Path, field: str) -> None:
        """The same where other names may stand, too: that none is much like one of them that is not written itself.

        Raises:
            ConfigError: as `require`.
        """
        left = set(self.names).difference(written := set(written))
        misspelt = [name for name in written.difference(self.names) if nearest(name, left, MISSPELT)]
        Known(self.kind, left, self.otherwise).require(misspelt, where, field)


def nearest(name: str, names: Iterable[str], likeness: float = 0.6) -> str | None:
    """Which of ``names`` is most likely meant by ``name``, whatever its case; None: none is so much like it.

    Args:
        likeness: from 0 to 1, as `difflib.SequenceMatcher.ratio`.
    """
    folded = {one.casefold(): one for one in sorted(names)}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=likeness)
    return folded[near[0]] if near else None


def instruments(symbols: Collection[str]) -> Known:
    """The names of the universe's instruments."""
    return Known("instrument of universe.symbols", symbols, "add it to universe.yaml")


def require_traded(portfolio: PortfolioConfig, limits: RiskLimits, symbols: Collection[str], folder: Path) -> None:
    """That benchmarks and risk budgets are of instruments of the universe.

    A name that nothing is known of would weigh nothing: beta zero, and a tracking error against cash.

    Raises:
        ConfigError: naming the file, the field and the instrument.
    """
    traded = instruments(symbols)
    traded.require(portfolio.benchmark or (), folder / "strategies.yaml", "portfolio.benchmark")
    traded.require(portfolio.risk_budgets, folder / "strategies.yaml", "portfolio.risk_budgets")
    traded.require(limits.benchmark or (), folder / "risk.yaml", "benchmark")


def require_shocked(limits: RiskLimits, symbols: Collection[str], sectors: Mapping[str, str], path: Path) -> None:
    """That the shocks of the risk report are of instruments and sectors of the universe.

    A shock of any other name loses nothing. A sector in which nothing is traded may stand there, unless it is much like
    one in which something is: the same scenarios go with other universes (`idle_shocks`).

    Raises:
        ConfigError: naming the shock, the name, the nearest one and the remedy.
    """
    known = Known("sector of a traded instrument", _traded_sectors(symbols, sectors), "take it out of the shock")
    for name, shock in limits.stress.shocks.items():
        instruments(symbols).require(shock.instruments, path, f"stress.shocks.{name}.instruments")
        known.require_meant(shock.sectors, path, f"stress.shocks.{name}.sectors")


def idle_shocks(limits: RiskLimits, symbols: Collection[str], sectors: Mapping[str, str]) -> tuple[str, ...]:
    """Shocks of the risk report that name a sector in which nothing is traded: one line for each."""
    known = _traded_sectors(symbols, sectors)
    return tuple(
        f"shock {name!r} of risk.yaml is of sector {sector}, in which universe.sectors has no traded instrument: "
        "it moves nothing"
        for name, shock in limits.stress.shocks.items()
        for sector in sorted(set(shock.sectors) - known)
    )


def _traded_sectors(symbols: Collection[str], sectors: Mapping[str, str]) -> frozenset[str]:
    return frozenset(sector for symbol, sector in sectors.items() if symbol in symbols)


def require_brokers(policy: CompliancePolicy, brokers: Collection[str], path: Path) -> None:
    """That the policy names brokers that there are: a rule that holds at another one is off.

    Raises:
        ConfigError: naming the rule, the name and the nearest broker.
    """
    known = Known("broker", brokers, f"choose one of {', '.join(sorted(brokers))}")
    known.require((policy.account.broker,), path, "account.broker")
    for rule in policy.rules:
        known.require(rule.brokers or (), path, f"rules.{rule.id}.brokers")


def require_jurisdictions(policy: CompliancePolicy, path: Path) -> None:
    """That the account is under some state's rules, and that no label switches a control of the house off.

    Asked of the settings, and not of a policy as such: one that was recorded under other labels is judged again as it
    was.

    Raises:
        ConfigError: naming the rule or the field, its value and the remedy.
    """
    states = ", ".join(one for one in Jurisdiction if one is not Jurisdiction.HOUSE)
    if not policy.account.jurisdictions - {Jurisdiction.HOUSE}:
        raise ConfigError(
            where=str(path), field="account.jurisdictions",
            value=f"[{', '.join(sorted(policy.account.jurisdictions))}]",
            remedy=f"name whose rules bind the account besides the house's ({states}): those of its owner, its broker "
            "and its market",
        )  # fmt: skip
    for rule in policy.rules:
        if isinstance(rule, HOUSES_OWN) and rule.jurisdiction is not Jurisdiction.HOUSE:
            raise ConfigError(
                where=str(path), field=f"rules.{rule.id}.jurisdiction", value=rule.jurisdiction.value,
                remedy=f"{rule.kind} is a control of the house's own, which holds wherever the account is: write "
                "house, and say in source who asks for it",
            )  # fmt: skip


def require_listed(policy: CompliancePolicy, symbols: Collection[str], path: Path) -> None:
    """That no list of the policy writes an instrument of the universe in another way: its orders would pass.

    Raises:
        ConfigError: naming the rule, what it lists, and what it means.
    """
    for rule, entry in _strangers(policy, symbols):
        if (same := spelt_otherwise(entry, symbols)) is not None:
            raise ConfigError(
                where=str(path), field=f"rules.{rule}.entries.symbol", value=entry,
                remedy=f"the universe writes it {same}: write it so, or its orders pass",
            )  # fmt: skip


def spelt_otherwise(name: str, symbols: Collection[str]) -> str | None:
    """The instrument of the universe that ``name`` writes in another way (``aapl``, ``BRK-B`` for ``BRK.B``)."""
    return None if name in symbols else _plainly(tuple(symbols)).get(_plain(name))


@lru_cache(maxsize=4)
def _plainly(symbols: tuple[str, ...]) -> Mapping[str, str]:
    return {_plain(symbol): symbol for symbol in symbols}


def likely_misspelt(policy: CompliancePolicy, symbols: Collection[str]) -> tuple[str, ...]:
    """What the policy lists, the universe does not have, and is much like something that it has: one line for each.

    Lists name what is not traded here, too: other names are no matter.
    """
    return tuple(
        f"{rule} of compliance.yaml lists {entry}, which is no instrument of universe.yaml: is {near} meant? "
        f"Until then orders of {near} pass the rule"
        for rule, entry in _strangers(policy, symbols)
        if (near := likely_meant(entry, symbols))
    )


def likely_meant(name: str, symbols: Collection[str]) -> str | None:
    """The instrument of the universe that a name which it does not have is much like."""
    return nearest(_plain(name), symbols, MISSPELT)


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
        problem = remedy_of(error.errors(include_url=False)[0])
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
