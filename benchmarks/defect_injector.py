"""Known defects planted into clean recorded bars, with labels: what the detectors of defects are measured against.

Belongs here: the clean base, and every kind of defect at its magnitudes, seeded. Does not: detecting or scoring
(benchmarks/quality.py). Frozen before any detector was tuned: a change here makes earlier figures incomparable.
`PEER_CELLS` and `SECOND_CELLS` came later, for detectors that were not changed for them.

The base is StockNet's 88 US stocks, 2012-09-04 to 2017-09-01, brought back to what a vendor of raw bars delivers:
rows without any price are dropped (three, known), prices and volumes are undone for the splits of `SPLITS` (each
checked: the undone prices are whole cents, but for the rounding of a spin-off's ratio), and dividends are read off the
steps of the adjusted close, ``D = (1 - step) * previous close``, which is how the vendor made them. Smaller stock
dividends of BCH and IEP are left in the prices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from zlib import crc32

import numpy as np
import polars as pl

from octopus.core.types import DateArray, FloatArray

SPLITS: tuple[tuple[str, date, float], ...] = (
    ("AAPL", date(2014, 6, 9), 7.0),
    ("BSAC", date(2012, 10, 22), 1.3),
    ("CELG", date(2014, 6, 26), 2.0),
    ("CMCSA", date(2017, 2, 21), 2.0),
    ("DHR", date(2016, 7, 5), 1.319),
    ("GOOG", date(2014, 3, 27), 2.002),
    ("GOOG", date(2015, 4, 27), 1.0027455),
    ("HON", date(2016, 10, 3), 1.005328),
    ("MA", date(2014, 1, 22), 10.0),
    ("NGG", date(2017, 5, 22), 11 / 12),
    ("PPL", date(2015, 6, 2), 1.07396),
    ("SNP", date(2013, 7, 2), 1.3),
    ("V", date(2015, 3, 19), 4.0),
)
DIVIDEND_STEP = 1e-4
"""The recorded adjusted closes are exact to 1e-6 of the price; the smallest dividend of the data is 1.9e-4."""
BEFORE, AFTER = 80, 45
"""Sessions left untouched at either end, so that every defect has a context."""
PRICES = ("open", "high", "low", "close")
BARS = ("instrument", "session", *PRICES, "volume", "adj_close")
ACTIONS_SCHEMA = {"instrument": pl.String, "session": pl.Date, "kind": pl.String, "value": pl.Float64}


@dataclass(frozen=True)
class Series:
    """One instrument as delivered: arrays of shape (T,), and actions as (session, kind, value)."""

    symbol: str
    session: DateArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    adj_close: FloatArray
    actions: tuple[tuple[np.datetime64, str, float], ...] = ()

    def __len__(self) -> int:
        return len(self.session)

    def scaled(self, rows: slice | list[int], factor: float, names: Sequence[str]) -> Series:
        """The same with ``names`` multiplied in ``rows``."""
        changed: dict[str, FloatArray] = {}
        for name in names:
            values = getattr(self, name).copy()
            values[rows] = values[rows] * factor
            changed[name] = values
        return replace(self, **changed)  # type: ignore[arg-type]

    def row_of(self, session: np.datetime64) -> int:
        return int(np.searchsorted(self.session, session))


@dataclass(frozen=True)
class Planted:
    """A series with one defect, and where it is (both rows' sessions inclusive)."""

    series: Series
    session_from: np.datetime64
    session_to: np.datetime64


Plant = Callable[[Series, np.random.Generator], Planted | None]


@dataclass(frozen=True)
class Cell:
    """One kind of defect at one magnitude; ``plant`` gives None where a series offers no place for it."""

    kind: str
    magnitude: str
    plant: Plant = field(compare=False)


def clean_series(folder: Path) -> list[Series]:
    """The base, in the order of symbols; see the module's docstring."""
    frame = (
        pl.read_parquet(folder / "prices_stocknet.parquet")
        .drop_nulls("close")
        .with_columns(pl.col("date").cast(pl.Date))
        .sort("symbol", "date")
    )
    return [_clean(str(key[0]), part) for key, part in frame.group_by("symbol", maintain_order=True)]


def _clean(symbol: str, frame: pl.DataFrame) -> Series:
    days = frame["date"].to_numpy().astype("datetime64[D]")
    columns = {name: frame[name].to_numpy().astype(np.float64) for name in (*PRICES, "volume", "adj_close")}
    close, adjusted = columns["close"], columns["adj_close"]
    step = np.ones(len(days))
    step[1:] = (adjusted[:-1] / close[:-1]) / (adjusted[1:] / close[1:])
    rows = np.flatnonzero(step < 1 - DIVIDEND_STEP)
    factor = np.ones(len(days))
    actions: list[tuple[np.datetime64, str, float]] = []
    for name, day, ratio in SPLITS:
        if name == symbol:
            factor[days < np.datetime64(day)] *= ratio
            actions.append((np.datetime64(day), "split", ratio))
    paid = (1 - step[rows]) * close[rows - 1] * factor[rows]
    actions += [(days[row], "dividend", round(float(cash), 6)) for row, cash in zip(rows, paid, strict=True)]
    for name in PRICES:
        columns[name] = np.round(columns[name] * factor, 4)
    columns["volume"] = np.round(columns["volume"] / factor)
    return Series(symbol=symbol, session=days, actions=tuple(sorted(actions)), **columns)


def frames(series: Sequence[Series]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars and actions of many series as the two frames that detectors read."""
    bars = pl.concat(
        pl.DataFrame(
            {
                "instrument": [one.symbol] * len(one),
                "session": pl.Series(one.session).cast(pl.Date),
                **{name: getattr(one, name) for name in BARS[2:]},
            }
        )
        for one in series
    )
    actions = [
        {"instrument": one.symbol, "session": day.astype(object), "kind": kind, "value": value}
        for one in series
        for day, kind, value in one.actions
    ]
    return bars, pl.DataFrame(actions, schema=ACTIONS_SCHEMA)


def plant(cell: Cell, series: Sequence[Series], seed: int) -> tuple[list[Series], list[Planted]]:
    """The cell's defect once in every series that has a place for it; the others are returned as they are."""
    result, labels = [], []
    for one in series:
        random = np.random.default_rng([seed, crc32(f"{cell.kind}/{cell.magnitude}/{one.symbol}".encode())])
        planted = cell.plant(one, random)
        result.append(planted.series if planted else one)
        labels += [planted] if planted else []
    return result, labels


def _anywhere(one: Series, random: np.random.Generator, length: int = 1) -> int:
    return int(random.integers(BEFORE, len(one) - AFTER - length))


def _dividend_row(one: Series, random: np.random.Generator, margin: int = 0) -> tuple[int, float] | None:
    """A dividend well inside the series and away from any split: its row and cash."""
    rows = [(one.row_of(day), value) for day, kind, value in one.actions if kind == "dividend"]
    splits = [one.row_of(day) for day, kind, _ in one.actions if kind == "split"]
    fit = [
        (row, value)
        for row, value in rows
        if BEFORE <= row < len(one) - AFTER - margin and all(abs(row - other) > 30 for other in splits)
    ]
    return fit[int(random.integers(len(fit)))] if fit else None


def _quiet_row(one: Series, random: np.random.Generator, apart: int = 30) -> int:
    """A row at least ``apart`` sessions from every action, if there is one."""
    taken = np.array([one.row_of(day) for day, _, _ in one.actions])
    rows = np.arange(BEFORE, len(one) - AFTER)
    near = np.abs(rows[:, None] - taken[None, :]).min(axis=1) <= apart if len(taken) else np.zeros(len(rows), bool)
    free = rows[~near] if (~near).any() else rows
    return int(free[random.integers(len(free))])


def _at(one: Series, row: int, last: int | None = None) -> tuple[np.datetime64, np.datetime64]:
    return one.session[row], one.session[row if last is None else last]


def _step(one: Series, row: int) -> float:
    """The adjusted close's own step over ``row``: one less the yield."""
    ratio = one.adj_close / one.close
    return float(ratio[row - 1] / ratio[row])


def _acted(one: Series, actions: Sequence[tuple[np.datetime64, str, float]]) -> Series:
    return replace(one, actions=tuple(sorted(actions)))


def _without(one: Series, row: int, kind: str) -> list[tuple[np.datetime64, str, float]]:
    return [action for action in one.actions if not (action[0] == one.session[row] and action[1] == kind)]


# units ---------------------------------------------------------------------------------------------------------------


def _unit_bars(factor: float, length: int) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _anywhere(one, random, length)
        rows = slice(row, row + length)
        return Planted(one.scaled(rows, factor, (*PRICES, "adj_close")), *_at(one, row, row + length - 1))

    return planted


def _unit_field(factor: float, length: int) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _anywhere(one, random, length)
        name = PRICES[int(random.integers(4))]
        names = (name, "adj_close") if name == "close" else (name,)
        return Planted(one.scaled(slice(row, row + length), factor, names), *_at(one, row, row + length - 1))

    return planted


def _unit_history(factor: float) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random)
        return Planted(one.scaled(slice(0, row), factor, (*PRICES, "adj_close")), *_at(one, row))

    return planted


# splits --------------------------------------------------------------------------------------------------------------


def _printed_before(one: Series, row: int, ratio: float, first: int = 0) -> Series:
    """As if shares split at ``row``: older bars at old prices, in whole cents (rows from ``first``)."""
    rows = slice(first, row)
    result = one.scaled(rows, ratio, PRICES).scaled(rows, 1 / ratio, ("volume",))
    for name in PRICES:
        getattr(result, name)[rows] = np.round(getattr(result, name)[rows], 2)
    result.volume[rows] = np.round(result.volume[rows])
    return result


def _adjusted_before(one: Series, row: int, ratio: float, first: int = 0) -> Series:
    """The same split, its older bars already divided by a vendor: no jump, but fractions of cents."""
    printed = _printed_before(one, row, ratio, first)
    rows = slice(first, row)
    result = printed.scaled(rows, 1 / ratio, PRICES).scaled(rows, ratio, ("volume",))
    for name in PRICES:
        getattr(result, name)[rows] = np.round(getattr(result, name)[rows], 6)
    return result


def _missing_split(ratio: float, follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random)
        series = _printed_before(one, row, ratio)
        if follows:
            series = series.scaled(slice(0, row), ratio, ("adj_close",))
        return Planted(series, *_at(one, row))

    return planted


def _wrong_ratio(ratio: float, recorded: float, follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random)
        series = _printed_before(one, row, ratio)
        if follows:
            series = series.scaled(slice(0, row), ratio / recorded, ("adj_close",))
        return Planted(_acted(series, [*one.actions, (one.session[row], "split", recorded)]), *_at(one, row))

    return planted


def _split_twice(ratio: float, follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random)
        series = _printed_before(one, row, ratio)
        if follows:
            series = series.scaled(slice(0, row + 1), 1 / ratio, ("adj_close",))
        twice = [(one.session[row], "split", ratio), (one.session[row + 1], "split", ratio)]
        return Planted(_acted(series, [*one.actions, *twice]), *_at(one, row, row + 1))

    return planted


def _misdated_split(ratio: float, late: int, follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random)
        series = _printed_before(one, row, ratio)
        if follows:
            series = series.scaled(slice(row, row + late), 1 / ratio, ("adj_close",))
        action = (one.session[row + late], "split", ratio)
        return Planted(_acted(series, [*one.actions, action]), *_at(one, row, row + late))

    return planted


def _already_adjusted(ratio: float, last: int | None) -> Plant:
    """Split recorded, but older bars (all, or the ``last`` ones before it) are divided already."""

    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random)
        if last is None:
            series, first = _adjusted_before(one, row, ratio), row
        else:
            first = row - last
            series = _printed_before(_adjusted_before(one, row, ratio, first), first, ratio)
        return Planted(_acted(series, [*one.actions, (one.session[row], "split", ratio)]), *_at(one, first, row))

    return planted


