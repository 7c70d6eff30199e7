"""Daily aggregates of scored texts, and what a source's report says of planted ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from octopus.alternative_data.daily import daily_texts
from octopus.alternative_data.reports import (
    REPORT_SCHEMA,
    information_decay,
    latency,
    report_picture,
    report_row,
    source_report,
)
from octopus.core.errors import MissingDataError
from octopus.core.sessions import Sessions

XNYS = Sessions()
DAYS = XNYS.between(date(2023, 1, 3), date(2023, 12, 29))
NAMES = tuple(f"S{place}" for place in range(12))


def texts(*rows: tuple[str, datetime, float, float]) -> pl.DataFrame:
    """Items as (instrument, known at, score, novelty)."""
    return pl.DataFrame(
        rows,
        schema={"instrument": pl.String, "known_at": pl.Datetime("us", "UTC"), "score": pl.Float64,
                "novelty": pl.Float64},
        orient="row",
    )  # fmt: skip


def decided(row: int, minutes: int = 0) -> datetime:
    return XNYS.decision_utc(DAYS[row].item()) + timedelta(minutes=minutes)


def test_a_text_belongs_to_the_first_decision_that_could_use_it_and_halves_with_age():
    items = texts(("S0", decided(3), 1.0, 1.0), ("S0", decided(3, 1), -1.0, 1.0), ("S0", decided(4, 1), -1.0, 0.0))
    found = daily_texts(items, DAYS[:10], NAMES, XNYS, half_life=1.0)
    assert found.count[:6, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert found.volume[:6, 0].tolist() == [0, 0, 0, 1, 1, 0], "a copy is counted and weighs nothing"
    assert found.sentiment[3, 0] == 1.0
    assert found.sentiment[4, 0] == pytest.approx((0.5 - 1.0) / 1.5)
    assert found.disagreement[3, 0] == 0.0
    assert found.disagreement[4, 0] == pytest.approx(np.sqrt(1 - (1 / 3) ** 2))
    assert np.isnan(found.sentiment[2, 0])
    assert np.isnan(found.sentiment[:, 1]).all()


def test_a_later_text_changes_no_earlier_session():
    early = [("S0", decided(3), 0.5, 1.0), ("S1", decided(5), -0.5, 0.7)]
    late = [("S0", decided(6, 5), -1.0, 1.0), ("S1", decided(9), 1.0, 1.0)]
    before, after = (daily_texts(texts(*some), DAYS[:12], NAMES, XNYS) for some in (early, early + late))
    for name in ("count", "volume", "sentiment", "disagreement"):
        np.testing.assert_array_equal(getattr(before, name)[:7], getattr(after, name)[:7])


def test_texts_before_the_first_session_count_with_their_age():
    items = texts(("S0", decided(3), 1.0, 1.0), ("S0", decided(8), -1.0, 1.0))
    whole, part = (daily_texts(items, DAYS[low:15], NAMES, XNYS) for low in (0, 6))
    np.testing.assert_allclose(part.sentiment, whole.sentiment[6:])


def test_what_is_wrong_is_named():
    with pytest.raises(MissingDataError, match=r"score = 1.5 is outside"):
        daily_texts(texts(("S0", decided(3), 1.5, 1.0)), DAYS, NAMES, XNYS)
    with pytest.raises(MissingDataError, match="no session"):
        daily_texts(texts(), DAYS[:0], NAMES, XNYS)
    with pytest.raises(MissingDataError, match="column score"):
        daily_texts(texts().drop("score"), DAYS, NAMES, XNYS)


def planted(row_of_return: int) -> tuple[np.ndarray, np.ndarray]:
    """Tone that equals the return ``row_of_return`` sessions later."""
    returns = np.random.default_rng(5).normal(0, 0.02, (len(DAYS), len(NAMES)))
    tone = np.full_like(returns, np.nan)
    tone[:-row_of_return] = returns[row_of_return:]
    return tone, returns


def test_only_a_return_that_could_be_earned_counts():
    """Known at T's decision, traded at the close of T+1: the first return that is anybody's ends at T+2."""
    tone, returns = planted(2)
    decay = information_decay(tone, returns, (1, 2, 5))
    assert decay[0].mean == pytest.approx(1.0)
    assert decay[0].mean > decay[1].mean > decay[2].mean > 0.2, "diluted by the returns that follow"
    assert decay[1].t_stat > 10
    tone, returns = planted(1)
    assert abs(information_decay(tone, returns, (1,))[0].mean) < 0.1


def test_a_report_measures_coverage_latency_and_information():
    tone, returns = planted(2)
    rows = [(name, decided(day), float(np.clip(tone[day, column] * 10, -1, 1)), 1.0)
            for day in range(len(DAYS) - 2) for column, name in enumerate(NAMES[:9])]  # fmt: skip
    items = texts(*rows).with_columns(
        ts=pl.col("known_at") - pl.duration(minutes=30), ingested_at=pl.col("known_at") + pl.duration(hours=1),
        known_at_imputed=pl.lit(value=False), copy=pl.lit(value=False), burst=pl.Series(range(len(rows))) % 4 == 0,
    )  # fmt: skip
    daily = daily_texts(items, DAYS, NAMES, XNYS, half_life=0.01)
    member = np.ones_like(returns, dtype=bool)
    report = source_report("wire", items, daily, member, returns)
    assert report.share_covered == pytest.approx(9 / 12 * (len(DAYS) - 2) / len(DAYS))
    assert report.latency.known[0] == 1800
    assert report.latency.stored == (3600, 3600, 3600)
    assert report.ic[0].mean > 0.99
    assert report_picture(report).startswith(b"\x89PNG")
    row = pl.DataFrame([report_row(report, "news", items, date(2023, 12, 29))], schema=REPORT_SCHEMA)
    assert row["bursts"].item() == pytest.approx(0.25, abs=1e-3)
    with pytest.raises(MissingDataError, match="member has shape"):
        source_report("wire", items, daily, member[:5], returns)


def test_latency_without_a_time_of_storing_is_unknown():
    items = texts(("S0", datetime(2023, 2, 1, tzinfo=UTC), 0.0, 1.0)).with_columns(
        ts=pl.col("known_at"), known_at_imputed=pl.lit(value=True)
    )
    found = latency(items)
    assert found.known == (0, 0, 0)
    assert np.isnan(found.stored).all()
    assert found.imputed == 1.0
