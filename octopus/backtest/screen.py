"""A quick look at a batch: whether both gates would approve every order of it, without making their verdicts.

Belongs here: sufficient conditions in floats, each with room to spare. Does not: judging. Where a figure is missing, or
within `ROOM` of its limit, or a rule is not known here, the answer is no, and octopus/risk and octopus/compliance judge
themselves. A test holds the two together: what is clear here is approved there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

import numpy as np

from octopus.compliance import rules
from octopus.compliance.rules import CompliancePolicy, Mode
from octopus.core.panel import PriceBasis
from octopus.core.types import BoolArray, FloatArray, IntArray
from octopus.risk import gate as risk_gate
from octopus.risk.limits import RiskLimits
from octopus.risk.measures import historical_var, volatility_annual

ROOM = 1e-6
"""Fraction by which a figure must be inside its limit: far more than floats and decimals differ by."""

_RISK_RULES = frozenset(
    [
        "account",
        "kill_switch",
        "snapshot_age",
        "order_terms",
        "equity",
        "price_collar",
        "order_notional_usd",
        "order_notional_fraction",
        "adv_participation",
        "drawdown_stop",
        "loss_per_day",
        "name_weight",
        "gross",
        "net_max",
        "net_min",
        "turnover",
        "cash",
        "gross_part_filled",
        "net_max_part_filled",
        "net_min_part_filled",
        "cash_part_filled",
        "return_history",
        "volatility",
        "volatility_part_filled",
        "var_95",
        "var_95_part_filled",
    ]
)
_RISK_LIMITS = frozenset(
    [
        "gross_max",
        "net_min",
        "net_max",
        "name_weight_max",
        "turnover_max",
        "turnover_max_initial",
        "partial_fill_allowance",
        "order_notional_max_usd",
        "order_notional_max_fraction",
        "price_collar",
        "price_age_max_seconds",
        "adv_participation_max",
        "volatility_max_annual",
        "var_95_max",
        "var_window_sessions",
        "drawdown_stop",
        "loss_per_day_max",
        "snapshot_age_max_seconds",
        "cash_min_fraction",
    ]
)


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
        adv: mean volume, shares, shape (N,).
        broker_equity: at the broker's own marks.
        trade_session, opens, closes, not_before, expires_at: of the execution.
        idle: since the last order was approved.
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
    adv: FloatArray
    basis: PriceBasis
    trade_session: date
    opens: datetime
    closes: datetime
    not_before: datetime
    expires_at: datetime
    now: datetime
    idle: timedelta

    @property
    def values(self) -> FloatArray:
        """Of the positions, account currency, shape (N,)."""
        return np.asarray(np.where(self.held != 0.0, self.held * self.last, 0.0))

    @property
    def equity(self) -> float:
        return self.cash + float(self.values.sum())


def clear(look: Look, limits: RiskLimits, policy: CompliancePolicy, symbols: tuple[str, ...]) -> bool:
    """Whether both gates surely approve every order of ``look``; False where they must be asked."""
    if not len(look.columns):
        return True
    if not _knows_every_rule():
        return False
    # A NaN anywhere makes a comparison false, and what is not inside is not clear.
    with np.errstate(invalid="ignore", divide="ignore"):
        return _sound(look) and _orders_are_small(look, limits) and _risk_is_small(look, limits) and _lawful(
            look, policy, symbols
        )  # fmt: skip


@cache
def _knows_every_rule() -> bool:
    """A rule or limit that was added to the risk gate since is none of those that are looked at here."""
    return frozenset(risk_gate.RULES) == _RISK_RULES and frozenset(RiskLimits.model_fields) == _RISK_LIMITS


def _below(values: FloatArray | float, limit: float) -> bool:
    return bool(np.all(np.asarray(values) <= limit - ROOM * max(abs(limit), 1e-3)))


def _sound(look: Look) -> bool:
    used = look.last[look.columns]
    sizes = (np.abs(look.change), look.reference, used, look.last[look.held != 0.0])
    return look.equity > 0.0 and all(bool(np.all(np.isfinite(size) & (size > 0.0))) for size in sizes)


def _orders_are_small(look: Look, limits: RiskLimits) -> bool:
    used, size, equity = look.last[look.columns], np.abs(look.change), look.equity
    notional = size * np.maximum(look.reference, used)
    concerned = np.union1d(look.columns, np.flatnonzero(look.held))
    return (
        _below(np.abs(look.reference / used - 1.0), limits.price_collar)
        and bool(np.all((look.age[concerned] >= 0) & (look.age[concerned] <= limits.price_age_max_seconds)))
        and _below(notional, float(limits.order_notional_max_usd))
        and _below(notional / equity, limits.order_notional_max_fraction)
        and (look.basis == "total_return" or _below(size / look.adv[look.columns], limits.adv_participation_max))
    )


def _risk_is_small(look: Look, limits: RiskLimits) -> bool:
    equity = look.equity
    stops = ((look.peak, limits.drawdown_stop), (look.previous, limits.loss_per_day_max))
    if not all(past > 0.0 and _below(1.0 - equity / past, limit) for past, limit in stops):
        return False
    now = look.values / equity
    bought, sold = np.zeros(len(now)), np.zeros(len(now))
    traded = look.change * look.last[look.columns] / equity
    bought[look.columns], sold[look.columns] = np.maximum(traded, 0.0), np.maximum(-traded, 0.0)
    return _exposures_are_small(look, limits, now, bought, sold) and _losses_are_small(look, limits, now, bought, sold)


def _exposures_are_small(look: Look, limits: RiskLimits, now: FloatArray, bought: FloatArray, sold: FloatArray) -> bool:
    slack, cash = limits.partial_fill_allowance, look.cash / look.equity
    after, highest, lowest = now + bought - sold, now + bought, now - sold
    farthest = np.maximum(np.abs(highest), np.abs(lowest))
    initial = not np.any(look.held)
    ceilings = (
        (float(farthest.max()), limits.name_weight_max),
        (float(np.abs(after).sum()), limits.gross_max),
        (float(after.sum()), limits.net_max),
        (float((bought + sold).sum()), limits.turnover_max_initial if initial else limits.turnover_max),
        (float(farthest.sum()), limits.gross_max + slack),
        (float(highest.sum()), limits.net_max + slack),
    )
    floors = (
        (float(after.sum()), limits.net_min),
        (cash + float((sold - bought).sum()), limits.cash_min_fraction),
        (float(lowest.sum()), limits.net_min - slack),
        (cash - float(bought.sum()), limits.cash_min_fraction - slack),
    )
    return all(_below(value, limit) for value, limit in ceilings) and all(
        _below(-value, -limit) for value, limit in floors
    )


def _losses_are_small(look: Look, limits: RiskLimits, now: FloatArray, bought: FloatArray, sold: FloatArray) -> bool:
    concerned = (now != 0.0) | (bought != 0.0) | (sold != 0.0)
    if len(look.window) < limits.var_window_sessions or not bool(look.whole[concerned].all()):
        return False
    scenarios = np.column_stack([now + bought - sold, now + bought, now - sold])
    returns = look.window @ scenarios
    for place in range(returns.shape[1]):
        more = 1.0 if place == 0 else 1.0 + limits.partial_fill_allowance
        series = np.ascontiguousarray(returns[:, place])
        if not (
            _below(volatility_annual(series), limits.volatility_max_annual * more)
            and _below(historical_var(series), limits.var_95_max * more)
        ):
            return False
    return True


def _lawful(look: Look, policy: CompliancePolicy, symbols: tuple[str, ...]) -> bool:
    return all(_obeys(rule, look, symbols) for rule in policy.rules)


def _obeys(rule: rules.Rule, look: Look, symbols: tuple[str, ...]) -> bool:
    """Whether no order surely breaks ``rule``; a rule that does not enforce denies nothing."""
    if rule.mode is not Mode.ENFORCE or not rule.in_effect(look.trade_session):
        return True
    match rule:
        case rules.RestrictedList():
            return _none_is_listed(rule.parameters.entries, look, symbols)
        case rules.SessionWindow():
            return _within_hours(rule.parameters, look)
        case rules.DuplicateOrder():
            return look.idle > timedelta(minutes=rule.parameters.window_minutes)
        case rules.SelfCross():
            # One order for an instrument, and nothing else works.
            return True
        case rules.ShortSale():
            sold = np.maximum(-look.change, 0.0)
            return bool(np.all((sold == 0.0) | (sold <= look.held[look.columns])))
        case rules.OrderCount():
            return len(look.columns) <= rule.parameters.max_orders
        case rules.PositionLimitShares() | rules.PositionLimitFraction() | rules.MinimumPrice():
            return _limited(rule, look)
    return False


def _none_is_listed(entries: Collection[rules.ListedSymbol], look: Look, symbols: tuple[str, ...]) -> bool:
    listed = {entry.symbol for entry in entries if entry.in_effect(look.trade_session)}
    return not listed or listed.isdisjoint(symbols[column] for column in look.columns.tolist())


def _within_hours(parameters: rules.SessionWindowParameters, look: Look) -> bool:
    earliest = look.opens - timedelta(minutes=parameters.minutes_before_open)
    latest = look.closes + timedelta(minutes=parameters.minutes_after_close)
    inside = earliest <= look.not_before < look.expires_at <= latest
    return inside and look.now < look.expires_at


def _limited(rule: rules.PositionLimitShares | rules.PositionLimitFraction | rules.MinimumPrice, look: Look) -> bool:
    side = np.sign(look.change)
    end = side * look.held[look.columns] + np.abs(look.change)
    if isinstance(rule, rules.PositionLimitFraction):
        price = np.maximum(look.reference, look.last[look.columns])
        return look.broker_equity > 0.0 and _below(
            end * price / look.broker_equity, rule.parameters.max_fraction_of_equity
        )
    if look.basis == "total_return":
        return True
    if isinstance(rule, rules.PositionLimitShares):
        return _below(end, float(rule.parameters.max_shares))
    least = float(rule.parameters.min_price_usd)
    return bool(np.all((side < 0) | (look.reference >= least * (1.0 + ROOM))))
