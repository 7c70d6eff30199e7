"""An account that holds shares before our first order: adopted by a person's word, and from then on compared."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from alpaca_venue import AlpacaVenue
from click.testing import CliRunner
from execution_support import (
    CLOSE,
    DECIDED,
    EXECUTED,
    OPEN,
    SESSIONS,
    D,
    Desk,
    ManualClock,
    flat_feed,
    paper,
    rows,
    store_plan,
)
from flex_venue import QUERY, TOKEN, FlexVenue
from hypothesis import given
from hypothesis import strategies as st
from ib_venue import IbVenue

from octopus.core.orders import OrderType, Side, TradingState
from octopus.execution.adoption import AdoptionError, HeldBefore, adoption_entries
from octopus.execution.book import Book, cash_of, positions_of
from octopus.execution.lots import lot_book
from octopus_pipelines.cli import adopt as command
from octopus_pipelines.cli.adopt import adopt_holdings
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import OrderRequest
from resources.brokers.flex import FlexReports
from resources.brokers.ib import IbBroker
from resources.price_feed import Bar
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.audit_log import verify

NOON = OPEN + timedelta(hours=1)
NAMES = ("AAA", "BBB")
amounts = st.decimals(0, 10**6, places=4)


@pytest.fixture
def venue() -> Iterator[AlpacaVenue]:
    with AlpacaVenue(cash=D(5000), positions={"AAA": D(10), "BBB": D(-4)}) as served:
        served.book("CSD", net_amount="0", date="2022-11-01")
        yield served


def desk_at(url: str, venue: AlpacaVenue, folder: Path) -> Desk:
    clock = ManualClock(NOON)
    access = Access(base_url=venue.url, timeout_s=1.0, patience=Patience(attempts=1, total_s=0))
    broker = AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=access, now=clock.now)
    feed = flat_feed(NAMES, days=(DECIDED, EXECUTED, SESSIONS.next(EXECUTED)))
    feed.bars["AAA", EXECUTED] = Bar(D(100), D(110))
    desk = Desk(url, "acct", clock, feed, broker, folder / "anchor")
    desk.open()
    return desk


def adopted(desk: Desk, **costs: Decimal) -> int:
    with desk.engine() as engine:
        return adopt_holdings(engine, "acct", NAMES, costs, "ann: opened last year", ask=False)


def test_holdings_are_the_opening_of_the_book_once(database_url: str, venue: AlpacaVenue, tmp_path: Path) -> None:
    """Ten AAA that cost 80, four BBB sold short at 80, 5,000 in cash: worth 5,700 at the session's close."""
    desk = desk_at(database_url, venue, tmp_path)
    with desk.engine() as engine:
        assert len(engine.reconcile("acct", EXECUTED)) == 3, "a holding of which nobody told us is a break"
    assert (adopted(desk), adopted(desk)) == (3, 0)
    venue.auction = lambda at: at.fill_all() if desk.clock.now() >= CLOSE else None
    with desk.engine() as engine:
        engine.store.set_trading_state("acct", TradingState.ACTIVE, "test", "adopted", desk.clock.now())
    batch = store_plan(database_url, "acct", [("AAA", Side.SELL, D(4))])
    done = desk.execute(batch)
    assert done.breaks == ()
    nav = done.navs[EXECUTED]
    assert (nav.opening, nav.flows, nav.price_pnl) == (D(0), D(5000) + 1100 - 400, 4 * (D(100) - 110))
    with desk.engine() as engine:
        book = engine.bookkeeper.books.book("acct")
        assert (book.cash, dict(book.positions)) == (D(5400), {"AAA": D(6), "BBB": D(-4)})
        lots = lot_book(book.fills, book.entries, dates=lambda at, _: (at.date(), at.date()))
    assert {(lot.instrument, lot.quantity, lot.cost, lot.acquired) for lot in lots.lots} == {
        ("AAA", D(6), D(480), EXECUTED), ("BBB", D(-4), D(-320), EXECUTED)
    }  # fmt: skip
    assert [(one.basis, one.proceeds) for one in lots.disposals] == [(D(320), D(400))]
    told = rows(database_url, "select payload::jsonb ->> 'note' from audit.log where kind = 'book.adopted'")
    assert told == [("adopted by ann: opened last year",)] * 3
    assert verify(database_url, desk.anchor).ok
    venue.positions["AAA"] += 1
    with pytest.raises(AdoptionError, match="has traded by orders of ours"):
        adopted(desk)


