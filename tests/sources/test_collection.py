"""Collecting in parts, over real sockets and into a real warehouse: what stops a run loses nothing, doubles nothing,
and the next run begins with what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest
from chaos_server import ChaosVendor, says
from psycopg import sql
from stands import FIVE, Stand, stands, vendors

from octopus.core.sessions import Sessions
from octopus.market_data.coverage import Window, missing, windows
from octopus.market_data.schema import ACTIONS_SCHEMA, BARS_SCHEMA, INSTRUMENTS_SCHEMA
from octopus.market_data.settle import settle_actions, settle_bars
from resources.collection import Collected, collect
from resources.sources import alpaca, yahoo
from resources.sources.alphavantage import AlphaVantageMarketData
from resources.sources.base import MarketData, MarketDataSource
from resources.sources.http import Access
from resources.sources.patience import BudgetExhaustedError, Patience, Refusal
from resources.warehouse import coverage
from resources.warehouse.budgets import SourceBudget, SourceLimits
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

XNYS = Sessions()
HISTORY = FIVE[0]
LATER = datetime(2022, 12, 28, 12, tzinfo=UTC)
FOUR = ("AAPL", "IBM", "KO", "XOM")
THREE = FOUR[:3]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    return Warehouse(database_url, Role.RESEARCH)


@pytest.fixture
def vendor() -> Iterator[ChaosVendor]:
    with vendors() as running:
        yield running


def run(
    warehouse: Warehouse, source: MarketDataSource, symbols: Sequence[str], *, session: date = FIVE[-1],
    history: date = HISTORY, now: datetime = LATER, refetch: int = 2,
) -> tuple[Collected, list[Window]]:  # fmt: skip
    """A day's collection, as the asset does it."""
    asked = coverage.read(warehouse, source.name, symbols, XNYS, now)
    wanted = windows(
        missing(
            symbols, asked.covered, asked.holes, history_start=history, session=session, refetch=refetch, sessions=XNYS
        )
    )
    return collect(warehouse, source, wanted, session, asked, XNYS, now=now), wanted


def stored(warehouse: Warehouse) -> dict[str, list[tuple[object, ...]]]:
    """Every version of everything that was collected, without the stamps of the writer."""
    with warehouse.connect() as connection:
        return {
            table: sorted(
                connection.execute(
                    sql.SQL("select source, instrument, ts::text, known_at_imputed, {} from {}").format(
                        sql.SQL(", ").join(map(sql.Identifier, values)), sql.Identifier("raw", table)
                    )
                ).fetchall()
            )
            for table, values in _VALUES.items()
        }


_VALUES = {
    "instruments": ("exchange",), "bars": ("close", "known_at"), "corporate_actions": ("kind", "value"),
    "adjusted_closes": ("adj_close",),
}  # fmt: skip


# -- Alpha Vantage's plan -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("universe", "allowed", "expected"),
    [
        (6, 7, [(4, 2, 3), (5, 1, 5), (6, 0, 6), (6, 0, 6)]),
        pytest.param(20, 25, [(13, 7, 12), (18, 2, 19), (20, 0, 20), (20, 0, 20)], marks=pytest.mark.slow),
    ],
)
def test_a_universe_larger_than_a_days_allowance_is_there_within_days(
    universe: int, allowed: int, expected: list[tuple[int, int, int]], vendor: ChaosVendor, warehouse: Warehouse,
    tmp_path: Path,
) -> None:  # fmt: skip
    stand = stands(tmp_path, tmp_path)["alphavantage"]
    vendor.plays(stand.route, [], says(stand.body(stand.records)))
    symbols = [f"S{number:02d}" for number in range(universe)]
    days = []
    for day in range(4):
        now = datetime(2023, 1, 5 + day, 15, tzinfo=UTC)
        budget = SourceBudget(
            warehouse.url, "alphavantage", SourceLimits(per_day=allowed, reset_timezone="America/New_York"),
            now=lambda now=now: now,
        )  # fmt: skip
        access = Access(vendor.url, 2.0, Patience(attempts=1), budget, now=lambda now=now: now)
        source = AlphaVantageMarketData("k", access, now=lambda now=now: now)
        found, _ = run(warehouse, source, symbols, session=FIVE[min(day + 2, 4)], now=now)
        days.append((found.parts, len(found.left), vendor.count("SYMBOL_SEARCH")))
        if found.stopped is not None:
            assert isinstance(found.stopped, BudgetExhaustedError)
            assert found.stopped.retry_at == datetime(2023, 1, 6 + day, 5, tzinfo=UTC), "midnight in New York"
    # Of 25 requests twelve symbols with their descriptions and the bars of a thirteenth; then whoever waited longest.
    assert days == expected
    counts = warehouse.rows("select instrument, count(*) as n from raw.bars group by 1 order by 1")
    assert [(row["instrument"], row["n"]) for row in counts] == [(symbol, 5) for symbol in symbols]
    fetches = warehouse.rows(
        "select rows_new + rows_restated as changed, payload_hash from ops.fetches order by fetch_id"
    )
    assert len(fetches) == sum(parts for parts, _, _ in expected), (
        "an answer that changed nothing leaves its hash and time, too"
    )
    assert {row["changed"] for row in fetches[-universe:]} == {0}
    assert all(row["payload_hash"] for row in fetches)
    with warehouse.connect() as connection:
        connection.execute("update ops.coverage set described_at = '2022-06-01' where instrument <> 'S01'")
    described = coverage.read(warehouse, "alphavantage", symbols, XNYS, LATER).described
    assert set(symbols) - described == {"S00"}, "of the descriptions that are old, one with each run"


