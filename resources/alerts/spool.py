"""Alerts while the database is down: a file for each in the data folder, merged into the tables afterwards.

Belongs here: those files. Does not: delivering (courier.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from octopus.alerts.alert import Alert, Kind
from octopus.core.ids import fingerprint
from resources.alerts.courier import Delivery, Pending, Records

FOLDER = "alerts"
"""In the data folder."""


@dataclass(frozen=True)
class Spool:
    """The files in ``folder``; `resources.alerts.courier.Records`."""

    folder: Path

    def record(self, alert: Alert) -> bool:
        """As `Records.record`."""
        if self._path(alert.key).exists():
            return False
        self._save(alert, [])
        return True

    def note(self, key: str, delivery: Delivery) -> None:
        """As `Records.note`."""
        alert, deliveries = _read(self._path(key))
        self._save(alert, [*deliveries, delivery])

    def pending(self, channel: str, since: datetime) -> list[Pending]:
        """As `Records.pending`."""
        found = []
        for alert, deliveries in sorted(self._all(), key=lambda one: one[0].at):
            own = [one for one in deliveries if one.channel == channel]
            if alert.at >= since and not any(one.delivered for one in own):
                found.append(Pending(alert, len(own), max((one.at for one in own), default=None)))
        return found

    def merge_into(self, records: Records) -> int:
        """Move everything there, with what was delivered; what a crash leaves is moved again and changes nothing."""
        moved = 0
        for alert, deliveries in self._all():
            records.record(alert)
            for delivery in deliveries:
                records.note(alert.key, delivery)
            with suppress(OSError):  # a disk that is read-only: it is moved again, and changes nothing
                self._path(alert.key).unlink(missing_ok=True)
            moved += 1
        return moved

    def _path(self, key: str) -> Path:
        return self.folder / f"{fingerprint(key)}.json"

    def _all(self) -> Iterator[tuple[Alert, list[Delivery]]]:
        for path in sorted(self.folder.glob("*.json")):
            yield _read(path)

    def _save(self, alert: Alert, deliveries: list[Delivery]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(alert.key)
        draft = path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as handle:
            json.dump({"alert": asdict(alert), "deliveries": [asdict(d) for d in deliveries]}, handle, default=_plain)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)


def _read(path: Path) -> tuple[Alert, list[Delivery]]:
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    alert = told["alert"]
    at = datetime.fromisoformat
    return (
        Alert(Kind(alert["kind"]), alert["subject"], alert["happened"], at(alert["at"]), alert["key"]),
        [Delivery(d["channel"], at(d["at"]), d["delivered"], d["detail"]) for d in told["deliveries"]],
    )


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an alert")
