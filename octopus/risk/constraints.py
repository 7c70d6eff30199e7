"""Limits on a batch as a whole: the constraints, and what each order adds to them.

Belongs here: the constraints and their arithmetic. Does not: rules on a single order (order_rules.py), choosing what to
leave out (cut.py), verdicts (gate.py).

Each exposure is judged twice: with every order filled, against the limit; and over every part of the open and approved
orders that may fill before the rest (only the buys, only the sells, any other part), against the limit and
`RiskLimits.partial_fill_allowance`. The second needs no enumeration: exposures are convex in what has filled and add
up over instruments, so the worst part is found for each instrument alone.

A constraint holds what it has worked out; told that an order was left out, it works out anew what that changed when it
is asked next: a batch of hundreds of orders is judged in milliseconds.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache, partial
from heapq import nlargest
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from octopus.core.orders import PlannedOrder
from octopus.core.types import FloatArray
from octopus.risk.book import Book, Lot
from octopus.risk.case import Window
from octopus.risk.components import Decomposition, cvar_components, var_components, volatility_components
from octopus.risk.limits import LOWER_BOUNDS, RiskLimits
from octopus.risk.measures import (
    historical_cvar_each,
    historical_var_each,
    historical_var_without_each,
    volatility_annual_each,
)

Orders = Sequence[PlannedOrder]
Figure = Callable[[Lot], Decimal]
"""Shares of an instrument that count for a constraint."""
Contribution = tuple[str, float]
"""An instrument, and its part of a constraint's value."""
Choice = tuple[Decimal, PlannedOrder]
"""An order, and what it adds to a constraint's excess."""

Amount = TypeVar("Amount", Decimal, float)

_NAMED = 3
"""So many contributing instruments are named in a denial."""


class Proposal:
    """The orders that are still in, and the lots that they make; it tells who watches it which order was left out."""

    def __init__(self, book: Book, orders: Orders) -> None:
        self.book = book
        self.lots = book.lots(orders)
        self._orders: dict[str, PlannedOrder] = {order.intent_id: order for order in orders}
        self._of: dict[str, list[PlannedOrder]] = {}
        for order in orders:
            self._of.setdefault(order.instrument, []).append(order)
        self._watching: list[Callable[[PlannedOrder], None]] = []
        self._watching_one: dict[str, list[Callable[[PlannedOrder], None]]] = {}

    def watch(self, told: Callable[[PlannedOrder], None], instruments: Collection[str] | None = None) -> None:
        """``told`` is called with each order that is left out; only with those in ``instruments`` unless None."""
        if instruments is None:
            self._watching.append(told)
        for name in instruments or ():
            self._watching_one.setdefault(name, []).append(told)

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def orders(self) -> list[PlannedOrder]:
        return list(self._orders.values())

    def of(self, instruments: Iterable[str] | None) -> list[PlannedOrder]:
        """Orders in ``instruments``; all where None."""
        if instruments is None:
            return self.orders
        return [order for name in instruments for order in self._of.get(name, ())]

    def without(self, order: PlannedOrder) -> Lot:
        """The lot of the order's instrument if it were left out."""
        return self.lots[order.instrument].plus(order.side, -order.quantity)

    def leave_out(self, order: PlannedOrder) -> None:
        self.lots[order.instrument] = self.without(order)
        del self._orders[order.intent_id]
        self._of[order.instrument].remove(order)
        for told in (*self._watching, *self._watching_one.get(order.instrument, ())):
            told(order)


def chosen(added: FloatArray, orders: Orders, excess: Decimal, reducing: Collection[str]) -> Choice | None:
    """`Constraint.choice` among ``orders``, of which each adds ``added``, shape (orders,)."""
    rising = np.flatnonzero(added > 0).tolist()
    eager = [place for place in rising if orders[place].intent_id not in reducing] or rising
    # Floats and decimals compare exactly.
    ranking = sorted(zip(added[eager].tolist(), eager, strict=True))
    if not ranking:
        return None
    amount, place = ranked(ranking, excess)
    return Decimal(amount), orders[place]


