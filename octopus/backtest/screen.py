"""A quick look at a batch: which rules of both gates surely deny no order of it, without making their verdicts.

Belongs here: sufficient conditions in floats, each with room to spare. Does not: judging. Where a figure is missing, or
within `ROOM` of its limit, or a rule is not known here, the answer is no, and octopus/risk and octopus/compliance judge
themselves. Tests hold them together: what is sure here is approved there, and every rule of theirs is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache, cached_property
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
from octopus.risk.measures import LEVEL, historical_cvar_each, tail, volatility_annual_each
from octopus.risk.signatures import Authority

ROOM = 1e-6
"""Fraction by which a figure must be inside its limit: far more than floats and decimals differ by."""

ALONE = frozenset({
    "account", "limits_signed", "kill_switch", "snapshot_age", "order_terms", "equity", "equity_min_usd", "stale_data",
    "price_collar", "order_notional_usd", "order_notional_fraction", "adv_participation", "repeated_execution",
    "drawdown_stop", "loss_per_day", "sector_known", "return_history",
})  # fmt: skip
"""Rules of the risk gate on single orders that are looked at here, or that an active account with its snapshot of now
cannot break."""
ON_THE_WHOLE = frozenset({
    "name_weight", "position_notional_usd", "long_only", "name_weight_min", "sector", "sector_part_filled", "gross",
    "net_max", "net_min", "leverage", "turnover", "cash", "capital_threshold_usd", "gross_part_filled",
    "net_max_part_filled", "net_min_part_filled", "leverage_part_filled", "cash_part_filled", "message_rate",
    "volatility", "volatility_part_filled", "var_95", "var_95_part_filled", "cvar_95", "cvar_95_part_filled",
    "beta_max", "beta_max_part_filled", "beta_min", "beta_min_part_filled", "tracking_error",
    "tracking_error_part_filled",
})  # fmt: skip
"""And those on the batch as a whole."""
LOSSES = frozenset(rule for rule in ON_THE_WHOLE if rule.startswith(("volatility", "var_95", "cvar_95")))
AGAINST_BENCHMARK = frozenset(rule for rule in ON_THE_WHOLE if rule.startswith(("beta", "tracking_error")))
"""Those that the gate itself judges where there is such a limit."""
RISK_RULES = ALONE | ON_THE_WHOLE
RISK_LIMITS = frozenset({
    "valid_until", "gross_max", "net_min", "net_max", "leverage_max", "name_weight_max", "position_notional_max_usd",
    "sector_weight_max", "capital_threshold_usd", "equity_min_usd", "turnover_max", "turnover_max_initial",
    "partial_fill_allowance", "order_notional_max_usd", "order_notional_max_fraction", "price_collar",
    "price_age_max_seconds", "adv_participation_max", "messages_max", "messages_window_seconds",
    "repeated_executions_max", "repeated_executions_window_seconds", "volatility_max_annual", "var_95_max",
    "cvar_95_max", "var_window_sessions", "drawdown_stop", "drawdown_since",
    "drawdown_resume_sessions", "loss_per_day_max", "snapshot_age_max_seconds",
    "cash_min_fraction", "stress", "long_only", "name_weight_min", "beta_min", "beta_max", "tracking_error_max_annual",
    "benchmark",
})  # fmt: skip

PARAMETERS = frozenset({
    "duplicate_order.window_minutes", "initial_margin.long_fraction", "initial_margin.short_fraction",
    "intraday_margin.long_fraction", "intraday_margin.low_price_short_fraction",
    "intraday_margin.low_price_short_min_usd", "intraday_margin.low_price_usd", "intraday_margin.short_fraction",
    "intraday_margin.short_min_usd", "message_rate.max_messages",
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
        quoted: the broker's prices, which mark what is held, shape (N,).
        cash, peak, previous: account currency; the highest NAV so far and the one before.
        window: returns of the risk gate's window, a hole as zero, shape (sessions, N). whole: whether risk is told
            by it (`octopus.risk.return_window.Window.problem`), (N,). Fewer sessions than the limits ask for: nothing
            is clear.
        sessions_per_year: of their calendar.
        sectors: a number for each sector, -1 where none is known, shape (N,).
        adv: mean volume, shares, shape (N,).
        trade_session, opens, closes, not_before, expires_at: of the execution.
        sent: what was sent before, as far back as any rule looks at least; all of it counts, trading was never resumed.
    """

    columns: IntArray
    change: FloatArray
    reference: FloatArray
    held: FloatArray
    last: FloatArray
    quoted: FloatArray
    age: FloatArray
    cash: float
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

    @cached_property
    def values(self) -> FloatArray:
        """Of the positions, account currency, shape (N,)."""
        return np.asarray(np.where(self.held != 0.0, self.held * self.quoted, 0.0))

    @cached_property
    def equity(self) -> float:
        return self.cash + float(self.values.sum())

    @cached_property
    def sound(self) -> bool:
        """Whether every number that counts is one."""
        used = self.concerned
        sizes = (np.abs(self.change), self.reference, self.last[used], self.quoted[used])
        return self.equity > 0.0 and all(bool((np.isfinite(size) & (size > 0.0)).all()) for size in sizes)

    @cached_property
    def concerned(self) -> BoolArray:
        """Instruments that are held or ordered, shape (N,)."""
        found: BoolArray = self.held != 0.0
        found[self.columns] = True
        return found

    @property
    def notional(self) -> FloatArray:
        """Of each order at the highest of its prices, shape (orders,)."""
        return np.abs(self.change) * self.dearer

    @cached_property
    def dearer(self) -> FloatArray:
        """Of each order the highest of the three prices, shape (orders,)."""
        return np.maximum(self.reference, np.maximum(self.last, self.quoted)[self.columns])

    def of(self, kept: BoolArray) -> Look:
        """The same account with those orders alone, ``kept`` of shape (orders,)."""
        return replace(self, columns=self.columns[kept], change=self.change[kept], reference=self.reference[kept])

    def batches_since(self, window: timedelta) -> list[Sent]:
        return [batch for batch in self.sent if batch.at >= self.now - window]


