"""The window of returns that losses are told from, and of whom they can be.

Belongs here: cutting the window, and which instruments it says enough of. Does not: what is measured over it
(constraints.py), and what the gate does where it says too little (order_rules.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.risk.market import ReturnHistory

HOLES_MAX = 0.1
"""Part of the window in which an instrument may have no bar. Holidays of one exchange on another's clock are 1 to 6 %
of a year (Tokyo's on New York's are 31 of 499 sessions); more than that is a share that seldom trades, or an ingestion
that failed."""
LOOK_BACK = 20
"""Sessions before the window in which a bar is looked for that its first return can be told from."""


@dataclass(frozen=True, eq=False)
class Window:
    """The last sessions of the return history.

    Attributes:
        columns: by instrument. returns: shape (sessions, instruments); zero in a session without one.
        holes: sessions without a return, by column. infinite: returns that are no numbers.
        begun: whether there is a bar from before the first session, or of it. ended: whether the last session has one.
        sessions_per_year: of their calendar.
    """

    columns: Mapping[str, int]
    returns: FloatArray
    holes: IntArray
    infinite: IntArray
    begun: BoolArray
    ended: BoolArray
    sessions_per_year: float

    @classmethod
    def of(cls, history: ReturnHistory, sessions: int) -> Window:
        """The last ``sessions`` of ``history``.

        A session without a bar between two bars counts as a return of zero, as in
        `octopus.portfolio.covariance.estimate_covariance`: the next bar's return is told from the last bar
        (`octopus.market_data.returns.total_returns`), so that nothing of the move is lost. So does the first bar after
        a spin-off of unknown worth, whose return nobody knows.

        Raises:
            MissingDataError: the history is shorter.
        """
        if len(history.sessions) < sessions:
            raise MissingDataError(
                f"the return history has {len(history.sessions)} sessions, var_window_sessions = {sessions}: "
                "ingest a longer history"
            )
        told = history.returns[-sessions:]
        missing = np.isnan(told)
        holes = missing.sum(axis=0)
        before = history.returns[-sessions - LOOK_BACK : -sessions]
        return cls(
            columns={name: column for column, name in enumerate(history.symbols)},
            returns=np.where(missing, 0.0, told) if holes.any() else told,
            holes=holes,
            infinite=np.isinf(told).sum(axis=0),
            begun=~missing[0] | np.isfinite(before).any(axis=0),
            ended=~missing[-1],
            sessions_per_year=history.sessions_per_year,
        )

    @property
    def whole(self) -> BoolArray:
        """Instruments without a `problem`, by column."""
        few = few_holes(self.holes, len(self.returns))
        return np.asarray((self.infinite == 0) & self.ended & self.begun & few)

    def filled(self, instrument: str) -> int:
        """Sessions of ``instrument`` that count as a return of zero."""
        column = self.columns.get(instrument)
        return 0 if column is None else int(self.holes[column])

    def problem(self, instrument: str) -> str | None:
        """Why the risk of ``instrument`` cannot be told from the window."""
        column, window = self.columns.get(instrument), len(self.returns)
        if column is None:
            return f"the return history of {instrument} is missing: ingest its bars"
        holes, infinite = int(self.holes[column]), int(self.infinite[column])
        if infinite:
            return f"{infinite} of the last {window} returns of {instrument} are no numbers: correct its bars"
        told = f"{holes} of the last {window} returns of {instrument} are missing"
        if not self.ended[column]:
            return f"{told}, the last among them: ingest these sessions"
        if not self.begun[column]:
            return f"{told}, from the first on: ingest a longer history, or wait until it is long enough"
        if not few_holes(holes, window):
            return f"{told}, more than {HOLES_MAX:.0%}: ingest these sessions"
        return None


def few_holes(holes: int | IntArray, window: int) -> bool | BoolArray:
    """Whether a window of returns is whole enough with so many ``holes``."""
    return holes <= HOLES_MAX * window
