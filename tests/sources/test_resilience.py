"""Resilience: bad days of a vendor, played over real sockets; budgets in a real PostgreSQL, with processes racing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import requests
from chaos_server import ChaosVendor, chaos, fails, html, resets, says, shuffled, slow, truncated
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.errors import ConfigError, SourceUnavailableError
from octopus.core.sessions import Sessions
from resources import research_factories
from resources.settings import load_settings
from resources.sources.base import whole
from resources.sources.http import Access
from resources.sources.newsapi import NewsApiNews
from resources.sources.patience import (
    BudgetExhaustedError,
    Patience,
    Persistence,
    Refusal,
    TryLaterError,
    asked_wait,
    backoff,
    own_error,
)
from resources.sources.patient_transport import PatientTransport
from resources.sources.reddit import RedditPosts
from resources.sources.yahoo import YahooMarketData
from resources.warehouse.budgets import SourceBudget, SourceLimits, limits_of, window
from resources.warehouse.connection import Role, connect

NOON = datetime(2025, 3, 3, 12, 0, tzinfo=UTC)
OK = {"rows": [1, 2, 3]}


@dataclass
class FakeTime:
    """A clock that only sleeping moves."""

    at: datetime = NOON
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


class Allowance:
    """A budget in memory: ``refusals`` first, then room for ``room`` requests, then the last refusal for ever."""

    def __init__(self, room: int, *refusals: Refusal) -> None:
        self.room, self.refusals = room, list(refusals)

    def spend(self) -> Refusal | None:
        if len(self.refusals) > 1 or (self.refusals and self.room == 0):
            return self.refusals.pop(0) if len(self.refusals) > 1 else self.refusals[0]
        self.room -= 1
        return None


@pytest.fixture
def vendor() -> Iterator[ChaosVendor]:
    with chaos() as running:
        yield running


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


def access_to(vendor: ChaosVendor, clock: FakeTime, **changes: object) -> Access:
    """The default patience, whose waits take no time here."""
    return Access(**{"base_url": vendor.url, "sleep": clock.sleep, "now": clock.now, **changes})  # type: ignore[arg-type]


# -- the policy ------------------------------------------------------------------------------------------------------

patiences = st.builds(
    Patience,
    attempts=st.integers(1, 6),
    base_s=st.floats(0, 10),
    longest_s=st.floats(0, 100),
    total_s=st.floats(0, 200),
)
outcomes = st.lists(
    st.one_of(
        st.just("broken"), st.tuples(st.sampled_from([429, 500, 502, 503, 529]), st.none() | st.integers(0, 150))
    ),
    min_size=6,
    max_size=6,
)


@dataclass
class Reply:
    status_code: int
    headers: dict[str, str]


@given(patiences, outcomes, st.sampled_from(["GET", "get", "POST"]), st.lists(st.floats(0, 0.999), min_size=6))
def test_waits_are_bounded_honoured_and_counted(patience, script, method, draws):
    clock, sent, chances = FakeTime(), [], iter(draws * 2)

    def attempt() -> Reply:
        outcome = script[len(sent)]
        sent.append((clock.at, outcome))
        if outcome == "broken":
            raise ConnectionError
        status, asked = outcome
        return Reply(status, {} if asked is None else {"Retry-After": str(asked)})

    persistence = Persistence("it", patience, None, clock.sleep, lambda: next(chances), clock.now)
    gave_up: TryLaterError | None = None
    try:
        persistence.send(method, attempt, (ConnectionError,))
    except ConnectionError:
        assert sent[-1][1] == "broken", "the last failure is the one that is told"
    except TryLaterError as error:
        gave_up = error
    assert len(sent) == len(clock.slept) + 1
    assert len(sent) <= (patience.attempts if method.upper() == "GET" else 1)
    assert sum(clock.slept) <= patience.total_s + 1e-6
    assert all(0 <= wait <= patience.longest_s + 1e-9 for wait in clock.slept)
    for (_, outcome), wait in zip(sent, clock.slept, strict=False):
        if outcome != "broken" and outcome[1] is not None:
            assert wait >= outcome[1], "the vendor gets at least the wait that it asked for"
    if gave_up is not None:
        assert gave_up.retry_at == clock.at + timedelta(seconds=sent[-1][1][1])
        assert sent[-1][1][1] > min(patience.longest_s, patience.total_s - sum(clock.slept))


@given(patiences, st.integers(1, 2000), st.floats(0, 0.999))
def test_backoff_doubles_up_to_the_longest_wait(patience, attempt, draw):
    assert 0 <= backoff(attempt, patience, draw) <= patience.longest_s
    assert backoff(1, Patience(base_s=2), 0.5) == 1.0
    assert backoff(3, Patience(base_s=2), 0.5) == 4.0
    assert backoff(9, Patience(base_s=2, longest_s=30), 0.5) == 15.0


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "120"}, 120),
        (503, {"retry-after": " 7 "}, 7),
        (503, {"Retry-After": format_datetime(NOON + timedelta(seconds=30), usegmt=True)}, 30),
        (503, {"Retry-After": format_datetime(NOON - timedelta(days=1), usegmt=True)}, 0),
        (503, {"Retry-After": "Mon, 03 Mar 2025 12:00:05 -0000"}, 5),
        (429, {"x-rate-limit-reset": str(int(NOON.timestamp()) + 600)}, 600),
        (429, {"X-RateLimit-Reset": "41.5"}, 41.5),
        (429, {"Retry-After": "1", "x-rate-limit-reset": str(int(NOON.timestamp()) + 600)}, 1),
        (503, {"x-rate-limit-reset": str(int(NOON.timestamp()) + 600)}, None),
        (429, {"Retry-After": "soon"}, None),
        (429, {"Retry-After": "-5"}, None),
        (429, {"Retry-After": ""}, None),
        (429, {"Retry-After": "nan"}, None),
        (429, {"Retry-After": "999999999999999"}, 366 * 86400),
        (429, {}, None),
    ],
)
def test_what_the_vendor_asks_for_is_read(status, headers, seconds):
    assert asked_wait(status, headers, NOON) == seconds


def test_a_patience_that_cannot_be_is_refused():
    for wrong in ({"attempts": 0}, {"base_s": -1.0}, {"longest_s": float("nan")}, {"total_s": -0.1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Patience(**wrong)


# -- the same over sockets, for each library that carries requests ---------------------------------------------------


def by_requests(access: Access) -> object:
    with access.session("it") as session:
        answer = session.get("https://api.example.org/rows")
    answer.raise_for_status()
    return answer.json()


def by_httpx(access: Access) -> object:
    transport = PatientTransport(access.persistence("it"))
    with httpx.Client(transport=transport, timeout=access.timeout_s, base_url=access.base_url or "") as client:
        return client.get("/rows").raise_for_status().json()


carriers = pytest.mark.parametrize("carry", [by_requests, by_httpx])


@carriers
@pytest.mark.parametrize(
    "script",
    [
        [fails(429, Retry_After="2")],
        [fails(500), fails(503)],
        [resets],
        [truncated(OK)],
        [slow(OK, 1.0)],
        [resets, fails(502), truncated(OK)],
    ],
    ids=["429", "5xx", "reset", "truncated", "slow", "all at once"],
)
def test_a_failure_that_passes_is_not_noticed(vendor, clock, carry, script):
    vendor.plays("/rows", script, then=says(OK))
    assert carry(access_to(vendor, clock, timeout_s=0.5)) == OK
    assert vendor.count("/rows") == len(script) + 1
    assert len(clock.slept) == len(script)


@carriers
def test_a_wait_is_kept_and_a_long_one_is_told_at_once(vendor, clock, carry):
    vendor.plays("/rows", [fails(429, Retry_After="30")], then=says(OK))
    carry(access_to(vendor, clock))
    assert clock.slept == [30.0]
    at = format_datetime(clock.at + timedelta(hours=2), usegmt=True)
    vendor.plays("/rows", [fails(503, Retry_After=at)], then=says(OK))
    with pytest.raises(TryLaterError, match=r"^it: HTTP 503.*7200 s.*try again after 2025-03-03 14:00:30 UTC$") as told:
        carry(access_to(vendor, clock))
    assert told.value.retry_at == clock.at + timedelta(hours=2)
    assert (vendor.count("/rows"), clock.slept) == (3, [30.0])


@carriers
def test_the_last_answer_is_handed_over_as_it_is(vendor, clock, carry):
    vendor.plays("/rows", [], then=fails(503))
    with pytest.raises((requests.HTTPError, httpx.HTTPStatusError), match="503"):
        carry(access_to(vendor, clock, patience=Patience(attempts=3)))
    assert vendor.count("/rows") == 3


@carriers
@pytest.mark.parametrize("status", [400, 401, 404, 501])
def test_what_no_patience_mends_is_asked_once(vendor, clock, carry, status):
    vendor.plays("/rows", [], then=fails(status))
    with pytest.raises((requests.HTTPError, httpx.HTTPStatusError)):
        carry(access_to(vendor, clock))
    assert vendor.count("/rows") == 1


def test_what_writes_is_sent_once(vendor, clock):
    vendor.plays("/rows", [resets], then=fails(503, Retry_After="1"))
    with access_to(vendor, clock).session("it") as session:
        with pytest.raises(requests.ConnectionError):
            session.post("https://api.example.org/rows")
        assert session.post("https://api.example.org/rows").status_code == 503
    assert vendor.count("/rows") == 2


def test_a_redirected_request_is_patient_and_counted_at_each_place(vendor, clock):
    vendor.plays("/old", [], then=says({}, 302, headers={"Location": f"{vendor.url}/rows"}))
    vendor.plays("/rows", [fails(500)], then=says(OK))
    budget = Allowance(5)
    with access_to(vendor, clock, budget=budget).session("it") as session:
        assert session.get("https://api.example.org/old").json() == OK
    assert (vendor.count("/old"), vendor.count("/rows"), budget.room) == (1, 2, 2)


@carriers
def test_every_request_is_paid_for_and_a_short_window_is_waited_for(vendor, clock, carry):
    vendor.plays("/rows", [fails(500)], then=says(OK))
    full = Refusal(30, 60, resets_at=NOON + timedelta(seconds=20))
    budget = Allowance(2, full, full)
    assert carry(access_to(vendor, clock, budget=budget, draw=lambda: 0.0)) == OK
    assert (budget.room, clock.slept) == (0, [20.0, 0.0])
    with pytest.raises(SourceUnavailableError):
        carry(access_to(vendor, clock, budget=budget))
    assert vendor.count() == 2


@carriers
@pytest.mark.parametrize(
    ("refusal", "limit"),
    [
        (Refusal(25, 86400, NOON + timedelta(seconds=10)), "25 requests in a day"),
        (Refusal(200, 3600, NOON + timedelta(minutes=30)), "200 requests in an hour"),
        (Refusal(450, 900, NOON + timedelta(minutes=14)), "450 requests in 15 minutes"),
    ],
)
def test_a_long_window_is_not_waited_for(vendor, clock, carry, refusal, limit):
    with pytest.raises(BudgetExhaustedError, match=limit) as told:
        carry(access_to(vendor, clock, budget=Allowance(0, refusal)))
    message = str(told.value)
    assert message.startswith("it: ")
    assert f"{refusal.resets_at:%Y-%m-%d %H:%M:%S} UTC" in message
    assert "raise the limit" in message
    assert told.value.retry_at == refusal.resets_at
    assert (vendor.count(), clock.slept) == (0, [])


def test_a_budget_whose_clock_runs_behind_ends_our_patience(vendor, clock):
    stuck = Refusal(30, 60, resets_at=NOON - timedelta(days=1))
    with pytest.raises(BudgetExhaustedError):
        by_requests(access_to(vendor, clock, budget=Allowance(0, stuck), patience=Patience(total_s=1.0)))
    assert 0.9 <= sum(clock.slept) <= 1.0 + 1e-6


def test_httpx_goes_by_the_proxy_that_the_environment_names(vendor, clock, monkeypatch):
    vendor.plays("http://api.invalid/rows", [resets], then=says(OK))
    monkeypatch.setenv("HTTP_PROXY", vendor.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert by_httpx(access_to(vendor, clock, base_url="http://api.invalid")) == OK
    vendor.plays("/rows", [], then=says(OK))
    assert by_httpx(access_to(vendor, clock)) == OK
    assert [path for _, path in vendor.asked] == ["http://api.invalid/rows"] * 2 + ["/rows"]


def test_an_error_of_ours_is_found_inside_a_clients_error():
    ours = TryLaterError("it: later", NOON)
    theirs = RuntimeError("connection error")
    theirs.__cause__ = ours
    assert own_error(theirs) is ours
    assert own_error(ValueError("theirs")) is None


# -- the sources on their bad days -----------------------------------------------------------------------------------

WINDOW = (datetime(2022, 12, 26, tzinfo=UTC), datetime(2022, 12, 28, tzinfo=UTC))
NAMES = {"AAPL": "Apple Inc."}
ARTICLES = [
    {
        "title": f"Apple opens shop {n}",
        "url": f"https://example.org/{n}",
        "publishedAt": f"2022-12-27T1{n}:00:00Z",
        "description": "",
    }
    for n in range(5)
]
POSTS = [
    {
        "kind": "t3",
        "data": {
            "id": f"a{n}", "name": f"t3_a{n}", "title": f"$AAPL to the moon {n}", "selftext": "", "author": "someone",
            "edited": False, "created_utc": 1672135200.0 + n, "permalink": f"/r/stocks/{n}",
        },
    }
    for n in range(5)
]  # fmt: skip
TOKEN = {"access_token": "t", "token_type": "bearer", "expires_in": 3600, "scope": "*"}
DAYS = [1671719400, 1671805800, 1672151400, 1672237800]  # 2022-12-22, -23, -27 and -28, 14:30 UTC


def articles(records: list[dict[str, str]]) -> dict[str, object]:
    return {"status": "ok", "totalResults": len(records), "articles": records}


def listing(records: list[dict[str, object]]) -> dict[str, object]:
    return {"kind": "Listing", "data": {"after": None, "before": None, "children": records}}


def chart(days: list[int]) -> dict[str, object]:
    prices = [130.0 + day % 7 for day in days]
    meta = {
        "currency": "USD", "symbol": "AAPL", "exchangeName": "NMS", "instrumentType": "EQUITY",
        "firstTradeDate": 345479400, "exchangeTimezoneName": "America/New_York", "validRanges": ["1d"],
    }  # fmt: skip
    quote = dict.fromkeys(("open", "high", "low", "close"), prices) | {"volume": [day % 1000 for day in days]}
    return {"chart": {"error": None, "result": [{"meta": meta, "timestamp": days, "indicators": {"quote": [quote]}}]}}


def newsapi(access: Access) -> list[dict[str, object]]:
    return NewsApiNews("key", access).fetch(NAMES, *WINDOW).items.sort("item_id").to_dicts()


def reddit(access: Access) -> list[dict[str, object]]:
    source = RedditPosts("id", "secret", "test: octopus", ["stocks"], access)
    return source.fetch(NAMES, *WINDOW).items.sort("item_id").to_dicts()


@pytest.fixture
def yahoo(yfinance_cache) -> Callable[[Access], list[dict[str, object]]]:
    def fetch(access: Access) -> list[dict[str, object]]:
        source = YahooMarketData(access, cache_dir=yfinance_cache)
        found = whole(source.fetch(["AAPL"], datetime(2022, 12, 20).date(), datetime(2022, 12, 30).date(), Sessions()))  # noqa: DTZ001
        assert found.rejects == []
        return found.bars.sort("session").to_dicts()

    return fetch


@dataclass
class Desk:
    """One source, the route that its data come from, and the calm and the shuffled answer.

    Attributes:
        rounds: how often its client begins anew: yfinance meets a refusal once with a fresh cookie.
    """

    fetch: Callable[[Access], list[dict[str, object]]]
    route: str
    calm: object
    shuffled: object
    rounds: int = 1


@pytest.fixture(params=["newsapi", "reddit", "yahoo"])
def desk(request, vendor, yahoo) -> Desk:
    vendor.plays("/api/v1/access_token", [], then=says(TOKEN))
    vendor.plays("getcrumb", [], then=says(b"crumb", kind="text/plain"))
    desks = {
        "newsapi": Desk(newsapi, "/v2/everything", articles(ARTICLES), articles(shuffled(ARTICLES))),
        "reddit": Desk(reddit, "/r/stocks/search", listing(POSTS), listing(shuffled(POSTS))),
        "yahoo": Desk(yahoo, "/v8/finance/chart", chart(DAYS), chart(shuffled(DAYS)), rounds=2),
    }
    return desks[request.param]


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_source_brings_on_a_bad_day_what_it_brings_on_a_good_one(vendor, clock, desk):
    vendor.plays(desk.route, [], then=says(desk.calm))
    calm = desk.fetch(access_to(vendor, clock))
    assert len(calm) >= 4
    assert clock.slept == []
    before = vendor.count(desk.route)
    bad = [fails(429, Retry_After="3"), resets, truncated(desk.calm)]
    vendor.plays(desk.route, bad, then=says(desk.calm))
    assert desk.fetch(access_to(vendor, clock)) == calm
    assert vendor.count(desk.route) == before + 4
    assert len(clock.slept) == 3
    assert clock.slept[0] == 3.0
    vendor.plays(desk.route, [slow(desk.calm, 1.5), fails(503)], then=says(desk.calm))
    assert desk.fetch(access_to(vendor, clock, timeout_s=0.5)) == calm


def test_records_sent_twice_and_in_another_order_change_nothing(vendor, clock, desk):
    vendor.plays(desk.route, [], then=says(desk.calm))
    calm = desk.fetch(access_to(vendor, clock))
    vendor.plays(desk.route, [], then=says(desk.shuffled))
    assert desk.fetch(access_to(vendor, clock)) == calm


@pytest.mark.parametrize(
    "act",
    [html(), says(b""), html(503), fails(429), resets],
    ids=["page", "empty body", "page with 503", "429", "reset"],
)
def test_a_source_that_stays_away_is_one_clear_error_after_so_many_requests(vendor, clock, desk, act):
    vendor.plays(desk.route, [], then=act)
    with pytest.raises(SourceUnavailableError) as told:
        desk.fetch(access_to(vendor, clock, patience=Patience(attempts=3)))
    assert "\n" not in str(told.value)
    assert vendor.count(desk.route) <= 3 * desk.rounds


def test_a_source_says_when_to_come_again(vendor, clock, desk, request):
    vendor.plays(desk.route, [], then=fails(429, Retry_After="86400"))
    with pytest.raises(TryLaterError, match=r"^(newsapi|reddit|yahoo): .*after 2025-03-04 12:00:00 UTC"):
        desk.fetch(access_to(vendor, clock))
    assert vendor.count(desk.route) == 1


def test_a_source_whose_budget_is_spent_asks_nothing(vendor, clock, desk):
    spent = Allowance(0, Refusal(100, 86400, NOON + timedelta(hours=3)))
    with pytest.raises(BudgetExhaustedError, match=r"^(newsapi|reddit|yahoo): our budget of 100 requests in a day"):
        desk.fetch(access_to(vendor, clock, budget=spent))
    assert vendor.asked == []


# -- budgets in the warehouse ----------------------------------------------------------------------------------------


def budget(url: str, at: datetime = NOON, **limits: object) -> SourceBudget:
    return SourceBudget(url, "it", SourceLimits(**limits), now=lambda: at)  # type: ignore[arg-type]


def used(url: str) -> dict[int, int]:
    with connect(url) as connection:
        return dict(connection.execute("select window_s, used from ops.source_budgets where source = 'it'").fetchall())


SPENDER = """
import sys
from datetime import datetime
from resources.warehouse.budgets import SourceBudget, SourceLimits

