"""Recorded daily prices of other vendors beside StockNet's, and which half of the symbols detectors are tuned on.

Belongs here: reading those histories as the injector's `Series`, the split of symbols into halves, and which sessions
were looked at before the split was drawn. Does not: planting (defect_injector.py), scoring (quality.py).

Spent, for their reported figures have been looked at and detectors were changed for them since:

- ``stocknet``: the 88 stocks that all detectors were written against.
- ``kdd17``: 50 US stocks, 2007 to 2016, Yahoo's bars of that time: prices as printed, the adjusted close with splits
  and dividends. The folder of the data set "KDD17" (Zhang, Aggarwal and Qi 2017) as Feng et al. (2019) publish it:
  ``data/kdd17/price_long_50`` of github.com/fulifeng/Adv-ALSTM, copied to ``kdd17`` beside the other recorded data.
- ``lean``: stocks and funds of QuantConnect's sample, up to 23 years of printed prices and factor files.

Looked at once, both halves, and spent since; nothing in them is an instrument of those above:

- ``sp500``: the stocks that were in the S&P 500 in March 2017, 2010 to 2016, Yahoo's bars of that time: prices as
  printed. Folder ``stocks`` of github.com/KahunaCode/sp500, copied to ``sp500``.
- ``banks``: banks and insurers, most of them foreign, 2006 to 2020, Yahoo's bars: prices adjusted for splits. Folder
  ``Data`` of github.com/EeriestSnake67/RStudio, copied to ``banks``.
- ``funds``: exchange traded funds, 2004 to January 2021, of Yahoo as well. Folder ``etfs`` of
  github.com/atxarib99/stonks, copied to ``funds``.

With readers and halves committed before anything in them was audited; nothing in them is an instrument of those above.
Detectors may be changed for their tuned half. Of the other half `DRAWN` symbols of each were looked at in a first draw,
and as many more, where there are, in a second; both are spent:

- ``companies``: US companies of A to E, 2004 to January 2021, Yahoo's bars: prices adjusted for splits. Folder
  ``stocks`` of github.com/atxarib99/stonks (MIT licence), copied to ``companies``.
- ``foreign``: foreign companies' shares and receipts in New York, 2004 to December 2020, of Alpha Vantage: prices as
  printed, splits and dividends in columns of their own, recorded apart from the adjusted close. Folder ``data`` of
  github.com/tareqalyousef/Backtester (no licence is stated), copied to ``alpha``.
- ``more_funds``: exchange traded funds of A to Z from the same folder.

With readers and draws committed before anything in them was audited, each looked at once: of the reported half of US
companies of F to Z, which are in none of the histories above, those of `A_DRAW` names that have eight years and the
turnover; no name is in two:

- ``yahoo_2020``: Yahoo's bars of December 2020, adjusted for splits, of github.com/Bluefin-Tuna/
  Yahoo-Finance-Historical-Data (MIT licence), copied to ``yahoo_2020``.
- ``alpha_companies``: of the folder ``alpha``.

A third draw took of each, and so did a fourth, the newest (`NEW`); the names that are left nobody has looked at.

What is a fund, and what is foreign, is told by ``listed.csv``: names of Nasdaq's list of April 2020, the file
``symbols_valid_meta.csv`` of github.com/khushi4321gupta/Stock-Market-Dataset, copied under that name.

A folder that is absent is left out. Of ``banks`` and all after it those count that have eight years and a usual
turnover of two million dollars a day; preferred shares do not. All of them but Lean's and Alpha Vantage's read
dividends off the steps of the adjusted close: on untouched bars these two never contradict each other, prices and
habits may.

- ``coins``: 23 coins, quoted every day, without actions; nothing is planted there.

A company keeps its half in every history.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import polars as pl

from benchmarks.defect_injector import DIVIDEND_STEP, PRICES, Series, clean_series
from octopus.core.sessions import Sessions
from octopus.core.types import BoolArray, DateArray, FloatArray
from octopus.warehouse.defects.tape import Basis

SPLIT = "2026-11-29"
"""Salt of the split; drawn once, before any detector was changed for it."""
SAME_COMPANY = {
    "GOOGL": "GOOG", "BRK-A": "BRK-B", "BBL": "BHP", "DISCK": "DISCA", "FOXA": "FOX", "NWSA": "NWS", "UA": "UAA",
}  # fmt: skip
DRAWN = {"companies": 80, "foreign": 60, "more_funds": 100}
"""Symbols of the reported half that were looked at in a first draw, and, where there are as many more, in a second."""
SECOND = ", second draw"
A_DRAW = 300
NEW = ("yahoo_2020, fourth draw", "alpha_companies, fourth draw")
FOREIGN = r"(?i)depositary|\bADR|\bADS|ordinary sh|N\.V\.|p\.?l\.?c\b|S\.A\.|sponsored|american dep"
"""What the list says of a share whose company sits outside of the United States, or is taxed there."""
COMPANIES_UNTIL = date(2021, 1, 26)
YAHOO_2020_UNTIL = date(2020, 12, 10)
"""The session after it was still open, or may have been, when the bars were fetched."""
SEEN_FROM, SEEN_TO = np.datetime64("2012-09-04"), np.datetime64("2017-09-01")
"""StockNet's sessions: of its 88 stocks they were looked at, whoever recorded them."""
SPLIT_STEP = 0.1
"""A larger step (log) of an adjusted close that the price makes too is a split; so large a payment there is none."""
RATIO_DIGITS, RATIO_ROUNDING = 4, 1e-5
"""Factors are published to seven digits: a ratio of two that is this near to one of few digits is that one."""
SPIN_OFFS = (("MO", date(2007, 4, 2)), ("MO", date(2008, 3, 31)))
"""Steps of the size of a split that changed no number of shares."""
RATIO_OLD_MOST, RATIO_NEW_MOST = 5, 50
"""A split of sp500 gives at most so many new shares for at most so many old ones (or the reverse); any other large step
is a payment: a special dividend, or what a part of the company that was spun off was worth."""
LEAN_UNIT = 1e-4
FUNDS_FROM, YEARS_LEAST, TURNOVER_LEAST = date(2004, 1, 1), 8, 2e6
EXACT_STEP = 1e-5
"""The adjusted closes of banks and funds are exact to 1e-7; money funds pay less than `DIVIDEND_STEP` of the price."""
INTO = 80
"""Symbols of the half of sp500 that defects are planted into: as many as of the spent histories together."""
TUNED_SEEDS, REPORTED_SEEDS = (21,), (31,)


