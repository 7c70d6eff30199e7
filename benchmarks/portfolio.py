"""`python -m benchmarks.portfolio`: one written problem of 500 assets and 1260 days, ours beside skfolio and others.

Belongs here: making returns, running each side in a process of its own, holding the answers together, and printing.
Does not: methods (octopus/portfolio), the peers' calls (benchmarks/peers/by_portfolio.py), asserting times.

The problem: from returns of shape (1260, 500) to weights that are at least zero, sum to one, and have the least sample
variance, the least CVaR at 95 %, or equal contributions to variance. Estimating is part of the work on every side. Both
answers are measured by one function: they must agree to 1e-5 of its value, else the run fails; how far the weights are
apart is printed.

skfolio is a dependency and runs in our interpreter; Riskfolio-Lib and PyPortfolioOpt run in ``.peers/portfolio``.

On a machine with other work the threads of a BLAS wait for each other at full speed, on every side: there
OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1, which each side is given, makes the processor's seconds tell of work.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.peers.by_portfolio import WARM
from benchmarks.peers.environments import absent, interpreter, run
from benchmarks.peers.timing import Answer, Given, report
from benchmarks.watch import ROOT, Side, load, side
from octopus.core.types import FloatArray

ASSETS, DAYS = 500, 1260
SIZE = f"{ASSETS} assets × {DAYS} days"
TOLERANCE = 1e-5
METHODS = {"minimum variance": "minimum_variance", "CVaR 95": "minimum_cvar", "risk parity": "risk_parity"}
PEERS = {"skfolio": tuple(METHODS), "riskfolio": tuple(METHODS), "pypfopt": ("minimum variance", "CVaR 95")}
ENVIRONMENTS = {"skfolio": None, "riskfolio": "portfolio", "pypfopt": "portfolio"}


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


def solved(work: str, given: Given) -> Callable[[], Answer]:
    """Our solution of a work."""
    from octopus.portfolio.config import Constraints
    from octopus.portfolio.covariance import sample_covariance
    from octopus.portfolio.optimiser import METHODS as ALL
    from octopus.portfolio.problem import Problem

    returns = given["returns"]
    count = returns.shape[1]
    limits = Constraints(
        name_weight_max=1, gross_max=1, net_max=1, turnover_max=2, turnover_max_initial=1, cash_min_fraction=-1
    )

    def solve() -> Answer:
        problem = Problem(
            alpha=np.zeros(count), covariance=sample_covariance(returns), previous=np.zeros(count),
            tradable=np.ones(count, dtype=bool), risk_aversion=2.0, cost=0.0, constraints=limits, scenarios=returns,
        )  # fmt: skip
        return {"weights": ALL[METHODS[work]](problem).weights}  # type: ignore[index]

    return solve


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


def rows(folder: Path, works: list[str]) -> Iterator[tuple[Row, str]]:
    """Each work by each side that is here, with what is wrong about its answer."""
    returns, source, target = random_returns(), folder / "returns.npz", folder / "weights.npz"
    np.savez(source, returns=returns)
    for work in works:
        took = side([sys.executable, "-m", "benchmarks.portfolio", work, str(source), str(target)])
        weights = _weights(target)
        mine = _row(work, "octopus", took, took, value_of(work, returns, weights), 0.0)
        yield mine, ""
        for peer, able in PEERS.items():
            environment = ENVIRONMENTS[peer]
            if work not in able or (environment and interpreter(environment) is None):
                continue
            theirs = run(environment, "by_portfolio", f"{peer} {work}", source, target)
            found = _weights(target)
            value, apart = value_of(work, returns, found), float(np.abs(found - weights).max())
            yield _row(work, peer, took, theirs, value, apart), disagreement(work, mine.value, value, apart)


def _row(work: str, who: str, ours: Side, took: Side, value: float, apart: float) -> Row:
    return Row(
        work, who, took.first_s, took.warm_s, took.warm_cpu_s, took.megabytes, value, apart, ours.warm_s / took.warm_s,
        ours.warm_cpu_s / max(took.warm_cpu_s, 0.01),
    )  # fmt: skip


def _weights(path: Path) -> FloatArray:
    with np.load(path) as archive:
        return np.asarray(archive["weights"], dtype=float).ravel()


def main() -> None:
    """Measure and print; the works of that name, or all."""
    if len(sys.argv) == 4 and sys.argv[3].endswith(".npz"):
        report({work: (partial(solved, work), warm) for work, warm in WARM.items()})
        return
    console = Console(width=180)
    console.print(f"{SIZE}; {load()}; seconds of a warm call, estimates included")
    found, wrong = [], []
    with tempfile.TemporaryDirectory() as folder:
        for row, complaint in rows(Path(folder), sys.argv[1:] or list(METHODS)):
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
    console.print(absent(["portfolio"]))
    if wrong:
        raise SystemExit("not the same optimum: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
