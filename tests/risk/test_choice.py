"""Which order a limit leaves out: what is kept up to date chooses, and sums, as a plain look at all orders does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.orders import AccountSnapshot, Batch, OrderType, PlannedOrder, Side, TradingState
from octopus.risk import constraints
from octopus.risk.book import NO_SHARES
from octopus.risk.constraints import Choice, Exposure, Parts, chosen
from octopus.risk.gate import judge
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory
from octopus.risk.signatures import Authority
from tests.risk.test_risk_gate import limited

NAMES = tuple("ABCDEF")
NOW = datetime(2022, 12, 28, 15, tzinfo=UTC)
PAPER = Authority(live=False, problem="unsigned")


def plain(choices: list[Choice], excess: Decimal, reducing: frozenset[str]) -> Choice | None:
    """The rule, word for word."""
    rising = [item for item in choices if item[0] > 0]
    candidates = [item for item in rising if item[1].intent_id not in reducing] or rising
    curing = [item for item in candidates if item[0] >= excess]
    if not candidates:
        return None
    return min(curing, key=lambda item: item[0]) if curing else max(candidates, key=lambda item: item[0])


class Plainly(Exposure):
    """As it is defined: every order is looked at anew."""

    def choice(self, excess: Decimal, reducing: frozenset[str]) -> Choice | None:  # type: ignore[override]
        return plain(list(self._marginals_of(self.instruments)), excess, reducing)


class Anew(Parts):
    """Nothing is kept: every value is told from the orders that are still in."""

    def values(self) -> dict[str, Decimal]:
        proposal = self.proposal
        lots, dear = proposal.book.lots(proposal.orders), dict.fromkeys(proposal.lots, Decimal(0))
        for order in proposal.orders:
            dear[order.instrument] += proposal.surcharge(order)
        assert {name: lots.get(name, NO_SHARES) for name in proposal.lots} == proposal.lots
        self._values = {name: self._value(name, lots.get(name, NO_SHARES), dear[name]) for name in proposal.lots}
        return self._values

    def total(self) -> Decimal:
        return sum(self.values().values(), Decimal(0))


amounts = st.integers(-3, 6).map(lambda tenth: tenth / 4)


@given(added=st.lists(amounts, max_size=8), excess=amounts, late=st.sets(st.integers(0, 7)))
def test_the_smallest_that_cures_or_else_the_largest_is_chosen(added, excess, late):  # type: ignore[no-untyped-def]
    orders = [order(f"i{place}", "A", Side.BUY, 1) for place in range(len(added))]
    reducing = frozenset(f"i{place}" for place in late)
    pairs = [(Decimal(amount), order) for amount, order in zip(added, orders, strict=True)]
    expected = plain(pairs, Decimal(excess), reducing)
    assert chosen(np.array(added), orders, Decimal(excess), reducing) == expected


def order(intent: str, name: str, side: Side, shares: int, price: int | None = None) -> PlannedOrder:
    kind = OrderType.MARKET if price is None else OrderType.LIMIT
    own = None if price is None else Decimal(price)
    return PlannedOrder(intent, name, side, Decimal(shares), Decimal(100), kind, own)


@st.composite
def batches(draw: Callable[..., object]) -> tuple[list[PlannedOrder], dict[str, Decimal]]:
    sizes = st.integers(1, 30)
    prices = st.sampled_from([None, None, 95, 102, 109])
    row = st.tuples(st.sampled_from(NAMES), st.sampled_from(list(Side)), sizes, prices)
    rows = draw(st.lists(row, min_size=1, max_size=9))
    held = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(-20, 40).filter(bool), max_size=5))
    orders = [order(f"i{place}", *row) for place, row in enumerate(rows)]  # type: ignore[arg-type, misc]
    return orders, {name: Decimal(shares) for name, shares in held.items()}  # type: ignore[attr-defined]


@given(case=batches(), gross=st.sampled_from([0.3, 0.6, 1.0]), sector=st.sampled_from([0.2, 0.5, None]),
       slack=st.sampled_from([0.0, 0.1]))  # fmt: skip
def test_every_verdict_is_that_of_the_plain_way(case, gross, sector, slack):  # type: ignore[no-untyped-def]
    """Cuts of several limits, one after the other: the same orders, for the same reasons."""
    orders, held = case
    limits = limited(
        gross_max=gross, sector_weight_max=sector, partial_fill_allowance=slack, net_min=-1.0, turnover_max=0.5,
        name_weight_max=0.25, var_window_sessions=20,
    )  # fmt: skip
    prices = dict.fromkeys(NAMES, Decimal(100))
    cash = Decimal(10_000) - sum((shares * 100 for shares in held.values()), Decimal(0))
    days = np.datetime64("2022-12-27", "D") - np.arange(20)[::-1]
    returns = np.random.default_rng(1).normal(0, 0.01, (20, len(NAMES)))
    market = MarketContext(
        {name: LastPrice(prices[name], NOW - timedelta(hours=18)) for name in NAMES},
        ReturnHistory(days, NAMES, returns), "raw", Decimal(10_000), Decimal(10_000),
        dict.fromkeys(NAMES, Decimal(1_000_000)), {name: "one" if name < "D" else "two" for name in NAMES}, (),
    )  # fmt: skip
    batch = Batch("b", "a", date(2022, 12, 27), NOW - timedelta(hours=1), NOW + timedelta(hours=1), tuple(orders))
    account = AccountSnapshot("a", NOW - timedelta(seconds=5), cash, held, prices)
    given_by = [batch, account, market, limits, TradingState.ACTIVE, PAPER, NOW]
    kept_up = judge(*given_by)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(constraints, "Exposure", Plainly)
        patched.setattr(constraints, "Parts", Anew)
        assert judge(*given_by) == kept_up  # type: ignore[arg-type]
