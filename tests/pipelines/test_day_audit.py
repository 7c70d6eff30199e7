"""A day's audit finds what an audit of all history finds, reading the last months of everyone and suspects whole.

Of who pays a dividend it reads the whole only where the payment may change a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from assets.audits import DayAudit
from assets.warehouse import verdicts
from octopus.core.sessions import Sessions
from octopus.market_data.coverage import Window
from octopus.market_data.schema import INSTRUMENTS_SCHEMA
from octopus.warehouse.quality import Kind
from resources.collection import collect
from resources.sources.base import MarketData
from resources.warehouse import coverage
from resources.warehouse.store import RAW_KEYS, Warehouse
from resources.warehouse.verdicts import decide
from tests.pipelines.conftest import House, make_house

XNYS = Sessions()
DAYS = XNYS.between(date(2021, 3, 1), date(2022, 7, 29))
NAMES = [f"S{number:02d}" for number in range(26)]
LAST = len(DAYS)
FIRST_AUDIT = int(np.searchsorted(DAYS, np.datetime64("2022-07-01")))
"""The first session of a month is read whole; the days after it are not."""

USUAL = {NAMES[number]: (FIRST_AUDIT + number - 9, 63) for number in (11, 12, 13, 14)}
"""Row of a payment and sessions between two, of those of whom nothing but that is new in the month."""

# The marts without restatements and actions, in the form that the audit reads: no dbt is needed to judge it.
MARTS = """
    create schema marts;
    create view marts.prices as
        select distinct on (source, instrument, session) source, instrument, session, open, high, low, close, volume,
            1.0::float8 as split_ratio, 0.0::float8 as dividend, 0.0::float8 as spin_off,
            'raw'::text as price_basis, known_at as known_from,
            null::timestamptz as known_to, batch_id
        from raw.bars order by source, instrument, session, batch_id desc;
    create view marts.universe as
        select distinct source, instrument, null::date as member_from, null::date as member_to,
            '-infinity'::timestamptz as known_from, null::timestamptz as known_to
        from raw.instruments;
    grant usage on schema marts to octopus_research;
    grant select on all tables in schema marts to octopus_research;
"""


def planted(seed: int) -> dict[str, np.ndarray]:
    """Closes and volumes of shape (T, N) with defects of many kinds, most of them in the audited month."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.012, (LAST, len(NAMES))), axis=0))
    volume = random.integers(900_000, 1_100_000, close.shape).astype(float)
    row = FIRST_AUDIT
    close[row + 3, 1] *= 100  # another unit for a day
    close[row + 6 :, 2] /= 2  # a split that nobody tells
    close[row - 2 : row + 12, 3] = close[row - 2, 3]  # frozen over the end of a month
    close[row + 5 : row + 13, 4] = np.nan  # a gap
    volume[row + 9 : row + 14, 5] = 0
    close[row + 8, 6] *= 1.35  # a spike
    close[row - 150, 7] *= 100  # long before
    close[row + 10 :, 8] = np.nan  # it ends
    close[: row - 60, 9] = np.nan  # it is listed late
    close[row - 30 : row - 20, 10] = close[row - 30, 10]  # found by the audit before
    close[row + 14, :] = np.where(np.arange(len(NAMES)) < 14, np.nan, close[row + 14, :])
    return {"close": np.round(close, 4), "volume": volume}


def bars_of(columns: dict[str, np.ndarray], start: int, stop: int) -> pl.DataFrame:
    closes = XNYS.closes_utc(DAYS[start:stop]).tz_localize(None).to_numpy()
    count = stop - start
    random = np.random.default_rng(start)
    close = columns["close"][start:stop].T.ravel()
    spread = 1 + random.uniform(0.001, 0.006, len(close))
    frame = pl.DataFrame(
        {
            "source": "files", "instrument": np.repeat(NAMES, count), "ts": np.tile(closes, len(NAMES)),
            "session": np.tile(DAYS[start:stop], len(NAMES)), "close": close,
            "open": np.round(close * random.uniform(0.998, 1.002, len(close)), 4),
            "high": np.round(close * spread, 4), "low": np.round(close / spread, 4),
            "volume": columns["volume"][start:stop].T.ravel(),
        }
    )  # fmt: skip
    frame = frame.with_columns(
        pl.col("ts").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        high=pl.max_horizontal("open", "high", "close"), low=pl.min_horizontal("open", "low", "close"),
    )  # fmt: skip
    frame = frame.with_columns(known_at=pl.col("ts") + timedelta(minutes=15), known_at_imputed=pl.lit(value=True))
    return frame.filter(pl.col("close").is_not_nan())


