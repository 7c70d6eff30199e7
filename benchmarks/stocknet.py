"""`python -m benchmarks.stocknet`: Octopus on 88 real stocks and 120,000 real tweets, 2014 to 2015.

Belongs here: writing the recording as files and configuration, running `octopus run` on them, and scoring predictions
by the published protocol. Does not: any feature, model or rule of its own.

Protocol (Xu and Cohen, Stock Movement Prediction from Tweets and Historical Prices, ACL 2018): a sample is a stock and
a day of 2014 or 2015 with seven bars before it; its class is the sign of the move of the adjusted close, and moves of
at least -0.5 % and less than 0.55 % are left out. Days up to 2015-07-31 train, those up to 2015-09-30 choose, those up
to 2015-12-31 test. The paper dates a tweet by its file, of which one in ten was written after that day's close; here a
tweet counts from the minute it was written, and a day's features are those known at the close of the day before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.texts import company_names, data_folder, recorded
from octopus.core.panel import Panel
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.models.base import Rows
from octopus.models.config import ModelConfig
from octopus.models.estimators import make
from octopus.models.training import as_model_sees
from octopus.strategy.features import compute_features

ROOT = Path(__file__).parent.parent
FIRST, TRAIN_END, DEV_END, LAST = date(2014, 1, 1), date(2015, 7, 31), date(2015, 9, 30), date(2015, 12, 31)
FALL, RISE = -0.005, 0.0055
"""Moves from the first to below the second are no sample."""
EARLIER_BARS = 7
SAMPLES = (20_339, 2_555, 3_720)
"""Samples of the protocol's parts, to know that it is the same."""


def prepare(home: Path) -> Path:
    """Write bars, posts and a configuration below ``home``; the configuration's folder."""
    home.mkdir(parents=True, exist_ok=True)
    prices = pl.read_parquet(data_folder() / "prices_stocknet.parquet")
    # An index of total return: the recording has no actions, only a close that is adjusted for all of them.
    scale = pl.col("adj_close") / pl.col("close")
    prices.select(
        instrument="symbol", session=pl.col("date").cast(pl.Date),
        **{name: pl.col(name) * scale for name in ("open", "high", "low")}, close="adj_close", volume="volume",
    ).drop_nulls("close").write_parquet(home / "bars.parquet")  # fmt: skip
    recorded("tweets_stocknet").select(
        created_at=pl.col("created_at").str.to_datetime(time_zone="UTC"), text="text", author="user_hash",
        instrument="symbol", item_id="tweet_hash",
    ).write_parquet(home / "posts.parquet")  # fmt: skip
    names = company_names()
    folder = home / "config"
    shutil.copytree(ROOT / "config", folder, dirs_exist_ok=True)
    symbols = {symbol: names.get(symbol, symbol) for symbol in prices["symbol"].unique().sort()}
    _edit(folder / "universe.yaml", {
        "universe": {
            "market_data": "files", "history_start": date(2012, 9, 4), "symbols": symbols,
            "files": {"bars": str(home / "bars.parquet"), "price_basis": "total_return"},
        },
        "alternative_data": {"news": [], "social": ["files"], "posts_file": str(home / "posts.parquet")},
    })  # fmt: skip
    _edit(folder / "strategies.yaml", {
        "models": {"horizon_sessions": 5, "train_min_sessions": 330, "test_sessions": 63},
        "backtest": {"start": date(2014, 1, 2)},
    })  # fmt: skip
    return folder


