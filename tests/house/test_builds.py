"""Data tests of a day read what the day changed, and what failed before; everything with a month's first session."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from octopus.core.sessions import Sessions
from resources.warehouse.builds import next_checks, passed
from resources.warehouse.store import Warehouse

XNYS = Sessions()


def bar(store: Warehouse, session: date) -> None:
    closed = XNYS.close_utc(session)
    row = {
        "source": "s", "instrument": "A", "ts": closed, "session": session, "open": 1.0, "high": 1.0, "low": 1.0,
        "close": 1.0, "volume": 1.0, "known_at": closed + timedelta(minutes=15), "known_at_imputed": True,
    }  # fmt: skip
    store.append("bars", pl.DataFrame([row]), source="s")


def test_a_day_tests_its_sessions_and_a_month_begins_with_all(database_url: str) -> None:
    store = Warehouse(database_url)
    nothing = next_checks(store, "p", "all")
    assert (nothing.since, nothing.whole_on, nothing.variable) == (None, None, "")
    passed(store, nothing)
    bar(store, date(2024, 1, 8))
    first = next_checks(store, "p", "all")
    assert (first.since, first.whole_on) == (None, date(2024, 1, 8)), "the first time everything is tested"
    passed(store, first)
    assert next_checks(store, "p", "all").since == date.max, "nothing is new"
    bar(store, date(2024, 1, 9))
    failed = next_checks(store, "p", "all")
    assert failed.since == date(2024, 1, 9)
    bar(store, date(2024, 1, 10))
    again = next_checks(store, "p", "all")
    assert (again.since, again.variable) == (date(2024, 1, 9), "2024-01-09"), "what has not passed is tested again"
    passed(store, again)
    assert next_checks(store, "p", "a part").since is None, "another selection has not been tested at all"
    assert next_checks(store, "other", "all").since is None, "nor has another state of the project"
    bar(store, date(2024, 2, 1))
    month = next_checks(store, "p", "all")
    assert (month.since, month.whole_on) == (None, date(2024, 2, 1))


def test_another_state_of_the_project_forgets_the_one_before(database_url: str) -> None:
    store = Warehouse(database_url)
    bar(store, date(2024, 1, 8))
    for project, selection in (("p", "all"), ("p", "part"), ("q", "all")):
        passed(store, next_checks(store, project, selection))
    rows = store.rows("select project, selection from ops.checked_builds")
    assert [tuple(row.values()) for row in rows] == [("q", "all")]
