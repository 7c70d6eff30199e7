"""A daily rebalance by bt 1.4, in whole shares.

Belongs here: the rule said to bt. Does not: ours, comparing, measuring memory.

Given are ``close`` and ``targets`` (T, N), and ``days`` (T,). bt decides and fills on one close, and knows no other
way; 5 basis points of the value are paid. Answered is the account's value after each close (T,).
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers.rules import CASH, FEES
from benchmarks.peers.timing import Answer, Given, report


def rebalance(given: Given) -> Callable[[], Answer]:
    """One portfolio to the target weights of each session."""
    import bt
    import pandas as pd

    days = pd.DatetimeIndex(given["days"])
    names = [f"S{number:03d}" for number in range(given["close"].shape[1])]
    prices = pd.DataFrame(given["close"], index=days, columns=names)
    weights = pd.DataFrame(given["targets"], index=days, columns=names)

    def work() -> Answer:
        steps = [bt.algos.RunDaily(), bt.algos.SelectAll(), bt.algos.WeighTarget(weights), bt.algos.Rebalance()]
        test = bt.Backtest(
            bt.Strategy("peer", steps), prices, initial_capital=CASH, integer_positions=True,
            commissions=lambda quantity, price: abs(quantity) * price * FEES, progress_bar=False,
        )  # fmt: skip
        test.run()
        return {"equity": test.strategy.values.reindex(days).to_numpy(dtype=float)}

    return work


if __name__ == "__main__":
    report({"events": (rebalance, 0)}, "bt")
