"""The compliance policy: the keys of config/compliance.yaml.

Belongs here: which rules exist, their sources, periods and parameters. Does not: judging orders by them (checks.py,
gate.py).
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import combinations
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, field_validator, model_validator

from octopus.compliance.surveillance import SurveillanceTerms


class Mode(StrEnum):
    """What a broken rule does."""

    ENFORCE = "enforce"
    """Denies the order."""
    WARN = "warn"
    BROKER = "broker"
    """The broker's duty: what we can see of it is warned of, what we cannot is said to be left to the broker."""
    OFF = "off"
    """Nothing, and the report says so."""


class Jurisdiction(StrEnum):
    """Whose rule it is; the house's own bind wherever the account is (`HOUSES_OWN`)."""

    US = "US"
    EU = "EU"
    HOUSE = "house"


class Bound(StrEnum):
    """Whom a rule binds."""

    CUSTOMER = "customer"
    """The owner of the account."""
    BROKER = "broker"
    """The broker-dealer that the account is kept at."""
    FIRM = "firm"
    """Who runs the trading system: an investment firm, an adviser, a market-access provider."""


class Datum(StrEnum):
    """What a rule must know besides the batch and the policy; without it the rule refuses, and names it."""

    SESSION_HOURS = "session_hours"
    RECENT_INTENTS = "recent_intents"
    SHORT_PERMISSION = "short_permission"
    LOCATES = "locates"
    PRICE_BASIS = "price_basis"
    EQUITY = "equity"
    PRICE_TEST = "price_test"
    HALTS = "halts"
    DAY_TRADES = "day_trades"
    TAX_LOTS = "tax_lots"
    SHARES_OUTSTANDING = "shares_outstanding"


# A set has another order in each process; a policy's record and fingerprint have one.
_IN_ORDER = PlainSerializer(lambda names: sorted(str(name) for name in names), return_type=list[str], when_used="json")


