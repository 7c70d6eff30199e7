"""Our adjustment against what four vendors published: Lean's factor files, zipline's and Quandl's samples, Yahoo.

Measured, largest relative difference of any close: at most 2e-6 where the published numbers have the digits. The
larger ones have a reason each, and a test that shows it.
"""

from __future__ import annotations

import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from lean_data import actions_behind, daily, factors, maps, published

from octopus.market_data.adjust import adjusted_closes, session_factors, spin_off_worths
from octopus.market_data.identifiers import spans_of_maps, with_permanent_id
from octopus.market_data.returns import total_returns
from octopus.market_data.splits import later_split_factor
from octopus.warehouse.defects.adjusted import vendor_disagreement
from octopus.warehouse.defects.audit import audit
from octopus.warehouse.defects.tape import tape_of
from octopus.warehouse.quality import Finding, Kind

pytestmark = pytest.mark.testdata


def difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Relative difference of two adjusted closes, both told from their last session; shape (T,)."""
    ratio = ours[:, 0] / theirs[:, 0]
    return np.abs(ratio / ratio[-1] - 1)


def column(frame: pl.DataFrame, name: str) -> np.ndarray:
    return frame.select(pl.col(name).cast(pl.Float64)).to_numpy()


def history(test_data: Path, permanent_id: str, *files: str) -> pl.DataFrame:
    """Bars of one instrument, out of the files of the tickers that it had."""
    bars = pl.concat([daily(test_data, name).with_columns(instrument=pl.lit(name.upper())) for name in files])
    known = with_permanent_id(bars, spans_of_maps(maps(test_data)))
    return known.filter(permanent_id=permanent_id).select("session", "close").sort("session")


def lean_difference(test_data: Path, bars: pl.DataFrame, name: str, decimals: int) -> np.ndarray:
    held = factors(test_data, name)
    split, dividend = actions_behind(bars, held, decimals)
    ours = adjusted_closes(column(bars, "close"), split, dividend)
    assert np.isfinite(ours).all()
    return difference(ours, published(bars, held))


# Lean: printed closes and factors of a quarter of a century -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "permanent_id", "files", "payments", "decimals", "measured"),
    [
        ("aapl", "AAPL@1998-01-02", ["aapl"], 35, 4, 2e-7),
        ("ibm", "IBM@1998-01-02", ["ibm"], 93, 2, 2e-7),
        ("aig", "AIG@1998-01-02", ["aig"], 75, 4, 3e-7),
        ("bac", "NB@1998-01-02", ["bac"], 90, 4, 5e-7),
        ("spy", "SPY@1998-01-02", ["spy"], 94, 4, 4e-7),
        ("iwm", "IWM@2000-05-26", ["iwm"], 86, 4, 1e-6),
        ("eem", "EEM@2003-04-11", ["eem"], 35, 4, 2e-6),
        ("wm", "UW@1998-01-02", ["uw", "wmi", "wm"], 76, 4, 4e-7),
        ("goog", "GOOCV@2014-03-27", ["goocv", "goog"], 0, 4, 1e-12),
        ("googl", "GOOG@2004-08-19", ["goog", "googl"], 0, 4, 1e-12),
        ("uso", "USO@2006-04-10", ["uso"], 0, 4, 1e-12),
    ],
)
def test_lean_factors_follow_from_splits_and_declared_dividends(
    test_data, name, permanent_id, files, payments, decimals, measured
):
    """Dividends are read off the factors and rounded as declared (IBM's to the cent): the rest is their rounding."""
    bars = history(test_data, permanent_id, *files)
    _, dividend = actions_behind(bars, factors(test_data, name), decimals)
    assert (dividend > 0).sum() == payments
    assert lean_difference(test_data, bars, name, decimals).max() <= measured


def test_where_lean_differs_by_more_the_closes_are_missing_or_another_companys(test_data):
    """QQQ: 4e-3 before December 2004, since the sample has no bar of QQQQ, hence no close before 24 payments.
    BAC: 2e-3 before October 1998, when Bank of America was NB and BAC another bank.
    """
    nasdaq = daily(test_data, "qqq")
    off = lean_difference(test_data, nasdaq, "qqq", 4)
    old = (nasdaq["session"] <= date(2004, 11, 30)).to_numpy()
    assert 4e-3 < off[old].max() < 5e-3
    assert off[~old].max() < 2e-6
    bank = daily(test_data, "bac")
    off = lean_difference(test_data, bank, "bac", 4)
    old = (bank["session"] <= date(1998, 9, 30)).to_numpy()
    assert 1e-3 < off[old].max() < 3e-3
    assert off[~old].max() < 5e-7


# Lean: spin-offs that its factor files hold ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "last_day", "ratio", "opened_at", "loss"),
    [
        # News Corp of 21st Century Fox: one for four. Its first close is what Lean's factor implies; -8.8 % without it.
        ("tfcfa", date(2013, 6, 28), 1 / 4, 15.28, -0.098),
        # Time Warner Cable and AOL of Time Warner.
        ("twx", date(2009, 3, 26), 0.083670, 26.32, -0.048),
        ("twx", date(2009, 12, 9), 1 / 11, 23.52, -0.066),
    ],
)
def test_a_spin_off_of_leans_factor_files_is_a_payment_of_its_worth(test_data, name, last_day, ratio, opened_at, loss):
    """Ratios are the companies' own; the factor follows from the ratio and a first close in cents, to 1e-4."""
    held = factors(test_data, name)
    line = held["session"].to_list().index(last_day)
    before, after = held["price"][line], held["price"][line + 1]
    close = np.array([[held["reference"][line], np.nan], [held["reference"][line] * (1 + loss), opened_at]])
    ratios, company = np.array([[0.0, 0.0], [ratio, 0.0]]), np.array([[-1, -1], [1, -1]])
    days = np.array([last_day, last_day], dtype="datetime64[D]") + np.array([0, 1])
    worth = spin_off_worths(close, ratios, company, days)
    none, one = np.zeros((2, 2)), np.ones((2, 2))
    assert session_factors(close, one, none, spin_off=worth)[1, 0] == pytest.approx(before / after, abs=1e-4)
    plain, total = total_returns(close, one, none)[1, 0], total_returns(close, one, none, worth)[1, 0]
    assert plain == pytest.approx(loss)
    assert total == pytest.approx(loss + worth[1, 0] / close[0, 0])


