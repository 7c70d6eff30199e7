"""Columns of instruments, bars, intraday bars, corporate actions and adjusted closes, as every source delivers them.

Belongs here: names, types and units of the business columns of raw.instruments, raw.bars, raw.intraday_bars,
raw.corporate_actions and of vendors' own adjusted closes. Does not: the columns that the writer adds (ingested_at,
batch_id).
"""

from __future__ import annotations

import polars as pl

UTC_INSTANT = pl.Datetime("us", "UTC")

ASSET_CLASSES = ("equity", "etf", "crypto", "fx")

ACTION_KINDS = ("split", "dividend", "spin_off", "symbol_change", "delisting")
"""Kinds of corporate actions.

- ``split``: value is new shares for one old.
- ``dividend``: value is cash for one share as of the ex-date, in the instrument's currency.
- ``spin_off``: value is shares of the new company for one share held, detail its symbol. Vendors send this ratio and
  no worth: the worth of the right is the ratio times the new company's price, once it has one.
- ``symbol_change``: value is 1, detail is the new symbol; the row belongs to the old one.
- ``delisting``: value is the last cash received for one share, 0 when it became worthless; detail may say why.
"""

DETAILED_KINDS = ("spin_off", "symbol_change")
"""Kinds that mean nothing without a symbol in ``detail``."""

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
        "lot_size": pl.Float64(),
        "tick_size": pl.Float64(),
        "member_from": pl.Date(),
        "member_to": pl.Date(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)
"""``asset_class`` is one of `ASSET_CLASSES`; ``lot_size`` is the smallest tradable quantity, ``tick_size`` the smallest
step of the price in the instrument's currency; null where nobody says."""

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

INTERVALS = (1, 5, 15, 30, 60)
"""Lengths of intraday bars, minutes."""

INTRADAY_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "interval_minutes": pl.Int16(),
        "session": pl.Date(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
        "vwap": pl.Float64(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)
"""``ts`` is the beginning of the bar, as vendors stamp it; nothing of it is known before its end. ``vwap`` is the
vendor's own volume-weighted average price of the trades in the bar, null where it tells none."""

ACTIONS_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "session": pl.Date(),
        "kind": pl.String(),
        "value": pl.Float64(),
        "detail": pl.String(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)
"""One action of one instrument; what ``value`` and ``detail`` say depends on ``kind`` (`ACTION_KINDS`)."""

ADJUSTED_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "instrument": pl.String(),
        "ts": UTC_INSTANT,
        "session": pl.Date(),
        "adj_close": pl.Float64(),
        "known_at": UTC_INSTANT,
        "known_at_imputed": pl.Boolean(),
    }
)
"""A vendor's own adjusted close of a session: never a price, only something to compare our adjustment with.

It holds every split and dividend up to the day of the fetch, hence is known from the fetch and no earlier.
"""
