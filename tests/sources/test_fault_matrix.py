"""Every source in every way of failing, through its real client over a real socket and into a real warehouse: once the
fault is over and the same is fetched again, what is stored is what a fetch without faults brings. What a vendor moves
or takes back is told, and stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from chaos_server import Act, ChaosVendor, fails, html, says, truncated
from stands import FIVE, LATER, SIDES, Delivery, Stand, stands, vendors

from octopus.core.errors import OctopusError
from octopus.core.sessions import Sessions
from octopus.market_data.coverage import Window
from resources.collection import collect
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse import coverage, withdrawals
from resources.warehouse.store import RAW_KEYS, Warehouse
from tests.conftest import leave

REFUSALS: dict[str, Callable[[Stand], Act]] = {
    "429": lambda _stand: fails(429, Retry_After="1"),
    "500": lambda _stand: fails(500),
    "truncated": lambda stand: truncated(stand.body(stand.records)),
    "html": lambda _stand: html(),
}
"""Faults that leave no answer to read: an error of one line, and nothing is stored."""
ODDITIES: dict[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
    "empty": lambda _records: [],
    "duplicate": lambda records: [*records, *records],
    "reordered": lambda records: records[::-1],
    "late": lambda records: records[1:],
}
"""Faults that can be read: what the vendor sends of its records; ``late`` holds back the oldest."""
ON_FILES = {"html", "truncated", *ODDITIES}
SOURCES = sorted(stands(Path(), Path()))
CASES = [
    (source, fault)
    for source in SOURCES for fault in (*REFUSALS, *ODDITIES) if not source.startswith("files") or fault in ON_FILES
]  # fmt: skip
OF_BARS = sorted(name for name, stand in stands(Path(), Path()).items() if stand.on is not None)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def one_database(server_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for all cases: to make one for each takes longer than the cases themselves."""
    name = f"octopus_matrix_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{template_database}"')
        try:
            yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
        finally:
            leave(connection, name)


@pytest.fixture
def warehouse(one_database: str) -> Warehouse:
    """Without a row of any other case."""
    with psycopg.connect(one_database) as connection:
        for table in (*(f"raw.{table}" for table in (*RAW_KEYS, "quarantine")), "ops.coverage", "ops.holes"):
            connection.execute(f"delete from {table}")
    return Warehouse(one_database)


@pytest.fixture
def vendor() -> Iterator[ChaosVendor]:
    with vendors() as running:
        yield running


@pytest.fixture
def offer(vendor: ChaosVendor) -> Callable[[Stand, str], None]:
    """Let the vendor of a stand answer with a fault, or calmly with "", from now on."""

    def put(stand: Stand, fault: str) -> None:
        body = stand.body(ODDITIES[fault](stand.records) if fault in ODDITIES else stand.records)
        if stand.path is None:
            act = REFUSALS[fault](stand) if fault in REFUSALS else says(body, kind=stand.kind)
            vendor.plays(stand.route, [], then=act)
        elif fault == "html":
            stand.path.write_bytes(b"<html><body>Please sign in</body></html>")
        else:
            stand.path.write_bytes(body[: len(body) // 2] if fault == "truncated" else body)

    return put


@pytest.fixture(scope="module")
def calm_days() -> dict[str, list[Delivery]]:
    """What each source brings without faults, once it was asked."""
    return {}


def store(warehouse: Warehouse, stand: Stand, brought: list[Delivery]) -> None:
    for delivery in brought:
        warehouse.append(delivery.table, delivery.frame, source=stand.source, rejects=delivery.rejects)


def held(warehouse: Warehouse, delivery: Delivery) -> list[dict[str, Any]]:
    """What is stored of the table that ``delivery`` is for, every version, without the stamps of the writer."""
    chosen = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, delivery.frame.columns))
    table = psycopg.sql.Identifier("raw", delivery.table)
    with warehouse.connect() as connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return in_order(cursor.execute(psycopg.sql.SQL("select {} from {}").format(chosen, table)).fetchall(), delivery)


