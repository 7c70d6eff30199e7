"""Limits on a batch as a whole: the constraints, and what each order adds to them.

Belongs here: the constraints and their arithmetic. Does not: rules on a single order (order_rules.py), choosing what to
leave out (cut.py), verdicts (gate.py).

Each exposure is judged twice: with every order filled, against the limit; and over every part of the open and approved
orders that may fill before the rest (only the buys, only the sells, any other part), against the limit and
`RiskLimits.partial_fill_allowance`. The second needs no enumeration: exposures are convex in what has filled and add
up over instruments, so the worst part is found for each instrument alone.

A constraint holds what it has worked out; asked again, it reads which orders were left out since, and works out anew
what that changed: a batch of hundreds of orders is judged in milliseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache, cached_property, lru_cache, partial
from operator import gt, lt, mul
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from octopus.core.orders import PlannedOrder, Side
from octopus.core.types import FloatArray, IntArray
from octopus.risk.book import NO_SHARES, Book, Lot
from octopus.risk.components import Decomposition, cvar_components, var_components, volatility_components
from octopus.risk.limits import LOWER_BOUNDS, PART_FILLED, RiskLimits
from octopus.risk.measures import (
    historical_cvar_each,
    historical_var_each,
    historical_var_without_each,
    volatility_annual_each,
)
from octopus.risk.return_window import Window

Orders = Sequence[PlannedOrder]
Figure = Callable[[Lot], Decimal]
"""Shares of an instrument that count for a constraint."""
Dearer = Callable[[Lot, Decimal, Decimal], Decimal]
"""A figure's worth where purchases cost more than the last price: of the lot, that price and the surcharge, in the
account's currency."""
Contribution = tuple[str, float]
"""An instrument, and its part of a constraint's value."""
Choice = tuple[Decimal, PlannedOrder]
"""An order, and what it adds to a constraint's excess."""

Amount = TypeVar("Amount", Decimal, float)

_BLOCK = 24
"""So many instruments are summed at once: about the root of the hundreds that a batch has."""
_NAMED = 3
"""So many contributing instruments are named in a denial."""
_BINARY = Decimal("1e-12")
"""What floats of returns leave of nothing: a measure this near to its limit is at it, and not beyond."""


class Proposal:
    """The orders that are still in, and the lots that they make.

    Attributes:
        left_out: orders that are no longer in, in the order in which they went. Who keeps something worked out reads on
            from where it has read to.
        blocks: the lots' instruments, `_BLOCK` after the other. block_of: by instrument, the place of its block.
        surcharges: by instrument, what its purchases may cost beyond the last price, account currency; only where they
            may.
    """

    def __init__(self, book: Book, orders: Orders) -> None:
        self.book = book
        self.lots = book.lots(orders)
        self.left_out: list[PlannedOrder] = []
        names = list(self.lots)
        self.blocks = [names[first : first + _BLOCK] for first in range(0, len(names), _BLOCK)]
        self.block_of = {name: place for place, block in enumerate(self.blocks) for name in block}
        self._orders: dict[str, PlannedOrder] = {order.intent_id: order for order in orders}
        self._of: dict[str, list[PlannedOrder]] = {}
        for order in orders:
            self._of.setdefault(order.instrument, []).append(order)
        dear = {order.instrument for order in orders if order.price is not None and self.surcharge(order)}
        self.surcharges = {name: sum(map(self.surcharge, self._of[name]), _ZERO) for name in sorted(dear)}

    def __len__(self) -> int:
        return len(self._orders)

    @cached_property
    def marks(self) -> list[Decimal]:
        """Price of each lot's instrument, in the order of the lots."""
        return [self.book.marks[name] for name in self.lots]

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

    def surcharge(self, order: PlannedOrder) -> Decimal:
        """What a purchase may cost beyond the last price, account currency; otherwise zero."""
        if order.price is None or order.side is not Side.BUY:
            return _ZERO
        return order.quantity * max(order.price - self.book.marks[order.instrument], _ZERO)

    def leave_out(self, order: PlannedOrder) -> None:
        name = order.instrument
        self.lots[name] = self.without(order)
        del self._orders[order.intent_id]
        self._of[name].remove(order)
        if name in self.surcharges:
            self.surcharges[name] = sum(map(self.surcharge, self._of[name]), _ZERO)
        self.left_out.append(order)


