"""Which shares a person said were sold: kept for good, the last word on each sale counting.

Belongs here: writing and reading those words. Does not: whether one may be given (execution_reports.py), what follows
for lots and gains (octopus/execution/lots.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from octopus.execution.lots import Selection
from resources.warehouse.order_records import OrderRecords
from resources.warehouse.order_store import OrderStore


class LotIdentifications(OrderRecords):
    """Identifications of lots, over the connection of the orders that sold them."""

    def __init__(self, orders: OrderStore) -> None:
        self.connection = orders.connection

    def alone(self, account: str) -> None:
        """Keep others from identifying lots of the account until the transaction ends."""
        self.connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 27))", [account])

    def current(self, account: str) -> Mapping[str, tuple[Selection, ...]]:
        """The shares that each sale closes, by its fill id, as far as they were identified."""
        rows = self._rows(
            """
            select fill_id, lot_id, quantity from execution.lot_identifications
            where account = %s and (fill_id, number) in (
                select fill_id, max(number) from execution.lot_identifications where account = %s group by fill_id)
            order by fill_id, lot_id
            """,
            [account, account],
        )
        found: dict[str, tuple[Selection, ...]] = {}
        for row in rows:
            found[row["fill_id"]] = (*found.get(row["fill_id"], ()), Selection(row["lot_id"], row["quantity"]))
        return found

    def save(
        self, account: str, fill_id: str, chosen: Sequence[Selection], by: str, reason: str, session: date,
        now: datetime,
    ) -> None:  # fmt: skip
        """Commit the word of ``by`` on the whole sale; it takes the place of an earlier one.

        Args:
            session: in whose reports it stands.
        """
        with self.connection.transaction():
            counted = self._row(
                "select coalesce(max(number), 0) + 1 as number from execution.lot_identifications "
                "where account = %s and fill_id = %s",
                [account, fill_id],
            )
            number = 1 if counted is None else counted["number"]
            for one in chosen:
                self.connection.execute(
                    """
                    insert into execution.lot_identifications (account, fill_id, number, lot_id, quantity,
                                                               identified_by, reason, identified_at, session)
                    values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
                    """,
                    [account, fill_id, number, one.lot_id, one.quantity, by, reason, now, session],
                )
            detail = {
                "account": account, "number": number, "by": by, "reason": reason, "trading_time": now,
                "lots": [{"lot_id": one.lot_id, "quantity": one.quantity} for one in chosen],
            }  # fmt: skip
            self._note("lots.identified", fill_id, detail)
