"""The limits that the optimiser and the risk gate share: one name, one meaning, one safe side.

Belongs here: that vocabulary, and whether a constraint allows more than a limit. Does not: the values
(`octopus.portfolio.config.Constraints`, `octopus.risk.limits.RiskLimits`) and what obeys them.

Values are fractions of equity, but for betas and where the list below says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any


class Sense(StrEnum):
    """On which side of a limit the values lie that it allows, as a message says to set a value: "at most 0.1"."""

    CEILING = "at most"
    FLOOR = "at least"
    SWITCH = "to"
    """True forbids something, false forbids nothing."""


SHARED: Mapping[str, Sense] = {
    "long_only": Sense.SWITCH,
    "name_weight_max": Sense.CEILING,
    "name_weight_min": Sense.FLOOR,
    "gross_max": Sense.CEILING,
    "net_min": Sense.FLOOR,
    "net_max": Sense.CEILING,
    "turnover_max": Sense.CEILING,
    "turnover_max_initial": Sense.CEILING,
    "cash_min_fraction": Sense.FLOOR,
    "sector_weight_max": Sense.CEILING,
    "adv_participation_max": Sense.CEILING,
    "beta_min": Sense.FLOOR,
    "beta_max": Sense.CEILING,
    "tracking_error_max_annual": Sense.CEILING,
}
"""By name.

``long_only``: no position below zero. ``name_weight_max``, ``name_weight_min``: of one position. ``gross_max``: sum of
absolute positions; ``net_min``, ``net_max``: sum of signed ones. ``turnover_max``: sum of absolute changes at one time,
``turnover_max_initial`` while nothing is held. ``cash_min_fraction``: what is left in cash. ``sector_weight_max``: sum
of absolute positions in one sector. ``adv_participation_max``: of one trade, a fraction of the instrument's average
daily volume. ``beta_min``, ``beta_max``: of the whole, to the benchmark. ``tracking_error_max_annual``: standard
deviation of the difference to the benchmark's return, annualised.
"""

AGAINST_BENCHMARK = ("beta_min", "beta_max", "tracking_error_max_annual")
"""Those that mean nothing without a benchmark."""


def allows_more(name: str, constraint: float | None, limit: float | None) -> bool:
    """Whether a constraint lets through what the limit of the same name denies; None is no limit at all."""
    if limit is None or (SHARED[name] is Sense.SWITCH and not limit):
        return False
    if constraint is None:
        return True
    if SHARED[name] is Sense.CEILING:
        return constraint > limit
    return constraint < limit


def taken(constraints: Mapping[str, Any], chosen: Collection[str], limits: Mapping[str, Any]) -> dict[str, Any]:
    """The limits that take the place of constraints which nobody chose and which allow more.

    Args:
        constraints, limits: value by name; of ``limits`` those that are shared count.
        chosen: names of the constraints that somebody set.
    """
    return {
        name: limits[name]
        for name in SHARED
        if name not in chosen and allows_more(name, constraints[name], limits[name])
    }
