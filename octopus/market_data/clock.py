"""Bars of one calendar on the sessions of another: what an instrument was at each decision of the clock.

Belongs here: mapping bars to the clock's sessions and joining those that fall into one; how long the sessions are that
an average volume is of. Does not: the calendars
(core/sessions.py), reading bars (resources/warehouse).

A bar belongs to the first session of the clock whose decision could use it: the first that is decided when the bar, a
quarter of an hour after its own end, is published. So at Friday's decision in New York (21:30 UTC) a coin is its
Thursday, which ended at 24:00 UTC, and at Monday's it is its Sunday; Friday to Sunday make one bar of Monday, and the
return from Friday to Monday is the whole move. A currency pair (24/5) is likewise a day behind the shares beside it.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from octopus.core.panel import ADV_SESSIONS
from octopus.core.sessions import Calendars, Sessions
from octopus.core.types import DateArray
from octopus.market_data.schema import UTC_INSTANT
from octopus.market_data.stamps import BAR_PUBLICATION_DELAY

_REACH = timedelta(days=30)
"""Beyond any holiday: the clock's sessions around a range of bars lie within it."""


def normal_lengths(clock: Sessions, sessions: DateArray) -> NDArray[np.timedelta64]:
    """How long a session normally was, at each of ``sessions``: the median of it and the 20 before.

    An average volume is of that long a session: half a day is expected to trade the part of it that it lasts. (Markets
    trade less evenly: of half days too little is known to fit more.)

    Args:
        sessions: of the clock, ascending, shape (T,).

    Returns:
        From open to close, ``timedelta64[us]``, shape (T,).
    """
    days = clock.between(sessions[0].item() - 2 * timedelta(days=ADV_SESSIONS), sessions[-1].item())
    lengths = (clock.closes_utc(days) - clock.opens_utc(days)).to_numpy().astype("timedelta64[us]").astype(np.int64)
    # At the beginning of the calendar its first session stands for those before.
    reached = np.concatenate([np.full(ADV_SESSIONS - 1, lengths[0]), lengths])
    medians = np.median(np.lib.stride_tricks.sliding_window_view(reached, ADV_SESSIONS), axis=1)
    return np.asarray(medians[np.searchsorted(days, sessions)], dtype="timedelta64[us]")


def on_clock(bars: pl.DataFrame, calendars: Calendars, decided: date) -> pl.DataFrame:
    """Bars by the clock's sessions, one for each instrument and session; those that keep the clock stay as they are.

    Args:
        bars: instrument, session (of the instrument's own calendar, one bar each), close, split_ratio (new shares for
            one old, effective that session), dividend (per share after its split), where they are wanted open, high,
            low, volume and spin_off (as the dividend, null where it has no price), and whatever else, of which the last
            bar's value is kept.
        decided: the clock's last decided session. Later ones are left out: not all bars that they will hold are known.

    Returns:
        The same columns. Of bars that are joined: the close is the last one's; high, low and volume span all, in shares
        of the last, null where one is unknown; splits are multiplied and dividends summed, so that
        `octopus.market_data.returns.total_returns` gives the move over all of them. The open is the latest price made
        by the clock's open and after the decision before: the last close, or else the last open, or null. So neither
        the simulator nor the paper broker fills an order at a price from before it was decided.
    """
    elsewhere = calendars.elsewhere()
    if bars.is_empty() or not elsewhere:
        return bars
    kept = bars.filter(~pl.col("instrument").is_in(list(elsewhere)))
    parts = [kept]
    for calendar in sorted(set(elsewhere.values()), key=lambda one: one.exchange):
        names = [name for name, own in elsewhere.items() if own == calendar]
        own = bars.filter(pl.col("instrument").is_in(names))
        if not own.is_empty():
            placed = own.join(_places(own["session"], calendar, calendars.clock), on="session", how="inner")
            parts.append(_joined(placed.filter(pl.col("_at") <= decided)).select(bars.columns).cast(bars.schema))
    return pl.concat(parts)


