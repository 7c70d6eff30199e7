"""What an alert is: what happened, how bad it is, what to do next, and under which key it is said once.

Belongs here: the kinds with their severity and next step, and an alert's words. Does not: when there is one (events.py,
watch.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

RUNBOOK = "docs/runbook.md"


class Severity(StrEnum):
    """How soon a person should look."""

    INFO = "info"
    """Good to know."""
    WARNING = "warning"
    """Today."""
    CRITICAL = "critical"
    """Now: money is at stake, or nobody watches."""

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Kind(StrEnum):
    """What may happen; each kind has its section in the runbook."""

    DENIAL = "denial"
    REFUSAL = "refusal"
    REJECTION = "rejection"
    HALT = "halt"
    RESUMED = "resumed"
    RECONCILIATION_BREAK = "reconciliation_break"
    UNSETTLED_AMOUNT = "unsettled_amount"
    UNKNOWN_ORDER = "unknown_order"
    UNEXPECTED_FILL = "unexpected_fill"
    REVISED_FILL = "revised_fill"
    OPEN_ORDER = "open_order"
    UNSENT_ORDERS = "unsent_orders"
    STANDING_SLICE = "standing_slice"
    AWAITING_RELEASE = "awaiting_release"
    FAILED_RUN = "failed_run"
    MISSED_RUN = "missed_run"
    STALE_DATA = "stale_data"
    DEAD_DAEMON = "dead_daemon"
    DATABASE_DOWN = "database_down"
    WATCHDOG_BLIND = "watchdog_blind"
    DATABASE_BACK = "database_back"
    UNDELIVERED = "undelivered"

    @property
    def anchor(self) -> str:
        """Of the kind's section in the runbook."""
        return self.value.replace("_", "-")

    @property
    def severity(self) -> Severity:
        return _GUIDE[self][0]

    @property
    def heading(self) -> str:
        return _GUIDE[self][1]

    @property
    def next_step(self) -> str:
        """The one thing to do first."""
        return _GUIDE[self][2]


_GUIDE = {
    Kind.DENIAL: (Severity.WARNING, "Orders denied", "read the reasons with `octopus audit why ORDER`"),
    Kind.REFUSAL: (Severity.WARNING, "Batch not executed", "do what the reason says before the window closes"),
    Kind.REJECTION: (Severity.WARNING, "Order rejected by the broker", "read the broker's reason and mend its cause"),
    Kind.HALT: (Severity.CRITICAL, "Trading is halted", "find out why; `octopus resume` only when it is settled"),
    Kind.RESUMED: (Severity.INFO, "Trading goes on", "make sure that whoever resumed it knew why it was halted"),
    Kind.RECONCILIATION_BREAK: (
        Severity.CRITICAL, "Our book is not the broker's", "`octopus breaks list` says what to do about each",
    ),
    Kind.UNSETTLED_AMOUNT: (
        Severity.WARNING, "An amount is not settled with the broker", "wait for it, or book it: `octopus breaks list`",
    ),
    Kind.UNKNOWN_ORDER: (
        Severity.CRITICAL, "An order may or may not stand", "look the order up at the broker by its client order id",
    ),
    Kind.UNEXPECTED_FILL: (
        Severity.CRITICAL, "A fill that we did not ask for", "run `octopus halt --cancel`, then ask the broker",
    ),
    Kind.REVISED_FILL: (
        Severity.CRITICAL, "A trade was broken or corrected", "compare what is held now with what was planned",
    ),
    Kind.OPEN_ORDER: (
        Severity.CRITICAL, "An order outlived its window", "cancel it at the broker, or run `octopus halt --cancel`",
    ),
    Kind.UNSENT_ORDERS: (
        Severity.CRITICAL, "Approved orders were never sent", "compare what is held now with what was planned",
    ),
    Kind.STANDING_SLICE: (
        Severity.WARNING, "A schedule waits behind its slice", "see at the broker whether the instrument trades",
    ),
    Kind.AWAITING_RELEASE: (Severity.WARNING, "A batch waits for its release", "read it with `octopus release`"),
    Kind.FAILED_RUN: (Severity.CRITICAL, "A run failed", "read the failed step in Dagster and run it again"),
    Kind.MISSED_RUN: (Severity.CRITICAL, "A run is missing or late", "see in Dagster why; `octopus run` makes it up"),
    Kind.STALE_DATA: (Severity.CRITICAL, "Market data is stale", "see what the source answers: `octopus doctor`"),
    Kind.DEAD_DAEMON: (Severity.CRITICAL, "Dagster's daemon is dead", "end `octopus up` if it hangs; start it again"),
    Kind.DATABASE_DOWN: (
        Severity.CRITICAL, "The database is down", "start it; `octopus halt --cancel` works without it",
    ),
    Kind.WATCHDOG_BLIND: (
        Severity.CRITICAL, "Nobody watches: a look at the database fails", "mend what it says: `octopus doctor`",
    ),
    Kind.DATABASE_BACK: (Severity.INFO, "The database answers again", "see what was missed: `octopus status`"),
    Kind.UNDELIVERED: (Severity.WARNING, "Alerts could not be delivered", "look at `octopus doctor`"),
}  # fmt: skip


@dataclass(frozen=True)
class Alert:
    """One thing that people are told, once.

    Attributes:
        subject: what it is about: an account, batch, order, run or source.
        happened: one sentence.
        at: when it happened, UTC.
        key: the same event has the same key, whoever sees it and however often.
    """

    kind: Kind
    subject: str
    happened: str
    at: datetime
    key: str

    @property
    def headline(self) -> str:
        """One line: how bad, what, of what."""
        return " ".join(f"[octopus] {self.kind.severity.value.upper()}: {self.kind.heading}: {self.subject}".split())

    @property
    def text(self) -> str:
        """Everything that a person needs to begin."""
        return (
            f"{self.happened}\n"
            f"When: {self.at.isoformat(timespec='seconds')}\n"
            f"Next: {self.kind.next_step}\n"
            f"Runbook: {RUNBOOK}#{self.kind.anchor}"
        )


def rehearsal(kind: Kind, at: datetime) -> Alert:
    """An alert of ``kind`` that says that nothing happened, to see whether it arrives."""
    happened = "This is a rehearsal by `octopus alerts test`: nothing happened."
    return Alert(kind, "rehearsal", happened, at, f"rehearsal:{kind.value}:{at.isoformat()}")
