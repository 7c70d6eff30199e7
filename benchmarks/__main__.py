"""`make bench`: every measurement, one after the other, as a table and as benchmarks/out/results.json.

Belongs here: the measurements and their printing. Does not: assertions on times.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import portfolio as optimisation
from octopus.core.costs import CostModel
from octopus.core.sessions import Sessions
from octopus.portfolio.config import Constraints
from octopus.portfolio.optimiser import optimise
from octopus.portfolio.problem import Problem
from resources.runtime.postgres import EmbeddedPostgres
from resources.sources.base import whole
from resources.sources.sample import SampleMarketData
from resources.warehouse.connection import Role, sqlalchemy_url
from resources.warehouse.migrate import migrate
from resources.warehouse.store import Warehouse

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Measurement:
    """One comparison: medians in seconds; memory is not measured where it is None."""

    work: str
    size: str
    ours_s: float
    peer: str
    peer_s: float
    ratio: float
    ours_mb: float | None
    peer_mb: float | None
    note: str


def median_seconds(work: Callable[[], Any], runs: int) -> float:
    """Median over ``runs`` after one warm-up."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def compare(
    work: str, size: str, ours: Callable[[], Any], peer: str, theirs: Callable[[], Any], runs: int, note: str
) -> Measurement:
    """Time both sides in the same run."""
    ours_s, peer_s = median_seconds(ours, runs), median_seconds(theirs, runs)
    return Measurement(work, size, ours_s, peer, peer_s, peer_s / ours_s, None, None, note)


def portfolio() -> Iterator[Measurement]:
    """Mean-variance with proportional costs: our programme and skfolio's, the same optimum."""
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    data = whole(SampleMarketData().fetch([], date(2021, 12, 1), date(2022, 12, 27), Sessions())).bars
    close = data.pivot(on="instrument", index="session", values="close").sort("session").drop("session").to_numpy()
    returns = (close[1:] / close[:-1] - 1)[-252:]
    count, cost, aversion = returns.shape[1], CostModel().linear_rate, 4.0
    previous = np.full(count, 1 / count)
    limits = Constraints(
        name_weight_max=0.12, gross_max=1.0, net_min=1.0, net_max=1.0, turnover_max=2.0, cash_min_fraction=-1.0
    )
    problem = Problem(
        alpha=returns.mean(axis=0), covariance=np.cov(returns, rowvar=False), previous=previous,
        tradable=np.ones(count, dtype=bool), risk_aversion=aversion, cost=cost, constraints=limits,
    )  # fmt: skip

    def theirs() -> Any:
        model = MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_UTILITY, risk_measure=RiskMeasure.VARIANCE,
            risk_aversion=aversion / 2, max_weights=0.12, transaction_costs=cost, previous_weights=previous,
        )  # fmt: skip
        return model.fit(returns).weights_

    gap = float(np.abs(optimise(problem).weights - theirs()).max())
    yield compare(
        "one rebalance, mean-variance with costs", f"{count} assets × {len(returns)} days", lambda: optimise(problem),
        "skfolio MeanRisk", theirs, 15, f"largest difference of a weight {gap:.1e}; skfolio estimates its moments too",
    )  # fmt: skip


def large_portfolios() -> Iterator[Measurement]:
    """Minimum variance, CVaR and risk parity of 500 assets, the same optimum to 1e-5 (benchmarks/portfolio.py)."""
    with tempfile.TemporaryDirectory() as folder:
        ours: dict[str, optimisation.Row] = {}
        for row, complaint in optimisation.rows(Path(folder), list(optimisation.METHODS)):
            if complaint:
                raise SystemExit(f"not the same optimum: {row.work}, {row.side}: {complaint}")
            mine = ours.setdefault(row.work, row)
            if row is not mine:
                yield Measurement(
                    row.work, optimisation.SIZE, mine.warm_s, row.side, row.warm_s, row.warm_s / mine.warm_s,
                    mine.megabytes, row.megabytes, f"largest difference of a weight {row.weights_apart:.1e}",
                )  # fmt: skip


def warehouse() -> Iterator[Measurement]:
    """Reading bars as known at an instant, and appending them again, on an embedded PostgreSQL."""
    import pandas as pd
    from sqlalchemy import create_engine

    home = Path(tempfile.mkdtemp(prefix="octopus-bench-"))
    server = EmbeddedPostgres(home)
    server.start()
    try:
        migrate(server.url())
        bars = whole(SampleMarketData().fetch([], date(1990, 1, 1), date(2022, 12, 28), Sessions())).bars
        store = Warehouse(server.url(), Role.RESEARCH)
        store.append("bars", bars, source="sample")
        engine = create_engine(sqlalchemy_url(server.url()))
        query = "select instrument, session, close from raw.bars where known_at <= '2023-01-01'"
        ours, theirs = store.read(query), pd.read_sql(query, engine)
        if len(ours) != len(theirs) or abs(float(ours["close"].sum()) - float(theirs["close"].sum())) > 1e-6:
            raise SystemExit("both reads must give the same rows")
        yield compare(
            "as-of read into a frame", f"{len(ours):,} rows", lambda: store.read(query), "pandas.read_sql (psycopg2)",
            lambda: pd.read_sql(query, engine), 5, "same rows and sum of closes",
        )  # fmt: skip
        frame = bars.to_pandas()

        def upsert() -> None:
            with engine.begin() as connection:
                connection.exec_driver_sql("drop table if exists peer, stage")
                connection.exec_driver_sql(
                    "create table peer (source text, instrument text, ts timestamptz, close float8, "
                    "primary key (source, instrument, ts))"
                )
                kept = frame[["source", "instrument", "ts", "close"]]
                kept.to_sql("stage", connection, index=False, method="multi", chunksize=5000)
                connection.exec_driver_sql(
                    "insert into peer select source, instrument, ts, close from stage on conflict do nothing"
                )

        def append() -> None:
            with store.connect() as connection:
                connection.execute("set role none")
                connection.execute("truncate raw.bars, ops.batches")
            store.append("bars", bars, source="sample")

        yield compare(
            "first append of all bars", f"{len(bars):,} rows", append,
            "pandas.to_sql to a stage, then upsert", upsert, 2,
            "ours keeps versions; the peer stores four columns of one version",
        )  # fmt: skip
        engine.dispose()
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    """Run everything."""
    console = Console()
    console.print(f"{os.cpu_count()} cores, Python {platform.python_version()}; medians; ratio = peer / ours")
    found: list[Measurement] = []
    table = Table("work", "size", "ours, s", "peer", "peer, s", "ratio", "note")
    for group in (portfolio, large_portfolios, warehouse):
        for one in group():
            found.append(one)
            console.print(f"  {one.work}: {one.ratio:.1f} times {one.peer}")
            table.add_row(
                one.work, one.size, f"{one.ours_s:.4f}", one.peer, f"{one.peer_s:.4f}", f"{one.ratio:.1f}", one.note
            )
    console.print(table)
    OUT.mkdir(exist_ok=True)
    (OUT / "results.json").write_text(json.dumps([asdict(one) for one in found], indent=2))
    console.print(f"written to {OUT / 'results.json'}")


if __name__ == "__main__":
    main()
