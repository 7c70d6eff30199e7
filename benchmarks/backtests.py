"""`python -m benchmarks.backtests`: a daily rebalance by both engines, a sweep and an oracle, ours beside four peers.

Belongs here: making prices, running both sides in processes of their own, comparing their ledgers and printing. Does
not: rules (octopus/backtest), what a peer is told (benchmarks/peers), asserting times.

Works: ``rebalance`` and ``sweep`` by the vectorised engine beside vectorbt, in fractions of a share, every trade and
value compared; ``events`` by the event-driven engine with both gates beside zipline and bt, in whole shares at prices
in cents, every trade compared with zipline's, whose rule is the same; ``crossover``, backtesting.py's own test. A
number on the command line is of sessions: the works grow in proportion to them, and zipline takes minutes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.peers.environments import absent, interpreter, run
from benchmarks.peers.rules import CASH, FEES, INVESTED, crossings, running_total
from benchmarks.peers.timing import Answer, Given, report
from benchmarks.watch import ROOT, Side, load, side
from octopus.core.types import FloatArray

SESSIONS = 2520
HISTORY = 500
"""Sessions before the first one that the event-driven engine's risk gate measures losses on."""
SIZES = {
    "rebalance": "500 assets × {} days, daily rebalance",
    "sweep": "1000 parameter sets × 100 symbols × {} days",
    "events": "500 assets × {} days, daily rebalance in whole shares, event-driven, gates included",
}
PEERS = {"rebalance": ("vectorbt",), "sweep": ("vectorbt",), "events": ("zipline", "bt")}
_ENGINE = "octopus.backtest.simulator", "octopus.backtest.sweep", "octopus.backtest.events", "octopus.backtest.judges"


def prices(symbols: int, sessions: int, seed: int = 0) -> FloatArray:
    """Random walks, shape (T, N)."""
    steps = np.random.default_rng(seed).normal(0.0003, 0.02, (sessions, symbols))
    return np.asarray(100 * np.exp(np.cumsum(steps, axis=0)))


def arrays(job: str, sessions: int = SESSIONS) -> dict[str, Any]:
    """What both sides of a job are given."""
    from octopus.core.sessions import Sessions

    generator = np.random.default_rng(1)
    if job == "sweep":
        fast, slow = generator.integers(2, 60, 1000), generator.integers(61, 250, 1000)
        return {"close": prices(100, sessions), "fast": fast, "slow": slow}
    targets = generator.dirichlet(np.ones(500), sessions) * INVESTED
    if job == "rebalance":
        return {"close": prices(500, sessions), "targets": targets}
    close = np.round(prices(500, sessions + HISTORY), 2)
    days = Sessions().between(date(2010, 1, 4), date(2030, 12, 31))[: len(close)]
    return {"close": close[HISTORY:], "targets": targets, "days": days[HISTORY:],
            "close_before": close[:HISTORY], "days_before": days[:HISTORY]}  # fmt: skip


# -- ours, in the process that is measured -----------------------------------------------------------------------------


def rebalance(given: Given) -> Callable[[], Answer]:
    """The vectorised engine to target weights, in fractions of a share."""
    from octopus.backtest.simulator import simulate_targets

    panel = panel_of(given["close"])
    return lambda: _ledger(panel, simulate_targets(panel, given["targets"], *_fractional()))


def sweep(given: Given) -> Callable[[], Answer]:
    """Every pair of windows, on all cores."""
    from octopus.backtest.sweep import parameter_key
    from octopus.backtest.sweep import sweep as run_sweep

    panel = panel_of(given["close"])
    sets = [{"fast": int(a), "slow": int(b)} for a, b in zip(given["fast"], given["slow"], strict=True)]

    def work() -> Answer:
        total = running_total(given["close"])
        found = run_sweep(
            panel, sets, lambda p: crossings(total, p["fast"], p["slow"]), *_fractional(), workers=os.cpu_count() or 1
        )
        finals = {one.key: one.final_equity for one in found}
        return {"final": np.array([finals[parameter_key(chosen)] for chosen in sets])}

    return work


def events(given: Given, *, vectorised: bool) -> Callable[[], Answer]:
    """Whole shares by the event-driven engine with both gates, told limits that the job keeps; or by the other one."""
    from octopus.backtest.config import BacktestConfig
    from octopus.backtest.events import simulate_events
    from octopus.backtest.judges import Gating
    from octopus.backtest.simulator import simulate_targets
    from octopus.backtest.sizing import Sizing
    from octopus.core.costs import CostModel
    from octopus.market_data.returns import total_returns
    from octopus.portfolio.config import PortfolioConfig

    panel = panel_of(np.vstack([given["close_before"], given["close"]]))
    panel = replace(
        panel, sessions=np.concatenate([given["days_before"], given["days"]]), price_basis="total_return",
        total_return=np.nan_to_num(total_returns(panel.close, panel.split, panel.dividend)),
    )  # fmt: skip
    config = BacktestConfig(start=given["days"][0].item(), execution="close", initial_cash=CASH)
    portfolio = PortfolioConfig(trade_min_fraction=0.0, cash_buffer=0.0)
    costs = CostModel(commission_bps=FEES * 1e4, half_spread_bps=0, slippage_bps=0)
    targets = np.vstack([np.full(given["close_before"].shape, np.nan), given["targets"]])

    def work() -> Answer:
        if vectorised:
            return _ledger(panel, simulate_targets(panel, targets, config, Sizing.of(portfolio), costs))
        gating = Gating(*wide_gates())
        done = simulate_events(panel, lambda row, _: targets[row], config, portfolio, costs, gating)
        return {**_ledger(panel, done.result), "denied": len(done.denials)}

    return work


