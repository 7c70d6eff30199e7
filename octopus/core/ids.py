"""Deterministic identifiers: the same content always has the same id, so that doing a thing twice is seen.

Belongs here: how ids and content fingerprints are made. Does not: storing or comparing them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import numpy as np


def fingerprint(*parts: object) -> str:
    """SHA-256 (first 32 hex digits) of canonical JSON of ``parts``; arrays count by dtype, shape and bytes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(canonical_json(part).encode())
        digest.update(b"\x1f")
    return digest.hexdigest()[:32]


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces; dates and decimals as strings; NaN refused (it has no JSON form)."""
    return _ENCODER.encode(value)


def _plain(value: object) -> object:
    if isinstance(value, Decimal | date):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no canonical form")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False, ensure_ascii=False)


def batch_id(account: str, session: date, content: str) -> str:
    """Id of a rebalance plan: the account, the decision session and the fingerprint of what it was made from."""
    return f"{session:%Y%m%d}-{fingerprint('batch', account, session, content)[:12]}"


def intent_id(batch: str, instrument: str) -> str:
    """Id of one order intent: one instrument appears once in a batch."""
    return f"{batch}-{fingerprint('intent', batch, instrument)[:10]}"


CLIENT_ORDER_PREFIX = "oct-"
"""Begins every id that a broker sees of us: so an order of ours is told from others without our records."""


def client_order_id(intent: str) -> str:
    """The id a broker sees: at most 32 characters of [0-9a-z-], derived from the intent alone.

    That of an exit is its entry's with a suffix: so an adapter knows an exit's id without our records.
    """
    entry, mark, leg = intent.rpartition(_EXIT_MARK)
    if mark and leg in _EXITS:
        return exit_order_id(client_order_id(entry), leg)
    return f"{CLIENT_ORDER_PREFIX}{fingerprint('client-order', intent)[:24]}"


_EXIT_MARK = "-x-"
_EXITS = ("stop", "target")


def exit_intent_id(entry: str, leg: str) -> str:
    """Id of the intent that is exit ``leg`` (stop or target) of the bracketed intent ``entry``."""
    return f"{entry}{_EXIT_MARK}{leg}"


def exit_order_id(entry: str, leg: str) -> str:
    """Client order id of exit ``leg`` (stop or target) of the entry with the client order id ``entry``."""
    return f"{entry}-{leg[0]}"


def entry_order_id(order: str) -> str | None:
    """Client order id of the entry whose exit's id ``order`` is; None where it is no exit's."""
    entry, _, leg = order.rpartition("-")
    return entry if order.startswith(CLIENT_ORDER_PREFIX) and leg in {name[0] for name in _EXITS} else None
