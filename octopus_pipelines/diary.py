"""The diary of `octopus run`: one row for each session that was run, whatever it changed.

Belongs here: ops.runs. Does not: Dagster's own records of runs.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime

from resources.warehouse.store import Warehouse


def start_run(warehouse: Warehouse, session: date) -> str:
    """Note that a run has begun; its id."""
    run_id = uuid.uuid4().hex
    with warehouse.connect() as connection:
        connection.execute(
            "insert into ops.runs (run_id, as_of, status, started_at) values (%s, %s, 'started', %s)",
            [run_id, session, datetime.now(UTC)],
        )
    return run_id


def finish_run(warehouse: Warehouse, run_id: str, *, failed: bool) -> None:
    """Note how it ended."""
    with warehouse.connect() as connection:
        connection.execute(
            "update ops.runs set status = %s, finished_at = %s where run_id = %s",
            ["failed" if failed else "succeeded", datetime.now(UTC), run_id],
        )
