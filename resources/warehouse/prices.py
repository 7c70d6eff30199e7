"""Recorded prices for the order path: what the paper broker fills with, what our own book is worth.

Belongs here: the answer to `PriceFeed` from bars, actions, the verdicts on both and the universe. Does not: research's
panels (store.py).

A verdict counts here as it does in marts.prices: what it keeps out prices no fill and values no position, what it
repairs is read as repaired, so that the simulator and the paper account trade at the same prices. A row of which no
verdict could be made yet (ops.unjudged) does not count before it has been judged.

Sessions are the clock's. An instrument with a calendar of its own is at each of them what the panel says it is
(octopus/market_data/clock.py), so that orders fill at the prices that the simulator takes. Money of another currency
than the account's is converted by the panel's rule, too (octopus/market_data/currencies.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np
import polars as pl

from octopus.core.currency import BASE, major_unit
from octopus.core.errors import MissingDataError
from octopus.core.panel import ADV_SESSIONS
from octopus.core.sessions import Calendars, Sessions
from octopus.execution.book import QUANTITY_STEP, CorporateAction, EntryKind
from octopus.market_data.adjust import PATIENCE_DAYS
from octopus.market_data.clock import last_on_clock, normal_lengths, on_clock, place_on_clock
from octopus.market_data.currencies import PATIENCE_SESSIONS, worths
from resources.price_feed import HOME, Bar, Conversion
from resources.warehouse.store import Warehouse

if TYPE_CHECKING:
    from resources.settings import Settings

PRICE_STEP = Decimal("0.000001")
"""Prices are stored as binary floats; this is the decimal they mean."""
FINDING_SHOWN = 12
"""Characters of a finding's name that name it."""
IN_FORCE: LiteralString = """
    select distinct on (session) session, ts, open, high, low, close, volume, excluded, decision, finding_id, decided_by
    from (
        select session, ts, open, high, low, close, volume, batch_id, ingested_at, false as excluded,
            null as decision, null as finding_id, null as decided_by
        from raw.bars
        where source = %(source)s and instrument = %(instrument)s and session between %(first)s and %(last)s
            and (batch_id >= (select batch_id from ops.unjudged where source = %(source)s)) is not true
        union all
        select session, ts, open, high, low, close, volume, batch_id, ingested_at,
            excluded or close is null, decision, finding_id, decided_by
        from raw.bar_verdicts
        where source = %(source)s and instrument = %(instrument)s and session between %(first)s and %(last)s
    ) versions
    order by session desc, batch_id desc, ingested_at desc
"""
"""The version of each bar that counts, the latest session first: the vendor's last one, or a verdict after it."""


_PAYS = (EntryKind.DIVIDEND, EntryKind.SPIN_OFF, EntryKind.DELISTING)
"""Actions whose value is money."""
_EXCHANGES = (EntryKind.SYMBOL_CHANGE, EntryKind.SPLIT)
"""Actions that say what a share of before is today."""


