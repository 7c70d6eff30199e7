"""Backup and restore on a real server: everything comes back, nothing trades until a person says so."""

from __future__ import annotations

import json
import tarfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from octopus.core.orders import TradingState
from resources.warehouse import backup as archive
from resources.warehouse.audit_log import AuditLog, verify
from resources.warehouse.backup import BackupError, Place
from resources.warehouse.connection import connect
from resources.warehouse.migrate import migrate
from resources.warehouse.order_store import OrderStore
from tests.pipelines.conftest import url_of

NOW = datetime(2026, 1, 2, 22, tzinfo=UTC)


@pytest.fixture
def places(server_url: str, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """A house with something in it, and an empty one beside it on the same server."""
    with psycopg.connect(server_url, autocommit=True) as server:
        try:
            archive.client_program("pg_dump", server_url)
        except BackupError as error:
            pytest.skip(str(error))
        made = []
        for side in ("old", "new"):
            names = {name: f"octopus_{name}_{uuid.uuid4().hex[:10]}" for name in archive.DATABASES}
            for name in names.values():
                server.execute(f'create database "{name}"')
            made.append(Place({key: url_of(server_url, name) for key, name in names.items()}, tmp_path / side))
        yield made[0], made[1]
        for place in made:
            for url in place.urls.values():
                server.execute(f'drop database if exists "{conninfo_to_dict(url)["dbname"]}" with (force)')


@pytest.fixture
def saved(places: tuple[Place, Place], tmp_path: Path) -> Path:
    old = places[0]
    migrate(old.urls["octopus"])
    old.artifacts.mkdir(parents=True)
    (old.artifacts / "model.bin").write_bytes(b"trees")
    with OrderStore.opened(old.urls["octopus"]) as store:
        store.open_account("paper", "test", "opened", NOW)
        store.drain_outbox(AuditLog(old.urls["octopus"], old.anchor))
    with connect(old.urls["octopus"]) as connection:
        connection.execute(
            "insert into raw.bars select 's', 'A', t, t::date, null, null, null, 1.5, null, t, true, t, 1 "
            "from generate_series('2020-01-01'::timestamptz, '2022-12-31', '1 day') t"
        )
        connection.execute(
            "insert into models.walk_forward_folds values ('m', 'f', 1, now(), now(), now(), now(), null, %s)",
            [f"{old.artifacts.as_uri()}/1/folds/001.bin"],
        )
    with connect(old.urls["mlflow"]) as connection:
        connection.execute("create table runs (run_uuid text, artifact_uri varchar(200))")
        connection.execute("insert into runs values ('r', %s)", [f"{old.artifacts.as_uri()}/1"])
    target = tmp_path / "backup.tar"
    archive.backup(old, target, NOW)
    return target


def test_everything_comes_back_and_trading_is_halted(places: tuple[Place, Place], saved: Path) -> None:
    old, new = places
    made = archive.restore(new, saved)
    assert made.tables["raw.bars"] == 1096
    assert made.made_at == NOW.isoformat()
    with OrderStore.opened(old.urls["octopus"]) as store:
        assert store.trading_status("paper").state is TradingState.ACTIVE
    with OrderStore.opened(new.urls["octopus"]) as store:
        status = store.trading_status("paper")
    assert status.state is TradingState.HALTED
    assert "octopus resume" in status.reason
    assert verify(new.urls["octopus"], new.anchor).ok
    assert (new.artifacts / "model.bin").read_bytes() == b"trees"
    with connect(new.urls["mlflow"]) as connection:
        assert connection.execute("select artifact_uri from runs").fetchone() == (f"{new.artifacts.as_uri()}/1",)
    with connect(new.urls["octopus"]) as connection:
        (address,) = connection.execute("select artifact from models.walk_forward_folds").fetchone() or ("",)
        assert address.startswith(new.artifacts.as_uri())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("set role octopus_research; delete from raw.bars")
    migrate(new.urls["octopus"])


def test_a_target_that_holds_something_is_only_replaced_by_force(places: tuple[Place, Place], saved: Path) -> None:
    old, _ = places
    with connect(old.urls["octopus"]) as connection:
        connection.execute(
            "insert into raw.bars values ('s', 'B', now(), now(), null, null, null, 2, null, now(), true, now(), 2)"
        )
    with pytest.raises(BackupError, match=r"octopus_.* holds \d+ tables.*--force"):
        archive.restore(old, saved)
    with connect(old.urls["octopus"]) as connection:
        assert connection.execute("select count(*) from raw.bars").fetchone() == (1097,)
    archive.restore(old, saved, force=True)
    with connect(old.urls["octopus"]) as connection:
        assert connection.execute("select count(*) from raw.bars").fetchone() == (1096,)
    with OrderStore.opened(old.urls["octopus"]) as store:
        assert store.trading_status("paper").state is TradingState.HALTED, "the same server, and yet another database"


def test_a_damaged_archive_restores_nothing(places: tuple[Place, Place], saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    with tarfile.open(saved) as held:
        member = held.getmember("octopus.dump")
    content[member.offset_data + member.size // 2] ^= 1
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(content)
    with pytest.raises(BackupError, match=r"octopus\.dump is missing or damaged; nothing was restored"):
        archive.restore(places[1], damaged)
    with connect(places[1].urls["octopus"]) as connection:
        assert connection.execute("select to_regclass('raw.bars')").fetchone() == (None,)
    (tmp_path / "text.tar").write_text(json.dumps({}))
    with pytest.raises(BackupError, match="is no archive"):
        archive.restore(places[1], tmp_path / "text.tar")


def test_a_backup_overwrites_nothing(places: tuple[Place, Place], saved: Path) -> None:
    with pytest.raises(BackupError, match="name another file"):
        archive.backup(places[0], saved, NOW)
    assert [path.name for path in saved.parent.glob(".backup-*")] == []
