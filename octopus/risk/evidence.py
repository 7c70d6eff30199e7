"""What the risk gate judged by, as a record from which the same case is opened again years later.

Belongs here: writing and reading that record. Does not: judging (gate.py), storing and sealing it
(resources/warehouse), comparing what is said now with what was said then (octopus/compliance/replay.py).

Everything is in it and nothing is looked up again: a record that leant on the tables of prices would say nothing once
those were thinned out, restored elsewhere or read by another release. The returns are most of it (a megabyte for 500
instruments and a year) and the same for all that is judged on a day: the record names them by their fingerprint, and
they are kept once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property

import numpy as np
from pydantic import TypeAdapter, ValidationError

from octopus.core.errors import UnreadableEvidenceError
from octopus.core.ids import fingerprint
from octopus.core.orders import AccountSnapshot, Batch, TradingState
from octopus.risk.case import Case, open_case
from octopus.risk.limits import RiskLimits
from octopus.risk.market import MarketContext, ReturnHistory
from octopus.risk.return_window import LOOK_BACK
from octopus.risk.signatures import Authority

_FLOATS = np.dtype("<f8")


@dataclass(frozen=True)
class _Returns:
    """A `ReturnHistory` whose returns are kept elsewhere, as little-endian doubles, session by session.

    Attributes:
        kept_as: their fingerprint.
    """

    sessions: tuple[date, ...]
    symbols: tuple[str, ...]
    sessions_per_year: float
    kept_as: str


@dataclass(frozen=True)
class _Given:
    """What the gate was given; ``market`` without its history."""

    batch: Batch
    snapshot: AccountSnapshot
    market: MarketContext
    history: _Returns | None
    limits: RiskLimits
    state: TradingState | None
    authority: Authority
    now: datetime


_GIVEN = TypeAdapter(_Given)


@dataclass(frozen=True, eq=False)
class GateEvidence:
    """What the risk gate judged by; `octopus.core.orders.Evidence`."""

    case: Case

    def record(self) -> Mapping[str, object]:
        """As plain JSON values: `opened_again` makes the same case of it and of `contents`."""
        case, history, names = self.case, self._history, _concerned(self.case)
        sectors = {name: sector for name, sector in case.market.sectors.items() if name in names}
        returns = None if history is None else _Returns(
            tuple(history.sessions.tolist()), history.symbols, history.sessions_per_year, self._kept_as
        )  # fmt: skip
        market = replace(case.market, history=None, sectors=sectors)
        given = _Given(case.batch, case.snapshot, market, returns, case.limits, case.state, case.authority, case.now)
        told: Mapping[str, object] = _GIVEN.dump_python(given, mode="json")
        return told

    def contents(self) -> Mapping[str, bytes]:
        """The returns, by the name that the record has for them."""
        return {} if self._history is None else {self._kept_as: self._history.returns.tobytes()}

    @cached_property
    def _kept_as(self) -> str:
        return fingerprint(None if self._history is None else self._history.returns)

    @cached_property
    def _history(self) -> ReturnHistory | None:
        """Of the history what the gate looks at: the last sessions, and the instruments that are concerned."""
        history, looked_at = self.case.market.history, self.case.limits.var_window_sessions + LOOK_BACK
        if history is None:
            return None
        names = _concerned(self.case)
        columns = [column for column, name in enumerate(history.symbols) if name in names]
        returns = np.ascontiguousarray(history.returns[-looked_at:, columns], dtype=_FLOATS)
        symbols = tuple(history.symbols[column] for column in columns)
        return ReturnHistory(history.sessions[-looked_at:], symbols, returns, history.sessions_per_year)


def opened_again(record: str, contents: Mapping[str, bytes]) -> Case:
    """The case that was judged.

    Args:
        record: JSON text of `GateEvidence.record`. contents: by name, those that it names at least.

    Raises:
        UnreadableEvidenceError: another release recorded another form; the returns are missing, or are others.
    """
    try:
        given = _GIVEN.validate_json(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UnreadableEvidenceError(
            f"the risk gate's record cannot be read by this release ({where}: {first['msg']}); use the release that "
            "wrote it"
        ) from None
    market = replace(given.market, history=None if given.history is None else _kept(given.history, contents))
    return open_case(given.batch, given.snapshot, market, given.limits, given.state, given.authority, given.now)


def _kept(told: _Returns, contents: Mapping[str, bytes]) -> ReturnHistory:
    kept, shape = contents.get(told.kept_as), (len(told.sessions), len(told.symbols))
    if kept is None or len(kept) != shape[0] * shape[1] * _FLOATS.itemsize:
        raise UnreadableEvidenceError(f"{_RETURNS} are missing: {_RESTORE}")
    returns = np.frombuffer(kept, dtype=_FLOATS).reshape(shape)
    if fingerprint(returns) != told.kept_as:
        raise UnreadableEvidenceError(f"{_RETURNS} were altered: {_RESTORE}")
    return ReturnHistory(np.array(told.sessions, dtype="datetime64[D]"), told.symbols, returns, told.sessions_per_year)


_RETURNS = "the returns that the risk gate judged by"
_RESTORE = "compare execution.evidence_contents with a backup"


def _concerned(case: Case) -> frozenset[str]:
    """Instruments that are ordered, held, working or in the benchmark."""
    return frozenset(
        [
            *(order.instrument for order in case.batch.orders), *case.snapshot.positions,
            *(order.instrument for order in case.snapshot.open_orders), *(case.limits.benchmark or ()),
        ]
    )  # fmt: skip
