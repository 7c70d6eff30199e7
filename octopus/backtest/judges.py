"""Both of production's gates over a simulated account: of the plan after the close, and again before it is sent.

Belongs here: what the gates must know, taken from the panel and the account as of that moment, and who they deny. Does
not: their rules (octopus/risk, octopus/compliance), the account (events.py).

The stages are those of the daily run (assets/risk.py, assets/compliance.py, resources/gates.py): a denial of the plan
is final; before sending, compliance judges, then risk what compliance lets through, and `octopus.execution.approval`
joins all of it. An order that is worked over the session is judged as one, not child by child. The orders of a batch
are sent at one instant here, so what is left is not judged once more between two of them: the batch that was approved
as a whole, and within the part-filled limits, is the same batch then.

What only the wall clock or a venue could tell is what production tells the gates of a paper account that was never
halted: no signatures are asked for, trading was never resumed, and no tax lots are told, for what they are for
denies nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Literal

import numpy as np

from octopus.backtest import screen
from octopus.backtest.screen import Look, Sent
from octopus.compliance import gate as compliance_gate
from octopus.compliance.checks import ComplianceContext, RecentIntent
from octopus.compliance.market_checks import price_tests_next
from octopus.compliance.reference import Reference
from octopus.compliance.rules import CompliancePolicy
from octopus.core.errors import MissingDataError
from octopus.core.ids import batch_id, intent_id
from octopus.core.limit_orders import with_limits
from octopus.core.orders import (
    AccountSnapshot,
    Batch,
    GateReport,
    OrderType,
    Outcome,
    PlannedOrder,
    Side,
    TradingState,
)
from octopus.core.panel import ADV_SESSIONS, Panel, average_volume
from octopus.core.types import BoolArray, FloatArray
from octopus.execution.approval import decide
from octopus.execution.window import ExecutionWindow, execution_window
from octopus.portfolio.units import NO_UNITS, TradingUnits
from octopus.risk import gate as risk_gate
from octopus.risk.case import open_case
from octopus.risk.drawdown import SimulatedPeak
from octopus.risk.gate import Judged
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory, SentMessage
from octopus.risk.return_window import LOOK_BACK, few_holes
from octopus.risk.signatures import Authority

Stage = Literal["plan", "execution"]
_RECENT = timedelta(days=5)
"""How far back approved orders are remembered for the duplicate rule, as the daily run does."""
_TIMELY = frozenset({"stale_data", "equity", "snapshot_age", "repeated_execution", "message_rate"})
"""Rules of the risk gate that time alone may break, or mend."""
_PAPER = Authority(live=False, problem="a backtest's orders move no money")


@dataclass(frozen=True)
class Gating:
    """What the gates of a backtest are told.

    Attributes:
        limits, policy: config/risk.yaml and config/compliance.yaml, as they are today.
        sectors: by instrument, as the universe names them; not needed where no limit is on sectors.
        reference: halts, locates and shares outstanding of the user's own, each as it could be known then.
        account: a name. screened: whether a batch that surely passes is not judged rule by rule (screen.py).
    """

    limits: RiskLimits
    policy: CompliancePolicy
    sectors: Mapping[str, str] = field(default_factory=dict)
    reference: Reference = field(default_factory=Reference)
    account: str = "backtest"
    screened: bool = True


@dataclass(frozen=True)
class Denial:
    """An order that a gate did not let through, and the first rule that said so.

    Attributes:
        session: of the decision. stage: of the plan, or before sending in the session after.
        value, limit: in the unit of the rule's name; None where the rule has none.
    """

    session: date
    instrument: str
    stage: Stage
    gate: str
    rule: str
    reason: str
    value: float | None
    limit: float | None


@dataclass(frozen=True, eq=False)
class State:
    """The account when it is judged.

    Attributes:
        held: shares by instrument, none of zero. marks: last price of everything that ever had one.
        quotes: the broker's own marks, less what went ex since; by instrument, only where they differ.
        shares, last: the same as floats, shape (N,).
        peak, previous: highest NAV since the last reset (`octopus.risk.drawdown`) and the last one.
    """

    cash: Decimal
    held: Mapping[str, Decimal]
    marks: Mapping[str, Decimal]
    quotes: Mapping[str, Decimal]
    shares: FloatArray
    last: FloatArray
    peak: Decimal
    previous: Decimal


@dataclass(frozen=True, eq=False)
class Orders:
    """A batch, planned after the close of the session in ``row``: signed shares by instrument, and their prices."""

    row: int
    change: Mapping[str, Decimal]
    reference: Mapping[str, Decimal]

    @cached_property
    def sizes(self) -> FloatArray:
        """Signed shares as floats, in the order of ``change``, shape (orders,)."""
        return np.array([float(change) for change in self.change.values()])

    @cached_property
    def prices(self) -> FloatArray:
        """Reference prices likewise."""
        return np.array([float(self.reference[name]) for name in self.change])


@dataclass(frozen=True, eq=False)
class _Asked:
    """A batch before the gates, and what the screen is sure of.

    Attributes:
        look: None where nothing is screened. doubted: rules of the risk gate that may deny one.
        lawful: compliance surely approves all. clear: so do both gates.
    """

    orders: Orders
    state: State
    window: ExecutionWindow
    now: datetime
    look: Look | None = None
    doubted: frozenset[str] = frozenset()
    lawful: bool = False
    clear: bool = False


@dataclass(frozen=True, eq=False)
class _Planned:
    """A plan that was judged, and all of the account that it was judged by."""

    orders: Orders
    cash: Decimal
    held: Mapping[str, Decimal]
    marks: Mapping[str, Decimal]
    peak: Decimal
    previous: Decimal

    @classmethod
    def of(cls, orders: Orders, state: State) -> _Planned:
        return cls(orders, state.cash, dict(state.held), dict(state.marks), state.peak, state.previous)

    def is_of(self, orders: Orders, state: State) -> bool:
        """Whether it is the plan of ``orders``, and nothing happened to the account since."""
        then = self.cash, self.peak, self.previous, self.held, self.marks
        now = state.cash, state.peak, state.previous, state.held, state.marks
        return orders is self.orders and not state.quotes and then == now


@dataclass
class Judges:
    """The gates over one run.

    Attributes:
        from_open: whether orders that stand to the close are sent before the open, as those with exits are.
        limit_offset: of limit orders (`octopus.core.limit_orders`); None: orders have none. units: whose ticks they
            keep.
        denials: so far, in order of time.
    """

    gating: Gating
    panel: Panel
    order_type: OrderType
    from_open: bool = False
    limit_offset: Decimal | None = None
    units: TradingUnits = NO_UNITS
    denials: list[Denial] = field(default_factory=list)

    def __post_init__(self) -> None:
        panel = self.panel
        known = np.isfinite(panel.total_return)
        rows = np.where(np.isfinite(panel.close), np.arange(len(panel.sessions))[:, None], -1)
        self._last_bar = np.maximum.accumulate(rows, axis=0)
        self._returns = np.where(known, panel.total_return, 0.0)
        self._holes = np.vstack([np.zeros((1, known.shape[1]), dtype=np.int64), np.cumsum(~known, axis=0)])
        self._infinite = np.isinf(panel.total_return).any(axis=0)
        self._calendar = panel.clock
        self._closes = _closes(panel)
        self._close_seconds = np.array([close.timestamp() for close in self._closes])
        self._places = {name: place for place, name in enumerate(panel.symbols)}
        names = sorted({self.gating.sectors[name] for name in panel.symbols if name in self.gating.sectors})
        codes = {sector: code for code, sector in enumerate(names)}
        self._sectors = np.array([codes.get(self.gating.sectors.get(name, ""), -1) for name in panel.symbols])
        self._recent: list[tuple[datetime, Orders]] = []
        limits = self.gating.limits
        windows = (limits.messages_window_seconds, limits.repeated_executions_window_seconds)
        self._sent_within = timedelta(seconds=max(windows))
        self._research: dict[str, str] = {}
        self._planned: _Planned | None = None
        self._peak: SimulatedPeak | None = None

    def peak(self, equity: Decimal) -> Decimal:
        """The NAV that the drawdown stop measures from, after a close at ``equity``; asked at every close."""
        if self._peak is None:
            self._peak = SimulatedPeak(self.gating.limits, equity)
        return self._peak.close(equity)

    def plan(self, orders: Orders, state: State) -> frozenset[str]:
        """After the close: the instruments whose orders research's gates deny."""
        self._research = {}
        asked = self._asked(orders, state, self._calendar.decision_utc(self._session(orders)))
        self._planned = _Planned.of(orders, state) if self._lasts(asked) else None
        if asked.clear:
            return frozenset()
        batch, snapshot = self._batch(asked), self._snapshot(asked)
        reports = self._risk(batch, snapshot, asked), self._law(batch, snapshot, asked, sending=False)
        self._research = self._denied(batch, reports, "plan")
        return frozenset(self._research)

    def send(self, orders: Orders, state: State) -> frozenset[str]:
        """Before sending, with the account of that moment: the instruments whose orders are not sent."""
        if orders.change.keys() <= self._research.keys():
            # Nothing that research denied is ever approved: there is nothing to judge.
            return frozenset(orders.change)
        now = self._window(orders).not_before
        if self._planned is not None and self._planned.is_of(orders, state) and self._are_young(orders, state, now):
            self._remember(orders, frozenset(self._research), now)
            return frozenset(self._research)
        asked = self._asked(orders, state, now)
        if asked.clear and not self._research:
            self._remember(orders, frozenset(), asked.now)
            return frozenset()
        batch, snapshot = self._batch(asked), self._snapshot(asked)
        lawful = self._law(batch, snapshot, asked, sending=True)
        left = replace(batch, orders=tuple(o for o in batch.orders if o.intent_id in set(lawful.approved)))
        risk = self._risk(left, snapshot, asked)
        research = {o.intent_id: self._research[o.instrument] for o in batch.orders if o.instrument in self._research}
        made = decide(
            batch, snapshot, (lawful, risk), state=TradingState.ACTIVE, research_denials=research, frozen=(),
            # A split ends its orders in the simulator itself.
            changed={},
        )  # fmt: skip
        fresh = replace(batch, orders=tuple(o for o in batch.orders if o.intent_id not in research))
        self._denied(fresh, (lawful, risk), "execution")
        approved = set(made.approved)
        denied = frozenset(o.instrument for o in batch.orders if o.intent_id not in approved)
        self._remember(orders, denied, asked.now)
        return denied

    # -- inside ------------------------------------------------------------------------------------------------------

    def _session(self, orders: Orders) -> date:
        session: date = self.panel.sessions[orders.row].item()
        return session

    def _window(self, orders: Orders) -> ExecutionWindow:
        return execution_window(self._calendar, self._session(orders), self.order_type, from_open=self.from_open)

    def _asked(self, orders: Orders, state: State, now: datetime) -> _Asked:
        asked = _Asked(orders, state, self._window(orders), now)
        # The screen knows reference prices alone; a limit is another price to judge.
        if not self.gating.screened or self.limit_offset is not None:
            return asked
        look, limits = self._look(asked), self.gating.limits
        doubted = screen.in_doubt(look, limits) | screen.in_doubt_on_the_whole(look, limits)
        lawful = screen.is_lawful(look, self.gating.policy, self.panel.symbols)
        return replace(asked, look=look, doubted=doubted, lawful=lawful, clear=lawful and not doubted)

    def _risk(self, batch: Batch, snapshot: AccountSnapshot, asked: _Asked) -> GateReport:
        """The risk gate's report, of the rules in doubt alone where it is sure that the others deny nothing."""
        case = open_case(
            batch, snapshot, self._market(asked), self.gating.limits, TradingState.ACTIVE, _PAPER, asked.now
        )
        if asked.look is None or len(batch.orders) != len(asked.orders.change):
            return risk_gate.judge_by(frozenset(risk_gate.RULES), case).report
        rules = asked.doubted
        while True:
            judged = risk_gate.judge_by(rules, case)
            if not judged.alone and not judged.left_out:
                return judged.report
            # Orders are left out one after the other; the other rules must be sure of each set in between.
            sets = _sets(asked.orders, batch, judged)
            found = screen.in_doubt_on_the_whole(asked.look, self.gating.limits, sets)
            if found <= rules:
                return judged.report
            rules |= found

    def _lasts(self, asked: _Asked) -> bool:
        """Whether what the gates say of a plan is true until it is sent, if nothing happens to the account and its
        prices do not become too old: they find nothing that time alone changes."""
        return asked.look is not None and asked.lawful and not asked.doubted & _TIMELY

    def _are_young(self, orders: Orders, state: State, now: datetime) -> bool:
        """Whether all prices that count may still be used."""
        concerned = state.shares != 0.0
        concerned[[self._places[name] for name in orders.change]] = True
        age = now.timestamp() - self._close_seconds[self._last_bar[orders.row, concerned]]
        return bool((age <= self.gating.limits.price_age_max_seconds).all())

    def _law(self, batch: Batch, snapshot: AccountSnapshot, asked: _Asked, *, sending: bool) -> GateReport:
        if asked.lawful:
            return GateReport(compliance_gate.GATE, tuple(order.intent_id for order in batch.orders), ())
        return self._compliance(batch, snapshot, asked, sending=sending)

    def _look(self, asked: _Asked) -> Look:
        orders, state, window, now = asked.orders, asked.state, asked.window, asked.now
        row = orders.row
        first = max(row + 1 - self.gating.limits.var_window_sessions, 0)
        bars = self._last_bar[row]
        age = np.where(bars >= 0, now.timestamp() - self._close_seconds[bars], np.nan)
        quoted = state.last.copy()
        quoted[[self._places[name] for name in state.quotes]] = [float(quote) for quote in state.quotes.values()]
        values = np.where(state.shares != 0.0, state.shares * quoted, 0.0)
        equity = float(state.cash) + float(values.sum())
        return Look(
            columns=np.array([self._places[name] for name in orders.change], dtype=np.int64),
            change=orders.sizes,
            reference=orders.prices,
            held=state.shares, last=state.last, quoted=quoted, age=age, cash=float(state.cash),
            peak=max(float(state.peak), equity), previous=float(state.previous),
            window=self._returns[first : row + 1], whole=self._whole(first, row),
            sessions_per_year=self._calendar.per_year, sectors=self._sectors, authority=_PAPER,
            adv=self._adv(row), basis=self.panel.price_basis, trade_session=window.session,
            opens=self._calendar.open_utc(window.session), closes=self._calendar.close_utc(window.session),
            not_before=window.not_before, expires_at=window.expires_at, now=now,
            sent=tuple(Sent(at, len(one.change)) for at, one in self._recent),
        )  # fmt: skip

    def _whole(self, first: int, last: int) -> BoolArray:
        """Whether `octopus.risk.return_window.Window` of these sessions has surely no problem with each, shape (N,)."""
        holes, before = self._holes, max(first - LOOK_BACK, 0)
        begun = holes[first + 1] - holes[before] < first + 1 - before
        ended = holes[last + 1] == holes[last]
        few = few_holes(holes[last + 1] - holes[first], last + 1 - first)
        return np.asarray(begun & ended & few & ~self._infinite)

    def _adv(self, row: int) -> FloatArray:
        recent = slice(max(row + 1 - ADV_SESSIONS, 0), row + 1)
        return average_volume(self.panel.volume[recent], self.panel.split[recent])

    def _batch(self, asked: _Asked) -> Batch:
        orders, window = asked.orders, asked.window
        session = self._session(orders)
        name = batch_id(self.gating.account, session, "simulated")
        planned = [
            PlannedOrder(
                intent_id(name, instrument), instrument, _side(change), abs(change),
                orders.reference[instrument], self.order_type,
            )
            for instrument, change in orders.change.items()
        ]  # fmt: skip
        ordered = tuple(sorted(planned, key=lambda order: (order.side is Side.BUY, order.instrument)))
        if self.limit_offset is not None:
            ordered = self.units.with_ticks(with_limits(ordered, self.limit_offset))
        return Batch(name, self.gating.account, session, window.not_before, window.expires_at, ordered)

    def _snapshot(self, asked: _Asked) -> AccountSnapshot:
        orders, state, now = asked.orders, asked.state, asked.now
        names = {*state.held, *orders.change}
        prices = {name: state.quotes.get(name, state.marks[name]) for name in sorted(names)}
        return AccountSnapshot(self.gating.account, now, state.cash, dict(state.held), prices)

    def _market(self, asked: _Asked) -> MarketContext:
        orders, state, now = asked.orders, asked.state, asked.now
        row, panel = orders.row, self.panel
        names = sorted({*state.held, *orders.change})
        adv = self._adv(row)
        volumes = {name: float(adv[self._places[name]]) for name in names}
        first = max(row + 1 - self.gating.limits.var_window_sessions - LOOK_BACK, 0)
        return MarketContext(
            last_prices={
                name: LastPrice(state.marks[name], self._closes[int(self._last_bar[row, self._places[name]])])
                for name in names
            },
            history=ReturnHistory(
                panel.sessions[first : row + 1], panel.symbols, panel.total_return[first : row + 1],
                self._calendar.per_year,
            ),
            price_basis=panel.price_basis,
            nav_peak=max(state.peak, self._snapshot(asked).equity),
            nav_previous=state.previous,
            adv_shares={name: Decimal(str(round(value, 2))) for name, value in volumes.items() if np.isfinite(value)},
            sectors=self.gating.sectors,
            sent=tuple(
                SentMessage(at, name, _side(change))
                for at, one in self._recent
                if at > now - self._sent_within
                for name, change in one.change.items()
            ),
        )  # fmt: skip

    def _compliance(self, batch: Batch, snapshot: AccountSnapshot, asked: _Asked, *, sending: bool) -> GateReport:
        window, now = asked.window, asked.now
        context = ComplianceContext(
            trade_session=window.session,
            session_open=self._calendar.open_utc(window.session),
            session_close=self._calendar.close_utc(window.session),
            short_allowed=self.gating.policy.account.short,
            recent_intents=self._intents(now),
            price_basis=self.panel.price_basis,
            sending=sending,
            # An instrument has one order at most in a session, and all of its children are on one side: no day trade is
            # ever made but by an entry's exit, which is not counted here (docs/backtests.md).
            day_trades=0 if self.gating.policy.account.margin else None,
            opened_today={} if self.gating.policy.account.margin else None,
            locates=self.gating.reference.located(window.session),
            price_tests=self._price_tests(asked.orders.row),
            halted=self.gating.reference.halted(now),
            shares_outstanding=self.gating.reference.issued(window.session),
        )
        return compliance_gate.judge(batch, snapshot, context, self.gating.policy, now)

    def _price_tests(self, row: int) -> dict[str, bool] | None:
        if not self.gating.policy.account.short:
            return None
        panel, days = self.panel, slice(max(row - 1, 0), row + 1)
        return price_tests_next(panel.symbols, panel.close[days], panel.low[days], panel.split[days])

    def _intents(self, now: datetime) -> list[RecentIntent]:
        return [
            RecentIntent(
                f"{self._session(orders)}-{name}", name, _side(change), abs(change), at
            )
            for at, orders in self._recent
            if at > now - _RECENT
            for name, change in orders.change.items()
        ]  # fmt: skip

    def _remember(self, orders: Orders, denied: frozenset[str], now: datetime) -> None:
        sent = {name: change for name, change in orders.change.items() if name not in denied}
        kept = max(_RECENT, self._sent_within)
        self._recent = [(at, one) for at, one in self._recent if at > now - kept]
        if sent:
            self._recent.append((now, Orders(orders.row, sent, orders.reference)))

    def _denied(self, batch: Batch, reports: tuple[GateReport, ...], stage: Stage) -> dict[str, str]:
        """Instruments of the batch with a denial, each on record with its first one, and its reason."""
        found: dict[str, str] = {}
        names = {order.intent_id: order.instrument for order in batch.orders}
        for verdict in (verdict for report in reports for verdict in report.verdicts):
            name = names.get(verdict.intent_id or "")
            if verdict.outcome is Outcome.DENY and name is not None and name not in found:
                found[name] = verdict.reason
                self.denials.append(
                    Denial(
                        batch.session, name, stage, verdict.gate, verdict.rule, verdict.reason, verdict.value,
                        verdict.limit,
                    )
                )  # fmt: skip
        return found


def _sets(orders: Orders, batch: Batch, judged: Judged) -> BoolArray:
    """The orders that the rules on single orders leave, then without each that is left out besides, one after the
    other: shape (sets, orders), orders as in ``orders``."""
    names = {order.intent_id: order.instrument for order in batch.orders}
    places = {name: place for place, name in enumerate(orders.change)}
    kept = np.ones((1 + len(judged.left_out), len(places)), dtype=bool)
    kept[:, [places[names[intent]] for intent in judged.alone]] = False
    for at, intent in enumerate(judged.left_out, 1):
        kept[at:, places[names[intent]]] = False
    return kept


def _side(change: Decimal) -> Side:
    return Side.BUY if change > 0 else Side.SELL


def _closes(panel: Panel) -> list[datetime]:
    """When each session of the panel closes, UTC."""
    days = panel.sessions
    strange = days[~np.isin(days, panel.clock.between(days[0].item(), days[-1].item()))]
    if len(strange):
        raise MissingDataError(
            f"panel.sessions has {strange[0]}, which is no session of {panel.exchange}: the gates ask for its hours; "
            "name the panel's own calendar in panel.exchange"
        )
    return list(panel.clock.closes_utc(days).to_pydatetime())