Half = Callable[[Sequence[Series]], list[Series]]


@dataclass(frozen=True, eq=False)
class Histories:
    """Instruments of one vendor on one calendar: one audit.

    Attributes:
        seen: whether every session of the symbols of StockNet was looked at before the split. seeds: of what is
            planted; empty: nothing is. basis: of the prices. into: how many of the series defects are planted into.
    """

    name: str
    series: Sequence[Series]
    exchange: str
    seeds: tuple[int, ...]
    seen: frozenset[str]
    basis: Basis = "printed"
    into: int | None = None

    @cached_property
    def planted_into(self) -> list[Series]:
        """Those of two years and more that defects are planted into: drawn like the halves, where they are not all."""
        if self.into is None:
            return list(self.series)
        long = [one for one in self.series if len(one) >= 2 * self.sessions_a_year]
        drawn = {one.symbol for one in sorted(long, key=lambda one: _drawn(f"into/{one.symbol}"))[: self.into]}
        return [one for one in self.series if one.symbol in drawn]

    @cached_property
    def calendar(self) -> DateArray:
        first, last = (pick(one.session[end] for one in self.series) for pick, end in ((min, 0), (max, -1)))
        return Sessions(self.exchange).between(first.astype(date), last.astype(date))

    @cached_property
    def sessions_a_year(self) -> int:
        return Sessions(self.exchange).per_year

    @cached_property
    def years(self) -> float:
        """Symbol-years that count: those nobody has looked at; all where the base itself was looked at."""
        return sum(int((~self._looked_at(one)).sum()) for one in self.series) / self.sessions_a_year

    def counts(self, symbol: str, session: date) -> bool:
        """Whether a finding there counts as one on untouched bars."""
        return symbol not in self.seen or not SEEN_FROM <= np.datetime64(session) <= SEEN_TO

    def _looked_at(self, one: Series) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        inside = (one.session >= SEEN_FROM) & (one.session <= SEEN_TO)
        return inside if one.symbol in self.seen else np.zeros(len(one), dtype=bool)


