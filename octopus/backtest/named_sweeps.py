"""What a user sets about sweeps (config/strategies.yaml, section sweeps): named sets of parameter sets, in chunks.

Belongs here: what a named sweep may say, and into how many chunks it is divided. Does not: drawing and simulating its
sets (sweep.py).
"""

from __future__ import annotations

import math
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SweepConfig(BaseModel):
    """A sweep that is spread over many machines, one partition of `backtest/sweep` for each chunk.

    Attributes:
        strategy: as `octopus sweep` takes it. changes: other settings of every set, by dotted name.
        grid: values by setting; every combination is run. space: bounds by setting, lowest and highest, and ``log`` for
            draws by orders of magnitude; ``random`` is how many sets are drawn, always the same.
        start, end: sessions that are decided, instead of those of the section backtest.
        chunk: sets of one partition.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strategy: str
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    random: int = Field(default=0, ge=0, le=100_000)
    space: dict[str, tuple[int | float, int | float] | tuple[int | float, int | float, str]] = Field(
        default_factory=dict
    )
    changes: dict[str, Any] = Field(default_factory=dict)
    start: date | None = None
    end: date | None = None
    chunk: int = Field(default=50, ge=1, le=10_000)

    @model_validator(mode="after")
    def _one_way(self) -> SweepConfig:
        if bool(self.grid) == bool(self.random) or bool(self.random) != bool(self.space):
            raise ValueError("give a grid, or random with a space: grid: {lookback_sessions: [63, 126]}")
        wrong = [bounds for bounds in self.space.values() if bounds[2:] not in ((), ("log",)) or bounds[0] >= bounds[1]]
        if wrong:
            raise ValueError(f"space holds {list(wrong[0])}: write it like [21, 252] or [0.1, 10, log]")
        empty = [name for name, values in self.grid.items() if not values]
        if empty:
            raise ValueError(f"grid.{empty[0]} has no value: name at least one")
        return self

    @property
    def chunks(self) -> int:
        """Partitions that its sets are divided among; a space with fewer sets than are drawn leaves the last empty."""
        size = self.random or math.prod(len(values) for values in self.grid.values())
        return -(-size // self.chunk)
