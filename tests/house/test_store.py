"""The warehouse's bulk appends and as-of reads, on a real PostgreSQL."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octopus.core.errors import MissingDataError
from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from resources.warehouse import store
from resources.warehouse.connection import Role
from resources.warehouse.prices import WarehousePrices
from resources.warehouse.store import Warehouse

CLOSE = datetime(2022, 12, 1, 21, tzinfo=UTC)
SEEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    return Warehouse(database_url, Role.RESEARCH)


def bars(closes: dict[str, float], *, known_at: datetime | None = None) -> pl.DataFrame:
    """One bar for each instrument at the same session."""
    return pl.DataFrame(
        {
            "source": "test",
            "instrument": list(closes),
            "ts": [CLOSE] * len(closes),
            "session": [CLOSE.date()] * len(closes),
            "open": None,
            "high": None,
            "low": None,
            "close": list(closes.values()),
            "volume": None,
            "known_at": [known_at or CLOSE + timedelta(minutes=15)] * len(closes),
            "known_at_imputed": [known_at is None] * len(closes),
        }
    )


def versions(warehouse: Warehouse, instrument: str) -> list[tuple[float, datetime, int]]:
    rows = warehouse.rows(
        "select close, known_at, batch_id from raw.bars where instrument = %s order by batch_id", [instrument]
    )
    return [(row["close"], row["known_at"], row["batch_id"]) for row in rows]


def test_appending_the_same_again_stores_nothing_and_takes_no_batch_number(warehouse: Warehouse) -> None:
    first = warehouse.append("bars", bars({"A": 1.0, "B": 2.0}), source="test")
    again = warehouse.append("bars", bars({"A": 1.0, "B": 2.0}), source="test")
    assert (first.new, first.batch_id) == (2, 1)
    assert (again.new, again.restated, again.unchanged, again.batch_id) == (0, 0, 2, None)
    assert warehouse.scalar("select count(*) from ops.batches") == 1


def test_a_value_that_goes_and_comes_back_is_three_rows(warehouse: Warehouse) -> None:
    for close, when in ((1.0, 0), (1.5, 1), (1.0, 2)):
        report = warehouse.append("bars", bars({"A": close}), source="test", now=SEEN + timedelta(days=when))
        assert report.changed
    assert [close for close, _, _ in versions(warehouse, "A")] == [1.0, 1.5, 1.0]


def test_a_restatement_is_known_from_our_first_sight_of_it(warehouse: Warehouse) -> None:
    warehouse.append("bars", bars({"A": 1.0}), source="test", now=SEEN)
    warehouse.append("bars", bars({"A": 1.1}), source="test", now=SEEN + timedelta(hours=1))
    (_, first, _), (_, second, _) = versions(warehouse, "A")
    assert first == CLOSE + timedelta(minutes=15)
    assert second == SEEN + timedelta(hours=1)


def test_a_restatement_whose_time_the_vendor_recorded_keeps_that_time(warehouse: Warehouse) -> None:
    told = CLOSE + timedelta(days=2)
    warehouse.append("bars", bars({"A": 1.0}), source="test", now=SEEN)
    warehouse.append("bars", bars({"A": 1.1}, known_at=told), source="test", now=SEEN + timedelta(hours=1))
    assert versions(warehouse, "A")[1][1] == told


def test_only_what_differs_is_stored(warehouse: Warehouse) -> None:
    warehouse.append("bars", bars({"A": 1.0, "B": 2.0, "C": 3.0}), source="test")
    report = warehouse.append("bars", bars({"A": 1.0, "B": 2.2, "C": 3.0, "D": 4.0}), source="test")
    assert (report.new, report.restated, report.unchanged) == (1, 1, 2)
    assert len(versions(warehouse, "A")) == 1


def test_rejects_go_to_quarantine_once_with_their_payload(warehouse: Warehouse) -> None:
    reject = Reject("bars", "A", "close is not a number", {"close": float("nan"), "day": date(2022, 12, 1)})
    first = warehouse.append("bars", bars({"B": 1.0}), source="test", rejects=[reject])
    again = warehouse.append("bars", bars({"B": 1.0}), source="test", rejects=[reject])
    assert (first.quarantined, again.quarantined, again.batch_id) == (1, 0, None)
    (row,) = warehouse.rows("select reason, payload, instrument from raw.quarantine")
    assert row["reason"] == "close is not a number"
    assert row["payload"] == {"close": "number:NaN", "day": "2022-12-01"}


def test_a_key_twice_in_one_frame_is_refused_and_nothing_is_stored(warehouse: Warehouse) -> None:
    frame = pl.concat([bars({"A": 1.0}), bars({"A": 2.0})])
    with pytest.raises(MissingDataError, match="twice"):
        warehouse.append("bars", frame, source="test")
    assert warehouse.scalar("select count(*) from raw.bars") == 0


def test_nan_and_null_are_one_and_the_same(warehouse: Warehouse) -> None:
    warehouse.append("bars", bars({"A": 1.0}), source="test")
    nan = bars({"A": 1.0}).with_columns(volume=pl.lit(float("nan")))
    assert not warehouse.append("bars", nan, source="test").changed


def test_replace_changes_rows_only_when_their_content_differs(warehouse: Warehouse) -> None:
    day = date(2022, 12, 1)
    rows = pl.DataFrame({"session": [day] * 2, "instrument": ["A", "B"], "feature": ["f"] * 2, "value": [1.0, None]})
    assert warehouse.replace("strategy.features", {"session": day}, rows)
    assert not warehouse.replace("strategy.features", {"session": day}, rows)
    assert warehouse.replace("strategy.features", {"session": day}, rows.head(1))
    assert warehouse.scalar("select count(*) from strategy.features") == 1


def test_replace_leaves_other_scopes_alone(warehouse: Warehouse) -> None:
    for day in (date(2022, 12, 1), date(2022, 12, 2)):
        rows = pl.DataFrame({"session": [day], "instrument": ["A"], "feature": ["f"], "value": [1.0]})
        warehouse.replace("strategy.features", {"session": day}, rows)
    warehouse.replace("strategy.features", {"session": date(2022, 12, 1)}, rows.clear())
    assert warehouse.scalar("select min(session) from strategy.features") == date(2022, 12, 2)


def test_batch_numbers_follow_the_order_of_commits(database_url: str) -> None:
    """A second writer waits for the first: its number is higher, whoever began earlier."""
    warehouse = Warehouse(database_url, Role.RESEARCH)
    threads = [
        threading.Thread(target=warehouse.append, args=("bars", bars({f"S{n}": 1.0})), kwargs={"source": f"s{n}"})
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [row["batch_id"] for row in warehouse.rows("select batch_id from ops.batches order by batch_id")]
    assert numbers == list(range(1, 9))


def two_fetches() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars of instruments in no order over five days, and a later fetch that keeps, restates and adds some."""
    days = [bars(dict.fromkeys(("b", "Z", "é", "A", "long name", "AA"), 1.0)).with_columns(
        pl.col("ts", "known_at") + timedelta(days=day)) for day in range(5)]  # fmt: skip
    later = pl.concat(days)
    changed = (pl.col("instrument") == "AA") & (pl.col("ts") < CLOSE + timedelta(days=2))
    return pl.concat(days[:3]), later.with_columns(close=pl.when(changed).then(2.0).otherwise("close"))


