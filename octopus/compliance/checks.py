"""Each compliance rule as a function of the policy's parameters and the case.

Belongs here: what a rule finds, order by order. Does not: modes, periods and verdicts (gate.py).

A check returns one finding for each order, or one for the whole batch. It raises `MissingDataError`, naming the datum,
where it cannot be evaluated for the account, and finds an order broken where the datum of its instrument is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

from octopus.compliance import rules
from octopus.compliance.names import OtherName
from octopus.core.amounts import plain
from octopus.core.errors import MissingDataError
from octopus.core.lots import Disposal, Lot
from octopus.core.orders import AccountSnapshot, Batch, OpenOrder, PlannedOrder, Side
from octopus.core.panel import PriceBasis


@dataclass(frozen=True)
class RecentIntent:
    """An order intent of this account that was sent or approved lately, whatever became of it.

    Attributes:
        at: when it was sent; of one that waits, when it was approved.
    """

    intent_id: str
    instrument: str
    side: Side
    quantity: Decimal
    at: datetime


@dataclass(frozen=True)
class ComplianceContext:
    """What the gate must know besides the broker's snapshot; a None makes the rules that need it refuse.

    Attributes:
        trade_session: the exchange-local session in which the batch executes; effective dates are compared with it.
        session_open, session_close: its instants, UTC.
        short_allowed: whether the account may be short at all.
        locates: shares located for borrowing, by instrument.
        recent_intents: over the duplicate rule's window at least; the batch's own intents do not count.
        other_messages: instants of messages to the broker besides the first send of each recent intent, over that
            window: cancellations, orders that were sent again, exits that the venue takes in messages of their own, and
            what the batch sent before and is judged no more (slices of its orders, and orders that were replaced).
        price_basis: ``total_return`` switches off the rules on raw prices and share counts, and says so.
        sending: the batch is about to be sent now, and not merely planned for its window.
        price_tests: whether Reg SHO 201 restricts short sales of an instrument in the session.
        halted: instruments whose trading is halted.
        day_trades: of the account in the sessions that end with this one (as many as the rule looks at).
        opened_today: shares by instrument that this session opened and has not closed, signed.
        exits_ahead: entries that were sent with exits of which one may still execute in the session.
        lots, disposals: open tax lots, and what was closed in the last 30 days at least, both with the losses that
            wash sales deferred until now (`octopus.compliance.wash_sales.adjust`).
        shares_outstanding: of the issuer, by instrument.
        other_names: tickers by which instruments that are ordered may stand in lists (`octopus.compliance.names`). The
            locates, halts and shares above have the orders' own names already.
    """

    trade_session: date
    session_open: datetime | None
    session_close: datetime | None
    short_allowed: bool | None
    recent_intents: Sequence[RecentIntent] | None
    price_basis: PriceBasis | None
    locates: Mapping[str, Decimal] | None = None
    sending: bool = False
    price_tests: Mapping[str, bool] | None = None
    halted: frozenset[str] | None = None
    day_trades: int | None = None
    opened_today: Mapping[str, Decimal] | None = None
    lots: Sequence[Lot] | None = None
    disposals: Sequence[Disposal] | None = None
    shares_outstanding: Mapping[str, Decimal] | None = None
    other_messages: Sequence[datetime] = ()
    exits_ahead: int = 0
    other_names: Mapping[str, Sequence[OtherName]] = field(default_factory=dict)


_NOTHING = Decimal(0)


@dataclass(frozen=True)
class Case:
    """All that is judged."""

    batch: Batch
    snapshot: AccountSnapshot
    context: ComplianceContext
    now: datetime
    terms: rules.AccountTerms

    @cached_property
    def position_ends(self) -> Mapping[tuple[str, Side], Decimal]:
        """How long buys alone and how short sells alone may leave each instrument, shares, positive on the order's
        side.

        Open orders and the whole batch are included. A position that an order only makes smaller is negative here.
        """
        ends: dict[tuple[str, Side], Decimal] = {}
        signs = {side: side.sign for side in Side}
        for order in self.batch.orders:
            key = (order.instrument, order.side)
            held = self.snapshot.positions.get(order.instrument, _NOTHING) * signs[order.side]
            ends[key] = ends.get(key, held + self.snapshot.working(*key)) + order.quantity
        return ends

    @cached_property
    def named(self) -> tuple[str, ...]:
        """Side and instrument of each order, as most rules name it."""
        return tuple([f"{order.side} {order.instrument}" for order in self.batch.orders])

    @cached_property
    def dearest(self) -> tuple[Decimal, ...]:
        """`dearer_price` of each order."""
        return tuple([dearer_price(order, self.snapshot) for order in self.batch.orders])


class Finding(NamedTuple):
    """What a rule says of one order, or of the batch where ``order`` is None; a tuple, like a `Verdict`."""

    order: PlannedOrder | None
    broken: bool
    reason: str
    value: float | None = None
    limit: float | None = None


RAW_PRICES_ONLY = (
    rules.MinimumPrice, rules.PositionLimitShares, rules.OwnershipThreshold, rules.OrderVolume,
    rules.ShortSalePriceTest,
)  # fmt: skip
"""Rules on prices and share counts, which a total-return basis has not."""


def off_reason(rule: rules.Rule, context: ComplianceContext, terms: rules.AccountTerms) -> str | None:
    """Why the rule does not apply, or None if it does."""
    if rule.mode is rules.Mode.OFF:
        return "switched off in the policy"
    if rule.jurisdiction is not rules.Jurisdiction.HOUSE and rule.jurisdiction not in terms.jurisdictions:
        return f"a rule of the {rule.jurisdiction}, which does not bind this account"
    if not rule.holds_at(terms.broker):
        return f"holds at {', '.join(rule.brokers or ())}, not at {terms.broker}"
    if not rule.in_effect(context.trade_session):
        return f"in effect from {rule.effective_from} to {rule.effective_to or 'now'}, not on {context.trade_session}"
    if context.price_basis == "total_return" and isinstance(rule, RAW_PRICES_ONLY):
        return "prices are total-return indices and shares pseudo-shares, so neither means anything here"
    return None


def listed(rule: rules.RestrictedList | rules.WatchList, case: Case) -> list[Finding]:
    session = case.context.trade_session
    entries = [entry for entry in rule.parameters.entries if entry.in_effect(session)]
    listed = {entry.symbol: entry for entry in entries}
    name = rule.kind.replace("_", " ")
    found = []
    for order in case.batch.orders:
        others = case.context.other_names.get(order.instrument, ())
        entry = listed.get(order.instrument) or _listed_otherwise(others, entries)
        if entry is None:
            found.append(Finding(order, False, f"{order.instrument} is not on the {name}"))
        else:
            written = "" if entry.symbol == order.instrument else f" as {entry.symbol}"
            since = f"{order.instrument} is on the {name}{written} since {entry.effective_from}: {entry.reason}"
            found.append(Finding(order, True, since))
    return found


def _listed_otherwise(others: Sequence[OtherName], entries: Sequence[rules.ListedSymbol]) -> rules.ListedSymbol | None:
    """The first entry that may mean an instrument by another of its names."""
    for entry in entries if others else ():
        if any(other.ticker == entry.symbol and other.may_mean_it(entry.effective_from) for other in others):
            return entry
    return None


def session_window(rule: rules.SessionWindow, case: Case) -> list[Finding]:
    return [_session_window(rule.parameters, case)]


def _session_window(parameters: rules.SessionWindowParameters, case: Case) -> Finding:
    context, batch = case.context, case.batch
    if context.session_open is None or context.session_close is None:
        raise MissingDataError(f"the open or close of session {context.trade_session} is missing: load the calendar")
    earliest = context.session_open - timedelta(minutes=parameters.minutes_before_open)
    latest = context.session_close + timedelta(minutes=parameters.minutes_after_close)
    window = f"window {batch.not_before.isoformat()} to {batch.expires_at.isoformat()}"
    hours = f"the hours {earliest.isoformat()} to {latest.isoformat()} of session {context.trade_session}"
    if not batch.not_before < batch.expires_at:
        return Finding(None, True, f"the {window} is empty: plan the batch again")
    if batch.not_before < earliest or batch.expires_at > latest:
        return Finding(None, True, f"the {window} is not within {hours}")
    if case.now >= batch.expires_at:
        return Finding(None, True, f"the {window} has passed at {case.now.isoformat()}: plan the next session")
    if context.sending and case.now < batch.not_before:
        return Finding(None, True, f"the {window} has not begun at {case.now.isoformat()}: wait for it")
    return Finding(None, False, f"the {window} lies within {hours}")


def duplicates(rule: rules.DuplicateOrder, case: Case) -> list[Finding]:
    recent = case.context.recent_intents
    if recent is None:
        raise MissingDataError("the recent order intents are missing: read them from the order store")
    # A plan is sent in a later session, and its denial is final: what was sent before is compared with when it is sent.
    earlier = recent if case.context.sending else ()
    since = case.now - timedelta(minutes=rule.parameters.window_minutes)
    # Judging a batch again, just before it is sent, must not find the batch itself.
    own = {order.intent_id for order in case.batch.orders}
    seen = {
        _likeness(intent): f"intent {intent.intent_id} of {intent.at.isoformat()}"
        for intent in earlier
        if intent.at >= since and intent.intent_id not in own
    }
    found = []
    for order in case.batch.orders:
        likeness = _likeness(order)
        told = f"intent {order.intent_id} of the same batch"
        twin = seen.setdefault(likeness, told)
        what = f"{order.side} {plain(order.quantity)} {order.instrument}"
        found.append(
            Finding(order, True, f"{what} repeats {twin}")
            if twin is not told
            else Finding(order, False, f"{what} is no repetition")
        )
    return found


def _likeness(order: PlannedOrder | RecentIntent) -> tuple[str, Side, Decimal]:
    return order.instrument, order.side, order.quantity


def self_crosses(_rule: rules.SelfCross, case: Case) -> list[Finding]:
    rivals = _rivals(case)
    found = []
    for order, named in zip(case.batch.orders, case.named, strict=True):
        rival = rivals.get((order.instrument, order.side))
        if rival is None:
            found.append(Finding(order, False, f"nothing works against {named}"))
        else:
            reason = f"{named} would meet our own {_described(rival)}: cancel it, or plan one order"
            found.append(Finding(order, True, reason))
    return found


def _rivals(case: Case) -> dict[tuple[str, Side], OpenOrder | PlannedOrder]:
    """By instrument and side: the account's first order that would meet one of that side."""
    found: dict[tuple[str, Side], OpenOrder | PlannedOrder] = {}
    other_side = {side: side.opposite for side in Side}
    for working in case.snapshot.open_orders:
        if working.remaining > 0:
            found.setdefault((working.instrument, other_side[working.side]), working)
    for order in case.batch.orders:
        found.setdefault((order.instrument, other_side[order.side]), order)
    return found


