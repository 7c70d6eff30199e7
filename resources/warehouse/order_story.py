"""The story of one order from the records: what allowed it, what became of it, and what it was decided from.

Belongs here: reading those records. Does not: judging them (octopus/compliance/replay.py) and printing (cli/audit.py).

Everything is read as it was recorded; nothing is looked up in today's configuration but the name of the market data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from octopus.compliance.gate import GATE as COMPLIANCE
from octopus.compliance.replay import Attempt, RecordCheck, Replay, check_attempts, is_allowed
from octopus.compliance.replay import judged_again as compliance_again
from octopus.core.amounts import plain
from octopus.core.errors import OctopusError
from octopus.core.ids import fingerprint
from octopus.core.orders import Outcome, Verdict
from octopus.execution.schedules import parent_of
from octopus.risk.case import GATE as RISK
from octopus.risk.gate import judged_again as risk_again
from resources.warehouse.audit_log import verify
from resources.warehouse.store import Warehouse

FORMAT = 1
"""Of the JSON: raised when a key changes its meaning or goes."""
_LAST_BARS, _LAST_TEXTS = 3, 10


REPLAYS: Mapping[str, Replay] = {COMPLIANCE: compliance_again, RISK: risk_again}
"""Of each gate, by its name."""


class UnknownOrderError(OctopusError):
    """No order, or more than one, has the name."""


@dataclass(frozen=True)
class OrderStories:
    """Stories of orders.

    Attributes:
        warehouse: in a role that reads every schema. source: whose market data is traded on.
        anchor: the audit log's checkpoints (`resources.warehouse.audit_log.AuditLog`).
    """

    warehouse: Warehouse
    source: str
    anchor: Path | None = None

    def find(self, name: str) -> str:
        """The intent id of the order called ``name``: its intent id, its client order id, or a prefix of one. The whole
        id of a planned order means it, though those of its slices begin with it.

        Raises:
            UnknownOrderError: there is none, or the prefix begins several.
        """
        if self.warehouse.rows("select from portfolio.rebalance_plan where intent_id = %s", [name]):
            return name
        rows = self.warehouse.rows(
            """
            select coalesce(i.intent_id, p.intent_id) as intent_id, i.client_order_id,
                   coalesce(i.intent_id, p.intent_id) = %(name)s or i.client_order_id = %(name)s as exact
            from portfolio.rebalance_plan p
            left join execution.order_intents i on coalesce(i.parent_id, i.exit_of, i.intent_id) = p.intent_id
            where (starts_with(coalesce(i.intent_id, p.intent_id), %(name)s)
                   or starts_with(i.client_order_id, %(name)s))
              -- What begins an entry's name begins its exits' too, and means the entry.
              and not (i.exit_of is not null and (starts_with(i.exit_of, %(name)s) or exists (
                  select from execution.order_intents e
                  where e.intent_id = i.exit_of and starts_with(e.client_order_id, %(name)s))))
            order by exact desc nulls last, intent_id limit 4
            """,
            {"name": name},
        ) if name else []  # fmt: skip
        if rows and (rows[0]["exact"] or len(rows) == 1):
            return str(rows[0]["intent_id"])
        if not rows:
            raise UnknownOrderError(f"no order is called {name!r}; `octopus audit orders` lists them")
        ids = ", ".join(str(row["client_order_id"] or row["intent_id"]) for row in rows[:3])
        raise UnknownOrderError(f"{name!r} begins several orders ({ids} …); give more of it")

    def story(self, name: str) -> dict[str, Any]:
        """Everything about the order, as plain JSON values under stable keys; amounts are text.

        Raises:
            UnknownOrderError: see `find`.
        """
        intent = self.find(name)
        order = self._order(intent)
        attempts = self._attempts(order)
        # An exit is judged as a part of its entry.
        judged = order["exit_of"] or intent
        children = self._children(intent)
        checks = [
            self._chain_check(), *self._research_checks(order["batch_id"]), *check_attempts(attempts, judged, REPLAYS),
        ]  # fmt: skip
        return {
            "format": FORMAT,
            "order": _plain(order),
            "answer": _answer(order, judged, attempts, children) | {"sound": all(check.ok for check in checks)},
            "children": _plain(children),
            "research": self._research(order["batch_id"], parent_of(judged) or judged),
            "attempts": [_shown(attempt, order) for attempt in attempts],
            "events": _plain(self._events(order["client_order_id"])),
            "fills": _plain(self._fills(order["client_order_id"])),
            "audit": self._audit_entries(order),
            "lineage": self._lineage(order),
            "checks": [asdict(check) for check in checks],
        }  # fmt: skip

    def recent(self, limit: int = 30) -> list[dict[str, Any]]:
        """The latest orders, newest session first."""
        return [
            _plain(row)
            for row in self.warehouse.rows(
                """
                select i.client_order_id, i.session, i.side, i.quantity, i.instrument, i.status, o.state
                from execution.order_intents i left join execution.orders o using (intent_id)
                order by i.session desc, i.instrument limit %s
                """,
                [limit],
            )
        ]

    # -- what allowed it ---------------------------------------------------------------------------------------------

    def _order(self, intent: str) -> dict[str, Any]:
        return self.warehouse.rows(
            """
            select coalesce(i.intent_id, p.intent_id) as intent_id, i.client_order_id, o.broker_order_id, p.batch_id,
                   b.account, b.session, p.instrument, coalesce(i.side, p.side) as side,
                   coalesce(i.quantity, p.quantity) as quantity, i.exit_of,
                   coalesce(i.reference_price, p.reference_price) as reference_price,
                   coalesce(i.order_type, p.order_type) as order_type,
                   coalesce(i.status, 'planned') as status,
                   o.state, o.filled_quantity, o.reason, b.decision_id, b.snapshot_id, b.not_before, b.expires_at,
                   b.superseded_by, b.created_at as planned_at, i.created_at as decided_at, o.submitted_at,
                   i.replaces, r.asked_by, r.reason as asked_because
            from portfolio.rebalance_plan p
            join portfolio.batches b using (batch_id)
            left join execution.order_intents i on i.intent_id = %(intent)s
            left join execution.orders o on o.intent_id = i.intent_id
            left join execution.replacements r on r.intent_id = i.intent_id
            where p.intent_id = coalesce(i.parent_id, i.exit_of, i.intent_id, %(intent)s)
            """,
            {"intent": intent},
        )[0]

    def _children(self, intent: str) -> list[dict[str, Any]]:
        """Slices of a planned order, and what replaced them or it, in the order of their ids."""
        return self.warehouse.rows(
            """
            select i.intent_id, i.client_order_id, i.quantity, i.status, o.state, o.filled_quantity, o.submitted_at
            from execution.order_intents i left join execution.orders o using (intent_id)
            where i.parent_id = %s order by i.intent_id
            """,
            [intent],
        )

    def _attempts(self, order: Mapping[str, Any]) -> list[Attempt]:
        batch = order["batch_id"]
        heads = self.warehouse.rows(
            "select a.*, s.taken_at, s.snapshot from execution.attempts a "
            "join execution.snapshots s using (batch_id, attempt) where batch_id = %s order by attempt",
            [batch],
        )
        verdicts = self.warehouse.rows(
            "select * from execution.verdicts where batch_id = %s order by attempt, seq", [batch]
        )
        evidence = self.warehouse.rows("select * from execution.evidence where batch_id = %s", [batch])
        contents = self.warehouse.rows(
            "select c.fingerprint, c.content from execution.evidence_contents c where c.fingerprint in "
            "(select unnest(e.contents) from execution.evidence e where e.batch_id = %s)",
            [batch],
        )
        sealed = self._seals(batch)
        sends = [e for e in self._events(order["client_order_id"]) if e["detail"].get("event") in ("send", "resend")]
        return [
            Attempt(
                number=head["attempt"],
                fence=head["fence"],
                taken_at=head["taken_at"],
                snapshot=head["snapshot"],
                verdicts=[_verdict(row) for row in verdicts if row["attempt"] == head["attempt"]],
                sealed=sealed.get(head["attempt"]),
                evidence={row["gate"]: row["record"] for row in evidence if row["attempt"] == head["attempt"]},
                contents={row["fingerprint"]: bytes(row["content"]) for row in contents},
                sends=[(e["fence"], e["at"]) for e in sends if e["detail"].get("attempt") == head["attempt"]],
            )
            for head in heads
        ]

    def _seals(self, batch: str) -> dict[int, tuple[int, str]]:
        rows = self.warehouse.rows(
            "select payload from audit.log where kind = 'batch.claimed' and subject = %s order by seq", [batch]
        )
        payloads = [json.loads(row["payload"]) for row in rows]
        return {
            payload["attempt"]: (payload["sealed"]["verdicts"], payload["sealed"]["fingerprint"])
            for payload in payloads
            if "sealed" in payload
        }

    def _research(self, batch: str, intent: str) -> dict[str, Any]:
        return {
            "risk": self._reported("risk.limit_report", batch, intent),
            "compliance": self._reported("compliance.pretrade_report", batch, intent),
            "approval": _plain(self._approval(batch)),
        }

    def _approval(self, batch: str) -> dict[str, Any] | None:
        rows = self.warehouse.rows("select * from compliance.approvals where batch_id = %s", [batch])
        return rows[0] if rows else None

    def _report_rows(self, table: str, batch: str) -> list[dict[str, Any]]:
        query = {
            "risk.limit_report": "select * from risk.limit_report where batch_id = %s order by seq",
            "compliance.pretrade_report": "select * from compliance.pretrade_report where batch_id = %s order by seq",
        }
        return self.warehouse.rows(query[table], [batch])

    def _reported(self, table: str, batch: str, intent: str) -> list[dict[str, Any]]:
        return [
            _plain({name: row[name] for name in ("rule", "intent_id", "outcome", "value", "limit_value", "reason")})
            for row in self._report_rows(table, batch)
            if row["intent_id"] in (None, intent)
        ]

    def _research_checks(self, batch: str) -> list[RecordCheck]:
        """The reports of research are the ones that the approval was given on."""
        approval = self._approval(batch)
        if approval is None:
            return [RecordCheck("approved", False, "research never approved the batch")]
        found = []
        for gate, table in (("risk", "risk.limit_report"), ("compliance", "compliance.pretrade_report")):
            rows = self._report_rows(table, batch)
            told = fingerprint([[row["rule"], row["intent_id"], row["outcome"], row["reason"]] for row in rows])
            ok = told == approval[f"{gate}_hash"]
            what = "are those" if ok else "are not those"
            found.append(
                RecordCheck("approved", ok, f"{len(rows)} verdicts in {table} {what} the batch was approved on")
            )
        return found

    def _chain_check(self) -> RecordCheck:
        """What the log sealed counts only in a log that is whole."""
        chain = verify(self.warehouse.url, self.anchor)
        if chain.problem is not None:
            return RecordCheck("log", False, f"the audit log is broken at entry {chain.problem.seq}")
        return RecordCheck(
            "log", True, f"the audit log is whole: {chain.entries} entries, {chain.covered} under signed checkpoints"
        )

    # -- what became of it -------------------------------------------------------------------------------------------

    def _events(self, client_order_id: str | None) -> list[dict[str, Any]]:
        return self.warehouse.rows(
            "select event_id, at, from_state, to_state, fence, detail from execution.order_events "
            "where client_order_id = %s order by event_id",
            [client_order_id],
        )

    def _fills(self, client_order_id: str | None) -> list[dict[str, Any]]:
        """As they were told, each with the broker's latest revision of it; quantity 0: it was taken back."""
        fills = self.warehouse.rows(
            "select fill_id, at, session, quantity, price, fees, rate from execution.fills "
            "where client_order_id = %s order by at, fill_id",
            [client_order_id],
        )
        revisions = self.warehouse.rows(
            "select fill_id, number, at, session, quantity, price, fees, reason "
            "from execution.fill_revisions where client_order_id = %s order by number",
            [client_order_id],
        )
        latest = {row["fill_id"]: row for row in revisions}
        return [fill | {"revision": latest.get(fill["fill_id"])} for fill in fills]

    def _audit_entries(self, order: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows = self.warehouse.rows(
            "select seq, at, kind, subject, payload, hash from audit.log where subject = any(%s) order by seq",
            [[name for name in (order["client_order_id"], order["batch_id"]) if name]],
        )
        return [_plain(row | {"payload": json.loads(row["payload"])}) for row in rows]

    # -- what it was decided from ------------------------------------------------------------------------------------

    def _lineage(self, order: Mapping[str, Any]) -> dict[str, Any]:
        decisions = self.warehouse.rows(
            "select * from portfolio.decisions where decision_id = %s", [order["decision_id"]]
        )
        if not decisions:
            return {"decision": None}
        decision, instrument = decisions[0], order["instrument"]
        session: date = decision["session"]
        known_by = self.warehouse.scalar(
            "select min(decision_utc) from ops.sessions where session = %s", [session]
        ) or decision["created_at"]  # fmt: skip
        return {
            "plan": {"batch_id": order["batch_id"], "snapshot_id": order["snapshot_id"]},
            "target": self._one(
                "select weight, alpha from portfolio.target_weights where decision_id = %s and instrument = %s",
                [decision["decision_id"], instrument],
            ),
            "decision": _plain(decision),
            "signals": self._pairs(
                "select signal as name, value from strategy.signals where session = %s and instrument = %s order by 1",
                [session, instrument],
            ),
            "features": self._pairs(
                "select feature as name, value from strategy.features where session = %s and instrument = %s "
                "order by 1",
                [session, instrument],
            ),
            "model": self._model(decision["model"], session, instrument, known_by, decision["created_at"]),
            "raw": self._raw(instrument, known_by, decision["created_at"]),
        }

    def _model(
        self, label: str | None, session: date, instrument: str, known_by: datetime, decided_at: datetime
    ) -> dict[str, Any] | None:
        """The version (``name:version``) or fold (``name:fold-k``) that spoke, down to its training set."""
        if label is None:
            return None
        name, _, version = label.rpartition(":")
        prediction = self._one(
            "select value from models.predictions where session = %s and instrument = %s and model = %s",
            [session, instrument, label],
        )
        found: dict[str, Any] = {"label": label, "name": name, "prediction": prediction and prediction["value"]}
        if version.startswith("fold-"):
            found["fold"] = self._one(
                "select * from models.walk_forward_folds where model = %s and fold = %s order by train_to desc limit 1",
                [name, int(version.removeprefix("fold-"))],
            )
            found["review"] = found["fold"] and self._one(
                "select * from models.reviews where model = %s and fingerprint = %s",
                [name, found["fold"]["fingerprint"]],
            )
        else:
            found["version"] = int(version)
            found["appointed"] = self._one(
                "select version, effective_from, recorded_at, appointed_by from models.champion_history "
                "where name = %s and alias = 'champion' and effective_from <= %s "
                "order by effective_from desc limit 1",
                [name, known_by],
            )
            # A registered name holds the reviewed models of every kind; versions are counted within it.
            found["review"] = self._one(
                "select * from models.reviews where version = %s order by as_of desc limit 1", [int(version)]
            )
        # A review names its training set by the last session of it.
        found["training_set"] = found["review"] and self._one(
            "select fingerprint, as_of, rows, first_session, last_session, horizon_sessions from models.training_sets "
            "where as_of = %s and created_at <= %s order by created_at desc limit 1",
            [found["review"]["as_of"], decided_at],
        )
        return found

    def _raw(self, instrument: str, known_by: datetime, decided_at: datetime) -> dict[str, Any]:
        """The raw rows of the instrument that the decision could see: known by its instant and stored by then."""
        scope = {"source": self.source, "instrument": instrument, "known": known_by, "stored": decided_at}
        bars = self.warehouse.rows(
            """
            select distinct on (session) session, open, high, low, close, volume, known_at, known_at_imputed,
                   ingested_at, batch_id
            from raw.bars
            where source = %(source)s and instrument = %(instrument)s and known_at <= %(known)s
              and ingested_at <= %(stored)s
            order by session, batch_id desc
            """,
            scope,
        )
        actions = self.warehouse.rows(
            """
            select distinct on (session, kind) session, kind, value, known_at, batch_id
            from raw.corporate_actions
            where source = %(source)s and instrument = %(instrument)s and known_at <= %(known)s
              and ingested_at <= %(stored)s
            order by session, kind, batch_id desc
            """,
            scope,
        )
        texts = self.warehouse.rows(
            """
            select source, item_kind, item_id, ts, model, score, known_at, batch_id from raw.sentiment_scores
            where instrument = %(instrument)s and known_at <= %(known)s and ingested_at <= %(stored)s
              and not hindsight and not synthetic
            order by ts desc, item_id limit %(limit)s
            """,
            scope | {"limit": _LAST_TEXTS},
        )
        used = sorted({row["batch_id"] for row in (*bars, *actions, *texts)})
        batches = self.warehouse.rows(
            "select batch_id, table_name, source, recorded_at, run_id, payload_hash from ops.batches "
            "where batch_id = any(%s) order by batch_id",
            [used],
        )
        span = [bars[0]["session"], bars[-1]["session"]] if bars else []
        return {
            "known_by": _plain(known_by), "source": self.source,
            "bars": {"rows": len(bars), "sessions": _plain(span), "latest": _plain(bars[-_LAST_BARS:])},
            "actions": {"rows": len(actions), "latest": _plain(actions[-_LAST_BARS:])},
            "texts": {"latest": _plain(texts)},
            "batches": _plain(batches),
        }  # fmt: skip

    def _one(self, query: Any, parameters: Sequence[object]) -> dict[str, Any] | None:
        rows = self.warehouse.rows(query, parameters)
        found: dict[str, Any] | None = _plain(rows[0]) if rows else None
        return found

    def _pairs(self, query: Any, parameters: Sequence[object]) -> dict[str, Any]:
        return {row["name"]: _plain(row["value"]) for row in self.warehouse.rows(query, parameters)}


def _verdict(row: Mapping[str, Any]) -> Verdict:
    return Verdict(
        row["gate"], row["rule"], row["intent_id"], Outcome(row["outcome"]), row["reason"], row["value"],
        row["limit_value"],
    )  # fmt: skip


def _shown(attempt: Attempt, order: Mapping[str, Any]) -> dict[str, Any]:
    """An attempt as far as it concerns the order."""
    snapshot, instrument = attempt.snapshot, order["instrument"]
    price = snapshot["prices"].get(instrument)
    own = (None, order["exit_of"] or order["intent_id"])
    return {
        "attempt": attempt.number,
        "fence": attempt.fence,
        "snapshot": {
            "taken_at": _plain(attempt.taken_at),
            "cash": plain(Decimal(snapshot["cash"])),
            "held": plain(Decimal(snapshot["positions"].get(instrument, "0"))),
            "price": None if price is None else plain(Decimal(price)),
            "open_orders": snapshot["open_orders"],
        },
        "verdicts": [_plain(verdict._asdict()) for verdict in attempt.verdicts if verdict.intent_id in own],
        "sends": [{"fence": fence, "at": _plain(at)} for fence, at in attempt.sends],
    }


def _answer(
    order: Mapping[str, Any], judged: str, attempts: Sequence[Attempt], children: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Whether the order was allowed and sent, and why. The last attempt that judged it decides: what was approved and
    not sent is judged again by the next. A planned order that is worked in slices was judged in them alone."""
    if order["status"] == "planned" and children:
        approved = [child for child in children if child["status"] == "approved"]
        because = f"{len(approved)} of its {len(children)} slices were approved; each is judged by itself"
        return {"allowed": bool(approved), "sent": any(child["submitted_at"] for child in children), "because": because}
    last = next((one for one in reversed(attempts) if any(v.intent_id == judged for v in one.verdicts)), None)
    return {
        "allowed": last is not None and is_allowed(last, judged),
        "sent": any(attempt.sends for attempt in attempts),
        "because": _because(judged, last) if last else "no attempt judged it" if attempts else
        "execution has not judged it",
    }  # fmt: skip


def _because(intent: str, attempt: Attempt) -> str:
    own = [verdict for verdict in attempt.verdicts if verdict.intent_id == intent]
    denial = next((verdict for verdict in own if verdict.outcome is Outcome.DENY), None)
    if denial is not None:
        return f"denied by {denial.gate} rule {denial.rule}: {denial.reason}"
    warnings = [verdict.rule for verdict in own if verdict.outcome is Outcome.WARN]
    warned = f", with warnings of {', '.join(warnings)}" if warnings else ""
    return f"none of its {len(own)} verdicts in attempt {attempt.number} denies it{warned}"


def _plain(value: Any) -> Any:
    """As JSON says it: amounts and numbers that are none as text, instants in UTC."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
