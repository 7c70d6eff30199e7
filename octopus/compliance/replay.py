"""Why an order was allowed, judged again from what was recorded when it was.

Belongs here: what the compliance gate judged by, as a record; judging it again; the checks that records of one order
agree with each other and with the audit log. Does not: reading the records (resources/warehouse/order_story.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from octopus.compliance import gate
from octopus.compliance.rules import CompliancePolicy
from octopus.core.errors import OctopusError
from octopus.core.ids import canonical_json, fingerprint
from octopus.core.orders import GateReport, Outcome, Verdict


class UnreadableEvidenceError(OctopusError):
    """The record of what a gate judged by is not of this release's form."""


def judged_again(record: str) -> GateReport:
    """The report that the compliance gate gives today for what was recorded then.

    Args:
        record: JSON text of `GateEvidence.record`.

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
        evidence: record of each gate, as text.
        sends: fences under which the order was sent in this attempt, with the instants.
    """

    number: int
    fence: int
    taken_at: datetime
    snapshot: Mapping[str, Any]
    verdicts: Sequence[Verdict]
    sealed: tuple[int, str] | None
    evidence: Mapping[str, str]
    sends: Sequence[tuple[int, datetime]]


def check_attempts(attempts: Sequence[Attempt], intent_id: str) -> list[RecordCheck]:
    """Do the records of an order's attempts hold together, and do they carry what was done with it?"""
    found: list[RecordCheck] = []
    allowed = False
    for attempt in attempts:
        verdict = _check_verdicts(attempt, intent_id, allowed_before=allowed)
        found += [_check_seal(attempt), verdict, *_check_sends(attempt), _check_replay(attempt)]
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


def _decision(verdict: Verdict) -> Verdict:
    """Without its words: another release may put the same decision otherwise, and the log seals what was said then."""
    return verdict._replace(reason="")


def _check_replay(attempt: Attempt) -> RecordCheck:
    name, record = "replayed", attempt.evidence.get(gate.GATE)
    if record is None:
        return RecordCheck(name, not attempt.verdicts, f"attempt {attempt.number} recorded no evidence to judge again")
    try:
        again = judged_again(record)
    except UnreadableEvidenceError as error:
        return RecordCheck(name, False, str(error))
    stored = [v for v in attempt.verdicts if v.gate == gate.GATE][: len(again.verdicts)]
    differing = next((a for a, b in zip(again.verdicts, stored, strict=False) if _decision(a) != _decision(b)), None)
    if differing is None and len(stored) == len(again.verdicts):
        return RecordCheck(
            name, True, f"the compliance gate gives its {len(stored)} verdicts again from what was recorded"
        )
    what = "another number of verdicts" if differing is None else f"another verdict of {differing.rule}"
    return RecordCheck(name, False, f"judged again from what was recorded, the compliance gate gives {what}")