def _described(rival: OpenOrder | PlannedOrder) -> str:
    if isinstance(rival, OpenOrder):
        return f"open {rival.side} {rival.client_order_id}"
    return f"{rival.side} {rival.intent_id} of the same batch"


def short_sales(_rule: rules.ShortSale, case: Case) -> list[Finding]:
    allowed = case.context.short_allowed
    if allowed is None:
        raise MissingDataError(f"whether account {case.batch.account} may be short is missing: set its permissions")
    short, buy = short_after(case), Side.BUY
    return [
        Finding(order, False, "a buy is no short sale")
        if order.side is buy
        else _short_sale(order, short[order.intent_id], allowed=allowed, locates=case.context.locates)
        for order in case.batch.orders
    ]


def short_after(case: Case) -> dict[str, Decimal]:
    """By each sell: shares that the account is short when it and all sells before it have filled; below zero: is long.

    Shares that a working buy may bring do not count; open and earlier sells of the batch do.
    """
    sold: dict[str, Decimal] = {}
    short: dict[str, Decimal] = {}
    sell = Side.SELL
    for order in case.batch.orders:
        if order.side is sell:
            name = order.instrument
            sold[name] = sold.get(name, case.snapshot.working(name, sell)) + order.quantity
            short[order.intent_id] = sold[name] - case.snapshot.positions.get(name, _NOTHING)
    return short


