"""Workers that end at any point while entries and their exits are on their way (crash_proof.py)."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alpaca_venue import AlpacaVenue
from crash_proof import SETTINGS, Counts, Line, Stand, live_through, moody, prove
from execution_support import (
    CLOSE,
    EXECUTED,
    NAMES,
    OPEN,
    ROOT,
    SESSIONS,
    D,
    Desk,
    FileClock,
    ManualClock,
    TableFeed,
    auction_feed,
    paper,
    rows,
    store_plan,
)
from execution_worker import work
from ib_venue import IbVenue
from kill_venues import HOUSES
from proof_counts import Record
from served_venue import ENDS, auction_of
from test_ib_crashes import ib_house

from octopus.core.ids import exit_order_id
from octopus.core.orders import Bracket, OrderType, Side
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import BrokerOrder, OrderRequest
from resources.brokers.paper import PaperBehaviour
from resources.price_feed import Bar
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.warehouse.audit_log import verify
from resources.warehouse.order_store import OrderStore

FAULTS = ("accept_504", "accept_drop", "drop", "busy", "html", "refuse")
IB_FAULTS = ("accept_drop", "drop", "silent", "refuse", "refuse_exit", "fill_drop", "late_reject")
QUICK = Patience(attempts=2, base_s=0.0, total_s=0.05)
BEFORE = OPEN - timedelta(minutes=30)


@dataclass
class BracketLine(Line):
    """A line to a venue that takes entries with exits."""

    @property
    def exits_are_messages(self) -> bool:
        return bool(self.inner.exits_are_messages)

    def submit_bracket(self, entry: OrderRequest, bracket: Bracket) -> BrokerOrder:
        return self._sent(entry.client_order_id, lambda: self.inner.submit_bracket(entry, bracket))


def bracket_stand(
    desk: Desk, rng: random.Random, at_venue: Callable[[], list[tuple[str, str]]], side: Side | None = None
) -> Stand:
    """A stand whose batch has entries with both exits or one."""
    desk.open()
    chosen = side or rng.choice(list(Side))
    prices = (D(95), D(110)) if chosen is Side.BUY else (D(105), D(90))
    bracket = rng.choice([Bracket(*prices), Bracket(prices[0], None), Bracket(None, prices[1])])
    trades = [(name, chosen, D(rng.randint(1, 50))) for name in NAMES]
    batch = store_plan(desk.url, desk.account, trades, order_type=OrderType.MARKET, bracket=bracket)
    line = desk.broker
    assert isinstance(line, Line)
    return Stand(desk, line, batch, at_venue, line.script)


def ranged_feed(rng: random.Random) -> TableFeed:
    """The auctions' prices with the session's range, that may hit either exit or both."""
    feed = auction_feed()
    for name in NAMES:
        if (bar := feed.bars.get((name, EXECUTED))) is not None:
            high, low = D(rng.randint(100, 115)), D(rng.randint(85, 100))
            feed.bars[name, EXECUTED] = Bar(bar.open, bar.close, high=max(high, bar.close), low=low)
    return feed


def paper_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    clock, feed = ManualClock(BEFORE), ranged_feed(rng)
    behaviour = PaperBehaviour(rng.choice((D(1), D("0.5"))), rng.choice((1, 3)), rng.choice((frozenset(), {"BBB"})))  # type: ignore[arg-type]
    broker = paper(url, account, clock, feed, allow_short=True, deposit=D(10**6), behaviour=behaviour)
    line = BracketLine(broker, clock)
    desk = Desk(url, account, clock, feed, line, anchor, judge=moody(rng), settings=SETTINGS)

    def at_venue() -> list[tuple[str, str]]:
        return rows(url, "select client_order_id, instrument from paper.orders where account = %s", account)

    return bracket_stand(desk, rng, at_venue)


def alpaca_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    clock = ManualClock(BEFORE)
    fates = {name: rng.choice(ENDS) for name in NAMES}
    hit = {name: rng.choice(("limit", "stop", "neither")) for name in NAMES}
    venue = AlpacaVenue(cash=D(0), repeat_fills=rng.random() < 0.3, reverse_fills=rng.random() < 0.3)
    entries = auction_of(fates, lambda: clock.now() >= CLOSE)

    def session(served: AlpacaVenue) -> None:
        entries(served)
        for entry in [one for one in served.orders.values() if one["legs"] and one["status"] == "filled"]:
            for leg in entry["legs"]:
                if leg["status"] in ("new", "held"):
                    done = leg["type"] == hit[entry["symbol"]]
                    served.fill(leg["client_order_id"]) if done else served.end(leg["client_order_id"], "expired")

    venue.auction = session
    venue.__enter__()
    venue.book("CSD", net_amount="100000", date="2022-12-27")
    access = Access(base_url=venue.url, timeout_s=0.4, patience=QUICK)
    line = BracketLine(AlpacaBroker("KEY", "SECRET", account, SESSIONS, access=access, now=clock.now), clock)
    line.happened = venue.faults
    desk = Desk(url, account, clock, auction_feed(), line, anchor, judge=moody(rng), settings=SETTINGS)

    def at_venue() -> list[tuple[str, str]]:
        return [(name, one["symbol"]) for name, one in venue.orders.items() if name.startswith("oct-")]

    stand = bracket_stand(desk, rng, at_venue)
    stand.script, stand.faults = venue.script, FAULTS
    stand.close = lambda: venue.__exit__()
    return stand


def ib_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    clock = ManualClock(BEFORE)
    fates = {name: rng.choice(ENDS) for name in NAMES}
    hit = {name: rng.choice(("s", "t", "both", "neither")) for name in NAMES}
    entries = auction_of(fates, lambda: clock.now() >= CLOSE)

    def session(served: IbVenue) -> None:
        entries(served)
        for exit_ in [one for one in served.orders if one.parent and one.stands and clock.now() >= CLOSE]:
            leg = exit_.ref[-1]
            if hit[exit_.symbol] == "both" and leg == "t" and exit_.quantity > 1:
                served.fill(exit_.ref, D(1))
            if hit[exit_.symbol] == leg or (hit[exit_.symbol] == "both" and leg == "s"):
                served.fill(exit_.ref)
        for exit_ in [one for one in served.orders if one.parent and one.stands and clock.now() >= CLOSE]:
            served.end(exit_.ref, "expired")

    venue, flex, broker = ib_house(account, clock, rng, session)
    line = BracketLine(broker, clock)
    line.happened = venue.faults
    desk = Desk(url, account, clock, auction_feed(), line, anchor, judge=moody(rng), settings=SETTINGS)

    def at_venue() -> list[tuple[str, str]]:
        return [(one.ref, one.symbol) for one in venue.orders]

    stand = bracket_stand(desk, rng, at_venue)
    stand.script, stand.faults = venue.script, IB_FAULTS
    stand.close = lambda: (venue.__exit__(), flex.__exit__())
    return stand


STANDS = {"paper": paper_stand, "alpaca": alpaca_stand, "ib": ib_stand}


@pytest.mark.parametrize("venue", STANDS)
def test_no_entry_and_no_exit_is_lost_or_doubled(database_url: str, tmp_path: Path, venue: str) -> None:
    counts = prove(database_url, tmp_path / "anchor", STANDS[venue], f"bracket-{venue}", range(10_000, 10_002))
    assert counts.events.total()
    assert counts.fills


def test_a_seed_that_once_broke_an_invariant(database_url: str, tmp_path: Path) -> None:
    """A worker that was overtaken sent a bracket to Interactive Brokers after the close."""
    live_through(STANDS["ib"], database_url, "bracket-ib", tmp_path / "anchor", 151, 142, Counts())


POINTS = [
    f"{name}: {side}"
    for name in ("claim", "begin_send", "record", "record_fill", "drain_outbox")
    for side in ("before commit", "committed")
] + [f"{name}: {side}" for name in ("submit_bracket", "order", "fills") for side in ("before asking", "answered")]
UNSENT = ("begin_send: committed", "submit_bracket: before asking")
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Brackets:
    """How a served venue that outlives the workers holds brackets.

    Attributes:
        leg: name there of the exit of an entry that is a ``limit`` or a ``stop``. entries: symbol of every entry that
            ever stood there. faults: what may become of a send; at a venue where nothing is sent again none is lost.
    """

    leg: Callable[[Any, str, str], str]
    entries: Callable[[Any], list[str]]
    faults: tuple[str, ...]


BRACKETS = {
    "alpaca": Brackets(
        lambda venue, entry, kind: str(venue.leg(entry, kind)["client_order_id"]),
        lambda venue: [one["symbol"] for one in venue.orders.values() if one["legs"]],
        ("ok", "accept_504", "accept_drop", "drop"),
    ),
    "ib": Brackets(
        lambda _venue, entry, kind: exit_order_id(entry, "target" if kind == "limit" else "stop"),
        lambda venue: [one.symbol for one in venue.orders if not one.parent],
        ("ok", "accept_drop", "silent"),
    ),
}


def kill_and_finish(url: str, folder: Path, venue: str, seed: int, point: str) -> None:
    """A worker process is killed at the point; another ends the batch, and every book agrees with the venue's."""
    account, rng = f"bracket-{venue}-kill-{seed}", random.Random(seed)
    clock = FileClock(folder / f"{account}.clock")
    clock.path.write_text(BEFORE.isoformat())
    hit, held = rng.choice(("limit", "stop")), BRACKETS[venue]

    def session(served: Any) -> None:
        for name, *_ in served.waiting() if clock.now() >= CLOSE else ():
            served.fill(name)
            served.fill(held.leg(served, name, hit))

    with closing(HOUSES[venue](url, folder, account, clock, rng)) as house:
        house.venue.auction, house.venue.script = session, [rng.choice(held.faults) for _ in NAMES]
        with OrderStore.opened(url) as store:
            store.open_account(account, "test", "opened for a test", BEFORE)
        trades = [(name, Side.BUY, D(10)) for name in NAMES]
        bracket = Bracket(D(95), D(110))
        batch = store_plan(url, account, trades, order_type=OrderType.MARKET, bracket=bracket)
        ends = []
        for run_id, kill in (("first", (point, 1)), ("last", None)):
            arguments = (url, folder, account, batch.batch_id, house.place, run_id, kill)
            worker = PROCESSES.Process(target=work, args=arguments)
            worker.start()
            worker.join(60)
            ends.append(worker.exitcode)
        assert ends == [-signal.SIGKILL, 0], f"{point} was not reached, or the batch did not end"
        entries = held.entries(house.venue)
        lost = set(NAMES) - set(entries)
        assert len(set(entries)) == len(entries), "an entry stands twice"
        # Of a send that is committed and not made nothing is known where nothing is sent again.
        assert len(lost) == int(not house.resendable and point in UNSENT), f"{lost} never arrived"
        assert_ended(url, account, hit, len(entries), len(lost))


