"""Answers that are spoiled on their way from a sound venue, and what a call must come to all the same.

Belongs here: how answers are spoiled (fields dropped, of other types and sizes, another status, bytes cut off or
changed), and what holds whatever the adapter. Does not: the venues, and what each adapter is asked
(test_spoiled_answers.py).
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import quoteattr

from octopus.core.orders import AccountSnapshot, Fill
from octopus.execution.book import Book
from octopus.execution.states import OrderState
from resources.brokers.base import (
    BrokerError,
    BrokerOrder,
    BrokerUnavailableError,
    OrderRejectedError,
    UncertainOutcomeError,
)

VALUES = (
    None, True, False, -2, 0, 2, 0.5, -1e308, float("nan"), float("inf"), "", " ", "0", "-10", "10.5", "1e999",
    "1e-400", "NaN", "-Infinity", "1e15", "9" * 30, 10**30, -(10**400), [], {}, [[]], {"a": 1}, "sell", "buy", "short",
    "hold", "new", "filled", "teleported", "2022-02-31", "0001-01-01", "9999-12-31T23:59:59-12:00", "2022-12-28",
    "1066-10-14", "DIV", "SSP", "CSD", "FILL", "BRK.B", "x" * 5000, "\x00", "\ud800",
)  # fmt: skip
STATUS = (200, 204, 301, 400, 401, 403, 404, 422, 500, 502, 503, 504, 599)
PAGES = (b"<html>Gateway</html>", b"", b"[]", b'{"error": 1}', b'{"message": {}}', b'{"mess')
NESTED = (b"[" * 100_000, b'{"id":' * 50_000, b"9" * 5000, b"\xff\xfe", b"nan")
WAYS = ("fields", "fields", "fields", "fields", "whole", "cut", "bytes", "nested", "status")
Form = Callable[[random.Random, bytes], bytes]
"""Spoils fields of an answer in the venue's form."""


def in_json(chance: random.Random, content: bytes) -> bytes:
    return json.dumps(_with_other_fields(chance, json.loads(content))).encode()


def _with_other_fields(chance: random.Random, told: Any) -> Any:
    told = copy.deepcopy(told)
    for _ in range(chance.randint(1, 2)):
        holder = chance.choice(told) if isinstance(told, list) and told else told
        # One time in two a level deeper, where there is one.
        inner = [one for one in holder.values() if one and isinstance(one, dict | list)] if _is_full(holder) else []
        if inner and chance.random() < 0.5:
            deeper = chance.choice(inner)
            holder = chance.choice(deeper) if isinstance(deeper, list) else deeper
        if not _is_full(holder):
            return chance.choice(VALUES)
        name = chance.choice(sorted(holder))
        if chance.random() < 0.3:
            del holder[name]
        else:
            holder[name] = chance.choice(VALUES)
    return told


def _is_full(holder: Any) -> bool:
    return isinstance(holder, dict) and bool(holder)


def in_xml(chance: random.Random, content: bytes) -> bytes:
    """One attribute, or an element's text, of the document is another one or gone."""
    text = content.decode()
    spots = list(re.finditer(r' \w+="[^"]*"|(?<=>)[^<>]+(?=<)', text))
    spot, value = chance.choice(spots), str(chance.choice(VALUES)).replace("\x00", "").replace("\ud800", "?")
    told = spot.group()
    new = f"{told.split('=')[0]}={quoteattr(value)}" if told.startswith(" ") else quoteattr(value)[1:-1]
    new = "" if chance.random() < 0.3 else new
    return (text[: spot.start()] + new + text[spot.end() :]).encode()


def in_frame(chance: random.Random, content: bytes) -> bytes:
    """One field of a frame of TWS's is another one or gone."""
    fields = content.decode().split("\0")[:-1]
    place = chance.randrange(len(fields))
    value = str(chance.choice(VALUES)).replace("\x00", "").replace("\ud800", "?")
    fields[place : place + 1] = [] if chance.random() < 0.3 else [value]
    return "".join(f"{one}\0" for one in fields).encode()


_NAMED = b'"client_order_id": "o-0"'
"""The order that stands, in a list. Spoiled, its key or its value, it is nobody's that we know: the engine sends it
again under its idempotent key, and the venue answers with the one that stands."""


