"""The drawdown stop's peak: which NAVs count, who resets it, and when a simulation does."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.orders import Outcome
from octopus.risk.drawdown import SimulatedPeak, peak
from tests.risk.test_risk_gate import limited, market, on_batch, order, run, snapshot

DAY = date(2022, 12, 27)
NAVS = [(DAY - timedelta(days=back), Decimal(nav)) for back, nav in enumerate((70, 71, 100, 90))]


@pytest.mark.parametrize(
    ("since", "expected"),
    [(None, 100), (DAY - timedelta(days=2), 100), (DAY - timedelta(days=1), 71), (DAY, 70),
     # A reset that is dated ahead of the session does not count yet.
     (DAY + timedelta(days=1), 100)],
)  # fmt: skip
def test_only_equity_since_the_signed_date_counts(since: date | None, expected: int) -> None:
    assert peak(NAVS, Decimal(69), DAY, limited(drawdown_since=since)) == expected
    assert peak(NAVS, Decimal(120), DAY, limited(drawdown_since=since)) == 120


def test_a_reset_lets_a_stopped_account_buy_again_and_the_denial_says_how() -> None:
    buy, limits = order("AAA", "buy", 10), limited(drawdown_stop=0.25)
    stopped = run(buy, context=market(nav_peak=snapshot().equity * 2), limits=limits)
    assert not stopped.approved
    assert "set drawdown_since in risk.yaml and sign it twice" in on_batch(stopped, "drawdown_stop").reason
    reset = limits.model_copy(update={"drawdown_since": DAY})
    navs = [(DAY - timedelta(days=1), snapshot().equity * 2)]
    again = run(buy, context=market(nav_peak=peak(navs, snapshot().equity, DAY, reset)), limits=reset)
    assert again.approved
    assert on_batch(again, "drawdown_stop").outcome is Outcome.PASS


def test_a_simulated_stop_ends_after_so_many_sessions_with_a_new_peak() -> None:
    water = SimulatedPeak(limited(drawdown_stop=0.25, drawdown_resume_sessions=2), Decimal(100))
    closes = [100, 75, 74, 73, 74, 60, 55, 54, 53, 80]
    #              at the limit it is not beyond; 74 is the first of three, the third makes the peak
    assert [int(water.close(Decimal(close))) for close in closes] == [100, 100, 100, 100, 74, 74, 74, 74, 53, 80]


@given(closes=st.lists(st.integers(1, 200), min_size=1, max_size=30), after=st.integers(1, 4))
def test_a_peak_is_never_beyond_the_stop_for_longer(closes: list[int], after: int) -> None:
    water = SimulatedPeak(limited(drawdown_stop=0.3, drawdown_resume_sessions=after), Decimal(closes[0]))
    never = SimulatedPeak(limited(drawdown_stop=0.3, drawdown_resume_sessions=None), Decimal(closes[0]))
    beyond = 0
    for close in map(Decimal, closes):
        value = water.close(close)
        assert close <= value <= never.close(close)
        beyond = beyond + 1 if 1 - close / value > Decimal("0.3") else 0
        assert beyond <= after
    assert never.value == max(closes)
