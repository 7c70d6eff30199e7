"""One session of the simulated account, compiled: the rules of simulator.py, once, for every way of running them.

Belongs here: arithmetic over the instruments of a session, and the loop over sessions where all targets are known
beforehand. Does not: preparing arrays (market.py), what a decision is (simulator.py).

Every function changes the account's arrays in place. All prices are in the account's currency.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from octopus.core.types import BoolArray, FloatArray

(
    EQUITY, CASH, PRICE_PNL, DIVIDENDS, REDEMPTIONS, SPREAD, COMMISSION, IMPACT, BORROW, FINANCING, INTEREST, TURNOVER,
) = range(12)  # fmt: skip
KINDS = 12
"""Columns of the record of sessions, in account currency; turnover is a fraction of the equity before."""
_ROUNDING = 1e9
"""Quantities are rounded to this part of a lot before they are cut: 999.9999999999 lots are 1000."""


class Market(NamedTuple):
    """What happens outside the account; rows are sessions, columns instruments, all (T, N) unless said otherwise.

    Attributes:
        fill: reference price of the session's execution; NaN where nothing can execute.
        low, high, opening: of the session, for limit orders; (1, 1) where there are none.
        close: the mark; NaN without a bar, and after a delisting.
        split, dividend, member, delisting: as in `octopus.backtest.simulator.simulate`; delisting is (1, 1) where there
            is none.
        volume: shares traded in the session; adv, sigma: mean volume in shares and daily volatility, as known at the
            decision before; (1, 1) where no rule asks for them.
        acts, outsiders, endings: whether the session has an action, a non-member, a delisting at all, shape (T,).
    """

    fill: FloatArray
    opening: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    split: FloatArray
    dividend: FloatArray
    member: BoolArray
    delisting: FloatArray
    volume: FloatArray
    adv: FloatArray
    sigma: FloatArray
    acts: BoolArray
    outsiders: BoolArray
    endings: BoolArray


class Rules(NamedTuple):
    """Numbers that a run keeps; fractions and shares.

    Attributes:
        lot: 0.0 trades any fraction. move: fraction by which a fill is worse than its reference. rate, least_fee:
        commission. band, least: smallest change, fraction of equity and account currency. buffer: fraction of equity.
        impact: coefficient of the square root; 0.0 for none. participation: of a session's volume; inf for no cap.
        limit: passive offset from the decision's close, fraction; NaN for orders at any price.
        borrow, financing, interest: of one session, fractions of short value, debt and cash.
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
    limit: float
    borrow: float
    financing: float
    interest: float


class Account(NamedTuple):
    """State and working space of the account, shape (N,) but for ``money``.

    Attributes:
        held, pending: shares; mark: last price. money: cash and equity.
        change, price, fee, reference: of the last session's fills; zero change for none.
    """

    held: FloatArray
    pending: FloatArray
    mark: FloatArray
    money: FloatArray
    change: FloatArray
    price: FloatArray
    fee: FloatArray
    reference: FloatArray


def new_account(count: int, cash: float) -> Account:
    """An account with nothing but cash."""
    zeros = [np.zeros(count) for _ in range(6)]
    return Account(zeros[0], zeros[1], np.full(count, np.nan), np.array([cash, cash], dtype=np.float64), *zeros[2:])


@njit(cache=True, nogil=True)
def floor_to_lot(shares: float, lot: float) -> float:
    """Cut towards zero to a multiple of ``lot``."""
    if lot <= 0.0:
        return shares
    return float(np.trunc(np.rint(shares / lot * _ROUNDING) / _ROUNDING) * lot)


@njit(cache=True, nogil=True)
def afford(change: FloatArray, price: FloatArray, move: FloatArray, cash: float, rules: Rules) -> None:
    """All purchases of ``change`` scaled down by one factor to what ``cash`` and the sales pay, costs included."""
    power, cost, value, buys = cash, 0.0, 0.0, 0
    for i in range(len(change)):
        if change[i] == 0.0:
            continue
        signed = change[i] * price[i] * (1.0 + (move[i] if change[i] > 0 else -move[i]))
        paid = max(abs(signed) * rules.rate, rules.least_fee)
        if change[i] > 0:
            cost += signed + paid
            value += signed
            buys += 1
        else:
            power -= signed + paid
    if buys == 0 or cost <= power:
        return
    # The least commissions do not shrink with the orders: they are set aside first.
    part = max(power - rules.least_fee * buys, 0.0) / (value * (1.0 + rules.rate))
    for i in range(len(change)):
        if change[i] > 0:
            change[i] = np.trunc(change[i] * part / rules.lot) * rules.lot if rules.lot > 0.0 else change[i] * part


