"""Patience with vendors: what is worth asking again, after which wait, and when to give up.

Belongs here: the policy, the same for every library that sends requests. Does not: sending them (http.py,
patient_transport.py, yahoo.py), remembering what was spent (resources/warehouse/budgets.py).

A failure that may pass (a broken connection, a time-out, a body cut short, HTTP 429 and 5xx) is asked again after an
exponential backoff with full jitter, so that many clients do not come back at once (M. Brooker, Exponential Backoff
And Jitter, AWS Architecture Blog, 2015). A vendor that names a wait gets at least that wait, or no further request.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar

from octopus.core.errors import ConfigError, OctopusError, SourceUnavailableError

DAY_S = 86_400
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that only read: nothing is done twice when they are sent twice."""

_NEVER_MENDED = (501, 505)
_EPOCH_FROM_S = 1_000_000_000
"""A reset above this is an instant (X, Alpaca, StockTwits), below it seconds from now (Reddit)."""
_LONGEST_BELIEVED_S = 366.0 * DAY_S
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?", re.ASCII)
_RESET_HEADERS = ("x-rate-limit-reset", "x-ratelimit-reset")
_SHORTEST_PAUSE_S = 0.05
_WINDOW_NAMES = {1: "a second", 60: "a minute", 3600: "an hour", DAY_S: "a day"}


class TryLaterError(SourceUnavailableError):
    """The vendor asks for a longer wait than we allow; ``retry_at`` says when it is worth trying again (UTC)."""

    def __init__(self, message: str, retry_at: datetime) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class BudgetExhaustedError(TryLaterError):
    """What we may ask of the source is spent; ``retry_at`` says when its window resets (UTC)."""


@dataclass(frozen=True)
class Patience:
    """How often a request is sent, and how long we wait in between.

    Attributes:
        attempts: requests at most, the first included.
        base_s: longest first backoff, seconds; it doubles with each attempt.
        longest_s: longest single wait, seconds.
        total_s: all waits of one request together, seconds; 0: it is never sent again.
    """

    attempts: int = 4
    base_s: float = 0.5
    longest_s: float = 60.0
    total_s: float = 90.0

    def __post_init__(self) -> None:
        for name, least in (("attempts", 1), ("base_s", 0), ("longest_s", 0), ("total_s", 0)):
            if not getattr(self, name) >= least:
                raise ConfigError(
                    where="patience", field=name, value=getattr(self, name), remedy=f"set it to {least} or more"
                )


@dataclass(frozen=True)
class Refusal:
    """A request that the budget does not cover now.

    Attributes:
        requests, seconds: the limit that is reached: so many requests in a window of so many seconds.
        resets_at: when its next window begins, UTC.
    """

    requests: int
    seconds: int
    resets_at: datetime


class Budget(Protocol):
    """How many requests a source may still be sent; `resources.warehouse.budgets.SourceBudget` keeps one."""

    def spend(self) -> Refusal | None:
        """Take one request out of the budget; a `Refusal`, and nothing taken, where it is spent."""
        ...


class Answer(Protocol):
    """What every client library's response has."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, Any]: ...


A = TypeVar("A", bound=Answer)


def may_pass(status: int) -> bool:
    """An answer that another attempt may better: too many requests, or a failure on the vendor's side."""
    return status == 429 or (status >= 500 and status not in _NEVER_MENDED)


def asked_wait(status: int, headers: Mapping[str, Any], now: datetime) -> float | None:
    """Seconds that the vendor asks us to wait; None where it asks for none that can be read.

    ``Retry-After`` in seconds or as an HTTP date (RFC 9110, 10.2.3); else, after 429, the reset of the rate limit as
    X, Alpaca, StockTwits and Reddit send it. Other answers carry that header too, and mean nothing by it.
    """
    told = {name.lower(): str(value).strip() for name, value in headers.items()}
    wait = _retry_after(told.get("retry-after", ""), now)
    if wait is None and status == 429:
        wait = next((_reset(told[name], now) for name in _RESET_HEADERS if name in told), None)
    return None if wait is None else min(max(wait, 0.0), _LONGEST_BELIEVED_S)


def _retry_after(text: str, now: datetime) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        instant = parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date in the old form with "-0000" comes without a zone: HTTP dates are always GMT.
    return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - now).total_seconds()


def _reset(text: str, now: datetime) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value - now.timestamp() if value > _EPOCH_FROM_S else value


