"""Which broker is traded at, and whether it may be: by its name in the settings, never live by one of them alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import yaml
from alpaca_venue import AlpacaVenue
from execution_support import DECIDED, EXECUTED, OPEN, SESSIONS, D, ManualClock, order_ids, rows, store_plan
from flex_venue import QUERY, TOKEN, FlexVenue
from ib_venue import NUMBER, IbVenue
from served_venue import auction_of

from assets import execution
from octopus.core.errors import ConfigError
from octopus.core.orders import OrderType, Side, TradingState
from octopus_pipelines.cli import doctor
from octopus_pipelines.cli.doctor import _login
from octopus_pipelines.overview import reconciliation
from resources.brokers.alpaca import AlpacaBroker
from resources.brokers.base import Broker, BrokerAccount
from resources.brokers.coinbase import CoinbaseBroker
from resources.brokers.ib import IbBroker, Security
from resources.brokers.paper import PaperBroker
from resources.brokers.schwab import SchwabBroker
from resources.brokers.table import BROKERS
from resources.permission import AccountRefusedError, problems, refusal
from resources.settings import ROOT, Settings, load_settings
from resources.trading import Trading, open_broker, open_paper_account
from resources.warehouse.connection import Role, connect
from resources.warehouse.order_store import OrderStore
from resources.warehouse.store import Warehouse

NAMES = ("AAA", "BBB")
BUYS = [(name, Side.BUY, D(10)) for name in NAMES]
ALPACA = {
    "universe.broker": {"name": "alpaca"}, "universe.universe.market_data": "yahoo",
    "compliance.account.broker": "alpaca", "universe.universe.symbols": {name: name for name in NAMES},
    "universe.universe.sectors": dict.fromkeys(NAMES, "technology"),
}  # fmt: skip
LIVE = {**ALPACA, "universe.trading": {"mode": "live", "live_accounts": ["123456789"]}}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in BROKERS.values():
        for name in entry.settings().secrets:
            monkeypatch.setenv(name, "SECRET-KEY")


def settings_of(folder: Path, changes: dict[str, Any], **environment: str) -> Settings:
    shutil.copytree(ROOT / "config", folder / "config", dirs_exist_ok=True)
    for dotted, value in changes.items():
        name, *parents, last = dotted.split(".")
        path = folder / "config" / f"{name}.yaml"
        content = node = yaml.safe_load(path.read_text())
        for parent in parents:
            node = node[parent]
        node[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    home = {"OCTOPUS_HOME": str(folder / "home"), "OCTOPUS_CONFIG": str(folder / "config")}
    return load_settings({**home, **environment})


BRACKET = {"stop_loss": 0.05, "take_profit": 0.1}


@pytest.mark.parametrize("name", list(BROKERS))
def test_brackets_are_for_brokers_that_take_them_and_live_data(tmp_path: Path, name: str) -> None:
    chosen = {**ALPACA, "universe.broker": {"name": name}, "strategies.execution.bracket": BRACKET}
    found = problems(settings_of(tmp_path, chosen))
    refused = [error for error in found if error.field == "execution.bracket"]
    assert bool(refused) is (not BROKERS[name].brackets)
    assert all("choose one of paper, alpaca, ib; or set bracket: null" in str(error) for error in refused)


def test_brackets_need_a_session_after_their_entry(tmp_path: Path) -> None:
    (recorded,) = problems(settings_of(tmp_path, {"strategies.execution.bracket": BRACKET}))
    assert "executes at the close" in str(recorded)
    with pytest.raises(ConfigError, match="whole"):
        settings_of(tmp_path, {"strategies.execution.bracket": BRACKET, "strategies.execution.schedule": "twap"})
    with pytest.raises(ConfigError, match="stop_loss"):
        settings_of(tmp_path, {"strategies.execution.schedule": "none", "strategies.execution.bracket": {}})


# -- the settings ------------------------------------------------------------------------------------------------------


def test_without_a_word_it_is_our_own_paper_account(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, {})
    assert (settings.broker.name, settings.account, problems(settings)) == ("paper", "paper", ())
    assert isinstance(open_broker(settings, ManualClock(OPEN)), PaperBroker)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"name": "robinhood"}, ["broker", "robinhood", "alpaca"]),
        ({"name": "alpaca", "account": "My Account"}, ["account", "My Account"]),
        ({"name": "alpaca", "password": "x"}, ["password", "not permitted"]),
        ({"name": "paper", "account": "x"}, ["account", "not permitted"]),
        ({"name": "alpaca", "key": "PK0123456789abcdef"}, ["key", "pattern"]),
    ],
)
def test_a_wrong_section_says_which_field(tmp_path: Path, section: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(tmp_path, {"universe.broker": section})
    for word in ("universe.yaml", *words):
        assert word in str(caught.value)


def test_every_broker_of_the_table_has_settings_under_its_name() -> None:
    for name, entry in BROKERS.items():
        assert entry.settings.model_fields["name"].default == name


@pytest.mark.parametrize(
    ("changes", "environment", "words"),
    [
        ({"universe.universe.market_data": "sample"}, {}, ["universe.market_data", "wall clock"]),
        ({"compliance.account.broker": "paper"}, {}, ["account.broker", "alpaca"]),
        ({"strategies.portfolio.fractional": True}, {}, ["portfolio.fractional", "whole shares"]),
        ({}, {"OCTOPUS_LIVE": "alpaca"}, ["OCTOPUS_LIVE", "trading.mode"]),
        ({"universe.trading.mode": "live"}, {"OCTOPUS_LIVE": "alpaca"}, ["trading.live_accounts"]),
        ({"universe.trading": LIVE["universe.trading"]}, {}, ["OCTOPUS_LIVE", "None", "set it to alpaca"]),
        ({"universe.trading": LIVE["universe.trading"]}, {"OCTOPUS_LIVE": "yes"}, ["OCTOPUS_LIVE", "'yes'"]),
        ({"universe.trading": LIVE["universe.trading"]},
         {"OCTOPUS_LIVE": "alpaca", "OCTOPUS_ALPACA_TRADING_URL": "http://x"}, ["OCTOPUS_ALPACA_TRADING_URL"]),
        ({"universe.trading": LIVE["universe.trading"], "universe.broker": {"name": "paper"}},
         {"OCTOPUS_LIVE": "paper"}, ["broker.name", "live"]),
    ],
)  # fmt: skip
def test_each_problem_is_one_line_with_its_remedy_and_opens_no_broker(
    tmp_path: Path, changes: dict[str, Any], environment: dict[str, str], words: list[str]
) -> None:
    settings = settings_of(tmp_path, {**ALPACA, **changes}, **environment)
    (found,) = problems(settings)
    assert "\n" not in str(found)
    for word in words:
        assert word in str(found)
    with pytest.raises(ConfigError):
        open_broker(settings, ManualClock(OPEN))


def test_a_missing_key_is_named_and_a_given_one_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, ALPACA)
    opened = open_broker(settings, ManualClock(OPEN))
    assert isinstance(opened, AlpacaBroker)
    assert opened.paper
    assert "SECRET-KEY" not in repr(opened) + repr(settings)
    monkeypatch.delenv("ALPACA_API_SECRET")
    with pytest.raises(ConfigError, match="ALPACA_API_SECRET"):
        open_broker(settings, ManualClock(OPEN))


@pytest.mark.parametrize(
    ("name", "adapter", "changes"),
    [
        ("coinbase", CoinbaseBroker, {"universe.universe.exchange": "24/7"}),
        ("schwab", SchwabBroker, {}),
    ],
)
def test_coinbase_and_schwab_open_with_their_keys_and_are_live_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, adapter: type, changes: dict[str, Any]
) -> None:
    chosen = {**ALPACA, **changes, "universe.broker": {"name": name}, "compliance.account.broker": name}
    settings = settings_of(tmp_path, chosen)
    opened = open_broker(settings, ManualClock(OPEN))
    assert isinstance(opened, adapter)
    assert "SECRET-KEY" not in repr(replace(opened, token_file=Path("t")) if name == "schwab" else opened)
    assert "no paper account" in refusal(settings, BrokerAccount(name, "1", "USD", is_paper=False))
    for variable in settings.broker.secrets:
        with monkeypatch.context() as one:
            one.delenv(variable)
            with pytest.raises(ConfigError, match=variable):
                open_broker(settings, ManualClock(OPEN))
            missing, alone = doctor._broker(settings)
        assert variable in missing.text
        assert (alone.mark, alone.text.split(";")[0]) == (
            "✗", f"{name} has no paper accounts and trading.mode is paper: it takes no order"
        )  # fmt: skip


def test_interactive_brokers_opens_on_paper_and_live_with_its_secrets_and_contracts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contracts = {"AAA": {"id": 1001, "exchange": "NYSE"}}
    section = {"name": "ib", "contracts": contracts}
    chosen = {**ALPACA, "universe.broker": section, "compliance.account.broker": "ib"}
    settings = settings_of(tmp_path, chosen, OCTOPUS_IB_FLEX_URL="http://127.0.0.1:9")
    opened = open_broker(settings, ManualClock(OPEN))
    assert isinstance(opened, IbBroker)
    assert (opened.port, opened.number, opened.reports.address) == (4002, "SECRET-KEY", "http://127.0.0.1:9")
    assert opened.contracts == {"AAA": Security(1001, "NYSE")}
    assert "SECRET-KEY" not in repr(opened.reports).replace("query='SECRET-KEY'", "") + repr(settings)
    live = {**chosen, "universe.trading": {"mode": "live", "live_accounts": ["U1234567"]}}
    assert open_broker(settings_of(tmp_path, live, OCTOPUS_LIVE="ib"), ManualClock(OPEN)).port == 4001
    (found,) = problems(settings_of(tmp_path, live, OCTOPUS_LIVE="ib", OCTOPUS_IB_FLEX_URL="http://x"))
    assert "OCTOPUS_IB_FLEX_URL" in str(found)
    for variable in settings.broker.secrets:
        with monkeypatch.context() as one:
            one.delenv(variable)
            with pytest.raises(ConfigError, match=variable):
                open_broker(settings, ManualClock(OPEN))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contracts": {"AAA": {"id": 1, "currency": "EUR"}}}, ["contracts.AAA.currency", "USD"]),
        ({"contracts": {"AAA": {"id": 0}}}, ["contracts.AAA.id", "0"]),
        ({"time_zone": "New York"}, ["time_zone", "America/New_York"]),
        ({"port": 0}, ["port", "0"]),
    ],
)
def test_a_wrong_setting_of_interactive_brokers_is_named(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(tmp_path, {**ALPACA, "universe.broker": {"name": "ib", **changes}})
    for word in words:
        assert word in str(caught.value)


def test_the_whole_execution_asset_trades_at_interactive_brokers(database_url: str, tmp_path: Path) -> None:
    """Through the settings: TWS and the Flex Web Service over sockets, and the doctor's word on the latter."""
    with IbVenue() as tws, FlexVenue() as flex:
        flex.move("Deposits/Withdrawals", "100000")
        chosen = {
            **ALPACA, "universe.broker": {"name": "ib", "port": tws.port}, "compliance.account.broker": "ib",
        }  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (("IB_ACCOUNT_NUMBER", NUMBER), ("IB_FLEX_TOKEN", TOKEN), ("IB_FLEX_QUERY", QUERY)):
                patch.setenv(name, value)
            settings = house(database_url, tmp_path, tws, chosen, OCTOPUS_IB_FLEX_URL=flex.url)
            clock = ManualClock(OPEN - timedelta(hours=1))
            tws.auction = lambda at: [at.fill(o.ref) for o in at.orders if o.stands and clock.now() >= OPEN]
            assert open_paper_account(settings)
            batch = store_plan(database_url, "ib", BUYS, order_type=OrderType.MARKET_ON_OPEN)
            opened = open_broker(settings, clock)
            assert isinstance(opened, IbBroker)
            assert opened.reports is not None
            opened.reports.pause_s = 0.0
            execute(settings, clock, opened)
            told = doctor._reports("broker ib", opened)
    assert sorted(tws.posts) == sorted(order_ids(batch))
    assert rows(database_url, "select instrument, quantity from execution.fills order by 1") == [
        ("AAA", D(10)), ("BBB", D(10))
    ]  # fmt: skip
    details = rows(database_url, "select detail from execution.reconciliation where seq = 0 order by session")
    assert len(details) == 2, "before the batch, and after it"
    for (detail,) in details:
        assert detail.startswith("books agree; the broker's records reach to 2022-12-28")
    assert (told.mark, "until 2022-12-28 04:59 UTC" in told.text) == ("✓", True)


