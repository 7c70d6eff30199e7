"""The pre-trade risk gate: which orders of a batch an account may send, and why not the others.

Belongs here: the rules in their order, and their verdicts. Does not: the arithmetic of exposures (book.py,
constraints.py) and of losses (measures.py); rules of law and venue (octopus/compliance).

The gate fails closed. A rule whose datum is missing denies and names the datum: one order where the datum belongs to
its instrument, every order where it belongs to the account. A verdict on the batch (no intent) is DENY only where
nothing was approved; WARN where orders were left out, or where the account is beyond a limit already and only orders
that do not add to the breach passed.

On a total-return price basis the shares are pseudo-shares: `adv_participation` (volume) is off and says so. The price
collar stays on, for it is a ratio of two prices on the same basis, and so does every fraction of equity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot, Batch, GateReport, Outcome, PlannedOrder, TradingState, Verdict
from octopus.core.types import FloatArray
from octopus.risk.book import Book, open_book, price_problem, reducing_orders, usable_price
from octopus.risk.constraints import Constraint, Removal, cut, exposure_constraints, loss_constraints
from octopus.risk.limits import LOWER_BOUNDS, RiskLimits
from octopus.risk.market import MarketContext

GATE = "risk"

EXPOSURE_RULES = (
    "name_weight",
    "gross",
    "net_max",
    "net_min",
    "turnover",
    "cash",
    "gross_part_filled",
    "net_max_part_filled",
    "net_min_part_filled",
    "cash_part_filled",
)
LOSS_RULES = ("volatility", "volatility_part_filled", "var_95", "var_95_part_filled")
RULES = (
    "account",
    "kill_switch",
    "snapshot_age",
    "order_terms",
    "equity",
    "price_collar",
    "order_notional_usd",
    "order_notional_fraction",
    "adv_participation",
    "drawdown_stop",
    "loss_per_day",
    *EXPOSURE_RULES,
    "return_history",
    *LOSS_RULES,
)
"""Every rule, in the order of the verdicts; each speaks in every report."""


_History = tuple[Mapping[str, int], FloatArray, float]
"""Columns by instrument, the window of returns, and the sessions of a year."""


@dataclass(frozen=True)
class _Finding:
    """What a rule says of one order."""

    ok: bool
    reason: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, eq=False)
class _Case:
    """All that is judged, and what follows from it at once.

    Attributes:
        orders: those whose terms are sound; no other rule is asked about the rest.
        book, history: the marked account and the window of returns with its columns, or why there is none.
    """

    batch: Batch
    snapshot: AccountSnapshot
    market: MarketContext
    limits: RiskLimits
    state: TradingState | None
    now: datetime
    orders: tuple[PlannedOrder, ...]
    reducing: frozenset[str]
    book: Book | MissingDataError
    history: _History | MissingDataError

    def marked(self) -> Book:
        if isinstance(self.book, MissingDataError):
            raise self.book
        return self.book


def judge(
    batch: Batch,
    snapshot: AccountSnapshot,
    market: MarketContext,
    limits: RiskLimits,
    state: TradingState | None,
    now: datetime,
) -> GateReport:
    """Judge every order of ``batch`` alone, then what is left as a whole.

    Open orders of the snapshot count as filled, and as not filled where that is worse. The approved set keeps each
    exposure limit when all of it fills, and within ``limits.partial_fill_allowance`` whatever part of it fills;
    except where the account was beyond the limit before, and then no approved order adds to the breach.

    Args:
        snapshot: of the same account. Positions are marked at the market's last price, else at the broker's mark.
        state: of the kill switch; None (unknown) denies every order.
        now: instant of the judgement, UTC. A price or snapshot from after it counts as missing.

    Returns:
        One verdict for each rule on an order and order, one for each rule on the batch, and one for each order that a
        rule on the batch leaves out; in the order of `RULES`, the batch first, then the plan's order.
    """
    case = _case(batch, snapshot, market, limits, state, now)
    verdicts = [verdict for rule in _SINGLE_STAGE for verdict in rule(case)]
    denied = {v.intent_id for v in verdicts if v.outcome is Outcome.DENY}
    survivors = [order for order in case.orders if order.intent_id not in denied]
    kept, batch_verdicts = _judge_whole(case, survivors)
    approved = {order.intent_id for order in kept}
    places = {order.intent_id: place for place, order in enumerate(batch.orders)}
    verdicts = sorted(
        [*verdicts, *batch_verdicts],
        key=lambda v: (RULES.index(v.rule), -1 if v.intent_id is None else places[v.intent_id]),
    )
    return GateReport(
        gate=GATE,
        approved=tuple(order.intent_id for order in batch.orders if order.intent_id in approved),
        verdicts=tuple(verdicts),
    )


def _case(
    batch: Batch,
    snapshot: AccountSnapshot,
    market: MarketContext,
    limits: RiskLimits,
    state: TradingState | None,
    now: datetime,
) -> _Case:
    repeated = {intent for intent, count in Counter(o.intent_id for o in batch.orders).items() if count > 1}
    orders = tuple(o for o in batch.orders if o.intent_id not in repeated and _terms_problem(o) is None)
    book: Book | MissingDataError
    history: _History | MissingDataError
    try:
        book = open_book(snapshot, market, orders, price_age_max_seconds=limits.price_age_max_seconds, now=now)
    except MissingDataError as missing:
        book = missing
    try:
        history = _window(market, limits, batch)
    except MissingDataError as missing:
        history = missing
    reducing = reducing_orders(orders, snapshot)
    return _Case(batch, snapshot, market, limits, state, now, orders, reducing, book, history)


# Rules on the account and on single orders ---------------------------------------------------------------------------


def _account(case: _Case) -> list[Verdict]:
    ours, theirs = case.batch.account, case.snapshot.account
    if ours != theirs:
        return _deny_all(case, "account", f"the batch is for account {ours}, the snapshot of {theirs}: take the right")
    return [_verdict("account", None, Outcome.PASS, f"batch and snapshot are both of account {ours}")]


def _kill_switch(case: _Case) -> list[Verdict]:
    rule = "kill_switch"
    if case.state is None:
        return _deny_all(case, rule, f"the trading state of account {case.batch.account} is missing: set it")
    if case.state == TradingState.ACTIVE:
        return [_verdict(rule, None, Outcome.PASS, "trading is active")]
    if case.state == TradingState.REDUCING:
        warning = "trading is reducing: only orders that make a position smaller pass"
        checks = _each(case, rule, lambda order: _reduces(case, order, warning))
        return [_verdict(rule, None, Outcome.WARN, warning), *checks]
    return _deny_all(case, rule, f"trading is {case.state}: resume it before any order may pass")


def _snapshot_age(case: _Case) -> list[Verdict]:
    rule, limit = "snapshot_age", case.limits.snapshot_age_max_seconds
    age = (case.now - case.snapshot.taken_at).total_seconds()
    if age < 0:
        return _deny_all(case, rule, "the account snapshot is from after now: check the clock", age, limit)
    if age > limit:
        return _deny_all(case, rule, f"the account snapshot is {age:.0f} s old: take a new one", age, limit)
    return [_verdict(rule, None, Outcome.PASS, f"the account snapshot is {age:.0f} s old", age, limit)]


def _order_terms(case: _Case) -> list[Verdict]:
    counts = Counter(order.intent_id for order in case.batch.orders)
    verdicts = []
    for order in case.batch.orders:
        problem = _terms_problem(order)
        if counts[order.intent_id] > 1:
            problem = f"the intent id {order.intent_id} stands {counts[order.intent_id]} times in the batch"
        outcome = Outcome.PASS if problem is None else Outcome.DENY
        sound = f"{order.side} {order.quantity} {order.instrument} at {order.reference_price}"
        verdicts.append(_verdict("order_terms", order, outcome, problem or sound))
    return verdicts


def _terms_problem(order: PlannedOrder) -> str | None:
    if not usable_price(order.quantity):
        return f"quantity {order.quantity} of {order.instrument} is not a positive number: plan the batch again"
    if not usable_price(order.reference_price):
        return f"reference price {order.reference_price} of {order.instrument} is not a positive number: plan again"
    return None


def _equity(case: _Case) -> list[Verdict]:
    if isinstance(case.book, MissingDataError):
        return _deny_all(case, "equity", str(case.book))
    return [_verdict("equity", None, Outcome.PASS, f"equity {case.book.equity:,.2f} at the last prices")]


def _price_collar(case: _Case) -> list[Verdict]:
    limit = case.limits.price_collar

    def check(order: PlannedOrder) -> _Finding:
        last = _last_price(case, order.instrument)
        distance = abs(order.reference_price / last - 1)
        reason = f"reference price {order.reference_price} is {distance:.2%} from the last price {last}"
        return _Finding(distance <= Decimal(str(limit)), reason, float(distance), limit)

    return _each(case, "price_collar", check)


def _order_notional_usd(case: _Case) -> list[Verdict]:
    limit = case.limits.order_notional_max_usd

    def check(order: PlannedOrder) -> _Finding:
        notional = _notional_usd(case, order)
        reason = f"{order.side} {order.instrument} is worth {notional:,.2f}, limit {limit:,.2f}"
        return _Finding(notional <= limit, reason, float(notional), float(limit))

    return _each(case, "order_notional_usd", check)


def _order_notional_fraction(case: _Case) -> list[Verdict]:
    limit = case.limits.order_notional_max_fraction

    def check(order: PlannedOrder) -> _Finding:
        fraction = _notional_usd(case, order) / case.marked().equity
        reason = f"{order.side} {order.instrument} is {fraction:.2%} of equity, limit {limit:.2%}"
        return _Finding(fraction <= Decimal(str(limit)), reason, float(fraction), limit)

    return _each(case, "order_notional_fraction", check)


def _adv_participation(case: _Case) -> list[Verdict]:
    rule, limit = "adv_participation", case.limits.adv_participation_max
    if case.market.price_basis == "total_return":
        reason = "prices are total-return indices and shares pseudo-shares, so volumes mean nothing here"
        return [_verdict(rule, None, Outcome.OFF, reason, None, limit)]
    if case.market.price_basis != "raw":
        return _deny_all(case, rule, "the price basis is missing: it must be raw or total_return")

    def check(order: PlannedOrder) -> _Finding:
        volume = case.market.adv_shares.get(order.instrument)
        if volume is None or not usable_price(volume):
            raise MissingDataError(f"the average daily volume of {order.instrument} is missing: ingest its volumes")
        share = order.quantity / volume
        reason = f"{order.quantity} shares of {order.instrument} are {share:.2%} of its average daily volume"
        return _Finding(share <= Decimal(str(limit)), reason, float(share), limit)

    return _each(case, rule, check)


def _drawdown_stop(case: _Case) -> list[Verdict]:
    nav = ("the NAV peak", case.market.nav_peak)
    return _loss_stop(case, "drawdown_stop", nav, case.limits.drawdown_stop)


def _loss_per_day(case: _Case) -> list[Verdict]:
    nav = ("yesterday's NAV", case.market.nav_previous)
    return _loss_stop(case, "loss_per_day", nav, case.limits.loss_per_day_max)


def _loss_stop(case: _Case, rule: str, nav: tuple[str, Decimal | None], limit: float) -> list[Verdict]:
    """Beyond ``limit`` below a past NAV only reducing orders pass."""
    name, reference = nav
    if isinstance(case.book, MissingDataError):
        return _deny_all(case, rule, str(case.book))
    if reference is None or not usable_price(reference):
        return _deny_all(case, rule, f"{name} of account {case.batch.account} is missing: record it")
    loss = max(Decimal(0), 1 - case.book.equity / reference)
    reason = f"equity {case.book.equity:,.2f} is {loss:.2%} below {name} {reference:,.2f}"
    value = float(loss)
    if loss <= Decimal(str(limit)):
        return [_verdict(rule, None, Outcome.PASS, reason, value, limit)]
    warning = f"{reason}, beyond {limit:.2%}: only orders that make a position smaller pass"
    checks = _each(case, rule, lambda order: _reduces(case, order, warning))
    return [_verdict(rule, None, Outcome.WARN, warning, value, limit), *checks]


def _return_history(case: _Case) -> list[Verdict]:
    rule = "return_history"
    if isinstance(case.history, MissingDataError):
        return _deny_all(case, rule, str(case.history))
    held = set() if isinstance(case.book, MissingDataError) else set(case.book.opening)
    holes = {name: hole for name in sorted(held) if (hole := _hole(case, name)) is not None}
    if holes:
        return _deny_all(case, rule, "; ".join(holes.values()))

    def check(order: PlannedOrder) -> _Finding:
        hole = _hole(case, order.instrument)
        return _Finding(hole is None, hole or f"returns of {order.instrument} fill the window")

    return _each(case, rule, check)


_SINGLE_STAGE: tuple[Callable[[_Case], list[Verdict]], ...] = (
    _account,
    _kill_switch,
    _snapshot_age,
    _order_terms,
    _equity,
    _price_collar,
    _order_notional_usd,
    _order_notional_fraction,
    _adv_participation,
    _drawdown_stop,
    _loss_per_day,
    _return_history,
)


# Rules on the whole --------------------------------------------------------------------------------------------------


def _judge_whole(case: _Case, survivors: Sequence[PlannedOrder]) -> tuple[list[PlannedOrder], list[Verdict]]:
    if isinstance(case.book, MissingDataError):
        reason = f"cannot be judged: {case.book}"
        return [], [v for rule in (*EXPOSURE_RULES, *LOSS_RULES) for v in _deny_all(case, rule, reason)]
    constraints = exposure_constraints(case.book, case.limits, survivors)
    unjudged: list[Verdict] = []
    no_history = _history_problem(case)
    if isinstance(case.history, MissingDataError) or no_history is not None:
        reason = f"cannot be judged: {no_history}"
        unjudged = [v for rule in LOSS_RULES for v in _deny_all(case, rule, reason)]
    else:
        constraints += loss_constraints(case.book, case.limits, survivors, *case.history)
    kept, removals = cut(constraints, survivors, case.reducing)
    verdicts = [_removal_verdict(removal) for removal in removals]
    for rule in dict.fromkeys(constraint.rule for constraint in constraints):
        group = [constraint for constraint in constraints if constraint.rule == rule]
        verdicts.append(_batch_verdict(rule, group, survivors, kept, removals))
    if not any(constraint.rule == "name_weight" for constraint in constraints):
        limit = case.limits.name_weight_max
        verdicts.append(_verdict("name_weight", None, Outcome.PASS, "no position and no order", 0.0, limit))
    return kept, [*verdicts, *unjudged]


def _removal_verdict(removal: Removal) -> Verdict:
    constraint, order = removal.constraint, removal.order
    side = "under" if constraint.rule in LOWER_BOUNDS else "over"
    reason = (
        f"{constraint.subject} would be {removal.value:.2%}, {side} the limit {constraint.limit:.2%}; "
        f"{order.side} {order.quantity} {order.instrument} moves it by {removal.marginal:+.2%}"
    )
    return _verdict(constraint.rule, order, Outcome.DENY, reason, removal.value, constraint.limit)


def _batch_verdict(
    rule: str,
    group: Sequence[Constraint],
    proposed: Sequence[PlannedOrder],
    kept: Sequence[PlannedOrder],
    removals: Sequence[Removal],
) -> Verdict:
    """On the rule's tightest constraint: the value that the approved orders leave."""
    tightest = max(group, key=lambda constraint: constraint.excess(kept))
    value, count = tightest.value(kept), sum(removal.constraint.rule == rule for removal in removals)
    reason = f"{tightest.subject} {value:.2%}, limit {tightest.limit:.2%}"
    if count:
        worst = max(group, key=lambda constraint: constraint.excess(proposed))
        reason += f"; {count} of {len(proposed)} orders left out, {worst.subject} {worst.value(proposed):.2%} with all"
    beyond = tightest.excess(kept) > 0
    if beyond:
        reason += "; it was beyond the limit before the batch, and no approved order adds to that"
    outcome = Outcome.WARN if count or beyond else Outcome.PASS
    return _verdict(rule, None, outcome, reason, value, tightest.limit)


