"""What the kernel needs of a panel and of the settings, as arrays and numbers.

Belongs here: translating. Does not: rules (kernel.py says what is done with them, simulator.py why).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from octopus.backtest.config import BacktestConfig, Execution
from octopus.backtest.exits import exit_prices, refuse_brackets
from octopus.backtest.kernel import Market, Rules
from octopus.backtest.limits import limit_prices, refuse_limits
from octopus.backtest.sizing import Sizing
from octopus.backtest.working import average, work_of
from octopus.core.costs import CostModel
from octopus.core.errors import MissingDataError
from octopus.core.panel import ADV_SESSIONS, Panel
from octopus.core.types import FloatArray
from octopus.portfolio.units import NO_UNITS, TradingUnits
from octopus.strategy import windows

SIGMA_SESSIONS = 63


def execution_of(panel: Panel, config: BacktestConfig, first: int, stop: int) -> Execution:
    """The configured execution, or the close where no opening price can execute a decision.

    That is where the panel has none at all, and where a session opens before the one before it is decided
    (`octopus.core.sessions.Sessions.continuous`). What is worked over a session has its average price; where trading
    never ends, it is worked over the last hour before the close, and that is nearer to its price.
    """
    if config.schedule.from_open:
        return "open"
    if config.schedule.is_scheduled:
        return "close" if panel.clock.continuous else "vwap"
    if config.execution == "open" and (panel.clock.continuous or not np.isfinite(panel.open[first:stop]).any()):
        return "close"
    return config.execution


def market_of(
    panel: Panel,
    config: BacktestConfig,
    execution: Execution,
    costs: CostModel,
    delisting: FloatArray | None,
    *,
    long_only: bool,
    units: TradingUnits = NO_UNITS,
) -> Market:
    """The panel as the kernel reads it.

    Raises:
        MissingDataError: a rule of ``config`` asks for data that the panel does not have. ConfigError: as `require`.
    """
    require(panel, config, execution, long_only=long_only)
    panel = as_booked(panel, config)
    none = np.full((1, 1), np.nan)
    rate = none if panel.rate is None else _plain(panel.rate)
    close, endings = panel.worth, np.zeros(len(panel.sessions), dtype=bool)
    if delisting is not None:
        endings = np.any(np.isfinite(delisting), axis=1)
        ended = np.logical_or.accumulate(np.isfinite(delisting), axis=0)
        # On its last session it still trades; without a close no further order is planned.
        close = np.where(ended, np.nan, close)
    work, bracket = work_of(panel, config.schedule), config.schedule.bracket
    stops, targets = (none, none) if bracket is None else exit_prices(panel, bracket, units)
    offset = config.schedule.limit_offset
    purchases, sales = (none, none) if offset is None else limit_prices(panel, offset, units)
    exits, has_limit, has_volume = bracket is not None, offset is not None, config.participation_max is not None
    sized = config.impact > 0
    # Nothing is paid for what nobody can price.
    spin_off = None if panel.spin_off is None else np.nan_to_num(panel.spin_off, nan=0.0)
    spins = np.zeros(len(panel.sessions), dtype=bool) if spin_off is None else (spin_off != 0.0).any(axis=1)
    return Market(
        fill=_plain(_fill(panel, execution, bracketed=exits)),
        opening=_plain(after_the_decision(panel)) if has_limit or exits else none,
        high=_plain(panel.high) if has_limit or exits else none,
        low=_plain(panel.low) if has_limit or exits else none,
        printed=_plain(panel.close) if has_limit or work.in_close else none,
        close=_plain(close),
        split=_plain(panel.split),
        dividend=_in_base(panel, panel.dividend),
        spin_off=none if spin_off is None else _in_base(panel, spin_off),
        member=np.ascontiguousarray(panel.member),
        delisting=none if delisting is None else _in_base(panel, in_steps(delisting, config)),
        volume=_plain(panel.volume) if has_volume else none,
        adv=_plain(windows.mean(panel.volume, ADV_SESSIONS)) if sized else none,
        sigma=_plain(windows.std(panel.total_return, SIGMA_SESSIONS)) if sized else none,
        acts=((panel.split != 1.0) | (panel.dividend != 0.0)).any(axis=1),
        spins=spins,
        outsiders=np.asarray(np.any(~panel.member, axis=1)),
        endings=np.asarray(endings),
        rate=rate,
        conversion=np.where(panel.foreign, costs.conversion_move, 0.0),
        converts=panel.rate is not None,
        due=_plain(work.due),
        expected=none if work.expected is None else _plain(work.expected),
        follows=work.expected is not None,
        in_close=work.in_close,
        stops=_plain(stops),
        targets=_plain(targets),
        exits=exits,
        purchases=_plain(purchases),
        sales=_plain(sales),
        limited=has_limit,
    )


def rules_of(
    sizing: Sizing, costs: CostModel, config: BacktestConfig, sessions_per_year: float, symbols: Sequence[str] = ()
) -> Rules:
    """The settings as the kernel reads them; yearly rates are spread over the sessions of a year.

    Args:
        symbols: of the panel, whose own lots are cut to.
    """
    a_session = 1e-4 / sessions_per_year
    return Rules(
        lot=sizing.lot,
        fractional=sizing.fractional,
        long_only=sizing.long_only,
        band=sizing.band,
        least=sizing.least_notional,
        buffer=sizing.cash_buffer,
        move=costs.price_move,
        rate=costs.commission_rate,
        least_fee=costs.commission_min,
        impact=config.impact,
        participation=np.inf if config.participation_max is None else config.participation_max,
        borrow=config.borrow_bps_year * a_session,
        financing=config.financing_bps_year * a_session,
        interest=config.interest_bps_year * a_session,
        rounds=config.round_as_venue,
        lots=sizing.units.lots_of(symbols),
        steps=sizing.units.steps_of(symbols, Decimal(repr(sizing.lot))),
    )


def after_the_decision(panel: Panel) -> FloatArray:
    """Opening prices that are later than the decision of the session before; NaN where trading never ends."""
    return np.full_like(panel.open, np.nan) if panel.clock.continuous else panel.open


def as_booked(panel: Panel, config: BacktestConfig) -> Panel:
    """Prices and actions as the account's books know them: to a millionth where ``config`` rounds as a venue does."""
    if not config.round_as_venue:
        return panel
    names = ("open", "high", "low", "close", "split", "dividend", "spin_off", "vwap")
    values = {name: getattr(panel, name) for name in names}
    rounded: dict[str, Any] = {name: in_steps(array, config) for name, array in values.items() if array is not None}
    return replace(panel, **rounded)


