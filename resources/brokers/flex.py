"""Interactive Brokers' Flex reports: what happened in an account, told on the day after.

Belongs here: asking the Flex Web Service for its report, and what the report's records mean to a book. Does not: TWS,
and putting both together (ib.py).

Sources: IBKR Campus, "Flex Web Service" (two requests: SendRequest answers with a reference code, GetStatement with the
report of that code once it is made; a User-Agent is required; Activity reports change once a day, at the close of
business); IBKR's reporting guide, "Flex Web Service Version 3 Error Codes" (1018: one request a second, ten a minute
for a token; the codes that say "try again shortly"), "Trades", "Cash Transactions", "Corporate Actions", "Transfers"
and "Cash Report" of the Activity Flex Query (starting and ending cash are as of the trade date).

The account's owner makes the query, so that its sections, its period and the form of its dates are what it says; each
that is needed and absent is an error, as its records would be missing in silence: one that was asked for and is empty
stands there all the same, as an element without children. Dates and times are New York's. The attributes read here are
among those that csingley/ibflex, which is kept against real reports, lists in its module `Types` (Trade,
CashTransaction, CorporateAction, Transfer, CashReportCurrency, AccountInformation).
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from octopus.core.orders import Fill, Side
from octopus.execution.book import Entry, EntryKind
from resources.brokers.answers import Failure, Fields, RequestFailedError, asked, noon, not_told
from resources.brokers.base import BrokerError, BrokerUnavailableError
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.unlogged import keep_out_of_logs

if TYPE_CHECKING:
    from octopus.core.sessions import Sessions

ADDRESS = "https://ndcdyn.interactivebrokers.com/AccountManagement/FlexWebService"
PERIOD = timedelta(days=364)
"""How far back a report tells whose query has the longest period, Last 365 Calendar Days."""
NEW_YORK = ZoneInfo("America/New_York")

_WHERE = "Client Portal, Performance & Reports, Flex Queries"
_SHORTLY = frozenset({1001, 1004, 1005, 1006, 1007, 1008, 1009, 1019, 1021})
_THROTTLED = 1018
_REMEDIES = {
    1010: f"make an Activity Flex Query in its place ({_WHERE})",
    1011: f"activate the Flex Web Service ({_WHERE})",
    1012: f"make a new token ({_WHERE}, Flex Web Service Configuration)",
    1013: "the token is bound to another address: make one for this address, or for any",
    1014: f"give the number of an Activity Flex Query ({_WHERE})",
    1015: f"give the token that stands in {_WHERE}, Flex Web Service Configuration",
    1016: "make the query in the account that is traded",
}
_SECTIONS = ("Trades", "CashTransactions", "CorporateActions", "Transfers", "CashReport")
_SUMS = frozenset({"SUMMARY", "ORDER", "SYMBOL_SUMMARY", "ASSET_SUMMARY", "CLOSED_LOT", "WASH_SALE"})
_FLOWS = frozenset({"Deposits/Withdrawals", "Deposits & Withdrawals"})
_DIVIDENDS = frozenset({"Dividends", "Payment In Lieu Of Dividends"})
_CHARGES = frozenset(
    {
        "Withholding Tax", "871(m) Withholding", "Broker Interest Paid", "Broker Interest Received", "Broker Fees",
        "Other Fees", "Advisor Fees", "Commission Adjustments", "Price Adjustments",
    }
)  # fmt: skip
_AT_THE_OPEN = {"FS": EntryKind.SPLIT, "RS": EntryKind.SPLIT, "IC": EntryKind.SYMBOL_CHANGE}
"""Forward and reverse splits, and issue changes; shares of any other corporate action are for a person to look at."""
_EVER = date(1970, 1, 1)
_DATED = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[;, T]+(\d\d):?(\d\d):?(\d\d))?")
_FIELDS = Fields("ib: the Flex report")
_text, _number = _FIELDS.text, _FIELDS.number


class Naming(Protocol):
    """What we call a security, by its class, contract id, symbol and currency."""

    def __call__(self, category: str, contract_id: int, symbol: str, currency: str) -> str: ...


@dataclass(frozen=True)
class ReportedFill:
    """A fill in the latest version that the report has of it.

    Attributes:
        fill: with all commissions and taxes that were booked for it; of quantity zero where it was broken.
        number: of its latest revision; 0: it is as it was first told.
        order_id: the broker's own.
    """

    fill: Fill
    number: int
    order_id: str


@dataclass(frozen=True)
class FlexReport:
    """One account's report.

    Attributes:
        begins: its first day. until: the end of its last one. cash: all of it then, in the account's currency.
        fills: by fill id. entries: movements that are no fills, oldest first.
    """

    begins: date
    until: datetime
    cash: Decimal
    fills: Mapping[str, ReportedFill]
    entries: tuple[Entry, ...]


@dataclass
class FlexReports:
    """The reports of one query, each asked for once a day: it does not change in between.

    Attributes:
        token: of the Flex Web Service. query: the number of the Activity Flex Query. address: of the service.
        sessions: the exchange's calendar, for when a corporate action took effect.
        pause_s, throttled_s: waits between two requests, and after one too many, seconds.
        patience_s: how long a report may take, all waits together, seconds.
        again: how soon a report that is not yesterday's is asked for again.
    """

    token: str = field(repr=False)
    query: str
    sessions: Sessions
    address: str = ADDRESS
    access: Access = field(default_factory=lambda: Access(timeout_s=30.0, patience=Patience(attempts=1, total_s=0)))
    pause_s: float = 6.0
    throttled_s: float = 60.0
    patience_s: float = 180.0
    again: timedelta = timedelta(minutes=15)
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _kept: dict[str, tuple[datetime, FlexReport]] = field(default_factory=dict, repr=False)

    def latest(self, number: str, named: Naming) -> FlexReport:
        """The newest report of account ``number``.

        Raises:
            BrokerError: there is none, or it cannot be read; `BrokerUnavailableError` where that may pass.
        """
        now = self.now()
        yesterday = now.astimezone(NEW_YORK).date() - timedelta(days=1)
        if number in self._kept:
            asked_at, kept = self._kept[number]
            if kept.until.astimezone(NEW_YORK).date() >= yesterday or now - asked_at < self.again:
                return kept
        report = read_report(self._download(), number, self.sessions, named)
        self._kept[number] = now, report
        return report

    # -- inside ------------------------------------------------------------------------------------------------------

    def _download(self) -> ElementTree.Element:
        """The report, after as many requests as it takes."""
        reference, address, waited = "", f"{self.address}/SendRequest", 0.0
        while True:
            wait, why = self.pause_s, ""
            try:
                root = self._get(address, reference or self.query)
                if root.tag == "FlexQueryResponse":
                    return root
                if not reference and root.findtext("Status") == "Success":
                    reference, address = root.findtext("ReferenceCode") or "", self._address_of(root)
                else:
                    wait, why = self._wait_for(root)
            except BrokerUnavailableError as error:
                why = str(error)
            waited += wait
            if waited > self.patience_s:
                raise BrokerUnavailableError(
                    f"ib: no Flex report after {self.patience_s:g} s ({why or 'still being made'}); ask again later"
                )
            self.sleep(wait)

    def _wait_for(self, root: ElementTree.Element) -> tuple[float, str]:
        """How long to wait after an error, and its words.

        Raises:
            BrokerError: it does not pass.
        """
        said, text = root.findtext("ErrorCode") or "", (root.findtext("ErrorMessage") or "no message")[:200]
        code = int(said) if said.isdecimal() else 0
        if code == _THROTTLED:
            return self.throttled_s, f"{code}: {text}"
        if code in _SHORTLY:
            return self.pause_s, f"{code}: {text}"
        raise BrokerError(f"ib: Flex Web Service: {said}: {text}; {_REMEDIES.get(code, 'look it up at IBKR')}")

    def _address_of(self, root: ElementTree.Element) -> str:
        """Where the report is: as the answer says, if that is IBKR's; the token goes nowhere else."""
        told = (root.findtext("Url") or "").strip()
        parts = urlsplit(told)
        is_theirs = parts.scheme == "https" and (parts.hostname or "").endswith(".interactivebrokers.com")
        return told if is_theirs and self.address == ADDRESS else f"{self.address}/GetStatement"

    def _get(self, address: str, asked_for: str) -> ElementTree.Element:
        with self.access.session("ib: Flex Web Service") as session:
            session.headers["User-Agent"] = "Octopus/1"
            keep_out_of_logs(self.token)
            query = {"t": self.token, "q": asked_for, "v": "3"}
            try:
                answer = asked(lambda: session.get(address, params=query), (), lambda error: error)
            except RequestFailedError as error:
                raise not_told("ib: Flex Web Service", error.failure) from None
        if answer.status_code != 200:
            raise not_told("ib: Flex Web Service", Failure(answer.status_code, f"HTTP {answer.status_code}", sent=True))
        try:
            root = ElementTree.fromstring(_without_entities(answer.content))  # noqa: S314  # it defines no entities
        except (ElementTree.ParseError, ValueError):
            raise BrokerUnavailableError("ib: Flex Web Service: an answer that is no whole XML") from None
        if root.tag not in ("FlexQueryResponse", "FlexStatementResponse"):
            raise BrokerUnavailableError(f"ib: Flex Web Service: an answer of another kind ({root.tag[:40]})")
        return root


