"""`octopus watchdog`: one process beside Dagster that tells people what Dagster cannot tell of itself.

Belongs here: looking again and again, and halting where its user said so. Does not: what is amiss (octopus/alerts),
finding and telling it (resources/alerts). Neither Dagster nor a database nor a broker is needed: it starts and goes on
without, and halts by the file.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import psycopg

from octopus.alerts.alert import Alert, Kind
from octopus.alerts.watch import halts_from
from octopus.core.errors import OctopusError
from octopus.core.orders import TradingState
from octopus_pipelines.cli.pulled import say, say_written
from resources.alerts.house import AlertHouse
from resources.halt_file import Halt, HaltFile, in_one_line
from resources.kill_switch import pull
from resources.settings import load_settings
from resources.trading import Trading, trading_of
from resources.trading_state import halt_file

DIARY = "watchdog.json"
"""In the data folder: when it last looked, and on which alerts it has halted."""
_SEEN = (
    Kind.DATABASE_DOWN, Kind.DEAD_DAEMON, Kind.MISSED_RUN, Kind.OPEN_ORDER, Kind.STALE_DATA, Kind.UNSENT_ORDERS,
    Kind.WATCHDOG_BLIND,
)  # fmt: skip


@click.command()
@click.option("--interval", type=click.IntRange(1), default=60, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Look once; exit status 1 if something is amiss.")
@click.option(
    "--halt-on", type=click.Choice([kind.value for kind in _SEEN]), multiple=True,
    help="Halt trading and cancel open orders at the broker when this is found; may be given several times.",
)  # fmt: skip
@click.option("--no-daemon", is_flag=True, help="Dagster's daemon is not meant to run: its silence is no alert.")
def watchdog(interval: int, once: bool, halt_on: tuple[str, ...], no_daemon: bool) -> None:
    """Watch runs, data, orders, Dagster's daemon and the database, and tell people; runs until Ctrl-C."""
    current = load_settings(os.environ)
    house = AlertHouse.of(current, os.environ, watches_daemon=not no_daemon)
    dog = Watchdog(house, partial(trading_of, house.bounded), frozenset(Kind(kind) for kind in halt_on))
    if once:
        raise SystemExit(1 if _looked(dog) else 0)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    click.echo(f"watching every {interval} s; {len(house.channels)} channels; Ctrl-C ends it")
    while not ended.is_set():
        _looked(dog)
        ended.wait(interval)


def _looked(dog: Watchdog) -> bool:
    """One look; whether something is amiss, the look itself included."""
    try:
        return bool(dog.look())
    except Exception as error:  # noqa: BLE001  # whatever is broken, the next look may tell of it
        _print(f"this look failed: {in_one_line(error)}", fg="red", err=True)
        return True


def _print(sentence: str, *, fg: str, err: bool = False) -> None:
    """Say it on the terminal or in the log; a disk that takes no more words keeps nobody from halting."""
    with suppress(OSError):
        click.secho(sentence, fg=fg, err=err)


@dataclass
class Watchdog:
    """What is looked at, and what is halted on.

    Attributes:
        open_trading: opens the broker, when it is to be asked; what it raises is told.
        halt_on: kinds that halt trading, each alert once: who resumed after it is not overruled.
    """

    house: AlertHouse
    open_trading: Callable[[], Trading]
    halt_on: Collection[Kind] = ()
    _said: set[str] = field(default_factory=set, init=False)
    _halted_on: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Go on where another process ended."""
        self._halted_on = self._acted()

    def look(self) -> list[Alert]:
        """One look; returns what is amiss now. It halts first: neither records nor receivers can keep it from that."""
        found = self.house.find()
        now = datetime.now(UTC)
        patience = self.house.settings.alerts.patience
        causes = [one for one in found if one.kind in self.halt_on and now >= halts_from(one, patience)]
        has_halted = True
        try:
            has_halted = self._halt(causes)
        except Exception as error:  # noqa: BLE001  # people are told all the same
            _print(f"the halt failed: {in_one_line(error)}", fg="red", err=True)
        for alert in found:
            if alert.key not in self._said:
                _print(f"{alert.at:%H:%M:%S} {alert.headline}: {alert.happened}", fg="red")
        self._said = {alert.key for alert in found}
        told = self.house.deliver(found)
        for channel, reason in told.failing.items():
            _print(f"{channel} takes no alert: {reason}", fg="yellow", err=True)
        with suppress(OSError):  # what it has halted on it knows without the diary, too
            self._write_diary()
        if not has_halted and not self.house.outage.since and self._halts.read() is not None:
            self._take_over()
        return found

    def _take_over(self) -> None:
        """Note in the database what waits in the halt file, and cancel what that asks for; who fails tries again."""
        try:
            trading = self.open_trading()
            with trading.engine() as engine:
                engine.take_over_halt(trading.account)
        except (OctopusError, psycopg.Error) as error:
            told = f"{self._halts.path} halts, and is not taken over: {in_one_line(error)}"
            _print(told, fg="red", err=True)

    def _halt(self, causes: list[Alert]) -> bool:
        """Halt for the alerts that it has not halted for yet; whether there were any."""
        halts = self._halts
        fresh = [alert for alert in causes if alert.key not in self._halted_on]
        for alert in fresh:
            # An outage began a while before it is halted for.
            now, reason = datetime.now(UTC), f"{alert.kind.heading}: {alert.happened}"
            said = Halt(TradingState.HALTED, "watchdog", reason, now, cancel=True)
            pulled = pull(halts, said, self.open_trading, lambda written: say_written(written, halts.path))
            with suppress(OSError):
                say(pulled, halts.path, said.state)
            # Where it stands nowhere, the next look tries again.
            if not pulled.unwritten or pulled.status is not None:
                self._halted_on.append(alert.key)
        return bool(fresh)

    @property
    def _halts(self) -> HaltFile:
        return halt_file(self.house.settings)

    @property
    def _diary(self) -> Path:
        return self.house.settings.home / DIARY

    def _acted(self) -> list[str]:
        try:
            return [str(key) for key in json.loads(self._diary.read_text())["halted_on"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _write_diary(self) -> None:
        content = {"looked_at": datetime.now(UTC).isoformat(), "halted_on": self._halted_on[-100:]}
        self._diary.parent.mkdir(parents=True, exist_ok=True)
        draft = self._diary.with_suffix(".draft")
        draft.write_text(json.dumps(content))
        draft.replace(self._diary)
