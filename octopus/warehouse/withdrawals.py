"""What a vendor once sent and no longer sends: which rows, and the findings about them.

Belongs here: comparing an answer with what is stored of its range, and what is said of the difference. Does not:
reading and storing (resources/warehouse/withdrawals.py), deciding about rows (verdicts.py).

Only an answer that is whole withdraws anything: bars came, and nothing of the instrument was refused. More than
`MOST_AT_ONCE` rows of an instrument are one withdrawal of all of them, and as many instruments at once are one finding
about the source: a vendor that serves less than before corrects no row, and no row is kept out for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
import polars as pl

from octopus.core.rejects import Reject
from octopus.core.sessions import Sessions
from octopus.warehouse.defects.repair import drop, remove_action
from octopus.warehouse.quality import Finding, Kind, Repair, Severity

MOST_AT_ONCE = 10
"""So many rows of an instrument in one answer, or instruments before one decision, a vendor may correct one by one."""

BAR, BARS, ACTIONS = "bar", "bars", "actions"
"""Kinds beside those of actions: one bar; many of either."""

LACKING_SCHEMA = pl.Schema(
    {"instrument": pl.String(), "session": pl.Date(), "kind": pl.String(), "ts": pl.Datetime("us", "UTC")}
)
STANDING_SCHEMA = pl.Schema({**LACKING_SCHEMA, "session_to": pl.Date(), "rows": pl.Int64()})
"""Withdrawals in force: rows of raw.withdrawals by what they are about."""

_ROW = ["instrument", "session", "kind"]
_KIND_OF: Mapping[str, Kind] = {
    BAR: Kind.WITHDRAWN_BAR, "split": Kind.WITHDRAWN_SPLIT, "dividend": Kind.WITHDRAWN_DIVIDEND,
    "spin_off": Kind.WITHDRAWN_SPIN_OFF,
}  # fmt: skip
"""Of single rows; any other, a change of name or the end of an instrument, is a `WITHDRAWN_ACTION`."""
_PAYS_OR_SPLITS = frozenset({Kind.WITHDRAWN_SPLIT, Kind.WITHDRAWN_DIVIDEND, Kind.WITHDRAWN_SPIN_OFF})
"""What returns and adjusted prices are made of, and a verdict can keep out (verdicts.py)."""


@dataclass(frozen=True)
class Answer:
    """What came of a range, and for whom it is the whole of it.

    Attributes:
        bars: instruments of which no bar is missing. actions: likewise of their actions.
        rows: every row that came; columns instrument, session, kind.
    """

    bars: frozenset[str]
    actions: frozenset[str]
    rows: pl.DataFrame

    @classmethod
    def of(cls, asked: Sequence[str], bars: pl.DataFrame, actions: pl.DataFrame, rejects: Sequence[Reject]) -> Answer:
        """An empty answer is none; a row that was refused came, though nobody may know of which day it was."""
        told = frozenset(asked) & frozenset(bars["instrument"].unique())
        rows = [bars.select("instrument", "session", kind=pl.lit(BAR)), actions.select(_ROW)]
        refused = {table: _refused(told, rejects, table) for table in ("bars", "corporate_actions")}
        return cls(told - refused["bars"], told - refused["corporate_actions"], pl.concat(rows))


def _refused(told: frozenset[str], rejects: Sequence[Reject], table: str) -> frozenset[str]:
    names = {reject.instrument for reject in rejects if reject.table == table}
    return told if None in names else frozenset(name for name in names if name is not None)


def sent_again(standing: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Withdrawals of single rows, of `STANDING_SCHEMA`, that are among ``rows``."""
    return standing.join(rows, on=_ROW, how="semi")


def told(
    lacking: pl.DataFrame, standing: pl.DataFrame, again: pl.DataFrame, answer: Answer, start: date, end: date
) -> pl.DataFrame:
    """What an answer says that is not on record yet, of `STANDING_SCHEMA`: withdrawals, and those that are over.

    Args:
        lacking: stored rows of sessions ``start`` to ``end`` that are not in it, of `LACKING_SCHEMA`.
        standing: what is on record of these instruments. again: `sent_again`.
    """
    many = standing.filter(_is_many())
    known = pl.concat([standing.filter(~_is_many()).select(_ROW), _within(lacking, many).select(_ROW)])
    fresh = lacking.join(known, on=_ROW, how="anti").with_columns(of=_class_of())
    fresh = fresh.with_columns(count=pl.len().over("instrument", "of"))
    single = fresh.filter(pl.col("count") <= MOST_AT_ONCE).with_columns(session_to="session", rows=pl.lit(1))
    joined = (
        fresh.filter(pl.col("count") > MOST_AT_ONCE)
        .group_by("instrument", kind="of")
        .agg(session=pl.col("session").min(), ts=pl.col("ts").min(), session_to=pl.col("session").max(), rows=pl.len())
    )
    told_of = pl.when(pl.col("kind") == BARS).then(pl.col("instrument").is_in(list(answer.bars))).otherwise(
        pl.col("instrument").is_in(list(answer.actions))
    )  # fmt: skip
    asked = many.filter(told_of & (pl.col("session") >= start) & (pl.col("session_to") <= end))
    still = _within(lacking, asked).select("instrument", kind="of").unique()
    over = pl.concat([again, asked.join(still, on=["instrument", "kind"], how="anti")]).with_columns(rows=pl.lit(0))
    columns = STANDING_SCHEMA.names()
    return pl.concat([frame.select(columns).cast(STANDING_SCHEMA) for frame in (single, joined, over)])


def _is_many() -> pl.Expr:
    return pl.col("kind").is_in([BARS, ACTIONS])


def _class_of() -> pl.Expr:
    return pl.when(pl.col("kind") == BAR).then(pl.lit(BARS)).otherwise(pl.lit(ACTIONS))


