"""What research hands to execution: the account's snapshot, the plan, both gates' reports and the approval.

Belongs here: those records, each written once for a batch. Does not: executing them (order_store.py).

Everything is keyed by content: the same inputs give the same batch, and planning twice changes nothing. A session whose
batch was claimed by execution is settled: its snapshot and plan stay what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from octopus.core.errors import MissingDataError
from octopus.core.ids import fingerprint
from octopus.core.orders import AccountSnapshot, Batch, Bracket, GateReport, OrderType, PlannedOrder, Side
from resources.warehouse.store import Warehouse

_CASH_ROW = ""
"""``instrument`` of the row that carries the cash alone."""


@dataclass(frozen=True)
class Plans:
    """Records of research's side of the order path.

    Attributes:
        warehouse: in the role of research.
    """

    warehouse: Warehouse

    def is_settled(self, account: str, session: date) -> bool:
        """Execution has claimed a batch of that session: it can no longer be planned anew."""
        return bool(
            self.warehouse.scalar(
                """
                select exists (
                    select from execution.attempts a join portfolio.batches b using (batch_id)
                    where b.account = %s and b.session = %s)
                """,
                [account, session],
            )
        )

    # -- the snapshot ------------------------------------------------------------------------------------------------

    def save_snapshot(self, session: date, snapshot: AccountSnapshot) -> bool:
        """Store what the account held when ``session`` was decided; False when the same is stored already."""
        content = (sorted(snapshot.positions.items()), sorted(snapshot.prices.items()), snapshot.cash)
        name = f"{snapshot.account}-{session:%Y%m%d}-{fingerprint(content)[:12]}"
        names = [_CASH_ROW, *sorted(snapshot.prices)]
        frame = pl.DataFrame(
            {
                "snapshot_id": [name] * len(names),
                "account": [snapshot.account] * len(names),
                "session": [session] * len(names),
                "taken_at": [snapshot.taken_at] * len(names),
                "instrument": names,
                "quantity": [str(snapshot.positions.get(n, Decimal(0))) for n in names],
                "price": [str(snapshot.prices.get(n, Decimal(0))) for n in names],
                "cash": [str(snapshot.cash)] * len(names),
                "equity": [str(snapshot.equity)] * len(names),
            }
        )
        scope = {"account": snapshot.account, "session": session}
        return self.warehouse.replace("portfolio.opening_positions", scope, frame, keep=("taken_at",))

    def snapshot(self, account: str, session: date) -> tuple[str, AccountSnapshot] | None:
        """Id and content of the snapshot that ``session`` was decided with; None before there is one."""
        rows = self.warehouse.rows(
            "select * from portfolio.opening_positions where account = %s and session = %s order by instrument",
            [account, session],
        )
        if not rows:
            return None
        named = [row for row in rows if row["instrument"] != _CASH_ROW]
        return rows[0]["snapshot_id"], AccountSnapshot(
            account=account,
            taken_at=rows[0]["taken_at"],
            cash=rows[0]["cash"],
            positions={row["instrument"]: row["quantity"] for row in named if row["quantity"]},
            prices={row["instrument"]: row["price"] for row in named},
        )

    def book(self, account: str, session: date) -> tuple[Decimal, dict[str, Decimal]] | None:
        """Cash and positions of our own book at the close of ``session``; None before the book's first day."""
        heads = self.warehouse.rows(
            """
            select session, cash from execution.nav where account = %s and session <= %s
            order by session desc limit 1
            """,
            [account, session],
        )
        if not heads:
            return None
        rows = self.warehouse.rows(
            """
            select instrument, quantity from execution.positions
            where account = %s and session = %s and quantity <> 0
            """,
            [account, heads[0]["session"]],
        )
        return heads[0]["cash"], {row["instrument"]: row["quantity"] for row in rows}

    # -- the plan ----------------------------------------------------------------------------------------------------

    def save_plan(self, batch: Batch, decision_id: str, snapshot_id: str, now: datetime) -> bool:
        """Store a plan, superseding an earlier one of the same session; False when it is stored already."""
        with self.warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                """
                insert into portfolio.batches
                    (batch_id, account, session, decision_id, snapshot_id, not_before, expires_at, created_at)
                values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
                """,
                [batch.batch_id, batch.account, batch.session, decision_id, snapshot_id, batch.not_before,
                 batch.expires_at, now],
            )  # fmt: skip
            is_new = cursor.rowcount == 1
            if is_new:
                cursor.executemany(
                    "insert into portfolio.rebalance_plan values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    [
                        [batch.batch_id, order.intent_id, order.instrument, order.side.value, order.quantity,
                         order.reference_price, order.order_type.value, order.price,
                         order.bracket and order.bracket.stop, order.bracket and order.bracket.target]
                        for order in batch.orders
                    ],
                )  # fmt: skip
            cursor.execute(
                """
                update portfolio.batches set superseded_by = nullif(%(batch)s, batch_id)
                where account = %(account)s and session = %(session)s
                  and superseded_by is distinct from nullif(%(batch)s, batch_id)
                """,
                {"batch": batch.batch_id, "account": batch.account, "session": batch.session},
            )
        return is_new

    def batch(self, account: str, session: date) -> Batch | None:
        """The current plan of ``session``; None before there is one."""
        heads = self.warehouse.rows(
            """
            select batch_id, not_before, expires_at from portfolio.batches
            where account = %s and session = %s and superseded_by is null
            """,
            [account, session],
        )
        if not heads:
            return None
        rows = self.warehouse.rows(
            "select * from portfolio.rebalance_plan where batch_id = %s order by instrument", [heads[0]["batch_id"]]
        )
        orders = tuple(_planned(row) for row in rows)
        head = heads[0]
        return Batch(head["batch_id"], account, session, head["not_before"], head["expires_at"], orders)

    def require(self, account: str, session: date) -> tuple[Batch, tuple[str, AccountSnapshot]]:
        """The current plan of ``session`` and the snapshot it was made with.

        Raises:
            MissingDataError: there is none yet.
        """
        batch, snapshot = self.batch(account, session), self.snapshot(account, session)
        if batch is None or snapshot is None:
            raise MissingDataError(
                f"account {account} has no plan for {session}; materialise portfolio/rebalance_plan first"
            )
        return batch, snapshot

    # -- the gates ---------------------------------------------------------------------------------------------------

    def save_report(self, table: str, batch_id: str, report: GateReport) -> bool:
        """Store one gate's verdicts on a batch; False when the same are stored already."""
        frame = verdict_rows(report).with_columns(pl.lit(batch_id).alias("batch_id"))
        return self.warehouse.replace(table, {"batch_id": batch_id}, frame)

    def approve(self, batch: Batch, approved: Iterable[str], reports: Mapping[str, GateReport], now: datetime) -> bool:
        """Note that both gates have spoken: from now on execution may take the batch up."""
        count = len(set(approved))
        frame = pl.DataFrame(
            {
                "batch_id": [batch.batch_id],
                "approved": [count],
                "denied": [len(batch.orders) - count],
                "risk_hash": [report_hash(reports["risk"])],
                "compliance_hash": [report_hash(reports["compliance"])],
                "created_at": [now],
            }
        )
        return self.warehouse.replace("compliance.approvals", {"batch_id": batch.batch_id}, frame, keep=("created_at",))


