"""One session of the simulated account, compiled: the rules of simulator.py, once, for every way of running them.

Belongs here: arithmetic over the instruments of a session, and the loop over sessions where all targets are known
beforehand. Does not: preparing arrays (market.py), what a decision is (simulator.py).

Every function changes the account's arrays in place. Loops over instruments choose between values rather than branch,
so that the compiler does several at a time and no guess about an order's side is wrong; sums keep the order of the
instruments, so that they are the same on every machine. Marks and money are in the account's currency; prices of fills
and limits are in the instrument's own, each fill with the rate at which it was converted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit

from octopus.core.brackets import NO_EXIT, TARGET, exit_at
from octopus.core.currency import RATE_DECIMALS
from octopus.core.limit_orders import is_reached
from octopus.core.types import BoolArray, FloatArray

(
    EQUITY, CASH, PRICE_PNL, DIVIDENDS, SPIN_OFFS, REDEMPTIONS, SPREAD, COMMISSION, IMPACT, BORROW, FINANCING, INTEREST,
    TURNOVER, CONVERSION, CURRENCY_PNL,
) = range(15)  # fmt: skip
KINDS = 15
"""Columns of the record of sessions, in account currency; turnover is a fraction of the equity before."""
FILL = 8
"""Columns of the ledger of fills: row, instrument, change, price, reference, fee, rate of conversion, and which of
`KINDS_OF_FILL`."""
ORDERED, REST, STOPPED, TARGETED = KINDS_OF_FILL = range(4)
"""Fills of an order, of what was left of a worked one for the close, and of an entry's exits."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function, **options: Any) -> _Function:
    """For Python to call, with the types that it comes with first; none of C's."""
    options["no_cfunc_wrapper"] = True  # which Numba's stubs do not know
    compiled: Any = njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    return cast("_Function", compiled)


def _step(function: _Function, **options: Any) -> _Function:
    """As `_compiled`, for what allocates nothing and is a part of `run`, too: counting references to the arrays of
    `Market` and `Account` in each call costs more than the arithmetic of a hundred instruments."""
    return _compiled(function, forceinline=True, _nrt=False, **options)


def _inlined(function: _Function) -> _Function:
    """A part of steps, and of nothing else: to take `Market` and `Account` out of Python's hands would take longer to
    compile than what it does. Called from Python it ends the process."""
    return _step(function, no_cpython_wrapper=True)


_exit_at, _is_reached = _inlined(exit_at), _inlined(is_reached)
_ROUNDING = 1e9
"""Quantities are rounded to this part of a lot before they are cut: 999.9999999999 lots are 1000."""
_RATE_UNIT = 10.0**RATE_DECIMALS
_ZERO = cast("int", np.int64(0))
"""No literal, for which Numba would compile whatever takes it once more."""
_HALVES = 2e-15
"""So near to a half, as a part of the number, is one: a few products in floats are off by less than that."""


