"""Limits on a batch as a whole: the constraints, and what each order adds to them.

Belongs here: the constraints and their arithmetic. Does not: rules on a single order (order_rules.py), choosing what to
leave out (cut.py), verdicts (gate.py).

Each exposure is judged twice: with every order filled, against the limit; and over every part of the open and approved
orders that may fill before the rest (only the buys, only the sells, any other part), against the limit and
`RiskLimits.partial_fill_allowance`. The second needs no enumeration: exposures are convex in what has filled and add
up over instruments, so the worst part is found for each instrument alone.

A constraint holds what it has worked out and, when an order is left out, works out anew what that changed: a batch of
hundreds of orders is judged in milliseconds.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from heapq import nlargest
from typing import Protocol

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
    volatility_annual_each,
)

Orders = Sequence[PlannedOrder]
Figure = Callable[[Lot], Decimal]
"""Shares of an instrument that count for a constraint."""
Contribution = tuple[str, float]
"""An instrument, and its part of a constraint's value."""
Choice = tuple[Decimal, PlannedOrder]
"""An order, and what it adds to a constraint's excess."""

_NAMED = 3
"""So many contributing instruments are named in a denial."""


class Proposal:
    """The orders that are still in, and the lots that they make."""

    def __init__(self, book: Book, orders: Orders) -> None:
        self.book = book
        self.lots = book.lots(orders)
        self._orders: dict[str, PlannedOrder] = {order.intent_id: order for order in orders}
        self._of: dict[str, list[PlannedOrder]] = {}
        for order in orders:
            self._of.setdefault(order.instrument, []).append(order)

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


def chosen(added: FloatArray, orders: Orders, excess: Decimal, reducing: Collection[str]) -> Choice | None:
    """`Constraint.choice` among ``orders``, of which each adds ``added``, shape (orders,)."""
    rising = np.flatnonzero(added > 0)
    eager = [place for place in rising.tolist() if orders[place].intent_id not in reducing]
    ranking = sorted((Decimal(amount), place) for place, amount in _paired(added, eager or rising.tolist()))
    if not ranking:
        return None
    amount, place = ranked(ranking, excess)
    return amount, orders[place]


def _paired(added: FloatArray, places: Sequence[int]) -> Iterable[tuple[int, float]]:
    return zip(places, added[places].tolist(), strict=True)


def ranked(ranking: Sequence[tuple[Decimal, int]], excess: Decimal) -> tuple[Decimal, int]:
    """Of pairs in ascending order, at least one, the first as large as ``excess``, else the first of the largest."""
    place = bisect_left(ranking, (excess, -1))
    return ranking[place if place < len(ranking) else bisect_left(ranking, (ranking[-1][0], -1))]


class Constraint(Protocol):
    """One limit on a set of orders. ``excess`` is positive where the limit is breached, zero exactly at it."""

    rule: str
    subject: str
    limit: float
    instruments: Collection[str] | None
    """The only ones that count; None: all do."""

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

    def left_out(self, order: PlannedOrder) -> None:
        """``order``, of an instrument that counts, has just been left out of the proposal."""
        ...


