"""Readers of Lean's recorded daily bars, factor files and map files, for tests."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import polars as pl

STILL_LISTED = "20501231"
PRICE_UNIT = 1e-4


def folder(test_data: Path) -> Path:
    return test_data / "lean" / "equity" / "usa"


def daily(test_data: Path, ticker: str) -> pl.DataFrame:
    """Printed bars of a ticker, whoever it belonged to: session, close."""
    with zipfile.ZipFile(folder(test_data) / "daily" / f"{ticker}.zip") as archive:
        body = archive.read(f"{ticker}.csv")
    names = ["time", "open", "high", "low", "close", "volume"]
    frame = pl.read_csv(body, has_header=False, infer_schema=False, new_columns=names)
    return frame.select(
        session=pl.col("time").str.slice(0, 8).str.to_date("%Y%m%d"),
        close=pl.col("close").cast(pl.Float64) * PRICE_UNIT,
    ).sort("session")


def factors(test_data: Path, name: str) -> pl.DataFrame:
    """Rows of a factor file: up to and with ``session`` both factors hold; ``reference`` is that session's close."""
    path = folder(test_data) / "factor_files" / f"{name}.csv"
    frame = pl.read_csv(path, has_header=False, infer_schema=False, new_columns=["session", "price", "split", "close"])
    return frame.select(
        pl.col("session").str.to_date("%Y%m%d"),
        *(pl.col(one).cast(pl.Float64) for one in ("price", "split")),
        reference=pl.col("close").cast(pl.Float64),
    )


def maps(test_data: Path) -> pl.DataFrame:
    """Rows of all map files: file, last_day (null: still listed), ticker."""
    parts = []
    for path in sorted((folder(test_data) / "map_files").glob("*.csv")):
        lines = [line.split(",")[:2] for line in path.read_text().split()]
        parts += [(path.stem, None if day == STILL_LISTED else day, ticker.upper()) for day, ticker in lines]
    return pl.DataFrame(parts, schema=["file", "last_day", "ticker"], orient="row").with_columns(
        pl.col("last_day").str.to_date("%Y%m%d")
    )


def published(bars: pl.DataFrame, held: pl.DataFrame) -> np.ndarray:
    """Adjusted closes by the factor file's own numbers, shape (T, 1)."""
    joined = bars.join_asof(held, on="session", strategy="forward")
    return joined.select(pl.col("close") * pl.col("price") * pl.col("split")).to_numpy()


def actions_behind(bars: pl.DataFrame, held: pl.DataFrame, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits and dividends (in shares after the split) that make the factors, shapes (T, 1).

    A dividend is rounded to ``decimals``, as a company declares it; what the rounding takes away is the published
    factors' own.
    """
    days = bars["session"].to_numpy().astype("datetime64[D]")
    split, dividend = np.ones((len(days), 1)), np.zeros((len(days), 1))
    price, ratio, reference = (held[name].to_numpy() for name in ("price", "split", "reference"))
    rows = np.searchsorted(days, held["session"].to_numpy().astype("datetime64[D]"), side="right")
    # The first line only says where the file begins.
    for line in range(1, len(held) - 1):
        if 0 < rows[line] < len(days):
            grown = ratio[line + 1] / ratio[line]
            cash = reference[line] * (1 - price[line] / price[line + 1]) / grown
            split[rows[line], 0] *= grown
            dividend[rows[line], 0] += round(cash, decimals)
    return split, dividend
