"""What becomes of rows under a severe finding: kept out of the marts, repaired, or used as they are.

Belongs here: the rows that carry a verdict, from findings and the vendor's rows. Does not: finding (defects/), what a
repair does (defects/repair.py), storing (resources/warehouse/verdicts.py).

A verdict is a version of the vendor's row, never an edit: it holds until the vendor sends the row with other content,
or again after withdrawing it, and it is taken back by one more version with the vendor's own values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, get_args

import polars as pl

from octopus.core.errors import MissingDataError
from octopus.core.sessions import KeepsCalendars
from octopus.warehouse.defects.repair import apply_repair
from octopus.warehouse.quality import Finding, Kind, Repair, Severity, known_at

Decision = Literal["hold", "repair", "keep", "take_back"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
"""``hold`` keeps the rows out, ``repair`` applies what the finding proposes, ``keep`` uses them as they are;
``take_back`` ends any of these: the vendor's rows count again, and the policy leaves them alone."""

_INSTANT = pl.Datetime("us", "UTC")
_VALUES = ("open", "high", "low", "close", "volume")
_ROW = {"source": pl.String(), "instrument": pl.String(), "ts": _INSTANT, "session": pl.Date()}
_VERDICT = {
    "known_at": _INSTANT, "known_at_imputed": pl.Boolean(), "excluded": pl.Boolean(),
    "decision": pl.String(), "finding_id": pl.String(), "decided_by": pl.String(), "reason": pl.String(),
}  # fmt: skip
BAR_VERDICTS_SCHEMA = pl.Schema({**_ROW, **dict.fromkeys(_VALUES, pl.Float64()), **_VERDICT})
ACTION_VERDICTS_SCHEMA = pl.Schema(
    {**_ROW, "kind": pl.String(), "value": pl.Float64(), "detail": pl.String(), **_VERDICT}
)
"""Rows of raw.bar_verdicts and raw.action_verdicts: the vendor's columns, then what was decided, by whom and why."""

JUDGED_ACTIONS = ("split", "dividend", "spin_off")
"""Kinds of actions that a verdict can be about: what readers of the others make of them has no versions."""
_OF_ACTIONS = frozenset(
    {Kind.PHANTOM_SPLIT, Kind.MISDATED_SPLIT, Kind.PHANTOM_DIVIDEND, Kind.WRONG_DIVIDEND, Kind.MISDATED_DIVIDEND,
     Kind.MISSING_DIVIDEND, Kind.ADJUSTED_CLOSE, Kind.WITHDRAWN_SPLIT, Kind.WITHDRAWN_DIVIDEND, Kind.WITHDRAWN_SPIN_OFF,
     Kind.WITHDRAWN_ACTION}
)  # fmt: skip
"""Findings about an action: no bar is wrong."""
_OTHER_SCALE = frozenset({Kind.MISSING_SPLIT, Kind.WRONG_SPLIT, Kind.SCRAPE_SEAM})
"""Findings after which all older bars stand on another scale: a return across them would be false."""


@dataclass(frozen=True)
class Case:
    """One finding to decide on.

    Attributes:
        first, last: sessions, both inclusive. known_at: when its evidence was complete.
    """

    finding_id: str
    kind: Kind
    instrument: str
    first: date
    last: date
    repair: Repair | None
    known_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Case:
        """From a row of ops.quality_findings.

        Raises:
            MissingDataError: the finding is about the source as a whole, where there is no row to decide on.
        """
        if row["instrument"] is None:
            raise MissingDataError(
                f"finding {row['finding_id']} is about the whole source; change the source or its settings instead"
            )
        evidence = row["evidence"] if isinstance(row["evidence"], Mapping) else json.loads(row["evidence"])
        return cls(
            row["finding_id"], Kind(row["kind"]), row["instrument"], row["session_from"], row["session_to"],
            evidence.get("repair"), row["known_at"],
        )  # fmt: skip


def severe_cases(findings: Iterable[Finding], source: str, calendars: KeepsCalendars) -> list[Case]:
    """The findings that keep rows out unless the policy says otherwise."""
    return [
        Case(
            finding.finding_id(source), finding.kind, finding.instrument, finding.session_from, finding.session_to,
            finding.repair, known_at(finding, calendars),
        )
        for finding in findings
        if finding.severity is Severity.SEVERE and finding.instrument is not None
    ]  # fmt: skip


@dataclass(frozen=True)
class Verdicts:
    """Rows of `BAR_VERDICTS_SCHEMA` and of `ACTION_VERDICTS_SCHEMA`, one for each key."""

    bars: pl.DataFrame
    actions: pl.DataFrame


