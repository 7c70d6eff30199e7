"""Alerts from what happened to the receiver's socket: once each, however often it is seen, and whatever fails."""

from __future__ import annotations

import base64
import logging
import re
import socket
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal

import dagster as dg
import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb
from receivers import MailServer, WebhookServer

import octopus_pipelines.cli.alerts as command
from octopus.alerts.alert import RUNBOOK, Alert, Kind, Severity, rehearsal
from octopus.alerts.events import Entry, alert_of
from octopus.core.errors import ConfigError
from octopus.core.orders import TradingState
from octopus_pipelines.sensors.alerts import alert_sensors, failure
from resources.alerts.channels import Email, Webhook, channels_of
from resources.alerts.courier import FIRST_WAIT, GIVE_UP, LONGEST_WAIT, TELL_OTHERS, deliver
from resources.alerts.house import AlertHouse
from resources.alerts.spool import Spool
from resources.alerts.store import AlertStore
from resources.settings import AlertsConfig, Settings, load_settings
from resources.trading import audit_log
from resources.trading_state import halt_file
from resources.warehouse.connection import Role, bounded, connect
from resources.warehouse.order_store import OrderStore

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
ALL = Severity.INFO


def alert(number: int = 1, at: datetime = NOW, kind: Kind = Kind.HALT) -> Alert:
    return Alert(kind, "paper", f"number {number} <&> *", at, f"halt:{number}")


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    with WebhookServer() as served:
        yield served


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as served:
        yield served


@pytest.fixture
def store(database_url: str) -> Iterator[AlertStore]:
    with AlertStore.opened(database_url) as opened:
        yield opened


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- one send ----------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_slacks_form_with_the_key_and_the_next_step(webhook: WebhookServer) -> None:
    outcome = Webhook(webhook.url).send(alert())
    assert (outcome.delivered, outcome.detail) == (True, "HTTP 200")
    (body,) = webhook.taken
    assert set(body) == {"text"}
    for word in ("CRITICAL", "number 1 &lt;&amp;&gt; *", Kind.HALT.next_step, f"{RUNBOOK}#halt", NOW.isoformat()):
        assert word in body["text"]


@pytest.mark.parametrize(
    ("answer", "down"),
    [(500, True), (503, True), (429, True), (400, False), (404, False), (302, False), ("slow", True), ("drop", True)],
)
def test_whatever_a_webhook_answers_no_secret_is_told(webhook: WebhookServer, answer: int | str, down: bool) -> None:
    webhook.script = [answer]
    channel = Webhook(webhook.url, timeout_s=0.5)
    outcome = channel.send(alert())
    assert (outcome.delivered, outcome.down) == (False, down)
    assert "SECRET" not in f"{outcome} {channel!r}"
    assert len(webhook.seen) == 1, "one send is one request"


