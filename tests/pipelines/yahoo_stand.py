"""Yahoo's service on a socket of this machine, for tests that go through assets.

Belongs here: serving. Does not: what is answered (each test's own).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(chart_of: Callable[[str], bytes]) -> Iterator[str]:
    """The address of a service that gives a crumb, and for each symbol the chart that ``chart_of`` makes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"crumb" if "getcrumb" in self.path else chart_of(self.path.split("?")[0].rsplit("/", 1)[-1])
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
