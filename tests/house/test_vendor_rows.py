"""What a vendor last sent: newest versions, and from which session an adjusted close was told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from octopus.core.sessions import Sessions
from resources.warehouse.prices import WarehousePrices
from resources.warehouse.store import Warehouse
from resources.warehouse.verdicts import judged, last_batch, vendor_bars, waiting

EXCHANGES = {"A": Sessions("XNYS"), "B": Sessions("XTKS")}
DAYS = [date(2020, 1, 6), date(2020, 1, 7)]
FETCHED = datetime(2020, 1, 8, 1, tzinfo=UTC)
"""Tokyo trades already, New York does not: there it is still the evening of the 7th."""


def rows(**columns: object) -> pl.DataFrame:
    same = {"source": "s", "known_at_imputed": False, **columns}
    told = [
        {"instrument": name, "ts": own.close_utc(day), "session": day, **same}
        for name, own in EXCHANGES.items()
        for day in DAYS
    ]
    return pl.DataFrame(told).with_columns(pl.col("ts").dt.cast_time_unit("us"))


def bars(close: float, known: timedelta) -> pl.DataFrame:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return rows(**prices, volume=1.0, known_at=None).with_columns(known_at=pl.col("ts") + known)


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    store = Warehouse(database_url)
    for exchange, own in ((own.exchange, own) for own in EXCHANGES.values()):
        days = [*DAYS, date(2020, 1, 8)]
        instants = {"open_utc": own.open_utc, "close_utc": own.close_utc, "decision_utc": own.decision_utc}
        calendar = {name: [at(day) for day in days] for name, at in instants.items()}
        store.insert_new("ops.sessions", pl.DataFrame({"exchange": exchange, "session": days, **calendar}))
    described = rows(name="n", currency="USD", asset_class="equity", price_basis="raw", lot_size=1.0, tick_size=0.01,
                     member_from=None, member_to=None, known_at=FETCHED - timedelta(days=30))  # fmt: skip
    described = described.unique("instrument", keep="first").with_columns(
        pl.col("member_from", "member_to").cast(pl.Date),
        exchange=pl.col("instrument").replace_strict({name: own.exchange for name, own in EXCHANGES.items()}),
    )
    store.append("instruments", described.drop("session"), source="s")
    store.append("bars", bars(10.0, timedelta(minutes=15)), source="s")
    return store


def test_the_newest_version_by_then_is_read_in_order(warehouse: Warehouse) -> None:
    restated = bars(11.0, timedelta(hours=1)).filter(pl.col("instrument") == "B", pl.col("session") == DAYS[0])
    warehouse.append("bars", restated, source="s", now=restated["known_at"].item())
    before = EXCHANGES["B"].close_utc(DAYS[0]) + timedelta(minutes=30)
    assert vendor_bars(warehouse, "s", before).select("instrument", "session", "close").rows() == [("B", DAYS[0], 10.0)]
    found = vendor_bars(warehouse, "s", FETCHED)
    assert found.select("instrument", "session", "close").rows() == [
        ("A", DAYS[0], 10.0), ("A", DAYS[1], 10.0), ("B", DAYS[0], 11.0), ("B", DAYS[1], 10.0)
    ]  # fmt: skip
    assert vendor_bars(warehouse, "s", FETCHED, since=DAYS[1])["close"].to_list() == [10.0, 10.0]
    judged = vendor_bars(warehouse, "s", FETCHED, stamped=False)
    assert judged.equals(found.select(judged.columns)), "without its stamps a bar is the same"


def test_an_adjusted_close_is_told_from_the_session_of_its_own_exchange(warehouse: Warehouse) -> None:
    warehouse.append("adjusted_closes", rows(adj_close=9.0, known_at=FETCHED), source="s")
    found = vendor_bars(warehouse, "s", FETCHED + timedelta(hours=1)).unique("instrument").sort("instrument")
    assert dict(found.select("instrument", "adj_as_of").iter_rows()) == {"A": DAYS[1], "B": date(2020, 1, 8)}


def test_nobody_trades_at_a_row_between_its_commit_and_its_verdict(warehouse: Warehouse) -> None:
    prices = WarehousePrices(warehouse, "s", EXCHANGES["A"])
    judged(warehouse, "s", last_batch(warehouse))
    assert prices.last_session() == DAYS[1]
    day, opened = date(2020, 1, 8), EXCHANGES["A"].open_utc(date(2020, 1, 8))
    closed = {"session": day, "ts": EXCHANGES["A"].close_utc(day), "known_at": EXCHANGES["A"].close_utc(day)}
    arrived = bars(1_000.0, timedelta()).head(1).with_columns(*(pl.lit(at).alias(name) for name, at in closed.items()))
    restated = bars(20.0, timedelta()).filter(pl.col("instrument") == "A", pl.col("session") == DAYS[1])
    warehouse.append("bars", pl.concat([arrived.cast(restated.schema), restated]), source="s")
    split = pl.DataFrame(
        {"source": "s", "instrument": "A", "ts": opened, "session": day, "kind": "split", "value": 2.0, "detail": None,
         "known_at": opened, "known_at_imputed": False}
    ).with_columns(pl.col("ts", "known_at").dt.cast_time_unit("us"), pl.col("detail").cast(pl.String))  # fmt: skip
    warehouse.append("corporate_actions", split, source="s")

    def told() -> tuple[object, ...]:
        bar, old = prices.bar("A", day), prices.bar("A", DAYS[1])
        actions = prices.actions(["A"], opened - timedelta(hours=1), opened)
        return bar and bar.close, old and old.close, prices.last_session(), prices.last_close("A", day), len(actions)

    assert told() == (None, 10, DAYS[1], 10, 0), "as before they came"
    judged(warehouse, "another", last_batch(warehouse))
    judged(warehouse, "s", last_batch(warehouse) - 1)
    assert told() == (1_000, 20, day, 1_000, 0), "the bars have been judged, the split after them has not"
    judged(warehouse, "s", last_batch(warehouse))
    assert told() == (1_000, 20, day, 1_000, 1)
    judged(warehouse, "s", 1)
    assert told() == (1_000, 20, day, 1_000, 1), "what was judged stays judged"


def test_what_waits_for_its_verdict_is_counted(warehouse: Warehouse) -> None:
    assert waiting(warehouse) == [], "where nobody judges nothing waits"
    judged(warehouse, "s", last_batch(warehouse))
    assert waiting(warehouse) == []
    restated = bars(11.0, timedelta(hours=1))
    warehouse.append("bars", restated, source="s")
    paid = rows(kind="dividend", value=0.5, detail=None, known_at=FETCHED).filter(pl.col("session") == DAYS[0])
    warehouse.append("corporate_actions", paid.with_columns(pl.col("detail").cast(pl.String)), source="s")
    told = {"source": "s", "bars": 4, "actions": 2, "sessions": 2, "first": DAYS[0], "last": DAYS[1]}
    assert waiting(warehouse) == [told]
    judged(warehouse, "s", last_batch(warehouse) - 1)
    assert waiting(warehouse) == [{**told, "bars": 0, "sessions": 1, "last": DAYS[0]}]
    judged(warehouse, "s", last_batch(warehouse))
    assert waiting(warehouse) == []
