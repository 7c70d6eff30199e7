"""What the gate judges, and how a rule says what it found.

Belongs here: the case, what several rules ask of it, making verdicts. Does not: the rules (account_rules.py,
order_rules.py, gate.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import numpy as np

from octopus.core.amounts import plain
from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot, Batch, Outcome, PlannedOrder, TradingState, Verdict, reducing_orders
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.risk.book import Book, open_book, price_problem, usable_price
from octopus.risk.limits import RiskLimits
from octopus.risk.market import MarketContext, ReturnHistory
from octopus.risk.signatures import Authority

GATE = "risk"

HOLES_MAX = 0.1
"""Part of the window in which an instrument may have no bar. Holidays of one exchange on another's clock are 1 to 6 %
of a year (Tokyo's on New York's are 31 of 499 sessions); more than that is a share that seldom trades, or an ingestion
that failed."""
LOOK_BACK = 20
"""Sessions before the window in which a bar is looked for that its first return can be told from."""


Finding = tuple[bool, str, float | None, float | None]
"""What a rule says of one order: whether it passes, why, the value and the limit. Bare, for a batch has thousands."""


@dataclass(frozen=True, eq=False)
class Window:
    """The last sessions of the return history.

    Attributes:
        columns: by instrument. returns: shape (sessions, instruments); zero in a session without one.
        holes: sessions without a return, by column. infinite: returns that are no numbers.
        begun: whether there is a bar from before the first session, or of it. ended: whether the last session has one.
        sessions_per_year: of their calendar.
    """

    columns: Mapping[str, int]
    returns: FloatArray
    holes: IntArray
    infinite: IntArray
    begun: BoolArray
    ended: BoolArray
    sessions_per_year: float

    @classmethod
    def of(cls, history: ReturnHistory, sessions: int) -> Window:
        """The last ``sessions`` of ``history``, at least as many.

        A session without a bar between two bars counts as a return of zero, as in
        `octopus.portfolio.covariance.estimate_covariance`: the next bar's return is told from the last bar
        (`octopus.market_data.returns.total_returns`), so that nothing of the move is lost. So does the first bar after
        a spin-off of unknown worth, whose return nobody knows.
        """
        told = history.returns[-sessions:]
        missing = np.isnan(told)
        holes = missing.sum(axis=0)
        before = history.returns[-sessions - LOOK_BACK : -sessions]
        return cls(
            columns={name: column for column, name in enumerate(history.symbols)},
            returns=np.where(missing, 0.0, told) if holes.any() else told,
            holes=holes,
            infinite=np.isinf(told).sum(axis=0),
            begun=~missing[0] | np.isfinite(before).any(axis=0),
            ended=~missing[-1],
            sessions_per_year=history.sessions_per_year,
        )

    def filled(self, instrument: str) -> int:
        """Sessions of ``instrument`` that count as a return of zero."""
        column = self.columns.get(instrument)
        return 0 if column is None else int(self.holes[column])

    def problem(self, instrument: str) -> str | None:
        """Why the risk of ``instrument`` cannot be told from the window."""
        column, window = self.columns.get(instrument), len(self.returns)
        if column is None:
            return f"the return history of {instrument} is missing: ingest its bars"
        holes, infinite = int(self.holes[column]), int(self.infinite[column])
        if infinite:
            return f"{infinite} of the last {window} returns of {instrument} are no numbers: correct its bars"
        told = f"{holes} of the last {window} returns of {instrument} are missing"
        if not self.ended[column]:
            return f"{told}, the last among them: ingest these sessions"
        if not self.begun[column]:
            return f"{told}, from the first on: ingest a longer history, or wait until it is long enough"
        if not few_holes(holes, window):
            return f"{told}, more than {HOLES_MAX:.0%}: ingest these sessions"
        return None


def few_holes(holes: int | IntArray, window: int) -> bool | BoolArray:
    """Whether a window of returns is whole enough with so many ``holes``."""
    return holes <= HOLES_MAX * window


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
    return Window.of(history, window)


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
