"""M7 Execution Manager: from the approved batch to reconciled positions.

Belongs here: the steps of the execution engine as assets. Does not: the engine (resources/execution_engine.py), its
rules (octopus/execution) and anything of research: this module loads without dbt and machine learning.

No asset here has a retry policy: what was sent is never sent again because something else failed. Each can be
materialised again by hand; what is done is not done twice.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl

from assets import keys, partitions, reporting
from octopus.core.errors import OctopusError
from octopus.execution.pictures import costs_picture, nav_picture, reconciliation_picture
from resources.execution_engine import ExecutionEngine
from resources.settling import Settler
from resources.trading import Trading
from resources.warehouse import launches
from resources.warehouse.execution_reports import ExecutionReports
from resources.warehouse.order_store import AccountBusyError
from resources.warehouse.plans import Plans
from resources.warehouse.store import Warehouse

GROUP = "execution"
OWNERS = ["team:execution"]
POOL = "broker"


class NothingToExecuteError(OctopusError):
    """There is no approved batch for the session; the message says which asset makes one."""


def _batch_id(warehouse: Warehouse, account: str, session: date) -> str:
    batch = Plans(warehouse).batch(account, session)
    if batch is None:
        raise NothingToExecuteError(f"no plan for {account} on {session}; run the research job `daily` for it first")
    return batch.batch_id


@dg.asset(key=keys.ENTRIES, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, pool=POOL)
def entries(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> dg.MaterializeResult[None]:
    """What moved the account besides fills: flows and charges as the broker tells them by now, actions by our own data.

    Booked before a session is planned: the broker's account, from which the plan is made, has them already, and a
    withdrawal that our books do not know would be judged as a loss.
    """
    with trading.engine() as engine:
        try:
            differing = str(len(Settler(engine, trading.account).open_breaks().breaks))
        except AccountBusyError as busy:
            # Who holds the account books the same: a run before it sends, a person with `octopus breaks`.
            context.log.warning(str(busy))
            differing = f"not compared: {busy}"
    rows = warehouse.read(
        """
        select session, at, kind, instrument, quantity::float8 as quantity, cash::float8 as cash, note
        from execution.entries where account = $1 order by at desc, entry_id limit 20
        """,
        [trading.account],
    )
    return dg.MaterializeResult(metadata={"breaks": differing, "table": reporting.table(rows)})


@dg.asset(
    key=keys.ORDER_INTENTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.PRETRADE_REPORT],
    partitions_def=partitions.SESSIONS, pool=POOL,
)  # fmt: skip
def order_intents(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> dg.MaterializeResult[None]:
    """The batch judged again from a fresh broker snapshot, and claimed: each intent approved or denied."""
    batch = _batch_id(warehouse, trading.account, partitions.session_of(context))
    launches.note(warehouse, batch, context.run.run_id)
    with trading.engine() as engine:
        planned = engine.store.batch(batch).batch
        if planned.orders:
            engine.clock.wait_until(planned.not_before)
            engine.prepare(batch, context.run.run_id)
        else:
            context.log.info(f"batch {batch} plans no order: the account is where it should be")
    rows = warehouse.read(
        """
        select instrument, side, quantity::float8 as quantity, reference_price::float8 as reference_price, status
        from execution.order_intents where batch_id = $1 order by instrument
        """,
        [batch],
    )
    counts = _count(rows, "status")
    return dg.MaterializeResult(metadata={"batch_id": batch, **counts, "table": reporting.table(rows)})


@dg.asset(
    key=keys.ORDERS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.ORDER_INTENTS],
    partitions_def=partitions.SESSIONS, pool=POOL,
)  # fmt: skip
def orders(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> dg.MaterializeResult[None]:
    """The approved intents, each sent to the broker once."""
    batch = _batch_id(warehouse, trading.account, partitions.session_of(context))
    launches.seen(warehouse, batch, context.run.run_id)
    with trading.engine() as engine:
        placement = engine.send(batch, context.run.run_id)
    rows = _orders(warehouse, batch)
    return dg.MaterializeResult(
        metadata={
            "batch_id": batch, "sent": len(placement.sent), "stopped": placement.stopped or "no",
            **_count(rows, "state"), "table": reporting.table(rows),
        }
    )  # fmt: skip


@dg.asset(
    key=keys.FILLS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.ORDERS],
    partitions_def=partitions.SESSIONS, pool=POOL,
    check_specs=[
        dg.AssetCheckSpec("orders_terminal", asset=keys.FILLS, description="Every order of the batch came to its end.")
    ],
)  # fmt: skip
def fills(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """What the broker filled: orders are followed until they are terminal, each fill is booked once."""
    batch = _batch_id(warehouse, trading.account, partitions.session_of(context))
    launches.seen(warehouse, batch, context.run.run_id)
    with trading.engine() as engine:
        collection = engine.collect_fills(batch, context.run.run_id)
    rows = warehouse.read(
        """
        select f.instrument, f.side, f.quantity::float8 as quantity, f.price::float8 as price, f.fees::float8 as fees,
               10000 * (f.price / i.reference_price - 1)::float8 * case f.side when 'buy' then 1 else -1 end
                   as shortfall_bps
        from execution.current_fills f
        join execution.order_intents i using (client_order_id)
        where i.batch_id = $1 order by f.instrument
        """,
        [batch],
    )
    yield dg.MaterializeResult(
        metadata={
            "batch_id": batch, "fills": len(rows), "new": collection.new_fills,
            "still_open": len(collection.open_orders), "fees": float(rows["fees"].sum()),
            "notional": float((rows["quantity"] * rows["price"]).sum()), "table": reporting.table(rows),
        }
    )  # fmt: skip
    yield dg.AssetCheckResult(
        check_name="orders_terminal", passed=not collection.open_orders, severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "open_orders": ", ".join(collection.open_orders) or "none",
            "remedy": "the paper broker fills when the session's bars are in; see what is open at any other; then "
            "materialise execution/fills again",
        },
    )  # fmt: skip


@dg.asset(
    key=keys.POSITIONS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.FILLS],
    partitions_def=partitions.SESSIONS, pool=POOL,
)  # fmt: skip
def positions(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> dg.MaterializeResult[None]:
    """Our own book after the session's fills, and its NAV: P&L by price, fees, dividends and flows."""
    with trading.engine() as engine:
        session = trading.execution_session(partitions.session_of(context))
        engine.update_positions(trading.account)
    rows = warehouse.read(
        """
        select instrument, quantity::float8 as quantity, price::float8 as price, (quantity * price)::float8 as value
        from execution.positions where account = $1 and session = $2 order by value desc nulls last
        """,
        [trading.account, session],
    )
    nav = warehouse.read(
        """
        select session, opening::float8 as opening, price_pnl::float8 as price_pnl, fees::float8 as fees,
               dividends::float8 as dividends, flows::float8 as flows, closing::float8 as closing, cash::float8 as cash
        from execution.nav where account = $1 order by session
        """,
        [trading.account],
    )
    shown: dict[str, Any] = {"session": str(session), "positions": len(rows), "table": reporting.table(rows)}
    if not nav.is_empty():
        shown["nav"] = float(nav["closing"][-1])
        shown["cash"] = float(nav["cash"][-1])
        shown["nav_table"] = reporting.table(nav.tail(10))
        shown["picture"] = reporting.picture(nav_picture(nav["session"].to_list(), nav["closing"].to_list()), "NAV")
    return dg.MaterializeResult(metadata=shown)


