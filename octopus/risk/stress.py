"""What would a portfolio lose: in a stretch of history, or under shocks that a person thought of.

Belongs here: the scenarios a user writes (config/risk.yaml, section stress) and their loss. Does not: likely losses
(measures.py), limits (limits.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from octopus.core.types import BoolArray, DateArray, FloatArray

Shock = Annotated[float, Field(ge=-1, le=10, allow_inf_nan=False)]


class StressWindow(BaseModel):
    """A stretch of history, both ends included (session dates)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: date
    end: date

    @model_validator(mode="after")
    def _is_a_range(self) -> StressWindow:
        if self.start > self.end:
            raise ValueError(f"start = {self.start} is after end = {self.end}: swap them")
        return self


class StressShock(BaseModel):
    """Sudden returns as fractions: -0.1 is a fall of 10 %.

    The most particular rules: an instrument's own shock, else its sector's, else its beta times the market's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    market: Shock = 0.0
    sectors: dict[str, Shock] = Field(default_factory=dict)
    instruments: dict[str, Shock] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _shocks_something(self) -> StressShock:
        if not (self.market or self.sectors or self.instruments):
            raise ValueError("a shock of nothing: name market, sectors or instruments")
        return self


class StressConfig(BaseModel):
    """Scenarios by name.

    Attributes:
        windows: historical; a name without a bar in all of the window is left out and named. A window that the history
            does not reach from end to end leaves out all names; one that ends on a weekend is over with its Friday.
        shocks: the user's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    windows: dict[str, StressWindow]
    shocks: dict[str, StressShock]


@dataclass(frozen=True, eq=False)
class StressResult:
    """One scenario.

    Attributes:
        loss: of the whole scenario, a positive fraction of equity; negative for a gain. NaN where the scenario knows no
            name that is held.
        worst: deepest fall from the highest point so far on the way, shares unchanged; equal to ``loss`` (at least 0)
            for a shock. NaN as ``loss``.
        by_name: each name's part of the loss, shape (N,); sums to ``loss``.
        uncovered: names held of which the scenario knows nothing, and that it leaves unmoved.
    """

    name: str
    kind: str
    loss: float
    worst: float
    by_name: FloatArray
    uncovered: tuple[str, ...]


def historical_stress(
    name: str,
    window: StressWindow,
    weights: FloatArray,
    symbols: Sequence[str],
    sessions: DateArray,
    instrument_returns: FloatArray,
) -> StressResult:
    """Today's shares through a stretch of history, with that time's total returns.

    Args:
        weights: fractions of today's equity, shape (N,). sessions: ``datetime64[D]``, shape (T,).
        instrument_returns: simple total returns, shape (T, N), NaN where there is none.
    """
    inside = (sessions >= np.datetime64(window.start, "D")) & (sessions <= np.datetime64(window.end, "D"))
    returns = instrument_returns[inside]
    known: BoolArray = np.asarray(np.isfinite(returns).all(axis=0))
    # A history that begins or ends inside the window would tell of its harmless part only.
    if not inside.any() or not sessions[0] <= np.datetime64(window.start, "D") or not _reaches(sessions, window.end):
        known = np.zeros(len(weights), dtype=bool)
    uncovered = _held_without(weights, known, symbols)
    if not (known & (weights != 0)).any():
        return _result(name, "window", weights, np.zeros(len(weights)), uncovered)
    growth = np.cumprod(1.0 + np.where(known, returns, 0.0), axis=0) - 1.0
    wealth = np.concatenate(([1.0], 1.0 + growth @ weights))
    worst = float(np.max(1.0 - wealth / np.maximum.accumulate(wealth)))
    by_name = -weights * growth[-1]
    return StressResult(name, "window", float(by_name.sum()), worst, by_name, uncovered)


def _reaches(sessions: DateArray, end: date) -> bool:
    """Whether the sessions go on to ``end``, or to the last weekday before it."""
    return bool(sessions[-1] >= np.busday_offset(np.datetime64(end, "D"), 0, roll="backward"))


def shock_stress(
    name: str,
    shock: StressShock,
    weights: FloatArray,
    symbols: Sequence[str],
    sectors: Mapping[str, str],
    market_betas: FloatArray,
) -> StressResult:
    """A sudden move.

    Args:
        market_betas: `octopus.risk.exposures.betas`, shape (N,); a name without one that needs it is left unmoved and
            named.
    """
    moves = np.array([_own_shock(shock, symbol, sectors.get(symbol)) for symbol in symbols])
    moves = np.where(np.isnan(moves), shock.market * market_betas if shock.market else 0.0, moves)
    known = np.isfinite(moves)
    return _result(name, "shock", weights, np.where(known, moves, 0.0), _held_without(weights, known, symbols))


def _own_shock(shock: StressShock, symbol: str, sector: str | None) -> float:
    """Of the instrument or its sector; NaN where neither has one."""
    if symbol in shock.instruments:
        return shock.instruments[symbol]
    return shock.sectors.get(sector, float("nan")) if sector is not None else float("nan")


def _held_without(weights: FloatArray, known: BoolArray, symbols: Sequence[str]) -> tuple[str, ...]:
    return tuple(symbols[i] for i in np.flatnonzero((weights != 0) & ~known).tolist())


def _result(name: str, kind: str, weights: FloatArray, moves: FloatArray, uncovered: tuple[str, ...]) -> StressResult:
    held = int((weights != 0).sum())
    by_name = -weights * moves
    loss = float("nan") if held and len(uncovered) == held else float(by_name.sum())
    return StressResult(name, kind, loss, max(0.0, loss) if loss == loss else loss, by_name, uncovered)
