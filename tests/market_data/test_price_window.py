"""The prices that the gates read are the panel's, whatever happened to the instruments."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import psycopg
import pytest

from octopus.compliance.names import OtherName
from octopus.compliance.replay import judged_again
from octopus.compliance.rules import CompliancePolicy
from octopus.core.errors import MissingDataError
from octopus.core.ids import canonical_json
from octopus.core.orders import AccountSnapshot, Batch, PlannedOrder, Side, TradingState
from octopus.core.sessions import Sessions
from octopus.market_data.currencies import in_base
from octopus.risk import gate as risk_gate
from octopus.risk.signatures import Authority
from resources.gates import Gates
from resources.settings import load_settings
from resources.warehouse import price_window
from resources.warehouse.connection import Role
from resources.warehouse.price_window import read_window, read_window_in_base, window_of
from resources.warehouse.prices import WarehousePrices
from resources.warehouse.store import Warehouse

AS_OF = datetime(2024, 3, 1, 15, tzinfo=UTC)
SINCE, DETAILED = date(2024, 1, 10), date(2024, 2, 20)
OLD, NEW, RENAMED = "OLD", "NEW", date(2024, 2, 1)
NAMES = ("COIN", "HOLE", NEW, "PLAIN", "SPIN", "SPLIT", "UNUSED")


@pytest.fixture
def warehouse(database_url: str) -> Warehouse:
    """Two months of prices: splits, dividends, a spin-off of unknown worth, a hole, a rename, a coin, a restatement."""
    days = Sessions().between(date(2024, 1, 2), date(2024, 2, 29)).tolist()
    weekends = Sessions("24/7").between(date(2024, 1, 2), date(2024, 2, 29)).tolist()
    rows = []
    for number, name in enumerate(("PLAIN", "SPLIT", "SPIN", "HOLE", "COIN", "UNUSED")):
        for row, day in enumerate(weekends if name == "COIN" else days):
            if name == "HOLE" and row % 7 == 3:
                continue
            split = 2.0 if (name, day) == ("SPLIT", date(2024, 2, 15)) else 1.0
            spin_off = None if (name, day) == ("SPIN", date(2024, 2, 5)) else 0.0
            dividend = 0.5 if row % 20 == 19 else 0.0
            volume = None if name == "HOLE" and row % 2 else 1000.0 + row
            price = 100.0 + 10 * number + row / 7
            rows.append((name, day, price, volume, split, dividend, spin_off))
    for row, day in enumerate(days):
        rows.append((OLD if day < RENAMED else NEW, day, 50.0 + row, 900.0, 1.0, 0.0, 0.0))
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """
            create schema if not exists marts;
            create table marts.prices (source text, instrument text, session date, open float8, high float8, low float8,
                close float8, volume float8, split_ratio float8, dividend float8, spin_off float8, price_basis text,
                known_from timestamptz, known_to timestamptz);
            create table marts.universe (source text, instrument text, member_from date, member_to date,
                known_from timestamptz, known_to timestamptz)
            """
        )
        connection.cursor().executemany(
            "insert into marts.prices values ('s', %s, %s, null, null, %s, %s, %s, %s, %s, %s, 'raw', %s, null)",
            [(name, day, price - 1, price, *rest, day) for name, day, price, *rest in rows],
        )
        # What was restated after the instant is not seen as it is now.
        connection.execute(
            "update marts.prices set known_to = '2024-03-05' where instrument = 'PLAIN' and session = '2024-02-20'"
        )
        connection.execute(
            "insert into marts.prices select source, instrument, session, open, high, low, 1.0, volume, split_ratio,"
            " dividend, spin_off, price_basis, known_to, null from marts.prices where known_to is not null"
        )
        connection.cursor().executemany(
            "insert into ops.identifiers values ('s', 'OLD', %s, %s, %s, '2024-01-01', %s)",
            [(OLD, None, RENAMED - timedelta(days=1), RENAMED), (NEW, RENAMED, None, None)],
        )
        connection.cursor().executemany(
            "insert into raw.instruments (source, instrument, ts, exchange, currency, asset_class, price_basis,"
            " known_at, known_at_imputed, ingested_at, batch_id) values"
            " ('s', %s, '2015-01-02', %s, 'USD', 'equity', 'raw', '2015-01-02', false, now(), 1)",
            [(name, "24/7" if name == "COIN" else "XNYS") for name in {row[0] for row in rows}],
        )
    return Warehouse(database_url, Role.OWNER)


@pytest.mark.parametrize("names", [NAMES, ("PLAIN",), ("SPLIT", "SPIN", "HOLE", "PLAIN"), (NEW, "COIN"), ("HOLE", NEW)])
@pytest.mark.parametrize("in_halves", [False, True])
def test_a_window_is_the_panel_of_these_days(
    warehouse: Warehouse, names: tuple[str, ...], in_halves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_window, "MANY", 1 if in_halves else price_window.MANY)
    clock = Sessions()
    found = read_window(warehouse, "s", AS_OF, clock, names, since=SINCE, details_since=DETAILED)
    assert found is not None
    panel = warehouse.panel("s", AS_OF, clock, instruments=names, since=SINCE)
    expected = window_of(panel, DETAILED)
    assert found.symbols == expected.symbols == tuple(sorted(names))
    assert found.price_basis == expected.price_basis
    for field in ("sessions", "close", "total_return", "split", "volume", "low"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)


@pytest.fixture
def in_euros(warehouse: Warehouse) -> Warehouse:
    """Two shares, one of which was renamed, and the coin are quoted in euros; of the pair four days are lost."""
    days = Sessions("24/5").between(date(2024, 1, 2), date(2024, 2, 29)).tolist()
    kept = [day for day in days if not date(2024, 2, 5) <= day <= date(2024, 2, 8)]
    with warehouse.connect(autocommit=True) as connection:
        connection.execute("update raw.instruments set currency = 'EUR' where instrument in ('OLD', 'HOLE', 'COIN')")
        connection.execute("delete from raw.instruments where instrument = 'NEW'")
        connection.execute(
            "insert into raw.instruments (source, instrument, ts, exchange, currency, asset_class, price_basis,"
            " known_at, known_at_imputed, ingested_at, batch_id) values"
            " ('s', 'EURUSD', '2015-01-02', '24/5', 'USD', 'fx', 'raw', '2015-01-02', false, now(), 1)"
        )
        connection.cursor().executemany(
            "insert into marts.prices values ('s', 'EURUSD', %s, null, null, null, %s, null, 1, 0, 0, 'raw', %s, null)",
            [(day, 1.05 + row / 700, day) for row, day in enumerate(kept)],
        )
        connection.execute(
            "insert into raw.bars (source, instrument, ts, session, close, known_at, known_at_imputed, ingested_at,"
            " batch_id) select source, instrument, session, session, close, session, false, now(), 1 from marts.prices"
            " where known_to is null and close > 1 on conflict do nothing"
        )
        connection.execute(
            "insert into raw.corporate_actions (source, instrument, ts, session, kind, value, detail, known_at,"
            " known_at_imputed, ingested_at, batch_id) values"
            " ('s', 'HOLE', '2024-02-12 14:30+00', '2024-02-12', 'dividend', 0.5, null, '2024-02-12', false, now(), 1),"
            " ('s', 'OLD', '2024-02-01 14:30+00', '2024-02-01', 'symbol_change', 1, 'NEW', '2024-02-01', false,"
            " now(), 1)"
        )
    return warehouse


def test_the_gates_the_paper_broker_and_the_panel_convert_alike(in_euros: Warehouse) -> None:
    clock, pairs = Sessions(), {"EUR": "EURUSD"}
    names = ("COIN", "HOLE", NEW, "PLAIN")
    known = in_euros.panel("s", AS_OF, clock, instruments={*names, "EURUSD"}, since=SINCE)
    panel = in_base(known, "USD", pairs, in_euros.currencies("s", AS_OF, in_euros.moved("s", AS_OF)))
    assert dict(zip(panel.symbols, panel.currency, strict=True)) == {
        "COIN": "EUR",
        "HOLE": "EUR",
        "NEW": "EUR",
        "PLAIN": "USD",
    }
    found = read_window_in_base(
        in_euros, "s", AS_OF, clock, names, "USD", pairs, since=SINCE, details_since=DETAILED
    )  # fmt: skip
    assert found is not None
    np.testing.assert_array_equal(found.close, panel.worth)
    np.testing.assert_array_equal(found.total_return, panel.total_return)
    feed = WarehousePrices(in_euros, "s", clock, "USD", pairs)
    assert panel.rate is not None
    for row in (1, 12, 19, 23, len(panel.sessions) - 1):
        session = panel.sessions[row].item()
        told = [feed.conversion(name, session) for name in panel.symbols]
        assert [Decimal(repr(rate)) for rate in panel.rate[row].tolist()] == [one and one.rate for one in told]
        assert [one and one.is_foreign for one in told] == [True, True, True, False]
        for column, name in enumerate(panel.symbols):
            if name in ("HOLE", "PLAIN") and np.isfinite(panel.close[row, column]):
                close = feed.last_close(name, session)
                assert close is not None
                assert float(close) == pytest.approx(panel.worth[row, column], abs=1e-6)
    ex = date(2024, 2, 12)
    (dividend,) = feed.actions(["HOLE"], clock.close_utc(clock.previous(ex)), clock.close_utc(ex))
    rate = panel.rate[panel.at(ex), panel.symbols.index("HOLE")]
    assert dividend.value == Decimal("0.5") * Decimal(repr(float(rate)))


def test_an_old_rate_and_an_unnamed_pair_stop_the_order_path(in_euros: Warehouse) -> None:
    clock = Sessions()
    feed = WarehousePrices(in_euros, "s", clock, "USD", {"EUR": "EURUSD"})
    with pytest.raises(MissingDataError, match="EURUSD has no bar since 2024-03-01, and a rate stands for 5 sessions"):
        feed.conversion("HOLE", date(2024, 3, 15))
    with pytest.raises(MissingDataError, match=r"universe\.rates has no pair of EUR; name one"):
        WarehousePrices(in_euros, "s", clock).conversion("HOLE", date(2024, 2, 15))
    with pytest.raises(MissingDataError, match="no description says in which currency ZZZ is quoted"):
        feed.conversion("ZZZ", date(2024, 2, 15))
    assert feed.conversion("HOLE", date(2023, 12, 1)) is None
    assert "is a rate of universe.rates, and is not traded" in feed.refusal("EURUSD", date(2024, 2, 15))


def test_none_of_the_instruments_has_a_bar(warehouse: Warehouse) -> None:
    assert read_window(warehouse, "s", AS_OF, Sessions(), ["ZZZ"], since=SINCE, details_since=DETAILED) is None


def test_a_source_that_mixes_price_bases_is_refused(warehouse: Warehouse) -> None:
    with warehouse.connect(autocommit=True) as connection:
        connection.execute("update marts.prices set price_basis = 'total_return' where instrument = 'PLAIN'")
    with pytest.raises(MissingDataError, match="mixes price bases"):
        read_window(warehouse, "s", AS_OF, Sessions(), ["PLAIN", "HOLE"], since=SINCE, details_since=DETAILED)


def test_the_gates_are_told_all_that_their_rules_need(warehouse: Warehouse, tmp_path: Path) -> None:
    """Files of the user's own, the price test from our bars, our lots, and the peak since the signed date."""
    (tmp_path / "halts.csv").write_text(
        "instrument,halted_at,resumed_at,reason\nHOLE,2024-03-01T14:00:00+00:00,,news\n"
        "PLAIN,2024-02-29T14:00:00+00:00,2024-02-29T16:00:00+00:00,over\n",
        encoding="utf-8",
    )
    (tmp_path / "locates.csv").write_text(
        "instrument,quantity,valid_from,expires\nPLAIN,300,2024-03-01,2024-03-01\nPLAIN,1,2024-02-01,2024-02-29\n",
        encoding="utf-8",
    )
    given = load_settings({})
    data = given.compliance.data.model_copy(update={"halts": "halts.csv", "locates": "locates.csv"})
    account = given.compliance.account.model_copy(update={"short": True})
    settings = replace(
        given, root=tmp_path, database_url=warehouse.url,
        universe=given.universe.model_copy(update={"market_data": "s"}),
        compliance=given.compliance.model_copy(update={"data": data, "account": account}),
        risk=given.risk.model_copy(update={"var_window_sessions": 20, "drawdown_since": date(2024, 2, 28)}),
    )  # fmt: skip
    with warehouse.connect(autocommit=True) as connection:
        connection.cursor().executemany(
            "insert into execution.nav (account, session, opening, price_pnl, fees, dividends, flows,"
            " closing, cash) values ('a', %s, %s, 0, 0, 0, 0, %s, 0)",
            [(date(2024, 2, 27), 900, 900), (date(2024, 2, 28), 900, 500), (date(2024, 2, 29), 500, 400)],
        )
    orders = tuple(
        PlannedOrder(f"i-{name}", name, Side.SELL, Decimal(10), Decimal(100)) for name in ("PLAIN", "SPLIT", "HOLE")
    )
    batch = Batch("b", "a", date(2024, 2, 29), AS_OF, AS_OF + timedelta(hours=5), orders)
    snapshot = AccountSnapshot("a", AS_OF, Decimal(450), {}, {})
    gates = Gates(settings, warehouse)
    context = gates.compliance_context(batch, snapshot, AS_OF, sending=True)
    assert context.halted == {"HOLE"}
    assert context.locates == {"PLAIN": Decimal(300)}
    assert context.price_tests == {"HOLE": False, "PLAIN": False, "SPLIT": False}
    assert (context.short_allowed, context.lots, context.disposals) == (True, (), ())
    market = gates.market(batch, snapshot, AS_OF)
    assert (market.nav_peak, market.nav_previous) == (500, 400)
    assert set(market.last_prices) == set(market.adv_shares) == {"HOLE", "PLAIN", "SPLIT"}
    assert market.history is not None
    assert len(market.history.sessions) >= 20