def _short_sale(
    order: PlannedOrder, short: Decimal, *, allowed: bool, locates: Mapping[str, Decimal] | None
) -> Finding:
    """``short``: shares that the account would be short when this and everything before it has sold."""
    what = f"sell {plain(order.quantity)} {order.instrument}"
    if short <= 0:
        return Finding(order, False, f"{what} is covered by what is held")
    would = f"{what} would leave the account {plain(short)} short"
    if not allowed:
        return Finding(order, True, f"{would}, and it is long only", float(short))
    if locates is None:
        return Finding(order, True, f"the locates are missing: {would}")
    located = locates.get(order.instrument, Decimal(0))
    return Finding(order, short > located, f"{would}, {plain(located)} located", float(short), float(located))


def share_limits(rule: rules.PositionLimitShares, case: Case) -> list[Finding]:
    require_price_basis(case)
    limit, ends = rule.parameters.max_shares, case.position_ends
    bound, told, found = float(limit), plain(limit), []
    for order, named in zip(case.batch.orders, case.named, strict=True):
        end = ends[order.instrument, order.side]
        reason = f"{named} may reach {plain(end)} shares on that side, limit {told}"
        found.append(Finding(order, end > limit, reason, float(end), bound))
    return found


def fraction_limits(rule: rules.PositionLimitFraction, case: Case) -> list[Finding]:
    limit, ends, equity = rule.parameters.max_fraction_of_equity, case.position_ends, equity_of(case.snapshot)
    most, told, found = Decimal(str(limit)), f"limit {limit:.2%}", []
    for order, named, price in zip(case.batch.orders, case.named, case.dearest, strict=True):
        fraction = ends[order.instrument, order.side] * price / equity
        reason = f"{named} may reach {fraction:.2%} of equity on that side, {told}"
        found.append(Finding(order, fraction > most, reason, float(fraction), limit))
    return found


