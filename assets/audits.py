"""The audit of a day: how much of the warehouse it reads, and what it finds there.

Belongs here: reading for the audit, and how far the last one went. Does not: whom a day looks at whole
(octopus/warehouse/suspects.py), detectors (octopus/warehouse).

All of history is read the first time, on the first session of each month, when settings change, for an earlier session
than the last audit's, and of an index of total return, whose rounding is that of all its prices. On any other day
everyone is screened on the last months, and only suspects are read whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Literal, LiteralString, Protocol, cast

import numpy as np
import polars as pl

from octopus.core.ids import fingerprint
from octopus.core.panel import Panel
from octopus.core.sessions import Calendars, Sessions
from octopus.core.types import DateArray
from octopus.market_data.identifiers import of_same_instruments
from octopus.warehouse import suspects, withdrawals
from octopus.warehouse.defects.audit import audit, screen
from octopus.warehouse.defects.disagreement import disagreement
from octopus.warehouse.payers import usual_payers
from octopus.warehouse.quality import (
    FINDINGS_SCHEMA,
    STALE_SESSIONS,
    Extents,
    Finding,
    Kind,
    extents_of,
    find_all,
    find_in_extents,
    find_in_prices,
    finding_rows,
)
from resources.settings import Settings
from resources.warehouse.store import Warehouse
from resources.warehouse.verdicts import vendor_actions, vendor_bars
from resources.warehouse.withdrawals import read as read_withdrawals

_KEPT = 2
_audited: OrderedDict[str, list[Finding]] = OrderedDict()
_suspected: OrderedDict[str, frozenset[str]] = OrderedDict()

CHANGED: LiteralString = """
    select instrument from raw.bars
    where source = any(%(sources)s) and batch_id > %(batch)s and known_at <= %(as_of)s and session < %(since)s
    union
    select instrument from raw.adjusted_closes
    where source = any(%(sources)s) and batch_id > %(batch)s and known_at <= %(as_of)s and session < %(since)s
    union
    select instrument from raw.bar_verdicts
    where source = any(%(sources)s) and batch_id > %(batch)s and known_at <= %(as_of)s
    union
    select instrument from raw.action_verdicts
    where source = any(%(sources)s) and batch_id > %(batch)s and known_at <= %(as_of)s
    union
    select instrument from raw.withdrawals
    where source = any(%(sources)s) and batch_id > %(batch)s and known_at <= %(as_of)s
"""
"""Instruments with a verdict or a withdrawal since the last audit, or with another bar than a screen judges."""

ACTED: LiteralString = """
    select source, instrument, kind, session from raw.corporate_actions
    where source = any(%(sources)s) and batch_id > %(batch)s and known_at <= %(as_of)s and session <= %(session)s
    union
    select source, instrument, kind, session from raw.corporate_actions
    where source = any(%(sources)s) and session > %(last)s and known_at <= %(as_of)s and session <= %(session)s
        and ts >= %(last)s
"""
"""Actions that arrived since the last audit, or took effect since: a dividend may be told weeks ahead."""

BEGUN: LiteralString = """
    select name, b.session from unnest(%s::text[]) name
    cross join lateral (
        select session from raw.bars where source = %s and instrument = name and known_at <= %s order by ts limit 1
    ) b
"""

UNSEEN: LiteralString = """
    select min(batch_id) from (
        select batch_id, known_at, source from raw.bars where batch_id > %(batch)s
        union all select batch_id, known_at, source from raw.adjusted_closes where batch_id > %(batch)s
        union all select batch_id, known_at, source from raw.corporate_actions where batch_id > %(batch)s
        union all select batch_id, known_at, source from raw.bar_verdicts where batch_id > %(batch)s
        union all select batch_id, known_at, source from raw.action_verdicts where batch_id > %(batch)s
        union all select batch_id, known_at, source from raw.withdrawals where batch_id > %(batch)s
    ) arrived
    where source = any(%(sources)s) and known_at > %(as_of)s
"""
"""First batch with a row that is stored and not known yet at the audit's instant: it is news to a later one."""


@dataclass(frozen=True)
class Looked:
    """Vendor's rows that were looked at whole, with the bars and splits of peers, and the findings on them.

    Attributes:
        names: whose findings these are; None: of everyone.
    """

    bars: pl.DataFrame
    actions: pl.DataFrame
    findings: list[Finding]
    names: frozenset[str] | None


