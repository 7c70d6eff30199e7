"""Every source in every way of failing, through its real client over a real socket and into a real warehouse: once the
fault is over and the same is fetched again, what is stored is what a fetch without faults brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from chaos_server import Act, ChaosVendor, chaos, fails, html, says, truncated
from stands import SIDES, Delivery, Stand, stands

from octopus.core.errors import OctopusError
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.store import RAW_KEYS, Warehouse

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
    (source, fault) for source in SOURCES for fault in (*REFUSALS, *ODDITIES) if source != "files" or fault in ON_FILES
]

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
            connection.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def warehouse(one_database: str) -> Warehouse:
    """Without a row of any other case."""
    with psycopg.connect(one_database) as connection:
        for table in (*RAW_KEYS, "quarantine"):
            connection.execute(f"delete from raw.{table}")
    return Warehouse(one_database)


@pytest.fixture
def vendor() -> Iterator[ChaosVendor]:
    with chaos() as running:
        for route, (body, kind) in SIDES.items():
            running.plays(route, [], then=says(body, kind=kind))
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
