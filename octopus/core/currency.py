"""Names of currencies, and of the units that exchanges quote in.

Belongs here: which unit is what part of which currency. Does not: rates (octopus/market_data/currencies.py).
"""

from __future__ import annotations

from collections.abc import Mapping

BASE = "USD"
"""The currency that money is counted in unless the settings name another."""

RATE_DECIMALS = 12
"""Rates are decimals of so many places, so that ledgers of floats and of decimals use the same one."""

MINOR_UNITS: Mapping[str, tuple[str, float]] = {
    "GBp": ("GBP", 0.01), "GBX": ("GBP", 0.01), "ZAc": ("ZAR", 0.01), "ZAC": ("ZAR", 0.01), "ILA": ("ILS", 0.01),
}  # fmt: skip
"""Units that exchanges quote in, and what part of which currency they are."""


def major_unit(currency: str) -> tuple[str, float]:
    """The currency of ISO 4217 behind a quoted unit, and how much of it the unit is."""
    return MINOR_UNITS.get(currency, (currency, 1.0))
