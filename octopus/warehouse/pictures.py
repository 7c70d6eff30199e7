"""Pictures of data quality for the catalogue.

Belongs here: drawing findings. Does not: making them (quality.py).
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import polars as pl

from octopus.core.types import FloatArray
from octopus.warehouse.quality import Kind

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