url, at, tries = sys.argv[1], datetime.fromisoformat(sys.argv[2]), int(sys.argv[3])
budget = SourceBudget(url, "it", SourceLimits(per_minute=60, per_day=50), now=lambda: at)
print("ready", flush=True)
sys.stdin.readline()
print(sum(budget.spend() is None for _ in range(tries)), flush=True)
"""


def spenders(url: str, tries: int, count: int = 2) -> list[int]:
    """How many requests each of ``count`` processes got out of the budget, all spending at once."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, url, NOON.isoformat(), str(tries)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [int(process.communicate(timeout=60)[0]) for process in running]


def test_two_processes_never_overspend_together_and_a_restart_gives_nothing_back(database_url):
    got = spenders(database_url, tries=40)
    assert sum(got) == 50
    assert used(database_url) == {60: 50, 86400: 50}, "a request that the day refuses is not counted for the minute"
    assert spenders(database_url, tries=3, count=1) == [0]
    refusal = budget(database_url, NOON + timedelta(hours=11), per_minute=60, per_day=50).spend()
    assert refusal == Refusal(50, 86400, resets_at=NOON + timedelta(hours=12))
    assert budget(database_url, NOON + timedelta(hours=12), per_minute=60, per_day=50).spend() is None
    assert used(database_url) == {60: 1, 86400: 1}


