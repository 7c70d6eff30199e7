"""Quantities, prices and sums as people read them.

Belongs here: the one way an exact number becomes text in a reason, an error, an alert or a report. Does not: what is
stored or sent to a venue, and ratios and sums of money that are rounded on purpose (`{:.2%}`, `{:,.2f}`).
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Literal

_ZERO = Decimal(0)


def plain(number: Decimal, form: Literal["", "+", ","] = "") -> str:
    """Every digit that counts and no more: no exponent, no trailing zeros of a column.

    Args:
        form: ``+``: with a plus sign; ``,``: with thousands set apart.
    """
    # What is no number may not be looked up, either.
    return _finite(number, form) if number.is_finite() else f"{number:{form}f}"


@lru_cache(maxsize=4096)
def _finite(number: Decimal, form: str) -> str:
    """Equal numbers read the same, and the rules of a gate name each quantity and price again and again."""
    text = f"{number or _ZERO:{form}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