def _fractional() -> tuple[Any, Any, Any]:
    from octopus.backtest.config import BacktestConfig
    from octopus.backtest.sizing import Sizing
    from octopus.core.costs import CostModel

    return (
        BacktestConfig(start=date(2010, 1, 4), execution="close", initial_cash=CASH),
        Sizing(lot=0.0, fractional=True, band=0.0, least_notional=0.0, cash_buffer=0.0, long_only=True),
        CostModel(commission_bps=FEES * 1e4, half_spread_bps=0, slippage_bps=0),
    )


def _ledger(panel: Any, made: Any) -> dict[str, Any]:
    rows = np.searchsorted(made.sessions, made.trades.session)
    return {"final": made.equity[-1:], "equity": made.equity, "row": rows, "column": made.trades.instrument,
            "fees": made.trades.fees, "size": made.trades.side * made.trades.shares,
            "price": made.trades.price}  # fmt: skip


def wide_gates() -> tuple[Any, Any]:
    """The shipped limits and policy, with room for 500 orders a day that turn the whole account over."""
    import yaml

    from octopus.compliance.rules import CompliancePolicy
    from octopus.risk.limits import RiskLimits

    limits, policy = (
        yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8"))
        for name in ("risk.yaml", "compliance.yaml")
    )
    limits |= {"turnover_max": 3.0, "turnover_max_initial": 3.0, "partial_fill_allowance": 1.0, "drawdown_stop": 1.0,
               "sector_weight_max": None, "capital_threshold_usd": 1e12}  # fmt: skip
    for rule in policy["rules"]:
        if rule["id"] == "order_count":
            rule["parameters"]["max_orders"] = 1000
    return RiskLimits.model_validate(limits), CompliancePolicy.model_validate(policy)


def panel_of(close: FloatArray) -> Any:
    """A panel of closes and nothing else."""
    from octopus.core.panel import Panel

    empty, ones = np.full(close.shape, np.nan), np.ones(close.shape)
    return Panel(
        sessions=np.datetime64("2010-01-04") + np.arange(len(close)),
        symbols=tuple(f"S{number:03d}" for number in range(close.shape[1])),
        close=close, total_return=empty, open=empty, high=empty, low=empty, volume=empty, sentiment=empty,
        member=np.ones(close.shape, dtype=bool), split=ones, dividend=np.zeros(close.shape), price_basis="raw",
    )  # fmt: skip


# -- both sides --------------------------------------------------------------------------------------------------------


def ledgers_differ(left: Mapping[str, Any], right: Mapping[str, Any]) -> str:
    """What differs between two ledgers of trades; empty where every trade is the same. Fees where both tell them."""
    order = [np.lexsort((one["column"], one["row"])) for one in (left, right)]
    if len(order[0]) != len(order[1]):
        keys = [list(zip(one["row"], one["column"], one["size"], strict=True)) for one in (left, right)]
        first = min(row for row, _, _ in set(keys[0]) ^ set(keys[1]))
        return f"{len(keys[0]):,} and {len(keys[1]):,} trades, which differ from session {first} on"
    for name, tolerance in (("row", 0), ("column", 0), ("size", 1e-6), ("price", 1e-9), ("fees", 1e-6)):
        if name in left and name in right:
            gap = np.abs(left[name][order[0]] - right[name][order[1]]).max()
            if gap > tolerance:
                return f"{name} by up to {gap:.3g}"
    return ""


def on_the_deciding_close(close: FloatArray, targets: FloatArray) -> FloatArray:
    """Equity after each close, shape (T,), by bt's rule in NumPy: the orders of session t fill at the close of t.

    Every order is the largest whole number of shares that costs at most what the target lacks, or brings at least what
    is beyond it, commission included. First bt rounds before commission: what comes to nothing then is not traded, and
    what comes to the whole holding is that. On the last session it does nothing.
    """
    cash, held, equity = CASH, np.zeros(close.shape[1]), np.empty(len(close))
    for row, (price, weights) in enumerate(zip(close, targets, strict=True)):
        base = cash + held @ price
        amount = weights * base - held * price
        change = np.floor(amount / (price * np.where(amount > 0, 1 + FEES, 1 - FEES)))
        before = np.where(held < 0, np.ceil(amount / price), np.floor(amount / price))
        change = np.where((before == 0) | (before == -held), before, change) if row < len(close) - 1 else 0 * held
        cash -= change @ price + np.abs(change) @ price * FEES
        held += change
        equity[row] = cash + held @ price
    return equity


