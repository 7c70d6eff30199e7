"""Columns of instruments, bars and corporate actions, as every source delivers them.

Belongs here: names and types of the business columns of raw.instruments, raw.bars and raw.corporate_actions. Does not:
the columns that the writer adds (ingested_at, batch_id, row_hash).
"""

from __future__ import annotations

import polars as pl

UTC_INSTANT = pl.Datetime("us", "UTC")

INSTRUMENTS_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "name": pl.String(),
        "exchange": pl.String(),
        "currency": pl.String(),
        "asset_class": pl.String(),
        "price_basis": pl.String(),
        "member_from": pl.Date(),
        "member_to": pl.Date(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)

BARS_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "session": pl.Date(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)

ACTIONS_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "session": pl.Date(),
        "kind": pl.String(),
        "value": pl.Float64(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)
