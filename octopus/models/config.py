"""What a user sets about models (config/strategies.yaml, section models).

Belongs here: parameters of training and the limits of the review. Does not: training itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from octopus.models.labels import Form


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RidgeConfig(_Section):
    """Linear least squares with an L2 penalty, the baseline."""

    penalty: float = Field(default=1000.0, gt=0)


class XGBoostConfig(_Section):
    """Gradient-boosted trees; few and shallow, for the signal is weak."""

    trees: int = Field(default=80, ge=10, le=2000)
    depth: int = Field(default=4, ge=1, le=12)
    learning_rate: float = Field(default=0.03, gt=0, le=1)
    min_child_weight: float = Field(default=200.0, ge=0)
    subsample: float = Field(default=0.7, gt=0, le=1)
    column_share: float = Field(default=0.7, gt=0, le=1)


class ElasticNetConfig(_Section):
    """Linear least squares with an L1 and an L2 penalty; ``l1_share`` of 1 is the lasso."""

    penalty: float = Field(default=0.003, gt=0)
    l1_share: float = Field(default=0.5, ge=0, le=1)


class LightGBMConfig(_Section):
    """Gradient-boosted trees, grown leaf by leaf."""

    trees: int = Field(default=80, ge=10, le=2000)
    leaves: int = Field(default=15, ge=2, le=1024)
    learning_rate: float = Field(default=0.03, gt=0, le=1)
    min_rows_in_leaf: int = Field(default=200, ge=1)
    subsample: float = Field(default=0.7, gt=0, le=1)
    column_share: float = Field(default=0.7, gt=0, le=1)
    penalty: float = Field(default=0.0, ge=0)


class ProphetConfig(_Section):
    """Level, trend and season of each instrument's own label.

    Attributes:
        growth: ``flat`` is a level; a ``linear`` trend of a return is carried on through the whole test block.
        yearly_order: waves in the season of the year. sessions_min: labels that an instrument needs to be fitted.
    """

    growth: Literal["flat", "linear"] = "flat"
    changepoint_scale: float = Field(default=0.05, gt=0)
    seasonality_scale: float = Field(default=10.0, gt=0)
    yearly_order: int = Field(default=6, ge=1, le=30)
    sessions_min: int = Field(default=756, ge=21)


class EnsembleConfig(_Section):
    """A weighted mean of models, by name; only the weights' proportions matter."""

    members: dict[str, Annotated[float, Field(gt=0)]] = Field(default={"ridge": 1.0, "xgboost": 1.0}, min_length=1)


class GateLimits(_Section):
    """What a model must show out of sample; every gate must pass, and none is loosened to please a demonstration.

    Attributes:
        rank_ic_min: mean rank correlation of prediction and outcome.
        rank_ic_max: a higher one is taken for a label that leaked into the features, until somebody shows otherwise:
            published daily and weekly signals reach a few hundredths.
        t_min: its t-statistic with Newey-West errors over the label's horizon.
        deflated_sharpe_min: probability that the top-minus-bottom spread's Sharpe ratio is not luck, given all trials.
        pbo_max: probability of backtest overfitting over all trials, where there are ten of them.
        net_spread_min: what the spread earns in a year, less the costs of its turnover: what a model asks to be traded
            must pay for the trading.
        positive_folds_min: share of test blocks with a positive mean rank correlation.
    """

    rank_ic_min: float = Field(default=0.02, ge=0, le=1)
    rank_ic_max: float = Field(default=0.2, gt=0, le=1)
    t_min: float = Field(default=2.0, ge=0)
    deflated_sharpe_min: float = Field(default=0.95, ge=0, le=1)
    pbo_max: float = Field(default=0.5, ge=0, le=1)
    net_spread_min: float = Field(default=0.0, ge=-1, le=10)
    positive_folds_min: float = Field(default=0.6, ge=0, le=1)