def read_report(root: ElementTree.Element, number: str, sessions: Sessions, named: Naming) -> FlexReport:
    """The report of account ``number``.

    Raises:
        BrokerError: it is not of that account, or lacks a section or a field; the message says what to add.
    """
    try:
        return _read(root, number, sessions, named)
    except (ValueError, OverflowError) as error:
        raise BrokerError(f"ib: the Flex report cannot be read: {error}; update the adapter") from error


def _read(root: ElementTree.Element, number: str, sessions: Sessions, named: Naming) -> FlexReport:
    found = [one for one in root.iter("FlexStatement") if one.get("accountId") == number]
    if len(found) != 1:
        raise BrokerError(f"ib: the Flex report has {len(found)} statements of account {number}; give its own query")
    (statement,) = found
    for section in _SECTIONS:
        if statement.find(section) is None:
            raise BrokerError(f"ib: the Flex query lacks the section {section}; add it ({_WHERE})")
    ends = _day(_text(statement.attrib, "toDate"))
    until = datetime.combine(ends + timedelta(days=1), clock_time(), NEW_YORK) - timedelta(microseconds=1)
    fills, unmatched = _fills(_rows(statement, "Trades", "Trade"), named)
    entries = [
        *unmatched,
        *(_cash_entry(one, sessions, named) for one in _rows(statement, "CashTransactions", "CashTransaction")),
        *(_action_entry(one, sessions, named) for one in _rows(statement, "CorporateActions", "CorporateAction")),
        *(_transfer_entry(one, named) for one in _rows(statement, "Transfers", "Transfer")),
    ]
    return FlexReport(
        _begin(statement), until.astimezone(UTC), _ending_cash(statement), fills,
        tuple(sorted(entries, key=lambda entry: (entry.at, entry.entry_id))),
    )  # fmt: skip