def payments() -> dict[str, dict[int, float]]:
    """Cash by instrument and row: some as ever; of others something comes out with a payment of the audited month."""
    row = FIRST_AUDIT
    paid = {name: dict.fromkeys(range(last % every, last + 1, every), 0.4) for name, (last, every) in USUAL.items()}
    for number, last, every in ((15, row + 4, 21), (16, row + 6, 63), (17, row + 4, 63), (18, row + 5, 42)):
        paid[NAMES[number]] = dict.fromkeys(range(last % every, last + 1, every), 0.4)
    del paid[NAMES[15]][row - 17]  # the next one shows the hole
    paid[NAMES[16]][row + 6] = 40.0  # in cents
    paid[NAMES[17]][row + 8] = 0.4  # twice
    paid[NAMES[18]][row - 16] = 0.4  # between two: the next one shows the beat
    paid[NAMES[19]] = {**dict.fromkeys(range(7, row, 63), 0.4), row + 7: 40.0}  # in cents, and told ahead
    return paid


AHEAD = NAMES[19]


def actions_of(start: int, stop: int) -> pl.DataFrame:
    """Dividends of sessions ``start`` to ``stop``, half open; those of `AHEAD` are all told with the first ones."""
    rows = [
        (name, row, cash)
        for name, paid in payments().items() for row, cash in paid.items()
        if (start == 0 if name == AHEAD else start <= row < stop)
    ]  # fmt: skip
    number = [row for _, row, _ in rows]
    opens = XNYS.opens_utc(DAYS[number]).tz_localize(None).to_numpy()
    return pl.DataFrame(
        {
            "source": "files", "instrument": [name for name, _, _ in rows], "session": DAYS[number], "ts": opens,
            "kind": "dividend", "value": [cash for _, _, cash in rows],
        }
    ).with_columns(
        pl.col("ts").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), detail=pl.lit(None, pl.String),
        known_at=pl.lit(XNYS.open_utc(DAYS[0].item()) if start == 0 else XNYS.open_utc(DAYS[stop - 1].item())),
        known_at_imputed=pl.lit(value=True),
    )  # fmt: skip


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("day-audit")
    (folder / "bars.csv").write_text("")
    changes = {
        "universe.universe.market_data": "files", "universe.universe.files": {"bars": str(folder / "bars.csv")},
        "universe.universe.symbols": {name: name for name in NAMES},
    }  # fmt: skip
    for made in make_house(server_url, folder, **changes):
        with made.warehouse.connect() as connection:
            connection.execute(MARTS)
        yield made


def instruments() -> pl.DataFrame:
    opened = XNYS.open_utc(DAYS[0].item())
    return pl.DataFrame({"instrument": NAMES}).with_columns(
        source=pl.lit("files"), ts=pl.lit(opened), name=pl.lit(None, pl.String), exchange=pl.lit("XNYS"),
        currency=pl.lit("USD"), asset_class=pl.lit("equity"), price_basis=pl.lit("raw"), lot_size=pl.lit(1.0),
        tick_size=pl.lit(None, pl.Float64), member_from=pl.lit(None, pl.Date), member_to=pl.lit(None, pl.Date),
        known_at=pl.lit(opened), known_at_imputed=pl.lit(value=True),
    )  # fmt: skip


def audited(house: House, row: int) -> tuple[pl.DataFrame, str | None, frozenset[str]]:
    """Audit the session in ``row`` as the assets do, and put it on record; findings, why all was read (if so), and who
    was otherwise."""
    store = Warehouse(house.settings.database_url)
    audit = DayAudit(house.settings, store, DAYS[row].item())
    why = audit.whole
    audit.look()  # as for verdicts, before the marts
    found, names = audit.rows()
    for label, rows in found.items():
        store.replace(
            "ops.quality_findings", {"source": label}, rows.with_columns(ingested_at=pl.lit(datetime.now(UTC)))
        )
    audit.done()
    return pl.concat(found.values()), why, names or frozenset()


