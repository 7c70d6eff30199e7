"""`make bench-gates`: how long the gates take over a batch of 500 orders.

Belongs here: batches that pass, and batches of which much is denied; the risk gate alone, and both gates with all that
they read from a warehouse of 500 instruments and five years on the embedded server, and on the TimescaleDB at
OCTOPUS_TEST_TIMESCALE_URL where that is set. Does not: assertions on times.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import psycopg
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.warehouse import database
from benchmarks.watch import load
from octopus.compliance import gate as compliance_gate
from octopus.compliance.rules import CompliancePolicy
from octopus.core.ids import client_order_id
from octopus.core.orders import AccountSnapshot, Batch, OpenOrder, PlannedOrder, Side, TradingState
from octopus.core.sessions import Sessions
from octopus.risk.gate import judge
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory
from octopus.risk.signatures import Authority
from resources.gates import Gates
from resources.runtime.postgres import EmbeddedPostgres
from resources.settings import Settings, load_settings
from resources.warehouse.connection import Role
from resources.warehouse.migrate import migrate
from resources.warehouse.order_store import OrderStore
from resources.warehouse.store import Warehouse

ORDERS = 500
RUNS = 9
SENT = (50, 200, 500)
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
    yield "cash account buys 500", *new, LIMITS
    yield "invested account trades 500", *old, LIMITS
    stale = {n: replace(p, at=NOW - timedelta(days=9)) for n, p in list(new[2].last_prices.items())[:100]}
    partly = replace(new[2], last_prices={**new[2].last_prices, **stale})
    yield "100 of 500 have stale prices", new[0], new[1], partly, LIMITS
    yield "gross limit cuts half", *new, LIMITS.model_copy(update={"gross_max": 0.5})
    yield "VaR limit cuts a part", *new, LIMITS.model_copy(update={"var_95_max": 0.0135})


YEARS = 5
SOURCE = "files"
LOADED = {
    "nothing cut": LIMITS,
    "gross cuts half": LIMITS.model_copy(update={"gross_max": 0.5}),
    "VaR cuts a part": LIMITS.model_copy(update={"var_95_max": 0.013}),
}


def stored(url: str) -> None:
    """`NAMES` over `YEARS` years, as dbt builds the marts; the last closes are those of `case`."""
    with psycopg.connect(url) as connection:
        connection.execute("create schema if not exists marts")
        connection.execute(
            """
            create table marts.prices (source text, instrument text, session date, open float8, high float8, low float8,
                close float8, volume float8, split_ratio float8, dividend float8, spin_off float8, price_basis text,
                known_from timestamptz, known_to timestamptz, batch_id bigint);
            create table marts.universe (source text, instrument text, member_from date, member_to date,
                known_from timestamptz, known_to timestamptz)
            """
        )
        days = Sessions().between(date(NOW.year - YEARS, NOW.month, NOW.day), date(2022, 12, 27))
        generator = np.random.default_rng(7)
        prices = np.round(generator.uniform(10, 300, ORDERS), 2)
        steps = generator.normal(0, 0.009, (len(days), 1)) + generator.normal(0, 0.015, (len(days), ORDERS))
        steps[-1] = 0.0
        paths = np.round(prices * np.exp(np.cumsum(steps[::-1], axis=0))[::-1], 4)
        paths[-1] = prices
        with connection.cursor().copy(
            "copy marts.prices (source, instrument, session, open, high, low, close, volume, split_ratio, dividend, "
            "spin_off, price_basis, known_from, batch_id) from stdin"
        ) as copy:
            for row, day in enumerate(days.tolist()):
                for column, name in enumerate(NAMES):
                    price = float(paths[row, column])
                    copy.write_row((SOURCE, name, day, *[price] * 4, 1e6, 1.0, 0.0, 0.0, "raw", f"{day} 22:00+00", 1))
        connection.execute("create unique index on marts.prices (source, instrument, session, known_from)")
        connection.execute("create index on marts.prices (source, session)")
        connection.cursor().executemany(
            "insert into raw.instruments (source, instrument, ts, exchange, currency, asset_class, price_basis,"
            " known_at, known_at_imputed, ingested_at, batch_id) values"
            " (%s, %s, '2015-01-02', 'XNYS', 'USD', 'equity', 'raw', '2015-01-02', false, now(), 1)",
            [(SOURCE, name) for name in NAMES],
        )
        connection.execute("grant usage on schema marts to octopus_research, octopus_trader")
        connection.execute("grant select on all tables in schema marts to octopus_research, octopus_trader")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")


@contextmanager
def embedded() -> Iterator[str]:
    """URL of a migrated database on an embedded server of its own."""
    home = Path(tempfile.mkdtemp(prefix="octopus-gates-"))
    server = EmbeddedPostgres(home)
    server.start()
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("create database gates")
        url = server.url("gates")
        migrate(url)
        yield url
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def warehouse(server: str = "") -> Iterator[str]:
    """URL of a filled warehouse on ``server``, else on an embedded one."""
    with database(server) if server else embedded() as url:
        stored(url)
        with OrderStore.opened(url) as store:
            store.open_account("a", "bench", "opened", NOW)
        yield url


def settings_for(url: str) -> Settings:
    """The shipped configuration over the synthetic universe; only the count of orders is widened."""
    given = load_settings({"OCTOPUS_MARKET_DATA": SOURCE})
    policy = given.compliance.model_dump(mode="json")
    for rule in policy["rules"]:
        if rule["kind"] == "order_count":
            rule["parameters"]["max_orders"] = ORDERS
    universe = given.universe.model_copy(
        update={"sectors": {name: f"sector {row % 11}" for row, name in enumerate(NAMES)}}
    )
    return replace(given, database_url=url, universe=universe, compliance=CompliancePolicy.model_validate(policy))


def with_loading(console: Console, server: str = "") -> None:
    """Both gates as execution asks them, each time with all data read anew."""
    table = _table("batch", "passed", "median", "worst", "CPU", "prices", "gates", "worst", "CPU")
    with warehouse(server) as url:
        for name, limits in LOADED.items():
            batch, snapshot, _ = case(invested=False)
            settings = replace(settings_for(url), risk=limits)
            batch = replace(
                batch,
                not_before=settings.sessions.open_utc(date(2022, 12, 28)),
                expires_at=settings.sessions.close_utc(date(2022, 12, 28)),
            )
            times, inside, prices, used, approved = [], [], [], time.process_time(), 0
            for _ in range(RUNS):
                gates = Gates(settings, Warehouse(url, Role.TRADER))
                started = time.perf_counter()
                reports = gates.judge_at_execution(batch, snapshot, NOW, TradingState.ACTIVE)
                times.append(1000 * (time.perf_counter() - started))
                approved = len(reports[-1].approved)
            used = 1000 * (time.process_time() - used) / RUNS
            for _ in range(RUNS):
                started = time.perf_counter()
                Gates(settings, Warehouse(url, Role.TRADER)).window(frozenset(NAMES), NOW)
                prices.append(1000 * (time.perf_counter() - started))
            market, context = (
                gates.market(batch, snapshot, NOW),
                gates.compliance_context(batch, snapshot, NOW, sending=True),
            )
            of_gates = time.process_time()
            for _ in range(RUNS):
                started = time.perf_counter()
                compliance_gate.judge(batch, snapshot, context, settings.compliance, NOW)
                judge(batch, snapshot, market, limits, TradingState.ACTIVE, Authority(False, "not asked"), NOW)
                inside.append(1000 * (time.perf_counter() - started))
            of_gates = 1000 * (time.process_time() - of_gates) / RUNS
            whole, alone = (statistics.median(times), max(times), used), (statistics.median(inside), max(inside))
            figures = (*whole, statistics.median(prices), *alone, of_gates)
            table.add_row(name, str(approved), *(f"{figure:.0f}" for figure in figures))
    console.print(
        f"both gates over {ORDERS} orders, with reading {ORDERS} instruments × {YEARS} years, {RUNS} runs, ms; then "
        f"reading prices alone, and both gates on data at hand; "
        f"{'TimescaleDB' if server else 'embedded server'}, {load()}"
    )
    console.print(table)


def one_by_one(console: Console) -> None:
    """A whole batch as execution sends it: before each order, what is left is judged with what was sent counted as
    open."""
    table = _table("orders", "with reading, ms", "each further, ms", "all, s", "CPU, s")
    with warehouse() as url:
        settings = settings_for(url)
        batch, snapshot, _ = case(invested=False)
        opens, closes = (at(date(2022, 12, 28)) for at in (settings.sessions.open_utc, settings.sessions.close_utc))
        for count in SENT:
            gates = Gates(settings, Warehouse(url, Role.TRADER))
            whole = replace(batch, orders=batch.orders[:count], not_before=opens, expires_at=closes)
            times, used, open_orders = [], time.process_time(), tuple[OpenOrder, ...]()
            for place, order in enumerate(whole.orders):
                left = replace(whole, orders=whole.orders[place:])
                started = time.perf_counter()
                seen = replace(snapshot, open_orders=open_orders)
                reports = gates.judge_at_execution(left, seen, NOW, TradingState.ACTIVE)
                times.append(1000 * (time.perf_counter() - started))
                assert order.intent_id in reports[-1].approved, "this batch is within every limit"
                name = client_order_id(order.intent_id)
                open_orders += (OpenOrder(name, order.instrument, order.side, order.quantity),)
            used = time.process_time() - used
            figures = (times[0], statistics.median(times[1:]), sum(times) / 1000, used)
            table.add_row(str(count), *(f"{figure:.2f}" for figure in figures))
    console.print(f"both gates before each order of a batch that is sent, {load()}")
    console.print(table)


def main() -> None:
    """Measure and print."""
    console = Console()
    alone(console)
    with_loading(console)
    if server := os.environ.get("OCTOPUS_TEST_TIMESCALE_URL"):
        with_loading(console, server)
    one_by_one(console)


def alone(console: Console) -> None:
    """The risk gate on data at hand."""
    table = _table("batch", "passed", "median", "worst", "CPU")
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
    console.print(
        f"the risk gate over {ORDERS} orders, window of {LIMITS.var_window_sessions} sessions, {RUNS} runs, ms, "
        f"{load()}"
    )
    console.print(table)


def _table(what: str, *figures: str) -> Table:
    """Narrow enough for a pipe, which has 80 columns."""
    table = Table(what, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


if __name__ == "__main__":
    main()
