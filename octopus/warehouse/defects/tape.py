"""Raw bars and actions of many instruments as one run of arrays, and the returns and scales that detectors share.

Belongs here: the arrays, shifting within an instrument, trailing scales, the steps of the vendor's adjusted close, and
making a finding at rows. Does not: judging (the other modules of this package).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, DateArray, FloatArray, IntArray
from octopus.warehouse.quality import Finding, Kind, Repair, Severity

Basis = Literal["printed", "split_adjusted"]
"""Whether ``close`` is what was printed that day, or already divided by later splits (as Yahoo sends it)."""

PRICES = ("open", "high", "low", "close")
BARS_COLUMNS = ("instrument", "session", *PRICES, "volume")
ACTIONS_COLUMNS = ("instrument", "session", "kind", "value")
SCALE_SESSIONS, RECENT_SESSIONS, SCALE_MIN_SESSIONS = 63, 21, 12
MAD_TO_DEVIATION = 1.4826
"""From a median absolute deviation to the standard deviation of a normal variable."""
MOVE_UNKNOWN, MOVE_FLOOR = 0.03, 0.004
"""Daily scale where there is no history yet, and the least one."""
GAP_UNKNOWN, GAP_FLOOR = 0.02, 0.0025
PEERS_LEAST = 5
BETA_SESSIONS, BETA_MOST, MARKET_MOST = 126, 4.0, 0.15
"""Half a year tells how an instrument follows the market; single moves beyond a limit may be defects themselves."""
STRESS_PEERS = 12
"""Instruments of a session from which on their own spread says how wild the session is."""
TRADED_SHARE, TRADED_SPREAD = 0.95, 0.85
"""Of sessions; and of the log of their volumes, as a standard deviation: of large companies it is 0.3 to 0.5."""
TAIL_SESSIONS = 504
"""Two years: what an instrument did in them it may do again."""
STEP_EXACT = 3e-5
"""Adjusted closes are stored to six digits or so: smaller steps between adjusted and raw close are rounding."""
STEP_NOISE, STEP_NOISE_MOST = 4.0, 1e-3
CONVENTION_PAYMENTS, CONVENTION_SHARE = 3, 0.3
"""A convention is the instrument's where so many payments fit it that much better than the other."""
STEP_SHARE = 0.03
"""Vendors round cash and differ in which close they divide by: three percent of a dividend is no defect."""


CALM_JUMPS = (0.02, 0.03, 0.06, 0.08, 0.10, 0.15, 0.25, 0.40)
CALM_LOUDNESS = (-0.20, -0.10, 0.15, 0.20, 0.20, 0.60, 0.70, 1.30)
"""News that moves a price overnight moves volume: of 400 true jumps of the tuning half (1998 to 2021, the crash of 2008
among them) that held until the close none was as quiet as this less 0.1 (log of the month's median volume). Two days of
three are quieter than 0.10, three of four than 0.21, nine of ten than 0.53."""
CALM_RANGE = 0.4
"""And it is argued about during the day: of the untouched jumps that are as quiet as that and were true, most of the
tuned halves' have a range of more than this share of the jump; a level that was shifted has that of any day."""
MUTE = -1.5
"""Of the same log: less is seldom a quiet day (half days mostly have more); the vendor may have a part of it."""


