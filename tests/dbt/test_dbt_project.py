"""The dbt project on a real database: a small, nasty history told in two parts, and a random one beside a brute force.

The story: bars, actions, descriptions and scores are stored (part one), built, and built again. Then come restatements,
late bars and late news (part two), which an incremental build and a full one must tell alike. At last everything known
after `CUT` is deleted and built anew: up to then nothing may differ.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from octopus.core.sessions import Sessions
from octopus.market_data.returns import total_returns
from resources.warehouse import identifiers, verdicts
from resources.warehouse.connection import Role
from resources.warehouse.prices import WarehousePrices
from resources.warehouse.store import Warehouse
from tests.dbt_server import DATABASE, run_dbt

PROJECT = Path(__file__).parents[2] / "dbt_project"
XNYS = Sessions("XNYS")
FIRST, LAST = date(2024, 1, 2), date(2024, 3, 28)
DAYS = [day.item() for day in XNYS.between(FIRST, LAST)]
CUT = datetime(2024, 1, 16, 23, 0, tzinfo=UTC)
MARTS: Mapping[str, str] = {
    "prices": "source, instrument, session, known_from",
    "returns": "source, instrument, session",
    "bars_weekly": "source, instrument, week, permanent_id, known_from",
    "bars_monthly": "source, instrument, month, permanent_id, known_from",
    "adjustment_factors": "source, instrument, ex_session, kind, known_at",
    "universe": "source, instrument, valid_from, known_from",
    "daily_sentiment": "model, instrument, session",
    "session_bars": "source, instrument, interval_minutes, session, known_from",
    "panel": "source, instrument, session",
}
BARS_AND_ACTIONS = ("bars", "bar_verdicts", "corporate_actions")
RANDOM_NAMES = ("R1", "R2", "R3", "R4")
Row = dict[str, Any]


def january(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2024, 1, day, hour, minute, tzinfo=UTC)


# -- running dbt ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dbt:
    """dbt on one database."""

    url: str
    target: Path

    def run(self, *arguments: str) -> dict[str, str]:
        """Status of each node by name; a failing node fails the test with dbt's own words."""
        run_dbt(self.url, self.target, *arguments)
        results = json.loads((self.target / "run_results.json").read_text())["results"]
        return {item["unique_id"]: item["status"] for item in results}

    def build(self, *arguments: str) -> dict[str, str]:
        return self.run("build", "--exclude-resource-type", "unit_test", *arguments)

    def readable(self, role: str) -> list[str]:
        """Relations that dbt built and ``role`` may read."""
        query = """
            select relname from pg_class c join pg_namespace n on n.oid = relnamespace
            where nspname in ('staging', 'intermediate', 'marts') and relkind in ('r', 'v')
                and has_schema_privilege(%(role)s, n.oid, 'usage') and has_table_privilege(%(role)s, c.oid, 'select')
        """
        with psycopg.connect(self.url) as connection:
            return [name for (name,) in connection.execute(query, {"role": role}).fetchall()]

    def marts(self) -> dict[str, list[Row]]:
        """All rows of all marts, in the order of their keys."""
        with psycopg.connect(self.url, row_factory=psycopg.rows.dict_row) as connection:
            connection.execute("set timezone = 'UTC'")
            return {
                name: connection.execute(f"select * from marts.{name} order by {key}").fetchall()
                for name, key in MARTS.items()
            }


# -- raw rows ------------------------------------------------------------------------------------------------------


@dataclass
class Raw:
    """Raw rows to store, each table's as dictionaries."""

    rows: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, table: str, known_at: datetime, batch: int, **columns: object) -> None:
        self.rows.setdefault(table, []).append(
            columns
            | {"known_at": known_at, "known_at_imputed": False, "batch_id": batch}
            | {"ingested_at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=batch)}
        )

    def bar(
        self, name: str, day: date, close: float, batch: int, known: datetime | None = None, source: str = "v",
        **others: float | None,
    ) -> None:  # fmt: skip
        closed = XNYS.close_utc(day)
        others = dict.fromkeys(("open", "high", "low", "volume")) | others
        self.add("bars", known or closed + timedelta(minutes=15), batch, source=source, instrument=name, session=day,
                 ts=closed, close=close, **others)  # fmt: skip

    def action(
        self,
        name: str,
        day: date,
        kind: str,
        value: float,
        batch: int,
        known: datetime | None = None,
        source: str = "v",
        detail: str | None = None,
    ) -> None:
        opened = XNYS.open_utc(day)
        self.add("corporate_actions", known or opened, batch, source=source, instrument=name, session=day, ts=opened,
                 kind=kind, value=value, detail=detail)  # fmt: skip

    def held(
        self, name: str, day: date, close: float, batch: int, source: str = "v", known: datetime | None = None
    ) -> None:
        """A verdict that keeps the bar of ``day`` out, known an hour after the close if nothing else is said."""
        closed = XNYS.close_utc(day)
        self.add("bar_verdicts", known or closed + timedelta(hours=1), batch, source=source, instrument=name,
                 session=day, ts=closed, close=close, volume=None, excluded=True, decision="hold", finding_id="f",
                 decided_by="policy", reason="a test")  # fmt: skip

    def kept_out(
        self, name: str, day: date, kind: str, batch: int, known: datetime, source: str = "v", detail: str | None = None
    ) -> None:
        """A verdict that keeps an action out."""
        self.add("action_verdicts", known, batch, source=source, instrument=name, session=day, ts=XNYS.open_utc(day),
                 kind=kind, value=1.0, detail=detail, excluded=True, decision="hold", finding_id="f",
                 decided_by="policy", reason="a test")  # fmt: skip

    def instrument(
        self, name: str, batch: int, known: datetime, since: date, until: date | None = None, source: str = "v"
    ) -> None:
        self.add("instruments", known, batch, source=source, instrument=name, ts=XNYS.open_utc(since),
                 exchange="XNYS", currency="USD", asset_class="equity", price_basis="raw", member_from=since,
                 member_to=until)  # fmt: skip

    def score(
        self,
        item: str,
        ts: datetime,
        score: float,
        batch: int,
        known: datetime | None = None,
        *,
        synthetic: bool = False,
        name: str = "AAA",
    ) -> None:
        self.add("sentiment_scores", known or ts, batch, source="wire", instrument=name, ts=ts, item_id=item,
                 item_kind="post" if synthetic else "news", model="m", text_hash=item, score=score, hindsight=False,
                 synthetic=synthetic)  # fmt: skip

    def mark(self, name: str, item: str, ts: datetime, weight: float, batch: int) -> None:
        self.add("text_marks", ts, batch, source="wire", instrument=name, ts=ts, item_kind="news", item_id=item,
                 text_hash=item, repeats=item, copy=weight == 0, alike=0, by_author=0, burst=False, novelty=weight,
                 weight=weight)  # fmt: skip
        for absent in ("batch_id", "known_at_imputed"):
            del self.rows["text_marks"][-1][absent]

    def store(self, url: str) -> None:
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            for table, rows in self.rows.items():
                columns = list(rows[0])
                marks = ", ".join(f"%({column})s" for column in columns)
                cursor.executemany(f"insert into raw.{table} ({', '.join(columns)}) values ({marks})", rows)


def store_calendar(url: str) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.sessions values ('XNYS', %s, %s, %s, %s)",
            [(day, XNYS.open_utc(day), XNYS.close_utc(day), XNYS.decision_utc(day)) for day in DAYS],
        )