def _phantom_split(ratio: float, follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random)
        series = one.scaled(slice(0, row), 1 / ratio, ("adj_close",)) if follows else one
        return Planted(_acted(series, [*one.actions, (one.session[row], "split", ratio)]), *_at(one, row))

    return planted


# dividends -----------------------------------------------------------------------------------------------------------


def _missing_dividend(follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted | None:
        chosen = _dividend_row(one, random)
        if chosen is None:
            return None
        row = chosen[0]
        series = one.scaled(slice(0, row), 1 / _step(one, row), ("adj_close",)) if follows else one
        return Planted(_acted(series, _without(one, row, "dividend")), *_at(one, row))

    return planted


def _wrong_dividend(factor: float, follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted | None:
        chosen = _dividend_row(one, random)
        if chosen is None:
            return None
        row, cash = chosen
        series = one
        if follows:
            applied = max(1 - (1 - _step(one, row)) * factor, 0.05)
            series = one.scaled(slice(0, row), applied / _step(one, row), ("adj_close",))
        action = (one.session[row], "dividend", cash * factor)
        return Planted(_acted(series, [*_without(one, row, "dividend"), action]), *_at(one, row))

    return planted


def _misdated_dividend(late: int, follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted | None:
        chosen = _dividend_row(one, random, late)
        if chosen is None:
            return None
        row, cash = chosen
        series = one.scaled(slice(row, row + late), _step(one, row), ("adj_close",)) if follows else one
        action = (one.session[row + late], "dividend", cash)
        return Planted(_acted(series, [*_without(one, row, "dividend"), action]), *_at(one, row, row + late))

    return planted


def _phantom_dividend(share: float, follows: bool) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random, 10)
        series = one.scaled(slice(0, row), 1 - share, ("adj_close",)) if follows else one
        action = (one.session[row], "dividend", round(float(share * one.close[row - 1]), 4))
        return Planted(_acted(series, [*one.actions, action]), *_at(one, row))

    return planted


# adjusted close and seams --------------------------------------------------------------------------------------------


def _unadjusted_dividend(applied: float) -> Plant:
    """The action stands, but the adjusted close has only ``applied`` of it."""

    def planted(one: Series, random: np.random.Generator) -> Planted | None:
        chosen = _dividend_row(one, random)
        if chosen is None:
            return None
        row, step = chosen[0], _step(one, chosen[0])
        factor = (1 - (1 - step) * applied) / step
        return Planted(one.scaled(slice(0, row), factor, ("adj_close",)), *_at(one, row))

    return planted


def _adjusted_level(share: float) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random, 5)
        up = 1 + share if random.random() < 0.5 else 1 / (1 + share)
        return Planted(one.scaled(slice(0, row), up, ("adj_close",)), *_at(one, row))

    return planted


def _glued(low: float, high: float) -> Plant:
    """Before the seam the raw prices are the adjusted ones, so that they jump by ``low`` to ``high`` there."""

    def planted(one: Series, random: np.random.Generator) -> Planted | None:
        ratio = one.adj_close / one.close
        rows = np.arange(BEFORE, len(one) - AFTER)
        jump = 1 - ratio[rows]
        fit = rows[(jump >= low) & (jump < high)]
        if not len(fit):
            return None
        row = int(fit[random.integers(len(fit))])
        changed = {name: getattr(one, name).copy() for name in PRICES}
        for name in PRICES:
            changed[name][:row] = np.round(changed[name][:row] * ratio[:row], 6)
        changed["close"][:row] = one.adj_close[:row]
        return Planted(replace(one, **changed), *_at(one, row))

    return planted


def _level(share: float) -> Plant:
    """Everything before the seam stands on another level, the adjusted close with it."""

    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random, 5)
        up = 1 + share if random.random() < 0.5 else 1 / (1 + share)
        return Planted(one.scaled(slice(0, row), up, (*PRICES, "adj_close")), *_at(one, row))

    return planted