def in_doubt(look: Look, limits: RiskLimits) -> frozenset[str]:
    """Rules of the risk gate on single orders that may deny one; all others surely pass every order of ``look``."""
    if not _knows_every_rule():
        return frozenset(risk_gate.RULES)
    if not look.sound or not _is_undisputed(look, limits):
        return ALONE
    # A NaN anywhere makes a comparison false, and what is not inside is not sure.
    with np.errstate(invalid="ignore", divide="ignore"):
        return frozenset(rule for rule, is_sure in _ALONE.items() if not is_sure(look, limits))


def in_doubt_on_the_whole(look: Look, limits: RiskLimits, kept: BoolArray | None = None) -> frozenset[str]:
    """Rules of the risk gate on the whole that may leave out an order of ``look``.

    Args:
        kept: instead of all orders these sets of them, shape (sets, orders).
    """
    if not _knows_every_rule():
        return frozenset(risk_gate.RULES)
    if not look.sound or not _is_marked(look, limits) or not _is_undisputed(look, limits):
        return ON_THE_WHOLE
    with np.errstate(invalid="ignore", divide="ignore"):
        lots = _Lots.of(look, np.ones((1, len(look.columns)), dtype=bool) if kept is None else kept)
        doubted = {
            *_large_exposures(look, limits, lots), *_large_sectors(look, limits, lots),
            *_large_losses(look, limits, lots), *_many_shorts(look, limits, lots),
            *(rule for rule in AGAINST_BENCHMARK if limits.off_reason(rule) is None),
        }  # fmt: skip
    return frozenset(doubted if _few_are_sent(look, limits) else {*doubted, "message_rate"})


def is_lawful(look: Look, policy: CompliancePolicy, symbols: tuple[str, ...]) -> bool:
    """Whether the compliance gate surely approves every order."""
    if not _knows_every_rule() or not look.sound:
        return False
    with np.errstate(invalid="ignore", divide="ignore"):
        law = _Law(look, policy.account, symbols)
        context = ComplianceContext(look.trade_session, look.opens, look.closes, False, (), look.basis)
        return all(_obeys(rule, law, context) for rule in policy.rules)


@cache
def _knows_every_rule() -> bool:
    """A rule or limit that was added to a gate since is none of those that are looked at here."""
    known = frozenset(risk_gate.RULES) == RISK_RULES and frozenset(RiskLimits.model_fields) == RISK_LIMITS
    known = known and frozenset(risk_gate.ALONE) == ALONE
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
    bound = _inside(limit)
    return values <= bound if isinstance(values, float) else bool((values <= bound).all())


