"""M8 Portfolio Optimizer: what the account holds, what it should hold, and the orders in between.

Belongs here: joining the account, the decision and the plan. Does not: the decision (octopus/decision.py) and how it is
executed (assets/execution.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.core.brackets import with_brackets
from octopus.core.errors import MissingDataError, OctopusError
from octopus.core.ids import batch_id, canonical_json, fingerprint
from octopus.core.limit_orders import with_limits
from octopus.core.orders import AccountSnapshot, Batch
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.decision import Decision, decide
from octopus.execution.window import auction, execution_window
from octopus.portfolio.optimiser import value
from octopus.portfolio.rebalance import plan_orders, rounding
from octopus.portfolio.units import TradingUnits
from resources.brokers.base import Broker
from resources.brokers.table import PAPER
from resources.clock import Clock
from resources.settings import Settings
from resources.warehouse.plans import Plans
from resources.warehouse.prices import recorded_prices
from resources.warehouse.store import Warehouse

GROUP = "portfolio"
OWNERS = ["team:portfolio"]


@dg.asset(
    # The paper broker fills and marks at our own bars: without the session's it would show yesterday's account, and
    # before their verdicts it would fill at what is to be kept out.
    key=keys.OPENING_POSITIONS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.BARS, keys.CORPORATE_ACTIONS, keys.BAR_VERDICTS, keys.ACTION_VERDICTS],
    partitions_def=partitions.SESSIONS, pool="broker",
)  # fmt: skip
def opening_positions(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    clock: dg.ResourceParam[Clock],
    broker: dg.ResourceParam[Broker],
) -> dg.MaterializeResult[None]:
    """What the broker says the account holds when the session is decided; a settled session keeps what it was."""
    session, account, plans = partitions.session_of(context), settings.account, Plans(warehouse)
    stored = plans.snapshot(account, session)
    if stored is not None and (plans.is_settled(account, session) or not is_current(settings, clock, session)):
        return dg.MaterializeResult(metadata=_holdings(stored[1], changed=False))
    if is_current(settings, clock, session):
        snapshot = broker.snapshot(settings.symbols)
    else:
        context.log.warning(f"{session} is not the current session: the account is taken from our own book of that day")
        snapshot = _past(settings, warehouse, session)
    changed = plans.save_snapshot(session, snapshot)
    return dg.MaterializeResult(metadata=_holdings(snapshot, changed=changed))


def _past(settings: Settings, warehouse: Warehouse, session: date) -> AccountSnapshot:
    """What our book held at the close of a past session, at that day's prices."""
    cash, positions = Plans(warehouse).book(settings.account, session) or _before_its_first_day(settings, session)
    feed = recorded_prices(settings, warehouse)
    prices = {name: feed.last_close(name, session) for name in sorted({*settings.symbols, *positions})}
    known = {name: price for name, price in prices.items() if price is not None}
    return AccountSnapshot(settings.account, settings.sessions.decision_utc(session), cash, positions, known)


def _before_its_first_day(settings: Settings, session: date) -> tuple[Decimal, Mapping[str, Decimal]]:
    if settings.broker.name != PAPER:
        raise MissingDataError(
            f"our book knows nothing of account {settings.account} on {session}, before it was first traded here; plan "
            f"the current session, or choose broker.name: {PAPER} to look at past ones"
        )
    return settings.paper.deposit_usd, {}


def is_current(settings: Settings, clock: Clock, session: date) -> bool:
    """``session`` is the latest one that has been decided."""
    return settings.sessions.last_decided(clock.now()) == session


def _holdings(snapshot: AccountSnapshot, *, changed: bool) -> dict[str, Any]:
    frame = pl.DataFrame(
        {
            "instrument": list(snapshot.positions),
            "shares": [float(q) for q in snapshot.positions.values()],
            "price": [float(snapshot.prices[name]) for name in snapshot.positions],
        },
        schema={"instrument": pl.String, "shares": pl.Float64, "price": pl.Float64},
    ).with_columns(value=pl.col("shares") * pl.col("price"))
    return {
        "changed": changed, "equity": float(snapshot.equity), "cash": float(snapshot.cash),
        "positions": len(snapshot.positions), "table": reporting.table(frame),
    }  # fmt: skip


