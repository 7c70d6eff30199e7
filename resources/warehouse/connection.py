"""Connections to the warehouse, by role.

Belongs here: how a connection is opened and which role it acts in. Does not: statements.
"""

from __future__ import annotations

from enum import StrEnum

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from octopus.core.errors import OctopusError

CONNECT_TIMEOUT_SECONDS = 10


class Role(StrEnum):
    """Who acts: each role may write only its own schemas (migrations grant the rights)."""

    OWNER = "owner"
    """The connecting user itself: migrations and administration."""
    RESEARCH = "octopus_research"
    TRADER = "octopus_trader"
    READER = "octopus_reader"
    """People and dashboards: reads raw and marts, writes nothing."""


class WarehouseUnreachableError(OctopusError):
    """The database does not answer; the message names the host (never the password) and the remedy."""


def connect(url: str, role: Role = Role.OWNER, *, autocommit: bool = False) -> psycopg.Connection:
    """Open a connection that acts in ``role``, with the session's time zone UTC.

    Raises:
        WarehouseUnreachableError: nothing answers at ``url``.
    """
    try:
        return psycopg.connect(acting_as(url, role), autocommit=autocommit, connect_timeout=CONNECT_TIMEOUT_SECONDS)
    except psycopg.OperationalError as error:
        raise WarehouseUnreachableError(
            f"no database at {safe_address(url)}: {str(error).strip().splitlines()[-1]}; "
            "start it with `octopus up`, or check OCTOPUS_DATABASE_URL"
        ) from None


def acting_as(url: str, role: Role) -> str:
    """libpq's connection string of a session at ``url`` that acts in ``role``, with the time zone UTC."""
    acting = "" if role is Role.OWNER else f" -c role={role.value}"
    return make_conninfo(url, options=f"{_options(url)} -c timezone=UTC{acting}".strip())


def bounded(url: str, seconds: int) -> str:
    """libpq's connection string of ``url`` for who must not wait: no statement takes longer than ``seconds``.

    Half of that may pass in waiting for a lock; and the connection ends where the network is silent for so long.
    """
    limits = f"-c statement_timeout={seconds * 1000} -c lock_timeout={seconds * 500}"
    return make_conninfo(
        url,
        options=f"{_options(url)} {limits}".strip(),
        tcp_user_timeout=seconds * 1000,
        keepalives_idle=seconds,
        keepalives_interval=max(1, seconds // 4),
        keepalives_count=2,
    )


def _options(url: str) -> str:
    """The server's options that ``url`` names itself."""
    return str(conninfo_to_dict(url).get("options") or "")


def without_password(address: str) -> tuple[str, dict[str, str]]:
    """``address`` (a URL or libpq's connection string) for a client program's command line, which every user of the
    machine can read, and the variables that give it the password."""
    parts = conninfo_to_dict(address)
    password = parts.pop("password", None)
    shown = make_conninfo("", **{name: str(value) for name, value in parts.items()})
    return shown, {"PGPASSWORD": str(password)} if password else {}


def safe_address(url: str) -> str:
    """Host, port and database of ``url`` without user and password, for messages."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def dbt_environment(url: str) -> dict[str, str]:
    """Variables of dbt_project/profiles.yml for a libpq URL; over a unix socket the password stays empty."""
    parts = conninfo_to_dict(url)
    return {
        "OCTOPUS_DBT_HOST": str(parts.get("host") or "localhost"),
        "OCTOPUS_DBT_PORT": str(parts.get("port") or 5432),
        "OCTOPUS_DBT_USER": str(parts.get("user") or "postgres"),
        "OCTOPUS_DBT_PASSWORD": str(parts.get("password") or ""),
        "OCTOPUS_DBT_DBNAME": str(parts.get("dbname") or "octopus"),
    }


def sqlalchemy_url(url: str, driver: str = "psycopg2") -> str:
    """``url`` for SQLAlchemy with the driver named: a bare postgresql:// means another driver in another release."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.split('+')[0]}+{driver}://{rest}"