class Market(NamedTuple):
    """What happens outside the account; rows are sessions, columns instruments, all (T, N) unless said otherwise.

    Attributes:
        fill: reference price of the session's execution, as printed; NaN where nothing can execute.
        low, high, opening, printed: of the session, as printed, the last its close; for limit orders, (1, 1) where
            there are none.
        close: the mark, account currency; NaN without a bar, and after a delisting.
        split, dividend, spin_off, member, delisting: as in `octopus.backtest.simulator.simulate`, money in the
            account's currency; an unknown worth is 0.0; spin_off and delisting are (1, 1) where there is none.
        volume: shares traded in the session; adv, sigma: mean volume in shares and daily volatility, as known at the
            decision before; (1, 1) where no rule asks for them.
        acts, spins, outsiders, endings: whether the session has a split or dividend, a spin-off, a non-member, a
            delisting at all, shape (T,).
        rate: account currency for one unit of an instrument's; (1, 1) where all are in the account's.
        conversion: fraction by which a conversion is worse than the rate, by instrument, shape (N,).
        converts: whether any instrument is in another currency.
        due: what is due of an order as each slice of the session begins, a fraction of the order or, where it follows
            the volume, of ``expected``, the shares that the next session is expected to trade; shape (T, slices), no
            slices and (1, 1) where there is no schedule or it follows none (octopus/backtest/working.py).
        in_close: whether what is never due goes into the close.
        stops, targets: exits of a purchase planned at that close, for the session after it, as printed; NaN without
            one; (1, 1) where there are none at all. exits: whether there are.
        purchases, sales: limits of orders planned at that close, for the session after it, as printed; (1, 1) where
            orders have none. limited: whether they have.
    """

    fill: FloatArray
    opening: FloatArray
    high: FloatArray
    low: FloatArray
    printed: FloatArray
    close: FloatArray
    split: FloatArray
    dividend: FloatArray
    spin_off: FloatArray
    member: BoolArray
    delisting: FloatArray
    volume: FloatArray
    adv: FloatArray
    sigma: FloatArray
    acts: BoolArray
    spins: BoolArray
    outsiders: BoolArray
    endings: BoolArray
    rate: FloatArray
    conversion: FloatArray
    converts: bool
    due: FloatArray
    expected: FloatArray
    follows: bool
    in_close: bool
    stops: FloatArray
    targets: FloatArray
    exits: bool
    purchases: FloatArray
    sales: FloatArray
    limited: bool


class Rules(NamedTuple):
    """Numbers that a run keeps; fractions and shares.

    Attributes:
        lot: 0.0 trades any fraction. move: fraction by which a fill is worse than its reference. rate, least_fee:
        commission. band, least: smallest change, fraction of equity and account currency. buffer: fraction of equity.
        impact: coefficient of the square root; 0.0 for none. participation: of a session's volume; inf for no cap.
        borrow, financing, interest: of one session, fractions of short value, debt and cash.
        rounds: prices of fills to a millionth (half to even), commissions to the cent (half up), rates of conversions
            to `RATE_DECIMALS` places.
        lots: of the instruments' own, to which is cut after ``lot``, shape (N,), 0.0 for none; (0,) where none has one.
        steps: of which each instrument's orders are multiples (`octopus.portfolio.units.TradingUnits.step`), shape
            (N,); (0,) where all keep ``lot``.
    """

    lot: float
    fractional: bool
    long_only: bool
    band: float
    least: float
    buffer: float
    move: float
    rate: float
    least_fee: float
    impact: float
    participation: float
    borrow: float
    financing: float
    interest: float
    rounds: bool
    lots: FloatArray
    steps: FloatArray


class Account(NamedTuple):
    """State and working space of the account, shape (N,) but for ``money``.

    Attributes:
        held, pending: shares, the latter as planned, or what of worked orders is left for the close. mark: last price,
            account currency. money: cash and equity.
        change, price, fee, reference: of the last session's fills; zero change for none. move: fraction by which each
            fill is worse than its reference. rate: at which it was converted; spot: before what a conversion costs.
            kind: of `KINDS_OF_FILL`. worth: of a share of each order, account currency. terms: scratch for what is
            summed, shape (2, N).
    """

    held: FloatArray
    pending: FloatArray
    mark: FloatArray
    money: FloatArray
    change: FloatArray
    price: FloatArray
    fee: FloatArray
    reference: FloatArray
    move: FloatArray
    rate: FloatArray
    spot: FloatArray
    worth: FloatArray
    kind: FloatArray
    terms: FloatArray


def new_account(count: int, cash: float) -> Account:
    """An account with nothing but cash."""
    held, pending, change, price, fee, reference, move, worth, kind = (np.zeros(count) for _ in range(9))
    mark, money = np.full(count, np.nan), np.array([cash, cash], dtype=np.float64)
    rate, spot, terms = np.ones(count), np.ones(count), np.zeros((2, count))
    return Account(held, pending, mark, money, change, price, fee, reference, move, rate, spot, worth, kind, terms)