def test_coinbase_needs_the_calendar_that_never_closes(tmp_path: Path) -> None:
    chosen = {**ALPACA, "universe.broker": {"name": "coinbase"}, "compliance.account.broker": "coinbase"}
    (found,) = problems(settings_of(tmp_path, chosen))
    assert "universe.exchange = 'XNYS': set it to 24/7" in str(found)


def test_doctor_says_when_a_login_ends() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert [_login("schwab", now + timedelta(days=days), now).mark for days in (6, 0, -1)] == ["✓", "!", "!"]


def test_the_status_tells_of_the_account_that_is_traded(database_url: str) -> None:
    with connect(database_url, autocommit=True) as connection:
        for account, session, kind in (("paper", "2024-01-02", "ok"), ("another", "2024-01-03", "breaks")):
            connection.execute(
                "insert into execution.reconciliation (account, session, seq, kind, detail, at) "
                "values (%s, %s, 0, %s, '', now())",
                [account, session, kind],
            )
    told = reconciliation(Warehouse(database_url, Role.OWNER), "paper")
    assert told == {"session": "2024-01-02", "ok": True, "breaks": 0}
    assert reconciliation(Warehouse(database_url, Role.OWNER), "third") is None


# -- the account -------------------------------------------------------------------------------------------------------

