"""A quick look at a batch: whether both gates would approve every order of it, without making their verdicts.

Belongs here: sufficient conditions in floats, each with room to spare. Does not: judging. Where a figure is missing, or
within `ROOM` of its limit, or a rule is not known here, the answer is no, and octopus/risk and octopus/compliance judge
themselves. Tests hold them together: what is clear here is approved there, and every rule of theirs is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, get_args

import numpy as np

from octopus.compliance import rules
from octopus.compliance.catalogue import CHECKS
from octopus.compliance.checks import ComplianceContext, off_reason
from octopus.compliance.rules import CompliancePolicy, Mode
from octopus.core.panel import PriceBasis
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.risk import gate as risk_gate
from octopus.risk.limits import RiskLimits
from octopus.risk.measures import historical_cvar_each, historical_var_each, volatility_annual_each
from octopus.risk.signatures import Authority

ROOM = 1e-6
"""Fraction by which a figure must be inside its limit: far more than floats and decimals differ by."""

RISK_RULES = frozenset({
    "account", "limits_signed", "kill_switch", "snapshot_age", "order_terms", "equity", "equity_min_usd", "stale_data",
    "price_collar", "order_notional_usd", "order_notional_fraction", "adv_participation", "repeated_execution",
    "drawdown_stop", "loss_per_day", "sector_known", "name_weight", "position_notional_usd", "sector",
    "sector_part_filled", "gross", "net_max", "net_min", "leverage", "turnover", "cash", "capital_threshold_usd",
    "gross_part_filled", "net_max_part_filled", "net_min_part_filled", "leverage_part_filled", "cash_part_filled",
    "message_rate", "return_history", "volatility", "volatility_part_filled", "var_95", "var_95_part_filled", "cvar_95",
    "cvar_95_part_filled",
})  # fmt: skip
"""Rules of the risk gate that are looked at here, or that an active account with its snapshot of now cannot break."""
RISK_LIMITS = frozenset({
    "valid_until", "gross_max", "net_min", "net_max", "leverage_max", "name_weight_max", "position_notional_max_usd",
    "sector_weight_max", "capital_threshold_usd", "equity_min_usd", "turnover_max", "turnover_max_initial",
    "partial_fill_allowance", "order_notional_max_usd", "order_notional_max_fraction", "price_collar",
    "price_age_max_seconds", "adv_participation_max", "messages_max", "messages_window_seconds",
    "repeated_executions_max", "repeated_executions_window_seconds", "volatility_max_annual", "var_95_max",
    "cvar_95_max", "var_window_sessions", "drawdown_stop", "drawdown_since",
    "drawdown_resume_sessions", "loss_per_day_max", "snapshot_age_max_seconds",
    "cash_min_fraction", "stress",
})  # fmt: skip

PARAMETERS = frozenset({
    "duplicate_order.window_minutes", "initial_margin.long_fraction", "initial_margin.short_fraction",
    "intraday_margin.long_fraction", "intraday_margin.short_fraction", "message_rate.max_messages",
    "message_rate.window_minutes", "minimum_price.min_price_usd", "order_count.max_orders", "order_value.max_value",
    "order_volume.max_shares", "ownership_threshold.max_fraction_outstanding", "pattern_day_trader.max_day_trades",
    "pattern_day_trader.min_equity_usd", "pattern_day_trader.window_sessions",
    "position_limit_fraction.max_fraction_of_equity", "position_limit_shares.max_shares", "restricted_list.entries",
    "session_window.minutes_after_close", "session_window.minutes_before_open", "watch_list.entries",
})  # fmt: skip
"""Of the compliance rules' kinds; those of the kinds themselves are in `LAWFUL`."""


@dataclass(frozen=True)
class Sent:
    """A batch that was sent: when, and how many orders it had, one of an instrument at most."""

    at: datetime
    orders: int


