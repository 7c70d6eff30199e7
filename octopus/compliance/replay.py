"""Why an order was allowed, judged again from what was recorded when it was.

Belongs here: judging again what the compliance gate judged; the checks that records of one order agree with each other,
with the audit log and with what the gates say of them today. Does not: reading the records
(resources/warehouse/order_story.py), how another gate judges again (octopus/risk/gate.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from octopus.compliance import gate
from octopus.compliance.rules import CompliancePolicy
from octopus.core.errors import UnreadableEvidenceError
from octopus.core.ids import canonical_json, fingerprint
from octopus.core.orders import GateReport, Outcome, Verdict

Replay = Callable[[str, Mapping[str, bytes]], GateReport]
"""Judges again by the record of a gate's evidence and its contents by name; raises `UnreadableEvidenceError`."""


def judged_again(record: str, _contents: Mapping[str, bytes]) -> GateReport:
    """The report that the compliance gate gives today for what was recorded then.

    Args:
        record: JSON text of `GateEvidence.record`, which has no contents beside it.

    Raises:
        UnreadableEvidenceError: another release recorded another form.
    """
    try:
        content = json.loads(record)
        case = gate.CASE.validate_python(content["case"])
        policy = CompliancePolicy.model_validate(content["policy"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise UnreadableEvidenceError(
            f"the compliance gate's record cannot be read by this release ({first}); use the release that wrote it"
        ) from None
    return gate.judge(case.batch, case.snapshot, case.context, policy, case.now)


def seal_of(snapshot: Mapping[str, object], verdicts: Sequence[Verdict], evidence: Mapping[str, str]) -> str:
    """Fingerprint of everything a claim was decided by, for the audit log: the tables cannot be altered unseen.

    Args:
        snapshot: as stored. verdicts: in stored order. evidence: record of each gate, as text.
    """
    told = [
        [v.gate, v.rule, v.intent_id, v.outcome.value, _exact(v.value), _exact(v.limit), v.reason] for v in verdicts
    ]
    return fingerprint(json.loads(canonical_json(snapshot)), told, dict(evidence))


def _exact(number: float | None) -> str | None:
    """A text for every float, infinities and NaN included, which JSON has not."""
    return None if number is None else repr(float(number))


@dataclass(frozen=True)
class RecordCheck:
    """Whether two records of one order agree."""

    name: str
    ok: bool
    message: str


@dataclass(frozen=True)
class Attempt:
    """One claim of the order's batch, as recorded.

    Attributes:
        verdicts: all of the attempt, in stored order.
        sealed: how many verdicts the audit log's entry covers, and its fingerprint; None where there is no entry, or
            an earlier release wrote it.
        evidence: record of each gate, as text. contents: what the records name, by its name.
        sends: fences under which the order was sent in this attempt, with the instants.
    """

    number: int
    fence: int
    taken_at: datetime
    snapshot: Mapping[str, Any]
    verdicts: Sequence[Verdict]
    sealed: tuple[int, str] | None
    evidence: Mapping[str, str]
    contents: Mapping[str, bytes]
    sends: Sequence[tuple[int, datetime]]


def check_attempts(attempts: Sequence[Attempt], intent_id: str, replays: Mapping[str, Replay]) -> list[RecordCheck]:
    """Do the records of an order's attempts hold together, and do they carry what was done with it?

    Args:
        replays: of each gate that can judge again.
    """
    found: list[RecordCheck] = []
    allowed = False
    for attempt in attempts:
        verdict = _check_verdicts(attempt, intent_id, allowed_before=allowed)
        found += [_check_seal(attempt), verdict, *_check_sends(attempt)]
        found += [_check_replay(attempt, gate, replay) for gate, replay in replays.items() if attempt.verdicts]
        allowed = allowed or (verdict.ok and is_allowed(attempt, intent_id))
    return found


def is_allowed(attempt: Attempt, intent_id: str) -> bool:
    """The attempt judged the order, and nothing denied it."""
    own = [v for v in attempt.verdicts if v.intent_id == intent_id]
    return bool(own) and all(v.outcome is not Outcome.DENY for v in own)


def _check_seal(attempt: Attempt) -> RecordCheck:
    name = "sealed"
    if attempt.sealed is None:
        return RecordCheck(
            name, False, f"attempt {attempt.number} has no entry in the audit log that seals its records"
        )
    count, expected = attempt.sealed
    found = seal_of(attempt.snapshot, attempt.verdicts[:count], attempt.evidence)
    if found == expected:
        return RecordCheck(
            name, True, f"snapshot, {count} verdicts and evidence of attempt {attempt.number} are what the log sealed"
        )
    return RecordCheck(name, False, f"the records of attempt {attempt.number} are not what the audit log sealed")


def _check_verdicts(attempt: Attempt, intent_id: str, *, allowed_before: bool) -> RecordCheck:
    own = [v for v in attempt.verdicts if v.intent_id == intent_id]
    denials = [v for v in own if v.outcome is Outcome.DENY]
    if attempt.sends and denials:
        return RecordCheck("allowed", False, f"sent although {denials[0].gate} denied it: {denials[0].reason}")
    if denials:
        return RecordCheck("allowed", True, f"denied in attempt {attempt.number} by {denials[0].rule}, and not sent")
    if not own:
        ok = allowed_before or not attempt.sends
        return RecordCheck("allowed", ok, f"attempt {attempt.number} did not judge it again")
    gates = ", ".join(sorted({v.gate for v in own}))
    return RecordCheck("allowed", True, f"{len(own)} verdicts of {gates} in attempt {attempt.number}, no denial")


def _check_sends(attempt: Attempt) -> list[RecordCheck]:
    found = []
    for fence, at in attempt.sends:
        age = at - attempt.taken_at
        ok = fence == attempt.fence and age >= timedelta(0)
        found.append(
            RecordCheck(
                "fence", ok,
                f"sent under fence {fence} at {at.isoformat()}; attempt {attempt.number} holds fence {attempt.fence}, "
                f"its snapshot was {age} old",
            )
        )  # fmt: skip
    return found


def _decision(verdict: Verdict) -> tuple[object, ...]:
    """Without its words: another release may put the same decision otherwise, and the log seals what was said then."""
    return verdict.gate, verdict.rule, verdict.intent_id, verdict.outcome


def _is_figure(ours: float | None, theirs: float | None) -> bool:
    """The same to the last digits, in which sums over the same numbers in another order differ."""
    if ours is None or theirs is None:
        return ours is theirs
    return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(ours) and math.isnan(theirs))


def is_same(ours: Verdict, theirs: Verdict) -> bool:
    """The same decision on the same figures, whatever its words."""
    same = _decision(ours) == _decision(theirs)
    return same and _is_figure(ours.value, theirs.value) and _is_figure(ours.limit, theirs.limit)


def _check_replay(attempt: Attempt, gate: str, replay: Replay) -> RecordCheck:
    name, record = "replayed", attempt.evidence.get(gate)
    if record is None:
        return RecordCheck(
            name, False, f"attempt {attempt.number} recorded nothing by which the {gate} gate could judge again"
        )
    try:
        again = replay(record, attempt.contents)
    except UnreadableEvidenceError as error:
        return RecordCheck(name, False, str(error))
    told = [v for v in attempt.verdicts if v.gate == gate]
    # What still stood of an approval is told of the orders that were left; what was denied later comes after it.
    of = {v.intent_id for v in told}
    verdicts = [v for v in again.verdicts if v.intent_id is None or v.intent_id in of]
    stored = told[: len(verdicts)]
    differing = next((ours for ours, theirs in zip(verdicts, stored, strict=False) if not is_same(ours, theirs)), None)
    if differing is None and len(stored) == len(verdicts):
        return RecordCheck(name, True, f"the {gate} gate gives its {len(stored)} verdicts again from what was recorded")
    what = "another number of verdicts" if differing is None else f"another verdict of {differing.rule}"
    return RecordCheck(name, False, f"judged again from what was recorded, the {gate} gate gives {what}")