@dataclass(frozen=True, eq=False)
class Tape:
    """Bars of all instruments one after the other, each ascending in time; every array has shape (rows,).

    Attributes:
        code: index into ``symbols``. session: ``datetime64[D]``.
        open, high, low, close: NaN where missing or not positive. volume: NaN where missing.
        adj_close: the vendor's own, adjusted for splits and dividends; all NaN where it gives none.
        split: new shares for one old effective since the previous bar, 1.0 on ordinary rows.
        dividend: cash for one share as held on the row, paid since the previous bar, 0.0 on ordinary rows.
        basis: of the prices.
    """

    symbols: tuple[str, ...]
    code: IntArray
    session: DateArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    adj_close: FloatArray
    split: FloatArray
    dividend: FloatArray
    basis: Basis

    def __len__(self) -> int:
        return len(self.code)

    @cached_property
    def first(self) -> BoolArray:
        """First row of each instrument."""
        flags: BoolArray = np.ones(len(self), dtype=bool)
        flags[1:] = self.code[1:] != self.code[:-1]
        return flags

    @cached_property
    def starts(self) -> IntArray:
        """First row of each instrument, and the number of rows at the end; shape (N + 1,)."""
        return np.append(np.flatnonzero(self.first), len(self)).astype(np.int64)

    def span(self, row: int) -> tuple[int, int]:
        """First row, and the row after the last, of the instrument at ``row``."""
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        return int(self.starts[index]), int(self.starts[index + 1])

    def before(self, values: FloatArray) -> FloatArray:
        """Each row's value one bar earlier, NaN on an instrument's first."""
        shifted = np.roll(values, 1)
        shifted[self.first] = np.nan
        return shifted

    def after(self, values: FloatArray) -> FloatArray:
        """Each row's value one bar later, NaN on an instrument's last."""
        shifted = np.roll(values, -1)
        shifted[self.starts[1:] - 1] = np.nan
        return shifted

    @cached_property
    def old_shares(self) -> FloatArray:
        """Log of what one share of the first bar has become by the row; prices plus it are on one level."""
        total: FloatArray = np.cumsum(self.log_split)
        return total

    def trailing_median(self, values: FloatArray, window: int, least: int, rows: IntArray | None = None) -> FloatArray:
        """Median of the ``window`` rows before each row (without it), NaN below ``least`` numbers.

        Args:
            rows: only at these, to the same bit; the result has their shape. A detector that first asks what costs
                little is left with one row of a thousand.
        """
        if rows is None:
            frame = pl.DataFrame({"code": self.code, "value": values}).with_columns(pl.col("value").fill_nan(None))
            median = pl.col("value").rolling_median(window, min_samples=least).shift(1).over("code")
            return frame.select(median.fill_null(float("nan"))).to_series().to_numpy().astype(np.float64)
        places = rows[:, None] - np.arange(window, 0, -1)
        return _median(values, places, places >= self.begin(rows)[:, None], least)

    def leading_median(self, values: FloatArray, window: int, rows: IntArray) -> FloatArray:
        """Median of each of ``rows`` and the ``window`` - 1 after it, NaN where fewer are left or half are missing."""
        places = rows[:, None] + np.arange(window)
        whole = places[:, -1] < self.end(rows)
        return _median(values, places, np.broadcast_to(whole[:, None], places.shape), window // 2)

    def begin(self, rows: IntArray) -> IntArray:
        """First row of the instrument of each of ``rows``."""
        return self.starts[self.code[rows]]

    def end(self, rows: IntArray) -> IntArray:
        """Row after the last of the instrument of each of ``rows``."""
        return self.starts[self.code[rows] + 1]

    def scale(self, values: FloatArray, unknown: float, floor: float, rows: IntArray | None = None) -> FloatArray:
        """Standard deviation of ``values`` as known before each row, robust: the larger of a month's and a quarter's.

        ``unknown`` where there is no history; at least ``floor``. Args: rows: as of `trailing_median`.
        """
        size = np.abs(values)
        quarter = self.trailing_median(size, SCALE_SESSIONS, SCALE_MIN_SESSIONS, rows)
        month = self.trailing_median(size, RECENT_SESSIONS, SCALE_MIN_SESSIONS, rows)
        deviation = MAD_TO_DEVIATION * np.fmax(quarter, month)
        elapsed = self._elapsed if rows is None else self._elapsed[rows]
        return np.maximum(np.where(np.isnan(deviation), unknown, deviation), floor) * elapsed

    @cached_property
    def _elapsed(self) -> FloatArray:
        """Root of the weekdays since the previous bar, one holiday allowed: over missing bars prices move further."""
        weekdays = np.ones(len(self))
        weekdays[1:] = np.busday_count(self.session[:-1], self.session[1:])
        root: FloatArray = np.sqrt(np.where(self.first, 1.0, np.maximum(weekdays - 1, 1.0)))
        return root

    @cached_property
    def log_split(self) -> FloatArray:
        """Log of the split: it takes as much off the log price; zero where prices are adjusted for it already."""
        none: FloatArray = np.zeros(len(self))
        return np.log(self.split).astype(np.float64) if self.basis == "printed" else none

    @cached_property
    def raw_move(self) -> FloatArray:
        """Log return from close to close, without splits and dividends."""
        return np.log(self.close) - self.before(np.log(self.close))

    @cached_property
    def raw_gap(self) -> FloatArray:
        """Log return from the last close to the open (to the close where there is no open)."""
        opened = np.where(np.isnan(self.open), self.close, self.open)
        return np.log(opened) - self.before(np.log(self.close))

    @cached_property
    def log_yield(self) -> FloatArray:
        """What the row's dividend takes off the price: ``log(1 - cash / previous close)``, at least log 0.02."""
        previous = self.before(self.close) * np.exp(-self.log_split)
        share = np.where(self.dividend > 0, self.dividend / previous, 0.0)
        return np.where(self.first, 0.0, np.log(np.maximum(1 - share, 0.02)))

    @cached_property
    def move(self) -> FloatArray:
        """Log return with splits, without dividends."""
        return self.raw_move + self.log_split

    @cached_property
    def gap(self) -> FloatArray:
        """Like ``move``, from the last close to the open."""
        return self.raw_gap + self.log_split

    @cached_property
    def move_scale(self) -> FloatArray:
        return self.scale(self.move, MOVE_UNKNOWN, MOVE_FLOOR) * self._move_stress

    @cached_property
    def gap_scale(self) -> FloatArray:
        return self.scale(self.gap, GAP_UNKNOWN, GAP_FLOOR) * self._gap_stress

    def move_scale_at(self, rows: IntArray) -> FloatArray:
        """``move_scale`` at ``rows`` alone."""
        return self.scale(self.move, MOVE_UNKNOWN, MOVE_FLOOR, rows) * self._move_stress[rows]

    def gap_scale_at(self, rows: IntArray) -> FloatArray:
        """``gap_scale`` at ``rows`` alone."""
        return self.scale(self.gap, GAP_UNKNOWN, GAP_FLOOR, rows) * self._gap_stress[rows]

    @cached_property
    def _move_stress(self) -> FloatArray:
        return self._stress(self.move - self.market)

    @cached_property
    def _gap_stress(self) -> FloatArray:
        return self._stress(self.gap - self.market_gap)

    def _stress(self, own: FloatArray) -> FloatArray:
        """By how much further each session's instruments leave the market than in the month and quarter before.

        Args:
            own: moves or gaps without the market. Returns: at least 1; 1 below `STRESS_PEERS` instruments.
        """
        frame = pl.DataFrame({"session": self.session, "size": np.abs(own)}).with_columns(pl.col("size").fill_nan(None))
        spread = frame.group_by("session").agg(pl.col("size").median(), count=pl.col("size").count()).sort("session")
        usual = pl.max_horizontal(
            pl.col("size").rolling_median(window, min_samples=SCALE_MIN_SESSIONS).shift(1)
            for window in (SCALE_SESSIONS, RECENT_SESSIONS)
        )
        ratio = pl.when((pl.col("count") >= STRESS_PEERS) & (usual > 0)).then(pl.col("size") / usual)
        known = spread.with_columns(ratio=ratio.otherwise(1.0).fill_null(1.0).clip(lower_bound=1.0))
        places = np.searchsorted(known["session"].to_numpy().astype("datetime64[D]"), self.session)
        result: FloatArray = known["ratio"].to_numpy()[places]
        return result

    def seldomness(self, own: FloatArray, size: FloatArray, scale: FloatArray, rows: IntArray) -> FloatArray:
        """Minus the log of how often the instrument leaves the market by ``size`` or more; shape of ``rows``.

        The tail of Student's t with two degrees of freedom at ``scale``, and what the instrument itself did in the two
        years before each row: in shares that jump at every quarter's figures that is most of it.

        Args:
            own: moves or gaps without the market, shape (rows of the tape,). size, scale: at ``rows``.
        """
        places = rows[:, None] - np.arange(1, TAIL_SESSIONS + 1)
        within = places >= self.begin(rows)[:, None]
        before = np.abs(own)[np.maximum(places, 0)]
        with np.errstate(invalid="ignore"):
            count = (within & (before >= size[:, None])).sum(axis=1)
        return seldomness(size / scale, count / TAIL_SESSIONS)

    @cached_property
    def market(self) -> FloatArray:
        """The part of each move that the market made: the session's median move times what the instrument makes of it.

        0 where fewer than `PEERS_LEAST` instruments have a bar. A fund of bonds follows the shares around it little,
        one that sells them short the other way round.
        """
        return self._made_by_market(self.move)

    @cached_property
    def market_gap(self) -> FloatArray:
        """Like ``market``, of gaps."""
        return self._made_by_market(self.gap)

    @cached_property
    def alone(self) -> BoolArray:
        """Rows of sessions with fewer than `PEERS_LEAST` instruments: a move may be the market's."""
        frame = pl.DataFrame({"session": self.session})
        return frame.select(pl.len().over("session") < PEERS_LEAST).to_series().to_numpy()

    def _made_by_market(self, values: FloatArray) -> FloatArray:
        """The session's median of ``values`` times the instrument's slope on it, by least squares over the half-year
        before, drawn to one as by a month of sessions with that slope."""
        middle = self._median_of_session(values)
        size = np.clip(values, -MARKET_MOST, MARKET_MOST)
        frame = pl.DataFrame(
            {"code": self.code, "both": size * middle, "own": np.where(np.isnan(size), np.nan, middle)}
        )
        products, squares = (
            value.fill_nan(None).rolling_mean(BETA_SESSIONS, min_samples=RECENT_SESSIONS).shift(1).over("code")
            for value in (pl.col("both"), pl.col("own") ** 2)
        )
        known = frame.select(both=products, own=squares)
        weight = BETA_SESSIONS / (BETA_SESSIONS + RECENT_SESSIONS)
        slope = pl.when(pl.col("own") > 0).then(weight * pl.col("both") / pl.col("own") + 1 - weight)
        beta = known.select(slope.otherwise(1.0).clip(-BETA_MOST, BETA_MOST)).to_series().to_numpy()
        result: FloatArray = beta * middle
        return result

    def _median_of_session(self, values: FloatArray) -> FloatArray:
        frame = pl.DataFrame({"session": self.session, "value": values}).with_columns(pl.col("value").fill_nan(None))
        median = (
            pl.when(pl.col("value").count() >= PEERS_LEAST)
            .then(pl.col("value").median())
            .otherwise(0.0)
            .over("session")
        )
        return frame.select(median).to_series().to_numpy().astype(np.float64)

    @cached_property
    def step(self) -> FloatArray:
        """What the vendor's adjusted close takes off: ``log(adj / close)`` of the bar before less that of the row.

        NaN where there is no adjusted close.
        """
        ratio = np.log(self.adj_close) - np.log(self.close)
        step: FloatArray = self.before(ratio) - ratio
        return step

    @cached_property
    def residue(self) -> FloatArray:
        """The step that the actions do not account for; NaN where there is no adjusted close."""
        return self.step - (self.taken - self.log_split)

    @cached_property
    def taken(self) -> FloatArray:
        """What the vendor's adjusted close takes off for the row's dividend, by its own convention."""
        return np.where(self.adds_back, self._added_back, self.log_yield)

    @cached_property
    def _added_back(self) -> FloatArray:
        """``-log(1 + cash / close)``: Alpha Vantage adds the cash to the close of the day, as a total return does."""
        step: FloatArray = -np.log1p((1 - np.exp(self.log_yield)) * np.exp(-np.nan_to_num(self.move)))
        return step

    @cached_property
    def adds_back(self) -> BoolArray:
        """Rows of instruments whose adjusted close follows that convention; the other is Yahoo's and CRSP's.

        Told by the steps themselves: on days on which the price moves they differ by more than rounding.
        """
        rows = np.flatnonzero((self.log_yield != 0.0) & np.isfinite(self.step))
        off = {
            name: np.abs(self.step + self.log_split - expected)[rows]
            for name, expected in (("before", self.log_yield), ("added", self._added_back))
        }
        middle = (
            pl.DataFrame({"code": self.code[rows], **off})
            .group_by("code")
            .agg(pl.col("before", "added").median(), count=pl.len())
            .filter((pl.col("count") >= CONVENTION_PAYMENTS) & (pl.col("added") < CONVENTION_SHARE * pl.col("before")))
        )
        return np.isin(self.code, middle["code"].to_numpy())

    def sum_after(self, values: FloatArray) -> FloatArray:
        """Sum of ``values`` over the rows after each row, within its instrument."""
        total = np.cumsum(values)
        ends = self.starts[1:] - 1
        result: FloatArray = np.repeat(total[ends], np.diff(self.starts)) - total
        return result

    @cached_property
    def later(self) -> FloatArray:
        """Log of what the actions after each row multiply its close by: that of our adjusted close over the close."""
        return self.sum_after(self.taken - self.log_split)

    def as_of_end(self, as_of: DateArray) -> Tape:
        """The tape with every adjusted close told from the instrument's last bar.

        Args:
            as_of: session from which the vendor told each, shape (rows,); NaT: the last one. Closes that were fetched
                on different days know the actions of different days: each gets the factors of ours since its own.
        """
        if np.isnan(self.adj_close).all():
            return self
        rows = np.arange(len(self))
        result = self.adj_close.copy()
        for low, high in zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True):
            told = low + np.searchsorted(self.session[low:high], as_of[low:high], side="right") - 1
            told = np.where(np.isnat(as_of[low:high]), high - 1, np.maximum(told, rows[low:high]))
            result[low:high] *= np.exp(self.later[told])
        return replace(self, adj_close=result)

    @cached_property
    def step_noise(self) -> FloatArray:
        """The largest step that is rounding of either close, as seen so far."""
        frame = pl.DataFrame({"code": self.code, "step": np.abs(self.step)}).with_columns(pl.col("step").fill_nan(None))
        # Dividends are one row of sixty: the ninth decile is the rounding of whichever of both closes is coarser.
        quantile = pl.col("step").rolling_quantile(0.9, window_size=SCALE_SESSIONS, min_samples=5).over("code")
        noise = frame.select(quantile.fill_null(float("nan"))).to_series().to_numpy()
        # Before there is a history a close may be rounded to the cent.
        noise = np.where(np.isnan(noise), 0.0051 / np.fmin(self.adj_close, self.close), noise)
        ticks = np.nan_to_num(2e-6 / np.fmin(self.adj_close, self.close))
        total: FloatArray = STEP_EXACT + STEP_NOISE * np.minimum(np.nan_to_num(noise), STEP_NOISE_MOST) + ticks
        return total

    @cached_property
    def residue_bound(self) -> FloatArray:
        """The largest residue that is rounding of the closes or of the dividend's cash."""
        # Vendors divide by the close before, some by the open: the difference is the move's share of the yield.
        convention = STEP_SHARE + np.minimum(np.abs(np.nan_to_num(self.move)), 0.1)
        bound: FloatArray = self.step_noise + convention * np.abs(self.log_yield)
        return bound

    def loudness_at(self, rows: IntArray) -> FloatArray:
        """Log of the volume of ``rows`` against the median of the month before, splits undone; NaN without volume."""
        return self.log_volume[rows] - self.trailing_median(self.log_volume, RECENT_SESSIONS, 5, rows)

    def trades_at(self, rows: IntArray) -> BoolArray:
        """Whether the instrument traded so steadily in the quarter before that a day without volume means something.

        On nearly every session, and about as much on each: where two hundred shares a day are usual, or none, every
        jump is a quiet one.
        """
        places = rows[:, None] - np.arange(SCALE_SESSIONS, 0, -1)
        within = places >= self.begin(rows)[:, None]
        volume = np.where(within, self.log_volume[np.maximum(places, 0)], np.nan)
        known, traded = within.sum(axis=1), np.isfinite(volume).sum(axis=1)
        result: BoolArray = (known >= SCALE_MIN_SESSIONS) & (traded >= TRADED_SHARE * known)
        some = volume[result]
        if len(some):
            spread = np.nanmedian(np.abs(some - np.nanmedian(some, axis=1)[:, None]), axis=1)
            result[result] = MAD_TO_DEVIATION * spread < TRADED_SPREAD
        return result

    def stirs_at(self, rows: IntArray, jump: FloatArray) -> BoolArray:
        """Whether the day's range is wider than an overnight ``jump`` (log, either way) without news leaves it."""
        with np.errstate(invalid="ignore"):
            result: BoolArray = np.log(self.high[rows] / self.low[rows]) > CALM_RANGE * np.abs(jump)
        return result

    def loudness_bound(self, jump: FloatArray) -> FloatArray:
        """The loudness below which an overnight ``jump`` (log, either way) has no news behind it."""
        bound: FloatArray = np.interp(np.abs(jump), CALM_JUMPS, CALM_LOUDNESS)
        return bound

    @cached_property
    def log_volume(self) -> FloatArray:
        """Log volume in today's shares, NaN where there is none."""
        volume = np.log(np.where(self.volume > 0, self.volume, np.nan))
        return volume - self.old_shares

    def name(self, row: int) -> str:
        return self.symbols[int(self.code[row])]

    def day(self, row: int) -> str:
        return str(self.session[row])

    def finding(
        self, kind: Kind, severity: Severity, rows: tuple[int, int], known: int, evidence: Mapping[str, object],
        message: str, remedy: str, repair: Mapping[str, object] | None = None,
    ) -> Finding:  # fmt: skip
        """A finding from the first to the last of ``rows``, complete at row ``known``."""
        name = self.name(rows[0])
        told = {key: value for key, value in evidence.items() if not isinstance(value, float) or np.isfinite(value)}
        mended: Repair | None = None if repair is None else {"instrument": name, **repair}
        return Finding(
            kind=kind, severity=severity, instrument=name, session_from=self.session[rows[0]].astype(object),
            session_to=self.session[rows[1]].astype(object), evidence=told, message=f"{name}: {message}",
            remedy=remedy, known_session=self.session[known].astype(object), repair=mended,
        )  # fmt: skip