@dataclass(frozen=True)
class WarehousePrices:
    """`PriceFeed` over one source's bars, each in its latest version.

    Attributes:
        warehouse: in a role that may read raw and the marts. source: whose bars. clock: whose sessions are asked for.
        base, pairs: the account's currency, and by currency the instrument that is its rate (universe.rates).
    """

    warehouse: Warehouse
    source: str
    clock: Sessions
    base: str = BASE
    pairs: Mapping[str, str] = field(default_factory=dict)
    _units: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def bar(self, instrument: str, session: date) -> Bar | None:
        """The bar of ``session``; None where there is none."""
        keeps_clock = self._calendars().of(instrument) == self.clock
        found = self._bar(instrument, session) if keeps_clock else self._bar_on_clock(instrument, session)
        if found is None or (conversion := self.conversion(instrument, session)) is None:
            return None
        return replace(found, conversion=conversion)

    def kept_out(self, instrument: str, session: date) -> str:
        """Why the bar of ``session`` is not used though there is one; empty where nothing is kept out."""
        held = [row for row in self._in_force(instrument, *self._days(instrument, session)) if row["excluded"]]
        if not held or self.bar(instrument, session) is not None:
            return ""
        row, finding = held[0], held[0]["finding_id"][:FINDING_SHOWN]
        return (
            f"the bar of {instrument} on {row['session']} is kept out by finding {finding} ({row['decided_by']}: "
            f"{row['decision']}); `octopus quality decide {finding} keep|repair --reason ...` decides otherwise"
        )

    def conversion(self, instrument: str, session: date) -> Conversion | None:
        """How its money is converted on ``session``, by the rule of `octopus.market_data.currencies.in_base`; None
        before the first rate.

        Raises:
            MissingDataError: it has no pair, or the pair's last bar is too old.
        """
        unit = self._unit(instrument)
        if unit == self.base:
            return HOME
        major, part = major_unit(unit)
        if major == self.base:
            return Conversion(Decimal(repr(part)))
        pair = self.pairs.get(major)
        if pair is None:
            raise MissingDataError(
                f"{instrument}: quoted in {unit}, the account counts in {self.base}, and universe.rates has no pair "
                f"of {major}; name one"
            )
        rate = self._rate(pair, unit, session)
        return None if rate is None else Conversion(rate, is_foreign=True)

    def _rate(self, pair: str, unit: str, session: date) -> Decimal | None:
        """The last rate known at the decision of ``session``; None before the first."""
        own = self._calendars().of(pair)
        last = last_on_clock(session, own, self.clock)
        rows = self._last_counting(pair, last - timedelta(days=30), last) or self._last_counting(pair, date.min, last)
        if not rows:
            return None
        told = place_on_clock(rows[0]["session"], own, self.clock)
        if told < self.clock.previous(session, PATIENCE_SESSIONS):
            raise MissingDataError(
                f"universe.rates: {pair} has no bar since {told}, and a rate stands for {PATIENCE_SESSIONS} sessions: "
                f"what is quoted in {unit} has none on {session}; ingest the pair's bars again"
            )
        close = np.array([rows[0]["close"]], dtype=np.float64)
        (rate,) = worths(close, unit, self.base, pair, self._unit(pair)).tolist()
        return Decimal(repr(rate))

    def _unit(self, instrument: str) -> str:
        """What its prices are told in; an instrument that was renamed may be described by its earlier name alone."""
        if instrument not in self._units:
            found = self.warehouse.scalar(
                "select currency from raw.instruments where source = %s and instrument = %s "
                "order by ts desc, batch_id desc limit 1",
                [self.source, instrument],
            )
            if found is None:
                change = self._change_to(instrument, date.max)
                if change is None and self.pairs:
                    raise MissingDataError(
                        f"no description says in which currency {instrument} is quoted; ingest raw/instruments"
                    )
                found = self.base if change is None else self._unit(change["instrument"])
            self._units[instrument] = str(found)
        return self._units[instrument]

    def _in_base(self, instrument: str, amount: Decimal, session: date) -> Decimal | None:
        conversion = self.conversion(instrument, session)
        return None if conversion is None else amount * conversion.rate

    def _bar(self, instrument: str, session: date) -> Bar | None:
        rows = [row for row in self._in_force(instrument, session, session) if not row["excluded"]]
        return _bar_of(rows[0]) if rows else None

    def _bar_on_clock(self, instrument: str, session: date) -> Bar | None:
        rows = [row for row in self._in_force(instrument, *self._days(instrument, session)) if not row["excluded"]]
        bars = pl.DataFrame(
            [{name: row[name] for name in ("session", "open", "high", "low", "close", "volume")} for row in rows],
            schema={"session": pl.Date, **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64)},
        ).select(pl.lit(instrument).alias("instrument"), pl.all(), split_ratio=pl.lit(1.0), dividend=pl.lit(0.0))
        joined = on_clock(bars, self._calendars(), session).to_dicts()
        return _bar_of(joined[0]) if joined else None

    def _days(self, instrument: str, session: date) -> tuple[date, date]:
        """First and last session of the instrument's own calendar that the clock's ``session`` holds."""
        own = self._calendars().of(instrument)
        if own == self.clock:
            return session, session
        last = last_on_clock(session, own, self.clock)
        return own.next(last_on_clock(self.clock.previous(session), own, self.clock)), last

    def _in_force(self, instrument: str, first: date, last: date) -> list[dict[str, Any]]:
        asked = {"source": self.source, "instrument": instrument, "first": first, "last": last}
        return self.warehouse.rows(IN_FORCE, asked)

    def _calendars(self) -> Calendars:
        return self.warehouse.calendars(self.source, self.clock)

    def last_session(self) -> date | None:
        """The latest session of which any bar is stored and judged; None before the first.

        Of instruments that keep the clock, where any does: a coin's Sunday says nothing of Monday's shares.
        """
        calendars = self._calendars()
        elsewhere = calendars.elsewhere()
        latest: date | None = self.warehouse.scalar(
            """
            select max(session) from raw.bars
            where source = %(source)s and not instrument = any(%(apart)s)
                and (batch_id >= (select batch_id from ops.unjudged where source = %(source)s)) is not true
            """,
            {"source": self.source, "apart": list(elsewhere)},
        )
        if latest is not None or not elsewhere:
            return latest
        rows = self.warehouse.rows(
            """
            select instrument, max(session) as session from raw.bars
            where source = %(source)s
                and (batch_id >= (select batch_id from ops.unjudged where source = %(source)s)) is not true
            group by instrument
            """,
            {"source": self.source},
        )
        return max((self._complete(row["session"], elsewhere[row["instrument"]]) for row in rows), default=None)

    def _complete(self, session: date, own: Sessions) -> date:
        """The clock's latest session whose last bar is no later than ``own``'s ``session``."""
        place = place_on_clock(session, own, self.clock)
        return place if last_on_clock(place, own, self.clock) <= session else self.clock.previous(place)

    def last_close(self, instrument: str, session: date, named: date | None = None) -> Decimal | None:
        """The latest close at or before ``session`` of who is called ``instrument`` on ``named`` (None: on it), at the
        session's rate."""
        close = self._printed_close(instrument, session, named)
        return None if close is None else self._in_base(instrument, close, session)

    def _printed_close(self, instrument: str, session: date, named: date | None = None) -> Decimal | None:
        change = self._change_to(instrument, named or session)
        if change is not None:
            close = self._last_close(instrument, change["session"], session)
            if close is not None:
                return close
            day_before = change["session"] - timedelta(days=1)
            earlier = self._printed_close(change["instrument"], min(session, day_before), day_before)
            if earlier is not None:
                return earlier
        # Without a change, and where the vendor tells the whole history by its latest name.
        return self._last_close(instrument, date.min, session)

    def expected_volume(self, instrument: str, since: datetime, until: datetime) -> Decimal:
        """Shares that the market is expected to trade between two instants of a session: its average day, evenly
        over a normal session, so that half a day is expected to trade its part alone.

        Nobody tells of a day's volume before its bar is there. Zero where no volume is known: nothing takes part then.
        A volume of before a split is counted in the shares of ``since``.
        """
        last = self.warehouse.rows(
            _counting(
                """
            select session, volume from counting where ts < %(since)s order by session desc limit %(sessions)s
            """
            ),
            {"source": self.source, "instrument": instrument, "first": date.min, "last": since.date(), "since": since,
             "sessions": ADV_SESSIONS},
        )  # fmt: skip
        known = [(row["session"], float(row["volume"])) for row in last if row["volume"] is not None]
        splits = self._splits(instrument, known[-1][0], since) if known else []
        volumes = [math.prod((ratio for day, ratio in splits if day > of), start=volume) for of, volume in known]
        mean = sum(volumes) / len(volumes) if volumes else 0.0
        session = self.clock.trade_date(until)
        (whole,) = normal_lengths(self.clock, np.array([session], dtype="datetime64[D]")).tolist()
        return Decimal(repr(mean)) * Decimal(repr((until - since) / whole))

    def _splits(self, instrument: str, after: date, until: datetime) -> list[tuple[date, float]]:
        """Ex-session and ratio of the splits after the close of session ``after`` that are effective by ``until``."""
        told = self._told({instrument}, self._calendars().of(instrument).close_utc(after), until, (EntryKind.SPLIT,))
        return [(row["session"], float(row["value"])) for row in told if row["ts"] <= until]

    def refusal(self, instrument: str, session: date) -> str:
        """Why nobody may open or enlarge a position in ``instrument`` on ``session``; empty where one may."""
        if instrument in self.pairs.values():
            return f"{instrument} is a rate of universe.rates, and is not traded"
        ended = self.warehouse.rows(
            """
            select session, detail from raw.corporate_actions
            where source = %s and instrument = %s and kind = 'delisting' and session < %s
            order by session desc, batch_id desc limit 1
            """,
            [self.source, instrument, session],
        )
        if ended:
            why = f" ({ended[0]['detail']})" if ended[0]["detail"] else ""
            return f"{instrument} was delisted on {ended[0]['session']}{why}"
        is_member = self.warehouse.scalar(
            """
            select true from marts.universe
            where source = %(source)s and instrument = %(instrument)s and known_to is null
                and coalesce(member_from, '-infinity') <= %(session)s and coalesce(member_to, 'infinity') >= %(session)s
            limit 1
            """,
            {"source": self.source, "instrument": instrument, "session": session},
        )
        return "" if is_member else f"{instrument} is no member of the universe on {session}"

    def actions(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        """Actions of ``instruments``, and of what they change to, that take effect after ``after``, by ``until``."""
        names = set(instruments)
        rows = self._told(names, after, until)
        renamed = {row["detail"] for row in rows if row["kind"] == "symbol_change" and after < row["ts"] <= until}
        if renamed - names:
            rows = self._told(names | renamed, after, until)
        effective = [action for row in rows if (action := self._action(row)) and after < action.at <= until]
        return sorted(effective, key=lambda action: (action.at, action.instrument, action.kind.value))

    def exchanges(self, instruments: Collection[str], after: datetime, until: datetime) -> Sequence[CorporateAction]:
        """Changes of symbol and splits of ``instruments``, and of what they changed to however often, in that time."""
        names, found = set(instruments), list[CorporateAction]()
        asked = names
        while asked:
            told = [self._action(row) for row in self._told(asked, after, until, _EXCHANGES)]
            effective = [action for action in told if action is not None and after < action.at <= until]
            found += effective
            asked = {one.detail for one in effective if one.kind is EntryKind.SYMBOL_CHANGE} - names
            names = names | asked
        return sorted(found, key=lambda action: (action.at, action.instrument))

    def _told(
        self, names: Collection[str], after: datetime, until: datetime, kinds: Collection[EntryKind] = tuple(EntryKind)
    ) -> list[dict[str, Any]]:
        """Actions as they count that may take effect in the time, by what was decided: a spin-off does once priced.

        Args:
            kinds: of them alone.
        """
        told = self.warehouse.rows(
            """
            select distinct on (instrument, session, kind) instrument, ts, session, kind, value, detail, excluded
            from (
                select instrument, ts, session, kind, value, detail, batch_id, ingested_at, false as excluded
                from raw.corporate_actions where source = %(source)s and instrument = any(%(names)s)
                    and (batch_id >= (select batch_id from ops.unjudged where source = %(source)s)) is not true
                union all
                select instrument, ts, session, kind, value, detail, batch_id, ingested_at, excluded
                from raw.action_verdicts where source = %(source)s and instrument = any(%(names)s)
            ) versions
            where ts <= %(until)s and kind = any(%(kinds)s)
                and ts > %(after)s - interval '1 day' * (case kind when 'spin_off' then %(patience)s else 2 end)
            order by instrument, session, kind, batch_id desc, ingested_at desc
            """,
            {"source": self.source, "names": sorted(names), "after": after, "until": until,
             "patience": PATIENCE_DAYS, "kinds": [kind.value for kind in kinds]},
        )  # fmt: skip
        return [self._priced(row) for row in told if not row["excluded"]]

    def _priced(self, row: dict[str, Any]) -> dict[str, Any]:
        """With the first close of the company that a spin-off founded, and its session; None where it has none yet."""
        priced: list[dict[str, Any]] = []
        if row["kind"] == EntryKind.SPIN_OFF.value:
            last = row["session"] + timedelta(days=PATIENCE_DAYS - 1)
            asked = {"source": self.source, "instrument": row["detail"], "first": row["session"], "last": last}
            priced = self.warehouse.rows(
                _counting("select session, close from counting order by session limit 1"), asked
            )
        return {**row, "priced": priced[0]["session"] if priced else None, "close": priced[0]["close"] if priced else 0}

    def _action(self, row: dict[str, Any]) -> CorporateAction | None:
        """The action of a row, money at its session's rate; None for a spin-off without a price, and without a rate."""
        kind, value, at = EntryKind(row["kind"]), decimal_price(row["value"]), row["ts"]
        if kind is EntryKind.SPIN_OFF:
            if row["priced"] is None:
                return None
            value = (Decimal(repr(row["value"])) * decimal_price(row["close"])).quantize(QUANTITY_STEP)
            at = self._calendars().of(row["detail"]).close_utc(row["priced"])
        elif kind is EntryKind.DELISTING:
            at = self._calendars().of(row["instrument"]).close_utc(row["session"])
        if kind in _PAYS:
            place = place_on_clock(row["session"], self._calendars().of(row["instrument"]), self.clock)
            worth = self._in_base(row["instrument"], value, place)
            if worth is None:
                return None
            value = worth
        return CorporateAction(kind, row["instrument"], value, at, row["detail"] or "", row["ts"])

    def _change_to(self, instrument: str, named: date) -> dict[str, Any] | None:
        rows = self.warehouse.rows(
            """
            select instrument, session from raw.corporate_actions
            where source = %s and kind = 'symbol_change' and detail = %s and session <= %s
            order by session desc, batch_id desc limit 1
            """,
            [self.source, instrument, named],
        )
        return rows[0] if rows else None

    def _last_close(self, instrument: str, first: date, session: date) -> Decimal | None:
        last = last_on_clock(session, self._calendars().of(instrument), self.clock)
        rows = self._last_counting(instrument, first, last)
        if not rows:
            return None
        close = decimal_price(rows[0]["close"])
        return close if rows[0]["session"] == last else self._in_shares_of(instrument, close, rows[0]["session"], last)

    def _last_counting(self, instrument: str, first: date, last: date) -> list[dict[str, Any]]:
        """Session and close of the last bar from ``first`` to ``last`` that no verdict keeps out, if there is one."""
        asked = {"source": self.source, "instrument": instrument, "first": first, "last": last}
        return self.warehouse.rows(
            _counting("select session, close from counting order by session desc limit 1"), asked
        )

    def _in_shares_of(self, instrument: str, close: Decimal, day: date, last: date) -> Decimal:
        """A close of ``day`` that stands for a later session, in the shares of that one."""
        after, until = (self._calendars().of(instrument).open_utc(one) for one in (day, last))
        for action in self._told({instrument}, after, until):
            if action["kind"] == EntryKind.SPLIT.value and after < action["ts"] <= until:
                close /= decimal_price(action["value"])
        return close.quantize(PRICE_STEP)


def _counting(select: LiteralString) -> LiteralString:
    """``select`` over the table ``counting``: `IN_FORCE` without bars that are kept out."""
    return "with counting as (select * from (" + IN_FORCE + ") chosen where not excluded) " + select  # noqa: S608


def _bar_of(row: Mapping[str, Any]) -> Bar:
    opening, high, low = (None if row[name] is None else decimal_price(row[name]) for name in ("open", "high", "low"))
    return Bar(opening, decimal_price(row["close"]), high=high, low=low)


def recorded_prices(settings: Settings, warehouse: Warehouse) -> WarehousePrices:
    """The configured source's, in the account's currency."""
    universe = settings.universe
    return WarehousePrices(warehouse, universe.market_data, settings.sessions, universe.currency, universe.rates)


def decimal_price(value: float) -> Decimal:
    """The decimal that a stored binary price means."""
    return Decimal(repr(value)).quantize(PRICE_STEP)
