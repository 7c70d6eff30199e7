"""Pictures of data quality for the catalogue.

Belongs here: drawing findings. Does not: making them (quality.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from textwrap import fill
from typing import Any

import numpy as np
import polars as pl

from octopus.core.types import DateArray, FloatArray
from octopus.warehouse.defects.repair import apply_repair
from octopus.warehouse.quality import Kind, by_urgency

MOST_CLOSE_UPS = 4
AROUND_SESSIONS, LONGEST_SESSIONS = 15, 90
"""Sessions drawn on either side of a finding, and of the finding itself at most."""
LOGARITHMIC = 3.0
"""Prices that differ by more are drawn on a logarithmic scale, where their neighbours stay apart."""
MOST_DRAWN = 60
"""Instruments that have room in the picture."""


def findings_picture(findings: pl.DataFrame, title: str = "Data-quality findings") -> bytes:
    """PNG: findings counted by kind, and for each instrument and year the number of sessions a warning covers.

    Args:
        findings: of `quality.FINDINGS_SCHEMA`.

    Findings that are merely information (a late listing, the price basis) and those about the source as a whole are
    counted on the left and not drawn on the right, where they would cover every cell.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    names, years, covered = coverage(findings)
    warned = len(names)
    if warned > MOST_DRAWN:
        most = np.sort(np.argsort(-covered.sum(axis=1), kind="stable")[:MOST_DRAWN])
        names, covered = [names[row] for row in most.tolist()], covered[most]
    height = max(3.2, 1.4 + 0.26 * len(names))
    figure = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(figure)
    bars, heat = figure.subplots(1, 2, width_ratios=(1, 3))
    figure.suptitle(title)
    _draw_counts(bars, findings)
    if names:
        # Logarithmic and white where there is nothing: one outlier must be seen beside years of rounding.
        shown = np.ma.masked_less_equal(covered, 0)
        image = heat.imshow(shown, aspect="auto", cmap="YlOrRd", norm=LogNorm(1, 300), interpolation="nearest")
        heat.set_yticks(range(len(names)), names)
        ticks = range(0, len(years), max(1, len(years) // 12))
        heat.set_xticks(ticks, [str(years[tick]) for tick in ticks])
        figure.colorbar(image, ax=heat, label="sessions under a warning")
        which = f", the {MOST_DRAWN} of {warned} instruments with most" if warned > MOST_DRAWN else ", by instrument"
        heat.set_title(f"Sessions under a warning by year{which}", fontsize=10)
    else:
        heat.axis("off")
        heat.text(0.5, 0.5, "no warning about an instrument", ha="center", va="center")
    out = BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()


def to_show(findings: pl.DataFrame, most: int = MOST_CLOSE_UPS) -> pl.DataFrame:
    """The findings about an instrument that a person should look at first."""
    of_instruments = findings.filter(pl.col("instrument").is_not_null() & (pl.col("severity") != "info"))
    return by_urgency(of_instruments).head(most)


def close_ups(findings: pl.DataFrame, bars: pl.DataFrame, actions: pl.DataFrame) -> bytes | None:
    """PNG: each finding's suspicious bars among their neighbours, what the proposed repair makes of them, and peers.

    Args:
        findings: of `quality.FINDINGS_SCHEMA`, each with room of its own (see `to_show`).
        bars, actions: as `defects.audit.audit` takes them, of the findings' instruments and of a few others, at least
            `AROUND_SESSIONS` to either side.

    Returns:
        None where no finding's instrument has a bar.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [row for row in findings.iter_rows(named=True) if row["instrument"] in set(bars["instrument"])]
    if not shown:
        return None
    figure = Figure(figsize=(13, 4.2 * ((len(shown) + 1) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots((len(shown) + 1) // 2, 2, squeeze=False).ravel()
    for place, row in zip(axes, shown, strict=False):
        _draw_finding(place, row, bars, actions)
    for place in axes[len(shown) :]:
        place.axis("off")
    out = BytesIO()
    figure.savefig(out, format="png", dpi=90)
    return out.getvalue()


def around(finding: Mapping[str, Any], own: pl.DataFrame) -> pl.DataFrame:
    """The instrument's bars that a finding's picture shows, ascending; ``suspicious``: the finding covers them."""
    own = own.sort("session")
    first = own["session"].search_sorted(finding["session_from"])
    last = own["session"].search_sorted(finding["session_to"], side="right")
    begin = max(0, first - AROUND_SESSIONS)
    end = min(len(own), min(last, first + LONGEST_SESSIONS) + AROUND_SESSIONS)
    covered = pl.col("session").is_between(finding["session_from"], finding["session_to"])
    return own[begin:end].with_columns(suspicious=covered)


def _draw_finding(axes: Any, row: Mapping[str, Any], bars: pl.DataFrame, actions: pl.DataFrame) -> None:
    of_instrument = pl.col("instrument") == row["instrument"]
    own, acts = bars.filter(of_instrument), actions.filter(of_instrument)
    seen = around(row, own)
    days, close = _days(seen), _numbers(seen, "close")
    axes.vlines(days, _numbers(seen, "low"), _numbers(seen, "high"), color="#b0b0b0", linewidth=2, label="low to high")
    peers = _peers(bars.filter(~of_instrument), seen)
    axes.plot(_days(peers), _numbers(peers, "level"), color="#4c72b0", linestyle=":", label="median of others")
    axes.plot(days, close, color="black", linewidth=1, marker=".", label="close as sent")
    under = seen.filter("suspicious")
    axes.plot(_days(under), _numbers(under, "close"), "o", color="#c44e52", label="under the finding")
    axes.axvspan(row["session_from"], row["session_to"], color="#c44e52", alpha=0.12)
    repair = json.loads(row["evidence"]).get("repair")
    if repair is not None:
        mended, acts_then = apply_repair(own, acts, repair)
        changed = mended.join(seen, on="session", suffix="_sent").filter(
            pl.col("close").ne_missing(pl.col("close_sent"))
        )
        axes.plot(_days(changed), _numbers(changed, "close"), "x", color="#55a868", label="close as repaired")
        _draw_actions(axes, acts_then.join(acts, on=["session", "kind", "value"], how="anti"), seen, "#55a868")
    _draw_actions(axes, acts, seen, "#8172b2")
    known = close[close > 0]
    if len(known) and known.max() > LOGARITHMIC * known.min():
        axes.set_yscale("log")
    _write(axes, row, has_repair=repair is not None)


def _days(frame: pl.DataFrame) -> DateArray:
    return frame["session"].to_numpy().astype("datetime64[D]")


def _numbers(frame: pl.DataFrame, name: str) -> FloatArray:
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _draw_actions(axes: Any, actions: pl.DataFrame, seen: pl.DataFrame, colour: str) -> None:
    """Splits and dividends of the sessions that are drawn, with what they say."""
    for action in actions.join(seen.select("session"), on="session", how="semi").iter_rows(named=True):
        axes.axvline(action["session"], color=colour, linewidth=1)
        axes.annotate(
            f"{action['kind']} {action['value']:g}", (action["session"], 0.02), xycoords=("data", "axes fraction"),
            rotation=90, fontsize=7, color=colour,
        )  # fmt: skip


def _write(axes: Any, row: Mapping[str, Any], *, has_repair: bool) -> None:
    """What it is, what to do, and the command that decides."""
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)
    choices = "repair|keep|hold" if has_repair else "keep|hold"
    command = f"octopus quality decide {row['finding_id'][:12]} {choices} --reason '...'"
    axes.set_title(f"{row['severity']}: {row['kind'].replace('_', ' ')}\n{fill(row['message'], 90)}", fontsize=8)
    axes.set_xlabel(f"{fill(row['remedy'], 95)}\n{command}", fontsize=7)


def _peers(others: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """The median of the other instruments' closes over these sessions, on the first close's level."""
    start = seen["close"].drop_nulls().head(1)
    within = others.filter(pl.col("session").is_in(seen["session"].to_list())).sort("instrument", "session")
    if start.is_empty() or within.is_empty():
        return pl.DataFrame(schema={"session": pl.Date, "level": pl.Float64})
    move = pl.col("close") / pl.col("close").first().over("instrument")
    return (
        within.with_columns(move=move).group_by("session").agg(level=pl.col("move").median() * start[0]).sort("session")
    )


def coverage(findings: pl.DataFrame) -> tuple[list[str], list[int], FloatArray]:
    """Business days under a warning: instruments, years, and counts of shape (instruments, years).

    A day that two warnings cover counts twice.
    """
    warned = findings.filter(pl.col("instrument").is_not_null() & (pl.col("severity") != "info"))
    names = warned["instrument"].unique().sort().to_list()
    if not names:
        return [], [], np.zeros((0, 0))
    begun, ended = (warned[column].to_numpy().astype("datetime64[D]") for column in ("session_from", "session_to"))
    starts = np.arange(begun.min().astype("datetime64[Y]"), ended.max().astype("datetime64[Y]") + 2)
    edges = starts.astype("datetime64[D]")
    first = np.maximum(edges[:-1], begun[:, None])
    after = np.maximum(first, np.minimum(edges[1:], ended[:, None] + 1))
    counts = np.zeros((len(names), len(edges) - 1))
    rows = warned["instrument"].replace_strict(names, list(range(len(names))), return_dtype=pl.Int64).to_numpy()
    np.add.at(counts, rows, np.busday_count(first, after))
    return names, (starts[:-1].astype(int) + 1970).tolist(), counts


def _draw_counts(axes, findings: pl.DataFrame) -> None:  # type: ignore[no-untyped-def]
    found = dict(findings["kind"].value_counts().iter_rows())
    counts = {kind.value.replace("_", " "): found[kind.value] for kind in Kind if kind.value in found}
    drawn = axes.barh(list(counts), list(counts.values()), color="#4c72b0")
    axes.bar_label(drawn, padding=3)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_title(f"{len(findings)} findings by kind", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