@dg.asset(
    key=keys.RECONCILIATION, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.POSITIONS],
    partitions_def=partitions.SESSIONS, pool=POOL,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=5)),
    check_specs=[dg.AssetCheckSpec("books_agree", asset=keys.RECONCILIATION, description="Our book is the broker's.")],
)  # fmt: skip
def reconciliation(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Our book against the broker's own ledger: each difference classified, with what to do about it."""
    with trading.engine() as engine:
        session = trading.execution_session(partitions.session_of(context))
        breaks = engine.reconcile(trading.account, session)
    rows = pl.DataFrame(
        {
            "kind": [b.kind.value for b in breaks], "instrument": [b.instrument for b in breaks],
            "detail": [b.detail for b in breaks], "remedy": [b.remedy for b in breaks],
        },
        schema={"kind": pl.String, "instrument": pl.String, "detail": pl.String, "remedy": pl.String},
    )  # fmt: skip
    counts = warehouse.read(_BREAKS_BY_SESSION, [trading.account])
    png = reconciliation_picture(breaks, counts["session"].to_list(), counts["breaks"].to_list())
    yield dg.MaterializeResult(
        metadata={
            "session": str(session), "breaks": len(breaks), "table": reporting.table(rows),
            "picture": reporting.picture(png, "reconciliation"),
        }
    )  # fmt: skip
    yield dg.AssetCheckResult(check_name="books_agree", passed=not breaks, metadata={"breaks": len(breaks)})


@dg.asset(
    key=keys.ORDER_COSTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.POSITIONS],
    partitions_def=partitions.SESSIONS, pool=POOL,
)  # fmt: skip
def order_costs(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> dg.MaterializeResult[None]:
    """Implementation shortfall of each order that has ended: delay, trading, opportunity and fees (Perold)."""
    session = trading.execution_session(partitions.session_of(context))
    with trading.engine() as engine:
        measured = _reports(engine, warehouse, trading).save_order_costs(trading.account, session)
    rows = warehouse.read(_COSTS, [trading.account, session])
    over_time = warehouse.read(_COSTS_BY_SESSION, [trading.account])
    shown: dict[str, Any] = {"session": str(session), "orders": measured, "table": reporting.table(rows)}
    if not rows.is_empty():
        totals = over_time.filter(pl.col("session") == session)
        shown |= {
            "shortfall_usd": float(totals["shortfall_usd"][0]),
            "shortfall_bps": float(totals["shortfall_bps"][0]),
        }
        largest = rows.head(20)
        parts = {part: largest[f"{part}_bps"].to_list() for part in ("delay", "trading", "opportunity", "fees")}
        png = costs_picture(
            largest["instrument"].to_list(), parts, over_time["session"].to_list(), over_time["shortfall_bps"].to_list()
        )
        shown["picture"] = reporting.picture(png, "implementation shortfall")
    return dg.MaterializeResult(metadata=shown)


@dg.asset(
    key=keys.TAX_LOTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.POSITIONS],
    partitions_def=partitions.SESSIONS, pool=POOL,
)  # fmt: skip
def tax_lots(warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]) -> dg.MaterializeResult[None]:
    """Open tax lots of the account as booked to this day, first in, first out, with what they cost."""
    with trading.engine() as engine:
        count = _reports(engine, warehouse, trading).save_tax_lots(trading.account)
    rows = warehouse.read(
        """
        select instrument, quantity::float8 as quantity, (cost_usd + wash_sale_usd)::float8 as basis_usd, acquired
        from execution.tax_lots where account = $1 order by instrument, acquired
        """,
        [trading.account],
    )
    basis = float(rows["basis_usd"].sum())
    return dg.MaterializeResult(metadata={"lots": count, "basis_usd": basis, "table": reporting.table(rows)})