@pytest.mark.parametrize(("rows", "names"), [(1, 500), (7, 500), (1000, 500), (7, 2)])
def test_slices_of_an_append_store_what_one_would(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, rows: int, names: int
) -> None:
    monkeypatch.setattr(store, "_SLICE_ROWS", rows)
    monkeypatch.setattr(store, "_FEW_SLICES", 1)
    monkeypatch.setattr(store, "_FEW_INSTRUMENTS", names)
    first, later = two_fetches()
    found = [warehouse.append("bars", frame, source="test", now=SEEN) for frame in (first, first)]
    found.append(warehouse.append("bars", later, source="test", now=SEEN + timedelta(days=1)))
    assert [(one.batch_id, one.new, one.restated, one.unchanged) for one in found] == [
        (1, 18, 0, 0), (None, 0, 0, 18), (2, 12, 2, 16),
    ]  # fmt: skip
    stored = warehouse.read("select * from raw.bars")
    assert stored.group_by("batch_id").len().sort("batch_id").rows() == [(1, 18), (2, 14)]
    current = stored.sort("batch_id").unique(["instrument", "ts"], keep="last").sort("instrument", "ts")
    assert current["close"].to_list() == later.sort("instrument", "ts")["close"].to_list()
    assert warehouse.scalar("select sum(rows_new + rows_restated) from ops.batches") == 32


