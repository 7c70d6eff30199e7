"""A paper broker in a process of its own, and the client that speaks to it: the venue outlives every worker.

Served over a unix socket; each request is (account, method, arguments). Some submissions end badly, by a dice that the
account's name seeds: the order is accepted and the connection drops, or the connection drops before the order is read.

Run as a script: database URL, folder (of the socket and the clocks).
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from octopus.core.orders import AccountSnapshot, Fill, FillRevision
from octopus.execution.book import Book
from resources.brokers.base import (
    BrokerAccount,
    BrokerOrder,
    BrokerUnavailableError,
    Guarantee,
    OrderRequest,
    UncertainOutcomeError,
)

DROP_BEFORE, DROP_AFTER = 0.10, 0.25


@dataclass(frozen=True)
class RemoteBroker:
    """The broker protocol over the socket; it never asks twice."""

    socket: Path
    account_name: str
    guarantee: Guarantee
    name: str = "remote"
    keeps: timedelta | None = None

    def _call(self, method: str, *arguments: object) -> Any:
        try:
            connection = Client(str(self.socket), "AF_UNIX")
        except (ConnectionError, FileNotFoundError) as error:
            raise BrokerUnavailableError(f"remote: {error}") from None
        with connection:
            try:
                connection.send((self.account_name, method, arguments))
                answer = connection.recv()
            except (EOFError, ConnectionError) as error:
                raise UncertainOutcomeError(f"remote: the connection dropped ({type(error).__name__})") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def account(self) -> BrokerAccount:
        return self._call("account")  # type: ignore[no-any-return]

    def snapshot(self, quoted: Collection[str] = ()) -> AccountSnapshot:
        return self._call("snapshot", tuple(quoted))  # type: ignore[no-any-return]

    def submit(self, request: OrderRequest) -> BrokerOrder:
        return self._call("submit", request)  # type: ignore[no-any-return]

    def replace(self, replaced: str, request: OrderRequest) -> BrokerOrder:
        return self._call("replace", replaced, request)  # type: ignore[no-any-return]

    def order(self, client_order_id: str, broker_order_id: str | None = None) -> BrokerOrder | None:
        return self._call("order", client_order_id)  # type: ignore[no-any-return]

    def cancel(self, client_order_id: str) -> None:
        self._call("cancel", client_order_id)

    def fills(self, since: datetime | None = None) -> tuple[Fill, ...]:
        return self._call("fills", since)  # type: ignore[no-any-return]

    def statement(self, since: datetime | None = None) -> Book:
        return self._call("statement", since)  # type: ignore[no-any-return]

    def revisions(self, since: datetime | None = None) -> tuple[FillRevision, ...]:
        return self._call("revisions", since)  # type: ignore[no-any-return]

    def arrived(self) -> Counter[str]:
        """How often each client order id was read by the venue."""
        return self._call("arrived")  # type: ignore[no-any-return]


@dataclass
class Venue:
    """The accounts of the server."""

    url: str
    folder: Path
    brokers: dict[str, Any] = field(default_factory=dict)
    dice: dict[str, random.Random] = field(default_factory=dict)
    read: dict[str, Counter[str]] = field(default_factory=dict)

    def answer(self, account: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """The broker's answer; None to drop the connection."""
        from execution_support import FileClock, auction_feed, paper

        if account not in self.brokers:
            clock = FileClock(self.folder / f"{account}.clock")
            self.brokers[account] = paper(
                self.url, account, clock, auction_feed(), allow_short=True, deposit=Decimal(10**6)
            )
            self.dice[account], self.read[account] = random.Random(account), Counter()
        if method == "arrived":
            return self.read[account]
        is_send = method in ("submit", "replace")
        throw = self.dice[account].random() if is_send else 1.0
        if throw < DROP_BEFORE:
            return _DROP
        if is_send:
            self.read[account][arguments[-1].client_order_id] += 1
        try:
            result = getattr(self.brokers[account], method)(*arguments)
        except Exception as error:  # noqa: BLE001  # carried to the caller
            result = error
        return _DROP if throw < DROP_BEFORE + DROP_AFTER else result


_DROP = object()


def serve(url: str, folder: Path) -> None:
    """Answer until told to stop."""
    venue = Venue(url, folder)
    with Listener(str(folder / "socket"), "AF_UNIX", backlog=16) as listener:
        print("ready", flush=True)
        while True:
            with listener.accept() as connection:
                try:
                    account, method, arguments = connection.recv()
                except (EOFError, ConnectionError):
                    continue
                if method == "stop":
                    return
                answer = venue.answer(account, method, arguments)
                if answer is not _DROP:
                    # A worker that was killed no longer listens.
                    try:
                        connection.send(answer)
                    except (BrokenPipeError, ConnectionError):
                        continue


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
