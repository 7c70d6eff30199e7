"""backtesting.py's own test: its SmaCross over the bars of GOOG that its package brings, without commission.

Belongs here: running it, and handing over its bars and figures. Does not: ours, comparing.

Nothing is given. Answered are the bars ``days``, ``open`` and ``close`` (T,), ``equity`` after each close (T,), the
ledger of trades (``entry``, ``exit``: rows; ``size``: signed shares), and the named figures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers.timing import Answer, Given, report


def crossover(_: Given) -> Callable[[], Answer]:
    """The averages of 10 and 30 closes; long above, short below; trades that are open at the end are closed."""
    from backtesting import Backtest
    from backtesting.test import GOOG
    from backtesting.test._test import SmaCross

    def work() -> Answer:
        figures = Backtest(GOOG, SmaCross, finalize_trades=True).run()
        trades = figures["_trades"]
        return {
            "days": GOOG.index.to_numpy(dtype="datetime64[D]"), "open": GOOG["Open"].to_numpy(dtype=float),
            "close": GOOG["Close"].to_numpy(dtype=float),
            "equity": figures["_equity_curve"]["Equity"].to_numpy(dtype=float),
            "entry": trades["EntryBar"].to_numpy(), "exit": trades["ExitBar"].to_numpy(),
            "size": trades["Size"].to_numpy(), "final": np.array(figures["Equity Final [$]"]),
            "max_drawdown": np.array(figures["Max. Drawdown [%]"] / 100),
            "sharpe": np.array(figures["Sharpe Ratio"]), "sortino": np.array(figures["Sortino Ratio"]),
        }  # fmt: skip

    return work


if __name__ == "__main__":
    report({"crossover": (crossover, 0)}, "backtesting")