def test_googles_class_c_shares_are_no_loss_of_class_a(test_data):
    """On 2014-04-03 each GOOG brought one GOOCV, from then on called GOOG; Lean counts it as a split in two.

    Both classes are recorded: 571.50 and 569.74 after 1135.10 are +0.5 %, where the price alone says -49.7 %. Lean's
    split says +0.7 %: it takes the class C share for a class A share.
    """
    old, new = (
        history(test_data, permanent_id, *files).filter(
            pl.col("session").is_between(date(2014, 3, 20), date(2014, 4, 10))
        )
        for permanent_id, files in (("GOOG@2004-08-19", ["goog", "googl"]), ("GOOCV@2014-03-27", ["goog"]))
    )
    both = old.join(new, on="session", how="left", suffix="_c").sort("session")
    close = both.select("close", "close_c").to_numpy()
    days = both["session"].to_numpy().astype("datetime64[D]")
    row = int(np.searchsorted(days, np.datetime64("2014-04-03")))
    ratio, company = np.zeros(close.shape), np.full(close.shape, -1)
    ratio[row, 0], company[row, 0] = 1.0, 1
    worth = spin_off_worths(close, ratio, company, days)
    assert worth[row, 0] == pytest.approx(569.74)
    none, one = np.zeros(close.shape), np.ones(close.shape)
    assert total_returns(close, one, none)[row, 0] == pytest.approx(571.50 / 1135.10 - 1)
    assert total_returns(close, one, none, worth)[row, 0] == pytest.approx((571.50 + 569.74) / 1135.10 - 1)
    split = np.where(ratio > 0, 2.0, 1.0)
    assert total_returns(close, split, none)[row, 0] == pytest.approx(2 * 571.50 / 1135.10 - 1)
    factor = session_factors(close, one, none, spin_off=worth)[row, 0]
    held = factors(test_data, "googl")
    assert factor == pytest.approx(held["split"][1] / held["split"][2], abs=0.003)


# zipline: dividends and splits recorded by another vendor than the prices --------------------------------------------


