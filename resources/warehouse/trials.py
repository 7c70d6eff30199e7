"""The trial ledger in the warehouse: what was tried stays tried.

Belongs here: recording and reading trials. Does not: what follows from them (octopus/core/trials.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from octopus.core.ids import canonical_json
from octopus.core.trials import Kind, Trial
from resources.warehouse.store import Warehouse


@dataclass(frozen=True)
class TrialLedger:
    """The table backtest.trials: its database role may add to it and read it, and nobody may change it."""

    warehouse: Warehouse

    def record(self, trials: Sequence[Trial]) -> int:
        """Store those that are not there yet; how many that were. Trials without a finite return have shown nothing."""
        rows = [
            (
                one.trial_id, one.kind, one.name, canonical_json(dict(one.parameters)), one.source, one.first_session,
                one.last_session, one.returns[np.isfinite(one.returns)].astype(np.float32).tolist(),
            )
            for one in trials
        ]  # fmt: skip
        with self.warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                """
                insert into backtest.trials
                    (trial_id, kind, name, parameters, source, first_session, last_session, returns)
                values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
                """,
                [row for row in rows if row[-1]],
            )
            return cursor.rowcount

    def among(self, trial: Trial, kinds: Sequence[Kind]) -> list[Trial]:
        """Put ``trial`` on record; every trial on its days."""
        self.record([trial])
        return self.overlapping(trial.source, trial.first_session, trial.last_session, kinds)

    def overlapping(self, source: str, first: date, last: date, kinds: Sequence[Kind]) -> list[Trial]:
        """Trials on data of ``source`` that share days with ``first`` to ``last``, whatever they were called."""
        rows = self.warehouse.rows(
            """
            select kind, name, parameters, source, first_session, last_session, returns from backtest.trials
            where source = %s and last_session >= %s and first_session <= %s and kind = any(%s)
            order by recorded_at, trial_id
            """,
            [source, first, last, list(kinds)],
        )
        return [
            Trial(
                row["kind"], row["name"], row["parameters"], row["source"], row["first_session"], row["last_session"],
                np.array(row["returns"], dtype=np.float64),
            )
            for row in rows
        ]  # fmt: skip

    def identities(self, source: str, first: date, last: date, kinds: Sequence[Kind]) -> list[str]:
        """Of the trials that `overlapping` gives."""
        rows = self.warehouse.rows(
            """
            select trial_id from backtest.trials
            where source = %s and last_session >= %s and first_session <= %s and kind = any(%s)
            """,
            [source, first, last, list(kinds)],
        )
        return [row["trial_id"] for row in rows]
