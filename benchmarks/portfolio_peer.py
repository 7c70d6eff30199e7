"""One peer of benchmarks/portfolio.py, in a process of its own and, but for skfolio, an environment of its own.

Belongs here: the peers' calls for the written problem. Does not: anything of Octopus.

`python portfolio_peer.py LIBRARY WORK RETURNS.npy WEIGHTS.npy RUNS` prints seconds: of the import, of the first call
and the medians of RUNS further ones, on the wall's clock and of the processor.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any


def skfolio(work: str, returns: Any) -> Callable[[], Any]:
    """Its estimators with their defaults."""
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk, RiskBudgeting

    models: dict[str, Callable[[], Any]] = {
        "minimum variance": MeanRisk,
        "CVaR 95": lambda: MeanRisk(risk_measure=RiskMeasure.CVAR),
        "risk parity": RiskBudgeting,
    }
    return lambda: models[work]().fit(returns).weights_


def riskfolio(work: str, returns: Any) -> Callable[[], Any]:
    """Its classic portfolio with historical estimates."""
    import pandas as pd
    import riskfolio as rp

    frame = pd.DataFrame(returns, columns=[f"S{number:04d}" for number in range(returns.shape[1])])

    def solve() -> Any:
        portfolio = rp.Portfolio(returns=frame)
        portfolio.assets_stats(method_mu="hist", method_cov="hist")
        if work == "risk parity":
            found = portfolio.rp_optimization(model="Classic", rm="MV", rf=0, b=None, hist=True)
        else:
            measure = "MV" if work == "minimum variance" else "CVaR"
            found = portfolio.optimization(model="Classic", rm=measure, obj="MinRisk", rf=0, l=0, hist=True)
        return found["weights"].to_numpy()

    return solve


def pypfopt(work: str, returns: Any) -> Callable[[], Any]:
    """Its efficient frontiers; it has no risk parity."""
    import pandas as pd
    from pypfopt import EfficientCVaR, EfficientFrontier, risk_models

    frame = pd.DataFrame(returns)

    def solve() -> Any:
        if work == "minimum variance":
            covariance = risk_models.sample_cov(frame, returns_data=True, frequency=1)
            frontier = EfficientFrontier(None, covariance)
            frontier.min_volatility()
        else:
            frontier = EfficientCVaR(None, frame, beta=0.95)
            frontier.min_cvar()
        return frontier.weights

    return solve


def main() -> None:
    """Solve, time, save."""
    library, work, source, target, runs = sys.argv[1:]
    started = time.perf_counter()
    import numpy as np

    returns = np.load(source)
    solve = {"skfolio": skfolio, "riskfolio": riskfolio, "pypfopt": pypfopt}[library](work, returns)
    imported = time.perf_counter() - started
    seconds, busy = [], []
    for _ in range(int(runs) + 1):
        started, worked = time.perf_counter(), time.process_time()
        weights = solve()
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - worked)
    np.save(target, np.asarray(weights, dtype=float))
    print(imported, seconds[0], statistics.median(seconds[1:]), statistics.median(busy[1:]))


if __name__ == "__main__":
    main()
