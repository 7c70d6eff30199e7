"""The paper broker's ledger: all statements on the schema ``paper``.

Belongs here: reading and writing the ledger inside one transaction. Does not: the rules of the venue (paper.py).

Positions and cash are not stored: they are the sums of the fills and entries, so they cannot disagree with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from octopus.core.ids import fingerprint
from octopus.core.orders import Fill, FillRevision, OrderType, Side
from octopus.execution.book import Entry, EntryKind
from octopus.execution.states import OrderState
from resources.brokers.base import BrokerOrder, OrderRequest
from resources.warehouse.connection import Role, connect

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORKING = [OrderState.ACCEPTED.value, OrderState.PARTIALLY_FILLED.value]


@dataclass(frozen=True)
class AccountTerms:
    """What an account is opened with, once; later configurations do not change it."""

    account: str
    currency: str
    deposit: Decimal
    fractional: bool


@dataclass(frozen=True)
class WorkingOrder:
    """An accepted order that may still fill.

    Attributes:
        mark_price: the latest price at its acceptance, with which buying power is reckoned.
        exit_of: client order id of the entry that it protects; None of any other order.
    """

    broker_order_id: str
    client_order_id: str
    instrument: str
    side: Side
    quantity: Decimal
    filled: Decimal
    mark_price: Decimal
    order_type: OrderType
    accepted_at: datetime
    expires_at: datetime
    price: Decimal | None = None
    exit_of: str | None = None

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def value(self) -> Decimal:
        """What is left of it at its mark, positive."""
        return self.remaining * self.mark_price


@dataclass(frozen=True)
class Ledger:
    """One account's ledger in an open transaction that holds the account's row.

    Attributes:
        settled_until: auctions and corporate actions up to here are booked.
        now: the venue's time in this transaction; never before ``settled_until``, even if the clock was set back.
    """

    connection: psycopg.Connection
    account: str
    number: str
    currency: str
    fractional: bool
    settled_until: datetime
    now: datetime

    # -- reading -----------------------------------------------------------------------------------------------------

    def cash(self) -> Decimal:
        row = self._rows(
            """
            select coalesce((select sum(cash) from paper.entries where account = %(account)s), 0)
                + coalesce((select sum(case side when 'buy' then -quantity * price else quantity * price end - fees)
                            from paper.current_fills where account = %(account)s), 0) as cash
            """
        )[0]
        return Decimal(row["cash"])

    def positions(self) -> dict[str, Decimal]:
        """Shares by instrument; zero positions are absent."""
        rows = self._rows(
            """
            select instrument, sum(quantity) as quantity from (
                select instrument, case side when 'buy' then quantity else -quantity end as quantity
                from paper.current_fills where account = %(account)s
                union all
                select instrument, quantity from paper.entries where account = %(account)s and instrument is not null
            ) as movements
            group by instrument having sum(quantity) <> 0 order by instrument
            """
        )
        return {row["instrument"]: row["quantity"] for row in rows}

    def instruments(self) -> list[str]:
        """Every name that was ever traded or booked."""
        rows = self._rows(
            """
            select instrument from paper.fills where account = %(account)s
            union
            select instrument from paper.entries where account = %(account)s and instrument is not null
            order by instrument
            """
        )
        return [row["instrument"] for row in rows]

    def working(self) -> list[WorkingOrder]:
        """Accepted orders that may still fill, exits apart, by instrument and id."""
        return self._standing(exits=False)

    def exits(self) -> list[tuple[BrokerOrder, list[WorkingOrder]]]:
        """Exits that may still fill, beside the entry that each protects, as `working`."""
        pairs: dict[str, list[WorkingOrder]] = {}
        for one in self._standing(exits=True):
            pairs.setdefault(one.exit_of or "", []).append(one)
        return [(entry, legs) for name, legs in pairs.items() if (entry := self.order(name)) is not None]

    def _standing(self, *, exits: bool) -> list[WorkingOrder]:
        rows = self._rows(
            "select * from paper.orders where account = %(account)s and state = any(%(states)s) "
            "and (exit_of is not null) = %(exits)s order by instrument, client_order_id",
            states=_WORKING,
            exits=exits,
        )
        return [
            WorkingOrder(
                broker_order_id=row["broker_order_id"],
                client_order_id=row["client_order_id"],
                instrument=row["instrument"],
                side=Side(row["side"]),
                quantity=row["quantity"],
                filled=row["filled_quantity"],
                mark_price=row["mark_price"],
                order_type=OrderType(row["order_type"]),
                accepted_at=row["accepted_at"],
                expires_at=row["expires_at"],
                price=row["price"],
                exit_of=row["exit_of"],
            )
            for row in rows
        ]

    def order(self, client_order_id: str) -> BrokerOrder | None:
        row = self._order_row(client_order_id)
        if row is None:
            return None
        return BrokerOrder(
            client_order_id=row["client_order_id"],
            broker_order_id=row["broker_order_id"],
            instrument=row["instrument"],
            side=Side(row["side"]),
            quantity=row["quantity"],
            state=OrderState(row["state"]),
            filled_quantity=row["filled_quantity"],
            reason=row["reason"] or "",
        )

    def fills(self, since: datetime | None) -> tuple[Fill, ...]:
        """Fills as they count now."""
        rows = self._rows(
            "select c.*, f.rate from paper.current_fills c join paper.fills f using (fill_id) "
            "where c.account = %(account)s and c.at >= %(since)s order by c.at, c.fill_id",
            since=since or _EPOCH,
        )
        return tuple(_fill(row) for row in rows)

    def movements(self) -> tuple[Fill, ...]:
        """Everything that fills, busts and corrections moved, each when it did."""
        rows = self._rows("select * from paper.fill_movements where account = %(account)s order by at, fill_id, number")
        return tuple(_fill(row) for row in rows)

    def revisions(self, since: datetime | None) -> tuple[FillRevision, ...]:
        rows = self._rows(
            "select * from paper.fill_revisions where account = %(account)s and at >= %(since)s "
            "order by at, fill_id, number",
            since=since or _EPOCH,
        )
        return tuple(
            FillRevision(
                fill_id=row["fill_id"],
                number=row["number"],
                client_order_id=row["client_order_id"],
                quantity=row["quantity"],
                price=row["price"],
                fees=row["fees"],
                at=row["at"],
                reason=row["reason"],
            )
            for row in rows
        )

    def entries(self, since: datetime | None) -> tuple[Entry, ...]:
        rows = self._rows(
            "select * from paper.entries where account = %(account)s and at >= %(since)s order by at, entry_id",
            since=since or _EPOCH,
        )
        prefix = len(self._entry_key(""))
        return tuple(
            Entry(
                entry_id=row["entry_id"][prefix:],
                kind=EntryKind(row["kind"]),
                instrument=row["instrument"],
                quantity=row["quantity"],
                cash=row["cash"],
                at=row["at"],
                note=row["note"],
            )
            for row in rows
        )

    # -- writing -----------------------------------------------------------------------------------------------------

    def add_order(self, order: OrderRequest, mark: Decimal | None, refusal: str, exit_of: str | None = None) -> None:
        """Book an order as accepted, or as rejected with the reason ``refusal``.

        Args:
            exit_of: client order id of the entry that it protects; None of any other order.
        """
        self.connection.execute(
            """
            insert into paper.orders (broker_order_id, account, client_order_id, instrument, side, quantity, order_type,
                                      state, reason, mark_price, accepted_at, expires_at, price, exit_of)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [
                f"paper-{fingerprint(self.number, order.client_order_id)[:20]}",
                self.account,
                order.client_order_id,
                order.instrument,
                order.side.value,
                order.quantity,
                order.order_type.value,
                (OrderState.REJECTED if refusal else OrderState.ACCEPTED).value,
                refusal,
                mark,
                self.now,
                order.expires_at,
                order.price,
                exit_of,
            ],
        )

    def add_fill(
        self,
        order: WorkingOrder,
        number: int,
        quantity: Decimal,
        price: Decimal,
        fees: Decimal,
        at: datetime,
        rate: Decimal,
    ) -> None:
        """Book the ``number``-th execution of an order, ``price`` in the account's currency, converted at ``rate``."""
        self.connection.execute(
            """
            insert into paper.fills (fill_id, broker_order_id, account, client_order_id, instrument, side, quantity,
                                     price, fees, at, rate)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [
                f"{order.broker_order_id}-{number}",
                order.broker_order_id,
                self.account,
                order.client_order_id,
                order.instrument,
                order.side.value,
                quantity,
                price,
                fees,
                at,
                rate,
            ],
        )
        self.connection.execute(
            "update paper.orders set filled_quantity = filled_quantity + %s, state = %s where broker_order_id = %s",
            [quantity, OrderState.PARTIALLY_FILLED.value, order.broker_order_id],
        )

    def revise_fill(
        self, fill_id: str, quantity: Decimal, price: Decimal | None, fees: Decimal | None, reason: str
    ) -> bool:
        """Book that a fill was ``quantity`` in truth; False where there is no such fill."""
        rows = self._rows(
            """
            select f.client_order_id, coalesce(r.quantity, f.quantity) as quantity, coalesce(r.price, f.price) as price,
                coalesce(r.fees, f.fees) as fees, coalesce(r.number, 0) as number
            from paper.fills f left join paper.fill_revisions r using (account, fill_id)
            where f.account = %(account)s and f.fill_id = %(fill)s order by number desc limit 1
            """,
            fill=fill_id,
        )
        for was in rows:
            paid = Decimal(0) if not quantity else was["fees"] if fees is None else fees
            self.connection.execute(
                "insert into paper.fill_revisions (account, fill_id, number, client_order_id, quantity, price, fees, "
                "at, replaces, reason) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [self.account, fill_id, was["number"] + 1, was["client_order_id"], quantity, price or was["price"],
                 paid, self.now, was["number"], reason],
            )  # fmt: skip
            self.connection.execute(
                "update paper.orders set filled_quantity = filled_quantity + %s where account = %s "
                "and client_order_id = %s",
                [quantity - was["quantity"], self.account, was["client_order_id"]],
            )
        return bool(rows)

    def add_entry(self, entry: Entry) -> None:
        """Book a movement that is not a fill; the same entry id counts once."""
        self.connection.execute(
            """
            insert into paper.entries (entry_id, account, kind, instrument, quantity, cash, at, note)
            values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (entry_id) do nothing
            """,
            [
                self._entry_key(entry.entry_id),
                self.account,
                entry.kind.value,
                entry.instrument,
                entry.quantity,
                entry.cash,
                entry.at,
                entry.note,
            ],
        )

    def end_working(self, client_order_id: str, state: OrderState, reason: str) -> None:
        """End an order that still works; a terminal one stays as it is."""
        self._end(state, reason, client_order_id=client_order_id)

    def cancel_instrument(self, instrument: str, reason: str) -> None:
        """End every working order in ``instrument``."""
        self._end(OrderState.CANCELLED, reason, instrument=instrument)

    def expire(self, until: datetime) -> None:
        """End every working order whose expiry has come."""
        self._end(
            OrderState.EXPIRED,
            "no bar in its auction, or a price that it does not take: it expired unfilled",
            expired_by=until,
        )

    def settle(self, until: datetime) -> None:
        """Remember that everything up to ``until`` is booked."""
        self.connection.execute(
            "update paper.accounts set settled_until = %s where account = %s", [until, self.account]
        )

    # -- inside ------------------------------------------------------------------------------------------------------

    def _end(
        self,
        state: OrderState,
        reason: str,
        *,
        client_order_id: str | None = None,
        instrument: str | None = None,
        expired_by: datetime | None = None,
    ) -> None:
        self.connection.execute(
            """
            update paper.orders set state = %(state)s, reason = %(reason)s
            where account = %(account)s and state = any(%(working)s)
              and (client_order_id = %(order)s::text or instrument = %(instrument)s::text
                   or expires_at <= %(expired_by)s::timestamptz)
            """,
            {
                "state": state.value,
                "reason": reason,
                "account": self.account,
                "working": _WORKING,
                "order": client_order_id,
                "instrument": instrument,
                "expired_by": expired_by,
            },
        )
        self.connection.execute(
            """
            update paper.orders x set state = 'cancelled', reason = 'its entry ended with nothing filled'
            from paper.orders e
            where x.account = %(account)s and x.state = any(%(working)s) and e.account = x.account
              and e.client_order_id = x.exit_of and e.filled_quantity = 0 and not e.state = any(%(working)s)
            """,
            {"account": self.account, "working": _WORKING},
        )

    def _order_row(self, client_order_id: str) -> dict[str, Any] | None:
        rows = self._rows(
            "select * from paper.orders where account = %(account)s and client_order_id = %(order)s",
            order=client_order_id,
        )
        return rows[0] if rows else None

    def _entry_key(self, entry_id: str) -> str:
        """Entry ids are unique within an account, the table's key over all accounts."""
        return f"{self.number}:{entry_id}"

    def _rows(self, query: LiteralString, **parameters: object) -> list[dict[str, Any]]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, {"account": self.account, **parameters}).fetchall()