def is_reported(symbol: str) -> bool:
    """Whether the symbol is of the half that figures are reported on; detectors are tuned on the others."""
    return _drawn(SAME_COMPANY.get(symbol, symbol)) % 2 == 1


def _drawn(name: str) -> int:
    return crc32(f"{SPLIT}/{name}".encode())


def histories(folder: Path, *, reported: bool) -> list[Histories]:
    """One half of everything there is: StockNet first; of the others those whose folder is there."""
    stocknet, sampled = clean_series(folder), lean(folder)
    seen = frozenset(one.symbol for one in stocknet)
    seeds = REPORTED_SEEDS if reported else TUNED_SEEDS

    def half(series: Sequence[Series], without: frozenset[str] = frozenset()) -> list[Series]:
        return [one for one in series if is_reported(one.symbol) == reported and one.symbol not in without]

    known, constituents = kdd17(folder), sp500(folder)
    spent = seen | {one.symbol for one in (*known, *sampled)}
    newer = spent | {one.symbol for one in constituents}
    banks, funds = _traded(folder / "banks"), _traded(folder / "funds")
    used = newer | {one.symbol for one in (*banks, *funds)}
    found = [
        Histories("stocknet", half(stocknet), "XNYS", seeds, frozenset()),
        Histories("kdd17", half(known), "XNYS", seeds, seen),
        Histories("lean", half(sampled), "XNYS", seeds, seen),
        Histories("sp500", half(constituents, spent), "XNYS", seeds, frozenset(), into=INTO),
        Histories("banks", half(banks, newer), "XNYS", (), frozenset(), "split_adjusted"),
        Histories("funds", half(funds, newer), "XNYS", (), frozenset(), "split_adjusted"),
        *_new(folder, half, frozenset(used), reported=reported),
        Histories("coins", half(coins(folder)), "24/7", (), frozenset()),
    ]
    return [one for one in found if one.series]


def _new(folder: Path, half: Half, used: frozenset[str], *, reported: bool) -> list[Histories]:
    """Histories of instruments that are not among the ``used``; of the reported half those that are drawn."""
    if not (folder / "listed.csv").exists():
        return []
    listed = pl.read_csv(folder / "listed.csv", infer_schema=False).drop_nulls("Security Name").unique("Symbol")
    foreign = pl.col("Security Name").str.contains(FOREIGN)
    fund = pl.col("ETF") == "Y"

    def named(which: pl.Expr) -> frozenset[str]:
        return frozenset(listed.filter(which)["Symbol"]) - used

    companies = _traded(folder / "companies", _adjusted, named(~foreign & ~fund))

    def ordered(some: Sequence[Series]) -> list[Series]:
        return sorted(some, key=lambda one: one.symbol)

    parts: dict[str, tuple[list[Series], Basis]] = {
        "companies": ([_until(one, COMPANIES_UNTIL) for one in companies], "split_adjusted"),
        "foreign": (_traded(folder / "alpha", _alpha, named(foreign & ~fund)), "printed"),
        "more_funds": (_traded(folder / "alpha", _alpha, named(fund)), "printed"),
    }
    found = []
    for name, (series, basis) in parts.items():
        some, count = half(series), DRAWN[name]
        if reported:
            some = sorted(some, key=lambda one: _drawn(f"new/{one.symbol}"))
            draws = {name: some[:count], f"{name}{SECOND}": some[count : 2 * count]}
        else:
            draws = {name: some}
        found += [Histories(title, ordered(one), "XNYS", (), frozenset(), basis) for title, one in draws.items()]
    return [*found, *_later(folder, named(~foreign & ~fund & (pl.col("Symbol") >= "F")))] if reported else found


