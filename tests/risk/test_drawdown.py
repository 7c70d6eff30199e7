"""The drawdown stop's peak: which NAVs count, who resets it, and when a simulation does."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.orders import Outcome
from octopus.risk.drawdown import Flows, Nav, SimulatedPeak, levels, references
from tests.risk.test_risk_gate import limited, market, on_batch, order, run, snapshot

DAY = date(2022, 12, 27)
D = Decimal


def nav(day: date, opening: object, closing: object, flows: object = 0, part: object = 1) -> Nav:
    """``part``: of the session for which the flow was there."""
    moved = D(str(flows))
    return Nav(day, D(str(opening)), D(str(closing)), moved, moved * D(str(part)))


def days(*navs: tuple[object, ...]) -> list[Nav]:
    """Sessions until `DAY`, each of opening, closing, flows and their part."""
    return [nav(DAY - timedelta(days=len(navs) - 1 - place), *given) for place, given in enumerate(navs)]  # type: ignore[arg-type]


NAVS = days((90, 90), (90, 100), (100, 71), (71, 70))


@pytest.mark.parametrize(
    ("since", "expected"),
    [(None, 100), (DAY - timedelta(days=2), 100), (DAY - timedelta(days=1), 71), (DAY, 70),
     # A reset that is dated ahead of the session does not count yet.
     (DAY + timedelta(days=1), 100)],
)  # fmt: skip
def test_only_equity_since_the_signed_date_counts(since: date | None, expected: int) -> None:
    limits = limited(drawdown_since=since)
    assert references(NAVS, Flows(), D(69), DAY, limits) == (expected, 70)
    assert references(NAVS, Flows(), D(120), DAY, limits) == (120, 70)


@pytest.mark.parametrize(
    ("navs", "since", "equity", "lost"),
    [
        # 26 % lost: a deposit afterwards lifts nothing, at the close, overnight, or on the next day.
        (days((1_000_000, 1_000_000), (1_000_000, 740_000)), 0, 740_000, "0.26"),
        (days((1_000_000, 1_000_000), (1_000_000, 840_000, 100_000, 0)), 0, 840_000, "0.26"),
        (days((1_000_000, 1_000_000), (1_000_000, 740_000)), 9_000_000, 9_740_000, "0.26"),
        (days((1_000_000, 1_000_000), (1_000_000, 740_000), (740_000, 9_740_000, 9_000_000)), 0, 9_740_000, "0.26"),
        # 10 % lost: a withdrawal afterwards makes no more of it.
        (days((1_000_000, 1_000_000), (1_000_000, 250_000, -650_000, 0)), 0, 250_000, "0.1"),
        (days((1_000_000, 1_000_000), (1_000_000, 900_000)), -650_000, 250_000, "0.1"),
        # 24 % lost, nine millions come in, and a tenth of all of it goes.
        (days((1_000_000, 1_000_000), (1_000_000, 760_000), (760_000, 8_784_000, 9_000_000)), 0, 8_784_000, "0.316"),
        # All goes out and other money comes in: the account is the one that lost a quarter.
        (days((100, 100), (100, 75), (75, 0, -75), (0, 0), (0, 500, 500)), 0, 500, "0.25"),
    ],
)  # fmt: skip
def test_what_the_owner_moves_lifts_no_stop_and_trips_none(navs: list[Nav], since: int, equity: int, lost: str) -> None:
    peak, _ = references(navs, Flows(D(since), D(since)), D(equity), DAY, limited(drawdown_since=None))
    assert float(1 - equity / peak) == pytest.approx(float(lost), rel=1e-9)


PERCENT = st.integers(-60, 60)


@given(
    moves=st.lists(st.tuples(PERCENT, PERCENT, st.integers(0, 4)), min_size=1, max_size=12),
    start=st.integers(10**6, 10**9),
)
def test_the_drawdown_is_that_of_the_same_returns_without_any_flow(
    moves: list[tuple[int, int, int]], start: int
) -> None:
    opening, level, highest, navs = D(start), D(1), D(0), list[Nav]()
    for place, (gained, moved, quarters) in enumerate(moves):
        flow, part = opening * moved / 100, D(quarters) / 4
        closing = opening + flow + (opening + flow * part) * gained / 100
        navs.append(Nav(DAY - timedelta(days=len(moves) - place), opening, closing, flow, flow * part))
        opening, level = closing, level * (100 + gained) / 100
        if closing <= 0:
            return
        highest = max(highest, level)
    peak, previous = references(navs, Flows(), opening, DAY, limited(drawdown_since=None))
    assert previous == opening.quantize(D("1e-8"))
    assert float(opening / peak) == pytest.approx(float(level / highest), rel=1e-6, abs=1e-6)
    assert [float(found) for _, found in levels(navs)][-1] == pytest.approx(float(level), rel=1e-12)


def test_an_account_that_lost_everything_is_measured_on() -> None:
    peak, previous = references(days((100, 100), (100, 0)), Flows(D(50), D(50)), D(50), DAY, limited())
    assert previous == 50
    assert 1 - 50 / peak > D("0.99")
    assert references([], Flows(), D(70), DAY, limited()) == (70, 70)


def test_a_reset_lets_a_stopped_account_buy_again_and_the_denial_says_how() -> None:
    buy, limits = order("AAA", "buy", 10), limited(drawdown_stop=0.25)
    stopped = run(buy, context=market(nav_peak=snapshot().equity * 2), limits=limits)
    assert not stopped.approved
    assert "set drawdown_since in risk.yaml and sign it twice" in on_batch(stopped, "drawdown_stop").reason
    reset, equity = limits.model_copy(update={"drawdown_since": DAY}), snapshot().equity
    peak, _ = references(days((equity * 2, equity * 2), (equity * 2, equity)), Flows(), equity, DAY, reset)
    again = run(buy, context=market(nav_peak=peak), limits=reset)
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