def zipline(test_data: Path, symbol: str) -> tuple[pl.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Sessions; printed closes, splits and printed dividends, shapes (T, 1): the file is adjusted for splits."""
    path = test_data / "zipline" / "csvdir_samples" / "csvdir" / "daily" / f"{symbol}.csv.gz"
    frame = pl.read_csv(path, try_parse_dates=True).rename({"date": "session"})
    days, split = frame["session"].to_numpy().astype("datetime64[D]"), column(frame, "split")
    happened = split[:, 0] != 1.0
    factor = later_split_factor(days, days[happened], split[happened, 0])[:, None]
    cash = np.round(column(frame, "dividend") * factor, 4)
    return frame.select("session"), column(frame, "close") * factor, split, cash


@pytest.mark.parametrize("symbol", ["AAPL", "IBM"])
def test_dividends_of_one_vendor_give_the_factors_of_another(test_data, symbol):
    """zipline's actions on Lean's printed closes against Lean's factors, 2012 to 2014: 4e-7."""
    days, _, split, dividend = zipline(test_data, symbol)
    bars = daily(test_data, symbol.lower()).join(days, on="session", how="semi")
    assert len(bars) == len(days) == 754
    ours = adjusted_closes(column(bars, "close"), split, dividend)
    assert difference(ours, published(bars, factors(test_data, symbol.lower()))).max() < 5e-7


@pytest.mark.parametrize("symbol", ["AAPL", "KO", "MSFT"])
def test_dividends_of_zipline_give_the_adjusted_closes_of_yahoo(test_data, symbol):
    """Against Yahoo's adjusted closes as StockNet recorded them, 2012-09 to 2014-12: 7e-7, their sixth decimal."""
    days, close, split, dividend = zipline(test_data, symbol)
    theirs = pl.read_parquet(test_data / "prices_stocknet.parquet").filter(symbol=symbol).select(
        "adj_close", session=pl.col("date").cast(pl.Date)
    )  # fmt: skip
    ours = days.with_columns(ours=adjusted_closes(close, split, dividend)[:, 0])
    both = ours.join(theirs, on="session").sort("session")
    assert len(both) == 585
    assert difference(column(both, "ours"), column(both, "adj_close")).max() < 1e-6


# Quandl's WIKI: another convention ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wiki(test_data: Path) -> pl.DataFrame:
    with zipfile.ZipFile(test_data / "zipline" / "quandl_samples" / "QUANDL_ARCHIVE.zip") as archive:
        return pl.read_csv(archive.read("QUANDL_SAMPLE_TABLE.csv"), try_parse_dates=True).sort("ticker", "date")


@pytest.mark.parametrize(("ticker", "measured"), [("AAPL", 4e-5), ("MSFT", 1.6e-4), ("BRK_A", 1e-12), ("ZEN", 1e-12)])
def test_wiki_divides_by_the_close_of_the_ex_session(wiki, ticker, measured):
    """Its adjusted closes move exactly as our total returns do; ours differ by the ex-session's move of each dividend.

    A dividend there takes off ``1 - 1 / (1 + cash / close)``, the cash bought shares at the ex-session's close.
    """
    bars = wiki.filter(ticker=ticker)
    close, split, dividend = (column(bars, name) for name in ("close", "split_ratio", "ex-dividend"))
    theirs = column(bars, "adj_close")
    np.testing.assert_allclose(total_returns(close, split, dividend)[1:, 0], np.diff(theirs[:, 0]) / theirs[:-1, 0],
                               rtol=0, atol=1e-12)  # fmt: skip
    ours = adjusted_closes(close, split, dividend)
    assert difference(ours, theirs).max() <= measured
    bought = 1 / (1 + dividend / close) / split
    gone = session_factors(close, split, dividend) / bought
    np.testing.assert_allclose((theirs / ours)[:-1] / (theirs / ours)[1:], 1 / gone[1:], rtol=1e-12)


# the comparison finds what is wrong -----------------------------------------------------------------------------------


def compared(test_data: Path, name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Lean's bars with its adjusted closes, rounded as vendors store them, and the actions behind."""
    bars, held = daily(test_data, name), factors(test_data, name)
    split, dividend = actions_behind(bars, held, 4)
    price = pl.col("close")
    frame = bars.with_columns(
        instrument=pl.lit(name.upper()), open=price, high=price, low=price, volume=pl.lit(None, pl.Float64),
        adj_close=pl.Series(np.round(published(bars, held)[:, 0], 6)),
    )  # fmt: skip
    actions = pl.concat(
        [
            bars.select("session", kind=pl.lit(kind), value=pl.Series(values[:, 0])).filter(pl.col("value") != usual)
            for kind, values, usual in (("split", split, 1.0), ("dividend", dividend, 0.0))
        ]
    )
    return frame, actions.with_columns(instrument=pl.lit(name.upper()))


def runs(frame: pl.DataFrame, actions: pl.DataFrame) -> list[Finding]:
    return vendor_disagreement(tape_of(frame, actions, "printed"))


@pytest.mark.parametrize("name", ["aapl", "ibm", "aig", "spy", "eem"])
def test_right_actions_disagree_nowhere(test_data, name):
    assert runs(*compared(test_data, name)) == []


def test_a_wrong_split_is_one_run_with_its_ratio(test_data):
    frame, actions = compared(test_data, "aapl")
    seven = (pl.col("kind") == "split") & (pl.col("session") == date(2014, 6, 9))
    wrong = actions.with_columns(value=pl.when(seven).then(6.0).otherwise("value"))
    assert wrong.filter(seven).height == 1
    (found,) = runs(frame, wrong)
    assert (found.session_from, found.session_to) == (date(1998, 1, 2), date(2014, 6, 6))
    assert found.evidence["ratio"] == pytest.approx(6 / 7, abs=1e-5)
    assert found.kind is Kind.ADJUSTED_LEVEL
    assert found.known_session == date(2014, 6, 13)


def test_a_missing_dividend_is_one_run_up_to_its_ex_session(test_data):
    frame, actions = compared(test_data, "ibm")
    paid = (pl.col("kind") == "dividend") & (pl.col("session") == date(2014, 5, 7))
    assert actions.filter(paid)["value"].to_list() == [1.10]
    (found,) = runs(frame, actions.filter(~paid))
    before = frame.filter(session=date(2014, 5, 6))["close"][0]
    assert (found.session_from, found.session_to) == (date(1998, 1, 2), date(2014, 5, 6))
    assert found.evidence["ratio"] == pytest.approx(1 - 1.10 / before, abs=1e-6)


def test_two_errors_are_two_runs(test_data):
    frame, actions = compared(test_data, "ibm")
    days = date(2005, 5, 6), date(2014, 5, 7)
    wrong = actions.filter(~pl.col("session").is_in(days))
    assert actions.height - wrong.height == 2
    old, new = runs(frame, wrong)
    assert (old.session_to, new.session_from) == (date(2005, 5, 5), date(2005, 5, 6))
    assert old.evidence["ratio"] < new.evidence["ratio"] < 1


def test_what_is_small_at_each_payment_is_found_in_their_sum(test_data):
    """Every dividend two percent short: no step is out of the ordinary, the level is off by half a percent."""
    frame, actions = compared(test_data, "ibm")
    short = actions.with_columns(
        value=pl.col("value") * pl.when(pl.col("kind") == "dividend").then(0.98).otherwise(1.0)
    )
    tape = tape_of(frame, short, "printed")
    assert not (np.abs(tape.residue) > tape.residue_bound).any()
    (found,) = vendor_disagreement(tape)
    assert found.session_from == date(1998, 1, 2)
    assert 0.985 < found.evidence["ratio_least"] < 0.996
    kinds = [one.kind for one in audit(frame.with_columns(volume=pl.lit(1e6)), short)]
    assert Kind.ADJUSTED_LEVEL in kinds


def test_a_defect_that_the_audit_mends_is_not_told_twice(test_data):
    """The audit names the missing dividend; after its repair the levels agree."""
    frame, actions = compared(test_data, "ibm")
    missing = actions.filter(pl.col("session") != date(2014, 5, 7))
    found = audit(frame.with_columns(volume=pl.lit(1e6)), missing)
    kinds = [one.kind for one in found]
    assert Kind.MISSING_DIVIDEND in kinds
    assert Kind.ADJUSTED_LEVEL not in kinds


def test_closes_fetched_on_different_days_are_compared_as_of_their_own(test_data):
    """A daily run stores each adjusted close as of its own day: no later split or dividend is in it."""
    frame, actions = compared(test_data, "aapl")
    recent = frame.filter(pl.col("session") >= date(2019, 1, 2))
    actions = actions.filter(pl.col("session") >= date(2019, 1, 2))
    # Fetched at the end of each month, back to the last fetch.
    fetched = recent.with_columns(
        adj_as_of=pl.min_horizontal(pl.col("session").dt.month_end(), pl.lit(recent["session"].max()))
    )
    split, dividend = (
        recent.select("session").join(actions.filter(kind=kind), on="session", how="left")["value"].fill_null(usual)
        for kind, usual in (("split", 1.0), ("dividend", 0.0))
    )
    days, ends = (fetched[name].to_numpy().astype("datetime64[D]") for name in ("session", "adj_as_of"))
    rows = np.searchsorted(days, ends, side="right") - 1
    stored = adjusted_closes(
        column(recent, "close"), split.to_numpy()[:, None], dividend.to_numpy()[:, None], as_of_row=rows[:, None]
    )
    assert np.isfinite(stored).all()
    fetched = fetched.with_columns(adj_close=pl.Series(stored[:, 0]))
    assert runs(fetched, actions) == []
    steps = tape_of(fetched, actions, "printed")
    assert not (np.abs(steps.residue) > steps.residue_bound).any()
    # Without their days they are read as told from the last one, and each ex-session is a step too few.
    mixed = tape_of(fetched.drop("adj_as_of"), actions, "printed")
    assert (np.abs(mixed.residue) > mixed.residue_bound).sum() >= 8
    # And an error of the vendor is still found.
    wrong = fetched.with_columns(
        adj_close=pl.when(pl.col("session") < date(2019, 9, 3)).then(pl.col("adj_close") * 1.02).otherwise("adj_close")
    )
    (found,) = runs(wrong, actions)
    assert found.session_to == date(2019, 8, 30)
    assert found.evidence["ratio"] == pytest.approx(1.02, abs=1e-4)
