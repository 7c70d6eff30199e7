"""When a text counts as known: what missed a decision that it would have had a part in is known from first sight."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import yaml
from hypothesis import given
from hypothesis import strategies as st

from octopus.alternative_data.stamps import WINDOW_SESSIONS, decided_live, known_when_seen, missed_a_decision
from octopus.core.sessions import Sessions
from resources.settings import ROOT

XNYS = Sessions()
DAYS = [day.astype(object) for day in XNYS.between(date(2022, 9, 1), date(2022, 12, 27))]
MINUTE = timedelta(minutes=1)


def instants(*values: datetime) -> pl.Series:
    return pl.Series(values, dtype=pl.Datetime("us", "UTC"))


def test_a_decision_is_live_until_the_next_one_is_due() -> None:
    due = [XNYS.decision_utc(day) for day in DAYS[11:13]]
    made = pl.DataFrame(
        {"session": DAYS[10:13], "decided_at": instants(due[0] - MINUTE, due[1], due[1] + 400 * MINUTE)}
    )
    assert decided_live(made, XNYS).astype(object).tolist() == [DAYS[10], DAYS[12]], "the second one is a replay"
    assert len(decided_live(made.clear(), XNYS)) == 0


@given(own=st.integers(0, 60), decided=st.sets(st.integers(0, 79), max_size=3))
def test_a_text_is_late_where_a_decision_of_its_window_was_made(own: int, decided: set[int]) -> None:
    sessions = np.array(sorted(DAYS[at] for at in decided), dtype="datetime64[D]")
    known = instants(
        XNYS.decision_utc(DAYS[own]) - MINUTE, XNYS.decision_utc(DAYS[own]), XNYS.decision_utc(DAYS[own]) + MINUTE
    )
    late = missed_a_decision(known, sessions, XNYS)
    expected = [any(0 <= at - first < WINDOW_SESSIONS for at in decided) for first in (own, own, own + 1)]
    assert late.tolist() == expected


def test_the_window_is_that_of_daily_sentiment() -> None:
    project = yaml.safe_load((ROOT / "dbt_project" / "dbt_project.yml").read_text())
    assert project["vars"]["sentiment_window_sessions"] == WINDOW_SESSIONS


def test_what_is_late_is_known_from_first_sight_and_that_is_recorded() -> None:
    told, seen = datetime(2022, 12, 20, 15, tzinfo=UTC), datetime(2022, 12, 22, 22, tzinfo=UTC)
    items = pl.DataFrame({"known_at": instants(told, told, seen + MINUTE), "known_at_imputed": [True, True, False]})
    stamped = known_when_seen(items, np.array([False, True, True]), seen)
    assert stamped["known_at"].to_list() == [told, seen, seen + MINUTE]
    assert stamped["known_at_imputed"].to_list() == [True, False, False]
