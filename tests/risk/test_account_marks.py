"""What the account is worth at the moment of the judgement: the broker's prices, ours, and which counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.ids import canonical_json
from octopus.core.orders import GateReport, OrderType, Outcome
from octopus.risk.book import open_book
from octopus.risk.gate import judged_again
from octopus.risk.market import LastPrice
from tests.risk.test_risk_gate import NOW, PRICES, denied, limited, market, on_batch, order, run, snapshot

D = Decimal
STOPS = limited(loss_per_day_max=0.08, drawdown_stop=0.25, price_collar=0.1)
HUNDRED = market(nav_peak=D(100_000), nav_previous=D(100_000))


def quoting(cash: int, held: int, price: object) -> object:
    """``held`` AAA, whose last close is 100, quoted by the broker at ``price``."""
    return snapshot(cash, {"AAA": held}, prices={**PRICES, "AAA": D(str(price))})


def test_a_fall_since_the_close_stops_the_account() -> None:
    """The close of T says 100,000; the broker says 64,000 now."""
    account = quoting(10_000, 900, 60)
    report = run(order("BBB", "buy", 10), order("BBB", "sell", 1, number=1), account=account, context=HUNDRED,
                 limits=STOPS)  # fmt: skip
    assert report.approved == ()
    for rule in ("drawdown_stop", "loss_per_day"):
        assert on_batch(report, rule).value == pytest.approx(0.36)
        assert "equity 64,000.00" in on_batch(report, rule).reason
    require_told_again(report)
    assert run(order("AAA", "sell", 100, price=63), account=quoting(10_000, 900, 60), context=at(63),
               limits=STOPS).approved  # fmt: skip


def at(last: object) -> object:
    prices = {**HUNDRED.last_prices, "AAA": LastPrice(D(str(last)), NOW - timedelta(hours=18))}
    return replace(HUNDRED, last_prices=prices)


def require_told_again(report: GateReport) -> None:
    assert report.evidence is not None
    again = judged_again(canonical_json(report.evidence.record()), report.evidence.contents())
    assert again.verdicts == report.verdicts


def test_a_gain_since_the_close_stops_nothing() -> None:
    """40 % up by the broker, and the references are of our book: no one measures a gain as a fall from itself."""
    report = run(order("BBB", "buy", 10), account=quoting(10_000, 900, 140), context=HUNDRED, limits=STOPS)
    assert report.approved
    assert on_batch(report, "drawdown_stop").value == 0.0


def test_the_collar_is_around_the_last_price_and_around_the_brokers() -> None:
    account = quoting(100_000, 0, 64)
    (denial,) = denied(run(order("AAA", "buy", 1), account=account, limits=STOPS), "AAA-buy-0")
    assert denial.rule == "price_collar"
    assert denial.reason == "reference price 100 is 56.25% from the broker's price 64"
    # A limit that our close would allow, and the broker's price does not.
    limit = replace(order("AAA", "buy", 1, price=105), order_type=OrderType.LIMIT, price=D(109))
    (denial,) = denied(run(limit, account=quoting(100_000, 0, 99), limits=STOPS), "AAA-buy-0")
    assert denial.reason == "limit price 109 is 10.10% from the broker's price 99"
    ours = replace(order("AAA", "buy", 1, price=111), order_type=OrderType.LIMIT, price=D(111))
    (denial,) = denied(run(ours, account=quoting(100_000, 0, 110), limits=STOPS), "AAA-buy-0")
    assert denial.reason == "reference price 111 is 11.00% from the last price 100"
    # What only reduces is let out of a market that has fallen; a price of its own may still be a mistake.
    held = quoting(100_000, 900, 64)
    assert run(order("AAA", "sell", 900), account=held, limits=STOPS).approved
    low = replace(order("AAA", "sell", 900), order_type=OrderType.LIMIT, price=D(95))
    (denial,) = denied(run(low, account=held, limits=STOPS), "AAA-sell-0")
    assert denial.rule == "price_collar"
    # Without a quote, or with none that is a price, ours alone counts.
    for nothing in ("NaN", 0, -5):
        assert run(order("AAA", "buy", 1), account=quoting(100_000, 0, nothing), limits=STOPS).approved


@settings(deadline=None, max_examples=200)
@given(
    cash=st.integers(0, 10**6), held=st.integers(-500, 500), last=st.integers(1, 400), quoted=st.integers(1, 400),
    collar=st.sampled_from([0.05, 0.1, 0.5]), known=st.sampled_from(["both", "broker", "ours"]),
)  # fmt: skip
def test_of_two_prices_in_dispute_each_rule_is_told_the_worse(
    cash: int, held: int, last: int, quoted: int, collar: float, known: str
) -> None:
    account = snapshot(cash, {"AAA": held} if held else {}, prices={"AAA": D(quoted)} if known != "ours" else {})
    context = at(last) if known != "broker" else replace(HUNDRED, last_prices={})
    there = {"both": {last, quoted}, "broker": {quoted}, "ours": {last}}[known]
    if known == "both" and abs(D(quoted) / last - 1) <= D(str(collar)):
        there = {quoted}
    equity = min(cash + held * price for price in there)
    if not held or equity <= 0:
        return
    book = open_book(account, context, (), price_age_max_seconds=10**6, price_collar=collar, now=NOW)
    assert book.marks == {"AAA": max(there)}
    assert book.equity == equity


def test_a_senseless_mark_of_the_brokers_hides_no_exposure_and_no_loss() -> None:
    """100,000 of AAA at the close. At a cent the account is ruined; at 10,000 it would be rich enough for anything."""
    low = run(order("BBB", "buy", 10), account=quoting(10_000, 900, "0.01"), context=HUNDRED, limits=STOPS)
    assert low.approved == ()
    high = run(order("AAA", "buy", 1, price=100), account=quoting(10_000, 900, 10_000), context=HUNDRED,
               limits=limited(price_collar=0.1, name_weight_max=0.95))  # fmt: skip
    assert {verdict.rule for verdict in denied(high, "AAA-buy-0")} >= {"price_collar"}
    assert on_batch(high, "equity").reason == "equity 100,000.00 at the prices of now"
    assert on_batch(high, "name_weight").outcome is Outcome.WARN