def second(folder: Path, one: Histories) -> tuple[Histories, list[Series]]:
    """Those of ``one`` that defects are planted into and that Alpha Vantage has too, and its bars of them."""
    names = frozenset(some.symbol for some in one.planted_into)
    theirs = _traded(folder / "alpha", _alpha, names)
    both = {some.symbol for some in theirs}
    ours = [some for some in one.planted_into if some.symbol in both]
    return replace(one, series=ours, into=None), theirs


def _later(folder: Path, names: frozenset[str]) -> list[Histories]:
    """The third draw and the fourth of the reported half of ``names``: `A_DRAW` of one vendor, then of the other."""
    drawn = sorted((name for name in names if is_reported(name)), key=lambda name: _drawn(f"third/{name}"))
    parts = [frozenset(drawn[first : first + A_DRAW]) for first in range(0, 4 * A_DRAW, A_DRAW)]
    found = []
    for draw, (of_yahoo, of_alpha) in (("", parts[:2]), (", fourth draw", parts[2:])):
        yahoo = _traded(folder / "yahoo_2020", _adjusted, of_yahoo)
        found += [
            Histories(f"yahoo_2020{draw}", [_until(one, YAHOO_2020_UNTIL) for one in yahoo], "XNYS", (), frozenset(),
                      "split_adjusted"),
            Histories(f"alpha_companies{draw}", _traded(folder / "alpha", _alpha, of_alpha), "XNYS", (), frozenset()),
        ]  # fmt: skip
    return found


def kdd17(folder: Path) -> list[Series]:
    """The data set KDD17; actions are read off the steps of the adjusted close, as those of the injector's base are."""
    return [_kdd17(path) for path in sorted((folder / "kdd17").glob("*.csv"))]


def sp500(folder: Path) -> list[Series]:
    """The constituents of March 2017, read like KDD17."""
    return [_kdd17(path, splits_only=True) for path in sorted((folder / "sp500").glob("*.csv"))]


def _kdd17(path: Path, *, splits_only: bool = False) -> Series:
    """One stock of Yahoo's printed prices.

    Args:
        splits_only: of the large steps only the ratios of whole numbers of shares are splits; else all are.
    """
    frame = pl.read_csv(path, infer_schema=False)
    opened = "Original_Open" if "Original_Open" in frame.columns else "Open"
    told = pl.col("Date").str
    frame = frame.select(
        session=pl.coalesce(told.to_date("%m/%d/%Y", strict=False), told.to_date("%Y-%m-%d", strict=False)),
        open=pl.col(opened).cast(pl.Float64),
        adj_close=pl.col("Adj Close").cast(pl.Float64),
        **{name: pl.col(name.title()).cast(pl.Float64) for name in (*PRICES[1:], "volume")},
    ).sort("session")
    values = {name: frame[name].to_numpy().astype(np.float64) for name in (*PRICES, "volume", "adj_close")}
    days, close = frame["session"].to_numpy().astype("datetime64[D]"), values["close"]
    step = np.ones(len(days))
    step[1:] = (values["adj_close"][:-1] / close[:-1]) / (values["adj_close"][1:] / close[1:])
    splits = np.ones(len(days))
    rows = np.flatnonzero(np.abs(np.log(step)) > SPLIT_STEP)
    ratios = _ratio(1 / step[rows])
    splits[rows] = np.where(_of_shares(ratios) | (ratios < 1), ratios, 1.0) if splits_only else ratios
    actions = _actions(days, close, step * splits, splits)
    # Volumes come in today's shares, prices as printed.
    issued = [(day, kind, ratio) for day, kind, ratio in actions if kind == "split" and not _spun_off(path.stem, day)]
    for day, _, ratio in issued:
        values["volume"][days < day] /= ratio
    return Series(symbol=path.stem, session=days, actions=actions, **values)


def _spun_off(symbol: str, day: np.datetime64) -> bool:
    return (symbol, day.astype(date)) in SPIN_OFFS


def _of_shares(ratio: FloatArray) -> BoolArray:
    """Whether each is so many whole new shares for so few old ones, or the reverse."""
    old = np.arange(1, RATIO_OLD_MOST + 1)
    larger = np.maximum(ratio, 1 / ratio)[:, None] * old
    whole = (np.abs(larger / np.round(larger) - 1) < RATIO_ROUNDING) & (np.round(larger) <= RATIO_NEW_MOST)
    result: BoolArray = np.any(whole, axis=1)
    return result


