"""The kill switch without its database: nothing leaves, open orders are cancelled at the venue, all of it is audited
when the database is back."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from alpaca_venue import AlpacaVenue
from click.testing import CliRunner
from execution_support import EXECUTED, OPEN, SESSIONS, Desk, ManualClock, flat_feed, rows, store_plan
from hypothesis import given
from hypothesis import strategies as st

import octopus_pipelines.cli.trading as commands
from octopus.core.orders import OpenOrder, Side, TradingState
from octopus.execution.halts import reasons_together
from resources import lock_file
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import BrokerUnavailableError
from resources.halt_file import NAME, Halt, HaltFile, HaltFileBusyError, cancel_at_broker
from resources.runtime.postgres import EmbeddedPostgres
from resources.sources.http import Access
from resources.sources.patience import Patience
from resources.trading import Trading
from resources.warehouse.audit_log import verify
from resources.warehouse.order_store import OrderStore, TradingHaltedError

D = Decimal
NOON = OPEN + timedelta(hours=1)
BUYS = [(name, Side.BUY, D(10)) for name in ("AAA", "BBB", "CCC")]
HALT = Halt(TradingState.HALTED, "operator", "smoke", datetime(2022, 12, 28, 15, tzinfo=UTC))


def alpaca(venue: AlpacaVenue) -> AlpacaBroker:
    access = Access(base_url=venue.url, timeout_s=5, patience=Patience(attempts=1))
    return AlpacaBroker("KEY", "SECRET", "paper", SESSIONS, access=access, now=lambda: NOON)


def desk_at(url: str, venue: AlpacaVenue, halts: HaltFile) -> Desk:
    desk = Desk(url, "paper", ManualClock(NOON), flat_feed([name for name, *_ in BUYS]), alpaca(venue))
    desk.halts = halts
    desk.open()
    venue.deposit()
    return desk


@pytest.fixture
def venue() -> Iterator[AlpacaVenue]:
    with AlpacaVenue() as served:
        served.book("CSD", net_amount="0", date="2022-12-01")
        yield served


@pytest.fixture
def halts(tmp_path: Path) -> HaltFile:
    return HaltFile(tmp_path / NAME)


def test_the_file_says_what_was_written_and_what_cannot_be_read_halts(halts: HaltFile) -> None:
    assert halts.read() is None
    said = replace(HALT, cancel=True, cancelled=("oct-1",), reason='a "reason"\nof two lines')
    halts.write(said)
    assert halts.read() == said
    halts.remove(replace(said, reason="another"))
    assert halts.read() == said, "a halt that was written meanwhile must stay"
    for broken in (b"", b"{", b"[]", b'{"state": "active?"}', b"\xff\xfe"):
        halts.path.write_bytes(broken)
        unreadable = halts.read()
        assert unreadable is not None
        assert unreadable.state is TradingState.HALTED
        assert str(halts.path) in unreadable.reason
    halts.remove(unreadable)
    assert halts.read() is None


@contextmanager
def as_another_user() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it becomes another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o644, 0o600], ids=["of another release", "with a narrow umask"])
def test_who_halted_first_shuts_no_other_user_out(mode: int) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        halts = HaltFile.in_home(Path(folder))
        halts.write(HALT)
        assert stat.S_IMODE(halts.lock.stat().st_mode) == 0o666
        halts.lock.chmod(mode)
        halts.path.with_suffix(".draft").write_text("left by a crash")
        halts.path.with_suffix(".draft").chmod(0o600)
        second = replace(HALT, reason="still", at=HALT.at + timedelta(minutes=1))
        with as_another_user():
            assert halts.write(second).reason == "smoke; and still"
            if mode == 0o600:
                with pytest.raises(HaltFileBusyError, match="chmod 666"):
                    halts.remove(halts.write(second))
            assert halts.read() is not None
        halts.lock.chmod(0o644)
        with as_another_user():
            halts.remove(halts.write(second))
            assert halts.read() is None


def test_a_lock_that_is_never_let_go_holds_no_halt_up(halts: HaltFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.halt_file._LOCK_SECONDS", 0.1)
    with lock_file.held(halts.lock, 0):
        assert halts.write(HALT) == HALT
        with pytest.raises(HaltFileBusyError, match="halts still"):
            halts.remove(HALT)
    halts.remove(HALT)
    assert halts.read() is None


@given(st.text(st.characters()), st.text(st.characters()))
def test_whatever_was_said_can_be_stored(by: str, reason: str) -> None:
    with TemporaryDirectory() as folder:
        halts = HaltFile.in_home(Path(folder))
        said = halts.write(replace(HALT, by=by, reason=reason))
        assert halts.read() == said
        for text, given_text in ((said.by, by), (said.reason, reason)):
            assert "\0" not in text.encode("utf-8").decode()
            assert len(text) == len(given_text)


def test_a_second_halt_keeps_what_the_first_asked_for(halts: HaltFile) -> None:
    first = replace(HALT, cancel=True, cancelled=("oct-1",))
    halts.write(first)
    second = Halt(TradingState.REDUCING, "another", "second thought", HALT.at + timedelta(minutes=1))
    said = replace(first, reason="smoke; and second thought (by another)", at=second.at)
    assert halts.write(second) == halts.read() == said
    assert halts.write(second) == said, "what is said twice is said once"
    halts.note_cancelled(("oct-2", "oct-1"))
    assert halts.read() == replace(said, cancelled=("oct-1", "oct-2"))
    halts.path.unlink()
    halts.note_cancelled(("oct-3",))
    assert halts.read() is None, "what was taken over meanwhile must not halt again"


@given(st.lists(st.builds(
    Halt,
    st.sampled_from([TradingState.REDUCING, TradingState.HALTED]),
    st.sampled_from(["ann", "bob"]),
    st.text("ab;", max_size=3),
    st.datetimes(timezones=st.just(UTC)),
    st.booleans(),
    st.lists(st.sampled_from(["oct-1", "oct-2", "oct-3"]), unique=True).map(tuple),
), min_size=1, max_size=6))  # fmt: skip
def test_halts_that_follow_each_other_only_tighten(said: list[Halt]) -> None:
    with TemporaryDirectory() as folder:
        halts = HaltFile.in_home(Path(folder))
        for number, one in enumerate(said):
            after = halts.write(one)
            before = said[: number + 1]
            assert after == halts.read()
            assert (
                after.state
                == min(before, key=lambda one: [TradingState.HALTED, TradingState.REDUCING].index(one.state)).state
            )
            assert after.cancel == any(one.cancel for one in before)
            assert set(after.cancelled) == {name for one in before for name in one.cancelled}
            assert after.by == said[0].by
            assert after.at == one.at
            assert all(one.reason in after.reason for one in before)
            assert halts.write(after) == after, "what is said again is not said twice"


REASONS = st.lists(st.sampled_from(["smoke", "a break", "a", "a;", "; and", " and a", ""]), max_size=4)


@given(st.lists(REASONS.map("; and ".join), max_size=4))
def test_reasons_that_are_joined_lose_none_and_repeat_none(said: list[str]) -> None:
    together = reasons_together(*said)
    told = together.split("; and ") if together else []
    assert set(told) == {part for one in said for part in one.split("; and ") if part}
    assert len(told) == len(set(told))
    assert reasons_together(together, *said) == reasons_together(together) == together
    one_by_one = ""
    for reason in said:
        one_by_one = reasons_together(one_by_one, reason)
    assert one_by_one == together


def test_a_halt_that_was_taken_over_and_goes_on_in_the_file_is_told_once(
    database_url: str, venue: AlpacaVenue, halts: HaltFile
) -> None:
    desk = desk_at(database_url, venue, halts)
    with desk.engine() as engine:
        engine.store.set_trading_state("paper", TradingState.HALTED, "operator", "smoke", NOON)
        halts.write(HALT)
        halts.write(Halt(TradingState.HALTED, "another", "second thought", HALT.at + timedelta(minutes=1)))
        engine.take_over_halt("paper")
        assert engine.store.trading_status("paper").reason == "smoke; and second thought (by another)"


def test_a_file_between_two_orders_stops_the_rest_and_the_next_step_takes_it_over(
    database_url: str, venue: AlpacaVenue, halts: HaltFile
) -> None:
    desk = desk_at(database_url, venue, halts)
    batch = store_plan(database_url, "paper", BUYS)
    # The venue has the first order when the file appears.
    venue.on_post = lambda: halts.write(HALT)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        placed = engine.send(batch.batch_id, "run")
        assert len(venue.posts) == 1
        assert "smoke" in placed.stopped
        assert halts.read() == HALT
        assert engine.prepare(batch.batch_id, "run-2") is None
        assert engine.store.trading_status("paper").reason == "smoke"
    assert halts.read() is None
    assert len(venue.posts) == 1
    noted = rows(database_url, "select kind from audit.log where starts_with(kind, 'trading.') order by seq")
    assert noted == [("trading.opened",), ("trading.halt_file",), ("trading.halted",)]


def test_a_halt_never_loosens_and_a_restored_database_is_not_accepted_by_it(
    database_url: str, venue: AlpacaVenue, halts: HaltFile
) -> None:
    desk = desk_at(database_url, venue, halts)
    reducing = replace(HALT, state=TradingState.REDUCING)
    halts.write(reducing)
    with desk.engine() as engine:
        store = engine.store
        assert store.trading_status("paper").state is TradingState.REDUCING
        engine.take_over_halt("paper")
        assert store.trading_status("paper").state is TradingState.REDUCING
        store.set_trading_state("paper", TradingState.HALTED, "reconciliation", "a break", NOON)
        halts.write(replace(reducing, reason="later", at=NOON))
        assert store.trading_status("paper").state is TradingState.HALTED
        engine.take_over_halt("paper")
        status = store.trading_status("paper")
        assert (status.state, status.reason) == (TradingState.HALTED, "a break; and later"), (
            "a break is not settled by it"
        )
        store.connection.execute("update execution.trading_state set database_id = 'elsewhere'")
        halts.write(HALT)
        engine.take_over_halt("paper")
        assert "restored" in store.trading_status("paper").reason
    assert halts.read() is None


def test_an_order_that_cannot_be_cancelled_keeps_the_books_from_nothing(
    database_url: str, venue: AlpacaVenue, halts: HaltFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_at(database_url, venue, halts)
    batch = store_plan(database_url, "paper", BUYS)
    with desk.engine() as engine:
        engine.prepare(batch.batch_id, "run")
        engine.send(batch.batch_id, "run")
    first, *others = venue.orders
    venue.fill(first, D(4))
    halts.write(replace(HALT, cancel=True))
    cancel = AlpacaVenue.delete
    refusal = ("ok", 422, {"code": 42210000, "message": "order is not cancelable"})
    standing = venue.orders[first]["id"]
    monkeypatch.setattr(
        AlpacaVenue, "delete", lambda of, path: refusal if path.endswith(standing) else cancel(of, path)
    )
    with desk.engine() as engine:
        engine.poll("paper")
        engine.update_positions("paper")
        assert engine.reconcile("paper", EXECUTED) == ()
        assert engine.store.trading_status("paper").state is TradingState.HALTED
    assert rows(database_url, "select client_order_id, quantity from execution.fills") == [(first, D(4))]
    assert [venue.orders[one]["status"] for one in others] == ["canceled", "canceled"]
    assert halts.read() == replace(HALT, cancel=True), "what is not done is asked for again"
    told = rows(database_url, "select payload::jsonb ->> 'reason' from audit.log where kind = 'alert.not_cancelled'")
    assert told
    assert all(first in reason for (reason,) in told)
    monkeypatch.setattr(AlpacaVenue, "delete", cancel)
    with desk.engine() as engine:
        engine.poll("paper")
    assert venue.orders[first]["status"] == "canceled"
    assert halts.read() is None


def test_an_order_that_cannot_be_cancelled_keeps_none_of_the_others(venue: AlpacaVenue) -> None:
    class Stubborn(AlpacaBroker):
        def cancel(self, client_order_id: str) -> None:
            if client_order_id == "oct-b":
                raise BrokerUnavailableError("alpaca: not now")

        def open_orders(self) -> tuple[OpenOrder, ...]:
            return tuple(OpenOrder(name, "AAA", Side.BUY, D(1)) for name in ("oct-a", "oct-b", "oct-c", "by-hand"))

    base = alpaca(venue)
    broker = Stubborn(base.key, base.secret, "paper", SESSIONS, access=base.access)
    done = cancel_at_broker(broker)
    assert done.asked == ("oct-a", "oct-c")
    assert done.failed == {"oct-b": "alpaca: not now"}
    venue.unauthorised = True
    assert set(cancel_at_broker(base).failed) == {"alpaca"}


def test_with_the_database_killed_the_venue_is_emptied_and_later_nothing_is_sent(
    house: EmbeddedPostgres, venue: AlpacaVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    halts = HaltFile(house.home / NAME)
    desk = desk_at(house.url(), venue, halts)
    first = store_plan(house.url(), "paper", BUYS[:2])
    with desk.engine() as engine:
        engine.prepare(first.batch_id, "run")
        assert len(engine.send(first.batch_id, "run").sent) == 2
    venue.orders["by-hand"] = {**next(iter(venue.orders.values())), "client_order_id": "by-hand", "id": "hand"}
    later = {"name": "later", "created_at": NOON}
    second = store_plan(house.url(), "paper", BUYS[2:], **later)
    house.kill()

    monkeypatch.setattr(commands, "trading_of", lambda settings: Trading(settings, desk.clock, desk.broker))
    told = CliRunner().invoke(commands.halt, ["--cancel", "--reason", "the desk is on fire"])
    assert told.exit_code == 0, told.output
    assert "2 open orders cancelled at the broker" in told.output
    assert "database is down" in told.output
    assert not house.is_running()
    ours = [one["status"] for name, one in venue.orders.items() if name != "by-hand"]
    assert ours == ["canceled", "canceled"]
    assert venue.orders["by-hand"]["status"] == "accepted", "what a person entered is the person's"

    house.start()
    with desk.engine() as engine, pytest.raises(TradingHaltedError, match="on fire"):
        engine.execute_batch(second.batch_id, "run-2")
    assert len(venue.posts) == 2
    assert halts.read() is None
    desk.clock.at = first.expires_at
    with desk.engine() as engine:
        engine.collect_fills(first.batch_id)
    assert set(desk.states(first).values()) == {"cancelled"}
    kinds = [kind for (kind,) in rows(house.url(), "select kind from audit.log order by seq")]
    assert kinds.index("trading.halt_file") < kinds.index("order.pending_cancel") < kinds.index("batch.refused")
    assert verify(house.url(), None).ok

    assert CliRunner().invoke(commands.resume).exit_code == 0
    with OrderStore.opened(house.url(), halts=halts) as store:
        assert store.trading_status("paper").state is TradingState.ACTIVE