def ranked(ranking: Sequence[tuple[Amount, int]], excess: Decimal) -> tuple[Amount, int]:
    """Of pairs in ascending order, at least one, the first as large as ``excess``, else the first of the largest."""
    place = bisect_left(ranking, (excess, -1))
    return ranking[place if place < len(ranking) else bisect_left(ranking, (ranking[-1][0], -1))]


class Constraint(Protocol):
    """One limit on a set of orders. ``excess`` is positive where the limit is breached, zero exactly at it."""

    rule: str
    subject: str
    instruments: Collection[str] | None
    """The only ones that count; None: all do."""

    @property
    def limit(self) -> float: ...

    def excess(self) -> Decimal:
        """With the orders that are still in."""
        ...

    def opening(self) -> Decimal:
        """The excess without any order of the batch."""
        ...

    def value(self) -> float: ...
    def choice(self, excess: Decimal, reducing: Collection[str]) -> Choice | None:
        """Of the orders that add to the excess, given all the others, the one to leave out; None: none adds to it.

        It is the smallest that is as large as ``excess`` or larger, otherwise the largest; ties fall to the first.
        Those whose ids are in ``reducing`` come only where no other adds anything.
        """
        ...

    def alone(self, order: PlannedOrder) -> Decimal:
        """What the order adds to the excess where no other is in."""
        ...

    def added_value(self, order: PlannedOrder, added: Decimal) -> float:
        """``added``, what ``order`` adds to the excess, in the unit of ``value``."""
        ...

    def contributors(self) -> tuple[Contribution, ...]:
        """The instruments that make most of the value, largest first."""
        ...


class Parts:
    """By instrument price × figure, account currency; several constraints share them."""

    def __init__(self, proposal: Proposal, figure: Figure) -> None:
        self.proposal, self._figure = proposal, figure
        self._values: dict[str, Decimal] = {}
        # In this order, which is then that of every sum.
        self._old = dict.fromkeys(proposal.lots)
        proposal.watch(lambda order: self._old.update({order.instrument: None}))

    def values(self) -> dict[str, Decimal]:
        """With the orders that are still in."""
        if self._old:
            marks, lots = self.proposal.book.marks, self.proposal.lots
            for name in self._old:
                self._values[name] = marks[name] * self._figure(lots[name])
            self._old.clear()
        return self._values

    def opening(self, instrument: str) -> Decimal:
        """Without any order of the batch."""
        book = self.proposal.book
        return book.marks[instrument] * self._figure(book.opening.get(instrument, Lot()))

    def added(self, order: PlannedOrder) -> Decimal:
        """What the order adds, given all the others."""
        lots, figure, name = self.proposal.lots, self._figure, order.instrument
        return self.proposal.book.marks[name] * (figure(lots[name]) - figure(self.proposal.without(order)))

    def added_alone(self, order: PlannedOrder) -> Decimal:
        """What the order adds where no other is in."""
        before = self.proposal.book.opening.get(order.instrument, Lot())
        figures = self._figure(before.plus(order.side, order.quantity)) - self._figure(before)
        return self.proposal.book.marks[order.instrument] * figures


