"""What a user sets about how orders are worked (config/strategies.yaml, section execution).

Belongs here: the schedule of parent orders, the fractions of their brackets, and how far off their limits are. Does
not: which orders there are (octopus/portfolio), the arithmetic of schedules (schedules.py), of brackets and of limits
(octopus/core).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from octopus.core.orders import OrderType
from octopus.execution.schedules import Participation, Schedule, Weighted, Window, twap, vwap


class Kind(StrEnum):
    NONE = "none"
    """Each order is sent once, for the session's auction; with a limit or exits, for the session from its open."""
    TWAP = "twap"
    VWAP = "vwap"
    PARTICIPATION = "participation"


class Remainder(StrEnum):
    """What becomes, at the window's end, of what no child has filled and none may still fill."""

    CANCEL = "cancel"
    """It is not traded: the next plan sees to it."""
    CLOSE = "close"
    """One more child, market-on-close."""


class BracketConfig(BaseModel):
    """Exits that protect each entry of a plan at the venue, for the entry's session alone.

    Attributes:
        stop_loss, take_profit: fractions of the price that the plan was made with; at least one of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stop_loss: float | None = Field(default=None, gt=0, lt=1)
    take_profit: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _protects(self) -> BracketConfig:
        if self.stop_loss is None and self.take_profit is None:
            raise ValueError("execution.bracket has neither stop_loss nor take_profit: give one, or bracket: null")
        return self

    @property
    def fractions(self) -> tuple[Decimal | None, Decimal | None]:
        """Stop-loss and take-profit, exactly as written."""
        return _exact(self.stop_loss), _exact(self.take_profit)


def _exact(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(repr(value))


class ScheduleConfig(BaseModel):
    """How every order of a plan is worked over its session.

    Attributes:
        bracket: exits that go to the venue with each entry; None: there are none.
        limit_bps: orders are limit orders for the day, that far from the decision's close to the trader's advantage, in
            basis points (`octopus.core.limit_orders`); what the session does not reach lapses. None: at any price.
            Of bracket, limit_bps and a schedule there is one at most.
        slices: of the window, evenly long; at the beginning of each it is seen what is due (`looks`).
        profile: for vwap what each slice trades of the day's volume, in any unit; as many as ``slices``.
        rate: for participation, of the market's volume since the window's start.
        ends_before_close_minutes: the window is from the session's open to so long before its close.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bracket: BracketConfig | None = None
    limit_bps: float | None = Field(default=None, ge=0, le=5000)
    schedule: Kind = Kind.NONE
    slices: PositiveInt = 6
    profile: tuple[PositiveFloat, ...] | None = None
    rate: float = Field(default=0.1, gt=0, lt=1)
    ends_before_close_minutes: int = Field(default=15, ge=11)
    remainder: Remainder = Remainder.CANCEL

    @model_validator(mode="after")
    def _profile_of_slices(self) -> ScheduleConfig:
        if self.schedule is Kind.VWAP and len(self.profile or ()) != self.slices:
            raise ValueError(f"execution.profile has {len(self.profile or ())} figures: vwap needs one for each slice")
        return self

    @model_validator(mode="after")
    def _one_way_to_work(self) -> ScheduleConfig:
        if self.bracket is not None and self.schedule is not Kind.NONE:
            raise ValueError(
                f"execution.bracket with schedule {self.schedule.value}: a bracket protects one entry that is sent "
                "whole; set schedule: none, or bracket: null"
            )
        if self.limit_bps is not None and (self.bracket is not None or self.is_scheduled):
            other = "a bracket" if self.bracket is not None else f"schedule {self.schedule.value}"
            raise ValueError(
                f"execution.limit_bps = {self.limit_bps} with {other}, whose orders are at any price: set limit_bps: "
                "null, or leave the other out"
            )
        return self

    @property
    def limit_offset(self) -> Decimal | None:
        """``limit_bps`` as a fraction, exactly as written."""
        return None if self.limit_bps is None else Decimal(repr(self.limit_bps)) / 10_000

    @property
    def from_open(self) -> bool:
        """Whether orders are sent before the session's open, for all of the session."""
        return self.bracket is not None or self.limit_bps is not None

    def order_type(self, auction: OrderType) -> OrderType:
        """Of a plan's orders; ``auction``: of those that are only sent once, at any price."""
        if self.limit_bps is not None:
            return OrderType.LIMIT
        return OrderType.MARKET if self.is_scheduled or self.bracket is not None else auction

    @property
    def is_scheduled(self) -> bool:
        return self.schedule is not Kind.NONE

    def over(self, not_before: datetime, expires_at: datetime) -> Schedule:
        """The schedule of orders that may be sent from ``not_before`` and lapse at ``expires_at``.

        Raises:
            ScheduleError: the session is no longer than what is kept free before its close.
        """
        window = Window(not_before, expires_at - timedelta(minutes=self.ends_before_close_minutes))
        if self.schedule is Kind.PARTICIPATION:
            return Participation(window, Decimal(repr(self.rate)))
        if self.profile is not None and self.schedule is Kind.VWAP:
            return vwap(window, np.array([self.profile]))
        return twap(window, self.slices)

    def looks(self, schedule: Schedule) -> tuple[datetime, ...]:
        """When it is seen what is due: as each slice begins, and at the end.

        Of fixed slices it is seen in the middle of each, too, for what was missed: then nothing is due but that, and it
        is caught up at twice the schedule's pace at most.
        """
        pieces = 2 * self.slices if isinstance(schedule, Weighted) else self.slices
        return (*twap(schedule.window, pieces).begins, schedule.window.end)

    def is_over(self, schedule: Schedule, sent_at: datetime, now: datetime) -> bool:
        """Whether another slice has begun within the window since a child was sent."""
        begins = twap(schedule.window, self.slices).begins
        return schedule.window.contains(now) and any(sent_at < begin <= now for begin in begins)


class ScheduleAtBars(ScheduleConfig):
    """The same at a broker that executes with the session's bars: no fill is told, and none awaited, before the close.

    A child that stands there says nothing of its instrument.
    """

    @classmethod
    def of(cls, config: ScheduleConfig) -> Self:
        return cls(**dict(config))

    def over(self, not_before: datetime, expires_at: datetime) -> Schedule:
        return replace(super().over(not_before, expires_at), awaits_fills=False)
