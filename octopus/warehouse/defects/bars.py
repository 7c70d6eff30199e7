"""Defects that bars show by themselves: impossible, repeated, without volume, spikes that go back, missing days.

Belongs here: judgements on bars and their neighbours that need no action and no adjusted close. Does not: units
(units.py), levels (seams.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from octopus.core.types import BoolArray, DateArray, FloatArray, IntArray
from octopus.warehouse.defects.repair import clear, drop, exchange, put, several
from octopus.warehouse.defects.tape import MUTE, PRICES, Tape, runs_of, seldomness
from octopus.warehouse.quality import Finding, Kind, Repair, Severity

RANGE_TOLERANCE = 1e-4
"""As in market_data/validate.py: how far, as a share of the price plus one unit, a price may lie outside the range."""
OUTSIDE_APART = 63
"""A quarter: an exchange whose range leaves its auctions out makes one finding and not a hundred."""
CHANCE = 1e-4
"""A run of flat bars is a defect where the instrument's own habit makes it rarer than this."""
HABIT_SESSIONS = 250
REPEATED_VOLUME = 1000.0
"""A volume that may repeat by chance: below it a single repeated bar says nothing."""
SPIKE_LEAST, SPIKE_REMAINDER = 0.02, 0.6
"""Of the log price, and what may be left of it next morning, as a share."""
SPIKE_EVIDENCE = 5.6
"""Sum of both seldomnesses less what speaks for news: in 9,270 symbol-years of the tuned halves 51 reached it, two
thirds of them bad bars."""
SPIKE_REMAINS = 0.2
"""What one log of what is left speaks against a spike: a bad tick comes back whole."""
LOUD_QUIET, LOUD_USUAL, LOUD, LOUD_BEYOND, LOUD_UNKNOWN = -0.5, 1.0, 2.0, 4.0, 6.0
"""News have volume: what one unit of loudness of the louder of both days counts against a spike, between the quietest
that matters and what is usual, and beyond it; quotes of the untraded wander, for them as much as of so loud a day."""
RANGE_USUAL, RANGE_LEAST, RANGE_MOST = 1.2, -0.7, 1.5
"""The range of a day in scales of moves; the bounds of the log beside it that counts against a bar that stands off."""
AT_END, NOT_AT_END, END_SLACK = -1.0, 3.0, 1e-6
"""What a close that is the high or the low of its day counts against a spike of the close alone, and one that is
neither: nothing else of that day was as far off as a bad close; of true moves away and back one in four ends there."""
YOUNG_SESSIONS = 63
"""Before a quarter has passed the scale itself is uncertain, by the root of what is missing."""
SPIKE_OWN = 0.5
"""Share of a spike that the price makes itself, whatever the market does."""
SPIKE_ALONE = 0.07
"""Without peers a day on which the whole market dips and recovers looks like a spike: of 49 stocks 14 times in five
years, at up to 6.5 %."""
ZERO_HABIT = 0.02
GAP_SEVERE_SESSIONS = 5


def impossible_bars(tape: Tape) -> list[Finding]:
    """Bars that no trading makes: a price missing, zero or negative, a high below the low, a close outside of both."""
    prices = {name: getattr(tape, name) for name in PRICES}
    slack = RANGE_TOLERANCE * (1 + np.nan_to_num(tape.close))
    holes = {name: np.isnan(values) & _usual(tape, values) for name, values in prices.items()}
    with np.errstate(invalid="ignore"):
        crossed = tape.high < tape.low - slack
        outside = {
            name: ~crossed & ((prices[name] > tape.high + slack) | (prices[name] < tape.low - slack))
            for name in ("open", "close")
        }
    found = [_crossed(tape, row) for row in np.flatnonzero(crossed).tolist()]
    # A bar without any price is one finding, and so are days on end without one.
    empty = holes["close"] & holes["open"] & holes["high"] & holes["low"]
    found += [_empty(tape, start, stop) for start, stop in runs_of(empty, tape.first)]
    for name in PRICES:
        found += [_hole(tape, name, row) for row in np.flatnonzero(holes[name] & ~empty).tolist()]
    for name, flags in outside.items():
        rows = np.flatnonzero(flags)
        ends = np.flatnonzero(np.diff(rows) > OUTSIDE_APART) + 1
        for cluster in np.split(rows, ends):
            for part in np.split(cluster, np.flatnonzero(np.diff(tape.code[cluster])) + 1):
                found += [_outside(tape, name, part.tolist())] if len(part) else []
    return found


def _empty(tape: Tape, start: int, stop: int) -> Finding:
    return tape.finding(
        Kind.IMPOSSIBLE_BAR, Severity.SEVERE, (start, stop - 1), start, {"sessions": stop - start},
        f"no price at all from {tape.day(start)} to {tape.day(stop - 1)}", "ingest these days again, or leave them out",
        drop(tape.day(start), tape.day(stop - 1)),
    )  # fmt: skip


