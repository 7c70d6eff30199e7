"""The sensor that sees an approved batch in its window and asks for its execution.

Belongs here: reading our own database and asking for one run. Does not: deciding whether to trade; the execution asset
judges again.
"""

from datetime import date, datetime
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
    """What the sensor asks for at ``now``: a first run of a current batch, or another to finish what was begun.

    That the books of its session were compared makes no batch an executed one whose orders nobody decided, or some of
    whose orders wait to be sent: a person may have them compared at any time. While trading is halted a run would only
    be refused; but what is at the broker is followed.
    """
    warehouse = Warehouse(settings.database_url, Role.TRADER)
    if (waiting := _unfinished(warehouse, settings)) is not None:
        return waiting
    batch = _latest(warehouse, settings.account)
    if batch is None:
        return dg.SkipReason("no approved batch")
    name, decided = batch["batch_id"], batch["session"]
    waits = batch["has_unsent"] and now < batch["expires_at"]
    if (batch["is_decided"] or batch["is_empty"]) and not waits and _is_reconciled(warehouse, settings, decided):
        return dg.SkipReason(f"batch {name} was executed and reconciled already")
    launched = launches.of(warehouse, name)
    if launched.is_active:
        return dg.SkipReason(f"batch {name} is being executed by run {launched.latest_run}")
    is_begun = batch["is_decided"] or (batch["is_empty"] and launched.count > 0)
    only_sends = waits and not batch["is_at_broker"] if is_begun else not batch["is_empty"]
    reason = None if is_begun else _why_not_now(settings, batch, now)
    reason = reason or (_halted(settings, batch) if only_sends else None)
    reason = reason or (None if is_begun else _awaits_release(settings, name, now))
    if reason:
        return dg.SkipReason(reason)
    attempt = launched.count + 1
    return _run(name, decided, f"{name}:{attempt}", attempt)


def _unfinished(warehouse: Warehouse, settings: Settings) -> dg.RunRequest | None:
    """A run for an executed batch some of whose orders are still open, once bars have come in that can end them."""
    rows = warehouse.rows(
        """
        select b.batch_id, b.session
        from portfolio.batches b
        where b.account = %s and exists (
            select from execution.orders o join execution.order_intents i using (intent_id)
            where i.batch_id = b.batch_id and o.state in ('accepted', 'partially_filled', 'pending_cancel'))
        order by b.session limit 1
        """,
        [settings.account],
    )
    if not rows or not _is_reconciled(warehouse, settings, rows[0]["session"]):
        return None
    name, decided = rows[0]["batch_id"], rows[0]["session"]
    last_bar = recorded_prices(settings, warehouse).last_session()
    launched = launches.of(warehouse, name)
    if last_bar is None or last_bar < settings.sessions.next(decided) or launched.is_active:
        return None
    # One run for each session of new bars: an order that they do not end is a person's to look up.
    return _run(name, decided, f"{name}:bars-{last_bar}", launched.count + 1)


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