class Removals:
    """What a proposal left out since one reader looked last."""

    def __init__(self, proposal: Proposal) -> None:
        self._log, self._read = proposal.left_out, len(proposal.left_out)

    def __bool__(self) -> bool:
        return len(self._log) > self._read

    def news(self) -> Sequence[PlannedOrder]:
        """Those that were not told yet."""
        if len(self._log) == self._read:
            return ()
        new = self._log[self._read :]
        self._read = len(self._log)
        return new


def chosen(added: FloatArray, orders: Orders, excess: Decimal, reducing: Collection[str]) -> Choice | None:
    """`Constraint.choice` among ``orders``, of which each adds ``added``, shape (orders,)."""
    rising = np.flatnonzero(added > 0)
    if not len(rising):
        return None
    if reducing:
        eager = [place for place in rising.tolist() if orders[place].intent_id not in reducing]
        rising = np.array(eager) if eager else rising
    amounts = added[rising]
    cures = np.flatnonzero(amounts >= _least_float(excess))
    place = cures[amounts[cures].argmin()] if len(cures) else amounts.argmax()
    return Decimal(float(amounts[place])), orders[int(rising[place])]


def _least_float(number: Decimal) -> float:
    """The smallest float that is ``number`` or larger: floats compare with it as they do with the number."""
    nearest = float(number)
    return nearest if Decimal(nearest) >= number else math.nextafter(nearest, math.inf)


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


class Rule(Protocol):
    """The constraints of one rule."""

    name: str

    def beyond(self) -> Iterator[Constraint]:
        """Those that are breached, each as it is when the iteration comes to it."""
        ...

    def tightest(self) -> Constraint:
        """The one with the largest excess; of equals the first."""
        ...


