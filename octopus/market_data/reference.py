"""What the user knows of instruments beside their source: members, renames, delistings, lots and ticks.

Belongs here: joining that to what a source tells. Does not: reading the files (resources/sources/reference.py), storing
(resources/collection.py), turning lists of constituents into stays (membership.py).

The user's word counts. A list of members is whole: whoever is not on it was no member, whatever the source says. An
action of the source that tells the same fact otherwise is refused, and kept in quarantine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from octopus.core.rejects import Reject, json_payload
from octopus.market_data.membership import SPANS_SCHEMA, ended_at_delistings
from octopus.market_data.schema import DETAILED_KINDS, INSTRUMENTS_SCHEMA, UTC_INSTANT

MEMBERS_SCHEMA = pl.Schema({**SPANS_SCHEMA, "known_at": UTC_INSTANT})
"""A stay and when it could be known; null: from its beginning."""

UNITS_SCHEMA = pl.Schema({"instrument": pl.String(), "lot_size": pl.Float64(), "tick_size": pl.Float64()})
"""One row for an instrument; a null is left to the source."""

ACTION_COLUMNS = pl.Schema({
    "instrument": pl.String(), "session": pl.Date(), "kind": pl.String(), "value": pl.Float64(), "detail": pl.String(),
    "known_at": UTC_INSTANT, "line": pl.Int64(),
})  # fmt: skip
"""An action as it was read (`schema.ACTION_KINDS`), with the line of its file."""

SAME_FACT_DAYS = 31
"""A rename, spin-off or delisting that a source tells so many days from the user's is the same one."""


@dataclass(frozen=True)
class Reference:
    """What the user brings.

    Attributes:
        members: `MEMBERS_SCHEMA`; None leaves membership to the source.
        actions: `ACTION_COLUMNS`. units: `UNITS_SCHEMA`.
        actions_file: that they stand in. digest: fingerprint of the files' bytes.
    """

    members: pl.DataFrame | None
    actions: pl.DataFrame
    units: pl.DataFrame
    actions_file: str
    digest: str

    def unasked(self, asked: Collection[str]) -> list[str]:
        """Members that are none of ``asked``, nor their former tickers."""
        members = [] if self.members is None else self.members["instrument"].to_list()
        return sorted({*members} - {*asked} - former_tickers(asked, self.actions).keys())


def former_tickers(names: Collection[str], actions: pl.DataFrame) -> dict[str, str]:
    """Tickers that are none of ``names`` and were renamed, in any number of steps, to one of them: which one.

    Args:
        actions: instrument, kind, detail; what is no ``symbol_change`` is passed over.
    """
    renames = actions.filter(pl.col("kind") == "symbol_change").select("instrument", "detail").unique().rows()
    found = {name: name for name in names}
    further = found
    while further:
        further = {old: found[new] for old, new in renames if new in found and old not in found}
        found |= further
    return {old: new for old, new in found.items() if old not in names}


def with_actions(told: pl.DataFrame, own: pl.DataFrame) -> tuple[pl.DataFrame, list[Reject]]:
    """The user's actions and those of the source that tell other facts; what is refused of the latter.

    Args:
        told, own: of `schema.ACTIONS_SCHEMA`. The same fact has instrument and kind in common and the session, or, of a
            rename, spin-off or delisting, a session within `SAME_FACT_DAYS`.
    """
    beside = own.select("instrument", "kind", *(pl.col(name).alias(f"_{name}") for name in _FACT))
    near = (pl.col("session") - pl.col("_session")).abs() <= pl.duration(days=SAME_FACT_DAYS)
    once = pl.col("kind").is_in([*DETAILED_KINDS, "delisting"])
    same = (pl.col("session") == pl.col("_session")) | (once & near)
    doubled = (
        told.with_row_index("_row").join(beside, on=["instrument", "kind"]).filter(same).unique("_row", keep="first")
    )
    kept = told.with_row_index("_row").filter(~pl.col("_row").is_in(doubled["_row"].implode())).drop("_row")
    differing = doubled.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"_{name}")) for name in _FACT))
    rejects = [
        Reject(
            "corporate_actions", row["instrument"],
            f"the reference file tells this {row['kind']} otherwise, and counts: session {row['_session']}, "
            f"value {row['_value']}, detail {row['_detail']}",
            json_payload({name: row[name] for name in told.columns}),
        )
        for row in differing.to_dicts()
    ]  # fmt: skip
    return pl.concat([kept, own]).sort("instrument", "session", "kind", maintain_order=True), rejects