def backoff(attempt: int, patience: Patience, draw: float) -> float:
    """Wait after the ``attempt``-th failure (from 1), seconds: ``draw`` in [0, 1) of the doubled ``base_s``."""
    return draw * min(patience.longest_s, patience.base_s * 2.0 ** min(attempt - 1, 60))


def next_wait(patience: Patience, attempt: int, waited_s: float, asked_s: float | None, draw: float) -> float | None:
    """Seconds to wait before another attempt; None to give up.

    Args:
        attempt: how many were made.
        waited_s: how long we waited for this request so far.
        asked_s: the wait that the vendor asks for, if any.
        draw: a random number in [0, 1).
    """
    left = patience.total_s - waited_s
    if attempt >= patience.attempts or left <= 0 or exceeds(patience, waited_s, asked_s):
        return None
    return max(asked_s or 0.0, min(backoff(attempt, patience, draw), left))


def exceeds(patience: Patience, waited_s: float, asked_s: float | None) -> bool:
    """Whether the wait asked for is longer than what is left of our patience."""
    return asked_s is not None and asked_s > min(patience.longest_s, patience.total_s - waited_s)


@dataclass(frozen=True)
class Persistence:
    """Sends the requests to one source, as often as patience and budget allow.

    Attributes:
        source: whose name the errors begin with.
        sleep, draw, now: waiting, random numbers in [0, 1) and the time.
    """

    source: str
    patience: Patience = field(default_factory=Patience)
    budget: Budget | None = None
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def send(self, method: str, attempt: Callable[[], A], passing: tuple[type[Exception], ...]) -> A:
        """What ``attempt`` brings in the end: the last answer as it is, so that the vendor's client can judge it.

        Args:
            attempt: sends the request once and reads the whole answer.
            passing: what it raises where another attempt may succeed; the last of them is raised again.

        Raises:
            TryLaterError: the vendor asks for a longer wait than patience allows.
            BudgetExhaustedError: a limit is reached and its window is long, or resets too late to wait for it.
        """
        waited = 0.0
        tries = 0
        while True:
            waited += self._afford(waited)
            tries += 1
            answer: A | None = None
            try:
                answer = attempt()
            except passing:
                wait = self._pause(method, tries, waited, None)
                if wait is None:
                    raise
            else:
                wait = self._pause(method, tries, waited, answer)
                if wait is None:
                    return answer
            self.sleep(wait)
            waited += wait

    def _pause(self, method: str, tries: int, waited: float, answer: Answer | None) -> float | None:
        if method.upper() not in SAFE_METHODS or (answer is not None and not may_pass(answer.status_code)):
            return None
        asked = None
        if answer is not None:
            now = self.now()
            asked = asked_wait(answer.status_code, answer.headers, now)
            if asked is not None and exceeds(self.patience, waited, asked):
                until = now + timedelta(seconds=asked)
                raise TryLaterError(
                    f"{self.source}: HTTP {answer.status_code}: it asks for a wait of {asked:.0f} s, more than our "
                    f"patience allows; try again after {_at(until)}",
                    until,
                )
        return next_wait(self.patience, tries, waited, asked, self.draw())

    def _afford(self, waited: float) -> float:
        """Spend one request; how long we waited until the budget allowed it, seconds."""
        paused = 0.0
        while self.budget is not None and (refusal := self.budget.spend()) is not None:
            wait = max((refusal.resets_at - self.now()).total_seconds(), _SHORTEST_PAUSE_S)
            if refusal.seconds >= DAY_S or exceeds(self.patience, waited + paused, wait):
                raise BudgetExhaustedError(
                    f"{self.source}: our budget of {refusal.requests} requests in {window_name(refusal.seconds)} is "
                    f"spent until {_at(refusal.resets_at)}; try again then, or raise the limit of {self.source} in "
                    "the configuration if your plan allows more",
                    refusal.resets_at,
                )
            self.sleep(wait)
            paused += wait
        return paused


def window_name(seconds: int) -> str:
    """The window in words."""
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds not in _WINDOW_NAMES and seconds % unit == 0:
            return f"{seconds // unit} {name}"
    return _WINDOW_NAMES.get(seconds, f"{seconds} seconds")


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def own_error(error: BaseException) -> OctopusError | None:
    """The error of ours that a client library wrapped in its own (its cause); None where it wraps none."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, OctopusError):
        # prawcore keeps it in an attribute of its own.
        inner = getattr(inner, "original_exception", None) or inner.__cause__
    return inner
