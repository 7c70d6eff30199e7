"""`python -m benchmarks.portfolio`: one written problem of 500 assets and 1260 days, ours beside skfolio and others.

Belongs here: making returns, running each side in a process of its own, holding the answers together, and printing.
Does not: methods (octopus/portfolio), the peers' calls (benchmarks/portfolio_peer.py), asserting times.

The problem: from returns of shape (1260, 500) to weights that are at least zero, sum to one, and have the least sample
variance, the least CVaR at 95 %, or equal contributions to variance. Estimating is part of the work on every side. Both
answers are measured by one function: they must agree to 1e-5 of its value, else the run fails; how far the weights are
apart is printed.

skfolio is locked. Riskfolio-Lib and PyPortfolioOpt are no dependencies: `python -m venv FOLDER`, `FOLDER/bin/pip
install riskfolio-lib pyportfolioopt`, and OCTOPUS_BENCH_PORTFOLIO=FOLDER.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.watch import ROOT, watched
from octopus.core.types import FloatArray

ASSETS, DAYS = 500, 1260
SIZE = f"{ASSETS} assets × {DAYS} days"
TOLERANCE = 1e-5
HOW = (
    "python -m venv FOLDER && FOLDER/bin/pip install riskfolio-lib pyportfolioopt, and set "
    "OCTOPUS_BENCH_PORTFOLIO=FOLDER"
)
METHODS = {"minimum variance": "minimum_variance", "CVaR 95": "minimum_cvar", "risk parity": "risk_parity"}
PEERS = {"skfolio": tuple(METHODS), "riskfolio": tuple(METHODS), "pypfopt": ("minimum variance", "CVaR 95")}
RUNS = {"minimum variance": 3, "CVaR 95": 1, "risk parity": 3}


@dataclass(frozen=True)
class Row:
    """One side of one work: seconds of a warm call, and how its answer compares with ours.

    Attributes:
        cpu_s: of all threads; on a machine with other work it is the fairer number.
        value: volatility, CVaR, or the largest deviation of a risk share from 1 / N. ratio, cpu_ratio: ours / theirs.
        weights_apart: largest difference of a weight from ours.
    """

    work: str
    side: str
    first_s: float
    warm_s: float
    cpu_s: float
    megabytes: float
    value: float
    weights_apart: float
    ratio: float
    cpu_ratio: float


def random_returns() -> FloatArray:
    """Five factors and fat tails, shape (DAYS, ASSETS)."""
    generator = np.random.default_rng(0)
    factors = generator.standard_normal((DAYS, 5)) * 0.008
    loadings = generator.uniform(-0.3, 1.2, (5, ASSETS))
    loadings[0] = generator.uniform(0.5, 1.5, ASSETS)
    own = generator.standard_t(5, (DAYS, ASSETS)) * generator.uniform(0.008, 0.02, ASSETS)
    return np.asarray(factors @ loadings + own + generator.normal(0, 0.0003, ASSETS))


def ours(work: str, source: str, target: str, runs: int) -> None:
    """Our side, in the process that is measured; prints seconds as the peers do."""
    started = time.perf_counter()
    from octopus.portfolio.config import Constraints
    from octopus.portfolio.covariance import sample_covariance
    from octopus.portfolio.optimiser import METHODS as ALL
    from octopus.portfolio.problem import Problem

    returns = np.load(source)
    count = returns.shape[1]
    limits = Constraints(
        name_weight_max=1, gross_max=1, net_max=1, turnover_max=2, turnover_max_initial=1, cash_min_fraction=-1
    )
    imported = time.perf_counter() - started
    seconds, busy, weights = [], [], np.zeros(count)
    for _ in range(runs + 1):
        started, worked = time.perf_counter(), time.process_time()
        problem = Problem(
            alpha=np.zeros(count), covariance=sample_covariance(returns), previous=np.zeros(count),
            tradable=np.ones(count, dtype=bool), risk_aversion=2.0, cost=0.0, constraints=limits, scenarios=returns,
        )  # fmt: skip
        weights = ALL[METHODS[work]](problem).weights  # type: ignore[index]
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - worked)
    np.save(target, weights)
    print(imported, seconds[0], statistics.median(seconds[1:]), statistics.median(busy[1:]))


def value_of(work: str, returns: FloatArray, weights: FloatArray) -> float:
    """The number that both sides minimise, of any weights."""
    from octopus.portfolio.optimiser import expected_shortfall

    if work == "CVaR 95":
        return expected_shortfall(returns @ weights, 0.95)[0]
    covariance = np.cov(returns.T)
    variance = float(weights @ covariance @ weights)
    if work == "minimum variance":
        return float(np.sqrt(variance))
    return float(np.abs(weights * (covariance @ weights) / variance - 1 / len(weights)).max())


def disagreement(work: str, mine: float, theirs: float, apart: float) -> str:
    """What is wrong with two answers to one problem; empty where they agree."""
    if work == "risk parity":
        # Both deviations are next to nothing; the optimum is one point, so the weights themselves must agree.
        return "" if apart <= TOLERANCE else f"weights differ by {apart:.2e}"
    if mine > theirs * (1 + TOLERANCE):
        return f"ours is worse: {mine:.9g} against {theirs:.9g}"
    return "" if theirs <= mine * (1 + TOLERANCE) else f"theirs is worse: {theirs:.9g} against {mine:.9g}"


def measured(command: list[str]) -> tuple[float, float, float, float]:
    """Seconds of the first call and of a warm one, of the processor in that, and the peak of memory in MB."""
    last, megabytes = watched(command)
    _, first, warm, busy = map(float, last.split())
    return first, warm, busy, megabytes


def rows(folder: Path, peers: Path | None, works: list[str]) -> Iterator[tuple[Row, str]]:
    """Each work by each side, with what is wrong about its answer."""
    returns, source = random_returns(), folder / "returns.npy"
    np.save(source, returns)
    for work in works:
        target = folder / "weights.npy"
        us = [sys.executable, "-m", "benchmarks.portfolio", "ours", work, str(source), str(target), str(RUNS[work])]
        first, warm, busy, megabytes = measured(us)
        weights = np.load(target)
        mine = Row(work, "octopus", first, warm, busy, megabytes, value_of(work, returns, weights), 0.0, 1.0, 1.0)
        yield mine, ""
        for peer, able in PEERS.items():
            python = Path(sys.executable) if peer == "skfolio" else peers and peers / "bin" / "python"
            if python is None or work not in able:
                continue
            script = [str(ROOT / "benchmarks" / "portfolio_peer.py"), peer, work, str(source), str(target)]
            first, warm, busy, megabytes = measured([str(python), *script, str(RUNS[work])])
            theirs = np.load(target).ravel()
            value, apart = value_of(work, returns, theirs), float(np.abs(theirs - weights).max())
            ratios = mine.warm_s / warm, mine.cpu_s / busy
            row = Row(work, peer, first, warm, busy, megabytes, value, apart, *ratios)
            yield row, disagreement(work, mine.value, value, apart)


def environment() -> Path | None:
    """Where Riskfolio-Lib and PyPortfolioOpt are; None if nowhere."""
    folder = os.environ.get("OCTOPUS_BENCH_PORTFOLIO")
    return Path(folder) if folder else None


def main() -> None:
    """Measure and print; the works of that name, or all."""
    if sys.argv[1:2] == ["ours"]:
        ours(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
        return
    console = Console(width=180)
    peers = environment()
    console.print(f"{SIZE}; {os.cpu_count()} cores; seconds of a warm call, estimates included")
    found, wrong = [], []
    with tempfile.TemporaryDirectory() as folder:
        for row, complaint in rows(Path(folder), peers, sys.argv[1:] or list(METHODS)):
            found.append(asdict(row))
            console.print(
                f"  {row.work}: {row.side} first {row.first_s:.3f} s, warm {row.warm_s:.4f} s ({row.cpu_s:.4f} s of "
                f"the processor), ours takes {row.ratio:.3f} ({row.cpu_ratio:.3f}) of it; {row.megabytes:,.0f} MB; "
                f"value {row.value:.9g}, weights apart {row.weights_apart:.1e} {complaint}"
            )
            if complaint:
                wrong.append(f"{row.work}, {row.side}: {complaint}")
    out = ROOT / "benchmarks" / "out"
    out.mkdir(exist_ok=True)
    (out / "portfolio.json").write_text(json.dumps(found, indent=2))
    if peers is None:
        console.print(f"Riskfolio-Lib and PyPortfolioOpt are not here: {HOW}")
    if wrong:
        raise SystemExit("not the same optimum: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