def _inside(limit: float) -> float:
    return limit - ROOM * max(abs(limit), 1e-3)


# Rules of the risk gate on single orders ------------------------------------------------------------------------------


def _is_signed(look: Look, _limits: RiskLimits) -> bool:
    return look.authority.problem is None or not look.authority.live


def _has_equity(look: Look, limits: RiskLimits) -> bool:
    return _below(-look.equity, -float(limits.equity_min_usd))


def _is_marked(look: Look, limits: RiskLimits) -> bool:
    """Every price that counts is there and young."""
    age = look.age[look.concerned]
    return bool(((age >= 0) & (age <= limits.price_age_max_seconds)).all())


def _is_undisputed(look: Look, limits: RiskLimits) -> bool:
    """The broker's prices are near the last ones, so that they alone count."""
    used = look.concerned
    return _below(np.abs(look.quoted[used] / look.last[used] - 1.0), limits.price_collar)


def _is_near_the_price(look: Look, limits: RiskLimits) -> bool:
    return all(
        _below(np.abs(look.reference / prices[look.columns] - 1.0), limits.price_collar)
        for prices in (look.last, look.quoted)
    )


def _notional_is_small(look: Look, limits: RiskLimits) -> bool:
    return _below(look.notional, float(limits.order_notional_max_usd))


def _fraction_is_small(look: Look, limits: RiskLimits) -> bool:
    return _below(look.notional / look.equity, limits.order_notional_max_fraction)


def _trades_little(look: Look, limits: RiskLimits) -> bool:
    if look.basis == "total_return":
        return True
    # The gate is told volumes that are rounded to a hundredth of a share.
    least = look.adv[look.columns] - 0.01
    return bool((least > 0.0).all()) and _below(np.abs(look.change) / least, limits.adv_participation_max)


def _repeats_seldom(look: Look, limits: RiskLimits) -> bool:
    window = timedelta(seconds=limits.repeated_executions_window_seconds)
    return len(look.batches_since(window)) + 1 <= limits.repeated_executions_max


def _is_near_its_peak(look: Look, limits: RiskLimits) -> bool:
    return look.peak > 0.0 and _below(1.0 - look.equity / look.peak, limits.drawdown_stop)


def _lost_little_today(look: Look, limits: RiskLimits) -> bool:
    return look.previous > 0.0 and _below(1.0 - look.equity / look.previous, limits.loss_per_day_max)


def _sectors_are_known(look: Look, limits: RiskLimits) -> bool:
    return limits.sector_weight_max is None or bool((look.sectors[look.columns] >= 0).all())


def _returns_are_known(look: Look, limits: RiskLimits) -> bool:
    return len(look.window) >= limits.var_window_sessions and bool(look.whole[look.concerned].all())


def _cannot_happen(_look: Look, _limits: RiskLimits) -> bool:
    """The account is one, active, its snapshot of now, and no order of it is unsound."""
    return True


_ALONE: Mapping[str, Callable[[Look, RiskLimits], bool]] = {
    "account": _cannot_happen,
    "limits_signed": _is_signed,
    "kill_switch": _cannot_happen,
    "snapshot_age": _cannot_happen,
    "order_terms": _cannot_happen,
    "equity": _is_marked,
    "equity_min_usd": _has_equity,
    "stale_data": _is_marked,
    "price_collar": _is_near_the_price,
    "order_notional_usd": _notional_is_small,
    "order_notional_fraction": _fraction_is_small,
    "adv_participation": _trades_little,
    "repeated_execution": _repeats_seldom,
    "drawdown_stop": _is_near_its_peak,
    "loss_per_day": _lost_little_today,
    "sector_known": _sectors_are_known,
    "return_history": _returns_are_known,
}
"""Of each rule on single orders, when it surely denies none."""


# Rules of the risk gate on the whole ----------------------------------------------------------------------------------


def _few_are_sent(look: Look, limits: RiskLimits) -> bool:
    messages = sum(batch.orders for batch in look.batches_since(timedelta(seconds=limits.messages_window_seconds)))
    return messages + len(look.columns) <= limits.messages_max


