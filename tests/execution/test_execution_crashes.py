"""Workers that end at any point, at the paper broker and at venues that give less, and what must hold (crash_proof.py).

`test_alpaca_crashes.py` does the same with Alpaca's adapter, `test_execution_kills.py` with real processes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_proof import Build, Counts, Stand, count_points, live_through, noon, prove, run_seed, set_up
from execution_support import CLOSE, D, VenueBroker, auction_feed, paper, rows

from octopus.execution.config import Kind, Remainder, ScheduleAtBars
from resources.brokers.base import Guarantee
from resources.brokers.paper import PaperBehaviour


def paper_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    clock = noon()
    behaviour = PaperBehaviour(
        rng.choice((D(1), D(1), D("0.5"))), rng.choice((1, 2, 3)), rng.choice((frozenset(), frozenset({"BBB"})))
    )
    broker = paper(url, account, clock, auction_feed(), allow_short=True, deposit=D(10**6), behaviour=behaviour)

    def at_venue() -> list[tuple[str, str]]:
        return rows(
            url, "select client_order_id, instrument from paper.orders where account = %s", account
        )  # fmt: skip

    def live() -> list[tuple[str, str]]:
        return rows(
            url, "select client_order_id, instrument from paper.orders where account = %s and state in ('accepted', "
            "'partially_filled')", account,
        )  # fmt: skip

    return set_up(url, account, anchor, rng, broker, clock, at_venue, live=live)


def scheduled_stand(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
    """The paper broker, with every order worked in four slices; what they leave goes into the close, or not."""
    clock = noon()
    broker = paper(url, account, clock, auction_feed(), allow_short=True, deposit=D(10**6))
    schedule = ScheduleAtBars(schedule=Kind.TWAP, slices=4, remainder=rng.choice(list(Remainder)))

    def at_venue() -> list[tuple[str, str]]:
        return rows(url, "select client_order_id, instrument from paper.orders where account = %s", account)

    return set_up(url, account, anchor, rng, broker, clock, at_venue, schedule)


def venue_stand(guarantee: Guarantee) -> Build:
    def build(url: str, account: str, anchor: Path | None, rng: random.Random) -> Stand:
        clock = noon()
        script = [rng.choice(("ok", "ok", "late")) for _ in range(6)]
        refuses = rng.choice((set[str](), {"CCC"}))
        venue = VenueBroker(account, clock, guarantee, script, fills_at=CLOSE, refuses_late=refuses)

        def at_venue() -> list[tuple[str, str]]:
            return [(one.client_order_id, one.instrument) for all_of in venue.orders.values() for one in all_of]

        def live() -> list[tuple[str, str]]:
            return [(one.client_order_id, one.instrument) for one in venue.standing()]

        venue.on_cancel = cancels(venue, rng)
        return set_up(url, account, anchor, rng, venue, clock, at_venue, live=live)

    return build


def cancels(venue: VenueBroker, rng: random.Random) -> Callable[[str], None]:
    """What may come between a cancel and its effect: a fill of a part or of all, or nothing for a while."""

    def at(order_id: str) -> None:
        standing = [one for one in venue.standing() if one.client_order_id == order_id]
        left = sum(one.quantity - one.filled_quantity for one in standing)
        what = rng.choice(("nothing", "a part", "all", "wait"))
        if standing and (what == "all" or (what == "a part" and left > 1)):
            venue.fill(order_id, left if what == "all" else D(1))
        venue.slow_cancels = int(what == "wait")

    return at


STANDS: dict[str, Build] = {"paper": paper_stand, "scheduled": scheduled_stand} | {
    g.value: venue_stand(g) for g in Guarantee
}


@pytest.mark.parametrize(("name", "seeds"), [("paper", 10), ("scheduled", 2), ("searchable_tag", 5), ("nothing", 3)])
def test_no_order_is_lost_or_doubled_whatever_happens_to_a_worker(
    database_url: str, tmp_path: Path, name: str, seeds: int
) -> None:
    counts = prove(database_url, tmp_path / "anchor", STANDS[name], name, range(10_000, 10_000 + seeds))
    assert counts.events.total()
    assert counts.fills


@pytest.mark.parametrize(
    ("seed", "points"),
    [
        pytest.param(181, 116, id="a worker that was overtaken sends after the close"),
        pytest.param(228, 114, id="what a replacement filled is told before what the venue took of it"),
    ],
)
def test_seeds_that_once_broke_an_invariant(database_url: str, tmp_path: Path, seed: int, points: int) -> None:
    live_through(STANDS["paper"], database_url, "paper", tmp_path / "anchor", seed, points, Counts())


@pytest.mark.parametrize("point", ["begin_send: before commit", "begin_send: committed", "submit: before asking",
                                   "submit: answered", "record: before commit", "record: committed"])  # fmt: skip
def test_a_worker_that_ends_around_a_send(database_url: str, point: str) -> None:
    """At a venue that would book a second send as a second order."""
    rng = random.Random(1)
    build = STANDS["searchable_tag"]
    passed = count_points(build(database_url, "sound", None, rng))
    stand = build(database_url, "around", None, rng)
    run_seed(stand, rng, len(passed), Counts(), cut=passed.index(point))
    assert all(count == 1 for count in stand.line.arrived.values())
