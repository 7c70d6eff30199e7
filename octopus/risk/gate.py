"""The pre-trade risk gate: which orders of a batch an account may send, and why not the others.

Belongs here: the rules in their order, and the verdicts on the batch. Does not: rules on the account (account_rules.py)
and on single orders (order_rules.py), the arithmetic of exposures (book.py, constraints.py) and of losses
(measures.py), rules of law and venue (octopus/compliance).

The gate fails closed. A rule whose datum is missing denies and names the datum: one order where the datum belongs to
its instrument, every order where it belongs to the account. Where returns are missing, orders that only make a position
smaller pass; where no others pass at all, `NOT_OF_REDUCTIONS` bind nothing. A verdict on the batch (no intent) is DENY
only where nothing was approved; WARN where orders were left out, or where the account is beyond a limit already and
only orders that do not add to the breach passed.

On a total-return price basis the shares are pseudo-shares: `adv_participation` (volume) is off and says so. The price
collar stays on, for it is a ratio of two prices on the same basis, and so does every fraction of equity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import le

from octopus.core.amounts import plain
from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot, Batch, GateReport, Outcome, PlannedOrder, TradingState, Verdict
from octopus.core.types import FloatArray
from octopus.risk import account_rules, order_rules
from octopus.risk.case import GATE, Case, deny_all, deny_but_reductions, open_case, verdict
from octopus.risk.constraints import FewConstraints, Messages, Proposal, Rule, exposure_rules, return_rules
from octopus.risk.cut import Removal, cut
from octopus.risk.evidence import GateEvidence, opened_again
from octopus.risk.limits import LOWER_BOUNDS, RiskLimits, amount
from octopus.risk.market import MarketContext, SentMessage
from octopus.risk.signatures import Authority

EXPOSURE_RULES = (
    "name_weight",
    "position_notional_usd",
    "long_only",
    "name_weight_min",
    "sector",
    "sector_part_filled",
    "gross",
    "net_max",
    "net_min",
    "leverage",
    "turnover",
    "cash",
    "capital_threshold_usd",
    "gross_part_filled",
    "net_max_part_filled",
    "net_min_part_filled",
    "leverage_part_filled",
    "cash_part_filled",
)
LOSS_RULES = (
    "volatility",
    "volatility_part_filled",
    "var_95",
    "var_95_part_filled",
    "cvar_95",
    "cvar_95_part_filled",
)
BENCHMARK_RULES = (
    "beta_max",
    "beta_max_part_filled",
    "beta_min",
    "beta_min_part_filled",
    "tracking_error",
    "tracking_error_part_filled",
)
NOT_OF_REDUCTIONS = frozenset({
    "turnover", "net_min", "net_min_part_filled", "beta_min", "beta_min_part_filled", "tracking_error",
    "tracking_error_part_filled",
})  # fmt: skip
"""Rules that bind no order where only those pass that make a position smaller: getting out of a large position turns it
over, and leaves too little net exposure, too little beta and another portfolio than the benchmark."""
ON_THE_WHOLE = frozenset({*EXPOSURE_RULES, *LOSS_RULES, *BENCHMARK_RULES, "message_rate"})
RULES = (
    "account",
    "limits_signed",
    "kill_switch",
    "snapshot_age",
    "order_terms",
    "equity",
    "equity_min_usd",
    "stale_data",
    "price_collar",
    "order_notional_usd",
    "order_notional_fraction",
    "adv_participation",
    "repeated_execution",
    "drawdown_stop",
    "loss_per_day",
    "sector_known",
    *EXPOSURE_RULES,
    "message_rate",
    "return_history",
    *LOSS_RULES,
    *BENCHMARK_RULES,
)
"""Every rule, in the order of the verdicts; each speaks in every report."""


def judge(
    batch: Batch,
    snapshot: AccountSnapshot,
    market: MarketContext,
    limits: RiskLimits,
    state: TradingState | None,
    authority: Authority,
    now: datetime,
) -> GateReport:
    """Judge every order of ``batch`` alone, then what is left as a whole.

    Open orders of the snapshot count as filled, and as not filled where that is worse. The approved set keeps each
    exposure limit when all of it fills, and within ``limits.partial_fill_allowance`` whatever part of it fills;
    except where the account was beyond the limit before, and then no approved order adds to the breach.

    Args:
        snapshot: of the same account. Positions are marked as book.py says.
        state: of the kill switch; None (unknown) denies every order.
        authority: whether ``limits`` are signed, and whether orders move real money.
        now: instant of the judgement, UTC. A price or snapshot from after it counts as missing.

    Returns:
        One verdict for each rule on an order and order, one for each rule on the batch, and one for each order that a
        rule on the batch leaves out; in the order of `RULES`, the batch first, then the plan's order.
    """
    case = open_case(batch, snapshot, market, limits, state, authority, now)
    return replace(_judged(case), evidence=GateEvidence(case))


def judged_again(record: str, contents: Mapping[str, bytes]) -> GateReport:
    """The report that this gate gives today for what was recorded then.

    Args:
        record, contents: as `octopus.risk.evidence.opened_again` takes them.

    Raises:
        UnreadableEvidenceError: they cannot be read.
    """
    return _judged(opened_again(record, contents))


def _judged(case: Case) -> GateReport:
    return judge_by(frozenset(RULES), case).report


def judge_plan(
    batch: Batch,
    snapshot: AccountSnapshot,
    market: MarketContext,
    limits: RiskLimits,
    state: TradingState,
    why: str,
    authority: Authority,
    now: datetime,
) -> GateReport:
    """As `judge`, hours before anything may be sent: the kill switch warns and denies nothing.

    A plan's denial is final, and trading may go on before its window. Whoever sends obeys the state of that moment. So
    a plan that only reduces is judged as in state reducing where trading is: what binds no reduction then denies none.

    Args:
        why: the reason for ``state``.
    """
    report = judge(batch, snapshot, market, limits, TradingState.ACTIVE, authority, now)
    if state is TradingState.ACTIVE:
        return report
    if state is TradingState.REDUCING:
        obeying = judge(batch, snapshot, market, limits, state, authority, now)
        if not any(verdict.rule == "kill_switch" for verdict in obeying.denials):
            report = obeying
    leaves = "only orders that make a position smaller leave" if state is TradingState.REDUCING else "no order leaves"
    told = f"trading is {state.value}: {why}; {leaves} until `octopus resume`, and execution asks again as it sends"
    warning = Verdict(GATE, "kill_switch", None, Outcome.WARN, told)
    verdicts = tuple(
        warning if verdict.rule == warning.rule else verdict
        for verdict in report.verdicts
        if verdict.rule != warning.rule or verdict.intent_id is None
    )
    return replace(report, verdicts=verdicts)


@dataclass(frozen=True)
class Judged:
    """What some rules say of a batch.

    Attributes:
        alone: ids of the orders that the rules on single orders deny.
        left_out: ids of those that the rules on the whole leave out besides, in the order in which they do.
    """

    report: GateReport
    alone: frozenset[str]
    left_out: tuple[str, ...]


def judge_by(rules: frozenset[str], case: Case) -> Judged:
    """`judge` by some rules alone, for who is sure that the others have nothing to deny."""
    verdicts, deny = [found for rule, check in ALONE.items() if rule in rules for found in check(case)], Outcome.DENY
    denied = frozenset(v.intent_id for v in verdicts if v.outcome is deny and v.intent_id is not None)
    survivors = [order for order in case.orders if order.intent_id not in denied]
    kept, removals, batch_verdicts = _judge_whole(rules, case, survivors)
    approved = {order.intent_id for order in kept}
    report = GateReport(
        gate=GATE,
        approved=tuple(order.intent_id for order in case.batch.orders if order.intent_id in approved),
        verdicts=_in_order([*verdicts, *batch_verdicts], case.batch),
    )
    return Judged(report, denied, tuple(removal.order.intent_id for removal in removals))


def _in_order(verdicts: Sequence[Verdict], batch: Batch) -> tuple[Verdict, ...]:
    places: dict[str | None, int] = {order.intent_id: place for place, order in enumerate(batch.orders)}
    places[None] = -1
    by_rule: dict[str, list[Verdict]] = {rule: [] for rule in RULES}
    for found in verdicts:
        by_rule[found.rule].append(found)
    ordered: list[Verdict] = []
    for group in by_rule.values():
        at = [places[found.intent_id] for found in group]
        # What a rule says of each order stands in the plan's order; removals do not.
        in_place = all(map(le, at, at[1:]))
        ordered += group if in_place else sorted(group, key=lambda found: places[found.intent_id])
    return tuple(ordered)


ALONE: Mapping[str, Callable[[Case], list[Verdict]]] = {
    "account": account_rules.account,
    "limits_signed": account_rules.limits_signed,
    "kill_switch": account_rules.kill_switch,
    "snapshot_age": account_rules.snapshot_age,
    "order_terms": order_rules.order_terms,
    "equity": account_rules.equity,
    "equity_min_usd": account_rules.equity_min,
    "stale_data": order_rules.stale_data,
    "price_collar": order_rules.price_collar,
    "order_notional_usd": order_rules.order_notional_usd,
    "order_notional_fraction": order_rules.order_notional_fraction,
    "adv_participation": order_rules.adv_participation,
    "repeated_execution": order_rules.repeated_execution,
    "drawdown_stop": account_rules.drawdown_stop,
    "loss_per_day": account_rules.loss_per_day,
    "sector_known": order_rules.sector_known,
    "return_history": order_rules.return_history,
}
"""Rules that ask about the account or each order by itself: what one of them finds depends on no other."""


# Rules on the whole --------------------------------------------------------------------------------------------------


def _judge_whole(
    rules: frozenset[str], case: Case, survivors: Sequence[PlannedOrder]
) -> tuple[list[PlannedOrder], list[Removal], list[Verdict]]:
    """What stays of ``survivors``, what does not, and the verdicts."""
    there = frozenset(rule for rule in rules if case.limits.off_reason(rule) is None)
    if isinstance(case.book, MissingDataError):
        reason = f"cannot be judged: {case.book}"
        wanted = [rule for rule in (*EXPOSURE_RULES, *LOSS_RULES, *BENCHMARK_RULES) if rule in there]
        return [], [], [*(v for rule in wanted for v in deny_all(case, rule, reason)), *_off(case, rules - there)]
    off = _off(case, rules - there)
    only = account_rules.only_reductions_pass(case)
    if only is not None and all(order.intent_id in case.reducing for order in survivors):
        freed = there & NOT_OF_REDUCTIONS
        why = f"{only}: only orders that make a position smaller pass, and the rule binds none of them"
        off += [verdict(rule, None, Outcome.OFF, why) for rule in sorted(freed)]
        there -= freed
    on_returns, benchmark, unjudged = _on_returns(case, there)
    if unjudged:
        # What a rule could not look at does not pass; nor may it make room for what does.
        survivors = [order for order in survivors if order.intent_id in case.reducing]
    if "message_rate" in rules and case.market.sent is None:
        missing = "cannot be judged: what the account has sent lately is missing: read its order events"
        unjudged += deny_all(case, "message_rate", missing)
        survivors = []
    proposal = Proposal(case.book, survivors)
    judged = exposure_rules(proposal, case.limits, case.market.sectors, there)
    if "message_rate" in rules and case.market.sent is not None:
        messages = Messages(proposal, _recent_messages(case, case.market.sent), case.limits)
        judged.append(FewConstraints([messages]))
    if on_returns and not isinstance(case.history, MissingDataError):
        judged += return_rules(proposal, case.limits, case.history, benchmark, on_returns)
    with_all = {rule.name: _worst_of(rule) for rule in judged}
    removals = cut(proposal, judged, case.reducing)
    counts = Counter(removal.constraint.rule for removal in removals)
    verdicts = [_removal_verdict(removal) for removal in removals]
    for rule in judged:
        count, before = counts[rule.name], with_all[rule.name]
        cost = f"; {count} of {len(survivors)} orders left out, {before} with all" if count else ""
        verdicts.append(_batch_verdict(rule, cost))
    silent = _of_nothing(case, there - {rule.name for rule in judged})
    return proposal.orders, removals, [*verdicts, *silent, *off, *unjudged]


def _on_returns(case: Case, rules: frozenset[str]) -> tuple[frozenset[str], FloatArray | None, list[Verdict]]:
    """Those of ``rules`` on the portfolio's returns that can be judged, the benchmark's returns where one is asked for,
    and the verdicts of those whose data is missing."""
    losses = [rule for rule in LOSS_RULES if rule in rules]
    against = [rule for rule in BENCHMARK_RULES if rule in rules]
    if not losses and not against:
        return frozenset(), None, []
    if (no_history := case.history_problem()) is not None:
        return frozenset(), None, [v for rule in (*losses, *against) for v in _unjudged(case, rule, no_history)]
    if not against:
        return frozenset(losses), None, []
    try:
        return frozenset([*losses, *against]), case.benchmark_returns(), []
    except MissingDataError as missing:
        return frozenset(losses), None, [v for rule in against for v in _unjudged(case, rule, missing)]


def _unjudged(case: Case, rule: str, why: object) -> list[Verdict]:
    return deny_but_reductions(case, rule, f"cannot be judged: {why}")


def _worst_of(rule: Rule) -> str:
    """The tightest of the rule's constraints, and its value, as they are now."""
    worst = rule.tightest()
    return f"{worst.subject} {amount(rule.name, worst.value())}"