class Exposure:
    """A sum over instruments of price × figure, as a fraction of equity or in the account's currency.

    Attributes:
        base_usd: what the sum starts from (cash); otherwise 0.
        instruments: only these; all where None.
        unit_usd: what one unit of the limit is worth: the equity, or one.
    """

    def __init__(
        self,
        rule: str,
        subject: str,
        proposal: Proposal,
        figure: Figure,
        bound: Decimal,
        *,
        base_usd: Decimal = Decimal(0),
        instruments: Collection[str] | None = None,
        in_usd: bool = False,
    ) -> None:
        self.rule, self.subject, self.limit = rule, subject, float(bound)
        self.unit_usd = Decimal(1) if in_usd else proposal.book.equity
        self._proposal, self._figure, self._base_usd, self.instruments = proposal, figure, base_usd, instruments
        self._bound_usd = bound * self.unit_usd
        self._sign = -1 if rule in LOWER_BOUNDS else 1
        marks = proposal.book.marks
        names = proposal.lots if instruments is None else [name for name in instruments if name in proposal.lots]
        self._parts = {name: marks[name] * figure(proposal.lots[name]) for name in names}
        self._sum_usd: Decimal | None = None
        self._ranked: list[tuple[Decimal, str]] | None = None
        self._rising: _Rising | None = None

    def excess(self) -> Decimal:
        return self._sign * (self._total_usd() - self._bound_usd)

    def opening(self) -> Decimal:
        book = self._proposal.book
        parts = (book.marks[n] * self._figure(book.opening[n]) for n in self._parts if n in book.opening)
        return self._sign * (self._base_usd + sum(parts, Decimal(0)) - self._bound_usd)

    def value(self) -> float:
        return float(self._total_usd() / self.unit_usd)

    def choice(self, excess: Decimal, reducing: Collection[str]) -> Choice | None:
        if self._rising is None:
            self._rising = _Rising(reducing)
            self._rising.add(self._marginals_of(self.instruments))
        return self._rising.choice(excess)

    def alone(self, order: PlannedOrder) -> Decimal:
        if order.instrument not in self._parts:
            return Decimal(0)
        before = self._proposal.book.opening.get(order.instrument, Lot())
        figures = self._figure(before.plus(order.side, order.quantity)) - self._figure(before)
        return self._sign * self._proposal.book.marks[order.instrument] * figures

    def added_value(self, order: PlannedOrder, added: Decimal) -> float:
        return float(self._sign * added / self.unit_usd)

    def contributors(self) -> tuple[Contribution, ...]:
        parts = self._parts
        if self._ranked is None:
            self._ranked = sorted((-abs(part), name) for name, part in parts.items())
        return tuple((name, float(parts[name] / self.unit_usd)) for size, name in self._ranked[:_NAMED] if size)

    def left_out(self, order: PlannedOrder) -> None:
        name = order.instrument
        self._sum_usd = None
        before = self._parts[name]
        self._parts[name] = after = self._proposal.book.marks[name] * self._figure(self._proposal.lots[name])
        if self._ranked is not None:
            del self._ranked[bisect_left(self._ranked, (-abs(before), name))]
            insort(self._ranked, (-abs(after), name))
        if self._rising is not None:
            self._rising.remove(order)
            self._rising.add(self._marginals_of((name,)))

    def _total_usd(self) -> Decimal:
        if self._sum_usd is None:
            # Summed anew and not corrected by what changed, so that no rounding builds up.
            self._sum_usd = sum(self._parts.values(), self._base_usd)
        return self._sum_usd

    def _marginals_of(self, instruments: Collection[str] | None) -> Iterator[Choice]:
        """What each order adds to the excess, given all the others."""
        marks, lots, figure = self._proposal.book.marks, self._proposal.lots, self._figure
        for order in self._proposal.of(instruments):
            name = order.instrument
            yield self._sign * marks[name] * (figure(lots[name]) - figure(self._proposal.without(order))), order


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

    def remove(self, order: PlannedOrder) -> None:
        added = self._amounts.pop(order.intent_id, None)
        if added is not None:
            ranking = self._of(order)
            del ranking[bisect_left(ranking, (added, self._places[order.intent_id]))]

    def choice(self, excess: Decimal) -> Choice | None:
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

    def left_out(self, order: PlannedOrder) -> None:
        """Nothing is held."""


class Scenario:
    """The returns that the portfolio would have had, if one part of the orders fills.

    Args:
        figure: the shares held then. returns: the window, shape (instruments, sessions), rows as ``names``.
    """

    def __init__(self, proposal: Proposal, figure: Figure, names: Sequence[str], returns: FloatArray) -> None:
        self.proposal, self.names, self.returns = proposal, names, returns
        self._figure = figure
        self._rows = {name: row for row, name in enumerate(names)}
        lots = proposal.lots
        self.weights = np.array([self._weight(name, figure(lots[name])) if name in lots else 0.0 for name in names])
        self._portfolio: FloatArray | None = None
        self._changes: dict[str, FloatArray] = {}

    def portfolio(self) -> FloatArray:
        """Shape (sessions,)."""
        if self._portfolio is None:
            self._portfolio = self._of(self.weights)
        return self._portfolio

    def opening(self) -> FloatArray:
        """As `portfolio`, without any order of the batch."""
        book = self.proposal.book
        return self._of(np.array([self._weight(n, self._figure(book.opening.get(n, Lot()))) for n in self.names]))

    def without_each(self) -> tuple[list[PlannedOrder], FloatArray]:
        """Each order, and the portfolio's returns if it alone were left out: shape (orders, sessions), orders > 0."""
        orders = self.proposal.orders
        for order in orders:
            if order.intent_id not in self._changes:
                self._changes[order.intent_id] = self._change(order)
        return orders, self.portfolio() - np.array([self._changes[order.intent_id] for order in orders])

    def with_alone(self, order: PlannedOrder) -> FloatArray:
        """As `opening`, with the one order."""
        before = self.proposal.book.opening.get(order.instrument, Lot())
        shares = self._figure(before.plus(order.side, order.quantity)) - self._figure(before)
        change = self._weight(order.instrument, shares)
        return np.asarray(self.opening() + change * self.returns[self._rows[order.instrument]])

    def left_out(self, order: PlannedOrder) -> None:
        lot = self.proposal.lots[order.instrument]
        self.weights[self._rows[order.instrument]] = self._weight(order.instrument, self._figure(lot))
        self._portfolio = None
        for sibling in (order, *self.proposal.of((order.instrument,))):
            self._changes.pop(sibling.intent_id, None)

    def _of(self, weights: FloatArray) -> FloatArray:
        # Not a product of matrices: the same weights give the same bits on every machine.
        return np.asarray((weights[:, None] * self.returns).sum(axis=0))

    def _change(self, order: PlannedOrder) -> FloatArray:
        """What the order adds to the portfolio's returns, given all the others."""
        lots = self.proposal.lots
        shares = self._figure(lots[order.instrument]) - self._figure(self.proposal.without(order))
        return np.asarray(self._weight(order.instrument, shares) * self.returns[self._rows[order.instrument]])

    def _weight(self, instrument: str, shares: Decimal) -> float:
        book = self.proposal.book
        return float(shares * book.marks[instrument] / book.equity) if shares else 0.0