def _within(lacking: pl.DataFrame, many: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``lacking`` that one of ``many`` is about, with ``of``, its kind."""
    spans = many.select("instrument", of="kind", since="session", until="session_to")
    found = lacking.with_columns(of=_class_of()).join(spans, on=["instrument", "of"])
    return found.filter(pl.col("session").is_between("since", "until")).drop("since", "until")


@dataclass(frozen=True)
class Withdrawal:
    """One withdrawal in force, with what stood.

    Attributes:
        kind: of the row, or `BARS` or `ACTIONS`. session, session_to: of the first and the last row.
        rows: how many. seen: when it could first count. stored: when the row came as it stands.
        values: its fields; none where they are many.
        moved_to: session near it on which the same stands.
    """

    instrument: str
    kind: str
    session: date
    session_to: date
    rows: int
    seen: datetime
    stored: datetime | None
    values: Mapping[str, Any]
    moved_to: date | None

    @property
    def is_single(self) -> bool:
        return self.kind not in (BARS, ACTIONS)


def findings(standing: Sequence[Withdrawal], clock: Sessions) -> list[Finding]:
    """A finding for each withdrawal; of more than `MOST_AT_ONCE` instruments before one decision, one for all."""
    found = []
    for group in _at_once(standing, clock):
        if len({one.instrument for one in group}) > MOST_AT_ONCE:
            found.append(_of_source(group))
        else:
            found += [_of_row(one) if one.is_single else _of_history(one) for one in group]
    return found


def single_actions(found: Sequence[Finding]) -> pl.DataFrame:
    """Splits and dividends that a vendor has withdrawn one by one; columns instrument, session, kind."""
    kinds = {Kind.WITHDRAWN_SPLIT: "split", Kind.WITHDRAWN_DIVIDEND: "dividend"}
    rows = [(one.instrument, one.session_from, kinds[one.kind]) for one in found if one.kind in kinds]
    return pl.DataFrame(rows, schema={"instrument": pl.String, "session": pl.Date, "kind": pl.String}, orient="row")


def _at_once(standing: Sequence[Withdrawal], clock: Sessions) -> Iterator[list[Withdrawal]]:
    """Bars and actions by the decision that they count from."""
    if not standing:
        return
    sessions = clock.session_of(pd.DatetimeIndex([one.seen for one in standing]))
    groups: dict[tuple[object, bool], list[Withdrawal]] = {}
    for one, session in zip(standing, sessions.tolist(), strict=True):
        groups.setdefault((session, one.kind in (BAR, BARS)), []).append(one)
    yield from groups.values()


def _of_source(group: Sequence[Withdrawal]) -> Finding:
    names, rows = sorted({one.instrument for one in group}), sum(one.rows for one in group)
    what = "bars" if group[0].kind in (BAR, BARS) else "corporate actions"
    return Finding(
        Kind.WITHDRAWN_HISTORY, Severity.SEVERE, None,
        min(one.session for one in group), max(one.session_to for one in group),
        {"field": what, "rows": rows, "instruments": len(names), "names": names[:MOST_AT_ONCE]},
        f"{rows:,} {what} of {len(names):,} instruments are not sent any more, all at once; they are used as they are",
        "look whether the service is at fault and ingest these days again; if it serves less from now on, "
        "compare with another source",
        seen=max(one.seen for one in group),
    )  # fmt: skip


def _of_history(one: Withdrawal) -> Finding:
    what = "bars" if one.kind == BARS else "corporate actions"
    return Finding(
        Kind.WITHDRAWN_HISTORY, Severity.WARN, one.instrument, one.session, one.session_to,
        {"field": what, "rows": one.rows},
        f"{one.rows:,} {what} of {one.instrument} are not sent any more, all at once; they are used as they are",
        "ingest these days again; if the vendor serves less history from now on, what is stored is all there is",
        seen=one.seen,
    )  # fmt: skip


def _of_row(one: Withdrawal) -> Finding:
    kind = _KIND_OF.get(one.kind, Kind.WITHDRAWN_ACTION)
    is_acted_on = kind in _PAYS_OR_SPLITS
    moved = f"; the same stands on {one.moved_to} now" if one.moved_to else ""
    what = f"{one.kind.replace('_', ' ')} of {one.session}"
    stood = {
        "stood": one.values, "stored": None if one.stored is None else one.stored.isoformat(),
        "moved_to": None if one.moved_to is None else str(one.moved_to),
    }  # fmt: skip
    return Finding(
        kind, Severity.SEVERE if is_acted_on else Severity.WARN, one.instrument, one.session, one.session, stood,
        f"the {what} of {one.instrument} is not sent any more{moved}",
        f"{_REMEDY[kind]}; when it is sent again, this ends by itself", seen=one.seen, repair=_repair(one, kind),
    )  # fmt: skip


_REMEDY: Mapping[Kind, str] = {
    Kind.WITHDRAWN_BAR: "leave it out if another source has none either",
    Kind.WITHDRAWN_SPLIT: "take it out unless another source has it",
    Kind.WITHDRAWN_DIVIDEND: "take it out unless another source has it",
    Kind.WITHDRAWN_SPIN_OFF: "take it out unless another source has it",
    Kind.WITHDRAWN_ACTION: "it is used as it stands, and nothing can be decided about it: look whether another source "
    "has it",
}


def _repair(one: Withdrawal, kind: Kind) -> Repair | None:
    if kind is Kind.WITHDRAWN_BAR:
        return {**drop(str(one.session), str(one.session)), "instrument": one.instrument}
    if kind in _PAYS_OR_SPLITS:
        return {**remove_action(one.kind, str(one.session), one.values["value"]), "instrument": one.instrument}
    return None
