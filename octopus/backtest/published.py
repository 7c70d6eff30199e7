"""A backtest that is published: both engines, with and without the gates, compared; and what the gates would have done.

Belongs here: running the engines side by side, and telling the gates' part in a few figures. Does not: either engine,
storing, drawing.

The vectorised engine has no gates. Without them it is compared with the event-driven engine as it stands; with them it
is told which orders were denied, decides by itself and must come to the same account. Every difference between the
account with gates and the one without is therefore the work of orders that are named in `EventRun.denials`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import TypedDict, Unpack

from octopus.backtest.config import BacktestConfig
from octopus.backtest.events import EventRun, run_gated_backtest
from octopus.backtest.judges import Denial, Gating
from octopus.backtest.reconcile import Comparison, compare
from octopus.backtest.simulator import BacktestResult, Decisions, run_backtest
from octopus.core.panel import Panel
from octopus.core.types import FloatArray
from octopus.decision import DecisionConfig, Prepared

WITHOUT, WITH = "without gates", "with gates"


@dataclass(frozen=True, eq=False)
class Published:
    """One backtest by both engines.

    Attributes:
        result: what is published: the vectorised engine's account, with the gates where the settings enforce them.
        gated: the event-driven engine's with the gates. comparisons: `WITHOUT` and `WITH` gates.
        enforced: which of both ``result`` is.
    """

    result: BacktestResult
    gated: EventRun
    comparisons: Mapping[str, Comparison]
    enforced: bool

    @property
    def agree(self) -> bool:
        return all(comparison.agree for comparison in self.comparisons.values())

    def record(self) -> dict[str, object]:
        """What is kept of it, as plain values."""
        return {
            "engines": {
                name: {
                    "agree": one.agree, "sessions": one.sessions, "trades": one.trades, "largest": one.largest,
                    "differences": [str(difference) for difference in one.differences],
                }
                for name, one in self.comparisons.items()
            },
            "gates": {
                "enforced": self.enforced, "final_equity": float(self.gated.result.equity[-1]),
                "denied": len(self.gated.denials), "orders": sum(self.gated.ends.values()),
                "by_rule": [asdict(one) | {"first": one.first.isoformat(), "last": one.last.isoformat()}
                            for one in by_rule(self.gated.denials)],
            },
        }  # fmt: skip


class Given(TypedDict, total=False):
    """What a run may be given besides, as `octopus.backtest.simulator.run_backtest` takes it."""

    predictions: FloatArray | None
    prepared: Prepared | None
    delisting: FloatArray | None


def publish(
    panel: Panel, config: BacktestConfig, decision: DecisionConfig, gating: Gating, **given: Unpack[Given]
) -> Published:
    """Both engines over ``panel``; arguments and errors as `octopus.backtest.simulator.run_backtest`."""
    delisting = given.get("delisting")
    made = Decisions(panel, decision, given.get("predictions"), given.get("prepared"))
    free = run_backtest(panel, config, decision, delisting=delisting, decisions=made)
    plain = run_gated_backtest(panel, config, decision, None, delisting=delisting, decisions=made)
    gated = run_gated_backtest(panel, config, decision, gating, delisting=delisting, decisions=made)
    told = run_backtest(panel, config, decision, delisting=delisting, denied=gated.denied, decisions=made)
    comparisons = {WITHOUT: compare(free, plain.result), WITH: compare(told, gated.result)}
    enforced = config.gates == "enforce"
    return Published(told if enforced else free, gated, comparisons, enforced)


def run_configured(
    panel: Panel, config: BacktestConfig, decision: DecisionConfig, gating: Gating, **given: Unpack[Given]
) -> BacktestResult:
    """The account that `publish` would publish, by one engine and without the comparison."""
    if config.gates == "enforce":
        return run_gated_backtest(panel, config, decision, gating, **given).result
    return run_backtest(panel, config, decision, **given)


@dataclass(frozen=True)
class RuleDenials:
    """What one rule denied: how many orders, on how many sessions, when, and in its own words the first time."""

    gate: str
    rule: str
    orders: int
    sessions: int
    first: date
    last: date
    reason: str


def by_rule(denials: Sequence[Denial]) -> list[RuleDenials]:
    """Denials summed by rule, most orders first."""
    found = []
    for (gate, rule), count in Counter((one.gate, one.rule) for one in denials).most_common():
        own = [one for one in denials if (one.gate, one.rule) == (gate, rule)]
        days = {one.session for one in own}
        found.append(RuleDenials(gate, rule, count, len(days), own[0].session, own[-1].session, own[0].reason))
    return found


def warnings_of(published: Published) -> list[str]:
    """What a reader must know of the engines and the gates before believing the figures."""
    told = [
        f"The two engines disagree {name}: {one}. Do not use these figures."
        for name, one in published.comparisons.items()
        if not one.agree
    ]
    if published.gated.denials:
        rules = by_rule(published.gated.denials)
        words = ", ".join(f"{one.rule} {one.orders:,} (first {one.first})" for one in rules[:3])
        verb = "denied" if published.enforced else "would have denied"
        told.append(
            f"Today's gates {verb} {len(published.gated.denials):,} orders of this backtest: {words}; with them the "
            f"account ends at {published.gated.result.equity[-1]:,.0f}."
        )
    return told