OURS = BrokerAccount("alpaca", "123456789", "USD", is_paper=False)


@pytest.mark.parametrize(
    ("changes", "told", "words"),
    [
        (ALPACA, OURS, "no paper account"),
        (ALPACA, replace(OURS, is_paper=True), ""),
        (ALPACA, replace(OURS, is_paper=True, currency="EUR"), "EUR"),
        (ALPACA, replace(OURS, is_paper=True, account="other"), "other"),
        (LIVE, OURS, ""),
        (LIVE, replace(OURS, number="987654321"), "987654321 is not among trading.live_accounts"),
        (LIVE, replace(OURS, is_paper=True), "is a paper account"),
    ],
)
def test_the_brokers_own_word_on_the_account_decides(
    tmp_path: Path, changes: dict[str, Any], told: BrokerAccount, words: str
) -> None:
    said = refusal(settings_of(tmp_path, changes, **({"OCTOPUS_LIVE": "alpaca"} if changes is LIVE else {})), told)
    assert words in said
    assert bool(said) is bool(words)


def test_the_doctor_says_what_is_wrong_and_what_the_broker_says(
    tmp_path: Path, venue: AlpacaVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, ALPACA, OCTOPUS_ALPACA_TRADING_URL=venue.url)
    (told,) = doctor._broker(settings)
    assert (told.mark, "PA123 (paper)" in told.text, "same id" in told.text) == ("✓", True, True)
    venue.unauthorised = True
    (told,) = doctor._broker(settings)
    assert (told.mark, "not authorized" in told.text) == ("✗", True)
    monkeypatch.delenv("ALPACA_API_KEY")
    live = settings_of(tmp_path, LIVE)
    assert {(told.mark, told.text.split(" = ")[0].split(": ")[-1]) for told in doctor._broker(live)} >= {
        ("✗", "OCTOPUS_LIVE"), ("✗", "ALPACA_API_KEY")
    }  # fmt: skip
    assert any("limits are unsigned" in told.text for told in doctor._broker(live))


