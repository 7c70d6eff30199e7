"""Tax lots: by hand, and what no trade, corporate action or identification may change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core.lots import Disposal, Lot
from octopus.core.orders import Fill, Side
from octopus.core.sessions import Sessions
from octopus.execution.book import (
    CorporateAction,
    Entry,
    EntryKind,
    action_entry,
    cash_of,
    closing_entries,
    fill_entry,
    opening_entries,
    positions_of,
)
from octopus.execution.lots import LotBook, LotSelectionError, Selection, UnknownRatioError, lot_book
from octopus.execution.settlement import identifiable_until, settlement_date

D = Decimal
SESSIONS = Sessions("XNYS")
START = datetime(2022, 1, 3, 21, tzinfo=UTC)


def dates(at: datetime, _instrument: str) -> tuple[date, date]:
    traded = SESSIONS.trade_date(at)
    return traded, settlement_date(SESSIONS, traded)


def fill(name: str, quantity: int | str, price: int | str, day: int = 0, fees: int | str = 0) -> Fill:
    """``quantity`` is signed: negative for a sale."""
    signed = D(quantity)
    side = Side.BUY if signed > 0 else Side.SELL
    return Fill(name, "o", "AAA", side, abs(signed), D(price), D(fees), START + timedelta(days=day))


def book(*fills: Fill, entries: tuple[Entry, ...] = (), **options: object) -> LotBook:
    return lot_book(fills, entries, dates=dates, **options)  # type: ignore[arg-type]


TWO = (fill("a", 100, 10, 0, 1), fill("b", 100, 12, 30, 1))


def test_the_earliest_shares_go_first() -> None:
    kept = book(*TWO, fill("s", -150, 15, 60, 3))
    first, second = kept.disposals
    assert (first.lot_id, first.quantity, first.basis, first.proceeds) == ("a", D(100), D(1001), D("1498"))
    assert (second.lot_id, second.quantity, second.basis, second.proceeds) == ("b", D(50), D("600.5"), D("749"))
    assert first.gain + second.gain == D(2247) - D("1601.5")
    assert kept.lots == (Lot("b", "AAA", D(50), D("600.5"), date(2022, 2, 2), date(2022, 2, 2)),)


def test_identified_shares_go_first_and_the_rest_in_order() -> None:
    kept = book(*TWO, fill("s", -150, 15, 60), selections={"s": [Selection("b", D(80))]})
    assert [(one.lot_id, one.quantity) for one in kept.disposals] == [("b", D(80)), ("a", D(70))]
    assert [(lot.lot_id, lot.quantity) for lot in kept.lots] == [("a", D(30)), ("b", D(20))]


@pytest.mark.parametrize("chosen", [Selection("b", D(101)), Selection("c", D(1)), Selection("a", D(0))])
def test_shares_that_are_not_there_cannot_be_identified(chosen: Selection) -> None:
    with pytest.raises(LotSelectionError, match=f"lot {chosen.lot_id}"):
        book(*TWO, fill("s", -200, 15, 60), selections={"s": [chosen]})


def test_a_short_is_a_lot_too_and_a_trade_may_pass_through_zero() -> None:
    kept = book(fill("a", -10, 20, 0, 1), fill("b", 15, 18, 5, 3))
    (covered,) = kept.disposals
    assert (covered.quantity, covered.basis, covered.proceeds, covered.gain) == (D(-10), D(-199), D(-182), D(17))
    assert not covered.is_long_term
    assert kept.lots == (Lot("b", "AAA", D(5), D(91), date(2022, 1, 10), date(2022, 1, 10)),)


def test_held_for_more_than_a_year_is_long_term() -> None:
    def sold(day: int) -> Disposal:
        return book(fill("a", 1, 10), fill("s", -1, 11, day)).disposals[0]

    assert not sold(365).is_long_term
    assert sold(366).is_long_term


def split(quantity: str, cash: str, day: int) -> Entry:
    return Entry("split:AAA", EntryKind.SPLIT, "AAA", D(quantity), D(cash), START + timedelta(days=day))


def test_a_split_keeps_the_cost_and_the_dates() -> None:
    kept = book(*TWO, entries=(split("200", "0", 40),), ratios={"split:AAA": D(2)})
    assert [(lot.quantity, lot.cost, lot.acquired.month) for lot in kept.lots] == [
        (D(200), D(1001), 1),
        (D(200), D(1201), 2),
    ]
    # Without cash for a fraction the shares themselves say the ratio.
    assert book(*TWO, entries=(split("200", "0", 40),)).lots == kept.lots
    with pytest.raises(UnknownRatioError, match="split:AAA"):
        book(*TWO, entries=(split("200", "48", 40),))


def test_a_fraction_that_a_reverse_split_pays_in_cash_is_sold() -> None:
    """105 shares, 1 for 10: ten and a half, of which half a share is paid for."""
    kept = book(fill("a", 105, 10), entries=(split("-95", "48", 40),), ratios={"split:AAA": D("0.1")})
    (sold,) = kept.disposals
    assert (sold.quantity, sold.basis, sold.gain) == (D("0.5"), D(50), D(-2))
    assert [(lot.quantity, lot.cost) for lot in kept.lots] == [(D(10), D(1000))]


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9_999), st.integers(0, 400)), min_size=1, max_size=6),
    st.lists(st.integers(1, 60), max_size=4),
)
def test_transfers_move_lots_with_their_cost_and_gain_nothing(
    came: list[tuple[int, int, int]], went: list[int]
) -> None:
    """Shares that come have their cost and their day, those that go take the earliest lots: nothing is sold."""
    entries = [
        Entry(f"in{n}", EntryKind.MANUAL, "AAA", D(shares), D(0), START + timedelta(days=n), "",
              shares * D(cents) / 100, START.date() - timedelta(days=before))
        for n, (shares, cents, before) in enumerate(came)
    ]  # fmt: skip
    left = sum(shares for shares, _, _ in came)
    for n, shares in enumerate(went):
        gone, left = min(shares, left), max(left - shares, 0)
        if gone:
            at = START + timedelta(days=20 + n)
            entries.append(Entry(f"out{n}", EntryKind.MANUAL, "AAA", D(-gone), D(0), at))
    kept = book(entries=tuple(entries))
    assert kept.disposals == ()
    assert sum((lot.quantity for lot in kept.lots), D(0)) == left
    assert [lot.acquired for lot in kept.lots] == sorted(lot.acquired for lot in kept.lots)
    costs = {f"in{n}": D(cents) / 100 for n, (_, cents, _) in enumerate(came)}
    assert all(abs(lot.cost - lot.quantity * costs[lot.lot_id]) < D("0.000001") for lot in kept.lots)


def test_a_fraction_that_the_broker_paid_for_to_the_cent_brought_that() -> None:
    """105 shares, 1 for 10: half a share was worth 49.99750000, and 50.00 came."""
    told = split("-95", "49.9975", 40)
    cents = replace(told, entry_id=f"{told.entry_id}~1", quantity=D(0), cash=D("0.0025"))
    kept = book(fill("a", 105, 10), entries=(told, cents), ratios={told.entry_id: D("0.1")})
    assert [(one.quantity, one.proceeds, one.basis) for one in kept.disposals] == [(D("0.5"), D(50), D(50))]


def test_shares_entered_by_hand_are_a_lot_at_their_cash() -> None:
    moved = Entry("m", EntryKind.MANUAL, "AAA", D(3), D(-60), START)
    assert book(entries=(moved,)).lots[0].cost == D(60)


def act(kind: EntryKind, of: str, day: int, value: str = "1", detail: str = "") -> CorporateAction:
    return CorporateAction(kind, of, D(value), START + timedelta(days=day), detail)


def renamed(held: dict[str, int], day: int, **names: str) -> tuple[Entry, ...]:
    """As production books changes of symbol of what is held."""
    actions = [act(EntryKind.SYMBOL_CHANGE, old, day, detail=new) for old, new in names.items()]
    return tuple(opening_entries(actions, {of: D(shares) for of, shares in held.items()}, lambda _: D(1), D(1)))


def of(name: str, one: Fill) -> Fill:
    return replace(one, instrument=name)


def test_a_new_symbol_keeps_id_cost_and_holding_period_and_shares_can_be_identified_under_it() -> None:
    sale = of("BBB", fill("s", -120, 20, 400))
    change = renamed({"AAA": 200}, 60, AAA="BBB")
    kept = book(*TWO, sale, entries=change, selections={"s": [Selection("b", D(100))]})
    late, early = kept.disposals
    assert (late.lot_id, late.instrument, late.basis, late.acquired) == ("b", "BBB", D(1201), date(2022, 2, 2))
    assert (early.lot_id, early.quantity, early.basis, early.is_long_term) == ("a", D(20), D("200.2"), True)
    assert kept.lots == (Lot("a", "BBB", D(80), D("800.8"), date(2022, 1, 3), date(2022, 1, 3)),)


def test_names_pass_on_at_once_longs_and_shorts_alike_before_a_split_of_the_same_open() -> None:
    """GOOG becomes GOOGL and GOOCV becomes GOOG; a third, sold short, takes a name that nobody had."""
    trades = of("GOOG", fill("a", 10, 100)), of("GOOCV", fill("b", 10, 99)), of("ZZZ", fill("c", -4, 5))
    entries = renamed({"GOOG": 10, "GOOCV": 10, "ZZZ": -4}, 5, GOOG="GOOGL", GOOCV="GOOG", ZZZ="YYY")
    doubled = action_entry(act(EntryKind.SPLIT, "GOOGL", 5, "2"), D(10), D(1), D(1))
    assert doubled is not None
    kept = book(*trades, entries=(*entries, doubled))
    assert [(lot.lot_id, lot.instrument, lot.quantity, lot.cost) for lot in kept.lots] == [
        ("b", "GOOG", D(10), D(990)), ("a", "GOOGL", D(20), D(1000)), ("c", "YYY", D(-4), D(-20)),
    ]  # fmt: skip
    assert kept.disposals == ()


def test_shares_sold_before_a_change_of_symbol_are_known_by_the_name_of_today() -> None:
    """Nothing is held as GOOG becomes GOOGL and GOOCV becomes GOOG; later GOOGL is called once more."""
    trades = [
        of(name, fill(f"{name}{number}", sign * 10, 100, number))
        for name, first in (("GOOG", 0), ("GOOCV", 0), ("ZZZ", 0), ("GOOG", 6))
        for number, sign in ((first, 1), (first + 1, -1))
    ]
    changes = [("GOOG", 5, "GOOGL"), ("GOOCV", 5, "GOOG"), ("GOOGL", 9, "ALPH"), ("ZZZ", 0, "QQQ")]
    told = [act(EntryKind.SYMBOL_CHANGE, old, day, detail=new) for old, day, new in changes]
    kept = book(*trades, told=told)
    assert {one.fill_id: (one.instrument, one.known_as) for one in kept.disposals} == {
        "GOOG1": ("GOOG", "ALPH"), "GOOCV1": ("GOOCV", "GOOG"), "GOOG7": ("GOOG", "GOOG"),
        # Who was sold as ZZZ after ZZZ became QQQ is another.
        "ZZZ1": ("ZZZ", "ZZZ"),
    }  # fmt: skip
    assert book(*trades[::-1], told=told[::-1]) == kept


def test_shares_sold_before_a_split_are_known_in_the_units_of_today() -> None:
    trades = fill("a", 10, 100), fill("s", -4, 90, 5), fill("t", -6, 90, 8)
    told = [
        act(EntryKind.SPLIT, "AAA", 3, "7"), act(EntryKind.SYMBOL_CHANGE, "AAA", 6, detail="BBB"),
        act(EntryKind.SPLIT, "BBB", 6, "2"), act(EntryKind.SPLIT, "AAA", 7, "5"), act(EntryKind.SPLIT, "BBB", 9, "0.1"),
        act(EntryKind.SPLIT, "AAA", 8, "3"),
    ]  # fmt: skip
    kept = book(*trades, told=told)
    # What was sold as AAA after it was BBB is of another company; on the day of a split shares are counted after it.
    assert [(one.fill_id, one.quantity, one.shares) for one in kept.disposals] == [
        ("s", D(4), D("0.8")),
        ("t", D(6), D(6)),
    ]
    assert kept.lots == ()


@pytest.mark.parametrize("held", [10, -10])
def test_a_booked_change_of_symbol_tells_it_too_of_longs_and_shorts(held: int) -> None:
    trades = fill("a", 2 * held, 100), fill("s", -held, 90, 5)
    kept = book(*trades, entries=renamed({"AAA": held}, 9, AAA="BBB"))
    assert [(one.instrument, one.known_as) for one in kept.disposals] == [("AAA", "BBB")]
    assert [(lot.known_as, lot.quantity) for lot in kept.lots] == [("BBB", D(held))]
    there_and_back = renamed({"AAA": held}, 9, AAA="BBB"), renamed({"BBB": held}, 12, BBB="AAA")
    kept = book(*trades, entries=(*there_and_back[0], *there_and_back[1]))
    assert [one.renamed for one in kept.disposals] == [None]


def test_a_fraction_that_a_change_of_symbol_paid_in_cash_is_sold_for_it() -> None:
    paid = Entry("symbol_change:BBB:x", EntryKind.SYMBOL_CHANGE, "BBB", D(-1), D(12), START + timedelta(days=60))
    kept = book(*TWO, entries=(*renamed({"AAA": 200}, 60, AAA="BBB"), paid))
    assert [(one.lot_id, one.quantity, one.gain) for one in kept.disposals] == [("a", D(1), D("1.99"))]
    assert [(lot.instrument, lot.quantity) for lot in kept.lots] == [("BBB", D(99)), ("BBB", D(100))]


def test_lots_stand_by_their_acquisition_under_a_new_name_and_parts_of_one_are_one_again() -> None:
    """Forty of the hundred were heard of after the change; the name is given back when there are later ones of it."""
    there, back = renamed({"AAA": 60}, 20, AAA="BBB"), renamed({"BBB": 110}, 40, BBB="AAA")
    trades = fill("a", 100, 10), of("BBB", fill("b", 50, 11, 10)), fill("c", 5, 12, 30)
    split_up = book(*trades, entries=there)
    assert [(lot.lot_id, lot.instrument, lot.quantity, lot.cost) for lot in split_up.lots] == [
        ("a", "AAA", D(40), D(400)), ("c", "AAA", D(5), D(60)), ("a", "BBB", D(60), D(600)),
        ("b", "BBB", D(50), D(550)),
    ]  # fmt: skip
    whole = book(*trades, entries=(*there, *back))
    assert [(lot.lot_id, lot.quantity, lot.cost) for lot in whole.lots] == [
        ("a", D(100), D(1000)), ("b", D(50), D(550)), ("c", D(5), D(60)),
    ]  # fmt: skip
    assert all(lot.instrument == "AAA" for lot in whole.lots)


def test_a_split_of_shares_that_were_taken_back_since_multiplies_none() -> None:
    """1 for 10 was booked of 105; 95 of them were sold before, as is told later. Ours until amended: 10 - 95."""
    kept = book(fill("a", 105, 10), fill("s", -95, 10, 20), entries=(split("-95", "0", 40),))
    assert [(lot.lot_id, lot.quantity, lot.cost) for lot in kept.lots] == [("split:AAA", D(-85), D(0))]
    assert [(one.fill_id, one.quantity) for one in kept.disposals] == [("s", D(95)), ("split:AAA", D(10))]


def test_a_change_that_never_was_is_taken_back_by_a_persons_entries() -> None:
    change = renamed({"AAA": 200}, 60, AAA="BBB")
    back = tuple(replace(one, entry_id=f"{n}~1", quantity=-one.quantity, note="Ann") for n, one in enumerate(change))
    assert book(*TWO, entries=(*change, *back)) == book(*TWO)


def test_shares_that_get_the_name_of_a_short_cover_it_at_their_cost() -> None:
    kept = book(of("BBB", fill("s", -4, 30)), fill("a", 10, 20), entries=renamed({"AAA": 10}, 5, AAA="BBB"))
    (covered,) = kept.disposals
    assert (covered.lot_id, covered.quantity, covered.gain) == ("s", D(-4), D(40))
    assert [(lot.lot_id, lot.instrument, lot.quantity, lot.cost) for lot in kept.lots] == [("a", "BBB", D(6), D(120))]


def test_a_delisting_closes_every_lot_at_its_last_cash_on_that_day_after_the_days_trades() -> None:
    gone = act(EntryKind.DELISTING, "AAA", 60, "54.20", "cash_mergers")
    (paid,) = closing_entries([gone], {"AAA": D(250)}, lambda _at, _name: D(0))
    kept = book(*TWO, fill("c", 50, 54, 60), entries=(paid,))
    assert [(one.lot_id, one.proceeds, one.gain, one.disposed) for one in kept.disposals] == [
        ("a", D(5420), D(4419), date(2022, 3, 4)), ("b", D(5420), D(4219), date(2022, 3, 4)),
        ("c", D(2710), D(10), date(2022, 3, 4)),
    ]  # fmt: skip
    assert kept.lots == ()
    # Told wrong, and that it was none: amended by a person, the lots are as if it had been told right.
    less = replace(paid, entry_id=f"{paid.entry_id}~1", quantity=D(0), cash=D(-50))
    assert sum(one.gain for one in book(*TWO, fill("c", 50, 54, 60), entries=(paid, less)).disposals) == D(8598)
    none = replace(paid, entry_id=f"{paid.entry_id}~1", quantity=D(250), cash=-paid.cash)
    assert book(*TWO, fill("c", 50, 54, 60), entries=(paid, none)) == book(*TWO, fill("c", 50, 54, 60))


def test_a_spin_off_leaves_the_basis_where_it_was() -> None:
    spun = Entry("spin_off:AAA:20220304:NEW", EntryKind.SPIN_OFF, "AAA", D(0), D(400), START + timedelta(days=60))
    assert book(*TWO, entries=(spun,)) == book(*TWO)


def test_a_hand_trade_that_was_amended_has_the_amended_cost() -> None:
    hand = fill_entry(fill("h", 3, 20))
    fee = replace(hand, entry_id=f"{hand.entry_id}~1", quantity=D(0), cash=D(-2))
    assert [(lot.lot_id, lot.cost) for lot in book(entries=(hand, fee)).lots] == [("fill:h", D(62))]


NAMES = ("AAA", "BBB", "CCC")
STOCKS = st.sampled_from(NAMES)


@st.composite
def accounts(draw: st.DrawFn) -> tuple[list[Fill], list[Entry], dict[str, Decimal]]:
    """Trades of ours and by hand, splits, changes of symbol, delistings, as a book takes them; some of it told late."""
    fills: list[Fill] = []
    entries: list[Entry] = []
    ratios: dict[str, Decimal] = {}
    for day in range(2, 2 + 2 * draw(st.integers(1, 9)), 2):
        held = positions_of(fills, entries)
        what, name = draw(st.sampled_from(["fill", "hand", "late", "split", "rename", "delist"])), draw(STOCKS)
        if what in ("fill", "hand", "late"):
            told = draw(st.integers(1, day)) if what == "late" else day
            shares, cents = draw(st.integers(-50, 50).filter(bool)), draw(st.integers(1, 9_999))
            trade = of(name, fill(f"f{day}", shares, str(D(cents) / 100), told, "0.35"))
            entries, fills = ([*entries, fill_entry(trade)], fills) if what == "hand" else (entries, [*fills, trade])
        elif what == "split":
            ratio = draw(st.sampled_from(["2", "1.5", "0.1", "0.3"]))
            entry = action_entry(act(EntryKind.SPLIT, name, day, ratio), held.get(name, D(0)), D(7), D(1))
            entries += [entry] if entry else []
            ratios |= {entry.entry_id: D(ratio)} if entry else {}
        elif what == "rename":
            news = draw(st.permutations(NAMES))
            changes = {old: new for old, new in zip(NAMES, news, strict=True) if old != new}
            booked = renamed({of: int(shares) for of, shares in held.items()}, day, **changes)
            entries += booked
            if draw(st.integers(0, 3)) == 0:
                entries += [replace(one, entry_id=f"{one.entry_id}~1", quantity=-one.quantity) for one in booked]
        else:
            gone = act(EntryKind.DELISTING, name, day, draw(st.sampled_from(["0", "54.20"])))
            entries += closing_entries([gone], held, lambda _at, _name: D(0))
    return fills, entries, ratios


@settings(max_examples=150)
@given(accounts())
def test_open_lots_are_the_positions_and_no_money_is_lost(
    account: tuple[list[Fill], list[Entry], dict[str, Decimal]],
) -> None:
    fills, entries, ratios = account
    kept = book(*fills, entries=tuple(entries), ratios=ratios)
    shares: dict[str, Decimal] = {}
    for lot in kept.lots:
        shares[lot.instrument] = shares.get(lot.instrument, D(0)) + lot.quantity
    assert shares == positions_of(fills, entries)
    spent = sum((lot.cost for lot in kept.lots), D(0)) - sum((one.gain for one in kept.disposals), D(0))
    assert spent == -cash_of(fills, entries)
    sides = {(lot.instrument, lot.quantity > 0) for lot in kept.lots}
    assert len(sides) == len({lot.instrument for lot in kept.lots})
    assert len({(lot.instrument, lot.lot_id) for lot in kept.lots}) == len(kept.lots)
    assert book(*reversed(fills), entries=tuple(reversed(entries)), ratios=ratios) == kept


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Fill], list[Entry], dict[str, Decimal]]:
    """Trades of one name, and a split somewhere between them whose shares are those that were held."""
    sizes = draw(st.lists(st.integers(-50, 50).filter(bool), min_size=1, max_size=8))
    cents = draw(st.lists(st.integers(1, 10_000), min_size=len(sizes), max_size=len(sizes)))
    trades = zip(sizes, cents, strict=True)
    fills = [fill(f"f{n}", size, str(D(cent) / 100), n * 3, "0.35") for n, (size, cent) in enumerate(trades)]
    at = draw(st.integers(0, len(sizes)))
    held = D(sum(sizes[:at]))
    ratio = draw(st.sampled_from([D(2), D(3), D("1.5"), D("0.1"), D("0.3")]))
    if not held:
        return fills, [], {}
    return fills, [split(str(held * ratio - held), "0", at * 3 - 1)], {"split:AAA": ratio}


@settings(max_examples=100)
@given(histories())
def test_shares_cost_and_cash_are_conserved(history: tuple[list[Fill], list[Entry], dict[str, Decimal]]) -> None:
    fills, entries, ratios = history
    kept = book(*fills, entries=tuple(entries), ratios=ratios)
    assert sum((lot.quantity for lot in kept.lots), D(0)) == positions_of(fills, entries).get("AAA", D(0))
    spent = sum((lot.cost for lot in kept.lots), D(0)) - sum((one.gain for one in kept.disposals), D(0))
    assert spent == -sum((one.cash_flow for one in fills), D(0))
    assert len({lot.quantity > 0 for lot in kept.lots}) <= 1
    assert [lot.acquired for lot in kept.lots] == sorted(lot.acquired for lot in kept.lots)


@settings(max_examples=60)
@given(histories())
def test_the_order_in_which_movements_are_told_does_not_matter(
    history: tuple[list[Fill], list[Entry], dict[str, Decimal]],
) -> None:
    fills, entries, ratios = history
    told = book(*fills, entries=tuple(entries), ratios=ratios)
    assert book(*reversed(fills), entries=tuple(entries), ratios=ratios) == told


@pytest.mark.parametrize(
    ("traded", "settled"),
    [
        (date(2024, 5, 28), date(2024, 5, 29)), (date(2024, 5, 24), date(2024, 5, 29)),
        (date(2022, 12, 28), date(2022, 12, 30)), (date(2017, 9, 1), date(2017, 9, 7)),
        (date(2024, 11, 8), date(2024, 11, 12)), (date(2025, 10, 10), date(2025, 10, 14)),
        (date(2024, 7, 3), date(2024, 7, 5)),
    ],
)  # fmt: skip
def test_trades_settle_by_the_cycle_of_their_day_and_not_on_a_bank_holiday(traded: date, settled: date) -> None:
    assert settlement_date(SESSIONS, traded) == settled


@pytest.mark.parametrize(
    ("exchange", "traded", "settled"),
    [
        ("24/7", date(2025, 10, 10), date(2025, 10, 10)), ("24/7", date(2026, 8, 8), date(2026, 8, 8)),
        ("XNAS", date(2025, 10, 10), date(2025, 10, 14)), ("XETR", date(2025, 10, 10), date(2025, 10, 14)),
        ("XETR", date(2027, 10, 8), date(2027, 10, 12)), ("XLON", date(2027, 10, 11), date(2027, 10, 12)),
        ("XTKS", date(2025, 11, 7), date(2025, 11, 11)),
    ],
)  # fmt: skip
def test_every_exchange_settles_in_its_own_time_and_coins_at_once(exchange: str, traded: date, settled: date) -> None:
    assert settlement_date(Sessions(exchange), traded) == settled


def test_lots_may_be_identified_until_the_close_of_the_settlement_date() -> None:
    at = datetime(2025, 10, 9, 15, tzinfo=UTC)
    assert identifiable_until(SESSIONS, at) == datetime(2025, 10, 10, 20, tzinfo=UTC)
    assert identifiable_until(Sessions("24/7"), at) == at