@dataclass(frozen=True)
class DayAudit:
    """The audit as of the decision of ``session``, of the configured source and those compared with it."""

    settings: Settings
    warehouse: Warehouse
    session: date

    @property
    def source(self) -> str:
        return self.settings.universe.market_data

    @property
    def sessions(self) -> Sessions:
        return self.settings.sessions

    @cached_property
    def calendars(self) -> Calendars:
        """The clock, and the calendar of each instrument."""
        return self.warehouse.calendars(self.source, self.sessions)

    @cached_property
    def as_of(self) -> datetime:
        return self.sessions.decision_utc(self.session)

    @cached_property
    def is_raw(self) -> bool:
        """Whether prices are as printed: an index of total return has no units and actions to be wrong."""
        basis = self.warehouse.scalar(
            "select price_basis from raw.instruments where source = %s limit 1", [self.source]
        )
        return bool(basis == "raw")

    @cached_property
    def last(self) -> dict[str, Any] | None:
        """How far the last audit went (ops.quality_audits); None before the first."""
        rows = self.warehouse.rows("select * from ops.quality_audits where source = %s", [self.source])
        return rows[0] if rows else None

    @cached_property
    def whole(self) -> str | None:
        """Why all of history is read, in words; None on a day that reads the last months."""
        if not self.is_raw:
            return "an index of total return is judged whole"
        if self.last is None:
            return "the first audit"
        if self.last["settings"] != self._asked:
            return "settings have changed since the last audit"
        if self.last["session"] > self.session:
            return f"the last audit was of {self.last['session']}"
        if self.last["whole_on"].replace(day=1) < self.session.replace(day=1):
            return "the first session of a month"
        return None

    @cached_property
    def window(self) -> date:
        """First session of the bars that everyone is screened on."""
        return self.sessions.previous(self.since, suspects.SCALE_SESSIONS)

    @cached_property
    def since(self) -> date:
        """First session that a screen's finding must reach to be heard: what a run fetches again, or no audit has seen.

        The days before it had their own screen, and who has other rows of them now is looked at whole.
        """
        fetched_again = self.sessions.previous(self.session, self.settings.universe.refetch_sessions + 1)
        return fetched_again if self.last is None else min(fetched_again, self.last["session"])

    @cached_property
    def _begin(self) -> date:
        """First session of the prices that everyone is screened on: the shortest run of equal closes that is heard, and
        the close that a return is from, lie within. What of a longer run or gap is on record is looked at whole."""
        newest: date | None = self.warehouse.scalar(
            "select max(session) from marts.prices where source = %s", [self.source]
        )
        return self.sessions.previous(min(self.since, newest or self.since), STALE_SESSIONS)

    @cached_property
    def record(self) -> pl.DataFrame:
        """What is on record, of `FINDINGS_SCHEMA`."""
        labels = "\x1f".join([self.source, *map(self.label, self.settings.universe.compare_with)])
        found = self.warehouse.read(
            """
            select finding_id, source, instrument, kind, severity, session_from, session_to, evidence::text as evidence,
                message, remedy, known_at
            from ops.quality_findings where source = any(string_to_array($1, chr(31)))
            """,
            [labels],
        )
        return found.cast(cast(Any, FINDINGS_SCHEMA))

    @cached_property
    def withdrawn(self) -> list[Finding]:
        """What is said of rows that the vendor no longer sends: they are few, so a day knows them of everyone."""
        return withdrawals.findings(read_withdrawals(self.warehouse, self.source, self.as_of), self.sessions)

    def label(self, other: str) -> str:
        """As which the comparison with ``other`` is on record."""
        return f"{self.source} and {other}"

    def look(self, more: Collection[str] = ()) -> Looked:
        """The vendor's rows and what is wrong with them: of everyone, or of suspects and ``more``."""
        names = None if self.whole else frozenset(of_same_instruments(self._suspects() | frozenset(more), self._moved))
        read = None if names is None else suspects.beside(names, self.everyone)
        bars = vendor_bars(self.warehouse, self.source, self.as_of, read)
        actions = vendor_actions(self.warehouse, self.source, self.as_of, read)
        if names is not None:
            # What its peers paid says nothing about an instrument, and takes longest to judge.
            actions = actions.filter((pl.col("kind") == "split") | pl.col("instrument").is_in(names))
        found = audited(bars, self._still_sent(actions), self.calendars)
        if names is not None:
            found = suspects.of_instruments(found, names)
        return Looked(bars, pl.concat([actions, self._spun_off()]), found + self.withdrawn, names)

    def _spun_off(self) -> pl.DataFrame:
        """Spin-offs of whom one was withdrawn: no detector looks at them, but a verdict may be about them."""
        names = {one.instrument for one in self.withdrawn if one.kind is Kind.WITHDRAWN_SPIN_OFF and one.instrument}
        return vendor_actions(self.warehouse, self.source, self.as_of, names, kinds=["spin_off"])

    def _still_sent(self, actions: pl.DataFrame) -> pl.DataFrame:
        """``actions`` without those that were withdrawn: one that was moved is not there twice."""
        gone = withdrawals.single_actions(self.withdrawn)
        return actions.join(gone, on=gone.columns, how="anti", maintain_order="left")

    def rows(self) -> tuple[dict[str, pl.DataFrame], frozenset[str] | None]:
        """All findings as of the session, by label, and who was looked at whole (None: everyone); after the marts."""
        found: dict[str, list[Finding]] = {}
        if self.whole:
            found[self.source], names = find_all(self._panel()), None
            if self.is_raw:
                looked = self.look()
                found[self.source] = looked.findings + found[self.source]
                found |= self._comparisons(looked)
            else:
                found[self.source] += self.withdrawn
        else:
            lately = self._panel(since=self._begin)
            screened = find_in_prices(lately)
            shown = suspects.suspects(screened, self.record, self.source, self.since, ())
            looked = self.look(shown)
            names = looked.names or frozenset()
            of_source = [one for one in screened if one.instrument is None and one.session_from >= self.since]
            prices = find_in_prices(self._panel(instruments=suspects.beside(names, self.everyone))) if names else []
            of_prices = [*suspects.of_instruments(prices, names), *of_source, *find_in_extents(self._extents(lately))]
            found[self.source] = looked.findings + of_prices
            found |= self._comparisons(looked)
        return {label: self._joined(label, some, names) for label, some in found.items()}, names

    def done(self) -> None:
        """Put on record how far this audit went; what was stored since is left to the next."""
        last_batch = self.warehouse.scalar("select last_batch from ops.batch_counter")
        unseen = self.warehouse.scalar(UNSEEN, self._asking())
        row = {
            "source": self.source, "session": self.session, "batch_id": last_batch if unseen is None else unseen - 1,
            "whole_on": self.session if self.whole or self.last is None else self.last["whole_on"],
            "settings": self._asked, "audited_at": datetime.now(UTC),
        }  # fmt: skip
        self.warehouse.replace("ops.quality_audits", {"source": self.source}, pl.DataFrame([row]), keep=("audited_at",))

    # -- what a day reads --------------------------------------------------------------------------------------------

    @property
    def _asked(self) -> str:
        """Fingerprint of what shapes the findings and what becomes of them."""
        universe = self.settings.universe
        return fingerprint(self.settings.quality.model_dump(mode="json"), sorted(universe.compare_with))

    def _asking(self) -> dict[str, object]:
        batch = 0 if self.last is None else self.last["batch_id"]
        sources = [self.source, *self.settings.universe.compare_with]
        last = date.min if self.last is None else self.last["session"]
        return {
            "sources": sources, "batch": batch, "as_of": self.as_of, "since": self.since, "session": self.session,
            "last": last,
        }  # fmt: skip

    @cached_property
    def everyone(self) -> list[str]:
        """Names of all instruments of the source, in order."""
        rows = self.warehouse.rows(
            "select distinct instrument from raw.instruments where source = %s order by 1", [self.source]
        )
        return [row["instrument"] for row in rows]

    def _suspects(self) -> frozenset[str]:
        """Whom the vendor's rows make suspects; kept, because verdicts before the marts and reports after need it."""
        newest = self.warehouse.rows(
            "select table_name, max(batch_id) from ops.batches where table_name !~ 'verdicts' group by 1 order by 1"
        )
        key = fingerprint(self.warehouse.url, self.source, self.session, newest, self.last)
        if key not in _suspected:
            _suspected[key] = self._changed() | self._screened()
            while len(_suspected) > _KEPT:
                _suspected.popitem(last=False)
        return _suspected[key]

    def _changed(self) -> frozenset[str]:
        rows = self.warehouse.rows(CHANGED, self._asking())
        return frozenset(row["instrument"] for row in rows)

    def _screened(self) -> frozenset[str]:
        bars = vendor_bars(self.warehouse, self.source, self.as_of, since=self.window, stamped=False)
        actions = vendor_actions(self.warehouse, self.source, self.as_of, since=self.window)
        found = _by_calendar(screen, bars, self._still_sent(actions), self.calendars)
        names = suspects.suspects(found, self.record, self.source, self.since, self._returned(bars))
        names |= self._acted(bars, {finding.instrument for finding in found})
        for other in self.settings.universe.compare_with:
            theirs = vendor_bars(self.warehouse, other, self.as_of, since=self.window, stamped=False)
            names |= suspects.suspects(disagreement(bars, theirs), self.record, self.label(other), self.since, ())
        return names

    def _acted(self, bars: pl.DataFrame, shown: Collection[str | None]) -> frozenset[str]:
        """Who has an action that no audit has seen in effect; not who has only a payment like those before it.

        Args:
            bars: those of the screen. shown: instruments with a finding in it.
        """
        rows = self.warehouse.rows(ACTED, self._asking())
        acted = {row["instrument"] for row in rows}
        paid = [
            row["source"] == self.source and row["kind"] == "dividend" and row["session"] >= self.since for row in rows
        ]
        other = {row["instrument"] for row, only_paid in zip(rows, paid, strict=True) if not only_paid}
        payers = acted - other - set(shown) - suspects.mended(self.record, self.source)
        if not payers:
            return frozenset(acted)
        actions = vendor_actions(self.warehouse, self.source, self.as_of, payers)
        begun = {
            row["name"]: row["session"] for row in self.warehouse.rows(BEGUN, [list(payers), self.source, self.as_of])
        }
        theirs = bars.filter(pl.col("instrument").is_in(payers))
        return frozenset(acted - usual_payers(_actions(actions), _bars(theirs), begun, self.since))

    def _returned(self, bars: pl.DataFrame) -> frozenset[str]:
        """Who trades again after more than a screen's length without a bar: the gap is longer than what it sees."""
        begun = bars.group_by("instrument").agg(pl.col("session").min()).filter(pl.col("session") > self.window)
        if begun.is_empty():
            return frozenset()
        older = self.warehouse.rows(
            """
            select name from unnest(%s::text[]) name
            where exists (select from raw.bars where source = %s and instrument = name and session < %s)
            """,
            [begun["instrument"].to_list(), self.source, self.window],
        )
        return frozenset(row["name"] for row in older)

    def _panel(self, *, instruments: Collection[str] | None = None, since: date | None = None) -> Panel:
        # Of an index of total return it is said whether it has volume; all else is judged by closes and actions.
        return self.warehouse.panel(
            self.source, self.as_of, self.sessions, instruments=instruments, since=since, closes_only=self.is_raw
        )

    def _extents(self, lately: Panel) -> Extents:
        """First and last price of each instrument: a look into an index for its first, and one for its last where
        ``lately`` (a panel that begins later) has none of it, however long the history.

        Of whoever changed a ticker, or keeps another calendar than the clock, all of it is read.
        """
        seen = extents_of(lately)
        traded = pl.DataFrame({"instrument": seen.symbols, "last": seen.sessions[seen.last]})
        gone = sorted({*self.everyone} - {*seen.symbols})
        ends = self._ends("first", self.everyone).join(
            pl.concat([traded, self._ends("last", gone).cast(cast(Any, traded.schema))]), on="instrument"
        )
        apart = [*self._moved["ticker"], *self.calendars.elsewhere()]
        if apart:
            of = extents_of(self._panel(instruments=apart))
            whole = pl.DataFrame(
                {"instrument": of.symbols, "first": of.sessions[of.first], "last": of.sessions[of.last]}
            )
            ends = pl.concat([ends.filter(~pl.col("instrument").is_in(apart)), whole.cast(ends.schema)])
        ends = ends.sort("instrument")
        first, last = (ends[name].to_numpy().astype("datetime64[D]") for name in ("first", "last"))
        days = self.sessions.between(first.min().astype(object), last.max().astype(object))
        rows = [np.searchsorted(days, values).astype(np.int64) for values in (first, last)]
        return Extents(days, tuple(ends["instrument"]), rows[0], rows[1])

    def _ends(self, end: Literal["first", "last"], names: Collection[str]) -> pl.DataFrame:
        """First or last session (column ``end``) of the prices of each of ``names`` that has any."""
        return self.warehouse.read(
            f"""
            select i.instrument, p.session as {end} from unnest(string_to_array($3, chr(31))) i (instrument)
            cross join lateral (
                select session from marts.prices p
                where p.source = $1 and p.instrument = i.instrument
                    and p.known_from <= $2 and (p.known_to is null or p.known_to > $2)
                order by session {"asc" if end == "first" else "desc"} limit 1
            ) p
            """,  # noqa: S608  # one of two words of ours
            [self.source, self.as_of, "\x1f".join(names)],
        )

    @cached_property
    def _moved(self) -> pl.DataFrame:
        """Who changed a ticker, or had one that another bears now (`Warehouse.moved`)."""
        return self.warehouse.moved(self.source, self.as_of)

    def _comparisons(self, looked: Looked) -> dict[str, list[Finding]]:
        read = None if looked.names is None else sorted(looked.names)
        ours = looked.bars if read is None else looked.bars.filter(pl.col("instrument").is_in(read))
        return {
            self.label(other): disagreement(ours, vendor_bars(self.warehouse, other, self.as_of, read))
            for other in self.settings.universe.compare_with
        }

    def _joined(self, label: str, found: list[Finding], names: frozenset[str] | None) -> pl.DataFrame:
        # Two detectors may see one thing; the first one proposes a repair.
        new = finding_rows(found, label, self.calendars).unique("finding_id", keep="first", maintain_order=True)
        if names is None:
            return new
        kept = suspects.standing(self.record, label, names, self.since)
        return pl.concat([new, kept.filter(~pl.col("finding_id").is_in(new["finding_id"].to_list()))])


