"""The models by name: Octopus' own and those that other packages bring.

Belongs here: finding a model's class, making one from the settings, reading one back from its bytes. Does not: the
models.

A module of another package is imported only when its model is named in the settings or in stored bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from octopus.core.errors import ConfigError
from octopus.core.offers import find_offer, load_offer
from octopus.models.base import Estimator
from octopus.models.blend import Ensemble
from octopus.models.config import ModelConfig
from octopus.models.linear import ElasticNet, Ridge
from octopus.models.meta import Meta
from octopus.models.seasonal import Prophet
from octopus.models.trees import LightGBM, XGBoost

GROUP = "octopus.models"
"""Entry points of other packages: name = "package.module:Class"."""
BUILT_IN: Mapping[str, type[Estimator]] = {
    kind.name: kind for kind in (Ridge, ElasticNet, XGBoost, LightGBM, Prophet, Ensemble)
}


def find(name: str) -> type[Estimator]:
    """The class of the model ``name``.

    Raises:
        ConfigError: nobody offers it, several do, or what is offered is no model.
    """
    offer = find_offer(GROUP, name, BUILT_IN, _refused)
    if isinstance(offer, type):
        return offer
    kind = load_offer(offer, _refused)
    if not (isinstance(kind, type) and issubclass(kind, Estimator)):
        raise _refused(name, f"{offer.value} is no class derived from octopus.models.base.Estimator")
    if getattr(kind, "name", None) != name:
        raise _refused(name, f"{offer.value} calls itself otherwise; give the class name = {name!r}")
    return kind


def make(name: str, config: ModelConfig, chosen: Mapping[str, Any] | None = None) -> Estimator:
    """A new model by name; with meta-labels, one that knows which signal it learns about.

    Args:
        chosen: settings that take the place of the configured ones, as a search chose them.

    Raises:
        ConfigError: there is no such model, or a setting is wrong.
    """
    if name == Meta.name:
        raise _refused(name, "name the model that is to learn it, and set label: {kind: meta, primary: momentum}")
    model = _made(name, config, chosen)
    primary = config.label.primary if config.label.kind == "meta" else None
    return model if primary is None else Meta(seed=config.seed, model=model, primary=primary)


def _made(name: str, config: ModelConfig, chosen: Mapping[str, Any] | None = None) -> Estimator:
    kind = find(name)
    try:
        settings = kind.Settings.model_validate({**config.settings_of(name), **(chosen or {})})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            where=f"models, settings of {name}", field=".".join(str(part) for part in first["loc"]),
            value=first["input"], remedy=first["msg"].removeprefix("Value error, "),
        ) from error  # fmt: skip
    return kind.create(settings, config.seed, lambda member: _made(member, config))


def estimator_from_bytes(content: bytes) -> Estimator:
    """The fitted model that `Estimator.to_bytes` wrote."""
    if content.startswith(b"{"):  # a ridge regression of before models had names in their bytes
        saved = json.loads(content)
        plain = {"settings": {"penalty": saved["penalty"]}, "weights": saved["weights"]}
        return Ridge.restored(json.dumps(plain).encode())
    name, _, learnt = content.partition(b"\n")
    return (Meta if name == Meta.name.encode() else find(name.decode())).restored(learnt)


def _refused(name: str, remedy: str) -> ConfigError:
    return ConfigError(where="models", field="estimator", value=name, remedy=remedy)