@dataclass(frozen=True, eq=False)
class Look:
    """A batch and its account as floats; the account is active, the snapshot of now, nothing works at the venue.

    Attributes:
        columns, change, reference: of each order, shape (orders,): instrument, signed shares, price it was sized with.
            One instrument has one order at most.
        held, last: shares and last prices, shape (N,). age: of the last price, seconds, shape (N,).
        cash, peak, previous: account currency; the highest NAV so far and the one before.
        window: returns of the risk gate's window, a hole as zero, shape (sessions, N). whole: without a hole, (N,).
            Fewer sessions than the limits ask for: nothing is clear.
        sessions_per_year: of their calendar.
        sectors: a number for each sector, -1 where none is known, shape (N,).
        adv: mean volume, shares, shape (N,).
        broker_equity: at the broker's own marks, none of which is above ``last``.
        trade_session, opens, closes, not_before, expires_at: of the execution.
        sent: what was sent before, as far back as any rule looks at least; all of it counts, trading was never resumed.
    """

    columns: IntArray
    change: FloatArray
    reference: FloatArray
    held: FloatArray
    last: FloatArray
    age: FloatArray
    cash: float
    broker_equity: float
    peak: float
    previous: float
    window: FloatArray
    whole: BoolArray
    sessions_per_year: int
    sectors: IntArray
    adv: FloatArray
    basis: PriceBasis
    trade_session: date
    opens: datetime
    closes: datetime
    not_before: datetime
    expires_at: datetime
    now: datetime
    sent: tuple[Sent, ...]
    authority: Authority

    @property
    def values(self) -> FloatArray:
        """Of the positions, account currency, shape (N,)."""
        return np.asarray(np.where(self.held != 0.0, self.held * self.last, 0.0))

    @property
    def equity(self) -> float:
        return self.cash + float(self.values.sum())

    @property
    def dearer(self) -> FloatArray:
        """Of each order the higher of both prices, shape (orders,)."""
        return np.maximum(self.reference, self.last[self.columns])

    def batches_since(self, window: timedelta) -> list[Sent]:
        return [batch for batch in self.sent if batch.at >= self.now - window]


def clear(look: Look, limits: RiskLimits, policy: CompliancePolicy, symbols: tuple[str, ...]) -> bool:
    """Whether both gates surely approve every order of ``look``; False where they must be asked."""
    if not len(look.columns):
        return True
    if not _knows_every_rule():
        return False
    # A NaN anywhere makes a comparison false, and what is not inside is not clear.
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            _sound(look)
            and _may_trade(look, limits)
            and _orders_are_small(look, limits)
            and _risk_is_small(look, limits)
            and _lawful(look, policy, symbols)
        )


@cache
def _knows_every_rule() -> bool:
    """A rule or limit that was added to a gate since is none of those that are looked at here."""
    known = frozenset(risk_gate.RULES) == RISK_RULES and frozenset(RiskLimits.model_fields) == RISK_LIMITS
    return known and frozenset(CHECKS) == frozenset(LAWFUL) and parameters() == PARAMETERS


def parameters() -> frozenset[str]:
    """Of all kinds of compliance rules there are, as ``kind.parameter``."""
    return frozenset(
        f"{kind}.{name}"
        for rule in CHECKS
        for kind in get_args(rule.model_fields["kind"].annotation)
        for name in getattr(rule.model_fields["parameters"].annotation, "model_fields", {})
    )


def _below(values: FloatArray | float, limit: float) -> bool:
    return bool(np.all(np.asarray(values) <= limit - ROOM * max(abs(limit), 1e-3)))


def _sound(look: Look) -> bool:
    used = look.last[look.columns]
    sizes = (np.abs(look.change), look.reference, used, look.last[look.held != 0.0])
    return look.equity > 0.0 and all(bool(np.all(np.isfinite(size) & (size > 0.0))) for size in sizes)


def _may_trade(look: Look, limits: RiskLimits) -> bool:
    """Signatures, the least equity, and how much was sent lately."""
    messages = sum(batch.orders for batch in look.batches_since(timedelta(seconds=limits.messages_window_seconds)))
    repeats = len(look.batches_since(timedelta(seconds=limits.repeated_executions_window_seconds)))
    return (
        (look.authority.problem is None or not look.authority.live)
        and _below(-look.equity, -float(limits.equity_min_usd))
        and messages + len(look.columns) <= limits.messages_max
        and repeats + 1 <= limits.repeated_executions_max
    )