def _volume_level(factor: float) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random, 5)
        return Planted(one.scaled(slice(0, row), factor, ("volume",)), *_at(one, row))

    return planted


# bars ----------------------------------------------------------------------------------------------------------------


def _repeated(length: int) -> Plant:
    """The bar before is delivered again, volume and all, ``length`` times."""

    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _anywhere(one, random, length)
        series = one.scaled([], 1.0, (*PRICES, "volume", "adj_close"))
        for name in (*PRICES, "volume", "adj_close"):
            getattr(series, name)[row : row + length] = getattr(one, name)[row - 1]
        return Planted(series, *_at(one, row, row + length - 1))

    return planted


def _frozen(length: int) -> Plant:
    """The last close stands in all four prices for ``length`` sessions, without volume."""

    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _anywhere(one, random, length)
        series = one.scaled([], 1.0, (*PRICES, "volume", "adj_close"))
        for name in PRICES:
            getattr(series, name)[row : row + length] = one.close[row - 1]
        series.adj_close[row : row + length] = one.adj_close[row - 1]
        series.volume[row : row + length] = 0.0
        return Planted(series, *_at(one, row, row + length - 1))

    return planted


def _set(name: str, value: Callable[[Series, int], float]) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _anywhere(one, random)
        series = one.scaled([], 1.0, (name,))
        getattr(series, name)[row] = value(one, row)
        return Planted(series, *_at(one, row))

    return planted


