"""What is reckoned from the order path's records once orders have ended: their cost, tax lots and realised gains.

Belongs here: reading those records with the prices they need, storing what follows, and whether a person may still say
which lots a sale closed. Does not: the formulas
(octopus/execution), the records themselves (order_store.py, account_books.py).

Everything is reckoned anew from the records each time and stored only where it differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

import polars as pl

from octopus.compliance.wash_sales import Trade, adjust
from octopus.core.lots import Disposal, Lot
from octopus.core.orders import OrderType
from octopus.core.sessions import KeepsCalendars, Sessions
from octopus.execution.book import Book, CorporateAction, Entry, EntryKind
from octopus.execution.costs import OrderCosts, order_costs
from octopus.execution.lots import LotBook, LotSelectionError, Selection, lot_book
from octopus.execution.settlement import identifiable_until, settlement_date
from octopus.execution.states import TERMINAL
from resources.price_feed import PriceFeed
from resources.settings import Settings
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.lot_identifications import LotIdentifications
from resources.warehouse.order_store import OrderStore, StoredOrder
from resources.warehouse.store import Warehouse


@dataclass(frozen=True)
class CostedOrder:
    """An order with its cost and the prices that it was measured by."""

    order: StoredOrder
    costs: OrderCosts
    arrival_price: Decimal
    arrival_source: str
    end_price: Decimal


@dataclass(frozen=True)
class OpenSale:
    """A sale (or the covering of a short) whose lots may still be identified.

    Attributes:
        quantity: shares that it closed, signed as the lots'. parts: of which lots. until: UTC.
    """

    fill_id: str
    instrument: str
    quantity: Decimal
    parts: tuple[Disposal, ...]
    identified: bool
    until: datetime


@dataclass(frozen=True)
class ExecutionReports:
    """Reports on one account.

    Attributes:
        store: our records. warehouse: where reports are stored, in the role of the trader.
        feed: of the prices that orders are measured by.
        calendars: of the instruments, whose exchanges settle in their own time; None: all keep ``sessions``.
        wash_sales: whether losses that wash sales disallow move into the lots that replaced what was sold.
        now: until when changes of symbol and splits have taken effect; None: all that the feed knows have.
    """

    store: OrderStore
    warehouse: Warehouse
    feed: PriceFeed
    sessions: Sessions
    calendars: KeepsCalendars | None = None
    wash_sales: bool = False
    now: datetime | None = None

    @classmethod
    def of(cls, store: OrderStore, warehouse: Warehouse, feed: PriceFeed, settings: Settings, now: datetime) -> Self:
        """Reports as the settings have them."""
        calendars = warehouse.calendars(settings.universe.market_data, settings.sessions)
        return cls(store, warehouse, feed, settings.sessions, calendars, settings.compliance.watches_wash_sales, now)

    def save_order_costs(self, account: str, session: date) -> int:
        """Measure each order of ``session`` that has ended; how many there are.

        An order in an instrument that split since its decision is left out: its shares are counted in two units. Of
        one that was replaced counts what it filled: the rest is its replacement's. So it is of an exit, measured from
        its own price: one that was not executed has missed nothing.
        Before the bars of the session are in, nothing is measured.
        """
        last_bar = self.feed.last_session()
        if last_bar is None or last_bar < session:
            return 0
        costed = [one for order in self._ended(account, session) if (one := self._cost(order, session)) is not None]
        rows = [_cost_row(one, session) for one in costed]
        frame = pl.DataFrame(rows, schema=_COST_SCHEMA)
        self.warehouse.replace("execution.order_costs", {"account": account, "session": session}, frame)
        return len(costed)

    def save_tax_lots(self, account: str) -> int:
        """Store the account's open lots; how many there are."""
        lots = self.reported(account).lots
        frame = pl.DataFrame([_lot_row(account, seq, lot) for seq, lot in enumerate(lots, 1)], schema=_LOT_SCHEMA)
        self.warehouse.replace("execution.tax_lots", {"account": account}, frame)
        return len(lots)

    def save_realised_gains(self, account: str) -> int:
        """Store what closing lots brought, trade by trade; how many disposals there were."""
        disposals = self.reported(account).disposals
        rows = [_gain_row(account, seq, one) for seq, one in enumerate(disposals, 1)]
        self.warehouse.replace(
            "execution.realised_gains", {"account": account}, pl.DataFrame(rows, schema=_GAIN_SCHEMA)
        )
        return len(disposals)

    def lot_book(self, account: str) -> LotBook:
        """Lots and disposals from everything booked: the shares identified for a sale, then first in, first out."""
        return self._lot_book(account, LotIdentifications(self.store).current(account))

    def reported(self, account: str) -> LotBook:
        """As `lot_book`, and where the rule is watched, with the losses that wash sales defer."""
        booked = AccountBooks(self.store).book(account)
        book = self._lots_of(booked, LotIdentifications(self.store).current(account))
        if not self.wash_sales:
            return book
        trades = {fill.fill_id: Trade(fill.at, fill.client_order_id) for fill in booked.fills} | {
            entry.entry_id: Trade(entry.at, entry.entry_id) for entry in booked.entries
        }
        adjusted = adjust(book.disposals, book.lots, trades)
        return LotBook(adjusted.lots, adjusted.disposals)

    def open_sales(self, account: str, now: datetime) -> list[OpenSale]:
        """Sales whose lots may still be identified, oldest first."""
        identified, instants = LotIdentifications(self.store).current(account), self._instants(account)
        parts: dict[str, list[Disposal]] = {}
        for one in self.lot_book(account).disposals:
            parts.setdefault(one.fill_id, []).append(one)
        found = []
        for fill_id, of in parts.items():
            until = identifiable_until(self._keeps(of[0].instrument), instants[fill_id])
            if now <= until:
                quantity = sum((one.quantity for one in of), Decimal(0))
                found.append(OpenSale(fill_id, of[0].instrument, quantity, tuple(of), fill_id in identified, until))
        return found

    def identify(
        self, account: str, fill_id: str, chosen: Sequence[Selection], by: str, reason: str, session: date,
        now: datetime,
    ) -> None:  # fmt: skip
        """Commit that a sale closed these shares and not the earliest; a later word takes the place of this one.

        Args:
            session: in whose reports it stands.

        Raises:
            LotSelectionError: no such sale, it is too late, a lot is named twice, or its shares are not there: not open
                at that time, or taken by what was identified for another sale. It is never too late to mend a word
                whose shares the venue took away since, as it does by busting a fill.
        """
        if len({one.lot_id for one in chosen}) < len(chosen):
            raise LotSelectionError(f"a lot is named twice for sale {fill_id}: give each lot once, with all its shares")
        told = LotIdentifications(self.store)
        with self.store.connection.transaction():
            told.alone(account)
            current = told.current(account)
            others = {sale: shares for sale, shares in current.items() if sale != fill_id}
            sold = [one for one in self._lot_book(account, others).disposals if one.fill_id == fill_id]
            if not sold:
                raise LotSelectionError(
                    f"account {account} has no sale {fill_id} that closed a lot: see `octopus lots list`"
                )
            until = identifiable_until(self._keeps(sold[0].instrument), self._instants(account)[fill_id])
            if now > until and self._stands(account, current):
                raise LotSelectionError(
                    f"the lots of sale {fill_id} could be identified until {until:%Y-%m-%d %H:%M} UTC, when it settled "
                    "(26 CFR 1.1012-1(c)): they stay as they are"
                )
            self._lot_book(account, {**others, fill_id: chosen})
            told.save(account, fill_id, chosen, by, reason, session, now)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _lot_book(self, account: str, selections: Mapping[str, Sequence[Selection]]) -> LotBook:
        return self._lots_of(AccountBooks(self.store).book(account), selections)

    def _lots_of(self, book: Book, selections: Mapping[str, Sequence[Selection]]) -> LotBook:
        splits = [entry for entry in book.entries if entry.kind is EntryKind.SPLIT]
        ratios = {entry.entry_id: ratio for entry in splits if (ratio := self._ratio(entry)) is not None}
        return lot_book(
            book.fills, book.entries, dates=self._dates, ratios=ratios, selections=selections,
            told=self._exchanges(book),
        )  # fmt: skip

    def _exchanges(self, book: Book) -> Sequence[CorporateAction]:
        """Of all that was ever traded or held, also where nothing of it was held by then."""
        names = {fill.instrument for fill in book.fills} | {one.instrument for one in book.entries if one.instrument}
        if not names:
            return ()
        since = min([*(fill.at for fill in book.fills), *(entry.at for entry in book.entries)])
        return self.feed.exchanges(names, since, self.now or _EVER)

    def _stands(self, account: str, selections: Mapping[str, Sequence[Selection]]) -> bool:
        try:
            self._lot_book(account, selections)
        except LotSelectionError:
            return False
        return True

    def _instants(self, account: str) -> dict[str, datetime]:
        """When each fill and entry happened."""
        book = AccountBooks(self.store).book(account)
        return {fill.fill_id: fill.at for fill in book.fills} | {entry.entry_id: entry.at for entry in book.entries}

    def _keeps(self, instrument: str) -> Sessions:
        return (self.calendars or self.sessions).of(instrument)

    def _ended(self, account: str, session: date) -> list[StoredOrder]:
        """Approved orders of the session that have ended, unsent ones too: not trading has its cost as well."""
        orders = self.store.orders(account, TERMINAL)
        denied = set(self.store.denied(account))
        replaced, unused = self.store.swapped(account)
        found = []
        for order in orders:
            in_session = self.sessions.trade_date(order.expires_at) == session
            if not in_session or order.order.intent_id in denied or order.client_order_id in unused:
                continue
            only_filled = order.client_order_id in replaced or order.exit_of is not None
            quantity = order.status.filled if only_filled else order.status.quantity
            if quantity:
                found.append(replace(order, order=replace(order.order, quantity=quantity)))
        return found

    def _cost(self, stored: StoredOrder, session: date) -> CostedOrder | None:
        order, before = stored.order, self.sessions.previous(session)
        since, opened = self.sessions.open_utc(before), self.sessions.open_utc(session)
        actions = self.feed.actions([order.instrument], since, opened)
        end = self.feed.last_close(order.instrument, session)
        if end is None or any(action.kind is EntryKind.SPLIT for action in actions):
            return None
        arrival, source = self._arrival(stored, session)
        fills = AccountBooks(self.store).fills_of(stored.client_order_id)
        costs = order_costs(order, fills, decision_price=order.reference_price, arrival_price=arrival, end_price=end)
        return CostedOrder(stored, costs, arrival, source, end)

    def _arrival(self, stored: StoredOrder, session: date) -> tuple[Decimal, str]:
        """The market's price when the order could first be sent, and whence we know it.

        An order for the close leaves at the open, whose price is the first of the day; one for the open leaves before.
        An exit is there from its own price on.
        """
        order = stored.order
        bar = self.feed.bar(order.instrument, session)
        if order.order_type is OrderType.MARKET_ON_CLOSE and bar is not None and bar.open is not None:
            return bar.open * bar.conversion.rate, "open"
        mark = None if stored.exit_of is not None else self.store.mark_when_sent(stored.client_order_id)
        return (order.reference_price, "decision") if mark is None else (mark, "mark")

    def _ratio(self, entry: Entry) -> Decimal | None:
        if entry.instrument is None:
            return None
        told = self.feed.actions([entry.instrument], entry.at - timedelta(seconds=1), entry.at)
        return next((action.value for action in told if action.kind is EntryKind.SPLIT), None)

    def _dates(self, at: datetime, instrument: str) -> tuple[date, date]:
        keeps = self._keeps(instrument)
        return self.sessions.trade_date(at), settlement_date(keeps, keeps.trade_date(at))


