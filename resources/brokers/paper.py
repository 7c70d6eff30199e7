"""The paper broker: a venue of our own with a ledger of its own, filling at recorded prices.

Belongs here: accepting, filling, expiring and booking paper orders in the schema ``paper``, which nothing else reads or
writes: reconciliation compares two books, and this is the other one. Does not: anything about our own book.

The rules of the house:

- Orders execute in auctions: daily bars know no other prices, and no time of those they know. A market order that was
  accepted while the session traded is booked with the close, at the session's average price (`Bar.average`), so that
  the children of a schedule come to what they are meant to; where trading never ends, at the close. A market-on-close
  order takes part in the first close after its acceptance and at or before its expiry, at the closing price;
  market-on-open likewise at the open. Market, limit and stop orders take part in every open and close until then: a
  market order fills in the first; a limit order in the first whose price is its limit or better, and never at a worse
  one; a stop order in the first whose price has reached its trigger. A limit order that stood at its session's open
  fills at its limit, too, where the session's bar reaches it (octopus/core/limit_orders.py): that is booked with the
  close, before the closing auction, for a daily bar tells no time. The price is moved against the trader by half the
  spread and the slippage and rounded to a millionth; the commission is rounded to the cent.
- Nothing later than the clock is seen. Whatever the clock has passed since the last call is settled first, in time
  order: corporate actions at a session's open, then its opening auction, then its closing auction, then what its close
  brings (octopus/execution/book.py has the order): a spin-off pays what the new shares were worth, a delisting the last
  cash. A split, a change of symbol and a delisting cancel the instrument's orders.
- Nobody opens or enlarges a position in what is delisted or no member of the universe on the session: such an order is
  refused, or cancelled in its auction if only the auction shows it.
- Where a session opens at the instant at which the one before it closes (24/7), that close comes first and the open
  just after it; an order for such an open would execute before it was decided (octopus/execution/window.py).
- While the feed has no bar at all of a session, the session's auctions wait for it, up to `data_patience` after its
  close: daily bars arrive in the evening, and a recording ends. An order whose instrument alone has no bar in its
  auction expires at its expiry. So does one whose bar a verdict keeps out of the marts: nothing fills at a price that
  is under suspicion, the order's reason names the finding, and positions stand at the last close that counts.
- The account is a cash account. At acceptance a buy must be covered, at the latest marks, by cash less working buys
  plus the proceeds of working sells of the same auction. At the auction sells fill first; if cash then falls short,
  all buys are scaled down by one factor to what it pays for, costs included, in whole lots, the instruments' own too,
  and the rest is cancelled. Cash never goes below zero by a buy.
- A bracket's exits stand from their entry's fill to the close, for as much as it filled. What a session did to them is
  seen from its bar, after its last auction but one: octopus/core/brackets.py says which exit it hit and at what price,
  in doubt the stop, the worse one. A stop's price is then moved as any other; a target is a limit and is not. The fill
  is booked at the close, before the closing auction, since a daily bar tells no time; it ends the other exit. Exits
  only reduce, and never more than is held. An entry that itself fills only at the close leaves its exits no session:
  they expire.
- Short sales are refused unless the account allows them.
- Fractions of a share, down to 1e-8, are refused unless the account allows them.
- The account counts in one currency. Orders, their limits and prices are in the instrument's own; a fill is converted
  at once, at the session's rate moved against the trader by the spread of a conversion, and booked with that rate: its
  price is what a share took or brought in the account's currency. Dividends, delistings and marks are converted at
  their session's rate. Without a rate nothing executes.
- Amounts of cash are exact products of quantity and price: they are summed and never rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from octopus.core.amounts import plain
from octopus.core.brackets import exit_hit, why_invalid
from octopus.core.costs import CostModel
from octopus.core.currency import RATE_DECIMALS
from octopus.core.ids import entry_order_id, exit_order_id
from octopus.core.limit_orders import is_reached
from octopus.core.orders import AccountSnapshot, Bracket, Exit, Fill, FillRevision, OpenOrder, OrderType, Side
from octopus.execution.book import (
    QUANTITY_STEP,
    Book,
    Entry,
    EntryKind,
    action_order,
    closing_entries,
    ends_orders,
    held_at,
    opening_entries,
)
from octopus.execution.states import OrderState
from octopus.portfolio.units import NO_UNITS, TradingUnits
from resources.brokers.answers import not_there
from resources.brokers.base import (
    BrokerAccount,
    BrokerError,
    BrokerOrder,
    Guarantee,
    OrderRejectedError,
    OrderRequest,
    UncertainOutcomeError,
)
from resources.brokers.paper_ledger import AccountTerms, Ledger, WorkingOrder, locked_ledger
from resources.price_feed import HOME, Bar, PriceFeed

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions
    from resources.clock import Clock

CENT = Decimal("0.01")
PRICE_STEP = Decimal("0.000001")
MONEY_STEP, RATE_STEP = Decimal("1e-8"), Decimal(10) ** -RATE_DECIMALS
"""Prices are booked to the first where they were converted, rates to the second."""
INSTANT = timedelta(microseconds=1)
"""The smallest step of time that the ledger keeps."""


@dataclass(frozen=True)
class PaperBehaviour:
    """Faults to rehearse, all off by default.

    Attributes:
        fill_fraction: the part of each order that fills, in (0, 1]; the rest is cancelled after the auction.
        fills_per_order: into how many executions each fill is cut.
        reject: instruments whose orders are refused.
    """

    fill_fraction: Decimal = Decimal(1)
    fills_per_order: int = 1
    reject: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < self.fill_fraction <= 1:
            raise PaperBrokerError(f"fill_fraction = {self.fill_fraction}: must be above 0 and at most 1")
        if self.fills_per_order < 1:
            raise PaperBrokerError(f"fills_per_order = {self.fills_per_order}: must be at least 1")


class PaperBrokerError(BrokerError):
    """The paper broker is set up wrongly or lacks a price that it cannot do without."""


@dataclass(frozen=True)
class _Priced:
    """An order and what a share of it takes or brings in an auction, account currency; the rate of its conversion."""

    order: WorkingOrder
    price: Decimal
    rate: Decimal


@dataclass(frozen=True)
class PaperBroker:
    """One paper account.

    Every call is one transaction that holds the account's row, so calls from several processes follow one another.

    Attributes:
        url: where the schema ``paper`` is.
        data_patience: how long after a session's close its bars may still arrive; zero for a recording.
        deposit: cash the account is opened with, once, at the clock's time of the first call.
        allow_fractional: whether shares may be fractions; fixed when the account is opened.
        units: lots and ticks of the instruments' own, as known by an instant: in which an order is filled in part, and
            exits stand.
    """

    url: str
    paper_account: str
    clock: Clock
    sessions: Sessions
    feed: PriceFeed
    costs: CostModel
    deposit: Decimal
    currency: str = "USD"
    allow_fractional: bool = True
    allow_short: bool = False
    data_patience: timedelta = timedelta(0)
    behaviour: PaperBehaviour = field(default_factory=PaperBehaviour)
    units: Callable[[datetime], TradingUnits] = lambda _now: NO_UNITS

    @property
    def name(self) -> str:
        return "paper"

    @property
    def guarantee(self) -> Guarantee:
        return Guarantee.IDEMPOTENT_KEY

    @property
    def keeps(self) -> timedelta | None:
        return None

    def account(self) -> BrokerAccount:
        with self._ledger() as ledger:
            return BrokerAccount(self.paper_account, ledger.number, ledger.currency, is_paper=True)

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        with self._ledger() as ledger:
            positions = ledger.positions()
            return AccountSnapshot(
                account=self.paper_account,
                taken_at=ledger.now,
                cash=ledger.cash(),
                positions=positions,
                prices=self._prices(ledger.now, positions, quoted),
                open_orders=(
                    *(OpenOrder(o.client_order_id, o.instrument, o.side, o.remaining) for o in ledger.working()),
                    *_protecting(ledger),
                ),
            )

    def submit(self, request: OrderRequest) -> BrokerOrder:
        with self._ledger() as ledger:
            known = ledger.order(request.client_order_id)
            if known is None:
                request.require_in_time(self.name, ledger.now)
                known = self._receive(ledger, request)
        if known.state is OrderState.REJECTED:
            raise OrderRejectedError(
                f"paper: {request.client_order_id} ({request.side.value} {plain(request.quantity)} "
                f"{request.instrument}): {known.reason}"
            )
        if not known.is_of(request):
            raise UncertainOutcomeError(
                f"paper: {request.client_order_id} already stands for {known.side.value} {plain(known.quantity)} "
                f"{known.instrument}; give each order an id of its own"
            )
        return known

    @property
    def exits_are_messages(self) -> bool:
        return False

    def submit_bracket(self, entry: OrderRequest, bracket: Bracket) -> BrokerOrder:
        with self._ledger() as ledger:
            if ledger.order(entry.client_order_id) is None:
                self._receive_bracket(ledger, entry, bracket)
        return self.submit(entry)

    def replace(self, replaced: str, request: OrderRequest) -> BrokerOrder:
        """As `ReplacingBroker.replace`; an order that is replaced takes its place in the next auction anew."""
        with self._ledger() as ledger:
            known = ledger.order(request.client_order_id)
            if known is None:
                request.require_in_time(self.name, ledger.now)
                known = self._swap(ledger, replaced, request)
        if known.state is OrderState.REJECTED:
            raise OrderRejectedError(f"paper: {replaced} is not replaced: {known.reason}")
        return known

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        with self._ledger() as ledger:
            return ledger.order(client_order_id)

    def cancel(self, client_order_id: str) -> None:
        with self._ledger() as ledger:
            entry = entry_order_id(client_order_id)
            if ledger.order(client_order_id) is None:
                raise not_there(self.name, client_order_id)
            group = [client_order_id] if entry is None else [exit_order_id(entry, one.value) for one in Exit]
            for name in group:
                ledger.end_working(name, OrderState.CANCELLED, "cancelled on request")

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        with self._ledger() as ledger:
            return ledger.fills(since)

    def statement(self, since: datetime | None = None) -> Book:
        with self._ledger() as ledger:
            return Book(
                self.paper_account, ledger.cash(), ledger.positions(), ledger.fills(since), ledger.entries(since)
            )

    def revisions(self, since: datetime | None = None) -> tuple[FillRevision, ...]:
        with self._ledger() as ledger:
            return ledger.revisions(since)

    def revise_fill(
        self,
        fill_id: str,
        quantity: Decimal,
        *,
        price: Decimal | None = None,
        fees: Decimal | None = None,
        reason: str,
    ) -> None:
        """Break (``quantity`` zero) or correct a fill, as a venue does after the fact; to rehearse it.

        Args:
            price, fees: None: as they are; a broken trade has no fees.

        Raises:
            PaperBrokerError: there is no such fill, or the quantity is negative or no multiple of a lot.
        """
        with self._ledger() as ledger:
            if quantity < 0 or _floor(quantity, _lot(ledger)) != quantity:
                raise PaperBrokerError(f"quantity {plain(quantity)}: give zero or a multiple of {plain(_lot(ledger))}")
            if not ledger.revise_fill(fill_id, quantity, price, fees, reason):
                raise PaperBrokerError(f"fill {fill_id} is not in account {self.paper_account}; look its id up")

    def transfer(self, entry_id: str, kind: EntryKind, cash: Decimal, note: str) -> None:
        """Deposit or withdraw ``cash`` (signed); the same ``entry_id`` counts once."""
        with self._ledger() as ledger:
            ledger.add_entry(Entry(entry_id, kind, None, Decimal(0), cash, ledger.now, note))

    # -- inside: booking what the clock has passed -------------------------------------------------------------------

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """The account's ledger, locked, opened if need be, and settled up to the clock's time."""
        terms = AccountTerms(self.paper_account, self.currency, self.deposit, self.allow_fractional)
        with locked_ledger(self.url, terms, self.clock.now()) as ledger:
            self._settle(ledger)
            yield ledger

    def _settle(self, ledger: Ledger) -> None:
        """Book everything that the clock has passed since the last call, in time order."""
        if ledger.now <= ledger.settled_until:
            return
        if ledger.instruments() or ledger.working():
            last_bar, booked = self.feed.last_session(), ledger.settled_until
            for at, session, order_type in self._auctions(ledger.settled_until, ledger.now):
                if self._awaits_bars(session, last_bar, ledger.now):
                    # A later call goes on where this one stops; until then the account is as the last bars left it.
                    self._expire(ledger, booked)
                    ledger.settle(booked)
                    return
                if order_type is OrderType.MARKET_ON_OPEN:
                    self._open(ledger, session, at)
                if order_type is OrderType.MARKET_ON_CLOSE:
                    self._exit(ledger, session, at)
                    self._reach(ledger, session, at)
                self._auction(ledger, session, at, order_type)
                if order_type is OrderType.MARKET_ON_CLOSE:
                    self._close(ledger, session, at)
                booked = at
            self._expire(ledger, ledger.now)
        ledger.settle(ledger.now)

    def _expire(self, ledger: Ledger, until: datetime) -> None:
        """End what has expired by ``until``, with the reason where a bar is there and prices nothing."""
        for order in ledger.working():
            if order.expires_at <= until and (reason := self._kept_out(order)):
                ledger.end_working(order.client_order_id, OrderState.EXPIRED, f"expired unfilled: {reason}")
        ledger.expire(until)

    def _kept_out(self, order: WorkingOrder) -> str:
        """Why a bar of the order's auctions prices nothing; empty where none was kept out."""
        auctions = self._auctions(order.accepted_at, order.expires_at)
        sessions = dict.fromkeys(day for _, day, auction in auctions if _takes_part(order.order_type, auction))
        return next((why for day in sessions if (why := self.feed.kept_out(order.instrument, day))), "")

    def _awaits_bars(self, session: date, last_bar: date | None, now: datetime) -> bool:
        """Whether the bars of ``session`` are still to come."""
        if last_bar is not None and session <= last_bar:
            return False
        return now < self.sessions.close_utc(session) + self.data_patience

    def _auctions(self, after: datetime, until: datetime) -> Iterator[tuple[datetime, date, OrderType]]:
        """Opens and closes with ``after < at <= until``, in time order."""
        # A session's date is the exchange's and may lie a day off the UTC dates of its open and close.
        first, last = self.sessions.previous(after.date()), self.sessions.next(until.date())
        for value in self.sessions.between(first, last):
            session: date = value.item()
            for at, order_type in (
                (self._opens(session), OrderType.MARKET_ON_OPEN),
                (self.sessions.close_utc(session), OrderType.MARKET_ON_CLOSE),
            ):
                if after < at <= until:
                    yield at, session, order_type

    def _opens(self, session: date) -> datetime:
        """When a session's opening auction is: after the close before it, so that the one can wait for its bars while
        the other is settled."""
        opens = self.sessions.open_utc(session)
        return opens + INSTANT if opens <= self.sessions.close_utc(self.sessions.previous(session)) else opens

    def _open(self, ledger: Ledger, session: date, at: datetime) -> None:
        """Changes of symbol, splits and dividends."""
        positions = ledger.positions()
        concerned = {*positions, *(order.instrument for order in ledger.working())}
        before = self.sessions.previous(session)
        actions = self.feed.actions(sorted(concerned), self.sessions.open_utc(before), at) if concerned else ()
        for action in actions:
            if reason := ends_orders(action):
                ledger.cancel_instrument(action.instrument, reason)
        for entry in opening_entries(
            actions, positions, lambda name: self.feed.last_close(name, before, session), _lot(ledger)
        ):
            ledger.add_entry(entry)

    def _close(self, ledger: Ledger, session: date, at: datetime) -> None:
        """What spun-off shares were worth, and delistings."""
        concerned = {*ledger.instruments(), *(order.instrument for order in ledger.working())}
        after = self.sessions.close_utc(self.sessions.previous(session))
        actions = [action for action in self.feed.actions(sorted(concerned), after, at) if action.at_close]
        for action in actions:
            if action.kind is EntryKind.DELISTING:
                ledger.cancel_instrument(action.instrument, f"{action.instrument} is delisted")
        fills, entries = (ledger.movements(), ledger.entries(None)) if actions else ((), ())
        for entry in closing_entries(
            actions,
            ledger.positions(),
            lambda opened, name: held_at(fills, entries, opened).get(name, Decimal(0)),
        ):
            ledger.add_entry(entry)

    def _auction(self, ledger: Ledger, session: date, at: datetime, order_type: OrderType) -> None:
        priced = [
            _Priced(order, *price)
            for order in ledger.working()
            if _takes_part(order.order_type, order_type)
            and order.accepted_at < at <= order.expires_at
            and (price := self._auction_price(order, session, order_type)) is not None
            and not self._is_barred(ledger, order, session)
        ]
        self._execute(ledger, priced, at)

    def _reach(self, ledger: Ledger, session: date, at: datetime) -> None:
        """Execute the limit orders that stood at the open of ``session`` and that its bar reaches."""
        opened = self._opens(session)
        priced = [
            _Priced(order, *self._booked(order, order.price, bar))
            for order in ledger.working()
            if order.order_type is OrderType.LIMIT
            and order.price is not None
            and order.accepted_at < opened
            and at <= order.expires_at
            and (bar := self.feed.bar(order.instrument, session)) is not None
            and _reaches(order.side, order.price, bar)
            and not self._is_barred(ledger, order, session)
        ]
        self._execute(ledger, priced, at)

    def _execute(self, ledger: Ledger, priced: Sequence[_Priced], at: datetime) -> None:
        """Fill orders: sales first, then what cash pays for of the purchases."""
        for one in priced:
            if one.order.side is Side.SELL:
                self._fill(ledger, one, self._deliverable(ledger, one.order), at)
        buys = [one for one in priced if one.order.side is Side.BUY]
        part = self._affordable_part(ledger, buys)
        for one in buys:
            wanted = self._wanted(ledger, one.order)
            quantity = wanted if part == 1 else self._in_lots(ledger, one.order.instrument, wanted * part)
            self._fill(ledger, one, self._payable(ledger, one, quantity), at)

    def _exit(self, ledger: Ledger, session: date, at: datetime) -> None:
        """Execute the exits that the bar of ``session`` hits."""
        for entry, legs in ledger.exits():
            quantity = min(entry.filled_quantity, _reducible(ledger, entry))
            bar = self.feed.bar(entry.instrument, session)
            if quantity <= 0 or bar is None or bar.open is None:
                continue
            prices = {leg.order_type: leg.price for leg in legs}
            bracket = Bracket(prices.get(OrderType.STOP), prices.get(OrderType.LIMIT))
            hit = exit_hit(entry.side, bracket, bar.open, bar.high, bar.low)
            if hit is not None:
                leg = next(one for one in legs if one.order_type is hit.exit.order_type)
                self._fill(ledger, _Priced(leg, *self._booked(leg, hit.price, bar)), quantity, at)
                for other in legs:
                    ledger.end_working(other.client_order_id, OrderState.CANCELLED, f"the {hit.exit} was executed")

    def _is_barred(self, ledger: Ledger, order: WorkingOrder, session: date) -> bool:
        """Whether the order may not execute on ``session``; then it is cancelled, with the reason."""
        reason = self._bar(ledger, order.instrument, order.side, order.remaining, session)
        if reason:
            ledger.end_working(order.client_order_id, OrderState.CANCELLED, reason)
        return bool(reason)

    def _bar(self, ledger: Ledger, instrument: str, side: Side, quantity: Decimal, session: date) -> str:
        """Why an order that opens or enlarges a position is barred on ``session``; empty where it is not."""
        held = ledger.positions().get(instrument, Decimal(0))
        if abs(held + side.sign * quantity) <= abs(held):
            return ""
        return self.feed.refusal(instrument, session)

    def _auction_price(self, order: WorkingOrder, session: date, auction: OrderType) -> tuple[Decimal, Decimal] | None:
        """The order's fill price, moved against the trader, in the account's currency, and the rate of its conversion;
        None where the data has no price for the auction, or the order does not execute at it.
        """
        bar = self.feed.bar(order.instrument, session)
        if bar is None:
            return None
        reference = bar.open if auction is OrderType.MARKET_ON_OPEN else bar.close
        if auction is OrderType.MARKET_ON_CLOSE and self._trades_in_session(order, session):
            reference = bar.average
        if reference is None or not _executes_at(order, reference):
            return None
        return self._booked(order, reference, bar)

    def _trades_in_session(self, order: WorkingOrder, session: date) -> bool:
        """Whether it was accepted while ``session`` traded, to be executed there and then."""
        if order.order_type is not OrderType.MARKET or self.sessions.continuous:
            return False
        return order.accepted_at >= self._opens(session)

    def _booked(self, order: WorkingOrder, reference: Decimal, bar: Bar) -> tuple[Decimal, Decimal]:
        """What a share is booked at that the market has at ``reference``: moved against the trader, in the account's
        currency; and the rate of its conversion."""
        move = order.side.sign * Decimal(str(self.costs.price_move))
        price = max((reference * (1 + move)).quantize(PRICE_STEP), PRICE_STEP)
        if order.order_type is OrderType.LIMIT and order.price is not None:
            price = min(price, order.price) if order.side is Side.BUY else max(price, order.price)
        if bar.conversion == HOME:
            return price, bar.conversion.rate
        worse = order.side.sign * Decimal(str(self.costs.conversion_move)) if bar.conversion.is_foreign else Decimal(0)
        rate = (bar.conversion.rate * (1 + worse)).quantize(RATE_STEP)
        return max((price * rate).quantize(MONEY_STEP), MONEY_STEP), rate

    def _commission(self, quantity: Decimal, price: Decimal) -> Decimal:
        proportional = quantity * price * Decimal(str(self.costs.commission_rate))
        return max(proportional, Decimal(str(self.costs.commission_min))).quantize(CENT, ROUND_HALF_UP)

    def _wanted(self, ledger: Ledger, order: WorkingOrder) -> Decimal:
        """How much of the order fills when nothing is short."""
        part = self.behaviour.fill_fraction
        if part == 1:
            return _floor(order.remaining, _lot(ledger))
        return self._in_lots(ledger, order.instrument, order.remaining * part)

    def _in_lots(self, ledger: Ledger, instrument: str, shares: Decimal) -> Decimal:
        """A part of an order in whole lots of the account, then of the instrument's own."""
        return self.units(ledger.now).whole_lots(instrument, _floor(shares, _lot(ledger)))

    def _deliverable(self, ledger: Ledger, order: WorkingOrder) -> Decimal:
        wanted = self._wanted(ledger, order)
        if self.allow_short:
            return wanted
        # A corporate action may have changed the position since the order was accepted.
        return min(wanted, max(ledger.positions().get(order.instrument, Decimal(0)), Decimal(0)))

    def _affordable_part(self, ledger: Ledger, buys: Sequence[_Priced]) -> Decimal:
        """One factor in [0, 1] for all buys, so that cash pays for them."""
        need = Decimal(0)
        for one in buys:
            quantity = self._wanted(ledger, one.order)
            need += quantity * one.price + self._commission(quantity, one.price)
        cash = ledger.cash()
        return Decimal(1) if need <= cash else max(cash, Decimal(0)) / need

    def _payable(self, ledger: Ledger, priced: _Priced, quantity: Decimal) -> Decimal:
        """At most ``quantity``, and no more than cash pays for with its commission."""
        cash, price = ledger.cash(), priced.price
        if quantity * price + self._commission(quantity, price) <= cash:
            return quantity
        rate = Decimal(str(self.costs.commission_rate))
        # A cent is kept back for the rounding of the commission.
        most = min(
            (cash - CENT - Decimal(str(self.costs.commission_min))) / price, (cash - CENT) / (price * (1 + rate))
        )
        return min(quantity, self._in_lots(ledger, priced.order.instrument, max(most, Decimal(0))))

    def _fill(self, ledger: Ledger, priced: _Priced, quantity: Decimal, at: datetime) -> None:
        order, price = priced.order, priced.price
        if quantity <= 0:
            reason = "nothing of it could be filled: no cash, no shares, or too small a part"
            ledger.end_working(order.client_order_id, OrderState.CANCELLED, reason)
            return
        pieces = _pieces(quantity, self._commission(quantity, price), self.behaviour.fills_per_order, _lot(ledger))
        for number, (piece, fee) in enumerate(pieces):
            ledger.add_fill(order, number, piece, price, fee, at, priced.rate)
        if quantity == order.remaining:
            ledger.end_working(order.client_order_id, OrderState.FILLED, "")
        else:
            reason = f"{plain(order.remaining - quantity)} shares were not filled in the auction"
            ledger.end_working(order.client_order_id, OrderState.CANCELLED, reason)

    # -- inside: accepting orders ------------------------------------------------------------------------------------

    def _swap(self, ledger: Ledger, replaced: str, changed: OrderRequest) -> BrokerOrder:
        """Put ``changed``, less what the old order filled, in its place; where that is refused, the old one stands.

        Raises:
            OrderRejectedError: there is no such order, or ``changed`` is of another instrument, side or type.
        """
        if ledger.order(replaced) is None:
            raise OrderRejectedError(f"paper: there is no order {replaced} to replace; look its id up")
        old = next((one for one in ledger.working() if one.client_order_id == replaced), None)
        if old is None:
            return self._receive(ledger, changed, "too late: it had ended before")
        if (old.instrument, old.side, old.order_type) != (changed.instrument, changed.side, changed.order_type):
            raise OrderRejectedError(
                f"paper: {changed.client_order_id} cannot take the place of {replaced}, a {old.order_type.value} order "
                f"to {old.side.value} {old.instrument}; replace its quantity and price alone"
            )
        if changed.quantity <= old.filled:
            return self._receive(ledger, changed, f"too late: {plain(old.filled)} of it were filled before")
        rest = replace(changed, quantity=changed.quantity - old.filled)
        received = self._receive(ledger, rest, instead_of=replaced)
        if received.state is not OrderState.REJECTED:
            ledger.end_working(replaced, OrderState.REPLACED, f"replaced by {changed.client_order_id}")
        return received

    def _receive(self, ledger: Ledger, order: OrderRequest, refusal: str = "", instead_of: str = "") -> BrokerOrder:
        mark = self._mark(order.instrument, ledger.now)
        ledger.add_order(order, mark, refusal or self._refusal(ledger, order, mark, instead_of))
        received = ledger.order(order.client_order_id)
        if received is None:
            raise PaperBrokerError(f"paper: {order.client_order_id} is not in the ledger after it was booked")
        return received

    def _receive_bracket(self, ledger: Ledger, entry: OrderRequest, bracket: Bracket) -> None:
        """Book an entry with its exits, or refuse them all."""
        exits = entry.exits(bracket)
        mark, session = self._mark(entry.instrument, ledger.now), self._last_closed(ledger.now)
        conversion = self.feed.conversion(entry.instrument, session)
        tick = self.units(ledger.now).ticks.get(entry.instrument)
        problem = why_invalid(entry.side, mark / conversion.rate, bracket, tick) if mark and conversion else ""
        received = self._receive(ledger, entry, problem)
        refusal = f"its entry was refused: {received.reason}" if received.state is OrderState.REJECTED else ""
        for one in exits:
            ledger.add_order(one, mark, refusal, entry.client_order_id)

    def _refusal(self, ledger: Ledger, order: OrderRequest, mark: Decimal | None, instead_of: str = "") -> str:
        """Why the order is refused; empty when it is accepted. The order that it replaces takes no room any more."""
        working = [one for one in ledger.working() if one.client_order_id != instead_of]
        if mark is None:
            why = self.feed.kept_out(order.instrument, self._last_closed(ledger.now))
            return why or f"unknown instrument {order.instrument}: the feed has no price for it"
        if order.instrument in self.behaviour.reject:
            return f"orders in {order.instrument} are refused by configuration"
        if _floor(order.quantity, _lot(ledger)) != order.quantity:
            return f"quantity {plain(order.quantity)} is not a multiple of {plain(_lot(ledger))} shares"
        auctions = self._auctions(ledger.now, order.expires_at)
        session = next((day for _, day, auction in auctions if _takes_part(order.order_type, auction)), None)
        if session is None:
            return f"no {order.order_type.value} auction after {ledger.now} and by {order.expires_at}"
        if reason := self._short_sale(ledger, order, working) if order.side is Side.SELL else "":
            return reason
        if reason := self._bar(ledger, order.instrument, order.side, order.quantity, session):
            return reason
        if order.side is Side.SELL:
            return ""
        conversion = self.feed.conversion(order.instrument, self._last_closed(ledger.now))
        if conversion is None:
            return f"{order.instrument} is quoted in another currency, and the feed has no rate for it"
        worth = None if order.price is None else order.price * conversion.rate
        return _buying_power(ledger, order, mark, worth, working)

    def _short_sale(self, ledger: Ledger, order: OrderRequest, working: Sequence[WorkingOrder]) -> str:
        if self.allow_short:
            return ""
        held = ledger.positions().get(order.instrument, Decimal(0))
        selling = sum(
            (o.remaining for o in working if o.instrument == order.instrument and o.side is Side.SELL),
            Decimal(0),
        )
        if order.quantity <= held - selling:
            return ""
        return f"short sale: {plain(held)} held, {plain(selling)} of them being sold already"

    # -- inside: marking ---------------------------------------------------------------------------------------------

    def _prices(self, now: datetime, held: Collection[str], quoted: Collection[str]) -> dict[str, Decimal]:
        prices: dict[str, Decimal] = {}
        for name in sorted({*held, *quoted}):
            mark = self._mark(name, now)
            if mark is not None:
                prices[name] = mark
            elif name in held:
                why = self.feed.kept_out(name, self._last_closed(now)) or "ingest its bars first"
                raise PaperBrokerError(f"paper: no price for {name}, which the account holds; {why}")
        return prices

    def _mark(self, instrument: str, now: datetime) -> Decimal | None:
        """The last close that ``now`` has passed, less what a session opened since went ex of; None without a bar."""
        last = self._last_closed(now)
        following = self.sessions.next(last)
        named = following if self.sessions.open_utc(following) <= now else last
        price = self.feed.last_close(instrument, last, named)
        if price is None:
            return None
        opened = self.feed.actions([instrument], self.sessions.close_utc(last), now)
        for action in sorted((one for one in opened if one.instrument == instrument), key=action_order):
            if action.kind is EntryKind.SPLIT:
                price = price / action.value
            elif action.kind is EntryKind.DIVIDEND:
                price = price - action.value
        return max(price.quantize(PRICE_STEP), PRICE_STEP)

    def _last_closed(self, now: datetime) -> date:
        session = self.sessions.next(now.date())
        while self.sessions.close_utc(session) > now:
            session = self.sessions.previous(session)
        return session