def part_one() -> Raw:
    raw = Raw()
    for name, since in (("AAA", FIRST), ("BBB", date(2024, 1, 8)), ("CCC", FIRST)):
        raw.instrument(name, 1, XNYS.open_utc(since), since)
    # AAA: two for one and half a dollar on the 5th; no bar on the 9th, when a quarter of a dollar goes ex.
    for day, close in ((2, 100.0), (3, 101.0), (4, 102.0), (5, 52.0), (8, 53.0), (10, 54.0), (11, 55.0), (12, 56.0)):
        raw.bar("AAA", date(2024, 1, day), close, 2)
    raw.action("AAA", date(2024, 1, 5), "split", 2.0, 3)
    raw.action("AAA", date(2024, 1, 5), "dividend", 0.5, 3)
    raw.action("AAA", date(2024, 1, 9), "dividend", 0.25, 3)
    raw.bar("AAA", date(2024, 1, 3), 101.5, 4, january(8, 14))
    for day, close in ((8, 10.0), (9, 11.0), (10, 12.0), (11, 12.0), (12, 12.0)):
        raw.bar("BBB", date(2024, 1, day), close, 2)
    for day, close in ((2, 30.0), (3, 30.0), (5, 10.0), (8, 10.0)):
        raw.bar("CCC", date(2024, 1, day), close, 2)
    raw.action("CCC", date(2024, 1, 4), "split", 3.0, 3)
    # Of another source, what an ordinary day builds on: DDD's split has no bar yet, EEE's dividend a bar that is held.
    for name in ("DDD", "EEE"):
        raw.instrument(name, 1, XNYS.open_utc(FIRST), FIRST, source="w")
        for day in (10, 11):
            raw.bar(name, date(2024, 1, day), 40.0, 2, source="w")
    raw.action("DDD", date(2024, 1, 12), "split", 2.0, 3, january(2, 15), source="w")
    raw.bar("EEE", date(2024, 1, 12), 4000.0, 2, source="w")
    raw.action("EEE", date(2024, 1, 12), "dividend", 0.5, 3, source="w")
    raw.held("EEE", date(2024, 1, 12), 4000.0, 4, source="w")
    # FFF spins a tenth of a share of GGG off on the 4th, which trades from the 5th on; GGG spins off what never does.
    for name, closes in (("FFF", (50.0, 51.0, 46.0, 47.0, 48.0)), ("GGG", (None, None, None, 40.0, 30.0))):
        raw.instrument(name, 1, XNYS.open_utc(FIRST), FIRST)
        for day, close in zip((2, 3, 4, 5, 8), closes, strict=True):
            if close is not None:
                raw.bar(name, date(2024, 1, day), close, 2)
    raw.action("FFF", date(2024, 1, 4), "spin_off", 0.1, 3, detail="GGG")
    raw.action("FFF", date(2024, 1, 4), "dividend", 0.5, 3)
    raw.action("GGG", date(2024, 1, 8), "spin_off", 1.0, 3, detail="HHH")
    _spun_off_until_withdrawn(raw)
    raw.score("before the close", january(4, 20), 0.5, 5)
    raw.score("after the decision", january(4, 21, 31), -0.5, 5)
    raw.score("weekend", january(6, 12), 1.0, 5)
    raw.score("made up", january(8, 12), -1.0, 5, synthetic=True)
    return raw


def _spun_off_until_withdrawn(raw: Raw) -> None:
    """JJJ, too, spins GGG off, as the vendor says at first."""
    raw.instrument("JJJ", 1, XNYS.open_utc(FIRST), FIRST)
    for day, close in zip((2, 3, 4, 5, 8), (50.0, 51.0, 46.0, 47.0, 48.0), strict=True):
        raw.bar("JJJ", date(2024, 1, day), close, 2)
    raw.action("JJJ", date(2024, 1, 4), "spin_off", 0.1, 3, detail="GGG")


def part_two() -> Raw:
    raw = Raw()
    raw.bar("AAA", date(2024, 1, 3), 101.0, 20, january(16, 14))  # and back again
    raw.bar("AAA", date(2024, 1, 9), 53.5, 21, january(17, 14))
    raw.bar("AAA", date(2024, 1, 16), 57.0, 22)
    raw.action("AAA", date(2024, 1, 5), "dividend", 0.75, 23, january(16, 14))
    raw.bar("CCC", date(2024, 1, 4), 10.0, 24, january(17, 14))
    raw.instrument("AAA", 25, january(11, 14), FIRST, date(2024, 1, 10))
    raw.bar("GGG", date(2024, 1, 5), 42.0, 27, january(17, 14))
    raw.kept_out("JJJ", date(2024, 1, 4), "spin_off", 28, january(16, 22), detail="GGG")
    raw.score("weekend", january(6, 12), 0.25, 26, january(10, 12))
    raw.score("late news", january(3, 12), 1.0, 26, january(12, 12))
    return raw


def an_ordinary_day() -> Raw:
    """Of one source the next session and nothing else."""
    raw = Raw()
    raw.action("DDD", date(2024, 1, 16), "dividend", 1.0, 70, source="w")
    for name, close in (("DDD", 19.0), ("EEE", 39.5)):
        raw.bar(name, date(2024, 1, 16), close, 71, source="w")
    return raw


GROWING = (
    *("plain", "one", "dividend", "split", "holes", "restated", "late", "held", "revised", "kept out"),
    "after the end",
)
"""Instruments of source ``g``: what comes with their next sessions, or beside them."""
GROWN = DAYS[:25], DAYS[25:27], DAYS[27:29]
"""Their sessions, one build after the other; the later ones belong to weeks and months that have begun."""