_EVER = datetime.max.replace(tzinfo=UTC)


def _cost_row(one: CostedOrder, session: date) -> Mapping[str, Any]:
    stored, order, costs = one.order, one.order.order, one.costs
    return {
        "client_order_id": stored.client_order_id, "account": stored.account, "session": session,
        "instrument": order.instrument, "side": order.side.value, "quantity": _amount(order.quantity),
        "filled_quantity": _amount(costs.filled), "decision_price": _amount(order.reference_price),
        "arrival_price": _amount(one.arrival_price), "arrival_source": one.arrival_source,
        "average_price": None if costs.average_price is None else _amount(costs.average_price),
        "end_price": _amount(one.end_price), "delay_usd": _amount(costs.delay_usd),
        "trading_usd": _amount(costs.trading_usd), "opportunity_usd": _amount(costs.opportunity_usd),
        "fees_usd": _amount(costs.fees_usd), "shortfall_usd": _amount(costs.shortfall_usd),
        "shortfall_bps": float(costs.shortfall_bps),
        "slippage_bps": None if costs.slippage_bps is None else float(costs.slippage_bps),
    }  # fmt: skip


def _lot_row(account: str, seq: int, lot: Lot) -> Mapping[str, Any]:
    return {
        "account": account, "seq": seq, "lot_id": lot.lot_id, "instrument": lot.instrument,
        "quantity": _amount(lot.quantity), "cost_usd": _amount(lot.cost), "wash_sale_usd": _amount(lot.wash_sale),
        "acquired": lot.acquired, "held_from": lot.held_from,
    }  # fmt: skip