def _buying_power(
    ledger: Ledger, order: OrderRequest, mark: Decimal, worth: Decimal | None, working: Sequence[WorkingOrder]
) -> str:
    """Why ``order`` is not covered; ``worth``: of its limit or trigger, account currency."""
    power = ledger.cash()
    for other in working:
        if other.side is Side.BUY:
            power -= other.value
        elif other.order_type is order.order_type and other.expires_at == order.expires_at:
            power += other.value
    # A limit or a trigger above the mark is what it may cost.
    need = order.quantity * max(mark, worth or mark)
    return "" if need <= power else f"buying power {power:.2f} does not cover {need:.2f}"


def _reducible(ledger: Ledger, entry: BrokerOrder) -> Decimal:
    """Shares of the position that an exit of ``entry`` may take away."""
    return max(entry.side.sign * ledger.positions().get(entry.instrument, Decimal(0)), Decimal(0))


def _protecting(ledger: Ledger) -> Iterator[OpenOrder]:
    """Of each pair of exits the one open order that they come to; of an entry that has not filled, none."""
    for entry, legs in ledger.exits():
        quantity = min(entry.filled_quantity, _reducible(ledger, entry))
        if quantity > 0:
            yield OpenOrder(legs[0].client_order_id, entry.instrument, legs[0].side, quantity)


