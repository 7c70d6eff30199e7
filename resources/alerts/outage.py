"""Since when no look at the database has succeeded, for every process that looks from one data folder.

Belongs here: that instant, in memory and in a file beside the alerts. Does not: what people are told of it
(octopus/alerts/watch.py).
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from octopus.alerts.alert import Kind

NAME = "outage.json"
"""In the data folder. A sensor's look knows of the one before by it, and so does `octopus watchdog --once`."""
_SAME = timedelta(hours=1)
"""Looks in vain that lie no further apart are of one outage."""


@dataclass
class Outage:
    """An outage, if there is one.

    Attributes:
        since: of each kind of look that came to nothing, when the first was; empty while all is seen.
    """

    path: Path
    since: dict[Kind, datetime] = field(default_factory=dict, init=False)

    def go_on(self, kind: Kind, now: datetime) -> datetime:
        """A look at ``now`` came to nothing as ``kind`` says; returns when the first of that kind did."""
        self._know(now)
        began = self.since.setdefault(kind, now)
        if kind is Kind.DATABASE_DOWN:
            self.since.pop(Kind.WATCHDOG_BLIND, None)
        content = {"looked_at": now.isoformat(), "since": {k.value: at.isoformat() for k, at in self.since.items()}}
        with suppress(OSError):  # a full disk: this process knows all the same
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_suffix(".draft")
            draft.write_text(json.dumps(content))
            draft.replace(self.path)
        return began

    def over(self, now: datetime) -> dict[Kind, datetime]:
        """What the outage was that a look at ``now`` ends; empty without one. It is over with `end`."""
        self._know(now)
        return dict(self.since)

    def end(self) -> None:
        """Forget it."""
        self.since.clear()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _know(self, now: datetime) -> None:
        if self.since:
            return
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            told = json.loads(self.path.read_text())
            if now - datetime.fromisoformat(told["looked_at"]) <= _SAME:
                self.since = {Kind(kind): datetime.fromisoformat(at) for kind, at in told["since"].items()}