def _usual(tape: Tape, values: FloatArray) -> BoolArray:
    """Whether the instrument had this field on most bars so far: a source without opens is not full of holes."""
    if not np.isnan(values).any():
        return np.ones(len(values), dtype=bool)
    return np.nan_to_num(tape.trailing_median(np.isnan(values).astype(np.float64), HABIT_SESSIONS, 1)) < 0.5


def _crossed(tape: Tape, row: int) -> Finding:
    low, high = tape.high[row], tape.low[row]
    inside = all(low * 0.9999 <= price <= high * 1.0001 for price in (tape.open[row], tape.close[row]))
    return tape.finding(
        Kind.IMPOSSIBLE_BAR, Severity.SEVERE, (row, row), row,
        {"high": float(tape.high[row]), "low": float(tape.low[row])},
        f"high {tape.high[row]:g} is below low {tape.low[row]:g} on {tape.day(row)}",
        "exchange them" if inside else "ingest the bar again or take it from a second source",
        exchange(tape.day(row), ("high", "low")) if inside else put(tape.day(row), {"high": None, "low": None}),
    )  # fmt: skip


def _hole(tape: Tape, name: str, row: int) -> Finding:
    repair: Repair = put(tape.day(row), {name: None})
    if name == "close":
        repair = _close_from_adjusted(tape, row) or drop(tape.day(row), tape.day(row))
    return tape.finding(
        Kind.IMPOSSIBLE_BAR, Severity.SEVERE if name == "close" else Severity.WARN, (row, row), row, {"field": name},
        f"{name} is missing or not positive on {tape.day(row)}", "ingest the bar again or take it from a second source",
        repair,
    )  # fmt: skip


def _outside(tape: Tape, name: str, rows: list[int]) -> Finding:
    row, prices = rows[0], getattr(tape, name)
    steps = [_close_from_adjusted(tape, one) if name == "close" else put(tape.day(one), {"open": None}) for one in rows]
    repairs = [step for step in steps if step is not None]
    more = f" and {len(rows) - 1} times more until {tape.day(rows[-1])}" if len(rows) > 1 else ""
    return tape.finding(
        Kind.IMPOSSIBLE_BAR, Severity.WARN, (row, rows[-1]), row,
        {"field": name, "price": float(prices[row]), "low": float(tape.low[row]), "high": float(tape.high[row]),
         "bars": len(rows)},
        f"{name} {prices[row]:g} lies outside {tape.low[row]:g} to {tape.high[row]:g} on {tape.day(row)}{more}",
        "take the bar from a second source; where it happens often, the range leaves the closing auction out",
        (several(*repairs) if len(repairs) > 1 else repairs[0]) if repairs else None,
    )  # fmt: skip


def _close_from_adjusted(tape: Tape, row: int) -> Repair | None:
    """The close that the adjusted close of the row implies; None where it does not fit into the day's range."""
    if tape.first[row]:
        return None
    ratio = tape.adj_close[row - 1] / tape.close[row - 1] * np.exp(tape.log_split[row])
    implied = float(tape.adj_close[row] / ratio)
    slack = 1e-3 * implied
    fits = tape.low[row] - slack <= implied <= tape.high[row] + slack
    return put(tape.day(row), {"close": implied}) if fits else None


def repeated_bars(tape: Tape) -> list[Finding]:
    """The last bar delivered again, volume and all, or its close standing flat without volume."""
    same = np.ones(len(tape), dtype=bool)
    for name in (*PRICES, "volume"):
        values = getattr(tape, name)
        same &= values == tape.before(values)
    flat = (tape.high == tape.low) & (tape.close == tape.before(tape.close)) & ~(tape.volume > 0)
    alive = tape.volume >= REPEATED_VOLUME
    ranged = same & (tape.high > tape.low)
    found = [
        _frozen(tape, start, stop, start, "repeat the bar before, with its volume")
        for start, stop in runs_of(ranged & alive, tape.first)
    ]
    standing = flat | (same & (tape.volume > 0) & ~(ranged & alive))
    habit = _habit(tape, standing)
    for start, stop in runs_of(standing, tape.first):
        needed = _needed(float(habit[start]))
        if stop - start >= needed:
            found.append(_frozen(tape, start, stop, start + needed - 1, "stand still at the last price without volume"))
    return found


def _habit(tape: Tape, flags: BoolArray) -> FloatArray:
    """How often ``flags`` was True in the year before each row, at least half a time."""
    index = np.arange(len(tape)) - tape.starts[np.searchsorted(tape.starts, np.arange(len(tape)), side="right") - 1]
    total = np.concatenate(([0], np.cumsum(flags)))
    window = np.minimum(index, HABIT_SESSIONS)
    rows = np.arange(len(tape))
    counted: FloatArray = (total[rows] - total[rows - window] + 0.5) / np.maximum(window + 1.0, 20.0)
    return np.minimum(counted, 0.95)