@_step
def floor_to_lot(shares: float, lot: float) -> float:
    """Cut towards zero to a multiple of ``lot``."""
    if lot <= 0.0:
        return shares
    return float(np.trunc(np.rint(shares / lot * _ROUNDING) / _ROUNDING) * lot)


@_inlined
def _own_lots(shares: float, i: int, rules: Rules) -> float:
    """Cut to the instrument's own lots, where it has any."""
    return floor_to_lot(shares, rules.lots[i]) if len(rules.lots) > 0 else shares


@_inlined
def _step_of(i: int, rules: Rules) -> float:
    return float(rules.steps[i]) if len(rules.steps) > 0 else rules.lot


@_inlined
def _whole(lots: float) -> float:
    """Cut to a whole number, unless no more than rounding is missing to the next one."""
    nearest = np.rint(lots)
    return float(nearest if abs(lots - nearest) <= 1.0 / _ROUNDING + 1e-15 * lots else np.floor(lots))


@_inlined
def _to_millionth(price: float) -> float:
    millionths = price * 1e6
    whole = np.floor(millionths)
    if abs(millionths - whole - 0.5) <= millionths * _HALVES:
        return float((whole + whole % 2.0) / 1e6)
    return float(np.rint(millionths) / 1e6)


@_inlined
def _to_cent(fee: float) -> float:
    return float(np.floor(fee * 100.0 * (1.0 + _HALVES) + 0.5) / 100.0)


@_step
def afford(
    change: FloatArray,
    price: FloatArray,
    move: FloatArray,
    terms: FloatArray,
    cash: float,
    rules: Rules,
    children: int = 1,
) -> None:
    """All purchases of ``change`` scaled down by one factor to what ``cash`` and the sales pay, costs included.

    Args:
        terms: scratch, shape (2, N).
        children: into how many an order may be cut, each of which pays the least commission.
    """
    count, rate, least = len(change), rules.rate, rules.least_fee * children
    for i in range(count):
        wanted = change[i]
        signed = wanted * price[i] * (1.0 + move[i] if wanted > 0.0 else 1.0 - move[i])
        paid = signed + max(abs(signed) * rate, least)
        terms[0, i] = paid if wanted > 0.0 else 0.0
        terms[1, i] = paid if wanted < 0.0 else 0.0
    power, cost = cash, 0.0
    for i in range(count):
        cost += terms[0, i]
        power -= terms[1, i]
    if cost <= power:
        return
    value, buys = 0.0, 0
    for i in range(count):
        if change[i] > 0.0:
            value += change[i] * price[i] * (1.0 + move[i])
            buys += 1
    if buys == 0:
        return
    # The least commissions do not shrink with the orders: they are set aside first.
    part = max(power - least * buys, 0.0) / (value * (1.0 + rules.rate))
    for i in range(count):
        if change[i] > 0.0:
            scaled = np.trunc(change[i] * part / rules.lot) * rules.lot if rules.lot > 0.0 else change[i] * part
            change[i] = _own_lots(scaled, i, rules)


@_step
def begin(row: int, at: int, market: Market, rules: Rules, account: Account, record: FloatArray) -> None:
    """What a session brings before anything trades: interest on the last close's cash, new rates, corporate actions."""
    _accrue(at, rules, account, record)
    if market.converts:
        record[at, CURRENCY_PNL] = _revalue(row, market, account)
    if market.acts[row]:
        record[at, DIVIDENDS] = _act(row, market, rules, account)
    if market.spins[row]:
        record[at, SPIN_OFFS] = _spun_off(row, market, account)


@_inlined
def _accrue(at: int, rules: Rules, account: Account, record: FloatArray) -> None:
    cash, short = account.money[0], 0.0
    if rules.borrow > 0.0:
        for i in range(len(account.held)):
            if account.held[i] < 0.0:
                short -= account.held[i] * account.mark[i]
    record[at, INTEREST], record[at, FINANCING] = max(cash, 0.0) * rules.interest, max(-cash, 0.0) * rules.financing
    record[at, BORROW] = short * rules.borrow
    account.money[0] = cash + record[at, INTEREST] - record[at, FINANCING] - record[at, BORROW]


