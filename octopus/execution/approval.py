"""Which orders of a batch may be sent: the gates' reports and the order path's own rules, joined.

Belongs here: joining verdicts, what an account looks like when unresolved orders count as filled, and what a person's
release of a batch is bound to. Does not: the gates' rules (octopus/risk, octopus/compliance).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC

from octopus.core.amounts import plain
from octopus.core.ids import fingerprint
from octopus.core.orders import (
    AccountSnapshot,
    Batch,
    Evidence,
    GateReport,
    OpenOrder,
    Outcome,
    PlannedOrder,
    Side,
    TradingState,
    Verdict,
    reducing_orders,
)

GATE = "execution"
"""The gate name of the order path's own rules."""


@dataclass(frozen=True)
class Decision:
    """Which intents are approved, in the order they are to be sent, every verdict that led to it, and by what the gates
    judged.

    Attributes:
        state: of the kill switch, under which all of it was judged.
    """

    approved: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    state: TradingState = TradingState.ACTIVE


def decide(
    batch: Batch,
    snapshot: AccountSnapshot,
    reports: Sequence[GateReport],
    *,
    state: TradingState,
    research_denials: Mapping[str, str],
    frozen: Collection[str],
    changed: Mapping[str, str],
) -> Decision:
    """Join all gates: an intent is approved only if every one of them approves it.

    Args:
        reports: at least one, made under ``state``; none at all approves nothing.
        research_denials: reason by intent id, from the gates of the research run; a denial there is final.
        frozen: instruments with an order whose outcome is not known.
        changed: what became, since the decision, of instruments whose shares are counted or named otherwise now: what
            was planned of them before is another quantity, or another company's share.
    """
    own = (
        *_own_verdicts(batch, research_denials=research_denials, frozen=frozen, changed=changed),
        *_state_verdicts(batch, snapshot, state),
    )
    denied = {verdict.intent_id for verdict in own}
    approved_by_all = [set(report.approved) for report in reports]
    approved = tuple(
        order.intent_id
        for order in in_sending_order(batch.orders)
        if approved_by_all
        and order.intent_id not in denied
        and all(order.intent_id in approved for approved in approved_by_all)
    )
    verdicts = tuple(verdict for report in reports for verdict in report.verdicts)
    evidence = {report.gate: report.evidence for report in reports if report.evidence is not None}
    return Decision(approved, verdicts + own, evidence, state)


def content_hash(batch: Batch) -> str:
    """Fingerprint of everything that a batch would send, and until when: what a person's release is bound to."""
    orders = [
        [o.intent_id, o.instrument, o.side.value, plain(o.quantity), plain(o.reference_price), o.order_type.value,
         None if o.price is None else plain(o.price), *_exit_prices(o)]
        for o in sorted(batch.orders, key=lambda o: o.intent_id)
    ]  # fmt: skip
    window = [moment.astimezone(UTC).isoformat() for moment in (batch.not_before, batch.expires_at)]
    return fingerprint("release", batch.batch_id, batch.account, batch.session, window, orders)


def _exit_prices(order: PlannedOrder) -> list[list[str]]:
    return [] if order.bracket is None else [[name.value, plain(price)] for name, price in order.bracket.exits.items()]


def _own_verdicts(
    batch: Batch, *, research_denials: Mapping[str, str], frozen: Collection[str], changed: Mapping[str, str]
) -> Iterable[Verdict]:
    for order in batch.orders:
        if order.intent_id in research_denials:
            yield _denial("research_denial", order, research_denials[order.intent_id])
        if order.instrument in frozen:
            reason = f"an earlier order in {order.instrument} has an unknown outcome; settle it first"
            yield _denial("unknown_order", order, reason)
        if order.instrument in changed:
            yield _denial("corporate_action", order, f"{changed[order.instrument]}: plan it anew")


def _state_verdicts(batch: Batch, snapshot: AccountSnapshot, state: TradingState) -> Iterable[Verdict]:
    if state is TradingState.ACTIVE:
        return
    reducing = reducing_orders(batch.orders, snapshot)
    for order in batch.orders:
        if state is TradingState.HALTED or order.intent_id not in reducing:
            yield _denial("trading_state", order, f"trading is {state.value}")


def _denial(rule: str, order: PlannedOrder, reason: str) -> Verdict:
    return Verdict(GATE, rule, order.intent_id, Outcome.DENY, reason)


def in_sending_order(orders: Iterable[PlannedOrder]) -> tuple[PlannedOrder, ...]:
    """Sells before buys, so that a cash account's buying power counts their proceeds; then by instrument."""
    return tuple(sorted(orders, key=lambda order: (order.side is Side.BUY, order.instrument)))


def with_open_orders(snapshot: AccountSnapshot, orders: Iterable[OpenOrder]) -> AccountSnapshot:
    """The snapshot with ``orders`` counted as open too, where the broker does not list them itself."""
    listed = {order.client_order_id for order in snapshot.open_orders}
    added = tuple(order for order in orders if order.client_order_id not in listed and order.remaining > 0)
    return replace(snapshot, open_orders=snapshot.open_orders + added)
