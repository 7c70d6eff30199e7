"""How a venue spells US stocks and funds: ours with another mark before the class of shares.

Belongs here: that mapping, both ways. Does not: contracts, coins and whatever else needs a venue's own list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resources.brokers.base import OrderRejectedError

_OURS = re.compile(r"[A-Z]{1,5}(-[A-Z]{1,2})?")


@dataclass(frozen=True)
class Spelling:
    """The spelling at ``venue``, where ``mark`` stands between a ticker and its class: BRK-B is BRK.B with a point."""

    venue: str
    mark: str

    def spelled(self, instrument: str) -> str | None:
        """The venue's symbol of ``instrument``; None for what is no US stock or fund in our spelling."""
        return instrument.replace("-", self.mark) if _OURS.fullmatch(instrument) else None

    def theirs(self, instrument: str) -> str:
        """The venue's symbol of ``instrument``.

        Raises:
            OrderRejectedError: it is no symbol of a US stock or fund.
        """
        symbol = self.spelled(instrument)
        if symbol is None:
            raise OrderRejectedError(
                f"{self.venue}: {instrument} is no symbol of a US stock or fund; give its ticker in "
                "config/universe.yaml"
            )
        return symbol

    def ours(self, symbol: str) -> str:
        """How we spell a symbol of the venue's; what is no stock's stays as it is."""
        turned = symbol.replace(self.mark, "-")
        return turned if "-" not in symbol and _OURS.fullmatch(turned) else symbol