@_inlined
def _revalue(row: int, market: Market, account: Account) -> float:
    """Marks at the session's rates; what that earned on what is held."""
    earned = 0.0
    for i in range(len(account.held)):
        rate, before, mark = market.rate[row, i], market.rate[row - 1, i], account.mark[i]
        if rate != before and np.isfinite(rate) and np.isfinite(before) and np.isfinite(mark):
            account.mark[i] = mark / before * rate
            if account.held[i] != 0.0:
                earned += account.held[i] * (account.mark[i] - mark)
    return earned


@_inlined
def _act(row: int, market: Market, rules: Rules, account: Account) -> float:
    """Splits and dividends of the session; the dividends received."""
    fractions, dividends = 0.0, 0.0
    for i in range(len(account.held)):
        split = market.split[row, i]
        if split != 1.0:
            after = account.held[i] * split
            if not rules.fractional and after != 0.0:
                # A fraction of a new share is worth the old mark divided by the ratio.
                fraction = after - floor_to_lot(after, rules.lot)
                if fraction != 0.0:
                    fractions += fraction * account.mark[i] / split
                    after -= fraction
            account.held[i] = after
            account.mark[i] /= split
            account.pending[i] = 0.0
        if account.held[i] != 0.0:
            dividends += account.held[i] * market.dividend[row, i]
    account.money[0] += fractions + dividends
    return dividends


@_inlined
def _spun_off(row: int, market: Market, account: Account) -> float:
    """What the session's spin-offs bring to the shares held at its open; `finish` pays it, at the first close."""
    worth = 0.0
    for i in range(len(account.held)):
        if account.held[i] != 0.0:
            worth += account.held[i] * market.spin_off[row, i]
    return worth


@_inlined
def _at_any_price(row: int, market: Market, account: Account) -> int:
    """What of the pending orders executes at the session's price; the number of orders."""
    fill, pending, change, reference = market.fill[row], account.pending, account.change, account.reference
    orders = 0
    for i in range(len(pending)):
        wanted, price = pending[i], fill[i]
        taken = (wanted != 0.0) & np.isfinite(price)
        change[i] = wanted if taken else 0.0
        reference[i] = price if taken else 0.0
        orders += taken
    pending[:] = 0.0
    return orders


@_inlined
def _limit_of(row: int, i: int, wanted: float, market: Market) -> float:
    return float(market.purchases[row - 1, i] if wanted > 0.0 else market.sales[row - 1, i])


@_inlined
def _at_the_open(row: int, market: Market, account: Account) -> int:
    """What of the pending limit orders executes at the open; the number of orders. The others stay pending."""
    opening, pending, change, reference = market.opening[row], account.pending, account.change, account.reference
    orders = 0
    for i in range(len(pending)):
        wanted = pending[i]
        sign = 1.0 if wanted > 0.0 else -1.0
        taken = (wanted != 0.0) & (sign * opening[i] <= sign * _limit_of(row, i, wanted, market))
        change[i] = wanted if taken else 0.0
        reference[i] = opening[i] if taken else 0.0
        pending[i] = 0.0 if taken else wanted
        orders += taken
    return orders


@_inlined
def _within_limits(row: int, market: Market, account: Account) -> None:
    """No fill is worse than its limit."""
    for i in range(len(account.change)):
        wanted = account.change[i]
        if wanted != 0.0:
            account.move[i] = min(account.move[i], abs(_limit_of(row, i, wanted, market) / account.reference[i] - 1.0))


