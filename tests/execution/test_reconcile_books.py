"""Reconciliation: each planted break is found once and named right; sound books have none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.orders import Fill, Side
from octopus.execution.book import Book, Entry, EntryKind, cash_of, positions_of
from octopus.execution.book import Told as ToldUntil
from octopus.execution.corrections import Told, correction
from octopus.execution.pictures import reconciliation_picture
from octopus.execution.reconcile import (
    REMEDIES,
    Break,
    BreakKind,
    break_id_in,
    reconcile,
    roundings,
    standing_breaks,
)

D = Decimal
AT = datetime(2022, 12, 28, 21, tzinfo=UTC)
OURS = {"oct-1", "oct-2", "oct-3"}


def fill(number: int, instrument: str, side: Side, quantity: str, price: str, order: str = "oct-1") -> Fill:
    return Fill(f"f{number}", order, instrument, side, D(quantity), D(price), D("1.25"), AT)


def entry(name: str, kind: EntryKind, instrument: str | None = None, quantity: str = "0", cash: str = "0") -> Entry:
    return Entry(name, kind, instrument, D(quantity), D(cash), AT)


FILLS = (fill(1, "AAA", Side.BUY, "10", "100"), fill(2, "BBB", Side.BUY, "5", "20.5", "oct-2"))
ENTRIES = (entry("opening", EntryKind.DEPOSIT, cash="10000"), entry("d1", EntryKind.DIVIDEND, "AAA", cash="2.40"))


def book(fills: tuple[Fill, ...] = FILLS, entries: tuple[Entry, ...] = ENTRIES) -> Book:
    return Book("a", cash_of(fills, entries), positions_of(fills, entries), fills, entries)


def found(ours: Book, brokers: Book) -> list[Break]:
    return list(reconcile(ours, brokers, OURS))


def one(ours: Book, brokers: Book, kind: BreakKind) -> Break:
    breaks = found(ours, brokers)
    assert [item.kind for item in breaks] == [kind], breaks
    assert breaks[0].remedy.startswith(REMEDIES[kind])
    assert break_id_in(f"{breaks[0].detail}; {breaks[0].remedy}") == breaks[0].break_id
    return breaks[0]


def test_equal_books_have_no_break() -> None:
    assert found(book(), book()) == []


def test_quantity_of_a_fill() -> None:
    item = one(book(), book(fills=(replace(FILLS[0], quantity=D(12)), FILLS[1])), BreakKind.QUANTITY)
    assert (item.instrument, item.reference, item.ours, item.brokers) == ("AAA", "f1", D(10), D(12))


def test_quantity_of_a_position_without_a_record() -> None:
    brokers = replace(book(), positions={"AAA": D(10), "BBB": D(5), "CCC": D(7)})
    item = one(book(), brokers, BreakKind.QUANTITY)
    assert (item.instrument, item.reference, item.ours, item.brokers) == ("CCC", None, D(0), D(7))


def test_price() -> None:
    item = one(book(), book(fills=(FILLS[0], replace(FILLS[1], price=D("20.6")))), BreakKind.PRICE)
    assert (item.ours, item.brokers, item.cash_effect) == (D("20.5"), D("20.6"), D("-0.5"))


def test_fee() -> None:
    item = one(book(), book(fills=(FILLS[0], replace(FILLS[1], fees=D("1.75")))), BreakKind.FEE)
    assert item.cash_effect == D("-0.50")


def test_cash_without_a_record_and_its_tolerance() -> None:
    assert one(book(), replace(book(), cash=book().cash - 10), BreakKind.CASH).cash_effect == D(-10)
    assert found(book(), replace(book(), cash=book().cash + D("0.009"))) == []
    assert found(book(), replace(book(), cash=book().cash + D("0.01"))) != []


def test_a_flow_that_we_have_not_recognised() -> None:
    brokers = book(entries=(*ENTRIES, entry("more", EntryKind.DEPOSIT, cash="500")))
    assert one(book(), brokers, BreakKind.CASH).reference == "more"


@pytest.mark.parametrize("swapped", [False, True])
def test_a_split_in_one_book_only(swapped: bool) -> None:
    split = book(entries=(*ENTRIES, entry("s", EntryKind.SPLIT, "AAA", quantity="10")))
    pair = (split, book()) if swapped else (book(), split)
    item = one(*pair, BreakKind.SPLIT)
    assert item.quantity_effect == (D(-10) if swapped else D(10))


def test_a_split_at_another_ratio_and_a_dividend_at_another_rate() -> None:
    ours = book(entries=(*ENTRIES, entry("s", EntryKind.SPLIT, "AAA", quantity="10")))
    theirs = book(entries=(*ENTRIES, entry("other-name", EntryKind.SPLIT, "AAA", quantity="20")))
    item = one(ours, theirs, BreakKind.SPLIT)
    assert (item.ours, item.brokers) == (D(10), D(20))
    lower = (ENTRIES[0], entry("x", EntryKind.DIVIDEND, "AAA", cash="2.04"))
    assert one(book(), book(entries=lower), BreakKind.DIVIDEND).cash_effect == D("-0.36")


def test_a_trade_by_hand_and_a_correction_by_hand() -> None:
    trade = book(fills=(*FILLS, fill(9, "CCC", Side.SELL, "3", "50", order="someone")))
    assert one(book(), trade, BreakKind.MANUAL_TRADE).quantity_effect == D(-3)
    correction = book(entries=(*ENTRIES, entry("m", EntryKind.MANUAL, "BBB", quantity="2", cash="-41")))
    assert one(book(), correction, BreakKind.MANUAL_TRADE).instrument == "BBB"


def test_a_fill_that_we_missed_and_one_that_the_broker_does_not_know() -> None:
    assert one(book(fills=FILLS[:1]), book(), BreakKind.MISSING_FILL).reference == "f2"
    assert one(book(), book(fills=FILLS[:1]), BreakKind.UNKNOWN_FILL).reference == "f2"


def test_a_difference_keeps_its_id_while_other_trades_go_on() -> None:
    stray = replace(book(), positions={"AAA": D(10), "BBB": D(5), "CCC": D(7)})
    more = (*FILLS, fill(3, "CCC", Side.BUY, "4", "10"))
    ours, theirs = book(more), replace(book(more), positions={"AAA": D(10), "BBB": D(5), "CCC": D(11)})
    (before,), (after,) = found(book(), stray), found(ours, theirs)
    assert (before.ours, after.ours) == (D(0), D(4))
    assert before.break_id == after.break_id
    (other,) = found(ours, replace(theirs, positions={**theirs.positions, "CCC": D(12)}))
    assert other.break_id != after.break_id


def test_shares_without_a_record_and_their_tolerance() -> None:
    dust = replace(book(), positions={"AAA": D("10.00000002"), "BBB": D(5)})
    assert len(found(book(), dust)) == 1
    assert reconcile(book(), dust, OURS, share_tolerance=D("0.00000003")) == ()
    assert len(reconcile(book(), dust, OURS, share_tolerance=D("0.00000002"))) == 1


@pytest.mark.parametrize("moved", [False, True])
def test_a_split_of_this_mornings_open_is_no_break_yet(moved: bool) -> None:
    """Whether the broker has it in its positions alone, or nowhere yet; one of the day before stands."""
    ours = book(entries=(*ENTRIES, entry("s", EntryKind.SPLIT, "AAA", quantity="10")))
    theirs = replace(book(), positions=ours.positions if moved else book().positions)
    breaks = found(ours, theirs)
    assert len(breaks) == 1 + moved
    assert standing_breaks(breaks, AT, ()) == ()
    assert standing_breaks(breaks, AT + timedelta(hours=1), ()) == tuple(breaks)
    known = {item.break_id for item in breaks}
    assert standing_breaks(breaks, AT, (), known) == tuple(breaks)


def test_a_stray_fill_of_an_instrument_with_an_unknown_order_waits_for_that_order() -> None:
    trades = [fill(9, "CCC", Side.BUY, "3", "50", order="?"), fill(8, "BBB", Side.BUY, "1", "50", order="?")]
    breaks = found(book(), book(fills=(*FILLS, *trades)))
    assert [item.instrument for item in standing_breaks(breaks, AT, {"CCC"})] == ["BBB"]


def test_several_causes_give_one_break_each() -> None:
    brokers = book(
        fills=(replace(FILLS[0], price=D(101)), replace(FILLS[1], fees=D(2)), fill(9, "AAA", Side.BUY, "1", "1", "x")),
        entries=(*ENTRIES, entry("s", EntryKind.SPLIT, "BBB", quantity="5")),
    )
    brokers = replace(brokers, cash=brokers.cash - 3)
    kinds = [BreakKind.PRICE, BreakKind.FEE, BreakKind.CASH, BreakKind.SPLIT, BreakKind.MANUAL_TRADE]
    assert [item.kind for item in found(book(), brokers)] == kinds


amounts = st.decimals(D("0.01"), D("99999"), places=4)
fills_of_both = st.lists(
    st.builds(
        Fill,
        fill_id=st.uuids().map(str),
        client_order_id=st.sampled_from([*OURS, "by-hand"]),
        instrument=st.sampled_from(["AAA", "BBB", "CCC"]),
        side=st.sampled_from(Side),
        quantity=amounts,
        price=amounts,
        fees=st.decimals(0, 10, places=2),
        at=st.just(AT),
    ),
    max_size=8,
)
entries_of_both = st.lists(
    st.builds(
        Entry,
        entry_id=st.uuids().map(str),
        kind=st.sampled_from(EntryKind),
        instrument=st.sampled_from(["AAA", "BBB"]),
        quantity=st.decimals(-100, 100, places=3),
        cash=st.decimals(-1000, 1000, places=2),
        at=st.integers(0, 5).map(lambda days: AT + timedelta(days=days)),
    ),
    max_size=6,
)


@given(fills_of_both, entries_of_both, st.randoms())
def test_sound_books_have_no_break_in_whatever_order_they_are_kept(fills, entries, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(fills, len(fills)), random.sample(entries, len(entries))
    assert found(book(tuple(fills), tuple(entries)), book(*map(tuple, shuffled))) == []


@given(fills_of_both, entries_of_both, fills_of_both, entries_of_both)
def test_breaks_explain_the_whole_difference(fills, entries, more_fills, more_entries) -> None:  # type: ignore[no-untyped-def]
    """Whatever differs: the breaks' effects add up to it, so that none is forgotten and none counted twice."""
    half = len(fills) // 2
    ours = book((*fills, *more_fills[:2]), (*entries, *more_entries[:1]))
    changed = tuple(replace(f, price=f.price + 1, quantity=f.quantity * 2, fees=f.fees + 1) for f in fills[:half])
    brokers = book((*changed, *fills[half:], *more_fills[2:]), (*entries[1:], *more_entries[1:]))
    breaks = reconcile(ours, brokers, OURS, D("0"))
    cash = sum((item.cash_effect for item in breaks), D(0))
    assert cash == brokers.cash - ours.cash
    for name in {*ours.positions, *brokers.positions}:
        shares = sum((item.quantity_effect for item in breaks if item.instrument == name), D(0))
        assert shares == brokers.positions.get(name, D(0)) - ours.positions.get(name, D(0))


