"""Backup and restore of everything that Octopus keeps: its three databases, MLflow's artifacts, the audit log's anchor.

Belongs here: making one archive and bringing it back, checked. Does not: what a restored database may do: its kill
switch and its approvals know by themselves that they were copied (resources/warehouse/order_store.py).

The archive is a tar file: ``manifest.json`` (what is in it, with SHA-256 and row counts), one custom-format dump of
each database, and the artifacts. The warehouse is counted in the very snapshot that is dumped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from octopus.core.errors import OctopusError
from resources.runtime.postgres import binary
from resources.warehouse.connection import Role, connect, safe_address, without_password

FORMAT = 1
DATABASES = ("octopus", "dagster", "mlflow")
ANCHOR = "audit.anchor"
KEYS = "audit.pub"
"""Public keys that the anchor's checkpoints are trusted by. The key that signs is not copied: a restored house has its
own."""
ARTIFACTS = "artifacts"
_MANIFEST = "manifest.json"
_SYSTEM = r"^(pg_|information_schema$|_?timescaledb)"
"""Schemas that belong to the server or to TimescaleDB."""


class BackupError(OctopusError):
    """A backup or a restore that was not done; nothing was changed unless the message says so."""


@dataclass(frozen=True)
class Place:
    """What is backed up, or where it is restored to.

    Attributes:
        urls: of the databases in `DATABASES`. home: data folder, with MLflow's artifacts and the audit log's anchor.
    """

    urls: Mapping[str, str]
    home: Path

    @property
    def artifacts(self) -> Path:
        return self.home / "mlflow" / "artifacts"

    @property
    def anchor(self) -> Path:
        return self.home / ANCHOR


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        made_at: ISO 8601, UTC. revision: of the schema. timescaledb: version of the extension or None.
        tables: rows of the warehouse by schema.table. files: SHA-256 by name in the archive.
        artifacts_uri: where MLflow's artifacts were, for the addresses that are stored in the databases.
    """

    format: int
    made_at: str
    revision: str
    server: str
    timescaledb: str | None
    tables: dict[str, int]
    files: dict[str, str]
    artifacts_uri: str


def backup(place: Place, target: Path, now: datetime) -> Manifest:
    """Write everything to ``target``, which must not exist; a crash leaves no half archive under that name.

    Raises:
        BackupError: ``target`` exists, or a database cannot be dumped.
    """
    if target.exists():
        raise BackupError(f"{target} exists: name another file, or move it away first")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _workshop(target.parent) as folder:
        with connect(place.urls["octopus"]) as connection:
            connection.execute("set transaction isolation level repeatable read, read only")
            (snapshot,) = connection.execute("select pg_export_snapshot()").fetchone() or ("",)
            _dump(place.urls["octopus"], folder / "octopus.dump", snapshot)
            tables, facts = _counts(connection), _facts(connection)
        for name in DATABASES[1:]:
            _dump(place.urls[name], folder / f"{name}.dump")
        for name in (ANCHOR, KEYS):
            if (place.home / name).exists():
                shutil.copy2(place.home / name, folder / name)
        if place.artifacts.exists():
            shutil.copytree(place.artifacts, folder / ARTIFACTS)
        files = {str(path.relative_to(folder)): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        manifest = Manifest(
            FORMAT, now.isoformat(), facts["revision"], facts["server"], facts["timescaledb"], tables, files,
            place.artifacts.as_uri(),
        )  # fmt: skip
        (folder / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=1))
        draft = folder.with_suffix(".tar")
        with tarfile.open(draft, "w") as archive:
            for path in (folder / _MANIFEST, *(folder / name for name in files)):
                archive.add(path, str(path.relative_to(folder)))
        draft.replace(target)
    return manifest


