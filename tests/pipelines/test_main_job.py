"""The main job as a user runs it: one command, a summary, a second run that changes nothing, a restatement.

One of the sources of news cannot be reached all the while: no day waits for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resources.runtime.postgres import EmbeddedPostgres
from tests.conftest import let_sync_go, put_away
from tests.pipelines.conftest import edited_config

OCTOPUS = str(Path(sys.executable).parent / "octopus")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="octopus-main-"))
    yield folder
    put_away(folder)


def config_of(home: Path) -> str:
    """The configuration as it is shipped, with a feed beside the sample's news that nobody serves."""
    if (home / "config").exists():
        return str(home / "config")
    changes = {
        "universe.alternative_data.news": ["sample", "rss"],
        "universe.alternative_data.feeds": {"dead": "http://127.0.0.1:1/feed.xml"},
    }
    return str(edited_config(home / "config", **changes))


def octopus(home: Path, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user without any other setting would."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCTOPUS_", "DAGSTER", "MLFLOW", "DBT"))}
    result = subprocess.run(
        [OCTOPUS, *arguments],
        env={**clean, "OCTOPUS_HOME": str(home), "OCTOPUS_CONFIG": config_of(home), "COLUMNS": "160", **environment},
        capture_output=True, text=True, timeout=580, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if check:
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result


def status(home: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(octopus(home, "status", "--json").stdout)
    return state


def changed_tables(summary: str) -> set[str]:
    """The tables that a summary names as changed: a line for each schema, broken where it is long."""
    found, schema = set(), ""
    for line in summary.split("Changed", 1)[1].split("\n\n")[0].splitlines()[1:]:
        begun, _, names = line.strip().partition("  ")
        schema, names = (begun, names) if names else (schema, begun)
        found |= {f"{schema}.{name.strip()}" for name in names.split(",") if name.strip()}
    return found


@pytest.fixture(scope="module")
def first_run(home: Path) -> subprocess.CompletedProcess[str]:
    """A run that is killed during ingestion, and the one after it that completes."""
    process = subprocess.Popen(
        [OCTOPUS, "run"], env={**os.environ, "OCTOPUS_HOME": str(home), "OCTOPUS_CONFIG": config_of(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not _stores_a_batch(home, process, deadline):
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    let_sync_go(EmbeddedPostgres(home))
    return octopus(home, "run")


@pytest.fixture(scope="module")
def after_first(home: Path, first_run: Any) -> dict[str, Any]:
    """What `octopus status` says right after it."""
    return status(home)


def _stores_a_batch(home: Path, process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait until ingestion has committed a batch; False at once while there is no database or no table yet."""
    with suppress(psycopg.Error), psycopg.connect(EmbeddedPostgres(home).url(), autocommit=True) as connection:
        while time.monotonic() < deadline and process.poll() is None:
            if connection.execute("select from ops.batches").fetchone() is not None:
                return True
            time.sleep(0.05)
    return False


@pytest.mark.timeout(600)
def test_a_run_after_a_killed_one_completes_and_stores_no_row_twice(home: Path, after_first: dict[str, Any]) -> None:
    assert after_first["last_run"]["status"] == "succeeded"
    assert after_first["last_run"]["as_of"] == "2022-12-27"
    assert after_first["tables"]["raw.bars"] == 8313 * 20
    assert after_first["reconciliation"] == {"session": "2022-12-28", "ok": True, "breaks": 0}
    assert after_first["audit"]["ok"]
    assert after_first["audit"]["entries"] > 0
    assert after_first["orders"].keys() == {"filled"}
    with psycopg.connect(EmbeddedPostgres(home).url()) as connection:
        twice = connection.execute(
            "select count(*) from (select from raw.bars group by source, instrument, session having count(*) > 1) t"
        ).fetchone()
        assert twice == (0,)
        equal = connection.execute(
            """
            select sum(n.closing) = sum(e.cash) + (
                select coalesce(sum(case side when 'buy' then -1 else 1 end * quantity * price - fees), 0)
                from paper.fills
            ) + (select coalesce(sum(quantity * price), 0) from execution.positions)
            from execution.nav n, (select sum(cash) as cash from paper.entries) e
            """
        ).fetchone()
        assert equal == (True,), "our NAV is not the broker's cash plus positions"


def test_a_source_of_texts_that_fails_stops_nothing(home: Path, first_run: Any, after_first: dict[str, Any]) -> None:
    with psycopg.connect(EmbeddedPostgres(home).url()) as connection:
        rows = connection.execute("select source, problem from ops.text_fetches where item_kind = 'news'").fetchall()
    asked = {row[0]: row[1] for row in rows}
    assert asked["sample"] is None
    assert "rss: feed 'dead'" in asked["rss"]
    assert "decided without rss" in first_run.stdout
    assert after_first["orders"].keys() == {"filled"}


def test_an_order_is_followed_back_to_its_model_and_raw_rows(home: Path, first_run: Any) -> None:
    order = json.loads(octopus(home, "audit", "orders", "--json").stdout)[0]
    told = octopus(home, "audit", "why", order["client_order_id"][:16])
    assert "Do the records agree?" in told.stdout
    story = json.loads(octopus(home, "audit", "why", order["client_order_id"], "--json").stdout)
    assert story["answer"] == {
        "allowed": True, "sent": True, "sound": True, "because": story["answer"]["because"],
    }  # fmt: skip
    assert [check for check in story["checks"] if not check["ok"]] == []
    assert {check["name"] for check in story["checks"]} == {
        "log", "approved", "sealed", "allowed", "fence", "replayed",
    }  # fmt: skip
    (attempt,) = story["attempts"]
    by_rule = {(verdict["gate"], verdict["rule"]): verdict for verdict in attempt["verdicts"]}
    weight = by_rule["risk", "name_weight"]
    assert 0 < weight["value"] < weight["limit"]
    assert attempt["snapshot"]["cash"] == "1000000"
    lineage = story["lineage"]
    assert lineage["decision"]["decision_id"] == story["order"]["decision_id"]
    assert lineage["target"]["weight"] > 0
    assert lineage["features"]
    model = lineage["model"]
    assert model["label"] == lineage["decision"]["model"]
    assert model["review"]["mlflow_run_id"]
    assert model["training_set"]["as_of"] == model["review"]["as_of"]
    assert lineage["raw"]["bars"]["rows"] == 8312, "all bars up to the decision and none after it"
    assert lineage["raw"]["bars"]["latest"][-1]["session"] == "2022-12-27"
    used = {bar["batch_id"] for bar in lineage["raw"]["bars"]["latest"]}
    assert used <= {batch["batch_id"] for batch in lineage["raw"]["batches"]}
    assert octopus(home, "audit", "why", "oct-", check=False).returncode == 1, "begins several orders"


def test_the_day_is_reported_and_looked_through(home: Path, first_run: Any) -> None:
    with psycopg.connect(EmbeddedPostgres(home).url()) as connection:
        stored = dict(connection.execute("select report, rows from compliance.daily_reports").fetchall())
        assert connection.execute("select count(*) from compliance.surveillance").fetchone() == (0,)
    assert stored.keys() == {"blotter", "limits", "exceptions", "best_execution", "lot_identifications"}
    assert {row["state"] for row in stored["blotter"]} == {"filled"}
    assert len(stored["best_execution"]) == len(stored["blotter"])
    assert all(abs(row["shortfall_bps"]) < 2000 for row in stored["best_execution"])
    used = {row["rule"]: row["used"] for row in stored["limits"]}
    assert 0 < used["name_weight"] <= 1


def test_the_summary_says_what_a_person_wants_to_read(first_run: subprocess.CompletedProcess[str]) -> None:
    for words in (
        "166,260 bars", "survivorship", "rounding", "Backtest", "equal weight", "Target weights", "risk:",
        "compliance:",
        "filled", "NAV", "our book and the broker's agree", "audit log", "Time", "octopus up",
    ):  # fmt: skip
        assert words in first_run.stdout, f"the summary does not say {words!r}"


@pytest.mark.timeout(600)
@pytest.mark.slow  # the next test, a run of its own, sees it of all tables but those that follow from a bar
def test_a_second_run_changes_nothing(home: Path, first_run: Any) -> None:
    before = status(home)
    again = octopus(home, "run")
    assert "Changed nothing" in again.stdout
    diaries = {"ops.runs": 0, "ops.fetches": 0, "ops.text_fetches": 0}
    assert status(home)["tables"] | diaries == before["tables"] | diaries


@pytest.mark.timeout(600)
def test_a_restated_bar_changes_only_its_descendants(home: Path, first_run: Any) -> None:
    # A value that was seen a moment ago and that the source does not send: its own is a restatement, known from now.
    with psycopg.connect(EmbeddedPostgres(home).url()) as connection:
        connection.execute(
            """
            insert into raw.bars
            select source, instrument, ts, session, open, high, low, close * 1.01, volume, now(), false,
                   ingested_at + interval '1 second', batch_id + 1000
            from raw.bars where instrument = 'KO' and session = '2022-11-01'
            """
        )
        connection.execute("update ops.batch_counter set last_batch = last_batch + 1000")
    restated = octopus(home, "run")
    changed = changed_tables(restated.stdout)
    assert "raw.bars" in changed
    assert "marts.prices" in changed
    for untouched in (
        "execution.", "paper.", "portfolio.", "strategy.", "models.", "backtest.", "raw.news", "marts.universe",
    ):  # fmt: skip
        wrong = {name for name in changed if name.startswith(untouched)}
        assert not wrong, f"{wrong} are no descendants of a bar that is known only from now on"
    with psycopg.connect(EmbeddedPostgres(home).url()) as connection:
        versions = connection.execute(
            "select count(*) from raw.bars where instrument = 'KO' and session = '2022-11-01'"
        ).fetchone()
    assert versions == (3,), "stored, planted, restated back: three rows"


@pytest.mark.timeout(300)
def test_octopus_up_serves_both_pages_and_stops_cleanly(home: Path, first_run: Any) -> None:
    import psutil

    process = subprocess.Popen(
        [OCTOPUS, "up", "--dagster-port", "3900", "--mlflow-port", "5900"],
        env={**os.environ, "OCTOPUS_HOME": str(home), "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C stops everything" in line:
            break
    assert "127.0.0.1:3900" in said, said
    assert "127.0.0.1:5900" in said, said
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert "stopped" in rest
    assert process.returncode == 0
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not EmbeddedPostgres(home).is_running()