class FewConstraints:
    """A rule of one constraint, or of a few.

    Args:
        constraints: of one rule, one at least.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self.name, self._constraints = constraints[0].rule, constraints

    def beyond(self) -> Iterator[Constraint]:
        return (constraint for constraint in self._constraints if constraint.excess() > 0)

    def tightest(self) -> Constraint:
        return max(self._constraints, key=lambda constraint: constraint.excess())


class Parts:
    """By instrument price × figure, account currency; several constraints share them.

    Args:
        dearer: the same where purchases may cost more than the last price; None: it makes no difference.
    """

    def __init__(self, proposal: Proposal, figure: Figure, dearer: Dearer | None = None) -> None:
        self.proposal, self._figure, self._dearer = proposal, figure, dearer
        self._values: dict[str, Decimal] = {}
        self._removals = Removals(proposal)
        self._sums: list[Decimal] = []

    def values(self) -> dict[str, Decimal]:
        """With the orders that are still in; in the order of the lots."""
        surcharges = self.proposal.surcharges
        if not self._values:
            self._removals.news()
            lots = self.proposal.lots
            self._values = dict(zip(lots, map(mul, self.proposal.marks, map(self._figure, lots.values())), strict=True))
            for name in surcharges if self._dearer is not None else ():
                self._values[name] = self._value(name, lots[name], surcharges[name])
        elif self._removals:
            lots = self.proposal.lots
            changed = {order.instrument for order in self._removals.news()}
            for name in changed:
                self._values[name] = self._value(name, lots[name], surcharges.get(name, _ZERO))
            if self._sums:
                blocks, block_of = self.proposal.blocks, self.proposal.block_of
                for place in {block_of[name] for name in changed}:
                    self._sums[place] = self._sum(blocks[place])
        return self._values

    def total(self) -> Decimal:
        """Sum of all values. Each block is summed anew and not corrected by what changed: no rounding builds up."""
        self.values()
        if not self._sums:
            self._sums = [self._sum(block) for block in self.proposal.blocks]
        return sum(self._sums, _ZERO)

    def _sum(self, names: Iterable[str]) -> Decimal:
        return sum(map(self._values.__getitem__, names), _ZERO)

    def _value(self, name: str, lot: Lot, surcharge: Decimal) -> Decimal:
        mark = self.proposal.book.marks[name]
        return mark * self._figure(lot) if self._dearer is None or not surcharge else self._dearer(lot, mark, surcharge)

    def opening(self, instrument: str) -> Decimal:
        """Without any order of the batch."""
        return self._value(instrument, self.proposal.book.opening.get(instrument, NO_SHARES), _ZERO)

    def added(self, order: PlannedOrder) -> Decimal:
        """What the order adds, given all the others."""
        name, lot = order.instrument, self.proposal.lots[order.instrument]
        less = lot.plus(order.side, -order.quantity)
        if self._dearer is None or not (surcharge := self.proposal.surcharges.get(name, _ZERO)):
            return self.proposal.book.marks[name] * (self._figure(lot) - self._figure(less))
        others = surcharge - self.proposal.surcharge(order)
        return self._value(name, lot, surcharge) - self._value(name, less, others)

    def added_alone(self, order: PlannedOrder) -> Decimal:
        """What the order adds where no other is in."""
        name = order.instrument
        before = self.proposal.book.opening.get(name, NO_SHARES)
        after = before.plus(order.side, order.quantity)
        return self._value(name, after, self.proposal.surcharge(order)) - self._value(name, before, _ZERO)


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
        self._members = None if instruments is None else frozenset(instruments)
        self._bound_usd = bound * unit_usd
        self._sign = -1 if rule in LOWER_BOUNDS else 1
        self._sum_usd: Decimal | None = None
        self._excess: Decimal | None = None
        self._largest: _Largest | None = None
        self._rising: _Rising | None = None
        self._removals = Removals(parts.proposal)

    @property
    def limit(self) -> float:
        return float(self.bound)

    def excess(self) -> Decimal:
        self._follow()
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
        self._follow()
        if self._rising is None:
            self._rising = _Rising(self._marginals_of(self.instruments), reducing)
        return self._rising.choice(excess, self._marginals_of)

    def alone(self, order: PlannedOrder) -> Decimal:
        if self._members is not None and order.instrument not in self._members:
            return Decimal(0)
        return self._sign * self._parts.added_alone(order)

    def added_value(self, order: PlannedOrder, added: Decimal) -> float:
        return float(self._sign * added / self.unit_usd)

    def contributors(self) -> tuple[Contribution, ...]:
        self._follow()
        parts = self._parts.values()
        if self._largest is None:
            self._largest = _Largest(self._names(), parts)
        return tuple((name, float(parts[name] / self.unit_usd)) for name in self._largest.first(parts))

    def _follow(self) -> None:
        """Forget what orders that were left out have changed."""
        if not (gone := self._removals.news()):
            return
        for order in gone:
            if self._members is not None and order.instrument not in self._members:
                continue
            self._sum_usd = self._excess = None
            if self._largest is not None:
                self._largest.changed.add(order.instrument)
            if self._rising is not None:
                self._rising.left_out(order)

    def _names(self) -> Collection[str]:
        return self._parts.proposal.lots if self.instruments is None else self.instruments

    def _total_usd(self) -> Decimal:
        self._follow()
        if self._sum_usd is None:
            if self.instruments is None:
                self._sum_usd = self.base_usd + self._parts.total()
            else:
                parts = self._parts.values()
                self._sum_usd = sum([parts[name] for name in self.instruments], self.base_usd)
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
        choices: every order. reducing: ids of those that come last.
    """

    def __init__(self, choices: Iterable[Choice], reducing: Collection[str]) -> None:
        self._reducing = reducing
        self._places: dict[str, int] = {}
        self._orders: list[PlannedOrder] = []
        self._amounts: dict[str, Decimal] = {}
        self._eager: list[tuple[Decimal, int]] = []
        self._last: list[tuple[Decimal, int]] = []
        self._changed: set[str] = set()
        for place, (added, order) in enumerate(choices):
            self._places[order.intent_id] = place
            self._orders.append(order)
            if added > 0:
                self._amounts[order.intent_id] = added
                self._of(order).append((added, place))
        self._eager.sort()
        self._last.sort()

    def move(self, choices: Iterable[Choice]) -> None:
        """Rank orders anew; each keeps the place among its equals that it had at first."""
        for added, order in choices:
            self.remove(order)
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
            self.move(marginals_of(self._changed))
            self._changed.clear()
        ranking = self._eager or self._last
        if not ranking:
            return None
        added, place = ranked(ranking, excess)
        return added, self._orders[place]

    def _of(self, order: PlannedOrder) -> list[tuple[Decimal, int]]:
        return self._last if order.intent_id in self._reducing else self._eager


