"""From a vendor's texts to numbers and dates, so that what cannot be read is refused instead of becoming nothing.

Belongs here: reading the fields of market data that arrive as JSON or CSV. Does not: judging what was read
(validate.py), asking for it (resources/sources).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from octopus.core.rejects import Reject, json_payload


def records_frame(records: Iterable[Mapping[str, object]], columns: Sequence[str]) -> pl.DataFrame:
    """JSON objects as a frame of texts, one column for each name, null where an object lacks it or holds null.

    Numbers keep all their digits; whatever else is found is kept as JSON, to be refused with its text.
    """
    held = list(records)
    return pl.DataFrame(
        {name: pl.Series([_text(record.get(name)) for record in held], dtype=pl.String) for name in columns}
    )


def read_fields(
    frame: pl.DataFrame,
    *,
    table: str,
    numbers: Sequence[str] = (),
    days: Sequence[str] = (),
    instants: Sequence[str] = (),
    required: Sequence[str] = (),
) -> tuple[pl.DataFrame, list[Reject]]:
    """Turn texts into numbers (Float64), dates and UTC instants; rows with an unreadable field are rejects.

    Columns that already have a fitting type keep their values. An empty text is a missing value.

    Args:
        frame: the columns named and any others, among them ``instrument``.
        days: ISO 8601 dates, with or without a time of day, which is dropped.
        instants: ISO 8601 with an offset; without one they are refused, for nobody knows when that was.
        required: columns that may not be missing.

    Returns:
        The readable rows in the order given, and one `Reject` with its first reason for each other row.
    """
    cleaned = frame.with_columns(_stripped(name) for name in frame.columns if frame.schema[name] == pl.String)
    readers = {
        **{name: (_number(cleaned, name), "a number") for name in numbers},
        **{name: (_day(cleaned, name), "a date like 2024-01-31") for name in days},
        **{name: (_instant(cleaned, name), "a time with an offset like 2024-01-31T21:00:00Z") for name in instants},
    }
    missing = [pl.when(pl.col(name).is_null()).then(pl.lit(f"{name} is missing")) for name in required]
    unread = [
        pl.when(pl.col(name).is_not_null() & reader.is_null()).then(
            pl.format(f"{name} {{}} is not {form}", pl.col(name).cast(pl.String))
        )
        for name, (reader, form) in readers.items()
    ]
    reason = pl.coalesce([*missing, *unread, pl.lit(None, pl.String)])
    judged = cleaned.with_columns(_reason=reason)
    bad = frame.filter(judged["_reason"].is_not_null()).with_columns(
        _reason=judged["_reason"].filter(judged["_reason"].is_not_null())
    )
    good = cleaned.filter(judged["_reason"].is_null()).with_columns(
        reader.alias(name) for name, (reader, _) in readers.items()
    )
    return good, [
        Reject(table, row.get("instrument"), str(row.pop("_reason")), json_payload(row)) for row in bad.to_dicts()
    ]


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _stripped(name: str) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    return pl.when(text != "").then(text).alias(name)


def _number(frame: pl.DataFrame, name: str) -> pl.Expr:
    number = pl.col(name).cast(pl.Float64, strict=False)
    # NaN as a text is a word, not a number that somebody measured.
    return number.fill_nan(None) if frame.schema[name] == pl.String else number


def _day(frame: pl.DataFrame, name: str) -> pl.Expr:
    if frame.schema[name] == pl.String:
        text = pl.col(name)
        whole = text.str.contains(r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$")
        return pl.when(whole).then(text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False))
    return pl.col(name).cast(pl.Date, strict=False)


def _instant(frame: pl.DataFrame, name: str) -> pl.Expr:
    kind = frame.schema[name]
    if kind == pl.String:
        text = pl.col(name).str.replace("[zZ]$", "+00:00").str.replace(" ", "T")
        offset = text.str.contains(r"[+-]\d\d:?\d\d$")
        read = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False)
        short = text.str.to_datetime("%Y-%m-%dT%H:%M%z", time_unit="us", time_zone="UTC", strict=False)
        return pl.when(offset).then(pl.coalesce(read, short))
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        return pl.col(name).dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return pl.lit(None, pl.Datetime("us", "UTC"))