@_inlined
def _at_limits(row: int, market: Market, rules: Rules, account: Account) -> None:
    """What of the limit orders still pending the session reaches, see `octopus.core.limit_orders.is_reached`."""
    pending, change = account.pending, account.change
    for i in range(len(pending)):
        wanted, limit = pending[i], _limit_of(row, i, pending[i], market)
        pending[i] = change[i] = account.reference[i] = 0.0
        sign = 1.0 if wanted > 0.0 else -1.0
        if wanted != 0.0 and _is_reached(sign, limit, market.high[row, i], market.low[row, i], market.printed[row, i]):
            change[i], account.reference[i] = wanted, limit
    _curb(row, market, rules, account)
    account.kind[:] = ORDERED
    account.move[:] = 0.0


@_inlined
def _curb(row: int, market: Market, rules: Rules, account: Account) -> None:
    """Orders of non-members that would enlarge a position, and what is beyond the cap on volume, expire."""
    capped = np.isfinite(rules.participation)
    for i in range(len(account.change)):
        wanted = account.change[i]
        if not market.member[row, i] and abs(account.held[i] + wanted) > abs(account.held[i]):
            wanted = 0.0
        if capped and wanted != 0.0:
            volume = market.volume[row, i]
            most = floor_to_lot(rules.participation * volume, rules.lot) if np.isfinite(volume) else 0.0
            most = _own_lots(most, i, rules)
            wanted = min(max(wanted, -most), most)
        account.change[i] = wanted


@_inlined
def _follow(row: int, market: Market, rules: Rules, account: Account) -> None:
    """Of orders that follow the volume, what is never due is left for the close, or expires."""
    share = market.due[row, -1]
    for i in range(len(account.change)):
        wanted, volume, lot = account.change[i], market.expected[row - 1, i], _step_of(i, rules)
        due = share * volume if np.isfinite(volume) else 0.0
        # Of what is all due, a part that is no whole lot goes with the last child.
        is_all = abs(wanted) - due <= lot / _ROUNDING
        most = abs(wanted) if is_all else floor_to_lot(due, lot)
        account.change[i] = min(max(wanted, -most), most)
        if market.in_close:
            account.pending[i] = wanted - account.change[i]


@_inlined
def _spread_and_impact(row: int, market: Market, rules: Rules, account: Account) -> None:
    """How much worse than its reference each fill of an order is, by all of it that trades in the session."""
    account.move[:] = rules.move
    if rules.impact > 0.0:
        for i in range(len(account.change)):
            adv, sigma, size = market.adv[row - 1, i], market.sigma[row - 1, i], account.change[i] + account.pending[i]
            if size != 0.0 and adv > 0.0 and sigma >= 0.0:
                account.move[i] += rules.impact * sigma * math.sqrt(abs(size) / adv)


@_inlined
def _conversion_rate(rate: float, worse: float, rules: Rules) -> float:
    """The session's rate, moved against the trader."""
    moved = rate * (1.0 + worse)
    return float(np.rint(moved * _RATE_UNIT) / _RATE_UNIT) if rules.rounds and worse != 0.0 else moved


@_inlined
def _convert(row: int, market: Market, rules: Rules, account: Account) -> None:
    """Of each order its session's rates, and what one of its shares costs or brings at its reference; an order without
    a rate expires."""
    for i in range(len(account.change)):
        wanted, rate = account.change[i], market.rate[row, i]
        if wanted != 0.0 and not np.isfinite(rate):
            account.change[i] = wanted = 0.0
        worse = market.conversion[i] if wanted > 0.0 else -market.conversion[i]
        account.spot[i], account.rate[i] = rate, _conversion_rate(rate, worse, rules)
        account.worth[i] = account.reference[i] * account.rate[i]


@_inlined
def _commission(size: float, price: float, paid: float, rules: Rules) -> float:
    """Of one order of ``size`` shares at ``price``, converted at ``paid``."""
    fee = max(size * price * paid * rules.rate, rules.least_fee)
    return _to_cent(fee) if rules.rounds else fee