@dataclass(frozen=True, eq=False)
class _Lots:
    """Cash, and what is held, shape (N,), bought and sold, shape (sets, N), fractions of equity; what is sold is
    positive."""

    cash: float
    now: FloatArray
    bought: FloatArray
    sold: FloatArray

    @classmethod
    def of(cls, look: Look, kept: BoolArray) -> _Lots:
        equity = look.equity
        now = look.values / equity
        bought, sold = np.zeros((len(kept), len(now))), np.zeros((len(kept), len(now)))
        traded = kept * (look.change * look.quoted[look.columns] / equity)
        bought[:, look.columns], sold[:, look.columns] = np.maximum(traded, 0.0), np.maximum(-traded, 0.0)
        return cls(look.cash / equity, now, bought, sold)

    @cached_property
    def after(self) -> FloatArray:
        return np.asarray(self.now + self.bought - self.sold)

    @cached_property
    def highest(self) -> FloatArray:
        return np.asarray(self.now + self.bought)

    @cached_property
    def lowest(self) -> FloatArray:
        return np.asarray(self.now - self.sold)

    @cached_property
    def farthest(self) -> FloatArray:
        return np.maximum(np.abs(self.highest), np.abs(self.lowest))


def _large_exposures(look: Look, limits: RiskLimits, lots: _Lots) -> Iterator[str]:
    slack, equity, cash, most = limits.partial_fill_allowance, look.equity, lots.cash, limits.leverage_max
    turnover_max = limits.turnover_max if np.any(look.held) else limits.turnover_max_initial
    largest, reach, net = lots.farthest.max(axis=1), lots.farthest.sum(axis=1), lots.after.sum(axis=1)
    bought, sold, held = lots.bought.sum(axis=1), lots.sold.sum(axis=1), lots.now.sum()
    # Assets are what is long and cash that is not owed; floors are ceilings of what is below them.
    long, longest = np.maximum(lots.after, 0.0).sum(axis=1), np.maximum(lots.highest, 0.0).sum(axis=1)
    proceeds = cash + np.maximum(lots.now, lots.sold - lots.bought).sum(axis=1)
    most_proceeds = cash + np.maximum(lots.now, lots.sold).sum(axis=1)
    ceilings = (
        ("name_weight", largest, limits.name_weight_max),
        ("position_notional_usd", largest * equity, float(limits.position_notional_max_usd)),
        ("capital_threshold_usd", reach * equity, float(limits.capital_threshold_usd)),
        ("gross", np.abs(lots.after).sum(axis=1), limits.gross_max),
        ("net_max", net, limits.net_max),
        ("net_min", -net, -limits.net_min),
        ("leverage", np.maximum(long, proceeds), most),
        ("turnover", bought + sold, turnover_max),
        ("cash", bought - sold - cash, -limits.cash_min_fraction),
        ("gross_part_filled", reach, limits.gross_max + slack),
        ("net_max_part_filled", held + bought, limits.net_max + slack),
        ("net_min_part_filled", sold - held, slack - limits.net_min),
        ("leverage_part_filled", np.maximum(longest, most_proceeds), most + slack),
        ("cash_part_filled", bought - cash, slack - limits.cash_min_fraction),
    )
    rules, values, bounds = zip(*ceilings, strict=True)
    sure = np.stack(values) <= np.array([[_inside(bound)] for bound in bounds])
    yield from (rule for rule, is_sure in zip(rules, sure, strict=True) if not is_sure.all())


def _many_shorts(look: Look, limits: RiskLimits, lots: _Lots) -> Iterator[str]:
    held, after = look.held, look.held[look.columns] + np.minimum(look.change, 0.0)
    # Shares are as many here as there; whoever leaves orders out leaves fewer of them short.
    if limits.long_only and not (np.all(held >= 0.0) and np.all(after >= 0.0)):
        yield "long_only"
    least = limits.name_weight_min
    if least is not None and not _below(-lots.lowest, -least):
        yield "name_weight_min"


def _large_sectors(look: Look, limits: RiskLimits, lots: _Lots) -> Iterator[str]:
    if limits.sector_weight_max is None:
        return
    concerned = look.concerned
    codes = look.sectors[concerned]
    slack, most = limits.partial_fill_allowance, limits.sector_weight_max
    forms = (("sector", np.abs(lots.after), most), ("sector_part_filled", lots.farthest, most + slack))
    is_known = bool(np.all(codes >= 0))
    of = codes[:, None] == np.arange(codes.max(initial=0) + 1)
    for rule, sizes, limit in forms:
        if not is_known or not _below(sizes[:, concerned] @ of, limit):
            yield rule