def test_lists_and_files_hold_through_a_change_of_symbol(warehouse: Warehouse, tmp_path: Path) -> None:
    """OLD became NEW on the first of February; what was written of OLD is of what is ordered as NEW."""
    at = AS_OF.isoformat()
    (tmp_path / "halts.csv").write_text(f"instrument,halted_at,resumed_at,reason\nOLD,{at},,news\n", encoding="utf-8")
    (tmp_path / "locates.csv").write_text(
        "instrument,quantity,valid_from,expires\nOLD,300,2024-03-01,2024-03-01\nNEW,1,2024-03-01,2024-03-01\n",
        encoding="utf-8",
    )
    (tmp_path / "shares.csv").write_text("instrument,known_from,shares\nOLD,2024-01-02,5000\n", encoding="utf-8")
    given = load_settings({})
    data = {"halts": "halts.csv", "locates": "locates.csv", "shares_outstanding": "shares.csv"}
    document = given.compliance.model_dump(mode="json") | {"data": data}
    (restricted,) = [rule for rule in document["rules"] if rule["kind"] == "restricted_list"]
    restricted["parameters"]["entries"] = [
        {"symbol": "OLD", "reason": "insider", "effective_from": "2024-01-15", "effective_to": None}
    ]
    settings = replace(
        given, root=tmp_path, database_url=warehouse.url,
        universe=given.universe.model_copy(update={"market_data": "s"}),
        compliance=CompliancePolicy.model_validate(document),
    )  # fmt: skip
    orders = tuple(PlannedOrder(f"i-{name}", name, Side.BUY, Decimal(1), Decimal(100)) for name in (NEW, "PLAIN"))
    batch = Batch("b", "a", date(2024, 2, 29), AS_OF, AS_OF + timedelta(hours=5), orders)
    snapshot = AccountSnapshot("a", AS_OF, Decimal(100_000), {}, {})
    gates = Gates(settings, warehouse)
    context = gates.compliance_context(batch, snapshot, AS_OF, sending=True)
    assert context.other_names == {NEW: (OtherName(OLD, None),)}
    assert context.halted == {OLD, NEW}
    assert context.locates is not None
    assert context.locates[NEW] == 301
    assert context.shares_outstanding == {OLD: 5000, NEW: 5000}
    report = gates.compliance(batch, snapshot, AS_OF, sending=True)
    assert {v.intent_id for v in report.denials if v.rule == "restricted_list"} == {f"i-{NEW}"}
    assert report.evidence is not None
    again = judged_again(canonical_json(report.evidence.record()), {})
    assert (again.approved, again.verdicts) == (report.approved, report.verdicts)
    before = gates.compliance_context(batch, snapshot, datetime(2023, 12, 31, tzinfo=UTC), sending=True)
    assert before.other_names == {}, "the change was not known then"


