"""Backtests by vectorbt 1.2: a daily rebalance and a sweep.

Belongs here: the rules said to vectorbt. Does not: ours, comparing, measuring memory.

Given are ``close`` (T, N) and, for ``rebalance``, ``targets`` (T, N); for ``sweep``, ``fast`` and ``slow`` (P,),
windows of moving averages. Orders of session t are sized with its close and fill at the close of t + 1; 5 basis points
of the value are paid. Answered are final values (1,) or (P,), and of the rebalance the ledger of trades.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers.rules import CASH, FEES, crossings, running_total
from benchmarks.peers.timing import Answer, Given, report

_CHUNK = 50
"""Parameter sets that vectorbt runs at once: all at once would take 40 GB."""


def orders(close: Any, targets: Any, groups: int) -> Any:
    """Portfolios that share cash within a group, each ``close.shape[1]`` columns wide."""
    import pandas as pd
    import vectorbt as vbt

    count = close.shape[1]
    columns = pd.MultiIndex.from_product([range(groups), range(count)], names=["group", "instrument"])
    prices = pd.DataFrame(np.tile(close, groups), columns=columns)
    before = np.vstack([close[:1], close[:-1]])
    sizes = np.vstack([np.full((1, targets.shape[1]), np.nan), targets[:-1]])
    return vbt.Portfolio.from_orders(
        prices, size=sizes, size_type="targetpercent", price=prices, val_price=np.tile(before, groups), fees=FEES,
        init_cash=CASH, cash_sharing=True, group_by="group", call_seq="auto", freq="1D",
    )  # fmt: skip


def rebalance(given: Given) -> Callable[[], Answer]:
    """One portfolio to the target weights of each session."""

    def work() -> Answer:
        made = orders(given["close"], given["targets"], 1)
        records = made.orders.values
        return {
            "final": np.array([float(made.value().iloc[-1])]), "row": records["idx"], "column": records["col"],
            "size": np.where(records["side"] == 0, records["size"], -records["size"]), "price": records["price"],
            "fees": records["fees"],
        }  # fmt: skip

    return work


def sweep(given: Given) -> Callable[[], Answer]:
    """A portfolio for each pair of windows."""
    return partial(_sweep, given["close"], list(zip(given["fast"].tolist(), given["slow"].tolist(), strict=True)))


def _sweep(close: Any, windows: list[tuple[int, int]]) -> Answer:
    finals, total = [], running_total(close)
    for start in range(0, len(windows), _CHUNK):
        pairs = windows[start : start + _CHUNK]
        targets = np.hstack([crossings(total, fast, slow) for fast, slow in pairs])
        finals.append(orders(close, targets, len(pairs)).final_value().to_numpy())
    return {"final": np.concatenate(finals)}


if __name__ == "__main__":
    report({"rebalance": (rebalance, 2), "sweep": (sweep, 0)}, "vectorbt")