def dearer_price(order: PlannedOrder, snapshot: AccountSnapshot) -> Decimal:
    """The highest of the prices: the broker may not quote what is not held, and the plan's own price may be old."""
    quoted, dearer = snapshot.prices.get(order.instrument), order.dearer_price
    return quoted if quoted is not None and is_price(quoted) and quoted > dearer else dearer


def equity_of(snapshot: AccountSnapshot) -> Decimal:
    unmarked = sorted(name for name in snapshot.positions if not is_price(snapshot.prices.get(name)))
    if unmarked:
        raise MissingDataError(f"the broker's price of {', '.join(unmarked)} is missing: take a new snapshot")
    equity = snapshot.equity
    if not (equity.is_finite() and equity > 0):
        raise MissingDataError(f"equity of account {snapshot.account} is {equity}, not positive: correct its cash")
    return equity


def is_price(price: Decimal | None) -> bool:
    return price is not None and price.is_finite() and price > 0


def order_count(rule: rules.OrderCount, case: Case) -> list[Finding]:
    count, limit = len(case.batch.orders), rule.parameters.max_orders
    reason = f"the batch has {count} orders, limit {limit}"
    return [Finding(None, count > limit, reason, float(count), float(limit))]


def minimum_prices(rule: rules.MinimumPrice, case: Case) -> list[Finding]:
    require_price_basis(case)
    limit, buy = rule.parameters.min_price_usd, Side.BUY
    least, told, found = float(limit), plain(limit), []
    for order, named in zip(case.batch.orders, case.named, strict=True):
        price, is_buy = order.reference_price, order.side is buy
        reason = f"{named} at {plain(price)}, lowest price to buy at {told}"
        found.append(Finding(order, is_buy and price < limit, reason, float(price), least))
    return found


def require_price_basis(case: Case) -> None:
    if case.context.price_basis is None:
        raise MissingDataError("the price basis is missing: it must be raw or total_return")