def _rows(statement: ElementTree.Element, section: str, tag: str) -> list[Mapping[str, str]]:
    """The records of a section; its sums, which have a level of detail of their own, are not among them."""
    rows = statement.iterfind(f"{section}/{tag}")
    return [row.attrib for row in rows if row.get("levelOfDetail", "") not in _SUMS]


def _begin(statement: ElementTree.Element) -> date:
    """The first day that the report covers: of a younger account's, any."""
    begins, about = _day(_text(statement.attrib, "fromDate")), statement.find("AccountInformation")
    opened = about.get("dateOpened") if about is not None else None
    return _EVER if opened and begins <= _day(opened) else begins


def _ending_cash(statement: ElementTree.Element) -> Decimal:
    rows = {row.get("currency", ""): row.attrib for row in statement.iterfind("CashReport/CashReportCurrency")}
    told = rows.get("BASE_SUMMARY") or (next(iter(rows.values())) if len(rows) == 1 else None)
    if told is None:
        raise BrokerError(f"ib: the Cash Report of the Flex query has no BASE_SUMMARY; add it ({_WHERE})")
    return _number(told, "endingCash")


def _fills(rows: Iterable[Mapping[str, str]], named: Naming) -> tuple[dict[str, ReportedFill], list[Entry]]:
    """Fills by id, and cancellations of trades that the report does not have.

    A trade that IB breaks is told again as a cancellation of the other sign, which names the trade's id
    (``origTradeID``) and has neither an execution nor a trade id of its own; one that it corrects is then told anew
    under the same trade id, as the next correction of the execution. Of commissions each record tells what is added:
    a cancellation may give it back or leave that to the correction. So it stands in real reports: one of 2015 in
    csingley/capgains (tests of its Flex reader), where a cancellation returns the commission, and published ones of
    2026, where ``…01.01`` of two is cancelled without and ``…01.02`` of one returns a part.
    """
    versions: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    charges: dict[str, Decimal] = defaultdict(Decimal)
    executions: dict[str, str] = {}
    broken: set[str] = set()
    unmatched = []
    for row in sorted(rows, key=lambda one: int(_text(one, "transactionID"))):
        if row.get("transactionType") in ("TradeCancel", "FracShareCancel"):
            of = executions.get(row.get("origTradeID", ""))
            if of is None:
                unmatched.append(
                    _unmatched(row, named, f"cancels trade {row.get('origTradeID') or '?'}, not told here")
                )
                continue
            broken.add(of)
        elif not row.get("ibExecID"):
            unmatched.append(_unmatched(row, named, f"is no execution ({row.get('transactionType', '')})"))
            continue
        else:
            of, _, _ = _text(row, "ibExecID").rpartition(".")
            versions[of].append(row)
            executions[_text(row, "tradeID")] = of
            broken.discard(of)
        charges[of] -= _charged(row)
    return {
        fill_id: _reported(fill_id, told, charges[fill_id], fill_id in broken, named)
        for fill_id, told in versions.items()
    }, unmatched  # fmt: skip


