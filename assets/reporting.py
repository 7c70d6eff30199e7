"""How assets show themselves: metadata that a person wants to see.

Belongs here: turning frames, pictures and reports into Dagster metadata. Does not: drawing (the groups' pure packages
draw).
"""

from __future__ import annotations

import base64

import dagster as dg
import polars as pl

from octopus.core.amounts import plain
from octopus.core.orders import Batch, GateReport


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """A PNG that Dagster's page shows in place."""
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(frame: pl.DataFrame, limit: int = 30) -> dg.MarkdownMetadataValue:
    """The first ``limit`` rows of ``frame`` as a Markdown table."""
    with pl.Config(
        tbl_formatting="MARKDOWN", tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
        tbl_rows=limit, tbl_cols=-1, fmt_str_lengths=300, tbl_width_chars=600, float_precision=4,
    ):  # fmt: skip
        return dg.MetadataValue.md(str(frame.head(limit)))


def denials(report: GateReport, batch: Batch) -> dg.MarkdownMetadataValue:
    """Each order that the gate denies, by each rule that does: its value and limit, what the order adds, and why."""
    orders = {o.intent_id: f"{o.side} {plain(o.quantity)} {o.instrument}" for o in batch.orders}
    found = [verdict for verdict in report.denials if verdict.intent_id in orders]
    frame = pl.DataFrame(
        {
            "order": [orders[verdict.intent_id or ""] for verdict in found],
            "rule": [verdict.rule for verdict in found],
            "value": [verdict.value for verdict in found],
            "limit": [verdict.limit for verdict in found],
            "adds": [verdict.marginal for verdict in found],
            "reason": [verdict.reason for verdict in found],
        },
        schema={"order": pl.String, "rule": pl.String, "value": pl.Float64, "limit": pl.Float64, "adds": pl.Float64,
                "reason": pl.String},
    )  # fmt: skip
    return table(frame, limit=100)
