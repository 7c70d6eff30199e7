"""Meta-labels by configuration: a model of whether a signal pays, and the bets that follow from both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assets import inputs
from octopus.core.errors import ConfigError, MissingDataError
from octopus.decision import DecisionConfig, prepare
from octopus.models import evaluation, walkforward
from octopus.models.config import LabelConfig, ModelConfig
from octopus.models.estimators import estimator_from_bytes, make
from octopus.models.labels import Barriers, meta_labels
from octopus.models.meta import bets
from octopus.models.training import build
from octopus.strategy.config import StrategyConfig
from resources.settings import StrategiesFile, load_settings
from tests.models.small import persistent_panel

META = ModelConfig(
    label=LabelConfig(kind="meta", primary="momentum"), estimators=("ridge",), train_min_sessions=300, test_sessions=126
)


@pytest.fixture(scope="module")
def ready():
    sessions = np.busday_offset("2015-01-05", np.arange(800)).astype("datetime64[D]")
    strategy = StrategyConfig.model_validate({"momentum": {"lookback_sessions": 42, "skip_sessions": 0}})
    return prepare(persistent_panel(sessions), DecisionConfig(strategy=strategy))


def training(ready, config=META):
    nothing = np.zeros(ready.panel.close.shape, dtype=bool)
    return build(ready.panel, ready.features.names, ready.features.values, config, nothing, ready.signals)


def test_labels_are_about_the_configured_signal(ready) -> None:
    taught = training(ready)
    wanted = meta_labels(ready.panel, ready.signals["momentum"], Barriers(META.horizon_sessions)).where(taught.usable)
    assert np.array_equal(taught.labels, wanted.values, equal_nan=True)
    assert set(np.unique(taught.labels[np.isfinite(taught.labels)])) == {0.0, 1.0}
    with pytest.raises(MissingDataError, match="whether pairs pays, which is not among the signals"):
        training(ready, META.model_copy(update={"label": LabelConfig(kind="meta", primary="pairs")}))


def test_the_spread_is_of_the_bets_and_the_model_serves_what_was_measured(ready) -> None:
    taught = training(ready)
    walk = walkforward.run(taught, META, lambda past: make("ridge", META))
    side = np.sign(ready.signals["momentum"])
    said = taught.opinions(walk.predictions)
    known = np.isfinite(said)
    assert known.any()
    assert (said[known] * side[known] >= 0).all(), "a bet follows the signal or is none"
    plain = replace(taught, side=None)
    assert np.array_equal(
        evaluation.spread_returns(taught, walk.predictions), evaluation.spread_returns(plain, said), equal_nan=True
    )
    model = estimator_from_bytes(walk.estimators[-1].to_bytes())
    assert (model.primary, model.name) == ("momentum", "meta")
    rows = np.arange(walk.folds[-1].test_start, walk.folds[-1].test_stop)
    served = inputs.opinions(model, ready, rows)
    inside = taught.usable[rows]
    assert np.array_equal(served[inside], said[rows][inside], equal_nan=True)
    with pytest.raises(MissingDataError, match="whether momentum pays"):
        inputs.opinions(model, replace(ready, signals={}), rows)


def test_the_size_of_a_bet() -> None:
    likely = np.array([0.5, 0.3, 0.8, 0.8, 1.2, 0.8, 0.8])
    side = np.array([1.0, 1.0, 2.0, -0.1, -1.0, 0.0, np.nan])
    size = 2 * 0.7733726476231317 - 1  # the normal distribution at 0.3 / 0.4
    np.testing.assert_allclose(bets(likely, side), [0, 0, size, -size, -1, np.nan, np.nan], atol=1e-12)


def test_what_cannot_be_is_refused_and_other_labels_keep_their_fingerprint() -> None:
    for section in ({"kind": "meta"}, {"primary": "momentum"}):
        with pytest.raises(ValueError, match="name a signal for kind meta, and none otherwise"):
            LabelConfig.model_validate(section)
    with pytest.raises(ConfigError, match=r"label: .kind: meta"):
        make("meta", META)
    assert "primary" not in LabelConfig(kind="triple_barrier").model_dump()
    file = load_settings({"OCTOPUS_HOME": "/nowhere"}).strategies
    for primary, accepted in (("mean_reversion", True), ("model", False), ("pairs", False)):
        content = file.model_dump(mode="json")
        content["models"]["label"] = {"kind": "meta", "primary": primary}
        if accepted:
            assert StrategiesFile.model_validate(content).models.label.primary == primary
        else:
            with pytest.raises(ValueError, match="name a signal that speaks: mean_reversion, momentum, sentiment"):
                StrategiesFile.model_validate(content)
