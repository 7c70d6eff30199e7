"""Models learn from the past alone, serve what they were tested on, and pass only with skill."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import ConfigError, MissingDataError
from octopus.models import evaluation, gates, walkforward
from octopus.models.base import Rows
from octopus.models.config import EnsembleConfig, GateLimits, ModelConfig, ProphetConfig
from octopus.models.estimators import BUILT_IN, Ridge, estimator_from_bytes, make
from octopus.models.labels import forward_return, known_after
from octopus.models.selection import Appointment, FoldRecord, model_for
from octopus.models.splits import walk_forward
from octopus.models.training import TrainingSet, as_model_sees, build, training_session
from tests.models.small import panel_of

SMALL = ModelConfig(
    train_min_sessions=300, test_sessions=60, horizon_sessions=5, embargo_sessions=3, gates=GateLimits(rank_ic_max=1)
)


def training_set(skill: float, seed: int = 3, rows: int = 700, columns: int = 20) -> TrainingSet:
    """Features of which the first tells ``skill`` of the next week's return."""
    random = np.random.default_rng(seed)
    panel = panel_of(random.normal(0, 0.01, (rows, columns)))
    label = np.nan_to_num(forward_return(panel, 5).values)
    values = random.normal(0, 1, (rows, columns, 4))
    values[:, :, 0] += skill * label
    return build(panel, ("a", "b", "c", "d"), values, SMALL, np.zeros((rows, columns), dtype=bool))


@given(rows=st.integers(320, 2000), window=st.sampled_from(["anchored", "rolling"]))
def test_no_fold_learns_from_a_label_that_was_not_known(rows: int, window: str) -> None:
    config = SMALL.model_copy(update={"window": window})
    folds = walk_forward(rows, config)
    tested = [row for fold in folds for row in range(fold.test_start, fold.test_stop)]
    assert tested == list(range(tested[0], rows)) if tested else rows <= 300 + 9
    for fold in folds:
        last_known = fold.train_stop - 1 + known_after(config.horizon_sessions)
        assert last_known < fold.test_start - config.embargo_sessions + 1
        assert fold.train_start < fold.train_stop


def test_a_label_is_the_return_after_execution() -> None:
    returns = np.zeros((12, 5))
    returns[2, 0] = 0.10  # from the close of row 1, where a decision of row 0 is executed, to that of row 2
    label = forward_return(panel_of(returns), 1).values
    assert label[0, 0] > 0
    assert label[0, 1] < 0
    assert np.isnan(label[1]).all(), "all returned the same: nothing to learn"


