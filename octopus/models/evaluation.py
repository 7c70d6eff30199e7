"""How good the predictions were, out of sample.

Belongs here: scores of predictions against labels. Does not: what is good enough (gates.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octopus.core.stats import hac_t_statistic, rank_correlation, sharpe, standardised
from octopus.core.trials import Trial, deflate
from octopus.core.types import BoolArray, FloatArray
from octopus.models.base import Estimator
from octopus.models.labels import entered
from octopus.models.splits import Fold
from octopus.models.training import TrainingSet

BUCKETS = 5


@dataclass(frozen=True, eq=False)
class Scores:
    """Out-of-sample scores.

    Attributes:
        rank_ic: mean of the sessions' rank correlations; icir: over their standard deviation; t_stat: with Newey-West
        errors.
        hit_rate: share of sessions with a positive one. fold_rank_ic: mean of each fold.
        spread_sharpe: annualised, of the top fifth less the bottom fifth, next session's return, before costs.
        deflated_sharpe: probability that it is not luck, given the trials. pbo: that of the best trial's being below
            their middle out of sample; NaN with fewer than ten.
        turnover_annual: of the spread, both legs' weights summing to 2, in a year; net_spread_annual: what the spread
            earns in one, less the costs of that turnover.
        ic: like rank_ic, of the values themselves.
        calibration: mean label by fifth of the predictions, ascending; calibration_beta: what the outcome rises with
            one unit of prediction, 1 is calibrated. fold_...: of each fold's sessions.
        sessions: with a score. trials: how many models luck could choose from; trials_clustered: different ones.
    """

    rank_ic: float
    icir: float
    t_stat: float
    hit_rate: float
    spread_sharpe: float
    deflated_sharpe: float
    pbo: float
    turnover_annual: float
    net_spread_annual: float
    fold_rank_ic: tuple[float, ...]
    calibration: tuple[float, ...]
    sessions: int
    trials: int
    trials_clustered: int
    ic: float
    calibration_beta: float
    fold_ic: tuple[float, ...]
    fold_icir: tuple[float, ...]
    fold_hit_rate: tuple[float, ...]
    fold_calibration_beta: tuple[float, ...]

    def record(self) -> dict[str, object]:
        """Plain values; numbers that could not be computed are None."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: _plain(value) for name, value in plain.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def evaluate(
    training: TrainingSet,
    predictions: FloatArray,
    folds: Sequence[Fold],
    horizon: int,
    trials: Sequence[Trial],
    tried_before: int = 0,
    cost_rate: float = 0.0,
) -> Scores:
    """Score ``predictions`` (T, N) against the labels of the training set.

    Args:
        trials: every trial made on this data, this one included: what luck is measured by.
        tried_before: further trials on this data whose returns nobody kept, such as parameters tried by hand.
        cost_rate: of trading one unit of notional, a fraction (`octopus.core.costs.CostModel.linear_rate`).
    """
    counted = np.where(training.usable, predictions, np.nan)
    ic = rank_correlation(counted, training.labels)
    tested = ic[~np.isnan(ic)]
    linear = correlation(counted, training.labels)
    blocks = [slice(fold.test_start, fold.test_stop) for fold in folds]
    spread = spread_returns(training, predictions)
    known = spread[~np.isnan(spread)]
    year = training.panel.clock.per_year
    deflation = deflate(known, trials, tried_before, sessions_per_year=year)
    turnover = spread_turnover(training, predictions)
    return Scores(
        rank_ic=_mean(tested),
        icir=sharpe(tested, 1.0),
        t_stat=hac_t_statistic(tested, horizon),
        hit_rate=_mean((tested > 0).astype(np.float64)),
        spread_sharpe=sharpe(known, year),
        deflated_sharpe=deflation.deflated_sharpe if len(known) > 2 else float("nan"),
        pbo=deflation.pbo,
        turnover_annual=turnover,
        net_spread_annual=_mean(known) * year - turnover * cost_rate,
        fold_rank_ic=tuple(_mean(_known(ic[block])) for block in blocks),
        calibration=calibration(counted, training.labels),
        sessions=len(tested),
        trials=deflation.raw,
        trials_clustered=deflation.clustered,
        ic=_mean(_known(linear)),
        calibration_beta=calibration_beta(counted, training.labels),
        fold_ic=tuple(_mean(_known(linear[block])) for block in blocks),
        fold_icir=tuple(sharpe(_known(ic[block]), 1.0) for block in blocks),
        fold_hit_rate=tuple(_mean((_known(ic[block]) > 0).astype(np.float64)) for block in blocks),
        fold_calibration_beta=tuple(calibration_beta(counted[block], training.labels[block]) for block in blocks),
    )


