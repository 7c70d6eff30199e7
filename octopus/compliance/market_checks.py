"""What venues and market rules ask of single orders: price test, halts, sizes, message rate, ownership.

Belongs here: those checks, and when the price test restricts an instrument. Does not: lists, duplicates, crossing and
positions (checks.py), margin (margin_checks.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

import numpy as np

from octopus.compliance import rules
from octopus.compliance.checks import Case, Finding, require_price_basis, short_after
from octopus.core.amounts import plain
from octopus.core.errors import MissingDataError
from octopus.core.orders import OrderType, PlannedOrder, Side, reducing_orders
from octopus.core.types import BoolArray, FloatArray

PRICE_TEST_FALL = 0.10
"""Reg SHO 201(b)(1)(i): a fall of 10 % or more from the last close of the listing market."""
_BINARY = 1e-12
"""Fraction by which floats of decimal prices may miss each other: far less than the finest tick is of any price."""


def price_test_restricts(closes: FloatArray, lows: FloatArray) -> BoolArray:
    """In which sessions the price test restricts short sales from their open on.

    Known at the open is only what the session before did: a fall within the session itself restricts from then on, and
    is told by the venue.

    Args:
        closes, lows: raw prices by session, shape (T,) or (T, N); not adjusted for what happened later. NaN: no trade.

    Returns:
        Same shape; True in session t if session t - 1 traded at 90 % of the close of session t - 2 or below.

    Source: 17 CFR 242.201(b)(1): the remainder of the day of the fall, and the following day.
    """
    fell = np.zeros(closes.shape, dtype=bool)
    fell[2:] = lows[1:-1] <= (1 - PRICE_TEST_FALL) * closes[:-2] * (1 + _BINARY)
    return fell


def price_tests_next(
    symbols: Sequence[str], closes: FloatArray, lows: FloatArray, splits: FloatArray
) -> dict[str, bool]:
    """Whether the price test restricts each instrument in the session after the last row, as known at its open.

    Args:
        closes, lows, splits: raw prices and split ratios of the last sessions, two at least, shape (T, N).

    Returns:
        By instrument; one whose last low, or close before it, is unknown is left out.
    """
    if len(closes) < 2:
        return {}
    # The close before, in shares of the session that is compared with it: a split is no fall.
    adjusted = np.vstack([closes[-2] / splits[-1], np.full((2, closes.shape[1]), np.nan)])
    after = np.vstack([np.full_like(lows[-1], np.nan), lows[-1], np.full_like(lows[-1], np.nan)])
    restricted = price_test_restricts(adjusted, after)[-1]
    known = np.isfinite(adjusted[0]) & np.isfinite(after[1])
    return {symbols[place]: bool(restricted[place]) for place in np.flatnonzero(known).tolist()}


def price_tests(_rule: rules.ShortSalePriceTest, case: Case) -> list[Finding]:
    """Asked of short sales alone: who never sells short needs no such datum."""
    known, short = case.context.price_tests or {}, short_after(case)
    sells_short = {intent for intent, shares in short.items() if shares > 0}
    return [
        _price_test(order, known)
        if order.intent_id in sells_short
        else Finding(order, False, f"{named} is no short sale")
        for order, named in zip(case.batch.orders, case.named, strict=True)
    ]


def _price_test(order: PlannedOrder, known: Mapping[str, bool]) -> Finding:
    name = order.instrument
    restricted = known.get(name)
    if restricted is None:
        return Finding(order, True, f"whether the price test restricts {name} is missing: ask the venue or the broker")
    what = "restricts it: only above the best bid" if restricted else "does not restrict it"
    how = f"with a limit of {order.price}" if order.order_type is OrderType.LIMIT else "at the market"
    return Finding(order, restricted, f"short sale of {name} {how}, and the price test {what}")


def trading_halts(_rule: rules.TradingHalt, case: Case) -> list[Finding]:
    halted = case.context.halted
    if halted is None:
        raise MissingDataError("which instruments are halted is missing: ask the venue or the broker")
    return [
        Finding(order, True, f"{order.instrument} is halted: wait until its trading resumes")
        if order.instrument in halted
        else Finding(order, False, f"{order.instrument} is not halted")
        for order in case.batch.orders
    ]


def order_values(rule: rules.OrderValue, case: Case) -> list[Finding]:
    limit = rule.parameters.max_value
    bound, told = float(limit), f"limit {limit:,.2f}"
    return [
        Finding(
            order, notional > limit, f"{order.side} {order.instrument} is worth {notional:,.2f}, {told}",
            float(notional), bound,
        )
        for order in case.batch.orders
        for notional in (order.notional,)
    ]  # fmt: skip


def order_volumes(rule: rules.OrderVolume, case: Case) -> list[Finding]:
    require_price_basis(case)
    limit = rule.parameters.max_shares
    return [
        Finding(
            order, order.quantity > limit,
            f"{order.side} {plain(order.quantity)} {order.instrument}, limit {plain(limit)} shares",
            float(order.quantity), float(limit),
        )
        for order in case.batch.orders
    ]  # fmt: skip


def message_rate(rule: rules.MessageRate, case: Case) -> list[Finding]:
    """What the limit leaves room for passes: orders that only make a position smaller first, then in plan order."""
    recent = case.context.recent_intents
    if recent is None:
        raise MissingDataError("the recent order intents are missing: read them from the order store")
    terms = rule.parameters
    since = case.now - timedelta(minutes=terms.window_minutes)
    own = {order.intent_id for order in case.batch.orders}
    orders = len(own) + sum(intent.at > since and intent.intent_id not in own for intent in recent)
    others = sum(at > since for at in case.context.other_messages)
    count = orders + others
    more = "other messages (cancellations, repeated sends, exits, and what the batch has sent)"
    what = f"{orders} orders and {others} {more}" if others else f"{orders} orders"
    reason = f"{what} within {terms.window_minutes:g} minutes, limit {terms.max_messages}"
    value, limit = float(count), float(terms.max_messages)
    room = terms.max_messages - (count - len(own))
    if room >= len(own) or room <= 0:
        return [Finding(None, count > terms.max_messages, reason, value, limit)]
    reducing = reducing_orders(case.batch.orders, case.snapshot)
    first = sorted(case.batch.orders, key=lambda order: order.intent_id not in reducing)
    fits = {order.intent_id for order in first[:room]}
    left_out = f"{reason}; room for {room}, those that reduce a position first"
    return [
        Finding(order, order.intent_id not in fits, left_out, value, limit) for order in case.batch.orders
    ]  # fmt: skip


def ownership(rule: rules.OwnershipThreshold, case: Case) -> list[Finding]:
    require_price_basis(case)
    issued, limit, ends = case.context.shares_outstanding, rule.parameters.max_fraction_outstanding, case.position_ends
    most = Decimal(str(limit))
    if issued is None:
        raise MissingDataError("the shares outstanding are missing: load them for every instrument")
    found = []
    for order in case.batch.orders:
        total = issued.get(order.instrument)
        if total is None or total <= 0:
            reason = f"the shares outstanding of {order.instrument} are missing: load them"
            found.append(Finding(order, True, reason))
            continue
        fraction = ends[order.instrument, order.side] / total
        reason = f"{order.side} {order.instrument} may reach {fraction:.2%} of all shares, threshold {limit:.2%}"
        broken = order.side is Side.BUY and fraction > most
        found.append(Finding(order, broken, reason, float(fraction), limit))
    return found