class Positions:
    """A rule with one ceiling, or floor, for each position; of the hundreds, only those that are asked for become
    constraints.

    Args:
        what: a subject without the instrument's name. names: ascending, one at least.
    """

    def __init__(
        self, rule: str, what: str, parts: Parts, bound: Decimal, unit_usd: Decimal, names: Sequence[str]
    ) -> None:
        self.name, self._what, self._parts = rule, what, parts
        self._bound, self._unit_usd, self._names = bound, unit_usd, names
        self._is_beyond, self._worst = (lt, min) if rule in LOWER_BOUNDS else (gt, max)

    def beyond(self) -> Iterator[Constraint]:
        bound_usd, values, is_beyond = self._bound * self._unit_usd, self._parts.values(), self._is_beyond
        for name in self._names:
            if is_beyond(values[name], bound_usd):
                yield self._constraint(name)
                values = self._parts.values()

    def tightest(self) -> Constraint:
        return self._constraint(self._worst(self._names, key=self._parts.values().__getitem__))

    def _constraint(self, name: str) -> Exposure:
        subject = f"{self._what} {name}"
        return Exposure(self.name, subject, self._parts, self._bound, self._unit_usd, instruments=(name,))


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


class Each:
    """What each of some orders adds to the portfolio's returns: a weight times the returns of its instrument.

    It is worked out as it is asked for: memory for all of it at once takes longer to get than to fill.

    Args:
        weights: shape (orders,). rows: of the orders' instruments in ``returns``, shape (instruments, sessions).

    Attributes:
        bounds: nothing that an order adds is below the first or above the second, shape (sessions,), whatever orders
            are `leave_out` since.
    """

    def __init__(self, orders: Orders, weights: FloatArray, rows: Sequence[int], returns: FloatArray) -> None:
        self.orders = orders
        self._weights, self._rows, self._returns = weights, np.array(rows, dtype=np.intp), returns
        self._places = {order.intent_id: place for place, order in enumerate(orders)}
        least = most = np.zeros(returns.shape[1])
        for added in self.blocks():
            least, most = np.minimum(least, added.min(axis=0)), np.maximum(most, added.max(axis=0))
        self.bounds = least, most

    def blocks(self) -> Iterator[FloatArray]:
        """Some orders after the other, shape (some, sessions)."""
        for first in range(0, len(self.orders), _BLOCK):
            block = slice(first, first + _BLOCK)
            yield self._weights[block, None] * self._returns[self._rows[block]]

    def on(self, sessions: IntArray) -> FloatArray:
        """All orders on some sessions, shape (orders, some)."""
        return np.asarray(self._weights[:, None] * self._returns[np.ix_(self._rows, sessions)])

    def leave_out(self, orders: Orders) -> None:
        """They add nothing from here on."""
        self._weights[[self._places[order.intent_id] for order in orders]] = 0.0