class LossMeasure:
    """A statistic of the returns that the portfolio would have had.

    Attributes:
        statistic: of many series at once, shape (series, days).
    """

    instruments: Collection[str] | None = None

    def __init__(
        self,
        rule: str,
        subject: str,
        scenario: Scenario,
        statistic: Callable[[FloatArray], FloatArray],
        limit: float,
        sessions_per_year: float,
    ) -> None:
        self.rule, self.subject, self.limit = rule, subject, limit
        self._scenario, self._statistic = scenario, statistic
        self._decompositions = _decompositions(sessions_per_year)
        self._value: float | None = None

    def excess(self) -> Decimal:
        return Decimal(self.value()) - Decimal(self.limit)

    def opening(self) -> Decimal:
        return Decimal(self._of(self._scenario.opening())) - Decimal(self.limit)

    def value(self) -> float:
        if self._value is None:
            self._value = self._of(self._scenario.portfolio())
        return self._value

    def choice(self, excess: Decimal, reducing: Collection[str]) -> Choice | None:
        orders, returns = self._scenario.without_each()
        return chosen(self.value() - self._statistic(returns), orders, excess, reducing)

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

    def left_out(self, order: PlannedOrder) -> None:
        self._value = None

    def _of(self, returns: FloatArray) -> float:
        return float(self._statistic(returns[None, :])[0])


PART_FILLED = "_part_filled"


def _decompositions(sessions_per_year: float) -> dict[str, Callable[..., Decomposition]]:
    volatility = partial(volatility_components, sessions_per_year=sessions_per_year)
    return {"volatility": volatility, "var_95": var_components, "cvar_95": cvar_components}


def exposure_constraints(proposal: Proposal, limits: RiskLimits, sectors: Mapping[str, str]) -> list[Constraint]:
    """Limits on positions, in the order in which they are judged; then their part-filled forms."""
    book = proposal.book
    turnover_max = limits.turnover_max_initial if book.is_uninvested else limits.turnover_max
    slack = _decimal(limits.partial_fill_allowance)
    gross_max, net_max, net_min, cash_min, leverage_max = (
        _decimal(n)
        for n in (limits.gross_max, limits.net_max, limits.net_min, limits.cash_min_fraction, limits.leverage_max)
    )
    cash, assets = book.cash, "assets over equity"

    def exposure(rule: str, subject: str, figure: Figure, bound: Decimal, base_usd: Decimal = _ZERO) -> Constraint:
        return Exposure(rule, subject, proposal, figure, bound, base_usd=base_usd)

    return [
        *_positions(proposal, limits),
        *_by_sector(proposal, limits, sectors),
        exposure("gross", "gross exposure", _size, gross_max),
        exposure("net_max", "net exposure", _after, net_max),
        exposure("net_min", "net exposure", _after, net_min),
        # Assets are what is long and what cash there is: the larger of two sums, the one without cash where it is owed.
        # Of one instrument, long shares and the proceeds of sales are the larger of what was held and what was sold.
        exposure("leverage", assets, _long, leverage_max),
        exposure("leverage", assets, lambda lot: max(lot.held, lot.sold - lot.bought), leverage_max, cash),
        exposure("turnover", "turnover", lambda lot: lot.bought + lot.sold, _decimal(turnover_max)),
        exposure("cash", "cash", lambda lot: lot.sold - lot.bought, cash_min, cash),
        Exposure(
            "capital_threshold_usd", "capital at work", proposal, _farthest, limits.capital_threshold_usd, in_usd=True
        ),
        exposure("gross_part_filled", "gross exposure if only a part fills", _farthest, gross_max + slack),
        exposure("net_max_part_filled", "net exposure if only the buys fill", lambda lot: lot.highest, net_max + slack),
        exposure("net_min_part_filled", "net exposure if only the sells fill", lambda lot: lot.lowest, net_min - slack),
        exposure("leverage_part_filled", f"{assets} if only the buys fill", _highest_long, leverage_max + slack),
        exposure(
            "leverage_part_filled", f"{assets} if only the sells fill", lambda lot: max(lot.held, lot.sold),
            leverage_max + slack, cash,
        ),
        exposure("cash_part_filled", "cash if only the buys fill", lambda lot: -lot.bought, cash_min - slack, cash),
    ]  # fmt: skip