# -- every source, its budget ending at every request ---------------------------------------------------------------


class Few:
    """A budget of so many requests."""

    def __init__(self, requests: int) -> None:
        self.left = requests

    def spend(self) -> Refusal | None:
        self.left -= 1
        return None if self.left >= 0 else Refusal(25, 86_400, datetime(2022, 12, 29, tzinfo=UTC))


def offer(vendor: ChaosVendor, stand: Stand) -> None:
    """Let the vendor of a stand answer for whichever symbols it is asked for."""

    def act(request: BaseHTTPRequestHandler) -> None:
        asked = parse_qs(urlsplit(request.path).query).get("symbols", [""])[0]
        body = stand.body(stand.records)
        if stand.source == "alpaca":
            one = body[body.index(b"[") : body.rindex(b"]") + 1]
            bars = b", ".join(b'"%s": %s' % (symbol.encode(), one) for symbol in asked.split(","))
            body = b'{"bars": {%s}, "next_page_token": null}' % bars
        says(body, kind=stand.kind)(request)

    vendor.plays(stand.route, [], act)


@pytest.mark.parametrize(
    "name", ["alpaca", "yahoo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("alphavantage", "coingecko"))]
)
def test_wherever_a_budget_ends_what_came_is_kept_and_the_rest_comes_with_the_next_run(
    name: str, vendor: ChaosVendor, warehouse: Warehouse, tmp_path: Path, yfinance_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(alpaca, "_BATCH", 2)
    monkeypatch.setattr(yahoo, "PART", 2)
    stand = stands(tmp_path, yfinance_cache)[name]
    offer(vendor, stand)

    def source(budget: Few | None) -> MarketDataSource:
        return stand.make(Access(vendor.url, 2.0, Patience(attempts=1), budget))

    def forgotten() -> None:
        with Warehouse(warehouse.url, Role.OWNER).connect() as connection:
            for table in ("instruments", "bars", "corporate_actions", "adjusted_closes", "quarantine"):
                connection.execute(f"delete from raw.{table}")
            connection.execute("delete from ops.coverage")
            connection.execute("delete from ops.holes")

    calm, _ = run(warehouse, source(None), THREE)
    assert (calm.stopped, calm.left, calm.tables["bars"].fetched) == (None, [], 15)
    expected = stored(warehouse)
    came: list[int] = []
    for allowed in range(1, vendor.count() + 1):
        forgotten()
        cut, _ = run(warehouse, source(Few(allowed)), THREE)
        if cut.stopped is None:
            break
        assert isinstance(cut.stopped, BudgetExhaustedError)
        kept = {row["instrument"] for row in warehouse.rows("select distinct instrument from raw.bars")}
        assert kept == set(THREE) - set(cut.left), "of whom something came, all of it came"
        came.append(len(kept))
        rest, wanted = run(warehouse, source(None), THREE)
        assert (rest.stopped, rest.left) == (None, [])
        assert not cut.left or wanted[0] == Window(HISTORY, tuple(cut.left)), "it begins with what is missing"
        assert rest.tables["bars"].new == 5 * len(cut.left)
        assert rest.tables["bars"].restated == 0
        assert stored(warehouse) == expected
    assert cut.stopped is None
    assert came == sorted(came)
    assert came[-1] >= 2


# -- the process dies -----------------------------------------------------------------------------------------------

CHILD = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from test_collection import AlphaVantageMarketData, Access, LATER, Patience, Role, Warehouse, run
source = AlphaVantageMarketData("k", Access({vendor!r}, 20.0, Patience(attempts=1)), describe=False, now=lambda: LATER)
run(Warehouse({url!r}, Role.RESEARCH), source, {symbols!r})
"""


def test_a_process_that_is_killed_half_way_has_kept_what_came_and_runs_again(
    vendor: ChaosVendor, warehouse: Warehouse, tmp_path: Path
) -> None:
    stand = stands(tmp_path, tmp_path)["alphavantage"]
    good = says(stand.body(stand.records))
    child: list[subprocess.Popen[bytes]] = []

    def kills(request: BaseHTTPRequestHandler) -> None:
        os.kill(child[0].pid, signal.SIGKILL)
        child[0].wait()

    vendor.plays(stand.route, [good, good, kills], good)
    here = Path(__file__).parent
    code = CHILD.format(tests=str(here), root=str(here.parents[1]), vendor=vendor.url, url=warehouse.url, symbols=FOUR)
    child.append(subprocess.Popen([sys.executable, "-c", code]))
    assert child[0].wait(60) == -signal.SIGKILL
    held = warehouse.rows("select instrument, count(*)::int as n from raw.bars group by 1 order by 1")
    assert [tuple(row.values()) for row in held] == [("AAPL", 5), ("IBM", 5)]
    source = AlphaVantageMarketData("k", Access(vendor.url), describe=False, now=lambda: LATER)
    again, wanted = run(warehouse, source, FOUR)
    assert (again.stopped, again.left) == (None, [])
    assert wanted == [Window(HISTORY, ("KO", "XOM")), Window(FIVE[-2], ("AAPL", "IBM"))]
    assert (again.tables["bars"].new, again.tables["bars"].restated) == (10, 0)
    assert warehouse.scalar("select count(*) from raw.bars") == 20


# -- what is missing ------------------------------------------------------------------------------------------------


@dataclass
class Shelf:
    """A source that has the sessions it is given, and remembers what it was asked for."""

    has: dict[str, list[date]]
    gone: dict[str, date] = field(default_factory=dict)
    asked: list[tuple[date, tuple[str, ...]]] = field(default_factory=list)
    name: str = "shelf"
    needs: tuple[str, ...] = ()

    def fetch(
        self, symbols: Sequence[str], start: date, end: date, sessions: Sessions, described: object = ()
    ) -> Iterator[MarketData]:
        self.asked.append((start, tuple(symbols)))
        frames = [
            pl.DataFrame({"session": self.has.get(symbol, [])}, schema={"session": pl.Date}).select(
                source=pl.lit(self.name), instrument=pl.lit(symbol), session="session", open=pl.lit(1.0),
                high=pl.lit(1.0), low=pl.lit(1.0), close=pl.lit(1.0), volume=pl.lit(1.0),
            )
            for symbol in symbols
        ]  # fmt: skip
        ended = [
            pl.DataFrame({"session": [self.gone[symbol]]}).select(
                source=pl.lit(self.name), instrument=pl.lit(symbol), session="session", kind=pl.lit("delisting"),
                value=pl.lit(1.0),
            )
            for symbol in symbols
            if symbol in self.gone
        ]  # fmt: skip
        settled = settle_bars(frames, start, end, sessions, datetime(2023, 6, 1, tzinfo=UTC))
        actions = settle_actions(ended, start, end, sessions)[0] if ended else ACTIONS_SCHEMA.to_frame()
        assert settled.bars.schema == BARS_SCHEMA
        yield MarketData(tuple(symbols), INSTRUMENTS_SCHEMA.to_frame(), settled.bars, actions, [], "hash")


def sessions_of(first: date, last: date, without: Sequence[date] = ()) -> list[date]:
    return [day for day in XNYS.between(first, last).astype(object).tolist() if day not in without]


BEGIN = date(2022, 11, 1)
HOLE = [date(2022, 11, 10), date(2022, 11, 11)]


@pytest.fixture
def day(warehouse: Warehouse) -> Callable[..., list[tuple[date, tuple[str, ...]]]]:
    """Run the shelf for a session; what it was asked for."""

    def one(shelf: Shelf, session: date) -> list[tuple[date, tuple[str, ...]]]:
        shelf.asked.clear()
        run(warehouse, shelf, sorted(shelf.has), session=session, history=BEGIN, now=XNYS.decision_utc(session))
        return list(shelf.asked)

    return one


def test_a_gap_that_stays_empty_is_asked_for_again_twice_and_one_that_is_mended_is_forgotten(
    warehouse: Warehouse, day: Callable[..., list[tuple[date, tuple[str, ...]]]]
) -> None:
    end = date(2023, 1, 31)
    shelf = Shelf({"GAP": sessions_of(BEGIN, end, HOLE), "MENDED": sessions_of(BEGIN, end, HOLE)})
    both = ("GAP", "MENDED")
    assert day(shelf, date(2022, 12, 1)) == [(BEGIN, both)]
    assert warehouse.scalar("select count(*) from ops.holes") == 4
    assert day(shelf, date(2022, 12, 2)) == [(date(2022, 11, 30), both)], "it had nothing: not again every day"
    shelf.has["MENDED"] = sessions_of(BEGIN, end)
    assert day(shelf, date(2022, 12, 8)) == [(HOLE[0], both)]
    assert (
        warehouse.scalar("select count(*) from raw.bars where instrument = 'MENDED' and session = any(%s)", [HOLE]) == 2
    )
    left = coverage.empty(warehouse, "shelf")
    assert left.select("instrument", "session_from", "session_to", "sessions").rows() == [("GAP", *HOLE, 2)]
    assert day(shelf, date(2022, 12, 9)) == [(date(2022, 12, 7), both)]
    assert day(shelf, date(2023, 1, 3)) == [(HOLE[0], ("GAP",)), (date(2022, 12, 8), ("MENDED",))]
    for session in (date(2023, 1, 4), date(2023, 1, 31)):
        assert len(day(shelf, session)) == 1, "then never"
    assert warehouse.scalar("select count(*) from raw.bars where instrument = 'GAP'") == len(shelf.has["GAP"])


def test_who_is_added_listed_late_unknown_at_first_or_delisted_is_asked_for_what_there_is(
    warehouse: Warehouse, day: Callable[..., list[tuple[date, tuple[str, ...]]]]
) -> None:
    listed = sessions_of(date(2022, 11, 15), date(2022, 12, 30))
    shelf = Shelf({"OLD": sessions_of(BEGIN, date(2022, 12, 30)), "LISTED": listed})
    assert day(shelf, date(2022, 12, 1)) == [(BEGIN, ("LISTED", "OLD"))]
    shelf.has |= {
        "ADDED": sessions_of(BEGIN, date(2022, 12, 30)), "UNKNOWN": [],
        "GONE": [*sessions_of(BEGIN, date(2022, 11, 9)), *sessions_of(date(2022, 11, 21), date(2022, 12, 30))],
    }  # fmt: skip
    shelf.gone["GONE"] = date(2022, 11, 9)
    rest = tuple(sorted(shelf.has))
    assert day(shelf, date(2022, 12, 2)) == [
        (BEGIN, ("ADDED", "GONE", "UNKNOWN")),
        (date(2022, 11, 30), ("LISTED", "OLD")),
    ]
    assert day(shelf, date(2022, 12, 5)) == [(date(2022, 12, 1), rest)], (
        "before a listing and between bearers is no gap"
    )
    shelf.has["UNKNOWN"] = sessions_of(BEGIN, date(2022, 12, 30))
    assert day(shelf, date(2022, 12, 6)) == [(date(2022, 12, 2), rest)]
    assert day(shelf, date(2022, 12, 7))[0] == (BEGIN, ("UNKNOWN",)), "now that it is known, all of it"
    assert day(shelf, date(2022, 12, 8)) == [(date(2022, 12, 6), rest)]
    counts = warehouse.rows("select instrument, count(*)::int as n from raw.bars group by 1")
    due = {name: len([one for one in has if one <= date(2022, 12, 8)]) for name, has in shelf.has.items()}
    assert {row["instrument"]: row["n"] for row in counts} == due


def test_bars_from_before_this_was_recorded_are_taken_over_with_their_gaps(
    warehouse: Warehouse, day: Callable[..., list[tuple[date, tuple[str, ...]]]]
) -> None:
    shelf = Shelf({"A": sessions_of(BEGIN, date(2022, 12, 30), HOLE), "B": sessions_of(BEGIN, date(2022, 12, 30))})
    for part in shelf.fetch(["A", "B"], BEGIN, date(2022, 12, 20), XNYS):
        warehouse.append("bars", part.bars, source="shelf")
    shelf.has["A"] = sessions_of(BEGIN, date(2022, 12, 30))
    assert day(shelf, date(2022, 12, 21)) == [(HOLE[0], ("A",)), (date(2022, 12, 19), ("B",))]
    assert warehouse.scalar("select count(*) from ops.holes") == 0
    assert day(shelf, date(2022, 12, 22)) == [(date(2022, 12, 20), ("A", "B"))]


def test_a_range_of_the_past_leaves_what_lies_before_and_after_to_be_asked_for(warehouse: Warehouse) -> None:
    shelf = Shelf({"A": sessions_of(BEGIN, date(2022, 12, 30))})
    asked = coverage.read(warehouse, "shelf", ["A"], XNYS, LATER)
    collect(warehouse, shelf, [Window(date(2022, 12, 5), ("A",))], date(2022, 12, 9), asked, XNYS)
    found, wanted = run(warehouse, shelf, ["A"], session=date(2022, 12, 28), history=BEGIN)
    assert wanted == [Window(BEGIN, ("A",))]
    assert found.tables["bars"].unchanged == 5
    _, wanted = run(warehouse, shelf, ["A"], session=date(2022, 12, 29), history=BEGIN, now=LATER + timedelta(days=1))
    assert wanted == [Window(date(2022, 12, 27), ("A",))]