def _takes_part(order_type: OrderType, auction: OrderType) -> bool:
    """Whether orders of a type take part in an auction, which is named by the orders that are for it alone."""
    return order_type is auction or order_type in (OrderType.MARKET, OrderType.LIMIT, OrderType.STOP)


def _executes_at(order: WorkingOrder, reference: Decimal) -> bool:
    """Whether an order executes where the auction's price is ``reference``."""
    if order.price is None:
        return True
    above = order.side.sign * (reference - order.price)
    return above <= 0 if order.order_type is OrderType.LIMIT else above >= 0


def _reaches(side: Side, limit: Decimal, bar: Bar) -> bool:
    high, low = (math.nan if price is None else float(price) for price in (bar.high, bar.low))
    return is_reached(side.sign, float(limit), high, low, float(bar.close))


def _lot(ledger: Ledger) -> Decimal:
    return QUANTITY_STEP if ledger.fractional else Decimal(1)


def _floor(quantity: Decimal, lot: Decimal) -> Decimal:
    return (quantity / lot).to_integral_value(ROUND_DOWN) * lot


def _pieces(quantity: Decimal, fees: Decimal, count: int, lot: Decimal) -> Iterator[tuple[Decimal, Decimal]]:
    """Cut a fill into at most ``count`` executions, fees by the cent; the last one takes what rounding leaves."""
    piece = _floor(quantity / count, lot)
    if count == 1 or not piece:
        yield quantity, fees
        return
    fee = (fees / count).quantize(CENT, ROUND_DOWN)
    for _ in range(count - 1):
        yield piece, fee
    yield quantity - piece * (count - 1), fees - fee * (count - 1)
