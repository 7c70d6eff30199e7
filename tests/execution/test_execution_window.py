"""When a batch may be sent: in T+1, before the auction's cut-off, on short days too."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.errors import MissingDataError
from octopus.core.orders import OrderType
from octopus.core.sessions import Sessions
from octopus.execution.window import auction, execution_window, send_by

SESSIONS = Sessions("XNYS")
DAYS = SESSIONS.between(date(2000, 1, 3), date(2025, 12, 31))


def test_the_sample_decides_on_the_27th_and_executes_at_the_close_of_the_28th() -> None:
    window = execution_window(SESSIONS, date(2022, 12, 27), OrderType.MARKET_ON_CLOSE)
    assert window.session == date(2022, 12, 28)
    assert window.not_before == datetime(2022, 12, 28, 14, 30, tzinfo=UTC)
    assert window.expires_at == datetime(2022, 12, 28, 21, 0, tzinfo=UTC)
    assert send_by(window.expires_at, OrderType.MARKET_ON_CLOSE) == datetime(2022, 12, 28, 20, 50, tzinfo=UTC)


def test_the_half_day_after_thanksgiving_closes_early() -> None:
    window = execution_window(SESSIONS, date(2022, 11, 23), OrderType.MARKET_ON_CLOSE)
    assert window.expires_at == datetime(2022, 11, 25, 18, 0, tzinfo=UTC)


def test_at_the_open_over_a_weekend() -> None:
    window = execution_window(SESSIONS, date(2022, 7, 1), OrderType.MARKET_ON_OPEN)
    assert window.session == date(2022, 7, 5)
    assert window.expires_at == datetime(2022, 7, 5, 13, 30, tzinfo=UTC)
    assert window.expires_at - window.not_before == timedelta(hours=1)


def test_where_trading_never_ends_a_decision_executes_at_the_close_of_the_day_that_has_begun() -> None:
    coins, friday = Sessions("24/7"), date(2022, 12, 23)
    order_type = auction(coins, has_opens=True)
    assert order_type is OrderType.MARKET_ON_CLOSE
    window = execution_window(coins, friday, order_type)
    assert window.session == date(2022, 12, 24)
    assert coins.decision_utc(friday) < window.not_before == datetime(2022, 12, 24, 23, 0, tzinfo=UTC)
    assert window.expires_at == datetime(2022, 12, 25, tzinfo=UTC)
    with pytest.raises(MissingDataError, match=r"24/7 opens 2022-12-24 at .* before 2022-12-23 is decided"):
        execution_window(coins, friday, OrderType.MARKET_ON_OPEN)


def test_an_opening_auction_is_used_where_it_is_recorded_and_comes_after_the_decision() -> None:
    assert auction(SESSIONS, has_opens=True) is OrderType.MARKET_ON_OPEN
    assert auction(SESSIONS, has_opens=False) is OrderType.MARKET_ON_CLOSE


@pytest.mark.parametrize("order_type", list(OrderType))
@given(row=st.integers(0, len(DAYS) - 2))
def test_a_window_lies_between_its_decision_and_the_next(order_type: OrderType, row: int) -> None:
    decided, executed = (day.astype(object) for day in DAYS[row : row + 2])
    window = execution_window(SESSIONS, decided, order_type)
    assert np.datetime64(window.session) == np.datetime64(executed)
    assert SESSIONS.decision_utc(decided) < window.not_before < send_by(window.expires_at, order_type)
    assert send_by(window.expires_at, order_type) < window.expires_at < SESSIONS.decision_utc(executed)
