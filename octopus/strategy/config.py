"""What a user sets about signals (config/strategies.yaml, section strategy).

Belongs here: parameters and weights. Does not: how a signal is computed (signals.py).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MomentumConfig(_Section):
    """Total return from ``lookback`` to ``skip`` sessions ago; the latest month is left out, for it reverses."""

    weight: float = Field(default=0.35, ge=0)
    lookback_sessions: int = Field(default=252, ge=21, le=756)
    skip_sessions: int = Field(default=21, ge=0, le=63)


class MeanReversionConfig(_Section):
    """The negative of the latest ``window_sessions`` return in units of its own volatility."""

    weight: float = Field(default=0.15, ge=0)
    window_sessions: int = Field(default=5, ge=2, le=21)
    volatility_sessions: int = Field(default=63, ge=21, le=252)


class SentimentConfig(_Section):
    """The decayed sentiment of texts that were known in time; hindsight and synthetic texts never count."""

    weight: float = Field(default=0.10, ge=0)


class ModelConfig(_Section):
    """The reviewed champion's prediction; it abstains without a champion."""

    weight: float = Field(default=0.40, ge=0)


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
