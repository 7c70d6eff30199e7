"""What a user sets about signals (config/strategies.yaml, section strategy).

Belongs here: parameters and weights. Does not: how a signal is computed (signals.py).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator


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


class ExtensionConfig(BaseModel):
    """A strategy of another package: its weight and the settings that it has itself."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    weight: float = Field(default=0.0, ge=0, description=_SHARE)

    @property
    def settings(self) -> dict[str, Any]:
        """All but the weight, as they are written."""
        return dict(self.model_extra or {})


class StrategyConfig(_Section):
    """Signals and the weights by which they are blended; only the weights' proportions matter.

    Attributes:
        extensions: strategies of installed packages (entry points of the group ``octopus.strategies``), by name.
    """

    momentum: MomentumConfig = MomentumConfig()
    mean_reversion: MeanReversionConfig = MeanReversionConfig()
    sentiment: SentimentConfig = SentimentConfig()
    model: ModelConfig = ModelConfig()
    extensions: dict[str, ExtensionConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something_speaks(self) -> StrategyConfig:
        own = set(type(self).model_fields) & set(self.extensions)
        if own:
            raise ValueError(f"extensions.{min(own)} is a name of Octopus' own: set {min(own)}, or rename the strategy")
        if not any(self.weights().values()):
            raise ValueError("every signal's weight is 0: give at least one a positive weight")
        return self

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came later are told where they differ from what was done before there were any: what was
        decided and tried then keeps its fingerprint."""
        told: dict[str, Any] = handler(self)
        usual = {name: type(self).model_fields[name].get_default(call_default_factory=True) for name in _CAME_LATER}
        return {name: value for name, value in told.items() if name not in usual or getattr(self, name) != usual[name]}

    def sections(self) -> dict[str, Any]:
        """Every section as plain values, those too that are as they ever were."""
        plain: dict[str, Any] = {name: getattr(self, name).model_dump(mode="json") for name in _OWN}
        return plain | {"extensions": {name: one.model_dump(mode="json") for name, one in self.extensions.items()}}

    def weights(self) -> dict[str, float]:
        """Weight by signal name."""
        own = {name: getattr(self, name).weight for name in _OWN}
        return own | {name: one.weight for name, one in self.extensions.items()}


_OWN = ("momentum", "mean_reversion", "sentiment", "model")
_CAME_LATER = ("extensions",)
