"""`make bench-gates`: how long the gates take over a batch of 500 orders.

Belongs here: batches that pass, and batches of which much is denied. Does not: assertions on times, reading the
warehouse.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from octopus.core.orders import AccountSnapshot, Batch, PlannedOrder, Side, TradingState
from octopus.risk.gate import judge
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory
from octopus.risk.signatures import Authority

ORDERS = 500
RUNS = 9
NOW = datetime(2022, 12, 28, 15, tzinfo=UTC)
NAMES = tuple(f"N{number:03d}" for number in range(ORDERS))
LIMITS = RiskLimits.model_validate(
    yaml.safe_load((Path(__file__).parent.parent / "config" / "risk.yaml").read_text(encoding="utf-8"))
)


def case(*, invested: bool) -> tuple[Batch, AccountSnapshot, MarketContext]:
    """500 instruments; an account in cash that buys all of them, or one that holds all and trades half against half."""
    generator = np.random.default_rng(7)
    prices = {n: Decimal(str(round(p, 2))) for n, p in zip(NAMES, generator.uniform(10, 300, ORDERS), strict=True)}
    common = generator.normal(0, 0.009, (600, 1))
    returns = common + generator.normal(0, 0.015, (600, ORDERS))
    days = np.datetime64("2022-12-27", "D") - np.arange(600)[::-1]
    held = {n: Decimal(int(1900 / float(p))) for n, p in prices.items()} if invested else {}
    cash = Decimal(1_000_000) - sum((held[n] * prices[n] for n in held), Decimal(0))
    size = Decimal(400 if invested else 1900)
    orders = tuple(
        PlannedOrder(
            f"intent-{n}", n, Side.SELL if invested and row % 2 else Side.BUY, max(Decimal(1), size // prices[n]),
            prices[n],
        )
        for row, n in enumerate(NAMES)
    )  # fmt: skip
    market = MarketContext(
        last_prices={n: LastPrice(p, NOW - timedelta(hours=18)) for n, p in prices.items()},
        history=ReturnHistory(days, NAMES, returns), price_basis="raw", nav_peak=Decimal(1_000_000),
        nav_previous=Decimal(1_000_000), adv_shares=dict.fromkeys(NAMES, Decimal(1_000_000)),
        sectors={n: f"sector {row % 11}" for row, n in enumerate(NAMES)}, sent=(),
    )  # fmt: skip
    batch = Batch("b", "a", date(2022, 12, 27), NOW - timedelta(hours=1), NOW + timedelta(hours=1), orders)
    return batch, AccountSnapshot("a", NOW - timedelta(seconds=5), cash, held, prices, ()), market


def cases() -> Iterator[tuple[str, Batch, AccountSnapshot, MarketContext, RiskLimits]]:
    """What is measured."""
    new, old = case(invested=False), case(invested=True)
    yield "cash account buys 500 names", *new, LIMITS
    yield "invested account trades 500 names", *old, LIMITS
    stale = {n: replace(p, at=NOW - timedelta(days=9)) for n, p in list(new[2].last_prices.items())[:100]}
    partly = replace(new[2], last_prices={**new[2].last_prices, **stale})
    yield "100 of 500 have stale prices", new[0], new[1], partly, LIMITS
    yield "gross limit leaves out half", *new, LIMITS.model_copy(update={"gross_max": 0.5})
    yield "VaR limit leaves out a part", *new, LIMITS.model_copy(update={"var_95_max": 0.0135})


def main() -> None:
    """Measure and print."""
    table = Table("batch", "approved", "median, ms", "worst, ms", "processor, ms")
    for name, batch, snapshot, market, limits in cases():
        times = []
        used = time.process_time()
        for _ in range(RUNS):
            started = time.perf_counter()
            report = judge(batch, snapshot, market, limits, TradingState.ACTIVE, Authority(False, "not asked"), NOW)
            times.append(1000 * (time.perf_counter() - started))
        used = 1000 * (time.process_time() - used) / RUNS
        figures = (statistics.median(times), max(times), used)
        table.add_row(name, str(len(report.approved)), *(f"{figure:.1f}" for figure in figures))
    console = Console()
    console.print(f"the risk gate over {ORDERS} orders, window of {LIMITS.var_window_sessions} sessions, {RUNS} runs")
    console.print(table)


if __name__ == "__main__":
    main()
