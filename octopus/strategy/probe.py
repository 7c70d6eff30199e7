"""The look-ahead probe: what is computed of a panel must not change when its future does.

Belongs here: cutting the future off, replacing it by noise, and naming what changed. Does not: what is probed.

Something may survive the cut by treating an end as an end, and the noise by looking where nothing is; a change of one
bit counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from octopus.core.errors import OctopusError
from octopus.core.panel import Panel
from octopus.core.types import BoolArray, FloatArray
from octopus.strategy.catalogue import rule_signals, speaking_extensions
from octopus.strategy.config import StrategyConfig
from octopus.strategy.feature_sets import compute_chosen
from octopus.strategy.features import FeatureCube

_PROBED = 4
_NOISE_SESSIONS = 5
_NOISY = ("close", "total_return", "open", "high", "low", "volume", "sentiment", "dividend")


class LookAheadError(OctopusError):
    """A strategy knows the future: what it earned in the past, nobody could have."""


def probed_rows(panel: Panel) -> list[int]:
    """The ends of a panel's quarters, the last one left out, for nothing follows it."""
    last = len(panel.sessions) - 1
    return sorted({last * part // _PROBED for part in range(1, _PROBED)})


def look_ahead(panel: Panel, cube: FeatureCube, row: int, seed: int = 7) -> tuple[str, ...]:
    """Features of ``cube`` whose values on ``row`` depend on later sessions, or on those before the longest window.

    Args:
        cube: features of ``panel``, all or some. row: not negative.
    """
    wanted = cube.values[row]
    told = [
        compute_chosen(one, cube.names, len(one.sessions) - row).values[0] for one in _other_futures(panel, row, seed)
    ]
    same = np.logical_and.reduce([_same(one, wanted).all(axis=0) for one in told])
    return tuple(name for name, equal in zip(cube.names, same, strict=True) if not equal)


def strategies_that_look_ahead(
    panel: Panel, config: StrategyConfig, signals: Mapping[str, FloatArray], rows: list[int], seed: int = 7
) -> tuple[str, ...]:
    """Strategies whose ``signals``, as `rule_signals` gave them, depend on sessions that were still to come.

    Args:
        rows: that are asked one after the other; every score up to a row is compared.
    """
    found = set()
    for row in rows:
        for other in _other_futures(panel, row, seed):
            for name, values in rule_signals(other, config).items():
                if name in signals and not _same(values[: row + 1], signals[name][: row + 1]).all():
                    found.add(name)
    return tuple(sorted(found))


def refuse_look_ahead(panel: Panel, config: StrategyConfig) -> None:
    """Strategies of other packages are probed before they are believed; Octopus' own are probed by its tests.

    Raises:
        LookAheadError: naming those that know the future.
    """
    names = speaking_extensions(config)
    if not names:
        return
    given = {name: values for name, values in rule_signals(panel, config).items() if name in names}
    found = strategies_that_look_ahead(panel, config, given, probed_rows(panel))
    if found:
        raise LookAheadError(
            f"strategy {', '.join(found)} looks ahead: its scores change when later sessions are cut off or replaced "
            "by noise; let row t use rows up to t alone"
        )


def _other_futures(panel: Panel, row: int, seed: int) -> Iterator[Panel]:
    """The sessions up to ``row`` with nothing after them, and with noise."""
    known = panel.rows(0, row + 1)
    yield known
    yield _with_noise(known, panel.rows(row + 1, row + 1 + _NOISE_SESSIONS), seed)


def _same(left: FloatArray, right: FloatArray) -> BoolArray:
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))


def _with_noise(known: Panel, later: Panel, seed: int) -> Panel:
    """``known`` followed by as many sessions as ``later`` has, their values drawn at random."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for item in fields(Panel):
        value = getattr(known, item.name)
        if not isinstance(value, np.ndarray):
            continue
        after = getattr(later, item.name)
        if item.name in _NOISY:
            after = np.exp(generator.normal(size=after.shape))
        elif item.name == "member":
            after = generator.random(after.shape) < 0.5
        arrays[item.name] = np.concatenate([value, after])
    return replace(known, **arrays)