@_inlined
def _commissions(row: int, i: int, size: float, price: float, paid: float, market: Market, rules: Rules) -> float:
    """Of the children that a worked order is cut into, see `octopus.execution.schedules.quantities`."""
    # Counted in lots: what is left of two sums of fractions is a hair above or below a lot.
    step = _step_of(i, rules)
    lot = step if step > 0.0 else 1.0
    # What is no whole lot goes with the child that is cut once all is due.
    odd = size / lot - _whole(size / lot) > 1.0 / _ROUNDING
    fees, ordered = 0.0, 0.0
    for k in range(market.due.shape[1]):
        wanted = market.due[row, k] * (market.expected[row - 1, i] if market.follows else size)
        reached = min(wanted, size) / lot
        if step > 0.0 and not (odd and size - wanted <= lot / _ROUNDING):
            reached = _whole(reached)
        if reached > ordered:
            fees += _commission((reached - ordered) * lot, price, paid, rules)
            ordered = reached
    return fees


@_step
def execute(row: int, at: int, market: Market, rules: Rules, account: Account, record: FloatArray) -> int:
    """Fill what was planned at the close before; the number of fills."""
    orders = _at_the_open(row, market, account) if market.limited else _at_any_price(row, market, account)
    if orders == 0:
        return 0
    if market.outsiders[row] or np.isfinite(rules.participation):
        _curb(row, market, rules, account)
    if market.follows:
        _follow(row, market, rules, account)
    _spread_and_impact(row, market, rules, account)
    if market.limited:
        _within_limits(row, market, account)
    account.kind[:] = ORDERED
    return _book(row, at, market, rules, account, record, market.due.shape[1])


@_step
def execute_later(row: int, at: int, market: Market, rules: Rules, account: Account, record: FloatArray) -> int:
    """Fill what follows the open or the orders in their session: what worked ones left for the close, limit orders that
    are reached, or the exits of entries; the number of fills."""
    if market.in_close:
        for i in range(len(account.change)):
            account.change[i], account.reference[i] = account.pending[i], market.printed[row, i]
            account.pending[i] = 0.0
        account.kind[:] = REST
    elif market.limited:
        _at_limits(row, market, rules, account)
    else:
        _exit(row, market, rules, account)
    return _book(row, at, market, rules, account, record, _ZERO)


@_inlined
def _exit(row: int, market: Market, rules: Rules, account: Account) -> None:
    """The exits that the session hits of what was bought at its open, see `octopus.core.brackets.exit_at`."""
    change = account.change
    for i in range(len(change)):
        bought, opening = change[i], market.opening[row, i]
        change[i] = 0.0
        if not (bought > 0.0 and np.isfinite(opening)):
            continue
        stop, target = market.stops[row - 1, i], market.targets[row - 1, i]
        code, price = _exit_at(1.0, stop, target, opening, market.high[row, i], market.low[row, i])
        if code == NO_EXIT:
            continue
        change[i], account.reference[i] = -min(bought, account.held[i]), price
        if code == TARGET:
            account.kind[i], account.move[i] = TARGETED, 0.0
            continue
        account.kind[i], account.move[i] = STOPPED, rules.move
        if rules.impact > 0.0:
            adv, sigma = market.adv[row - 1, i], market.sigma[row - 1, i]
            if adv > 0.0 and sigma >= 0.0:
                account.move[i] += rules.impact * sigma * math.sqrt(abs(change[i]) / adv)


