"""The pre-trade compliance gate: which orders of a batch the policy lets the account send.

Belongs here: periods, modes, missing data, the verdicts, and what they were given on. Does not: what each rule finds
(checks.py), judging again (replay.py).

The gate fails closed: a rule in mode ``enforce`` whose datum is missing denies every order and names the datum; in mode
``warn`` it warns; what is the broker's duty is left to the broker, in writing. A verdict on the batch (no intent) is
DENY only where nothing was approved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import TypeAdapter

from octopus.compliance import rules
from octopus.compliance.catalogue import findings
from octopus.compliance.checks import Case, ComplianceContext, Finding, off_reason
from octopus.core.amounts import plain
from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot, Batch, GateReport, Outcome, PlannedOrder, Verdict

GATE = "compliance"
CASE = TypeAdapter(Case)
"""Reads and writes a case as JSON values."""


@dataclass(frozen=True)
class GateEvidence:
    """What the compliance gate judged by; `octopus.core.orders.Evidence`."""

    case: Case
    policy: rules.CompliancePolicy

    def record(self) -> Mapping[str, object]:
        """As plain JSON values: `octopus.compliance.replay` gives the same verdicts from it."""
        return {"case": CASE.dump_python(self.case, mode="json"), "policy": self.policy.model_dump(mode="json")}

    def contents(self) -> Mapping[str, bytes]:
        """Nothing: all of it is in the record."""
        return {}


def judge(
    batch: Batch, snapshot: AccountSnapshot, context: ComplianceContext, policy: rules.CompliancePolicy, now: datetime
) -> GateReport:
    """Judge every order of ``batch`` by every rule of ``policy``.

    Args:
        snapshot: of the same account. now: instant of the judgement, UTC.

    Returns:
        For each rule, in the policy's order: one verdict for each order in plan order, or one on the batch (which,
        where it denies, is repeated for each order). First come ``account`` and ``order_terms``: the batch and the
        snapshot are of one account, every quantity of the snapshot is a number, and every order is one that a rule can
        be asked about.
    """
    terms = _order_terms(batch)
    sound = tuple(order for order, said in zip(batch.orders, terms, strict=True) if said.outcome is not Outcome.DENY)
    # Rules see sound orders only: a quantity that is no number would make their answers meaningless.
    case = Case(
        Batch(batch.batch_id, batch.account, batch.session, batch.not_before, batch.expires_at, sound),
        snapshot,
        context,
        now,
        policy.account,
    )
    verdicts = [*_account(case), *terms]
    # All is denied already, and no rule can count with what is not a number.
    for rule in () if snapshot.unsound else policy.rules:
        verdicts += _judge_rule(rule, case)
    deny = Outcome.DENY
    denied = {verdict.intent_id for verdict in verdicts if verdict.outcome is deny}
    approved = tuple(order.intent_id for order in sound if order.intent_id not in denied)
    given = replace(case, batch=batch)
    return GateReport(GATE, approved, tuple(verdicts), GateEvidence(given, policy))


def _judge_rule(rule: rules.Rule, case: Case) -> list[Verdict]:
    off = off_reason(rule, case.context, case.terms)
    if off is not None:
        return [Verdict(GATE, rule.id, None, Outcome.OFF, f"{rule.source}: {off}")]
    broken = Outcome.DENY if rule.mode is rules.Mode.ENFORCE else Outcome.WARN
    try:
        found = findings(rule, case)
    except MissingDataError as missing:
        if rule.mode is rules.Mode.BROKER:
            reason = f"{rule.source}: left to the broker, whose duty it is; {missing}"
            return [Verdict(GATE, rule.id, None, Outcome.OFF, reason)]
        found = [Finding(None, True, str(missing))]
    verdicts, bare, name, passed = list[Verdict](), tuple.__new__, rule.id, Outcome.PASS
    for order, is_broken, said, value, limit in found:
        if not is_broken:
            intent = order.intent_id if order else None
            verdicts.append(bare(Verdict, (GATE, name, intent, passed, said, value, limit, None, ())))
            continue
        told: tuple[PlannedOrder | None, ...] = (order,)
        if order is None and broken is Outcome.DENY:
            told = (None, *case.batch.orders)
        reason = f"{said} ({rule.source})"
        verdicts += [Verdict(GATE, name, one.intent_id if one else None, broken, reason, value, limit) for one in told]
    return verdicts


def _account(case: Case) -> list[Verdict]:
    ours, theirs = case.batch.account, case.snapshot.account
    unsound = ", ".join(case.snapshot.unsound)
    if ours == theirs and not unsound:
        return [Verdict(GATE, "account", None, Outcome.PASS, f"batch and snapshot are both of account {ours}")]
    reason = f"the batch is for account {ours}, the snapshot of {theirs}: take the right one"
    if unsound:
        reason = f"the quantity held or working in {unsound} is not a number: take a new snapshot"
    ids = (None, *(order.intent_id for order in case.batch.orders))
    return [Verdict(GATE, "account", intent, Outcome.DENY, reason) for intent in ids]


def _order_terms(batch: Batch) -> list[Verdict]:
    verdicts, passed = [], Outcome.PASS
    counts = Counter(order.intent_id for order in batch.orders)
    for order in batch.orders:
        problem = _terms_problem(order, counts[order.intent_id])
        reason = problem or f"{order.side} {plain(order.quantity)} {order.instrument} at {plain(order.reference_price)}"
        outcome = passed if problem is None else Outcome.DENY
        verdicts.append(Verdict(GATE, "order_terms", order.intent_id, outcome, reason))
    return verdicts


def _terms_problem(order: PlannedOrder, count: int) -> str | None:
    own = () if order.price is None else ((f"{order.order_type.value} price", order.price),)
    for name, number in (("quantity", order.quantity), ("reference price", order.reference_price), *own):
        if not (number.is_finite() and number > 0):
            return f"{name} {number} of {order.instrument} is not a positive number: plan the batch again"
    return f"the intent id {order.intent_id} stands {count} times in the batch" if count > 1 else None