# -- the order path ----------------------------------------------------------------------------------------------------

FIRST = date(2020, 6, 1)


def seed_market(url: str) -> None:
    """Two years of prices as dbt builds them and as they were ingested, up to the session of execution."""
    days = [day.astype(object) for day in SESSIONS.between(FIRST, EXECUTED)]
    moves = np.random.default_rng(7).normal(0, 0.005, (len(days), len(NAMES)))
    closes = 100 * np.exp(np.cumsum(moves, axis=0))
    closes = closes * 100 / closes[-2]
    with connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("create schema if not exists marts")
        cursor.execute("drop table if exists marts.prices, marts.universe")
        cursor.execute(
            "create table marts.prices (source text, instrument text, session date, open float8, high float8, "
            "low float8, close float8, volume float8, split_ratio float8, dividend float8, spin_off float8, "
            "price_basis text, known_from timestamptz, known_to timestamptz)"
        )
        cursor.execute(
            "create table marts.universe (source text, instrument text, member_from date, member_to date, "
            "known_from timestamptz, known_to timestamptz)"
        )
        bars = [
            (name, day, *[round(float(closes[row, column]), 4)] * 4, SESSIONS.decision_utc(day))
            for row, day in enumerate(days) for column, name in enumerate(NAMES)
        ]  # fmt: skip
        cursor.executemany(
            "insert into marts.prices values ('yahoo', %s, %s, %s, %s, %s, %s, 1e7, 1, 0, 0, 'raw', %s, null)", bars
        )
        cursor.execute(
            "insert into raw.bars select source, instrument, session, session, open, high, low, close, volume, "
            "known_from, true, known_from, 1 from marts.prices where session >= '2022-12-01'"
        )
        for name in NAMES:
            cursor.execute(
                "insert into raw.instruments (source, instrument, ts, exchange, currency, asset_class, price_basis, "
                "known_at, known_at_imputed, ingested_at, batch_id) "
                "values ('yahoo', %s, %s, 'XNYS', 'USD', 'equity', 'raw', %s, false, now(), 1)",
                [name, FIRST, FIRST],
            )
            cursor.execute("insert into marts.universe values ('yahoo', %s, null, null, %s, null)", [name, FIRST])
        cursor.execute("grant usage on schema marts to octopus_trader")
        cursor.execute("grant select on all tables in schema marts to octopus_trader")