WindowMinutes = Annotated[float, Field(gt=0, le=5 * 1440)]
"""How far a rule looks back: five days at most, because no older intents are read for it."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
        jurisdiction: whose rule it is. binds: whom.
        brokers: at which it holds; None: at all of them. The forms of one regulation differ by broker and date.
        needs: the data that it is judged by, all of `NEEDS`: written out, so that who edits the policy sees them.
    """

    NEEDS: ClassVar[frozenset[Datum]] = frozenset()

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source: str = Field(min_length=1)
    mode: Mode
    jurisdiction: Jurisdiction
    binds: Bound
    brokers: tuple[str, ...] | None = None
    needs: Annotated[frozenset[Datum], _IN_ORDER]

    @model_validator(mode="after")
    def _needs_what_its_kind_needs(self) -> _Rule:
        if self.needs != self.NEEDS:
            wanted = ", ".join(sorted(self.NEEDS)) or "nothing"
            raise ValueError(f"rule {self.id} needs {wanted}: write exactly that into needs")
        return self

    @field_validator("brokers")
    @classmethod
    def _holds_somewhere(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value == ():
            raise ValueError("a rule of no broker never holds: name one, leave brokers out, or set mode to off")
        return value

    def holds_at(self, broker: str) -> bool:
        return self.brokers is None or broker in self.brokers

    def concerns(self, terms: AccountTerms) -> bool:
        """Whether it says or does anything about the account, on some day."""
        ours = self.jurisdiction is Jurisdiction.HOUSE or self.jurisdiction in terms.jurisdictions
        return self.mode is not Mode.OFF and ours and self.holds_at(terms.broker)

    def meets(self, other: _Rule) -> bool:
        """Whether both are in effect on some day at some broker."""
        together = self.brokers is None or other.brokers is None or bool(set(self.brokers) & set(other.brokers))
        starts, ends = (self.effective_from, other.effective_from), (self.effective_to, other.effective_to)
        return together and all(end is None or max(starts) <= end for end in ends)


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

    NEEDS = frozenset({Datum.SESSION_HOURS})
    kind: Literal["session_window"]
    parameters: SessionWindowParameters


class DuplicateOrderParameters(_Strict):
    window_minutes: WindowMinutes


class DuplicateOrder(_Rule):
    """Same instrument, side and quantity as another order of the batch or, as it is sent, as an intent of the last
    minutes."""

    NEEDS = frozenset({Datum.RECENT_INTENTS})
    kind: Literal["duplicate_order"]
    parameters: DuplicateOrderParameters


class NoParameters(_Strict):
    """The rule needs none."""


class SelfCross(_Rule):
    """Opposite sides of one instrument working for one owner at the same time."""

    kind: Literal["self_cross"]
    parameters: NoParameters


class ShortSale(_Rule):
    """A sale of more than is held: only where the account may be short and the shares are located.

    The locates are needed where the account may be short.
    """

    NEEDS = frozenset({Datum.SHORT_PERMISSION, Datum.LOCATES})
    kind: Literal["short_sale"]
    parameters: NoParameters


class PositionLimitSharesParameters(_Strict):
    max_shares: Decimal = Field(gt=0)


class PositionLimitShares(_Rule):
    """Most shares of one instrument, long or short; off on a total-return basis, whose shares are pseudo-shares."""

    NEEDS = frozenset({Datum.PRICE_BASIS})
    kind: Literal["position_limit_shares"]
    parameters: PositionLimitSharesParameters


class PositionLimitFractionParameters(_Strict):
    max_fraction_of_equity: float = Field(gt=0, le=10)


class PositionLimitFraction(_Rule):
    """Largest value of one instrument, long or short, as a fraction of equity."""

    NEEDS = frozenset({Datum.EQUITY})
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

    NEEDS = frozenset({Datum.PRICE_BASIS})
    kind: Literal["minimum_price"]
    parameters: MinimumPriceParameters


class ShortSalePriceTest(_Rule):
    """No short sale while the price test restricts the instrument.

    Reg SHO 201(b)(1): once the price fell by 10 % from the last close, short sales execute only above the national best
    bid, for the rest of that day and the next. An order at the market has no price above the bid, and of one with a
    limit it is not known: no bid is.
    """

    NEEDS = frozenset({Datum.PRICE_TEST})
    kind: Literal["short_sale_price_test"]
    parameters: NoParameters


class TradingHalt(_Rule):
    """No order in an instrument whose trading is halted."""

    NEEDS = frozenset({Datum.HALTS})
    kind: Literal["trading_halt"]
    parameters: NoParameters


class InitialMarginParameters(_Strict):
    """Fractions of market value that the account's own money must cover."""

    long_fraction: float = Field(gt=0, le=1)
    short_fraction: float = Field(gt=0, le=2)


class InitialMargin(_Rule):
    """What positions take of the account's equity when they are opened; in a cash account, all of it.

    12 CFR 220.12 (margin account: half the value of shares bought; of shares sold short, half beside the proceeds) and
    220.8 (cash account: full payment).
    """

    NEEDS = frozenset({Datum.EQUITY})
    kind: Literal["initial_margin"]
    parameters: InitialMarginParameters


class PatternDayTraderParameters(_Strict):
    """``max_day_trades`` in ``window_sessions`` sessions are still allowed below ``min_equity_usd``."""

    max_day_trades: int = Field(ge=0)
    window_sessions: int = Field(ge=1, le=252)
    min_equity_usd: Decimal = Field(gt=0)


class PatternDayTrader(_Rule):
    """The old form of the day-trading rule: FINRA 4210(f)(8)(B), in margin accounts.

    An order that closes what the same session opened is a day trade.
    """

    NEEDS = frozenset({Datum.DAY_TRADES, Datum.EQUITY})
    kind: Literal["pattern_day_trader"]
    parameters: PatternDayTraderParameters


class IntradayMarginParameters(_Strict):
    """Maintenance margin of FINRA 4210(c): fractions of market value, and of what is short the greater of that and an
    amount a share, account currency.

    Attributes:
        long_fraction: (c)(1). short_fraction, short_min_usd: (c)(3), of shares at ``low_price_usd`` and above.
        low_price_short_fraction, low_price_short_min_usd: (c)(2), of shares below ``low_price_usd``.
    """

    long_fraction: float = Field(gt=0, le=1)
    short_fraction: float = Field(gt=0, le=2)
    short_min_usd: Decimal = Field(default=Decimal("5.00"), ge=0)
    low_price_usd: Decimal = Field(default=Decimal("5.00"), ge=0)
    low_price_short_fraction: float = Field(default=1.0, gt=0, le=2)
    low_price_short_min_usd: Decimal = Field(default=Decimal("2.50"), ge=0)


class IntradayMargin(_Rule):
    """The new form: FINRA 4210(d)(2) as amended by SR-FINRA-2025-017, in margin accounts.

    No transaction may create or increase a deficit of maintenance margin within the day. Amounts a share mean nothing
    on a total-return basis, whose prices are index levels: there fractions alone count.
    """

    NEEDS = frozenset({Datum.EQUITY})
    kind: Literal["intraday_margin"]
    parameters: IntradayMarginParameters


class WashSale(_Rule):
    """An order that makes, or repeats within the window, a sale at a loss: the loss moves into the replacement's basis.

    It is a matter of tax, not of permission, so it warns and never denies.
    """

    NEEDS = frozenset({Datum.TAX_LOTS})
    kind: Literal["wash_sale"]
    parameters: NoParameters

    @model_validator(mode="after")
    def _never_denies(self) -> WashSale:
        if self.mode is Mode.ENFORCE:
            raise ValueError("a wash sale is allowed, its loss is deferred: set mode to warn, or to off")
        return self


class OwnershipThresholdParameters(_Strict):
    max_fraction_outstanding: float = Field(gt=0, le=1)


class OwnershipThreshold(_Rule):
    """Holding more than a fraction of an issuer's shares; off on a total-return basis with its pseudo-shares."""

    NEEDS = frozenset({Datum.SHARES_OUTSTANDING, Datum.PRICE_BASIS})
    kind: Literal["ownership_threshold"]
    parameters: OwnershipThresholdParameters


class OrderValueParameters(_Strict):
    max_value: Decimal = Field(gt=0)


class OrderValue(_Rule):
    """Largest value of one order, account currency."""

    kind: Literal["order_value"]
    parameters: OrderValueParameters


class OrderVolumeParameters(_Strict):
    max_shares: Decimal = Field(gt=0)


class OrderVolume(_Rule):
    """Most shares of one order; off on a total-return basis, whose shares are pseudo-shares."""

    NEEDS = frozenset({Datum.PRICE_BASIS})
    kind: Literal["order_volume"]
    parameters: OrderVolumeParameters


class MessageRateParameters(_Strict):
    max_messages: int = Field(gt=0)
    window_minutes: WindowMinutes


class MessageRate(_Rule):
    """Most messages within a window: the batch's orders, those that were approved before it (replacements are orders
    too), cancellations, and orders that were sent again."""

    NEEDS = frozenset({Datum.RECENT_INTENTS})
    kind: Literal["message_rate"]
    parameters: MessageRateParameters


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
    | ShortSalePriceTest
    | TradingHalt
    | InitialMargin
    | PatternDayTrader
    | IntradayMargin
    | WashSale
    | OwnershipThreshold
    | OrderValue
    | OrderVolume
    | MessageRate
)
HOUSES_OWN: tuple[type[_Rule], ...] = (
    RestrictedList, WatchList, SessionWindow, DuplicateOrder, SelfCross, ShortSale, PositionLimitShares,
    PositionLimitFraction, OrderCount, MinimumPrice, TradingHalt,
)  # fmt: skip
"""Controls by the house's own lists, limits and permissions, and what every venue refuses. A state may ask for them
too, and is their source then; that the account is not of that state switches none of them off."""
KINDS = frozenset(kind for rule in get_args(Rule) for kind in get_args(rule.model_fields["kind"].annotation))


