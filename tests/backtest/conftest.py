"""Panels for the backtest's tests: the recorded sample prices, and small ones made by hand or by chance."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from octopus.core.panel import Panel
from octopus.core.sessions import EXCHANGE, Sessions
from octopus.market_data.currencies import in_base
from octopus.market_data.returns import total_returns


def make_panel(close: np.ndarray, **fields: np.ndarray) -> Panel:
    """A panel of daily sessions from closes, shape (T, N)."""
    length, count = close.shape
    empty = np.full(close.shape, np.nan)
    split = fields.get("split", np.ones(close.shape))
    dividend = fields.get("dividend", np.zeros(close.shape))
    arrays = {
        "open": empty, "high": empty, "low": empty, "volume": empty, "sentiment": empty,
        "member": np.ones(close.shape, dtype=bool), "split": split, "dividend": dividend,
        "total_return": total_returns(close, split, dividend, fields.get("spin_off")),
    } | fields  # fmt: skip
    return Panel(
        sessions=np.busday_offset("2015-01-05", np.arange(length)).astype("datetime64[D]"),
        symbols=tuple(f"S{i:02d}" for i in range(count)),
        close=close,
        price_basis="raw",
        **arrays,
    )


def random_panel(seed: int, length: int = 400, count: int = 6, *, actions: bool = False) -> Panel:
    """Random walks with openings, gaps in the data and, if asked, splits, dividends and spin-offs."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(scale=0.02, size=(length, count)), axis=0))
    opening = close * np.exp(generator.normal(scale=0.01, size=close.shape))
    fields = {}
    if actions:
        split = np.where(generator.random(close.shape) < 0.004, generator.choice([2.0, 3.0, 0.5], close.shape), 1.0)
        close, opening = close / np.cumprod(split, axis=0), opening / np.cumprod(split, axis=0)
        spun = np.random.default_rng(seed + 1).random(close.shape)
        fields = {
            "split": split, "dividend": np.where(generator.random(close.shape) < 0.01, close * 0.01, 0.0),
            # Of some nobody knows the worth.
            "spin_off": np.select([spun < 0.003, spun < 0.004], [close * 0.1, np.nan], 0.0),
        }  # fmt: skip
    halted = generator.random(close.shape) < 0.01
    close, opening = np.where(halted, np.nan, close), np.where(halted, np.nan, opening)
    return make_panel(close, open=opening, **fields)


PAIRS = {"EUR": "EURUSD=X", "GBP": "GBPUSD=X", "JPY": "USDJPY=X"}
QUOTED = {"EURUSD=X": "USD", "GBPUSD=X": "USD", "USDJPY=X": "JPY"}
UNITS = ("USD", "EUR", "JPY", "GBp")


def with_pairs(panel: Panel, seed: int, late: int = 0) -> tuple[Panel, dict[str, str]]:
    """Currency pairs beside the instruments, with holes of up to four sessions; and what each column is quoted in.

    Args:
        late: the session before which no pair has a bar.
    """
    generator = np.random.default_rng(seed)
    shape = (len(panel.sessions), len(PAIRS))
    levels = np.array([1.1, 1.3, 120.0]) * np.exp(np.cumsum(generator.normal(scale=0.006, size=shape), axis=0))
    for column in range(shape[1]):
        for start in range(late + 1, shape[0], 11):
            levels[start : start + int(generator.integers(0, 5)), column] = np.nan
    levels[:late] = np.nan
    fields = {"open": levels, "high": levels, "low": levels, "close": levels, "total_return": levels,
              "volume": levels, "sentiment": levels * np.nan, "member": np.isfinite(levels), "dividend": levels * 0.0,
              "split": np.ones(shape)}  # fmt: skip
    if panel.spin_off is not None:
        fields["spin_off"] = np.zeros(shape)
    if panel.vwap is not None:
        fields["vwap"] = levels
    joined = {name: np.hstack([getattr(panel, name), values]) for name, values in fields.items()}
    units = {name: UNITS[place % len(UNITS)] for place, name in enumerate(panel.symbols)}
    return replace(panel, symbols=(*panel.symbols, *QUOTED), **joined), units | QUOTED


def in_currencies(panel: Panel, seed: int, late: int = 0) -> Panel:
    """The same instruments quoted in four units, in an account that counts dollars."""
    joined, units = with_pairs(panel, seed, late)
    return in_base(joined, "USD", PAIRS, units)


def on_clock(panel: Panel, exchange: str = EXCHANGE) -> Panel:
    """The same panel on sessions of an exchange, which have hours."""
    days = Sessions(exchange).between(date(2015, 1, 5), date(2022, 12, 30))[: len(panel.sessions)]
    return replace(panel, sessions=days, exchange=exchange)


@pytest.fixture(scope="session")
def sample_panel() -> Panel:
    """Total-return closes of 20 stocks, 1990-2022, from the data file inside the package skfolio."""
    package = importlib.util.find_spec("skfolio")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "sp500_dataset.csv.gz"
    frame = pl.read_csv(path, try_parse_dates=True)
    close = np.ascontiguousarray(frame.drop("Date").to_numpy().astype(np.float64))
    empty, ones, zeros = np.full(close.shape, np.nan), np.ones(close.shape), np.zeros(close.shape)
    return Panel(
        sessions=frame["Date"].to_numpy().astype("datetime64[D]"),
        symbols=tuple(frame.columns[1:]),
        close=close,
        total_return=total_returns(close, ones, zeros),
        open=empty,
        high=empty,
        low=empty,
        volume=empty,
        member=np.ones(close.shape, dtype=bool),
        sentiment=empty,
        split=ones,
        dividend=zeros,
        price_basis="total_return",
    )
