"""The tamper-evident log: appending entries one after the other, and proving that none was changed, dropped or swapped.

Belongs here: storing and streaming the chain, and its anchor outside the database. Does not: hashing and the chain's
rules (octopus/compliance/audit.py), nor what is worth an entry.

An entry is committed in a transaction of its own, never in the one of the change it reports. The order path leaves what
it did in ``execution.outbox``, in the same commit as the change; `AuditLog.drain_outbox` moves it here. So nothing that
happened is missing from the log for longer than until the next drain, and nothing is in it twice.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from octopus.compliance.audit import AuditEntry, seal, verify
from octopus.core.errors import OctopusError
from resources.warehouse.connection import Role, connect

_LOCK_KEY = 0x0C709_0002
"""Advisory lock: one writer extends the chain at a time."""
