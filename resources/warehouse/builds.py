"""How far the data tests of dbt have gone: a day's build tests the sessions that the day has changed.

Belongs here: which sessions the next tests read, and the record of those that passed. Does not: the tests
(dbt_project/tests), running them (assets/warehouse.py).

Everything is tested the first time, when the project changes, and with the first session of each month. What a failed
test has seen stays to be tested until it passes; a test that only warns says so once, and again with the next month.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import LiteralString

import polars as pl

from octopus.core.ids import fingerprint
from resources.warehouse.store import Warehouse

ARRIVED: LiteralString = """
    with arrived as materialized (
        select session from raw.bars where batch_id > %(batch)s
        union all select session from raw.bar_verdicts where batch_id > %(batch)s
        union all select session from raw.corporate_actions where batch_id > %(batch)s
        union all select session from raw.action_verdicts where batch_id > %(batch)s
        union all select least(known_at, ts)::date from raw.sentiment_scores where batch_id > %(batch)s
    )
    select min(session) as first, max(session) as last from arrived
"""
"""A text counts from the day on that it was written, a correction included."""


@dataclass(frozen=True)
class BuildChecks:
    """What the data tests of one build read.

    Attributes:
        project: fingerprint of the project. selection: of what is built and tested; each goes its own way. batch_id: up
            to which everything is in the build.
        since: first session that the tests read; None: everything.
        whole_on: newest session when everything was, or will have been, tested.
    """

    project: str
    selection: str
    batch_id: int
    since: date | None
    whole_on: date | None

    @property
    def variable(self) -> str:
        """OCTOPUS_CHECKED_SINCE, see dbt_project/macros/checks.sql."""
        return "" if self.since is None else self.since.isoformat()


def project_fingerprint(project: Path) -> str:
    """Of everything that shapes the tests: SQL, YAML and macros of the dbt project."""
    folders = ("models", "macros", "tests")
    files = sorted(path for folder in folders for path in (project / folder).rglob("*") if path.is_file())
    return fingerprint(*(f"{path.relative_to(project)}\n{path.read_text()}" for path in files))


def next_checks(warehouse: Warehouse, project: str, selection: str) -> BuildChecks:
    """What to test of the build that comes next; ask before it begins."""
    # What was not judged yet is left to the build after (ops.unjudged), and so are its tests.
    batch: int = warehouse.scalar(
        "select coalesce((select min(batch_id) - 1 from ops.unjudged), (select last_batch from ops.batch_counter), 0)"
    )
    found = warehouse.rows(
        "select batch_id, whole_on from ops.checked_builds where project = %s and selection = %s", [project, selection]
    )
    known = found[0] if found else None
    span = warehouse.rows(ARRIVED, {"batch": known["batch_id"] if known else 0})[0]
    if known is None:
        return BuildChecks(project, selection, batch, None, span["last"])
    if span["last"] is None:
        return BuildChecks(project, selection, batch, date.max, known["whole_on"])
    if span["last"].replace(day=1) > known["whole_on"]:
        return BuildChecks(project, selection, batch, None, span["last"])
    return BuildChecks(project, selection, batch, span["first"], known["whole_on"])


def passed(warehouse: Warehouse, checks: BuildChecks) -> None:
    """Put on record that the tests of a build passed; those of other states of the project are forgotten."""
    if checks.whole_on is None:  # there was nothing to test
        return
    row = {
        "project": checks.project, "selection": checks.selection, "batch_id": checks.batch_id,
        "whole_on": checks.whole_on, "checked_at": datetime.now(UTC),
    }  # fmt: skip
    with warehouse.connect() as connection:
        connection.execute("delete from ops.checked_builds where project <> %s", [checks.project])
    scope = {"project": checks.project, "selection": checks.selection}
    warehouse.replace("ops.checked_builds", scope, pl.DataFrame([row]), keep=("checked_at",))