def _fill(row: dict[str, Any]) -> Fill:
    return Fill(
        fill_id=row["fill_id"],
        client_order_id=row["client_order_id"],
        instrument=row["instrument"],
        side=Side(row["side"]),
        quantity=row["quantity"],
        price=row["price"],
        fees=row["fees"],
        at=row["at"],
        rate=row.get("rate", Decimal(1)),
    )


@contextmanager
def locked_ledger(url: str, terms: AccountTerms, now: datetime) -> Iterator[Ledger]:
    """The account's ledger in one transaction, committed at the end; the account is opened if it does not exist."""
    with connect(url, Role.TRADER) as connection:
        row, is_new = _locked_account(connection, terms.account), False
        if row is None:
            is_new = _opened_account(connection, terms, now)
            row = _locked_account(connection, terms.account)
        if row is None:
            raise LookupError(f"paper account {terms.account} vanished while it was being opened")
        ledger = Ledger(
            connection=connection,
            account=terms.account,
            number=row["account_number"],
            currency=row["currency"],
            fractional=row["fractional"],
            settled_until=row["settled_until"],
            now=max(now, row["settled_until"]),
        )
        if is_new:
            opening = Entry("opening", EntryKind.DEPOSIT, None, Decimal(0), terms.deposit, now, "opening deposit")
            ledger.add_entry(opening)
        yield ledger


def _locked_account(connection: psycopg.Connection, account: str) -> dict[str, Any] | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("select * from paper.accounts where account = %s for update", [account]).fetchone()


def _opened_account(connection: psycopg.Connection, terms: AccountTerms, now: datetime) -> bool:
    """Open the account; False where somebody else just did."""
    number = f"PAPER-{fingerprint('paper-account', terms.account)[:10].upper()}"
    opened = connection.execute(
        """
        insert into paper.accounts (account, account_number, currency, opened_at, fractional, settled_until)
        values (%s, %s, %s, %s, %s, %s) on conflict (account) do nothing
        """,
        [terms.account, number, terms.currency, now, terms.fractional, now],
    )
    return bool(opened.rowcount)