def restore(place: Place, source: Path, *, force: bool = False) -> Manifest:
    """Bring an archive back into empty databases; trading in them starts halted, approvals of before are void.

    Args:
        force: replace databases that hold something, and the artifacts and the anchor that are there.

    Raises:
        BackupError: the archive is damaged or the target is not empty (nothing was changed), or a dump cannot be
            loaded (the message says that the target is incomplete).
    """
    with _workshop(place.home) as folder:
        manifest = _unpack(source, folder)
        if not force:
            _require_empty(place)
        for name in DATABASES:
            if force:
                _recreate(place.urls[name])
            _load(place.urls[name], folder / f"{name}.dump", manifest.timescaledb if name == "octopus" else None)
        _place_files(place, folder)
    _rebase_addresses(place, manifest.artifacts_uri)
    with connect(place.urls["octopus"]) as connection:
        found = _counts(connection)
    wrong = sorted(name for name, rows in manifest.tables.items() if found.get(name) != rows)
    if wrong:
        raise BackupError(
            f"after the restore {', '.join(wrong[:5])} hold other numbers of rows than the archive says; the target is "
            "incomplete: restore again with --force"
        )
    return manifest


def read_manifest(source: Path) -> Manifest:
    """What an archive holds, without unpacking it."""
    try:
        with tarfile.open(source) as archive:
            member = archive.extractfile(_MANIFEST)
            content: dict[str, Any] = json.loads(member.read()) if member else {}
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise BackupError(f"{source} is no archive of `octopus db backup`: {error}; name the right file") from error
    if content.get("format") != FORMAT:
        raise BackupError(f"{source}: format {content.get('format')} is not {FORMAT}; use the release that wrote it")
    return Manifest(**content)


# -- inside: the archive ----------------------------------------------------------------------------------------------


@contextmanager
def _workshop(beside: Path) -> Iterator[Path]:
    """A private folder on the same file system, gone afterwards."""
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix=".backup-") as folder:
        inner = Path(folder) / "parts"
        inner.mkdir()
        yield inner


def _unpack(source: Path, folder: Path) -> Manifest:
    manifest = read_manifest(source)
    with tarfile.open(source) as archive:
        names = set(archive.getnames())
        for name, expected in manifest.files.items():
            path = (folder / name).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise BackupError(
                    f"{source}: {name} leads out of the archive; it was not written by `octopus db backup`"
                )
            # One named file after the other: nothing else that an archive may hold is written anywhere.
            held = archive.extractfile(name) if name in names else None
            if held is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with held, path.open("wb") as copy:
                    shutil.copyfileobj(held, copy)
            if held is None or _sha256(path) != expected:
                raise BackupError(f"{source}: {name} is missing or damaged; nothing was restored, use another archive")
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place_files(place: Place, folder: Path) -> None:
    shutil.rmtree(place.artifacts, ignore_errors=True)
    place.artifacts.parent.mkdir(parents=True, exist_ok=True)
    if (folder / ARTIFACTS).exists():
        shutil.copytree(folder / ARTIFACTS, place.artifacts)
    for name in (ANCHOR, KEYS):
        (place.home / name).unlink(missing_ok=True)
        if (folder / name).exists():
            shutil.copy2(folder / name, place.home / name)


# -- inside: the databases --------------------------------------------------------------------------------------------


def client_program(name: str, url: str) -> str:
    """A client program that is not older than the server: an older one refuses."""
    with connect(url, autocommit=True) as connection:
        server = connection.info.server_version // 10_000
    candidates = [str(binary(name))]
    if installed := shutil.which(name):
        candidates.append(installed)
    candidates += sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True)
    for candidate in candidates:
        answer = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False).stdout
        version = next((word for word in answer.split() if word[0].isdigit()), "0")
        if int(version.split(".")[0]) >= server:
            return candidate
    raise BackupError(
        f"the server is PostgreSQL {server} and no {name} of that release is here; install postgresql-client-{server}"
    )


def _run(program: str, url: str, *arguments: str) -> None:
    """Run a client program on ``url``; the password goes through the environment, where no other user sees it."""
    address, secret = without_password(url)
    environment = {**os.environ, "PGTZ": "UTC", **secret}
    command = [client_program(program, url), "--dbname", address, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line.lower()] or result.stderr.splitlines()
        raise BackupError(f"{program} of {safe_address(url)}: {(lines or ['no reason given'])[0]}")


