"""Reference files: what the user knows of instruments beside any source (config/universe.yaml, universe.reference).

Belongs here: what the files' columns mean, refusing what is wrong in them, and joining them to a part of a fetch. Does
not: reading tables (tables.py), the rules of joining (octopus/market_data/reference.py), storing.

The files' form is that of tables.py, as the source ``files`` has it; docs/data.md describes their columns. A wrong line
stops the collection before anybody is asked: a stay or a rename that is passed over changes what is traded.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from octopus.core.errors import ConfigError, OctopusError
from octopus.core.ids import fingerprint
from octopus.core.rejects import Reject, Rule, split_rejects
from octopus.core.sessions import FIRST_SESSION, Calendars, Sessions
from octopus.market_data.identifiers import spans_of_actions
from octopus.market_data.membership import membership_spans
from octopus.market_data.reference import (
    ACTION_COLUMNS,
    MEMBERS_SCHEMA,
    UNITS_SCHEMA,
    Reference,
    described,
    former_tickers,
    with_actions,
)
from octopus.market_data.schema import UTC_INSTANT
from octopus.market_data.settle import settle_actions_by
from octopus.market_data.stamps import undated_listing
from octopus.market_data.validate import validate_actions
from resources.sources.base import MarketData
from resources.sources.files import ACTIONS
from resources.sources.tables import Form, placed, read_table

if TYPE_CHECKING:
    from resources.settings import ReferenceConfig

MEMBERS = Form(("instrument",), ("session", "member_from", "member_to", "known_at"), ("instrument",))
UNITS = Form(("instrument",), ("lot_size", "tick_size"), ("instrument",))
_FIRST = date.fromisoformat(FIRST_SESSION)


class ReferenceFileError(OctopusError):
    """Lines of reference files are wrong: each with its file, its line, the field and the value."""


def read_reference(files: ReferenceConfig, root: Path, sessions: Sessions) -> Reference | None:
    """The files that ``files`` names, a relative path counting from ``root``; None where it names none.

    Args:
        sessions: the universe's clock, by which a list of constituents counts.

    Raises:
        ConfigError: a file is missing, unreadable or lacks a column. ReferenceFileError: lines are wrong.
        IdentifierConflictError: a ticker would be had twice at once.
    """
    if not any((files.members, files.actions, files.instruments)):
        return None
    digest = hashlib.sha256()
    members, rejects = (None, []) if files.members is None else _members(root / files.members, sessions, digest)
    actions, bad = (
        _actions(root / files.actions, digest, sessions) if files.actions else (ACTION_COLUMNS.to_frame(), [])
    )
    units, wrong = _units(root / files.instruments, digest) if files.instruments else (UNITS_SCHEMA.to_frame(), [])
    refuse([*rejects, *bad, *wrong])
    names = pl.concat([actions["instrument"], actions.filter(pl.col("kind") == "symbol_change")["detail"]]).unique()
    spans_of_actions(actions, pl.DataFrame({"instrument": names, "listed": None}, schema_overrides={"listed": pl.Date}))
    return Reference(members, actions, units, files.actions.name if files.actions else "", digest.hexdigest()[:32])


def joined(
    part: MarketData, reference: Reference, source: str, stored: pl.DataFrame, turns: pl.DataFrame, sessions: Sessions
) -> MarketData:
    """``part`` with what ``reference`` tells of the instruments that it answers for.

    Args:
        stored: current versions of the source's descriptions. turns: its renames and delistings on record (instrument,
            session, kind, detail).

    Raises:
        ReferenceFileError: an action is of a day that is no session of its instrument's exchange.
    """
    told = [frame.select(turns.columns) for frame in (reference.actions, part.actions, turns)]
    former = former_tickers(part.asked, pl.concat(told))
    mine = pl.col("instrument").is_in([*part.asked, *former])
    held = stored.filter(mine)
    exchanges = dict(pl.concat([held, part.instruments]).select("instrument", "exchange").iter_rows())
    exchanges = {old: exchanges[new] for old, new in former.items() if new in exchanges} | exchanges
    own = reference.actions.filter(mine).with_columns(source=pl.lit(source))
    # A fact counts whenever it was, not only within the window that the source was asked for.
    acts, bad = settle_actions_by([own], _FIRST, date.max, Calendars(sessions, exchanges))
    refuse([placed(reject, Path(reference.actions_file)) for reject in bad])
    actions, refused = with_actions(part.actions, acts)
    ends = [frame.filter(pl.col("kind") == "delisting") for frame in (actions, turns.filter(mine))]
    delistings = pl.concat([frame.select("instrument", "session") for frame in ends])
    return replace(
        part,
        instruments=described(part.instruments, held, reference, former, delistings, undated_listing(sessions)),
        actions=actions,
        rejects=[*part.rejects, *refused],
        payload_hash=fingerprint(part.payload_hash, reference.digest),
    )


def _members(path: Path, sessions: Sessions, digest: hashlib._Hash) -> tuple[pl.DataFrame, list[Reject]]:
    rows, rejects = read_table(path, MEMBERS, "instruments", digest, days=("session", "member_from", "member_to"))
    has = {name for name in MEMBERS.optional if name in rows.columns}
    is_list = "session" in has
    if is_list is bool(has & {"member_from", "member_to"}):
        raise ConfigError(
            where=str(path), field="columns", value=", ".join(sorted(has)) or None,
            remedy="give stays (member_from, member_to), or lists of constituents (session), and not both",
        )  # fmt: skip
    if is_list:
        found, bad = split_rejects(
            rows, [Rule(pl.col("session").is_null(), "session is missing")], key=("line",), table="instruments"
        )
        return _of_lists(found, sessions), rejects + [placed(reject, path) for reject in bad]
    lacking = [pl.lit(None, kind).alias(name) for name, kind in MEMBERS_SCHEMA.items() if name not in rows.columns]
    before = pl.col("member_to").fill_null(date.max).shift(1).over("instrument")
    ordered = rows.with_columns(lacking).sort("instrument", "member_from", nulls_last=False, maintain_order=True)
    ordered = ordered.with_columns(_before=before, _line=pl.col("line").shift(1).over("instrument"))
    begins, ends = pl.col("member_from"), pl.col("member_to")
    found, bad = split_rejects(
        ordered,
        [
            Rule(ends < begins, pl.format("member_to {} is before member_from {}", ends, begins)),
            Rule(
                begins.fill_null(date.min) <= pl.col("_before"),
                pl.format("member_from {} is within the stay of line {}: end that one before", begins, pl.col("_line")),
            ),
        ],
        key=("line",), table="instruments",
    )  # fmt: skip
    return found.select(MEMBERS_SCHEMA.names()), rejects + [placed(reject, path) for reject in bad]


def _of_lists(lists: pl.DataFrame, sessions: Sessions) -> pl.DataFrame:
    """Stays from lists of constituents, each known from its first day."""
    if lists.is_empty():
        return MEMBERS_SCHEMA.to_frame()
    days = lists["session"].to_list()
    around = sessions.between(min(days) - timedelta(days=30), max(days) + timedelta(days=30))
    stays = membership_spans(lists, around)
    return stays.with_columns(known_at=pl.lit(None, UTC_INSTANT))


def _actions(path: Path, digest: hashlib._Hash, sessions: Sessions) -> tuple[pl.DataFrame, list[Reject]]:
    """Actions, each on a session once its instrument's calendar is known (`joined`)."""
    rows, rejects = read_table(path, ACTIONS, "corporate_actions", digest, numbers=("value",), days=("session",))
    lacking = [pl.lit(None, kind).alias(name) for name, kind in ACTION_COLUMNS.items() if name not in rows.columns]
    rows = rows.with_columns(lacking)
    midnight = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    dated = rows.with_columns(source=pl.lit(""), ts=midnight, known_at=pl.coalesce("known_at", midnight))
    _, bad = validate_actions(dated, sessions)
    return rows.select(ACTION_COLUMNS.names()), rejects + [placed(reject, path) for reject in bad]


def _units(path: Path, digest: hashlib._Hash) -> tuple[pl.DataFrame, list[Reject]]:
    rows, rejects = read_table(path, UNITS, "instruments", digest, numbers=("lot_size", "tick_size"))
    lacking = [pl.lit(None, kind).alias(name) for name, kind in UNITS_SCHEMA.items() if name not in rows.columns]
    rules = [
        Rule(~pl.col(name).is_finite() | (pl.col(name) <= 0), pl.format(f"{name} {{}} is not above 0", pl.col(name)))
        for name in ("lot_size", "tick_size")
    ]
    found, bad = split_rejects(rows.with_columns(lacking), rules, key=("instrument",), table="instruments")
    return found.select(UNITS_SCHEMA.names()), rejects + [placed(reject, path) for reject in bad]


def refuse(rejects: list[Reject]) -> None:
    if rejects:
        reasons = "\n".join(reject.reason for reject in rejects)
        raise ReferenceFileError(f"universe.reference of config/universe.yaml: correct these lines\n{reasons}")
