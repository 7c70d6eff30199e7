"""What a watchdog looks at: the warehouse's own tables, and two of Dagster's.

Belongs here: reading the facts. Does not: judging them (octopus/alerts/watch.py).

Dagster's tables are read as they are (its releases keep ``runs`` and ``daemon_heartbeats`` since 1.0), because the
watchdog must neither load Dagster nor depend on its webserver.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg

from octopus.alerts.watch import Facts, LateOrder, PlannedBatch, RunState, StandingSlice, UnsentOrder
from octopus.core.amounts import plain
from octopus.execution.config import Kind
from octopus.execution.states import WORKING
from resources.settings import Settings
from resources.trading import schedule_of, trading_clock
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.connection import Role, connect
from resources.warehouse.instruments import trading_units
from resources.warehouse.order_store import OrderStore
from resources.warehouse.store import Warehouse

_JOB = "daily"
_ENDED_BADLY = frozenset({"FAILURE", "CANCELED"})
_NEWS = timedelta(days=7)
"""Of orders that a run ended unsent: what ended longer ago was told then, or is history."""


def facts(settings: Settings, seen_at: datetime, *, watches_daemon: bool) -> Facts:
    """What is known now.

    Args:
        seen_at: wall clock. watches_daemon: whether Dagster's daemon should be alive.

    Raises:
        WarehouseUnreachableError: a database does not answer.
    """
    warehouse = Warehouse(settings.database_url, Role.TRADER)
    now = trading_clock(settings).now()
    due = None if settings.recorded else settings.sessions.last_decided(now)
    return Facts(
        now=now,
        seen_at=seen_at,
        source=settings.universe.market_data,
        last_bar=warehouse.scalar(
            "select max(session) from raw.bars where source = %s", [settings.universe.market_data]
        ),
        due=due,
        run=RunState.ABSENT if due is None else run_state(settings, warehouse, due),
        open_orders=_open_orders(settings),
        unsent=(*_unsent_orders(settings, warehouse, now), *_never_cut(settings, warehouse, now)),
        standing=_standing_slices(settings, warehouse, now),
        batch=_batch(settings, warehouse, now),
        watches_daemon=watches_daemon,
        heartbeat=heartbeat(settings.dagster_url) if watches_daemon else None,
        keeps_books=_keeps_books(settings),
        compared=warehouse.scalar(
            "select max(session) from execution.reconciliation where account = %s", [settings.account]
        ),
    )


def run_state(settings: Settings, warehouse: Warehouse, session: date) -> RunState:
    """How far the session's daily pipeline is: through once both gates have judged its plan, whoever ran it."""
    approved = warehouse.scalar(
        "select exists (select from portfolio.batches b join compliance.approvals a using (batch_id) "
        "where b.account = %s and b.session = %s)",
        [settings.account, session],
    )
    if approved:
        return RunState.DONE
    status = _dagster_status(settings.dagster_url, session)
    diary = warehouse.scalar("select status from ops.runs where as_of = %s order by started_at desc limit 1", [session])
    if status is None and diary is None:
        return RunState.ABSENT
    return RunState.FAILED if status in _ENDED_BADLY or diary == "failed" else RunState.RUNNING


def heartbeat(dagster_url: str) -> datetime | None:
    """The latest sign of life of any of the daemon's threads; None before the first."""
    with connect(dagster_url, autocommit=True) as connection:
        if not _has_table(connection, "daemon_heartbeats"):
            return None
        # The column has no time zone; the serialised beat has seconds since the epoch.
        row = connection.execute("select max((body::jsonb ->> 'timestamp')::float8) from daemon_heartbeats").fetchone()
    return None if row is None or row[0] is None else datetime.fromtimestamp(row[0], UTC)


def _dagster_status(dagster_url: str, session: date) -> str | None:
    with connect(dagster_url, autocommit=True) as connection:
        if not _has_table(connection, "runs"):
            return None
        row = connection.execute(
            "select status from runs where pipeline_name = %s and partition = %s order by id desc limit 1",
            [_JOB, session.isoformat()],
        ).fetchone()
    return None if row is None else str(row[0])


