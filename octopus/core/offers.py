"""What other packages offer by entry point: models and strategies of a user's own.

Belongs here: finding the one offer of a name beside Octopus' own, and loading it. Does not: what an offer must be (the
group that asks for it).

A module of another package is imported only when its offer is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar, cast

from octopus.core.errors import ConfigError

Offer = TypeVar("Offer")
Refusal = Callable[[str, str], ConfigError]
"""From a name and a remedy to the error that says both."""


def find_offer(group: str, name: str, built_in: Mapping[str, Offer], refused: Refusal) -> Offer | EntryPoint:
    """Octopus' own ``name`` or the entry point of ``group`` that is called so.

    Raises:
        ConfigError: nobody offers it, or several do.
    """
    points = {point.value: point for point in entry_points(group=group, name=name)}
    if len(points) + (name in built_in) > 1:
        raise refused(name, "several packages offer one of that name; uninstall one or rename its entry point")
    if name in built_in:
        return built_in[name]
    if not points:
        known = ", ".join(sorted({*built_in, *names_offered(group)}))
        raise refused(name, f"use one of {known}, or install the package that brings it")
    return next(iter(points.values()))


def load_offer(point: EntryPoint, refused: Refusal) -> object:
    """What ``point`` names.

    Raises:
        ConfigError: its module cannot be imported, or has no such thing.
    """
    try:
        return point.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise refused(point.name, f"{point.value} cannot be imported ({error}); mend or reinstall it") from error


def names_offered(group: str) -> frozenset[str]:
    """Names that installed packages offer in ``group``."""
    return frozenset(entry_points(group=group).names)


def package_of(offer: object) -> str:
    """Name and version of the package that offers ``offer``, the module's path where it has neither; "" for our own."""
    point = cast(EntryPoint, offer)
    if not hasattr(point, "dist"):
        # Not asked by type: where the backport of importlib.metadata is imported, it finds entry points of its own.
        return ""
    return point.value if point.dist is None else f"{point.dist.name} {point.dist.version}"