@njit(cache=True, nogil=True)
def begin(row: int, at: int, market: Market, rules: Rules, account: Account, record: FloatArray) -> None:
    """What a session brings before anything trades: interest on the last close's cash, then corporate actions."""
    _accrue(at, rules, account, record)
    if market.acts[row]:
        record[at, DIVIDENDS] = _act(row, market, rules, account)


@njit(cache=True, nogil=True)
def _accrue(at: int, rules: Rules, account: Account, record: FloatArray) -> None:
    cash, short = account.money[0], 0.0
    if rules.borrow > 0.0:
        for i in range(len(account.held)):
            if account.held[i] < 0.0:
                short -= account.held[i] * account.mark[i]
    record[at, INTEREST], record[at, FINANCING] = max(cash, 0.0) * rules.interest, max(-cash, 0.0) * rules.financing
    record[at, BORROW] = short * rules.borrow
    account.money[0] = cash + record[at, INTEREST] - record[at, FINANCING] - record[at, BORROW]


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _executable(row: int, i: int, market: Market, rules: Rules, account: Account) -> None:
    """How much of the pending order of ``i`` executes, and at which reference price."""
    wanted, price = account.pending[i], market.fill[row, i]
    if np.isfinite(rules.limit):
        bound = account.mark[i] * (1.0 - rules.limit if wanted > 0 else 1.0 + rules.limit)
        start = market.opening[row, i] if np.isfinite(market.opening[row, i]) else bound
        if wanted > 0:
            price = min(start, bound) if market.low[row, i] <= bound else math.nan
        else:
            price = max(start, bound) if market.high[row, i] >= bound else math.nan
    if not np.isfinite(price):
        return
    if market.outsiders[row] and not market.member[row, i] and abs(account.held[i] + wanted) > abs(account.held[i]):
        return
    if np.isfinite(rules.participation):
        volume = market.volume[row, i]
        most = floor_to_lot(rules.participation * volume, rules.lot) if np.isfinite(volume) else 0.0
        wanted = min(max(wanted, -most), most)
    account.change[i], account.reference[i] = wanted, price


@njit(cache=True, nogil=True)
def _moves(row: int, market: Market, rules: Rules, account: Account) -> FloatArray:
    """Fraction by which each fill is worse than its reference: spread, slippage and impact."""
    count = len(account.change)
    moves = np.full(count, rules.move)
    if rules.impact > 0.0:
        for i in range(count):
            if account.change[i] != 0.0:
                adv, sigma = market.adv[row - 1, i], market.sigma[row - 1, i]
                if adv > 0.0 and sigma >= 0.0:
                    moves[i] += rules.impact * sigma * math.sqrt(abs(account.change[i]) / adv)
    return moves


@njit(cache=True, nogil=True)
def execute(row: int, at: int, market: Market, rules: Rules, account: Account, record: FloatArray) -> int:
    """Fill what was planned at the close before; the number of fills."""
    count = len(account.held)
    account.change[:] = 0.0
    some = False
    for i in range(count):
        if account.pending[i] != 0.0:
            _executable(row, i, market, rules, account)
            account.pending[i] = 0.0
            some = some or account.change[i] != 0.0
    if not some:
        return 0
    moves = _moves(row, market, rules, account)
    afford(account.change, account.reference, moves, account.money[0], rules)
    spent, spread, impact, fees, traded, moved, fills = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
    for i in range(count):
        quantity = account.change[i]
        if quantity == 0.0:
            continue
        reference, sign = account.reference[i], 1.0 if quantity > 0 else -1.0
        price = reference * (1.0 + sign * moves[i])
        fee = max(abs(quantity) * price * rules.rate, rules.least_fee)
        account.price[i], account.fee[i] = price, fee
        spent += quantity * price + fee
        fees += fee
        part = abs(quantity) * reference
        spread += part * rules.move
        impact += part * (moves[i] - rules.move)
        traded += part
        # What was traded in the session earns from its execution to the close only.
        moved += quantity * (reference - account.mark[i])
        account.held[i] += quantity
        fills += 1
    account.money[0] -= spent
    record[at, SPREAD], record[at, IMPACT], record[at, COMMISSION] = spread, impact, fees
    record[at, TURNOVER] = traded / account.money[1]
    record[at, PRICE_PNL] -= moved
    return fills