def test_what_changed_since_the_adoption_is_no_opening_and_the_command_says_where_to_look(
    database_url: str, venue: AlpacaVenue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_at(database_url, venue, tmp_path)
    office = SimpleNamespace(account="acct", broker=desk.broker, engine=desk.engine)
    for name, stand_in in {"open_database": lambda: SimpleNamespace(symbols=NAMES), "trading_of": lambda _: office,
                           "require_permitted": lambda *_: None}.items():  # fmt: skip
        monkeypatch.setattr(command, name, stand_in)
    assert "acct: 3 entries adopted" in CliRunner().invoke(command.adopt, ["--yes"]).output
    assert "nothing to adopt: the books agree" in CliRunner().invoke(command.adopt, ["--yes"]).output
    booked = rows(database_url, "select * from execution.entries order by entry_id")
    # Bought by hand.
    venue.positions["AAA"] += 3
    venue.cash -= 300
    again = CliRunner().invoke(command.adopt, ["--yes"])
    assert isinstance(again.exception, AdoptionError)
    assert "adopted before" in str(again.exception)
    assert "3 AAA" in str(again.exception)
    assert "`octopus breaks list`" in str(again.exception)
    assert "agree" not in again.output
    assert rows(database_url, "select * from execution.entries order by entry_id") == booked


def test_what_cannot_be_adopted_says_why(
    database_url: str, venue: AlpacaVenue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_at(database_url, venue, tmp_path)
    venue.positions["ZZZ"] = D(1)
    with pytest.raises(AdoptionError, match="holds ZZZ, which no symbol"):
        adopted(desk)
    del venue.positions["ZZZ"]
    with desk.engine() as engine:
        sent = engine.broker.submit(OrderRequest("by-hand", "AAA", Side.BUY, D(1), OrderType.MARKET_ON_CLOSE, CLOSE))
        assert sent.client_order_id == "by-hand"
    with pytest.raises(AdoptionError, match="open orders"):
        adopted(desk)
    venue.end("by-hand", "canceled")
    monkeypatch.setattr(click, "confirm", _no)
    with desk.engine() as engine, pytest.raises(click.Abort):
        adopt_holdings(engine, "acct", NAMES, {}, "ann: no", ask=True)
    assert rows(database_url, "select * from execution.entries") == []


def test_an_account_without_holdings_has_nothing_to_adopt_but_its_cash(database_url: str, tmp_path: Path) -> None:
    clock, feed = ManualClock(NOON), flat_feed(NAMES)
    desk = Desk(database_url, "acct", clock, feed, paper(database_url, "acct", clock, feed), tmp_path / "anchor")
    desk.open()
    with desk.engine() as engine:
        engine.update_positions("acct")
    assert adopted(desk) == 0
    with desk.engine() as engine:
        assert engine.reconcile("acct", EXECUTED) == ()


def test_interactive_brokers_holdings_are_adopted_and_its_report_of_before_is_no_break(
    database_url: str, tmp_path: Path
) -> None:
    clock = ManualClock(NOON)
    with IbVenue(cash=D(1000), positions={"AAA": D(3)}) as tws, FlexVenue(cash=D(1000)) as flex:
        flex.move("Deposits/Withdrawals", "1300", "20221201")
        flex.trade("", "AAA", "3", "100", "0a.1.01.01", "20221205;101500")
        reports = FlexReports(TOKEN, QUERY, SESSIONS, flex.url, sleep=lambda _s: None, now=clock.now)
        broker = IbBroker("acct", port=tws.port, answer_s=0.5, reports=reports, now=clock.now)
        desk = Desk(database_url, "acct", clock, flat_feed(NAMES), broker, tmp_path / "anchor")
        desk.open()
        assert adopted(desk, AAA=D("101.5")) == 2
        with desk.engine() as engine:
            engine.update_positions("acct")
            assert engine.reconcile("acct", EXECUTED) == ()
        clock.at = SESSIONS.open_utc(SESSIONS.next(EXECUTED))
        flex.ends = EXECUTED
        with desk.engine() as engine:
            engine.update_positions("acct")
            assert engine.reconcile("acct", SESSIONS.next(EXECUTED)) == ()
    assert rows(database_url, "select instrument, quantity, cash, basis from execution.entries order by 1") == [
        ("AAA", D(3), D(0), D("304.5")), (None, D(0), D(1000), None)
    ]  # fmt: skip


@given(
    cash=amounts, held=st.dictionaries(st.sampled_from(NAMES), st.decimals(-1000, 1000, places=2), max_size=2),
    price=amounts, ours_cash=amounts,
)  # fmt: skip
def test_after_adoption_our_book_is_the_brokers(
    cash: Decimal, held: dict[str, Decimal], price: Decimal, ours_cash: Decimal
) -> None:
    at = datetime(2022, 12, 28, 15, tzinfo=UTC)
    theirs = HeldBefore(cash, held, dict.fromkeys(NAMES, price))
    entries = adoption_entries(Book("a", ours_cash, {}), theirs, NAMES, at, "n")
    assert ours_cash + cash_of((), entries) == cash
    assert positions_of((), entries) == {name: shares for name, shares in sorted(held.items()) if shares}
    after = Book("a", cash, positions_of((), entries), (), entries)
    assert adoption_entries(after, theirs, NAMES, at, "n") == ()
    assert all(one.basis == one.quantity * price for one in entries if one.instrument)
    assert {one.at.date() for one in entries} <= {date(2022, 12, 28)}


@pytest.mark.parametrize("written", ["AAA", "AAA=", "=5", "AAA=-1", "AAA=NaN"])
def test_a_cost_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(AdoptionError, match="write SYMBOL=PRICE"):
        command._cost(written)
    assert "SYMBOL=PRICE" in CliRunner().invoke(command.adopt, ["--help"]).output


def _no(*_words: object, **_options: object) -> bool:
    raise click.Abort
