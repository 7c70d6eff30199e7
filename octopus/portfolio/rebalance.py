"""From target weights to orders: sizes, what is too small to trade, and what cash can pay.

Belongs here: sizing, in Decimal, for the daily run, and what it gives up of the optimum; octopus/backtest repeats its
rules in floats for speed, and a test holds the two together. Does not: choosing weights (optimiser.py) and judging
orders (octopus/risk, octopus/compliance).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from functools import lru_cache

from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.ids import intent_id
from octopus.core.orders import AccountSnapshot, OrderType, PlannedOrder, Side
from octopus.portfolio.config import PortfolioConfig
from octopus.portfolio.units import NO_UNITS, TradingUnits, floor_to_lot


@dataclass(frozen=True)
class Rounding:
    """How far whole lots, the no-trade band and cash keep a plan from the chosen weights.

    Attributes:
        distance: sum of the absolute differences of weights. largest: the largest of them, of ``instrument``.
        cash: left when every order has filled at its reference price, costs included, fraction of equity.
        objective_gap: by how much the method's value (`octopus.portfolio.optimiser.value`) of the planned weights is
            below that of the chosen ones; negative where the plan is beyond a limit that the chosen weights keep. None
            where no optimum was chosen.
    """

    distance: float
    largest: float
    instrument: str | None
    cash: float
    objective_gap: float | None


def rounding(
    targets: Mapping[str, float],
    orders: Sequence[PlannedOrder],
    snapshot: AccountSnapshot,
    costs: CostModel,
    objective: Callable[[Mapping[str, float]], float] | None = None,
    foreign: Collection[str] = (),
) -> Rounding:
    """What the orders leave undone of the targets.

    Args:
        foreign: as `plan_orders` takes it.
        objective: the method's value of weights by instrument; None where no optimum was chosen.
    """
    planned = planned_weights(orders, snapshot)
    gaps = {name: abs(planned.get(name, 0.0) - targets.get(name, 0.0)) for name in {*targets, *planned}}
    worst = max(sorted(gaps), key=lambda name: gaps[name], default=None)
    cash = snapshot.cash - _open_purchases(snapshot, costs, foreign)
    reference = {order.instrument: order.reference_price for order in orders}
    prices = _converted({order.instrument: order.signed_quantity for order in orders}, reference, costs, foreign)
    for order in orders:
        paid = outlay if order.side is Side.BUY else proceeds
        cash -= order.side.sign * paid(order.quantity, prices[order.instrument], costs)
    return Rounding(
        distance=sum(gaps.values()),
        largest=gaps[worst] if worst is not None else 0.0,
        instrument=worst,
        cash=float(cash / snapshot.equity),
        objective_gap=None if objective is None else objective(targets) - objective(planned),
    )


def planned_weights(orders: Sequence[PlannedOrder], snapshot: AccountSnapshot) -> dict[str, float]:
    """Weights of equity once ``orders`` and those still open have filled at the snapshot's prices."""
    held: dict[str, Decimal] = defaultdict(Decimal, _with_open_orders(snapshot))
    for order in orders:
        held[order.instrument] += order.side.sign * order.quantity
    prices, equity = snapshot.prices, snapshot.equity
    return {name: float(shares * prices[name] / equity) for name, shares in sorted(held.items()) if shares}


def plan_orders(
    batch_id: str,
    targets: Mapping[str, float],
    snapshot: AccountSnapshot,
    config: PortfolioConfig,
    costs: CostModel,
    *,
    order_type: OrderType = OrderType.MARKET_ON_CLOSE,
    foreign: Collection[str] = (),
) -> tuple[PlannedOrder, ...]:
    """The orders that take the account from what it holds to ``targets``: sells first, then buys, each by name.

    Orders still open at the broker count as filled, except that an open sell brings no cash and an open buy no shares
    to sell until it fills. Purchases leave ``config.cash_buffer`` of equity in cash. An instrument that is held and
    has no target is sold.

    Args:
        targets: weight of equity by instrument.
        snapshot: positions, cash and the price of each instrument.
        foreign: instruments whose money is converted, at the costs of that.

    Raises:
        MissingDataError: an instrument without a price.
    """
    held = _with_open_orders(snapshot)
    names = sorted(set(targets) | set(held))
    missing = [n for n in names if snapshot.prices.get(n, Decimal(0)) <= 0 and (targets.get(n) or held.get(n))]
    if missing:
        raise MissingDataError(f"no price of {', '.join(missing)} to size an order with; ingest their bars first")
    prices = {name: snapshot.prices[name] for name in names if snapshot.prices.get(name, Decimal(0)) > 0}
    changes = share_changes({n: targets.get(n, 0.0) for n in prices}, held, prices, snapshot.equity, config)
    if config.constraints.long_only:
        changes = _deliverable(changes, snapshot, config.units)
    spendable = (
        snapshot.cash - _open_purchases(snapshot, costs, foreign) - _decimal(config.cash_buffer) * snapshot.equity
    )
    changes = affordable(
        changes, _converted(changes, prices, costs, foreign), spendable, costs, config.lot, config.units
    )
    orders = [
        PlannedOrder(
            intent_id(batch_id, name),
            name,
            Side.BUY if change > 0 else Side.SELL,
            abs(change),
            prices[name],
            order_type,
        )
        for name, change in changes.items()
    ]
    return tuple(sorted(orders, key=lambda order: (order.side is Side.BUY, order.instrument)))


