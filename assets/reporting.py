"""How assets show themselves: metadata that a person wants to see.

Belongs here: turning frames, pictures and reports into Dagster metadata. Does not: drawing (the groups' pure packages
draw).
"""

from __future__ import annotations

import base64

import dagster as dg
import polars as pl


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """A PNG that Dagster's page shows in place."""
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(frame: pl.DataFrame, limit: int = 30) -> dg.MarkdownMetadataValue:
    """The first ``limit`` rows of ``frame`` as a Markdown table."""
    with pl.Config(
        tbl_formatting="MARKDOWN", tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
        tbl_rows=limit, tbl_cols=-1, fmt_str_lengths=120, tbl_width_chars=400, float_precision=4,
    ):  # fmt: skip
        return dg.MetadataValue.md(str(frame.head(limit)))