def _positions(proposal: Proposal, limits: RiskLimits) -> list[Constraint]:
    """One position: as a fraction, and in money; whatever part fills."""
    weight, notional = _decimal(limits.name_weight_max), limits.position_notional_max_usd
    names = sorted(proposal.lots)
    return [
        *(
            Exposure("name_weight", f"weight of {name}", proposal, _farthest, weight, instruments=(name,))
            for name in names
        ),
        *(
            Exposure(
                "position_notional_usd", f"position in {name}", proposal, _farthest, notional, instruments=(name,),
                in_usd=True,
            )
            for name in names
        ),
    ]  # fmt: skip


def _by_sector(proposal: Proposal, limits: RiskLimits, sectors: Mapping[str, str]) -> list[Constraint]:
    """Gross by sector. A name without a sector counts in every one of them: it may belong there."""
    if limits.sector_weight_max is None:
        return []
    bound = _decimal(limits.sector_weight_max)
    slack = _decimal(limits.partial_fill_allowance)
    unknown = [name for name in proposal.lots if name not in sectors]
    members: dict[str, list[str]] = {}
    for name in sorted(proposal.lots):
        if name in sectors:
            members.setdefault(sectors[name], []).append(name)
    if unknown and not members:
        members["unknown"] = []
    forms: tuple[tuple[str, str, Figure, Decimal], ...] = (
        ("sector", "", _size, bound),
        ("sector_part_filled", " if only a part fills", _farthest, bound + slack),
    )
    return [
        Exposure(rule, f"sector {sector}{when}", proposal, figure, limit, instruments=(*names, *unknown))
        for rule, when, figure, limit in forms
        for sector, names in sorted(members.items())
    ]


def loss_constraints(
    proposal: Proposal, limits: RiskLimits, history: Window
) -> tuple[list[Constraint], list[Scenario]]:
    """Volatility, VaR and CVaR with every order filled, and with only the buys or only the sells; and the scenarios
    that they share.

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
        (PART_FILLED, " if only the buys fill", lambda lot: lot.highest, more),
        (PART_FILLED, " if only the sells fill", lambda lot: lot.lowest, more),
    )
    scenarios = [Scenario(proposal, figure, names, rows) for _, _, figure, _ in forms]
    statistics: tuple[tuple[str, str, float, Callable[[FloatArray], FloatArray]], ...] = (
        (
            "volatility",
            "annual volatility",
            limits.volatility_max_annual,
            lambda rows: volatility_annual_each(rows, year),
        ),
        ("var_95", "one-day VaR 95 %", limits.var_95_max, historical_var_each),
        ("cvar_95", "one-day CVaR 95 %", limits.cvar_95_max, historical_cvar_each),
    )
    measures: list[Constraint] = [
        LossMeasure(rule + suffix, subject + when, scenario, statistic, limit * factor, year)
        for rule, subject, limit, statistic in statistics
        for (suffix, when, _, factor), scenario in zip(forms, scenarios, strict=True)
    ]
    return measures, scenarios


_ZERO = Decimal(0)


def _after(lot: Lot) -> Decimal:
    return lot.after


def _size(lot: Lot) -> Decimal:
    return abs(lot.after)


def _farthest(lot: Lot) -> Decimal:
    return max(abs(lot.highest), abs(lot.lowest))


def _long(lot: Lot) -> Decimal:
    return max(lot.after, _ZERO)


def _highest_long(lot: Lot) -> Decimal:
    return max(lot.highest, _ZERO)


def _decimal(number: float) -> Decimal:
    """The decimal that a person wrote in the configuration, not its binary neighbour."""
    return Decimal(str(number))