def test_a_slice_that_fails_leaves_nothing_and_says_why(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_SLICE_ROWS", 5)
    monkeypatch.setattr(store, "_FEW_SLICES", 1)
    _, frame = two_fetches()
    reject = Reject("bars", "A", "close is not a number", {"close": float("nan")})
    with pytest.raises(MissingDataError, match=r"holds a key of .* twice"):
        warehouse.append("bars", pl.concat([frame, frame.tail(1)]), source="test", rejects=[reject])
    assert nothing_is_stored(warehouse)
    assert warehouse.append("bars", frame, source="test").batch_id == 1


def test_an_append_that_is_interrupted_leaves_nothing_and_no_thread(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_SLICE_ROWS", 5)
    monkeypatch.setattr(store, "_FEW_SLICES", 1)
    written = []

    def interrupted(copy: psycopg.Copy, piece: bytes) -> None:
        written.append(piece)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(copy, piece)

    write = psycopg.Copy.write
    monkeypatch.setattr(psycopg.Copy, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        warehouse.append("bars", two_fetches()[1], source="test")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("one-ahead")]
    assert nothing_is_stored(warehouse)


def nothing_is_stored(warehouse: Warehouse) -> bool:
    left = warehouse.rows(
        "select (select count(*) from raw.bars) + (select count(*) from raw.quarantine) "
        "+ (select count(*) from ops.batches) + (select last_batch from ops.batch_counter) as all"
    )
    return left == [{"all": 0}]


HOSTILE = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["'", "\\'", "$1", "$2", "'; drop table raw.bars; --", "E'\\\\", '"', "%s"]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=HOSTILE, second=HOSTILE, day=st.dates(), number=st.none() | st.integers(-(2**62), 2**62))
def test_a_parameter_comes_back_as_it_was_given_whatever_it_holds(
    warehouse: Warehouse, first: str, second: str, day: date, number: int | None
) -> None:
    found = warehouse.read(
        "select $1::text as first, $2::text as second, $3::date as day, $4::bigint as number, $1::text || $2 as both",
        [first, second, day, number],
    )
    assert found.row(0) == (first, second, day, number, first + second)


def test_the_expected_volume_is_a_share_of_the_average_day(warehouse: Warehouse) -> None:
    clock = Sessions("XNYS")
    days = clock.between(date(2022, 10, 3), date(2022, 12, 30)).tolist()
    volumes = [float(row) for row in range(len(days))]
    frame = pl.DataFrame(
        {"session": days, "ts": [clock.close_utc(day) for day in days], "volume": volumes}
    ).with_columns(
        source=pl.lit("test"), instrument=pl.lit("A"), open=1.0, high=1.0, low=1.0, close=1.0, known_at=pl.col("ts"),
        known_at_imputed=pl.lit(value=True),
    )  # fmt: skip
    warehouse.append("bars", frame, source="test")
    prices = WarehousePrices(warehouse, "test", clock)
    session = days[40]
    opened, closed = clock.open_utc(session), clock.close_utc(session)
    # The mean of the 21 sessions before it: 19 to 39.
    assert prices.expected_volume("A", opened, closed) == 29
    assert prices.expected_volume("A", opened, opened + (closed - opened) / 4) == Decimal("7.25")
    assert prices.expected_volume("unknown", opened, closed) == 0
    # Ten new shares for one from session 30 on: of 21 volumes the first eleven were counted in old ones. What goes ex
    # after the session, or before the first of the volumes, changes none of them.
    splits = pl.DataFrame(
        [{"instrument": "A", "session": days[row], "ts": clock.open_utc(days[row]), "kind": "split", "value": ratio,
          "detail": None, "source": "test", "known_at": clock.open_utc(days[row]),
          "known_at_imputed": True} for row, ratio in ((10, 7.0), (30, 10.0), (41, 3.0))]
    )  # fmt: skip
    warehouse.append("corporate_actions", splits, source="test")
    volume = (10 * sum(range(19, 30)) + sum(range(30, 40))) / 21
    assert float(prices.expected_volume("A", opened, closed)) == pytest.approx(volume, rel=1e-12)


NEW_YORK = Sessions("XNYS")


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(minutes=st.integers(0, 210), begin=st.integers(0, 180), last=st.sampled_from(["2022-11-25", "2022-11-28"]))
def test_the_volume_that_is_expected_of_half_a_day_is_its_part_of_a_whole_one(
    database_url: str, minutes: int, begin: int, last: str
) -> None:
    """The same of the same minutes, whenever the session closes; and in all what its length is of a normal one."""
    warehouse, half = Warehouse(database_url, Role.RESEARCH), date(2022, 11, 25)
    days = NEW_YORK.between(date(2022, 10, 3), date(2022, 11, 23)).tolist()
    closes = [NEW_YORK.close_utc(day) for day in days]
    frame = pl.DataFrame({"session": days, "ts": closes, "known_at": closes}).with_columns(
        source=pl.lit("test"), instrument=pl.lit("A"), volume=1000.0, known_at_imputed=pl.lit(value=True),
        **{name: pl.lit(1.0) for name in ("open", "high", "low", "close")},
    )  # fmt: skip
    warehouse.append("bars", frame, source="test")
    prices, day = WarehousePrices(warehouse, "test", NEW_YORK), date.fromisoformat(last)
    opened, until = NEW_YORK.open_utc(day), begin + min(minutes, 210 - begin)
    span = [opened + timedelta(minutes=minute) for minute in (begin, until)]
    assert float(prices.expected_volume("A", *span)) == pytest.approx(1000 * (until - begin) / 390, rel=1e-12)
    whole = float(prices.expected_volume("A", opened, NEW_YORK.close_utc(day)))
    assert whole == pytest.approx(1000 * (210 if day == half else 390) / 390, rel=1e-12)