def _orders_are_small(look: Look, limits: RiskLimits) -> bool:
    used, size, equity = look.last[look.columns], np.abs(look.change), look.equity
    notional = size * look.dearer
    concerned = np.union1d(look.columns, np.flatnonzero(look.held))
    return (
        _below(np.abs(look.reference / used - 1.0), limits.price_collar)
        and bool(np.all((look.age[concerned] >= 0) & (look.age[concerned] <= limits.price_age_max_seconds)))
        and _below(notional, float(limits.order_notional_max_usd))
        and _below(notional / equity, limits.order_notional_max_fraction)
        and (look.basis == "total_return" or _trades_little(look, limits))
    )


def _trades_little(look: Look, limits: RiskLimits) -> bool:
    # The gate is told volumes that are rounded to a hundredth of a share.
    least = look.adv[look.columns] - 0.01
    return bool(np.all(least > 0.0)) and _below(np.abs(look.change) / least, limits.adv_participation_max)


def _risk_is_small(look: Look, limits: RiskLimits) -> bool:
    equity = look.equity
    stops = ((look.peak, limits.drawdown_stop), (look.previous, limits.loss_per_day_max))
    if not all(past > 0.0 and _below(1.0 - equity / past, limit) for past, limit in stops):
        return False
    now = look.values / equity
    bought, sold = np.zeros(len(now)), np.zeros(len(now))
    traded = look.change * look.last[look.columns] / equity
    bought[look.columns], sold[look.columns] = np.maximum(traded, 0.0), np.maximum(-traded, 0.0)
    lots = _Lots(look.cash / equity, now, bought, sold)
    return (
        _exposures_are_small(look, limits, lots)
        and _is_leveraged_little(limits, lots)
        and _sectors_are_small(look, limits, lots)
        and _losses_are_small(look, limits, lots)
    )


@dataclass(frozen=True, eq=False)
class _Lots:
    """Cash, and what is held, bought and sold, fractions of equity, shape (N,); what is sold is positive."""

    cash: float
    now: FloatArray
    bought: FloatArray
    sold: FloatArray

    @property
    def after(self) -> FloatArray:
        return np.asarray(self.now + self.bought - self.sold)

    @property
    def highest(self) -> FloatArray:
        return np.asarray(self.now + self.bought)

    @property
    def lowest(self) -> FloatArray:
        return np.asarray(self.now - self.sold)

    @property
    def farthest(self) -> FloatArray:
        return np.maximum(np.abs(self.highest), np.abs(self.lowest))

    @property
    def concerned(self) -> BoolArray:
        return np.asarray((self.now != 0.0) | (self.bought != 0.0) | (self.sold != 0.0))


def _exposures_are_small(look: Look, limits: RiskLimits, lots: _Lots) -> bool:
    slack, after, farthest, equity = limits.partial_fill_allowance, lots.after, lots.farthest, look.equity
    initial = not np.any(look.held)
    ceilings = (
        (float(farthest.max()), limits.name_weight_max),
        (float(farthest.max()) * equity, float(limits.position_notional_max_usd)),
        (float(farthest.sum()) * equity, float(limits.capital_threshold_usd)),
        (float(np.abs(after).sum()), limits.gross_max),
        (float(after.sum()), limits.net_max),
        (float((lots.bought + lots.sold).sum()), limits.turnover_max_initial if initial else limits.turnover_max),
        (float(farthest.sum()), limits.gross_max + slack),
        (float(lots.highest.sum()), limits.net_max + slack),
    )
    floors = (
        (float(after.sum()), limits.net_min),
        (lots.cash + float((lots.sold - lots.bought).sum()), limits.cash_min_fraction),
        (float(lots.lowest.sum()), limits.net_min - slack),
        (lots.cash - float(lots.bought.sum()), limits.cash_min_fraction - slack),
    )
    return all(_below(value, limit) for value, limit in ceilings) and all(
        _below(-value, -limit) for value, limit in floors
    )


def _is_leveraged_little(limits: RiskLimits, lots: _Lots) -> bool:
    """Assets over equity with all orders filled, and with the buys or the sells alone; cash that is owed is none."""
    slack, now, bought, sold = limits.partial_fill_allowance, lots.now, lots.bought, lots.sold
    assets = (
        (np.maximum(lots.after, 0.0).sum(), 0.0),
        (lots.cash + np.maximum(now, sold - bought).sum(), 0.0),
        (np.maximum(lots.highest, 0.0).sum(), slack),
        (lots.cash + np.maximum(now, sold).sum(), slack),
    )
    return all(_below(float(value), limits.leverage_max + more) for value, more in assets)


