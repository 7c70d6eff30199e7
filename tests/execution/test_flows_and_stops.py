"""Money that the owner moves since the last NAV is no loss to the stops, and hides none."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    Desk,
    ManualClock,
    flat_feed,
    opened,
    paper,
    rows,
    store_plan,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from assets.execution import entries
from octopus.core.orders import AccountSnapshot, Batch, Outcome, PlannedOrder, Side, TradingState
from octopus.execution.book import Entry, EntryKind
from octopus.execution.nav import Holdings, NavStatement
from octopus.risk import gate as risk_gate
from octopus.risk.signatures import Authority
from resources.execution_engine import ExecutionEngine
from resources.gates import Gates
from resources.settings import load_settings
from resources.warehouse.account_books import AccountBooks
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

D = Decimal
NEXT = SESSIONS.next(EXECUTED)
PRICES = {"AAA": D(100), "BBB": D(100)}


@pytest.fixture(autouse=True)
def no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is judged by prices, for which dbt would have to build the marts."""
    monkeypatch.setattr(Gates, "window", lambda *_arguments: None)


def gates_of(url: str) -> Gates:
    return Gates(replace(load_settings({}), database_url=url), Warehouse(url, Role.TRADER))


def one_buy(account: str, session: date, now: datetime) -> Batch:
    order = PlannedOrder("one-more", "BBB", Side.BUY, D(1), D(100))
    return Batch("next", account, session, now, now + timedelta(hours=1), (order,))


def references(url: str, batch: Batch, snapshot: AccountSnapshot) -> tuple[Decimal | None, Decimal | None]:
    """The NAV peak and the previous NAV that the gate measures from."""
    market = gates_of(url).market(batch, snapshot, snapshot.taken_at)
    return market.nav_peak, market.nav_previous


def stopped(url: str, batch: Batch, snapshot: AccountSnapshot) -> set[str]:
    """Which of the two loss stops deny an order."""
    gates, now = gates_of(url), snapshot.taken_at
    limits = gates.settings.risk.model_copy(update={"drawdown_stop": 0.15, "loss_per_day_max": 0.08})
    market = gates.market(batch, snapshot, now)
    report = risk_gate.judge(batch, snapshot, market, limits, TradingState.ACTIVE, Authority(False, ""), now)
    lost = [v for v in report.verdicts if v.rule in ("loss_per_day", "drawdown_stop")]
    assert {v.rule for v in lost} == {"loss_per_day", "drawdown_stop"}
    return {v.rule for v in lost if v.outcome is not Outcome.PASS}


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Desk:
    """100 AAA at 100 and 90,000 in cash at the NAV of `EXECUTED`; it is the morning after, before the open."""
    clock, feed = ManualClock(OPEN), flat_feed(("AAA", "BBB"), days=(DECIDED, EXECUTED, NEXT))
    made = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed), tmp_path / "anchor")
    made.open()
    made.execute(store_plan(database_url, "acct", [("AAA", Side.BUY, D(100))]))
    assert rows(database_url, "select session, closing from execution.nav") == [(EXECUTED, D(100_000))]
    clock.at = SESSIONS.open_utc(NEXT) - timedelta(hours=2)
    return made


def test_what_the_owner_moves_before_the_open_is_neither_loss_nor_gain(desk: Desk) -> None:
    """As the broker tells it, booked by the comparison that precedes a batch, and judged with the broker's account."""

    def look(loss: int = 0) -> set[str]:
        with desk.engine() as engine:
            assert engine.bookkeeper.compare_now("acct").breaks == ()
        snapshot = desk.broker.snapshot(["BBB"])  # type: ignore[attr-defined]
        lost = replace(snapshot, cash=snapshot.cash - loss)
        return stopped(desk.url, one_buy("acct", EXECUTED, desk.clock.now()), lost)

    assert look() == set()
    assert look(loss=30_000) == {"loss_per_day", "drawdown_stop"}
    desk.broker.transfer("out", EntryKind.WITHDRAWAL, D(-30_000), "to the owner")  # type: ignore[attr-defined]
    assert look() == set(), "a withdrawal is no loss"
    assert look(loss=30_000) == {"loss_per_day", "drawdown_stop"}
    desk.broker.transfer("in", EntryKind.DEPOSIT, D(60_000), "from the owner")  # type: ignore[attr-defined]
    assert look() == set()
    assert look(loss=30_000) == {"loss_per_day", "drawdown_stop"}, "a deposit hides no loss"
    assert look(loss=8_000) == set()