class Exposure:
    """A sum of parts by instrument, as a fraction of equity or in the account's currency.

    Attributes:
        bound: the limit, in ``unit_usd``, which one unit of it is worth: the equity, or one.
        base_usd: what the sum starts from (cash); otherwise 0.
        instruments: only these; all where None.
    """

    def __init__(
        self,
        rule: str,
        subject: str,
        parts: Parts,
        bound: Decimal,
        unit_usd: Decimal,
        *,
        base_usd: Decimal = Decimal(0),
        instruments: Collection[str] | None = None,
    ) -> None:
        self.rule, self.subject, self.bound, self.unit_usd = rule, subject, bound, unit_usd
        self.base_usd, self.instruments = base_usd, instruments
        self._parts = parts
        self._bound_usd = bound * unit_usd
        self._sign = -1 if rule in LOWER_BOUNDS else 1
        self._sum_usd: Decimal | None = None
        self._excess: Decimal | None = None
        self._largest: _Largest | None = None
        self._rising: _Rising | None = None
        parts.proposal.watch(self._left_out, instruments)

    @property
    def limit(self) -> float:
        return float(self.bound)

    def excess(self) -> Decimal:
        if self._excess is None:
            self._excess = self._sign * (self._total_usd() - self._bound_usd)
        return self._excess

    def opening(self) -> Decimal:
        held = self._parts.proposal.book.opening
        parts = (self._parts.opening(name) for name in self._names() if name in held)
        return self._sign * (self.base_usd + sum(parts, Decimal(0)) - self._bound_usd)

    def value(self) -> float:
        return float(self._total_usd() / self.unit_usd)

    def choice(self, excess: Decimal, reducing: Collection[str]) -> Choice | None:
        if self._rising is None:
            self._rising = _Rising(reducing)
            self._rising.add(self._marginals_of(self.instruments))
        return self._rising.choice(excess, self._marginals_of)

    def alone(self, order: PlannedOrder) -> Decimal:
        if self.instruments is not None and order.instrument not in self.instruments:
            return Decimal(0)
        return self._sign * self._parts.added_alone(order)

    def added_value(self, order: PlannedOrder, added: Decimal) -> float:
        return float(self._sign * added / self.unit_usd)

    def contributors(self) -> tuple[Contribution, ...]:
        parts = self._parts.values()
        if self._largest is None:
            self._largest = _Largest(self._names(), parts)
        return tuple((name, float(parts[name] / self.unit_usd)) for name in self._largest.first(parts))

    def _left_out(self, order: PlannedOrder) -> None:
        self._sum_usd = self._excess = None
        if self._largest is not None:
            self._largest.changed.add(order.instrument)
        if self._rising is not None:
            self._rising.left_out(order)

    def _names(self) -> Collection[str]:
        return self._parts.proposal.lots if self.instruments is None else self.instruments

    def _total_usd(self) -> Decimal:
        if self._sum_usd is None:
            # Summed anew and not corrected by what changed, so that no rounding builds up.
            parts = self._parts.values()
            values = parts.values() if self.instruments is None else [parts[name] for name in self.instruments]
            self._sum_usd = sum(values, self.base_usd)
        return self._sum_usd

    def _marginals_of(self, instruments: Iterable[str] | None) -> Iterator[Choice]:
        """What each order adds to the excess, given all the others."""
        for order in self._parts.proposal.of(instruments):
            yield self._sign * self._parts.added(order), order


class _Largest:
    """The instruments by the size of their parts.

    Attributes:
        changed: those whose part may be another since.
    """

    def __init__(self, names: Iterable[str], parts: Mapping[str, Decimal]) -> None:
        self._sizes = {name: -abs(parts[name]) for name in names}
        self._ranked = sorted((size, name) for name, size in self._sizes.items())
        self.changed: set[str] = set()

    def first(self, parts: Mapping[str, Decimal]) -> list[str]:
        """The few largest, largest first; none without a part."""
        for name in self.changed:
            del self._ranked[bisect_left(self._ranked, (self._sizes[name], name))]
            self._sizes[name] = -abs(parts[name])
            insort(self._ranked, (self._sizes[name], name))
        self.changed.clear()
        return [name for size, name in self._ranked[:_NAMED] if size]