@dg.asset(
    key=keys.TARGET_WEIGHTS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.SIGNALS, keys.PREDICTIONS, keys.OPENING_POSITIONS], partitions_def=partitions.SESSIONS,
)  # fmt: skip
def target_weights(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> dg.MaterializeResult[None]:
    """The weights that the one decision function wants, with the optimiser's certificate."""
    session = partitions.session_of(context)
    panel = inputs.panel(settings, warehouse, session)
    snapshot_id, snapshot = _snapshot(warehouse, settings, session)
    predictions, model = inputs.predictions(warehouse, panel, session)
    previous = weights_of(snapshot, panel.symbols)
    ready, equity = inputs.prepared(panel, settings.decision), float(snapshot.equity)
    decision = decide(ready, -1, predictions, previous, settings.decision, equity)
    sources: dict[str, object] = {
        "panel": inputs.panel_fingerprint(panel), "config": inputs.decision_record(settings.decision),
        "snapshot": snapshot_id, "predictions": None if predictions is None else fingerprint(predictions),
    }  # fmt: skip
    own = inputs.units(settings, warehouse, session)
    if own:
        sources["units"] = own.record()
    decision_id = f"{session:%Y%m%d}-{fingerprint(sources)[:12]}"
    unbuyable = decision.unbuyable(settings.decision)
    record = decision.certificate_record() | {"unbuyable": unbuyable, "rounding": _rounding(
        decision, panel.symbols, snapshot, settings, inputs.foreign(settings, warehouse, session), own)}  # fmt: skip
    changed = _store(warehouse, session, decision_id, panel, decision, model, sources, record)
    frame = _weights(panel.symbols, decision)
    return dg.MaterializeResult(
        metadata={
            "changed": changed, "decision_id": decision_id, "model": model or "none: the model signal abstains",
            "gross": float(np.abs(decision.target_weights).sum()), "cash": float(1 - decision.target_weights.sum()),
            "fallback": decision.fallback or "none",
            "may not be bought": "; ".join(f"{name}: {why}" for name, why in unbuyable.items()) or "none",
            "certificate": dg.MetadataValue.json(record),
            "table": reporting.table(frame.sort("weight", descending=True)),
        }
    )  # fmt: skip


def _rounding(
    decision: Decision,
    symbols: tuple[str, ...],
    snapshot: AccountSnapshot,
    settings: Settings,
    foreign: frozenset[str],
    own: TradingUnits,
) -> dict[str, Any]:
    """What the plan that follows from the decision gives up to lots, band and cash: plans repeat it bit for bit."""
    portfolio, costs = inputs.in_units(settings.strategies.portfolio, own), settings.strategies.costs
    targets = dict(zip(symbols, decision.target_weights.tolist(), strict=True))

    def objective(weights: Mapping[str, float]) -> float:
        return value(decision.problem, np.array([weights.get(name, 0.0) for name in symbols]), portfolio.method)

    orders = plan_orders("rounding", targets, snapshot, portfolio, costs, foreign=foreign)
    optimum = None if decision.certificate is None else objective
    return asdict(rounding(targets, orders, snapshot, costs, optimum, foreign))


def weights_of(snapshot: AccountSnapshot, symbols: tuple[str, ...]) -> FloatArray:
    """Each position as a fraction of the account's equity, shape (N,).

    Raises:
        MissingDataError: the account holds something outside the panel, or has no equity.
    """
    strangers = sorted(set(snapshot.positions) - set(symbols))
    if strangers:
        raise MissingDataError(
            f"the account holds {', '.join(strangers)}, of which no price is known; add it to config/universe.yaml "
            "or sell it by hand"
        )
    equity = snapshot.equity
    if equity <= 0:
        raise MissingDataError(f"the account {snapshot.account} has equity {equity}: deposit money before it can trade")
    values = [float(snapshot.positions.get(n, Decimal(0)) * snapshot.prices.get(n, Decimal(0))) for n in symbols]
    return np.array(values) / float(equity)


def _snapshot(warehouse: Warehouse, settings: Settings, session: date) -> tuple[str, AccountSnapshot]:
    stored = Plans(warehouse).snapshot(settings.account, session)
    if stored is None:
        raise MissingDataError(
            f"no snapshot of account {settings.account} for {session}; materialise portfolio/opening_positions"
        )
    return stored


def _weights(symbols: tuple[str, ...], decision: Decision) -> pl.DataFrame:
    return pl.DataFrame({"instrument": symbols, "weight": decision.target_weights, "alpha": decision.alpha})


def _store(
    warehouse: Warehouse,
    session: date,
    decision_id: str,
    panel: Panel,
    decision: Decision,
    model: str | None,
    sources: Mapping[str, object],
    certificate: Mapping[str, object],
) -> bool:
    record = pl.DataFrame(
        {
            "decision_id": [decision_id], "session": [session], "model": [model],
            "certificate": [canonical_json(certificate)], "inputs": [canonical_json(sources)],
            "created_at": [datetime.now(UTC)],
        },
        schema_overrides={"model": pl.String},
    )  # fmt: skip
    warehouse.insert_new("portfolio.decisions", record)
    frame = _weights(panel.symbols, decision).with_columns(
        pl.lit(session).alias("session"), pl.lit(decision_id).alias("decision_id")
    )
    return warehouse.replace("portfolio.target_weights", {"session": session}, frame)


@dg.asset(
    key=keys.REBALANCE_PLAN, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.TARGET_WEIGHTS], partitions_def=partitions.SESSIONS,
)  # fmt: skip
def rebalance_plan(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> dg.MaterializeResult[None]:
    """The orders from what is held to what is wanted, for the next session; what is still open is netted."""
    session, account, plans = partitions.session_of(context), settings.account, Plans(warehouse)
    if plans.is_settled(account, session):
        batch = plans.batch(account, session)
        context.log.info(f"{session} was executed already: its plan stays")
        return dg.MaterializeResult(metadata=_plan_metadata(batch, None, changed=False))
    snapshot_id, snapshot = _snapshot(warehouse, settings, session)
    targets, decision_id = _targets(warehouse, session)
    worked = settings.strategies.execution
    bracket, offset = worked.bracket, worked.limit_offset
    order_type = worked.order_type(auction(settings.sessions, has_opens=not settings.recorded))
    window = execution_window(settings.sessions, session, order_type, from_open=worked.from_open)
    own = inputs.units(settings, warehouse, session)
    prices = [*([] if bracket is None else bracket.fractions), *([] if offset is None else [offset])]
    made_from = fingerprint(decision_id, snapshot_id, order_type.value, *prices, *inputs.units_record(own))
    name = batch_id(account, session, made_from)
    foreign = inputs.foreign(settings, warehouse, session)
    orders = plan_orders(
        name, targets, snapshot, inputs.in_units(settings.strategies.portfolio, own), settings.strategies.costs,
        order_type=order_type, foreign=foreign,
    )  # fmt: skip
    if bracket is not None:
        orders = with_brackets(orders, snapshot.positions, bracket.fractions, foreign, own.ticks)
    if offset is not None:
        orders = own.with_ticks(with_limits(orders, offset, foreign))
    batch = Batch(name, account, session, window.not_before, window.expires_at, orders)
    changed = plans.save_plan(batch, decision_id, snapshot_id, datetime.now(UTC))
    return dg.MaterializeResult(
        metadata=_plan_metadata(batch, _stored_rounding(warehouse, decision_id), changed=changed)
    )


def _targets(warehouse: Warehouse, session: date) -> tuple[dict[str, float], str]:
    rows = warehouse.rows(
        "select instrument, weight, decision_id from portfolio.target_weights where session = %s", [session]
    )
    if not rows:
        raise OctopusError(f"no target weights for {session}; materialise portfolio/target_weights first")
    return {row["instrument"]: row["weight"] for row in rows}, rows[0]["decision_id"]


def _stored_rounding(warehouse: Warehouse, decision_id: str) -> Mapping[str, Any] | None:
    """What the decision foresaw of its plan; decisions before there was such a record have none."""
    stored = warehouse.scalar("select certificate from portfolio.decisions where decision_id = %s", [decision_id])
    record = json.loads(stored) if isinstance(stored, str) else stored
    return None if record is None else record.get("rounding")


def _plan_metadata(batch: Batch | None, lost: Mapping[str, Any] | None, *, changed: bool) -> dict[str, Any]:
    orders = batch.orders if batch is not None else ()
    frame = pl.DataFrame(
        {
            "side": [order.side.value for order in orders], "instrument": [order.instrument for order in orders],
            "quantity": [float(order.quantity) for order in orders],
            "limit": [None if order.price is None else float(order.price) for order in orders],
            "notional": [float(order.notional) for order in orders],
        },
        schema={"side": pl.String, "instrument": pl.String, "quantity": pl.Float64, "limit": pl.Float64,
                "notional": pl.Float64},
    )  # fmt: skip
    return {
        "changed": changed, "batch_id": batch.batch_id if batch else "none", "orders": len(orders),
        "notional": float(frame["notional"].sum()),
        "rounding": dg.MetadataValue.json(lost or {}), "table": reporting.table(frame.sort("side", "instrument")),
    }  # fmt: skip


ASSETS = (opening_positions, target_weights, rebalance_plan)