def _sectors_are_small(look: Look, limits: RiskLimits, lots: _Lots) -> bool:
    if limits.sector_weight_max is None:
        return True
    concerned = lots.concerned
    codes = look.sectors[concerned]
    if not bool(np.all(codes >= 0)):
        return False
    slack, most = limits.partial_fill_allowance, limits.sector_weight_max
    forms = ((np.abs(lots.after), most), (lots.farthest, most + slack))
    return all(_below(np.asarray(np.bincount(codes, sizes[concerned]), dtype=float), limit) for sizes, limit in forms)


def _losses_are_small(look: Look, limits: RiskLimits, lots: _Lots) -> bool:
    if len(look.window) < limits.var_window_sessions or not bool(look.whole[lots.concerned].all()):
        return False
    # Multiplied in this order, both as they lie in memory, it takes a fiftieth of the time.
    returns = np.ascontiguousarray((look.window @ np.column_stack([lots.after, lots.highest, lots.lowest])).T)
    more = np.array([1.0, *[1.0 + limits.partial_fill_allowance] * 2])
    measures = (
        (volatility_annual_each(returns, look.sessions_per_year), limits.volatility_max_annual),
        (historical_var_each(returns), limits.var_95_max),
        (historical_cvar_each(returns), limits.cvar_95_max),
    )
    return all(_below(values / more, limit) for values, limit in measures)


# Compliance -----------------------------------------------------------------------------------------------------------


def _lawful(look: Look, policy: CompliancePolicy, symbols: tuple[str, ...]) -> bool:
    return all(_obeys(rule, look, policy.account, symbols) for rule in policy.rules)


def _obeys(rule: rules.Rule, look: Look, terms: rules.AccountTerms, symbols: tuple[str, ...]) -> bool:
    """Whether no order surely breaks ``rule``; one that is off or does not enforce denies nothing."""
    context = ComplianceContext(look.trade_session, look.opens, look.closes, False, (), look.basis)
    if rule.mode is not Mode.ENFORCE or off_reason(rule, context, terms) is not None:
        return True
    check = LAWFUL.get(type(rule))
    return check is not None and check(rule, _Law(look, terms, symbols))


@dataclass(frozen=True, eq=False)
class _Law:
    """What the rules are asked about."""

    look: Look
    terms: rules.AccountTerms
    symbols: tuple[str, ...]


def _none_is_listed(rule: rules.RestrictedList | rules.WatchList, law: _Law) -> bool:
    look = law.look
    listed: Collection[str] = {one.symbol for one in rule.parameters.entries if one.in_effect(look.trade_session)}
    return not listed or not any(law.symbols[column] in listed for column in look.columns.tolist())


def _within_hours(rule: rules.SessionWindow, law: _Law) -> bool:
    look, parameters = law.look, rule.parameters
    earliest = look.opens - timedelta(minutes=parameters.minutes_before_open)
    latest = look.closes + timedelta(minutes=parameters.minutes_after_close)
    inside = earliest <= look.not_before < look.expires_at <= latest
    return inside and look.now < look.expires_at


def _nothing_was_sent(rule: rules.DuplicateOrder, law: _Law) -> bool:
    return not law.look.batches_since(timedelta(minutes=rule.parameters.window_minutes))


def _is_covered(_rule: rules.ShortSale | rules.ShortSalePriceTest, law: _Law) -> bool:
    """No sale is short."""
    sold = np.maximum(-law.look.change, 0.0)
    return bool(np.all((sold == 0.0) | (sold <= law.look.held[law.look.columns])))


def _few_shares(rule: rules.PositionLimitShares, law: _Law) -> bool:
    return _below(_ends(law.look), float(rule.parameters.max_shares))


def _small_position(rule: rules.PositionLimitFraction, law: _Law) -> bool:
    look = law.look
    return look.broker_equity > 0.0 and _below(
        _ends(look) * look.dearer / look.broker_equity, rule.parameters.max_fraction_of_equity
    )


