"""Members, units and actions of the user's own beside a source's, whatever was said before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.sessions import Sessions
from octopus.market_data.membership import SPANS_SCHEMA, membership_mask, membership_spans
from octopus.market_data.reference import (
    ACTION_COLUMNS,
    MEMBERS_SCHEMA,
    UNITS_SCHEMA,
    Reference,
    described,
    former_tickers,
    with_actions,
)
from octopus.market_data.schema import ACTIONS_SCHEMA, INSTRUMENTS_SCHEMA, UTC_INSTANT

XNYS = Sessions()
UNDATED = datetime(1990, 1, 2, 14, 30, tzinfo=UTC)
DAYS = XNYS.between(date(2024, 1, 2), date(2024, 1, 31))
NAMES = ("A", "B", "C")
NOBODY = pl.DataFrame(schema={"instrument": pl.String, "session": pl.Date})


def told(*names: str) -> pl.DataFrame:
    """What a source says of instruments: members ever since."""
    row = {
        "source": "s", "ts": UNDATED, "name": "n", "exchange": "XNYS", "currency": "USD", "asset_class": "equity",
        "price_basis": "raw", "lot_size": None, "tick_size": None, "member_from": None, "member_to": None,
        "known_at": UNDATED, "known_at_imputed": True,
    }  # fmt: skip
    return pl.DataFrame([row | {"instrument": name} for name in names], schema=INSTRUMENTS_SCHEMA)


def brought(stays: pl.DataFrame) -> Reference:
    members = stays.with_columns(known_at=pl.lit(None, UTC_INSTANT)).select(MEMBERS_SCHEMA.names())
    units = pl.DataFrame({"instrument": ["A"], "lot_size": [100.0], "tick_size": [None]}, schema=UNITS_SCHEMA)
    return Reference(members, ACTION_COLUMNS.to_frame(), units, "", "digest")


def overlaid(stored: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The current versions once ``rows`` are stored."""
    return pl.concat([stored, rows]).unique(["instrument", "ts"], keep="last", maintain_order=True)


def held(rows: pl.DataFrame) -> pl.DataFrame:
    """Stays that are none when they end before they begin."""
    return rows.filter((pl.col("member_to") < pl.col("member_from")).fill_null(value=False).not_()).select(
        SPANS_SCHEMA.names()
    )


memberships = st.lists(
    st.tuples(st.integers(0, len(DAYS) - 1), st.sets(st.sampled_from(NAMES))), min_size=1, max_size=6,
    unique_by=lambda one: one[0],
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(histories=st.lists(memberships, min_size=1, max_size=3), gone=st.none() | st.integers(0, len(DAYS) - 1))
def test_whatever_was_said_before_the_last_lists_count_and_again_they_change_nothing(
    histories: list[list[tuple[int, set[str]]]], gone: int | None
) -> None:
    stored, delistings = INSTRUMENTS_SCHEMA.to_frame(), NOBODY
    if gone is not None:
        delistings = pl.DataFrame({"instrument": ["A"], "session": [DAYS[gone].item()]})
    for lists in histories:
        rows = [(DAYS[place].item(), name) for place, names in lists for name in sorted(names)]
        frame = pl.DataFrame(rows, schema={"session": pl.Date, "instrument": pl.String}, orient="row")
        stays = membership_spans(frame, DAYS)
        made = described(told(*NAMES), stored, brought(stays), {}, delistings, UNDATED)
        assert not made.select("instrument", "ts").is_duplicated().any()
        stored = overlaid(stored, made)
        again = described(told(*NAMES), stored, brought(stays), {}, delistings, UNDATED)
        assert (
            overlaid(stored, again)
            .drop("known_at", "known_at_imputed")
            .equals(stored.drop("known_at", "known_at_imputed"))
        )
        wanted = membership_mask(stays, DAYS, NAMES)
        if gone is not None:
            began = np.array([stay[1] for stay in stays.rows() if stay[0] == "A"], dtype="datetime64[D]")
            for row in range(gone + 1, len(DAYS)):
                # Who comes back under the name of one that was delisted begins after it.
                since = began[began <= DAYS[row]]
                wanted[row, 0] &= bool(len(since)) and since[-1] > DAYS[gone]
        assert np.array_equal(membership_mask(held(stored), DAYS, NAMES), wanted)
    assert set(stored["instrument"]) == set(NAMES), "who never belonged is described, too"
    assert set(stored.filter(pl.col("instrument") == "A")["lot_size"]) == {100.0}


def test_a_former_ticker_is_described_as_what_it_became() -> None:
    renames = pl.DataFrame({"instrument": ["FB", "OLD"], "kind": ["symbol_change"] * 2, "detail": ["META", "FB"]})
    former = former_tickers(("META", "KO"), renames)
    assert former == {"FB": "META", "OLD": "META"}
    day = date(2022, 6, 9)
    stays = pl.DataFrame(
        [("FB", date(2020, 1, 2), day - timedelta(days=1)), ("META", day, None)], schema=SPANS_SCHEMA, orient="row"
    )
    rows = described(told("META", "KO"), INSTRUMENTS_SCHEMA.to_frame(), brought(stays), former, NOBODY, UNDATED)
    assert sorted(held(rows).rows()) == sorted(stays.rows())
    assert set(rows["instrument"]) == {"FB", "KO", "META", "OLD"}
    own = replace(brought(stays), actions=pl.concat([ACTION_COLUMNS.to_frame(), renames], how="diagonal"))
    assert (own.unasked(("META", "KO")), own.unasked(("KO",))) == ([], ["FB", "META"])
    assert former_tickers(("FB", "META"), renames.head(1)) == {}, "who is asked for is no former ticker"


def test_a_source_that_tells_a_rename_some_days_off_is_overruled_and_other_facts_stay() -> None:
    def action(kind: str, day: int, value: float, detail: str | None) -> dict[str, object]:
        at = datetime(2024, 1, day, 14, 30, tzinfo=UTC)
        return {
            "source": "s", "instrument": "A", "ts": at, "session": at.date(), "kind": kind, "value": value,
            "detail": detail, "known_at": at, "known_at_imputed": True,
        }  # fmt: skip

    vendor = [action("symbol_change", 9, 1.0, "B"), action("dividend", 9, 0.2, None), action("split", 3, 2.0, None)]
    user = [action("symbol_change", 4, 1.0, "B"), action("dividend", 4, 0.3, None), action("split", 3, 2.0, None)]
    rows, refused = with_actions(*(pl.DataFrame(one, schema=ACTIONS_SCHEMA) for one in (vendor, user)))
    assert [(row["kind"], row["session"].day) for row in rows.to_dicts()] == [
        ("split", 3), ("dividend", 4), ("symbol_change", 4), ("dividend", 9),
    ]  # fmt: skip
    assert [(one.table, one.payload["session"]) for one in refused] == [("corporate_actions", "2024-01-09")]
