"""Quantities, prices and sums as people read them.

Belongs here: the one way an exact number becomes text in a reason, an error, an alert or a report. Does not: what is
stored or sent to a venue, and ratios and sums of money that are rounded on purpose (`{:.2%}`, `{:,.2f}`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

_ZERO = Decimal(0)


def plain(number: Decimal, form: Literal["", "+", ","] = "") -> str:
    """Every digit that counts and no more: no exponent, no trailing zeros of a column.

    Args:
        form: ``+``: with a plus sign; ``,``: with thousands set apart.
    """
    text = f"{number or _ZERO:{form}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
