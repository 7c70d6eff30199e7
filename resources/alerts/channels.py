"""The ways to a person: a Slack-compatible webhook and e-mail.

Belongs here: sending one alert once, and what came of it. Does not: when to send again (courier.py).

No address, secret or answer's text leaves this module: an outcome tells a status or the name of an error.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from queue import Empty, Queue
from threading import Thread
from typing import Any, Protocol

from octopus.alerts.alert import Alert, Severity
from octopus.core.errors import ConfigError
from octopus.core.ids import fingerprint
from resources.settings import AlertsConfig
from resources.unlogged import keep_out_of_logs

WEBHOOK_VARIABLE, PASSWORD_VARIABLE = "OCTOPUS_ALERT_WEBHOOK_URL", "OCTOPUS_SMTP_PASSWORD"
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Outcome:
    """What a send came to.

    Attributes:
        down: the receiver as a whole does not answer or takes nothing, so that another alert need not be tried now.
        detail: a status or an error's name.
    """

    delivered: bool
    detail: str
    down: bool = False


class Channel(Protocol):
    """One way to people."""

    @property
    def name(self) -> str: ...

    def send(self, alert: Alert) -> Outcome:
        """Send once; never raises for what a receiver does."""
        ...


class _Patient(Protocol):
    """A channel that waits for a receiver, and for how long."""

    @property
    def name(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...


def _in_time(channel: _Patient, send: Callable[[list[Any]], Outcome]) -> Outcome:
    """What ``send`` comes to within the channel's time; it lists the connections that it opens.

    The timeout of a library is one of each wait, and an answer may come a byte at a time for as long as it likes.
    """
    connections, ends = list[Any](), Queue[Outcome | Exception]()

    def tried() -> None:
        try:
            ends.put(send(connections))
        except Exception as error:  # noqa: BLE001  # raised again, where the send was asked for
            ends.put(error)

    Thread(target=tried, name=channel.name, daemon=True).start()
    try:
        end = ends.get(timeout=channel.timeout_s)
    except Empty:
        _hang_up(connections)
        return Outcome(False, "no answer in time", down=True)
    if isinstance(end, Exception):
        raise end
    return end


@dataclass(frozen=True)
class Webhook:
    """Slack's incoming webhook, and what understands the same (Mattermost, Rocket.Chat, Discord's /slack).

    Attributes:
        timeout_s: of a whole send, however slowly its parts come.
    """

    url: str = field(repr=False)
    timeout_s: float = TIMEOUT_SECONDS
    name: str = "webhook"

    def send(self, alert: Alert) -> Outcome:
        """POST the alert; its key goes along, so that a receiver can tell a second copy."""
        return _in_time(self, lambda connections: self._posted(alert, _remembering(connections)))

    def _posted(self, alert: Alert, adapter: Any) -> Outcome:
        """What the receiver says, whenever it does."""
        import requests

        headers = {"Idempotency-Key": fingerprint(alert.key)}
        try:
            # Its address is the secret: all of it behind the host.
            keep_out_of_logs(requests.Request("POST", self.url).prepare().path_url.removeprefix("/"))
            with requests.Session() as session:
                for scheme in ("https://", "http://"):
                    session.mount(scheme, adapter)
                # The body of the answer is not read: whoever drips it cannot keep us. A redirect could lead anywhere.
                with session.post(
                    self.url,
                    json=_slack(alert),
                    headers=headers,
                    timeout=self.timeout_s,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    status = answer.status_code
        except (requests.RequestException, OSError, UnicodeError) as error:
            # Its text names the URL, which is the secret.
            return Outcome(False, type(error).__name__, down=True)
        return Outcome(200 <= status < 300, f"HTTP {status}", down=status == 429 or status >= 500)


def _remembering(connections: list[Any]) -> Any:
    """An adapter of requests that keeps the connections it opens."""
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def get_connection_with_tls_context(self, *args: Any, **settings: Any) -> Any:
            pool: Any = super().get_connection_with_tls_context(*args, **settings)
            opened = pool.ConnectionCls

            def opening(*args: Any, **settings: Any) -> Any:
                connections.append(opened(*args, **settings))
                return connections[-1]

            pool.ConnectionCls = opening
            return pool

    return Adapter()


def _listed(kind: Any, connections: list[Any]) -> Any:
    """``kind`` of connection to a mail server, which lists itself before it waits for the greeting."""

    class Listed(kind):  # type: ignore[misc]  # a class that is told by a parameter
        def connect(self, *args: Any, **settings: Any) -> Any:
            connections.append(self)
            return super().connect(*args, **settings)

    return Listed


def _hang_up(connections: Sequence[Any]) -> None:
    """End what still waits on them, so that no thread is left behind."""
    for connection in connections:
        opened = getattr(connection, "sock", None)
        if opened is not None:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)


def _slack(alert: Alert) -> Mapping[str, str]:
    mark = {Severity.CRITICAL: ":rotating_light:", Severity.WARNING: ":warning:", Severity.INFO: ":information_source:"}
    text = f"{mark[alert.kind.severity]} *{_escaped(alert.headline)}*\n{_escaped(alert.text)}"
    return {"text": text}


def _escaped(text: str) -> str:
    """As Slack's documentation asks; no words of ours can mention a channel or make a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True)