@dataclass
class DeskTrading:
    """What the asset needs of `Trading`, at the test's desk."""

    desk: Desk
    account: str = "acct"

    def engine(self) -> AbstractContextManager[ExecutionEngine]:
        return self.desk.engine()


def book_before_planning(desk: Desk) -> str:
    """Materialise the asset that the jobs `book` and `octopus run` make before research; what it says of breaks."""
    resources = {"warehouse": Warehouse(desk.url, Role.TRADER), "trading": DeskTrading(desk)}
    made = dg.materialize([entries], resources=resources, instance=dg.DagsterInstance.ephemeral())
    (told,) = made.asset_materializations_for_node("execution__entries")
    return str(told.metadata["breaks"].value)


def test_a_withdrawal_between_the_nav_and_the_plan_is_no_loss_to_research(desk: Desk) -> None:
    """Research plans with the broker's account as it is now, which has the flows that no comparison has booked yet."""

    def look(loss: int = 0) -> set[str]:
        snapshot = desk.broker.snapshot(["BBB"])  # type: ignore[attr-defined]
        account = replace(snapshot, cash=snapshot.cash - loss)
        return stopped(desk.url, one_buy("acct", EXECUTED, desk.clock.now()), account)

    desk.broker.transfer("in", EntryKind.DEPOSIT, D(5_000), "from the owner")  # type: ignore[attr-defined]
    desk.broker.transfer("out", EntryKind.WITHDRAWAL, D(-35_000), "to the owner")  # type: ignore[attr-defined]
    assert look() == {"loss_per_day", "drawdown_stop"}, "the books do not know of it"
    with opened(desk.url) as store, store.account_lock("acct"):
        assert "another run" in book_before_planning(desk), "who holds the account books it"
    assert look() == {"loss_per_day", "drawdown_stop"}
    assert book_before_planning(desk) == "0"
    assert look() == set()
    assert look(loss=30_000) == {"loss_per_day", "drawdown_stop"}
    booked = rows(desk.url, "select session, kind, cash from execution.entries order by cash")
    assert booked[0] == (NEXT, "withdrawal", D(-35_000))
    assert book_before_planning(desk) == "0", "a second time it does nothing"
    assert rows(desk.url, "select session, kind, cash from execution.entries order by cash") == booked


def shares(name: str, instrument: str, quantity: int, cash: int = 0) -> Entry:
    return Entry(name, EntryKind.MANUAL, instrument, D(quantity), D(cash), SESSIONS.open_utc(NEXT))


def book(desk: Desk, *entries: Entry) -> None:
    with opened(desk.url) as store:
        for entry in entries:
            AccountBooks(store).recognise("acct", entry, NEXT, desk.clock.now())


def test_shares_that_the_owner_moved_count_as_the_next_nav_will_count_them(desk: Desk) -> None:
    now = desk.clock.now()
    batch, account = one_buy("acct", EXECUTED, now), AccountSnapshot("acct", now, D(90_000), {"AAA": D(90)}, PRICES)
    book(desk, shares("out", "AAA", -10))
    assert references(desk.url, batch, account) == (99_000, 99_000)
    # A trade by hand is a trade: what it brought is our result.
    book(desk, shares("traded", "AAA", 10, -1_200))
    assert references(desk.url, batch, account) == (99_000, 99_000)
    # Shares that came without any cash were moved, too.
    book(desk, shares("in", "BBB", 5))
    assert references(desk.url, batch, account) == (99_500, 99_500)
    # All of a holding, which the broker has no price of any more: that of the last NAV.
    bare = replace(account, prices={"BBB": D(100)}, positions={})
    assert references(desk.url, batch, bare) == (99_500, 99_500)
    # And what nobody can say the worth of leaves both unknown, so that the rules deny.
    book(desk, shares("strange", "ZZZ", 1))
    assert references(desk.url, batch, account) == (None, None)


def test_an_account_of_the_past_is_measured_by_what_had_come_in_by_then(desk: Desk) -> None:
    book(desk, Entry("later", EntryKind.DEPOSIT, None, D(0), D(5_000), SESSIONS.open_utc(NEXT)))
    then = SESSIONS.close_utc(EXECUTED) - timedelta(minutes=1)
    past = AccountSnapshot("acct", then, D(90_000), {"AAA": D(100)}, PRICES)
    assert references(desk.url, one_buy("acct", EXECUTED, then), past) == (100_000, 100_000)
    after = replace(past, taken_at=CLOSE + timedelta(minutes=1), cash=D(95_000))
    assert references(desk.url, one_buy("acct", EXECUTED, then), after) == (105_000, 105_000)


