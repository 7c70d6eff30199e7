"""The NAVs that the loss stops measure from, and when the peak begins anew.

Belongs here: what is gain and loss of an account whose owner moves money, which NAVs count, and a simulated account's
resets. Does not: the stops themselves (account_rules.py).

What the owner moves is neither gain nor loss, and weighs no loss up: the account is followed by its time-weighted
return. Half lost is half lost, whatever came in afterwards or went out. Within a session the capital is what it opened
with and each flow for the part of trading that it was there (`Nav.weighed`): money that comes in before the open earns
all of the session's return, and what goes out at the close took all of it along.

Source: Dietz (1966), as the CFA Institute's Global Investment Performance Standards (2005, appendix A) weigh flows by
day and chain what comes of it.

Beyond the stop an account only reduces, and it stays there: a loss does not heal by being left alone, and an account in
cash never makes its peak again. What ends it is a decision by people, a new `RiskLimits.drawdown_since`, which like
every change of limits wants two signatures. A simulation has no people: `RiskLimits.drawdown_resume_sessions` says
after how many sessions they are supposed to have decided so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal, localcontext
from typing import NamedTuple

from octopus.risk.limits import RiskLimits

_EXACT = Context(prec=60)
"""So many digits that returns of decades, multiplied, are right to the `_STEP`."""
_STEP = Decimal("1e-8")
_LEAST_GROWTH = Decimal("1e-9")
"""Of an account that lost all it had, and owes more: it is measured on, and no reference is infinite."""


class Nav(NamedTuple):
    """What an account was worth over a session, account currency.

    Attributes:
        flows: deposits less withdrawals. weighed: each of them times the part of the session for which it was there.
    """

    session: date
    opening: Decimal
    closing: Decimal
    flows: Decimal
    weighed: Decimal


class Flows(NamedTuple):
    """Flows since the last NAV that are in the equity of now, and the same weighed as in a `Nav`."""

    moved: Decimal = Decimal(0)
    weighed: Decimal = Decimal(0)


def _base(opening: Decimal, closing: Decimal, flows: Decimal, weighed: Decimal) -> Decimal:
    """What ``closing`` would be without gain and loss."""
    capital = opening + weighed
    # The usual case, to the last digit: all flows came before the open, or there were none.
    if flows == weighed or capital <= 0:
        return opening + flows
    growth = 1 + (closing - opening - flows) / capital
    return closing / max(growth, _LEAST_GROWTH) if closing > 0 else opening + flows


def levels(navs: Sequence[Nav]) -> list[tuple[date, Decimal]]:
    """The account's value by session if nobody had moved any money, as a multiple of what it was before the first.

    Where there was no capital there is no return.
    """
    found, level = [], Decimal(1)
    with localcontext(_EXACT):
        for nav in navs:
            base = _base(nav.opening, nav.closing, nav.flows, nav.weighed)
            level *= max(nav.closing / base, _LEAST_GROWTH) if base > 0 else 1
            found.append((nav.session, level))
    return found


def references(
    navs: Sequence[Nav], since: Flows, equity: Decimal, session: date, limits: RiskLimits
) -> tuple[Decimal, Decimal]:
    """The peak and the previous NAV that ``equity`` is measured from, as of ``session``: such that
    ``1 - equity / reference`` is the loss since.

    Args:
        navs: by session, ascending; none: the account is new and begins with its own equity. since: after the last.
        equity: of now, which counts always; positive.
    """
    if not navs:
        return equity, equity
    began = limits.drawdown_since
    if began is None or began > session:
        # A reset that is dated ahead is none yet.
        began = date.min
    with localcontext(_EXACT):
        previous = _base(navs[-1].closing, equity, since.moved, since.weighed)
        if previous <= 0:
            return equity, equity
        chain = levels(navs)
        last = chain[-1][1]
        highest = max((level for day, level in chain if day >= began), default=Decimal(0))
        peak = max(equity, previous * highest / last)
        return peak.quantize(_STEP), previous.quantize(_STEP)


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