def _crossed(one: Series, random: np.random.Generator) -> Planted:
    """High and low exchanged."""
    row = _anywhere(one, random)
    series = one.scaled([], 1.0, ("high", "low"))
    series.high[row], series.low[row] = one.low[row], one.high[row]
    return Planted(series, *_at(one, row))


def _no_volume(length: int) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        moves = np.abs(np.diff(np.log(one.close), prepend=np.nan))
        rows = np.arange(BEFORE, len(one) - AFTER - length)
        fit = rows[(moves[rows] > 0.005) & (one.volume[rows] > 0)]
        row = int(fit[random.integers(len(fit))])
        return Planted(one.scaled(slice(row, row + length), 0.0, ("volume",)), *_at(one, row, row + length - 1))

    return planted


def _spike(share: float, whole: bool) -> Plant:
    """One bar off by ``share`` and back: the whole bar, or the close with the range stretched to hold it."""

    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _quiet_row(one, random, 2)
        up = 1 + share if random.random() < 0.5 else 1 / (1 + share)
        series = one.scaled([row], up, (*PRICES, "adj_close") if whole else ("close", "adj_close"))
        if not whole:
            series = series.scaled([], 1.0, ("high", "low"))
            series.high[row] = max(one.high[row], series.close[row])
            series.low[row] = min(one.low[row], series.close[row])
        return Planted(series, *_at(one, row))

    return planted


