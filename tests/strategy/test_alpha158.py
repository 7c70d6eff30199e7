"""Alpha158 gives Qlib's values, knows no future, and has the same bits however much of it is computed at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.errors import ConfigError
from octopus.core.panel import Panel
from octopus.core.types import BoolArray, FloatArray
from octopus.market_data.returns import total_returns
from octopus.strategy import expressions as e
from octopus.strategy.alpha158 import ALPHA158, LOOKBACK, adjusted_bars, compute_alpha158
from octopus.strategy.expressions import Columns, Feature, column_blocks, compute_columns

FIELDS = ("open", "high", "low", "close", "volume", "vwap")
NAMES = [feature.name for feature in ALPHA158]
COUNTED = ("CNTP", "CNTN", "CNTD", "IMAX", "IMIN", "IMXD")
"""In these Qlib counts a session without a bar."""


def bars_of(seed: int, rows: int = 150, count: int = 5, *, holes: bool = True) -> dict[str, FloatArray]:
    """Random bars, with ties, halts, a late listing, sessions without volume and sessions without a bar."""
    random = np.random.default_rng(seed)
    close = 20 * np.exp(np.cumsum(random.normal(0, 0.02, (rows, count)), axis=0))
    close = np.round(close, 1)
    first = close * (1 + random.normal(0, 0.01, close.shape))
    bars = {
        "open": first, "close": close, "high": np.maximum(first, close) * (1 + random.exponential(0.01, close.shape)),
        "low": np.minimum(first, close) * (1 - random.exponential(0.01, close.shape)),
        "volume": random.integers(0, 400, close.shape) * 100.0, "vwap": (first + close) / 2,
    }  # fmt: skip
    if holes:
        missing = random.random(close.shape) < 0.01
        missing[: rows // 3, 0] = True
        for values in bars.values():
            values[missing] = np.nan
    return bars


def rows_of(bars: dict[str, FloatArray], start: int, stop: int | None) -> dict[str, FloatArray]:
    return {name: values[start:stop] for name, values in bars.items()}


def assert_same(left: Columns, right: Columns) -> None:
    for name, one, other in zip(NAMES, left, right, strict=True):
        assert np.array_equal(one, other, equal_nan=True), name


# Qlib ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden() -> pl.DataFrame:
    return pl.read_parquet(Path(__file__).parent / "data" / "alpha158_qlib.parquet")


def as_panel(frame: pl.DataFrame, name: str) -> FloatArray:
    count = frame["symbol"].n_unique()
    return frame[name].cast(pl.Float64).to_numpy().reshape(-1, count)


def near_a_gap(close: FloatArray) -> BoolArray:
    """In the window of a session without a bar, after the first bar."""
    missing = np.isnan(close) & (np.maximum.accumulate(~np.isnan(close), axis=0))
    return np.stack([missing[max(row - LOOKBACK, 0) : row + 1].any(axis=0) for row in range(len(close))])


def test_every_column_has_the_values_of_qlib(golden: pl.DataFrame) -> None:
    bars = {name: as_panel(golden, name) for name in FIELDS}
    assert [name for name in golden.columns if name not in ("session", "symbol", *FIELDS)] == NAMES
    ours, has_bar = compute_columns(ALPHA158, bars), ~np.isnan(bars["close"])
    near = near_a_gap(bars["close"])
    assert near.any()
    for name, values in zip(NAMES, ours, strict=True):
        qlib = as_panel(golden, name)
        # Rounding over zero, where what varies has no partner: ours says that there is nothing.
        qlib = np.where(np.isinf(qlib), np.nan, qlib)
        compared = has_bar & ~near if name.startswith(COUNTED) else has_bar
        np.testing.assert_allclose(values[compared], qlib[compared], rtol=2e-7, atol=2e-7, err_msg=name)
        assert np.isnan(values[~has_bar]).all(), name


def test_float32_is_the_rounded_float64(golden: pl.DataFrame) -> None:
    bars = {name: as_panel(golden, name) for name in FIELDS}
    assert_same(compute_columns(ALPHA158, bars, dtype=np.float32), compute_columns(ALPHA158, bars).astype(np.float32))


# Time ----------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 149), holes=st.booleans())
@settings(max_examples=10, deadline=None)
def test_no_column_knows_the_future(seed: int, cut: int, holes: bool) -> None:
    bars = bars_of(seed, holes=holes)
    whole = compute_columns(ALPHA158, bars)
    assert_same(compute_columns(ALPHA158, rows_of(bars, 0, cut)), whole[:, :cut])
    random = np.random.default_rng(seed)
    noisy = {name: values.copy() for name, values in bars.items()}
    for values in noisy.values():
        values[cut:] = random.uniform(0.5, 50, values[cut:].shape)
    assert_same(compute_columns(ALPHA158, noisy)[:, :cut], whole[:, :cut])


@given(seed=st.integers(0, 10_000), last=st.integers(1, 150), holes=st.booleans())
@settings(max_examples=10, deadline=None)
def test_the_last_sessions_alone_have_the_bits_of_all(seed: int, last: int, holes: bool) -> None:
    bars = bars_of(seed, holes=holes)
    whole = compute_columns(ALPHA158, bars)
    assert_same(compute_columns(ALPHA158, bars, last=last), whole[:, -last:])
    held = rows_of(bars, max(150 - last - LOOKBACK, 0), None)
    assert_same(compute_columns(ALPHA158, held, last=last), whole[:, -last:])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_company_and_order_in_memory_change_no_bit(seed: int) -> None:
    bars = bars_of(seed, count=150)
    whole = compute_columns(ALPHA158, bars)
    alone = compute_columns(ALPHA158, {name: values[:, 7:8] for name, values in bars.items()}, threads=1)
    assert_same(alone, whole[:, :, 7:8])
    assert_same(compute_columns(ALPHA158, {name: np.asfortranarray(v) for name, v in bars.items()}), whole)


@pytest.mark.parametrize("feature", ALPHA158, ids=lambda feature: feature.name)
def test_a_column_reads_the_rows_and_bars_that_it_declares(feature: Feature) -> None:
    bars, row = bars_of(3, holes=False), 149
    bars["volume"] += 100.0
    value = compute_columns([feature], bars)[0, row]
    assert np.isfinite(value).all()
    others = {name: v if name in (*feature.inputs, "close") else v * np.nan for name, v in bars.items()}
    older = row + 1 - feature.window
    for name in feature.inputs:
        others[name] = others[name].copy()
        others[name][:older] = np.nan
    assert np.array_equal(compute_columns([feature], others)[0, row], value)
    needed = {name: others[name].copy() for name in {*feature.inputs, "close"}}
    for number, name in enumerate(feature.inputs):
        needed[name][older] *= np.linspace(0.2, 3.0, 5) + number
    # A step between two rows that both lie in the window can leave a rank or a quantile as it was, but not all of them.
    if not feature.name.startswith(("QTL", "RANK", "I", "MAX", "MIN", "RSV", "CNT")):
        assert (compute_columns([feature], needed)[0, row] != value).any()


# Missing bars --------------------------------------------------------------------------------------------------------


def test_a_session_without_a_bar_has_no_column_and_is_no_observation() -> None:
    bars = bars_of(5, holes=False)
    for values in bars.values():
        values[120] = np.nan
    columns = dict(zip(NAMES, compute_columns(ALPHA158, bars), strict=True))
    close = bars["close"]
    assert all(np.isnan(values[120]).all() for values in columns.values())
    np.testing.assert_allclose(columns["MA5"][122], np.nanmean(close[118:123], axis=0) / close[122])
    np.testing.assert_allclose(columns["RANK5"][122], [pl.Series(close[[118, 119, 121, 122], i]).rank()[3] / 4
                                                       for i in range(5)])  # fmt: skip
    assert np.isnan(columns["ROC5"][125]).all()
    # Four bars, and the first of them after the hole has no bar before it to be compared with.
    rises = (close[118] > close[117]) * 1.0 + (close[119] > close[118]) + (close[122] > close[121])
    np.testing.assert_allclose(columns["CNTP5"][122], rises / 4)
    place = np.nanargmax(bars["high"][[118, 119, 121, 122]], axis=0) + 1
    np.testing.assert_allclose(columns["IMAX5"][122], place / 5)


def test_columns_begin_with_the_first_bar_and_no_bar_gives_none() -> None:
    bars = bars_of(6, rows=80)
    for values in bars.values():
        values[:, 1] = np.nan
    columns = compute_columns(ALPHA158, bars)
    assert np.isnan(columns[:, :, 1]).all()
    first = int(np.argmax(~np.isnan(bars["close"][:, 0])))
    early = dict(zip(NAMES, columns[:, first, 0], strict=True))
    assert early["MA60"] == 1.0
    assert early["RANK60"] == 1.0
    assert early["IMAX5"] == 0.2
    assert np.isnan([early["STD5"], early["ROC5"], early["BETA5"], early["CORR5"], early["SUMP5"]]).all()
    late = compute_columns(ALPHA158, {name: values[first:, :1] for name, values in bars.items()})
    assert_same(columns[:, first:, :1], late)


def test_a_price_that_stands_still_has_no_correlation() -> None:
    bars = bars_of(7, holes=False)
    bars["close"] = np.full_like(bars["close"], 12.3)
    columns = dict(zip(NAMES, compute_columns(ALPHA158, bars), strict=True))
    for name in ("RSQR20", "CORR20", "CORD20"):
        assert np.isnan(columns[name]).all(), name
    assert (columns["STD60"][1:] == 0.0).all()
    assert (columns["BETA60"][1:] == 0.0).all()
    assert (columns["SUMP5"][1:] == 0.0).all()


def test_a_price_that_hardly_moves_has_no_correlation_but_a_slope() -> None:
    bars = bars_of(7, holes=False)
    random = np.random.default_rng(1)
    for spread, known in ((1e-5, False), (1e-4, True)):
        bars["close"] = 12.3 + random.normal(0, spread, bars["close"].shape)
        columns = dict(zip(NAMES, compute_columns(ALPHA158, bars), strict=True))
        assert np.isfinite(columns["RSQR60"][60:]).all() == known
        assert np.isfinite(columns["CORR60"][60:]).all() == known
        assert np.isfinite(columns["BETA60"][60:]).all()


# Panels --------------------------------------------------------------------------------------------------------------


def panel_of(bars: dict[str, FloatArray], split: FloatArray, dividend: FloatArray) -> Panel:
    close = bars["close"]
    days = np.busday_offset("2015-01-05", np.arange(len(close))).astype("datetime64[D]")
    return Panel(
        sessions=days, symbols=tuple(f"S{i}" for i in range(close.shape[1])), close=close,
        total_return=total_returns(close, split, dividend), open=bars["open"], high=bars["high"], low=bars["low"],
        volume=bars["volume"], member=~np.isnan(close), sentiment=np.full_like(close, np.nan), split=split,
        dividend=dividend, price_basis="raw",
    )  # fmt: skip


def test_a_split_and_a_dividend_are_no_moves() -> None:
    bars = bars_of(8, holes=False)
    ones, zeros = np.ones(bars["close"].shape), np.zeros(bars["close"].shape)
    plain = compute_alpha158(panel_of(bars, ones, zeros), bars["vwap"])
    split = ones.copy()
    split[100, 2] = 4.0
    printed = {name: values.copy() for name, values in bars.items()}
    for name, values in printed.items():
        values[100:, 2] *= 4.0 if name == "volume" else 0.25
    cube = compute_alpha158(panel_of(printed, split, zeros), printed["vwap"])
    np.testing.assert_allclose(cube.values, plain.values, rtol=1e-6, atol=1e-9)
    assert cube.names == tuple(NAMES)
    paid = zeros.copy()
    paid[100, 2] = 1.5
    panel = panel_of(bars, ones, paid)
    close = adjusted_bars(panel)["close"]
    np.testing.assert_allclose(close[1:] / close[:-1] - 1, panel.total_return[1:])
    assert np.array_equal(close[:100], bars["close"][:100])


def test_a_panel_gives_its_last_sessions_and_no_vwap_unless_told() -> None:
    bars = bars_of(9)
    ones = np.ones(bars["close"].shape)
    panel = panel_of(bars, ones, ones * 0)
    cube, last = compute_alpha158(panel), compute_alpha158(panel, last=3, dtype=np.float32)
    assert last.values.dtype == np.float32
    assert last.sessions.tolist() == panel.sessions[-3:].tolist()
    assert np.array_equal(last.values, cube.values[-3:].astype(np.float32), equal_nan=True)
    assert np.isnan(cube.of("VWAP0")).all()
    assert cube.of("MA5").shape == (150, 5)
    cut = compute_alpha158(panel.rows(0, 100))
    assert np.array_equal(cut.values, cube.values[:100], equal_nan=True)


# The library ---------------------------------------------------------------------------------------------------------


def test_blocks_of_columns_are_the_columns() -> None:
    bars = bars_of(10)
    whole = compute_columns(ALPHA158, bars)
    blocks = list(column_blocks(ALPHA158, bars, at_once=33))
    assert [name for names, _ in blocks for name in names] == NAMES
    assert_same(np.concatenate([values for _, values in blocks]), whole)
    out = np.empty(whole.shape, dtype=np.float32)
    assert compute_columns(ALPHA158, bars, out=out) is out
    assert_same(out, whole.astype(np.float32))


def test_declarations_follow_from_expressions() -> None:
    by_name = {feature.name: feature for feature in ALPHA158}
    assert len(by_name) == 158
    assert by_name["CORD60"].inputs == ("close", "volume")
    assert by_name["CORD60"].window == 61
    assert by_name["RSV20"].window == 20
    assert by_name["ROC10"].lag == 0
    assert Feature("past", "", e.mean(e.ref(e.bar("close"), 3), 5)).lag == 3
    assert LOOKBACK == 60


@pytest.mark.parametrize("rows", [0, 1, 4, 60, 61, 62])
def test_short_panels(rows: int) -> None:
    bars = rows_of(bars_of(11, holes=False), 0, rows)
    assert_same(compute_columns(ALPHA158, bars), compute_columns(ALPHA158, bars_of(11, holes=False))[:, :rows])


def test_what_is_not_given_is_named() -> None:
    bars = bars_of(12)
    with pytest.raises(ConfigError, match="give vwap too"):
        compute_columns(ALPHA158, {name: values for name, values in bars.items() if name != "vwap"})
    with pytest.raises(ConfigError, match=r"bars\['open'\]\.shape"):
        compute_columns(ALPHA158, bars | {"open": bars["open"][1:]})
    with pytest.raises(ConfigError, match=r"out\.shape"):
        compute_columns(ALPHA158, bars, out=np.empty((158, 150, 4)))
    with pytest.raises(ConfigError, match="at least one row"):
        e.mean(e.bar("close"), 0)