def growing(chapter: int) -> Raw:
    """Bars of source ``g`` in all columns, a chapter of `GROWN`, and in the later ones something of each kind."""
    dice, raw, batch, days = random.Random(chapter), Raw(), (2, 40, 72)[chapter], GROWN[chapter]
    last = days[-1]
    for name in GROWING:
        if chapter == 0:
            raw.instrument(name, 1, XNYS.open_utc(FIRST), FIRST, source="g")
            for day in DAYS[20:22] if name == "kept out" else ():
                raw.action(name, day, "split", 2.0, 2, source="g")
                raw.action(name, day, "dividend", dice.random(), 2, source="g")
        known = XNYS.decision_utc(DAYS[-1]) + timedelta(hours=1) if name == "after the end" and chapter == 2 else None
        for day in days:
            if not (chapter and day != last and name in ("one", "late")):
                _random_bar(raw, dice, name, day, batch, known)
    if chapter:
        _random_bar(raw, dice, "holes", last, batch + 1, None, volume=None, high=None)
        _random_bar(raw, dice, "restated", last, batch + 1, XNYS.close_utc(last) + timedelta(hours=3))
        raw.action("dividend", last, "dividend", dice.random(), batch + 1, source="g")
        raw.action("split", last, "split", 3.0, batch + 1, source="g")
        raw.action("revised", DAYS[22], "dividend", dice.random(), batch + 1, XNYS.open_utc(last), source="g")
        raw.held("held", last, 1.0, batch + 2, "g")
        for kind in ("split", "dividend"):
            raw.kept_out("kept out", DAYS[19 + chapter], kind, batch + 2, XNYS.open_utc(last), "g")
    if chapter == 2:
        _random_bar(raw, dice, "late", GROWN[1][0], batch + 1, XNYS.close_utc(last))
    return raw


def _random_bar(
    raw: Raw, dice: random.Random, name: str, day: date, batch: int, known: datetime | None, **others: None
) -> None:
    """With as many digits as a number has: sums in another order would end in other ones."""
    low, open_, close, high = sorted(dice.uniform(50, 60) for _ in range(4))
    found = {"open": open_, "high": high, "low": low, "volume": dice.uniform(1e5, 1e6)} | others
    raw.bar(name, day, close, batch, known, "g", **found)


PASSED_ON = DAYS[5]
"""When source ``n`` calls Google's class A, until then GOOG, GOOGL; and its class C, until then GOOCV, GOOG."""
REUSED = DAYS[30:33]
"""Days of another OLD, and another LATE, than those that were delisted on the fourth day."""
SWAPPED = DAYS[12]
"""When what was NEXT until then is called SWAP, in the week of which the former SWAP has three bars."""


def lent_tickers(chapter: int) -> Raw:
    """Bars of source ``n`` by the tickers of their days.

    The later chapter has the second OLD, and tells that there are two LATEs and SWAPs, whose bars have long been built.
    """
    raw, batch = Raw(), 2 + 30 * chapter
    told = (
        (("GOOG", DAYS[:5], 1100.0), ("GOOCV", DAYS[2:5], 550.0), ("GOOG", DAYS[5:9], 552.0),
         ("GOOGL", DAYS[5:9], 1110.0), ("OLD", DAYS[:4], 3.0), ("LATE", DAYS[:4] + REUSED, 3.0),
         ("SWAP", DAYS[9:13], 20.0)),
        (("OLD", REUSED, 90.0),),
    )[chapter]  # fmt: skip
    for name, days, first in told:
        for place, day in enumerate(days):
            raw.bar(name, day, first + place, batch, source="n")
    if chapter:
        raw.action("LATE", DAYS[3], "delisting", 0.0, batch, source="n")
        raw.action("SWAP", SWAPPED, "symbol_change", 1.0, batch, source="n", detail="GONE")
        raw.action("NEXT", SWAPPED, "symbol_change", 1.0, batch, source="n", detail="SWAP")
    else:
        for name in ("GOOG", "GOOCV", "GOOGL", "OLD", "LATE", "SWAP"):
            raw.instrument(name, 1, XNYS.open_utc(FIRST), FIRST, source="n")
        raw.action("GOOG", PASSED_ON, "symbol_change", 1.0, 3, source="n", detail="GOOGL")
        raw.action("GOOCV", PASSED_ON, "symbol_change", 1.0, 3, source="n", detail="GOOG")
        raw.action("OLD", DAYS[3], "delisting", 0.0, 3, source="n")
    return raw


def tell_lent_tickers(url: str, chapter: int) -> None:
    lent_tickers(chapter).store(url)
    identifiers.refresh(Warehouse(url, Role.OWNER), "n")


def store_unjudged(url: str) -> None:
    """A bar of source ``n`` that is stored and not judged yet, and a dividend in it."""
    raw = Raw()
    raw.bar("GOOGL", DAYS[9], 1114.0, 31, source="n")
    raw.action("GOOGL", DAYS[9], "dividend", 5.0, 31, source="n")
    raw.store(url)
    with psycopg.connect(url) as connection:
        connection.execute("insert into ops.batches values (31, 'raw.bars', 'n', now(), null, null, 1, 0, 0, 0)")
    verdicts.judged(Warehouse(url, Role.OWNER), "n", 30)


def random_history(seed: int = 7) -> tuple[Raw, Raw]:
    """Bars and actions of source ``r`` that come late, twice and out of order, in two parts; some bars are held."""
    dice = random.Random(seed)
    parts = Raw(), Raw()
    for name in RANDOM_NAMES:
        parts[0].instrument(name, 1, XNYS.open_utc(FIRST), FIRST, source="r")
        for index, day in enumerate(DAYS[:25]):
            for _ in range(dice.choice((0, 1, 1, 1, 1, 2, 3))):
                batch = dice.randint(2, 60)
                late = timedelta(days=dice.choice((0, 0, 0, 0, 2, 5, 20)), hours=dice.randint(0, 5))
                _once(parts[batch > 30], "bars", name, day, batch).bar(
                    name, day, float(dice.randint(50, 150)), batch, XNYS.close_utc(day) + late, "r"
                )
            if dice.random() < 0.12:
                batch, late = dice.randint(2, 60), timedelta(days=dice.choice((0, 0, 1, 4)), hours=dice.randint(1, 6))
                parts[batch > 30].held(name, day, 1.0, batch, "r", XNYS.close_utc(day) + late)
            if index and dice.random() < 0.4:
                kind = dice.choice(("split", "dividend", "spin_off"))
                for _ in range(dice.choice((1, 1, 2))):
                    batch = dice.randint(2, 60)
                    value = dice.choice((0.5, 1.5, 2.0, 3.0)) if kind == "split" else dice.randint(1, 8) / 4
                    value = value / 64 if kind == "spin_off" else value
                    known = XNYS.open_utc(day) + timedelta(days=dice.choice((-10, 0, 0, 3, 12)))
                    detail = dice.choice((*RANDOM_NAMES, "R9")) if kind == "spin_off" else None
                    _once(parts[batch > 30], "corporate_actions", name, day, batch).action(
                        name, day, kind, value, batch, known, "r", detail
                    )
        _random_texts(dice, parts, name)
    return parts


