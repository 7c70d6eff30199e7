"""The strategies by name: Octopus' own and those that other packages bring.

Belongs here: finding a strategy, reading its settings, asking all that are configured for their scores. Does not: the
strategies (signals.py, pairs.py), whether they look ahead (probe.py).

A module of another package is imported only when its strategy has a weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from octopus.core.errors import ConfigError, OctopusError
from octopus.core.offers import find_offer, load_offer, names_offered, package_of
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.strategy import pairs, signals
from octopus.strategy.base import Strategy
from octopus.strategy.config import MeanReversionConfig, MomentumConfig, PairsConfig, SentimentConfig, StrategyConfig

GROUP = "octopus.strategies"
"""Entry points of other packages: name = "package.module:STRATEGY"."""
BUILT_IN: Mapping[str, Strategy] = {
    one.name: one
    for one in (
        Strategy("momentum", signals.momentum, MomentumConfig),
        Strategy("mean_reversion", signals.mean_reversion, MeanReversionConfig),
        Strategy("sentiment", lambda panel, _: signals.sentiment(panel), SentimentConfig),
        Strategy("pairs", pairs.pairs, PairsConfig),
    )
}
ALWAYS = ("momentum", "mean_reversion", "sentiment")
"""Shown every day, whether they have a weight or not."""
_NO_SETTING = "there is no such setting; there are {}"


class StrategyError(OctopusError):
    """A strategy of another package did not give what it must; the message names it and the remedy."""


def known_strategies(config: StrategyConfig) -> tuple[str, ...]:
    """Every strategy that can be asked: Octopus' own, those in the settings and those that installed packages offer."""
    return (*BUILT_IN, *sorted({*config.extensions, *names_offered(GROUP)} - set(BUILT_IN)))


def find(name: str) -> Strategy:
    """The strategy ``name``.

    Raises:
        ConfigError: nobody offers it, several do, or what is offered is no strategy.
    """
    offer = find_offer(GROUP, name, BUILT_IN, _refused)
    if isinstance(offer, Strategy):
        return offer
    made = load_offer(offer, _refused)
    if not isinstance(made, Strategy):
        raise _refused(name, f"{offer.value} is no octopus.strategy.base.Strategy")
    if made.name != name:
        raise _refused(name, f"{offer.value} is called {made.name!r}; give it the name of its entry point")
    return made


def settings_of(name: str, config: StrategyConfig) -> BaseModel:
    """What is set for ``name``, with its own defaults for the rest.

    Raises:
        ConfigError: there is no such strategy or setting, or the setting has a wrong value.
    """
    if name in BUILT_IN:
        chosen: BaseModel = getattr(config, name)
        return chosen
    kind, given = find(name).Settings, config.extensions[name].settings if name in config.extensions else {}
    where = f"strategy, extensions.{name}"
    if kind.model_config.get("extra") != "allow":
        for field in sorted(set(given) - set(kind.model_fields)):
            known = _NO_SETTING.format(", ".join(sorted(kind.model_fields)) or "none")
            raise ConfigError(where=where, field=field, value=given[field], remedy=known)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            where=where,
            field=".".join(map(str, first["loc"])),
            value=first["input"],
            remedy=first["msg"].removeprefix("Value error, "),
        ) from error


def rule_signals(panel: Panel, config: StrategyConfig) -> dict[str, FloatArray]:
    """The signals that need no model, by name, each of shape (T, N).

    Raises:
        ConfigError: as `settings_of`. StrategyError: a strategy of another package broke off or gave something else.
    """
    weights = config.weights()
    own = {name: BUILT_IN[name].scores(panel, getattr(config, name))
           for name in BUILT_IN if name in ALWAYS or weights[name] > 0}  # fmt: skip
    return own | {name: _asked(name, panel, config) for name in speaking_extensions(config)}


def speaking_extensions(config: StrategyConfig) -> tuple[str, ...]:
    """Strategies of other packages that have a weight."""
    return tuple(sorted(name for name, one in config.extensions.items() if one.weight > 0))


def record(config: StrategyConfig) -> dict[str, Any]:
    """The settings as plain values, with all that shapes a strategy of another package: every setting that it has, and
    the version of its package. What was not set and what is set to its default are the same; without such strategies it
    is the settings themselves.
    """
    told: dict[str, Any] = config.model_dump(mode="json")
    for name in speaking_extensions(config):
        told["extensions"][name] = {
            "weight": config.extensions[name].weight, **settings_of(name, config).model_dump(mode="json"),
            "package": _package(name),
        }  # fmt: skip
    return told


def _package(name: str) -> str:
    return package_of(find_offer(GROUP, name, BUILT_IN, _refused))


def _asked(name: str, panel: Panel, config: StrategyConfig) -> FloatArray:
    """Scores of a strategy that is not ours: asked with arrays that it cannot write to, and not believed blindly."""
    strategy, chosen = find(name), settings_of(name, config)
    try:
        scores = np.asarray(strategy.scores(_read_only(panel), chosen), dtype=np.float64)
    except OctopusError:
        raise
    except Exception as error:
        raise StrategyError(
            f"strategy {name} ({_package(name)}) broke off: {type(error).__name__}: {error}; mend it, or set "
            "its weight to 0"
        ) from error
    if scores.shape != panel.close.shape:
        raise StrategyError(
            f"strategy {name} gave scores of shape {scores.shape}, expected {panel.close.shape}: one for each session "
            "and instrument"
        )
    if np.isinf(scores).any():
        raise StrategyError(f"strategy {name} gave {int(np.isinf(scores).sum())} infinite scores; NaN abstains")
    return np.where(panel.member, np.clip(scores, -signals.CLIP, signals.CLIP), np.nan)


def _read_only(panel: Panel) -> Panel:
    views: dict[str, Any] = {}
    for item in fields(panel):
        value = getattr(panel, item.name)
        if isinstance(value, np.ndarray):
            views[item.name] = value.view()
            views[item.name].flags.writeable = False
    return replace(panel, **views)


def _refused(name: str, remedy: str) -> ConfigError:
    return ConfigError(where="strategy", field="name", value=name, remedy=remedy)