def tape_of(bars: pl.DataFrame, actions: pl.DataFrame, basis: Basis) -> Tape:
    """Arrays of ``bars`` and ``actions``, in the order of instrument and session.

    Args:
        bars: `BARS_COLUMNS` and, where the vendor gives it, adj_close; one row for an instrument and session. Where
            adjusted closes were fetched on different days, adj_as_of: the session from which each was told.
        actions: `ACTIONS_COLUMNS`; an action on a day without a bar counts at the next bar.
        basis: of the prices; dividends are per share in the same basis.

    Raises:
        MissingDataError: a column is missing.
    """
    _require(bars, BARS_COLUMNS, "bars")
    _require(actions, ACTIONS_COLUMNS, "actions")
    frame = bars.sort("instrument", "session")
    if "adj_close" not in frame.columns:
        frame = frame.with_columns(adj_close=pl.lit(None, dtype=pl.Float64))
    effects = _effects(frame.select("instrument", "session"), actions)
    frame = frame.join(effects, on=["instrument", "session"], how="left", maintain_order="left")
    names = frame["instrument"].unique(maintain_order=True).to_list()
    codes = frame["instrument"].replace_strict(names, list(range(len(names))), return_dtype=pl.Int64)

    def prices(name: str) -> FloatArray:
        values = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return np.where(np.isfinite(values) & (values > 0), values, np.nan)

    volume = frame["volume"].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    tape = Tape(
        symbols=tuple(names), code=codes.to_numpy().astype(np.int64),
        session=frame["session"].to_numpy().astype("datetime64[D]"),
        open=prices("open"), high=prices("high"), low=prices("low"), close=prices("close"),
        volume=volume, adj_close=prices("adj_close"), split=frame["split"].fill_null(1.0).to_numpy().astype(np.float64),
        dividend=frame["dividend"].fill_null(0.0).to_numpy().astype(np.float64), basis=basis,
    )  # fmt: skip
    return (
        tape.as_of_end(frame["adj_as_of"].to_numpy().astype("datetime64[D]")) if "adj_as_of" in frame.columns else tape
    )