def _converted(
    changes: Mapping[str, Decimal], prices: Mapping[str, Decimal], costs: CostModel, foreign: Collection[str]
) -> Mapping[str, Decimal]:
    """What a share costs or brings before the other costs: of those that are ``foreign``, the conversion's included."""
    worse = _cost(costs.conversion_move)
    dear = {name: 1 + worse if change > 0 else 1 - worse for name, change in changes.items() if name in foreign}
    return {**prices, **{name: prices[name] * move for name, move in dear.items()}} if dear else prices


def share_changes(
    targets: Mapping[str, float],
    held: Mapping[str, Decimal],
    prices: Mapping[str, Decimal],
    equity: Decimal,
    config: PortfolioConfig,
) -> dict[str, Decimal]:
    """Shares to buy (positive) or sell, by instrument; changes too small to trade are absent.

    A position whose target is zero is closed whatever its size, but for less than a lot of the instrument's own.
    Otherwise a change is cut to whole lots towards the target, never beyond it, and dropped within the no-trade band.
    """
    least = max(_decimal(config.trade_min_fraction) * equity, config.trade_min_notional)
    changes: dict[str, Decimal] = {}
    for name, weight in targets.items():
        now = held.get(name, Decimal(0))
        if weight == 0:
            change = config.units.whole_lots(name, -now if config.fractional else floor_to_lot(-now, config.lot))
        else:
            wanted = floor_to_lot(_decimal(weight) * equity / prices[name] - now, config.lot)
            change = config.units.whole_lots(name, wanted)
            if abs(change) * prices[name] < least:
                continue
        if change:
            changes[name] = change
    return changes


def affordable(
    changes: Mapping[str, Decimal],
    prices: Mapping[str, Decimal],
    cash: Decimal,
    costs: CostModel,
    lot: Decimal,
    units: TradingUnits = NO_UNITS,
) -> dict[str, Decimal]:
    """``changes`` with all purchases scaled down by one factor to what cash and the sales' proceeds can pay.

    The same rule at planning and, with that day's prices, at execution: an overnight gap may leave less than was
    planned. Costs are included: the fill price is moved against the trader and the commission comes on top.

    Args:
        prices: reference prices, before costs. cash: what may be spent besides the proceeds. units: lots of the
            instruments' own, beside ``lot``.

    Returns:
        The changes whose purchases cost at most ``cash`` plus the proceeds; those cut to nothing are absent.
    """
    power = cash + sum((proceeds(-c, prices[n], costs) for n, c in changes.items() if c < 0), Decimal(0))
    buys = {n: c for n, c in changes.items() if c > 0}
    if not buys or sum((outlay(c, prices[n], costs) for n, c in buys.items()), Decimal(0)) <= power:
        return dict(changes)
    # The least commissions do not shrink with the orders: they are set aside first.
    power -= _decimal(costs.commission_min) * len(buys)
    full = (1 + _decimal(costs.price_move)) * (1 + _decimal(costs.commission_rate))
    part = max(power, Decimal(0)) / sum((c * prices[n] * full for n, c in buys.items()), Decimal(0))
    scaled = {n: c if c < 0 else (c * part / lot).to_integral_value(ROUND_DOWN) * lot for n, c in changes.items()}
    scaled = {name: units.whole_lots(name, change) if change > 0 else change for name, change in scaled.items()}
    return {name: change for name, change in scaled.items() if change}


def outlay(shares: Decimal, price: Decimal, costs: CostModel) -> Decimal:
    """Cash that buying ``shares`` at the reference ``price`` takes, costs included."""
    value = shares * price * (1 + _cost(costs.price_move))
    return value + _commission(value, costs)


def proceeds(shares: Decimal, price: Decimal, costs: CostModel) -> Decimal:
    """Cash that selling ``shares`` at the reference ``price`` brings, costs deducted."""
    value = shares * price * (1 - _cost(costs.price_move))
    return value - _commission(value, costs)


def _commission(value: Decimal, costs: CostModel) -> Decimal:
    return max(value * _cost(costs.commission_rate), _cost(costs.commission_min))


@lru_cache(maxsize=64)
def _cost(rate: float) -> Decimal:
    """`_decimal` of a cost, of which there are few and which every order asks for."""
    return _decimal(rate)


def _decimal(number: float) -> Decimal:
    """The decimal that a person wrote, not its binary neighbour."""
    return Decimal(repr(number))


def _with_open_orders(snapshot: AccountSnapshot) -> dict[str, Decimal]:
    held: dict[str, Decimal] = defaultdict(Decimal, snapshot.positions)
    for order in snapshot.open_orders:
        held[order.instrument] += order.side.sign * order.remaining
    return dict(held)


def _deliverable(changes: Mapping[str, Decimal], snapshot: AccountSnapshot, units: TradingUnits) -> dict[str, Decimal]:
    """Sales cut to the shares that are held now and that no open order sells already."""
    result = {}
    for name, change in changes.items():
        free = snapshot.positions.get(name, Decimal(0)) - snapshot.working(name, Side.SELL)
        result[name] = units.whole_lots(name, max(change, -max(free, Decimal(0))))
    return {name: change for name, change in result.items() if change}


def _open_purchases(snapshot: AccountSnapshot, costs: CostModel, foreign: Collection[str]) -> Decimal:
    """Cash that open purchases will take, what is converted for them at the costs of that."""
    buys = [order for order in snapshot.open_orders if order.side is Side.BUY]
    prices = _converted({order.instrument: order.remaining for order in buys}, snapshot.prices, costs, foreign)
    return sum((outlay(o.remaining, prices.get(o.instrument, Decimal(0)), costs) for o in buys), Decimal(0))