@dataclass
class Spoiler:
    """Spoils one of the answers to come, and remembers what it said instead.

    Attributes:
        at: which of them. chance: how; the answers are made in the server's threads, where hypothesis draws nothing.
        form: the venue's. absent: the venue itself said that something is not there (asked for another account, say).
        lists_it_no_more: what was said no longer names the order that stands.
    """

    at: int
    chance: random.Random
    form: Form = in_json
    seen: int = 0
    said: list[tuple[int, bytes]] = field(default_factory=list)
    absent: bool = False
    lists_it_no_more: bool = False

    def __call__(self, status: int, content: bytes) -> tuple[int, bytes]:
        self.seen += 1
        if self.seen != self.at + 1:
            self.absent |= status == 404
            return status, content
        sound, chance, how = content, self.chance, self.chance.choice(WAYS)
        if how == "status":
            status, content = chance.choice(STATUS), chance.choice((*PAGES, content[:9]))
        elif how == "cut":
            content = content[: chance.randrange(max(1, len(content)))]
        elif how == "bytes" and content:
            place = chance.randrange(len(content))
            content = content[:place] + chance.randbytes(chance.randint(1, 4)) + content[place + 1 :]
        elif how == "nested":
            content = chance.choice(NESTED)
        elif how == "whole":
            content = json.dumps(chance.choice(VALUES)).encode()
        elif content:
            content = self.form(chance, content)
        self.lists_it_no_more = _NAMED in sound and _NAMED not in content
        self.said.append((status, content))
        return status, content


@dataclass
class Spoilable:
    """An adapter before its venue.

    Attributes:
        venue: served; whatever it says passes through its ``garbled``.
        calls: what is asked, each time of a broker of its own; ``submit`` sends the order ``new``, ``order`` asks for
            one that stands and that the venue has.
        stands: whether ``new`` is at the venue. forget: let the venue forget it.
        refuses: words with which the venue would say itself that it does not take an order.
        secret: what must be in no message.
        searched: an order is found in a list alone, by the id that it bears there.
    """

    venue: Any
    calls: dict[str, Callable[[], Any]]
    stands: Callable[[], bool] = lambda: False
    forget: Callable[[], None] = lambda: None
    form: Form = in_json
    refuses: tuple[bytes, ...] = (b'"rejected"',)
    secret: str = "SECRET"
    searched: bool = False

    def answers(self, name: str) -> int:
        """How many answers the call takes, unspoiled; asked again where a busy machine was too slow for the adapter."""
        for _ in range(20):
            counting = Spoiler(-1, random.Random(0))
            if require_an_outcome(self, name, counting).endswith("answered"):
                return counting.seen
        raise AssertionError(f"{name} is not answered, though nothing is spoiled")


def require_an_outcome(spoilable: Spoilable, name: str, spoiler: Spoiler) -> str:
    """Make the call; returns how it ended: with a value that makes sense or an error of the order path."""
    venue = spoilable.venue
    spoilable.forget()
    sound = venue.garbled
    venue.garbled = lambda status, content: spoiler(*sound(status, content))
    try:
        ended: Any = spoilable.calls[name]()
    except BrokerError as error:
        ended = error
    finally:
        del venue.garbled
    if isinstance(ended, BrokerError):
        assert "\n" not in str(ended)
        assert spoilable.secret not in str(ended)
    elif not (name == "order" and ended is None and is_gone(spoilable, spoiler)):
        require_sense(name, ended)
    if name == "submit":
        require_truth(spoilable, ended, spoiler)
    return f"{name}: {type(ended).__name__ if isinstance(ended, BrokerError) else 'answered'}"


def is_gone(spoilable: Spoilable, spoiler: Spoiler) -> bool:
    """Whether nothing that was told has the order that stands."""
    return spoiler.absent or (spoilable.searched and spoiler.lists_it_no_more)


def require_truth(spoilable: Spoilable, ended: BrokerOrder | BrokerError, spoiler: Spoiler) -> None:
    """What the venue took is never taken for refused or for not sent, and nothing else for taken."""
    told_so = any(word in content for _, content in spoiler.said for word in spoilable.refuses)
    if not spoilable.stands():
        assert isinstance(ended, BrokerError), (ended, spoiler.said)
    elif not told_so:
        assert not isinstance(ended, OrderRejectedError | BrokerUnavailableError), (ended, spoiler.said)
        assert isinstance(ended, UncertainOutcomeError) or ended.state is not OrderState.REJECTED, spoiler.said  # type: ignore[union-attr]


def require_sense(name: str, value: Any) -> None:
    """Whatever was told, numbers are numbers, and an order that stands is not gone."""
    if name == "submit":
        assert (value.client_order_id, value.side.value, value.quantity) == ("new", "buy", 10)
    elif name == "order":
        # Gone only where the venue itself says so, which no spoiled answer does.
        assert value is not None
        assert value.client_order_id == "o-0"
        assert value.quantity > 0
        assert value.filled_quantity >= 0
    elif isinstance(value, AccountSnapshot | Book):
        assert all(abs(number) < 10**16 for number in (value.cash, *value.positions.values()))
        require_fills(value.fills if isinstance(value, Book) else ())
    elif name == "fills":
        require_fills(value)


def require_fills(fills: tuple[Fill, ...]) -> None:
    assert all(fill.quantity > 0 and fill.price > 0 for fill in fills)
    assert all(abs(fill.quantity * fill.price) < 10**16 for fill in fills)