def _gap(length: int) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _anywhere(one, random, length)
        keep = np.ones(len(one), dtype=bool)
        keep[row : row + length] = False
        arrays = {name: getattr(one, name)[keep] for name in ("session", *BARS[2:])}
        return Planted(replace(one, **arrays), *_at(one, row, row + length - 1))

    return planted


# beyond one instrument's own bars -------------------------------------------------------------------------------------


def _stale(length: int) -> Plant:
    """``length`` closes in a row are the first of them; the other prices go on."""

    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _anywhere(one, random, length)
        series = one.scaled([], 1.0, ("close", "adj_close"))
        for name in ("close", "adj_close"):
            getattr(series, name)[row : row + length] = getattr(one, name)[row]
        return Planted(series, *_at(one, row, row + length - 1))

    return planted


def _without_end(lost: int, first: bool) -> Plant:
    """The first or last ``lost`` sessions are not delivered, of half of the instruments: the others have them."""

    def planted(one: Series, random: np.random.Generator) -> Planted | None:
        if random.random() < 0.5:
            return None
        kept, gone = (slice(lost, None), slice(0, lost)) if first else (slice(0, -lost), slice(-lost, None))
        arrays = {name: getattr(one, name)[kept] for name in ("session", *BARS[2:])}
        days = one.session[gone]
        return Planted(replace(one, **arrays), days[0], days[-1])

    return planted


def _high(share: float) -> Plant:
    def planted(one: Series, random: np.random.Generator) -> Planted:
        row = _anywhere(one, random)
        return Planted(one.scaled([row], 1 + share, ("high",)), *_at(one, row))

    return planted


def _both(kind: str, magnitude: str, make: Callable[..., Plant], *given: object) -> list[Cell]:
    """The defect beside a right adjusted close, and with one that was computed from it."""
    return [
        Cell(kind, f"{magnitude}, adjusted close right", make(*given, False)),
        Cell(kind, f"{magnitude}, adjusted close wrong too", make(*given, True)),
    ]


def _unit_cells() -> list[Cell]:
    cells = [
        Cell("unit bars", f"×{factor:g} on {length}", _unit_bars(factor, length))
        for factor in (100.0, 0.01) for length in (1, 5, 20)
    ]  # fmt: skip
    cells += [
        Cell("unit field", f"×{factor:g} on {length}", _unit_field(factor, length))
        for factor in (100.0, 0.01) for length in (1, 5)
    ]  # fmt: skip
    return cells + [Cell("unit history", f"×{factor:g}", _unit_history(factor)) for factor in (100.0, 0.01)]


def _split_cells() -> list[Cell]:
    cells: list[Cell] = []
    for ratio in (1.1, 1.25, 1.5, 2.0, 3.0, 10.0, 0.5, 0.1):
        cells += _both("missing split", f"{ratio:g}", _missing_split, ratio)
    for ratio, recorded in ((2.0, 3.0), (3.0, 2.0), (2.0, 4.0), (2.0, 0.5), (0.1, 10.0), (1.5, 2.0)):
        cells += _both("wrong split ratio", f"{ratio:g} as {recorded:g}", _wrong_ratio, ratio, recorded)
    for ratio in (1.5, 2.0, 10.0):
        cells += _both("split twice", f"{ratio:g}", _split_twice, ratio)
    for late in (1, 5, 20):
        cells += _both("misdated split", f"2, {late} late", _misdated_split, 2.0, late)
    for ratio in (1.5, 2.0, 10.0):
        cells.append(Cell("already adjusted", f"{ratio:g}, all before", _already_adjusted(ratio, None)))
    for ratio in (2.0, 10.0):
        for last in (1, 5, 20):
            cells.append(Cell("partly adjusted", f"{ratio:g}, last {last}", _already_adjusted(ratio, last)))
    for ratio in (1.5, 2.0, 10.0):
        cells += _both("phantom split", f"{ratio:g}", _phantom_split, ratio)
    return cells