@_inlined
def _book(row: int, at: int, market: Market, rules: Rules, account: Account, record: FloatArray, children: int) -> int:
    """What of the orders is paid for, each fill and what it does to the account; the number of fills.

    Args:
        children: into how many an order may be cut; 0 where none is.
    """
    change, reference, moves, held, mark = (
        account.change, account.reference, account.move, account.held, account.mark,
    )  # fmt: skip
    if market.converts:
        _convert(row, market, rules, account)
    else:
        for i in range(len(change)):
            account.worth[i] = reference[i]
    afford(change, account.worth, moves, account.terms, account.money[0], rules, max(children, 1))
    _price(row, market, rules, account, children)
    spent, spread, impact, fees, traded, moved, converted, fills = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
    for i in range(len(change)):
        quantity, printed, price, fee = change[i], reference[i], account.price[i], account.fee[i]
        spot, rate = account.spot[i], account.rate[i]
        part = abs(quantity) * printed * spot
        # A target is a limit, as are orders with one: nothing is paid for immediacy.
        pushed = part * max(moves[i] - rules.move, 0.0)
        apart = quantity * (price - printed) * spot - pushed
        # What was traded in the session earns from its execution to the close only.
        missed = quantity * (printed * spot - mark[i])
        paid = quantity * price * rate + fee
        worse = quantity * price * (rate - spot)
        is_fill = quantity != 0.0
        fees += fee if is_fill else 0.0
        spent += paid if is_fill else 0.0
        impact += pushed if is_fill else 0.0
        spread += apart if is_fill else 0.0
        traded += part if is_fill else 0.0
        moved += missed if is_fill else 0.0
        converted += worse if is_fill else 0.0
        fills += is_fill
    for i in range(len(change)):
        held[i] += change[i]
    account.money[0] -= spent
    record[at, SPREAD] += spread
    record[at, IMPACT] += impact
    record[at, COMMISSION] += fees
    record[at, CONVERSION] += converted
    record[at, TURNOVER] += traded / account.money[1]
    record[at, PRICE_PNL] -= moved
    return fills


@_inlined
def _price(row: int, market: Market, rules: Rules, account: Account, children: int) -> None:
    """At what price each order fills, and its commission."""
    change, reference, moves, price, fee = (
        account.change, account.reference, account.move, account.price, account.fee,
    )  # fmt: skip
    for i in range(len(change)):
        moved = reference[i] * (1.0 + moves[i] if change[i] > 0.0 else 1.0 - moves[i])
        price[i] = _to_millionth(moved) if rules.rounds else moved
    if children == 0:
        for i in range(len(change)):
            fee[i] = _commission(abs(change[i]), price[i], account.rate[i], rules)
        return
    for i in range(len(change)):
        fee[i] = 0.0
        if change[i] != 0.0:
            fee[i] = _commissions(row, i, abs(change[i]), price[i], account.rate[i], market, rules)


@_step
def finish(row: int, at: int, market: Market, account: Account, record: FloatArray) -> float:
    """Mark at the close, redeem what was delisted, sell what was spun off, record; the equity."""
    redeemed = 0.0
    if market.endings[row]:
        redeemed = _redeem(row, at, market, account, record)
    close, held, marks = market.close[row], account.held, account.mark
    moved, value = 0.0, 0.0
    earned, worth = account.terms[0], account.terms[1]
    for i in range(len(held)):
        mark = close[i] if np.isfinite(close[i]) else marks[i]
        gain, amount = held[i] * (mark - marks[i]), held[i] * mark
        earned[i] = gain if held[i] != 0.0 else 0.0
        worth[i] = amount if held[i] != 0.0 else 0.0
        marks[i] = mark
    for i in range(len(held)):
        moved += earned[i]
        value += worth[i]
    account.money[0] += redeemed + record[at, SPIN_OFFS]
    account.money[1] = account.money[0] + value
    record[at, PRICE_PNL] += moved
    record[at, EQUITY], record[at, CASH] = account.money[1], account.money[0]
    return float(account.money[1])


@_inlined
def _redeem(row: int, at: int, market: Market, account: Account, record: FloatArray) -> float:
    """Shares of what was delisted become cash."""
    redeemed = 0.0
    for i in range(len(account.held)):
        last = market.delisting[row, i]
        if np.isfinite(last):
            if account.held[i] != 0.0:
                record[at, PRICE_PNL] += account.held[i] * (last - account.mark[i])
                redeemed += account.held[i] * last
                account.held[i] = 0.0
            account.mark[i] = last
    record[at, REDEMPTIONS] = redeemed
    return redeemed


