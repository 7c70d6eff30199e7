"""Vendor records that validation refuses: the record, and splitting a frame by rules.

Belongs here: what both market data and texts need to refuse a record. Does not: the rules themselves
(market_data/validate.py, alternative_data/validate.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Reject:
    """A vendor record that did not pass validation.

    Attributes:
        table: raw table it was meant for, without the schema. payload: the record as the vendor sent it, JSON-able.
    """

    table: str
    instrument: str | None
    reason: str
    payload: Mapping[str, object]


@dataclass(frozen=True)
class Rule:
    """One reason to refuse a row.

    Attributes:
        broken: boolean expression; unknown (null) breaks no rule.
        reason: text, or an expression that makes it of the row.
    """

    broken: pl.Expr
    reason: str | pl.Expr


def split_rejects(
    frame: pl.DataFrame, rules: Sequence[Rule], *, key: Sequence[str], table: str
) -> tuple[pl.DataFrame, list[Reject]]:
    """Split ``frame`` into the rows that break no rule and one `Reject` for each other row.

    A row is refused for the first rule it breaks, then for having the key of an earlier good row.

    Returns:
        Good rows and rejects, both in the order given.
    """
    reasons = [
        pl.when(rule.broken.fill_null(value=False)).then(
            pl.lit(rule.reason) if isinstance(rule.reason, str) else rule.reason
        )
        for rule in rules
    ]
    judged = frame.with_columns(_reason=pl.coalesce(reasons))
    unbroken = pl.col("_reason").is_null()
    repeated = unbroken & (unbroken.cast(pl.Int64).cum_sum().over(list(key)) > 1)
    judged = judged.with_columns(
        _reason=pl.when(repeated)
        .then(pl.lit(f"a second record for the same ({', '.join(key)})"))
        .otherwise(pl.col("_reason"))
    )
    good = judged.filter(pl.col("_reason").is_null()).drop("_reason")
    bad = judged.filter(pl.col("_reason").is_not_null())
    return good, [
        Reject(table, row["instrument"], str(row.pop("_reason")), json_payload(row)) for row in bad.to_dicts()
    ]


def json_payload(record: Mapping[str, object]) -> dict[str, object]:
    """``record`` with what JSON cannot say (dates, instants, NaN, infinities) as text, so that nothing is lost."""
    text = json.dumps(record, default=str, allow_nan=True)
    return dict(json.loads(text, parse_constant=lambda constant: f"number:{constant}"))