def test_each_window_has_its_own_count_and_the_longest_full_one_is_told(database_url):
    limits = {"per_minute": 2, "per_day": 3, "windows": {3600: 3}}
    assert [budget(database_url, **limits).spend() for _ in range(2)] == [None, None]
    assert budget(database_url, **limits).spend() == Refusal(2, 60, NOON + timedelta(minutes=1))
    later = NOON + timedelta(minutes=1)
    assert budget(database_url, later, **limits).spend() is None
    assert budget(database_url, later, **limits).spend() == Refusal(3, 86400, NOON + timedelta(hours=12))
    assert used(database_url) == {60: 1, 3600: 3, 86400: 3}


def test_a_clock_that_runs_behind_gives_no_second_window(database_url):
    limits = {"per_minute": 2}
    assert budget(database_url, NOON, **limits).spend() is None
    assert budget(database_url, NOON - timedelta(seconds=1), **limits).spend() is None
    assert budget(database_url, NOON + timedelta(seconds=59), **limits).spend() is not None
    assert budget(database_url, NOON - timedelta(seconds=1), **limits).spend() is not None
    assert budget(database_url, NOON + timedelta(seconds=60), **limits).spend() is None


def test_a_larger_plan_counts_from_what_was_spent(database_url):
    assert [budget(database_url, per_day=2).spend() is None for _ in range(3)] == [True, True, False]
    assert [budget(database_url, per_day=4).spend() is None for _ in range(3)] == [True, True, False]
    assert budget(database_url, per_day=3).spend() is not None