def _needed(habit: float) -> int:
    return max(2, int(np.ceil(np.log(CHANCE) / np.log(habit))))


def _frozen(tape: Tape, start: int, stop: int, known: int, how: str) -> Finding:
    count = stop - start
    return tape.finding(
        Kind.FROZEN_BAR, Severity.WARN, (start, stop - 1), known, {"sessions": count},
        f"{count} bar{'s' if count > 1 else ''} from {tape.day(start)} {how}",
        "take these days from a second source: the instrument was halted, or the vendor carried its last bar on",
        drop(tape.day(start), tape.day(stop - 1)),
    )  # fmt: skip


def zero_volumes(tape: Tape) -> list[Finding]:
    """Bars without volume whose price moves, where the instrument is not one that is quoted without trading."""
    empty = tape.volume == 0
    with np.errstate(invalid="ignore"):
        moves = empty & ((tape.high > tape.low) | (np.abs(tape.raw_move) > 1e-9))
    usual = _habit(tape, empty) < ZERO_HABIT
    return [
        tape.finding(
            Kind.ZERO_VOLUME, Severity.WARN, (start, stop - 1), start, {"sessions": stop - start},
            f"no volume on {stop - start} session{'s' if stop - start > 1 else ''} from {tape.day(start)} although its "
            "price moves",
            "take the volume from a second source; liquidity limits must not read it as zero",
            clear(("volume",), tape.day(start), tape.day(stop - 1)),
        )
        for start, stop in runs_of(moves, tape.first)
        if usual[start]
    ]  # fmt: skip


def price_spikes(tape: Tape) -> list[Finding]:
    """A bar, or its close, that stands far off and is taken back by the next open: known only then."""
    night_away, move_away = tape.gap - tape.market_gap, tape.move - tape.market
    # Between a split and its recorded day one bar stands off as well: splits.py names that.
    split = (tape.log_split != 0.0) | (tape.after(tape.log_split) != 0.0)
    nights, closes = (
        np.where(split, 0.0, _there_and_back(tape, away, alone))
        for away, alone in ((night_away, tape.gap), (move_away, tape.move))
    )
    rows = np.flatnonzero(nights > 0)
    whole = _seldom_pairs(
        tape, rows, nights, night_away, tape.gap_scale_at(rows), _news(tape, rows) + _range(tape, rows)
    )
    rows = np.flatnonzero(closes > 0)
    close = _seldom_pairs(
        tape, rows, closes, move_away, tape.move_scale_at(rows), _news(tape, rows) + _end(tape, rows, move_away)
    )
    return [_spike(tape, row) for row in np.union1d(whole, close).tolist()]


def _seldom_pairs(
    tape: Tape, rows: IntArray, sizes: FloatArray, away: FloatArray, scale: FloatArray, against: FloatArray
) -> IntArray:
    """Those of ``rows`` whose instrument leaves and comes back by so much so seldom that the bar is wrong.

    Args:
        sizes: of both moves, shape (rows of the tape,). away: moves or gaps without the market. scale: of ``away``, at
            ``rows``. against: what speaks for news there.
    """
    back = tape.gap - tape.market_gap
    young = np.sqrt(YOUNG_SESSIONS / np.clip(rows - tape.begin(rows), 1, YOUNG_SESSIONS))
    left = _remainder(tape)[rows] / np.maximum(sizes[rows], SPIKE_LEAST)
    against = against + SPIKE_REMAINS * np.log(np.maximum(left, 0.05) / SPIKE_REMAINDER)
    moves = ((away, scale * young), (back, tape.gap_scale_at(rows + 1) * young))
    # What the instrument did before only speaks against a spike, and takes long to look up.
    most = seldomness(sizes[rows] / moves[0][1]) + seldomness(sizes[rows] / moves[1][1]) - against
    chosen = most > SPIKE_EVIDENCE
    rows, against = rows[chosen], against[chosen]
    both = [tape.seldomness(own, sizes[rows], one[chosen], rows) for own, one in moves]
    kept: IntArray = rows[both[0] + both[1] - against > SPIKE_EVIDENCE]
    return kept


def _news(tape: Tape, rows: IntArray) -> FloatArray:
    """What the volume of a day and the next says for news; of a day without most of its volume, that it may be any."""
    day, next_day = tape.loudness_at(rows), tape.loudness_at(rows + 1)
    loudness = np.fmax(day, np.nan_to_num(next_day))
    loudness = np.where(np.fmin(day, next_day) < MUTE, np.fmax(loudness, LOUD_USUAL), loudness)
    usual = LOUD * np.clip(loudness, LOUD_QUIET, LOUD_USUAL) + LOUD_BEYOND * np.maximum(loudness - LOUD_USUAL, 0.0)
    return np.where(np.isnan(day) | ~tape.trades_at(rows), LOUD_UNKNOWN, usual)


