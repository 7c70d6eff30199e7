"""The written problem of benchmarks/portfolio.py by skfolio, Riskfolio-Lib or PyPortfolioOpt.

Belongs here: the peers' calls. Does not: ours, comparing, measuring memory.

Given are ``returns`` (T, N); a job is ``LIBRARY WORK``; answered are ``weights`` (N,).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.peers.timing import Answer, Given, report

WARM = {"minimum variance": 3, "CVaR 95": 1, "risk parity": 3}
"""How many warm runs follow the first, on every side."""


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


LIBRARIES = {"skfolio": skfolio, "riskfolio": riskfolio, "pypfopt": pypfopt}


def solved(library: str, work: str, given: Given) -> Callable[[], Answer]:
    """A peer's solution of a work."""
    solve = LIBRARIES[library](work, given["returns"])
    return lambda: {"weights": solve()}


if __name__ == "__main__":
    library = sys.argv[-3].split(" ", 1)[0]
    report({f"{library} {work}": (partial(solved, library, work), warm) for work, warm in WARM.items()}, library)
