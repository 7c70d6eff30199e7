"""Recorded prices for the order path: what the paper broker fills with, what our own book is worth.

Belongs here: the answer to `PriceFeed` from raw.bars, raw.corporate_actions and the universe. Does not: research's
panels (store.py).

Sessions are the clock's. An instrument with a calendar of its own is at each of them what the panel says it is
(octopus/market_data/clock.py), so that orders fill at the prices that the simulator takes. Money of another currency
than the account's is converted by the panel's rule, too (octopus/market_data/currencies.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from octopus.core.currency import BASE, major_unit
from octopus.core.errors import MissingDataError
from octopus.core.panel import ADV_SESSIONS
from octopus.core.sessions import Calendars, Sessions
from octopus.execution.book import QUANTITY_STEP, CorporateAction, EntryKind
from octopus.market_data.adjust import PATIENCE_DAYS
from octopus.market_data.clock import last_on_clock, on_clock, place_on_clock
from octopus.market_data.currencies import PATIENCE_SESSIONS, worths
from resources.price_feed import HOME, Bar, Conversion
from resources.warehouse.store import Warehouse

if TYPE_CHECKING:
    from resources.settings import Settings

PRICE_STEP = Decimal("0.000001")
"""Prices are stored as binary floats; this is the decimal they mean."""


_PAYS = (EntryKind.DIVIDEND, EntryKind.SPIN_OFF, EntryKind.DELISTING)
"""Actions whose value is money."""


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
        own = self._calendars().of(instrument)
        found = self._bar(instrument, session) if own == self.clock else self._bar_on_clock(instrument, session, own)
        if found is None or (conversion := self.conversion(instrument, session)) is None:
            return None
        return replace(found, conversion=conversion)

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
        rows = self.warehouse.rows(
            """
            select session, close from raw.bars where source = %s and instrument = %s and session <= %s
            order by session desc, batch_id desc limit 1
            """,
            [self.source, pair, last_on_clock(session, own, self.clock)],
        )
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
        rows = self.warehouse.rows(
            """
            select open, close from raw.bars
            where source = %s and instrument = %s and session = %s order by batch_id desc limit 1
            """,
            [self.source, instrument, session],
        )
        if not rows:
            return None
        opening = rows[0]["open"]
        return Bar(None if opening is None else decimal_price(opening), decimal_price(rows[0]["close"]))

    def _bar_on_clock(self, instrument: str, session: date, own: Sessions) -> Bar | None:
        last = last_on_clock(session, own, self.clock)
        first = own.next(last_on_clock(self.clock.previous(session), own, self.clock))
        bars = self.warehouse.read(
            """
            select distinct on (session) instrument, session, open, high, low, close, volume, 1::float8 as split_ratio,
                0::float8 as dividend
            from raw.bars where source = $1 and instrument = $2 and session between $3 and $4
            order by session, batch_id desc
            """,
            [self.source, instrument, first, last],
        )
        rows = on_clock(bars, self._calendars(), session).to_dicts()
        if not rows:
            return None
        opening = rows[0]["open"]
        return Bar(None if opening is None else decimal_price(opening), decimal_price(rows[0]["close"]))

    def _calendars(self) -> Calendars:
        return self.warehouse.calendars(self.source, self.clock)

    def last_session(self) -> date | None:
        """The latest session of which any bar is stored; None before the first.

        Of instruments that keep the clock, where any does: a coin's Sunday says nothing of Monday's shares.
        """
        calendars = self._calendars()
        elsewhere = calendars.elsewhere()
        latest: date | None = self.warehouse.scalar(
            "select max(session) from raw.bars where source = %s and not instrument = any(%s)",
            [self.source, list(elsewhere)],
        )
        if latest is not None or not elsewhere:
            return latest
        rows = self.warehouse.rows(
            "select instrument, max(session) as session from raw.bars where source = %s group by instrument",
            [self.source],
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
        """Shares that the market is expected to trade between two instants of a session: its average day, evenly.

        Nobody tells of a day's volume before its bar is there. Zero where no volume is known: nothing takes part then.
        """
        mean = self.warehouse.scalar(
            """
            select avg(volume) from (
                select distinct on (session) session, volume from raw.bars
                where source = %s and instrument = %s and ts < %s order by session desc, batch_id desc limit %s
            ) as last
            """,
            [self.source, instrument, since, ADV_SESSIONS],
        )
        session = self.clock.trade_date(until)
        whole = self.clock.close_utc(session) - self.clock.open_utc(session)
        return Decimal(repr(float(mean or 0))) * Decimal(repr((until - since) / whole))

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

    def _told(self, names: Collection[str], after: datetime, until: datetime) -> list[dict[str, Any]]:
        """Latest versions of actions that may take effect in the time: a spin-off does once it is priced."""
        return self.warehouse.rows(
            """
            select distinct on (a.instrument, a.ts, a.kind) a.instrument, a.ts, a.session, a.kind, a.value, a.detail,
                p.session as priced, p.close
            from raw.corporate_actions a
            left join lateral (
                select b.session, b.close from raw.bars b
                where a.kind = 'spin_off' and b.source = a.source and b.instrument = a.detail
                    and b.session >= a.session and b.session < a.session + %(patience)s
                order by b.session, b.batch_id desc limit 1
            ) p on true
            where a.source = %(source)s and a.instrument = any(%(names)s) and a.ts <= %(until)s
                and a.ts > %(after)s - interval '1 day' * (case a.kind when 'spin_off' then %(patience)s else 2 end)
            order by a.instrument, a.ts, a.kind, a.batch_id desc
            """,
            {"source": self.source, "names": sorted(names), "after": after, "until": until,
             "patience": PATIENCE_DAYS},
        )  # fmt: skip

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
        close = self.warehouse.scalar(
            """
            select close from raw.bars
            where source = %s and instrument = %s and session between %s and %s
            order by session desc, batch_id desc limit 1
            """,
            [self.source, instrument, first, last],
        )
        return None if close is None else decimal_price(close)


def recorded_prices(settings: Settings, warehouse: Warehouse) -> WarehousePrices:
    """The configured source's, in the account's currency."""
    universe = settings.universe
    return WarehousePrices(warehouse, universe.market_data, settings.sessions, universe.currency, universe.rates)


def decimal_price(value: float) -> Decimal:
    """The decimal that a stored binary price means."""
    return Decimal(repr(value)).quantize(PRICE_STEP)
