"""A vendor on a real socket: answers with what a test says, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from resources.sources.http import Access
from resources.sources.patience import Patience

HASTY = Patience(attempts=2, base_s=0.001)
"""One more attempt, at once."""


@dataclass
class Vendor:
    """Routes are tried in the order given; a path matches when it contains the route's text."""

    url: str = ""
    routes: list[tuple[str, int, bytes, dict[str, str], bool]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def answer(
        self,
        route: str,
        body: object,
        status: int = 200,
        *,
        kind: str = "application/json",
        cut: bool = False,
        once: bool = False,
    ) -> None:
        """Answer paths that contain ``route``; ``cut`` promises more than it sends, ``once`` is then forgotten."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.routes.append((route, status, raw, {"Content-Type": kind, "X-Once": str(once)}, cut))

    def take(self, path: str) -> tuple[str, int, bytes, dict[str, str], bool]:
        found = next((route for route in self.routes if route[0] in path), None)
        if found is None:
            return "", 404, b'{"nothing": "here"}', {}, False
        if found[3].get("X-Once") == "True":
            self.routes.remove(found)
        return found

    def access(self, timeout_s: float = 5.0) -> Access:
        """How a source reaches it."""
        return Access(self.url, timeout_s, HASTY)

    def paths(self, part: str = "") -> list[str]:
        return [path for _, path, _ in self.asked if part in path]


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    told = Vendor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            told.asked.append((self.command, self.path, dict(self.headers)))
            _, status, body, headers, cut = told.take(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) * (2 if cut else 1)))
            self.end_headers()
            self.wfile.write(body)
            if cut:
                self.close_connection = True

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    yield told
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def closed_port_url() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def nobody(closed_port_url: str) -> Access:
    """How a source reaches an address where nothing listens."""
    return Access(closed_port_url, 2.0, HASTY)


@pytest.fixture(scope="session")
def yfinance_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the run: yfinance opens its cache once in a process."""
    return tmp_path_factory.mktemp("yfinance")