def _gain_row(account: str, seq: int, one: Disposal) -> Mapping[str, Any]:
    return {
        "account": account, "seq": seq, "fill_id": one.fill_id, "lot_id": one.lot_id, "instrument": one.instrument,
        "quantity": _amount(one.quantity), "proceeds_usd": _amount(one.proceeds), "basis_usd": _amount(one.basis),
        "disallowed_usd": _amount(one.disallowed), "gain_usd": _amount(one.gain), "acquired": one.acquired,
        "held_from": one.held_from, "disposed": one.disposed, "settles": one.settles, "long_term": one.is_long_term,
    }  # fmt: skip


def _amount(value: Decimal) -> str:
    """As the column keeps it: COPY reads text, and no binary float comes in between."""
    return f"{value:f}"


_TEXT, _DAY, _FLOAT = pl.String, pl.Date, pl.Float64
_COST_SCHEMA = dict.fromkeys(
    ("client_order_id", "account"), _TEXT
) | {"session": _DAY} | dict.fromkeys(
    ("instrument", "side", "quantity", "filled_quantity", "decision_price", "arrival_price", "arrival_source",
     "average_price", "end_price", "delay_usd", "trading_usd", "opportunity_usd", "fees_usd", "shortfall_usd"), _TEXT
) | {"shortfall_bps": _FLOAT, "slippage_bps": _FLOAT}  # fmt: skip
_LOT_SCHEMA = {"account": _TEXT, "seq": pl.Int64} | dict.fromkeys(
    ("lot_id", "instrument", "quantity", "cost_usd", "wash_sale_usd"), _TEXT
) | dict.fromkeys(("acquired", "held_from"), _DAY)  # fmt: skip
_GAIN_SCHEMA = {"account": _TEXT, "seq": pl.Int64} | dict.fromkeys(
    ("fill_id", "lot_id", "instrument", "quantity", "proceeds_usd", "basis_usd", "disallowed_usd", "gain_usd"), _TEXT
) | dict.fromkeys(("acquired", "held_from", "disposed", "settles"), _DAY) | {"long_term": pl.Boolean}  # fmt: skip
