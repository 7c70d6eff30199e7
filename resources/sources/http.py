"""HTTP sessions for vendors' clients that let us hand them one.

Belongs here: where requests go, how long they may take, how often they are sent, and what they brought. Does not: any
vendor's answers, the policy of sending again (patience.py).
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from resources.sources.base import rebased
from resources.sources.patience import Budget, Patience, Persistence

PASSING = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
"""What requests raises where another attempt may succeed, a body cut short included."""


class PatientAdapter(HTTPAdapter):
    """Sends each request, redirected ones too, as often as ``persistence`` says, and reads its whole body."""

    def __init__(self, persistence: Persistence) -> None:
        super().__init__()
        self._persistence = persistence

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        def attempt() -> requests.Response:
            response = super(PatientAdapter, self).send(request, *args, **kwargs)
            # A body that is cut short shows only when it is read, and the client would read it too late for us.
            _ = response.content
            return response

        return self._persistence.send(request.method or "GET", attempt, PASSING)


class VendorSession(requests.Session):
    """A session that sends every request to ``base_url`` (None: as addressed), with a timeout, and hashes the answers.

    Args:
        timeout_s: longest wait for a connection and for each read, seconds; a client's longer wish is shortened.
        persistence: how often a request is sent; None: once, and within no budget.
    """

    def __init__(
        self, base_url: str | None = None, timeout_s: float = 20.0, persistence: Persistence | None = None
    ) -> None:
        super().__init__()
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._digest = hashlib.sha256()
        if persistence is not None:
            for scheme in ("https://", "http://"):
                self.mount(scheme, PatientAdapter(persistence))

    def request(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = self._timeout_s
        address = url.decode() if isinstance(url, bytes) else url
        response = super().request(method, rebased(address, self._base_url), *args, **kwargs)
        self._digest.update(response.content)
        return response

    @property
    def payload_hash(self) -> str:
        """SHA-256 (first 32 hex digits) of all bodies that were handed to the client so far."""
        return self._digest.hexdigest()[:32]


@dataclass(frozen=True)
class Access:
    """How a vendor is reached.

    Attributes:
        base_url: sends every request there instead; None: the vendor itself.
        timeout_s: longest wait for a connection and for each read, seconds.
        patience: how often a request is sent, and how long we wait in between.
        budget: how many requests the vendor may be sent; None: as many as we like.
        sleep, draw, now: waiting, random numbers in [0, 1) and the time.
    """

    base_url: str | None = None
    timeout_s: float = 20.0
    patience: Patience = field(default_factory=Patience)
    budget: Budget | None = None
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def persistence(self, source: str) -> Persistence:
        """The policy of this access, for a library of which we only hold the requests; errors begin with ``source``."""
        return Persistence(source, self.patience, self.budget, self.sleep, self.draw, self.now)

    def session(self, source: str | None = None) -> VendorSession:
        """A new session with this access; errors begin with ``source``, or with where the requests go."""
        name = source or (urlsplit(self.base_url).netloc if self.base_url else "") or "the source"
        return VendorSession(self.base_url, self.timeout_s, self.persistence(name))
