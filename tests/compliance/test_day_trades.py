"""What counts as a day trade, by example."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from octopus.compliance.day_trades import count
from octopus.core.orders import Fill, Side

MONDAY, TUESDAY = date(2024, 3, 4), date(2024, 3, 5)
AT = datetime(2024, 3, 4, 15, tzinfo=UTC)


def fills(*signed: int) -> list[Fill]:
    return [
        Fill(
            str(number), "o", "AAA", Side.BUY if shares > 0 else Side.SELL, Decimal(abs(shares)), Decimal(10),
            Decimal(0), AT + timedelta(minutes=number),
        )
        for number, shares in enumerate(signed)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("held", "signed", "trades", "opened"),
    [
        (0, (10, -10), 1, 0),
        (0, (10, -4, -6), 1, 0),
        (0, (10, -10, 10, -10), 2, 0),
        (0, (10, -4, 4, -10), 2, 0),
        (0, (-10, 10), 1, 0),
        (0, (10,), 0, 10),
        (10, (-10,), 0, 0),
        (10, (-10, 10), 0, 10),
        (10, (5, -15), 1, 0),
        (10, (5, -3), 1, 2),
        (0, (10, -15), 1, -5),
        (-10, (10, 5, -5), 1, 0),
    ],
)
def test_what_a_session_opened_and_closed_is_a_day_trade(
    held: int, signed: tuple[int, ...], trades: int, opened: int
) -> None:
    made = fills(*signed)
    found = count(made, [MONDAY] * len(made), {"AAA": Decimal(held)}, MONDAY)
    assert found == (trades, {"AAA": Decimal(opened)} if opened else {})


def test_what_is_held_overnight_is_none() -> None:
    bought, sold = fills(10, -10)
    assert count([bought, sold], [MONDAY, TUESDAY], {}, TUESDAY) == (0, {})
