"""Pictures of the account for people who watch it.

Belongs here: drawing. Does not: computing what is drawn (nav.py).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date

import numpy as np


def nav_picture(sessions: Sequence[date], nav: Sequence[float]) -> bytes:
    """The account's NAV by session, as PNG.

    Args:
        sessions: ascending. nav: closing NAV, account currency, as long as ``sessions``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot(
        np.array(sessions, dtype="datetime64[D]"),
        list(nav),
        color="#1f5f8b",
        marker="o" if len(nav) < 40 else None,
        linewidth=1.6,
    )
    axes.set_title("Net asset value")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", rotation=30)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