def _range(tape: Tape, rows: IntArray) -> FloatArray:
    """What the range of a day says for news: a bar that stands off whole is no longer than others."""
    spread = np.log(np.maximum(tape.high[rows] / tape.low[rows], 1.0)) / (RANGE_USUAL * tape.move_scale_at(rows))
    longer: FloatArray = np.clip(np.nan_to_num(np.log(np.maximum(spread, 1e-9))), RANGE_LEAST, RANGE_MOST)
    return longer


def _end(tape: Tape, rows: IntArray, away: FloatArray) -> FloatArray:
    """What the place of the close in its day's range says for news.

    Args:
        away: moves, of which the sign is read, shape (rows of the tape,).
    """
    up, close = away[rows] > 0, tape.close[rows]
    end = np.where(up, tape.high[rows], tape.low[rows])
    with np.errstate(invalid="ignore"):
        within = np.where(up, close < end * (1 - END_SLACK), close > end * (1 + END_SLACK))
    return np.where(np.isnan(end), 0.0, np.where(within, NOT_AT_END, AT_END))


def _remainder(tape: Tape) -> FloatArray:
    """What is left of the move once the next morning has opened."""
    rest: FloatArray = np.abs(tape.move - tape.market + tape.after(tape.gap - tape.market_gap))
    return rest


def _there_and_back(tape: Tape, away: FloatArray, alone: FloatArray) -> FloatArray:
    """The lesser of ``away`` and the opposite gap of the next morning, 0 where the price does not come back.

    ``alone`` is ``away`` without the market: what stands still while the market leaves and returns is no spike.
    """
    back = tape.after(tape.gap - tape.market_gap)
    lesser = np.fmin(np.abs(away), np.abs(back))
    with np.errstate(invalid="ignore"):
        spike = (
            (away * back < 0)
            & (_remainder(tape) < SPIKE_REMAINDER * lesser)
            & (lesser > np.where(tape.alone, SPIKE_ALONE, SPIKE_LEAST))
            & (np.sign(away) * alone > SPIKE_OWN * lesser)
            & (np.sign(back) * tape.after(tape.gap) > SPIKE_OWN * lesser)
        )
    return np.where(spike, lesser, 0.0)


def _spike(tape: Tape, row: int) -> Finding:
    away, back = float(tape.move[row]), float(tape.gap[row + 1])
    return tape.finding(
        Kind.PRICE_SPIKE, Severity.SEVERE, (row, row), row + 1, {"move": away, "back": back},
        f"moves {np.expm1(away):+.1%} on {tape.day(row)} on ordinary volume and opens {np.expm1(back):+.1%} next day",
        "compare with a second source; a bad tick is left out", drop(tape.day(row), tape.day(row)),
    )  # fmt: skip


def missing_days(tape: Tape, calendar: DateArray | None) -> list[Finding]:
    """Sessions between two bars of an instrument without a bar.

    Args:
        calendar: the exchange's sessions. None: the days on which at least half of the instruments that have begun
            and not ended have a bar; one instrument alone then has no gap.
    """
    days = _common_days(tape) if calendar is None else np.unique(calendar)
    place = np.searchsorted(days, tape.session)
    skipped = np.zeros(len(tape), dtype=np.int64)
    skipped[1:] = place[1:] - place[:-1] - 1
    skipped[tape.first] = 0
    # A bar on a day that is no session makes no gap.
    return [_gap(tape, row, days, int(place[row])) for row in np.flatnonzero(skipped > 0).tolist()]


def _gap(tape: Tape, row: int, days: DateArray, place: int) -> Finding:
    missed = days[np.searchsorted(days, tape.session[row - 1], side="right") : place]
    count = len(missed)
    finding = tape.finding(
        Kind.CALENDAR_GAP, Severity.SEVERE if count > GAP_SEVERE_SESSIONS else Severity.WARN, (row, row), row,
        {"sessions": count}, f"no bar on {count} session{'s' if count > 1 else ''} from {missed[0]} to {missed[-1]}",
        "ingest these days again; if the vendor has none, the instrument was halted or the day is missing there",
    )  # fmt: skip
    return replace(finding, session_from=missed[0].astype(object), session_to=missed[-1].astype(object))


def _common_days(tape: Tape) -> DateArray:
    days, counts = np.unique(tape.session, return_counts=True)
    begun = np.searchsorted(np.sort(tape.session[tape.starts[:-1]]), days, side="right")
    ended = np.searchsorted(np.sort(tape.session[tape.starts[1:] - 1]), days, side="left")
    common: DateArray = days[counts * 2 >= begun - ended]
    return common