def _ends(look: Look) -> FloatArray:
    """How far each order alone may take its instrument, shares, positive on the order's side."""
    return np.asarray(np.sign(look.change) * look.held[look.columns] + np.abs(look.change))


def _few_orders(rule: rules.OrderCount, law: _Law) -> bool:
    return len(law.look.columns) <= rule.parameters.max_orders


def _no_penny(rule: rules.MinimumPrice, law: _Law) -> bool:
    least = float(rule.parameters.min_price_usd)
    return bool(np.all((law.look.change < 0) | (law.look.reference >= least * (1.0 + ROOM))))


def _small_value(rule: rules.OrderValue, law: _Law) -> bool:
    return _below(np.abs(law.look.change) * law.look.reference, float(rule.parameters.max_value))


def _small_volume(rule: rules.OrderVolume, law: _Law) -> bool:
    return _below(np.abs(law.look.change), float(rule.parameters.max_shares))


def _few_messages(rule: rules.MessageRate, law: _Law) -> bool:
    recent = law.look.batches_since(timedelta(minutes=rule.parameters.window_minutes))
    return sum(batch.orders for batch in recent) + len(law.look.columns) <= rule.parameters.max_messages


def _pays_initially(rule: rules.InitialMargin, law: _Law) -> bool:
    if law.terms.margin:
        return _has_margin(rule, law)
    look = law.look
    spent = np.maximum(look.change, 0.0) * look.dearer - np.maximum(-look.change, 0.0) * look.reference
    return look.broker_equity > 0.0 and _below((float(spent.sum()) - look.cash) / look.broker_equity, 0.0)


def _pays_within_the_day(rule: rules.IntradayMargin, law: _Law) -> bool:
    return not law.terms.margin or _has_margin(rule, law)


def _has_margin(rule: rules.InitialMargin | rules.IntradayMargin, law: _Law) -> bool:
    """What is required once all buys, or all sells, have filled is within equity."""
    look, terms = law.look, rule.parameters
    price = look.last.copy()
    price[look.columns] = look.dearer
    for side in (1.0, -1.0):
        shares = look.held.copy()
        shares[look.columns] += np.where(look.change * side > 0.0, look.change, 0.0)
        values = np.where(shares != 0.0, shares * price, 0.0)
        needed = terms.long_fraction * np.maximum(values, 0.0) + terms.short_fraction * np.maximum(-values, 0.0)
        if not (look.broker_equity > 0.0 and _below(float(needed.sum()) / look.broker_equity, 1.0)):
            return False
    return True


def _makes_no_day_trade(_rule: rules.PatternDayTrader, law: _Law) -> bool:
    """One auction a session: nothing that it opened is closed in it."""
    return law.look.broker_equity > 0.0


def _cannot_be_broken(_rule: rules.SelfCross, _law: _Law) -> bool:
    """One order for an instrument, and nothing else works."""
    return True


def _cannot_be_known(_rule: rules.Rule, _law: _Law) -> bool:
    """Asks for data that is not looked at here: the gate itself judges."""
    return False


LAWFUL: Mapping[type[rules.Rule], Callable[[Any, _Law], bool]] = {
    rules.RestrictedList: _none_is_listed,
    rules.WatchList: _none_is_listed,
    rules.SessionWindow: _within_hours,
    rules.DuplicateOrder: _nothing_was_sent,
    rules.SelfCross: _cannot_be_broken,
    rules.ShortSale: _is_covered,
    rules.PositionLimitShares: _few_shares,
    rules.PositionLimitFraction: _small_position,
    rules.OrderCount: _few_orders,
    rules.MinimumPrice: _no_penny,
    rules.ShortSalePriceTest: _is_covered,
    rules.TradingHalt: _cannot_be_known,
    rules.InitialMargin: _pays_initially,
    rules.PatternDayTrader: _makes_no_day_trade,
    rules.IntradayMargin: _pays_within_the_day,
    rules.WashSale: _cannot_be_known,
    rules.OwnershipThreshold: _cannot_be_known,
    rules.OrderValue: _small_value,
    rules.OrderVolume: _small_volume,
    rules.MessageRate: _few_messages,
}
"""Of each kind of rule, when no order surely breaks it."""