def _effects(keys: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Split and dividend of each bar: those of its day, and of days without a bar before it."""
    placed = (
        actions.select(ACTIONS_COLUMNS)
        .filter(pl.col("value") > 0)
        .sort("session")
        .join_asof(
            keys.with_columns(bar=pl.col("session")).sort("session"), on="session", by="instrument",
            strategy="forward", check_sortedness=False,
        )
        .drop_nulls("bar")
    )  # fmt: skip
    value, kind = pl.col("value"), pl.col("kind")
    return placed.group_by("instrument", pl.col("bar").alias("session")).agg(
        split=pl.when(kind == "split").then(value.log()).otherwise(0.0).sum().exp(),
        dividend=pl.when(kind == "dividend").then(value).otherwise(0.0).sum(),
    )


def _require(frame: pl.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise MissingDataError(f"{what} lack the column {missing[0]}; give {', '.join(columns)}")


def _median(values: FloatArray, places: IntArray, within: BoolArray, least: int) -> FloatArray:
    """Median of the numbers among ``values[places]`` in each row, NaN below ``least``; rounded as Polars rounds."""
    held = np.sort(np.where(within, values[np.clip(places, 0, len(values) - 1)], np.nan), axis=1)
    count = (~np.isnan(held)).sum(axis=1)
    rows = np.arange(len(places))
    low, high = held[rows, np.maximum(count - 1, 0) // 2], held[rows, np.minimum(count // 2, held.shape[1] - 1)]
    return np.where(count >= least, low + (high - low) * 0.5, np.nan)


def seldomness(deviations: FloatArray, share: FloatArray | float = 0.0) -> FloatArray:
    """Minus the log probability of moves that large: by the tail of Student's t with two degrees of freedom (both
    sides, in closed form), and by the ``share`` of sessions in which the instrument made one."""
    root = np.sqrt(2 + deviations**2)
    result: FloatArray = -np.log(np.minimum(2 / (root * (root + deviations)) + share, 1.0))
    return result


def runs_of(flags: BoolArray, breaks: BoolArray) -> list[tuple[int, int]]:
    """Runs of True as half-open row ranges; a run ends where ``breaks`` says that another instrument begins."""
    before = np.concatenate(([False], flags[:-1])) & ~breaks
    after = np.concatenate((flags[1:] & ~breaks[1:], [False])) if len(flags) else flags
    return list(
        zip(np.flatnonzero(flags & ~before).tolist(), (np.flatnonzero(flags & ~after) + 1).tolist(), strict=True)
    )
