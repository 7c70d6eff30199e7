"""When the orders of a decision may be sent and when they execute.

Belongs here: the execution window of session T+1. Does not: telling the time (resources/clock.py).

A decision of session T is executed in an auction of session T+1:

- at the open: from an hour before it, when the gates can judge with that morning's account; venues take on-open orders
  until two minutes before the auction;
- at the close: from T+1's open, until ten minutes before the close, when the large venues stop taking on-close orders;
- market, limit and stop orders: from T+1's open until a minute before its close; entries with exits, which need the
  session after their fill, and a plan's limit orders from an hour before the open, so that they take part in it.

Where trading never ends (24/7), T+1 opens at the instant at which T closes, before T is decided: only its close can
execute the decision. The window is then the last hour before it, or the process that follows the orders would wait for
a day, and the gates would judge by yesterday's account.

``expires_at`` is the auction's instant: an order still unsent then is void, and one still unfilled after it has lapsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from octopus.core.errors import MissingDataError
from octopus.core.orders import OrderType

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions

LEAD = timedelta(hours=1)
"""How long before its auction a batch becomes current: one for the open, or one where trading never ends."""

CUTOFF = {
    OrderType.MARKET_ON_OPEN: timedelta(minutes=2),
    OrderType.MARKET_ON_CLOSE: timedelta(minutes=10),
    OrderType.MARKET: timedelta(minutes=1),
    OrderType.LIMIT: timedelta(minutes=1),
    OrderType.STOP: timedelta(minutes=1),
}
"""Venues take no order for an auction in the last minutes before it; another that comes after the close they keep for
the next session, so that the last minute is left for its way.
"""


@dataclass(frozen=True)
class ExecutionWindow:
    """The window in which a batch may be executed.

    Attributes:
        session: the execution session T+1.
        not_before: the first instant at which orders may be sent.
        expires_at: the auction; `octopus.core.orders.Batch.expires_at`.
    """

    session: date
    not_before: datetime
    expires_at: datetime


def auction(sessions: Sessions, *, has_opens: bool) -> OrderType:
    """The auction of T+1 that executes what was decided after T: the first one whose price is later and is recorded.

    Args:
        has_opens: whether the data has opening prices.
    """
    return OrderType.MARKET_ON_OPEN if has_opens and not sessions.continuous else OrderType.MARKET_ON_CLOSE


def execution_window(
    sessions: Sessions, decided: date, order_type: OrderType, *, from_open: bool = False
) -> ExecutionWindow:
    """The window for what was decided after the close of session ``decided``.

    Args:
        from_open: of orders that stand to the close, whether they are sent before the open, to take part in it.

    Raises:
        MissingDataError: the calendar ends before T+1, or T+1 opens before the decision is made.
    """
    session = sessions.next(decided)
    opens, known = sessions.open_utc(session), sessions.decision_utc(decided)
    if order_type is not OrderType.MARKET_ON_OPEN and not from_open:
        closes = sessions.close_utc(session)
        begins = closes - LEAD if sessions.continuous else opens
        return ExecutionWindow(session, not_before=max(begins, known), expires_at=closes)
    if opens <= known:
        raise MissingDataError(
            f"{sessions.exchange} opens {session} at {opens.isoformat()}, before {decided} is decided at "
            f"{known.isoformat()}: use market_on_close, with neither bracket nor limit_bps"
        )
    ends = sessions.close_utc(session) if from_open else opens
    return ExecutionWindow(session, not_before=max(opens - LEAD, known), expires_at=ends)


def send_by(expires_at: datetime, order_type: OrderType) -> datetime:
    """The instant from which an order for the auction at ``expires_at`` is no longer sent."""
    return expires_at - CUTOFF[order_type]