@pytest.mark.parametrize(("ratio", "shares"), [(10.0, 1000), (0.05, 5)])
@pytest.mark.parametrize("is_quoted", [True, False])
def test_on_the_morning_of_a_split_closes_and_volumes_are_of_the_shares_of_now(
    warehouse: Warehouse, ratio: float, shares: int, is_quoted: bool
) -> None:
    """100 shares of SPLIT at its last close are ``shares`` since the open, and no bar tells of it yet."""
    given = load_settings({})
    settings = replace(
        given, database_url=warehouse.url, universe=given.universe.model_copy(update={"market_data": "s"}),
        risk=given.risk.model_copy(update={"var_window_sessions": 20}),
    )  # fmt: skip
    order = PlannedOrder("i", "PLAIN", Side.BUY, Decimal(1), Decimal(100))
    batch = Batch("b", "a", date(2024, 2, 29), AS_OF, AS_OF + timedelta(hours=5), (order,))
    held = AccountSnapshot("a", AS_OF, Decimal(450), {"SPLIT": Decimal(100)}, {})
    before = Gates(settings, warehouse).market(batch, held, AS_OF)
    close = before.last_prices["SPLIT"].price
    with warehouse.connect(autocommit=True) as connection:
        connection.cursor().executemany(
            "insert into raw.corporate_actions (source, instrument, ts, session, kind, value, detail, known_at,"
            " known_at_imputed, ingested_at, batch_id) values"
            " ('s', %s, %s, %s, 'split', %s, null, '2024-02-28', false, now(), 1)",
            [("SPLIT", "2024-03-01 14:30+00", "2024-03-01", ratio), ("PLAIN", "2024-03-04 14:30+00", "2024-03-04", 3),
             ("HOLE", "2024-03-01 14:30+00", "2024-03-01", 3), ("SPLIT", "2024-02-15 14:30+00", "2024-02-15", 2)],
        )  # fmt: skip
    price = close / Decimal(str(ratio))
    after = replace(held, positions={"SPLIT": Decimal(shares)}, prices={"SPLIT": price} if is_quoted else {})
    market = Gates(settings, warehouse).market(batch, after, AS_OF)
    assert market.last_prices["SPLIT"].price == pytest.approx(price, abs=Decimal("1e-6"))
    assert market.last_prices["SPLIT"].at == before.last_prices["SPLIT"].at
    assert float(market.adv_shares["SPLIT"]) == pytest.approx(float(before.adv_shares["SPLIT"]) * ratio, abs=0.1)
    # What goes ex after now has not split.
    assert market.last_prices["PLAIN"] == before.last_prices["PLAIN"]
    # A new account begins with its own equity; a price has six digits after the point.
    assert before.nav_peak == 450 + 100 * close
    assert market.nav_peak == pytest.approx(450 + 100 * close, abs=Decimal("1e-3"))
    report = risk_gate.judge(batch, after, market, settings.risk, TradingState.ACTIVE, Authority(False, ""), AS_OF)
    (equity,) = [verdict for verdict in report.verdicts if verdict.rule == "equity"]
    assert f"equity {450 + 100 * close:,.2f}" in equity.reason