def _has_table(connection: psycopg.Connection, name: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", [f"public.{name}"]).fetchone()
    return bool(row and row[0])


def _open_orders(settings: Settings) -> tuple[LateOrder, ...]:
    with OrderStore.opened(settings.database_url) as store:
        return tuple(
            LateOrder(o.client_order_id, o.order.instrument, o.status.state.value, o.expires_at)
            for o in store.orders(settings.account, WORKING)
        )


def _unsent_orders(settings: Settings, warehouse: Warehouse, now: datetime) -> tuple[UnsentOrder, ...]:
    """Orders whose window is over, which were approved and which the broker never told of: those that wait still, and
    those that a run has ended since.

    An exit never leaves without its entry, and is not counted beside it; a replacement is where the order before it was
    cancelled for its sake. Approvals that a newer plan took the place of within the window are missed by nobody.
    """
    rows = warehouse.rows(
        """
        select b.batch_id, b.expires_at, o.client_order_id, i.side, i.quantity, i.instrument,
               case o.state when 'expired' then coalesce(o.reason, '') else '' end as reason
        from execution.orders o
        join execution.order_intents i using (intent_id)
        join portfolio.batches b using (batch_id)
        left join execution.replacements r on r.intent_id = i.intent_id
        where o.account = %(account)s and i.exit_of is null and b.expires_at <= %(now)s
          and (i.replaces is null or (r.making_way_at is not null and r.outcome is distinct from 'too_late'))
          and (o.state = 'approved'
               or (o.state = 'expired' and o.broker_order_id is null
                   and o.updated_at >= greatest(b.expires_at, %(since)s)))
        order by b.expires_at, b.batch_id, i.instrument, o.client_order_id
        """,
        {"account": settings.account, "now": now, "since": now - _NEWS},
    )
    return tuple(
        UnsentOrder(
            row["batch_id"], row["client_order_id"], f"{row['side']} {plain(row['quantity'])} {row['instrument']}",
            row["expires_at"], row["reason"],
        )
        for row in rows
    )  # fmt: skip


def _never_cut(settings: Settings, warehouse: Warehouse, now: datetime) -> tuple[UnsentOrder, ...]:
    """What no slice was cut for of orders that were worked in slices, though their window is over.

    When a slice is cut, those before it count as what they filled if they have ended, and else as a whole: with the
    last one that is what the order had come to. Less than a lot is not sent at all; a schedule by participation leaves
    what the market did not trade, and nobody misses that, nor what a newer plan took the place of within the window.
    """
    execution, lot = settings.strategies.execution, settings.strategies.portfolio.lot
    if execution.schedule is Kind.PARTICIPATION:
        return ()
    batches = warehouse.rows(
        """
        select b.batch_id, b.session, b.expires_at from portfolio.batches b
        where b.account = %(account)s and b.expires_at <= %(now)s and b.expires_at >= %(since)s
          and exists (select from execution.order_intents i where i.batch_id = b.batch_id and i.parent_id is not null)
          and b.superseded_by is null and not exists (
              select from portfolio.batches n where n.account = b.account and n.created_at < b.expires_at
              and (n.session, n.created_at, n.batch_id) > (b.session, b.created_at, b.batch_id))
        order by b.expires_at, b.batch_id
        """,
        {"account": settings.account, "now": now, "since": now - _NEWS},
    )
    found: list[UnsentOrder] = []
    for row in batches:
        with OrderStore.opened(settings.database_url) as store:
            stored = store.batch(row["batch_id"])
        asked = _asked_in_slices(warehouse, row["batch_id"])
        units = trading_units(warehouse, settings.universe.market_data, settings.sessions.decision_utc(row["session"]))
        for order in stored.batch.orders:
            rest = order.quantity - asked.get(order.intent_id, Decimal(0))
            if order.intent_id in stored.research_denials or rest < units.step(order.instrument, lot):
                continue
            told, which = f"{order.side.value} {plain(rest)} {order.instrument}", f"rest of {order.intent_id}"
            why = "no slice was cut for it: no run was there to, trading was halted, or a slice before it stood"
            found.append(UnsentOrder(row["batch_id"], which, told, row["expires_at"], why, is_rest=True))
    return tuple(found)


def _standing_slices(settings: Settings, warehouse: Warehouse, now: datetime) -> tuple[StandingSlice, ...]:
    """Slices that keep the next ones of their orders back at ``now``."""
    terms = schedule_of(settings)
    if not terms.is_scheduled:
        return ()
    rows = warehouse.rows(
        """
        select o.client_order_id, o.state, o.submitted_at, i.side, i.instrument, i.quantity - o.filled_quantity as open,
               b.not_before, b.expires_at, p.quantity - s.filled - s.working as rest
        from execution.orders o
        join execution.order_intents i using (intent_id)
        join portfolio.batches b using (batch_id)
        join portfolio.rebalance_plan p on p.intent_id = i.parent_id
        join execution.schedule_progress s on s.intent_id = i.parent_id
        where o.account = %(account)s and o.state = any(%(working)s) and i.replaces is null
          and b.not_before <= %(now)s and b.expires_at > %(now)s and p.quantity > s.filled + s.working
        order by o.submitted_at, o.client_order_id
        """,
        {"account": settings.account, "working": [state.value for state in WORKING], "now": now},
    )
    found: list[StandingSlice] = []
    for row in rows:
        schedule = terms.over(row["not_before"], row["expires_at"])
        if schedule.awaits_fills and terms.is_over(schedule, row["submitted_at"], now):
            told = f"{row['side']} {plain(row['open'])} {row['instrument']}"
            found.append(
                StandingSlice(row["client_order_id"], told, row["state"], row["submitted_at"], plain(row["rest"]))
            )
    return tuple(found)


def _asked_in_slices(warehouse: Warehouse, batch_id: str) -> dict[str, Decimal]:
    """Shares that each scheduled order had come to with its last slice, by its intent id."""
    rows = warehouse.rows(
        """
        with slices as (
            select i.parent_id, i.quantity, o.filled_quantity, i.created_at,
                coalesce(o.state in ('filled', 'cancelled', 'expired', 'rejected', 'replaced'), true) as has_ended,
                coalesce(o.updated_at, i.created_at) as changed_at,
                max(i.intent_id) over (partition by i.parent_id) = i.intent_id as is_last,
                max(i.created_at) over (partition by i.parent_id) as last_at
            from execution.order_intents i left join execution.orders o using (intent_id)
            where i.batch_id = %s and i.parent_id is not null and i.replaces is null
        )
        select parent_id, sum(
            case when has_ended and not is_last and changed_at <= last_at then coalesce(filled_quantity, 0)
            else quantity end) as asked
        from slices group by parent_id
        """,
        [batch_id],
    )
    return {row["parent_id"]: row["asked"] for row in rows}


def _keeps_books(settings: Settings) -> bool:
    with OrderStore.opened(settings.database_url) as store:
        return AccountBooks(store).first_session(settings.account) is not None


def _batch(settings: Settings, warehouse: Warehouse, now: datetime) -> PlannedBatch | None:
    with OrderStore.opened(settings.database_url) as store:
        name = store.latest_batch(settings.account)
        stored = None if name is None else store.batch(name)
        if stored is None or not stored.judged:
            return None
        batch = stored.batch
        waits = settings.trading.needs_release and not store.is_released(batch, min(now, batch.not_before))
    decided = warehouse.scalar(
        "select exists (select from execution.order_intents where batch_id = %s)", [batch.batch_id]
    )
    return PlannedBatch(batch.batch_id, batch.not_before, batch.expires_at, waits, bool(decided) or not batch.orders)