def _recent_messages(case: Case, sent: Sequence[SentMessage]) -> int:
    since = case.now - timedelta(seconds=case.limits.messages_window_seconds)
    return sum(since < message.at <= case.now for message in sent)


def _of_nothing(case: Case, rules: frozenset[str]) -> list[Verdict]:
    """Those of ``rules`` on names and sectors, where there is no position and no order."""
    limits = {
        "name_weight": case.limits.name_weight_max,
        "position_notional_usd": float(case.limits.position_notional_max_usd),
        "long_only": 0.0,
        "name_weight_min": case.limits.name_weight_min,
        "sector": case.limits.sector_weight_max,
        "sector_part_filled": case.limits.sector_weight_max,
    }
    return [
        verdict(rule, None, Outcome.PASS, "no position and no order", 0.0, limit)
        for rule, limit in limits.items()
        if rule in rules
    ]


def _off(case: Case, rules: frozenset[str]) -> list[Verdict]:
    """That there are no such rules."""
    return [verdict(rule, None, Outcome.OFF, case.limits.off_reason(rule) or "") for rule in sorted(rules)]


def _removal_verdict(removal: Removal) -> Verdict:
    constraint, order = removal.constraint, removal.order
    rule = constraint.rule
    side = "under" if rule in LOWER_BOUNDS else "over"
    sign = "+" if removal.marginal > 0 else ""
    value, limit = amount(rule, removal.value), amount(rule, constraint.limit)
    reason = (
        f"{constraint.subject} would be {value}, {side} the limit {limit}; "
        f"{order.side} {plain(order.quantity)} {order.instrument} moves it by {sign}{amount(rule, removal.marginal)}"
    )
    if len(removal.contributors) > 1:
        reason += "; largest parts: " + ", ".join(f"{name} {amount(rule, part)}" for name, part in removal.contributors)
    return Verdict(
        GATE, rule, order.intent_id, Outcome.DENY, reason, removal.value, constraint.limit, removal.marginal,
        removal.contributors,
    )  # fmt: skip


def _batch_verdict(rule: Rule, left_out: str) -> Verdict:
    """On the rule's tightest constraint: the value that the approved orders leave; ``left_out`` says what that cost."""
    tightest = rule.tightest()
    value, beyond = tightest.value(), tightest.excess() > 0
    reason = f"{tightest.subject} {amount(rule.name, value)}, limit {amount(rule.name, tightest.limit)}"
    reason += left_out
    if beyond:
        reason += "; it was beyond the limit before the batch, and no approved order adds to that"
    outcome = Outcome.WARN if left_out or beyond else Outcome.PASS
    found = verdict(rule.name, None, outcome, reason, value, tightest.limit)
    return found._replace(contributors=tightest.contributors()) if outcome is Outcome.WARN else found