# What the rules ask --------------------------------------------------------------------------------------------------


def _window(market: MarketContext, limits: RiskLimits, batch: Batch) -> _History:
    """The last sessions of the return history, with the column of each instrument."""
    history = market.history
    if history is None:
        raise MissingDataError("the return history is missing: ingest bars")
    window = limits.var_window_sessions
    if len(history.sessions) < window:
        raise MissingDataError(
            f"the return history has {len(history.sessions)} sessions, var_window_sessions = {window}: "
            "ingest a longer history"
        )
    last = history.sessions[-1]
    if last < np.datetime64(batch.session, "D"):
        raise MissingDataError(
            f"the return history ends at {last}, before the decision session {batch.session}: ingest the sessions since"
        )
    return (
        {name: column for column, name in enumerate(history.symbols)},
        history.returns[-window:],
        history.sessions_per_year,
    )


def _hole(case: _Case, instrument: str) -> str | None:
    """Why the window of returns is incomplete for ``instrument``."""
    if isinstance(case.history, MissingDataError):
        return str(case.history)
    columns, returns, _ = case.history
    if instrument not in columns:
        return f"the return history of {instrument} is missing: ingest its bars"
    missing = int((~np.isfinite(returns[:, columns[instrument]])).sum())
    if missing:
        return f"{missing} of the last {len(returns)} returns of {instrument} are missing: ingest these sessions"
    return None