def sides(folder: Path, job: str, sessions: int) -> Iterator[tuple[str, Side, str]]:
    """A job by each side that is here: who, what it took, and how its answer compares with ours."""
    source, mine = folder / f"{job}.npz", folder / "octopus.npz"
    given = arrays(job, sessions)
    np.savez(source, **given)
    us = [sys.executable, "-m", "benchmarks.backtests"]
    took = side([*us, job, str(source), str(mine)])
    said = ""
    if job == "events":
        side([*us, "vectorised", str(source), str(folder / "vectorised.npz")])
        denied = int(_read(mine)["denied"])
        said = f"{denied} orders denied; beside the vectorised engine: {_alike(mine, folder / 'vectorised.npz')}"
    yield "octopus", took, said
    for peer in PEERS[job]:
        if interpreter(peer):
            target = folder / f"{peer}.npz"
            yield peer, run(peer, f"by_{peer}", job, source, target), _beside(job, peer, given, mine, target)


def _beside(job: str, peer: str, given: Given, mine: Path, target: Path) -> str:
    left, right = _read(mine), _read(target)
    if peer == "bt":
        gap = np.abs(right["equity"] - on_the_deciding_close(given["close"], given["targets"])).max()
        return (
            f"fills on the close that decides, so its final value is another by "
            f"{abs(right['equity'][-1] - left['equity'][-1]):,.0f}; that rule in NumPy gives its value to {gap:.6f}"
        )
    if job == "sweep":
        return f"final values differ by at most {np.abs(left['final'] - right['final']).max():.6f}"
    return _alike(mine, target)


def _alike(left: Path, right: Path) -> str:
    mine, theirs = _read(left), _read(right)
    name = "equity" if "equity" in mine and "equity" in theirs else "final"
    gap = np.abs(mine[name] - theirs[name]).max()
    trades = ledgers_differ(mine, theirs) or f"all {len(mine['row']):,} trades are the same"
    return f"{name} differs by at most {gap:.6f}; {trades}"


def _read(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def oracle(folder: Path) -> str:
    """backtesting.py's own test by both engines."""
    from benchmarks.crossover import crossed

    np.savez(folder / "nothing.npz")
    run("backtesting", "by_backtesting", "crossover", folder / "nothing.npz", folder / "told.npz")
    told = _read(folder / "told.npz")
    lines = [
        f"  {name}: final equity {one.equity[-1]:,.2f}, {one.trades} trades, drawdown {one.max_drawdown:.7f}, "
        f"Sharpe {one.sharpe:.6f}, Sortino {one.sortino:.6f}; equity differs by at most "
        f"{np.abs(one.equity - told['equity']).max():.2g}"
        for name, one in crossed(told).items()
    ]
    said = f"final equity {told['final']:,.2f}, {len(told['entry'])} trades, drawdown {told['max_drawdown']:.7f}"
    first = f"backtesting.py's own test: {said}, Sharpe {told['sharpe']:.6f}, Sortino {told['sortino']:.6f}"
    return "\n".join([first, *lines])


def told(work: str, who: str, took: Side, mine: Side, said: str) -> str:
    """A line for people: what a side took, and how many times ours."""
    return (
        f"{work}: {who} import {took.imported_s:.2f} s, first {took.first_s:.2f} s, warm {took.warm_s:.3f} s "
        f"({took.warm_s / mine.warm_s:.1f} times ours), of the processor {took.warm_cpu_s:.3f} s "
        f"({took.warm_cpu_s / max(mine.warm_cpu_s, 0.01):.1f} times), {took.megabytes:,.0f} MB "
        f"({took.megabytes / mine.megabytes:.1f} times); {load()}; {said}"
    )


def main() -> None:
    """Measure and print; the works of that name, or all."""
    if len(sys.argv) == 4 and sys.argv[3].endswith(".npz"):
        report(
            {
                "rebalance": (rebalance, 4), "sweep": (sweep, 1), "events": (partial(events, vectorised=False), 0),
                "vectorised": (partial(events, vectorised=True), 0),
            },
            *_ENGINE,
        )  # fmt: skip
        return
    console, found = Console(width=160), []
    sessions = next((int(word) for word in sys.argv[1:] if word.isdecimal()), SESSIONS)
    works = [word for word in sys.argv[1:] if not word.isdecimal()] or [*SIZES, "crossover"]
    with tempfile.TemporaryDirectory() as folder:
        for job in (job for job in SIZES if job in works):
            work, mine = SIZES[job].format(sessions), None
            for who, took, said in sides(Path(folder), job, sessions):
                mine = mine or took
                found.append({"work": work, "side": who, "load": load(), "note": said, **asdict(took)})
                console.print(told(work, who, took, mine, said))
        if "crossover" in works and interpreter("backtesting"):
            console.print(oracle(Path(folder)))
    out = ROOT / "benchmarks" / "out"
    out.mkdir(exist_ok=True)
    (out / "backtests.json").write_text(json.dumps(found, indent=2))
    console.print(absent(["vectorbt", "zipline", "bt", "backtesting"]))


if __name__ == "__main__":
    main()