def test_the_picture_shows_every_kind_of_break_and_agreement_too() -> None:
    breaks = [
        Break(BreakKind.CASH, None, None, D("1000000.55"), D("999990.25"), "cash"),
        Break(BreakKind.MISSING_FILL, "AAA", "f9", None, D(5), "a fill"),
        Break(BreakKind.QUANTITY, "BBB", None, D(0), D(0), "nothing held"),
    ] * 5
    days = [AT.date(), AT.date() + timedelta(days=1)]
    pictures = {reconciliation_picture(breaks, days, [0, 15]), reconciliation_picture([], days[:1], [0])}
    assert len(pictures) == 2
    assert all(png.startswith(b"\x89PNG") for png in pictures)


@st.composite
def payments(draw: st.DrawFn) -> list[tuple[Entry, Entry | None]]:
    """Dividends as our own data expects them, beside what the broker paid: to the cent, and nothing of half a cent."""
    made: list[tuple[Entry, Entry | None]] = []
    for number in range(draw(st.integers(1, 40))):
        cash = draw(st.decimals("-2", "2", places=6).filter(bool))
        name = f"dividend:{draw(st.sampled_from(['AAA', 'BBB']))}:{number}"
        ours = Entry(name, EntryKind.DIVIDEND, name[9:12], D(0), cash, AT + timedelta(days=number))
        paid = cash.quantize(D("0.01"))
        made.append((ours, replace(ours, entry_id=f"paid-{number}", cash=paid) if paid else None))
    return made


