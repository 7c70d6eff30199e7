"""Brackets: at which prices an entry's exits stand, and which of them a session's bar hits.

Belongs here: those rules, as the paper broker and the simulator share them. Does not: sending brackets
(resources/brokers), their orders' states (octopus/execution), costs (core/costs.py).

A daily bar tells how high and how low a session went, not in what order. So the rule is the worse one: where both exits
lie within the session's range, the stop counts. A stop executes at its price, or at the open where that is beyond it
already; a target at its own price, though the open may have been better. What the market takes (spread, slippage) comes
off a stop, which is a market order by then, and not off a target, which is a limit order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from types import MappingProxyType

from octopus.core.amounts import plain
from octopus.core.errors import ConfigError
from octopus.core.orders import Bracket, Exit, PlannedOrder, Side

NO_EXIT, STOP, TARGET = 0.0, 1.0, 2.0
"""Codes of `exit_at`."""


@dataclass(frozen=True)
class ExitHit:
    """The exit that a session's bar hits, and at which price before costs, in the instrument's own currency."""

    exit: Exit
    price: Decimal


def tick_size(price: Decimal) -> Decimal:
    """The smallest step of a quoted price: a cent from 1 on, a hundredth of one below (17 CFR 242.612, Reg NMS)."""
    return Decimal("0.01") if price >= 1 else Decimal("0.0001")


def bracket_at(
    side: Side,
    reference: Decimal,
    stop_loss: Decimal | None,
    take_profit: Decimal | None,
    tick: Decimal | None = None,
) -> Bracket:
    """The exits of an entry, as fractions of ``reference`` away from it, rounded to the tick towards it.

    Args:
        side: the entry's.
        reference: price of one share, in the instrument's own currency.
        tick: the instrument's own, to which prices are rounded after the market's, likewise; None: it has none.

    Raises:
        ConfigError: neither exit is asked for, or one would not stand beyond the reference price.
    """
    stop = None if stop_loss is None else _towards(reference, reference * (1 - side.sign * stop_loss), tick)
    target = None if take_profit is None else _towards(reference, reference * (1 + side.sign * take_profit), tick)
    bracket = Bracket(stop, target)
    if problem := why_invalid(side, reference, bracket, tick):
        raise _refused([stop_loss, take_profit], f"{problem}; give larger fractions, or bracket: null")
    return bracket


def why_invalid(side: Side, reference: Decimal, bracket: Bracket, tick: Decimal | None = None) -> str:
    """Why no entry of ``side`` can have these exits; empty where it can.

    Of a purchase the stop is below ``reference`` and the target above it, of a short sale the contrary; both are
    positive multiples of ``tick``, the instrument's own, or of the market's where it has none.
    """
    if not bracket.exits:
        return "neither stop nor target is given"
    for exit_, price in bracket.exits.items():
        step = tick or tick_size(price)
        if price <= 0 or price % step:
            return f"the {exit_} {plain(price)} is no positive multiple of the tick {plain(step)}"
        beyond = side.sign * (price - reference) * (1 if exit_ is Exit.TARGET else -1)
        if beyond <= 0:
            where = "above" if (exit_ is Exit.TARGET) is (side is Side.BUY) else "below"
            return f"the {exit_} {plain(price)} of a {side.value} is not {where} {plain(reference)}"
    return ""


def with_brackets(
    orders: Sequence[PlannedOrder],
    positions: Mapping[str, Decimal],
    fractions: tuple[Decimal | None, Decimal | None],
    foreign: Collection[str] = (),
    ticks: Mapping[str, Decimal] = MappingProxyType({}),
) -> tuple[PlannedOrder, ...]:
    """``orders`` with exits for those that open or enlarge a position.

    Args:
        positions: shares held, negative for a short.
        fractions: stop-loss and take-profit, of each order's reference price.
        foreign: instruments whose reference prices are not in their own currency.
        ticks: of the instruments that have their own.

    Raises:
        ConfigError: an entry that would have an exit is foreign, or turns a position into its opposite: exits of all
            its shares would turn it back.
    """
    return tuple(
        replace(
            order,
            bracket=bracket_at(order.side, order.reference_price, *fractions, tick=ticks.get(order.instrument)),
        )
        if _is_entry(order, positions.get(order.instrument, Decimal(0)), foreign)
        else order
        for order in orders
    )


def _is_entry(order: PlannedOrder, held: Decimal, foreign: Collection[str]) -> bool:
    against = -order.side.sign * held
    if 0 < order.quantity <= against:
        return False
    reason = ""
    if against > 0:
        reason = f"{order.instrument} goes from {plain(held)} to the other side of zero in one order"
    elif order.instrument in foreign:
        reason = f"{order.instrument} is quoted in another currency than the account's"
    if reason:
        raise _refused(order.quantity, f"{reason}, which has no bracket here; set bracket: null")
    return True


def _refused(value: object, remedy: str) -> ConfigError:
    return ConfigError(where="config/strategies.yaml", field="execution.bracket", value=value, remedy=remedy)


def _towards(reference: Decimal, price: Decimal, own: Decimal | None) -> Decimal:
    """``price`` in whole ticks of the market, then of the instrument's own, each time towards ``reference``."""
    rounding = ROUND_CEILING if price < reference else ROUND_FLOOR
    for tick in (tick_size(price), own):
        if tick is not None:
            price = (price / tick).to_integral_value(rounding) * tick
    return price


def exit_at(sign: float, stop: float, target: float, opening: float, high: float, low: float) -> tuple[float, float]:
    """Which exit of an entry that stood at its session's open the session hits, and at what price before costs.

    Plain arithmetic, so that the simulator compiles it.

    Args:
        sign: of the entry: 1 of a purchase, -1 of a short sale.
        stop, target: NaN where there is none.
        high, low: NaN where the bar has none: then only the open is known of the session.

    Returns:
        Code (`NO_EXIT`, `STOP`, `TARGET`) and price (NaN without an exit).
    """
    # A comparison with NaN is false.
    lowest, highest = low if low < opening else opening, high if high > opening else opening
    adverse, favourable = (lowest, highest) if sign > 0 else (highest, lowest)
    # Signed, both questions are those of a purchase.
    if sign * adverse <= sign * stop:
        return STOP, opening if sign * opening <= sign * stop else stop
    if sign * favourable >= sign * target:
        return TARGET, target
    return NO_EXIT, math.nan


def exit_hit(
    side: Side, bracket: Bracket, opening: Decimal, high: Decimal | None, low: Decimal | None
) -> ExitHit | None:
    """As `exit_at`, of an entry of ``side``, with exact prices; None where neither exit is hit."""

    def known(price: Decimal | None) -> float:
        return math.nan if price is None else float(price)

    code, price = exit_at(
        side.sign, known(bracket.stop), known(bracket.target), known(opening), known(high), known(low)
    )
    if code == NO_EXIT:
        return None
    exit_ = Exit.STOP if code == STOP else Exit.TARGET
    own = bracket.exits[exit_]
    return ExitHit(exit_, own if price == float(own) else opening)
