"""A vendor that misbehaves on a real socket, request by request, as a test tells it to.

Each request takes the next act of the script; when the script is over, every request gets the last good answer.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

T = TypeVar("T")
Act = Callable[[BaseHTTPRequestHandler], None]


def says(
    body: object = b"", status: int = 200, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> Act:
    """A whole answer; a body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def act(request: BaseHTTPRequestHandler) -> None:
        _head(request, status, kind, len(raw), headers or {})
        request.wfile.write(raw)

    return act


def fails(status: int, **headers: str) -> Act:
    """An error with an empty JSON object; ``Retry_After="1"`` is sent as the header Retry-After."""
    return says({}, status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def html(status: int = 200) -> Act:
    """A page where data should be, as a proxy or a sign-in sends it."""
    return says(b"<html><body>Please sign in</body></html>", status, kind="text/html")


def truncated(body: object) -> Act:
    """Half of the body that the head promises."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def act(request: BaseHTTPRequestHandler) -> None:
        _head(request, 200, "application/json", len(raw), {})
        request.wfile.write(raw[: len(raw) // 2])
        request.close_connection = True

    return act


def slow(body: object, seconds: float) -> Act:
    """The head at once, the body after ``seconds``."""
    raw = json.dumps(body).encode()

    def act(request: BaseHTTPRequestHandler) -> None:
        _head(request, 200, "application/json", len(raw), {})
        request.wfile.flush()
        time.sleep(seconds)
        request.wfile.write(raw)

    return act


def resets(request: BaseHTTPRequestHandler) -> None:
    """The connection is reset (RST) instead of an answer."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
    request.close_connection = True


def shuffled(records: Sequence[T], seed: int = 7) -> list[T]:
    """The records twice each, in another order."""
    mixed = [*records, *records]
    random.Random(seed).shuffle(mixed)
    return mixed


def _head(request: BaseHTTPRequestHandler, status: int, kind: str, length: int, headers: Mapping[str, str]) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(length), **headers}.items():
        request.send_header(name, value)
    request.end_headers()


@dataclass
class ChaosVendor:
    """What it does next, what it does in the end, and what it was asked.

    Attributes:
        routes: path part → acts that are left and the answer after them; the first that fits is taken.
    """

    url: str = ""
    routes: dict[str, tuple[list[Act], Act]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plays(self, route: str, script: Sequence[Act], then: Act) -> None:
        """Requests whose path contains ``route`` get the acts of ``script`` one by one, and ``then`` ever after."""
        self.routes[route] = (list(script), then)

    def count(self, route: str = "") -> int:
        """How many requests it got whose path contains ``route``."""
        return sum(route in path for _, path in self.asked)

    def next_act(self, method: str, path: str) -> Act:
        with self._lock:
            self.asked.append((method, path))
            script, then = next((acts for route, acts in self.routes.items() if route in path), ([], fails(404)))
            return script.pop(0) if script else then


@contextmanager
def chaos() -> Iterator[ChaosVendor]:
    """A running `ChaosVendor`."""
    vendor = ChaosVendor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            act = vendor.next_act(self.command, self.path)
            try:
                act(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client would not wait for it: that is what the act is for

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    vendor.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield vendor
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