def _dump(url: str, target: Path, snapshot: str | None = None) -> None:
    same_moment = (f"--snapshot={snapshot}",) if snapshot else ()
    _run("pg_dump", url, "--format=custom", "--no-owner", f"--file={target}", *same_moment)


def _load(url: str, dump: Path, timescaledb: str | None) -> None:
    with connect(url, autocommit=True) as connection:
        for role in set(Role) - {Role.OWNER}:
            exists = connection.execute("select from pg_roles where rolname = %s", [role.value]).fetchone()
            if exists is None:
                connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role.value)))
        if timescaledb:
            _prepare_timescale(connection, timescaledb)
    try:
        _run("pg_restore", url, "--no-owner", "--exit-on-error", str(dump))
    except BackupError as error:
        raise BackupError(
            f"{error}; the target is incomplete: mend the cause and restore again with --force"
        ) from error
    if timescaledb:
        with connect(url, autocommit=True) as connection:
            connection.execute("select timescaledb_post_restore()")


def _prepare_timescale(connection: psycopg.Connection, version: str) -> None:
    try:
        connection.execute(
            sql.SQL("create extension if not exists timescaledb version {}").format(sql.Literal(version))
        )
    except psycopg.Error as error:
        raise BackupError(
            f"the archive needs TimescaleDB {version} and this server lacks it ({str(error).splitlines()[0]}); "
            "install that version, then update it after the restore"
        ) from error
    connection.execute("select timescaledb_pre_restore()")


def _require_empty(place: Place) -> None:
    for name in DATABASES:
        with connect(place.urls[name]) as connection:
            held = _tables(connection)
        if held:
            raise BackupError(
                f"database {name} at {safe_address(place.urls[name])} holds {len(held)} tables; restore into an empty "
                "one, or say --force to replace what is there"
            )


def _recreate(url: str) -> None:
    parts = conninfo_to_dict(url)
    name = str(parts["dbname"])
    with connect(make_conninfo(url, dbname="postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _tables(connection: psycopg.Connection) -> list[tuple[str, str]]:
    rows = connection.execute(
        """
        select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname !~ %s order by 1, 2
        """,
        [_SYSTEM],
    ).fetchall()
    return [(schema, table) for schema, table in rows]


def _counts(connection: psycopg.Connection) -> dict[str, int]:
    counts = {}
    for schema, table in _tables(connection):
        query = sql.SQL("select count(*) from {}").format(sql.Identifier(schema, table))
        (counts[f"{schema}.{table}"],) = connection.execute(query).fetchone() or (0,)
    return counts


def _facts(connection: psycopg.Connection) -> dict[str, Any]:
    (revision,) = connection.execute("select version_num from public.alembic_version").fetchone() or ("",)
    (server,) = connection.execute("select current_setting('server_version')").fetchone() or ("",)
    extension = connection.execute("select extversion from pg_extension where extname = 'timescaledb'").fetchone()
    return {"revision": revision, "server": server, "timescaledb": extension[0] if extension else None}


def _rebase_addresses(place: Place, before: str) -> None:
    """Where the data folder moved, turn the artifacts' addresses in the databases to the new one."""
    after = place.artifacts.as_uri()
    if after == before:
        return
    for name in ("mlflow", "octopus"):
        with connect(place.urls[name]) as connection:
            columns = connection.execute(
                """
                select table_schema, table_name, column_name from information_schema.columns
                join information_schema.tables using (table_schema, table_name)
                where table_type = 'BASE TABLE' and data_type in ('text', 'character varying')
                  and table_schema in ('public', 'models')
                """
            ).fetchall()
            change = sql.SQL("update {table} set {column} = %s || substr({column}, %s) where starts_with({column}, %s)")
            for schema, table, column in columns:
                names = {"table": sql.Identifier(schema, table), "column": sql.Identifier(column)}
                connection.execute(change.format(**names), [after, len(before) + 1, before])
