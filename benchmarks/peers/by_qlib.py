"""Alpha158 by Qlib itself.

Belongs here: handing bars to Qlib, and keeping what it answers. Does not: ours, comparing, measuring memory.

Given are ``sessions`` (T,), ``symbols`` (N,), arrays (T, N) of ``open``, ``high``, ``low``, ``close``, ``volume`` and
``vwap``, and ``kernels``. Jobs: ``timed`` computes and keeps nothing; ``stored`` answers ``names`` (158,), ``values``
(158, T, N) and ``versions``, from bars as Qlib stores them, in float32; ``double`` the same with its operators handed
float64. What is timed is computing, without starting and writing its store.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.timing import Answer, Given, report

FIELDS = ("open", "high", "low", "close", "volume", "vwap")


def write_store(bars: Any, folder: Path) -> None:
    """Qlib's binary form: for each instrument and field the row it starts on and the values, from its first bar on."""
    days = bars["sessions"].astype("datetime64[D]").astype(str)
    for name in ("calendars", "instruments"):
        (folder / name).mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("\n".join(days) + "\n")
    arrays = {name: bars[name] for name in FIELDS}
    lines = []
    for column, symbol in enumerate(bars["symbols"]):
        has_bar = np.flatnonzero(~np.isnan(arrays["close"][:, column]))
        first, last = has_bar[0], has_bar[-1]
        lines.append(f"{symbol}\t{days[first]}\t{days[last]}")
        place = folder / "features" / str(symbol).lower()
        place.mkdir(parents=True)
        for name, values in arrays.items():
            series = np.concatenate([[first], values[first : last + 1, column]]).astype("<f4")
            series.tofile(place / f"{name}.day.bin")
    (folder / "instruments" / "all.txt").write_text("\n".join(lines) + "\n")


def use_double(bars: Any) -> None:
    """Hand Qlib's operators float64 instead of what it has stored."""
    import pandas as pd

    columns = {str(symbol): column for column, symbol in enumerate(bars["symbols"])}
    arrays = {name: bars[name] for name in FIELDS}

    def feature(self: Any, instrument: str, field: str, start_index: int, end_index: int, freq: str) -> Any:
        values = arrays[field.removeprefix("$")][:, columns[instrument]]
        has_bar = np.flatnonzero(~np.isnan(arrays["close"][:, columns[instrument]]))
        rows = np.arange(max(has_bar[0], start_index), min(has_bar[-1], end_index) + 1)
        return pd.Series(values[rows], index=rows)

    importlib.import_module("qlib.data.data").LocalFeatureProvider.feature = feature


def alpha158(bars: Given, *, keep: bool, double: bool) -> Callable[[], Answer]:
    """Qlib's frame of all columns."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    write_store(bars, Path(folder))
    if double:
        use_double(bars)
    qlib = importlib.import_module("qlib")
    qlib.init(provider_uri=folder, region="us", kernels=int(bars.get("kernels", 1)), logging_level=logging.ERROR)
    fields, names = importlib.import_module("qlib.contrib.data.loader").Alpha158DL.get_feature_config()
    data = importlib.import_module("qlib.data").D

    def work() -> Answer:
        frame = data.features(data.instruments("all"), fields, disk_cache=0)
        if not keep:
            return {"shape": frame.shape}
        frame.columns = names
        used = [importlib.import_module(name) for name in ("qlib", "pandas", "numpy")]
        versions = [f"{one.__name__} {one.__version__}" for one in used]
        return {"names": names, "values": as_columns(frame, bars), "versions": versions}

    return work


def as_columns(frame: Any, bars: Any) -> Any:
    """The frame's values in the order of the bars, shape (158, T, N); NaN where Qlib has no row."""
    days = {day: row for row, day in enumerate(bars["sessions"].astype("datetime64[D]"))}
    symbols = {str(symbol): column for column, symbol in enumerate(bars["symbols"])}
    level = {name: frame.index.get_level_values(name) for name in ("instrument", "datetime")}
    rows = [days[day] for day in level["datetime"].values.astype("datetime64[D]")]
    result = np.full((frame.shape[1], len(days), len(symbols)), np.nan, dtype=np.float32)
    result[:, rows, [symbols[one] for one in level["instrument"]]] = frame.to_numpy().T
    return result


if __name__ == "__main__":
    report(
        {
            "timed": (partial(alpha158, keep=False, double=False), 0),
            "stored": (partial(alpha158, keep=True, double=False), 0),
            "double": (partial(alpha158, keep=True, double=True), 0),
        },
        "qlib",
    )
