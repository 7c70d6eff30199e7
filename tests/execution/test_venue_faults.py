"""Each fault of a venue at each venue, one at a time, through its own client over a real socket, to equal books.

The crash proofs draw many at once (test_alpaca_crashes.py and its like, test_execution_crashes.py for paper).
docs/proof.md has the table of which test covers which fault at which venue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from clocked_venues import HOUSES, TRADES, House, desk_at, require_equal_books
from execution_support import CLOSE, ManualClock, order_ids, store_plan

from resources.brokers.base import BrokerError
from resources.halt_file import cancel_at_broker
from resources.sources.patience import Patience

SOUND = timedelta(0)
SENDS = {
    "alpaca": ("accept_504", "html", "accept_drop", "accept_slow", "drop", "hang", "busy"),
    "coinbase": ("accept_504", "html", "accept_drop", "accept_slow", "drop", "hang", "busy", "unclear", "denied"),
    "schwab": ("accept_504", "html", "accept_drop", "accept_slow", "drop", "hang", "busy", "no_location", "denied"),
    "ib": ("accept_drop", "silent", "drop", "fill_drop", "late_reject"),
}
"""What may become of a send, as each simulated venue calls it."""
QUICK = ("accept_504", "accept_drop", "silent", "hang", "busy", "part, then disconnect", "late fills")
"""What no quick test of an adapter alone goes through to the books."""
AFTERWARDS = ("part, then disconnect", "duplicate fills", "fills out of order", "late fills", "reject after accept")
RECORDS = {"alpaca": "activities", "coinbase": "executions", "ib": "executions"}
"""Where a venue keeps what it tells of executions; Schwab does so in each order."""


def each(cases: Iterable[tuple[str, str]]) -> list[Any]:
    """Venues with faults; those that are not quick are in the long proof."""
    return [
        pytest.param(venue, fault, id=f"{venue}-{fault}", marks=[] if fault in QUICK else [pytest.mark.slow])
        for venue, fault in cases
    ]


@pytest.mark.parametrize(("venue", "fault"), each((venue, fault) for venue in SENDS for fault in SENDS[venue]))
def test_one_order_for_each_intent_and_equal_books_whatever_becomes_of_a_send(
    database_url: str, tmp_path: Path, venue: str, fault: str
) -> None:
    with desk_at(database_url, tmp_path, venue, SOUND) as (desk, house):
        batch = store_plan(database_url, "acct", TRADES)
        house.venue.script += ["ok", fault]
        for run_id in ("first", "second"):
            with desk.engine() as engine:
                if engine.prepare(batch.batch_id, run_id) is not None:
                    engine.send(batch.batch_id, run_id)
        done = desk.execute(batch, "last")
        states = desk.states(batch)
        # What never arrived is not sent again where the venue knows no second send for the first.
        absent = fault in ("drop", "hang") and venue in ("ib", "schwab")
        after = {"ib": "expired", "schwab": "unknown"}[venue] if absent else "filled"
        assert states == {"AAA": "filled", "BBB": "rejected" if fault == "late_reject" else after, "CCC": "filled"}
        assert len(house.entered()) == len(TRADES) - absent
        assert done.breaks == ()
        require_equal_books(desk)


@pytest.mark.parametrize(("venue", "fault"), each((venue, fault) for venue in SENDS for fault in AFTERWARDS))
def test_fills_however_they_are_told_are_booked_once(database_url: str, tmp_path: Path, venue: str, fault: str) -> None:
    with desk_at(database_url, tmp_path, venue, SOUND) as (desk, house):
        batch = store_plan(database_url, "acct", TRADES)
        happened: Counter[str] = Counter()
        house.venue.auction = Market(house, fault, happened)
        done = desk.execute(batch)
        ended = "rejected" if fault == "reject after accept" else "filled"
        assert desk.states(batch) == {"AAA": "filled", "BBB": ended, "CCC": "filled"}
        assert happened[fault]
        assert done.breaks == ()
        require_equal_books(desk)


@pytest.mark.parametrize("venue", list(HOUSES))
def test_a_cancel_of_an_order_that_the_venue_does_not_have_is_an_error_and_of_one_that_ended_none(
    database_url: str, tmp_path: Path, venue: str
) -> None:
    with desk_at(database_url, tmp_path, venue, SOUND) as (desk, _):
        batch = store_plan(database_url, "acct", TRADES[:1])
        with desk.engine() as engine:
            engine.prepare(batch.batch_id, "run")
            engine.send(batch.batch_id, "run")
        for _ in range(2):
            desk.broker.cancel(order_ids(batch)[0])
        with pytest.raises(BrokerError, match=f"{venue}: oct-lost is not cancelled: no such order .* look for it"):
            desk.broker.cancel("oct-lost")


@pytest.mark.parametrize("venue", [name for name in HOUSES if name != "paper"])
def test_the_kill_switch_lists_what_is_open_without_the_rest_of_the_account(
    database_url: str, tmp_path: Path, venue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desk_at(database_url, tmp_path, venue, SOUND) as (desk, house):
        batch = store_plan(database_url, "acct", TRADES)
        with desk.engine() as engine:
            engine.prepare(batch.batch_id, "run")
            engine.send(batch.batch_id, "run")
        monkeypatch.delattr(type(desk.broker), "snapshot")
        done = cancel_at_broker(desk.broker)
        assert (sorted(done.asked), done.failed) == (sorted(order_ids(batch)), {})
        assert list(house.venue.waiting()) == []


@pytest.mark.parametrize("venue", ["alpaca", "coinbase", "schwab"])
def test_a_question_is_asked_again_after_as_long_as_the_venue_says(tmp_path: Path, venue: str) -> None:
    house = HOUSES[venue](ManualClock(CLOSE), SOUND)
    with house.opened("", tmp_path, "acct") as broker:
        waits: list[float] = []
        patient = replace(broker, access=replace(broker.access, patience=Patience(base_s=0.01), sleep=waits.append))
        patient.account()
        assert waits == []
        house.venue.refuse_busy = 2
        patient.account()
        assert len(waits) == 2
        assert min(waits) >= 1, "Retry-After: 1"


def test_a_token_that_ends_in_the_middle_of_a_batch_is_renewed(database_url: str, tmp_path: Path) -> None:
    """Of Schwab's; Coinbase's are made for each request, and Alpaca's keys do not end."""
    with desk_at(database_url, tmp_path, "schwab", SOUND) as (desk, house):
        batch = store_plan(database_url, "acct", TRADES)

        def ends(venue: Any) -> None:
            venue.revoked |= {f"access-{number}" for number, sent in enumerate((1, 3)) if len(venue.posts) >= sent}
            house.trade(venue)

        house.venue.auction = ends
        done = desk.execute(batch)
        assert (set(desk.states(batch).values()), done.breaks) == ({"filled"}, ())
        assert house.venue.renewals == 2
        require_equal_books(desk)


