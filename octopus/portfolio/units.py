"""In which steps each instrument trades: shares in its own lots, limits in its own ticks.

Belongs here: cutting to them, as the plan, the order path and both engines of the backtest do. Does not: where they are
known from (resources/warehouse/instruments.py), the lot and the tick that all have (config.py,
octopus/core/brackets.py), exits, whose tick is passed on to them (octopus/core/brackets.py), and children of schedules,
whose lot is (octopus/execution/schedules.py).

Quantities are cut to the portfolio's lot first and to the instrument's own after it; limits are rounded to the market's
tick first and to the instrument's own after it, each time away from the price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal

import numpy as np

from octopus.core.errors import ConfigError
from octopus.core.orders import OrderType, PlannedOrder, Side
from octopus.core.types import FloatArray

LOT_ROUNDING = Decimal("1e-9")
"""Quantities are rounded to this fraction of a lot before they are cut to whole lots: 999.9999999999 lots are 1000."""


@dataclass(frozen=True)
class TradingUnits:
    """Lots and ticks of those instruments of which they are known.

    Attributes:
        lots: smallest tradable quantity, shares. ticks: smallest step of a price, the instrument's currency.
    """

    lots: Mapping[str, Decimal] = field(default_factory=dict)
    ticks: Mapping[str, Decimal] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.lots or self.ticks)

    def record(self) -> dict[str, dict[str, str]]:
        """As plain values, the same for the same steps."""
        return {
            name: {instrument: f"{step.normalize():f}" for instrument, step in sorted(steps.items())}
            for name, steps in (("lots", self.lots), ("ticks", self.ticks))
        }

    def whole_lots(self, instrument: str, shares: Decimal) -> Decimal:
        """``shares`` cut towards zero to whole lots of the instrument."""
        lot = self.lots.get(instrument)
        return shares if lot is None else floor_to_lot(shares, lot)

    def limit(self, side: Side, instrument: str, limit: Decimal) -> Decimal:
        """``limit`` in whole ticks of the instrument: never higher for a purchase, never lower for a sale.

        Raises:
            ConfigError: nothing would be left of it.
        """
        tick = self.ticks.get(instrument)
        if tick is None:
            return limit
        found = (limit / tick).to_integral_value(ROUND_FLOOR if side is Side.BUY else ROUND_CEILING) * tick
        if found <= 0:
            raise ConfigError(
                where="config/strategies.yaml", field="execution.limit_bps", value="set",
                remedy=f"a {side.value} of {instrument} at {limit:f} is below one tick of {tick:f}: correct its tick "
                "in the reference file of instruments, or set null",
            )  # fmt: skip
        return found

    def with_ticks(self, orders: Sequence[PlannedOrder]) -> tuple[PlannedOrder, ...]:
        """``orders`` with limits in whole ticks of their instruments."""
        return tuple(
            replace(order, price=self.limit(order.side, order.instrument, order.price))
            if order.order_type is OrderType.LIMIT and order.price is not None
            else order
            for order in orders
        )

    def step(self, instrument: str, lot: Decimal) -> Decimal:
        """What an order of the instrument is a multiple of once it is cut: its own lot, but the portfolio's where that
        holds whole ones of its own.

        Args:
            lot: the portfolio's; zero: any fraction.
        """
        own = self.lots.get(instrument)
        return lot if own is None or (lot and not lot % own) else own

    def steps_of(self, symbols: Sequence[str], lot: Decimal) -> FloatArray:
        """`step` of each, shape (N,); of shape (0,) where none of ``symbols`` has a lot of its own."""
        if not any(name in self.lots for name in symbols):
            return np.empty(0)
        return np.array([float(self.step(name, lot)) for name in symbols], dtype=np.float64)

    def lots_of(self, symbols: Sequence[str]) -> FloatArray:
        """Lots, shape (N,), 0.0 where there is none; of shape (0,) where none of ``symbols`` has one."""
        lots = np.array([float(self.lots.get(name, 0)) for name in symbols], dtype=np.float64)
        return lots if lots.any() else np.empty(0)

    def ticks_of(self, symbols: Sequence[str]) -> FloatArray:
        """Ticks, shape (N,), NaN where there is none."""
        return np.array([float(self.ticks.get(name, Decimal("NaN"))) for name in symbols], dtype=np.float64)


def floor_to_lot(shares: Decimal, lot: Decimal) -> Decimal:
    """``shares`` cut towards zero to a multiple of ``lot``."""
    return (shares / lot).quantize(LOT_ROUNDING).to_integral_value(ROUND_DOWN) * lot


NO_UNITS = TradingUnits()
