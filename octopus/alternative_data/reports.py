"""What a source of texts is worth: how much it covers, how late it is, and how long its tone tells anything.

Belongs here: measures of one source, and their picture. Does not: storing them, choosing sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO

import numpy as np
import polars as pl

from octopus.alternative_data.daily import DailyTexts
from octopus.alternative_data.duplicates import require_columns
from octopus.core.errors import MissingDataError
from octopus.core.ids import canonical_json
from octopus.core.stats import hac_t_statistic, rank_correlation
from octopus.core.types import BoolArray, DateArray, FloatArray

HORIZONS = tuple(range(1, 11))
QUANTILES = (0.5, 0.9, 0.99)
LEAST_PAIRS = 5


@dataclass(frozen=True)
class Latency:
    """Seconds between two stamps at the quantiles of `QUANTILES`; NaN where no item has both.

    Attributes:
        known: from what the text is about (``ts``) to when it could be known (``known_at``).
        stored: from then to when we had it (``ingested_at``); years, where a recording is read.
        imputed: share of items whose ``known_at`` is imputed.
    """

    known: tuple[float, ...]
    stored: tuple[float, ...]
    imputed: float


@dataclass(frozen=True)
class HorizonIc:
    """Mean rank correlation of a session's tone with the return over the ``horizon`` sessions that could be earned.

    Attributes:
        t_stat: of the mean, Newey–West with ``horizon`` lags, because the returns of neighbouring sessions overlap.
        sessions: with a correlation.
    """

    horizon: int
    mean: float
    t_stat: float
    sessions: int


@dataclass(frozen=True, eq=False)
class SourceReport:
    """One source of texts.

    Attributes:
        coverage: share of member instruments with a text, by session, shape (T,); NaN without a member.
        share_covered: the same over all instruments × sessions.
    """

    source: str
    items: int
    sessions: DateArray
    coverage: FloatArray
    share_covered: float
    latency: Latency
    ic: tuple[HorizonIc, ...]


def source_report(
    source: str,
    items: pl.DataFrame,
    texts: DailyTexts,
    member: BoolArray,
    total_return: FloatArray,
    horizons: Sequence[int] = HORIZONS,
) -> SourceReport:
    """Measure one source.

    Args:
        items: of the source, with ``ts``, ``known_at``, ``known_at_imputed`` and, where stored, ``ingested_at``.
        texts: their aggregates. member, total_return: of the panel, of the same shape (T, N).

    Raises:
        MissingDataError: a column is missing, or the shapes differ.
    """
    for name, value in (("member", member), ("total_return", total_return)):
        if value.shape != texts.count.shape:
            raise MissingDataError(
                f"report of {source}: {name} has shape {value.shape}, expected {texts.count.shape}; align it with them"
            )
    covered = (texts.count > 0) & member
    with np.errstate(divide="ignore", invalid="ignore"):
        by_session = np.where(member.any(axis=1), covered.sum(axis=1) / member.sum(axis=1), np.nan)
    share = float(covered.sum() / member.sum()) if member.any() else float("nan")
    ic = information_decay(np.where(member, texts.sentiment, np.nan), total_return, horizons)
    return SourceReport(source, items.height, texts.sessions, by_session, share, latency(items), ic)


def latency(items: pl.DataFrame) -> Latency:
    """How late the items are known and stored."""
    require_columns(items, ("ts", "known_at", "known_at_imputed"))
    stored = pl.col("ingested_at") - pl.col("known_at") if "ingested_at" in items.columns else pl.lit(None, pl.Duration)
    waits = items.select(
        known=(pl.col("known_at") - pl.col("ts")).dt.total_microseconds(), stored=stored.dt.total_microseconds()
    )
    imputed = items["known_at_imputed"].mean()
    return Latency(
        _quantiles(waits["known"]),
        _quantiles(waits["stored"]),
        float(imputed) if isinstance(imputed, float) else float("nan"),
    )


def _quantiles(waits: pl.Series) -> tuple[float, ...]:
    found = [waits.quantile(level, "higher") for level in QUANTILES]
    return tuple(float("nan") if value is None else value / 1e6 for value in found)


def information_decay(
    sentiment: FloatArray, total_return: FloatArray, horizons: Sequence[int] = HORIZONS
) -> tuple[HorizonIc, ...]:
    """Rank correlation of each session's tone with later returns, by horizon.

    A tone known by T's decision is traded at the close of T+1, so its return runs from there to the close of
    T+1+horizon: the return of T to T+1 is nobody's. Sessions with fewer than five instruments that have both are left
    out.

    Args:
        sentiment: known by the session's decision, shape (T, N). total_return: simple return to the session's close
            from the bar before, shape (T, N); NaN without a bar.
    """
    return tuple(_ic(sentiment, total_return, horizon) for horizon in horizons)


def _ic(sentiment: FloatArray, total_return: FloatArray, horizon: int) -> HorizonIc:
    reach = len(total_return) - 1 - horizon
    if reach < 1:
        return HorizonIc(horizon, float("nan"), float("nan"), 0)
    # Without a bar in T+1 nobody could enter there.
    growth = np.where(np.isnan(total_return[1 : 1 + reach]), np.nan, 1.0)
    for step in range(horizon):
        growth = growth * (1.0 + total_return[2 + step : 2 + step + reach])
    found = rank_correlation(sentiment[:reach], growth - 1.0, least=LEAST_PAIRS)
    known = found[~np.isnan(found)]
    mean = float(known.mean()) if len(known) else float("nan")
    return HorizonIc(horizon, mean, hac_t_statistic(known, horizon), len(known))


REPORT_SCHEMA = pl.Schema(
    {
        "source": pl.String(), "item_kind": pl.String(), "session": pl.Date(), "items": pl.Int64(),
        "share_covered": pl.Float64(), "copies": pl.Float64(), "bursts": pl.Float64(), "known_after_s": pl.Float64(),
        "stored_after_s": pl.Float64(), "ic": pl.String(),
    }
)  # fmt: skip
"""Rows of ops.text_source_reports; the latencies are medians."""


def report_row(report: SourceReport, item_kind: str, items: pl.DataFrame, session: date) -> dict[str, object]:
    """One row of `REPORT_SCHEMA`.

    Args:
        items: of the source, with ``copy`` and ``burst``. session: up to which it was measured.
    """
    decay = [
        {"horizon": one.horizon, "ic": _number(one.mean), "t": _number(one.t_stat), "sessions": one.sessions}
        for one in report.ic
    ]
    return {
        "source": report.source,
        "item_kind": item_kind,
        "session": session,
        "items": report.items,
        "share_covered": _number(report.share_covered),
        "copies": items.select(pl.col("copy").mean()).item(),
        "bursts": items.select(pl.col("burst").mean()).item(),
        "known_after_s": _number(report.latency.known[0]),
        "stored_after_s": _number(report.latency.stored[0]),
        "ic": canonical_json(decay),
    }


def _number(value: float) -> float | None:
    """NaN is no number in JSON and in PostgreSQL's averages."""
    return float(value) if np.isfinite(value) else None