MONDAY = date(2024, 2, 26)


NAVS: list[tuple[str, date, list[date], date | None, bool]] = [
    ("XNYS", MONDAY, [], None, True),  # nothing was ever traded
    ("XNYS", MONDAY, [], MONDAY, True),  # the first fills are of this session: no NAV before it can be missing
    ("XNYS", MONDAY, [], date(2024, 2, 23), False),
    ("XNYS", MONDAY, [date(2024, 2, 23)], date(2024, 2, 1), True),  # over the weekend
    ("XNYS", MONDAY, [date(2024, 2, 22), MONDAY], date(2024, 2, 1), True),
    ("XNYS", MONDAY, [date(2024, 2, 22)], date(2024, 2, 1), False),
    ("XNYS", MONDAY, [date(2024, 1, 5)], None, True),  # funded, and in cash ever since
    ("XNYS", date(2024, 2, 20), [date(2024, 2, 16)], date(2024, 2, 1), True),  # over Presidents' Day
    ("XNYS", date(2024, 2, 20), [date(2024, 2, 15)], date(2024, 2, 1), False),
    ("24/7", MONDAY, [date(2024, 2, 25)], date(2024, 2, 1), True),
    ("24/7", MONDAY, [date(2024, 2, 24)], date(2024, 2, 1), False),
]


