"""Both gates with the data they need, for research's plan and again at execution: one code, one set of rules.

Belongs here: gathering what the gates must know. Does not: their rules (octopus/risk, octopus/compliance).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from threading import Lock
from typing import Any, LiteralString

import numpy as np

from octopus.compliance import day_trades
from octopus.compliance import gate as compliance_gate
from octopus.compliance.catalogue import lasts
from octopus.compliance.checks import ComplianceContext, RecentIntent
from octopus.compliance.market_checks import price_tests_next
from octopus.compliance.names import halted_as, issued_as, located_as, other_names
from octopus.compliance.reference import Reference
from octopus.compliance.rules import CompliancePolicy, MessageRate, PatternDayTrader, RestrictedList, WatchList
from octopus.compliance.wash_sales import WINDOW
from octopus.core.errors import MissingDataError
from octopus.core.orders import AccountSnapshot, Batch, GateReport, OrderType, Outcome, Side, TradingState
from octopus.core.panel import ADV_SESSIONS, PriceBasis, average_volume
from octopus.execution.book import EntryKind
from octopus.execution.lots import LotBook, LotSelectionError, UnknownRatioError
from octopus.execution.standing import Standing
from octopus.execution.states import WORKING
from octopus.execution.window import execution_window
from octopus.risk import gate as risk_gate
from octopus.risk.book import open_book
from octopus.risk.case import GATE as RISK
from octopus.risk.drawdown import Flows, Nav, references
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory, SentMessage
from octopus.risk.signatures import Authority
from resources.limit_signatures import limits_authority
from resources.nav_history import NavHistory
from resources.reference_files import read_reference
from resources.settings import Settings
from resources.trading_state import trading_status
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.execution_reports import ExecutionReports
from resources.warehouse.order_store import OrderStore
from resources.warehouse.price_window import PriceWindow, read_window_in_base
from resources.warehouse.prices import PRICE_STEP, decimal_price, recorded_prices
from resources.warehouse.store import Warehouse

_HISTORY_MARGIN = 30
"""Sessions read beyond the VaR window: the window's first return is from the last bar before it."""
_RECENT = timedelta(days=5)
"""How far back intents are read for the duplicate rule, over a long weekend."""
_MESSAGES: LiteralString = """
    select e.at, i.batch_id, i.instrument, i.side, e.detail ->> 'event' as event,
        e.detail ->> 'event' = 'send' and i.exit_of is null as is_first
    from execution.order_events e join execution.order_intents i using (client_order_id)
    where i.account = %(account)s and e.at > %(since)s and e.at <= %(now)s and (
        e.detail ->> 'event' in ('send', 'resend') and (i.exit_of is null or e.detail ? 'exits_are_messages')
        or e.detail ->> 'event' = 'ask_cancel' and not e.detail ? 'with'
    )
"""
"""Every message to the broker that an event records. Exits share the message of their entry, but where the venue takes
each in one of its own; what an entry's cancellation does to them (``with``) is the same one. A replacement is a send.
``is_first``: the first send of an intent of the batch's."""
_SINCE_JUDGED: LiteralString = f"""
    with messages as ({_MESSAGES})
    select count(*) filter (where at > %(window)s) as sent,
        count(*) filter (where not is_first and at > %(judged)s) as others
    from messages
"""  # noqa: S608  # constants
_EXITS_AHEAD: LiteralString = """
    select count(*) from (
        select i.exit_of from execution.order_intents i join execution.orders o using (intent_id)
        where i.account = %s and i.exit_of is not null group by i.exit_of
        having bool_or(o.state = any(%s)) and max(o.filled_quantity) = 0
    ) as entries
"""
_SAME_MARKET = timedelta(minutes=1)
"""Daily prices that were read this recently still count as the prices of now."""


@dataclass(frozen=True)
class _Read:
    """A window that was read, and when: of ``names``, while ``batch`` was the last that was stored."""

    batch: int
    at: datetime
    names: frozenset[str]
    window: PriceWindow | None


