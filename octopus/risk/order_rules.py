"""Rules on single orders: is this one a mistake, too large, too old, one too many?

Belongs here: rules whose datum belongs to the order or its instrument. Most bind orders that reduce a position too: a
wrong price is wrong on either side. Does not: rules on the account (account_rules.py) and on the batch as a whole
(constraints.py).
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal

from octopus.core.amounts import plain
from octopus.core.errors import MissingDataError
from octopus.core.orders import Outcome, PlannedOrder, Side, Verdict
from octopus.risk.account_rules import only_reductions_pass
from octopus.risk.book import quoted_price, usable_price
from octopus.risk.case import Case, Finding, deny_all, deny_but_reductions, each, terms_problem, verdict

_NOTHING = Decimal(0)


def order_terms(case: Case) -> list[Verdict]:
    counts, known = Counter(order.intent_id for order in case.batch.orders), {order.intent_id for order in case.orders}
    verdicts, passed = [], Outcome.PASS
    for order in case.batch.orders:
        problem = None if order.intent_id in known else terms_problem(order)
        if counts[order.intent_id] > 1:
            problem = f"the intent id {order.intent_id} stands {counts[order.intent_id]} times in the batch"
        outcome = passed if problem is None else Outcome.DENY
        sound = f"{order.side} {plain(order.quantity)} {order.instrument} at {plain(order.reference_price)}"
        verdicts.append(verdict("order_terms", order, outcome, problem or sound))
    return verdicts


def stale_data(case: Case) -> list[Verdict]:
    """The last price must be there and young, also where the broker quotes one: orders are planned by our prices."""
    limit = case.limits.price_age_max_seconds

    def check(order: PlannedOrder) -> Finding:
        case.last_price(order.instrument)
        age = (case.now - case.market.last_prices[order.instrument].at).total_seconds()
        return True, f"the last price of {order.instrument} is {age:.0f} s old", age, limit

    return each(case, "stale_data", check)


def price_collar(case: Case) -> list[Verdict]:
    """The reference and the order's own price, from the last price and the broker's of now: the farthest counts.

    A reduction without a price of its own is only measured from the last price, which it was planned by: it names none
    that could be wrong, and a market that has fallen since must not lock the account in.
    """
    limit = case.limits.price_collar
    most = Decimal(str(limit))

    def check(order: PlannedOrder) -> Finding:
        last, name, price = case.last_price(order.instrument), "reference", order.reference_price
        of, told, distance = last, "the last price", abs(price / last - 1)
        if order.price is not None and (own := abs(order.price / last - 1)) > distance:
            name, price, distance = order.order_type.value, order.price, own
        quoted = quoted_price(order.instrument, case.snapshot)
        names_none = order.price is None and order.intent_id in case.reducing
        if quoted is not None and quoted != last and not names_none:
            for asked, one in (("reference", order.reference_price), (order.order_type.value, order.price)):
                if one is not None and (away := abs(one / quoted - 1)) > distance:
                    name, price, of, told, distance = asked, one, quoted, "the broker's price", away
        reason = f"{name} price {plain(price)} is {distance:.2%} from {told} {plain(of)}"
        return distance <= most, reason, float(distance), limit

    return each(case, "price_collar", check)


def order_notional_usd(case: Case) -> list[Verdict]:
    limit = case.limits.order_notional_max_usd
    bound, told = float(limit), f"limit {limit:,.2f}"

    def check(order: PlannedOrder) -> Finding:
        notional = _notional_usd(case, order)
        reason = f"{order.side} {order.instrument} is worth {notional:,.2f}, {told}"
        return notional <= limit, reason, float(notional), bound

    return each(case, "order_notional_usd", check)


def order_notional_fraction(case: Case) -> list[Verdict]:
    limit = case.limits.order_notional_max_fraction
    most, told = Decimal(str(limit)), f"limit {limit:.2%}"

    def check(order: PlannedOrder) -> Finding:
        fraction = _notional_usd(case, order) / case.marked().equity
        reason = f"{order.side} {order.instrument} is {fraction:.2%} of equity, {told}"
        return fraction <= most, reason, float(fraction), limit

    return each(case, "order_notional_fraction", check)


def adv_participation(case: Case) -> list[Verdict]:
    """Shares of the instrument ordered here and working already, against its volume: slices count together."""
    rule, limit = "adv_participation", case.limits.adv_participation_max
    if case.market.price_basis == "total_return":
        reason = "prices are total-return indices and shares pseudo-shares, so volumes mean nothing here"
        return [verdict(rule, None, Outcome.OFF, reason, None, limit)]
    if case.market.price_basis != "raw":
        return deny_all(case, rule, "the price basis is missing: it must be raw or total_return")
    asked: dict[str, Decimal] = {}
    most = Decimal(str(limit))
    for working in case.snapshot.open_orders:
        asked[working.instrument] = asked.get(working.instrument, _NOTHING) + working.remaining

    def check(order: PlannedOrder) -> Finding:
        name = order.instrument
        asked[name] = asked.get(name, _NOTHING) + order.quantity
        volume = case.market.adv_shares.get(name)
        if volume is None or not usable_price(volume):
            raise MissingDataError(f"the average daily volume of {name} is missing: ingest its volumes")
        if not asked[name].is_finite():
            raise MissingDataError(f"the quantity working in {name} is not a number: take a new snapshot")
        share, shares = asked[name] / volume, plain(asked[name])
        reason = f"{shares} shares of {name} ordered and working are {share:.2%} of its average daily volume"
        return share <= most, reason, float(share), limit

    return each(case, rule, check)


def repeated_execution(case: Case) -> list[Verdict]:
    """Orders on one side of one instrument since the window began or a person resumed trading.

    Where only orders that make a position smaller pass, what is held bounds them, and the rule denies none of them.
    """
    rule, limit = "repeated_execution", case.limits.repeated_executions_max
    if case.market.sent is None:
        return deny_all(case, rule, "what the account has sent lately is missing: read its order events")
    since = case.now - timedelta(seconds=case.limits.repeated_executions_window_seconds)
    if case.market.resumed_at is not None and case.market.resumed_at <= case.now:
        since = max(since, case.market.resumed_at)
    counts: Counter[tuple[str, Side]] = Counter(
        (sent.instrument, sent.side)
        for sent in case.market.sent
        if not (sent.again or sent.cancels) and since < sent.at <= case.now
    )
    told, only = f"since {since:%Y-%m-%d %H:%M:%S}, limit {limit}", only_reductions_pass(case)

    def check(order: PlannedOrder) -> Finding:
        count = counts[order.instrument, order.side] = counts[order.instrument, order.side] + 1
        reason = f"order {count} to {order.side} {order.instrument} {told}"
        if count > limit and only is not None and order.intent_id in case.reducing:
            return True, f"{reason}, which binds no order that makes a position smaller: {only}", None, None
        return count <= limit, reason, float(count), float(limit)

    return each(case, rule, check)


def sector_known(case: Case) -> list[Verdict]:
    """An instrument without a sector can only be reduced."""
    rule = "sector_known"
    if case.limits.sector_weight_max is None:
        return [verdict(rule, None, Outcome.OFF, "sector_weight_max is null: there is no rule on sectors")]

    def check(order: PlannedOrder) -> Finding:
        sector = case.market.sectors.get(order.instrument)
        if sector is None and order.intent_id not in case.reducing:
            raise MissingDataError(
                f"the sector of {order.instrument} is missing: name it in universe.yaml (universe.sectors), or set "
                "sector_weight_max to null"
            )
        return True, f"{order.instrument}: sector {sector or 'unknown, and the order reduces it'}", None, None

    return each(case, rule, check)


def return_history(case: Case) -> list[Verdict]:
    """Who is ordered or held must have returns over the window; of a position without them only less is wanted."""
    rule = "return_history"
    problem = case.history_problem()
    if problem is not None or isinstance(case.history, MissingDataError):
        return deny_but_reductions(case, rule, str(problem))
    window, sessions = case.history, len(case.history.returns)

    def check(order: PlannedOrder) -> Finding:
        name = order.instrument
        hole, filled = window.problem(name), window.filled(name)
        zeros = f"; {filled} of {sessions} are of sessions without a bar and count as zero" if filled else ""
        return hole is None, hole or f"returns of {name} fill the window{zeros}", None, None

    held = () if isinstance(case.book, MissingDataError) else case.book.opening
    filled = [f"{name} {window.filled(name)}" for name in sorted(held) if window.filled(name)]
    if not filled:
        return each(case, rule, check)
    told = f"sessions without a bar count as a return of zero, of {sessions} in what is held: {', '.join(filled)}"
    return [verdict(rule, None, Outcome.PASS, told), *each(case, rule, check)]


def _notional_usd(case: Case, order: PlannedOrder) -> Decimal:
    """At the dearest of the reference, the order's own, the last and the broker's price."""
    last = case.last_price(order.instrument)
    return order.quantity * max(order.dearer_price, last, quoted_price(order.instrument, case.snapshot) or last)