class _Rising:
    """The orders that add to an excess, ranked: one is found, put in or taken out without looking at the rest.

    Args:
        reducing: ids of those that come last.
    """

    def __init__(self, reducing: Collection[str]) -> None:
        self._reducing = reducing
        self._places: dict[str, int] = {}
        self._orders: list[PlannedOrder] = []
        self._amounts: dict[str, Decimal] = {}
        self._eager: list[tuple[Decimal, int]] = []
        self._last: list[tuple[Decimal, int]] = []
        self._changed: set[str] = set()

    def add(self, choices: Iterable[Choice]) -> None:
        """Put orders in, or move those that are in; an order keeps the place among its equals that it had at first."""
        for added, order in choices:
            self.remove(order)
            if order.intent_id not in self._places:
                self._places[order.intent_id] = len(self._orders)
                self._orders.append(order)
            if added > 0:
                self._amounts[order.intent_id] = added
                insort(self._of(order), (added, self._places[order.intent_id]))

    def left_out(self, order: PlannedOrder) -> None:
        """Take an order out; what others of its instrument add is asked anew before the next choice."""
        self.remove(order)
        self._changed.add(order.instrument)

    def remove(self, order: PlannedOrder) -> None:
        added = self._amounts.pop(order.intent_id, None)
        if added is not None:
            ranking = self._of(order)
            del ranking[bisect_left(ranking, (added, self._places[order.intent_id]))]

    def choice(self, excess: Decimal, marginals_of: Callable[[Iterable[str]], Iterable[Choice]]) -> Choice | None:
        """`Constraint.choice`; ``marginals_of`` says what each order of some instruments adds."""
        if self._changed:
            self.add(marginals_of(self._changed))
            self._changed.clear()
        ranking = self._eager or self._last
        if not ranking:
            return None
        added, place = ranked(ranking, excess)
        return added, self._orders[place]

    def _of(self, order: PlannedOrder) -> list[tuple[Decimal, int]]:
        return self._last if order.intent_id in self._reducing else self._eager


class Messages:
    """Messages sent lately and the batch's own: each order is one."""

    rule = "message_rate"
    instruments: Collection[str] | None = None

    def __init__(self, proposal: Proposal, recent: int, limits: RiskLimits) -> None:
        self.subject = f"messages in {limits.messages_window_seconds:.0f} s"
        self.limit = float(limits.messages_max)
        self._proposal, self._recent = proposal, recent

    def excess(self) -> Decimal:
        return Decimal(self._recent + len(self._proposal)) - Decimal(self.limit)

    def opening(self) -> Decimal:
        return Decimal(self._recent) - Decimal(self.limit)

    def value(self) -> float:
        return float(self._recent + len(self._proposal))

    def choice(self, excess: Decimal, reducing: Collection[str]) -> Choice | None:
        # All weigh the same: the last of the plan is the first to be left out.
        orders = self._proposal.orders[::-1]
        return chosen(np.ones(len(orders)), orders, excess, reducing)

    def alone(self, order: PlannedOrder) -> Decimal:
        return Decimal(1)

    def added_value(self, order: PlannedOrder, added: Decimal) -> float:
        return float(added)

    def contributors(self) -> tuple[Contribution, ...]:
        return ()


class Scenario:
    """The returns that the portfolio would have had, if one part of the orders fills.

    Args:
        figure: the shares held then. returns: the window, shape (instruments, sessions), rows as ``names``.
        weight: of shares of an instrument, a fraction of equity.
    """

    def __init__(
        self,
        proposal: Proposal,
        figure: Figure,
        names: Sequence[str],
        returns: FloatArray,
        weight: Callable[[str, Decimal], float],
    ) -> None:
        self.proposal, self.names, self.returns = proposal, names, returns
        self._figure, self._weight = figure, weight
        self._rows = {name: row for row, name in enumerate(names)}
        lots = proposal.lots
        self._weights = np.array([weight(name, figure(lots[name])) if name in lots else 0.0 for name in names])
        self._portfolio: FloatArray | None = None
        self._changed: set[str] = set()
        self._orders: list[PlannedOrder] = []
        self._added: FloatArray | None = None
        self._stale: set[str] = set()
        proposal.watch(self._left_out)

    @property
    def weights(self) -> FloatArray:
        """Fractions of equity, shape (instruments,)."""
        for name in self._changed:
            self._weights[self._rows[name]] = self._weight(name, self._figure(self.proposal.lots[name]))
        self._changed.clear()
        return self._weights

    def portfolio(self) -> FloatArray:
        """Shape (sessions,)."""
        if self._portfolio is None:
            self._portfolio = self._of(self.weights)
        return self._portfolio

    def opening(self) -> FloatArray:
        """As `portfolio`, without any order of the batch."""
        book = self.proposal.book
        return self._of(np.array([self._weight(n, self._figure(book.opening.get(n, Lot()))) for n in self.names]))

    def each(self) -> tuple[list[PlannedOrder], FloatArray]:
        """Orders, and what each adds to the portfolio's returns, given all the others: shape (orders, sessions).

        They are those that were in when it was first asked; what was left out since adds nothing.
        """
        if self._added is None:
            self._orders = self.proposal.orders
            self._places = {order.intent_id: place for place, order in enumerate(self._orders)}
            self._added = np.empty((len(self._orders), self.returns.shape[1]))
            self._stale.update(order.instrument for order in self._orders)
        for order in self.proposal.of(self._stale):
            self._added[self._places[order.intent_id]] = self._change(order)
        self._stale.clear()
        return self._orders, self._added

    def with_alone(self, order: PlannedOrder) -> FloatArray:
        """As `opening`, with the one order."""
        before = self.proposal.book.opening.get(order.instrument, Lot())
        shares = self._figure(before.plus(order.side, order.quantity)) - self._figure(before)
        change = self._weight(order.instrument, shares)
        return np.asarray(self.opening() + change * self.returns[self._rows[order.instrument]])

    def _left_out(self, order: PlannedOrder) -> None:
        self._portfolio = None
        self._changed.add(order.instrument)
        if self._added is not None:
            self._added[self._places[order.intent_id]] = 0.0
            self._stale.add(order.instrument)

    def _of(self, weights: FloatArray) -> FloatArray:
        # Not a product of matrices: the same weights give the same bits on every machine.
        return np.asarray((weights[:, None] * self.returns).sum(axis=0))

    def _change(self, order: PlannedOrder) -> FloatArray:
        """What the order adds to the portfolio's returns, given all the others."""
        lots = self.proposal.lots
        shares = self._figure(lots[order.instrument]) - self._figure(self.proposal.without(order))
        return np.asarray(self._weight(order.instrument, shares) * self.returns[self._rows[order.instrument]])


