"""`python -m benchmarks.backtests`: a daily rebalance by both engines and a sweep, ours beside vectorbt and bt.

Belongs here: making prices, running both sides in processes of their own, comparing their ledgers and printing. Does
not: rules (octopus/backtest), asserting times.

The peers are no dependencies: `python -m venv FOLDER && FOLDER/bin/pip install vectorbt==1.2.0 bt`, and
OCTOPUS_BENCH_BACKTEST=FOLDER. vectorbt's licence (Commons Clause) allows measuring beside it, not selling it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.backtest_peer import CASH, FEES, INVESTED, crossings, running_total
from benchmarks.watch import ROOT, watched
from octopus.core.types import FloatArray

HOW = "python -m venv FOLDER && FOLDER/bin/pip install vectorbt==1.2.0 bt, and set OCTOPUS_BENCH_BACKTEST=FOLDER"
SESSIONS = 2520
HISTORY = 500
"""Sessions before the first one that the event-driven engine's risk gate measures losses on."""


@dataclass(frozen=True)
class Timed:
    """One side: seconds to import, of the first run (compiling where it must) and of a warm one, and peak MB."""

    imported: float
    first: float
    warm: float
    megabytes: float


def prices(symbols: int, seed: int = 0, sessions: int = SESSIONS) -> FloatArray:
    """Random walks, shape (T, N)."""
    steps = np.random.default_rng(seed).normal(0.0003, 0.02, (sessions, symbols))
    return np.asarray(100 * np.exp(np.cumsum(steps, axis=0)))


def timed(command: list[str]) -> Timed:
    """Run a command whose last line is its seconds, and watch its memory."""
    last, megabytes = watched(command)
    imported, first, warm = map(float, last.split())
    return Timed(imported, first, warm, megabytes)


def ours(job: str, source: str, target: str) -> None:
    """Our side, in the process that is measured."""
    started = time.perf_counter()
    from octopus.backtest import simulator, sweep
    from octopus.backtest.config import BacktestConfig
    from octopus.backtest.sizing import Sizing
    from octopus.core.costs import CostModel

    imported = time.perf_counter() - started
    with np.load(source) as archive:
        given = {name: archive[name] for name in archive.files}
    panel = panel_of(given["close"])
    config = BacktestConfig(start=date(2010, 1, 4), execution="close", initial_cash=CASH)
    sizing = Sizing(lot=0.0, fractional=True, band=0.0, least_notional=0.0, cash_buffer=0.0, long_only=True)
    costs = CostModel(commission_bps=FEES * 1e4, half_spread_bps=0, slippage_bps=0)

    def rebalance() -> dict[str, Any]:
        made = simulator.simulate_targets(panel, given["targets"], config, sizing, costs)
        rows = np.searchsorted(panel.sessions, made.trades.session)
        return {"final": made.equity[-1:], "row": rows, "column": made.trades.instrument, "fees": made.trades.fees,
                "size": made.trades.side * made.trades.shares, "price": made.trades.price}  # fmt: skip

    def many() -> dict[str, Any]:
        sets = [{"fast": int(a), "slow": int(b)} for a, b in zip(given["fast"], given["slow"], strict=True)]
        total = running_total(given["close"])
        found = sweep.sweep(
            panel, sets, lambda p: crossings(total, p["fast"], p["slow"]), config, sizing, costs,
            workers=os.cpu_count() or 1,
        )  # fmt: skip
        finals = {one.key: one.final_equity for one in found}
        return {"final": np.array([finals[sweep.parameter_key(chosen)] for chosen in sets])}

    work, repeats = {"rebalance": (rebalance, 5), "sweep": (many, 2), "events": (lambda: events(given), 1)}[job]
    seconds, answer = [], {}
    for _ in range(repeats):
        started = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - started)
    np.savez(target, **answer)
    print(imported, seconds[0], float(np.median(seconds[-max(repeats - 1, 1) :])))


def events(given: dict[str, Any]) -> dict[str, Any]:
    """The event-driven engine with both gates, told limits that the job keeps; what it says beside the other engine."""
    from dataclasses import replace

    from octopus.backtest.config import BacktestConfig
    from octopus.backtest.events import simulate_events
    from octopus.backtest.judges import Gating
    from octopus.backtest.reconcile import compare
    from octopus.backtest.simulator import simulate_targets
    from octopus.backtest.sizing import Sizing
    from octopus.core.costs import CostModel
    from octopus.market_data.returns import total_returns
    from octopus.portfolio.config import PortfolioConfig

    panel = panel_of(given["close"])
    returns = np.nan_to_num(total_returns(panel.close, panel.split, panel.dividend))
    days = panel.clock.between(date(2010, 1, 4), date(2030, 12, 31))[: len(panel.sessions)]
    panel = replace(panel, sessions=days, total_return=returns, price_basis="total_return")
    config = BacktestConfig(
        start=panel.sessions[HISTORY].item(), execution="close", initial_cash=CASH, round_as_venue=True
    )
    portfolio = PortfolioConfig(fractional=True, trade_min_fraction=0.0, cash_buffer=0.0)
    costs = CostModel(commission_bps=FEES * 1e4, half_spread_bps=0, slippage_bps=0)
    gating, targets = Gating(*wide_gates()), given["targets"]
    started = time.perf_counter()
    run = simulate_events(panel, lambda row, _: targets[row], config, portfolio, costs, gating)
    seconds = time.perf_counter() - started
    other = simulate_targets(panel, targets, config, Sizing.of(portfolio), costs)
    told = f"{len(run.denials)} orders denied; {compare(other, run.result)}"
    return {"final": run.result.equity[-1:], "told": np.array(told), "seconds": np.array(seconds)}


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