def in_order(rows: list[dict[str, Any]], delivery: Delivery) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: [row[name] for name in RAW_KEYS[delivery.table]])


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_after_a_fault_nothing_is_lost_doubled_or_wrongly_dated(
    name, fault, vendor, offer, warehouse, calm_days, tmp_path, yfinance_cache
):
    stand = stands(tmp_path, yfinance_cache)[name]
    slept: list[float] = []
    access = Access(vendor.url, 2.0, Patience(attempts=2, base_s=0), sleep=slept.append)
    if name not in calm_days:
        offer(stand, "")
        calm_days[name] = stand.fetch(access)
    calm = calm_days[name]
    assert {delivery.table: delivery.frame.height for delivery in calm}[stand.table] == len(stand.records)
    assert not any(delivery.rejects for delivery in calm)

    offer(stand, fault)
    if fault in REFUSALS and (stand.path is None or fault == "html"):
        with pytest.raises(OctopusError) as told:
            stand.fetch(access)
        assert "\n" not in str(told.value)
        assert stand.path is not None or str(told.value).startswith(f"{stand.source}: ")
    else:
        store(warehouse, stand, stand.fetch(access))
    assert set(slept) <= ({1.0} if fault == "429" else {0.0}), "a wait that is asked for is kept"
    assert bool(slept) == (stand.path is None and fault in ("429", "500", "truncated"))

    offer(stand, "")
    store(warehouse, stand, stand.fetch(access))
    for delivery in calm:
        assert held(warehouse, delivery) == in_order(delivery.frame.to_dicts(), delivery)


@pytest.mark.parametrize("fault", ["moved", "withdrawn"])
@pytest.mark.parametrize("name", OF_BARS)
def test_what_a_vendor_moves_or_takes_back_stays_is_told_and_ends_when_it_is_sent_again(
    name, fault, vendor, warehouse, tmp_path, yfinance_cache
):
    stand = stands(tmp_path, yfinance_cache)[name]
    access = Access(vendor.url, 2.0, Patience(attempts=1))
    day, other = FIVE[2], FIVE[3]
    first = [record for record, session in zip(stand.records, FIVE, strict=True) if session != other]
    later = [*first[:2], *([stand.on(first[2], other)] if fault == "moved" else []), first[3]]
    events = SIDES["/v1/corporate-actions"][0]
    taken = {"moved": events.replace(str(day).encode(), str(other).encode()), "withdrawn": b'{"corporate_actions": {}}'}

    def collected(records, side, hours):
        if stand.path is None:
            vendor.plays(stand.route, [], then=says(stand.body(records), kind=stand.kind))
            vendor.plays("/v1/corporate-actions", [], then=says(side))
        else:
            stand.path.write_bytes(stand.body(records))
        now, clock = LATER + timedelta(hours=hours), Sessions()
        asked = coverage.read(warehouse, stand.source, [stand.symbol], clock, now)
        done = collect(
            warehouse, stand.make(access), [Window(FIVE[0], (stand.symbol,))], FIVE[-1], asked, clock, now=now
        )
        assert done.stopped is None
        return withdrawals.read(warehouse, stand.source, now)

    pays = stand.symbol == "AAPL" and stand.source != "files"
    gone = ["bar", "dividend"] if pays else ["bar"]
    assert collected(first, events, 0) == []
    told = collected(later, taken[fault], 1)
    assert [(one.kind, one.session) for one in told] == [(kind, day) for kind in gone]
    assert {one.moved_to for one in told} == {other if fault == "moved" else None}
    kept = warehouse.scalar("select count(*) from raw.bars where session = %s", [day])
    assert kept == 1, "nothing is deleted"
    told = collected(first, events, 2)
    assert [(one.kind, one.session) for one in told] == ([(kind, other) for kind in gone] if fault == "moved" else [])
    stored = warehouse.rows("select session, count(*) as n from raw.bars group by 1 order by 1")
    expected = {session: 2 if session == day else 1 for session in FIVE if session != other or fault == "moved"}
    assert {row["session"]: row["n"] for row in stored} == expected, "sent again, it is a version of its own"