def assert_ended(url: str, account: str, hit: str, arrived: int, lost: int) -> None:
    """Each entry filled, and so did the exit that the market hit, and the other one was cancelled; the books agree."""
    states = rows(
        url, "select i.order_type, o.state, count(*) from execution.orders o join execution.order_intents i "
        "using (intent_id) where o.account = %s group by 1, 2 order by 1, 2", account,
    )  # fmt: skip
    gone = "stop" if hit == "limit" else "limit"
    ended = {("market", "filled", arrived), (hit, "filled", arrived), (gone, "cancelled", arrived)}
    expired = {(kind, "expired", lost) for kind in ("market", hit, gone) if lost}
    assert set(states) == ended | expired
    kinds = rows(url, "select distinct kind from execution.reconciliation where account = %s", account)
    assert kinds == [("ok",)]
    assert len(rows(url, "select from execution.fills where account = %s", account)) == 2 * arrived


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers start from a process with everything imported."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(__file__).parent)]))
    PROCESSES.set_forkserver_preload(["execution_worker"])


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("venue", BRACKETS)
def test_a_bracket_survives_the_worker_that_sent_it(database_url: str, tmp_path: Path, venue: str) -> None:
    """At one point; the slow test kills at all of them."""
    kill_and_finish(database_url, tmp_path, venue, 0, "submit_bracket: answered")


@pytest.mark.slow
@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("venue", BRACKETS)
@pytest.mark.parametrize(("seed", "point"), [pytest.param(*one, id=one[1]) for one in enumerate(POINTS, 1)])
def test_a_worker_is_killed_at_every_effect_of_a_bracket(
    database_url: str, tmp_path: Path, record_property: Record, seed: int, point: str, venue: str
) -> None:
    kill_and_finish(database_url, tmp_path, venue, seed, point)
    assert verify(database_url, tmp_path / "audit.anchor").ok
    record_property("proof", {f"kills of workers that send brackets, {venue}": {point: 1}})