def verdict_rows(report: GateReport) -> pl.DataFrame:
    """Verdicts as rows of risk.limit_report and compliance.pretrade_report, without the batch."""
    verdicts = report.verdicts
    return pl.DataFrame(
        {
            "seq": list(range(len(verdicts))),
            "rule": [v.rule for v in verdicts],
            "intent_id": [v.intent_id for v in verdicts],
            "outcome": [v.outcome.value for v in verdicts],
            "value": [v.value for v in verdicts],
            "limit_value": [v.limit for v in verdicts],
            "reason": [v.reason for v in verdicts],
        },
        schema={
            "seq": pl.Int64, "rule": pl.String, "intent_id": pl.String, "outcome": pl.String, "value": pl.Float64,
            "limit_value": pl.Float64, "reason": pl.String,
        },
    )  # fmt: skip


def report_hash(report: GateReport) -> str:
    """Of every verdict, in order."""
    return fingerprint([[v.rule, v.intent_id, v.outcome.value, v.reason] for v in report.verdicts])


def _planned(row: Mapping[str, Any]) -> PlannedOrder:
    return PlannedOrder(
        intent_id=row["intent_id"],
        instrument=row["instrument"],
        side=Side(row["side"]),
        quantity=row["quantity"],
        reference_price=row["reference_price"],
        order_type=OrderType(row["order_type"]),
        price=row["price"],
        bracket=Bracket.of(row["stop_price"], row["target_price"]),
    )
