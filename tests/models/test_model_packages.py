"""A model of another package is found by its entry point, and a broken offer is refused with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from octopus.core.errors import ConfigError
from octopus.models.config import ModelConfig
from octopus.models.estimators import estimator_from_bytes, make
from tests.models.small import install_package
from tests.models.test_walk_forward_models import training_set


def test_a_model_of_another_package_is_made_by_name_with_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_package(tmp_path, "tiny = tiny_models:Tiny")
    monkeypatch.syspath_prepend(tmp_path)
    model = make("tiny", ModelConfig(extensions={"tiny": {"scale": 2.0}}))
    rows = training_set(1.0).rows(0, 400)
    model.fit(rows)
    assert model.settings.scale == 2.0
    assert (estimator_from_bytes(model.to_bytes()).predict(rows) == model.predict(rows)).all()
    with pytest.raises(ConfigError, match=r"settings of tiny: scale = 'much': Input should be a valid number"):
        make("tiny", ModelConfig(extensions={"tiny": {"scale": "much"}}))


@pytest.mark.parametrize(
    ("points", "name", "said"),
    [
        ("tiny = tiny_models:Tiny\nother = tiny_models:Other", "other", "no class derived from"),
        ("gone = tiny_models:Gone", "gone", "cannot be imported"),
        ("ridge = tiny_models:Tiny", "ridge", "several packages offer one of that name"),
        ("small = tiny_models:Tiny", "small", "give the class name = 'small'"),
        ("tiny = tiny_models:Tiny", "tinny", "use one of .*tiny.* or install the package"),
    ],
)
def test_a_broken_offer_is_refused(
    points: str, name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_package(tmp_path, points)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=f"estimator = '{name}': .*{said}"):
        make(name, ModelConfig())