def in_steps(values: FloatArray, config: BacktestConfig) -> FloatArray:
    """``values`` to a millionth where ``config`` rounds as a venue does, shape unchanged."""
    return np.round(values, 6) if config.round_as_venue else values


def _fill(panel: Panel, execution: Execution, *, bracketed: bool) -> FloatArray:
    if bracketed:
        return np.where(np.isfinite(panel.open), panel.open, panel.close)
    if execution == "vwap":
        return average(panel)
    if execution == "typical":
        return np.asarray((panel.high + panel.low + panel.close) / 3.0)
    return panel.open if execution == "open" else panel.close


def require(panel: Panel, config: BacktestConfig, execution: Execution, *, long_only: bool) -> None:
    """See that the panel has what the settings ask for.

    Raises:
        MissingDataError: it has not; the setting is named.
        ConfigError: exits or limits where they are not simulated.
    """
    if config.schedule.bracket is not None:
        refuse_brackets(panel, long_only=long_only)
    if config.schedule.limit_bps is not None:
        refuse_limits(panel)
    asked = {
        "execution: typical": (execution == "typical", panel.high),
        "participation_max": (config.participation_max is not None, panel.volume),
        "impact": (config.impact > 0, panel.volume),
    }
    for name, (is_asked, values) in asked.items():
        if is_asked and not np.isfinite(values).any():
            raise MissingDataError(
                f"backtest.{name} needs highs, lows or volumes, and the panel has none of them; leave it out, or take "
                "a source that has them"
            )


def _in_base(panel: Panel, values: FloatArray) -> FloatArray:
    """Money of each instrument in the account's currency; nothing stays nothing where no rate is known yet."""
    if panel.rate is None:
        return _plain(values)
    return _plain(np.where(values == 0.0, 0.0, values * panel.rate))


def _plain(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float64)
