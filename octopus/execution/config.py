"""What a user sets about how orders are worked (config/strategies.yaml, section execution).

Belongs here: the schedule of parent orders. Does not: which orders there are (octopus/portfolio), the schedules'
arithmetic (schedules.py).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from octopus.execution.schedules import Participation, Schedule, Window, twap, vwap


class Kind(StrEnum):
    NONE = "none"
    """Each order is sent once, for the session's auction."""
    TWAP = "twap"
    VWAP = "vwap"
    PARTICIPATION = "participation"


class Remainder(StrEnum):
    """What becomes, at the window's end, of what no child has filled and none may still fill."""

    CANCEL = "cancel"
    """It is not traded: the next plan sees to it."""
    CLOSE = "close"
    """One more child, market-on-close."""


class ScheduleConfig(BaseModel):
    """How every order of a plan is worked over its session.

    Attributes:
        slices: of the window, evenly long; at the beginning of each it is seen what is due.
        profile: for vwap what each slice trades of the day's volume, in any unit; as many as ``slices``.
        rate: for participation, of the market's volume since the window's start.
        ends_before_close_minutes: the window is from the session's open to so long before its close.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
        """When it is seen what is due: as each slice begins, and at the end."""
        return (*twap(schedule.window, self.slices).begins, schedule.window.end)
