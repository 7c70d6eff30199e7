"""What a user sets about signals (config/strategies.yaml, section strategy).

Belongs here: parameters and weights. Does not: how a signal is computed (signals.py).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_SHARE = "share of the ensemble; only the proportion to the other weights matters, 0 switches the signal off"


class MomentumConfig(_Section):
    """Total return from ``lookback`` to ``skip`` sessions ago; the latest month is left out, for it reverses."""

    weight: float = Field(default=0.35, ge=0, description=_SHARE)
    lookback_sessions: int = Field(default=252, ge=21, le=756, description="where the measured return starts")
    skip_sessions: int = Field(default=21, ge=0, le=63, description="where it ends, in sessions before the decision")

    @model_validator(mode="after")
    def _looks_back_further_than_it_skips(self) -> MomentumConfig:
        if self.skip_sessions >= self.lookback_sessions:
            raise ValueError(
                f"skip_sessions = {self.skip_sessions} leaves nothing of lookback_sessions = {self.lookback_sessions}: "
                "make it smaller"
            )
        return self


class MeanReversionConfig(_Section):
    """The negative of the latest ``window_sessions`` return in units of its own volatility."""

    weight: float = Field(default=0.15, ge=0, description=_SHARE)
    window_sessions: int = Field(default=5, ge=2, le=21, description="of the return that is expected to reverse")
    volatility_sessions: int = Field(default=63, ge=21, le=252, description="of the volatility it is measured in")


class SentimentConfig(_Section):
    """The decayed sentiment of texts that were known in time; hindsight and synthetic texts never count."""

    weight: float = Field(default=0.10, ge=0, description=_SHARE)


class ModelConfig(_Section):
    """The reviewed champion's prediction; it abstains without a champion."""

    weight: float = Field(default=0.40, ge=0, description=_SHARE)


class StrategyConfig(_Section):
    """Signals and the weights by which they are blended; only the weights' proportions matter."""

    momentum: MomentumConfig = MomentumConfig()
    mean_reversion: MeanReversionConfig = MeanReversionConfig()
    sentiment: SentimentConfig = SentimentConfig()
    model: ModelConfig = ModelConfig()

    @model_validator(mode="after")
    def _something_speaks(self) -> StrategyConfig:
        if not any(self.weights().values()):
            raise ValueError("every signal's weight is 0: give at least one a positive weight")
        return self

    def weights(self) -> dict[str, float]:
        """Weight by signal name."""
        return {
            "momentum": self.momentum.weight,
            "mean_reversion": self.mean_reversion.weight,
            "sentiment": self.sentiment.weight,
            "model": self.model.weight,
        }