def _ratio(factor: FloatArray) -> FloatArray:
    short = np.round(factor, RATIO_DIGITS)
    result: FloatArray = np.where(np.abs(short / factor - 1) < RATIO_ROUNDING, short, np.round(factor, 6))
    return result


def _actions(
    days: DateArray, close: FloatArray, paid: FloatArray, splits: FloatArray, least: float = DIVIDEND_STEP
) -> tuple[tuple[np.datetime64, str, float], ...]:
    """Actions behind factors: dividends take ``paid`` of the previous close, in shares after the split."""
    rows = np.flatnonzero(paid < 1 - least)
    cash = (1 - paid[rows]) * close[rows - 1] / splits[rows]
    dividends = [(days[row], "dividend", round(float(one), 6)) for row, one in zip(rows, cash, strict=True)]
    ratios = [(days[row], "split", float(splits[row])) for row in np.flatnonzero(splits != 1.0)]
    return tuple(sorted([*dividends, *ratios]))


def _traded(
    folder: Path, read: Callable[[Path], Series | None] | None = None, names: frozenset[str] | None = None
) -> list[Series]:
    """What was traded for long enough; Yahoo's bars adjusted for splits, where nothing else is said to ``read`` them.

    Args:
        names: of the instruments; None: all.
    """
    paths = [path for path in sorted(folder.glob("*.csv")) if "-P" not in path.stem]
    found = [(read or _adjusted)(path) for path in paths if names is None or path.stem in names]
    return [one for one in found if one is not None]


def _is_traded(frame: pl.DataFrame) -> bool:
    turnover = frame.select((pl.col("close") * pl.col("volume")).median()).item()
    return len(frame) >= YEARS_LEAST * Sessions("XNYS").per_year and turnover >= TURNOVER_LEAST


def _alpha(path: Path) -> Series | None:
    """Alpha Vantage's bars as printed, with its own splits and dividends."""
    told = {"adj_close": "adjusted_close", "dividend": "dividend_amount", "split": "split_coefficient"}
    numbers = {name: told.get(name, name) for name in (*PRICES, "volume", *told)}
    frame = pl.read_csv(path, infer_schema=False).select(
        session=pl.col("timestamp").str.to_date("%Y-%m-%d"),
        **{name: pl.col(column).cast(pl.Float64, strict=False) for name, column in numbers.items()},
    )
    frame = frame.filter(pl.col("session") >= FUNDS_FROM).drop_nulls("close").unique("session").sort("session")
    if not _is_traded(frame):
        return None
    values = {name: frame[name].to_numpy().astype(np.float64) for name in numbers}
    days = frame["session"].to_numpy().astype("datetime64[D]")
    paid, split = values.pop("dividend"), values.pop("split")
    dividends = [(days[row], "dividend", float(paid[row])) for row in np.flatnonzero(paid > 0)]
    splits = [(days[row], "split", float(split[row])) for row in np.flatnonzero((split != 1.0) & (split > 0))]
    return Series(symbol=path.stem, session=days, actions=tuple(sorted([*dividends, *splits])), **values)


def _adjusted(path: Path) -> Series | None:
    """Yahoo's bars adjusted for splits; every step of the adjusted close is a payment."""
    frame = pl.read_csv(path, infer_schema=False).select(
        session=pl.col("Date").str.to_date("%Y-%m-%d"),
        adj_close=pl.col("Adj Close").cast(pl.Float64, strict=False),
        **{name: pl.col(name.title()).cast(pl.Float64, strict=False) for name in (*PRICES, "volume")},
    )
    # A row without any price is no bar, as in the injector's base.
    frame = frame.filter(pl.col("session") >= FUNDS_FROM).drop_nulls("close").unique("session").sort("session")
    if not _is_traded(frame):
        return None
    values = {name: frame[name].to_numpy().astype(np.float64) for name in (*PRICES, "volume", "adj_close")}
    days, close = frame["session"].to_numpy().astype("datetime64[D]"), values["close"]
    paid = np.ones(len(days))
    paid[1:] = (values["adj_close"][:-1] / close[:-1]) / (values["adj_close"][1:] / close[1:])
    actions = _actions(days, close, paid, np.ones(len(days)), EXACT_STEP)
    return Series(symbol=path.stem, session=days, actions=actions, **values)


