"""What the gate must know of the market and of the account's past, besides the broker's snapshot.

Belongs here: that context as plain values. Does not: reading it (resources/warehouse).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from pydantic import ConfigDict

from octopus.core.errors import MissingDataError
from octopus.core.orders import Side
from octopus.core.panel import PriceBasis
from octopus.core.stats import SESSIONS_PER_YEAR
from octopus.core.types import DateArray, FloatArray


@dataclass(frozen=True)
class LastPrice:
    """The latest price known of an instrument; ``at`` is the instant it was made (a close, a quote), UTC."""

    price: Decimal
    at: datetime


@dataclass(frozen=True)
class SentMessage:
    """A message to the broker: an order that was sent, or sent again under the same id, or asked to be cancelled.

    A replacement is an order that was sent, and where the venue does not swap, a cancellation before it.
    """

    at: datetime
    instrument: str
    side: Side
    again: bool = False
    cancels: bool = False


@dataclass(frozen=True, eq=False)
class ReturnHistory:
    """Simple total returns by session.

    Attributes:
        sessions: ``datetime64[D]``, shape (T,), ascending. symbols: length N.
        returns: fractions, shape (T, N); NaN where the instrument has none.
        sessions_per_year: of their calendar, for annual volatility.
    """

    # pydantic writes and reads what stands beside it in a `MarketContext` (evidence.py).
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    sessions: DateArray
    symbols: tuple[str, ...]
    returns: FloatArray
    sessions_per_year: float = SESSIONS_PER_YEAR

    def __post_init__(self) -> None:
        expected = (len(self.sessions), len(self.symbols))
        if self.returns.shape != expected:
            raise MissingDataError(
                f"return history has shape {self.returns.shape}, expected {expected} (sessions × symbols)"
            )


@dataclass(frozen=True, eq=False)
class MarketContext:
    """Everything the gate judges with, as known at judging time; what is None or absent makes its rule refuse.

    Attributes:
        last_prices: by instrument, of one share as it is now; ordered ones are needed, and held ones of which the
            broker has no price.
        history: through the batch's decision session at least.
        price_basis: ``total_return`` switches off the rules on raw prices and volumes, and says so.
        nav_peak, nav_previous: `octopus.risk.drawdown.references`, account currency.
        adv_shares: average daily volume by instrument, shares; not needed on a total-return basis.
        sectors: by instrument; not needed where `RiskLimits.sector_weight_max` is None.
        sent: what the account has sent, over the longest window of the limits at least; none is not the same as None.
        resumed_at: when trading was last switched on; executions before it are not counted as repeated.
    """

    last_prices: Mapping[str, LastPrice]
    history: ReturnHistory | None
    price_basis: PriceBasis | None
    nav_peak: Decimal | None
    nav_previous: Decimal | None
    adv_shares: Mapping[str, Decimal] = field(default_factory=dict)
    sectors: Mapping[str, str] = field(default_factory=dict)
    sent: tuple[SentMessage, ...] | None = None
    resumed_at: datetime | None = None
