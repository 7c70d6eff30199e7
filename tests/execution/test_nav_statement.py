"""NAV: the parts add up to the change in value exactly, whatever happened."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.errors import MissingDataError
from octopus.core.orders import Fill, Side
from octopus.execution.book import CorporateAction, Entry, EntryKind, action_entry, fill_entry
from octopus.execution.nav import Holdings, strike_nav

D = Decimal
AT = datetime(2022, 12, 28, 21, tzinfo=UTC)
NAMES = ("AAA", "BBB", "CCC")


def test_a_day_by_hand() -> None:
    """1000 cash and 10 AAA at 50; buy 4 AAA at 52 for 1 in fees; dividend 5; deposit 100; AAA closes at 55."""
    opening = Holdings(D(1000), {"AAA": D(10)}, {"AAA": D(50)})
    fills = (Fill("f", "o", "AAA", Side.BUY, D(4), D(52), D(1), AT),)
    entries = (
        Entry("d", EntryKind.DIVIDEND, "AAA", D(0), D(5), AT),
        Entry("in", EntryKind.DEPOSIT, None, D(0), D(100), AT),
    )
    nav = strike_nav(opening, fills, entries, {"AAA": D(55)})
    assert nav.opening == D(1500)
    assert nav.price_pnl == D(10 * 5 + 4 * 3)
    assert (nav.fees, nav.dividends, nav.flows) == (D(1), D(5), D(100))
    assert nav.closing == D(1000 - 208 - 1 + 5 + 100) + 14 * D(55)
    assert nav.holdings.positions == {"AAA": D(14)}


def test_a_split_makes_no_one_richer() -> None:
    opening = Holdings(D(0), {"AAA": D(10)}, {"AAA": D(90)})
    split = action_entry(CorporateAction(EntryKind.SPLIT, "AAA", D(3), AT), D(10), D(90), D(1))
    assert split is not None
    nav = strike_nav(opening, (), (split,), {"AAA": D(30)})
    assert (nav.price_pnl, nav.closing, nav.holdings.positions) == (D(0), D(900), {"AAA": D(30)})


def test_a_reverse_split_pays_the_fraction_in_cash() -> None:
    """7 shares, 1 for 2, last close 10: 3 shares and half of a 20-dollar share in cash."""
    split = action_entry(CorporateAction(EntryKind.SPLIT, "AAA", D("0.5"), AT), D(7), D(10), D(1))
    assert split is not None
    assert (split.quantity, split.cash) == (D(-4), D(10))
    assert action_entry(CorporateAction(EntryKind.SPLIT, "AAA", D(2), AT), D(0), D(10), D(1)) is None


def test_the_loss_of_a_hand_trade_is_a_loss_as_that_of_a_fill_of_ours_is() -> None:
    funded, bought = Holdings(D(1_000_000), {}, {}), Fill("h", "o", "AAA", Side.BUY, D(1000), D(100), D(0), AT)
    of_ours = strike_nav(funded, (bought,), (), {"AAA": D(80)})
    by_hand = strike_nav(funded, (), (fill_entry(bought),), {"AAA": D(80)})
    assert by_hand == of_ours
    assert (by_hand.price_pnl, by_hand.flows) == (D(-20_000), D(0))
    # Bought and sold by hand on one day, and a fee that was told later.
    sold = replace(bought, fill_id="s", side=Side.SELL, price=D(90))
    fee = replace(fill_entry(sold), entry_id="fill:s~1", quantity=D(0), cash=D(-3))
    nav = strike_nav(funded, (), (fill_entry(bought), fill_entry(sold), fee), {"AAA": D(80)})
    assert (nav.price_pnl, nav.flows) == (D(-10_003), D(0))


@pytest.mark.parametrize(
    ("booked", "pnl", "flows"),
    [
        ([("m", "AAA", 10, 0)], 0, 800),  # shares moved in
        ([("m", None, 0, -50)], 0, -50),  # cash moved out
        ([("unrecorded:AAA", "AAA", 10, -1000)], -200, 0),  # paid for
        ([("c", "AAA", -10, 900)], 100, 0),  # a trade that the broker told as a correction
    ],
)
def test_what_moved_by_itself_is_a_flow_at_the_close_and_what_was_paid_for_is_a_trade(
    booked: list[tuple[str, str | None, int, int]], pnl: int, flows: int
) -> None:
    entries = [Entry(name, EntryKind.MANUAL, of, D(shares), D(cash), AT) for name, of, shares, cash in booked]
    nav = strike_nav(Holdings(D(0), {}, {}), (), entries, {"AAA": D(80)})
    assert (nav.price_pnl, nav.flows) == (D(pnl), D(flows))


def test_an_instrument_without_a_price_is_named() -> None:
    with pytest.raises(MissingDataError, match="no price for AAA"):
        strike_nav(Holdings(D(0), {"AAA": D(1)}, {"AAA": D(1)}), (), (), {})


money = st.decimals(D("0.0001"), D("100000"), places=6)
shares = st.decimals(D("-100000"), D("100000"), places=8)
prices = st.fixed_dictionaries(dict.fromkeys(NAMES, money))
fills = st.lists(
    st.builds(
        Fill,
        fill_id=st.uuids().map(str),
        client_order_id=st.just("o"),
        instrument=st.sampled_from(NAMES),
        side=st.sampled_from(Side),
        quantity=st.decimals(D("0.00000001"), D("100000"), places=8),
        price=money,
        fees=st.decimals(0, 100, places=2),
        at=st.just(AT),
    ),
    max_size=6,
)
entries = st.lists(
    st.one_of(
        st.builds(
            Entry,
            entry_id=st.uuids().map(str),
            kind=st.sampled_from([EntryKind.SPLIT, EntryKind.MANUAL]),
            instrument=st.sampled_from(NAMES),
            quantity=shares,
            cash=st.decimals(-1000, 1000, places=8),
            at=st.just(AT),
        ),
        st.builds(
            Entry,
            entry_id=st.uuids().map(str),
            kind=st.sampled_from([EntryKind.DEPOSIT, EntryKind.WITHDRAWAL, EntryKind.DIVIDEND, EntryKind.CHARGE]),
            instrument=st.none(),
            quantity=st.just(D(0)),
            cash=st.decimals(-1000, 1000, places=8),
            at=st.just(AT),
        ),
    ),
    max_size=5,
)


@given(
    cash=st.decimals(-(10**9), 10**9, places=8),
    held=st.dictionaries(st.sampled_from(NAMES), shares.filter(bool)),
    before=prices,
    after=prices,
    fills=fills,
    entries=entries,
)
def test_opening_and_parts_are_the_closing_exactly(cash, held, before, after, fills, entries) -> None:  # type: ignore[no-untyped-def]
    nav = strike_nav(Holdings(cash, held, before), fills, entries, after)
    assert nav.opening + nav.price_pnl - nav.fees + nav.dividends + nav.flows - nav.closing == 0
    assert nav.closing == nav.holdings.equity
    assert all(nav.holdings.positions.values())