def _dividend_cells() -> list[Cell]:
    cells = _both("missing dividend", "one", _missing_dividend)
    for factor in (100.0, 0.01):
        cells += _both("wrong dividend", f"×{factor:g}", _wrong_dividend, factor)
    for late in (1, 5, 20):
        cells += _both("misdated dividend", f"{late} late", _misdated_dividend, late)
    for share in (0.002, 0.01, 0.05):
        cells += _both("phantom dividend", f"{share:.1%}", _phantom_dividend, share)
    for applied in (0.0, 0.01):
        cells.append(Cell("adjusted close", f"{applied:.0%} of a dividend", _unadjusted_dividend(applied)))
    for share in (0.001, 0.005, 0.05):
        cells.append(Cell("adjusted close", f"level {share:.1%}", _adjusted_level(share)))
    return cells


def _seam_cells() -> list[Cell]:
    cells = [
        Cell("glued seam", f"{low:.0%} to {high:.0%}", _glued(low, high))
        for low, high in ((0.01, 0.03), (0.03, 0.1), (0.1, 0.4))
    ]
    cells += [Cell("level seam", f"{share:.0%}", _level(share)) for share in (0.03, 0.1, 0.3, 0.7)]
    return cells + [Cell("volume seam", f"×{factor:g}", _volume_level(factor)) for factor in (100.0, 10.0, 0.1, 0.01)]


def _bar_cells() -> list[Cell]:
    cells = [Cell("repeated bar", f"{length}", _repeated(length)) for length in (1, 3, 10)]
    cells += [Cell("frozen price", f"{length}", _frozen(length)) for length in (3, 5, 10)]
    cells += [
        Cell("impossible bar", "high and low exchanged", _crossed),
        Cell("impossible bar", "close 0.5% above high", _set("close", lambda one, row: one.high[row] * 1.005)),
        Cell("impossible bar", "close 5% below low", _set("close", lambda one, row: one.low[row] * 0.95)),
        Cell("impossible bar", "close zero", _set("close", lambda one, row: 0.0)),
        Cell("impossible bar", "low negative", _set("low", lambda one, row: -one.low[row])),
        Cell("impossible bar", "open missing", _set("open", lambda one, row: np.nan)),
        Cell("impossible bar", "close missing", _set("close", lambda one, row: np.nan)),
    ]
    cells += [Cell("zero volume", f"{length}", _no_volume(length)) for length in (1, 5)]
    cells += [
        Cell("spike", f"{share:.0%}, {'whole bar' if whole else 'close'}", _spike(share, whole))
        for share in (0.05, 0.1, 0.2, 0.5) for whole in (True, False)
    ]  # fmt: skip
    return cells + [Cell("calendar gap", f"{length}", _gap(length)) for length in (1, 3, 10)]


CELLS: tuple[Cell, ...] = (*_unit_cells(), *_split_cells(), *_dividend_cells(), *_seam_cells(), *_bar_cells())

PEER_CELLS: tuple[Cell, ...] = (
    *(Cell("outlier return", f"{share:.0%}, close", _spike(share, False)) for share in (0.2, 0.3, 0.5, 1.0)),
    *(Cell("stale close", f"{length}", _stale(length)) for length in (3, 5, 10)),
    *(Cell("late listing", f"{lost}", _without_end(lost, True)) for lost in (1, 5, 63)),
    *(Cell("early end", f"{lost}", _without_end(lost, False)) for lost in (1, 5, 63)),
)
"""For detectors that see an instrument beside its peers, and where the source begins and ends."""
UNLIKE = "unlike a second source"
SECOND_CELLS: tuple[Cell, ...] = (
    *(Cell(UNLIKE, f"close {share:.1%}", _spike(share, False)) for share in (0.001, 0.003, 0.01, 0.05)),
    *(Cell(UNLIKE, f"level {share:.1%}", _level(share)) for share in (0.003, 0.01)),
    *(Cell(UNLIKE, f"high {share:.0%}", _high(share)) for share in (0.01, 0.03, 0.1)),
)
"""For the comparison of two sources: one of them is wrong."""