class Statistic(NamedTuple):
    """A figure of many series at once, shape (series, sessions).

    Attributes:
        without_each: the same of one series less each of many, shapes (sessions,) and (series, sessions).
    """

    of: Callable[[FloatArray], FloatArray]
    without_each: Callable[[FloatArray, FloatArray], FloatArray]


class LossMeasure:
    """A statistic of the returns that the portfolio would have had."""

    instruments: Collection[str] | None = None

    def __init__(
        self,
        rule: str,
        subject: str,
        scenario: Scenario,
        statistic: Statistic,
        limit: float,
        sessions_per_year: float,
    ) -> None:
        self.rule, self.subject, self.limit = rule, subject, limit
        self._scenario, self._statistic = scenario, statistic
        self._decompositions = _decompositions(sessions_per_year)
        self._value: float | None = None
        scenario.proposal.watch(self._left_out)

    def excess(self) -> Decimal:
        return Decimal(self.value()) - Decimal(self.limit)

    def opening(self) -> Decimal:
        return Decimal(self._of(self._scenario.opening())) - Decimal(self.limit)

    def value(self) -> float:
        if self._value is None:
            self._value = self._of(self._scenario.portfolio())
        return self._value

    def choice(self, excess: Decimal, reducing: Collection[str]) -> Choice | None:
        orders, added = self._scenario.each()
        without = self._statistic.without_each(self._scenario.portfolio(), added)
        return chosen(self.value() - without, orders, excess, reducing)

    def alone(self, order: PlannedOrder) -> Decimal:
        with_it, without = self._scenario.with_alone(order), self._scenario.opening()
        return Decimal(self._of(with_it)) - Decimal(self._of(without))

    def added_value(self, order: PlannedOrder, added: Decimal) -> float:
        return float(added)

    def contributors(self) -> tuple[Contribution, ...]:
        scenario, decompose = self._scenario, self._decompositions[self.rule.removesuffix(PART_FILLED)]
        parts = decompose(scenario.weights, scenario.returns.T, portfolio=scenario.portfolio()).component
        largest = nlargest(_NAMED, zip(scenario.names, parts.tolist(), strict=True), key=lambda part: abs(part[1]))
        return tuple(part for part in largest if part[1])

    def _left_out(self, _order: PlannedOrder) -> None:
        self._value = None

    def _of(self, returns: FloatArray) -> float:
        return float(self._statistic.of(returns[None, :])[0])


PART_FILLED = "_part_filled"


