"""A TLS connection that breaks after the request: the order may stand, whatever class the error is of."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from execution_support import CLOSE, SESSIONS, D

from octopus.core.orders import OrderType, Side
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import BrokerUnavailableError, OrderRequest, UncertainOutcomeError
from resources.sources.http import Access
from resources.sources.patience import Patience


class BreakingVenue:
    """Reads one request and breaks the connection: with an end of TLS out of turn, or a reset of the socket."""

    def __init__(self, certificate: Path, how: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._how = how
        self.arrived: list[bytes] = []
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        raw, _ = self._listening.accept()
        try:
            line = self._context.wrap_socket(raw, server_side=True)
        except ssl.SSLError:
            return
        self.arrived.append(line.recv(65536))
        bare = socket.socket(fileno=line.detach())
        if self._how == "garbage":
            bare.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        if self._how == "reset":
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bare.close()

    def close(self) -> None:
        self._listening.close()
        self._thread.join(5)


@pytest.mark.parametrize("how", ["end", "reset", "garbage"])
def test_a_connection_that_breaks_after_the_request_is_uncertain(certificate, monkeypatch, how):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    venue = BreakingVenue(certificate, how)
    with pytest.raises(UncertainOutcomeError, match="no answer"):
        send(venue.url)
    venue.close()
    assert venue.arrived


def test_a_certificate_that_nobody_signed_is_definitely_not_sent(certificate):
    venue = BreakingVenue(certificate, "end")
    with pytest.raises(BrokerUnavailableError, match="not sent"):
        send(venue.url)
    venue.close()
    assert venue.arrived == []


def send(url: str) -> None:
    access = Access(base_url=url, timeout_s=2.0, patience=Patience(attempts=1))
    broker = AlpacaBroker("KEY", "SECRET", "acct", SESSIONS, access=access, now=lambda: CLOSE - timedelta(hours=1))
    broker.submit(OrderRequest("o-1", "AAA", Side.BUY, D(10), OrderType.MARKET_ON_CLOSE, CLOSE))