@_step
def plan(row: int, targets: FloatArray, market: Market, rules: Rules, account: Account) -> None:
    """Orders from target weights at the close; NaN leaves a position. See `octopus.portfolio.rebalance.plan_orders`."""
    close, held, pending, reference = market.close[row], account.held, account.pending, account.reference
    cash, equity, lot = account.money[0], account.money[1], rules.lot
    least = max(rules.band * equity, rules.least)
    for i in range(len(held)):
        price, target = close[i], targets[i]
        change = target * equity / price - held[i]
        if lot > 0.0:
            change = floor_to_lot(change, lot)
        change = _own_lots(change, i, rules)
        change = change if abs(change) * price >= least else 0.0
        left = -held[i] if rules.fractional else floor_to_lot(-held[i], lot)
        change = left if target == 0.0 else change
        bounded = max(change, -max(held[i], 0.0))
        change = _own_lots(bounded if rules.long_only else change, i, rules)
        can = np.isfinite(target) & (price > 0.0)
        pending[i] = change if can else 0.0
        worse = market.conversion[i]
        worse = worse if change > 0.0 else -worse
        reference[i] = price * (1.0 + worse) if can else 1.0
    account.move[:] = rules.move
    afford(pending, reference, account.move, account.terms, cash - rules.buffer * equity, rules)


@_compiled
def _grown(ledger: FloatArray, wanted: int) -> FloatArray:
    if wanted <= len(ledger):
        return ledger
    larger = np.empty((max(wanted, 2 * len(ledger)), ledger.shape[1]))
    # One by one: a slice compiles the words of an error as well, for a fifth of all the time.
    for k in range(len(ledger)):
        for column in range(FILL):
            larger[k, column] = ledger[k, column]
    return larger


@_compiled
def run(
    first: int,
    stop: int,
    every: int,
    targets: FloatArray,
    market: Market,
    rules: Rules,
    account: Account,
    record: FloatArray,
    shares: FloatArray,
    marks: FloatArray,
) -> Any:
    """All sessions, their targets known: row ``first + k`` of the market is row ``k`` of ``targets``.

    Args:
        shares, marks: filled where they are (T, N), left alone where they are (0, 0).

    Returns:
        The session that ruined the account or -1, and the ledger of fills, shape (fills, `FILL`), sells before buys
        within an auction; empty where ``shares`` is.
    """
    keep = shares.size > 0
    ledger, size = np.empty((1024 if keep else 0, FILL)), _ZERO
    for row in range(first, stop):
        at = row - first
        if at > 0:
            begin(row, at, market, rules, account, record)
            fills = execute(row, at, market, rules, account, record)
            if keep and fills > 0:
                ledger = _grown(ledger, size + fills)
                size = _write(ledger, size, row, account)
            if market.in_close or market.limited or (market.exits and fills > 0):
                fills = execute_later(row, at, market, rules, account, record)
                if keep and fills > 0:
                    ledger = _grown(ledger, size + fills)
                    size = _write(ledger, size, row, account)
        if not finish(row, at, market, account, record) > 0.0:
            return row, ledger[:size]
        if keep:
            for i in range(shares.shape[1]):
                shares[at, i], marks[at, i] = account.held[i], account.mark[i]
        if at % every == 0:
            plan(row, targets[at], market, rules, account)
    return -1, ledger[:size]


@_compiled
def _write(ledger: FloatArray, size: int, row: int, account: Account) -> int:
    """The last fills at the end of ``ledger``, sells first; its new size."""
    for sign in (-1.0, 1.0):
        for i in range(len(account.change)):
            if account.change[i] * sign > 0.0:
                ledger[size, 0], ledger[size, 1], ledger[size, 2] = row, i, account.change[i]
                ledger[size, 3], ledger[size, 4], ledger[size, 5] = (
                    account.price[i],
                    account.reference[i],
                    account.fee[i],
                )
                ledger[size, 6], ledger[size, 7] = account.rate[i], account.kind[i]
                size += 1
    return size


def fills_of(row: int, account: Account) -> FloatArray:
    """The last fills as `run` writes them."""
    ledger = np.empty((int(np.count_nonzero(account.change)), FILL))
    _write(ledger, 0, row, account)
    return ledger