def test_sources_do_not_share_and_no_limit_is_no_row(database_url):
    assert budget(database_url, per_day=1).spend() is None
    assert SourceBudget(database_url, "other", SourceLimits(per_day=1), now=lambda: NOON).spend() is None
    assert SourceBudget(database_url, "free", SourceLimits()).spend() is None
    trader = SourceBudget(database_url, "other", SourceLimits(per_day=1), role=Role.TRADER, now=lambda: NOON)
    assert trader.spend() is not None
    with connect(database_url) as connection:
        rows = connection.execute("select source from ops.source_budgets order by 1").fetchall()
    assert rows == [("it",), ("other",)]


def test_a_source_stops_at_the_budget_that_the_warehouse_keeps(vendor, clock, database_url):
    vendor.plays("/v2/everything", [fails(500)], then=says(articles(ARTICLES)))
    kept = SourceBudget(database_url, "newsapi", SourceLimits(per_day=3), now=clock.now)
    assert len(newsapi(access_to(vendor, clock, budget=kept))) == 5
    assert len(newsapi(access_to(vendor, clock, budget=kept))) == 5
    with pytest.raises(
        BudgetExhaustedError, match="newsapi: our budget of 3 requests in a day is spent until 2025-03-04"
    ):
        newsapi(access_to(vendor, clock, budget=kept))
    assert vendor.count() == 3


