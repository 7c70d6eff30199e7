"""What compliance looks at after the trade: the session's orders and fills, findings on them, the day's reports.

Belongs here: reading those records and storing findings and reports. Does not: the patterns
(octopus/compliance/surveillance.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from octopus.compliance.catalogue import lower_bounds
from octopus.compliance.gate import GATE as COMPLIANCE
from octopus.compliance.rules import CompliancePolicy
from octopus.compliance.surveillance import MarketDay, SentOrder, Suspicion
from octopus.core.ids import canonical_json
from octopus.core.orders import Fill, Side
from octopus.core.sessions import Sessions
from octopus.execution.book import EntryKind
from octopus.risk.case import GATE as RISK
from octopus.risk.limits import LOWER_BOUNDS
from resources.warehouse.prices import WarehousePrices
from resources.warehouse.store import Warehouse

_DAY = timedelta(days=1)
"""What belongs to a session happened after the close before it, and less than this after its own."""


@dataclass(frozen=True)
class Sent:
    """What left in a session, what it did, and what the market did; ``market`` lacks what cannot be known."""

    orders: tuple[SentOrder, ...]
    fills: tuple[Fill, ...]
    market: Mapping[str, MarketDay]


def sent(warehouse: Warehouse, sessions: Sessions, source: str, account: str, session: date) -> Sent:
    """Orders of the account that were sent, cancelled or filled in ``session``, by `Sessions.trade_date`.

    So each fill is of one session, and also where one opens at the close of another.
    """
    window = [sessions.close_utc(sessions.previous(session)), sessions.close_utc(session) + _DAY]

    def within(at: datetime | None) -> bool:
        return at is not None and sessions.trade_date(at) == session

    fills = warehouse.rows(
        "select * from execution.fills where account = %s and at between %s and %s order by at, fill_id",
        [account, *window],
    )
    fills = [row for row in fills if within(row["at"])]
    filled = {row["client_order_id"] for row in fills}
    orders = warehouse.rows(
        """
        select o.client_order_id, i.instrument, i.side, i.quantity, i.order_type, o.submitted_at, c.cancelled_at
        from execution.orders o
        join execution.order_intents i using (intent_id)
        left join lateral (
            select min(e.at) as cancelled_at from execution.order_events e
            where e.client_order_id = o.client_order_id and e.to_state in ('cancelled', 'replaced')
        ) c on true
        where o.account = %(account)s and o.submitted_at is not null
          -- An exit that the venue ended was no order that somebody took back.
          and (i.exit_of is null or o.filled_quantity > 0)
          and (o.submitted_at between %(start)s and %(end)s or c.cancelled_at between %(start)s and %(end)s
               or o.client_order_id = any(%(filled)s))
        """,
        {
            "account": account, "start": window[0], "end": window[1],
            "filled": sorted(filled),
        },
    )  # fmt: skip
    orders = [
        row for row in orders
        if row["client_order_id"] in filled or within(row["submitted_at"]) or within(row["cancelled_at"])
    ]  # fmt: skip
    names = sorted({row["instrument"] for row in fills})
    return Sent(
        tuple(
            SentOrder(
                row["client_order_id"], row["instrument"], Side(row["side"]), row["quantity"], row["order_type"],
                row["submitted_at"], row["cancelled_at"],
            )
            for row in orders
        ),
        tuple(
            Fill(
                row["fill_id"], row["client_order_id"], row["instrument"], Side(row["side"]), row["quantity"],
                row["price"], row["fees"], row["at"],
            )
            for row in fills
        ),
        _market(warehouse, sessions, source, names, session),
    )  # fmt: skip


def _market(
    warehouse: Warehouse, sessions: Sessions, source: str, names: Sequence[str], session: date
) -> dict[str, MarketDay]:
    """Raw prices and volumes alone: of a total-return index and its pseudo-shares nothing can be told.

    The close before is in shares of the session: a split is no move.
    """
    rows = warehouse.rows(
        """
        select distinct on (b.instrument, b.session) b.instrument, b.session, b.close, b.volume
        from raw.bars b
        where b.source = %(source)s and b.instrument = any(%(names)s) and b.session in (%(before)s, %(session)s)
          and (select i.price_basis from raw.instruments i
               where i.source = b.source and i.instrument = b.instrument order by i.batch_id desc limit 1) = 'raw'
        order by b.instrument, b.session, b.batch_id desc
        """,
        {"source": source, "names": list(names), "before": sessions.previous(session), "session": session},
    )
    bars = {(row["instrument"], row["session"]): row for row in rows}
    split = _splits(warehouse, sessions, source, names, session) if bars else {}
    found = {}
    for name in names:
        before, day = bars.get((name, sessions.previous(session))), bars.get((name, session))
        if before and day and before["close"] > 0 and day["volume"]:
            price_before = before["close"] / split.get(name, 1.0)
            found[name] = MarketDay(sessions.close_utc(session), day["volume"], price_before, day["close"])
    return found


def _splits(
    warehouse: Warehouse, sessions: Sessions, source: str, names: Sequence[str], session: date
) -> dict[str, float]:
    """By instrument that was split since the close before ``session``: shares of the session for one of before."""
    after, until = sessions.close_utc(sessions.previous(session)), sessions.close_utc(session)
    ratios: dict[str, float] = {}
    for action in WarehousePrices(warehouse, source, sessions).exchanges(names, after, until):
        if action.kind is EntryKind.SPLIT:
            ratios[action.instrument] = ratios.get(action.instrument, 1.0) * float(action.value)
    return ratios


def finding_rows(found: Sequence[Suspicion]) -> pl.DataFrame:
    """Findings as rows of compliance.surveillance, without account and session."""
    return pl.DataFrame(
        {
            "finding_id": [item.finding_id for item in found],
            "pattern": [item.pattern.value for item in found],
            "instrument": [item.instrument for item in found],
            "orders": [canonical_json(item.orders) for item in found],
            "first_at": [item.first_at for item in found],
            "last_at": [item.last_at for item in found],
            "value": [item.value for item in found],
            "limit_value": [item.limit for item in found],
            "message": [item.message for item in found],
        },
        schema={
            "finding_id": pl.String, "pattern": pl.String, "instrument": pl.String, "orders": pl.String,
            "first_at": pl.Datetime("us", "UTC"), "last_at": pl.Datetime("us", "UTC"), "value": pl.Float64,
            "limit_value": pl.Float64, "message": pl.String,
        },
    )  # fmt: skip


def save_findings(warehouse: Warehouse, account: str, session: date, found: Sequence[Suspicion]) -> bool:
    """Store what was found in a session; False when the same is stored already."""
    frame = finding_rows(found).with_columns(account=pl.lit(account), session=pl.lit(session))
    return warehouse.replace("compliance.surveillance", {"account": account, "session": session}, frame)


def reports(
    warehouse: Warehouse, sessions: Sessions, source: str, account: str, decided: date, executed: date,
    policy: CompliancePolicy,
) -> dict[str, pl.DataFrame]:  # fmt: skip
    """The day's reports: of the batch decided in session ``decided`` and executed, or refused, in ``executed``.

    Exceptions are also what was found before the batch, halts since it was decided, and one that still stood then.
    """
    floors = [f"{RISK}.{rule}" for rule in LOWER_BOUNDS] + [f"{COMPLIANCE}.{rule}" for rule in lower_bounds(policy)]
    day = [sessions.decision_utc(session) for session in (decided, executed)]
    return {
        "blotter": warehouse.read(_BLOTTER, [account, decided]),
        "limits": warehouse.read(_LIMITS, [account, decided, ",".join(sorted(floors))]),
        "exceptions": warehouse.read(_EXCEPTIONS, [account, decided, executed, *day]),
        "lot_identifications": warehouse.read(_LOTS, [account, executed]),
        "best_execution": warehouse.read(_BEST_EXECUTION, [account, decided, executed, source]),
    }


def save_reports(warehouse: Warehouse, account: str, session: date, made: Mapping[str, pl.DataFrame]) -> bool:
    """Store the reports of a session; False when the same are stored already."""
    frame = pl.DataFrame(
        {
            "account": [account] * len(made),
            "session": [session] * len(made),
            "report": list(made),
            "rows": [canonical_json(_records(rows)) for rows in made.values()],
        }
    )
    return warehouse.replace("compliance.daily_reports", {"account": account, "session": session}, frame)


def _records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.with_columns(pl.selectors.float().fill_nan(None)).to_dicts()


_BLOTTER = """
    select i.client_order_id as order_id, i.side, i.instrument, i.quantity::float8 as ordered, i.order_type, i.status,
           o.state, coalesce(o.filled_quantity, 0)::float8 as filled,
           (f.value / nullif(f.quantity, 0))::float8 as price, coalesce(f.fees, 0)::float8 as fees,
           (select sum(quantity * rate) / nullif(sum(quantity), 0) from execution.fills
            where client_order_id = i.client_order_id)::float8 as rate,
           to_char(o.submitted_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as sent_utc, o.broker_order_id
    from execution.order_intents i
    left join execution.orders o using (intent_id)
    left join lateral (
        select sum(quantity) as quantity, sum(quantity * price) as value, sum(fees) as fees
        from execution.current_fills where client_order_id = i.client_order_id
    ) f on true
    where i.account = $1 and i.session = $2
    order by i.instrument
"""

# Of each rule the verdict that is nearest to its limit, of the last attempt: of a ceiling the highest value, of a floor
# ($3, as gate.rule) the lowest. "used" is the value's part of a ceiling, and of a floor the floor's part of the value;
# a limit of zero or less, and a value below such a floor, have none.
_LIMITS = """
    with last as (
        select batch_id, max(attempt) as attempt from execution.attempts
        where batch_id in (select batch_id from portfolio.batches where account = $1 and session = $2)
        group by batch_id
    ),
    told as (
        select v.*, v.gate || '.' || v.rule = any(string_to_array($3, ',')) as is_floor
        from execution.verdicts v join last using (batch_id, attempt)
    ),
    weighed as (
        select *, case when limit_value <= 0 then null
                       when is_floor then limit_value / nullif(greatest(value, 0), 0)
                       else value / limit_value end as used
        from told
    ),
    nearest as (
        select distinct on (gate, rule) gate, rule, is_floor, value, limit_value, used from weighed
        order by gate, rule, value is null, is_floor and value <= 0 desc, used desc nulls last,
                 value * (case when is_floor then -1 else 1 end) desc, limit_value
    )
    select n.gate, n.rule, count(*) as verdicts, count(*) filter (where t.outcome = 'deny') as denied,
           count(*) filter (where t.outcome = 'warn') as warned, n.value as nearest, n.limit_value,
           case when n.is_floor then 'at least' else 'at most' end as bound, n.used
    from nearest n join told t using (gate, rule)
    group by n.gate, n.rule, n.value, n.limit_value, n.is_floor, n.used
    order by denied desc, used desc nulls last, gate, rule
"""

# A session is the current one from its decision to the next one's, by the trading clock.
_EXCEPTIONS = """
    with batches as (select batch_id from portfolio.batches where account = $1 and session = $2),
    turns as (
        select l.seq, l.kind, l.subject, h.detail ->> 'reason' as reason, h.detail ->> 'by' as by,
               (h.detail ->> 'trading_time')::timestamptz as at
        from audit.log l cross join lateral (select l.payload::jsonb as detail) h
        where l.subject = $1 and l.kind in ('trading.halted', 'trading.reducing', 'trading.active')
    )
    select * from (
        select 'verdict' as kind, v.outcome as what, coalesce(v.intent_id, v.batch_id) as subject,
               v.gate || ' ' || v.rule || ': ' || v.reason as detail
        from execution.verdicts v join batches using (batch_id) where v.outcome in ('deny', 'warn')
        union
        select 'order', o.state, o.client_order_id, coalesce(o.reason, '')
        from execution.orders o join execution.order_intents i using (intent_id) join batches using (batch_id)
        where o.state in ('rejected', 'unknown', 'expired', 'cancelled')
        union
        select 'reconciliation', r.kind, coalesce(r.instrument, 'cash'),
               case when r.session = $2 then 'before the batch: ' else '' end || r.detail
        from execution.reconciliation r where r.account = $1 and r.session in ($2, $3) and r.seq > 0
        union
        select 'refusal', 'refused', l.subject, l.payload::jsonb ->> 'reason'
        from audit.log l join batches b on b.batch_id = l.subject where l.kind = 'batch.refused'
        union
        select 'halt', substr(t.kind, 9), t.subject, t.reason || ' (by ' || t.by || ')'
        from turns t where t.kind <> 'trading.active' and t.at >= $4 and t.at < $5
        union
        select 'halt', substr(t.kind, 9), t.subject, 'still in force: ' || t.reason || ' (by ' || t.by || ')'
        from (select * from turns where at < $4 order by seq desc limit 1) t where t.kind <> 'trading.active'
        union
        select 'surveillance', s.pattern, s.instrument, s.message
        from compliance.surveillance s where s.account = $1 and s.session = $3
    ) e order by kind, what, subject, detail
"""

# A word that took the place of another stands beside it.
_LOTS = """
    select l.fill_id as sale, f.instrument, l.number, l.lot_id, l.quantity::float8 as quantity, l.identified_by as by,
           l.reason, to_char(l.identified_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as identified_utc
    from execution.lot_identifications l
    left join execution.current_fills f on f.account = l.account and f.fill_id = l.fill_id
    where l.account = $1 and l.session = $2 order by l.fill_id, l.number, l.lot_id
"""

# Benchmarks: the price at decision (implementation shortfall, account currency) and the session's close, compared as
# printed, in the instrument's currency. Positive is worse for us.
_BEST_EXECUTION = """
    with bars as (
        select distinct on (instrument) instrument, close from raw.bars
        where source = $4 and session = $3 order by instrument, batch_id desc
    ),
    done as (
        select i.side, i.instrument, i.reference_price::float8 as decided_at, sum(f.quantity)::float8 as quantity,
               (sum(f.quantity * f.price) / sum(f.quantity))::float8 as price, sum(f.fees)::float8 as fees,
               (sum(f.quantity * f.price / k.rate) / sum(f.quantity))::float8 as printed,
               10000.0 * case i.side when 'buy' then 1 else -1 end as worse_bps
        from execution.order_intents i
        join execution.current_fills f using (client_order_id)
        join execution.fills k on k.account = f.account and k.fill_id = f.fill_id
        where i.account = $1 and i.session = $2
        group by i.intent_id
    )
    select d.side, d.instrument, d.quantity, d.price, d.decided_at, d.worse_bps * (d.price / d.decided_at - 1) as
           shortfall_bps, d.worse_bps * (d.printed / b.close - 1) as against_close_bps,
           10000.0 * d.fees / (d.quantity * d.price) as fees_bps
    from done d left join bars b using (instrument)
    order by d.instrument
"""