class Market:
    """What the close does to the orders that stand, with a fault; called before each question to the venue."""

    def __init__(self, house: House, fault: str, happened: Counter[str]) -> None:
        self.house, self.fault, self.happened = house, fault, happened
        self._traded: set[str] = set()
        self._later: list[Any] = []
        self._waits = 0

    def __call__(self, venue: Any) -> None:
        if self.house.now() < CLOSE:
            return
        if self._later:
            self._waits -= 1
            if self._waits <= 0:
                for come in self._later:
                    come()
                self._later = []
        fresh = [one for one in venue.waiting() if one[0] not in self._traded]
        for name, symbol, size in fresh:
            self._traded.add(name)
            self._trade(venue, name, symbol, size)
        if self.fault == "late fills":
            for name, *_ in fresh:
                self._withhold(self._records(venue, name))

    def _trade(self, venue: Any, name: str, symbol: str, size: Any) -> None:
        self.happened[self.fault] += 1
        if self.fault == "part, then disconnect":
            venue.fill(name, size // 3)
            self._wait(lambda: venue.fill(name))
            venue.cut = venue.refuse = 2
        elif self.fault == "reject after accept" and symbol.startswith("BBB"):
            venue.end(name, "rejected")
        elif self.fault == "late fills":
            venue.fill(name)
        else:
            venue.fill(name, size // 3)
            venue.fill(name)
            if self.fault == "duplicate fills":
                venue.repeat_fills = venue.repeat = True
            if self.fault == "fills out of order":
                venue.reverse_fills = venue.reverse = True

    def _withhold(self, records: list[Any]) -> None:
        """Not to tell the last execution for some questions."""
        held = records.pop()
        self._wait(lambda: records.append(held))

    def _wait(self, come: Any) -> None:
        self._later.append(come)
        self._waits = 6

    def _records(self, venue: Any, name: str) -> Any:
        records = getattr(venue, RECORDS.get(self.house.name, ""), None)
        return venue.orders[name]["orderActivityCollection"] if records is None else records
