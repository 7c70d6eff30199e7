"""The sensor that sees an approved batch in its window and asks for its execution.

Belongs here: reading our own database and asking for one run. Does not: deciding whether to trade; the execution asset
judges again.
"""

from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from octopus.core.orders import TradingState
from octopus_pipelines.jobs import EXECUTE
from resources import factories
from resources.settings import Settings
from resources.trading_state import trading_status
from resources.warehouse import launches
from resources.warehouse.connection import Role
from resources.warehouse.order_store import OrderStore
from resources.warehouse.prices import recorded_prices
from resources.warehouse.store import Warehouse

TRIES = 3
"""Runs for a batch that is executed and whose orders are open, of each session of new bars."""
REST = timedelta(minutes=10)
"""From one of them to the next, so that an outage does not use them up."""


def execution_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor; ``running``: switched on from the start, else a person switches it on in Dagster."""
    return dg.SensorDefinition(
        name="approved_batch",
        evaluation_fn=approved_batch,
        job_name=EXECUTE,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Executes the current approved batch once its window is open; a past session's batch never.",
    )


def approved_batch(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for each batch and attempt: a spent run key would otherwise hide a batch whose run failed."""
    settings = factories.current_settings()
    return next_execution(settings, factories.trading_clock(settings).now())


def next_execution(settings: Settings, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """What the sensor asks for at ``now``: a first run of a current batch, or another to finish what was begun; where
    neither is due, one for an earlier batch with orders that new bars can end, which keeps no current batch waiting."""
    warehouse = Warehouse(settings.database_url, Role.TRADER)
    batch = _latest(warehouse, settings.account)
    if batch is None:
        return _unfinished(warehouse, settings) or dg.SkipReason("no approved batch")
    launched = launches.of(warehouse, batch["batch_id"])
    asked = _current(warehouse, settings, batch, launched, now)
    if isinstance(asked, dg.RunRequest):
        return asked
    return (None if launched.is_active else _unfinished(warehouse, settings)) or dg.SkipReason(asked)


def _current(
    warehouse: Warehouse, settings: Settings, batch: dict[str, Any], launched: launches.Launched, now: datetime
) -> dg.RunRequest | str:
    """A run of the latest batch, or why there is none.

    That the books of its session were compared makes no batch an executed one whose orders nobody decided, or some of
    whose orders wait to be sent: a person may have them compared at any time. While trading is halted a run would only
    be refused; but what is at the broker is followed.
    """
    name, decided = batch["batch_id"], batch["session"]
    waits = batch["has_unsent"] and now < batch["expires_at"]
    if (batch["is_decided"] or batch["is_empty"]) and not waits and _is_reconciled(warehouse, settings, decided):
        return f"batch {name} was executed and reconciled already"
    if launched.is_active:
        return f"batch {name} is being executed by run {launched.latest_run}"
    is_begun = batch["is_decided"] or (batch["is_empty"] and launched.count > 0)
    only_sends = waits and not batch["is_at_broker"] if is_begun else not batch["is_empty"]
    reason = None if is_begun else _why_not_now(settings, batch, now)
    reason = reason or (_halted(settings, batch) if only_sends else None)
    reason = reason or (None if is_begun else _awaits_release(settings, name, now))
    if reason:
        return reason
    attempt = launched.count + 1
    return _run(name, decided, f"{name}:{attempt}", attempt)


def _unfinished(warehouse: Warehouse, settings: Settings) -> dg.RunRequest | None:
    """A run for an executed batch some of whose orders are still open, once bars have come in that can end them.

    Each session of new bars has `TRIES` of them: one that failed is followed by another, but an order that they do not
    end is a person's to look up.
    """
    rows = warehouse.rows(
        """
        select b.batch_id, b.session
        from portfolio.batches b
        where b.account = %s and exists (
            select from execution.orders o join execution.order_intents i using (intent_id)
            where i.batch_id = b.batch_id and o.state in ('accepted', 'partially_filled', 'pending_cancel'))
        order by b.session
        """,
        [settings.account],
    )
    last_bar = recorded_prices(settings, warehouse).last_session() if rows else None
    for row in rows:
        name, decided = row["batch_id"], row["session"]
        if last_bar is None or last_bar < settings.sessions.next(decided):
            return None
        launched = launches.of(warehouse, name)
        if launched.is_active:
            return None
        tried, rested = _tried_since(warehouse, settings, name, last_bar)
        if tried < TRIES and rested and _is_reconciled(warehouse, settings, decided):
            return _run(name, decided, f"{name}:bars-{last_bar}:{launched.count + 1}", launched.count + 1)
    return None


def _tried_since(warehouse: Warehouse, settings: Settings, batch_id: str, last_bar: date) -> tuple[int, bool]:
    """How many runs took up the batch since the first bar of ``last_bar`` came in, and whether the latest of them is
    `REST` ago."""
    found = warehouse.rows(
        """
        select count(*) as tried, coalesce(max(last_seen) < now() - %(rest)s, true) as rested
        from execution.launches
        where batch_id = %(batch)s and first_seen >= (
            select coalesce(min(ingested_at), '-infinity') from raw.bars
            where source = %(source)s and session = %(session)s)
        """,
        {"batch": batch_id, "source": settings.universe.market_data, "session": last_bar, "rest": REST},
    )[0]
    return found["tried"], found["rested"]


def _run(batch: str, decided: date, run_key: str, attempt: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=run_key, partition_key=decided.isoformat(),
        tags={"octopus/batch": batch, "octopus/attempt": str(attempt)},
    )  # fmt: skip


def _why_not_now(settings: Settings, batch: dict[str, Any], now: datetime) -> str | None:
    """Why a batch none of whose orders was decided may not be begun now; None when it may.

    On recorded data the clock stands at the decision until execution itself moves it into the window.
    """
    name, current = batch["batch_id"], settings.sessions.last_decided(now)
    if batch["session"] != current:
        return f"batch {name} of {batch['session']} is not of the current session {current}: a past day cannot trade"
    if now >= batch["expires_at"]:
        return f"the window of batch {name} closed at {batch['expires_at']}"
    if not settings.recorded and now < batch["not_before"]:
        return f"the window of batch {name} opens at {batch['not_before']}"
    return None


def _halted(settings: Settings, batch: dict[str, Any]) -> str | None:
    """Why a run that has nothing to do but to send would be refused; None while orders may leave."""
    status = trading_status(settings, settings.account)
    if status.state is not TradingState.HALTED:
        return None
    return (
        f"batch {batch['batch_id']} waits: trading in account {settings.account} is halted: {status.reason}; settle "
        f"that, then `octopus resume`; its window closes at {batch['expires_at']}"
    )


def _awaits_release(settings: Settings, batch_id: str, now: datetime) -> str | None:
    """Why a person has to say first that the batch may go; None when nobody has to, or one has."""
    if not settings.trading.needs_release:
        return None
    with OrderStore.opened(settings.database_url) as store:
        if store.is_released(store.batch(batch_id).batch, now):
            return None
    return f"batch {batch_id} awaits a person's release: `octopus release {batch_id}`"


def _is_reconciled(warehouse: Warehouse, settings: Settings, decided: date) -> bool:
    return bool(
        warehouse.scalar(
            "select exists (select from execution.reconciliation where account = %s and session = %s)",
            [settings.account, settings.sessions.next(decided)],
        )
    )


def _latest(warehouse: Warehouse, account: str) -> dict[str, Any] | None:
    """The latest approved batch of the account that nothing supersedes; whether its orders were decided, if any, and
    whether some of them are approved and not sent, or stand at the broker as far as a run can find out."""
    rows = warehouse.rows(
        """
        select b.batch_id, b.session, b.not_before, b.expires_at,
               exists (select from execution.order_intents i where i.batch_id = b.batch_id) as is_decided,
               not exists (select from portfolio.rebalance_plan p where p.batch_id = b.batch_id) as is_empty,
               exists (select from execution.order_intents i join execution.orders o using (intent_id)
                       where i.batch_id = b.batch_id and i.exit_of is null and o.state = 'approved') as has_unsent,
               exists (select from execution.order_intents i join execution.orders o using (intent_id)
                       where i.batch_id = b.batch_id and o.state in ('submitting', 'accepted', 'partially_filled',
                           'pending_cancel')) as is_at_broker
        from portfolio.batches b join compliance.approvals a using (batch_id)
        where b.account = %s and b.superseded_by is null
        order by b.session desc limit 1
        """,
        [account],
    )
    return rows[0] if rows else None