@dataclass(frozen=True)
class _Facts:
    """What an approval rests on besides the account and the prices of the last minute."""

    batch: int
    nav: tuple[tuple[Nav, ...], Flows] | None
    authority: Authority
    halted: frozenset[str] | None
    locates: Mapping[str, Decimal] | None
    issued: Mapping[str, Decimal] | None


@dataclass(frozen=True)
class Gates:
    """The risk gate and the compliance gate over the warehouse.

    Attributes:
        warehouse: in any role that may read raw, marts and execution.
    """

    settings: Settings
    warehouse: Warehouse
    _read: list[_Read] = field(default_factory=list, repr=False, compare=False)
    _one_reads: Lock = field(default_factory=Lock, repr=False, compare=False)
    _standing: list[tuple[_Facts, Standing]] = field(default_factory=list, repr=False, compare=False)
    _books: list[tuple[str, datetime, LotBook | None]] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set_aside_what_is_loaded()

    def judge_at_execution(
        self, batch: Batch, snapshot: AccountSnapshot, now: datetime, state: TradingState
    ) -> tuple[GateReport, ...]:
        """Both reports at the moment of sending, with that moment's account and prices.

        Risk judges what compliance lets through: a sale that compliance denies must not make room for a purchase. What
        is left of a batch that was approved as a whole is not judged anew before each send
        (`octopus.execution.standing`).

        Args:
            state: of the kill switch; who sends reads it, and sends under no other one.
        """
        with self._one_connection() as gates:
            stored, facts = gates._stored(), None
            # What stands was approved while trading was active.
            if state is TradingState.ACTIVE and self._standing:
                facts = gates._facts(stored, batch, snapshot, now)
                for known, standing in self._standing:
                    reports = standing.after_sending(batch, snapshot, now)
                    if reports and known == facts and gates._fit_the_message_rate(batch, now, standing.since):
                        return reports
            # The server reads prices while what seldom needs them is done here. What was stored last was asked before:
            # of what is stored meanwhile nobody says that it was seen.
            with ThreadPoolExecutor(max_workers=1) as beside:
                reading = beside.submit(gates.window, gates._priced(batch, snapshot), now)
                facts = facts or gates._facts(stored, batch, snapshot, now)
                compliance = gates.compliance(batch, snapshot, now, sending=True)
                reading.result()
            approved = set(compliance.approved)
            left = replace(batch, orders=tuple(order for order in batch.orders if order.intent_id in approved))
            market = gates.market(left, snapshot, now)
            risk = risk_gate.judge(left, snapshot, market, self.settings.risk, state, facts.authority, now)
            reports = (compliance, risk)
            self._standing.clear()
            if state is TradingState.ACTIVE and stands(batch, reports, self.settings.compliance):
                until = self._until(batch, snapshot, market, now)
                self._standing.append((facts, Standing(batch, snapshot, reports, now, until)))
            return reports

    def risk(self, batch: Batch, snapshot: AccountSnapshot, now: datetime) -> GateReport:
        """The risk gate's verdicts on a plan."""
        market, status = self.market(batch, snapshot, now), trading_status(self.settings, batch.account)
        authority = limits_authority(self.settings, now)
        return risk_gate.judge_plan(
            batch, snapshot, market, self.settings.risk, status.state, status.reason, authority, now
        )

    def compliance(self, batch: Batch, snapshot: AccountSnapshot, now: datetime, *, sending: bool) -> GateReport:
        """The compliance gate's verdicts."""
        context = self.compliance_context(batch, snapshot, now, sending=sending)
        return compliance_gate.judge(batch, snapshot, context, self.settings.compliance, now)

    def market(self, batch: Batch, snapshot: AccountSnapshot, now: datetime) -> MarketContext:
        """Prices, returns and NAV as known now; what is not known stays out, and its rule then refuses."""
        names = _concerned(batch, snapshot)
        with self._one_connection() as gates:
            window = gates.window(gates._priced(batch, snapshot), now)
            closes = {} if window is None else gates._last_prices(window, names)
            ratios = gates._splits_since(closes, now)
            context = MarketContext(
                last_prices={name: _carried(last, ratios.get(name)) for name, last in closes.items()},
                history=None if window is None else gates._history(window),
                price_basis=None if window is None else window.price_basis,
                nav_peak=None,
                nav_previous=None,
                adv_shares={} if window is None else _average_volumes(window, names, ratios),
                sectors=self.settings.universe.sectors,
                sent=gates._sent(batch.account, now),
                resumed_at=gates._resumed_at(batch.account),
            )
            highest, previous = gates._references(batch, snapshot, context, now)
            return replace(context, nav_peak=highest, nav_previous=previous)

    def compliance_context(
        self, batch: Batch, snapshot: AccountSnapshot, now: datetime, *, sending: bool
    ) -> ComplianceContext:
        """Session instants, the account's permissions and its recent intents; lists and files of the user's own are
        read as of the instruments that are ordered, whatever name they stand there by."""
        session = execution_window(self.settings.sessions, batch.session, _order_type(batch)).session
        traded, opened_today = self._day_trades(batch.account, session)
        reference = self._reference()
        names = _concerned(batch, snapshot)
        others = other_names(names, self._moved(reference, now))
        book = self._lots(batch.account, now)
        return ComplianceContext(
            trade_session=session,
            session_open=self.settings.sessions.open_utc(session),
            session_close=self.settings.sessions.close_utc(session),
            short_allowed=self.settings.compliance.account.short,
            recent_intents=self._recent_intents(batch, now),
            price_basis=self._price_basis(),
            sending=sending,
            day_trades=traded,
            opened_today=opened_today,
            exits_ahead=self._exits_ahead(batch.account),
            locates=located_as(reference.located(session), others),
            price_tests=self._price_tests(names, now),
            halted=halted_as(reference.halted(now), others),
            # What no order concerns is not recorded with every claim.
            lots=None if book is None else tuple(lot for lot in book.lots if lot.known_as in names),
            disposals=None
            if book is None
            else tuple(one for one in book.disposals if one.known_as in names and session - one.disposed <= WINDOW),
            shares_outstanding=issued_as(reference.issued(session), others),
            other_messages=self._other_messages(batch, now),
            other_names=others,
        )

    # -- approvals that stand ----------------------------------------------------------------------------------------

    def _facts(self, stored: int, batch: Batch, snapshot: AccountSnapshot, now: datetime) -> _Facts:
        session = execution_window(self.settings.sessions, batch.session, _order_type(batch)).session
        reference = self._reference()
        return _Facts(
            stored, self._navs(batch, snapshot), limits_authority(self.settings, now), reference.halted(now),
            reference.located(session), reference.issued(session),
        )  # fmt: skip

    def _until(self, batch: Batch, snapshot: AccountSnapshot, market: MarketContext, now: datetime) -> datetime:
        """Until when time alone changes nothing that the gates ask for."""
        limits = self.settings.risk
        oldest = min((last.at for last in market.last_prices.values()), default=now)
        return min(
            now + _SAME_MARKET, batch.expires_at,
            snapshot.taken_at + timedelta(seconds=limits.snapshot_age_max_seconds),
            oldest + timedelta(seconds=limits.price_age_max_seconds),
        )  # fmt: skip

    def _fit_the_message_rate(self, batch: Batch, now: datetime, judged_at: datetime) -> bool:
        """What was sent, repeated sends and cancellations among it, leaves room for the rest of the batch; and since it
        was judged nothing but its orders was sent, once each."""
        limits = self.settings.risk
        window = now - timedelta(seconds=limits.messages_window_seconds)
        asked = {"account": batch.account, "now": now, "window": window, "judged": judged_at}
        counts = self.warehouse.rows(_SINCE_JUDGED, asked | {"since": min(window, judged_at)})[0]
        return counts["sent"] + len(batch.orders) <= limits.messages_max and not counts["others"]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _reference(self) -> Reference:
        return read_reference(self.settings.compliance, self.settings.root, self.settings.universe.symbols)

    def _stored(self) -> int:
        last: int = self.warehouse.scalar("select last_batch from ops.batch_counter")
        return last

    @contextmanager
    def _one_connection(self) -> Iterator[Gates]:
        with self.warehouse.held() as held:
            yield replace(self, warehouse=held)

    def _priced(self, batch: Batch, snapshot: AccountSnapshot) -> frozenset[str]:
        """Instruments whose prices the risk gate asks for: those that are concerned, and its benchmark's."""
        return _concerned(batch, snapshot).union(self.settings.risk.benchmark or ())

    def window(self, names: frozenset[str], now: datetime) -> PriceWindow | None:
        """Prices of ``names`` as known at ``now``; None where there are none. Each order of a batch is judged on its
        own: while no batch was stored since, what was read within `_SAME_MARKET` is not read again."""
        with self._one_reads:
            stored = self._stored()
            for read in self._read:
                if read.batch == stored and names <= read.names and timedelta(0) <= now - read.at < _SAME_MARKET:
                    return read.window
            found = self._window(names, now)
            self._read[:] = [_Read(stored, now, names, found)]
            return found

    def _window(self, names: frozenset[str], now: datetime) -> PriceWindow | None:
        sessions, universe = self.settings.sessions, self.settings.universe
        last = sessions.last_decided(now)
        return read_window_in_base(
            self.warehouse, universe.market_data, now, sessions, names, universe.currency, universe.rates,
            since=sessions.previous(last, self.settings.risk.var_window_sessions + _HISTORY_MARGIN),
            details_since=sessions.previous(last, ADV_SESSIONS - 1),
        )  # fmt: skip

    def _last_prices(self, window: PriceWindow, names: frozenset[str]) -> dict[str, LastPrice]:
        """The latest close of each instrument that was known, as printed, and when it was made."""
        known = ~np.isnan(window.close)
        rows = len(window.sessions) - 1 - np.argmax(known[::-1], axis=0)
        days = window.sessions.tolist()
        closes = {row: self.settings.sessions.close_utc(days[row]) for row in np.unique(rows).tolist()}
        return {
            name: LastPrice(decimal_price(float(window.close[row, column])), closes[row])
            for column, (name, row) in enumerate(zip(window.symbols, rows.tolist(), strict=True))
            if name in names and known[row, column]
        }

    def _history(self, window: PriceWindow) -> ReturnHistory:
        year = self.settings.sessions.per_year
        return ReturnHistory(window.sessions, window.symbols, window.total_return, year)

    def _splits_since(self, closes: Mapping[str, LastPrice], now: datetime) -> dict[str, Decimal]:
        """By instrument that split between its close and ``now``: how many shares one of then is. Until there is a bar
        of the ex-session, what is held and ordered is counted in other shares than the close was made of."""
        if not closes:
            return {}
        feed, ratios = recorded_prices(self.settings, self.warehouse), dict[str, Decimal]()
        for action in feed.exchanges(closes, min(last.at for last in closes.values()), now):
            last = closes.get(action.instrument)
            if action.kind is EntryKind.SPLIT and last is not None and action.at > last.at:
                ratios[action.instrument] = ratios.get(action.instrument, Decimal(1)) * action.value
        return ratios

    def _references(
        self, batch: Batch, snapshot: AccountSnapshot, context: MarketContext, now: datetime
    ) -> tuple[Decimal | None, Decimal | None]:
        """The NAV peak and the previous NAV, against the very equity that the gate will find."""
        found, limits = self._navs(batch, snapshot), self.settings.risk
        if found is None:
            return None, None
        try:
            book = open_book(
                snapshot, context, (), price_age_max_seconds=limits.price_age_max_seconds,
                price_collar=limits.price_collar, now=now,
            )  # fmt: skip
        except MissingDataError:
            # The gate names what is missing, by this or by another of its rules.
            return None, None
        return references(*found, book.equity, batch.session, limits)

    def _navs(self, batch: Batch, snapshot: AccountSnapshot) -> tuple[tuple[Nav, ...], Flows] | None:
        """What the losses of the batch's session are measured from; None where it is not known."""
        return NavHistory(self.warehouse, self.settings.sessions).known(batch.account, batch.session, snapshot)

    def _sent(self, account: str, now: datetime) -> tuple[SentMessage, ...]:
        """What was sent to the broker over the longest window that a limit looks back."""
        limits = self.settings.risk
        window = max(limits.messages_window_seconds, limits.repeated_executions_window_seconds)
        return tuple(
            SentMessage(
                row["at"], row["instrument"], Side(row["side"]), row["event"] == "resend", row["event"] == "ask_cancel"
            )
            for row in self._messages(account, now - timedelta(seconds=window), now)
        )

    def _messages(self, account: str, since: datetime, now: datetime) -> list[dict[str, Any]]:
        return self.warehouse.rows(_MESSAGES, {"account": account, "since": since, "now": now})

    def _other_messages(self, batch: Batch, now: datetime) -> tuple[datetime, ...]:
        """Those that are not the first send of another batch's intent, over the longest window of a message rate; none
        where no rule asks.

        What the recent intents leave out, the batch's own, is here as far as it was sent: earlier slices and what was
        replaced are no longer among the orders that are judged.
        """
        policy = self.settings.compliance
        rates = [rule for rule in policy.rules if isinstance(rule, MessageRate) and rule.concerns(policy.account)]
        if not rates:
            return ()
        since = now - timedelta(minutes=max(rule.parameters.window_minutes for rule in rates))
        messages = self._messages(batch.account, since, now)
        return tuple(sorted(row["at"] for row in messages if not row["is_first"] or row["batch_id"] == batch.batch_id))

    def _resumed_at(self, account: str) -> datetime | None:
        resumed: datetime | None = self.warehouse.scalar(
            "select changed_at from execution.trading_state where account = %s and state = 'active'", [account]
        )
        return resumed

    def _recent_intents(self, batch: Batch, now: datetime) -> tuple[RecentIntent, ...]:
        rows = self.warehouse.rows(
            """
            select i.intent_id, i.instrument, i.side, i.quantity, greatest(i.created_at, o.submitted_at) as at
            from execution.order_intents i left join execution.orders o using (intent_id)
            where i.account = %(account)s and i.status = 'approved' and i.exit_of is null and i.batch_id <> %(batch)s
              and greatest(i.created_at, o.submitted_at) > %(since)s
            """,
            {"account": batch.account, "batch": batch.batch_id, "since": now - _RECENT},
        )
        return tuple(
            RecentIntent(row["intent_id"], row["instrument"], Side(row["side"]), row["quantity"], row["at"])
            for row in rows
        )

    def _moved(self, reference: Reference, now: datetime) -> Iterator[dict[str, Any]]:
        """Whose ticker changed or had another bearer, as known at ``now``; none where nobody wrote any instrument's."""
        lists = (rule for rule in self.settings.compliance.rules if isinstance(rule, RestrictedList | WatchList))
        written = (reference.halts, reference.locates, reference.shares)
        if any(rule.parameters.entries for rule in lists) or any(written):
            return self.warehouse.moved(self.settings.universe.market_data, now).iter_rows(named=True)
        return iter(())

    def _exits_ahead(self, account: str) -> int:
        """Entries that were sent with exits, none of which has executed and one of which still may; asked of margin
        accounts."""
        if not self.settings.compliance.account.margin:
            return 0
        entries: int = self.warehouse.scalar(_EXITS_AHEAD, [account, [state.value for state in WORKING]])
        return entries

    def _day_trades(self, account: str, session: date) -> tuple[int | None, dict[str, Decimal] | None]:
        """Day trades in the sessions that the rule looks at, and what ``session`` opened; asked of margin accounts."""
        policy = self.settings.compliance
        if not policy.account.margin:
            return None, None
        windows = [rule.parameters.window_sessions for rule in policy.rules if isinstance(rule, PatternDayTrader)]
        first = session
        for _ in range(max(windows) - 1):
            first = self.settings.sessions.previous(first)
        sessions = self.settings.sessions
        with OrderStore.opened(self.warehouse.url) as store:
            books = AccountBooks(store)
            # As they count now: what a bust takes back was no trade, nor is the bust one.
            told = books.fills(account, sessions.close_utc(sessions.previous(first)))
            held = books.positions(account)
        dated = [(fill, day) for fill in told if (day := sessions.trade_date(fill.at)) >= first]
        for fill, _ in dated:
            held[fill.instrument] = held.get(fill.instrument, Decimal(0)) - fill.side.sign * fill.quantity
        fills, days = [fill for fill, _ in dated], [day for _, day in dated]
        return day_trades.count(fills, days, held, session)

    def _price_tests(self, names: frozenset[str], now: datetime) -> dict[str, bool] | None:
        """Asked of accounts that may be short: of others no rule needs it, and its prices are not read for it."""
        if not self.settings.compliance.account.short:
            return None
        window = self.window(names, now)
        if window is None:
            return None
        return price_tests_next(window.symbols, window.close, window.low, window.split)

    def _lots(self, account: str, now: datetime) -> LotBook | None:
        """Open lots and disposals as they are reported, losses that wash sales defer in them, where a rule asks for
        them.

        Read once for orders that are judged one after the other.
        """
        if not self.settings.compliance.watches_wash_sales:
            return None
        for of, at, book in self._books:
            if of == account and timedelta(0) <= now - at < _SAME_MARKET:
                return book
        self._books[:] = [(account, now, self._lot_book(account, now))]
        return self._books[0][2]

    def _lot_book(self, account: str, now: datetime) -> LotBook | None:
        feed = recorded_prices(self.settings, self.warehouse)
        with OrderStore.opened(self.warehouse.url) as store:
            try:
                return ExecutionReports.of(store, self.warehouse, feed, self.settings, now).reported(account)
            except (UnknownRatioError, LotSelectionError):
                # The rule says that lots are missing: a matter of tax stops no trade.
                return None

    def _price_basis(self) -> PriceBasis | None:
        basis: PriceBasis | None = self.warehouse.scalar(
            "select price_basis from raw.instruments where source = %s order by batch_id desc limit 1",
            [self.settings.universe.market_data],
        )
        return basis