class Scenario:
    """The returns that the portfolio would have had, if one part of the orders fills.

    Args:
        figure: the shares held then; linear in the lot, so that what one order adds does not hang on the others.
        returns: the window, shape (instruments, sessions), rows as ``names``.
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
        self._sums: list[FloatArray] = []
        self._removals = Removals(proposal)
        self._each: Each | None = None

    @property
    def weights(self) -> FloatArray:
        """Fractions of equity, shape (instruments,)."""
        self._follow()
        return self._weights

    def portfolio(self) -> FloatArray:
        """Shape (sessions,)."""
        self._follow()
        return self._summed(self._weights, self._sums)

    def opening(self) -> FloatArray:
        """As `portfolio`, without any order of the batch."""
        held = self.proposal.book.opening
        weights = np.array([self._weight(name, self._figure(held.get(name, NO_SHARES))) for name in self.names])
        return self._summed(weights, [])

    def each(self) -> Each:
        """What each order adds, of those that were in when it was first asked; what was left out since adds nothing."""
        self._follow()
        if self._each is None:
            orders = self.proposal.orders
            weights = np.array([self._change(order) for order in orders])
            self._each = Each(orders, weights, [self._rows[order.instrument] for order in orders], self.returns)
        return self._each

    def with_alone(self, order: PlannedOrder) -> FloatArray:
        """As `opening`, with the one order."""
        return np.asarray(self.opening() + self._change(order) * self.returns[self._rows[order.instrument]])

    def _summed(self, weights: FloatArray, sums: list[FloatArray]) -> FloatArray:
        """Returns of all instruments, from ``sums``, those of the first block, the first two and so on, which grow.

        Instrument after instrument and not as a product of matrices: the same weights give the same bits on every
        machine. Block by block, because memory for all products at once takes longer to get than to fill.
        """
        while len(sums) * _BLOCK < len(weights) or not sums:
            block = slice(len(sums) * _BLOCK, (len(sums) + 1) * _BLOCK)
            products = weights[block, None] * self.returns[block]
            if sums:
                products[0] += sums[-1]
            sums.append(products.sum(axis=0))
        return sums[-1]

    def _follow(self) -> None:
        """Take in what was left out."""
        if not self._removals:
            return
        gone = self._removals.news()
        names = list({order.instrument for order in gone})
        rows = [self._rows[name] for name in names]
        lots, figure = self.proposal.lots, self._figure
        self._weights[rows] = [self._weight(name, figure(lots[name])) for name in names]
        del self._sums[min(rows) // _BLOCK :]
        if self._each is not None:
            self._each.leave_out(gone)

    def _change(self, order: PlannedOrder) -> float:
        """What the order adds to the weight of its instrument."""
        return self._weight(order.instrument, self._figure(NO_SHARES.plus(order.side, order.quantity)))


class Statistic(NamedTuple):
    """A figure of many series at once, shape (series, sessions).

    Attributes:
        without_each: the same of one series, shape (sessions,), less what each order adds to it.
        parts: what each instrument makes of it, shape (instruments,), of weights, the instruments' returns, shape
            (sessions, instruments), and the portfolio's, shape (sessions,).
    """

    of: Callable[[FloatArray], FloatArray]
    without_each: Callable[[FloatArray, Each], FloatArray]
    parts: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


class ReturnMeasure:
    """A statistic of the returns that the portfolio would have had."""

    instruments: Collection[str] | None = None

    def __init__(self, rule: str, subject: str, scenario: Scenario, statistic: Statistic, limit: float) -> None:
        self.rule, self.subject, self.limit = rule, subject, limit
        self._scenario, self._statistic = scenario, statistic
        self._sign = -1 if rule in LOWER_BOUNDS else 1
        self._value: float | None = None
        self._removals = Removals(scenario.proposal)

    def excess(self) -> Decimal:
        return self._over(self.value())

    def opening(self) -> Decimal:
        return self._over(self._of(self._scenario.opening()))

    def value(self) -> float:
        if self._value is None or self._removals:
            self._removals.news()
            self._value = self._of(self._scenario.portfolio())
        return self._value

    def choice(self, excess: Decimal, reducing: Collection[str]) -> Choice | None:
        each = self._scenario.each()
        without = self._statistic.without_each(self._scenario.portfolio(), each)
        return chosen(self._sign * (self.value() - without), each.orders, excess, reducing)

    def alone(self, order: PlannedOrder) -> Decimal:
        with_it, without = self._scenario.with_alone(order), self._scenario.opening()
        return self._sign * (Decimal(self._of(with_it)) - Decimal(self._of(without)))

    def added_value(self, order: PlannedOrder, added: Decimal) -> float:
        return float(self._sign * added)

    def contributors(self) -> tuple[Contribution, ...]:
        scenario = self._scenario
        parts = self._statistic.parts(scenario.weights, scenario.returns.T, scenario.portfolio())
        largest = np.argsort(-np.abs(parts), kind="stable")[:_NAMED].tolist()
        return tuple((scenario.names[row], float(parts[row])) for row in largest if parts[row])

    def _over(self, value: float) -> Decimal:
        over = self._sign * (Decimal(value) - Decimal(self.limit))
        return over if abs(over) > _BINARY else _ZERO

    def _of(self, returns: FloatArray) -> float:
        return float(self._statistic.of(returns[None, :])[0])


def exposure_rules(
    proposal: Proposal, limits: RiskLimits, sectors: Mapping[str, str], rules: frozenset[str]
) -> list[Rule]:
    """Those of ``rules`` that limit positions, in the order in which they are judged; then their part-filled forms."""
    book = proposal.book
    turnover_max = limits.turnover_max_initial if book.is_uninvested else limits.turnover_max
    slack = _decimal(limits.partial_fill_allowance)
    gross_max, net_max, net_min, cash_min, leverage_max = (
        _decimal(n)
        for n in (limits.gross_max, limits.net_max, limits.net_min, limits.cash_min_fraction, limits.leverage_max)
    )
    cash, assets = book.cash, "assets over equity"
    size, farthest = (
        Parts(proposal, _size, _worth_of(_size, _after)),
        Parts(proposal, _farthest, _worth_of(_farthest, _highest)),
    )
    after, lowest = Parts(proposal, _after), Parts(proposal, _lowest)

    def exposure(
        rule: str,
        subject: str,
        figure: Figure | Parts,
        bound: Decimal,
        base_usd: Decimal = _ZERO,
        unit_usd: Decimal = book.equity,
        dearer: Dearer | None = None,
    ) -> list[Constraint]:
        if rule not in rules:
            return []
        parts = figure if isinstance(figure, Parts) else Parts(proposal, figure, dearer)
        return [Exposure(rule, subject, parts, bound, unit_usd, base_usd=base_usd)]

    constraints = [
        *_by_sector(size, farthest, limits, sectors, rules),
        *exposure("gross", "gross exposure", size, gross_max),
        *exposure("net_max", "net exposure", _after, net_max, dearer=_worth_of(_after, _after)),
        *exposure("net_min", "net exposure", after, net_min),
        # Assets are what is long and what cash there is: the larger of two sums, the one without cash where it is owed.
        # Of one instrument, long shares and the proceeds of sales are the larger of what was held and what was sold.
        # Where the purchases cost more, the cash is less by as much as the shares are worth more.
        *exposure("leverage", assets, _long, leverage_max, dearer=_worth_of(_long, _after)),
        *exposure("leverage", assets, lambda lot: max(lot.held, lot.sold - lot.bought), leverage_max, cash),
        *exposure("turnover", "turnover", _traded, _decimal(turnover_max), dearer=_worth_of(_traded, _traded)),
        *exposure("cash", "cash", _proceeds, cash_min, cash, dearer=_less(_proceeds)),
        *exposure(
            "capital_threshold_usd", "capital at work", farthest, limits.capital_threshold_usd, unit_usd=_ONE
        ),
        *exposure("gross_part_filled", "gross exposure if only a part fills", farthest, gross_max + slack),
        *exposure(
            "net_max_part_filled", "net exposure if only the buys fill", _highest, net_max + slack,
            dearer=_worth_of(_highest, _highest),
        ),
        *exposure("net_min_part_filled", "net exposure if only the sells fill", lowest, net_min - slack),
        *exposure(
            "leverage_part_filled", f"{assets} if only the buys fill", _highest_long, leverage_max + slack,
            dearer=_worth_of(_highest_long, _highest),
        ),
        *exposure(
            "leverage_part_filled", f"{assets} if only the sells fill", lambda lot: max(lot.held, lot.sold),
            leverage_max + slack, cash,
        ),
        *exposure(
            "cash_part_filled", "cash if only the buys fill", _paid, cash_min - slack, cash, dearer=_less(_paid)
        ),
    ]  # fmt: skip
    return [*_positions(farthest, lowest, limits, rules), *_by_rule(constraints)]


def _by_rule(constraints: Iterable[Constraint]) -> list[Rule]:
    groups: dict[str, list[Constraint]] = {}
    for constraint in constraints:
        groups.setdefault(constraint.rule, []).append(constraint)
    return [FewConstraints(group) for group in groups.values()]


def _positions(farthest: Parts, lowest: Parts, limits: RiskLimits, rules: frozenset[str]) -> list[Rule]:
    """One position: as a fraction, and in money, and the largest short; whatever part fills."""
    equity, names = farthest.proposal.book.equity, sorted(farthest.proposal.lots)
    forms = [
        ("name_weight", "weight of", farthest, _decimal(limits.name_weight_max), equity),
        ("position_notional_usd", "position in", farthest, limits.position_notional_max_usd, _ONE),
    ]
    if limits.long_only:
        forms.append(("long_only", "least weight of", lowest, _ZERO, equity))
    if limits.name_weight_min is not None:
        forms.append(("name_weight_min", "least weight of", lowest, _decimal(limits.name_weight_min), equity))
    return [
        Positions(rule, what, parts, bound, unit_usd, names)
        for rule, what, parts, bound, unit_usd in forms
        if names and rule in rules
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


def return_rules(
    proposal: Proposal, limits: RiskLimits, history: Window, benchmark: FloatArray | None, rules: frozenset[str]
) -> list[Rule]:
    """Those of ``rules`` on volatility, VaR, CVaR, beta and tracking error with every order filled, and with only the
    buys or only the sells.

    Args:
        history: complete for all that is held, working or ordered.
        benchmark: its returns over the window, shape (sessions,), not all the same; None where no rule asks for it.
    """
    names = sorted(proposal.lots)
    # Only what may be held: the hole of another instrument, times a weight of zero, would still be NaN.
    rows = np.ascontiguousarray(history.returns.T[[history.columns[name] for name in names]])
    forms: tuple[tuple[str, str, Figure], ...] = (
        ("", "", _after),
        (PART_FILLED, " if only the buys fill", _highest),
        (PART_FILLED, " if only the sells fill", _lowest),
    )
    weight = _weights(proposal.book)
    whole = Scenario(proposal, _after, names, rows, weight)
    lots = proposal.lots.values()
    # Where nothing is sold, only the buys filled is everything filled, and the other way round.
    nothing_else = (True, not any(lot.sold for lot in lots), not any(lot.bought for lot in lots))
    scenarios = [
        whole if same else Scenario(proposal, figure, names, rows, weight)
        for (_, _, figure), same in zip(forms, nothing_else, strict=True)
    ]
    measures = _losses(limits, history.sessions_per_year)
    if benchmark is not None:
        measures += _against(benchmark, limits, history.sessions_per_year)
    return _by_rule(
        ReturnMeasure(rule + suffix, subject + when, scenario, statistic, part_filled if suffix else limit)
        for rule, subject, limit, part_filled, statistic in measures
        for (suffix, when, _), scenario in zip(forms, scenarios, strict=True)
        if rule + suffix in rules
    )


_Limited = tuple[str, str, float, float, Statistic]
"""A rule, its subject, its limit, the same while only a part has filled, and what is limited."""


def _losses(limits: RiskLimits, sessions_per_year: float) -> list[_Limited]:
    more = 1 + limits.partial_fill_allowance
    volatility = partial(volatility_annual_each, sessions_per_year=sessions_per_year)
    statistics = (
        (
            "volatility", "annual volatility", limits.volatility_max_annual,
            _plainly(volatility, partial(volatility_components, sessions_per_year=sessions_per_year)),
        ),
        (
            "var_95", "one-day VaR 95 %", limits.var_95_max,
            Statistic(historical_var_each, _var_without_each, _components(var_components)),
        ),
        ("cvar_95", "one-day CVaR 95 %", limits.cvar_95_max, _plainly(historical_cvar_each, cvar_components)),
    )  # fmt: skip
    return [(rule, subject, limit, limit * more, statistic) for rule, subject, limit, statistic in statistics]


def _against(benchmark: FloatArray, limits: RiskLimits, sessions_per_year: float) -> list[_Limited]:
    """Limits against the benchmark that there are; beta by least squares with a constant, as `exposures.betas`."""
    centred = benchmark - benchmark.mean()
    sensitivity = centred / (centred * centred).sum()

    def beta(series: FloatArray) -> FloatArray:
        return np.asarray((series * sensitivity).sum(axis=1))

    def beta_parts(weights: FloatArray, returns: FloatArray, _portfolio: FloatArray) -> FloatArray:
        return np.asarray(weights * beta(returns.T))

    def error(series: FloatArray) -> FloatArray:
        return volatility_annual_each(series - benchmark, sessions_per_year)

    def error_parts(weights: FloatArray, returns: FloatArray, portfolio: FloatArray) -> FloatArray:
        # What the instruments make of it; the rest is the benchmark's own.
        return volatility_components(weights, returns, sessions_per_year, portfolio=portfolio - benchmark).component

    sensitive, tracking = Statistic(beta, _without(beta), beta_parts), Statistic(error, _without(error), error_parts)
    slack, found = limits.partial_fill_allowance, list[_Limited]()
    if (most := limits.beta_max) is not None:
        found.append(("beta_max", "beta", most, most + slack, sensitive))
    if (least := limits.beta_min) is not None:
        found.append(("beta_min", "beta", least, least - slack, sensitive))
    if (most := limits.tracking_error_max_annual) is not None:
        found.append(("tracking_error", "annual tracking error", most, most * (1 + slack), tracking))
    return found


def _plainly(statistic: Callable[[FloatArray], FloatArray], decompose: Callable[..., Decomposition]) -> Statistic:
    return Statistic(statistic, _without(statistic), _components(decompose))


def _without(statistic: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray, Each], FloatArray]:
    return lambda portfolio, each: np.concatenate([statistic(portfolio - added) for added in each.blocks()])


def _var_without_each(portfolio: FloatArray, each: Each) -> FloatArray:
    return historical_var_without_each(portfolio, each.on, each.bounds)


def _components(decompose: Callable[..., Decomposition]) -> Callable[[FloatArray, FloatArray, FloatArray], FloatArray]:
    return lambda weights, returns, portfolio: decompose(weights, returns, portfolio=portfolio).component


def _weights(book: Book) -> Callable[[str, Decimal], float]:
    """What shares of an instrument are as a fraction of equity; scenarios ask for the same ones again and again."""

    @cache
    def weight(instrument: str, shares: Decimal) -> float:
        return float(shares * book.marks[instrument] / book.equity) if shares else 0.0

    return weight


_ZERO, _ONE = Decimal(0), Decimal(1)


# Each is asked of every lot: without a property's call in between it takes half of the time.


def _after(lot: Lot) -> Decimal:
    """Position when everything has filled."""
    held, bought, sold = lot
    return held + bought - sold


def _size(lot: Lot) -> Decimal:
    held, bought, sold = lot
    return abs(held + bought - sold)


def _farthest(lot: Lot) -> Decimal:
    held, bought, sold = lot
    return max(abs(held + bought), abs(held - sold))


def _long(lot: Lot) -> Decimal:
    held, bought, sold = lot
    return max(held + bought - sold, _ZERO)


def _highest(lot: Lot) -> Decimal:
    """Position when only the buys have filled."""
    held, bought, _ = lot
    return held + bought


def _lowest(lot: Lot) -> Decimal:
    """Position when only the sells have filled."""
    held, _, sold = lot
    return held - sold


def _highest_long(lot: Lot) -> Decimal:
    return max(_highest(lot), _ZERO)


def _traded(lot: Lot) -> Decimal:
    return lot.bought + lot.sold


def _proceeds(lot: Lot) -> Decimal:
    """Shares sold beyond those bought."""
    return lot.sold - lot.bought


def _paid(lot: Lot) -> Decimal:
    return -lot.bought


def _worth_of(figure: Figure, with_all_bought: Figure) -> Dearer:
    """A ceiling's worth with dear purchases: ``with_all_bought`` are the shares among which all of them are.

    Never less than at the last price: what a dear purchase leaves of a short is no smaller for its price.
    """

    def worth(lot: Lot, mark: Decimal, surcharge: Decimal) -> Decimal:
        return max(mark * figure(lot), mark * with_all_bought(lot) + surcharge)

    return worth


def _less(figure: Figure) -> Dearer:
    """Of cash, which dear purchases take more of."""
    return lambda lot, mark, surcharge: mark * figure(lot) - surcharge


@lru_cache(maxsize=64)
def _decimal(number: float) -> Decimal:
    """The decimal that a person wrote in the configuration, not its binary neighbour."""
    return Decimal(str(number))