@given(row=st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_a_label_never_changes_once_it_is_known(row: int) -> None:
    random = np.random.default_rng(row)
    returns = random.normal(0, 0.01, (60, 6))
    changed = returns.copy()
    changed[row + known_after(5) + 1 :] = 0.5
    before, after = (forward_return(panel_of(r), 5).values for r in (returns, changed))
    assert np.array_equal(before[: row + 1], after[: row + 1], equal_nan=True)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_serving_one_session_gives_the_bits_of_the_batch(name: str) -> None:
    training = training_set(0.5, columns=8)
    config = SMALL.model_copy(
        update={
            "prophet": ProphetConfig(sessions_min=300, growth="linear"),
            "ensemble": EnsembleConfig(members={"ridge": 2.0, "lightgbm": 1.0, "prophet": 1.0}),
        }
    )
    estimator = make(name, config)
    estimator.fit(training.rows(0, 500))
    sessions, symbols = training.panel.sessions, training.panel.symbols
    batch = walkforward.predict(estimator, training.features, sessions, symbols)
    assert batch[610].std() > 0
    alone = Rows.of(training.features[610:611], sessions[610:611], symbols)
    assert np.array_equal(estimator.predict(alone), batch[610])
    again = estimator_from_bytes(estimator.to_bytes())
    assert np.array_equal(again.predict(alone), batch[610])
    assert again.needs_places is estimator.needs_places is (name in {"prophet", "ensemble"})


@pytest.mark.parametrize("name", ["ridge", "elastic_net", "xgboost", "lightgbm", "ensemble"])
def test_what_the_features_add_sums_to_the_prediction_and_names_the_one_that_knows(name: str) -> None:
    training = training_set(1.0)
    estimator = make(name, SMALL)
    rows = training.rows(0, 500)
    estimator.fit(rows)
    parts = estimator.contributions(rows)
    assert parts is not None
    np.testing.assert_allclose(parts.sum(axis=1), estimator.predict(rows), atol=1e-5)
    shares = evaluation.importance(estimator, training)
    assert shares is not None
    assert shares.sum() == pytest.approx(1)
    assert shares.argmax() == 0


def test_weights_of_the_rows_count() -> None:
    rows = training_set(1.0).rows(0, 500)
    twice = replace(rows, features=np.vstack([rows.features, rows.features[:50]]),
                    labels=np.concatenate([rows.taught, rows.taught[:50]]))  # fmt: skip
    weighed = replace(rows, weights=np.where(np.arange(len(rows)) < 50, 2.0, 1.0))
    for name in ("ridge", "elastic_net"):
        first, second = make(name, SMALL), make(name, SMALL)
        first.fit(twice)
        second.fit(weighed)
        np.testing.assert_allclose(first.predict(rows), second.predict(rows), atol=1e-4)
    for name in ("xgboost", "lightgbm"):
        plain, other = make(name, SMALL), make(name, SMALL)
        plain.fit(rows)
        other.fit(replace(rows, weights=np.where(rows.features[:, 0] > 0, 5.0, 0.1)))
        assert not np.array_equal(plain.predict(rows), other.predict(rows))


def test_prophet_says_what_its_library_says_and_abstains_on_strangers() -> None:
    import pandas as pd
    import prophet

    training = training_set(0.0, columns=5)
    model = make("prophet", SMALL.model_copy(update={"prophet": ProphetConfig(growth="linear", sessions_min=100)}))
    model.fit(training.rows(0, 400))
    days = training.panel.sessions[400:600]
    own = training.rows(0, 400).where(training.rows(0, 400).places[1] == "S02")
    library = prophet.Prophet(yearly_seasonality=6, weekly_seasonality=False, daily_seasonality=False,
                              uncertainty_samples=0)  # fmt: skip
    library.fit(pd.DataFrame({"ds": own.places[0].astype("datetime64[ns]"), "y": own.taught}), seed=SMALL.seed)
    expected = library.predict(pd.DataFrame({"ds": days.astype("datetime64[ns]")}))["yhat"].to_numpy()
    nothing = np.zeros((200, 2, 4))
    said = walkforward.predict(model, nothing, days, ("S02", "stranger"))
    np.testing.assert_allclose(said[:, 0], expected, atol=1e-9)
    assert np.isnan(said[:, 1]).all()
    with pytest.raises(MissingDataError, match="give the columns session, instrument"):
        model.predict(Rows(np.zeros((1, 4))))


def test_a_model_stored_before_models_had_names_is_read() -> None:
    old = estimator_from_bytes(b'{"kind": "ridge", "penalty": 3.0, "weights": [0.5, -1.0]}')
    assert old.predict(Rows(np.array([[2.0, 1.0]]))).tolist() == [0.0]


def test_an_ensemble_is_not_its_own_member() -> None:
    config = SMALL.model_copy(update={"ensemble": EnsembleConfig(members={"ensemble": 1.0})})
    with pytest.raises(ConfigError, match="cannot be its own member"):
        make("ensemble", config)


def test_serving_transforms_one_session_as_training_did() -> None:
    random = np.random.default_rng(1)
    values, member = random.normal(0, 1, (50, 8, 3)), random.random((50, 8)) < 0.8
    values[random.random(values.shape) < 0.1] = np.nan
    whole = as_model_sees(values, member)
    assert np.array_equal(as_model_sees(values[20:21], member[20:21])[0], whole[20])


@pytest.mark.parametrize(("skill", "passes"), [(1.0, True), (0.0, False)])
def test_skill_passes_the_gates_and_noise_does_not(skill: float, passes: bool) -> None:
    training = training_set(skill)
    walk = walkforward.run(training, SMALL, lambda past: make("ridge", SMALL))
    scores = evaluation.evaluate(training, walk.predictions, walk.folds, SMALL.horizon_sessions, [])
    review = gates.review(scores, SMALL.gates, parity=True)
    assert review.passed is passes, [gate.reason for gate in review.gates]
    suspected = gates.review(scores, GateLimits(), parity=True)
    assert {gate.name: gate.passed for gate in suspected.gates}["no_leak"] is (skill == 0.0), (
        "as good as a leaked label"
    )
    # The planted signal is another one each day: at a cost of 3 % of what is traded nothing is left of it.
    dear = evaluation.evaluate(training, walk.predictions, walk.folds, SMALL.horizon_sessions, [], cost_rate=0.03)
    judged = {gate.name: gate for gate in gates.review(dear, SMALL.gates, parity=True).gates}
    assert not judged["turnover"].passed
    assert f"turnover of {scores.turnover_annual:.0f}" in judged["turnover"].reason
    assert gates.review(scores, SMALL.gates, parity=False).passed is False


def test_an_estimator_that_learnt_nothing_says_so() -> None:
    with pytest.raises(MissingDataError, match="fit it first"):
        Ridge().predict(Rows(np.zeros((1, 2))))


@pytest.mark.parametrize(
    ("retrain", "last"), [("month", date(2022, 11, 30)), ("quarter", date(2022, 9, 30)), ("year", date(2021, 12, 31))]
)
def test_training_reaches_to_the_end_of_the_last_period(retrain: str, last: date) -> None:
    assert training_session(date(2022, 12, 27), retrain) == last


@given(
    moves=st.lists(
        st.tuples(st.integers(0, 40), st.one_of(st.none(), st.integers(1, 9)), st.booleans(), st.integers(-3, 40)),
        max_size=5,
    ),
    day=st.integers(0, 40),
    train_gap=st.integers(-3, 10),
)
def test_a_session_hears_the_champion_of_its_day_or_a_fold_that_saw_only_the_past(
    moves: list[tuple[int, int | None, bool, int]], day: int, train_gap: int
) -> None:
    start = datetime(2022, 1, 3, 21, 30, tzinfo=UTC)
    session, decided = (start + timedelta(days=day)).date(), start + timedelta(days=day)
    appointments = [
        Appointment("m", version, start + timedelta(days=when), passed, date(2022, 1, 3) + timedelta(days=trained))
        for when, version, passed, trained in moves
    ]
    block = date(2022, 1, 10)
    fold = FoldRecord("m", 0, block - timedelta(days=train_gap), block, date(2022, 1, 20), "uri")
    speaker = model_for(session, decided, appointments, [fold])
    effective = [a for a in appointments if a.effective_from <= decided]
    if speaker is None:
        return
    if speaker.fold is None:
        assert effective
        said = [a for a in effective if a.version == speaker.version and a.passed]
        assert any(a.trained_to is not None and a.trained_to < session for a in said)
    else:
        assert not effective
        assert fold.train_to < fold.test_from <= session <= fold.test_to