def references(url: str, exchange: str, account: str, decided: date) -> set[Decimal | None]:
    """What the risk gate is told of the account's NAVs."""
    given = load_settings({})
    universe = given.universe.model_copy(update={"exchange": exchange})
    gates = Gates(replace(given, database_url=url, universe=universe), Warehouse(url, Role.TRADER))
    batch = Batch("b", account, decided, AS_OF, AS_OF + timedelta(hours=5), ())
    market = gates.market(batch, AccountSnapshot(account, AS_OF, Decimal(450), {}, {}), AS_OF)
    return {market.nav_peak, market.nav_previous}


def test_a_full_collection_while_orders_are_judged_does_not_look_through_what_was_loaded() -> None:
    Gates(load_settings({}), Warehouse("postgresql://nowhere/none"))
    assert gc.get_freeze_count() > 10_000, "modules, classes and functions are most of what there is"


def test_a_nav_that_is_missing_or_old_is_no_reference(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for number, (_, _, navs, filled, _) in enumerate(NAVS):
            connection.cursor().executemany(
                "insert into execution.nav (account, session, opening, price_pnl, fees, dividends, flows,"
                " closing, cash) values (%s, %s, 0, 0, 0, 0, 0, 500, 500)",
                [(f"a{number}", day) for day in navs],
            )
            if filled is not None:
                connection.execute(
                    "insert into execution.fills (account, fill_id, client_order_id, instrument, side, quantity, price,"
                    " fees, at, session) values (%s, 'f', 'o', 'PLAIN', 'buy', 1, 1, 0, %s, %s)",
                    [f"a{number}", datetime(filled.year, filled.month, filled.day, 20, tzinfo=UTC), filled],
                )
    for number, (exchange, decided, navs, filled, known) in enumerate(NAVS):
        expected = Decimal(500 if navs else 450) if known else None
        assert references(database_url, exchange, f"a{number}", decided) == {expected}, (decided, navs, filled)


@pytest.mark.parametrize(("shares", "known"), [(3, {None}), (0, {Decimal(450)})])
def test_an_account_that_was_taken_over_with_shares_is_not_new(
    database_url: str, shares: int, known: set[Decimal | None]
) -> None:
    """With cash alone it is."""
    name, basis = ("PLAIN", 300) if shares else (None, None)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into execution.entries (account, entry_id, kind, instrument, quantity, cash, at, session, note,"
            " basis) values ('a', 'adopted:it', 'adopted', %s, %s, %s, '2024-02-23 20:00Z', '2024-02-23', '', %s)",
            [name, shares, 0 if shares else 450, basis],
        )
    assert references(database_url, "XNYS", "a", MONDAY) == known
    assert references(database_url, "XNYS", "a", date(2024, 2, 23)) == {Decimal(450)}


def test_what_is_held_at_an_old_nav_may_have_fallen_since(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into execution.nav (account, session, opening, price_pnl, fees, dividends, flows,"
            " closing, cash) values ('a', '2024-02-15', 0, 0, 0, 0, 0, 500, 100)"
        )
    assert references(database_url, "XNYS", "a", MONDAY) == {None}
