"""Backtests by vectorbt or bt, in a process of its own: `python benchmarks/backtest_peer.py PEER JOB INPUT OUTPUT`.

Belongs here: the same rules said to a peer, and what it answers. Does not: ours, comparing, measuring memory.

INPUT is a NumPy archive of ``close`` (T, N) and, for the job ``rebalance``, ``targets`` (T, N); for ``sweep``, ``fast``
and ``slow`` (P,), windows of moving averages. Orders of session t are sized with its close and fill at the close of
t + 1; 5 basis points of the value are paid. OUTPUT gets final values (1,) or (P,), and the ledger of trades. The last
line printed is: seconds to import, of the first run, of a second run.

Needs vectorbt 1.2 or bt 1.4 and nothing of this project.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

FEES, CASH, INVESTED = 5e-4, 1_000_000.0, 0.95
_CHUNK = 50
"""Parameter sets that vectorbt runs at once: all at once would take 40 GB."""


def running_total(close: Any) -> Any:
    """What averages are differences of, shape (T + 1, N)."""
    return np.vstack([np.zeros((1, close.shape[1])), np.cumsum(close, axis=0)])


def crossings(total: Any, fast: int, slow: int) -> Any:
    """Weights (T, N) of the instruments whose fast average is above the slow one; the rule of both sides."""
    weights = np.zeros((len(total) - 1, total.shape[1]))
    last = total[slow:]
    is_above = (last - total[slow - fast : -fast]) * (slow / fast) > last - total[:-slow]
    np.multiply(is_above, INVESTED / total.shape[1], out=weights[slow - 1 :])
    return weights


def vectorbt_orders(close: Any, targets: Any, groups: int) -> Any:
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


def vectorbt_rebalance(given: Any) -> dict[str, Any]:
    made = vectorbt_orders(given["close"], given["targets"], 1)
    records = made.orders.values
    return {
        "final": np.array([float(made.value().iloc[-1])]), "row": records["idx"], "column": records["col"],
        "size": np.where(records["side"] == 0, records["size"], -records["size"]), "price": records["price"],
        "fees": records["fees"],
    }  # fmt: skip


def vectorbt_sweep(given: Any) -> dict[str, Any]:
    close, fast, slow = given["close"], given["fast"], given["slow"]
    finals, total = [], running_total(close)
    for start in range(0, len(fast), _CHUNK):
        pairs = list(zip(fast[start : start + _CHUNK], slow[start : start + _CHUNK], strict=True))
        targets = np.hstack([crossings(total, int(a), int(b)) for a, b in pairs])
        finals.append(vectorbt_orders(close, targets, len(pairs)).final_value().to_numpy())
    return {"final": np.concatenate(finals)}


def bt_rebalance(given: Any) -> dict[str, Any]:
    """bt decides and fills on one close; its cost rule is told the same rate."""
    import bt
    import pandas as pd

    days = pd.bdate_range("2010-01-04", periods=len(given["close"]))
    names = [f"S{number:03d}" for number in range(given["close"].shape[1])]
    prices = pd.DataFrame(given["close"], index=days, columns=names)
    weights = pd.DataFrame(given["targets"], index=days, columns=names)
    steps = [bt.algos.RunDaily(), bt.algos.SelectAll(), bt.algos.WeighTarget(weights), bt.algos.Rebalance()]
    test = bt.Backtest(
        bt.Strategy("peer", steps), prices, initial_capital=CASH, integer_positions=False,
        commissions=lambda quantity, price: abs(quantity) * price * FEES, progress_bar=False,
    )  # fmt: skip
    result = bt.run(test)
    return {"final": np.array([float(result.backtests["peer"].strategy.values.iloc[-1])])}


def main() -> None:
    """Import, run twice, keep the answer."""
    peer, job, source, target = sys.argv[1:5]
    started = time.perf_counter()
    __import__(peer)
    imported = time.perf_counter() - started
    work = {("vectorbt", "rebalance"): vectorbt_rebalance, ("vectorbt", "sweep"): vectorbt_sweep,
            ("bt", "rebalance"): bt_rebalance}[peer, job]  # fmt: skip
    with np.load(source) as archive:
        given = {name: archive[name] for name in archive.files}
    seconds = []
    repeats = 2 if (peer, job) == ("vectorbt", "rebalance") else 1
    answer: dict[str, Any] = {}
    for _ in range(repeats):
        started = time.perf_counter()
        answer = work(given)
        seconds.append(time.perf_counter() - started)
    np.savez(target, **answer)
    print(imported, seconds[0], seconds[-1])


if __name__ == "__main__":
    main()