def audited(bars: pl.DataFrame, actions: pl.DataFrame, calendars: Calendars) -> list[Finding]:
    """Findings on what a vendor sent; the last are kept: verdicts are made of them before the marts, reports after.

    Args:
        bars, actions: of `resources.warehouse.verdicts.vendor_bars` and `vendor_actions`.
    """
    elsewhere = {name: own.exchange for name, own in calendars.elsewhere().items()}
    rows = (int(frame.hash_rows().sum()) if len(frame) else 0 for frame in (_bars(bars), _actions(actions)))
    key = fingerprint(*rows, len(bars), calendars.clock.exchange, elsewhere)
    if key not in _audited:
        _audited[key] = _by_calendar(audit, bars, actions, calendars)
        while len(_audited) > _KEPT:
            _audited.popitem(last=False)
    return _audited[key]


class _Detect(Protocol):
    def __call__(
        self, frame: pl.DataFrame, actions: pl.DataFrame, *, calendar: DateArray | None = None
    ) -> list[Finding]: ...


def _by_calendar(detect: _Detect, bars: pl.DataFrame, actions: pl.DataFrame, calendars: Calendars) -> list[Finding]:
    """Instruments of one calendar are judged together and by it: a Saturday without a bar is a gap of coins only."""
    found: list[Finding] = []
    everyone = bars["instrument"].unique().to_list()
    for own in dict.fromkeys((calendars.clock, *calendars.elsewhere().values())):
        names = [name for name in everyone if calendars.of(name) == own]
        if not names:
            continue
        theirs, acts = _bars(bars), _actions(actions).filter(pl.col("instrument").is_in(names))
        if len(names) < len(everyone):
            theirs = theirs.filter(pl.col("instrument").is_in(names))
        first, last = theirs["session"].min(), theirs["session"].max()
        if isinstance(first, date) and isinstance(last, date):
            found += detect(theirs, acts, calendar=own.between(first, last))
    return found


def _bars(of_vendor: pl.DataFrame) -> pl.DataFrame:
    return of_vendor.select("instrument", "session", "open", "high", "low", "close", "volume", "adj_close", "adj_as_of")


def _actions(of_vendor: pl.DataFrame) -> pl.DataFrame:
    return of_vendor.select("instrument", "session", "kind", "value")