def correlation(left: FloatArray, right: FloatArray, least: int = 5) -> FloatArray:
    """Pearson correlation of each row, shape (T,); NaN below ``least`` known pairs or where a side is flat."""
    known = ~np.isnan(left) & ~np.isnan(right)
    sides = [standardised(side, known, least) for side in (left, right)]
    count = known.sum(axis=1)
    product = np.where(known, sides[0] * sides[1], 0.0).sum(axis=1)
    flat = np.isnan(np.where(known, product[:, None], 0.0)).any(axis=1)
    return np.where((count >= least) & ~flat, product / np.maximum(count - 1, 1), np.nan)


def calibration_beta(predictions: FloatArray, labels: FloatArray) -> float:
    """Slope of the outcome on the prediction over all known pairs: 1 where predictions are as large as outcomes are on
    average, less where they are too bold; NaN where predictions do not differ.

    Source: Mincer and Zarnowitz, The Evaluation of Economic Forecasts (1969).
    """
    known = ~np.isnan(predictions) & ~np.isnan(labels)
    if known.sum() < BUCKETS:
        return float("nan")
    scores, outcomes = predictions[known], labels[known]
    deviation = scores - scores.mean()
    spread = float(deviation @ deviation)
    return float(deviation @ outcomes) / spread if spread > 0 else float("nan")


def spread_returns(training: TrainingSet, predictions: FloatArray) -> FloatArray:
    """Return of the top fifth less the bottom fifth, entered at the close of T+1, held one session, shape (T,)."""
    returns = np.full(predictions.shape, np.nan)
    returns[:-2] = training.panel.total_return[2:] * entered(training.panel)[:-2]
    said = training.opinions(predictions)
    top, bottom, enough = _legs(np.where(training.usable & ~np.isnan(returns), said, np.nan))
    values = np.where(top | bottom, returns, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (values * top).sum(axis=1) / top.sum(axis=1) - (values * bottom).sum(axis=1) / bottom.sum(axis=1)
    return np.where(enough, spread, np.nan)


def spread_turnover(training: TrainingSet, predictions: FloatArray) -> float:
    """Sum of absolute changes of the spread's weights (each leg sums to 1), in a year; NaN without a spread."""
    top, bottom, enough = _legs(np.where(training.usable, training.opinions(predictions), np.nan))
    if enough.sum() < 2:
        return float("nan")
    sizes = [np.maximum(leg.sum(axis=1, keepdims=True), 1) for leg in (top, bottom)]
    weights = (top / sizes[0] - bottom / sizes[1])[enough]
    return float(np.abs(np.diff(weights, axis=0)).sum(axis=1).mean()) * training.panel.clock.per_year


def _legs(scores: FloatArray) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Highest and lowest fifth of each session's scores, shape (T, N), and which sessions have enough of them, (T,)."""
    known = ~np.isnan(scores)
    count = known.sum(axis=1)
    order = np.argsort(np.argsort(np.where(known, scores, np.inf), axis=1, kind="stable"), axis=1)
    size = np.maximum(count // BUCKETS, 1)[:, None]
    bottom = known & (order < size)
    top = known & (order >= count[:, None] - size) & (order < count[:, None])
    return top, bottom, np.asarray(count >= 2 * BUCKETS)


def calibration(predictions: FloatArray, labels: FloatArray) -> tuple[float, ...]:
    """Mean label of each fifth of the predictions, from the lowest to the highest."""
    known = ~np.isnan(predictions) & ~np.isnan(labels)
    if known.sum() < BUCKETS:
        return ()
    scores, outcomes = predictions[known], labels[known]
    edges = np.quantile(scores, np.linspace(0, 1, BUCKETS + 1)[1:-1])
    places = np.searchsorted(edges, scores, side="right")
    return tuple(_mean(outcomes[places == place]) for place in range(BUCKETS))


def importance(estimator: Estimator, training: TrainingSet, rows_at_most: int = 2000) -> FloatArray | None:
    """Mean size of what each feature adds to a prediction, as shares, shape (F,); None: the model cannot say.

    Of labelled rows evenly spread over the training set: SHAP values of trees, weight times feature of linear models.
    """
    labelled = training.rows(0, len(training.panel.sessions))
    chosen = np.zeros(len(labelled), dtype=bool)
    chosen[np.linspace(0, len(labelled) - 1, min(rows_at_most, len(labelled))).astype(int)] = True
    parts = estimator.contributions(labelled.where(chosen))
    if parts is None:
        return None
    size = np.abs(parts[:, :-1]).mean(axis=0)
    return np.asarray(size / size.sum()) if size.sum() > 0 else size


def _known(values: FloatArray) -> FloatArray:
    return np.asarray(values[~np.isnan(values)])


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