def policy_verdicts(
    cases: Sequence[tuple[Case, Decision]], bars: pl.DataFrame, actions: pl.DataFrame, calendars: KeepsCalendars
) -> Verdicts:
    """What the policy decides about rows that nobody has decided about yet.

    It is known since the finding's evidence was complete, and no earlier than the row: whoever replays the past finds
    the row kept out from when it would have been.

    Args:
        cases: each with what the policy says of its kind.
        bars, actions: the vendor's current rows as stored, bars with adj_close, each with
            ``decided``: its latest version is a verdict already.
    """
    found = [
        _decided(case, decision, bars, actions, calendars, "policy", "the configured policy", None)
        for case, decision in cases
        if decision != "keep"
    ]
    decided_bars, decided_actions = _decided_keys(bars, "instrument", "session"), _decided_keys(actions, *_ACTION_KEY)
    return Verdicts(
        _last(found, "bars", ("instrument", "session"), BAR_VERDICTS_SCHEMA).join(
            decided_bars, on=["instrument", "session"], how="anti", maintain_order="left"
        ),
        _last(found, "actions", _ACTION_KEY, ACTION_VERDICTS_SCHEMA).join(
            decided_actions, on=list(_ACTION_KEY), how="anti", maintain_order="left"
        ),
    )


def personal_verdict(
    case: Case, decision: Decision, bars: pl.DataFrame, actions: pl.DataFrame, calendars: KeepsCalendars,
    *, by: str, reason: str, now: datetime,
) -> Verdicts:  # fmt: skip
    """What a person decides about one finding, known from ``now`` on.

    Args:
        bars, actions: as `policy_verdicts` takes them, and actions that a verdict of this finding added.

    Raises:
        MissingDataError: the finding proposes no repair, is about a change of name or an instrument's end, or no stored
            row is under it.
    """
    if case.kind is Kind.WITHDRAWN_ACTION:
        raise MissingDataError(
            f"finding {case.finding_id} is about a change of name or the end of an instrument, which no decision keeps "
            "out: it says who an instrument is, also to the decisions and the books of before; look whether another "
            "source has it"
        )
    if decision == "repair" and case.repair is None:
        raise MissingDataError(
            f"finding {case.finding_id} ({case.kind.value}) proposes no repair; hold the rows, keep them, or ingest "
            "them again from a sound source"
        )
    found = _decided(case, decision, bars, actions, calendars, by, reason, now)
    if found.bars.is_empty() and found.actions.is_empty():
        raise MissingDataError(f"finding {case.finding_id}: no stored row is under it; nothing was decided")
    return found


def taken_back(
    case: Case, in_force: Verdicts, bars: pl.DataFrame, actions: pl.DataFrame, *, by: str, reason: str, now: datetime
) -> Verdicts:
    """The vendor's own rows again where verdicts of the finding are in force; an action that a repair added goes.

    Args:
        in_force: the finding's verdicts that no later one has replaced. bars, actions: the vendor's current rows.

    Raises:
        MissingDataError: no verdict of the finding is in force.
    """
    if in_force.bars.is_empty() and in_force.actions.is_empty():
        raise MissingDataError(f"finding {case.finding_id}: no decision is in force, so there is none to take back")
    own_bars = _vendors(in_force.bars, bars, ("instrument", "session"))
    own_actions = _vendors(in_force.actions, actions, _ACTION_KEY)
    return Verdicts(
        _stamped(own_bars, BAR_VERDICTS_SCHEMA, case, "take_back", by, reason, now),
        _stamped(own_actions, ACTION_VERDICTS_SCHEMA, case, "take_back", by, reason, now),
    )


_ACTION_KEY = ("instrument", "session", "kind")


