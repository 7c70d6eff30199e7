"""Venues whose clock is minutes ahead of ours or behind it, through their own clients over real sockets.

Orders, fills and the windows of questions bear the venue's time there, and the window of a batch is ours: nothing may
be lost or doubled by that, and nothing left at a venue after its close.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clocked_venues import MINUTE, TRADES, IbHouse, desk_at, require_equal_books
from execution_support import (
    CLOSE,
    NAMES,
    D,
    ManualClock,
    order_ids,
    rows,
    store_plan,
)

from octopus.core.orders import OrderType, Side
from octopus.execution.reconcile import BreakKind
from octopus_pipelines.cli.adopt import adopt_holdings
from resources.brokers.base import NotToldYetError, OrderRequest
from resources.warehouse.order_store import BatchRefusedError

AHEAD, BEHIND, FAR_BEHIND = 7 * MINUTE, -7 * MINUTE, -20 * MINUTE
"""Of the venue; the last one is more than the 15 minutes for which orders are asked for after their auction."""
APART = [
    *((venue, skew) for venue in ("alpaca", "schwab", "ib") for skew in (AHEAD, BEHIND, FAR_BEHIND)),
    ("coinbase", 1.5 * MINUTE), ("paper", -4 * MINUTE), ("paper", AHEAD),
]  # fmt: skip
"""Venues and how far their clock is ahead of ours."""


@pytest.mark.parametrize(("venue", "skew"), APART)
def test_no_order_or_fill_is_lost_or_doubled_between_two_clocks(
    database_url: str, tmp_path: Path, venue: str, skew: timedelta
) -> None:
    with desk_at(database_url, tmp_path, venue, skew) as (desk, house):
        batch = store_plan(database_url, "acct", TRADES)
        desk.execute(batch)
        # Where its close is later than we wait for it, the next run finds what became of the orders.
        desk.clock.wait_until(CLOSE + timedelta(minutes=30))
        done = desk.execute(batch, "again")
        assert (done.placement.sent, done.breaks) == ((), ())
        assert sorted(fill.client_order_id for fill in desk.broker.fills(None)) == sorted(order_ids(batch))
        assert len(house.entered()) == len(TRADES)
        assert set(desk.states(batch).values()) == {"filled"}
        require_equal_books(desk)


@pytest.mark.parametrize(
    ("venue", "skew"), [("alpaca", AHEAD), ("schwab", AHEAD), ("ib", AHEAD), ("coinbase", 1.5 * MINUTE)]
)
def test_nothing_comes_to_a_venue_after_its_close(
    database_url: str, tmp_path: Path, venue: str, skew: timedelta
) -> None:
    """The window is open by our clock, and the venue has closed: it would keep the orders for its next session."""
    with desk_at(database_url, tmp_path, venue, skew, CLOSE - 1.2 * MINUTE) as (desk, house):
        batch = store_plan(database_url, "acct", TRADES, order_type=OrderType.MARKET)
        desk.execute(batch)
        assert house.entered() == []
        assert set(desk.states(batch).values()) == {"rejected"}
        (reason, *_), *_ = rows(database_url, "select payload from audit.log where kind = 'order.rejected'")
        assert "this computer's clock is" in str(reason)


def test_an_account_as_the_paper_broker_had_it_too_long_ago_is_not_traded(database_url: str, tmp_path: Path) -> None:
    """Its snapshot bears its own time; one from after now is denied by the gates (tests/risk/test_risk_gate.py)."""
    with desk_at(database_url, tmp_path, "paper", BEHIND) as (desk, house):
        with pytest.raises(BatchRefusedError, match=r"is 0:07:00 old"):
            desk.execute(store_plan(database_url, "acct", TRADES))
        assert house.entered() == []


@pytest.mark.parametrize("venue", ["alpaca", "schwab", "ib"])
def test_what_fills_right_after_an_adoption_is_booked_though_the_venue_dates_it_before(
    database_url: str, tmp_path: Path, venue: str
) -> None:
    with desk_at(database_url, tmp_path, venue, BEHIND) as (desk, house):
        with desk.engine() as engine:
            assert adopt_holdings(engine, "acct", NAMES, {}, "ann: opened before", ask=False) == 1

        def at_once(served: Any) -> None:
            house.skew = house.begins + BEHIND - desk.clock.now()
            for name, *_ in served.waiting():
                served.fill(name)

        house.venue.auction = at_once
        batch = store_plan(database_url, "acct", TRADES)
        done = desk.execute(batch)
        assert set(desk.states(batch).values()) == {"filled"}
        # Cash as of IB's report, which is of yesterday, is worked out from the fills after the adoption alone.
        assert [item.kind for item in done.breaks] == ([BreakKind.CASH] if venue == "ib" else [])


def test_an_order_of_a_day_that_tws_has_ended_is_awaited_and_not_called_absent(tmp_path: Path) -> None:
    """TWS tells the orders of its day alone, and by our clock that day still is."""
    clock = ManualClock(datetime(2022, 12, 29, 4, 55, tzinfo=UTC))
    sent = OrderRequest("oct-1", "AAA", Side.BUY, D(1), OrderType.MARKET_ON_CLOSE, CLOSE)
    with IbHouse(clock, BEHIND).opened("", tmp_path, "acct") as broker:
        assert broker.order("oct-1") is None
        assert broker.past_order(sent, None) is None
    with IbHouse(clock, AHEAD).opened("", tmp_path, "acct") as broker, pytest.raises(NotToldYetError):
        broker.past_order(sent, None)