def _reported(
    fill_id: str, told: list[Mapping[str, str]], fees: Decimal, is_broken: bool, named: Naming
) -> ReportedFill:
    last, correction = told[-1], int(_text(told[-1], "ibExecID").rpartition(".")[2])
    # Of one share: an option is of a hundred.
    price = _number(last, "tradePrice") * (_FIELDS.number_or_zero(last, "multiplier") or 1)
    signed = _number(last, "quantity")
    changed = any(
        (one.get("quantity"), one.get("tradePrice")) != (last["quantity"], last["tradePrice"]) for one in told
    )
    fill = Fill(
        fill_id, last.get("orderReference", ""), _named(last, named), Side.BUY if signed > 0 else Side.SELL,
        abs(signed), price, fees, _instant(_text(last, "dateTime")),
    )  # fmt: skip
    if is_broken:
        fill = replace(fill, quantity=Decimal(0), fees=Decimal(0))
    return ReportedFill(fill, max(correction - 1, int(changed), int(is_broken)), last.get("ibOrderID", ""))


def _charged(row: Mapping[str, str]) -> Decimal:
    """Commission and taxes of a record, negative for what was paid."""
    if row.get("ibCommissionCurrency", row.get("currency")) != row.get("currency"):
        raise BrokerError(f"ib: trade {row.get('tradeID')} pays its commission in another currency; ask IBKR")
    return _FIELDS.number_or_zero(row, "ibCommission") + _FIELDS.number_or_zero(row, "taxes")


def _unmatched(row: Mapping[str, str], named: Naming, why: str) -> Entry:
    """Of a record of a trade that no order can have caused."""
    return Entry(
        _entry_id(row), EntryKind.MANUAL, _named(row, named), _number(row, "quantity"), _number(row, "netCash"),
        noon(_day(_text(row, "reportDate"))), f"a record of a trade that {why}",
    )  # fmt: skip