def told(findings: pl.DataFrame) -> set[tuple[object, ...]]:
    return set(findings.select("kind", "instrument", "severity", "session_from", "session_to").iter_rows())


@pytest.mark.parametrize("seed", [5])
def test_days_one_by_one_find_what_one_audit_of_everything_finds(house: House, seed: int) -> None:
    with house.warehouse.connect() as connection:
        connection.execute("truncate ops.quality_audits, ops.quality_findings")
        for table in RAW_KEYS:
            connection.execute(f"truncate raw.{table}")
    columns = planted(seed)
    house.warehouse.append("instruments", instruments(), source="files")
    house.warehouse.append("bars", bars_of(columns, 0, FIRST_AUDIT - 1), source="files")
    house.warehouse.append("corporate_actions", actions_of(0, FIRST_AUDIT - 1), source="files")
    reasons, looked = [], []
    for row in range(FIRST_AUDIT, LAST, 2):
        house.warehouse.append("bars", bars_of(columns, row - 1, row + 1), source="files")
        house.warehouse.append("corporate_actions", actions_of(row - 1, row + 1), source="files")
        if row == FIRST_AUDIT + 8:  # a vendor restates an old bar: it is looked at again, and only it
            old = bars_of(columns, FIRST_AUDIT - 150, FIRST_AUDIT - 149).filter(pl.col("instrument") == NAMES[7])
            house.warehouse.append(
                "bars", old.with_columns(pl.col("open", "high", "low", "close") / 100), source="files"
            )
        by_day, why, names = audited(house, row)
        reasons.append(why)
        looked.append(names)
    assert reasons[0] == "the first audit"
    assert set(reasons[1:]) == {None}, "no later day of the month reads everything"
    with house.warehouse.connect() as connection:
        connection.execute("truncate ops.quality_audits, ops.quality_findings")
    assert not frozenset.union(*looked[:5]) & set(USUAL), "who pays as ever is not read whole"
    at_once, why, _ = audited(house, row)
    assert why == "the first audit"
    assert told(by_day) == told(at_once)
    kinds = set(at_once["kind"])
    expected = {Kind.UNIT_ERROR, Kind.MISSING_SPLIT, Kind.STALE_PRICE, Kind.CALENDAR_GAP, Kind.ENDED, Kind.LATE_LISTING}
    expected |= {Kind.MISSING_DIVIDEND, Kind.WRONG_DIVIDEND, Kind.PHANTOM_DIVIDEND}
    wrong = set(at_once.filter(pl.col("kind") == Kind.WRONG_DIVIDEND)["instrument"])
    assert {NAMES[16], AHEAD} <= wrong
    assert {kind.value for kind in expected} <= kinds


class Sends:
    """A vendor that sends the rows it is given."""

    name = "files"
    needs: tuple[str, ...] = ()

    def __init__(self, bars: pl.DataFrame, actions: pl.DataFrame) -> None:
        self.bars, self.actions = bars, actions

    def fetch(self, symbols: Sequence[str], start: date, end: date, *_: object) -> Iterator[MarketData]:
        asked = [frame.filter(pl.col("session").is_between(start, end)) for frame in (self.bars, self.actions)]
        yield MarketData(tuple(symbols), INSTRUMENTS_SCHEMA.to_frame(), *asked, [], "hash")


def paid_on(row: int) -> pl.DataFrame:
    """A dividend of one instrument that pays on no other day."""
    opened = XNYS.open_utc(DAYS[row].item())
    return pl.DataFrame(
        {
            "source": "files", "instrument": NAMES[21], "session": DAYS[row : row + 1], "ts": opened,
            "kind": "dividend", "value": 0.5, "detail": None, "known_at": opened, "known_at_imputed": True,
        },
        schema_overrides={"detail": pl.String},
    )  # fmt: skip