def _vendors(in_force: pl.DataFrame, sent: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    again = sent.join(in_force, on=list(key), how="semi", maintain_order="left").with_columns(
        excluded=pl.lit(value=False)
    )
    never_sent = in_force.join(sent, on=list(key), how="anti", maintain_order="left").with_columns(
        excluded=pl.lit(value=True)
    )
    return pl.concat([again, never_sent], how="diagonal_relaxed")


def _decided_keys(rows: pl.DataFrame, *key: str) -> pl.DataFrame:
    """Keys of rows with a verdict."""
    return rows.filter("decided").select(key)


def _last(found: Sequence[Verdicts], part: str, key: Sequence[str], schema: pl.Schema) -> pl.DataFrame:
    """One row for each key: where two findings decide about a row, being kept out wins, then the later one."""
    frames = [getattr(one, part) for one in found]
    joined: pl.DataFrame = pl.concat([schema.to_frame(), *frames])
    return joined.sort("excluded", maintain_order=True).unique(list(key), keep="last", maintain_order=True)


def _decided(
    case: Case, decision: Decision, bars: pl.DataFrame, actions: pl.DataFrame, calendars: KeepsCalendars, by: str,
    reason: str, now: datetime | None,
) -> Verdicts:  # fmt: skip
    own = bars.filter(pl.col("instrument") == case.instrument).sort("session")
    acts = actions.filter(pl.col("instrument") == case.instrument)
    if decision == "repair" and case.repair is not None:
        changed, moved = _repaired(case.repair, own, acts, calendars)
    else:
        held = decision in ("hold", "repair")
        changed = own.filter(_bars_under(case)).with_columns(excluded=pl.lit(held))
        moved = acts.filter(_actions_under(case)).with_columns(excluded=pl.lit(held))
    told: Decision = "hold" if decision == "repair" and case.repair is None else decision
    return Verdicts(
        _stamped(changed, BAR_VERDICTS_SCHEMA, case, told, by, reason, now),
        _stamped(moved, ACTION_VERDICTS_SCHEMA, case, told, by, reason, now),
    )


def _stamped(
    rows: pl.DataFrame, schema: pl.Schema, case: Case, decision: Decision, by: str, reason: str, now: datetime | None
) -> pl.DataFrame:
    """Rows of ``schema``; without ``now`` a verdict is known since the finding's evidence was complete."""
    since = pl.max_horizontal("known_at", pl.lit(case.known_at).cast(_INSTANT))
    return (
        rows.with_columns(
            decision=pl.lit(decision), finding_id=pl.lit(case.finding_id), decided_by=pl.lit(by), reason=pl.lit(reason),
            known_at=since if now is None else pl.lit(now).cast(_INSTANT), known_at_imputed=pl.lit(now is None),
        )
        .select(schema.names())
        .cast(schema)
    )  # fmt: skip


def _bars_under(case: Case) -> pl.Expr:
    """Which bars of the instrument a finding keeps out: those that its repair would change, else those it names."""
    if case.kind in _OF_ACTIONS:
        return pl.lit(value=False)
    if case.kind in _OTHER_SCALE:
        return pl.col("session") < case.first
    spans = list(_spans(case.repair)) if case.repair is not None else []
    if not spans:
        return pl.col("session").is_between(case.first, case.last)
    under: pl.Expr = pl.any_horizontal(
        (pl.lit(value=True) if low is None else pl.col("session") >= low)
        & (pl.lit(value=True) if high is None else pl.col("session") <= high)
        for low, high in spans
    )
    return under


def _actions_under(case: Case) -> pl.Expr:
    """Which actions a finding keeps out: of its kind, on its sessions. A missing action has no row."""
    named = next((kind for kind in JUDGED_ACTIONS if case.kind.value.endswith(f"_{kind}")), None)
    if named is None or case.kind in (Kind.MISSING_SPLIT, Kind.MISSING_DIVIDEND, Kind.UNEVEN_SPLIT):
        return pl.lit(value=False)
    days = [case.first, case.last, *(day for span in _spans(case.repair or {}) for day in span if day is not None)]
    of_kind: pl.Expr = (pl.col("kind") == named) & pl.col("session").is_between(min(days), max(days))
    return of_kind


def _spans(repair: Repair) -> Iterable[tuple[date | None, date | None]]:
    """Ranges of sessions that a repair touches, None where it is open."""
    steps: Any = repair.get("steps", ())
    for step in steps:
        yield from _spans(step)
    if "session" in repair:
        yield _day(repair["session"]), _day(repair["session"])
    elif "from" in repair or "to" in repair:
        yield _day(repair.get("from")), _day(repair.get("to"))


def _day(text: object) -> date | None:
    return date.fromisoformat(str(text)) if text else None


def _repaired(
    repair: Repair, bars: pl.DataFrame, actions: pl.DataFrame, calendars: KeepsCalendars
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that a repair changes, as it leaves them; those that it drops are excluded."""
    simple = actions.select("instrument", "session", "kind", "value")
    frame, acts = apply_repair(bars, simple, repair)
    after = frame.select("session", *(pl.col(name).alias(f"_{name}") for name in _VALUES), _there=pl.lit(value=True))
    joined = bars.join(after, on="session", how="left", maintain_order="left")
    gone = pl.col("_there").is_null()
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"_{name}")) for name in _VALUES)
    changed = joined.filter(gone | differs).select(
        *(name for name in bars.columns if name not in _VALUES),
        *(pl.when(gone).then(name).otherwise(f"_{name}").alias(name) for name in _VALUES),
        excluded=gone,
    )
    return changed, _moved_actions(actions, acts, bars, calendars)


def _moved_actions(
    before: pl.DataFrame, after: pl.DataFrame, bars: pl.DataFrame, calendars: KeepsCalendars
) -> pl.DataFrame:
    """Actions that a repair removed (excluded), and those that it added, moved or gave another value."""
    key = ["instrument", "session", "kind"]
    lost = before.join(after, on=key, how="anti").with_columns(excluded=pl.lit(value=True))
    fresh = after.join(before.select(*key, "value"), on=[*key, "value"], how="anti")
    if fresh.is_empty():
        return lost
    source = (bars if before.is_empty() else before)["source"][0]
    # As every action: about the opening of its session, and known no later.
    opens = [calendars.of(name).open_utc(day) for name, day in fresh.select("instrument", "session").iter_rows()]
    stamped = fresh.with_columns(
        source=pl.lit(source), ts=pl.Series(opens, dtype=_INSTANT), known_at=pl.Series(opens, dtype=_INSTANT),
        detail=pl.lit(None, pl.String), decided=pl.lit(value=False), excluded=pl.lit(value=False),
    )  # fmt: skip
    return pl.concat([lost, stamped], how="diagonal_relaxed")
