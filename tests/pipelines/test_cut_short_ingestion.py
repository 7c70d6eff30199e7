"""An ingestion that a spent budget, a vendor's wait, an outage or a kill cut short is gone on with, once, in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import psycopg
import pytest
import yaml
from dagster import AssetKey
from dagster._core.definitions.run_request import InstigatorType

from octopus.core.sessions import Sessions
from octopus_pipelines.launch import RUN_KEY_TAG, execute
from octopus_pipelines.sensors.ingestion import FIRST_WAIT, LONGEST_WAIT, Cut, due_again, next_ingestions
from resources.collection import Stop
from resources.factories import current_settings
from resources.runtime import dagster_home
from resources.settings import Settings
from tests.pipelines.conftest import House, make_house

SENSOR = "cut_short_ingestion"
NAMES = ("AAPL", "IBM", "KO", "XOM")
MARKET_DATA = ["instruments", "bars", "corporate_actions", "adjusted_closes"]
TEXTS = [["news", "sample"], ["posts", "sample"], ["raw", "news"], ["raw", "social_posts"],
         ["raw", "sentiment_scores"], ["raw", "text_marks"]]  # fmt: skip

Act = Callable[[BaseHTTPRequestHandler], bool]
"""What the vendor does with a request; True: and then it answers as ever."""


@dataclass
class AlphaVantage:
    """The recorded answer of the real service, for whichever symbol; ``acts`` are played first, one for a request."""

    body: bytes
    url: str = ""
    acts: list[Act] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def vendor(test_data: Path) -> Iterator[AlphaVantage]:
    path = test_data / "wire" / "alphavantage" / "pricehist" / "ibm-partial-adj.json"
    told = AlphaVantage(path.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if query["function"] == ["SYMBOL_SEARCH"]:
                send(self, 200, b'{"bestMatches": []}')
                return
            told.asked += query["symbol"]
            if not told.acts or told.acts.pop(0)(self):
                send(self, 200, told.body)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    yield told
    server.shutdown()
    server.server_close()


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def fails(status: int, **headers: str) -> Act:
    def act(request: BaseHTTPRequestHandler) -> bool:
        send(request, status, b"{}", **headers)
        return False

    return act


def answers(_request: BaseHTTPRequestHandler) -> bool:
    return True


@dataclass
class Desk:
    """A house that lives on Alpha Vantage, Dagster's storage in a database, and the time that the sensor is told."""

    house: House
    vendor: AlphaVantage
    instance: dg.DagsterInstance
    defs: dg.Definitions
    now: datetime

    @property
    def settings(self) -> Settings:
        return self.house.settings

    @property
    def session(self) -> str:
        return self.settings.sessions.last_decided(self.now).isoformat()

    def look(self, after: timedelta = timedelta(), *, in_session: bool = True) -> list[dg.RunRequest] | str:
        """What the sensor asks for after a while, or why it asks for nothing.

        Args:
            in_session: no decision falls into the while, whatever time of the day it is now.
        """
        repository, decided = self.defs.get_repository_def(), Sessions.last_decided
        with pytest.MonkeyPatch.context() as clock:
            if in_session:
                clock.setattr(Sessions, "last_decided", lambda sessions, at: decided(sessions, min(at, self.now)))
            answer = next_ingestions(self.settings, self.instance, repository, self.now + after)
        return answer if isinstance(answer, list) else str(answer.skip_message)

    def run(self, request: dg.RunRequest | None = None, job: str = "ingest") -> bool:
        """Run what the sensor asked for, as the daemon does; or, without it, all of a job."""
        whole = self.defs.resolve_job_def(job if request is None else str(request.job_name))
        chosen = None if request is None or request.asset_selection is None else list(request.asset_selection)
        return self._execute(whole, request, chosen)

    def collect(self, request: dg.RunRequest | None = None) -> bool:
        """The same without dbt's checks of the sources, which take ten seconds where rows come in."""
        whole = self.defs.resolve_job_def("ingest")
        asked = set((request.asset_selection if request else whole.asset_layer.executable_asset_keys) or ())
        assets = self.defs.get_repository_def().asset_graph.assets_defs
        own = {check for one in assets if one.is_executable and one.node_def.name != "dbt_models"
               for check in one.check_keys if check.asset_key in asked}  # fmt: skip
        return self._execute(whole.get_subset(asset_selection=asked, asset_check_selection=own), request, None)

    def _execute(self, job: dg.JobDefinition, request: dg.RunRequest | None, selection: list[AssetKey] | None) -> bool:
        tags = {} if request is None else {**request.tags, RUN_KEY_TAG: str(request.run_key)}
        report = execute(job, self.instance, partition_key=self.session, tags=tags, selection=selection)
        return report.success

    def asked(self) -> list[str]:
        """The symbols that the vendor was asked for since the last look."""
        found, self.vendor.asked[:] = list(self.vendor.asked), []
        return found

    def stored(self) -> dict[str, int]:
        rows = self.house.warehouse.rows("select instrument, count(*)::int as n from raw.bars group by 1 order by 1")
        return {row["instrument"]: row["n"] for row in rows}

    def a_day_passes(self) -> None:
        """For the budgets, which go by the wall clock."""
        with self.house.warehouse.connect() as connection:
            connection.execute("update ops.source_budgets set window_start = window_start - interval '1 day'")

    def allow(self, per_day: int) -> None:
        self.edit({"request_limits": {"alphavantage": {"per_day": per_day, "reset_timezone": "America/New_York"}}})

    def edit(self, sections: dict[str, dict[str, Any]]) -> None:
        """Change fields of sections of config/universe.yaml, as a person does."""
        path = Path(self.house.environment["OCTOPUS_CONFIG"]) / "universe.yaml"
        held = yaml.safe_load(path.read_text())
        changed = {name: {**held[name], **fields} for name, fields in sections.items()}
        path.write_text(yaml.safe_dump(held | changed, sort_keys=False))
        self.house = replace(self.house, settings=current_settings())