def place_on_clock(session: date, calendar: Sessions, clock: Sessions) -> date:
    """The clock's session that a bar of ``calendar`` belongs to; ``session`` itself where they are one calendar."""
    if calendar == clock:
        return session
    (place,) = clock.session_of(pd.DatetimeIndex([calendar.close_utc(session) + BAR_PUBLICATION_DELAY]))
    found: date = place.item()
    return found


def last_on_clock(session: date, calendar: Sessions, clock: Sessions) -> date:
    """The last session of ``calendar`` whose bar belongs to the clock's ``session`` or an earlier one."""
    if calendar == clock:
        return session
    own = calendar.next(session + timedelta(days=1))
    while place_on_clock(own, calendar, clock) > session:
        own = calendar.previous(own)
    return own


def _places(days: pl.Series, calendar: Sessions, clock: Sessions) -> pl.DataFrame:
    """For each day that is a session of ``calendar``: the clock's session ``_at``, and the instants that the open's
    rule compares."""
    known = calendar.between(_day(days.min()), _day(days.max()))
    known = np.intersect1d(known, days.to_numpy().astype("datetime64[D]"))
    closes = calendar.closes_utc(known)
    at = clock.session_of(closes + BAR_PUBLICATION_DELAY)
    around = clock.between(_day(at[0]) - _REACH, _day(at[-1]))
    before = around[np.searchsorted(around, at) - 1]
    return pl.DataFrame(
        {
            "session": known.astype("datetime64[D]"), "_at": at.astype("datetime64[D]"),
            "_opened": _naive(calendar.opens_utc(known)), "_closed": _naive(closes),
            "_clock_open": _naive(clock.opens_utc(at)), "_decided": _naive(clock.decisions_utc(before)),
        }
    ).with_columns(pl.col("session", "_at").cast(pl.Date))  # fmt: skip


def _joined(placed: pl.DataFrame) -> pl.DataFrame:
    group = ["instrument", "_at"]
    ordered = placed.sort("instrument", "session").with_columns(
        # Shares at the end of the joined bars for one share at this bar's.
        _later=pl.col("split_ratio").product().over(group) / pl.col("split_ratio").cum_prod().over(group)
    )
    later = pl.col("_later")
    others = [name for name in placed.columns if not name.startswith("_") and name not in (*group, *_JOINED)]
    last_open = pl.col("_opened").last().is_between(pl.col("_decided").last(), pl.col("_clock_open").last())
    joined = {
        "open": pl.when(pl.col("_closed").last() <= pl.col("_clock_open").last())
        .then(pl.col("close").last())
        .when(last_open)
        .then(pl.col("open").last()),
        "high": _of_all("high", (pl.col("high") / later).max()),
        "low": _of_all("low", (pl.col("low") / later).min()),
        "close": pl.col("close").last(),
        "volume": _of_all("volume", (pl.col("volume") * later).sum()),
        "split_ratio": pl.col("split_ratio").product(),
        "dividend": (pl.col("dividend") / later).sum(),
        "spin_off": _of_all("spin_off", (pl.col("spin_off") / later).sum()),
    }
    return (
        ordered.group_by(group, maintain_order=True)
        .agg(
            *(pl.col(name).last() for name in others),
            **{name: value for name, value in joined.items() if name in placed.columns},
        )
        .rename({"_at": "session"})
    )


_JOINED = ("session", "open", "high", "low", "close", "volume", "split_ratio", "dividend", "spin_off")


def _of_all(name: str, value: pl.Expr) -> pl.Expr:
    """``value`` where every bar has its ``name``."""
    return pl.when(pl.col(name).is_not_null().all()).then(value)


def _naive(instants: pd.DatetimeIndex) -> pl.Series:
    moments = instants.tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[us]")
    return pl.Series(moments).cast(UTC_INSTANT)


def _day(value: object) -> date:
    return pd.Timestamp(str(value)).date()
