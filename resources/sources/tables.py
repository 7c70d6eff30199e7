"""Tables from files of the user's own: CSV and Parquet, and which line is wrong.

Belongs here: reading such a file into typed columns, with the number of each line. Does not: what the columns mean
(files.py, text_files.py).

A file has a header line (CSV, comma-separated, UTF-8) or a schema (Parquet); columns stand in any order, further ones
are ignored. An empty field is a missing value. A line of a CSV file is a record: no field holds a line break.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from octopus.core.errors import ConfigError
from octopus.core.rejects import Reject
from octopus.market_data.parse import read_fields

NAME = "files"
"""The source that every row from a file belongs to."""


@dataclass(frozen=True)
class Form:
    """Columns of one kind of file: those it must have, those it may have, those whose fields may not be empty."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    filled: tuple[str, ...]


def read_table(
    path: Path,
    form: Form,
    table: str,
    digest: hashlib._Hash,
    *,
    numbers: Sequence[str] = (),
    days: Sequence[str] = (),
    instants: Sequence[str] = ("known_at",),
) -> tuple[pl.DataFrame, list[Reject]]:
    """Readable lines of one file with their numbers in ``line``, and the others as rejects that name file and line.

    Args:
        table: that the lines are meant for. digest: takes in the bytes of the file.
        numbers, days, instants: columns to be read as such, where the file has them; all others are texts.

    Raises:
        ConfigError: the file is missing or unreadable, or lacks a column; it names file, column and remedy.
    """
    body = _bytes(path)
    digest.update(body)
    raw, rejects = _parquet(path, body) if path.suffix == ".parquet" else _csv(path, body, table)
    raw = _columns(path, raw, form)
    has = set(raw.columns)
    read, bad = read_fields(
        raw, table=table, numbers=[name for name in numbers if name in has],
        days=[name for name in days if name in has], instants=[name for name in instants if name in has],
        required=form.filled,
    )  # fmt: skip
    rejects += [placed(reject, path) for reject in bad]
    read_as = {*numbers, *days, *instants, "line"}
    return read.with_columns(pl.col(name).cast(pl.String) for name in read.columns if name not in read_as), rejects


def placed(reject: Reject, path: Path) -> Reject:
    """``reject`` with the file and the line in its reason."""
    return replace(reject, reason=f"{path.name} line {reject.payload.get('line')}: {reject.reason}")


def _bytes(path: Path) -> bytes:
    if path.suffix not in (".csv", ".parquet") and path.suffixes[-2:] != [".csv", ".gz"]:
        raise ConfigError(where=NAME, field="path", value=str(path), remedy="name a .csv, .csv.gz or .parquet file")
    try:
        body = path.read_bytes()
        return gzip.decompress(body) if path.suffix == ".gz" else body
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(
            where=NAME, field="path", value=str(path),
            remedy=f"it cannot be read ({type(error).__name__}): check that it is there, whole and readable",
        ) from error  # fmt: skip


def _parquet(path: Path, body: bytes) -> tuple[pl.DataFrame, list[Reject]]:
    try:
        frame = pl.read_parquet(io.BytesIO(body))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            where=NAME, field="path", value=str(path), remedy="it is no whole Parquet file: write it again"
        ) from error
    return frame.with_columns(line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)), []


def _csv(path: Path, body: bytes, table: str) -> tuple[pl.DataFrame, list[Reject]]:
    """All fields as texts with their line's number, and lines that do not have as many fields as the header."""
    try:
        lines = body.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(
            where=NAME, field="path", value=str(path), remedy="it is not UTF-8: save it as such"
        ) from error
    frame = pl.DataFrame({"text": lines}, schema={"text": pl.String}).with_columns(
        line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    )
    frame = frame.filter(pl.col("text").str.strip_chars() != "")
    if frame.is_empty():
        raise ConfigError(where=NAME, field="path", value=str(path), remedy="it is empty: give it a header line")
    outside = pl.col("text").str.replace_all('"[^"]*"', "")
    frame = frame.with_columns(commas=outside.str.count_matches(","), open=outside.str.contains('"', literal=True))
    width = int(frame["commas"][0])
    ragged = (pl.col("commas") != width) | pl.col("open")
    reason = pl.when("open").then(pl.lit("a quote is not closed")).otherwise(
        pl.format("it has {} fields and the header {}", pl.col("commas") + 1, pl.lit(width + 1))
    )  # fmt: skip
    bad = frame.filter(ragged).with_columns(reason=reason)
    rejects = [
        placed(Reject(table, None, row["reason"], {"line": row["line"], "text": row["text"]}), path)
        for row in bad.select("line", "text", "reason").to_dicts()
    ]
    sound = frame.filter(~ragged)
    try:
        fields = pl.read_csv("\n".join(sound["text"]).encode(), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        why = " ".join(str(error).split())[:120]
        raise ConfigError(where=NAME, field="path", value=str(path), remedy=f"it is no CSV file: {why}") from error
    return fields.with_columns(line=sound["line"][1:]), rejects


def _columns(path: Path, frame: pl.DataFrame, form: Form) -> pl.DataFrame:
    """The columns of ``form`` that the file has.

    Raises:
        ConfigError: it lacks a required one.
    """
    lacking = [name for name in form.required if name not in frame.columns]
    if lacking:
        held = ", ".join(name for name in frame.columns if name != "line")
        raise ConfigError(
            where=str(path), field=", ".join(lacking), value=None,
            remedy=f"the file has no such column, only {held}: add it to the header, or rename yours",
        )  # fmt: skip
    return frame.select(*(name for name in (*form.required, *form.optional) if name in frame.columns), "line")