def _decompositions(sessions_per_year: float) -> dict[str, Callable[..., Decomposition]]:
    volatility = partial(volatility_components, sessions_per_year=sessions_per_year)
    return {"volatility": volatility, "var_95": var_components, "cvar_95": cvar_components}


def exposure_constraints(
    proposal: Proposal, limits: RiskLimits, sectors: Mapping[str, str], rules: frozenset[str]
) -> list[Constraint]:
    """Those of ``rules`` that limit positions, in the order in which they are judged; then their part-filled forms."""
    book = proposal.book
    turnover_max = limits.turnover_max_initial if book.is_uninvested else limits.turnover_max
    slack = _decimal(limits.partial_fill_allowance)
    gross_max, net_max, net_min, cash_min, leverage_max = (
        _decimal(n)
        for n in (limits.gross_max, limits.net_max, limits.net_min, limits.cash_min_fraction, limits.leverage_max)
    )
    cash, assets = book.cash, "assets over equity"
    size, farthest, after = Parts(proposal, _size), Parts(proposal, _farthest), Parts(proposal, _after)

    def exposure(
        rule: str,
        subject: str,
        figure: Figure | Parts,
        bound: Decimal,
        base_usd: Decimal = _ZERO,
        unit_usd: Decimal = book.equity,
    ) -> list[Constraint]:
        if rule not in rules:
            return []
        parts = figure if isinstance(figure, Parts) else Parts(proposal, figure)
        return [Exposure(rule, subject, parts, bound, unit_usd, base_usd=base_usd)]

    return [
        *_positions(farthest, limits, rules),
        *_by_sector(size, farthest, limits, sectors, rules),
        *exposure("gross", "gross exposure", size, gross_max),
        *exposure("net_max", "net exposure", after, net_max),
        *exposure("net_min", "net exposure", after, net_min),
        # Assets are what is long and what cash there is: the larger of two sums, the one without cash where it is owed.
        # Of one instrument, long shares and the proceeds of sales are the larger of what was held and what was sold.
        *exposure("leverage", assets, _long, leverage_max),
        *exposure("leverage", assets, lambda lot: max(lot.held, lot.sold - lot.bought), leverage_max, cash),
        *exposure("turnover", "turnover", lambda lot: lot.bought + lot.sold, _decimal(turnover_max)),
        *exposure("cash", "cash", lambda lot: lot.sold - lot.bought, cash_min, cash),
        *exposure(
            "capital_threshold_usd", "capital at work", farthest, limits.capital_threshold_usd, unit_usd=_ONE
        ),
        *exposure("gross_part_filled", "gross exposure if only a part fills", farthest, gross_max + slack),
        *exposure("net_max_part_filled", "net exposure if only the buys fill", _highest, net_max + slack),
        *exposure("net_min_part_filled", "net exposure if only the sells fill", _lowest, net_min - slack),
        *exposure("leverage_part_filled", f"{assets} if only the buys fill", _highest_long, leverage_max + slack),
        *exposure(
            "leverage_part_filled", f"{assets} if only the sells fill", lambda lot: max(lot.held, lot.sold),
            leverage_max + slack, cash,
        ),
        *exposure("cash_part_filled", "cash if only the buys fill", lambda lot: -lot.bought, cash_min - slack, cash),
    ]  # fmt: skip


def _positions(farthest: Parts, limits: RiskLimits, rules: frozenset[str]) -> list[Constraint]:
    """One position: as a fraction, and in money; whatever part fills."""
    equity, names = farthest.proposal.book.equity, sorted(farthest.proposal.lots)
    forms = (
        ("name_weight", "weight of", _decimal(limits.name_weight_max), equity),
        ("position_notional_usd", "position in", limits.position_notional_max_usd, _ONE),
    )
    return [
        Exposure(rule, f"{what} {name}", farthest, bound, unit_usd, instruments=(name,))
        for rule, what, bound, unit_usd in forms
        if rule in rules
        for name in names
    ]