def described(
    told: pl.DataFrame, stored: pl.DataFrame, reference: Reference, former: Mapping[str, str],
    delistings: pl.DataFrame, undated: datetime,
) -> pl.DataFrame:  # fmt: skip
    """Descriptions of some instruments with the user's members, lots and ticks, former tickers included.

    Args:
        told: what the source describes now, `schema.INSTRUMENTS_SCHEMA`.
        stored: current versions of descriptions on record of the same instruments, likewise: they stand for those that
            the source does not describe again, and what they say of membership beside it is withdrawn.
        former: `former_tickers` of them. delistings: instrument, session; each ends the stay that it falls into.
        undated: ``ts`` of a stay without a beginning.

    Returns:
        Rows of the schema, one for each key. A withdrawn stay, and one that never was, ends before it begins.
    """
    again = stored.filter(~pl.col("instrument").is_in(told["instrument"].implode()))
    current = pl.concat([told, again]).sort("ts", maintain_order=True)
    latest = current.unique("instrument", keep="last", maintain_order=True)
    latest = pl.concat([latest, _former(latest, former)])
    rows = current if reference.members is None else _stays(latest, reference.members, undated)
    ended = ended_at_delistings(rows.select(SPANS_SCHEMA.names()), delistings)
    rows = pl.concat([rows.drop("member_from", "member_to"), ended.drop("instrument")], how="horizontal")
    gone = stored.join(rows, on=["instrument", "ts"], how="anti").select("instrument", "ts", "known_at")
    withdrawn = gone.join(latest.drop("ts", "known_at"), on="instrument").with_columns(
        **_NO_STAY, known_at_imputed=pl.lit(value=True)
    )
    whole = pl.concat([rows.select(INSTRUMENTS_SCHEMA.names()), withdrawn.select(INSTRUMENTS_SCHEMA.names())])
    own = whole.join(reference.units, on="instrument", how="left", suffix="_own", maintain_order="left")
    return own.with_columns(
        pl.coalesce(f"{name}_own", name).alias(name) for name in ("lot_size", "tick_size")
    ).select(INSTRUMENTS_SCHEMA.names())  # fmt: skip


def _former(latest: pl.DataFrame, former: Mapping[str, str]) -> pl.DataFrame:
    """Descriptions of former tickers that have none of their own: those of what they became."""
    held = set(latest["instrument"])
    heirs = {old: new for old, new in former.items() if old not in held}
    frame = pl.DataFrame({"_old": list(heirs), "instrument": list(heirs.values())}, schema=_HEIRS)
    return frame.join(latest, on="instrument").with_columns(instrument="_old").select(latest.columns)


def _stays(latest: pl.DataFrame, members: pl.DataFrame, undated: datetime) -> pl.DataFrame:
    """A row for each stay; of who has none, its description without a stay."""
    stays = latest.drop("member_from", "member_to", "known_at").join(members, on="instrument")
    begun = pl.col("member_from").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    stays = stays.with_columns(ts=pl.coalesce(begun, pl.lit(undated).cast(UTC_INSTANT)))
    stays = stays.with_columns(
        known_at_imputed=pl.col("known_at").is_null(), known_at=pl.coalesce("known_at", "ts")
    )  # fmt: skip
    never = latest.join(members, on="instrument", how="anti").with_columns(**_NO_STAY)
    return pl.concat([stays.select(latest.columns), never])


_FACT = ("session", "value", "detail")
_HEIRS = {"_old": pl.String(), "instrument": pl.String()}
_NO_STAY = {
    "member_from": pl.col("ts").dt.date(),
    "member_to": pl.col("ts").dt.date() - pl.duration(days=1),
}