@pytest.fixture
def desk(
    server_url: str, tmp_path: Path, manifest: None, vendor: AlphaVantage, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    changes = {
        "universe.universe.market_data": "alphavantage", "universe.universe.history_start": "2021-01-04",
        "universe.universe.symbols": {name: name for name in NAMES},
        "universe.request_limits": {"alphavantage": {"per_day": 100, "reset_timezone": "America/New_York"}},
    }  # fmt: skip
    monkeypatch.setenv("OCTOPUS_ALPHAVANTAGE_URL", vendor.url)
    monkeypatch.setenv("ALPHAVANTAGE_API_KEY", "KEY0123456789")
    for house in make_house(server_url, tmp_path / "house", **changes):
        for name, value in (house.environment | dagster_home.environment(house.settings)).items():
            monkeypatch.setenv(name, value)
        dagster_home.prepare(house.settings)
        from octopus_pipelines.research import build_defs

        with dagster_home.opened() as instance:
            yield Desk(house, vendor, instance, build_defs(), datetime.now(UTC))


def only(answer: list[dg.RunRequest] | str) -> dg.RunRequest:
    assert isinstance(answer, list), answer
    (request,) = answer
    return request


def test_a_spent_budget_is_gone_on_with_the_next_day_and_asks_for_the_rest_alone(desk: Desk) -> None:
    assert f"alphavantage {desk.session} (daily): no run was begun" in str(desk.look())
    desk.allow(5)  # a symbol is asked for and described with two requests
    assert not desk.run()
    assert list(desk.stored()) == ["AAPL", "IBM", "KO"], "of KO without its description"
    assert desk.asked() == ["AAPL", "IBM", "KO"]
    waits = str(desk.look(FIRST_WAIT + timedelta(minutes=1)))
    assert "3 of 4 instruments were asked for up to it" in waits
    assert "its budget of 5 requests is spent until" in waits
    desk.a_day_passes()
    assert "goes on after" in str(desk.look()), "not at once: a run that fails in no time would be followed by the next"
    desk.asked()
    request = only(desk.look(timedelta(hours=1)))
    assert request == only(desk.look(timedelta(hours=2))), "the same run key, however often it is seen"
    assert request.partition_key == desk.session
    assert set(request.asset_selection or ()) == {AssetKey(["raw", table]) for table in MARKET_DATA}, (
        "the texts were made by the run that was cut short: their sources are not asked for them again"
    )
    desk.allow(100)
    assert desk.run(request)
    assert desk.asked() == ["XOM", "AAPL", "IBM", "KO"], "who is missing first, then what may have been restated"
    assert sorted(desk.stored()) == sorted(NAMES)
    assert "complete" in str(desk.look(timedelta(hours=2)))


def test_a_larger_plan_does_not_wait_for_the_day_to_end(desk: Desk) -> None:
    desk.allow(2)
    assert not desk.run()
    assert "is spent until" in str(desk.look(timedelta(minutes=6)))
    desk.allow(50)
    assert desk.collect(only(desk.look(timedelta(minutes=6))))


def test_a_daily_run_goes_on_to_its_decision(desk: Desk) -> None:
    desk.allow(2)
    assert not desk.run(job="daily")
    desk.a_day_passes()
    request = only(desk.look(timedelta(hours=1)))
    assert request.job_name == "daily"
    asked = {tuple(key.path) for key in request.asset_selection or ()}
    path = {("raw", "bars"), ("marts", "prices"), ("portfolio", "target_weights"), ("compliance", "pretrade_report")}
    assert path <= asked
    assert not asked & {("news", "sample"), ("raw", "news"), ("raw", "text_marks")}, "what was made is not made again"


def test_a_source_that_is_only_compared_and_bars_within_the_day_are_gone_on_with_by_themselves(desk: Desk) -> None:
    desk.edit({"universe": {"market_data": "yahoo", "compare_with": ["alphavantage"]}, "intraday": {
        "source": "alphavantage", "interval": 60, "history_sessions": 1}})  # fmt: skip
    desk.vendor.acts = [answers, fails(429, Retry_After="7200")]
    assert not desk.run(job="compare")
    waits = str(desk.look(timedelta(hours=1)))
    assert f"yahoo {desk.session} (daily): no run was begun; alphavantage {desk.session} (compare): 1 of 4" in waits
    assert f"alphavantage {desk.session} (intraday): no run was begun" in waits
    request = only(desk.look(timedelta(hours=3)))
    assert (request.job_name, request.asset_selection) == ("compare", [AssetKey(["compared", "alphavantage"])])
    assert desk.run(request)
    assert "(compare): complete" in str(desk.look(timedelta(hours=3)))

    desk.vendor.acts = [fails(429, Retry_After="7200")]
    assert not desk.run(job="intraday")
    within = only(desk.look(timedelta(hours=3)))
    assert within.job_name == "intraday"
    assert AssetKey(["raw", "intraday_bars"]) in set(within.asset_selection or ())
    assert AssetKey(["marts", "session_bars"]) in set(within.asset_selection or ())


def test_a_wait_that_the_vendor_asks_for_is_kept(desk: Desk) -> None:
    desk.vendor.acts = [answers, fails(429, Retry_After="7200")]
    assert not desk.run()
    assert desk.asked() == ["AAPL", "IBM"]
    waits = str(desk.look(timedelta(hours=1, minutes=50)))
    assert "1 of 4 instruments" in waits
    assert "it asks for a wait of 7200 s" in waits
    assert desk.collect(only(desk.look(timedelta(hours=2, minutes=1))))
    assert desk.asked() == ["IBM", "KO", "XOM", "AAPL"]


def test_an_outage_is_tried_again_after_longer_and_longer_and_each_run_has_one_successor(desk: Desk) -> None:
    keys = []
    for wait in (5, 10, 20):
        desk.vendor.acts = [fails(503)] * 4 * 4
        assert not (desk.run(only(desk.look(timedelta(hours=4)))) if keys else desk.run())
        assert "goes on after" in str(desk.look(timedelta(minutes=wait, seconds=-30)))
        request = only(desk.look(timedelta(minutes=wait + 1)))
        keys.append(request.run_key)
    assert len(set(keys)) == 3
    desk.vendor.acts = []
    assert desk.collect(only(desk.look(timedelta(hours=4))))
    assert "complete" in str(desk.look(timedelta(hours=5)))
    assert set(desk.stored()) == set(NAMES)


def test_what_a_person_has_to_mend_is_not_run_again_by_itself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.vendor.body = b'{"Information": "the parameter apikey is invalid or missing"}'
    assert not desk.run()
    told = str(desk.look(timedelta(hours=8)))
    assert "a person has to mend" in told
    assert "set a valid key" in told
    monkeypatch.delenv("ALPHAVANTAGE_API_KEY")
    assert not desk.run()
    assert "ALPHAVANTAGE_API_KEY" in str(desk.look(timedelta(hours=8)))


def test_what_fails_after_the_ingestion_is_another_matter(desk: Desk) -> None:
    from octopus_pipelines.research import build_defs

    assert not replace(desk, defs=build_defs({"sentiment_model": object()})).run()
    assert sorted(desk.stored()) == sorted(NAMES)
    assert "came later" in str(desk.look(timedelta(hours=8)))


def test_a_session_that_is_run_again_and_cut_short_is_collected_again(desk: Desk) -> None:
    assert desk.collect()
    desk.vendor.acts = [fails(429, Retry_After="7200")]
    assert not desk.run()
    request = only(desk.look(timedelta(hours=3)))
    assert {AssetKey(["raw", table]) for table in MARKET_DATA} <= set(request.asset_selection or ())
    assert desk.collect(request)


def test_what_a_person_ended_is_left_alone(desk: Desk) -> None:
    desk.vendor.acts = [answers, fails(429, Retry_After="7200")]
    assert not desk.run()
    (record,) = desk.instance.get_run_records(dg.RunsFilter(job_name="ingest"))
    assert only(desk.look(timedelta(hours=3)))
    with psycopg.connect(desk.settings.dagster_url, autocommit=True) as connection:
        connection.execute("update runs set status = 'CANCELED' where run_id = %s", [record.dagster_run.run_id])
    assert "was ended by a person" in str(desk.look(timedelta(hours=3)))


def test_the_next_session_takes_over_what_the_one_before_left(desk: Desk) -> None:
    desk.allow(2)
    assert not desk.run()
    later = desk.settings.sessions.decision_utc(desk.settings.sessions.next(date.fromisoformat(desk.session)))
    assert "no run was begun" in str(desk.look(later - desk.now + timedelta(hours=1), in_session=False))


def test_on_a_recording_nothing_is_gone_on_with(desk: Desk) -> None:
    recorded = desk.settings.universe.model_copy(update={"market_data": "sample"})
    settings = replace(desk.settings, universe=recorded)
    answer = next_ingestions(settings, desk.instance, desk.defs.get_repository_def(), desk.now)
    assert isinstance(answer, dg.SkipReason)
    assert "recording" in str(answer.skip_message)


@pytest.mark.parametrize(
    ("cut", "fruitless", "minutes"),
    [
        (Cut(Stop.OUTAGE, None, ""), 1, 5), (Cut(Stop.OUTAGE, None, ""), 3, 20), (Cut(None, None, ""), 2, 10),
        (Cut(Stop.OUTAGE, None, ""), 500, 240), (Cut(Stop.BUDGET, None, ""), 9, 5), (Cut(Stop.WAIT, None, ""), 2, 10),
    ],
)  # fmt: skip
def test_how_long_it_waits(cut: Cut, fruitless: int, minutes: int) -> None:
    ended = datetime(2026, 3, 6, 23, tzinfo=UTC)
    assert due_again(cut, ended, fruitless) == ended + timedelta(minutes=minutes)
    told = replace(cut, stop=Stop.WAIT, told_at=ended + timedelta(days=1))
    assert due_again(told, ended, fruitless) == ended + timedelta(days=1)
    assert due_again(replace(told, told_at=ended), ended, fruitless) == ended + FIRST_WAIT, "never at once"
    assert timedelta(minutes=minutes) <= LONGEST_WAIT


# -- the process dies -----------------------------------------------------------------------------------------------

CHILD = """
from octopus_pipelines.launch import execute
from octopus_pipelines.research import defs
from resources.runtime import dagster_home
with dagster_home.opened() as instance:
    job = defs.resolve_job_def("ingest")
    {how}
"""
BY_COMMAND = "execute(job, instance, partition_key={session!r})"
BY_DAEMON = "job.execute_in_process(instance=instance, partition_key={session!r})"
"""As a worker of Dagster's does it, with nothing of ours around."""


@contextmanager
def killed_half_way(desk: Desk, how: str = BY_COMMAND) -> Iterator[None]:
    """A process of its own collects two symbols, and dies as it asks for the third."""
    child: list[subprocess.Popen[bytes]] = []

    def kills(_request: BaseHTTPRequestHandler) -> bool:
        os.kill(child[0].pid, signal.SIGKILL)
        return False

    desk.vendor.acts = [answers, answers, kills]
    code = CHILD.format(how=how.format(session=desk.session))
    child.append(subprocess.Popen([sys.executable, "-W", "ignore", "-c", code]))
    assert child[0].wait(120) == -signal.SIGKILL
    yield
    assert sorted(desk.stored()) == sorted(NAMES)
    assert len(set(desk.stored().values())) == 1


@pytest.mark.parametrize("how", [BY_COMMAND, BY_DAEMON], ids=["octopus run", "daemon"])
def test_a_run_whose_process_was_killed_is_gone_on_with(desk: Desk, how: str) -> None:
    with killed_half_way(desk, how):
        assert list(desk.stored()) == ["AAPL", "IBM"]
        assert desk.asked() == ["AAPL", "IBM", "KO"]
        waits = str(desk.look())
        assert "2 of 4 instruments" in waits
        assert "its process was killed" in waits
        request = only(desk.look(FIRST_WAIT + timedelta(minutes=1)))
        assert {AssetKey(name) for name in TEXTS} <= set(request.asset_selection or ()), "nobody made them"
        assert desk.collect(request)
        assert desk.asked() == ["KO", "XOM", "AAPL", "IBM"]
        assert "complete" in str(desk.look(timedelta(hours=1)))


@pytest.mark.slow
def test_dagsters_daemon_goes_on_with_it_once(desk: Desk, tmp_path: Path) -> None:
    """The real daemon and the real code location: the run that was killed, one that goes on, and none after it."""
    with killed_half_way(desk), daemon(tmp_path / "daemon.log"):
        (first,) = await_runs(desk, [dg.DagsterRunStatus.FAILURE])
        with psycopg.connect(desk.settings.dagster_url, autocommit=True) as connection:
            connection.execute("update runs set end_time = end_time - 3600 where run_id = %s", [first.run_id])
        second, _ = await_runs(desk, [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
        assert second.tags["dagster/sensor_name"] == SENSOR
        assert second.tags["octopus/goes_on_from"] == first.run_id
        told = "complete"
        assert until(lambda: told in str(last_skip(desk))), last_skip(desk)
        assert len(desk.instance.get_runs()) == 2


def await_runs(desk: Desk, statuses: Sequence[dg.DagsterRunStatus]) -> list[dg.DagsterRun]:
    """The runs, the latest first, once they are as many as ``statuses`` and in them."""
    assert until(lambda: [run.status for run in desk.instance.get_runs()] == list(statuses)), (
        [(run.status, run.tags) for run in desk.instance.get_runs()], last_skip(desk)
    )  # fmt: skip
    return list(desk.instance.get_runs())


def last_skip(desk: Desk) -> Any:
    states = [
        state for state in desk.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        if state.instigator_name == SENSOR
    ]  # fmt: skip
    if not states:
        return None
    ticks = desk.instance.get_ticks(states[0].instigator_origin_id, states[0].selector_id, limit=1)
    return ticks[0].tick_data.skip_reason if ticks else None


def until(holds: Callable[[], bool], seconds: float = 180) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(1)
    return False


@contextmanager
def daemon(log: Path) -> Iterator[None]:
    """Dagster's daemon over the research location, as `octopus up` starts it."""
    workspace = log.with_name("workspace.yaml")
    root = Path(__file__).parents[2]
    module = {"module_name": "octopus_pipelines.research", "location_name": "research", "working_directory": str(root)}
    workspace.write_text(json.dumps({"load_from": [{"python_module": module}]}))
    program = Path(sys.executable).with_name("dagster-daemon")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), "run", "-w", str(workspace)], stdout=output, stderr=subprocess.STDOUT, cwd=root,
            env=os.environ | {dagster_home.INGESTION_SENSOR: "on"},
        )  # fmt: skip
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
