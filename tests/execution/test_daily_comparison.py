"""The schedule that compares the books after a session in which no batch was executed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from execution_support import CLOSE, EXECUTED, OPEN, SESSIONS, rows, store_plan

from octopus.core.orders import Side
from octopus.execution.book import Entry, EntryKind
from octopus_pipelines.schedules import due_booking, due_comparison
from resources.settings import Settings, load_settings
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.connection import connect
from resources.warehouse.order_store import OrderStore

AN_HOUR_AFTER = CLOSE + timedelta(hours=1)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    names = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    made = load_settings({**names, "OCTOPUS_HOME": str(tmp_path)})
    return replace(made, universe=made.universe.model_copy(update={"market_data": "yahoo"}))


def skipped(settings: Settings, tick: datetime = AN_HOUR_AFTER) -> str:
    asked = due_comparison(settings, tick)
    assert isinstance(asked, dg.SkipReason)
    return str(asked.skip_message)


def test_a_day_without_a_batch_is_compared_and_a_batchs_own_run_compares_its_day(settings: Settings) -> None:
    assert "there is no book to compare" in skipped(settings)
    assert isinstance(due_booking(settings, AN_HOUR_AFTER), dg.SkipReason)
    with OrderStore.opened(settings.database_url) as store:
        money = Entry("d", EntryKind.DEPOSIT, None, Decimal(0), Decimal(100), OPEN)
        AccountBooks(store).recognise("paper", money, EXECUTED, OPEN)
    asked = due_comparison(settings, AN_HOUR_AFTER)
    assert isinstance(asked, dg.RunRequest)
    assert asked.partition_key == SESSIONS.previous(EXECUTED).isoformat(), (
        "that is executed, and compared, the day after"
    )
    assert asked.run_key == f"reconcile:{EXECUTED}"
    booking = due_booking(settings, AN_HOUR_AFTER)
    assert isinstance(booking, dg.RunRequest)
    assert booking.run_key == f"book:{EXECUTED}"
    assert "no session" in skipped(settings, datetime(2022, 12, 24, 22, tzinfo=UTC))
    assert "recording" in skipped(
        replace(settings, universe=settings.universe.model_copy(update={"market_data": "sample"}))
    )
    # A batch that nobody began leaves the books uncompared.
    batch = store_plan(settings.database_url, "paper", [("AAA", Side.BUY, Decimal(1))], session=date(2022, 12, 27))
    assert isinstance(due_comparison(settings, AN_HOUR_AFTER), dg.RunRequest)
    with connect(settings.database_url, autocommit=True) as connection:
        connection.execute(
            "insert into execution.order_intents (intent_id, batch_id, account, session, instrument, side, quantity, "
            "reference_price, order_type, client_order_id, status, created_at) "
            "select intent_id, batch_id, 'paper', %s, instrument, side, quantity, reference_price, order_type, "
            "'oct-1', 'denied', now() from portfolio.rebalance_plan",
            [batch.session],
        )
    assert "its own run compares the books" in skipped(settings)
    assert isinstance(due_booking(settings, AN_HOUR_AFTER), dg.RunRequest), "flows may come after that run"
    assert rows(settings.database_url, "select count(*) from execution.reconciliation") == [(0,)]
