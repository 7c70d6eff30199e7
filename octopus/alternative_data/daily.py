"""Texts by instrument and session: how many, how new, which tone, and how far they disagree.

Belongs here: pure aggregates over items that are scored already. Does not: scoring, and the mart that a run reads
(dbt_project/models/marts/daily_sentiment.sql), whose decayed score this is where every item is new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl

from octopus.alternative_data.duplicates import require_columns
from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions
from octopus.core.types import DateArray, FloatArray

HALF_LIFE = 5.0
WINDOW = 30


@dataclass(frozen=True, eq=False)
class DailyTexts:
    """Aggregates of T sessions and N instruments, each of shape (T, N).

    Attributes:
        sessions: ``datetime64[D]``, shape (T,). symbols: length N.
        count: items that belong to the session: known after the decision before, by its own decision.
        volume: their novelty added up, so that copies weigh nothing.
        sentiment: mean score over the window, weighted by novelty and by age; NaN where nothing new was said.
        disagreement: standard deviation of the scores under the same weights, in [0, 1]; NaN likewise.
    """

    sessions: DateArray
    symbols: tuple[str, ...]
    count: FloatArray
    volume: FloatArray
    sentiment: FloatArray
    disagreement: FloatArray


def daily_texts(
    items: pl.DataFrame,
    sessions: DateArray,
    symbols: tuple[str, ...],
    calendar: Sessions,
    half_life: float = HALF_LIFE,
    window: int = WINDOW,
) -> DailyTexts:
    """Aggregate scored items; an item that is known later changes no earlier session.

    Args:
        items: ``instrument``, ``known_at`` (UTC), ``score`` in [-1, 1] and, where copies are to weigh less, ``novelty``
            in [0, 1] (`bursts.novelty`); other instruments and later sessions are left out.
        sessions: of ``calendar``, ascending and without a gap, shape (T,). Items of the window before the first count
            with their age.
        half_life: sessions after which an item weighs half. window: sessions after which it weighs nothing.

    Raises:
        MissingDataError: a column is missing, a score is not a number in [-1, 1], or there is no session.
    """
    require_columns(items, ("instrument", "known_at", "score"))
    if not len(sessions):
        raise MissingDataError("daily texts: no session is given; name at least one")
    wrong = items.filter(~pl.col("score").is_between(-1, 1).fill_null(value=False) | pl.col("score").is_nan())
    if not wrong.is_empty():
        raise MissingDataError(f"daily texts: score = {wrong['score'][0]} is outside [-1, 1]; score the items first")
    days = calendar.between(pd.Timestamp(sessions[0]).date() - pd.Timedelta(days=2 * window + 14), sessions[-1].item())
    weight = pl.col("novelty") if "novelty" in items.columns else pl.lit(1.0)
    columns = pl.DataFrame(
        {"instrument": symbols, "column": range(len(symbols))}, schema_overrides={"column": pl.Int64}
    )
    own = items.select("instrument", "known_at", "score", weight=weight).join(columns, on="instrument")
    belongs = calendar.session_of(pd.DatetimeIndex(own["known_at"].to_pandas()))
    rows = np.searchsorted(days, belongs)
    inside = (belongs >= days[0]) & (belongs <= days[-1])
    cells = rows[inside] * len(symbols) + own["column"].to_numpy()[inside]
    new, score = own["weight"].to_numpy()[inside], own["score"].to_numpy()[inside]
    shape = (len(days), len(symbols))
    sums = [
        np.bincount(cells, one, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)
        for one in (np.ones(len(cells)), new, new * score, new * score**2)
    ]
    mass, first, second = (_decayed(one, half_life, window) for one in sums[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(mass > 0, first / mass, np.nan)
        spread = np.sqrt(np.maximum(np.where(mass > 0, second / mass, np.nan) - mean**2, 0.0))
    wanted = np.searchsorted(days, sessions)
    return DailyTexts(sessions, symbols, sums[0][wanted], sums[1][wanted], mean[wanted], spread[wanted])


def _decayed(values: FloatArray, half_life: float, window: int) -> FloatArray:
    """Sum over the last ``window`` rows, each half as heavy per ``half_life`` of age."""
    total = values.copy()
    for age in range(1, min(window, len(values))):
        total[age:] += 0.5 ** (age / half_life) * values[:-age]
    return total