def _cash_entry(row: Mapping[str, str], sessions: Sessions, named: Naming) -> Entry:
    kind, cash, day = _text(row, "type"), _number(row, "amount"), _day(_text(row, "reportDate"))
    instrument = _named(row, named) if row.get("conid") else None
    note = " ".join(part for part in (kind, row.get("description", "")) if part)
    currency = _text(row, "currency")
    if currency != "USD":
        # A dollar account that was paid in another money: a person has to look.
        cash *= _number(row, "fxRateToBase")
        return Entry(_entry_id(row), EntryKind.MANUAL, None, Decimal(0), cash, noon(day), f"{note} in {currency}")
    if kind in _DIVIDENDS and instrument:
        at = _opening(sessions, _day(row["exDate"]) if row.get("exDate") else day)
        return Entry(_entry_id(row), EntryKind.DIVIDEND, instrument, Decimal(0), cash, at, note)
    if kind in _FLOWS and instrument is None:
        flow = EntryKind.DEPOSIT if cash >= 0 else EntryKind.WITHDRAWAL
        return Entry(_entry_id(row), flow, None, Decimal(0), cash, noon(day), note)
    booked = EntryKind.CHARGE if kind in _CHARGES else EntryKind.MANUAL
    return Entry(_entry_id(row), booked, instrument, Decimal(0), cash, noon(day), note)


def _action_entry(row: Mapping[str, str], sessions: Sessions, named: Naming) -> Entry:
    kind, day = _text(row, "type"), _day(_text(row, "reportDate"))
    note = row.get("actionDescription") or row.get("description") or kind
    shares, cash = _FIELDS.number_or_zero(row, "quantity"), _FIELDS.number_or_zero(row, "proceeds")
    booked, at = _AT_THE_OPEN.get(kind, EntryKind.MANUAL), noon(day)
    if booked is not EntryKind.MANUAL:
        at = _opening(sessions, day)
    return Entry(_entry_id(row), booked, _named(row, named), shares, cash, at, note)


def _transfer_entry(row: Mapping[str, str], named: Naming) -> Entry:
    """Money from another account is a flow; of shares a person has to say what they cost."""
    day = _day(_text(row, "reportDate" if row.get("reportDate") else "date"))
    cash, shares = _FIELDS.number_or_zero(row, "cashTransfer"), _FIELDS.number_or_zero(row, "quantity")
    note = f"transfer {row.get('type', '')} {row.get('direction', '')} {row.get('description', '')}".strip()
    if not shares:
        flow = EntryKind.DEPOSIT if cash >= 0 else EntryKind.WITHDRAWAL
        return Entry(_entry_id(row), flow, None, Decimal(0), cash, noon(day), note)
    return Entry(_entry_id(row), EntryKind.MANUAL, _named(row, named), shares, cash, noon(day), note)


def _entry_id(row: Mapping[str, str]) -> str:
    return f"flex-{_text(row, 'transactionID')}"


def _named(row: Mapping[str, str], named: Naming) -> str:
    return named(_text(row, "assetCategory"), int(_text(row, "conid")), _text(row, "symbol"), _text(row, "currency"))


def _opening(sessions: Sessions, day: date) -> datetime:
    return sessions.open_utc(day) if sessions.is_session(day) else noon(day)


def _dated(text: str) -> tuple[int, ...]:
    parts = _DATED.fullmatch(text.strip())
    if parts is None:
        raise BrokerError(
            f"ib: the Flex report dates by {text[:40]!r}; set yyyyMMdd and HHmmss in the query's general settings"
        )
    return tuple(int(part) for part in parts.groups() if part is not None)


def _day(text: str) -> date:
    return date(*_dated(text)[:3])


def _instant(text: str) -> datetime:
    """Of a day without a time its noon."""
    year, month, day, *of_day = _dated(text)
    hour, minute, second = of_day or (12, 0, 0)
    return datetime(year, month, day, hour, minute, second, tzinfo=NEW_YORK).astimezone(UTC)


def _without_entities(content: bytes) -> bytes:
    """Raises ValueError: the document declares entities, which no report does."""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError
    return content
