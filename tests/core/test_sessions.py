"""The calendar: which session an instant belongs to."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from octopus.core.sessions import Sessions


@pytest.mark.parametrize(
    ("exchange", "instant", "session"),
    [
        ("XNYS", datetime(2022, 12, 28, 14, 30, tzinfo=UTC), date(2022, 12, 28)),
        ("XNYS", datetime(2022, 12, 28, 21, 0, tzinfo=UTC), date(2022, 12, 28)),
        # The closing auction prints after the bell, and trading goes on until 20:00 in New York.
        ("XNYS", datetime(2022, 12, 28, 21, 0, 3, tzinfo=UTC), date(2022, 12, 28)),
        ("XNYS", datetime(2022, 12, 29, 0, 30, tzinfo=UTC), date(2022, 12, 28)),
        ("XNYS", datetime(2022, 12, 31, 15, 0, tzinfo=UTC), date(2023, 1, 3)),
        ("XNYS", datetime(2022, 11, 25, 18, 0, 1, tzinfo=UTC), date(2022, 11, 25)),
        ("24/7", datetime(2022, 12, 31, 23, 59, tzinfo=UTC), date(2022, 12, 31)),
        ("24/7", datetime(2023, 1, 1, 0, 0, tzinfo=UTC), date(2022, 12, 31)),
        ("24/7", datetime(2023, 1, 1, 0, 0, 1, tzinfo=UTC), date(2023, 1, 1)),
    ],
)
def test_a_trade_belongs_to_the_exchanges_own_day(exchange, instant, session):
    assert Sessions(exchange).trade_date(instant) == session
