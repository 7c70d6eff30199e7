"""The httpx side of patience, for vendors' clients that are built on httpx.

Belongs here: applying the policy to an httpx client. Does not: the policy (patience.py), sessions (http.py).
"""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass

import httpx

from resources.sources.patience import Persistence

PASSING = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
"""What httpx raises where another attempt may succeed, a body cut short included."""


class PatientTransport(httpx.BaseTransport):
    """Sends each request, redirected ones too, as often as ``persistence`` says, and reads its whole body.

    The client on top of it should be told to send nothing again itself.

    Args:
        inner: what sends; None: httpx's own transport, through the proxies that the environment names.
    """

    def __init__(self, persistence: Persistence, inner: httpx.BaseTransport | None = None) -> None:
        self._persistence = persistence
        self._inner = inner if inner is not None else _EnvironmentTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """As `httpx.BaseTransport.handle_request`; errors as `Persistence.send`."""

        def attempt() -> httpx.Response:
            response = self._inner.handle_request(request)
            try:
                body = b"".join(response.iter_raw())
            finally:
                response.close()
            # Raw, as it came: the client decodes it, and closes it, as it would any other.
            return httpx.Response(
                response.status_code,
                headers=response.headers,
                stream=httpx.ByteStream(body),
                extensions=response.extensions,
            )

        return self._persistence.send(request.method, attempt, PASSING)

    def close(self) -> None:
        self._inner.close()


class _EnvironmentTransport(httpx.BaseTransport):
    """httpx's transport, by way of the environment's proxies: a client that is handed a transport ignores them."""

    def __init__(self) -> None:
        self._direct = httpx.HTTPTransport()
        told = getproxies()
        addresses = {scheme: told.get(scheme) or told.get("all") for scheme in ("http", "https")}
        self._proxied = {scheme: httpx.HTTPTransport(proxy=url) for scheme, url in addresses.items() if url}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        proxied = self._proxied.get(request.url.scheme)
        if proxied is None or proxy_bypass(request.url.host):
            return self._direct.handle_request(request)
        return proxied.handle_request(request)

    def close(self) -> None:
        for transport in (self._direct, *self._proxied.values()):
            transport.close()