HALF_HOURS = 13
"""Intervals of a session."""
OVER_LATER = DAYS[9]
"""A session of source ``i`` that is recorded as over in the second part alone."""


def within_the_day(seed: int = 11) -> tuple[Raw, Raw]:
    """Half-hours of source ``i``, some of which come late, twice or not at all, in two parts; two in three tell their
    own average."""
    dice = random.Random(seed)
    parts = Raw(), Raw()
    for name in ("I1", "I2"):
        for day in DAYS[:10]:
            for place in range(HALF_HOURS):
                began = XNYS.open_utc(day) + timedelta(minutes=30 * place)
                batches = sorted(dice.sample(range(2, 61), dice.choice((0, 1, 1, 1, 1, 1, 1, 2, 3))))
                late = timedelta(minutes=30)
                for batch in [1] if day == OVER_LATER else batches:
                    low, open_, close, high = sorted(float(dice.randint(50, 60)) for _ in range(4))
                    prices = {"open": open_, "high": high, "low": low, "close": close}
                    parts[batch > 30].add(
                        "intraday_bars", began + late, batch, source="i", instrument=name, ts=began,
                        interval_minutes=30, session=day, **prices, volume=float(dice.randint(0, 9)),
                        vwap=dice.choice((None, (low + high) / 2, close)),
                    )  # fmt: skip
                    late += timedelta(hours=dice.choice((0, 1, 30, 400)))
    return parts


