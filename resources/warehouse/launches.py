"""Which runs set out to execute a batch: what the sensor numbers its run keys by.

Belongs here: noting and counting them. Does not: claims and attempts (order_store.py), which a run may never get to.

A run key is spent for ever, also when its run died before it claimed anything; so the number counts runs and not
claims. A run that is alive notes itself at each of its steps and holds the account's lock in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from resources.warehouse.order_store import AccountBusyError, OrderStore
from resources.warehouse.store import Warehouse

QUIET = timedelta(seconds=10)
"""A run that holds no lock and has not been seen for this long is dead: its steps follow each other within seconds."""


@dataclass(frozen=True)
class Launched:
    """Runs that took up a batch.

    Attributes:
        is_active: the latest one is still at it.
    """

    count: int
    latest_run: str | None
    is_active: bool


def note(warehouse: Warehouse, batch_id: str, run_id: str) -> None:
    """Note that ``run_id`` sets out to execute the batch now."""
    with warehouse.connect() as connection:
        connection.execute(
            """
            insert into execution.launches values (%(batch)s, %(run)s, now(), now())
            on conflict (batch_id, run_id) do update set last_seen = now()
            """,
            {"batch": batch_id, "run": run_id},
        )


def seen(warehouse: Warehouse, batch_id: str, run_id: str) -> None:
    """Note that ``run_id``, if it began the batch, is still at work on it.

    Steps that a person runs by themselves begin nothing, and are no run of the batch.
    """
    with warehouse.connect() as connection:
        connection.execute(
            "update execution.launches set last_seen = now() where batch_id = %s and run_id = %s", [batch_id, run_id]
        )


def of(warehouse: Warehouse, batch_id: str) -> Launched:
    """The runs that took up ``batch_id``."""
    rows = warehouse.rows(
        """
        select l.run_id, l.last_seen > now() - %s as fresh, b.account
        from execution.launches l join portfolio.batches b using (batch_id)
        where l.batch_id = %s order by l.last_seen desc
        """,
        [QUIET, batch_id],
    )
    if not rows:
        return Launched(0, None, is_active=False)
    active = rows[0]["fresh"] or _is_locked(warehouse.url, rows[0]["account"])
    return Launched(len(rows), rows[0]["run_id"], is_active=active)


def _is_locked(url: str, account: str) -> bool:
    with OrderStore.opened(url) as store:
        try:
            with store.account_lock(account, wait_seconds=0):
                return False
        except AccountBusyError:
            return True
