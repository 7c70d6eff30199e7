"""What a user sets about signals (config/strategies.yaml, section strategy).

Belongs here: parameters and weights. Does not: how a signal is computed (signals.py).
"""

from __future__ import annotations

from typing import Any, Literal

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


class PairsConfig(_Section):
    """Two instruments that moved together and came apart are expected to meet again.

    Attributes:
        pairs: given ones, the first explained by the second; none: they are chosen anew in each period.
        choose: by the smallest ``distance`` of both indices over the formation window, or by ``cointegration``, the
            Dickey–Fuller statistic of one's regression on the other, which must be below ``dickey_fuller_max`` (-3.34
            is 5 % for one pair; the best of many need more).
        pairs_max: of a period. reform: how often pairs are chosen; positions end then.
        hedge_sessions: of the rolling regression that gives the hedge ratio and the z-score.
        entry, exit, stop: z-scores at which a position is opened, closed, and given up.
    """

    weight: float = Field(default=0.0, ge=0, description=_SHARE)
    pairs: tuple[tuple[str, str], ...] = ()
    choose: Literal["distance", "cointegration"] = "distance"
    pairs_max: int = Field(default=10, ge=1, le=500)
    formation_sessions: int = Field(default=252, ge=63, le=1260)
    reform: Literal["month", "quarter", "half", "year"] = "half"
    hedge_sessions: int = Field(default=126, ge=21, le=756)
    entry: float = Field(default=2.0, gt=0, le=10)
    exit: float = Field(default=0.5, ge=0, le=10)
    stop: float = Field(default=4.0, gt=0, le=20)
    dickey_fuller_max: float = Field(default=-3.34, le=0)

    @model_validator(mode="after")
    def _in_order(self) -> PairsConfig:
        if not self.exit < self.entry < self.stop:
            raise ValueError(f"exit = {self.exit} < entry = {self.entry} < stop = {self.stop} must hold: change one")
        same = [pair for pair in self.pairs if pair[0] == pair[1]]
        if same:
            raise ValueError(f"pairs holds {same[0]}: name two different instruments")
        return self


class ModelConfig(_Section):
    """The reviewed champion's prediction; it abstains without a champion."""

    weight: float = Field(default=0.40, ge=0, description=_SHARE)


class EnsembleConfig(_Section):
    """How the weights of the rule-based signals come about; the model keeps its own, which its review stands for.

    Attributes:
        weights: ``configured`` as each signal says, or ``out_of_sample``: what all signals with a weight have together
            is divided by what each would have earned alone, as far as it was known at each decision.
        by: the signal's information ratio, none for a negative one, or the inverse of its variance.
        window_sessions: of returns that are looked at. sessions_min: with a return, before a signal is told apart.
        shrinkage: towards equal weights, from 0, none, to 1, equal.
    """

    weights: Literal["configured", "out_of_sample"] = "configured"
    by: Literal["information_ratio", "inverse_variance"] = "information_ratio"
    window_sessions: int = Field(default=756, ge=63, le=2520)
    sessions_min: int = Field(default=252, ge=21, le=2520)
    shrinkage: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _reachable(self) -> EnsembleConfig:
        if self.sessions_min > self.window_sessions:
            raise ValueError(
                f"sessions_min = {self.sessions_min} is never reached in window_sessions = {self.window_sessions}: "
                "lower it"
            )
        return self


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
    pairs: PairsConfig = PairsConfig()
    extensions: dict[str, ExtensionConfig] = Field(default_factory=dict)
    ensemble: EnsembleConfig = EnsembleConfig()

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
        plain: dict[str, Any] = {name: getattr(self, name).model_dump(mode="json") for name in (*_OWN, "ensemble")}
        return plain | {"extensions": {name: one.model_dump(mode="json") for name, one in self.extensions.items()}}

    def weights(self) -> dict[str, float]:
        """Weight by signal name."""
        own = {name: getattr(self, name).weight for name in _OWN}
        return own | {name: one.weight for name, one in self.extensions.items()}


_OWN = ("momentum", "mean_reversion", "sentiment", "model", "pairs")
_CAME_LATER = ("pairs", "extensions", "ensemble")