@settings(deadline=None)
@given(payments())
def test_a_brokers_rounding_is_booked_once_and_never_adds_up(paid: list[tuple[Entry, Entry | None]]) -> None:
    """Day by day, with the books compared over the last ten days alone."""
    start = entry("opening", EntryKind.DEPOSIT, cash="10000")
    mine, theirs = [start], [start]
    for number, (expected, told) in enumerate(paid):
        since = AT + timedelta(days=number - 10)
        mine.append(expected)
        theirs += [] if told is None else [told]
        ours, brokers = book((), tuple(mine)).cut(since), book((), tuple(theirs)).cut(since)
        rounded = roundings(ours, brokers, D("0.01"))
        mine += [
            made
            for item in rounded
            for made in correction(item, rounded, ours, brokers, AT, Told("the broker's rounding")).entries
        ]
        ours = book((), tuple(mine)).cut(since)
        assert (found(ours, brokers), roundings(ours, brokers, D("0.01"))) == ([], ())
        assert ours.cash == brokers.cash
    assert len({item.entry_id for item in mine}) == len(mine)


def test_what_is_no_rounding_is_not_taken_for_one() -> None:
    """A cent and more; a payment that the broker has alone, or has yet to make; shares; what is told too late."""
    paid = entry("dividend:AAA:20221228", EntryKind.DIVIDEND, "AAA", cash="2.40")
    for ours, brokers in (
        ((paid,), (replace(paid, cash=D("2.41")),)), ((), (replace(paid, cash=D("0.009")),)),
        ((replace(paid, cash=D("0.006")),), ()), ((paid,), (replace(paid, quantity=D(1)),)),
    ):  # fmt: skip
        assert roundings(book((), ours), book((), brokers), D("0.01")) == ()
    late = replace(book((), (replace(paid, cash=D("2.404")),)), told=ToldUntil(AT - timedelta(days=1), D(0)))
    assert roundings(book((), (paid,)), late, D("0.01")) == ()
