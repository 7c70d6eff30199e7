"""The diary of the sources of texts, ``ops.text_fetches``: when each was asked, for what, and whether it answered.

Belongs here: keeping it, and what follows from it alone: how far a source has answered, and which sessions it missed.
Does not: asking (assets/alternative_data.py), the texts themselves (store.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime

import polars as pl

from octopus.alternative_data.schema import ItemKind
from resources.warehouse.store import Warehouse


@dataclass(frozen=True)
class TextFetch:
    """One question to one source.

    Attributes:
        session: the session whose decision the texts were fetched for.
        window_from, window_to: texts of this span were asked for, the end exclusive.
        problem: why nothing came, with the remedy; None: it answered.
        items: rows that came.
    """

    item_kind: ItemKind
    source: str
    asked_at: datetime
    session: date
    window_from: datetime
    window_to: datetime
    problem: str | None
    items: int
    run_id: str


@dataclass(frozen=True)
class TextFetches:
    """The table ops.text_fetches; rows are added and never changed."""

    warehouse: Warehouse

    def keep(self, fetch: TextFetch) -> None:
        """Store one question and what came of it."""
        row = pl.DataFrame([asdict(fetch)], schema_overrides={"problem": pl.String})
        self.warehouse.insert_new("ops.text_fetches", row)

    def answered_to(self, kind: ItemKind, source: str, end: datetime) -> datetime | None:
        """Up to where the source has answered, of windows that end by ``end``; None before its first answer."""
        found: datetime | None = self.warehouse.scalar(
            """
            select max(window_to) from ops.text_fetches
            where item_kind = %s and source = %s and problem is null and window_to <= %s
            """,
            [kind, source, end],
        )
        return found

    def of_session(self, kind: ItemKind, session: date) -> pl.DataFrame:
        """The latest question to each source for ``session``: columns source, problem, items, asked_at."""
        return self.warehouse.read(
            """
            select distinct on (source) source, problem, items, asked_at from ops.text_fetches
            where item_kind = $1 and session = $2 order by source, asked_at desc
            """,
            [kind, session],
        )

    def holes(self, until: date) -> pl.DataFrame:
        """Sessions up to ``until`` whose decision was to have a source's texts, and the source did not answer.

        Returns:
            Columns item_kind, source, session, problem (the last one), caught_up_at: when a later answer brought the
            span that was missed, null where none has.
        """
        return self.warehouse.read(
            """
            with missed as (
                select distinct on (item_kind, source, session) *
                from ops.text_fetches where session <= $1
                order by item_kind, source, session, problem is not null, asked_at desc
            )
            select m.item_kind, m.source, m.session, m.problem, (
                select min(f.asked_at) from ops.text_fetches f
                where f.item_kind = m.item_kind and f.source = m.source and f.problem is null
                    and f.asked_at > m.asked_at and f.window_to >= m.window_to
                    and f.window_from <= coalesce((
                        select max(a.window_to) from ops.text_fetches a
                        where a.item_kind = m.item_kind and a.source = m.source and a.problem is null
                            and a.window_to < m.window_to and a.asked_at < f.asked_at
                    ), m.window_from)
            ) as caught_up_at
            from missed m where m.problem is not null
            order by m.item_kind, m.source, m.session
            """,
            [until],
        )