def _history_problem(case: _Case) -> str | None:
    """Why losses of the account cannot be measured even without the batch."""
    if isinstance(case.history, MissingDataError):
        return str(case.history)
    held = sorted(case.marked().opening)
    return next((hole for name in held if (hole := _hole(case, name)) is not None), None)


def _last_price(case: _Case, instrument: str) -> Decimal:
    age = case.limits.price_age_max_seconds
    problem = price_problem(instrument, case.market, max_age_seconds=age, now=case.now)
    if problem is not None:
        raise MissingDataError(problem)
    return case.market.last_prices[instrument].price


def _notional_usd(case: _Case, order: PlannedOrder) -> Decimal:
    """At the dearer of the reference and the last price."""
    return order.quantity * max(order.reference_price, _last_price(case, order.instrument))


def _reduces(case: _Case, order: PlannedOrder, why: str) -> _Finding:
    held = case.snapshot.positions.get(order.instrument, Decimal(0))
    if order.intent_id in case.reducing:
        return _Finding(True, f"{order.side} {order.quantity} reduces the {held} held of {order.instrument}")
    return _Finding(
        False, f"{order.side} {order.quantity} does not reduce the {held} held of {order.instrument}: {why}"
    )


def _each(case: _Case, rule: str, check: Callable[[PlannedOrder], _Finding]) -> list[Verdict]:
    """One verdict for each sound order; a missing datum denies with its name."""
    verdicts = []
    for order in case.orders:
        try:
            finding = check(order)
        except MissingDataError as missing:
            finding = _Finding(False, str(missing))
        outcome = Outcome.PASS if finding.ok else Outcome.DENY
        verdicts.append(_verdict(rule, order, outcome, finding.reason, finding.value, finding.limit))
    return verdicts


def _deny_all(
    case: _Case, rule: str, reason: str, value: float | None = None, limit: float | None = None
) -> list[Verdict]:
    return [_verdict(rule, order, Outcome.DENY, reason, value, limit) for order in (None, *case.orders)]


def _verdict(
    rule: str,
    order: PlannedOrder | None,
    outcome: Outcome,
    reason: str,
    value: float | None = None,
    limit: float | None = None,
) -> Verdict:
    return Verdict(GATE, rule, order.intent_id if order else None, outcome, reason, value, limit)
