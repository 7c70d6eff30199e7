"""Margin: what opening positions takes, what keeping them takes within the day, and the count of day trades.

Belongs here: Reg T's initial margin and both forms of the day-trading rule. Does not: the house's own limits on
exposure and cash (octopus/risk).

An account is looked at as if the batch's buys, or its sells, and what is open on their side had all filled, at the
dearer of the plan's and the broker's price. An order that only makes a position smaller is never stopped by margin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from octopus.compliance import rules
from octopus.compliance.checks import Case, Finding, equity_of, is_price
from octopus.core.errors import MissingDataError
from octopus.core.orders import Side, reducing_orders


def initial_margins(rule: rules.InitialMargin, case: Case) -> list[Finding]:
    """A margin account's requirement over its equity; of a cash account, the cash after the batch."""
    if not case.terms.margin:
        return _full_payment(case)
    terms = rule.parameters
    long, short = Decimal(str(terms.long_fraction)), Decimal(str(terms.short_fraction))

    def required(held: Decimal, price: Decimal) -> Decimal:
        return held * price * (long if held > 0 else -short)

    return _requirement(case, required, "initial margin")


def intraday_margins(rule: rules.IntradayMargin, case: Case) -> list[Finding]:
    if not case.terms.margin:
        return _each(case, "a cash account has no intraday margin")
    required = _maintenance(rule.parameters, a_share=case.context.price_basis != "total_return")
    return _requirement(case, required, "maintenance margin within the day")


_Required = Callable[[Decimal, Decimal], Decimal]
"""What a position takes of equity: of shares held (negative: short) at a price."""


def _maintenance(terms: rules.IntradayMarginParameters, *, a_share: bool) -> _Required:
    """FINRA 4210(c)(1) to (3).

    Args:
        a_share: whether prices and amounts a share mean anything; else no shares are cheap.
    """
    long, short = Decimal(str(terms.long_fraction)), Decimal(str(terms.short_fraction))
    short_of_cheap = Decimal(str(terms.low_price_short_fraction))

    def required(held: Decimal, price: Decimal) -> Decimal:
        if held > 0:
            return held * price * long
        if not a_share:
            return -held * price * short
        if price < terms.low_price_usd:
            return -held * max(terms.low_price_short_min_usd, price * short_of_cheap)
        return -held * max(terms.short_min_usd, price * short)

    return required


def _full_payment(case: Case) -> list[Finding]:
    equity_of(case.snapshot)
    buy, sell = Side.BUY, Side.SELL
    dearest = zip(case.batch.orders, case.dearest, strict=True)
    spent = sum((order.quantity * price for order, price in dearest if order.side is buy), Decimal(0))
    earned = sum((order.notional for order in case.batch.orders if order.side is sell), Decimal(0))
    prices = _prices(case)
    open_buys = [order for order in case.snapshot.open_orders if order.side is buy and order.remaining]
    _require_prices((order.instrument for order in open_buys), prices)
    working = sum((order.remaining * prices[order.instrument] for order in open_buys), Decimal(0))
    left = case.snapshot.cash + earned - working - spent
    reason, value = f"the batch's buys leave cash {left:,.2f}; a cash account pays in full", float(left)
    return [Finding(order, order.side is buy and left < 0, reason, value, 0.0) for order in case.batch.orders]


def _requirement(case: Case, required_of: _Required, what: str) -> list[Finding]:
    """Judged on the worse of buys alone and sells alone."""
    equity = equity_of(case.snapshot)
    needed = {side: _needed(case, side, required_of) for side in Side}
    reducing, found = reducing_orders(case.batch.orders, case.snapshot), []
    for order in case.batch.orders:
        required = needed[order.side]
        broken = required > equity and order.intent_id not in reducing
        reason = f"{what} of {required:,.2f} once all {order.side}s fill, equity {equity:,.2f}"
        found.append(Finding(order, broken, reason, float(required), float(equity)))
    return found


def _needed(case: Case, side: Side, required_of: _Required) -> Decimal:
    shares, prices = dict(case.snapshot.positions), _prices(case)
    for order in case.batch.orders:
        if order.side is side:
            shares[order.instrument] = shares.get(order.instrument, Decimal(0)) + order.signed_quantity
    for working in case.snapshot.open_orders:
        if working.side is side:
            shares[working.instrument] = shares.get(working.instrument, Decimal(0)) + side.sign * working.remaining
    _require_prices((name for name, held in shares.items() if held), prices)
    return sum((required_of(held, prices[name]) for name, held in shares.items() if held), Decimal(0))


def _prices(case: Case) -> dict[str, Decimal]:
    """The broker's, and of what the batch trades the dearer of that and the plan's."""
    prices = {name: price for name, price in case.snapshot.prices.items() if is_price(price)}
    for order, dearer in zip(case.batch.orders, case.dearest, strict=True):
        prices[order.instrument] = max(dearer, prices.get(order.instrument, dearer))
    return prices


def _require_prices(names: Iterable[str], prices: Mapping[str, Decimal]) -> None:
    unpriced = sorted(set(names) - prices.keys())
    if unpriced:
        raise MissingDataError(f"the broker's price of {', '.join(unpriced)} is missing: take a new snapshot")


def pattern_day_trades(rule: rules.PatternDayTrader, case: Case) -> list[Finding]:
    if not case.terms.margin:
        return _each(case, "day trades are counted in margin accounts alone")
    done, opened = case.context.day_trades, case.context.opened_today
    if done is None or opened is None:
        raise MissingDataError("the day trades of the last sessions are missing: count them from the fills")
    equity, terms = equity_of(case.snapshot), rule.parameters
    ahead = case.context.exits_ahead
    count, found = done + ahead, []
    waiting = f" with {ahead} that exits may still make" if ahead else ""
    for order in case.batch.orders:
        # What this session opened, closed again by an order of the other side, is one more day trade.
        closes = opened.get(order.instrument, Decimal(0)) * order.side.sign < 0
        # An entry's exits stand for its session: one that executes closes what the session opened.
        exits = order.bracket is not None
        count += closes + exits
        broken = (closes or exits) and count > terms.max_day_trades and equity < terms.min_equity_usd
        does = "closes what the session opened" if closes else "closes nothing that the session opened"
        reason = (
            f"{order.side} {order.instrument} {does}{', and its exits may close what it opens' if exits else ''}: "
            f"{count} day trades in {terms.window_sessions} sessions{waiting}, {terms.max_day_trades} allowed below "
            f"equity {terms.min_equity_usd:,.0f}; equity {equity:,.2f}"
        )
        found.append(Finding(order, broken, reason, float(count), float(terms.max_day_trades)))
    return found


def _each(case: Case, reason: str) -> list[Finding]:
    return [Finding(order, False, reason) for order in case.batch.orders]