def test_the_configured_sources_stop_at_their_vendors_limits(vendor, clock, database_url, monkeypatch, tmp_path):
    """As the pipeline makes them: NewsAPI's free plan gives 50 requests in twelve hours."""
    vendor.plays("/v2/everything", [], then=says(articles([])))
    monkeypatch.setenv("NEWSAPI_API_KEY", "key")
    monkeypatch.setenv("OCTOPUS_NEWSAPI_URL", vendor.url)
    ships = load_settings({"OCTOPUS_HOME": str(tmp_path)})
    settings = replace(ships, database_url=database_url)
    with connect(database_url) as connection:
        begins, _ = window(datetime.now(UTC), 43_200)
        connection.execute("insert into ops.source_budgets values ('newsapi', 43200, %s, 49, 50)", [begins])
    source = research_factories.TextCatalogue(settings).source("news", "newsapi")
    # Days that the free plan serves: no other is asked for.
    days = datetime.now(UTC) - timedelta(days=5), datetime.now(UTC)
    source.fetch(NAMES, *days)
    with pytest.raises(BudgetExhaustedError, match="newsapi: our budget of 50 requests in 12 hours"):
        source.fetch(NAMES, *days)
    assert vendor.count() == 1


@pytest.mark.parametrize(
    ("at", "zone", "begins", "ends"),
    [
        ("2025-03-03T12:00:00", "UTC", "2025-03-03T00:00:00", "2025-03-04T00:00:00"),
        ("2025-03-03T03:00:00", "America/New_York", "2025-03-02T05:00:00", "2025-03-03T05:00:00"),
        ("2025-03-09T12:00:00", "America/New_York", "2025-03-09T05:00:00", "2025-03-10T04:00:00"),
        ("2025-11-02T12:00:00", "America/New_York", "2025-11-02T04:00:00", "2025-11-03T05:00:00"),
    ],
)
def test_a_day_is_the_vendors(at, zone, begins, ends):
    day = window(datetime.fromisoformat(at).replace(tzinfo=UTC), 86400, zone)
    assert [instant.replace(tzinfo=None).isoformat() for instant in day] == [begins, ends]


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)), st.integers(1, 86400))  # noqa: DTZ001
def test_an_instant_is_in_its_window(now, seconds):
    begin, end = window(now, seconds)
    assert begin <= now < end
    assert window(end, seconds)[0] == end


def test_limits_are_configured_known_or_none():
    assert limits_of("newsapi").requests_by_window == {43200: 50, 86400: 100}
    assert limits_of("newsapi", {"newsapi": SourceLimits(per_day=250_000)}).requests_by_window == {86400: 250_000}
    assert limits_of("newsapi", {"newsapi": SourceLimits()}).requests_by_window == {}
    assert limits_of("yahoo").requests_by_window == {}
    for wrong in ({"per_day": 0}, {"windows": {60: 5}}, {"windows": {86400: 5}}, {"reset_timezone": "Mars"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SourceLimits(**wrong)
