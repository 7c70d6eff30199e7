"""The paper broker: its rules one by one, and its ledger under anything that a trader may send."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from execution_support import CLOSE, DECIDED, EXECUTED, FREE, OPEN, SESSIONS, ManualClock, TableFeed, flat_feed, paper
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octopus.core.costs import CostModel
from octopus.core.orders import OrderType, Side
from octopus.core.sessions import Sessions
from octopus.execution.book import CorporateAction, EntryKind, cash_of, positions_of
from octopus.execution.nav import Holdings, strike_nav
from octopus.execution.states import OrderState
from octopus.portfolio.units import TradingUnits
from resources.brokers.base import Guarantee, OrderRejectedError, OrderRequest, UncertainOutcomeError
from resources.brokers.paper import PaperBehaviour, PaperBroker, PaperBrokerError
from resources.price_feed import Bar, Conversion

D = Decimal
NEXT = SESSIONS.next(EXECUTED)
MOC, MOO = OrderType.MARKET_ON_CLOSE, OrderType.MARKET_ON_OPEN
NAMES = ("AAA", "BBB")
numbers = itertools.count()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(OPEN + timedelta(hours=1))


@pytest.fixture
def feed() -> TableFeed:
    return flat_feed(NAMES, days=(DECIDED, EXECUTED, NEXT))


@pytest.fixture
def broker(database_url: str, clock: ManualClock, feed: TableFeed) -> PaperBroker:
    return paper(database_url, "acct", clock, feed)


def buy(broker: PaperBroker, name: str, quantity: str, order_id: str | None = None, side: Side = Side.BUY) -> str:
    order_id = order_id or f"o{next(numbers)}"
    broker.submit(OrderRequest(order_id, name, side, D(quantity), MOC, _next_close(broker.clock.now())))
    return order_id


def _next_close(now: datetime) -> datetime:
    session = SESSIONS.previous(now.date())
    while SESSIONS.close_utc(session) <= now:
        session = SESSIONS.next(session)
    return SESSIONS.close_utc(session)


def state(broker: PaperBroker, order_id: str) -> tuple[str, Decimal]:
    order = broker.order(order_id)
    assert order is not None
    return order.state.value, order.filled_quantity


def test_an_account_is_opened_once_with_its_deposit(broker: PaperBroker, clock: ManualClock) -> None:
    assert broker.guarantee is Guarantee.IDEMPOTENT_KEY
    assert broker.snapshot().cash == D(100_000)
    again = replace(broker, deposit=D(5))
    assert again.snapshot().cash == D(100_000)
    assert [(e.kind, e.cash) for e in again.statement().entries] == [(EntryKind.DEPOSIT, D(100_000))]
    number = broker.account().number
    assert number.startswith("PAPER-")
    assert broker.account().is_paper
    assert replace(broker, paper_account="other").account().number != number


def test_an_order_fills_at_the_close_with_costs_by_hand(database_url: str, clock: ManualClock, feed: TableFeed) -> None:
    """100 shares at 100 moved by 4 bps: 100.04; commission 1 bp of 10,004 is 1.0004, in cents 1.00."""
    broker = paper(database_url, "acct", clock, feed, costs=CostModel())
    order_id = buy(broker, "AAA", "100")
    assert state(broker, order_id) == ("accepted", D(0))
    assert broker.fills() == ()
    clock.wait_until(CLOSE)
    (fill,) = broker.fills()
    assert (fill.quantity, fill.price, fill.fees, fill.at) == (D(100), D("100.04"), D("1.00"), CLOSE)
    assert state(broker, order_id) == ("filled", D(100))
    assert broker.snapshot().cash == D(100_000) - D(10_004) - 1
    assert broker.snapshot().positions == {"AAA": D(100)}


def test_a_sale_is_moved_against_the_seller_and_the_least_commission_holds(
    database_url: str, clock: ManualClock, feed: TableFeed
) -> None:
    costs = CostModel(commission_min=5, half_spread_bps=10, slippage_bps=0)
    broker = paper(database_url, "acct", clock, feed, costs=costs)
    buy(broker, "AAA", "1")
    clock.wait_until(SESSIONS.open_utc(NEXT))
    buy(broker, "AAA", "1", side=Side.SELL)
    clock.wait_until(SESSIONS.close_utc(NEXT))
    assert [(f.price, f.fees) for f in broker.fills()] == [(D("100.1"), D(5)), (D("99.9"), D(5))]


def test_the_same_client_order_id_is_the_same_order(broker: PaperBroker, clock: ManualClock) -> None:
    first = broker.submit(OrderRequest("o", "AAA", Side.BUY, D(1), MOC, CLOSE))
    assert broker.submit(OrderRequest("o", "AAA", Side.BUY, D(1), MOC, CLOSE)) == first
    with pytest.raises(UncertainOutcomeError, match="already stands for buy 1 AAA"):
        broker.submit(OrderRequest("o", "AAA", Side.BUY, D(2), MOC, CLOSE))
    clock.wait_until(CLOSE)
    assert len(broker.fills()) == 1
    assert broker.submit(OrderRequest("o", "AAA", Side.BUY, D(1), MOC, CLOSE)).state is OrderState.FILLED


@pytest.mark.parametrize(
    ("name", "side", "quantity", "options", "why"),
    [
        ("ZZZ", Side.BUY, "1", {}, "unknown instrument"),
        ("AAA", Side.BUY, "1000.00000001", {}, "buying power"),
        ("AAA", Side.SELL, "1", {}, "short sale"),
        ("AAA", Side.BUY, "0.5", {"allow_fractional": False}, "not a multiple of 1 shares"),
        ("AAA", Side.BUY, "1", {"behaviour": PaperBehaviour(reject=frozenset({"AAA"}))}, "by configuration"),
    ],
)
def test_what_is_refused_and_stays_refused(database_url, clock, feed, name, side, quantity, options, why) -> None:  # type: ignore[no-untyped-def]
    broker = paper(database_url, "acct", clock, feed, **options)
    for _ in range(2):
        with pytest.raises(OrderRejectedError, match=why):
            broker.submit(OrderRequest("o", name, side, D(quantity), MOC, CLOSE))
    assert state(broker, "o") == ("rejected", D(0))
    clock.wait_until(CLOSE)
    assert broker.fills() == ()


def test_no_order_is_taken_after_its_auction(broker: PaperBroker, clock: ManualClock) -> None:
    clock.at = OPEN + timedelta(hours=1)
    with pytest.raises(OrderRejectedError, match="no market_on_open auction"):
        broker.submit(OrderRequest("p", "AAA", Side.BUY, D(1), MOO, CLOSE))
    clock.at = CLOSE
    with pytest.raises(OrderRejectedError, match="would live on in the next session"):
        broker.submit(OrderRequest("o", "AAA", Side.BUY, D(1), MOC, CLOSE))
    assert broker.order("o") is None


def test_two_sales_of_the_same_shares_are_one_too_many(broker: PaperBroker, clock: ManualClock) -> None:
    buy(broker, "AAA", "10")
    clock.wait_until(SESSIONS.open_utc(NEXT))
    buy(broker, "AAA", "6", side=Side.SELL)
    with pytest.raises(OrderRejectedError, match="10 held, 6 of them being sold already"):
        buy(broker, "AAA", "5", side=Side.SELL)
    with pytest.raises(OrderRejectedError, match="short sale"):
        buy(broker, "BBB", "1", side=Side.SELL)


def test_nothing_later_than_the_clock_is_seen(broker: PaperBroker, clock: ManualClock, feed: TableFeed) -> None:
    feed.bars["AAA", EXECUTED] = Bar(None, D(777))
    feed.bars["AAA", NEXT] = Bar(None, D(888))
    order_id = buy(broker, "AAA", "1")
    clock.at = CLOSE - timedelta(microseconds=1)
    assert state(broker, order_id) == ("accepted", D(0))
    assert broker.snapshot(["AAA"]).prices == {"AAA": D(100)}
    clock.at = CLOSE
    assert [f.price for f in broker.fills()] == [D(777)]
    assert broker.snapshot(["AAA"]).prices == {"AAA": D(777)}
    clock.at = CLOSE - timedelta(days=30)
    assert broker.snapshot().taken_at == CLOSE


@pytest.mark.parametrize(
    ("low", "sent", "price"),
    [
        (D(97), timedelta(0), D("101.000000")),
        (None, timedelta(0), D(103)),
        # What stands before the open meets it.
        (D(97), timedelta(minutes=-1), D(98)),
    ],
)
def test_what_is_sent_while_the_session_trades_has_its_average_price(
    broker: PaperBroker, clock: ManualClock, feed: TableFeed, low: Decimal | None, sent: timedelta, price: Decimal
) -> None:
    feed.bars["AAA", EXECUTED] = Bar(D(98), D(103), high=D(103), low=low)
    clock.at = SESSIONS.open_utc(EXECUTED) + sent
    broker.submit(OrderRequest("m", "AAA", Side.BUY, D(2), OrderType.MARKET, CLOSE))
    clock.at = CLOSE
    assert [fill.price for fill in broker.fills()] == [price]


def test_without_a_bar_an_order_expires(broker: PaperBroker, clock: ManualClock, feed: TableFeed) -> None:
    del feed.bars["AAA", EXECUTED]
    closing = buy(broker, "AAA", "1")
    opening = f"o{next(numbers)}"
    feed.bars["BBB", NEXT] = Bar(None, D(100))
    broker.submit(OrderRequest(opening, "BBB", Side.BUY, D(1), MOO, SESSIONS.open_utc(NEXT)))
    clock.wait_until(SESSIONS.open_utc(NEXT))
    assert state(broker, closing) == ("expired", D(0))
    assert state(broker, opening) == ("expired", D(0))
    assert broker.fills() == ()


def test_an_order_whose_bar_is_kept_out_expires_with_the_finding(
    broker: PaperBroker, clock: ManualClock, feed: TableFeed
) -> None:
    why = "the bar of AAA is kept out by finding f"
    del feed.bars["AAA", EXECUTED]
    feed.held["AAA", EXECUTED] = why
    kept, filled = buy(broker, "AAA", "1"), buy(broker, "BBB", "1")
    clock.wait_until(CLOSE)
    assert (state(broker, kept), state(broker, filled)) == (("expired", D(0)), ("filled", D(1)))
    order = broker.order(kept)
    assert order is not None
    assert order.reason == f"expired unfilled: {why}"
    feed.held["NEW", EXECUTED] = "the bar of NEW is kept out"
    with pytest.raises(OrderRejectedError, match="the bar of NEW is kept out"):
        buy(broker, "NEW", "1")


def test_at_the_open_the_opening_price_counts(broker: PaperBroker, clock: ManualClock, feed: TableFeed) -> None:
    feed.bars["AAA", NEXT] = Bar(D(90), D(120))
    broker.submit(OrderRequest("o", "AAA", Side.BUY, D(1), MOO, SESSIONS.open_utc(NEXT)))
    clock.wait_until(SESSIONS.open_utc(NEXT))
    assert [(f.price, f.at) for f in broker.fills()] == [(D(90), SESSIONS.open_utc(NEXT))]


PRICED = {"open": D(100), "close": D(120)}


@pytest.mark.parametrize(
    ("side", "order_type", "price", "filled_at", "at"),
    [
        (Side.BUY, OrderType.MARKET, None, D(101), "open"), (Side.BUY, OrderType.LIMIT, D(110), D(101), "open"),
        (Side.BUY, OrderType.LIMIT, D("100.5"), D("100.5"), "open"), (Side.BUY, OrderType.LIMIT, D(99), None, ""),
        (Side.BUY, OrderType.STOP, D(100), D(101), "open"), (Side.BUY, OrderType.STOP, D(115), D("121.2"), "close"),
        (Side.BUY, OrderType.STOP, D(121), None, ""), (Side.SELL, OrderType.LIMIT, D(120), D(120), "close"),
        (Side.SELL, OrderType.LIMIT, D(90), D(99), "open"), (Side.SELL, OrderType.STOP, D(99), None, ""),
        (Side.SELL, OrderType.STOP, D(100), D(99), "open"),
    ],
)  # fmt: skip
def test_market_limit_and_stop_orders_take_the_first_auction_whose_price_they_take(  # type: ignore[no-untyped-def]
    database_url, clock, feed, side, order_type, price, filled_at, at
) -> None:
    feed.bars["AAA", NEXT] = Bar(PRICED["open"], PRICED["close"])
    costs = CostModel(commission_bps=0, half_spread_bps=60, slippage_bps=40)
    broker = paper(database_url, "acct", clock, feed, costs=costs, allow_short=True)
    clock.wait_until(CLOSE)
    broker.submit(OrderRequest("o", "AAA", side, D(5), order_type, SESSIONS.close_utc(NEXT), price))
    clock.wait_until(SESSIONS.close_utc(NEXT))
    instants = {"open": SESSIONS.open_utc(NEXT), "close": SESSIONS.close_utc(NEXT)}
    assert [(f.price, f.at) for f in broker.fills()] == ([(filled_at, instants[at])] if filled_at else [])
    assert state(broker, "o")[0] == ("filled" if filled_at else "expired")


@pytest.mark.parametrize(
    ("side", "limit", "filled_at", "at"),
    [
        (Side.BUY, D(99), D(99), "close"), (Side.BUY, D("98.5"), D("98.5"), "close"), (Side.BUY, D("98.49"), None, ""),
        (Side.SELL, D(124), D(124), "close"), (Side.SELL, D(125), None, ""), (Side.SELL, D(98), D(99), "open"),
    ],
)  # fmt: skip
def test_a_limit_order_that_stood_at_the_open_fills_at_its_limit_where_the_session_reaches_it(  # type: ignore[no-untyped-def]
    database_url, clock, feed, side, limit, filled_at, at
) -> None:
    feed.bars["AAA", NEXT] = Bar(PRICED["open"], PRICED["close"], high=D(124), low=D("98.5"))
    costs = CostModel(commission_bps=0, half_spread_bps=60, slippage_bps=40)
    broker = paper(database_url, "acct", clock, feed, costs=costs, allow_short=True)
    clock.wait_until(CLOSE)
    until = SESSIONS.close_utc(NEXT)
    broker.submit(OrderRequest("o", "AAA", side, D(5), OrderType.LIMIT, until, limit))
    clock.wait_until(SESSIONS.open_utc(NEXT))
    # What the session did before it was sent, it does not see.
    broker.submit(OrderRequest("late", "AAA", Side.BUY, D(5), OrderType.LIMIT, until, D(99)))
    clock.wait_until(until)
    instants = {"open": SESSIONS.open_utc(NEXT), "close": until}
    assert [(f.price, f.at) for f in broker.fills()] == ([(filled_at, instants[at])] if filled_at else [])
    assert state(broker, "late")[0] == "expired"


def test_an_order_is_replaced_by_one_of_its_own_kind_alone(broker: PaperBroker) -> None:
    old = OrderRequest("old", "AAA", Side.BUY, D(1), OrderType.LIMIT, CLOSE, D(50))
    broker.submit(old)
    new = replace(old, client_order_id="new", quantity=D(2))
    for other in (
        replace(new, instrument="BBB"), replace(new, side=Side.SELL), replace(new, order_type=OrderType.STOP)
    ):  # fmt: skip
        with pytest.raises(OrderRejectedError, match="cannot take the place of old, a limit order to buy AAA"):
            broker.replace("old", other)
    with pytest.raises(OrderRejectedError, match="there is no order other to replace"):
        broker.replace("other", new)
    assert broker.order("new") is None
    assert broker.replace("old", new).quantity == D(2)
    assert state(broker, "old")[0] == "replaced"


def test_buying_power_reckons_with_a_limit_above_the_market(broker: PaperBroker) -> None:
    with pytest.raises(OrderRejectedError, match="does not cover 110000"):
        broker.submit(OrderRequest("o", "AAA", Side.BUY, D(1000), OrderType.LIMIT, CLOSE, D(110)))


def test_sales_of_the_same_auction_pay_for_buys(broker: PaperBroker, clock: ManualClock) -> None:
    buy(broker, "AAA", "1000")
    clock.wait_until(SESSIONS.open_utc(NEXT))
    with pytest.raises(OrderRejectedError, match=r"buying power 0\.00"):
        buy(broker, "BBB", "100")
    buy(broker, "AAA", "400", side=Side.SELL)
    buy(broker, "BBB", "400")
    clock.wait_until(SESSIONS.close_utc(NEXT))
    assert broker.snapshot().positions == {"AAA": D(600), "BBB": D(400)}
    assert broker.snapshot().cash == 0


def test_a_gap_scales_all_buys_down_by_one_factor(broker: PaperBroker, clock: ManualClock, feed: TableFeed) -> None:
    feed.bars["AAA", EXECUTED] = feed.bars["BBB", EXECUTED] = Bar(None, D(125))
    ids = [buy(broker, "AAA", "750"), buy(broker, "BBB", "250")]
    clock.wait_until(CLOSE)
    assert [state(broker, order_id) for order_id in ids] == [("cancelled", D(600)), ("cancelled", D(200))]
    assert broker.snapshot().cash == 0


@pytest.mark.parametrize(
    ("quantity", "price", "least", "part", "filled"),
    [
        # Of both purchases cash pays for eight tenths, 576 and 224.
        ("720", 125, 0, "1", 540),
        # The least commission takes what would have paid for the seventh lot.
        ("810", 143, 10_001, "1", 540),
        ("720", 100, 0, "0.4", 270),
        ("720", 100, 0, "1", 720),
        # Planned before there were lots.
        ("721", 100, 0, "1", 721),
    ],
)
def test_what_fills_in_part_is_whole_lots_of_the_instruments_own(  # type: ignore[no-untyped-def]
    database_url, clock, feed, quantity, price, least, part, filled
) -> None:
    broker = paper(
        database_url, "acct", clock, feed, behaviour=PaperBehaviour(fill_fraction=D(part)),
        costs=CostModel(commission_bps=0, commission_min=least, half_spread_bps=0, slippage_bps=0),
        units=lambda _now: TradingUnits({"AAA": D(90)}),
    )  # fmt: skip
    feed.bars["AAA", EXECUTED] = feed.bars["BBB", EXECUTED] = Bar(None, D(price))
    order_id = buy(broker, "AAA", quantity)
    other = buy(broker, "BBB", "280") if price == 125 else None
    clock.wait_until(CLOSE)
    assert state(broker, order_id)[1] == filled
    assert other is None or state(broker, other)[1] == 224


def test_partial_fills_in_pieces_share_the_commission(database_url: str, clock: ManualClock, feed: TableFeed) -> None:
    behaviour = PaperBehaviour(fill_fraction=D("0.5"), fills_per_order=3)
    costs = CostModel(commission_bps=10, half_spread_bps=0, slippage_bps=0)
    broker = paper(database_url, "acct", clock, feed, behaviour=behaviour, costs=costs, allow_fractional=False)
    order_id = buy(broker, "AAA", "21")
    clock.wait_until(CLOSE)
    fills = broker.fills()
    assert [f.quantity for f in fills] == [D(3), D(3), D(4)]
    assert sum(f.fees for f in fills) == D("1.00")
    assert state(broker, order_id) == ("cancelled", D(10))
    for wrong in ({"fill_fraction": D(0)}, {"fill_fraction": D(2)}, {"fills_per_order": 0}):
        with pytest.raises(PaperBrokerError, match="must be"):
            PaperBehaviour(**wrong)  # type: ignore[arg-type]


def test_a_cancelled_order_does_not_fill(broker: PaperBroker, clock: ManualClock) -> None:
    order_id = buy(broker, "AAA", "1")
    broker.cancel(order_id)
    broker.cancel(order_id)
    clock.wait_until(CLOSE)
    assert state(broker, order_id) == ("cancelled", D(0))
    assert broker.fills() == ()


def test_splits_and_dividends_reach_the_ledger_and_the_marks(
    broker: PaperBroker, clock: ManualClock, feed: TableFeed
) -> None:
    """10 shares at 100; then 2 for 1 and 0.50 a new share: 20 shares, 10 cash, marked at 49.50 until the close."""
    buy(broker, "AAA", "10")
    clock.wait_until(CLOSE)
    ex = SESSIONS.open_utc(NEXT)
    feed.corporate_actions += [
        CorporateAction(EntryKind.DIVIDEND, "AAA", D("0.5"), ex),
        CorporateAction(EntryKind.SPLIT, "AAA", D(2), ex),
    ]
    broker.submit(OrderRequest("across", "AAA", Side.SELL, D(10), MOO, ex))
    clock.at = ex - timedelta(seconds=1)
    assert broker.snapshot().equity == D(100_000)
    clock.at = ex
    snapshot = broker.snapshot()
    assert snapshot.positions == {"AAA": D(20)}
    assert snapshot.prices == {"AAA": D("49.5")}
    assert snapshot.equity == D(100_000)
    assert state(broker, "across") == ("cancelled", D(0))
    clock.at = ex + timedelta(days=20)
    broker.snapshot()
    kinds = [(e.kind, e.quantity, e.cash) for e in broker.statement(CLOSE).entries]
    assert kinds == [(EntryKind.DIVIDEND, D(0), D(10)), (EntryKind.SPLIT, D(10), D(0))]


def test_a_transfer_counts_once(broker: PaperBroker) -> None:
    for _ in range(2):
        broker.transfer("t1", EntryKind.WITHDRAWAL, D(-40_000), "school fees")
    assert broker.snapshot().cash == D(60_000)


DAYS = [day.astype(object) for day in SESSIONS.between(date(2022, 12, 1), date(2022, 12, 30))]


@st.composite
def markets(draw: st.DrawFn) -> TableFeed:
    """Wild prices, missing bars, splits and dividends for two instruments over December."""
    bars = {(name, DAYS[0]): Bar(D(50), D(50)) for name in NAMES}
    for name in NAMES:
        for day in DAYS[1:6]:
            if draw(st.integers(0, 9)):
                price = st.decimals(D("0.5"), D(500), places=4)
                bars[name, day] = Bar(draw(price) if draw(st.booleans()) else None, draw(price))
    actions = [
        CorporateAction(kind, name, value, SESSIONS.open_utc(day))
        for kind, value in (
            (EntryKind.SPLIT, draw(st.sampled_from([D("0.5"), D(2), D(3)]))),
            (EntryKind.DIVIDEND, D("0.25")),
        )
        for name in NAMES
        for day in draw(st.lists(st.sampled_from(DAYS[2:6]), max_size=1))
    ]
    return TableFeed(bars, actions)


orders = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(NAMES), st.sampled_from(Side), st.decimals(D("0.5"), D(900), places=1),
        st.sampled_from(OrderType),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    feed=markets(),
    wanted=orders,
    costs=st.sampled_from([FREE, CostModel(), CostModel(commission_min=3, commission_bps=50, slippage_bps=30)]),
    fractional=st.booleans(),
    behaviour=st.sampled_from([PaperBehaviour(), PaperBehaviour(fill_fraction=D("0.4"), fills_per_order=2)]),
)
def test_the_ledger_conserves_cash_and_shares(module_database, feed, wanted, costs, fractional, behaviour) -> None:  # type: ignore[no-untyped-def]
    """Whatever is sent: cash and shares are sums of records, no buy overdraws, and our NAV is its equity."""
    clock = ManualClock(SESSIONS.close_utc(DAYS[0]))
    broker = paper(
        module_database,
        f"h{next(numbers)}",
        clock,
        feed,
        costs=costs,
        allow_fractional=fractional,
        behaviour=behaviour,
        deposit=D(20_000),
    )
    broker.snapshot()
    last = Holdings(D(0), {}, {})
    seen = 0
    seen_entries = 0
    for number, day in enumerate(DAYS[1:6]):
        for when, name, side, quantity, order_type in wanted:
            if when == number:
                amount = quantity if fractional else quantity.to_integral_value() + 1
                expiry = SESSIONS.open_utc(day) if order_type is MOO else SESSIONS.close_utc(day)
                try:
                    broker.submit(OrderRequest(f"o{next(numbers)}", name, side, amount, order_type, expiry))
                except OrderRejectedError:
                    continue
        clock.wait_until(SESSIONS.close_utc(day))
        statement, snapshot = broker.statement(), broker.snapshot()
        assert statement.cash == cash_of(statement.fills, statement.entries) == snapshot.cash
        assert statement.positions == positions_of(statement.fills, statement.entries) == snapshot.positions
        assert all(shares > 0 for shares in statement.positions.values())
        assert not snapshot.open_orders
        sold_at_a_loss = sum((max(f.fees - f.quantity * f.price, D(0)) for f in statement.fills), D(0))
        assert statement.cash >= -sold_at_a_loss, "a buy overdrew the account"
        names = {*NAMES}
        prices = {n: price for n in names if (price := feed.last_close(n, day)) is not None}
        nav = strike_nav(last, statement.fills[seen:], _unseen(statement.entries, seen_entries), prices)
        assert nav.closing == snapshot.equity
        last, seen, seen_entries = nav.holdings, len(statement.fills), len(statement.entries)
    for order_id, filled, quantity in _fills_by_order(broker):
        assert filled <= quantity, order_id


def _unseen(entries, count):  # type: ignore[no-untyped-def]
    """Entries booked since the first ``count`` were: they are listed by time, and time only goes on."""
    return entries[count:]


def _fills_by_order(broker: PaperBroker):  # type: ignore[no-untyped-def]
    totals: dict[str, Decimal] = {}
    for fill in broker.fills():
        totals[fill.client_order_id] = totals.get(fill.client_order_id, D(0)) + fill.quantity
    for order_id, filled in totals.items():
        order = broker.order(order_id)
        assert order is not None
        assert order.filled_quantity == filled
        yield order_id, filled, order.quantity


def test_an_account_opened_before_any_session_is_refused_clearly(database_url: str, feed: TableFeed) -> None:
    early = paper(database_url, "acct", ManualClock(datetime(1970, 1, 1, tzinfo=UTC)), feed)
    assert early.snapshot().cash == D(100_000)
    with pytest.raises(Exception, match="calendar"):
        early.snapshot(["AAA"])


def test_where_trading_never_ends_a_close_is_booked_and_the_open_of_that_instant_waits(database_url: str) -> None:
    """A token split on Saturday's open, the very instant of Friday's close, with the bars a quarter of an hour late."""
    coins = Sessions("24/7")
    friday, saturday, sunday = date(2022, 12, 23), date(2022, 12, 24), date(2022, 12, 25)
    midnight = coins.close_utc(friday)
    feed = TableFeed({("BTC", date(2022, 12, 22)): Bar(D(100), D(100))})
    clock = ManualClock(coins.decision_utc(date(2022, 12, 22)))
    broker = replace(paper(database_url, "acct", clock, feed, data_patience=timedelta(days=3)), sessions=coins)
    broker.submit(OrderRequest("early", "BTC", Side.BUY, D(10), MOC, midnight))
    clock.wait_until(coins.decision_utc(friday))
    assert state(broker, "early") == ("accepted", D(0)), "Friday's bar is not in yet"
    feed.bars["BTC", friday] = Bar(D(100), D(110))
    feed.corporate_actions.append(CorporateAction(EntryKind.SPLIT, "BTC", D(2), midnight))
    (fill,) = broker.fills()
    assert (fill.price, fill.at) == (D(110), midnight)
    assert broker.snapshot().positions == {"BTC": D(10)}
    with pytest.raises(OrderRejectedError, match="is not sent"):
        broker.submit(OrderRequest("o", "BTC", Side.BUY, D(1), MOO, midnight))
    feed.bars["BTC", saturday] = Bar(D(55), D(56))
    clock.wait_until(coins.decision_utc(saturday))
    assert broker.snapshot().positions == {"BTC": D(20)}, "the split is not lost between the two"
    assert broker.snapshot().prices["BTC"] == D(56)
    broker.submit(OrderRequest("late", "BTC", Side.SELL, D(20), MOC, coins.close_utc(sunday)))
    feed.bars["BTC", sunday] = Bar(D(56), D(57))
    clock.wait_until(coins.decision_utc(sunday))
    assert [(f.quantity, f.price, f.at) for f in broker.fills()][1:] == [(D(20), D(57), coins.close_utc(sunday))]
    assert broker.snapshot().positions == {}


# -- several currencies ------------------------------------------------------------------------------------------------


def euros(price: str, rate: str) -> Bar:
    return Bar(D(price), D(price), Conversion(D(rate), is_foreign=True))


def test_a_fill_is_converted_at_the_sessions_rate_and_a_spread_and_says_so(
    database_url: str, clock: ManualClock, feed: TableFeed
) -> None:
    """100 shares at 40 euros moved by 4 bps: 40.016; at 1.25 dollars and 20 bps 1.2525, so 50.12004 each way."""
    feed.bars |= {("AAA", DECIDED): euros("40", "1.2"), ("AAA", EXECUTED): euros("40", "1.25")}
    feed.bars["AAA", NEXT] = euros("44", "1.5")
    broker = paper(database_url, "acct", clock, feed, costs=CostModel(fx_spread_bps=20))
    assert broker.snapshot(["AAA"]).prices == {"AAA": D(48)}
    buy(broker, "AAA", "100")
    clock.wait_until(CLOSE)
    (fill,) = broker.fills()
    assert (fill.price, fill.rate, fill.fees) == (D("50.12004"), D("1.2525"), D("0.50"))
    assert fill.price / fill.rate == D("40.016")
    assert broker.snapshot().cash == D(100_000) - 100 * D("50.12004") - D("0.50")
    assert broker.snapshot().equity == broker.snapshot().cash + 100 * D(50)
    clock.wait_until(SESSIONS.open_utc(NEXT))
    buy(broker, "AAA", "100", side=Side.SELL)
    clock.wait_until(SESSIONS.close_utc(NEXT))
    sold = broker.fills()[-1]
    assert sold.rate == D("1.497")
    assert sold.price == (D(44) * D("0.9996") * D("1.497")).quantize(D("1e-8"))


def test_a_limit_is_in_the_instruments_currency_and_buying_power_in_the_accounts(
    database_url: str, clock: ManualClock, feed: TableFeed
) -> None:
    for day, price in ((DECIDED, "40"), (EXECUTED, "40"), (NEXT, "38")):
        feed.bars["AAA", day] = euros(price, "2")
    broker = paper(database_url, "acct", clock, feed, costs=CostModel(fx_spread_bps=0))
    until = SESSIONS.close_utc(NEXT)
    with pytest.raises(OrderRejectedError, match=r"buying power 100000\.00 does not cover 164000\.00"):
        broker.submit(OrderRequest("dear", "AAA", Side.BUY, D(2000), OrderType.LIMIT, until, D(41)))
    broker.submit(OrderRequest("o", "AAA", Side.BUY, D(10), OrderType.LIMIT, until, D(39)))
    clock.wait_until(CLOSE)
    assert broker.fills() == ()
    clock.wait_until(until)
    (fill,) = broker.fills()
    assert fill.price / fill.rate == D(38) * D("1.0004")


def test_pence_cost_no_conversion(database_url: str, clock: ManualClock, feed: TableFeed) -> None:
    feed.bars |= {("AAA", day): Bar(D(250), D(250), Conversion(D("0.01"))) for day in (DECIDED, EXECUTED)}
    broker = paper(database_url, "acct", clock, feed, costs=FREE.model_copy(update={"fx_spread_bps": 50}))
    buy(broker, "AAA", "10")
    clock.wait_until(CLOSE)
    assert [(fill.price, fill.rate) for fill in broker.fills()] == [(D("2.5"), D("0.01"))]
