"""Pictures of data quality for the catalogue.

Belongs here: drawing findings. Does not: making them (quality.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np

from octopus.core.types import FloatArray
from octopus.warehouse.quality import Finding, Kind


def findings_picture(findings: Sequence[Finding], title: str = "Data-quality findings") -> bytes:
    """PNG: findings counted by kind, and for each instrument and year the number of sessions a warning covers.

    Findings that are merely information (a late listing, the price basis) and those about the source as a whole are
    counted on the left and not drawn on the right, where they would cover every cell.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    names, years, covered = coverage(findings)
    height = max(3.2, 1.4 + 0.26 * len(names))
    figure = Figure(figsize=(12, height), layout="constrained")
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
        heat.set_title("Sessions under a warning, by instrument and year", fontsize=10)
    else:
        heat.axis("off")
        heat.text(0.5, 0.5, "no warning about an instrument", ha="center", va="center")
    out = BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()


def coverage(findings: Sequence[Finding]) -> tuple[list[str], list[int], FloatArray]:
    """Business days under a warning: instruments, years, and counts of shape (instruments, years).

    A day that two warnings cover counts twice.
    """
    warned = [f for f in findings if f.instrument is not None and f.severity.value != "info"]
    names = sorted({f.instrument for f in warned if f.instrument is not None})
    if not names:
        return [], [], np.zeros((0, 0))
    years = list(range(min(f.session_from.year for f in warned), max(f.session_to.year for f in warned) + 1))
    counts = np.zeros((len(names), len(years)))
    starts = np.array([f"{year}-01-01" for year in [*years, years[-1] + 1]], dtype="datetime64[D]")
    for finding in warned:
        first = np.maximum(starts[:-1], np.datetime64(finding.session_from, "D"))
        after = np.minimum(starts[1:], np.datetime64(finding.session_to, "D") + 1)
        counts[names.index(str(finding.instrument))] += np.maximum(np.busday_count(first, np.maximum(first, after)), 0)
    return names, years, counts


def _draw_counts(axes, findings: Sequence[Finding]) -> None:  # type: ignore[no-untyped-def]
    kinds = [kind for kind in Kind if any(f.kind is kind for f in findings)]
    counts = [sum(f.kind is kind for f in findings) for kind in kinds]
    drawn = axes.barh([kind.value.replace("_", " ") for kind in kinds], counts, color="#4c72b0")
    axes.bar_label(drawn, padding=3)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_title(f"{len(findings)} findings by kind", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
