"""Several currencies in one: which rate counts when, what is missing is an error or a rule, and never one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from octopus.core.errors import MissingDataError
from octopus.core.panel import Panel
from octopus.market_data.currencies import PATIENCE_SESSIONS, as_printed, in_base
from octopus.market_data.returns import total_returns


def panel_of(**columns: list[float]) -> Panel:
    """Closes by instrument, on business days."""
    close = np.array(list(columns.values())).T
    empty, ones = np.full(close.shape, np.nan), np.ones(close.shape)
    return Panel(
        sessions=np.busday_offset("2024-01-02", np.arange(len(close))).astype("datetime64[D]"),
        symbols=tuple(columns), close=close, total_return=total_returns(close, ones, ones * 0),
        open=empty, high=empty, low=empty, volume=empty, member=~np.isnan(close), sentiment=empty, split=ones,
        dividend=ones * 0, price_basis="raw",
    )  # fmt: skip


NAN = float("nan")
UNITS = {"KO": "USD", "SAP": "EUR", "VOD": "GBp", "EURUSD": "USD", "GBPUSD": "USD", "USDEUR": "EUR"}


def test_prices_stay_as_printed_and_returns_are_in_the_base_currency():
    told = panel_of(EURUSD=[1.0, 1.1, 1.1], KO=[50.0, 55.0, 55.0], SAP=[100.0, 100.0, 120.0])
    panel = in_base(told, "USD", {"EUR": "EURUSD"}, UNITS)
    assert panel.symbols == ("KO", "SAP")
    assert panel.currency == ("USD", "EUR")
    assert panel.close[:, 1].tolist() == [100.0, 100.0, 120.0]
    assert panel.worth[:, 1].tolist() == pytest.approx([100.0, 110.0, 132.0])
    assert panel.total_return[1:, 1].tolist() == pytest.approx([0.1, 0.2])
    # Where the rate stood still, and in the base currency, not a bit is another.
    assert panel.total_return[2, 1] == told.total_return[2, 2]
    assert panel.total_return[1, 0] == told.total_return[1, 1]
    assert as_printed(panel).total_return[1, 1] == 0.0


def test_a_pair_may_be_told_either_way_round():
    one = in_base(panel_of(SAP=[10.0, 10.0], USDEUR=[0.8, 0.5]), "USD", {"EUR": "USDEUR"}, UNITS)
    assert one.rate is not None
    assert one.rate[:, 0].tolist() == [1.25, 2.0]


def test_pence_are_a_hundredth_of_a_pound_at_the_pounds_rate():
    panel = in_base(panel_of(GBPUSD=[1.25, 1.25], VOD=[70.0, 80.0]), "USD", {"GBP": "GBPUSD"}, UNITS)
    assert panel.worth[:, 0].tolist() == pytest.approx([0.875, 1.0])
    at_home = in_base(panel_of(VOD=[70.0, 80.0]), "GBP", {}, UNITS)
    assert at_home.worth[:, 0].tolist() == pytest.approx([0.7, 0.8])
    assert not at_home.foreign.any()
    assert panel.foreign.all()


def test_nothing_is_touched_in_one_currency():
    told = panel_of(KO=[50.0, 55.0])
    assert in_base(told, "USD", {}, UNITS) is told
    beside = in_base(panel_of(EURUSD=[1.0, 1.1], KO=[50.0, 55.0]), "USD", {"EUR": "EURUSD"}, UNITS)
    assert beside.symbols == ("KO",)
    assert beside.rate is None


def test_before_the_first_rate_nothing_is_a_member_and_a_short_hole_is_bridged():
    told = panel_of(EURUSD=[NAN, 1.1, NAN, 1.2], SAP=[10.0, 10.0, 10.0, 10.0])
    panel = in_base(told, "USD", {"EUR": "EURUSD"}, UNITS)
    assert panel.member[:, 0].tolist() == [False, True, True, True]
    assert np.isnan(panel.worth[0, 0])
    assert panel.worth[1:, 0].tolist() == pytest.approx([11.0, 11.0, 12.0])
    assert np.isnan(panel.total_return[1, 0])
    assert panel.total_return[2, 0] == 0.0


def test_a_rate_depends_on_no_later_bar():
    generator = np.random.default_rng(3)
    levels = np.where(generator.random(40) < 0.3, np.nan, 1.1 + generator.normal(scale=0.02, size=40)).tolist()
    whole = panel_of(EURUSD=levels, SAP=(10 + generator.random(40)).tolist())
    panel = in_base(whole, "USD", {"EUR": "EURUSD"}, UNITS)
    for stop in (5, 17, 39):
        cut = in_base(whole.rows(0, stop), "USD", {"EUR": "EURUSD"}, UNITS)
        for name in ("rate", "total_return", "member"):
            assert np.array_equal(getattr(cut, name), getattr(panel, name)[:stop], equal_nan=name != "member")


def test_days_of_rates_alone_are_no_sessions_of_the_panel():
    panel = in_base(panel_of(EURUSD=[1.0, 1.1, 1.2, 1.3], SAP=[NAN, 10.0, 10.0, NAN]), "USD", {"EUR": "EURUSD"}, UNITS)
    assert panel.close.tolist() == [[10.0], [10.0]]
    assert panel.rate is not None
    assert panel.rate.tolist() == [[1.1], [1.2]]


@pytest.mark.parametrize(
    ("told", "base", "pairs", "units", "message"),
    [
        ({"SAP": [10.0]}, "USD", {}, UNITS, "SAP: quoted in EUR, the account counts in USD, and universe.rates has no"),
        ({"SAP": [10.0]}, "USD", {"EUR": "EURUSD"}, UNITS, "EUR: EURUSD has no bar yet, and SAP cannot be valued"),
        ({"SAP": [10.0], "GBPUSD": [1.2]}, "CHF", {"EUR": "GBPUSD"}, UNITS, "GBPUSD is quoted in USD, which is n"),
        ({"NEW": [10.0]}, "USD", {}, UNITS, "NEW is traded, and no description says in which currency"),
        ({"EURUSD": [1.1]}, "USD", {"EUR": "EURUSD"}, UNITS, "no instrument but currency pairs has a bar"),
        (
            {"EURUSD": [1.1, *[NAN] * (PATIENCE_SESSIONS + 1)], "SAP": [10.0] * (PATIENCE_SESSIONS + 2)},
            "USD", {"EUR": "EURUSD"}, UNITS,
            "EURUSD has no bar for the 6 sessions up to 2024-01-10, and SAP would be valued at a rate older than 5",
        ),
    ],
)  # fmt: skip
def test_a_missing_or_old_rate_is_an_error_that_names_it(told, base, pairs, units, message):
    with pytest.raises(MissingDataError, match=message):
        in_base(panel_of(**told), base, pairs, units)


def test_a_rate_that_nobody_needs_may_be_old():
    told = panel_of(EURUSD=[1.1] + [NAN] * 7, KO=[10.0] * 8, SAP=[10.0] + [NAN] * 7)
    panel = in_base(told, "USD", {"EUR": "EURUSD"}, UNITS)
    assert panel.rate is not None
    assert panel.rate[-1].tolist() == [1.0, 1.1]


def test_a_panel_with_rates_names_every_currency():
    panel = in_base(panel_of(EURUSD=[1.1], SAP=[10.0]), "USD", {"EUR": "EURUSD"}, UNITS)
    with pytest.raises(MissingDataError, match="names 0 currencies for 1 instruments"):
        replace(panel, currency=())