def test_no_log_ever_holds_the_address_of_a_webhook(webhook: WebhookServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    address = f"{webhook.url}/T0/B0/S%2BK?of=us"
    assert Webhook(address).send(alert()).delivered
    assert Webhook(f"http://127.0.0.1:{closed_port()}/T1/B1/S+L", timeout_s=0.2).send(alert()).down
    assert '"POST /(hidden) HTTP' in caplog.text
    assert not re.search("T[01]/B|of=us", caplog.text)


def test_a_webhook_that_drips_its_headers_holds_nobody_up(webhook: WebhookServer) -> None:
    webhook.script = ["drip"] * 3
    for _ in range(3):
        start = time.monotonic()
        outcome = Webhook(webhook.url, timeout_s=0.5, name="dripping").send(alert())
        assert time.monotonic() - start < 2
        assert (outcome.delivered, outcome.down) == (False, True)
    until = time.monotonic() + 5
    while any(thread.name == "dripping" for thread in threading.enumerate()):
        assert time.monotonic() < until, "what was given up ends"
        time.sleep(0.02)
    assert Webhook(webhook.url).send(alert()).delivered


def test_a_mail_server_that_drips_its_greeting_holds_nobody_up() -> None:
    with MailServer(drips=True) as mail:
        start = time.monotonic()
        outcome = Email(AlertsConfig(**mail.settings), timeout_s=0.5, name="dripping").send(alert())
        assert time.monotonic() - start < 2
        assert (outcome.delivered, outcome.down) == (False, True)
        until = time.monotonic() + 5
        while any(thread.name == "dripping" for thread in threading.enumerate()):
            assert time.monotonic() < until, "what was given up ends"
            time.sleep(0.02)


def test_receivers_that_are_not_there_are_down_and_their_addresses_stay_here() -> None:
    port = closed_port()
    hook = Webhook(f"http://127.0.0.1:{port}/SECRET", timeout_s=0.2).send(alert())
    config = AlertsConfig(smtp_host="127.0.0.1", smtp_port=port, smtp_security="none", email_to=("a@b.example",))
    post = Email(config, "PASSWORD", timeout_s=0.2).send(alert())
    assert (hook.down, post.down) == (True, True)
    assert not re.search(
        "SECRET|PASSWORD|127", f"{hook}{post}{Email(config, 'PASSWORD')!r}".replace("127.0.0.1", "", 1)
    )


def test_a_mail_has_one_message_id_for_one_key_and_its_password_goes_to_the_server_alone(mail: MailServer) -> None:
    config = AlertsConfig(**mail.settings, smtp_user="octopus", email_from="octopus@example.com")
    channel = Email(config, "hunter2")
    assert channel.send(alert()).delivered
    assert channel.send(alert()).delivered
    assert channel.send(alert(2)).delivered
    first, second, other = mail.mails
    assert first["Message-ID"] == second["Message-ID"] != other["Message-ID"]
    assert (first["To"], first["From"]) == ("ops@example.com", "octopus@example.com")
    assert first["Subject"] == alert().headline
    assert "number 1 <&> *" in first.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert base64.b64decode(mail.users[0]) == b"\0octopus\0hunter2"
    assert "hunter2" not in repr(channel)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_mail_goes_over_tls_to_a_server_that_is_trusted_alone(
    certificate: Path, security: Literal["tls", "starttls"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of our own: refused until it is trusted, and then the password goes over TLS alone."""
    with MailServer(certificate=certificate, security=security) as mail:
        channel = Email(AlertsConfig(**mail.settings, smtp_user="octopus"), "hunter2")
        refused = channel.send(alert())
        assert (refused.delivered, refused.detail, refused.down) == (False, "SSLCertVerificationError", True)
        assert (mail.mails, mail.users) == ([], [])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert channel.send(alert()).delivered
        assert (len(mail.mails), mail.encrypted) == (1, [True, True])
        assert base64.b64decode(mail.users[0]) == b"\0octopus\0hunter2"
    with MailServer() as plain:
        told = Email(AlertsConfig(**{**plain.settings, "smtp_security": "starttls"}, smtp_user="octopus"), "hunter2")
        assert not told.send(alert()).delivered
        assert plain.users == [], "a password went over a line that is not encrypted"


def test_what_a_mail_server_refuses_is_told_by_its_code(mail: MailServer) -> None:
    channel = Email(AlertsConfig(**mail.settings))
    mail.refuse = "451 come back later"
    assert channel.send(alert()) == channel.send(alert(2))
    assert channel.send(alert()).detail == "SMTP 451"
    assert channel.send(alert()).down
    mail.refuse_recipients = "550 nobody here"
    refused = channel.send(alert())
    assert (refused.delivered, refused.down) == (False, False)
    assert "550" in refused.detail
    assert mail.mails == []


def test_words_of_a_venue_make_no_header_and_no_mention() -> None:
    wild = replace(alert(), subject="x\r\nBcc: everyone@example.com\n<!channel>")
    assert "\n" not in wild.headline
    message = Email(AlertsConfig(email_to=("a@b.example",)))._message(wild)
    assert message["Bcc"] is None


def test_channels_are_named_by_settings_and_environment() -> None:
    assert channels_of(AlertsConfig(), {}) == ()
    config = AlertsConfig(email_to=("ops@example.com",), smtp_user="octopus")
    with pytest.raises(ConfigError, match="OCTOPUS_SMTP_PASSWORD"):
        channels_of(config, {})
    secret = "http://example.com/services/SECRET"
    with pytest.raises(ConfigError, match="https") as refused:
        channels_of(config, {"OCTOPUS_ALERT_WEBHOOK_URL": secret})
    assert "SECRET" not in str(refused.value)
    told = {"OCTOPUS_ALERT_WEBHOOK_URL": "https://hooks.example.com/x", "OCTOPUS_SMTP_PASSWORD": "p"}
    assert [channel.name for channel in channels_of(config, told)] == ["webhook", "e-mail"]


# -- as often as said --------------------------------------------------------------------------------------------------


def test_what_was_taken_is_not_sent_again_and_what_was_not_is_tried_with_patience(
    store: AlertStore, webhook: WebhookServer, mail: MailServer
) -> None:
    channels = (Webhook(webhook.url), Email(AlertsConfig(**mail.settings)))
    for number in (1, 2, 3):
        assert store.record(alert(number))
        assert not store.record(alert(number))
    webhook.script = [500, 500]
    # The receiver that is down is tried once a round; the other one has everything.
    assert deliver(store, channels, ALL, NOW).failing == {"webhook": "HTTP 500"}
    assert (len(webhook.seen), len(mail.mails)) == (1, 3)
    deliver(store, channels, ALL, NOW + FIRST_WAIT / 2)
    assert len(webhook.seen) == 2, "the next alert is the probe while the first one waits"
    after = deliver(store, channels, ALL, NOW + 4 * FIRST_WAIT)
    assert (after.sent, after.failing) == (3, {})
    assert [re.search(r"number (\d)", body["text"])[1] for body in webhook.taken] == ["1", "2", "3"]  # type: ignore[index]
    assert deliver(store, channels, ALL, NOW + 8 * FIRST_WAIT).sent == 0
    assert (len(webhook.seen), len(mail.mails)) == (5, 3)


def test_waits_double_up_to_their_longest_and_end_with_giving_up(store: AlertStore) -> None:
    channel = Webhook(f"http://127.0.0.1:{closed_port()}/x", timeout_s=0.2)
    store.record(alert())
    now, waits = NOW, []
    for _ in range(8):
        deliver(store, [channel], ALL, now)
        pending = store.pending("webhook", NOW)[0]
        assert pending.due is not None
        waits.append(pending.due - now)
        now = pending.due
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    told = [one.alert.kind for one in store.pending("webhook", NOW + TELL_OTHERS)]
    assert told == [Kind.UNDELIVERED], "the other channels hear of it, once a day"
    attempts = store.connection.execute("select count(*) from ops.alert_deliveries").fetchone()
    deliver(store, [channel], ALL, NOW + GIVE_UP + timedelta(days=1))
    assert store.connection.execute("select count(*) from ops.alert_deliveries").fetchone() == attempts


def test_one_alert_that_is_refused_holds_up_no_other(store: AlertStore, webhook: WebhookServer) -> None:
    for number in (1, 2):
        store.record(alert(number))
    webhook.script = [400]
    deliver(store, [Webhook(webhook.url)], ALL, NOW)
    assert len(webhook.taken) == 1
    assert "number 2" in webhook.taken[0]["text"]


def test_a_death_between_sending_and_noting_sends_again_under_the_same_key(
    store: AlertStore, webhook: WebhookServer
) -> None:
    class Dying(AlertStore):
        def note(self, *_: object) -> None:
            raise KeyboardInterrupt

    store.record(alert())
    with pytest.raises(KeyboardInterrupt):
        deliver(Dying(store.connection), [Webhook(webhook.url)], ALL, NOW)
    deliver(store, [Webhook(webhook.url)], ALL, NOW)
    assert len(set(webhook.keys)) == 1
    assert len(webhook.keys) == 2


def test_only_one_process_delivers_at_a_time(store: AlertStore, database_url: str) -> None:
    with AlertStore.opened(database_url) as other, store.alone() as mine:
        assert mine
        with other.alone() as also:
            assert not also
    with store.alone() as again:
        assert again


def test_severities_below_the_least_are_recorded_and_not_sent(store: AlertStore, webhook: WebhookServer) -> None:
    store.record(alert(1, kind=Kind.RESUMED))
    store.record(alert(2, kind=Kind.DENIAL))
    deliver(store, [Webhook(webhook.url)], Severity.WARNING, NOW)
    assert len(webhook.taken) == 1
    assert [told.delivered for told in store.latest(5)] == [("webhook",), ()]


def test_alerts_and_deliveries_are_append_only(database_url: str, store: AlertStore) -> None:
    store.record(alert())
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"), connect(database_url) as owner:
        owner.execute("update ops.alerts set happened = 'nothing'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        store.connection.execute("delete from ops.alerts")


def test_the_spool_keeps_what_was_delivered_and_is_merged_once(
    tmp_path: Path, store: AlertStore, webhook: WebhookServer, mail: MailServer
) -> None:
    spool, hook, post = Spool(tmp_path), Webhook(webhook.url), Email(AlertsConfig(**mail.settings))
    assert spool.record(alert())
    assert not spool.record(alert())
    mail.refuse = "451 later"
    deliver(spool, [hook, post], ALL, NOW)
    deliver(spool, [hook, post], ALL, NOW + FIRST_WAIT / 2)
    assert (len(webhook.taken), len(mail.mails)) == (1, 0)
    assert spool.merge_into(store) == 1
    assert spool.merge_into(store) == 0
    mail.refuse = ""
    deliver(store, [hook, post], ALL, NOW + 2 * FIRST_WAIT)
    assert (len(webhook.taken), len(mail.mails)) == (1, 1)


# -- what is worth an alert --------------------------------------------------------------------------------------------


def compared(breaks: list[str], known: Collection[str] = (), amounts: Collection[str] = (), seq: int = 1) -> Entry:
    told = entry("reconciliation.breaks", seq=seq, session="2026-03-02", breaks=breaks)
    return replace(told, known=known, amounts=amounts)


def entry(kind: str, subject: str = "s", seq: int = 1, **payload: object) -> Entry:
    return Entry(seq, NOW, kind, subject, payload)


DENIED = {"intent": "i-1", "gate": "risk", "rule": "gross", "reason": "1.3 is over 1.0"}


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        (entry("batch.claimed", denied=[DENIED]), Kind.DENIAL, "risk/gross: 1.3 is over 1.0"),
        (entry("batch.claimed", denied=[]), None, ""),
        (entry("order.cancelled", reason="denied: price collar"), Kind.DENIAL, "price collar"),
        (entry("order.cancelled", reason="asked to cancel"), None, ""),
        (entry("trading.halted", by="ann", reason="smoke"), Kind.HALT, "by ann: smoke"),
        (entry("trading.reducing", by="ann", reason="smoke"), Kind.HALT, "reducing"),
        (entry("trading.active", by="ann", reason="ok"), Kind.RESUMED, "active"),
        (entry("alert.not_cancelled", reason="o-1: in TWS"), Kind.HALT, "all that is open: o-1: in TWS"),
        (entry("batch.refused", reason="superseded"), Kind.REFUSAL, "superseded"),
        (entry("order.rejected", reason="no buying power"), Kind.REJECTION, "no buying power"),
        (entry("reconciliation.breaks", session="2026-03-02", breaks=["a", "b", "c", "d"]), Kind.RECONCILIATION_BREAK,
         "4 breaks in account s on 2026-03-02: a; b; c; and 1 more"),
        (compared(["a", "b"], known=["a", "b", "c"]), None, ""),
        (compared(["a", "b"], known=["b"]), Kind.RECONCILIATION_BREAK, "1 breaks in account s on 2026-03-02: a; 1 of"),
        (compared(["a", "b"], amounts=["a"]), Kind.RECONCILIATION_BREAK, "a; b"),
        (compared(["a", "b"], known=["b"], amounts=["a"]), Kind.UNSETTLED_AMOUNT, "a; 1 of before stand"),
        (entry("reconciliation.ok"), None, ""),
        (entry("alert.unknown_order", remedy="x"), Kind.UNKNOWN_ORDER, "freezes"),
        (entry("alert.unexpected_fill"), Kind.UNEXPECTED_FILL, "never sent"),
        (entry("alert.overfilled", ordered="10", filled="11"), Kind.UNEXPECTED_FILL, "11 were filled of 10"),
        (entry("order.fill_broken", fill_id="f1", number=1, why="clearly erroneous"), Kind.REVISED_FILL,
         "fill f1 of order s was broken: none of it counts: clearly erroneous"),
        (entry("order.fill_corrected", fill_id="f1", number=2, quantity="5", price="98", fees="1", overtaken=True),
         Kind.REVISED_FILL, "corrected: 5 shares at 98, fees 1; a later revision counts already: the broker gave no"),
        (entry("order.fill"), None, ""),
    ],
)  # fmt: skip
def test_entries_of_the_audit_log(told: Entry, kind: Kind | None, words: str) -> None:
    made = alert_of(told)
    assert (made.kind if made else None) is kind
    assert words in (made.happened if made else "")


def test_the_same_refusal_a_minute_later_is_one_alert_and_two_halts_are_two() -> None:
    refused = [alert_of(entry("batch.refused", seq=n, reason=f"it is 12:0{n}")) for n in (1, 2)]
    assert refused[0].key == refused[1].key  # type: ignore[union-attr]
    halted = [alert_of(entry("trading.halted", seq=n, by="a", reason="b")) for n in (1, 2)]
    assert halted[0].key != halted[1].key  # type: ignore[union-attr]


SOME = ("X1", "X2", "X3")


@given(days=st.lists(st.sets(st.sampled_from(SOME)), max_size=12))
def test_a_break_is_told_when_it_comes_and_not_while_it_stands(days: list[set[str]]) -> None:
    """Whatever the books differ by, comparison after comparison: told is what was not there the time before."""
    keys = []
    for seq, (before, now) in enumerate(pairwise([set[str](), *days])):
        made = alert_of(compared(sorted(now), known=before, seq=seq))
        assert (made is None) is (now <= before)
        if made is not None:
            assert {one for one in SOME if one in made.happened} == now - before
            keys.append(made.key)
    assert len(keys) == len(set(keys))


# -- through Dagster and the command line ------------------------------------------------------------------------------


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    names = {f"OCTOPUS_{name}_URL": database_url for name in ("DATABASE", "DAGSTER", "MLFLOW")}
    for name, value in {**names, "OCTOPUS_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OCTOPUS_CONFIG", raising=False)
    return load_settings({**names, "OCTOPUS_HOME": str(tmp_path)})


def test_the_sensors_tell_of_a_halt_and_of_a_failed_run_once(
    settings: Settings, webhook: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTOPUS_ALERT_WEBHOOK_URL", webhook.url)

    @dg.op
    def breaks() -> None:
        raise dg.Failure("the source answered 500\nand more")

    @dg.job
    def broken() -> None:
        breaks()

    failed_run, alerts = alert_sensors(running=False)
    with dg.DagsterInstance.ephemeral() as instance:
        result = broken.execute_in_process(instance=instance, raise_on_error=False)
        context = dg.build_run_status_sensor_context(
            "failed_run", result.get_run_failure_event(), instance, result.dagster_run
        ).for_run_failure()
        failed_run(context)
        failed_run(context)
    with OrderStore.opened(settings.database_url) as orders:
        # Not drained: the one that halted died.
        orders.set_trading_state("paper", TradingState.HALTED, "tester", "smoke", NOW)
    for _ in range(2):
        skipped = alerts(dg.build_sensor_context())
        assert isinstance(skipped, dg.SkipReason)
    texts = sorted(body["text"] for body in webhook.taken)
    assert len(texts) == 2
    assert "broken" in texts[0]
    assert "smoke" in texts[1]


def test_a_broken_trade_reaches_the_webhook_once(
    settings: Settings, webhook: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the order path's own record of it, as the next run of the alerts' sensor finds it."""
    monkeypatch.setenv("OCTOPUS_ALERT_WEBHOOK_URL", webhook.url)
    with connect(settings.database_url) as connection:
        for number, kind in enumerate(("order.fill_broken", "order.fill_corrected")):
            told = {
                "fill_id": f"f{number}",
                "number": 1,
                "quantity": "5",
                "price": "98",
                "fees": "0",
                "why": "erroneous",
            }
            connection.execute(
                "insert into execution.outbox (kind, subject, payload) values (%s, 'oct-1', %s)", [kind, Jsonb(told)]
            )
    _, alerts = alert_sensors(running=False)
    for _ in range(2):
        alerts(dg.build_sensor_context())
    texts = sorted(body["text"] for body in webhook.taken)
    assert len(texts) == 2
    assert "fill f0 of order oct-1 was broken" in texts[0]
    assert "5 shares at 98" in texts[1]
    assert all("docs/runbook.md#revised-fill" in text for text in texts)


def test_a_receiver_that_is_down_fails_no_sensor_and_the_doctor_sees_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octopus_pipelines.cli.doctor import doctor

    monkeypatch.setenv("OCTOPUS_ALERT_WEBHOOK_URL", f"http://127.0.0.1:{closed_port()}/SECRET")
    with OrderStore.opened(settings.database_url) as orders:
        orders.set_trading_state("paper", TradingState.HALTED, "tester", "smoke", NOW)
        orders.drain_outbox(audit_log(settings))
    _, alerts = alert_sensors(running=False)
    skipped = alerts(dg.build_sensor_context())
    assert isinstance(skipped, dg.SkipReason)
    assert "webhook takes none" in str(skipped.skip_message)
    told = CliRunner().invoke(doctor)
    assert told.exit_code == 1
    assert re.search(r"✗ alerts webhook +1 alerts not taken", told.output)
    assert "SECRET" not in told.output


def test_the_doctor_tells_of_a_database_that_takes_no_writes_and_of_a_lock_that_is_shut(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octopus_pipelines.cli.doctor import doctor

    lock = halt_file(settings).lock
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch(mode=0o600)
    read_only = make_conninfo(settings.database_url, options="-c default_transaction_read_only=on")
    told = CliRunner().invoke(doctor)
    assert "takes no writes" not in told.output
    assert f"chmod 666 {lock}" in told.output
    monkeypatch.setattr("octopus_pipelines.cli.doctor.settings", lambda: replace(settings, database_url=read_only))
    told = CliRunner().invoke(doctor)
    assert told.exit_code == 1
    assert re.search(r"✗ database octopus +PostgreSQL .* takes no writes: name the primary", told.output)


def test_what_is_bounded_keeps_its_role_and_ends_what_waits(settings: Settings) -> None:
    url = bounded(make_conninfo(settings.database_url, options="-c work_mem=5MB"), 1)
    with connect(url, Role.TRADER, autocommit=True) as connection:
        asked = ("current_user", "current_setting('work_mem')", "current_setting('TimeZone')")
        assert connection.execute(f"select {', '.join(asked)}").fetchone() == ("octopus_trader", "5MB", "UTC")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(3)")
    with connect(settings.database_url, autocommit=True) as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("0",)


def test_the_rehearsal_sends_one_of_each_and_says_what_failed(
    settings: Settings, webhook: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no channel" in CliRunner().invoke(command.alerts, ["test"]).output
    monkeypatch.setenv("OCTOPUS_ALERT_WEBHOOK_URL", webhook.url)
    assert CliRunner().invoke(command.alerts, ["test"]).exit_code == 0
    assert len(webhook.taken) == len(Kind)
    webhook.script = [500]
    assert CliRunner().invoke(command.alerts, ["test", "--kind", "halt"]).exit_code == 1


def test_without_the_database_an_alert_is_spooled_delivered_and_merged_later(
    settings: Settings, webhook: WebhookServer
) -> None:
    gone = replace(settings, database_url=f"postgresql://postgres@127.0.0.1:{closed_port()}/octopus")
    house = AlertHouse(gone, [Webhook(webhook.url)])
    house.tell(failure(dg.DagsterRun(job_name="daily", run_id="r1"), "out of disk"))
    (down,), told = house.look()
    assert (down.kind, told.sent) == (Kind.DATABASE_DOWN, 2)
    assert house.look()[1].sent == 0, "an outage is told once"
    AlertHouse(settings, [Webhook(webhook.url)]).look()
    assert len(webhook.taken) == 2
    with AlertStore.opened(settings.database_url) as store:
        kinds = {told.alert.kind: told.delivered for told in store.latest(5)}
    # Back again is of severity info, which is recorded and not sent.
    assert kinds == {Kind.FAILED_RUN: ("webhook",), Kind.DATABASE_DOWN: ("webhook",), Kind.DATABASE_BACK: ()}


# -- the runbook -------------------------------------------------------------------------------------------------------


def test_each_kind_has_its_section_in_the_runbook() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / RUNBOOK).read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert {kind.anchor for kind in Kind} <= anchors
    for part in re.split(r"^## .+$", (ROOT / RUNBOOK).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        if "**What it means.**" in part:
            for word in ("**Already done.**", "**Look at.**", "**Do.**", "**Come back.**"):
                assert word in part


def test_every_kind_says_what_to_do() -> None:
    for kind in Kind:
        told = rehearsal(kind, NOW)
        assert kind.heading in told.headline
        assert kind.next_step in told.text