@cache
def _set_aside_what_is_loaded() -> None:
    """Keep the garbage collector from looking through all loaded modules while a batch is judged: once in a process,
    before its first judgement.

    The thousands of verdicts on 500 orders set off a full collection every few batches. It takes as long as both gates
    do (60 to 110 ms with everything imported), and a few milliseconds where it looks only at what was made since.
    """
    gc.collect()
    gc.freeze()


def stands(batch: Batch, reports: Sequence[GateReport], policy: CompliancePolicy) -> bool:
    """Whether the reports approve all of ``batch`` and will approve what is left of it while the rest is open: no limit
    is beyond its bound, and no rule of the policy asks what is filled."""
    lasting = all(lasts(rule, policy.account) for rule in policy.rules)
    approved = all(len(report.approved) == len(batch.orders) for report in reports)
    beyond = any(
        verdict.outcome is Outcome.WARN and verdict.rule in risk_gate.ON_THE_WHOLE
        for report in reports
        if report.gate == RISK
        for verdict in report.verdicts
    )
    return lasting and approved and not beyond


def _order_type(batch: Batch) -> OrderType:
    return batch.orders[0].order_type if batch.orders else OrderType.MARKET_ON_CLOSE


def _concerned(batch: Batch, snapshot: AccountSnapshot) -> frozenset[str]:
    """Instruments that are ordered, held or working."""
    working = (order.instrument for order in snapshot.open_orders)
    return frozenset([*(order.instrument for order in batch.orders), *snapshot.positions, *working])


def _carried(last: LastPrice, ratio: Decimal | None) -> LastPrice:
    """The price of one share of now, of which a share of then became ``ratio``."""
    return last if ratio is None else replace(last, price=(last.price / ratio).quantize(PRICE_STEP))


def _average_volumes(window: PriceWindow, names: frozenset[str], ratios: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Shares of now; instruments without volume are left out."""
    means = average_volume(window.volume, window.split)
    return {
        name: Decimal(str(round(mean * float(ratios.get(name, 1)), 2)))
        for name, mean in zip(window.symbols, means.tolist(), strict=True)
        if name in names and not np.isnan(mean)
    }