def test_what_a_vendor_withdraws_is_found_decided_about_and_over_when_it_is_sent_again(house: House) -> None:
    with house.warehouse.connect() as connection:
        for table in (*(f"raw.{name}" for name in RAW_KEYS), "ops.quality_audits", "ops.quality_findings"):
            connection.execute(f"truncate {table}")
    # A walk in which no move and the next happen to look like a bad bar; one of ten such walks has one.
    random, row = np.random.default_rng(4), FIRST_AUDIT + 3
    close = np.round(100 * np.exp(np.cumsum(random.normal(0, 0.012, (LAST, len(NAMES))), axis=0)), 4)
    sound = bars_of({"close": close, "volume": random.integers(9e5, 11e5, close.shape).astype(float)}, 0, LAST)
    house.warehouse.append("instruments", instruments(), source="files")
    house.warehouse.append("bars", sound.filter(pl.col("session") <= DAYS[row].item()), source="files")
    house.warehouse.append("corporate_actions", paid_on(row - 2), source="files")
    audited(house, row)

    def a_day(row: int, bars: pl.DataFrame, actions: pl.DataFrame) -> set[tuple[object, ...]]:
        """Collect seven sessions and judge them; what is said of the two instruments, as of the last one's decision."""
        session, now = DAYS[row].item(), XNYS.decision_utc(DAYS[row].item()) + timedelta(minutes=30)
        asked = coverage.read(house.warehouse, "files", NAMES, XNYS, now)
        window = Window(DAYS[row - 6].item(), tuple(NAMES))
        done = collect(house.warehouse, Sends(bars, actions), [window], session, asked, XNYS, now=now)
        assert done.stopped is None
        house.call(verdicts, str(session))
        found, why, _ = audited(house, row)
        assert why is None, "no day of these reads everyone"
        return told(found.filter(pl.col("instrument").is_in([NAMES[20], NAMES[21]])))

    def kept_out(table: str) -> list[dict[str, object]]:
        return house.warehouse.rows(f"select session, decision, excluded from raw.{table}")  # type: ignore[arg-type]

    gone, moved = DAYS[row - 1].item(), DAYS[row - 2].item()
    without = sound.filter((pl.col("instrument") != NAMES[20]) | (pl.col("session") != gone))
    first = a_day(row + 1, without, paid_on(row - 1))
    assert first == {
        (Kind.WITHDRAWN_BAR, NAMES[20], "warn", gone, gone),
        (Kind.WITHDRAWN_DIVIDEND, NAMES[21], "severe", moved, moved),
    }, "nor is a dividend that was moved a phantom"
    assert kept_out("action_verdicts") == [{"session": moved, "decision": "hold", "excluded": True}]
    assert kept_out("bar_verdicts") == [], "a warning is used until a person decides"
    (named,) = house.warehouse.rows("select finding_id from ops.quality_findings where kind = 'withdrawn_bar'")
    now = XNYS.decision_utc(DAYS[row + 1].item()) + timedelta(hours=1)
    decide(house.warehouse, named["finding_id"], "repair", XNYS, by="me", reason="no other has it", now=now)
    assert kept_out("bar_verdicts") == [{"session": gone, "decision": "repair", "excluded": True}]
    assert a_day(row + 2, without, paid_on(row - 1)) == first, "what stands is told again, and decided once"
    assert len(kept_out("action_verdicts")) == 1

    a_day(row + 3, sound, paid_on(row - 2))
    back = DAYS[row - 1].item()
    assert a_day(row + 4, sound, paid_on(row - 2)) == {(Kind.WITHDRAWN_DIVIDEND, NAMES[21], "severe", back, back)}
    newest = house.warehouse.rows(
        """
        select distinct on (session) session, kept_out from (
            select session, false as kept_out, batch_id from raw.bars where instrument = %(bar)s and session = %(gone)s
            union all select session, excluded, batch_id from raw.bar_verdicts
            union all select session, false, batch_id from raw.corporate_actions where session = %(moved)s
            union all select session, excluded, batch_id from raw.action_verdicts where session = %(moved)s
        ) version order by session, batch_id desc
        """,
        {"bar": NAMES[20], "gone": gone, "moved": moved},
    )
    assert newest == [{"session": moved, "kept_out": False}, {"session": gone, "kept_out": False}]
