"""What the gate judges, and how a rule says what it found.

Belongs here: the case, what several rules ask of it, making verdicts. Does not: the rules (account_rules.py,
order_rules.py, gate.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import numpy as np

from octopus.core.amounts import plain
from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot, Batch, Outcome, PlannedOrder, TradingState, Verdict, reducing_orders
from octopus.core.types import FloatArray
from octopus.risk.book import Book, open_book, price_problem, usable_price
from octopus.risk.limits import RiskLimits
from octopus.risk.market import MarketContext
from octopus.risk.return_window import Window
from octopus.risk.signatures import Authority

GATE = "risk"

Finding = tuple[bool, str, float | None, float | None]
"""What a rule says of one order: whether it passes, why, the value and the limit. Bare, for a batch has thousands."""


@dataclass(frozen=True, eq=False)
class Case:
    """All that is judged, and what follows from it at once.

    Attributes:
        orders: those whose terms are sound; no other rule is asked about the rest.
        book, history: the marked account and the window of returns, or why there is none.
    """

    batch: Batch
    snapshot: AccountSnapshot
    market: MarketContext
    limits: RiskLimits
    state: TradingState | None
    authority: Authority
    now: datetime
    orders: tuple[PlannedOrder, ...]
    reducing: frozenset[str]
    book: Book | MissingDataError
    history: Window | MissingDataError
    _prices: dict[str, Decimal | str] = field(default_factory=dict)

    def marked(self) -> Book:
        if isinstance(self.book, MissingDataError):
            raise self.book
        return self.book

    def last_price(self, instrument: str) -> Decimal:
        """The last price, if it may be used.

        Raises:
            MissingDataError: saying why not.
        """
        known = self._prices.get(instrument)
        if known is None:
            age = self.limits.price_age_max_seconds
            problem = price_problem(instrument, self.market, max_age_seconds=age, now=self.now)
            known = problem if problem is not None else self.market.last_prices[instrument].price
            self._prices[instrument] = known
        if isinstance(known, str):
            raise MissingDataError(known)
        return known

    def hole(self, instrument: str) -> str | None:
        """Why the window of returns tells nothing of ``instrument``."""
        if isinstance(self.history, MissingDataError):
            return str(self.history)
        return self.history.problem(instrument)

    def history_problem(self) -> str | None:
        """Why losses of the account cannot be measured even without the batch."""
        if isinstance(self.history, MissingDataError):
            return str(self.history)
        held = () if isinstance(self.book, MissingDataError) else sorted(self.book.opening)
        return "; ".join(hole for name in held if (hole := self.hole(name)) is not None) or None

    def benchmark_returns(self) -> FloatArray:
        """Returns of the limits' benchmark over the window, shape (sessions,).

        Raises:
            MissingDataError: some are missing, or they are all the same, so that nothing can be measured against them.
        """
        if isinstance(self.history, MissingDataError):
            raise self.history
        weights = {name: weight for name, weight in (self.limits.benchmark or {}).items() if weight}
        for name in sorted(weights):
            if (hole := self.hole(name)) is not None:
                raise MissingDataError(f"of the benchmark, {hole}")
        columns = [self.history.columns[name] for name in weights]
        returns = (self.history.returns[:, columns] * np.array(list(weights.values()))).sum(axis=1)
        if not np.ptp(returns) > 0:
            raise MissingDataError("the benchmark does not move: name one that is traded in risk.yaml (benchmark)")
        return np.asarray(returns)


def open_case(
    batch: Batch,
    snapshot: AccountSnapshot,
    market: MarketContext,
    limits: RiskLimits,
    state: TradingState | None,
    authority: Authority,
    now: datetime,
) -> Case:
    """Mark the account, cut the window of returns, and find the orders that only reduce a position."""
    repeated = {intent for intent, count in Counter(o.intent_id for o in batch.orders).items() if count > 1}
    orders = tuple(o for o in batch.orders if o.intent_id not in repeated and terms_problem(o) is None)
    book: Book | MissingDataError
    history: Window | MissingDataError
    try:
        book = open_book(
            snapshot, market, orders, price_age_max_seconds=limits.price_age_max_seconds,
            price_collar=limits.price_collar, now=now,
        )  # fmt: skip
    except MissingDataError as missing:
        book = missing
    try:
        history = _window(market, limits, batch)
    except MissingDataError as missing:
        history = missing
    reducing = reducing_orders(orders, snapshot)
    return Case(batch, snapshot, market, limits, state, authority, now, orders, reducing, book, history)


def terms_problem(order: PlannedOrder) -> str | None:
    """Why the order is none."""
    if not usable_price(order.quantity):
        return f"quantity {order.quantity} of {order.instrument} is not a positive number: plan the batch again"
    if not usable_price(order.reference_price):
        return f"reference price {order.reference_price} of {order.instrument} is not a positive number: plan again"
    if order.price is not None and not usable_price(order.price):
        return (
            f"{order.order_type.value} price {order.price} of {order.instrument} is not a positive number: plan again"
        )
    return None


def _window(market: MarketContext, limits: RiskLimits, batch: Batch) -> Window:
    history = market.history
    if history is None:
        raise MissingDataError("the return history is missing: ingest bars")
    window = Window.of(history, limits.var_window_sessions)
    last = history.sessions[-1]
    if last < np.datetime64(batch.session, "D"):
        raise MissingDataError(
            f"the return history ends at {last}, before the decision session {batch.session}: ingest the sessions since"
        )
    return window


def reduces(
    case: Case, order: PlannedOrder, why: str, value: float | None = None, limit: float | None = None
) -> Finding:
    """Whether the order only makes a position smaller; ``why`` says what asks for that."""
    of_held = f"the {plain(case.snapshot.positions.get(order.instrument, Decimal(0)))} held of {order.instrument}"
    asked = f"{order.side} {plain(order.quantity)}"
    if order.intent_id in case.reducing:
        return True, f"{asked} reduces {of_held}", None, None
    return False, f"{asked} does not reduce {of_held}: {why}", value, limit


def each(case: Case, rule: str, check: Callable[[PlannedOrder], Finding]) -> list[Verdict]:
    """One verdict for each sound order; a missing datum denies with its name."""
    verdicts, bare, passed, denied = [], tuple.__new__, Outcome.PASS, Outcome.DENY
    for order in case.orders:
        try:
            ok, reason, value, limit = check(order)
        except MissingDataError as missing:
            ok, reason, value, limit = False, str(missing), None, None
        outcome = passed if ok else denied
        verdicts.append(bare(Verdict, (GATE, rule, order.intent_id, outcome, reason, value, limit, None, ())))
    return verdicts


def deny_but_reductions(case: Case, rule: str, reason: str) -> list[Verdict]:
    """The rule cannot be judged: orders that only make a position smaller pass, for none of them needs its datum."""
    outcome = Outcome.WARN if case.reducing else Outcome.DENY
    return [verdict(rule, None, outcome, reason), *each(case, rule, lambda order: reduces(case, order, reason))]


def deny_all(
    case: Case, rule: str, reason: str, value: float | None = None, limit: float | None = None
) -> list[Verdict]:
    """The same denial for the batch and for every order of it."""
    return [verdict(rule, order, Outcome.DENY, reason, value, limit) for order in (None, *case.orders)]


def verdict(
    rule: str,
    order: PlannedOrder | None,
    outcome: Outcome,
    reason: str,
    value: float | None = None,
    limit: float | None = None,
) -> Verdict:
    """A verdict of this gate; without an order it is on the batch."""
    return Verdict(GATE, rule, order.intent_id if order else None, outcome, reason, value, limit)
