"""Alpha158 by Qlib itself, in a process of its own: `python benchmarks/qlib_peer.py BARS RESULT KERNELS PRECISION`.

Belongs here: handing bars to Qlib, and keeping what it answers. Does not: ours, comparing, measuring memory.

BARS is a NumPy archive of ``sessions`` (T,), ``symbols`` (N,) and arrays (T, N) of ``open``, ``high``, ``low``,
``close``, ``volume`` and ``vwap``. RESULT gets ``names`` (158,), ``values`` (158, T, N) and ``versions``; "-" keeps
nothing. PRECISION is ``stored``: as Qlib stores bars, in float32; or ``double``: its operators are handed float64. The
seconds that it takes to compute, without starting and writing its store, are printed last.

Needs pyqlib on the path, and nothing of this project.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

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


def compute(bars: Any, folder: Path, kernels: int) -> tuple[Any, float]:
    """Qlib's frame of all columns, and the seconds it took."""
    qlib = importlib.import_module("qlib")
    qlib.init(provider_uri=str(folder), region="us", kernels=kernels, logging_level=logging.ERROR)
    fields, names = importlib.import_module("qlib.contrib.data.loader").Alpha158DL.get_feature_config()
    data = importlib.import_module("qlib.data").D
    started = time.perf_counter()
    frame = data.features(data.instruments("all"), fields, disk_cache=0)
    seconds = time.perf_counter() - started
    frame.columns = names
    return frame, seconds


def as_columns(frame: Any, bars: Any) -> Any:
    """The frame's values in the order of the bars, shape (158, T, N); NaN where Qlib has no row."""
    days = {day: row for row, day in enumerate(bars["sessions"].astype("datetime64[D]"))}
    symbols = {str(symbol): column for column, symbol in enumerate(bars["symbols"])}
    level = {name: frame.index.get_level_values(name) for name in ("instrument", "datetime")}
    rows = [days[day] for day in level["datetime"].values.astype("datetime64[D]")]
    result = np.full((frame.shape[1], len(days), len(symbols)), np.nan, dtype=np.float32)
    result[:, rows, [symbols[one] for one in level["instrument"]]] = frame.to_numpy().T
    return result


def main() -> None:
    """Compute, keep and say how long it took."""
    source, target, kernels, precision = sys.argv[1:]
    bars = dict(np.load(source))
    with tempfile.TemporaryDirectory() as folder:
        write_store(bars, Path(folder))
        if precision == "double":
            use_double(bars)
        frame, seconds = compute(bars, Path(folder), int(kernels))
    if target != "-":
        used = [importlib.import_module(name) for name in ("qlib", "pandas", "numpy")]
        versions = [f"{one.__name__} {one.__version__}" for one in used]
        np.savez(target, names=list(frame.columns), values=as_columns(frame, bars), versions=versions)
    print(seconds)


if __name__ == "__main__":
    main()
