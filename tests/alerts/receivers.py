"""Receivers of alerts over real sockets: a webhook's server and a mail server, and the ways in which they fail."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class WebhookServer:
    """Takes what is posted.

    Attributes:
        script: answers to come, then 200: a status, ``slow`` (later than any patience), ``drip`` (a
            header without end, byte by byte) or ``drop`` (no answer).
        taken: what was answered 200. seen: everything that arrived.
    """

    script: list[int | str] = field(default_factory=list)
    taken: list[dict[str, str]] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def __enter__(self) -> WebhookServer:
        house = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                house.seen.append(body)
                answer = house.script.pop(0) if house.script else 200
                if answer == "slow":
                    time.sleep(1.0)
                if answer == "drop":
                    self.connection.close()
                    return
                if answer == "drip":
                    self.drip()
                    return
                status = answer if isinstance(answer, int) else 200
                if status == 200:
                    house.taken.append(body)
                    house.keys.append(self.headers["Idempotency-Key"])
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def drip(self) -> None:
                with suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
                    for _ in range(600):
                        self.wfile.write(b"a")
                        time.sleep(0.05)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/services/T0/B0/SECRET"


@dataclass
class MailServer:
    """As much of RFC 5321 as a client needs to hand over a mail.

    Attributes:
        refuse: answer to the end of each mail, instead of 250. refuse_recipients: answer to each recipient.
        users: what was offered to log in with.
        certificate, security: of a server that speaks TLS at once (``tls``) or when it is asked to (``starttls``).
        encrypted: of each login and mail, whether it came over TLS.
        drips: the greeting comes a byte at a time, and not to its end.
    """

    certificate: Path | None = None
    security: str = "none"
    encrypted: list[bool] = field(default_factory=list)
    refuse: str = ""
    refuse_recipients: str = ""
    mails: list[Message] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    drips: bool = False

    def __enter__(self) -> MailServer:
        served = self

        class Handler(_MailHandler):
            house = served

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that does not trust the certificate hangs up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wrapped(self, line: socket.socket) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(self.certificate))
        return context.wrap_socket(line, server_side=True)

    @property
    def settings(self) -> dict[str, Any]:
        port = self._server.server_address[1]
        return {
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_security": self.security,
            "email_to": ("ops@example.com",),
        }


class _MailHandler(socketserver.StreamRequestHandler):
    house: MailServer

    def handle(self) -> None:
        self._is_encrypted = False
        if self.house.security == "tls":
            self._encrypt()
        if self.house.drips:
            with suppress(OSError):
                for _ in range(600):
                    self.wfile.write(b"2")
                    time.sleep(0.05)
            return
        self._say("220 receiver")
        while line := self.rfile.readline().decode().strip():
            if self._answer(line):
                return

    def _encrypt(self) -> None:
        line = self.house.wrapped(self.request)
        self.rfile, self.wfile = line.makefile("rb"), line.makefile("wb", buffering=0)
        self._is_encrypted = True

    def _answer(self, line: str) -> bool:
        verb = line.split(" ", 1)[0].upper()
        if verb == "EHLO":
            offers = self.house.security == "starttls" and not self._is_encrypted
            self._say("250-receiver\r\n250 " + ("STARTTLS" if offers else "AUTH PLAIN"))
        elif verb == "STARTTLS" and self.house.security == "starttls":
            self._say("220 go on")
            self._encrypt()
        elif verb == "STARTTLS":
            self._say("502 not here")
        elif verb == "AUTH":
            self.house.encrypted.append(self._is_encrypted)
            self.house.users.append(line.split(" ")[-1])
            self._say("235 welcome")
        elif verb == "RCPT":
            self.house.recipients.append(line)
            self._say(self.house.refuse_recipients or "250 ok")
        elif verb == "DATA":
            self._say("354 go on")
            self._take()
        elif verb == "QUIT":
            self._say("221 bye")
            return True
        else:
            self._say("250 ok")
        return False

    def _take(self) -> None:
        lines: list[str] = []
        while (line := self.rfile.readline().decode()) not in (".\r\n", ""):
            lines.append(line)
        self.house.encrypted.append(self._is_encrypted)
        if not self.house.refuse:
            self.house.mails.append(message_from_string("".join(lines)))
        self._say(self.house.refuse or "250 taken")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