def _edit(path: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, values in changes.items():
        content[section] |= values
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def run_octopus(home: Path, config: Path) -> None:
    """The daily pipeline of the last day, with what the files hold up to then."""
    environment = {**os.environ, "OCTOPUS_HOME": str(home), "OCTOPUS_CONFIG": str(config)}
    subprocess.run(
        [str(Path(sys.executable).parent / "octopus"), "run", "--as-of", LAST.isoformat()], env=environment, check=True
    )


@dataclass(frozen=True, eq=False)
class Protocol:
    """Samples in rows of the day before the move, so that row t of the features predicts the class of row t.

    Attributes:
        rises: class 1, shape (T, N). part: 0 train, 1 choose, 2 test, -1 no sample, shape (T, N).
    """

    rises: BoolArray
    part: IntArray

    def rows(self, part: int) -> BoolArray:
        """Where a part's samples are, shape (T, N)."""
        return np.asarray(self.part == part)


def protocol(panel: Panel) -> Protocol:
    """The published samples of a panel of total-return closes."""
    move, bars = panel.total_return, ~np.isnan(panel.close)
    before = np.cumsum(bars, axis=0) - bars
    sample = ~np.isnan(move) & (before >= EARLIER_BARS) & ~((move >= FALL) & (move < RISE))
    day = panel.sessions[:, None]
    inside = sample & (day >= np.datetime64(FIRST)) & (day <= np.datetime64(LAST))
    place = (day > np.datetime64(TRAIN_END)).astype(np.int64) + (day > np.datetime64(DEV_END))
    part, rises = np.where(inside, place, -1), move > RISE
    # The features of the row before: what was known at the close of the day before the move.
    return Protocol(np.vstack([rises[1:], np.zeros_like(rises[:1])]), np.vstack([part[1:], np.full_like(part[:1], -1)]))


def matthews(said: BoolArray, is_so: BoolArray) -> float:
    """Correlation of two classes (Matthews 1975); 0 where one of them never occurs."""
    if said.all() or is_so.all() or not said.any() or not is_so.any():
        return 0.0
    return float(np.corrcoef(said, is_so)[0, 1])


def interval(days: IntArray, said: BoolArray, is_so: BoolArray, draws: int = 2000) -> tuple[FloatArray, FloatArray]:
    """95 % intervals of accuracy and Matthews correlation, drawing whole days: samples of a day move together."""
    generator = np.random.default_rng(7)
    places = [np.flatnonzero(days == day) for day in np.unique(days)]
    scores = []
    for chosen in generator.integers(0, len(places), size=(draws, len(places))):
        rows = np.concatenate([places[one] for one in chosen])
        scores.append(((said[rows] == is_so[rows]).mean(), matthews(said[rows], is_so[rows])))
    low, high = np.quantile(np.array(scores), [0.025, 0.975], axis=0)
    return np.array([low[0], high[0]]), np.array([low[1], high[1]])


def score(panel: Panel) -> list[dict[str, Any]]:
    """Every model with and without the tweets: chosen by nothing but the second part, told of the third."""
    samples = protocol(panel)
    counts = tuple(int(samples.rows(part).sum()) for part in range(3))
    cube = compute_features(panel)
    known = as_model_sees(cube.values, panel.member)
    of_texts = np.array(["sentiment" in name for name in cube.names])
    days = np.repeat(np.arange(len(panel.sessions))[:, None], len(panel.symbols), axis=1)
    rows: list[dict[str, Any]] = []
    for name, columns in (("prices", ~of_texts), ("prices and tweets", of_texts | ~of_texts), ("tweets", of_texts)):
        for estimator in ("ridge", "xgboost"):
            model = make(estimator, ModelConfig())
            train = samples.rows(0)
            taught = np.where(samples.rises[train], 0.5, -0.5)
            model.fit(Rows(np.ascontiguousarray(known[train][:, columns]), taught))
            for part, label in ((1, "choose"), (2, "test")):
                rows.append(
                    {"model": estimator, "features": name, "part": label}
                    | _figures(model.predict(Rows(np.ascontiguousarray(known[samples.rows(part)][:, columns]))) > 0,
                               samples.rises[samples.rows(part)], days[samples.rows(part)])
                )  # fmt: skip
    test = samples.rows(2)
    for name, said in (("always up", np.ones_like(test)), ("yesterday's sign", panel.total_return > 0)):
        rows.append({"model": name, "features": "", "part": "test"}
                    | _figures(said[test], samples.rises[test], days[test]))  # fmt: skip
    return [row | {"samples": counts} for row in rows]


def _figures(said: BoolArray, is_so: BoolArray, days: IntArray) -> dict[str, Any]:
    accuracy, correlation = interval(days, said, is_so)
    return {
        "accuracy": float((said == is_so).mean()), "accuracy_95": accuracy.tolist(),
        "mcc": matthews(said, is_so), "mcc_95": correlation.tolist(),
    }  # fmt: skip


def panel_of(home: Path, config: Path) -> Panel:
    """What `octopus run` knew at the decision of the last day."""
    from assets import inputs
    from resources.settings import load_settings
    from resources.warehouse.connection import Role
    from resources.warehouse.store import Warehouse

    settings = load_settings({"OCTOPUS_HOME": str(home), "OCTOPUS_CONFIG": str(config)})
    if settings.embedded is not None:
        settings.embedded.start()
    return inputs.panel(settings, Warehouse(settings.database_url, Role.RESEARCH), LAST)


def main() -> None:
    """Run, score, print, and write benchmarks/out/stocknet.json."""
    console = Console(width=120)
    home = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="octopus-stocknet-"))
    config = prepare(home)
    run_octopus(home, config)
    rows = score(panel_of(home, config))
    counts = rows[0]["samples"]
    told = "the published ones" if counts == SAMPLES else f"published: {SAMPLES}"
    table = Table(
        "model", "features", "part", "accuracy", "95 %", "Matthews", "95 %", title=f"samples {counts}, {told}"
    )
    for row in rows:
        table.add_row(
            row["model"], row["features"], row["part"], f"{row['accuracy']:.4f}", _span(row["accuracy_95"]),
            f"{row['mcc']:.4f}", _span(row["mcc_95"]),
        )  # fmt: skip
    console.print(table)
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    (out / "stocknet.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    console.print(f"The warehouse, its runs and models stay in {home}: OCTOPUS_HOME={home} OCTOPUS_CONFIG={config}")


def _span(ends: list[float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


if __name__ == "__main__":
    main()
