"""The peak that the drawdown stop measures from, and when it begins anew.

Belongs here: which NAVs count, and a simulated account's resets. Does not: the stop itself (account_rules.py).

Beyond the stop an account only reduces, and it stays there: a loss does not heal by being left alone, and an account in
cash never makes its peak again. What ends it is a decision by people, a new `RiskLimits.drawdown_since`, which like
every change of limits wants two signatures. A simulation has no people: `RiskLimits.drawdown_resume_sessions` says
after how many sessions they are supposed to have decided so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from octopus.risk.limits import RiskLimits


def peak(navs: Iterable[tuple[date, Decimal]], equity: Decimal, session: date, limits: RiskLimits) -> Decimal:
    """The highest NAV that counts, as of ``session``.

    Args:
        navs: by session, external flows taken out. equity: of now, which counts always.
    """
    since = limits.drawdown_since
    if since is None or since > session:
        # A reset that is dated ahead is none yet.
        since = date.min
    return max([equity, *(nav for day, nav in navs if day >= since)])


@dataclass
class SimulatedPeak:
    """The peak of a simulated account, close by close.

    Attributes:
        value: the highest NAV since the last reset. stopped: closes in a row beyond the stop, the last included.
    """

    limits: RiskLimits
    value: Decimal
    stopped: int = 0

    def close(self, equity: Decimal) -> Decimal:
        """Take a session's closing NAV; returns the peak from then on."""
        self.value = max(self.value, equity)
        beyond = self.value > 0 and 1 - equity / self.value > Decimal(str(self.limits.drawdown_stop))
        self.stopped = self.stopped + 1 if beyond else 0
        after = self.limits.drawdown_resume_sessions
        if after is not None and self.stopped > after:
            self.value, self.stopped = equity, 0
        return self.value
