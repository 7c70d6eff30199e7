"""Which entries of the audit log people are told of.

Belongs here: from an entry to its alert. Does not: reading the log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from octopus.alerts.alert import Alert, Kind
from octopus.core.amounts import plain
from octopus.core.ids import fingerprint

_SHOWN = 3
"""Reasons in one sentence; the rest is counted."""


@dataclass(frozen=True)
class Entry:
    """An entry of the audit log.

    Attributes:
        payload: its JSON, parsed.
        known: of a comparison of the books: the breaks that the account's one before it had found.
        amounts: of its breaks those in what one thing was worth (a price, a fee, a payment), not in what is held.
    """

    seq: int
    at: datetime
    kind: str
    subject: str
    payload: Mapping[str, Any]
    known: Collection[str] = ()
    amounts: Collection[str] = ()


def alert_of(entry: Entry) -> Alert | None:
    """What people are told of ``entry``; None for what is only recorded."""
    make = _ALERTS.get(entry.kind)
    return make(entry) if make else None


def _claimed(entry: Entry) -> Alert | None:
    denied = [one for one in entry.payload.get("denied", ()) if one.get("intent")]
    if not denied:
        return None
    orders = {one["intent"] for one in denied}
    reasons = [f"{one['gate']}/{one['rule']}: {one['reason']}" for one in denied]
    happened = f"{len(orders)} orders of batch {entry.subject} were denied: {_some(reasons)}"
    cause = fingerprint(sorted((one["intent"], one["rule"]) for one in denied))
    return _alert(Kind.DENIAL, entry, happened, cause)


def _cancelled(entry: Entry) -> Alert | None:
    reason = str(entry.payload.get("reason", ""))
    if not reason.startswith("denied"):
        return None
    return _alert(Kind.DENIAL, entry, f"order {entry.subject}, approved before, was {reason}")


def _halted(entry: Entry) -> Alert:
    state = entry.kind.removeprefix("trading.")
    told = entry.payload
    happened = f"account {entry.subject} was set to {state} by {told.get('by')}: {told.get('reason')}"
    return _alert(Kind.RESUMED if state == "active" else Kind.HALT, entry, happened, str(entry.seq))


def _uncancelled(entry: Entry) -> Alert:
    """Each step of a run asks again; the same orders left for the same reason are told once."""
    reason = str(entry.payload.get("reason", ""))
    happened = f"account {entry.subject} is halted, and the halt could not cancel all that is open: {reason}"
    return _alert(Kind.HALT, entry, happened, fingerprint(reason))


def _refused(entry: Entry) -> Alert:
    reason = str(entry.payload.get("reason", ""))
    # The same reason at another time is the same refusal: attempts may follow each other within seconds.
    cause = fingerprint(re.sub(r"\d", "", reason))
    return _alert(Kind.REFUSAL, entry, f"batch {entry.subject} was not executed: {reason}", cause)


def _rejected(entry: Entry) -> Alert:
    reason = entry.payload.get("reason") or "the broker gave no reason"
    return _alert(Kind.REJECTION, entry, f"order {entry.subject} was rejected: {reason}")


def _broke(entry: Entry) -> Alert | None:
    """What differs and did not, as it stands, when the account's books were compared before.

    Each comparison finds again what nobody has settled, such as a dividend until it is paid. An amount that halts
    trading is told as that.
    """
    breaks = [str(one) for one in entry.payload.get("breaks", ())]
    fresh = [one for one in breaks if one not in entry.known]
    if not fresh:
        return None
    happened = f"{len(fresh)} breaks in account {entry.subject} on {entry.payload.get('session')}: {_some(fresh)}"
    if stands := len(breaks) - len(fresh):
        happened += f"; {stands} of before stand"
    only_amounts = all(one in entry.amounts for one in fresh)
    kind = Kind.UNSETTLED_AMOUNT if only_amounts else Kind.RECONCILIATION_BREAK
    return _alert(kind, entry, happened, str(entry.seq))


def _unknown(entry: Entry) -> Alert:
    reason = entry.payload.get("reason") or "its send was not answered"
    happened = f"order {entry.subject} counts as filled and freezes its instrument: {reason}"
    return _alert(Kind.UNKNOWN_ORDER, entry, happened, str(entry.seq))


def _unexpected(entry: Entry) -> Alert:
    if entry.kind == "alert.overfilled":
        told = f"{_number(entry, 'filled')} were filled of {_number(entry, 'ordered')} ordered"
    else:
        told = "the broker filled it, and it was never sent"
    return _alert(Kind.UNEXPECTED_FILL, entry, f"order {entry.subject}: {told}", str(entry.seq))


def _number(entry: Entry, name: str) -> str:
    """A field of the payload as a person reads numbers, or what stands in its place."""
    told = str(entry.payload.get(name))
    try:
        return plain(Decimal(told))
    except InvalidOperation:
        return told


def _revised(entry: Entry) -> Alert:
    told = entry.payload
    if entry.kind == "order.fill_broken":
        became = f"fill {told.get('fill_id')} of order {entry.subject} was broken: none of it counts"
    else:
        quantity, price, fees = (_number(entry, name) for name in ("quantity", "price", "fees"))
        became = (
            f"fill {told.get('fill_id')} of order {entry.subject} was corrected: {quantity} shares at {price}, "
            f"fees {fees}"
        )
    late = "; a later revision counts already" if told.get("overtaken") else ""
    cause = f"{told.get('fill_id')}:{told.get('number')}"
    return _alert(Kind.REVISED_FILL, entry, f"{became}{late}: {told.get('why') or 'the broker gave no reason'}", cause)


_ALERTS: Mapping[str, Callable[[Entry], Alert | None]] = {
    "batch.claimed": _claimed,
    "order.cancelled": _cancelled,
    "trading.halted": _halted,
    "trading.reducing": _halted,
    "trading.active": _halted,
    "batch.refused": _refused,
    "order.rejected": _rejected,
    "reconciliation.breaks": _broke,
    "alert.not_cancelled": _uncancelled,
    "alert.unknown_order": _unknown,
    "alert.unexpected_fill": _unexpected,
    "alert.overfilled": _unexpected,
    "order.fill_broken": _revised,
    "order.fill_corrected": _revised,
}


def _alert(kind: Kind, entry: Entry, happened: str, cause: str = "") -> Alert:
    key = ":".join(part for part in (kind.value, entry.subject, cause) if part)
    return Alert(kind, entry.subject, happened, entry.at, key)


def _some(reasons: list[str]) -> str:
    more = len(reasons) - _SHOWN
    return "; ".join(reasons[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