def test_what_moves_within_a_session_counts_for_the_rest_of_it(desk: Desk) -> None:
    """A tenth is lost by noon, half is taken out then: that is no loss of more than a tenth, nor is it later."""
    begins, ends = SESSIONS.open_utc(NEXT), SESSIONS.close_utc(NEXT)
    noon = begins + (ends - begins) / 2
    book(desk, Entry("out", EntryKind.WITHDRAWAL, None, D(0), D(-45_000), noon))
    at_once = AccountSnapshot("acct", noon, D(45_000), {}, {})
    peak, previous = references(desk.url, one_buy("acct", EXECUTED, noon), at_once)
    assert peak == previous == D(50_000)
    # At the close it was there for half of the session: 10,000 of 100,000 - 22,500 are lost.
    closing = replace(at_once, taken_at=ends)
    peak, previous = references(desk.url, one_buy("acct", EXECUTED, ends), closing)
    lost = D(10_000) / D(77_500)
    assert previous is not None
    assert abs(previous - D(45_000) / (1 - lost)) < D("1e-8")
    nav = NavStatement(D(100_000), D(-10_000), D(0), D(0), D(-45_000), D(45_000), Holdings(D(45_000), {}, {}))
    with opened(desk.url) as store:
        AccountBooks(store).save_nav("acct", NEXT, nav, ends)
    later = replace(closing, taken_at=ends + timedelta(minutes=1))
    assert references(desk.url, one_buy("acct", NEXT, later.taken_at), later) == (previous, 45_000)


PARTS = st.tuples(st.integers(-50, 100), st.integers(-30, 30))
"""Per cent of the account that are moved before a session, and then gained in it."""


@hypothesis_settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(navs=st.lists(PARTS, min_size=1, max_size=4), since=st.lists(st.integers(-40, 40), max_size=3), lost=PARTS)
def test_the_references_move_with_the_money_and_striking_its_nav_moves_them_no_further(
    database_url: str, navs: list[tuple[int, int]], since: list[int], lost: tuple[int, int]
) -> None:
    """Profit and loss alone are left between the references and the equity, before a flow's NAV is struck and after."""
    url, zero = database_url, D(0)
    account = f"acct-{rows(url, 'select count(*) from execution.nav')[0][0]}"
    days = [day.item() for day in SESSIONS.between(date(2022, 12, 1), EXECUTED)][-len(navs) :]
    now, equity, level, levels = SESSIONS.open_utc(NEXT), zero, D(1), list[Decimal]()
    with opened(url) as store:
        books = AccountBooks(store)
        for day, (moved, gained) in zip(days, navs, strict=True):
            before, flow = equity, equity * moved / 100 if equity else D(100_000)
            profit = (before + flow) * gained / 100
            equity, level = before + flow + profit, level * (100 + gained) / 100
            levels.append(level)
            held = Holdings(equity, {}, {})
            books.save_nav(account, day, NavStatement(before, profit, zero, zero, flow, equity, held), now)
        opening, flows = equity, [(equity * moved / 100).quantize(D("0.01")) for moved in since]
        flows = flows if opening + sum(flows, zero) > 0 else []
        for number, cash in enumerate(flows):
            kind = EntryKind.WITHDRAWAL if cash < 0 else EntryKind.DEPOSIT
            books.recognise(account, Entry(str(number), kind, None, zero, cash, now), NEXT, now)
        base = opening + sum(flows, zero)
        closing = (base * (100 + lost[1]) / 100).quantize(D("1e-8"))
        snapshot = AccountSnapshot(account, now, closing, {}, PRICES)
        highest, previous = references(url, one_buy(account, EXECUTED, now), snapshot)
        assert previous == base.quantize(D("1e-8"))
        assert highest is not None
        level *= D(100 + lost[1]) / 100
        assert float(closing / highest) == pytest.approx(float(level / max(*levels, level)), rel=1e-12)
        struck = NavStatement(opening, closing - base, zero, zero, base - opening, closing, Holdings(closing, {}, {}))
        books.save_nav(account, NEXT, struck, now)
    later = replace(snapshot, taken_at=SESSIONS.close_utc(NEXT) + timedelta(minutes=1))
    after = references(url, one_buy(account, NEXT, later.taken_at), later)
    assert after[1] == closing
    assert float(after[0] or 0) == pytest.approx(float(highest), rel=1e-12)