def _large_losses(look: Look, limits: RiskLimits, lots: _Lots) -> Iterable[str]:
    if not _returns_are_known(look, limits):
        return LOSSES
    # Multiplied in this order, both as they lie in memory, it takes a fiftieth of the time.
    weights = np.concatenate([lots.after, lots.highest, lots.lowest])
    returns = np.ascontiguousarray((look.window @ np.ascontiguousarray(weights.T)).T)
    measures = (
        ("volatility", _volatile_below, limits.volatility_max_annual),
        ("var_95", _var_below, limits.var_95_max),
        ("cvar_95", _cvar_below, limits.cvar_95_max),
    )
    more, whole = 1.0 + limits.partial_fill_allowance, len(lots.after)
    return [
        rule + suffix
        for rule, is_below, limit in measures
        for suffix, part, bound in (("", returns[:whole], limit), ("_part_filled", returns[whole:], limit * more))
        if not is_below(part, _inside(bound), look.sessions_per_year)
    ]


def _volatile_below(returns: FloatArray, bound: float, sessions_per_year: int) -> bool:
    return bool((volatility_annual_each(returns, sessions_per_year) <= bound).all())


def _var_below(returns: FloatArray, bound: float, _year: int) -> bool:
    """Fewer days than make the tail lost more: nothing need be ranked."""
    rank, _ = tail(returns[0], LEVEL)
    return bool(((returns < -bound).sum(axis=1) < rank).all()) and bound >= 0.0


def _cvar_below(returns: FloatArray, bound: float, _year: int) -> bool:
    """CVaR is at most a threshold plus the mean excess over it, whatever the threshold: a guess is often enough.

    Source: Rockafellar and Uryasev (2000), theorem 1.
    """
    _, days = tail(returns[0], LEVEL)
    threshold = bound / 2
    most = threshold + np.maximum(-returns - threshold, 0.0).sum(axis=1) / days
    return bool((most <= bound).all()) or bool((historical_cvar_each(returns, LEVEL) <= bound).all())


# Compliance -----------------------------------------------------------------------------------------------------------


def _obeys(rule: rules.Rule, law: _Law, context: ComplianceContext) -> bool:
    """Whether no order surely breaks ``rule``; one that is off or does not enforce denies nothing."""
    if rule.mode is not Mode.ENFORCE or off_reason(rule, context, law.terms) is not None:
        return True
    check = LAWFUL.get(type(rule))
    return check is not None and check(rule, law)


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
    return look.equity > 0.0 and _below(_ends(look) * look.dearer / look.equity, rule.parameters.max_fraction_of_equity)


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
    return look.equity > 0.0 and _below((float(spent.sum()) - look.cash) / look.equity, 0.0)


def _pays_within_the_day(rule: rules.IntradayMargin, law: _Law) -> bool:
    return not law.terms.margin or _has_margin(rule, law)


def _has_margin(rule: rules.InitialMargin | rules.IntradayMargin, law: _Law) -> bool:
    """What is required once all buys, or all sells, have filled is within equity."""
    look, terms = law.look, rule.parameters
    price = np.maximum(look.last, look.quoted)
    price[look.columns] = look.dearer
    for side in (1.0, -1.0):
        shares = look.held.copy()
        shares[look.columns] += np.where(look.change * side > 0.0, look.change, 0.0)
        values = np.where(shares != 0.0, shares * price, 0.0)
        short = terms.short_fraction * np.maximum(-values, 0.0)
        if isinstance(terms, rules.IntradayMarginParameters) and look.basis != "total_return":
            # Near the price below which shares are cheap, the greater of both: floats do not tell which it is.
            least, cheap = np.maximum(-shares, 0.0), float(terms.low_price_usd)
            dear = np.maximum(short, least * float(terms.short_min_usd))
            low = np.maximum(
                terms.low_price_short_fraction * np.maximum(-values, 0.0), least * float(terms.low_price_short_min_usd)
            )
            short = np.where(
                price > cheap * (1 + ROOM), dear, np.where(price >= cheap * (1 - ROOM), np.maximum(dear, low), low)
            )
        needed = terms.long_fraction * np.maximum(values, 0.0) + short
        if not (look.equity > 0.0 and _below(float(needed.sum()) / look.equity, 1.0)):
            return False
    return True


def _makes_no_day_trade(_rule: rules.PatternDayTrader, law: _Law) -> bool:
    """One auction a session: nothing that it opened is closed in it."""
    return law.look.equity > 0.0


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
