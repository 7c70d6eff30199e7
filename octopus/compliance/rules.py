"""The compliance policy: the keys of config/compliance.yaml.

Belongs here: which rules exist, their sources, periods and parameters. Does not: judging orders by them (checks.py,
gate.py).
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Mode(StrEnum):
    """What a broken rule does: denies, warns, or nothing (said in the report)."""

    ENFORCE = "enforce"
    WARN = "warn"
    OFF = "off"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Dated(_Strict):
    """In effect from ``effective_from`` to ``effective_to``, both inclusive; None: until further notice."""

    effective_from: date
    effective_to: date | None

    @model_validator(mode="after")
    def _in_order(self) -> _Dated:
        if self.effective_to is not None and self.effective_to < self.effective_from:
            raise ValueError(
                f"effective_to = {self.effective_to} is before effective_from = {self.effective_from}: swap them"
            )
        return self

    def in_effect(self, session: date) -> bool:
        return self.effective_from <= session and (self.effective_to is None or session <= self.effective_to)


class ListedSymbol(_Dated):
    """An instrument on a list, and why."""

    symbol: str = Field(min_length=1)
    reason: str = Field(min_length=1)


class _Rule(_Dated):
    """What every rule has.

    Attributes:
        id: unique in the policy; the name of its verdicts.
        source: the regulation, or the house's own decision, that asks for it.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source: str = Field(min_length=1)
    mode: Mode


class SymbolListParameters(_Strict):
    entries: tuple[ListedSymbol, ...]


class RestrictedList(_Rule):
    """Instruments that may not be traded at all, in either direction."""

    kind: Literal["restricted_list"]
    parameters: SymbolListParameters


class WatchList(_Rule):
    """Instruments whose trades are to be looked at; normally in mode ``warn``."""

    kind: Literal["watch_list"]
    parameters: SymbolListParameters


class SessionWindowParameters(_Strict):
    """By how many minutes the execution window may reach beyond the regular session."""

    minutes_before_open: float = Field(ge=0, le=1440)
    minutes_after_close: float = Field(ge=0, le=1440)


class SessionWindow(_Rule):
    """A batch is sent in its execution session's hours and before it expires."""

    kind: Literal["session_window"]
    parameters: SessionWindowParameters


class DuplicateOrderParameters(_Strict):
    window_minutes: float = Field(gt=0)


class DuplicateOrder(_Rule):
    """Same instrument, side and quantity as another order of the batch or as an intent of the last minutes."""

    kind: Literal["duplicate_order"]
    parameters: DuplicateOrderParameters


class NoParameters(_Strict):
    """The rule needs none."""


class SelfCross(_Rule):
    """Opposite sides of one instrument working for one owner at the same time."""

    kind: Literal["self_cross"]
    parameters: NoParameters


class ShortSale(_Rule):
    """A sale of more than is held: only where the account may be short and the shares are located."""

    kind: Literal["short_sale"]
    parameters: NoParameters


class PositionLimitSharesParameters(_Strict):
    max_shares: Decimal = Field(gt=0)


class PositionLimitShares(_Rule):
    """Most shares of one instrument, long or short; off on a total-return basis, whose shares are pseudo-shares."""

    kind: Literal["position_limit_shares"]
    parameters: PositionLimitSharesParameters


class PositionLimitFractionParameters(_Strict):
    max_fraction_of_equity: float = Field(gt=0, le=10)


class PositionLimitFraction(_Rule):
    """Largest value of one instrument, long or short, as a fraction of equity."""

    kind: Literal["position_limit_fraction"]
    parameters: PositionLimitFractionParameters


class OrderCountParameters(_Strict):
    max_orders: int = Field(gt=0)


class OrderCount(_Rule):
    """More orders in one batch than any portfolio of this account needs: an error, so none of them passes."""

    kind: Literal["order_count"]
    parameters: OrderCountParameters


class MinimumPriceParameters(_Strict):
    min_price_usd: Decimal = Field(gt=0)


class MinimumPrice(_Rule):
    """No buying of shares below a price; off on a total-return basis, whose prices are index levels."""

    kind: Literal["minimum_price"]
    parameters: MinimumPriceParameters


Rule = (
    RestrictedList
    | WatchList
    | SessionWindow
    | DuplicateOrder
    | SelfCross
    | ShortSale
    | PositionLimitShares
    | PositionLimitFraction
    | OrderCount
    | MinimumPrice
)
KINDS = frozenset(kind for rule in get_args(Rule) for kind in get_args(rule.model_fields["kind"].annotation))


class CompliancePolicy(_Strict):
    """All rules, in the order of their verdicts.

    Every kind appears at least once: a rule is switched off by its mode, in writing, and not by being left out. A kind
    may appear again for another period (the old and the new form of a regulation).

    Attributes:
        version: a name for this state of the policy.
    """

    version: str = Field(min_length=1)
    rules: tuple[Annotated[Rule, Field(discriminator="kind")], ...]

    @model_validator(mode="after")
    def _complete(self) -> CompliancePolicy:
        missing = sorted(KINDS - {rule.kind for rule in self.rules})
        if missing:
            raise ValueError(f"no rule of kind {', '.join(missing)}: add it, with mode off if it is not wanted")
        repeated = sorted(name for name, count in Counter(rule.id for rule in self.rules).items() if count > 1)
        if repeated:
            raise ValueError(f"more than one rule with id {', '.join(repeated)}: give each an id of its own")
        return self
