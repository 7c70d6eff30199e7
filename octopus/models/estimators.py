"""The models by name: Octopus' own and those that other packages bring.

Belongs here: finding a model's class, making one from the settings, reading one back from its bytes. Does not: the
models.

A module of another package is imported only when its model is named in the settings or in stored bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from octopus.core.errors import ConfigError
from octopus.models.base import Estimator
from octopus.models.blend import Ensemble
from octopus.models.config import ModelConfig
from octopus.models.linear import ElasticNet, Ridge
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
    offered: list[EntryPoint | type[Estimator]] = list(entry_points(group=GROUP, name=name))
    if name in BUILT_IN:
        offered.insert(0, BUILT_IN[name])
    if not offered:
        known = sorted({*BUILT_IN, *entry_points(group=GROUP).names})
        raise _refused(name, f"use one of {', '.join(known)}, or install the package that brings it")
    if len({one.__name__ if isinstance(one, type) else one.value for one in offered}) > 1:
        raise _refused(name, "several packages offer a model of that name; uninstall one or rename its entry point")
    first = offered[0]
    return first if isinstance(first, type) else _loaded(first)


def _loaded(point: EntryPoint) -> type[Estimator]:
    try:
        kind = point.load()
    except (ImportError, AttributeError) as error:
        raise _refused(point.name, f"{point.value} cannot be imported ({error}); mend or reinstall it") from error
    if not (isinstance(kind, type) and issubclass(kind, Estimator)):
        raise _refused(point.name, f"{point.value} is no class derived from octopus.models.base.Estimator")
    if getattr(kind, "name", None) != point.name:
        raise _refused(point.name, f"{point.value} calls itself otherwise; give the class name = {point.name!r}")
    return kind


def make(name: str, config: ModelConfig, chosen: Mapping[str, Any] | None = None) -> Estimator:
    """A new model by name.

    Args:
        chosen: settings that take the place of the configured ones, as a search chose them.

    Raises:
        ConfigError: there is no such model, or a setting is wrong.
    """
    kind = find(name)
    try:
        settings = kind.Settings.model_validate({**config.settings_of(name), **(chosen or {})})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            where=f"models, settings of {name}", field=".".join(str(part) for part in first["loc"]),
            value=first["input"], remedy=first["msg"],
        ) from error  # fmt: skip
    return kind.create(settings, config.seed, lambda member: make(member, config))


def estimator_from_bytes(content: bytes) -> Estimator:
    """The fitted model that `Estimator.to_bytes` wrote."""
    if content.startswith(b"{"):  # a ridge regression of before models had names in their bytes
        saved = json.loads(content)
        plain = {"settings": {"penalty": saved["penalty"]}, "weights": saved["weights"]}
        return Ridge.restored(json.dumps(plain).encode())
    name, _, learnt = content.partition(b"\n")
    return find(name.decode()).restored(learnt)


def _refused(name: str, remedy: str) -> ConfigError:
    return ConfigError(where="models", field="estimator", value=name, remedy=remedy)