def ledgers_differ(left: Any, right: Any) -> str:
    """What differs between two ledgers of trades; empty where every trade is the same."""
    order = [np.lexsort((one["column"], one["row"])) for one in (left, right)]
    if len(order[0]) != len(order[1]):
        return f"{len(order[0]):,} and {len(order[1]):,} trades"
    for name, tolerance in (("row", 0), ("column", 0), ("size", 1e-6), ("price", 1e-9), ("fees", 1e-6)):
        gap = np.abs(left[name][order[0]] - right[name][order[1]]).max()
        if gap > tolerance:
            return f"{name} by up to {gap:.3g}"
    return ""


def rows(folder: Path, peers: Path | None) -> Iterator[dict[str, Any]]:
    """Each job by each side."""
    generator = np.random.default_rng(1)
    weights = generator.dirichlet(np.ones(500), SESSIONS) * INVESTED
    fast, slow = generator.integers(2, 60, 1000), generator.integers(61, 250, 1000)
    jobs = {
        "rebalance": ("500 assets × 2520 days, daily rebalance", {"close": prices(500), "targets": weights}),
        "events": (
            "the same by the event-driven engine, gates included",
            {
                "close": prices(500, sessions=SESSIONS + HISTORY),
                "targets": generator.dirichlet(np.ones(500), SESSIONS + HISTORY) * INVESTED,
            },
        ),
        "sweep": ("1000 parameter sets × 100 symbols × 2520 days", {"close": prices(100), "fast": fast, "slow": slow}),
    }
    for job, (size, arrays) in jobs.items():
        source = folder / f"{job}.npz"
        np.savez(source, **arrays)  # type: ignore[arg-type]
        mine = timed([sys.executable, "-m", "benchmarks.backtests", "ours", job, str(source), str(folder / "o.npz")])
        yield {"work": job, "size": size, "side": "octopus", **mine.__dict__, "note": _told(folder, job)}
        for peer in _PEERS[job]:
            if peers is None:
                continue
            script = [str(ROOT / "benchmarks" / "backtest_peer.py"), peer, job, str(source), str(folder / "p.npz")]
            theirs = timed([str(peers / "bin" / "python"), *script])
            yield {"work": job, "size": size, "side": peer, **theirs.__dict__,
                   "note": _note(folder, peer, job)}  # fmt: skip


_PEERS: dict[str, tuple[str, ...]] = {"rebalance": ("vectorbt", "bt"), "events": (), "sweep": ("vectorbt",)}


def _told(folder: Path, job: str) -> str:
    if job != "events":
        return ""
    with np.load(folder / "o.npz") as answer:
        return f"{answer['told']}; {float(answer['seconds']):.2f} s without making the panel and comparing"


def _note(folder: Path, peer: str, job: str) -> str:
    with np.load(folder / "o.npz") as left, np.load(folder / "p.npz") as right:
        gap = float(np.abs(left["final"] - right["final"]).max())
        if peer == "bt":
            return f"fills on the close that decides; its final value is another by {gap:,.0f}"
        trades = ledgers_differ(left, right) if job == "rebalance" else ""
        said = f"final values differ by at most {gap:.6f}"
        return said if job == "sweep" else f"{said}; {trades or 'every trade is the same'}"


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["ours"]:
        ours(*sys.argv[2:5])
        return
    console = Console(width=160)
    peers = Path(os.environ["OCTOPUS_BENCH_BACKTEST"]) if os.environ.get("OCTOPUS_BENCH_BACKTEST") else None
    with tempfile.TemporaryDirectory() as folder:
        mine: dict[str, Any] = {}
        for row in rows(Path(folder), peers):
            if row["side"] == "octopus":
                mine = row
            console.print(
                f"{row['size']}: {row['side']} import {row['imported']:.2f} s, first {row['first']:.2f} s, warm "
                f"{row['warm']:.3f} s ({row['warm'] / mine['warm']:.1f} times ours), {row['megabytes']:,.0f} MB "
                f"({row['megabytes'] / mine['megabytes']:.1f} times) {row['note']}"
            )
    if peers is None:
        console.print(f"The peers are not here: {HOW}")


if __name__ == "__main__":
    main()