@dg.asset(
    key=keys.REALISED_GAINS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"}, deps=[keys.POSITIONS],
    partitions_def=partitions.SESSIONS, pool=POOL,
)  # fmt: skip
def realised_gains(
    warehouse: dg.ResourceParam[Warehouse], trading: dg.ResourceParam[Trading]
) -> dg.MaterializeResult[None]:
    """What closing tax lots brought, trade by trade, with the day on which each settles."""
    with trading.engine() as engine:
        count = _reports(engine, warehouse, trading).save_realised_gains(trading.account)
    rows = warehouse.read(
        """
        select disposed, settles, instrument, quantity::float8 as quantity, proceeds_usd::float8 as proceeds_usd,
               basis_usd::float8 as basis_usd, gain_usd::float8 as gain_usd, long_term
        from execution.realised_gains where account = $1 order by seq desc
        """,
        [trading.account],
    )
    long_term, all_gains = float(rows.filter("long_term")["gain_usd"].sum()), float(rows["gain_usd"].sum())
    return dg.MaterializeResult(
        metadata={
            "disposals": count, "short_term_gain_usd": all_gains - long_term,
            "long_term_gain_usd": long_term, "table": reporting.table(rows),
        }
    )  # fmt: skip


_COSTS = """
    select instrument, side, quantity::float8 as quantity, filled_quantity::float8 as filled,
           decision_price::float8 as decision, arrival_price::float8 as arrival, arrival_source,
           average_price::float8 as average, 10000 * (delay_usd / (quantity * decision_price))::float8 as delay_bps,
           10000 * (trading_usd / (quantity * decision_price))::float8 as trading_bps,
           10000 * (opportunity_usd / (quantity * decision_price))::float8 as opportunity_bps,
           10000 * (fees_usd / (quantity * decision_price))::float8 as fees_bps, shortfall_bps, slippage_bps
    from execution.order_costs where account = $1 and session = $2
    order by abs(shortfall_usd) desc, instrument
"""
_COSTS_BY_SESSION = """
    select session, sum(shortfall_usd)::float8 as shortfall_usd,
           10000 * (sum(shortfall_usd) / sum(quantity * decision_price))::float8 as shortfall_bps
    from execution.order_costs where account = $1 group by session order by session
"""


_BREAKS_BY_SESSION = """
    select session, count(*) filter (where seq > 0) as breaks
    from execution.reconciliation where account = $1 group by session order by session
"""


def _reports(engine: ExecutionEngine, warehouse: Warehouse, trading: Trading) -> ExecutionReports:
    return ExecutionReports.of(engine.store, warehouse, engine.feed, trading.settings, engine.clock.now())


def _orders(warehouse: Warehouse, batch: str) -> pl.DataFrame:
    return warehouse.read(
        """
        select i.instrument, i.side, i.quantity::float8 as quantity, i.order_type, i.price::float8 as price,
               o.filled_quantity::float8 as filled, o.state, o.broker_order_id, o.reason
        from execution.orders o join execution.order_intents i using (intent_id)
        where i.batch_id = $1 order by i.instrument, i.exit_of nulls first, i.order_type
        """,
        [batch],
    )


def _count(rows: pl.DataFrame, column: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in rows[column].value_counts().sort(column).iter_rows()}


ASSETS = (order_intents, orders, fills, positions, reconciliation, order_costs, tax_lots, realised_gains)
"""What is made for a session's batch; `entries` is of no session."""