def lean(folder: Path) -> list[Series]:
    """QuantConnect's sample: every instrument with a map and a factor file, from where its bars are whole."""
    root = folder / "lean" / "equity" / "usa"
    paths = sorted((root / "factor_files").glob("*.csv"))
    found = [_lean(root, path.stem) for path in paths if (root / "map_files" / path.name).exists()]
    return [one for one in found if one is not None]


def _lean(root: Path, name: str) -> Series | None:
    lines = [line.split(",") for line in (root / "map_files" / f"{name}.csv").read_text().split()]
    parts: list[pl.DataFrame] = []
    for (before, *_), (last, ticker, *_) in pairwise(lines):
        path = root / "daily" / f"{ticker}.zip"
        if not path.exists() or (part := _lean_bars(path, before, last)).is_empty():
            parts = []
            continue
        parts.append(part)
    if not parts:
        return None
    frame = pl.concat(parts).unique("session").sort("session")
    values = {column: frame[column].to_numpy() * LEAN_UNIT for column in PRICES}
    days = frame["session"].to_numpy().astype("datetime64[D]")
    price, split = _lean_factors(root / "factor_files" / f"{name}.csv", days)
    paid, splits = np.ones(len(days)), np.ones(len(days))
    paid[1:], splits[1:] = price[:-1] / price[1:], _ratio(split[1:] / split[:-1])
    adjusted = values["close"] * price * split
    actions = _actions(days, values["close"], paid, splits)
    volume = frame["volume"].to_numpy()
    return Series(
        symbol=name.split(".")[0].upper(), session=days, volume=volume, adj_close=adjusted, actions=actions, **values
    )


def _lean_bars(path: Path, before: str, last: str) -> pl.DataFrame:
    """Bars of one ticker while it was the instrument's: after ``before`` (its first day included) up to ``last``."""
    with zipfile.ZipFile(path) as archive:
        body = archive.read(archive.namelist()[0])
    names = ["time", *PRICES, "volume"]
    frame = pl.read_csv(body, has_header=False, infer_schema=False, new_columns=names)
    day = pl.col("time").str.slice(0, 8)
    return frame.filter((day >= before) & (day <= last)).select(
        session=day.str.to_date("%Y%m%d"), **{name: pl.col(name).cast(pl.Float64) for name in names[1:]}
    )


def _lean_factors(path: Path, days: DateArray) -> tuple[FloatArray, FloatArray]:
    """Price and split factor on each day; a line of the file holds up to and with its day."""
    frame = pl.read_csv(path, has_header=False, infer_schema=False, new_columns=["session", "price", "split", "close"])
    ends = frame["session"].str.to_date("%Y%m%d").to_numpy().astype("datetime64[D]")
    at = np.minimum(np.searchsorted(ends, days), len(ends) - 1)
    price, split = (frame[name].cast(pl.Float64).to_numpy()[at] for name in ("price", "split"))
    return price, split


def _until(one: Series, last: date) -> Series:
    """The same up to and with ``last``."""
    end = int(np.searchsorted(one.session, np.datetime64(last), side="right"))
    cut = {name: getattr(one, name)[:end] for name in ("session", *PRICES, "volume", "adj_close")}
    return replace(one, actions=tuple(action for action in one.actions if action[0] <= np.datetime64(last)), **cut)


def coins(folder: Path) -> list[Series]:
    """23 coins, one bar for a UTC day; neither actions nor an adjusted close."""
    frame = pl.read_parquet(folder / "crypto_daily_23coins.parquet").with_columns(pl.col("date").cast(pl.Date))
    found = []
    for key, part in frame.sort("symbol", "date").group_by("symbol", maintain_order=True):
        values = {name: part[name].to_numpy().astype(np.float64) for name in (*PRICES, "volume")}
        days = part["date"].to_numpy().astype("datetime64[D]")
        none = np.full(len(days), np.nan)
        found.append(Series(symbol=str(key[0]), session=days, adj_close=none, actions=(), **values))
    return found