def report_picture(report: SourceReport) -> bytes:
    """PNG: coverage over time, and the information coefficient by horizon with its 95 % interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    known, stored = (_spoken(waits[0]) for waits in (report.latency.known, report.latency.stored))
    figure.suptitle(f"{report.source}: {report.items:,} items, known after {known}, stored after {stored} (medians)")
    left.fill_between(
        report.sessions.astype("datetime64[s]"), 100 * report.coverage, step="mid", color="#4c72b0", alpha=0.7
    )
    # From a month before the first text: decades of prices without any would hide the rest.
    days = report.sessions.astype("datetime64[s]")
    begun = max(int(np.argmax(report.coverage > 0)) - 21, 0)
    left.set(ylim=(0, 100), xlim=(days[begun], days[-1]), ylabel="% of instruments")
    left.set_title(f"Instruments with a text, {report.share_covered:.2%} of all sessions of the prices", fontsize=10)
    _draw_decay(right, report.ic)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()


def _draw_decay(axes, decay: Sequence[HorizonIc]) -> None:  # type: ignore[no-untyped-def]
    drawn = [one for one in decay if np.isfinite(one.t_stat) and one.t_stat != 0]
    # The half-width of the interval, from the t-statistic: mean / t is the standard error.
    bars = [1.96 * abs(one.mean / one.t_stat) for one in drawn]
    axes.axhline(0, color="black", linewidth=0.8)
    axes.errorbar(
        [one.horizon for one in drawn], [one.mean for one in drawn], yerr=bars, fmt="o", color="#c44e52", capsize=3
    )
    if not drawn:
        axes.set(xticks=[], yticks=[])
        said = "no session has enough texts\nthat were there to be read"
        axes.text(0.5, 0.6, said, transform=axes.transAxes, ha="center", color="dimgray")
    axes.set(xlabel="sessions held")
    axes.set_title("Rank correlation of tone and return, 95 %", fontsize=10)


def _spoken(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "?"
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} seconds"
