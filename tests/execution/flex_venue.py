"""The Flex Web Service over a real socket: reports of an account that a simulated TWS keeps, a day late.

The form of the answers is that of IBKR's reporting guide, "Flex Web Service Version 3" (addresses in docs/brokers.md),
and of its error codes; records bear the fields of the Activity Flex Query (Trades, Cash Transactions, Corporate
Actions, Transfers, Cash Report).

Faults, taken one for each request: ``1019`` (still being made) and any other code, ``html`` (a gateway's page), ``cut``
(the XML ends early), ``drop`` (no answer), ``doctype`` (a document that declares entities).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import quoteattr

from ib_venue import NUMBER, OPTION, SECURITIES, multiplier
from served_venue import Answer, Request, ServedVenue

TOKEN, QUERY, REFERENCE = "FLEX-TOKEN", "654321", "1234567890"
MESSAGES = {
    1001: "Statement could not be generated at this time. Please try again shortly.",
    1012: "Token has expired.",
    1014: "Query is invalid.",
    1015: "Token is invalid.",
    1018: "Too many requests have been made from this token. Please try again shortly.",
    1019: "Statement generation in progress. Please try again shortly.",
}
SECTIONS = ("Trades", "CashTransactions", "CorporateActions", "Transfers")


@dataclass
class FlexVenue(ServedVenue):
    """One query's reports.

    Attributes:
        begins, ends: the days that the report covers. cash: when it ends.
        rows: records, by section. lacking: sections that the query does not have.
        script: faults to come. asked: requests so far, by path. seen: the headers of the latest one.
    """

    begins: date = date(2022, 1, 1)
    ends: date = date(2022, 12, 27)
    cash: Decimal = Decimal(100_000)
    number: str = NUMBER
    opened: str = ""
    rows: dict[str, list[tuple[str, dict[str, Any]]]] = field(default_factory=lambda: {name: [] for name in SECTIONS})
    lacking: frozenset[str] = frozenset()
    script: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    seen: Any = None
    cut: bool = False

    def move(self, kind: str, amount: str, day: str = "20221227", **told: Any) -> None:
        """A movement of cash, in the report of ``day``."""
        self._add("CashTransactions", "CashTransaction", type=kind, amount=amount, reportDate=day, **told)

    def trade(self, ref: str, symbol: str, quantity: str, price: str, execution: str, at: str, **told: Any) -> None:
        fields = {
            "orderReference": ref, "quantity": quantity, "tradePrice": price, "ibExecID": execution, "dateTime": at,
            "tradeID": f"t-{execution[:-3]}", "transactionType": "ExchTrade", "ibCommission": "0", "taxes": "0",
            "ibCommissionCurrency": "USD", "levelOfDetail": "EXECUTION", "reportDate": at[:8], "ibOrderID": "900001",
            "netCash": "0",
        }  # fmt: skip
        self._add("Trades", "Trade", **security(symbol), **{**fields, **told})

    def act(self, kind: str, symbol: str, quantity: str, day: str, **told: Any) -> None:
        """A corporate action, in the report of ``day``."""
        told = {"type": kind, "quantity": quantity, "reportDate": day, "proceeds": "0", **told}
        self._add("CorporateActions", "CorporateAction", **security(symbol), **told)

    def transfer(self, symbol: str, quantity: str, cash: str, day: str) -> None:
        told = {"type": "ACATS", "direction": "IN", "quantity": quantity, "cashTransfer": cash, "date": day}
        self._add("Transfers", "Transfer", **(security(symbol) if symbol else {}), **told)

    def _add(self, section: str, tag: str, **told: Any) -> None:
        number = 5_000_000 + sum(len(rows) for rows in self.rows.values())
        base = {"currency": "USD", "fxRateToBase": "1", "transactionID": str(number), "levelOfDetail": "DETAIL"}
        self.rows[section].append((tag, {**base, **told}))

    def report(self) -> str:
        about = f'<AccountInformation dateOpened="{self.opened}" />' if self.opened else ""
        parts = [about]
        for name in SECTIONS:
            rows = "".join(element(tag, {"accountId": self.number, **told}) for tag, told in self.rows[name])
            parts += [] if name in self.lacking else [f"<{name}>{rows}</{name}>"]
        summary = element("CashReportCurrency", {"currency": "BASE_SUMMARY", "endingCash": self.cash})
        parts += [] if "CashReport" in self.lacking else [f"<CashReport>{summary}</CashReport>"]
        begin, end = f"{self.begins:%Y%m%d}", f"{self.ends:%Y%m%d}"
        return (
            '<FlexQueryResponse queryName="octopus" type="AF"><FlexStatements count="1"><FlexStatement '
            f'accountId="{self.number}" fromDate="{begin}" toDate="{end}" period="Last365CalendarDays" '
            f'whenGenerated="20221228;043000">{"".join(parts)}</FlexStatement></FlexStatements></FlexQueryResponse>'
        )

    def answer(self, request: Request) -> Answer:
        self.asked[request.path] += 1
        self.seen = request.headers
        fault = self.script.pop(0) if self.script else "ok"
        if fault != "ok":
            self.happened[f"flex: {fault}"] += 1
        self.cut = fault == "cut"
        if fault.isdecimal():
            return Answer(200, failed(int(fault)))
        if fault == "doctype":
            return Answer(200, '<!DOCTYPE x [<!ENTITY a "b">]>' + self.report())
        if fault in ("html", "drop"):
            return Answer(200, "", fault=fault)
        if request.query.get("t") != [TOKEN]:
            return Answer(200, failed(1015))
        if request.path == "/SendRequest":
            return Answer(200, started(self.url)) if request.query.get("q") == [QUERY] else Answer(200, failed(1014))
        return Answer(200, self.report() if request.query.get("q") == [REFERENCE] else failed(1017))

    def garbled(self, status: int, content: bytes) -> tuple[int, bytes]:
        """Answers are XML and no JSON."""
        import json

        text = json.loads(content).encode()
        return status, text[: len(text) // 2] if self.cut else text


def security(symbol: str) -> dict[str, Any]:
    """As the report has it; stocks are told with a multiplier, too."""
    kind, of = ("OPT" if symbol == OPTION else "STK"), multiplier(symbol)
    return {"assetCategory": kind, "symbol": symbol, "conid": SECURITIES[symbol][0], "multiplier": of}


def element(tag: str, fields: dict[str, Any]) -> str:
    return f"<{tag} {' '.join(f'{name}={quoteattr(str(value))}' for name, value in fields.items())} />"


def failed(code: int) -> str:
    status = "Warn" if code in (1018, 1019) else "Fail"
    return (
        f"<FlexStatementResponse timestamp='28 December, 2022 04:30 AM EST'><Status>{status}</Status><ErrorCode>{code}"
        f"</ErrorCode><ErrorMessage>{MESSAGES.get(code, 'Invalid request.')}</ErrorMessage></FlexStatementResponse>"
    )


def started(address: str) -> str:
    return (
        "<FlexStatementResponse timestamp='28 December, 2022 04:30 AM EST'><Status>Success</Status>"
        f"<ReferenceCode>{REFERENCE}</ReferenceCode><Url>{address}/GetStatement</Url></FlexStatementResponse>"
    )
