"""How assets show themselves: metadata that a person wants to see.

Belongs here: turning frames, pictures and reports into Dagster metadata. Does not: drawing (the groups' pure packages
draw).
"""

from __future__ import annotations

import base64

import dagster as dg
import polars as pl

from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.orders import Batch, GateReport
from resources.collection import stop_of
from resources.sources.patience import TryLaterError

STOPPED_BY, RETRY_AT = "stopped_by", "retry_at"
"""Metadata of a failed ingestion: a value of `resources.collection.Stop`, and the instant from which on it is worth
going on, ISO 8601, where the vendor or our budget tells one."""


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


def stop(error: OctopusError) -> dict[str, dg.MetadataValue]:
    """Why an ingestion ended before its end, and when it is worth going on: what the sensor that goes on reads."""
    told: dict[str, dg.MetadataValue] = {STOPPED_BY: dg.MetadataValue.text(stop_of(error).value)}
    if isinstance(error, TryLaterError):
        told[RETRY_AT] = dg.MetadataValue.text(error.retry_at.isoformat())
    return told
