"""What the simulated venues share: a real socket with its faults, and what becomes of orders that wait.

A venue's faults at a send, which it draws itself: ``accept_504`` and ``html`` (the order stands, and the answer is a
gateway's page), ``accept_drop`` (it stands, and the connection drops without an answer), ``accept_slow`` (the answer
comes after our patience), ``drop`` and ``hang`` (the request never arrives: the connection drops at once, or nothing
comes until our patience ends). Others are answers of the venue's own.
"""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

ENDS = ("fill", "fill", "fill in two", "expire after a part", "reject", "expire")
"""What an auction may do to an order."""
NEVER = ("drop", "hang")
DROPS = (*NEVER, "accept_drop")
PAGES = {"accept_504": 504, "html": 200}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, list[str]]
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What the venue says; ``body`` is sent as JSON, None as nothing."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = "ok"


class ServedVenue(ABC):
    """A venue that is served while it is entered; `answer` runs in the server's threads."""

    slow_s: float = 1.0
    now: Callable[[], datetime] | None = None
    """Its clock, which its answers tell as their Date; None: they tell none."""
    cut: int = 0
    """How many questions are to be answered by the end of the connection."""

    def garbled(self, status: int, content: bytes) -> tuple[int, bytes]:
        """What leaves in place of an answer."""
        return status, content

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """What the venue does with ``request``, and says."""

    def __enter__(self) -> Any:
        venue = self

        class Handler(_Handler):
            house = venue

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class Auctioned(Protocol):
    """A venue whose waiting orders something becomes of."""

    def waiting(self) -> list[tuple[str, str, Decimal]]:
        """Name, symbol and what is left of each order that stands."""
        ...

    def fill(self, client_order_id: str, quantity: Decimal | None = None) -> None: ...

    def end(self, client_order_id: str, status: str) -> None:
        """Let it end as ``rejected`` or ``expired``."""
        ...


def auction_of(fates: dict[str, str], is_over: Callable[[], bool]) -> Callable[[Auctioned], None]:
    """What the auction does to each order that stands, by its symbol."""

    def auction(venue: Auctioned) -> None:
        if not is_over():
            return
        for name, symbol, size in venue.waiting():
            fate, part = fates[symbol], size // 2
            if fate in ("fill in two", "expire after a part") and part:
                venue.fill(name, part)
            if fate in ("fill", "fill in two"):
                venue.fill(name)
            else:
                venue.end(name, "rejected" if fate == "reject" else "expired")

    return auction


class _Handler(BaseHTTPRequestHandler):
    house: ServedVenue
    protocol_version = "HTTP/1.1"
    # A head and a body that leave one after the other would wait 40 ms for the client's acknowledgement in between.
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        form = "form" in self.headers.get("Content-Type", "")
        body = parse_qs(content.decode()) if form else json.loads(content) if content else None
        answer = self.house.answer(
            Request(self.command, parts.path, parse_qs(parts.query), body, dict(self.headers.items()))
        )
        cut = self.command == "GET" and self.house.cut > 0
        self.house.cut -= cut
        if answer.fault == "hang":
            time.sleep(self.house.slow_s)
        if cut or answer.fault in DROPS:
            self.close_connection = True
            self.connection.close()
            return
        if answer.fault == "accept_slow":
            time.sleep(self.house.slow_s)
        if answer.fault in PAGES:
            self._send(PAGES[answer.fault], b"<html><body>Gateway</body></html>", {})
        else:
            content = b"" if answer.body is None else json.dumps(answer.body).encode()
            status, body = self.house.garbled(answer.status, content)
            date = {} if self.house.now is None else {"Date": self.date_time_string(self.house.now().timestamp())}
            self._send(status, body, {**date, **answer.headers})

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  # names of the class above

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        try:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        return
