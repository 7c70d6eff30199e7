"""`octopus run` books what the broker tells of flows before research plans with the broker's account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from octopus.core.sessions import Sessions
from octopus.execution.book import Entry, EntryKind
from octopus_pipelines import launch
from octopus_pipelines.cli.house import new_console
from octopus_pipelines.cli.run import run_sessions
from octopus_pipelines.launch import JobReport, StepReport
from resources.runtime import dagster_home
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.order_store import OrderStore
from tests.pipelines.conftest import House, make_house

DECIDED = date(2022, 12, 20)
REFUSED = "the broker answered [/api/statement] 500"


@pytest.fixture
def house(server_url: str, tmp_path: Path, manifest: None) -> Iterator[House]:
    """An empty house."""
    yield from make_house(server_url, tmp_path / "house")


@pytest.fixture
def started(house: House, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that `octopus run` starts, none of which does anything; `book` fails."""
    names: list[str] = []

    def execute(job: dg.JobDefinition, _instance: Any, *, on_end: Any, **_options: Any) -> JobReport:
        names.append(job.name)
        failed = job.name == "book"
        step = StepReport(f"step_of_{job.name}", "failed" if failed else "done", 0.1, error=REFUSED if failed else None)
        on_end(step)
        return JobReport("run", not failed, 0.1, (step,))

    @contextmanager
    def opened() -> Iterator[dg.DagsterInstance]:
        yield house.instance

    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "execute", execute)
    monkeypatch.setattr(dagster_home, "opened", opened)
    return names


def test_flows_are_booked_before_a_session_is_planned_and_research_goes_on_without(
    house: House, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sessions(house.settings, [DECIDED], new_console()).failure is None
    assert started == ["daily"], "of an account of which nothing is booked nothing is asked"
    opening = Sessions().open_utc(DECIDED)
    with OrderStore.opened(house.settings.database_url) as store:
        money = Entry("d", EntryKind.DEPOSIT, None, Decimal(0), Decimal(1), opening)
        AccountBooks(store).recognise(house.settings.account, money, DECIDED, opening)
    started.clear()
    outcome = run_sessions(house.settings, [DECIDED], new_console())
    assert started == ["book", "daily"]
    assert outcome.failure is None, "what was not booked keeps no research back"
    assert REFUSED in capsys.readouterr().out
    started.clear()
    run_sessions(house.settings, [date(2022, 12, 19)], new_console())
    assert started == ["daily"], "a past session is planned with our own book of that day"