@pytest.fixture
def venue() -> Iterator[AlpacaVenue]:
    with AlpacaVenue(cash=D(0)) as served:
        served.book("CSD", net_amount="100000", date="2022-12-27")
        yield served


def house(url: str, folder: Path, venue: object, changes: dict[str, Any], **environment: str) -> Settings:
    urls = dict.fromkeys(("OCTOPUS_DATABASE_URL", "OCTOPUS_DAGSTER_URL", "OCTOPUS_MLFLOW_URL"), url)
    settings = settings_of(folder, changes, **urls, **environment)
    settings.home.mkdir()
    seed_market(url)
    return settings


def execute(settings: Settings, clock: ManualClock, broker: Broker) -> None:
    """Every execution asset in one run, as the sensor asks for it."""
    resources = {
        "warehouse": Warehouse(settings.database_url, Role.TRADER), "trading": Trading(settings, clock, broker)
    }  # fmt: skip
    assert dg.materialize(
        list(execution.ASSETS), partition_key=DECIDED.isoformat(), resources=resources,
        instance=dg.DagsterInstance.ephemeral(),
    ).success  # fmt: skip


def test_the_whole_execution_asset_trades_at_alpaca(database_url: str, tmp_path: Path, venue: AlpacaVenue) -> None:
    settings = house(database_url, tmp_path, venue, ALPACA, OCTOPUS_ALPACA_TRADING_URL=venue.url)
    clock = ManualClock(OPEN - timedelta(hours=1))
    venue.auction = auction_of({"AAA": "fill in two", "BBB": "reject"}, lambda: clock.now() >= OPEN)
    venue.script = ["accept_drop", "ok"]
    assert open_paper_account(settings)
    batch = store_plan(database_url, "alpaca", BUYS, order_type=OrderType.MARKET_ON_OPEN)
    execute(settings, clock, open_broker(settings, clock))
    assert sorted(venue.orders) == sorted(order_ids(batch))
    assert {order["time_in_force"] for order in venue.orders.values()} == {"opg"}
    assert dict(
        rows(database_url, "select i.instrument, o.state from execution.orders o join execution.order_intents i "
             "using (intent_id)")
    ) == {"AAA": "filled", "BBB": "rejected"}  # fmt: skip
    assert rows(database_url, "select quantity from execution.fills order by quantity") == [(D(5),), (D(5),)]
    assert rows(database_url, "select session, kind from execution.reconciliation where seq = 0 order by 1") == [
        (DECIDED, "ok"), (EXECUTED, "ok"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", ["PA123", "123456789"])
def test_no_order_leaves_for_an_account_that_is_not_allowed(
    database_url: str, tmp_path: Path, venue: AlpacaVenue, number: str
) -> None:
    """The settings were in order when the broker was opened; its own word on the account is asked at execution."""
    settings = house(database_url, tmp_path, venue, LIVE, OCTOPUS_LIVE="alpaca")
    clock = ManualClock(OPEN - timedelta(hours=1))
    opened = open_broker(settings, clock)
    assert isinstance(opened, AlpacaBroker)
    assert not opened.paper
    # Its own address is the live one, which no test may call.
    broker = replace(opened, access=replace(opened.access, base_url=venue.url))
    venue.number = number
    assert not open_paper_account(settings), "a live account is switched on by a person alone"
    with OrderStore.opened(database_url) as store:
        store.set_trading_state("alpaca", TradingState.ACTIVE, "test", "switched on", clock.now())
    batch = store_plan(database_url, "alpaca", BUYS, order_type=OrderType.MARKET_ON_OPEN)
    with Trading(settings, clock, broker).engine() as engine:
        if number == "PA123":
            with pytest.raises(AccountRefusedError, match="live_accounts"):
                engine.prepare(batch.batch_id, "run")
        else:
            engine.prepare(batch.batch_id, "run")
            assert engine.send(batch.batch_id, "run").sent == ()
    denials = rows(database_url, "select distinct rule from execution.verdicts where outcome = 'deny'")
    assert denials == ([] if number == "PA123" else [("limits_signed",)])
    assert venue.posts == []
