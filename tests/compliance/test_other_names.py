"""What a ticker in a list or a file means of instruments that changed theirs."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.compliance.names import OtherName, halted_as, issued_as, located_as, other_names
from octopus.market_data.identifiers import SPANS_SCHEMA, moved_spans

RENAMED, TAKEN = date(2022, 6, 9), date(2025, 6, 26)
D = Decimal


def told(*spans: tuple[str, str, date | None, date | None]) -> list[dict[str, object]]:
    frame = pl.DataFrame(list(spans), schema=SPANS_SCHEMA, orient="row")
    return list(moved_spans(frame).iter_rows(named=True))


META = (("FB", "FB", None, RENAMED - timedelta(days=1)), ("FB", "META", RENAMED, None))
TAKER = ("FB@2025-06-26", "FB", TAKEN, None)


def test_an_old_symbol_means_who_bore_it_last_until_another_takes_it() -> None:
    assert other_names(["META", "AAPL"], told(*META)) == {"META": (OtherName("FB", None),)}
    until = OtherName("FB", TAKEN - timedelta(days=1))
    assert other_names(["META", "FB"], told(*META, TAKER)) == {"META": (until,)}
    assert until.may_mean_it(TAKEN - timedelta(days=1))
    assert not until.may_mean_it(TAKEN)


def test_an_order_under_the_old_symbol_is_of_what_is_listed_under_the_new_one() -> None:
    assert other_names(["FB"], told(*META)) == {"FB": (OtherName("META", None),)}


def test_files_hold_under_every_name_that_can_mean_nobody_else() -> None:
    alone, taken = {"META": (OtherName("FB", None),)}, {"META": (OtherName("FB", RENAMED),)}
    assert halted_as(None, alone) is located_as(None, alone) is issued_as(None, alone) is None
    assert halted_as(frozenset({"FB"}), alone) == halted_as(frozenset({"FB"}), taken) == {"FB", "META"}
    assert located_as({"FB": D(3), "META": D(4)}, alone) == {"FB": D(3), "META": D(7)}
    assert located_as({"FB": D(3), "META": D(4)}, taken) == {"FB": D(3), "META": D(4)}
    assert issued_as({"FB": D(3)}, alone) == {"FB": D(3), "META": D(3)}
    assert issued_as({"FB": D(3)}, taken) == {"FB": D(3)}
    assert issued_as({"FB": D(3), "META": D(4)}, alone) == {"FB": D(3), "META": D(4)}


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400)), min_size=1, max_size=6))
def test_every_ticker_that_an_instrument_had_is_one_of_its_names(steps: list[tuple[int, int]]) -> None:
    """One instrument moves through tickers, back to earlier ones among them, and nobody else has any."""
    day, spans = date(2010, 1, 4), list[tuple[str, str, date | None, date | None]]()
    for ticker, length in steps:
        end = day + timedelta(days=length)
        if not spans or spans[-1][1] != f"T{ticker}":
            spans.append(("T", f"T{ticker}", day, end))
            day = end + timedelta(days=1)
    spans[-1] = (*spans[-1][:3], None)
    tickers = {ticker for _, ticker, _, _ in spans}
    now = spans[-1][1]
    found = other_names([now], told(*spans)).get(now, ())
    assert {other.ticker for other in found} == tickers - {now}
    assert all(other.until is None for other in found)