@njit(cache=True, nogil=True)
def finish(row: int, at: int, market: Market, account: Account, record: FloatArray) -> float:
    """Mark at the close, redeem what was delisted, record; the equity."""
    ends = market.endings[row]
    moved, value, redeemed = 0.0, 0.0, 0.0
    for i in range(len(account.held)):
        close, held = market.close[row, i], account.held[i]
        mark = close if np.isfinite(close) else account.mark[i]
        ended = ends and np.isfinite(market.delisting[row, i])
        if ended:
            mark = market.delisting[row, i]
        if held != 0.0:
            moved += held * (mark - account.mark[i])
            if ended:
                redeemed += held * mark
                account.held[i] = 0.0
            else:
                value += held * mark
        account.mark[i] = mark
    account.money[0] += redeemed
    account.money[1] = account.money[0] + value
    record[at, PRICE_PNL] += moved
    record[at, REDEMPTIONS] = redeemed
    record[at, EQUITY], record[at, CASH] = account.money[1], account.money[0]
    return float(account.money[1])


@njit(cache=True, nogil=True)
def plan(row: int, targets: FloatArray, market: Market, rules: Rules, account: Account) -> None:
    """Orders from target weights at the close; NaN leaves a position. See `octopus.portfolio.rebalance.plan_orders`."""
    count = len(account.held)
    cash, equity = account.money[0], account.money[1]
    least = max(rules.band * equity, rules.least)
    moves = np.full(count, rules.move)
    for i in range(count):
        price, target, held = market.close[row, i], targets[i], account.held[i]
        account.pending[i], account.reference[i] = 0.0, 1.0
        if not (np.isfinite(target) and price > 0.0):
            continue
        account.reference[i] = price
        if target == 0.0:
            change = -held if rules.fractional else floor_to_lot(-held, rules.lot)
        else:
            change = floor_to_lot(target * equity / price - held, rules.lot)
            if abs(change) * price < least:
                change = 0.0
        if rules.long_only:
            change = max(change, -max(held, 0.0))
        account.pending[i] = change
    afford(account.pending, account.reference, moves, cash - rules.buffer * equity, rules)


@njit(cache=True, nogil=True)
def _grown(ledger: FloatArray, wanted: int) -> FloatArray:
    if wanted <= len(ledger):
        return ledger
    larger = np.empty((max(wanted, 2 * len(ledger)), ledger.shape[1]))
    larger[: len(ledger)] = ledger
    return larger


@njit(cache=True, nogil=True)
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
        The session that ruined the account or -1, and the ledger of fills (row, instrument, change, price, reference,
        fee), shape (fills, 6), sells before buys within a session; empty where ``shares`` is.
    """
    keep = shares.size > 0
    ledger, size = np.empty((1024 if keep else 0, 6)), 0
    for row in range(first, stop):
        at = row - first
        if at > 0:
            begin(row, at, market, rules, account, record)
            fills = execute(row, at, market, rules, account, record)
            if keep and fills > 0:
                ledger = _grown(ledger, size + fills)
                size = _write(ledger, size, row, account)
        if not finish(row, at, market, account, record) > 0.0:
            return row, ledger[:size]
        if keep:
            shares[at], marks[at] = account.held, account.mark
        if at % every == 0:
            plan(row, targets[at], market, rules, account)
    return -1, ledger[:size]


@njit(cache=True, nogil=True)
def _write(ledger: FloatArray, size: int, row: int, account: Account) -> int:
    """The session's fills at the end of ``ledger``, sells first; its new size."""
    for sign in (-1.0, 1.0):
        for i in range(len(account.change)):
            if account.change[i] * sign > 0.0:
                ledger[size, 0], ledger[size, 1], ledger[size, 2] = row, i, account.change[i]
                ledger[size, 3], ledger[size, 4], ledger[size, 5] = (
                    account.price[i],
                    account.reference[i],
                    account.fee[i],
                )
                size += 1
    return size


def fills_of(row: int, account: Account) -> FloatArray:
    """The session's fills as `run` writes them."""
    ledger = np.empty((int(np.count_nonzero(account.change)), 6))
    _write(ledger, 0, row, account)
    return ledger