def _by_sector(
    size: Parts, farthest: Parts, limits: RiskLimits, sectors: Mapping[str, str], rules: frozenset[str]
) -> list[Constraint]:
    """Gross by sector. A name without a sector counts in every one of them: it may belong there."""
    if limits.sector_weight_max is None or rules.isdisjoint(("sector", "sector_part_filled")):
        return []
    bound = _decimal(limits.sector_weight_max)
    slack = _decimal(limits.partial_fill_allowance)
    book, lots = size.proposal.book, size.proposal.lots
    unknown = [name for name in lots if name not in sectors]
    members: dict[str, list[str]] = {}
    for name in sorted(lots):
        if name in sectors:
            members.setdefault(sectors[name], []).append(name)
    if unknown and not members:
        members["unknown"] = []
    forms = (
        ("sector", "", size, bound),
        ("sector_part_filled", " if only a part fills", farthest, bound + slack),
    )
    return [
        Exposure(rule, f"sector {sector}{when}", parts, limit, book.equity, instruments=(*names, *unknown))
        for rule, when, parts, limit in forms
        if rule in rules
        for sector, names in sorted(members.items())
    ]


def loss_constraints(
    proposal: Proposal, limits: RiskLimits, history: Window, rules: frozenset[str]
) -> list[Constraint]:
    """Those of ``rules`` on volatility, VaR and CVaR with every order filled, and with only the buys or only the sells.

    Args:
        history: complete for all that is held, working or ordered.
    """
    names = sorted(proposal.lots)
    # Only what may be held: the hole of another instrument, times a weight of zero, would still be NaN.
    rows = np.ascontiguousarray(history.returns[:, [history.columns[name] for name in names]].T)
    year = history.sessions_per_year
    more = 1 + limits.partial_fill_allowance
    forms: tuple[tuple[str, str, Figure, float], ...] = (
        ("", "", _after, 1.0),
        (PART_FILLED, " if only the buys fill", _highest, more),
        (PART_FILLED, " if only the sells fill", _lowest, more),
    )
    weight = _weights(proposal.book)
    scenarios = [Scenario(proposal, figure, names, rows, weight) for _, _, figure, _ in forms]
    volatility = partial(volatility_annual_each, sessions_per_year=year)
    statistics = (
        ("volatility", "annual volatility", limits.volatility_max_annual, _plainly(volatility)),
        (
            "var_95", "one-day VaR 95 %", limits.var_95_max,
            Statistic(historical_var_each, historical_var_without_each),
        ),
        ("cvar_95", "one-day CVaR 95 %", limits.cvar_95_max, _plainly(historical_cvar_each)),
    )  # fmt: skip
    return [
        LossMeasure(rule + suffix, subject + when, scenario, statistic, limit * factor, year)
        for rule, subject, limit, statistic in statistics
        for (suffix, when, _, factor), scenario in zip(forms, scenarios, strict=True)
        if rule + suffix in rules
    ]


def _plainly(statistic: Callable[[FloatArray], FloatArray]) -> Statistic:
    return Statistic(statistic, lambda portfolio, added: statistic(portfolio - added))


def _weights(book: Book) -> Callable[[str, Decimal], float]:
    """What shares of an instrument are as a fraction of equity; scenarios ask for the same ones again and again."""

    @cache
    def weight(instrument: str, shares: Decimal) -> float:
        return float(shares * book.marks[instrument] / book.equity) if shares else 0.0

    return weight


_ZERO, _ONE = Decimal(0), Decimal(1)


def _after(lot: Lot) -> Decimal:
    return lot.after


def _size(lot: Lot) -> Decimal:
    return abs(lot.after)


def _farthest(lot: Lot) -> Decimal:
    return max(abs(lot.highest), abs(lot.lowest))


def _long(lot: Lot) -> Decimal:
    return max(lot.after, _ZERO)


def _highest(lot: Lot) -> Decimal:
    return lot.highest


def _lowest(lot: Lot) -> Decimal:
    return lot.lowest


def _highest_long(lot: Lot) -> Decimal:
    return max(lot.highest, _ZERO)


@lru_cache(maxsize=64)
def _decimal(number: float) -> Decimal:
    """The decimal that a person wrote in the configuration, not its binary neighbour."""
    return Decimal(str(number))