class Email:
    """E-mail through one SMTP server.

    Attributes:
        timeout_s: of a whole send, however slowly its parts come.
    """

    config: AlertsConfig
    password: str = field(default="", repr=False)
    timeout_s: float = TIMEOUT_SECONDS
    name: str = "e-mail"

    def send(self, alert: Alert) -> Outcome:
        """Hand the alert to the server; its Message-ID comes from the key, so that mail programs show one copy."""
        return _in_time(self, lambda connections: self._mailed(alert, connections))

    def _mailed(self, alert: Alert, connections: list[Any]) -> Outcome:
        """What the server says, whenever it does."""
        try:
            with self._server(connections) as server:
                refused = server.send_message(self._message(alert))
        except smtplib.SMTPResponseException as error:
            return Outcome(False, f"SMTP {error.smtp_code}", down=True)
        except smtplib.SMTPRecipientsRefused as error:
            codes = ", ".join(sorted({f"{code}" for code, _ in error.recipients.values()}))
            return Outcome(False, f"every recipient refused: SMTP {codes}")
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            return Outcome(False, type(error).__name__, down=True)
        return Outcome(
            True, f"{len(refused)} of {len(self.config.email_to)} recipients refused" if refused else "taken"
        )

    def _server(self, connections: list[Any]) -> smtplib.SMTP:
        config, secure = self.config, ssl.create_default_context()
        host, port = config.smtp_host, config.smtp_port
        plain, over_tls = (_listed(kind, connections) for kind in (smtplib.SMTP, smtplib.SMTP_SSL))
        if config.smtp_security == "tls":
            server: smtplib.SMTP = over_tls(host, port, timeout=self.timeout_s, context=secure)
        else:
            server = plain(host, port, timeout=self.timeout_s)
        try:
            if config.smtp_security == "starttls":
                server.starttls(context=secure)
            if config.smtp_user:
                server.login(config.smtp_user, self.password)
        except BaseException:
            server.close()
            raise
        return server

    def _message(self, alert: Alert) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = alert.headline
        message["From"] = self.config.email_from
        message["To"] = ", ".join(self.config.email_to)
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = f"<{fingerprint(alert.key)}@octopus.{socket.gethostname()}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(alert.text + "\n")
        return message


def channels_of(config: AlertsConfig, environment: Mapping[str, str]) -> tuple[Channel, ...]:
    """The channels that the settings and the environment name.

    Raises:
        ConfigError: the webhook's URL is none, or would carry its secret in the clear; the value is not shown.
    """
    channels: list[Channel] = []
    if url := environment.get(WEBHOOK_VARIABLE, ""):
        if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ConfigError(
                where="environment", field=WEBHOOK_VARIABLE, value="(hidden)", remedy="use an https:// URL"
            )
        channels.append(Webhook(url))
    if config.email_to:
        password = environment.get(PASSWORD_VARIABLE, "")
        if config.smtp_user and not password:
            raise ConfigError(
                where="environment", field=PASSWORD_VARIABLE, value=None,
                remedy="set it, or leave alerts.smtp_user empty where the server asks for none",
            )  # fmt: skip
        channels.append(Email(config, password))
    return tuple(channels)