class Range(_Section):
    """Where a setting is searched: ``log`` by orders of magnitude, ``whole`` in whole numbers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low = {self.low} must be below high = {self.high}, and above 0 where log is set")
        return self


_SPACE = {
    "ridge": {"penalty": Range(low=10, high=100_000, log=True)},
    "elastic_net": {"penalty": Range(low=0.0003, high=0.03, log=True), "l1_share": Range(low=0, high=1)},
    "xgboost": {
        "depth": Range(low=2, high=6, whole=True), "learning_rate": Range(low=0.01, high=0.1, log=True),
        "min_child_weight": Range(low=20, high=2000, log=True),
    },
    "lightgbm": {
        "leaves": Range(low=4, high=63, log=True, whole=True), "learning_rate": Range(low=0.01, high=0.1, log=True),
        "min_rows_in_leaf": Range(low=20, high=2000, log=True, whole=True),
    },
}  # fmt: skip


class SearchConfig(_Section):
    """The search for settings, by purged folds inside each training window; every trial goes on record and deflates.

    Attributes:
        trials: of each search; 0: none, the configured settings stand.
        folds: purged folds of the training window that a trial is measured by.
        every: ``first`` searches in the first training window and stays with it, ``fold`` searches in each.
        space: estimator → setting → where to search it.
    """

    trials: int = Field(default=0, ge=0, le=1000)
    folds: int = Field(default=4, ge=2, le=20)
    every: Literal["first", "fold"] = "first"
    space: dict[str, dict[str, Range]] = Field(default_factory=lambda: dict(_SPACE))


class CrossValidationConfig(_Section):
    """Combinatorial purged cross-validation beside the walk-forward: how far skill depends on the one history.

    Attributes:
        groups: of neighbouring sessions; 0: none of it. tested: groups that each split tests.
    """

    groups: int = Field(default=0, ge=0, le=20)
    tested: int = Field(default=2, ge=1, le=19)

    @model_validator(mode="after")
    def _something_trains(self) -> CrossValidationConfig:
        if self.groups and self.tested >= self.groups:
            raise ValueError(f"tested = {self.tested} leaves none of groups = {self.groups} to train on: lower it")
        return self


class LabelConfig(_Section):
    """What a model is taught to predict.

    Attributes:
        kind: ``forward``, the return over the horizon, ``triple_barrier``, which barrier is touched first, or ``meta``,
            whether following the signal ``primary`` between the barriers pays.
        form: of a forward return: as it is, less the members' mean, in their standard deviation, or its rank.
        profit, stop: the barriers' distance, in standard deviations of a return over the horizon.
        volatility_sessions: that the deviation is measured on.
    """

    kind: Literal["forward", "triple_barrier", "meta"] = "forward"
    form: Form = "standardised"
    profit: float = Field(default=1.0, gt=0, le=20)
    stop: float = Field(default=1.0, gt=0, le=20)
    volatility_sessions: int = Field(default=63, ge=10, le=504)
    primary: str | None = None

    @model_validator(mode="after")
    def _about_a_signal(self) -> LabelConfig:
        if (self.kind == "meta") != (self.primary is not None):
            raise ValueError(
                f"primary = {self.primary!r} with kind = {self.kind!r}: name a signal for kind meta, and none otherwise"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = handler(self)
        return {name: value for name, value in told.items() if name != "primary" or value is not None}


class DriftConfig(_Section):
    """When features and predictions count as drifted from what the models learnt from.

    Attributes:
        window_sessions: latest sessions that are compared.
        psi_max: population stability index that a series may reach, unless the training window itself was as restless.
        features_max: share of the features that may have drifted before the check warns.
    """

    window_sessions: int = Field(default=63, ge=5, le=504)
    psi_max: float = Field(default=0.25, gt=0)
    features_max: float = Field(default=0.2, ge=0, le=1)


class ModelConfig(_Section):
    """Training and review.

    Attributes:
        registered_name: name in MLflow's registry; its alias ``champion`` is the model that speaks.
        estimators: models that are trained and reviewed, by name: Octopus' own (ridge, elastic_net, xgboost, lightgbm,
            prophet, ensemble) and those of installed packages (entry points of the group ``octopus.models``).
        features: that models are given: ``standard``, ``alpha158`` (Qlib's 158), single ones, or a list.
        extensions: settings of models of other packages, name → settings.
        horizon_sessions: of the label: total return from the close of T+1 to that of T+1+horizon, or the limit at
            which a position between barriers is closed.
        label: what is predicted. sample_weights: ``uniqueness`` weighs each label by what no other one says.
        train_min_sessions: history before the first test block. test_sessions: length of a test block.
        window: ``anchored`` trains on all history, ``rolling`` on the last ``train_min_sessions``.
        embargo_sessions: left out between the last known label and the first test session; null: as many as the label
            is long.
        retrain: how often the training set moves on.
        tried_before: parameters tried by hand on this data before any review; they deflate the Sharpe ratio too.
        auto_champion: appoint the first model ever that passes every gate; later ones are a person's choice in MLflow.
    """

    registered_name: str = Field(default="octopus-return", pattern=r"^[a-z0-9-]{1,64}$")
    estimators: tuple[str, ...] = Field(default=("ridge", "xgboost"), min_length=1)
    features: tuple[str, ...] = Field(default=("standard",), min_length=1)
    horizon_sessions: int = Field(default=5, ge=1, le=63)
    label: LabelConfig = LabelConfig()
    sample_weights: Literal["equal", "uniqueness"] = "equal"
    train_min_sessions: int = Field(default=2520, ge=252)
    test_sessions: int = Field(default=252, ge=21)
    window: Literal["anchored", "rolling"] = "anchored"
    embargo_sessions: int | None = Field(default=5, ge=0)
    retrain: Literal["month", "quarter", "year"] = "quarter"
    tried_before: int = Field(default=0, ge=0)
    auto_champion: bool = True
    seed: int = 7
    ridge: RidgeConfig = RidgeConfig()
    xgboost: XGBoostConfig = XGBoostConfig()
    elastic_net: ElasticNetConfig = ElasticNetConfig()
    lightgbm: LightGBMConfig = LightGBMConfig()
    prophet: ProphetConfig = ProphetConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    extensions: dict[str, dict[str, Any]] = Field(default_factory=dict)
    search: SearchConfig = SearchConfig()
    cross_validation: CrossValidationConfig = CrossValidationConfig()
    gates: GateLimits = GateLimits()
    drift: DriftConfig = DriftConfig()

    @field_validator("features", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def embargo(self) -> int:
        """Sessions between a training label and the first test session."""
        return self.horizon_sessions if self.embargo_sessions is None else self.embargo_sessions

    def settings_of(self, estimator: str) -> dict[str, Any]:
        """What is set for one model, by its name."""
        section = getattr(self, estimator, None)
        return section.model_dump() if isinstance(section, BaseModel) else self.extensions.get(estimator, {})

    def shape(self) -> dict[str, Any]:
        """Everything that shapes a model, as plain values: neither its name nor how it is judged and watched.

        Settings that came later count where they differ from what was done before there were any: what was tried then
        is not tried anew.
        """
        everything = self.model_dump(mode="json", exclude=_JUDGING)
        usual = type(self)().model_dump(mode="json", include=_CAME_LATER)
        return {name: value for name, value in everything.items() if name not in usual or value != usual[name]}


_JUDGING = {"registered_name", "gates", "auto_champion", "tried_before", "estimators", "drift", "cross_validation"}
_CAME_LATER = {
    "label", "sample_weights", "elastic_net", "lightgbm", "prophet", "ensemble", "extensions", "search", "features",
}  # fmt: skip