class AccountTerms(_Strict):
    """What the account is, as far as rules ask.

    Attributes:
        broker: where it is kept, as the rules' ``brokers`` name it.
        jurisdictions: whose rules bind it, besides the house's: by its owner, its broker or its market.
        margin: a margin account; otherwise a cash account.
        short: whether the account may be short at all; then its short sales need locates.
    """

    broker: str = Field(min_length=1)
    jurisdictions: Annotated[frozenset[Jurisdiction], _IN_ORDER]
    margin: bool
    short: bool = False


class ReferenceFiles(_Strict):
    """CSV files of reference data that the user brings (octopus/compliance/reference.py); None: not brought."""

    halts: str | None = None
    locates: str | None = None
    shares_outstanding: str | None = None


class CompliancePolicy(_Strict):
    """All rules, in the order of their verdicts.

    Every kind appears at least once: a rule is switched off by its mode, in writing, and not by being left out. A kind
    may appear again for another period (the old and the new form of a regulation).

    Attributes:
        version: a name for this state of the policy.
        account: what the account is: rules of other brokers and jurisdictions are off.
        surveillance: thresholds of what is looked for in orders after the trade.
        data: where the rules' reference data is; what is not named here comes from our own records.
    """

    version: str = Field(min_length=1)
    account: AccountTerms
    surveillance: SurveillanceTerms = SurveillanceTerms()
    data: ReferenceFiles = ReferenceFiles()
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

    @model_validator(mode="after")
    def _one_form_at_a_time(self) -> CompliancePolicy:
        """The old and the new form of the day-trading rule exclude each other at one broker."""
        forms = [rule for rule in self.rules if isinstance(rule, PatternDayTrader | IntradayMargin)]
        for one, other in combinations(forms, 2):
            if one.mode is not Mode.OFF and other.mode is not Mode.OFF and one.meets(other):
                raise ValueError(f"{one.id} and {other.id} are in effect together: give them other brokers or dates")
        return self

    @property
    def watches_wash_sales(self) -> bool:
        return any(isinstance(rule, WashSale) and rule.concerns(self.account) for rule in self.rules)

    def unsourced(self) -> tuple[tuple[_Rule, Datum], ...]:
        """Rules that deny or warn by reference data which no file brings, each with the datum.

        Locates are needed only where the account may be short. What else rules need is in our own bars, books and
        calendar, and in the broker's snapshot.
        """
        brought = {
            Datum.HALTS: self.data.halts,
            Datum.SHARES_OUTSTANDING: self.data.shares_outstanding,
            Datum.LOCATES: self.data.locates if self.account.short else "not asked",
        }
        return tuple(
            (rule, datum)
            for rule in self.rules
            if rule.concerns(self.account) and rule.mode is not Mode.BROKER
            for datum in sorted(rule.needs)
            if datum in brought and brought[datum] is None
        )