def store_over(url: str, days: list[date]) -> None:
    """Put on record that these sessions of source ``i`` are over."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.intraday_sessions values ('i', %s, 30, %s, %s, %s, 1, now(), now())",
            [(name, day, XNYS.close_utc(day), HALF_HOURS) for name in ("I1", "I2") for day in days],
        )


def _random_texts(dice: random.Random, parts: tuple[Raw, Raw], name: str) -> None:
    """Scores that come late, are corrected and are marked afterwards, also across the parts."""
    for number in range(30):
        written = XNYS.close_utc(FIRST) + timedelta(hours=dice.randint(-30, 24 * 40))
        batches = dice.sample(range(2, 61), dice.choice((1, 1, 2, 3)))
        known = written + timedelta(days=dice.choice((0, 0, 0, 1, 6)))
        for batch in sorted(batches):
            parts[batch > 30].score(f"{name}-{number}", written, dice.randint(-4, 4) / 4, batch, known, name=name)
            known += timedelta(days=dice.choice((0, 1, 4)), hours=dice.randint(1, 9))
        if dice.random() < 0.5:
            batch = dice.randint(min(batches), 60)
            parts[batch > 30].mark(name, f"{name}-{number}", written, dice.choice((0.0, 0.5, 1.0)), batch)


def _once(raw: Raw, table: str, name: str, day: date, batch: int) -> Raw:
    """``raw``, or a place for rows nobody stores where that batch has the row already: a batch has a key once."""
    key = (name, day, batch)
    taken = any((r["instrument"], r["session"], r["batch_id"]) == key for r in raw.rows.get(table, []))
    return Raw() if taken else raw


# -- the story -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """The marts after each chapter, and the raw rows of the random history."""

    statuses: dict[str, str]
    first: dict[str, list[Row]]
    again: dict[str, list[Row]]
    later: dict[str, list[Row]]
    rebuilt: dict[str, list[Row]]
    cut: dict[str, list[Row]]
    random_rows: dict[str, list[Row]]
    readable: dict[str, list[str]]
    fed: dict[tuple[str, str, date], float | None]


@pytest.fixture(scope="module")
def story(server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'create database "{DATABASE}" template "{template_database}"')
        try:
            yield tell(Dbt(make_conninfo(server_url, dbname=DATABASE), tmp_path_factory.mktemp("dbt")))
        finally:
            connection.execute(f'drop database if exists "{DATABASE}" with (force)')


def tell(dbt: Dbt) -> Story:
    random_one, random_two = random_history()
    day_one, day_two = within_the_day()
    store_calendar(dbt.url)
    day_one.store(dbt.url)
    store_over(dbt.url, DAYS[:9])
    part_one().store(dbt.url)
    random_one.store(dbt.url)
    growing(0).store(dbt.url)
    tell_lent_tickers(dbt.url, 0)
    store_unjudged(dbt.url)
    statuses = dbt.run("build")
    first = dbt.marts()
    dbt.build()
    again = dbt.marts()
    verdicts.judged(Warehouse(dbt.url, Role.OWNER), "n", 31)
    part_two().store(dbt.url)
    random_two.store(dbt.url)
    day_two.store(dbt.url)
    store_over(dbt.url, [OVER_LATER])
    growing(1).store(dbt.url)
    tell_lent_tickers(dbt.url, 1)
    dbt.build()
    an_ordinary_day().store(dbt.url)
    growing(2).store(dbt.url)
    dbt.build()
    later, fed = dbt.marts(), fed_closes(dbt.url)
    dbt.build("--full-refresh")
    rebuilt = dbt.marts()
    with psycopg.connect(dbt.url) as connection:
        for table in (
            "bars",
            "bar_verdicts",
            "corporate_actions",
            "action_verdicts",
            "instruments",
            "sentiment_scores",
            "intraday_bars",
        ):
            connection.execute(f"delete from raw.{table} where known_at > %s", [CUT])
        # As if an earlier version had had other columns: the build below makes it anew, with what stands on it.
        connection.execute("drop view staging.stg_bars cascade")
        connection.execute("create view staging.stg_bars as select 1 as gone")
    dbt.build("--full-refresh")
    rows = {table: random_one.rows[table] + random_two.rows[table] for table in BARS_AND_ACTIONS}
    rows["intraday_bars"] = day_one.rows["intraday_bars"] + day_two.rows["intraday_bars"]
    readable = {role: dbt.readable(role) for role in ("octopus_research", "octopus_trader", "octopus_reader")}
    return Story(statuses, first, again, later, rebuilt, dbt.marts(), rows, readable, fed)


def fed_closes(url: str) -> dict[tuple[str, str, date], float | None]:
    """What the order path is told of every stored bar, None where it is told of none."""
    warehouse = Warehouse(url, Role.OWNER)
    stored = warehouse.rows(
        "select distinct source, instrument, session from raw.bars where source in ('v', 'w', 'r', 'g', 'n')"
    )
    told = {
        (row["source"], row["instrument"], row["session"]): WarehousePrices(warehouse, row["source"], XNYS).bar(
            row["instrument"], row["session"]
        )
        for row in stored
    }
    return {key: None if bar is None else float(bar.close) for key, bar in told.items()}


def as_of(rows: list[Row], instant: datetime, since: str = "known_from") -> list[Row]:
    return [row for row in rows if row[since] <= instant and (row["known_to"] is None or row["known_to"] > instant)]


def of(rows: list[Row], name: str, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows if row["instrument"] == name]


def january_rows(rows: list[Row], name: str, *columns: str) -> dict[int, tuple[Any, ...]]:
    """Rows of one instrument by day of January."""
    return {
        row["session"].day: tuple(row[column] for column in columns)
        for row in rows
        if row["instrument"] == name and row["session"].month == 1
    }


# -- the database as a whole ---------------------------------------------------------------------------------------


def test_every_model_check_and_unit_test_passes(story: Story) -> None:
    warnings = {name.split(".")[2] for name, status in story.statuses.items() if status == "warn"}
    assert set(story.statuses.values()) <= {"success", "pass", "warn"}
    assert warnings <= {"returns_are_plausible", "adjustment_factors_dividends_are_plausible"}
    kinds = [name.split(".")[0] for name in story.statuses]
    assert kinds.count("model") == 21
    assert kinds.count("unit_test") == 22
    assert kinds.count("test") > 30


@pytest.mark.parametrize("role", ["octopus_research", "octopus_trader"])
def test_the_roles_of_the_warehouse_may_read_what_dbt_built(story: Story, role: str) -> None:
    assert len(story.readable[role]) == 21


def test_a_reader_may_read_the_marts_alone(story: Story) -> None:
    assert set(story.readable["octopus_reader"]) == set(MARTS)


def test_building_again_changes_nothing(story: Story) -> None:
    assert story.again == story.first


def test_an_incremental_build_tells_what_a_full_one_tells(story: Story) -> None:
    assert story.later == story.rebuilt
    assert story.later["prices"] != story.first["prices"]


def test_an_ordinary_day_is_built_on_what_came_before_it(story: Story) -> None:
    day = date(2024, 1, 16)
    prices = {row["instrument"]: row for row in story.later["prices"] if (row["source"], row["session"]) == ("w", day)}
    assert (prices["DDD"]["split_ratio"], prices["DDD"]["dividend"]) == (2.0, 1.0)
    assert (prices["EEE"]["split_ratio"], prices["EEE"]["dividend"]) == (1.0, 0.5), "what a held bar carried goes on"
    (factor,) = [row for row in story.later["adjustment_factors"] if row["source"] == "w" and row["ex_session"] == day]
    assert (factor["kind"], factor["dividend_factor"]) == ("dividend", 0.95), "two of the shares after it paid 2 for 40"


@pytest.mark.parametrize("mart", ["prices", "adjustment_factors", "universe"])
@pytest.mark.parametrize("instant", [january(3, 22), january(9, 22), january(16, 13), CUT])
def test_deleting_what_was_known_later_changes_nothing_earlier(story: Story, mart: str, instant: datetime) -> None:
    # The end of a version is itself later knowledge: known_to is left out. So is up to where prices were built.
    since = "known_at" if mart == "adjustment_factors" else "known_from"
    later = {"known_to", "batch_id"} if mart == "adjustment_factors" else {"known_to"}
    before, after = (
        [{k: v for k, v in row.items() if k not in later} for row in as_of(marts[mart], instant, since)]
        for marts in (story.rebuilt, story.cut)
    )
    assert before
    assert after == before


@pytest.mark.parametrize("mart", ["bars_weekly", "session_bars"])
def test_deleting_what_was_known_later_changes_no_earlier_week_nor_session(story: Story, mart: str) -> None:
    for instant in (january(9, 22), january(16, 13), CUT):
        before, after = (
            [{k: v for k, v in row.items() if k != "known_to"} for row in as_of(marts[mart], instant)]
            for marts in (story.rebuilt, story.cut)
        )
        assert before
        assert after == before


def test_deleting_what_was_known_later_changes_no_earlier_sentiment(story: Story) -> None:
    before = [row for row in story.rebuilt["daily_sentiment"] if row["known_from"] <= CUT]
    assert before
    assert [row for row in story.cut["daily_sentiment"] if row["known_from"] <= CUT] == before


# -- bars within the day -------------------------------------------------------------------------------------------


def test_a_session_adds_up_to_what_was_known_of_its_bars_since_it_closed(story: Story) -> None:
    """Beside a brute force, at any instant; a session that is not over on record has no row."""
    assert {row["session"] for row in story.first["session_bars"]} == set(DAYS[:9])
    versions = sorted(story.random_rows["intraday_bars"], key=lambda row: row["batch_id"])
    states = 0
    for instant in (january(2, 20), january(2, 21), january(4, 12), january(9, 23), january(17), january(31)):
        seen: dict[tuple[str, date], dict[datetime, Row]] = {}
        for row in versions:
            if row["known_at"] <= instant and XNYS.close_utc(row["session"]) <= instant:
                seen.setdefault((row["instrument"], row["session"]), {})[row["ts"]] = row
        found = {(row["instrument"], row["session"]): row for row in as_of(story.later["session_bars"], instant)}
        assert found.keys() == seen.keys()
        for key, bars in seen.items():
            told, own = found[key], [bars[ts] for ts in sorted(bars)]
            volume = sum(bar["volume"] for bar in own)
            typical = [(bar["high"] + bar["low"] + bar["close"]) / 3 for bar in own]
            prices = [mean if bar["vwap"] is None else bar["vwap"] for bar, mean in zip(own, typical, strict=True)]
            worth = sum(price * bar["volume"] for price, bar in zip(prices, own, strict=True))
            assert told["vwap"] == (pytest.approx(worth / volume) if volume else None)
            assert told["is_vwap_told"] == all(bar["vwap"] is not None for bar in own)
            assert (told["open"], told["close"]) == (own[0]["open"], own[-1]["close"])
            assert (told["high"], told["low"]) == (max(b["high"] for b in own), min(b["low"] for b in own))
            assert (told["volume"], told["bars"], told["bars_due"]) == (volume, len(own), HALF_HOURS)
            states += 1
    assert states > 50


# -- prices --------------------------------------------------------------------------------------------------------


def test_a_restated_price_is_read_as_it_was_known(story: Story) -> None:
    prices = story.later["prices"]
    for instant, close in (
        (january(4, 12), 101.0),
        (january(8, 14), 101.5),
        (january(16, 13, 59), 101.5),
        (january(16, 14), 101.0),
    ):
        assert january_rows(as_of(prices, instant), "AAA", "close")[3] == (close,)
    assert len([row for row in prices if row["instrument"] == "AAA" and row["session"] == date(2024, 1, 3)]) == 3


def test_a_bar_is_not_seen_before_it_was_known(story: Story) -> None:
    assert 2 not in january_rows(as_of(story.later["prices"], january(2, 21)), "AAA", "close")
    assert january_rows(as_of(story.later["prices"], january(2, 21, 15)), "AAA", "close") == {2: (100.0,)}


def test_an_action_without_a_bar_counts_at_the_next_one_until_the_bar_arrives(story: Story) -> None:
    early = january_rows(as_of(story.later["prices"], january(16, 13)), "AAA", "split_ratio", "dividend")
    assert 9 not in early
    assert early[10] == (1.0, 0.25)
    assert early[5] == (2.0, 0.5)
    late = january_rows(as_of(story.later["prices"], january(18)), "AAA", "split_ratio", "dividend")
    assert late[9] == (1.0, 0.25)
    assert late[10] == (1.0, 0.0)
    assert late[5] == (2.0, 0.75)
    ccc = january_rows(as_of(story.later["prices"], january(18)), "CCC", "split_ratio")
    assert ccc == {2: (1.0,), 3: (1.0,), 4: (3.0,), 5: (1.0,), 8: (1.0,)}


def test_returns_hold_through_actions_gaps_and_restatements(story: Story) -> None:
    first = january_rows(story.first["returns"], "AAA", "total_return", "known_from")
    assert 2 not in first
    assert first[5][0] == pytest.approx((52.0 + 0.5) * 2 / 102.0 - 1, abs=1e-15)
    assert first[10][0] == pytest.approx((54.0 + 0.25) / 53.0 - 1, abs=1e-15)
    assert first[4] == (pytest.approx(102.0 / 101.5 - 1, abs=1e-15), january(8, 14))
    later = january_rows(story.later["returns"], "AAA", "total_return", "known_from")
    assert later[4] == (pytest.approx(102.0 / 101.0 - 1, abs=1e-15), january(16, 14))
    assert later[9] == (pytest.approx(53.75 / 53.0 - 1, abs=1e-15), january(17, 14))
    assert later[10][0] == pytest.approx(54.0 / 53.5 - 1, abs=1e-15)


def test_a_spin_off_is_no_loss_as_soon_as_the_new_company_has_a_price(story: Story) -> None:
    # A tenth of 40 and half a dollar on 51 that closes at 46; until GGG first trades nobody knows the return.
    columns = ("dividend", "spin_off")
    prices = story.later["prices"]
    for instant, worth in ((january(4, 22), None), (january(5, 22), 4.0), (january(17, 14), 4.2)):
        assert january_rows(as_of(prices, instant), "FFF", *columns)[4] == (0.5, pytest.approx(worth)), instant
    for returns, worth in ((story.first["returns"], 4.0), (story.later["returns"], 4.2)):
        found = january_rows(returns, "FFF", "total_return")
        assert found[4][0] == pytest.approx((46.0 + 0.5 + worth) / 51.0 - 1, abs=1e-15)
        assert found[5][0] == pytest.approx(47.0 / 46.0 - 1, abs=1e-15)
    assert january_rows(prices, "GGG", "spin_off")[8] == (None,)
    assert january_rows(story.later["returns"], "GGG", "total_return")[8] == (None,)
    factors = {row["kind"]: row["dividend_factor"] for row in as_of(story.later["adjustment_factors"], CUT, "known_at")
               if row["instrument"] == "FFF"}  # fmt: skip
    assert factors["dividend"] * factors["spin_off"] == pytest.approx(1 - 4.5 / 51.0, abs=1e-15)


def test_a_spin_off_that_a_verdict_keeps_out_brought_nothing_from_then_on(story: Story) -> None:
    prices = story.later["prices"]
    for instant, worth in ((january(5, 22), 4.0), (january(16, 21), 4.0), (january(16, 22), 0.0), (january(18), 0.0)):
        assert january_rows(as_of(prices, instant), "JJJ", "spin_off")[4] == (pytest.approx(worth),), instant
    assert january_rows(story.first["returns"], "JJJ", "total_return")[4][0] == pytest.approx(50.0 / 51.0 - 1)
    assert january_rows(story.later["returns"], "JJJ", "total_return")[4][0] == pytest.approx(46.0 / 51.0 - 1)
    factors = story.later["adjustment_factors"]
    for instant, found in ((january(16, 21), [pytest.approx(1 - 4.0 / 51.0)]), (january(16, 22), [])):
        assert [one for (one,) in of(as_of(factors, instant, "known_at"), "JJJ", "dividend_factor")] == found, instant


def test_the_order_path_is_told_the_prices_of_the_marts(story: Story) -> None:
    """What a verdict keeps out of the marts prices no fill either, and what it repairs is read as repaired."""
    now = {
        (row["source"], row["instrument"], row["session"]): round(row["close"], 6)
        for row in story.later["prices"]
        if row["known_to"] is None
    }
    told = {key: close for key, close in story.fed.items() if close is not None}
    assert told == now
    assert len(told) < len(story.fed)


def test_what_a_bar_paid_counts_there_until_a_verdict_keeps_it_out(story: Story) -> None:
    held, after = XNYS.close_utc(date(2024, 1, 12)) + timedelta(minutes=30), XNYS.close_utc(date(2024, 1, 17))
    before = january_rows(as_of(story.later["prices"], held), "EEE", "close", "dividend")
    assert before[12] == (4000.0, 0.5)
    then = january_rows(as_of(story.later["prices"], after), "EEE", "dividend")
    assert 12 not in then
    assert then[16] == (0.5,)


def test_a_week_counts_in_the_shares_of_its_end_and_keeps_what_was_known_of_it(story: Story) -> None:
    # Two for one on the 5th: 100 on the 2nd is 50 of Friday's shares. The 3rd was restated twice, the dividend once.
    columns = ("sessions", "sessions_due", "close", "split_ratio", "dividend", "known_from", "batch_id")
    first_week = {
        row["known_from"]: tuple(row[column] for column in columns)
        for row in story.later["bars_weekly"]
        if (row["instrument"], row["week"]) == ("AAA", date(2024, 1, 1))
    }
    assert list(first_week.values()) == [
        (4, 4, 52.0, 2.0, 0.5, XNYS.decision_utc(date(2024, 1, 5)), 3),
        (4, 4, 52.0, 2.0, 0.5, january(8, 14), 4),
        (4, 4, 52.0, 2.0, 0.75, january(16, 14), 23),
    ]
    now = {row["week"]: row for row in story.later["bars_weekly"] if row["instrument"] == "AAA" and not row["known_to"]}
    assert [now[monday]["sessions"] for monday in sorted(now)] == [4, 5, 1]
    then = as_of(story.later["bars_weekly"], january(16, 13))
    assert of([row for row in then if row["week"] == date(2024, 1, 8)], "AAA", "sessions", "dividend") == [(4, 0.25)]


# -- factors, universe, sentiment, panel ---------------------------------------------------------------------------


def test_dividend_factors_use_the_close_and_the_value_known_then(story: Story) -> None:
    def factors(instant: datetime) -> dict[tuple[int, str], tuple[Any, ...]]:
        rows = as_of(story.later["adjustment_factors"], instant, "known_at")
        return {
            (row["ex_session"].day, row["kind"]): (row["split_factor"], row["dividend_factor"])
            for row in rows
            if row["instrument"] == "AAA"
        }

    assert factors(january(10)) == {
        (5, "split"): (0.5, 1.0),
        (5, "dividend"): (1.0, 1 - 0.5 * 2 / 102.0),
        (9, "dividend"): (1.0, 1 - 0.25 / 53.0),
    }
    assert factors(january(18))[(5, "dividend")] == (1.0, 1 - 0.75 * 2 / 102.0)


def test_membership_is_read_as_it_was_known(story: Story) -> None:
    universe = story.later["universe"]
    assert of(as_of(universe, january(11)), "AAA", "member_from", "member_to") == [(FIRST, None)]
    assert of(as_of(universe, january(12)), "AAA", "member_from", "member_to") == [(FIRST, date(2024, 1, 10))]
    assert of(as_of(universe, january(5)), "BBB", "member_from") == []


def test_texts_count_from_the_first_decision_that_could_know_them(story: Story) -> None:
    items = january_rows(story.later["daily_sentiment"], "AAA", "n_items", "n_items_clean", "score_sum")
    assert 3 not in items, "news of the 3rd that was known on the 12th is the 12th's"
    assert items[4] == (1, 1, 0.5)
    assert items[5] == (1, 1, -0.5)
    assert items[8] == (2, 1, 0.0)  # the weekend's and the made-up one
    assert items[9] == (0, 0, 0.0)
    assert items[12] == (1, 1, 1.0)


def test_sentiment_ends_with_the_recorded_bars(story: Story) -> None:
    last_bar = max(row["session"] for row in story.later["prices"])
    assert max(row["session"] for row in story.later["daily_sentiment"]) == last_bar < LAST


def test_decayed_sentiment_is_what_the_decision_knew(story: Story) -> None:
    rows = january_rows(story.later["daily_sentiment"], "AAA", "decayed_score", "decayed_score_clean", "known_from")
    weight = [0.5 ** (age / 5) for age in range(10)]
    # On the 9th the weekend's score is still 1; from the 10th on it is 0.25, and as old as ever.
    clean_9 = (0.5 * weight[3] - 0.5 * weight[2] + 1.0 * weight[1]) / (weight[3] + weight[2] + weight[1])
    clean_10 = (0.5 * weight[4] - 0.5 * weight[3] + 0.25 * weight[2]) / (weight[4] + weight[3] + weight[2])
    all_9 = (0.5 * weight[3] - 0.5 * weight[2] + (1.0 - 1.0) * weight[1]) / (weight[3] + weight[2] + 2 * weight[1])
    assert rows[9] == (
        pytest.approx(all_9, abs=1e-15),
        pytest.approx(clean_9, abs=1e-15),
        XNYS.decision_utc(date(2024, 1, 9)),
    )
    assert rows[10][1] == pytest.approx(clean_10, abs=1e-15)


def test_the_panel_is_complete_and_knows_members_and_gaps(story: Story) -> None:
    first = january_rows(story.first["panel"], "AAA", "has_bar", "member", "close", "dividend")
    assert list(first) == [2, 3, 4, 5, 8, 9, 10, 11, 12]
    assert first[9] == (False, True, None, None)
    assert first[10] == (True, True, 54.0, 0.25)
    later = january_rows(story.later["panel"], "AAA", "has_bar", "member", "close", "dividend")
    assert later[9] == (True, True, 53.5, 0.25)
    assert [later[day][1] for day in (9, 10, 11, 16)] == [True, True, False, False]
    assert min(january_rows(story.later["panel"], "BBB", "close")) == 8


# -- a random history beside a brute force -------------------------------------------------------------------------


def visible(rows: list[Row], instant: datetime, *key: str) -> list[Row]:
    """The row of the greatest batch known by ``instant``, for each key: the definition, as slowly as it reads."""
    best: dict[tuple[Any, ...], Row] = {}
    for row in sorted((r for r in rows if r["known_at"] <= instant), key=lambda r: r["batch_id"]):
        best[tuple(row[column] for column in key)] = row
    return list(best.values())


def seen_bars(story: Story, instant: datetime) -> list[Row]:
    rows = story.random_rows["bars"] + story.random_rows["bar_verdicts"]
    return [row for row in visible(rows, instant, "instrument", "session") if not row.get("excluded")]


def worths(actions: list[Row], bars: list[Row], name: str) -> np.ndarray:
    """Of the spin-offs of ``name``, at the first close of two weeks; NaN where there is none."""
    array = np.zeros((len(DAYS), 1))
    for action in (one for one in actions if (one["instrument"], one["kind"]) == (name, "spin_off")):
        last = action["session"] + timedelta(days=13)
        closes = {bar["session"]: bar["close"] for bar in bars
                  if bar["instrument"] == action["detail"] and action["session"] <= bar["session"] <= last}  # fmt: skip
        array[DAYS.index(action["session"]), 0] = action["value"] * closes[min(closes)] if closes else np.nan
    return array


def grid(rows: list[Row], value: str, empty: float, name: str, day: str = "session") -> np.ndarray:
    array = np.full((len(DAYS), 1), empty)
    for row in rows:
        if row["instrument"] == name:
            array[DAYS.index(row[day]), 0] = row[value]
    return array


INSTANTS = [datetime(2024, 1, 3, 1, tzinfo=UTC) + timedelta(hours=31 * step) for step in range(40)]


@pytest.mark.parametrize("name", RANDOM_NAMES)
def test_prices_as_of_any_time_give_the_returns_of_the_raw_rows(story: Story, name: str) -> None:
    prices = [row for row in story.later["prices"] if row["instrument"] == name]
    for instant in INSTANTS:
        bars = seen_bars(story, instant)
        actions = visible(story.random_rows["corporate_actions"], instant, "instrument", "session", "kind")
        close = grid(bars, "close", np.nan, name)
        split = grid([a for a in actions if a["kind"] == "split"], "value", 1.0, name)
        dividend = grid([a for a in actions if a["kind"] == "dividend"], "value", 0.0, name)
        seen = as_of(prices, instant)
        assert len(seen) == np.count_nonzero(~np.isnan(close)), instant
        np.testing.assert_array_equal(grid(seen, "close", np.nan, name), close)
        found = total_returns(
            close,
            *(grid(seen, *column, name) for column in (("split_ratio", 1.0), ("dividend", 0.0), ("spin_off", 0.0))),
        )
        expected = total_returns(close, split, dividend, worths(actions, bars, name))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=str(instant))


@pytest.mark.parametrize("period", ["week", "month"])
def test_bars_of_periods_as_of_any_time_follow_from_the_prices_as_of_then(story: Story, period: str) -> None:
    bars = [row for row in story.later[f"bars_{period}ly"] if row["source"] == "r"]
    prices = [row for row in story.later["prices"] if row["source"] == "r"]
    compared = 0
    for instant in INSTANTS:
        expected: dict[tuple[str, date], list[Row]] = {}
        for row in sorted(as_of(prices, instant), key=lambda row: row["session"]):
            expected.setdefault((row["instrument"], first_day(row["session"], period)), []).append(row)
        ended = {key: rows for key, rows in expected.items() if period_end(key[1], period) <= instant}
        found = {(row["instrument"], row[period]): row for row in as_of(bars, instant)}
        assert found.keys() == ended.keys(), instant
        for key, rows in ended.items():
            # One share of a session is so many at the period's end.
            shares = np.cumprod([1.0, *(row["split_ratio"] for row in rows[:0:-1])])[::-1]
            row = found[key]
            assert (row["sessions"], row["close"]) == (len(rows), rows[-1]["close"])
            assert row["split_ratio"] == pytest.approx(np.prod([day["split_ratio"] for day in rows]), rel=1e-11)
            dividends = [day["dividend"] / later for day, later in zip(rows, shares, strict=True)]
            assert row["dividend"] == pytest.approx(sum(dividends), rel=1e-11)
            assert row["batch_id"] == max(day["batch_id"] for day in rows)
            compared += 1
    assert compared > 50


def first_day(session: date, period: str) -> date:
    return session - timedelta(days=session.weekday()) if period == "week" else session.replace(day=1)


def period_end(day: date, period: str) -> datetime:
    return XNYS.decision_utc(max(other for other in DAYS if first_day(other, period) == day))


def test_payment_factors_as_of_any_time_follow_from_the_raw_rows(story: Story) -> None:
    stored = [row for row in story.later["adjustment_factors"] if row["source"] == "r" and row["kind"] != "split"]
    compared = dict.fromkeys(("dividend", "spin_off"), 0)
    for instant in INSTANTS:
        bars = seen_bars(story, instant)
        actions = visible(story.random_rows["corporate_actions"], instant, "instrument", "session", "kind")
        expected = {}
        # Spin-offs after dividends: both together take off their sum.
        for action in sorted(actions, key=lambda one: one["kind"]):
            name, day = action["instrument"], action["session"]
            if action["kind"] == "split" or action["ts"] > instant:
                continue
            earlier = [bar for bar in bars if bar["instrument"] == name and bar["session"] < day]
            worth = (
                worths([action], bars, name)[DAYS.index(day), 0] if action["kind"] == "spin_off" else action["value"]
            )
            if earlier and not np.isnan(worth):
                last = max(earlier, key=lambda bar: bar["session"])
                splits = [
                    other["value"]
                    for other in actions
                    if (other["instrument"], other["kind"]) == (name, "split")
                    and last["session"] < other["session"] <= day
                ]
                dividend = expected.get((name, day, "dividend"), 1.0)
                paid = worth * float(np.prod(splits)) / last["close"]
                expected[name, day, action["kind"]] = (dividend - paid) / dividend
                compared[action["kind"]] += 1
        seen = {
            (row["instrument"], row["ex_session"], row["kind"]): row["dividend_factor"]
            for row in as_of(stored, instant, "known_at")
            if XNYS.open_utc(row["ex_session"]) <= instant
        }
        assert seen == pytest.approx(expected, abs=1e-12), instant
    assert min(compared.values()) > 50


def test_a_row_that_is_not_judged_yet_is_in_no_mart_and_is_not_lost(story: Story) -> None:
    def told(marts: dict[str, list[Row]]) -> tuple[list[float], list[float]]:
        prices = [row for row in marts["prices"] if row["source"] == "n" and row["session"] == DAYS[9]]
        factors = [row["value"] for row in marts["adjustment_factors"] if row["instrument"] == "GOOGL"]
        return [row["dividend"] for row in prices if row["instrument"] == "GOOGL"], factors

    assert told(story.first) == told(story.again) == ([], []), "neither built anew nor built on"
    assert told(story.later) == told(story.rebuilt) == ([5.0], [5.0])


# -- tickers that others had ---------------------------------------------------------------------------------------


def test_nothing_returns_from_one_bearer_of_a_ticker_to_the_next(story: Story) -> None:
    returns = {(row["instrument"], row["session"]) for row in story.later["returns"] if row["source"] == "n"}
    assert (
        returns
        == {
            *(("GOOG", day) for day in DAYS[1:9] if day != PASSED_ON),  # class A to the fifth day, then class C
            *(("GOOCV", day) for day in DAYS[3:5]),
            *(("GOOGL", day) for day in DAYS[6:10]),
            *((name, day) for name in ("OLD", "LATE") for day in (*DAYS[1:4], *REUSED[1:])),
            *(("SWAP", day) for day in DAYS[10:12]),
        }
    )
    assert ("LATE", REUSED[0]) in {(row["instrument"], row["session"]) for row in story.first["returns"]}
    names = {row["session"]: row["close"] for row in story.later["prices"]
             if (row["source"], row["instrument"]) == ("n", "GOOG")}  # fmt: skip
    assert [names[day] for day in DAYS[4:6]] == [1104.0, 552.0], "prices bear the ticker of their day"


@pytest.mark.parametrize("period", ["week", "month"])
def test_no_bar_of_a_period_is_of_two_bearers_of_a_ticker(story: Story, period: str) -> None:
    def bars(rows: list[Row], name: str, day: date) -> list[tuple[Any, ...]]:
        of_period = [row for row in rows if row[period] == first_day(day, period) and row["source"] == "n"]
        return of(of_period, name, "permanent_id", "sessions", "first_session", "close")

    mart = f"bars_{period}ly"
    first = DAYS[4] if period == "week" else DAYS[0]
    class_a = ("GOOG", DAYS.index(PASSED_ON) - DAYS.index(first), first, 1104.0)
    assert bars(story.first[mart], "GOOG", PASSED_ON) == [("GOOCV", 4, PASSED_ON, 555.0), class_a]
    assert bars(story.first[mart], "SWAP", SWAPPED) == [("SWAP", 4, DAYS[9], 23.0)], "nobody has told of the other yet"
    assert bars(story.later[mart], "SWAP", SWAPPED) == [("NEXT", 1, SWAPPED, 23.0), ("SWAP", 3, DAYS[9], 22.0)]
