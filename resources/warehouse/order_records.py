"""What the stores of the order path's records share: asking for rows, and telling the audit log.

Belongs here: only what the way of an order (order_store.py), the account's books (account_books.py) and what is said of
its lots (lot_identifications.py) all need of their connection. Does not: any statement on orders or books, and moving
what is told into the log, which is the order store's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from octopus.core.ids import canonical_json


class OrderRecords:
    """Some of the order path's tables.

    Attributes:
        connection: commits each transaction at its end.
    """

    connection: psycopg.Connection

    def _note(self, kind: str, subject: str, payload: Mapping[str, object]) -> None:
        """Leave an entry for the audit log in the transaction of what it reports."""
        self.connection.execute(
            "insert into execution.outbox (kind, subject, payload) values (%s, %s, %s)",
            [kind, subject, as_json(payload)],
        )

    def _at_once(self, call: LiteralString, parameters: Sequence[object]) -> Any:
        """The one value that a function answers which is a transaction of its own: no other is open."""
        return self._all_at_once(call, parameters)[0][0]

    def _all_at_once(self, call: LiteralString, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows that a function answers which is a transaction of its own: no other is open."""
        return self.connection.execute(call, parameters).fetchall()

    def _rows(self, query: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[DictRow]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    def _row(self, query: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()) -> DictRow | None:
        rows = self._rows(query, parameters)
        return rows[0] if rows else None


def as_json(value: object) -> Jsonb:
    """``value`` as a JSON column keeps it; what it is made of, see `canonical_json`."""
    return Jsonb(value, dumps=canonical_json)
